"""Alarms a person has seen, in a file of the account: what `squareoff alerts ack` writes and the worker asks."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from squareoff.core.types import AccountId

_KEPT = 1000


class AcknowledgedFile:
    def __init__(self, folder: Path, account: AccountId) -> None:
        self.path = folder / f"{quote(account, safe='')}.seen.json"

    def has(self, key: str) -> bool:
        """False also when the file cannot be read: an alarm too many is better than one too few."""
        return key in self._read()

    def add(self, keys: Sequence[str]) -> None:
        known = [*(key for key in self._read() if key not in keys), *keys][-_KEPT:]
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.path.with_name(f"{self.path.name}.new")
        draft.write_text(json.dumps(known), encoding="utf-8")
        os.replace(draft, self.path)

    def _read(self) -> list[str]:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return [key for key in known if isinstance(key, str)] if isinstance(known, list) else []
