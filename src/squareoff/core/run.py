"""One session of one strategy, as an immutable snapshot; and how an event changes it.

`advance` is the only place where a run moves: it asks the table, then carries the facts over. The engine does the
effects. The same two functions run in live, paper, replay and simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from squareoff.core.events import Cause, Event, Signal
from squareoff.core.machine import EXIT_OPEN, FINAL, Effect, Fact, Go, Never, NewRun, State, Stay, decide
from squareoff.core.orders import (
    MAX_TRIES,
    RESCUE_CLOSED_S,
    RESCUE_EVERY_S,
    Attempt,
    AttemptPhase,
    Slot,
    SlotPhase,
    merge_report,
)
from squareoff.core.strategy import Plan
from squareoff.core.types import (
    ZERO,
    ClientOrderId,
    Exposure,
    OrderReport,
    OrderStatus,
    SlotName,
)
from squareoff.core.values import replace


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
    entry: Slot = field(default_factory=Slot)
    exit: Slot = field(default_factory=Slot)
    stop_price: Decimal | None = None
    """None until known: percent and points need the average fill."""
    stop_seen: StopSeen | None = None
    lowest_price: Decimal | None = None
    """Lowest price since the BUY was sent, kept while the stop-loss level is not known yet."""
    wish: Event | None = None
    """STOP or KILL, accepted and not yet fulfilled. KILL is not taken back by a later STOP."""
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
        remaining = self.remaining_qty
        if remaining < 0 or (remaining > 0 and self.exit.phase is SlotPhase.WATCH):
            return Exposure.UNKNOWN  # more was sold than we know of, or a SELL was never heard of again
        if remaining > 0:
            return Exposure.LONG
        if self.entry.phase is SlotPhase.WATCH or self.entry.is_live:
            return Exposure.UNKNOWN
        if self.entry.phase is SlotPhase.INTENT and not self.entry.is_over:
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
            and SlotPhase.WATCH not in (self.entry.phase, self.exit.phase)
        )

    @property
    def pnl_gross(self) -> Decimal | None:
        """Money made by what was bought and sold again, before charges; None until an exit filled."""
        bought, sold = self.entry.avg_fill_price, self.exit.avg_fill_price
        if bought is None or sold is None:
            return None
        return (sold - bought) * self.exit.filled_qty

    def holds(self, fact: Fact) -> bool:
        """Whether a fact that a cell of the table asks for is true of this run."""
        return _FACTS[fact](self)

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


_FACTS: dict[Fact, Callable[[Run], bool]] = {
    Fact.CLOSED: lambda run: run.is_closed,
    Fact.STOP_SEEN: lambda run: run.stop_seen is not None,
    Fact.MAY_BUY_AGAIN: lambda run: (
        not run.entry.is_live
        and not run.entry.filled_qty
        and not run.entry_cancel_asked
        and run.stop_seen is None
        and run.wish is None
    ),
    Fact.BOUGHT_SOME: lambda run: run.entry.filled_qty > 0,
    Fact.SOLD_SOME: lambda run: run.exit.filled_qty > 0,
    Fact.NOTHING_LEFT: lambda run: run.remaining_qty <= 0,
    Fact.NO_ORDER_OUT: lambda run: not run.entry.is_live and not run.exit.is_live,
    Fact.NO_SELL_OUT: lambda run: not run.exit.is_live,
    Fact.NO_SELL_EXPECTED: lambda run: not run.exit.is_live or run.exit.phase is SlotPhase.WATCH,
}


def advance(run: Run, signal: Signal) -> Decision:
    """Ask the table what `signal` does to `run`, and carry it out on the snapshot."""
    if signal.event is Event.SESSION_CLOSED:
        run = _watch_over(run)  # before the table is asked: it may be what keeps the run from being closed
    cell = decide(run.state, signal.event, run.holds)
    if isinstance(cell, Never):
        return Decision(run=run, signal=signal, reason=cell.reason, impossible=True)
    if isinstance(cell, Stay):
        return Decision(run=run, signal=signal, effects=cell.effects, reason=cell.reason)
    return Decision(run=_moved(run, signal, cell), signal=signal, effects=cell.effects)


def _moved(run: Run, signal: Signal, cell: Go) -> Run:
    """`run` after the transition: where it is and why, then what the event tells, then what the effects need."""
    to = State.STOPPED if isinstance(cell, NewRun) else cell.to
    if _tells_why(run, signal.event, to):
        cause = _cause_of(run, signal, to)
        moved = replace(run, state=to, cause=cause, detail=signal.detail, version=run.version + 1)
    else:
        moved = replace(run, state=to, version=run.version + 1)
    if to in FINAL and run.outcome is None:
        moved = replace(moved, outcome=to)
    if run.state is State.RUNNING and to is not State.RUNNING:
        moved = _entry_settled(moved, signal)
    if (learn := _FACTS_OF.get(signal.event)) is not None:
        moved = learn(moved, signal)
    for effect in cell.effects:
        if (prepare := _PREPARE.get(effect)) is not None:
            moved = prepare(moved, signal)
    return with_wish(moved, signal.event)


# ---------------------------------------------------------------------- where it is, and why


def _tells_why(run: Run, event: Event, to: State) -> bool:
    """Whether the run's cause is now this event. The fill that ends an exit, and archiving, tell nothing new."""
    if run.state in FINAL:
        return event is Event.LATE_FILL
    if run.state in EXIT_OPEN and event is Event.FILLED:
        return to is State.EXITED_BY_SL and run.state is not State.SL_PENDING
    return to is not run.state


