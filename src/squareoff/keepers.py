"""What must be looked after while the engine runs: prices, the broker's news, positions, Redis, wishes.

Each keeper is a loop of its own that never ends and never gives up: what fails is told and tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

from squareoff.core.board import Board, may_be_live
from squareoff.core.events import Event, Signal, Source
from squareoff.core.limits import AccountRules, DayTotals, stricter
from squareoff.core.machine import FINAL, State
from squareoff.core.orders import Stamp
from squareoff.core.run import Run
from squareoff.core.strategy import Plan
from squareoff.core.types import AccountId, OrderReport, Product, RunId, StrategyId, Symbol, Tick
from squareoff.core.values import replace
from squareoff.errors import BadInput, BrokerUnavailable, FenceLost, RecordsUnavailable, StoreUnavailable, WishTakenBack
from squareoff.ports import (
    Brake,
    Broker,
    Clock,
    JournalKind,
    Planner,
    Records,
    RuntimeStore,
    Storyteller,
    WishRecord,
)

POLL_ORDERS_S = 0.5
"""A pushed report may be lost: orders live for longer than this are asked for this often."""
POSITIONS_S = 2.0
"""Exits are capped by the broker's position, read this often (at most 5 s by DESIGN.md)."""
REDIS_CHECK_S = 0.5
RING_S = 1.0
BELL_S = 1.0
"""A wish whose bell was lost is found within this time."""
PRICES_S = 0.2
RULES_S = 0.5
"""The kill switch is obeyed within this time."""
PLANS_S = 1.0
"""Definitions are looked at this often: for edits, and for runs of repeating strategies."""
RECONNECT_FIRST_S, RECONNECT_LONGEST_S = 0.1, 5.0


class Kept(Storyteller, Protocol):
    """What the keepers need of the engine."""

    account: AccountId
    board: Board
    stamp: Stamp
    redis_damaged: asyncio.Event
    time_doubt: str | None
    rules: AccountRules
    totals: dict[date, DayTotals]

    def set_rules(self, rules: AccountRules) -> None: ...
    async def edit(self, run_id: RunId, plan: Plan) -> bool: ...
    def notify(self, run_id: RunId, signal: Signal) -> None: ...
    def on_report(self, report: OrderReport) -> None: ...
    def on_positions(
        self, positions: Mapping[tuple[Symbol, Product], Decimal], *, asked_at_s: float | None = None
    ) -> None: ...
    def wake(self, run_id: RunId) -> None: ...
    def ring(self) -> None: ...
    def warn(self, what: str, headline: str, text: str, run: Run | None = None) -> None: ...
    def is_saved(self, run_id: RunId) -> bool: ...
    async def show_what_moved(self, rebuilt: Sequence[Run]) -> None: ...
    async def create(self, run: Run, *, wish_id: int | None = None) -> None: ...
    async def begin(self, run_id: RunId) -> None: ...
    async def settled(self, run_id: RunId) -> None: ...


