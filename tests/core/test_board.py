"""The worker's memory: which stop-loss a price trips, whose order it is, how much may be sold."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from samples import (
    BUY_AT,
    INFY,
    LOW,
    PLAN,
    after,
    board_of,
    bought,
    current,
    entry_told,
    exit_told,
    exited_by_sl,
    failed,
    failed_holding,
    failed_unknown,
    fill,
    numbered,
    percent,
    ready,
    report,
    running,
    seconds,
    sell_pending,
    sent,
    sl_pending,
    sold,
    stop_pending,
    stopped,
    tick,
)
from squareoff.core.board import (
    NO_STOP,
    NOTHING_BETWEEN,
    Board,
    exit_qty,
    is_exposed,
    may_be_live,
    out_qty,
    wants_every_tick,
)
from squareoff.core.events import Event
from squareoff.core.orders import AttemptPhase, SlotPhase
from squareoff.core.run import Run, absorb
from squareoff.core.types import ZERO, OrderStatus, Product, RunId, SlotName, Symbol
from squareoff.core.values import replace

E = Event
ENTRY, EXIT = SlotName.ENTRY, SlotName.EXIT
OPEN, FILLED, CANCELLED = OrderStatus.OPEN, OrderStatus.FILLED, OrderStatus.CANCELLED
TCS = Symbol("NSE:TCS")
STOP = Decimal("1540.00")


def stop_at(run: Run, price: str) -> Run:
    return replace(run, stop_price=Decimal(price))


# ------------------------------------------------------------------ which stop-loss a price trips


@pytest.mark.parametrize("make", [running, bought, sell_pending, stop_pending])
def test_the_stop_loss_is_watched_from_the_buy_until_it_is_hit_or_the_position_is_gone(make: object) -> None:
    board = board_of(make())  # type: ignore[operator]
    assert board.cells[INFY].top == STOP
    assert board.tripped(INFY, STOP) == [PLAN.run_id]
    assert board.tripped(INFY, STOP + Decimal("0.05")) == []


@pytest.mark.parametrize(
    "make", [ready, sl_pending, sold, exited_by_sl, failed, failed_holding, failed_unknown, stopped]
)
def test_a_run_that_holds_nothing_or_is_getting_out_by_its_stop_loss_is_not_watched(make: object) -> None:
    board = board_of(make())  # type: ignore[operator]
    assert (board.cells[INFY].top, list(board.cells[INFY].stops)) == (NO_STOP, [])


def test_a_stop_loss_that_was_seen_while_buying_is_not_watched_for_again() -> None:
    assert board_of(after(running(), E.STOPLOSS)).tripped(INFY, LOW) == []


def test_a_price_trips_every_stop_loss_at_or_above_it_and_the_highest_first() -> None:
    board = board_of(*(stop_at(numbered(bought(), n), price) for n, price in [(1, "1530"), (2, "1550"), (3, "1540")]))
    assert board.cells[INFY].top == Decimal(1550)
    assert board.tripped(INFY, Decimal(1540)) == [2, 3]
    assert board.tripped(INFY, Decimal(1000)) == [2, 3, 1]
    assert board.tripped(INFY, Decimal("1550.05")) == []


def test_a_stop_loss_that_was_moved_is_watched_at_its_new_level_only() -> None:
    board = board_of(bought())
    board.put(stop_at(bought(), "1550"))
    assert (board.cells[INFY].top, board.tripped(INFY, Decimal(1545))) == (Decimal(1550), [PLAN.run_id])
    board.put(stop_at(bought(), "1530"))
    assert (board.cells[INFY].top, board.tripped(INFY, Decimal(1540))) == (Decimal(1530), [])
    board.put(sl_pending())
    assert (board.cells[INFY].top, board.tripped(INFY, Decimal(1))) == (NO_STOP, [])


def test_when_the_highest_stop_loss_changes_the_next_price_is_looked_at_closely_and_only_then() -> None:
    board = board_of(numbered(bought(), 1))
    cell = board.cells[INFY]
    cell.low, cell.high = usual = (Decimal(1550), Decimal(1600))
    board.put(stop_at(numbered(bought(), 2), "1530"))
    assert (cell.low, cell.high) == usual
    board.put(stop_at(numbered(bought(), 3), "1555"))
    assert (cell.low, cell.high) == NOTHING_BETWEEN
    cell.low, cell.high = usual
    board.remove(RunId(3))
    assert (cell.top, cell.low, cell.high) == (STOP, *NOTHING_BETWEEN)


def test_the_first_run_of_a_new_day_makes_the_next_price_looked_at_closely() -> None:
    board = board_of(ready())
    cell = board.cells[INFY]
    cell.low, cell.high = usual = (Decimal(1550), Decimal(1600))
    board.put(numbered(ready(), 2))
    assert (cell.low, cell.high) == usual
    board.remove(PLAN.run_id)
    board.remove(RunId(2))
    board.put(numbered(ready(), 3))
    assert (cell.low, cell.high) == NOTHING_BETWEEN


def test_a_stop_loss_of_one_symbol_is_not_tripped_by_the_price_of_another() -> None:
    board = board_of(numbered(bought(), 1), stop_at(numbered(bought(), 2, symbol=TCS), "2900"))
    assert board.tripped(INFY, Decimal(1000)) == [1]
    assert board.tripped(TCS, Decimal(1000)) == [2]


@pytest.mark.parametrize(
    ("run", "wants"),
    [
        (ready(), False),
        (replace(ready(), waited_for_price=True), True),
        (running(), False),
        (replace(running(), stop_price=None), True),
        (replace(running(), waited_for_price=True), False),
        (bought(), False),
        (replace(sold(), stop_price=None), False),
    ],
)
def test_only_a_run_that_waits_for_a_price_or_knows_no_level_yet_wants_every_tick(run: Run, wants: bool) -> None:
    board = board_of(run)
    assert (wants_every_tick(run), PLAN.run_id in board.cells[INFY].eager) == (wants, wants)
    board.put(bought())
    assert board.cells[INFY].eager == set()


def test_a_percentage_wants_every_tick_until_the_average_fill_is_known() -> None:
    plan = replace(PLAN, stop_loss=percent("2"))
    board = board_of(running(plan))
    assert board.cells[INFY].eager == {PLAN.run_id}
    board.put(bought(plan=plan))
    assert (board.cells[INFY].eager, board.cells[INFY].top) == (set(), Decimal("1528.80"))


def test_an_archived_run_is_forgotten_whole() -> None:
    board = board_of(numbered(bought(), 1), replace(numbered(running(), 2), stop_price=None))
    for number in (1, 2):
        board.remove(RunId(number))
    cell = board.cells[INFY]
    assert (board.runs, board.unsettled, cell.run_ids, cell.eager, list(cell.stops)) == ({}, set(), set(), set(), [])
    assert (cell.top, list(board.sharing(INFY, Product.MIS)), board.free_qty(INFY, Product.MIS)) == (NO_STOP, [], ZERO)
    board.remove(RunId(1))  # a second time does no harm
    board.put(numbered(bought(), 1))
    assert (board.cells[INFY].top, board.free_qty(INFY, Product.MIS)) == (STOP, 50)


# ------------------------------------------------------------------ whose order, whose position


def test_every_order_of_a_run_finds_it_until_it_is_archived() -> None:
    run = bought()
    board = board_of(running())
    entry, exit_ = current(run, ENTRY).client_order_id, current(run, EXIT).client_order_id
    assert (board.owner_of(entry), board.owner_of(exit_)) == (PLAN.run_id, None)
    board.put(run)
    assert (board.owner_of(entry), board.owner_of(exit_)) == (PLAN.run_id, PLAN.run_id)
    again = exit_told(sent(after(run, E.SELL), EXIT), CANCELLED)
    board.put(again)
    assert board.owner_of(current(again, EXIT).client_order_id) == PLAN.run_id
    board.remove(PLAN.run_id)
    assert {board.owner_of(a.client_order_id) for slot in (again.entry, again.exit) for a in slot.attempts} == {None}


def test_runs_share_a_position_when_symbol_and_product_are_the_same() -> None:
    board = board_of(
        numbered(bought(), 1),
        numbered(bought(), 2),
        numbered(bought(), 3, product=Product.CNC),
        numbered(bought(), 4, symbol=TCS),
    )
    assert {run.plan.run_id for run in board.sharing(INFY, Product.MIS)} == {1, 2}
    assert {run.plan.run_id for run in board.sharing(INFY, Product.CNC)} == {3}
    assert list(board.sharing(Symbol("NSE:WIPRO"), Product.MIS)) == []
    assert board.free_qty(INFY, Product.MIS) == 100
    assert (board.free_qty(INFY, Product.CNC), board.free_qty(Symbol("NSE:WIPRO"), Product.MIS)) == (50, ZERO)


# ------------------------------------------------------------------ how much may be sold


def test_what_is_free_follows_every_change_of_what_is_held_or_on_its_way() -> None:
    board = board_of(running())
    steps = [
        (bought("20"), 20),
        (sent(after(bought("20"), E.SELL), EXIT), 0),
        (
            absorb(sent(after(bought("20"), E.SELL), EXIT), report(after(bought("20"), E.SELL), EXIT, OPEN, fill(5)))[
                0
            ],
            0,
        ),
        (exit_told(sent(after(bought("20"), E.SELL), EXIT), CANCELLED, fill(5)), 15),
        (replace(bought("20"), outside_qty=Decimal(8)), 12),
        (running(), 0),
    ]
    for run, free in steps:
        board.put(run)
        assert board.free_qty(INFY, Product.MIS) == free


def test_an_exit_sells_what_our_fills_say_and_never_more_than_is_there() -> None:
    run = numbered(bought(), 1)
    board = board_of(run)
    assert exit_qty(run, board, missing_qty=ZERO) == 50
    assert exit_qty(run, board, missing_qty=Decimal(20)) == 30
    assert exit_qty(run, board, missing_qty=Decimal(70)) == 0
    board.put(numbered(bought("30"), 2))
    assert exit_qty(run, board, missing_qty=Decimal(20)) == 50


def test_what_the_exit_of_another_run_has_out_already_is_reserved_and_ones_own_is_not() -> None:
    first, second = numbered(bought(), 1), numbered(sent(sell_pending(), EXIT), 2)
    board = board_of(first, second)
    assert exit_qty(first, board, missing_qty=Decimal(20)) == 30
    assert exit_qty(second, board, missing_qty=Decimal(20)) == 50


@pytest.mark.parametrize(
    ("phase", "out"),
    [
        (AttemptPhase.LICENSED, 0),
        (AttemptPhase.UNKNOWN, 30),
        (AttemptPhase.OPEN, 30),
        (AttemptPhase.DONE, 0),
    ],
)
def test_a_sell_counts_as_out_from_its_sending_to_its_end_for_what_it_has_not_filled(
    phase: AttemptPhase, out: int
) -> None:
    run = exit_told(sell_pending(), OPEN, fill("20"))
    assert out_qty(run.with_slot(EXIT, run.exit.with_current(phase=phase))) == out


# ------------------------------------------------------------------ what is more than waiting


@pytest.mark.parametrize(
    ("run", "exposed", "live"),
    [
        (ready(), False, False),
        (running(), True, True),
        (running().with_slot(ENTRY, running().entry.with_current(phase=AttemptPhase.DONE)), False, True),
        (bought(), False, False),
        (sent(bought(), EXIT), True, True),
        (exit_told(sell_pending(), OPEN), True, True),
        (sell_pending(), True, False),
        (failed_holding(), True, False),
        (failed_unknown(), True, True),
        (failed(), False, False),
        (sold(), False, False),
        (after(bought(), E.HAND_OVER), False, False),
    ],
)
def test_a_run_is_settled_when_nothing_may_be_live_and_what_it_holds_is_watched(
    run: Run, exposed: bool, live: bool
) -> None:
    board = board_of(run)
    assert (is_exposed(run), may_be_live(run)) == (exposed, live)
    assert (PLAN.run_id in board.unsettled) == (exposed or live)
    board.put(sold())
    assert board.unsettled == set()


def test_a_run_whose_buy_is_watched_for_may_be_live_whatever_its_attempts_say() -> None:
    run = failed_unknown()
    assert may_be_live(run.with_slot(ENTRY, replace(run.entry.with_current(phase=AttemptPhase.DONE))))
    told = replace(stopped(), entry=replace(stopped().entry.with_current(phase=AttemptPhase.OPEN)))
    assert (told.entry.phase, may_be_live(told)) == (SlotPhase.SETTLED, True)


# ------------------------------------------------------------------ until when a price is known to have held

SEC = seconds(1)


def heard(board: Board, price_at: timedelta, heard_at: timedelta | None) -> None:
    cell = board.cells[INFY]
    cell.last, cell.heard_at = tick("1560", BUY_AT + price_at), None if heard_at is None else BUY_AT + heard_at


def test_a_price_holds_as_long_as_the_feed_that_told_it_lives() -> None:
    board = board_of(ready())
    assert (board.as_of(TCS), board.as_of(INFY), board.last(INFY), board.last(TCS)) == (None, None, None, None)
    board.feed_lives(BUY_AT)
    heard(board, price_at=-SEC, heard_at=timedelta(0))
    assert board.last(INFY) == tick("1560", BUY_AT - SEC)
    assert board.as_of(INFY) == BUY_AT
    board.feed_lives(BUY_AT + 9 * SEC)
    assert (board.speaks_since, board.as_of(INFY)) == (BUY_AT, BUY_AT + 9 * SEC)


def test_what_a_broken_connection_told_holds_only_until_it_was_heard() -> None:
    board = board_of(ready())
    board.feed_lives(BUY_AT)
    heard(board, price_at=-SEC, heard_at=2 * SEC)
    board.feed_ends()
    assert (board.speaks_since, board.as_of(INFY)) == (None, BUY_AT + 2 * SEC)
    board.feed_lives(BUY_AT + 5 * SEC)  # a new connection, which has not told this symbol yet
    assert board.as_of(INFY) == BUY_AT + 2 * SEC
    heard(board, price_at=-SEC, heard_at=5 * SEC)
    board.feed_lives(BUY_AT + 8 * SEC)
    assert board.as_of(INFY) == BUY_AT + 8 * SEC


def test_a_price_beside_one_that_is_doubted_holds_only_until_it_was_heard() -> None:
    board = board_of(ready())
    board.feed_lives(BUY_AT)
    heard(board, price_at=-SEC, heard_at=2 * SEC)
    board.feed_lives(BUY_AT + 5 * SEC)
    board.cells[INFY].doubted = (tick("9"), "implausible")
    assert board.as_of(INFY) == BUY_AT + 2 * SEC


def test_where_it_is_not_known_when_a_price_was_heard_it_is_as_old_as_its_trade() -> None:
    board = board_of(ready())
    board.feed_lives(BUY_AT)
    heard(board, price_at=-SEC, heard_at=None)
    assert board.as_of(INFY) == BUY_AT - SEC


def test_an_entry_that_fills_in_part_keeps_its_level_watched() -> None:
    board = board_of(entry_told(running(), OPEN, fill("20")))
    assert board.tripped(INFY, LOW) == [PLAN.run_id]
