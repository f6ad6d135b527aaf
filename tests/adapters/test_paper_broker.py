"""The paper broker over the wire: what the client concludes, what the server does, what the ledger keeps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from squareoff.adapters.brokers.paper.book import BookRecord, PaperBook
from squareoff.adapters.brokers.paper.client import FACTS, PaperBroker
from squareoff.adapters.brokers.paper.ledger import (
    Ledger,
    LedgerDamaged,
    LedgerLine,
    OrphanPosition,
    audit,
    read_ledger,
)
from squareoff.adapters.brokers.paper.mischief import Kind, Mischief, read_mischief
from squareoff.adapters.brokers.paper.server import PaperServer
from squareoff.adapters.brokers.paper.tape import Tape
from squareoff.adapters.feeds.paper import PaperFeed
from squareoff.adapters.paper_wire import encode
from squareoff.core.orders import client_order_id, order_key
from squareoff.core.types import (
    AccountId,
    BrokerOrderId,
    ClientOrderId,
    Order,
    OrderReport,
    OrderStatus,
    Product,
    RunId,
    Side,
    SlotName,
    Symbol,
    Tick,
)
from squareoff.errors import (
    AlreadyRunning,
    BrokerUnavailable,
    GateClosed,
    NeverSent,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    SquareoffError,
)
from squareoff.ports import Clock

INFY = Symbol("NSE:INFY")
ACCOUNT = AccountId("paper")
NOW = datetime(2026, 11, 2, 3, 50, tzinfo=UTC)
IMPATIENT = replace(FACTS, request_timeout_s=0.2)


def order_id(run: int, slot: SlotName = SlotName.ENTRY, attempt: int = 1) -> ClientOrderId:
    return client_order_id(order_key("tests", RunId(run)), slot, attempt)


ENTRY, EXIT = order_id(1), order_id(1, SlotName.EXIT)


def order(client_order_id: ClientOrderId = ENTRY, side: Side = Side.BUY, qty: int = 50) -> Order:
    return Order(
        client_order_id=client_order_id,
        account=ACCOUNT,
        symbol=INFY,
        side=side,
        product=Product.MIS,
        qty=Decimal(qty),
    )


def open_gate() -> None:
    """Nothing speaks against sending."""


async def eventually(check: Callable[[], bool | Awaitable[bool]]) -> None:
    """Asks again and again, for ten seconds at most."""
    for _ in range(2000):
        answer = check()
        if answer if isinstance(answer, bool) else await answer:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


class HandClock:
    """Trading time and real time move together, and only by `advance`."""

    def __init__(self) -> None:
        self._at = NOW
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._at

    def seconds_until(self, instant: datetime) -> float:
        return (instant - self._at).total_seconds()

    def monotonic_s(self) -> float:
        return (self._at - NOW).total_seconds()

    async def sleep(self, seconds: float) -> None:
        if seconds > 0:
            wake = asyncio.get_running_loop().create_future()
            self._sleepers.append((self._at + timedelta(seconds=seconds), wake))
            await wake

    @property
    def sleepers(self) -> int:
        return sum(not wake.done() for _, wake in self._sleepers)

    def advance(self, seconds: float) -> None:
        self._at += timedelta(seconds=seconds)
        for until, wake in self._sleepers:
            if until <= self._at and not wake.done():
                wake.set_result(None)


# -- what the client concludes from what it sees


class ScriptedVenue:
    """A TCP server that counts whole requests and answers them as told: bytes, then perhaps an end."""

    def __init__(self, *answers: bytes | None) -> None:
        """None: no answer, the connection stays open. b"": the connection ends. When they run out: none."""
        self._answers = list(answers)
        self._writers: list[asyncio.StreamWriter] = []
        self.requests: list[bytes] = []
        self.connections = 0

    async def __aenter__(self) -> ScriptedVenue:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.hang_up()
        self._server.close()
        await self._server.wait_closed()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self._answers.pop(0) if self._answers else None
                if answer is not None:
                    writer.write(answer)
                    if not answer.startswith(b"HTTP") or b"Connection: close" in answer:
                        writer.close()
                        return


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Told", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def placed(client_order_id: ClientOrderId = ENTRY) -> bytes:
    return encode(
        OrderReport(
            client_order_id=client_order_id,
            broker_order_id=BrokerOrderId("P000001"),
            symbol=INFY,
            side=Side.BUY,
            product=Product.MIS,
            qty=Decimal(50),
            status=OrderStatus.OPEN,
        )
    )


def refusal(error: str, **more: object) -> bytes:
    return json.dumps({"error": error, "reason": "margin", "placed": False, **more}).encode()


async def outcome_of(*answers: bytes | None) -> tuple[SquareoffError, ScriptedVenue]:
    async with ScriptedVenue(*answers) as venue:
        broker = PaperBroker(venue.url, facts=IMPATIENT)
        with pytest.raises(SquareoffError) as raised:
            await broker.submit(order(), open_gate)
        await broker.close()
    return raised.value, venue


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(None, id="no answer in time"),
        pytest.param(b"", id="the connection ends"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="the answer ends in its head"),
        pytest.param(http(200, placed())[:-20], id="the answer hangs in its body"),
        pytest.param(http(200, placed()[:-20], "Connection: close"), id="torn JSON"),
        pytest.param(http(200, b"<html>"), id="not JSON"),
        pytest.param(http(200, placed(EXIT)), id="an answer about another order"),
        pytest.param(b"HTP/1.1 what\r\n\r\n", id="not HTTP"),
        pytest.param(http(200, b"{}"), id="200 without the order"),
        pytest.param(http(302, b"", "Location: /orders"), id="a redirect"),
        pytest.param(http(400, b"Bad Request"), id="400 that is not the venue's word"),
        pytest.param(http(403, b"Forbidden"), id="403 that is not the venue's word"),
        pytest.param(http(429, b"slow down"), id="429 that is not the venue's word"),
        pytest.param(http(500, b"oops"), id="500"),
        pytest.param(http(502, b"Bad Gateway"), id="502"),
        pytest.param(http(503, b"Unavailable"), id="503 without proof"),
        pytest.param(http(504, refusal("busy")), id="504 with the words of a 503"),
        pytest.param(http(503, b'{"error":"busy","placed":true}'), id="503 that says it was placed"),
    ],
)
async def test_without_the_venues_own_clear_word_the_outcome_is_unknown_and_nothing_is_sent_twice(
    answer: bytes | None,
) -> None:
    error, venue = await outcome_of(answer)
    assert type(error) is OutcomeUnknown
    assert len(venue.requests) == 1


@pytest.mark.parametrize(
    ("answer", "permanent", "token"),
    [
        (http(400, refusal("refused", permanent=True)), True, False),
        (http(503, refusal("busy")), False, False),
        (http(403, refusal("token")), True, True),
    ],
)
async def test_a_refusal_in_the_venues_own_words_says_whether_repeating_can_help(
    answer: bytes, permanent: bool, token: bool
) -> None:
    error, venue = await outcome_of(answer)
    assert isinstance(error, OrderRefused)
    assert (error.permanent, error.token, error.reason) == (permanent, token, "margin")
    assert len(venue.requests) == 1


@pytest.mark.parametrize(("header", "wait_s"), [("2.5", 2.5), ("soon", 1.0), ("inf", 1.0), ("-3", 1.0)])
async def test_too_many_requests_tells_when_to_come_back_and_is_not_sent_again_by_itself(
    header: str, wait_s: float
) -> None:
    error, venue = await outcome_of(http(429, refusal("rate_limited"), f"Retry-After: {header}"))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == wait_s
    assert len(venue.requests) == 1


async def test_a_broker_that_cannot_be_reached_was_never_sent_the_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closing:
        port = closing.getsockname()[1]
    asked = []
    broker = PaperBroker(f"http://127.0.0.1:{port}")
    with pytest.raises(NeverSent):
        await broker.submit(order(), lambda: asked.append("gate"))
    assert asked == []
    with pytest.raises(BrokerUnavailable):
        await broker.warm()
    with pytest.raises(BrokerUnavailable):
        await anext(aiter(broker.updates()))
    await broker.close()


async def test_a_connection_that_does_not_come_about_in_time_was_never_sent_the_order() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        with contextlib.ExitStack() as stack:
            for _ in range(3):  # nobody accepts: the queue is full, further ones wait
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(address)
            broker = PaperBroker(f"http://127.0.0.1:{address[1]}", facts=IMPATIENT)
            with pytest.raises(NeverSent, match="timed out"):
                await broker.submit(order(), open_gate)
            await broker.close()


async def test_the_last_check_comes_with_the_connection_in_hand_and_after_it_nothing_but_the_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = PaperBroker(f"http://127.0.0.1:{listener.getsockname()[1]}", facts=IMPATIENT)
        await broker.warm()
        venue, _ = listener.accept()
        venue.setblocking(False)
        arrived: list[bytes] = []

        def gate() -> None:
            with pytest.raises(BlockingIOError):
                venue.recv(1)  # not a byte before the check
            asyncio.get_running_loop().call_soon(lambda: arrived.append(venue.recv(1 << 16)))  # the very next step

        with pytest.raises(OutcomeUnknown):
            await broker.submit(order(), gate)
        (request,) = arrived
        head, _, body = request.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /orders HTTP/1.1\r\n")
        assert f"content-length: {len(body)}".encode() in head.lower()
        assert json.loads(body)["client_order_id"] == ENTRY
        await broker.close()
        venue.close()


async def test_when_the_last_check_says_no_not_a_byte_is_sent_and_the_connection_stays_good() -> None:
    def shut() -> None:
        raise GateClosed("the lease is lost")

    async with ScriptedVenue(http(200, placed())) as venue:
        broker = PaperBroker(venue.url)
        with pytest.raises(GateClosed):
            await broker.submit(order(), shut)
        await broker.submit(order(), open_gate)
        assert (len(venue.requests), venue.connections) == (1, 1)
        await broker.close()


async def test_orders_go_over_a_connection_that_is_kept_open() -> None:
    async with ScriptedVenue(http(200, placed()), http(200, placed())) as venue:
        broker = PaperBroker(venue.url)
        await broker.submit(order(), open_gate)
        await broker.submit(order(), open_gate)
        assert (len(venue.requests), venue.connections) == (2, 1)
        await broker.close()


async def test_a_kept_connection_that_has_ended_is_replaced() -> None:
    async with ScriptedVenue(http(200, placed(), "Connection: close"), http(200, placed())) as venue:
        broker = PaperBroker(venue.url)
        await broker.submit(order(), open_gate)
        await broker.submit(order(), open_gate)
        assert (len(venue.requests), venue.connections) == (2, 2)
        await broker.close()


async def test_a_kept_connection_found_dead_before_writing_is_replaced_and_only_the_new_one_carries_the_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = PaperBroker(f"http://127.0.0.1:{listener.getsockname()[1]}", facts=IMPATIENT)
        await broker.warm()
        first, _ = listener.accept()
        first.close()  # the end is on its way to us, and our loop has not seen it yet
        with pytest.raises(OutcomeUnknown, match="no answer within"):
            await broker.submit(order(), open_gate)
        second, _ = listener.accept()
        with second:
            assert second.recv(1 << 16).startswith(b"POST /orders")
        await broker.close()


async def test_an_answer_nobody_asked_for_is_never_taken_for_the_next_orders_answer() -> None:
    async with ScriptedVenue(http(200, placed()) + http(200, placed(EXIT)), http(200, placed(EXIT))) as venue:
        broker = PaperBroker(venue.url)
        await broker.submit(order(), open_gate)
        report = await broker.submit(order(EXIT, Side.SELL), open_gate)
        assert report.client_order_id == EXIT
        assert venue.connections == 2
        await broker.close()


async def test_a_connection_on_which_the_venue_speaks_unasked_carries_no_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        broker = PaperBroker(f"http://127.0.0.1:{listener.getsockname()[1]}", facts=IMPATIENT)
        await broker.warm()
        first, _ = listener.accept()
        with first:
            first.sendall(http(200, placed()))
            for _ in range(10):  # our loop reads it before the order is sent
                await asyncio.sleep(0)
            with pytest.raises(OutcomeUnknown, match="no answer within"):
                await broker.submit(order(), open_gate)
            first.setblocking(False)
            with contextlib.suppress(ConnectionError, BlockingIOError):
                assert first.recv(1 << 16) == b""
        await broker.close()


async def test_a_cancelled_send_is_not_sent_again_and_its_connection_is_not_used_again() -> None:
    async with ScriptedVenue(None, http(200, placed())) as venue:
        broker = PaperBroker(venue.url)
        sending = asyncio.ensure_future(broker.submit(order(), open_gate))
        await eventually(lambda: len(venue.requests) == 1)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await broker.submit(order(), open_gate)
        assert (len(venue.requests), venue.connections) == (2, 2)
        await broker.close()


@pytest.mark.parametrize("answer", [b"", None, http(500, b""), http(200, b"[{"), http(403, refusal("token"))])
async def test_a_question_without_a_clear_answer_is_never_read_as_nothing_there(answer: bytes | None) -> None:
    async with ScriptedVenue(answer, answer, answer, answer) as venue:
        broker = PaperBroker(venue.url, facts=IMPATIENT)
        with pytest.raises(BrokerUnavailable):
            await broker.find(ENTRY)
        with pytest.raises(BrokerUnavailable):
            await broker.orders()
        with pytest.raises(BrokerUnavailable):
            await broker.positions()
        if answer is None or not answer.startswith(b"HTTP/1.1 200"):
            with pytest.raises(BrokerUnavailable):
                await broker.cancel(ENTRY)
        await broker.close()


# -- what the server does


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


Start = Callable[..., "contextlib.AbstractAsyncContextManager[tuple[PaperServer, PaperBroker]]"]


@pytest.fixture
def start(tmp_path: Path, clock: HandClock) -> Start:
    @contextlib.asynccontextmanager
    async def start(
        *mischief: Mischief, tape: Tape | None = None, clock: Clock = clock
    ) -> AsyncIterator[tuple[PaperServer, PaperBroker]]:
        server = PaperServer(data=tmp_path, clock=clock, tape=tape, mischief=mischief)
        await server.start()
        broker = PaperBroker(server.url, facts=replace(FACTS, request_timeout_s=0.5))
        yield server, broker
        await broker.close()
        await server.stop()

    return start


def tick(price: str, at: datetime = NOW) -> Tick:
    return Tick(INFY, Decimal(price), at)


async def status_of(broker: PaperBroker, client_order_id: ClientOrderId = ENTRY) -> tuple[OrderStatus, int] | None:
    report = await broker.find(client_order_id)
    return None if report is None else (report.status, int(report.filled_qty))


@pytest.mark.parametrize(
    "bad_day",
    [
        Mischief(kind=Kind.PLACED_BUT_NO_ANSWER),
        Mischief(kind=Kind.PLACED_BUT_NO_ANSWER, seconds=60),
        Mischief(kind=Kind.PLACED_BUT_ERROR),
        Mischief(kind=Kind.PLACED_BUT_TORN_ANSWER),
        Mischief(kind=Kind.DELAY_ANSWER, seconds=60),
    ],
    ids=lambda item: f"{item.kind}-{item.seconds}",
)
async def test_an_order_that_was_placed_without_a_clear_answer_is_found_by_its_id(
    start: Start, bad_day: Mischief
) -> None:
    async with start(bad_day) as (server, broker):
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order(), open_gate)
        assert await status_of(broker) == (OrderStatus.OPEN, 0)
        server.show(tick("1540"))
        assert await status_of(broker) == (OrderStatus.FILLED, 50)
        assert len(await broker.orders()) == 1


async def test_an_order_lost_on_its_way_is_never_found(start: Start) -> None:
    async with start(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER)) as (server, broker):
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        assert await broker.orders() == []


async def test_busy_twice_and_then_the_order_is_taken(start: Start) -> None:
    async with start(Mischief(kind=Kind.BUSY, times=2)) as (_, broker):
        for _ in range(2):
            with pytest.raises(OrderRefused) as busy:
                await broker.submit(order(), open_gate)
            assert not busy.value.permanent
        assert (await broker.submit(order(), open_gate)).status is OrderStatus.OPEN
        assert len(await broker.orders()) == 1


@pytest.mark.parametrize(
    ("item", "permanent", "token"),
    [
        (Mischief(kind=Kind.REFUSE, reason="margin"), True, False),
        (Mischief(kind=Kind.REFUSE, reason="margin", permanent=False), False, False),
        (Mischief(kind=Kind.TOKEN_INVALID, reason="margin"), True, True),
    ],
    ids=lambda item: str(getattr(item, "kind", item)),
)
async def test_what_the_venue_refuses_is_not_placed(start: Start, item: Mischief, permanent: bool, token: bool) -> None:
    async with start(item) as (_, broker):
        with pytest.raises(OrderRefused) as refused:
            await broker.submit(order(), open_gate)
        assert (refused.value.permanent, refused.value.token, refused.value.reason) == (permanent, token, "margin")
        assert await broker.orders() == []


async def test_a_rate_limited_order_may_come_again_later(start: Start) -> None:
    async with start(Mischief(kind=Kind.RATE_LIMIT, seconds=2.5)) as (_, broker):
        with pytest.raises(RateLimited) as limited:
            await broker.submit(order(), open_gate)
        assert limited.value.retry_after_s == 2.5
        await broker.submit(order(), open_gate)
        assert len(await broker.orders()) == 1


async def test_only_the_chosen_orders_meet_mischief(start: Start) -> None:
    chosen = Mischief(kind=Kind.REFUSE, symbol=INFY, side=Side.SELL, slot="X", after=1)
    async with start(chosen) as (_, broker):
        await broker.submit(order(), open_gate)
        await broker.submit(order(EXIT, Side.SELL), open_gate)
        with pytest.raises(OrderRefused):
            await broker.submit(order(order_id(1, SlotName.EXIT, 2), Side.SELL), open_gate)
        await broker.submit(order(order_id(1, SlotName.EXIT, 3), Side.SELL), open_gate)


@pytest.mark.parametrize(("cancel_rest", "status"), [(False, OrderStatus.OPEN), (True, OrderStatus.CANCELLED)])
async def test_an_entry_that_fills_in_part_tells_how_much(start: Start, cancel_rest: bool, status: OrderStatus) -> None:
    async with start(Mischief(kind=Kind.PARTIAL, qty=Decimal(20), cancel_rest=cancel_rest)) as (server, broker):
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        server.show(tick("1541"))
        assert await status_of(broker) == (status, 20)
        assert [int(each.net_qty) for each in await broker.positions()] == [20]


async def test_an_order_that_shows_late_fills_unseen_and_is_then_told(start: Start, clock: HandClock) -> None:
    async with start(Mischief(kind=Kind.VISIBLE_LATE, seconds=90)) as (server, broker):
        updates = broker.updates()
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        assert await status_of(broker) is None
        assert await broker.orders() == []
        assert [int(each.net_qty) for each in await broker.positions()] == [50]
        news = asyncio.ensure_future(anext(aiter(updates)))
        await eventually(lambda: clock.sleepers == 1)
        clock.advance(90)
        async with asyncio.timeout(10):
            assert (await news).status is OrderStatus.FILLED
        assert await status_of(broker) == (OrderStatus.FILLED, 50)


async def test_an_order_may_be_rejected_after_it_was_accepted(start: Start, clock: HandClock) -> None:
    item = Mischief(kind=Kind.REJECT_AFTER_ACCEPT, seconds=1, reason="margin")
    async with start(item) as (server, broker):
        assert (await broker.submit(order(), open_gate)).status is OrderStatus.OPEN
        server.show(tick("1540"))
        await eventually(lambda: clock.sleepers == 1)
        clock.advance(1)

        async def is_over() -> bool:
            report = await broker.find(ENTRY)
            return report is not None and report.status.is_terminal

        await eventually(is_over)
        report = await broker.find(ENTRY)
        assert report is not None
        assert (report.status, report.reason, report.fills) == (OrderStatus.REFUSED, "margin", ())


async def test_mischief_comes_as_a_toml_file_and_a_spelling_mistake_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mischief.toml"
    path.write_text('[[mischief]]\nkind = "partial"\nslot = "E"\nqty = "20"\n')
    assert read_mischief(path) == [Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20))]
    path.write_text('[[mischief]]\nkind = "partail"\n')
    with pytest.raises(ValueError, match="partail"):
        read_mischief(path)
    with pytest.raises(ValueError, match="seconds"):
        Mischief(kind=Kind.VISIBLE_LATE)


async def test_each_account_sees_its_own_orders_only(tmp_path: Path, clock: HandClock) -> None:
    accounts = {"secret-a": AccountId("A"), "secret-b": AccountId("B")}
    server = PaperServer(data=tmp_path, clock=clock, accounts=accounts)
    await server.start()
    a, b, nobody = (PaperBroker(server.url, token=token) for token in ("secret-a", "secret-b", "paper"))
    with pytest.raises(OrderRefused, match="not the one logged in"):
        await a.submit(replace(order(), account=AccountId("B")), open_gate)
    await a.submit(replace(order(), account=AccountId("A")), open_gate)
    server.show(tick("1540"))
    assert (len(await a.orders()), len(await a.positions())) == (1, 1)
    assert (await b.orders(), await b.positions(), await b.find(ENTRY)) == ([], [], None)
    with pytest.raises(OrderRefused) as refused:
        await nobody.submit(order(), open_gate)
    assert refused.value.token
    with pytest.raises(BrokerUnavailable, match="403"):
        await nobody.orders()
    with pytest.raises(BrokerUnavailable):
        await anext(aiter(nobody.updates()))
    with pytest.raises(BrokerUnavailable):
        await anext(aiter(PaperFeed(server.url, token="wrong").ticks([INFY])))
    for broker in (a, b, nobody):
        await broker.close()
    await server.stop()


# -- prices and news


async def test_a_new_connection_tells_the_orders_as_they_are_so_that_no_news_is_missed(start: Start) -> None:
    async with start() as (server, broker):
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        updates = broker.updates()
        async with asyncio.timeout(10):
            assert (await anext(updates)).status is OrderStatus.FILLED
            await server._streams.drop_all()
            assert [report async for report in updates] == []


async def test_the_feed_tells_every_tick_in_order_and_then_the_end(start: Start, clock: HandClock) -> None:
    async with start() as (server, _):
        ticks: list[Tick] = []
        standing = asyncio.Event()
        feed = PaperFeed(server.url)
        running = asyncio.ensure_future(feed.run([INFY], ticks.append, on_frame=standing.set))
        async with asyncio.timeout(10):
            await standing.wait()
            shown = [tick(f"{1540 + n}.05", NOW + timedelta(microseconds=n)) for n in range(500)]
            for each in shown:
                server.show(Tick(Symbol("NSE:TCS"), each.price, each.at))
                server.show(each)
            await eventually(lambda: len(ticks) == 500)
            assert ticks == shown
            assert all(type(each.price) is Decimal and each.at.utcoffset() is not None for each in ticks)
            await server.stop()
            await running


async def test_a_quiet_feed_still_says_that_it_is_alive(start: Start) -> None:
    async with start() as (server, _):
        frames: list[None] = []
        running = asyncio.ensure_future(
            PaperFeed(server.url).run([INFY], lambda _: None, on_frame=lambda: frames.append(None))
        )
        await eventually(lambda: len(frames) >= 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_tape_plays_on_time_and_skips_what_is_past(start: Start, clock: HandClock) -> None:
    ticks = [(NOW + timedelta(seconds=s), INFY, Decimal(price)) for s, price in ((5, 1542), (-5, 1), (0, 1540))]
    async with start(tape=Tape(ticks)) as (_, broker):
        await broker.submit(order(), open_gate)
        await eventually(lambda: clock.sleepers == 1)
        clock.advance(4.9)
        assert await status_of(broker) == (OrderStatus.OPEN, 0)
        clock.advance(0.1)

        async def is_filled() -> bool:
            return await status_of(broker) == (OrderStatus.FILLED, 50)

        await eventually(is_filled)
        report = await broker.find(ENTRY)
        assert report is not None
        assert (report.fills[0].price, report.fills[0].at) == (Decimal(1542), NOW + timedelta(seconds=5))


async def test_a_tape_is_a_plain_table_and_a_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tape.csv"
    path.write_text("at,symbol,price\n2026-11-02T09:20:00+05:30,NSE:INFY,1540.05\n")
    assert Tape.read(path).ticks == (tick("1540.05"),)
    path.write_text("at,symbol,price\n2026-11-02T09:20:00,NSE:INFY,1540.05\n")
    with pytest.raises(ValueError, match="line 2"):
        Tape.read(path)


# -- the ledger


def lines_of(*steps: tuple[str, object]) -> list[LedgerLine]:
    """What a book records when these orders and ticks come."""
    lines: list[LedgerLine] = []

    def record(what: BookRecord) -> None:
        lines.append(LedgerLine(account=ACCOUNT, record=what))

    book = PaperBook(on_record=record)
    for what, given in steps:
        if what == "order":
            assert isinstance(given, Order)
            book.submit(given, NOW)
        else:
            book.on_tick(tick(str(given)))
    return lines


SOLD = order(EXIT, Side.SELL)


def test_an_audit_of_a_round_trip_is_clean_and_knows_the_profit() -> None:
    found = audit(lines_of(("order", order()), ("tick", "1540"), ("order", SOLD), ("tick", "1550.50")))
    (run,) = found.runs
    assert found.is_clean
    assert (run.entries, run.exits, run.executed_entries, run.executed_exits) == (1, 1, 1, 1)
    assert (run.entry_avg_price, run.exit_avg_price) == (Decimal(1540), Decimal("1550.50"))
    assert found.pnl_gross == run.pnl_gross == Decimal("525.00")


def test_an_audit_finds_a_planted_double_buy() -> None:
    twice = order(order_id(1, attempt=2))
    found = audit(lines_of(("order", order()), ("order", twice), ("tick", "1540")))
    assert [why.split(":")[1].split(",")[0] for why in found.doubles] == [" double BUY"]
    assert not found.is_clean


def test_an_audit_finds_the_same_id_bought_twice() -> None:
    found = audit(lines_of(("order", order()), ("order", order()), ("tick", "1540")))
    assert len(found.doubles) == 1


def test_an_audit_finds_a_planted_double_sell() -> None:
    again = order(order_id(1, SlotName.EXIT, 2), Side.SELL)
    steps = (("order", order()), ("tick", "1540"), ("order", SOLD), ("order", again), ("tick", "1530"))
    found = audit(lines_of(*steps))
    assert found.doubles == (f"{ENTRY[:12]}: double SELL, sold 100 NSE:INFY of 50 bought",)
    assert [orphan.net_qty for orphan in found.orphans] == [-50]


def test_an_audit_finds_a_position_left_behind_and_whose_it_is() -> None:
    found = audit(lines_of(("order", order()), ("tick", "1540")))
    assert found.doubles == ()
    assert found.orphans == (
        OrphanPosition(account=ACCOUNT, symbol=INFY, product=Product.MIS, net_qty=Decimal(50), runs=(ENTRY[:12],)),
    )


def test_an_audit_finds_two_wrongs_that_add_up_to_flat() -> None:
    other = order(order_id(2, SlotName.EXIT), Side.SELL)
    found = audit(lines_of(("order", order()), ("tick", "1540"), ("order", other), ("tick", "1550")))
    assert found.orphans == ()
    assert sorted(found.unbalanced_runs) == sorted([order_id(1)[:12], order_id(2)[:12]])
    assert not found.is_clean


def test_an_audit_finds_an_entry_that_sold() -> None:
    found = audit(lines_of(("order", order(side=Side.SELL)), ("tick", "1540")))
    assert "an entry sold" in found.doubles[0]


def test_an_audit_keeps_orders_of_the_user_apart_but_counts_their_position() -> None:
    found = audit(lines_of(("order", order(ClientOrderId("by-hand"))), ("tick", "1540")))
    assert (found.runs, found.other_orders) == ((), ("by-hand",))
    assert [orphan.runs for orphan in found.orphans] == [()]


def write_ledger(path: Path, lines: Sequence[LedgerLine]) -> bytes:
    ledger = Ledger(path)
    for line in lines:
        ledger.append(line)
    ledger.close()
    return path.read_bytes()


@pytest.mark.parametrize("torn", [b'{"account":"pap', b"\0\0\0\0", b"\0\0\n", b'{"account":"paper","record":{}}\n'])
def test_a_torn_end_of_the_ledger_is_told_and_cut_and_the_rest_is_kept(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    lines = lines_of(("order", order()), ("tick", "1540"))
    whole = write_ledger(path, lines)
    path.write_bytes(whole + torn)
    assert read_ledger(path).torn == torn
    again = Ledger(path)
    assert (list(again.found.lines), again.found.torn) == (lines, torn)
    again.append(lines[0])
    again.close()
    assert path.read_bytes() == whole + whole.splitlines(keepends=True)[0]


def test_a_ledger_damaged_in_its_middle_is_not_believed_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    whole = write_ledger(path, lines_of(("order", order()), ("tick", "1540"), ("order", SOLD)))
    first, second, third = whole.splitlines(keepends=True)
    path.write_bytes(first + second[:-9] + b"\n" + third)
    with pytest.raises(LedgerDamaged, match="line 2"):
        Ledger(path)
    assert path.stat().st_size == len(whole) - 8


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.jsonl"
    lines = lines_of(("order", order()), ("tick", "1540"))
    ledger = Ledger(path)
    ledger.append(lines[0])
    write = __import__("os").write
    with monkeypatch.context() as full:
        full.setattr("os.write", lambda fd, text: write(fd, text[:7]))
        with pytest.raises(OSError, match="only 7"):
            ledger.append(lines[1])
    ledger.append(lines[1])
    ledger.close()
    assert list(read_ledger(path).lines) == lines


async def test_after_a_failed_fsync_the_ledger_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError("input/output error")

    lines = lines_of(("order", order()), ("tick", "1540"))
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(lines[0])
    with monkeypatch.context() as bad_disk:
        bad_disk.setattr("os.fsync", fail)
        with pytest.raises(OSError, match="input/output"):
            await ledger.durable()
    with pytest.raises(OSError, match="failed earlier"):
        ledger.append(lines[1])
    with pytest.raises(OSError, match="failed earlier"):
        await ledger.durable()
    ledger.close()


async def test_an_order_whose_line_is_not_safe_is_not_acknowledged(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError("input/output error")

    async with start() as (_, broker):
        with monkeypatch.context() as bad_disk:
            bad_disk.setattr("os.fsync", fail)
            with pytest.raises(OutcomeUnknown):
                await broker.submit(order(), open_gate)


async def test_one_fsync_serves_all_orders_that_wait_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    calls: list[int] = []
    monkeypatch.setattr("os.fsync", calls.append)
    for line in lines_of(("order", order()), ("tick", "1540")):
        ledger.append(line)
    await asyncio.gather(*(ledger.durable() for _ in range(10)))
    assert len(calls) == 1
    await ledger.durable()
    assert len(calls) == 1
    ledger.close()


def test_a_second_broker_on_the_same_ledger_is_turned_away(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(AlreadyRunning):
        Ledger(tmp_path / "ledger.jsonl")
    ledger.close()
    Ledger(tmp_path / "ledger.jsonl").close()


class BrokerProcess:
    """A real one, started by the command line."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._ready = folder, folder / "ready.json"

    async def __aenter__(self) -> BrokerProcess:
        self._ready.unlink(missing_ok=True)
        arguments = ("--data", str(self._folder), "--ready", str(self._ready))
        self.child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "squareoff.adapters.brokers.paper", *arguments
        )
        async with asyncio.timeout(30):
            while not self._ready.exists():
                assert self.child.returncode is None
                await asyncio.sleep(0.01)
        self.about = json.loads(self._ready.read_text())
        self.broker = PaperBroker(self.about["url"])
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.broker.close()
        if self.child.returncode is None:
            self.child.terminate()
        await self.child.wait()

    async def tick(self, price: str) -> None:
        body = {"ticks": [{"symbol": INFY, "price": price}]}
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer paper"}) as session,
            session.post(f"{self.about['url']}/control", json=body) as response,
        ):
            assert response.status == 200


