"""Prices of the paper broker's server: ticks as they happen, and quotes when asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec

from squareoff.adapters.brokers.wire import HttpClient, NoAnswer, NotConnected
from squareoff.adapters.paper_wire import STREAM_PATH, Subscription, TickMessage, decode_frame, decode_quotes, encode
from squareoff.core.types import Symbol, Tick
from squareoff.errors import BrokerUnavailable

_CONNECT_S = 3.0
_HEARTBEAT_S = 5.0
"""A stream from which not even a pong comes for this long has ended."""
_ANSWER_S = 2.0
"""A quote that takes longer is not worth waiting for: the next may be quicker."""


class PaperFeed:
    """`ports.MarketFeed` of the server at `url`. Each call makes a connection of its own and ends with it."""

    def __init__(self, url: str, *, token: str = "paper") -> None:
        self._url = f"ws://{urlsplit(url).netloc}{STREAM_PATH}"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def ticks(self, symbols: Sequence[Symbol]) -> AsyncIterator[Tick]:
        """All ticks of `symbols` from now on. Raises BrokerUnavailable if no connection can be made, or if what
        comes cannot be read."""
        async with self._connection(symbols) as socket:
            async for frame in socket:
                for tick in _ticks(frame):
                    yield tick

    async def run(
        self,
        symbols: Sequence[Symbol],
        on_tick: Callable[[Tick], None],
        *,
        on_frame: Callable[[], None] | None = None,
    ) -> None:
        """As `ticks`, but calls `on_tick` for each, at no cost of tasks; returns when the connection ends.

        `on_frame` is called first for every frame: once when the subscription stands, then at least every
        `paper_wire.HEARTBEAT_S`, ticks or not. It says that the source is alive and every quiet price still holds.
        """
        async with self._connection(symbols) as socket:
            async for frame in socket:
                if on_frame is not None:
                    on_frame()
                for tick in _ticks(frame):
                    on_tick(tick)

    @asynccontextmanager
    async def _connection(self, symbols: Sequence[Symbol]) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with aiohttp.ClientSession(headers=self._headers) as session:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    socket = await session.ws_connect(self._url, heartbeat=_HEARTBEAT_S, max_msg_size=0)
                    await socket.send_str(encode(Subscription(ticks=tuple(symbols))).decode())
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise BrokerUnavailable(f"no stream of prices: {error}") from error
            async with socket:
                yield socket


class PaperQuotes:
    """`ports.Quotes` of the server at `url`, over a connection that is kept."""

    def __init__(self, url: str, *, token: str = "paper", timeout_s: float = _ANSWER_S) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ValueError(f"expected http://host:port, not {url!r}")
        headers = {"Authorization": f"Bearer {token}"}
        self._http = HttpClient(parts.hostname, parts.port, headers=headers, timeout_s=timeout_s)

    async def quotes(self, symbols: Sequence[Symbol]) -> Sequence[Tick]:
        try:
            response = await self._http.request("GET", f"/quotes?{urlencode([('symbol', each) for each in symbols])}")
        except (NotConnected, NoAnswer) as error:
            raise BrokerUnavailable(f"no quotes: {error}") from error
        if response.status != 200:
            raise BrokerUnavailable(f"no quotes: the broker answered {response.status}")
        try:
            return [Tick(each.symbol, each.price, each.at) for each in decode_quotes(response.body)]
        except msgspec.DecodeError as error:
            raise BrokerUnavailable(f"the quotes cannot be read: {error}") from error

    async def close(self) -> None:
        await self._http.close()


def _ticks(frame: aiohttp.WSMessage) -> list[Tick]:
    if frame.type is not aiohttp.WSMsgType.TEXT:
        return []
    try:
        messages = decode_frame(frame.data)
    except msgspec.DecodeError as error:
        raise BrokerUnavailable(f"the prices cannot be read: {error}") from error
    return [Tick(each.symbol, each.price, each.at) for each in messages if isinstance(each, TickMessage)]
