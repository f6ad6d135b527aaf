"""What a worker counts on days with and without trouble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from squareoff.core import figures
from squareoff.core.figures import Figures, of_runs
from tests.engine.world import INFY, Kind, Mischief, World, plan, price_stop

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


def test_an_unknown_outcome_counts_until_it_is_resolved(begin: Begin) -> None:
    world, told = metered(begin, bought=True)
    world.venue.plan(Mischief(kind=Kind.LOST_ANSWER)) if hasattr(world.venue, "plan") else None
    world.tick("1540.00")
    world.go(1)
    assert unknown(world, told) == 0  # on its way is not unknown
