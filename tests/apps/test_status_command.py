"""One screen: who needs a person first, what comes next, and who guards what is held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from squareoff import wiring
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.rows import update_run
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.apps import facts
from squareoff.apps.status.picture import Need, Viewer
from squareoff.apps.status.screen import sentence, view
from squareoff.apps.up import supervisor
from squareoff.config import Config
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.limits import Level
from squareoff.core.preflight import Answer, Facts
from squareoff.core.run import Run
from squareoff.core.types import RunId, StrategyId, Symbol, Tick
from tests.apps.conftest import MONDAY_MORNING, Squareoff
from tests.apps.runs import PAPER, put_into
from tests.apps.test_daily_command import OPTIONS, database, failed, held, ready, sold, take_wishes

INFY = Symbol("NSE:INFY")
AT_TEN = MONDAY_MORNING + timedelta(hours=2)


@pytest.fixture(autouse=True)
def ten(squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "now", lambda *_: AT_TEN)


@pytest.fixture
def is_up(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What lives, and what Redis knows of the price."""

    def up(
        *, supervisor_lives: bool = True, worker: int | None = 12, price: str | None = "1560", age_s: float = 2
    ) -> None:
        told = {"pid": 11, "redis_url": "redis://nowhere:1"} if supervisor_lives else None
        monkeypatch.setattr(supervisor, "running", lambda _: told)
        monkeypatch.setattr(supervisor, "worker_pids", lambda _: {} if worker is None else {DEFAULT_ACCOUNT: worker})
        tick = None if price is None else Tick(INFY, Decimal(price), AT_TEN - timedelta(seconds=age_s))
        monkeypatch.setattr(wiring, "last_ticks", lambda *_: {} if tick is None else {INFY: tick})
        monkeypatch.setattr(wiring, "last_tick", lambda *_: tick)

    return up


def add(squareoff: Squareoff, *names: str) -> Squareoff:
    for name in names:
        assert squareoff("add", name, "NSE:INFY", "50", *OPTIONS).status == 0
    return squareoff


def put(squareoff: Squareoff, run: Run, number: int) -> None:
    put_into(database(squareoff), of_strategy(run, number), [])


def of_strategy(run: Run, number: int) -> Run:
    """As the run `number` of the strategy `number`."""
    plan = replace(run.plan, run_id=RunId(number), strategy_id=StrategyId(number))
    run = replace(run, plan=plan, key=f"KEY{number}")
    for name in ("entry", "exit"):
        slot = getattr(run, name)
        attempts = tuple(replace(a, client_order_id=f"SQ{number}{name[1]}{a.number}") for a in slot.attempts)
        run = replace(run, **{name: replace(slot, attempts=attempts)})
    return run


def rows(squareoff: Squareoff) -> list[tuple[str, str]]:
    return [(row["name"], row["need"]) for row in squareoff.json("status")["strategies"]]


def test_an_empty_installation_says_what_to_do_next(squareoff: Squareoff) -> None:
    answer = squareoff("status")
    assert (answer.status, answer.errors) == (0, "")
    assert "No strategies yet. Next:" in answer.output
    assert "squareoff up --market practice" in answer.output


def test_who_needs_a_person_first_stands_first(squareoff: Squareoff, is_up: Callable[..., None]) -> None:
    add(squareoff, "idle", "done", "waits", "far", "near", "broken", "wished")
    put(squareoff, sold(), 2)
    put(squareoff, ready(), 3)
    put(squareoff, held(), 4)
    put(squareoff, replace(held(), stop_price=Decimal("1559")), 5)
    put(squareoff, failed(), 6)
    assert squareoff("start", "wished").status == 0
    is_up()
    assert rows(squareoff) == [
        ("broken", "failed"),
        ("near", "holding"),
        ("far", "holding"),
        ("waits", "waiting"),
        ("wished", "waiting"),
        ("done", "done"),
        ("idle", "not_started"),
    ]


def test_what_is_held_without_a_known_price_stands_before_what_has_one(
    squareoff: Squareoff, is_up: Callable[..., None]
) -> None:
    add(squareoff, "known", "unknown")
    put(squareoff, held(), 1)
    put(squareoff, replace(held(), stop_price=None), 2)
    is_up()
    assert rows(squareoff) == [("unknown", "holding"), ("known", "holding")]


