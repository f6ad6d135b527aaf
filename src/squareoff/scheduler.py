"""time -> due() -> event. Timers sit in buckets by instant: ten thousand at one minute are one wake-up.

The sorted set in Redis is their record; the buckets are what fires. A bucket holds no decision: when its instant
comes, `due` is asked, so a timer that is no longer wanted does no harm and needs no removal.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import chain

from squareoff.core.board import Board
from squareoff.core.events import Signal, Source
from squareoff.core.run import Run
from squareoff.core.triggers import due, timers
from squareoff.core.types import RunId
from squareoff.ports import Clock

LONGEST_SLEEP_S = 1.0
"""The clock is read again at least this often, so that a suspended machine or a moved clock is noticed."""


class Scheduler:
    def __init__(
        self,
        *,
        board: Board,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        notify: Callable[[RunId, Signal], None],
        wake: Callable[[RunId], None],
        longest_sleep_s: float | None = LONGEST_SLEEP_S,
    ) -> None:
        """`longest_sleep_s` None: sleep straight to the next instant (virtual time cannot be suspended)."""
        self._board, self._clock, self._loop = board, clock, loop
        self._notify, self._wake, self._longest_sleep_s = notify, wake, longest_sleep_s
        self._buckets: dict[datetime, set[RunId]] = {}
        self._instants: list[datetime] = []
        self._known: dict[RunId, tuple[datetime, ...]] = {}
        self._handle: asyncio.TimerHandle | None = None
        self._handle_for: datetime | None = None

    def set_timers(self, run: Run) -> None:
        """Remember when to look at `run` again. Called with every new snapshot."""
        run_id = run.plan.run_id
        instants = timers(run)
        if self._known.get(run_id) == instants:
            return
        if instants:
            self._known[run_id] = instants
        else:
            self._known.pop(run_id, None)
        for instant in instants:
            bucket = self._buckets.get(instant)
            if bucket is None:
                bucket = self._buckets[instant] = set()
                heapq.heappush(self._instants, instant)
            bucket.add(run_id)
        if self._instants and (self._handle_for is None or self._instants[0] < self._handle_for):
            self._sleep()

    def time_moved(self) -> None:
        """Trading time was set anew, perhaps back: what has fired already may be due once more."""
        self._known.clear()
        for run in self._board.runs.values():
            self.set_timers(run)
        self._sleep()

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _sleep(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._handle_for = None
        if not self._instants:
            return
        delay_s = self._clock.seconds_until(self._instants[0])
        if self._longest_sleep_s is not None:
            delay_s = min(delay_s, self._longest_sleep_s)
        self._handle_for = self._instants[0]
        self._handle = self._loop.call_later(max(delay_s, 0), self._fire)

    def _fire(self) -> None:
        now = self._clock.now()
        self._handle = None
        due_buckets: list[set[RunId]] = []
        while self._instants and self._instants[0] <= now:
            due_buckets.append(self._buckets.pop(heapq.heappop(self._instants)))
        # after a sleep of the machine several are due at once: each run is asked once, by what is true now
        self._look(due_buckets[0] if len(due_buckets) == 1 else dict.fromkeys(chain(*due_buckets)), now)
        self._sleep()

    def _look(self, bucket: Iterable[RunId], now: datetime) -> None:
        runs, cells, as_of, notify, by = (
            self._board.runs, self._board.cells, self._board.as_of, self._notify, Source.TIMER,
        )  # fmt: skip
        for run_id in bucket:
            run = runs.get(run_id)
            if run is None:
                continue
            symbol = run.plan.symbol
            signal = due(run, now, cells[symbol].last, by, as_of=as_of(symbol))
            if signal is not None:
                notify(run_id, signal)
            else:
                self._wake(run_id)
