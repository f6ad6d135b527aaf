"""A kill at every fault point, and who takes over: the same worker started again, another one of the machine, or one on
another machine. The points are those that ship (`squareoff fault-points`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from squareoff.core.events import Event
from squareoff.core.strategy import StopLoss, StopLossKind
from squareoff.core.types import Symbol
from squareoff.faults import all_points
from squareoff.ports import Idempotency
from squareoff.simulation.day import INFY
from squareoff.simulation.play import play
from squareoff.simulation.schedule import LAST_S, TICK_S, Schedule, Setting, draw, instant
from squareoff.simulation.trouble import Trouble, What, Where

NO_ONE_COMES_THERE = {
    "runtime.ring": "the command line rings the bell, the worker hears it",
    "records.set_level": "the command line presses the kill switch in SQL, the worker reads it",
    "brake.press": "the command line presses it",
    "broker.close": "a worker that is asked to end; one that is killed closes nothing",
    "runtime.release": "nobody asks for it: settle gives the lock back",
    "runtime.close": "a worker that is asked to end; one that is killed closes nothing",
}
"""Points by whose name a worker of the simulation cannot die, and why."""


@dataclass(frozen=True, slots=True)
class AtPoint:
    point: str
    setting: Setting
    reached: bool
    """Whether a worker died there."""
    broken: str | None


def points() -> Sequence[str]:
    return [point for point in all_points() if point.rpartition(".")[0] not in NO_ONE_COMES_THERE]


def told_points() -> tuple[list[str], list[Setting]]:
    """All there is to be played, as columns."""
    rows = [(point, setting) for point in points() for setting in Setting]
    return [point for point, _ in rows], [setting for _, setting in rows]


def by_point(point: str, setting: Setting, *, is_quick: bool = False) -> AtPoint:
    """A kill when a worker first comes to `point`, and later, on days that come there. `is_quick`: until one struck."""
    broken, reached = None, False
    busy, quiet, void = _busy_day(setting), _quiet_day(setting), _void_day(setting)
    away_s = 3.0 if setting is Setting.MACHINES else 0.4  # else it would have the account again before another one
    chances = ((busy, 0.9, 0), (busy, 0.0, 0), (busy, 0.9, 2), (quiet, 0.9, 0), (quiet, 0.0, 0), (void, 0.9, 0))
    for day, at_s, skip in chances:
        kill = Trouble(what=What.KILL, at_s=at_s, skip=skip, where=Where.NAMED, detail=point, seconds=away_s)
        played = play(replace(day, troubles=tuple(sorted((*day.troubles, kill), key=lambda each: each.at_s))))
        reached = reached or any(f"kill at {point}" in text for text in played.struck)
        broken = broken or played.broken
        if reached and is_quick:
            break
    return AtPoint(point, setting, reached, broken)


def _day(setting: Setting, prices: Sequence[tuple[float, Symbol, Decimal]], *troubles: Trouble) -> Schedule:
    drawn = draw(2)
    plan = replace(drawn.plans[0], quantity=Decimal(10), buy_at=instant(1.5), sell_at=instant(5.0))
    return replace(
        drawn,
        setting=setting,
        idempotency=Idempotency.NONE,
        position_lag_s=0.0,
        late_s=0.0,
        plans=(plan,),
        starts_s=(0.3,),
        prices=tuple(prices),
        troubles=troubles,
    )


def _prices(falls_at_s: float, *, silent: tuple[float, float] = (0.0, 0.0)) -> list[tuple[float, Symbol, Decimal]]:
    told = []
    for step in range(int(LAST_S / TICK_S)):
        at_s = round(step * TICK_S + 0.05, 3)
        if not silent[0] <= at_s < silent[1]:
            told.append((at_s, INFY, Decimal("1535" if at_s >= falls_at_s else "1560")))
    return told


def _busy_day(setting: Setting) -> Schedule:
    """Nobody hears of the BUY; the price falls; the SELL fills in part and rests, and its cancel is lost."""
    return _day(
        setting,
        _prices(3.0),
        Trouble(what=What.NEWS, at_s=0.1, detail="never", seconds=9.0),
        Trouble(what=What.ORDER, at_s=0.1, detail="E placed_but_no_answer", number=1),
        Trouble(what=What.REDIS_FLUSH, at_s=2.2),
        Trouble(what=What.ORDER, at_s=0.2, detail="X partial rests", number=1, seconds=0.1),
        Trouble(what=What.CANCELS_LOST, at_s=2.5, number=1),
    )


def _quiet_day(setting: Setting) -> Schedule:
    """A percentage stop, silence of the feed, then its end; sold at its time; then STOP archives it."""
    day = _day(
        setting,
        _prices(1e9, silent=(1.9, 9.0)),
        Trouble(what=What.FEED_DROP, at_s=1.85),
        Trouble(what=What.FEED_DEAD, at_s=1.9, seconds=6.5),
        Trouble(what=What.WISH, at_s=9.2, detail=Event.STOP.value, number=1),
    )
    stop = StopLoss(kind=StopLossKind.PERCENT, value=Decimal(1))
    return replace(day, plans=(replace(day.plans[0], stop_loss=stop, sell_at=instant(8.5)),))


def _void_day(setting: Setting) -> Schedule:
    """Stopped before it has bought, and then the kill switch."""
    stop = Trouble(what=What.WISH, at_s=1.0, detail=Event.STOP.value, number=1)
    return _day(setting, _prices(1e9), stop, Trouble(what=What.KILL_SWITCH, at_s=1.2))
