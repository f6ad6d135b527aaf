"""What became of one send, and what follows from it. Outcome unknown is its own case everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from squareoff.core.events import Cause, Event, Signal, Source
from squareoff.core.machine import FINAL
from squareoff.core.orders import MAX_TRIES, RETRY_DELAYS_S, AttemptPhase
from squareoff.core.run import Run, absorb, nothing_bought, rescue_pause_s
from squareoff.core.types import OrderReport, SlotName
from squareoff.core.values import replace


@dataclass(frozen=True, slots=True)
class Answered:
    """The broker acknowledged the order."""

    report: OrderReport


@dataclass(frozen=True, slots=True)
class Refused:
    """The broker said no: nothing is live."""

    reason: str
    permanent: bool = True
    token: bool = False


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte left: the same attempt may be sent again."""

    reason: str


@dataclass(frozen=True, slots=True)
class GateSaidNo:
    """Our own last check stopped it: proven unsent. `missed`: its time was over."""

    reason: str
    missed: bool = False


@dataclass(frozen=True, slots=True)
class Limited:
    """429: not taken, not counted."""

    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may be live."""

    reason: str


Sent = Answered | Refused | NotSent | GateSaidNo | Limited | Unknown


def sending(run: Run, name: SlotName, *, limit_price: Decimal | None = None) -> Run:
    """The run with its open attempt on its way: from here on, it may be live. `limit_price` None: at market."""
    return _with(run, name, phase=AttemptPhase.UNKNOWN, limit_price=limit_price)


def hear(run: Run, report: OrderReport, now: datetime) -> tuple[Run, Signal | None]:
    """Take the broker's word on an order into the snapshot. Returns the event it amounts to, None when nothing is new
    or a later try waits: one that the broker ended with nothing filled is repeated after a pause, like a refused one.
    """
    known, event = absorb(run, report)
    if event is Event.RETRY:
        current = known.exit.current
        at_once = current is None or current.fills or current.cancel_asked
        pause_s = 0.0 if at_once else RETRY_DELAYS_S[known.exit.tries - 1]
        return _try_later(known, now, pause_s), None
    return known, _signal(event, now, detail=report.reason) if event is not None else None


def judge(run: Run, name: SlotName, sent: Sent, now: datetime) -> tuple[Run, Signal | None]:
    """Take the outcome of a send into the snapshot. Returns the event it amounts to, None when a later try waits.

    While a send is on its way its attempt is UNKNOWN (`sending`): a reader in between must not take it for unsent.
    """
    if isinstance(sent, Answered):
        return hear(run, sent.report, now)
    current = run.slot(name).current
    if current is None or current.phase is not AttemptPhase.UNKNOWN:
        return run, None  # the broker's own news came first, and it knows better
    if isinstance(sent, Unknown):
        return _with(run, name, reason=sent.reason), _signal(Event.UNCONFIRMED, now, detail=sent.reason)
    if isinstance(sent, Limited):
        return _try_later(_with(run, name, phase=AttemptPhase.LICENSED), now, sent.retry_after_s), None
    if isinstance(sent, GateSaidNo):
        return _gate_said_no(run, name, sent, now)
    over = isinstance(sent, Refused)
    known = _with(run, name, phase=AttemptPhase.DONE if over else AttemptPhase.LICENSED, reason=sent.reason)
    known = known.with_slot(name, replace(known.slot(name), tries=known.slot(name).tries + 1))
    return (_entry_failed if name is SlotName.ENTRY else _exit_failed)(known, sent, now)


def _entry_failed(run: Run, sent: Refused | NotSent, now: datetime) -> tuple[Run, Signal | None]:
    if isinstance(sent, Refused) and sent.token:
        return run, _signal(Event.SAFETY_ABORT, now, Cause.TOKEN_INVALID, sent.reason)
    if isinstance(sent, Refused) and sent.permanent:
        return run, _signal(Event.REFUSED, now, Cause.ENTRY_REFUSED, sent.reason)
    if run.wish is not None or run.stop_seen is not None or run.entry_cancel_asked:
        return run, _signal(nothing_bought(run), now, detail=sent.reason)
    if run.entry.tries < MAX_TRIES:
        later = _try_later(run, now, RETRY_DELAYS_S[run.entry.tries - 1])
        if later.retry_at is not None and later.retry_at <= run.plan.buy_until:
            return later, None
    return run, _signal(Event.UNFILLED, now, Cause.RETRIES_EXHAUSTED, sent.reason)


def _exit_failed(run: Run, sent: Refused | NotSent, now: datetime) -> tuple[Run, Signal | None]:
    """An exit is never given up: after the last try the run is `failed` and the rescue goes on."""
    if run.state in FINAL:
        return _try_later(run, now, rescue_pause_s(run, now)), None
    if isinstance(sent, Refused) and sent.token:
        return run, _signal(Event.SAFETY_ABORT, now, Cause.TOKEN_INVALID, sent.reason)
    if run.exit.tries < MAX_TRIES:
        return _try_later(run, now, RETRY_DELAYS_S[run.exit.tries - 1]), None
    cause = Cause.EXIT_REFUSED if isinstance(sent, Refused) else Cause.RETRIES_EXHAUSTED
    return run, _signal(Event.SAFETY_ABORT, now, cause, sent.reason)


def _gate_said_no(run: Run, name: SlotName, sent: GateSaidNo, now: datetime) -> tuple[Run, Signal | None]:
    if name is SlotName.EXIT:
        # only a lost lease stops an exit: its new holder goes on from the licence
        return _with(run, name, phase=AttemptPhase.LICENSED, reason=sent.reason), None
    done = _with(run, name, phase=AttemptPhase.DONE, reason=sent.reason)
    event = nothing_bought(done)
    cause = None
    if event is Event.UNFILLED and (sent.missed or run.stop_seen is not None):
        cause = Cause.BUY_MISSED if sent.missed else Cause.STOP_LOSS_NOT_BELOW_PRICE
    return done, _signal(event, now, cause, sent.reason)


def _try_later(run: Run, now: datetime, delay_s: float) -> Run:
    return replace(run, retry_at=now + timedelta(seconds=delay_s), version=run.version + 1)


def _with(run: Run, name: SlotName, **changes: object) -> Run:
    return replace(run.with_slot(name, run.slot(name).with_current(**changes)), version=run.version + 1)


def _signal(event: Event, now: datetime, cause: Cause | None = None, detail: str = "") -> Signal:
    return Signal(event=event, at=now, source=Source.BROKER, cause=cause, detail=detail)
