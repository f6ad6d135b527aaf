"""At what price the next SELL of an exit is tried.

The first one goes at market. One that was refused, or that rested and was cancelled, is not sent again unchanged: it
becomes a limit order below the last price, each further one lower, down to the day's price band; and beyond that every
second one goes at market again, for what was refused a minute ago may be taken now.
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal

STEPS = (Decimal("0.005"), Decimal("0.01"), Decimal("0.02"), Decimal("0.05"))
"""How far below the last price the second and further tries may sell. A limit is the worst price, not the price: the
venue fills at the best bid. What a venue allows differs by instrument and minute (its execution range; a venue says
"circuit limits" when it refuses), so the steps begin small."""


def exit_limit(attempt: int, last: Decimal | None, *, tick_size: Decimal, lower: Decimal | None) -> Decimal | None:
    """The limit price of exit attempt `attempt` (1 is the first); None: at market.

    `last`: last traded price, None if not known. `lower`: the day's lower price band, None if not known."""
    further = attempt - 2
    if further < 0 or last is None or (further >= len(STEPS) and further % 2 == 0):
        return None
    step = STEPS[min(further, len(STEPS) - 1)]
    price = (last * (1 - step) / tick_size).to_integral_value(ROUND_FLOOR) * tick_size
    return max(price, tick_size if lower is None else lower)
