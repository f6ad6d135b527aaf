"""The paper broker inside this process, for replay, simulation and tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from decimal import Decimal

from squareoff.adapters.brokers.paper.book import DuplicateOrder, PaperBook
from squareoff.core.types import ClientOrderId, Order, OrderReport, Position, Tick
from squareoff.errors import BrokerUnavailable, NeverSent
from squareoff.ports import Clock, Gate, VenueFacts


class InProcessPaperBroker:
    """`ports.Broker` over a `PaperBook`: an order is taken, and every question answered, before the call returns.

    `on_report` hears of every change synchronously, inside the call that made it and before `updates()` does, so
    that a replay needs no task to pump news. It may call back into the broker. For the order of calls in a replay
    see `PaperBook`.
    """

    def __init__(
        self,
        book: PaperBook,
        clock: Clock,
        *,
        on_report: Callable[[OrderReport], None] | None = None,
        facts: VenueFacts | None = None,
    ) -> None:
        self.book = book
        self.on_report = on_report
        self._clock = clock
        self._facts = facts or VenueFacts(
            idempotency=book.idempotency,
            request_timeout_s=1.0,
            quarantine_s=0.0,
            position_lag_s=0.0,
            replace_exit_after_s=None,
        )
        self._listeners: list[_Updates] = []
        self._closed = False

    @property
    def facts(self) -> VenueFacts:
        return self._facts

    def on_tick(self, tick: Tick) -> None:
        """Fill what this tick fills and tell it. Nothing is awaited."""
        for report in self.book.on_tick(tick):
            self._tell(report)

    async def submit(self, order: Order, gate: Gate) -> OrderReport:
        if self._closed:
            raise NeverSent(order.client_order_id, "the paper broker is closed")
        gate()
        try:
            report = self.book.submit(order, self._clock.now())
        except DuplicateOrder as duplicate:
            return duplicate.earlier  # it arrived before: that one is ours
        self._tell(report)
        return report

    async def cancel(self, order: ClientOrderId) -> None:
        self._must_be_open()
        for report in self.book.cancel(order, self._clock.now()):
            self._tell(report)

    async def find(self, order: ClientOrderId) -> OrderReport | None:
        self._must_be_open()
        return self.book.find(order)

    async def orders(self) -> Sequence[OrderReport]:
        self._must_be_open()
        return self.book.orders()

    async def positions(self) -> Sequence[Position]:
        self._must_be_open()
        return self.book.positions()

    async def funds(self) -> Decimal | None:
        self._must_be_open()
        return self.book.free()

    async def server_time(self) -> datetime | None:
        self._must_be_open()
        return self._clock.now()

    def updates(self) -> AsyncIterator[OrderReport]:
        """Every change from this call on, not from the first `anext`: none falls in between."""
        listener = _Updates()
        self._listeners.append(listener)
        if self._closed:
            listener.put(None)
        return listener

    async def close(self) -> None:
        self._closed = True
        for listener in self._listeners:
            listener.put(None)
        self._listeners.clear()

    def _tell(self, report: OrderReport) -> None:
        if self.on_report is not None:
            self.on_report(report)
        for listener in self._listeners:
            listener.put(report)

    def _must_be_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("the paper broker is closed")


class _Updates:
    """One listener's queue; None is its end."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[OrderReport | None] = asyncio.Queue()
        self._ended = False

    def put(self, report: OrderReport | None) -> None:
        self._queue.put_nowait(report)

    def __aiter__(self) -> _Updates:
        return self

    async def __anext__(self) -> OrderReport:
        if self._ended or (report := await self._queue.get()) is None:
            self._ended = True
            raise StopAsyncIteration
        return report
