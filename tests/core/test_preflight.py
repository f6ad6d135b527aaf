"""Before a strategy may trade: every check, its rule, and what a trader is told to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squareoff.core.instruments import Instrument, InstrumentKind
from squareoff.core.machine import State
from squareoff.core.preflight import REQUIRED, Answer, Check, CheckName, Facts, armed, first_red, preflight
from squareoff.core.session import Session
from squareoff.core.strategy import StopLoss, StopLossKind, Strategy, Timing
from squareoff.core.types import AccountId, StrategyId, Symbol, Tick, UserId

OPENS = datetime(2026, 11, 23, 3, 45, tzinfo=UTC)
EARLY = OPENS - timedelta(hours=1)
SHARE = Symbol("NSE:SHARE")
STRATEGY = Strategy(
    id=StrategyId(1),
    user=UserId(1),
    account=AccountId("paper"),
    name="morning",
    symbol=SHARE,
    quantity=Decimal(50),
    buy_time=time(9, 20),
    sell_time=time(15, 10),
    stop_loss=StopLoss(kind=StopLossKind.PRICE, value=Decimal("1540")),
)
SESSION = Session(
    exchange="NSE",
    day=date(2026, 11, 23),
    opens_at=OPENS,
    closes_at=OPENS + timedelta(hours=6, minutes=15),
    zone=ZoneInfo("Asia/Kolkata"),
)
INSTRUMENT = Instrument(
    symbol=SHARE,
    name="A share",
    kind=InstrumentKind.SHARE,
    lot=Decimal(1),
    tick_size=Decimal("0.05"),
    freeze_qty=Decimal(1800),
    lower_band=Decimal("1400"),
    upper_band=Decimal("1700"),
    as_of=date(2026, 11, 23),
)
GOOD = Facts(
    now=EARLY,
    session=SESSION,
    instrument=INSTRUMENT,
    token=Answer(ok=True, text="the token is valid"),
    funds=Decimal("100000"),
    last_price=Tick(SHARE, Decimal("1560"), EARLY),
    clock_difference_s=0.1,
    feed_silent_s=1.0,
    alert_channels=1,
    free_disk_bytes=10**9,
    redis=Answer(ok=True, text="answers"),
    sql=Answer(ok=True, text="whole"),
)


def told(facts: Facts, *, when: datetime = EARLY, strategy: Strategy = STRATEGY) -> dict[CheckName, Check]:
    return {check.name: check for check in preflight(strategy, facts, when=when)}


def one(name: str, facts: Facts, *, when: datetime = EARLY, strategy: Strategy = STRATEGY) -> Check:
    return told(facts, when=when, strategy=strategy)[CheckName(name)]


def stop_loss(kind: str, value: str) -> Strategy:
    return replace(STRATEGY, stop_loss=StopLoss(kind=StopLossKind(kind), value=Decimal(value)))


# ------------------------------------------------------------------ the list as a whole


def test_in_the_session_with_everything_right_all_checks_are_ok_and_none_tells_to_do_something() -> None:
    when = OPENS + timedelta(minutes=2)
    checks = preflight(STRATEGY, replace(GOOD, now=when), when=when)
    assert [(check.name, check.ok, check.mend) for check in checks] == [(name, True, "") for name in CheckName]
    assert all(check.text for check in checks)


def test_of_nothing_known_nothing_is_said_to_be_right_or_wrong() -> None:
    checks = preflight(STRATEGY, Facts(), when=EARLY)
    assert [(check.name, check.ok) for check in checks] == [(name, None) for name in CheckName]
    assert all(check.text for check in checks)


SOME_FACTS = st.builds(
    Facts,
    now=st.sampled_from([None, EARLY, OPENS]),
    session=st.sampled_from([None, "no calendar", SESSION]),
    instrument=st.sampled_from(
        [None, "not in the list", INSTRUMENT, replace(INSTRUMENT, lower_band=None), replace(INSTRUMENT, tradable=False)]
    ),
    token=st.builds(Answer, ok=st.sampled_from([None, True, False]), text=st.just("said")),
    funds=st.none() | st.decimals(0, 10**7, places=2),
    last_price=st.none() | st.builds(lambda p: Tick(SHARE, p, EARLY), st.decimals("0.05", 5000, places=2)),
    lower_band=st.none() | st.decimals(1, 1600, places=2),
    upper_band=st.none() | st.decimals(1500, 3000, places=2),
    clock_difference_s=st.none() | st.floats(-5, 5),
    feed_silent_s=st.none() | st.floats(0, 10**6),
    alert_channels=st.none() | st.integers(0, 3),
    alert_test_failed=st.sampled_from([None, True, False]),
    free_disk_bytes=st.none() | st.integers(0, 10**12),
    redis=st.builds(Answer, ok=st.sampled_from([None, True, False])),
    sql=st.builds(Answer, ok=st.sampled_from([None, True, False])),
)
SOME_STRATEGY = st.builds(
    lambda stop, qty: replace(STRATEGY, stop_loss=stop, quantity=Decimal(qty)),
    st.builds(StopLoss, kind=st.sampled_from(list(StopLossKind)), value=st.decimals("0.05", 99, places=2)),
    st.integers(1, 5000),
)


@given(SOME_STRATEGY, SOME_FACTS, st.integers(-7200, 30_000).map(lambda s: OPENS + timedelta(seconds=s)))
def test_whatever_is_known_every_check_answers_in_the_same_order_and_a_red_one_says_how_to_mend_it(
    strategy: Strategy, facts: Facts, when: datetime
) -> None:
    checks = preflight(strategy, facts, when=when)
    assert [check.name for check in checks] == list(CheckName)
    assert all(check.text for check in checks)
    assert all(check.mend for check in checks if check.ok is False)
    assert not any(check.mend for check in checks if check.ok)
    assert all(check.name in REQUIRED for check in checks if check.ok is False)


@given(SOME_STRATEGY, SOME_FACTS, st.sampled_from(list(State)))
def test_armed_means_ready_and_nothing_red(strategy: Strategy, facts: Facts, state: State) -> None:
    checks = preflight(strategy, facts, when=EARLY)
    red = [check for check in checks if check.ok is False]
    assert armed(state, checks) == (state is State.READY and not red)
    assert first_red(checks) == (red[0] if red else None)


def test_what_is_not_known_does_not_disarm() -> None:
    assert armed(State.READY, preflight(STRATEGY, Facts(), when=EARLY))
    assert not armed(State.CREATED, preflight(STRATEGY, GOOD, when=EARLY))


# ------------------------------------------------------------------ each check


def test_without_a_calendar_of_the_year_nothing_is_armed() -> None:
    facts = replace(GOOD, session="no signed-off calendar for NSE 2027")
    assert one("calendar", facts).ok is False
    assert one("calendar", facts).text == "no signed-off calendar for NSE 2027"
    assert one("session", facts).ok is None
    assert not armed(State.READY, preflight(STRATEGY, facts, when=EARLY))


def test_a_short_day_without_room_for_the_strategy_is_red() -> None:
    evening = replace(
        SESSION, opens_at=OPENS + timedelta(hours=8), closes_at=OPENS + timedelta(hours=9), name="muhurat"
    )
    check = one("session", replace(GOOD, session=evening))
    assert (check.ok, check.text) == (False, "buy_time: 09:20 is outside the session of 2026-11-23 (muhurat)")
    early_end = replace(SESSION, closes_at=OPENS + timedelta(hours=6))
    check = one("session", replace(GOOD, session=early_end))
    assert (check.ok, check.text) == (
        False,
        "the SELL at 15:10:00 is less than 15 minutes before the session's end at 15:15:00",
    )


def test_a_buy_whose_time_and_grace_are_over_is_red() -> None:
    buy_until = OPENS + timedelta(minutes=5, seconds=5)
    assert one("session", GOOD, when=buy_until).ok is True
    assert one("session", GOOD, when=buy_until + timedelta(seconds=1)).ok is False


@pytest.mark.parametrize(
    ("instrument", "says"),
    [
        ("'NSE:SHARE' is not in the list of instruments", "'NSE:SHARE' is not in the list of instruments"),
        (replace(INSTRUMENT, tradable=False), "NSE:SHARE cannot be bought"),
        (replace(INSTRUMENT, expiry=date(2026, 11, 22)), "NSE:SHARE expired on 2026-11-22"),
        (replace(INSTRUMENT, lot=Decimal(75)), "50 is not a multiple of the lot of 75"),
        (replace(INSTRUMENT, freeze_qty=Decimal(40)), "50 is more than one order may have (40)"),
    ],
)
def test_an_instrument_that_cannot_be_bought_as_written_is_red(instrument: Instrument | str, says: str) -> None:
    check = one("instrument", replace(GOOD, instrument=instrument))
    assert (check.ok, check.text) == (False, says)


def test_a_contract_may_be_bought_on_the_day_it_expires() -> None:
    assert one("instrument", replace(GOOD, instrument=replace(INSTRUMENT, expiry=SESSION.day))).ok is True


def test_a_refused_token_is_red_and_one_nobody_asked_for_is_not_known() -> None:
    refused = one("token", replace(GOOD, token=Answer(ok=False, text="expired at 06:00")))
    assert refused == Check(CheckName.TOKEN, False, "expired at 06:00", "log in again for account paper")
    assert one("token", Facts()).ok is None


@pytest.mark.parametrize(("funds", "ok"), [("78000", True), ("77999.99", False), (None, None)])
def test_funds_must_cover_the_quantity_at_the_last_price(funds: str | None, ok: bool | None) -> None:
    facts = replace(GOOD, funds=None if funds is None else Decimal(funds))
    assert one("funds", facts).ok is ok
    assert one("funds", replace(facts, last_price=None)).ok is None


def test_too_little_money_is_told_with_both_figures() -> None:
    check = one("funds", replace(GOOD, funds=Decimal("12000")))
    assert check.text == "needs about 78,000.00 at the last price 1,560.00, has 12,000.00"


@pytest.mark.parametrize(
    ("level", "ok"),
    [
        ("1400", False),
        ("1400.05", True),
        ("1559.95", True),
        ("1560", False),
        ("1700", False),
        ("1800", False),
    ],
)
def test_a_stop_loss_lies_strictly_inside_the_band_and_below_the_last_price(level: str, ok: bool) -> None:
    assert one("stop_loss_in_band", GOOD, strategy=stop_loss("price", level)).ok is ok


@pytest.mark.parametrize(
    ("kind", "value", "last", "ok", "level"),
    [
        ("percent", "1.5", "1560", True, "1,536.60"),
        ("percent", "10", "1560", True, "1,404.00"),
        ("percent", "10.3", "1560", False, "1,399.35"),
        ("points", "20", "1560", True, "1,540.00"),
        ("points", "0.01", "1560", False, "1,560.00"),  # rounded up to the tick it is the price itself
        ("points", "1560", "1560", False, "0.00"),
    ],
)
def test_percent_and_points_are_judged_from_the_last_price_rounded_up_to_the_tick(
    kind: str, value: str, last: str, ok: bool, level: str
) -> None:
    facts = replace(GOOD, last_price=Tick(SHARE, Decimal(last), EARLY))
    check = one("stop_loss_in_band", facts, strategy=stop_loss(kind, value))
    assert check.ok is ok
    assert check.text.startswith(f"stop-loss {level}")


def test_a_stop_loss_that_cannot_be_judged_fully_is_not_known_but_what_is_wrong_is_red() -> None:
    no_price = replace(GOOD, last_price=None)
    assert one("stop_loss_in_band", no_price).ok is None
    assert one("stop_loss_in_band", no_price, strategy=stop_loss("price", "1399")).ok is False
    assert one("stop_loss_in_band", no_price, strategy=stop_loss("percent", "1")).ok is None
    no_band = replace(GOOD, instrument=replace(INSTRUMENT, lower_band=None, upper_band=None))
    assert one("stop_loss_in_band", no_band).ok is None
    assert one("stop_loss_in_band", no_band, strategy=stop_loss("price", "1560")).ok is False


def test_the_day_s_own_band_wins_over_the_list_s() -> None:
    facts = replace(GOOD, lower_band=Decimal("1545"))
    assert one("stop_loss_in_band", facts).ok is False


@pytest.mark.parametrize(("off", "ok"), [(2.0, True), (-2.0, True), (2.01, False), (-2.01, False), (None, None)])
def test_the_clock_may_be_two_seconds_off(off: float | None, ok: bool | None) -> None:
    assert one("clock", replace(GOOD, clock_difference_s=off)).ok is ok


@pytest.mark.parametrize(
    ("before_open_s", "silent_s", "ok"),
    [
        (301, None, None),  # the market is closed
        (301, 1.0, None),
        (300, None, False),
        (300, 120.0, True),  # a price of the pre-open
        (300, 50_000.0, False),  # one of Friday
        (0, 5.0, True),
        (0, 5.1, False),
        (0, None, False),
        (-22_499, None, False),
        (-22_500, None, None),  # closed again
    ],
)
def test_a_silent_feed_is_red_from_five_minutes_before_the_open_to_the_close(
    before_open_s: int, silent_s: float | None, ok: bool | None
) -> None:
    when = OPENS - timedelta(seconds=before_open_s)
    assert one("feed", replace(GOOD, now=when, feed_silent_s=silent_s), when=when).ok is ok


def test_old_facts_do_not_make_a_feed_look_alive() -> None:
    assert one("feed", replace(GOOD, now=OPENS, feed_silent_s=1.0), when=OPENS + timedelta(seconds=5)).ok is False


def test_on_a_market_with_a_price_a_minute_silence_lasts_longer() -> None:
    bars = replace(GOOD, now=OPENS, timing=Timing(fresh_for_s=90))
    assert one("feed", replace(bars, feed_silent_s=90.0), when=OPENS).ok is True
    assert one("feed", replace(bars, feed_silent_s=90.1), when=OPENS).ok is False


@pytest.mark.parametrize(
    ("count", "failed", "ok"), [(1, None, True), (2, False, True), (0, None, None), (1, True, None), (None, None, None)]
)
def test_a_missing_alert_channel_warns_and_never_disarms(
    count: int | None, failed: bool | None, ok: bool | None
) -> None:
    facts = replace(GOOD, alert_channels=count, alert_test_failed=failed)
    assert one("alert_channel", facts).ok is ok
    assert armed(State.READY, preflight(STRATEGY, facts, when=EARLY))


@pytest.mark.parametrize(("free_mb", "ok"), [(200, True), (199, False), (50, False), (49, False), (None, None)])
def test_two_hundred_megabytes_must_be_free(free_mb: int | None, ok: bool | None) -> None:
    check = one("disk", replace(GOOD, free_disk_bytes=None if free_mb is None else free_mb * 10**6))
    assert check.ok is ok
    assert ("delete old backups" in check.mend) == (free_mb == 49)


@pytest.mark.parametrize("name", ["redis", "sql"])
def test_a_store_that_does_not_answer_is_red_with_its_reason(name: str) -> None:
    changed: dict[str, Answer] = {name: Answer(ok=False, text="refused the connection")}
    check = one(name, replace(GOOD, **changed))  # type: ignore[arg-type]
    assert (check.ok, check.text) == (False, "refused the connection")


def test_why_something_is_not_known_is_told_in_its_own_words() -> None:
    facts = Facts(why_unknown={CheckName.FUNDS: "squareoff is not running"})
    assert one("funds", facts).text == "squareoff is not running"
