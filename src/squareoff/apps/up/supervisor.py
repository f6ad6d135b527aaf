"""Starts what trades, and keeps it alive: the embedded Redis, the paper broker, a trading worker for each account.

If the supervisor itself is killed, workers and broker go on: a position is better watched by an orphan than by nobody.
The next `squareoff up` on the folder ends them in order and takes over.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squareoff.apps.up.children import Child, end_process
from squareoff.apps.up.market_place import MISCHIEF_NAME, TAPE_NAME
from squareoff.config import TOKEN_VARIABLE, Config
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning, SquareoffError
from squareoff.market import CLOCK_NAME, Market, MarketKind, write_whole

if TYPE_CHECKING:
    from squareoff.adapters.redis.server import RedisServer
    from squareoff.adapters.sql.strategies import StrategyStore

LOCK_NAME, STATUS_NAME, BROKER_NAME, CONSOLE_NAME = "up.lock", "up.json", "broker.json", "console.json"
CONSOLE_PORT = 8737
"""The same on every day, so that a bookmark goes on working."""
READY_WITHIN_S = 60.0
LOOK_EVERY_S = 0.1
REDIS_PAUSE_S = 1.0
ACCOUNTS_EVERY_S = 1.0
"""An account that was added meanwhile gets its worker within this time."""

Say = Callable[[str], None]


class CannotStart(SquareoffError):
    """A process did not become ready; the message has the last lines of its log."""


@dataclass(frozen=True, kw_only=True)
class ConsoleSettings:
    """Where API and console are served. `port` None: the usual one, or any that is free if that is taken."""

    host: str = "127.0.0.1"
    port: int | None = None
    allow_hosts: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    config: Config
    market: Market
    oddities: bool
    request_timeout_s: float = 3.0
    quarantine_s: float = 10.0
    """The paper broker shows every order within seconds."""
    console: ConsoleSettings | None = None
    """None: without API and console."""


class FolderLock:
    """One `squareoff up` on a data folder. The kernel gives it back however the process ends."""

    def __init__(self, config: Config) -> None:
        config.run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._config = config
        self._fd = os.open(config.run_folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 64, 0).decode(errors="replace").strip() or "another process"
            os.close(self._fd)
            raise AlreadyRunning(
                f"squareoff up runs already on {config.data} (process {holder}); see `squareoff status`, "
                "or name another folder with --data DIR"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.ftruncate(self._fd, 0)
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


class Supervisor:
    def __init__(self, settings: Settings, say: Say) -> None:
        self.settings, self._say = settings, say
        config = settings.config
        self._run, self._logs = config.run_folder, config.logs
        self._redis: RedisServer | None = None
        self._redis_url = config.redis_url
        self._redis_again_s: float | None = None
        self._port = free_port()
        self._console_port = CONSOLE_PORT
        self.broker = Child(
            name="the paper broker",
            command=self._broker_command,
            ready=self._run / BROKER_NAME,
            log=self._logs / "broker.log",
        )
        self.console: Child | None = None
        if settings.console is not None:
            self.console = Child(
                name="the console",
                command=self._console_command,
                ready=self._run / CONSOLE_NAME,
                log=self._logs / "console.log",
            )
        self.workers: dict[AccountId, Child] = {}
        self._store: StrategyStore | None = None
        self._accounts_again_s = 0.0
        self._accounts_trouble = ""

    @property
    def children(self) -> Sequence[Child]:
        return self.broker, *self.workers.values(), *([] if self.console is None else [self.console])

    @property
    def console_url(self) -> str:
        """Empty: there is no console. It may be starting again just now."""
        wanted = self.settings.console
        if wanted is None:
            return ""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(wanted.host, wanted.host)
        shown = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"{'http' if wanted.tls_cert is None else 'https'}://{shown}:{self._console_port}"

    @property
    def broker_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def redis_url(self) -> str:
        return self._redis_url or ""

    # ------------------------------------------------------------------ start and stop

    def start(self) -> None:
        """Redis, then the broker, then the workers, each when the one before can be used. A worker that does not start
        keeps no other from it: it is told, and tried again. Raises CannotStart if none does."""
        from squareoff import wiring

        self._take_over()
        if self.settings.config.redis_url is None:
            self._start_redis()
        self._store = wiring.open_strategy_store(self.settings.config)
        accounts = list(self._store.every_account())
        for account in accounts:
            wiring.ensure_paper_account(self.settings.config, account)
        self.broker.start()
        self._wait_ready(self.broker)
        for account in accounts:
            self._start_worker(account)
        troubles = list(filter(None, map(self._why_not_ready, self.workers.values())))
        if len(troubles) == len(self.workers):
            raise CannotStart(troubles[0])
        for trouble in troubles:
            self._say(trouble)
        self._start_console()
        self.tell()

    def _start_console(self) -> None:
        """Last, and not waited for: trading waits for nobody who only wants to look."""
        if self.console is None or self.settings.console is None:
            return
        self._console_port = self.settings.console.port or CONSOLE_PORT
        self.console.start()
        if self.settings.console.port is None and self._console_port != CONSOLE_PORT:
            self._say(f"port {CONSOLE_PORT} is taken: the console is at {self._console_port} this time")

    def _start_worker(self, account: AccountId) -> None:
        name = worker_name(account)
        child = Child(
            name="the trading worker" if account == DEFAULT_ACCOUNT else f"the trading worker of {account}",
            command=lambda: self._worker_command(account),
            ready=self._run / f"{name}.json",
            log=self._logs / f"{name}.log",
            environment=lambda: self._token_of(account),
        )
        child.start()
        self.workers[account] = child

    def _why_not_ready(self, child: Child) -> str | None:
        try:
            self._wait_ready(child)
        except CannotStart as error:
            return str(error)
        return None

    def _start_redis(self) -> None:
        from squareoff import wiring

        self._redis = wiring.embedded_redis(self.settings.config.data / "redis")
        self._redis.start()
        self._redis_url = self._redis.url

    def _wait_ready(self, child: Child) -> None:
        from squareoff.apps.up.children import tail

        until_s = time.monotonic() + READY_WITHIN_S
        while not child.is_ready:
            if child.pid is None:
                raise CannotStart(f"{child.name} did not start; the last lines of {child.log}:\n{tail(child.log)}")
            if time.monotonic() > until_s:
                raise CannotStart(f"{child.name} was not ready within {READY_WITHIN_S:g} s; see {child.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """The workers first, so that they can write their last words; they sell nothing by themselves."""
        for child in self.workers.values():
            child.ask_to_end()
        if self.console is not None:
            self.console.ask_to_end()
        for child in (*self.workers.values(), self.broker):
            child.end()
        if self.console is not None:
            self.console.end()
        if self._store is not None:
            self._store.close()
        if self._redis is not None:
            self._redis.stop()
        for path in (
            self._run / STATUS_NAME,
            self._run / CONSOLE_NAME,
            *(child.ready for child in self.workers.values()),
        ):
            path.unlink(missing_ok=True)

    # ------------------------------------------------------------------ watch

    def look(self) -> None:
        """Start again what died. Call it every `LOOK_EVERY_S`."""
        before = [child.pid for child in self.children]
        self._look_at_redis()
        self._look_at_accounts()
        for child in self.children:
            child.look(self._say)
        if [child.pid for child in self.children] != before:
            self.tell()

    def _look_at_redis(self) -> None:
        if self._redis is None or self._redis.is_alive():
            return
        now_s = time.monotonic()
        if self._redis_again_s is None:
            self._say(f"the embedded Redis died; it is started again in {REDIS_PAUSE_S:g} s; exits go on without it")
            self._redis_again_s = now_s + REDIS_PAUSE_S
        elif now_s >= self._redis_again_s:
            self._redis_again_s = None
            try:
                self._redis.start()
            except Exception as error:  # whatever it is: exits go on without Redis, and it is tried again
                self._say(f"the embedded Redis does not start: {error}")

    def _look_at_accounts(self) -> None:
        """A worker for each account that was added."""
        from squareoff import wiring
        from squareoff.core.bad_input import BadInput
        from squareoff.errors import RecordsUnavailable

        now_s = time.monotonic()
        if self._store is None or now_s < self._accounts_again_s:
            return
        self._accounts_again_s = now_s + ACCOUNTS_EVERY_S
        trouble = ""
        try:
            for account in self._store.every_account():
                if account not in self.workers:
                    wiring.ensure_paper_account(self.settings.config, account)
                    self._start_worker(account)
                    self._say(f"account {account} was added: its trading worker starts")
        except (RecordsUnavailable, BadInput, OSError) as error:  # those there are go on
            trouble = str(error)
        if trouble and trouble != self._accounts_trouble:
            self._say(f"whether there are new accounts is not known: {trouble}")
        self._accounts_trouble = trouble

    def tell(self) -> None:
        """Write where everything is, for the other commands."""
        about = {
            "pid": os.getpid(),
            "market": str(self.settings.market),
            "speed": self.settings.market.speed,
            "broker_url": self.broker_url,
            "redis_url": self.redis_url,
            "console_url": self.console_url,
            "processes": {
                "supervisor": os.getpid(),
                "broker": self.broker.pid,
                **{worker_name(account): child.pid for account, child in self.workers.items()},
                "redis": None if self._redis is None else self._redis.pid,
                **({} if self.console is None else {"console": self.console.pid}),
            },
            "accounts": {account: {"worker": child.pid} for account, child in self.workers.items()},
            "deaths": {
                "broker": self.broker.deaths,
                **{worker_name(account): child.deaths for account, child in self.workers.items()},
            },
            "logs": str(self._logs),
            "at": datetime.now(UTC).isoformat(),
        }
        write_whole(self._run / STATUS_NAME, json.dumps(about, indent=1))

    # ------------------------------------------------------------------ commands

    def _broker_command(self) -> Sequence[str]:
        from squareoff import wiring

        config, market = self.settings.config, self.settings.market
        command = [sys.executable, "-m", "squareoff.adapters.brokers.paper", "--data", str(config.data / "broker")]
        command += ["--accounts", str(wiring.paper_accounts_file(config))]
        command += ["--port", str(self._port), "--ready", str(self._run / BROKER_NAME)]
        command += ["--clock", str(self._run / CLOCK_NAME), "--mischief", str(self._run / MISCHIEF_NAME)]
        if market.kind is MarketKind.FILE:
            return [*command, "--tape", str(self._run / TAPE_NAME)]
        command += ["--practice", str(market.seed)]
        if config.reference.is_dir():
            command += ["--instruments", str(config.reference)]
        return [*command, "--practice-oddities"] if self.settings.oddities else command

    def _worker_command(self, account: AccountId) -> Sequence[str]:
        settings = self.settings
        command = [sys.executable, "-m", "squareoff.apps.worker", "--data", str(settings.config.data)]
        command += ["--account", account, "--broker", self.broker_url, "--redis", self.redis_url]
        command += ["--clock", str(self._run / CLOCK_NAME)]
        command += ["--ready", str(self._run / f"{worker_name(account)}.json"), "--logs", str(self._logs)]
        command += ["--request-timeout", f"{settings.request_timeout_s:g}"]
        return [*command, "--quarantine", f"{settings.quarantine_s:g}"]

    def _console_command(self) -> Sequence[str]:
        config, wanted = self.settings.config, self.settings.console or ConsoleSettings()
        if wanted.port is None:  # somebody may have taken it since
            self._console_port = free_port(self._console_port, host=wanted.host)
        command = [sys.executable, "-m", "squareoff.apps.api", "--data", str(config.data)]
        command += ["--host", wanted.host, "--port", str(self._console_port), "--ready", str(self._run / CONSOLE_NAME)]
        for name in wanted.allow_hosts:
            command += ["--allow-host", name]
        if wanted.tls_cert is not None:
            command += ["--tls-cert", str(wanted.tls_cert)]
        if wanted.tls_key is not None:
            command += ["--tls-key", str(wanted.tls_key)]
        return command if config.redis_url is None else [*command, "--redis", config.redis_url]

    def _token_of(self, account: AccountId) -> Mapping[str, str]:
        from squareoff import wiring

        return {TOKEN_VARIABLE: wiring.ensure_paper_account(self.settings.config, account).token}

    # ------------------------------------------------------------------ what an `up` that was killed left behind

    def _take_over(self) -> None:
        """End orphaned workers and broker in order: the workers first, they give their accounts back."""
        orphans = [
            ("trading worker" if account == DEFAULT_ACCOUNT else f"trading worker of {account}", pid)
            for account, pid in worker_pids(self.settings.config).items()
        ]
        if (broker := orphaned_broker(self._run)) is not None:
            orphans.append(("paper broker", broker))
        if (console := orphaned_console(self._run)) is not None:
            orphans.append(("console", console))
        for name, pid in orphans:
            self._say(f"the {name} of an earlier `squareoff up` still runs (process {pid}): it is ended in order")
            end_process(pid)


def worker_name(account: AccountId) -> str:
    """In file names, in logs and in what `up` tells of its processes."""
    return "worker" if account == DEFAULT_ACCOUNT else f"worker-{account}"


def worker_pid(config: Config, account: AccountId = DEFAULT_ACCOUNT) -> int | None:
    """The process that holds the account's file lock now, which is proof that it lives; None: nobody does."""
    from squareoff import wiring

    return wiring.lease_holder(config.data / "accounts", account)


