"""The server's WebSocket side: who listens to what, and one frame for all that waits."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from aiohttp import WSCloseCode, WSMsgType, web

from squareoff.adapters.paper_wire import (
    HEARTBEAT_S,
    OrderMessage,
    Subscription,
    TickMessage,
    decode_subscription,
    encode,
)
from squareoff.core.types import AccountId, OrderReport, Symbol, Tick

_TOO_MANY = 100_000
"""Messages that may wait for one listener. One that is slower is cut off, so that it knows it missed some."""


class _Listener:
    def __init__(self, account: AccountId, wants: Subscription, socket: web.WebSocketResponse) -> None:
        self.account = account
        self.wants = wants
        self._socket = socket
        self._waiting: list[bytes] = []
        self._news = asyncio.Event()

    def put(self, message: bytes) -> None:
        self._waiting.append(message)
        self._news.set()

    async def pump(self) -> None:
        """Send all that waits as one frame, and an empty one when nothing came for a while."""
        while len(self._waiting) < _TOO_MANY:
            batch, self._waiting = self._waiting, []
            self._news.clear()
            await self._socket.send_str("[" + b",".join(batch).decode() + "]")
            if not self._waiting:
                await self._wait_for_news()
        await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too slow", drain=False)

    async def _wait_for_news(self) -> None:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._news.wait()
        except TimeoutError:
            pass  # the next frame is the heartbeat


class Streams:
    """All listeners of the server."""

    def __init__(self) -> None:
        self._by_symbol: dict[Symbol, list[_Listener]] = defaultdict(list)
        self._of_orders: dict[AccountId, list[_Listener]] = defaultdict(list)
        self._sockets: set[web.WebSocketResponse] = set()

    def tell_tick(self, tick: Tick) -> None:
        if listeners := self._by_symbol.get(tick.symbol):
            message = encode(TickMessage(symbol=tick.symbol, price=tick.price, at=tick.at))
            for listener in listeners:
                listener.put(message)

    def tell_order(self, account: AccountId, report: OrderReport) -> None:
        if listeners := self._of_orders.get(account):
            message = encode(OrderMessage(report=report))
            for listener in listeners:
                listener.put(message)

    async def serve(
        self, request: web.Request, account: AccountId, orders_now: Callable[[], list[OrderReport]]
    ) -> web.WebSocketResponse:
        """One connection from its upgrade to its end. Where orders are asked for, what `orders_now` returns is sent
        first, so that nothing is missed between two connections."""
        socket = web.WebSocketResponse(heartbeat=10.0)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            first = await socket.receive()
            if first.type is WSMsgType.TEXT:
                await self._serve_listener(_Listener(account, decode_subscription(first.data), socket), orders_now)
        finally:
            self._sockets.discard(socket)
        return socket

    async def drop_all(self) -> None:
        for socket in tuple(self._sockets):
            await socket.close(code=WSCloseCode.GOING_AWAY, message=b"the server ends this stream")

    async def _serve_listener(self, listener: _Listener, orders_now: Callable[[], list[OrderReport]]) -> None:
        if listener.wants.orders:
            for report in orders_now():
                listener.put(encode(OrderMessage(report=report)))
        self._add(listener)
        pump = asyncio.ensure_future(listener.pump())
        try:
            async for _ in listener._socket:
                pass  # nothing more is expected; reading answers pings and sees the end
        finally:
            self._remove(listener)
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)

    def _add(self, listener: _Listener) -> None:
        for symbol in listener.wants.ticks:
            self._by_symbol[symbol].append(listener)
        if listener.wants.orders:
            self._of_orders[listener.account].append(listener)

    def _remove(self, listener: _Listener) -> None:
        for symbol in listener.wants.ticks:
            self._by_symbol[symbol].remove(listener)
        if listener.wants.orders:
            self._of_orders[listener.account].remove(listener)
