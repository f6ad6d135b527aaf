"""The process that serves API and console. `python -m squareoff.apps.api --help`; `squareoff up` starts it."""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from squareoff.apps.api.application import make_app, make_office
from squareoff.apps.api.desk import Desk
from squareoff.apps.api.listening import Server, is_loopback, listen, own_hosts
from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.errors import SquareoffError
from squareoff.market import write_whole

SHUTDOWN_S = 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="squareoff api", description="The API and the console. Nothing here trades.")
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--redis", help="address of Redis; else as `squareoff up` tells")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; others than this machine's own need a user with a password",
    )
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME[:PORT]",
        help="a name it is reached by, as the browser's address bar shows it; may be repeated",
    )
    parser.add_argument("--tls-cert", type=Path, help="PEM file of the certificate, for https")
    parser.add_argument("--tls-key", type=Path, help="PEM file of its key")
    parser.add_argument("--ready", type=Path, help="file to write the address into, when it can be used")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        return serve(given)
    except (BadInput, SquareoffError, OSError) as error:
        print(f"squareoff api: {error}", file=sys.stderr)
        return 2


def serve(given: argparse.Namespace) -> int:
    loopback = is_loopback(given.host)
    secure = given.tls_cert is not None
    desk = Desk.open(Config(data=given.data.absolute(), redis_url=given.redis), secure=secure)
    try:
        if not loopback and not desk.access.needs_password():
            wrong = f"{given.host} can be reached by others, and no user has a password"
            raise BadInput("host", wrong, "choose one first: squareoff users password NAME")
        listener = listen(given.host, given.port)
        port = listener.getsockname()[1]
        office = make_office(desk, epoch=secrets.token_hex(4), loopback=loopback)
        app = make_app(office, hosts=own_hosts(given.host, port, given.allow_host), new_ids=_ids())
        scheme = "https" if secure else "http"
        shown = f"[{given.host}]" if ":" in given.host else given.host
        url = f"{scheme}://{shown}:{port}"
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="on",  # what fails at the start ends it, instead of being left out
            limit_concurrency=None,  # a page that is refused shows nothing; whoever is not signed in holds no stream
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,  # nobody is believed about who asks
            timeout_graceful_shutdown=SHUTDOWN_S,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 * 1024,
            ssl_certfile=given.tls_cert,
            ssl_keyfile=given.tls_key,
        )
        Server(config, office, ready=lambda: _tell(url, given.ready)).run(sockets=[listener])
        return 0
    finally:
        desk.close()


def _tell(url: str, ready: Path | None) -> None:
    print(f"READY {url}", flush=True)
    if ready is not None:
        write_whole(ready, json.dumps({"pid": os.getpid(), "url": url}))


def _ids() -> Iterator[str]:
    while True:
        yield secrets.token_hex(8)


if __name__ == "__main__":
    sys.exit(main())
