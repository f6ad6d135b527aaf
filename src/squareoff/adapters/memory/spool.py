"""The spool and the leases in memory. They outlive a simulated process: hand the same store to the next one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning
from squareoff.ports import Held, SpoolContents, SpoolLatch, SpoolMark


@dataclass(slots=True)
class SpoolStore:
    """What is on the machine: `origin` is who drained it last, None while nobody did."""

    records: list[SpoolMark | SpoolLatch] = field(default_factory=list)
    origin: tuple[str, str] | None = None


class MemorySpool:
    """`Spool` over a `store`. After a simulated crash make a new one on the same store; after a reboot, with another
    `boot`. To lose what the kernel had not written, take records off the store."""

    def __init__(self, machine: str = "memory", boot: str = "boot-1", *, store: SpoolStore | None = None) -> None:
        self.machine, self.boot = machine, boot
        self.store = store if store is not None else SpoolStore()

    def mark(self, mark: SpoolMark) -> None:
        self.store.records.append(mark)

    def latch(self, latch: SpoolLatch) -> None:
        self.store.records.append(latch)

    def read(self) -> SpoolContents:
        return SpoolContents(
            marks=tuple(record for record in self.store.records if isinstance(record, SpoolMark)),
            latches=tuple(record for record in self.store.records if isinstance(record, SpoolLatch)),
            same_boot=self.store.origin == (self.machine, self.boot),
        )

    def drained(self) -> None:
        self.store.records.clear()
        self.store.origin = (self.machine, self.boot)


class MemoryLease:
    """`Lease` over `holders`, which the simulated processes of one machine share. A process that dies must
    `release`: in a real one the system does that."""

    def __init__(
        self,
        account: AccountId,
        holders: dict[AccountId, MemoryLease] | None = None,
        *,
        machine: str = "memory",
        boot: str = "boot-1",
    ) -> None:
        self.account, self.machine, self.boot = account, machine, boot
        self._holders: dict[AccountId, MemoryLease] = holders if holders is not None else {}

    def acquire(self) -> None:
        if self._holders.setdefault(self.account, self) is not self:
            raise AlreadyRunning(f"account {self.account} is already run by another process; stop that one first")

    @property
    def is_held(self) -> bool:
        return self._holders.get(self.account) is self

    @property
    def place(self) -> str:
        return f"{self.machine} since {self.boot}"

    def release(self) -> None:
        if self.is_held:
            del self._holders[self.account]


@dataclass(slots=True)
class HoldStore:
    """The rows of all accounts. `holders` is what `MemoryRecords.take_lease` asks."""

    holders: dict[AccountId, str]
    rows: dict[AccountId, Held] = field(default_factory=dict)


class MemoryHold:
    """`HoldRow` over `store`, which the machines share. `ask` is awaited before each question: it may take time, or
    raise RecordsUnavailable."""

    def __init__(self, store: HoldStore, account: AccountId, ask: Callable[[], Awaitable[None]] | None = None) -> None:
        self._store, self._account, self._ask = store, account, ask

    async def look(self) -> Held:
        await self._asked()
        return self._row

    async def take(self, seen: Held, holder: str, ttl_s: float) -> bool:
        await self._asked()
        if self._row.beat != seen.beat:
            return False
        self._write(holder, seen.beat + 1, ttl_s)
        return True

    async def beat(self, holder: str, ttl_s: float) -> bool:
        await self._asked()
        if self._row.holder != holder:
            return False
        self._write(holder, self._row.beat + 1, ttl_s)
        return True

    async def forget(self, holder: str) -> None:
        await self._asked()
        if self._row.holder == holder:
            self._write(None, self._row.beat + 1, self._row.ttl_s)

    async def clear(self) -> None:
        await self._asked()
        if self._row.holder is not None:
            self._write(None, self._row.beat + 1, self._row.ttl_s)

    async def close(self) -> None:
        pass

    @property
    def _row(self) -> Held:
        return self._store.rows.get(self._account, Held())

    async def _asked(self) -> None:
        if self._ask is not None:
            await self._ask()

    def _write(self, holder: str | None, beat: int, ttl_s: float) -> None:
        self._store.rows[self._account] = Held(holder, beat, ttl_s)
        if holder is None:
            self._store.holders.pop(self._account, None)
        else:
            self._store.holders[self._account] = holder
