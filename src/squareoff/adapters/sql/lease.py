"""Who holds an account across machines, in the database: the row that `leasing.SharedLease` renews and watches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from sqlalchemy import and_, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from squareoff.adapters.sql.database import Database, answers, transaction
from squareoff.adapters.sql.schema import holds
from squareoff.core.types import AccountId
from squareoff.ports import Held

T = TypeVar("T")


class SqlHold:
    """`ports.HoldRow` in a thread and with a connection of its own: a writer that hangs must not cost us the lease."""

    def __init__(self, database: Database, account: AccountId, *, within_s: float) -> None:
        """`within_s`: how long the database may take to answer."""
        self._database, self._account, self._within_s = database, account, within_s
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, "lease")

    async def look(self) -> Held:
        return await self._ask(self._look, reads_only=True)

    async def take(self, seen: Held, holder: str, ttl_s: float) -> bool:
        return await self._ask(lambda connection: self._write_holder(connection, seen, holder, ttl_s))

    async def beat(self, holder: str, ttl_s: float) -> bool:
        return await self._ask(lambda connection: self._write_beat(connection, holder, ttl_s))

    async def forget(self, holder: str) -> None:
        await self._ask(lambda connection: self._forget(connection, holder))

    async def clear(self) -> None:
        await self._ask(self._clear)

    async def close(self) -> None:
        self._thread.submit(self._disconnect)
        await asyncio.to_thread(self._thread.shutdown)

    # ------------------------------------------------------------------ in its own thread

    async def _ask(self, work: Callable[[Connection], T], *, reads_only: bool = False) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._transaction, work, reads_only)

    def _transaction(self, work: Callable[[Connection], T], reads_only: bool) -> T:
        try:
            with answers(self._database.kind):
                if self._connection is None:
                    self._connection = self._database.connect()
                    self._database.kind.hurry(self._connection, self._within_s)
                with transaction(self._connection, reads_only=reads_only):
                    return work(self._connection)
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()

    def _look(self, connection: Connection) -> Held:
        is_kept = not self._database.kind.is_free(connection, self._account)
        row = connection.execute(select(holds).where(holds.c.account == self._account)).mappings().one_or_none()
        return Held(is_kept=is_kept) if row is None else Held(row["holder"], row["beat"], row["ttl_s"], is_kept)

    def _write_holder(self, connection: Connection, seen: Held, holder: str, ttl_s: float) -> bool:
        if not self._database.kind.is_free(connection, self._account):
            return False
        mine = {"holder": holder, "ttl_s": ttl_s}
        if not seen.beat:
            try:
                connection.execute(insert(holds).values(account=self._account, beat=1, **mine))
            except IntegrityError:  # another was faster
                connection.get_transaction().rollback()  # type: ignore[union-attr]
                return False
            return True
        as_seen = and_(holds.c.account == self._account, holds.c.beat == seen.beat)
        changed = connection.execute(update(holds).where(as_seen).values(beat=seen.beat + 1, **mine))
        return changed.rowcount == 1

    def _clear(self, connection: Connection) -> None:
        theirs = and_(holds.c.account == self._account, holds.c.holder.is_not(None))
        connection.execute(update(holds).where(theirs).values(holder=None, beat=holds.c.beat + 1))

    def _write_beat(self, connection: Connection, holder: str, ttl_s: float) -> bool:
        ours = and_(holds.c.account == self._account, holds.c.holder == holder)
        changed = connection.execute(update(holds).where(ours).values(beat=holds.c.beat + 1, ttl_s=ttl_s))
        return changed.rowcount == 1

    def _forget(self, connection: Connection, holder: str) -> None:
        ours = and_(holds.c.account == self._account, holds.c.holder == holder)
        connection.execute(update(holds).where(ours).values(holder=None, beat=holds.c.beat + 1))
