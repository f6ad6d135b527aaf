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

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.types import AccountId, RunId, StrategyId, Symbol, Tick
from squareoff.market import ALL_DAY, CLOCK_NAME, Market, load_market
from squareoff.ports import Brake, Clock, JournalKind, Planned, Records

if TYPE_CHECKING:
    from redis import Redis
    from sqlalchemy.engine import Connection

    from squareoff.adapters.brokers.paper.ledger import LedgerAudit
    from squareoff.adapters.clock import PacedClock
    from squareoff.adapters.feeds.recorded import RecordedData
    from squareoff.adapters.redis.server import RedisServer
    from squareoff.adapters.sql.backup import DatabaseLook
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.board import Board
    from squareoff.core.instruments import Instruments
    from squareoff.core.plausible import PriceLimits
    from squareoff.core.preflight import Check
    from squareoff.core.repeat import Turn
    from squareoff.core.run import Run
    from squareoff.core.session import Calendar, ExchangeHours
    from squareoff.core.strategy import Plan, Strategy
    from squareoff.mornings import Mornings, Told
    from squareoff.simulation.replay import World

_Word = TypeVar("_Word", bound=StrEnum)

REPLAY_ACCOUNT = AccountId("replay")
DATABASE_NAME = "squareoff.db"
REDIS_TIMEOUT_S = 0.25
"""How long a Redis that hangs is waited for. Exits do not wait for it at all."""

QUIET_S = 0.003
"""Bookkeeping goes on when no order has left for this long: a burst of stop-losses is sent first."""

ALERTS_WITHIN_S = 3.0
"""How long a worker that ends waits until its last alerts have left."""
BEAT_S = 2.0


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
    market: Market | None = None
    """None: the real one, with its calendars."""

    def calendar(self, exchange: str) -> Calendar:
        """Raises BadInput or CalendarFileError."""
        from squareoff.adapters.reference_data import UnknownExchange, load_calendar
        from squareoff.core.session import Calendar

        if self.market is not None and (hours := self.hours.get(exchange)) is not None:
            days = self.market.days
            return Calendar.from_days(hours, days) if days else Calendar.always_open(hours)
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
    hours, market = load_exchange_hours(), load_market(config.run_folder)
    if market is not None and not market.days:  # practice trades at every hour, and no broker squares off in it
        hours = {
            name: replace(each, regular=ALL_DAY, square_off={}, closing_auction=None, always_open=True)
            for name, each in hours.items()
        }
    if market is not None and market.days:  # recorded prices: on paper also an index can be bought
        instruments = instruments.all_tradable()
    return ReferenceData(folder=config.reference, instruments=instruments, hours=hours, market=market)


def trading_clock(config: Config) -> Clock:
    """The clock that the processes of `squareoff up` go by in this folder; the real one if it never ran there."""
    from squareoff.adapters.clock import PacedClock, SystemClock

    market = load_market(config.run_folder)
    if market is None or market.boot != this_boot():
        return SystemClock()
    return PacedClock(config.run_folder / CLOCK_NAME)


def this_boot() -> str:
    from squareoff.adapters.lease import boot_id

    return boot_id()


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


def now(config: Config) -> datetime:
    """Trading time of this folder, for those who only look."""
    return trading_clock(config).now()


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


Preflight = Callable[[Config, "Sequence[Strategy]", datetime], "Sequence[Sequence[Check]]"]


