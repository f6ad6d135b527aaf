"""`squareoff up` as its users meet it: real processes, a practice market, and what happens when one of them dies."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from squareoff import wiring
from squareoff.apps import up_command
from squareoff.apps.up.children import Child
from squareoff.apps.up.market_place import make_ready, read_market
from squareoff.apps.up.supervisor import running, worker_pid
from squareoff.config import Config
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.events import Event
from squareoff.core.limits import Level
from squareoff.core.machine import State
from squareoff.core.run import Run
from squareoff.core.strategy import StopLoss, StopLossKind, Strategy
from squareoff.core.types import StrategyId, Symbol, UserId
from squareoff.errors import RecordsUnavailable

IST = ZoneInfo("Asia/Kolkata")
WITHIN_S = 45.0


def until(is_so: Callable[[], Any], what: str) -> Any:
    end_s = time.monotonic() + WITHIN_S
    while not (answer := is_so()):
        assert time.monotonic() < end_s, f"{what} did not happen within {WITHIN_S:g} s"
        time.sleep(0.02)
    return answer


class Desk:
    """A data folder with `squareoff up` on it."""

    def __init__(self, data: Path) -> None:
        self.config = Config(data=data)
        self.config.make_data_folder()
        self.ups: list[subprocess.Popen[bytes]] = []

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "squareoff", "--data", str(self.config.data), *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*words), capture_output=True, text=True, stdin=subprocess.DEVNULL)

    def up(self, *, speed: float = 60) -> subprocess.Popen[bytes]:
        before = self.pid("worker")
        with (self.config.data / "up.out").open("ab") as out:
            words = self.command("up", "--market", "practice", "--no-console", "--speed", f"{speed:g}")
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.ups.append(process)
        until(lambda: self.told().get("pid") == process.pid and self.pid("worker") not in (None, before), "up")
        return process

    def told(self) -> dict[str, Any]:
        return running(self.config) or {}

    def pid(self, name: str) -> int | None:
        found: int | None = self.told().get("processes", {}).get(name)
        return found

    def said(self) -> str:
        return (self.config.data / "up.out").read_text()

    def hold(self, *, sell_after: timedelta = timedelta(hours=3)) -> Run:
        """A strategy that is bought and holds. Near midnight the practice day has no room, so it waits for the next."""
        now = wiring.now(self.config).astimezone(IST)
        sell = now + sell_after
        if sell.date() != now.date() or (sell.hour, sell.minute) > (23, 40):
            pytest.skip("too near to midnight in Mumbai for a run of some hours at this speed")
        store = wiring.open_strategy_store(self.config)
        buy = now + timedelta(minutes=2)
        strategy = store.add(
            Strategy(
                id=StrategyId(0),
                user=UserId(1),
                account=DEFAULT_ACCOUNT,
                name="held",
                symbol=Symbol("SIM:ALPHA"),
                quantity=Decimal(10),
                buy_time=buy.time().replace(microsecond=0),
                sell_time=sell.time().replace(microsecond=0),
                stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(40)),
            )
        )
        store.wish(strategy.id, Event.START, at=now, by="test")
        run = until(lambda: self.state(State.BOUGHT), "the BUY")
        store.close()
        return run

    def state(self, *states: State) -> Run | None:
        store = wiring.open_strategy_store(self.config)
        try:
            found = store.runs(limit=1)
        finally:
            store.close()
        return found[0] if found and (found[0].outcome or found[0].state) in states else None

    def ledger_is_one_entry_and_one_exit(self) -> bool:
        audit = wiring.paper_audit(self.config.data / "broker")
        (run,) = audit.runs
        return audit.is_clean and (run.executed_entries, run.executed_exits) == (1, 1)

    def close(self) -> None:
        for process in self.ups:
            if process.poll() is None:
                process.terminate()
                process.wait(30)
        for pid in (worker_pid(self.config),):
            if pid is not None:
                os.kill(pid, signal.SIGTERM)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "data")
    yield desk
    desk.close()


# --- what it refuses ---


def test_without_a_market_it_names_those_there_are(desk: Desk) -> None:
    answer = desk.run("up")
    assert answer.returncode == 2
    assert "practice" in answer.stderr
    assert "file:PATH" in answer.stderr


@pytest.mark.parametrize(
    "words", [("--market", "nse"), ("--market", "file:"), ("--market", "practice", "--speed", "0")]
)
def test_a_market_or_a_speed_that_cannot_be_is_refused(desk: Desk, words: tuple[str, ...]) -> None:
    answer = desk.run("up", *words)
    assert answer.returncode == 2, answer
    assert not (desk.config.run_folder / "up.json").exists()


@pytest.mark.parametrize("speed", [0.5, 1.0, 60.0, 3600.0])
def test_a_practice_market_has_a_clock_at_every_speed_it_offers(desk: Desk, speed: float) -> None:
    market = make_ready(desk.config, read_market("practice", speed=speed, seed=1), mischief=False)
    assert market.speed == speed
    first = wiring.now(desk.config)
    time.sleep(0.05)
    passed_s = (wiring.now(desk.config) - first).total_seconds()
    assert passed_s >= 0.05 * speed * 0.9


@pytest.mark.processes
def test_a_second_one_on_the_folder_is_refused_by_name(desk: Desk) -> None:
    first = desk.up()
    answer = desk.run("up", "--market", "practice")
    assert answer.returncode == 2
    assert str(desk.config.data) in answer.stderr
    assert str(first.pid) in answer.stderr


# --- what dies ---


@pytest.mark.processes
def test_a_killed_worker_is_started_again_guards_what_it_held_and_buys_nothing_twice(desk: Desk) -> None:
    desk.up()
    desk.hold()
    killed = desk.pid("worker")
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    until(lambda: desk.pid("worker") not in (None, killed), "a new worker")
    assert "the trading worker was killed by SIGKILL; it is started again in 0.1 s" in desk.said()
    assert desk.run("stop", "held", "--square-off").returncode == 0
    assert desk.ledger_is_one_entry_and_one_exit()


@pytest.mark.processes
def test_a_killed_broker_comes_back_at_the_same_address_with_its_book(desk: Desk) -> None:
    desk.up()
    desk.hold()
    before, url = desk.pid("broker"), desk.told()["broker_url"]
    assert before is not None
    os.kill(before, signal.SIGKILL)
    until(lambda: desk.pid("broker") not in (None, before), "a new broker")
    assert desk.told()["broker_url"] == url
    assert desk.run("stop", "held", "--square-off").returncode == 0
    assert desk.ledger_is_one_entry_and_one_exit()


@pytest.mark.processes
def test_when_up_itself_is_killed_the_worker_goes_on_and_the_next_up_takes_over(desk: Desk) -> None:
    first = desk.up()
    desk.hold()
    orphan = desk.pid("worker")
    first.kill()
    first.wait()
    time.sleep(0.5)
    assert worker_pid(desk.config) == orphan, "a position is better watched by an orphan than by nobody"
    desk.up()
    assert f"process {orphan}): it is ended in order" in desk.said()
    assert desk.state(State.BOUGHT) is not None
    assert desk.run("stop", "held", "--square-off").returncode == 0
    assert desk.ledger_is_one_entry_and_one_exit()


# --- how it ends ---


@pytest.mark.processes
def test_sigterm_ends_in_order_sells_nothing_and_says_what_nobody_watches_any_more(desk: Desk) -> None:
    process = desk.up()
    desk.hold()
    process.terminate()
    assert process.wait(30) == 0
    assert "NOT WATCHED ANY MORE: held: " in desk.said()
    assert worker_pid(desk.config) is None
    audit = wiring.paper_audit(desk.config.data / "broker")
    assert [run.executed_exits for run in audit.runs] == [0]
    assert "SIM:ALPHA: not watched any more" in (desk.config.data / "alerts.jsonl").read_text()


@pytest.mark.processes
@pytest.mark.parametrize(("letter", "state"), [("s", State.STOPPED), ("q", State.BOUGHT)])
def test_ctrl_c_with_a_position_asks_and_does_what_is_answered(desk: Desk, letter: str, state: State) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        desk.command("up", "--market", "practice", "--no-console", "--speed", "60"),
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
    )  # fmt: skip
    desk.ups.append(process)
    os.close(slave)
    seen = ""

    def read() -> str:
        nonlocal seen
        with contextlib.suppress(OSError):
            while select.select([master], [], [], 0)[0]:
                seen += os.read(master, 4096).decode(errors="replace")
        return seen

    until(lambda: read() and desk.pid("worker"), "up")
    desk.hold()
    process.send_signal(signal.SIGINT)
    until(lambda: "[s] square off and quit" in read(), "the question")
    assert "watched only while squareoff runs" in seen
    os.write(master, b"k\n")
    until(lambda: "it goes on" in read(), "going on")
    process.send_signal(signal.SIGINT)
    until(lambda: read().count("[s] square off and quit") == 2, "the second question")
    os.write(master, f"{letter}\n".encode())
    until(lambda: read() is not None and process.poll() is not None, "the end")
    assert process.returncode == 0
    assert desk.state(state) is not None
    os.close(master)


# --- the kill switch ---


@pytest.mark.processes
def test_kill_sells_what_is_held_and_keeps_the_account_shut_until_it_is_released_by_name(desk: Desk) -> None:
    desk.up()
    desk.hold()
    answer = desk.run("kill", "--square-off", "--reason", "news", "--yes")
    assert answer.returncode == 0, answer
    assert "held: flat, the fills prove it" in answer.stdout
    assert desk.ledger_is_one_entry_and_one_exit()
    store = wiring.open_strategy_store(desk.config)
    assert (store.rules(DEFAULT_ACCOUNT).level, store.rules(DEFAULT_ACCOUNT).reason) == (Level.SQUARE_OFF, "news")
    assert desk.run("release", "paper").returncode == 2
    assert desk.run("release", "paper", "--reason", "checked").returncode == 0
    assert store.rules(DEFAULT_ACCOUNT).level is Level.NORMAL
    store.close()


@pytest.mark.processes
def test_kill_with_no_engine_alive_takes_the_account_and_sells_itself(desk: Desk) -> None:
    process = desk.up()
    desk.hold()
    worker = desk.pid("worker")
    assert worker is not None
    process.kill()  # nobody starts the worker again; the broker lives on
    process.wait()
    os.kill(worker, signal.SIGKILL)
    until(lambda: worker_pid(desk.config) is None, "the end of the worker")
    answer = desk.run("kill", "--square-off", "--reason", "all is dead", "--yes")
    assert answer.returncode == 0, answer
    assert "takes the account and squares off itself" in answer.stdout
    assert desk.ledger_is_one_entry_and_one_exit()
    assert worker_pid(desk.config) is None
    desk.up()  # ends the orphaned broker; still latched
    assert desk.run("limits").stdout.startswith("account paper: KILL SWITCH square_off")


# --- a child that dies ---


def test_a_child_that_dies_young_again_and_again_is_started_later_each_time(tmp_path: Path) -> None:
    said: list[str] = []
    child = Child(
        name="x",
        command=lambda: [sys.executable, "-c", "raise SystemExit(3)"],
        ready=tmp_path / "x.json",
        log=tmp_path / "x.log",
    )
    child.start()
    until(lambda: child.look(said.append) or child.deaths == 3, "three deaths")
    pauses = [line.rpartition("in ")[2] for line in said if "started again" in line]
    assert pauses == ["0.1 s", "0.2 s", "0.4 s"]
    assert "ended with status 3" in said[0]
    child.end()


def test_the_address_of_up_is_gone_when_it_has_ended(desk: Desk) -> None:
    assert running(desk.config) is None
    (desk.config.run_folder).mkdir(parents=True)
    (desk.config.run_folder / "up.json").write_text(json.dumps({"pid": 1}))
    assert running(desk.config) is None, "a status file without its lock is what a killed one left behind"


def test_a_database_that_is_away_does_not_keep_up_from_ending_its_processes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> list[Run]:
        raise RecordsUnavailable("the disk is on fire")

    monkeypatch.setattr(up_command, "holding", away)
    log = up_command._Log(desk.config)
    assert up_command._holding(desk.config, log) == []
    log.close()
    assert (
        "what is held is not known here (the disk is on fire): look at your broker"
        in (desk.config.logs / "up.log").read_text()
    )
