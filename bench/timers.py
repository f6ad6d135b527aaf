"""How late ten thousand timers of one instant are handed over, beside a backlog of a hundred thousand.

    python -m bench.timers [--rounds 5] [--due 10000] [--backlog 100000]

Above: the real `Scheduler` on the real clock, with runs of the real `Board`, so that every event passes `due` (which
looks at the run and finds that its SELL time has come). Floor: as many `loop.call_at`, which decide nothing. Both on
asyncio's own loop; rounds take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from bench.figures import load, over_rounds, quantile, ratios
from squareoff.adapters.clock import SystemClock
from squareoff.core.board import Board
from squareoff.core.events import Signal
from squareoff.core.machine import State
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, StopLoss, StopLossKind
from squareoff.core.types import AccountId, Product, RunId, StrategyId, Symbol, UserId
from squareoff.scheduler import Scheduler

AHEAD_S = 1.5
FAR = timedelta(hours=1)


def a_plan(number: int, *, sell_at: datetime, stop: str = "90") -> Plan:
    return Plan(
        run_id=RunId(number),
        strategy_id=StrategyId(number),
        user=UserId(1),
        account=AccountId("bench"),
        name=f"s{number}",
        symbol=Symbol(f"SIM:S{number % 500:03d}"),
        product=Product.MIS,
        quantity=Decimal(10),
        trading_day=date(2026, 11, 20),
        buy_at=sell_at - timedelta(hours=1),
        sell_at=sell_at,
        closes_at=sell_at + 2 * FAR,
        stop_loss=StopLoss(kind=StopLossKind.PRICE, value=Decimal(stop)),
        tick_size=Decimal("0.05"),
    )


async def scheduler_round(due: int, backlog: int) -> list[float]:
    board, clock = Board(), SystemClock()
    late: list[float] = []
    monotonic = time.monotonic

    def handed_over(run_id: RunId, signal: Signal) -> None:
        late.append((monotonic() - at_s) * 1e3)

    scheduler = Scheduler(
        board=board, clock=clock, loop=asyncio.get_running_loop(), notify=handed_over, wake=lambda run_id: None
    )
    template = Run(plan=a_plan(0, sell_at=datetime.now(UTC) + FAR), key="K", state=State.BOUGHT)
    far = clock.now() + FAR
    for number in range(backlog):
        scheduler.set_timers(replace(template, plan=a_plan(due + number, sell_at=far + timedelta(seconds=number))))
    gc.collect()
    gc.freeze()
    at_s, at = monotonic() + AHEAD_S, clock.now() + timedelta(seconds=AHEAD_S)
    for number in range(due):
        run = replace(template, plan=a_plan(number, sell_at=at))
        board.put(run)
        scheduler.set_timers(run)
    at_s = monotonic() + clock.seconds_until(at)
    await _until(late, due)
    scheduler.close()
    return late


async def call_at_round(due: int, backlog: int) -> list[float]:
    loop = asyncio.get_running_loop()
    late: list[float] = []
    far = [loop.call_at(loop.time() + 3600 + number, late.append, 0.0) for number in range(backlog)]
    gc.collect()
    gc.freeze()
    at_s = loop.time() + AHEAD_S

    def fire() -> None:
        late.append((time.monotonic() - at_s) * 1e3)

    for _ in range(due):
        loop.call_at(at_s, fire)
    await _until(late, due)
    for handle in far:
        handle.cancel()
    return late


async def _until(late: list[float], due: int) -> None:
    give_up_s = time.monotonic() + 60
    while len(late) < due:
        if time.monotonic() > give_up_s:
            raise RuntimeError(f"only {len(late)} of {due} timers fired")
        await asyncio.sleep(0.2)


def measure(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    ours: list[list[float]] = []
    floors: list[list[float]] = []
    for number in range(options.rounds):
        tell(f"round {number + 1} of {options.rounds}")
        floors.append(asyncio.run(call_at_round(options.due, options.backlog)))
        gc.unfreeze()
        ours.append(asyncio.run(scheduler_round(options.due, options.backlog)))
        gc.unfreeze()
    result: dict[str, Any] = {"due": options.due, "backlog": options.backlog, "rounds": options.rounds, "load": load()}
    for name, share in (("p50", 0.5), ("last", 1.0)):
        above = [quantile(late, share) for late in ours]
        below = [quantile(late, share) for late in floors]
        result[name] = {"engine_ms": over_rounds(above), "floor_ms": over_rounds(below), "x": ratios(above, below)}
    return result


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--due", type=int, default=10_000)
    parser.add_argument("--backlog", type=int, default=100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description="ten thousand timers at one instant")
    arguments(parser)
    print(json.dumps(measure(parser.parse_args(), lambda line: None), indent=1))


if __name__ == "__main__":
    main()
