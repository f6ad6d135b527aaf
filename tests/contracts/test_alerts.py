"""What every Alerts promises: it never blocks and never raises, and says it to somebody."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.web import serving

from squareoff.adapters.alerts import TerminalAlerts
from squareoff.adapters.alerts.log import AlertLog, read_log
from squareoff.adapters.alerts.relay import AlertRelay, Route
from squareoff.adapters.alerts.secret import SecretUrl
from squareoff.adapters.alerts.webhook import Webhook
from squareoff.adapters.memory.alerts import Alert, MemoryAlerts
from squareoff.core.types import RunId
from squareoff.ports import Alerts, Severity


@dataclass
class Case:
    alerts: Alerts
    told: Callable[[], str]
    """What a person has got so far."""


def terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    yield Case(TerminalAlerts(), lambda: capsys.readouterr().err)


def memory(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    alerts = MemoryAlerts()
    yield Case(alerts, lambda: str(alerts.told))


def relay_to_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    relay = AlertRelay([])
    yield Case(relay, lambda: capsys.readouterr().err if relay.flush(10) else "")
    relay.close(1)


def relay_to_a_log(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    relay = AlertRelay([Route(channel=AlertLog(folder / "log"))])
    yield Case(relay, lambda: str(read_log(folder / "log", 5000)) if relay.flush(10) else "")
    relay.close(1)


def relay_to_the_web(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    with serving() as web:
        relay = AlertRelay([Route(channel=Webhook(SecretUrl(web.url("/ok"))))])
        yield Case(relay, lambda: str([request.json for request in web.got]) if relay.flush(10) else "")
        relay.close(1)


def relay_that_hangs(folder: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    with serving() as web:
        relay = AlertRelay([Route(channel=Webhook(SecretUrl(web.url("/hang"))))])

        def told() -> str:
            relay.flush(0.2)
            return capsys.readouterr().err

        yield Case(relay, told)
        relay.close(0.1)


@pytest.fixture(
    params=[terminal, memory, relay_to_the_terminal, relay_to_a_log, relay_to_the_web, relay_that_hangs],
    ids=lambda kind: kind.__name__,
)
def case(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    yield from request.param(tmp_path, capsys)


def test_what_is_told_reaches_somebody_with_its_run(case: Case) -> None:
    case.alerts.tell(Severity.URGENT, "the exit is not confirmed", "you may hold 50", run_id=RunId(7))
    told = case.told()
    assert "the exit is not confirmed" in told
    assert "you may hold 50" in told
    assert "7" in told


@pytest.mark.parametrize("severity", Severity)
def test_any_severity_and_any_text_is_taken(case: Case, severity: Severity) -> None:
    case.alerts.tell(severity, "", "")
    case.alerts.tell(severity, "\x1b[2J half \ud83d ₹", "x" * 100_000)
    case.alerts.tell(severity, "last", "text")
    assert "last" in case.told()


def test_telling_never_takes_long(case: Case) -> None:
    longest_s = 0.0
    for number in range(300):
        start_s = time.perf_counter()
        case.alerts.tell(Severity.WARNING, f"alert {number}", "text")
        longest_s = max(longest_s, time.perf_counter() - start_s)
    assert longest_s < 0.1  # generous: other tests share the machine
    assert "alert 299" in case.told()


def test_a_terminal_that_is_gone_stops_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = io.StringIO()
    gone.close()
    monkeypatch.setattr(sys, "stderr", gone)
    case.alerts.tell(Severity.WARNING, "headline", "text")
    case.told()
    monkeypatch.setattr(sys, "stderr", None)  # as Python without a console has it
    case.alerts.tell(Severity.WARNING, "headline", "text")
    case.told()


def test_the_terminal_says_how_bad_it_is_and_which_run(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalAlerts().tell(Severity.URGENT, "NSE:INFY: the exit is not confirmed", "you may hold 50", run_id=RunId(7))
    assert capsys.readouterr().err == "URGENT: NSE:INFY: the exit is not confirmed. you may hold 50 (run 7)\n"


def test_the_terminal_takes_no_commands_from_the_words_of_a_broker(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalAlerts().tell(Severity.WARNING, "refused", "\x1b[2Jno\nURGENT: made up")
    assert capsys.readouterr().err == "WARNING: refused.  [2Jno URGENT: made up\n"


def test_alerts_in_memory_keep_the_newest() -> None:
    alerts = MemoryAlerts()
    for number in range(1001):
        alerts.tell(Severity.INFO, str(number), "")
    assert (len(alerts.told), alerts.told[-1]) == (1000, Alert(Severity.INFO, "1000", "", None))
