"""Records and Journal in memory: the same promises, kept for as long as the object lives.

Give one object to two engines, one after the other, to play a crash and a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from squareoff.adapters.licence import (
    check_entry_move,
    check_licence,
    held_by_another,
    is_archived,
    refuse_entry,
    refuse_start,
    taken_back,
    totals_of,
)
from squareoff.core.events import Event
from squareoff.core.limits import AccountRules, DayTotals, Level, Limits
from squareoff.core.orders import OPEN_LICENCE, SlotPhase, Stamp
from squareoff.core.run import Run
from squareoff.core.types import AccountId, Fence, RunId, SlotName, StrategyId
from squareoff.core.values import replace
from squareoff.errors import BadInput, FenceLost, RecordsUnavailable
from squareoff.ports import JournalEntry, WishRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Lease:
    fence: Fence
    owner: str
    machine: str
    boot: str


class MemoryRecords:
    """Records and Journal without a disk. `entries` is the journal itself, oldest first."""

    def __init__(self, *, install_id: str = "memory") -> None:
        self.install_id = install_id
        self.entries: list[JournalEntry] = []
        self.leases: dict[AccountId, Lease] = {}
        self.holders: dict[AccountId, str] = {}
        """Who holds an account across machines, by name; written by the lease."""
        self.runs: dict[RunId, Run] = {}
        self._wishes: dict[int, tuple[AccountId, WishRecord]] = {}
        self._taken: dict[int, Fence] = {}
        self._rules: dict[AccountId, AccountRules] = {}
        self._last_run_id = self._last_wish_id = 0
        self._closed = False

    async def take_lease(
        self, account: AccountId, *, owner: str, machine: str, boot: str, holder: str | None = None
    ) -> Fence:
        self._check_there()
        if holder is not None and self.holders.get(account) != holder:
            raise held_by_another(account)
        earlier = self.leases.get(account)
        fence = Fence(1 if earlier is None else earlier.fence + 1)
        self.leases[account] = Lease(fence=fence, owner=owner, machine=machine, boot=boot)
        return fence

    async def next_run_id(self) -> RunId:
        self._check_there()
        self._last_run_id += 1
        return RunId(self._last_run_id)

    async def open_runs(self, account: AccountId) -> Sequence[Run]:
        self._check_there()
        runs = (self.runs[run_id] for run_id in sorted(self.runs))
        return tuple(run for run in runs if run.plan.account == account and not is_archived(run))

    async def add_run(self, run: Run, fence: Fence, *, wish_id: int | None = None) -> None:
        self._check_fence(run.plan.account, fence)
        if run.plan.run_id in self.runs:
            return
        for run_id in sorted(self.runs):
            earlier = self.runs[run_id]
            if earlier.plan.strategy_id == run.plan.strategy_id and not earlier.is_closed:
                raise refuse_start(earlier)
        if wish_id is not None and wish_id not in self._wishes:
            raise taken_back(run)
        self.runs[run.plan.run_id] = run

    async def license_entry(self, run: Run, fence: Fence) -> bool:
        self._check_fence(run.plan.account, fence)
        refuse_entry(self._rules.get(run.plan.account, AccountRules()))
        return self._decide_entry(run, fence, SlotPhase.INTENT)

    async def void_entry(self, run: Run, fence: Fence) -> bool:
        return self._decide_entry(run, fence, SlotPhase.VOID)

    async def save(self, run: Run, fence: Fence) -> None:
        stored = self._stored(run, fence)
        if stored.version <= run.version:
            check_entry_move(run, stored.entry.phase)
            self.runs[run.plan.run_id] = run

    async def restamp(self, run_ids: Sequence[RunId], account: AccountId, stamp: Stamp) -> None:
        self._check_fence(account, stamp.fence)
        for run_id in run_ids:
            run = self.runs[run_id]
            for name in SlotName:
                if run.slot(name).phase in OPEN_LICENCE:
                    run = run.with_slot(name, replace(run.slot(name), stamp=stamp))
            self.runs[run_id] = run

    async def rules(self, account: AccountId) -> AccountRules:
        self._check_there()
        return self._rules.get(account, AccountRules())

    async def set_level(self, account: AccountId, level: Level, *, reason: str, by: str, at: datetime) -> None:
        self._check_there()
        rules = self._rules.get(account, AccountRules())
        self._rules[account] = replace(rules, level=level, reason=reason, by=by, at=at)

    def set_limits(self, account: AccountId, limits: Limits) -> None:
        """As a user would through the command line."""
        self._rules[account] = replace(self._rules.get(account, AccountRules()), limits=limits)

    async def totals(self, account: AccountId, day: date) -> DayTotals:
        self._check_there()
        runs = [r for r in self.runs.values() if r.plan.account == account and r.plan.trading_day == day]
        return totals_of(day, [run for run in runs if is_archived(run)])

    async def wishes(self, account: AccountId) -> Sequence[WishRecord]:
        self._check_there()
        waiting = (wish_id for wish_id in self._wishes if wish_id not in self._taken)
        return tuple(wish for of, wish in map(self._wishes.__getitem__, waiting) if of == account)

    async def wish_taken(self, wish_id: int, fence: Fence) -> None:
        self._check_there()
        if wish_id in self._wishes:
            self._check_fence(self._wishes[wish_id][0], fence)
            self._taken.setdefault(wish_id, fence)

    def wish(self, strategy_id: StrategyId, event: Event, *, account: AccountId, at: datetime, by: str) -> WishRecord:
        """What a user asks for, as the command line would write it into SQL."""
        self._last_wish_id += 1
        wish = WishRecord(id=self._last_wish_id, strategy_id=strategy_id, event=event, at=at, by=by)
        self._wishes[wish.id] = (account, wish)
        return wish

    def take_back_start(self, strategy_id: StrategyId) -> bool:
        """As the command line would: True if no worker had taken it up."""
        if any(run.plan.strategy_id == strategy_id and not run.is_closed for run in self.runs.values()):
            return False
        mine = [id_ for id_, (_, wish) in self._wishes.items() if wish.strategy_id == strategy_id]
        waiting = [id_ for id_ in mine if id_ not in self._taken and self._wishes[id_][1].event is Event.START]
        for id_ in waiting:
            del self._wishes[id_]
        return bool(waiting)

    def write(self, entry: JournalEntry) -> None:
        if self._closed:
            raise RecordsUnavailable("the records are closed")
        self.entries.append(entry)

    async def flush(self) -> None:
        self._check_there()

    @property
    def backlog(self) -> int:
        return 0

    async def close(self) -> None:
        self._closed = True

    def _decide_entry(self, run: Run, fence: Fence, phase: SlotPhase) -> bool:
        check_licence(run, phase)
        stored = self._stored(run, fence)
        if stored.version > run.version or stored.entry.phase is not SlotPhase.NONE:
            return False
        self.runs[run.plan.run_id] = run
        return True

    def _stored(self, run: Run, fence: Fence) -> Run:
        self._check_fence(run.plan.account, fence)
        stored = self.runs.get(run.plan.run_id)
        if stored is None:
            raise BadInput("run", f"run {run.plan.run_id} is not in the records", "it has to be added first")
        return stored

    def _check_fence(self, account: AccountId, fence: Fence) -> None:
        self._check_there()
        lease = self.leases.get(account)
        if lease is None or lease.fence != fence:
            now = "nobody ever took it" if lease is None else f"the fence is {lease.fence} now"
            raise FenceLost(f"account {account} is not ours any more: we have fence {fence}, {now}")

    def _check_there(self) -> None:
        if self._closed:
            raise RecordsUnavailable("the records are closed")
