"""Orders before bookkeeping: the hundredth stop-loss of a second does not wait until the first one is filed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from squareoff.adapters.clock import VirtualLoop
from squareoff.precedence import OrdersFirst
from tests.engine.world import plan, price_stop

START = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
QUIET_S, LONGEST_S = 0.003, 1.0


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(START)
    yield loop
    loop.drain()
    loop.close()


@pytest.fixture
def first(loop: VirtualLoop) -> OrdersFirst:
    return OrdersFirst(loop, loop.monotonic_s, quiet_s=QUIET_S, longest_s=LONGEST_S)


def filing(loop: VirtualLoop, first: OrdersFirst, done: list[str], *names: str) -> list[asyncio.Task[None]]:
    async def file(name: str) -> None:
        await first.calm()
        done.append(name)

    tasks = [loop.create_task(file(name)) for name in names]
    loop.drain()
    return tasks


def after(loop: VirtualLoop, seconds: float) -> None:
    loop.advance_to(loop.now() + timedelta(seconds=seconds))


def test_what_is_to_be_filed_while_no_order_leaves_is_filed_at_once(loop, first):
    done: list[str] = []
    filing(loop, first, done, "one")
    assert done == ["one"]


def test_filing_waits_until_no_order_has_left_for_a_moment(loop, first):
    done: list[str] = []
    first.order_leaves()
    filing(loop, first, done, "one", "two")
    after(loop, 0.002)
    first.order_leaves()  # another one: the moment begins again
    after(loop, 0.002)
    assert done == []
    after(loop, 0.002)
    assert done == ["one", "two"]


def test_filing_does_not_wait_for_ever_though_orders_leave_all_the_time(loop, first):
    done: list[str] = []
    first.order_leaves()
    filing(loop, first, done, "one")
    waited_s = 0.0
    while not done and waited_s < 2:
        first.order_leaves()
        after(loop, 0.001)
        waited_s += 0.001
    assert done
    assert waited_s == pytest.approx(LONGEST_S, abs=0.002)


def test_a_tick_can_come_between_any_two_pieces_of_filing(loop, first):
    done: list[str] = []

    async def file(name: str) -> None:
        await first.calm()
        done.append(name)
        if name == "one":
            first.order_leaves()  # a stop-loss was seen meanwhile

    first.order_leaves()
    for name in ("one", "two"):
        loop.create_task(file(name))
    loop.drain()
    after(loop, 0.003)
    assert done == ["one"]
    after(loop, 0.003)
    assert done == ["one", "two"]


def test_one_that_does_not_want_to_wait_any_more_holds_up_nobody(loop, first):
    done: list[str] = []
    first.order_leaves()
    given_up, *_ = filing(loop, first, done, "one", "two")
    given_up.cancel()
    after(loop, 0.004)
    assert done == ["two"]


def test_in_replay_nothing_waits(loop):
    first, done = OrdersFirst(loop, loop.monotonic_s), []
    first.order_leaves()
    filing(loop, first, done, "one")
    assert done == ["one"]


def test_in_a_fall_that_trips_one_stop_loss_after_the_other_no_order_waits_until_those_before_it_are_filed(begin):
    levels = [Decimal(1540) - number for number in range(20)]
    world = begin(*(plan(number, stop_loss=price_stop(str(level))) for number, level in enumerate(levels, start=1)))
    world.go("09:20:05")
    assert {world.run(number).state for number in range(1, 21)} == {"bought"}
    world.calls.clear()
    for level in levels:
        world.tick(level)
        world.silently(0.001)
    world.go(1)
    calls = [call.split()[0] for call in world.calls if call.startswith(("submit", "save", "claim"))]
    assert calls[:20] == ["submit"] * 20
    assert {"save", "claim"} <= set(calls)
    assert {world.run(number).state for number in range(1, 21)} == {"exited_by_sl"}
