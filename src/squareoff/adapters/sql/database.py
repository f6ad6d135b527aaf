"""A database: how it is opened, brought up to date, and asked. What only SQLite or only PostgreSQL does is in the
modules of their names.

Every process has its own `Database`; the database keeps their transactions apart.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import inspect, select, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError, StatementError

from squareoff.adapters.sql.kind import READS_ONLY, Kind
from squareoff.adapters.sql.migrations import HEAD, upgrade
from squareoff.adapters.sql.schema import install
from squareoff.errors import BadInput, RecordsUnavailable

_WRITES: Final[dict[str, Any]] = {READS_ONLY: False}
_READS: Final[dict[str, Any]] = {READS_ONLY: True}


def _new_install_id() -> str:
    return secrets.token_hex(8)


class Database:
    """One database, opened and up to date. Safe to use from several threads; closing it twice does no harm."""

    def __init__(self, engine: Engine, *, kind: Kind, install_id: str) -> None:
        self.engine, self.kind, self.install_id = engine, kind, install_id

    @classmethod
    def open(cls, where: Path | str, *, new_install_id: Callable[[], str] = _new_install_id) -> Database:
        """The database in the SQLite file `where`, made if it is not there, or at the PostgreSQL address `where`,
        which must be there; its tables are made, or migrated if they are older.

        Raises:
            BadInput: it is no squareoff database, of a newer squareoff, or no address. It was not changed.
            RecordsUnavailable: it cannot be read or written now; the message says why.
        """
        kind = kind_of(where)
        engine = kind.engine()
        try:
            with answers(kind):
                kind.prepare()
                install_id = _bring_up_to_date(engine, kind, new_install_id)
            return cls(engine, kind=kind, install_id=install_id)
        except BaseException:
            engine.dispose()
            raise

    def connect(self) -> Connection:
        """A connection for one thread; `transaction` uses it."""
        with answers(self.kind):
            self.kind.check()
            return self.engine.connect()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may write; committed at the end, rolled back by any exception."""
        with answers(self.kind), self.connect() as connection, transaction(connection):
            self.kind.hold_write(connection)
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads, all of it at the same instant. It never waits for a writer."""
        with answers(self.kind), self.connect() as connection, transaction(connection, reads_only=True):
            yield connection

    def close(self) -> None:
        self.engine.dispose()


def kind_of(where: Path | str) -> Kind:
    """Raises BadInput: an address that is none. Nothing is opened."""
    if isinstance(where, Path):
        from squareoff.adapters.sql.sqlite import SqliteFile

        return SqliteFile(where)
    from squareoff.adapters.sql.postgres import PostgresDatabase

    return PostgresDatabase(where)


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
    except DBAPIError:
        with suppress(SQLAlchemyError):  # the transaction may be gone with its savepoint: that is not the news
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT squareoff")
        raise
    except BaseException:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT squareoff")
        raise
    connection.exec_driver_sql("RELEASE SAVEPOINT squareoff")


@contextmanager
def answers(kind: Kind) -> Iterator[None]:
    """What the database says, in our words: RecordsUnavailable for all that is not our own mistake."""
    try:
        yield
    except DBAPIError as error:
        raise RecordsUnavailable(f"the database {kind.name} {kind.what_is_wrong(error)}") from error
    except PendingRollbackError as error:
        raise RecordsUnavailable(f"the database {kind.name} is not there: the connection broke") from error
    except StatementError as error:
        # a value that our own types refused: its maker should see that error, not a database's
        raise error.orig or error from error
    except OSError as error:
        raise RecordsUnavailable(f"the database {kind.name} cannot be used: {error.strerror or error}") from error


def _bring_up_to_date(engine: Engine, kind: Kind, new_install_id: Callable[[], str]) -> str:
    with engine.connect() as connection:
        with transaction(connection, reads_only=True):
            if check_version(connection, kind) == HEAD:
                return str(connection.execute(select(install.c.install_id)).scalar_one())
        kind.before_upgrade(connection)
        with transaction(connection):
            kind.hold_upgrade(connection)
            if check_version(connection, kind) != HEAD:  # asked again: another process may have been faster
                upgrade(connection)
            install_id = connection.execute(select(install.c.install_id)).scalar()
            if install_id is None:
                install_id = new_install_id()
                connection.execute(install.insert().values(id=1, install_id=install_id, last_run_id=0))
            return str(install_id)


def check_version(connection: Connection, kind: Kind) -> str:
    """The version of the tables, "" for a new database. Raises BadInput for what we must not touch."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return ""
    if "alembic_version" not in tables or "install" not in tables:
        raise BadInput("database", f"{kind.name} holds tables that are not squareoff's", "name another one")
    version = _version(connection)
    if version > HEAD:
        raise BadInput(
            "database",
            f"{kind.name} was written by a newer squareoff (database version {version}, this one knows up to {HEAD})",
            "install the newer squareoff, or name another one; nothing was changed",
        )
    return version


def _version(connection: Connection) -> str:
    """Four digits, so that their order as text is their order."""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
