"""One worker of the world, wired as `wiring.worker.run_worker` does, with everything that dies with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from squareoff.adapters.clock import ConfirmedClock
from squareoff.adapters.memory.runtime import MemoryRuntimeStore
from squareoff.adapters.memory.spool import MemoryHold, MemoryLease, MemorySpool, SpoolStore
from squareoff.chasing import Chaser
from squareoff.core.board import Board
from squareoff.core.events import Event
from squareoff.core.limits import AccountRules, DayTotals, Level
from squareoff.core.orders import Stamp
from squareoff.core.plausible import PriceLimits
from squareoff.core.run import Run
from squareoff.core.types import (
    AccountId,
    Fence,
    RunId,
    StrategyId,
    Symbol,
    Tick,
)
from squareoff.engine import Engine
from squareoff.errors import AlreadyRunning, BrokerUnavailable, FenceLost, RecordsUnavailable
from squareoff.faults import FaultPoints
from squareoff.feeding import FeedKeeper
from squareoff.gateway import Gateway
from squareoff.keepers import Keepers
from squareoff.leasing import SharedLease
from squareoff.listener import Listener
from squareoff.ports import (
    Claim,
    Clock,
    JournalEntry,
    Lease,
    Planned,
    Severity,
    SpoolContents,
    SpoolLatch,
    SpoolMark,
    WishRecord,
)
from squareoff.precedence import QUIET_S, OrdersFirst
from squareoff.recovery import recover
from squareoff.scheduler import Scheduler
from squareoff.simulation.day import A1, Alert, short
from squareoff.simulation.loop import SeededLoop
from squareoff.simulation.venue import Client
from squareoff.timekeeping import Timekeeper

if TYPE_CHECKING:
    from squareoff.simulation.world import World

STANDBY_LOOKS_EVERY_S = HALTED_LOOKS_EVERY_S = 0.1


@dataclass(slots=True)
class Machine:
    """What outlives a process on one machine: the spool's file, and who has the account's lock."""

    name: str = "m1"
    boot: str = "b1"
    spool: SpoolStore = field(default_factory=SpoolStore)
    holders: dict[AccountId, MemoryLease] = field(default_factory=dict)


class Process:
    """The engine of the account with everything that dies with it, wired as `wiring.worker.run_worker` does.

    On a `SeededLoop` it has a lane of its own, so it can die or stand still between any two steps, it stands by while
    another process has the account, and it ends once it has lost it."""

    def __init__(self, world: World, machine: Machine, *, points: FaultPoints | None = None, name: str = "") -> None:
        self.world, self.machine, self.alive, self.name = world, machine, True, name
        self.points = points or FaultPoints()
        self.tasks: set[asyncio.Task[None]] = set()
        self.loop = world.loop
        self.lane = world.loop.lane(name) if isinstance(world.loop, SeededLoop) else None
        self.board = Board()
        self.local = MemoryLease(A1, machine.holders, machine=machine.name, boot=machine.boot)
        self.shared: SharedLease | None = None
        if self.lane is None:
            self.local.acquire()
        elif world.lease_ttl_s is not None:
            self.shared = self._shared_lease(world, world.lease_ttl_s)
        around = self.points.around
        self.lease: Lease = around("lease", self.shared or self.local)
        records = ProcessRecords(self)
        self.records, self.journal = around("records", records), around("journal", records)
        self.spool = around("spool", ProcessSpool(self))
        self.client = Client(self)
        self.broker = around("broker", self.client)
        self.feed = Feed(self)
        self.runtime = around("runtime", ProcessRuntime(self))
        self.recovered = False
        self.watched: ConfirmedClock | None = None
        if world.clock_memory is not None:
            self.watched = ConfirmedClock(self.loop, self._wall, memory=world.clock_memory, boot=machine.boot)
        self.clock: Clock = self.watched or self.loop

    def _shared_lease(self, world: World, ttl_s: float) -> SharedLease:
        return SharedLease(
            MemoryHold(world.holds, A1, world.ask_for_lease),
            A1,
            self.local,
            ttl_s=ttl_s,
            holder=self.name,
            boot_s=self.loop.monotonic_s,
            wall_s=self.loop.monotonic_s,
            sleep=self.loop.sleep,
        )

    def _wall(self) -> datetime:
        return self.loop.now() + timedelta(seconds=self.world.wall_ahead_s)

    @property
    def has_account(self) -> bool:
        """Asked from outside: no fault point is reached by it."""
        return self.alive and (self.shared or self.local).is_held

    def begin(self) -> None:
        if self.lane is None:
            self.spawn(self._run())
        else:
            self.lane.context.run(self.spawn, self._run())

    async def _hold(self) -> Fence:
        """The account's lease, waited for; then its fence."""
        machine, holder = self.machine, None
        if self.lane is not None:
            await self._lock()
        if self.shared is not None:
            await self.shared.acquire(patience_s=self.world.facts.request_timeout_s, on_wait=lambda why: None)
            self.spawn(self.shared.keep())
            holder = self.shared.holder
        owner, name, boot = self.name or "test", machine.name, machine.boot
        return await self.records.take_lease(A1, owner=owner, machine=name, boot=boot, holder=holder)

    async def _lock(self) -> None:
        while True:
            try:
                self.local.acquire()
                return
            except AlreadyRunning:
                await self.loop.sleep(STANDBY_LOOKS_EVERY_S)

    async def _run(self) -> None:
        world, loop = self.world, self.loop
        fence = await self._hold()
        around = self.points.around
        self.scheduler = Scheduler(
            board=self.board,
            clock=self.clock,
            loop=loop,
            notify=lambda run_id, signal: self.engine.notify(run_id, signal),
            wake=lambda run_id: self.engine.wake(run_id),
            longest_sleep_s=None,
        )
        self.engine = Engine(
            account=A1,
            board=self.board,
            clock=self.clock,
            records=self.records,
            journal=self.journal,
            runtime=self.runtime,
            broker=self.broker,
            gateway=Gateway(
                broker=self.broker, lease=self.lease, spool=self.spool, clock=self.clock, meter=world.meter
            ),
            spool=self.spool,
            alerts=around("alerts", self),
            stamp=Stamp(fence=fence, machine=self.machine.name, boot=self.machine.boot),
            set_timers=self.scheduler.set_timers,
            spawn=self.spawn,
            precedence=OrdersFirst(loop, loop.monotonic_s, quiet_s=QUIET_S),
            chase=lambda run: self.chaser.chase(run),
            is_acknowledged=lambda key: key in world.acknowledged,
            limits=lambda symbol: world.limits.get(symbol, PriceLimits()),
            shares_database=world.shares_database,
            meter=world.meter,
        )
        self.chaser = Chaser(
            engine=self.engine, clock=self.clock, broker=self.broker, spawn=self.spawn, meter=world.meter
        )
        self.listener = Listener(
            board=self.board,
            clock=self.clock,
            notify=self.engine.notify,
            on_low=self.engine.on_low,
            limits=lambda symbol: world.limits.get(symbol, PriceLimits()),
            meter=world.meter,
        )
        self.feeding = FeedKeeper(
            engine=self.engine,
            clock=self.clock,
            feed=around("feed", self.feed),
            quotes=around("quotes", Quotes(world)),
            listener=self.listener,
            dice=world.dice,
        )
        self.keepers = Keepers(
            engine=self.engine,
            clock=self.clock,
            broker=self.broker,
            feed_loops=self.feeding.loops(),
            records=self.records,
            runtime=self.runtime,
            planner=around("planner", Planner(self)),
            brake=around("brake", world.brake),
        )
        if self.lane is not None:
            self.spawn(self._end_when_halted())
        for work in self.keepers.first_loops():
            self.spawn(work)
        self.spawn(self.keepers.for_ever(self.chaser.replace_resting_exits))
        if self.watched is not None:
            timekeeper = Timekeeper(
                engine=self.engine, clock=self.watched, broker=self.broker, moved=self.scheduler.time_moved
            )
            self.spawn(self.keepers.for_ever(timekeeper.keep_time))
        await recover(
            account=A1,
            engine=self.engine,
            records=self.records,
            journal=self.journal,
            runtime=self.runtime,
            broker=self.broker,
            spool=self.spool,
            clock=self.clock,
            licences_first=world.shares_database,
        )
        self.recovered = True
        for work in self.keepers.later_loops():
            self.spawn(work)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        if not self.alive:
            work.close()
            dead: asyncio.Future[None] = self.loop.create_future()
            dead.set_result(None)
            return dead  # type: ignore[return-value]
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None or not self.alive:
            return
        if self.lane is not None and isinstance(error, FenceLost):
            self._lost(error)
        elif self.lane is not None and isinstance(error, RecordsUnavailable) and not self.recovered:
            self.die()  # it does not begin without SQL; the supervisor starts it again
        else:
            self.world.errors.append(error)

    def _lost(self, error: FenceLost) -> None:
        """As the worker's command does: say it, and end."""
        if not self.alive:
            return
        if hasattr(self, "engine"):
            self.engine.halt(str(error))
        self.die()

    async def _end_when_halted(self) -> None:
        while self.engine.halted is None:
            await self.loop.sleep(HALTED_LOOKS_EVERY_S)
        raise FenceLost(self.engine.halted)

    def die(self) -> None:
        """kill -9. The system takes back the lock; a row in a database stays as it is."""
        self.alive = False
        self.local.release()
        if self.lane is not None:
            assert isinstance(self.loop, SeededLoop)
            self.loop.bury(self.lane)
            return
        if hasattr(self, "scheduler"):
            self.scheduler.close()
        for task in tuple(self.tasks):
            task.cancel()

    def deliver(self, what: Callable[..., object], *given: Any) -> None:
        """Something reaches this process from outside."""
        if not self.alive:
            return
        if self.lane is None:
            what(*given)
        else:
            self.loop.call_soon(what, *given, context=self.lane.context)

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None:
        """`ports.Alerts`."""
        if self.alive:
            self.world.alerts.append(Alert(self.world.now, severity, headline, text, run_id))

    def written(self) -> None:
        """An order's bytes have left."""
        if (tell := self.points.when_written()) is not None:
            tell()

    def out(self, call: str) -> None:
        """The engine calls the world."""
        if not self.alive:
            raise asyncio.CancelledError
        self.world.calls.append(call)
        self.world.breaks(call)

    def point(self, name: str) -> None:
        if not self.alive:
            raise asyncio.CancelledError
        self.world.point(name)


