"""The way out: once, never more than is there, and never given up."""

from __future__ import annotations

from decimal import Decimal

import pytest

from squareoff.core.events import Event
from squareoff.core.orders import client_order_id
from squareoff.core.types import Side, SlotName
from squareoff.ports import Idempotency
from tests.engine.world import Kind, Mischief, at, plan


def test_the_stop_loss_leaves_by_latch_mark_and_bytes_with_no_write_to_sql_before(begin):
    world = begin(bought=True)
    world.calls.clear()
    world.tick("1539.95")
    world.go(0.5)
    order = [c for c in world.calls if c not in ("wishes", "positions", "orders")]
    assert order[0] == "latch"
    assert [c for c in order if c != "claim STOPLOSS"][1:4] == ["submit X01", "mark X01", "save"]
    assert order.index("claim STOPLOSS") < order.index("save")


def test_out_at_the_stop(begin):
    world = begin(bought=True)
    world.tick("1540.00")
    world.go(2)
    assert (world.run().state, world.run().cause, world.run().exposure) == ("exited_by_sl", "stop_loss", "flat")


def test_a_price_that_recovers_does_not_bring_a_stop_back(begin):
    world = begin(bought=True)
    world.venue.never_sent = 2
    world.tick("1539")
    world.tick("1600")
    world.go(5)
    assert world.run().outcome == "exited_by_sl"


def test_sell_time_and_a_stop_tick_in_the_same_millisecond_are_one_exit_by_the_stop(begin):  # fault 56
    world = begin(bought=True)
    world.silently("09:40:00")
    world.tick("1539")
    world.go(3)
    assert len(world.placed("X")) == 1
    assert (world.run().state, world.run().cause) == ("exited_by_sl", "stop_loss")


def test_a_stop_during_a_slow_sell_overrides_it_and_does_not_sell_again(begin):  # H2, H5
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.DELAY_ANSWER, slot="X", seconds=2))
    world.silently("09:40:00.5")
    world.tick("1539")
    world.go(5)
    assert len(world.placed("X")) == 1
    assert world.run().outcome == "exited_by_sl"


def test_a_stop_does_not_wait_for_the_pause_of_a_refused_sell(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.BUSY, slot="X", times=3))
    world.silently("09:40:01")
    assert world.run().state == "sell_pending"
    tries = len(world.venue.submits)
    world.tick("1539")
    world.silently(0.1)
    assert len(world.venue.submits) == tries + 1
    world.go(3)
    assert world.run().outcome == "exited_by_sl"


@pytest.mark.parametrize(
    "kind", [Kind.PLACED_BUT_NO_ANSWER, Kind.PLACED_BUT_ERROR, Kind.PLACED_BUT_TORN_ANSWER, Kind.DELAY_ANSWER]
)
def test_an_exit_without_a_clear_answer_is_looked_up_and_never_sent_again(begin, kind):  # fault 22
    world = begin(bought=True)
    world.venue.push = "never"
    world.venue.add(Mischief(kind=kind, slot="X", seconds=2 if kind is Kind.DELAY_ANSWER else None))
    world.tick("1539")
    world.go(30)
    assert world.run().outcome == "exited_by_sl"
    assert len(world.placed("X")) == 1


def test_an_exit_without_a_clear_answer_is_told_at_once(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"))
    world.tick("1539")
    world.go(5)
    assert world.urgent()


def test_an_exit_proven_not_placed_is_the_same_order_again(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"))
    world.tick("1539")
    world.go(15)
    assert world.run().state == "sl_pending"
    world.go(20)
    assert world.run().outcome == "exited_by_sl"
    assert [what for _, what in world.venue.submits] == ["E01", "X01", "X01"]


def test_an_exit_visible_late_is_adopted(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="X", seconds=15))
    world.tick("1539")
    world.go(40)
    assert world.run().outcome == "exited_by_sl"
    assert len(world.placed("X")) == 1


def test_an_exit_that_executed_unseen_past_the_quarantine_is_not_sent_again_and_the_alarm_rings(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="X", seconds=200))
    world.tick("1539")
    world.go(40)
    assert len(world.placed("X")) == 1
    assert world.run().state == "failed"
    assert world.urgent()
    world.go(240)
    assert (world.run().state, world.run().exposure) == ("failed", "flat")


