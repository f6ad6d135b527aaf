"""A machine that slept, and an exchange whose clocks are put forward: what is due is decided by trading time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from squareoff.adapters.clock import VirtualLoop
from squareoff.core.board import Board
from squareoff.core.definition import next_session_for, plan_for
from squareoff.core.events import Event, Signal
from squareoff.core.instruments import Instrument
from squareoff.core.machine import State
from squareoff.core.repeat import turn_of
from squareoff.core.run import Run
from squareoff.core.session import Calendar, DayHours, ExchangeHours
from squareoff.core.strategy import Repeat, StopLoss, StopLossKind, Strategy
from squareoff.core.types import AccountId, RunId, StrategyId, Symbol, Tick, UserId
from squareoff.scheduler import LONGEST_SLEEP_S, Scheduler
from squareoff.simulation.replay import play_day
from squareoff.wiring.replay import REPLAY_ACCOUNT, replay_world

NEW_YORK = ZoneInfo("America/New_York")
NYSE = ExchangeHours(
    exchange="NYSE", name="New York", zone=NEW_YORK, regular=DayHours(opens=time(9, 30), closes=time(16, 0))
)
BEFORE, AFTER = date(2026, 3, 6), date(2026, 3, 9)
"""The Friday before the clocks of New York go forward, and the Monday after."""
STRATEGY = Strategy(
    id=StrategyId(1),
    user=UserId(1),
    account=AccountId(REPLAY_ACCOUNT),
    name="american",
    symbol=Symbol("NYSE:SHARE"),
    quantity=Decimal(10),
    buy_time=time(9, 45),
    sell_time=time(15, 30),
    stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(1)),
    repeat=Repeat.DAILY,
)
SHARE = Instrument(
    symbol=Symbol("NYSE:SHARE"), name="A share", kind="share", lot=Decimal(1), tick_size=Decimal("0.01"),
    tradable=True, as_of=BEFORE,
)  # fmt: skip


# --- daylight saving ---


@pytest.mark.parametrize(
    ("day", "buys_at", "sells_at"),
    [
        (BEFORE, datetime(2026, 3, 6, 14, 45, tzinfo=UTC), datetime(2026, 3, 6, 20, 30, tzinfo=UTC)),
        (AFTER, datetime(2026, 3, 9, 13, 45, tzinfo=UTC), datetime(2026, 3, 9, 19, 30, tzinfo=UTC)),
    ],
)
def test_buy_and_sell_keep_their_wall_clock_when_the_exchanges_clocks_go_forward(
    day: date, buys_at: datetime, sells_at: datetime
) -> None:
    calendar = Calendar.from_days(NYSE, [BEFORE, AFTER])
    session = calendar.session_on(day)
    assert session is not None
    plan = plan_for(STRATEGY, run_id=RunId(1), session=session, instrument=SHARE)
    assert (plan.buy_at, plan.sell_at) == (buys_at, sells_at)
    world = replay_world(session.opens_at - timedelta(hours=1))
    minutes = int((session.closes_at - session.opens_at) / timedelta(minutes=1))
    plan = replace(plan, timing=replace(plan.timing, fresh_for_s=90, entry_open_s=90))
    ticks = [Tick(plan.symbol, Decimal("100.00"), session.opens_at + timedelta(minutes=i)) for i in range(minutes)]
    (run,) = play_day(world, [plan], ticks).runs
    assert run.outcome is State.SOLD
    assert [f.at.astimezone(NEW_YORK).time() for a in (*run.entry.attempts, *run.exit.attempts) for f in a.fills] == [
        time(9, 45),
        time(15, 30),
    ]


def test_a_repeating_strategy_is_made_at_half_past_eight_of_the_exchange_before_and_after_the_change() -> None:
    calendar = Calendar.from_days(NYSE, [BEFORE, AFTER])
    made = []
    for day in (BEFORE, AFTER):
        instants = [datetime(day.year, day.month, day.day, 11, tzinfo=UTC) + timedelta(minutes=m) for m in range(240)]
        made.append(next(at for at in instants if turn_of(STRATEGY, calendar, SHARE, at, None).make))
    assert [at.astimezone(NEW_YORK).time() for at in made] == [time(8, 30)] * 2
    assert made[1] - made[0] == timedelta(days=3) - timedelta(hours=1)


def test_on_the_sunday_between_the_next_session_is_mondays_by_the_new_clock() -> None:
    calendar = Calendar.from_days(NYSE, [BEFORE, AFTER])
    session = next_session_for(STRATEGY, calendar, datetime(2026, 3, 8, 12, tzinfo=UTC))
    assert session.opens_at == datetime(2026, 3, 9, 13, 30, tzinfo=UTC)


# --- suspend ---


class SleepyClock:
    """Boot time goes on while the machine sleeps; the event loop's timers do not. `slept` is what they missed."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop, self.slept = loop, timedelta(0)

    def now(self) -> datetime:
        return self._loop.now() + self.slept

    def seconds_until(self, instant: datetime) -> float:
        return (instant - self.now()).total_seconds()

    def monotonic_s(self) -> float:
        return self._loop.monotonic_s() + self.slept.total_seconds()

    async def sleep(self, seconds: float) -> None:
        await self._loop.sleep(seconds)


