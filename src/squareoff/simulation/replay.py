"""Recorded days through the same engine, on virtual time.

Rules, so that a result can be checked by hand: at equal instants timers come first; then the tick is shown to the
listener; then it fills working orders; then the engine reacts. So a market order fills at the first tick that comes
later in event order, the tick that trips a stop-loss does not fill its own exit, and the tick that fills an entry is
tested against the stop-loss.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from squareoff.core.board import Board
from squareoff.core.machine import CAUSE_LABEL, EXIT_OPEN, State
from squareoff.core.run import Run
from squareoff.core.strategy import Plan
from squareoff.core.types import Tick
from squareoff.ports import JournalEntry


class Loop(Protocol):
    """What the driver needs of virtual time."""

    @property
    def is_idle(self) -> bool: ...
    def drain(self) -> None: ...
    def next_timer(self) -> datetime | None: ...
    def advance_to(self, instant: datetime) -> None: ...
    def jump(self, instant: datetime) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """One engine with its memory adapters and its time. Made by `wiring.replay_world`."""

    loop: Loop
    board: Board
    start: Callable[[Plan], None]
    """START for one plan, done when it returns."""
    on_tick: Callable[[Tick], None]
    """To the listener."""
    fill: Callable[[Tick], object]
    """To the working orders."""
    journal: Callable[[], Sequence[JournalEntry]]
    ignored: Callable[[], dict[str, int]]
    """Ticks that decided nothing, by reason."""
    failures: Callable[[], Sequence[BaseException]]
    """What broke inside the engine; a day with any of it has no result."""
    close: Callable[[], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class DayResult:
    """What became of every run of one day, in the order of the plans."""

    runs: tuple[Run, ...]
    journal: Sequence[JournalEntry]
    ticks: int
    ignored: dict[str, int]


def play_day(
    world: World, plans: Sequence[Plan], ticks: Iterable[Tick], *, progress: Callable[[int], None] | None = None
) -> DayResult:
    """Run `plans`, all of one trading day, over the day's ticks; then let the clock run to the session's end.

    `progress` is told the number of ticks played, every few thousand. Raises what broke inside the engine.
    """
    loop, on_tick, fill = world.loop, world.on_tick, world.fill
    for plan in plans:
        world.start(plan)
    count = 0
    next_timer = loop.next_timer()
    for tick in ticks:
        at = tick.at
        if next_timer is not None and next_timer <= at:
            loop.advance_to(at)
            next_timer = loop.next_timer()
        else:
            loop.jump(at)
        on_tick(tick)
        fill(tick)
        if not loop.is_idle:
            loop.drain()
            next_timer = loop.next_timer()
        count += 1
        if progress is not None and not count & 0xFFF:
            progress(0x1000)
    if progress is not None:
        progress(count & 0xFFF)
    if plans:  # stop short of the close itself: what is still open then is the day's result
        loop.advance_to(max(plan.closes_at for plan in plans) - timedelta(microseconds=1))
    for failure in world.failures():
        raise failure
    runs = tuple(world.board.runs[plan.run_id] for plan in plans)
    world.close()
    return DayResult(runs=runs, journal=world.journal(), ticks=count, ignored=world.ignored())


def result_row(run: Run, zone: ZoneInfo) -> dict[str, Any]:
    """One run as JSON: money and quantities as text, so that they stay exact; times in the exchange's zone."""
    entry, exit_slot = run.entry, run.exit
    return {
        "date": run.plan.trading_day.isoformat(),
        "strategy": run.plan.name,
        "symbol": run.plan.symbol,
        "state": str(run.outcome or run.state),
        "cause": None if run.cause is None else str(run.cause),
        "exposure": str(run.exposure),
        "quantity": _text(run.plan.quantity),
        "entry_time": _local(entry.first_fill_at, zone),
        "entry_price": _text(entry.avg_fill_price),
        "exit_time": _local(exit_slot.last_fill_at, zone),
        "exit_price": _text(exit_slot.avg_fill_price),
        "pnl": _text(run.pnl_gross),
        "filled_quantity": _text(entry.filled_qty),
        "stop_price": _text(run.stop_price),
        "run_id": run.plan.run_id,
        "note": note_of(run),
    }


def note_of(run: Run) -> str:
    """What a person should know beyond the state; empty for nothing."""
    if run.state in EXIT_OPEN:
        return "exit pending: no tick came after the order, so it could not fill"
    if run.state is State.BOUGHT:
        return "still held at the end of the data"
    if run.cause is not None and run.state is State.FAILED:
        return CAUSE_LABEL[run.cause] + (f": {run.detail}" if run.detail else "")
    return ""


def _text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"


def _local(instant: datetime | None, zone: ZoneInfo) -> str | None:
    return None if instant is None else instant.astimezone(zone).isoformat()
