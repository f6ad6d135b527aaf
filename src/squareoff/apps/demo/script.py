"""What happens on the demo's day: the runs, the timetable, the prices, the mischief. Data, and no I/O.

The day is fixed (Friday 20 November 2026), so that every demo shows the same day; the prices are generated.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from squareoff.core.machine import State
from squareoff.core.types import Symbol, Tick

DAY = date(2026, 11, 20)
ZONE = ZoneInfo("Asia/Kolkata")
TICK_SIZE = Decimal("0.10")
"""A step that every share of the demo trades in."""
SEED = 20261120


def at(text: str) -> datetime:
    """A wall-clock time of the demo's day, as "09:20:00.5"."""
    return datetime.combine(DAY, time.fromisoformat(text), tzinfo=ZONE)


@dataclass(frozen=True, kw_only=True)
class Act:
    """One run of the demo: a strategy, what will go wrong, and how it must end."""

    name: str
    symbol: Symbol
    quantity: int
    base_price: Decimal
    stop_loss: str
    must_end: State
    caption: str
    explanation: str
    buy: str = "09:20:00"
    sell: str = "15:10:00"
    falls_at: str | None = None
    """From this time on the price is below the stop-loss."""
    mischief: Sequence[dict[str, object]] = field(default_factory=tuple)
    """What the broker is told to do wrong (`brokers.paper.mischief`)."""
    kill_engine_at_buy: bool = False
    flush_redis_at: str | None = None
    stop_at: str | None = None


def _order(act_symbol: str, side: str, kind: str, **more: object) -> dict[str, object]:
    return {"kind": kind, "symbol": act_symbol, "side": side, **more}


ACTS: tuple[Act, ...] = (
    Act(
        name="plain",
        symbol=Symbol("NSE:INFY"),
        quantity=50,
        base_price=Decimal("1560.00"),
        stop_loss="1.5%",
        must_end=State.SOLD,
        caption="bought at 09:20, sold at 15:10",
        explanation="The ordinary day: BUY at its time, SELL at its time. `sold` is said only when the fills say so: "
        "accepted is not filled.",
    ),
    Act(
        name="same-instant",
        symbol=Symbol("NSE:TCS"),
        quantity=20,
        base_price=Decimal("3480.00"),
        stop_loss="1.2%",
        must_end=State.EXITED_BY_SL,
        falls_at="15:10:00",
        caption="stop-loss and SELL in the same instant",
        explanation="At 15:10:00 sharp the SELL is due and the price falls to the stop-loss. Two reasons to sell, one "
        "exit: both share one slot, so one order leaves, and the stop-loss overrides the name it goes by.",
    ),
    Act(
        name="timed-out",
        symbol=Symbol("NSE:RELIANCE"),
        quantity=30,
        base_price=Decimal("1412.00"),
        stop_loss="20pts",
        must_end=State.SOLD,
        mischief=(
            _order("NSE:RELIANCE", "BUY", "placed_but_no_answer", seconds=30),
            _order("NSE:RELIANCE", "BUY", "visible_late", seconds=1.3),
            _order("NSE:RELIANCE", "BUY", "news_lost"),
        ),
        caption="BUY timed out although it was placed",
        explanation="The broker takes the BUY and never answers. Sending again would buy twice. The order is looked up "
        "by its own id, found, and adopted.",
    ),
    Act(
        name="killed",
        symbol=Symbol("NSE:HDFCBANK"),
        quantity=40,
        base_price=Decimal("985.00"),
        stop_loss="1%",
        must_end=State.SOLD,
        buy="09:25:00",
        kill_engine_at_buy=True,
        mischief=(_order("NSE:HDFCBANK", "BUY", "delay_answer", seconds=30),),
        caption="engine killed (-9) between send and answer",
        explanation="The BUY is on its way when the engine dies. A send mark was written before the first byte, so the "
        "restarted engine knows that the order may be live: it asks the broker instead of buying again.",
    ),
    Act(
        name="redis-flushed",
        symbol=Symbol("NSE:ICICIBANK"),
        quantity=25,
        base_price=Decimal("1370.00"),
        stop_loss="1.5%",
        must_end=State.EXITED_BY_SL,
        falls_at="12:30:00",
        flush_redis_at="11:00:00",
        caption="Redis flushed while a position is held",
        explanation="Everything in Redis is deleted at 11:00. The stop-loss is watched from memory, Redis is rebuilt "
        "from SQL, and at 12:30 the stop-loss is hit and executed as if nothing had happened.",
    ),
    Act(
        name="refused",
        symbol=Symbol("NSE:SBIN"),
        quantity=5000,
        base_price=Decimal("842.00"),
        stop_loss="1%",
        must_end=State.FAILED,
        mischief=(_order("NSE:SBIN", "BUY", "refuse", reason="insufficient margin", permanent=True),),
        caption="BUY refused for good: skipped, flat",
        explanation="The broker refuses for lack of margin. Repeating cannot help, so it is not repeated: the run is "
        "skipped, and it says that you hold nothing.",
    ),
    Act(
        name="logged-out",
        symbol=Symbol("NSE:AXISBANK"),
        quantity=15,
        base_price=Decimal("1243.00"),
        stop_loss="1%",
        must_end=State.FAILED,
        mischief=(_order("NSE:AXISBANK", "BUY", "token_invalid"),),
        caption="the broker's login has expired",
        explanation="The login is not valid when the BUY is due. That is a SAFETY_ABORT: nothing is tried again with a "
        "login that cannot work, and the run says that you hold nothing.",
    ),
    Act(
        name="retries",
        symbol=Symbol("NSE:ITC"),
        quantity=100,
        base_price=Decimal("408.00"),
        stop_loss="1.5%",
        must_end=State.SOLD,
        mischief=(_order("NSE:ITC", "BUY", "busy", times=2, reason="busy, nothing was placed"),),
        caption="BUY needed retries",
        explanation="Twice the broker says that it is busy and took nothing. Only what is proven not placed is sent "
        "again, at most three times and only within the grace of the BUY.",
    ),
    Act(
        name="stopped",
        symbol=Symbol("NSE:LT"),
        quantity=10,
        base_price=Decimal("3925.00"),
        stop_loss="1%",
        must_end=State.STOPPED,
        stop_at="13:00:00",
        caption="stopped by the user while bought",
        explanation="You press stop while holding. The position is squared off first; `stopped` is said only when the "
        "fills prove that you hold nothing.",
    ),
)