_CAUSE_OF_EVENT: dict[Event, Cause] = {
    Event.SELL: Cause.SELL_TIME,
    Event.STOP: Cause.STOPPED_BY_USER,
    Event.KILL: Cause.KILLED,
    Event.HAND_OVER: Cause.HANDED_OVER,
    Event.UNFILLED: Cause.ENTRY_UNFILLED,
    Event.REFUSED: Cause.EXIT_REFUSED,
    Event.NOT_FOUND: Cause.OUTCOME_UNKNOWN,
    Event.LATE_FILL: Cause.LATE_FILL,
    Event.CLOSED_OUTSIDE: Cause.CLOSED_OUTSIDE,
}

_CAUSE_WHILE: dict[tuple[State, Event], Cause] = {
    (State.READY, Event.SESSION_CLOSED): Cause.BUY_MISSED,
    (State.RUNNING, Event.REFUSED): Cause.ENTRY_REFUSED,
}


def _cause_of(run: Run, signal: Signal, to: State) -> Cause | None:
    event = signal.event
    if to is State.BOUGHT:
        return None  # nothing is wrong, however the entry came to its end
    if to is State.SL_PENDING or (to is State.EXITED_BY_SL and event is Event.FILLED):
        return Cause.STOP_LOSS  # it overrides: a SELL or STOP that came after it is not the reason
    if event is Event.CALLED_OFF:
        return Cause.KILLED if run.wish is Event.KILL else Cause.STOPPED_BY_USER
    return signal.cause or _CAUSE_WHILE.get((run.state, event)) or _CAUSE_OF_EVENT.get(event)


def with_wish(run: Run, event: Event) -> Run:
    """Keep what the user asked for until the run is over. A later STOP does not take back the kill switch."""
    if run.state is State.STOPPED and run.is_closed:
        return replace(run, wish=None)
    if event is Event.KILL or (event is Event.STOP and run.wish is not Event.KILL):
        return replace(run, wish=event)
    return run


# ---------------------------------------------------------------------- what an event tells of the facts


def _entry_settled(run: Run, signal: Signal) -> Run:
    """The entry is decided. What may still be live of it is watched; what it bought is a position."""
    entry = replace(run.entry, phase=SlotPhase.WATCH if run.entry.is_live else SlotPhase.SETTLED)
    run = replace(run, entry=entry, retry_at=None, entry_cancel_asked=False)
    if not entry.filled_qty:  # then no exit left either, also where a reboot made that doubtful
        return replace(run, exit=run.exit.with_unknown_over())
    run = _exit_licensed(_with_stop_price(run), signal)  # now, so that a stop can leave without waiting for a disk
    low, level = run.lowest_price, run.stop_price
    if run.stop_seen is None and low is not None and level is not None and low <= level:
        run = replace(run, stop_seen=StopSeen(price=low, at=signal.at))
    return replace(run, lowest_price=None)


def _with_stop_price(run: Run) -> Run:
    average = run.entry.avg_fill_price
    if average is None:
        return run
    return replace(run, stop_price=run.plan.stop_loss.price_for(average, run.plan.tick_size))


def _buy(run: Run, signal: Signal) -> Run:
    return replace(run, entry_opened_at=signal.at, stop_price=run.plan.stop_loss.price_if_known)


