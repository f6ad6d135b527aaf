"""When something is due: to the microsecond, in the order of urgency, and true until it was acted upon."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

import pytest

from samples import (
    BUY_AT,
    CLOSES_AT,
    CREATED,
    LOW,
    PLAN,
    SELL_AT,
    after,
    bought,
    current,
    entry_told,
    exited_by_sl,
    failed,
    failed_holding,
    failed_unknown,
    fill,
    percent,
    points,
    ready,
    report,
    running,
    seconds,
    sell_pending,
    sent,
    signal,
    sl_pending,
    sold,
    stop_pending,
    stopped,
    tick,
)
from squareoff.core.events import Cause, Event, Source
from squareoff.core.machine import State
from squareoff.core.orders import AttemptPhase
from squareoff.core.run import Run, StopSeen, absorb, advance
from squareoff.core.strategy import Plan, StopLoss, StopLossKind
from squareoff.core.triggers import MICROSECOND, due, entry_open_until, is_fresh, stop_hit, timers
from squareoff.core.types import OrderStatus, SlotName

E, S = Event, State
GRACE = seconds(PLAN.timing.grace_s)
FRESH = seconds(PLAN.timing.fresh_for_s)
OPEN_FOR = seconds(PLAN.timing.entry_open_s)
HIGH = "1560.00"
SEEN = StopSeen(price=LOW, at=BUY_AT)


def due_event(run: Run, now: object = BUY_AT, price: str | Decimal | None = HIGH) -> Event | None:
    told = due(run, now, None if price is None else tick(price, now))  # type: ignore[arg-type]
    return None if told is None else told.event


# ------------------------------------------------------------------ the BUY


@pytest.mark.parametrize(
    ("at", "event"),
    [
        (BUY_AT - MICROSECOND, None),
        (BUY_AT, E.BUY),
        (BUY_AT + GRACE, E.BUY),
        (BUY_AT + GRACE + MICROSECOND, E.SKIP),
    ],
)
def test_a_buy_is_due_from_its_time_to_the_end_of_its_grace_both_included(at: object, event: Event | None) -> None:
    """Spec 5.1a"""
    assert due_event(ready(), at) is event


@pytest.mark.parametrize(("age", "event"), [(FRESH, E.BUY), (FRESH + MICROSECOND, None)])
def test_a_buy_needs_a_price_that_is_fresh_its_greatest_age_included(age: timedelta, event: Event | None) -> None:
    told = due(ready(), BUY_AT, tick(HIGH, BUY_AT - age))
    assert (told.event if told else None) is event
    assert is_fresh(ready(), BUY_AT, tick(HIGH, BUY_AT - age)) is (event is E.BUY)


def test_without_a_price_the_first_one_within_the_grace_decides() -> None:
    assert due_event(ready(), BUY_AT, None) is None
    told = due(ready(), BUY_AT + GRACE, tick(HIGH, BUY_AT + GRACE))
    assert told is not None
    assert (told.event, told.price) == (E.BUY, Decimal(HIGH))


@pytest.mark.parametrize(("waited", "cause"), [(False, Cause.BUY_MISSED), (True, Cause.STALE_PRICE)])
def test_a_missed_buy_says_whether_squareoff_or_the_price_was_missing(waited: bool, cause: Cause) -> None:
    told = due(replace(ready(), waited_for_price=waited), BUY_AT + seconds(60), tick(HIGH))
    assert told is not None
    assert (told.event, told.cause) == (E.SKIP, cause)


@pytest.mark.parametrize(("price", "event"), [("1540.00", E.SKIP), ("1539.95", E.SKIP), ("1540.05", E.BUY)])
def test_a_buy_at_or_below_its_stop_loss_is_skipped(price: str, event: Event) -> None:
    told = due(ready(), BUY_AT, tick(price))
    assert told is not None
    assert told.event is event
    assert told.cause is (Cause.STOP_LOSS_NOT_BELOW_PRICE if event is E.SKIP else None)


@pytest.mark.parametrize("stop_loss", [percent("2"), points("20")])
def test_a_level_known_only_from_the_fill_does_not_keep_a_buy_back(stop_loss: StopLoss) -> None:
    assert due_event(ready(replace(PLAN, stop_loss=stop_loss)), BUY_AT, "1") is E.BUY


def test_no_buy_leaves_at_or_after_the_close_of_the_session_whatever_its_grace() -> None:
    late = replace(PLAN, buy_at=CLOSES_AT - seconds(2))
    assert due_event(ready(late), CLOSES_AT - MICROSECOND) is E.BUY
    assert due_event(ready(late), CLOSES_AT) is E.SKIP


@pytest.mark.parametrize("wish", [E.STOP, E.KILL])
def test_a_wish_to_stop_comes_before_the_buy(wish: Event) -> None:
    assert due_event(replace(ready(), wish=wish)) is wish


def test_nothing_is_due_before_a_strategy_is_started_or_after_it_was_stopped() -> None:
    assert due_event(CREATED, SELL_AT, "1") is None
    assert due_event(stopped(), CLOSES_AT, "1") is None


# ------------------------------------------------------------------ the stop-loss


@pytest.mark.parametrize(("price", "event"), [("1540.05", None), ("1540.00", E.STOPLOSS), ("1", E.STOPLOSS)])
def test_the_stop_loss_is_hit_at_its_price_and_below(price: str, event: Event | None) -> None:
    """Spec 5.3a"""
    assert due_event(bought(), BUY_AT, price) is event


@pytest.mark.parametrize("make", [running, bought, sell_pending, stop_pending])
def test_a_stop_loss_is_watched_from_the_first_fill_until_the_run_is_flat(make: object) -> None:
    """Spec 7a, 10.3"""
    told = due(make(), BUY_AT, tick(LOW), Source.TICK)  # type: ignore[operator]
    assert told is not None
    assert (told.event, told.price, told.source) == (E.STOPLOSS, LOW, Source.TICK)


def test_a_recovery_of_the_price_takes_nothing_back() -> None:
    """Spec 7a, 10.3"""
    assert due_event(replace(bought(), stop_seen=SEEN), BUY_AT, "1600") is E.STOPLOSS
    assert due_event(replace(sell_pending(), stop_seen=SEEN), BUY_AT, "1600") is E.STOPLOSS
    assert sl_pending().state is S.SL_PENDING
    assert due_event(sent(sl_pending(), SlotName.EXIT), BUY_AT, "1600") is None


def test_a_stop_loss_latched_while_buying_is_due_the_moment_the_entry_settles() -> None:
    run = entry_told(after(running(), E.STOPLOSS), OrderStatus.CANCELLED, fill("20"))
    told = due(run, BUY_AT, tick("1600"))
    assert told is not None
    assert (told.event, told.price) == (E.STOPLOSS, LOW)


def test_while_buying_a_stop_loss_is_told_once() -> None:
    run = running()
    assert due_event(run, BUY_AT, LOW) is E.STOPLOSS
    assert due_event(after(run, E.STOPLOSS), BUY_AT, LOW) is None


def test_a_stop_loss_that_was_latched_but_not_acted_upon_is_due_while_buying() -> None:
    assert due_event(replace(running(), stop_seen=SEEN), BUY_AT, "1600") is E.STOPLOSS


def test_a_stop_loss_comes_also_when_the_entry_is_being_cancelled_already() -> None:
    assert due_event(after(running(), E.ENTRY_EXPIRED), BUY_AT, LOW) is E.STOPLOSS


@pytest.mark.parametrize(("low", "hit"), [("1540.05", None), ("1540.00", Decimal("1540.00")), ("1539.95", LOW)])
def test_a_low_found_after_a_crash_hits_the_stop_loss_at_its_price_and_below(low: str, hit: Decimal | None) -> None:
    assert stop_hit(replace(bought(), lowest_price=Decimal(low)), tick("1600")) == hit


def test_without_a_level_no_price_is_a_stop_loss() -> None:
    run = running(replace(PLAN, stop_loss=percent("2")))
    assert stop_hit(run, tick("1")) is None
    assert stop_hit(bought(), None) is None


@pytest.mark.parametrize(
    ("stop_loss", "average", "tick_size", "level"),
    [
        (percent("2"), "1560.00", "0.05", "1528.80"),
        (percent("2"), "1560.01", "0.05", "1528.85"),
        (percent("1.5"), "333.35", "0.05", "328.35"),
        (percent("33.3333"), "100", "0.05", "66.70"),
        (points("20"), "1560.00", "0.05", "1540.00"),
        (points("20"), "1560.02", "0.05", "1540.05"),
        (points("0.5"), "27.125", "0.0025", "26.6250"),
        (StopLoss(kind=StopLossKind.PRICE, value=Decimal("1540.00")), "1560.02", "0.05", "1540.00"),
    ],
)
def test_percent_and_points_are_below_the_average_fill_rounded_up_to_the_tick(
    stop_loss: StopLoss, average: str, tick_size: str, level: str
) -> None:
    assert stop_loss.price_for(Decimal(average), Decimal(tick_size)) == Decimal(level)


def test_an_average_that_does_not_end_is_not_rounded_up_past_the_tick_it_means() -> None:
    run = running(replace(PLAN, stop_loss=points("20"), quantity=Decimal(3)))
    run = entry_told(run, OrderStatus.FILLED, fill("1", "1560.05"), fill("2", "1560.20"))
    assert run.stop_price == Decimal("1540.15")


# ------------------------------------------------------------------ urgency


@pytest.mark.parametrize(
    ("price", "wish", "now", "event"),
    [
        (LOW, E.KILL, SELL_AT, E.STOPLOSS),
        (HIGH, E.KILL, SELL_AT, E.KILL),
        (HIGH, E.STOP, SELL_AT, E.STOP),
        (HIGH, None, SELL_AT, E.SELL),
        (HIGH, None, SELL_AT - MICROSECOND, None),
    ],
)
def test_stop_loss_comes_before_kill_before_stop_before_sell(
    price: str, wish: Event | None, now: object, event: Event | None
) -> None:
    """Spec 7a, 10.3"""
    assert due_event(replace(bought(), wish=wish), now, price) is event


def test_sell_never_expires_while_a_position_is_held() -> None:
    """Spec 5.2a"""
    assert due_event(bought(), SELL_AT + timedelta(days=3)) is E.SELL


@pytest.mark.parametrize("wish", [E.STOP, E.KILL])
def test_a_wish_overtakes_a_timed_sell_and_is_due_while_buying(wish: Event) -> None:
    assert due_event(replace(sell_pending(), wish=wish)) is wish
    assert due_event(replace(running(), wish=wish)) is wish


# ------------------------------------------------------------------ the open entry


def test_an_entry_is_cancelled_when_its_life_is_over() -> None:
    run = running()
    assert entry_open_until(run) == BUY_AT + OPEN_FOR
    assert due_event(run, BUY_AT + OPEN_FOR - MICROSECOND) is None
    assert due_event(run, BUY_AT + OPEN_FOR) is E.ENTRY_EXPIRED
    assert due_event(after(run, E.ENTRY_EXPIRED), BUY_AT + OPEN_FOR) is None


def test_the_life_of_an_entry_counts_from_its_sending() -> None:
    run = replace(running(), entry_opened_at=BUY_AT + seconds(3))
    assert entry_open_until(run) == BUY_AT + seconds(3) + OPEN_FOR


def test_sell_time_cancels_an_entry_that_is_still_open() -> None:
    late = replace(PLAN, buy_at=SELL_AT - seconds(3))
    run = replace(running(late), entry_opened_at=late.buy_at)
    assert due_event(run, SELL_AT - MICROSECOND) is None
    assert due_event(run, SELL_AT) is E.SELL


def refused_for_now(retry_at: object = BUY_AT + seconds(0.25)) -> Run:
    run = running()
    entry = replace(run.entry.with_current(phase=AttemptPhase.DONE), tries=1)
    return replace(run, entry=entry, retry_at=retry_at)


def test_a_refused_buy_is_tried_again_after_its_pause_and_only_within_the_grace() -> None:
    run = refused_for_now()
    assert due_event(run, BUY_AT + seconds(0.25) - MICROSECOND) is None
    assert due_event(run, BUY_AT + seconds(0.25)) is E.RETRY
    assert due_event(run, BUY_AT + GRACE) is E.RETRY
    over = due(run, BUY_AT + GRACE + MICROSECOND, tick(HIGH))
    assert over is not None
    assert (over.event, over.cause) == (E.UNFILLED, Cause.RETRIES_EXHAUSTED)


def test_a_buy_that_was_never_taken_in_its_time_was_missed() -> None:
    waits = replace(after(ready(), E.BUY), retry_at=BUY_AT + seconds(9))  # too many requests: not counted as a try
    over = due(waits, BUY_AT + GRACE + MICROSECOND, tick(HIGH))
    assert over is not None
    assert (over.event, over.cause) == (E.UNFILLED, Cause.BUY_MISSED)


def test_no_buy_is_tried_again_after_a_stop_loss_was_seen_even_if_the_price_recovered() -> None:
    run = refused_for_now()
    assert due_event(run, BUY_AT + seconds(1), LOW) is E.STOPLOSS
    run = after(run, E.STOPLOSS)
    assert due_event(run, BUY_AT + seconds(1), "1600") is E.UNFILLED


@pytest.mark.parametrize(
    ("event", "end"),
    [(E.STOP, E.CALLED_OFF), (E.KILL, E.CALLED_OFF), (E.SELL, E.UNFILLED), (E.ENTRY_EXPIRED, E.UNFILLED)],
)
def test_an_entry_that_waits_for_a_retry_ends_at_once_when_it_is_cancelled(event: Event, end: Event) -> None:
    assert due_event(after(refused_for_now(), event)) is end


def test_a_try_that_never_left_ends_with_its_cancel_too() -> None:
    run = replace(after(ready(), E.BUY), retry_at=BUY_AT + seconds(1))
    assert due_event(run) is None
    assert due_event(after(run, E.STOP)) is E.CALLED_OFF


def test_a_buy_about_to_be_sent_is_not_taken_for_over() -> None:
    assert due_event(after(ready(), E.BUY)) is None
    assert due_event(after(ready(), E.BUY, E.STOP)) is None


@pytest.mark.parametrize("retry_at", [None, BUY_AT])
def test_a_buy_whose_end_was_learnt_just_before_a_crash_is_bought_and_never_tried_again(retry_at: object) -> None:
    """Spec 10.1, 10.6"""
    saved, _ = absorb(running(), report(running(), SlotName.ENTRY, OrderStatus.CANCELLED, fill("20")))
    woken = replace(saved, retry_at=retry_at)  # type: ignore[arg-type]
    assert due_event(woken) is E.FILLED
    assert due_event(replace(woken, stop_seen=SEEN, entry_cancel_asked=True)) is E.FILLED


def test_a_refusal_learnt_just_before_a_crash_ends_the_entry() -> None:
    saved, _ = absorb(running(), report(running(), SlotName.ENTRY, OrderStatus.REFUSED, reason="margin"))
    told = due(saved, BUY_AT, tick(HIGH))
    assert told is not None
    assert (told.event, told.detail) == (E.UNFILLED, "margin")


# ------------------------------------------------------------------ the open exit


def test_the_end_of_an_exit_learnt_just_before_a_crash_is_told_again() -> None:
    """Spec 10.6"""
    run = sell_pending()
    flat, _ = absorb(run, report(run, SlotName.EXIT, OrderStatus.FILLED, fill("50")))
    assert due_event(flat) is E.FILLED
    part, _ = absorb(run, report(run, SlotName.EXIT, OrderStatus.CANCELLED, fill("20")))
    assert due_event(part) is E.RETRY
    held = failed_holding()
    over, _ = absorb(held, report(held, SlotName.EXIT, OrderStatus.CANCELLED, fill("20")))
    assert due_event(replace(over, retry_at=None)) is E.RETRY


@pytest.mark.parametrize("make", [sell_pending, sl_pending, stop_pending, failed_holding])
def test_a_sell_is_tried_again_when_its_pause_is_over_and_not_while_it_may_be_live(make: object) -> None:
    run: Run = replace(make(), retry_at=BUY_AT)  # type: ignore[operator]
    assert due_event(run, BUY_AT - MICROSECOND) is None
    assert due_event(run) is E.RETRY
    assert due_event(sent(run, SlotName.EXIT)) is None


@pytest.mark.parametrize("make", [sell_pending, sl_pending, stop_pending])
def test_a_sell_that_was_licensed_and_never_left_is_due_until_it_is_sent(make: object) -> None:
    run: Run = make()  # type: ignore[operator]
    assert due_event(run) is E.RETRY
    assert due_event(replace(run, retry_at=BUY_AT + seconds(1))) is None
    assert due_event(sent(run, SlotName.EXIT)) is None


# ------------------------------------------------------------------ after the end


def test_a_buy_that_was_never_heard_of_is_looked_for_until_half_a_minute_after_the_close() -> None:
    """Found by `make model`: it may show itself in the last moment, and must be read before it is forgotten."""
    run, until = failed_unknown(), CLOSES_AT + seconds(30)
    assert due_event(run, CLOSES_AT) is None
    assert due_event(run, until - MICROSECOND) is None
    assert due_event(run, until) is E.SESSION_CLOSED
    assert until in timers(run)


@pytest.mark.parametrize("make", [sold, exited_by_sl, failed])
def test_the_close_of_the_session_is_due_for_what_is_over(make: object) -> None:
    run: Run = make()  # type: ignore[operator]
    assert due_event(run, CLOSES_AT - MICROSECOND) is None
    assert due_event(run, CLOSES_AT) is E.SESSION_CLOSED


def test_the_close_of_the_session_does_not_end_the_rescue_of_a_position() -> None:
    run = replace(failed_holding(), retry_at=CLOSES_AT + seconds(1))
    assert due_event(run, CLOSES_AT) is None
    assert due_event(run, CLOSES_AT + seconds(1)) is E.RETRY


@pytest.mark.parametrize("wish", [E.STOP, E.KILL])
def test_a_wish_kept_by_a_failed_run_is_due_once_it_is_closed(wish: Event) -> None:
    assert due_event(after(failed_unknown(), wish)) is None
    assert due_event(replace(failed(), wish=wish)) is wish


def test_nothing_is_tried_again_by_a_run_that_is_over_and_holds_nothing() -> None:
    for run in (sold(), failed(), failed_unknown()):
        assert due_event(replace(run, retry_at=BUY_AT)) is None


def test_a_late_order_known_to_rest_at_the_broker_keeps_the_watch_whatever_came_before_it() -> None:
    run = failed_unknown()
    lost = run.entry.attempts[0]
    over, resting = replace(lost, phase=AttemptPhase.DONE), replace(lost, number=2, phase=AttemptPhase.OPEN)
    watched = replace(run, entry=replace(run.entry, attempts=(over, resting)))
    assert due_event(watched, CLOSES_AT) is None


def test_no_price_moves_a_run_that_is_over() -> None:
    """Spec 9a"""
    for run in (sold(), exited_by_sl(), failed(), failed_unknown(), stopped()):
        assert due_event(run, BUY_AT, "1") is None


# ------------------------------------------------------------------ timers


@pytest.mark.parametrize(
    ("make", "instants"),
    [
        (lambda: CREATED, ()),
        (ready, (BUY_AT, BUY_AT + GRACE + MICROSECOND)),
        (running, (BUY_AT + OPEN_FOR, SELL_AT)),
        (bought, (SELL_AT, CLOSES_AT)),
        (sell_pending, (CLOSES_AT,)),
        (sl_pending, (CLOSES_AT,)),
        (stop_pending, (CLOSES_AT,)),
        (sold, (CLOSES_AT,)),
        (exited_by_sl, (CLOSES_AT,)),
        (failed, (CLOSES_AT,)),
        (failed_holding, (CLOSES_AT, BUY_AT)),
        (stopped, ()),
    ],
)
def test_each_state_has_the_timers_it_needs_and_no_other(make: object, instants: tuple[object, ...]) -> None:
    """Spec 3, 7b"""
    assert timers(make()) == instants  # type: ignore[operator]


def test_a_try_that_waits_has_a_timer() -> None:
    assert timers(refused_for_now())[-1] == BUY_AT + seconds(0.25)


@pytest.mark.parametrize("plan", [PLAN, replace(PLAN, buy_at=CLOSES_AT - seconds(2))])
def test_time_alone_never_makes_due_what_no_timer_asks_for(plan: Plan) -> None:
    """Walks every run from timer to timer; between two timers nothing new may become due."""
    for run in (ready(plan), running(plan), bought(plan=plan), failed_unknown(), sold()):
        instants = sorted({*timers(run), plan.buy_at, plan.closes_at})
        for earlier, later in pairwise(instants):
            just_before = later - MICROSECOND
            assert due_event(run, earlier, None) == due_event(run, just_before, None)


def test_what_is_due_stays_due_until_it_is_acted_upon() -> None:
    run = bought()
    told = due(run, SELL_AT, tick(HIGH))
    assert due(run, SELL_AT, tick(HIGH)) == told
    assert told is not None
    assert due(sent(advance(run, told).run, SlotName.EXIT), SELL_AT, tick(HIGH)) is None
    assert current(run, SlotName.EXIT).phase is AttemptPhase.LICENSED


def test_a_quote_just_asked_for_makes_an_old_price_fresh() -> None:
    old = tick(HIGH, BUY_AT - seconds(60))
    assert due(ready(), BUY_AT, old) is None
    told = due(ready(), BUY_AT, old, as_of=BUY_AT - FRESH)
    assert told is not None
    assert told.event is E.BUY


def test_a_signal_bears_the_time_it_was_asked_at_and_by_whom_however_often_it_is_asked() -> None:
    asked = [(SELL_AT, Source.TIMER), (SELL_AT + seconds(1), Source.TIMER), (SELL_AT + seconds(1), Source.ENGINE)]
    told = [due(bought(), at, tick(HIGH, at), source) for at, source in asked]
    assert [(one.event, one.at, one.source) for one in told if one is not None] == [(E.SELL, *each) for each in asked]


def test_a_single_share_is_bought_watched_and_sold_like_fifty() -> None:
    one = replace(PLAN, quantity=Decimal(1))
    filled, news = absorb(running(one), report(running(one), SlotName.ENTRY, OrderStatus.FILLED, fill("1")))
    assert (news, due_event(filled)) == (E.FILLED, E.FILLED)
    held = after(filled, E.FILLED)
    assert (held.state, held.remaining_qty) == (S.BOUGHT, 1)
    selling = advance(held, signal(E.SELL, SELL_AT)).run
    assert due_event(selling, SELL_AT) is E.RETRY
    gone = after(held, E.SAFETY_ABORT)
    assert due_event(replace(gone, retry_at=None), SELL_AT) is E.RETRY


def test_the_end_of_the_watch_is_not_due_for_what_is_held_or_rests_at_the_broker() -> None:
    late = CLOSES_AT + seconds(60)
    assert due_event(replace(failed_holding(), retry_at=late + seconds(1)), late) is None
    resting, _ = absorb(failed_unknown(), report(failed_unknown(), SlotName.ENTRY, OrderStatus.OPEN))
    assert due_event(resting, late) is None
