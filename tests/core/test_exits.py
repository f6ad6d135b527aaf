"""At what price an exit is tried again: lower each time, never below the day's band, and now and then at market."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squareoff.core.exits import exit_limit

TICK = Decimal("0.05")


def limit(attempt: int, last: str | None = "1539.00", lower: str | None = None) -> str | None:
    price = exit_limit(
        attempt,
        None if last is None else Decimal(last),
        tick_size=TICK,
        lower=None if lower is None else Decimal(lower),
    )
    return None if price is None else f"{price:.2f}"


def test_the_first_sell_goes_at_market() -> None:
    assert limit(1) is None


@pytest.mark.parametrize(
    ("attempt", "price"),
    [(2, "1531.30"), (3, "1523.60"), (4, "1508.20"), (5, "1462.05"), (6, None), (7, "1462.05"), (8, None)],
)
def test_each_further_one_may_sell_lower_and_at_the_end_every_second_one_at_market(
    attempt: int, price: str | None
) -> None:
    assert limit(attempt) == price


def test_a_limit_is_never_below_the_price_band_of_the_day() -> None:
    assert limit(5, lower="1500.00") == "1500.00"


def test_without_a_price_there_is_only_the_market() -> None:
    assert limit(3, last=None) is None


@given(st.integers(2, 5000), st.decimals("0.05", "100000", places=2))
def test_a_limit_is_a_price_the_exchange_takes(attempt: int, last: Decimal) -> None:
    price = exit_limit(attempt, last, tick_size=TICK, lower=None)
    assert price is None or (price >= TICK and price % TICK == 0 and price <= max(last, TICK))
