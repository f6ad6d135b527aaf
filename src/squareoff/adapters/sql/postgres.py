"""PostgreSQL: a server, perhaps on another machine, which may go away in the middle of anything and come back.

Who writes sees what others committed (READ COMMITTED) and takes the locks it needs by name; who only reads has all of
it of one instant (REPEATABLE READ). Nothing is waited for without an end, on either side of the wire.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from squareoff.adapters.sql.kind import READS_ONLY
from squareoff.core.bad_input import BadInput

if TYPE_CHECKING:
    import psycopg

SCHEMES: Final = ("postgresql://", "postgres://")
CONNECT_WITHIN_S: Final = 3
LOCK_WITHIN_S: Final = 4.0
STATEMENT_WITHIN_S: Final = 5.0
"""The server gives a statement up after this, or earlier one that waits for somebody else's lock."""
ANSWER_WITHIN_S: Final = 6.0
"""And this side gives a server up that says nothing: one that stands still does not count its own time."""
UPGRADE_WITHIN_S: Final = 600.0
IDLE_WITHIN_S: Final = 2.5
"""A process that is frozen in a transaction keeps its locks no longer than this: less than another one waits for them,
which may be its successor."""
OLDEST: Final = 13

_UPGRADE_LOCK, _WRITE_LOCK, _ACCOUNT_LOCKS = 7_305_001, 7_305_002, 7_305_003
"""Numbers of our own among the server's advisory locks."""

_HOW = "write it like postgresql://squareoff:PASSWORD@localhost:5432/squareoff, with @ : / in a password as %40 %3A %2F"


class PostgresDatabase:
    """The database at `address`, a URL as `psql` takes it. The password in it is shown nowhere.

    Raises BadInput: it is no such address, or the driver is not installed.
    """

    is_shared = True

    def __init__(self, address: str) -> None:
        self._parameters = _read(address)
        user, host, port, database = (
            quote(self._parameters.get(key, ""), safe=",") for key in ("user", "host", "port", "dbname")
        )
        self.name = f"postgresql://{user and f'{user}@'}{host}{port and f':{port}'}/{database}"

    def engine(self) -> Engine:
        # No pool: the writer keeps its one connection, all others ask seldom and for a moment.
        address: Any = {"creator": self._connect, "use_native_hstore": False}
        engine = create_engine("postgresql+psycopg://", poolclass=NullPool, **address)
        event.listen(engine, "begin", _begin)
        return engine

    def _connect(self) -> psycopg.Connection:
        from squareoff.adapters.sql.impatient import ImpatientConnection

        # autocommit: the driver would choose when to BEGIN; we do
        return ImpatientConnection.connect(**self._parameters, autocommit=True)

    def prepare(self) -> None:
        pass

    def check(self) -> None:
        pass

    def before_upgrade(self, connection: Connection) -> None:
        version = connection.connection.driver_connection.info.server_version // 10_000  # type: ignore[union-attr]
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        connection.rollback()
        if version < OLDEST:
            raise BadInput("database", f"{self.name} is PostgreSQL {version}", f"{OLDEST} or newer is needed")
        if encoding != "UTF8":
            mend = "make another: createdb --template=template0 --encoding=UTF8 NAME"
            raise BadInput("database", f"{self.name} has the encoding {encoding}: not every text fits in", mend)

    def hold_upgrade(self, connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.answer_within_s = UPGRADE_WITHIN_S
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {setting} = '{UPGRADE_WITHIN_S:g}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})")

    def hold_write(self, connection: Connection) -> None:
        """What one command has checked, no other command changes; the worker's own rows are kept by its fence."""
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITE_LOCK})")

    def hurry(self, connection: Connection, within_s: float) -> None:
        driver: Any = connection.connection.driver_connection
        driver.answer_within_s = within_s
        for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
            driver.execute(f"SET {setting} = {int(within_s * 1000)}")

    def is_stale(self, connection: Connection) -> bool:
        """A server that ends a connection says so, and that can be seen without asking it."""
        if connection.invalidated:
            return True
        driver: Any = connection.connection.driver_connection
        if driver.closed:
            return True
        look = select.poll()
        look.register(driver.fileno(), select.POLLIN)
        return bool(look.poll(0))

    def is_in_transaction(self, connection: Connection) -> bool:
        if connection.invalidated:
            return False
        driver: Any = connection.connection.driver_connection
        return bool(driver.info.transaction_status.name == "INTRANS")

    def keep_account(self, connection: Connection, account: str, *, wait: bool) -> bool:
        """A second data folder with the same address, perhaps on another machine, would be a second sender. Of a
        worker that was killed the server may not know yet."""
        ask = f"SELECT pg_try_advisory_lock({_ACCOUNT_LOCKS}, hashtext(%s))"
        for _ in range(30 if wait else 0):
            if connection.exec_driver_sql(ask, (account,)).scalar():
                return True
            time.sleep(0.1)
        return bool(connection.exec_driver_sql(ask, (account,)).scalar())

    def is_free(self, connection: Connection, account: str) -> bool:
        ask = f"SELECT pg_try_advisory_xact_lock_shared({_ACCOUNT_LOCKS}, hashtext(%s))"
        return bool(connection.exec_driver_sql(ask, (account,)).scalar())

    def mark(self, connection: Connection) -> str | None:
        """The number of the transaction, in the history (timeline) it has: another server's numbers are others."""
        mark: str | None = connection.exec_driver_sql(
            f"SELECT {_TIMELINE} || pg_current_xact_id_if_assigned()"
        ).scalar()
        return mark

    def was_committed(self, connection: Connection, mark: str) -> bool:
        if connection.exec_driver_sql(f"SELECT {_TIMELINE}").scalar() != mark[:_TIMELINE_LETTERS]:
            return False
        number = mark[_TIMELINE_LETTERS:]
        try:
            for _ in range(10):  # its process may still be at it
                status = connection.exec_driver_sql("SELECT pg_xact_status(%s::xid8)", (number,)).scalar()
                if status != "in progress":
                    return bool(status == "committed")
                time.sleep(0.1)
        except DataError:  # a number that this server has not come to: it was put back to an earlier day
            pass
        return False

    def what_is_wrong(self, error: DBAPIError) -> str:
        if isinstance(error, IntegrityError):
            return f"refused to store what contradicts it: {self._told(error)}"
        state = getattr(error.orig, "sqlstate", None) or ""
        if not state:  # no server said this: none was reached, or it went away meanwhile
            return f"does not answer: {self._told(error)}"
        for prefix, words in _WORDS.items():
            if state.startswith(prefix):
                return words
        return f"did not answer clearly: {self._told(error)}"

    def _told(self, error: DBAPIError) -> str:
        """The server's own words on one line, without the password should it ever be in them."""
        text = " ".join(str(error.orig).split()).removeprefix("connection failed: ")
        text = text.replace(" Is the server running on that host and accepting TCP/IP connections?", "")
        password = self._parameters.get("password")
        return text.replace(password, "***") if password else text


