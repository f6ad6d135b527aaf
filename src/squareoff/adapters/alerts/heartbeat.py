"""A sign of life for somebody outside: when it stops, something is wrong here, whatever it is."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from squareoff.adapters.alerts.alert import NotDelivered
from squareoff.adapters.alerts.secret import SecretUrl
from squareoff.adapters.alerts.webhook import opener, request
from squareoff.ports import Alerts, Severity

FILE_NAME = "heartbeat.json"
FILE_EVERY_S = 5.0
URL_EVERY_S = 60.0
SILENT_AFTER_S = 15.0
_TIMEOUT_S = 10.0
_JOIN_S = 1.0


class Heartbeat:
    """The event loop calls `beat` every few seconds; threads pass that on: to `file` every `file_every_s`, and with a
    GET to `url` (a dead-man's switch such as healthchecks.io) every `every_s`.

    When the last beat is older than `silent_after_s`, nothing is passed on until the next: a loop that hangs looks
    from outside like a machine that is off. That the URL cannot be reached is told to `alerts`, once until it can.
    """

    def __init__(
        self,
        file: Path,
        *,
        url: SecretUrl | None = None,
        every_s: float = URL_EVERY_S,
        file_every_s: float = FILE_EVERY_S,
        silent_after_s: float = SILENT_AFTER_S,
        alerts: Alerts | None = None,
    ) -> None:
        self._file, self._url, self._alerts = file, url, alerts
        self._silent_after_s = silent_after_s
        self._opener = opener() if url is not None else None
        self._last: tuple[float, datetime, str] | None = None
        self._first, self._stop = threading.Event(), threading.Event()
        self._told: set[str] = set()
        self._threads = [self._every(min(file_every_s, every_s), self._write, "heartbeat file")]
        if url is not None:
            self._threads.append(self._every(every_s, self._ping, "heartbeat url"))

    def beat(self, state: str) -> None:
        """The caller lives and is in `state`, a word or a sentence for a person. Never blocks, never raises."""
        self._last = (time.monotonic(), datetime.now(UTC), state)
        if not self._first.is_set():
            self._first.set()

    def close(self, state: str = "stopped") -> None:
        """No more signs of life. The file says `state`, so that an orderly end is known from a crash; the URL hears
        nothing. Blocks for a second at most."""
        self._stop.set()
        self._first.set()
        self._threads[0].join(_JOIN_S)
        if self._last is not None:
            with contextlib.suppress(OSError):  # the end is not to fail for this
                self._save(datetime.now(UTC), state)

    def _every(self, seconds: float, work: Callable[[datetime, str], None], name: str) -> threading.Thread:
        def loop() -> None:
            self._first.wait()
            while not self._stop.is_set():
                last = self._last
                if last is not None and time.monotonic() - last[0] <= self._silent_after_s:
                    work(last[1], last[2])
                self._stop.wait(seconds)

        thread = threading.Thread(target=loop, name=name, daemon=True)
        thread.start()
        return thread

    def _write(self, at: datetime, state: str) -> None:
        try:
            self._save(at, state)
        except OSError as error:
            self._tell("file", f"{self._file} cannot be written: {error.strerror or 'unknown'}")
        else:
            self._told.discard("file")

    def _save(self, at: datetime, state: str) -> None:
        """A reader sees the old text or the new one, never half of it."""
        sign = {"at": at.isoformat(timespec="milliseconds"), "state": state, "pid": os.getpid()}
        draft = self._file.with_name(f"{self._file.name}.{os.getpid()}.new")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as out:
            out.write(json.dumps(sign) + "\n")
        os.replace(draft, self._file)

    def _ping(self, at: datetime, state: str) -> None:
        if self._url is None or self._opener is None:
            return
        try:
            request(self._opener, self._url, body=None, headers={"User-Agent": "squareoff"}, timeout_s=_TIMEOUT_S)
        except NotDelivered as failure:
            self._tell("url", f"{self._url}: {failure}")
        else:
            self._told.discard("url")

    def _tell(self, what: str, why: str) -> None:
        if self._alerts is not None and what not in self._told:
            self._told.add(what)
            text = f"{why}. Trading goes on; whoever watches from outside may think it does not"
            self._alerts.tell(Severity.WARNING, "the heartbeat does not get out", text)
