"""One day of the simulation: drawn whole from a seed, then played. What is drawn is data (`Schedule`), so that a
failure can be told, replayed to the byte, and made shorter by leaving troubles out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from random import Random

from squareoff.adapters.brokers.paper.mischief import Kind
from squareoff.core.events import Event
from squareoff.core.strategy import Plan, StopLoss, StopLossKind, Timing
from squareoff.core.types import Product, RunId, StrategyId, Symbol, UserId
from squareoff.ports import Idempotency
from squareoff.simulation.day import A1, INFY, TCS, at
from squareoff.simulation.trouble import Trouble, What, Where

BEGIN = at("09:19:59")
CALM_S = 8.0
"""Troubles are over, whatever is down is up again."""
CLOSES_S = 18.0
"""The exchange closes."""
LAST_S = 60.0
"""Whatever is not over then hangs."""
TICK_S = 0.25
TTL_S = 0.9


class Setting(StrEnum):
    """Who takes over from a worker that dies."""

    ONE = "one worker"
    STANDBY = "two workers, one machine"
    MACHINES = "two machines"


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    seed: int
    setting: Setting
    idempotency: Idempotency
    position_lag_s: float
    late_s: float
    """How late timers fire at most."""
    plans: tuple[Plan, ...]
    starts_s: tuple[float, ...]
    """When each of them is started."""
    prices: tuple[tuple[float, Symbol, Decimal], ...]
    troubles: tuple[Trouble, ...]

    @property
    def two_machines(self) -> bool:
        return self.setting is Setting.MACHINES


def instant(seconds: float) -> datetime:
    return BEGIN + timedelta(microseconds=round(seconds * 1e6))


def draw(seed: int) -> Schedule:
    dice = Random(seed)
    setting = dice.choice((Setting.ONE, Setting.ONE, Setting.STANDBY, Setting.MACHINES, Setting.MACHINES))
    plans = tuple(_plan(dice, number) for number in range(1, dice.choice((1, 1, 1, 2, 2, 3)) + 1))
    dips = _dips(dice, plans)
    moments = [(plan.buy_at - BEGIN).total_seconds() for plan in plans]
    moments += [(plan.sell_at - BEGIN).total_seconds() for plan in plans]
    moments += [at_s for at_s, _, _ in dips] * 2
    troubles: list[Trouble] = []
    for _ in range(dice.choice((0, 1, 1, 2, 2, 3, 3, 4, 5, 7))):
        troubles.append(_trouble(dice, setting, plans, moments))
    return Schedule(
        seed=seed,
        setting=setting,
        idempotency=dice.choice((Idempotency.NONE, Idempotency.NONE, Idempotency.ENFORCED)),
        position_lag_s=dice.choice((0.0, 0.0, 0.8)),
        late_s=dice.choice((0.0, 0.002, 0.05)),
        plans=plans,
        starts_s=tuple(round(dice.uniform(0.0, 0.6), 3) for _ in plans),
        prices=tuple(_prices(dice, dips, {plan.symbol for plan in plans})),
        troubles=tuple(sorted(troubles, key=lambda one: one.at_s)),
    )


def _plan(dice: Random, number: int) -> Plan:
    symbol = INFY if number == 1 or dice.random() < 0.75 else TCS
    value = dice.choice(("1540", "1550")) if symbol == INFY else "2960"
    by_price = StopLoss(kind=StopLossKind.PRICE, value=Decimal(value))
    by_percent = StopLoss(kind=StopLossKind.PERCENT, value=Decimal(dice.choice(("0.5", "1"))))
    return Plan(
        run_id=RunId(0),
        strategy_id=StrategyId(number),
        user=UserId(1),
        account=A1,
        name=f"strategy {number}",
        symbol=symbol,
        product=Product.MIS,
        quantity=Decimal(dice.choice((1, 10, 50))),
        trading_day=BEGIN.date(),
        buy_at=instant(round(dice.uniform(1.0, 3.0), 2)),
        sell_at=instant(round(dice.uniform(3.0, 6.5), 2)),
        closes_at=instant(CLOSES_S),
        stop_loss=dice.choice((by_price, by_percent)),
        tick_size=Decimal("0.05"),
        timing=Timing(grace_s=dice.choice((1.0, 2.0)), fresh_for_s=2.0, entry_open_s=dice.choice((1.0, 3.0))),
    )


_USUAL = {INFY: Decimal("1560.00"), TCS: Decimal("3000.00")}


def _dips(dice: Random, plans: tuple[Plan, ...]) -> list[tuple[float, float, Symbol]]:
    """When the price of a symbol falls below every stop-loss, and for how long."""
    symbols = sorted({plan.symbol for plan in plans})
    return [
        (round(dice.uniform(1.0, 7.0), 2), dice.choice((0.3, 0.8, 2.0, 30.0)), dice.choice(symbols))
        for _ in range(dice.choice((0, 1, 1, 1, 2)))
    ]


def _prices(
    dice: Random, dips: list[tuple[float, float, Symbol]], symbols: set[Symbol]
) -> list[tuple[float, Symbol, Decimal]]:
    told = []
    for step in range(int(LAST_S / TICK_S)):
        if step * TICK_S > CALM_S + 2 and step % 4:
            continue  # a calm end
        for symbol in sorted(symbols):
            at_s = round(step * TICK_S + dice.uniform(0.001, 0.2), 3)
            is_low = any(begin <= at_s < begin + lasts for begin, lasts, of in dips if of == symbol)
            price = _USUAL[symbol] * (Decimal("0.984") if is_low else Decimal(1))
            told.append((at_s, symbol, price + Decimal(dice.randint(-40, 40)) * Decimal("0.05")))
    return sorted(told)


# ---------------------------------------------------------------------- troubles

_Draw = Callable[[Random, Setting, tuple[Plan, ...], float], Trouble]


def _trouble(dice: Random, setting: Setting, plans: tuple[Plan, ...], moments: list[float]) -> Trouble:
    """Most strike near the moments that matter: BUY time, SELL time, a stop-loss."""
    near = dice.choice(moments) + dice.gauss(0.05, 0.25)
    at_s = round(min(max(near if dice.random() < 0.8 else dice.uniform(0.2, 7.5), 0.05), 7.8), 3)
    kinds: tuple[_Draw, ...] = (
        _of_a_process,
        _of_a_process,
        _of_a_process,
        _of_the_broker,
        _of_stores,
        _of_prices,
        _of_people,
    )
    return dice.choice(kinds)(dice, setting, plans, at_s)


_ON_THE_WAY = (
    "gateway.gate", "gateway.marked", "gateway.written", "broker.submit.before", "broker.submit.after",
    "spool.mark.after", "spool.latch.after", "records.license_entry.after", "records.save.before",
    "records.save.after", "records.wish_taken.after", "broker.cancel.after",
)  # fmt: skip
"""Where a death or a pause costs most: between a decision and what is known of it."""


def _of_a_process(dice: Random, setting: Setting, plans: tuple[Plan, ...], at_s: float) -> Trouble:
    what = dice.choice((What.KILL, What.KILL, What.KILL, What.PAUSE, What.PAUSE, What.RAISE, What.DELAY, What.REBOOT))
    where = dice.choice((Where.DECIDING, Where.DECIDING, Where.DECIDING, Where.ANY, Where.STEP))
    if where is Where.STEP and what in (What.RAISE, What.DELAY):
        where = Where.ANY
    seconds = {
        What.PAUSE: dice.choice((0.2, 0.8, 2.0, 3.0)),
        What.DELAY: dice.choice((0.05, 0.3, 1.5)),
        What.RAISE: 0.0,
    }.get(what, dice.choice((0.05, 0.4, 1.0, 2.5)))
    machine = 0 if setting is Setting.ONE else dice.choice((0, 0, 0, 1))
    skip = int(dice.expovariate(0.35))
    if what in (What.KILL, What.REBOOT, What.PAUSE) and dice.random() < 0.5:
        where, detail, skip = Where.NAMED, dice.choice(_ON_THE_WAY), dice.choice((0, 0, 0, 1, 2))
        return Trouble(what=what, at_s=at_s, skip=skip, where=where, detail=detail, seconds=seconds, number=machine)
    return Trouble(what=what, at_s=at_s, skip=skip, where=where, seconds=seconds, number=machine)


_LOST = (Kind.PLACED_BUT_NO_ANSWER, Kind.PLACED_BUT_ERROR, Kind.VISIBLE_LATE, Kind.NOT_PLACED_NO_ANSWER)
_ORDERS = (
    Kind.REFUSE, Kind.BUSY, Kind.RATE_LIMIT, Kind.TOKEN_INVALID, Kind.PLACED_BUT_TORN_ANSWER, Kind.DELAY_ANSWER,
    Kind.PARTIAL, Kind.REJECT_AFTER_ACCEPT, *_LOST, *_LOST,
)  # fmt: skip


_BROKER = (
    What.ORDER, What.ORDER, What.ORDER, What.ORDER_LATE, What.NEWS, What.UNANSWERED, What.CANCELS_LOST,
    What.FILL_ON_CANCEL, What.NEVER_SENT,
)  # fmt: skip


def _of_the_broker(dice: Random, setting: Setting, plans: tuple[Plan, ...], at_s: float) -> Trouble:
    slot, seconds = dice.choice("EXX"), dice.choice((0.2, 0.6, 1.5))
    match dice.choice(_BROKER):
        case What.ORDER:
            detail = f"{slot} {dice.choice(_ORDERS)}" + dice.choice(("", " rests"))
            return Trouble(what=What.ORDER, at_s=at_s, seconds=seconds, detail=detail, number=dice.choice((1, 1, 2)))
        case What.ORDER_LATE:
            return Trouble(what=What.ORDER_LATE, at_s=at_s, seconds=dice.choice((0.1, 0.4, 1.0, 1.8)), detail=slot)
        case What.NEWS:
            how = dice.choice(("never", "twice", "late", "shuffled"))
            return Trouble(what=What.NEWS, at_s=at_s, seconds=dice.choice((1.0, 8.0)), detail=how)
        case What.UNANSWERED:
            question = dice.choice(("find", "orders", "positions"))
            return Trouble(what=What.UNANSWERED, at_s=at_s, seconds=dice.choice((0.5, 2.0, 5.0)), detail=question)
        case what:
            return Trouble(what=what, at_s=at_s, seconds=1.0, number=dice.choice((1, 2, 4)))


def _of_stores(dice: Random, setting: Setting, plans: tuple[Plan, ...], at_s: float) -> Trouble:
    kinds = (What.REDIS_FLUSH, What.REDIS_RESTART, What.REDIS_OLDER, What.REDIS_DOWN, What.REDIS_SILENT, What.SQL_DOWN)
    return Trouble(what=dice.choice(kinds), at_s=at_s, seconds=dice.choice((0.2, 0.8, 3.0)))


def _of_prices(dice: Random, setting: Setting, plans: tuple[Plan, ...], at_s: float) -> Trouble:
    what = dice.choice((What.FEED_DEAD, What.FEED_DROP, What.FEED_LATE, What.CLOCK))
    choice = (-3.0, 3.0, 40.0) if what is What.CLOCK else (0.3, 1.0, 6.0)
    return Trouble(what=what, at_s=at_s, seconds=dice.choice(choice))


def _of_people(dice: Random, setting: Setting, plans: tuple[Plan, ...], at_s: float) -> Trouble:
    number = dice.choice(plans).strategy_id
    match dice.choice((What.WISH, What.WISH, What.WISH, What.KILL_SWITCH, What.SALE_OUTSIDE)):
        case What.WISH:
            event = dice.choice((Event.STOP, Event.STOP, Event.KILL, Event.HAND_OVER, Event.START))
            return Trouble(what=What.WISH, at_s=at_s, detail=event.value, number=number)
        case what:
            return Trouble(what=what, at_s=at_s, number=number)
