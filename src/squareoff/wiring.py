"""The only place that picks adapters: which clock, which broker, which stores a process works with.

Imports are inside the functions, so that `squareoff --help` does not wait for libraries it does not need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast
from zoneinfo import ZoneInfo

from squareoff.core.bad_input import BadInput
from squareoff.core.types import AccountId, StrategyId, Symbol
from squareoff.ports import Clock, JournalKind, Records

if TYPE_CHECKING:
    from redis import Redis
    from sqlalchemy.engine import Connection

    from squareoff.adapters.brokers.paper.ledger import LedgerAudit
    from squareoff.adapters.clock import PacedClock
    from squareoff.adapters.feeds.recorded import RecordedData
    from squareoff.adapters.redis.server import RedisServer
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.config import Config
    from squareoff.core.instruments import Instrument, Instruments
    from squareoff.core.run import Run
    from squareoff.core.session import Calendar, ExchangeHours, Session
    from squareoff.core.strategy import Plan, Strategy
    from squareoff.simulation.replay import World

_Word = TypeVar("_Word", bound=StrEnum)

REPLAY_ACCOUNT = AccountId("replay")
DATABASE_NAME = "squareoff.db"
REFERENCE_NAME = "reference"
REDIS_TIMEOUT_S = 0.25
"""How long a Redis that hangs is waited for. Exits do not wait for it at all."""

QUIET_S = 0.003
"""Bookkeeping goes on when no order has left for this long: a burst of stop-losses is sent first."""


class _NoAlerts:
    """Replay tells nobody: the journal has it."""

    def tell(self, severity: object, headline: str, text: str, *, run_id: object = None) -> None:
        pass


def replay_world(start: datetime) -> World:
    """The engine on memory adapters and virtual time, the paper broker in the same process."""
    from squareoff.adapters.brokers.paper.book import PaperBook
    from squareoff.adapters.brokers.paper.in_process import InProcessPaperBroker
    from squareoff.adapters.clock import VirtualLoop
    from squareoff.adapters.memory.records import MemoryRecords
    from squareoff.adapters.memory.runtime import MemoryRuntimeStore
    from squareoff.adapters.memory.spool import MemoryLease, MemorySpool
    from squareoff.chasing import Chaser
    from squareoff.core.board import Board
    from squareoff.core.orders import Stamp, order_key
    from squareoff.core.run import Run
    from squareoff.engine import Engine
    from squareoff.gateway import Gateway
    from squareoff.listener import Listener
    from squareoff.precedence import OrdersFirst
    from squareoff.scheduler import Scheduler
    from squareoff.simulation.replay import World

    loop = VirtualLoop(start)
    failures: list[BaseException] = []

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = loop.create_task(work)
        task.add_done_callback(keep_failure)
        return task

    def keep_failure(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)

    board, records, spool = Board(), MemoryRecords(install_id="replay"), MemorySpool()
    lease = MemoryLease(REPLAY_ACCOUNT)
    lease.acquire()
    broker = InProcessPaperBroker(PaperBook(), loop)
    fence = loop.complete(records.take_lease(REPLAY_ACCOUNT, owner="replay", machine=lease.machine, boot=lease.boot))
    runtime = MemoryRuntimeStore(loop)
    loop.complete(runtime.rebuild(REPLAY_ACCOUNT, []))
    engine: Engine
    scheduler = Scheduler(
        board=board,
        clock=loop,
        loop=loop,
        notify=lambda run_id, signal: engine.notify(run_id, signal),
        wake=lambda run_id: engine.wake(run_id),
        longest_sleep_s=None,
    )
    engine = Engine(
        account=REPLAY_ACCOUNT,
        board=board,
        clock=loop,
        records=records,
        journal=records,
        runtime=runtime,
        broker=broker,
        gateway=Gateway(broker=broker, lease=lease, spool=spool, clock=loop),
        spool=spool,
        alerts=_NoAlerts(),
        stamp=Stamp(fence=fence, machine=lease.machine, boot=lease.boot),
        set_timers=scheduler.set_timers,
        spawn=spawn,
        precedence=OrdersFirst(loop, loop.monotonic_s),
        chase=lambda run: chaser.chase(run),
    )
    chaser = Chaser(engine=engine, clock=loop, broker=broker, spawn=spawn)
    broker.on_report = engine.on_report
    listener = Listener(board=board, clock=loop, notify=engine.notify, on_low=engine.on_low)

    def start_run(plan: Plan) -> None:
        loop.complete(engine.start(Run(plan=plan, key=order_key(records.install_id, plan.run_id))))

    def close() -> None:
        scheduler.close()
        loop.drain()
        loop.close()

    return World(
        loop=loop,
        board=board,
        start=start_run,
        on_tick=listener.on_tick,
        fill=broker.on_tick,
        journal=lambda: records.entries,
        ignored=lambda: dict(listener.ignored),
        failures=lambda: failures,
        close=close,
    )


def recorded_data(
    paths: Sequence[Path],
    *,
    bars_labelled: str,
    quote: str,
    exchange: str,
    symbol: str | None,
    hours_of: Callable[[Symbol], ExchangeHours],
) -> RecordedData:
    """Recorded ticks and bars, read and checked. Raises BadInput, which names the file and the line."""
    from squareoff.adapters.feeds.recorded import BarsLabelled, Quote, ReadOptions, load

    options = ReadOptions(
        exchange=exchange.upper(),
        bars_labelled=_choice(BarsLabelled, bars_labelled, "--bars-labelled"),
        quote=_choice(Quote, quote, "--quote"),
        symbol=None if symbol is None else Symbol(symbol.upper()),
    )
    return load(paths, options=options, hours_of=hours_of)


def _choice(kind: type[_Word], text: str, option: str) -> _Word:
    try:
        return kind(text)
    except ValueError:
        raise BadInput(option, f"{text!r} is not known", f"one of {', '.join(kind)}") from None


# ------------------------------------------------------------------ processes


def embedded_redis(folder: Path) -> RedisServer:
    """The Redis server that comes with squareoff, not started yet."""
    from squareoff.adapters.redis.server import RedisServer

    return RedisServer(folder)


def paced_clock(points: Sequence[tuple[float, datetime]], file: Path) -> PacedClock:
    """A clock on a timetable that other processes read from `file`, not started yet."""
    from squareoff.adapters.clock import PacedClock

    return PacedClock.prepare(points, file)


def paper_audit(folder: Path) -> LedgerAudit:
    """What the paper broker's own book in `folder` proves, and nothing else."""
    from squareoff.adapters.brokers.paper.ledger import audit, read_ledger

    return audit(read_ledger(folder / "ledger.jsonl").lines)


