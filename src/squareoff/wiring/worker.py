"""The engine of one account on the real adapters: a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from squareoff.config import Config
from squareoff.core.types import AccountId, Symbol
from squareoff.errors import FenceLost, RecordsUnavailable
from squareoff.market import Market, load_market
from squareoff.ports import Alerts, Clock, JournalKind, Severity, WatchedClock
from squareoff.wiring.holding import LeaseKind, hold_by_file, hold_in_sql, lock_file, sql_lease
from squareoff.wiring.planner import Preflight, RunPlanner

if TYPE_CHECKING:
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.board import Board
    from squareoff.core.plausible import PriceLimits
    from squareoff.engine import Engine

REDIS_TIMEOUT_S = 0.25
"""How long a Redis that hangs is waited for. Exits do not wait for it at all."""

ALERTS_WITHIN_S = 3.0
"""How long a worker that ends waits until its last alerts have left."""
BEAT_S = 2.0
TELL_AGAIN_AFTER = 60
"""How often a database that is away at the start is asked before a person is told again."""
HALTED_LOOKS_EVERY_S = 0.1


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """What one worker process is told. `clock_file` None: the real clock."""

    data: Path
    account: AccountId
    broker_url: str
    redis_url: str
    token: str = "paper"
    clock_file: Path | None = None
    clock_step_file: Path | None = None
    """For tests: seconds by which the machine's clock was set forward, beside a paced clock."""
    request_timeout_s: float = 3.0
    quarantine_s: float = 120.0
    lease: LeaseKind = LeaseKind.FILE
    lease_ttl_s: float = 10.0
    """Of a lease in SQL: how long its holder may send after it last renewed it."""
    log: Path | None = None
    """The log for machines; None: in the data folder."""
    standby: bool = False
    """Wait until the account is free, instead of refusing to start."""


