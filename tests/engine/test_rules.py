"""The kill switch and the limits of an account; and definitions that change or repeat while a worker runs."""

from __future__ import annotations

from decimal import Decimal

import pytest

from squareoff.core.limits import Level, Limits
from squareoff.core.values import replace
from squareoff.ports import Planned
from tests.engine.world import A1, TCS, at, plan, price_stop

BY = {"reason": "the market is mad", "by": "asha"}


def press(world, level: Level) -> None:
    world.loop.complete(world.records.set_level(A1, level, at=world.now, **BY))


def limit(world, **limits: object) -> None:
    world.records.set_limits(A1, Limits(**limits))
    world.go(1)


# --- the kill switch ---


def test_with_no_entries_a_waiting_buy_is_skipped_and_says_who_pressed_the_switch(begin):
    world = begin(plan())
    press(world, Level.NO_ENTRIES)
    world.go("09:20:02")
    assert (world.run().state, world.run().cause, world.run().exposure) == ("failed", "entries_blocked", "flat")
    assert "asha" in world.run().detail
    assert world.placed("E") == []


def test_with_no_entries_what_is_held_runs_on_to_its_sell_time(begin):
    world = begin(bought=True)
    press(world, Level.NO_ENTRIES)
    world.go("09:40:05")
    assert world.run().state == "sold"


def test_square_off_sells_every_position_at_once_and_skips_every_entry(begin):
    world = begin(plan(1), plan(2, symbol=TCS, buy="09:30:00", stop_loss=price_stop("2900")))
    world.ticking.add(TCS)
    world.go("09:20:05")
    assert world.run(1).state == "bought"
    press(world, Level.SQUARE_OFF)
    world.go(3)
    assert (world.run(1).outcome, world.run(1).cause) == ("stopped", "killed")
    assert world.net == 0
    assert world.run(2).outcome == "stopped"
    assert len(world.placed("X")) == 1


def test_the_switch_stays_pressed_over_a_restart(begin):
    world = begin(plan())
    press(world, Level.NO_ENTRIES)
    world.go(1)
    world.crash()
    world.boot_up()
    world.go("09:20:05")
    assert world.placed("E") == []


def test_the_switch_works_with_sql_down_by_its_file(begin):
    world = begin(bought=True)
    world.sql_down = True
    world.brake.press(Level.SQUARE_OFF, at=world.now, **BY)
    world.go(4)
    assert world.net == 0
    world.sql_down = False
    world.go(10)
    assert world.run().outcome == "stopped"


def test_released_it_lets_the_next_run_buy(begin):
    world = begin()
    press(world, Level.NO_ENTRIES)
    world.go(1)
    press(world, Level.NORMAL)
    world.go(1)
    world.start(plan())
    world.go("09:20:03")
    assert world.run().state == "bought"
    assert any("the kill switch is now normal" in line for line in world.journal("alert"))


def test_pressed_between_the_last_look_and_the_licence_nothing_is_bought(begin):
    world = begin(plan())
    world.silently("09:19:59.9")

    def at_the_claim(what: str) -> None:
        if what.startswith("claim BUY"):
            world.records._rules[A1] = replace(world.records._rules.get(A1, world.process.engine.rules),
                                               level=Level.NO_ENTRIES, reason="late")  # fmt: skip

    world.breaks = at_the_claim
    world.go("09:20:03")
    assert world.placed("E") == []
    assert world.run().cause == "entries_blocked"


# --- limits ---


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_order_qty": Decimal(49)}, "quantity 50 is above"),
        ({"max_order_value": Decimal(70_000)}, "value 78000.00 is above"),
        ({"max_open_positions": 0}, "0 positions are open"),
        ({"max_orders_per_day": 0}, "0 orders were made today"),
    ],
)
def test_a_buy_beyond_a_limit_is_skipped_with_the_figures(begin, limits, words):
    world = begin(plan())
    limit(world, **limits)
    world.go("09:20:02")
    assert world.run().cause == "entries_blocked"
    assert words in world.run().detail
    assert world.placed("E") == []


