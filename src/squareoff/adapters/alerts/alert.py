"""One alert, and what a channel that carries it promises."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from squareoff.core.types import RunId
from squareoff.errors import SquareoffError
from squareoff.ports import Severity

RANK = {Severity.INFO: 0, Severity.WARNING: 1, Severity.URGENT: 2}

LONGEST_HEADLINE, LONGEST_TEXT = 300, 4000
"""Letters: a broker's reply may be long, and a queue of a thousand alerts is to stay small."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """`at` is aware. `run_id` None: not about one run. `stands_for`: how many were told that this one carries."""

    at: datetime
    severity: Severity
    headline: str
    text: str
    run_id: RunId | None = None
    stands_for: int = 1

    def standing_for(self, others: int) -> Alert:
        """This alert in place of `others` more that say the same."""
        if not others:
            return self
        return replace(self, headline=f"{self.headline} (and {others} more)", stands_for=1 + others)


def clipped(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def as_json(alert: Alert) -> dict[str, Any]:
    """As the log file and webhooks have it; `at` in UTC, `run_id` a number or null."""
    return {
        "at": alert.at.isoformat(timespec="milliseconds"),
        "severity": str(alert.severity),
        "headline": alert.headline,
        "text": alert.text,
        "run_id": alert.run_id,
    }


def printable(text: str) -> str:
    """One line that no terminal takes for a command: a broker's words may hold anything."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def one_line(alert: Alert) -> str:
    which = f" (run {alert.run_id})" if alert.run_id is not None else ""
    return printable(f"{alert.severity.upper()}: {alert.headline}. {alert.text}{which}")


class NotDelivered(SquareoffError):
    """A channel could not carry an alert. The message never holds an address, a token or an answer of the other side.

    `may_pass`: the same alert may get through a little later. `mend`: what a person can do.
    """

    def __init__(self, reason: str, *, mend: str = "", may_pass: bool = False) -> None:
        self.reason, self.mend, self.may_pass = reason, mend, may_pass
        super().__init__(f"{reason}; {mend}" if mend else reason)


class Channel(Protocol):
    """One way to a person."""

    @property
    def name(self) -> str:
        """For people; without anything secret."""

    @property
    def is_remote(self) -> bool:
        """Whether it leaves this machine: then repetitions are folded and failures tried again."""

    def send(self, alert: Alert) -> None:
        """Carry one alert. May block for as long as its own timeouts say, so it is called in a thread of its own.

        Raises NotDelivered."""
