"""The API as it is served, over a real socket, on a folder of its own and a morning that is fixed."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from argon2 import PasswordHasher

from squareoff import wiring
from squareoff.apps.api.application import make_app, make_office
from squareoff.apps.api.desk import Desk
from squareoff.apps.api.listening import Server, listen, own_hosts
from squareoff.config import Config
from squareoff.core.access import Role
from squareoff.core.types import UserId
from tests.api.client import Browser
from tests.apps.conftest import MARKET, MONDAY_MORNING

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
INFY = {
    "name": "morning",
    "symbol": "NSE:SHARE",
    "quantity": "50",
    "buy_time": "09:20",
    "sell_time": "15:10",
    "stop_loss": "1540",
}
PASSWORD = "a long sentence of mine"


@dataclass
class Served:
    data: Path
    desk: Desk
    port: int

    def browser(self) -> Browser:
        """Not signed in."""
        return Browser(port=self.port)

    def signed_in(self) -> Browser:
        """By a one-time link, as the only user."""
        browser = self.browser()
        assert browser.sign_in(key=self.desk.access.make_link(UserId(1))).status == 201
        return browser

    def user(self, name: str, role: Role = Role.TRADER) -> Browser:
        """A new user, signed in by password."""
        self.desk.access.add_user(name, PASSWORD, role)
        browser = self.browser()
        assert browser.sign_in(name=name, password=PASSWORD).status == 201
        return browser


@contextmanager
def serving(data: Path, *, loopback: bool = True) -> Iterator[Served]:
    desk = Desk.open(Config(data=data))
    desk.access._hasher = CHEAP
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    ids = (f"request-{number}" for number in itertools.count(1))
    hosts = own_hosts("127.0.0.1", port, [])
    office = make_office(desk, epoch="epoch", loopback=loopback)
    app = make_app(office, hosts=hosts, new_ids=ids)
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1, loop="asyncio")
    server = Server(config, office, ready=lambda: None)
    thread = threading.Thread(target=lambda: server.run(sockets=[listener]), daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
    try:
        yield Served(data=data, desk=desk, port=port)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        desk.close()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(wiring, "now", lambda _: MONDAY_MORNING)
    folder = tmp_path / "data"
    (folder / "reference").mkdir(parents=True)
    (folder / "reference" / "instruments.csv").write_text(MARKET)
    return folder


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data) as running:
        yield running


@pytest.fixture
def browser(served: Served) -> Browser:
    return served.signed_in()


@pytest.fixture
def added(browser: Browser) -> Callable[..., int]:
    """A strategy of the browser's user; returns its id."""

    def add(name: str = "morning", **fields: str) -> int:
        return int(browser.post("strategies", {**INFY, "name": name, **fields})["id"])

    return add
