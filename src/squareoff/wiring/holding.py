"""Who may send for an account: how a worker gets it, waits for it, and gives it back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning

if TYPE_CHECKING:
    from squareoff.adapters.lease import FileLease
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.records import SqlRecords
    from squareoff.leasing import SharedLease

STANDBY_LOOKS_EVERY_S = 0.1


class LeaseKind(StrEnum):
    """What says who may send for an account."""

    FILE = "file"
    """A lock of this machine's: it ends with the process, and SQL may be down for hours."""
    SQL = "sql"
    """A row in the database that must be renewed: for workers on several machines."""


OnWait = Callable[[str], None]
"""Told what a standby waits for, whenever that changes; None in its place: not to wait."""


async def lock_file(held: FileLease, stop: asyncio.Event, on_wait: OnWait | None) -> bool:
    """Whether this process has the account now. False: it was asked to stop while it waited.

    Raises AlreadyRunning if it is not to wait (`on_wait` None)."""
    is_told = False
    while True:
        try:
            held.acquire()
            return True
        except AlreadyRunning as error:
            if on_wait is None:
                raise
            if not is_told:
                is_told = True
                on_wait(str(error))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), STANDBY_LOOKS_EVERY_S)
        if stop.is_set():
            return False


def sql_lease(
    database: Database, account: AccountId, held: FileLease, *, ttl_s: float, sleep: Callable[[float], Awaitable[None]]
) -> SharedLease:
    """The lease of `account` across machines, beside the lock of this one; not taken yet."""
    import os

    from squareoff.adapters.clock import boottime_s, wall_s
    from squareoff.adapters.dice import name
    from squareoff.adapters.sql.lease import SqlHold
    from squareoff.leasing import RENEWALS, SharedLease

    return SharedLease(
        SqlHold(database, account, within_s=ttl_s / RENEWALS),
        account,
        held,
        ttl_s=ttl_s,
        holder=f"process {os.getpid()} ({name()})",
        boot_s=boottime_s,
        wall_s=wall_s,
        sleep=sleep,
    )


async def hold_in_sql(
    sql: SqlRecords, lease: SharedLease, patience_s: float, stop: asyncio.Event, on_wait: OnWait | None
) -> bool:
    """Whether this process has the account now. False: it was asked to stop while it waited.

    Raises AlreadyRunning and RecordsUnavailable if it is not to wait."""
    is_ours = await _unless(stop, lease.acquire(patience_s=patience_s, on_wait=on_wait))
    if not is_ours:
        await lease.release()
    return is_ours


async def hold_by_file(
    sql: SqlRecords, lease: SharedLease, patience_s: float, stop: asyncio.Event, on_wait: OnWait | None
) -> bool:
    """The file lock is held: keep the account from workers of other folders and machines too, whichever lease theirs
    is. As `hold_in_sql`."""
    try:
        await sql.keep_account(lease.account)
        return await _unless(stop, lease.see_off(patience_s=patience_s, on_wait=on_wait))
    finally:
        await lease.release()


async def _unless(stop: asyncio.Event, wanted: Coroutine[Any, Any, None]) -> bool:
    """Whether `wanted` was done before we were asked to stop."""
    task, asked = asyncio.ensure_future(wanted), asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return False
    task.result()
    return True
