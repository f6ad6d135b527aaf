"""A proxy between the worker and the broker, for what only a network does: it delays, cuts, tears and swallows.

It reads one HTTP request and one answer at a time, as our client sends them, and hands a WebSocket through as it is.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Does(StrEnum):
    CUT_BEFORE = "cut_before"
    """The connection ends, and the broker never sees the request."""
    SWALLOW = "swallow"
    """The broker gets it and answers; the answer never comes, and the connection stays open."""
    CUT_AFTER = "cut_after"
    """The broker gets it; the connection is reset before the answer."""
    HALF_CLOSE = "half_close"
    """The broker gets it; then this side says that it will send nothing more, and sends nothing."""
    TORN = "torn"
    """Half of the answer, then the end."""
    DRIP = "drip"
    """The answer comes byte by byte over `seconds`."""
    DELAY_REQUEST = "delay_request"
    """The broker gets it after `seconds`, whoever still waits."""
    DELAY_ANSWER = "delay_answer"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is done to requests of this kind, from now on, so many times. Seconds are real ones."""

    does: Does
    method: str = "POST"
    path: str = "/orders"
    """How the request's path begins."""
    slot: str = ""
    """E or X: of orders of that slot only, by the order id in the body or at the end of the path."""
    times: int = 1
    seconds: float = 0.0

    def matches(self, method: str, path: str, body: bytes) -> bool:
        if method != self.method or not path.startswith(self.path):
            return False
        return not self.slot or _slot_of(path, body) == self.slot


class Proxy:
    """Listens on loopback, in a thread of its own. Its methods may be called from any other."""

    def __init__(self, port: int, rules: Sequence[Rule] = ()) -> None:
        """`port`: the broker's."""
        self._to, self._rules = port, list(rules)
        self.used: Counter[Rule] = Counter()
        self._connections: set[asyncio.StreamWriter] = set()
        self._silent = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = 0
        self._server = self._run(self._listen())
        self.port = self._server.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def unused(self) -> list[Rule]:
        return [rule for rule in self._rules if not self.used[rule]]

    def add(self, rule: Rule) -> None:
        self._loop.call_soon_threadsafe(self._rules.append, rule)

    def refuse(self, seconds: float) -> None:
        """Every connection is reset, and for so long no new one can be made."""
        self._run(self._refuse(seconds))

    def be_silent(self, is_so: bool) -> None:
        """The streams stay open, and nothing comes on them."""
        self._silent = is_so

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # ------------------------------------------------------------------ in its own thread

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _refuse(self, seconds: float) -> None:
        self._server.close()
        for connection in tuple(self._connections):
            _reset(connection)

        async def listen_again() -> None:
            await asyncio.sleep(seconds)
            self._server = await self._listen()

        self._again = asyncio.ensure_future(listen_again())

    async def _close(self) -> None:
        self._server.close()
        for connection in tuple(self._connections):
            connection.transport.abort()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        theirs: asyncio.StreamWriter | None = None
        try:
            answers, theirs = await asyncio.open_connection("127.0.0.1", self._to)
            self._connections.add(theirs)
            while (request := await _message(reader)) is not None:
                if not await self._exchange(request, answers, theirs, writer):
                    break
                if b"upgrade: websocket" in request[0].lower():
                    await self._tunnel(reader, writer, answers, theirs)
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for each in (writer, theirs):
                if each is not None:
                    self._connections.discard(each)
                    with suppress(Exception):
                        each.close()

    async def _exchange(
        self,
        request: tuple[bytes, bytes],
        answers: asyncio.StreamReader,
        theirs: asyncio.StreamWriter,
        ours: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer. False: this connection is over."""
        rule = self._rule_for(*request)
        does = None if rule is None else rule.does
        seconds = 0.0 if rule is None else rule.seconds
        if does is Does.CUT_BEFORE:
            _reset(ours)
            return False
        if does is Does.DELAY_REQUEST:
            await asyncio.sleep(seconds)
        theirs.write(b"".join(request))
        answer = await _message(answers)
        if answer is None:
            return False
        whole = b"".join(answer)
        match does:
            case Does.SWALLOW:
                await asyncio.sleep(3600)
            case Does.CUT_AFTER:
                _reset(ours)
                return False
            case Does.HALF_CLOSE:
                ours.write_eof()
                await asyncio.sleep(3600)
            case Does.TORN:
                ours.write(whole[: len(whole) - len(answer[1]) // 2])
                await ours.drain()
                return False
            case Does.DRIP:
                for at in range(len(whole)):
                    ours.write(whole[at : at + 1])
                    await asyncio.sleep(seconds / len(whole))
                return True
            case Does.DELAY_ANSWER:
                await asyncio.sleep(seconds)
        ours.write(whole)
        await ours.drain()
        return True

    def _rule_for(self, head: bytes, body: bytes) -> Rule | None:
        method, path, *_ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        for rule in self._rules:
            if self.used[rule] < rule.times and rule.matches(method, path, body):
                self.used[rule] += 1
                return rule
        return None

    async def _tunnel(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        theirs: asyncio.StreamWriter,
    ) -> None:
        async def pass_on(source: asyncio.StreamReader, to: asyncio.StreamWriter, is_mute: Callable[[], bool]) -> None:
            while data := await source.read(65536):
                if not is_mute():
                    to.write(data)
                    await to.drain()

        both = [
            asyncio.ensure_future(pass_on(reader, theirs, lambda: False)),
            asyncio.ensure_future(pass_on(answers, writer, lambda: self._silent)),
        ]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """Head and body of one request or answer; None at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    return head, await reader.readexactly(length)


def _slot_of(path: str, body: bytes) -> str:
    """The letter of the slot in the order id: of 15 letters, the thirteenth."""
    at = body.find(b'"client_order_id":"SQ')
    name = body[at + 19 : at + 34].decode() if at >= 0 else path.rpartition("/")[2]
    return name[12:13]


def _reset(writer: asyncio.StreamWriter) -> None:
    """RST, not FIN: the other side cannot take it for an end in order."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
