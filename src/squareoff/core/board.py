"""The worker's memory: the latest snapshot of every active run, the last prices, and the stop index.

A plain data structure: it reads no clock and does no I/O. The index keeps the highest armed stop-loss of a symbol in
one cell, so that a tick above it costs one comparison whatever the number of strategies.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from sortedcontainers import SortedList

from squareoff.core.machine import WATCHES_STOP, State
from squareoff.core.orders import AttemptPhase, SlotPhase
from squareoff.core.run import Run, slot_of
from squareoff.core.types import ZERO, ClientOrderId, Exposure, Product, RunId, SlotName, Symbol, Tick

NO_STOP = Decimal("-Infinity")
NOTHING_BETWEEN = (ZERO, ZERO)


class SymbolCell:
    """What a tick of one symbol has to look at."""

    __slots__ = ("doubted", "eager", "heard_at", "high", "last", "low", "run_ids", "stops", "top")

    def __init__(self) -> None:
        self.last: Tick | None = None
        self.heard_at: datetime | None = None
        """When `last` was received (trading time); None: that is not known, as in a replay."""
        self.low, self.high = NOTHING_BETWEEN
        """A price strictly between is believed at once and trips nothing; so `low` is never below `top`."""
        self.doubted: tuple[Tick, str] | None = None
        """A price that is hard to believe, and why: held back until the next one says whether it was true."""
        self.top = NO_STOP
        """The highest armed stop-loss; a price above it trips none."""
        self.stops: SortedList = SortedList()
        """(stop price, run id), lowest first."""
        self.eager: set[RunId] = set()
        """Runs that want every tick: waiting for a fresh price, or buying with the stop-loss level not known yet."""
        self.run_ids: set[RunId] = set()


class Board:
    def __init__(self) -> None:
        self.runs: dict[RunId, Run] = {}
        self.cells: dict[Symbol, SymbolCell] = {}
        self._indexed: dict[RunId, tuple[Symbol, Decimal]] = {}
        self._order_owner: dict[ClientOrderId, RunId] = {}
        self._free: dict[tuple[Symbol, Product], Decimal] = {}
        self._free_of: dict[RunId, Decimal] = {}
        self.alive_at: datetime | None = None
        """The last sign of life of the feed, trading time; None: it gives none."""
        self.speaks_since: datetime | None = None
        """The first one of the connection there is, trading time; None: no connection speaks."""
        self.unsettled: set[RunId] = set()
        """Runs that are more than waiting: an order may be live, or something is held that no stop-loss watches."""

    def put(self, run: Run) -> None:
        """Make `run` the latest snapshot and keep the index in step with it."""
        run_id = run.plan.run_id
        before = self.runs.get(run_id)
        self.runs[run_id] = run
        self._count_free(run, before)
        if is_exposed(run) or may_be_live(run):
            self.unsettled.add(run_id)
        else:
            self.unsettled.discard(run_id)
        cell = self.cells.get(run.plan.symbol)
        if cell is None:
            cell = self.cells[run.plan.symbol] = SymbolCell()
        if not cell.run_ids:
            cell.low, cell.high = NOTHING_BETWEEN  # a new day has other limits
        cell.run_ids.add(run_id)
        self._index(run_id, run, cell)
        if wants_every_tick(run):
            cell.eager.add(run_id)
        else:
            cell.eager.discard(run_id)
        if before is None or before.entry.attempts is not run.entry.attempts:
            for attempt in run.entry.attempts:
                self._order_owner[attempt.client_order_id] = run_id
        if before is None or before.exit.attempts is not run.exit.attempts:
            for attempt in run.exit.attempts:
                self._order_owner[attempt.client_order_id] = run_id

    def _index(self, run_id: RunId, run: Run, cell: SymbolCell) -> None:
        armed = (
            (run.plan.symbol, run.stop_price)
            if run.stop_price is not None and run.stop_seen is None and run.state in WATCHES_STOP
            else None
        )
        known = self._indexed.get(run_id)
        if known == armed:
            return
        if known is not None:
            cell.stops.remove((known[1], run_id))
            del self._indexed[run_id]
        if armed is not None:
            cell.stops.add((armed[1], run_id))
            self._indexed[run_id] = armed
        _set_top(cell)

    def remove(self, run_id: RunId) -> None:
        """Forget an archived run."""
        run = self.runs.pop(run_id, None)
        if run is None:
            return
        self._free[run.plan.symbol, run.plan.product] -= self._free_of.pop(run_id)
        self.unsettled.discard(run_id)
        cell = self.cells[run.plan.symbol]
        known = self._indexed.pop(run_id, None)
        if known is not None:
            cell.stops.remove((known[1], run_id))
            _set_top(cell)
        cell.eager.discard(run_id)
        cell.run_ids.discard(run_id)
        for slot in (run.entry, run.exit):
            for attempt in slot.attempts:
                self._order_owner.pop(attempt.client_order_id, None)

    def _count_free(self, run: Run, before: Run | None) -> None:
        """Kept as a sum: an exit must not have to look at every run that shares its position."""
        unchanged = (
            before is not None
            and before.entry is run.entry
            and before.exit is run.exit
            and before.outside_qty is run.outside_qty
        )
        if unchanged:
            return
        free = run.remaining_qty - out_qty(run)
        key = (run.plan.symbol, run.plan.product)
        self._free[key] = self._free.get(key, ZERO) + free - self._free_of.get(run.plan.run_id, ZERO)
        self._free_of[run.plan.run_id] = free

    def free_qty(self, symbol: Symbol, product: Product) -> Decimal:
        """What our fills say is held in this position, less what our exits have out already."""
        return self._free.get((symbol, product), ZERO)

    def tripped(self, symbol: Symbol, price: Decimal) -> list[RunId]:
        """The runs whose armed stop-loss is at or above `price`, highest first."""
        cell = self.cells[symbol]
        return [run_id for _, run_id in cell.stops.irange(minimum=(price,), reverse=True)]

    def last(self, symbol: Symbol) -> Tick | None:
        cell = self.cells.get(symbol)
        return cell.last if cell is not None else None

    def feed_ends(self) -> None:
        """What the next connection has not told yet may have changed meanwhile."""
        self.speaks_since = None

    def feed_lives(self, now: datetime) -> None:
        """Something came from the feed, a tick or not."""
        self.alive_at = now
        if self.speaks_since is None:
            self.speaks_since = now

    def as_of(self, symbol: Symbol) -> datetime | None:
        """Until when the last price is known to have held: a living feed that has told a symbol tells its changes.

        None: no price is known."""
        cell = self.cells.get(symbol)
        if cell is None or cell.last is None:
            return None
        if cell.heard_at is None:
            return cell.last.at
        since = self.speaks_since
        tells_it = since is not None and cell.heard_at >= since and cell.doubted is None
        return self.alive_at if tells_it else cell.heard_at

    def owner_of(self, order: ClientOrderId) -> RunId | None:
        return self._order_owner.get(order)

    def sharing(self, symbol: Symbol, product: Product) -> Iterator[Run]:
        """Every run whose shares the broker nets into one position."""
        cell = self.cells.get(symbol)
        for run_id in cell.run_ids if cell is not None else ():
            run = self.runs[run_id]
            if run.plan.product is product:
                yield run


def _set_top(cell: SymbolCell) -> None:
    top = cell.stops[-1][0] if cell.stops else NO_STOP
    if top != cell.top:
        cell.top = top
        cell.low, cell.high = NOTHING_BETWEEN  # the next tick is looked at closely


def wants_every_tick(run: Run) -> bool:
    if run.state is State.READY:
        return run.waited_for_price
    return run.state is State.RUNNING and run.stop_price is None


def is_exposed(run: Run) -> bool:
    """Something is held or may be, and the run is not simply waiting for its exit to come due."""
    if run.state is State.BOUGHT and not run.exit.is_live:
        return False
    return run.exposure in (Exposure.LONG, Exposure.UNKNOWN)


def may_be_live(run: Run) -> bool:
    """Whether an order of it may be in the broker's book now, or turn up there."""
    if run.entry.phase is SlotPhase.WATCH or run.state is State.RUNNING:
        return True
    return any(
        attempt.phase in (AttemptPhase.UNKNOWN, AttemptPhase.OPEN)
        for slot in (run.entry, run.exit)
        for attempt in slot.attempts
    )


def exit_qty(run: Run, board: Board, *, missing_qty: Decimal) -> Decimal:
    """Never more than is there: how much of `run` may be sold now.

    `missing_qty` is what the broker does not hold of that which our fills say, with no order of ours to explain it.
    It is counted so, and not as the broker's position itself, because our own fills do not change it. What other
    runs' exits have out already is reserved.
    """
    there = board.free_qty(run.plan.symbol, run.plan.product) + out_qty(run) - missing_qty
    return max(min(run.remaining_qty, there), ZERO)


def out_qty(run: Run) -> Decimal:
    """The quantity of this run's exits that is, or may be, on its way or resting at the broker."""
    return sum(
        (a.qty - a.filled_qty for a in run.slot(SlotName.EXIT).attempts if a.phase in ("unknown", "open")),
        Decimal(0),
    )


__all__ = [
    "NOTHING_BETWEEN",
    "NO_STOP",
    "Board",
    "SymbolCell",
    "exit_qty",
    "is_exposed",
    "may_be_live",
    "out_qty",
    "slot_of",
    "wants_every_tick",
]
