"""What people ask of the records, while a worker runs or not: strategies, accounts, wishes, and the story of a run.

Plain functions of one database, each a short transaction of its own, for the command line and the API.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import ColumnElement, RowMapping, and_, bindparam, delete, func, insert, select, true, update
from sqlalchemy.engine import Connection

from squareoff.adapters.licence import refuse_start
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.rows import (
    journal_from,
    journal_values,
    load_runs,
    rules_from,
    strategy_from,
    strategy_values,
    write_level,
)
from squareoff.adapters.sql.schema import accounts, journal, runs, strategies, wishes
from squareoff.core.events import Event
from squareoff.core.limits import AccountRules, Level, Limits
from squareoff.core.run import Run
from squareoff.core.strategy import Repeat, Strategy
from squareoff.core.types import AccountId, RunId, StrategyId, UserId
from squareoff.errors import BadInput, Conflict
from squareoff.ports import JournalEntry, JournalKind, WishRecord

LOCAL = UserId(1)
"""The user of an installation that has only one."""

WISHES = frozenset({Event.START, Event.STOP, Event.KILL, Event.HAND_OVER})


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where a user's records stand, for those who look again only if something changed. `last_seq`: the newest line of
    the journal."""

    last_seq: int
    counts: tuple[int, ...]


_NEWEST_LINE = select(func.max(journal.c.seq)).where(journal.c.account == bindparam("of_account"))
"""Read off the end of an index, however long the journal is."""


