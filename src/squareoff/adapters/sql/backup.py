"""Copies of the database while others write to it, a look at one that may be damaged, and a copy put to use again."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from sqlalchemy import delete, insert, select, update

from squareoff.adapters.sql.database import Database, answers, check_version, kind_of, transaction
from squareoff.adapters.sql.migrations import HEAD
from squareoff.adapters.sql.rows import journal_values
from squareoff.adapters.sql.schema import accounts, install, journal, links, sessions, tokens
from squareoff.adapters.sql.sqlite import BUSY_TIMEOUT_S
from squareoff.core.types import AccountId
from squareoff.errors import BadInput, RecordsUnavailable
from squareoff.ports import JournalEntry, JournalKind

NEWEST_VERSION: Final = HEAD
"""The newest database version this squareoff knows, four digits."""
_DAMAGES_SHOWN: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class DatabaseLook:
    """`version`: four digits, "" where none could be read. `wrong` None: it is ours, not newer than we, and as far as
    `right` says."""

    version: str
    wrong: str | None = None
    name: str = ""
    right: str = "whole, can be written"


def look(path: Path, *, writable: bool = True) -> DatabaseLook:
    """Whether the database can be used, without changing it. Reads all of it; others may write meanwhile.

    `writable`: also whether a write would be let in now.
    """
    try:
        with _opened(path) as connection:
            version = _version(connection)
            if wrong := _what_is_wrong(connection, version, check="quick_check"):
                return DatabaseLook(version=version, wrong=wrong, name=str(path))
            if writable:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("ROLLBACK")
            return DatabaseLook(version=version, name=str(path))
    except sqlite3.Error as error:
        return DatabaseLook(version="", wrong=_words(error), name=str(path))
    except OSError as error:
        return DatabaseLook(version="", wrong=error.strerror or str(error), name=str(path))


def look_at_server(address: str) -> DatabaseLook:
    """The same of a PostgreSQL database; whether it is whole is the server's care. Raises BadInput."""
    kind = kind_of(address)
    engine = kind.engine()
    try:
        with answers(kind), engine.connect() as connection:
            with transaction(connection, reads_only=True):
                version = check_version(connection, kind)
            with transaction(connection):
                kind.hold_write(connection)
        return DatabaseLook(version=version or "none yet", name=kind.name, right="answers, can be written")
    except (RecordsUnavailable, BadInput) as error:
        return DatabaseLook(version="", wrong=f"cannot be used: {error}", name=kind.name)
    finally:
        engine.dispose()


def copy_database(source: Path, target: Path) -> DatabaseLook:
    """Copy the database as it is at one instant into the new file `target` (0600), checked and on the disk.

    Nobody who writes has to wait. Raises RecordsUnavailable: the source cannot be read, or the copy is not whole;
    then there is no `target`.
    """
    os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with _told(source), _opened(source) as old, closing(sqlite3.connect(target)) as new:
            old.backup(new)  # in one step: a copy in several starts over whenever somebody writes
        found = verify(target)
        _sync(target)
        return found
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def verify(path: Path) -> DatabaseLook:
    """Every page and every index of a copy that nobody else uses. Raises RecordsUnavailable, which says what is
    wrong with it."""
    with _told(path), _opened(path) as connection:
        version = _version(connection)
        if wrong := _what_is_wrong(connection, version, check="integrity_check"):
            raise RecordsUnavailable(f"the database {path} {wrong}")
        return DatabaseLook(version=version)


def put_to_use(path: Path, *, install_id: str, at: datetime, text: str) -> None:
    """Make a copy the database of an installation of its own, brought up to date, with `text` in its journal.

    A new `install_id` is needed because the copy counts its runs on from an earlier day: a new run would get the
    number, and so the order ids, of one that was made after the copy, and its orders would be taken for ours. Runs
    that are there keep their key, so that their orders are still found. Sessions, links and tokens end: some of
    them may have been ended after the copy.

    Raises BadInput or RecordsUnavailable.
    """
    database = Database.open(path)
    try:
        with database.write() as connection:
            connection.execute(update(install).values(install_id=install_id))
            for table in (sessions, links):  # who was signed out or revoked since must not be let in again
                connection.execute(delete(table))
            connection.execute(update(tokens).where(tokens.c.revoked_at.is_(None)).values(revoked_at=at))
            for account in connection.execute(select(accounts.c.id).order_by(accounts.c.id)).scalars().all():
                entry = JournalEntry(at=at, account=AccountId(account), kind=JournalKind.NOTE, text=text)
                connection.execute(insert(journal).values(**journal_values(entry)))
    finally:
        database.close()
    _sync(path)


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    # rw, not ro: a reader of a database in WAL mode must be able to write its side files; never rwc, which makes one
    address = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        yield connection


def _version(connection: sqlite3.Connection) -> str:
    """ "" for a database that is not ours."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ('alembic_version', 'install')"
    if len(connection.execute(query).fetchall()) != 2:
        return ""
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    return "" if row is None else str(row[0])


def _what_is_wrong(connection: sqlite3.Connection, version: str, *, check: str) -> str | None:
    damages = [str(row[0]) for row in connection.execute(f"PRAGMA {check}({_DAMAGES_SHOWN})")]
    if damages != ["ok"]:
        return f"is damaged: {'; '.join(damages)}"
    if not version:
        return "holds no tables of squareoff"
    if version > HEAD:
        return f"was written by a newer squareoff (database version {version}, this one knows up to {HEAD})"
    return None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise RecordsUnavailable(f"the database {path} {_words(error)}") from error


def _words(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return f"is damaged, or is no database: {error}"
    return f"cannot be used: {error}"


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
