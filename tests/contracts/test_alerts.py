"""What every Alerts promises: it never blocks and never raises."""

from __future__ import annotations

import io
import sys

import pytest

from squareoff.adapters.alerts import TerminalAlerts
from squareoff.adapters.memory.alerts import Alert, MemoryAlerts
from squareoff.core.types import RunId
from squareoff.ports import Severity


def test_the_terminal_says_how_bad_it_is_and_which_run(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalAlerts().tell(Severity.URGENT, "NSE:INFY: the exit is not confirmed", "you may hold 50", run_id=RunId(7))
    assert capsys.readouterr().err == "URGENT: NSE:INFY: the exit is not confirmed. you may hold 50 (run 7)\n"


def test_a_terminal_that_is_gone_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone)
    TerminalAlerts().tell(Severity.WARNING, "headline", "text")


def test_alerts_in_memory_keep_the_newest() -> None:
    alerts = MemoryAlerts()
    for number in range(1001):
        alerts.tell(Severity.INFO, str(number), "")
    assert (len(alerts.told), alerts.told[-1]) == (1000, Alert(Severity.INFO, "1000", "", None))
