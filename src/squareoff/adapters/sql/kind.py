"""What each kind of database does its own way; all else is said once, in SQLAlchemy's words."""

from __future__ import annotations

from typing import Final, Protocol

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import DBAPIError

READS_ONLY: Final = "squareoff_reads_only"
"""The execution option that says what a transaction is for, to whom begins it."""


class Kind(Protocol):
    """SQLite or PostgreSQL. The engine leaves BEGIN to us, and keeps no pool of connections."""

    is_shared: bool
    """Other machines may use it too."""

    @property
    def name(self) -> str:
        """For people. No password is in it."""

    def engine(self) -> Engine: ...

    def prepare(self) -> None:
        """Before the first connection. Raises OSError."""

    def check(self) -> None:
        """Raises RecordsUnavailable if what we opened is not there any more, though nothing else would notice."""

    def before_upgrade(self, connection: Connection) -> None:
        """Outside any transaction. Raises BadInput: this database cannot be used."""

    def hold_upgrade(self, connection: Connection) -> None:
        """First in the transaction that makes or changes tables: one process does it, the others wait."""

    def hold_write(self, connection: Connection) -> None:
        """First in a transaction of a command: one command writes, the others wait."""

    def hurry(self, connection: Connection, within_s: float) -> None:
        """What is asked on this connection from now on fails after about so long."""

    def is_stale(self, connection: Connection) -> bool:
        """Whether a connection that nobody uses now was ended meanwhile, as far as this side can tell."""

    def is_in_transaction(self, connection: Connection) -> bool:
        """Whether the database itself still has our transaction open."""

    def keep_account(self, connection: Connection, account: str, *, wait: bool) -> bool:
        """Nobody else works `account` on this database while `connection` is open. False: somebody does."""

    def is_free(self, connection: Connection, account: str) -> bool:
        """Whether nobody keeps `account` so, and nobody can begin to before this transaction ends."""

    def mark(self, connection: Connection) -> str | None:
        """By what `was_committed` finds this transaction again; None: it wrote nothing, or nobody can ask."""

    def was_committed(self, connection: Connection, mark: str) -> bool:
        """What became of a COMMIT whose answer was lost. False also if that cannot be told any more."""

    def what_is_wrong(self, error: DBAPIError) -> str:
        """To follow "the database NAME"."""