class Feed:
    """Ticks reach whoever reads, as long as it does."""

    def __init__(self, process: Process) -> None:
        self._process, self._world = process, process.world
        self._readers: list[tuple[frozenset[Symbol], Callable[[Tick], None], Callable[[], None]]] = []

    async def run(
        self, symbols: Sequence[Symbol], on_tick: Callable[[Tick], None], *, on_frame: Callable[[], None] | None = None
    ) -> None:
        self._world.feed_connects.append(self._world.now)
        if self._world.feed_refuses:
            raise BrokerUnavailable("connection refused")
        reader = (frozenset(symbols), on_tick, on_frame or (lambda: None))
        self._readers.append(reader)
        try:
            while reader in self._readers:
                await asyncio.sleep(1.0)
                if not self._world.feed_dead:
                    reader[2]()  # the heartbeat of a quiet stream
        finally:
            if reader in self._readers:
                self._readers.remove(reader)

    def drop(self) -> None:
        """The source ends every connection."""
        self._readers.clear()

    def reads(self, symbol: Symbol) -> bool:
        return any(symbol in symbols for symbols, *_ in self._readers)

    def put(self, tick: Tick) -> None:
        for symbols, on_tick, on_frame in tuple(self._readers):
            if tick.symbol in symbols:
                self._process.deliver(_show, on_frame, on_tick, tick)


