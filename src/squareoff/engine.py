"""event -> decide() -> claim, licence -> gateway -> settle.

One engine per account. Each run has an inbox and is worked on by one task at a time; what comes meanwhile waits in
the inbox or is still due afterwards, so nothing is discarded. The specification's internal states (idle, validating,
locked, executing, updating, unlocking) are written to the journal as they pass.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from squareoff.core import story
from squareoff.core.board import Board, exit_qty, is_exposed, may_be_live
from squareoff.core.edit import edited
from squareoff.core.events import Cause, Event, Signal, Source
from squareoff.core.exits import exit_limit
from squareoff.core.figures import UNMETERED
from squareoff.core.limits import AccountRules, DayTotals, Level, loss_is_reached, objection, orders_of, pnl_of
from squareoff.core.machine import CAUSE_LABEL, EXPOSURE_LABEL, STATE_LABEL, Effect, State
from squareoff.core.orders import RESCUE_EVERY_S, Attempt, AttemptPhase, SlotPhase, Stamp
from squareoff.core.outcomes import Answered, GateSaidNo, NotSent, Refused, Sent, hear, judge, sending
from squareoff.core.ownership import Key, Ownership, key_of
from squareoff.core.plausible import ANY_PRICE, PriceLimits
from squareoff.core.run import Decision, Run, StopSeen, advance, nothing_bought, slot_of, with_time_moved, with_wish
from squareoff.core.strategy import Plan
from squareoff.core.triggers import due, is_fresh, stop_hit, watched_until
from squareoff.core.types import (
    ZERO,
    AccountId,
    ClientOrderId,
    Exposure,
    Order,
    OrderReport,
    OrderType,
    RunId,
    Side,
    SlotName,
    StrategyId,
    Symbol,
    Tick,
)
from squareoff.core.values import replace
from squareoff.errors import EntriesBlocked, FenceLost, RecordsUnavailable, StoreUnavailable
from squareoff.ports import (
    Alerts,
    Broker,
    Claim,
    Clock,
    EngineState,
    Journal,
    JournalEntry,
    JournalKind,
    Meter,
    Precedence,
    Records,
    RuntimeStore,
    Sender,
    Severity,
    Spool,
    SpoolLatch,
)

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]

LOCK_TTL_MS = 5_000
"""Longer than the longest request to a broker, so that a living worker never loses it half-way."""

LOOK_AGAIN_S = 0.25
"""Pause before asking once more for what was not to be had: Redis, SQL, a lock."""

SAVE_WAIT_S, SAVE_WAIT_OUT_S = 1.0, 0.1
"""A run is written before it is worked on further; but for a disk that hangs nothing waits longer than the first, and
what gets out no longer than the second. A stop-loss does not wait at all."""

EXIT_WAITS_S = 0.5
"""Pause before an exit that the broker's position does not cover is asked for again."""

CLOCKS_DIFFER = timedelta(seconds=5)
"""Between our clock and the broker's, at most: for who asks whether an order left before its time."""

RING_EVERY_S = 60.0
"""Whatever needs a person is told again this often."""

BACKLOG_MAX = 10_000
"""Journal entries not yet durable above which no new entry is made; exits go on."""

_SENDS = frozenset({Effect.SEND_ENTRY, Effect.SEND_EXIT, Effect.UPGRADE_EXIT, Effect.CANCEL_ENTRY, Effect.VOID_ENTRY})

_URGENT = frozenset({Event.STOPLOSS, Event.KILL, Event.STOP})

_KILLABLE = frozenset({State.READY, State.RUNNING, State.BOUGHT, State.SELL_PENDING})

_NO_RULES = AccountRules()

_TIMER = Source.TIMER

_GETS_OUT = frozenset({Effect.SEND_EXIT, Effect.UPGRADE_EXIT})

_KIND_OF = {
    Source.TIMER: JournalKind.TIMER,
    Source.TICK: JournalKind.TICK,
    Source.WISH: JournalKind.WISH,
    Source.BROKER: JournalKind.NOTE,
    Source.RECOVERY: JournalKind.RECOVERY,
    Source.ENGINE: JournalKind.NOTE,
}


def _is_unexplained(run: Run) -> bool:
    """Whether an exit of `run` reached the broker though nothing is known to have asked for it."""
    is_quiet = run.state is State.BOUGHT and run.stop_seen is None and run.wish is None
    return is_quiet and any(attempt.broker_order_id or attempt.fills for attempt in run.exit.attempts)


