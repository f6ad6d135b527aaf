"""The successor may be on another machine, which sees SQL and the broker, but not our send marks."""

from __future__ import annotations

from decimal import Decimal

from squareoff.adapters.memory.spool import SpoolStore
from squareoff.core.events import Event
from squareoff.core.types import Side
from squareoff.simulation.process import Machine
from tests.engine.world import Kind, Mischief, plan


def on_another_machine(world):
    """The worker dies, and one on another machine takes the account over."""
    world.crash()
    world.here = Machine("m2")
    world.boot_up()


def test_a_stop_loss_leaves_at_once_when_its_licence_is_in_sql(begin):
    world = begin(bought=True, shares_database=True)
    world.go(1)
    world.calls.clear()
    world.tick("1539")
    world.go(2)
    order = [call for call in world.calls if call in ("submit X01", "save")]
    assert order[0] == "submit X01"
    assert world.run().outcome == "exited_by_sl"


def test_an_exit_waits_until_its_licence_is_in_sql_and_no_longer(begin):
    world = begin(plan(), shares_database=True)
    world.silently("09:20:00.5")
    world.sql_down = True
    world.tick("1560")  # the BUY fills, and SQL does not know it
    world.tick("1539")
    world.silently(3)
    assert world.placed("X") == []
    world.sql_down = False
    world.go(2)
    assert world.run().outcome == "exited_by_sl"


def test_on_one_machine_an_exit_waits_for_no_database(begin):
    world = begin(plan())
    world.silently("09:20:00.5")
    world.sql_down = True
    world.tick("1560")
    world.tick("1539")
    world.silently(0.5)
    assert len(world.placed("X")) == 1


def test_a_licence_granted_on_another_machine_may_have_been_used_so_it_is_looked_up_first(begin):
    world = begin(bought=True, shares_database=True)
    on_another_machine(world)
    world.go(1)
    world.tick("1539")
    world.go(15)
    assert world.placed("X") == []
    assert any("may be live" in text for text in world.urgent())
    world.go(10)
    assert (world.run().outcome, len(world.placed("X"))) == ("exited_by_sl", 1)


def test_whoever_holds_is_told_at_the_takeover_that_a_stop_loss_would_have_to_wait(begin):
    world = begin(bought=True, shares_database=True)
    world.go(1)
    assert not any("cannot be sold yet" in text for text in world.urgent())
    on_another_machine(world)
    world.go(0.5)
    assert any("INFY: a stop-loss cannot be sold yet. of 1 position" in text for text in world.urgent())


def test_after_a_restart_on_the_same_machine_a_stop_loss_does_not_have_to_wait(begin):
    world = begin(bought=True, shares_database=True)
    world.go(1)
    world.crash()
    world.boot_up()
    world.go(0.5)
    world.tick("1539")
    world.go(1)
    assert world.run().outcome == "exited_by_sl"
    assert not any("cannot be sold yet" in text for text in world.urgent())


def test_an_exit_that_the_other_machine_sent_is_found_and_not_sent_again(begin):
    world = begin(bought=True, shares_database=True)
    world.crash_at("bytes")
    world.silently(0.5)
    world.feed_says("1539")
    world.silently(0.2)
    assert not world.is_alive
    on_another_machine(world)
    world.go(5)
    assert (world.run().outcome, world.traded(Side.SELL)) == ("exited_by_sl", 50)


def test_the_licence_is_ours_in_sql_before_anything_is_sent_under_it(begin):
    world = begin(bought=True, shares_database=True)
    on_another_machine(world)
    world.go(0.5)
    saved = next(iter(world.records.runs.values()))
    assert saved.exit.stamp.machine == "m2"


def sold_and_died(begin, *, reboot=False):
    """A stop-loss was hit and the SELL has left when the worker dies: SQL still says `bought`. The price recovers."""
    world = begin(bought=True, shares_database=not reboot)
    world.crash_at("bytes")
    world.silently(0.5)
    world.feed_says("1539")
    world.silently(0.2)
    assert not world.is_alive
    assert world.run().state == "bought"
    world.tick("1600")
    return world


def test_a_sell_that_the_other_machine_sent_before_sell_time_was_for_the_stop_loss(begin):
    world = sold_and_died(begin)
    on_another_machine(world)
    world.go(2)
    assert (world.run().outcome, world.traded(Side.SELL), len(world.placed("X"))) == ("exited_by_sl", 50, 1)
    assert any("only the stop-loss sends one" in text for text in world.journal())


def test_a_sell_that_left_before_the_machine_lost_its_power_was_for_the_stop_loss(begin):
    world = sold_and_died(begin, reboot=True)
    world.here.spool = SpoolStore()
    world.boot_up(reboot=True)
    world.go(2)
    assert (world.run().outcome, world.traded(Side.SELL), len(world.placed("X"))) == ("exited_by_sl", 50, 1)


def test_a_sell_that_the_other_machine_sent_for_a_stop_of_the_user_is_not_taken_for_the_stop_loss(begin):
    world = begin(bought=True, shares_database=True)
    world.crash_at("bytes")
    world.wish(Event.STOP)
    world.go(1)
    assert not world.is_alive
    on_another_machine(world)
    world.go(3)
    assert (world.run().outcome, world.traded(Side.SELL), len(world.placed("X"))) == ("stopped", 50, 1)


def test_a_sell_that_the_other_machine_sent_at_sell_time_is_the_timed_one(begin):
    world = begin(bought=True, shares_database=True)
    world.go("09:39:59")
    world.crash_at("bytes")
    world.go("09:40:01", every_s=0.5)
    assert not world.is_alive
    on_another_machine(world)
    world.go(3)
    assert (world.run().outcome, world.traded(Side.SELL), len(world.placed("X"))) == ("sold", 50, 1)


def test_what_is_left_of_a_sell_that_nobody_remembers_is_sold_too(begin):
    world = begin(bought=True, shares_database=True)
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="X", qty=Decimal(20), cancel_rest=True))
    world.crash_at("bytes")
    world.silently(0.5)
    world.feed_says("1539")
    world.silently(0.2)
    world.tick("1600")
    on_another_machine(world)
    world.go(5)
    assert (world.run().outcome, world.traded(Side.SELL)) == ("exited_by_sl", 50)
