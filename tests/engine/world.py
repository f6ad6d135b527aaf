"""One account's whole world in virtual time: the real engine and its keepers, a broker that misbehaves by script, and
processes that die where the test says.

What outlives a process is here: SQL (`records`), the spool's file, Redis, the broker's book. What dies with it is a
`Process`. Times in tests are wall-clock times at the exchange: BUY at 09:20, SELL at 09:40, close at 09:45.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from squareoff.adapters.brokers.paper.book import BookRecord, DuplicateOrder, PaperBook, Placed, Refused, Traded
from squareoff.adapters.brokers.paper.mischief import Kind, Mischief, Script
from squareoff.adapters.clock import ConfirmedClock, VirtualLoop
from squareoff.adapters.memory.brake import MemoryBrake
from squareoff.adapters.memory.records import MemoryRecords
from squareoff.adapters.memory.runtime import MemoryRedis, MemoryRuntimeStore
from squareoff.adapters.memory.spool import MemoryLease, MemorySpool, SpoolStore
from squareoff.chasing import Chaser
from squareoff.core.board import Board
from squareoff.core.events import Event
from squareoff.core.limits import AccountRules, DayTotals
from squareoff.core.orders import Stamp, order_key
from squareoff.core.plausible import PriceLimits
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, StopLoss, StopLossKind, Timing
from squareoff.core.types import (
    ZERO,
    AccountId,
    ClientOrderId,
    Fence,
    Order,
    OrderReport,
    OrderStatus,
    Position,
    Product,
    RunId,
    Side,
    StrategyId,
    Symbol,
    Tick,
    UserId,
)
from squareoff.engine import Engine
from squareoff.errors import (
    BrokerUnavailable,
    NeverSent,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
    RecordsUnavailable,
)
from squareoff.feeding import FeedKeeper
from squareoff.gateway import Gateway
from squareoff.keepers import Keepers
from squareoff.listener import Listener
from squareoff.ports import (
    Claim,
    Clock,
    Gate,
    Idempotency,
    JournalEntry,
    Planned,
    Severity,
    SpoolContents,
    SpoolLatch,
    SpoolMark,
    VenueFacts,
    WishRecord,
)
from squareoff.precedence import OrdersFirst
from squareoff.recovery import recover
from squareoff.scheduler import Scheduler
from squareoff.timekeeping import Timekeeper
from squareoff.wiring.worker import QUIET_S

IST = ZoneInfo("Asia/Kolkata")
DAY = date(2026, 7, 13)
A1 = AccountId("A1")
INFY = Symbol("NSE:INFY")
TCS = Symbol("NSE:TCS")


def at(text: str) -> datetime:
    """`09:20:00` or `09:20:00.5` at the exchange on the day of the test."""
    return datetime.combine(DAY, time.fromisoformat(text), IST)


def price_stop(text: str) -> StopLoss:
    return StopLoss(kind=StopLossKind.PRICE, value=Decimal(text))


def percent_stop(text: str) -> StopLoss:
    return StopLoss(kind=StopLossKind.PERCENT, value=Decimal(text))


def plan(
    strategy: int = 7,
    *,
    quantity: int = 50,
    stop_loss: StopLoss | None = None,
    buy: str = "09:20:00",
    sell: str = "09:40:00",
    closes: str = "09:45:00",
    symbol: Symbol = INFY,
    timing: Timing | None = None,
) -> Plan:
    """What strategy `strategy` does today; its run id is given at START."""
    return Plan(
        run_id=RunId(0),
        strategy_id=StrategyId(strategy),
        user=UserId(1),
        account=A1,
        name=f"strategy {strategy}",
        symbol=symbol,
        product=Product.MIS,
        quantity=Decimal(quantity),
        trading_day=DAY,
        buy_at=at(buy),
        sell_at=at(sell),
        closes_at=at(closes),
        stop_loss=stop_loss or price_stop("1540.00"),
        tick_size=Decimal("0.05"),
        timing=timing or Timing(),
    )


@dataclass(frozen=True, slots=True)
class Alert:
    at: datetime
    severity: Severity
    headline: str
    text: str
    run_id: RunId | None


class World:
    """`seed` only matters to those who ask `random` for something."""

    def __init__(
        self,
        *,
        latency_s: float = 0.02,
        quarantine_s: float = 20.0,
        position_lag_s: float = 0.0,
        request_timeout_s: float = 3.0,
        orders_per_s: int | None = None,
        idempotency: Idempotency = Idempotency.NONE,
        seed: int = 0,
        begin: str = "09:15:00",
        clock_folder: Path | None = None,
        clock_ahead_s: float = 0.0,
        shares_database: bool = False,
    ) -> None:
        """`clock_folder`: processes go by a clock of their machine that can be set, and keep there what they know."""
        self.clock_folder = clock_folder
        self.shares_database = shares_database
        self.wall_ahead_s = clock_ahead_s
        """How far the machine's clock is ahead of the truth."""
        self.broker_ahead_s: float | None = 0.0
        """The same of the broker's; None: it does not tell the time."""
        self.loop = VirtualLoop(at(begin))
        self.loop.set_exception_handler(self._loop_says)
        self.random = random.Random(seed)
        self.latency_s = latency_s
        self.facts = VenueFacts(
            idempotency=idempotency,
            request_timeout_s=request_timeout_s,
            quarantine_s=quarantine_s,
            position_lag_s=position_lag_s,
            orders_per_s=orders_per_s,
        )
        self.ledger: list[BookRecord] = []
        self.book = PaperBook(idempotency=idempotency, on_record=self._recorded)
        self.venue = Venue(self)
        self.records = MemoryRecords(install_id="world")
        self.redis = MemoryRedis()
        self.spool = SpoolStore()
        self.holders: dict[AccountId, MemoryLease] = {}
        self.alerts: list[Alert] = []
        self.calls: list[str] = []
        """Everything the engine asked of the world, in order: `claim STOPLOSS`, `mark X01`, `submit X01`, `save`."""
        self.brake = MemoryBrake()
        self.acknowledged: set[str] = set()
        self.planned = Planned()
        self.plans: dict[StrategyId, Plan] = {}
        self.errors: list[BaseException] = []
        self.errors_expected = False
        self.machine, self.boot = "m1", "b1"
        self.sql_down = False
        self.sql_hangs_s = 0.0
        self.redis_hangs_s = 0.0
        self.lost_commits: Counter[str] = Counter()
        """Commits whose reply is lost, by what they do: `licence`, `void`, `save`, `add_run`."""
        self.lock_busy_until: datetime | None = None
        self.breaks: Callable[[str], None] = lambda what: None
        """Called at every call out of the engine; may raise."""
        self.feed_dead = False
        """The stream stands and says nothing."""
        self.feed_refuses = False
        """No stream can be had."""
        self.feed_connects: list[datetime] = []
        self.quotes_down = False
        self.quotes_asked: list[datetime] = []
        self.last_trades: dict[Symbol, Tick] = {}
        self.limits: dict[Symbol, PriceLimits] = {}
        self.dice: Callable[[], float] = lambda: 0.5
        self.prices: dict[Symbol, Decimal] = {INFY: Decimal("1560.00"), TCS: Decimal("3000.00")}
        self.ticking = {INFY}
        self.crash_when: Callable[[str], bool] | None = None
        self.points: list[str] = []
        self.process: Process | None = None
        self.processes: list[Process] = []

    # ------------------------------------------------------------------ processes

    def boot_up(self, *, reboot: bool = False) -> Process:
        """Start the worker. It has recovered when time has gone on a little (`go`)."""
        assert self.process is None or not self.process.alive, "the earlier worker is still alive"
        if reboot:
            self.boot = f"b{int(self.boot[1:]) + 1}"
        self.process = Process(self)
        self.processes.append(self.process)
        self.process.begin()
        self.loop.drain()
        return self.process

    def crash(self) -> None:
        """kill -9: nothing of the process runs any more."""
        assert self.process is not None
        self.process.die()
        self.loop.drain()

    def crash_at(self, point: str, *, occurrence: int = 1) -> None:
        """Die the `occurrence`-th time that `point` is reached (see `point`)."""
        seen = 0

        def now(reached: str) -> bool:
            nonlocal seen
            seen += reached == point
            return reached == point and seen == occurrence

        self.crash_when = now

    def point(self, name: str) -> None:
        """A place where a process may die: `claim`, `licence`, `mark`, `bytes`, `answer`, `save`, `settle`, ... each
        means *right after* it took effect."""
        self.points.append(name)
        if self.crash_when is not None and self.crash_when(name):
            self.crash_when = None
            assert self.process is not None
            self.process.die()
            raise asyncio.CancelledError

    @property
    def engine(self) -> Engine:
        assert self.process is not None
        return self.process.engine

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.alive

    # ------------------------------------------------------------------ time and prices

    @property
    def now(self) -> datetime:
        return self.loop.now()

    def go(self, until: str | float, *, every_s: float = 1.0) -> None:
        """Let time pass to a clock time, or for so many seconds, with a tick of every symbol each `every_s`."""
        end = at(until) if isinstance(until, str) else self.now + timedelta(seconds=until)
        while self.now + timedelta(seconds=every_s) <= end:
            self.loop.advance_to(self.now + timedelta(seconds=every_s))
            for symbol in sorted(self.ticking):
                self.tick(symbol=symbol)
        self.loop.advance_to(end)
        self.loop.drain()

    def silently(self, until: str | float) -> None:
        """Let time pass without any tick."""
        end = at(until) if isinstance(until, str) else self.now + timedelta(seconds=until)
        self.loop.advance_to(end)
        self.loop.drain()

    def tick(self, price: str | Decimal | None = None, *, symbol: Symbol = INFY, at: datetime | None = None) -> None:
        """One trade at the exchange: first the listener sees it, then it fills what rests in the book."""
        if price is not None:
            self.prices[symbol] = Decimal(price)
        tick = Tick(symbol, self.prices[symbol], at or self.now)
        if tick.at <= self.now:
            self.last_trades[symbol] = tick
        self.odd_tick(tick)
        if tick.price.is_finite() and tick.price > 0:
            for report in self.book.on_tick(tick):
                self.venue.tell(report)
        self.loop.drain()

    def feed_says(self, price: str) -> None:
        """A price that the feed tells and at which nothing of ours is filled."""
        self.prices[INFY] = Decimal(price)
        self.last_trades[INFY] = Tick(INFY, Decimal(price), self.now)
        self.odd_tick(self.last_trades[INFY])
        self.loop.drain()

    def odd_tick(self, tick: Tick) -> None:
        """The feed tells it; it need not be a trade at the exchange."""
        if self.is_alive and not self.feed_dead:
            self.process.feed.put(tick)  # type: ignore[union-attr]

    # ------------------------------------------------------------------ users

    def start(self, *plans: Plan) -> None:
        """START, the way the command line does it: committed to SQL, then the bell."""
        for one in plans:
            self.plans[one.strategy_id] = one
            self.wish(Event.START, one.strategy_id)
        self.go(2)

    def wish(self, event: Event, strategy: int = 7) -> WishRecord:
        wish = self.records.wish(StrategyId(strategy), event, account=A1, at=self.now, by="ann")
        if self.redis.is_up and not self.redis.loses_replies:
            self._soon(MemoryRuntimeStore(self.loop, self.redis, owner="cli").ring(A1))
        self.loop.drain()
        return wish

    async def look(self, now: datetime, runs: Sequence[Run]) -> Planned:
        """`ports.Planner`: a test says in `planned` what the next look comes to."""
        planned, self.planned = self.planned, Planned()
        return planned

    async def new_run(self, strategy: StrategyId, now: datetime) -> Run:
        run_id = await self.records.next_run_id()
        return Run(plan=replace(self.plans[strategy], run_id=run_id), key=order_key("world", run_id))

    def user_sells(self, qty: int, *, symbol: Symbol = INFY) -> None:
        """A sale outside squareoff, filled at once."""
        self._user_trades(Side.SELL, qty, symbol)

    def user_buys(self, qty: int, *, symbol: Symbol = INFY) -> None:
        self._user_trades(Side.BUY, qty, symbol)

    def _user_trades(self, side: Side, qty: int, symbol: Symbol) -> None:
        order = Order(
            client_order_id=ClientOrderId(f"USER{len(self.ledger)}"),
            account=A1,
            symbol=symbol,
            side=side,
            product=Product.MIS,
            qty=Decimal(qty),
        )
        self.book.submit(order, self.now)
        for report in self.book.on_tick(Tick(symbol, self.prices[symbol], self.now)):
            self.venue.tell(report)
        self.loop.drain()

    def run(self, strategy: int = 7) -> Run:
        """The newest run of a strategy as the worker knows it; as SQL has it where the worker does not."""
        known = list(self.engine.board.runs.values()) if self.is_alive else []
        mine = {run.plan.run_id: run for run in self.records.runs.values() if run.plan.strategy_id == strategy}
        mine |= {run.plan.run_id: run for run in known if run.plan.strategy_id == strategy}
        return mine[max(mine)]

    def runs(self, strategy: int = 7) -> list[Run]:
        return [run for run in self.records.runs.values() if run.plan.strategy_id == strategy]

    # ------------------------------------------------------------------ what the broker's book says

    def placed(self, slot: str | None = None) -> list[Placed]:
        """Orders of ours that reached the book, entries (`E`) or exits (`X`)."""
        return [r for r in self.ledger if isinstance(r, Placed) and _is_ours(r.order, slot)]

    def traded(self, side: Side, strategy: int | None = None) -> Decimal:
        """Executed quantity of our own orders."""
        keys = None if strategy is None else {run.key for run in self.runs(strategy)}
        owner = {r.broker_order_id: r.order for r in self.ledger if isinstance(r, Placed)}
        return sum(
            (
                r.fill.qty
                for r in self.ledger
                if isinstance(r, Traded)
                and (order := owner[r.broker_order_id]).side is side
                and _is_ours(order)
                and (keys is None or order.client_order_id[2:12] in keys)
            ),
            ZERO,
        )

    @property
    def net(self) -> Decimal:
        return sum((p.net_qty for p in self.book.positions() if p.symbol == INFY), ZERO)

    def journal(self, *kinds: str) -> list[str]:
        return [e.text for e in self.records.entries if not kinds or e.kind in kinds]

    def urgent(self) -> list[str]:
        return [f"{a.headline}. {a.text}" for a in self.alerts if a.severity is Severity.URGENT]

    def close(self) -> None:
        if self.is_alive:
            self.crash()
        self.loop.close()

    # ------------------------------------------------------------------ inside

    def _recorded(self, record: BookRecord) -> None:
        self.ledger.append(record)
        if isinstance(record, Traded):
            self.venue.remember_positions()

    def _soon(self, work: Coroutine[Any, Any, Any]) -> None:
        self.loop.create_task(work)

    def _loop_says(self, loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.errors.append(error if isinstance(error, BaseException) else RuntimeError(context["message"]))


def _is_ours(order: Order, slot: str | None = None) -> bool:
    name = order.client_order_id
    return name.startswith("SQ") and (slot is None or name[12:13] == slot)


def short(order: ClientOrderId) -> str:
    """`X01` of a client order id."""
    return order[12:]


# ---------------------------------------------------------------------- one process


class Process:
    """The engine of the account with everything that dies with it, wired as `wiring.worker.run_worker` does."""

    def __init__(self, world: World) -> None:
        self.world, self.alive = world, True
        self.tasks: set[asyncio.Task[None]] = set()
        loop = world.loop
        self.board = Board()
        self.lease = MemoryLease(A1, world.holders, machine=world.machine, boot=world.boot)
        self.lease.acquire()
        self.records = ProcessRecords(self)
        self.spool = ProcessSpool(self)
        self.broker = Client(self)
        self.feed = Feed(world)
        self.runtime = ProcessRuntime(self)
        self.recovered = False
        self.loop = loop
        self.watched: ConfirmedClock | None = None
        if world.clock_folder is not None:
            self.watched = ConfirmedClock(loop, self._wall, memory=world.clock_folder / "A1.clock", boot=world.boot)
        self.clock: Clock = self.watched or loop

    def _wall(self) -> datetime:
        return self.loop.now() + timedelta(seconds=self.world.wall_ahead_s)

    def begin(self) -> None:
        self.spawn(self._run())

    async def _run(self) -> None:
        world, loop = self.world, self.loop
        fence = await world.records.take_lease(A1, owner="test", machine=world.machine, boot=world.boot)
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
            journal=self.records,
            runtime=self.runtime,
            broker=self.broker,
            gateway=Gateway(broker=self.broker, lease=self.lease, spool=self.spool, clock=self.clock),
            spool=self.spool,
            alerts=self,
            stamp=Stamp(fence=fence, machine=world.machine, boot=world.boot),
            set_timers=self.scheduler.set_timers,
            spawn=self.spawn,
            precedence=OrdersFirst(loop, loop.monotonic_s, quiet_s=QUIET_S),
            chase=lambda run: self.chaser.chase(run),
            is_acknowledged=lambda key: key in world.acknowledged,
            limits=lambda symbol: world.limits.get(symbol, PriceLimits()),
            shares_database=world.shares_database,
        )
        self.chaser = Chaser(engine=self.engine, clock=self.clock, broker=self.broker, spawn=self.spawn)
        self.listener = Listener(
            board=self.board,
            clock=self.clock,
            notify=self.engine.notify,
            on_low=self.engine.on_low,
            limits=lambda symbol: world.limits.get(symbol, PriceLimits()),
        )
        self.feeding = FeedKeeper(
            engine=self.engine,
            clock=self.clock,
            feed=self.feed,
            quotes=Quotes(world),
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
            planner=world,
            brake=world.brake,
        )
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
            journal=self.records,
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
        if not task.cancelled() and (error := task.exception()) is not None:
            self.world.errors.append(error)

    def die(self) -> None:
        self.alive = False
        self.lease.release()
        if hasattr(self, "scheduler"):
            self.scheduler.close()
        for task in tuple(self.tasks):
            task.cancel()

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None:
        """`ports.Alerts`."""
        if self.alive:
            self.world.alerts.append(Alert(self.world.now, severity, headline, text, run_id))

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

    def __init__(self, world: World) -> None:
        self._world = world
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
                on_frame()
                on_tick(tick)


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
        world = process.world
        self._process, self._spool = process, MemorySpool(world.machine, world.boot, store=world.spool)

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
            process.world.loop, process.world.redis, owner=f"worker-{len(process.world.processes) + 1}"
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


