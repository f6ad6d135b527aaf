"""The log for machines: what a line says, rotation, secrets, a disk that is full."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from squareoff.adapters.log_file import LogFile
from squareoff.core.types import AccountId, RunId, StrategyId
from squareoff.ports import EngineState, JournalEntry, JournalKind, Severity

AT = datetime(2026, 7, 13, 4, 10, tzinfo=UTC)


def entry(
    text: str = "SELL 50 NSE:INFY at market", kind: JournalKind = JournalKind.REQUEST, **more: Any
) -> JournalEntry:
    given: dict[str, Any] = {"at": AT, "account": AccountId("A1"), "kind": kind, "text": text, **more}
    return JournalEntry(**given)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def test_a_line_names_strategy_run_and_order(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "worker.jsonl")
    log.write(
        [
            entry(
                run_id=RunId(42),
                strategy_id=StrategyId(7),
                engine=EngineState.EXECUTING,
                data={"order": "SQABCDEFGHIJX01", "qty": "50"},
            )
        ]
    )
    assert lines(log.path) == [
        {
            "at": "2026-07-13T04:10:00Z",
            "level": "info",
            "event": "SELL 50 NSE:INFY at market",
            "account": "A1",
            "kind": "request",
            "engine": "executing",
            "strategy_id": 7,
            "run_id": 42,
            "client_order_id": "SQABCDEFGHIJX01",
            "data": {"qty": "50"},
        }
    ]
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("kind", "data", "level"),
    [
        (JournalKind.TRANSITION, {}, "info"),
        (JournalKind.ANSWER, {"outcome": "Answered"}, "info"),
        (JournalKind.ANSWER, {"outcome": "Unknown"}, "warning"),
        (JournalKind.LOOK_UP, {}, "warning"),
        (JournalKind.REDIS, {}, "warning"),
        (JournalKind.NOTHING, {"blocked": "SQL"}, "warning"),
        (JournalKind.ALERT, {"severity": Severity.URGENT}, "error"),
        (JournalKind.ALERT, {"severity": Severity.INFO}, "info"),
        (JournalKind.ALERT, {}, "warning"),
    ],
)
def test_the_level_says_whether_somebody_should_look(
    tmp_path: Path, kind: JournalKind, data: dict[str, Any], level: str
) -> None:
    log = LogFile(tmp_path / "worker.jsonl")
    log.write([entry(kind=kind, data=data)])
    assert lines(log.path)[0]["level"] == level


def test_steps_of_the_engine_are_left_to_the_journal(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.jsonl")
    log.write([entry(kind=kind) for kind in (JournalKind.CLAIM, JournalKind.SAVED, JournalKind.RELEASE)])
    assert not log.path.exists()


def test_no_secret_reaches_the_file_whoever_wrote_it_into_a_line(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.jsonl", secrets=["tok-123456", ""])
    log.write([entry("refused: tok-123456", data={"why": "Bearer tok-123456"})])
    assert b"tok-123456" not in log.path.read_bytes()
    assert lines(log.path)[0]["event"] == "refused: (hidden)"


def test_a_secret_that_json_spells_otherwise_is_hidden_too(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.jsonl", secrets=['a"b\\c\u00fc-123'])
    log.write([entry('why a"b\\c\u00fc-123'), entry('\ud800 a"b\\c\u00fc-123')])
    assert [line["event"] for line in lines(log.path)] == ["why (hidden)", "\ud800 (hidden)"]


def test_five_files_are_kept_and_none_grows_beyond_the_limit(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.jsonl", bytes_max=1000)
    for number in range(60):
        log.write([entry(f"line {number}")])
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["worker.jsonl", *(f"worker.jsonl.{n}" for n in range(1, 5))]
    assert all(file.stat().st_size <= 1000 for file in files)
    told = [line["event"] for file in reversed(files) for line in lines(file)]
    assert told == [f"line {number}" for number in range(60 - len(told), 60)]


def test_a_full_disk_is_counted_and_told_once_it_takes_lines_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, write = LogFile(tmp_path / "worker.jsonl"), os.write
    log.write([entry("before")])

    def half_then_full(fd: int, content: bytes) -> int:
        if len(content) < 60:
            raise OSError(28, "No space left on device")
        return write(fd, content[:-50])

    monkeypatch.setattr(os, "write", half_then_full)
    log.write([entry("lost"), entry("no line of the log", kind=JournalKind.SAVED)])
    monkeypatch.undo()
    assert log.lost == 1
    log.write([entry("after")])
    log.write([entry("later")])
    text = log.path.read_text().splitlines()
    assert json.loads(text[0])["event"] == "before"
    assert [json.loads(line)["event"] for line in text[2:]] == [
        "1 lines before this one were dropped: the log could not take them; the journal has them",
        "after",
        "later",
    ]


def test_lines_that_were_dropped_before_they_came_are_told(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.jsonl")
    log.write([entry("one")], lost_before=3)
    log.write([entry("two")], lost_before=3)
    assert [line["kind"] for line in lines(log.path)] == ["dropped", "request", "request"]
    assert lines(log.path)[0]["data"] == {"count": 3}


def test_a_line_that_cannot_be_written_as_it_is_keeps_no_other_out(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "worker.jsonl", secrets=["tok-123456"])
    log.write([entry("odd \ud800 tok-123456"), entry(data={"path": tmp_path, 1: object}), entry("plain")])
    told = lines(log.path)
    assert [line["event"] for line in told] == ["odd \ud800 (hidden)", "SELL 50 NSE:INFY at market", "plain"]
