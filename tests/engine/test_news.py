"""What a person is told of a run that goes well, and of one that does not until it is acknowledged."""

from __future__ import annotations

from squareoff.core.story import exposure_key
from squareoff.ports import Severity
from tests.engine.world import Kind, Mischief


def news(world) -> list[tuple[str, str]]:
    return [(a.headline, a.text) for a in world.alerts if a.severity is Severity.INFO]


def test_the_buy_and_the_timed_sell_are_told_with_prices_and_result(begin):
    world = begin(bought=True)
    world.go("09:40:05")
    assert news(world) == [
        ("strategy 7: bought 50 NSE:INFY at 1560.00", "stop-loss 1540.00"),
        ("strategy 7: sold 50 NSE:INFY at 1560.00", "SELL time came; P&L 0.00, gross, before charges"),
    ]


def test_a_stop_loss_is_told_as_one(begin):
    world = begin(bought=True)
    world.tick("1539")
    world.go(2)
    (headline, text) = news(world)[-1]
    assert headline.startswith("strategy 7: sold 50 NSE:INFY at ")
    assert "stop-loss" in text


def test_an_exit_that_cannot_be_made_rings_each_minute_until_somebody_has_seen_it(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.REFUSE, slot="X", permanent=True, times=None))
    world.tick("1539")
    world.go(30)
    assert world.run().state == "failed"
    before = len([line for line in world.urgent() if "still open" in line])
    world.go(130)
    rung = len([line for line in world.urgent() if "still open" in line])
    assert rung - before == 2
    seen = exposure_key(world.run())
    world.acknowledged.add(seen)
    world.go(130)
    assert len([line for line in world.urgent() if "still open" in line]) == rung
    world.venue.script.clear()
    world.go(10)
    assert world.net == 0
