"""A dead-man's switch, as an outside monitor is one: it rings when nobody has called for twice the time promised."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PROMISED_S = 5.0
"""The shortest that `alerts.toml` takes."""


class Monitor:
    """`url` is what has to be called. Closed at the end."""

    def __init__(self) -> None:
        self._last_s = time.monotonic()
        self.calls = 0
        monitor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                monitor._called()
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/beat"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def _called(self) -> None:
        self._last_s = time.monotonic()
        self.calls += 1

    @property
    def rings(self) -> bool:
        return time.monotonic() - self._last_s > 2 * PROMISED_S

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
