"""What every broker promises the engine. A new adapter is finished when it passes this file unchanged."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest

from squareoff.adapters.brokers.paper.book import PaperBook
from squareoff.adapters.brokers.paper.client import PaperBroker
from squareoff.adapters.brokers.paper.in_process import InProcessPaperBroker
from squareoff.adapters.brokers.paper.server import PaperServer
from squareoff.adapters.clock import SystemClock
from squareoff.core.types import (
    AccountId,
    ClientOrderId,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    Position,
    Product,
    Side,
    Symbol,
    Tick,
)
from squareoff.errors import BrokerUnavailable, GateClosed, NeverSent, OrderRefused
from squareoff.ports import Broker, Funds, Idempotency

INFY, TCS = Symbol("NSE:INFY"), Symbol("NSE:TCS")
ACCOUNT = AccountId("paper")
ENTRY, EXIT = ClientOrderId("SQABCDEFGHIJE01"), ClientOrderId("SQABCDEFGHIJX01")


class CountedBroker(Broker, Funds, Protocol):
    """A broker that can be asked for the account's money too."""


@dataclass(frozen=True, kw_only=True)
class Venue:
    broker: CountedBroker
    tick: Callable[[Symbol, str], Awaitable[None]]
    """A price is traded; done when the venue has matched it."""


def order(client_order_id: ClientOrderId = ENTRY, qty: str = "50", **changes: object) -> Order:
    facts: dict[str, object] = {"symbol": INFY, "side": Side.BUY, "product": Product.MIS, **changes}
    return Order(client_order_id=client_order_id, account=ACCOUNT, qty=Decimal(qty), **facts)  # type: ignore[arg-type]


def open_gate() -> None:
    """Nothing speaks against sending."""


@asynccontextmanager
async def in_process(idempotency: Idempotency, folder: Path) -> AsyncIterator[Venue]:
    clock = SystemClock()
    broker = InProcessPaperBroker(PaperBook(idempotency=idempotency), clock)

    async def tick(symbol: Symbol, price: str) -> None:
        broker.on_tick(Tick(symbol, Decimal(price), clock.now()))

    yield Venue(broker=broker, tick=tick)
    await broker.close()


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Venue]:
    broker = PaperBroker(url)
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer paper"}) as session:

        async def tick(symbol: Symbol, price: str) -> None:
            body = {"ticks": [{"symbol": symbol, "price": price}]}
            async with session.post(f"{url}/control", json=body) as response:
                assert response.status == 200, await response.text()

        yield Venue(broker=broker, tick=tick)
    await broker.close()


@asynccontextmanager
async def server(idempotency: Idempotency, folder: Path) -> AsyncIterator[Venue]:
    server = PaperServer(data=folder, clock=SystemClock(), idempotency=idempotency)
    await server.start()
    async with client_of(server.url) as venue:
        yield venue
    await server.stop()


@asynccontextmanager
async def process(idempotency: Idempotency, folder: Path) -> AsyncIterator[Venue]:
    module = ("-m", "squareoff.adapters.brokers.paper")
    arguments = ("--data", str(folder), "--idempotency", str(idempotency))
    child = await asyncio.create_subprocess_exec(sys.executable, *module, *arguments, stdout=asyncio.subprocess.PIPE)
    assert child.stdout is not None
    about = json.loads(await asyncio.wait_for(child.stdout.readline(), 30))
    async with client_of(about["url"]) as venue:
        yield venue
    child.terminate()
    await child.communicate()
    assert child.returncode == 0


PLACES = {"in_process": in_process, "server": server, "process": process}
PARAMS = ["in_process", "server", pytest.param("process", marks=pytest.mark.processes)]


@pytest.fixture(params=PARAMS)
async def venues(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Venue]]]:
    async with AsyncExitStack() as stack:

        async def open_venue(idempotency: Idempotency = Idempotency.NONE) -> Venue:
            return await stack.enter_async_context(PLACES[request.param](idempotency, tmp_path))

        yield open_venue


@pytest.fixture
async def venue(venues: Callable[..., Awaitable[Venue]]) -> Venue:
    return await venues()


async def first(updates: AsyncIterator[OrderReport], wanted: Callable[[OrderReport], bool]) -> OrderReport:
    async with asyncio.timeout(10):
        async for report in updates:
            if wanted(report):
                return report
    raise AssertionError("the updates ended")


