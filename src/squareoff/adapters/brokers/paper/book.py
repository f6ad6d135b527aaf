"""What the paper broker's exchange decides: which order fills, when, and at what price.

Pure: ticks and instants come in, reports go out. Everything that happens to the book is one `BookRecord`, told to
`on_record` *before* it takes effect; the records alone rebuild the book (`apply`), which is what the ledger does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

import msgspec

from squareoff.adapters.brokers.paper.purse import Purse
from squareoff.core.types import (
    ZERO,
    BrokerOrderId,
    ClientOrderId,
    Fill,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Side,
    Symbol,
    Tick,
    TradeId,
)
from squareoff.errors import OrderRefused
from squareoff.ports import Idempotency


class _Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    at: datetime


class Placed(_Record, frozen=True, kw_only=True, tag="placed"):
    """An order was taken. `fill_plan` as in `PaperBook.submit`."""

    order: Order
    broker_order_id: BrokerOrderId
    fill_plan: tuple[Decimal, ...] | None = None


class Refused(_Record, frozen=True, kw_only=True, tag="refused"):
    """An order was not taken: it never got an id of ours."""

    order: Order
    reason: str
    permanent: bool = True


class Traded(_Record, frozen=True, kw_only=True, tag="traded"):
    broker_order_id: BrokerOrderId
    fill: Fill


class Cancelled(_Record, frozen=True, kw_only=True, tag="cancelled"):
    """What was open of an order is gone."""

    broker_order_id: BrokerOrderId
    reason: str = ""


class Rejected(_Record, frozen=True, kw_only=True, tag="rejected"):
    """Taken first and rejected later, as risk checks and exchanges do."""

    broker_order_id: BrokerOrderId
    reason: str


BookRecord = Placed | Refused | Traded | Cancelled | Rejected


class DuplicateOrder(Exception):
    """This client order id must be unique and was seen before. Proof that the earlier order *arrived*, so never to
    be taken for a refusal."""

    def __init__(self, earlier: OrderReport) -> None:
        self.earlier = earlier
        super().__init__(f"client order id {earlier.client_order_id} must be unique")


_OVER_WITHOUT_FILL: dict[type, OrderStatus] = {Cancelled: OrderStatus.CANCELLED, Rejected: OrderStatus.REFUSED}


@dataclass(kw_only=True, slots=True)
class _BookOrder:
    order: Order
    broker_order_id: BrokerOrderId
    fill_plan: list[Decimal] | None
    remaining: Decimal
    status: OrderStatus = OrderStatus.OPEN
    fills: list[Fill] = field(default_factory=list)
    reason: str = ""
    has_rested: bool = False

    def report(self) -> OrderReport:
        order = self.order
        return OrderReport(
            client_order_id=order.client_order_id,
            broker_order_id=self.broker_order_id,
            symbol=order.symbol,
            side=order.side,
            product=order.product,
            qty=order.qty,
            status=self.status,
            fills=tuple(self.fills),
            reason=self.reason,
        )

    def fill_price(self, last_price: Decimal) -> Decimal | None:
        """The price this tick would fill it at, or None.

        A limit order that had to wait is filled at its own limit, as the exchange would; one that could trade at
        the first tick it saw gets that tick's price.
        """
        limit = self.order.limit_price
        if limit is None:
            return last_price
        crossed = last_price <= limit if self.order.side is Side.BUY else last_price >= limit
        if not crossed:
            return None
        return limit if self.has_rested else last_price

    def next_fill_qty(self) -> Decimal:
        if self.fill_plan is None:
            return self.remaining
        return min(self.fill_plan[0], self.remaining) if self.fill_plan else ZERO


class PaperBook:
    """One account's orders, fills and positions, filled from ticks.

    A MARKET order fills at the first tick of its symbol handed to `on_tick` after `submit`: the order of the calls
    decides, never the time of the tick, so a tick of the very same instant fills it too. A LIMIT order fills when the
    last price touches or crosses its limit.

    A replay keeps this contract for every tick:

    1. show the tick to the listener, synchronously;
    2. call `on_tick(tick)`: it fills what was placed before this tick began;
    3. let the engine react: orders and cancels made now take effect after this tick.

    So no order is ever filled by the tick that caused it.

    `idempotency` says what a client order id seen before leads to: NONE makes a second live order, ENFORCED refuses,
    ENFORCED_AMONG_OPEN refuses while the first is open. With `allow_short` (as a broker would for MIS) a sale of more
    than is held goes through, so that a test can see it; without, it is refused.

    `cash`: what the account begins with; a BUY beyond what is free is refused for good. None: money is not counted.
    """

    def __init__(
        self,
        *,
        idempotency: Idempotency = Idempotency.NONE,
        allow_short: bool = True,
        cash: Decimal | None = None,
        on_record: Callable[[BookRecord], None] | None = None,
    ) -> None:
        self.idempotency = idempotency
        self.purse = None if cash is None else Purse(starting=cash)
        self._allow_short = allow_short
        self._on_record = on_record
        self._orders: dict[BrokerOrderId, _BookOrder] = {}
        self._by_client_id: dict[ClientOrderId, list[_BookOrder]] = {}
        self._working: dict[Symbol, list[_BookOrder]] = {}
        self._net: dict[tuple[Symbol, Product], Decimal] = {}
        self._trades = 0

    def submit(self, order: Order, at: datetime, *, fill_plan: Sequence[Decimal] | None = None) -> OrderReport:
        """Take `order`; it rests until `on_tick` fills it.

        `fill_plan`: at most this quantity at each following tick that could fill it, then no more; 0 skips a tick.
        None fills all that is left at the first such tick.

        Raises:
            OrderRefused: not taken, nothing is live under this id.
            DuplicateOrder: not taken, but an earlier order of this id was.
        """
        if self._is_duplicate(order.client_order_id):
            duplicate = DuplicateOrder(self._report(self._by_client_id[order.client_order_id][0]))
            self._happen(Refused(at=at, order=order, reason=str(duplicate)))
            raise duplicate
        if (why := self._why_not(order)) is not None:
            raise self.refuse(order, at, why)
        placed = Placed(
            at=at,
            order=order,
            broker_order_id=BrokerOrderId(f"P{len(self._orders) + 1:06d}"),
            fill_plan=None if fill_plan is None else tuple(fill_plan),
        )
        self._happen(placed)
        return self._report(self._orders[placed.broker_order_id])

    def refuse(self, order: Order, at: datetime, reason: str, *, permanent: bool = True) -> OrderRefused:
        """Record that `order` was not taken. Returns the error to raise."""
        self._happen(Refused(at=at, order=order, reason=reason, permanent=permanent))
        return OrderRefused(order.client_order_id, reason, permanent=permanent)

    def cancel(self, client_order_id: ClientOrderId, at: datetime, *, reason: str = "") -> list[OrderReport]:
        """Cancel what is open under this id. Returns the orders that changed: none if unknown or already over."""
        return self._end(client_order_id, lambda key: Cancelled(at=at, broker_order_id=key, reason=reason))

    def reject(self, client_order_id: ClientOrderId, at: datetime, reason: str) -> list[OrderReport]:
        """Reject what is open of an order taken before. Returns the orders that changed."""
        return self._end(client_order_id, lambda key: Rejected(at=at, broker_order_id=key, reason=reason))

    def find(self, client_order_id: ClientOrderId) -> OrderReport | None:
        """All that is known under this id. Where a second order was made with it, all reports tell the two as one:
        the sum of the quantities, every fill, open while either is."""
        found = self._by_client_id.get(client_order_id)
        return None if found is None else self._report(found[0])

    def orders(self) -> list[OrderReport]:
        """Every order, each for itself, in the order they were taken."""
        return [one.report() for one in self._orders.values()]

    def positions(self) -> list[Position]:
        """Net positions that are not flat; negative is short."""
        return [
            Position(symbol=symbol, product=product, net_qty=net) for (symbol, product), net in self._net.items() if net
        ]

    def free(self) -> Decimal | None:
        """What can be spent now; None: money is not counted."""
        return None if self.purse is None else self.purse.free(self._open_orders())

    def on_tick(self, tick: Tick) -> list[OrderReport]:
        """Fill what this tick fills. Returns the orders that changed. Costs a dict look-up when nothing rests."""
        if self.purse is not None:
            self.purse.last[tick.symbol] = tick.price
        working = self._working.get(tick.symbol)
        if working is None:
            return []
        return [self._report(one) for one in tuple(working) if self._try_to_fill(one, tick)]

    def fill_rest(self, client_order_id: ClientOrderId, tick: Tick) -> list[OrderReport]:
        """All that is open under this id is traded now, whatever was planned. Returns the orders that changed."""
        open_ones = [one for one in self._by_client_id.get(client_order_id, ()) if one.status is OrderStatus.OPEN]
        for one in open_ones:
            self._fill(one, one.remaining, tick.price, tick.at)
        return [self._report(one) for one in open_ones]

    def trades(self) -> list[tuple[Order, BrokerOrderId, Fill]]:
        """Every fill with its order, by order."""
        return [(one.order, key, fill) for key, one in self._orders.items() for fill in one.fills]

    def apply(self, record: BookRecord) -> None:
        """Let what was recorded before happen again, without recording it. For rebuilding an empty book."""
        match record:
            case Placed():
                self._take(record)
            case Traded():
                self._trade(self._orders[record.broker_order_id], record.fill)
            case Cancelled() | Rejected():
                one = self._orders[record.broker_order_id]
                one.reason = record.reason
                self._is_over(one, _OVER_WITHOUT_FILL[type(record)])
            case Refused():
                pass  # it never became an order

    def _happen(self, record: BookRecord) -> None:
        if self._on_record is not None:
            self._on_record(record)  # first: a record that cannot be kept must change nothing
        self.apply(record)

    def _why_not(self, order: Order) -> str | None:
        if order.qty <= ZERO:
            return f"quantity must be above 0, not {order.qty}"
        if (order.order_type is OrderType.LIMIT) != (order.limit_price is not None):
            return "a LIMIT order needs a limit price, a MARKET order none"
        if order.limit_price is not None and order.limit_price <= ZERO:
            return f"limit price must be above 0, not {order.limit_price}"
        if not self._allow_short and order.side is Side.SELL and order.qty > self._sellable(order):
            return f"sells {order.qty} {order.symbol}, but only {self._sellable(order)} are held and not yet on sale"
        return self._too_dear(order)

    def _too_dear(self, order: Order) -> str | None:
        """Judged at the last price. Where none is known yet, the order is taken: nobody can say that it is too dear."""
        if self.purse is None or order.side is Side.SELL:
            return None
        need, free = self.purse.need(order, order.qty), self.purse.free(self._open_orders())
        if not need or need <= free:  # not known, or it only covers a short position
            return None
        return f"insufficient funds: needs about {need:,.2f}, has {free:,.2f}"

    def _open_orders(self) -> Iterator[tuple[Order, Decimal]]:
        return ((one.order, one.remaining) for working in self._working.values() for one in working)

    def _is_duplicate(self, client_order_id: ClientOrderId) -> bool:
        earlier = self._by_client_id.get(client_order_id, ())
        match self.idempotency:
            case Idempotency.NONE:
                return False
            case Idempotency.ENFORCED:
                return bool(earlier)
            case Idempotency.ENFORCED_AMONG_OPEN:
                return any(not one.status.is_terminal for one in earlier)

    def _sellable(self, order: Order) -> Decimal:
        on_sale = (
            one.remaining
            for one in self._working.get(order.symbol, ())
            if one.order.side is Side.SELL and one.order.product is order.product
        )
        return self._net.get((order.symbol, order.product), ZERO) - sum(on_sale, ZERO)

    def _take(self, placed: Placed) -> None:
        one = _BookOrder(
            order=placed.order,
            broker_order_id=placed.broker_order_id,
            fill_plan=None if placed.fill_plan is None else list(placed.fill_plan),
            remaining=placed.order.qty,
        )
        self._orders[one.broker_order_id] = one
        self._by_client_id.setdefault(placed.order.client_order_id, []).append(one)
        self._working.setdefault(placed.order.symbol, []).append(one)

    def _try_to_fill(self, one: _BookOrder, tick: Tick) -> bool:
        price = one.fill_price(tick.price)
        if price is None:
            one.has_rested = True
            return False
        qty = one.next_fill_qty()
        if not qty:
            if one.fill_plan:
                one.fill_plan.pop(0)
            return False
        self._fill(one, qty, price, tick.at)
        return True

    def _fill(self, one: _BookOrder, qty: Decimal, price: Decimal, at: datetime) -> None:
        fill = Fill(trade_id=TradeId(f"T{self._trades + 1:06d}"), qty=qty, price=price, at=at)
        self._happen(Traded(at=at, broker_order_id=one.broker_order_id, fill=fill))

    def _trade(self, one: _BookOrder, fill: Fill) -> None:
        order = one.order
        key = (order.symbol, order.product)
        self._trades += 1
        one.fills.append(fill)
        one.remaining -= fill.qty
        if self.purse is not None:
            self.purse.trade(order, fill)
        self._net[key] = self._net.get(key, ZERO) + (fill.qty if order.side is Side.BUY else -fill.qty)
        if one.fill_plan:
            one.fill_plan.pop(0)
        if not one.remaining:
            self._is_over(one, OrderStatus.FILLED)

    def _end(self, client_order_id: ClientOrderId, record: Callable[[BrokerOrderId], BookRecord]) -> list[OrderReport]:
        open_ones = [one for one in self._by_client_id.get(client_order_id, ()) if one.status is OrderStatus.OPEN]
        for one in open_ones:
            self._happen(record(one.broker_order_id))
        return [self._report(one) for one in open_ones]

    def _report(self, one: _BookOrder) -> OrderReport:
        """What is told: with a second order under the same id, the two as one. One of them FILLED would hide the
        other that still may fill."""
        same_id = self._by_client_id[one.order.client_order_id]
        return one.report() if len(same_id) == 1 else _as_one([each.report() for each in same_id])

    def _is_over(self, one: _BookOrder, status: OrderStatus) -> None:
        one.status = status
        working = self._working[one.order.symbol]
        working.remove(one)
        if not working:
            del self._working[one.order.symbol]


def _as_one(reports: list[OrderReport]) -> OrderReport:
    first = reports[0]
    statuses = {report.status for report in reports}
    return OrderReport(
        client_order_id=first.client_order_id,
        broker_order_id=first.broker_order_id,
        symbol=first.symbol,
        side=first.side,
        product=first.product,
        qty=sum((report.qty for report in reports), ZERO),
        status=next(
            status
            for status in (OrderStatus.OPEN, OrderStatus.CANCELLED, OrderStatus.REFUSED, OrderStatus.FILLED)
            if status in statuses
        ),
        fills=tuple(fill for report in reports for fill in report.fills),
        reason="; ".join(report.reason for report in reports if report.reason),
    )
