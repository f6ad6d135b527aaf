"""The demo's processes: a real Redis server, the paper broker, the engine; and what is done to them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from squareoff.apps.demo.script import Act, tape, timetable
from squareoff.core.definition import DEFAULT_ACCOUNT, read
from squareoff.core.events import Event
from squareoff.core.types import StrategyId, Symbol, UserId
from squareoff.errors import SquareoffError

if TYPE_CHECKING:
    from squareoff.adapters.brokers.paper.ledger import LedgerAudit
    from squareoff.adapters.clock import PacedClock
    from squareoff.adapters.redis.server import RedisServer
    from squareoff.adapters.sql.strategies import StrategyStore

START_WITHIN_S = 30.0
REQUEST_TIMEOUT_S = 1.0
"""How long the demo's engine waits for an answer before it calls the outcome unknown."""
MARKER = "made-by-squareoff-demo"
"""Only a folder with this file in it is ever deleted for a new demo."""


class StageError(SquareoffError):
    """A process of the demo did not do its part; the message names its log."""


@dataclass
class Stage:
    """Everything the demo runs, in one folder that stays behind for a look at it."""

    folder: Path
    acts: Sequence[Act]
    clock: PacedClock
    redis: RedisServer
    store: StrategyStore
    broker_url: str = ""
    broker: subprocess.Popen[bytes] | None = None
    worker: subprocess.Popen[bytes] | None = None
    worker_is_ready: bool = False
    kills: int = 0
    _ready_line: bytes = b""
    _logs: list[IO[bytes]] = field(default_factory=list)

    @classmethod
    def set_up(cls, folder: Path, acts: Sequence[Act], *, slower: float = 1.0) -> Stage:
        from squareoff.config import Config
        from squareoff.wiring import embedded_redis, open_strategy_store, paced_clock

        _fresh(folder)
        store = open_strategy_store(Config(data=folder))
        clock = paced_clock(timetable(acts, slower=slower), folder / "clock.json")
        with (folder / "tape.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("at", "symbol", "price"))
            writer.writerows((tick.at.isoformat(), tick.symbol, f"{tick.price:f}") for tick in tape(acts))
        mischief = [item for act in acts for item in act.mischief]
        (folder / "mischief.json").write_text(json.dumps({"mischief": mischief}))
        stage = cls(folder=folder, acts=acts, clock=clock, redis=embedded_redis(folder / "redis"), store=store)
        try:
            stage._begin()
        except BaseException:
            stage.tear_down()
            raise
        return stage

    def _begin(self) -> None:
        now = self.clock.now()
        for act in self.acts:
            strategy = self.store.add(_strategy(act))
            self.store.wish(strategy.id, Event.START, at=now, by="demo")
        self.redis.start()
        self._start_broker()
        self.start_worker()
        self._wait("the engine", lambda: self.is_worker_ready())
        self._wait("the strategies", lambda: len(self.store.runs()) == len(self.acts))

    # ------------------------------------------------------------------ processes

    def _start_broker(self) -> None:
        ready = self.folder / "broker.json"
        command = [sys.executable, "-m", "squareoff.adapters.brokers.paper", "--data", str(self.folder / "broker")]
        command += ["--ready", str(ready), "--clock", str(self.folder / "clock.json")]
        command += ["--tape", str(self.folder / "tape.csv"), "--mischief", str(self.folder / "mischief.json")]
        self.broker = self._spawn(command, "broker.log")
        self._wait("the paper broker", ready.exists)
        self.broker_url = json.loads(ready.read_text())["url"]

    def start_worker(self) -> None:
        command = [sys.executable, "-m", "squareoff.apps.worker", "--data", str(self.folder)]
        command += ["--broker", self.broker_url, "--redis", self.redis.url]
        command += ["--clock", str(self.folder / "clock.json")]
        command += ["--request-timeout", str(REQUEST_TIMEOUT_S), "--quarantine", "20"]
        self.worker_is_ready, self._ready_line = False, b""
        self.worker = self._spawn(command, "engine.log", stdout=subprocess.PIPE)
        assert self.worker.stdout is not None
        os.set_blocking(self.worker.stdout.fileno(), False)

    def is_worker_ready(self) -> bool:
        """Whether the engine has finished its recovery."""
        if not self.worker_is_ready and self.worker is not None and self.worker.stdout is not None:
            self._ready_line += self.worker.stdout.read() or b""
            self.worker_is_ready = b"READY" in self._ready_line
        return self.worker_is_ready

    def kill_worker(self) -> None:
        """kill -9: no clean-up, no last word."""
        assert self.worker is not None
        self.worker.send_signal(signal.SIGKILL)
        self.worker.wait()
        if self.worker.stdout is not None:
            self.worker.stdout.close()
        self.kills += 1

    def _spawn(self, command: Sequence[str], log: str, *, stdout: int | None = None) -> subprocess.Popen[bytes]:
        file = (self.folder / log).open("ab")
        self._logs.append(file)
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stdout or file, stderr=file, start_new_session=True
        )

    def _wait(self, what: str, is_so: Any) -> None:
        until_s = time.monotonic() + START_WITHIN_S
        while not is_so():
            for process, log in ((self.broker, "broker.log"), (self.worker, "engine.log")):
                if process is not None and process.poll() is not None:
                    raise StageError(f"{what} did not start; the last lines of {log}:\n{_tail(self.folder / log)}")
            if time.monotonic() > until_s:
                raise StageError(f"{what} did not start within {START_WITHIN_S:g} s; see the logs in {self.folder}")
            time.sleep(0.02)

    # ------------------------------------------------------------------ what is done and seen

    def has_order(self, symbol: str) -> bool:
        """Whether the broker has an order on `symbol` in its book."""
        request = urllib.request.Request(f"{self.broker_url}/orders", headers={"Authorization": "Bearer paper"})
        with urllib.request.urlopen(request, timeout=2) as response:
            return any(order["symbol"] == symbol for order in json.load(response))

    def flush_redis(self) -> None:
        """FLUSHALL, as a careless person would."""
        from squareoff.wiring import redis_client

        with redis_client(self.redis.url) as client:
            client.flushall()

    def stop_strategy(self, name: str) -> None:
        """The user's wish: into SQL first, then the bell."""
        strategy = self.store.get(name)
        self.store.wish(strategy.id, Event.STOP, at=self.clock.now(), by="you")

    def last_prices(self) -> dict[Symbol, Decimal]:
        """As Redis has them: empty while it is being rebuilt."""
        from squareoff.wiring import last_prices

        return last_prices(self.redis.url, DEFAULT_ACCOUNT)

    def audit(self) -> LedgerAudit:
        """The broker's own book, and nothing else."""
        from squareoff.wiring import paper_audit

        return paper_audit(self.folder / "broker")

    def tear_down(self) -> None:
        """End every process that was started here, the engine first so that it can write its last words."""
        for process in (self.worker, self.broker):
            if process is not None:
                _end(process)
        self.redis.stop()
        self.store.close()
        for file in self._logs:
            file.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _strategy(act: Act) -> Any:
    fields: dict[str, object] = {
        "name": act.name,
        "symbol": act.symbol,
        "quantity": act.quantity,
        "buy_time": act.buy,
        "sell_time": act.sell,
        "stop_loss": act.stop_loss,
    }
    return read(fields).as_strategy(StrategyId(0), UserId(1))


def _fresh(folder: Path) -> None:
    """An empty folder of ours. Anything that no demo made is left alone."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / MARKER).exists():
            raise StageError(f"{folder} is not empty and was not made by a demo: name another folder with --data")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)
    (folder / MARKER).write_text("Everything in this folder is deleted when the next demo begins.\n")


def _tail(file: Path, lines: int = 15) -> str:
    return "\n".join(file.read_text(errors="replace").splitlines()[-lines:]) if file.exists() else "(no log)"
