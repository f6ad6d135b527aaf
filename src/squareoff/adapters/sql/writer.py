"""One thread that writes: whatever waits is committed together, so the disk is waited for once (group commit).

A job is a function of a connection. It runs in a savepoint, so that one that fails takes nothing else with it; its
answer is given only after the COMMIT. Lines of the journal ride along with the next job, or go alone after a moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import insert
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from squareoff.adapters.sql.database import Database, answers, savepoint, transaction
from squareoff.adapters.sql.prepared import PreparedInsert
from squareoff.adapters.sql.rows import JOURNAL_COLUMNS, journal_values
from squareoff.adapters.sql.schema import journal
from squareoff.errors import RecordsUnavailable
from squareoff.ports import JournalEntry, JournalKind

T = TypeVar("T")

_LINES_WAIT_S: Final = 0.025
"""Lines wait this long for a job to ride with: with the commit itself they are durable within 50 ms."""
_RETRY_LINES_S: Final = 0.5
"""Lines the database did not take are offered again this often; they are never dropped."""
_JOBS_AT_ONCE: Final = 500

_log = logging.getLogger(__name__)


class Job(Generic[T]):
    """One piece of work and the caller who waits for it.

    `recheck` answers after a COMMIT that failed, when nobody knows whether it was done: it reads, and returns the
    answer if the work is there; it raises RecordsUnavailable if it is not.
    """

    def __init__(
        self,
        work: Callable[[Connection], T],
        *,
        reads_only: bool = False,
        recheck: Callable[[Connection], T] | None = None,
    ) -> None:
        self.work, self.reads_only, self.recheck = work, reads_only, recheck
        self._loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[T] = self._loop.create_future()
        self.result: T | None = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        """Give the answer to the caller, who may be gone: the work is done all the same."""
        try:
            self._loop.call_soon_threadsafe(self._tell)
        except RuntimeError:
            _log.debug("nobody waits any more: the loop is closed")

    def _tell(self) -> None:
        if self.answer.done():
            return
        if self.error is None:
            self.answer.set_result(self.result)  # type: ignore[arg-type]
        else:
            self.answer.set_exception(self.error)


class _Signal:
    pass


_BELL, _STOP = _Signal(), _Signal()


class Writer:
    """The thread, its queue, and the lines of the journal not yet durable."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._insert_line = PreparedInsert(insert(journal), JOURNAL_COLUMNS, database.engine.dialect)
        self._inbox: SimpleQueue[Job[Any] | _Signal] = SimpleQueue()
        self._lines: deque[JournalEntry] = deque()
        self._taken: list[dict[str, Any]] = []
        self._written = self._durable = 0
        self._unsure: tuple[str, int] | None = None
        self._to_keep: set[str] = set()
        self._kept: set[str] = set()
        self._bell_rung = self._stopping = False
        self._connection: Connection | None = None
        self._thread = Thread(target=self._run, name="squareoff-sql", daemon=True)
        self._thread.start()

    def submit(self, job: Job[T]) -> asyncio.Future[T]:
        if self._stopping:
            raise RecordsUnavailable("the records are closed")
        self._inbox.put(job)
        return job.answer

    def note(self, line: JournalEntry) -> None:
        """Queue one line of the journal. Never waits, and leaves the making of a row to the thread."""
        if self._stopping:
            raise RecordsUnavailable("the records are closed")
        self._lines.append(line)
        self._written += 1
        if not self._bell_rung:
            self._bell_rung = True
            self._ring_later()

    def _ring_later(self) -> None:
        """By a timer of the loop, not by waking the thread now: it would take the interpreter from the very order
        that this line is about (0.4 ms of a stop-loss, measured)."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._inbox.put(_BELL)
        else:
            loop.call_later(_LINES_WAIT_S, self._inbox.put, _BELL)

    def keep_account(self, account: str) -> None:
        """Take it again with every new connection, as soon as it is free. Only for a job."""
        self._to_keep.add(account)
        self._kept.add(account)

    @property
    def backlog(self) -> int:
        return self._written - self._durable

    async def close(self) -> None:
        """Commit what waits, then end the thread. Lines the database does not take now are lost, and logged."""
        if not self._stopping:
            self._stopping = True
            self._inbox.put(_STOP)
        await asyncio.to_thread(self._thread.join)

    # --- the thread ---

    def _run(self) -> None:
        while not (self._stopping and self._inbox.empty()):
            jobs = self._next_jobs()
            self._take_lines()
            if jobs or self._taken:
                self._do(jobs)
        self._drop_connection()
        if self._taken:
            _log.error("%d lines of the journal could not be written before the end", len(self._taken))

    def _next_jobs(self) -> list[Job[Any]]:
        """All jobs that wait. Empty: the bell rang for lines only, or it is time to offer old ones again."""
        jobs: list[Job[Any]] = []
        try:
            item = self._inbox.get(timeout=_RETRY_LINES_S if self._taken else None)
            while True:
                if isinstance(item, Job):
                    jobs.append(item)
                if len(jobs) == _JOBS_AT_ONCE:
                    break
                item = self._inbox.get_nowait()
        except Empty:
            pass
        return jobs

    def _take_lines(self) -> None:
        self._bell_rung = False  # before taking: a line written from here on rings again
        while self._lines:
            self._taken.append(journal_values(self._lines.popleft()))

    def _do(self, jobs: Sequence[Job[Any]]) -> None:
        committing, mark = False, None
        try:
            self._settle_unsure()
            reads_only = not self._taken and all(job.reads_only for job in jobs)
            with self._asking() as connection, transaction(connection, reads_only=reads_only):
                self._write_lines(connection)
                for job in jobs:
                    self._attempt(connection, job)
                mark = None if reads_only else self._database.kind.mark(connection)
                committing = True
            self._lines_are_durable(len(self._taken))
        except RecordsUnavailable as error:
            self._drop_connection()
            if committing and mark is not None:
                self._unsure = (mark, len(self._taken))
            self._explain(jobs, error, committing=committing)
        except BaseException as error:  # a mistake of ours must reach who waits, and the thread must live
            self._drop_connection()
            _log.exception("the SQL writer stumbled")
            for job in jobs:
                job.error = error
        for job in jobs:
            job.tell()

    def _lines_are_durable(self, count: int) -> None:
        self._durable += count
        del self._taken[:count]

    def _settle_unsure(self) -> bool:
        """Lines whose COMMIT was not answered are not written a second time if it was done. Whether it was."""
        if self._unsure is None:
            return False
        mark, count = self._unsure
        with self._asking() as connection, transaction(connection, reads_only=True):
            done = self._database.kind.was_committed(connection, mark)
        self._unsure = None
        if done:
            self._lines_are_durable(count)
        return done

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        kind = self._database.kind
        with answers(kind):
            if self._connection is not None and kind.is_stale(self._connection):
                self._drop_connection()
            if self._connection is None:
                self._connection = self._database.connect()
            else:
                kind.check()
            self._keep_accounts(self._connection)
            yield self._connection

    def _keep_accounts(self, connection: Connection) -> None:
        for account in self._to_keep - self._kept:
            with transaction(connection, reads_only=True):
                if self._database.kind.keep_account(connection, account, wait=False):
                    self._kept.add(account)

    def _write_lines(self, connection: Connection) -> None:
        if not self._taken:
            return
        try:
            with savepoint(connection):
                self._insert_line.execute(connection, self._taken)
        except Exception as error:  # one of them no database takes: the others must not suffer, nor must the jobs
            if not _is_about_values(error):
                raise
            for line in self._taken:
                self._write_odd_line(connection, line)

    def _write_odd_line(self, connection: Connection, line: dict[str, Any]) -> None:
        """As it is; else as plain text; else into the log, and what follows goes on."""
        for values, then in ((line, "written as plain text"), (_as_plain_text(line), "put aside, here only")):
            try:
                with savepoint(connection):
                    connection.execute(insert(journal), values)
            except Exception as error:
                if not _is_about_values(error):
                    raise
                _log.error("a line of the journal cannot be stored (%s), it is %s: %r", error, then, line)
            else:
                return

    def _attempt(self, connection: Connection, job: Job[Any]) -> None:
        """Do one job; what it raises is its caller's, unless the database itself gave up the transaction."""
        try:
            with answers(self._database.kind), savepoint(connection):
                job.result = job.work(connection)
        except RecordsUnavailable as error:
            if not self._database.kind.is_in_transaction(connection):
                raise
            job.error = error
        except Exception as error:
            job.error = error

    def _explain(self, jobs: Sequence[Job[Any]], error: RecordsUnavailable, *, committing: bool) -> None:
        """Nothing was committed, as far as we know. A failed COMMIT may still have been done: ask again."""
        done = committing and self._found_committed()
        for job in jobs:
            if job.error is None:
                if not done:
                    job.error = RecordsUnavailable(str(error))  # one each: they are raised in several places
                if committing and job.recheck is not None:  # what may buy is looked at itself
                    self._recheck(job)

    def _found_committed(self) -> bool:
        try:
            return self._settle_unsure()
        except Exception:  # asked again before the next lines are written
            self._drop_connection()
            return False

    def _recheck(self, job: Job[Any]) -> None:
        assert job.recheck is not None
        try:
            with self._asking() as connection, transaction(connection, reads_only=True):
                job.result = job.recheck(connection)
            job.error = None
        except Exception as error:
            self._drop_connection()
            job.result, job.error = None, error

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        self._kept.clear()
        if connection is None:
            return
        try:
            connection.close()
        except Exception:
            _log.debug("closing a broken connection failed", exc_info=True)


def _is_about_values(error: Exception) -> bool:
    """Whether it is the row that cannot be stored, and not the database that cannot store now."""
    too_much = str(getattr(getattr(error, "orig", None), "sqlstate", "") or "").startswith("54")
    return not isinstance(error, DBAPIError | OSError) or isinstance(error, DataError | IntegrityError) or too_much


def _as_plain_text(line: dict[str, Any]) -> dict[str, Any]:
    plain = {"text": repr(line), "data": "{}", "run_id": None, "strategy_id": None}
    return {**line, **plain, "at": line["at"].replace(tzinfo=UTC), "kind": JournalKind.NOTE}
