"""What goes wrong on a day of the simulation, as data: one `Trouble` each, so that a failure can be told as a story and
made shorter by leaving some out.

Troubles of a process strike at the fault points that ship (`squareoff fault-points`) or between two steps of its loop;
troubles of the world at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from squareoff.faults import GATE, MARKED, WRITTEN, FaultPoints

if TYPE_CHECKING:
    from squareoff.simulation.process import Process


class What(StrEnum):
    # to a process
    KILL = "kill"
    """kill -9; it is started again after `seconds`."""
    REBOOT = "reboot"
    """Its machine loses its power; started again after `seconds`."""
    PAUSE = "pause"
    """It stands still for `seconds`; time goes on."""
    RAISE = "raise"
    """The port fails, before or after it took effect, as the point says."""
    DELAY = "delay"
    """The answer of the port takes `seconds` longer."""
    # to the world, for `seconds`
    REDIS_FLUSH = "redis flush"
    REDIS_RESTART = "redis restart"
    REDIS_OLDER = "redis failover"
    """Another server takes over that lacks the last `seconds`."""
    REDIS_DOWN = "redis down"
    REDIS_SILENT = "redis silent"
    """All is done, nothing answered."""
    SQL_DOWN = "sql down"
    FEED_DEAD = "feed dead"
    FEED_DROP = "feed drop"
    FEED_LATE = "feed late"
    """Ticks reach us late, by up to `seconds`, and out of order."""
    NEWS = "news"
    """The broker's news are pushed otherwise (`detail`)."""
    UNANSWERED = "unanswered"
    """One of the broker's questions (`detail`) gets no answer."""
    CANCELS_LOST = "cancels lost"
    FILL_ON_CANCEL = "fill on cancel"
    NEVER_SENT = "never sent"
    ORDER = "order"
    """An order meets a mischief (`detail`) of the paper venue."""
    ORDER_LATE = "order late"
    """An order (`detail`: E or X) is under way for `seconds`."""
    CLOCK = "clock"
    """The machine's clock is set forward by `seconds` (back, below 0)."""
    # by people
    WISH = "wish"
    KILL_SWITCH = "kill switch"
    SALE_OUTSIDE = "sale outside"


class Where(StrEnum):
    """At which moments of a process its trouble may strike."""

    DECIDING = "at a point that decides"
    ANY = "at any point"
    STEP = "between two steps"
    NAMED = "at the point named"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """From `at_s` on (seconds since the day began), the `skip`-th chance after the first."""

    what: What
    at_s: float
    skip: int = 0
    where: Where = Where.STEP
    seconds: float = 0.0
    detail: str = ""
    number: int = 0
    """Which machine, or which strategy, or how many."""

    def __str__(self) -> str:
        parts = [f"{self.at_s:.3f} s: {self.what}"]
        if self.what in OF_A_PROCESS:
            parts.append(f"of worker {self.number + 1} {self.where} {self.detail}".rstrip())
            parts.append(f"(chance {self.skip + 1})")
        elif self.detail:
            parts.append(self.detail)
        if self.seconds:
            parts.append(f"{self.seconds:g} s")
        return " ".join(parts)


OF_A_PROCESS = frozenset({What.KILL, What.REBOOT, What.PAUSE, What.RAISE, What.DELAY})

_DECIDING = (
    "records.license_entry", "records.void_entry", "records.save", "records.restamp", "records.add_run",
    "records.wish_taken", "records.take_lease", "records.open_runs", "runtime.claim", "runtime.settle", "runtime.arm",
    "runtime.archive", "runtime.rebuild", "broker.submit", "broker.cancel", "broker.find", "spool.", "lease.",
)  # fmt: skip

MAY_RAISE = ("records.", "runtime.", "broker.", "feed.", "quotes.", "planner.", "journal.flush")
"""Ports whose promise names an error that the caller must live with."""


def is_deciding(point: str) -> bool:
    return point.startswith(_DECIDING) or point in (GATE, MARKED, WRITTEN)


class Suffering(FaultPoints):
    """The fault points of one process: the troubles that are meant for it, and how long its ports take."""

    def __init__(
        self,
        troubles: list[Trouble],
        *,
        dice: Random,
        now_s: Callable[[], float],
        strike: Callable[[Process, Trouble, str], None],
        reached: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._troubles, self._dice, self._now_s, self._strike, self._reached = troubles, dice, now_s, strike, reached
        self._skipped: dict[int, int] = {}
        self.process: Process | None = None
        """Set when it is made."""

    @property
    def is_on(self) -> bool:
        return True

    def reach(self, point: str, problem: Callable[[], Exception] | None = None) -> None:
        process = self.process
        assert process is not None
        if not process.alive:
            raise asyncio.CancelledError
        self._reached(point)
        for trouble in self._due(point):
            if trouble.what is What.RAISE:
                if problem is not None and point.startswith(MAY_RAISE):
                    self._told(trouble, point)
                    raise problem()
            elif trouble.what is not What.DELAY:
                self._told(trouble, point)
                if not process.alive:
                    raise asyncio.CancelledError

    async def reach_async(self, point: str, problem: Callable[[], Exception] | None = None) -> None:
        process = self.process
        assert process is not None
        if not process.alive:
            raise asyncio.CancelledError
        delays = [one for one in self._troubles if one.what is What.DELAY] if self._troubles else None
        if delays and self._now_s() >= delays[0].at_s and self._is_meant(delays[0], point):
            self._troubles.remove(delays[0])
            self._told(delays[0], point)
            await process.loop.sleep(delays[0].seconds)
        self.reach(point, problem)
        await self._lag(process, point)

    async def _lag(self, process: Process, point: str) -> None:
        """A question takes its time; most answers come at once after it."""
        longest_s = _longest_lag_s(point)
        if longest_s:
            await process.loop.sleep(self._dice.random() ** 3 * longest_s)

    def before_step(self) -> None:
        """Asked before each step of the process's lane."""
        for trouble in self._troubles:
            if trouble.where is Where.STEP and self._now_s() >= trouble.at_s and self._is_chance(trouble):
                self._troubles.remove(trouble)
                self._told(trouble, "a step")
                return

    def _due(self, point: str) -> list[Trouble]:
        if not self._troubles:
            return []
        now_s = self._now_s()
        due = [
            one
            for one in self._troubles
            if now_s >= one.at_s and one.what is not What.DELAY and self._is_meant(one, point)
        ]
        for one in due:
            self._troubles.remove(one)
        return due

    def _is_meant(self, trouble: Trouble, point: str) -> bool:
        if trouble.where is Where.STEP:
            return False
        if trouble.where is Where.NAMED and trouble.detail != point:
            return False
        if trouble.where is Where.DECIDING and not is_deciding(point):
            return False
        if trouble.what is What.RAISE and not point.startswith(MAY_RAISE):
            return False
        return self._is_chance(trouble)

    def _is_chance(self, trouble: Trouble) -> bool:
        seen = self._skipped[id(trouble)] = self._skipped.get(id(trouble), -1) + 1
        return seen >= trouble.skip

    def _told(self, trouble: Trouble, where: str) -> None:
        assert self.process is not None
        self._strike(self.process, trouble, where)


@cache
def _longest_lag_s(point: str) -> float:
    is_asked = point.endswith(".before") and not point.startswith("runtime.wait_for_bell")
    return _LAG_S[point[: point.index(".")]] if is_asked else 0.0


_LAG_S = {
    "broker": 0.08, "records": 0.01, "journal": 0.01, "runtime": 0.004, "planner": 0.002, "feed": 0.02, "quotes": 0.05,
}  # fmt: skip
"""The longest that a port usually takes to be asked."""
