"""One account's whole world in virtual time: the real engine and its keepers, a broker that misbehaves, and processes
that die, stand still and come back.

What outlives a process is here: SQL (`records`), the spools' files, Redis, the broker's book. What dies with it is a
`Process`. A test scripts what happens; `schedule` draws it from a seed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from squareoff.adapters.brokers.paper.book import BookRecord, PaperBook, Placed, Traded
from squareoff.adapters.clock import KeptText, TextFile, VirtualLoop
from squareoff.adapters.memory.brake import MemoryBrake
from squareoff.adapters.memory.records import MemoryRecords
from squareoff.adapters.memory.runtime import MemoryRedis, MemoryRuntimeStore
from squareoff.adapters.memory.spool import HoldStore
from squareoff.core.events import Event
from squareoff.core.figures import UNMETERED
from squareoff.core.orders import order_key
from squareoff.core.plausible import PriceLimits
from squareoff.core.run import Run
from squareoff.core.strategy import Plan
from squareoff.core.types import (
    ZERO,
    ClientOrderId,
    Order,
    Product,
    RunId,
    Side,
    StrategyId,
    Symbol,
    Tick,
)
from squareoff.engine import Engine
from squareoff.errors import RecordsUnavailable
from squareoff.ports import (
    Idempotency,
    Meter,
    Planned,
    Severity,
    VenueFacts,
    WishRecord,
)
from squareoff.simulation.day import A1, INFY, TCS, Alert, at, is_ours
from squareoff.simulation.loop import SeededLoop
from squareoff.simulation.process import Machine, Process
from squareoff.simulation.venue import Venue


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
        replace_exit_after_s: float | None = 3.0,
        idempotency: Idempotency = Idempotency.NONE,
        seed: int = 0,
        begin: str = "09:15:00",
        clock_folder: Path | None = None,
        clock_ahead_s: float = 0.0,
        shares_database: bool = False,
        loop: VirtualLoop | None = None,
    ) -> None:
        """`clock_folder`: processes go by a clock of their machine that can be set, and keep there what they know."""
        self.clock_memory: KeptText | None = None if clock_folder is None else TextFile(clock_folder / "A1.clock")
        self.shares_database = shares_database
        self.lease_ttl_s: float | None = None
        """How long the lease across machines holds; None: the machine's lock is all there is."""
        self.wall_ahead_s = clock_ahead_s
        """How far the machine's clock is ahead of the truth."""
        self.broker_ahead_s: float | None = 0.0
        """The same of the broker's; None: it does not tell the time."""
        self.loop = loop or VirtualLoop(at(begin))
        self.loop.set_exception_handler(self._loop_says)
        self.random = random.Random(seed)
        self.latency_s = latency_s
        self.facts = VenueFacts(
            idempotency=idempotency,
            request_timeout_s=request_timeout_s,
            quarantine_s=quarantine_s,
            position_lag_s=position_lag_s,
            orders_per_s=orders_per_s,
            replace_exit_after_s=replace_exit_after_s,
        )
        self.ledger: list[BookRecord] = []
        self.book = PaperBook(idempotency=idempotency, on_record=self._recorded)
        self.venue = Venue(self)
        self.records = MemoryRecords(install_id="world")
        self.redis = MemoryRedis()
        self.holds = HoldStore(self.records.holders)
        self.here = Machine()
        """Where the next process is started."""
        self.alerts: list[Alert] = []
        self.left: list[tuple[Order, datetime]] = []
        """Orders whose bytes left, and when."""
        self.calls: list[str] = []
        """Everything the engine asked of the world, in order: `claim STOPLOSS`, `mark X01`, `submit X01`, `save`."""
        self.brake = MemoryBrake()
        self.acknowledged: set[str] = set()
        self.planned = Planned()
        self.plans: dict[StrategyId, Plan] = {}
        self.errors: list[BaseException] = []
        self.errors_expected = False
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
        self.meter: Meter = UNMETERED
        """Given to processes that begin from now on."""
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
            self.here.boot = f"b{int(self.here.boot[1:]) + 1}"
        self.process = Process(self, self.here)
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
    def living(self) -> list[Process]:
        """Those that run, or stand by, now."""
        return [process for process in self.processes if process.alive]

    async def ask_for_lease(self) -> None:
        """A question to the database about who holds the account."""
        await self.loop.sleep(self.latency_s)
        if self.sql_down:
            raise RecordsUnavailable("SQL is down")

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
        if not self.feed_dead:
            for process in self.living:
                process.feed.put(tick)

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

    def new_run(self, strategy: StrategyId, run_id: RunId) -> Run:
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
        return [r for r in self.ledger if isinstance(r, Placed) and is_ours(r.order, slot)]

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
                and is_ours(order)
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

    def later(self, seconds: float, what: Callable[..., object], *given: Any) -> None:
        """Something outside happens by itself, whoever began it may be dead by then."""
        context = self.loop.outside.context if isinstance(self.loop, SeededLoop) else None
        self.loop.call_later(seconds, what, *given, context=context)

    def _soon(self, work: Coroutine[Any, Any, Any]) -> None:
        self.loop.create_task(work)

    def _loop_says(self, loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, asyncio.CancelledError):
            return  # the process died in a callback
        self.errors.append(error if isinstance(error, BaseException) else RuntimeError(context["message"]))