def last_prices(redis_url: str, account: AccountId) -> dict[Symbol, Decimal]:
    """As Redis has them; empty while it is not there or being rebuilt."""
    from redis.exceptions import RedisError

    from squareoff.adapters.redis.keys import prices_key

    try:
        with redis_client(redis_url) as client:
            raw: dict[bytes, bytes] = client.hgetall(prices_key(account))
    except RedisError:
        return {}
    return {Symbol(symbol.decode()): Decimal(text.decode().split()[0]) for symbol, text in raw.items()}


def redis_client(redis_url: str) -> Redis:
    """For those who look, or break things on purpose. It never sends a command twice."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0), socket_timeout=1.0)


# ------------------------------------------------------------------ the command line


def open_strategy_store(config: Config) -> StrategyStore:
    """What the command line asks of the records. The data folder, the database in it and the paper account are made
    if they are not there.

    Raises:
        BadInput: the folder cannot be used, or the database is not ours or of a newer squareoff.
        RecordsUnavailable: the database cannot be read or written now.
    """
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.definition import DEFAULT_ACCOUNT

    config.make_data_folder()
    store = StrategyStore(Database.open(config.database))
    if DEFAULT_ACCOUNT not in store.accounts():
        store.add_account(DEFAULT_ACCOUNT, broker="paper")
    return store


def save_strategies(config: Config, strategies: Sequence[Strategy]) -> tuple[Strategy, ...]:
    """Save new strategies in one transaction: all of them, or none. Raises as `open_strategy_store`, and BadInput
    for a name that is taken or an account there is not."""
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import StrategyStore

    with Database.open(config.database).write() as connection:
        store = StrategyStore(cast("Database", _OneTransaction(connection)))
        return tuple(store.add(strategy) for strategy in strategies)


class _OneTransaction:
    """A database whose every read and write goes into the transaction that is open already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        yield self._connection

    read = write


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceData:
    """What can be traded, and when: the shipped facts under the trader's own in `folder`."""

    folder: Path
    instruments: Instruments
    hours: Mapping[str, ExchangeHours]
    """By exchange."""

    def calendar(self, exchange: str) -> Calendar:
        """Raises BadInput or CalendarFileError."""
        from squareoff.adapters.reference_data import UnknownExchange, load_calendar

        with _readable(self.folder / "calendars"):
            try:
                return load_calendar(exchange, self.folder)
            except UnknownExchange as error:
                raise BadInput("exchange", str(error)) from error


