"""What the user asks for: START, STOP, HAND_OVER, KILL. Committed before it is answered, and never forgotten."""

from __future__ import annotations

from decimal import Decimal

from squareoff.core.events import Event
from squareoff.core.types import Side, StrategyId
from squareoff.errors import RecordsUnavailable
from tests.engine.world import Kind, Mischief, plan


def test_stop_before_the_buy_ends_it_and_nobody_buys(begin):
    world = begin(plan())
    world.wish(Event.STOP)
    world.go("09:20:10")
    assert (world.run().state, world.run().entry.phase, world.run().cause) == ("stopped", "void", "stopped_by_user")
    assert world.placed() == []


def test_stop_while_bought_squares_off_and_then_stops(begin):
    world = begin(bought=True)
    world.wish(Event.STOP)
    world.go(3)
    assert (world.run().state, world.run().exposure, world.run().cause) == ("stopped", "flat", "stopped_by_user")
    assert world.traded(Side.SELL) == 50


def test_stop_while_the_entry_fills_in_part_cancels_the_rest_and_sells_the_part(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.PARTIAL, slot="E", qty=Decimal(20)))
    world.go("09:20:03")
    world.wish(Event.STOP)
    world.go(5)
    assert (world.run().state, world.run().exposure) == ("stopped", "flat")
    assert world.traded(Side.SELL) == 20


def test_stop_while_the_buy_is_unknown_is_resolved_first_then_flattened(begin):  # fault 59
    world = begin(plan())
    world.venue.push = "never"
    world.venue.add(Mischief(kind=Kind.PLACED_BUT_NO_ANSWER, slot="E"))
    world.go("09:20:02")
    world.wish(Event.STOP)
    world.go(20)
    assert (world.run().state, world.run().exposure) == ("stopped", "flat")
    assert world.traded(Side.SELL) == world.traded(Side.BUY) == 50


def test_stop_while_the_buy_is_unknown_cancels_it_when_the_order_list_shows_it_resting(begin):
    world = begin(plan(), quarantine_s=60)
    world.go("09:19:59")
    world.venue.find_down = True  # only the list of orders is answered
    world.venue.push = "never"
    world.venue.add(Mischief(kind=Kind.VISIBLE_LATE, slot="E", seconds=6))
    world.silently("09:20:04")
    world.wish(Event.STOP)
    world.silently("09:20:10")
    world.venue.find_down = False
    world.silently("09:20:20")
    assert world.book.orders()[0].status == "cancelled"
    assert (world.run().state, world.run().exposure) == ("stopped", "flat")


def test_stop_while_the_buy_is_unknown_and_never_placed_ends_failed_and_is_watched(begin):
    world = begin(plan(), quarantine_s=5)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="E"))
    world.go("09:20:02")
    world.wish(Event.STOP)
    world.go(20)
    assert world.run().outcome in ("failed", "stopped")
    assert world.run().exposure == "unknown"
    world.go("09:45:35")
    assert world.run().exposure == "flat"


def test_stop_during_the_retries_of_a_buy_ends_it_flat(begin):
    world = begin(plan())
    world.venue.never_sent = 2
    world.silently("09:19:59")
    world.go("09:20:00", every_s=0.5)
    world.silently(0.1)
    world.wish(Event.STOP)
    world.go(10)
    assert (world.run().state, world.run().exposure) == ("stopped", "flat")
    assert world.placed() == []


def test_kill_squares_off_every_run(begin):
    world = begin(plan(7), plan(8), plan(9, buy="09:30:00"), bought=True)
    for strategy in (7, 8, 9):
        world.wish(Event.KILL, strategy)
    world.go(5)
    assert [world.run(n).state for n in (7, 8, 9)] == ["stopped"] * 3
    assert [world.run(n).cause for n in (7, 8, 9)] == ["killed"] * 3
    assert world.net == 0


def test_hand_over_gives_the_position_to_the_user_and_never_sells_it(begin):
    world = begin(bought=True)
    world.wish(Event.HAND_OVER)
    world.go(2)
    assert (world.run().state, world.run().exposure) == ("stopped", "handed_over")
    world.tick("1500")
    world.silently("09:39:59")
    world.go("09:40:10")
    assert world.placed("X") == []
    assert world.net == 50


def test_hand_over_while_selling_does_nothing(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.DELAY_ANSWER, slot="X", seconds=2))
    world.tick("1539")
    world.wish(Event.HAND_OVER)
    world.go(5)
    assert world.run().outcome == "exited_by_sl"


def test_stop_while_sql_is_away_is_kept_and_nobody_buys_afterwards(begin):
    world = begin(plan())
    world.go("09:19:50")
    wish = world.wish(Event.STOP)
    assert wish
    world.silently(0.001)
    for _ in range(20):  # SQL comes and goes: down for the void, up for the "taken"
        world.sql_down = not world.sql_down
        world.go(0.3, every_s=0.3)
    world.sql_down = False
    world.go("09:20:10")
    assert world.placed() == []
    assert world.run().state == "stopped"


