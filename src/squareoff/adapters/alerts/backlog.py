"""What waits for a thread: bounded, and the less important goes first when there is too much."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque

from squareoff.adapters.alerts.alert import Alert
from squareoff.ports import Severity


class _Waiting:
    """The newest `limit` of one kind. Each has its place in the order of all, and its number within the kind: a gap in
    the numbers is what was dropped."""

    def __init__(self, limit: int) -> None:
        self.alerts: deque[tuple[int, int, Alert]] = deque(maxlen=limit)
        self.came = 0
        self.left = 0


class Backlog:
    """Alerts on their way to one thread, which alone may `take`. Any thread may `put`: that waits for nobody.

    At most `limit` urgent alerts and `limit` others wait; when there are more, the oldest of the same kind is dropped.
    So no alert that is not urgent ever displaces one that is.
    """

    def __init__(self, limit: int) -> None:
        self._urgent, self._others = _Waiting(limit), _Waiting(limit)
        self._limit = limit
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._came = 0
        # Taken by `put` alone, for a microsecond; re-entrant, so that not even a signal handler could hang on it.
        self._putting = threading.RLock()
        self._handed_out = 0
        self._handled = 0

    def put(self, alert: Alert) -> None:
        with self._putting:
            self._came += 1
            waiting = self._urgent if alert.severity is Severity.URGENT else self._others
            waiting.came += 1
            waiting.alerts.append((self._came, waiting.came, alert))  # a full deque drops its oldest by itself
        self.ring()

    def ring(self) -> None:
        """Wake the thread, also if there is nothing to take."""
        if self._bell.empty():  # a ring that was not heard yet is enough
            self._bell.put(None)

    def wait(self, timeout_s: float | None) -> None:
        """Until something was put or rung since the last `wait`, or `timeout_s` is over."""
        with contextlib.suppress(queue.Empty):
            self._bell.get(timeout=timeout_s)

    def take(self) -> tuple[Alert, int] | None:
        """The oldest alert, and how many were dropped before it. None: nothing waits, all that was taken is handled."""
        self._handled = self._handed_out
        waiting = self._older()
        if waiting is None:
            return None
        place, number, alert = waiting.alerts.popleft()
        dropped, waiting.left = number - waiting.left - 1, number
        self._handed_out = place
        return alert, dropped

    def _older(self) -> _Waiting | None:
        nonempty = [waiting for waiting in (self._urgent, self._others) if waiting.alerts]
        return min(nonempty, key=lambda waiting: waiting.alerts[0][0]) if nonempty else None

    @property
    def has_room(self) -> bool:
        """Whether less than half of it is used."""
        return max(len(self._urgent.alerts), len(self._others.alerts)) * 2 < self._limit

    @property
    def waiting(self) -> int:
        """Alerts not taken, and the one that is being handled."""
        return len(self._urgent.alerts) + len(self._others.alerts) + (self._handed_out != self._handled)

    @property
    def is_done(self) -> bool:
        """Whether everything put before this question was taken, and what followed from it is over."""
        return self._handled == self._came
