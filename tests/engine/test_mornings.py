"""Before the open: whoever is armed is checked, and a person is told what is red."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from squareoff.core.preflight import Check, CheckName
from squareoff.core.run import Run
from squareoff.errors import RecordsUnavailable
from squareoff.mornings import Mornings
from squareoff.ports import Severity
from tests.engine.world import World, at, plan

IST, NEW_YORK = ZoneInfo("Asia/Kolkata"), ZoneInfo("America/New_York")


class Office:
    """The checks of a world, as a test sets them."""

    def __init__(self, world: World) -> None:
        self.world, self.checked = world, list[datetime]()
        self.red: tuple[Check, ...] = ()
        self.traded, self.sql_down = {"NSE"}, False
        mornings = Mornings(
            engine=world.process.engine,
            clock=world.loop,
            zones={"NSE": IST, "SIM": IST, "NYSE": NEW_YORK},
            exchanges=self.exchanges,
            opens_at=lambda run: at("09:15:00"),
            check=self.check,
        )
        world.process.spawn(world.process.keepers.for_ever(mornings.keep))

    async def exchanges(self) -> set[str]:
        if self.sql_down:
            raise RecordsUnavailable("SQL is down")
        return self.traded

    async def check(self, runs: Sequence[Run]) -> Sequence[Sequence[Check]]:
        self.checked.append(self.world.now)
        return [(Check(CheckName.SQL, True, "whole"), *self.red) for _ in runs]


def summaries(world: World) -> list[tuple[str, str]]:
    """When, by the clock of New York, and what."""
    told = [alert for alert in world.alerts if alert.severity is Severity.INFO]
    return [(f"{a.at.astimezone(NEW_YORK):%d %H:%M}", a.headline.partition(": ")[2]) for a in told]


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
    world = begin(begin="08:30:30")
    Office(world)
    world.silently("08:30:59")
    assert summaries(world) == []
    world.silently("08:40:00")
    assert summaries(world) == [("12 23:01", "nothing is armed")]


def test_a_start_after_the_summary_tells_none_of_this_morning(begin):
    world = begin()
    Office(world)
    world.silently("09:30:00")
    assert summaries(world) == []


def test_whoever_trades_in_new_york_has_his_summary_at_his_own_half_past_eight(begin):
    world = begin(begin="08:30:30")
    Office(world).traded = {"NYSE"}
    world.silently("08:40:00")
    assert summaries(world) == []
    world = begin(begin="18:00:30")
    Office(world).traded = {"NYSE"}
    world.silently("18:10:00")
    assert summaries(world) == [("13 08:31", "nothing is armed")]


def test_whoever_trades_in_both_has_two_each_with_its_own_runs(begin):
    nse, nyse = (
        plan(buy="18:30:00", sell="18:40:00", closes="18:45:00"),
        plan(8, symbol="NYSE:SHARE", buy="19:30:00", sell="19:40:00", closes="19:45:00"),
    )
    world = begin(nse, nyse, begin="08:30:30")
    Office(world).traded = {"NSE", "NYSE"}
    world.silently("08:40:00")
    assert summaries(world) == [("12 23:01", "1 armed")]
    world = begin(nse, nyse, begin="18:00:30")
    Office(world).traded = {"NSE", "NYSE"}
    world.silently("18:10:00")
    assert [(a.headline, a.text) for a in world.alerts if a.severity is Severity.INFO] == [
        ("Mon 13 Jul: 1 armed", "strategy 8 buys 50 NYSE:SHARE at 10:00")
    ]


def test_a_summary_is_not_lost_because_the_database_was_away_at_that_minute(begin):
    world = begin(begin="08:30:30")
    office = Office(world)
    office.sql_down = True
    world.silently("08:33:00")
    assert summaries(world) == []
    office.sql_down = False
    world.silently(10)
    assert [text for _, text in summaries(world)] == ["nothing is armed"]
