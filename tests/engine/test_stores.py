"""Redis may vanish and SQL may be away: a stop sells all the same, a BUY waits."""

from __future__ import annotations

from collections import Counter

from squareoff.core.events import Event
from squareoff.core.types import Side
from tests.engine.world import Kind, Mischief, at, plan


def test_a_flushed_redis_is_noticed_within_a_second_and_rebuilt_and_the_stop_still_fires(begin):  # fault 34
    world = begin(bought=True)
    world.redis.flush()
    world.go(1)
    assert any("rebuilt" in text for text in world.journal("redis"))
    view = world.loop.complete(world.process.runtime._store.look(plan().account))
    assert view.runtimes[7]["state"] == "bought"
    world.tick("1539")
    world.go(2)
    assert world.run().outcome == "exited_by_sl"


def test_a_flush_between_the_lock_and_the_send_buys_once(begin):  # fault 35
    world = begin(plan())
    world.go("09:19:59")
    flushed = []

    def breaks(call):
        if call == "licence" and not flushed:
            flushed.append(call)
            world.redis.flush()

    world.breaks = breaks
    world.go("09:20:05")
    assert flushed
    assert len(world.placed("E")) == 1
    assert world.run().state == "bought"


def test_with_redis_down_for_minutes_a_stop_sells(begin):  # fault 40
    world = begin(bought=True)
    world.redis.is_up = False
    world.go(30)
    world.tick("1539")
    world.go(2)
    assert world.run().outcome == "exited_by_sl"
    world.redis.is_up = True
    world.go(3)
    view = world.loop.complete(world.process.runtime._store.look(plan().account))
    assert view.runtimes[7]["state"] == "exited_by_sl"


def test_with_redis_down_a_buy_waits_and_is_skipped_after_its_grace(begin):
    world = begin(plan())
    world.redis.is_up = False
    world.go("09:20:10")
    assert world.placed() == []
    assert (world.run().state, world.run().exposure) == ("failed", "flat")


def test_with_redis_back_within_the_grace_the_buy_is_made(begin):
    world = begin(plan())
    world.redis.is_up = False
    world.go("09:20:03")
    assert world.placed() == []
    world.redis.is_up = True
    world.go("09:20:08")
    assert world.run().state == "bought"
    assert len(world.placed("E")) == 1


def test_redis_whose_answers_are_lost_stops_no_exit(begin):
    world = begin(bought=True)
    world.redis.loses_replies = True
    world.tick("1539")
    world.go(3)
    assert world.run().outcome == "exited_by_sl"
    assert len(world.placed("X")) == 1


def test_a_busy_lock_discards_nothing(begin):  # H2
    world = begin(plan())
    world.lock_busy_until = at("09:20:02")
    world.go("09:20:05")
    assert world.run().state == "bought"
    world.lock_busy_until = at("09:30:00")
    world.tick("1539")
    world.go(2)
    assert world.run().outcome == "exited_by_sl"


def test_with_sql_down_a_stop_sells_at_once_and_is_saved_later(begin):
    world = begin(bought=True)
    world.sql_down = True
    world.tick("1539")
    world.go(3)
    assert world.run().outcome == "exited_by_sl"
    assert world.runs()[0].state == "bought"
    world.sql_down = False
    world.go(2)
    assert world.runs()[0].state == "exited_by_sl"


def test_with_sql_down_before_the_licence_nothing_is_bought_and_back_in_the_grace_it_is(begin):  # fault 44
    world = begin(plan())
    world.go("09:19:59")
    world.sql_down = True
    world.go("09:20:02")
    assert world.placed() == []
    world.sql_down = False
    world.go("09:20:05")
    assert len(world.placed("E")) == 1


def test_with_sql_down_over_the_grace_the_buy_is_skipped(begin):
    world = begin(plan())
    world.go("09:19:59")
    world.sql_down = True
    world.go("09:20:10")
    world.sql_down = False
    world.go(3)
    assert world.placed() == []
    assert (world.run().state, world.run().exposure) == ("failed", "flat")


def test_with_sql_down_between_the_answer_and_the_settle_the_position_is_guarded_and_saved_on_return(begin):  # fault 46
    world = begin(plan())
    world.go("09:19:59")
    world.go("09:20:00", every_s=0.5)
    world.silently(0.01)
    world.sql_down = True
    world.go(120)
    assert world.run().state == "bought"
    assert len(world.placed("E")) == 1
    world.sql_down = False
    world.go(1)
    assert world.runs()[0].state == "bought"
    world.sql_down = True
    world.tick("1539")
    world.go(2)
    assert world.run().outcome == "exited_by_sl"


def test_a_retry_of_a_buy_goes_on_when_sql_comes_back_within_the_grace(begin):
    world = begin(plan())
    world.venue.add(Mischief(kind=Kind.BUSY, slot="E"))
    world.go("09:20:00", every_s=0.5)
    world.silently(0.03)
    world.sql_down = True
    world.go(1, every_s=0.5)
    world.sql_down = False
    world.go("09:20:06")
    assert world.run().state == "bought"


def test_sql_that_is_down_for_minutes_is_told_but_not_four_times_a_second(begin):
    world = begin(bought=True)
    world.sql_down = True
    world.tick("1539")
    world.go(60)
    told = Counter(a.headline for a in world.alerts)
    assert 1 <= sum(n for text, n in told.items() if "SQL" in text) <= 5


def test_a_run_that_ends_while_sql_is_down_does_not_block_the_next_start(begin):
    world = begin(bought=True)
    taken = world.wish(Event.STOP)
    assert taken
    world.sql_down = True
    world.go(5)
    world.sql_down = False
    world.go(5)
    assert world.runs()[0].state == "stopped"
    assert world.runs()[0].is_closed
    assert world.traded(Side.SELL) == 50


