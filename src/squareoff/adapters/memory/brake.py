"""The kill switch of an account in memory."""

from __future__ import annotations

from datetime import datetime

from squareoff.core.limits import Level


class MemoryBrake:
    """`ports.Brake` for tests and simulation."""

    def __init__(self) -> None:
        self._level, self._told = Level.NORMAL, ""

    def level(self) -> Level:
        return self._level

    def told(self) -> str:
        return self._told

    def press(self, level: Level, *, reason: str, by: str, at: datetime) -> None:
        self._level, self._told = level, f"{reason} (by {by})"
