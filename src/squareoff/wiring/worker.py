"""The engine of one account on the real adapters: a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.types import AccountId, RunId, StrategyId, Symbol
from squareoff.errors import RecordsUnavailable
from squareoff.market import Market, load_market
from squareoff.ports import Alerts, Clock, JournalKind, Planned, Records, Severity
from squareoff.wiring import ReferenceData, exchange_hours, reference_data

if TYPE_CHECKING:
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.board import Board
    from squareoff.core.plausible import PriceLimits
    from squareoff.core.preflight import Check
    from squareoff.core.repeat import Turn
    from squareoff.core.run import Run
    from squareoff.core.strategy import Plan, Strategy
    from squareoff.mornings import Mornings, Told

REDIS_TIMEOUT_S = 0.25
"""How long a Redis that hangs is waited for. Exits do not wait for it at all."""

QUIET_S = 0.003
"""Bookkeeping goes on when no order has left for this long: a burst of stop-losses is sent first."""

ALERTS_WITHIN_S = 3.0
"""How long a worker that ends waits until its last alerts have left."""
BEAT_S = 2.0
TELL_AGAIN_AFTER = 60
"""How often a database that is away at the start is asked before a person is told again."""


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
    from squareoff.adapters.sql.records import SqlRecords
    from squareoff.adapters.sql.strategies import StrategyStore
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
    from squareoff.precedence import OrdersFirst
    from squareoff.recovery import recover
    from squareoff.scheduler import Scheduler
    from squareoff.wiring.alerts import open_alerts, open_heartbeat

    points = FaultPoints.from_environment()
    account = settings.account
    folder = settings.data / "accounts"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    held = FileLease(folder, account)
    held.acquire()
    lease = points.around("lease", held)
    clock: Clock = SystemClock() if settings.clock_file is None else PacedClock(settings.clock_file)
    alerts = open_alerts(settings.data, now=clock.now, account=account)
    heartbeat = open_heartbeat(settings.data, alerts, account=account)
    config = Config(data=settings.data)
    database = await _open_database(config.database, alerts, account, stop)
    sql = SqlRecords(database)
    records, journal = points.around("records", sql), points.around("journal", sql)
    file = FileSpool(folder / f"{account}.spool", lease.machine, lease.boot)
    spool = points.around("spool", file)
    redis = RedisRuntimeStore(settings.redis_url, owner=f"worker-{os.getpid()}", timeout_s=REDIS_TIMEOUT_S)
    runtime = points.around("runtime", redis)
    facts = replace(FACTS, request_timeout_s=settings.request_timeout_s, quarantine_s=settings.quarantine_s)
    venue = PaperBroker(settings.broker_url, token=settings.token, facts=facts, on_written=points.when_written())
    broker = points.around("broker", venue)
    await sql.keep_account(account)
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
        journal=journal,
        runtime=runtime,
        broker=broker,
        gateway=Gateway(broker=broker, lease=lease, spool=spool, clock=clock),
        spool=spool,
        alerts=points.around("alerts", alerts),
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
    planner = RunPlanner(account, StrategyStore(database), records, config, limits)
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
    tasks = [loop.create_task(work) for work in keepers.first_loops()]
    tasks.append(loop.create_task(_beat(heartbeat.beat, board, clock)))
    try:
        await recover(
            account=account,
            engine=engine,
            records=records,
            journal=journal,
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
        with suppress(RecordsUnavailable):  # the records say themselves what they could not write
            await sql.flush()
        await sql.close()
        await venue.close()
        await second_source.close()
        await redis.close()
        database.close()
        file.close()
        held.release()
        heartbeat.close()
        await asyncio.to_thread(alerts.close, ALERTS_WITHIN_S)


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
    """Makes the run of a strategy of `account` for its next session, and notes in `limits` which prices its symbol can
    have."""

    def __init__(
        self,
        account: AccountId,
        strategies: StrategyStore,
        records: Records,
        config: Config,
        limits: dict[Symbol, PriceLimits],
    ) -> None:
        self._account = account
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
        # those of another account are its own worker's
        repeating = [each for each in self._strategies.repeating() if each[0].account == self._account]
        revision = self._strategies.total_revision()
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
