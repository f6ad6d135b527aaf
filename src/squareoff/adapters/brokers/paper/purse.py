"""The money of one paper account: free = starting cash - cost of what is held - what open BUY orders need + realised.

No leverage: a share costs its whole price, whatever the product. A short position costs the same, and what a short
sale brought in cannot be spent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from squareoff.core.types import ZERO, Fill, Order, Product, Side, Symbol

_EXACT_TO = Decimal("0.0001")
"""An average cost may have no end; a rupee has."""


@dataclass(kw_only=True, slots=True)
class Purse:
    starting: Decimal
    realised: Decimal = ZERO
    last: dict[Symbol, Decimal] = field(default_factory=dict)
    """Last prices, for what a MARKET order will need."""
    _net: dict[tuple[Symbol, Product], Decimal] = field(default_factory=dict)
    _cost: dict[tuple[Symbol, Product], Decimal] = field(default_factory=dict)

    @property
    def in_positions(self) -> Decimal:
        return sum(self._cost.values(), ZERO).quantize(_EXACT_TO)

    def free(self, open_orders: Iterable[tuple[Order, Decimal]]) -> Decimal:
        """Also counts what the rest of each order (order, remaining) will need. Below zero if prices ran away."""
        wanted = sum((self.need(order, remaining) or ZERO for order, remaining in open_orders), ZERO)
        return (self.starting - sum(self._cost.values(), ZERO) + self.realised - wanted).quantize(_EXACT_TO)

    def need(self, order: Order, qty: Decimal) -> Decimal | None:
        """What `qty` of a BUY will cost at its limit or the last price; None: no price is known. A SELL needs nothing,
        nor does a BUY that only covers a short position."""
        if order.side is Side.SELL:
            return ZERO
        opening = max(ZERO, qty - max(ZERO, -self._net.get((order.symbol, order.product), ZERO)))
        price = order.limit_price or self.last.get(order.symbol)
        return None if price is None else opening * price

    def trade(self, order: Order, fill: Fill) -> None:
        key = (order.symbol, order.product)
        self.last[order.symbol] = fill.price
        net, cost = self._net.get(key, ZERO), self._cost.get(key, ZERO)
        signed = fill.qty if order.side is Side.BUY else -fill.qty
        closing = min(fill.qty, abs(net)) if net * signed < ZERO else ZERO
        if closing:
            cost_closed = cost if closing == abs(net) else cost * closing / abs(net)
            gain = closing * fill.price - cost_closed
            self.realised += gain if net > ZERO else -gain
            cost -= cost_closed
        self._net[key], self._cost[key] = net + signed, cost + (fill.qty - closing) * fill.price
