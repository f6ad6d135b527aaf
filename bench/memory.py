"""What one armed strategy takes in memory: bought, its stop-loss in the index, its timers set.

The world is replay's, which keeps its journal in memory (in live trading it goes to SQL): with it and without it.

    python -m bench.memory [--armed 10000]

Python's own count (`tracemalloc`), and what the system says of the process (RSS, in a process of its own). Floor: the
same number of strategies as small objects with ten fields and an index entry, made in the same process.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing as mp
import os
import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from bench.figures import load
from bench.replay import BUY_AT, OPENS, SYMBOL, plans
from squareoff.core.machine import State
from squareoff.core.types import Tick
from squareoff.wiring.replay import replay_world

PRICE = Decimal("100.00")


class _Small:
    __slots__ = ("buy_at", "id", "order_id", "price", "quantity", "sell_at", "state", "stop", "symbol", "version")

    def __init__(self, number: int) -> None:
        self.id, self.symbol, self.quantity, self.version = f"run-{number:08d}", SYMBOL, number, number
        self.buy_at, self.sell_at, self.stop, self.price = 1.7e9 + number, 1.8e9 + number, 90 + number / 997, 1.5
        self.state, self.order_id = "BOUGHT", f"order-{number:08d}"


def floor(count: int) -> list[Any]:
    return [(small := _Small(number), (small.stop, small.id)) for number in range(count)]


def bought(count: int) -> Any:
    """A world with `count` runs, each bought with a real entry."""
    return _bought(count)


def bought_without_journal(count: int) -> Any:
    """The same, less the lines it kept."""
    world = _bought(count)
    cast("list[Any]", world.journal()).clear()
    return world


def _bought(count: int) -> Any:
    world = replay_world(OPENS - timedelta(hours=1))
    for plan in plans(count):
        world.start(plan)
    for seconds in (-1, 0, 1):
        tick = Tick(SYMBOL, PRICE, BUY_AT + timedelta(seconds=seconds))
        world.loop.advance_to(tick.at)
        world.on_tick(tick)
        world.fill(tick)
        world.loop.drain()
    if any(run.state is not State.BOUGHT for run in world.board.runs.values()):
        raise RuntimeError("not every run was bought")
    return world


def _in_process(count: int, make: Callable[[int], Any], pipe: Any) -> None:
    make(10)
    gc.collect()
    before = _rss()
    kept = make(count)
    gc.collect()
    rss = _rss() - before
    del kept
    gc.collect()
    tracemalloc.start()
    again = make(count)
    gc.collect()
    counted = tracemalloc.get_traced_memory()[0]
    del again
    pipe.send({"rss": rss / count, "python": counted / count})


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _of(count: int, make: Callable[[int], Any]) -> dict[str, float]:
    mine, theirs = mp.Pipe()
    process = mp.get_context("spawn").Process(target=_in_process, args=(count, make, theirs))
    process.start()
    answer: dict[str, float] = mine.recv()
    process.join()
    return answer


def measure(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    tell("counting")
    ours, with_journal = _of(options.armed, bought_without_journal), _of(options.armed, bought)
    least = _of(options.armed, floor)
    result: dict[str, Any] = {"armed": options.armed, "engine_bytes": ours, "with_journal_bytes": with_journal}
    result |= {"floor_bytes": least, "load": load()}
    return {**result, "x": {"python": ours["python"] / least["python"], "rss": ours["rss"] / least["rss"]}}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--armed", type=int, default=10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description="memory of an armed strategy")
    arguments(parser)
    print(json.dumps(measure(parser.parse_args(), lambda line: None), indent=1))


if __name__ == "__main__":
    main()
