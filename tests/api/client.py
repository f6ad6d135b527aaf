"""A browser without a screen: cookie, CSRF token, events."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

API = "/api/v1"


@dataclass(kw_only=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def error(self) -> Any:
        return self.json["error"]


@dataclass(kw_only=True)
class Browser:
    """`port` of the API on this machine. `token`: instead of a cookie."""

    port: int
    cookie: str = ""
    csrf: str = ""
    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        told = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        if self.cookie:
            told.setdefault("Cookie", self.cookie)
            told.setdefault("X-CSRF-Token", self.csrf)
        if self.token:
            told.setdefault("Authorization", f"Bearer {self.token}")
        content = None
        if body is not None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            told.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path if path.startswith("/") else f"{API}/{path}", content, told)
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        answer = Answer(status=response.status, headers=response.headers, text=text)
        if set_cookie := response.headers.get("Set-Cookie"):
            self.cookie = set_cookie.partition(";")[0]
        return answer

    def sign_in(self, **who: str) -> Answer:
        answer = self("POST", "session", who)
        if answer.status == 201:
            self.csrf = answer.json["csrf"]
        return answer

    def get(self, path: str) -> Any:
        answer = self("GET", path)
        assert answer.status == 200, answer.text
        return answer.json

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        answer = self("POST", path, {} if body is None else body, **headers)
        assert answer.status in (200, 201, 202), answer.text
        return answer.json

    def events(self, last_id: str = "") -> Events:
        return Events(self, last_id)


class Events:
    """The stream, read by a thread of its own. `document` is kept as the console keeps it."""

    def __init__(self, browser: Browser, last_id: str) -> None:
        self.document: dict[str, Any] = {}
        self.seen: list[tuple[str, str, Any]] = []
        self._is_closed = False
        self._connection = http.client.HTTPConnection("127.0.0.1", browser.port, timeout=30)
        headers = {"Cookie": browser.cookie} if browser.cookie else {"Authorization": f"Bearer {browser.token}"}
        if last_id:
            headers["Last-Event-ID"] = last_id
        self._connection.request("GET", f"{API}/events", headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for id_, event, data in self._lines():
                if self._is_closed:
                    return
                self.seen.append((id_, event, data))
                if event == "today":
                    self.document = data
                elif event == "patch":
                    self._merge(data)
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            return  # closed, by them or by us

    def _lines(self) -> Iterator[tuple[str, str, Any]]:
        part: dict[str, str] = {}
        while line := self._response.readline():
            text = line.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(": ")
                part[name] = value
            elif part:
                if "data" in part:
                    yield part.get("id", ""), part.get("event", ""), json.loads(part["data"])
                part = {}

    def _merge(self, patch: dict[str, Any]) -> None:
        document = dict(self.document)
        for key, value in patch.items():
            if key == "rows":
                rows = dict(document.get("rows", {}))
                for id_, row in value.items():
                    if row is None:
                        rows.pop(id_, None)
                    else:
                        rows[id_] = {**rows.get(id_, {}), **row}
                document["rows"] = rows
            else:
                document[key] = value
        self.document = document

    def until(self, is_so: Callable[[dict[str, Any]], bool], within_s: float = 20) -> dict[str, Any]:
        end_s = time.monotonic() + within_s
        while not (self.document and is_so(self.document)):
            assert time.monotonic() < end_s, f"not within {within_s} s: {json.dumps(self.document)[:1500]}"
            time.sleep(0.02)
        return self.document

    def row(self, name: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = [row for row in self.document.get("rows", {}).values() if row["name"] == name]
        return rows[0] if rows else {}

    def close(self) -> None:
        self._is_closed = True  # a beat wakes the reader within a second
        self._thread.join(5)
        self._response.close()
        self._connection.close()
