"""Two runs, one symbol, one netted position at the broker; and sales outside squareoff."""

from __future__ import annotations

from decimal import Decimal

from squareoff.core.events import Event
from squareoff.core.types import Side
from tests.engine.world import Kind, Mischief, plan, price_stop


def test_two_runs_of_one_symbol_sell_each_its_own_shares(begin):  # H21
    world = begin(plan(7, quantity=30), plan(8, quantity=20, stop_loss=price_stop("1500")), bought=True)
    world.tick("1539")
    world.go(3)
    assert (world.run(7).state, world.run(8).state) == ("exited_by_sl", "bought")
    assert world.net == 20
    world.tick("1499")
    world.go(3)
    assert world.run(8).state == "exited_by_sl"
    assert world.net == 0


def test_an_exit_whose_fill_is_not_told_yet_does_not_make_the_other_run_look_closed_outside(begin):
    world = begin(plan(7), plan(8, stop_loss=price_stop("1500")), bought=True)
    world.go(5)
    world.venue.push = "late"  # the position moves first, the news comes 2 s later
    world.venue.add(Mischief(kind=Kind.PLACED_BUT_NO_ANSWER, slot="X"))
    world.tick("1539")
    world.go(10, every_s=0.5)
    assert (world.run(7).outcome, world.run(8).state) == ("exited_by_sl", "bought")
    assert world.net == 50


def test_a_stop_of_the_other_run_is_not_lost_while_an_exit_of_the_first_is_unknown(begin):
    world = begin(plan(7), plan(8, stop_loss=price_stop("1530")), bought=True, quarantine_s=10)
    world.go(5)
    world.venue.push = "never"
    world.venue.add(Mischief(kind=Kind.PLACED_BUT_NO_ANSWER, slot="X"))
    world.venue.find_down = world.venue.orders_down = True
    world.tick("1539")
    world.go(6)
    world.tick("1529")
    world.go(6)
    world.venue.find_down = world.venue.orders_down = False
    world.go(30)
    assert [world.run(n).outcome for n in (7, 8)] == ["exited_by_sl"] * 2
    assert world.net == 0


def test_a_position_closed_outside_is_not_sold_again_and_ends_stopped(begin):
    world = begin(bought=True)
    world.user_sells(50)
    world.go(5)
    assert (world.run().state, world.run().cause, world.run().exposure) == ("stopped", "closed_outside", "flat")
    assert world.placed("X") == []


def test_a_position_closed_outside_just_before_the_stop_is_not_sold_again(begin):
    world = begin(bought=True)
    world.go(3)
    world.silently(1.9)
    world.user_sells(50)
    world.go(2.5)
    world.tick("1539")
    world.go(5)
    assert world.placed("X") == []
    assert world.run().exposure == "flat"


def test_a_position_partly_sold_outside_sells_only_what_is_left_and_never_goes_short(begin):
    world = begin(bought=True)
    world.user_sells(20)
    world.go(5)
    world.tick("1539")
    world.go(20)
    assert world.traded(Side.SELL) == 30
    assert world.net == 0
    assert (world.run().outcome, world.run().exposure) == ("exited_by_sl", "flat")


def test_a_position_partly_sold_outside_and_sold_on_time_ends_flat(begin):
    world = begin(bought=True)
    world.user_sells(20)
    world.silently("09:39:55")
    world.go("09:40:20")
    assert world.traded(Side.SELL) == 30
    assert world.run().exposure == "flat"


def test_two_runs_and_a_sale_outside_never_make_the_account_short(begin):  # hole H6
    world = begin(plan(7), plan(8), bought=True)
    world.user_sells(50)
    world.go(5)
    world.tick("1539")
    world.go(30)
    assert world.net == 0
    assert {world.run(n).exposure for n in (7, 8)} == {"flat"}


def test_a_stop_with_the_position_gone_but_a_fill_of_ours_ends_exited_by_sl(begin):  # hole H4
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="X", qty=Decimal(20)))
    world.go(3)
    world.tick("1539")
    world.go(2)
    assert world.run().exit.filled_qty == 20
    world.user_sells(30)
    world.go(5)  # a reading of the position, our exit still open
    for order in world.placed("X"):
        world.book.cancel(order.order.client_order_id, world.now)
    world.go(20)
    assert (world.run().outcome, world.run().exposure) == ("exited_by_sl", "flat")


def test_a_stop_latched_with_everything_sold_outside_ends_failed_and_flat(begin):  # hole H4
    world = begin(bought=True)
    world.go(3)
    world.venue.add(Mischief(kind=Kind.RATE_LIMIT, slot="X", times=4, seconds=1))
    world.tick("1539")
    world.silently(0.1)
    world.user_sells(50)
    world.go(10)
    assert (world.run().outcome, world.run().cause, world.run().exposure) == ("failed", "closed_outside", "flat")
    assert world.placed("X") == []


