"""event -> decide() -> claim, licence -> gateway -> settle.

One engine per account. Each run has an inbox and is worked on by one task at a time; what comes meanwhile waits in
the inbox or is still due afterwards, so nothing is discarded. The specification's internal states (idle, validating,
locked, executing, updating, unlocking) are written to the journal as they pass.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from squareoff.core.board import Board, exit_qty
from squareoff.core.events import Cause, Event, Signal, Source
from squareoff.core.machine import CAUSE_LABEL, EXPOSURE_LABEL, FINAL, STATE_LABEL, Effect, State
from squareoff.core.orders import RESCUE_EVERY_S, Attempt, AttemptPhase, SlotPhase, Stamp
from squareoff.core.outcomes import Answered, GateSaidNo, Limited, NotSent, Refused, Sent, Unknown, judge, sending
from squareoff.core.run import Decision, Run, StopSeen, absorb, advance, nothing_bought, slot_of
from squareoff.core.triggers import due, is_fresh
from squareoff.core.types import (
    ZERO,
    AccountId,
    ClientOrderId,
    Exposure,
    Order,
    OrderReport,
    Position,
    Product,
    RunId,
    Side,
    SlotName,
    Symbol,
    Tick,
)
from squareoff.errors import BrokerUnavailable, FenceLost, RecordsUnavailable, StoreUnavailable
from squareoff.ports import (
    Alerts,
    Broker,
    Claim,
    Clock,
    EngineState,
    Journal,
    JournalEntry,
    JournalKind,
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

LOOK_UP_FIRST_S, LOOK_UP_LONGEST_S = 0.5, 5.0
"""A lost order is looked up at once, then with these pauses, doubling."""

BACKLOG_MAX = 10_000
"""Journal entries not yet durable above which no new entry is made; exits go on."""

_SENDS = frozenset({Effect.SEND_ENTRY, Effect.SEND_EXIT, Effect.UPGRADE_EXIT, Effect.CANCEL_ENTRY, Effect.VOID_ENTRY})

_KIND_OF = {
    Source.TIMER: JournalKind.TIMER,
    Source.TICK: JournalKind.TICK,
    Source.WISH: JournalKind.WISH,
    Source.BROKER: JournalKind.NOTE,
    Source.RECOVERY: JournalKind.RECOVERY,
    Source.ENGINE: JournalKind.NOTE,
}


class Engine:
    """Works the runs of one account. `set_timers` is told every snapshot; `spawn` starts background work."""

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
    ) -> None:
        self.account, self.board, self.stamp = account, board, stamp
        self._clock, self._records, self._journal, self._runtime = clock, records, journal, runtime
        self._broker, self._gateway, self._spool, self._alerts = broker, gateway, spool, alerts
        self._set_timers, self._spawn_task = set_timers, spawn
        self.entries_blocked: str | None = None
        """Why no new entry may be made now; None: they may. Exits never ask."""
        self.redis_damaged = asyncio.Event()
        """Set when a claim found a Redis that is not the one we wrote; the keeper rebuilds it."""
        self.halted: str | None = None
        """Set once the account was taken by another worker: this engine sends nothing any more."""
        self._inbox: dict[RunId, deque[Signal]] = {}
        self._busy: set[RunId] = set()
        self._idle_again: dict[RunId, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking_up: set[ClientOrderId] = set()
        self._saved_version: dict[RunId, int] = {}
        self._requests = 0
        self._net: dict[tuple[Symbol, Product], tuple[Decimal, float]] = {}
        self._last_fill_s: dict[tuple[Symbol, Product], float] = {}
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
        self._wake(run_id)

    def on_report(self, report: OrderReport) -> None:
        """News of an order, pushed or asked for. Repeats and old news do nothing."""
        run_id = self.board.owner_of(report.client_order_id)
        if run_id is None:
            return
        before = self.board.runs[run_id]
        run, event = absorb(before, report)
        if run is before:
            return
        self._put(run)
        self._tell_fills(before, run, report.client_order_id)
        if event is not None:
            self.notify(run_id, self._signal(event, Source.BROKER, detail=report.reason))
        else:
            self._wake(run_id)
        if report.status.is_terminal or (run.state is State.RUNNING and not run.entry_cancel_asked):
            return
        if (place := slot_of(run, report.client_order_id)) is not None and place[0] is SlotName.ENTRY:
            self._spawn(self._confirm_cancel(run_id, report.client_order_id))

    def on_low(self, run_id: RunId, tick: Tick) -> None:
        """A price while the entry is open and the level of its stop-loss is not known: the lowest one is latched."""
        run = self.board.runs[run_id]
        if run.lowest_price is not None and tick.price >= run.lowest_price:
            return
        self._spool.latch(SpoolLatch(run_id=run_id, price=tick.price, at=tick.at, tripped=False))
        self._put(replace(run, lowest_price=tick.price, version=run.version + 1))

    def on_positions(self, positions: dict[tuple[Symbol, Product], Decimal]) -> None:
        """The broker's net positions, read just now; what is absent is flat."""
        at_s = self._clock.monotonic_s()
        for run in self.board.runs.values():
            key = (run.plan.symbol, run.plan.product)
            self._net[key] = (positions.get(key, ZERO), at_s)
        for run in list(self.board.runs.values()):
            self._closed_outside(run)

    def add(self, run: Run, *, saved: bool) -> None:
        """Take a run onto the board: after START, or recovered."""
        if saved:
            self._saved_version[run.plan.run_id] = run.version
        self._put(run)

    def resolve_unknown(self, run_id: RunId) -> None:
        """Start looking up every order of a run whose outcome is unknown."""
        run = self.board.runs.get(run_id)
        for name in SlotName:
            for attempt in run.slot(name).attempts if run is not None else ():
                if attempt.phase is AttemptPhase.UNKNOWN and attempt.client_order_id not in self._looking_up:
                    self._looking_up.add(attempt.client_order_id)
                    self._spawn(self._resolve(run_id, name, attempt.client_order_id))

    async def save_all(self) -> None:
        """Write every snapshot that SQL does not have yet."""
        for run_id in list(self.board.runs):
            await self._saved(run_id)

    async def start(self, run: Run) -> None:
        """START: a new run, saved as `created`, then made ready.

        Raises BadInput while an earlier run of the strategy is not closed, RecordsUnavailable if SQL is away."""
        await self._records.add_run(run, self.stamp.fence)
        self.add(run, saved=True)
        self.notify(run.plan.run_id, self._signal(Event.START, Source.WISH))
        await self.settled(run.plan.run_id)

    async def settled(self, run_id: RunId) -> None:
        """Wait until nothing is being done for a run at this moment."""
        while run_id in self._busy:
            await self._idle_again.setdefault(run_id, asyncio.Event()).wait()

    def wake(self, run_id: RunId) -> None:
        """Ask again what is due for a run."""
        if run_id in self.board.runs:
            self._wake(run_id)

    def say(
        self,
        kind: JournalKind,
        text: str,
        run: Run | None = None,
        engine: EngineState = EngineState.IDLE,
        **data: Any,
    ) -> None:
        """One line into the journal."""
        self._journal.write(
            JournalEntry(
                at=self._clock.now(),
                account=self.account,
                kind=kind,
                text=text,
                run_id=run.plan.run_id if run else None,
                strategy_id=run.plan.strategy_id if run else None,
                engine=engine,
                data=data,
            )
        )

    # ------------------------------------------------------------------ one run, one task

    def _wake(self, run_id: RunId) -> None:
        if run_id in self._busy or self.halted:
            return
        self._busy.add(run_id)
        self._spawn(self._pump(run_id))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._spawn_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pump(self, run_id: RunId) -> None:
        """Work the run's inbox, then whatever is due, until there is nothing left to do."""
        answered: tuple[Event, int] | None = None
        try:
            while not self.halted and (run := self.board.runs.get(run_id)) is not None:
                inbox = self._inbox.get(run_id)
                if inbox:
                    await self._handle(run_id, inbox.popleft())
                    continue
                signal = due(run, self._clock.now(), self.board.last(run.plan.symbol))
                if signal is None or answered == (signal.event, run.version):
                    break
                answered = (signal.event, run.version)
                await self._handle(run_id, signal)
            if (run := self.board.runs.get(run_id)) is not None:
                self._note_waiting(run)
                if self._saved_version.get(run_id, -1) < run.version:
                    await self._update(run_id)
        except FenceLost as error:
            self._halt(str(error))
        except Exception as error:  # a bug of ours must never be silent about a position
            self._broken(run_id, error)
            raise
        finally:
            self._busy.discard(run_id)
            if (waiting := self._idle_again.pop(run_id, None)) is not None:
                waiting.set()
            if not self.halted and self._inbox.get(run_id):
                self._wake(run_id)

    async def _handle(self, run_id: RunId, signal: Signal) -> None:
        run = self.board.runs[run_id]
        decision = advance(run, signal)
        self._say_signal(run, signal)
        if decision.impossible:
            self.say(JournalKind.NOTE, f"impossible: {decision.reason}", run, EngineState.VALIDATING)
            await self._handle(run_id, self._signal(Event.SAFETY_ABORT, cause=Cause.IMPOSSIBLE_TRANSITION))
            return
        if not decision.moved:
            await self._stay(run_id, decision)
            return
        if signal.event is Event.BUY and (why := self._no_entry_now()) is not None:
            self._wait(run, f"BUY waits: {why}", blocked=why)
            return
        if _SENDS.intersection(decision.effects):
            if not await self._claimed(decision):
                return
            decision = advance(self.board.runs[run_id], signal)
            if not decision.moved:
                await self._stay(run_id, decision)
                await self._update(run_id)
                return
        if not await self._permitted(decision):
            return
        await self._carry_out(run_id, decision)

    async def _stay(self, run_id: RunId, decision: Decision) -> None:
        run = self.board.runs[run_id]
        self.say(JournalKind.NOTHING, decision.reason, run, EngineState.VALIDATING, event=decision.signal.event)
        for effect in decision.effects:
            await self._do[effect](run_id, decision.signal)

    async def _claimed(self, decision: Decision) -> bool:
        """Lock the run in Redis and write there what it is about to do. Exits go on without it; a BUY waits."""
        run, event = decision.run, decision.signal.event
        try:
            claim = await self._runtime.claim(
                run, fence=self.stamp.fence, ttl_ms=LOCK_TTL_MS, event=event, request_id=self._request_id()
            )
        except StoreUnavailable as error:
            claim, why = None, str(error)
        else:
            why = "" if claim is Claim.OK else f"Redis answered {claim}"
        if claim is Claim.OK:
            self.say(JournalKind.CLAIM, f"locked for {event}", run, EngineState.LOCKED, event=event)
            return True
        if claim is Claim.DAMAGED:
            self.redis_damaged.set()
        if Effect.SEND_ENTRY in decision.effects:
            self._wait(self.board.runs[run.plan.run_id], f"BUY waits: {why}", blocked=why)
            return False
        self.say(JournalKind.CLAIM, f"{event} goes on without Redis: {why}", run, EngineState.LOCKED, event=event)
        return True

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
        except RecordsUnavailable as error:
            self._wait(self.board.runs[run.plan.run_id], f"{event} waits: SQL does not answer: {error}", blocked="SQL")
            return False
        if not licensed:
            self.say(JournalKind.LICENCE, "the entry is decided already: nothing done", run, EngineState.LOCKED)
            await self._unlock(run.plan.run_id)
            return False
        what = "licence to buy once" if event is Event.BUY else "entry void: nobody will buy"
        self.say(JournalKind.LICENCE, what, run, EngineState.LOCKED, fence=self.stamp.fence)
        self._saved_version[run.plan.run_id] = run.version
        return True

    async def _carry_out(self, run_id: RunId, decision: Decision) -> None:
        before, run = self.board.runs[run_id], decision.run
        if decision.signal.event is Event.BUY:
            run = replace(run, entry=replace(run.entry, stamp=self.stamp))
        self._put(run)
        if run.state is not before.state:
            self._say_transition(before, run)
        for effect in decision.effects:
            if (work := self._do.get(effect)) is not None:
                await work(run_id, decision.signal)
        await self._update(run_id)
        if Effect.ARCHIVE in decision.effects:
            await self._archive(run_id)

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
            self._wait(run, "BUY waits: SQL does not answer", blocked="SQL")
            return
        await self._send(run_id, SlotName.ENTRY, attempt, cause=Event.BUY, not_after=run.plan.buy_until)

    async def _send_exit(self, run_id: RunId, signal: Signal) -> None:
        run = self.board.runs[run_id]
        attempt = run.exit.current
        if attempt is None or attempt.phase is not AttemptPhase.LICENSED:
            return
        qty = exit_qty(run, self.board, net_qty=self._believed_net(run))
        if qty <= 0:
            self._closed_outside(run)
            return
        if qty != attempt.qty:
            self.say(JournalKind.NOTE, f"sells {qty:f} of {attempt.qty:f}: the broker's position covers no more", run)
            run = replace(run, exit=run.exit.with_current(qty=qty), version=run.version + 1)
            self._put(run)
            attempt = run.exit.current
            assert attempt is not None
        if attempt.number > 1:
            await self._saved(run_id)  # with SQL down the send mark is the licence: getting out does not wait
        await self._send(run_id, SlotName.EXIT, attempt, cause=signal.event, not_after=None)

    async def _upgrade_exit(self, run_id: RunId, signal: Signal) -> None:
        """A more urgent reason takes over the exit. A market order on its way already is as urgent as can be."""
        run = self.board.runs[run_id]
        if run.retry_at is not None:
            self._put(replace(run, retry_at=self._clock.now(), version=run.version + 1))
            return
        await self._send_exit(run_id, signal)

    async def _send(
        self, run_id: RunId, name: SlotName, attempt: Attempt, *, cause: Event, not_after: datetime | None
    ) -> None:
        run = sending(self.board.runs[run_id], name)
        self._put(run)
        side = Side.BUY if name is SlotName.ENTRY else Side.SELL
        order = Order(
            client_order_id=attempt.client_order_id,
            account=run.plan.account,
            symbol=run.plan.symbol,
            side=side,
            product=run.plan.product,
            qty=attempt.qty,
        )
        self.say(
            JournalKind.REQUEST,
            f"{side} {attempt.qty:f} {run.plan.symbol} at market ({attempt.client_order_id})",
            run,
            EngineState.EXECUTING,
            order=attempt.client_order_id,
            attempt=attempt.number,
            side=side,
            qty=f"{attempt.qty:f}",
            cause=cause,
        )
        sent = await self._gateway.send(
            order,
            attempt=attempt.number,
            cause=cause,
            not_after=not_after,
            objection=lambda: self._objection(run_id) if name is SlotName.ENTRY else None,
        )
        before = self.board.runs[run_id]
        after, signal = judge(before, name, sent, self._clock.now())
        if after is not before:
            self._put(after)
        self._say_answer(after, attempt, sent)
        self._tell_fills(before, after, attempt.client_order_id)
        if signal is not None:
            self._inbox.setdefault(run_id, deque()).appendleft(signal)

    def _objection(self, run_id: RunId) -> str | None:
        """The latest word before a BUY leaves: a wish, or a stop-loss that was seen meanwhile."""
        run = self.board.runs[run_id]
        if run.wish is not None or any(s.event in (Event.STOP, Event.KILL) for s in self._inbox.get(run_id, ())):
            return "stopping was asked for"
        if run.stop_seen is not None:
            return f"the stop-loss was seen at {run.stop_seen.price:f}"
        return None

    async def _cancel_entry(self, run_id: RunId, _: Signal) -> None:
        run = self.board.runs[run_id]
        attempt = run.entry.current
        if attempt is None or attempt.phase is AttemptPhase.DONE:
            return
        if attempt.phase is AttemptPhase.LICENSED:  # never left, or proven not placed: nothing to cancel
            self._put(replace(run, entry=run.entry.with_current(phase=AttemptPhase.DONE), version=run.version + 1))
            event = Event.FILLED if run.entry.filled_qty > 0 else nothing_bought(run)
            self._inbox.setdefault(run_id, deque()).append(self._signal(event))
            return
        if attempt.phase is AttemptPhase.OPEN:
            await self._cancel_once(run_id, attempt.client_order_id)
            if not self._is_over(run_id, attempt.client_order_id):
                self._spawn(self._confirm_cancel(run_id, attempt.client_order_id))

    async def _confirm_cancel(self, run_id: RunId, order: ClientOrderId) -> None:
        """Ask until the broker says that nothing of the order can fill any more."""
        if order in self._looking_up:
            return
        self._looking_up.add(order)
        pause_s = LOOK_UP_FIRST_S
        try:
            while not self.halted and not self._is_over(run_id, order):
                await self._cancel_once(run_id, order)
                if self._is_over(run_id, order):
                    return
                await self._clock.sleep(pause_s)
                pause_s = min(pause_s * 2, LOOK_UP_LONGEST_S)
        finally:
            self._looking_up.discard(order)

    async def _cancel_once(self, run_id: RunId, order: ClientOrderId) -> None:
        run = self.board.runs[run_id]
        self.say(
            JournalKind.REQUEST,
            f"cancel what is left of {order}",
            run,
            EngineState.EXECUTING,
            order=order,
            cancel=True,
        )
        try:
            await self._broker.cancel(order)
            report = await self._broker.find(order)
        except BrokerUnavailable as error:
            self.say(
                JournalKind.ANSWER, f"the cancel is not confirmed: {error}", run, EngineState.EXECUTING, order=order
            )
            return
        if report is not None:
            self.say(
                JournalKind.ANSWER,
                f"{order} is {report.status}, {report.filled_qty:f} filled",
                run,
                EngineState.EXECUTING,
                order=order,
                status=report.status,
            )
            self.on_report(report)

    def _is_over(self, run_id: RunId, order: ClientOrderId) -> bool:
        run = self.board.runs.get(run_id)
        if run is None or (place := slot_of(run, order)) is None:
            return True
        return run.slot(place[0]).attempts[place[1]].phase is AttemptPhase.DONE

    async def _look_up(self, run_id: RunId, _: Signal) -> None:
        self.resolve_unknown(run_id)

    async def _resolve(self, run_id: RunId, name: SlotName, order: ClientOrderId) -> None:
        """Resolve, don't retry: look the order up until it is seen, or for at least the venue's quarantine."""
        began_s = self._clock.monotonic_s()
        pause_s, looks = LOOK_UP_FIRST_S, 0
        try:
            while not self.halted and (run := self.board.runs.get(run_id)) is not None:
                if not any(
                    a.client_order_id == order and a.phase is AttemptPhase.UNKNOWN for a in run.slot(name).attempts
                ):
                    return
                over = self._clock.monotonic_s() - began_s >= self._broker.facts.quarantine_s
                looks += 1
                found = await self._look_once(run, order, looks)
                if found is True:
                    return
                if found is False and over:
                    await self._not_found(run_id, name, order, looks)
                    return
                await self._clock.sleep(pause_s)
                pause_s = min(pause_s * 2, LOOK_UP_LONGEST_S)
        finally:
            self._looking_up.discard(order)

    async def _look_once(self, run: Run, order: ClientOrderId, look: int) -> bool | None:
        """True: seen. False: the broker answered and does not know it. None: no answer, which proves nothing."""
        try:
            report = await self._broker.find(order)
        except BrokerUnavailable as error:
            self.say(JournalKind.LOOK_UP, f"{order}: the broker did not answer: {error}", run, order=order, look=look)
            return None
        if report is None:
            self.say(JournalKind.LOOK_UP, f"{order} is not in the broker's book yet", run, order=order, look=look)
            return False
        self.say(
            JournalKind.LOOK_UP,
            f"{order} found at the broker: {report.status}, {report.filled_qty:f} filled; it is not sent again",
            run,
            order=order,
            look=look,
            status=report.status,
        )
        self.on_report(report)
        return True

    async def _not_found(self, run_id: RunId, name: SlotName, order: ClientOrderId, looks: int) -> None:
        detail = f"{order} not seen in {looks} look-ups over the quarantine"
        if name is SlotName.ENTRY:
            self.notify(run_id, self._signal(Event.NOT_FOUND, Source.BROKER, detail=detail))
            return
        run = self.board.runs[run_id]
        if await self._position_covers(run):
            self.notify(run_id, self._signal(Event.NOT_FOUND, Source.BROKER, detail=detail))
            return
        self._put(replace(run, exit=replace(run.exit, phase=SlotPhase.WATCH), version=run.version + 1))
        cause = Cause.OUTCOME_UNKNOWN
        self.notify(run_id, self._signal(Event.SAFETY_ABORT, Source.BROKER, cause=cause, detail=detail))

    async def _position_covers(self, run: Run) -> bool:
        """Whether the broker still holds what *all* runs on this symbol and product have proven, with no order of
        this run open: only then may an exit that was never seen be sent again."""
        try:
            positions = await self._broker.positions()
        except BrokerUnavailable:
            return False
        net = _net_of(positions).get((run.plan.symbol, run.plan.product), ZERO)
        proven = sum((r.remaining_qty for r in self.board.sharing(run.plan.symbol, run.plan.product)), ZERO)
        is_open = any(a.phase is AttemptPhase.OPEN for a in run.exit.attempts)
        return net >= proven and not is_open

    async def _watch_late(self, run_id: RunId, _: Signal) -> None:
        run = self.board.runs[run_id]
        if run.entry.phase is SlotPhase.WATCH:
            until = run.plan.closes_at
            self.say(JournalKind.NOTE, "a late order will be cancelled, a late fill sold", run, until=until.isoformat())

    async def _rescue(self, run_id: RunId, _: Signal) -> None:
        run = self.board.runs[run_id]
        retry_at = self._clock.now() + timedelta(seconds=RESCUE_EVERY_S)
        self._put(replace(run, retry_at=retry_at, version=run.version + 1))
        self.say(JournalKind.RETRY, f"getting out is tried again every {RESCUE_EVERY_S:g} s", run)

    async def _alert(self, run_id: RunId, signal: Signal) -> None:
        run = self.board.runs[run_id]
        exposed = run.exposure in (Exposure.LONG, Exposure.UNKNOWN)
        cause = CAUSE_LABEL[run.cause] if run.cause is not None else STATE_LABEL[run.state]
        headline = f"{run.plan.symbol}: {cause}"
        text = f"{EXPOSURE_LABEL[run.exposure]}" + (f" ({run.remaining_qty:f})" if run.remaining_qty > 0 else "")
        if signal.detail:
            text += f"; {signal.detail}"
        severity = Severity.URGENT if exposed else Severity.WARNING
        self.say(JournalKind.ALERT, f"{headline}. {text}", run, severity=severity)
        self._alerts.tell(severity, headline, text, run_id=run_id)

    async def _archive(self, run_id: RunId) -> None:
        run = self.board.runs[run_id]
        if not run.is_closed:
            return
        try:
            await self._runtime.archive(run)
            self.say(JournalKind.RELEASE, "keys, grouping and timers deleted", run, EngineState.UNLOCKING)
        except StoreUnavailable as error:
            self.redis_damaged.set()
            self.say(JournalKind.REDIS, f"keys not deleted yet: {error}", run)
        self.board.remove(run_id)
        self._saved_version.pop(run_id, None)

    # ------------------------------------------------------------------ settle

    async def _update(self, run_id: RunId) -> None:
        """Write the run to SQL, then to Redis, which also gives the lock back."""
        if await self._saved(run_id):
            await self._unlock(run_id)

    async def _saved(self, run_id: RunId) -> bool:
        run = self.board.runs[run_id]
        if self._saved_version.get(run_id, -1) >= run.version:
            return True
        try:
            await self._records.save(run, self.stamp.fence)
        except RecordsUnavailable as error:
            self.say(JournalKind.NOTE, f"SQL does not answer, saved later: {error}", run, EngineState.UPDATING)
            self._alerts.tell(Severity.URGENT, "SQL does not answer", str(error), run_id=run_id)
            self._wake_later(run_id)
            return False
        self._saved_version[run_id] = run.version
        self.say(JournalKind.SAVED, f"saved as {run.state}", run, EngineState.UPDATING, version=run.version)
        return True

    async def _unlock(self, run_id: RunId) -> None:
        run = self.board.runs[run_id]
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
        self._put(replace(run, stop_seen=StopSeen(price=signal.price, at=signal.at), version=run.version + 1))

    def _put(self, run: Run) -> None:
        self.board.put(run)
        self._set_timers(run)

    def _note_waiting(self, run: Run) -> None:
        """At BUY time without a fresh price: from now on every tick is looked at."""
        now = self._clock.now()
        if run.state is not State.READY or run.waited_for_price or not run.plan.buy_at <= now <= run.plan.buy_until:
            return
        if is_fresh(run, now, self.board.last(run.plan.symbol)):
            return
        self.say(JournalKind.NOTHING, "BUY time, but no fresh price: the first tick within the grace decides", run)
        self._put(replace(run, waited_for_price=True, version=run.version + 1))

    def _closed_outside(self, run: Run) -> None:
        """The broker holds nothing of what our fills say, and no order of ours explains it."""
        held = run.remaining_qty > 0 and not run.exit.is_live and not run.entry.is_live and not run.handed_over
        if not held or self._believed_net(run) is None or run.state is State.RUNNING:
            return
        if exit_qty(run, self.board, net_qty=self._believed_net(run)) > 0:
            return
        run_id = run.plan.run_id
        helped = run.state is State.SL_PENDING and run.exit.filled_qty > 0
        if helped:
            self._put(replace(run, outside_qty=run.outside_qty + run.remaining_qty, version=run.version + 1))
        event = Event.FILLED if helped else Event.CLOSED_OUTSIDE
        detail = "the broker's position is gone and no order of ours explains it"
        self.notify(run_id, self._signal(event, Source.BROKER, detail=detail))

    def _believed_net(self, run: Run) -> Decimal | None:
        """The broker's net position, if the reading is older than the venue's lag after our last fill."""
        key = (run.plan.symbol, run.plan.product)
        reading = self._net.get(key)
        if reading is None:
            return None
        net, at_s = reading
        if at_s - self._last_fill_s.get(key, at_s - 1e9) < self._broker.facts.position_lag_s:
            return None
        return net

    def _no_entry_now(self) -> str | None:
        if self.entries_blocked is not None:
            return self.entries_blocked
        if self.redis_damaged.is_set():
            return "Redis is being rebuilt"
        if self._journal.backlog > BACKLOG_MAX:
            return f"{self._journal.backlog} journal entries are not on disk yet"
        return None

    def _wait(self, run: Run, text: str, *, blocked: str) -> None:
        self.say(JournalKind.NOTHING, text, run, EngineState.VALIDATING, blocked=blocked)
        self._wake_later(run.plan.run_id)

    def _wake_later(self, run_id: RunId) -> None:
        async def later() -> None:
            await self._clock.sleep(LOOK_AGAIN_S)
            self.wake(run_id)

        self._spawn(later())

    def _halt(self, why: str) -> None:
        self.halted = why
        self.say(JournalKind.ALERT, f"another worker has the account: nothing is sent from here. {why}")
        self._alerts.tell(Severity.URGENT, "this worker has lost the account", why)

    def _broken(self, run_id: RunId, error: Exception) -> None:
        run = self.board.runs.get(run_id)
        text = f"{type(error).__name__}: {error}"
        self.say(
            JournalKind.ALERT, f"squareoff failed while working on this run: {text}", run, severity=Severity.URGENT
        )
        self._alerts.tell(Severity.URGENT, "squareoff failed while working on a run", text, run_id=run_id)

    def _request_id(self) -> str:
        self._requests += 1
        return f"{self.stamp.fence}-{self._requests}"

    def _signal(
        self, event: Event, source: Source = Source.ENGINE, cause: Cause | None = None, detail: str = ""
    ) -> Signal:
        return Signal(event=event, at=self._clock.now(), source=source, cause=cause, detail=detail)

    # ------------------------------------------------------------------ telling

    def _say_signal(self, run: Run, signal: Signal) -> None:
        what = [str(signal.event)]
        if signal.price is not None:
            what.append(f"at price {signal.price:f}")
        if signal.cause is not None:
            what.append(f"({CAUSE_LABEL[signal.cause]})")
        if signal.detail:
            what.append(f": {signal.detail}")
        self.say(
            _KIND_OF[signal.source],
            " ".join(what),
            run,
            EngineState.VALIDATING,
            event=signal.event,
            source=signal.source,
            price=None if signal.price is None else f"{signal.price:f}",
        )

    def _say_transition(self, before: Run, run: Run) -> None:
        data: dict[str, Any] = {"from": before.state, "to": run.state, "cause": run.cause, "exposure": run.exposure}
        text = f"{before.state} -> {run.state}: {STATE_LABEL[run.state]}"
        if run.cause is not None and run.state in FINAL:
            text = f"{before.state} -> {run.state}: {CAUSE_LABEL[run.cause]}"
        if run.state is State.BOUGHT and run.stop_price is not None:
            data["stop_price"] = f"{run.stop_price:f}"
            data["avg_fill_price"] = f"{run.entry.avg_fill_price:f}"
            data["stop_loss"] = str(run.plan.stop_loss)
        self.say(JournalKind.TRANSITION, text, run, EngineState.UPDATING, **data)

    def _say_answer(self, run: Run, attempt: Attempt, sent: Sent) -> None:
        order = attempt.client_order_id
        if isinstance(sent, Answered):
            text = f"{order} acknowledged as {sent.report.broker_order_id}: {sent.report.status}"
        elif isinstance(sent, Refused):
            text = f"{order} refused: {sent.reason}" + ("" if sent.permanent else " (may be tried again)")
        elif isinstance(sent, NotSent):
            text = f"{order} never left: {sent.reason}"
        elif isinstance(sent, GateSaidNo):
            text = f"{order} not sent: {sent.reason}"
        elif isinstance(sent, Limited):
            text = f"{order} not taken: too many requests, again in {sent.retry_after_s:g} s"
        elif isinstance(sent, Unknown):
            text = f"no clear answer for {order}: {sent.reason}; it may be live"
        self.say(JournalKind.ANSWER, text, run, EngineState.EXECUTING, order=order, outcome=type(sent).__name__)
        if run.retry_at is not None and not isinstance(sent, Answered):
            wait_s = (run.retry_at - self._clock.now()).total_seconds()
            slot = run.exit if run.entry.phase is SlotPhase.SETTLED else run.entry
            self.say(
                JournalKind.RETRY, f"proven not placed: try {slot.tries + 1} in {wait_s:.2f} s", run, tries=slot.tries
            )

    def _tell_fills(self, before: Run, after: Run, order: ClientOrderId) -> None:
        place = slot_of(after, order)
        if place is None:
            return
        name, index = place
        known = {f.trade_id for f in before.slot(name).attempts[index].fills} if slot_of(before, order) else set()
        for fill in after.slot(name).attempts[index].fills:
            if fill.trade_id in known:
                continue
            self._last_fill_s[(after.plan.symbol, after.plan.product)] = self._clock.monotonic_s()
            side = Side.BUY if name is SlotName.ENTRY else Side.SELL
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


def _net_of(positions: Any) -> dict[tuple[Symbol, Product], Decimal]:
    net: dict[tuple[Symbol, Product], Decimal] = {}
    position: Position
    for position in positions:
        key = (position.symbol, position.product)
        net[key] = net.get(key, ZERO) + position.net_qty
    return net
