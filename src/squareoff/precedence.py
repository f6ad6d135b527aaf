"""Orders before bookkeeping: what an order leaves behind is written when no other order is on its way out.

On the day the market falls through a hundred stop-losses in a second, the hundredth order must not wait until the
first ones are filed. Nothing here is waited for by an order, and nothing waits for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

QUIET_S = 0.003
"""Bookkeeping goes on when no order has left for this long: a burst of stop-losses is sent first."""


class _Loop(Protocol):
    def call_later(self, delay: float, callback: Callable[[], None], /) -> asyncio.TimerHandle: ...
    def call_soon(self, callback: Callable[[], None], /) -> asyncio.Handle: ...
    def create_future(self) -> asyncio.Future[None]: ...


class OrdersFirst:
    """Lets bookkeeping through one piece at a time, once no order has left for `quiet_s`.

    After `longest_s` a piece goes through all the same. `quiet_s` 0: nothing ever waits (replay)."""

    def __init__(
        self, loop: _Loop, monotonic_s: Callable[[], float], *, quiet_s: float = 0.0, longest_s: float = 1.0
    ) -> None:
        self._loop, self._monotonic_s = loop, monotonic_s
        self._quiet_s, self._longest_s = quiet_s, longest_s
        self._busy_until_s = float("-inf")
        self._waiting: deque[tuple[float, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        """Pieces of bookkeeping that are held back."""
        return len(self._waiting)

    def order_leaves(self) -> None:
        """An order is about to be sent, now."""
        self._busy_until_s = self._monotonic_s() + self._quiet_s

    async def calm(self) -> None:
        """Return when bookkeeping may go on; those who came first go first."""
        now_s = self._monotonic_s()
        if not self._waiting and now_s >= self._busy_until_s:
            return
        turn = self._loop.create_future()
        self._waiting.append((now_s + self._longest_s, turn))
        if len(self._waiting) == 1:
            self._look_again()
        await turn

    def _look_again(self) -> None:
        """Let one through if it may go, and look at the next after the loop has looked at its sockets."""
        while self._waiting and self._waiting[0][1].cancelled():
            self._waiting.popleft()
        if not self._waiting:
            return
        now_s, (latest_s, turn) = self._monotonic_s(), self._waiting[0]
        if now_s < (may_s := min(self._busy_until_s, latest_s)):
            self._loop.call_later(may_s - now_s, self._look_again)
            return
        turn.set_result(None)
        self._waiting.popleft()
        if self._waiting:
            self._loop.call_soon(self._look_again)
