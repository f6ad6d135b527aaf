"""The BUY: once, in time, or not at all."""

from __future__ import annotations

from decimal import Decimal

import pytest

from squareoff.core.events import Event, Signal, Source
from squareoff.core.strategy import Timing
from squareoff.core.types import Side, Tick
from tests.engine.world import INFY, Kind, Mischief, at, percent_stop, plan, refusals


def test_a_day_buys_once_at_its_time_sells_once_at_its_time_and_is_flat(begin):
    world = begin(plan())
    world.go("09:20:03")
    assert world.run().state == "bought"
    world.silently("09:39:58")
    world.go("09:40:03")
    assert (world.run().state, world.run().exposure) == ("sold", "flat")
    assert [(when, what) for when, what in world.venue.submits] == [
        (at("09:20:00.02"), "E01"),
        (at("09:40:00.02"), "X01"),
    ]


def test_an_order_that_was_placed_without_an_answer_is_found_and_never_sent_again(begin):  # fault 16, H1
    world = begin(plan())
    world.venue.push = "never"
    world.venue.add(Mischief(kind=Kind.PLACED_BUT_NO_ANSWER, slot="E"))
    world.go("09:20:20")
    assert world.run().state == "bought"
    assert len(world.placed("E")) == 1


def test_an_order_not_placed_without_an_answer_is_given_up_after_the_quarantine_and_never_sent_again(begin):  # 17
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="E"))
    world.go("09:20:15")
    assert (world.run().state, world.run().exposure) == ("running", "unknown")
    world.go("09:20:50")
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "outcome_unknown", "unknown")
    assert [what for _, what in world.venue.submits] == ["E01"]
    world.go("09:45:35")
    assert (world.run().outcome, world.run().exposure) == ("failed", "flat")


def test_an_order_that_shows_only_after_90_s_is_adopted_and_nothing_else_was_sent(begin):  # fault 18
    world = begin(plan(), quarantine_s=120)
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="E", seconds=90))
    world.go("09:21:20")
    assert world.run().state == "running"
    world.go("09:21:40")
    assert world.run().state == "bought"
    assert len(world.placed("E")) == 1


def test_a_connection_refused_twice_buys_at_the_third_try_of_the_same_order(begin):  # fault 20
    world = begin(plan())
    world.venue.never_sent = 2
    world.go("09:20:03")
    assert world.run().state == "bought"
    assert world.venue.submits == [(at("09:20:00.02"), "E01"), (at("09:20:00.29"), "E01"), (at("09:20:00.81"), "E01")]


def test_a_buy_is_tried_four_times_and_no_more(begin):
    world = begin(plan())
    world.venue.never_sent = 99
    world.go("09:20:30")
    assert len(world.venue.submits) == 4
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "retries_exhausted", "flat")


def test_a_buy_refused_for_good_is_not_retried_and_the_trader_holds_nothing(begin):  # fault 21
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.REFUSE, slot="E", reason="margin"))
    world.go("09:20:30")
    assert refusals(world) == 1
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "entry_refused", "flat")
    assert world.run().is_closed


def test_a_buy_refused_for_the_moment_is_tried_again_under_a_new_id(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.BUSY, slot="E", times=2))
    world.go("09:20:03")
    assert [what for _, what in world.venue.submits] == ["E01", "E02", "E03"]
    assert world.run().state == "bought"


def test_retries_of_a_buy_end_with_its_grace(begin):
    world = begin(plan(timing=Timing(grace_s=0.6)))
    world.venue.never_sent = 99
    world.go("09:20:30")
    assert [when for when, _ in world.venue.submits] == [at("09:20:00.02"), at("09:20:00.29")]
    assert (world.run().state, world.run().exposure) == ("failed", "flat")


def test_too_many_requests_is_no_try_and_the_buy_is_skipped_when_its_grace_is_over(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.RATE_LIMIT, slot="E", times=None, seconds=1))
    world.go("09:20:30")
    assert 4 < len(world.venue.submits) < 7
    assert (world.run().state, world.run().exposure) == ("failed", "flat")


def test_too_many_requests_for_two_seconds_still_buys(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.RATE_LIMIT, slot="E", times=2, seconds=1))
    world.go("09:20:05")
    assert world.run().state == "bought"
    assert world.run().entry.tries == 0


def test_a_login_that_is_not_valid_fails_the_buy_flat_with_an_alarm(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.TOKEN_INVALID, slot="E"))
    world.go("09:20:30")
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "token_invalid", "flat")
    assert world.alerts
    assert world.run().retry_at is None


