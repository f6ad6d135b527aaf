"""After every order that may be live and should not be, or of which nobody knows whether it is: it is looked up or
cancelled until the broker proves what became of it. Nothing is sent again on a guess.

An exit that rests is not let alone either: after some seconds it is cancelled, the cancel is proven, and what is left
of it is sent again at a lower price. A fill during the cancel wins.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from squareoff.core.board import Board
from squareoff.core.events import Cause, Event, Signal, Source
from squareoff.core.figures import UNMETERED
from squareoff.core.machine import State
from squareoff.core.orders import RESCUE_EVERY_S, AttemptPhase, SlotPhase
from squareoff.core.ownership import Ownership, key_of, net_of
from squareoff.core.run import Run, slot_of
from squareoff.core.types import ZERO, ClientOrderId, OrderReport, RunId, SlotName
from squareoff.core.values import replace
from squareoff.errors import BrokerUnavailable
from squareoff.ports import Broker, Clock, EngineState, JournalKind, Meter, Severity, Storyteller

LOOK_UP_FIRST_S, LOOK_UP_LONGEST_S = 0.5, 5.0
"""A lost order is looked up at once, then with these pauses, doubling."""
LOOK_FOR_RESTING_S = 0.25
HURRIED = 20
"""So many exits of a run are replaced at the venue's pace, further ones at that of a rescue: a session has room for
some five thousand."""


class Chasing(Storyteller, Protocol):
    """What a chaser needs of the engine."""

    board: Board
    ownership: Ownership

    def still_ours(self) -> bool: ...
    def put(self, run: Run) -> None: ...
    def notify(self, run_id: RunId, signal: Signal) -> None: ...
    def on_report(self, report: OrderReport) -> None: ...
    def wake(self, run_id: RunId) -> None: ...
    def tell(self, severity: Severity, headline: str, text: str, run: Run | None = None) -> None: ...
    def warn(self, what: str, headline: str, text: str, run: Run | None = None) -> None: ...


class Chaser:
    def __init__(
        self,
        *,
        engine: Chasing,
        clock: Clock,
        broker: Broker,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        meter: Meter = UNMETERED,
    ) -> None:
        self._engine, self._clock, self._broker, self._spawn, self._meter = engine, clock, broker, spawn, meter
        self._chased: dict[tuple[str, ClientOrderId], object] = {}
        """The tasks; asyncio itself holds them loosely."""

    def chase(self, run: Run) -> None:
        """See to it that somebody is after every such order of `run`. A level: no news lost can end it."""
        run_id = run.plan.run_id
        wanted = run.state is State.RUNNING and not run.entry_cancel_asked
        for attempt in run.entry.attempts:
            if attempt.phase is AttemptPhase.UNKNOWN and run.state is State.RUNNING:
                self._after("look up", run_id, SlotName.ENTRY, attempt.client_order_id)
            elif attempt.phase is AttemptPhase.OPEN and not wanted:
                self._after("cancel", run_id, SlotName.ENTRY, attempt.client_order_id)
        for attempt in run.exit.attempts:
            if attempt.phase is AttemptPhase.UNKNOWN:
                self._after("look up", run_id, SlotName.EXIT, attempt.client_order_id)
            elif attempt.phase is AttemptPhase.OPEN and attempt.cancel_asked:
                self._after("cancel", run_id, SlotName.EXIT, attempt.client_order_id)

    def _after(self, what: str, run_id: RunId, name: SlotName, order: ClientOrderId) -> None:
        if (what, order) in self._chased:
            return

        async def work() -> None:
            try:
                if what == "cancel":
                    await self._confirm_cancel(run_id, order)
                else:
                    await self._resolve(run_id, name, order)
            finally:
                del self._chased[what, order]
            self._engine.wake(run_id)

        self._chased[what, order] = self._spawn(work())

    def _run(self, run_id: RunId) -> Run:
        return self._engine.board.runs[run_id]

    def _phase_of(self, run_id: RunId, order: ClientOrderId) -> AttemptPhase:
        """An order of a run that is archived is over."""
        run = self._engine.board.runs.get(run_id)
        if run is None or (place := slot_of(run, order)) is None:
            return AttemptPhase.DONE
        return run.slot(place[0]).attempts[place[1]].phase

    # ------------------------------------------------------------------ exits that rest

    async def replace_resting_exits(self) -> None:
        """A loop that never ends."""
        after_s = self._broker.facts.replace_exit_after_s
        since_s: dict[ClientOrderId, float] = {}
        while after_s is not None:
            await self._clock.sleep(LOOK_FOR_RESTING_S)
            now_s, board = self._clock.monotonic_s(), self._engine.board
            resting = {a.client_order_id: run for run in map(board.runs.__getitem__, board.unsettled)
                       if (a := run.exit.current) is not None and a.phase is AttemptPhase.OPEN}  # fmt: skip
            since_s = {order: since_s.get(order, now_s) for order in resting}
            for order, run in resting.items():
                hurried = len(run.exit.attempts) <= HURRIED
                if now_s - since_s[order] >= (after_s if hurried else max(after_s, RESCUE_EVERY_S)):
                    self._replace(run)

    def _replace(self, run: Run) -> None:
        """Have it cancelled; once that is proven, what is left is due again. After the close the venue ends it."""
        attempt = run.exit.current
        if attempt is None or attempt.cancel_asked or self._clock.now() >= run.plan.closes_at:
            return
        if not self._engine.still_ours():
            return
        asked = run.exit.with_current(cancel_asked=True)
        run = replace(run, exit=asked, version=run.version + 1)
        self._engine.put(run)
        price = "at market" if attempt.limit_price is None else f"at {attempt.limit_price:f}"
        text = f"the SELL of {attempt.qty:f} {price} rests, {attempt.filled_qty:f} filled: it is replaced"
        self._engine.say(JournalKind.RETRY, text, run, order=attempt.client_order_id)
        if attempt.number > 1:
            text += f"; you still hold {run.remaining_qty:f}"
            self._engine.warn("exit rests", f"{run.plan.symbol}: the SELL does not fill", text, run)
        self._engine.wake(run.plan.run_id)  # which chases it, and saves beside that who wanted it gone

    # ------------------------------------------------------------------ cancel until it is proven

    async def _confirm_cancel(self, run_id: RunId, order: ClientOrderId) -> None:
        """Ask until the broker says that nothing of the order can fill any more."""
        pause_s = LOOK_UP_FIRST_S
        while self._engine.still_ours() and self._phase_of(run_id, order) is not AttemptPhase.DONE:
            await self._cancel_once(run_id, order)
            if self._phase_of(run_id, order) is AttemptPhase.DONE:
                return
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, LOOK_UP_LONGEST_S)

    async def _cancel_once(self, run_id: RunId, order: ClientOrderId) -> None:
        run = self._run(run_id)
        self._engine.say(
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
            self._engine.say(
                JournalKind.ANSWER, f"the cancel is not confirmed: {error}", run, EngineState.EXECUTING, order=order
            )
            return
        if report is not None:
            self._engine.say(
                JournalKind.ANSWER,
                f"{order} is {report.status}, {report.filled_qty:f} filled",
                run,
                EngineState.EXECUTING,
                order=order,
                status=report.status,
            )
            self._engine.on_report(report)

    # ------------------------------------------------------------------ look up until it is proven

    async def _resolve(self, run_id: RunId, name: SlotName, order: ClientOrderId) -> None:
        """Resolve, don't retry: look the order up until it is seen, or for at least the venue's quarantine."""
        began_s, facts = self._clock.monotonic_s(), self._broker.facts
        # the position that decides about an exit must know what this very order may have done to it
        long_enough_s = facts.quarantine_s + (facts.position_lag_s if name is SlotName.EXIT else 0)
        pause_s, looks = LOOK_UP_FIRST_S, 0
        while self._engine.still_ours() and self._phase_of(run_id, order) is AttemptPhase.UNKNOWN:
            run = self._run(run_id)
            if name is SlotName.ENTRY and run.state is not State.RUNNING:
                return  # given up: it is watched for with all orders of the day
            over = self._clock.monotonic_s() - began_s >= long_enough_s
            looks += 1
            found = await self._look_once(run, order, looks)
            self._meter.looked_up(found)
            if found or (found is False and over and await self._is_given_up(run_id, name, order, looks)):
                return
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, LOOK_UP_LONGEST_S)

    async def _look_once(self, run: Run, order: ClientOrderId, look: int) -> bool | None:
        """True: seen. False: the broker answered and does not know it. None: no answer, which proves nothing."""
        try:
            report = await self._broker.find(order)
        except BrokerUnavailable as error:
            text = f"{order}: the broker did not answer: {error}"
            self._engine.say(JournalKind.LOOK_UP, text, run, order=order, look=look)
            return None
        if report is None:
            text = f"{order} is not in the broker's book yet"
            self._engine.say(JournalKind.LOOK_UP, text, run, order=order, look=look)
            return False
        self._engine.say(
            JournalKind.LOOK_UP,
            f"{order} found at the broker: {report.status}, {report.filled_qty:f} filled; it is not sent again",
            run,
            order=order,
            look=look,
            status=report.status,
        )
        self._engine.on_report(report)
        return True

    async def _is_given_up(self, run_id: RunId, name: SlotName, order: ClientOrderId, looks: int) -> bool:
        """Not seen over the whole quarantine: a BUY is given up, a SELL may be sent again if the position says so.
        False: it does not say so, or not yet, and looking goes on."""
        self._engine.ownership.lost.add(order)
        run = self._run(run_id)
        covers = True
        if name is SlotName.EXIT:
            if run.state is State.RUNNING:
                return False  # known from the spool only: first the entry, then this
            answer = await self._position_covers(run_id, order)
            if answer is None or self._phase_of(run_id, order) is not AttemptPhase.UNKNOWN:
                return False
            covers = answer
        detail = f"{order} not seen in {looks} look-ups over the quarantine"
        if covers:
            not_found = self._signal(Event.NOT_FOUND, detail=detail)
            self._engine.notify(run_id, replace(not_found, order=order))
            return True
        run = self._run(run_id)
        if run.exit.phase is not SlotPhase.WATCH:
            self._engine.put(replace(run, exit=replace(run.exit, phase=SlotPhase.WATCH), version=run.version + 1))
            cause = Cause.OUTCOME_UNKNOWN
            self._engine.notify(run_id, self._signal(Event.SAFETY_ABORT, cause=cause, detail=detail))
            text = f"{detail}, and the broker's position no longer covers it: look into the broker's order book"
            self._engine.tell(Severity.URGENT, f"{run.plan.symbol}: nobody knows what became of the SELL", text, run)
        return False

    async def _position_covers(self, run_id: RunId, order: ClientOrderId) -> bool | None:
        """Whether the broker still holds what *all* runs on this symbol and product have proven, and what open BUYs
        may have bought meanwhile: only then may an exit that was never seen be sent again. None: orders of ours are
        open that may explain what is not there."""
        ownership, key, asked_s = self._engine.ownership, key_of(self._run(run_id)), self._clock.monotonic_s()
        try:
            positions = await self._broker.positions()
        except BrokerUnavailable:
            return None
        if ownership.lags(key, asked_s, self._broker.facts.position_lag_s):
            return None
        if net_of(positions).get(key, ZERO) >= ownership.proven(key):
            return True
        return None if ownership.is_moving(key) else False

    def _signal(self, event: Event, *, detail: str, cause: Cause | None = None) -> Signal:
        return Signal(event=event, at=self._clock.now(), source=Source.BROKER, cause=cause, detail=detail)
