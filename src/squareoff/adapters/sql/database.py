"""The database file: how it is opened, brought up to date, and asked. All that is only true of SQLite is here.

Every process has its own `Database`; SQLite keeps their transactions apart. Each write takes the one write lock at
once (BEGIN IMMEDIATE): a transaction that starts as a reader may be refused at its first write, when it has already
read what it decides on.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, NullPool, create_engine, event, inspect, select, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from squareoff.adapters.sql.migrations import HEAD, upgrade
from squareoff.adapters.sql.schema import install
from squareoff.errors import BadInput, RecordsUnavailable

BUSY_TIMEOUT_S: Final = 5.0
"""How long a write waits for the write of another process. Theirs take milliseconds."""

_READS_ONLY: Final = "squareoff_reads_only"
_WRITES: Final[dict[str, Any]] = {_READS_ONLY: False}
_READS: Final[dict[str, Any]] = {_READS_ONLY: True}


def _new_install_id() -> str:
    return secrets.token_hex(8)


class Database:
    """One database, opened and up to date. Safe to use from several threads; closing it twice does no harm."""

    def __init__(self, engine: Engine, *, path: Path, install_id: str) -> None:
        self.engine, self.path, self.install_id = engine, path, install_id
        self._file = _identity(path)

    @classmethod
    def open(cls, path: Path, *, new_install_id: Callable[[], str] = _new_install_id) -> Database:
        """The database in the file `path`, made if it is not there and migrated if it is older.

        Raises:
            BadInput: the file is no squareoff database, or of a newer squareoff. It was not changed.
            RecordsUnavailable: it cannot be read or written now; the message says why.
        """
        engine = _sqlite_engine(path)
        try:
            with answers(path):
                _make_private(path)
                install_id = _bring_up_to_date(engine, path, new_install_id)
            return cls(engine, path=path, install_id=install_id)
        except BaseException:
            engine.dispose()
            raise

    def connect(self) -> Connection:
        """A connection for one thread; `transaction` uses it."""
        with answers(self.path):
            self.check_file()
            return self.engine.connect()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may write; committed at the end, rolled back by any exception."""
        with answers(self.path), self.connect() as connection, transaction(connection):
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads, all of it at the same instant. It never waits for a writer."""
        with answers(self.path), self.connect() as connection, transaction(connection, reads_only=True):
            yield connection

    def check_file(self) -> None:
        """SQLite would go on writing into a file that was deleted or replaced under it, and nobody would ever read
        that again."""
        if _identity(self.path) != self._file:
            raise RecordsUnavailable(
                f"the database {self.path} was deleted or replaced while squareoff was using it; "
                "put the original back, or restart squareoff to use the new one"
            )

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def transaction(connection: Connection, *, reads_only: bool = False) -> Iterator[None]:
    connection.execution_options(**(_READS if reads_only else _WRITES))
    with connection.begin():
        yield


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """What fails inside takes nothing else of the transaction with it. As `begin_nested`, at a quarter of its cost;
    one does not hold another."""
    connection.exec_driver_sql("SAVEPOINT squareoff")
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT squareoff")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT squareoff")


@contextmanager
def answers(path: Path) -> Iterator[None]:
    """What the database says, in our words: RecordsUnavailable for all that is not our own mistake."""
    try:
        yield
    except DBAPIError as error:
        raise RecordsUnavailable(f"the database {path} {_what_is_wrong(error)}") from error
    except StatementError as error:
        # a value that our own types refused: its maker should see that error, not a database's
        raise error.orig or error from error
    except OSError as error:
        raise RecordsUnavailable(f"the database {path} cannot be used: {error.strerror or error}") from error


def _what_is_wrong(error: DBAPIError) -> str:
    error = _first_of(error)
    if isinstance(error, IntegrityError):
        return f"refused to store what contradicts it: {error.orig}"
    name = getattr(error.orig, "sqlite_errorname", "")
    for prefix, words in _SQLITE_WORDS.items():
        if name.startswith(prefix):
            return words
    return f"did not answer clearly: {error.orig}"


def _first_of(error: DBAPIError) -> DBAPIError:
    """On a full disk SQLite ends the transaction by itself; that its savepoint is gone then is not the news."""
    before: BaseException | None = error
    while before is not None and "no such savepoint" in str(error):
        before = before.__context__
        if isinstance(before, DBAPIError):
            error = before
    return error


_SQLITE_WORDS = {
    "SQLITE_FULL": "cannot grow: the disk is full; free some space",
    "SQLITE_BUSY": f"is locked: another process has been writing to it for more than {BUSY_TIMEOUT_S:g} s",
    "SQLITE_LOCKED": "is locked by another connection of this process",
    "SQLITE_READONLY": "cannot be written: the file or its folder is read-only",
    "SQLITE_CANTOPEN": "cannot be opened: check that its folder exists and may be written",
    "SQLITE_PERM": "cannot be opened: no permission",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error",
    "SQLITE_CORRUPT": "is damaged: put back a copy that is whole",
    "SQLITE_NOTADB": "is not a SQLite database: name another file",
}


def _sqlite_engine(path: Path) -> Engine:
    # No pool: the writer keeps the one connection it has, all others ask seldom and must not hold the file open.
    url = URL.create("sqlite+pysqlite", database=str(path))
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: object) -> None:
        connection.isolation_level = None  # Python's sqlite3 would choose when to BEGIN; we do
        cursor = connection.cursor()
        for pragma in (
            "synchronous = FULL",  # NORMAL may lose the last commits, and with them a licence, on a power cut
            "fullfsync = ON",  # macOS: without it the disk may keep a commit in its own memory
            "foreign_keys = ON",
            "trusted_schema = OFF",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads_only = connection.get_execution_options().get(_READS_ONLY, False)
        connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")

    return engine


def is_in_transaction(connection: Connection) -> bool:
    """Whether the database itself still has our transaction open: SQLite ends it by itself on a full disk."""
    driver: Any = connection.connection.driver_connection
    return bool(driver.in_transaction)


def _bring_up_to_date(engine: Engine, path: Path, new_install_id: Callable[[], str]) -> str:
    with engine.connect() as connection:
        with transaction(connection, reads_only=True):
            if _check_version(connection, path) == HEAD:
                return str(connection.execute(select(install.c.install_id)).scalar_one())
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA journal_mode = WAL")  # stays with the file; not possible inside a transaction
        with transaction(connection):  # asked again: another process may have been faster
            if _check_version(connection, path) != HEAD:
                upgrade(connection)
            install_id = connection.execute(select(install.c.install_id)).scalar()
            if install_id is None:
                install_id = new_install_id()
                connection.execute(install.insert().values(id=1, install_id=install_id, last_run_id=0))
            return str(install_id)


def _check_version(connection: Connection, path: Path) -> str:
    """The version of the tables, "" for a new file. Raises BadInput for what we must not touch."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return ""
    if "alembic_version" not in tables or "install" not in tables:
        raise BadInput("database", f"{path} holds tables that are not squareoff's", "name another file")
    version = _version(connection)
    if version > HEAD:
        raise BadInput(
            "database",
            f"{path} was written by a newer squareoff (database version {version}, this one knows up to {HEAD})",
            "install the newer squareoff, or name another file; nothing was changed",
        )
    return version


def _version(connection: Connection) -> str:
    """Four digits, so that their order as text is their order."""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


def _make_private(path: Path) -> None:
    """What somebody trades is nobody else's business. SQLite gives its side files the same rights."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (stat.st_dev, stat.st_ino)
