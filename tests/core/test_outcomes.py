"""What became of one send, and what follows from it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from samples import (
    BUY_AT,
    CLOSES_AT,
    PLAN,
    after,
    current,
    exit_told,
    failed_holding,
    fill,
    ready,
    report,
    running,
    seconds,
    sell_pending,
    sent,
    sl_pending,
    stop_pending,
)
from squareoff.core.events import Cause, Event, Signal, Source
from squareoff.core.orders import MAX_TRIES, RESCUE_CLOSED_S, RESCUE_EVERY_S, RETRY_DELAYS_S, AttemptPhase
from squareoff.core.outcomes import Answered, GateSaidNo, Limited, NotSent, Refused, Unknown, hear, judge, sending
from squareoff.core.run import Run
from squareoff.core.types import OrderStatus, SlotName
from squareoff.core.values import replace

E, C = Event, Cause
ENTRY, EXIT = SlotName.ENTRY, SlotName.EXIT
NOW = BUY_AT + seconds(1)
LICENSED, UNKNOWN, DONE = AttemptPhase.LICENSED, AttemptPhase.UNKNOWN, AttemptPhase.DONE
FOR_NOW = Refused("busy", permanent=False)


def selling(make: object = sell_pending) -> Run:
    return sent(make(), EXIT)  # type: ignore[operator]


def told(event: Event, cause: Cause | None = None, detail: str = "") -> Signal:
    return Signal(event=event, at=NOW, source=Source.BROKER, cause=cause, detail=detail)


# ------------------------------------------------------------------ on its way


def test_from_the_moment_it_is_sent_an_order_may_be_live_and_its_limit_is_known() -> None:
    before = sell_pending()
    run = sending(before, EXIT, limit_price=Decimal("1530"))
    assert (current(run, EXIT).phase, current(run, EXIT).limit_price) == (UNKNOWN, 1530)
    assert current(sending(run, EXIT), EXIT).limit_price is None
    assert run.version > before.version


def test_no_answer_means_it_may_be_live() -> None:
    before = running()
    run, news = judge(before, ENTRY, Unknown("no answer in 3 s"), NOW)
    assert news == told(E.UNCONFIRMED, detail="no answer in 3 s")
    assert (current(run, ENTRY).phase, current(run, ENTRY).reason) == (UNKNOWN, "no answer in 3 s")
    assert run.version > before.version


@pytest.mark.parametrize("sent_as", [Refused("no"), NotSent("no"), Unknown("no"), Limited(1.0), GateSaidNo("no")])
@pytest.mark.parametrize("phase", [AttemptPhase.OPEN, DONE])
def test_news_of_the_broker_that_came_first_is_believed_and_not_our_own_guess(
    sent_as: object, phase: AttemptPhase
) -> None:
    run = running().with_slot(ENTRY, running().entry.with_current(phase=phase))
    assert judge(run, ENTRY, sent_as, NOW) == (run, None)  # type: ignore[arg-type]
    nothing_yet = ready()
    assert judge(nothing_yet, EXIT, sent_as, NOW) == (nothing_yet, None)  # type: ignore[arg-type]


def test_an_answer_is_taken_like_any_other_news_of_the_broker() -> None:
    answer = Answered(report(running(), ENTRY, OrderStatus.FILLED, fill("50"), reason="done"))
    run, news = judge(running(), ENTRY, answer, NOW)
    assert (news, run.entry.filled_qty) == (told(E.FILLED, detail="done"), 50)
    assert hear(run, answer.report, NOW) == (run, None)


@pytest.mark.parametrize(("make", "slot"), [(running, ENTRY), (selling, EXIT)])
def test_too_many_requests_is_no_try_and_waits_as_long_as_the_broker_says(make: object, slot: SlotName) -> None:
    before: Run = make()  # type: ignore[operator]
    run, news = judge(before, slot, Limited(1.5), NOW)
    assert (news, current(run, slot).phase, run.slot(slot).tries) == (None, LICENSED, 0)
    assert run.retry_at == NOW + seconds(1.5)
    assert run.version > before.version


# ------------------------------------------------------------------ a BUY that failed


@pytest.mark.parametrize(
    ("sent_as", "news"),
    [
        (Refused("margin"), told(E.REFUSED, C.ENTRY_REFUSED, "margin")),
        (Refused("login", token=True), told(E.SAFETY_ABORT, C.TOKEN_INVALID, "login")),
        (Refused("login", permanent=False, token=True), told(E.SAFETY_ABORT, C.TOKEN_INVALID, "login")),
    ],
)
def test_a_buy_refused_for_a_reason_that_stays_is_not_tried_again(sent_as: Refused, news: Signal) -> None:
    run, said = judge(running(), ENTRY, sent_as, NOW)
    assert said == news
    assert (current(run, ENTRY).phase, current(run, ENTRY).reason) == (DONE, sent_as.reason)
    assert (run.entry.tries, run.retry_at) == (1, None)


@pytest.mark.parametrize(("sent_as", "phase"), [(FOR_NOW, DONE), (NotSent("no route"), LICENSED)])
def test_a_buy_that_failed_for_now_is_tried_again_after_a_growing_pause(sent_as: object, phase: AttemptPhase) -> None:
    run = running()
    for tries, pause_s in enumerate(RETRY_DELAYS_S, start=1):
        run, news = judge(sent(run, ENTRY), ENTRY, sent_as, NOW)  # type: ignore[arg-type]
        assert (news, run.entry.tries, current(run, ENTRY).phase) == (None, tries, phase)
        assert run.retry_at == NOW + seconds(pause_s)
    run, news = judge(sent(run, ENTRY), ENTRY, sent_as, NOW)  # type: ignore[arg-type]
    assert (run.entry.tries, news) == (MAX_TRIES, told(E.UNFILLED, C.RETRIES_EXHAUSTED, sent_as.reason))  # type: ignore[attr-defined]


def test_a_buy_is_tried_again_up_to_the_last_instant_of_its_grace_and_not_after() -> None:
    last = PLAN.buy_until - seconds(RETRY_DELAYS_S[0])
    run, news = judge(running(), ENTRY, FOR_NOW, last)
    assert (run.retry_at, news) == (PLAN.buy_until, None)
    _, news = judge(running(), ENTRY, FOR_NOW, last + timedelta(microseconds=1))
    assert (news and news.event, news and news.cause) == (E.UNFILLED, C.RETRIES_EXHAUSTED)


@pytest.mark.parametrize(
    ("wanted_out", "event"),
    [
        (replace(running(), wish=E.STOP), E.CALLED_OFF),
        (replace(running(), wish=E.KILL), E.CALLED_OFF),
        (replace(running(), stop_seen=sl_pending().stop_seen), E.UNFILLED),
        (replace(running(), entry_cancel_asked=True), E.UNFILLED),
    ],
)
def test_a_buy_that_nobody_wants_any_more_is_not_tried_again(wanted_out: Run, event: Event) -> None:
    run, news = judge(wanted_out, ENTRY, FOR_NOW, NOW)
    assert (news, run.retry_at) == (told(event, detail="busy"), None)


# ------------------------------------------------------------------ a SELL that failed


@pytest.mark.parametrize("make", [sell_pending, sl_pending, stop_pending])
@pytest.mark.parametrize(
    ("sent_as", "phase", "cause"),
    [
        (Refused("circuit"), DONE, C.EXIT_REFUSED),
        (FOR_NOW, DONE, C.EXIT_REFUSED),
        (NotSent("no route"), LICENSED, C.RETRIES_EXHAUSTED),
    ],
)
def test_a_sell_is_tried_three_more_times_whatever_the_refusal_and_then_the_run_gives_up(
    make: object, sent_as: object, phase: AttemptPhase, cause: Cause
) -> None:
    run: Run = make()  # type: ignore[operator]
    for tries, pause_s in enumerate(RETRY_DELAYS_S, start=1):
        run, news = judge(sent(run, EXIT), EXIT, sent_as, NOW)  # type: ignore[arg-type]
        assert (news, run.exit.tries, current(run, EXIT).phase) == (None, tries, phase)
        assert run.retry_at == NOW + seconds(pause_s)
    _, news = judge(sent(run, EXIT), EXIT, sent_as, NOW)  # type: ignore[arg-type]
    assert news == told(E.SAFETY_ABORT, cause, sent_as.reason)  # type: ignore[attr-defined]


def test_a_login_that_is_not_valid_fails_a_sell_at_once() -> None:
    run, news = judge(selling(), EXIT, Refused("login", token=True), NOW)
    assert (news, run.retry_at) == (told(E.SAFETY_ABORT, C.TOKEN_INVALID, "login"), None)


@pytest.mark.parametrize("sent_as", [Refused("circuit"), Refused("login", token=True), NotSent("no route")])
@pytest.mark.parametrize(
    ("now", "pause_s"),
    [(NOW, RESCUE_EVERY_S), (CLOSES_AT - seconds(1), RESCUE_EVERY_S), (CLOSES_AT, RESCUE_CLOSED_S)],
)
def test_a_rescue_never_gives_up_and_is_slower_while_the_session_is_closed(
    sent_as: object, now: object, pause_s: float
) -> None:
    run, news = judge(selling(failed_holding), EXIT, sent_as, now)  # type: ignore[arg-type]
    assert (news, run.retry_at) == (None, now + seconds(pause_s))  # type: ignore[operator]


@pytest.mark.parametrize(("fills", "pause_s"), [((), RETRY_DELAYS_S[0]), ((fill("20"),), 0.0)])
def test_a_sell_that_the_broker_ended_is_repeated_after_a_pause_or_at_once_for_the_rest_of_one_that_filled(
    fills: tuple[object, ...], pause_s: float
) -> None:
    before = selling()
    run, news = hear(before, report(before, EXIT, OrderStatus.CANCELLED, *fills), NOW)  # type: ignore[arg-type]
    assert (news, run.retry_at) == (None, NOW + seconds(pause_s))
    assert run.version > before.version


def test_the_pause_before_a_sell_is_repeated_grows_with_every_try() -> None:
    run = selling()
    for pause_s in RETRY_DELAYS_S:
        run, news = hear(run, report(run, EXIT, OrderStatus.REFUSED), NOW)
        assert (news, run.retry_at) == (None, NOW + seconds(pause_s))
        run = sent(after(run, E.RETRY), EXIT)
    run, news = hear(run, report(run, EXIT, OrderStatus.REFUSED, reason="circuit"), NOW)
    assert news == told(E.REFUSED, detail="circuit")


def test_a_sell_that_we_cancelled_to_send_it_lower_is_replaced_at_once_and_counts_as_no_try() -> None:
    resting = exit_told(selling(), OrderStatus.OPEN)
    asked = resting.with_slot(EXIT, resting.exit.with_current(cancel_asked=True))
    run, news = hear(asked, report(asked, EXIT, OrderStatus.CANCELLED), NOW)
    assert (news, run.retry_at, run.exit.tries) == (None, NOW, 0)


# ------------------------------------------------------------------ our own last check


def test_a_sell_that_our_own_gate_stopped_keeps_its_licence() -> None:
    run, news = judge(selling(), EXIT, GateSaidNo("the lease is lost"), NOW)
    assert (news, run.exit.tries, run.retry_at) == (None, 0, None)
    assert (current(run, EXIT).phase, current(run, EXIT).reason) == (LICENSED, "the lease is lost")


@pytest.mark.parametrize(
    ("run", "missed", "event", "cause"),
    [
        (running(), False, E.UNFILLED, None),
        (running(), True, E.UNFILLED, C.BUY_MISSED),
        (after(running(), E.STOPLOSS), False, E.UNFILLED, C.STOP_LOSS_NOT_BELOW_PRICE),
        (after(running(), E.STOPLOSS), True, E.UNFILLED, C.BUY_MISSED),
        (after(running(), E.STOP), False, E.CALLED_OFF, None),
        (after(running(), E.STOP), True, E.CALLED_OFF, None),
    ],
)
def test_a_buy_that_our_own_gate_stopped_is_over_and_says_why(
    run: Run, missed: bool, event: Event, cause: Cause | None
) -> None:
    over, news = judge(run, ENTRY, GateSaidNo("too late", missed=missed), NOW)
    assert news == told(event, cause, "too late")
    assert (current(over, ENTRY).phase, current(over, ENTRY).reason, over.entry.tries) == (DONE, "too late", 0)


def test_a_refusal_is_taken_for_one_that_stays_unless_it_says_otherwise() -> None:
    assert (Refused("x").permanent, Refused("x").token, GateSaidNo("x").missed) == (True, False, False)
