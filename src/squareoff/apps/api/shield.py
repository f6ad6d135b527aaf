"""What every request meets first: whom it is for, where it comes from, how big it is; and the headers of every answer.

A page of somebody else in the same browser can send requests to this machine. `Host` keeps out names that were pointed
here (DNS rebinding), `Origin` and `Sec-Fetch-Site` keep out other pages, the session's cookie is SameSite=Strict, and
what changes anything by cookie needs the CSRF token that only our own page can read.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from squareoff.apps.api.problems import ProblemBody

MOST_BYTES = 1_000_000
MOST_BYTES_OF_REPLAY = 20_000_000
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

CSP = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=()",
}


class Shield:
    """`hosts`: the values of `Host` that are ours, such as 127.0.0.1:8737; `new_id` draws a request's id."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str], new_id: Iterable[str]) -> None:
        self._app, self._hosts, self._ids = app, frozenset(host.lower() for host in hosts), iter(new_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["request_id"] = request_id = next(self._ids)
        headers = Headers(scope=scope)
        limit = MOST_BYTES_OF_REPLAY if scope["path"].endswith("/replays") else MOST_BYTES

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    told.setdefault(name, value)
                told.setdefault("Cache-Control", "no-store")
                told["X-Request-Id"] = request_id
            await send(message)

        if (refusal := self._refusal(scope, headers, limit)) is not None:
            await _refuse(answer, *refusal, request_id)
            return
        got = 0
        is_answered = False

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit:
                raise _TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await answer(message)

        try:
            await self._app(scope, limited, noted)
        except _TooLarge:
            if not is_answered:
                await _refuse(answer, 413, "too_large", f"more than {limit:,} bytes", request_id)

    def _refusal(self, scope: Scope, headers: Headers, limit: int) -> tuple[int, str, str] | None:
        host = headers.get("host", "").lower()
        if host not in self._hosts:
            told = "this address is not one of squareoff's own; see --allow-host of `squareoff up`"
            return 403, "forbidden", told
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit() or int(length) > limit:
            return 413, "too_large", f"more than {limit:,} bytes"
        if scope["method"] in SAFE:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host:
            return 403, "forbidden", "the request comes from a page of another origin"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "forbidden", "the request comes from a page of another site"
        return None


class _TooLarge(Exception):
    pass


async def _refuse(send: Send, status: int, code: str, message: str, request_id: str) -> None:
    body = ProblemBody(code=code, message=message, request_id=request_id).model_dump(exclude_none=True)
    content = json.dumps({"error": body}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    if status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
