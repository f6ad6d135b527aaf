"""The worker's log for machines: a JSON object a line, made of the journal's lines, in a file that is rotated by size.

Lines are rendered by msgspec, not by structlog: a line of the journal is a structured value already, so that there is
nothing to bind, and one takes 7 µs instead of 20, in the process in which a stop-loss waits for the interpreter.
Nothing here is called on the way of an order: `wiring.telling` collects lines in memory and hands them over in a quiet
moment, to a thread.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from squareoff.ports import JournalEntry, JournalKind, Severity

BYTES_MAX = 10_000_000
FILES_KEPT = 5
"""The present one included."""
HIDDEN = b"(hidden)"

_K = JournalKind
LOGGED = frozenset({
    _K.WISH, _K.TICK, _K.REQUEST, _K.ANSWER, _K.FILL, _K.TRANSITION, _K.ALERT, _K.RECOVERY, _K.REDIS, _K.RETRY,
    _K.LOOK_UP, _K.LICENCE, _K.NOTE,
})  # fmt: skip
"""Kinds that always pass. The others tell steps of the engine; of them only what holds a BUY up is passed on."""
_WARNS = frozenset({_K.REDIS, _K.RETRY, _K.LOOK_UP})
_GOOD_ANSWER = "Answered"
_LEVEL_OF = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.URGENT: "error"}


def is_logged(entry: JournalEntry) -> bool:
    return entry.kind in LOGGED or "blocked" in entry.data


def level_of(entry: JournalEntry) -> str:
    """`info`, `warning` or `error`: the last for what a person is told as urgent."""
    if entry.kind is _K.ALERT:
        return _LEVEL_OF.get(entry.data.get("severity", Severity.WARNING), "warning")
    failed = entry.kind is _K.ANSWER and entry.data.get("outcome", _GOOD_ANSWER) != _GOOD_ANSWER
    return "warning" if failed or entry.kind in _WARNS or "blocked" in entry.data else "info"


def fields_of(entry: JournalEntry) -> dict[str, Any]:
    """What a line says; what is not known is left out."""
    fields: dict[str, Any] = {
        "at": entry.at,
        "level": level_of(entry),
        "event": entry.text,
        "account": entry.account,
        "kind": entry.kind,
        "engine": entry.engine,
    }
    if entry.strategy_id is not None:
        fields["strategy_id"] = entry.strategy_id
    if entry.run_id is not None:
        fields["run_id"] = entry.run_id
    data = entry.data
    if (order := data.get("order")) is not None:
        fields["client_order_id"] = order
        data = {name: value for name, value in data.items() if name != "order"}
    if data:
        fields["data"] = data
    return fields


class LogFile:
    """Appends lines. Never raises: what the disk does not take is counted, and told in the file once it takes some.

    `secrets` never reach the file, whoever wrote them into a line."""

    def __init__(
        self,
        path: Path,
        *,
        secrets: Iterable[str] = (),
        bytes_max: int = BYTES_MAX,
        files_kept: int = FILES_KEPT,
    ) -> None:
        self.path, self._bytes_max, self._files_kept = path, bytes_max, files_kept
        self._encode = msgspec.json.Encoder(enc_hook=str, decimal_format="string").encode
        self._secrets = [spelling for secret in secrets if secret for spelling in _spellings(secret)]
        self.lost = 0
        """Lines that were not written."""
        self._lost_told = 0
        self._is_torn = False
        """The last line in the file may be half of one."""

    def write(self, entries: Sequence[JournalEntry], *, lost_before: int = 0) -> None:
        """All of `entries` that are logged. `lost_before`: so many were dropped before they came here, since the
        start."""
        lines = [self._line(fields_of(entry)) for entry in entries if is_logged(entry)]
        if not lines:
            return
        lost = self.lost + lost_before
        if lost > self._lost_told:
            lines.insert(0, self._line(_of_lost(lost - self._lost_told, entries[0])))
        content = b"".join(lines)
        try:
            self._append(b"\n" + content if self._is_torn else content)
        except OSError:
            self._is_torn = True
            self.lost += sum(map(is_logged, entries))
        else:
            self._is_torn, self._lost_told = False, lost

    def _line(self, fields: dict[str, Any]) -> bytes:
        try:
            line: bytes = self._encode(fields)
        except Exception:  # words from outside may hold anything: the others must not suffer
            line = json.dumps({**fields, "data": repr(fields.get("data"))}, default=str).encode()
        for secret in self._secrets:
            if secret in line:
                line = line.replace(secret, HIDDEN)
        return line + b"\n"

    def _append(self, content: bytes) -> None:
        self._make_room(len(content))
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            while content:
                content = content[os.write(fd, content) :]
        finally:
            os.close(fd)

    def _make_room(self, more: int) -> None:
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return
        if size == 0 or size + more <= self._bytes_max:
            return
        for number in range(self._files_kept - 1, 0, -1):
            older = self._number(number - 1)
            if older.exists():
                os.replace(older, self._number(number))

    def _number(self, number: int) -> Path:
        """`worker.jsonl`, then `worker.jsonl.1` and so on: the higher, the older."""
        return self.path.with_name(f"{self.path.name}.{number}") if number else self.path


def _spellings(secret: str) -> set[bytes]:
    """As it stands in a line, also where JSON spells a letter of it otherwise."""
    return {secret.encode(), msgspec.json.encode(secret)[1:-1], json.dumps(secret)[1:-1].encode()}


def _of_lost(count: int, next_one: JournalEntry) -> dict[str, Any]:
    text = f"{count} lines before this one were dropped: the log could not take them; the journal has them"
    return {"at": next_one.at, "level": "warning", "event": text, "account": next_one.account, "kind": "dropped",
            "engine": "idle", "data": {"count": count}}  # fmt: skip