@pytest.fixture
def asleep() -> Iterator[tuple[VirtualLoop, SleepyClock, Board, Scheduler, list[tuple[Event, datetime]]]]:
    loop = VirtualLoop(datetime(2026, 3, 9, 13, 40, tzinfo=UTC))
    clock, board = SleepyClock(loop), Board()
    fired: list[tuple[Event, datetime]] = []

    def notify(run_id: RunId, signal: Signal) -> None:
        fired.append((signal.event, clock.now()))

    scheduler = Scheduler(board=board, clock=clock, loop=loop, notify=notify, wake=lambda run_id: None)
    yield loop, clock, board, scheduler, fired
    scheduler.close()
    loop.drain()
    loop.close()


def put(board: Board, scheduler: Scheduler, state: State) -> None:
    session = Calendar.from_days(NYSE, [AFTER]).session_on(AFTER)
    assert session is not None
    plan = plan_for(STRATEGY, run_id=RunId(1), session=session, instrument=SHARE)
    run = Run(plan=plan, key="K", state=state)
    board.put(run)
    scheduler.set_timers(run)


def test_after_a_sleep_over_the_buy_time_the_buy_is_skipped_and_not_caught_up(asleep) -> None:
    loop, clock, board, scheduler, fired = asleep
    put(board, scheduler, State.READY)
    loop.advance_to(loop.now() + timedelta(seconds=10))
    clock.slept = timedelta(minutes=20)
    loop.advance_to(loop.now() + timedelta(seconds=LONGEST_SLEEP_S))
    assert [event for event, _ in fired] == [Event.SKIP]


def test_a_buy_time_that_had_come_by_a_wrong_clock_comes_again_when_it_is_set_back(asleep) -> None:
    loop, clock, board, scheduler, fired = asleep
    put(board, scheduler, State.READY)
    board.cells[SHARE.symbol].last = Tick(SHARE.symbol, Decimal(100), datetime(2026, 3, 9, 13, 45, 1, tzinfo=UTC))
    clock.slept = timedelta(minutes=4, seconds=50)
    loop.advance_to(loop.now() + timedelta(seconds=10))
    assert [event for event, _ in fired] == [Event.BUY]
    clock.slept = timedelta(0)
    scheduler.time_moved()
    loop.advance_to(datetime(2026, 3, 9, 13, 45, tzinfo=UTC))
    assert [event for event, _ in fired] == [Event.BUY, Event.BUY]


def test_after_a_sleep_over_the_sell_time_the_sell_is_made_within_a_second_of_waking(asleep) -> None:
    loop, clock, board, scheduler, fired = asleep
    put(board, scheduler, State.BOUGHT)
    loop.advance_to(loop.now() + timedelta(seconds=10))
    clock.slept = timedelta(hours=7)
    woke = clock.now()
    loop.advance_to(loop.now() + timedelta(seconds=LONGEST_SLEEP_S))
    ((event, at),) = fired
    assert event is Event.SELL
    assert at - woke <= timedelta(seconds=LONGEST_SLEEP_S)


def test_a_timer_that_is_due_twice_over_is_told_once(asleep) -> None:
    loop, clock, board, scheduler, fired = asleep
    put(board, scheduler, State.BOUGHT)
    clock.slept = timedelta(days=3)
    loop.advance_to(loop.now() + timedelta(seconds=5))
    assert len({event for event, _ in fired}) == 1