def test_at_the_close_final_runs_are_archived_and_keep_what_they_came_to(begin):
    world = begin(plan(7), plan(8, stop_loss=None), bought=True)
    world.venue.add(Mischief(kind=Kind.REFUSE, slot="E"))
    world.tick("1539")
    world.go(3)
    world.silently("09:44:59")
    assert world.run(7).state == "exited_by_sl"
    world.silently("09:45:01")
    assert [(world.run(n).state, world.run(n).outcome, world.run(n).cause) for n in (7, 8)] == [
        ("stopped", "exited_by_sl", "stop_loss")
    ] * 2
    assert world.engine.board.runs == {}
    view = world.loop.complete(world.process.runtime._store.look(plan().account))
    assert view.runtimes == {}


def test_a_disk_that_hangs_while_the_position_is_saved_keeps_a_stop_waiting_for_a_tenth_of_a_second(begin):
    world = begin(plan())
    world.go("09:20:00", every_s=0.5)
    world.silently(0.01)
    world.sql_hangs_s = 60
    world.go(3, every_s=0.5)
    assert world.run().state == "bought"
    world.tick("1539")
    world.silently(0.15)
    assert len(world.placed("X")) == 1
    world.go(3)
    assert world.run().outcome == "exited_by_sl"
    world.sql_hangs_s = 0
    world.go(120)
    assert world.runs()[0].state == "exited_by_sl"


def test_a_disk_that_hangs_does_not_delay_the_further_tries_of_an_exit(begin):
    world = begin(bought=True)
    world.venue.add(Mischief(kind=Kind.BUSY, slot="X", times=2))
    world.sql_hangs_s = 60
    world.tick("1539")
    world.go(3, every_s=0.5)
    assert world.run().outcome == "exited_by_sl"


def test_a_redis_that_hangs_delays_a_stop_by_a_quarter_of_a_second_at_most(begin):  # fault 38
    world = begin(bought=True)
    world.redis_hangs_s = 10
    world.tick("1539")
    world.silently(0.3)
    assert len(world.placed("X")) == 1
    world.go(2)
    assert world.run().outcome == "exited_by_sl"


def test_a_bug_in_one_keeper_is_told_and_ends_nothing(begin):
    world = begin(bought=True)
    failed = []

    def breaks(call):
        if call == "positions" and len(failed) < 2:
            failed.append(call)
            raise ZeroDivisionError("a bug")

    world.breaks = breaks
    world.go(20)
    assert len(failed) == 2
    assert any("positions failed" in text for text in world.urgent())
    world.user_sells(50)
    world.go(5)
    assert world.run().exposure == "flat"


def test_what_a_run_does_while_redis_is_rebuilt_is_shown_in_redis_too(begin):
    """Found by the simulator (seed 127): the rebuild came with what it had read before."""
    world = begin(bought=True)
    store = world.process.runtime._store
    rebuild = store.rebuild

    async def slow(account, runs):
        runs = list(runs)
        await world.loop.sleep(2)
        await rebuild(account, runs)

    store.rebuild = slow
    world.redis.restart()
    world.go(1)
    world.tick("1539")
    world.go(3, every_s=0.5)
    assert world.run().state == "exited_by_sl"
    view = world.loop.complete(store.look(plan().account))
    assert [runtime["state"] for runtime in view.runtimes.values()] == ["exited_by_sl"]


def test_what_somebody_else_saved_while_redis_was_slow_is_shown_in_redis_too(begin):
    """Found by the simulator (seed 3242): the end of recovery had saved it, so the writer took its work for done."""
    world = begin(bought=True)
    engine, store = world.process.engine, world.process.runtime._store
    settle, slow_ones = store.settle, []

    async def slow(run, **how):
        slow_ones.append(run)
        if len(slow_ones) == 1:
            await world.loop.sleep(1.5)
        return await settle(run, **how)

    store.settle = slow
    world.tick("1539")
    world.go(1)
    assert [str(run.state) for run in slow_ones] == ["sl_pending"]
    assert world.run().state == "exited_by_sl"
    world.loop.complete(engine.save_all())
    world.go(5)
    view = world.loop.complete(store.look(plan().account))
    assert [runtime["state"] for runtime in view.runtimes.values()] == ["exited_by_sl"]


def test_ten_thousand_positions_that_only_wait_are_not_worked_on_because_a_worker_starts(begin):
    """A task for each, to find that nothing is due, kept every stop-loss waiting behind it."""
    world = begin(bought=True)
    engine, run_id = world.process.engine, world.run().plan.run_id
    world.go(1)
    engine.wake(run_id)
    assert not engine._busy
    world.tick("1539")
    world.go(1)
    assert world.run().state == "exited_by_sl"
    engine.wake(run_id)
    assert engine._busy == {run_id}
    world.go(1)


def test_what_only_the_end_of_recovery_could_save_is_shown_in_redis_too(begin):
    """Found by the simulator (seed 517158): SQL was down as the run ended, and back when recovery saved everything."""
    world = begin(bought=True)
    world.sql_down = True
    world.tick("1539")
    world.go(1)
    assert world.run().state == "exited_by_sl"
    world.sql_down = False
    world.loop.complete(world.process.engine.save_all())
    world.go(5)
    view = world.loop.complete(world.process.runtime._store.look(plan().account))
    assert [runtime["state"] for runtime in view.runtimes.values()] == ["exited_by_sl"]
