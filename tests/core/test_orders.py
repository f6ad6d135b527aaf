"""Order ids, attempts and what the broker's news does to them."""

from __future__ import annotations

import string
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples import BUY_AT, bought, entry_told, fill, report, running, sent
from squareoff.core.orders import (
    MAX_TRIES,
    RESCUE_CLOSED_S,
    RESCUE_EVERY_S,
    RETRY_DELAYS_S,
    Attempt,
    AttemptPhase,
    Slot,
    SlotPhase,
    client_order_id,
    merge_report,
    order_key,
)
from squareoff.core.strategy import Timing
from squareoff.core.types import ClientOrderId, OrderStatus, RunId, SlotName

KEY = order_key("here", RunId(42))
FILLED, OPEN, CANCELLED = OrderStatus.FILLED, OrderStatus.OPEN, OrderStatus.CANCELLED
ONE = Attempt(number=1, client_order_id=ClientOrderId("SQ1"), qty=Decimal(50))


# ------------------------------------------------------------------ ids


@given(st.text(), st.integers(1, 10**9), st.sampled_from(SlotName), st.integers(1, 5183))
def test_an_order_id_is_at_most_15_capital_letters_and_digits(
    install: str, run: int, slot: SlotName, attempt: int
) -> None:
    order = client_order_id(order_key(install, RunId(run)), slot, attempt)
    assert len(order) == 15
    assert set(order) <= set(string.ascii_uppercase + string.digits)


def test_the_same_attempt_has_the_same_id_after_a_crash() -> None:
    assert client_order_id(order_key("here", RunId(42)), SlotName.EXIT, 3) == client_order_id(KEY, SlotName.EXIT, 3)


def test_no_two_attempts_share_an_id() -> None:
    ids = {
        client_order_id(order_key(install, RunId(run)), slot, attempt)
        for install in ("here", "there")
        for run in range(1, 40)
        for slot in SlotName
        for attempt in range(1, 40)
    }
    assert len(ids) == 2 * 39 * 2 * 39


def test_the_ids_of_all_attempts_of_a_slot_differ() -> None:
    ids = {client_order_id(KEY, slot, attempt) for slot in SlotName for attempt in range(1, 5184)}
    assert len(ids) == 2 * 5183


def test_a_rescue_every_five_seconds_never_runs_out_of_ids_in_a_session() -> None:
    assert client_order_id(KEY, SlotName.EXIT, int(timedelta(hours=6, minutes=15).total_seconds() / RESCUE_EVERY_S))


