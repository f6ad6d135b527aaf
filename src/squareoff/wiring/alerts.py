"""The part of wiring that picks the channels of alerts: from `alerts.toml` to what a worker or a command uses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squareoff.core.bad_input import BadInput
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.types import AccountId
from squareoff.ports import Alerts, Severity

if TYPE_CHECKING:
    from squareoff.adapters.alerts.alert import Alert
    from squareoff.adapters.alerts.from_settings import Planned
    from squareoff.adapters.alerts.heartbeat import Heartbeat
    from squareoff.adapters.alerts.relay import AlertRelay
    from squareoff.adapters.alerts.settings import AlertSettings

TEST_TIMEOUT_S = 20.0
"""A channel that has not taken a test alert by then does not work, whatever its own timeouts say."""


# ------------------------------------------------------------------ for a worker


def open_alerts(
    folder: Path, *, now: Callable[[], datetime] | None = None, account: AccountId = DEFAULT_ACCOUNT
) -> AlertRelay:
    """Every channel that `folder`/alerts.toml names and that can be used, with their threads running.

    Never refuses: with shares in hand a worker must start whatever this file says. What cannot be used is told as
    URGENT by what can. `now` gives the time that alerts bear; None: this machine's. Alerts of another account than the
    first one say whose they are.
    """
    from squareoff.adapters.alerts.alert import Channel
    from squareoff.adapters.alerts.from_settings import ChannelUnusable, others, terminal
    from squareoff.adapters.alerts.relay import AlertRelay, Route

    settings, complaints = _settings_or_why_not(folder)
    routes: list[Route] = []
    for planned in others(settings, folder):
        try:
            channel: Channel = planned.make()
        except ChannelUnusable as error:
            complaints.append(str(error))
        else:
            routes.append(Route(channel=channel, minimum=planned.minimum))
    on_terminal = terminal(settings)
    relay = AlertRelay(
        routes,
        terminal=Route(channel=on_terminal.make(), minimum=on_terminal.minimum),
        now=now,
        prefix="" if account == DEFAULT_ACCOUNT else f"[{account}] ",
    )
    for complaint in complaints:
        relay.tell(Severity.URGENT, "some alerts will not reach you", f"{complaint}. Then start squareoff again")
    for warning in settings.warnings:
        relay.tell(Severity.WARNING, "alerts.toml can be read by others", warning)
    return relay


def open_heartbeat(folder: Path, alerts: Alerts, *, account: AccountId = DEFAULT_ACCOUNT) -> Heartbeat:
    """Each account has a file of its own; the URL is the first one's.

    As `folder`/alerts.toml says, with its threads running; only the file if the settings are wrong."""
    from squareoff.adapters.alerts.heartbeat import FILE_NAME, Heartbeat

    settings = _settings_or_why_not(folder)[0].heartbeat
    if account != DEFAULT_ACCOUNT:  # a sign of life of one must not hide the death of another
        return Heartbeat(folder / f"heartbeat-{account}.json", every_s=settings.every_s, alerts=alerts)
    return Heartbeat(folder / FILE_NAME, url=settings.url, every_s=settings.every_s, alerts=alerts)


def _settings_or_why_not(folder: Path) -> tuple[AlertSettings, list[str]]:
    from squareoff.adapters.alerts.settings import AlertSettings, load_settings

    try:
        return load_settings(folder), []
    except BadInput as error:
        return AlertSettings(), [f"{error}. Until that is mended they go to the terminal and the log alone"]


# ------------------------------------------------------------------ for the command line


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What became of a test alert. `reason` None: delivered."""

    channel: str
    reason: str | None


def alert_settings(folder: Path) -> AlertSettings:
    """Raises BadInput, in which nothing secret stands."""
    from squareoff.adapters.alerts.settings import load_settings

    return load_settings(folder)


def alert_channels(settings: AlertSettings, folder: Path) -> list[Planned]:
    from squareoff.adapters.alerts.from_settings import others, terminal

    return [terminal(settings), *others(settings, folder)]


def send_test_alerts(settings: AlertSettings, folder: Path, *, timeout_s: float = TEST_TIMEOUT_S) -> Iterator[Sent]:
    """One test alert through each channel, one after the other, whatever its minimum."""
    from squareoff.adapters.alerts.alert import Alert

    alert = Alert(
        at=datetime.now(UTC),
        severity=Severity.INFO,
        headline="this is a test of squareoff's alerts",
        text="If you read this, alerts reach you here. Nothing has happened",
    )
    for planned in alert_channels(settings, folder):
        yield Sent(channel=planned.name, reason=_why_not(planned, alert, timeout_s))


def _why_not(planned: Planned, alert: Alert, timeout_s: float) -> str | None:
    """In a thread of its own, which is left behind if it hangs."""
    from squareoff.errors import SquareoffError

    reasons: list[str | None] = []

    def work() -> None:
        try:
            planned.make().send(alert)
        except SquareoffError as error:
            reasons.append(str(error))
        except Exception as fault:  # its words may hold an address
            reasons.append(f"a fault of squareoff in this channel ({type(fault).__name__})")
        else:
            reasons.append(None)

    thread = threading.Thread(target=work, name="alerts test", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return reasons[0] if reasons else f"no answer within {timeout_s:g} s"


def last_alerts(folder: Path, newest: int) -> list[dict[str, Any]]:
    """From the log file, oldest first. Raises BadInput if it cannot be read."""
    from squareoff.adapters.alerts.log import FILE_NAME, read_log

    try:
        return read_log(folder / FILE_NAME, newest)
    except OSError as error:
        raise BadInput("log", f"{folder / FILE_NAME} cannot be read: {error.strerror or 'unknown'}") from error
