"""What the paper venue can do wrong, one by one: so that a scenario's bad day is the one its title says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.test_paper_broker import ENTRY, INFY, HandClock, open_gate, order, tick

from squareoff.adapters.brokers.paper.client import FACTS, PaperBroker
from squareoff.adapters.brokers.paper.mischief import Kind, Mischief
from squareoff.adapters.brokers.paper.server import PaperServer
from squareoff.core.types import OrderStatus
from squareoff.errors import BrokerUnavailable, OrderRefused, OutcomeUnknown, RateLimited

Start = Callable[..., "contextlib.AbstractAsyncContextManager[tuple[PaperServer, PaperBroker]]"]


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def start(tmp_path: Path, clock: HandClock) -> Start:
    @contextlib.asynccontextmanager
    async def start(*mischief: Mischief) -> AsyncIterator[tuple[PaperServer, PaperBroker]]:
        server = PaperServer(data=tmp_path, clock=clock, mischief=mischief)
        await server.start()
        broker = PaperBroker(server.url, facts=replace(FACTS, request_timeout_s=0.5))
        yield server, broker
        await broker.close()
        await server.stop()

    return start


async def control(server: PaperServer, **what: Any) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        headers = {"Authorization": "Bearer paper", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.url}/control", data=json.dumps(what).encode(), headers=headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    return await asyncio.to_thread(ask)


def spell(kind: str, seconds: float, **more: Any) -> dict[str, Any]:
    return {"spells": [{"kind": kind, "seconds": seconds, **more}]}


async def held(broker: PaperBroker) -> int:
    return sum(int(each.net_qty) for each in await broker.positions())


async def test_an_order_that_the_book_never_shows_is_found_by_its_trade(start: Start) -> None:
    async with start(Mischief(kind=Kind.MISSING_IN_ORDERS)) as (server, broker):
        await broker.submit(order(), open_gate)
        assert await broker.find(ENTRY) is None
        server.show(tick("1540"))
        for report in (await broker.find(ENTRY), (await broker.orders())[0]):
            assert report is not None
            assert (report.status, report.filled_qty, report.symbol) == (OrderStatus.FILLED, 50, INFY)


async def test_one_that_is_known_by_a_part_of_its_trades_may_still_fill(start: Start) -> None:
    some = Mischief(kind=Kind.PARTIAL, qty=Decimal(20))
    async with start(Mischief(kind=Kind.MISSING_IN_ORDERS), some) as (server, broker):
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        report = await broker.find(ENTRY)
        assert report is not None
        assert (report.status, report.filled_qty) == (OrderStatus.OPEN, 20)


async def test_a_trade_that_the_order_shows_too_is_counted_once(start: Start) -> None:
    some = Mischief(kind=Kind.PARTIAL, qty=Decimal(20))
    async with start(some) as (server, broker):
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        report = await broker.find(ENTRY)
        assert report is not None
        assert [fill.qty for fill in report.fills] == [20]
        assert [fill.qty for fill in (await broker.orders())[0].fills] == [20]


async def test_what_is_left_of_an_order_may_fill_when_its_cancel_arrives(start: Start) -> None:
    some = Mischief(kind=Kind.PARTIAL, qty=Decimal(20))
    async with start(Mischief(kind=Kind.FILL_ON_CANCEL), some) as (server, broker):
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        await broker.cancel(ENTRY)
        report = await broker.find(ENTRY)
        assert report is not None
        assert (report.status, report.filled_qty, await held(broker)) == (OrderStatus.FILLED, 50, 50)


async def test_the_stream_may_tell_everything_twice_and_then_how_it_was(start: Start) -> None:
    async with start(Mischief(kind=Kind.NEWS_TWICE)) as (server, broker):
        updates = aiter(broker.updates())
        first = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0.1)
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        async with asyncio.timeout(10):
            told = [(await first).status] + [(await anext(updates)).status for _ in range(4)]
        before, after = OrderStatus.OPEN, OrderStatus.FILLED
        assert told == [before, before, after, after, before]


async def test_an_error_without_effect_places_nothing_and_proves_nothing(start: Start) -> None:
    async with start(Mischief(kind=Kind.ERROR_WITHOUT_EFFECT)) as (_, broker):
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order(), open_gate)
        assert await broker.orders() == []


async def test_a_page_for_people_is_no_answer_and_the_order_is_there(start: Start) -> None:
    async with start(Mischief(kind=Kind.NOT_JSON)) as (_, broker):
        with pytest.raises(OutcomeUnknown):
            await broker.submit(order(), open_gate)
        assert len(await broker.orders()) == 1


@pytest.mark.parametrize(
    ("kind", "sending"), [("rate_limited", RateLimited), ("forbidden", OrderRefused), ("deaf", OutcomeUnknown)]
)
async def test_a_spell_holds_for_every_request_and_then_ends(
    start: Start, clock: HandClock, kind: str, sending: type[Exception]
) -> None:
    async with start() as (server, broker):
        await control(server, **spell(kind, 3))
        with pytest.raises(sending):
            await broker.submit(order(), open_gate)
        for question in (broker.orders, broker.positions, broker.funds):
            with pytest.raises(BrokerUnavailable):
                await question()
        clock.advance(3.1)
        assert await broker.orders() == []


async def test_in_a_halt_orders_are_taken_and_nothing_is_traded(start: Start, clock: HandClock) -> None:
    async with start() as (server, broker):
        await control(server, **spell("halt", 8, symbol=INFY))
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        assert await held(broker) == 0
        clock.advance(8.1)
        server.show(tick("1541"))
        assert await held(broker) == 50


async def test_positions_may_be_those_of_a_while_ago(start: Start, clock: HandClock) -> None:
    async with start() as (server, broker):
        await control(server, **spell("positions_lag", 60, lag_s=5))
        clock.advance(10)
        await broker.submit(order(), open_gate)
        server.show(tick("1540"))
        clock.advance(4.9)
        assert await held(broker) == 0
        clock.advance(0.2)
        assert await held(broker) == 50


async def test_the_venue_says_which_mischief_has_not_happened_yet(start: Start) -> None:
    never = Mischief(kind=Kind.BUSY, slot="X")
    async with start(Mischief(kind=Kind.NEWS_LOST), never) as (server, broker):
        assert (await control(server))["unused"] == {"news_lost": 1, "busy": 1}
        await broker.submit(order(), open_gate)
        assert (await control(server))["unused"] == {"busy": 1}
