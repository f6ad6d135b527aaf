"""The words of the field, each with one meaning, shared by every layer.

Money, prices and quantities are `Decimal`, built from the text they came as. Instants are aware UTC datetimes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, NewType

UserId = NewType("UserId", int)
AccountId = NewType("AccountId", str)
StrategyId = NewType("StrategyId", int)
RunId = NewType("RunId", int)
Symbol = NewType("Symbol", str)
"""Always with its exchange: `NSE:INFY`."""
ClientOrderId = NewType("ClientOrderId", str)
"""Ours, chosen before sending: at most 15 letters and digits."""
BrokerOrderId = NewType("BrokerOrderId", str)
"""Theirs, known once they acknowledge."""
TradeId = NewType("TradeId", str)
"""The broker's id of one fill; a fill seen twice is counted once."""
Fence = NewType("Fence", int)
"""Grows with every taking of an account's lease; a sender with an older one sends nothing."""

ZERO = Decimal(0)


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


class SlotName(StrEnum):
    """A run has two slots. Never "legs": to our users a leg is an option."""

    ENTRY = "entry"
    EXIT = "exit"


class Product(StrEnum):
    """How the broker books the position: MIS is squared off by the broker the same day."""

    MIS = "MIS"
    CNC = "CNC"
    NRML = "NRML"


class OrderType(StrEnum):
    MARKET = "MARKET"
    LIMIT = "LIMIT"


class Exposure(StrEnum):
    """What a run may still hold. Every run carries one; while long or unknown, the alarm keeps ringing."""

    FLAT = "flat"
    LONG = "long"
    UNKNOWN = "unknown"
    HANDED_OVER = "handed_over"


class Tick(NamedTuple):
    """One traded price of one symbol. `at` is the instant of the trade, UTC."""

    symbol: Symbol
    price: Decimal
    at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Fill:
    """What was really traded. `price` per unit in the instrument's currency, `at` UTC by the broker's clock."""

    trade_id: TradeId
    qty: Decimal
    price: Decimal
    at: datetime


class OrderStatus(StrEnum):
    """As the broker tells it. OPEN: accepted or resting, may still fill. The rest are terminal."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REFUSED = "refused"

    @property
    def is_terminal(self) -> bool:
        return self is not OrderStatus.OPEN


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """One request to a broker. `limit_price` is None for MARKET; `qty` is in units, not lots."""

    client_order_id: ClientOrderId
    account: AccountId
    symbol: Symbol
    side: Side
    product: Product
    qty: Decimal
    order_type: OrderType = OrderType.MARKET
    limit_price: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderReport:
    """What the broker knows of one order now: cumulative, so a lost or repeated report does no harm."""

    client_order_id: ClientOrderId
    broker_order_id: BrokerOrderId
    symbol: Symbol
    side: Side
    product: Product
    qty: Decimal
    status: OrderStatus
    fills: tuple[Fill, ...] = ()
    reason: str = ""

    @property
    def filled_qty(self) -> Decimal:
        return sum((fill.qty for fill in self.fills), ZERO)


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """The broker's net of one symbol and product: negative is short."""

    symbol: Symbol
    product: Product
    net_qty: Decimal
