"""Recorded ticks through the full engine on the memory adapters, the journal kept.

    python -m bench.replay [--rounds 5] [--ticks 200000] [--armed 1000]

Three rows on the same ticks of one symbol: nothing armed; `--armed` strategies bought on it, whose stop-losses the
last tick trips all together; and the floor, a bare loop over the ticks.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from bench.figures import load, over_rounds, ratios
from bench.timers import a_plan
from squareoff.core.machine import State
from squareoff.core.strategy import Plan
from squareoff.core.types import Symbol, Tick
from squareoff.simulation.replay import play_day
from squareoff.wiring.replay import REPLAY_ACCOUNT, replay_world

SYMBOL = Symbol("SIM:BENCH")
OPENS = datetime(2026, 11, 20, 3, 45, tzinfo=UTC)
BUY_AT = OPENS + timedelta(minutes=5)
SELL_AT = OPENS + timedelta(hours=6)
STOP, FALL = "90", Decimal("89.00")


def made_ticks(count: int) -> list[Tick]:
    """A walk that stays above the stop-losses, a few ticks after the BUY time on."""
    dice = random.Random(1)
    step = (SELL_AT - OPENS - timedelta(minutes=10)) / count
    prices = [Decimal(10_000 + dice.randrange(-800, 800)) / 100 for _ in range(1000)]
    return [Tick(SYMBOL, prices[i % 1000], OPENS + step * i) for i in range(count)]


def plans(count: int) -> list[Plan]:
    return [
        replace(
            a_plan(number + 1, sell_at=SELL_AT, stop=STOP),
            symbol=SYMBOL,
            account=REPLAY_ACCOUNT,
            buy_at=BUY_AT,
            closes_at=SELL_AT + timedelta(minutes=15),
        )
        for number in range(count)
    ]


def bare_loop(ticks: Sequence[Tick]) -> float:
    began = time.perf_counter()
    for _tick in ticks:
        pass
    return time.perf_counter() - began


def engine(ticks: Sequence[Tick], armed: int) -> tuple[float, float, float, int]:
    """Seconds for the ticks while nothing triggers (scaled to all of them), until all have triggered and sold, and for
    the whole day with START and BUY of each; lines of the journal."""
    world = replay_world(OPENS - timedelta(hours=1))
    mine = plans(armed)
    until = next(i for i, tick in enumerate(ticks) if tick.at > BUY_AT) + 2
    gc.collect()
    fell_at = ticks[-1].at + timedelta(milliseconds=1)
    fall = [Tick(SYMBOL, FALL, fell_at), Tick(SYMBOL, FALL, fell_at + timedelta(seconds=1))]
    marks: list[float] = []

    def watched() -> Any:
        yield from ticks[:until]
        marks.append(time.perf_counter())
        yield from ticks[until:]
        marks.append(time.perf_counter())
        yield from fall
        marks.append(time.perf_counter())

    began = time.perf_counter()
    result = play_day(world, mine, watched())
    whole_s = time.perf_counter() - began
    if any(run.outcome is not State.EXITED_BY_SL for run in result.runs):
        raise RuntimeError("not every run ended by its stop-loss")
    bought, quiet, fallen = marks
    return (quiet - bought) / (len(ticks) - until) * len(ticks), fallen - quiet, whole_s, len(result.journal)


def measure(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    ticks = made_ticks(options.ticks)
    loops: list[float] = []
    rows: dict[str, list[float]] = {"none": [], "armed": []}
    exits: list[float] = []
    wholes: list[float] = []
    lines = 0
    for number in range(options.rounds):
        tell(f"round {number + 1} of {options.rounds}")
        loops.append(bare_loop(ticks))
        rows["none"].append(engine(ticks, 0)[0])
        seconds, exit_s, whole_s, lines = engine(ticks, options.armed)
        wholes.append(whole_s)
        rows["armed"].append(seconds)
        exits.append(exit_s)
    result: dict[str, Any] = {"ticks": options.ticks, "armed": options.armed, "rounds": options.rounds, "load": load()}
    result["bare_loop_ticks_per_s"] = over_rounds([len(ticks) / seconds for seconds in loops])
    for name, taken in rows.items():
        rate = over_rounds([len(ticks) / seconds for seconds in taken])
        result[f"with_{name}"] = {"ticks_per_s": rate, "x_bare_loop": ratios(taken, loops)}
    result["all_out_ms_each"] = over_rounds([seconds / options.armed * 1e3 for seconds in exits])
    result["whole_day_ticks_per_s"] = over_rounds([len(ticks) / seconds for seconds in wholes])
    return {**result, "journal_lines": lines}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ticks", type=int, default=200_000)
    parser.add_argument("--armed", type=int, default=1_000)


def main() -> None:
    parser = argparse.ArgumentParser(description="replay through the full engine")
    arguments(parser)
    print(json.dumps(measure(parser.parse_args(), lambda line: None), indent=1))


if __name__ == "__main__":
    main()
