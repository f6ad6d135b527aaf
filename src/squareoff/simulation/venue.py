"""The broker of the world: its book is the paper broker's own; what it does badly is set by who plays the day."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from squareoff.adapters.brokers.paper.book import DuplicateOrder
from squareoff.adapters.brokers.paper.mischief import Kind, Mischief, Script
from squareoff.core.types import (
    ClientOrderId,
    Order,
    OrderReport,
    OrderStatus,
    Position,
    Tick,
)
from squareoff.errors import (
    BrokerUnavailable,
    NeverSent,
    OrderRefused,
    OutcomeUnknown,
    RateLimited,
)
from squareoff.ports import (
    Gate,
    VenueFacts,
)
from squareoff.simulation.day import short

if TYPE_CHECKING:
    from squareoff.simulation.process import Process
    from squareoff.simulation.world import World


@dataclass(slots=True)
class Venue:
    """The broker's side: what it tells, to whom, how late. The book itself is `World.book`."""

    world: World
    script: Script = field(default_factory=Script)
    never_sent: int = 0
    """So many sends fail before any byte leaves."""
    find_down: bool = False
    orders_down: bool = False
    positions_down: bool = False
    positions_lag_s: float = 0.0
    cancels_lost: int = 0
    """So many cancels get no answer and do nothing."""
    fill_on_cancel: bool = False
    """What is cancelled fills first, as the exchange was faster."""
    wire_s: Callable[[Order], float] = lambda order: 0.0
    """How long an order is under way after its bytes left."""
    push: str = "once"
    """How news is pushed: `once`, `never`, `twice`, `late` (2 s), `shuffled`."""
    hidden_until: dict[ClientOrderId, datetime] = field(default_factory=dict)
    submits: list[tuple[datetime, str]] = field(default_factory=list)
    """When which attempt arrived at the venue."""
    _positions: list[tuple[datetime, list[Position]]] = field(default_factory=list)
    _held_back: list[OrderReport] = field(default_factory=list)

    def add(self, *mischief: Mischief) -> None:
        self.script.add(mischief)

    def remember_positions(self) -> None:
        self.world.later(0, self._remember, self.world.now)

    def _remember(self, when: datetime) -> None:
        self._positions.append((when, self.world.book.positions()))

    def positions(self) -> list[Position]:
        if not self.positions_lag_s:
            return self.world.book.positions()
        seen = self.world.now - timedelta(seconds=self.positions_lag_s)
        return next((held for when, held in reversed(self._positions) if when <= seen), [])

    def is_hidden(self, order: ClientOrderId) -> bool:
        return self.world.now < self.hidden_until.get(order, self.world.now)

    def tell(self, report: OrderReport) -> None:
        """News for whoever listens now."""
        if self.push == "never" or self.is_hidden(report.client_order_id):
            return
        if self.push == "shuffled":
            self._held_back.append(report)
            self.world.random.shuffle(self._held_back)
        for process in self.world.living:
            put = process.client.news.put_nowait
            if self.push == "late":
                self.world.later(2.0, put, report)
            elif self.push == "shuffled":
                for one in self._held_back:
                    put(one)
            else:
                for _ in range(2 if self.push == "twice" else 1):
                    put(report)
        self._held_back = self._held_back[-3:]


