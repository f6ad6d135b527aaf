"""The command line on a data folder whose records are in PostgreSQL."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from faults.postgres import PostgresServer

from apps.conftest import Squareoff
from squareoff import wiring
from squareoff.config import Config
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.limits import Level

ADD = ("add", "morning", "NSE:SHARE", "50", "--buy", "09:20", "--sell", "15:10", "--stop-loss", "1540")


def keep_in(squareoff: Squareoff, address: str, *, mode: int = 0o600) -> Path:
    file = squareoff.data / "database.url"
    file.write_text(address + "\n")
    file.chmod(mode)
    return file


@pytest.fixture
def on_server(squareoff: Squareoff, new_postgres: Callable[[], str]) -> Squareoff:
    keep_in(squareoff, new_postgres())
    return squareoff


def test_every_command_finds_the_database_by_the_data_folder(on_server: Squareoff, postgres: PostgresServer) -> None:
    assert on_server(*ADD).status == 0
    assert on_server("start", "morning").status == 0
    told = [
        on_server(*command)
        for command in (("list",), ("show", "morning"), ("status",), ("why", "morning"), ("doctor",), ("accounts",))
    ]
    assert [answer.errors for answer in told] == [""] * 6
    assert "answers, can be written, version" in told[4].output
    assert not (on_server.data / "squareoff.db").exists()
    assert postgres.password not in "".join(answer.output for answer in told)


def test_an_address_that_others_may_read_is_not_used(squareoff: Squareoff) -> None:
    file = keep_in(squareoff, "postgresql://squareoff:hunter2@localhost/squareoff", mode=0o644)
    answer = squareoff("list")
    assert (answer.status, answer.errors) == (
        2,
        f"squareoff: database: {file} may hold a password, and others may read it; chmod 600 {file}\n",
    )


def test_a_folder_with_two_databases_is_silent_about_none(squareoff: Squareoff) -> None:
    assert squareoff(*ADD).status == 0
    keep_in(squareoff, "postgresql://squareoff:hunter2@localhost/squareoff")
    for command in (("list",), ("status",), ("up", "--market", "practice"), ("backup",)):
        answer = squareoff(*command)
        assert answer.status == 2
        assert "has both squareoff.db and database.url: which one counts?" in answer.errors
        assert "hunter2" not in answer.errors


def test_a_server_that_is_away_is_told_in_a_sentence(squareoff: Squareoff) -> None:
    keep_in(squareoff, "postgresql://squareoff:hunter2@127.0.0.1:1/squareoff")
    for command in (("list",), ("status",), ADD):
        answer = squareoff(*command)
        assert answer.status == 2
        assert answer.errors == (
            "squareoff: the database postgresql://squareoff@127.0.0.1:1/squareoff does not answer: "
            'connection to server at "127.0.0.1", port 1 failed: Connection refused\n'
        )
        assert answer.errors.count("\n") == 1
        assert "hunter2" not in answer.errors
    (database,) = [each for each in squareoff_doctor(squareoff) if each["name"] == "database"]
    assert (database["ok"], database["mend"]) == (False, "start the server, or correct database.url")


def squareoff_doctor(squareoff: Squareoff) -> list[dict[str, object]]:
    import json

    found: list[dict[str, object]] = json.loads(squareoff("doctor", "--json").output)["setup"]
    return found


@pytest.mark.parametrize("address", ["postgresql://squareoff:hunter2@127.0.0.1:1/squareoff", "no address at all"])
def test_the_kill_switch_works_while_the_database_is_away(squareoff: Squareoff, address: str) -> None:
    keep_in(squareoff, address)
    answer = squareoff("kill", "--entries", "--reason", "a test")
    assert answer.status == 0, answer
    assert wiring.brake(Config(data=squareoff.data), DEFAULT_ACCOUNT).level() is Level.NO_ENTRIES
    assert "hunter2" not in answer.output + answer.errors


def test_backup_and_restore_say_which_programs_do_it(
    on_server: Squareoff, postgres: PostgresServer, tmp_path: Path
) -> None:
    """The words are tried out as they stand."""
    assert on_server(*ADD).status == 0
    told = on_server("backup").errors
    dump = re.search(r"in .*; (cp .*) && (pg_dump .*)$", told)
    assert dump is not None, told
    run(dump[1], postgres, tmp_path)
    run(dump[2], postgres, tmp_path)
    assert (tmp_path / "squareoff-backup" / "database.url").exists()
    assert on_server("rm", "morning", "--yes").status == 0
    before = installation(on_server, postgres)
    told = on_server("restore", "squareoff.dump").errors
    back = re.search(r"(pg_restore .* squareoff-backup/squareoff.dump), .* (psql .*), or new", told)
    assert back is not None, told
    run(back[1], postgres, tmp_path)
    assert on_server.saved == ["morning"]
    run(back[2], postgres, tmp_path)
    assert installation(on_server, postgres) != before


def installation(squareoff: Squareoff, postgres: PostgresServer) -> object:
    name = (squareoff.data / "database.url").read_text().strip().rpartition("/")[2]
    return postgres.run("SELECT install_id FROM install", name)


def run(words: str, postgres: PostgresServer, folder: Path) -> None:
    environment = {**os.environ, "PGPASSWORD": postgres.password, "PATH": f"{postgres.programs}:{os.environ['PATH']}"}
    done = subprocess.run(shlex.split(words), cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
