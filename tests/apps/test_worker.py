"""The worker's process: what it says, how it waits for an account, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select, update

from squareoff import wiring
from squareoff.adapters.sql.schema import holds, journal
from squareoff.apps.metrics import render
from squareoff.config import ADDRESS_NAME, Config
from squareoff.core.definition import DEFAULT_ACCOUNT

pytestmark = pytest.mark.processes

WITHIN_S = 40.0
NOBODY = "http://127.0.0.1:9"
"""A broker that is away: recovery cannot end."""


class Workers:
    """Worker processes of one test, in data folders of their own where a test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[tuple[subprocess.Popen[str], Path]] = []
        self.data = self.new_folder("data")

    def new_folder(self, name: str, address: str | None = None) -> Config:
        config = Config(data=self.folder / name)
        config.make_data_folder()
        if address is not None:
            (config.data / ADDRESS_NAME).touch(mode=0o600)
            (config.data / ADDRESS_NAME).write_text(address)
        with closing(wiring.open_strategy_store(config)):  # makes the account
            return config

    def start(self, *more: str, data: Config | None = None) -> subprocess.Popen[str]:
        log = self.folder / f"log-{len(self._started)}"
        command = [sys.executable, "-m", "squareoff.apps.worker", "--data", str((data or self.data).data)]
        command += ["--broker", NOBODY, "--redis", "redis://127.0.0.1:9/0", "--request-timeout", "0.5", *more]
        with log.open("w") as out:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, text=True)
        self._started.append((process, log))
        return process

    def log(self, process: subprocess.Popen[str]) -> str:
        return next(log for each, log in self._started if each is process).read_text()

    def story(self, data: Config | None = None) -> list[str]:
        with closing(wiring.open_strategy_store(data or self.data)) as store, store._database.read() as connection:
            return list(connection.execute(select(journal.c.text).order_by(journal.c.seq)).scalars())

    def wait(self, what: str, is_so: Callable[[], bool]) -> None:
        until_s = time.monotonic() + WITHIN_S
        while not is_so():
            logs = "\n".join(log.read_text() for _, log in self._started)
            assert time.monotonic() < until_s, f"{what}: not within {WITHIN_S:g} s\n{logs}"
            time.sleep(0.02)

    def recovers(self, data: Config | None = None) -> None:
        self.wait("recovery", lambda: any("the broker does not answer yet" in text for text in self.story(data)))

    def ended(self, process: subprocess.Popen[str]) -> int:
        self.wait("the end", lambda: process.poll() is not None)
        return process.returncode

    def close(self) -> None:
        for process, _ in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    yield made
    made.close()


def holder(data: Config) -> str | None:
    with closing(wiring.open_strategy_store(data)) as store, store._database.read() as connection:
        found: str | None = connection.execute(select(holds.c.holder)).scalar()
        return found


def test_a_worker_that_still_recovers_ends_when_it_is_asked_to(workers: Workers) -> None:
    worker = workers.start()
    workers.recovers()
    worker.send_signal(signal.SIGTERM)
    assert workers.ended(worker) == 0
    assert workers.story()[-1] == "this worker stops; it sells nothing by itself"


def test_a_worker_that_loses_the_account_while_it_recovers_says_so_and_ends(workers: Workers) -> None:
    worker = workers.start("--lease", "sql", "--lease-ttl", "1")
    workers.recovers()
    with closing(wiring.open_strategy_store(workers.data)) as store, store._database.write() as connection:
        connection.execute(update(holds).values(holder="somebody else"))
    assert workers.ended(worker) == 2
    assert "nothing is sent from here" in workers.log(worker)
    assert any("was taken by another worker" in text for text in workers.story())


def test_a_standby_says_whom_it_waits_for_and_tells_the_story_when_it_takes_over(workers: Workers) -> None:
    first = workers.start()
    workers.recovers()
    second = workers.start("--standby")
    workers.wait("STANDBY", lambda: f"STANDBY account {DEFAULT_ACCOUNT}" in workers.log(second))
    first.kill()
    workers.wait("the takeover", lambda: any(text.startswith("stood by: ") for text in workers.story()))
    assert f"process {first.pid}" in next(text for text in workers.story() if text.startswith("stood by: "))


def test_a_standby_that_is_asked_to_end_ends(workers: Workers) -> None:
    workers.start()
    workers.recovers()
    second = workers.start("--standby")
    workers.wait("STANDBY", lambda: "STANDBY" in workers.log(second))
    second.send_signal(signal.SIGTERM)
    assert workers.ended(second) == 0


