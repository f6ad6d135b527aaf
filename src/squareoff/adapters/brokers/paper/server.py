"""The paper broker as a process of its own: HTTP for orders, a WebSocket for ticks and news, a ledger on disk.

    POST   /orders                     place; answered once the ledger line is on the disk
    DELETE /orders/{client_order_id}   cancel what is open
    GET    /orders                     the day's book: what is open, and what happened in the last 24 hours
    GET    /orders/{client_order_id}   any order
    GET    /positions
    GET    /funds                      what is free to buy with
    GET    /quotes?symbol=...          the last trade of each symbol asked for, as far as there was one
    GET    /ledger                     the account's lines and their audit
    WS     /stream                     see `squareoff.adapters.paper_wire`
    POST   /control                    ticks, mischief, dropped streams
    GET    /health                     needs no token

On 127.0.0.1 only. Every account has a token (`Authorization: Bearer ...`) and sees its own orders only; prices are
everybody's.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Protocol

import msgspec
from aiohttp import web

from squareoff.adapters.brokers.paper.accounts import read_accounts
from squareoff.adapters.brokers.paper.book import BookRecord, DuplicateOrder, PaperBook, Refused
from squareoff.adapters.brokers.paper.ledger import Ledger, LedgerLine, audit, read_ledger
from squareoff.adapters.brokers.paper.mischief import Kind, Mischief, Script
from squareoff.adapters.brokers.paper.practice import Show
from squareoff.adapters.brokers.paper.stream import Streams
from squareoff.adapters.paper_wire import STREAM_PATH, FundsMessage, Instant, Refusal, TickMessage, decode_order, encode
from squareoff.core.types import AccountId, BrokerOrderId, ClientOrderId, Order, OrderReport, Symbol, Tick
from squareoff.errors import BadInput, OrderRefused
from squareoff.ports import Clock, Idempotency

HOST = "127.0.0.1"
DEFAULT_ACCOUNTS: Mapping[str, AccountId] = {"paper": AccountId("paper")}
"""Token -> account."""
LEDGER_FILE = "ledger.jsonl"
DAY_BOOK = timedelta(hours=24)
"""An order that is over stays in the list of orders for so long, in trading time. As venues do, but by the hour: a
practice market has no end of day."""

_REJECTED: tuple[Decimal, ...] = ()
"""A fill plan under which nothing ever fills."""


class PriceSource(Protocol):
    """Where ticks come from: a tape, a generated market."""

    async def play(self, clock: Clock, show: Show) -> None:
        """Call `show` with each tick when it happens; return when there are no more."""


class ControlTick(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`at` None: now."""

    symbol: Symbol
    price: Decimal
    at: Instant | None = None