def test_a_refused_exit_is_tried_after_a_quarter_a_half_and_one_second_then_every_five_until_sold(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.REFUSE, slot="X", times=6, reason="circuit"))
    world.silently("09:20:10")
    world.tick("1539")
    world.go(2.5, every_s=0.5)
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "exit_refused", "long")
    assert any("you hold shares" in text for text in world.urgent())
    world.go(20)
    assert (world.run().state, world.run().exposure) == ("failed", "flat")
    began = at("09:20:10.02")
    after_s = [round((when - began).total_seconds(), 2) for when, what in world.venue.submits if what[0] == "X"]
    assert after_s == [0, 0.29, 0.83, 1.87, 6.91, 11.95, 16.99]
    assert [what for _, what in world.venue.submits][1:] == [f"X0{n}" for n in range(1, 8)]


def test_an_exit_rejected_after_it_was_accepted_keeps_the_same_pauses(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.REJECT_AFTER_ACCEPT, slot="X", times=2, seconds=0.1, reason="RMS"))
    world.silently("09:20:10")
    world.tick("1539")
    world.silently(0.9)
    world.go(3)
    assert world.run().outcome == "exited_by_sl"
    began = at("09:20:10.02")
    after_s = [round((when - began).total_seconds(), 2) for when, what in world.venue.submits if what[0] == "X"]
    assert after_s[0] == 0
    assert after_s[1] >= 0.35
    assert after_s[2] >= after_s[1] + 0.6


def test_while_a_position_is_exposed_the_alarm_rings_again_every_minute(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.REFUSE, slot="X", times=None, reason="circuit"))
    world.tick("1539")
    world.go(10)
    told = len(world.urgent())
    assert told
    world.go(190)
    assert told + 3 <= len(world.urgent()) <= told + 4
    assert world.run().exposure == "long"
    world.venue.script.clear()
    world.go(10)
    assert world.run().exposure == "flat"
    told = len(world.urgent())
    world.go(180)
    assert len(world.urgent()) == told


def test_a_login_that_expired_is_told_and_the_exit_leaves_soon_after_the_next_login(begin):  # fault 30
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.TOKEN_INVALID, slot="X", times=None))
    world.tick("1539")
    world.go(60)
    assert (world.run().cause, world.run().exposure) == ("token_invalid", "long")
    world.venue.script.clear()
    world.go(8)
    assert world.run().exposure == "flat"


def test_too_many_requests_for_ten_seconds_counts_no_try_and_the_stop_leaves_when_it_may(begin):  # fault 32
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.RATE_LIMIT, slot="X", times=10, seconds=1))
    world.tick("1539")
    world.go(15)
    assert world.run().outcome == "exited_by_sl"
    assert world.run().exit.tries == 0


def test_exits_have_a_part_of_the_requests_that_entries_cannot_use(begin):  # H23
    entries = [plan(n, buy="09:20:10", stop_loss=None, quantity=1) for n in range(10, 30)]
    world = begin(plan(), *entries, orders_per_s=10)
    world.go("09:20:10", every_s=0.5)
    world.tick("1539")
    world.silently(0.3)
    exits = [when for when, what in world.venue.submits if what == "X01"]
    assert exits
    assert exits[0] <= at("09:20:10.05")


def test_an_exit_that_fills_in_part_and_is_cancelled_by_the_venue_sells_the_rest(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="X", qty=Decimal(20), cancel_rest=True))
    world.tick("1539")
    world.go(5)
    assert world.run().outcome == "exited_by_sl"
    assert [int(p.order.qty) for p in world.placed("X")] == [50, 30]


def test_two_fills_of_an_exit_are_told_once_each(begin):
    world = begin(bought=True)
    world.venue.push = "twice"
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="X", qty=Decimal(20), cancel_rest=True))
    world.tick("1539")
    world.go(5)
    assert len(world.journal("fill")) == 3


def test_if_find_is_not_answered_nothing_is_concluded(begin):
    world = begin(bought=True, quarantine_s=5)
    world.venue.push, world.venue.find_down, world.venue.orders_down = "never", True, True
    world.venue.add(Mischief(kind=Kind.PLACED_BUT_NO_ANSWER, slot="X"))
    world.tick("1539")
    world.go(30)
    assert world.run().state == "sl_pending"
    assert len(world.placed("X")) == 1
    world.venue.find_down = world.venue.orders_down = False
    world.go(10)
    assert world.run().outcome == "exited_by_sl"


def test_if_positions_are_not_answered_an_exit_never_seen_is_neither_sent_again_nor_given_up(begin):
    world = begin(bought=True, quarantine_s=5)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"))
    world.venue.positions_down = True
    world.tick("1539")
    world.go(40)
    assert world.run().state == "sl_pending"
    world.venue.positions_down = False
    world.go(10)
    assert world.run().outcome == "exited_by_sl"
    assert len(world.placed("X")) == 1


