"""One day of one strategy with real processes: a Redis server, the paper broker, the worker.

The stage starts them, keeps prices coming, does what a scenario's steps say, and starts a worker that died again, as
`squareoff up` does. What came of it is judged by `faults.oracle`, from the broker's ledger and the public commands.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

from typer.testing import CliRunner

from faults.monitor import PROMISED_S, Monitor
from faults.postgres import PostgresServer
from faults.proxy import Proxy, Rule
from squareoff import wiring
from squareoff.adapters.brokers.paper.book import Placed, Traded
from squareoff.adapters.brokers.paper.ledger import LedgerLine, read_ledger
from squareoff.apps.cli import app
from squareoff.config import ADDRESS_NAME, Config
from squareoff.core.definition import read
from squareoff.core.events import Event
from squareoff.core.types import Side, StrategyId, UserId
from squareoff.faults import SEEN_VARIABLE, VARIABLE

IST = ZoneInfo("Asia/Kolkata")
OPENS = datetime(2026, 11, 20, 10, 0, tzinfo=IST)
"""When every scenario's clock starts; it then runs at the speed of the real one."""
SYMBOL, OTHER = "SIM:ALPHA", "SIM:BETA"
PRICE, LEVEL, FALL = Decimal("100.00"), Decimal("99.00"), Decimal("98.50")
"""The price all day, the stop-loss, and where the price falls to."""
QTY = Decimal(10)
BUY_AFTER_S = 2
QUARANTINE_S, REQUEST_TIMEOUT_S = 4.0, 1.0
PRICE_EVERY_S = 0.1
LEASE_TTL_S = 1.5
READY_WITHIN_S = 45.0


class StageError(Exception):
    """Something did not happen in its time: the scenario says what it waited for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """What a scenario needs before its day begins."""

    fault: str = ""
    """SQUAREOFF_FAULT of the first worker."""
    fault_again: str = ""
    """SQUAREOFF_FAULT of the worker that is started after it."""
    mischief: Sequence[Mapping[str, Any]] = ()
    proxy: Sequence[Rule] | None = None
    """What a proxy between worker and broker does; None: there is none."""
    idempotency: str = "none"
    sell_after_s: float = 600.0
    """After the clock's start; 600: the day ends by its stop-loss, or by what the steps do."""
    stop_loss: str = f"{LEVEL}"
    restarts: bool = True
    """Start a worker that died again."""
    bug: str = ""
    """A seeded bug of `faults.bugs`."""
    fault_second: str = ""
    """SQUAREOFF_FAULT of the second worker, until it dies."""
    second: str = ""
    """A second worker that stands by: "standby" with the same data folder, "machine" with one of its own and a lease
    in the database, which then is PostgreSQL."""
    lease_ttl_s: float = LEASE_TTL_S
    """Of two machines: how long the account stays with one that says nothing."""
    is_watched: bool = False
    """By an outside monitor that the worker's heartbeat has to call."""
    redis_binary: str = ""
    """The program to start as Redis; empty: the one that comes with squareoff."""
    database: str = "sqlite"
    """Or "postgres": a server of its own, which the steps may stop."""


@dataclass
class Worker:
    process: subprocess.Popen[bytes]
    name: str
    log: Path
    ready_s: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def stands_still(self) -> bool:
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "T"


