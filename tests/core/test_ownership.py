"""Whose shares are whose, when the broker nets several runs and the trader's own trades into one position."""

from __future__ import annotations

from decimal import Decimal

import pytest

from samples import (
    INFY,
    PLAN,
    after,
    board_of,
    bought,
    current,
    entry_told,
    exit_told,
    failed_unknown,
    fill,
    numbered,
    report,
    running,
    sell_pending,
    sent,
)
from squareoff.core.board import Board
from squareoff.core.events import Event
from squareoff.core.orders import AttemptPhase, SlotPhase
from squareoff.core.ownership import Ownership, key_of, net_of
from squareoff.core.run import Run, absorb
from squareoff.core.types import ZERO, OrderStatus, Position, Product, Side, SlotName
from squareoff.core.values import replace

ENTRY, EXIT = SlotName.ENTRY, SlotName.EXIT
OPEN, CANCELLED = OrderStatus.OPEN, OrderStatus.CANCELLED
KEY = (INFY, Product.MIS)


def selling(qty_filled: int = 0) -> Run:
    """A SELL of 50 is at the broker."""
    fills = (fill(qty_filled),) if qty_filled else ()
    return exit_told(sent(sell_pending(), EXIT), OPEN, *fills)


def books(*runs: Run) -> tuple[Board, Ownership]:
    board = board_of(*runs)
    return board, Ownership(board)


def test_the_broker_s_positions_are_added_up_by_symbol_and_product() -> None:
    told = [
        Position(symbol=INFY, product=Product.MIS, net_qty=Decimal(50)),
        Position(symbol=INFY, product=Product.CNC, net_qty=Decimal(7)),
        Position(symbol=INFY, product=Product.MIS, net_qty=Decimal(-20)),
    ]
    assert net_of(told) == {KEY: 30, (INFY, Product.CNC): 7}
    assert key_of(bought()) == KEY


def test_what_the_broker_does_not_hold_with_no_sell_of_ours_to_explain_it_is_missing() -> None:
    _, own = books(numbered(bought(), 1), numbered(bought("30"), 2))
    assert own.missing(KEY) == 0
    assert own.reckon(KEY, Decimal(60)) == []
    assert own.missing(KEY) == 20
    assert own.reckon(KEY, Decimal(80)) == []
    assert own.missing(KEY) == 0


def test_shares_of_the_trader_beside_ours_are_not_ours_and_nothing_is_missing() -> None:
    _, own = books(bought())
    assert own.reckon(KEY, Decimal(500)) == []
    assert own.missing(KEY) == 0


def test_when_the_broker_holds_nothing_every_run_that_should_hold_is_told() -> None:
    first, second = numbered(bought(), 1), numbered(bought("1"), 2)
    _, own = books(first, second, numbered(running(), 3).with_slot(ENTRY, running().entry.with_current(phase="done")))
    assert own.reckon(KEY, ZERO) == [first, second]
    assert own.reckon(KEY, Decimal(-5)) == [first, second]
    assert own.missing(KEY) == 56
    assert own.reckon(KEY, Decimal(1)) == []


def test_a_buy_that_is_not_settled_is_never_called_closed_outside() -> None:
    run = entry_told(running(), OPEN, fill("20"))
    over, _ = absorb(run, report(run, ENTRY, CANCELLED))
    _, own = books(over)
    assert own.reckon(KEY, ZERO) == []


def test_what_our_own_sell_may_have_sold_is_not_missing_until_it_is_over_and_did_not() -> None:
    run = selling()
    board, own = books(run)
    assert own.reckon(KEY, ZERO) == []
    assert own.missing(KEY) == 0
    board.put(exit_told(run, CANCELLED))
    assert own.missing(KEY) == 50
    assert [one.plan.run_id for one in own.reckon(KEY, ZERO)] == [PLAN.run_id]


def test_what_our_own_sell_did_sell_is_not_missing() -> None:
    run = selling()
    board, own = books(run)
    own.reckon(KEY, Decimal(30))
    board.put(exit_told(run, OPEN, fill("20")))
    own.filled(run, Side.SELL, Decimal(20), at_s=1.0)
    board.put(exit_told(exit_told(run, OPEN, fill("20")), CANCELLED))
    assert own.missing(KEY) == 0


