"""Before the open: is everything that is armed ready to trade, and does a person know if it is not?

Each waiting run is checked at 08:30, before its exchange opens and five minutes before its BUY; what is red is told,
with how to mend it. At 08:31 a summary says what the day holds, also if that is nothing: by the clock of each
exchange that the account's strategies trade on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
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
        zones: Mapping[str, ZoneInfo],
        exchanges: Callable[[], Awaitable[Collection[str]]],
        opens_at: Callable[[Run], datetime],
        check: Callable[[Sequence[Run]], Awaitable[Sequence[Sequence[Check]]]],
    ) -> None:
        """`zones`: of every exchange. `exchanges`: those a summary is due for, asked at 08:31 in any zone.
        `opens_at`: of the session of a run, UTC. `check`: the preflight of some runs, in their order, by whoever can
        ask the machine."""
        self._engine, self._clock, self._zones = engine, clock, zones
        self._exchanges, self._opens_at, self._check = exchanges, opens_at, check
        self._left: dict[RunId, tuple[datetime, ...]] = {}
        """Instants at which a run is still to be checked, by run; none for a run not seen yet."""
        self._red: dict[RunId, frozenset[CheckName]] = {}
        self._summed_up: dict[ZoneInfo, date | None] = {}

    async def keep(self) -> None:
        if not self._summed_up:  # one is told per day, not per start
            now = self._clock.now()
            self._summed_up = {zone: _summary_day(now, zone) for zone in self._zones.values()}
        while True:
            now = self._clock.now()
            waiting = [run for run in self._engine.board.runs.values() if run.state is State.READY]
            if due := [run for run in waiting if self._is_due(run, now)]:
                for run, checks in zip(due, await self._check(due), strict=True):
                    self._judge(run, checks, now)
            self._forget()
            await self._sum_up_where_it_is_morning(now)
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
        zone = self._zone_of(run)
        made_at = datetime.combine(run.plan.buy_at.astimezone(zone).date(), MADE_AT, zone)
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

    # ------------------------------------------------------------------ the summary

    async def _sum_up_where_it_is_morning(self, now: datetime) -> None:
        mornings = {zone: day for zone in self._summed_up if (day := _summary_day(now, zone)) != self._summed_up[zone]}
        due = {zone: day for zone, day in mornings.items() if day is not None}
        if not due:
            return
        wanted = {self._zones[exchange] for exchange in await self._exchanges() if exchange in self._zones}
        self._summed_up |= due
        for zone, day in due.items():
            if zone in wanted:
                self._sum_up(day, zone)

    def _sum_up(self, day: date, zone: ZoneInfo) -> None:
        runs = [run for run in self._engine.board.runs.values() if self._zone_of(run) == zone]
        today = [r for r in runs if r.state is State.READY and r.plan.buy_at.astimezone(zone).date() == day]
        held = [run for run in runs if run.remaining_qty > 0]
        lines = [
            f"{run.plan.name} buys {run.plan.quantity:f} {run.plan.symbol} at "
            f"{run.plan.buy_at.astimezone(zone):%H:%M}" + (" (RED)" if self._red.get(run.plan.run_id) else "")
            for run in sorted(today, key=lambda run: run.plan.buy_at)
        ]
        lines += [f"{run.plan.name} holds {run.remaining_qty:f} {run.plan.symbol}" for run in held]
        headline = f"{day:%a %d %b}: {len(today)} armed" if today else f"{day:%a %d %b}: nothing is armed"
        self._engine.tell(Severity.INFO, headline, "; ".join(lines) if lines else "nothing will be bought today")

    def _zone_of(self, run: Run) -> ZoneInfo:
        return self._zones[run.plan.symbol.partition(":")[0]]


def _summary_day(now: datetime, zone: ZoneInfo) -> date | None:
    """The day whose summary has come in `zone`; None before it."""
    local = (now - SUMMARY_AFTER).astimezone(zone)
    return local.date() if local.time() >= MADE_AT else None
