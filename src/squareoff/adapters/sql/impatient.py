"""A PostgreSQL connection that waits for no answer for ever. Imported only where the driver is needed."""

from __future__ import annotations

import time
from typing import Any

import psycopg

from squareoff.adapters.sql.postgres import ANSWER_WITHIN_S


class ImpatientConnection(psycopg.Connection[Any]):
    """Ends itself when the server says nothing for `answer_within_s`: a server that stands still does not count the
    time of a statement, and its machine still answers the network's own questions."""

    answer_within_s: float = ANSWER_WITHIN_S

    def wait(self, gen: Any, *more: Any, **how: Any) -> Any:
        return super().wait(self._until(gen), *more, **how)

    def _until(self, gen: Any) -> Any:
        """The driver's conversation, looked at each time that the driver looks (ten times a second)."""
        until_s = time.monotonic() + self.answer_within_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > until_s:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.answer_within_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            return end.value
