"""A real web server on 127.0.0.1 that keeps what it was sent and answers as the path says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Web:
    """`/hang...` answers after `release`; `/404...` with that status; `/moved...` leads to `/ok`; others with 200.
    `answers` are statuses for the next requests, whatever their path."""

    port: int = 0
    got: list[Request] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def release(self) -> None:
        self.released.set()

    @property
    def headlines(self) -> list[str]:
        return [request.json["headline"] for request in self.got]


@contextmanager
def serving() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            web.got.append(Request(self.command, self.path, dict(self.headers), body))
            status = web.answers.pop(0) if web.answers else 200
            first = self.path.strip("/").partition("/")[0]
            if first == "hang":
                web.released.wait(30)
            elif first.isdigit():
                status = int(first)
            elif first == "moved":
                status = 302
            try:
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", web.url("/ok"))
                self.send_header("Content-Length", "0")
                self.end_headers()
            except OSError:  # who asked has not waited
                pass

        do_GET = do_POST

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.port = server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        web.release()
        server.shutdown()
        server.server_close()
        thread.join(5)


def until(true: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait for other threads; fails if it does not come true."""
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s, "it did not come true"
        time.sleep(0.005)
