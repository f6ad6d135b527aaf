"""`make sim`: many days of the simulation, and a seed for each one that broke a promise.

    make sim                                    three minutes of days, the kept seeds first
    make sim SIM="--days 100000"                so many days
    make sim SIM="--seed 4711"                  one day, told as a story
    make sim SIM="--seed 4711 --shorten"        the same, with all troubles left out that it does not need
    make sim SIM="--points"                     a kill at every fault point, and who takes over

Exit status 0 only if every day kept every promise, and every day that was played twice came out the same.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squareoff.simulation.play import Played, play
from squareoff.simulation.points import by_point, told_points
from squareoff.simulation.schedule import draw
from squareoff.simulation.shrink import shortened

BATCH = 25
TWICE_EVERY = 40
"""One day in so many is played twice, in another process."""

ORPHAN_EVERY_S = 1.0


@dataclass(slots=True)
class Batch:
    """What a process has to tell of its days."""

    digests: list[bytes] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    struck: Counter[str] = field(default_factory=Counter)
    settings: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    first: tuple[int, str] = (0, "")


@dataclass(slots=True)
class Total:
    days: int = 0
    seen: set[bytes] = field(default_factory=set)
    broken: list[tuple[int, str]] = field(default_factory=list)
    differ: list[int] = field(default_factory=list)
    twice: int = 0
    settings: Counter[str] = field(default_factory=Counter)
    struck: Counter[str] = field(default_factory=Counter)
    steps: int = 0

    def take(self, batch: Batch) -> None:
        self.days += len(batch.digests)
        self.seen.update(batch.digests)
        self.broken += batch.broken
        self.settings += batch.settings
        self.struck += batch.struck
        self.steps += batch.steps


def _play_batch(seeds: Sequence[int]) -> Batch:
    told = Batch()
    for seed in seeds:
        played = play(draw(seed))
        told.digests.append(bytes.fromhex(played.digest))
        told.settings[played.schedule.setting.value] += 1
        told.struck.update(_kind(text) for text in played.struck)
        told.steps += played.steps
        if played.broken is not None:
            told.broken.append((seed, played.broken))
        if not told.first[1]:
            told.first = (seed, played.digest)
    return told


def _kind(struck: str) -> str:
    """`worker 1 (2): kill at spool.mark.after` counts as a kill."""
    if struck.startswith("worker"):
        return struck.split(": ", 1)[1].split(" at ", 1)[0]
    return "calm" if struck.startswith("calm") else "of the world"


def _digest_of(seed: int) -> tuple[int, str]:
    return seed, play(draw(seed)).digest


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    if options.seed is not None and options.days is None and options.minutes is None:
        return _tell(options.seed, shorten=options.shorten)
    if options.points:
        return _points(options)
    return _many(options)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make sim", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, help="how many days to play; default: as many as fit --minutes")
    parser.add_argument("--minutes", type=float, help="how long to play, in minutes of real time; default 3")
    parser.add_argument("--seed", type=int, help="the first seed; alone: tell this one day as a story")
    parser.add_argument("--shorten", action="store_true", help="with --seed: leave out what the failure does not need")
    parser.add_argument("--points", action="store_true", help="a kill at every fault point, and who takes over")
    parser.add_argument("--kept", type=Path, help="a file of seeds that once failed, one a line; they are played first")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one a core")
    parser.add_argument("--json", type=Path, help="write the counts here too")
    return parser.parse_args(argv)


# ---------------------------------------------------------------------- one day


def _tell(seed: int, *, shorten: bool) -> int:
    played = play(draw(seed), with_story=True)
    if shorten and played.broken is not None:
        played = shortened(played)
    _print_story(played)
    return played.broken is not None


def _print_story(played: Played) -> None:
    schedule = played.schedule
    print(
        f"day {schedule.seed}: {schedule.setting.value}, ids {schedule.idempotency}, {len(schedule.plans)} strategies"
    )
    for plan in schedule.plans:
        print(f"  {plan.name}: {plan.quantity:f} {plan.symbol}, stop-loss {plan.stop_loss.value} {plan.stop_loss.kind}")
    print("\n".join(played.story))
    print(f"digest {played.digest}")
    print(f"BROKEN: {played.broken}" if played.broken is not None else "every promise was kept")


# ---------------------------------------------------------------------- many days


def kept_seeds(file: Path | None) -> list[int]:
    """One a line; what follows on the line says what it found."""
    if file is None or not file.exists():
        return []
    lines = (line.split("#")[0].split() for line in file.read_text().splitlines())
    return [int(words[0]) for words in lines if words]


def _batches(options: argparse.Namespace) -> Iterator[list[int]]:
    kept = kept_seeds(options.kept)
    for begin in range(0, len(kept), BATCH):
        yield kept[begin : begin + BATCH]
    first, left = options.seed or 0, options.days
    while left is None or left > 0:
        size = BATCH if left is None else min(BATCH, left)
        yield list(range(first, first + size))
        first += size
        left = None if left is None else left - size


def _pool(jobs: int) -> ProcessPoolExecutor:
    """A fresh interpreter each, with a hash seed of its own: what depends on the order of a set comes out."""
    fresh = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, mp_context=fresh, initializer=_end_with, initargs=(os.getpid(),))


def _end_with(parent: int) -> None:
    """Who was started by a process that was killed does not go on for hours on a core of its own."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHAN_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _many(options: argparse.Namespace) -> int:
    total, began_s = Total(), time.monotonic()
    until_s = None if options.days is not None else began_s + 60 * (options.minutes or 3.0)
    batches = _batches(options)
    pool = _pool(options.jobs)
    waiting: dict[Future[Any], str] = {}
    with pool:
        more = True
        while more or waiting:
            while more and len(waiting) < 2 * options.jobs:
                seeds = next(batches, None)
                if seeds is None or (until_s is not None and time.monotonic() > until_s):
                    more = False
                    break
                waiting[pool.submit(_play_batch, seeds)] = ""
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                first = waiting.pop(future)
                told = future.result()
                if isinstance(told, Batch):
                    total.take(told)
                    if told.first[0] // BATCH * BATCH % TWICE_EVERY == 0:
                        waiting[pool.submit(_digest_of, told.first[0])] = told.first[1]
                else:
                    total.twice += 1
                    if told[1] != first:
                        total.differ.append(told[0])
            _progress(total, began_s, options.days)
            if len(total.broken) > 50:
                print("\nmore than 50 broken days: no more are played")
                break
        pool.shutdown(cancel_futures=True)
    print()
    return _report(total, time.monotonic() - began_s, options.json)


