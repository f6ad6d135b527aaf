"""How long a worker takes after its start until entries are allowed again, with many strategies that hold something.

    python -m bench.recovery [--runs 10000] [--rounds 3]

The real recovery on the real adapters: SQLite, the spool's file, Redis. The broker answers from memory. None of the
orders is in quarantine. Floor: the same rows read from the same database by the same library, with their types
(amounts, instants), and nothing made of them. Beside it, the same by Python's sqlite3 alone, as text and numbers.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing as mp
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.figures import load, over_rounds, ratios
from squareoff.adapters.brokers.paper.book import PaperBook
from squareoff.adapters.brokers.paper.in_process import InProcessPaperBroker
from squareoff.adapters.clock import SystemClock
from squareoff.adapters.lease import FileLease
from squareoff.adapters.redis.server import RedisServer
from squareoff.adapters.redis.store import RedisRuntimeStore
from squareoff.adapters.spool import FileSpool
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.records import SqlRecords
from squareoff.adapters.sql.rows import insert_run, strategy_values
from squareoff.adapters.sql.schema import fills, orders, runs, slots, strategies
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.chasing import Chaser
from squareoff.core.board import Board
from squareoff.core.events import Event, Signal, Source
from squareoff.core.machine import State
from squareoff.core.orders import Stamp, order_key
from squareoff.core.outcomes import hear, sending
from squareoff.core.run import Run, advance
from squareoff.core.strategy import Plan, StopLoss, StopLossKind, Strategy
from squareoff.core.types import (
    AccountId,
    BrokerOrderId,
    ClientOrderId,
    Fence,
    Fill,
    Order,
    OrderReport,
    OrderStatus,
    Product,
    RunId,
    Side,
    SlotName,
    StrategyId,
    Symbol,
    Tick,
    TradeId,
    UserId,
)
from squareoff.engine import Engine
from squareoff.gateway import Gateway
from squareoff.ports import Severity
from squareoff.precedence import OrdersFirst
from squareoff.recovery import recover
from squareoff.scheduler import Scheduler

ACCOUNT = AccountId("paper")
QUIET_S = 0.003


class _Silent:
    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None:
        pass


def bought(number: int, now: datetime, stamp: Stamp) -> Run:
    """A run that holds something, made as the engine makes it."""
    plan = Plan(
        run_id=RunId(number),
        strategy_id=StrategyId(number),
        user=UserId(1),
        account=ACCOUNT,
        name=f"s{number}",
        symbol=Symbol(f"SIM:S{number % 50}"),
        product=Product.MIS,
        quantity=Decimal(10),
        trading_day=now.date(),
        buy_at=now - timedelta(hours=1),
        sell_at=now + timedelta(hours=5),
        closes_at=now + timedelta(hours=6),
        stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(1)),
        tick_size=Decimal("0.05"),
    )
    run = Run(plan=plan, key=order_key("bench", plan.run_id))
    for event in (Event.START, Event.BUY):
        run = advance(run, Signal(event=event, at=plan.buy_at, source=Source.ENGINE)).run
    run = sending(replace(run, entry=replace(run.entry, stamp=stamp)), SlotName.ENTRY)
    current = run.entry.current
    assert current is not None
    fill = Fill(trade_id=TradeId(f"T{number}"), qty=Decimal(10), price=Decimal(100), at=plan.buy_at)
    report = OrderReport(
        client_order_id=current.client_order_id,
        broker_order_id=BrokerOrderId(f"P{number}"),
        symbol=plan.symbol,
        side=Side.BUY,
        product=plan.product,
        qty=Decimal(10),
        status=OrderStatus.FILLED,
        fills=(fill,),
    )
    run, signal = hear(run, report, plan.buy_at)
    assert signal is not None
    return advance(run, signal).run


def fill_database(folder: Path, count: int, now: datetime, stamp: Stamp) -> None:
    database = Database.open(folder / "squareoff.db")
    StrategyStore(database).add_account(ACCOUNT, broker="paper")
    with database.write() as connection:
        for number in range(1, count + 1):
            run = bought(number, now, stamp)
            strategy = Strategy(
                id=run.plan.strategy_id,
                user=run.plan.user,
                account=ACCOUNT,
                name=run.plan.name,
                symbol=run.plan.symbol,
                quantity=run.plan.quantity,
                buy_time=run.plan.buy_at.time(),
                sell_time=run.plan.sell_at.time(),
                stop_loss=run.plan.stop_loss,
            )
            connection.execute(strategies.insert().values(id=number, **strategy_values(strategy)))
            insert_run(connection, run)
    database.close()


def floor_s(folder: Path) -> float:
    """The rows of all runs, with their types, and nothing made of them."""
    database = Database.open(folder / "squareoff.db")
    began_s = time.perf_counter()
    with database.read() as connection:
        rows = [connection.execute(table.select()).fetchall() for table in (runs, slots, orders, fills)]
        assert all(tuple(row) for some in rows for row in some)
    took_s = time.perf_counter() - began_s
    database.close()
    return took_s


def driver_s(folder: Path) -> float:
    """The same by the driver alone, as text and numbers."""
    connection = sqlite3.connect(folder / "squareoff.db")
    began_s = time.perf_counter()
    for table in ("runs", "slots", "orders", "fills"):
        connection.execute(f"SELECT * FROM {table}").fetchall()
    took_s = time.perf_counter() - began_s
    connection.close()
    return took_s


def book_that_holds(count: int, now: datetime) -> PaperBook:
    """What `count` runs have bought, in one order a symbol: recovery asks for positions, not for orders long done."""
    book = PaperBook()
    held = Counter(Symbol(f"SIM:S{number % 50}") for number in range(1, count + 1))
    for symbol, runs_held in held.items():
        name, qty = ClientOrderId(f"bench-{symbol}"), Decimal(10 * runs_held)
        order = Order(client_order_id=name, account=ACCOUNT, symbol=symbol, side=Side.BUY, product=Product.MIS, qty=qty)
        book.submit(order, now)
        book.on_tick(Tick(symbol=symbol, price=Decimal(100), at=now))
    return book


async def recovery_s(folder: Path, redis_url: str, held: FileLease) -> dict[str, float]:
    loop, clock, board = asyncio.get_running_loop(), SystemClock(), Board()
    database = Database.open(folder / "squareoff.db")
    records = SqlRecords(database)
    spool = FileSpool(folder / "paper.spool", held.machine, held.boot)
    runtime = RedisRuntimeStore(redis_url, owner="bench", timeout_s=5.0)
    with database.read() as connection:
        count = len(connection.execute(runs.select()).fetchall())
    broker = InProcessPaperBroker(book_that_holds(count, clock.now()), clock)
    fence = await records.take_lease(ACCOUNT, owner="bench", machine=held.machine, boot=held.boot)
    engine: Engine
    scheduler = Scheduler(
        board=board,
        clock=clock,
        loop=loop,
        notify=lambda run_id, signal: engine.notify(run_id, signal),
        wake=lambda run_id: engine.wake(run_id),
    )
    engine = Engine(
        account=ACCOUNT,
        board=board,
        clock=clock,
        records=records,
        journal=records,
        runtime=runtime,
        broker=broker,
        gateway=Gateway(broker=broker, lease=held, spool=spool, clock=clock),
        spool=spool,
        alerts=_Silent(),
        stamp=Stamp(fence=Fence(fence), machine=held.machine, boot=held.boot),
        set_timers=scheduler.set_timers,
        spawn=loop.create_task,
        precedence=OrdersFirst(loop, clock.monotonic_s, quiet_s=QUIET_S),
        chase=lambda run: chaser.chase(run),
    )
    chaser = Chaser(engine=engine, clock=clock, broker=broker, spawn=loop.create_task)
    reading_s = time.perf_counter()
    await records.open_runs(ACCOUNT)
    began_s = time.perf_counter()
    await recover(
        account=ACCOUNT,
        engine=engine,
        records=records,
        journal=records,
        runtime=runtime,
        broker=broker,
        spool=spool,
        clock=clock,
    )
    took_s = time.perf_counter() - began_s
    states = Counter(run.state for run in board.runs.values())
    assert states == {State.BOUGHT: count}, f"recovered as something else: {states}"
    scheduler.close()
    await records.flush()
    await records.close()
    await runtime.close()
    await broker.close()
    database.close()
    spool.close()
    return {"all": took_s, "as_runs": began_s - reading_s}


def in_a_new_process(folder: Path, redis_url: str) -> dict[str, float]:
    """As a worker begins: with nothing in memory, and the collector off until it is ready."""
    mine, theirs = mp.Pipe()
    process = mp.get_context("spawn").Process(target=_one_start, args=(folder, redis_url, theirs))
    process.start()
    figures: dict[str, float] = mine.recv()
    process.join()
    return figures


def _one_start(folder: Path, redis_url: str, pipe: Any) -> None:
    gc.disable()
    held = FileLease(folder, ACCOUNT)
    held.acquire()
    floor_s(folder)  # once before, so that everybody finds the file in memory
    floor, driver = floor_s(folder), driver_s(folder)
    pipe.send({"floor": floor, "driver": driver, **asyncio.run(recovery_s(folder, redis_url, held))})
    held.release()


def measure(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    ours, floors, drivers, as_runs = [], [], [], []
    with tempfile.TemporaryDirectory(prefix="sq-bench-") as name:
        folder = Path(name)
        held = FileLease(folder, ACCOUNT)
        held.acquire()
        stamp = Stamp(fence=Fence(1), machine=held.machine, boot=held.boot)
        spool = FileSpool(folder / "paper.spool", held.machine, held.boot)
        spool.drained()  # an earlier worker of this boot has left it, and nothing in it
        spool.close()
        tell("making the runs")
        fill_database(folder, options.runs, datetime.now(UTC), stamp)
        with RedisServer(folder / "redis") as redis:
            held.release()
            for number in range(options.rounds):
                tell(f"round {number + 1} of {options.rounds}")
                figures = in_a_new_process(folder, redis.url)
                ours.append(figures["all"])
                floors.append(figures["floor"])
                drivers.append(figures["driver"])
                as_runs.append(figures["as_runs"])
    return {
        "runs": options.runs,
        "rounds": options.rounds,
        "engine_s": over_rounds(ours),
        "floor_s": over_rounds(floors),
        "driver_s": over_rounds(drivers),
        "as_runs_s": over_rounds(as_runs),
        "x": ratios(ours, floors),
        "x_driver": ratios(ours, drivers),
        "load": load(),
    }


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)


def main() -> None:
    parser = argparse.ArgumentParser(description="recovery of many runs that hold something")
    arguments(parser)
    print(json.dumps(measure(parser.parse_args(), lambda line: None), indent=1))


if __name__ == "__main__":
    main()