# ---------------------------------------------------------------------- the broker


@dataclass(slots=True)
class Venue:
    """The broker's side: what it tells, to whom, how late. The book itself is `World.book`."""

    world: World
    script: Script = field(default_factory=Script)
    never_sent: int = 0
    """So many sends fail before any byte leaves."""
    find_down: bool = False
    orders_down: bool = False
    positions_down: bool = False
    positions_lag_s: float = 0.0
    cancels_lost: int = 0
    """So many cancels get no answer and do nothing."""
    fill_on_cancel: bool = False
    """What is cancelled fills first, as the exchange was faster."""
    push: str = "once"
    """How news is pushed: `once`, `never`, `twice`, `late` (2 s), `shuffled`."""
    hidden_until: dict[ClientOrderId, datetime] = field(default_factory=dict)
    submits: list[tuple[datetime, str]] = field(default_factory=list)
    """When which attempt arrived at the venue."""
    _positions: list[tuple[datetime, list[Position]]] = field(default_factory=list)
    _held_back: list[OrderReport] = field(default_factory=list)

    def add(self, *mischief: Mischief) -> None:
        self.script.add(mischief)

    def remember_positions(self) -> None:
        self.world.loop.call_soon(self._remember, self.world.now)

    def _remember(self, when: datetime) -> None:
        self._positions.append((when, self.world.book.positions()))

    def positions(self) -> list[Position]:
        if not self.positions_lag_s:
            return self.world.book.positions()
        seen = self.world.now - timedelta(seconds=self.positions_lag_s)
        return next((held for when, held in reversed(self._positions) if when <= seen), [])

    def is_hidden(self, order: ClientOrderId) -> bool:
        return self.world.now < self.hidden_until.get(order, self.world.now)

    def tell(self, report: OrderReport) -> None:
        """News for whoever listens now."""
        process = self.world.process
        if process is None or not process.alive or self.push == "never":
            return
        if self.is_hidden(report.client_order_id):
            return
        loop, queue = self.world.loop, process.broker.news
        if self.push == "late":
            loop.call_later(2.0, queue.put_nowait, report)
        elif self.push == "shuffled":
            self._held_back.append(report)
            self.world.random.shuffle(self._held_back)
            for one in self._held_back:
                queue.put_nowait(one)
            self._held_back = self._held_back[-3:]
        else:
            for _ in range(2 if self.push == "twice" else 1):
                queue.put_nowait(report)


