"""Telling a person: on the terminal of the process, one line each."""

from __future__ import annotations

import contextlib
import sys

from squareoff.core.types import RunId
from squareoff.ports import Severity


class TerminalAlerts:
    """Writes to standard error. The journal has every alert as well, so a closed terminal loses nothing."""

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None:
        which = f" (run {run_id})" if run_id is not None else ""
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone must not stop an exit
            sys.stderr.write(f"{severity.upper()}: {headline}. {text}{which}\n")
            sys.stderr.flush()
