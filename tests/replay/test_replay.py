"""Replay gives what a person gets with pencil and paper from the same ticks and the rules."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from squareoff.adapters.feeds.recorded import BarsLabelled, ReadOptions, load
from squareoff.adapters.reference_data import load_exchange_hours
from squareoff.apps.replay_command import BAR_TIMING
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, StopLoss, StopLossKind
from squareoff.core.types import Product, RunId, StrategyId, Symbol, Tick, UserId
from squareoff.simulation.replay import play_day
from squareoff.wiring.replay import REPLAY_ACCOUNT, replay_world
from tests.replay.reference import Expected, expected

IST = ZoneInfo("Asia/Kolkata")
DAY = date(2026, 11, 20)
X = Symbol("NSE:X")


def at(text: str, day: date = DAY) -> datetime:
    return datetime.fromisoformat(f"{day}T{text}").replace(tzinfo=IST).astimezone(UTC)


def a_plan(
    stop_loss: str = "1%",
    *,
    number: int = 1,
    symbol: Symbol = X,
    day: date = DAY,
    buy: str = "09:20",
    sell: str = "15:15",
) -> Plan:
    kind = StopLossKind.PERCENT if stop_loss.endswith("%") else StopLossKind.PRICE
    if stop_loss.endswith("pts"):
        kind = StopLossKind.POINTS
    return Plan(
        run_id=RunId(number),
        strategy_id=StrategyId(number),
        user=UserId(1),
        account=REPLAY_ACCOUNT,
        name=f"s{number}",
        symbol=symbol,
        product=Product.MIS,
        quantity=Decimal(10),
        trading_day=day,
        buy_at=at(buy, day),
        sell_at=at(sell, day),
        closes_at=at("15:30", day),
        stop_loss=StopLoss(kind=kind, value=Decimal(stop_loss.rstrip("%pts"))),
        tick_size=Decimal("0.05"),
        timing=BAR_TIMING,
    )


def play(plans: list[Plan], ticks: list[Tick]) -> tuple[Run, ...]:
    return play_day(replay_world(plans[0].buy_at - timedelta(hours=1)), plans, ticks).runs


def result(run: Run) -> Expected:
    entry, out = run.entry, run.exit
    return Expected(
        str(run.outcome or run.state),
        None if run.cause is None else str(run.cause),
        None if entry.first_fill_at is None else (entry.first_fill_at, entry.avg_fill_price or Decimal(0)),
        None if out.last_fill_at is None else (out.last_fill_at, out.avg_fill_price or Decimal(0)),
    )


def ticks(*rows: tuple[str, str]) -> list[Tick]:
    return [Tick(X, Decimal(price), at(when)) for when, price in rows]


BEFORE = ("09:19:45", "100.00")


def outcome_of(plan: Plan, *rows: tuple[str, str]) -> Expected:
    (run,) = play([plan], ticks(*rows))
    return result(run)


def test_a_market_order_fills_at_the_first_later_tick_also_at_the_same_instant() -> None:
    got = outcome_of(a_plan(), BEFORE, ("09:20:00", "100.10"), ("15:15:00", "101.00"))
    assert got == Expected(
        "sold", "sell_time", (at("09:20:00"), Decimal("100.10")), (at("15:15:00"), Decimal("101.00"))
    )


def test_the_tick_that_trips_the_stop_loss_does_not_fill_its_own_exit() -> None:
    got = outcome_of(a_plan(), BEFORE, ("09:20:00", "100"), ("09:20:15", "98.90"), ("09:20:30", "98.50"))
    assert got == Expected(
        "exited_by_sl", "stop_loss", (at("09:20:00"), Decimal("100")), (at("09:20:30"), Decimal("98.50"))
    )


def test_the_tick_that_fills_the_entry_is_tested_against_the_stop_loss() -> None:
    got = outcome_of(a_plan("99.50"), BEFORE, ("09:20:00", "99.40"), ("09:20:15", "99.45"))
    assert got == Expected(
        "exited_by_sl", "stop_loss", (at("09:20:00"), Decimal("99.40")), (at("09:20:15"), Decimal("99.45"))
    )


def test_a_stop_loss_seen_while_the_timed_sell_is_unfilled_takes_it_over_with_the_same_fill() -> None:
    got = outcome_of(a_plan(), BEFORE, ("09:20:00", "100"), ("15:15:00", "98.00"), ("15:15:15", "97.00"))
    assert got == Expected(
        "exited_by_sl", "stop_loss", (at("09:20:00"), Decimal("100")), (at("15:15:00"), Decimal("98.00"))
    )


def test_a_price_90_seconds_old_is_fresh_and_one_older_is_not() -> None:
    fresh = outcome_of(a_plan(), ("09:18:30", "100"), ("09:20:15", "100"), ("15:15:00", "101"))
    stale = outcome_of(a_plan(), ("09:18:29", "100"), ("09:20:15", "100"), ("15:15:00", "101"))
    assert (fresh.state, stale.state, stale.cause) == ("sold", "failed", "stale_price")


def test_without_a_fresh_price_the_first_tick_within_the_grace_decides() -> None:
    got = outcome_of(a_plan(), ("09:20:05", "100"), ("09:20:15", "100.50"), ("15:15:00", "101"))
    assert got.entry == (at("09:20:15"), Decimal("100.50"))
    late = outcome_of(a_plan(), ("09:20:06", "100"), ("09:20:15", "100.50"), ("15:15:00", "101"))
    assert (late.state, late.cause) == ("failed", "stale_price")


def test_no_buy_at_or_below_the_stop_loss() -> None:
    got = outcome_of(a_plan("100"), BEFORE, ("09:20:00", "100.10"), ("15:15:00", "101"))
    assert (got.state, got.cause, got.entry) == ("failed", "stop_loss_not_below_price", None)


def test_an_entry_that_no_tick_fills_in_90_seconds_is_cancelled() -> None:
    in_time = outcome_of(a_plan(), BEFORE, ("09:21:29", "100"), ("15:15:00", "101"))
    too_late = outcome_of(a_plan(), BEFORE, ("09:21:30", "100"), ("15:15:00", "101"))
    assert (in_time.state, too_late.state, too_late.cause) == ("sold", "failed", "entry_unfilled")


def test_an_exit_with_no_tick_after_it_stays_pending() -> None:
    got = outcome_of(a_plan(), BEFORE, ("09:20:00", "100"))
    assert got == Expected("sell_pending", "sell_time", (at("09:20:00"), Decimal("100")), None)
    stopped = outcome_of(a_plan(), BEFORE, ("09:20:00", "100"), ("09:20:15", "90"))
    assert (stopped.state, stopped.exit) == ("sl_pending", None)


def test_a_percent_stop_loss_is_rounded_up_to_the_tick() -> None:
    (run,) = play([a_plan("1.5%")], ticks(BEFORE, ("09:20:00", "1562.40"), ("15:15:00", "1570")))
    assert run.stop_price == Decimal("1539.00")  # 1562.40 x 0.985 = 1538.964


STOP_LOSSES = st.sampled_from(["0.5%", "1%", "2.35%", "1pts", "0.05pts", "97.50", "100", "102.35"])


@st.composite
def odd_days(draw: st.DrawFn) -> list[Tick]:
    """Ticks with gaps, crowds at one instant, and prices that cross stop-losses, around the instants that matter."""
    start = at("09:18:00")
    around = st.sampled_from([0, 0, 0, 15, 15, 15, 1, 5, 60, 89, 90, 91])
    steps = draw(st.lists(around, min_size=0, max_size=14))
    late = draw(st.lists(around, min_size=0, max_size=6))
    rows, when = [], start
    for step in steps:
        when += timedelta(seconds=step)
        rows.append(when)
    when = max(when, at("15:14:30"))
    for step in late:
        when += timedelta(seconds=step)
        rows.append(when)
    prices = draw(st.lists(st.integers(1900, 2100), min_size=len(rows), max_size=len(rows)))
    return [Tick(X, Decimal(price) / 20, instant) for price, instant in zip(prices, rows, strict=True)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(day=odd_days(), stops=st.lists(STOP_LOSSES, min_size=1, max_size=4))
def test_any_odd_day_ends_as_pencil_and_paper_say(day: list[Tick], stops: list[str]) -> None:
    plans = [a_plan(stop, number=i + 1) for i, stop in enumerate(stops)]
    runs = play(plans, day)
    assert [result(run) for run in runs] == [expected(plan, day) for plan in plans]


@pytest.mark.parametrize("symbol", ["NIFTY", "BANKNIFTY"])
@pytest.mark.parametrize("month", ["2022-05", "2022-06"])
def test_two_real_months_end_as_pencil_and_paper_say(recorded_nse: Path, symbol: str, month: str) -> None:
    hours = load_exchange_hours()
    data = load(
        [recorded_nse / f"{symbol}-{month}-1min.csv"],
        options=ReadOptions(bars_labelled=BarsLabelled.END),
        hours_of=lambda s: hours["NSE"],
    )
    name = Symbol(f"NSE:{symbol}")
    checked = 0
    for day in data.days:
        played = data.ticks(day)
        near = (played[20].price // Decimal("0.05") * Decimal("0.05")).normalize()
        wanted = [
            ("0.3%", "09:20", "15:15"),
            ("1%", "09:15", "15:10"),
            ("40pts", "11:00", "14:30"),
            (f"{near:f}", "10:00", "15:00"),
        ]
        plans = [
            a_plan(stop, number=i + 1, symbol=name, day=day, buy=buy, sell=sell)
            for i, (stop, buy, sell) in enumerate(wanted)
        ]
        runs = play(plans, played)
        assert [result(run) for run in runs] == [expected(plan, played) for plan in plans]
        checked += len(runs)
    assert checked >= 19 * 4
