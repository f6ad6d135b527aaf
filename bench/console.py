"""The console: from a price in Redis to the painted row, a thousand rows, and what viewers cost the trading.

    python -m bench.console [--rows 1000] [--viewers 50]

`rows`: runs that hold something, each with a price that changes five times a second; the real API process, the real
page in Chromium (without one, only to the moment a client has the event). Floor: somebody who looks into Redis as often
as the API does, and makes nothing of it. `viewers`: tick -> order as `bench.tick_to_order` measures it, without and
with that many open streams.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from statistics import quantiles
from typing import Any

from tests.console.desk import CHROMIUM_ARGUMENTS, chromium

from bench import tick_to_order
from bench.figures import load
from bench.recovery import ACCOUNT, fill_database
from squareoff import wiring
from squareoff.adapters.redis.keys import prices_key
from squareoff.adapters.redis.server import RedisServer
from squareoff.apps.api.hub import LOOK_EVERY_S
from squareoff.config import Config
from squareoff.core.orders import Stamp
from squareoff.core.types import Fence
from squareoff.market import write_whole

HZ = 5
READY_WITHIN_S = 60.0
SYMBOLS = 50

Tell = Callable[[str], None]


# ------------------------------------------------------------------ the API's process


class Served:
    """The API on `folder`, with a session for clients."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder, ready = folder, folder / "console.json"
        self._log = (folder / "console.log").open("ab")
        command = [sys.executable, "-m", "squareoff.apps.api", "--data", str(folder), "--redis", redis_url]
        command += ["--ready", str(ready)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        until_s = time.monotonic() + READY_WITHIN_S
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"the API did not start: {(folder / 'console.log').read_text()[-2000:]}")
            time.sleep(0.05)
        self.port = int(json.loads(ready.read_text())["url"].rpartition(":")[2])
        self.cookie = self._sign_in()

    def key(self) -> str:
        from squareoff.core.types import UserId

        access = wiring.access_store(Config(data=self.folder))
        try:
            return access.make_link(UserId(1))
        finally:
            access.close()

    def _sign_in(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        body = json.dumps({"key": self.key()})
        connection.request("POST", "/api/v1/session", body, {"Content-Type": "application/json"})
        told = connection.getresponse().headers["Set-Cookie"]
        connection.close()
        return str(told).partition(";")[0]

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._log.close()


class Stream:
    """A viewer that reads; `seen` is called with each event's name and data."""

    def __init__(self, served: Served, seen: Callable[[str, str], None]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        self._connection.request("GET", "/api/v1/events", headers={"Cookie": served.cookie})
        self._response, self._seen, self._ends = self._connection.getresponse(), seen, False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        event = ""
        try:
            while not self._ends and (line := self._response.readline()):
                if line.startswith(b"event: "):
                    event = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    self._seen(event, line[6:].decode())
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            return

    def close(self) -> None:
        self._ends = True
        self._thread.join(3)
        self._response.close()
        self._connection.close()


# ------------------------------------------------------------------ rows


class Prices:
    """Moves every price `HZ` times a second, and notes when each value was in Redis."""

    def __init__(self, redis_url: str) -> None:
        self._client = wiring.redis_client(redis_url)
        self.written_ms: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._move, daemon=True)
        self._thread.start()

    def _move(self) -> None:
        number = 0
        while not self._ended.wait(1 / HZ):
            number += 1
            price = f"{100 + number * Decimal('0.01'):f}"
            at = datetime.now(UTC).isoformat()
            values = {f"SIM:S{n}": f"{price} {at}" for n in range(SYMBOLS)}
            self._client.hset(prices_key(ACCOUNT), mapping=values)
            self.written_ms[f"{Decimal(price):.2f}"] = time.time() * 1000

    def close(self) -> None:
        self._ended.set()
        self._thread.join(3)
        self._client.close()


class Looking:
    """The floor: one field, as often as the API looks."""

    def __init__(self, redis_url: str, prices: Prices) -> None:
        self.ways_ms: list[float] = []
        self._client, self._prices = wiring.redis_client(redis_url), prices
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        last = ""
        while not self._ended.wait(LOOK_EVERY_S):
            raw: Any = self._client.hget(prices_key(ACCOUNT), "SIM:S1")
            price = "" if raw is None else f"{Decimal(raw.decode().split()[0]):.2f}"
            if price != last and price in self._prices.written_ms:
                last = price
                self.ways_ms.append(time.time() * 1000 - self._prices.written_ms[price])

    def close(self) -> None:
        self._ended.set()
        self._thread.join(3)
        self._client.close()


PAINTED = """
() => {
  window.__painted = [];
  const row = document.querySelector('[data-testid="row-s1"]');
  const look = () => {
    const found = /now\\s*([\\d,.]+)/.exec(row.innerText.replace(/\\n/g, ' '));
    if (!found || found[1] === window.__last) return;
    window.__last = found[1];
    const price = found[1];
    requestAnimationFrame(() => setTimeout(() => window.__painted.push([price, Date.now()]), 0));
  };
  new MutationObserver(look).observe(row, { subtree: true, childList: true, characterData: true });
  window.__frames = 0;
  const count = () => { window.__frames++; requestAnimationFrame(count); };
  requestAnimationFrame(count);
}
"""


def rows(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="squareoff-bench-") as name:
        folder = Path(name)
        fill_database(folder, options.rows, datetime.now(UTC), Stamp(fence=Fence(1), machine="bench", boot="bench"))
        redis = RedisServer(folder / "redis")
        redis.start()
        with _as_if_up(folder, redis.url):
            served, prices = Served(folder, redis.url), Prices(redis.url)
            try:
                received: list[float] = []

                def seen(event: str, data: str) -> None:
                    if event == "patch" and '"rows"' in data:
                        changed = json.loads(data)["rows"].get("1")
                        price = (changed or {}).get("price")
                        written = prices.written_ms.get(f"{Decimal(price):.2f}") if price else None
                        if written is not None:
                            received.append(time.time() * 1000 - written)

                stream, looking = Stream(served, seen), Looking(redis.url, prices)
                time.sleep(3)
                tell(f"{options.rows} rows, {HZ} updates a second, {options.seconds} s")
                received.clear()
                looking.ways_ms.clear()
                before_s, began_s = served.cpu_s(), time.monotonic()
                time.sleep(options.seconds)
                cpu = (served.cpu_s() - before_s) / (time.monotonic() - began_s)
                told, floor = sorted(received), sorted(looking.ways_ms)
                stream.close()
                looking.close()
                painted = _painted(served, prices, options.seconds) if chromium() else None
            finally:
                prices.close()
                served.close()
                redis.stop()
    return {
        "rows": options.rows,
        "hz": HZ,
        "server_cpu_share": round(cpu, 3),
        "event_ms": _spread(told),
        "floor_ms": _spread(floor),
        "events_per_s": round(len(told) / options.seconds, 1),
        "painted": painted,
        "load": load(),
    }


def _painted(served: Served, prices: Prices, seconds: float) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"http://127.0.0.1:{served.port}/#key={served.key()}")
        page.get_by_test_id("row-s1").wait_for(timeout=60_000)
        page.get_by_test_id("row-s1").scroll_into_view_if_needed()
        page.evaluate(PAINTED)
        time.sleep(seconds)
        told, frames = page.evaluate("[window.__painted, window.__frames]")
        browser.close()
    ways = [at - prices.written_ms[key] for price, at in told if (key := price.replace(",", "")) in prices.written_ms]
    return {"ms": _spread(sorted(ways)), "frames_per_s": round(frames / seconds, 1), "samples": len(ways)}


