"""A process of ours that is started again when it dies: later each time it dies young, and never silently."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Before a process that died is started again: doubling each time it dies before it was of use."""
YOUNG_S = 1.0
"""One that was of use for longer begins with the first pause again: while it is away nobody watches the position."""
END_WITHIN_S = 15.0
"""A process that was asked to end and does not is killed after this."""
LOG_TAIL_LINES = 8
LOG_BYTES_MAX = 5_000_000


@dataclass(kw_only=True)
class Child:
    """`ready` is a file the process writes when it can be used; it is deleted before each start.

    `command` is asked at every start, because an address may have changed."""

    name: str
    command: Callable[[], Sequence[str]]
    ready: Path
    log: Path
    environment: Callable[[], Mapping[str, str]] = dict
    """Beside what `up` was started with: what the list of processes must not show."""
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    _ready_since_s: float | None = None
    _pause_s: float = FIRST_PAUSE_S
    _start_again_s: float | None = None

    @property
    def pid(self) -> int | None:
        return None if self.process is None or self.process.poll() is not None else self.process.pid

    @property
    def is_ready(self) -> bool:
        return self.pid is not None and self.ready.exists()

    def start(self) -> None:
        self.ready.unlink(missing_ok=True)
        self._start_again_s = None
        self._ready_since_s = None
        _keep_small(self.log)
        with self.log.open("ab") as log:
            # a group of its own: Ctrl-C at the terminal is for `up`, which then asks and ends the others in order
            self.process = subprocess.Popen(
                list(self.command()),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, **self.environment()},
            )  # fmt: skip

    def look(self, say: Callable[[str], None]) -> None:
        """Start it again if it died, when its pause is over."""
        now_s = time.monotonic()
        if self._start_again_s is not None:
            if now_s >= self._start_again_s:
                self.start()
            return
        if self._ready_since_s is None and self.ready.exists():
            self._ready_since_s = now_s
        if self.process is None or (status := self.process.poll()) is None:
            return
        if self._ready_since_s is not None and now_s - self._ready_since_s > YOUNG_S:
            self._pause_s = FIRST_PAUSE_S
        self.deaths += 1
        self._start_again_s = now_s + self._pause_s
        why = f"was killed by {_signal_name(-status)}" if status < 0 else f"ended with status {status}"
        say(f"{self.name} {why}; it is started again in {self._pause_s:g} s")
        if status > 0:
            say(f"the last lines of {self.log}:\n{tail(self.log)}")
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def ask_to_end(self) -> None:
        """In order; `end` waits for it."""
        self._start_again_s = None
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self) -> None:
        """Ask it to end in order and wait; kill it only if it does not."""
        self.ask_to_end()
        if self.process is None:
            return
        try:
            self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def end_process(pid: int) -> None:
    """End a process that is not our child: in order if it can, and wait until it is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        until_s = time.monotonic() + END_WITHIN_S
        while time.monotonic() < until_s:
            if not _exists(pid):
                return
            time.sleep(0.02)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a dead one whose parent has not looked yet counts as gone
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return not Path("/proc/self").exists()


def tail(file: Path, lines: int = LOG_TAIL_LINES) -> str:
    try:
        return "\n".join(f"  {line}" for line in file.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "  (no log)"


def _keep_small(log: Path) -> None:
    """One older log is kept beside the present one."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
        log.replace(log.with_suffix(".old.log"))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
