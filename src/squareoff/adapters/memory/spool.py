"""The spool and the lease in memory. They outlive a simulated process: hand the same store to the next one."""

from __future__ import annotations

from dataclasses import dataclass, field

from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning
from squareoff.ports import SpoolContents, SpoolLatch, SpoolMark


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

    def release(self) -> None:
        if self.is_held:
            del self._holders[self.account]