def _progress(total: Total, began_s: float, wanted: int | None) -> None:
    took_s = time.monotonic() - began_s
    left = "" if not wanted or not total.days else f", about {took_s / total.days * (wanted - total.days):.0f} s left"
    text = f"{total.days} days, {len(total.seen)} distinct, {len(total.broken)} broken, {took_s:.0f} s{left}"
    print(f"\r{text:<100}" if sys.stdout.isatty() else f"{text}", end="" if sys.stdout.isatty() else "\n", flush=True)


def _report(total: Total, took_s: float, file: Path | None) -> int:
    rate = total.days / took_s if took_s else 0.0
    print(
        f"{total.days} days in {took_s:.0f} s ({rate:.0f} a second), {len(total.seen)} of them distinct; "
        f"{total.steps} steps"
    )
    print("  " + ", ".join(f"{count} with {name}" for name, count in sorted(total.settings.items())))
    print("  troubles that met somebody: " + ", ".join(f"{n} {what}" for what, n in total.struck.most_common()))
    print(f"  {total.twice} days played twice, in two processes: {len(total.differ)} came out otherwise")
    for seed in total.differ:
        print(f"  DIFFERS: seed {seed}")
    for seed, broken in total.broken[:20]:
        print(f"  BROKEN: seed {seed}: {broken}")
    if not total.broken and total.days:
        print(f"  no promise broken: at most {3 / total.days:.1e} of such days break one (95 %)")
    else:
        print(f'  {len(total.broken)} broken; tell one with: make sim SIM="--seed {total.broken[0][0]} --shorten"')
    if file is not None:
        counts = {
            "days": total.days,
            "distinct": len(total.seen),
            "broken": total.broken,
            "differ": total.differ,
            "twice": total.twice,
            "seconds": round(took_s, 1),
        }
        file.write_text(json.dumps(counts, indent=1) + "\n")
    return bool(total.broken or total.differ)


# ---------------------------------------------------------------------- every fault point


def _points(options: argparse.Namespace) -> int:
    began_s = time.monotonic()
    with _pool(options.jobs) as pool:
        rows = list(pool.map(by_point, *told_points(), chunksize=8))
    missed = [row for row in rows if not row.reached]
    broken = [row for row in rows if row.broken]
    kills = sum(row.reached for row in rows)
    took_s = time.monotonic() - began_s
    print(f"{len(rows)} places for a kill (fault point x who takes over), {kills} kills in {took_s:.0f} s")
    for row in missed:
        print(f"  NOT REACHED: {row.point}, {row.setting.value}")
    for row in broken:
        print(f"  BROKEN: {row.point}, {row.setting.value}: {row.broken}")
    return bool(missed or broken)
