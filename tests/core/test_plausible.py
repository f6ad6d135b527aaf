"""Which prices are believed at once, which wait for the next one, which never count."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import product

import pytest

from squareoff.core.instruments import Instrument, InstrumentKind
from squareoff.core.plausible import (
    ANY_PRICE,
    JUMP,
    YOUNG,
    PriceLimits,
    confirms,
    doubt,
    is_absurd,
    limits_of,
    usual_range,
)
from squareoff.core.types import Symbol, Tick

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
SHARE, BANDED = PriceLimits(), PriceLimits(Decimal(90), Decimal(110))


def tick(price: str, at: datetime = NOW) -> Tick:
    return Tick(Symbol("NSE:INFY"), Decimal(price), at)


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_no_number_above_zero_is_no_price(price: str) -> None:
    assert is_absurd(Decimal(price))


@pytest.mark.parametrize(("price", "is_believed"), [("80", True), ("120", True), ("79.95", False), ("120.05", False)])
def test_a_step_of_more_than_twenty_percent_is_doubted(price: str, is_believed: bool) -> None:
    assert (doubt(tick(price), tick("100"), SHARE, NOW) is None) is is_believed
    assert doubt(tick(price), tick("100"), ANY_PRICE, NOW) is None


def test_a_price_older_than_a_minute_says_nothing_of_the_next() -> None:
    old = tick("100", NOW - YOUNG)
    assert doubt(tick("1"), old, SHARE, NOW) == "implausible"
    assert doubt(tick("1"), old, SHARE, NOW + timedelta(microseconds=1)) is None
    assert doubt(tick("1"), None, SHARE, NOW) is None


def test_of_prices_that_need_no_second_look_no_two_are_further_apart_than_a_believable_step() -> None:
    low, high = usual_range(Decimal(100), SHARE)
    assert low < 100 < high
    for before, after in product((low, high), repeat=2):
        assert abs(after - before) <= before * JUMP


def test_the_price_band_narrows_what_needs_no_second_look() -> None:
    assert usual_range(Decimal(100), PriceLimits(Decimal(95), Decimal(105))) == (95, 105)
    assert usual_range(Decimal(100), ANY_PRICE) == (0, Decimal("Infinity"))


def test_a_first_price_outside_the_band_is_doubted_and_a_second_one_shows_that_the_band_has_moved() -> None:
    assert doubt(tick("89"), None, BANDED, NOW) == "outside the price band"
    assert doubt(tick("89"), tick("91"), BANDED, NOW) == "outside the price band"
    assert not confirms(tick("91"), tick("89"), BANDED)
    assert confirms(tick("88"), tick("89"), BANDED)
    assert doubt(tick("87"), tick("88"), BANDED, NOW) is None
    low, _ = usual_range(Decimal(88), BANDED)
    assert low < 87


@pytest.mark.parametrize(("price", "does"), [("73.5", True), ("66.5", True), ("73.55", False), ("66.45", False)])
def test_a_next_price_within_five_percent_confirms_a_doubted_one(price: str, does: bool) -> None:
    assert confirms(tick(price), tick("70"), SHARE) is does


def an_instrument(kind: InstrumentKind) -> Instrument:
    return Instrument(
        symbol=Symbol("NSE:INFY"),
        name="Infosys",
        kind=kind,
        lot=Decimal(1),
        tick_size=Decimal("0.05"),
        lower_band=Decimal(90),
        upper_band=Decimal(110),
        as_of=date(2026, 11, 23),
    )


def test_a_price_band_of_another_day_is_not_used() -> None:
    share = an_instrument(InstrumentKind.SHARE)
    assert limits_of(share, date(2026, 11, 23)) == BANDED
    assert limits_of(share, date(2026, 11, 24)) == SHARE


def test_the_price_of_an_option_may_jump_and_no_other() -> None:
    doubted = {kind for kind in InstrumentKind if limits_of(an_instrument(kind), date(2026, 1, 1)).doubts_jumps}
    assert doubted == set(InstrumentKind) - {InstrumentKind.OPTION}
