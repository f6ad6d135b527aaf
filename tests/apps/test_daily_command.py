"""Starting and stopping: the wish is in SQL before it is answered, and what is told is what SQL shows."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from squareoff import wiring
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.records import SqlRecords
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.apps import completion_command, daily_command
from squareoff.apps.up import supervisor
from squareoff.config import Config
from squareoff.core.events import Cause, Event
from squareoff.core.machine import State
from squareoff.core.orders import Slot
from squareoff.core.run import Run
from tests.apps.conftest import MONDAY_MORNING, Squareoff
from tests.apps.runs import PAPER, at_0920_it_costs, play, put_into

OPTIONS = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1.5%")
NO_UP = "`squareoff up` does not run here: nothing trades until it does. Start it: squareoff up --market practice"


@pytest.fixture(autouse=True)
def clock(squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the time; it is Monday morning until then."""

    def it_is(instant: datetime) -> None:
        monkeypatch.setattr(wiring, "now", lambda *_: instant)

    it_is(MONDAY_MORNING)
    return it_is


@pytest.fixture
def morning(squareoff: Squareoff) -> Squareoff:
    assert squareoff("add", "morning", "NSE:INFY", "50", *OPTIONS).status == 0
    return squareoff


def database(squareoff: Squareoff) -> Path:
    return squareoff.data / "squareoff.db"


def wishes(squareoff: Squareoff) -> list[tuple[int, Event]]:
    """What waits in SQL for a worker."""
    opened = Database.open(database(squareoff))
    pending = StrategyStore(opened).pending_wishes()
    opened.close()
    return [(wish.strategy_id, wish.event) for wish in pending]


def selling() -> Run:
    return play(at_0920_it_costs("1562.40")).runs[0]


def held() -> Run:
    return replace(selling(), state=State.BOUGHT, cause=None, exit=Slot())


def ready() -> Run:
    return replace(held(), state=State.READY, entry=Slot(), stop_price=None, entry_opened_at=None)


def sold() -> Run:
    return play(at_0920_it_costs("1562.40", ("15:10:00", "1570"), ("15:10:01", "1570"))).runs[0]


def failed() -> Run:
    return replace(held(), state=State.FAILED, outcome=State.FAILED, cause=Cause.EXIT_REFUSED)


Worker = Callable[[Run | None], None]


