"""What every record of runs refuses, whichever store it keeps them in."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from samples import after, bought, running, sold
from squareoff.adapters.licence import (
    check_entry_move,
    check_licence,
    is_archived,
    refuse_entry,
    refuse_start,
    totals_of,
)
from squareoff.core.events import Event
from squareoff.core.limits import AccountRules, DayTotals, Level
from squareoff.core.orders import SlotPhase
from squareoff.core.run import Run
from squareoff.core.types import ZERO
from squareoff.core.values import replace
from squareoff.errors import EntriesBlocked

NONE, INTENT, WATCH = SlotPhase.NONE, SlotPhase.INTENT, SlotPhase.WATCH
SETTLED, VOID = SlotPhase.SETTLED, SlotPhase.VOID


@pytest.mark.parametrize("level", [Level.NO_ENTRIES, Level.SQUARE_OFF])
def test_no_licence_for_an_entry_is_granted_while_the_kill_switch_is_on(level: Level) -> None:
    with pytest.raises(EntriesBlocked, match=r"no reason given"):
        refuse_entry(AccountRules(level=level))
    with pytest.raises(EntriesBlocked, match=r"lunch"):
        refuse_entry(AccountRules(level=level, reason="lunch"))
    refuse_entry(AccountRules())


def test_the_totals_of_a_day_are_the_sums_over_its_runs() -> None:
    day = date(2026, 7, 13)
    assert totals_of(day, [running(), sold()]) == DayTotals(day=day, orders=3, pnl=Decimal(500))
    assert totals_of(day, []) == DayTotals(day=day, orders=0, pnl=ZERO)


def entry(phase: SlotPhase) -> Run:
    return replace(running(), entry=replace(running().entry, phase=phase))


def test_a_licence_is_granted_only_as_the_snapshot_says() -> None:
    check_licence(entry(INTENT), INTENT)
    check_licence(entry(VOID), VOID)
    with pytest.raises(ValueError, match="the snapshot says entry void, not intent"):
        check_licence(entry(VOID), INTENT)


@pytest.mark.parametrize(
    ("stored", "new", "may"),
    [
        *((phase, phase, True) for phase in SlotPhase),
        (NONE, INTENT, False),
        (VOID, INTENT, False),
        (WATCH, INTENT, False),
        (SETTLED, INTENT, False),
        (INTENT, NONE, False),
        (VOID, NONE, False),
        (SETTLED, NONE, False),
        (INTENT, VOID, False),
        (INTENT, WATCH, True),
        (INTENT, SETTLED, True),
        (WATCH, SETTLED, True),
        (SETTLED, WATCH, True),
        (NONE, VOID, True),
    ],
)
def test_a_plain_save_grants_no_licence_and_takes_none_back(stored: SlotPhase, new: SlotPhase, may: bool) -> None:
    if may:
        check_entry_move(entry(new), stored)
    else:
        with pytest.raises(ValueError, match=f"its entry is {stored}, a plain save cannot make it {new}"):
            check_entry_move(entry(new), stored)


@pytest.mark.parametrize(("run", "held"), [(bought(), "(50 of NSE:INFY)"), (bought("1"), "(1 of"), (running(), "")])
def test_a_start_that_is_refused_tells_what_the_earlier_run_holds(run: Run, held: str) -> None:
    said = str(refuse_start(run))
    assert held in said
    assert ("of NSE:INFY)" in said) is bool(held)


@pytest.mark.parametrize(
    ("run", "archived"),
    [
        (after(sold(), Event.STOP), True),
        (sold(), False),
        (bought(), False),
        (replace(after(sold(), Event.STOP), entry=replace(sold().entry, phase=WATCH)), False),
    ],
)
def test_a_run_is_archived_when_it_is_stopped_and_nothing_of_it_can_come_late(run: Run, archived: bool) -> None:
    assert is_archived(run) is archived
