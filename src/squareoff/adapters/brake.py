"""The kill switch of an account as a file, so that it can be pressed and is obeyed while SQL is down."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from squareoff.core.limits import Level
from squareoff.core.types import AccountId


class FileBrake:
    """`ports.Brake` in the folder of the account's lease and spool. No file: not pressed."""

    def __init__(self, folder: Path, account: AccountId) -> None:
        self.path = folder / f"{quote(account, safe='')}.kill"

    def level(self) -> Level:
        try:
            return Level(json.loads(self.path.read_text(encoding="utf-8"))["level"])
        except FileNotFoundError:
            return Level.NORMAL
        except (OSError, ValueError, KeyError, TypeError):
            return Level.NO_ENTRIES  # somebody pressed something: buying on it would be the wrong guess

    def told(self) -> str:
        """Who pressed it and why, for a person."""
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
            return f"{known['reason']} (by {known['by']})"
        except (OSError, ValueError, KeyError, TypeError):
            return "the kill switch's file cannot be read"

    def press(self, level: Level, *, reason: str, by: str, at: datetime) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if level is Level.NORMAL:
            self.path.unlink(missing_ok=True)
            _sync_folder(self.path.parent)
            return
        draft = self.path.with_name(f"{self.path.name}.new")
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            text = json.dumps({"level": level, "reason": reason, "by": by, "at": at.isoformat()})
            os.write(fd, text.encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(draft, self.path)
        _sync_folder(self.path.parent)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