@pytest.fixture
def worker(squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """`squareoff up` runs, and at the bell its worker takes every wish; the run that it comes to is told here."""

    def obeys(makes: Run | None) -> None:
        monkeypatch.setattr(supervisor, "running", lambda _: {"pid": 1, "redis_url": "redis://nowhere"})
        monkeypatch.setattr(wiring, "ring_bell", lambda *_: asyncio.run(_take(database(squareoff), makes)))
        monkeypatch.setattr(daily_command, "TAKEN_WITHIN_S", 0.2)
        monkeypatch.setattr(daily_command, "STOPPED_WITHIN_S", 0.2)

    return obeys


async def _take(path: Path, run: Run | None) -> None:
    opened = Database.open(path)
    records = SqlRecords(opened)
    fence = await records.take_lease(PAPER, owner="test", machine="m", boot="b")
    known = {run.plan.run_id for run in StrategyStore(opened).runs()}
    for wish in await records.wishes(PAPER):
        if run is not None and run.plan.run_id in known:
            await records.save(replace(run, version=run.version + 100), fence)
        elif run is not None:
            await records.add_run(run, fence)
        await records.wish_taken(wish.id, fence)
    await records.close()
    opened.close()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits at the terminal."""
    monkeypatch.setattr(daily_command, "_is_terminal", lambda: True)


# ------------------------------------------------------------------ start


def test_starting_saves_the_wish_and_tells_the_next_action_with_its_day(morning: Squareoff) -> None:
    answer = morning("start", "morning")
    assert (answer.status, answer.errors) == (0, "")
    assert answer.output.splitlines() == ["morning: saved for Mon 23 Nov 2026, BUY 50 NSE:INFY at 09:20", NO_UP]
    assert wishes(morning) == [(1, Event.START)]


@pytest.mark.parametrize(
    ("instant", "says"),
    [
        (datetime(2026, 11, 23, 3, 51, tzinfo=UTC), "Wed 25 Nov 2026, BUY 50 NSE:INFY at 09:20 (today's 09:20 has"),
        (datetime(2026, 11, 22, 5, 0, tzinfo=UTC), "Mon 23 Nov 2026, BUY 50 NSE:INFY at 09:20 (no session today: Sun"),
    ],
)
def test_a_start_that_is_not_for_today_says_for_which_day_and_why(
    morning: Squareoff, clock: Callable[[datetime], None], instant: datetime, says: str
) -> None:
    clock(instant)
    assert f"morning: saved for {says}" in morning("start", "morning").output


def test_starting_twice_changes_nothing_and_says_what_it_is_doing(morning: Squareoff) -> None:
    morning("start", "morning")
    answer = morning("start", "morning")
    assert answer.status == 0
    assert answer.output == (
        "morning: started already, nothing changed: the worker has not taken it up yet; then "
        "BUY 50 NSE:INFY at 09:20 on Mon 23 Nov 2026\n"
    )
    assert wishes(morning) == [(1, Event.START)]


def test_starting_what_holds_a_position_changes_nothing(morning: Squareoff) -> None:
    put_into(database(morning), held(), [])
    answer = morning("start", "morning")
    assert answer.output == (
        "morning: started already, nothing changed: holding, stop-loss watched; SELL at 15:10, or at once at 1,539.00\n"
    )
    assert (answer.status, wishes(morning)) == (0, [])


def test_starting_is_refused_in_the_words_of_the_store_while_an_earlier_run_may_hold(morning: Squareoff) -> None:
    put_into(database(morning), failed(), [])
    of_the_store = morning("rm", "morning").errors.removeprefix("squareoff: strategy: ")
    answer = morning("start", "morning")
    assert (answer.status, answer.output, answer.errors) == (2, "", f"squareoff: morning: {of_the_store}")
    assert wishes(morning) == []


def test_starting_is_refused_while_a_stop_of_a_position_waits(morning: Squareoff) -> None:
    put_into(database(morning), held(), [])
    assert morning("stop", "morning", "--square-off").status == 1
    answer = morning("start", "morning")
    assert answer.status == 2
    assert answer.errors.endswith("; a STOP of it waits for the worker\n")


def test_what_can_never_be_planned_is_refused(morning: Squareoff, clock: Callable[[datetime], None]) -> None:
    clock(datetime(2028, 1, 3, 2, 0, tzinfo=UTC))
    answer = morning("start", "morning")
    assert answer.status == 2
    assert "No signed-off calendar for NSE 2028" in answer.errors
    assert wishes(morning) == []


def test_a_wrong_name_among_several_starts_none_of_them(morning: Squareoff) -> None:
    answer = morning("start", "morning", "noon")
    assert (answer.status, answer.errors) == (
        2,
        "squareoff: strategy: there is no strategy 'noon'; see `squareoff list`\n",
    )
    assert wishes(morning) == []


def test_all_starts_what_can_be_started_and_tells_the_rest(morning: Squareoff) -> None:
    assert morning("add", "noon", "ITC", "10", *OPTIONS).status == 0
    put_into(database(morning), failed(), [])
    answer = morning("start", "--all")
    assert answer.status == 2
    assert answer.errors.startswith("squareoff: morning: run 1 of morning on 2026-11-23 is not closed")
    assert answer.output.startswith("noon: saved for Mon 23 Nov 2026")
    assert wishes(morning) == [(2, Event.START)]


def test_names_or_all_must_be_said(squareoff: Squareoff) -> None:
    assert squareoff("start").errors.startswith("squareoff: name: is missing; name the strategies, or write --all")
    assert squareoff("stop", "--all").errors.startswith("squareoff: --all: there are no strategies yet")
    assert squareoff("start", "x", "--all").status == 2


def test_a_red_check_is_told_with_its_mend_and_the_wish_is_saved_all_the_same(squareoff: Squareoff) -> None:
    assert squareoff("add", "morning", "NSE:SHARE", "50", *OPTIONS).status == 0
    instruments = squareoff.data / "reference" / "instruments.csv"
    instruments.write_text(instruments.read_text().replace(",1800,", ",40,"))
    answer = squareoff("start", "morning")
    assert answer.status == 1
    assert answer.output.splitlines() == [
        "morning: saved, but red: instrument; for Mon 23 Nov 2026, BUY 50 NSE:SHARE at 09:20",
        "  instrument: 50 is more than one order may have (40) -> use several strategies",
        NO_UP,
    ]
    assert wishes(squareoff) == [(1, Event.START)]


def test_with_a_worker_it_is_armed_when_its_run_is_there(morning: Squareoff, worker: Worker) -> None:
    worker(ready())
    answer = morning("start", "morning")
    assert answer.output == "morning: armed for Mon 23 Nov 2026, BUY 50 NSE:INFY at 09:20\n"
    assert (answer.status, wishes(morning)) == (0, [])


def test_a_worker_that_does_not_take_it_up_is_told(
    morning: Squareoff, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(None)
    monkeypatch.setattr(wiring, "ring_bell", lambda *_: None)
    answer = morning("start", "morning")
    assert answer.status == 1
    assert "; no worker took it up within 0.2 s: look at `squareoff status`" in answer.output
    assert wishes(morning) == [(1, Event.START)]


def test_a_worker_that_makes_no_run_is_told(morning: Squareoff, worker: Worker) -> None:
    worker(None)
    answer = morning("start", "morning")
    assert (answer.status, answer.output) == (
        1,
        "morning: the worker did not start it; look: squareoff doctor morning\n",
    )


def test_start_as_json_is_one_document(morning: Squareoff, worker: Worker) -> None:
    worker(ready())
    document = morning.json("start", "morning")
    (row,) = document["strategies"]
    assert (document["up"], row["result"], row["date"], row["red"]) == (True, "armed", "2026-11-23", [])
    assert (row["buy_at"], row["zone"]) == ("2026-11-23T09:20:00.000+05:30", "Asia/Kolkata")
    assert row["run"]["state"] == "ready"


# ------------------------------------------------------------------ stop


def test_there_is_nothing_to_stop_where_nothing_was_started(morning: Squareoff) -> None:
    answer = morning("stop", "morning")
    assert (answer.status, answer.output) == (0, "morning: not started: there is nothing to stop\n")
    assert wishes(morning) == []


def test_what_waits_for_its_buy_is_stopped_without_a_question(morning: Squareoff) -> None:
    put_into(database(morning), ready(), [])
    answer = morning("stop", "morning")
    assert answer.output.splitlines() == [
        "morning: saved: it is stopped as soon as `squareoff up` runs",
        NO_UP,
    ]
    assert (answer.status, wishes(morning)) == (0, [(1, Event.STOP)])


def test_a_start_that_nobody_took_up_is_taken_back_and_told(morning: Squareoff) -> None:
    morning("start", "morning")
    answer = morning("stop", "morning")
    assert (answer.status, answer.errors) == (0, "")
    assert answer.output == (
        "morning: the start was taken back: no worker had taken it up, and none will; no run is made\n"
    )
    assert wishes(morning) == []
    assert "was taken back by" in morning("why", "morning").output
    assert morning("stop", "morning").output == "morning: not started: there is nothing to stop\n"
    assert morning("start", "morning").output.startswith("morning: saved for")


def test_a_start_taken_up_in_the_moment_of_its_stop_is_stopped_like_any_other_and_told(
    morning: Squareoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    morning("start", "morning")
    take_back = StrategyStore.take_back_start

    def worker_is_faster(store: StrategyStore, *args: Any, **more: Any) -> Any:
        asyncio.run(_take(database(morning), ready()))
        return take_back(store, *args, **more)

    monkeypatch.setattr(StrategyStore, "take_back_start", worker_is_faster)
    answer = morning("stop", "morning")
    assert answer.output.startswith(
        "morning: the worker had just taken the start up, so no start was taken back; saved"
    )
    assert wishes(morning) == [(1, Event.STOP)]


def test_with_a_position_and_nobody_to_ask_it_names_both_ways_and_does_nothing(morning: Squareoff) -> None:
    put_into(database(morning), held(), [])
    for options in ([], ["--yes"], ["--json"]):
        answer = morning("stop", "morning", *options)
        assert (answer.status, answer.output) == (2, "")
        assert answer.errors == (
            "squareoff: morning: it holds 50 NSE:INFY, stop-loss 1,539.00; say --square-off (sell it now) or "
            "--hand-over (you keep it, squareoff forgets it); nothing was done\n"
        )
    assert wishes(morning) == []


@pytest.mark.parametrize(
    ("reply", "wish"), [("s", Event.STOP), ("h", Event.HAND_OVER), ("what\ns", Event.STOP), ("k", None), ("", None)]
)
def test_with_a_position_it_asks_whether_to_square_off_or_to_hand_over(
    morning: Squareoff, answers: None, reply: str, wish: Event | None
) -> None:
    put_into(database(morning), held(), [])
    answer = morning("stop", "morning", input=f"{reply}\n")
    assert "morning holds 50 NSE:INFY, stop-loss 1,539.00: [s] square off (sell now) or [h] hand over" in answer.errors
    assert wishes(morning) == ([(1, wish)] if wish else [])
    assert answer.status == 1
    if wish is None:
        assert answer.errors.endswith("nothing was changed\n")


def test_while_it_buys_nothing_can_be_handed_over(morning: Squareoff, answers: None) -> None:
    put_into(database(morning), replace(held(), state=State.RUNNING), [])
    asked = morning("stop", "morning", input="h\nk\n").errors
    assert "is buying 50 NSE:INFY and may hold some: [s] square off (sell now)? [k] leaves it as it is" in asked
    assert "hand over" not in asked
    assert wishes(morning) == []


def test_a_position_that_is_being_sold_is_not_handed_over(morning: Squareoff) -> None:
    put_into(database(morning), selling(), [])
    answer = morning("stop", "morning", "--hand-over")
    assert (answer.status, wishes(morning)) == (2, [])
    assert "it cannot be handed over while it is not simply held (selling: SELL time)" in answer.errors
    assert morning("stop", "morning").status == 1  # no question: it is being sold whatever is said
    assert wishes(morning) == [(1, Event.STOP)]


def test_without_up_it_says_that_nobody_sells_and_what_is_unwatched(morning: Squareoff) -> None:
    put_into(database(morning), held(), [])
    answer = morning("stop", "morning", "--square-off")
    assert answer.status == 1
    assert answer.output.splitlines()[0] == (
        "morning: saved, but nobody sells until `squareoff up` runs. UNWATCHED: 50 NSE:INFY, stop-loss 1,539.00"
    )
    assert wishes(morning) == [(1, Event.STOP)]


def test_with_a_worker_it_waits_for_the_proof(morning: Squareoff, worker: Worker) -> None:
    put_into(database(morning), held(), [])
    worker(sold())
    answer = morning("stop", "morning", "--square-off")
    assert answer.output == "morning: flat: bought 50 at 1,562.40, sold at 1,570.00, P&L gross 380.00\n"
    assert answer.status == 0


def test_what_is_still_open_after_the_wait_is_told(morning: Squareoff, worker: Worker) -> None:
    put_into(database(morning), held(), [])
    worker(replace(selling(), state=State.STOP_PENDING))
    answer = morning("stop", "morning", "--square-off", "--json")
    (row,) = json.loads(answer.output)["strategies"]
    assert (answer.status, row["result"], row["asked"]) == (1, "still_open", "STOP")
    assert row["text"].startswith("still open: 2026-11-23 stop_pending: squaring off as asked, 50 NSE:INFY")
    assert row["run"]["state"] == "stop_pending"


def test_ctrl_c_while_waiting_tells_what_is_open_and_not_that_nothing_was_changed(
    morning: Squareoff, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    put_into(database(morning), held(), [])
    worker(None)
    monkeypatch.setattr(daily_command.time, "sleep", interrupted)
    answer = morning("stop", "morning", "--square-off")
    assert (answer.status, answer.errors) == (1, "")
    assert answer.output.startswith("morning: still open: 2026-11-23 bought: holding, stop-loss watched")


def test_a_hand_over_that_came_too_late_is_told(morning: Squareoff, worker: Worker) -> None:
    put_into(database(morning), held(), [])
    worker(selling())
    answer = morning("stop", "morning", "--hand-over")
    assert answer.status == 1
    assert answer.output.startswith("morning: was not handed over: 2026-11-23 sell_pending: selling: SELL time, 50 NSE")


def test_a_position_that_was_handed_over_is_yours(morning: Squareoff, worker: Worker) -> None:
    put_into(database(morning), held(), [])
    over = replace(held(), state=State.STOPPED, outcome=State.STOPPED, cause=Cause.HANDED_OVER, handed_over=True)
    worker(replace(over, outside_qty=over.plan.quantity))
    answer = morning("stop", "morning", "--hand-over")
    assert (answer.status, answer.output) == (
        0,
        "morning: handed over: 50 NSE:INFY are yours, squareoff forgets them\n",
    )


def test_nobody_waits_if_asked_not_to(morning: Squareoff, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    put_into(database(morning), held(), [])
    worker(None)
    monkeypatch.setattr(daily_command, "_until", lambda *_: pytest.fail("it waited"))
    assert morning("stop", "morning", "--square-off", "--no-wait").status == 1


def test_both_ways_at_once_are_refused(morning: Squareoff) -> None:
    answer = morning("stop", "morning", "--square-off", "--hand-over")
    assert (answer.status, answer.output) == (2, "")


def test_stopping_all_asks_once_and_not_with_yes(morning: Squareoff, answers: None) -> None:
    put_into(database(morning), ready(), [])
    answer = morning("stop", "--all", input="n\n")
    assert "Stop 1: morning?" in answer.errors
    assert wishes(morning) == []
    assert morning("stop", "--all", "--yes").status == 0
    assert wishes(morning) == [(1, Event.STOP)]


def test_stopping_a_daily_strategy_between_two_days_ends_its_repeating(squareoff: Squareoff, worker: Worker) -> None:
    assert squareoff("add", "daily", "NSE:INFY", "50", *OPTIONS, "--repeat", "daily").status == 0
    assert squareoff("start", "daily").status == 0
    worker(None)
    put_into(database(squareoff), sold(), [])
    take_wishes(squareoff)
    answer = squareoff("stop", "daily")
    assert (answer.status, answer.output) == (0, "daily: stopped: it is not started again on the next days\n")
    assert squareoff("stop", "daily").output == "daily: not started: there is nothing to stop\n"


def take_wishes(squareoff: Squareoff) -> None:
    asyncio.run(_take(database(squareoff), None))


# ------------------------------------------------------------------ completion


@pytest.mark.parametrize("shell", completion_command.SHELLS)
def test_a_script_is_printed_for_every_shell(squareoff: Squareoff, shell: str) -> None:
    answer = squareoff("completion", shell)
    assert (answer.status, answer.errors) == (0, "")
    assert "_SQUAREOFF_COMPLETE" in answer.output


def test_a_shell_that_is_not_known_is_refused(squareoff: Squareoff) -> None:
    assert squareoff("completion", "tcsh").errors == (
        "squareoff: completion: 'tcsh' is not a shell squareoff knows; one of bash, zsh, fish\n"
    )


def completed(data: Path, line: str) -> list[str]:
    words = line.split(" ")
    asked = subprocess.run(
        [sys.executable, "-m", "squareoff"],
        env={
            **os.environ,
            "SQUAREOFF_DATA": str(data),
            "_SQUAREOFF_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (asked.returncode, asked.stderr) == (0, "")
    return asked.stdout.split()


def test_commands_and_names_are_completed_and_no_name_twice(morning: Squareoff) -> None:
    assert morning("add", "noon", "ITC", "10", *OPTIONS).status == 0
    assert completed(morning.data, "squareoff sta") == ["start", "status"]
    for command in ("start", "stop", "status", "why", "show", "rm"):
        assert completed(morning.data, f"squareoff {command} mo") == ["morning"]
    assert completed(morning.data, "squareoff start morning ") == ["noon"]


def test_completing_in_a_folder_without_a_database_makes_none_and_never_fails(tmp_path: Path) -> None:
    assert completed(tmp_path / "none", "squareoff start ") == []
    assert not (tmp_path / "none").exists()
    (tmp_path / "squareoff.db").write_text("no database at all")
    assert completed(tmp_path, "squareoff start ") == []


# ------------------------------------------------------------------ the real thing


@contextmanager
def up(data: Path, *options: str) -> Iterator[None]:
    log = (data.parent / "up.out").open("w+")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "squareoff",
            "--data",
            str(data),
            "up",
            "--market",
            "practice",
            "--no-console",
            *options,
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        config, end_s = Config(data=data), time.monotonic() + 20
        while not (supervisor.running(config) or {}).get("pid"):
            log.seek(0)
            assert process.poll() is None, log.read()
            assert time.monotonic() < end_s, log.read()
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        log.close()


@pytest.mark.processes
def test_a_position_of_the_practice_market_is_squared_off_and_the_brokers_ledger_proves_it(
    squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    (squareoff.data / "reference" / "instruments.csv").unlink()
    config, zone = Config(data=squareoff.data), ZoneInfo("Asia/Kolkata")
    monkeypatch.setattr(wiring, "now", lambda config: wiring.trading_clock(config).now())
    with up(squareoff.data, "--speed", "60"):
        now = wiring.now(config).astimezone(zone)
        buy = now + timedelta(minutes=4)
        if (buy.hour, buy.minute) > (23, 25) or buy.day != now.day:  # no time is left to sell today
            buy = (now + timedelta(hours=1)).replace(hour=0, minute=2)
        times = ("--buy", f"{buy:%H:%M}", "--sell", "23:40", "--stop-loss", "30%")
        assert squareoff("add", "t1", "SIM:ALPHA", "10", *times).status == 0
        started = squareoff("start", "t1")
        assert started.output.startswith("t1: armed"), started  # a busy machine may have its first price late
        assert f"for {buy:%a %d %b %Y}, BUY 10 SIM:ALPHA at {buy:%H:%M}" in started.output
        end_s = time.monotonic() + 45
        while (row := squareoff.json("status", "t1")["strategies"][0])["what"] != "holding, stop-loss watched":
            assert time.monotonic() < end_s, row
            time.sleep(0.1)
        assert (row["guarded_by"], row["run"]["held"]) == ("squareoff", "10")
        answer = squareoff("stop", "t1", "--square-off")
        assert answer.status == 0, answer
        assert answer.output.startswith("t1: flat: bought 10 at ")
        audit = wiring.paper_audit(squareoff.data / "broker")
    (run,) = audit.runs
    assert (run.executed_entries, run.executed_exits, audit.orphans, audit.doubles) == (1, 1, (), ())
