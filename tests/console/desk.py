"""A real `squareoff up` on the practice market, with its console, and strategies that trade within seconds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from squareoff.apps.up.supervisor import free_port
from tests.api.client import Browser

CHROMIUM_VARIABLE = "SQUAREOFF_CHROMIUM"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_ARGUMENTS = (
    "--no-sandbox",  # we run as root in CI; the only pages it opens are our own
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READY_WITHIN_S = 60.0


def chromium() -> str | None:
    """The browser of this machine; None: there is none."""
    named = os.environ.get(CHROMIUM_VARIABLE)
    return named or next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


@dataclass
class LiveDesk:
    """`squareoff up` as a user starts it."""

    data: Path
    port: int
    process: subprocess.Popen[str]
    log: Path
    api: Browser = field(init=False)

    def link(self) -> str:
        """Opens the console once."""
        return self.squareoff("link").strip()

    def squareoff(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "squareoff", "--data", str(self.data), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def now(self) -> datetime:
        return datetime.fromisoformat(self.api.get("today")["now"])

    def strategy(self, name: str, *, buy_in_s: float = 4, sell_in_s: float = 600, **fields: Any) -> dict[str, Any]:
        """Saved, not started. It buys so many trading seconds from now."""
        now = self.now()
        told = {
            "name": name,
            "symbol": "SIM:ALPHA",
            "quantity": 10,
            "buy_time": f"{now + timedelta(seconds=buy_in_s):%H:%M:%S}",
            "sell_time": f"{now + timedelta(seconds=sell_in_s):%H:%M:%S}",
            "stop_loss": "1%",
            **fields,
        }
        made: dict[str, Any] = self.api.post("strategies", told)
        return made

    def start(self, name: str, **fields: Any) -> dict[str, Any]:
        made = self.strategy(name, **fields)
        self.api.post(f"strategies/{made['id']}/start")
        return made

    def row(self, name: str) -> dict[str, Any]:
        rows = self.api.get("today")["rows"].values()
        return next((row for row in rows if row["name"] == name), {})

    def until(self, is_so: Callable[[], Any], within_s: float = 30) -> None:
        end_s = time.monotonic() + within_s
        while not is_so():
            assert time.monotonic() < end_s, f"not within {within_s} s; {self.log.read_text()[-2000:]}"
            time.sleep(0.1)

    def pids(self) -> dict[str, int]:
        import json

        told = json.loads((self.data / "run" / "up.json").read_text())
        return {name: pid for name, pid in told["processes"].items() if pid}


@contextmanager
def live_desk(data: Path, *options: str) -> Iterator[LiveDesk]:
    port, log = free_port(), data.parent / "up.log"
    command = [sys.executable, "-m", "squareoff", "--data", str(data), "up", "--market", "practice"]
    command += ["--console-port", str(port), *options]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True)
    desk = LiveDesk(data=data, port=port, process=process, log=log)
    try:
        desk.until(lambda: process.poll() is not None or "#key=" in log.read_text(), READY_WITHIN_S)
        assert process.poll() is None, log.read_text()
        desk.api = Browser(port=port)
        answer = desk.api.sign_in(key=desk.link().partition("#key=")[2])
        assert answer.status == 201, answer.text
        yield desk
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
