"""What the paper broker's server says on its WebSocket and over HTTP: shared by server, broker client and feed.

The first frame a listener sends is a `Subscription`. From then on every frame of the server is a JSON array of
messages, in order; an empty one is the answer to the subscription and later a heartbeat. Prices and quantities are
text, instants ISO 8601 in UTC.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from squareoff.core.types import (
    BrokerOrderId,
    ClientOrderId,
    Fill,
    Order,
    OrderReport,
    Position,
    Product,
    Side,
    Symbol,
)

STREAM_PATH = "/stream"
HEARTBEAT_S = 1.0
"""A frame comes at least this often, in real seconds."""


Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""Always with its offset."""


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """`ticks`: of these symbols. `orders`: all orders of the account as they are now, then every change."""

    ticks: tuple[Symbol, ...] = ()
    orders: bool = False


class TickMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="tick"):
    symbol: Symbol
    price: Decimal
    at: Instant


class OrderMessage(msgspec.Struct, frozen=True, kw_only=True, tag_field="is", tag="order"):
    report: OrderReport


class TradeMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One fill, with what it belongs to. `order_qty`: of the whole order."""

    client_order_id: ClientOrderId
    broker_order_id: BrokerOrderId
    symbol: Symbol
    side: Side
    product: Product
    order_qty: Decimal
    fill: Fill


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every answer to an order that was not taken. Only this proves that nothing was placed.

    refused: 400. token: 403, log in again. busy: 503, rate_limited: 429, may be sent again later. duplicate: 409,
    not taken *because the id is known*, so an earlier one is there.
    """

    error: Literal["refused", "token", "busy", "rate_limited", "duplicate"]
    reason: str = ""
    permanent: bool = False
    placed: Literal[False] = False


class FundsMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Money of the account, in the currency of what it trades. All None: it is not counted."""

    free: Decimal | None = None
    starting: Decimal | None = None
    in_positions: Decimal | None = None
    realised: Decimal | None = None


encode = msgspec.json.Encoder().encode
decode_frame = msgspec.json.Decoder(list[TickMessage | OrderMessage]).decode
decode_quotes = msgspec.json.Decoder(list[TickMessage]).decode
decode_order = msgspec.json.Decoder(Order).decode
decode_report = msgspec.json.Decoder(OrderReport).decode
decode_reports = msgspec.json.Decoder(list[OrderReport]).decode
decode_positions = msgspec.json.Decoder(list[Position]).decode
decode_trades = msgspec.json.Decoder(list[TradeMessage]).decode
decode_funds = msgspec.json.Decoder(FundsMessage).decode
decode_refusal = msgspec.json.Decoder(Refusal).decode
decode_subscription = msgspec.json.Decoder(Subscription).decode