async def test_an_accepted_order_is_received_and_not_yet_filled(venue: Venue) -> None:
    await venue.tick(INFY, "1540")
    report = await venue.broker.submit(order(), open_gate)
    assert (report.client_order_id, report.status, report.filled_qty) == (ENTRY, OrderStatus.OPEN, Decimal(0))
    assert await venue.broker.find(ENTRY) == report
    assert await venue.broker.orders() == [report]
    assert await venue.broker.positions() == []


async def test_a_market_order_fills_at_the_first_price_that_comes_after_it(venue: Venue) -> None:
    await venue.tick(INFY, "1540.00")
    await venue.broker.submit(order(), open_gate)
    await venue.tick(TCS, "3300")
    await venue.tick(INFY, "1541.05")
    await venue.tick(INFY, "1542.00")
    report = await venue.broker.find(ENTRY)
    assert report is not None
    assert report.status is OrderStatus.FILLED
    assert [(fill.qty, fill.price) for fill in report.fills] == [(Decimal(50), Decimal("1541.05"))]
    assert await venue.broker.positions() == [Position(symbol=INFY, product=Product.MIS, net_qty=Decimal(50))]


async def test_when_the_last_check_says_no_nothing_reaches_the_broker(venue: Venue) -> None:
    def shut() -> None:
        raise GateClosed("the user asked to stop")

    with pytest.raises(GateClosed, match="asked to stop"):
        await venue.broker.submit(order(), shut)
    assert await venue.broker.find(ENTRY) is None
    assert await venue.broker.orders() == []


async def test_an_order_the_broker_has_not_seen_is_none_and_no_error(venue: Venue) -> None:
    assert await venue.broker.find(ENTRY) is None


async def test_a_refused_order_is_not_live(venue: Venue) -> None:
    with pytest.raises(OrderRefused) as refusal:
        await venue.broker.submit(order(qty="0"), open_gate)
    assert (refusal.value.client_order_id, refusal.value.permanent, refusal.value.token) == (ENTRY, True, False)
    await venue.tick(INFY, "1540")
    assert await venue.broker.find(ENTRY) is None
    assert await venue.broker.positions() == []


async def test_a_limit_order_waits_for_its_price(venue: Venue) -> None:
    limit = order(order_type=OrderType.LIMIT, limit_price=Decimal("1540.00"))
    await venue.broker.submit(limit, open_gate)
    await venue.tick(INFY, "1540.05")
    waiting = await venue.broker.find(ENTRY)
    assert waiting is not None
    assert waiting.status is OrderStatus.OPEN
    await venue.tick(INFY, "1539.90")
    filled = await venue.broker.find(ENTRY)
    assert filled is not None
    assert filled.status is OrderStatus.FILLED
    assert filled.fills[0].price <= Decimal("1540.00")


async def test_a_cancelled_order_never_fills(venue: Venue) -> None:
    await venue.broker.submit(order(), open_gate)
    await venue.broker.cancel(ENTRY)
    await venue.tick(INFY, "1540")
    report = await venue.broker.find(ENTRY)
    assert report is not None
    assert (report.status, report.fills) == (OrderStatus.CANCELLED, ())


async def test_a_cancel_that_comes_too_late_changes_nothing_and_is_no_error(venue: Venue) -> None:
    await venue.broker.submit(order(), open_gate)
    await venue.tick(INFY, "1540")
    filled = await venue.broker.find(ENTRY)
    await venue.broker.cancel(ENTRY)
    await venue.broker.cancel(ClientOrderId("SQNEVERSEENXXE1"))
    assert await venue.broker.find(ENTRY) == filled


async def test_bought_and_sold_again_is_flat_and_the_other_product_is_its_own_position(venue: Venue) -> None:
    await venue.broker.submit(order(), open_gate)
    await venue.broker.submit(order(ClientOrderId("SQOTHERPRODCE01"), product=Product.CNC, qty="7"), open_gate)
    await venue.tick(INFY, "1540")
    await venue.broker.submit(order(EXIT, side=Side.SELL), open_gate)
    await venue.tick(INFY, "1550")
    assert await venue.broker.positions() == [Position(symbol=INFY, product=Product.CNC, net_qty=Decimal(7))]


