"""A storm of kill -9 over practice days: what the broker's own ledger says afterwards.

    python tools/storm.py [--kills 200] [--speed 300] [--mischief] [--seed 1]

It runs the real `squareoff up --market practice`, keeps starting strategies that buy soon and sell a little later, and
kills processes with -9 at random moments: mostly the trading worker, now and then the paper broker or `up` itself,
which is then started again. At the end everything must be flat, and the ledger is counted. Exit status 0 only with no
double, no orphan and nothing left.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from squareoff import wiring
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.config import Config
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.events import Event
from squareoff.core.machine import State
from squareoff.core.strategy import StopLoss, StopLossKind, Strategy
from squareoff.core.types import StrategyId, Symbol, UserId

IST = ZoneInfo("Asia/Kolkata")
SYMBOLS = ("SIM:ALPHA", "SIM:BETA", "NSE:INFY", "NSE:ITC", "NSE:TCS")
READY_WITHIN_S = 60.0


class Storm:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.dice = options, random.Random(options.seed)
        self.config = Config(data=folder)
        wiring.ensure_paper_account(self.config, DEFAULT_ACCOUNT, cash=Decimal(10**9))  # it is not about money
        self.store: StrategyStore = wiring.open_strategy_store(self.config)
        self.up: subprocess.Popen[bytes] | None = None
        self.made = 0
        self.recoveries_s: list[float] = []
        self.kills = {"worker": 0, "broker": 0, "up": 0}

    # -- processes
    def start_up(self) -> None:
        command = [sys.executable, "-m", "squareoff", "--data", str(self.config.data), "up", "--market", "practice"]
        command += ["--speed", f"{self.options.speed:g}", "--seed", str(self.options.seed)]
        if self.options.mischief:
            command.append("--mischief")
        with (self.config.data / "up.out").open("ab") as out:
            self.up = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        self.wait("squareoff up", lambda: "worker" in self.pids())

    def pids(self) -> dict[str, int]:
        """Of the processes that are ready now."""
        try:
            told: dict[str, Any] = json.loads((self.config.run_folder / "up.json").read_text())
        except (OSError, ValueError):
            return {}
        ready = {name for name in ("worker", "broker") if (self.config.run_folder / f"{name}.json").exists()}
        found = {name: pid for name, pid in told["processes"].items() if name in ready and pid}
        return found if self.up is not None and told["pid"] == self.up.pid else {}

    def wait(self, what: str, is_so: Any) -> None:
        until_s = time.monotonic() + READY_WITHIN_S
        while not is_so():
            if time.monotonic() > until_s:
                raise SystemExit(f"{what} was not ready within {READY_WITHIN_S:g} s; see {self.config.data}")
            time.sleep(0.005)

    def is_armed(self, pid_before: int) -> bool:
        """A new worker has finished its recovery: what was held is guarded, entries are allowed."""
        try:
            return int(json.loads((self.config.run_folder / "worker.json").read_text())["pid"]) != pid_before
        except (OSError, ValueError, KeyError):
            return False

    def kill(self) -> None:
        choice = self.dice.random()
        name = "up" if choice < 0.05 else "broker" if choice < 0.15 else "worker"
        pids = self.pids()
        if name not in ("up", *pids):
            return
        self.kills[name] += 1
        began_s = time.monotonic()
        if name == "up":
            assert self.up is not None
            worker = pids.get("worker", 0)
            self.up.send_signal(signal.SIGKILL)
            self.up.wait()
            self.start_up()
            self.wait("the worker", lambda: self.is_armed(worker))
        else:
            os.kill(pids[name], signal.SIGKILL)
            if name == "broker":
                self.wait("the broker", lambda: self.pids().get("broker") not in (None, pids["broker"]))
                return
            self.wait("the worker", lambda: self.is_armed(pids["worker"]))
        self.recoveries_s.append(time.monotonic() - began_s)

    # -- strategies
    def start_strategy(self) -> None:
        now = wiring.now(self.config).astimezone(IST)
        buy = now + timedelta(seconds=2.0 * self.options.speed)
        sell = buy + timedelta(seconds=self.dice.uniform(2, 8) * self.options.speed)
        if sell.date() != now.date() or sell.hour * 60 + sell.minute >= 23 * 60 + 44:
            return  # too near to midnight
        self.made += 1
        stop = Decimal(self.dice.choice(("0.2", "0.5", "1", "5")))
        strategy = self.store.add(
            Strategy(
                id=StrategyId(0),
                user=UserId(1),
                account=DEFAULT_ACCOUNT,
                name=f"s{self.made}",
                symbol=Symbol(self.dice.choice(SYMBOLS)),
                quantity=Decimal(10),
                buy_time=buy.time().replace(microsecond=0),
                sell_time=sell.time().replace(microsecond=0),
                stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=stop),
            )
        )
        self.store.wish(strategy.id, Event.START, at=now.astimezone(ZoneInfo("UTC")), by="storm")

    # -- the storm
    def run(self) -> dict[str, Any]:
        self.start_up()
        next_start_s = 0.0
        while sum(self.kills.values()) < self.options.kills:
            if time.monotonic() >= next_start_s:
                self.start_strategy()
                next_start_s = time.monotonic() + self.options.every_s
            if self.dice.random() < 0.02:
                self.kill()
                self.tell()
            time.sleep(0.02)
        sys.stderr.write("\n")
        return self.count()

    def tell(self) -> None:
        total = sum(self.kills.values())
        worst = max(self.recoveries_s, default=0.0)
        sys.stderr.write(f"\r{total} of {self.options.kills} kills, {self.made} strategies, slowest {worst:.2f} s ")
        sys.stderr.flush()

    def count(self) -> dict[str, Any]:
        """Wait until everything is over, end in order, read the ledger."""
        until_s, called_off = time.monotonic() + 120, set[StrategyId]()
        while (left := [r for r in self.store.open_runs() if not r.is_closed]) and time.monotonic() < until_s:
            for run in left:  # START was taken after its BUY time: armed for tomorrow
                is_far = run.plan.buy_at - wiring.now(self.config) > timedelta(hours=2)
                if run.state is State.READY and is_far and run.plan.strategy_id not in called_off:
                    called_off.add(run.plan.strategy_id)
                    self.store.wish(run.plan.strategy_id, Event.STOP, at=wiring.now(self.config), by="storm")
            time.sleep(0.2)
        self.wait("squareoff up", lambda: "worker" in self.pids())
        assert self.up is not None
        self.up.terminate()
        self.up.wait(60)
        audit = wiring.paper_audit(self.config.data / "broker")
        outcomes: dict[str, int] = {}
        for run in self.store.runs(limit=100_000):
            outcome = str(run.outcome or run.state) + (f"({run.cause})" if str(run.outcome) == "failed" else "")
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        recoveries = sorted(self.recoveries_s)
        return {
            "kills": self.kills,
            "strategies": self.made,
            "runs": outcomes,
            "not_over": [f"{r.plan.name} {r.state} {r.cause}" for r in left],
            "orders": audit.orders,
            "fills": audit.fills,
            "doubles": audit.doubles,
            "orphans": [str(orphan) for orphan in audit.orphans],
            "unbalanced": audit.unbalanced_runs,
            "recovery_s": {
                "p50": round(statistics.median(recoveries), 3),
                "p99": round(recoveries[min(len(recoveries) - 1, int(len(recoveries) * 0.99))], 3),
                "most": round(recoveries[-1], 3),
            },
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--speed", type=float, default=300.0, help="trading seconds in a real second")
    parser.add_argument("--every-s", type=float, default=0.5, help="real seconds between two new strategies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mischief", action="store_true", help="odd ticks, and a broker that misbehaves")
    parser.add_argument("--keep", action="store_true", help="keep the data folder also when all is well")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="squareoff-storm-"))
    began = datetime.now(ZoneInfo("UTC"))
    storm = Storm(options, folder)
    try:
        result = storm.run()
    finally:
        if storm.up is not None and storm.up.poll() is None:
            storm.up.terminate()
            storm.up.wait(60)
    result["seconds"] = round((datetime.now(ZoneInfo("UTC")) - began).total_seconds())
    print(json.dumps(result, indent=1, default=str))
    is_well = not (result["doubles"] or result["orphans"] or result["unbalanced"]) and not result["not_over"]
    if is_well and not options.keep:
        shutil.rmtree(folder)
    else:
        print(f"kept: {folder}")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