def reference_data(config: Config) -> ReferenceData:
    """Raises InstrumentFileError, or BadInput if a file of the trader cannot be read."""
    from squareoff.adapters.reference_data import load_exchange_hours, load_instruments

    with _readable(config.reference / "instruments.csv"):
        instruments = load_instruments(config.reference)
    return ReferenceData(folder=config.reference, instruments=instruments, hours=load_exchange_hours())


def zone_of(symbol: str) -> ZoneInfo:
    """The zone of a symbol's exchange; UTC for an exchange we no longer know."""
    from squareoff.adapters.reference_data import load_exchange_hours

    hours = load_exchange_hours().get(symbol.partition(":")[0])
    return ZoneInfo("UTC") if hours is None else hours.zone


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput("reference", f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput("reference", f"{path} is not UTF-8 text", "save it as UTF-8") from error


def now() -> datetime:
    """Trading time of this machine, for those who only look."""
    from squareoff.adapters.clock import SystemClock

    return SystemClock().now()


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What one worker process is told. `clock_file` None: the real clock."""

    data: Path
    account: AccountId
    broker_url: str
    redis_url: str
    token: str = "paper"
    clock_file: Path | None = None
    request_timeout_s: float = 3.0
    quarantine_s: float = 120.0


async def run_worker(settings: WorkerSettings, *, ready: Callable[[], None], stop: asyncio.Event) -> None:
    """The engine of one account on the real adapters, until `stop` is set.

    `ready` is called when recovery is done. Raises AlreadyRunning if another process works the account.
    """
    import os

    from squareoff.adapters.alerts import TerminalAlerts
    from squareoff.adapters.brokers.paper.client import FACTS, PaperBroker
    from squareoff.adapters.clock import PacedClock, SystemClock
    from squareoff.adapters.feeds.paper import PaperFeed
    from squareoff.adapters.lease import FileLease
    from squareoff.adapters.redis.store import RedisRuntimeStore
    from squareoff.adapters.spool import FileSpool
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.records import SqlRecords
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.chasing import Chaser
    from squareoff.core.board import Board
    from squareoff.core.orders import Stamp
    from squareoff.engine import Engine
    from squareoff.gateway import Gateway
    from squareoff.keepers import Keepers
    from squareoff.listener import Listener
    from squareoff.precedence import OrdersFirst
    from squareoff.recovery import recover
    from squareoff.scheduler import Scheduler

    account = settings.account
    folder = settings.data / "accounts"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lease = FileLease(folder, account)
    lease.acquire()
    clock: Clock = SystemClock() if settings.clock_file is None else PacedClock(settings.clock_file)
    database = Database.open(settings.data / DATABASE_NAME)
    records = SqlRecords(database)
    spool = FileSpool(folder / f"{account}.spool", lease.machine, lease.boot)
    runtime = RedisRuntimeStore(settings.redis_url, owner=f"worker-{os.getpid()}", timeout_s=REDIS_TIMEOUT_S)
    facts = replace(FACTS, request_timeout_s=settings.request_timeout_s, quarantine_s=settings.quarantine_s)
    broker = PaperBroker(settings.broker_url, token=settings.token, facts=facts)
    fence = await records.take_lease(account, owner=f"pid {os.getpid()}", machine=lease.machine, boot=lease.boot)
    loop, board = asyncio.get_running_loop(), Board()
    engine: Engine
    scheduler = Scheduler(
        board=board,
        clock=clock,
        loop=loop,
        notify=lambda run_id, signal: engine.notify(run_id, signal),
        wake=lambda run_id: engine.wake(run_id),
    )
    engine = Engine(
        account=account,
        board=board,
        clock=clock,
        records=records,
        journal=records,
        runtime=runtime,
        broker=broker,
        gateway=Gateway(broker=broker, lease=lease, spool=spool, clock=clock),
        spool=spool,
        alerts=TerminalAlerts(),
        stamp=Stamp(fence=fence, machine=lease.machine, boot=lease.boot),
        set_timers=scheduler.set_timers,
        spawn=loop.create_task,
        precedence=OrdersFirst(loop, clock.monotonic_s, quiet_s=QUIET_S),
        chase=lambda run: chaser.chase(run),
    )
    chaser = Chaser(engine=engine, clock=clock, broker=broker, spawn=loop.create_task)
    listener = Listener(board=board, clock=clock, notify=engine.notify, on_low=engine.on_low)
    planner = RunPlanner(StrategyStore(database), records, settings.data / REFERENCE_NAME)
    keepers = Keepers(
        engine=engine,
        clock=clock,
        broker=broker,
        feed=PaperFeed(settings.broker_url, token=settings.token),
        on_tick=listener.on_tick,
        records=records,
        runtime=runtime,
        new_run=planner.new_run,
    )
    tasks = [loop.create_task(work) for work in keepers.first_loops()]
    try:
        await recover(
            account=account,
            engine=engine,
            records=records,
            journal=records,
            runtime=runtime,
            broker=broker,
            spool=spool,
            clock=clock,
        )
        tasks += [loop.create_task(work) for work in keepers.later_loops()]
        ready()
        await _until(stop, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        scheduler.close()
        engine.say(JournalKind.NOTE, "this worker stops; it sells nothing by itself")
        await records.flush()
        await records.close()
        await broker.close()
        await runtime.close()
        database.close()
        spool.close()
        lease.release()


async def _until(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Until asked to stop, or until a keeper ends, which it never should."""
    asked = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait({asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    for task in done - {asked}:
        task.result()


class RunPlanner:
    """Makes the run of a strategy for its next session."""

    def __init__(self, strategies: StrategyStore, records: Records, reference: Path) -> None:
        self._strategies, self._records, self._reference = strategies, records, reference

    async def new_run(self, strategy_id: StrategyId, now: datetime) -> Run:
        """Raises BadInput if there is no such strategy, or no session it fits in."""
        from squareoff.core.definition import plan_for
        from squareoff.core.orders import order_key
        from squareoff.core.run import Run

        strategy = self._strategies.get(strategy_id)
        session, instrument = self._market(strategy, now)
        run_id = await self._records.next_run_id()
        plan = plan_for(strategy, run_id=run_id, session=session, instrument=instrument)
        return Run(plan=plan, key=order_key(self._records.install_id, run_id))

    def _market(self, strategy: Strategy, now: datetime) -> tuple[Session, Instrument]:
        from squareoff.adapters.reference_data import load_calendar, load_instruments
        from squareoff.core.definition import next_session_for

        try:
            instrument = load_instruments(self._reference).find(strategy.symbol)
            calendar = load_calendar(instrument.exchange, self._reference)
            return next_session_for(strategy, calendar, now), instrument
        except (LookupError, ValueError, OSError) as error:  # unknown symbol, exchange or year; a file that is wrong
            raise BadInput(f"{strategy.name}: symbol", f"{strategy.symbol} cannot be planned: {error}") from error