def _spread(values: list[float]) -> dict[str, float] | None:
    if len(values) < 10:
        return None
    cuts = quantiles(values, n=100)
    return {"p50": round(cuts[49], 1), "p95": round(cuts[94], 1)}


@contextmanager
def _as_if_up(folder: Path, redis_url: str) -> Iterator[None]:
    """What `up` would tell: the API asks it where Redis is."""
    from squareoff.apps.up.supervisor import STATUS_NAME, FolderLock

    lock = FolderLock(Config(data=folder))
    told = {"pid": os.getpid(), "redis_url": redis_url, "accounts": {ACCOUNT: {"worker": None}}}
    write_whole(folder / "run" / STATUS_NAME, json.dumps(told))
    try:
        yield
    finally:
        lock.release()


# ------------------------------------------------------------------ viewers


def viewers(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    told: dict[str, Any] = {"viewers": options.viewers}
    for name, count in (("without", 0), ("with", options.viewers)):
        tell(f"tick -> order, {count} viewers")
        measured = argparse.Namespace(
            rounds=options.rounds, samples=options.samples, warm=20, symbols=20, gap_ms=1, between=19, keep=False
        )
        opened: list[Any] = []

        def look(stage: tick_to_order.Stage, count: int = count, opened: list[Any] = opened) -> None:
            if count:
                served = Served(stage.folder, stage.redis.url)
                opened.append(served)
                opened.extend(Stream(served, lambda event, data: None) for _ in range(count))
                time.sleep(3)

        measured.hook = look
        try:
            told[name] = tick_to_order.measure(measured, tell)
        finally:
            for each in reversed(opened):
                each.close()
    return told


def measure(options: argparse.Namespace, tell: Tell) -> dict[str, Any]:
    return {"rows": rows(options, tell), "viewers": viewers(options, tell)}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--viewers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=100)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.console", description=__doc__)
    arguments(parser)
    options = parser.parse_args()
    print(json.dumps(measure(options, lambda line: print(f"\r{line:60}", end="", file=sys.stderr)), indent=1))


if __name__ == "__main__":
    main()
