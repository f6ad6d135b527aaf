"""What is only true of a database that is a server: it stops, stands still, comes back, and others use it too."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import replace
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest
from faults.postgres import PostgresServer
from sqlalchemy import select, update

from adapters.test_sql import NOW, PAPER, a_line, a_ready_run, a_strategy, buying, failing_commits, lease, texts
from squareoff.adapters.memory.alerts import MemoryAlerts
from squareoff.adapters.sql import schema
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.impatient import ImpatientConnection
from squareoff.adapters.sql.records import SqlRecords
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.core.limits import Level
from squareoff.core.orders import SlotPhase
from squareoff.core.run import Run
from squareoff.core.types import AccountId, Fill, TradeId
from squareoff.errors import AlreadyRunning, BadInput, EntriesBlocked, RecordsUnavailable
from squareoff.ports import Severity
from squareoff.wiring.worker import _open_database


@pytest.fixture
def url(new_postgres: Callable[[], str]) -> str:
    return new_postgres()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    StrategyStore(opened).add_account(PAPER, broker="paper")
    yield opened
    opened.close()


@pytest.fixture
async def records(database: Database) -> AsyncIterator[SqlRecords]:
    opened = SqlRecords(database)
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def fragile() -> Iterator[PostgresServer]:
    """A server that may be stopped."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def on_fragile(fragile: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Database]:
    name = f"db_{abs(hash(request.node.name))}"
    fragile.run(f"CREATE DATABASE {name}")
    opened = Database.open(fragile.url(name))
    StrategyStore(opened).add_account(PAPER, broker="paper")
    yield opened
    opened.close()


# --- the address ---


@pytest.mark.parametrize(
    "address",
    [
        "mysql://squareoff:hunter2@localhost/squareoff",
        "postgresql://squareoff:hun@ter2@localhost/squareoff",
        "postgresql://squareoff:hun/ter2@localhost/squareoff",
        "postgresql://squareoff:12/hunter2@localhost/squareoff",
        "postgresql://squareoff:hunter2@localhost:port/squareoff",
        "postgresql://squareoff:hunter2@localhost/squareoff?hunter2=2",
        "postgresql://squareoff:hunter2@localhost/squareoff?sslmode=%zz",
        "postgresql://squareoff:hunter2@localhost",
        "host=localhost password=hunter2",
        "postgresql://squareoff:hunter2@local host/squareoff?connect_timeout=1",
    ],
)
def test_an_address_that_is_none_is_refused_and_nothing_of_it_repeated(address: str) -> None:
    with pytest.raises((BadInput, RecordsUnavailable)) as refused:
        Database.open(address)
    assert "hunter" not in str(refused.value)
    assert "ter2" not in str(refused.value)


def test_without_the_driver_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(BadInput, match=r"PostgreSQL needs its driver; pip install 'squareoff\[postgres\]'"):
        Database.open("postgresql://squareoff@localhost/squareoff")


def test_the_password_shows_nowhere(postgres: PostgresServer, url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told: list[str] = []
    for address, says in (
        (url.replace(postgres.password, "wrong-secret"), "password authentication failed"),
        (url.rpartition("/")[0] + "/nowhere", 'database "nowhere" does not exist'),
        (url.replace(f":{postgres.port}/", ":1/"), "Connection refused"),
    ):
        with pytest.raises(RecordsUnavailable) as refused:
            Database.open(address)
        told += [str(refused.value), repr(refused.value)]
        assert says in told[-2]
    with closing(Database.open(url)) as database:
        told += [repr(database.engine), str(database.engine.url), database.kind.name, repr(vars(database))]
        told += [repr(database.kind)]
        with database.connect() as connection:
            told += [repr(connection.connection.driver_connection)]
    text = "\n".join([*told, caplog.text])
    assert postgres.password not in text
    assert "wrong-secret" not in text
    assert f"the database postgresql://squareoff@127.0.0.1:{postgres.port}/nowhere" in text


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'", "has the encoding LATIN1: not every text fits in"),
        ("; CREATE TABLE photos (name text)", "holds tables that are not squareoff's"),
        ("; ALTER DATABASE {name} SET default_transaction_read_only = on", "session is read-only"),
    ],
)
def test_a_database_that_does_not_fit_is_refused(postgres: PostgresServer, made: str, says: str) -> None:
    name = f"unfit_{len(made)}"
    create, _, then = made.partition(";")
    postgres.run(f"CREATE DATABASE {name} {create}")
    if then:
        postgres.run(then.format(name=name), name)
    with pytest.raises((BadInput, RecordsUnavailable), match=says):
        Database.open(postgres.url(name))


def test_nothing_is_waited_for_without_an_end(database: Database) -> None:
    with database.read() as connection:
        settings = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in (
                "synchronous_commit", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout",
                "transaction_isolation", "transaction_read_only", "application_name",
            )
        }  # fmt: skip
    assert settings == {
        "synchronous_commit": "on",
        "statement_timeout": "5s",
        "lock_timeout": "4s",
        "idle_in_transaction_session_timeout": "2500ms",
        "transaction_isolation": "repeatable read",
        "transaction_read_only": "on",
        "application_name": "squareoff",
    }


