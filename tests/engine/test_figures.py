"""What a worker counts on days with and without trouble."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from squareoff.core import figures
from squareoff.core.figures import UNMETERED, Figures, of_runs
from squareoff.core.types import Tick
from squareoff.ports import Meter
from tests.engine.world import INFY, Kind, Mischief, World, plan

Begin = Callable[..., World]


def metered(begin: Begin, *plans: Any, bought: bool = False, **options: Any) -> tuple[World, Figures]:
    """A world whose next worker counts: the one that `begin` starts dies and is followed."""
    world, told = begin(**options), Figures()
    world.meter = told
    world.crash()
    world.boot_up()
    world.go(0.5)
    world.start(*(plans or (plan(),)))
    if bought:
        world.go("09:20:03")
        assert world.run().state == "bought"
    return world, told


def unknown(world: World, told: Figures) -> int:
    count: int = of_runs(world.engine.board.runs.values(), told.asked)[figures.UNKNOWN.name][0][1]
    return count


def test_a_tick_at_the_stop_loss_gives_one_sample_of_tick_to_order(begin: Begin) -> None:
    world, told = metered(begin, bought=True)
    assert told.histogram(figures.TICK_TO_ORDER).count == 0
    world.tick("1540.00")
    world.tick("1539.00")
    world.go(5)
    assert world.run().state == "exited_by_sl"
    assert told.histogram(figures.TICK_TO_ORDER).count == 1
    assert told.value(figures.ORDERS, "SELL", "answered") == told.value(figures.ORDERS, "BUY", "answered") == 1
    assert told.histogram(figures.ORDER_TO_ANSWER).count == 2


def test_the_sample_is_the_time_until_the_bytes_leave_and_not_until_the_answer(begin: Begin) -> None:
    world, told = metered(begin, bought=True, latency_s=0.5)
    world.tick("1540.00")
    world.go(5)
    assert told.histogram(figures.TICK_TO_ORDER).sum <= 0.5 + 1e-9
    assert told.histogram(figures.ORDER_TO_ANSWER).sum >= 1.0 - 1e-9


def test_a_timed_day_has_no_sample_of_tick_to_order_and_one_of_each_timer(begin: Begin) -> None:
    world, told = metered(begin, bought=True)
    world.go("09:40:05")
    assert world.run().state == "sold"
    assert told.histogram(figures.TICK_TO_ORDER).count == 0
    assert told.histogram(figures.TIMER_LATENESS, "BUY").count == 1
    assert told.histogram(figures.TIMER_LATENESS, "SELL").count == 1
    assert told.histogram(figures.TIMER_LATENESS, "SELL").sum < 0.1


def test_an_order_on_its_way_is_no_unknown_outcome(begin: Begin) -> None:
    world, told = metered(begin, bought=True, latency_s=0.5)
    world.tick("1540.00")
    world.silently(0.2)
    assert world.run().exit.is_live
    assert unknown(world, told) == 0


def test_an_unknown_outcome_counts_until_it_is_resolved(begin: Begin) -> None:
    world, told = metered(begin, bought=True)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"))
    world.tick("1540.00")
    world.go(10)
    assert unknown(world, told) == 1
    assert told.value(figures.ORDERS, "SELL", "unknown") == 1
    assert told.value(figures.LOOK_UPS, "not_seen") > 1
    world.go(20)  # the quarantine is over, and it is sent again
    assert world.run().state == "exited_by_sl"
    assert unknown(world, told) == 0
    assert told.histogram(figures.TICK_TO_ORDER).count == 1


def test_an_unknown_outcome_of_an_earlier_worker_counts_too(begin: Begin) -> None:
    world, told = metered(begin, bought=True, latency_s=0.5)
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="X", seconds=10))
    world.tick("1540.00")
    world.silently(0.6)  # its bytes have left
    world.crash()
    world.meter = told = Figures()
    world.boot_up()
    world.go(3)
    assert unknown(world, told) == 1
    world.go(15)
    assert unknown(world, told) == 0
    assert told.value(figures.LOOK_UPS, "found") == 1


def test_an_order_of_which_something_failed_on_its_way_is_unknown_until_it_is_resolved(begin: Begin) -> None:
    world, told = metered(begin, bought=True)
    world.errors_expected = True

    def no_disk(call: str) -> None:
        if call == "mark X01":
            raise OSError(28, "No space left on device")

    world.breaks = no_disk
    world.tick("1540.00")
    world.go(2)
    assert unknown(world, told) == 1
    assert told.histogram(figures.TICK_TO_ORDER).count == 0
    world.breaks = lambda call: None
    world.go(30)
    assert world.run().state == "exited_by_sl"
    assert unknown(world, told) == 0


def test_a_refused_exit_is_counted_with_the_one_that_follows(begin: Begin) -> None:
    world, told = metered(begin, bought=True)
    world.venue.add(Mischief(kind=Kind.BUSY, slot="X", times=1))
    world.tick("1540.00")
    world.go(5)
    assert told.value(figures.ORDERS, "SELL", "refused") == 1
    assert told.value(figures.ORDERS, "SELL", "answered") == 1


def test_orders_that_wait_for_the_venues_limit_are_counted_in_seconds(begin: Begin) -> None:
    entries = [plan(n, buy="09:20:10", quantity=1) for n in range(10, 30)]
    world, told = metered(begin, *entries, orders_per_s=10)
    world.go("09:20:14")
    assert told.value(figures.BUDGET_WAITED) > 1
    assert told.value(figures.ORDERS, "BUY", "answered") == 20


def test_runs_are_told_by_state_and_by_what_they_hold(begin: Begin) -> None:
    world, _ = metered(begin, plan(7), plan(8, buy="09:30:00"))
    world.go("09:20:03")
    rows = of_runs(world.engine.board.runs.values(), ())
    assert sorted(row for row in rows[figures.RUNS.name] if row[1]) == [[["bought"], 1], [["ready"], 1]]
    assert [["long"], 1] in rows[figures.EXPOSURE.name]


def test_ticks_that_came_and_ticks_that_decided_nothing_are_counted(begin: Begin) -> None:
    world, _ = metered(begin, bought=True)
    assert world.process is not None
    listener = world.process.listener
    before, ignored = listener.seen, listener.ignored["absurd price"]
    world.tick("1560.00")
    world.odd_tick(Tick(INFY, Decimal(0), world.now))
    assert (listener.seen - before, listener.ignored["absurd price"] - ignored) == (2, 1)


def test_counting_changes_nothing_of_a_day(begin: Begin) -> None:
    def day(meter: Meter) -> list[str]:
        world = begin()
        world.meter = meter
        world.crash()
        world.boot_up()
        world.go(0.5)
        world.start(plan())
        world.go("09:20:03")
        world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"))
        world.tick("1540.00")
        world.go(40)
        return world.journal()

    assert day(UNMETERED) == day(Figures())