@pytest.mark.parametrize("attempt", [0, -1, 5184])
def test_an_attempt_that_has_no_id_is_an_error(attempt: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 5183"):
        client_order_id(KEY, SlotName.ENTRY, attempt)


# ------------------------------------------------------------------ attempts


@pytest.mark.parametrize("phase", sorted(set(AttemptPhase) - {AttemptPhase.DONE}))
def test_a_further_attempt_exists_only_when_every_earlier_one_is_over(phase: AttemptPhase) -> None:
    slot = Slot().with_next_attempt(KEY, SlotName.EXIT, Decimal(50))
    with pytest.raises(ValueError, match="could double it"):
        slot.with_current(phase=phase).with_next_attempt(KEY, SlotName.EXIT, Decimal(50))
    over = slot.with_current(phase=AttemptPhase.DONE)
    assert (slot.is_over, over.is_over) == (False, True)
    second = over.with_next_attempt(KEY, SlotName.EXIT, Decimal(30)).current
    assert second is not None
    assert (second.number, second.qty, second.phase) == (2, 30, AttemptPhase.LICENSED)
    assert second.client_order_id == client_order_id(KEY, SlotName.EXIT, 2)


def test_a_licence_that_was_taken_away_licences_nothing() -> None:
    with pytest.raises(ValueError, match="licence was taken"):
        Slot(phase=SlotPhase.VOID).with_next_attempt(KEY, SlotName.ENTRY, Decimal(50))


@pytest.mark.parametrize(
    ("phase", "live"),
    [
        (AttemptPhase.LICENSED, False),
        (AttemptPhase.UNKNOWN, True),
        (AttemptPhase.OPEN, True),
        (AttemptPhase.DONE, False),
    ],
)
def test_an_order_is_live_from_its_sending_until_its_end(phase: AttemptPhase, live: bool) -> None:
    assert Slot(attempts=(replace(ONE, phase=phase),)).is_live is live


def test_only_what_was_never_heard_of_ends_with_the_session() -> None:
    attempts = tuple(replace(ONE, phase=phase) for phase in AttemptPhase)
    phases = [a.phase for a in Slot(attempts=attempts).with_unknown_over().attempts]
    assert phases == [AttemptPhase.LICENSED, AttemptPhase.DONE, AttemptPhase.OPEN, AttemptPhase.DONE]


def test_an_empty_slot_has_no_price_no_quantity_and_no_time() -> None:
    slot = Slot()
    assert (slot.filled_qty, slot.avg_fill_price, slot.first_fill_at, slot.last_fill_at, slot.current) == (
        0,
        None,
        None,
        None,
        None,
    )


def test_the_average_price_is_the_money_by_the_quantity_over_all_attempts() -> None:
    later = replace(fill("30", "110"), at=BUY_AT + timedelta(seconds=9))
    slot = Slot(attempts=(replace(ONE, fills=(fill("10", "100"),)), replace(ONE, fills=(later,))))
    assert (slot.filled_qty, slot.avg_fill_price) == (40, Decimal("107.5"))
    assert (slot.first_fill_at, slot.last_fill_at) == (BUY_AT, BUY_AT + timedelta(seconds=9))


def test_a_failed_sell_is_tried_every_five_seconds_in_the_session_and_every_five_minutes_after_it() -> None:
    assert (MAX_TRIES, RETRY_DELAYS_S, RESCUE_EVERY_S, RESCUE_CLOSED_S) == (4, (0.25, 0.5, 1.0), 5.0, 300.0)


def test_the_first_try_and_three_retries_fit_the_grace_of_a_buy() -> None:
    """Spec 5.4b"""
    assert MAX_TRIES == 1 + len(RETRY_DELAYS_S) == 4
    assert sum(RETRY_DELAYS_S) < Timing().grace_s


# ------------------------------------------------------------------ the broker's news


def test_a_fill_told_twice_is_counted_once() -> None:
    one, two = fill("20", trade="T1"), fill("5", trade="T2")
    told = report(running(), SlotName.ENTRY, OPEN, one)
    attempt = merge_report(running().entry.attempts[0], told)
    again = merge_report(attempt, replace(told, fills=(one, two)))
    twice = merge_report(ONE, replace(told, fills=(one, one, two)))
    assert (attempt.filled_qty, again.filled_qty, twice.filled_qty) == (20, 25, 25)


def test_a_report_that_forgot_a_fill_takes_nothing_back() -> None:
    told = report(running(), SlotName.ENTRY, OPEN, fill("20"))
    attempt = merge_report(running().entry.attempts[0], told)
    assert merge_report(attempt, replace(told, fills=())).filled_qty == 20


@pytest.mark.parametrize("status", [FILLED, CANCELLED, OrderStatus.REFUSED])
def test_what_is_over_stays_over_and_a_late_fill_of_it_still_counts(status: OrderStatus) -> None:
    over = merge_report(running().entry.attempts[0], report(running(), SlotName.ENTRY, status))
    assert over.phase is AttemptPhase.DONE
    later = merge_report(over, report(running(), SlotName.ENTRY, OPEN, fill("20")))
    assert (later.phase, later.filled_qty) == (AttemptPhase.DONE, 20)


def test_an_answer_names_the_brokers_order_and_its_reason_is_kept() -> None:
    told = report(running(), SlotName.ENTRY, OrderStatus.REFUSED, reason="margin")
    attempt = merge_report(running().entry.attempts[0], told)
    assert (attempt.broker_order_id, attempt.reason) == (told.broker_order_id, "margin")
    assert merge_report(attempt, replace(told, reason="")).reason == "margin"


def test_a_send_that_ended_with_nothing_is_a_try_and_one_that_filled_is_not() -> None:
    refused = entry_told(running(), OrderStatus.REFUSED)
    assert (refused.entry.tries, bought().entry.tries) == (1, 0)
    assert sent(bought(), SlotName.EXIT).exit.tries == 0


@given(st.lists(st.tuples(st.sampled_from(OrderStatus), st.lists(st.integers(1, 9), max_size=4)), max_size=8))
def test_whatever_the_order_of_its_reports_an_attempt_counts_each_fill_once_and_ends_once(
    told: list[tuple[OrderStatus, list[int]]],
) -> None:
    attempt, seen, over = ONE, set[int](), False
    for status, trades in told:
        fills = tuple(fill("1", trade=f"T{trade}") for trade in trades)
        attempt = merge_report(attempt, replace(report(running(), SlotName.ENTRY, status), fills=fills))
        seen |= set(trades)
        over |= status.is_terminal
        assert attempt.filled_qty == len(seen)
        assert (attempt.phase is AttemptPhase.DONE) is over