class Control(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /control, done in this order."""

    clear_mischief: bool = False
    mischief: tuple[Mischief, ...] = ()
    ticks: tuple[ControlTick, ...] = ()
    drop_streams: bool = False


_decode_control = msgspec.json.Decoder(Control).decode


@dataclass(kw_only=True, slots=True)
class _Account:
    id: AccountId
    book: PaperBook
    changed_at: dict[BrokerOrderId, datetime]
    """When something last happened to each order, in trading time."""
    hidden: set[ClientOrderId] = field(default_factory=set)
    silent: set[ClientOrderId] = field(default_factory=set)
    """Placed, but not shown yet."""
    cancel_rest_at: dict[ClientOrderId, Decimal] = field(default_factory=dict)
    """Orders whose rest the venue cancels once this much is filled."""


Handler = Callable[[web.Request, _Account], Awaitable[web.StreamResponse]]


class PaperServer:
    """The broker process without its process. `start`, then `port` and `url` are known; `stop` ends it.

    `show` is where ticks come in: from `tape` (any source of prices), from /control, or from the caller. A tick is
    told to the feed's listeners first and then fills what was placed before it.
    """

    def __init__(
        self,
        *,
        data: Path,
        clock: Clock,
        tape: PriceSource | None = None,
        accounts: Mapping[str, AccountId] = DEFAULT_ACCOUNTS,
        accounts_file: Path | None = None,
        mischief: Iterable[Mischief] = (),
        idempotency: Idempotency = Idempotency.NONE,
        allow_short: bool = True,
        port: int = 0,
    ) -> None:
        """`accounts` do not count money; those of `accounts_file`, which may grow, do."""
        self.port = port
        self._rules = (idempotency, allow_short)
        self._accounts_file = accounts_file
        self._clock = clock
        self._tape = tape
        self._script = Script(mischief)
        self._streams = Streams()
        self._last_trades: dict[Symbol, Tick] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self.ended = asyncio.Event()
        """Set when the server should stop: asked to, or because of `failure`."""
        self.failure: BaseException | None = None
        """Why ticks or news no longer get through: the process had better end than be silent."""
        self.ledger = Ledger(data / LEDGER_FILE)
        try:
            self._accounts: dict[AccountId, _Account] = {}
            self._by_token: dict[str, _Account] = {}
            for token, id in accounts.items() if accounts_file is None else ():
                self._add(id, token, cash=None)
            self._look_at_file()
        except BaseException:
            self.ledger.close()
            raise

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=1 << 20)
        app.on_response_prepare.append(self._date)
        app.add_routes(
            [
                web.post("/orders", self._for_account(self._post_order)),
                web.delete("/orders/{client_order_id}", self._for_account(self._cancel_order)),
                web.get("/orders", self._for_account(self._get_orders)),
                web.get("/orders/{client_order_id}", self._for_account(self._get_order)),
                web.get("/positions", self._for_account(self._get_positions)),
                web.get("/funds", self._for_account(self._get_funds)),
                web.get("/quotes", self._for_account(self._get_quotes)),
                web.get("/ledger", self._for_account(self._get_ledger)),
                web.get(STREAM_PATH, self._for_account(self._stream)),
                web.post("/control", self._for_account(self._control)),
                web.get("/health", self._health),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=3600.0, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.port).start()
        self.port = self._runner.addresses[0][1]
        if self._tape is not None:
            self._go_on(self._tape.play(self._clock, self.show))

    async def stop(self) -> None:
        """Idempotent."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._streams.drop_all()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.ledger.close()

    def show(self, tick: Tick, *, fills: bool = True) -> None:
        """One tick happens. Unless `fills` only the feed is wrong: it is told, and no book hears of it."""
        self._streams.tell_tick(tick)
        if fills:
            self._last_trades[tick.symbol] = tick
        for account in self._accounts.values() if fills else ():
            changed = account.book.on_tick(tick)
            for report in changed:
                self._after_fill(account, report)
            if changed:
                self._go_on(self._tell(account, changed))

    # -- the books
    def _look_at_file(self) -> None:
        """Open the accounts that were added to the file."""
        if self._accounts_file is None:
            return
        for id, known in read_accounts(self._accounts_file).items():
            if id not in self._accounts:
                self._add(id, known.token, cash=known.cash)

    def _add(self, id: AccountId, token: str, *, cash: Decimal | None) -> None:
        if id not in self._accounts:
            self._accounts[id] = self._open(id, cash)
        self._by_token[token] = self._accounts[id]

    def _open(self, id: AccountId, cash: Decimal | None) -> _Account:
        """With all that the ledger tells of it: no line of an account can have been written while it was closed."""
        changed_at: dict[BrokerOrderId, datetime] = {}

        def record(what: BookRecord) -> None:
            self.ledger.append(LedgerLine(account=id, record=what))
            _note(what, changed_at)

        idempotency, allow_short = self._rules
        book = PaperBook(idempotency=idempotency, allow_short=allow_short, cash=cash, on_record=record)
        for line in self.ledger.found.lines:
            if line.account == id:
                book.apply(line.record)
                _note(line.record, changed_at)
        if book.purse is not None:
            book.purse.last.update((symbol, tick.price) for symbol, tick in self._last_trades.items())
        return _Account(id=id, book=book, changed_at=changed_at)

    def _logged_in(self, token: str) -> _Account | None:
        if token not in self._by_token:
            try:
                self._look_at_file()
            except BadInput:
                return None  # a file that is damaged now takes nothing from those who are logged in
        return self._by_token.get(token)

    def _after_fill(self, account: _Account, report: OrderReport) -> None:
        limit = account.cancel_rest_at.get(report.client_order_id)
        if limit is not None and report.filled_qty >= limit:
            account.book.cancel(report.client_order_id, self._clock.now(), reason="the venue cancelled the rest")

    async def _tell(self, account: _Account, changed: Iterable[OrderReport]) -> None:
        """To the account's listeners, as the orders are when it is safely on the disk."""
        await self.ledger.durable()
        for one in changed:
            report = account.book.find(one.client_order_id)
            silent = one.client_order_id in account.silent
            if report is not None and not silent and self._is_visible(account, report.client_order_id):
                self._streams.tell_order(account.id, report)

    def _is_visible(self, account: _Account, client_order_id: ClientOrderId) -> bool:
        return client_order_id not in account.hidden

    def _go_on(self, work: Awaitable[None]) -> None:
        """Do it beside the requests; it ends with the server."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._is_done)

    def _is_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = error
            self.ended.set()

    async def _date(self, request: web.Request, response: web.StreamResponse) -> None:
        """As every venue does, here by the market's time."""
        response.headers["Date"] = format_datetime(self._clock.now(), usegmt=True)

    # -- requests
    def _for_account(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            account = self._logged_in(token) if scheme == "Bearer" else None
            if account is None:
                return _no(403, Refusal(error="token", reason="TokenException: invalid or expired access token"))
            return await handler(request, account)

        return handle

    async def _post_order(self, request: web.Request, account: _Account) -> web.StreamResponse:
        try:
            order = decode_order(await request.read())
        except msgspec.DecodeError as error:
            return _no(400, Refusal(error="refused", reason=f"cannot be read: {error}", permanent=True))
        happens = self._script.for_order(order)
        if happens and not happens[0].places:
            return await self._do_not_place(request, account, order, happens[0])
        try:
            report = self._place(account, order, {item.kind: item for item in happens})
        except OrderRefused as refusal:
            await self.ledger.durable()
            return _no(400, Refusal(error="refused", reason=refusal.reason, permanent=refusal.permanent))
        except DuplicateOrder as duplicate:
            await self.ledger.durable()
            return _no(409, Refusal(error="duplicate", reason=str(duplicate)))
        await self._tell(account, [report])  # durable first: what we acknowledge survives a kill
        return await self._answer(request, report, happens)

    async def _do_not_place(
        self, request: web.Request, account: _Account, order: Order, item: Mischief
    ) -> web.StreamResponse:
        permanent = item.kind is Kind.REFUSE and item.permanent
        account.book.refuse(order, self._clock.now(), f"{item.kind}: {item.reason}", permanent=permanent)
        await self.ledger.durable()
        match item.kind:
            case Kind.REFUSE if item.permanent:
                return _no(400, Refusal(error="refused", reason=item.reason, permanent=True))
            case Kind.REFUSE | Kind.BUSY:
                return _no(503, Refusal(error="busy", reason=item.reason))
            case Kind.RATE_LIMIT:
                after = f"{1.0 if item.seconds is None else item.seconds:g}"
                return _no(429, Refusal(error="rate_limited", reason=item.reason), {"Retry-After": after})
            case Kind.TOKEN_INVALID:
                return _no(403, Refusal(error="token", reason=item.reason))
            case _:
                await self._clock.sleep(item.seconds or 0.0)
                return _hang_up(request)

    def _place(self, account: _Account, order: Order, happens: Mapping[Kind, Mischief]) -> OrderReport:
        now = self._clock.now()
        if order.account != account.id:
            raise account.book.refuse(order, now, f"account {order.account} is not the one logged in")
        partial, late = happens.get(Kind.PARTIAL), happens.get(Kind.VISIBLE_LATE)
        rejected = happens.get(Kind.REJECT_AFTER_ACCEPT)
        plan = _REJECTED if rejected is not None else None if partial is None else (partial.qty,)
        report = account.book.submit(order, now, fill_plan=plan)
        if partial is not None and partial.cancel_rest:
            account.cancel_rest_at[order.client_order_id] = partial.qty
        if Kind.NEWS_LOST in happens:
            account.silent.add(order.client_order_id)
        if late is not None:
            account.hidden.add(order.client_order_id)
            self._go_on(self._show_late(account, report, late.seconds or 0.0))
        if rejected is not None:
            self._go_on(self._reject_late(account, report, rejected))
        return report

    async def _show_late(self, account: _Account, report: OrderReport, seconds: float) -> None:
        await self._clock.sleep(seconds)
        account.hidden.discard(report.client_order_id)
        await self._tell(account, [report])

    async def _reject_late(self, account: _Account, report: OrderReport, item: Mischief) -> None:
        await self._clock.sleep(item.seconds or 0.0)
        await self._tell(account, account.book.reject(report.client_order_id, self._clock.now(), item.reason))

    async def _answer(
        self, request: web.Request, report: OrderReport, happens: Iterable[Mischief]
    ) -> web.StreamResponse:
        for item in happens:
            match item.kind:
                case Kind.DELAY_ANSWER:
                    await self._clock.sleep(item.seconds or 0.0)
                case Kind.PLACED_BUT_NO_ANSWER if item.seconds is None:
                    return _hang_up(request)
                case Kind.PLACED_BUT_NO_ANSWER:
                    await self._clock.sleep(item.seconds or 0.0)
                case Kind.PLACED_BUT_ERROR:
                    return web.Response(status=502, text="Bad Gateway")
                case Kind.PLACED_BUT_TORN_ANSWER:
                    torn = encode(report)
                    return web.Response(body=torn[: len(torn) // 2], content_type="application/json")
        return _json(report)

    async def _cancel_order(self, request: web.Request, account: _Account) -> web.StreamResponse:
        client_order_id = ClientOrderId(request.match_info["client_order_id"])
        if not self._is_visible(account, client_order_id) or account.book.find(client_order_id) is None:
            return _not_found()
        await self._tell(account, account.book.cancel(client_order_id, self._clock.now()))
        return _json(account.book.find(client_order_id))

    async def _get_order(self, request: web.Request, account: _Account) -> web.StreamResponse:
        client_order_id = ClientOrderId(request.match_info["client_order_id"])
        await self.ledger.durable()
        report = account.book.find(client_order_id) if self._is_visible(account, client_order_id) else None
        return _not_found() if report is None else _json(report)

    async def _get_orders(self, request: web.Request, account: _Account) -> web.StreamResponse:
        await self.ledger.durable()
        return _json(self._day_book(account))

    def _day_book(self, account: _Account) -> list[OrderReport]:
        """The orders one may see that are open or were so within `DAY_BOOK`."""
        since = self._clock.now() - DAY_BOOK
        return [
            report
            for report in account.book.orders()
            if (not report.status.is_terminal or account.changed_at[report.broker_order_id] >= since)
            and self._is_visible(account, report.client_order_id)
        ]

    async def _get_positions(self, request: web.Request, account: _Account) -> web.StreamResponse:
        await self.ledger.durable()
        return _json(account.book.positions())

    async def _get_funds(self, request: web.Request, account: _Account) -> web.StreamResponse:
        await self.ledger.durable()
        purse = account.book.purse
        if purse is None:
            return _json(FundsMessage())
        return _json(
            FundsMessage(
                free=account.book.free(),
                starting=purse.starting,
                in_positions=purse.in_positions,
                realised=purse.realised,
            )
        )

    async def _get_quotes(self, request: web.Request, account: _Account) -> web.StreamResponse:
        asked = (self._last_trades.get(Symbol(symbol)) for symbol in request.query.getall("symbol", []))
        return _json([TickMessage(symbol=t.symbol, price=t.price, at=t.at) for t in asked if t is not None])

    async def _get_ledger(self, request: web.Request, account: _Account) -> web.StreamResponse:
        await self.ledger.durable()
        lines = [line for line in read_ledger(self.ledger.path).lines if line.account == account.id]
        return _json({"audit": audit(lines), "lines": lines})

    async def _stream(self, request: web.Request, account: _Account) -> web.StreamResponse:
        await self.ledger.durable()
        return await self._streams.serve(request, account.id, lambda: self._day_book(account))

    async def _control(self, request: web.Request, account: _Account) -> web.StreamResponse:
        try:
            control = _decode_control(await request.read())
            ticks = [self._tick(given) for given in control.ticks]
        except ValueError as error:
            return _no(400, Refusal(error="refused", reason=str(error), permanent=True))
        if control.clear_mischief:
            self._script.clear()
        self._script.add(control.mischief)
        for tick in ticks:
            self.show(tick)
        if control.drop_streams:
            await self._streams.drop_all()
        await self.ledger.durable()
        return _json({})

    def _tick(self, given: ControlTick) -> Tick:
        at = self._clock.now() if given.at is None else given.at
        return Tick(symbol=given.symbol, price=given.price, at=at.astimezone(UTC))

    async def _health(self, request: web.Request) -> web.StreamResponse:
        torn = len(self.ledger.found.torn)
        return _json({"status": "ok", "now": self._clock.now(), "pid": os.getpid(), "torn_bytes_at_start": torn})


def _note(record: BookRecord, changed_at: dict[BrokerOrderId, datetime]) -> None:
    if isinstance(record, Refused):
        return  # it never became an order
    # a fill is dated like its tick, and a tick may be dated wrongly: never back
    changed_at[record.broker_order_id] = max(record.at, changed_at.get(record.broker_order_id, record.at))


def _json(value: object) -> web.Response:
    return web.Response(body=encode(value), content_type="application/json")


def _no(status: int, refusal: Refusal, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, body=encode(refusal), content_type="application/json", headers=headers)


def _not_found() -> web.Response:
    return web.json_response({"error": "not_found"}, status=404)


def _hang_up(request: web.Request) -> web.Response:
    """End the connection without a word."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def run_server(
    *,
    data: Path,
    clock: Clock,
    tape: PriceSource | None = None,
    accounts: Mapping[str, AccountId] = DEFAULT_ACCOUNTS,
    accounts_file: Path | None = None,
    mischief: Iterable[Mischief] = (),
    idempotency: Idempotency = Idempotency.NONE,
    allow_short: bool = True,
    port: int = 0,
    ready: Path | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Where it listens is written to `ready` as JSON, or printed.

    Raises AlreadyRunning or LedgerDamaged before it listens, and what failed if ticks could no longer be taken.
    """
    server = PaperServer(
        data=data,
        clock=clock,
        tape=tape,
        accounts=accounts,
        accounts_file=accounts_file,
        mischief=mischief,
        idempotency=idempotency,
        allow_short=allow_short,
        port=port,
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.ended.set)
    try:
        await server.start()
        _tell_ready(server, ready)
        await server.ended.wait()
    finally:
        await server.stop()
        _tell_gone(ready)
    if server.failure is not None:
        raise server.failure


def _tell_ready(server: PaperServer, ready: Path | None) -> None:
    about = json.dumps(
        {
            "pid": os.getpid(),
            "host": HOST,
            "port": server.port,
            "url": server.url,
            "torn": server.ledger.found.torn.decode(errors="replace"),
        }
    )
    if ready is None:
        print(about, flush=True)
        return
    draft = ready.with_name(f"{ready.name}.{os.getpid()}")
    draft.write_text(about + "\n")
    draft.replace(ready)  # a reader sees all of it or nothing


def _tell_gone(ready: Path | None) -> None:
    if ready is not None:
        ready.unlink(missing_ok=True)
