"""Tick -> order on the wire, through the whole engine.

    python -m bench.tick_to_order [--rounds 5] [--samples 200] [--gap-ms 1] [--between 19]

The worker is the real process on a real Redis and a SQLite database that waits for its disk; feed and broker are
`bench.venue`. Every sample is the stop-loss of another run that was really bought: its price is staggered, one tick
trips one run. Rounds of the engine and of the floor (`bench.floor`) take turns.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time as time_module
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo

from sqlalchemy import text

from bench.figures import end_in_order_when_told, load, over_rounds, quantile, ratios
from bench.venue import VenueProcess
from squareoff.adapters.clock import PacedClock
from squareoff.adapters.redis.server import RedisServer
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.config import Config
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.events import Event
from squareoff.core.strategy import StopLoss, StopLossKind, Strategy
from squareoff.core.types import StrategyId, Symbol, UserId
from squareoff.wiring import open_strategy_store

IST = ZoneInfo("Asia/Kolkata")
OPENS = datetime.combine(date(2026, 11, 20), time(9, 15), tzinfo=IST)
BUY_FIRST_S = 3
BUYS_PER_S = 50
STEP = Decimal("0.05")
TOP = Decimal("900.00")
BUY_PRICE = "1000.00"
WITHIN_S = 180.0


@dataclass(frozen=True)
class Planned:
    """One run and the tick that trips it."""

    name: str
    symbol: Symbol
    stop: Decimal


def planned(count: int, symbols: int) -> list[Planned]:
    return [Planned(f"run-{i}", Symbol(f"SIM:S{i % symbols:02d}"), TOP - STEP * (i // symbols)) for i in range(count)]


class Stage:
    """Redis, the venue and the worker, with every run bought."""

    def __init__(self, folder: Path, runs: Sequence[Planned], tell: Callable[[str], None]) -> None:
        self.folder, self.runs, self._tell = folder, runs, tell
        self._on_exit = ExitStack()
        self.worker: subprocess.Popen[bytes] | None = None
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        config = Config(data=self.folder)
        config.make_data_folder()
        self._write_instruments(config.reference)
        self.store = open_strategy_store(config)
        self._on_exit.callback(self.store.close)
        clock = PacedClock.prepare(
            [(0.0, OPENS), (0.001, OPENS + timedelta(milliseconds=1))], self.folder / "clock.json"
        )
        self._save_strategies(self.store, clock.now())
        self.redis = RedisServer(self.folder / "redis")
        self.redis.start()
        self._on_exit.callback(self.redis.stop)
        self.venue = VenueProcess(self.folder / "clock.json")
        self._on_exit.callback(self.venue.close)
        self._start_worker()
        self._wait("ready", lambda: self.in_state("ready"))
        clock.start()
        self._buy()

    def _write_instruments(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        head = "# as of 2026-11-20\nsymbol,name,kind,lot,tick_size,freeze_qty,lower_band,upper_band,expiry,"
        head += "tradable,closing_auction"
        symbols = sorted({run.symbol for run in self.runs})
        rows = [f"{symbol},Bench,generated,1,{STEP},,1.00,100000.00,,yes,no" for symbol in symbols]
        (folder / "instruments.csv").write_text("\n".join([head, *rows]) + "\n")

    def _save_strategies(self, store: StrategyStore, now: datetime) -> None:
        for i, run in enumerate(self.runs):
            at = OPENS + timedelta(seconds=BUY_FIRST_S + i // BUYS_PER_S)
            strategy = store.add(
                Strategy(
                    id=StrategyId(0),
                    user=UserId(1),
                    account=DEFAULT_ACCOUNT,
                    name=run.name,
                    symbol=run.symbol,
                    quantity=Decimal(10),
                    buy_time=at.time(),
                    sell_time=time(22, 0),
                    stop_loss=StopLoss(kind=StopLossKind.PRICE, value=run.stop),
                )
            )
            store.wish(strategy.id, Event.START, at=now, by="bench")

    def _start_worker(self) -> None:
        log: IO[bytes] = (self.folder / "worker.log").open("ab")
        self._on_exit.callback(log.close)
        command = [sys.executable, "-m", "squareoff.apps.worker", "--data", str(self.folder)]
        command += ["--broker", f"http://127.0.0.1:{self.venue.port}", "--redis", self.redis.url]
        command += ["--clock", str(self.folder / "clock.json")]
        self.worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        self._on_exit.callback(self._end_worker)

    def _end_worker(self) -> None:
        assert self.worker is not None
        self.worker.send_signal(signal.SIGTERM)
        try:
            self.worker.wait(20)
        except subprocess.TimeoutExpired:
            self.worker.kill()
            self.worker.wait()

    def _buy(self) -> None:
        """Prices of every symbol, each second, until everything is bought."""
        symbols = sorted({run.symbol for run in self.runs})
        last_s = 0.0

        def bought() -> int:
            nonlocal last_s
            if time_module.monotonic() - last_s > 1:
                last_s = time_module.monotonic()
                self.venue.show([(symbol, BUY_PRICE) for symbol in symbols])
            return self.in_state("bought")

        self._wait("bought", bought)
        time_module.sleep(1)

    def _wait(self, what: str, count: Callable[[], int]) -> None:
        until_s = time_module.monotonic() + WITHIN_S
        while (number := count()) < len(self.runs):
            self._tell(f"{number} of {len(self.runs)} {what}")
            if self.worker is not None and self.worker.poll() is not None:
                raise RuntimeError(f"the worker ended: {(self.folder / 'worker.log').read_text()[-2000:]}")
            if time_module.monotonic() > until_s:
                raise RuntimeError(f"only {number} of {len(self.runs)} runs became {what}: {self.states()}")
            time_module.sleep(0.2)

    def states(self) -> dict[str, int]:
        with self.store._database.read() as connection:
            rows = connection.execute(text("SELECT state, count(*) FROM runs GROUP BY state")).all()
        return {str(state): int(count) for state, count in rows}

    def in_state(self, state: str) -> int:
        return self.states().get(state, 0)

    def close(self) -> None:
        self._on_exit.close()


class Floor:
    """The floor's process."""

    def __init__(self, stage: Stage) -> None:
        command = [
            sys.executable,
            "-m",
            "bench.floor",
            str(stage.venue.port),
            str(stage.folder / "redis" / "redis.sock"),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"READY\n":
            raise RuntimeError("the floor did not start")
        time_module.sleep(0.2)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def microseconds(played: dict[str, Any], warm: int) -> list[float]:
    return [(seen - shown) / 1e3 for shown, seen in zip(played["shown"], played["seen"], strict=True)][warm:]


def measure(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    each = options.samples + options.warm
    runs = planned(each * options.rounds, options.symbols)
    folder = Path(tempfile.mkdtemp(prefix="squareoff-bench-"))
    floors: list[list[float]] = []
    engines: list[list[float]] = []
    gap_s = options.gap_ms / 1e3
    try:
        stage = Stage(folder, runs, tell)
        try:
            if options.hook:
                options.hook(stage)
            for number in range(options.rounds):
                tell(f"round {number + 1} of {options.rounds}")
                floor = Floor(stage)
                ticks = [("SIM:FLOOR", "89.5")] * each
                played = stage.venue.play(ticks, gap_s=gap_s, between=options.between, quiet=("SIM:FLOOR", "90.5"))
                floors.append(microseconds(played, options.warm))
                floor.close()
                time_module.sleep(0.3)
                mine = runs[number * each : (number + 1) * each]
                ticks = [(r.symbol, f"{r.stop:f}") for r in mine]
                quiet = (mine[0].symbol, BUY_PRICE)
                played = stage.venue.play(ticks, gap_s=gap_s, between=options.between, quiet=quiet)
                engines.append(microseconds(played, options.warm))
                time_module.sleep(0.5)
            time_module.sleep(1)
            ended, count = stage.states(), stage.venue.count()
        finally:
            stage.close()
    finally:
        if options.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if ended != {"exited_by_sl": len(runs)} or count["sells"] != len(runs):
        raise RuntimeError(f"not every run ended by its own stop-loss: {ended}, {count['sells']} sold")
    result: dict[str, Any] = {"runs": len(runs), "samples": options.samples, "rounds": options.rounds}
    result |= {
        "symbols": options.symbols,
        "gap_ms": options.gap_ms,
        "between": options.between,
        "load": load(),
        "redis_aof": "everysec",
    }
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        above = [quantile(round_, share) for round_ in engines]
        below = [quantile(round_, share) for round_ in floors]
        result[name] = {"engine_us": over_rounds(above), "floor_us": over_rounds(below), "x": ratios(above, below)}
    return result


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--warm", type=int, default=20, help="samples of each round that are thrown away")
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--gap-ms", type=float, default=1, help="between two ticks")
    parser.add_argument("--between", type=int, default=19, help="ticks that trip nothing between two that do")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the logs")


def main() -> None:
    parser = argparse.ArgumentParser(description="tick -> order through the whole engine")
    arguments(parser)
    parser.set_defaults(hook=None)
    end_in_order_when_told()
    options = parser.parse_args()
    print(json.dumps(measure(options, lambda line: print(f"\r{line:60}", end="", file=sys.stderr)), indent=1))


if __name__ == "__main__":
    main()
