"""One connection to Redis on which a command is sent at most once.

redis-py's clients send again by themselves (ten times, by default) when a connection ends before the answer. So its
`Connection` only makes and checks the connection, with all that a URL may ask for. Then the socket is ours: a claim is
on the way of every stop-loss, and redis-py's own reading and writing cost it half as much again as Redis itself. What
has no clear answer is StoreUnavailable; the next call connects again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from hiredis import HiredisError, Reader, pack_command
from redis.asyncio import Connection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from squareoff.adapters.redis.server import check_server
from squareoff.core.runtime_view import TIMER_MEANING
from squareoff.errors import StoreUnavailable

SCRIPT_VERSION: Final = "1"
"""Raise it with every change of what the scripts store. An epoch of another version is not ours: it is rebuilt."""

SCRIPTS: Final = (
    "arm",
    "claim",
    "settle",
    "release",
    "archive",
    "rebuild_begin",
    "rebuild_delete",
    "rebuild_write",
    "rebuild_end",
)


@cache
def script_text(name: str) -> str:
    folder = files("squareoff.adapters.redis") / "scripts"
    timers = ", ".join(f"'{timer}'" for timer in TIMER_MEANING)
    constants = f"local SCRIPT_VERSION = '{SCRIPT_VERSION}'\nlocal TIMERS = {{{timers}}}\n"
    common = (folder / "_common.lua").read_text(encoding="utf-8")
    return "#!lua\n" + constants + common + (folder / f"{name}.lua").read_text(encoding="utf-8")


@cache
def script_hash(name: str) -> str:
    return hashlib.sha1(script_text(name).encode(), usedforsecurity=False).hexdigest()


class NotOurRedis(Exception):
    """A script ended with an error that a Redis as we left it cannot give: a key of another type, a replica."""


# Answers that say "nothing was done, ask again later", by the first word Redis gives them. Any other error of a
# script means that it met something we never wrote.
_LATER: Final = frozenset({"OOM", "MISCONF", "NOREPLICAS", "LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOPERM"})


class Line:
    """A checked connection, made when first needed and again after anything unclear.

    Calls made together go out together and are answered in their order: a burst is one round trip, not many."""

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            decode_responses=True,
            protocol=2,
            driver_info=None,
            client_name="squareoff",
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            health_check_interval=0,
            socket_connect_timeout=timeout_s,
            socket_timeout=None,  # one deadline below covers waiting, sending and reading
        )
        self._timeout_s = timeout_s
        self._connecting = asyncio.Lock()
        self._wire: _Wire | None = None
        self.server_run_id = ""
        """Of the server process behind the present connection; it cannot change while the connection lives."""

    async def script(self, name: str, keys: Sequence[str], args: Sequence[str | int], *, server: str) -> str:
        """Run one script once, on the server process `server` and no other.

        Raises StoreUnavailable (it may have been carried out) or NotOurRedis (nothing to believe there)."""
        evaluate = ("EVALSHA", script_hash(name), len(keys), *keys, *args)
        try:
            try:
                return str(await self.call(*evaluate, server=server))
            except NoScriptError:  # SCRIPT FLUSH: proven not carried out
                await self.call("SCRIPT", "LOAD", script_text(name), server=server)
                return str(await self.call(*evaluate, server=server))
        except ResponseError as error:
            raise _meaning(error) from error

    async def call(self, *command: str | int, server: str | None = None) -> Any:
        """Send one command once and return its answer.

        Raises StoreUnavailable; NotOurRedis, unsent, if `server` is no longer there; or redis-py's ResponseError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                wire = await self._connected()
                if server is not None and server != self.server_run_id:
                    raise NotOurRedis("the server process is another one")
                return await self._ask(wire, *command)
        except TimeoutError as error:
            raise self._too_late() from error

    async def connected(self) -> str:
        """The run id of the server we are connected to, connecting if need be. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connected()
                return self.server_run_id
        except TimeoutError as error:
            raise self._too_late() from error

    async def info(self, *sections: str) -> dict[str, str]:
        return _parse_info(await self.call("INFO", *sections))

    async def close(self) -> None:
        if self._wire is not None:
            await self._give_up(self._wire)

    async def _connected(self) -> _Wire:
        if self._wire is not None and not self._wire.is_lost:
            return self._wire
        async with self._connecting:
            if self._wire is not None and self._wire.is_lost:
                await self._give_up(self._wire)
            if self._wire is None:
                self._wire = await self._connect()
            return self._wire

    async def _connect(self) -> _Wire:
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            info = _parse_info(await _exchange(connection, "INFO"))
            check_server(info)
            for name in SCRIPTS:
                await _exchange(connection, "SCRIPT", "LOAD", script_text(name))
            wire = _Wire(connection)
        except BaseException as error:
            await connection.disconnect(nowait=True)
            if isinstance(error, StoreUnavailable) or not isinstance(error, Exception):
                raise
            raise StoreUnavailable(f"Redis cannot be used: {error}") from error
        self.server_run_id = info["run_id"]
        return wire

    async def _ask(self, wire: _Wire, *command: str | int) -> Any:
        """The only place that writes."""
        try:
            return await wire.ask(pack_command(command))  # type: ignore[arg-type]
        except ResponseError:
            raise
        except BaseException as error:
            await self._give_up(wire)
            if isinstance(error, Exception):  # whatever it was: the command may have been carried out
                raise StoreUnavailable(f"Redis gave no answer: {error}") from error
            raise

    async def _give_up(self, wire: _Wire) -> None:
        """After anything but a whole answer, a cancelled call included: then all that wait go without one."""
        if self._wire is wire:
            self._wire = None
        wire.end("the connection was given up")
        await wire.connection.disconnect(nowait=True)

    def _too_late(self) -> StoreUnavailable:
        return StoreUnavailable(f"Redis did not answer within {self._timeout_s:g} s")


class _Wire(asyncio.Protocol):
    """A connection taken over from redis-py. Answers come in the order of the commands, and so are they given out."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.is_lost = False
        self._reader = Reader(encoding="utf-8", replyError=_reply_error, notEnoughData=_NOTHING)
        self._waiting: deque[asyncio.Future[Any]] = deque()
        writer = connection._writer
        assert writer is not None
        self._transport: asyncio.WriteTransport = writer.transport
        self._transport.set_protocol(self)

    def ask(self, packed: bytes) -> asyncio.Future[Any]:
        """Write one command, now and whole. The answer, or redis-py's error, comes later."""
        if self.is_lost:
            raise RedisConnectionError("the connection was lost")
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._transport.write(packed)
        self._waiting.append(answer)
        return answer

    def end(self, why: str) -> None:
        self.is_lost = True
        while self._waiting:
            if not (answer := self._waiting.popleft()).done():
                answer.set_exception(RedisConnectionError(why))

    # -- asyncio's side
    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                self._answer(reply)
        except (HiredisError, IndexError, UnicodeDecodeError) as error:  # IndexError: nobody has asked for this
            self.end(f"what it says cannot be read: {error}")
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(str(exc) if exc is not None else "the server ended the connection")

    def _answer(self, reply: Any) -> None:
        answer = self._waiting.popleft()
        if answer.done():  # cancelled: its caller is about to give the connection up
            return
        if isinstance(reply, Exception):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)


_NOTHING: Final = object()


def _reply_error(text: str) -> ResponseError:
    return (NoScriptError if text.startswith("NOSCRIPT ") else ResponseError)(text)


async def _exchange(connection: Connection, *command: str | int) -> Any:
    """A question on the way of connecting, while redis-py still reads."""
    await connection.send_packed_command(pack_command(command), check_health=False)  # type: ignore[arg-type]
    return await connection.read_response()


def _meaning(error: ResponseError) -> Exception:
    word = error.status_code or str(error).partition(" ")[0]
    return StoreUnavailable(f"Redis refused: {error}") if word in _LATER else NotOurRedis(str(error))


def _parse_info(reply: str) -> dict[str, str]:
    lines = (line.partition(":") for line in reply.splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in lines if separator}