@pytest.mark.parametrize("kind", [Kind.PLACED_BUT_TORN_ANSWER, Kind.PLACED_BUT_ERROR])
def test_a_torn_or_an_error_answer_is_neither_success_nor_a_reason_to_send_again(begin, kind):  # faults 28, 22
    world = begin(plan())
    world.venue.push = "never"
    world.venue.add(Mischief(kind=kind, slot="E"))
    world.go("09:20:30")
    assert world.run().state == "bought"
    assert len(world.placed("E")) == 1


def test_a_part_filled_and_the_rest_cancelled_by_the_venue_is_bought_and_exactly_that_is_sold(begin):  # fault 24
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20), cancel_rest=True))
    world.go("09:20:05")
    assert (world.run().state, world.run().remaining_qty) == ("bought", 20)
    world.silently("09:39:58")
    world.go("09:40:03")
    assert world.run().state == "sold"
    assert world.traded(Side.SELL) == 20


def test_an_entry_that_fills_in_part_is_cancelled_after_its_life_and_the_part_is_bought(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:08")
    assert (world.run().state, world.run().entry.filled_qty) == ("running", 20)
    world.go("09:20:12")
    assert (world.run().state, world.run().remaining_qty) == ("bought", 20)
    assert world.book.find(world.placed("E")[0].order.client_order_id).status == "cancelled"


def test_a_fill_that_overtakes_the_cancel_is_the_position(begin):
    world = begin(plan())
    world.go("09:19:59")
    world.venue.fill_on_cancel = True
    world.silently("09:20:15")
    assert (world.run().state, world.run().remaining_qty, world.net) == ("bought", 50, 50)


def test_a_cancel_without_an_answer_is_asked_again_until_it_is_confirmed(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.venue.cancels_lost = 4
    world.go("09:20:12")
    assert world.run().state == "running"
    world.go("09:20:30")
    assert (world.run().state, world.run().remaining_qty) == ("bought", 20)


def test_an_entry_that_never_fills_ends_flat(begin):
    world = begin(plan())
    world.go("09:19:59")
    world.silently("09:20:15")
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "entry_unfilled", "flat")


def test_an_entry_rejected_after_it_was_accepted_ends_flat(begin):
    world = begin(plan())
    world.go("09:19:59")
    world.venue.add(Mischief(kind=Kind.REJECT_AFTER_ACCEPT, slot="E", seconds=0.5, reason="RMS"))
    world.silently("09:20:02")
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "entry_refused", "flat")


def test_a_price_at_the_stop_while_the_entry_is_open_is_latched_and_the_part_that_filled_is_sold(begin):  # H9
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:03")
    world.tick("1539.95")
    world.tick("1560")  # it recovers at once
    world.go("09:20:06")
    assert (world.run().state, world.run().outcome) == ("exited_by_sl", "exited_by_sl")
    assert world.traded(Side.BUY) == world.traded(Side.SELL) == 20


def test_a_percent_stop_is_compared_with_the_lowest_price_seen_since_the_buy_was_sent(begin):
    world = begin(plan(stop_loss=percent_stop("1")))
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:03")
    world.tick("1500")
    world.tick("1560")
    world.go("09:20:09")
    assert world.run().state == "running"  # the level needs the average fill
    world.go("09:20:14")
    assert world.run().outcome == "exited_by_sl"
    assert world.run().stop_price == Decimal("1544.40")


def test_a_percent_stop_that_was_not_reached_does_not_sell(begin):
    world = begin(plan(stop_loss=percent_stop("1")))
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:03")
    world.tick("1550")
    world.go("09:20:14")
    assert world.run().state == "bought"


def test_no_buy_is_retried_after_a_stop_was_seen(begin):
    world = begin(plan())
    world.venue.never_sent = 1
    world.go("09:20:00", every_s=0.5)
    world.silently(0.1)
    world.tick("1539")
    world.tick("1560")
    world.go("09:20:20")
    assert len(world.venue.submits) == 1
    assert (world.run().state, world.run().exposure) == ("failed", "flat")


def test_a_stop_seen_while_the_buy_is_on_its_way_to_the_wire_keeps_it_from_leaving(begin):
    world = begin(plan(), latency_s=0.2)
    world.go("09:20:00", every_s=0.5)
    world.silently(0.1)  # the BUY waits for its connection
    world.tick("1539")
    world.go("09:20:20")
    assert world.placed("E") == []
    assert (world.run().state, world.run().exposure) == ("failed", "flat")


def test_a_price_at_or_below_the_stop_at_buy_time_skips_the_buy(begin):  # H20
    world = begin(plan())
    world.go("09:19:58")
    world.tick("1540")
    world.go("09:20:20")
    assert world.placed() == []
    assert world.run().cause == "stop_loss_not_below_price"


