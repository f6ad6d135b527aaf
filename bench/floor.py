"""The floor of tick -> order: raw blocking sockets and one Redis round trip. Nothing is checked, nothing is kept.

    python -m bench.floor PORT REDIS_SOCKET

It reads a tick, runs one small script on Redis (the lock and the new state, as the specification asks), and writes a
canned order. What the engine takes more than this is what its promises cost.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import sys

from bench.venue import FLOOR_PATH

SCRIPT = b"""local s=redis.call('HGET',KEYS[1],'status') if s~='ACTIVE' and s~='SELLING' then return 0 end
if redis.call('SET',KEYS[2],ARGV[1],'PX',5000) then
redis.call('HSET',KEYS[1],'status','SELLING','reason',ARGV[2],'client_id',ARGV[3]) return 1 end return 0"""
TRIPS = b'"price":"89.5"'
SUBSCRIPTION = b'{"ticks":["SIM:FLOOR"],"orders":false}'
BODY = (
    b'{"client_order_id":"SQ0123456789X01","account":"paper","symbol":"SIM:FLOOR","side":"SELL","product":"MIS",'
    b'"qty":"1","order_type":"MARKET","limit_price":null}'
)


def command(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def main(port: int, redis_socket: str) -> None:
    feed = socket.create_connection(("127.0.0.1", port))
    broker = socket.create_connection(("127.0.0.1", port))
    for each in (feed, broker):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    redis = socket.socket(socket.AF_UNIX)
    redis.connect(redis_socket)

    def ask(*parts: bytes) -> bytes:
        redis.sendall(command(*parts))
        return redis.recv(4096)

    sha = ask(b"SCRIPT", b"LOAD", SCRIPT).split(b"\r\n")[1]
    ask(b"HSET", b"floor:42", b"status", b"ACTIVE")
    gate = command(b"EVALSHA", sha, b"2", b"floor:42", b"floor:lock", b"token", b"STOPLOSS", b"SQ0123456789X01")
    order = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        FLOOR_PATH,
        len(BODY),
        BODY,
    )
    key = base64.b64encode(os.urandom(16))
    feed.sendall(
        b"GET /stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %b\r\nSec-WebSocket-Version: 13\r\n\r\n" % key
    )
    feed.recv(4096)
    feed.sendall(struct.pack("BB4s", 0x81, 0x80 | len(SUBSCRIPTION), bytes(4)) + SUBSCRIPTION)
    print("READY", flush=True)
    while data := feed.recv(4096):
        if TRIPS not in data:
            continue
        redis.sendall(gate)
        if redis.recv(4096) != b":1\r\n":
            raise RuntimeError("the gate said no")
        broker.sendall(order)
        broker.recv(4096)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
