"""When a repeating strategy makes its next run; and if it makes none, the sentence that says why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from squareoff.core.definition import plan_for
from squareoff.core.instruments import Instrument
from squareoff.core.machine import State
from squareoff.core.repeat import turn_of
from squareoff.core.run import Run
from squareoff.core.session import Calendar, DayHours, ExchangeHours
from squareoff.core.strategy import Repeat, StopLoss, StopLossKind, Strategy
from squareoff.core.types import AccountId, RunId, StrategyId, Symbol, UserId

IST = ZoneInfo("Asia/Kolkata")
HOURS = ExchangeHours(exchange="NSE", name="NSE", zone=IST, regular=DayHours(opens=time(9, 15), closes=time(15, 30)))
MONDAY, TUESDAY, THURSDAY = date(2026, 11, 23), date(2026, 11, 24), date(2026, 11, 26)
CALENDAR = Calendar.from_days(HOURS, [MONDAY, TUESDAY, THURSDAY])
STRATEGY = Strategy(
    id=StrategyId(1),
    user=UserId(1),
    account=AccountId("paper"),
    name="daily",
    symbol=Symbol("NSE:SHARE"),
    quantity=Decimal(10),
    buy_time=time(9, 20),
    sell_time=time(15, 0),
    stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(1)),
    repeat=Repeat.DAILY,
)
SHARE = Instrument(
    symbol=STRATEGY.symbol, name="A share", kind="share", lot=Decimal(1), tick_size=Decimal("0.05"), tradable=True,
    as_of=MONDAY,
)  # fmt: skip


def at(day: date, clock: str) -> datetime:
    return datetime.combine(day, time.fromisoformat(clock), IST).astimezone(UTC)


def run_of(day: date, state: State) -> Run:
    session = CALENDAR.session_on(day)
    assert session is not None
    plan = plan_for(STRATEGY, run_id=RunId(1), session=session, instrument=SHARE)
    outcome = state if state in (State.SOLD, State.FAILED) else None
    return Run(plan=plan, key="K", state=state, outcome=outcome)


CLOSED = run_of(MONDAY, State.SOLD)


@pytest.mark.parametrize("clock", ["08:30", "08:31", "09:15", "09:20"])
def test_it_is_made_from_half_past_eight_until_its_buy_time(clock: str) -> None:
    assert turn_of(STRATEGY, CALENDAR, SHARE, at(TUESDAY, clock), CLOSED).make


@pytest.mark.parametrize(
    ("day", "clock", "words"),
    [
        (TUESDAY, "08:29", "today's run is made at 08:30"),
        (TUESDAY, "09:21", "today's 09:20 has passed"),
        (date(2026, 11, 25), "09:00", "NSE is closed today"),
    ],
)
def test_when_it_is_not_its_time_the_reason_is_told_and_nothing_is_wrong(day: date, clock: str, words: str) -> None:
    turn = turn_of(STRATEGY, CALENDAR, SHARE, at(day, clock), CLOSED)
    assert not turn.make
    assert not turn.is_trouble
    assert words in turn.reason


def test_one_run_a_day() -> None:
    turn = turn_of(STRATEGY, CALENDAR, SHARE, at(MONDAY, "09:00"), CLOSED)
    assert (turn.make, turn.reason) == (False, "its run of 2026-11-23 is made")


def test_never_while_an_earlier_run_is_not_closed() -> None:
    turn = turn_of(STRATEGY, CALENDAR, SHARE, at(TUESDAY, "09:00"), run_of(MONDAY, State.BOUGHT))
    assert not turn.make
    assert turn.is_trouble
    assert "its run of 2026-11-23 is not closed" in turn.reason


def test_never_past_its_own_last_day() -> None:
    ended = replace(STRATEGY, until=MONDAY)
    assert not turn_of(ended, CALENDAR, SHARE, at(TUESDAY, "09:00"), CLOSED).make
    on_the_day = replace(STRATEGY, until=TUESDAY)
    assert turn_of(on_the_day, CALENDAR, SHARE, at(TUESDAY, "09:00"), CLOSED).make


def test_never_past_the_contracts_expiry_and_a_person_has_to_know() -> None:
    expired = replace(SHARE, expiry=MONDAY)
    turn = turn_of(STRATEGY, CALENDAR, expired, at(TUESDAY, "09:00"), CLOSED)
    assert (turn.make, turn.is_trouble, turn.reason) == (False, True, "NSE:SHARE expired on 2026-11-23")
    assert turn_of(STRATEGY, CALENDAR, replace(SHARE, expiry=TUESDAY), at(TUESDAY, "09:00"), CLOSED).make


def test_never_of_what_is_no_longer_in_the_list() -> None:
    assert turn_of(STRATEGY, CALENDAR, None, at(TUESDAY, "09:00"), CLOSED).is_trouble


def test_never_in_a_year_without_a_calendar() -> None:
    turn = turn_of(STRATEGY, Calendar(HOURS), SHARE, at(TUESDAY, "09:00"), CLOSED)
    assert turn.is_trouble
    assert "No signed-off calendar" in turn.reason
