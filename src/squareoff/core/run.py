"""One session of one strategy, as an immutable snapshot; and how an event changes it.

`advance` is the only place where a run moves: it asks the table, then carries the facts over. The engine does the
effects. The same two functions run in live, paper, replay and simulation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from squareoff.core.events import Cause, Event, Signal
from squareoff.core.machine import FINAL, Effect, Go, Never, State, Stay, decide
from squareoff.core.orders import AttemptPhase, Slot, SlotPhase, merge_report
from squareoff.core.strategy import Plan
from squareoff.core.types import (
    ZERO,
    ClientOrderId,
    Exposure,
    OrderReport,
    OrderStatus,
    SlotName,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StopSeen:
    """The latch of a stop-loss: once seen, no recovery of the price takes it back."""

    price: Decimal
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Everything known of one run. `version` grows with every change and orders the copies in SQL and Redis."""

    plan: Plan
    key: str
    """The letters all its order ids share (`orders.order_key`)."""
    state: State = State.CREATED
    outcome: State | None = None
    """The first final state; archiving to `stopped` does not overwrite it. None while the run goes on."""
    cause: Cause | None = None
    detail: str = ""
    entry: Slot = Slot()
    exit: Slot = Slot()
    stop_price: Decimal | None = None
    """None until known: percent and points need the average fill."""
    stop_seen: StopSeen | None = None
    lowest_price: Decimal | None = None
    """Lowest price since the BUY was sent, kept while the stop-loss level is not known yet."""
    wish: Event | None = None
    """The latest accepted wish of the user that is not yet fulfilled: STOP, KILL or HAND_OVER."""
    waited_for_price: bool = False
    """At BUY time no fresh price was known; the first one within the grace decides."""
    entry_opened_at: datetime | None = None
    entry_cancel_asked: bool = False
    retry_at: datetime | None = None
    """The open slot may be tried again from this instant on; None: no try is waiting."""
    outside_qty: Decimal = ZERO
    """Bought by us, sold or taken over by other hands."""
    handed_over: bool = False
    version: int = 0

    @property
    def remaining_qty(self) -> Decimal:
        """What our own fills say is still held."""
        return self.entry.filled_qty - self.exit.filled_qty - self.outside_qty

    @property
    def exposure(self) -> Exposure:
        if self.handed_over:
            return Exposure.HANDED_OVER
        if self.remaining_qty > 0:
            return Exposure.LONG
        if self.entry.phase is SlotPhase.WATCH or self.entry.is_live:
            return Exposure.UNKNOWN
        if self.entry.phase is SlotPhase.INTENT and self.state not in FINAL:
            return Exposure.UNKNOWN
        return Exposure.FLAT

    @property
    def is_closed(self) -> bool:
        """Final, flat or handed over, every order over, no late order to be watched for."""
        return (
            self.state in FINAL
            and self.exposure in (Exposure.FLAT, Exposure.HANDED_OVER)
            and not self.entry.is_live
            and not self.exit.is_live
        )

    @property
    def pnl_gross(self) -> Decimal | None:
        """Money made by what was bought and sold again, before charges; None until an exit filled."""
        bought, sold = self.entry.avg_fill_price, self.exit.avg_fill_price
        if bought is None or sold is None:
            return None
        return (sold - bought) * self.exit.filled_qty

    def slot(self, name: SlotName) -> Slot:
        return self.entry if name is SlotName.ENTRY else self.exit

    def with_slot(self, name: SlotName, slot: Slot) -> Run:
        return replace(self, entry=slot) if name is SlotName.ENTRY else replace(self, exit=slot)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What an event came to: the run afterwards, what to do, and for "nothing" the reason."""

    run: Run
    signal: Signal
    effects: tuple[Effect, ...] = ()
    reason: str = ""
    impossible: bool = False

    @property
    def moved(self) -> bool:
        return not self.reason


_CAUSE_OF_EVENT: dict[Event, Cause] = {
    Event.SELL: Cause.SELL_TIME,
    Event.STOPLOSS: Cause.STOP_LOSS,
    Event.STOP: Cause.STOPPED_BY_USER,
    Event.CALLED_OFF: Cause.STOPPED_BY_USER,
    Event.KILL: Cause.KILLED,
    Event.HAND_OVER: Cause.HANDED_OVER,
    Event.UNFILLED: Cause.ENTRY_UNFILLED,
    Event.REFUSED: Cause.ENTRY_REFUSED,
    Event.NOT_FOUND: Cause.OUTCOME_UNKNOWN,
    Event.LATE_FILL: Cause.LATE_FILL,
    Event.CLOSED_OUTSIDE: Cause.CLOSED_OUTSIDE,
    Event.SESSION_CLOSED: Cause.SESSION_CLOSED,
}


def advance(run: Run, signal: Signal) -> Decision:
    """Ask the table what `signal` does to `run`, and carry it out on the snapshot."""
    cell = decide(run.state, signal.event, closed=run.is_closed)
    if isinstance(cell, Never):
        return Decision(run=run, signal=signal, reason=cell.reason, impossible=True)
    if isinstance(cell, Stay):
        return Decision(run=run, signal=signal, effects=cell.effects, reason=cell.reason)
    return Decision(run=_moved(run, signal, cell), signal=signal, effects=cell.effects)


def _moved(run: Run, signal: Signal, cell: Go) -> Run:
    event, was = signal.event, run.state
    changes: dict[str, Any] = {"state": cell.to, "version": run.version + 1}
    if cell.to is not was or event is Event.LATE_FILL:
        changes["cause"] = signal.cause or _CAUSE_OF_EVENT.get(event)
        changes["detail"] = signal.detail
    if cell.to in EXIT_CAUSED_BY and was in _KEEPS_CAUSE and cell.to in FINAL:
        # sold, exited_by_sl, stopped: the exit's own cause is the run's cause, not the last fill
        changes["cause"], changes["detail"] = run.cause, run.detail
    if cell.to in FINAL and run.outcome is None:
        changes["outcome"] = cell.to
    if event is Event.STOPLOSS and run.stop_seen is None and signal.price is not None:
        changes["stop_seen"] = StopSeen(price=signal.price, at=signal.at)
    if event in (Event.STOP, Event.KILL, Event.HAND_OVER):
        changes["wish"] = event
    if event is Event.HAND_OVER:
        changes["handed_over"] = True
    if Effect.CANCEL_ENTRY in cell.effects:
        changes["entry_cancel_asked"] = True
        changes["retry_at"] = None
    if Effect.VOID_ENTRY in cell.effects:
        changes["entry"] = replace(run.entry, phase=SlotPhase.VOID)
    if Effect.WATCH_LATE in cell.effects and run.entry.is_live:
        changes["entry"] = replace(run.entry, phase=SlotPhase.WATCH)
    if event is Event.BUY:
        changes["entry"] = run.entry.with_next_attempt(run.key, SlotName.ENTRY, run.plan.quantity)
        changes["entry_opened_at"] = signal.at
        changes["stop_price"] = run.plan.stop_loss.price_if_known
    elif was is State.RUNNING and event is Event.FILLED:
        changes.update(_bought(run))
    elif was is State.RUNNING and event in (Event.UNFILLED, Event.CALLED_OFF, Event.REFUSED):
        changes["entry"] = replace(run.entry, phase=SlotPhase.SETTLED)
        changes["retry_at"] = None
    elif event is Event.FILLED:
        changes["exit"] = replace(run.exit, phase=SlotPhase.SETTLED)
        changes["retry_at"] = None
    elif event is Event.RETRY:
        changes["retry_at"] = None
        changes.update(_licensed_again(run))
    elif event is Event.NOT_FOUND and was is not State.RUNNING:
        # same attempt, sent again: only a terminal answer of the broker makes room for another id
        changes["exit"] = run.exit.with_current(phase=AttemptPhase.LICENSED)
    elif event is Event.LATE_FILL:
        changes.update(_late_fill(run))
    elif event is Event.CLOSED_OUTSIDE:
        changes["outside_qty"] = run.outside_qty + run.remaining_qty
        changes["exit"] = replace(run.exit, phase=SlotPhase.SETTLED)
        changes["retry_at"] = None
    elif event is Event.SESSION_CLOSED and run.entry.phase is SlotPhase.WATCH:
        changes["entry"] = replace(run.entry, phase=SlotPhase.SETTLED)
    return replace(run, **changes)


EXIT_CAUSED_BY = frozenset({State.SOLD, State.EXITED_BY_SL, State.STOPPED})
_KEEPS_CAUSE = frozenset(
    {State.SELL_PENDING, State.SL_PENDING, State.STOP_PENDING, State.SOLD, State.EXITED_BY_SL, State.FAILED}
)


def _bought(run: Run) -> dict[str, Any]:
    """The entry is settled: the position exists, its stop-loss has a price, and its exit is licensed already,
    so that a stop can leave without waiting for a disk."""
    average = run.entry.avg_fill_price
    assert average is not None, "FILLED means a filled quantity above zero"
    entry = replace(run.entry, phase=SlotPhase.SETTLED)
    exit_slot = replace(run.exit, stamp=run.entry.stamp)
    return {
        "entry": entry,
        "exit": exit_slot.with_next_attempt(run.key, SlotName.EXIT, run.entry.filled_qty),
        "stop_price": run.plan.stop_loss.price_for(average, run.plan.tick_size),
        "retry_at": None,
        "entry_cancel_asked": False,
    }


def _licensed_again(run: Run) -> dict[str, Any]:
    """A further try: the same attempt if it never left, else the next one for what remains."""
    name = SlotName.ENTRY if run.state is State.RUNNING else SlotName.EXIT
    slot = run.slot(name)
    current = slot.current
    if current is not None and current.phase is not AttemptPhase.DONE:
        return {}
    wanted = run.plan.quantity if name is SlotName.ENTRY else run.remaining_qty
    if wanted <= 0:
        return {}
    return {str(name): slot.with_next_attempt(run.key, name, wanted)}


def _late_fill(run: Run) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if run.entry.phase in (SlotPhase.WATCH, SlotPhase.VOID) and not run.entry.is_live:
        changes["entry"] = replace(run.entry, phase=SlotPhase.SETTLED)
    current = run.exit.current
    if run.remaining_qty > 0 and (current is None or current.phase is AttemptPhase.DONE):
        changes["exit"] = run.exit.with_next_attempt(run.key, SlotName.EXIT, run.remaining_qty)
    average = run.entry.avg_fill_price
    if average is not None:
        changes["stop_price"] = run.plan.stop_loss.price_for(average, run.plan.tick_size)
    return changes


def slot_of(run: Run, order: ClientOrderId) -> tuple[SlotName, int] | None:
    """Which slot and attempt an order id belongs to; None if it is not one of this run's."""
    for name in (SlotName.ENTRY, SlotName.EXIT):
        for index, attempt in enumerate(run.slot(name).attempts):
            if attempt.client_order_id == order:
                return name, index
    return None