class Client:
    """`ports.Broker` as one process sees the venue."""

    def __init__(self, process: Process) -> None:
        self._process, self._world = process, process.world
        self.news: asyncio.Queue[OrderReport] = asyncio.Queue()

    @property
    def facts(self) -> VenueFacts:
        return self._world.facts

    async def submit(self, order: Order, gate: Gate) -> OrderReport:
        world, venue, process = self._world, self._world.venue, self._process
        process.out(f"submit {short(order.client_order_id)}")
        await world.loop.sleep(world.latency_s)
        process.point("connected")
        venue.submits.append((world.now, short(order.client_order_id)))
        if venue.never_sent > 0:
            venue.never_sent -= 1
            raise NeverSent(order.client_order_id, "connection refused")
        gate()
        faults = {one.kind: one for one in venue.script.for_order(order)}
        await self._not_placed(order, faults)
        partial = faults.get(Kind.PARTIAL)
        try:
            report = world.book.submit(order, world.now, fill_plan=None if partial is None else (partial.qty,))
        except DuplicateOrder as duplicate:  # proof that the earlier one arrived
            return duplicate.earlier
        if partial is not None and partial.cancel_rest:
            self._cancel_rest_later(order)
        if (rejected := faults.get(Kind.REJECT_AFTER_ACCEPT)) is not None:
            world.loop.call_later(rejected.seconds or 0.0, self._reject, order, rejected.reason)
        if (hidden := faults.get(Kind.VISIBLE_LATE)) is not None:
            venue.hidden_until[order.client_order_id] = world.now + timedelta(seconds=hidden.seconds or 0)
        venue.tell(report)
        process.point("bytes")
        await self._no_answer(order, faults)
        delay = faults.get(Kind.DELAY_ANSWER)
        await world.loop.sleep(world.latency_s if delay is None else delay.seconds or 0)
        process.point("answer")
        return report

    async def _not_placed(self, order: Order, faults: dict[Kind, Mischief]) -> None:
        world, name = self._world, order.client_order_id
        self._process.point("bytes") if any(not one.places for one in faults.values()) else None
        for kind, one in faults.items():
            if one.places:
                continue
            await world.loop.sleep(world.latency_s)
            if kind is Kind.REFUSE:
                world.book.refuse(order, world.now, one.reason, permanent=one.permanent)
                raise OrderRefused(name, one.reason, permanent=one.permanent)
            if kind is Kind.BUSY:
                raise OrderRefused(name, "503", permanent=False)
            if kind is Kind.RATE_LIMIT:
                raise RateLimited(name, one.seconds or 1.0)
            if kind is Kind.TOKEN_INVALID:
                raise OrderRefused(name, "the login has expired", token=True)
            if kind is Kind.NOT_PLACED_NO_ANSWER:
                await world.loop.sleep(world.facts.request_timeout_s)
                raise OutcomeUnknown(name, "no answer")

    async def _no_answer(self, order: Order, faults: dict[Kind, Mischief]) -> None:
        world, name = self._world, order.client_order_id
        if Kind.PLACED_BUT_NO_ANSWER in faults or Kind.VISIBLE_LATE in faults:
            await world.loop.sleep(world.facts.request_timeout_s)
            raise OutcomeUnknown(name, "no answer")
        if Kind.PLACED_BUT_ERROR in faults:
            await world.loop.sleep(world.latency_s)
            raise OutcomeUnknown(name, "502")
        if Kind.PLACED_BUT_TORN_ANSWER in faults:
            await world.loop.sleep(world.latency_s)
            raise OutcomeUnknown(name, "200, but the answer is torn")

    def _reject(self, order: Order, reason: str) -> None:
        for report in self._world.book.reject(order.client_order_id, self._world.now, reason):
            self._world.venue.tell(report)

    def _cancel_rest_later(self, order: Order) -> None:
        """The venue cancels the rest once the part has filled."""
        world = self._world

        def look() -> None:
            report = world.book.find(order.client_order_id)
            if report is None or report.status is not OrderStatus.OPEN:
                return
            if not report.fills:
                world.loop.call_later(0.1, look)
                return
            for changed in world.book.cancel(order.client_order_id, world.now, reason="cancelled by the venue"):
                world.venue.tell(changed)

        world.loop.call_later(0.1, look)

    async def cancel(self, order: ClientOrderId) -> None:
        world, venue = self._world, self._world.venue
        self._process.out(f"cancel {short(order)}")
        await world.loop.sleep(world.latency_s)
        if venue.cancels_lost > 0:
            venue.cancels_lost -= 1
            raise BrokerUnavailable("the cancel was not answered")
        if venue.fill_on_cancel:
            for report in world.book.on_tick(Tick(INFY, world.prices[INFY], world.now)):
                venue.tell(report)
        for report in world.book.cancel(order, world.now):
            venue.tell(report)
        self._process.point("cancelled")

    async def find(self, order: ClientOrderId) -> OrderReport | None:
        self._process.out(f"find {short(order)}")
        await self._world.loop.sleep(self._world.latency_s)
        if self._world.venue.find_down:
            raise BrokerUnavailable("find is not answered")
        return None if self._world.venue.is_hidden(order) else self._world.book.find(order)

    async def orders(self) -> Sequence[OrderReport]:
        self._process.out("orders")
        await self._world.loop.sleep(self._world.latency_s)
        if self._world.venue.orders_down:
            raise BrokerUnavailable("orders are not answered")
        return [r for r in self._world.book.orders() if not self._world.venue.is_hidden(r.client_order_id)]

    async def positions(self) -> Sequence[Position]:
        self._process.out("positions")
        await self._world.loop.sleep(self._world.latency_s)
        if self._world.venue.positions_down:
            raise BrokerUnavailable("positions are not answered")
        return self._world.venue.positions()

    async def server_time(self) -> datetime | None:
        self._process.out("server_time")
        await self._world.loop.sleep(self._world.latency_s)
        ahead_s = self._world.broker_ahead_s
        return None if ahead_s is None else self._world.loop.now() + timedelta(seconds=ahead_s)

    async def updates(self) -> AsyncIterator[OrderReport]:
        while True:
            yield await self.news.get()

    async def close(self) -> None:
        pass


