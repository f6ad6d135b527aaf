"""SQLite: a file of this machine, of which each write takes the one write lock at once (BEGIN IMMEDIATE).

A transaction that starts as a reader may be refused at its first write, when it has already read what it decides on.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, NullPool, create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from squareoff.adapters.sql.kind import READS_ONLY
from squareoff.errors import RecordsUnavailable

BUSY_TIMEOUT_S: Final = 5.0
"""How long a write waits for the write of another process. Theirs take milliseconds."""
TRIES: Final = 4
"""Of the switch to WAL before the one that counts. Once a process has made it, nobody is refused any more."""

_TO_WAL = "PRAGMA journal_mode = WAL"


class SqliteFile:
    """The database in the file `path`."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = (0, 0)

    @property
    def name(self) -> str:
        return str(self.path)

    def engine(self) -> Engine:
        # No pool: the writer keeps the one connection it has, all others ask seldom and must not hold the file open.
        url = URL.create("sqlite+pysqlite", database=str(self.path))
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_TIMEOUT_S})
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        return engine

    def prepare(self) -> None:
        """What somebody trades is nobody else's business. SQLite gives its side files the same rights."""
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._file = _identity(self.path)

    def check(self) -> None:
        """SQLite would go on writing into a file that was deleted or replaced under it, and nobody would ever read
        that again."""
        if _identity(self.path) != self._file:
            raise RecordsUnavailable(
                f"the database {self.path} was deleted or replaced while squareoff was using it; "
                "put the original back, or restart squareoff to use the new one"
            )

    def before_upgrade(self, connection: Connection) -> None:
        """WAL stays with the file. The switch is not possible inside a transaction, and beside a write of another
        process SQLite refuses it at once (measured with 3.40); so we wait for their write as for any other."""
        driver: Any = connection.connection.driver_connection
        try:
            for _ in range(TRIES):
                with suppress(sqlite3.OperationalError):
                    driver.execute(_TO_WAL)
                    return
                driver.execute("BEGIN IMMEDIATE")  # this one waits
                driver.execute("ROLLBACK")
            driver.execute(_TO_WAL)
        except sqlite3.Error as error:
            raise OperationalError(_TO_WAL, None, error) from error

    def hold_upgrade(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE did."""

    def hold_write(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE did."""

    def hurry(self, connection: Connection, within_s: float) -> None:
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout = {int(within_s * 1000)}")

    def is_stale(self, connection: Connection) -> bool:
        return False

    def is_in_transaction(self, connection: Connection) -> bool:
        """SQLite ends it by itself on a full disk."""
        driver: Any = connection.connection.driver_connection
        return bool(driver.in_transaction)

    def keep_account(self, connection: Connection, account: str, *, wait: bool) -> bool:
        """The file belongs to one data folder, and so to the file lock in it."""
        return True

    def is_free(self, connection: Connection, account: str) -> bool:
        return True

    def mark(self, connection: Connection) -> str | None:
        return None  # a COMMIT that fails here was not done

    def was_committed(self, connection: Connection, mark: str) -> bool:
        return False

    def what_is_wrong(self, error: DBAPIError) -> str:
        if isinstance(error, IntegrityError):
            return f"refused to store what contradicts it: {error.orig}"
        name = getattr(error.orig, "sqlite_errorname", "")
        for prefix, words in _WORDS.items():
            if name.startswith(prefix):
                return words
        return f"did not answer clearly: {error.orig}"


_WORDS = {
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


def _set_up(connection: Any, record: object) -> None:
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


def _begin(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get(READS_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")


def _identity(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (stat.st_dev, stat.st_ino)
