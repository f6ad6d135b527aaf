"""A run from start to end: what the specification promises, said as the trader would say it.

A docstring `Spec 4.3` names the line of STATE-MACHINE.md a test proves; docs/test-cases.md spells the lines out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    exit_told,
    exited_by_sl,
    failed,
    failed_holding,
    failed_unknown,
    fill,
    hear,
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
    tell,
    tick,
)
from squareoff.core.events import Cause, Event, Signal, Source
from squareoff.core.machine import EXIT_OPEN, FINAL, Effect, State
from squareoff.core.orders import MAX_TRIES, RESCUE_EVERY_S, AttemptPhase, SlotPhase
from squareoff.core.outcomes import NotSent, judge
from squareoff.core.run import Run, absorb, advance, nothing_bought, slot_of
from squareoff.core.triggers import due, watched_until
from squareoff.core.types import ZERO, Exposure, OrderStatus, SlotName

E, S, X = Event, State, Effect
ENTRY, EXIT = SlotName.ENTRY, SlotName.EXIT
OPEN, FILLED, CANCELLED, REFUSED = OrderStatus.OPEN, OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REFUSED

# ------------------------------------------------------------------ section 4, line by line


def test_start_makes_a_created_strategy_ready() -> None:
    """Spec 4.1"""
    decision = tell(CREATED, E.START)
    assert (decision.run.state, decision.effects) == (S.READY, (X.ARM,))
    assert decision.run.entry.phase is SlotPhase.NONE
    assert decision.run.exposure is Exposure.FLAT


def test_buy_time_makes_ready_bought_once_the_fills_prove_it() -> None:
    """Spec 4.2"""
    sending = tell(ready(), E.BUY)
    assert (sending.run.state, sending.effects) == (S.RUNNING, (X.SEND_ENTRY,))
    assert current(sending.run, ENTRY).qty == 50
    run = entry_told(sent(sending.run, ENTRY), FILLED, fill("50"))
    assert (run.state, run.exposure, run.remaining_qty, run.cause) == (S.BOUGHT, Exposure.LONG, 50, None)


def test_the_stop_loss_makes_bought_exited_by_sl() -> None:
    """Spec 4.3"""
    hit = tell(bought(), E.STOPLOSS)
    assert (hit.run.state, hit.effects) == (S.SL_PENDING, (X.DROP_SELL_TIMER, X.SEND_EXIT))
    run = exit_told(hit.run, FILLED, fill("50", "1539"))
    assert (run.state, run.cause, run.exposure, run.outcome) == (
        S.EXITED_BY_SL,
        Cause.STOP_LOSS,
        Exposure.FLAT,
        S.EXITED_BY_SL,
    )


def test_sell_time_makes_bought_sold() -> None:
    """Spec 4.4"""
    run = sold()
    assert (run.state, run.cause, run.exposure, run.outcome) == (S.SOLD, Cause.SELL_TIME, Exposure.FLAT, S.SOLD)
    assert run.pnl_gross == 500


@pytest.mark.parametrize("event", [E.SAFETY_ABORT, E.REFUSED, E.UNFILLED, E.NOT_FOUND])
def test_a_failure_while_buying_makes_running_failed(event: Event) -> None:
    """Spec 4.5"""
    decision = tell(running(), event)
    assert decision.run.state is S.FAILED
    assert X.ALERT in decision.effects


def test_a_stop_while_buying_ends_stopped_when_nothing_was_bought() -> None:
    """Spec 4.6"""
    run = tell(running(), E.STOP).run
    assert (run.state, run.wish, run.entry_cancel_asked) == (S.RUNNING, E.STOP, True)
    run = entry_told(run, CANCELLED)
    assert (run.state, run.cause, run.exposure, run.wish) == (S.STOPPED, Cause.STOPPED_BY_USER, Exposure.FLAT, None)


def test_a_stop_while_buying_squares_off_what_was_bought_all_the_same() -> None:
    """Spec 4.6"""
    run = entry_told(after(running(), E.STOP), CANCELLED, fill("20"))
    assert (run.state, run.remaining_qty) == (S.BOUGHT, 20)
    wish = due(run, BUY_AT, None)
    assert wish is not None
    run = advance(run, wish).run
    assert (run.state, current(run, EXIT).qty) == (S.STOP_PENDING, 20)
    assert exit_told(run, FILLED, fill("20")).state is S.STOPPED


def test_a_stop_with_a_position_squares_off_and_then_stops() -> None:
    """Spec 4.7"""
    asked = tell(bought(), E.STOP)
    assert (asked.run.state, asked.effects) == (S.STOP_PENDING, (X.DROP_SELL_TIMER, X.SEND_EXIT))
    told, news = absorb(asked.run, report(asked.run, EXIT, FILLED, fill("50")))
    assert news is E.FILLED
    done = tell(told, news)
    assert (done.run.state, done.effects) == (S.STOPPED, (X.ARCHIVE,))
    assert (done.run.cause, done.run.exposure) == (Cause.STOPPED_BY_USER, Exposure.FLAT)


def test_stop_archives_a_sold_run_and_its_outcome_stays() -> None:
    """Spec 4.8"""
    decision = tell(sold(), E.STOP)
    assert (decision.run.state, decision.effects) == (S.STOPPED, (X.ARCHIVE,))
    assert (decision.run.outcome, decision.run.cause) == (S.SOLD, Cause.SELL_TIME)


def test_stop_archives_a_run_exited_by_the_stop_loss_and_its_outcome_stays() -> None:
    """Spec 4.9"""
    decision = tell(exited_by_sl(), E.STOP)
    assert (decision.run.state, decision.effects) == (S.STOPPED, (X.ARCHIVE,))
    assert (decision.run.outcome, decision.run.cause) == (S.EXITED_BY_SL, Cause.STOP_LOSS)


def test_stop_archives_a_failed_run_that_holds_nothing() -> None:
    """Spec 4.10"""
    decision = tell(failed(), E.STOP)
    assert (decision.run.state, decision.effects) == (S.STOPPED, (X.ARCHIVE,))
    assert (decision.run.outcome, decision.run.cause) == (S.FAILED, Cause.ENTRY_REFUSED)


# ------------------------------------------------------------------ section 5, event by event


@pytest.mark.parametrize("make", [running, bought, sell_pending, sl_pending, stop_pending, sold, failed, stopped])
def test_a_second_buy_is_never_made_in_the_same_run(make: object) -> None:
    """Spec 5.1b"""
    run = make()  # type: ignore[operator]
    assert tell(run, E.BUY).run is run


def test_a_token_found_invalid_when_the_buy_is_due_fails_the_run_flat() -> None:
    """Spec 5.1c"""
    run = running()
    over = replace(run, entry=run.entry.with_current(phase=AttemptPhase.DONE))
    run = tell(over, E.SAFETY_ABORT, cause=Cause.TOKEN_INVALID).run
    assert (run.state, run.cause, run.exposure, run.is_closed) == (
        S.FAILED,
        Cause.TOKEN_INVALID,
        Exposure.FLAT,
        True,
    )


@pytest.mark.parametrize("make", [lambda: CREATED, ready, running, sold, exited_by_sl, failed, stopped])
def test_sell_time_sells_nothing_where_nothing_is_proven_to_be_held(make: object) -> None:
    """Spec 5.2b"""
    decision = tell(make(), E.SELL)  # type: ignore[operator]
    assert X.SEND_EXIT not in decision.effects


def test_the_stop_loss_cancels_the_sell_timer_and_keeps_the_price_that_hit_it() -> None:
    """Spec 5.3c, 7b"""
    run = sl_pending()
    assert (run.stop_seen is not None and run.stop_seen.price) == LOW
    assert run.cause is Cause.STOP_LOSS
    assert due(sent(run, EXIT), SELL_AT, None) is None


@pytest.mark.parametrize("make", [sell_pending, sl_pending, stop_pending])
def test_a_refused_sell_is_tried_three_more_times_in_the_same_state(make: object) -> None:
    """Spec 5.4a"""
    run: Run = make()  # type: ignore[operator]
    state = run.state
    for number in range(2, MAX_TRIES + 1):
        run = exit_told(sent(run, EXIT), REFUSED)
        assert (run.state, current(run, EXIT).number, current(run, EXIT).phase) == (
            state,
            number,
            AttemptPhase.LICENSED,
        )


@pytest.mark.parametrize("make", [sell_pending, sl_pending, stop_pending])
def test_after_the_third_retry_the_run_fails_still_long_and_the_rescue_goes_on(make: object) -> None:
    """Spec 5.4b"""
    run: Run = make()  # type: ignore[operator]
    for _ in range(MAX_TRIES):
        run = exit_told(sent(run, EXIT), REFUSED)
    assert (run.state, run.cause, run.exposure) == (S.FAILED, Cause.EXIT_REFUSED, Exposure.LONG)
    assert run.retry_at == BUY_AT + seconds(RESCUE_EVERY_S)
    assert due(run, BUY_AT + seconds(RESCUE_EVERY_S - 0.001), None) is None
    again = due(run, BUY_AT + seconds(RESCUE_EVERY_S), None)
    assert again is not None
    rescued = advance(run, again)
    assert (rescued.run.state, rescued.effects) == (S.FAILED, (X.SEND_EXIT,))
    assert current(rescued.run, EXIT).phase is AttemptPhase.LICENSED


def test_a_buy_that_was_refused_for_now_is_tried_again_as_the_next_attempt() -> None:
    """Spec 5.4a"""
    run = running()
    run = replace(run, entry=run.entry.with_current(phase=AttemptPhase.DONE), retry_at=BUY_AT)
    decision = tell(run, E.RETRY)
    assert (decision.run.state, decision.effects) == (S.RUNNING, (X.SEND_ENTRY,))
    assert [a.number for a in decision.run.entry.attempts] == [1, 2]
    assert decision.run.retry_at is None


def test_a_try_that_never_left_repeats_the_same_attempt_under_the_same_id() -> None:
    run = after(ready(), E.BUY)
    again = tell(replace(run, retry_at=BUY_AT), E.RETRY).run
    assert again.entry == run.entry


@pytest.mark.parametrize(
    "cause",
    [Cause.TOKEN_INVALID, Cause.CORRUPTED, Cause.RETRIES_EXHAUSTED, Cause.LOCK_STUCK, Cause.IMPOSSIBLE_TRANSITION],
)
def test_safety_abort_fails_a_run_that_is_buying_and_says_why(cause: Cause) -> None:
    """Spec 5.5"""
    decision = tell(running(), E.SAFETY_ABORT, cause=cause)
    assert (decision.run.state, decision.run.cause) == (S.FAILED, cause)
    assert decision.run.exposure is Exposure.UNKNOWN
    assert decision.run.entry.phase is SlotPhase.WATCH
    assert decision.effects == (X.ALERT, X.CANCEL_ENTRY, X.WATCH_LATE, X.RESCUE)


@pytest.mark.parametrize("event", [E.STOP, E.KILL])
def test_stopping_a_strategy_that_holds_nothing_deletes_its_runtime_at_once(event: Event) -> None:
    """Spec 5.6a, 5.6b"""
    decision = tell(ready(), event)
    assert (decision.run.state, decision.effects) == (S.STOPPED, (X.VOID_ENTRY, X.ARCHIVE))
    assert decision.run.entry.phase is SlotPhase.VOID
    assert tell(CREATED, event).run.state is (S.STOPPED if event is E.STOP else S.CREATED)


@pytest.mark.parametrize("event", [E.STOP, E.KILL])
@pytest.mark.parametrize("make", [running, bought, sell_pending, sl_pending, stop_pending])
def test_stopping_from_any_state_with_an_order_or_a_position_ends_flat(make: object, event: Event) -> None:
    """Spec 5.6a, 5.6b"""
    run: Run = make()  # type: ignore[operator]
    by_stop_loss = run.state is S.SL_PENDING
    run = after(run, event)
    if run.state is S.RUNNING:
        run = entry_told(run, CANCELLED, fill("5"))
    if run.state is S.BOUGHT:
        run = after(run, event)
    run = exit_told(run, FILLED, fill(run.remaining_qty))
    assert (run.state, run.exposure) == (S.EXITED_BY_SL if by_stop_loss else S.STOPPED, Exposure.FLAT)


# ------------------------------------------------------------------ section 7: the stop-loss first


@pytest.mark.parametrize("make", [sell_pending, stop_pending])
def test_a_stop_loss_overtakes_an_exit_that_is_open_already(make: object) -> None:
    """Spec 7a, 10.3"""
    decision = tell(make(), E.STOPLOSS)  # type: ignore[operator]
    assert (decision.run.state, decision.effects) == (S.SL_PENDING, (X.DROP_SELL_TIMER, X.UPGRADE_EXIT))
    run = exit_told(decision.run, FILLED, fill("50"))
    assert (run.state, run.cause) == (S.EXITED_BY_SL, Cause.STOP_LOSS)


@pytest.mark.parametrize("event", [E.SELL, E.STOP, E.KILL, E.HAND_OVER, E.SESSION_CLOSED])
def test_nothing_overtakes_a_stop_loss_that_was_hit(event: Event) -> None:
    """Spec 7a, 10.3"""
    assert tell(sl_pending(), event).run.state is S.SL_PENDING


@pytest.mark.parametrize("event", [E.SELL, E.STOP, E.KILL])
def test_a_stop_loss_seen_while_buying_overrides_whatever_is_asked_first_afterwards(event: Event) -> None:
    """Spec 7a, 10.3"""
    run = entry_told(after(running(), E.STOPLOSS), CANCELLED, fill("20"))
    assert run.state is S.BOUGHT
    run = after(run, event)
    assert (run.state, run.cause) == (S.SL_PENDING, Cause.STOP_LOSS)


def test_a_stop_loss_latched_while_the_timed_sell_was_filling_still_ends_exited_by_sl() -> None:
    """Spec 7a, 10.3"""
    run = sell_pending()
    latched = replace(run, stop_seen=sl_pending().stop_seen)  # as the engine latches, before the event is worked
    done = exit_told(latched, FILLED, fill("50"))
    assert (done.state, done.cause) == (S.EXITED_BY_SL, Cause.STOP_LOSS)


def test_a_position_whose_stop_loss_was_hit_is_not_handed_over() -> None:
    run = entry_told(after(running(), E.STOPLOSS), CANCELLED, fill("20"))
    decision = tell(run, E.HAND_OVER)
    assert decision.run is run
    assert decision.reason == "the stop-loss was hit: it is sold first"


def test_a_stop_loss_overrides_the_pause_before_a_retry() -> None:
    later = BUY_AT + seconds(1)
    run = replace(sell_pending(), retry_at=later)
    assert tell(run, E.STOPLOSS).run.retry_at == BUY_AT


def test_asking_to_stop_does_not_put_off_a_rescue_that_is_due_sooner() -> None:
    run = replace(failed_holding(), retry_at=BUY_AT + seconds(1))
    tried = replace(run, exit=replace(run.exit, tries=1))
    assert tell(tried, E.STOP).run.retry_at == BUY_AT + seconds(1)
    assert tell(replace(tried, retry_at=None), E.STOP).run.retry_at == BUY_AT + seconds(RESCUE_EVERY_S)


def test_where_the_level_is_known_only_from_the_fill_the_lowest_price_since_the_buy_counts() -> None:
    plan = replace(PLAN, stop_loss=percent("2"))
    run = replace(running(plan), lowest_price=Decimal("1528.80"))
    run = entry_told(run, FILLED, fill("50", "1560"))
    assert (run.stop_price, run.lowest_price) == (Decimal("1528.80"), None)
    assert run.stop_seen is not None
    assert run.stop_seen.price == Decimal("1528.80")
    hit = due(run, BUY_AT, tick("1600"))
    assert hit is not None
    assert hit.event is E.STOPLOSS


def test_a_low_before_the_fill_that_stayed_above_the_level_is_forgotten_once_compared() -> None:
    plan = replace(PLAN, stop_loss=points("20"))
    run = replace(running(plan), lowest_price=Decimal("1540.05"))
    run = entry_told(run, FILLED, fill("50", "1560"))
    assert (run.stop_price, run.stop_seen, run.lowest_price) == (Decimal("1540.00"), None, None)
    raised = replace(run, stop_price=Decimal("1550"))  # an edit must not find an old low below its new level
    assert due(raised, BUY_AT, tick("1560")) is None


def test_the_price_that_hit_the_stop_loss_first_is_the_one_that_is_kept() -> None:
    run = tell(after(running(), E.STOPLOSS), E.STOPLOSS, price=Decimal(1)).run
    assert run.stop_seen is not None
    assert run.stop_seen.price == LOW


def test_a_stop_loss_names_the_price_that_tripped_it() -> None:
    with pytest.raises(ValueError, match="names the price"):
        Signal(event=E.STOPLOSS, at=BUY_AT, source=Source.TICK)


# ------------------------------------------------------------------ section 9: terminal states

FINAL_RUNS = [sold, exited_by_sl, failed, failed_holding, failed_unknown, stopped]


@pytest.mark.parametrize("make", FINAL_RUNS)
@pytest.mark.parametrize("event", sorted(set(E) - {E.START, E.STOP, E.KILL, E.SESSION_CLOSED}))
def test_no_trading_event_leaves_a_final_state(make: object, event: Event) -> None:
    """Spec 9a"""
    run: Run = make()  # type: ignore[operator]
    assert tell(run, event).run.state is run.state


@pytest.mark.parametrize("make", [sold, exited_by_sl, failed, stopped])
def test_start_after_the_end_archives_the_run_and_asks_for_a_new_one(make: object) -> None:
    """Spec 9b"""
    run: Run = make()  # type: ignore[operator]
    decision = tell(run, E.START)
    assert (decision.run.state, decision.effects) == (S.STOPPED, (X.ARCHIVE, X.NEW_RUN))
    assert (decision.run.outcome, decision.run.entry) == (run.outcome, run.entry)
    assert tell(replace(CREATED, key=run.key), E.START).run.state is S.READY


@pytest.mark.parametrize("make", [failed_holding, failed_unknown])
def test_start_is_refused_with_the_reason_while_the_earlier_run_may_hold(make: object) -> None:
    """Spec 9b"""
    run: Run = make()  # type: ignore[operator]
    decision = tell(run, E.START)
    assert decision.run is run
    assert decision.reason == "an earlier run is not closed: it may still buy or hold"


def test_the_close_of_the_session_archives_what_is_over() -> None:
    """Spec 9a"""
    decision = tell(sold(), E.SESSION_CLOSED, CLOSES_AT)
    assert (decision.run.state, decision.effects, decision.run.outcome) == (S.STOPPED, (X.ARCHIVE,), S.SOLD)


@pytest.mark.parametrize(("event", "end"), [(E.STOPLOSS, S.EXITED_BY_SL), (E.SELL, S.SOLD)])
def test_a_strategy_goes_from_ready_through_its_exit_to_stopped(event: Event, end: State) -> None:
    """Spec 8"""
    run = after(bought(), event)
    run = exit_told(run, FILLED, fill("50"))
    assert run.state is end
    assert after(run, E.STOP).state is S.STOPPED


@pytest.mark.parametrize("make", [lambda: CREATED, ready, sold, exited_by_sl, failed, stopped])
def test_a_stop_loss_price_does_nothing_where_nothing_is_held(make: object) -> None:
    """Spec 5.3b"""
    run: Run = make()  # type: ignore[operator]
    assert tell(run, E.STOPLOSS).run is run


# ------------------------------------------------------------------ stop, kill, hand over


def test_a_stop_on_a_failed_run_that_holds_is_kept_until_it_is_flat() -> None:
    asked = tell(failed_holding(), E.STOP)
    assert (asked.run.state, asked.run.wish, asked.effects) == (S.FAILED, E.STOP, (X.ALERT, X.RESCUE))
    flat = exit_told(asked.run, FILLED, fill("50"))
    assert (flat.state, flat.exposure) == (S.FAILED, Exposure.FLAT)
    wish = due(flat, BUY_AT, None)
    assert wish is not None
    assert advance(flat, wish).run.state is S.STOPPED


def test_a_stop_does_not_take_the_kill_switch_back() -> None:
    run = after(running(), E.KILL, E.STOP)
    assert run.wish is E.KILL
    assert entry_told(run, CANCELLED).cause is Cause.KILLED


def test_a_handed_over_position_is_the_users_and_nothing_of_it_is_sold_any_more() -> None:
    decision = tell(bought(), E.HAND_OVER)
    run = decision.run
    assert (run.state, decision.effects, run.cause) == (S.STOPPED, (X.ARCHIVE,), Cause.HANDED_OVER)
    assert (run.exposure, run.remaining_qty, run.is_closed) == (Exposure.HANDED_OVER, ZERO, True)
    for event in (E.STOPLOSS, E.SELL, E.STOP, E.KILL, E.RETRY, E.NOT_FOUND, E.REFUSED):
        assert tell(run, event).run.exit.attempts == run.exit.attempts
    late = hear(run, report(run, ENTRY, FILLED, fill("5")))
    assert (late.exposure, late.remaining_qty, late.cause) == (Exposure.HANDED_OVER, ZERO, Cause.LATE_FILL)


@pytest.mark.parametrize("slot", [ENTRY, EXIT])
def test_a_position_is_not_handed_over_while_an_order_of_ours_is_out(slot: SlotName) -> None:
    run = sent(bought(), slot)
    assert tell(run, E.HAND_OVER).run is run


def test_a_buy_refused_after_a_stop_was_asked_ends_stopped_all_the_same() -> None:
    run = entry_told(after(running(), E.STOP), REFUSED)
    assert (run.state, run.cause) == (S.FAILED, Cause.ENTRY_REFUSED)
    wish = due(run, BUY_AT, None)
    assert wish is not None
    stopped_run = advance(run, wish).run
    assert (stopped_run.state, stopped_run.cause, stopped_run.wish) == (S.STOPPED, Cause.ENTRY_REFUSED, None)


# ------------------------------------------------------------------ the entry


def test_accepted_is_not_filled() -> None:
    """Spec 5.1a"""
    run, news = absorb(running(), report(running(), ENTRY, OPEN))
    assert news is E.ACCEPTED
    assert tell(run, news).run.state is S.RUNNING
    assert tell(run, E.FILLED).run.state is S.RUNNING


def test_what_filled_before_the_rest_was_cancelled_is_the_position() -> None:
    run = entry_told(running(), OPEN, fill("20"))
    assert (run.state, run.exposure, run.remaining_qty) == (S.RUNNING, Exposure.LONG, 20)
    run = after(run, E.ENTRY_EXPIRED)
    run = entry_told(run, CANCELLED, fill("10", "1562"))
    assert (run.state, run.remaining_qty, current(run, EXIT).qty) == (S.BOUGHT, 30, 30)
    assert current(run, EXIT).phase is AttemptPhase.LICENSED


def test_the_exit_is_licensed_the_moment_the_position_exists() -> None:
    run = bought()
    assert (run.exit.phase, current(run, EXIT).phase, run.exit.stamp) == (
        SlotPhase.INTENT,
        AttemptPhase.LICENSED,
        running().entry.stamp,
    )


@pytest.mark.parametrize("event", [E.REFUSED, E.UNFILLED, E.CALLED_OFF])
def test_an_entry_that_ends_in_any_way_with_fills_is_a_position(event: Event) -> None:
    run = entry_told(running(), OPEN, fill("20"))
    run = tell(replace(run, entry=run.entry.with_current(phase=AttemptPhase.DONE)), event).run
    assert (run.state, run.cause, run.remaining_qty) == (S.BOUGHT, None, 20)


@pytest.mark.parametrize("event", [E.SAFETY_ABORT, E.NOT_FOUND])
def test_giving_up_on_an_entry_that_filled_in_part_gets_out_of_that_part_at_once(event: Event) -> None:
    run = entry_told(running(), OPEN, fill("20"))
    decision = tell(run, event)
    assert (decision.run.state, decision.run.exposure) == (S.FAILED, Exposure.LONG)
    assert (decision.run.entry.phase, decision.run.retry_at) == (SlotPhase.WATCH, BUY_AT)
    rescue = due(decision.run, BUY_AT, None)
    assert rescue is not None
    out = advance(decision.run, rescue)
    assert (out.effects, current(out.run, EXIT).qty) == ((X.SEND_EXIT,), 20)


def test_a_licence_whose_every_attempt_was_refused_holds_nothing() -> None:
    run = running()
    waiting = replace(run, entry=run.entry.with_current(phase=AttemptPhase.DONE), retry_at=BUY_AT)
    assert (run.exposure, waiting.exposure) == (Exposure.UNKNOWN, Exposure.FLAT)


def test_an_order_just_licensed_may_hold_something() -> None:
    assert after(ready(), E.BUY).exposure is Exposure.UNKNOWN


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda r: r, "the order is open or unknown"),
        (lambda r: entry_told(r, OPEN, fill("20")), "it filled in part"),
        (
            lambda r: absorb(r, report(r, ENTRY, CANCELLED, fill("20")))[0],
            "it filled in part and its rest is cancelled",
        ),
        (lambda r: after(_refused_for_now(r), E.ENTRY_EXPIRED), "its life is over"),
        (lambda r: after(_refused_for_now(r), E.STOP), "stopping was asked for"),
        (lambda r: replace(_refused_for_now(r), wish=E.STOP), "a wish to stop is kept"),
        (lambda r: after(_refused_for_now(r), E.STOPLOSS), "the stop-loss was seen"),
        (lambda r: replace(_refused_for_now(r), stop_seen=sl_pending().stop_seen), "the stop-loss is latched"),
    ],
)
def test_a_buy_is_not_tried_again_when(spoil: object, why: str) -> None:
    run = spoil(running())  # type: ignore[operator]
    decision = tell(replace(run, retry_at=BUY_AT), E.RETRY)
    assert X.SEND_ENTRY not in decision.effects, why
    assert len(decision.run.entry.attempts) == 1


def _refused_for_now(run: Run) -> Run:
    return replace(run, entry=run.entry.with_current(phase=AttemptPhase.DONE))


def test_one_share_is_a_position_like_any_other() -> None:
    run = bought("1")
    assert (run.state, run.exposure, run.remaining_qty) == (S.BOUGHT, Exposure.LONG, 1)
    lost = replace(sent(run, EXIT), exit=replace(sent(run, EXIT).exit, phase=SlotPhase.WATCH))
    assert lost.exposure is Exposure.UNKNOWN
    late = hear(failed_unknown(), report(failed_unknown(), ENTRY, OPEN, fill("1")))
    assert (late.exposure, current(late, EXIT).qty) == (Exposure.LONG, 1)


def test_what_was_said_of_the_buy_is_not_said_of_the_position() -> None:
    run = sent(tell(ready(), E.BUY, detail="the first fresh price").run, ENTRY)
    assert run.detail == "the first fresh price"
    assert entry_told(run, FILLED, fill("50")).detail == ""


def test_skipping_says_why_and_that_nothing_is_held() -> None:
    run = tell(ready(), E.SKIP, cause=Cause.STALE_PRICE).run
    assert (run.state, run.cause, run.exposure, run.is_closed) == (S.FAILED, Cause.STALE_PRICE, Exposure.FLAT, True)


def test_a_session_that_closes_over_a_waiting_strategy_is_a_missed_buy() -> None:
    run = tell(ready(), E.SESSION_CLOSED, CLOSES_AT).run
    assert (run.state, run.cause, run.exposure) == (S.FAILED, Cause.BUY_MISSED, Exposure.FLAT)


def test_a_decision_says_whether_it_moved_the_run_and_if_not_why() -> None:
    moved, stayed = tell(ready(), E.BUY), tell(ready(), E.SELL)
    assert (moved.moved, moved.reason) == (True, "")
    assert (stayed.moved, stayed.reason) == (False, "nothing is held")
    assert (moved.impossible, stayed.impossible) == (False, False)


def test_news_of_an_order_before_there_is_one_is_impossible() -> None:
    decision = tell(ready(), E.FILLED)
    assert decision.impossible
    assert not decision.moved
    assert decision.run.state is S.READY


@pytest.mark.parametrize(
    ("make", "event", "cause"),
    [
        (ready, E.STOP, Cause.STOPPED_BY_USER),
        (ready, E.KILL, Cause.KILLED),
        (bought, E.SELL, Cause.SELL_TIME),
        (bought, E.STOPLOSS, Cause.STOP_LOSS),
        (bought, E.STOP, Cause.STOPPED_BY_USER),
        (bought, E.KILL, Cause.KILLED),
        (bought, E.HAND_OVER, Cause.HANDED_OVER),
        (bought, E.CLOSED_OUTSIDE, Cause.CLOSED_OUTSIDE),
        (sell_pending, E.STOPLOSS, Cause.STOP_LOSS),
        (sell_pending, E.STOP, Cause.STOPPED_BY_USER),
        (sell_pending, E.KILL, Cause.KILLED),
        (sell_pending, E.REFUSED, Cause.EXIT_REFUSED),
        (running, E.UNFILLED, Cause.ENTRY_UNFILLED),
        (running, E.CALLED_OFF, Cause.STOPPED_BY_USER),
        (running, E.REFUSED, Cause.ENTRY_REFUSED),
        (running, E.NOT_FOUND, Cause.OUTCOME_UNKNOWN),
    ],
)
def test_a_run_says_what_brought_it_where_it_is(make: object, event: Event, cause: Cause) -> None:
    run: Run = make()  # type: ignore[operator]
    moved = tell(run, event, detail="as told").run
    assert (moved.state is not run.state, moved.cause, moved.detail) == (True, cause, "as told")


# ------------------------------------------------------------------ late news


def test_a_buy_never_heard_of_is_watched_until_the_session_ends_and_then_it_is_over() -> None:
    run = failed_unknown()
    assert (run.exposure, run.is_closed, run.cause) == (Exposure.UNKNOWN, False, Cause.OUTCOME_UNKNOWN)
    until = watched_until(run)
    assert due(run, until - timedelta(microseconds=1), None) is None
    closed = due(run, until, None)
    assert closed is not None
    decision = advance(run, closed)
    assert (decision.run.state, decision.effects) == (S.STOPPED, (X.ARCHIVE,))
    assert (decision.run.exposure, decision.run.is_closed) == (Exposure.FLAT, True)


def test_a_late_order_is_cancelled_and_the_alarm_rings() -> None:
    run, news = absorb(failed_unknown(), report(failed_unknown(), ENTRY, OPEN))
    assert news is E.LATE_ORDER
    decision = tell(run, news)
    assert decision.effects == (X.ALERT, X.CANCEL_ENTRY)
    assert (decision.run.state, decision.run.exposure) == (S.FAILED, Exposure.UNKNOWN)


def test_a_late_order_of_an_entry_that_was_settled_is_watched_again() -> None:
    for run in (bought("20"), entry_told(running(), CANCELLED)):
        assert run.entry.phase is SlotPhase.SETTLED
        assert tell(run, E.LATE_ORDER).run.entry.phase is SlotPhase.SETTLED
        live = run.with_slot(ENTRY, run.entry.with_current(phase=AttemptPhase.OPEN))
        assert tell(live, E.LATE_ORDER).run.entry.phase is SlotPhase.WATCH


def test_a_late_order_that_ends_without_a_fill_ends_the_watch() -> None:
    run, news = absorb(failed_unknown(), report(failed_unknown(), ENTRY, CANCELLED))
    assert (news, run.entry.phase, run.exposure, run.is_closed) == (None, SlotPhase.SETTLED, Exposure.FLAT, True)


def test_from_the_moment_a_late_order_is_known_the_run_is_neither_flat_nor_closed() -> None:
    over = entry_told(running(), CANCELLED)
    assert (over.exposure, over.is_closed) == (Exposure.FLAT, True)
    told = replace(over, entry=over.entry.with_current(phase=AttemptPhase.OPEN))
    assert (told.exposure, told.is_closed) == (Exposure.UNKNOWN, False)


def test_a_position_handed_over_is_not_closed_while_a_late_order_of_ours_may_still_buy() -> None:
    run = after(bought(), E.HAND_OVER)
    live = replace(run, entry=run.entry.with_current(phase=AttemptPhase.OPEN))
    assert (live.exposure, live.is_closed) == (Exposure.HANDED_OVER, False)
    watched = replace(run, entry=replace(run.entry, phase=SlotPhase.WATCH))
    assert (watched.exposure, watched.is_closed) == (Exposure.HANDED_OVER, False)


def test_a_buy_given_up_for_lost_is_in_doubt_until_the_session_ends_whatever_our_own_side_says_of_it() -> None:
    run, news = judge(after(running(), E.SAFETY_ABORT), ENTRY, NotSent("the connection was never made"), BUY_AT)
    assert news is not None
    assert (tell(run, news.event).run, run.exposure, run.is_closed) == (run, Exposure.UNKNOWN, False)
    assert tell(run, E.SESSION_CLOSED, CLOSES_AT).run.is_closed


def test_a_late_fill_is_sold_at_once() -> None:
    run, news = absorb(failed_unknown(), report(failed_unknown(), ENTRY, FILLED, fill("50")))
    assert news is E.LATE_FILL
    decision = tell(run, news)
    assert decision.effects == (X.ALERT, X.CANCEL_ENTRY, X.SEND_EXIT)
    assert (decision.run.cause, decision.run.exposure) == (Cause.LATE_FILL, Exposure.LONG)
    assert (current(decision.run, EXIT).qty, current(decision.run, EXIT).phase) == (50, AttemptPhase.LICENSED)
    flat = exit_told(decision.run, FILLED, fill("50"))
    assert (flat.state, flat.exposure, flat.is_closed) == (S.FAILED, Exposure.FLAT, True)


@pytest.mark.parametrize("make", [sold, exited_by_sl, stopped])
def test_a_fill_that_comes_after_the_end_is_sold_and_looked_after_like_any_other(make: object) -> None:
    run: Run = make()  # type: ignore[operator]
    state = run.state
    late = hear(run, report(run, ENTRY, FILLED, fill("5")))
    assert (late.state, late.exposure, current(late, EXIT).qty) == (state, Exposure.LONG, 5)
    lost = sent(late, EXIT)
    assert tell(lost, E.UNCONFIRMED).effects == (X.LOOK_UP,)
    again = tell(lost, E.NOT_FOUND)
    assert (again.effects, current(again.run, EXIT).phase) == ((X.SEND_EXIT,), AttemptPhase.LICENSED)
    refused = exit_told(sent(again.run, EXIT), REFUSED)
    assert refused.retry_at == BUY_AT + seconds(RESCUE_EVERY_S)
    retried = tell(refused, E.RETRY).run
    assert exit_told(retried, FILLED, fill("5")).exposure is Exposure.FLAT


def test_a_late_fill_while_holding_is_guarded_and_sold_with_the_rest() -> None:
    plan = replace(PLAN, stop_loss=points("20"))
    run = bought("40", "1560", plan)
    late = hear(run, report(run, ENTRY, CANCELLED, fill("10", "1570")))
    assert (late.state, late.cause, late.remaining_qty) == (S.BOUGHT, None, 50)
    assert (late.stop_price, current(late, EXIT).qty) == (Decimal("1542.00"), 50)


@pytest.mark.parametrize("make", [sell_pending, sl_pending, stop_pending])
def test_a_late_fill_while_selling_is_sold_after_the_open_sell(make: object) -> None:
    run = exit_told(sent(make(), EXIT), OPEN)  # type: ignore[operator]
    cause = run.cause
    late = hear(run, report(run, ENTRY, FILLED, fill("10")))
    assert (late.state, late.cause, late.remaining_qty, current(late, EXIT).qty) == (run.state, cause, 60, 50)
    more = exit_told(late, FILLED, fill("50"))
    assert (more.state, more.remaining_qty) == (run.state, 10)
    assert (current(more, EXIT).number, current(more, EXIT).qty) == (2, 10)
    assert exit_told(more, FILLED, fill("10")).exposure is Exposure.FLAT


def test_a_late_order_known_to_rest_at_the_broker_stays_watched_past_the_session() -> None:
    run = hear(failed_unknown(), report(failed_unknown(), ENTRY, OPEN))
    closed = tell(run, E.SESSION_CLOSED, CLOSES_AT).run
    assert (closed.state, closed.exposure) == (S.FAILED, Exposure.UNKNOWN)
    assert due(closed, CLOSES_AT, None) is None


# ------------------------------------------------------------------ the exit


def test_a_sell_filled_in_part_goes_on_for_the_rest() -> None:
    run = exit_told(sell_pending(), CANCELLED, fill("20"))
    assert (run.state, run.remaining_qty, current(run, EXIT).number, current(run, EXIT).qty) == (
        S.SELL_PENDING,
        30,
        2,
        30,
    )


def test_a_broker_that_cancels_every_sell_does_not_make_us_hammer_it() -> None:
    run = sell_pending()
    for _ in range(MAX_TRIES):
        run = exit_told(run, CANCELLED)
    assert (run.state, run.retry_at) == (S.FAILED, BUY_AT + seconds(RESCUE_EVERY_S))


def test_no_retry_sends_a_second_sell_while_one_may_be_live() -> None:
    for run in (sent(sl_pending(), EXIT), exit_told(sl_pending(), OPEN), sent(failed_holding(), EXIT)):
        decision = tell(replace(run, retry_at=BUY_AT), E.RETRY)
        assert X.SEND_EXIT not in decision.effects
        assert due(replace(run, retry_at=BUY_AT), BUY_AT, None) is None


def test_a_sell_not_found_at_the_broker_is_the_same_attempt_again() -> None:
    run = sent(sl_pending(), EXIT)
    again = tell(run, E.NOT_FOUND, order=current(run, EXIT).client_order_id).run
    assert current(again, EXIT) == current(sl_pending(), EXIT)


def test_a_sell_that_may_have_left_before_a_reboot_and_did_not_is_licensed_again_while_holding() -> None:
    run = sent(bought(), EXIT)
    again = tell(run, E.NOT_FOUND).run
    assert (again.state, current(again, EXIT).phase) == (S.BOUGHT, AttemptPhase.LICENSED)


def test_that_a_buy_was_not_found_says_nothing_about_the_sell() -> None:
    run = sent(failed_holding(), EXIT)
    told = tell(run, E.NOT_FOUND, order=current(run, ENTRY).client_order_id).run
    assert current(told, EXIT).phase is AttemptPhase.UNKNOWN


@pytest.mark.parametrize("status", [FILLED, CANCELLED])
def test_an_order_the_broker_has_told_of_is_never_taken_for_not_found(status: OrderStatus) -> None:
    run = exit_told(sl_pending(), OPEN)
    assert current(tell(run, E.NOT_FOUND).run, EXIT).phase is AttemptPhase.OPEN
    over, _ = absorb(run, report(run, EXIT, status, fill("20")))
    assert over.exit.attempts[0] == tell(over, E.NOT_FOUND).run.exit.attempts[0]


def test_a_buy_not_found_after_the_run_failed_is_still_watched() -> None:
    run = after(running(), E.SAFETY_ABORT)
    decision = tell(run, E.NOT_FOUND)
    assert (decision.run.entry.phase, decision.run.exit.attempts) == (SlotPhase.WATCH, ())


def test_sold_needs_fills_that_prove_it() -> None:
    run = exit_told(sell_pending(), OPEN, fill("49"))
    decision = tell(run, E.FILLED)
    assert decision.run is run
    assert decision.reason == "the fills do not prove it yet: only fills count"


def test_a_failed_run_that_got_out_stays_failed_and_says_flat() -> None:
    run = exit_told(failed_holding(), FILLED, fill("50"))
    assert (run.state, run.exposure, run.is_closed, run.exit.phase) == (
        S.FAILED,
        Exposure.FLAT,
        True,
        SlotPhase.SETTLED,
    )


def test_a_sell_given_up_for_lost_leaves_the_exposure_unknown() -> None:
    run = sent(sl_pending(), EXIT)
    lost = replace(run, exit=replace(run.exit, phase=SlotPhase.WATCH))
    run = tell(lost, E.SAFETY_ABORT, cause=Cause.OUTCOME_UNKNOWN).run
    assert (run.state, run.exposure, run.is_closed) == (S.FAILED, Exposure.UNKNOWN, False)
    assert due(run, BUY_AT + seconds(60), None) is None
    told = exit_told(run, FILLED, fill("50"))
    assert (told.exposure, told.is_closed) == (Exposure.FLAT, True)


def test_a_sell_given_up_for_lost_whose_fills_say_that_all_is_sold_leaves_no_doubt() -> None:
    run = sent(sl_pending(), EXIT)
    lost = replace(run, exit=replace(run.exit, phase=SlotPhase.WATCH))
    known, _ = absorb(lost, report(lost, EXIT, OPEN, fill("50")))
    assert known.exposure is Exposure.FLAT


def test_a_run_is_closed_only_when_its_sell_is_over_too() -> None:
    run = exit_told(sell_pending(), OPEN, fill("50"))
    assert (run.state, run.exposure, run.is_closed) == (S.SOLD, Exposure.FLAT, False)
    assert hear(run, report(run, EXIT, FILLED)).is_closed


@pytest.mark.parametrize("make", [bought, sell_pending, sl_pending, stop_pending])
def test_a_position_that_stays_open_over_the_close_says_so(make: object) -> None:
    decision = tell(make(), E.SESSION_CLOSED, CLOSES_AT)  # type: ignore[operator]
    assert (decision.effects, decision.moved) == ((X.ALERT,), False)


def test_selling_more_than_was_bought_is_never_called_flat() -> None:
    run = sold()
    run = hear(run, report(run, EXIT, FILLED, fill("5")))
    assert (run.remaining_qty, run.exposure, run.is_closed) == (-5, Exposure.UNKNOWN, False)


# ------------------------------------------------------------------ closed outside


def test_a_position_closed_outside_ends_stopped_and_nothing_is_sold() -> None:
    decision = tell(bought(), E.CLOSED_OUTSIDE)
    assert (decision.run.state, decision.run.cause) == (S.STOPPED, Cause.CLOSED_OUTSIDE)
    assert (decision.run.exposure, decision.run.outside_qty) == (Exposure.FLAT, 50)


@pytest.mark.parametrize("make", [sell_pending, stop_pending])
def test_a_position_closed_outside_while_selling_ends_stopped_with_that_cause(make: object) -> None:
    run = tell(make(), E.CLOSED_OUTSIDE).run  # type: ignore[operator]
    assert (run.state, run.cause) == (S.STOPPED, Cause.CLOSED_OUTSIDE)


def test_after_the_stop_loss_a_position_closed_outside_ends_exited_if_a_fill_of_ours_helped() -> None:
    helped = tell(exit_told(sl_pending(), CANCELLED, fill("20")), E.CLOSED_OUTSIDE).run
    assert (helped.state, helped.exposure, helped.outside_qty) == (S.EXITED_BY_SL, Exposure.FLAT, 30)
    assert helped.cause is Cause.CLOSED_OUTSIDE
    one_share = tell(exit_told(sl_pending(), CANCELLED, fill("1")), E.CLOSED_OUTSIDE).run
    assert (one_share.state, one_share.outside_qty) == (S.EXITED_BY_SL, 49)
    alone = tell(sl_pending(), E.CLOSED_OUTSIDE).run
    assert (alone.state, alone.cause, alone.exposure) == (S.FAILED, Cause.CLOSED_OUTSIDE, Exposure.FLAT)


def test_a_stop_loss_seen_while_buying_never_ends_as_stopped_when_the_position_is_gone() -> None:
    run = entry_told(after(running(), E.STOPLOSS), CANCELLED, fill("20"))
    assert tell(run, E.CLOSED_OUTSIDE).run.state is S.FAILED


@pytest.mark.parametrize("make", [bought, sell_pending, sl_pending, stop_pending, failed_holding])
def test_a_position_that_a_sell_of_ours_may_explain_is_not_closed_outside(make: object) -> None:
    run = sent(make(), EXIT)  # type: ignore[operator]
    assert tell(run, E.CLOSED_OUTSIDE).run is run


def test_a_fill_of_ours_explains_what_looked_closed_outside() -> None:
    run = tell(sell_pending(), E.CLOSED_OUTSIDE).run
    assert run.outside_qty == 50
    told, _ = absorb(run, report(run, EXIT, FILLED, fill("50")))
    assert (told.outside_qty, told.remaining_qty, told.exposure) == (ZERO, ZERO, Exposure.FLAT)


# ------------------------------------------------------------------ the broker's word


def test_the_same_report_twice_changes_nothing() -> None:
    told = report(running(), ENTRY, OPEN, fill("20"))
    once, _ = absorb(running(), told)
    assert absorb(once, told) == (once, None)


def test_a_report_of_an_order_that_is_not_ours_changes_nothing() -> None:
    stranger = replace(report(running(), ENTRY, FILLED, fill("50")), client_order_id="SQSOMEBODYELSE")
    assert absorb(running(), stranger) == (running(), None)
    assert slot_of(running(), stranger.client_order_id) is None


def test_an_order_that_is_over_stays_over_whatever_an_old_report_says() -> None:
    run = exit_told(sell_pending(), FILLED, fill("50"))
    old = replace(report(run, EXIT, OPEN), fills=(), reason="an old report")
    told, news = absorb(run, old)
    assert (told.exit.attempts[0].phase, told.remaining_qty, news) == (AttemptPhase.DONE, ZERO, None)


def test_a_refusal_told_twice_in_other_words_counts_as_one_try() -> None:
    run = exit_told(sell_pending(), REFUSED, reason="margin")
    first = replace(report(run, EXIT, REFUSED, attempt=0), reason="RMS: margin")
    told, news = absorb(run, first)
    assert (news, told.exit.tries) == (None, 1)


@pytest.mark.parametrize(
    ("wish", "event"),
    [(None, E.UNFILLED), (E.STOP, E.CALLED_OFF), (E.KILL, E.CALLED_OFF)],
)
def test_an_entry_that_bought_nothing_was_called_off_only_if_the_user_asked(wish: Event | None, event: Event) -> None:
    assert nothing_bought(replace(running(), wish=wish)) is event


def test_money_made_is_known_once_something_was_sold() -> None:
    assert (CREATED.pnl_gross, bought().pnl_gross, sold().pnl_gross) == (None, None, Decimal(500))


def test_every_change_makes_the_version_grow() -> None:
    run = CREATED
    for event in (E.START, E.BUY, E.STOP):
        later = after(run, event)
        assert later.version > run.version
        run = later
    told, _ = absorb(running(), report(running(), ENTRY, OPEN))
    assert told.version > running().version
    assert tell(failed_unknown(), E.SESSION_CLOSED, CLOSES_AT).run.version > failed_unknown().version


def test_a_try_that_waited_is_forgotten_when_its_slot_is_settled() -> None:
    assert after(replace(_refused_for_now(running()), retry_at=BUY_AT), E.UNFILLED).retry_at is None
    assert exit_told(replace(sell_pending(), retry_at=BUY_AT), FILLED, fill("50")).retry_at is None


def test_nothing_is_rescued_where_nothing_is_proven_to_be_held() -> None:
    run = after(failed_unknown(), E.STOP)
    assert (run.state, run.retry_at, run.exit.attempts) == (S.FAILED, None, ())


def test_a_slot_is_settled_by_what_its_news_means_and_not_by_the_news_alone() -> None:
    refused, _ = absorb(running(), report(running(), ENTRY, REFUSED))
    part, _ = absorb(sell_pending(), report(sell_pending(), EXIT, CANCELLED, fill("20")))
    assert (refused.entry.phase, part.exit.phase) == (SlotPhase.INTENT, SlotPhase.INTENT)


# ------------------------------------------------------------------ whatever happens, in any order

PRICES = st.sampled_from([Decimal("1500"), Decimal("1539.95"), Decimal("1540"), Decimal("1560"), Decimal("1600")])
STOP_LOSSES = st.sampled_from([PLAN.stop_loss, percent("2"), points("20")])


@st.composite
def happenings(draw: st.DrawFn) -> list[tuple[object, ...]]:
    """Events in any order, sends, news of any order with any fills that fit it, and time passing."""
    one = st.one_of(
        st.tuples(st.just("event"), st.sampled_from(Event), PRICES),
        st.tuples(st.just("due"), st.sampled_from([BUY_AT, BUY_AT + seconds(6), SELL_AT, CLOSES_AT]), PRICES),
        st.tuples(st.just("due"), st.sampled_from([BUY_AT, BUY_AT + seconds(6), SELL_AT, CLOSES_AT]), PRICES),
        st.tuples(st.just("send"), st.sampled_from(SlotName)),
        st.tuples(
            st.just("told"),
            st.sampled_from(SlotName),
            st.integers(0, 3),
            st.sampled_from(OrderStatus),
            st.integers(0, 50),
            PRICES,
        ),
        st.tuples(
            st.just("told"),
            st.sampled_from(SlotName),
            st.just(-1),
            st.sampled_from(OrderStatus),
            st.integers(0, 50),
            PRICES,
        ),
        st.tuples(st.just("low"), PRICES),
    )
    return draw(st.lists(one, max_size=25))


def happen(run: Run, what: tuple[object, ...]) -> tuple[Run, list[tuple[Run, Signal | None]]]:
    """`run` after one happening, and each step it took: the snapshot before and the signal that moved it."""
    kind, *rest = what
    steps: list[tuple[Run, Signal | None]] = []
    if kind == "event":
        event, price = rest
        told = signal(event, price=price) if event is E.STOPLOSS else signal(event)  # type: ignore[arg-type]
        steps.append((run, told))
        run = advance(run, told).run
    elif kind == "due":
        now, price = rest
        for _ in range(10):
            told_due = due(run, now, tick(price, now))  # type: ignore[arg-type]
            if told_due is None:
                break
            decision = advance(run, told_due)
            assert decision.run != run, f"{told_due.event} is due in {run.state}, but moves nothing"
            steps.append((run, told_due))
            run = decision.run
            if decision.effects and {X.SEND_ENTRY, X.SEND_EXIT} & set(decision.effects):
                break  # the engine would be sending now
        else:
            raise AssertionError("what is due never comes to an end")
    elif kind == "send":
        slot = run.slot(rest[0])  # type: ignore[arg-type]
        if slot.phase is SlotPhase.INTENT and slot.current and slot.current.phase is AttemptPhase.LICENSED:
            steps.append((run, None))
            run = sent(run, rest[0])  # type: ignore[arg-type]
    elif kind == "low":
        if run.state is S.RUNNING and run.stop_price is None:
            steps.append((run, None))
            run = replace(run, lowest_price=rest[0])  # type: ignore[arg-type]
    else:
        name, index, status, qty, price = rest
        attempts = run.slot(name).attempts  # type: ignore[arg-type]
        sent_ones = [i for i, a in enumerate(attempts) if a.phase is not AttemptPhase.LICENSED]
        if not sent_ones:
            return run, steps
        place = sent_ones[index % len(sent_ones)]  # type: ignore[operator]
        room = attempts[place].qty - attempts[place].filled_qty
        new = min(Decimal(qty), room)  # type: ignore[arg-type]
        fills = (fill(new, price),) if new > 0 and status is not REFUSED else ()  # type: ignore[arg-type]
        steps.append((run, None))
        known, news = absorb(run, report(run, name, status, *fills, attempt=place))  # type: ignore[arg-type]
        if news is not None:
            told = signal(news)
            steps.append((known, told))
            known = advance(known, told).run
        run = known
    return run, steps


@settings(max_examples=600, deadline=None)
@given(happenings(), STOP_LOSSES)
def test_whatever_happens_no_promise_is_broken(story: list[tuple[object, ...]], stop_loss: object) -> None:
    """Spec 10.1, 10.2, 10.3, 10.4"""
    run = replace(CREATED, plan=replace(PLAN, stop_loss=stop_loss))  # type: ignore[arg-type]
    for what in [("event", E.START, LOW), ("due", BUY_AT, Decimal("1560")), *story]:
        before = run
        run, steps = happen(run, what)
        for at, told in steps:
            check_step(at, told)
        check_snapshot(before, run)


def check_step(run: Run, told: Signal | None) -> None:
    if told is None:
        return
    decision = advance(run, told)
    now = decision.run
    if run.state in FINAL and now.state is not run.state:
        assert told.event in (E.STOP, E.KILL, E.SESSION_CLOSED, E.START)
        assert run.is_closed or told.event is E.SESSION_CLOSED
        assert now.is_closed
    if X.SEND_ENTRY in decision.effects:
        assert not run.entry.is_live
        assert run.entry.filled_qty == 0
        assert run.stop_seen is None
    if X.SEND_EXIT in decision.effects and now.remaining_qty > 0 and not now.exit.is_live and not now.handed_over:
        assert current(now, EXIT).phase is AttemptPhase.LICENSED
        assert current(now, EXIT).qty == now.remaining_qty
    if now.state is S.SOLD and run.state is not S.SOLD:
        assert now.stop_seen is None, "a stop-loss once seen never ends sold"
    if now.state in (S.SOLD, S.EXITED_BY_SL) and now.state is not run.state:
        assert now.remaining_qty <= 0


def check_snapshot(before: Run, run: Run) -> None:
    assert run.version >= before.version
    for slot in (run.entry, run.exit):
        assert all(a.phase is AttemptPhase.DONE for a in slot.attempts[:-1]), "one attempt at a time"
        assert [a.number for a in slot.attempts] == list(range(1, len(slot.attempts) + 1))
    if before.entry.filled_qty > 0:
        assert len(run.entry.attempts) == len(before.entry.attempts), "no BUY after a fill"
    if before.entry.phase is SlotPhase.VOID:
        assert run.entry.attempts == (), "nobody buys on a licence that was taken"
    assert run.exit.filled_qty <= run.entry.filled_qty
    assert run.remaining_qty >= 0
    if run.remaining_qty > 0:
        assert run.exposure in (Exposure.LONG, Exposure.UNKNOWN)
    if run.entry.is_live or run.entry.phase is SlotPhase.WATCH:
        assert run.exposure is not Exposure.FLAT
    if before.stop_seen is not None:
        assert run.stop_seen == before.stop_seen, "a stop-loss once seen stays seen"
    if before.outcome is not None:
        assert run.outcome == before.outcome
    if run.state in FINAL:
        assert run.outcome is not None
    if run.exposure is Exposure.LONG and run.state in FINAL and not run.exit.is_live and not run.entry.is_live:
        assert current(run, EXIT).phase is AttemptPhase.LICENSED or run.retry_at is not None, "getting out goes on"
    if run.state in EXIT_OPEN or run.state is S.BOUGHT:
        assert run.entry.filled_qty > 0
    assert (run.cause is not None) or run.state in (S.CREATED, S.READY, S.RUNNING, S.BOUGHT) or run.outcome