def test_two_buys_at_one_instant_do_not_both_take_the_last_free_place(begin):
    world = begin(plan(1), plan(2))
    limit(world, max_open_positions=1)
    world.go("09:20:03")
    assert sorted(str(world.run(n).state) for n in (1, 2)) == ["bought", "failed"]
    assert len(world.placed("E")) == 1


def test_no_limit_ever_holds_back_an_exit(begin):
    world = begin(bought=True)
    limit(world, max_order_qty=Decimal(1), max_orders_per_day=0, max_open_positions=0, max_loss_per_day=Decimal(1))
    world.tick("1539")
    world.go(2)
    assert world.run().state == "exited_by_sl"


def test_after_the_days_loss_nothing_new_is_bought(begin):
    world = begin(plan(1), plan(2, buy="09:25:00"))
    world.go("09:20:05")
    world.tick("1539")
    world.go(2)
    world.prices[plan().symbol] = Decimal("1560.00")
    limit(world, max_loss_per_day=Decimal(500))  # lost: 50 x 21
    world.go("09:25:03")
    assert (world.run(1).outcome, world.run(2).cause) == ("exited_by_sl", "entries_blocked")
    assert "-1050" in world.run(2).detail


def test_the_loss_of_the_day_squares_off_everything_if_that_is_asked_for(begin):
    world = begin(bought=True)
    limit(world, max_loss_per_day=Decimal(500), square_off_at_loss=True)
    world.tick("1549.00")  # 50 x 11, above its stop-loss
    world.go(3)
    assert world.net == 0
    assert world.run().cause == "killed"


# --- edits and repeats ---


def test_an_edited_stop_loss_guards_the_position_from_now_on(begin):
    world = begin(bought=True)
    new = replace(world.run().plan, stop_loss=price_stop("1550"))
    world.planned = Planned(edited={world.run().plan.run_id: new})
    world.go(1.5)
    assert world.run().stop_price == Decimal(1550)
    assert any("stop_loss 1540.00 -> 1550" in line for line in world.journal("wish"))
    world.tick("1549.95")
    world.go(2)
    assert world.run().state == "exited_by_sl"


def test_an_edited_buy_time_moves_the_timer(begin):
    world = begin(plan())
    new = replace(world.run().plan, buy_at=at("09:17:00"))
    world.planned = Planned(edited={world.run().plan.run_id: new})
    world.go("09:17:03")
    assert world.run().state == "bought"


def test_what_is_bought_keeps_its_quantity_whatever_is_edited(begin):
    world = begin(bought=True)
    new = replace(world.run().plan, quantity=Decimal(99), sell_at=at("09:30:00"))
    world.planned = Planned(edited={world.run().plan.run_id: new})
    world.go("09:30:03")
    assert (world.run().state, world.traded(world.placed("X")[0].order.side)) == ("sold", Decimal(50))


def test_a_repeating_strategy_makes_its_run_when_it_is_due(begin):
    world = begin()
    world.plans[plan().strategy_id] = plan()
    world.planned = Planned(due=(plan().strategy_id,))
    world.go("09:20:03")
    assert world.run().state == "bought"


def test_why_a_repeating_strategy_makes_no_run_is_told_once(begin):
    world = begin()
    for _ in range(3):
        world.planned = Planned(waiting={plan().strategy_id: "NSE:INFY expired on 2026-11-26"})
        world.go(1)
    assert sum("expired on 2026-11-26" in line for line in world.journal("alert")) == 1


def test_an_edit_in_the_midst_of_a_buy_waits_until_that_is_decided(begin):
    world = begin(plan())
    world.silently("09:19:59.9")
    engine, run = world.process.engine, world.run()
    answers: list[bool] = []

    async def edit() -> None:
        answers.append(await engine.edit(run.plan.run_id, replace(run.plan, quantity=Decimal(99))))

    def at_the_claim(what: str) -> None:
        if what.startswith("claim BUY") and not answers:
            world.process.spawn(edit())

    world.breaks = at_the_claim
    world.go("09:20:03")
    assert answers == [False]
    assert (world.run().state, world.net) == ("bought", Decimal(50))
