"""Where the API listens, and by which names it is reached."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from squareoff.apps.api.callers import Office
from squareoff.core.bad_input import BadInput


class Server(uvicorn.Server):
    """Says when it can be used, and ends what is pushed before it waits for requests to end: a stream never does."""

    def __init__(self, config: uvicorn.Config, office: Office, *, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._office, self._ready = office, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._office.hubs.close()
        await super().shutdown(sockets)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def own_hosts(host: str, port: int, more: list[str]) -> set[str]:
    """What a browser may write into `Host` to reach us."""
    names = {"127.0.0.1", "localhost", "[::1]"} if is_loopback(host) or host in ("0.0.0.0", "::") else set()
    names.add(f"[{host}]" if ":" in host else host)
    own = {f"{name}:{port}" for name in names}
    for name in more:
        own |= {name, f"{name}:{port}"} if ":" not in name else {name}
    return own


def listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise BadInput(
            "port", f"{host}:{port} cannot be used: {why}", "name another one with --console-port"
        ) from error
    listener.listen(128)
    return listener
