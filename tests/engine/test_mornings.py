"""Before the open: whoever is armed is checked, and a person is told what is red."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from squareoff.core.preflight import Check, CheckName
from squareoff.core.run import Run
from squareoff.mornings import Mornings
from squareoff.ports import Severity
from tests.engine.world import World, at, plan

IST = ZoneInfo("Asia/Kolkata")


class Office:
    """The checks of a world, as a test sets them."""

    def __init__(self, world: World) -> None:
        self.world, self.checked = world, list[datetime]()
        self.red: tuple[Check, ...] = ()
        mornings = Mornings(
            engine=world.process.engine,
            clock=world.loop,
            zone=IST,
            opens_at=lambda run: at("09:15:00"),
            check=self.check,
        )
        world.process.spawn(mornings.keep())

    async def check(self, runs: Sequence[Run]) -> Sequence[Sequence[Check]]:
        self.checked.append(self.world.now)
        return [(Check(CheckName.SQL, True, "whole"), *self.red) for _ in runs]


@pytest.fixture
def late(begin):
    """09:15, a run that buys at 09:30."""
    world = begin(plan(buy="09:30:00"))
    return world, Office(world)


def test_a_run_is_checked_when_it_is_first_seen_and_five_minutes_before_its_buy(late):
    world, office = late
    world.go("09:29:00")
    assert len(office.checked) == 2
    assert abs(office.checked[1] - at("09:25:00")) <= timedelta(seconds=2)


def test_green_disturbs_nobody(late):
    world, _ = late
    world.go("09:29:00")
    assert world.alerts == []
    assert world.journal("note").count("preflight: all green") == 2


def test_red_says_which_and_how_to_mend_it_and_five_minutes_before_the_buy_it_is_urgent(late):
    world, office = late
    office.red = (Check(CheckName.TOKEN, False, "the access token has expired", "log in again"),)
    world.go("09:20:00")
    first = [alert for alert in world.alerts if "token" in alert.headline]
    assert [(a.severity, a.text) for a in first] == [(Severity.WARNING, "the access token has expired. log in again")]
    world.go("09:26:00")
    assert [a.severity for a in world.alerts if "token" in a.headline] == [Severity.WARNING, Severity.URGENT]


def test_red_keeps_nobody_from_buying_when_it_is_mended_in_time(late):
    world, office = late
    office.red = (Check(CheckName.DISK, False, "10 MB free", "delete something"),)
    world.go("09:26:00")
    world.go("09:30:03")
    assert world.run().state == "bought"


def test_the_morning_says_so_when_nothing_is_armed(begin):
    world = begin()
    world.silently(0.1)
    Office(world)
    world.silently("09:16:00")
    world.loop.advance_to(at("09:16:00") + timedelta(days=1))
    told = [a for a in world.alerts if a.severity is Severity.INFO]
    assert [a.headline.partition(": ")[2] for a in told] == ["nothing is armed"]
