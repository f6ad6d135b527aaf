"""On the terminal of the process, one line each."""

from __future__ import annotations

import contextlib
import sys
from datetime import UTC, datetime

from squareoff.adapters.alerts.alert import Alert, NotDelivered, one_line
from squareoff.core.types import RunId
from squareoff.ports import Severity

_ANY_TIME = datetime.fromtimestamp(0, UTC)


class TerminalAlerts:
    """Writes to standard error. The journal has every alert as well, so a closed terminal loses nothing.

    `tell` writes in the caller's thread: a pipe that nobody empties would hold it up. A worker tells through
    `AlertRelay`, which has a thread for that.
    """

    name, is_remote = "terminal", False

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None:
        with contextlib.suppress(NotDelivered):  # a terminal that is gone must not stop an exit
            self.send(Alert(at=_ANY_TIME, severity=severity, headline=headline, text=text, run_id=run_id))

    def send(self, alert: Alert) -> None:
        try:
            sys.stderr.write(f"{one_line(alert)}\n")
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):  # closed, or there never was one
            raise NotDelivered("the terminal is gone") from None
