"""When a repeating strategy makes its next run, and if it does not, why. Pure: the calendar and the time come in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time

from squareoff.core.instruments import Instrument
from squareoff.core.run import Run
from squareoff.core.session import Calendar, UnknownYear
from squareoff.core.strategy import Strategy

MADE_AT = time(8, 30)
"""By the exchange's wall clock: late enough for the night's mending, early enough to tell a person before the open."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """`make`: a run for today is due. Otherwise `reason` says, for a person, why there is none now; `is_trouble`:
    it would have been due, and something is in the way that a person may have to mend."""

    make: bool
    reason: str
    is_trouble: bool = False


def turn_of(
    strategy: Strategy, calendar: Calendar, instrument: Instrument | None, now: datetime, earlier: Run | None
) -> Turn:
    """`earlier`: its latest run, None if it never had one. `instrument` None: no longer in the list."""
    local = now.astimezone(calendar.hours.zone)
    today = local.date()
    if strategy.until is not None and today > strategy.until:
        return Turn(make=False, reason=f"it was to repeat until {strategy.until}")
    if earlier is not None and earlier.plan.trading_day >= today:
        return Turn(make=False, reason=f"its run of {earlier.plan.trading_day} is made")
    try:
        session = calendar.session_on(today)
    except UnknownYear as error:
        return Turn(make=False, reason=str(error), is_trouble=True)
    if session is None:
        return Turn(make=False, reason=f"{calendar.exchange} is closed today: {calendar.why_closed(today)}")
    if local.time() < MADE_AT and local.date() == today:
        return Turn(make=False, reason=f"today's run is made at {MADE_AT:%H:%M}")
    if now > session.at(strategy.buy_time):
        return Turn(make=False, reason=f"today's {strategy.buy_time:%H:%M} has passed")
    if instrument is None or not instrument.tradable:
        return Turn(make=False, reason=f"{strategy.symbol} is no longer in the list of instruments", is_trouble=True)
    if instrument.expiry is not None and today > instrument.expiry:
        return Turn(make=False, reason=f"{strategy.symbol} expired on {instrument.expiry}", is_trouble=True)
    if earlier is not None and not earlier.is_closed:
        text = f"its run of {earlier.plan.trading_day} is not closed: {earlier.state}, it may still buy or hold"
        return Turn(make=False, reason=text, is_trouble=True)
    return Turn(make=True, reason="")
