"""An exit that rests or is refused is chased until the fills prove flat: cancel, proof of the cancel, then the rest at
a lower price. Never two exits at once.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

from squareoff.adapters.brokers.paper.book import Placed, Refused
from squareoff.core.events import Event
from squareoff.core.plausible import PriceLimits
from squareoff.core.types import Side
from tests.engine.world import INFY, Kind, Mischief, at, plan, short


def exits(world):
    """When each exit reached the broker (seconds after 09:20:10), which one, how many, at what price."""
    return [
        (
            round((record.at - at("09:20:10")).total_seconds(), 1),
            short(record.order.client_order_id),
            int(record.order.qty),
            "market" if record.order.limit_price is None else f"{record.order.limit_price:.2f}",
        )
        for record in world.ledger
        if isinstance(record, Placed | Refused) and record.order.side is Side.SELL
    ]


def falls_and_nothing_fills(begin, **options):
    """09:20:10: the stop-loss is hit, and then nobody trades."""
    world = begin(bought=True, **options)
    world.silently("09:20:10")
    world.feed_says("1539")
    return world


def test_an_exit_that_rests_for_three_seconds_is_cancelled_and_sent_again_half_a_percent_lower(begin):
    world = falls_and_nothing_fills(begin)
    world.silently(4)
    assert [order[1:] for order in exits(world)] == [("X01", 50, "market"), ("X02", 50, "1531.30")]
    assert 3 <= exits(world)[1][0] <= 3.6
    world.tick("1538")
    world.silently(0.2)
    assert (world.run().outcome, world.traded(Side.SELL), world.net) == ("exited_by_sl", 50, 0)


def test_what_is_left_of_an_exit_that_filled_in_part_is_chased_alone(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="X", qty=Decimal(20)))
    world.silently("09:20:10")
    world.tick("1539")
    world.go("09:20:15")
    assert [order[1:] for order in exits(world)] == [("X01", 50, "market"), ("X02", 30, "1531.30")]
    assert (world.run().outcome, world.traded(Side.SELL)) == ("exited_by_sl", 50)


def test_a_fill_during_the_cancel_wins_and_nothing_is_sold_twice(begin):
    world = falls_and_nothing_fills(begin)
    world.venue.fill_on_cancel = True
    world.silently(5)
    assert len(exits(world)) == 1
    assert (world.run().outcome, world.net) == ("exited_by_sl", 0)


def test_nothing_is_sent_beside_an_exit_whose_cancel_is_not_proven(begin):
    world = falls_and_nothing_fills(begin)
    world.venue.cancels_lost = 3
    world.silently(6)
    assert len(exits(world)) == 1
    world.silently(2)
    assert [order[1] for order in exits(world)] == ["X01", "X02"]


def test_a_crash_between_cancel_and_answer_leaves_one_exit_and_the_next_process_goes_on(begin):
    world = falls_and_nothing_fills(begin)
    world.crash_at("cancelled")
    world.silently(4)
    assert not world.is_alive
    world.boot_up()
    world.silently(2)
    assert [order[1:3] for order in exits(world)] == [("X01", 50), ("X02", 50)]
    assert world.run().exit.tries == 0
    world.tick("1538")
    world.silently(0.2)
    assert (world.run().outcome, world.net) == ("exited_by_sl", 0)


def test_our_own_cancels_are_no_failures_and_a_person_is_told_that_the_sell_does_not_fill(begin):
    world = falls_and_nothing_fills(begin)
    world.silently(50)
    assert world.run().state == "sl_pending"
    assert world.run().exit.tries == 0
    assert any("the SELL does not fill" in text for text in world.urgent())
    pauses = [after - before for (before, *_), (after, *_) in pairwise(exits(world))]
    assert all(3 <= pause <= 3.6 for pause in pauses)
    assert len(pauses) > 12


def test_after_twenty_of_them_the_pace_is_that_of_a_rescue_so_that_order_ids_last_for_a_session(begin):
    world = falls_and_nothing_fills(begin)
    world.silently(180)
    later = [order[0] for order in exits(world)][21:]
    assert all(5 <= after - before <= 5.6 for before, after in pairwise(later))
    session_s = 375 * 60
    assert 21 + session_s / 5 < 4 * 36 * 36


def test_a_stop_loss_does_not_wait_for_a_sell_that_rests_at_its_limit(begin):
    world = begin(bought=True)
    world.silently("09:40:04")  # SELL time; the first one rests and is replaced
    assert [order[1] for order in exits(world)] == ["X01", "X02"]
    world.feed_says("1539")
    world.silently(0.3)
    assert [order[1] for order in exits(world)] == ["X01", "X02", "X03"]
    world.tick("1539")
    world.silently(0.2)
    assert (world.run().outcome, world.net) == ("exited_by_sl", 0)


def test_a_refused_exit_is_not_sent_again_unchanged(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.REFUSE, slot="X", times=3, reason="circuit limits"))
    world.silently("09:20:10")
    world.feed_says("1539")
    world.silently(2.5)
    assert [order[1:] for order in exits(world)] == [
        ("X01", 50, "market"),
        ("X02", 50, "1531.30"),
        ("X03", 50, "1523.60"),
        ("X04", 50, "1508.20"),
    ]


def test_no_exit_is_offered_below_the_price_band(begin):
    world = begin(bought=True)
    world.limits[INFY] = PriceLimits(Decimal("1535.00"), Decimal("1700.00"))
    world.silently("09:20:10")
    world.feed_says("1539")
    world.silently(8)
    assert [order[3] for order in exits(world)] == ["market", "1535.00", "1535.00"]


def test_after_the_close_a_resting_exit_is_left_to_the_venue_and_the_rescue_is_slow(begin):
    world = begin(plan(sell="09:44:58"))
    world.go("09:20:03")
    world.silently("09:44:59")
    world.silently("09:45:10")
    resting = len(exits(world))
    world.silently("09:46:00")
    assert len(exits(world)) == resting
    world.venue.add(Mischief(kind=Kind.REFUSE, slot="X", times=99, reason="market closed"))
    for report in world.book.cancel(world.run().exit.current.client_order_id, world.now, reason="end of day"):
        world.venue.tell(report)
    world.silently("09:46:30")
    assert (world.run().state, world.run().exposure) == ("failed", "long")
    before = len(exits(world))
    world.silently("09:56:30")
    assert len(exits(world)) - before == 2


def test_a_stop_by_the_user_is_chased_too(begin):
    world = begin(bought=True)
    world.silently("09:20:10")
    world.wish(Event.STOP)
    world.silently(4.5)
    assert [order[3] for order in exits(world)] == ["market", "1552.20"]
    world.tick("1560")
    world.silently(0.5)
    assert (world.run().state, world.net) == ("stopped", 0)


def test_a_worker_that_lost_the_account_cancels_nothing_of_its_successors(begin):
    world = falls_and_nothing_fills(begin)
    world.venue.cancels_lost = 100
    world.silently(4)
    assert "cancel X01" in world.calls
    del world.here.holders[plan().account]  # another process has it, and that exit is its own now
    world.calls.clear()
    world.silently(10)
    assert [call for call in world.calls if call.startswith(("cancel", "submit"))] == []
    assert any("lost the account" in text for text in world.urgent())
