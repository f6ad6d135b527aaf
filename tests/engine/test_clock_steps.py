"""Somebody sets this machine's clock while squareoff trades: forward, back, rightly, wrongly, with nobody to ask."""

from __future__ import annotations

from datetime import timedelta

import pytest

from squareoff.core.values import replace
from squareoff.errors import BrokerUnavailable
from tests.engine.world import at, plan


@pytest.fixture
def world(begin, tmp_path):
    return lambda *plans, **options: begin(*(plans or (plan(),)), clock_folder=tmp_path, **options)


def broker_is_silent(call):
    if call == "server_time":
        raise BrokerUnavailable("not answered")


def trading_time_is_ahead_s(world):
    return (world.process.clock.now() - world.now).total_seconds()


def test_a_clock_set_an_hour_forward_by_mistake_buys_nothing_early_and_sells_nothing_early(world):
    day = world()
    day.wall_ahead_s = 3600
    day.go(5)
    assert [text for text in day.urgent() if "clock is wrong" in text]
    assert trading_time_is_ahead_s(day) == 0
    day.go("09:19:59")
    assert day.placed() == []
    day.go("09:20:03")
    assert day.run().state == "bought"
    day.go("09:39:59")
    assert day.run().state == "bought"
    day.go("09:40:03")
    assert day.run().outcome == "sold"


def test_a_clock_set_back_right_after_the_buy_buys_nothing_twice_and_sells_in_time(world):
    day = world()
    day.go("09:20:02")
    day.wall_ahead_s = -600
    day.go("09:40:03")
    assert len(day.placed("E")) == 1
    assert day.run().outcome == "sold"


def test_a_clock_that_was_wrong_from_the_start_is_followed_when_it_is_set_right(world):
    day = world(clock_ahead_s=-120)
    assert [text for text in day.urgent() if "nobody can say what time it is" in text]
    day.wall_ahead_s = 0
    day.go(5)
    assert abs(trading_time_is_ahead_s(day)) < 0.01
    assert [text for text in day.journal("note") if "trading time follows" in text]
    day.go("09:20:03")
    assert day.run().state == "bought"


def test_no_run_is_made_for_a_day_that_nobody_is_sure_of_and_the_start_is_not_lost(world):
    day = world(clock_ahead_s=36000)
    day.go(60)
    assert day.runs() == []
    assert [text for text in day.urgent() if "START of strategy 7 waits" in text]
    day.wall_ahead_s = 0
    day.go(5)
    assert day.run().state == "ready"


def test_a_clock_that_is_wrong_and_stays_wrong_buys_nothing_and_says_so(world):
    day = world()
    day.crash()
    day.wall_ahead_s = -120
    day.boot_up(reboot=True)
    day.go("09:25:00")
    assert day.placed() == []
    assert [text for text in day.urgent() if "set it right" in text]
    assert day.run().state == "failed"


def test_while_nobody_outside_answers_nothing_is_bought_and_a_stop_loss_goes_on(world):
    day = world(plan(), plan(8, buy="09:25:00"))
    day.go("09:20:03")
    day.broker_ahead_s, day.ticking = None, set()
    day.wall_ahead_s = 3600
    day.silently("09:24:59")
    assert [text for text in day.urgent() if "nobody outside says" in text or "does not follow" in text]
    day.tick("1539")
    day.silently(1)
    day.tick("1539")
    assert day.run().outcome == "exited_by_sl"
    day.tick("1560")
    day.silently(8)
    assert (day.run(8).state, len(day.placed("E"))) == ("failed", 1)


def test_while_nobody_outside_answers_the_sell_comes_by_the_time_that_was_confirmed_last(world):
    day = world()
    day.go("09:20:03")
    day.broker_ahead_s, day.ticking = None, set()
    day.wall_ahead_s = 3600
    day.silently("09:39:59")
    assert day.run().state == "bought"
    day.silently("09:40:00.1")
    assert len(day.placed("X")) == 1


def test_trades_alone_confirm_a_step_too(world):
    day = world()
    day.broker_ahead_s = None
    day.crash()
    day.wall_ahead_s = -120
    day.boot_up(reboot=True)
    day.go(5)
    assert trading_time_is_ahead_s(day) == -120
    day.wall_ahead_s = 0
    day.go(6)
    assert abs(trading_time_is_ahead_s(day)) < 0.01


def test_a_single_old_trade_confirms_nothing(world):
    day = world()
    day.broker_ahead_s, day.ticking = None, set()
    day.wall_ahead_s = -600
    day.silently(2)
    day.tick(at=day.now - timedelta(seconds=600))
    day.silently(5)
    assert trading_time_is_ahead_s(day) == 0


def test_a_broker_that_does_not_answer_for_a_moment_changes_nothing(world):
    day = world()
    day.breaks = broker_is_silent
    day.go(120)
    assert not [text for text in day.urgent() if "time" in text]
    day.go("09:20:03")
    assert day.run().state == "bought"


def test_a_wrong_clock_that_was_told_keeps_no_buy_back_when_the_broker_is_silent_later(world):
    day = world()
    day.wall_ahead_s = 3600
    day.go(5)
    day.breaks = broker_is_silent
    day.go("09:20:03")
    assert day.run().state == "bought"


def test_the_next_process_goes_on_from_the_time_that_was_confirmed(world):
    day = world()
    day.go("09:20:03")
    day.wall_ahead_s = 3600
    day.go(5)
    day.crash()
    day.boot_up()
    day.go(2)
    assert trading_time_is_ahead_s(day) == 0
    day.go("09:39:59")
    assert day.run().state == "bought"


def test_after_a_reboot_the_machine_has_only_its_own_clock_until_somebody_answers(world):
    day = world()
    day.go("09:20:03")
    day.crash()
    day.wall_ahead_s = 30
    day.boot_up(reboot=True)
    day.go(2)
    assert trading_time_is_ahead_s(day) == 30
    assert [text for text in day.urgent() if "nobody can say what time it is" in text]


def test_a_pause_before_another_try_is_as_long_as_it_was_when_the_clock_is_set_back(world):
    day = world()
    run = replace(day.run(), retry_at=at("09:25:09"), version=day.run().version + 1)
    day.engine.put(run)
    day.engine.time_moved(timedelta(seconds=-600))
    assert day.run().retry_at == at("09:15:09")


def test_small_steps_are_told_and_large_ones_alarm(world):
    day = world()
    day.wall_ahead_s = 1.0
    day.go(3)
    assert [text for text in day.journal("note") if "clock was set 1.00 s ahead" in text]
    assert day.urgent() == []
