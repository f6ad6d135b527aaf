"""The row that says who holds an account across machines: the same promises in memory and in each database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from squareoff.adapters.memory.records import MemoryRecords
from squareoff.adapters.memory.spool import HoldStore, MemoryHold
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.lease import SqlHold
from squareoff.core.types import AccountId
from squareoff.ports import Held, HoldRow

A1 = AccountId("A1")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def rows(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[HoldRow, HoldRow]]:
    """The same row as two machines see it."""
    if request.param == "memory":
        store = HoldStore(MemoryRecords().holders)
        yield MemoryHold(store, A1), MemoryHold(store, A1)
        return
    make: Callable[[], str] | None = None if request.param == "sqlite" else request.getfixturevalue("new_postgres")
    database = Database.open(tmp_path / "squareoff.sqlite3" if make is None else make())
    one, two = SqlHold(database, A1, within_s=5.0), SqlHold(database, A1, within_s=5.0)
    yield one, two
    await one.close()
    await two.close()
    database.close()


async def test_of_two_who_saw_it_free_one_gets_it(rows: tuple[HoldRow, HoldRow]) -> None:
    one, two = rows
    seen = await one.look(), await two.look()
    assert seen == (Held(), Held())
    assert await one.take(seen[0], "one", 3.0)
    assert not await two.take(seen[1], "two", 3.0)
    assert await two.look() == Held("one", 1, 3.0)


async def test_of_two_who_saw_its_holder_grow_old_one_gets_it(rows: tuple[HoldRow, HoldRow]) -> None:
    one, two = rows
    assert await one.take(await one.look(), "gone", 3.0)
    seen = await one.look(), await two.look()
    assert await two.take(seen[1], "two", 3.0)
    assert not await one.take(seen[0], "one", 3.0)


async def test_a_renewal_shows_and_is_refused_to_whoever_has_lost_it(rows: tuple[HoldRow, HoldRow]) -> None:
    one, two = rows
    assert await one.take(await one.look(), "one", 3.0)
    assert await one.beat("one", 3.0)
    seen = await two.look()
    assert seen.beat == 2
    assert await two.take(seen, "two", 6.0)
    assert not await one.beat("one", 3.0)
    assert await two.look() == Held("two", 3, 6.0)


async def test_only_its_holder_gives_it_back(rows: tuple[HoldRow, HoldRow]) -> None:
    one, two = rows
    assert await one.take(await one.look(), "one", 3.0)
    await two.forget("two")
    assert (await two.look()).holder == "one"
    await one.forget("one")
    assert (await two.look()).holder is None
    assert await two.take(await two.look(), "two", 3.0)
    await one.clear()
    assert (await two.look()).holder is None