async def test_a_sale_of_more_than_is_held_shows_as_a_short_position(venue: Venue) -> None:
    await venue.broker.submit(order(EXIT, side=Side.SELL, qty="10"), open_gate)
    await venue.tick(INFY, "1540")
    assert await venue.broker.positions() == [Position(symbol=INFY, product=Product.MIS, net_qty=Decimal(-10))]


async def test_prices_and_quantities_come_back_as_exactly_as_they_were_traded(venue: Venue) -> None:
    await venue.broker.submit(order(qty="0.123456789012345678"), open_gate)
    await venue.tick(INFY, "1540.123456789012345678")
    report = await venue.broker.find(ENTRY)
    assert report is not None
    assert report.fills[0].qty == Decimal("0.123456789012345678")
    assert report.fills[0].price == Decimal("1540.123456789012345678")
    assert report.fills[0].at.utcoffset() is not None


async def test_the_broker_pushes_the_fill_without_being_asked(venue: Venue) -> None:
    updates = venue.broker.updates()
    await venue.broker.submit(order(), open_gate)
    opened = await first(updates, lambda report: report.client_order_id == ENTRY)
    assert opened.status is OrderStatus.OPEN
    await venue.tick(INFY, "1540")
    told = await first(updates, lambda report: report.status is OrderStatus.FILLED)
    assert told == await venue.broker.find(ENTRY)
    await venue.broker.close()


async def test_the_news_ends_with_the_connection(venue: Venue) -> None:
    updates = venue.broker.updates()
    await venue.broker.submit(order(), open_gate)
    await first(updates, lambda report: True)
    await venue.broker.close()
    async with asyncio.timeout(10):
        assert [report async for report in updates] == []


async def test_a_venue_that_enforces_ids_answers_a_second_send_with_the_first_order(
    venues: Callable[..., Awaitable[Venue]],
) -> None:
    venue = await venues(Idempotency.ENFORCED)
    await venue.broker.submit(order(), open_gate)
    await venue.tick(INFY, "1540")
    again = await venue.broker.submit(order(), open_gate)
    await venue.tick(INFY, "1540")
    assert again.status is OrderStatus.FILLED
    assert await venue.broker.orders() == [again]


async def test_a_venue_that_enforces_ids_among_open_orders_buys_again_once_the_first_is_filled(
    venues: Callable[..., Awaitable[Venue]],
) -> None:
    venue = await venues(Idempotency.ENFORCED_AMONG_OPEN)
    await venue.broker.submit(order(), open_gate)
    await venue.broker.submit(order(), open_gate)
    assert len(await venue.broker.orders()) == 1
    await venue.tick(INFY, "1540")
    await venue.broker.submit(order(), open_gate)
    assert len(await venue.broker.orders()) == 2


async def test_a_venue_without_ids_makes_a_second_live_order_and_tells_both_as_one(venue: Venue) -> None:
    await venue.broker.submit(order(), open_gate)
    await venue.broker.submit(order(), open_gate)
    await venue.tick(INFY, "1540")
    report = await venue.broker.find(ENTRY)
    assert report is not None
    assert (report.qty, report.filled_qty, report.status) == (Decimal(100), Decimal(100), OrderStatus.FILLED)
    assert len(await venue.broker.orders()) == 2
    assert await venue.broker.positions() == [Position(symbol=INFY, product=Product.MIS, net_qty=Decimal(100))]


async def test_a_venue_that_does_not_count_money_says_that_it_does_not_know(venue: Venue) -> None:
    assert await venue.broker.funds() is None


async def test_the_broker_tells_its_own_time(venue: Venue) -> None:
    told = await venue.broker.server_time()
    assert told is not None
    assert told.utcoffset() == timedelta(0)
    assert abs(SystemClock().now() - told) < timedelta(seconds=60)


async def test_a_closed_broker_sends_nothing_and_answers_nothing(venue: Venue) -> None:
    await venue.broker.close()
    with pytest.raises(NeverSent):
        await venue.broker.submit(order(), open_gate)
    for question in (venue.broker.find(ENTRY), venue.broker.cancel(ENTRY)):
        with pytest.raises(BrokerUnavailable):
            await question
    with pytest.raises(BrokerUnavailable):
        await venue.broker.funds()
    with pytest.raises(BrokerUnavailable):
        await venue.broker.server_time()
    for every in (venue.broker.orders(), venue.broker.positions()):
        with pytest.raises(BrokerUnavailable):
            await every