def test_without_a_fresh_price_the_first_tick_within_the_grace_decides(begin):
    world = begin(plan())
    world.go("09:19:50")
    world.feed_dead = world.quotes_down = True
    world.silently("09:20:03")
    assert world.placed() == []
    world.feed_dead = False
    world.silently(1.5)  # connected again, but this connection has told no price yet
    assert world.placed() == []
    world.tick("1561")
    world.go(2)
    assert world.run().state == "bought"


def test_without_any_fresh_price_in_the_grace_the_buy_is_skipped(begin):
    world = begin(plan())
    world.go("09:19:50")
    world.feed_dead = world.quotes_down = True
    world.silently("09:20:06")
    world.feed_dead = False
    world.go(5)
    assert world.placed() == []
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "stale_price", "flat")


def test_a_symbol_in_which_nobody_trades_is_bought_at_its_time_while_its_feed_lives(begin):
    world = begin(plan())
    world.go("09:19:00")
    world.silently("09:20:00.5")
    world.tick("1560")
    assert world.placed("E")[0].at == at("09:20:00.02")


def test_a_price_told_before_the_feed_was_lost_and_not_since_is_too_old_to_buy_on(begin):
    world = begin(plan())
    world.go("09:19:50")
    world.quotes_down = True
    world.process.feed.drop()
    world.silently("09:20:04.9")  # it is back, and lives, but tells nothing of this symbol
    assert len(world.feed_connects) > 1
    assert world.placed() == []


def test_while_the_feed_is_silent_a_quote_is_fresh_enough_to_buy_on(begin):
    world = begin(plan())
    world.go("09:19:40")
    world.feed_dead = True
    world.silently("09:20:02")
    assert len(world.placed("E")) == 1
    assert [text for text in world.urgent() if "feed is silent" in text]


def test_a_price_that_is_doubted_is_not_made_fresh_by_a_living_feed(begin):
    world = begin(plan())
    world.go("09:19:50")
    world.quotes_down = True
    world.odd_tick(Tick(INFY, Decimal(900), world.now))
    world.silently("09:20:04.9")
    assert world.placed() == []


def test_a_buy_event_told_five_times_buys_once(begin):  # fault 57
    world = begin(plan())
    world.go("09:20:00")
    for _ in range(5):
        signal = Signal(event=Event.BUY, at=world.now, source=Source.TIMER, price=Decimal(1560))
        world.engine.notify(world.run().plan.run_id, signal)
    world.go(5)
    assert len(world.placed("E")) == 1
    assert world.run().state == "bought"


def test_a_late_fill_of_an_order_given_up_is_sold_at_once_and_told(begin):
    world = begin(plan(), quarantine_s=5)
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="E", seconds=60))
    world.go("09:20:15")
    assert (world.run().state, world.run().exposure) == ("failed", "unknown")
    world.go("09:21:10")
    assert (world.run().state, world.run().exposure) == ("failed", "flat")
    assert world.traded(Side.SELL) == world.traded(Side.BUY) == 50
    assert any("filled after all" in text for text in world.urgent())


def test_a_late_order_that_still_rests_is_cancelled(begin):
    world = begin(plan(), quarantine_s=5)
    world.venue.add(
        Mischief(kind=Kind.VISIBLE_LATE, slot="E", seconds=60), Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(1))
    )
    world.go("09:19:59")
    world.silently("09:20:30")
    assert (world.run().state, world.run().exposure) == ("failed", "unknown")
    world.silently("09:21:10")
    order = world.placed("E")[0].order.client_order_id
    assert world.book.find(order).status == "cancelled"
    assert (world.run().state, world.run().exposure) == ("failed", "flat")


def test_duplicate_and_reordered_news_of_the_broker_changes_nothing(begin):
    for push in ("twice", "shuffled", "late", "never"):
        world = begin(plan())
        world.venue.push = push
        world.go("09:20:05")
        assert world.run().state == "bought", push
        world.tick("1530")
        world.go(5)
        assert world.run().state == "exited_by_sl", push
        assert sum("filled at" in text for text in world.journal("fill")) == 2


def test_news_that_overtakes_the_answer_is_told_once(begin):
    world = begin(plan())
    world.venue.add(
        Mischief(kind=Kind.DELAY_ANSWER, slot="E", seconds=2), Mischief(kind=Kind.DELAY_ANSWER, slot="X", seconds=2)
    )
    world.go("09:20:05")
    assert world.run().state == "bought"
    world.tick("1530")
    world.go(5)
    assert world.run().state == "exited_by_sl"
    assert len(world.journal("fill")) == 2
    assert len(world.placed("X")) == 1


def test_a_sell_time_that_comes_while_the_entry_is_open_cancels_the_rest_and_sells_what_filled(begin):
    world = begin(plan(sell="09:20:05"))
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:08")
    assert world.run().state == "sold"
    assert world.traded(Side.SELL) == 20