async def test_a_worker_holds_one_connection(postgres: PostgresServer, database: Database, records: SqlRecords) -> None:
    await lease(records)
    for _ in range(5):
        StrategyStore(database).list()
    name = database.kind.name.rpartition("/")[2]
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}' AND pid <> pg_backend_pid()"
    await asyncio.sleep(0.3)  # the server notices a moment later who has gone
    assert postgres.run(count, "postgres") == [(1,)]


# --- several at once ---


async def test_who_reads_has_all_of_it_of_one_instant(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    with database.read() as connection:
        before = connection.execute(schema.runs.select()).mappings().one()["version"]
        await records.save(replace(run, version=7), fence)
        after = connection.execute(schema.runs.select()).mappings().one()["version"]
    assert (before, after) == (0, 0)


def test_of_two_commands_that_add_the_same_name_one_is_told_so(database: Database) -> None:
    told: list[Any] = []

    def add() -> None:
        try:
            told.append(StrategyStore(database).add(a_strategy("infy")).name)
        except BadInput as error:
            told.append(str(error))

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(told)[0] == "infy"
    assert [text.startswith("name: there is a strategy 'infy' already") for text in sorted(told)[1:]] == [True] * 3


async def test_no_licence_is_given_after_the_kill_switch_answered(database: Database, records: SqlRecords) -> None:
    """The switch is being pressed while the licence is asked for: one of both is first, for everybody."""
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    with database.write() as connection:
        connection.execute(update(schema.accounts).values(level=Level.NO_ENTRIES))
        asked = asyncio.ensure_future(records.license_entry(buying(run, fence), fence))
        await asyncio.sleep(0.3)
        assert not asked.done()
    with pytest.raises(EntriesBlocked):
        await asked


async def test_a_worker_that_is_frozen_in_the_middle_of_a_write_does_not_keep_its_successor_out(
    database: Database, records: SqlRecords
) -> None:
    """Found by `make faults --repeat`: it kept its locks for longer than its successor waited for them."""
    await lease(records)
    frozen = database.connect()
    frozen.execute(select(schema.leases.c.fence).with_for_update(read=True)).all()  # as every save holds it
    assert await lease(records) == 2
    frozen.invalidate()
    frozen.close()


async def test_an_account_is_worked_from_one_data_folder(
    postgres: PostgresServer, url: str, database: Database
) -> None:
    here, there = SqlRecords(database), SqlRecords(database)
    await here.keep_account(PAPER)
    await lease(here)
    with pytest.raises(AlreadyRunning, match="account paper is worked by worker-1 already, from another data folder"):
        await there.keep_account(PAPER)
    await there.keep_account(AccountId("another"))
    cut_off(postgres, url)
    await here.next_run_id()  # takes the account again
    with pytest.raises(AlreadyRunning):
        await there.keep_account(PAPER)
    await here.close()
    await there.keep_account(PAPER)
    await there.close()


def cut_off(server: PostgresServer, url: str) -> None:
    """As a server does that stops, or a network."""
    name = url.rpartition("/")[2]
    server.run(f"SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = '{name}'")


# --- the server goes, and comes back ---


async def test_a_connection_that_was_ended_while_nobody_used_it_costs_nothing(
    postgres: PostgresServer, url: str, records: SqlRecords
) -> None:
    assert await records.next_run_id() == 1
    cut_off(postgres, url)
    assert await records.next_run_id() == 2


async def test_a_server_that_stops_is_told_and_one_that_comes_back_is_used(
    fragile: PostgresServer, on_fragile: Database
) -> None:
    records = SqlRecords(on_fragile)
    fence = await lease(records)
    run = await a_ready_run(on_fragile, records, fence)
    fragile.stop()
    records.write(a_line("while it was away"))
    with pytest.raises(RecordsUnavailable, match="Connection refused"):
        await records.license_entry(buying(run, fence), fence)
    with pytest.raises(RecordsUnavailable, match="Connection refused"):
        StrategyStore(on_fragile).list()
    fragile.start()
    assert await records.license_entry(buying(run, fence), fence)
    await records.close()
    assert texts(on_fragile) == ["while it was away"]


async def test_a_server_that_stands_still_is_given_up(
    fragile: PostgresServer, on_fragile: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImpatientConnection, "answer_within_s", 0.5)
    records = SqlRecords(on_fragile)
    await records.next_run_id()
    fragile.freeze()
    began_s = time.monotonic()
    try:
        with pytest.raises(RecordsUnavailable, match=r"no answer within 0\.5 s"):
            await records.next_run_id()
        assert time.monotonic() - began_s < 2
        with pytest.raises(RecordsUnavailable, match="timeout"):
            await records.next_run_id()
    finally:
        fragile.thaw()
    assert await records.next_run_id() >= 2
    await records.close()


@pytest.mark.processes
async def test_a_server_killed_in_the_middle_of_writing_keeps_whole_what_it_answered(
    fragile: PostgresServer, on_fragile: Database
) -> None:
    """Each version of the run has as many fills as its number, so half a transaction would show; each line of the
    journal is there once, in its order."""
    records = SqlRecords(on_fragile)
    fence = await lease(records)
    run = buying(await a_ready_run(on_fragile, records, fence), fence)
    assert await records.license_entry(run, fence)
    answered, refused = run.version, 0
    killer = asyncio.get_running_loop().create_task(asyncio.to_thread(_kill_four_times, fragile))
    while not killer.done():
        run = with_one_more_fill(run)
        records.write(a_line(str(run.version)))
        while True:
            try:
                await records.save(run, fence)
                break
            except RecordsUnavailable:
                refused += 1
                if killer.done():
                    await killer
                assert stored_version(on_fragile, run) in (None, answered, run.version)
                await asyncio.sleep(0.02)
        answered = run.version
    await killer
    await records.flush()
    await records.close()
    (stored,) = StrategyStore(on_fragile).open_runs()
    assert stored == run
    assert refused > 0
    assert texts(on_fragile) == [str(number) for number in range(2, run.version + 1)]


def _kill_four_times(server: PostgresServer) -> None:
    for pause_s in (0.3, 0.35, 0.4, 0.45):
        time.sleep(pause_s)
        server.kill()
        server.start()
    time.sleep(0.3)


def with_one_more_fill(run: Run) -> Run:
    current = run.entry.current
    assert current is not None
    fill = Fill(trade_id=TradeId(str(run.version)), qty=Decimal(1), price=Decimal("0.1"), at=NOW)
    entry = run.entry.with_current(fills=(*current.fills, fill))
    return replace(run, entry=entry, version=run.version + 1)


def stored_version(database: Database, run: Run) -> int | None:
    try:
        stored = StrategyStore(database).run(run.plan.run_id)
    except RecordsUnavailable:
        return None
    current = stored.entry.current
    assert current is not None
    assert len(current.fills) == stored.version - 1, "half a transaction"
    return stored.version


# --- a COMMIT whose answer is lost ---


async def test_a_line_whose_commit_was_done_but_not_answered_is_written_once(
    database: Database, records: SqlRecords
) -> None:
    with failing_commits(database, done=True):
        records.write(a_line("once"))
        await records.flush()
    records.write(a_line("after"))
    await records.flush()
    assert (texts(database), records.backlog) == (["once", "after"], 0)


async def test_a_server_that_was_put_back_to_an_earlier_day_is_not_asked_for_ever(database: Database) -> None:
    with database.write() as connection:
        connection.execute(update(schema.install).values(last_run_id=5))
        mark = database.kind.mark(connection)
        assert mark is not None
    with database.read() as connection:
        assert database.kind.was_committed(connection, mark)
        assert not database.kind.was_committed(connection, "FFFFFFFF" + mark[8:])
        assert not database.kind.was_committed(connection, mark[:8] + str(2**40))
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1


async def test_nobody_is_told_no_of_what_was_committed_after_all(database: Database, records: SqlRecords) -> None:
    """The server had our COMMIT and was still at it when we asked again."""
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    licensed = buying(run, fence)
    with failing_commits(database, done=False), pytest.raises(RecordsUnavailable):
        await records.license_entry(licensed, fence)
    with database.engine.connect() as ours, ours.begin():
        before = SqlRecords(database)
        ours.execute(update(schema.slots).where(schema.slots.c.slot == "entry").values(phase=SlotPhase.INTENT))
        from squareoff.adapters.sql.rows import update_run

        update_run(ours, licensed)
        asked = asyncio.ensure_future(records.license_entry(licensed, fence))
        await asyncio.sleep(0.3)
        assert not asked.done()
        await before.close()
    assert await asked
    assert not await records.license_entry(licensed, fence)


async def test_a_start_that_was_committed_after_all_is_no_second_start(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    strategy = StrategyStore(database).add(a_strategy("tcs"))
    first = await a_ready_run(database, records, fence)
    plan = replace(first.plan, run_id=await records.next_run_id(), strategy_id=strategy.id, name="tcs")
    run = replace(first, plan=plan, key="K")
    with database.engine.connect() as ours, ours.begin():
        from squareoff.adapters.sql.rows import insert_run

        insert_run(ours, run)
        asked = asyncio.ensure_future(records.add_run(run, fence))
        await asyncio.sleep(0.3)
        assert not asked.done()
    await asked
    assert await records.open_runs(PAPER) == (first, run)


async def test_a_worker_that_starts_while_the_server_is_away_says_that_nobody_watches(
    fragile: PostgresServer, on_fragile: Database
) -> None:
    alerts, stop = MemoryAlerts(), asyncio.Event()
    address = fragile.url(on_fragile.kind.name.rpartition("/")[2])
    fragile.stop()
    opening = asyncio.ensure_future(_open_database(address, alerts, PAPER, stop))
    await asyncio.sleep(1.5)
    fragile.start()
    (await opening).close()
    ((severity, headline),) = [(told.severity, told.headline) for told in alerts.told]
    assert (severity, headline) == (Severity.URGENT, "account paper is not watched: its database does not answer")
    fragile.stop()
    stop.set()
    with pytest.raises(RecordsUnavailable):
        await _open_database(address, alerts, PAPER, stop)
    fragile.start()
