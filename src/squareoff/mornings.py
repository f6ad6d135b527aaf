"""Before the open: is everything that is armed ready to trade, and does a person know if it is not?

Each waiting run is checked at 08:30, before its exchange opens and five minutes before its BUY; what is red is told,
with how to mend it. At 08:30 a summary says what the day holds, also if that is nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from squareoff.core.board import Board
from squareoff.core.machine import State
from squareoff.core.preflight import Check, CheckName
from squareoff.core.repeat import MADE_AT
from squareoff.core.run import Run
from squareoff.core.types import AccountId, RunId
from squareoff.ports import Clock, JournalKind, Severity, Storyteller

LOOK_EVERY_S = 1.0
BEFORE_OPEN = timedelta(minutes=1)
BEFORE_BUY = timedelta(minutes=5)
SUMMARY_AFTER = timedelta(minutes=1)
"""The summary comes when the day's repeating runs have been made."""


class Told(Storyteller, Protocol):
    """What mornings need of the engine."""

    account: AccountId
    board: Board

    def tell(self, severity: Severity, headline: str, text: str, run: Run | None = None) -> None: ...


class Mornings:
    def __init__(
        self,
        *,
        engine: Told,
        clock: Clock,
        zone: ZoneInfo,
        opens_at: Callable[[Run], datetime],
        check: Callable[[Sequence[Run]], Awaitable[Sequence[Sequence[Check]]]],
    ) -> None:
        """`zone`: of the summary's 08:30. `opens_at`: of the session of a run, UTC. `check`: the preflight of some
        runs, in their order, by whoever can ask the machine."""
        self._engine, self._clock, self._zone = engine, clock, zone
        self._opens_at, self._check = opens_at, check
        self._left: dict[RunId, tuple[datetime, ...]] = {}
        """Instants at which a run is still to be checked, by run; none for a run not seen yet."""
        self._red: dict[RunId, frozenset[CheckName]] = {}
        self._summed_up: date | None = None

    async def keep(self) -> None:
        self._summed_up = self._summary_day(self._clock.now())  # one is told per day, not per start
        while True:
            now = self._clock.now()
            waiting = [run for run in self._engine.board.runs.values() if run.state is State.READY]
            if due := [run for run in waiting if self._is_due(run, now)]:
                for run, checks in zip(due, await self._check(due), strict=True):
                    self._judge(run, checks, now)
            self._forget()
            if (day := self._summary_day(now)) is not None and day != self._summed_up:
                self._summed_up = day
                self._sum_up(day)
            await self._clock.sleep(LOOK_EVERY_S)

    def _is_due(self, run: Run, now: datetime) -> bool:
        """At the first sight of a run, and once each of its instants has come."""
        left = self._left.get(run.plan.run_id)
        if left is None:  # worked out once: it reads the calendar
            self._left[run.plan.run_id] = tuple(instant for instant in self._instants(run) if instant > now)
            return True
        later = tuple(instant for instant in left if instant > now)
        self._left[run.plan.run_id] = later
        return len(later) < len(left)

    def _instants(self, run: Run) -> tuple[datetime, ...]:
        local_day = run.plan.buy_at.astimezone(self._zone).date()
        made_at = datetime.combine(local_day, MADE_AT, self._zone)
        return made_at, self._opens_at(run) - BEFORE_OPEN, run.plan.buy_at - BEFORE_BUY

    def _judge(self, run: Run, checks: Sequence[Check], now: datetime) -> None:
        red = [check for check in checks if check.ok is False]
        names = frozenset(check.name for check in red)
        before = self._red.get(run.plan.run_id, frozenset())
        self._red[run.plan.run_id] = names
        if not red:
            text = "preflight: all green" if not before else "preflight: all green again"
            self._engine.say(JournalKind.NOTE, text, run)
            return
        soon = now >= run.plan.buy_at - BEFORE_BUY
        for check in red:
            severity = Severity.URGENT if soon else Severity.WARNING
            headline = f"{run.plan.name} is armed, but {check.name} is red"
            self._engine.tell(severity, headline, f"{check.text}. {check.mend}", run)

    def _forget(self) -> None:
        for run_id in self._left.keys() - self._engine.board.runs.keys():
            del self._left[run_id]
            self._red.pop(run_id, None)

    def _summary_day(self, now: datetime) -> date | None:
        """The day whose summary has come; None before it."""
        local = (now - SUMMARY_AFTER).astimezone(self._zone)
        return local.date() if local.time() >= MADE_AT else None

    def _sum_up(self, day: date) -> None:
        armed = [run for run in self._engine.board.runs.values() if run.state is State.READY]
        today = [run for run in armed if run.plan.buy_at.astimezone(self._zone).date() == day]
        held = [run for run in self._engine.board.runs.values() if run.remaining_qty > 0]
        lines = [
            f"{run.plan.name} buys {run.plan.quantity:f} {run.plan.symbol} at "
            f"{run.plan.buy_at.astimezone(self._zone):%H:%M}" + (" (RED)" if self._red.get(run.plan.run_id) else "")
            for run in sorted(today, key=lambda run: run.plan.buy_at)
        ]
        lines += [f"{run.plan.name} holds {run.remaining_qty:f} {run.plan.symbol}" for run in held]
        headline = f"{day:%a %d %b}: {len(today)} armed" if today else f"{day:%a %d %b}: nothing is armed"
        self._engine.tell(Severity.INFO, headline, "; ".join(lines) if lines else "nothing will be bought today")