def test_a_killed_worker_has_its_account_again_at_once_though_its_lease_was_long(workers: Workers) -> None:
    first = workers.start("--lease", "sql", "--lease-ttl", "3600")
    workers.recovers()
    first.kill()
    first.wait()
    before = len(workers.story())
    workers.start("--lease", "sql", "--lease-ttl", "3600")
    workers.wait("the next worker", lambda: any("start: " in text for text in workers.story()[before:]))


@pytest.mark.parametrize("kinds", [("sql", "file"), ("file", "sql"), ("sql", "sql"), ("file", "file")])
def test_on_two_machines_one_works_the_account_whatever_each_was_told(
    workers: Workers, new_postgres: Callable[[], str], kinds: tuple[str, str]
) -> None:
    address = new_postgres()
    one, two = (workers.new_folder(name, address) for name in ("one", "two"))
    first = workers.start("--lease", kinds[0], "--lease-ttl", "2", data=one)
    workers.recovers(one)
    second = workers.start("--lease", kinds[1], "--lease-ttl", "2", data=two)
    assert workers.ended(second) == 2
    assert f"account {DEFAULT_ACCOUNT} is " in workers.log(second)
    assert first.poll() is None


def test_one_that_died_on_another_machine_is_followed_by_one_with_a_file_lock(
    workers: Workers, new_postgres: Callable[[], str]
) -> None:
    address = new_postgres()
    one, two = (workers.new_folder(name, address) for name in ("one", "two"))
    first = workers.start("--lease", "sql", "--lease-ttl", "1", data=one)
    workers.recovers(one)
    first.kill()
    assert holder(one) is not None
    workers.start(data=two)
    workers.wait("the takeover", lambda: holder(two) is None)


def json_log(data: Config) -> list[dict[str, Any]]:
    file = data.logs / "worker.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_worker_tells_its_figures_while_it_runs_and_takes_them_away_when_it_ends(workers: Workers) -> None:
    worker = workers.start()
    told = workers.data.run_folder / f"metrics-{DEFAULT_ACCOUNT}.json"
    workers.wait("the figures", told.exists)
    first = told.read_text()
    workers.wait("new figures", lambda: told.read_text() != first)
    document = json.loads(told.read_text())
    assert (document["account"], document["pid"]) == (DEFAULT_ACCOUNT, worker.pid)
    families = {each.name: each for each in text_string_to_metric_families(render(told.parent).decode())}
    assert families["squareoff_recovered"].samples[0].value == 0
    assert families["squareoff_worker_snapshot_age_seconds"].samples[0].value < WITHIN_S
    worker.send_signal(signal.SIGTERM)
    assert workers.ended(worker) == 0
    assert not told.exists()


def test_the_figures_of_a_worker_that_was_killed_grow_old(workers: Workers) -> None:
    worker = workers.start()
    told = workers.data.run_folder / f"metrics-{DEFAULT_ACCOUNT}.json"
    workers.wait("the figures", told.exists)
    worker.kill()
    worker.wait()
    assert told.exists()


def test_a_worker_writes_a_log_for_machines_in_which_no_secret_stands(workers: Workers) -> None:
    secret, password = "tok-3f9a8b7c6d", "pass-5e4d3c2b"
    worker = workers.start("--token", secret, "--redis", f"redis://:{password}@127.0.0.1:9/0")
    workers.wait(
        "the log", lambda: any("the broker does not answer yet" in line["event"] for line in json_log(workers.data))
    )
    worker.send_signal(signal.SIGTERM)
    assert workers.ended(worker) == 0
    told = json_log(workers.data)
    assert told[-1]["event"] == "this worker stops; it sells nothing by itself"
    assert {"at", "level", "event", "account", "kind", "engine"} <= set(told[0])
    assert {line["account"] for line in told} == {DEFAULT_ACCOUNT}
    written = [*workers.data.logs.iterdir(), *workers.data.run_folder.iterdir()]
    assert [file for file in written if any(word in file.read_text() for word in (secret, password))] == []
    assert not any(word in workers.log(worker) for word in (secret, password))


def test_a_worker_whose_log_cannot_be_written_works_on_and_counts_it(workers: Workers) -> None:
    workers.data.logs.mkdir()
    (workers.data.logs / "worker.jsonl").mkdir()  # also root cannot write there
    worker = workers.start()
    workers.recovers()
    told = workers.data.run_folder / f"metrics-{DEFAULT_ACCOUNT}.json"

    def lost() -> float:
        metrics = json.loads(told.read_text())["metrics"] if told.exists() else {}
        return sum(value for _, value in metrics.get("squareoff_log_lines_dropped_total", []))

    workers.wait("the count of lost lines", lambda: lost() > 0)
    worker.send_signal(signal.SIGTERM)
    assert workers.ended(worker) == 0
