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
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from squareoff.ports import Clock


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def boottime_s() -> float:
    """Seconds that never step and go on while the machine sleeps (Linux); elsewhere the nearest there is."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def wall_s() -> float:
    """Seconds since 1970 by the machine's clock, which may step."""
    return time.time()


class SystemClock:
    """The wall clock at the start plus boot time: it goes on while the machine sleeps, and never steps."""

    def __init__(self) -> None:
        self._wall = datetime.now(UTC)
        self._boot_s = boottime_s()

    def now(self) -> datetime:
        return self._wall + timedelta(seconds=boottime_s() - self._boot_s)

    def seconds_until(self, instant: datetime) -> float:
        return (instant - self.now()).total_seconds()

    def monotonic_s(self) -> float:
        return boottime_s()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class BootClock:
    """Time since the machine started, counted from 1970: even, and the same for every process."""

    def now(self) -> datetime:
        return _EPOCH + timedelta(seconds=boottime_s())

    def seconds_until(self, instant: datetime) -> float:
        return (instant - self.now()).total_seconds()

    def monotonic_s(self) -> float:
        return boottime_s()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class KeptText(Protocol):
    """A text that outlives the process."""

    def read(self) -> str | None: ...
    def write(self, text: str) -> None: ...


class TextFile:
    """`KeptText` in a file: a reader sees the old text or the new one, never half of it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> str | None:
        try:
            return self._file.read_text()
        except OSError:
            return None

    def write(self, text: str) -> None:
        _replace(self._file, text)


class ConfirmedClock:
    """`ports.WatchedClock`: `steady` time, which never steps, moved to where the wall clock was when somebody outside
    confirmed it. `memory` keeps that for the next process, as long as the machine is not started anew."""

    def __init__(self, steady: Clock, wall: Callable[[], datetime], *, memory: KeptText, boot: str) -> None:
        """`steady` must be the same for all processes of one `boot`. `wall`: what the machine's clock says, UTC."""
        self._steady, self._wall, self._memory, self._boot = steady, wall, memory, boot
        remembered = self._remembered()
        self._ahead = wall() - steady.now() if remembered is None else remembered

    @classmethod
    def of_machine(cls, *, memory: Path, boot: str) -> ConfirmedClock:
        return cls(BootClock(), lambda: datetime.now(UTC), memory=TextFile(memory), boot=boot)

    @classmethod
    def set_by(cls, file: Path, steady: Clock, *, memory: Path, boot: str) -> ConfirmedClock:
        """For tests of what steps do: the seconds written in `file` are how far the wall clock was set forward."""

        def wall() -> datetime:
            return steady.now() + timedelta(seconds=float(file.read_text()) if file.exists() else 0.0)

        return cls(steady, wall, memory=TextFile(memory), boot=boot)

    def now(self) -> datetime:
        return self._steady.now() + self._ahead

    def seconds_until(self, instant: datetime) -> float:
        return self._steady.seconds_until(instant - self._ahead)

    def monotonic_s(self) -> float:
        return self._steady.monotonic_s()

    async def sleep(self, seconds: float) -> None:
        await self._steady.sleep(seconds)

    def step(self) -> timedelta:
        return self._wall() - self.now()

    def follow(self, step: timedelta) -> None:
        self._ahead += step

    def confirm(self) -> None:
        text = json.dumps({"boot": self._boot, "ahead_us": self._ahead // timedelta(microseconds=1)})
        if self._memory.read() != text:
            self._memory.write(text)

    def _remembered(self) -> timedelta | None:
        try:
            known = json.loads(self._memory.read() or "{}")
            return timedelta(microseconds=known["ahead_us"]) if known["boot"] == self._boot else None
        except (OSError, ValueError, KeyError, TypeError):  # nothing was confirmed, or it cannot be read: ask again
            return None


class PacedClock:
    """Trading time on a timetable: fast where nothing happens, slow where something does.

    Every process that reads the same timetable agrees on the time without talking, since it is computed from the
    machine's boot time. `points` are (real seconds since the start, trading instant), both rising; between two
    points time runs evenly, after the last one at normal speed. Until `start` is called on it, by whichever process,
    time stands at the first point.
    """

    _LOOK_AGAIN_S = 0.02
    """While time stands: how often the file is asked whether it was started."""

    def __init__(self, file: Path) -> None:
        table = json.loads(file.read_text())
        self._file = file
        self._start_s: float | None = table["boot_start_s"]
        self._looked_s = boottime_s()
        self._real = [float(real) for real, _ in table["points"]]
        self._trading = [datetime.fromisoformat(text).astimezone(UTC) for _, text in table["points"]]

    @classmethod
    def prepare(cls, points: Sequence[tuple[float, datetime]], file: Path) -> PacedClock:
        """Write the timetable for all processes, not started yet."""
        rows = [[real, instant.isoformat()] for real, instant in points]
        if len(rows) < 2 or sorted(points) != list(points) or sorted(i for _, i in points) != [i for _, i in points]:
            raise ValueError("a timetable has at least two points and never goes back")
        _replace(file, json.dumps({"boot_start_s": None, "points": rows}))
        return cls(file)

    def start(self) -> None:
        """Let time begin, here and in every process that reads the file."""
        table = json.loads(self._file.read_text())
        self._start_s = table["boot_start_s"] = boottime_s()
        _replace(self._file, json.dumps(table))

    def real_s(self) -> float:
        """Real seconds since the start; 0 before."""
        if self._start_s is None:
            self._look()
        return 0.0 if self._start_s is None else boottime_s() - self._start_s

    @property
    def length_s(self) -> float:
        """Real seconds that the timetable takes."""
        return self._real[-1]

    def now(self) -> datetime:
        real = self.real_s()
        if real >= self._real[-1]:
            return self._trading[-1] + timedelta(seconds=real - self._real[-1])
        i = max(bisect_right(self._real, real) - 1, 0)
        share = (real - self._real[i]) / (self._real[i + 1] - self._real[i])
        return self._trading[i] + (self._trading[i + 1] - self._trading[i]) * share

    def seconds_until(self, instant: datetime) -> float:
        """While time stands still this is less than the truth: ask again after waiting, as one should anyway."""
        left_s = self._real_of(instant) - self.real_s()
        return left_s if self._start_s is not None else min(left_s, self._LOOK_AGAIN_S)

    def _real_of(self, instant: datetime) -> float:
        if instant >= self._trading[-1]:
            return self._real[-1] + (instant - self._trading[-1]).total_seconds()
        i = max(bisect_right(self._trading, instant) - 1, 0)
        share = (instant - self._trading[i]) / (self._trading[i + 1] - self._trading[i])
        return self._real[i] + (self._real[i + 1] - self._real[i]) * share

    def _look(self) -> None:
        now_s = boottime_s()
        if now_s - self._looked_s >= self._LOOK_AGAIN_S:
            self._looked_s = now_s
            self._start_s = json.loads(self._file.read_text())["boot_start_s"]

    def monotonic_s(self) -> float:
        return boottime_s()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _replace(file: Path, text: str) -> None:
    """A reader sees the old text or the new one, never half of it."""
    draft = file.with_name(f"{file.name}.new")
    draft.write_text(text)
    draft.replace(file)


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
        # up, not to the nearest: asyncio runs a timer only when its time has come
        return self._origin + timedelta(microseconds=ceil(round(when_s * 1e6, 3)))

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
