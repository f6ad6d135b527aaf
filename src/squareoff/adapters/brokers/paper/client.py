"""The paper broker's server, as a broker: what `squareoff.adapters.brokers.paper.server` offers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import NoReturn, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import msgspec

from squareoff.adapters.brokers.wire import HttpClient, NoAnswer, NotConnected, Response
from squareoff.adapters.paper_wire import (
    STREAM_PATH,
    OrderMessage,
    Refusal,
    Subscription,
    decode_frame,
    decode_funds,
    decode_positions,
    decode_refusal,
    decode_report,
    decode_reports,
    encode,
)
from squareoff.core.types import ClientOrderId, Order, OrderReport, Position
from squareoff.errors import BrokerUnavailable, NeverSent, OrderRefused, OutcomeUnknown, RateLimited
from squareoff.ports import Gate, Idempotency, VenueFacts

FACTS = VenueFacts(idempotency=Idempotency.NONE, request_timeout_s=3.0, quarantine_s=10.0, position_lag_s=1.0)
_HEARTBEAT_S = 5.0
"""A stream from which not even a pong comes for this long has ended."""
_RETRY_AFTER_S = 1.0

T = TypeVar("T")


class PaperBroker:
    """`ports.Broker` over HTTP and a WebSocket. `url` as the server's ready file tells it."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "paper",
        facts: VenueFacts = FACTS,
        on_written: Callable[[], None] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ValueError(f"expected http://host:port, not {url!r}")
        self._facts = facts
        self._stream_url = f"ws://{parts.netloc}{STREAM_PATH}"
        self._authorization = {"Authorization": f"Bearer {token}"}
        self._http = HttpClient(
            parts.hostname,
            parts.port,
            headers={**self._authorization, "Content-Type": "application/json"},
            timeout_s=facts.request_timeout_s,
            on_written=on_written,
        )
        self._streams: set[aiohttp.ClientWebSocketResponse] = set()

    @property
    def facts(self) -> VenueFacts:
        return self._facts

    async def warm(self) -> None:
        """Have a connection ready, so that the first order need not make one. Raises BrokerUnavailable."""
        try:
            await self._http.warm()
        except NotConnected as error:
            raise BrokerUnavailable(str(error)) from error

    async def submit(self, order: Order, gate: Gate) -> OrderReport:
        body = encode(order)
        try:
            response = await self._http.request("POST", "/orders", body, gate=gate)
        except NotConnected as error:
            raise NeverSent(order.client_order_id, str(error)) from error
        except NoAnswer as error:
            raise OutcomeUnknown(order.client_order_id, str(error)) from error
        if response.status == 200:
            return _acknowledged(order.client_order_id, response)
        refusal = _proof_of_refusal(response)
        if refusal is not None and refusal.error == "duplicate":
            return await self._earlier(order.client_order_id)
        _not_taken(order.client_order_id, response, refusal)

    async def cancel(self, order: ClientOrderId) -> None:
        response = await self._ask("DELETE", f"/orders/{quote(order, safe='')}")
        if response.status not in (200, 404):
            raise _unavailable(response)

    async def find(self, order: ClientOrderId) -> OrderReport | None:
        response = await self._ask("GET", f"/orders/{quote(order, safe='')}")
        if response.status == 404:
            return None
        return _read(response, decode_report)

    async def orders(self) -> Sequence[OrderReport]:
        return _read(await self._ask("GET", "/orders"), decode_reports)

    async def positions(self) -> Sequence[Position]:
        return _read(await self._ask("GET", "/positions"), decode_positions)

    async def funds(self) -> Decimal | None:
        return _read(await self._ask("GET", "/funds"), decode_funds).free

    async def server_time(self) -> datetime | None:
        date = (await self._ask("GET", "/health")).headers.get("date")
        try:
            return None if date is None else parsedate_to_datetime(date).astimezone(UTC)
        except ValueError:  # no date at all
            return None

    async def updates(self) -> AsyncIterator[OrderReport]:
        """All orders as they are when the connection is made, then every change until it ends.

        Raises BrokerUnavailable if no connection can be made, or if what comes cannot be read.
        """
        async with aiohttp.ClientSession(headers=self._authorization) as session:
            try:
                async with asyncio.timeout(self._facts.request_timeout_s):
                    socket = await session.ws_connect(self._stream_url, heartbeat=_HEARTBEAT_S, max_msg_size=0)
                    await socket.send_str(encode(Subscription(orders=True)).decode())
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise BrokerUnavailable(f"no stream of order news: {error}") from error
            self._streams.add(socket)
            try:
                async for frame in socket:
                    for report in _reports(frame):
                        yield report
            finally:
                self._streams.discard(socket)
                await socket.close()

    async def close(self) -> None:
        """Ends `updates()` too."""
        await self._http.close()
        for socket in tuple(self._streams):
            await socket.close()

    async def _ask(self, method: str, target: str) -> Response:
        try:
            return await self._http.request(method, target)
        except (NotConnected, NoAnswer) as error:
            raise BrokerUnavailable(f"{method} {target}: {error}") from error

    async def _earlier(self, client_order_id: ClientOrderId) -> OrderReport:
        """The id is known, so an earlier order under it arrived: that one is ours."""
        try:
            report = await self.find(client_order_id)
        except BrokerUnavailable as error:
            raise OutcomeUnknown(client_order_id, f"it arrived before, and cannot be looked up: {error}") from error
        if report is None:
            raise OutcomeUnknown(client_order_id, "the broker knows this id but does not show the order")
        return report


