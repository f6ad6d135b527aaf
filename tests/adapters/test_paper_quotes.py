"""Prices by request over the wire: one question is one request, and no answer is waited for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from squareoff.adapters.brokers.paper.server import PaperServer
from squareoff.adapters.clock import SystemClock
from squareoff.adapters.feeds.paper import PaperQuotes
from squareoff.core.types import Symbol, Tick
from squareoff.errors import BrokerUnavailable

INFY, BAJAJ = Symbol("NSE:INFY"), Symbol("NSE:BAJAJ-AUTO & Co")
NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


class Answering(asyncio.Protocol):
    """Sends `answer` whenever it is asked; empty: never."""

    def __init__(self, answer: bytes, asked: list[bytes]) -> None:
        self._answer, self._asked = answer, asked

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._asked.append(data)
        self._transport.write(self._answer)


@asynccontextmanager
async def a_broker(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its address, and what it was asked."""
    asked: list[bytes] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(answer, asked), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        server.close()
        await asyncio.sleep(0.01)  # for the client's goodbye


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


async def test_one_call_is_one_request_for_all_symbols() -> None:
    body = b'[{"is":"tick","symbol":"NSE:INFY","price":"1540.05","at":"2026-11-23T04:00:00Z"}]'
    async with a_broker(http("200 OK", body)) as (url, asked):
        quotes = PaperQuotes(url, token="secret")
        assert await quotes.quotes([INFY, BAJAJ]) == [Tick(INFY, Decimal("1540.05"), NOW)]
        (request,) = asked
        assert request.startswith(b"GET /quotes?symbol=NSE%3AINFY&symbol=NSE%3ABAJAJ-AUTO+%26+Co HTTP/1.1\r\n")
        assert b"Authorization: Bearer secret\r\n" in request
        await quotes.close()


@pytest.mark.parametrize(
    "answer",
    [http("503 Busy", b""), http("403 No", b"{}"), http("200 OK", b"[{]"), http("200 OK", b'[{"is":"order"}]'), b""],
    ids=["busy", "token", "torn", "other", "none"],
)
async def test_what_is_no_answer_is_said_once_and_not_asked_again(answer: bytes) -> None:
    async with a_broker(answer) as (url, asked):
        quotes = PaperQuotes(url, timeout_s=0.2)
        async with asyncio.timeout(5):
            with pytest.raises(BrokerUnavailable):
                await quotes.quotes([INFY])
        assert len(asked) == 1
        await quotes.close()


async def test_only_a_trade_makes_a_quote_never_a_tick_that_the_feed_got_wrong(tmp_path: Path) -> None:
    server = PaperServer(data=tmp_path, clock=SystemClock())
    await server.start()
    quotes, nobody = PaperQuotes(server.url), PaperQuotes(server.url, token="wrong")
    server.show(Tick(INFY, Decimal("1540.05"), NOW))
    server.show(Tick(INFY, Decimal("15.40"), NOW), fills=False)
    server.show(Tick(BAJAJ, Decimal("9000"), NOW))
    expected = [Tick(INFY, Decimal("1540.05"), NOW), Tick(BAJAJ, Decimal("9000"), NOW)]
    assert await quotes.quotes([INFY, BAJAJ]) == expected
    with pytest.raises(BrokerUnavailable, match="403"):
        await nobody.quotes([INFY])
    await quotes.close()
    await nobody.close()
    await server.stop()