def test_absurd_and_backward_ticks_decide_nothing_and_the_feed_lives_on(begin):  # fault 58, H16
    world = begin(bought=True)
    for price in ("0", "-1", "NaN", "sNaN", "Infinity"):
        world.tick(price)
    world.tick("1530", at=at("09:19:00"))
    world.tick("1530", symbol="NSE:OTHER")
    world.tick("1560")
    world.go(3)
    assert world.run().state == "bought"
    assert sum(world.process.listener.ignored.values()) >= 6
    world.tick("1539")
    world.go(2)
    assert world.run().outcome == "exited_by_sl"


def test_a_tick_dated_in_the_future_does_not_make_the_feed_deaf(begin):
    world = begin(bought=True)
    world.tick("1560", at=at("23:00:00"))
    world.tick("1539")
    world.go(2)
    assert world.run().outcome == "exited_by_sl"


def test_a_feed_that_is_silent_while_a_stop_is_armed_is_told(begin):
    world = begin(bought=True)
    world.feed_dead = True
    world.go(8)
    assert any("feed" in text for text in world.urgent())


def test_a_sell_never_expires_while_bought(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.REFUSE, slot="X", times=8, reason="auction"))
    world.silently("09:39:58")
    world.go("09:44:00")
    assert world.run().exposure == "flat"


def test_the_position_is_sold_the_moment_it_is_proven_if_the_stop_was_hit_before(begin):
    world = begin(plan())
    world.venue.push = "never"
    world.venue.add(Mischief(kind=Kind.PLACED_BUT_NO_ANSWER, slot="E"))
    world.go("09:20:01")
    world.tick("1539")
    world.tick("1600")
    world.go(15)
    assert world.run().outcome == "exited_by_sl"


def test_an_exception_of_ours_in_one_run_is_told_and_stops_no_other_run(begin):
    world = begin(plan(7), plan(8, stop_loss=None), bought=True)
    world.errors_expected = True

    def breaks(call):
        if call == "claim STOPLOSS" and not done:
            done.append(call)
            raise ZeroDivisionError("a bug")

    done: list[str] = []
    world.breaks = breaks
    world.tick("1539")
    world.go(10)
    assert any("a bug" in a.text for a in world.alerts)
    assert [world.run(n).outcome for n in (7, 8)] == ["exited_by_sl"] * 2  # the broken one is worked on again


def test_a_bug_between_the_decision_and_the_send_does_not_leave_the_stop_unsent(begin):
    world = begin(bought=True)
    world.errors_expected = True
    done: list[str] = []

    def breaks(call):
        if call == "submit X01" and not done:
            done.append(call)
            raise ZeroDivisionError("a bug")

    world.breaks = breaks
    world.tick("1539")
    world.go(40)
    assert world.run().outcome == "exited_by_sl"


def test_an_exit_can_be_tried_every_five_seconds_for_a_whole_session(begin):
    ids = {client_order_id("A" * 10, slot, n) for slot in SlotName for n in range(1, 5000)}
    assert len(ids) == 2 * 4999
    assert {len(one) for one in ids} == {15}


def test_a_stop_wish_while_sold_by_the_stop_does_not_sell_twice(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.DELAY_ANSWER, slot="X", seconds=2))
    world.tick("1539")
    world.wish(Event.STOP)
    world.wish(Event.KILL)
    world.go(10)
    assert world.run().outcome == "exited_by_sl"
    assert world.traded(Side.SELL) == 50


def test_an_exit_sent_again_and_then_refused_stays_the_same_order(begin):  # hole H7
    world = begin(bought=True, quarantine_s=5)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"), Mischief(kind=Kind.BUSY, slot="X", times=1))
    world.tick("1539")
    world.go(20)
    assert world.run().outcome == "exited_by_sl"
    assert [what for _, what in world.venue.submits][1:] == ["X01", "X01", "X01"]


def test_a_venue_that_wants_unique_ids_takes_a_second_send_for_the_first_order(begin):  # fault 26
    world = begin(bought=True, quarantine_s=5, idempotency=Idempotency.ENFORCED)
    world.venue.push = "never"
    world.venue.positions_lag_s = 1000
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="X", seconds=60))
    world.venue._positions[:] = [(at("09:00:00"), world.book.positions())]
    world.tick("1539")
    world.go(15)
    assert len(world.placed("X")) == 1
    assert world.run().outcome == "exited_by_sl"
