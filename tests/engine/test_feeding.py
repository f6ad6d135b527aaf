"""Where prices come from when the feed fails, and which of them may trip a stop-loss."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest

from squareoff.adapters.brokers.paper.practice import PracticeMarket, PracticeSymbol
from squareoff.core.plausible import PriceLimits
from squareoff.core.types import Side, Tick
from squareoff.feeding import pause_s
from tests.engine.world import INFY, TCS, at, percent_stop, plan


def odd(world, price):
    """The feed tells a price at which nothing was traded."""
    world.odd_tick(Tick(INFY, Decimal(price), world.now))
    world.loop.drain()


def falls_unseen(world, price):
    """A trade at the exchange that the stream does not tell."""
    was, world.feed_dead = world.feed_dead, True
    world.tick(price)
    world.feed_dead = was


# ---------------------------------------------------------------------- silence


def test_a_quiet_symbol_on_a_living_feed_is_no_silence(begin):
    world = begin(bought=True)
    world.silently("09:30:00")
    assert not any("feed" in text for text in world.urgent())
    assert len(world.quotes_asked) < 45  # only the comparison each 15 s
    assert len(world.feed_connects) == 1


def test_a_silent_feed_is_told_and_connected_again_and_quotes_are_asked_for_meanwhile(begin):
    world = begin(bought=True)
    world.feed_dead = True
    asked, connects = len(world.quotes_asked), len(world.feed_connects)
    world.silently(4)
    assert len(world.quotes_asked) == asked
    world.silently(8)
    assert [text for text in world.urgent() if "feed is silent" in text]
    assert 5 <= len(world.quotes_asked) - asked <= 9
    assert len(world.feed_connects) > connects
    assert [text for text in world.journal("note") if "quotes are asked for" in text] == [
        "the price feed is silent: quotes are asked for until it speaks"
    ]


def test_a_stop_loss_is_seen_by_a_quote_while_the_feed_is_silent(begin):
    world = begin(bought=True)
    world.feed_dead = True
    world.silently(3)
    world.tick("1539")
    world.silently(4.5)
    assert world.run().state == "sl_pending"
    world.tick("1539")
    world.silently(1)
    assert world.run().outcome == "exited_by_sl"


def test_a_stop_loss_is_seen_by_a_quote_while_no_connection_can_be_made(begin):
    world = begin(bought=True)
    world.feed_refuses = True
    world.process.feed.drop()
    world.silently(3)
    falls_unseen(world, "1539")
    world.silently(4.5)
    assert world.run().state == "sl_pending"
    assert [text for text in world.urgent() if "feed is silent" in text]


def test_quotes_end_when_the_feed_speaks_again(begin):
    world = begin(bought=True)
    world.feed_dead = True
    world.silently(10)
    world.feed_dead = False
    world.silently(2.5)
    asked = len(world.quotes_asked)
    world.silently(10)
    assert len(world.quotes_asked) - asked <= 1
    assert any("speaks again" in text for text in world.journal("note"))


def test_a_silent_feed_is_nobodys_trouble_while_no_stop_loss_is_armed(begin):
    world = begin(plan())
    world.feed_dead = True
    world.silently(30)
    assert world.run().state == "ready"
    assert (world.urgent(), world.quotes_asked) == ([], [])


def test_it_is_told_when_quotes_fail_too(begin):
    world = begin(bought=True)
    world.feed_dead = world.quotes_down = True
    world.silently(8)
    assert any("no quotes come either" in text for text in world.urgent())


def test_a_quote_that_has_not_changed_makes_no_price_fresher(begin):
    world = begin(bought=True)
    traded = world.process.board.last(INFY)
    world.feed_dead = True
    world.silently(20)
    assert world.quotes_asked
    assert world.process.board.last(INFY).at == traded.at


def test_a_feed_that_lives_but_leaves_a_price_out_is_noticed_and_connected_again(begin):
    world = begin(bought=True)
    world.go("09:20:30")
    world.silently(0.1)
    falls_unseen(world, "1539")
    world.silently(17)
    assert world.run().state == "sl_pending"
    assert any("leaves prices out" in text for text in world.urgent())
    assert len(world.feed_connects) == 2


def test_lost_connections_are_tried_again_with_growing_pauses(begin):
    world = begin(bought=True)
    world.feed_refuses = True
    began = len(world.feed_connects)
    world.process.feed.drop()
    world.silently(40)
    times = world.feed_connects[began:]
    pauses = [round((b - a).total_seconds(), 3) for a, b in pairwise(times)]
    assert pauses[:6] == [0.15, 0.3, 0.6, 1.2, 2.4, 3.75]
    assert set(pauses[6:]) == {3.75}
    world.feed_refuses = False
    world.silently(5)
    assert world.process.feed.reads(INFY)


@pytest.mark.parametrize(
    ("failures", "least", "most"), [(1, 0.05, 0.1), (4, 0.4, 0.8), (9, 2.5, 5.0), (9999, 2.5, 5.0)]
)
def test_luck_has_half_a_say_in_the_pause(failures, least, most):
    assert pause_s(failures, 0.0) == pytest.approx(least)
    assert pause_s(failures, 1.0) == pytest.approx(most)


# ---------------------------------------------------------------------- subscriptions


def test_a_symbol_is_unsubscribed_when_its_last_run_is_archived(begin):
    tcs = plan(9, symbol=TCS, stop_loss=percent_stop("1"), sell="09:44:00")
    world = begin(plan(7, sell="09:25:00"), plan(8, sell="09:26:00"), tcs)
    world.ticking.add(TCS)
    world.go("09:25:30")
    world.start(plan(7, buy="09:30:00"))  # archives the first of the two, and INFY is wanted still
    world.go("09:29:00")
    feed = world.process.feed
    assert feed.reads(INFY)
    assert feed.reads(TCS)
    world.go("09:44:30")
    assert feed.reads(INFY)
    world.go("09:45:02")  # the close archives what is over
    assert {run.state for strategy in (7, 8, 9) for run in world.runs(strategy)} == {"stopped"}
    assert not feed.reads(INFY)
    assert not feed.reads(TCS)


# ---------------------------------------------------------------------- prices that cannot be true


@pytest.mark.parametrize("price", ["15.60", "1200", "156000"])
def test_a_price_far_from_the_last_one_trips_nothing_unless_the_next_one_agrees(begin, price):
    world = begin(bought=True)
    odd(world, price)
    world.tick("1560")
    world.go(5)
    assert world.run().state == "bought"
    assert world.process.listener.ignored["implausible"] == 1


def test_the_same_odd_tick_told_twice_proves_nothing(begin):
    world = begin(bought=True)
    odd(world, "15.60")
    odd(world, "15.60")
    world.go(5)
    assert world.run().state == "bought"


def test_a_crash_of_the_price_trips_the_stop_loss_one_tick_later(begin):
    world = begin(bought=True)
    world.quotes_down = True
    world.tick("1200")
    assert world.run().state == "bought"
    world.silently(0.1)
    world.tick("1195")
    assert world.run().state == "sl_pending"
    assert world.run().stop_seen.price == Decimal("1200")


def test_a_crash_after_which_nothing_trades_is_confirmed_by_a_quote(begin):
    world = begin(bought=True)
    world.tick("1200")
    world.silently(1.1)
    assert world.run().state == "sl_pending"


def test_a_doubted_price_never_hides_a_true_one_that_trips_the_stop_loss(begin):
    world = begin(bought=True)
    odd(world, "15.60")
    world.tick("1539")
    assert world.run().state == "sl_pending"


def test_after_a_minute_without_a_price_any_price_is_believed(begin):
    world = begin(bought=True)
    world.silently(75)
    world.tick("1200")
    assert world.run().state == "sl_pending"


def test_the_price_of_an_option_may_jump(begin):
    world = begin()
    world.limits[INFY] = PriceLimits(doubts_jumps=False)
    world.start(plan())
    world.go("09:20:03")
    world.tick("1200")
    assert world.run().state == "sl_pending"


def test_one_price_outside_the_band_trips_nothing_but_a_band_that_has_moved_does_not_silence_the_stop_loss(begin):
    world = begin()
    world.limits[INFY] = PriceLimits(lower=Decimal("1541"), upper=Decimal("1700"))
    world.start(plan())
    world.go("09:20:03")
    odd(world, "1540")
    world.tick("1560")
    assert world.run().state == "bought"
    assert world.process.listener.ignored["outside the price band"] == 1
    world.quotes_down = True  # one could confirm it before the next tick does
    world.tick("1539")
    world.tick("1538")
    assert world.run().state == "sl_pending"


def test_the_practice_markets_wrong_prices_never_trip_a_stop_loss(begin):
    """A hundred times too low and too high among them; the true price comes nowhere near the stop-loss."""
    world = begin()
    world.ticking.clear()
    symbols = [PracticeSymbol(symbol=INFY, tick_size=Decimal("0.05"))]
    market = PracticeMarket(6, symbols, oddities=True, tick_every_s=2)  # of this seed both come within 90 minutes
    factors = set()

    def show(tick, *, fills=True):
        true = market.price_at(INFY, world.now)
        factors.add((tick.price / true).quantize(Decimal("0.01")) if tick.price.is_normal() else None)
        if fills:
            world.last_trades[INFY] = tick
        world.odd_tick(tick)
        for report in world.book.on_tick(tick) if fills else ():
            world.venue.tell(report)

    world.prices[INFY] = market.price_at(INFY, world.now)
    world.process.spawn(market.play(world.loop, show))
    world.start(plan(stop_loss=percent_stop("15"), sell="10:55:00", closes="11:00:00"))
    world.silently("10:50:00")
    assert {Decimal("0.01"), Decimal("100.00")} <= factors
    assert world.run().state == "bought"
    assert world.process.listener.ignored["implausible"] >= 2
    assert world.traded(Side.SELL) == 0
    told = [text for text in world.journal("note") if "ticks ignored" in text]
    assert "ticks ignored in the last minute: 1 implausible" in told


def test_what_was_ignored_is_in_the_journal_once_a_minute_when_there_was_any(begin):
    world = begin(bought=True)
    odd(world, "15.60")
    world.tick("1560")
    world.tick("1560", at=at("09:19:00"))
    world.go("09:25:00")
    assert [text for text in world.journal("note") if "ignored" in text] == [
        "ticks ignored in the last minute: 1 backwards in time, 1 implausible"
    ]
