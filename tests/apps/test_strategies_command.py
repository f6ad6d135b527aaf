"""Looking at strategies and removing them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from squareoff.core.run import Run
from squareoff.core.types import RunId
from tests.apps.conftest import Squareoff
from tests.apps.runs import at_0920_it_costs, play, put_into

OPTIONS = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1.5%")


def database(squareoff: Squareoff) -> Path:
    return squareoff.data / "squareoff.db"


@pytest.fixture
def morning(squareoff: Squareoff) -> Squareoff:
    assert squareoff("add", "morning", "NSE:INFY", "50", *OPTIONS).status == 0
    return squareoff


def stopped_out() -> Run:
    return play(at_0920_it_costs("1562.40", ("11:00:00", "1539"), ("11:00:01", "1538.50"))).runs[0]


def still_selling() -> Run:
    return play(at_0920_it_costs("1562.40")).runs[0]


def test_a_list_without_strategies_says_how_to_add_one(squareoff: Squareoff) -> None:
    answer = squareoff("list")
    assert answer.output == "No strategies yet. Add one: `squareoff add --help` shows how.\n"


def test_the_list_shows_each_strategy_with_its_latest_run(morning: Squareoff) -> None:
    assert morning("add", "noon", "ITC", "1000", *OPTIONS).status == 0
    put_into(database(morning), stopped_out(), [])
    put_into(database(morning), _second(still_selling()), [])
    rows = [" ".join(line.split()) for line in morning("list").output.splitlines()]
    assert rows == [
        "name symbol qty buy sell stop-loss repeat product account latest run",
        "morning NSE:INFY 50 09:20:00 15:10:00 1.5% once MIS paper 2026-11-23 sell_pending: selling: SELL time",
        "noon NSE:ITC 1,000 09:20:00 15:10:00 1.5% once MIS paper created: saved, not started",
    ]
    assert [row["latest_run"] and row["latest_run"]["label"] for row in morning.json("list")] == [
        "selling: SELL time",
        None,
    ]


def _second(run: Run) -> Run:
    other_ids = {"key": "SECONDRUNS"}
    run = replace(run, plan=replace(run.plan, run_id=RunId(2)), **other_ids)  # type: ignore[arg-type]
    for name in ("entry", "exit"):
        slot = getattr(run, name)
        attempts = tuple(replace(a, client_order_id=f"{a.client_order_id[:-4]}9{name[1]}01") for a in slot.attempts)
        run = replace(run, **{name: replace(slot, attempts=attempts)})
    return run


def test_show_tells_the_definition_the_runs_their_orders_and_fills(morning: Squareoff) -> None:
    run = stopped_out()
    put_into(database(morning), run, [])
    entry, exit_ = run.entry.attempts[0].client_order_id, run.exit.attempts[0].client_order_id
    assert [line.rstrip() for line in morning("show", "morning").output.splitlines()] == [
        "morning (id 1): buy 50 NSE:INFY at 09:20:00, sell at 15:10:00, stop-loss 1.5%, once, MIS, account paper",
        "",
        "run 1, 2026-11-23 exited_by_sl: out at the stop-loss, flat; you hold nothing",
        "  stop-loss at 1,539.00",
        f"  BUY 50, order {entry}, broker's id P000001, done",
        "    09:20:01.000  50 at 1,562.40, trade T000001",
        f"  SELL 50, order {exit_}, broker's id P000002, done",
        "    11:00:01.000  50 at 1,538.50, trade T000002",
        "  P&L -1,195.00, gross, before charges",
        "",
        "The story of the latest run: squareoff why morning",
    ]


def test_show_as_json_has_exact_money(morning: Squareoff) -> None:
    put_into(database(morning), stopped_out(), [])
    (run,) = morning.json("show", "morning")["runs"]
    assert (run["entry_price"], run["exit_price"], run["stop_price"]) == ("1562.4", "1538.5", "1539")
    assert [order["fills"][0]["price"] for order in run["orders"]] == ["1562.4", "1538.5"]


def test_a_strategy_can_be_named_by_its_id(morning: Squareoff) -> None:
    assert morning.json("show", "1")["name"] == "morning"


@pytest.mark.parametrize("command", ["show", "rm", "why"])
def test_a_strategy_that_is_not_there_is_refused_with_what_was_probably_meant(morning: Squareoff, command: str) -> None:
    answer = morning(command, "moning")
    says = "squareoff: strategy: there is no strategy 'moning'; did you mean morning?\n"
    assert (answer.status, answer.output, answer.errors) == (2, "", says)
    answer = morning(command, "xyz")
    assert answer.errors == "squareoff: strategy: there is no strategy 'xyz'; see `squareoff list`\n"


def test_removing_asks_first(morning: Squareoff) -> None:
    for reply in ("n\n", ""):
        answer = morning("rm", "morning", input=reply)
        assert answer.status == 1
        assert answer.errors.endswith("squareoff: nothing was changed\n")
        assert morning.saved == ["morning"]
    assert morning("rm", "morning", input="y\n").status == 0
    assert morning.saved == []


def test_removing_keeps_the_runs_and_frees_the_name(morning: Squareoff) -> None:
    put_into(database(morning), stopped_out(), [])
    assert morning("rm", "morning", "--yes").output == "removed morning; its runs and their story are kept\n"
    assert morning("add", "morning", "NSE:INFY", "50", *OPTIONS).status == 0
    assert [row["id"] for row in morning.json("list")] == [2]


def test_removing_is_refused_with_the_reason_while_a_run_may_hold(morning: Squareoff) -> None:
    put_into(database(morning), still_selling(), [])
    answer = morning("rm", "morning")  # nothing is asked: there is nothing to decide
    assert (answer.status, answer.output) == (2, "")
    assert answer.errors == (
        "squareoff: strategy: run 1 of morning on 2026-11-23 is not closed: selling: SELL time; you hold shares (50 "
        "of NSE:INFY); it may still buy or hold; stop it, or wait until it is closed\n"
    )
    assert morning.saved == ["morning"]


def test_adding_and_removing_are_told_as_json_too(squareoff: Squareoff) -> None:
    times = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1%")
    (added,) = squareoff.json("add", "morning", "NSE:SHARE", "50", *times)
    assert (added["name"], added["stop_loss"], added["quantity"]) == ("morning", "1%", "50")
    assert squareoff.json("rm", "morning", "--yes")["removed"]["name"] == "morning"
    assert squareoff.saved == []
