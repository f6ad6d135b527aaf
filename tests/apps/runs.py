"""Real runs for the command line: played by the real engine on virtual time, then put into the real records."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from squareoff.adapters.reference_data import load_calendar, load_instruments
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.records import SqlRecords
from squareoff.core.definition import plan_for, read
from squareoff.core.run import Run
from squareoff.core.session import Session
from squareoff.core.types import AccountId, RunId, StrategyId, Symbol, Tick, UserId
from squareoff.ports import JournalEntry
from squareoff.simulation.replay import DayResult, play_day
from squareoff.wiring.replay import REPLAY_ACCOUNT, replay_world

DAY = date(2026, 11, 23)
PAPER = AccountId("paper")


def session() -> Session:
    found = load_calendar("NSE").session_on(DAY)
    assert found is not None
    return found


def at_0920_it_costs(price: str, *later: tuple[str, str]) -> list[tuple[str, str]]:
    """Enough ticks to buy at `price` at 09:20, then those of `later` as (wall time, price)."""
    return [("09:19:59", price), ("09:20:01", price), *later]


def play(prices: Sequence[tuple[str, str]], **fields: object) -> DayResult:
    """One strategy on one day, over these (wall time, price)."""
    written = {"symbol": "INFY", "quantity": 50, "buy_time": "09:20", "sell_time": "15:10", "stop_loss": "1.5%"}
    draft = read({**written, "name": "morning", **fields})
    strategy = replace(draft.as_strategy(StrategyId(1), UserId(1)), account=REPLAY_ACCOUNT)
    instrument = replace(load_instruments().find(draft.symbol), tick_size=Decimal("0.05"))
    plan = plan_for(strategy, run_id=RunId(1), session=session(), instrument=instrument)
    ticks = [_tick(draft.symbol, time, price) for time, price in prices]
    result = play_day(replay_world(session().opens_at), [plan], ticks)
    runs = tuple(replace(run, plan=replace(run.plan, account=PAPER)) for run in result.runs)
    return replace(result, runs=runs, journal=[replace(entry, account=PAPER) for entry in result.journal])


def _tick(symbol: Symbol, wall: str, price: str) -> Tick:
    hours, minutes, seconds = wall.split(":")
    since_opening = timedelta(hours=int(hours) - 9, minutes=int(minutes) - 15, seconds=float(seconds))
    return Tick(symbol, Decimal(price), session().opens_at + since_opening)


def put_into(database: Path, run: Run, journal: Sequence[JournalEntry], account: AccountId = PAPER) -> None:
    """As if a worker had made them."""

    async def put() -> None:
        opened = Database.open(database)
        records = SqlRecords(opened)
        fence = await records.take_lease(account, owner="test", machine="m", boot="b")
        await records.add_run(run, fence)
        for entry in journal:
            records.write(entry)
        await records.flush()
        await records.close()
        opened.close()

    asyncio.run(put())
