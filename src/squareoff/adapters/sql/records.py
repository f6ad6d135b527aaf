"""What we meant, and the story of it, in SQL: the ports Records and Journal over one writer thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, func, insert, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from squareoff.adapters.licence import (
    check_entry_move,
    check_licence,
    held_by_another,
    refuse_entry,
    refuse_start,
    taken_back,
    totals_of,
)
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.rows import insert_run, load_runs, rules_from, update_run, write_level
from squareoff.adapters.sql.schema import accounts, holds, install, leases, runs, slots, strategies, wishes
from squareoff.adapters.sql.writer import Job, Writer
from squareoff.core.limits import AccountRules, DayTotals, Level
from squareoff.core.orders import OPEN_LICENCE, SlotPhase, Stamp
from squareoff.core.run import Run
from squareoff.core.types import AccountId, Fence, RunId, SlotName
from squareoff.errors import AlreadyRunning, BadInput, FenceLost, RecordsUnavailable
from squareoff.ports import JournalEntry, WishRecord

T = TypeVar("T")

_Ticket = tuple[RunId, int, Fence, SlotPhase]


@dataclass(frozen=True, slots=True)
class _Stored:
    version: int
    entry: SlotPhase


_RESTAMP = update(slots).where(
    slots.c.run_id == bindparam("of_run"), or_(*(slots.c.phase == phase for phase in OPEN_LICENCE))
)


class SqlRecords:
    """Records and Journal of one database. Close it when done; the database stays its opener's."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = Writer(database)
        self._unanswered: set[_Ticket] = set()

    @property
    def install_id(self) -> str:
        return self._database.install_id

    async def keep_account(self, account: AccountId) -> None:
        """Let nobody else on this database work `account`, from another data folder or machine, until we are closed.
        A database that was away is told so again. Raises AlreadyRunning."""

        def work(connection: Connection) -> None:
            if not self._database.kind.keep_account(connection, account, wait=True):
                owner = connection.execute(select(leases.c.owner).where(leases.c.account == account)).scalar()
                raise AlreadyRunning(
                    f"account {account} is worked by {owner or 'another process'} already, from another data folder "
                    f"or machine, in the database {self._database.kind.name}; give each folder a database of its own"
                )
            self._writer.keep_account(account)

        await self._write(work)

    async def take_lease(
        self, account: AccountId, *, owner: str, machine: str, boot: str, holder: str | None = None
    ) -> Fence:
        def work(connection: Connection) -> Fence:
            if holder is not None:
                _check_holder(connection, account, holder)
            now = {"owner": owner, "machine": machine, "boot": boot}
            mine = leases.c.account == account
            raised = connection.execute(update(leases).where(mine).values(fence=leases.c.fence + 1, **now))
            if not raised.rowcount:
                _check_account(connection, account)
                connection.execute(insert(leases).values(account=account, fence=1, **now))
            return Fence(connection.execute(select(leases.c.fence).where(mine)).scalar_one())

        return await self._write(work)

    async def next_run_id(self) -> RunId:
        def work(connection: Connection) -> RunId:
            connection.execute(update(install).values(last_run_id=install.c.last_run_id + 1))
            return RunId(connection.execute(select(install.c.last_run_id)).scalar_one())

        return await self._write(work)

    async def open_runs(self, account: AccountId) -> Sequence[Run]:
        return await self._read(lambda connection: load_runs(connection, _open_on(account)))

    async def add_run(self, run: Run, fence: Fence, *, wish_id: int | None = None) -> None:
        def work(connection: Connection) -> None:
            if _stored(connection, run, fence) is not None:
                return  # the answer to an earlier call was lost
            _check_strategy(connection, run)
            others = and_(runs.c.strategy_id == run.plan.strategy_id, ~runs.c.closed)
            for earlier in load_runs(connection, others):
                raise refuse_start(earlier)
            if wish_id is not None:
                _check_asked(connection, run, wish_id)
            try:
                with connection.begin_nested():
                    insert_run(connection, run)
            except IntegrityError as error:  # PostgreSQL: two starts at the same instant
                if _stored(connection, run, fence) is not None:
                    return  # and the first was ours, its COMMIT done only now
                for earlier in load_runs(connection, others):
                    raise refuse_start(earlier) from error
                raise

        await self._write(work)

    async def license_entry(self, run: Run, fence: Fence) -> bool:
        return await self._decide_entry(run, fence, SlotPhase.INTENT)

    async def void_entry(self, run: Run, fence: Fence) -> bool:
        return await self._decide_entry(run, fence, SlotPhase.VOID)

    async def save(self, run: Run, fence: Fence) -> None:
        def work(connection: Connection) -> None:
            stored = _known(_stored(connection, run, fence), run)
            if stored.version <= run.version:
                check_entry_move(run, stored.entry)
                update_run(connection, run)

        await self._write(work)

    async def restamp(self, run_ids: Sequence[RunId], account: AccountId, stamp: Stamp) -> None:
        def work(connection: Connection) -> None:
            _check_fence(connection, account, stamp.fence)
            mine = {"fence": stamp.fence, "machine": stamp.machine, "boot": stamp.boot}
            if run_ids:
                connection.execute(_RESTAMP, [{"of_run": run_id, **mine} for run_id in run_ids])

        await self._write(work)

    async def rules(self, account: AccountId) -> AccountRules:
        return await self._read(lambda connection: _rules(connection, account))

    async def set_level(self, account: AccountId, level: Level, *, reason: str, by: str, at: datetime) -> None:
        await self._write(lambda connection: write_level(connection, account, level, reason=reason, by=by, at=at))

    async def totals(self, account: AccountId, day: date) -> DayTotals:
        over = and_(runs.c.account == account, runs.c.trading_day == day, runs.c.archived)
        return await self._read(lambda connection: totals_of(day, load_runs(connection, over)))

    async def wishes(self, account: AccountId) -> Sequence[WishRecord]:
        def work(connection: Connection) -> Sequence[WishRecord]:
            query = (
                select(wishes)
                .join(strategies)
                .where(strategies.c.account == account, wishes.c.taken_by_fence.is_(None))
                .order_by(wishes.c.id)
            )
            return tuple(
                WishRecord(
                    id=row["id"], strategy_id=row["strategy_id"], event=row["event"], at=row["at"], by=row["asked_by"]
                )
                for row in connection.execute(query).mappings()
            )

        return await self._read(work)

    async def wish_taken(self, wish_id: int, fence: Fence) -> None:
        def work(connection: Connection) -> None:
            account = connection.execute(
                select(strategies.c.account).join(wishes).where(wishes.c.id == wish_id)
            ).scalar()
            if account is None:
                return
            _check_fence(connection, account, fence)
            not_taken = and_(wishes.c.id == wish_id, wishes.c.taken_by_fence.is_(None))
            connection.execute(update(wishes).where(not_taken).values(taken_by_fence=fence))

        await self._write(work)

    def write(self, entry: JournalEntry) -> None:
        self._writer.note(entry)

    async def flush(self) -> None:
        await self._write(lambda connection: None)

    @property
    def backlog(self) -> int:
        return self._writer.backlog

    async def close(self) -> None:
        """Commit what was written, end the thread. Whoever calls afterwards gets RecordsUnavailable."""
        await self._writer.close()

    async def _decide_entry(self, run: Run, fence: Fence, phase: SlotPhase) -> bool:
        """Move the entry from none to `phase`, once and for all: who gets rowcount 1 has decided.

        After a lost answer the very same question may be asked once more; then what we find of our own making
        counts as granted. Nobody else can have made it: a fence has one owner.
        """
        check_licence(run, phase)
        ticket = (run.plan.run_id, run.version, fence, phase)
        asked_before = ticket in self._unanswered
        self._unanswered.discard(ticket)

        def work(connection: Connection) -> bool:
            stored = _known(_stored(connection, run, fence), run)
            if asked_before and _is_ours(connection, run):
                return True
            if phase is SlotPhase.INTENT:
                refuse_entry(_rules(connection, run.plan.account, _RULES_UNTIL_COMMIT))
            if stored.version > run.version:
                return False
            if not _move_entry(connection, run, fence, phase):
                return asked_before and _is_ours(connection, run)  # PostgreSQL: our COMMIT was done only now
            update_run(connection, run)
            return True

        def recheck(connection: Connection) -> bool:
            _check_fence(connection, run.plan.account, fence, until_commit=False)
            if _is_ours(connection, run):
                return True
            raise RecordsUnavailable(f"the entry of run {run.plan.run_id} was not decided: the COMMIT failed")

        try:
            return await self._writer.submit(Job(work, recheck=recheck))
        except (RecordsUnavailable, asyncio.CancelledError):
            self._unanswered.add(ticket)
            raise

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await self._writer.submit(Job(work))

    async def _read(self, work: Callable[[Connection], T]) -> T:
        return await self._writer.submit(Job(work, reads_only=True))