_WORDS = {
    "42501": "does not let this user in: give it the database, ALTER DATABASE ... OWNER TO ...",
    "25006": "cannot be written: this server only reads, perhaps another one has taken over",
    "53100": "cannot grow: the server's disk is full; free some space",
    "53": "has no memory left",
    "55P03": f"is locked: another process has held what is needed for more than {LOCK_WITHIN_S:g} s",
    "40P01": "took this back: two processes waited for each other",
    "57014": f"did not finish within {STATEMENT_WITHIN_S:g} s",
    "57P": "is not there: the server stops or starts",
    "08": "is not there: the connection broke",
    "XX": "is damaged, the server says: see its log",
}
"""By SQLSTATE."""

_TIMELINE = "left(pg_walfile_name(pg_current_wal_lsn()), 8)"
_TIMELINE_LETTERS = 8


def _begin(connection: Connection) -> None:
    reads_only = connection.get_execution_options().get(READS_ONLY, False)
    connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if reads_only else _BEGIN_WRITING)


_BEGIN_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"


def _read(address: str) -> dict[str, Any]:
    """What the driver is told. Errors repeat nothing of the address: a part of it may be the password."""
    try:
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict
    except ImportError:
        raise BadInput("database", "PostgreSQL needs its driver", "pip install 'squareoff[postgres]'") from None
    if not address.startswith(SCHEMES):
        raise BadInput("database", "is not the address of a PostgreSQL database", _HOW)
    try:
        theirs = {key: str(value) for key, value in conninfo_to_dict(address).items() if value is not None}
    except ProgrammingError:
        raise BadInput("database", "the address cannot be read", _HOW) from None
    if not theirs.get("dbname"):
        raise BadInput("database", "the address names no database", _HOW)
    split_wrongly = any("@" in theirs.get(key, "") for key in ("host", "dbname"))
    if split_wrongly or not theirs.get("port", "0").replace(",", "").isdecimal():
        raise BadInput("database", "the address cannot be read", _HOW)
    return {**_PARAMETERS, **theirs, "options": f"{theirs.get('options', '')} {_OPTIONS}".strip()}


_PARAMETERS: dict[str, Any] = {
    "application_name": "squareoff",
    "connect_timeout": CONNECT_WITHIN_S,
    "target_session_attrs": "read-write",  # a standby takes no licence
    # a machine that is gone says nothing: the kernel asks, and gives it up after about as long as we do
    "keepalives_idle": 3,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": int(ANSWER_WITHIN_S * 1000),
}
_OPTIONS = " ".join(
    f"-c {name}={value}"
    for name, value in {
        "synchronous_commit": "on",  # whoever was told of a licence must find it again after a power cut
        "statement_timeout": f"{STATEMENT_WITHIN_S:g}s",
        "lock_timeout": f"{LOCK_WITHIN_S:g}s",
        "idle_in_transaction_session_timeout": f"{IDLE_WITHIN_S:g}s",
        # the same question from the server's side: what we held is free soon after we are gone
        "tcp_keepalives_idle": 5,
        "tcp_keepalives_interval": 2,
        "tcp_keepalives_count": 3,
    }.items()
)
"""For the session, whatever the server's own settings are."""