BY_NAME = {act.name: act for act in ACTS}

DAY_BEGINS, DAY_ENDS = "09:14:30", "15:30:02"
SCENE_BEFORE_S, SCENE_AFTER_S = 0.6, 1.3
"""Around a scene time runs at normal speed for so long, unless the scene needs more."""
LONG_SCENES_S = {"09:20:00": 3.4, "09:25:00": 3.6}
"""Time-outs and look-ups; a kill and a restart."""
BETWEEN_S = 0.5
"""Real seconds for the time between two scenes, however long it is."""


def scenes(acts: Sequence[Act]) -> list[str]:
    """The times at which something happens, each once, in order."""
    times = {t for act in acts for t in (act.buy, act.sell, act.falls_at, act.flush_redis_at, act.stop_at) if t}
    return sorted(times)


def timetable(acts: Sequence[Act], *, slower: float = 1.0) -> list[tuple[float, datetime]]:
    """(real seconds, trading instant): normal speed around the scenes, fast between them. `slower` stretches all."""
    points = [(0.0, at(DAY_BEGINS))]
    real_s = 0.0
    for scene in scenes(acts):
        begins = at(scene) - timedelta(seconds=SCENE_BEFORE_S)
        lasts_s = SCENE_BEFORE_S + LONG_SCENES_S.get(scene, SCENE_AFTER_S)
        real_s += BETWEEN_S
        points.append((real_s * slower, begins))
        real_s += lasts_s
        points.append((real_s * slower, begins + timedelta(seconds=lasts_s)))
    points.append(((real_s + BETWEEN_S) * slower, at(DAY_ENDS)))
    return points


def tape(acts: Sequence[Act]) -> list[Tick]:
    """The day's prices: a quiet walk for each symbol, with the falls that the acts ask for. Same every time."""
    instants = _tick_instants(acts)
    ticks: list[tuple[datetime, int, Tick]] = []
    for order, act in enumerate(acts):
        dice = random.Random(f"{SEED}:{act.symbol}")
        falls_at = at(act.falls_at) if act.falls_at else None
        walk = Decimal(0)
        for instant in instants:
            walk = max(min(walk + Decimal(dice.randint(-3, 3)) * TICK_SIZE, _span(act)), -_span(act))
            price = act.base_price + walk
            if falls_at is not None and instant >= falls_at:
                price = (act.base_price * Decimal("0.975") / TICK_SIZE).to_integral_value() * TICK_SIZE + walk
            ticks.append((instant, order, Tick(act.symbol, price, instant)))
    return [tick for _, _, tick in sorted(ticks, key=lambda item: item[:2])]


def _span(act: Act) -> Decimal:
    """How far the quiet walk may go: well inside every stop-loss of the demo."""
    return (act.base_price * Decimal("0.004") / TICK_SIZE).to_integral_value() * TICK_SIZE


def _tick_instants(acts: Sequence[Act]) -> list[datetime]:
    opens, closes = at("09:15:00"), at("15:30:00")
    instants = {opens + timedelta(seconds=30 * i) for i in range(int((closes - opens).total_seconds() // 30))}
    for scene in scenes(acts):  # often where it matters, the scene's own instant included
        instants |= {at(scene) + timedelta(milliseconds=250 * i) for i in range(-12, 40)}
    return sorted(instants)