class StrategyStore:
    """Everything of one user, and nothing of another. All raise RecordsUnavailable if SQL is not there."""

    def __init__(self, database: Database, user: UserId = LOCAL) -> None:
        self._database, self.user = database, user
        self._mine = and_(strategies.c.user_id == user, ~strategies.c.removed)

    # --- accounts ---

    def add_account(self, account: AccountId, *, broker: str) -> None:
        """An account at a broker; the same one added twice is one account. Raises BadInput if it is not ours, or if
        only capitals tell it from another: its files could be the same ones."""
        with self._database.write() as connection:
            known = connection.execute(select(accounts).where(accounts.c.id == account)).one_or_none()
            if known is None:
                alike = select(accounts).where(func.lower(accounts.c.id) == account.lower())
                other = connection.execute(alike).one_or_none()
                if other is not None and other.user_id == self.user:
                    wrong = f"{account!r} differs from {other.id!r} by capitals only"
                    raise BadInput("account", wrong, "choose another")
                if other is not None:  # how another user spells it is nobody's business
                    raise BadInput("account", f"the name {account!r} is taken", "choose another")
                connection.execute(insert(accounts).values(id=account, user_id=self.user, broker=broker))
            elif known.user_id != self.user:
                raise BadInput("account", f"the name {account!r} is taken", "choose another")
            elif known.broker != broker:
                raise BadInput("account", f"{account!r} is an account at {known.broker}", "choose another name")

    def accounts(self) -> dict[AccountId, str]:
        """Our accounts, each with its broker."""
        with self._database.read() as connection:
            mine = select(accounts).where(accounts.c.user_id == self.user).order_by(accounts.c.id)
            return {AccountId(row.id): row.broker for row in connection.execute(mine)}

    def every_account(self) -> dict[AccountId, UserId]:
        """Of every user, with whose it is: for the supervisor and the workers, never for a user."""
        with self._database.read() as connection:
            found = connection.execute(select(accounts.c.id, accounts.c.user_id).order_by(accounts.c.id))
            return {AccountId(row.id): UserId(row.user_id) for row in found}

    def every_open_run(self) -> tuple[Run, ...]:
        """Of every user, each run that is not archived, by id: for who ends what trades, never for a user."""
        with self._database.read() as connection:
            return load_runs(connection, ~runs.c.archived)

    def of(self, user: UserId) -> StrategyStore:
        """The same database for another user."""
        return StrategyStore(self._database, user)

    def close(self) -> None:
        """Close the database as well: for those who opened it only for this."""
        self._database.close()

    # --- strategies ---

    def add(self, strategy: Strategy) -> Strategy:
        """Save a new strategy. Its id and user are given here, whatever they were.

        Raises BadInput: there is no such account, or the name is taken."""
        new = replace(strategy, user=self.user)
        with self._database.write() as connection:
            self._check_account(connection, new.account)
            self._check_name_free(connection, new.name)
            query = insert(strategies).values(**strategy_values(new)).returning(strategies.c.id)
            return replace(new, id=StrategyId(connection.execute(query).scalar_one()))

    def edit(self, strategy: Strategy, *, at: datetime, revision: int | None = None) -> Strategy:
        """Change the definition, for runs to come; one that is going on keeps its plan. Old and new are journalled.

        `revision`: of what the user saw when deciding; None: whatever it is now.

        Raises BadInput: there is no such strategy or account, the name is taken, or symbol or account would change
        under a run that is not closed. Raises Conflict: it was edited since that revision."""
        with self._database.write() as connection:
            old = self._by_id(connection, strategy.id)
            if revision is not None and revision != old.revision:
                raise Conflict(f"strategy {old.name}", revision=old.revision)
            new = replace(strategy, user=self.user, revision=old.revision + 1)
            if new.name != old.name:
                self._check_name_free(connection, new.name)
            if (new.symbol, new.account) != (old.symbol, old.account):
                self._check_account(connection, new.account)
                _check_closed(connection, old)
            connection.execute(update(strategies).where(strategies.c.id == new.id).values(**strategy_values(new)))
            if new.repeat is not Repeat.DAILY:
                connection.execute(update(strategies).where(strategies.c.id == new.id).values(repeating=False))
            connection.execute(insert(journal).values(**journal_values(_edited(old, new, at))))
            return new

    def remove(self, strategy_id: StrategyId) -> None:
        """Take it out of the list; its runs and their story stay. Raises BadInput while a run is not closed."""
        with self._database.write() as connection:
            _check_closed(connection, self._by_id(connection, strategy_id))
            connection.execute(update(strategies).where(strategies.c.id == strategy_id).values(removed=True))

    def list(self) -> tuple[Strategy, ...]:
        """All that were not removed, by id."""
        with self._database.read() as connection:
            query = select(strategies).where(self._mine).order_by(strategies.c.id)
            return tuple(strategy_from(row) for row in connection.execute(query).mappings())

    def get(self, strategy: StrategyId | str) -> Strategy:
        """By id or by name; a number typed on a command line is an id if there is one. Raises BadInput."""
        with self._database.read() as connection:
            if isinstance(strategy, int):
                return self._by_id(connection, strategy)
            found = self._find(connection, strategies.c.name == strategy)
            if found is None and strategy.isdecimal() and len(strategy) < 19:
                found = self._find(connection, strategies.c.id == int(strategy))
            if found is None:
                raise BadInput("strategy", f"there is no strategy {strategy!r}", "see the list of your strategies")
            return found

    # --- wishes ---

    def wish(self, strategy_id: StrategyId, event: Event, *, at: datetime, by: str) -> WishRecord:
        """Commit what the user wants: START, STOP, KILL or HAND_OVER. When this returns it is not forgotten; then
        ring the bell. Raises BadInput."""
        if event not in WISHES:
            raise BadInput("wish", f"{event} is not for people to ask", f"one of {', '.join(sorted(WISHES))}")
        with self._database.write() as connection:
            of = self._by_id(connection, strategy_id)
            goes_on = event is Event.START and of.repeat is Repeat.DAILY
            connection.execute(update(strategies).where(strategies.c.id == strategy_id).values(repeating=goes_on))
            return _insert_wish(connection, strategy_id, event, at=at, by=by)

    def take_back_start(self, strategy_id: StrategyId, *, at: datetime, by: str) -> tuple[WishRecord, ...]:
        """Cancel every START that no worker has taken up; what was taken back is in the journal. Empty: there is none,
        or a worker was faster, and then a STOP must follow.

        Exactly one of both wins: `Records.add_run` needs the row of the wish, and here a run that was made is seen.

        Raises BadInput: there is no such strategy."""
        waiting = and_(
            wishes.c.strategy_id == strategy_id, wishes.c.event == Event.START, wishes.c.taken_by_fence.is_(None)
        )
        with self._database.write() as connection:
            of = self._by_id(connection, strategy_id)
            gone = connection.execute(select(wishes).where(waiting).with_for_update()).mappings().all()
            made = and_(runs.c.strategy_id == strategy_id, ~runs.c.closed)
            if connection.execute(select(func.count()).where(made)).scalar_one():
                return ()
            connection.execute(delete(wishes).where(waiting))
            if gone:  # a daily one is not made ready for its next days either
                connection.execute(update(strategies).where(strategies.c.id == strategy_id).values(repeating=False))
            for row in gone:
                text = f"the START asked for by {row['asked_by']} was taken back by {by}; no worker had taken it up"
                entry = JournalEntry(at=at, account=of.account, strategy_id=of.id, kind=JournalKind.WISH, text=text)
                connection.execute(insert(journal).values(**journal_values(entry)))
            return tuple(_wish_from(row) for row in gone)

    def kill_all(self, *, at: datetime, by: str) -> tuple[WishRecord, ...]:
        """The kill switch: KILL for every strategy of ours with a run that is not closed, all in one transaction."""
        with self._database.write() as connection:
            open_ones = select(runs.c.strategy_id).where(runs.c.user_id == self.user, ~runs.c.closed).distinct()
            ids = connection.execute(open_ones.order_by(runs.c.strategy_id)).scalars().all()
            return tuple(_insert_wish(connection, StrategyId(id_), Event.KILL, at=at, by=by) for id_ in ids)

    def is_wish_taken(self, wish_id: int) -> bool:
        """Whether a worker has taken it up. False also for a wish that is not ours."""
        with self._database.read() as connection:
            query = select(wishes.c.taken_by_fence).join(strategies)
            mine = query.where(wishes.c.id == wish_id, strategies.c.user_id == self.user)
            return connection.execute(mine).scalar() is not None

    def repeating(self) -> tuple[tuple[Strategy, Run | None], ...]:
        """Every repeating strategy that was started and not stopped since, each with its latest run."""
        with self._database.read() as connection:
            query = select(strategies).where(self._mine, strategies.c.repeating).order_by(strategies.c.id)
            found = [strategy_from(row) for row in connection.execute(query).mappings()]
            latest = {s.id: load_runs(connection, runs.c.strategy_id == s.id, latest=1) for s in found}
        return tuple((strategy, next(iter(latest[strategy.id]), None)) for strategy in found)

    def total_revision(self) -> int:
        """Grows with every edit of any definition of ours."""
        mine = select(func.sum(strategies.c.revision)).where(strategies.c.user_id == self.user)
        with self._database.read() as connection:
            total: int | None = connection.execute(mine).scalar()
            return total or 0

    def pending_wishes(self, strategy_id: StrategyId | None = None) -> tuple[WishRecord, ...]:
        """What was asked for and not taken up by a worker yet, oldest first; None: of all our strategies."""
        of = true() if strategy_id is None else wishes.c.strategy_id == strategy_id
        query = select(wishes).join(strategies).where(wishes.c.taken_by_fence.is_(None), self._mine, of)
        with self._database.read() as connection:
            return tuple(_wish_from(row) for row in connection.execute(query.order_by(wishes.c.id)).mappings())

    # --- accounts' rules ---

    def rules(self, account: AccountId) -> AccountRules:
        """Kill switch and limits. Raises BadInput: there is no such account of ours."""
        with self._database.read() as connection:
            self._check_account(connection, account)
            row = connection.execute(select(accounts).where(accounts.c.id == account)).mappings().one()
            return rules_from(row)

    def all_rules(self) -> dict[AccountId, AccountRules]:
        """Of each of our accounts, by name."""
        with self._database.read() as connection:
            mine = select(accounts).where(accounts.c.user_id == self.user).order_by(accounts.c.id)
            return {AccountId(row["id"]): rules_from(row) for row in connection.execute(mine).mappings()}

    def set_level(self, account: AccountId, level: Level, *, reason: str, by: str, at: datetime) -> None:
        """Press the kill switch, or release it with NORMAL. Raises BadInput."""
        with self._database.write() as connection:
            self._check_account(connection, account)
            write_level(connection, account, level, reason=reason, by=by, at=at)
            text = f"account {account}: the kill switch is now {level}, by {by}: {reason}"
            entry = JournalEntry(at=at, account=account, kind=JournalKind.WISH, text=text)
            connection.execute(insert(journal).values(**journal_values(entry)))

    def set_limits(self, account: AccountId, limits: Limits, *, by: str, at: datetime) -> None:
        """Raises BadInput: there is no such account of ours."""
        values = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
        with self._database.write() as connection:
            self._check_account(connection, account)
            connection.execute(update(accounts).where(accounts.c.id == account).values(values))
            told = ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, False))
            entry = JournalEntry(
                at=at, account=account, kind=JournalKind.WISH, text=f"limits set by {by}: {told or 'none'}"
            )
            connection.execute(insert(journal).values(**journal_values(entry)))

    # --- what became of it ---

    def runs(
        self, strategy_id: StrategyId | None = None, *, limit: int = 100, before: RunId | None = None
    ) -> tuple[Run, ...]:
        """The newest runs, newest first, with every order and fill; of one strategy or of all. `before`: only those
        with a smaller id."""
        of = true() if strategy_id is None else runs.c.strategy_id == strategy_id
        if before is not None:
            of = and_(of, runs.c.id < before)
        with self._database.read() as connection:
            return load_runs(connection, and_(runs.c.user_id == self.user, of), latest=limit)

    def open_runs(self) -> tuple[Run, ...]:
        """Every run that is not archived, by id."""
        with self._database.read() as connection:
            return load_runs(connection, and_(runs.c.user_id == self.user, ~runs.c.archived))

    def run(self, run_id: RunId) -> Run:
        """One run with every order and fill. Raises BadInput if there is none."""
        with self._database.read() as connection:
            found = load_runs(connection, and_(runs.c.user_id == self.user, runs.c.id == run_id))
        if not found:
            raise BadInput("run", f"there is no run {run_id}")
        return found[0]

    def journal(
        self,
        run_id: RunId | None = None,
        *,
        strategy_id: StrategyId | None = None,
        after_seq: int = 0,
        limit: int = 1000,
    ) -> Sequence[tuple[int, JournalEntry]]:
        """The story with its sequence numbers, oldest first: of one run, of one strategy, or of all our accounts.
        Ask again with the last number to go on."""
        mine = journal.c.account.in_(select(accounts.c.id).where(accounts.c.user_id == self.user))
        query = select(journal).where(journal.c.seq > after_seq, mine)
        if run_id is not None:
            query = query.where(journal.c.run_id == run_id)
        if strategy_id is not None:
            query = query.where(journal.c.strategy_id == strategy_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(journal.c.seq).limit(limit)).mappings()
            return tuple((row["seq"], journal_from(row)) for row in rows)

    def journal_back(
        self,
        *,
        before_seq: int | None = None,
        words: str = "",
        kinds: Collection[JournalKind] = (),
        run_id: RunId | None = None,
        strategy_id: StrategyId | None = None,
        limit: int = 100,
    ) -> Sequence[tuple[int, JournalEntry]]:
        """The story of our accounts from its newest line back, for those who browse. `words`: all of them stand in the
        text, in any case. Ask again with the last number as `before_seq` to go on."""
        mine = journal.c.account.in_(select(accounts.c.id).where(accounts.c.user_id == self.user))
        query = select(journal).where(mine)
        if before_seq is not None:
            query = query.where(journal.c.seq < before_seq)
        for word in words.split():
            query = query.where(func.lower(journal.c.text).contains(word.lower(), autoescape=True))
        if kinds:
            query = query.where(journal.c.kind.in_(list(kinds)))
        if run_id is not None:
            query = query.where(journal.c.run_id == run_id)
        if strategy_id is not None:
            query = query.where(journal.c.strategy_id == strategy_id)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(journal.c.seq.desc()).limit(limit)).mappings()
            return tuple((row["seq"], journal_from(row)) for row in rows)

    def mark(self) -> Mark:
        """Another one as soon as anything that a screen shows has changed. Cheap: to be asked ten times a second."""
        mine = and_(runs.c.user_id == self.user, ~runs.c.archived)
        of_runs = select(func.count(), func.coalesce(func.sum(runs.c.version), 0)).where(mine)
        of_wishes = select(func.count(), func.coalesce(func.max(wishes.c.id), 0)).join_from(wishes, strategies)
        waiting = of_wishes.where(wishes.c.taken_by_fence.is_(None), self._mine)
        defined = select(func.count(), func.coalesce(func.sum(strategies.c.revision), 0)).where(self._mine)
        with self._database.read() as connection:
            ours = connection.execute(select(accounts.c.id).where(accounts.c.user_id == self.user)).scalars()
            lasts = [connection.execute(_NEWEST_LINE, {"of_account": account}).scalar() for account in ours]
            counts = [tuple(connection.execute(each).one()) for each in (of_runs, waiting, defined)]
        return Mark(
            last_seq=max((last or 0 for last in lasts), default=0),
            counts=tuple(int(number) for pair in counts for number in pair),
        )

    def every_journal_instant(self) -> datetime | None:
        """When the newest line of all users was written (trading time), None without any: for the market's clock,
        never for a user."""
        with self._database.read() as connection:
            at: datetime | None = connection.execute(
                select(journal.c.at).order_by(journal.c.seq.desc()).limit(1)
            ).scalar()
            return at

    # --- inside a transaction ---

    def _find(self, connection: Connection, which: ColumnElement[bool]) -> Strategy | None:
        row = connection.execute(select(strategies).where(self._mine, which)).mappings().one_or_none()
        return None if row is None else strategy_from(row)

    def _by_id(self, connection: Connection, strategy_id: StrategyId) -> Strategy:
        found = self._find(connection, strategies.c.id == strategy_id)
        if found is None:
            raise BadInput("strategy", f"there is no strategy {strategy_id}", "see the list of your strategies")
        return found

    def _check_name_free(self, connection: Connection, name: str) -> None:
        if self._find(connection, strategies.c.name == name) is not None:
            raise BadInput("name", f"there is a strategy {name!r} already", "choose another name, or edit that one")

    def _check_account(self, connection: Connection, account: AccountId) -> None:
        mine = and_(accounts.c.id == account, accounts.c.user_id == self.user)
        if not connection.execute(select(func.count()).where(mine)).scalar_one():
            raise BadInput("account", f"there is no account {account!r}", "add it first")


