"""`squareoff demo --web`: the demo's day in the console, as `squareoff up` would show it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from squareoff.apps.demo.script import DAY
from squareoff.apps.demo.stage import Stage, StageError
from squareoff.apps.up.supervisor import CONSOLE_NAME, CONSOLE_PORT, STATUS_NAME, FolderLock, free_port
from squareoff.config import Config
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.market import CLOCK_NAME, Market, MarketKind, save_market, write_whole

READY_WITHIN_S = 30.0
OPENED_WITHIN_S = 45.0
"""The day begins when the page is open, or after this time."""


class DemoConsole:
    """The console of a stage: a process of its own, and what it reads of the folder's processes."""

    def __init__(self, stage: Stage) -> None:
        from squareoff import wiring

        self._stage, self._config = stage, Config(data=stage.folder)
        self._lock = FolderLock(self._config)
        run = self._config.run_folder
        self._ready = run / CONSOLE_NAME
        market = Market(kind=MarketKind.FILE, speed=1.0, source=stage.folder / "tape.csv", days=(DAY,),
                        boot=wiring.this_boot())  # fmt: skip
        save_market(run, market)
        self.tell_clock()
        self._port = free_port(CONSOLE_PORT)
        with (stage.folder / "console.log").open("ab") as log:
            command = [sys.executable, "-m", "squareoff.apps.api", "--data", str(stage.folder)]
            command += ["--port", str(self._port), "--ready", str(self._ready)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.tell()

    def tell_clock(self) -> None:
        """Where others of this folder look for the clock: again when it was started."""
        shutil.copyfile(self._stage.folder / "clock.json", self._config.run_folder / CLOCK_NAME)

    def tell(self) -> None:
        """As `up` tells of itself; again when the engine is another process."""
        stage = self._stage
        worker = None if stage.worker is None else stage.worker.pid
        told = {
            "pid": os.getpid(),
            "market": "demo",
            "speed": 1.0,
            "broker_url": stage.broker_url,
            "redis_url": stage.redis.url,
            "console_url": f"http://127.0.0.1:{self._port}",
            "processes": {"supervisor": os.getpid(), "worker": worker},
            "accounts": {DEFAULT_ACCOUNT: {"worker": worker}},
            "at": datetime.now(UTC).isoformat(),
        }
        write_whole(self._config.run_folder / STATUS_NAME, json.dumps(told, indent=1))

    def link(self) -> str:
        """Opens it once. Raises StageError: it did not start."""
        from squareoff.apps.link_command import opening

        until_s = time.monotonic() + READY_WITHIN_S
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise StageError(f"the console did not start; see {self._stage.folder / 'console.log'}")
            time.sleep(0.02)
        return opening(self._config, f"http://127.0.0.1:{self._port}")

    def wait_until_opened(self) -> bool:
        from squareoff import wiring
        from squareoff.apps.link_command import ONLY_USER

        access = wiring.access_store(self._config)
        until_s = time.monotonic() + OPENED_WITHIN_S
        try:
            while time.monotonic() < until_s:
                if access.sessions(ONLY_USER):
                    return True
                time.sleep(0.1)
            return False
        finally:
            access.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        run: Path = self._config.run_folder
        for name in (STATUS_NAME, CONSOLE_NAME, CLOCK_NAME, "market.json"):
            (run / name).unlink(missing_ok=True)
        self._lock.release()
