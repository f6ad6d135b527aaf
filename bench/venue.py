"""The other side of the wire: a hand-written feed and broker in one process, with one clock for both ends.

It speaks what the paper broker speaks (`squareoff.adapters.paper_wire`), and does next to nothing, so that its own
cost is small and the same for the engine and for the floor. A sample is the time from just before the feed writes a
tick until the broker has the whole request that follows from it, on CLOCK_MONOTONIC.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import multiprocessing as mp
import struct
import time
from dataclasses import dataclass, field, replace
from datetime import UTC
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from squareoff.adapters.clock import PacedClock
from squareoff.adapters.paper_wire import OrderMessage, TickMessage, decode_order, decode_subscription, encode
from squareoff.core.types import (
    BrokerOrderId,
    ClientOrderId,
    Fill,
    Order,
    OrderReport,
    OrderStatus,
    Position,
    Product,
    Side,
    Symbol,
    TradeId,
)

now_ns = time.monotonic_ns
FILL_AFTER_S = 0.001
"""A market order is acknowledged as open and fills a moment later, as on a real venue."""
HEARTBEAT_S = 1.0
GIVE_UP_S = 5.0
FLOOR_PATH = b"/floor"
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass
class Script:
    """What one round shows. Between two ticks that matter, `between` quiet ones pass, each `gap_s` after the last: a
    feed is never silent. The first of them leaves `gap_s` after the order that answers the tick before."""

    ticks: list[tuple[str, str]]
    gap_s: float
    between: int
    quiet: tuple[str, str]
    quiet_left: int = 0
    shown: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)


def frame(text: bytes) -> bytes:
    if len(text) < 126:
        return bytes((0x81, len(text))) + text
    return (
        b"\x81\x7e" + struct.pack(">H", len(text)) + text
        if len(text) < 65536
        else (b"\x81\x7f" + struct.pack(">Q", len(text)) + text)
    )


class Venue:
    def __init__(self, control: Connection, clock_file: Path) -> None:
        self.control, self.clock = control, PacedClock(clock_file)
        self.tick_streams: set[Wire] = set()
        self.order_streams: set[Wire] = set()
        self.reports: dict[ClientOrderId, OrderReport] = {}
        self.net: dict[tuple[Symbol, Product], Decimal] = {}
        self.prices: dict[str, Decimal] = {}
        self.sells = self.buys = 0
        self.script: Script | None = None
        self.loop = asyncio.get_running_loop()
        self.waiting = False
        self.give_up: asyncio.TimerHandle | None = None
        self.done = self.loop.create_future()

    # -- the feed
    def tick_frame(self, symbol: str, price: str) -> bytes:
        self.prices[symbol] = Decimal(price)
        at = self.clock.now().astimezone(UTC)
        return frame(b"[" + encode(TickMessage(symbol=Symbol(symbol), price=Decimal(price), at=at)) + b"]")

    def show(self, symbol: str, price: str) -> int:
        text = self.tick_frame(symbol, price)
        streams = tuple(self.tick_streams)
        sent = now_ns()
        for stream in streams:
            stream.transport.write(text)
        return sent

    def heartbeat(self) -> None:
        for stream in (*self.tick_streams, *self.order_streams):
            stream.transport.write(frame(b"[]"))
        self.loop.call_later(HEARTBEAT_S, self.heartbeat)

    # -- rounds
    def play(self, script: Script) -> None:
        self.script = script
        script.quiet_left = script.between
        self._next()

    def _next(self) -> None:
        script = self.script
        if script is None:
            return
        if script.quiet_left:
            script.quiet_left -= 1
            self.show(*script.quiet)
            self.loop.call_later(script.gap_s, self._next)
        elif len(script.shown) == len(script.ticks):
            self._end(script)
        else:
            self.waiting = True
            self.give_up = self.loop.call_later(GIVE_UP_S, self._gave_up)
            script.shown.append(self.show(*script.ticks[len(script.shown)]))

    def _gave_up(self) -> None:
        script, self.script = self.script, None
        if script is not None:
            self.control.send({"error": f"no order for tick {len(script.seen) + 1} of {len(script.ticks)}"})

    def _end(self, script: Script) -> None:
        self.script = None
        self.control.send({"shown": script.shown, "seen": script.seen})

    def order_arrived(self, at_ns: int) -> None:
        script = self.script
        if script is None or not self.waiting:
            return
        self.waiting = False
        script.seen.append(at_ns)
        script.quiet_left = script.between
        assert self.give_up is not None
        self.give_up.cancel()
        self.loop.call_later(script.gap_s, self._next)

    # -- the broker
    def place(self, order: Order) -> OrderReport:
        report = OrderReport(
            client_order_id=order.client_order_id,
            broker_order_id=BrokerOrderId(f"V{len(self.reports) + 1}"),
            symbol=order.symbol,
            side=order.side,
            product=order.product,
            qty=order.qty,
            status=OrderStatus.OPEN,
        )
        if order.client_order_id in self.reports:
            raise RuntimeError(f"{order.client_order_id} came twice")
        self.reports[order.client_order_id] = report
        self.loop.call_later(FILL_AFTER_S, self._fill, order)
        return report

    def _fill(self, order: Order) -> None:
        report = self.reports[order.client_order_id]
        sign = 1 if order.side is Side.BUY else -1
        if sign == 1:
            self.buys += 1
        else:
            self.sells += 1
        key = (order.symbol, order.product)
        self.net[key] = self.net.get(key, Decimal(0)) + sign * order.qty
        price = self.prices[order.symbol]
        fill = Fill(
            trade_id=TradeId(f"T{report.broker_order_id}"),
            qty=order.qty,
            price=price,
            at=self.clock.now().astimezone(UTC),
        )
        filled = replace(report, status=OrderStatus.FILLED, fills=(fill,))
        self.reports[order.client_order_id] = filled
        text = frame(b"[" + encode(OrderMessage(report=filled)) + b"]")
        for stream in self.order_streams:
            stream.transport.write(text)

    def positions(self) -> list[Position]:
        return [Position(symbol=s, product=p, net_qty=q) for (s, p), q in self.net.items()]

    # -- the bench's wishes
    def command(self) -> None:
        try:
            what = self.control.recv()
        except EOFError:
            self.done.set_result(None)
            return
        match what[0]:
            case "show":
                for symbol, price in what[1]:
                    self.show(symbol, price)
            case "play":
                self.play(Script(**what[1]))
            case "count":
                self.control.send({"buys": self.buys, "sells": self.sells, "streams": len(self.tick_streams)})
            case "end":
                self.done.set_result(None)


class Wire(asyncio.Protocol):
    """One connection: HTTP requests, or a WebSocket after its upgrade."""

    transport: asyncio.Transport

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.buffer = b""
        self.upgraded = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(6, 1, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self.venue.tick_streams.discard(self)
        self.venue.order_streams.discard(self)

    def data_received(self, data: bytes) -> None:
        at_ns = now_ns()
        self.buffer += data
        if self.upgraded:
            self._frames()
            return
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            lower = head.lower()
            i = lower.find(b"content-length:")
            length = int(lower[i + 15 :].split(b"\r\n", 1)[0]) if i >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self._request(at_ns, head, body)

    def _request(self, at_ns: int, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        venue = self.venue
        if target == FLOOR_PATH:
            self._answer(200, b'{"order_id":"1"}')
            venue.order_arrived(at_ns)
        elif method == b"POST":
            order = decode_order(body)
            if order.side is Side.SELL:
                venue.order_arrived(at_ns)
            self._answer(200, encode(venue.place(order)))
        elif target == b"/stream":
            self._upgrade(head)
        elif target == b"/orders":
            self._answer(200, encode(list(venue.reports.values())))
        elif target == b"/trades":
            self._answer(200, b"[]")  # every fill stands in its order
        elif target == b"/positions":
            self._answer(200, encode(venue.positions()))
        elif (report := venue.reports.get(ClientOrderId(target.rpartition(b"/")[2].decode()))) is not None:
            self._answer(200, encode(report))
        else:
            self._answer(404, b"{}")

    def _answer(self, status: int, body: bytes) -> None:
        self.transport.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(body), body)
        )

    def _upgrade(self, head: bytes) -> None:
        key = next(
            line.split(b":", 1)[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        accept = base64.b64encode(hashlib.sha1(key + _KEY_SUFFIX).digest())
        self.upgraded = True
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )
        if self.buffer:
            self._frames()

    def _frames(self) -> None:
        """Frames of a client: masked, and all of ours are short."""
        while len(self.buffer) >= 6:
            opcode, length, at = self.buffer[0] & 15, self.buffer[1] & 127, 2
            if length == 126:
                length, at = struct.unpack(">H", self.buffer[2:4])[0], 4
            if len(self.buffer) < at + 4 + length:
                return
            mask, data = self.buffer[at : at + 4], self.buffer[at + 4 : at + 4 + length]
            self.buffer = self.buffer[at + 4 + length :]
            text = bytes(byte ^ mask[i & 3] for i, byte in enumerate(data))
            if opcode == 1:
                self._subscribed(text)
            elif opcode == 9:
                self.transport.write(bytes((0x8A, len(text))) + text)
            elif opcode == 8:
                self.transport.write(bytes((0x88, len(text))) + text)
                self.transport.close()

    def _subscribed(self, text: bytes) -> None:
        wants = decode_subscription(text)
        if wants.orders:
            messages = [OrderMessage(report=report) for report in self.venue.reports.values()]
            self.transport.write(frame(encode(messages)))
            self.venue.order_streams.add(self)
        if wants.ticks:
            self.transport.write(frame(b"[]"))
            self.venue.tick_streams.add(self)


def _serve(control: Connection, clock_file: Path) -> None:
    async def main() -> None:
        venue = Venue(control, clock_file)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Wire(venue), "127.0.0.1", 0)
        control.send(server.sockets[0].getsockname()[1])
        loop.add_reader(control.fileno(), venue.command)
        loop.call_later(HEARTBEAT_S, venue.heartbeat)
        await venue.done
        loop.remove_reader(control.fileno())

    uvloop.run(main())


class VenueProcess:
    """The venue, in a process of its own; a context manager."""

    def __init__(self, clock_file: Path) -> None:
        self._control, theirs = mp.Pipe()
        self._process = mp.get_context("spawn").Process(target=_serve, args=(theirs, clock_file), daemon=True)
        self._process.start()
        theirs.close()
        self.port: int = self._control.recv()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def show(self, ticks: list[tuple[str, str]]) -> None:
        self._control.send(("show", ticks))

    def count(self) -> dict[str, int]:
        self._control.send(("count",))
        answer: dict[str, int] = self._control.recv()
        return answer

    def play(self, ticks: list[tuple[str, str]], *, gap_s: float, between: int, quiet: tuple[str, str]) -> Any:
        """Show `ticks` one by one. Returns when each was shown and when its order came, in ns. Raises RuntimeError."""
        self._control.send(("play", {"ticks": ticks, "gap_s": gap_s, "between": between, "quiet": quiet}))
        answer = self._control.recv()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def close(self) -> None:
        self._control.send(("end",))
        self._process.join(3)
        self._process.kill()
