"""What a worker tells of itself, and that nobody waits for it."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from squareoff.adapters.spare_thread import SpareThread
from squareoff.core import figures
from squareoff.core.figures import Figures
from squareoff.core.types import AccountId
from squareoff.errors import RecordsUnavailable
from squareoff.ports import JournalEntry, JournalKind, Severity
from squareoff.wiring import telling
from squareoff.wiring.telling import CountedAlerts, Teller, ToldJournal, log_file, secrets_of

LINE = JournalEntry(
    at=datetime(2026, 7, 13, 4, 10, tzinfo=UTC), account=AccountId("A1"), kind=JournalKind.NOTE, text="a line"
)


class Journal:
    def __init__(self) -> None:
        self.written: list[JournalEntry] = []
        self.is_closed = False

    def write(self, entry: JournalEntry) -> None:
        if self.is_closed:
            raise RecordsUnavailable("the records are closed")
        self.written.append(entry)

    async def flush(self) -> None:
        self.written.clear()

    @property
    def backlog(self) -> int:
        return len(self.written)


class Alerts:
    def __init__(self) -> None:
        self.told: list[str] = []

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: object = None) -> None:
        self.told.append(headline)


async def test_the_journal_gets_every_line_also_those_that_the_log_has_no_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(telling, "LINES_MAX", 2)
    journal = Journal()
    told = ToldJournal(journal)
    for _ in range(5):
        told.write(LINE)
    assert (len(journal.written), told.backlog, told.dropped) == (5, 5, 3)
    assert told.take() == [LINE, LINE]
    assert told.take() == []
    await told.flush()
    assert told.backlog == 0


def test_a_line_that_the_journal_refuses_is_not_in_the_log_either() -> None:
    journal = Journal()
    journal.is_closed = True
    told = ToldJournal(journal)
    with pytest.raises(RecordsUnavailable):
        told.write(LINE)
    assert told.lines == []


def test_alerts_are_counted_by_severity_and_passed_on() -> None:
    alerts, counts = Alerts(), Figures()
    counted = CountedAlerts(alerts, counts)
    counted.tell(Severity.URGENT, "one", "")
    counted.tell(Severity.INFO, "two", "")
    assert alerts.told == ["one", "two"]
    assert [counts.value(figures.ALERTS, severity) for severity in Severity] == [1, 0, 1]


def test_tokens_and_passwords_are_secrets_and_words_are_not() -> None:
    assert secrets_of("paper", "redis://127.0.0.1:6379/0", Path("data/squareoff.db")) == []
    assert secrets_of("tok-123456", "redis://:pass%2Fword@localhost/0") == ["pass%2Fword", "tok-123456", "pass/word"]
    assert secrets_of("paper", "postgresql://[broken") == []


def test_the_log_of_the_first_account_is_named_like_its_output(tmp_path: Path) -> None:
    assert log_file(tmp_path, AccountId("paper")).name == "worker.jsonl"
    assert log_file(tmp_path, AccountId("second")).name == "worker-second.jsonl"


def test_a_job_that_fails_is_told_once_and_the_next_is_done(caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def full() -> None:
        raise OSError(28, "No space left on device")

    thread = SpareThread("test")
    with caplog.at_level(logging.WARNING):
        for job in (full, full, lambda: done.append(1)):
            thread.do(job)
        assert thread.close(5.0)
    assert done == [1]
    assert len(caplog.records) == 1


def test_a_disk_that_hangs_keeps_up_the_end_for_a_moment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "CLOSE_WITHIN_S", 0.05)
    teller = Teller(
        account=AccountId("A1"),
        journal=Journal(),
        snapshot=tmp_path / "metrics-A1.json",
        log=tmp_path / "worker-A1.jsonl",
        secrets=[],
    )
    hangs = threading.Event()
    monkeypatch.setattr(teller._log, "write", lambda *given, **named: hangs.wait(30))
    teller.journal.write(LINE)
    teller.close()
    assert not teller._thread.is_idle
    hangs.set()
