"""What became of it, over HTTP: the same words as the command line's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from squareoff.apps.api import replays
from squareoff.core.machine import TABLE, State
from squareoff.core.types import UserId
from tests.api.client import Browser
from tests.api.conftest import Served
from tests.apps.conftest import Squareoff
from tests.apps.runs import at_0920_it_costs, play, put_into
from tests.apps.test_status_command import of_strategy

Added = Callable[..., int]


@pytest.fixture
def played(browser: Browser, added: Added, served: Served) -> int:
    """A run that ended at its stop-loss, as the engine played it, with its journal."""
    id_ = added("morning")
    result = play(at_0920_it_costs("1562.40", ("10:00:00", "1530"), ("10:00:01", "1530")), stop_loss="1540")
    run = of_strategy(result.runs[0], id_)
    journal = [entry if entry.run_id is None else _of_run(entry, id_) for entry in result.journal]
    put_into(served.data / "squareoff.db", run, journal)
    return id_


def _of_run(entry: Any, number: int) -> Any:
    from dataclasses import replace

    return replace(entry, run_id=number, strategy_id=number)


def test_the_reasons_are_those_of_the_command_line(browser: Browser, served: Served, played: int) -> None:
    told = browser.get(f"runs/{played}/why")
    shown = Squareoff(served.data).json("why", "morning")
    assert [(line["what"], line["why"]) for line in told["lines"]] == [
        (line["what"], line["why"]) for line in shown["lines"]
    ]
    assert told["run"]["outcome"] == "exited_by_sl"


def test_the_path_through_the_state_machine_is_told(browser: Browser, played: int) -> None:
    path = [step["state"] for step in browser.get(f"runs/{played}/states")["path"]]
    assert path[:4] == ["created", "ready", "running", "bought"]
    assert path[4:6] == ["sl_pending", "exited_by_sl"]


def test_the_machine_is_the_table_that_trades(browser: Browser) -> None:
    told = browser.get("machine")
    assert [state["state"] for state in told["states"]] == list(State)
    for step in told["transitions"]:
        assert step["event"] in TABLE[State(step["from"])]
    assert {"from": "bought", "event": "STOPLOSS", "to": "sl_pending"}.items() <= next(
        step for step in told["transitions"] if (step["from"], step["event"]) == ("bought", "STOPLOSS")
    ).items()


def test_orders_fills_and_marks_are_what_the_run_has(browser: Browser, played: int) -> None:
    run = browser.get(f"runs/{played}")
    orders, fills = browser.get("orders")["orders"], browser.get("fills")["fills"]
    assert [(o["side"], o["client_order_id"]) for o in orders] == [
        ("SELL", run["orders"][1]["client_order_id"]),
        ("BUY", run["orders"][0]["client_order_id"]),
    ]
    assert [fill["side"] for fill in fills] == ["SELL", "BUY"]
    marks = browser.get(f"runs/{played}/prices")["marks"]
    assert sorted(mark["side"] for mark in marks) == ["BUY", "SELL", "STOP-LOSS"]


def test_the_journal_is_searched_and_paged_from_its_end(browser: Browser, served: Served, played: int) -> None:
    whole = served.desk.store(UserId(1)).journal(limit=1000)
    seqs: list[int] = []
    before = ""
    while True:
        page = browser.get(f"journal?limit=5{before}")
        seqs += [entry["seq"] for entry in page["entries"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    assert seqs == [seq for seq, _ in reversed(whole)]
    found = browser.get("journal?q=bought%20READY&limit=100")["entries"]
    assert all("bought" in entry["text"].lower() and "ready" in entry["text"].lower() for entry in found)
    fills = browser.get("journal?kind=fill")["entries"]
    assert {entry["kind"] for entry in fills} == {"fill"}
    assert len(fills) == 2
    assert browser.get("journal?q=%25")["entries"] == [
        e for e in browser.get("journal?limit=500")["entries"] if "%" in e["text"]
    ]


def test_runs_are_paged_newest_first(browser: Browser, served: Served, added: Added) -> None:
    from tests.apps.test_daily_command import sold

    for name in ("one", "two", "three"):
        put_into(served.data / "squareoff.db", of_strategy(sold(), added(name)), [])
    first = browser.get("runs?limit=2")
    assert [run["run_id"] for run in first["runs"]] == [3, 2]
    assert [run["run_id"] for run in browser.get(f"runs?limit=2&before={first['next']}")["runs"]] == [1]
    assert browser("GET", "runs?strategy_id=99").status == 404


def test_the_calendar_tells_holidays_by_name(browser: Browser) -> None:
    days = {day["date"]: day for day in browser.get("calendar?exchange=NSE&days=10")["days"]}
    assert days["2026-11-23"]["open"] is True
    assert days["2026-11-23"]["opens"] == "2026-11-23T09:15:00+05:30"
    assert days["2026-11-24"]["open"] is False
    assert days["2026-11-28"]["open"] is False
    assert browser("GET", "calendar?exchange=NOPE").status == 404
    assert browser.get("calendar?exchange=NSE&days=366")["problem"] != ""  # 2027 is not signed off yet


def ended(browser: Browser, replay: dict[str, Any]) -> dict[str, Any]:
    until_s = time.monotonic() + 60
    while (told := browser.get(f"replays/{replay['id']}"))["state"] == "running":
        assert time.monotonic() < until_s
        time.sleep(0.05)
    return dict(told)


def test_a_replay_of_ones_own_prices_and_strategies(browser: Browser) -> None:
    bars = "".join(
        f"2026-11-23T{9 + n // 60:02}:{n % 60:02}:00+05:30,NSE:SHARE,1500,1500,1500,1500\n" for n in range(15, 390)
    )
    toml = '[[strategy]]\nsymbol = "NSE:SHARE"\nquantity = 5\nbuy_time = "09:20"\nsell_time = "15:00"\nstop_loss = "1%"'
    asked = {"csv": f"time,symbol,open,high,low,close\n{bars}", "csv_name": "../../mine", "toml": toml}
    (row,) = ended(browser, browser.post("replays", asked))["results"]
    assert (row["state"], row["quantity"], row["pnl"]) == ("sold", "5", "0")


def test_a_fault_in_a_replay_ends_it_and_keeps_nobody_from_the_next(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> tuple[bytes, bytes, int]:
        return b"not JSON", b"", 0

    monkeypatch.setattr(replays, "_output", broken)
    assert ended(browser, browser.post("replays", {}))["state"] == "failed"
    assert ended(browser, browser.post("replays", {}))["state"] == "failed"


def test_a_replay_runs_beside_and_tells_what_came_of_it(browser: Browser) -> None:
    started = browser.post("replays", {})
    assert started["state"] == "running"
    assert browser("POST", "replays", {}).status == 409
    told = ended(browser, started)
    assert told["state"] == "done"
    assert {row["strategy"] for row in told["results"]} == {"alpha", "beta"}
    assert told["totals"]["runs"] == 2


def test_a_replay_of_a_file_that_is_wrong_says_what_is_wrong(browser: Browser) -> None:
    started = browser.post("replays", {"csv": "nonsense\n1\n", "toml": "x = 1"})
    told = ended(browser, started)
    assert told["state"] == "failed"
    assert "strategies.toml" in told["error"]
    assert "/tmp" not in told["error"]


def test_every_error_has_the_same_shape(browser: Browser) -> None:
    asked = (
        ("GET", "nowhere", 404),
        ("GET", "strategies/99", 404),
        ("GET", "strategies/0", 422),
        ("GET", "strategies/nonsense", 404),
        ("PATCH", "today", 405),
        ("POST", "strategies", 422),
        ("GET", "runs/99/why", 404),
        ("GET", "journal?limit=0", 422),
        ("GET", "replays/99", 404),
    )
    for method, path, status in asked:
        answer = browser(method, path, None if method == "GET" else [])
        assert answer.status == status, (method, path, answer.text)
        assert set(answer.error) >= {"code", "message", "fields", "request_id"}
        assert answer.headers["X-Request-Id"] == answer.error["request_id"]
        assert answer.headers["Content-Type"] == "application/json"


def test_a_fault_of_ours_is_told_without_its_words(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a secret word")

    monkeypatch.setattr(type(served.desk), "zone", broken)
    answer = browser("GET", "settings")
    assert (answer.status, answer.error["code"]) == (500, "internal")
    assert "secret" not in answer.text


def test_a_database_that_is_away_is_a_503_that_may_be_asked_again(
    browser: Browser, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.errors import RecordsUnavailable

    def away(*_: object) -> None:
        raise RecordsUnavailable("the database is locked")

    monkeypatch.setattr(StrategyStore, "list", away)
    answer = browser("GET", "strategies")
    assert (answer.status, answer.error["code"], answer.headers["Retry-After"]) == (503, "unavailable", "1")
