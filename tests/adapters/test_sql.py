"""What is only true of the records in SQL: the file, its versions, its transactions, and what may befall them."""

from __future__ import annotations

import asyncio
import secrets
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from time import sleep
from typing import IO, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from faults.postgres import PostgresServer
from sqlalchemy import event, insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from squareoff.adapters.sql import database as database_module
from squareoff.adapters.sql import rows, schema
from squareoff.adapters.sql import sqlite as sqlite_module
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.migrations import HEAD
from squareoff.adapters.sql.records import SqlRecords
from squareoff.adapters.sql.sqlite import SqliteFile
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.core.access import Role
from squareoff.core.limits import AccountRules
from squareoff.core.machine import State
from squareoff.core.orders import SlotPhase, Stamp, order_key
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, StopLoss, StopLossKind, Strategy
from squareoff.core.types import AccountId, Fence, Product, RunId, SlotName, StrategyId, Symbol, UserId
from squareoff.errors import BadInput, RecordsUnavailable
from squareoff.ports import JournalEntry, JournalKind

PAPER = AccountId("paper")
NOW = datetime(2026, 11, 23, 3, 50, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "squareoff.sqlite3"


@pytest.fixture
def database(where: Path | str) -> Iterator[Database]:
    """On both kinds; what is only true of SQLite's file takes `sqlite`."""
    opened = Database.open(where)
    StrategyStore(opened).add_account(PAPER, broker="paper")
    yield opened
    opened.close()


@pytest.fixture
def sqlite(path: Path) -> Iterator[Database]:
    opened = Database.open(path)
    StrategyStore(opened).add_account(PAPER, broker="paper")
    yield opened
    opened.close()


@pytest.fixture
async def records(database: Database) -> AsyncIterator[SqlRecords]:
    opened = SqlRecords(database)
    yield opened
    await opened.close()


def a_strategy(name: str) -> Strategy:
    return Strategy(
        id=StrategyId(0),
        user=UserId(1),
        account=PAPER,
        name=name,
        symbol=Symbol("NSE:INFY"),
        quantity=Decimal(50),
        buy_time=time(9, 20),
        sell_time=time(15, 15),
        stop_loss=StopLoss(kind=StopLossKind.PRICE, value=Decimal(1540)),
    )


async def a_ready_run(database: Database, records: SqlRecords, fence: Fence, name: str = "infy") -> Run:
    strategy = StrategyStore(database).add(a_strategy(name))
    run_id = await records.next_run_id()
    plan = Plan(
        run_id=run_id,
        strategy_id=strategy.id,
        user=strategy.user,
        account=PAPER,
        name=name,
        symbol=strategy.symbol,
        product=Product.MIS,
        quantity=strategy.quantity,
        trading_day=date(2026, 11, 23),
        buy_at=NOW,
        sell_at=NOW + timedelta(hours=6),
        closes_at=NOW + timedelta(hours=7),
        stop_loss=strategy.stop_loss,
        tick_size=Decimal("0.05"),
    )
    run = Run(plan=plan, key=order_key(records.install_id, run_id), state=State.READY)
    await records.add_run(run, fence)
    return run


def buying(run: Run, fence: Fence) -> Run:
    stamped = replace(run.entry, stamp=Stamp(fence=fence, machine="m1", boot="b1"))
    entry = stamped.with_next_attempt(run.key, SlotName.ENTRY, run.plan.quantity)
    return replace(run, state=State.RUNNING, entry=entry, version=run.version + 1)


def a_line(text: str) -> JournalEntry:
    return JournalEntry(at=NOW, account=PAPER, kind=JournalKind.NOTE, text=text)


def texts(database: Database) -> list[str]:
    return [entry.text for _, entry in StrategyStore(database).journal(limit=100_000)]


async def lease(records: SqlRecords) -> Fence:
    return await records.take_lease(PAPER, owner="worker-1", machine="m1", boot="b1")


@contextmanager
def counted_commits(database: Database) -> Iterator[list[int]]:
    count: list[int] = []

    def on_commit(connection: object) -> None:
        count.append(1)

    event.listen(database.engine, "commit", on_commit)
    yield count
    event.remove(database.engine, "commit", on_commit)


# --- the file and its versions ---


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, path: Path) -> Path | str:
    """Without any tables."""
    if request.param == "sqlite":
        return path
    server: PostgresServer = request.getfixturevalue("postgres")
    server.run(name := f"CREATE DATABASE new_{secrets.token_hex(4)}")
    return server.url(name.rpartition(" ")[2])