def _open_on(account: AccountId) -> ColumnElement[bool]:
    return and_(runs.c.account == account, ~runs.c.archived)


_STORED = (  # made once: it is asked before every write
    select(leases.c.fence, runs.c.version, slots.c.phase)
    .select_from(leases)
    .outerjoin(runs, runs.c.id == bindparam("of_run"))
    .outerjoin(slots, and_(slots.c.run_id == runs.c.id, slots.c.slot == SlotName.ENTRY))
    .where(leases.c.account == bindparam("of_account"))
    .with_for_update(read=True, of=leases)
)


def _stored(connection: Connection, run: Run, fence: Fence) -> _Stored | None:
    """What is stored of `run`, None if it is not there. Raises FenceLost. Keeps the fence until the COMMIT."""
    row = connection.execute(_STORED, {"of_run": run.plan.run_id, "of_account": run.plan.account}).one_or_none()
    if row is None or row.fence != fence:
        raise _fence_lost(run.plan.account, fence, None if row is None else row.fence)
    return None if row.version is None else _Stored(row.version, row.phase)


def _known(stored: _Stored | None, run: Run) -> _Stored:
    if stored is None:
        raise BadInput("run", f"run {run.plan.run_id} is not in the records", "it has to be added first")
    return stored


_RULES = select(accounts).where(accounts.c.id == bindparam("of_account"))


