"""The order protocol, every state of it over the rules that ship: the design as it is keeps every promise, and each
broken one is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest
from model.designs import DESIGNS, RULES, Design
from model.explore import explore
from model.protocol import Protocol

BROKEN = [design for design in DESIGNS.values() if design is not RULES]


@pytest.mark.parametrize("design", BROKEN, ids=lambda design: design.name)
def test_a_design_without_one_of_its_rules_breaks_a_promise(design: Design) -> None:
    found = explore(Protocol(design), only=design.breaks, with_liveness=design.breaks == "S4")
    assert found.broken is not None, f"{design.what}: the checker does not see it any more"
    assert found.broken.startswith(design.breaks)
    assert found.faults <= design.faults


@pytest.mark.parametrize("machines", [1, 2])
def test_the_design_keeps_every_promise_and_from_every_state_there_is_a_way_out(machines: int) -> None:
    found = explore(Protocol(replace(RULES, machines=machines, faults=0)))
    assert (found.broken, found.is_whole, found.stuck) == (None, True, 0), "\n".join(found.story)


@pytest.mark.parametrize("machines", [1, 2])
def test_one_fault_anywhere_breaks_no_promise_while_one_lot_is_traded(machines: int) -> None:
    found = explore(Protocol(replace(RULES, machines=machines, faults=1, lots=1, with_user=False)))
    assert (found.broken, found.is_whole, found.stuck) == (None, True, 0), "\n".join(found.story)


def test_every_broken_design_says_which_promise_it_breaks() -> None:
    assert all(design.breaks for design in BROKEN)
    assert {design.breaks for design in BROKEN} >= {"S1", "S2", "S3", "S4"}
