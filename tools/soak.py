"""How much an idle worker takes, and whether it grows over days.

    python tools/soak.py idle [--armed 1000] [--seconds 60]
    python tools/soak.py days [--days 7] [--speed 3600] [--strategies 10]

`idle`: the processor time and memory of the worker with that many strategies armed and waiting. `days`: repeating
strategies over practice days; memory of worker and broker, and the size of what is in the data folder, by day.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import time as wall_time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from squareoff import wiring
from squareoff.config import Config
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.events import Event
from squareoff.core.strategy import Repeat, StopLoss, StopLossKind, Strategy
from squareoff.core.types import StrategyId, Symbol, UserId

IST = ZoneInfo("Asia/Kolkata")
SYMBOLS = ("SIM:ALPHA", "SIM:BETA", "NSE:INFY", "NSE:ITC", "NSE:TCS")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Desk:
    def __init__(self, speed: float) -> None:
        self.config = Config(data=Path(tempfile.mkdtemp(prefix="squareoff-soak-")))
        wiring.ensure_paper_account(self.config, DEFAULT_ACCOUNT, cash=Decimal(10**9))  # it is not about money
        self.store = wiring.open_strategy_store(self.config)
        command = [sys.executable, "-m", "squareoff", "--data", str(self.config.data), "up", "--market", "practice"]
        with (self.config.data / "up.out").open("ab") as out:
            self.up = subprocess.Popen(
                [*command, "--speed", f"{speed:g}"], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        while not (self.config.run_folder / "up.json").exists():
            time.sleep(0.1)

    def pid(self, name: str) -> int:
        told: dict[str, Any] = json.loads((self.config.run_folder / "up.json").read_text())
        pid: int = told["processes"][name]
        return pid

    def add(self, number: int, buy: wall_time, sell: wall_time, repeat: Repeat) -> None:
        strategy = self.store.add(
            Strategy(
                id=StrategyId(0),
                user=UserId(1),
                account=DEFAULT_ACCOUNT,
                name=f"s{number}",
                symbol=Symbol(SYMBOLS[number % len(SYMBOLS)]),
                quantity=Decimal(10),
                buy_time=buy,
                sell_time=sell,
                stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(2)),
                repeat=repeat,
            )
        )
        self.store.wish(strategy.id, Event.START, at=wiring.now(self.config), by="soak")

    def cpu_s(self, pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_S

    def rss_mb(self, pid: int) -> float:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)

    def size_mb(self, *names: str) -> float:
        files = [f for name in names for f in self.config.data.glob(name) if f.is_file()]
        return round(sum(f.stat().st_size for f in files) / 1e6, 2)

    def close(self) -> None:
        self.up.terminate()
        self.up.wait(60)
        self.store.close()


def idle(options: argparse.Namespace) -> dict[str, Any]:
    desk = Desk(1.0)
    try:
        now = wiring.now(desk.config).astimezone(IST)
        buy = (now + timedelta(hours=2)).time().replace(microsecond=0)
        sell = (now + timedelta(hours=3)).time().replace(microsecond=0)
        for number in range(options.armed):
            desk.add(number, buy, sell, Repeat.ONCE)
        while len(desk.store.open_runs()) < options.armed:
            time.sleep(0.5)
        time.sleep(10)
        worker, broker = desk.pid("worker"), desk.pid("broker")
        before = desk.cpu_s(worker), desk.cpu_s(broker)
        time.sleep(options.seconds)
        after = desk.cpu_s(worker), desk.cpu_s(broker)
        return {
            "armed": options.armed,
            "seconds": options.seconds,
            "worker_cpu_percent": round((after[0] - before[0]) / options.seconds * 100, 2),
            "broker_cpu_percent": round((after[1] - before[1]) / options.seconds * 100, 2),
            "worker_rss_mb": desk.rss_mb(worker),
        }
    finally:
        desk.close()


def days(options: argparse.Namespace) -> list[dict[str, Any]]:
    desk = Desk(options.speed)
    rows: list[dict[str, Any]] = []
    try:
        for number in range(options.strategies):
            desk.add(number, wall_time(9, 20 + number), wall_time(15, 10 + number), Repeat.DAILY)
        day = wiring.now(desk.config).astimezone(IST).date()
        while len(rows) < options.days:
            today = wiring.now(desk.config).astimezone(IST).date()
            if today == day:
                time.sleep(0.05)
                continue
            day = today
            rows.append(
                {
                    "day": day.isoformat(),
                    "runs": len(desk.store.runs(limit=10_000)),
                    "worker_rss_mb": desk.rss_mb(desk.pid("worker")),
                    "broker_rss_mb": desk.rss_mb(desk.pid("broker")),
                    "database_mb": desk.size_mb("squareoff.db*"),
                    "spool_mb": desk.size_mb("accounts/*"),
                    "redis_mb": desk.size_mb("redis/**/*"),
                    "logs_mb": desk.size_mb("logs/*"),
                    "ledger_mb": desk.size_mb("broker/*"),
                }
            )
            sys.stderr.write(f"{rows[-1]}\n")
    finally:
        desk.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("idle", "days"))
    parser.add_argument("--armed", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--speed", type=float, default=3600.0)
    parser.add_argument("--strategies", type=int, default=10)
    options = parser.parse_args()
    print(json.dumps(idle(options) if options.what == "idle" else days(options), indent=1))


if __name__ == "__main__":
    main()