async def run_worker(
    settings: WorkerSettings,
    *,
    ready: Callable[[], None],
    stop: asyncio.Event,
    check: Preflight | None = None,
    waits: Callable[[str], None] = lambda why: None,
) -> None:
    """The engine of one account on the real adapters, until `stop` is set.

    `ready` is called when recovery is done; `check`, in a thread, for each waiting run; `waits`, with the holder, when
    a standby begins to wait.

    Raises AlreadyRunning if another process works the account, FenceLost if it was lost to another.
    """
    import os

    from squareoff.adapters.acknowledged import AcknowledgedFile
    from squareoff.adapters.brake import FileBrake
    from squareoff.adapters.brokers.paper.client import FACTS, PaperBroker
    from squareoff.adapters.dice import throw
    from squareoff.adapters.feeds.paper import PaperFeed, PaperQuotes
    from squareoff.adapters.lease import FileLease
    from squareoff.adapters.redis.store import RedisRuntimeStore
    from squareoff.adapters.spool import FileSpool
    from squareoff.adapters.sql.records import SqlRecords
    from squareoff.chasing import Chaser
    from squareoff.core.board import Board
    from squareoff.core.orders import Stamp
    from squareoff.core.plausible import PriceLimits
    from squareoff.engine import Engine
    from squareoff.faults import FaultPoints
    from squareoff.feeding import FeedKeeper
    from squareoff.gateway import Gateway
    from squareoff.keepers import Keepers
    from squareoff.listener import Listener
    from squareoff.precedence import QUIET_S, OrdersFirst
    from squareoff.recovery import recover
    from squareoff.scheduler import Scheduler
    from squareoff.timekeeping import Timekeeper
    from squareoff.wiring.alerts import open_alerts, open_heartbeat
    from squareoff.wiring.telling import Teller, Watched, log_file, metrics_file, secrets_of

    points = FaultPoints.from_environment()
    account = settings.account
    folder = settings.data / "accounts"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    waited: list[str] = []

    def stand_by(why: str) -> None:
        waited.append(why)
        waits(why)

    on_wait = stand_by if settings.standby else None
    held = FileLease(folder, account)
    if not await lock_file(held, stop, on_wait):
        return
    clock, watched = _clock(settings, memory=folder / f"{account}.clock", boot=held.boot)
    alerts = open_alerts(settings.data, now=clock.now, account=account)
    heartbeat = open_heartbeat(settings.data, alerts, account=account)
    config = Config(data=settings.data)
    database = await _open_database(config.database, alerts, account, stop)
    sql = SqlRecords(database)
    in_sql = sql_lease(database, account, held, ttl_s=settings.lease_ttl_s, sleep=clock.sleep)
    hold = hold_in_sql if settings.lease is LeaseKind.SQL else hold_by_file
    is_ours = await hold(sql, in_sql, settings.request_timeout_s, stop, on_wait)
    shared = in_sql if settings.lease is LeaseKind.SQL else None
    if not is_ours:
        await sql.close()
        database.close()
        held.release()
        return
    loop = asyncio.get_running_loop()
    keeping = [] if shared is None else [loop.create_task(shared.keep())]
    lease = points.around("lease", shared or held)
    records = points.around("records", sql)
    teller = Teller(
        account=account,
        journal=points.around("journal", sql),
        snapshot=metrics_file(config.run_folder, account),
        log=settings.log or log_file(config.logs, account),
        secrets=secrets_of(settings.token, settings.redis_url, config.database),
    )
    journal = teller.journal
    file = FileSpool(folder / f"{account}.spool", lease.machine, lease.boot)
    spool = points.around("spool", file)
    redis = RedisRuntimeStore(settings.redis_url, owner=f"worker-{os.getpid()}", timeout_s=REDIS_TIMEOUT_S)
    runtime = points.around("runtime", redis)
    facts = replace(FACTS, request_timeout_s=settings.request_timeout_s, quarantine_s=settings.quarantine_s)
    venue = PaperBroker(settings.broker_url, token=settings.token, facts=facts, on_written=points.when_written())
    broker = points.around("broker", venue)
    fence = await records.take_lease(
        account,
        owner=f"pid {os.getpid()}",
        machine=lease.machine,
        boot=lease.boot,
        holder=None if shared is None else shared.holder,
    )
    board = Board()
    limits: dict[Symbol, PriceLimits] = {}
    precedence = OrdersFirst(loop, clock.monotonic_s, quiet_s=QUIET_S)
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
        journal=journal,
        runtime=runtime,
        broker=broker,
        gateway=Gateway(broker=broker, lease=lease, spool=spool, clock=clock, meter=teller.figures),
        spool=spool,
        alerts=teller.alerts(points.around("alerts", alerts)),
        stamp=Stamp(fence=fence, machine=lease.machine, boot=lease.boot),
        set_timers=scheduler.set_timers,
        spawn=loop.create_task,
        precedence=precedence,
        chase=lambda run: chaser.chase(run),
        is_acknowledged=AcknowledgedFile(folder, account).has,
        limits=lambda symbol: limits.get(symbol, PriceLimits()),
        shares_database=shared is not None,
        meter=teller.figures,
    )
    chaser = Chaser(engine=engine, clock=clock, broker=broker, spawn=loop.create_task, meter=teller.figures)
    listener = Listener(
        board=board,
        clock=clock,
        notify=engine.notify,
        on_low=engine.on_low,
        limits=lambda symbol: limits.get(symbol, PriceLimits()),
        meter=teller.figures,
    )
    second_source = PaperQuotes(settings.broker_url, token=settings.token)
    quotes = points.around("quotes", second_source)
    feeding = FeedKeeper(
        engine=engine,
        clock=clock,
        feed=points.around("feed", PaperFeed(settings.broker_url, token=settings.token)),
        quotes=quotes,
        listener=listener,
        dice=throw,
    )
    planner = RunPlanner(account, await asyncio.to_thread(strategies_of, database, account), records, config, limits)
    keepers = Keepers(
        engine=engine,
        clock=clock,
        broker=broker,
        feed_loops=feeding.loops(),
        records=records,
        runtime=runtime,
        planner=points.around("planner", planner),
        brake=points.around("brake", FileBrake(folder, account)),
        plans_every_s=plans_every_s(load_market(config.run_folder)),
    )
    await keepers.read_rules()  # before anything could be bought
    tasks = [*keeping, *(loop.create_task(work) for work in keepers.first_loops())]
    tasks.append(loop.create_task(_end_when_halted(engine, clock)))
    tasks.append(loop.create_task(keepers.for_ever(chaser.replace_resting_exits)))
    tasks.append(loop.create_task(_beat(heartbeat.beat, board, clock)))
    if watched is not None:
        timekeeper = Timekeeper(engine=engine, clock=watched, broker=broker, moved=scheduler.time_moved)
        tasks.append(loop.create_task(keepers.for_ever(timekeeper.keep_time)))
    if waited:
        engine.say(JournalKind.NOTE, f"stood by: {waited[-1]}; now it is ours", fence=fence)
    recovering = loop.create_task(
        recover(
            account=account,
            engine=engine,
            records=records,
            journal=journal,
            runtime=runtime,
            broker=broker,
            spool=spool,
            clock=clock,
            licences_first=shared is not None,
        )
    )
    teller.watched = Watched(
        clock=clock,
        engine=engine,
        listener=listener,
        feeding=feeding,
        precedence=precedence,
        orders_per_s=facts.orders_per_s,
        has_recovered=recovering.done,
    )
    tasks.append(loop.create_task(keepers.for_ever(teller.keep_telling)))
    try:
        await _until(stop, [*tasks, recovering])  # a broker that is away must not keep us from hearing the rest
        if recovering.done():
            tasks += [loop.create_task(work) for work in keepers.later_loops()]
            if check is not None:
                tasks.append(loop.create_task(keepers.for_ever(planner.mornings(engine, clock, check).keep)))
            ready()
            await _until(stop, tasks)
    except FenceLost as error:
        engine.halt(str(error))
        raise
    finally:
        for task in (*tasks, recovering):
            task.cancel()
        await asyncio.gather(*tasks, recovering, return_exceptions=True)
        scheduler.close()
        engine.say(JournalKind.NOTE, "this worker stops; it sells nothing by itself")
        if engine.halted is None:  # else another worker watches, or the alarm has said why nobody does
            engine.tell_unwatched()
        with suppress(RecordsUnavailable):  # the records say themselves what they could not write
            await sql.flush()
        await sql.close()
        await venue.close()
        await second_source.close()
        await redis.close()
        if shared is not None:
            await shared.release()
        database.close()
        file.close()
        held.release()
        heartbeat.close()
        await asyncio.to_thread(teller.close)
        await asyncio.to_thread(alerts.close, ALERTS_WITHIN_S)


