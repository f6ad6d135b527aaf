"""Alerts that are only kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from squareoff.core.types import RunId
from squareoff.ports import Severity


class Alert(NamedTuple):
    severity: Severity
    headline: str
    text: str
    run_id: RunId | None


@dataclass
class MemoryAlerts:
    """`ports.Alerts`; `told` holds the newest thousand, oldest first."""

    told: list[Alert] = field(default_factory=list)

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None:
        self.told.append(Alert(severity, headline, text, run_id))
        del self.told[:-1000]
