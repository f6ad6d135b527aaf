"""`alerts.toml` in the data folder: where alerts go. Nothing secret of it ever gets into a message."""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squareoff.adapters.alerts.secret import SecretUrl, scheme_of, split
from squareoff.core.bad_input import BadInput
from squareoff.ports import Severity

FILE_NAME = "alerts.toml"

_MINIMUM = f"write one of {', '.join(f'{s.value!r}' for s in Severity)}".replace("'", '"')
_FIELDS: dict[str, tuple[str, ...]] = {
    "terminal": ("minimum",),
    "log": ("minimum",),
    "webhook": ("url", "minimum", "headers"),
    "apprise": ("url", "minimum"),
    "heartbeat": ("url", "every_s"),
}
_LISTS = ("webhook", "apprise")
_SHORTEST_S, _LONGEST_S = 5, 3600
_PLACE_IN_TOML = re.compile(r"\(at (line \d+, column \d+|end of document)\)$")
_WORD = re.compile(r"[A-Za-z_]{1,20}", re.ASCII)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,60}", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,4000}", re.ASCII)
_ALSO_FOR_OTHERS = stat.S_IRGRP | stat.S_IWGRP | stat.S_IROTH | stat.S_IWOTH


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookSettings:
    url: SecretUrl
    minimum: Severity = Severity.INFO
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppriseSettings:
    url: SecretUrl
    minimum: Severity = Severity.INFO


@dataclass(frozen=True, kw_only=True, slots=True)
class HeartbeatSettings:
    """`url` None: only the file. `every_s`: seconds between two signs of life to the URL."""

    url: SecretUrl | None = None
    every_s: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class AlertSettings:
    """What the file says; without a file: everything on the terminal and in the log."""

    terminal: Severity = Severity.INFO
    log: Severity = Severity.INFO
    webhooks: tuple[WebhookSettings, ...] = ()
    apprise: tuple[AppriseSettings, ...] = ()
    heartbeat: HeartbeatSettings = HeartbeatSettings()
    warnings: tuple[str, ...] = ()
    """What a person should mend though it works."""