def worker_pids(config: Config) -> dict[AccountId, int]:
    """Every worker that lives, by its account."""
    from squareoff import wiring

    return wiring.lease_holders(config.data / "accounts")


def orphaned_broker(run_folder: Path) -> int | None:
    """The paper broker that still answers at the address it once told; None: none does."""
    try:
        url = json.loads((run_folder / BROKER_NAME).read_text())["url"]
        with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:
            return int(json.load(answer)["pid"])
    except (OSError, ValueError, KeyError):
        return None


def orphaned_console(run_folder: Path) -> int | None:
    """The console that still answers at the address it once told; None: none does."""
    try:
        told = json.loads((run_folder / CONSOLE_NAME).read_text())
        anybody = ssl.create_default_context()  # whether it answers, not who it is: its certificate may be its own
        anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"{told['url']}/api/v1/health", timeout=1, context=anybody):
            return int(told["pid"])
    except (OSError, ValueError, KeyError):
        return None


def running(config: Config) -> dict[str, Any] | None:
    """What the running `up` of this folder told of itself; None if none runs."""
    path = config.run_folder / LOCK_NAME
    if not path.exists():
        return None
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with suppress(OSError, ValueError):
            told: dict[str, Any] = json.loads((config.run_folder / STATUS_NAME).read_text())
            return told
        return {}
    finally:
        os.close(fd)
    return None


def free_port(wanted: int = 0, *, host: str = "127.0.0.1") -> int:
    """`wanted`, or any other that nobody listens on now; who is given it keeps it over its restarts."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            if not wanted:
                raise
            return free_port(host=host)
        port: int = probe.getsockname()[1]
        return port
