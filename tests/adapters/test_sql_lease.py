"""Two machines, one account: whoever holds the lease sends, nobody else, and its holder stops before another begins."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.engine import Connection

from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.lease import SqlHold
from squareoff.adapters.sql.schema import holds
from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning, FenceLost
from squareoff.leasing import RENEWALS, SharedLease

NewPostgres = Callable[[], str]
A1 = AccountId("A1")
TTL_S, PATIENCE_S = 3.0, 1.0


@dataclass
class Local:
    machine: str = "m1"
    boot: str = "b1"
    is_held: bool = True
    place: str = "here"


class Time:
    """The clocks of both machines. They go on by themselves while somebody sleeps, but not while the database is being
    asked: how fast this computer is decides nothing."""

    def __init__(self) -> None:
        self.boot_s, self.wall_s = 1000.0, 5000.0
        self.asking = self.asleep = 0

    def go(self, seconds: float) -> None:
        self.boot_s += seconds
        self.wall_s += seconds

    async def sleep(self, seconds: float) -> None:
        until_s, self.asleep = self.boot_s + seconds, self.asleep + 1
        try:
            while self.boot_s < until_s:  # noqa: ASYNC110
                await asyncio.sleep(0)
        finally:
            self.asleep -= 1

    async def pass_by(self) -> None:
        while True:
            await asyncio.sleep(0)
            if self.asleep and not self.asking:
                self.go(0.0625)


class Pair:
    """Two workers with one database."""

    def __init__(self, where: Path | str) -> None:
        self.database, self.time = Database.open(where), Time()
        self.waits: list[str] = []

    def worker(self, name: str, local: Local | None = None, *, ttl_s: float = TTL_S) -> SharedLease:
        row = SqlHold(self.database, A1, within_s=ttl_s / RENEWALS)
        lease = SharedLease(
            row,
            A1,
            local or Local(place=f"machine {name}"),
            ttl_s=ttl_s,
            holder=name,
            boot_s=lambda: self.time.boot_s,
            wall_s=lambda: self.time.wall_s,
            sleep=self.time.sleep,
        )
        ask = row._ask

        async def asked(work: Callable[[Connection], Any], **how: bool) -> Any:
            self.time.asking += 1
            try:
                return await ask(work, **how)
            finally:
                self.time.asking -= 1

        row._ask = asked  # type: ignore[method-assign]
        return lease

    async def taken(self, name: str, local: Local | None = None) -> SharedLease:
        worker = self.worker(name, local)
        await worker.acquire(patience_s=PATIENCE_S, on_wait=None)
        return worker


@asynccontextmanager
async def two_machines(where: Path | str) -> AsyncIterator[Pair]:
    made = Pair(where)
    passing = asyncio.ensure_future(made.time.pass_by())
    with closing(made.database):
        yield made
    passing.cancel()


@asynccontextmanager
async def kept(lease: SharedLease) -> AsyncIterator[None]:
    """Its holder lives and renews it."""
    keeping = asyncio.ensure_future(lease.keep())
    yield
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


@pytest.fixture
async def pair(where: Path | str) -> AsyncIterator[Pair]:
    async with two_machines(where) as made:
        yield made


async def test_a_free_account_is_held_at_once_and_for_its_time_to_live(pair: Pair) -> None:
    one = await pair.taken("one")
    assert one.is_held
    pair.time.go(TTL_S - 0.01)
    assert one.is_held
    pair.time.go(0.02)
    assert not one.is_held


async def test_who_does_not_wait_is_told_who_has_it_as_soon_as_that_one_shows_that_it_lives(pair: Pair) -> None:
    one = await pair.taken("one")
    async with kept(one):
        with pytest.raises(AlreadyRunning, match="held by one"):
            await pair.taken("two")


async def test_who_does_not_wait_takes_the_account_of_one_that_is_dead(pair: Pair) -> None:
    await pair.taken("one")
    began_s = pair.time.boot_s
    two = await pair.taken("two")
    assert two.is_held
    assert pair.time.boot_s - began_s >= TTL_S + PATIENCE_S


async def test_a_worker_that_is_started_again_on_its_own_machine_has_it_at_once(pair: Pair) -> None:
    await pair.taken("one", Local(place="here"))
    began_s = pair.time.boot_s
    again = await pair.taken("again", Local(place="here"))
    assert (again.is_held, pair.time.boot_s) == (True, began_s)


async def test_a_worker_with_a_file_lock_begins_when_no_lease_is_left_and_does_not_take_one(pair: Pair) -> None:
    one = await pair.taken("one")
    two = pair.worker("two")
    await two.see_off(patience_s=PATIENCE_S, on_wait=None)
    assert (one.is_held, two.is_held) == (False, False)
    three = await pair.taken("three")
    assert three.is_held


async def test_a_worker_with_a_file_lock_is_refused_while_the_holder_of_a_lease_lives(pair: Pair) -> None:
    one, two = await pair.taken("one"), pair.worker("two")
    async with kept(one):
        with pytest.raises(AlreadyRunning, match="held by one"):
            await two.see_off(patience_s=PATIENCE_S, on_wait=None)


async def test_no_lease_begins_while_a_worker_with_a_file_lock_keeps_the_account(new_postgres: NewPostgres) -> None:
    async with two_machines(new_postgres()) as pair:
        connection = pair.database.connect()
        assert pair.database.kind.keep_account(connection, A1, wait=False)
        with pytest.raises(AlreadyRunning, match="--lease file"):
            await pair.taken("one")
        connection.close()
        assert (await pair.taken("two")).is_held


async def test_a_standby_outlives_a_database_that_goes_away_and_comes_back(pair: Pair) -> None:
    await pair.taken("one")
    two, connect = pair.worker("two"), pair.database.connect
    pair.database.connect = lambda: (_ for _ in ()).throw(OSError("no route"))  # type: ignore[method-assign]
    waiting = asyncio.ensure_future(two.acquire(patience_s=PATIENCE_S, on_wait=pair.waits.append))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    pair.database.connect = connect  # type: ignore[method-assign]
    await waiting
    assert two.is_held
    assert "no route" in pair.waits[0]


async def test_a_standby_has_it_only_when_its_holder_has_stopped_sending_and_what_it_sent_has_arrived(
    pair: Pair,
) -> None:
    one = await pair.taken("one")
    two, began_s = pair.worker("two"), pair.time.boot_s
    await two.acquire(patience_s=PATIENCE_S, on_wait=pair.waits.append)
    waited_s = pair.time.boot_s - began_s
    assert (one.is_held, two.is_held) == (False, True)
    assert TTL_S + PATIENCE_S <= waited_s <= TTL_S + PATIENCE_S + 0.5
    assert pair.waits == ["account A1 is held by one at machine one"]


async def test_a_holder_that_renews_keeps_it_for_as_long_as_it_likes(pair: Pair) -> None:
    one, two = await pair.taken("one"), pair.worker("two")
    async with kept(one):
        waiting = asyncio.ensure_future(two.acquire(patience_s=0.0, on_wait=pair.waits.append))
        await pair.time.sleep(TTL_S * 5)
        assert one.is_held
        assert not waiting.done()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_one_that_was_given_back_is_free_at_once(pair: Pair) -> None:
    one = await pair.taken("one")
    await one.release()
    began_s = pair.time.boot_s
    two = await pair.taken("two")
    assert (one.is_held, two.is_held, pair.time.boot_s - began_s) == (False, True, 0.0)


async def test_who_slept_past_its_time_sends_nothing_and_has_to_take_it_anew_though_nobody_else_has(pair: Pair) -> None:
    one = await pair.taken("one")
    pair.time.go(TTL_S)
    assert not one.is_held
    with pytest.raises(FenceLost, match="ran out"):
        await one.keep()
    assert not one.is_held


async def test_who_finds_another_name_in_the_row_has_lost_it(pair: Pair) -> None:
    one = await pair.taken("one")
    with pair.database.write() as connection:
        connection.execute(update(holds).values(holder="another"))
    with pytest.raises(FenceLost, match="taken by another"):
        await one.keep()


async def test_a_database_that_hangs_keeps_nobody_from_learning_that_the_time_is_over(pair: Pair) -> None:
    one, goes_on = await pair.taken("one"), threading.Event()
    one._row._thread.submit(goes_on.wait)
    one._until = (pair.time.boot_s + 0.1, pair.time.wall_s + 0.1)
    with pytest.raises(FenceLost, match="did not answer"):
        await one.keep()
    goes_on.set()


async def test_whichever_clock_passes_first_ends_it(pair: Pair) -> None:
    one = await pair.taken("one")
    pair.time.wall_s += TTL_S  # a machine that was copied and woken later: its boot clock stood still
    assert not one.is_held


async def test_when_the_database_is_away_it_ends_with_its_time_and_says_why(pair: Pair) -> None:
    one = await pair.taken("one")
    pair.database.connect = lambda: (_ for _ in ()).throw(OSError("no route"))  # type: ignore[method-assign]
    one._row._connection.close()  # type: ignore[union-attr]
    one._row._connection = None
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
    one = pair.worker("one", ttl_s=30.0)
    await one.acquire(patience_s=0.0, on_wait=None)
    began_s = pair.time.boot_s
    await pair.worker("two").acquire(patience_s=0.0, on_wait=pair.waits.append)
    assert pair.time.boot_s - began_s >= 30.0
