"""`squareoff replay` as a person uses it: results that can be checked, and bad data refused in one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from squareoff.apps.cli import app

STRATEGY = """
[[strategy]]
name = "morning"
symbol = "SIM:ALPHA"
quantity = 100
buy_time = "09:20"
sell_time = "15:15"
stop_loss = "1%"
"""
HEADER = "time,symbol,open,high,low,close\n"


def bar(minute: str, prices: str, symbol: str = "SIM:ALPHA") -> str:
    return f"2026-11-20T{minute}:00+05:30,{symbol},{prices}\n"


GOOD = HEADER + bar("09:19", "100,100,100,100") + bar("09:20", "100,101,99.50,100.50") + bar("15:15", "102,103,101,102")


@dataclass
class Answer:
    status: int
    output: str
    errors: str


Replay = Callable[..., Answer]


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    """Run `squareoff replay` on a data file and a strategy file with these contents."""

    def run(data: str = GOOD, *options: str, strategies: str = STRATEGY) -> Answer:
        (tmp_path / "day.csv").write_text(data)
        (tmp_path / "strategies.toml").write_text(strategies)
        command = [sys.executable, "-m", "squareoff", "--data", str(tmp_path / "data"), "replay", "day.csv"]
        command += ["--strategies", "strategies.toml", *options]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env={**os.environ, "COLUMNS": "200"}
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


def results(answer: Answer) -> list[dict[str, object]]:
    assert answer.status == 0, answer.errors
    rows: list[dict[str, object]] = json.loads(answer.output)["results"]
    return rows


def test_a_day_worked_out_by_hand_is_what_replay_says(replay: Replay) -> None:
    (row,) = results(replay(GOOD, "--json"))
    # bought at the open of 09:20, the first tick after the BUY; the low of 99.50 is above 99.00; sold at 15:15's open
    assert row == {
        "date": "2026-11-20",
        "strategy": "morning",
        "symbol": "SIM:ALPHA",
        "state": "sold",
        "cause": "sell_time",
        "exposure": "flat",
        "quantity": "100",
        "entry_time": "2026-11-20T09:20:00+05:30",
        "entry_price": "100",
        "exit_time": "2026-11-20T15:15:00+05:30",
        "exit_price": "102",
        "pnl": "200",
        "filled_quantity": "100",
        "stop_price": "99.00",
        "run_id": 1,
        "note": "",
    }


def test_the_low_of_a_rising_bar_comes_before_its_high(replay: Replay) -> None:
    rising = (
        HEADER + bar("09:19", "100,100,100,100") + bar("09:20", "100,101,98.50,100.50") + bar("09:21", "99,99,99,99")
    )
    (row,) = results(replay(rising, "--json"))
    assert (row["state"], row["exit_time"], row["exit_price"]) == ("exited_by_sl", "2026-11-20T09:20:30+05:30", "101")


def test_an_exit_without_a_later_tick_stays_pending_and_says_so(replay: Replay) -> None:
    short = HEADER + bar("09:19", "100,100,100,100") + bar("09:20", "100,100,100,100")
    (row,) = results(replay(short, "--json"))
    assert (row["state"], row["exposure"], row["pnl"]) == ("sell_pending", "long", None)
    assert row["note"] == "exit pending: no tick came after the order, so it could not fill"


def test_the_table_shows_runs_totals_and_what_was_odd_in_the_data(replay: Replay) -> None:
    odd = GOOD.replace("100,101,99.50,100.50", "100,101,102,100.50")
    answer = replay(odd)
    assert answer.status == 0, answer.errors
    assert "morning" in answer.output
    assert "Totals" in answer.output
    assert "odd: " in answer.output


def test_the_full_journal_can_be_written(replay: Replay, tmp_path: Path) -> None:
    assert replay(GOOD, "--journal", "journal.jsonl").status == 0
    lines = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    engine_states = {line["engine"] for line in lines}
    assert {"validating", "locked", "executing", "updating", "unlocking"} <= engine_states


def test_a_stranger_can_replay_the_sample_without_any_file() -> None:
    answer = CliRunner().invoke(app, ["replay", "--sample", "--json"])
    assert answer.exit_code == 0
    assert {row["state"] for row in json.loads(answer.stdout)["results"]} == {"sold", "exited_by_sl"}


def test_a_bar_labelled_by_its_end_starts_a_minute_earlier(replay: Replay) -> None:
    (row,) = results(replay(GOOD, "--json", "--bars-labelled", "end"))
    assert row["entry_time"] == "2026-11-20T09:20:00+05:30" or row["state"] == "failed"
    (start,) = results(replay(GOOD, "--json", "--bars-labelled", "start"))
    assert row != start


def test_rows_outside_the_session_asked_for_are_not_played(replay: Replay) -> None:
    document = json.loads(
        replay(GOOD, "--json", "--session", "09:15-15:14", strategies=STRATEGY.replace("15:15", "14:00")).output
    )
    assert document["ticks"] == 8
    assert any("outside the session" in oddity for oddity in document["oddities"])


BAD_DATA = {
    "empty": ("", "empty"),
    "torn": (GOOD[:-20], "columns"),
    "unsorted": (HEADER + bar("09:20", "1,1,1,1") + bar("09:19", "1,1,1,1"), "line 3"),
    "duplicated": (HEADER + bar("09:20", "1,1,1,1") + bar("09:20", "1,1,1,1"), "line 3"),
    "not a number": (GOOD.replace("99.50", "n/a"), "n/a"),
    "of no known format": ("hello\nworld\n", "format"),
}


@pytest.mark.parametrize("what", BAD_DATA)
def test_bad_data_is_refused_in_one_sentence_that_names_the_place(replay: Replay, what: str) -> None:
    data, says = BAD_DATA[what]
    answer = replay(data)
    assert (answer.status, answer.output) == (2, "")
    assert answer.errors.startswith("squareoff: ")
    assert answer.errors.count("\n") == 1
    assert "day.csv" in answer.errors
    assert says in answer.errors


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('"SIM:ALPHA"', '"SIM:BETA"'), "SIM:BETA is not in the data"),
        (('"SIM:ALPHA"', '"NSE:NOPE"'), "NSE:NOPE"),
        (('"SIM:ALPHA"', '"XYZ:ALPHA"'), "XYZ is not a known exchange"),
        (('"1%"', '"0"'), "stop_loss: 0 is not positive"),
        (('"1%"', '"99.03"'), "off the tick"),
        (('sell_time = "15:15"', 'sell_time = "09:20"'), "is not after buy_time"),
        (("quantity = 100", "quantity = -5"), "negative"),
        (("quantity = 100", "qty = 100"), "is not a field of a strategy"),
        (("[[strategy]]", "[[strategy"), "TOML"),
    ],
)
def test_a_bad_strategy_is_refused_before_anything_is_played(
    replay: Replay, change: tuple[str, str], says: str
) -> None:
    answer = replay(GOOD, strategies=STRATEGY.replace(*change))
    assert (answer.status, answer.output) == (2, "")
    assert says in answer.errors
    assert answer.errors.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--bars-labelled", "middle"), "--bars-labelled"),
        (("--session", "0915-1530"), "--session"),
        (("--quote", "last"), "--quote"),
        (("--journal", "no/such/folder/j.jsonl"), "--journal"),
    ],
)
def test_a_bad_option_is_named(replay: Replay, options: tuple[str, ...], says: str) -> None:
    answer = replay(GOOD, *options)
    assert (answer.status, answer.output) == (2, "")
    assert says in answer.errors