def test_a_new_database_has_exactly_the_tables_the_code_means(new_database: Path | str) -> None:
    with closing(Database.open(new_database)) as database, database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, schema.metadata) == []


def test_the_version_the_code_names_is_that_of_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", "squareoff.adapters.sql:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_new_file_is_kept_from_other_users_of_the_machine(sqlite: Database, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_installation_keeps_its_id_for_life(where: Path | str) -> None:
    with closing(Database.open(where)) as first, closing(Database.open(where)) as second:
        assert first.install_id == second.install_id
        assert len(first.install_id) == 16


def test_a_commit_is_on_the_disk_before_anyone_is_told(sqlite: Database) -> None:
    with sqlite.engine.connect() as connection:
        told = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert told == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_a_file_of_a_newer_squareoff_is_refused_and_not_touched(path: Path) -> None:
    Database.open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE holds")
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(BadInput) as refused:
        Database.open(path)
    assert str(refused.value) == (
        f"database: {path} was written by a newer squareoff (database version 9999, this one knows up to {HEAD}); "
        "install the newer squareoff, or name another one; nothing was changed"
    )
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_database_of_somebody_else_is_refused_and_not_touched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE photos (name TEXT)")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(BadInput, match="holds tables that are not squareoff's"):
        Database.open(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_text("dear diary" * 1000)
    with pytest.raises(RecordsUnavailable, match="is not a SQLite database: name another file"):
        Database.open(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordsUnavailable, match=r"nowhere.*No such file or directory"):
        Database.open(tmp_path / "nowhere" / "squareoff.sqlite3")


def test_a_migration_that_fails_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_way(connection: Any) -> None:
        connection.exec_driver_sql("CREATE TABLE install (id INTEGER)")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database_module, "upgrade", half_way)
        with pytest.raises(KeyboardInterrupt):
            Database.open(path)
    Database.open(path).close()


async def test_an_upgrade_with_an_open_position_keeps_every_order_and_fill_of_it(
    where: Path | str,
) -> None:
    with closing(Database.open(where)) as database:
        StrategyStore(database).add_account(PAPER, broker="paper")
        records = SqlRecords(database)
        fence = await lease(records)
        run = await a_ready_run(database, records, fence)
        assert await records.license_entry(buying(run, fence), fence)
        held = (await records.open_runs(PAPER))[0]
        await records.close()
        as_version_0001_had_it(database)
    with closing(Database.open(where)) as database:
        records = SqlRecords(database)
        assert await records.open_runs(PAPER) == (held,)
        assert await records.rules(PAPER) == AccountRules()
        with database.read() as connection:
            users = connection.execute(schema.users.select()).all()
        assert users == [(1, "local", None, Role.ADMIN, False)]
        await records.save(replace(held, version=held.version + 1), fence)
        await records.close()


def as_version_0001_had_it(database: Database) -> None:
    """Take back by hand what the later migrations added."""
    added = {
        "accounts": ("level", "level_reason", "level_by", "level_at", "max_order_qty", "max_order_value",
                     "max_open_positions", "max_orders_per_day", "max_loss_per_day", "square_off_at_loss"),
        "strategies": ("until", "repeating", "revision"),
        "orders": ("limit_price", "cancel_asked"),
        "users": ("password", "role", "disabled"),
    }  # fmt: skip
    with database.write() as connection:
        for table, columns in added.items():
            for column in columns:
                connection.exec_driver_sql(f"ALTER TABLE {table} DROP COLUMN {column}")
        for table in ("holds", "sessions", "tokens", "links", "audit", "answers", "secrets"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")


@pytest.mark.processes
def test_processes_that_open_a_new_database_at_once_agree_on_it(new_database: Path | str) -> None:
    script = """
        database = Database.open(where(sys.argv[1]))
        print(database.install_id)
        database.close()
    """
    processes = [child(script, new_database) for _ in range(4)]
    told = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert len(set(told)) == 1


@pytest.mark.parametrize("ends", [True, False])
def test_a_new_database_that_another_process_is_making_is_waited_for_but_not_for_ever(
    path: Path, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite refuses the switch to WAL at once, whatever its busy time-out; the test above found it, once in many."""
    monkeypatch.setattr(sqlite_module, "BUSY_TIMEOUT_S", 30.0 if ends else 0.1)
    asked, before_upgrade = threading.Event(), SqliteFile.before_upgrade

    def told(kind: SqliteFile, connection: Any) -> None:
        asked.set()
        before_upgrade(kind, connection)

    monkeypatch.setattr(SqliteFile, "before_upgrade", told)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")

        def let_go() -> None:
            asked.wait(30)
            sleep(0.3)  # so that it is refused
            other.execute("ROLLBACK")

        if not ends:
            with pytest.raises(RecordsUnavailable, match="is locked: another process"):
                Database.open(path)
            return
        thread = threading.Thread(target=let_go)
        thread.start()
        Database.open(path).close()
        thread.join()


def test_every_table_and_question_is_also_said_in_postgresql() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    said = [str(CreateTable(table).compile(dialect=dialect)) for table in schema.metadata.sorted_tables]
    said += [str(CreateIndex(i).compile(dialect=dialect)) for t in schema.metadata.sorted_tables for i in t.indexes]
    said += [str(question.compile(dialect=dialect)) for question in (rows._UPDATE_RUN, rows._KNOWN_ORDERS)]
    assert "WHERE NOT removed" in " ".join(said)
    assert "seq BIGSERIAL" in " ".join(said)


# --- values ---


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("1540.50", "1540.5"),
        ("1E+3", "1000"),
        ("-0.00", "0"),
        ("0.00000001", "0.00000001"),
        ("123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"),
    ],
)
def test_money_is_kept_to_the_last_digit_and_the_same_value_has_one_text(value: str, text: str) -> None:
    assert schema.decimal_text(Decimal(value)) == text
    assert Decimal(text) == Decimal(value)


def test_an_amount_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN is not an amount"):
        schema.decimal_text(Decimal("NaN"))


async def test_a_float_never_becomes_money(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    with pytest.raises(TypeError, match="money and quantities are Decimal, not float 1540"):
        await records.save(replace(run, stop_price=1540.05), fence)  # type: ignore[arg-type]


async def test_a_time_without_its_zone_is_refused(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    with pytest.raises(ValueError, match="has no time zone"):
        await records.save(replace(run, retry_at=datetime(2026, 11, 23, 9, 20)), fence)  # noqa: DTZ001


async def test_a_time_of_another_zone_is_the_same_instant(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    india = timezone(timedelta(hours=5, minutes=30))
    await records.save(replace(run, retry_at=NOW.astimezone(india)), fence)
    (stored,) = await records.open_runs(PAPER)
    assert (stored.retry_at, stored.retry_at and stored.retry_at.tzinfo) == (NOW, UTC)


# --- group commit ---


async def test_two_hundred_lines_wait_for_the_disk_once(database: Database, records: SqlRecords) -> None:
    await records.flush()
    with counted_commits(database) as commits:
        for number in range(200):
            records.write(a_line(str(number)))
        await records.flush()
    assert len(commits) <= 3
    assert texts(database) == [str(number) for number in range(200)]


async def test_two_hundred_saves_at_once_wait_for_the_disk_a_few_times(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    with counted_commits(database) as commits:
        await asyncio.gather(*(records.save(replace(run, version=number), fence) for number in range(200)))
    assert len(commits) <= 40


async def test_a_question_does_not_wait_for_the_disk(database: Database, records: SqlRecords) -> None:
    with held_up(database):
        assert await records.open_runs(PAPER) == ()


async def test_a_line_is_durable_soon_though_nobody_asks(database: Database, records: SqlRecords) -> None:
    await records.flush()
    records.write(a_line("alone"))
    assert records.backlog == 1
    async with asyncio.timeout(10):
        while records.backlog:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert texts(database) == ["alone"]


async def test_one_that_fails_takes_no_other_with_it(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    records.write(a_line("before"))
    half = replace(run, version=5, exit=run.exit.with_next_attempt(run.key, SlotName.EXIT, 1.5))  # type: ignore[arg-type]
    with held_up(database):
        answers = asyncio.gather(
            records.save(replace(run, version=1), fence),
            records.save(replace(run, version=2), Fence(99)),
            records.save(replace(run, version=3), fence),
            records.save(half, fence),
            return_exceptions=True,
        )
        await asyncio.sleep(0.1)
    assert [type(answer).__name__ for answer in await answers] == ["NoneType", "FenceLost", "NoneType", "TypeError"]
    (stored,) = await records.open_runs(PAPER)
    assert stored == replace(run, version=3)
    assert texts(database) == ["before"]


@contextmanager
def held_up(database: Database) -> Iterator[None]:
    """Another process writes: what is asked meanwhile waits, and is then done together."""
    kind = database.kind
    with database.engine.connect() as other, other.begin():  # SQLite's is BEGIN IMMEDIATE
        if not isinstance(kind, SqliteFile):
            other.exec_driver_sql("LOCK TABLE leases, install, journal IN EXCLUSIVE MODE")
        yield


async def test_who_stops_waiting_does_not_stop_the_work(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    licence = asyncio.ensure_future(records.license_entry(buying(run, fence), fence))
    await asyncio.sleep(0)
    licence.cancel()
    with suppress(asyncio.CancelledError):
        await licence
    assert await records.license_entry(buying(run, fence), fence), "our own licence, whose answer we did not hear"
    assert not await records.license_entry(buying(run, fence), fence), "and only once"


async def test_a_line_no_database_takes_costs_only_itself(database: Database, records: SqlRecords) -> None:
    records.write(a_line("before"))
    records.write(replace(a_line("odd"), run_id=RunId(2**70)))
    records.write(replace(a_line("when?"), at=datetime(2026, 11, 23, 3, 50)))  # noqa: DTZ001
    records.write(replace(a_line("half a letter \ud83d, a zero \0"), data={"error": ValueError("x"), "type": object}))
    records.write(replace(a_line("whose?"), account=AccountId("pa\0per")))
    records.write(a_line("after"))
    await records.flush()
    before, odd, no_zone, letters, after = texts(database)
    assert (before, letters, after) == ("before", "half a letter ?, a zero \N{REPLACEMENT CHARACTER}", "after")
    assert "'text': 'odd'" in odd
    assert "'text': 'when?'" in no_zone


# --- what may befall it ---


@contextmanager
def failing_commits(database: Database, *, done: bool, times: int = 1) -> Iterator[None]:
    """COMMIT answers with an error, after it was done or instead of it."""
    dialect = database.engine.dialect
    real, left = dialect.do_commit, [times]

    def do_commit(connection: Any) -> None:
        if not left[0]:
            return real(connection)
        left[0] -= 1
        if done:
            real(connection)
        raise dialect.loaded_dbapi.OperationalError("disk I/O error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dialect, "do_commit", do_commit)
        yield


async def test_when_the_answer_to_commit_is_lost_a_second_look_decides(database: Database, records: SqlRecords) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    with failing_commits(database, done=True):
        assert await records.license_entry(buying(run, fence), fence)
    assert not await records.license_entry(buying(run, fence), fence)


async def test_when_commit_failed_there_is_no_licence_and_it_can_be_asked_for_again(
    database: Database, records: SqlRecords
) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)
    with failing_commits(database, done=False), pytest.raises(RecordsUnavailable, match="was not decided"):
        await records.license_entry(buying(run, fence), fence)
    assert await records.open_runs(PAPER) == (run,)
    assert await records.license_entry(buying(run, fence), fence)


async def test_when_even_the_second_look_fails_a_third_one_decides(
    database: Database, records: SqlRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    fence = await lease(records)
    run = await a_ready_run(database, records, fence)

    def gone() -> Any:
        raise RecordsUnavailable("the disk is gone")

    with failing_commits(database, done=True), monkeypatch.context() as patch:
        patch.setattr(database, "connect", gone)
        with pytest.raises(RecordsUnavailable, match="the disk is gone"):
            await records.license_entry(buying(run, fence), fence)
    assert await records.license_entry(buying(run, fence), fence)
    assert not await records.license_entry(buying(run, fence), fence)


async def test_a_line_survives_a_commit_that_fails(database: Database, records: SqlRecords) -> None:
    with failing_commits(database, done=False):
        records.write(a_line("kept"))
        with pytest.raises(RecordsUnavailable):
            await records.flush()
        assert records.backlog == 1
    await records.flush()
    assert (texts(database), records.backlog) == (["kept"], 0)


async def test_a_full_disk_is_told_as_such_and_is_over_when_there_is_room(sqlite: Database) -> None:
    limit = [0]

    def few_pages(connection: Any, record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {limit[0] or 2**31 - 2}")

    def too_much(connection: Any) -> None:
        connection.execute(insert(schema.journal), rows.journal_values(a_line("z" * 100_000)))

    with sqlite.engine.connect() as connection:
        limit[0] = int(connection.exec_driver_sql("PRAGMA page_count").scalar() or 0) + 10
    event.listen(sqlite.engine, "connect", few_pages)
    records = SqlRecords(sqlite)
    try:
        fence = await lease(records)
        run = await a_ready_run(sqlite, records, fence)
        with held_up(sqlite):
            first = asyncio.ensure_future(records.next_run_id())
            await asyncio.sleep(0.1)
            small = replace(run, version=1)
            both = asyncio.gather(records.save(small, fence), records._write(too_much), return_exceptions=True)
            await asyncio.sleep(0.1)
        assert await first == run.plan.run_id + 1
        assert [type(answer) for answer in await both] == [RecordsUnavailable, RecordsUnavailable]
        assert StrategyStore(sqlite).run(run.plan.run_id) == run, "SQLite itself had taken both back"
        records.write(a_line("x" * 100_000))
        with pytest.raises(RecordsUnavailable, match="cannot grow: the disk is full; free some space"):
            await records.flush()
        with pytest.raises(RecordsUnavailable, match="the disk is full"):
            await records.save(replace(run, detail="y" * 100_000, version=1), fence)
        assert records.backlog == 1
        assert StrategyStore(sqlite).run(run.plan.run_id) == run
        limit[0] = 0
        await records.save(replace(run, version=2), fence)
        await records.flush()
        assert records.backlog == 0
        assert len(texts(sqlite)) == 1
    finally:
        await records.close()


async def test_a_lock_held_too_long_is_told_as_such(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "BUSY_TIMEOUT_S", 0.1)
    with closing(Database.open(path)) as database, closing(sqlite3.connect(path, isolation_level=None)) as other:
        records = SqlRecords(database)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RecordsUnavailable, match="is locked: another process has been writing"):
            await records.next_run_id()
        other.execute("ROLLBACK")
        assert await records.next_run_id() == 1
        await records.close()


async def test_the_write_of_another_process_is_waited_for(database: Database, records: SqlRecords) -> None:
    with held_up(database):
        asked = asyncio.ensure_future(records.next_run_id())
        await asyncio.sleep(0.2)
        assert not asked.done()
    assert await asked == 1


async def test_a_file_replaced_under_us_is_noticed(sqlite: Database, path: Path) -> None:
    records = SqlRecords(sqlite)
    assert await records.next_run_id() == 1
    moved = path.rename(path.with_suffix(".moved"))  # noqa: ASYNC240
    with pytest.raises(RecordsUnavailable, match="was deleted or replaced"):
        await records.next_run_id()
    with pytest.raises(RecordsUnavailable, match="was deleted or replaced"):
        StrategyStore(sqlite).list()
    assert not path.exists()  # noqa: ASYNC240
    moved.rename(path)
    assert await records.next_run_id() == 2
    await records.close()


@pytest.mark.processes
@pytest.mark.parametrize("lines_before_the_kill", [1, 3, 10, 30, 31])
def test_a_killed_worker_loses_nothing_it_was_told_is_safe(
    database: Database, where: Path | str, lines_before_the_kill: int
) -> None:
    """Each version of the run has as many fills as its number, so half a transaction would show."""
    strategy_id = StrategyStore(database).add(a_strategy("infy")).id
    process = child(KEEP_SAVING, where, strategy_id)
    assert process.stdout is not None
    flushed = [int(process.stdout.readline()) for _ in range(lines_before_the_kill)][-1]
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    (run,) = StrategyStore(database).open_runs()
    assert run.version >= flushed
    assert (run.detail, len(run.entry.attempts[0].fills)) == (str(run.version), run.version - 1)
    told = texts(database)
    assert len(told) >= flushed
    assert told == [str(number) for number in range(len(told))]


KEEP_SAVING = """
    async def main():
        database = Database.open(where(sys.argv[1]))
        records = SqlRecords(database)
        fence = await records.take_lease(PAPER, owner="w", machine="m", boot="b")
        run_id = await records.next_run_id()
        run = Run(plan=a_plan(run_id, int(sys.argv[2])), key=order_key("i", run_id), state=State.READY)
        await records.add_run(run, fence)
        records.write(a_line("0"))
        entry = run.entry.with_next_attempt(run.key, SlotName.ENTRY, Decimal(50))
        run = replace(run, state=State.RUNNING, entry=entry, version=1, detail="1")
        assert await records.license_entry(run, fence)
        while True:
            number = run.version
            records.write(a_line(str(number)))
            fill = Fill(trade_id=str(number), qty=Decimal(1), price=Decimal("0.1"), at=NOW)
            fills = (*run.entry.current.fills, fill)
            entry = run.entry.with_current(fills=fills)
            run = replace(run, entry=entry, version=number + 1, detail=str(number + 1))
            await records.save(run, fence)
            await records.flush()
            print(number + 1, flush=True)

    asyncio.run(main())
"""


@pytest.mark.processes
async def test_two_processes_that_fight_for_an_account_get_one_licence_each_run(
    database: Database, records: SqlRecords, where: Path | str
) -> None:
    fence = await lease(records)
    started = [await a_ready_run(database, records, fence, name=f"infy {number}") for number in range(25)]
    processes = [child(FIGHT, where) for _ in range(2)]
    for process in processes:
        assert stdout(process).readline() == "here\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    licensed = [int(word) for process in processes for word in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(licensed) == [run.plan.run_id for run in started]
    assert {run.entry.phase for run in await records.open_runs(PAPER)} == {SlotPhase.INTENT}


FIGHT = """
    async def main():
        database = Database.open(where(sys.argv[1]))
        records = SqlRecords(database)
        runs = await records.open_runs(PAPER)
        print("here", flush=True)
        sys.stdin.readline()
        fence = await records.take_lease(PAPER, owner="w", machine="m", boot="b")
        for run in runs:
            while True:
                stamped = replace(run.entry, stamp=Stamp(fence=fence, machine="m", boot="b"))
                entry = stamped.with_next_attempt(run.key, SlotName.ENTRY, Decimal(50))
                try:
                    mine = await records.license_entry(replace(run, entry=entry, version=1), fence)
                except FenceLost:
                    fence = await records.take_lease(PAPER, owner="w", machine="m", boot="b")
                    continue
                if mine:
                    print(run.plan.run_id, flush=True)
                break
        await records.close()
        database.close()

    asyncio.run(main())
"""

_PREAMBLE = """
import asyncio, sys
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.records import SqlRecords
from squareoff.core.machine import State
from squareoff.core.access import Role
from squareoff.core.limits import AccountRules
from squareoff.core.orders import Stamp, order_key
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, StopLoss, StopLossKind
from squareoff.core.types import Fill, Product, SlotName
from squareoff.errors import FenceLost
from squareoff.ports import JournalEntry, JournalKind

PAPER, NOW = "paper", datetime(2026, 11, 23, 3, 50, tzinfo=UTC)

def where(text):
    return text if "://" in text else Path(text)

def a_line(text):
    return JournalEntry(at=NOW, account=PAPER, kind=JournalKind.NOTE, text=text)

def a_plan(run_id, strategy_id):
    return Plan(
        run_id=run_id, strategy_id=strategy_id, user=1, account=PAPER, name="infy", symbol="NSE:INFY",
        product=Product.MIS, quantity=Decimal(50), trading_day=date(2026, 11, 23), buy_at=NOW, sell_at=NOW,
        closes_at=NOW, stop_loss=StopLoss(kind=StopLossKind.PRICE, value=Decimal(1540)), tick_size=Decimal("0.05"),
    )
"""


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PREAMBLE + textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def stdout(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout
