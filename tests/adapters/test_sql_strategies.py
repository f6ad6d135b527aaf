"""What the command line asks of the records, beside a worker or without one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from squareoff.adapters.sql import schema
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.records import SqlRecords
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.core.events import Event
from squareoff.core.machine import State
from squareoff.core.orders import SlotPhase
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, Repeat, StopLoss, StopLossKind, Strategy
from squareoff.core.types import AccountId, Fence, Product, StrategyId, Symbol, UserId
from squareoff.errors import BadInput
from squareoff.ports import JournalEntry, JournalKind

PAPER, OTHER = AccountId("paper"), AccountId("other")
NOW = datetime(2026, 11, 23, 3, 50, tzinfo=UTC)
INFY = Strategy(
    id=StrategyId(0),
    user=UserId(0),
    account=PAPER,
    name="infy",
    symbol=Symbol("NSE:INFY"),
    quantity=Decimal(50),
    buy_time=time(9, 20),
    sell_time=time(15, 15, 30),
    stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal("1.25")),
    product=Product.CNC,
    repeat=Repeat.DAILY,
)


@pytest.fixture
def database(where: Path | str) -> Iterator[Database]:
    opened = Database.open(where)
    yield opened
    opened.close()


@pytest.fixture
def store(database: Database) -> StrategyStore:
    opened = StrategyStore(database)
    opened.add_account(PAPER, broker="paper")
    return opened


@pytest.fixture
def stranger(database: Database) -> StrategyStore:
    """Another user of the same installation, with an account of their own."""
    with database.write() as connection:
        connection.execute(insert(schema.users).values(id=2, name="stranger"))
    opened = StrategyStore(database, UserId(2))
    opened.add_account(OTHER, broker="kite")
    return opened


class Worker:
    """The process that trades."""

    def __init__(self, records: SqlRecords, fence: Fence) -> None:
        self.records, self.fence = records, fence

    async def start(self, strategy: Strategy) -> Run:
        run_id = await self.records.next_run_id()
        plan = Plan(
            run_id=run_id,
            strategy_id=strategy.id,
            user=strategy.user,
            account=strategy.account,
            name=strategy.name,
            symbol=strategy.symbol,
            product=strategy.product,
            quantity=strategy.quantity,
            trading_day=date(2026, 11, 23),
            buy_at=NOW,
            sell_at=NOW + timedelta(hours=6),
            closes_at=NOW + timedelta(hours=7),
            stop_loss=strategy.stop_loss,
            tick_size=Decimal("0.05"),
        )
        run = Run(plan=plan, key=f"K{run_id}", state=State.READY)
        await self.records.add_run(run, self.fence)
        return run

    async def skip(self, run: Run) -> Run:
        void = replace(run.entry, phase=SlotPhase.VOID)
        over = replace(run, state=State.STOPPED, outcome=State.FAILED, entry=void, version=run.version + 1)
        assert await self.records.void_entry(over, self.fence)
        return over


@pytest.fixture
async def worker(database: Database, store: StrategyStore) -> AsyncIterator[Worker]:
    records = SqlRecords(database)
    yield Worker(records, await records.take_lease(PAPER, owner="w", machine="m", boot="b"))
    await records.close()


def test_a_strategy_is_listed_as_it_was_entered(store: StrategyStore) -> None:
    saved = store.add(INFY)
    assert saved == replace(INFY, id=saved.id, user=UserId(1))
    assert store.list() == (saved,)
    assert (store.get("infy"), store.get(saved.id), store.get(str(saved.id))) == (saved, saved, saved)


def test_a_name_can_be_used_once_at_a_time(store: StrategyStore) -> None:
    first = store.add(INFY)
    with pytest.raises(BadInput, match="name: there is a strategy 'infy' already"):
        store.add(INFY)
    store.remove(first.id)
    again = store.add(INFY)
    assert again.id > first.id
    assert store.list() == (again,)


def test_a_strategy_called_by_a_number_is_found_by_its_name_first(store: StrategyStore) -> None:
    first = store.add(INFY)
    named = store.add(replace(INFY, name=str(first.id)))
    assert store.get(str(first.id)) == named


def test_what_is_not_there_is_said_plainly(store: StrategyStore) -> None:
    with pytest.raises(BadInput, match="strategy: there is no strategy 'tcs'; see the list of your strategies"):
        store.get("tcs")
    with pytest.raises(BadInput, match="there is no strategy 9"):
        store.remove(StrategyId(9))
    with pytest.raises(BadInput, match="account: there is no account 'kite'; add it first"):
        store.add(replace(INFY, account=AccountId("kite")))
    with pytest.raises(BadInput, match="there is no run 9"):
        store.run(9)  # type: ignore[arg-type]


def test_an_account_added_twice_is_one_account(store: StrategyStore) -> None:
    store.add_account(PAPER, broker="paper")
    assert store.accounts() == {PAPER: "paper"}
    with pytest.raises(BadInput, match="'paper' is an account at paper"):
        store.add_account(PAPER, broker="kite")


async def test_a_strategy_is_not_removed_while_its_run_may_trade(store: StrategyStore, worker: Worker) -> None:
    saved = store.add(INFY)
    run = await worker.start(saved)
    with pytest.raises(BadInput, match="run 1 of infy on 2026-11-23 is not closed: waiting for BUY time"):
        store.remove(saved.id)
    over = await worker.skip(run)
    store.remove(saved.id)
    assert store.list() == ()
    assert store.run(run.plan.run_id) == over


async def test_an_edit_is_for_runs_to_come_and_tells_old_and_new(store: StrategyStore, worker: Worker) -> None:
    saved = store.add(INFY)
    run = await worker.start(saved)
    changed = replace(saved, quantity=Decimal(60), name="infosys")
    edited = replace(changed, revision=1)
    assert store.edit(changed, at=NOW) == edited
    assert store.get("infosys") == edited
    assert store.run(run.plan.run_id) == run
    ((_, told),) = store.journal(strategy_id=saved.id)
    assert told.text == "infosys edited: name infy -> infosys, quantity 50 -> 60"
    assert told.data == {"name": {"old": "infy", "new": "infosys"}, "quantity": {"old": "50", "new": "60"}}
    with pytest.raises(BadInput, match="is not closed"):
        store.edit(replace(changed, symbol=Symbol("NSE:TCS")), at=NOW)


async def test_a_wish_is_safe_once_it_was_answered(store: StrategyStore, worker: Worker) -> None:
    saved = store.add(INFY)
    wish = store.wish(saved.id, Event.START, at=NOW, by="cli")
    assert await worker.records.wishes(PAPER) == (wish,)
    assert not store.is_wish_taken(wish.id)
    await worker.records.wish_taken(wish.id, worker.fence)
    assert store.is_wish_taken(wish.id)


def test_nobody_can_wish_for_what_the_market_decides(store: StrategyStore) -> None:
    saved = store.add(INFY)
    with pytest.raises(BadInput, match="wish: BUY is not for people to ask; one of HAND_OVER, KILL, START, STOP"):
        store.wish(saved.id, Event.BUY, at=NOW, by="cli")


async def test_the_kill_switch_reaches_every_run_that_is_not_closed(store: StrategyStore, worker: Worker) -> None:
    one, two, three = (store.add(replace(INFY, name=name)) for name in ("one", "two", "three"))
    await worker.start(one)
    await worker.skip(await worker.start(two))
    await worker.start(three)
    wishes = store.kill_all(at=NOW, by="cli")
    assert [(wish.strategy_id, wish.event) for wish in wishes] == [(one.id, Event.KILL), (three.id, Event.KILL)]
    assert await worker.records.wishes(PAPER) == wishes


async def test_the_newest_run_is_shown_first(store: StrategyStore, worker: Worker) -> None:
    saved, other = store.add(INFY), store.add(replace(INFY, name="other"))
    first = await worker.skip(await worker.start(saved))
    second = await worker.skip(await worker.start(saved))
    third = await worker.start(other)
    assert store.runs() == (third, second, first)
    assert store.runs(saved.id) == (second, first)
    assert store.runs(limit=1) == (third,)
    assert store.open_runs() == (third,)


async def test_the_story_of_a_run_can_be_followed_from_another_process(store: StrategyStore, worker: Worker) -> None:
    run = await worker.start(store.add(INFY))

    def line(number: int, **changes: Any) -> JournalEntry:
        entry = JournalEntry(at=NOW, account=PAPER, kind=JournalKind.TICK, text=str(number), data={"n": number})
        return replace(entry, **changes)

    ours = [line(number, run_id=run.plan.run_id, strategy_id=run.plan.strategy_id) for number in range(3)]
    for entry in (ours[0], line(99), ours[1], ours[2]):
        worker.records.write(entry)
    await worker.records.flush()
    told = store.journal(run.plan.run_id)
    assert [entry for _, entry in told] == ours
    assert store.journal(run.plan.run_id, after_seq=told[0][0], limit=1) == (told[1],)
    assert len(store.journal()) == 4


async def test_no_one_sees_or_moves_what_belongs_to_another(
    store: StrategyStore, stranger: StrategyStore, worker: Worker
) -> None:
    saved = store.add(INFY)
    run = await worker.start(saved)
    wish = store.wish(saved.id, Event.STOP, at=NOW, by="cli")
    worker.records.write(JournalEntry(at=NOW, account=PAPER, kind=JournalKind.NOTE, text="ours"))
    await worker.records.wish_taken(wish.id, worker.fence)
    assert (stranger.list(), stranger.runs(), stranger.open_runs(), stranger.journal()) == ((), (), (), ())
    assert (stranger.accounts(), stranger.kill_all(at=NOW, by="x")) == ({OTHER: "kite"}, ())
    assert not stranger.is_wish_taken(wish.id)
    theirs = stranger.add(replace(INFY, account=OTHER))
    assert stranger.list() == (theirs,)
    for attempt in (
        lambda: stranger.get("1"),
        lambda: stranger.edit(saved, at=NOW),
        lambda: stranger.remove(saved.id),
        lambda: stranger.wish(saved.id, Event.STOP, at=NOW, by="x"),
        lambda: stranger.run(run.plan.run_id),
        lambda: stranger.add(replace(INFY, name="on your account")),
        lambda: stranger.edit(replace(theirs, account=PAPER), at=NOW),
    ):
        with pytest.raises(BadInput, match="there is no"):
            attempt()
    with pytest.raises(BadInput, match="the name 'paper' is taken"):
        stranger.add_account(PAPER, broker="paper")
    assert store.list() == (saved,)
