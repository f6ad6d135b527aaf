"""What the trader asked for (a strategy), and the same resolved for one trading day (a plan)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

from squareoff.core.types import AccountId, Product, RunId, StrategyId, Symbol, UserId


class StopLossKind(StrEnum):
    PRICE = "price"
    PERCENT = "percent"
    POINTS = "points"


@dataclass(frozen=True, kw_only=True, slots=True)
class StopLoss:
    """Where to get out: a price, or a distance below the average fill in percent or points."""

    kind: StopLossKind
    value: Decimal

    def __str__(self) -> str:
        unit = {StopLossKind.PRICE: "", StopLossKind.PERCENT: "%", StopLossKind.POINTS: "pts"}[self.kind]
        return f"{self.value:f}{unit}"

    def price_for(self, avg_fill_price: Decimal, tick_size: Decimal) -> Decimal:
        """The price that squares off, rounded up to the tick: rounding down would let the trader lose more."""
        if self.kind is StopLossKind.PRICE:
            return self.value
        if self.kind is StopLossKind.PERCENT:
            raw = avg_fill_price * (1 - self.value / 100)
        else:
            raw = avg_fill_price - self.value
        return (raw / tick_size).to_integral_value(ROUND_CEILING) * tick_size

    @property
    def price_if_known(self) -> Decimal | None:
        """The level before anything filled: None for percent and points, which need the average fill."""
        return self.value if self.kind is StopLossKind.PRICE else None


class Repeat(StrEnum):
    ONCE = "once"
    DAILY = "daily"


@dataclass(frozen=True, kw_only=True, slots=True)
class Strategy:
    """The definition. Times are wall-clock times at the symbol's exchange."""

    id: StrategyId
    user: UserId
    account: AccountId
    name: str
    symbol: Symbol
    quantity: Decimal
    buy_time: time
    sell_time: time
    stop_loss: StopLoss
    product: Product = Product.MIS
    repeat: Repeat = Repeat.ONCE
    until: date | None = None
    """Of a repeating one: its last trading day. None: no end."""
    revision: int = 0
    """Raised by every edit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long things may take, in seconds of trading time."""

    grace_s: float = 5
    """A BUY later than this after its time is skipped, never caught up."""
    fresh_for_s: float = 5
    """A price older than this decides no BUY."""
    entry_open_s: float = 10
    """An entry order unfilled for this long is cancelled; what filled is the position."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One strategy on one trading day, all instants resolved to UTC. It never changes once a run has it,
    except by an edit, which is journalled."""

    run_id: RunId
    strategy_id: StrategyId
    user: UserId
    account: AccountId
    name: str
    symbol: Symbol
    product: Product
    quantity: Decimal
    trading_day: date
    buy_at: datetime
    sell_at: datetime
    closes_at: datetime
    """End of the exchange's session."""
    stop_loss: StopLoss
    tick_size: Decimal
    timing: Timing = Timing()

    @property
    def buy_until(self) -> datetime:
        """The last instant, included, at which the BUY may still be made."""
        return self.buy_at + timedelta(seconds=self.timing.grace_s)

    @property
    def fresh_for(self) -> timedelta:
        return timedelta(seconds=self.timing.fresh_for_s)
