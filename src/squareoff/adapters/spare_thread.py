"""A thread for what nobody waits for: a disk that hangs keeps up nothing but what is written to it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread

_log = logging.getLogger(__name__)


class SpareThread:
    """Does one job after the other. It ends with the process, also in the middle of a job."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._given = self._done = 0
        self._failures: set[str] = set()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_idle(self) -> bool:
        return self._given == self._done

    def do(self, job: Callable[[], None]) -> None:
        """Soon. Ask `is_idle` first where jobs may come faster than they are done."""
        self._given += 1
        self._jobs.put(job)

    def close(self, within_s: float) -> bool:
        """Wait for what was given. False: it was not done within that time."""
        self._jobs.put(None)
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception as error:
                self._tell(f"{type(error).__name__}: {error}")
            self._done += 1

    def _tell(self, what: str) -> None:
        """Once each: a full disk is full again a second later."""
        if what not in self._failures and len(self._failures) < 100:
            self._failures.add(what)
            _log.warning("not written: %s", what)