def _stop_loss(run: Run, signal: Signal) -> Run:
    if run.stop_seen is not None or signal.price is None:
        return run
    return replace(run, stop_seen=StopSeen(price=signal.price, at=signal.at))


def _hand_over(run: Run, _: Signal) -> Run:
    return replace(_exit_ended(run), handed_over=True)


def _retry(run: Run, _: Signal) -> Run:
    return replace(run, retry_at=None)


def _exit_filled(run: Run, _: Signal) -> Run:
    return run if run.state is State.BOUGHT else _exit_ended(run)


def _exit_ended(run: Run, _: Signal | None = None) -> Run:
    """Nothing of ours is left to sell: what no fill of ours explains is in other hands."""
    exit_slot = replace(run.exit.with_unknown_over(), phase=SlotPhase.SETTLED)
    return replace(run, exit=exit_slot, outside_qty=run.outside_qty + max(run.remaining_qty, ZERO), retry_at=None)


def _not_found(run: Run, signal: Signal) -> Run:
    """An exit proven not placed is the same attempt again: only a terminal answer makes room for another id. One that
    was acknowledged once and is gone from the broker's book (a new day) is over."""
    current = run.exit.current
    if current is None or current.phase is not AttemptPhase.UNKNOWN:
        return run
    if signal.order is not None and signal.order != current.client_order_id:
        return run
    phase = AttemptPhase.LICENSED if current.broker_order_id is None else AttemptPhase.DONE
    return replace(run, exit=replace(run.exit.with_current(phase=phase), phase=SlotPhase.INTENT))


def _late_order(run: Run, _: Signal) -> Run:
    return replace(run, entry=replace(run.entry, phase=SlotPhase.WATCH)) if run.entry.is_live else run


def _late_fill(run: Run, signal: Signal) -> Run:
    if run.handed_over:  # the position is the user's, and so is what came late
        return replace(run, outside_qty=run.outside_qty + run.remaining_qty)
    return _exit_licensed(_with_stop_price(run), signal)


_FACTS_OF: dict[Event, Callable[[Run, Signal], Run]] = {
    Event.BUY: _buy,
    Event.STOPLOSS: _stop_loss,
    Event.HAND_OVER: _hand_over,
    Event.RETRY: _retry,
    Event.FILLED: _exit_filled,
    Event.NOT_FOUND: _not_found,
    Event.LATE_ORDER: _late_order,
    Event.LATE_FILL: _late_fill,
    Event.CLOSED_OUTSIDE: _exit_ended,
}


# ---------------------------------------------------------------------- what an effect needs before it is done


def _entry_licensed(run: Run, _: Signal) -> Run:
    """A BUY to send: the attempt that never left, or one more when all earlier ones are over."""
    if not run.entry.is_over:
        return run
    return replace(run, entry=run.entry.with_next_attempt(run.key, SlotName.ENTRY, run.plan.quantity))


def _exit_licensed(run: Run, _: Signal) -> Run:
    """A SELL to send for what remains: the attempt that never left, or one more when all earlier ones are over."""
    remaining, current = run.remaining_qty, run.exit.current
    if remaining <= 0 or run.exit.is_live:
        return run
    if current is not None and current.phase is AttemptPhase.LICENSED:
        if current.qty == remaining and run.exit.phase is SlotPhase.INTENT:
            return run
        return replace(run, exit=replace(run.exit.with_current(qty=remaining), phase=SlotPhase.INTENT))
    exit_slot = run.exit if run.exit.stamp is not None else replace(run.exit, stamp=run.entry.stamp)
    return replace(run, exit=exit_slot.with_next_attempt(run.key, SlotName.EXIT, remaining))


def _entry_void(run: Run, _: Signal) -> Run:
    return replace(run, entry=replace(run.entry, phase=SlotPhase.VOID))


def _cancel_asked(run: Run, _: Signal) -> Run:
    return replace(run, entry_cancel_asked=True)


def _rescued(run: Run, signal: Signal) -> Run:
    """Getting out goes on: at once, or after a pause if the exit was tried already."""
    if run.remaining_qty <= 0:
        return run
    pause = timedelta(seconds=rescue_pause_s(run, signal.at) if run.exit.tries else 0)
    at = signal.at + pause if run.retry_at is None else min(signal.at + pause, run.retry_at)
    return replace(_exit_licensed(run, signal), retry_at=at)