def test_a_position_shows_price_distance_gain_next_action_and_guard(
    squareoff: Squareoff, is_up: Callable[..., None]
) -> None:
    put(add(squareoff, "morning"), held(), 1)
    is_up()
    answer = squareoff("status", "morning")
    lines = [" ".join(line.split()) for line in answer.output.splitlines()]
    assert lines == [
        "PAPER money no market yet Mon 23 Nov 2026 10:00:00 IST",
        "squareoff up runs (process 11), trading worker 12, last price 2.0 s ago",
        "",
        "name symbol held last stop-loss distance P&L gross what next",
        "morning NSE:INFY 50 1,560.00 1,539.00 1.35% -120.00 holding, stop-loss watched; guarded by squareoff "
        "SELL at 15:10, or at once at 1,539.00",
    ]


def test_status_as_json_has_exact_money_and_says_who_guards(squareoff: Squareoff, is_up: Callable[..., None]) -> None:
    put(add(squareoff, "morning"), held(), 1)
    is_up()
    document = squareoff.json("status")
    assert {key: document[key] for key in ("money", "now", "zone", "up", "workers", "feed_age_s", "alarms")} == {
        "money": "paper",
        "now": "2026-11-23T10:00:00.000+05:30",
        "zone": "Asia/Kolkata",
        "up": {"running": True, "pid": 11},
        "workers": {"paper": 12},
        "feed_age_s": 2.0,
        "alarms": [],
    }
    (row,) = document["strategies"]
    shown = ("last_price", "stop_price", "stop_distance_percent", "pnl_gross", "guarded_by", "need")
    assert [row[key] for key in shown] == ["1560", "1539", "1.35", "-120", "squareoff", "holding"]
    assert row["run"]["held"] == "50"


@pytest.mark.parametrize(
    ("lives", "says"),
    [
        ({"supervisor_lives": False, "worker": None, "price": None}, "NOBODY GUARDS IT: `squareoff up` does not run."),
        ({"worker": None}, "NOBODY GUARDS IT NOW: the trading worker is dead, `squareoff up` starts it again."),
        ({"supervisor_lives": False}, "`squareoff up` was killed; its worker (process 12) still guards, but nobody"),
    ],
)
def test_a_position_that_is_not_fully_guarded_is_told_before_all_else(
    squareoff: Squareoff, is_up: Callable[..., None], lives: dict[str, Any], says: str
) -> None:
    put(add(squareoff, "morning", "noon"), held(), 1)
    is_up(**lives)
    for arguments in (["status"], ["status", "noon"]):
        first = squareoff(*arguments).output.splitlines()[0]
        assert first.startswith(says)
        assert first.endswith("morning holds 50 NSE:INFY, stop-loss 1,539.00")
    guard = "nobody" if lives.get("worker", 12) is None else "squareoff"
    assert squareoff.json("status", "morning")["strategies"][0]["guarded_by"] == guard


def test_nothing_held_is_no_alarm(squareoff: Squareoff, is_up: Callable[..., None]) -> None:
    put(add(squareoff, "morning"), ready(), 1)
    is_up(supervisor_lives=False, worker=None)
    document = squareoff.json("status")
    assert document["alarms"] == []
    assert document["strategies"][0]["next"] == "BUY 50 NSE:INFY at 09:20 on Mon 23 Nov 2026"


def test_a_strategy_that_is_done_today_shows_its_result(squareoff: Squareoff) -> None:
    put(add(squareoff, "morning"), sold(), 1)
    (row,) = squareoff.json("status")["strategies"]
    assert row["what"] == "flat: bought 50 at 1,562.40, sold at 1,570.00, P&L gross 380.00"
    assert (row["pnl_gross"], row["next"]) == ("380", None)


def test_a_daily_strategy_shows_its_next_day_before_its_run_is_made_and_after_it_is_done(squareoff: Squareoff) -> None:
    assert squareoff("add", "morning", "NSE:INFY", "50", *OPTIONS, "--repeat", "daily").status == 0
    assert squareoff("start", "morning").status == 0
    (row,) = squareoff.json("status")["strategies"]
    assert (row["need"], row["what"]) == ("waiting", "start saved, waits for `squareoff up`")
    assert row["next"] == "BUY 50 NSE:INFY at 09:20 on Wed 25 Nov 2026"
    put(squareoff, sold(), 1)
    take_wishes(squareoff)
    (row,) = squareoff.json("status")["strategies"]
    assert (row["need"], row["next"]) == ("done", "BUY 50 NSE:INFY at 09:20 on Wed 25 Nov 2026")


