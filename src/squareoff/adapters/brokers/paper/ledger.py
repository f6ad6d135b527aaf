"""The paper broker's memory: one append-only file of JSON lines, and the audit of it.

A line is written before what it tells takes effect, and is on the disk before anybody is told. So an order that was
acknowledged is in the file, whatever kills the process; an order in the file may be one that nobody was told of.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import msgspec

from squareoff.adapters.brokers.paper.book import BookRecord, Cancelled, Placed, Refused, Rejected, Traded
from squareoff.core.types import ZERO, AccountId, BrokerOrderId, ClientOrderId, Fill, Order, Product, Side, Symbol
from squareoff.errors import AlreadyRunning, SquareoffError


class LedgerDamaged(SquareoffError):
    """The file cannot be believed; nothing was changed. A person must look at it."""


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    account: AccountId
    record: BookRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerContents:
    """`torn`: what stood after the last whole line, a write that never ended and was never answered; empty as a
    rule. `size` is the length of the whole lines."""

    lines: tuple[LedgerLine, ...]
    torn: bytes
    size: int


_decode_line = msgspec.json.Decoder(LedgerLine).decode


def read_ledger(path: Path) -> LedgerContents:
    """What the file tells. Safe to call while the broker runs. Raises LedgerDamaged if a line in its middle cannot
    be read."""
    content = path.read_bytes() if path.exists() else b""
    lines: list[LedgerLine] = []
    size = 0
    for number, text in enumerate(content.splitlines(keepends=True), start=1):
        line = _whole_line(text)
        if line is None:
            if any(_whole_line(later) for later in content[size + len(text) :].splitlines(keepends=True)):
                raise LedgerDamaged(f"{path.name}, line {number} cannot be read, but later lines can")
            break
        lines.append(line)
        size += len(text)
    return LedgerContents(lines=tuple(lines), torn=content[size:], size=size)


def _whole_line(text: bytes) -> LedgerLine | None:
    if not text.endswith(b"\n"):
        return None
    try:
        return _decode_line(text)
    except msgspec.MsgspecError:
        return None


class Ledger:
    """The file, held by this process alone. `found` is what it told when it was opened; a torn end is cut off."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._lock()
            self.found = read_ledger(path)
            os.ftruncate(self._fd, self.found.size)
            os.fsync(self._fd)
            _sync_folder(path.parent)
        except BaseException:
            os.close(self._fd)
            raise
        self._size = self.found.size
        self._synced = self.found.size
        self._next_sync: asyncio.Future[None] | None = None
        self._broken: OSError | None = None

    def append(self, line: LedgerLine) -> None:
        """Write one line; `durable` tells when it is on the disk. Raises OSError, and then the line is not there."""
        self._must_be_whole()
        text = msgspec.json.encode(line) + b"\n"
        try:
            written = os.write(self._fd, text)
            if written != len(text):
                raise OSError(f"only {written} of {len(text)} bytes could be written")
        except OSError:
            self._cut_back()
            raise
        self._size += len(text)

    async def durable(self) -> None:
        """Returns when every line appended so far is on the disk. All who wait in one turn of the loop share one
        fsync. Raises OSError if the disk failed: then nobody knows, and this ledger takes nothing more."""
        self._must_be_whole()
        if self._synced == self._size:
            return
        if self._next_sync is None:
            loop = asyncio.get_running_loop()
            self._next_sync = loop.create_future()
            loop.call_soon(self._sync)
        await asyncio.shield(self._next_sync)

    def close(self) -> None:
        """Idempotent. Whatever was appended is on the disk then."""
        if self._fd >= 0:
            try:
                os.fsync(self._fd)
            finally:
                os.close(self._fd)
                self._fd = -1

    def _sync(self) -> None:
        waiting, self._next_sync = self._next_sync, None
        size = self._size
        try:
            os.fsync(self._fd)
        except OSError as error:
            self._broken = error  # after a failed fsync the next one may lie: never try again
        else:
            self._synced = size
        if waiting is None or waiting.done():
            return
        if self._broken is None:
            waiting.set_result(None)
        else:
            waiting.set_exception(self._broken)

    def _cut_back(self) -> None:
        """Half a line must not stay: the next one would be glued to it."""
        try:
            os.ftruncate(self._fd, self._size)
        except OSError as error:
            self._broken = error

    def _must_be_whole(self) -> None:
        if self._broken is not None:
            raise OSError("the ledger's disk failed earlier") from self._broken

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another paper broker already uses {self.path.parent}") from None


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAudit:
    """What the broker's book proves of one run. `key`: the 12 letters and digits its order ids begin with."""

    account: AccountId
    key: str
    symbol: Symbol
    product: Product
    entries: int
    """Entry orders taken."""
    exits: int
    refused: int
    executed_entries: int
    """Entry orders with a fill: more than one is a double BUY."""
    executed_exits: int
    entry_qty: Decimal
    exit_qty: Decimal
    entry_avg_price: Decimal | None
    exit_avg_price: Decimal | None
    still_open: int
    """Orders that may still fill."""
    pnl_gross: Decimal | None
    """On what was bought and sold again; None while nothing was."""

    @property
    def net_qty(self) -> Decimal:
        return self.entry_qty - self.exit_qty


