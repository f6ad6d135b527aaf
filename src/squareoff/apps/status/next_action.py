"""What a strategy does next, and on which day, by the clock of its exchange."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from squareoff.apps.formats import money, quantity
from squareoff.core.bad_input import BadInput
from squareoff.core.definition import next_session_for, plan_for
from squareoff.core.machine import CAUSE_LABEL, EXIT_OPEN, FINAL, STATE_LABEL, State
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, Strategy, Timing
from squareoff.core.types import Exposure, RunId

if TYPE_CHECKING:
    from squareoff.wiring import ReferenceData

EXPOSED = frozenset({Exposure.LONG, Exposure.UNKNOWN})


def planned(strategy: Strategy, reference: ReferenceData, now: datetime) -> Plan:
    """The next session of `strategy` as the worker would plan it at `now`. Raises BadInput: it cannot be planned."""
    timing = Timing() if reference.market is None else reference.market.timing
    try:
        instrument = reference.instruments.find(strategy.symbol)
        session = next_session_for(strategy, reference.calendar(instrument.exchange), now)
        return plan_for(strategy, run_id=RunId(0), session=session, instrument=instrument, timing=timing)
    except (LookupError, ValueError, OSError) as error:
        raise BadInput(strategy.name, f"{strategy.symbol} cannot be planned: {error}") from error


def why_not_today(strategy: Strategy, reference: ReferenceData, now: datetime, day: date) -> str:
    """Why its next session, on `day`, is not today's; empty if it is."""
    calendar = reference.calendar(strategy.symbol.partition(":")[0])
    today = now.astimezone(calendar.hours.zone).date()
    if day == today:
        return ""
    if calendar.session_on(today) is None:
        return f"no session today: {calendar.why_closed(today)}"
    return f"today's {strategy.buy_time:{_clock_format(strategy.buy_time.second)}} has passed"


def buy_words(plan: Plan, zone: ZoneInfo) -> str:
    """`BUY 50 NSE:INFY at 09:20`"""
    return f"BUY {quantity(plan.quantity)} {plan.symbol} at {wall(plan.buy_at, zone)}"


def next_action(run: Run, zone: ZoneInfo) -> str:
    """One short sentence; empty if nothing follows."""
    if run.state in (State.CREATED, State.READY):
        return f"{buy_words(run.plan, zone)} on {day_words(run.plan.trading_day)}"
    if run.state is State.RUNNING:
        return f"buying {quantity(run.plan.quantity)} {run.plan.symbol} now"
    if run.state is State.BOUGHT:
        at_once = "" if run.stop_price is None else f", or at once at {money(run.stop_price)}"
        return f"SELL at {wall(run.plan.sell_at, zone)}{at_once}"
    if run.state in EXIT_OPEN:
        return f"selling {quantity(run.remaining_qty)} {run.plan.symbol} now"
    if run.exposure in EXPOSED:
        return f"getting out goes on; look: squareoff why {run.plan.name}"
    return ""


def held_words(run: Run) -> str:
    """`10 NSE:INFY, stop-loss 1,540.00`, or what may be held."""
    may_be = "perhaps " if run.exposure is Exposure.UNKNOWN else ""
    qty = run.remaining_qty if run.remaining_qty > 0 else run.plan.quantity
    stop = "" if run.stop_price is None else f", stop-loss {money(run.stop_price)}"
    return f"{may_be}{quantity(qty)} {run.plan.symbol}{stop}"


def result_words(run: Run) -> str:
    """What a closed run came to, as far as the fills prove it."""
    state = run.outcome or run.state
    bought, sold = run.entry.avg_fill_price, run.exit.avg_fill_price
    if run.handed_over:
        return f"handed over: {quantity(run.outside_qty)} {run.plan.symbol} are yours, squareoff forgets them"
    if bought is None:
        if run.cause is not None and state in (State.FAILED, State.STOPPED):
            return f"nothing bought: {CAUSE_LABEL[run.cause]}"
        return f"nothing bought: {STATE_LABEL[state]}"
    if sold is None or run.pnl_gross is None:
        return f"flat: {CAUSE_LABEL[run.cause] if run.cause else STATE_LABEL[state]}"
    return (
        f"flat: bought {quantity(run.entry.filled_qty)} at {money(bought)}, sold at {money(sold)}, "
        f"P&L gross {money(run.pnl_gross)}"
    )


def gain(run: Run, last_price: Decimal | None) -> Decimal | None:
    """Gross: made by what was sold, and of what is held what it would make at `last_price`. None: not known."""
    average = run.entry.avg_fill_price
    if average is None:
        return None
    made = run.pnl_gross or Decimal(0)
    if run.remaining_qty <= 0 or run.handed_over:
        return run.pnl_gross
    return None if last_price is None else made + (last_price - average) * run.remaining_qty


def is_over(run: Run) -> bool:
    return run.state in FINAL and run.is_closed


def day_words(day: date) -> str:
    return f"{day:%a %d %b %Y}"


def wall(instant: datetime, zone: ZoneInfo) -> str:
    """The exchange's wall clock; the seconds only where there are some."""
    local = instant.astimezone(zone)
    return f"{local:{_clock_format(local.second)}}"


def _clock_format(seconds: int) -> str:
    return "%H:%M:%S" if seconds else "%H:%M"
