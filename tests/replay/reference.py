"""The replay rules once more, as a person would work them out on paper: no engine, no events, just the list of ticks.

Written from the rules, not from the engine, so that the two can disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from squareoff.core.strategy import Plan, StopLossKind
from squareoff.core.types import Tick


class Expected(NamedTuple):
    state: str
    cause: str | None
    entry: tuple[datetime, Decimal] | None = None
    exit: tuple[datetime, Decimal] | None = None


def expected(plan: Plan, ticks: Sequence[Tick]) -> Expected:
    seconds = lambda s: timedelta(seconds=s)  # noqa: E731
    earlier = [t for t in ticks if t.at < plan.buy_at]
    later = [t for t in ticks if t.at >= plan.buy_at]
    if earlier and plan.buy_at - earlier[-1].at <= seconds(plan.timing.fresh_for_s):
        decided_on, ordered_at, rest = earlier[-1], plan.buy_at, later
    elif later and later[0].at <= plan.buy_at + seconds(plan.timing.grace_s):
        decided_on, ordered_at, rest = later[0], later[0].at, later[1:]
    else:
        return Expected("failed", "stale_price")
    if plan.stop_loss.kind is StopLossKind.PRICE and decided_on.price <= plan.stop_loss.value:
        return Expected("failed", "stop_loss_not_below_price")
    given_up_at = min(ordered_at + seconds(plan.timing.entry_open_s), plan.sell_at)
    if not rest or rest[0].at >= given_up_at:
        return Expected("failed", "entry_unfilled")
    bought = (rest[0].at, rest[0].price)
    level = _level(plan, rest[0].price)
    for i, tick in enumerate(rest):
        if i > 0 and tick.at >= plan.sell_at:
            hit = tick.price <= level
            state, cause = ("exited_by_sl", "stop_loss") if hit else ("sold", "sell_time")
            return Expected(state, cause, bought, (tick.at, tick.price))
        if tick.price <= level:
            if i + 1 == len(rest):
                return Expected("sl_pending", "stop_loss", bought)
            return Expected("exited_by_sl", "stop_loss", bought, (rest[i + 1].at, rest[i + 1].price))
    return Expected("sell_pending", "sell_time", bought)


def _level(plan: Plan, price: Decimal) -> Decimal:
    value = plan.stop_loss.value
    if plan.stop_loss.kind is StopLossKind.PRICE:
        return value
    raw = price - value if plan.stop_loss.kind is StopLossKind.POINTS else price * (100 - value) / 100
    steps = (raw / plan.tick_size).to_integral_value(ROUND_CEILING)
    return steps * plan.tick_size