@dataclass(frozen=True, kw_only=True, slots=True)
class OrphanPosition:
    """A net position left at the broker. `runs`: the keys of the runs that traded it and are not flat."""

    account: AccountId
    symbol: Symbol
    product: Product
    net_qty: Decimal
    runs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LedgerAudit:
    """The verdict, from the broker's book alone. Empty `doubles` and `orphans` are what squareoff promises."""

    orders: int
    fills: int
    runs: tuple[RunAudit, ...]
    doubles: tuple[str, ...]
    """One sentence per run that bought twice, sold more than it bought, or traded the wrong way round."""
    orphans: tuple[OrphanPosition, ...]
    unbalanced_runs: tuple[str, ...]
    """Keys of runs that hold, or are short of, something by their own orders."""
    other_orders: tuple[ClientOrderId, ...]
    """Orders that carry none of our ids."""
    pnl_gross: Decimal

    @property
    def is_clean(self) -> bool:
        return not (self.doubles or self.orphans or self.unbalanced_runs)


@dataclass(kw_only=True, slots=True)
class _Seen:
    """One order of the book, as far as the audit cares."""

    account: AccountId
    order: Order
    fills: list[Fill] = field(default_factory=list)
    is_open: bool = True

    @property
    def qty(self) -> Decimal:
        return sum((fill.qty for fill in self.fills), ZERO)


def audit(lines: Iterable[LedgerLine]) -> LedgerAudit:
    """Judge a book by its own lines: `audit(read_ledger(path).lines)`."""
    orders: dict[tuple[AccountId, BrokerOrderId], _Seen] = {}
    refused: dict[tuple[AccountId, str], int] = defaultdict(int)
    for line in lines:
        _follow(line, orders, refused)
    groups: dict[tuple[AccountId, str], list[_Seen]] = defaultdict(list)
    others: list[ClientOrderId] = []
    for seen in orders.values():
        key = run_key(seen.order.client_order_id)
        if key is None:
            others.append(seen.order.client_order_id)
        else:
            groups[seen.account, key].append(seen)
    runs = tuple(_audit_run(key, group, refused) for (_, key), group in groups.items())
    wrong_way = {
        key
        for (_, key), group in groups.items()
        if any(_is_entry(s.order) == (s.order.side is Side.SELL) for s in group)
    }
    return LedgerAudit(
        orders=len(orders),
        fills=sum(len(seen.fills) for seen in orders.values()),
        runs=runs,
        doubles=tuple(why for run in runs for why in _doubles(run, wrong_way=run.key in wrong_way)),
        orphans=_orphans(orders.values(), runs),
        unbalanced_runs=tuple(run.key for run in runs if run.net_qty),
        other_orders=tuple(others),
        pnl_gross=sum((run.pnl_gross for run in runs if run.pnl_gross is not None), ZERO),
    )