def load_settings(folder: Path) -> AlertSettings:
    """The settings in the data folder. Raises BadInput, which names the field and what would be right."""
    path = folder / FILE_NAME
    text = _text(path)
    if text is None:
        return AlertSettings()
    return parse_settings(text, warnings=_too_open(path))


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise BadInput(FILE_NAME, "is not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise BadInput(FILE_NAME, f"cannot be read: {error.strerror or 'unknown'}", f"look at {path}") from None


def _too_open(path: Path) -> tuple[str, ...]:
    if path.stat().st_mode & _ALSO_FOR_OTHERS:
        return (f"others on this machine can read {path}, and the tokens in it; run: chmod 600 {path}",)
    return ()


def parse_settings(text: str, *, warnings: tuple[str, ...] = ()) -> AlertSettings:
    """Raises BadInput."""
    top = _parsed(text)
    for name in top:
        if name not in _FIELDS:
            raise BadInput(FILE_NAME, f"{_named(name)} is not known", f"there are {_these(list(_FIELDS))}")
    return AlertSettings(
        terminal=_minimum(_table(top, "terminal"), "terminal"),
        log=_minimum(_table(top, "log"), "log"),
        webhooks=tuple(_webhook(table, where) for table, where in _tables(top, "webhook")),
        apprise=tuple(_apprise(table, where) for table, where in _tables(top, "apprise")),
        heartbeat=_heartbeat(_table(top, "heartbeat")),
        warnings=warnings,
    )


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except ValueError as error:  # of its words only the place: they may repeat what stands there
        found = _PLACE_IN_TOML.search(str(error))
        where = f" ({found[1]})" if found else ""
    except RecursionError:
        where = ""
    raise BadInput(FILE_NAME, f"is not valid TOML{where}", "see `squareoff alerts --help` for an example")


def _named(name: str) -> str:
    """A key as far as it is a word: somebody may have written a URL where a name belongs."""
    return repr(name) if _WORD.fullmatch(name) else "a name in it"


def _these(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


def _table(top: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = top.get(name, {})
    if not isinstance(table, dict):
        raise BadInput(f"{FILE_NAME}, {name}", "is not a table", f"write [{name}] and its fields below")
    return _known(table, name, name)


def _tables(top: Mapping[str, Any], name: str) -> list[tuple[Mapping[str, Any], str]]:
    tables = top.get(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BadInput(f"{FILE_NAME}, {name}", "is not a list", f"write [[{name}]] with double brackets")
    return [(_known(table, name, f"{name} {n}"), f"{name} {n}") for n, table in enumerate(tables, start=1)]


def _known(table: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    for key in table:
        if key not in _FIELDS[name]:
            raise BadInput(f"{FILE_NAME}, {where}", f"{_named(key)} is not known", f"it has {_these(_FIELDS[name])}")
    return table


def _minimum(table: Mapping[str, Any], where: str) -> Severity:
    given = table.get("minimum", Severity.INFO.value)
    if not isinstance(given, str) or given not in {severity.value for severity in Severity}:
        raise BadInput(f"{FILE_NAME}, {where}: minimum", f"{_shown(given)} is not a severity", _MINIMUM)
    return Severity(given)


def _shown(given: object) -> str:
    return repr(given) if isinstance(given, str) and _WORD.fullmatch(given) else "what stands there"


def _url(table: Mapping[str, Any], where: str, *, right: str) -> str:
    if "url" not in table:
        raise BadInput(f"{FILE_NAME}, {where}: url", "is missing", right)
    url = table["url"]
    if not isinstance(url, str) or scheme_of(url) is None or not url.isprintable() or " " in url:
        raise BadInput(f"{FILE_NAME}, {where}: url", "is not a URL", right)
    return url


def _http_url(table: Mapping[str, Any], where: str) -> SecretUrl:
    right = 'write it like "https://example.org/alerts"'
    url = _url(table, where, right=right)
    parts = split(url)
    if scheme_of(url) not in ("http", "https"):
        raise BadInput(f"{FILE_NAME}, {where}: url", "does not begin with https:// or http://", right)
    if parts is None or not parts.hostname or not url.isascii():
        raise BadInput(f"{FILE_NAME}, {where}: url", "has no host, or letters that a URL cannot have", right)
    if "@" in parts.netloc:
        wrong = "has a user or password before the host"
        raise BadInput(f"{FILE_NAME}, {where}: url", wrong, 'for a webhook write headers = { Authorization = "..." }')
    return SecretUrl(url)


def _webhook(table: Mapping[str, Any], where: str) -> WebhookSettings:
    url = _http_url(table, where)
    return WebhookSettings(url=url, minimum=_minimum(table, where), headers=_headers(table, where))


def _headers(table: Mapping[str, Any], where: str) -> Mapping[str, str]:
    headers = table.get("headers", {})
    right = 'write headers = { Authorization = "Bearer TOKEN" }'
    if not isinstance(headers, dict):
        raise BadInput(f"{FILE_NAME}, {where}: headers", "is not a table", right)
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
            raise BadInput(f"{FILE_NAME}, {where}: headers", "a header is not one line of plain letters", right)
    return headers


def _apprise(table: Mapping[str, Any], where: str) -> AppriseSettings:
    right = 'write it like "tgram://BOT_TOKEN/CHAT_ID", see https://appriseit.com/services/'
    url = _url(table, where, right=right)
    return AppriseSettings(url=SecretUrl(url, has_host=False), minimum=_minimum(table, where))


def _heartbeat(table: Mapping[str, Any]) -> HeartbeatSettings:
    every_s = table.get("every_s", 60)
    is_number = isinstance(every_s, int | float) and not isinstance(every_s, bool)
    if not is_number or not _SHORTEST_S <= every_s <= _LONGEST_S:
        right = f"write seconds from {_SHORTEST_S} to {_LONGEST_S}, such as 60"
        raise BadInput(f"{FILE_NAME}, heartbeat: every_s", "is not a time it can keep", right)
    url = _http_url(table, "heartbeat") if "url" in table else None
    return HeartbeatSettings(url=url, every_s=float(every_s))
