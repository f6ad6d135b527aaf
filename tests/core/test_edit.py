"""What an edit of a strategy does to a run that is under way."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from tests.core.test_repeat import MONDAY, run_of

from squareoff.core.edit import edited
from squareoff.core.machine import State
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, StopLoss, StopLossKind

READY = run_of(MONDAY, State.READY)
TIGHTER = StopLoss(kind=StopLossKind.PRICE, value=Decimal("99.00"))


def everything_else(plan: Plan) -> Plan:
    return replace(
        plan, quantity=Decimal(99), buy_at=plan.buy_at.replace(minute=59), sell_at=plan.sell_at.replace(minute=45),
        stop_loss=TIGHTER,
    )  # fmt: skip


def change(run: Run) -> Run | None:
    return edited(run, everything_else(run.plan))


def test_before_the_entry_everything_changes_and_the_copy_is_newer() -> None:
    run = change(READY)
    assert run is not None
    assert run.plan == everything_else(READY.plan)
    assert run.version == READY.version + 1


def test_while_something_is_held_only_stop_loss_and_sell_time_change() -> None:
    held = replace(READY, state=State.BOUGHT)
    run = change(held)
    assert run is not None
    assert (run.plan.stop_loss, run.plan.sell_at.minute) == (TIGHTER, 45)
    assert (run.plan.quantity, run.plan.buy_at) == (held.plan.quantity, held.plan.buy_at)


@pytest.mark.parametrize("state", [State.RUNNING, State.SELL_PENDING, State.SL_PENDING, State.STOP_PENDING])
def test_while_an_order_is_out_it_has_to_wait(state: State) -> None:
    assert change(replace(READY, state=state)) is None


@pytest.mark.parametrize("state", [State.SOLD, State.EXITED_BY_SL, State.FAILED, State.STOPPED])
def test_what_is_over_stays_as_it_was(state: State) -> None:
    over = replace(READY, state=state)
    assert change(over) is over


def test_an_edit_that_says_the_same_changes_nothing() -> None:
    assert edited(READY, READY.plan) is READY