def absorb(run: Run, report: OrderReport) -> tuple[Run, Event | None]:
    """Take the broker's word on an order into the snapshot. Returns what it means, None for nothing new."""
    place = slot_of(run, report.client_order_id)
    if place is None:
        return run, None
    name, index = place
    slot = run.slot(name)
    before = slot.attempts[index]
    after = merge_report(before, report)
    if after == before:
        return run, None
    attempts = (*slot.attempts[:index], after, *slot.attempts[index + 1 :])
    known = run.with_slot(name, replace(slot, attempts=attempts))
    known = replace(known, version=run.version + 1)
    new_fills = len(after.fills) > len(before.fills)
    if name is SlotName.ENTRY:
        return known, _entry_news(known, report, new_fills=new_fills)
    return known, _exit_news(known, report, new_fills=new_fills)


def _entry_news(run: Run, report: OrderReport, *, new_fills: bool) -> Event | None:
    if run.state is not State.RUNNING:
        return Event.LATE_FILL if new_fills else None
    if not report.status.is_terminal:
        return Event.PART_FILLED if new_fills else Event.ACCEPTED
    if run.entry.filled_qty > 0:
        return Event.FILLED
    if report.status is OrderStatus.REFUSED:
        return Event.REFUSED
    return nothing_bought(run)


def nothing_bought(run: Run) -> Event:
    """How an entry ends that bought nothing: called off if the user asked, else unfilled."""
    return Event.CALLED_OFF if run.wish in (Event.STOP, Event.KILL) else Event.UNFILLED


def _exit_news(run: Run, report: OrderReport, *, new_fills: bool) -> Event | None:
    if run.remaining_qty <= 0:
        return Event.FILLED
    if report.status.is_terminal:
        return Event.REFUSED if report.status is OrderStatus.REFUSED else Event.RETRY
    return Event.PART_FILLED if new_fills else Event.ACCEPTED
