"""Telegram, e-mail and a hundred more, through apprise (https://github.com/caronc/apprise, read 2026-11-23: 2.2.0).

It is an optional extra, so it is imported when a channel is made: at the start of a process, not at the first alert.
"""

from __future__ import annotations

import inspect
import logging
import re
import threading
from typing import Any

from squareoff.adapters.alerts.alert import Alert, NotDelivered
from squareoff.adapters.alerts.secret import SecretUrl
from squareoff.errors import SquareoffError
from squareoff.ports import Severity

_KIND = {Severity.INFO: "INFO", Severity.WARNING: "WARNING", Severity.URGENT: "FAILURE"}
_STATUS = re.compile(r"\berror=(\d{3})\b")


class ChannelUnusable(SquareoffError):
    """A channel that cannot even be made; the message says what to mend and holds nothing secret."""


class AppriseChannel:
    """One service. apprise waits 4 s for the connection and 4 s for the answer; `?cto=` and `?rto=` in the URL change
    that. Raises ChannelUnusable if apprise is not installed or does not take the URL.
    """

    is_remote = True

    def __init__(self, url: SecretUrl) -> None:
        try:
            import apprise
        except ImportError:
            raise ChannelUnusable(
                "the package apprise is not installed; pip install 'squareoff[alerts]'",
            ) from None
        _silence()
        self._url = url
        self._kinds = {severity: getattr(apprise.NotifyType, kind) for severity, kind in _KIND.items()}
        self._text = apprise.NotifyFormat.TEXT
        self._service = apprise.Apprise(asset=_in_our_thread(apprise.AppriseAsset))
        if not _takes(self._service, url):
            raise ChannelUnusable(f"apprise does not take the url {url}; see https://appriseit.com/services/")

    @property
    def name(self) -> str:
        return f"apprise {self._url}"

    def send(self, alert: Alert) -> None:
        _heard.status = None
        body = _sayable(alert.text if alert.run_id is None else f"{alert.text} (run {alert.run_id})")
        title = _sayable(f"{alert.severity.upper()}: {alert.headline}")
        try:
            delivered = self._service.notify(
                body=body or title, title=title, notify_type=self._kinds[alert.severity], body_format=self._text
            )
        except Exception as error:  # of a hundred services, any may raise anything, and repeat a token in it
            raise NotDelivered(f"the service failed ({type(error).__name__})", mend=_LOOK) from None
        if not delivered:
            raise _failed(_heard.status)


def _in_our_thread(asset: Any) -> Any:
    """With a time limit, apprise 2 sends in a pool of threads which the end of the process waits for: a chat that
    hangs would hold up the worker's stop. Without one it sends in the thread that asks, as apprise 1 does."""
    return asset(service_timeout=0) if "service_timeout" in inspect.signature(asset).parameters else asset()


def _takes(service: Any, url: SecretUrl) -> bool:
    try:
        return bool(service.add(url.reveal()))
    except Exception:  # its words may repeat the URL
        return False


_LOOK = "look at the url in alerts.toml, then run `squareoff alerts test`"


def _failed(status: int | None) -> NotDelivered:
    if status is None:
        return NotDelivered("the service could not be reached, or refused", mend=_LOOK, may_pass=True)
    may_pass = status == 429 or status >= 500
    return NotDelivered(f"the service answered {status}", mend="" if may_pass else _LOOK, may_pass=may_pass)


def _sayable(text: str) -> str:
    """Half letters, which a broker's reply may hold, cannot be sent."""
    return text.encode("utf-8", "replace").decode("utf-8")


# ------------------------------------------------------------------ what apprise logs


class _Heard(threading.local):
    status: int | None = None


_heard = _Heard()


class _Listen(logging.Handler):
    """Takes the HTTP status out of what apprise logs and lets the rest go: it may name hosts, users and tokens."""

    def emit(self, record: logging.LogRecord) -> None:
        found = _STATUS.search(record.getMessage())
        if found:
            _heard.status = int(found[1])


def _silence() -> None:
    """Without a handler Python would print warnings of apprise on the terminal, with the URL in them."""
    logger = logging.getLogger("apprise")
    if not any(isinstance(handler, _Listen) for handler in logger.handlers):
        logger.addHandler(_Listen())
    logger.propagate = False
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it is for apprise alone here, and logs paths
