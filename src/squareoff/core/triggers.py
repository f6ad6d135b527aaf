"""When something is due. Triggers are levels, not edges: `due` is asked at every tick that matters, every timer,
after every settled order and after a restart, and gives the same answer until it has been acted upon. So an event
that came while a lock was busy is not lost: it is simply still true.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from squareoff.core.events import Cause, Event, Signal, Source
from squareoff.core.machine import EXIT_OPEN, FINAL, State
from squareoff.core.orders import AttemptPhase, SlotPhase
from squareoff.core.run import Run, nothing_bought
from squareoff.core.types import Tick

MICROSECOND = timedelta(microseconds=1)
WATCH_ENDS_AFTER = timedelta(seconds=30)
"""So long after the close a BUY that was never heard of is still looked for: one that showed itself in the last moment
must be read before it is forgotten."""


def due(
    run: Run,
    now: datetime,
    last: Tick | None,
    source: Source = Source.ENGINE,
    *,
    as_of: datetime | None = None,
) -> Signal | None:
    """The most urgent thing that is due for `run` at `now`; None if there is nothing to do.

    `last` is the last traded price of its symbol, None if none is known; `as_of`, until when it is known to have held,
    None for when it was traded. Urgency: STOPLOSS, KILL, STOP, SELL, BUY.
    """
    if run.state is State.READY:
        return _entry_due(run, now, last, source, as_of)
    ask = _DUE.get(run.state)
    return None if ask is None else ask(run, now, last, source)


def _entry_due(run: Run, now: datetime, last: Tick | None, source: Source, as_of: datetime | None) -> Signal | None:
    plan = run.plan
    if run.wish is not None:
        return Signal(event=run.wish, at=now, source=source)
    if now < plan.buy_at:
        return None
    if now > plan.buy_until or now >= plan.closes_at:
        cause = Cause.STALE_PRICE if run.waited_for_price else Cause.BUY_MISSED
        return Signal(event=Event.SKIP, at=now, source=source, cause=cause)
    if not is_fresh(run, now, last, as_of):
        return None
    assert last is not None
    level = plan.stop_loss.price_if_known
    if level is not None and last.price <= level:
        return Signal(
            event=Event.SKIP,
            at=now,
            source=source,
            cause=Cause.STOP_LOSS_NOT_BELOW_PRICE,
            price=last.price,
            detail=f"price {last.price:f} <= stop-loss {level:f}",
        )
    return Signal(event=Event.BUY, at=now, source=source, price=last.price)


def is_fresh(run: Run, now: datetime, last: Tick | None, as_of: datetime | None = None) -> bool:
    """Whether a price is young enough to buy on, its greatest age included. `as_of` as in `due`."""
    return last is not None and now - (as_of or last.at) <= run.plan.fresh_for


def _open_entry_due(run: Run, now: datetime, last: Tick | None, source: Source) -> Signal | None:
    price = stop_hit(run, last)
    if price is not None and not (run.stop_seen is not None and run.entry_cancel_asked):
        return Signal(event=Event.STOPLOSS, at=now, source=source, price=price)
    if run.wish is not None and not run.entry_cancel_asked:
        return Signal(event=run.wish, at=now, source=source)
    if (ended := _entry_ended(run, now, source)) is not None:
        return ended
    if run.entry_cancel_asked:
        return None
    if now >= run.plan.sell_at:
        return Signal(event=Event.SELL, at=now, source=source)
    if now >= entry_open_until(run):
        return Signal(event=Event.ENTRY_EXPIRED, at=now, source=source)
    return _retry_due(run, now, source)


def _entry_ended(run: Run, now: datetime, source: Source) -> Signal | None:
    """What the entry came to, once no order of it can do anything any more. A level too: the news of its end may
    have been lost in a crash, and an entry that has bought must never be taken for one to be tried again."""
    if run.entry.is_live or (run.retry_at is None and not run.entry.is_over):
        return None
    if run.entry.filled_qty > 0:
        return Signal(event=Event.FILLED, at=now, source=source)
    try_waits = run.retry_at is not None and not run.entry_cancel_asked
    if try_waits and now <= run.plan.buy_until:
        return None
    out_of_time = Cause.RETRIES_EXHAUSTED if run.entry.tries else Cause.BUY_MISSED
    cause = out_of_time if try_waits else None
    current = run.entry.current
    detail = current.reason if current is not None else ""
    return Signal(event=nothing_bought(run), at=now, source=source, cause=cause, detail=detail)


def entry_open_until(run: Run) -> datetime:
    opened = run.entry_opened_at or run.plan.buy_at
    return opened + timedelta(seconds=run.plan.timing.entry_open_s)


_SELL: Final = Event.SELL
"""Python 3.11 works out a member of an enum anew each time it is named."""

_plain_of: dict[Event, Signal] = {}


def _plain(event: Event, at: datetime, source: Source) -> Signal:
    """One for all: ten thousand runs have the same SELL time, and a signal is a value."""
    last = _plain_of.get(event)
    if last is None or last.at is not at or last.source is not source:
        last = _plain_of[event] = Signal(event=event, at=at, source=source)
    return last


def _position_due(run: Run, now: datetime, last: Tick | None, source: Source) -> Signal | None:
    price = stop_hit(run, last)
    if price is not None:
        return Signal(event=Event.STOPLOSS, at=now, source=source, price=price)
    if run.wish is not None:
        return _plain(run.wish, now, source)
    if now >= run.plan.sell_at:
        return _plain(_SELL, now, source)
    return None


def _open_exit_due(run: Run, now: datetime, last: Tick | None, source: Source) -> Signal | None:
    if run.state is not State.SL_PENDING and (price := stop_hit(run, last)) is not None:
        return Signal(event=Event.STOPLOSS, at=now, source=source, price=price)
    if run.state is State.SELL_PENDING and run.wish is not None:
        return Signal(event=run.wish, at=now, source=source)
    if run.remaining_qty <= 0:
        return Signal(event=Event.FILLED, at=now, source=source)
    return _exit_retry_due(run, now, source)


def _late_due(run: Run, now: datetime, last: Tick | None, source: Source) -> Signal | None:
    if run.remaining_qty > 0 and (retry := _exit_retry_due(run, now, source)) is not None:
        return retry
    archivable = run.state is not State.STOPPED and run.is_closed
    if archivable and run.wish is not None:
        return Signal(event=run.wish, at=now, source=source)
    if (archivable and now >= run.plan.closes_at) or _watch_can_end(run, now):
        return Signal(event=Event.SESSION_CLOSED, at=now, source=source)
    return None


_DUE: dict[State, Callable[[Run, datetime, Tick | None, Source], Signal | None]] = {
    State.RUNNING: _open_entry_due,
    State.BOUGHT: _position_due,
    **dict.fromkeys(EXIT_OPEN, _open_exit_due),
    **dict.fromkeys(FINAL, _late_due),
}


def watched_until(run: Run) -> datetime:
    return run.plan.closes_at + WATCH_ENDS_AFTER


def _watch_can_end(run: Run, now: datetime) -> bool:
    """An entry that was never heard of ends with the session; one that is known to rest at the broker does not."""
    known = any(a.phase is AttemptPhase.OPEN for a in run.entry.attempts)
    return run.entry.phase is SlotPhase.WATCH and not known and now >= watched_until(run)


def _exit_retry_due(run: Run, now: datetime, source: Source) -> Signal | None:
    """A further try, when its pause is over, or at once when no pause was set: a send or its news was lost."""
    if run.exit.is_live:
        return None
    if run.retry_at is None:
        return Signal(event=Event.RETRY, at=now, source=source)
    return _retry_due(run, now, source)


def _retry_due(run: Run, now: datetime, source: Source) -> Signal | None:
    if run.retry_at is not None and now >= run.retry_at:
        return Signal(event=Event.RETRY, at=now, source=source)
    return None


def stop_hit(run: Run, last: Tick | None) -> Decimal | None:
    """The price that trips the stop-loss: latched, the lowest since the BUY was sent, or the last one. None: no."""
    if run.stop_seen is not None:
        return run.stop_seen.price
    level = run.stop_price
    if level is None:
        return None
    if run.lowest_price is not None and run.lowest_price <= level:
        return run.lowest_price
    if last is not None and last.price <= level:
        return last.price
    return None


def timers(run: Run) -> tuple[datetime, ...]:
    """The instants at which `due` must be asked for this run even if no tick comes."""
    plan = run.plan
    if run.state is State.READY:
        return (plan.buy_at, plan.buy_until + MICROSECOND)
    if run.state is State.RUNNING:
        times = [entry_open_until(run), plan.sell_at]
    elif run.state is State.BOUGHT:
        times = [plan.sell_at, plan.closes_at]
    elif run.state in EXIT_OPEN or run.state in FINAL - {State.STOPPED}:
        times = [plan.closes_at]
    else:
        times = []
    if run.entry.phase is SlotPhase.WATCH:
        times.append(watched_until(run))
    if run.retry_at is not None:
        times.append(run.retry_at)
    return tuple(times)