_RULES_UNTIL_COMMIT = _RULES.with_for_update(read=True)
"""A kill switch that is pressed waits for the licences that were given before it, and no later one is given."""


def _rules(connection: Connection, account: AccountId, query: Select[Any] = _RULES) -> AccountRules:
    return rules_from(connection.execute(query, {"of_account": account}).mappings().one())


def _move_entry(connection: Connection, run: Run, fence: Fence, phase: SlotPhase) -> bool:
    """The licence itself: one statement that only one caller, and only the owner of the account, can win."""
    mine = exists().where(leases.c.account == run.plan.account, leases.c.fence == fence)
    undecided = and_(slots.c.run_id == run.plan.run_id, slots.c.slot == SlotName.ENTRY, slots.c.phase == SlotPhase.NONE)
    return connection.execute(update(slots).where(undecided, mine).values(phase=phase)).rowcount == 1


def _is_ours(connection: Connection, run: Run) -> bool:
    """Whether exactly this snapshot is what stands in the records."""
    return load_runs(connection, runs.c.id == run.plan.run_id) == (run,)


def _check_fence(connection: Connection, account: AccountId, fence: Fence, *, until_commit: bool = True) -> None:
    query = select(leases.c.fence).where(leases.c.account == account)
    held = connection.execute(query.with_for_update(read=True) if until_commit else query).scalar()
    if held != fence:
        raise _fence_lost(account, fence, held)


def _fence_lost(account: AccountId, fence: Fence, held: int | None) -> FenceLost:
    now = "nobody ever took it" if held is None else f"the fence is {held} now"
    return FenceLost(f"account {account} is not ours any more: we have fence {fence}, {now}")


def _check_holder(connection: Connection, account: AccountId, holder: str) -> None:
    """Locked until the commit: nobody takes the account while its fence is being raised."""
    row = select(holds.c.holder).where(holds.c.account == account).with_for_update(read=True)
    if connection.execute(row).scalar() != holder:
        raise held_by_another(account)


def _check_account(connection: Connection, account: AccountId) -> None:
    if not connection.execute(select(func.count()).where(accounts.c.id == account)).scalar_one():
        raise BadInput("account", f"there is no account {account!r}", "add it first")


def _check_asked(connection: Connection, run: Run, wish_id: int) -> None:
    """Who takes a START back locks its row, looks for a run, and deletes it: so one of both is first."""
    asked = select(wishes.c.id).where(wishes.c.id == wish_id).with_for_update(read=True)
    if connection.execute(asked).scalar() is None:
        raise taken_back(run)


def _check_strategy(connection: Connection, run: Run) -> None:
    plan = run.plan
    known = connection.execute(
        select(strategies.c.account, strategies.c.user_id).where(strategies.c.id == plan.strategy_id)
    ).one_or_none()
    if known is None or (known.account, known.user_id) != (plan.account, plan.user):
        raise BadInput("strategy", f"there is no strategy {plan.strategy_id} on account {plan.account}")