def test_a_kill_switch_that_is_on_is_told(squareoff: Squareoff) -> None:
    add(squareoff, "morning")
    opened = Database.open(database(squareoff))
    StrategyStore(opened).set_level(PAPER, Level.NO_ENTRIES, reason="a bad day", by="me", at=AT_TEN)
    opened.close()
    switch = "THE KILL SWITCH IS ON (no_entries): no new entry is made; a bad day"
    assert squareoff("status").output.splitlines()[0] == switch
    assert squareoff.json("status")["kill_switch"] == switch


def test_a_run_of_a_removed_strategy_that_holds_after_all_is_not_hidden(squareoff: Squareoff) -> None:
    add(squareoff, "morning", "noon")
    assert squareoff("rm", "morning", "--yes").status == 0
    put(squareoff, held(), 1)
    assert rows(squareoff)[0] == ("morning", "holding")


def test_on_a_narrow_terminal_a_row_is_a_sentence(squareoff: Squareoff, is_up: Callable[..., None]) -> None:
    put(add(squareoff, "morning"), held(), 1)
    is_up()
    viewer = Viewer.open(Config(data=squareoff.data), None)
    picture = viewer.look()
    assert sentence(picture.rows[0], picture) == (
        "holding, stop-loss watched: 50 NSE:INFY, stop-loss 1,539.00 (1.35% away); last 1,560.00; P&L gross -120.00; "
        "guarded by squareoff; SELL at 15:10, or at once at 1,539.00"
    )
    assert view(picture, width=80).renderables
    viewer.store.close()


def test_watching_shows_a_run_that_ends(squareoff: Squareoff, is_up: Callable[..., None]) -> None:
    put(add(squareoff, "morning"), held(), 1)
    is_up()
    viewer = Viewer.open(Config(data=squareoff.data), None)
    assert [row.need for row in viewer.look().rows] == [Need.HOLDING]
    ended = replace(of_strategy(sold(), 1), version=99)
    with Database.open(database(squareoff)).write() as connection:
        update_run(connection, ended)
    assert [row.need for row in viewer.look().rows] == [Need.DONE]  # it is not archived before the session's close
    viewer.close()


def test_watching_needs_a_terminal(squareoff: Squareoff) -> None:
    answer = squareoff("status", "--watch")
    assert (answer.status, answer.output) == (2, "")
    assert answer.errors.startswith("squareoff: --watch: needs a terminal to draw on")
    assert squareoff("status", "--watch", "--json").status == 2


def test_watching_reads_what_changed_and_no_more(
    squareoff: Squareoff, is_up: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put(add(squareoff, "morning"), held(), 1)
    is_up()
    viewer = Viewer.open(Config(data=squareoff.data), None)
    viewer.look()
    reads, read = [], Database.read

    def counted(opened: Database) -> Any:
        reads.append(opened)
        return read(opened)

    monkeypatch.setattr(Database, "read", counted)
    viewer.look()
    assert len(reads) == 1  # the mark alone: nothing has changed
    viewer.store.edit(replace(viewer.store.get("morning"), name="noon"), at=AT_TEN)
    assert [row.strategy.name for row in viewer.look().rows] == ["noon"]
    viewer.close()


def test_a_strategy_that_is_not_there_is_refused(squareoff: Squareoff) -> None:
    answer = add(squareoff, "morning")("status", "moning")
    assert (answer.status, answer.errors) == (
        2,
        "squareoff: strategy: there is no strategy 'moning'; did you mean morning?\n",
    )


def test_the_time_is_trading_time(squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "now", lambda *_: datetime.fromisoformat("2026-11-24T18:31:00+00:00"))
    assert "Wed 25 Nov 2026 00:01:00 IST" in squareoff("status").output


def test_who_waits_is_armed_or_says_which_check_is_red_and_how_to_mend_it(
    squareoff: Squareoff, is_up: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(squareoff, "waits")
    put(squareoff, ready(), 1)
    is_up()
    asked: list[object] = []

    def gathered(*_: object, now: datetime, **__: object) -> Facts:
        asked.append(now)
        return Facts(now=now, token=token)

    monkeypatch.setattr(facts, "gather", gathered)
    token = Answer(ok=True, text="the broker takes the access token")
    (row,) = squareoff.json("status")["strategies"]
    assert row["armed"] is True
    token = Answer(ok=False, text="the access token has expired")
    (row,) = squareoff.json("status")["strategies"]
    assert row["armed"] is False
    assert ", but token is RED: the access token has expired; " in row["what"]
    is_up(worker=None)
    (row,) = squareoff.json("status")["strategies"]
    assert row["armed"] is None
    assert len(asked) == 2
