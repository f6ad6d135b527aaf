"""What several test files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from faults.postgres import NoPostgres, PostgresServer

from squareoff.adapters.redis.server import RedisServer
from squareoff.adapters.sql.database import Database


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real server for all tests that leave it running. Take an account of your own on it."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One real server for all tests that leave it running. Take a database of your own on it."""
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not here: pip install 'squareoff[postgres]'")
    try:
        server = PostgresServer()
    except NoPostgres as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(scope="session")
def new_postgres(postgres: PostgresServer) -> Callable[[], str]:
    """Makes a database with squareoff's tables in it, in a tenth of the time that making the tables takes."""
    postgres.run("CREATE DATABASE pattern")
    Database.open(postgres.url("pattern")).close()
    numbers = count(1)

    def make() -> str:
        name = f"test_{next(numbers)}"
        postgres.run(f"CREATE DATABASE {name} TEMPLATE pattern")
        return postgres.url(name)

    return make


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A database of the test's own, on each kind that `Database.open` takes."""
    if request.param == "sqlite":
        return tmp_path / "squareoff.sqlite3"
    make: Callable[[], str] = request.getfixturevalue("new_postgres")
    return make()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many days the simulator played, and how many of them were distinct."""
    days = [
        digest
        for report in terminalreporter.getreports("passed")
        for name, digests in report.user_properties
        if name == "days"
        for digest in digests
    ]
    if days:
        terminalreporter.write_line(f"simulator: {len(days)} days, {len(set(days))} of them distinct by their journal")
