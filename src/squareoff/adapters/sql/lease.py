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


KEPT_WITHIN_S = 3.0
"""So long a server may take to notice that a worker with another kind of lease was killed."""
_OTHER_KIND = "a worker with a lease of another kind (--lease file)"


class LocalLease(Protocol):
    """What this machine's own lock tells: two processes of one folder share a spool."""

    machine: str
    boot: str

    @property
    def is_held(self) -> bool: ...

    @property
    def place(self) -> str:
        """This lock on this start of this machine: whoever held the account from here is gone, since it is ours."""


@dataclass(frozen=True, slots=True)
class _Seen:
    holder: str | None = None
    beat: int = 0
    """0: nobody ever had a lease of this account."""
    ttl_s: float = 0.0
    is_kept: bool = False
    """By a worker with a lease of another kind."""


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
        self._database, self.account, self._local = database, account, local
        self._ttl_s, self.holder, self._boot_s, self._wall_s = ttl_s, f"{holder} at {local.place}", boot_s, wall_s
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
        """Take it when nobody has it, when its holder worked from here and is gone, or when it was not renewed for its
        time to live and `patience_s` more: the longest that a request which left in time may be under way.

        `on_wait` is told what is waited for, whenever that changes. None: not to wait for a holder that lives; then it
        raises AlreadyRunning, and RecordsUnavailable if the database does not answer."""
        while not await self._take(patience_s, on_wait):  # another was faster
            pass

    async def see_off(self, *, patience_s: float, on_wait: Callable[[str], None] | None) -> None:
        """For who keeps the account by other means (`SqlRecords.keep_account`), so that no lease of it begins: wait
        until none is left. As `acquire`, without taking it."""
        await self._until_free(patience_s, on_wait, may_be_kept=True)
        await self._ask(self._clear)

    async def keep(self) -> None:
        """Renew it for ever. Raises FenceLost once it is not ours any more, or could not be renewed in time: whatever
        the database does then, it comes back only by being taken again."""
        why = "it was not renewed in time"
        while (left_s := self.left_s) > 0:
            try:
                async with asyncio.timeout(left_s):  # a database that hangs does not keep a person from being told
                    if not await self._renew():
                        raise FenceLost(f"account {self.account} was taken by another worker")
            except TimeoutError:
                why = "the database did not answer"
            except RecordsUnavailable as error:
                why = str(error)
            await self._sleep(min(self._ttl_s / RENEWALS, max(self.left_s, 0.0)))
        raise FenceLost(f"the lease of account {self.account} ran out: {why}")

    async def release(self) -> None:
        """Let the next one have it at once. What cannot be told is found out by waiting."""
        self._until = (float("-inf"), float("-inf"))
        with suppress(RecordsUnavailable):
            await self._ask(self._forget)
        self._thread.submit(self._disconnect)
        await asyncio.to_thread(self._thread.shutdown)

    # ------------------------------------------------------------------ in the lease's own thread

    async def _take(self, patience_s: float, on_wait: Callable[[str], None] | None) -> bool:
        seen = await self._until_free(patience_s, on_wait)
        asked = self._boot_s(), self._wall_s()
        try:
            taken = await self._ask(lambda connection: self._write_holder(connection, seen))
        except RecordsUnavailable:  # perhaps it was done: then the row bears our name
            if on_wait is None:
                raise
            return False
        if taken:
            self._until = asked[0] + self._ttl_s, asked[1] + self._ttl_s
        return taken

    async def _until_free(
        self, patience_s: float, on_wait: Callable[[str], None] | None, *, may_be_kept: bool = False
    ) -> _Seen:
        """The row as it stands when it may be taken."""
        before, since_s, told = None, self._boot_s(), ""
        while True:
            try:
                now = await self._ask(self._look, reads_only=True)
            except RecordsUnavailable as error:
                if on_wait is None:
                    raise
                what = str(error)
            else:
                if now != before:
                    is_renewed = before is not None and now.beat != before.beat and now.holder == before.holder
                    if is_renewed and on_wait is None:
                        raise self._refusal(now)  # its holder lives
                    before, since_s = now, self._boot_s()
                unchanged_s = self._boot_s() - since_s
                if now.is_kept and not may_be_kept:
                    if on_wait is None and unchanged_s >= KEPT_WITHIN_S:
                        raise self._refusal(now)
                elif now.holder is None or self._is_gone(now.holder) or unchanged_s >= now.ttl_s + patience_s:
                    return now
                what = f"account {self.account} is held by {_OTHER_KIND if now.is_kept else now.holder}"
            if on_wait is not None and what != told:
                told = what
                on_wait(what)
            await self._sleep(LOOK_EVERY_S)

    def _is_gone(self, holder: str) -> bool:
        return holder == self.holder or (self._local.is_held and holder.endswith(f" at {self._local.place}"))

    def _refusal(self, now: _Seen) -> AlreadyRunning:
        who = _OTHER_KIND if now.is_kept else now.holder
        return AlreadyRunning(
            f"account {self.account} is held by {who}; stop that one first, or wait for it with --standby"
        )

    async def _renew(self) -> bool:
        asked = self._boot_s(), self._wall_s()
        renewed = await self._ask(self._write_beat)
        if renewed:
            self._until = asked[0] + self._ttl_s, asked[1] + self._ttl_s
        return renewed

    async def _ask(self, work: Callable[[Connection], T], *, reads_only: bool = False) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._transaction, work, reads_only)

    def _transaction(self, work: Callable[[Connection], T], reads_only: bool) -> T:
        try:
            with answers(self._database.kind):
                if self._connection is None:
                    self._connection = self._database.connect()
                    self._database.kind.hurry(self._connection, self._ttl_s / RENEWALS)
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

    def _look(self, connection: Connection) -> _Seen:
        is_kept = not self._database.kind.is_free(connection, self.account)
        row = connection.execute(select(holds).where(holds.c.account == self.account)).mappings().one_or_none()
        return _Seen(is_kept=is_kept) if row is None else _Seen(row["holder"], row["beat"], row["ttl_s"], is_kept)

    def _write_holder(self, connection: Connection, seen: _Seen) -> bool:
        if not self._database.kind.is_free(connection, self.account):
            return False
        mine = {"holder": self.holder, "ttl_s": self._ttl_s}
        if not seen.beat:
            try:
                connection.execute(insert(holds).values(account=self.account, beat=1, **mine))
            except IntegrityError:  # another was faster
                connection.get_transaction().rollback()  # type: ignore[union-attr]
                return False
            return True
        as_seen = and_(holds.c.account == self.account, holds.c.beat == seen.beat)
        changed = connection.execute(update(holds).where(as_seen).values(beat=seen.beat + 1, **mine))
        return changed.rowcount == 1

    def _clear(self, connection: Connection) -> None:
        theirs = and_(holds.c.account == self.account, holds.c.holder.is_not(None))
        connection.execute(update(holds).where(theirs).values(holder=None, beat=holds.c.beat + 1))

    def _write_beat(self, connection: Connection) -> bool:
        ours = and_(holds.c.account == self.account, holds.c.holder == self.holder)
        changed = connection.execute(update(holds).where(ours).values(beat=holds.c.beat + 1, ttl_s=self._ttl_s))
        return changed.rowcount == 1

    def _forget(self, connection: Connection) -> None:
        ours = and_(holds.c.account == self.account, holds.c.holder == self.holder)
        connection.execute(update(holds).where(ours).values(holder=None, beat=holds.c.beat + 1))