# ---------------------------------------------------------------------- the oracle


def audit(world: World, *, errors: bool = True) -> None:
    """What must be true of the broker's book whatever happened (S1, S2), and of every run against it (S5, S8)."""
    owner = {r.broker_order_id: r.order for r in world.ledger if isinstance(r, Placed)}
    bought: Counter[str] = Counter()
    sold: Counter[str] = Counter()
    executed_entries: dict[str, set[str]] = {}
    net: Counter[Symbol] = Counter()
    for record in world.ledger:
        if not isinstance(record, Traded):
            continue
        order, qty = owner[record.broker_order_id], record.fill.qty
        net[order.symbol] += qty if order.side is Side.BUY else -qty  # type: ignore[assignment]
        if not _is_ours(order):
            continue
        key = order.client_order_id[2:12]
        if order.side is Side.BUY:
            bought[key] += qty  # type: ignore[assignment]
            executed_entries.setdefault(key, set()).add(record.broker_order_id)
        else:
            sold[key] += qty  # type: ignore[assignment]
            assert sold[key] <= bought[key], f"double SELL: run {key} sold {sold[key]} of {bought[key]}"
            assert net[order.symbol] >= 0, f"our SELL {order.client_order_id} made the account short"
    for key, orders in executed_entries.items():
        assert len(orders) == 1, f"double BUY: run {key} executed {sorted(orders)}"
    for run in _all_runs(world):
        assert bought[run.key] <= run.plan.quantity, "bought more than wanted"
        _agrees(run, Decimal(bought[run.key]), Decimal(sold[run.key]))
    if errors:
        assert not world.errors, world.errors


def _all_runs(world: World) -> list[Run]:
    runs = dict(world.records.runs)
    if world.is_alive and hasattr(world.process, "engine"):
        runs |= world.engine.board.runs
    return list(runs.values())


def _agrees(run: Run, bought: Decimal, sold: Decimal) -> None:
    held = bought - sold
    if run.exposure == "flat":
        assert held <= run.outside_qty, f"{run.state} says flat, the book says {held} are held"
    if run.state in ("sold", "exited_by_sl") and run.exposure == "flat":
        assert run.exit.filled_qty + run.outside_qty == run.entry.filled_qty
    if run.outcome in ("sold", "exited_by_sl"):
        assert run.exit.filled_qty > 0, f"{run.outcome} without a fill"


def refusals(world: World) -> int:
    return sum(isinstance(r, Refused) for r in world.ledger)


__all__ = [
    "A1",
    "INFY",
    "TCS",
    "Kind",
    "Mischief",
    "Plan",
    "World",
    "at",
    "audit",
    "percent_stop",
    "plan",
    "price_stop",
    "refusals",
    "short",
]