def test_a_stop_whose_void_cannot_be_written_is_not_taken_and_not_forgotten(begin):
    world = begin(plan())
    world.go("09:19:50")

    def no_void(call):
        if call == "void":
            raise RecordsUnavailable("only the void fails")

    world.breaks = no_void
    world.wish(Event.STOP)
    world.go("09:20:03")
    assert world.placed() == []
    world.breaks = lambda call: None
    world.go(10)
    assert world.run().state == "stopped"


def test_a_stop_that_is_taken_survives_a_crash(begin):  # hole H3
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"))
    world.wish(Event.STOP)
    world.redis.flush()
    world.go(1)
    world.crash()
    world.boot_up()
    world.go(40)
    assert (world.run().state, world.run().exposure) == ("stopped", "flat")


def test_a_stop_does_not_count_as_taken_before_what_it_changed_is_saved(begin):
    world = begin(bought=True, quarantine_s=5)
    world.venue.add(Mischief(kind=Kind.NOT_PLACED_NO_ANSWER, slot="X"))

    def no_save(call):
        if call == "save":
            raise RecordsUnavailable("only saving fails")

    world.breaks = no_save
    world.wish(Event.STOP)
    world.go(5)
    world.crash()
    world.breaks = lambda call: None
    world.boot_up()
    world.go(30)
    assert (world.run().state, world.run().exposure) == ("stopped", "flat")


def test_a_wish_whose_bell_was_lost_is_found(begin):
    world = begin(bought=True)
    world.redis.is_up = False
    world.wish(Event.STOP)
    world.go(4)
    assert world.run().outcome == "stopped"


def test_start_while_the_earlier_run_is_not_closed_is_refused_and_told(begin):
    world = begin(bought=True)
    world.wish(Event.START)
    world.go(3)
    assert len(world.runs()) == 1
    assert any("not closed" in text or "already started" in text for text in world.journal())


def test_start_on_a_finished_run_archives_it_and_makes_a_new_run(begin):
    world = begin(bought=True)
    world.tick("1539")
    world.go(3)
    assert world.run().state == "exited_by_sl"
    world.tick("1560")
    world.plans[7] = plan(buy="09:25:00")
    world.wish(Event.START)
    world.go("09:25:05")
    first, second = world.runs()
    assert (first.state, first.outcome) == ("stopped", "exited_by_sl")
    assert world.run().state == "bought"
    assert second.plan.run_id != first.plan.run_id


def test_start_while_sql_is_away_is_not_lost(begin):
    world = begin()
    world.plans[7] = plan()  # type: ignore[index]

    def no_add(call):
        if call == "add_run":
            raise RecordsUnavailable("only the new run fails")

    world.breaks = no_add
    world.wish(Event.START)
    world.go(3)
    world.breaks = lambda call: None
    world.go("09:20:05")
    assert world.run().state == "bought"


def test_a_start_told_again_after_a_crash_makes_no_second_run(begin):
    for point in ("add_run", "save", "wish_taken", "settle"):
        world = begin()
        world.plans[7] = plan()
        world.crash_at(point)
        world.wish(Event.START)
        world.go(2)
        assert not world.is_alive, point
        world.boot_up()
        world.go("09:20:05")
        assert len(world.runs()) == 1, point
        assert world.run().state == "bought", point


def test_a_start_whose_commit_was_not_answered_makes_one_run(begin):
    world = begin()
    world.plans[7] = plan()
    world.lost_commits["add_run"] = 1
    world.wish(Event.START)
    world.go("09:20:05")
    assert len(world.runs()) == 1
    assert world.run().state == "bought"


def test_a_start_that_cannot_be_marked_taken_while_the_day_goes_by_makes_no_second_run(begin):
    world = begin()
    world.plans[7] = plan()

    def not_taken(call):
        if call == "wish_taken":
            raise RecordsUnavailable("only taking fails")

    world.breaks = not_taken
    world.wish(Event.START)
    world.go("09:20:05")
    world.tick("1539")
    world.go(5)
    world.tick("1560")
    world.go(5)
    world.breaks = lambda call: None
    world.go(20)
    assert len(world.runs()) == 1


def test_a_start_taken_back_while_the_worker_was_about_to_take_it_makes_no_run(begin):
    world = begin()
    world.plans[7] = plan()

    def user_is_faster(call):
        if call == "add_run":  # the worker has read the wish, and is about to save its run
            assert world.records.take_back_start(StrategyId(7))

    world.breaks = user_is_faster
    world.wish(Event.START)
    world.breaks = lambda call: None
    world.go("09:20:05")
    assert list(world.runs()) == []
    assert any("was taken back before it was taken up" in text for text in world.journal())
    assert world.placed() == []


def test_a_start_that_was_taken_up_cannot_be_taken_back_any_more(begin):
    world = begin()
    world.plans[7] = plan()
    world.crash_at("save")  # the run is there, the wish is not marked yet
    world.wish(Event.START)
    world.go(2)
    assert not world.records.take_back_start(StrategyId(7))
    world.boot_up()
    world.wish(Event.STOP)
    world.go("09:20:05")
    assert world.run().outcome == "stopped"
    assert world.placed() == []
