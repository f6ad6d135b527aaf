"""What one user has, no other user sees, moves, or can tell from what is not there: every method, as the wrong user."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from squareoff.adapters.sql import schema
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.records import SqlRecords
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.core.events import Event
from squareoff.core.limits import Level, Limits
from squareoff.core.machine import State
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, Repeat, StopLoss, StopLossKind, Strategy
from squareoff.core.types import AccountId, RunId, StrategyId, Symbol, UserId
from squareoff.errors import BadInput, Conflict
from squareoff.ports import JournalEntry, JournalKind

HERS, HIS, NOWHERE = AccountId("hers"), AccountId("his"), AccountId("nowhere")
NOW = datetime(2026, 11, 23, 3, 50, tzinfo=UTC)
DAILY = Strategy(
    id=StrategyId(0),
    user=UserId(0),
    account=HERS,
    name="daily",
    symbol=Symbol("NSE:INFY"),
    quantity=Decimal(50),
    buy_time=time(9, 20),
    sell_time=time(15, 15),
    stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(1)),
    repeat=Repeat.DAILY,
)
EVERYBODYS = {"every_account", "every_journal_instant", "every_open_run", "of", "close"}
"""For the supervisor, the workers and the kill switch of the machine; no route may offer them to a user."""


@dataclass(frozen=True, kw_only=True)
class Ids:
    """What somebody who asks may name."""

    strategy: Strategy
    run: RunId
    wish: int
    account: AccountId


@pytest.fixture
def database(where: Path | str) -> Iterator[Database]:
    opened = Database.open(where)
    with opened.write() as connection:
        connection.execute(insert(schema.users).values(id=2, name="her"))
        connection.execute(insert(schema.users).values(id=3, name="him"))
    yield opened
    opened.close()


@pytest.fixture
def him(database: Database) -> StrategyStore:
    store = StrategyStore(database, UserId(3))
    store.add_account(HIS, broker="paper")
    return store


@pytest.fixture
def his(him: StrategyStore) -> Strategy:
    return him.add(replace(DAILY, account=HIS, name="his own"))


@pytest.fixture
async def hers(database: Database) -> Ids:
    return await what_she_has(database)


async def what_she_has(database: Database) -> Ids:
    """A strategy with an open run, a wish that waits, one that was edited, limits, and a story."""
    store = StrategyStore(database, UserId(2))
    store.add_account(HERS, broker="paper")
    strategy = store.add(DAILY)
    strategy = store.edit(replace(strategy, quantity=Decimal(60)), at=NOW)
    records = SqlRecords(database)
    fence = await records.take_lease(HERS, owner="w", machine="m", boot="b")
    plan = Plan(
        run_id=await records.next_run_id(),
        strategy_id=strategy.id,
        user=strategy.user,
        account=HERS,
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
    await records.add_run(Run(plan=plan, key="K1", state=State.READY), fence)
    records.write(
        JournalEntry(
            at=NOW, account=HERS, kind=JournalKind.NOTE, text="hers", run_id=plan.run_id, strategy_id=strategy.id
        )
    )
    await records.flush()
    taken = store.wish(strategy.id, Event.START, at=NOW, by="her")
    await records.wish_taken(taken.id, fence)
    store.wish(strategy.id, Event.START, at=NOW, by="her")
    store.set_limits(HERS, Limits(max_open_positions=3), by="her", at=NOW)
    await records.close()
    return Ids(strategy=strategy, run=plan.run_id, wish=taken.id, account=HERS)


NOTHING = Ids(
    strategy=replace(DAILY, id=StrategyId(977), name="nothing", account=NOWHERE),
    run=RunId(977),
    wish=977,
    account=NOWHERE,
)
"""What nobody has."""

CALLS: dict[str, Callable[[StrategyStore, Ids, Strategy], Any]] = {
    "accounts": lambda store, ids, own: store.accounts(),
    "add": lambda store, ids, own: store.add(replace(DAILY, name="another", account=ids.account)),
    "edit": lambda store, ids, own: store.edit(ids.strategy, at=NOW),
    "edit with a revision": lambda store, ids, own: store.edit(ids.strategy, at=NOW, revision=77),
    "edit, to another account": lambda store, ids, own: store.edit(replace(own, account=ids.account), at=NOW),
    "remove": lambda store, ids, own: store.remove(ids.strategy.id),
    "list": lambda store, ids, own: store.list(),
    "get": lambda store, ids, own: store.get(ids.strategy.id),
    "get by number": lambda store, ids, own: store.get(str(ids.strategy.id)),
    "get by name": lambda store, ids, own: store.get(ids.strategy.name),
    "wish": lambda store, ids, own: store.wish(ids.strategy.id, Event.KILL, at=NOW, by="him"),
    "take_back_start": lambda store, ids, own: store.take_back_start(ids.strategy.id, at=NOW, by="him"),
    "kill_all": lambda store, ids, own: store.kill_all(at=NOW, by="him"),
    "is_wish_taken": lambda store, ids, own: store.is_wish_taken(ids.wish),
    "repeating": lambda store, ids, own: store.repeating(),
    "total_revision": lambda store, ids, own: store.total_revision(),
    "pending_wishes": lambda store, ids, own: store.pending_wishes(),
    "pending_wishes of one": lambda store, ids, own: store.pending_wishes(ids.strategy.id),
    "rules": lambda store, ids, own: store.rules(ids.account),
    "all_rules": lambda store, ids, own: store.all_rules(),
    "set_level": lambda store, ids, own: store.set_level(ids.account, Level.SQUARE_OFF, reason="x", by="him", at=NOW),
    "set_limits": lambda store, ids, own: store.set_limits(ids.account, Limits(), by="him", at=NOW),
    "runs": lambda store, ids, own: store.runs(),
    "runs of one": lambda store, ids, own: store.runs(ids.strategy.id),
    "open_runs": lambda store, ids, own: store.open_runs(),
    "run": lambda store, ids, own: store.run(ids.run),
    "journal": lambda store, ids, own: store.journal(),
    "journal of a run": lambda store, ids, own: store.journal(ids.run),
    "journal_back": lambda store, ids, own: store.journal_back(),
    "journal_back of a run": lambda store, ids, own: store.journal_back(run_id=ids.run),
    "journal_back of a strategy": lambda store, ids, own: store.journal_back(strategy_id=ids.strategy.id),
    "journal_back by words": lambda store, ids, own: store.journal_back(words="hers"),
    "mark": lambda store, ids, own: store.mark(),
    "journal of a strategy": lambda store, ids, own: store.journal(strategy_id=ids.strategy.id),
}


def test_every_method_is_walked() -> None:
    known = {name for name, _ in inspect.getmembers(StrategyStore, inspect.isfunction) if not name.startswith("_")}
    walked = {name.partition(" ")[0].rstrip(",") for name in CALLS}
    assert known == walked | EVERYBODYS | {"add_account"}, "add the new method to CALLS"


@pytest.mark.parametrize("call", CALLS)
async def test_what_is_anothers_cannot_be_told_from_what_is_not_there_and_stays_as_it_is(
    database: Database, him: StrategyStore, his: Strategy, hers: Ids, call: str
) -> None:
    before = everything(database)
    of_hers = outcome(lambda: CALLS[call](him, hers, his), hers)
    assert everything(database) == before, "nothing of hers, and nothing else, was touched"
    assert of_hers == outcome(lambda: CALLS[call](him, NOTHING, his), NOTHING)


async def test_nothing_that_he_sees_changes_when_she_comes(
    database: Database, him: StrategyStore, his: Strategy
) -> None:
    def seen() -> dict[str, str]:
        return {name: outcome(lambda call=call: call(him, NOTHING, his), NOTHING) for name, call in CALLS.items()}  # type: ignore[misc]

    before = seen()
    await what_she_has(database)
    assert seen() == before


@pytest.mark.parametrize("name", ["hers", "HERS"])
def test_the_name_of_anothers_account_is_only_taken(
    him: StrategyStore, hers: Ids, database: Database, name: str
) -> None:
    before = everything(database)
    with pytest.raises(BadInput) as refused:
        him.add_account(AccountId(name), broker="paper")
    assert str(refused.value) == f"account: the name {name!r} is taken; choose another"
    assert everything(database) == before


def test_two_users_may_give_the_same_name_to_their_strategies(him: StrategyStore, hers: Ids) -> None:
    mine = him.add(replace(DAILY, account=HIS))
    assert him.get("daily") == mine
    assert mine.id != hers.strategy.id


def test_whoever_runs_the_workers_knows_every_account(him: StrategyStore, hers: Ids) -> None:
    assert him.every_account() == {HERS: UserId(2), HIS: UserId(3)}
    assert him.every_journal_instant() == NOW
    assert [run.plan.user for run in him.every_open_run()] == [UserId(2)]
    assert him.of(UserId(2)).list() == (hers.strategy,)


def test_of_two_who_edit_the_same_revision_the_second_is_told(him: StrategyStore, his: Strategy) -> None:
    first = him.edit(replace(his, quantity=Decimal(10)), at=NOW, revision=his.revision)
    with pytest.raises(Conflict, match="strategy his own was changed meanwhile") as told:
        him.edit(replace(his, quantity=Decimal(20)), at=NOW, revision=his.revision)
    assert told.value.revision == first.revision
    assert him.get(his.id) == first
    assert him.edit(replace(first, quantity=Decimal(20)), at=NOW, revision=first.revision).quantity == 20


def everything(database: Database) -> dict[str, Any]:
    with database.read() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table)).all()))
            for table in schema.metadata.sorted_tables
        }


def outcome(work: Callable[[], Any], named: Ids) -> str:
    """What came back, or was said, without the names that were asked for."""
    try:
        told = repr(work())
    except BadInput as error:
        told = f"refused: {error}"
    for word in (repr(str(named.account)), repr(named.strategy.name), str(named.strategy.id), str(named.run)):
        told = told.replace(f" {word};", " X;").replace(f" {word}", " X") if told.startswith("refused") else told
    return told.replace(f"'{named.strategy.id}'", "X")
