"""One sender per account: the last check, the send mark, the bytes. It never retries and never guesses."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime

from squareoff.core.figures import UNMETERED
from squareoff.core.outcomes import Answered, GateSaidNo, Limited, NotSent, Refused, Sent, Unknown
from squareoff.core.types import Order
from squareoff.errors import GateClosed, NeverSent, OrderRefused, OutcomeUnknown, RateLimited
from squareoff.ports import Broker, Clock, Lease, Meter, Spool, SpoolMark

EXIT_SHARE = 0.3
"""Part of the venue's orders per second that entries may not use."""


class Gateway:
    """Sends one order at a time for an account, under its lease."""

    def __init__(self, *, broker: Broker, lease: Lease, spool: Spool, clock: Clock, meter: Meter = UNMETERED) -> None:
        self._broker, self._lease, self._spool, self._clock, self._meter = broker, lease, spool, clock, meter
        self._sent_at: deque[float] = deque()

    @property
    def may_send(self) -> bool:
        return self._lease.is_held

    async def send(
        self,
        order: Order,
        *,
        attempt: int,
        cause: str,
        not_after: datetime | None,
        objection: Callable[[], str | None],
    ) -> Sent:
        """Send `order` once and say what became of it.

        `not_after`: trading time after which nothing may leave (a BUY's grace); None for exits. `objection` is
        asked with the connection in hand: a text means do not send (a wish, a stop seen).
        """
        missed = False
        left_s: float | None = None

        def check() -> None:
            nonlocal missed
            if not self._lease.is_held:
                raise GateClosed("this worker no longer holds the account")
            if not_after is not None and self._clock.now() > not_after:
                missed = True
                raise GateClosed("the time in which it might be sent is over")

        def gate() -> None:
            nonlocal left_s
            check()
            if (why := objection()) is not None:
                raise GateClosed(why)
            # mark first: a crash right after must find that this attempt may have left
            self._spool.mark(
                SpoolMark(client_order_id=order.client_order_id, attempt=attempt, qty=order.qty, cause=cause)
            )
            marked_s = self._clock.monotonic_s()
            check()  # again: a disk may have held up the mark for longer than the lease, or a BUY's grace
            left_s = marked_s

        await self._budget(is_exit=not_after is None)
        try:
            return Answered(await self._broker.submit(order, gate))
        except GateClosed as error:
            return GateSaidNo(error.reason, missed)
        except OrderRefused as error:
            return Refused(error.reason, error.permanent, error.token)
        except NeverSent as error:
            return NotSent(error.reason)
        except RateLimited as error:
            return Limited(error.retry_after_s)
        except OutcomeUnknown as error:
            return Unknown(error.reason)
        finally:
            if left_s is not None:  # told afterwards: nothing is counted between the last check and the bytes
                self._meter.order_leaves(order.client_order_id, left_s)

    async def _budget(self, *, is_exit: bool) -> None:
        """Stay within the venue's orders per second; exits go first by a share that entries cannot use."""
        limit = self._broker.facts.orders_per_s
        if limit is None:
            return
        allowed = limit if is_exit else max(1, int(limit * (1 - EXIT_SHARE)))
        while True:
            now_s = self._clock.monotonic_s()
            while self._sent_at and now_s - self._sent_at[0] >= 1:
                self._sent_at.popleft()
            if len(self._sent_at) < allowed:
                self._sent_at.append(now_s)
                return
            wait_s = max(1 - (now_s - self._sent_at[0]), 0.001)
            self._meter.budget_waits(wait_s)
            await self._clock.sleep(wait_s)
