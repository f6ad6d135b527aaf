"""In a file: one line of JSON each, the newest last."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from squareoff.adapters.alerts.alert import Alert, NotDelivered, as_json

FILE_NAME = "alerts.jsonl"
BYTES_AT_MOST = 1_000_000


class AlertLog:
    """Appends to `path` (0600). When that would pass `bytes_at_most`, the file becomes `<path>.1` and a new one begins,
    so never more than two of them exist. Several processes may share one: a line is written whole or not at all.
    """

    name, is_remote = "log", False

    def __init__(self, path: Path, *, bytes_at_most: int = BYTES_AT_MOST) -> None:
        self._path, self._bytes_at_most = path, bytes_at_most

    def send(self, alert: Alert) -> None:
        line = json.dumps(as_json(alert)).encode() + b"\n"
        try:
            with _locked(self._path, room_for=self._bytes_at_most - len(line)) as fd:
                _append(fd, line)
        except OSError as error:
            why = f"{self._path} cannot be written: {error.strerror or 'unknown'}"
            raise NotDelivered(why, mend="make room on the disk, or mend the rights of the folder") from None


@contextmanager
def _locked(path: Path, *, room_for: int) -> Iterator[int]:
    """The file that has the name now, locked, and short enough."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if not _has_the_name(fd, path):  # another process began a new file meanwhile
                continue
            size = os.fstat(fd).st_size
            if size and size > room_for:
                os.replace(path, previous(path))
                continue
            yield fd
            return
        finally:
            os.close(fd)  # unlocks


def _has_the_name(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _append(fd: int, line: bytes) -> None:
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        line = b"\n" + line  # the machine went down in the middle of the line before
    written = -1
    try:
        written = os.write(fd, line)
    finally:
        if written != len(line):
            os.ftruncate(fd, size)  # a full disk: half a line would spoil the next one too
    if written != len(line):
        raise OSError(None, "no room for the line")


def previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def read_log(path: Path, newest: int) -> list[dict[str, Any]]:
    """The newest alerts, oldest of them first, as `as_json` wrote them. Damaged lines are left out.

    Raises OSError if a file is there and cannot be read."""
    lines: list[bytes] = []
    for file in (previous(path), path):
        if file.exists():
            lines += file.read_bytes().splitlines()
    return [told for line in lines if (told := _told(line)) is not None][-newest:]


def _told(line: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) and {"at", "severity", "headline", "text"} <= told.keys() else None
