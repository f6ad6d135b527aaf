"""The kill switch and the limits of an account: they hold entries back, and never an exit."""

from __future__ import annotations

from decimal import Decimal

import pytest

from samples import bought, exit_told, fill, ready, running, sell_pending, sold
from squareoff.core.limits import (
    AccountRules,
    Level,
    Limits,
    loss_is_reached,
    objection,
    orders_of,
    pnl_of,
    stricter,
)
from squareoff.core.run import Run
from squareoff.core.types import ZERO, OrderStatus
from squareoff.core.values import replace

D = Decimal
NO_LIMITS = Limits()


def asked(limits: Limits = NO_LIMITS, *, level: Level = Level.NORMAL, by: str = "asha", **facts: object) -> str | None:
    known = {"price": D(1500), "open_positions": 0, "orders": 0, "pnl": ZERO} | facts
    return objection(AccountRules(level=level, limits=limits, by=by), ready(), **known)  # type: ignore[arg-type]


def test_of_two_levels_of_the_kill_switch_the_stricter_one_counts() -> None:
    order = [Level.NORMAL, Level.NO_ENTRIES, Level.SQUARE_OFF]
    for low, one in enumerate(order):
        for high, other in enumerate(order):
            assert stricter(one, other) is order[max(low, high)]


@pytest.mark.parametrize("level", [Level.NO_ENTRIES, Level.SQUARE_OFF])
def test_while_the_kill_switch_is_on_nothing_is_bought_and_it_says_who_pressed_it(level: Level) -> None:
    assert asked(level=level) == f"the kill switch is on ({level} by asha: no reason given)"
    assert asked(level=level, by="") == f"the kill switch is on ({level}: no reason given)"


def test_an_account_without_limits_and_with_its_switch_off_may_buy() -> None:
    assert asked() is None


@pytest.mark.parametrize(
    ("limits", "facts", "may"),
    [
        (Limits(max_order_qty=D(50)), {}, True),
        (Limits(max_order_qty=D(49)), {}, False),
        (Limits(max_order_value=D(75000)), {}, True),
        (Limits(max_order_value=D(74999)), {}, False),
        (Limits(max_order_value=D(74999)), {"price": None}, True),
        (Limits(max_open_positions=3), {"open_positions": 2}, True),
        (Limits(max_open_positions=3), {"open_positions": 3}, False),
        (Limits(max_orders_per_day=3), {"orders": 2}, True),
        (Limits(max_orders_per_day=3), {"orders": 3}, False),
        (Limits(max_loss_per_day=D(1000)), {"pnl": D(-999)}, True),
        (Limits(max_loss_per_day=D(1000)), {"pnl": D(-1000)}, False),
        (Limits(max_loss_per_day=D(1000)), {"pnl": D(1000)}, True),
    ],
)
def test_an_entry_beyond_a_limit_of_the_account_is_held_back(
    limits: Limits, facts: dict[str, object], may: bool
) -> None:
    assert (asked(limits, **facts) is None) is may


def test_a_limit_of_loss_is_reached_by_a_loss_as_large_and_by_no_gain() -> None:
    limits = Limits(max_loss_per_day=D(1000))
    assert [loss_is_reached(limits, D(pnl)) for pnl in (-1001, -1000, -999, 0, 1000)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert not loss_is_reached(Limits(), D(-1_000_000))


@pytest.mark.parametrize(
    ("run", "price", "pnl"),
    [
        (running(), D(1600), 0),
        (bought(), D(1570), 500),
        (bought(), D(1550), -500),
        (bought(), None, 0),
        (sold(), None, 500),
        (sold(), D(9999), 500),
        (exit_told(sell_pending(), OrderStatus.CANCELLED, fill("20", "1570")), None, 200),
        (exit_told(sell_pending(), OrderStatus.CANCELLED, fill("20", "1570")), D(1565), 350),
    ],
)
def test_the_day_s_result_is_what_was_sold_and_what_is_held_at_its_price(run: Run, price: Decimal, pnl: int) -> None:
    assert pnl_of(run, price) == pnl


def test_what_was_sold_too_much_is_not_held_at_any_price() -> None:
    run = replace(sold(), outside_qty=D(5))
    assert (run.remaining_qty, pnl_of(run, D(9999))) == (-5, 500)


def test_the_orders_of_a_day_are_its_entries_and_its_exits() -> None:
    again = exit_told(sell_pending(), OrderStatus.CANCELLED, fill("20"))
    assert [orders_of(run) for run in (ready(), running(), bought(), again)] == [0, 1, 2, 3]