class Engine:
    """Works the runs of one account. `set_timers` is told every snapshot; `spawn` starts background work;
    `chase` sees to orders that may be live and should not be; `is_acknowledged` is asked before an alarm about a
    position (`story.exposure_key`) is repeated; `limits`, for the price band that an exit's limit must stay in.
    `shares_database`: a successor may be on another machine, which does not see our send marks, so an exit leaves only
    when its licence is in SQL."""

    def __init__(
        self,
        *,
        account: AccountId,
        board: Board,
        clock: Clock,
        records: Records,
        journal: Journal,
        runtime: RuntimeStore,
        broker: Broker,
        gateway: Sender,
        spool: Spool,
        alerts: Alerts,
        stamp: Stamp,
        set_timers: Callable[[Run], None],
        spawn: Spawn,
        precedence: Precedence,
        chase: Callable[[Run], None],
        is_acknowledged: Callable[[str], bool] = lambda key: False,
        limits: Callable[[Symbol], PriceLimits] = lambda symbol: ANY_PRICE,
        shares_database: bool = False,
        meter: Meter = UNMETERED,
    ) -> None:
        self.account, self.board, self.stamp = account, board, stamp
        self._clock, self._records, self._journal, self._runtime = clock, records, journal, runtime
        self._broker, self._gateway, self._spool, self._alerts = broker, gateway, spool, alerts
        self._set_timers, self._spawn_task, self._chase, self._precedence = set_timers, spawn, chase, precedence
        self._is_acknowledged, self._limits, self._meter = is_acknowledged, limits, meter
        self.ownership = Ownership(board)
        self.entries_blocked: str | None = None
        """Why no new entry may be made now; None: they may. Exits never ask."""
        self.time_doubt: str | None = None
        """Why nobody can say what time it is; None: trading time is trusted. Exits never ask."""
        self.redis_damaged = asyncio.Event()
        """Set when a claim found a Redis that is not the one we wrote; the keeper rebuilds it."""
        self.rules = AccountRules()
        """Kill switch and limits, as last read."""
        self.totals: dict[date, DayTotals] = {}
        """Of archived runs, by trading day: filled from SQL once, kept up here."""
        self._entering: set[RunId] = set()
        """Allowed to buy by the limits, and not over yet: they count for those who ask next."""
        self._killed: set[RunId] = set()
        self.halted: str | None = None
        """Set once the account was taken by another worker: this engine sends nothing any more."""
        self._inbox: dict[RunId, deque[Signal]] = {}
        self._busy: set[RunId] = set()
        self._idle_again: dict[RunId, asyncio.Event] = {}
        self._again: set[RunId] = set()
        self._failures: dict[RunId, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._told_s: dict[tuple[str, RunId | None], float] = {}
        self._saved_version: dict[RunId, int] = {}
        self._shares_database = shares_database
        self._saved_exits: dict[RunId, int] = {}
        """The last exit attempt of each run that SQL has under our own stamp."""
        self._calls: dict[RunId, asyncio.Future[None]] = {}
        """Set when something urgent comes for a run that waits for its write."""
        self._writers: dict[RunId, asyncio.Task[None]] = {}
        self._unexplained: set[RunId] = set()
        """An exit of theirs is at the broker, and nobody here remembers why it was sent."""
        self._undecided: set[RunId] = set()
        """Their entry was decided in SQL perhaps: until the answer is known, nothing is written over it."""
        self._requests = 0
        self._do: dict[Effect, Callable[[RunId, Signal], Coroutine[Any, Any, None]]] = {
            Effect.ARM: self._arm,
            Effect.SEND_ENTRY: self._send_entry,
            Effect.CANCEL_ENTRY: self._cancel_entry,
            Effect.SEND_EXIT: self._send_exit,
            Effect.UPGRADE_EXIT: self._upgrade_exit,
            Effect.LOOK_UP: self._look_up,
            Effect.WATCH_LATE: self._watch_late,
            Effect.RESCUE: self._rescue,
            Effect.ALERT: self._alert,
        }

    # ------------------------------------------------------------------ what comes in

    def notify(self, run_id: RunId, signal: Signal) -> None:
        """Something happened to a run. Never blocks; a stop-loss is latched before anything else."""
        if run_id not in self.board.runs:
            return
        if signal.event is Event.STOPLOSS:
            self._latch(run_id, signal)
        self._inbox.setdefault(run_id, deque()).append(signal)
        if signal.event in _URGENT and (call := self._calls.get(run_id)) is not None and not call.done():
            call.set_result(None)
        self._wake(run_id)

    def on_report(self, report: OrderReport) -> None:
        """News of an order, pushed or asked for. Repeats and old news do nothing."""
        run_id = self.board.owner_of(report.client_order_id)
        if run_id is None:
            return
        before = self.board.runs[run_id]
        run, signal = hear(before, report, self._clock.now())
        if run is before:
            return
        self.put(run)
        if _is_unexplained(run):
            self._unexplained.add(run_id)
        self._tell_fills(before, run, report.client_order_id)
        if signal is not None:
            self.notify(run_id, signal)
        else:
            self._wake(run_id)

    def on_low(self, run_id: RunId, tick: Tick) -> None:
        """A price while the entry is open and the level of its stop-loss is not known: the lowest one is latched."""
        run = self.board.runs[run_id]
        if run.lowest_price is not None and tick.price >= run.lowest_price:
            return
        self._spool.latch(SpoolLatch(run_id=run_id, price=tick.price, at=tick.at, tripped=False))
        self.put(replace(run, lowest_price=tick.price, version=run.version + 1))

    def on_positions(self, positions: Mapping[Key, Decimal], *, asked_at_s: float | None = None) -> None:
        """The broker's net positions; what is absent is flat. `asked_at_s`: when it was asked (monotonic seconds),
        None for just now."""
        asked_s = self._clock.monotonic_s() if asked_at_s is None else asked_at_s
        for key in {key_of(run) for run in self.board.runs.values()}:
            if not self.ownership.lags(key, asked_s, self._broker.facts.position_lag_s):
                for run in self.ownership.reckon(key, positions.get(key, ZERO)):
                    self._closed_outside(run)

    def add(self, run: Run, *, saved: bool) -> None:
        """Take a run onto the board: after START, or recovered."""
        if saved:
            self._saved_version[run.plan.run_id] = run.version
            if run.exit.stamp == self.stamp:
                self._saved_exits[run.plan.run_id] = len(run.exit.attempts)
        if run.entry.filled_qty > 0:
            self.ownership.taken_on(run, self._clock.monotonic_s() - self._age_s(run))
        if _is_unexplained(run):
            self._unexplained.add(run.plan.run_id)
        self.put(run)

    def _age_s(self, run: Run) -> float:
        """For how long the last fill of `run` is known to be over, by the broker's clock and ours."""
        fills = [at for at in (run.entry.last_fill_at, run.exit.last_fill_at) if at is not None]
        return max((self._clock.now() - max(fills) - CLOCKS_DIFFER).total_seconds(), 0.0) if fills else 0.0

    async def save_all(self) -> None:
        """Write every snapshot that SQL does not have yet, and show it in Redis beside that: who wanted to write it
        finds it written and leaves."""
        for run_id in list(self.board.runs):
            run = self.board.runs.get(run_id)
            if run is None or self._has_saved(run) or not await self._saved(run_id):
                continue
            if (now := self.board.runs.get(run_id)) is not None:
                self._spawn(self._unlock(now))

    @property
    def pending_events(self) -> int:
        """Signals that were told to a run and are not worked on yet."""
        return sum(map(len, self._inbox.values()))

    @property
    def all_saved(self) -> bool:
        """Whether SQL has everything of every run, at this moment."""
        return all(self._has_saved(run) for run in self.board.runs.values())

    def is_saved(self, run_id: RunId) -> bool:
        """Whether all that was told to a run is worked on, and in SQL."""
        run = self.board.runs.get(run_id)
        return run is None or (run_id not in self._busy and not self._inbox.get(run_id) and self._has_saved(run))

    async def create(self, run: Run, *, wish_id: int | None = None) -> None:
        """A new run, saved as `created`: `begin` makes it ready. `wish_id`: the START it is made for.

        Raises BadInput while an earlier run of the strategy is not closed, WishTakenBack if there is no such wish any
        more, RecordsUnavailable if SQL is away."""
        await self._records.add_run(run, self.stamp.fence, wish_id=wish_id)
        self.add(run, saved=True)

    async def begin(self, run_id: RunId) -> None:
        """START of a created run."""
        self.notify(run_id, self._signal(Event.START, Source.WISH))
        await self.settled(run_id)

    async def start(self, run: Run) -> None:
        """`create` and `begin` in one."""
        await self.create(run)
        await self.begin(run.plan.run_id)

    async def settled(self, run_id: RunId) -> None:
        """Wait until nothing is being done for a run at this moment."""
        while run_id in self._busy:
            await self._idle_again.setdefault(run_id, asyncio.Event()).wait()

    async def edit(self, run_id: RunId, plan: Plan) -> bool:
        """Put an edited plan to work: memory and timers now, SQL and Redis right after. False: not now, ask again."""
        before = self.board.runs.get(run_id)
        run = None if before is None else edited(before, plan)
        if before is None or run is before:
            return True
        if run is None or run_id in self._busy:  # what is being decided now was decided by the old plan
            return False
        text, data = story.of_edit(before.plan, run)
        self.say(JournalKind.WISH, text, run, EngineState.UPDATING, **data)
        self.put(run)
        await self._arm(run_id, self._signal(Event.START))
        self._wake(run_id)
        return True

    def wake(self, run_id: RunId) -> None:
        """Ask again what is due for a run."""
        if run_id in self.board.runs and not self._is_at_rest(run_id):
            self._wake(run_id)

    def _is_at_rest(self, run_id: RunId) -> bool:
        """A position that only waits. At a start ten thousand are asked: a task for each, to find that nothing is due,
        would keep everybody waiting."""
        run = self.board.runs[run_id]
        told = run_id in self._busy or run_id in self._unexplained or bool(self._inbox.get(run_id))
        if told or run.state is not State.BOUGHT or run_id in self._failures:
            return False
        return self._has_saved(run) and not may_be_live(run) and self._due(run) is None

    def time_moved(self, by: timedelta) -> None:
        """Trading time was set anew: everything is asked again what is due."""
        for run in list(self.board.runs.values()):
            if (moved := with_time_moved(run, by)) is not run:
                self.put(moved)
            self._wake(run.plan.run_id)

    def ring(self) -> None:
        """Tell again, once a minute until it is acknowledged, of every run whose position nobody can vouch for."""
        exposed = [run for run in map(self.board.runs.__getitem__, self.board.unsettled) if is_exposed(run)]
        still = {("exposed", run.plan.run_id) for run in exposed}
        for known in [key for key in self._told_s if key[0] == "exposed" and key not in still]:
            del self._told_s[known]
        for run in exposed:
            if ("exposed", run.plan.run_id) not in self._told_s:  # young: others may still tell, or mend it
                self._told_s["exposed", run.plan.run_id] = self._clock.monotonic_s()
            elif self._clock.monotonic_s() - self._told_s["exposed", run.plan.run_id] >= RING_EVERY_S:
                self._told_s["exposed", run.plan.run_id] = self._clock.monotonic_s()
                if not self._is_acknowledged(story.exposure_key(run)):
                    self._tell_exposure(run, "still open")

    async def show_what_moved(self, rebuilt: Sequence[Run]) -> None:
        """Redis was rebuilt from these snapshots. What has moved since they were taken was written over: it is shown
        once more. Raises StoreUnavailable."""
        before = {run.plan.run_id: run for run in rebuilt}
        for run_id, run in list(self.board.runs.items()):
            if run_id not in before:
                await self._arm(run_id, self._signal(Event.START))
            elif run is not before[run_id] and (now := self.board.runs.get(run_id)) is not None:
                await self._unlock(now)
        for run_id in before.keys() - self.board.runs.keys():
            await self._runtime.archive(before[run_id])

    def tell_unwatched(self) -> None:
        """This worker ends: say of every position that nobody watches its stop-loss from now on."""
        for run in self.board.runs.values():
            if run.exposure in (Exposure.LONG, Exposure.UNKNOWN):
                stop = "" if run.stop_price is None else f", stop-loss {run.stop_price:f}"
                qty = f" ({run.remaining_qty:f})" if run.remaining_qty > 0 else ""
                held = f"{EXPOSURE_LABEL[run.exposure]}{qty}{stop}"
                text = f"{held}; start squareoff, or close it at your broker"
                self.tell(Severity.URGENT, f"{run.plan.symbol}: not watched any more", text, run)

    def warn(self, what: str, headline: str, text: str, run: Run | None = None) -> None:
        """Alarm at once, and again once a minute while the same thing (`what`) goes on being told."""
        key, now_s = (what, run.plan.run_id if run else None), self._clock.monotonic_s()
        if key in self._told_s and now_s - self._told_s[key] < RING_EVERY_S:
            return
        self._told_s[key] = now_s
        self.tell(Severity.URGENT, headline, text, run)

    def tell(self, severity: Severity, headline: str, text: str, run: Run | None = None) -> None:
        self.say(JournalKind.ALERT, f"{headline}. {text}", run, severity=severity)
        self._alerts.tell(severity, headline, text, run_id=run.plan.run_id if run else None)

    def say(
        self,
        kind: JournalKind,
        text: str,
        run: Run | None = None,
        engine: EngineState = EngineState.IDLE,
        *,
        strategy_id: StrategyId | None = None,
        **data: Any,
    ) -> None:
        """One line into the journal. `strategy_id` where there is no run of it."""
        self._journal.write(
            JournalEntry(
                at=self._clock.now(),
                account=self.account,
                kind=kind,
                text=text,
                run_id=run.plan.run_id if run else None,
                strategy_id=run.plan.strategy_id if run else strategy_id,
                engine=engine,
                data=data,
            )
        )

    # ------------------------------------------------------------------ one run, one task

    def _wake(self, run_id: RunId) -> None:
        if self.halted:
            return
        if run_id in self._busy:
            self._again.add(run_id)
            return
        self._busy.add(run_id)
        self._spawn(self._pump(run_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._spawn_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _pump(self, run_id: RunId) -> None:
        """Work the run's inbox, then whatever is due, until there is nothing left to do."""
        answered: tuple[Event, int] | None = None
        try:
            while not self.halted and (run := self.board.runs.get(run_id)) is not None:
                if not self.still_ours():  # woken after another has taken the account: the story is theirs now
                    break
                if run_id in self._unexplained:
                    await self._explain_exit(run_id)
                inbox = self._inbox.get(run_id)
                if inbox:
                    await self._handle(run_id, inbox.popleft())
                    continue
                signal = self._due(run)
                if signal is None or answered == (signal.event, run.version):
                    break
                answered = (signal.event, run.version)
                await self._handle(run_id, signal)
            await self._rest(run_id)
            self._failures.pop(run_id, None)
        except FenceLost as error:
            self.halt(str(error))
        except Exception as error:  # a bug of ours must never be silent about a position
            self._broken(run_id, error)
            raise
        finally:
            self._busy.discard(run_id)
            if (waiting := self._idle_again.pop(run_id, None)) is not None:
                waiting.set()
            if self._inbox.get(run_id) or run_id in self._again:
                self._again.discard(run_id)
                self._wake(run_id)

    async def _rest(self, run_id: RunId) -> None:
        """Nothing is due for the moment: leave the run saved, and nothing of it unattended."""
        if (run := self.board.runs.get(run_id)) is None or self.halted:
            return
        self._note_waiting(run)
        run = self.board.runs[run_id]
        self._chase(run)
        if not self._has_saved(run):
            await self._update(run_id)
            run = self.board.runs[run_id]
        if run.state is State.STOPPED and run.is_closed and self._has_saved(run):
            await self._archive(run_id)

    async def _handle(self, run_id: RunId, signal: Signal) -> None:
        run = self.board.runs[run_id]
        if signal.event is Event.RETRY and not self._is_due(run, Event.RETRY):
            return  # an earlier one was faster: the pause before the next try is not over
        if signal.source is _TIMER:
            self._meter_timer(run, signal.event)
        decision = advance(run, signal)
        text, data = story.of_signal(signal)
        self.say(_KIND_OF[signal.source], text, run, EngineState.VALIDATING, **data)
        if decision.impossible:
            self.say(JournalKind.NOTE, f"impossible: {decision.reason}", run, EngineState.VALIDATING)
            await self._handle(run_id, self._signal(Event.SAFETY_ABORT, cause=Cause.IMPOSSIBLE_TRANSITION))
            return
        if not decision.moved:
            await self._stay(run_id, decision)
            return
        if Effect.SEND_ENTRY in decision.effects:
            if (why := self.no_entry_now()) is not None:
                self._wait(run, f"BUY waits: {why}", blocked=why)
                return
            if (why := self._refused_by_rules(run)) is not None:
                await self._refuse_entry(run_id, why)
                return
            self._entering.add(run_id)
        if _SENDS.intersection(decision.effects):
            if not await self._claimed(decision):
                return
            if self.board.runs[run_id] is not run:  # news came meanwhile: ask again
                decision = advance(self.board.runs[run_id], signal)
            if not decision.moved:
                await self._stay(run_id, decision)
                await self._update(run_id)
                return
        if await self._permitted(decision):
            await self._carry_out(run_id, decision)
        elif run_id in self.board.runs:
            self._keep_wish(run_id, signal.event)  # it could not be done yet: it stays due

    def _meter_timer(self, run: Run, event: Event) -> None:
        if event is Event.BUY or event is Event.SELL:
            at = run.plan.buy_at if event is Event.BUY else run.plan.sell_at
            self._meter.timer_handled(event, -self._clock.seconds_until(at))

    def _keep_wish(self, run_id: RunId, event: Event) -> None:
        run = self.board.runs.get(run_id)
        if run is not None and (wishing := with_wish(run, event)) != run:
            self.put(replace(wishing, version=run.version + 1))

    def _due(self, run: Run) -> Signal | None:
        symbol = run.plan.symbol
        return due(run, self._clock.now(), self.board.last(symbol), as_of=self.board.as_of(symbol))

    def _is_due(self, run: Run, event: Event) -> bool:
        signal = self._due(run)
        return signal is not None and signal.event is event

    async def _stay(self, run_id: RunId, decision: Decision) -> None:
        run = self.board.runs[run_id]
        self.say(JournalKind.NOTHING, decision.reason, run, EngineState.VALIDATING, event=decision.signal.event)
        for effect in decision.effects:
            await self._do[effect](run_id, decision.signal)

    async def _claimed(self, decision: Decision) -> bool:
        """Lock the run in Redis and write there what it is about to do. A BUY waits for it. Getting out does not:
        the lock saves work but makes nothing safe, so it is asked for beside the order (docs/architecture.md)."""
        run, event = decision.run, decision.signal.event
        if _GETS_OUT.intersection(decision.effects):
            text = f"lock asked for; {event} does not wait for the answer"
            self.say(JournalKind.CLAIM, text, run, EngineState.LOCKED, event=event)
            self._spawn(self._claim_beside(run, event))
            return True
        why = await self._claim(run, event)
        if why is None:
            self.say(JournalKind.CLAIM, f"locked for {event}", run, EngineState.LOCKED, event=event)
            return True
        if Effect.SEND_ENTRY in decision.effects:
            self._wait(self.board.runs[run.plan.run_id], f"BUY waits: {why}", blocked=why)
            return False
        self.say(JournalKind.CLAIM, f"{event} goes on without Redis: {why}", run, EngineState.LOCKED, event=event)
        return True

    async def _claim_beside(self, run: Run, event: Event) -> None:
        await self._precedence.calm()
        try:
            why = await self._claim(run, event)
        except Exception as error:
            self._broken(run.plan.run_id, error)
            raise
        if why is not None:
            self.say(JournalKind.CLAIM, f"{event} goes on without Redis: {why}", run, EngineState.LOCKED, event=event)

    async def _claim(self, run: Run, event: Event) -> str | None:
        """None: locked. A text: why not."""
        try:
            claim = await self._runtime.claim(
                run, fence=self.stamp.fence, ttl_ms=LOCK_TTL_MS, event=event, request_id=self._request_id()
            )
        except StoreUnavailable as error:
            return str(error)
        if claim is Claim.DAMAGED:
            self.redis_damaged.set()
        return None if claim is Claim.OK else f"Redis answered {claim}"

    async def _permitted(self, decision: Decision) -> bool:
        """The entry's licence, from SQL, for those who buy and for those who decide that nobody will."""
        run, event = decision.run, decision.signal.event
        if event is not Event.BUY and Effect.VOID_ENTRY not in decision.effects:
            return True
        try:
            if event is Event.BUY:
                run = replace(run, entry=replace(run.entry, stamp=self.stamp))
                licensed = await self._records.license_entry(run, self.stamp.fence)
            else:
                licensed = await self._records.void_entry(run, self.stamp.fence)
        except EntriesBlocked as error:  # pressed since the rules were last read
            await self._refuse_entry(run.plan.run_id, str(error))
            return False
        except RecordsUnavailable as error:
            self._undecided.add(run.plan.run_id)
            self._wait(self.board.runs[run.plan.run_id], f"{event} waits: SQL does not answer: {error}", blocked="SQL")
            return False
        if not licensed:
            await self._learn_what_was_decided(decision)
            return False
        self._undecided.discard(run.plan.run_id)
        what = "licence to buy once" if event is Event.BUY else "entry void: nobody will buy"
        self.say(JournalKind.LICENCE, what, run, EngineState.LOCKED, fence=self.stamp.fence)
        self._saved_version[run.plan.run_id] = run.version
        return True

    async def _learn_what_was_decided(self, decision: Decision) -> None:
        """The entry is decided already. Only we decide here, so it was a COMMIT of ours whose answer was lost: take
        it over from SQL. Nothing was sent under a licence of which we never heard."""
        run_id, signal = decision.run.plan.run_id, decision.signal
        try:
            stored = await self._records.open_runs(self.account)
        except RecordsUnavailable as error:
            self._wait(self.board.runs[run_id], f"{signal.event} waits: SQL does not answer: {error}", blocked="SQL")
            return
        self._undecided.discard(run_id)
        run = next((one for one in stored if one.plan.run_id == run_id), None)
        if run is None:  # void, stopped and archived
            await self._archive(run_id)
            return
        self.say(JournalKind.LICENCE, f"decided already, the answer was lost: {run.state}", run, EngineState.LOCKED)
        self._saved_version[run_id] = run.version
        if run.entry.phase is SlotPhase.INTENT:
            ours = run.entry.stamp == self.stamp
            phase = AttemptPhase.LICENSED if ours else AttemptPhase.UNKNOWN
            entry = run.entry.with_current(phase=phase)
            run = replace(run, entry=entry, retry_at=self._clock.now() if ours else None, version=run.version + 1)
            if signal.event is not Event.BUY:
                self._inbox.setdefault(run_id, deque()).appendleft(signal)
        self.put(run)

    async def _explain_exit(self, run_id: RunId) -> None:
        """The worker that sent it died before SQL had the reason, on another machine or before a reboot. Wishes and the
        kill switch are in SQL and SELL has its time; else only the stop-loss sends an exit."""
        try:
            wishes = await self._records.wishes(self.account)
        except RecordsUnavailable:
            self._wake_later(run_id)
            return
        self._unexplained.discard(run_id)
        if (run := self.board.runs.get(run_id)) is None or not _is_unexplained(run):
            return
        asked = any(wish.strategy_id == run.plan.strategy_id and wish.event is not Event.START for wish in wishes)
        was_time = (run.exit.first_fill_at or self._clock.now()) >= run.plan.sell_at - CLOCKS_DIFFER
        if asked or was_time or self.rules.level is Level.SQUARE_OFF or run.stop_price is None:
            return
        detail = "a SELL is at the broker that nobody here remembers; before SELL time only the stop-loss sends one"
        signal = Signal(
            event=Event.STOPLOSS, at=self._clock.now(), source=Source.RECOVERY, price=run.stop_price, detail=detail
        )
        self._latch(run_id, signal)
        self._inbox.setdefault(run_id, deque()).appendleft(signal)

    async def _carry_out(self, run_id: RunId, decision: Decision) -> None:
        before, run = self.board.runs[run_id], decision.run
        if decision.signal.event is Event.BUY:
            run = replace(run, entry=replace(run.entry, stamp=self.stamp))
        self.put(run)
        if run.state is not before.state:
            text, data = story.of_transition(before, run)
            self.say(JournalKind.TRANSITION, text, run, EngineState.UPDATING, **data)
            if (told := story.news(before, run)) is not None:
                self._alerts.tell(Severity.INFO, *told, run_id=run_id)
        for effect in decision.effects:
            if (work := self._do.get(effect)) is not None:
                await work(run_id, decision.signal)
        await self._update(run_id)

    # ------------------------------------------------------------------ effects

    async def _arm(self, run_id: RunId, _: Signal) -> None:
        run = self.board.runs[run_id]
        try:
            if await self._runtime.arm(run) is Claim.DAMAGED:
                self.redis_damaged.set()
        except StoreUnavailable as error:
            self.redis_damaged.set()
            self.say(JournalKind.REDIS, f"not armed in Redis yet: {error}", run)

    async def _send_entry(self, run_id: RunId, signal: Signal) -> None:
        run = self.board.runs[run_id]
        attempt = run.entry.current
        if attempt is None or attempt.phase is not AttemptPhase.LICENSED:
            return
        if signal.event is not Event.BUY and not await self._saved(run_id):
            self.say(JournalKind.NOTHING, "BUY waits: SQL does not answer", run, blocked="SQL")
            self._try_again(run_id, LOOK_AGAIN_S)
            return
        await self._send(run_id, SlotName.ENTRY, attempt, cause=Event.BUY, not_after=run.plan.buy_until)

    async def _send_exit(self, run_id: RunId, signal: Signal) -> None:
        run = self.board.runs[run_id]
        attempt = run.exit.current
        if attempt is not None and attempt.phase is AttemptPhase.UNKNOWN:
            text = f"{attempt.client_order_id} may be live; it is looked up, and nothing is sent until that is known"
            self.warn("exit unknown", f"{run.plan.symbol}: {signal.event} has to wait", text, run)
        if attempt is None or attempt.phase is not AttemptPhase.LICENSED:
            return
        qty = exit_qty(run, self.board, missing_qty=self.ownership.missing(key_of(run)))
        if qty <= 0:  # the next reading of the positions closes the run, or lets it go on
            text = f"by our fills you hold {run.remaining_qty:f}, but the broker's position does not cover them"
            self.warn("not covered", f"{run.plan.symbol}: {signal.event} has to wait", text, run)
            self._try_again(run_id, EXIT_WAITS_S)
            return
        if qty != attempt.qty:
            self.say(JournalKind.NOTE, f"sells {qty:f} of {attempt.qty:f}: the broker's position covers no more", run)
            run = replace(run, exit=run.exit.with_current(qty=qty), version=run.version + 1)
            self.put(run)
            attempt = run.exit.current
            assert attempt is not None
        if self._shares_database:
            if not await self._has_licence_in_sql(run_id, attempt):
                self._try_again(run_id, LOOK_AGAIN_S)
                return
        else:
            await self._licence_soon_in_sql(run_id, attempt)
        await self._send(run_id, SlotName.EXIT, attempt, cause=signal.event, not_after=None)

    async def _licence_soon_in_sql(self, run_id: RunId, attempt: Attempt) -> None:
        """It is there since the position was opened, but for a stop-loss right after the BUY or for a further try: then
        it is waited for, but not for long. With SQL down the send mark is the licence, until the machine loses its
        power: an exit of which SQL knows nothing would be sent again."""
        if self._saved_exits.get(run_id, 0) < attempt.number:
            await asyncio.wait({self._spawn(self._save_now(run_id))}, timeout=SAVE_WAIT_OUT_S)

    async def _save_now(self, run_id: RunId) -> None:
        try:
            await self._saved(run_id)
        except FenceLost as error:
            self.halt(str(error))

    async def _has_licence_in_sql(self, run_id: RunId, attempt: Attempt) -> bool:
        """Under our own stamp, so that whoever takes the account counts it as perhaps sent."""
        if self._saved_exits.get(run_id, 0) >= attempt.number:
            return True
        run = self.board.runs[run_id]
        if run.exit.stamp != self.stamp:
            self.put(replace(run, exit=replace(run.exit, stamp=self.stamp), version=run.version + 1))
        return await self._saved(run_id) and self._saved_exits.get(run_id, 0) >= attempt.number

    async def _upgrade_exit(self, run_id: RunId, signal: Signal) -> None:
        """A more urgent reason takes over the exit. A market order on its way already is as urgent as can be, one that
        rests at its limit is being replaced (`chase`), and a try that waits is due at once."""
        if self.board.runs[run_id].retry_at is None:
            await self._send_exit(run_id, signal)

    async def _send(
        self, run_id: RunId, name: SlotName, attempt: Attempt, *, cause: Event, not_after: datetime | None
    ) -> None:
        limit = self._exit_limit(self.board.runs[run_id], attempt) if name is SlotName.EXIT else None
        run = sending(self.board.runs[run_id], name, limit_price=limit)
        self.put(run)
        side = Side.BUY if name is SlotName.ENTRY else Side.SELL
        order = Order(
            client_order_id=attempt.client_order_id,
            account=run.plan.account,
            symbol=run.plan.symbol,
            side=side,
            product=run.plan.product,
            qty=attempt.qty,
            order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
            limit_price=limit,
        )
        price = "at market" if limit is None else f"at {limit:f} or better"
        self.say(
            JournalKind.REQUEST,
            f"{side} {attempt.qty:f} {run.plan.symbol} {price} ({attempt.client_order_id})",
            run,
            EngineState.EXECUTING,
            order=attempt.client_order_id,
            attempt=attempt.number,
            side=side,
            qty=f"{attempt.qty:f}",
            cause=cause,
        )
        self._precedence.order_leaves()
        self._meter.order_asked(attempt.client_order_id)
        try:
            sent = await self._gateway.send(
                order,
                attempt=attempt.number,
                cause=cause,
                not_after=not_after,
                objection=lambda: self._objection(run_id) if name is SlotName.ENTRY else None,
            )
        finally:
            self._meter.order_over(attempt.client_order_id)
        self._meter.order_answered(run_id, side, attempt.client_order_id, sent, self._clock.monotonic_s())
        if isinstance(sent, Refused) and attempt.client_order_id in self.ownership.lost:
            # an earlier send of this very order may still turn up: no other order may be made beside it
            sent = NotSent(sent.reason)
        before = self.board.runs[run_id]
        after, signal = judge(before, name, sent, self._clock.now())
        if after is not before:
            self.put(after)
        self._say_answer(after, attempt.client_order_id, sent)
        self._tell_fills(before, after, attempt.client_order_id)
        if signal is not None:
            self._inbox.setdefault(run_id, deque()).appendleft(signal)
        if name is SlotName.EXIT and isinstance(sent, GateSaidNo):
            self.halt(sent.reason)  # the gate stops an exit for one reason only

    def _exit_limit(self, run: Run, attempt: Attempt) -> Decimal | None:
        if attempt.number == 1:
            return None
        last, lower = self.board.last(run.plan.symbol), self._limits(run.plan.symbol).lower
        price = None if last is None else last.price
        return exit_limit(attempt.number, price, tick_size=run.plan.tick_size, lower=lower)

    def _objection(self, run_id: RunId) -> str | None:
        """The latest word before a BUY leaves: a wish, or a stop-loss that was seen meanwhile."""
        for signal in self._inbox.get(run_id, ()):
            self._keep_wish(run_id, signal.event)
        run = self.board.runs[run_id]
        if run.wish is not None:
            return "stopping was asked for"
        if self.rules.level is not Level.NORMAL:
            return f"the kill switch is on: {self.rules.reason}"
        if (price := stop_hit(run, self.board.last(run.plan.symbol))) is not None:
            return f"the stop-loss was seen at {price:f}"
        return None

    async def _cancel_entry(self, run_id: RunId, _: Signal) -> None:
        run = self.board.runs[run_id]
        attempt = run.entry.current
        if attempt is None or attempt.phase is AttemptPhase.DONE:
            return
        if attempt.phase is AttemptPhase.LICENSED:  # never left, or proven not placed: nothing to cancel
            self.put(replace(run, entry=run.entry.with_current(phase=AttemptPhase.DONE), version=run.version + 1))
            event = Event.FILLED if run.entry.filled_qty > 0 else nothing_bought(run)
            self._inbox.setdefault(run_id, deque()).append(self._signal(event))
            return
        self._chase(run)

    async def _look_up(self, run_id: RunId, signal: Signal) -> None:
        """`chase` does the looking, now and after a restart; a person is told of it here."""
        run = self.board.runs[run_id]
        if not run.exit.is_live:
            return
        text = f"{signal.detail}; you may still hold {run.remaining_qty:f}. It is looked up, not sent again"
        self.tell(Severity.URGENT, f"{run.plan.symbol}: the SELL is not confirmed", text, run)

    async def _watch_late(self, run_id: RunId, _: Signal) -> None:
        run = self.board.runs[run_id]
        if run.entry.phase is SlotPhase.WATCH:
            until = watched_until(run)
            self.say(JournalKind.NOTE, "a late order will be cancelled, a late fill sold", run, until=until.isoformat())

    async def _rescue(self, run_id: RunId, _: Signal) -> None:
        run = self.board.runs[run_id]
        if run.remaining_qty > 0:
            self.say(JournalKind.RETRY, f"getting out is tried again every {RESCUE_EVERY_S:g} s", run)

    async def _alert(self, run_id: RunId, signal: Signal) -> None:
        self._tell_exposure(self.board.runs[run_id], signal.detail)

    def _tell_exposure(self, run: Run, detail: str) -> None:
        exposed = run.exposure in (Exposure.LONG, Exposure.UNKNOWN)
        cause = CAUSE_LABEL[run.cause] if run.cause is not None else STATE_LABEL[run.state]
        headline = f"{run.plan.symbol}: {cause}"
        text = f"{EXPOSURE_LABEL[run.exposure]}" + (f" ({run.remaining_qty:f})" if run.remaining_qty > 0 else "")
        if detail:
            text += f"; {detail}"
        severity = Severity.URGENT if exposed else Severity.WARNING
        self._told_s["exposed", run.plan.run_id] = self._clock.monotonic_s()
        self.tell(severity, headline, text, run)

    async def _archive(self, run_id: RunId) -> None:
        run = self.board.runs[run_id]
        try:
            await self._runtime.archive(run)
            self.say(JournalKind.RELEASE, "keys, grouping and timers deleted", run, EngineState.UNLOCKING)
        except StoreUnavailable as error:
            self.redis_damaged.set()
            self.say(JournalKind.REDIS, f"keys not deleted yet: {error}", run)
        self.board.remove(run_id)
        self._saved_version.pop(run_id, None)
        self._saved_exits.pop(run_id, None)
        self._killed.discard(run_id)
        self._entering.discard(run_id)
        if (known := self.totals.get(run.plan.trading_day)) is not None:
            total = known.pnl + pnl_of(run, None)
            self.totals[known.day] = DayTotals(day=known.day, orders=known.orders + orders_of(run), pnl=total)

    # ------------------------------------------------------------------ settle

    async def _update(self, run_id: RunId) -> None:
        """Write the run to SQL, then to Redis, which also gives the lock back. Waited for, but not for long: what
        comes next, a stop-loss perhaps, is not kept by a disk."""
        if run_id not in self._writers:
            self._writers[run_id] = self._spawn(self._write(run_id))
        if any(signal.event in _URGENT for signal in self._inbox.get(run_id, ())):
            return
        wait_s = SAVE_WAIT_OUT_S if is_exposed(self.board.runs[run_id]) else SAVE_WAIT_S
        call = self._calls[run_id] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({self._writers[run_id], call}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._calls[run_id]

    async def _write(self, run_id: RunId) -> None:
        try:
            await self._precedence.calm()
            while await self._saved(run_id) and (shown := self.board.runs.get(run_id)) is not None:
                await self._unlock(shown)
                if (run := self.board.runs.get(run_id)) is None or run.version == shown.version:
                    break  # else it moved meanwhile, and Redis must hear of it, also when SQL has heard already
        except FenceLost as error:
            self.halt(str(error))
        except Exception as error:
            self._broken(run_id, error)
            raise
        finally:
            del self._writers[run_id]
        if run_id not in self._busy:
            self.wake(run_id)  # the run may have waited for this to be archived

    async def _saved(self, run_id: RunId) -> bool:
        run = self.board.runs.get(run_id)
        if run is None or self._has_saved(run):
            return True
        if run_id in self._undecided:
            return False
        try:
            await self._records.save(run, self.stamp.fence)
        except RecordsUnavailable as error:
            self.warn("SQL", "SQL does not answer", f"exits go on without it, entries wait: {error}")
            self._wake_later(run_id)
            return False
        if run_id in self.board.runs:
            self._saved_version[run_id] = max(run.version, self._saved_version.get(run_id, -1))
            if run.exit.stamp is not None and run.exit.stamp.fence == self.stamp.fence:
                self._saved_exits[run_id] = len(run.exit.attempts)
        self.say(JournalKind.SAVED, f"saved as {run.state}", run, EngineState.UPDATING, version=run.version)
        return True

    def _has_saved(self, run: Run) -> bool:
        return self._saved_version.get(run.plan.run_id, -1) >= run.version

    async def _unlock(self, run: Run) -> None:
        try:
            claim = await self._runtime.settle(run, fence=self.stamp.fence, request_id=self._request_id())
        except StoreUnavailable as error:
            self.redis_damaged.set()
            self.say(JournalKind.REDIS, f"Redis is not there: {error}", run, EngineState.UNLOCKING)
            return
        if claim is Claim.DAMAGED:
            self.redis_damaged.set()
            self.say(JournalKind.REDIS, "Redis is not the one we wrote: it will be rebuilt", run, EngineState.UNLOCKING)
            return
        self.say(JournalKind.RELEASE, "lock released", run, EngineState.UNLOCKING)

    # ------------------------------------------------------------------ small parts

    def _latch(self, run_id: RunId, signal: Signal) -> None:
        """A stop-loss seen is kept by one write before anything else; no recovery of the price takes it back."""
        run = self.board.runs[run_id]
        if run.stop_seen is not None or signal.price is None:
            return
        self._spool.latch(SpoolLatch(run_id=run_id, price=signal.price, at=signal.at, tripped=True))
        self.put(replace(run, stop_seen=StopSeen(price=signal.price, at=signal.at), version=run.version + 1))

    def put(self, run: Run) -> None:
        before = self.board.runs.get(run.plan.run_id)
        if run.state is not State.READY and run.state is not State.RUNNING:
            self._entering.discard(run.plan.run_id)
        if before is not None and run.outside_qty > before.outside_qty:  # now it is explained
            self.ownership.explained(run, run.outside_qty - before.outside_qty)
        self.board.put(run)
        self._set_timers(run)

    def _try_again(self, run_id: RunId, pause_s: float) -> None:
        """The open slot could not be sent now: due again after a pause."""
        run = self.board.runs[run_id]
        retry_at = self._clock.now() + timedelta(seconds=pause_s)
        self.put(replace(run, retry_at=retry_at, version=run.version + 1))

    def _note_waiting(self, run: Run) -> None:
        """At BUY time without a fresh price: from now on every tick is looked at."""
        now = self._clock.now()
        if run.state is not State.READY or run.waited_for_price or not run.plan.buy_at <= now <= run.plan.buy_until:
            return
        symbol = run.plan.symbol
        if is_fresh(run, now, self.board.last(symbol), self.board.as_of(symbol)):
            return
        self.say(JournalKind.NOTHING, "BUY time, but no fresh price: the first tick within the grace decides", run)
        self.put(replace(run, waited_for_price=True, version=run.version + 1))

    def _closed_outside(self, run: Run) -> None:
        """The broker holds nothing of what our fills say, and no order of ours explains it."""
        helped = run.state is State.SL_PENDING and run.exit.filled_qty > 0
        if helped:
            self.put(replace(run, outside_qty=run.outside_qty + run.remaining_qty, version=run.version + 1))
        event = Event.FILLED if helped else Event.CLOSED_OUTSIDE
        detail = "the broker's position is gone and no order of ours explains it"
        self.notify(run.plan.run_id, self._signal(event, Source.BROKER, detail=detail))

    def no_entry_now(self) -> str | None:
        """Why no BUY is let through at this moment, whatever the account's limits say. None: nothing is in the way."""
        if self.entries_blocked is not None:
            return self.entries_blocked
        if self.time_doubt is not None:
            return self.time_doubt
        if self.redis_damaged.is_set():
            return "Redis is being rebuilt"
        if self._journal.backlog > BACKLOG_MAX:
            return f"{self._journal.backlog} journal entries are not on disk yet"
        return None

    # ------------------------------------------------------------------ kill switch and limits

    def set_rules(self, rules: AccountRules) -> None:
        """What the account may do, as just read. A pressed kill switch reaches every run at once."""
        before, self.rules = self.rules, rules
        if rules.level is not before.level:
            severity = Severity.INFO if rules.level is Level.NORMAL else Severity.URGENT
            text = f"by {rules.by or 'nobody named'}: {rules.reason or 'no reason given'}"
            self.tell(severity, f"account {self.account}: the kill switch is now {rules.level}", text)
        if rules.level is Level.NORMAL:
            self._killed.clear()
        if rules.level is Level.SQUARE_OFF:
            self._kill_all(f"the kill switch is on: {rules.reason}")
        elif rules.limits.square_off_at_loss and (day := self._day_of_loss()) is not None:
            self.warn(
                "loss", f"account {self.account}: the day's limit of loss is reached", "everything is squared off"
            )
            self._kill_all(f"the account's limit of loss is reached on {day}")

    def _kill_all(self, why: str) -> None:
        for run_id, run in list(self.board.runs.items()):
            if run.state in _KILLABLE and run_id not in self._killed:
                self._killed.add(run_id)
                self.notify(run_id, self._signal(Event.KILL, Source.WISH, detail=why))

    def _day_of_loss(self) -> date | None:
        limits = self.rules.limits
        if limits.max_loss_per_day is None:
            return None
        days = {run.plan.trading_day for run in self.board.runs.values()}
        return next((day for day in sorted(days) if loss_is_reached(limits, self._today(day)[1])), None)

    def _today(self, day: date) -> tuple[int, Decimal]:
        """Orders and gross result of the account on this trading day, what is held at its last price."""
        known = self.totals.get(day, DayTotals(day=day))
        orders, pnl = known.orders, known.pnl
        for run in self.board.runs.values():
            if run.plan.trading_day == day:
                last = self.board.last(run.plan.symbol)
                orders += orders_of(run)
                pnl += pnl_of(run, None if last is None else last.price)
        return orders, pnl

    def _refused_by_rules(self, run: Run) -> str | None:
        if self.rules == _NO_RULES:
            return None
        last = self.board.last(run.plan.symbol)
        run_id, runs = run.plan.run_id, self.board.runs
        others = [
            other
            for other_id, other in runs.items()
            if other_id != run_id and (other.remaining_qty > 0 or other.entry.is_live or other_id in self._entering)
        ]
        orders, pnl = self._today(run.plan.trading_day)
        price = None if last is None else last.price
        return objection(self.rules, run, price=price, open_positions=len(others), orders=orders, pnl=pnl)

    async def _refuse_entry(self, run_id: RunId, why: str) -> None:
        """Before the entry: skipped. After a BUY that was proven not placed: no further try."""
        ready = self.board.runs[run_id].state is State.READY
        event, cause = (Event.SKIP, Cause.ENTRIES_BLOCKED) if ready else (Event.KILL, None)
        await self._handle(run_id, self._signal(event, cause=cause, detail=why))

    def _wait(self, run: Run, text: str, *, blocked: str) -> None:
        self.say(JournalKind.NOTHING, text, run, EngineState.VALIDATING, blocked=blocked)
        self._wake_later(run.plan.run_id)

    def _wake_later(self, run_id: RunId, pause_s: float = LOOK_AGAIN_S) -> None:
        async def later() -> None:
            await self._clock.sleep(pause_s)
            self.wake(run_id)

        self._spawn(later())

    def still_ours(self) -> bool:
        """Whether this worker has the account. Once it has not, it sends and cancels nothing any more."""
        if self.halted is None and not self._gateway.may_send:
            self.halt("this worker no longer holds the account")
        return self.halted is None

    def halt(self, why: str) -> None:
        """Send nothing any more, and say so: the account is, or may be, another worker's."""
        if self.halted is not None:
            return
        self.halted = why
        self.tell(Severity.URGENT, "this worker has lost the account: nothing is sent from here", why)

    def _broken(self, run_id: RunId, error: Exception) -> None:
        """Tell it, and go on with the run after a pause that grows: what is due is still due."""
        failures = self._failures[run_id] = self._failures.get(run_id, 0) + 1
        headline, text = "squareoff failed while working on this run", f"{type(error).__name__}: {error}"
        self.warn(f"broken {text}", headline, text, self.board.runs.get(run_id))
        self._wake_later(run_id, min(LOOK_AGAIN_S * 2**failures, RESCUE_EVERY_S))

    def _request_id(self) -> str:
        self._requests += 1
        return f"{self.stamp.fence}-{self._requests}"

    def _signal(
        self, event: Event, source: Source = Source.ENGINE, cause: Cause | None = None, detail: str = ""
    ) -> Signal:
        return Signal(event=event, at=self._clock.now(), source=source, cause=cause, detail=detail)

    # ------------------------------------------------------------------ telling

    def _say_answer(self, run: Run, order: ClientOrderId, sent: Sent) -> None:
        text, data = story.of_answer(order, sent)
        self.say(JournalKind.ANSWER, text, run, EngineState.EXECUTING, **data)
        if run.retry_at is not None and not isinstance(sent, Answered):
            wait_s = (run.retry_at - self._clock.now()).total_seconds()
            slot = run.exit if run.entry.phase is SlotPhase.SETTLED else run.entry
            text = f"proven not placed: try {slot.tries + 1} in {wait_s:.2f} s"
            self.say(JournalKind.RETRY, text, run, tries=slot.tries)

    def _tell_fills(self, before: Run, after: Run, order: ClientOrderId) -> None:
        place = slot_of(after, order)
        if place is None:
            return
        name, index = place
        known = {f.trade_id for f in before.slot(name).attempts[index].fills} if slot_of(before, order) else set()
        for fill in after.slot(name).attempts[index].fills:
            if fill.trade_id in known:
                continue
            side = Side.BUY if name is SlotName.ENTRY else Side.SELL
            self.ownership.filled(after, side, fill.qty, self._clock.monotonic_s())
            self.say(
                JournalKind.FILL,
                f"{side} {fill.qty:f} filled at {fill.price:f}",
                after,
                EngineState.EXECUTING,
                order=order,
                qty=f"{fill.qty:f}",
                price=f"{fill.price:f}",
                side=side,
                trade_id=fill.trade_id,
                filled_at=fill.at.isoformat(),
            )
