"""What an account may still do: the kill switch, latched until released by name, and the limits beside it.

Nothing here ever holds back an exit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from squareoff.core.run import Run
from squareoff.core.types import ZERO


class Level(StrEnum):
    """How far the kill switch of an account is pressed."""

    NORMAL = "normal"
    NO_ENTRIES = "no_entries"
    """No new entry; what is held runs on to its exit."""
    SQUARE_OFF = "square_off"
    """No new entry, and every position is squared off at once."""


_ORDER = {Level.NORMAL: 0, Level.NO_ENTRIES: 1, Level.SQUARE_OFF: 2}


def stricter(one: Level, other: Level) -> Level:
    return max(one, other, key=_ORDER.__getitem__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """None: no limit. Money in the account's currency, gross."""

    max_order_qty: Decimal | None = None
    max_order_value: Decimal | None = None
    """Quantity times the last price."""
    max_open_positions: int | None = None
    max_orders_per_day: int | None = None
    """Entries and exits of the trading day; exits count and are never refused."""
    max_loss_per_day: Decimal | None = None
    """Of what is closed and what is open at the last price. Reached: no new entries."""
    square_off_at_loss: bool = False
    """Reached: also square off everything."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountRules:
    """`reason`, `at` (UTC) and `by` tell of the last change of the level."""

    level: Level = Level.NORMAL
    reason: str = ""
    by: str = ""
    at: datetime | None = None
    limits: Limits = Limits()


@dataclass(frozen=True, kw_only=True, slots=True)
class DayTotals:
    """Of one account on one trading day, of runs that are no longer in the worker's memory."""

    day: date
    orders: int = 0
    pnl: Decimal = ZERO


def orders_of(run: Run) -> int:
    return len(run.entry.attempts) + len(run.exit.attempts)


def pnl_of(run: Run, price: Decimal | None) -> Decimal:
    """Gross: what was sold, and what is held at `price`. What is held at an unknown price counts as even."""
    bought = run.entry.avg_fill_price
    if bought is None:
        return ZERO
    sold = run.exit.avg_fill_price
    closed = ZERO if sold is None else (sold - bought) * run.exit.filled_qty
    held = max(run.remaining_qty, ZERO)
    return closed + (ZERO if price is None else (price - bought) * held)


def loss_is_reached(limits: Limits, pnl: Decimal) -> bool:
    return limits.max_loss_per_day is not None and -pnl >= limits.max_loss_per_day


def objection(
    rules: AccountRules, run: Run, *, price: Decimal | None, open_positions: int, orders: int, pnl: Decimal
) -> str | None:
    """Why `run` may not buy now, for a person; None: it may.

    `open_positions`: of other runs, those about to be opened included. `orders`, `pnl`: of the trading day so far."""
    if rules.level is not Level.NORMAL:
        who = f" by {rules.by}" if rules.by else ""
        return f"the kill switch is on ({rules.level}{who}: {rules.reason or 'no reason given'})"
    limits, qty = rules.limits, run.plan.quantity
    if limits.max_order_qty is not None and qty > limits.max_order_qty:
        return f"its quantity {qty:f} is above the account's limit of {limits.max_order_qty:f} for one order"
    if limits.max_order_value is not None and price is not None and qty * price > limits.max_order_value:
        return f"its value {qty * price:f} is above the account's limit of {limits.max_order_value:f} for one order"
    if limits.max_open_positions is not None and open_positions >= limits.max_open_positions:
        return f"{open_positions} positions are open, the account's limit is {limits.max_open_positions}"
    if limits.max_orders_per_day is not None and orders >= limits.max_orders_per_day:
        return f"{orders} orders were made today, the account's limit is {limits.max_orders_per_day}"
    if loss_is_reached(limits, pnl):
        return f"today's result is {pnl:f} gross, the account's limit of loss is {limits.max_loss_per_day:f}"
    return None