def _show(on_frame: Callable[[], None], on_tick: Callable[[Tick], None], tick: Tick) -> None:
    on_frame()
    on_tick(tick)


class Planner:
    """`ports.Planner`: the day's plans are the world's, the run's id is asked for by the process."""

    def __init__(self, process: Process) -> None:
        self._process, self._world = process, process.world

    async def look(self, now: datetime, runs: Sequence[Run]) -> Planned:
        return await self._world.look(now, runs)

    async def new_run(self, strategy_id: StrategyId, now: datetime) -> Run:
        return self._world.new_run(strategy_id, await self._process.records.next_run_id())


class Quotes:
    """The last trade of each symbol, when asked."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def quotes(self, symbols: Sequence[Symbol]) -> Sequence[Tick]:
        world = self._world
        world.quotes_asked.append(world.now)
        await world.loop.sleep(world.latency_s)
        if world.quotes_down:
            raise BrokerUnavailable("quotes are not answered")
        return [world.last_trades[symbol] for symbol in symbols if symbol in world.last_trades]


class ProcessSpool:
    def __init__(self, process: Process) -> None:
        machine = process.machine
        self._process, self._spool = process, MemorySpool(machine.name, machine.boot, store=machine.spool)

    def mark(self, mark: SpoolMark) -> None:
        self._process.out(f"mark {short(mark.client_order_id)}")
        self._spool.mark(mark)
        self._process.point("mark")

    def latch(self, latch: SpoolLatch) -> None:
        self._process.out("latch" if latch.tripped else "low")
        self._spool.latch(latch)

    def read(self) -> SpoolContents:
        return self._spool.read()

    def drained(self) -> None:
        self._process.out("drained")
        self._spool.drained()


class ProcessRecords:
    """SQL as this process reaches it, and the journal."""

    def __init__(self, process: Process) -> None:
        self._process, self._world = process, process.world
        self._records = process.world.records

    @property
    def install_id(self) -> str:
        return self._records.install_id

    @property
    def backlog(self) -> int:
        return 0

    def write(self, entry: JournalEntry) -> None:
        if self._process.alive:
            self._records.write(entry)

    async def flush(self) -> None:
        await self._ask("flush")

    async def take_lease(
        self, account: AccountId, *, owner: str, machine: str, boot: str, holder: str | None = None
    ) -> Fence:
        return await self._records.take_lease(account, owner=owner, machine=machine, boot=boot, holder=holder)

    async def open_runs(self, account: AccountId) -> Sequence[Run]:
        await self._ask("open_runs")
        return await self._records.open_runs(account)

    async def next_run_id(self) -> RunId:
        await self._ask("next_run_id")
        return await self._records.next_run_id()

    async def add_run(self, run: Run, fence: Fence, *, wish_id: int | None = None) -> None:
        await self._ask("add_run")
        await self._records.add_run(run, fence, wish_id=wish_id)
        self._done("add_run")

    async def license_entry(self, run: Run, fence: Fence) -> bool:
        await self._ask("licence")
        licensed = await self._records.license_entry(run, fence)
        self._done("licence")
        return licensed

    async def void_entry(self, run: Run, fence: Fence) -> bool:
        await self._ask("void")
        done = await self._records.void_entry(run, fence)
        self._done("void")
        return done

    async def save(self, run: Run, fence: Fence) -> None:
        await self._ask("save")
        await self._records.save(run, fence)
        self._done("save")

    async def restamp(self, run_ids: Sequence[RunId], account: AccountId, stamp: Stamp) -> None:
        await self._ask("restamp")
        await self._records.restamp(run_ids, account, stamp)
        self._done("restamp")

    async def rules(self, account: AccountId) -> AccountRules:
        if self._world.sql_down:
            raise RecordsUnavailable("SQL is down")
        return await self._records.rules(account)

    async def totals(self, account: AccountId, day: date) -> DayTotals:
        return await self._records.totals(account, day)

    async def set_level(self, account: AccountId, level: Level, *, reason: str, by: str, at: datetime) -> None:
        await self._ask("set_level")
        await self._records.set_level(account, level, reason=reason, by=by, at=at)

    async def wishes(self, account: AccountId) -> Sequence[WishRecord]:
        await self._ask("wishes")
        return await self._records.wishes(account)

    async def wish_taken(self, wish_id: int, fence: Fence) -> None:
        await self._ask("wish_taken")
        await self._records.wish_taken(wish_id, fence)
        self._done("wish_taken")

    async def _ask(self, what: str) -> None:
        self._process.out(what)
        if self._world.sql_hangs_s:
            await self._world.loop.sleep(self._world.sql_hangs_s)
        else:
            await asyncio.sleep(0)
        if self._world.sql_down:
            raise RecordsUnavailable("the test has stopped SQL")

    def _done(self, what: str) -> None:
        self._process.point(what)
        if self._world.lost_commits[what] > 0:
            self._world.lost_commits[what] -= 1
            raise RecordsUnavailable("the COMMIT was sent, its reply was lost")


class ProcessRuntime:
    """Redis as this process reaches it."""

    def __init__(self, process: Process) -> None:
        self._process, self._world = process, process.world
        self._store = MemoryRuntimeStore(
            process.world.loop, process.world.redis, owner=process.name or f"worker-{len(process.world.processes) + 1}"
        )

    async def arm(self, run: Run) -> Claim:
        await self._ask("arm")
        return await self._store.arm(run)

    async def claim(self, run: Run, *, fence: Fence, ttl_ms: int, event: Event, request_id: str) -> Claim:
        await self._ask(f"claim {event}")
        busy_until = self._world.lock_busy_until
        if busy_until is not None and self._world.now < busy_until:
            return Claim.BUSY
        claim = await self._store.claim(run, fence=fence, ttl_ms=ttl_ms, event=event, request_id=request_id)
        self._process.point("claim")
        return claim

    async def settle(self, run: Run, *, fence: Fence, request_id: str) -> Claim:
        await self._ask("settle")
        claim = await self._store.settle(run, fence=fence, request_id=request_id)
        self._process.point("settle")
        return claim

    async def release(self, run_id: RunId, account: AccountId, *, fence: Fence) -> None:
        await self._ask("release")
        await self._store.release(run_id, account, fence=fence)

    async def archive(self, run: Run) -> None:
        await self._ask("archive")
        await self._store.archive(run)
        self._process.point("archive")

    async def rebuild(self, account: AccountId, runs: Iterable[Run]) -> None:
        await self._ask("rebuild")
        await self._store.rebuild(account, runs)
        self._process.point("rebuild")

    async def is_intact(self, account: AccountId) -> bool:
        await asyncio.sleep(0)
        return await self._store.is_intact(account)

    async def put_prices(self, account: AccountId, prices: Mapping[Symbol, Tick]) -> None:
        await self._store.put_prices(account, prices)

    async def ring(self, account: AccountId) -> None:
        await self._store.ring(account)

    async def wait_for_bell(self, account: AccountId, timeout_s: float) -> bool:
        return await self._store.wait_for_bell(account, timeout_s)

    async def close(self) -> None:
        await self._store.close()

    async def _ask(self, what: str) -> None:
        self._process.out(what)
        if self._world.redis_hangs_s:
            await self._world.loop.sleep(self._world.redis_hangs_s)
        else:
            await asyncio.sleep(0)
