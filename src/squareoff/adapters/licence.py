"""What every record of runs refuses, whichever store it keeps them in."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from squareoff.core.limits import AccountRules, DayTotals, Level, orders_of, pnl_of
from squareoff.core.machine import EXPOSURE_LABEL, STATE_LABEL, State
from squareoff.core.orders import SlotPhase
from squareoff.core.run import Run
from squareoff.core.types import ZERO, AccountId
from squareoff.errors import BadInput, EntriesBlocked, FenceLost, WishTakenBack


def check_licence(run: Run, granted: SlotPhase) -> None:
    """A licence is asked for with the run as it will be once it is granted."""
    if run.entry.phase is not granted:
        raise ValueError(f"run {run.plan.run_id}: the snapshot says entry {run.entry.phase}, not {granted}")


def check_entry_move(run: Run, stored: SlotPhase) -> None:
    """`save` is no way around the licence: it neither grants one, nor takes back what was decided."""
    new = run.entry.phase
    if new is stored:
        return
    if new is SlotPhase.NONE or new is SlotPhase.INTENT or (stored, new) == (SlotPhase.INTENT, SlotPhase.VOID):
        raise ValueError(f"run {run.plan.run_id}: its entry is {stored}, a plain save cannot make it {new}")


def refuse_start(earlier: Run) -> BadInput:
    """Why a strategy cannot be started again yet, told about the run that is in the way."""
    state, exposure = STATE_LABEL[earlier.state], EXPOSURE_LABEL[earlier.exposure]
    held = f" ({earlier.remaining_qty:f} of {earlier.plan.symbol})" if earlier.remaining_qty > 0 else ""
    return BadInput(
        "strategy",
        f"run {earlier.plan.run_id} of {earlier.plan.name} on {earlier.plan.trading_day} is not closed: "
        f"{state}; {exposure}{held}",
        "it may still buy or hold; stop it, or wait until it is closed",
    )


def held_by_another(account: AccountId) -> FenceLost:
    return FenceLost(f"account {account} was taken by another worker before this one could begin; start this one again")


def taken_back(run: Run) -> WishTakenBack:
    return WishTakenBack(f"the START of {run.plan.name} was taken back before it was taken up: no run is made")


def refuse_entry(rules: AccountRules) -> None:
    """Raises EntriesBlocked while the account's kill switch is on."""
    if rules.level is not Level.NORMAL:
        raise EntriesBlocked(f"the kill switch is on ({rules.level}): {rules.reason or 'no reason given'}")


def totals_of(day: date, runs: Iterable[Run]) -> DayTotals:
    orders, pnl = 0, ZERO
    for run in runs:
        orders += orders_of(run)
        pnl += pnl_of(run, None)
    return DayTotals(day=day, orders=orders, pnl=pnl)


def is_archived(run: Run) -> bool:
    """Nothing of it is watched any more. Late news opens an archived run again."""
    return run.state is State.STOPPED and run.is_closed
