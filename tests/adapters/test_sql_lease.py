"""Two machines, one account: whoever holds the lease sends, nobody else, and its holder stops before another begins."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.lease import SqlLease
from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning, FenceLost

A1 = AccountId("A1")
TTL_S, PATIENCE_S = 3.0, 1.0


@dataclass
class Local:
    machine: str = "m1"
    boot: str = "b1"
    is_held: bool = True


class Time:
    """The clocks of both machines, which a test moves."""

    def __init__(self) -> None:
        self.boot_s, self.wall_s = 1000.0, 5000.0

    def go(self, seconds: float) -> None:
        self.boot_s += seconds
        self.wall_s += seconds

    async def sleep(self, seconds: float) -> None:
        self.go(seconds)
        await asyncio.sleep(0)


class Pair:
    """Two workers with one database."""

    def __init__(self, where: Path | str) -> None:
        self.database, self.time = Database.open(where), Time()
        self.waits: list[str] = []

    def worker(self, name: str, local: Local | None = None) -> SqlLease:
        return SqlLease(
            self.database,
            A1,
            local or Local(),
            ttl_s=TTL_S,
            holder=name,
            boot_s=lambda: self.time.boot_s,
            wall_s=lambda: self.time.wall_s,
            sleep=self.time.sleep,
        )

    async def taken(self, name: str) -> SqlLease:
        worker = self.worker(name)
        await worker.acquire(patience_s=PATIENCE_S, on_wait=None)
        return worker


@pytest.fixture
def pair(where: Path | str) -> Iterator[Pair]:
    made = Pair(where)
    with closing(made.database):
        yield made


async def test_a_free_account_is_held_at_once_and_for_its_time_to_live(pair: Pair) -> None:
    one = await pair.taken("one")
    assert one.is_held
    pair.time.go(TTL_S - 0.01)
    assert one.is_held
    pair.time.go(0.02)
    assert not one.is_held


async def test_who_does_not_wait_is_told_who_has_it(pair: Pair) -> None:
    await pair.taken("one")
    with pytest.raises(AlreadyRunning, match="held by one"):
        await pair.taken("two")


async def test_a_standby_has_it_only_when_its_holder_has_stopped_sending_and_what_it_sent_has_arrived(
    pair: Pair,
) -> None:
    one = await pair.taken("one")
    two, began_s = pair.worker("two"), pair.time.boot_s
    await two.acquire(patience_s=PATIENCE_S, on_wait=pair.waits.append)
    waited_s = pair.time.boot_s - began_s
    assert (one.is_held, two.is_held) == (False, True)
    assert TTL_S + PATIENCE_S <= waited_s <= TTL_S + PATIENCE_S + 0.5
    assert pair.waits == ["account A1 is held by one"]


async def test_a_holder_that_renews_keeps_it_for_as_long_as_it_likes(pair: Pair) -> None:
    one, two = await pair.taken("one"), pair.worker("two")
    keeping = asyncio.ensure_future(one.keep())
    waiting = asyncio.ensure_future(two.acquire(patience_s=0.0, on_wait=pair.waits.append))
    for _ in range(60):
        await asyncio.sleep(0.005)
        assert one.is_held or not keeping.done()
    assert not waiting.done()
    for task in (keeping, waiting):
        task.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)


async def test_one_that_was_given_back_is_free_at_once(pair: Pair) -> None:
    one = await pair.taken("one")
    await one.release()
    began_s = pair.time.boot_s
    two = await pair.taken("two")
    assert (one.is_held, two.is_held, pair.time.boot_s - began_s) == (False, True, 0.0)


async def test_who_slept_past_its_time_sends_nothing_and_learns_that_another_has_it(pair: Pair) -> None:
    one = await pair.taken("one")
    await pair.worker("two").acquire(patience_s=PATIENCE_S, on_wait=pair.waits.append)
    assert not one.is_held
    with pytest.raises(FenceLost, match="taken by another"):
        await one.keep()
    assert not one.is_held


async def test_whichever_clock_passes_first_ends_it(pair: Pair) -> None:
    one = await pair.taken("one")
    pair.time.wall_s += TTL_S  # a machine that was copied and woken later: its boot clock stood still
    assert not one.is_held


async def test_when_the_database_is_away_it_ends_with_its_time_and_says_why(pair: Pair) -> None:
    one = await pair.taken("one")
    pair.database.connect = lambda: (_ for _ in ()).throw(OSError("no route"))  # type: ignore[method-assign]
    one._connection.close()  # type: ignore[union-attr]
    one._connection = None
    began_s = pair.time.boot_s
    with pytest.raises(FenceLost, match="ran out"):
        await one.keep()
    assert pair.time.boot_s - began_s >= TTL_S
    assert not one.is_held


async def test_without_its_own_machines_lock_it_counts_for_nothing(pair: Pair) -> None:
    local = Local()
    one = pair.worker("one", local)
    await one.acquire(patience_s=0.0, on_wait=None)
    local.is_held = False
    assert not one.is_held


async def test_of_many_who_wait_exactly_one_gets_it(pair: Pair) -> None:
    await pair.taken("one")
    rivals = [pair.worker(f"rival {n}") for n in range(5)]
    waiting = [asyncio.ensure_future(rival.acquire(patience_s=0.0, on_wait=pair.waits.append)) for rival in rivals]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert sum(task.done() for task in waiting) == 1
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_holder_whose_time_is_longer_than_ours_is_waited_for_by_its_own(pair: Pair) -> None:
    one = SqlLease(
        pair.database,
        A1,
        Local(),
        ttl_s=30.0,
        holder="one",
        boot_s=lambda: pair.time.boot_s,
        wall_s=lambda: pair.time.wall_s,
        sleep=pair.time.sleep,
    )
    await one.acquire(patience_s=0.0, on_wait=None)
    began_s = pair.time.boot_s
    await pair.worker("two").acquire(patience_s=0.0, on_wait=pair.waits.append)
    assert pair.time.boot_s - began_s >= 30.0
