"""Which prices can be true. A wrong one that trips a stop-loss sells for nothing; a true one that is not believed
does not protect. So what looks wrong is doubted until the next price of the same symbol, and never longer.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from squareoff.core.instruments import Instrument, InstrumentKind
from squareoff.core.types import ZERO, Tick

JUMP = Decimal("0.20")
"""A share may move by 20 % of its last close in a whole day (the widest price band of NSE; read 2026-11-23 at
https://www.nseindia.com/regulations/daily-price-bands-reports-hindi). As a single step it is most likely a mistake."""
NEAR = Decimal("0.05")
"""A doubted price is true when the next one is so near to it."""
YOUNG = timedelta(seconds=60)
"""A price older than this (trading time) says nothing of how far the next may be from it."""

_LOW, _HIGH = 1 - JUMP / 2, (1 - JUMP / 2) * (1 + JUMP)  # 0.90 and 1.08
_INFINITE = Decimal("Infinity")


class PriceLimits(NamedTuple):
    """What is known of a symbol's prices. `lower`, `upper`: the price band of the day, None = not known.
    `doubts_jumps`: whether a step of more than `JUMP` is doubted; the price of an option may take it any minute."""

    lower: Decimal | None = None
    upper: Decimal | None = None
    doubts_jumps: bool = True


ANY_PRICE = PriceLimits(doubts_jumps=False)


def limits_of(instrument: Instrument, day: date) -> PriceLimits:
    """What holds on `day`. A price band changes daily: one of another day would call true prices wrong."""
    doubts_jumps = instrument.kind is not InstrumentKind.OPTION
    if instrument.as_of != day:
        return PriceLimits(doubts_jumps=doubts_jumps)
    return PriceLimits(instrument.lower_band, instrument.upper_band, doubts_jumps)


def usual_range(price: Decimal, limits: PriceLimits) -> tuple[Decimal, Decimal]:
    """Low and high: after `price` whatever lies strictly between needs no second look.

    Any two prices in the range are at most `JUMP` apart, so it need not move with every tick."""
    low, high = (price * _LOW, price * _HIGH) if limits.doubts_jumps else (ZERO, _INFINITE)
    if is_outside_band(price, limits):  # believed all the same, so the band has moved
        return low, high
    if limits.lower is not None:
        low = max(low, limits.lower)
    if limits.upper is not None:
        high = min(high, limits.upper)
    return low, high


def is_absurd(price: Decimal) -> bool:
    return not price.is_finite() or price <= ZERO  # in this order: a NaN cannot be compared


def is_outside_band(price: Decimal, limits: PriceLimits) -> bool:
    return (limits.lower is not None and price < limits.lower) or (limits.upper is not None and price > limits.upper)


def doubt(tick: Tick, last: Tick | None, limits: PriceLimits, now: datetime) -> str | None:
    """Why `tick` is not believed alone; None: it is.

    Outside the band is no proof either: for shares with derivatives the exchange moves the band while the price
    moves (https://nseindia.com/trade/price-band-operating-range-flex-faqs), and then a stop-loss is needed most."""
    if is_outside_band(tick.price, limits) and (last is None or not is_outside_band(last.price, limits)):
        return "outside the price band"
    if last is None or not limits.doubts_jumps or now - last.at > YOUNG:
        return None
    return "implausible" if abs(tick.price - last.price) > last.price * JUMP else None


def confirms(tick: Tick, doubted: Tick, limits: PriceLimits) -> bool:
    """Whether `tick` shows that the doubted one was true: near to it, and on the same side of the band's edge."""
    if is_outside_band(tick.price, limits) is not is_outside_band(doubted.price, limits):
        return False
    return abs(tick.price - doubted.price) <= doubted.price * NEAR
