"""The account lease across machines: a row that its holder must renew, and whoever wants it must see grow old.

No machine's clock is compared with another's. The holder counts its time from *before* it asked for a renewal, by boot
time and by wall clock, whichever passes first; a taker counts from *after* it last saw the row change. So the holder
stops sending before anybody else begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import and_, insert, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from squareoff.adapters.sql.database import Database, answers, transaction
from squareoff.adapters.sql.schema import holds
from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning, FenceLost, RecordsUnavailable

T = TypeVar("T")

RENEWALS = 3
"""So many renewals fit into the time to live: two may fail."""
LOOK_EVERY_S = 0.1


class LocalLease(Protocol):
    """What this machine's own lock tells: two processes of one folder share a spool."""

    machine: str
    boot: str

    @property
    def is_held(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Seen:
    holder: str | None
    beat: int
    ttl_s: float


class SqlLease:
    """`ports.Lease` of `account` in the database, beside `local`, which must be held too."""

    def __init__(
        self,
        database: Database,
        account: AccountId,
        local: LocalLease,
        *,
        ttl_s: float,
        holder: str,
        boot_s: Callable[[], float],
        wall_s: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        """`ttl_s`: how long it holds after a renewal. `holder`: a name no other process has or had. `boot_s`, `wall_s`:
        seconds of the two clocks; `sleep`: real seconds."""
        self.machine, self.boot = local.machine, local.boot
        self._database, self._account, self._local = database, account, local
        self._ttl_s, self._holder, self._boot_s, self._wall_s = ttl_s, holder, boot_s, wall_s
        self._sleep = sleep
        self._until = (float("-inf"), float("-inf"))
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(1, "lease")  # its own: a writer that hangs must not cost us the lease

    @property
    def is_held(self) -> bool:
        """Asked before every send: no disk, no wire."""
        return self._boot_s() < self._until[0] and self._wall_s() < self._until[1] and self._local.is_held

    @property
    def left_s(self) -> float:
        """How long it holds without another renewal; at most 0: it does not."""
        return min(self._until[0] - self._boot_s(), self._until[1] - self._wall_s())

    async def acquire(self, *, patience_s: float, on_wait: Callable[[str], None] | None) -> None:
        """Take it when nobody has it, or its holder has not renewed it for its time to live and `patience_s` more:
        the longest that a request which left in time may be under way. `on_wait` is told once who has it; None: do not
        wait for another.

        Raises AlreadyRunning (without `on_wait`), RecordsUnavailable."""
        seen, since_s, is_told = None, 0.0, False
        while True:
            now = await self._ask(self._look)
            if now is None or now.holder is None or now.holder == self._holder:
                is_free = True
            else:
                if now != seen:
                    seen, since_s = now, self._boot_s()
                is_free = self._boot_s() - since_s >= now.ttl_s + patience_s
            if is_free and await self._take(now):
                return
            if not is_free:
                if on_wait is None:
                    raise AlreadyRunning(
                        f"account {self._account} is held by {now.holder if now else 'nobody'}; stop that one first, "
                        "or wait for it with --standby"
                    )
                if not is_told:
                    is_told = True
                    on_wait(f"account {self._account} is held by {now.holder if now else 'nobody'}")
            await self._sleep(LOOK_EVERY_S)

    async def keep(self) -> None:
        """Renew it for ever. Raises FenceLost once it is not ours any more, or could not be renewed in time."""
        why = "it was not renewed in time"
        while True:
            try:
                if not await self._renew():
                    raise FenceLost(f"account {self._account} was taken by another worker")
            except RecordsUnavailable as error:
                why = str(error)
            if self.left_s <= 0:
                raise FenceLost(f"the lease of account {self._account} ran out: {why}")
            await self._sleep(min(self._ttl_s / RENEWALS, max(self.left_s, 0.0)))

    async def release(self) -> None:
        """Let the next one have it at once. What cannot be told is found out by waiting."""
        self._until = (float("-inf"), float("-inf"))
        with suppress(RecordsUnavailable):
            await self._ask(self._forget)
        await asyncio.to_thread(self._thread.shutdown)

    # ------------------------------------------------------------------ in the lease's own thread

    async def _take(self, seen: _Seen | None) -> bool:
        asked = self._boot_s(), self._wall_s()
        taken = await self._ask(lambda connection: self._write_holder(connection, seen))
        if taken:
            self._until = asked[0] + self._ttl_s, asked[1] + self._ttl_s
        return taken

    async def _renew(self) -> bool:
        asked = self._boot_s(), self._wall_s()
        renewed = await self._ask(self._write_beat)
        if renewed:
            self._until = asked[0] + self._ttl_s, asked[1] + self._ttl_s
        return renewed

    async def _ask(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            with answers(self._database.kind):
                if self._connection is None:
                    self._connection = self._database.connect()
                    self._database.kind.hurry(self._connection, self._ttl_s / RENEWALS)
                with transaction(self._connection):
                    return work(self._connection)
        except BaseException:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(Exception):
                    connection.close()
            raise

    def _look(self, connection: Connection) -> _Seen | None:
        row = connection.execute(select(holds).where(holds.c.account == self._account)).mappings().one_or_none()
        return None if row is None else _Seen(row["holder"], row["beat"], row["ttl_s"])

    def _write_holder(self, connection: Connection, seen: _Seen | None) -> bool:
        mine = {"holder": self._holder, "ttl_s": self._ttl_s}
        if seen is None:
            try:
                connection.execute(insert(holds).values(account=self._account, beat=1, **mine))
            except IntegrityError:  # another was faster
                connection.get_transaction().rollback()  # type: ignore[union-attr]
                return False
            return True
        as_seen = and_(holds.c.account == self._account, holds.c.beat == seen.beat)
        changed = connection.execute(update(holds).where(as_seen).values(beat=seen.beat + 1, **mine))
        return changed.rowcount == 1

    def _write_beat(self, connection: Connection) -> bool:
        ours = and_(holds.c.account == self._account, holds.c.holder == self._holder)
        changed = connection.execute(update(holds).where(ours).values(beat=holds.c.beat + 1, ttl_s=self._ttl_s))
        return changed.rowcount == 1

    def _forget(self, connection: Connection) -> None:
        ours = and_(holds.c.account == self._account, holds.c.holder == self._holder)
        connection.execute(update(holds).where(ours).values(holder=None, beat=holds.c.beat + 1))
