"""Mistakes put into the engine on purpose: the simulator must find each of them. Those that are the same in real
processes are planted by `faults/bugs.py`; what differs here are the stores in memory.

    python -m tests.simulation.bugs            each bug, until a day breaks a promise
    python -m tests.simulation.bugs no-send-mark --days 5000
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from faults.bugs import BUGS

from squareoff.simulation.play import play
from squareoff.simulation.schedule import draw


def _no_send_mark() -> None:
    from squareoff.adapters.memory.spool import MemorySpool

    MemorySpool.mark = lambda self, mark: None  # type: ignore[method-assign]


def _stop_not_latched() -> None:
    from squareoff.adapters.memory.spool import MemorySpool

    MemorySpool.latch = lambda self, latch: None  # type: ignore[method-assign]


def _epoch_ignored() -> None:
    from squareoff.adapters.memory.runtime import MemoryRuntimeStore
    from squareoff.keepers import Keepers

    async def fine(self: Any, *_: Any) -> bool:
        return True

    async def nothing(self: Any) -> None:
        self.engine.redis_damaged.clear()

    MemoryRuntimeStore.is_intact = fine  # type: ignore[method-assign]
    Keepers._rebuild_redis = nothing  # type: ignore[method-assign]


def _hidden_retries() -> None:
    from squareoff.errors import OutcomeUnknown
    from squareoff.simulation.venue import Client

    submit = Client.submit

    async def again(self: Any, order: Any, gate: Any) -> Any:
        try:
            return await submit(self, order, gate)
        except OutcomeUnknown:
            return await submit(self, order, gate)

    Client.submit = again  # type: ignore[method-assign]


def _discarded_when_locked() -> None:
    from squareoff.engine import Engine
    from squareoff.ports import EngineState, JournalKind

    async def claimed(self: Any, decision: Any) -> bool:
        why = await self._claim(decision.run, decision.signal.event)
        if why is not None:
            run = self.board.runs[decision.run.plan.run_id]
            self.say(JournalKind.CLAIM, f"discarded: {why}", run, EngineState.LOCKED)
        return why is None

    Engine._claimed = claimed  # type: ignore[method-assign]


def _no_fence() -> None:
    from squareoff.adapters.memory.records import MemoryRecords

    MemoryRecords._check_fence = lambda self, account, fence: None  # type: ignore[method-assign]


def _rebuilt_as_it_was() -> None:
    from squareoff.engine import Engine

    async def nothing(self: Any, rebuilt: Any) -> None:
        pass

    Engine.show_what_moved = nothing  # type: ignore[method-assign]


def _lock_only() -> None:
    from squareoff.leasing import SharedLease

    SharedLease.is_held = property(lambda self: self._until[0] > 0)  # type: ignore[assignment,method-assign]


def _by_real_plant(name: str) -> Callable[[], None]:
    return BUGS[name].plant


PLANTS: dict[str, Callable[[], None]] = {
    "no-send-mark": _no_send_mark,
    "stop-not-latched": _stop_not_latched,
    "epoch-ignored": _epoch_ignored,
    "hidden-retries": _hidden_retries,
    "discarded-when-locked": _discarded_when_locked,
    "no-fence": _no_fence,
    "lock-only": _lock_only,
    "rebuilt-as-it-was": _rebuilt_as_it_was,
    **{
        name: _by_real_plant(name)
        for name in (
            "blind-retry", "no-deadline", "position-on-acceptance", "granted-is-unsent", "exit-uncapped",
            "wish-taken-first", "id-per-slot", "gone-is-stopped", "nothing-reserved", "no-restamp",
            "exit-before-licence", "cancel-not-confirmed", "exit-waits-for-sql",
        )
    },
}  # fmt: skip


CAUGHT: dict[str, tuple[str, int]] = {
    "no-send-mark": ("S2", 165),
    "stop-not-latched": ("S3", 367),
    "epoch-ignored": ("S6", 17),
    "hidden-retries": ("S2", 107),
    "lock-only": ("S8", 417),
    "rebuilt-as-it-was": ("S6", 51),
    "blind-retry": ("S8", 327),
    "no-deadline": ("S1", 513),
    "position-on-acceptance": ("S2", 0),
    "granted-is-unsent": ("S2", 9),
}
"""By which promise, and on which day first."""

NOT_DRAWN: dict[str, str] = {
    "discarded-when-locked": "no drawn day has a lock of an owner that lives; x-lock of `make faults` has",
    "no-fence": "lease and licence keep a woken worker from harm on all of 800 days; tm-start of `make faults`",
    "exit-uncapped": "a sale by hand long enough before the exit is rare: day 849 of an earlier draw had one; x-hand",
    "wish-taken-first": "a death within 0.3 s after a STOP is rare; x-wish of `make faults`",
    "id-per-slot": "needs a further try at a venue that refuses an id twice; the model, x-reject-unique",
    "gone-is-stopped": "needs a sale by hand while a stop-loss cannot be sold; x-hand-stop",
    "nothing-reserved": "needs a sale by hand below two runs that sell at once; x-two-hand",
    "no-restamp": "needs two deaths and a return in one day; the model, tm-back",
    "exit-before-licence": "needs a death within milliseconds of a BUY and its stop-loss; the model, tm-licence",
    "cancel-not-confirmed": "needs a cancel that is lost and an order that fills right then; v-cancel-quiet",
    "exit-waits-for-sql": "breaks no promise here: what it costs is time, which 46 measures",
}
"""Mistakes that the drawn days do not reach, or hardly: why, and which scenario of `make faults` catches each."""


def first_broken(name: str, days: int, first: int = 0) -> tuple[str, int, str]:
    """The bug, the seed of the first day that breaks a promise with it, and which; -1: none of so many days did.

    To be called in a process of its own: what is planted stays."""
    PLANTS[name]()
    for seed in range(first, first + days):
        broken = play(draw(seed)).broken
        if broken is not None:
            return name, seed, broken
    return name, -1, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bugs", nargs="*", default=list(PLANTS), help="which; default: all")
    parser.add_argument("--days", type=int, default=3000, help="so many days at most for each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    missed = 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, mp_context=context, max_tasks_per_child=1) as pool:
        told = [pool.submit(first_broken, name, options.days) for name in options.bugs]
        for future in told:
            name, seed, broken = future.result()
            missed += seed < 0
            print(
                f"{name:<24} {f'seed {seed}: {broken}' if seed >= 0 else f'NOT CAUGHT in {options.days} days'}",
                flush=True,
            )
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())
