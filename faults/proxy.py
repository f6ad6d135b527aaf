"""Stand-in until the real one lands."""

from __future__ import annotations


class Proxy:
    def __init__(self, target: object) -> None:
        self.port = 0

    def start(self) -> None: ...
    def stop(self) -> None: ...
