"""A lean HTTP/1.1 client that says, of every request, whether a byte of it may have left this machine.

It never retries, never follows a redirect, and never pipelines. The way of a request with a `gate`: a connection
first (which may wait), then `gate()`, then the whole request in one `transport.write`, with no await in between.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import h11

_MAX_IDLE = 16
_MAX_BODY = 32 << 20
_HANDED_ON_S = 0.002
"""After so long the kernel has the bytes of a write."""


class NotConnected(Exception):
    """No connection could be made: certainly nothing was written."""


class NoAnswer(Exception):
    """The request was written, and no complete answer that can be read came back. It may have been carried out."""


@dataclass(frozen=True, slots=True)
class Response:
    """`headers` with names in lower case; of a repeated one, the last."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpClient:
    """Kept-alive connections to one host.

    `headers` go with every request. `timeout_s` is the longest wait for a connection, and again for an answer.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        headers: Mapping[str, str],
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
        on_written: Callable[[], None] | None = None,
    ) -> None:
        """`on_written` is called a moment after an order's bytes were written: for fault points."""
        self._host, self._port, self._tls, self._timeout_s = host, port, tls, timeout_s
        default_port = 443 if tls else 80
        name = host if port == default_port else f"{host}:{port}"
        lines = [f"{key}: {value}" for key, value in {"Host": name, **headers}.items()]
        if any("\r" in line or "\n" in line for line in lines):
            raise ValueError("a header may not hold a line end")
        self._head = "\r\n".join(["", *lines, "Content-Length: "]).encode("latin-1")
        self._on_written = on_written
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._closed = False

    async def warm(self) -> None:
        """Have a connection ready. Raises NotConnected."""
        self._put_back(await self._connection())

    async def request(
        self, method: str, target: str, body: bytes = b"", *, gate: Callable[[], None] | None = None
    ) -> Response:
        """Send one request, once. `target` is a path already quoted.

        Raises:
            NotConnected: nothing was written.
            NoAnswer: written, outcome unknown. Cancelling this call after the write means the same.
            Whatever `gate` raises: nothing was written.
        """
        content = b"%s %s HTTP/1.1%s%d\r\n\r\n%s" % (method.encode(), target.encode(), self._head, len(body), body)
        connection = await self._connection()
        try:
            if gate is not None:
                gate()
        except BaseException:
            self._put_back(connection)
            raise
        self._busy.add(connection)
        if gate is not None and self._on_written is not None:
            # not at once: uvloop hands the bytes on when nothing else is ready
            asyncio.get_running_loop().call_later(_HANDED_ON_S, self._on_written)
        try:
            return await connection.exchange(content, self._timeout_s)
        finally:
            self._busy.discard(connection)
            self._put_back(connection)

    async def close(self) -> None:
        """Ends every connection; a request still waiting gets NoAnswer."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            connection.abort()
        self._idle.clear()

    async def _connection(self) -> _Connection:
        """One that is alive as far as can be seen without writing. One kept too long is found dead here, and then
        a new one is made: nothing was written yet."""
        if self._closed:
            raise NotConnected("this client is closed")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_alive():
                return connection
            connection.abort()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        except (OSError, TimeoutError) as error:
            raise NotConnected(str(error) or "timed out while connecting") from error
        return connection

    def _put_back(self, connection: _Connection) -> None:
        if connection.is_reusable and not self._closed and len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.abort()


_ANY_REQUEST = h11.Request(method="POST", target="/", headers=[("Host", "any")])
"""h11 reads an answer only after it has seen a request. Ours is written by hand, so it gets to see this one; how an
answer is framed would differ only for HEAD and CONNECT, which are never sent."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._h11 = h11.Connection(h11.CLIENT)
        self._waiting: asyncio.Future[Response] | None = None
        self._response: h11.Response | None = None
        self._body: list[bytes] = []
        self._size = 0
        self.is_reusable = True

    async def exchange(self, content: bytes, timeout_s: float) -> Response:
        """Write the whole of `content` now, before anything else can run, and wait for its answer."""
        assert self._transport is not None
        self.is_reusable = False  # until the answer is whole
        try:
            self._transport.write(content)  # first: nothing of ours comes between the gate and the bytes
            waiting = self._expect_answer()
            async with asyncio.timeout(timeout_s):
                return await waiting
        except TimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:g} s") from None
        except (OSError, RuntimeError, h11.LocalProtocolError) as error:  # how much of it left, nobody can say
            raise NoAnswer(str(error)) from error
        finally:
            self._waiting = None

    def is_alive(self) -> bool:
        """False if it is closing, or if something can be read while nothing was asked: an end we have not been told
        of yet, or words that answer nothing."""
        if not self.is_reusable or self._transport is None or self._transport.is_closing():
            return False
        return not self._poll.poll(0)

    def abort(self) -> None:
        self.is_reusable = False
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        raw = transport.get_extra_info("socket")
        if raw.family in (socket.AF_INET, socket.AF_INET6):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._poll.register(raw.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if self._waiting is None or self._waiting.done():
            self.abort()  # nobody asked: whatever this answers, it is not ours
            return
        self._read(data)

    def eof_received(self) -> None:
        self.is_reusable = False
        if self._waiting is not None and not self._waiting.done():
            self._read(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_reusable = False
        self._fail(str(exc) if exc is not None else "the connection ended before the answer did")

    # -- reading
    def _expect_answer(self) -> asyncio.Future[Response]:
        if self._h11.our_state is not h11.IDLE:
            self._h11.start_next_cycle()
        self._h11.send(_ANY_REQUEST)
        self._h11.send(h11.EndOfMessage())
        self._response, self._body, self._size = None, [], 0
        self._waiting = asyncio.get_running_loop().create_future()
        return self._waiting

    def _read(self, data: bytes) -> None:
        try:
            self._h11.receive_data(data)
            self._take_events()
        except h11.RemoteProtocolError as error:
            self._fail(f"not an HTTP answer: {error}")

    def _take_events(self) -> None:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Response):
                self._response = event
            elif isinstance(event, h11.Data):
                self._body.append(bytes(event.data))
                self._size += len(event.data)
                if self._size > _MAX_BODY:
                    self._fail("the answer is too long")
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._is_whole()
                return
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return

    def _is_whole(self) -> None:
        assert self._response is not None
        self.is_reusable = (
            self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE and not self._h11.trailing_data[0]
        )
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._response.headers}
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Response(self._response.status_code, headers, b"".join(self._body)))

    def _fail(self, why: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(NoAnswer(why))
