"""Addresses that are passwords: who knows the URL of a chat bot may write in its name."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,15})://")


class SecretUrl:
    """A URL that shows only its scheme and host, however it is printed. `reveal` is for the wire alone.

    `has_host` False: not even the host is shown, since in `tgram://TOKEN/CHAT` and its like the token stands there.
    """

    __slots__ = ("_has_host", "_url")

    def __init__(self, url: str, *, has_host: bool = True) -> None:
        self._url, self._has_host = url, has_host

    def reveal(self) -> str:
        return self._url

    def __str__(self) -> str:
        scheme = scheme_of(self._url) or "?"
        return f"{scheme}://{self._place()}…"

    def _place(self) -> str:
        parts = split(self._url) if self._has_host else None
        if parts is None or not parts.hostname:
            return ""
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.hostname}{port}/"

    def __repr__(self) -> str:
        return f"SecretUrl({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretUrl) and other._url == self._url

    def __hash__(self) -> int:
        return hash(self._url)


def scheme_of(url: str) -> str | None:
    """In small letters; None if it does not begin like a URL."""
    found = _SCHEME.match(url)
    return found[1].lower() if found else None


def split(url: str) -> SplitResult | None:
    """None if it cannot be read; Python's own message would repeat a part of it."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is no number
    except ValueError:
        return None
    return parts
