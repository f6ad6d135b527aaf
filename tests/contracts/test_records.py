"""What every record of runs promises, whether it is kept in memory or in SQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from squareoff.adapters.memory.records import MemoryRecords
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.records import SqlRecords
from squareoff.adapters.sql.schema import holds
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.core.events import Cause, Event
from squareoff.core.machine import State
from squareoff.core.orders import Attempt, AttemptPhase, Slot, SlotPhase, Stamp, client_order_id, order_key
from squareoff.core.run import Run, StopSeen
from squareoff.core.strategy import Plan, StopLoss, StopLossKind, Strategy, Timing
from squareoff.core.types import (
    AccountId,
    BrokerOrderId,
    ClientOrderId,
    Fence,
    Fill,
    Product,
    RunId,
    SlotName,
    StrategyId,
    Symbol,
    TradeId,
    UserId,
)
from squareoff.errors import BadInput, FenceLost, RecordsUnavailable, WishTakenBack
from squareoff.ports import Journal, JournalEntry, JournalKind, Records, WishRecord

PAPER = AccountId("paper")
OTHER = AccountId("other")
NINE_TWENTY = datetime(2026, 11, 23, 3, 50, tzinfo=UTC)


class RecordsAndJournal(Records, Journal, Protocol):
    async def close(self) -> None: ...


class World:
    """One record of runs with two accounts, and what other processes do to it."""

    def __init__(
        self,
        records: RecordsAndJournal,
        new_strategy: Callable[[AccountId], StrategyId],
        wish: Callable[[StrategyId, AccountId, Event], WishRecord],
        journal: Callable[[], list[JournalEntry]],
        take_back: Callable[[StrategyId], bool],
        hold: Callable[[AccountId, str], None],
    ) -> None:
        self.take_back, self.hold = take_back, hold
        self.records, self.new_strategy, self.wish, self.journal = records, new_strategy, wish, journal

    async def lease(self, account: AccountId = PAPER) -> Fence:
        return await self.records.take_lease(account, owner="worker-1", machine="m1", boot="b1")

    async def ready_run(self, fence: Fence, **plan: Any) -> Run:
        """A started run of a new strategy, as START leaves it."""
        account = plan.get("account", PAPER)
        strategy_id = plan.pop("strategy_id", None) or self.new_strategy(account)
        run = await self.unstored(strategy_id=strategy_id, **plan)
        await self.records.add_run(run, fence)
        return run

    async def unstored(self, **plan: Any) -> Run:
        run_id = await self.records.next_run_id()
        key = order_key(self.records.install_id, run_id)
        return Run(plan=a_plan(run_id=run_id, **plan), key=key, state=State.READY)


def a_strategy(account: AccountId = PAPER, name: str = "infy") -> Strategy:
    return Strategy(
        id=StrategyId(0),
        user=UserId(1),
        account=account,
        name=name,
        symbol=Symbol("NSE:INFY"),
        quantity=Decimal(50),
        buy_time=time(9, 20),
        sell_time=time(15, 15),
        stop_loss=StopLoss(kind=StopLossKind.PRICE, value=Decimal("1540.05")),
    )


def a_plan(**changes: Any) -> Plan:
    plan = Plan(
        run_id=RunId(1),
        strategy_id=StrategyId(1),
        user=UserId(1),
        account=PAPER,
        name="infy",
        symbol=Symbol("NSE:INFY"),
        product=Product.MIS,
        quantity=Decimal(50),
        trading_day=date(2026, 11, 23),
        buy_at=NINE_TWENTY,
        sell_at=NINE_TWENTY + timedelta(hours=6),
        closes_at=NINE_TWENTY + timedelta(hours=6, minutes=10),
        stop_loss=StopLoss(kind=StopLossKind.PRICE, value=Decimal("1540.05")),
        tick_size=Decimal("0.05"),
    )
    return replace(plan, **changes)


def buying(run: Run, fence: Fence) -> Run:
    """The same run with the entry licensed under our stamp."""
    stamped = replace(run.entry, stamp=Stamp(fence=fence, machine="m1", boot="b1"))
    entry = stamped.with_next_attempt(run.key, SlotName.ENTRY, run.plan.quantity)
    return replace(run, state=State.RUNNING, entry=entry, entry_opened_at=NINE_TWENTY, version=run.version + 1)


def skipped(run: Run) -> Run:
    return replace(
        run,
        state=State.FAILED,
        outcome=State.FAILED,
        cause=Cause.BUY_MISSED,
        entry=replace(run.entry, phase=SlotPhase.VOID),
        version=run.version + 1,
    )


def holding(run: Run) -> Run:
    """The same run with its BUY filled in two fills and its exit licensed."""
    bought = (
        Fill(trade_id=TradeId("t1"), qty=Decimal(20), price=Decimal("1560.10"), at=NINE_TWENTY),
        Fill(trade_id=TradeId("t2"), qty=Decimal(30), price=Decimal("1560.15"), at=NINE_TWENTY),
    )
    entry = run.entry.with_current(phase=AttemptPhase.DONE, broker_order_id=BrokerOrderId("B1"), fills=bought)
    exit_slot = replace(run.exit, stamp=run.entry.stamp).with_next_attempt(run.key, SlotName.EXIT, Decimal(50))
    return replace(
        run,
        state=State.BOUGHT,
        entry=replace(entry, phase=SlotPhase.SETTLED),
        exit=exit_slot,
        stop_price=Decimal("1540.05"),
        version=run.version + 1,
    )


def a_line(text: str = "BUY time has come", **changes: Any) -> JournalEntry:
    return replace(
        JournalEntry(at=NINE_TWENTY, account=PAPER, kind=JournalKind.TIMER, text=text, run_id=RunId(1)), **changes
    )


def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "squareoff.sqlite3"
    make: Callable[[], str] = request.getfixturevalue("new_postgres")
    return make()


def hold(database: Database, account: AccountId, holder: str) -> None:
    """As a lease across machines writes it."""
    with database.write() as connection:
        connection.execute(delete(holds).where(holds.c.account == account))
        connection.execute(insert(holds).values(account=account, holder=holder, beat=1, ttl_s=3.0))


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "memory":
        memory = MemoryRecords()
        count = iter(range(1, 10_000))
        yield World(
            memory,
            new_strategy=lambda account: StrategyId(next(count)),
            wish=lambda of, account, event: memory.wish(of, event, account=account, at=NINE_TWENTY, by="cli"),
            journal=lambda: list(memory.entries),
            take_back=memory.take_back_start,
            hold=memory.holders.__setitem__,
        )
        return
    database = Database.open(place(request, tmp_path))
    store = StrategyStore(database)
    for account in (PAPER, OTHER):
        store.add_account(account, broker="paper")
    names = iter(range(1, 10_000))
    records = SqlRecords(database)
    yield World(
        records,
        new_strategy=lambda account: store.add(a_strategy(account, f"infy {next(names)}")).id,
        wish=lambda of, account, event: store.wish(of, event, at=NINE_TWENTY, by="cli"),
        journal=lambda: [entry for _, entry in store.journal()],
        take_back=lambda of: bool(store.take_back_start(of, at=NINE_TWENTY, by="cli")),
        hold=lambda account, holder: hold(database, account, holder),
    )
    await records.close()
    database.close()


# --- the right to send ---


async def test_each_taking_of_an_account_raises_its_fence(world: World) -> None:
    assert [await world.lease(), await world.lease(), await world.lease(OTHER)] == [1, 2, 1]


async def test_who_slept_after_it_took_the_account_across_machines_does_not_raise_the_fence_of_its_successor(
    world: World,
) -> None:
    async def take(holder: str) -> Fence:
        return await world.records.take_lease(PAPER, owner=holder, machine=holder, boot="b1", holder=holder)

    world.hold(PAPER, "one")
    assert await take("one") == 1
    world.hold(PAPER, "two")
    assert await take("two") == 2
    with pytest.raises(FenceLost, match="taken by another worker"):
        await take("one")
    run = await world.ready_run(Fence(2))  # the successor's writes are not refused
    assert await world.records.open_runs(PAPER) == (run,)


async def test_who_lost_the_account_changes_nothing_any_more(world: World) -> None:
    old = await world.lease()
    run = await world.ready_run(old)
    unstored = await world.unstored(strategy_id=world.new_strategy(PAPER))
    wish = world.wish(run.plan.strategy_id, PAPER, Event.STOP)
    await world.lease()
    for write in (
        world.records.add_run(unstored, old),
        world.records.license_entry(buying(run, old), old),
        world.records.void_entry(skipped(run), old),
        world.records.save(replace(run, version=5), old),
        world.records.wish_taken(wish.id, old),
    ):
        with pytest.raises(FenceLost, match="account paper is not ours any more"):
            await write
    assert await world.records.open_runs(PAPER) == (run,)
    assert await world.records.wishes(PAPER) == (wish,)


async def test_an_account_nobody_ever_took_cannot_be_written_to(world: World) -> None:
    with pytest.raises(FenceLost, match="nobody ever took it"):
        await world.records.save(Run(plan=a_plan(), key="K"), Fence(1))


# --- runs ---


async def test_a_run_id_is_never_given_twice(world: World) -> None:
    ids = await asyncio.gather(*(world.records.next_run_id() for _ in range(20)))
    assert sorted(ids) == sorted(set(ids))


async def test_a_started_run_is_found_again_as_it_was_saved(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    licensed = buying(run, fence)
    assert await world.records.license_entry(licensed, fence)
    held = holding(licensed)
    await world.records.save(held, fence)
    assert await world.records.open_runs(PAPER) == (held,)
    assert await world.records.open_runs(OTHER) == ()


async def test_open_licences_are_taken_over_all_at_once_and_nothing_else_changes(world: World) -> None:
    fence = await world.lease()
    held = []
    for _ in range(3):
        licensed = buying(await world.ready_run(fence), fence)
        assert await world.records.license_entry(licensed, fence)
        held.append(holding(licensed))
        await world.records.save(held[-1], fence)
    stamp = Stamp(fence=await world.lease(), machine="m9", boot="b9")
    await world.records.restamp([run.plan.run_id for run in held[:2]], PAPER, stamp)
    taken = [replace(run, exit=replace(run.exit, stamp=stamp)) for run in held[:2]]
    assert all(run.exit.phase is SlotPhase.INTENT and run.entry.phase is SlotPhase.SETTLED for run in held)
    assert await world.records.open_runs(PAPER) == (*taken, held[2])


async def test_who_has_lost_the_account_takes_no_licence_over(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    await world.lease()
    with pytest.raises(FenceLost):
        await world.records.restamp([run.plan.run_id], PAPER, Stamp(fence=fence, machine="m9", boot="b9"))


async def test_the_runs_of_an_account_come_in_the_order_of_their_ids(world: World) -> None:
    fence = await world.lease()
    added = [await world.ready_run(fence) for _ in range(12)]
    assert await world.records.open_runs(PAPER) == tuple(added)


async def test_the_same_run_added_twice_is_one_run(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    later = replace(run, wish=Event.STOP, version=3)
    await world.records.save(later, fence)
    await world.records.add_run(run, fence)
    assert await world.records.open_runs(PAPER) == (later,)


async def test_a_strategy_is_not_started_again_while_an_earlier_run_may_still_hold(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    licensed = buying(run, fence)
    assert await world.records.license_entry(licensed, fence)
    await world.records.save(holding(licensed), fence)
    again = await world.unstored(strategy_id=run.plan.strategy_id)
    with pytest.raises(BadInput) as refused:
        await world.records.add_run(again, fence)
    assert str(refused.value) == (
        "strategy: run 1 of infy on 2026-11-23 is not closed: holding, stop-loss watched; you hold shares "
        "(50 of NSE:INFY); it may still buy or hold; stop it, or wait until it is closed"
    )


async def test_of_a_start_that_is_taken_up_and_taken_back_exactly_one_wins(world: World) -> None:
    fence = await world.lease()
    for worker_first in (True, False):
        strategy_id = world.new_strategy(PAPER)
        wish = world.wish(strategy_id, PAPER, Event.START)
        run = await world.unstored(strategy_id=strategy_id)
        if worker_first:
            await world.records.add_run(run, fence, wish_id=wish.id)
            assert not world.take_back(strategy_id), "the run is there: it has to be stopped"
            await world.records.add_run(run, fence, wish_id=wish.id)  # the answer to the first was lost
            assert await world.records.wishes(PAPER) == (wish,)
            await world.records.wish_taken(wish.id, fence)
        else:
            assert world.take_back(strategy_id)
            with pytest.raises(WishTakenBack, match="was taken back"):
                await world.records.add_run(run, fence, wish_id=wish.id)
            await world.records.wish_taken(wish.id, fence)
            assert not world.take_back(strategy_id)
    assert await world.records.wishes(PAPER) == ()
    assert len(await world.records.open_runs(PAPER)) == 1


async def test_of_two_starts_at_the_same_moment_one_is_refused(world: World) -> None:
    fence = await world.lease()
    strategy_id = world.new_strategy(PAPER)
    starts = [await world.unstored(strategy_id=strategy_id) for _ in range(2)]
    answers = await asyncio.gather(*(world.records.add_run(run, fence) for run in starts), return_exceptions=True)
    assert answers[0] is None
    assert isinstance(answers[1], BadInput)


async def test_a_strategy_can_be_started_again_once_its_run_is_closed(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    over = skipped(run)
    assert await world.records.void_entry(over, fence)
    again = await world.ready_run(fence, strategy_id=run.plan.strategy_id)
    assert await world.records.open_runs(PAPER) == (over, again)


async def test_an_archived_run_is_not_open_any_more(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    over = skipped(run)
    assert await world.records.void_entry(over, fence)
    await world.records.save(replace(over, state=State.STOPPED, version=2), fence)
    assert await world.records.open_runs(PAPER) == ()


async def test_late_news_opens_an_archived_run_again_even_beside_its_successor(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    licensed = buying(run, fence)
    assert await world.records.license_entry(licensed, fence)
    given_up = replace(
        licensed,
        state=State.STOPPED,
        outcome=State.FAILED,
        entry=replace(licensed.entry.with_current(phase=AttemptPhase.DONE), phase=SlotPhase.SETTLED),
        version=2,
    )
    await world.records.save(given_up, fence)
    successor = await world.ready_run(fence, strategy_id=run.plan.strategy_id)
    assert await world.records.open_runs(PAPER) == (successor,)
    late = Fill(trade_id=TradeId("late"), qty=Decimal(7), price=Decimal("1550"), at=NINE_TWENTY)
    found = replace(given_up, entry=given_up.entry.with_current(fills=(late,)), version=3)
    await world.records.save(found, fence)
    assert await world.records.open_runs(PAPER) == (found, successor)
    assert await world.records.void_entry(skipped(successor), fence)
    third = await world.unstored(strategy_id=run.plan.strategy_id)
    with pytest.raises(BadInput, match="run 1 of infy"):
        await world.records.add_run(third, fence)


async def test_an_older_snapshot_never_overwrites_a_newer_one(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    licensed = buying(run, fence)
    assert await world.records.license_entry(licensed, fence)
    newer = replace(licensed, detail="newer", version=3)
    await world.records.save(newer, fence)
    await world.records.save(replace(licensed, detail="older", version=2), fence)
    await world.records.save(run, fence)
    assert await world.records.open_runs(PAPER) == (newer,)


async def test_a_run_nobody_added_cannot_be_saved(world: World) -> None:
    fence = await world.lease()
    with pytest.raises(BadInput, match="run 99 is not in the records"):
        await world.records.save(Run(plan=a_plan(run_id=RunId(99)), key="K"), fence)


# --- the licence to buy ---


async def test_only_one_of_many_askers_gets_the_licence_to_buy(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    asked = [world.records.license_entry(buying(run, fence), fence) for _ in range(10)]
    assert sorted(await asyncio.gather(*asked)) == [False] * 9 + [True]


async def test_the_licence_and_what_stands_in_it_are_saved_together(world: World) -> None:
    fence = await world.lease()
    licensed = buying(await world.ready_run(fence), fence)
    assert await world.records.license_entry(licensed, fence)
    (stored,) = await world.records.open_runs(PAPER)
    assert stored == licensed
    assert stored.entry.stamp == Stamp(fence=fence, machine="m1", boot="b1")


async def test_after_no_entry_was_decided_nobody_gets_the_licence(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    assert await world.records.void_entry(skipped(run), fence)
    assert not await world.records.license_entry(buying(run, fence), fence)
    assert await world.records.open_runs(PAPER) == (skipped(run),)


async def test_after_the_licence_was_given_nobody_can_decide_no_entry(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    assert await world.records.license_entry(buying(run, fence), fence)
    assert not await world.records.void_entry(skipped(run), fence)
    assert await world.records.open_runs(PAPER) == (buying(run, fence),)


async def test_a_stale_picture_of_the_run_gets_no_licence(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    stopping = replace(run, wish=Event.STOP, version=7)
    await world.records.save(stopping, fence)
    assert not await world.records.license_entry(buying(run, fence), fence)
    assert await world.records.open_runs(PAPER) == (stopping,)


async def test_a_plain_save_is_no_way_around_the_licence(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    with pytest.raises(ValueError, match="its entry is none, a plain save cannot make it intent"):
        await world.records.save(buying(run, fence), fence)
    assert await world.records.license_entry(buying(run, fence), fence)
    with pytest.raises(ValueError, match="its entry is intent, a plain save cannot make it none"):
        await world.records.save(replace(run, version=2), fence)
    with pytest.raises(ValueError, match="its entry is intent, a plain save cannot make it void"):
        await world.records.save(replace(skipped(run), version=2), fence)
    assert await world.records.open_runs(PAPER) == (buying(run, fence),)


async def test_a_licence_is_asked_for_with_the_run_as_it_will_be(world: World) -> None:
    fence = await world.lease()
    run = await world.ready_run(fence)
    with pytest.raises(ValueError, match="the snapshot says entry none, not intent"):
        await world.records.license_entry(run, fence)


# --- wishes ---


async def test_wishes_wait_in_order_until_they_are_taken(world: World) -> None:
    fence = await world.lease()
    here, there = world.new_strategy(PAPER), world.new_strategy(OTHER)
    first, second = world.wish(here, PAPER, Event.START), world.wish(here, PAPER, Event.KILL)
    elsewhere = world.wish(there, OTHER, Event.STOP)
    assert await world.records.wishes(PAPER) == (first, second)
    assert await world.records.wishes(OTHER) == (elsewhere,)
    await world.records.wish_taken(first.id, fence)
    await world.records.wish_taken(first.id, fence)
    assert await world.records.wishes(PAPER) == (second,)


# --- the journal ---


async def test_the_story_is_kept_in_the_order_it_was_told(world: World) -> None:
    told = [a_line(f"tick {number}", data={"price": "1540.05", "n": number}) for number in range(50)]
    for line in told:
        world.records.write(line)
    await world.records.flush()
    assert world.records.backlog == 0
    assert world.journal() == told


async def test_a_strange_word_of_a_broker_does_not_stop_the_story(world: World) -> None:
    world.records.write(a_line("no such order \N{INDIAN RUPEE SIGN}"))
    await world.records.flush()
    assert [line.text for line in world.journal()] == ["no such order \N{INDIAN RUPEE SIGN}"]


async def test_closed_records_say_so(world: World) -> None:
    world.records.write(a_line())
    await world.records.close()
    for call in (world.lease, world.records.flush, world.records.next_run_id):
        with pytest.raises(RecordsUnavailable, match="closed"):
            await call()
    with pytest.raises(RecordsUnavailable, match="closed"):
        world.records.write(a_line())
    assert world.journal() == [a_line()]


# --- any run at all ---

INSTANTS = st.datetimes(min_value=datetime(1990, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
NUMBERS = st.integers(0, 2**63 - 1)
FILLS = st.builds(Fill, trade_id=WORDS, qty=AMOUNTS, price=AMOUNTS, at=INSTANTS)
ATTEMPTS = st.builds(
    Attempt,
    number=st.just(0),
    client_order_id=st.just(ClientOrderId("")),
    qty=AMOUNTS,
    broker_order_id=st.none() | WORDS,
    fills=st.lists(FILLS, max_size=3, unique_by=lambda fill: fill.trade_id).map(tuple),
    reason=WORDS,
    limit_price=st.none() | AMOUNTS,
    cancel_asked=st.booleans(),
)
STAMPS = st.builds(Stamp, fence=NUMBERS, machine=WORDS, boot=WORDS)
SLOTS = st.builds(
    Slot,
    attempts=st.lists(ATTEMPTS, max_size=3).map(tuple),
    tries=st.integers(0, 1000),
    stamp=st.none() | STAMPS,
)
SECONDS = st.floats(allow_nan=False)
PLANS = st.builds(
    Plan,
    run_id=st.just(RunId(0)),
    strategy_id=st.just(StrategyId(0)),
    user=st.just(UserId(1)),
    account=st.just(PAPER),
    name=WORDS,
    symbol=WORDS,
    quantity=AMOUNTS,
    buy_at=INSTANTS,
    sell_at=INSTANTS,
    closes_at=INSTANTS,
    stop_loss=st.builds(StopLoss, value=AMOUNTS),
    tick_size=AMOUNTS,
    timing=st.builds(Timing, grace_s=SECONDS, fresh_for_s=SECONDS, entry_open_s=SECONDS),
)
RUNS = st.builds(
    Run,
    plan=PLANS,
    key=WORDS,
    detail=WORDS,
    outcome=st.none() | st.sampled_from(State),
    cause=st.none() | st.sampled_from(Cause),
    entry=SLOTS,
    exit=SLOTS,
    stop_price=st.none() | AMOUNTS,
    stop_seen=st.none() | st.builds(StopSeen, price=AMOUNTS, at=INSTANTS),
    lowest_price=st.none() | AMOUNTS,
    wish=st.none() | st.sampled_from(Event),
    waited_for_price=st.booleans(),
    entry_opened_at=st.none() | INSTANTS,
    entry_cancel_asked=st.booleans(),
    retry_at=st.none() | INSTANTS,
    outside_qty=AMOUNTS,
    handed_over=st.booleans(),
    version=NUMBERS,
)


def under(run: Run, ids: Plan) -> Run:
    """The generated run under ids that may exist: attempts count from one, order ids are unique."""

    def numbered(name: SlotName) -> Slot:
        attempts = (
            replace(attempt, number=number, client_order_id=client_order_id(key, name, number))
            for number, attempt in enumerate(run.slot(name).attempts, start=1)
        )
        return replace(run.slot(name), attempts=tuple(attempts))

    key = order_key("test", ids.run_id)
    plan = replace(run.plan, run_id=ids.run_id, strategy_id=ids.strategy_id)
    return replace(run, plan=plan, entry=numbered(SlotName.ENTRY), exit=numbered(SlotName.EXIT))


def grown(earlier: Run, later: Run) -> Run:
    """`later` as what may become of `earlier`: attempts and fills are only ever added."""
    entry = replace(later.entry, attempts=earlier.entry.attempts + later.entry.attempts)
    known = tuple(
        replace(attempt, phase=AttemptPhase.DONE, reason=later.detail, fills=(*attempt.fills, ANOTHER_FILL))
        for attempt in earlier.exit.attempts
    )
    version = max(earlier.version, later.version)
    return replace(later, entry=entry, exit=replace(later.exit, attempts=known), version=version)


ANOTHER_FILL = Fill(trade_id=TradeId("\t another"), qty=Decimal(1), price=Decimal("0.05"), at=NINE_TWENTY)


class StoredRuns:
    """One loop and one record for all examples: hypothesis drives plain functions."""

    def __init__(self, where: Path | str | None) -> None:
        self._loop = asyncio.Runner()
        self._store: StrategyStore | None = None
        self._database: Database | None = None
        self._records: RecordsAndJournal = MemoryRecords()
        if where is not None:
            self._database = Database.open(where)
            self._records = SqlRecords(self._database)
            self._store = StrategyStore(self._database)
            self._store.add_account(PAPER, broker="paper")
        self._fence = self._loop.run(self._records.take_lease(PAPER, owner="w", machine="m", boot="b"))

    def check(self, first: Run, then: Run) -> None:
        self._loop.run(self._check(first, then))

    async def _check(self, first: Run, then: Run) -> None:
        run_id = await self._records.next_run_id()
        strategy_id = StrategyId(run_id)
        if self._store is not None:
            strategy_id = self._store.add(a_strategy(name=f"infy {run_id}")).id
        ids = a_plan(run_id=run_id, strategy_id=strategy_id)
        stored = under(first, ids)
        await self._records.add_run(stored, self._fence)
        await self._assert_stored(stored)
        stored = under(grown(first, then), ids)
        await self._records.save(stored, self._fence)
        await self._assert_stored(stored)
        over = replace(stored, state=State.STOPPED, handed_over=True, entry=Slot(phase=stored.entry.phase), exit=Slot())
        assert over.is_closed
        await self._records.save(over, self._fence)  # out of the list, so that it stays short
        assert await self._records.open_runs(PAPER) == ()

    async def _assert_stored(self, run: Run) -> None:
        archived = run.state is State.STOPPED and run.is_closed
        assert await self._records.open_runs(PAPER) == (() if archived else (run,))

    def close(self) -> None:
        self._loop.run(self._records.close())
        self._loop.close()
        if self._database is not None:
            self._database.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def stored_runs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoredRuns]:
    runs = StoredRuns(None if request.param == "memory" else place(request, tmp_path))
    yield runs
    runs.close()


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(first=RUNS, then=RUNS)
def test_whatever_is_saved_of_a_run_comes_back_equal(stored_runs: StoredRuns, first: Run, then: Run) -> None:
    may_follow = then.entry.phase in (first.entry.phase, SlotPhase.WATCH, SlotPhase.SETTLED)
    stored_runs.check(first, then if may_follow else replace(then, entry=replace(then.entry, phase=first.entry.phase)))