@pytest.mark.processes
async def test_an_acknowledged_order_survives_the_kill_of_the_broker(tmp_path: Path) -> None:
    acknowledged: set[ClientOrderId] = set()
    unknown: set[ClientOrderId] = set()

    async def send(first: BrokerProcess, run: int) -> None:
        try:
            acknowledged.add((await first.broker.submit(order(order_id(run)), open_gate)).client_order_id)
        except (OutcomeUnknown, NeverSent):
            unknown.add(order_id(run))
        if len(acknowledged) == 100 and first.child.returncode is None:
            first.child.send_signal(signal.SIGKILL)

    async with BrokerProcess(tmp_path) as first:
        await asyncio.gather(*(send(first, run) for run in range(300)))
        await first.child.wait()
    assert len(acknowledged) >= 100  # how many were cut off is up to the machine: none, on a fast one
    async with BrokerProcess(tmp_path) as second:
        known = {report.client_order_id for report in await second.broker.orders()}
        assert acknowledged <= known <= acknowledged | unknown
        await second.tick("1540")
        (position,) = await second.broker.positions()
        assert position.net_qty == 50 * len(known)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"account":"paper","rec')


@pytest.mark.processes
async def test_a_broker_that_starts_again_reports_a_torn_line_and_ends_politely(tmp_path: Path) -> None:
    async with BrokerProcess(tmp_path) as first:
        await first.broker.submit(order(), open_gate)
    assert first.child.returncode == 0
    assert not (tmp_path / "ready.json").exists()
    tear(tmp_path / "ledger.jsonl")
    async with BrokerProcess(tmp_path) as second:
        assert second.about["torn"] == '{"account":"paper","rec'
        await second.tick("1540")
        assert await status_of(second.broker) == (OrderStatus.FILLED, 50)
        async with (
            aiohttp.ClientSession(headers={"Authorization": "Bearer paper"}) as session,
            session.get(f"{second.about['url']}/ledger") as response,
        ):
            told = await response.json()
    assert [line["record"]["event"] for line in told["lines"]] == ["placed", "traded"]
    assert told["audit"]["orphans"][0]["net_qty"] == "50"
