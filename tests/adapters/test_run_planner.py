"""Which strategies a worker makes runs of: its own account's, and no other's."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from decimal import Decimal
from pathlib import Path

from sqlalchemy import insert

from squareoff import wiring
from squareoff.adapters.memory.records import MemoryRecords
from squareoff.adapters.sql import schema
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.config import Config
from squareoff.core.events import Event
from squareoff.core.strategy import Repeat, StopLoss, StopLossKind, Strategy
from squareoff.core.types import AccountId, StrategyId, Symbol, UserId
from squareoff.wiring.planner import RunPlanner
from squareoff.wiring.worker import strategies_of

MONDAY_09_00 = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)


def daily(account: str) -> Strategy:
    return Strategy(
        id=StrategyId(0),
        user=UserId(1),
        account=AccountId(account),
        name=f"daily-{account}",
        symbol=Symbol("NSE:INFY"),
        quantity=Decimal(10),
        buy_time=time(9, 20),
        sell_time=time(15, 10),
        stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(1)),
        repeat=Repeat.DAILY,
    )


async def test_each_worker_makes_the_daily_runs_of_its_own_account_only(tmp_path: Path) -> None:
    config = Config(data=tmp_path)
    wiring.open_strategy_store(config).close()
    database = Database.open(config.database)
    store = StrategyStore(database)
    store.add_account(AccountId("second"), broker="paper")
    ids = {name: store.add(daily(name)).id for name in ("paper", "second")}
    for strategy_id in ids.values():
        store.wish(strategy_id, Event.START, at=MONDAY_09_00, by="test")
    for name, strategy_id in ids.items():
        planner = RunPlanner(AccountId(name), store, MemoryRecords(), config, {})
        planned = await planner.look(MONDAY_09_00, [])
        assert planned.due == (strategy_id,)
    store.take_back_start(ids["second"], at=MONDAY_09_00, by="test")
    planner = RunPlanner(AccountId("second"), store, MemoryRecords(), config, {})
    assert (await planner.look(MONDAY_09_00, [])).due == (), "a daily one that was taken back makes no run either"
    database.close()


async def test_the_worker_of_another_users_account_makes_the_runs_of_that_user(tmp_path: Path) -> None:
    config = Config(data=tmp_path)
    wiring.open_strategy_store(config).close()
    database = Database.open(config.database)
    with database.write() as connection:
        connection.execute(insert(schema.users).values(id=2, name="asha"))
    store = StrategyStore(database, UserId(2))
    store.add_account(AccountId("ashas"), broker="paper")
    saved = store.add(daily("ashas"))
    store.wish(saved.id, Event.START, at=MONDAY_09_00, by="test")
    due = {}
    for name in ("paper", "ashas"):
        strategies = strategies_of(database, AccountId(name))
        planner = RunPlanner(AccountId(name), strategies, MemoryRecords(), config, {})
        due[name] = ((await planner.look(MONDAY_09_00, [])).due, strategies.user)
    assert due == {"paper": ((), 1), "ashas": ((saved.id,), 2)}
    run = await planner.new_run(saved.id, MONDAY_09_00)
    assert (run.plan.user, run.plan.account) == (UserId(2), "ashas")
    edited = store.edit(replace(saved, quantity=Decimal(20)), at=MONDAY_09_00)
    ((run_id, plan),) = (await planner.look(MONDAY_09_00, [run])).edited.items()
    assert (run_id, plan.quantity) == (run.plan.run_id, edited.quantity)
    database.close()
