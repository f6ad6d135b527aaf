"""The account lease across machines: a row that its holder must renew, and whoever wants it must see grow old.

No machine's clock is compared with another's. The holder counts its time from *before* it asked for a renewal, by boot
time and by wall clock, whichever passes first; a taker counts from *after* it last saw the row change. So the holder
stops sending before anybody else begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning, FenceLost, RecordsUnavailable
from squareoff.ports import Held, HoldRow, LocalLease

RENEWALS = 3
"""So many renewals fit into the time to live: two may fail."""
LOOK_EVERY_S = 0.1


KEPT_WITHIN_S = 3.0
"""So long a server may take to notice that a worker with another kind of lease was killed."""
_OTHER_KIND = "a worker with a lease of another kind (--lease file)"


class SharedLease:
    """`ports.Lease` of `account`: the name of its holder in `row`, beside `local`, which must be held too."""

    def __init__(
        self,
        row: HoldRow,
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
        self._row, self.account, self._local = row, account, local
        self._ttl_s, self.holder, self._boot_s, self._wall_s = ttl_s, f"{holder} at {local.place}", boot_s, wall_s
        self._sleep = sleep
        self._until = (float("-inf"), float("-inf"))

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
        await self._row.clear()

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
            await self._row.forget(self.holder)
        await self._row.close()

    async def _take(self, patience_s: float, on_wait: Callable[[str], None] | None) -> bool:
        seen = await self._until_free(patience_s, on_wait)
        asked = self._boot_s(), self._wall_s()
        try:
            taken = await self._row.take(seen, self.holder, self._ttl_s)
        except RecordsUnavailable:  # perhaps it was done: then the row bears our name
            if on_wait is None:
                raise
            return False
        if taken:
            self._until = asked[0] + self._ttl_s, asked[1] + self._ttl_s
        return taken

    async def _until_free(
        self, patience_s: float, on_wait: Callable[[str], None] | None, *, may_be_kept: bool = False
    ) -> Held:
        """The row as it stands when it may be taken."""
        before, since_s, told = None, self._boot_s(), ""
        while True:
            try:
                now = await self._row.look()
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

    def _refusal(self, now: Held) -> AlreadyRunning:
        who = _OTHER_KIND if now.is_kept else now.holder
        return AlreadyRunning(
            f"account {self.account} is held by {who}; stop that one first, or wait for it with --standby"
        )

    async def _renew(self) -> bool:
        asked = self._boot_s(), self._wall_s()
        renewed = await self._row.beat(self.holder, self._ttl_s)
        if renewed:
            self._until = asked[0] + self._ttl_s, asked[1] + self._ttl_s
        return renewed