def _acknowledged(client_order_id: ClientOrderId, response: Response) -> OrderReport:
    try:
        report = decode_report(response.body)
    except msgspec.DecodeError as error:
        raise OutcomeUnknown(client_order_id, f"the answer cannot be read: {error}") from error
    if report.client_order_id != client_order_id:
        raise OutcomeUnknown(client_order_id, f"the answer is about {report.client_order_id}")
    return report


_STATUS = {"refused": 400, "token": 403, "duplicate": 409, "rate_limited": 429, "busy": 503}


def _proof_of_refusal(response: Response) -> Refusal | None:
    """What the venue itself says, in its own words and with the status that belongs to them. None: no proof; a bare
    error may come from something in between that has already passed the order on."""
    try:
        refusal = decode_refusal(response.body)
    except msgspec.DecodeError:
        return None
    return refusal if _STATUS[refusal.error] == response.status else None


def _not_taken(client_order_id: ClientOrderId, response: Response, refusal: Refusal | None) -> NoReturn:
    if refusal is None:
        raise OutcomeUnknown(client_order_id, f"the broker answered {response.status} without saying what it did")
    match refusal.error:
        case "rate_limited":
            raise RateLimited(client_order_id, _retry_after_s(response))
        case "token":
            raise OrderRefused(client_order_id, refusal.reason, token=True)
        case "busy":
            raise OrderRefused(client_order_id, refusal.reason or "busy", permanent=False)
        case _:
            raise OrderRefused(client_order_id, refusal.reason, permanent=refusal.permanent)


def _retry_after_s(response: Response) -> float:
    try:
        seconds = float(response.headers["retry-after"])
    except (KeyError, ValueError):
        return _RETRY_AFTER_S
    return seconds if 0 <= seconds < math.inf else _RETRY_AFTER_S


def _read(response: Response, decode: Callable[[bytes], T]) -> T:
    if response.status != 200:
        raise _unavailable(response)
    try:
        return decode(response.body)
    except msgspec.DecodeError as error:
        raise BrokerUnavailable(f"the answer cannot be read: {error}") from error


def _unavailable(response: Response) -> BrokerUnavailable:
    return BrokerUnavailable(f"the broker answered {response.status}: {response.body[:200].decode(errors='replace')}")


def _reports(frame: aiohttp.WSMessage) -> list[OrderReport]:
    if frame.type is not aiohttp.WSMsgType.TEXT:
        return []
    try:
        return [message.report for message in decode_frame(frame.data) if isinstance(message, OrderMessage)]
    except msgspec.DecodeError as error:
        raise BrokerUnavailable(f"the news cannot be read: {error}") from error
