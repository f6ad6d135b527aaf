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
from sqlalchemy.exc import DBAPIError

from squareoff.adapters.sql.database import Database, answers, is_in_transaction, savepoint, transaction
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
        committing = False
        reads_only = not self._taken and all(job.reads_only for job in jobs)
        try:
            with self._asking() as connection, transaction(connection, reads_only=reads_only):
                self._write_lines(connection)
                for job in jobs:
                    self._attempt(connection, job)
                committing = True
            self._durable += len(self._taken)
            self._taken = []
        except RecordsUnavailable as error:
            self._drop_connection()
            self._explain(jobs, error, committing=committing)
        except BaseException as error:  # a mistake of ours must reach who waits, and the thread must live
            self._drop_connection()
            _log.exception("the SQL writer stumbled")
            for job in jobs:
                job.error = error
        for job in jobs:
            job.tell()

    @contextmanager
    def _asking(self) -> Iterator[Connection]:
        with answers(self._database.path):
            if self._connection is None:
                self._connection = self._database.connect()
            else:
                self._database.check_file()
            yield self._connection

    def _write_lines(self, connection: Connection) -> None:
        if not self._taken:
            return
        try:
            with savepoint(connection):
                self._insert_line.execute(connection, self._taken)
        except DBAPIError:
            raise
        except Exception:  # one of them no database takes: the others must not suffer, nor must the jobs
            for line in self._taken:
                self._write_odd_line(connection, line)

    def _write_odd_line(self, connection: Connection, line: dict[str, Any]) -> None:
        try:
            with connection.begin_nested():
                connection.execute(insert(journal), line)
        except DBAPIError:
            raise
        except Exception as error:
            _log.error("a line of the journal could not be written as it is (%s): %r", error, line)
            plain = {"text": repr(line), "data": "{}", "run_id": None, "strategy_id": None}
            certain = {"at": line["at"].replace(tzinfo=UTC), "kind": JournalKind.NOTE}
            connection.execute(insert(journal), {**line, **plain, **certain})

    def _attempt(self, connection: Connection, job: Job[Any]) -> None:
        """Do one job; what it raises is its caller's, unless the database itself gave up the transaction."""
        try:
            with answers(self._database.path), savepoint(connection):
                job.result = job.work(connection)
        except RecordsUnavailable as error:
            if not is_in_transaction(connection):
                raise
            job.error = error
        except Exception as error:
            job.error = error

    def _explain(self, jobs: Sequence[Job[Any]], error: RecordsUnavailable, *, committing: bool) -> None:
        """Nothing was committed, as far as we know. A failed COMMIT may still have been done: ask again."""
        for job in jobs:
            if job.error is None:
                job.error = RecordsUnavailable(str(error))  # one each: they are raised in several places
                if committing and job.recheck is not None:
                    self._recheck(job)

    def _recheck(self, job: Job[Any]) -> None:
        assert job.recheck is not None
        try:
            with self._asking() as connection, transaction(connection, reads_only=True):
                job.result = job.recheck(connection)
            job.error = None
        except Exception as error:
            self._drop_connection()
            job.error = error

    def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except Exception:
            _log.debug("closing a broken connection failed", exc_info=True)
