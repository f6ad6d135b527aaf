"""The worker process: the engine of one account. `python -m squareoff.apps.worker --help`.

People start it through `squareoff`; it prints READY when recovery is done and stops in order on SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from squareoff.config import TOKEN_VARIABLE, Config
from squareoff.core.bad_input import BadInput
from squareoff.core.preflight import Check, preflight
from squareoff.core.strategy import Strategy
from squareoff.core.types import AccountId
from squareoff.errors import SquareoffError
from squareoff.market import write_whole
from squareoff.wiring.holding import LeaseKind
from squareoff.wiring.telling import log_file
from squareoff.wiring.worker import WorkerSettings, run_worker

LEAST_TTL_S = 0.5
"""Three renewals must fit in."""
COLLECTOR_OFF_S = 30.0
READY, STANDBY = "READY", "STANDBY"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="squareoff worker", description="The engine of one account.")
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--account", default="paper")
    parser.add_argument("--broker", required=True, help="address of the paper broker")
    parser.add_argument("--redis", required=True, help="Redis URL")
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE, "paper"),
        help=f"the broker's access token; else ${TOKEN_VARIABLE}, which other users of the machine cannot read",
    )
    parser.add_argument("--clock", type=Path, help="timetable of a paced clock")
    parser.add_argument(
        "--clock-step",
        type=Path,
        metavar="FILE",
        help="with --clock, for tests: the seconds in it are how far the machine's clock was set forward",
    )
    parser.add_argument("--request-timeout", type=float, default=3.0, metavar="S", help="for one answer, seconds")
    parser.add_argument("--quarantine", type=float, default=120.0, metavar="S", help="of an unseen order, seconds")
    parser.add_argument(
        "--lease",
        choices=[*LeaseKind],
        default=LeaseKind.FILE,
        help="who may send: a lock of this machine's, or a row in the database for workers on several (default: file)",
    )
    parser.add_argument(
        "--lease-ttl",
        type=float,
        default=10.0,
        metavar="S",
        help="with --lease sql: seconds that it holds without renewal; a standby takes over after it",
    )
    parser.add_argument("--standby", action="store_true", help="wait for an account that another worker has")
    parser.add_argument("--logs", type=Path, metavar="DIR", help="for the log (default: in the data folder)")
    parser.add_argument("--ready", type=Path, metavar="FILE", help="write this file when recovery is done")
    options = parser.parse_args(arguments)
    if not options.lease_ttl >= LEAST_TTL_S:
        parser.error(f"--lease-ttl must be at least {LEAST_TTL_S:g} seconds, not {options.lease_ttl:g}")
    settings = WorkerSettings(
        data=options.data,
        account=AccountId(options.account),
        broker_url=options.broker,
        redis_url=options.redis,
        token=options.token,
        clock_file=options.clock,
        clock_step_file=options.clock_step,
        request_timeout_s=options.request_timeout,
        quarantine_s=options.quarantine,
        lease=LeaseKind(options.lease),
        lease_ttl_s=options.lease_ttl,
        standby=options.standby,
        log=log_file(options.logs or Config(data=options.data).logs, AccountId(options.account)),
    )
    try:
        _run(settings, options.ready)
    except (SquareoffError, BadInput) as error:
        sys.stderr.write(f"squareoff worker: {error}\n")
        return 2
    return 0


def _preflight(config: Config, strategies: Sequence[Strategy], now: datetime) -> Sequence[Sequence[Check]]:
    """Runs in a thread: a stop-loss does not wait for a disk to say how full it is. The machine is asked once."""
    from squareoff.apps.facts import gather, look_around

    here = look_around(config)
    return [preflight(each, gather(config, each, now=now, machine=here), when=now) for each in strategies]


def _run(settings: WorkerSettings, ready_file: Path | None) -> None:
    async def work() -> None:
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        asyncio.get_running_loop().call_later(COLLECTOR_OFF_S, gc.enable)  # a standby may wait for days
        await run_worker(settings, ready=ready, stop=stop, check=_preflight, waits=waits)

    def waits(why: str) -> None:
        print(f"{STANDBY} {why}", flush=True)

    def ready() -> None:
        print(READY, flush=True)
        if ready_file is not None:
            write_whole(ready_file, json.dumps({"pid": os.getpid()}))
        gc.enable()
        gc.collect()
        gc.freeze()  # what lives as long as the worker is not looked through again
        gc.set_threshold(50_000, 50, 50)  # and a stop-loss meets the collector a hundred times less often

    gc.disable()  # until recovery is done: what it makes is there to stay
    # the journal's thread and the order path share the interpreter: hand over quickly
    sys.setswitchinterval(0.00005)
    try:
        import uvloop
    except ImportError:
        asyncio.run(work())
    else:
        uvloop.run(work())


if __name__ == "__main__":
    sys.exit(main())
