"""What a worker tells of itself, to those who watch it from outside: figures once a second, and a log for machines.

Nothing of it is waited for. On the way of an order a line is put into a list; in a quiet moment the list is handed to a
thread, which renders and writes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from squareoff.adapters.log_file import LogFile
from squareoff.adapters.spare_thread import SpareThread
from squareoff.core import figures
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.figures import Figures
from squareoff.core.types import AccountId, RunId
from squareoff.market import write_whole
from squareoff.ports import Alerts, Clock, Journal, JournalEntry, Severity

if TYPE_CHECKING:
    from squareoff.engine import Engine
    from squareoff.feeding import FeedKeeper
    from squareoff.listener import Listener
    from squareoff.precedence import OrdersFirst

VERSION = 1
LINES_MAX = 10_000
"""Lines that wait for the log; what comes beyond is dropped and counted. The journal has them all."""
LOG_EVERY_S = 0.25
SNAPSHOT_EVERY = 4
"""So many rounds of the log make one snapshot."""
CLOSE_WITHIN_S = 2.0
SECRET_LETTERS_MIN = 6
"""What is shorter is a word of the language, like the paper broker's usual token, and no secret."""


def metrics_file(run_folder: Path, account: AccountId) -> Path:
    return run_folder / f"metrics-{account}.json"


def log_file(folder: Path, account: AccountId) -> Path:
    """Beside the one that takes the process' output."""
    return folder / ("worker.jsonl" if account == DEFAULT_ACCOUNT else f"worker-{account}.jsonl")


class ToldJournal:
    """`ports.Journal` of which each line is also kept for the log."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.lines: list[JournalEntry] = []
        self.dropped = 0

    def write(self, entry: JournalEntry) -> None:
        self._journal.write(entry)
        if len(self.lines) < LINES_MAX:
            self.lines.append(entry)
        else:
            self.dropped += 1

    async def flush(self) -> None:
        await self._journal.flush()

    @property
    def backlog(self) -> int:
        return self._journal.backlog

    def take(self) -> list[JournalEntry]:
        lines, self.lines = self.lines, []
        return lines


class CountedAlerts:
    """`ports.Alerts`, counted by severity."""

    def __init__(self, alerts: Alerts, counts: Figures) -> None:
        self._alerts, self._counts = alerts, counts

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None:
        self._counts.count(figures.ALERTS, severity)
        self._alerts.tell(severity, headline, text, run_id=run_id)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Who is asked how things are, when a snapshot is made."""

    clock: Clock
    engine: Engine
    listener: Listener
    feeding: FeedKeeper
    precedence: OrdersFirst
    orders_per_s: int | None
    has_recovered: Callable[[], bool]


class Teller:
    """Writes the snapshot and the log of one worker. `figures` and `journal` are what its movers are given."""

    def __init__(self, *, account: AccountId, journal: Journal, snapshot: Path, log: Path, secrets: list[str]) -> None:
        self.account = account
        self.figures = Figures()
        self.journal = ToldJournal(journal)
        self._snapshot, self._log = snapshot, LogFile(log, secrets=secrets)
        self._thread = SpareThread("squareoff-telling")
        self.watched: Watched | None = None
        """Set before `keep_telling`."""

    def alerts(self, alerts: Alerts) -> CountedAlerts:
        return CountedAlerts(alerts, self.figures)

    async def keep_telling(self) -> None:
        """A loop that never ends. A thread that is kept by its disk gets nothing new, so nothing piles up there."""
        assert self.watched is not None
        watched, rounds = self.watched, 0
        while True:
            await watched.precedence.calm()
            if self._thread.is_idle:
                if rounds % SNAPSHOT_EVERY == 0:
                    self._hand_over_snapshot(watched)
                self._hand_over_lines()
            rounds += 1
            await watched.clock.sleep(LOG_EVERY_S)

    def close(self) -> None:
        """Write the last lines and take the snapshot away: who ends in order is not missed. Waits a moment at most."""
        self._hand_over_lines()
        self._thread.do(lambda: self._snapshot.unlink(missing_ok=True))
        self._thread.close(CLOSE_WITHIN_S)

    def _hand_over_lines(self) -> None:
        if lines := self.journal.take():
            dropped = self.journal.dropped
            self._thread.do(lambda: self._log.write(lines, lost_before=dropped))

    def _hand_over_snapshot(self, watched: Watched) -> None:
        self._ask(watched)
        told = {"version": VERSION, "account": self.account, "pid": os.getpid(), "at": watched.clock.now().isoformat()}
        metrics = self.figures.snapshot()
        runs, asked = list(watched.engine.board.runs.values()), self.figures.asked
        self._thread.do(lambda: self._write({**told, "metrics": {**metrics, **figures.of_runs(runs, asked)}}))

    def _write(self, document: dict[str, Any]) -> None:
        self._snapshot.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(self._snapshot, json.dumps(document))

    def _ask(self, watched: Watched) -> None:
        mine, engine = self.figures, watched.engine
        mine.look_at(engine.board, watched.clock.monotonic_s())
        mine.put_one(figures.ORDERS_LIMIT, watched.orders_per_s)
        queues = {
            "journal": self.journal.backlog,
            "events": engine.pending_events,
            "shows": watched.precedence.waiting,
            "log": len(self.journal.lines),
        }
        mine.put(figures.QUEUE, {(name,): count for name, count in queues.items()})
        mine.put_one(figures.TICKS, watched.listener.seen)
        mine.put(figures.IGNORED, {(reason,): count for reason, count in watched.listener.ignored.items()})
        mine.put_one(figures.FEED_AGE, watched.feeding.age_s)
        mine.put_one(figures.LOG_LOST, self.journal.dropped + self._log.lost)
        mine.put_one(figures.ENTRIES_ALLOWED, float(engine.halted is None and engine.no_entry_now() is None))
        mine.put_one(figures.RECOVERED, float(watched.has_recovered()))


def secrets_of(token: str, *addresses: str | Path) -> list[str]:
    """What must not be read in a log: the token, and the passwords of `addresses`. A path has none."""
    found = chain([token], *map(_passwords, addresses))
    return sorted({secret for secret in found if len(secret) >= SECRET_LETTERS_MIN}, key=len, reverse=True)


def _passwords(address: str | Path) -> Iterator[str]:
    try:
        password = urlsplit(str(address)).password
    except ValueError:
        return
    if password is not None:
        yield password
        yield unquote(password)
