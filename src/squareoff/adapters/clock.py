"""The only place where time is read. Three clocks: the real one, a paced one for demos and practice, and virtual
time for replay, tests and simulation.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import time
from asyncio import events
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any


def _boottime_s() -> float:
    """Seconds that never step and go on while the machine sleeps (Linux); elsewhere the nearest there is."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class SystemClock:
    """Trading time is the wall clock at start plus boot time: a stepped wall clock moves no trade."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._boot_s = _boottime_s()

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=_boottime_s() - self._boot_s)

    def seconds_until(self, instant: datetime) -> float:
        return (instant - self.now()).total_seconds()

    def monotonic_s(self) -> float:
        return _boottime_s()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class PacedClock:
    """Trading time on a timetable: fast where nothing happens, slow where something does.

    Every process that reads the same timetable agrees on the time without talking, since it is computed from the
    machine's boot time. `points` are (real seconds since the start, trading instant), both rising; between two
    points time runs evenly, after the last one at normal speed.
    """

    def __init__(self, boot_start_s: float, points: Sequence[tuple[float, datetime]]) -> None:
        if len(points) < 2:
            raise ValueError("a timetable needs at least two points")
        self._start_s = boot_start_s
        self._real = [real for real, _ in points]
        self._trading = [instant for _, instant in points]
        if sorted(self._real) != self._real or sorted(self._trading) != self._trading:
            raise ValueError("a timetable never goes back")

    @classmethod
    def start(cls, points: Sequence[tuple[float, datetime]], file: Path) -> PacedClock:
        """Begin now, and write the timetable for the other processes."""
        start_s = _boottime_s()
        rows = [[real, instant.isoformat()] for real, instant in points]
        file.write_text(json.dumps({"boot_start_s": start_s, "points": rows}))
        return cls(start_s, points)

    @classmethod
    def read(cls, file: Path) -> PacedClock:
        table = json.loads(file.read_text())
        points = [(float(real), datetime.fromisoformat(text)) for real, text in table["points"]]
        return cls(float(table["boot_start_s"]), points)

    def now(self) -> datetime:
        real = _boottime_s() - self._start_s
        if real >= self._real[-1]:
            return self._trading[-1] + timedelta(seconds=real - self._real[-1])
        i = max(bisect_right(self._real, real) - 1, 0)
        span_s = self._real[i + 1] - self._real[i]
        share = (real - self._real[i]) / span_s if span_s else 1.0
        return self._trading[i] + (self._trading[i + 1] - self._trading[i]) * max(share, 0.0)

    def seconds_until(self, instant: datetime) -> float:
        return self._real_of(instant) - (_boottime_s() - self._start_s)

    def _real_of(self, instant: datetime) -> float:
        if instant >= self._trading[-1]:
            return self._real[-1] + (instant - self._trading[-1]).total_seconds()
        i = max(bisect_right(self._trading, instant) - 1, 0)
        share = (instant - self._trading[i]) / (self._trading[i + 1] - self._trading[i])
        return self._real[i] + (self._real[i + 1] - self._real[i]) * share

    def monotonic_s(self) -> float:
        return _boottime_s()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _NothingToSelect:
    """The loop's selector: in virtual time no file is ever waited for."""

    def select(self, timeout: float | None = None) -> list[Any]:
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose time moves only when it is told to: a trading day in milliseconds, the same each time.

    It is also the `Clock`. The driver alternates `advance_to` (timers up to an instant, in order) with its own
    events and `drain` (everything that follows from them, while time stands still).
    """

    def __init__(self, start: datetime) -> None:
        super().__init__()
        self._origin = start
        self._instant = start
        self._time_s = 0.0
        self._selector = _NothingToSelect()

    # -- asyncio's side
    def time(self) -> float:
        return self._time_s

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    # -- the driver's side
    @property
    def is_idle(self) -> bool:
        return not self._ready  # type: ignore[attr-defined]

    def drain(self) -> None:
        """Run all that is ready, and all that follows from it, at the present instant."""
        if not self._ready:  # type: ignore[attr-defined]
            return
        events._set_running_loop(self)
        try:
            while self._ready:  # type: ignore[attr-defined]
                self._run_once()  # type: ignore[attr-defined]
        finally:
            events._set_running_loop(None)

    def next_timer(self) -> datetime | None:
        """When the next timer is due; None if none is set."""
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1  # type: ignore[attr-defined]
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled:
            return None
        when: float = scheduled[0]._when
        return self._instant_of(when)

    def advance_to(self, instant: datetime) -> None:
        """Fire every timer due up to and including `instant`, each at its own time; then it is `instant`."""
        self.drain()
        while (due := self.next_timer()) is not None and due <= instant:
            self._set(max(due, self._instant))
            events._set_running_loop(self)
            try:
                self._run_once()  # type: ignore[attr-defined]
            finally:
                events._set_running_loop(None)
            self.drain()
        self._set(max(instant, self._instant))

    def jump(self, instant: datetime) -> None:
        """Set the time where the caller knows that no timer is due before."""
        self._instant = instant
        self._time_s = (instant - self._origin).total_seconds()

    def _set(self, instant: datetime) -> None:
        self.jump(instant)

    def _instant_of(self, when_s: float) -> datetime:
        return self._origin + timedelta(microseconds=round(when_s * 1e6))

    # -- Clock
    def now(self) -> datetime:
        return self._instant

    def seconds_until(self, instant: datetime) -> float:
        return (instant - self._instant).total_seconds()

    def monotonic_s(self) -> float:
        return self._time_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def complete(self, awaitable: Any) -> Any:
        """Run one coroutine to its end at the present instant; it may not wait for time to pass."""
        events._set_running_loop(self)
        try:
            task = self.create_task(awaitable)
        finally:
            events._set_running_loop(None)
        self.drain()
        if not task.done():
            task.cancel()
            self.drain()
            raise RuntimeError("this needs time to pass")
        return task.result()
