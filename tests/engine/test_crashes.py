"""A process may die anywhere. The next one learns from SQL, the spool and the broker what is live, before it acts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from squareoff.adapters.memory.spool import SpoolStore
from squareoff.core.events import Event
from squareoff.core.types import Side, Tick
from tests.engine.world import INFY, Kind, Mischief, at, percent_stop, plan


def back_again(world, after_s: float = 1.0, **options) -> None:
    """The supervisor starts the next process a little later."""
    assert not world.is_alive, "it was to die"
    world.go(after_s, every_s=0.5)
    world.boot_up(**options)


@pytest.mark.parametrize("point", ["claim", "licence"])
def test_a_death_before_anything_was_sent_buys_once_within_the_grace(begin, point):  # faults 1, 2
    world = begin(plan())
    world.crash_at(point)
    world.go("09:20:00")
    back_again(world)
    world.go("09:20:10")
    assert world.run().state == "bought"
    assert len(world.placed("E")) == 1


def test_a_death_after_the_licence_of_which_the_next_process_hears_too_late_buys_nothing(begin):
    world = begin(plan())
    world.crash_at("licence")
    world.go("09:20:00")
    back_again(world, 10)
    world.go(10)
    assert world.placed() == []
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "buy_missed", "flat")


def test_a_death_after_the_mark_is_resolved_and_never_sent_again(begin):  # fault 2
    world = begin(plan())
    world.crash_at("mark")
    world.go("09:20:00", every_s=0.5)
    world.silently(0.1)
    back_again(world)
    world.go("09:20:15")
    assert world.run().state == "running"
    world.go("09:21:00")
    assert world.placed() == []
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "outcome_unknown", "unknown")
    world.go("09:45:35")
    assert (world.run().outcome, world.run().exposure) == ("failed", "flat")


@pytest.mark.parametrize("point", ["bytes", "answer", "save", "settle"])
def test_a_death_after_the_bytes_finds_the_order_and_buys_once(begin, point):  # faults 3, 4, 5
    world = begin(plan())
    world.go("09:19:59")
    world.crash_at(point)
    world.go("09:20:02", every_s=0.5)
    back_again(world)
    world.go(5)
    assert world.run().state == "bought"
    assert len(world.placed("E")) == 1


@pytest.mark.parametrize("reboot", [False, True])
@pytest.mark.parametrize("point", ["claim", "connected", "mark", "bytes", "answer", "save", "settle"])
def test_a_death_anywhere_on_the_way_of_a_stop_sells_once(begin, point, reboot):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:20:30")
    world.crash_at(point)
    world.tick("1539")
    world.silently(0.2)
    world.tick("1600")  # the price has recovered when the next process looks
    back_again(world, reboot=reboot)
    world.go(40)
    assert (world.run().outcome, world.run().exposure) == ("exited_by_sl", "flat")
    assert len(world.placed("X")) == 1


@pytest.mark.parametrize("point", ["claim", "mark", "bytes", "answer", "save"])
def test_a_death_anywhere_on_the_way_of_a_timed_sell_sells_once(begin, point):
    world = begin(bought=True, quarantine_s=10)
    world.silently("09:39:58")
    world.crash_at(point)
    world.go("09:40:01", every_s=0.5)
    back_again(world)
    world.go(40)
    assert (world.run().outcome, world.run().exposure) == ("sold", "flat")
    assert len(world.placed("X")) == 1


def test_down_one_second_before_buy_time_and_back_in_the_grace_buys_once(begin):  # fault 7
    world = begin(plan())
    world.go("09:19:59")
    world.crash()
    back_again(world, 2)
    world.go(5)
    assert world.run().state == "bought"


def test_down_past_the_grace_skips_the_buy(begin):  # fault 8, H18
    world = begin(plan())
    world.go("09:19:59")
    world.crash()
    back_again(world, 10)
    world.go(5)
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "buy_missed", "flat")
    assert world.placed() == []


def test_down_over_sell_time_sells_at_once(begin):  # fault 9
    world = begin(bought=True)
    world.go("09:21:00")
    world.crash()
    world.silently("09:42:00")
    world.boot_up()
    world.go(3)
    assert (world.run().state, world.run().exposure) == ("sold", "flat")


def test_a_stop_that_was_passed_while_down_and_recovered_is_not_seen(begin):  # fault 10
    world = begin(bought=True)
    world.crash()
    world.tick("1500")
    world.tick("1560")
    back_again(world)
    world.go(10)
    assert world.run().state == "bought"


def test_a_stop_still_passed_after_a_restart_sells_within_two_seconds(begin):
    world = begin(bought=True)
    world.go("09:21:00")
    world.crash()
    world.tick("1500")
    back_again(world)
    world.go(2, every_s=0.5)
    assert world.run().outcome == "exited_by_sl"


def test_a_position_is_protected_while_the_broker_does_not_tell_its_orders(begin):  # S7
    world = begin(bought=True)
    world.go("09:21:00")
    world.crash()
    world.venue.orders_down = True
    back_again(world)
    world.go(1, every_s=0.5)
    world.tick("1500")
    world.go(2, every_s=0.5)
    assert world.run().outcome == "exited_by_sl"
    assert not world.process.recovered


def test_a_lowest_price_seen_while_the_entry_was_open_survives_a_crash(begin):  # hole H2
    world = begin(plan(stop_loss=percent_stop("1")))
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:03")
    world.tick("1500")
    world.tick("1560")
    world.crash()
    back_again(world)
    world.go(20)
    assert world.run().outcome == "exited_by_sl"


def test_a_stop_seen_while_the_entry_was_open_survives_a_crash(begin):  # hole H2
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:03")
    world.crash_at("claim")
    world.tick("1530")
    world.tick("1560")
    back_again(world)
    world.go(20)
    assert world.run().outcome == "exited_by_sl"
    assert world.traded(Side.SELL) == 20


def test_old_lows_of_the_entry_do_not_trip_anything_after_it_is_settled(begin):
    world = begin(plan(stop_loss=percent_stop("1")))
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:03")
    world.tick("1550")
    world.tick("1560")
    world.go("09:20:15")
    run = world.run()
    assert run.state == "bought"
    world.crash()
    world.records.runs[run.plan.run_id] = replace(run, stop_price=Decimal("1555"))  # edited since
    back_again(world)
    world.go(5)
    assert world.run().state == "bought"


def test_after_a_reboot_a_position_is_still_held_and_its_exit_is_looked_up_before_it_may_be_sent(begin):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:21:00")
    world.crash()
    back_again(world, reboot=True)
    world.go(5)
    assert (world.run().state, world.run().exit.current.phase) == ("bought", "unknown")
    world.tick("1539")
    world.go(3)
    assert world.placed("X") == []
    assert world.run().state == "sl_pending"
    assert any("wait" in text or "may be live" in text for text in world.urgent())
    world.go(10)
    assert world.run().outcome == "exited_by_sl"
    assert len(world.placed("X")) == 1


def test_after_a_reboot_an_exit_that_was_never_sent_is_licensed_again_after_the_quarantine(begin):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:21:00")
    world.crash()
    back_again(world, reboot=True)
    world.go(20)
    assert (world.run().state, world.run().exit.current.phase) == ("bought", "licensed")
    world.tick("1539")
    world.go(1, every_s=0.25)
    assert world.run().outcome == "exited_by_sl"


def test_after_a_reboot_a_position_that_shrank_is_unknown_and_a_person_is_told(begin):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:21:00")
    world.crash()
    world.user_sells(20)
    back_again(world, reboot=True)
    world.go(20)
    assert (world.run().state, world.run().exposure) == ("failed", "unknown")
    told = len(world.urgent())
    assert told
    world.go(130)
    assert len(world.urgent()) >= told + 2
    world.user_sells(30)
    world.go(15)
    assert world.run().exposure == "flat"


def test_a_sale_that_left_while_sql_was_down_is_known_after_a_crash(begin):  # hole H8, FAULTS 46
    world = begin(plan(), quarantine_s=10)
    world.go("09:19:59")
    world.go("09:20:00", every_s=0.5)
    world.silently(0.01)
    world.sql_down = True  # after the licence, before the settle
    world.go(3)
    assert world.run().state == "bought"
    world.crash_at("answer")
    world.tick("1539")
    world.silently(0.2)
    world.tick("1560")
    world.sql_down = False
    back_again(world)
    world.go(30)
    assert (world.run().outcome, world.run().exposure) == ("exited_by_sl", "flat")
    assert len(world.placed("X")) == 1


@pytest.mark.parametrize("point", ["mark", "bytes", "answer"])
def test_a_second_sale_that_left_while_sql_was_down_is_known_after_a_crash(begin, point):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:21:00")
    world.sql_down = True
    world.venue.add(Mischief(kind=Kind.BUSY, slot="X", times=1))
    world.crash_at(point, occurrence=1 if point == "answer" else 2)  # the refused one has no answer point
    world.tick("1539")
    world.silently(0.6)
    world.sql_down = False
    back_again(world)
    world.go(40)
    assert (world.run().outcome, world.run().exposure) == ("exited_by_sl", "flat")


def test_a_sale_that_begins_while_recovery_is_not_finished_is_known_after_the_next_crash(begin):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:21:00")
    world.crash()
    world.tick("1500")
    world.venue.orders_down = True
    back_again(world, 0.5)
    world.crash_at("drained")
    world.venue.orders_down = False
    for _ in range(40):  # die at every await around the end of recovery, the sale being on its way
        world.silently(0.05)
    if world.is_alive:
        world.crash()
    back_again(world)
    world.go(40)
    assert world.run().exposure == "flat"
    assert len(world.placed("X")) == 1


def test_a_mark_written_between_the_last_save_of_recovery_and_the_draining_is_kept(begin):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:21:00")
    world.crash()
    world.go(1, every_s=0.5)
    tripped = []

    def breaks(call):
        if call == "flush" and not tripped:  # everything is saved: now the stop is hit
            tripped.append(call)
            world.process.listener.on_tick(Tick(INFY, Decimal(1500), world.now))

    world.breaks = breaks
    world.sql_hangs_s = 0.03  # the mark is made after 0.02 s, the order is answered after 0.04 s
    world.crash_at("answer")
    world.boot_up()
    world.silently(3)
    assert tripped
    world.sql_hangs_s = 0
    back_again(world)
    world.go(40)
    assert (world.run().outcome, world.run().exposure) == ("exited_by_sl", "flat")
    assert len(world.placed("X")) == 1


def test_sql_going_away_during_recovery_loses_no_mark(begin):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:21:00")
    world.crash_at("bytes")
    world.tick("1500")
    world.silently(0.2)
    assert not world.is_alive
    world.boot_up()
    world.sql_down = True
    world.silently(3)
    world.crash()
    world.sql_down = False
    back_again(world)
    world.go(40)
    assert world.run().exposure == "flat"
    assert len(world.placed("X")) == 1


def test_a_position_is_not_taken_for_closed_outside_when_the_reading_lags_behind_a_fill_before_the_crash(begin):  # H5
    world = begin(plan(), position_lag_s=5.0)
    world.venue.positions_lag_s = 4.0
    world.go("09:20:02")
    assert world.net == 50
    world.crash()
    world.boot_up()
    world.go(15)
    assert (world.run().state, world.run().exposure) == ("bought", "long")


def test_an_order_the_broker_has_forgotten_overnight_does_not_keep_a_run_open_for_ever(begin):
    world = begin(bought=True, quarantine_s=10)
    world.go("09:21:00")
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="X", qty=Decimal(10)))
    world.tick("1539")
    world.go(3)
    assert world.run().exit.current.phase == "open"
    world.crash()
    for order in world.placed("X"):
        world.book.cancel(order.order.client_order_id, world.now)
        world.venue.hidden_until[order.order.client_order_id] = at("23:00:00")
    back_again(world)
    world.go(30)
    assert world.run().exposure == "flat"


def test_a_late_watched_order_is_still_watched_by_the_next_process(begin):
    world = begin(plan(), quarantine_s=5)
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="E", seconds=60))
    world.go("09:20:20")
    assert world.run().state == "failed"
    world.crash()
    back_again(world, reboot=True)
    world.go("09:21:20")
    assert (world.run().outcome, world.run().exposure) == ("failed", "flat")
    assert world.traded(Side.SELL) == 50


def test_a_watched_entry_looked_up_again_does_not_send_an_unknown_exit_again(begin):
    world = begin(plan(), quarantine_s=10)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="E"))
    world.go("09:21:00")
    assert world.run().state == "failed"
    for _ in range(3):
        world.crash()
        back_again(world)
        world.go(15)
    assert (world.run().state, world.run().exposure) == ("failed", "unknown")
    assert world.placed() == []


def test_a_commit_whose_reply_is_lost_buys_at_most_once_and_is_not_stuck(begin):  # fault 45
    world = begin(plan())
    world.lost_commits["licence"] = 1
    world.go("09:20:10")
    assert len(world.placed("E")) == 1
    assert world.run().state == "bought"


def test_a_stop_wish_after_a_lost_reply_of_the_licence_is_obeyed(begin):
    world = begin(plan())
    world.lost_commits["licence"] = 1
    world.silently("09:19:59")
    world.go("09:20:00", every_s=0.5)
    world.wish(Event.STOP)
    world.go(10)
    assert world.run().outcome == "stopped"
    assert world.run().exposure == "flat"


def test_a_lost_reply_of_the_void_ends_the_run(begin):
    world = begin(plan())
    world.lost_commits["void"] = 1
    world.wish(Event.STOP)
    world.go("09:20:10")
    assert world.run().state == "stopped"
    assert world.placed() == []


def test_a_worker_that_lost_the_account_sends_nothing_any_more(begin):
    world = begin(bought=True)
    old = world.process
    del world.here.holders[plan().account]  # another process has the lock
    world.tick("1539")
    world.go(3)
    assert world.placed("X") == []
    assert old.engine.halted
    assert any("lost the account" in text for text in world.urgent())


def test_a_stop_loss_in_the_moment_of_the_buy_is_not_sold_again_after_the_machine_lost_its_power(begin):
    """Found by `make model`: the exit left before SQL had its licence, and with the spool its mark was gone."""
    world = begin(plan())
    world.go("09:20:00", every_s=0.5)
    world.silently(0.06)
    world.sql_hangs_s = 0.05
    world.tick()
    assert world.run().state == "bought"
    world.tick("1539")
    while not world.placed("X"):
        world.silently(0.01)
    world.crash()
    world.here.spool = SpoolStore()
    world.sql_hangs_s = 0
    world.tick("1538")
    world.boot_up(reboot=True)
    world.go(60)
    assert len(world.placed("X")) == 1
    assert world.run().outcome == "exited_by_sl"


def test_an_exit_that_left_while_sql_was_down_is_not_sent_again_after_the_machine_lost_its_power(begin):
    """Found by the simulator: nobody remembered it, neither SQL nor the spool."""
    world = begin(plan())
    world.go("09:20:00", every_s=0.5)
    world.silently(0.06)
    world.sql_down = True
    world.tick()
    world.tick("1539")
    world.go(3, every_s=0.5)
    assert len(world.placed("X")) == 1
    world.crash()
    world.here.spool = SpoolStore()
    world.sql_down = False
    world.boot_up(reboot=True)
    world.go(60)
    assert len(world.placed("X")) == 1
    assert (world.run().outcome, world.run().exposure) == ("exited_by_sl", "flat")


def test_a_buy_of_before_a_reboot_that_never_filled_leaves_no_exit_to_be_looked_for(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="E"))
    world.go("09:20:01", every_s=0.5)
    world.crash()
    world.boot_up(reboot=True)
    world.go("09:45:40")
    assert (world.run().outcome, world.run().exposure) == ("failed", "flat")
    assert world.run().is_closed
    assert world.placed("X") == []
