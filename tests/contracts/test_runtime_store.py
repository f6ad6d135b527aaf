"""What every runtime store promises, in memory and in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from itertools import count
from typing import Protocol

import pytest
import redis

from samples import (
    BUY_AT,
    INFY,
    PLAN,
    SELL_AT,
    after,
    bought,
    entry_told,
    exited_by_sl,
    fill,
    ready,
    running,
    sl_pending,
    sold,
    tick,
)
from squareoff.adapters.clock import SystemClock
from squareoff.adapters.memory.runtime import MemoryRedis, MemoryRuntimeStore
from squareoff.adapters.redis.server import RedisServer
from squareoff.adapters.redis.store import RedisRuntimeStore
from squareoff.core.events import Event
from squareoff.core.machine import State
from squareoff.core.run import Run
from squareoff.core.runtime_view import AccountView, milliseconds, runtime_view, strategy_view
from squareoff.core.types import AccountId, Fence, OrderStatus, RunId, StrategyId, Symbol
from squareoff.ports import Claim, RuntimeStore

SEVEN = StrategyId(7)
TTL_MS = 5_000
_test_number = count(1)


class LookableStore(RuntimeStore, Protocol):
    async def look(self, account: AccountId) -> AccountView: ...


@dataclass
class World:
    """One server, an account of the test's own, and as many workers as it needs."""

    open: Callable[[str], LookableStore]
    flush: Callable[[], None]
    account: AccountId
    opened: list[LookableStore] = field(default_factory=list)

    def worker(self, owner: str) -> LookableStore:
        store = self.open(owner)
        self.opened.append(store)
        return store

    def mine(self, run: Run) -> Run:
        return replace(run, plan=replace(run.plan, account=self.account))


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.processes)])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    account = AccountId(f"contract-{next(_test_number)}")
    if request.param == "memory":
        memory = MemoryRedis()
        clock = SystemClock()
        world = World(lambda owner: MemoryRuntimeStore(clock, memory, owner=owner), memory.flush, account)
    else:
        server: RedisServer = request.getfixturevalue("redis_server")

        def flush() -> None:
            with redis.Redis.from_url(server.url) as client:
                client.flushall()

        world = World(lambda owner: RedisRuntimeStore(server.url, owner=owner), flush, account)
    yield world
    for store in world.opened:
        await store.close()


@pytest.fixture
async def store(world: World) -> LookableStore:
    """A worker that has made the account its own."""
    store = world.worker("worker-1")
    await store.rebuild(world.account, [])
    return store


async def armed(store: LookableStore, run: Run) -> Run:
    assert await store.arm(run) is Claim.OK
    return run


async def claim(
    store: LookableStore, run: Run, event: Event, *, fence: int = 1, ttl_ms: int = TTL_MS, request: str = ""
) -> Claim:
    request = request or f"r{run.version}"
    return await store.claim(run, fence=Fence(fence), ttl_ms=ttl_ms, event=event, request_id=request)


async def settle(store: LookableStore, run: Run, *, fence: int = 1, request: str = "") -> Claim:
    return await store.settle(run, fence=Fence(fence), request_id=request or f"s{run.version}")


async def runtime(store: LookableStore, world: World) -> dict[str, str]:
    """The runtime of strategy 7, without the instant of its writing."""
    fields = dict((await store.look(world.account)).runtimes.get(SEVEN, {}))
    fields.pop("updated_at_ms", None)
    return fields


def written(run: Run, *, fence: int = 1, settled: int | None = None) -> dict[str, str]:
    settled = run.version if settled is None else settled
    return runtime_view(run) | {"fence": str(fence), "settled_version": str(settled)}


# ---------------------------------------------------------------------- a strategy's day


async def test_starting_a_strategy_creates_its_keys_its_place_under_the_symbol_and_both_timers(
    store: LookableStore, world: World
) -> None:
    run = await armed(store, world.mine(ready()))
    view = await store.look(world.account)
    assert view.strategies == {SEVEN: strategy_view(run)}
    assert await runtime(store, world) == written(run, fence=0)
    assert view.groups == {INFY: frozenset({SEVEN})}
    late = milliseconds(BUY_AT + timedelta(seconds=5, microseconds=1))
    assert view.timers == {"7:buy": milliseconds(BUY_AT), "7:buy_until": late, "7:sell": milliseconds(SELL_AT)}
    assert view.locks == {}