def test_positions_that_lag_behind_our_fill_neither_cap_nor_close(begin):  # hole H5
    world = begin(plan(), position_lag_s=4.0)
    world.venue.positions_lag_s = 3.5
    world.go("09:20:04")
    assert world.run().state == "bought"
    world.tick("1539")
    world.go(2)
    assert world.run().outcome == "exited_by_sl"


def test_a_reading_of_the_very_instant_of_the_fill_proves_nothing(begin):
    world = begin(bought=True)
    world.engine.ownership.taken_on(world.run(), world.loop.monotonic_s())
    world.engine.on_positions({})
    world.go(0.5, every_s=0.5)
    assert world.run().state == "bought"


def test_what_the_user_holds_besides_is_never_sold(begin):
    world = begin(bought=True)
    world.user_buys(30)
    world.go(3)
    world.tick("1539")
    world.go(3)
    assert world.net == 30
    assert world.run().outcome == "exited_by_sl"


def test_an_exit_lost_is_not_sent_again_while_the_buy_of_another_run_may_explain_the_position(begin):
    world = begin(plan(7), plan(8, buy="09:20:30", stop_loss=price_stop("1000")), bought=True, quarantine_s=20)
    world.go("09:20:15")
    world.venue.push = "never"
    world.venue.add(
        Mischief(kind=Kind.VISIBLE_LATE, slot="X", seconds=45),
        Mischief(kind=Kind.VISIBLE_LATE, slot="E", seconds=18),
    )
    world.tick("1539")
    world.go("09:20:46")
    assert (world.net, len(world.placed("X"))) == (50, 1)  # run 7's are sold, run 8's are there: it looks like 7's
    world.go("09:22:00")
    assert world.net == 50
    assert (world.run(7).exposure, world.run(8).state) == ("flat", "bought")


def test_two_exits_lost_at_once_do_not_wait_for_each_other(begin):
    world = begin(plan(7), plan(8), bought=True, quarantine_s=5)
    world.go("09:20:15")
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X", times=2))
    world.tick("1539")
    world.go(30)
    assert [world.run(n).outcome for n in (7, 8)] == ["exited_by_sl"] * 2
    assert world.net == 0


def test_two_exits_lost_at_once_of_which_one_executed_are_told_and_not_sent_again(begin):
    world = begin(plan(7), plan(8), bought=True, quarantine_s=5)
    world.go("09:20:15")
    world.venue.push = "never"
    world.venue.add(
        Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X", times=1),
        Mischief(kind=Kind.VISIBLE_LATE, slot="X", seconds=60),
    )
    world.tick("1539")
    world.go(30)
    assert {(world.run(n).state, world.run(n).exposure) for n in (7, 8)} == {("failed", "unknown")}
    assert len(world.urgent()) >= 2
    world.go(60)
    assert world.net == 0
    assert {world.run(n).exposure for n in (7, 8)} == {"flat"}


def test_the_cap_of_an_earlier_day_of_trading_does_not_hold_back_a_new_run(begin):
    world = begin(bought=True)
    world.user_sells(20)
    world.go(3)
    world.tick("1539")
    world.go(10)
    assert world.run().exposure == "flat"
    world.tick("1560")
    world.plans[7] = plan(buy="09:25:00")
    world.wish(Event.START)
    world.go("09:25:01")
    world.tick("1539")
    world.go(5)
    assert world.run().outcome == "exited_by_sl"
    assert world.net == 0


def test_an_exit_lost_is_not_sent_again_on_a_position_that_lags_behind_it(begin):
    world = begin(plan(), position_lag_s=10.0, quarantine_s=5)
    world.venue.positions_lag_s = 9.0
    world.go("09:20:30")
    world.venue.push = "never"
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="X", seconds=60))
    world.tick("1539")
    world.go(90)
    assert len(world.placed("X")) == 1
    assert world.run().exposure == "flat"


def test_an_exit_lost_waits_for_a_position_that_knows_the_latest_fills(begin):
    world = begin(
        plan(7), plan(8, buy="09:20:23", stop_loss=price_stop("1000")), bought=True, quarantine_s=5, position_lag_s=4.0
    )
    world.venue.positions_lag_s = 3.5
    world.go("09:20:13")
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"))
    world.tick("1539")
    world.go(30)
    assert (world.run(7).outcome, world.run(8).state) == ("exited_by_sl", "bought")


def test_what_was_sold_by_hand_is_not_sold_again_by_a_worker_that_has_just_been_started(begin):
    """Found by the simulator: what the earlier worker knew of the position died with it."""
    world = begin(bought=True)
    world.user_sells(20)
    world.go(5)
    world.crash()
    world.tick("1539")
    world.boot_up()
    world.go(10)
    assert world.traded(Side.SELL) == 30
    assert world.net == 0