@dataclass
class Stage:
    folder: Path
    setting: Setting
    dice: random.Random
    price: Decimal = PRICE
    asks_here: bool = False
    is_quiet: bool = False
    """Nobody trades: no price is told, and nothing fills."""
    fell_s: float | None = None
    """When the first tick at or below the stop-loss was on the wire (monotonic seconds)."""
    workers: list[Worker] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    """Of the stage itself."""
    takeovers_s: list[float] = field(default_factory=list)
    """From the death of a worker until its successor was ready."""
    _deaths_s: list[float] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _logs: list[IO[bytes]] = field(default_factory=list)
    proxy: Proxy | None = None
    monitor: Monitor | None = None
    database: PostgresServer | None = None
    _broker: subprocess.Popen[bytes] | None = None
    _folders: dict[str, Path] = field(default_factory=dict)
    """Data folders of workers that have one of their own, by name."""
    _threads: list[threading.Thread] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    # ------------------------------------------------------------------ setting up and down

    def __enter__(self) -> Stage:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = Config(data=self.folder / "data")
        self.config.make_data_folder()
        binary = Path(self.setting.redis_binary) if self.setting.redis_binary else None
        self.redis = wiring.embedded_redis(self.folder / "redis", binary=binary)
        try:
            if self.setting.database == "postgres":
                self._begin_postgres()
            if self.setting.second == "machine":
                self._begin_machine()
            self.store = wiring.open_strategy_store(self.config)
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin_machine(self) -> None:
        other = Config(data=self.folder / "data-2")
        other.make_data_folder()
        shutil.copy(self.config.data / ADDRESS_NAME, other.data / ADDRESS_NAME)
        self._folders["two"] = other.data

    def _begin_postgres(self) -> None:
        self.database = PostgresServer()
        self.database.start()
        self.database.run("CREATE DATABASE squareoff")
        address = self.config.data / ADDRESS_NAME
        address.touch(mode=0o600)
        address.write_text(self.database.url("squareoff"))

    def _begin(self) -> None:
        self._clock_file = self.folder / "clock.json"
        self.clock = wiring.paced_clock([(0.0, OPENS), (10.0, OPENS + timedelta(seconds=10))], self._clock_file)
        self.add("s", sell_after_s=self.setting.sell_after_s)
        self.redis.start()
        self.start_broker()
        if self.setting.proxy is not None:
            self.proxy = Proxy(int(self.broker_url.rpartition(":")[2]), self.setting.proxy)
        if self.setting.is_watched:
            self.monitor = Monitor()
            alerts = f'[heartbeat]\nurl = "{self.monitor.url}"\nevery_s = {PROMISED_S:g}\n'
            self.config.alerts_file.write_text(alerts)
        self.background(self._keep_prices)
        self.start_worker("one", self.setting.fault)
        first = self.workers[0]
        self.wait("the worker", lambda: first.ready_s is not None or not first.is_alive or first.stands_still)
        self.background(self._keep_workers)
        if self.setting.second:
            standby = self.start_worker("two", self.setting.fault_second)
            words = (b"STANDBY", b"READY")  # it need not wait for a first one that died already
            self.wait("the standby", lambda: any(word in standby.log.read_bytes() for word in words))
        self.wait("the run", lambda: bool(self.store.runs()))  # by a second worker, if the first one died
        self.clock.start()
        self.began_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=10)
        for process in (*(worker.process for worker in self.workers), self._broker):
            if process is not None:
                _end(process)
        for each in (self.proxy, self.monitor):
            if each is not None:
                with suppress(Exception):
                    each.close()
        with suppress(Exception):
            self.redis.stop()
        with suppress(Exception):
            self.store.close()
        if self.database is not None:
            self.database.remove()
        for file in self._logs:
            file.close()

    def background(self, work: Callable[[], None]) -> None:
        """What fails there is a failure of the scenario: a fault that never happened proves nothing."""

        def told() -> None:
            try:
                work()
            except Exception as error:
                self.failures.append(f"in the background: {type(error).__name__}: {error}")

        thread = threading.Thread(target=told, daemon=True)
        self._threads.append(thread)
        thread.start()

    def add(self, name: str, *, sell_after_s: float, symbol: str = SYMBOL, buy_after_s: int = BUY_AFTER_S) -> None:
        """A strategy of the day, and the wish to start it."""
        sell = OPENS + timedelta(seconds=sell_after_s)
        fields: dict[str, object] = {
            "name": name,
            "symbol": symbol,
            "quantity": int(QTY),
            "buy_time": "10:00",
            "sell_time": "11:00",
            "stop_loss": self.setting.stop_loss,
        }
        strategy = replace(
            read(fields).as_strategy(StrategyId(0), UserId(1)),
            buy_time=(OPENS + timedelta(seconds=buy_after_s)).time(),
            sell_time=sell.time(),
        )
        self.store.wish(self.store.add(strategy).id, Event.START, at=self.clock.now(), by="you")

    # ------------------------------------------------------------------ processes

    def start_broker(self) -> None:
        ready, script = self.folder / "broker.json", self.folder / "mischief.json"
        port = json.loads(ready.read_text())["url"].rpartition(":")[2] if ready.exists() else "0"
        ready.unlink(missing_ok=True)
        script.write_text(json.dumps({"mischief": list(self.setting.mischief)}))
        command = [sys.executable, "-m", "squareoff.adapters.brokers.paper", "--data", str(self.folder / "broker")]
        command += ["--ready", str(ready), "--clock", str(self._clock_file), "--port", port]
        command += ["--mischief", str(script), "--idempotency", self.setting.idempotency]
        self._broker = self._spawn(command, self.folder / "broker.log")
        self.wait("the broker", ready.exists)
        self.broker_url = json.loads(ready.read_text())["url"]

    def kill_broker(self) -> None:
        assert self._broker is not None
        self._broker.kill()
        self._broker.wait()

    def start_worker(self, name: str, fault: str = "") -> Worker:
        command = [sys.executable, "-m", "faults.worker"]
        if self.setting.bug:
            command += ["--bug", self.setting.bug]
        data = self._folders.get(name, self.config.data)
        broker = self.broker_url if self.proxy is None else self.proxy.url
        command += ["--data", str(data), "--broker", broker, "--redis", self.redis.url]
        command += ["--standby"] if self.setting.second else []
        command += (
            ["--lease", "sql", "--lease-ttl", f"{self.setting.lease_ttl_s:g}"]
            if self.setting.second == "machine"
            else []
        )
        command += ["--request-timeout", f"{REQUEST_TIMEOUT_S:g}", "--quarantine", f"{QUARANTINE_S:g}"]
        command += ["--clock", str(self._clock_file), "--clock-step", str(self.folder / "clock-step")]
        log = self.folder / f"worker-{len(self.workers)}-{name}.log"
        environment = {**os.environ, VARIABLE: fault, SEEN_VARIABLE: str(self._seen_file)}
        process = self._spawn(command, log, environment)
        worker = Worker(process=process, name=name, log=log)
        with self._lock:
            self.workers.append(worker)
        self.background(lambda: self._watch(worker))
        return worker

    def _watch(self, worker: Worker) -> None:
        """Note when it is ready, to a hundredth of a second."""
        while worker.is_alive and not self._ended.wait(0.01):
            if b"READY" in worker.log.read_bytes():
                worker.ready_s = time.monotonic()
                if self._deaths_s:
                    self.takeovers_s.append(worker.ready_s - self._deaths_s[-1])
                return

    def _keep_workers(self) -> None:
        """As `up` does: what died is started again, a tenth of a second later."""
        known = set[int]()
        while not self._ended.wait(0.02):
            for worker in list(self.workers):
                if worker.is_alive or id(worker) in known:
                    continue
                known.add(id(worker))
                self._deaths_s.append(time.monotonic())
                self.notes.append(f"{worker.name} died ({worker.process.returncode})")
                if self.setting.restarts and not self._ended.wait(0.1):
                    self.start_worker(worker.name, self.setting.fault_again)

    def _spawn(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        file = log.open("ab")
        self._logs.append(file)
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, env=environment
        )

    # ------------------------------------------------------------------ prices and the broker

    def _keep_prices(self) -> None:
        while not self._ended.wait(PRICE_EVERY_S * self.dice.uniform(0.5, 1.5)):
            with suppress(OSError):
                if not self.is_quiet:
                    self.tick(self.price)

    def tick(self, price: Decimal | str, *, symbol: str = SYMBOL, at: datetime | None = None) -> None:
        tick: dict[str, Any] = {"symbol": symbol, "price": str(price)}
        if at is not None:
            tick["at"] = at.isoformat()
        self.control(ticks=[tick])
        if symbol == SYMBOL and at is None and Decimal(price) <= LEVEL and self.fell_s is None:
            self.fell_s = time.monotonic()

    def control(self, **what: Any) -> dict[str, Any]:
        """Tell the venue what to do; it answers what mischief has not happened yet."""
        data = json.dumps(what).encode()
        headers = {"Authorization": "Bearer paper", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.broker_url}/control", data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def place(self, side: Side, qty: Decimal, *, symbol: str = SYMBOL) -> None:
        """An order by hand, at the broker, of which squareoff knows nothing."""
        order = {
            "client_order_id": f"hand{len(self.ledger())}",
            "account": "paper",
            "symbol": symbol,
            "side": str(side),
            "product": "MIS",
            "qty": str(qty),
            "order_type": "MARKET",
        }
        headers = {"Authorization": "Bearer paper", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.broker_url}/orders", data=json.dumps(order).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            answer.read()

    def ledger(self) -> Sequence[LedgerLine]:
        return read_ledger(self.folder / "broker" / "ledger.jsonl").lines

    def orders(self, side: Side) -> int:
        """How many of ours the broker has placed."""
        placed = [line.record for line in self.ledger() if isinstance(line.record, Placed)]
        return sum(1 for each in placed if each.order.side is side and each.order.client_order_id.startswith("SQ"))

    def held(self, *, ours: bool = True) -> Decimal:
        """What the broker's ledger says was bought and not sold."""
        sides = {r.record.broker_order_id: r.record.order for r in self.ledger() if isinstance(r.record, Placed)}
        held = Decimal(0)
        for line in self.ledger():
            if isinstance(line.record, Traded) and (order := sides.get(line.record.broker_order_id)) is not None:
                if ours and not order.client_order_id.startswith("SQ"):
                    continue
                held += line.record.fill.qty if order.side is Side.BUY else -line.record.fill.qty
        return held

    @property
    def _seen_file(self) -> Path:
        return self.folder / "seen"

    def seen_points(self) -> set[str]:
        """The fault points that any worker came to."""
        return set(self._seen_file.read_text().split()) if self._seen_file.exists() else set()

    # ------------------------------------------------------------------ what is done to it

    def wait(self, what: str, is_so: Callable[[], bool], within_s: float = READY_WITHIN_S) -> None:
        until_s = time.monotonic() + within_s
        while not is_so():
            if time.monotonic() > until_s:
                raise StageError(f"{what}: not within {within_s:g} s")
            time.sleep(0.02)

    def owner(self) -> Worker:
        """The worker that should be trading: the last one started that became ready."""
        with self._lock:
            ready = [worker for worker in self.workers if worker.is_alive and worker.ready_s is not None]
        if not ready:
            raise StageError("no worker is ready")
        return ready[-1]

    def send(self, worker: Worker, number: signal.Signals) -> None:
        if worker.is_alive:
            worker.process.send_signal(number)

    def wish(self, event: Event, name: str = "s") -> None:
        self.store.wish(self.store.get(name).id, event, at=self.clock.now(), by="you")

    def set_clock(self, ahead_s: float) -> None:
        """Somebody sets the clock of the worker's machine."""
        draft = self.folder / "clock-step.new"
        draft.write_text(f"{ahead_s:g}")
        draft.replace(self.folder / "clock-step")

    def flush_redis(self) -> None:
        with wiring.redis_client(self.redis.url) as client:
            client.flushall()

    def sleep_redis(self, seconds: float) -> None:
        """The server stands still and answers nobody."""
        pid = self.redis.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(pid, signal.SIGCONT)

    def lock_database(self, seconds: float) -> None:
        """Somebody else holds SQLite's write lock, or PostgreSQL's tables."""
        if self.database is not None:
            hold = f"BEGIN; LOCK TABLE leases, runs, journal IN EXCLUSIVE MODE; SELECT pg_sleep({seconds}); ROLLBACK"
            self.database.run(hold, "squareoff")
            return
        connection = sqlite3.connect(self.config.data / "squareoff.db", timeout=10, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        connection.execute("ROLLBACK")
        connection.close()

    def ask(self, *arguments: str) -> Any:
        """A public command's JSON."""
        return json.loads(self.command(*arguments, "--json"))

    def command(self, *arguments: str) -> str:
        """A command as the user gives it; in this process where there are many to ask for, to save their starts."""
        if self.asks_here:
            done_here = CliRunner().invoke(app, ["--data", str(self.config.data), *arguments])
            if done_here.exit_code != 0:
                raise StageError(f"squareoff {' '.join(arguments)}: {done_here.output.strip()}")
            return done_here.stdout
        command = [sys.executable, "-m", "squareoff", "--data", str(self.config.data), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise StageError(f"squareoff {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout=8)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