async def test_a_claim_locks_the_run_and_says_where_it_is_moving_in_the_same_step(
    store: LookableStore, world: World
) -> None:
    before = await armed(store, world.mine(ready()))
    buying = world.mine(running())
    assert await claim(store, buying, Event.BUY) is Claim.OK
    view = await store.look(world.account)
    assert await runtime(store, world) == written(buying, settled=before.version)
    assert view.locks == {SEVEN: "1:worker-1"}
    assert view.events[-1] == {
        "kind": "claim",
        "strategy_id": "7",
        "run_id": "42",
        "state": "running",
        "version": str(buying.version),
        "fence": "1",
        "event": "BUY",
    }


async def test_settling_writes_the_run_as_it_is_and_gives_the_lock_back(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    await claim(store, world.mine(running()), Event.BUY)
    run = world.mine(bought())
    assert await settle(store, run) is Claim.OK
    assert await runtime(store, world) == written(run)
    assert (await runtime(store, world))["position"] == "bought"
    assert (await store.look(world.account)).locks == {}


async def test_the_sell_timer_is_gone_in_the_step_that_sees_the_stop_loss(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    await settle(store, world.mine(bought()))
    assert "7:sell" in (await store.look(world.account)).timers
    assert await claim(store, world.mine(sl_pending()), Event.STOPLOSS) is Claim.OK
    view = await store.look(world.account)
    assert "7:sell" not in view.timers
    assert view.runtimes[SEVEN]["state"] == "sl_pending"


@pytest.mark.parametrize(("made", "position"), [(sold, "sold"), (exited_by_sl, "exited_by_sl")])
async def test_a_proven_exit_is_shown_by_the_specifications_own_word(
    store: LookableStore, world: World, made: Callable[[], Run], position: str
) -> None:
    await armed(store, world.mine(ready()))
    await settle(store, world.mine(made()))
    assert (await runtime(store, world))["position"] == position


async def test_archiving_leaves_nothing_of_the_strategy_behind(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    run = world.mine(sold())
    await claim(store, run, Event.SELL)
    await store.archive(run)
    view = await store.look(world.account)
    assert (view.strategies, view.runtimes, view.groups, view.timers, view.locks) == ({}, {}, {}, {}, {})


async def test_a_late_archiving_of_yesterdays_run_does_not_touch_todays(store: LookableStore, world: World) -> None:
    today = world.mine(ready(replace(PLAN, run_id=RunId(43))))
    await armed(store, today)
    await store.archive(world.mine(sold()))
    assert await runtime(store, world) == written(today, fence=0)


async def test_a_new_run_takes_the_place_of_one_whose_keys_were_left_behind(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    await settle(store, world.mine(sold()))
    today = await armed(store, world.mine(ready(replace(PLAN, run_id=RunId(43)))))
    assert await runtime(store, world) == written(today, fence=0)
    yesterdays = world.mine(ready())
    assert await store.arm(replace(yesterdays, version=yesterdays.version + 1)) is Claim.BUSY


async def test_an_edit_is_written_by_arming_again(store: LookableStore, world: World) -> None:
    run = await armed(store, world.mine(ready()))
    later = replace(run.plan, sell_at=SELL_AT - timedelta(hours=1))
    edited = await armed(store, replace(run, plan=later, version=run.version + 1))
    view = await store.look(world.account)
    assert view.strategies == {SEVEN: strategy_view(edited)}
    assert view.timers["7:sell"] == milliseconds(later.sell_at)


async def test_every_change_is_told_once_and_in_its_order(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    await claim(store, world.mine(running()), Event.BUY)
    await settle(store, world.mine(bought()))
    await store.archive(world.mine(sold()))
    kinds = [event["kind"] for event in (await store.look(world.account)).events]
    assert kinds == ["rebuild", "arm", "claim", "settle", "archive"]


# ---------------------------------------------------------------------- asked twice


async def test_a_claim_asked_twice_is_made_once(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    run = world.mine(running())
    assert await claim(store, run, Event.BUY, request="same") is Claim.OK
    once = await store.look(world.account)
    assert await claim(store, run, Event.BUY, request="same") is Claim.OK
    assert (await store.look(world.account)).events == once.events


async def test_a_claim_repeated_after_the_run_was_settled_does_not_take_it_back(
    store: LookableStore, world: World
) -> None:
    await armed(store, world.mine(ready()))
    buying, done = world.mine(running()), world.mine(bought())
    await claim(store, buying, Event.BUY, request="same")
    await settle(store, done, request="same")
    assert await claim(store, buying, Event.BUY, request="same") is Claim.OK
    assert await runtime(store, world) == written(done)
    assert (await store.look(world.account)).locks == {}


async def test_a_settling_asked_twice_is_done_once(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    run = world.mine(bought())
    assert await settle(store, run, request="same") is Claim.OK
    once = await store.look(world.account)
    assert await settle(store, run, request="same") is Claim.OK
    assert (await store.look(world.account)).events == once.events


async def test_an_older_settling_that_comes_late_does_not_bring_the_past_back(
    store: LookableStore, world: World
) -> None:
    await armed(store, world.mine(ready()))
    now = world.mine(sold())
    await settle(store, now)
    assert await settle(store, world.mine(bought())) is Claim.OK
    assert await runtime(store, world) == written(now)


async def test_a_claim_older_than_what_was_settled_gets_no_lock(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    now = world.mine(sold())
    await settle(store, now)
    assert await claim(store, world.mine(running()), Event.BUY) is Claim.BUSY
    assert await runtime(store, world) == written(now)
    assert (await store.look(world.account)).locks == {}


async def test_a_claim_that_came_to_nothing_is_taken_back_by_settling_the_run_as_it_was(
    store: LookableStore, world: World
) -> None:
    before = await armed(store, world.mine(ready()))
    await claim(store, world.mine(running()), Event.BUY)
    assert await settle(store, before) is Claim.OK
    assert await runtime(store, world) == written(before)
    assert (await store.look(world.account)).locks == {}
    assert await claim(store, world.mine(running()), Event.BUY, request="next") is Claim.OK


# ---------------------------------------------------------------------- two workers


async def test_two_workers_of_one_lease_never_hold_a_run_together(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    other = world.worker("worker-2")
    assert await claim(store, world.mine(running()), Event.BUY) is Claim.OK
    assert await claim(other, world.mine(running()), Event.BUY, request="other") is Claim.BUSY
    await settle(other, world.mine(running()), request="other")
    await other.release(RunId(42), world.account, fence=Fence(1))
    assert (await store.look(world.account)).locks == {SEVEN: "1:worker-1"}


async def test_whoever_holds_the_lock_may_claim_again(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    await settle(store, world.mine(bought()))
    assert await claim(store, world.mine(sl_pending()), Event.STOPLOSS, request="1") is Claim.OK
    assert await claim(store, world.mine(sl_pending()), Event.STOPLOSS, request="2") is Claim.OK


async def test_the_taker_of_an_account_does_not_wait_for_the_lock_of_the_one_before(
    store: LookableStore, world: World
) -> None:
    await armed(store, world.mine(ready()))
    await settle(store, world.mine(bought()))
    await claim(store, world.mine(after(bought(), Event.SELL)), Event.SELL, fence=1)
    taker = world.worker("worker-2")
    assert await claim(taker, world.mine(sl_pending()), Event.STOPLOSS, fence=2) is Claim.OK
    assert (await store.look(world.account)).locks == {SEVEN: "2:worker-2"}


async def test_a_worker_that_lost_its_account_can_neither_claim_nor_settle_nor_unlock(
    store: LookableStore, world: World
) -> None:
    await armed(store, world.mine(ready()))
    await settle(store, world.mine(bought()), fence=1)
    taker = world.worker("worker-2")
    now = world.mine(sl_pending())
    await claim(taker, now, Event.STOPLOSS, fence=2)
    settled = world.mine(bought()).version
    assert await claim(store, world.mine(exited_by_sl()), Event.SELL, fence=1) is Claim.BUSY
    assert await settle(store, world.mine(exited_by_sl()), fence=1, request="late") is Claim.BUSY
    await store.release(now.plan.run_id, world.account, fence=Fence(1))
    assert await runtime(store, world) == written(now, fence=2, settled=settled)
    assert (await store.look(world.account)).locks == {SEVEN: "2:worker-2"}


async def test_a_lock_whose_owner_is_gone_opens_when_its_time_is_up(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    await claim(store, world.mine(running()), Event.BUY, ttl_ms=20)
    await asyncio.sleep(0.03)
    other = world.worker("worker-2")
    assert await claim(other, world.mine(running()), Event.BUY, request="other") is Claim.OK


async def test_giving_the_lock_back_lets_the_next_one_in(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    run = world.mine(running())
    await claim(store, run, Event.BUY)
    await store.release(run.plan.run_id, world.account, fence=Fence(1))
    assert (await store.look(world.account)).locks == {}


async def test_a_hundred_stops_at_once_are_all_claimed(store: LookableStore, world: World) -> None:
    plans = [replace(PLAN, strategy_id=StrategyId(i), run_id=RunId(i)) for i in range(100)]
    hundred = [world.mine(ready(plan)) for plan in plans]
    await asyncio.gather(*(store.arm(run) for run in hundred))
    claims = await asyncio.gather(*(claim(store, after(run, Event.BUY), Event.BUY) for run in hundred))
    assert set(claims) == {Claim.OK}
    assert len((await store.look(world.account)).locks) == 100


# ---------------------------------------------------------------------- a Redis that is not the one we wrote


async def test_a_server_that_nobody_has_written_to_is_not_believed(world: World) -> None:
    store = world.worker("worker-1")
    assert not await store.is_intact(world.account)
    assert await store.arm(world.mine(ready())) is Claim.DAMAGED
    assert await store.look(world.account) == AccountView()


async def test_after_a_flush_nothing_is_written_until_all_is_rebuilt(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    run = world.mine(bought())
    await settle(store, run)
    assert await store.is_intact(world.account)
    world.flush()
    assert not await store.is_intact(world.account)
    assert await claim(store, world.mine(sl_pending()), Event.STOPLOSS) is Claim.DAMAGED
    assert await settle(store, world.mine(sold())) is Claim.DAMAGED
    assert await store.arm(run) is Claim.DAMAGED
    await store.release(run.plan.run_id, world.account, fence=Fence(1))
    await store.archive(run)
    assert await store.look(world.account) == AccountView()


async def test_a_rebuilt_position_is_protected_again(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    await settle(store, world.mine(bought()))
    world.flush()
    run = world.mine(bought())
    await store.rebuild(world.account, [run])
    assert await store.is_intact(world.account)
    assert await runtime(store, world) == written(run, fence=0)
    view = await store.look(world.account)
    assert view.groups == {INFY: frozenset({SEVEN})}
    assert set(view.timers) == {"7:sell", "7:close"}
    assert await claim(store, world.mine(sl_pending()), Event.STOPLOSS) is Claim.OK


async def test_a_rebuild_removes_what_should_not_be_there_and_leaves_other_accounts_alone(
    store: LookableStore, world: World
) -> None:
    await armed(store, world.mine(ready()))
    await claim(store, world.mine(running()), Event.BUY)
    await store.put_prices(world.account, {INFY: tick("1560")})
    neighbour = AccountId(f"{world.account}0")
    theirs = replace(ready(), plan=replace(PLAN, account=neighbour))
    await store.rebuild(neighbour, [theirs])
    before = await store.look(neighbour)
    await store.rebuild(world.account, [])
    view = await store.look(world.account)
    assert replace(view, events=()) == AccountView()
    assert await store.look(neighbour) == before
    assert await store.is_intact(neighbour)


async def test_a_rebuild_of_another_worker_is_noticed_by_the_first(store: LookableStore, world: World) -> None:
    run = await armed(store, world.mine(ready()))
    other = world.worker("worker-2")
    await other.rebuild(world.account, [run])
    assert not await store.is_intact(world.account)
    assert await claim(store, world.mine(running()), Event.BUY) is Claim.DAMAGED
    assert await claim(other, world.mine(running()), Event.BUY) is Claim.OK


async def test_a_worker_that_comes_later_takes_the_server_as_it_is(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    later = world.worker("worker-2")
    assert await later.is_intact(world.account)
    assert await claim(later, world.mine(running()), Event.BUY, fence=2) is Claim.OK


async def test_a_thousand_runs_are_rebuilt(store: LookableStore, world: World) -> None:
    plans = [
        replace(PLAN, strategy_id=StrategyId(i), run_id=RunId(i), symbol=Symbol(f"NSE:S{i % 50}"))
        for i in range(1, 1001)
    ]
    await store.rebuild(world.account, [world.mine(ready(plan)) for plan in plans])
    view = await store.look(world.account)
    assert (len(view.strategies), len(view.runtimes), len(view.timers)) == (1000, 1000, 3000)
    assert len(view.groups) == 50
    assert {len(members) for members in view.groups.values()} == {20}
    assert await store.is_intact(world.account)


async def test_a_run_that_nobody_armed_cannot_be_claimed_or_settled(store: LookableStore, world: World) -> None:
    assert await claim(store, world.mine(running()), Event.BUY) is Claim.DAMAGED
    assert await settle(store, world.mine(bought())) is Claim.DAMAGED
    assert replace(await store.look(world.account), events=()) == AccountView()


async def test_a_version_that_another_hand_has_written_ahead_of_us_is_damage(
    store: LookableStore, world: World
) -> None:
    await armed(store, world.mine(ready()))
    other = world.worker("worker-2")
    await settle(other, world.mine(sold()), fence=1)
    assert await claim(store, world.mine(running()), Event.BUY, fence=1) is Claim.DAMAGED


# ---------------------------------------------------------------------- what is shown, prices, the bell


async def test_a_partly_filled_entry_shows_its_quantity_and_no_position_yet(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    run = world.mine(entry_told(running(), OrderStatus.OPEN, fill("20")))
    await settle(store, run)
    shown = await runtime(store, world)
    assert run.state is State.RUNNING
    assert (shown["position"], shown["entry_filled_qty"], shown["exposure"]) == ("none", "20", "long")


async def test_what_is_no_longer_so_is_no_longer_shown(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    waiting = replace(world.mine(running()), retry_at=BUY_AT)
    await settle(store, waiting)
    assert "retry_at" in await runtime(store, world)
    await settle(store, replace(waiting, retry_at=None, version=waiting.version + 1))
    assert "retry_at" not in await runtime(store, world)


async def test_last_prices_are_kept_as_the_text_they_came_as(store: LookableStore, world: World) -> None:
    await store.put_prices(world.account, {})
    tcs = Symbol("NSE:TCS")
    await store.put_prices(world.account, {INFY: tick("1560.10"), tcs: tick(Decimal("3500.05"))})
    await store.put_prices(world.account, {INFY: tick("1560.00")})
    prices = (await store.look(world.account)).prices
    assert prices == {INFY: "1560.00 2026-07-13T03:50:00+00:00", tcs: "3500.05 2026-07-13T03:50:00+00:00"}


async def test_the_bell_wakes_who_waits(store: LookableStore, world: World) -> None:
    waiting = asyncio.create_task(store.wait_for_bell(world.account, 5))
    await asyncio.sleep(0.02)
    await world.worker("api").ring(world.account)
    assert await waiting


async def test_a_bell_that_rang_while_nobody_waited_is_heard_once(store: LookableStore, world: World) -> None:
    for _ in range(3):
        await store.ring(world.account)
    assert await store.wait_for_bell(world.account, 5)
    assert not await store.wait_for_bell(world.account, 0.01)
    assert not await store.wait_for_bell(world.account, 0)


async def test_a_bell_is_not_lost_to_a_wait_that_was_cancelled_or_to_a_rebuild(
    store: LookableStore, world: World
) -> None:
    waiting = asyncio.create_task(store.wait_for_bell(world.account, 5))
    await asyncio.sleep(0.02)
    await store.ring(world.account)
    waiting.cancel()
    [heard] = await asyncio.gather(waiting, return_exceptions=True)
    await store.rebuild(world.account, [])
    assert heard is True or await store.wait_for_bell(world.account, 1)


async def test_waiting_for_the_bell_holds_up_no_claim(store: LookableStore, world: World) -> None:
    await armed(store, world.mine(ready()))
    waiting = asyncio.create_task(store.wait_for_bell(world.account, 5))
    await asyncio.sleep(0.02)
    async with asyncio.timeout(1):
        assert await claim(store, world.mine(running()), Event.BUY) is Claim.OK
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