@dataclass(kw_only=True)
class Keepers:
    engine: Kept
    clock: Clock
    broker: Broker
    feed_loops: Sequence[Callable[[], Coroutine[Any, Any, None]]]
    """What keeps prices coming, a loop each."""
    records: Records
    runtime: RuntimeStore
    planner: Planner
    brake: Brake
    plans_every_s: float = PLANS_S
    _made: dict[int, Run] = field(default_factory=dict)
    """The run made for a START, by wish: asked again, it is the same run."""
    _rules: AccountRules = field(default_factory=AccountRules)
    """As SQL last told them."""
    _told: set[int] = field(default_factory=set)
    """Wishes handed to their runs, not yet taken off the list."""

    def first_loops(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What watches a position: started before recovery, so that a proven one is protected at once."""
        market = (*self.feed_loops, self._keep_updates, self._keep_orders, self._keep_positions)
        return [self.for_ever(keep) for keep in (*market, self._keep_ringing, self._keep_rules)]

    def later_loops(self) -> Sequence[Coroutine[Any, Any, None]]:
        """The rest: started when recovery is done."""
        keepers = (self._keep_redis, self._keep_wishes, self._keep_prices, self._keep_plans)
        return [self.for_ever(keep) for keep in keepers]

    async def for_ever(self, keep: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A bug of ours in one keeper must neither end it nor go unseen."""
        while True:
            try:
                await keep()
            except FenceLost:
                raise  # this worker has nothing to keep any more
            except Exception as error:
                name = keep.__name__.lstrip("_").removeprefix("keep_")
                self.engine.warn(f"keeper {name}", f"looking after {name} failed", f"{type(error).__name__}: {error}")
            await self.clock.sleep(RECONNECT_LONGEST_S)

    async def _keep_ringing(self) -> None:
        while True:
            self.engine.ring()
            await self.clock.sleep(RING_S)

    # ------------------------------------------------------------------ broker

    async def _keep_updates(self) -> None:
        pause_s = RECONNECT_FIRST_S
        while True:
            try:
                async for report in self.broker.updates():
                    pause_s = RECONNECT_FIRST_S
                    self.engine.on_report(report)
            except BrokerUnavailable as error:
                self.engine.say(JournalKind.NOTE, f"the broker's news stream ended: {error}")
            await self._read_orders()  # what was told while nobody listened
            await self.clock.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_LONGEST_S)

    async def _keep_orders(self) -> None:
        board, before = self.engine.board, set[RunId]()
        while True:
            await self.clock.sleep(POLL_ORDERS_S)
            live = {run_id for run_id in board.unsettled if may_be_live(board.runs[run_id])}
            if live & before:  # what is live only now will be told
                await self._read_orders()
            before = live

    async def _read_orders(self) -> None:
        try:
            for report in await self.broker.orders():
                self.engine.on_report(report)
        except BrokerUnavailable as error:
            self.engine.say(JournalKind.NOTE, f"the broker did not tell its orders: {error}")

    async def _keep_positions(self) -> None:
        while True:
            if any(run.remaining_qty > 0 for run in self.engine.board.runs.values()):
                asked_s = self.clock.monotonic_s()
                try:
                    positions = await self.broker.positions()
                except BrokerUnavailable as error:  # never read as flat
                    self.engine.say(JournalKind.NOTE, f"the broker did not tell its positions: {error}")
                else:
                    net = {(p.symbol, p.product): p.net_qty for p in positions}
                    self.engine.on_positions(net, asked_at_s=asked_s)
            await self.clock.sleep(POSITIONS_S)

    # ------------------------------------------------------------------ Redis

    async def _keep_redis(self) -> None:
        """Notice within a second that Redis is not the one we wrote, and make it so again."""
        while True:
            try:
                intact = not self.engine.redis_damaged.is_set() and await self.runtime.is_intact(self.engine.account)
                if not intact:
                    await self._rebuild_redis()
            except StoreUnavailable as error:
                if not self.engine.redis_damaged.is_set():
                    text = f"Redis does not answer: {error}; exits go on without it, entries wait"
                    self.engine.say(JournalKind.REDIS, text)
                self.engine.redis_damaged.set()
            await self.clock.sleep(REDIS_CHECK_S)

    async def _rebuild_redis(self) -> None:
        self.engine.redis_damaged.set()
        self.engine.say(JournalKind.REDIS, "Redis is not the one we wrote: none of it is believed")
        while self.engine.redis_damaged.is_set():
            self.engine.redis_damaged.clear()  # first: what moves during the rebuild sets it again
            runs = list(self.engine.board.runs.values())
            try:
                await self.runtime.rebuild(self.engine.account, runs)
                await self.engine.show_what_moved(runs)
            except StoreUnavailable:
                self.engine.redis_damaged.set()
                raise
        for run in runs:
            self.engine.say(JournalKind.REDIS, f"rebuilt in Redis as {run.state} from memory and SQL", run)
            self.engine.wake(run.plan.run_id)

    async def _keep_prices(self) -> None:
        told: dict[Symbol, Tick] = {}
        while True:
            await self.clock.sleep(PRICES_S)
            last = {symbol: cell.last for symbol, cell in self.engine.board.cells.items() if cell.last is not None}
            fresh = {symbol: tick for symbol, tick in last.items() if told.get(symbol) is not tick}
            if not fresh or self.engine.redis_damaged.is_set():
                continue
            try:
                await self.runtime.put_prices(self.engine.account, fresh)
                told.update(fresh)
            except StoreUnavailable:
                self.engine.redis_damaged.set()

    # ------------------------------------------------------------------ kill switch, limits, days to come

    async def _keep_rules(self) -> None:
        while True:
            await self.read_rules()
            await self.clock.sleep(RULES_S)

    async def read_rules(self) -> None:
        """The stricter of SQL and the brake's file. With SQL down the limits stay as they were."""
        account, level = self.engine.account, self.brake.level()
        try:
            self._rules = await self.records.rules(account)
            for day in {run.plan.trading_day for run in self.engine.board.runs.values()} - self.engine.totals.keys():
                self.engine.totals[day] = await self.records.totals(account, day)
        except RecordsUnavailable as error:
            self.engine.warn("rules", "SQL does not tell the account's limits", f"the last known hold: {error}")
        rules = self._rules
        if stricter(level, rules.level) is not rules.level:
            rules = replace(rules, level=level, reason=self.brake.told(), by="the kill switch's file")
        self.engine.set_rules(rules)

    async def _keep_plans(self) -> None:
        """Runs of repeating strategies at their time; edits of definitions into the runs under way."""
        told: dict[StrategyId, str] = {}
        while True:
            try:
                planned = await self.planner.look(self.clock.now(), list(self.engine.board.runs.values()))
                for run_id, plan in planned.edited.items():
                    await self.engine.edit(run_id, plan)
                for strategy_id in planned.due:
                    if self._knows_the_day(f"the next run of strategy {strategy_id}"):
                        await self._repeat(strategy_id)
                for strategy_id, why in planned.waiting.items():
                    if told.get(strategy_id) != why:
                        text = f"strategy {strategy_id} repeats, but makes no run today: {why}"
                        self.engine.say(JournalKind.ALERT, text, strategy_id=strategy_id)
                told = dict(planned.waiting)
            except RecordsUnavailable as error:
                self.engine.say(JournalKind.NOTE, f"SQL did not tell the strategies: {error}")
            await self.clock.sleep(self.plans_every_s)

    async def _repeat(self, strategy_id: StrategyId) -> None:
        for earlier in self._open_runs(strategy_id):
            if earlier.is_closed:  # archived first, as a START would
                self.engine.notify(earlier.plan.run_id, self._archiving())
                await self.engine.settled(earlier.plan.run_id)
        if self._open_runs(strategy_id):
            return  # not archived yet: looked at again
        try:
            run = await self.planner.new_run(strategy_id, self.clock.now())
            await self.engine.create(run)
        except BadInput as error:
            self.engine.say(JournalKind.ALERT, f"strategy {strategy_id} repeats, but: {error}", strategy_id=strategy_id)
            return
        await self.engine.begin(run.plan.run_id)

    def _archiving(self) -> Signal:
        return Signal(event=Event.START, at=self.clock.now(), source=Source.TIMER, detail="the next run is made")

    # ------------------------------------------------------------------ wishes

    async def _keep_wishes(self) -> None:
        while True:
            try:
                wishes = await self.records.wishes(self.engine.account)
                await self._begin_created(wishes)
                for wish in wishes:
                    await self._obey(wish)
            except RecordsUnavailable as error:
                self.engine.say(JournalKind.NOTE, f"SQL did not tell the wishes: {error}")
            try:
                await self.runtime.wait_for_bell(self.engine.account, BELL_S)
            except StoreUnavailable:  # the bell is a convenience: SQL is asked anyway
                await self.clock.sleep(BELL_S)

    async def _obey(self, wish: WishRecord) -> None:
        """Carry out one wish. It counts as taken only when what it changed is saved, so a crash repeats it."""
        if wish.event is Event.START:
            if self._knows_the_day(f"START of strategy {wish.strategy_id}"):
                await self._start(wish)
            return
        runs = self._open_runs(wish.strategy_id)
        for run in runs if wish.id not in self._told else ():
            await self._hand_on(wish, run)
        self._told.add(wish.id)
        if all(self.engine.is_saved(run.plan.run_id) for run in runs):
            await self.records.wish_taken(wish.id, self.engine.stamp.fence)

    async def _hand_on(self, wish: WishRecord, run: Run) -> None:
        signal = Signal(event=wish.event, at=self.clock.now(), source=Source.WISH, detail=f"by {wish.by}")
        self.engine.notify(run.plan.run_id, signal)
        await self.engine.settled(run.plan.run_id)

    async def _start(self, wish: WishRecord) -> None:
        """The run is saved as `created`, then the wish counts as taken, then the run begins: wherever a crash falls
        between, the next process goes on from the created run, and no wish makes two. One that was taken back makes
        none."""
        run = self._created(wish.strategy_id) or await self._make(wish)
        await self.records.wish_taken(wish.id, self.engine.stamp.fence)
        self._made.pop(wish.id, None)
        if run is not None:
            await self.engine.begin(run.plan.run_id)

    async def _make(self, wish: WishRecord) -> Run | None:
        """The created run of a START. None: it cannot be started now, which is told. Raises RecordsUnavailable."""
        for earlier in self._open_runs(wish.strategy_id):
            await self._hand_on(wish, earlier)  # archives it if it is closed
        for earlier in self._open_runs(wish.strategy_id):
            if earlier.state in FINAL and earlier.is_closed:
                raise RecordsUnavailable(f"run {earlier.plan.run_id} is not archived yet")
            text = "it is started already, or an earlier run of it may still buy or hold"
            self.engine.say(JournalKind.ALERT, f"strategy {wish.strategy_id} was not started: {text}", earlier)
            return None
        try:
            if wish.id not in self._made:
                self._made[wish.id] = await self.planner.new_run(wish.strategy_id, self.clock.now())
            await self.engine.create(self._made[wish.id], wish_id=wish.id)
        except WishTakenBack as error:
            self.engine.say(JournalKind.NOTHING, str(error), strategy_id=wish.strategy_id)
            return None
        except BadInput as error:
            self.engine.say(JournalKind.ALERT, f"strategy {wish.strategy_id} was not started: {error}")
            return None
        return self._made[wish.id]

    def _knows_the_day(self, what: str) -> bool:
        """A run is made for a day: not while nobody can say what time it is."""
        doubt = self.engine.time_doubt
        if doubt is not None:
            self.engine.warn(f"waits {what}", f"{what} waits", f"nobody can say for which day: {doubt}")
        return doubt is None

    async def _begin_created(self, wishes: Sequence[WishRecord]) -> None:
        """A crash fell between taking a START and beginning its run."""
        asked = {wish.strategy_id for wish in wishes if wish.event is Event.START}
        for run in list(self.engine.board.runs.values()):
            if run.state is State.CREATED and run.plan.strategy_id not in asked:
                await self.engine.begin(run.plan.run_id)

    def _created(self, strategy_id: StrategyId) -> Run | None:
        return next((run for run in self._open_runs(strategy_id) if run.state is State.CREATED), None)

    def _open_runs(self, strategy_id: StrategyId) -> list[Run]:
        return [run for run in self.engine.board.runs.values() if run.plan.strategy_id == strategy_id]
