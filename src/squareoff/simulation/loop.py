"""An event loop that a seed decides: who of several processes runs next, how late a timer fires, who dies or stands
still between two steps. Same seed, same day, to the last microsecond.

A process is a `Lane`: everything that was begun inside it runs in it, since asyncio hands a task's context on to all
that follows from it. Within a lane what is ready runs in the order in which it became ready, as in asyncio.
"""

from __future__ import annotations

import heapq
from asyncio import Handle, TimerHandle, events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from datetime import datetime, timedelta
from itertools import count
from math import ceil
from random import Random
from typing import Any

from squareoff.adapters.clock import VirtualLoop

_LANE: ContextVar[Lane] = ContextVar("lane")


class Lane:
    """One process, as the loop sees it."""

    __slots__ = ("before_step", "context", "is_dead", "name", "ready", "stands_until_us")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[Handle] = deque()
        self.is_dead = False
        self.stands_until_us = 0
        self.before_step: Callable[[], None] | None = None
        """Asked before each step; may let it die or stand."""
        self.context = copy_context()
        self.context.run(_LANE.set, self)

    def die(self) -> None:
        """kill -9: what was begun is never gone on with, not even to clean up."""
        self.is_dead = True
        self.ready.clear()


class SeededLoop(VirtualLoop):
    """`VirtualLoop` for several processes. `late_s`: how late a timer of a lane fires at most."""

    def __init__(self, start: datetime, random: Random, *, late_s: float = 0.0) -> None:
        super().__init__(start)
        self._random, self._late_us = random, round(late_s * 1e6)
        self._now_us = 0
        self._timers: list[tuple[int, int, Lane, TimerHandle]] = []
        self._number = count()
        self.outside = Lane("outside")
        self._lanes = [self.outside]
        self.steps = 0

    # ------------------------------------------------------------------ processes

    def lane(self, name: str) -> Lane:
        made = Lane(name)
        self._lanes.append(made)
        return made

    def bury(self, lane: Lane) -> None:
        lane.die()
        if lane in self._lanes:
            self._lanes.remove(lane)

    def stand(self, lane: Lane, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds: time goes on, the process does not."""
        lane.stands_until_us = max(lane.stands_until_us, self._now_us + round(seconds * 1e6))
        self.call_at(lane.stands_until_us / 1e6, _nothing, context=self.outside.context)

    def start_in(self, lane: Lane, work: Coroutine[Any, Any, None]) -> Any:
        return lane.context.run(self.create_task, work)

    # ------------------------------------------------------------------ asyncio's side

    def time(self) -> float:
        return self._time_s

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, self, context)
        lane = handle._context.get(_LANE, self.outside)  # type: ignore[attr-defined]
        if not lane.is_dead:
            lane.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> TimerHandle:
        timer = TimerHandle(when, callback, args, self, context)
        lane = timer._context.get(_LANE, self.outside)  # type: ignore[attr-defined]
        soonest_us = self._now_us + (when > self._time_s)  # what is in the future by less than that is not now
        when_us = max(ceil(round(when * 1e6, 3)), soonest_us)
        if self._late_us and lane is not self.outside:
            when_us += int(self._random.random() ** 4 * self._late_us)
        heapq.heappush(self._timers, (when_us, next(self._number), lane, timer))
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def _timer_handle_cancelled(self, handle: TimerHandle) -> None:
        pass  # found out when its time comes

    # ------------------------------------------------------------------ the driver's side

    @property
    def is_idle(self) -> bool:
        return self._next_lane() is None

    def next_timer(self) -> datetime | None:
        when_us = self._next_due_us()
        return None if when_us is None else self._origin + timedelta(microseconds=when_us)

    def drain(self) -> None:
        self._run_to(self._now_us)

    def advance_to(self, instant: datetime) -> None:
        self._run_to(max((instant - self._origin) // timedelta(microseconds=1), self._now_us))

    def jump(self, instant: datetime) -> None:
        self._set_us((instant - self._origin) // timedelta(microseconds=1))

    def _run_to(self, until_us: int) -> None:
        if events._get_running_loop() is not None:
            return  # asked for from inside: it is running already
        events._set_running_loop(self)
        try:
            while True:
                lane = self._next_lane()
                if lane is not None:
                    self._step(lane)
                    continue
                due_us = self._next_due_us()
                if due_us is None or due_us > until_us:
                    break
                self._set_us(max(due_us, self._now_us))
                self._release()
        finally:
            events._set_running_loop(None)
        self._set_us(until_us)

    def _step(self, lane: Lane) -> None:
        if lane.before_step is not None:
            lane.before_step()
            if lane.is_dead or lane.stands_until_us > self._now_us:
                return
        handle = lane.ready.popleft()
        if handle._cancelled:
            return
        self.steps += 1
        handle._run()

    def _next_lane(self) -> Lane | None:
        """One of those that have something to do and do not stand still."""
        now_us, able, others = self._now_us, None, None
        for lane in self._lanes:
            if lane.ready and lane.stands_until_us <= now_us:
                if able is None:
                    able = lane
                elif others is None:
                    others = [able, lane]
                else:
                    others.append(lane)
        return able if others is None else others[int(self._random.random() * len(others))]

    def _next_due_us(self) -> int | None:
        timers = self._timers
        while timers and (timers[0][3]._cancelled or timers[0][2].is_dead):
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def _release(self) -> None:
        """Every timer that is due now becomes ready."""
        timers, now_us = self._timers, self._now_us
        while timers and timers[0][0] <= now_us:
            _, _, lane, timer = heapq.heappop(timers)
            if not timer._cancelled and not lane.is_dead:
                lane.ready.append(timer)

    def _set_us(self, now_us: int) -> None:
        if now_us != self._now_us:
            self._now_us = now_us
            self._time_s = now_us / 1e6
            self._instant = self._origin + timedelta(microseconds=now_us)


def _nothing() -> None:
    pass