def _clock(settings: WorkerSettings, *, memory: Path, boot: str) -> tuple[Clock, WatchedClock | None]:
    """Trading time, and the same once more if somebody may set the clock it comes from."""
    from squareoff.adapters.clock import ConfirmedClock, PacedClock

    if settings.clock_file is None:
        watched = ConfirmedClock.of_machine(memory=memory, boot=boot)
    elif settings.clock_step_file is not None:
        paced = PacedClock(settings.clock_file)
        watched = ConfirmedClock.set_by(settings.clock_step_file, paced, memory=memory, boot=boot)
    else:
        return PacedClock(settings.clock_file), None
    return watched, watched


async def _open_database(where: Path | str, alerts: Alerts, account: AccountId, stop: asyncio.Event) -> Database:
    """A server that does not answer is waited for, and a person told: without it nobody knows what is held, so nobody
    watches it. Raises RecordsUnavailable if a file cannot be opened, or when asked to stop."""
    from squareoff.adapters.sql.database import Database

    asked = 0
    while True:
        try:
            return await asyncio.to_thread(Database.open, where)
        except RecordsUnavailable as error:
            if isinstance(where, Path) or stop.is_set():
                raise
            if asked % TELL_AGAIN_AFTER == 0:
                headline = f"account {account} is not watched: its database does not answer"
                text = f"{error}. It is asked again each second. Until it answers only your broker knows what is held."
                alerts.tell(Severity.URGENT, headline, text)
        asked += 1
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)


def strategies_of(database: Database, account: AccountId) -> StrategyStore:
    """The strategies of the user whose account it is."""
    from squareoff.adapters.sql.strategies import StrategyStore

    everybodys = StrategyStore(database)
    return StrategyStore(database, everybodys.every_account().get(account, everybodys.user))


def plans_every_s(market: Market | None) -> float:
    """Each trading minute, at least each real second: a run that is made at 08:30 must be there at 09:15."""
    return 1.0 if market is None else min(1.0, max(0.05, 60 / market.speed))


async def _beat(beat: Callable[[str], None], board: Board, clock: Clock) -> None:
    """Tell whoever watches from outside that the loop which watches the stop-losses goes round."""
    while True:
        held = sum(1 for run in board.runs.values() if run.remaining_qty > 0)
        beat(f"{len(board.runs)} runs, {held} of them hold something")
        await clock.sleep(BEAT_S)


async def _end_when_halted(engine: Engine, clock: Clock) -> None:
    """A worker that sends nothing any more must not keep the account from others."""
    while engine.halted is None:
        await clock.sleep(HALTED_LOOKS_EVERY_S)
    raise FenceLost(engine.halted)


async def _until(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Until asked to stop, or until one of `tasks` ends; what it raised is raised here."""
    asked = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait({asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    for task in done - {asked}:
        task.result()