async def run_worker(
    settings: WorkerSettings, *, ready: Callable[[], None], stop: asyncio.Event, check: Preflight | None = None
) -> None:
    """The engine of one account on the real adapters, until `stop` is set.

    `ready` is called when recovery is done; `check`, in a thread, for each waiting run.

    Raises AlreadyRunning if another process works the account.
    """
    import os

    from squareoff.adapters.acknowledged import AcknowledgedFile
    from squareoff.adapters.brake import FileBrake
    from squareoff.adapters.brokers.paper.client import FACTS, PaperBroker
    from squareoff.adapters.clock import PacedClock, SystemClock
    from squareoff.adapters.dice import throw
    from squareoff.adapters.feeds.paper import PaperFeed, PaperQuotes
    from squareoff.adapters.lease import FileLease
    from squareoff.adapters.redis.store import RedisRuntimeStore
    from squareoff.adapters.spool import FileSpool
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.records import SqlRecords
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.alerts_wiring import open_alerts, open_heartbeat
    from squareoff.chasing import Chaser
    from squareoff.core.board import Board
    from squareoff.core.orders import Stamp
    from squareoff.core.plausible import PriceLimits
    from squareoff.engine import Engine
    from squareoff.feeding import FeedKeeper
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
    alerts = open_alerts(settings.data, now=clock.now)
    heartbeat = open_heartbeat(settings.data, alerts)
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
        alerts=alerts,
        stamp=Stamp(fence=fence, machine=lease.machine, boot=lease.boot),
        set_timers=scheduler.set_timers,
        spawn=loop.create_task,
        precedence=OrdersFirst(loop, clock.monotonic_s, quiet_s=QUIET_S),
        chase=lambda run: chaser.chase(run),
        is_acknowledged=AcknowledgedFile(folder, account).has,
    )
    chaser = Chaser(engine=engine, clock=clock, broker=broker, spawn=loop.create_task)
    limits: dict[Symbol, PriceLimits] = {}
    listener = Listener(
        board=board,
        clock=clock,
        notify=engine.notify,
        on_low=engine.on_low,
        limits=lambda symbol: limits.get(symbol, PriceLimits()),
    )
    quotes = PaperQuotes(settings.broker_url, token=settings.token)
    feeding = FeedKeeper(
        engine=engine,
        clock=clock,
        feed=PaperFeed(settings.broker_url, token=settings.token),
        quotes=quotes,
        listener=listener,
        dice=throw,
    )
    config = Config(data=settings.data)
    planner = RunPlanner(StrategyStore(database), records, config, limits)
    keepers = Keepers(
        engine=engine,
        clock=clock,
        broker=broker,
        feed_loops=feeding.loops(),
        records=records,
        runtime=runtime,
        planner=planner,
        brake=FileBrake(folder, account),
        plans_every_s=plans_every_s(load_market(config.run_folder)),
    )
    await keepers.read_rules()  # before anything could be bought
    tasks = [loop.create_task(work) for work in keepers.first_loops()]
    tasks.append(loop.create_task(_beat(heartbeat.beat, board, clock)))
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
        if check is not None:
            tasks.append(loop.create_task(keepers.for_ever(planner.mornings(engine, clock, check).keep)))
        ready()
        await _until(stop, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        scheduler.close()
        engine.say(JournalKind.NOTE, "this worker stops; it sells nothing by itself")
        engine.tell_unwatched()
        await records.flush()
        await records.close()
        await broker.close()
        await quotes.close()
        await runtime.close()
        database.close()
        spool.close()
        lease.release()
        heartbeat.close()
        await asyncio.to_thread(alerts.close, ALERTS_WITHIN_S)


def plans_every_s(market: Market | None) -> float:
    """Each trading minute, at least each real second: a run that is made at 08:30 must be there at 09:15."""
    return 1.0 if market is None else min(1.0, max(0.05, 60 / market.speed))


async def _beat(beat: Callable[[str], None], board: Board, clock: Clock) -> None:
    """Tell whoever watches from outside that the loop which watches the stop-losses goes round."""
    while True:
        held = sum(1 for run in board.runs.values() if run.remaining_qty > 0)
        beat(f"{len(board.runs)} runs, {held} of them hold something")
        await clock.sleep(BEAT_S)


async def _until(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Until asked to stop, or until a keeper ends, which it never should."""
    asked = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait({asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    for task in done - {asked}:
        task.result()


def _strategy_of(run: Run) -> StrategyId:
    return run.plan.strategy_id


class RunPlanner:
    """Makes the run of a strategy for its next session, and notes in `limits` which prices its symbol can have."""

    def __init__(
        self, strategies: StrategyStore, records: Records, config: Config, limits: dict[Symbol, PriceLimits]
    ) -> None:
        self._strategies, self._records, self._config, self._limits = strategies, records, config, limits
        self._revision, self._is_edit_open = -1, False

    async def new_run(self, strategy_id: StrategyId, now: datetime) -> Run:
        """Raises BadInput if there is no such strategy, or no session it fits in."""
        from squareoff.core.orders import order_key
        from squareoff.core.run import Run

        strategy = self._strategies.get(strategy_id)
        plan_of = self._planned(strategy, now)
        run_id = await self._records.next_run_id()
        return Run(plan=plan_of(run_id), key=order_key(self._records.install_id, run_id))

    def _planned(self, strategy: Strategy, now: datetime) -> Callable[[RunId], Plan]:
        from squareoff.core.definition import next_session_for, plan_for
        from squareoff.core.plausible import limits_of
        from squareoff.core.strategy import Timing

        try:
            reference = reference_data(self._config)
            instrument = reference.instruments.find(strategy.symbol)
            session = next_session_for(strategy, reference.calendar(instrument.exchange), now)
        except (LookupError, ValueError, OSError) as error:  # unknown symbol, exchange or year; a file that is wrong
            raise BadInput(f"{strategy.name}: symbol", f"{strategy.symbol} cannot be planned: {error}") from error
        self._limits[instrument.symbol] = limits_of(instrument, session.day)
        timing = Timing() if reference.market is None else reference.market.timing
        return lambda run_id: plan_for(strategy, run_id=run_id, session=session, instrument=instrument, timing=timing)

    def mornings(self, engine: Told, clock: Clock, check: Preflight) -> Mornings:
        from squareoff.core.definition import DEFAULT_EXCHANGE
        from squareoff.mornings import Mornings

        def look(runs: Sequence[Run], now: datetime) -> Sequence[Sequence[Check]]:
            known = {strategy.id: strategy for strategy in self._strategies.list()}
            found = iter(check(self._config, [known[id_] for id_ in map(_strategy_of, runs) if id_ in known], now))
            return [next(found) if _strategy_of(run) in known else () for run in runs]

        async def checked(runs: Sequence[Run]) -> Sequence[Sequence[Check]]:
            return await asyncio.to_thread(look, runs, clock.now())

        def opens_at(run: Run) -> datetime:
            calendar = reference_data(self._config).calendar(run.plan.symbol.partition(":")[0])
            session = calendar.session_on(run.plan.trading_day)
            return run.plan.buy_at if session is None else session.opens_at

        zone = exchange_hours()[DEFAULT_EXCHANGE].zone
        return Mornings(engine=engine, clock=clock, zone=zone, opens_at=opens_at, check=checked)

    async def look(self, now: datetime, runs: Sequence[Run]) -> Planned:
        """`ports.Planner`; SQL and files are read in a thread: a stop-loss does not wait for them."""
        return await asyncio.to_thread(self._look, now, runs)

    def _look(self, now: datetime, runs: Sequence[Run]) -> Planned:
        repeating, revision = self._strategies.repeating(), self._strategies.total_revision()
        look_at_edits = revision != self._revision or self._is_edit_open
        if not repeating and not look_at_edits:
            return Planned()
        reference = reference_data(self._config)
        plans = self._edits(reference, runs) if look_at_edits else {}
        self._revision, self._is_edit_open = revision, bool(plans)
        turns = {strategy.id: self._turn(reference, strategy, earlier, now) for strategy, earlier in repeating}
        return Planned(
            due=tuple(strategy_id for strategy_id, turn in turns.items() if turn.make),
            waiting={strategy_id: turn.reason for strategy_id, turn in turns.items() if turn.is_trouble},
            edited=plans,
        )

    def _turn(self, reference: ReferenceData, strategy: Strategy, earlier: Run | None, now: datetime) -> Turn:
        from squareoff.core.repeat import Turn, turn_of

        try:
            calendar = reference.calendar(strategy.symbol.partition(":")[0])
        except (BadInput, ValueError) as error:
            return Turn(make=False, reason=str(error), is_trouble=True)
        try:
            instrument = reference.instruments.find(strategy.symbol)
        except LookupError:
            instrument = None
        return turn_of(strategy, calendar, instrument, now, earlier)

    def _edits(self, reference: ReferenceData, runs: Sequence[Run]) -> dict[RunId, Plan]:
        """The plans of runs that do not say what their definition says now."""
        from squareoff.core.edit import edited, replanned

        by_id = {strategy.id: strategy for strategy in self._strategies.list()}
        plans: dict[RunId, Plan] = {}
        for run in runs:
            if (strategy := by_id.get(run.plan.strategy_id)) is None:
                continue
            session = reference.calendar(run.plan.symbol.partition(":")[0]).session_on(run.plan.trading_day)
            if session is None:
                continue
            plan = replanned(run.plan, strategy, session)
            if edited(run, plan) is not run:
                plans[run.plan.run_id] = plan
        return plans


# ------------------------------------------------------------------ looking at the set-up; backups


def database_look(path: Path) -> DatabaseLook:
    """Whether the database in the file `path` is ours, whole and can be written; it is not changed."""
    from squareoff.adapters.sql.backup import look

    return look(path)


def newest_database_version() -> str:
    """Four digits; of two, the greater text is the newer."""
    from squareoff.adapters.sql.backup import NEWEST_VERSION

    return NEWEST_VERSION


def copy_database(source: Path, target: Path) -> str:
    """Copy the database into the new file `target`, also while others write; returns its version. Raises
    RecordsUnavailable."""
    from squareoff.adapters.sql.backup import copy_database

    return copy_database(source, target).version


def put_copy_to_use(path: Path, *, install_id: str, at: datetime, text: str) -> None:
    """Check a copy and make it the database of an installation of its own. Raises BadInput, RecordsUnavailable."""
    from squareoff.adapters.sql.backup import put_to_use, verify

    verify(path)
    put_to_use(path, install_id=install_id, at=at, text=text)


def redis_problem(redis_url: str) -> str | None:
    """Why squareoff cannot use this Redis; None: it answers and fits. The address, which may hold a password, is not
    in the text."""
    from redis.exceptions import RedisError

    from squareoff.adapters.redis.server import UnsuitableServer, check_server

    try:
        with redis_client(redis_url) as client:
            check_server(client.info())
    except UnsuitableServer as error:
        return str(error)
    except (RedisError, OSError, ValueError) as error:
        return f"Redis does not answer ({type(error).__name__})"
    return None


def embedded_redis_problem(folder: Path) -> str | None:
    """Start the Redis that comes with squareoff in the empty `folder` and stop it again; why that failed."""
    from squareoff.adapters.redis.server import RedisServerError

    try:
        with embedded_redis(folder) as server:
            return redis_problem(server.url)
    except (RedisServerError, OSError) as error:
        return str(error)


def last_tick(redis_url: str, account: AccountId, symbol: Symbol) -> Tick | None:
    """The last price of one symbol with its instant, as Redis has it; None while it is not there."""
    from redis.exceptions import RedisError

    from squareoff.adapters.redis.keys import prices_key

    try:
        with redis_client(redis_url) as client:
            raw: bytes | None = client.hget(prices_key(account), symbol)
    except (RedisError, OSError, ValueError):
        return None
    if raw is None:
        return None
    price, at = raw.decode().split()
    return Tick(symbol, Decimal(price), datetime.fromisoformat(at))


def now_real() -> datetime:
    """The wall clock of this machine, UTC."""
    from squareoff.adapters.clock import SystemClock

    return SystemClock().now()


def exchange_hours() -> Mapping[str, ExchangeHours]:
    """The regular hours of every exchange squareoff knows."""
    from squareoff.adapters.reference_data import load_exchange_hours

    return load_exchange_hours()


def last_journal_instant(config: Config) -> datetime | None:
    """Trading time of the newest line of the journal; None without any."""
    store = open_strategy_store(config)
    try:
        return store.last_journal_instant()
    finally:
        store.close()


def lease_holder(folder: Path, account: AccountId) -> int | None:
    """The process that works `account` now; None if none does."""
    from squareoff.adapters.lease import holder

    return holder(folder, account)


def ring_bell(redis_url: str, account: AccountId | None = None) -> None:
    """Tell the worker that a wish waits in SQL. Without a Redis it finds it by itself, a second later."""
    from redis.exceptions import RedisError

    from squareoff.adapters.redis.keys import bell_key
    from squareoff.core.definition import DEFAULT_ACCOUNT

    if not redis_url:
        return
    try:
        with redis_client(redis_url) as client:
            client.execute_command("XADD", bell_key(account or DEFAULT_ACCOUNT), "MAXLEN", "1", "*", "ring", "1")
    except (RedisError, OSError, ValueError):
        return


def brake(config: Config, account: AccountId) -> Brake:
    """The kill switch's file of an account."""
    from squareoff.adapters.brake import FileBrake

    return FileBrake(config.data / "accounts", account)


def acknowledge(config: Config, account: AccountId, keys: Sequence[str]) -> None:
    """A person has seen these alarms: they are not repeated until something about them changes."""
    from squareoff.adapters.acknowledged import AcknowledgedFile

    AcknowledgedFile(config.data / "accounts", account).add(keys)