class Client:
    """`ports.Broker` as one process sees the venue."""

    def __init__(self, process: Process) -> None:
        self._process, self._world = process, process.world
        self.news: asyncio.Queue[OrderReport] = asyncio.Queue()

    @property
    def facts(self) -> VenueFacts:
        return self._world.facts

    async def submit(self, order: Order, gate: Gate) -> OrderReport:
        world, venue, process = self._world, self._world.venue, self._process
        process.out(f"submit {short(order.client_order_id)}")
        await world.loop.sleep(world.latency_s)
        process.point("connected")
        venue.submits.append((world.now, short(order.client_order_id)))
        if venue.never_sent > 0:
            venue.never_sent -= 1
            raise NeverSent(order.client_order_id, "connection refused")
        gate()
        world.left.append((order, world.now))
        process.written()
        wire_s = venue.wire_s(order)
        if wire_s > world.facts.request_timeout_s:  # it arrives when nobody waits for an answer any more
            world.later(wire_s, self._arrives, order)
            await world.loop.sleep(world.facts.request_timeout_s)
            raise OutcomeUnknown(order.client_order_id, "no answer")
        if wire_s:
            arrived: asyncio.Future[None] = world.loop.create_future()
            world.later(wire_s, self._arrives, order, arrived)
            await arrived
            report = world.book.find(order.client_order_id)
            assert report is not None
            return report
        faults = {one.kind: one for one in venue.script.for_order(order)}
        await self._not_placed(order, faults)
        partial = faults.get(Kind.PARTIAL)
        try:
            report = world.book.submit(order, world.now, fill_plan=None if partial is None else (partial.qty,))
        except DuplicateOrder as duplicate:  # proof that the earlier one arrived
            return duplicate.earlier
        if partial is not None and partial.cancel_rest:
            self._cancel_rest_later(order)
        if (rejected := faults.get(Kind.REJECT_AFTER_ACCEPT)) is not None:
            world.later(rejected.seconds or 0.0, self._reject, order, rejected.reason)
        if (hidden := faults.get(Kind.VISIBLE_LATE)) is not None:
            venue.hidden_until[order.client_order_id] = world.now + timedelta(seconds=hidden.seconds or 0)
        venue.tell(report)
        process.point("bytes")
        await self._no_answer(order, faults)
        delay = faults.get(Kind.DELAY_ANSWER)
        await world.loop.sleep(world.latency_s if delay is None else delay.seconds or 0)
        process.point("answer")
        return report

    def _arrives(self, order: Order, arrived: asyncio.Future[None] | None = None) -> None:
        """The order comes to the venue, whatever has become of its sender."""
        with suppress(DuplicateOrder):
            self._world.venue.tell(self._world.book.submit(order, self._world.now))
        if arrived is not None and not arrived.done():
            arrived.set_result(None)

    async def _not_placed(self, order: Order, faults: dict[Kind, Mischief]) -> None:
        world, name = self._world, order.client_order_id
        self._process.point("bytes") if any(not one.places for one in faults.values()) else None
        for kind, one in faults.items():
            if one.places:
                continue
            await world.loop.sleep(world.latency_s)
            if kind is Kind.REFUSE:
                world.book.refuse(order, world.now, one.reason, permanent=one.permanent)
                raise OrderRefused(name, one.reason, permanent=one.permanent)
            if kind is Kind.BUSY:
                raise OrderRefused(name, "503", permanent=False)
            if kind is Kind.RATE_LIMIT:
                raise RateLimited(name, one.seconds or 1.0)
            if kind is Kind.TOKEN_INVALID:
                raise OrderRefused(name, "the login has expired", token=True)
            if kind is Kind.NOT_PLACED_NO_ANSWER:
                await world.loop.sleep(world.facts.request_timeout_s)
                raise OutcomeUnknown(name, "no answer")

    async def _no_answer(self, order: Order, faults: dict[Kind, Mischief]) -> None:
        world, name = self._world, order.client_order_id
        if Kind.PLACED_BUT_NO_ANSWER in faults or Kind.VISIBLE_LATE in faults:
            await world.loop.sleep(world.facts.request_timeout_s)
            raise OutcomeUnknown(name, "no answer")
        if Kind.PLACED_BUT_ERROR in faults:
            await world.loop.sleep(world.latency_s)
            raise OutcomeUnknown(name, "502")
        if Kind.PLACED_BUT_TORN_ANSWER in faults:
            await world.loop.sleep(world.latency_s)
            raise OutcomeUnknown(name, "200, but the answer is torn")

    def _reject(self, order: Order, reason: str) -> None:
        for report in self._world.book.reject(order.client_order_id, self._world.now, reason):
            self._world.venue.tell(report)

    def _cancel_rest_later(self, order: Order) -> None:
        """The venue cancels the rest once the part has filled."""
        world = self._world

        def look() -> None:
            report = world.book.find(order.client_order_id)
            if report is None or report.status is not OrderStatus.OPEN:
                return
            if not report.fills:
                world.later(0.1, look)
                return
            for changed in world.book.cancel(order.client_order_id, world.now, reason="cancelled by the venue"):
                world.venue.tell(changed)

        world.later(0.1, look)

    async def cancel(self, order: ClientOrderId) -> None:
        world, venue = self._world, self._world.venue
        self._process.out(f"cancel {short(order)}")
        await world.loop.sleep(world.latency_s)
        if venue.cancels_lost > 0:
            venue.cancels_lost -= 1
            raise BrokerUnavailable("the cancel was not answered")
        if venue.fill_on_cancel:
            for symbol, price in world.prices.items():
                for report in world.book.on_tick(Tick(symbol, price, world.now)):
                    venue.tell(report)
        for report in world.book.cancel(order, world.now):
            venue.tell(report)
        self._process.point("cancelled")

    async def find(self, order: ClientOrderId) -> OrderReport | None:
        self._process.out(f"find {short(order)}")
        await self._world.loop.sleep(self._world.latency_s)
        if self._world.venue.find_down:
            raise BrokerUnavailable("find is not answered")
        return None if self._world.venue.is_hidden(order) else self._world.book.find(order)

    async def orders(self) -> Sequence[OrderReport]:
        self._process.out("orders")
        await self._world.loop.sleep(self._world.latency_s)
        if self._world.venue.orders_down:
            raise BrokerUnavailable("orders are not answered")
        return [r for r in self._world.book.orders() if not self._world.venue.is_hidden(r.client_order_id)]

    async def positions(self) -> Sequence[Position]:
        self._process.out("positions")
        await self._world.loop.sleep(self._world.latency_s)
        if self._world.venue.positions_down:
            raise BrokerUnavailable("positions are not answered")
        return self._world.venue.positions()

    async def server_time(self) -> datetime | None:
        self._process.out("server_time")
        await self._world.loop.sleep(self._world.latency_s)
        ahead_s = self._world.broker_ahead_s
        return None if ahead_s is None else self._world.loop.now() + timedelta(seconds=ahead_s)

    async def updates(self) -> AsyncIterator[OrderReport]:
        while True:
            yield await self.news.get()

    async def close(self) -> None:
        pass