def _check_closed(connection: Connection, strategy: Strategy) -> None:
    for earlier in load_runs(connection, and_(runs.c.strategy_id == strategy.id, ~runs.c.closed)):
        raise refuse_start(earlier)


def _insert_wish(connection: Connection, strategy_id: StrategyId, event: Event, *, at: datetime, by: str) -> WishRecord:
    query = insert(wishes).values(strategy_id=strategy_id, event=event, at=at, asked_by=by).returning(wishes.c.id)
    return WishRecord(id=connection.execute(query).scalar_one(), strategy_id=strategy_id, event=event, at=at, by=by)


def _wish_from(row: RowMapping) -> WishRecord:
    return WishRecord(
        id=row["id"], strategy_id=row["strategy_id"], event=row["event"], at=row["at"], by=row["asked_by"]
    )


def _edited(old: Strategy, new: Strategy, at: datetime) -> JournalEntry:
    changes = {
        name: {"old": str(getattr(old, name)), "new": str(getattr(new, name))}
        for name in Strategy.__dataclass_fields__
        if name != "revision" and getattr(old, name) != getattr(new, name)
    }
    told = ", ".join(f"{name} {change['old']} -> {change['new']}" for name, change in changes.items())
    return JournalEntry(
        at=at,
        account=new.account,
        strategy_id=new.id,
        kind=JournalKind.NOTE,
        text=f"{new.name} edited: {told or 'nothing changed'}",
        data=changes,
    )
