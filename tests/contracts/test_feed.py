"""What every MarketFeed and every Quotes promises: those in memory and the paper broker's over the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from squareoff.adapters.brokers.paper.server import PaperServer
from squareoff.adapters.clock import SystemClock
from squareoff.adapters.feeds.paper import PaperFeed, PaperQuotes
from squareoff.adapters.memory.feed import MemoryFeed
from squareoff.core.types import Symbol, Tick
from squareoff.errors import BrokerUnavailable
from squareoff.ports import MarketFeed, Quotes

INFY, TCS = Symbol("NSE:INFY"), Symbol("NSE:TCS")


def a_tick(symbol: Symbol, price: str) -> Tick:
    return Tick(symbol, Decimal(price), datetime(2026, 11, 20, 4, 0, tzinfo=UTC))


@dataclass
class Source:
    feed: MarketFeed
    push: Callable[[Tick], None]
    is_read: Callable[[], bool]
    end: Callable[[], Awaitable[None]]


@pytest.fixture(params=["memory", "paper broker"])
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Source]:
    if request.param == "memory":
        feed = MemoryFeed()

        async def end() -> None:
            feed.end()

        yield Source(feed, feed.push, lambda: bool(feed.symbols), end)
        return
    server = PaperServer(data=tmp_path, clock=SystemClock())
    await server.start()
    paper = _Telling(PaperFeed(server.url))
    try:
        yield Source(paper, server.show, lambda: paper.is_subscribed, server.stop)
    finally:
        await server.stop()


class _Telling:
    """The paper broker's feed, telling when the subscription stands."""

    def __init__(self, feed: PaperFeed) -> None:
        self._feed, self.is_subscribed = feed, False

    async def run(
        self, symbols: Sequence[Symbol], on_tick: Callable[[Tick], None], *, on_frame: Callable[[], None] | None = None
    ) -> None:
        def tell() -> None:
            self.is_subscribed = True
            if on_frame is not None:
                on_frame()

        await self._feed.run(symbols, on_tick, on_frame=tell)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - it looks at another process's doings
            await asyncio.sleep(0.005)


async def test_a_feed_tells_every_tick_of_its_symbols_in_order_and_no_other(source: Source) -> None:
    seen: list[Tick] = []
    reading = asyncio.create_task(source.feed.run([INFY], seen.append))
    await until(source.is_read)
    told = [a_tick(INFY, "1560.05"), a_tick(INFY, "1560.00"), a_tick(INFY, "1560.00")]
    for tick in (told[0], a_tick(TCS, "3480"), *told[1:]):
        source.push(tick)
    await until(lambda: len(seen) == 3)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert seen == told


async def test_reading_returns_when_the_source_ends(source: Source) -> None:
    reading = asyncio.create_task(source.feed.run([INFY], lambda tick: None))
    await until(source.is_read)
    await source.end()
    async with asyncio.timeout(10):
        await reading


async def test_a_sign_of_life_comes_before_every_tick(source: Source) -> None:
    told: list[str] = []
    reading = asyncio.create_task(
        source.feed.run([INFY], lambda tick: told.append("tick"), on_frame=lambda: told.append("life"))
    )
    await until(source.is_read)
    source.push(a_tick(INFY, "1560.05"))
    await until(lambda: "tick" in told)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    assert told[told.index("tick") - 1] == "life"


# -- quotes


@dataclass
class Asked:
    quotes: Quotes
    trade: Callable[[Tick], None]
    end: Callable[[], Awaitable[None]]


@pytest.fixture(params=["memory", "paper broker"])
async def asked(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Asked]:
    if request.param == "memory":
        feed = MemoryFeed()

        async def end() -> None:
            feed.is_up = False

        yield Asked(feed, feed.push, end)
        return
    server = PaperServer(data=tmp_path, clock=SystemClock())
    await server.start()
    quotes = PaperQuotes(server.url)
    try:
        yield Asked(quotes, server.show, server.stop)
    finally:
        await quotes.close()
        await server.stop()


async def test_a_quote_is_the_last_trade_with_its_instant(asked: Asked) -> None:
    asked.trade(a_tick(INFY, "1560.05"))
    asked.trade(a_tick(TCS, "3480"))
    last = Tick(INFY, Decimal("1559.95"), datetime(2026, 11, 20, 4, 0, 1, 5, tzinfo=UTC))
    asked.trade(last)
    assert await asked.quotes.quotes([INFY]) == [last]
    assert set(await asked.quotes.quotes([TCS, INFY])) == {last, a_tick(TCS, "3480")}


async def test_what_was_never_traded_has_no_quote(asked: Asked) -> None:
    assert list(await asked.quotes.quotes([INFY, Symbol("BSE:M&M, = ?")])) == []


async def test_quotes_that_cannot_be_had_are_never_an_empty_answer(asked: Asked) -> None:
    await asked.end()
    with pytest.raises(BrokerUnavailable):
        await asked.quotes.quotes([INFY])
