"""From settings to channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from squareoff.adapters.alerts.alert import Channel
from squareoff.adapters.alerts.apprise_channel import AppriseChannel, ChannelUnusable
from squareoff.adapters.alerts.log import FILE_NAME as LOG_NAME
from squareoff.adapters.alerts.log import AlertLog
from squareoff.adapters.alerts.settings import AlertSettings
from squareoff.adapters.alerts.terminal import TerminalAlerts
from squareoff.adapters.alerts.webhook import Webhook
from squareoff.ports import Severity


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """A channel that the settings name, not made yet. `make` raises ChannelUnusable."""

    name: str
    minimum: Severity
    make: Callable[[], Channel]


def terminal(settings: AlertSettings) -> Planned:
    return Planned(name="terminal", minimum=settings.terminal, make=TerminalAlerts)


def others(settings: AlertSettings, folder: Path) -> list[Planned]:
    """All but the terminal, in the order of the file; the log of the data folder `folder` first."""
    return [
        Planned(name="log", minimum=settings.log, make=partial(AlertLog, folder / LOG_NAME)),
        *(
            Planned(name=f"webhook {w.url}", minimum=w.minimum, make=partial(Webhook, w.url, headers=w.headers))
            for w in settings.webhooks
        ),
        *(
            Planned(name=f"apprise {a.url}", minimum=a.minimum, make=partial(AppriseChannel, a.url))
            for a in settings.apprise
        ),
    ]


__all__ = ["ChannelUnusable", "Planned", "others", "terminal"]