def rescue_pause_s(run: Run, now: datetime) -> float:
    """Real seconds until the rescue's next try, should this one fail."""
    return RESCUE_EVERY_S if now < run.plan.closes_at else RESCUE_CLOSED_S


def _upgraded(run: Run, signal: Signal) -> Run:
    """A more urgent reason does not wait for the pause of an earlier one, nor for an order that rests at its limit."""
    current = run.exit.current
    if current is not None and current.phase is AttemptPhase.OPEN and current.limit_price is not None:
        run = replace(run, exit=run.exit.with_current(cancel_asked=True))
    return run if run.retry_at is None else replace(run, retry_at=signal.at)


_PREPARE: dict[Effect, Callable[[Run, Signal], Run]] = {
    Effect.SEND_ENTRY: _entry_licensed,
    Effect.VOID_ENTRY: _entry_void,
    Effect.CANCEL_ENTRY: _cancel_asked,
    Effect.SEND_EXIT: _exit_licensed,
    Effect.UPGRADE_EXIT: _upgraded,
    Effect.RESCUE: _rescued,
}


def _watch_over(run: Run) -> Run:
    """The session is over, and with it every order that was never heard of. One known to rest stays watched."""
    if run.entry.phase is not SlotPhase.WATCH:
        return run
    entry = run.entry.with_unknown_over()
    if not entry.is_live:
        entry = replace(entry, phase=SlotPhase.SETTLED)
    return replace(run, entry=entry, version=run.version + 1)


# ---------------------------------------------------------------------- news of orders


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
    now_over = after.phase is AttemptPhase.DONE and before.phase is not AttemptPhase.DONE
    new_fills = len(after.fills) > len(before.fills)
    slot = replace(slot, attempts=(*slot.attempts[:index], after, *slot.attempts[index + 1 :]))
    if now_over and not after.fills and not before.cancel_asked:
        slot = replace(slot, tries=slot.tries + 1)
    if slot.phase is SlotPhase.WATCH and slot.is_over:
        slot = replace(slot, phase=SlotPhase.SETTLED)  # now it is known
    known = _with_outside_explained(replace(run.with_slot(name, slot), version=run.version + 1))
    if not new_fills and after.phase is before.phase:
        return known, None
    if name is SlotName.ENTRY:
        return known, _entry_news(known, after, report, new_fills=new_fills)
    return known, _exit_news(known, after, new_fills=new_fills)


def _with_outside_explained(run: Run) -> Run:
    """A fill of ours is proof, "closed outside" was a guess: what the fill explains was not outside."""
    if run.remaining_qty >= 0 or run.handed_over:
        return run
    return replace(run, outside_qty=max(run.outside_qty + run.remaining_qty, ZERO))


def _entry_news(run: Run, attempt: Attempt, report: OrderReport, *, new_fills: bool) -> Event | None:
    is_open = attempt.phase is AttemptPhase.OPEN
    if run.state is not State.RUNNING:
        if new_fills:
            return Event.LATE_FILL
        return Event.LATE_ORDER if is_open else None
    if is_open:
        return Event.PART_FILLED if new_fills else Event.ACCEPTED
    if run.entry.filled_qty > 0:
        return Event.FILLED
    if report.status is OrderStatus.REFUSED:
        return Event.REFUSED
    return nothing_bought(run)


def nothing_bought(run: Run) -> Event:
    """How an entry ends that bought nothing: called off if the user asked, else unfilled."""
    return Event.CALLED_OFF if run.wish in (Event.STOP, Event.KILL) else Event.UNFILLED


def _exit_news(run: Run, attempt: Attempt, *, new_fills: bool) -> Event:
    if run.remaining_qty <= 0:
        return Event.FILLED
    if attempt.phase is AttemptPhase.OPEN:
        return Event.PART_FILLED if new_fills else Event.ACCEPTED
    # over, and something is left: a further try now, or later at the pace of a rescue
    if attempt.cancel_asked:
        return Event.RETRY
    return Event.RETRY if run.exit.tries < MAX_TRIES and run.state not in FINAL else Event.REFUSED


def with_time_moved(run: Run, by: timedelta) -> Run:
    """When trading time is set anew: a pause that runs goes on as long as it would have, no longer and no shorter."""
    if run.retry_at is None and run.entry_opened_at is None:
        return run
    return replace(
        run,
        retry_at=None if run.retry_at is None else run.retry_at + by,
        entry_opened_at=None if run.entry_opened_at is None else run.entry_opened_at + by,
        version=run.version + 1,
    )