def run_key(client_order_id: ClientOrderId) -> str | None:
    """What all orders of one run share: the first 12 of its 15 letters and digits. None: not one of ours."""
    is_ours = len(client_order_id) == 15 and client_order_id.startswith("SQ") and client_order_id[12] in "EX"
    return client_order_id[:12] if is_ours else None


def _is_entry(order: Order) -> bool:
    return order.client_order_id[12] == "E"


def _follow(
    line: LedgerLine, orders: dict[tuple[AccountId, BrokerOrderId], _Seen], refused: dict[tuple[AccountId, str], int]
) -> None:
    match line.record:
        case Placed() as placed:
            orders[line.account, placed.broker_order_id] = _Seen(account=line.account, order=placed.order)
        case Refused() as no:
            refused[line.account, run_key(no.order.client_order_id) or ""] += 1
        case Traded() as traded:
            seen = orders[line.account, traded.broker_order_id]
            seen.fills.append(traded.fill)
            seen.is_open = seen.qty < seen.order.qty
        case Cancelled() | Rejected() as over:
            orders[line.account, over.broker_order_id].is_open = False


def _audit_run(key: str, group: Sequence[_Seen], refused: Mapping[tuple[AccountId, str], int]) -> RunAudit:
    first = group[0]
    entries = [seen for seen in group if _is_entry(seen.order)]
    exits = [seen for seen in group if not _is_entry(seen.order)]
    entry_qty, entry_price = _filled(entries)
    exit_qty, exit_price = _filled(exits)
    return RunAudit(
        account=first.account,
        key=key,
        symbol=first.order.symbol,
        product=first.order.product,
        entries=len(entries),
        exits=len(exits),
        refused=refused.get((first.account, key), 0),
        executed_entries=sum(1 for seen in entries if seen.fills),
        executed_exits=sum(1 for seen in exits if seen.fills),
        entry_qty=entry_qty,
        exit_qty=exit_qty,
        entry_avg_price=entry_price,
        exit_avg_price=exit_price,
        still_open=sum(1 for seen in group if seen.is_open),
        pnl_gross=_pnl(entry_qty, entry_price, exit_qty, exit_price),
    )


def _filled(group: Sequence[_Seen]) -> tuple[Decimal, Decimal | None]:
    fills = [fill for seen in group for fill in seen.fills]
    qty = sum((fill.qty for fill in fills), ZERO)
    value = sum((fill.qty * fill.price for fill in fills), ZERO)
    return qty, value / qty if qty else None


def _pnl(
    entry_qty: Decimal, entry_price: Decimal | None, exit_qty: Decimal, exit_price: Decimal | None
) -> Decimal | None:
    if entry_price is None or exit_price is None:
        return None
    return min(entry_qty, exit_qty) * (exit_price - entry_price)


def _doubles(run: RunAudit, *, wrong_way: bool) -> Iterable[str]:
    if run.executed_entries > 1:
        yield f"{run.key}: double BUY, {run.executed_entries} entry orders executed ({run.entry_qty} {run.symbol})"
    if run.exit_qty > run.entry_qty:
        yield f"{run.key}: double SELL, sold {run.exit_qty} {run.symbol} of {run.entry_qty} bought"
    if wrong_way:
        yield f"{run.key}: an entry sold or an exit bought {run.symbol}"


def _orphans(orders: Iterable[_Seen], runs: Sequence[RunAudit]) -> tuple[OrphanPosition, ...]:
    net: dict[tuple[AccountId, Symbol, Product], Decimal] = defaultdict(Decimal)
    for seen in orders:
        signed = seen.qty if seen.order.side is Side.BUY else -seen.qty
        net[seen.account, seen.order.symbol, seen.order.product] += signed
    return tuple(
        OrphanPosition(
            account=account,
            symbol=symbol,
            product=product,
            net_qty=qty,
            runs=tuple(
                run.key
                for run in runs
                if run.net_qty and (run.account, run.symbol, run.product) == (account, symbol, product)
            ),
        )
        for (account, symbol, product), qty in net.items()
        if qty
    )