def test_what_was_missing_before_our_sell_went_out_stays_missing() -> None:
    board, own = books(bought())
    own.reckon(KEY, Decimal(30))
    board.put(selling())
    assert own.missing(KEY) == 20
    own.reckon(KEY, Decimal(10))
    assert own.missing(KEY) == 20
    own.reckon(KEY, Decimal(50))
    assert own.missing(KEY) == 0


def test_a_buy_of_ours_explains_nothing_that_is_missing() -> None:
    _, own = books(bought())
    own.reckon(KEY, Decimal(30))
    own.filled(bought(), Side.BUY, Decimal(20), at_s=1.0)
    assert own.missing(KEY) == 20


def test_a_sell_known_to_be_ours_takes_no_more_than_what_is_gone() -> None:
    run = selling()
    board, own = books(run)
    own.reckon(KEY, Decimal(40))
    own.filled(run, Side.SELL, Decimal(30), at_s=1.0)
    board.put(exit_told(run, CANCELLED, fill("30")))
    assert own.missing(KEY) == 0
    own.reckon(KEY, Decimal(10))
    assert own.missing(KEY) == 10


def test_what_is_known_to_have_been_sold_by_other_hands_is_no_longer_missing() -> None:
    _, own = books(numbered(bought(), 1), numbered(bought(), 2))
    own.reckon(KEY, Decimal(30))
    assert own.missing(KEY) == 70
    own.explained(numbered(bought(), 1), Decimal(50))
    assert own.missing(KEY) == 20
    own.explained(numbered(bought(), 1), Decimal(50))
    assert own.missing(KEY) == 0


# ------------------------------------------------------------------ readings that are too old


def test_a_reading_from_before_our_last_fill_could_be_known_proves_nothing() -> None:
    _, own = books(bought())
    assert not own.lags(KEY, asked_at_s=0.0, lag_s=2.0)
    own.filled(bought(), Side.BUY, Decimal(50), at_s=10.0)
    assert own.lags(KEY, asked_at_s=9.0, lag_s=2.0)
    assert own.lags(KEY, asked_at_s=12.0, lag_s=2.0)
    assert not own.lags(KEY, asked_at_s=12.5, lag_s=2.0)
    own.taken_on(bought(), at_s=20.0)
    assert own.lags(KEY, asked_at_s=21.0, lag_s=2.0)
    assert not own.lags((INFY, Product.CNC), asked_at_s=21.0, lag_s=2.0)


# ------------------------------------------------------------------ orders under way


@pytest.mark.parametrize(
    ("phase", "moving"),
    [
        (AttemptPhase.LICENSED, False),
        (AttemptPhase.UNKNOWN, True),
        (AttemptPhase.OPEN, True),
        (AttemptPhase.DONE, False),
    ],
)
def test_a_position_moves_while_an_order_of_ours_is_out_and_nobody_is_called_closed_outside(
    phase: AttemptPhase, moving: bool
) -> None:
    held = numbered(bought(), 1)
    out = numbered(sell_pending(), 2)
    out = out.with_slot(EXIT, out.exit.with_current(phase=phase))
    _, own = books(held, out)
    assert own.is_moving(KEY) is moving
    assert own.reckon(KEY, ZERO) == ([] if moving else [held, out])


def test_an_open_buy_moves_a_position_too() -> None:
    _, own = books(running())
    assert own.is_moving(KEY)
    assert not own.is_moving((INFY, Product.CNC))


def test_an_order_given_up_for_lost_moves_nothing() -> None:
    run = selling()
    _, own = books(run)
    own.lost.add(current(run, EXIT).client_order_id)
    assert not own.is_moving(KEY)
    watched = replace(run, exit=replace(run.exit, phase=SlotPhase.WATCH))
    assert not books(watched)[1].is_moving(KEY)
    assert not books(failed_unknown())[1].is_moving(KEY)


def test_what_is_proven_counts_what_an_open_buy_may_have_bought_meanwhile() -> None:
    part = numbered(entry_told(running(), OPEN, fill("20")), 2)
    assert books(numbered(bought("30"), 1), part)[1].proven(KEY) == 80
    assert books(numbered(bought("30"), 1), numbered(running(), 2))[1].proven(KEY) == 80
    assert books(after(bought(), Event.SELL))[1].proven(KEY) == 50
    assert books(selling(20))[1].proven(KEY) == 30
    assert books(failed_unknown())[1].proven(KEY) == 0
    licensed = running().with_slot(ENTRY, running().entry.with_current(phase=AttemptPhase.LICENSED))
    assert books(licensed)[1].proven(KEY) == 0
