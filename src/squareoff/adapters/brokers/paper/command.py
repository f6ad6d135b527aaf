"""The paper broker's command line. Who calls `main` says what a clock's name means and where instruments are."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from squareoff.adapters.brokers.paper.mischief import read_mischief
from squareoff.adapters.brokers.paper.practice import PracticeMarket, PracticeSymbol
from squareoff.adapters.brokers.paper.server import DEFAULT_ACCOUNTS, PriceSource, run_server
from squareoff.adapters.brokers.paper.tape import Tape
from squareoff.core.types import AccountId
from squareoff.ports import Clock, Idempotency

SymbolsOn = Callable[[Path | None, date], Sequence[PracticeSymbol]]
"""(the folder given with --instruments, None without; the day) -> what can be traded on that day."""


def main(
    clock_for: Callable[[Path | None], Clock], symbols_on: SymbolsOn, arguments: Sequence[str] | None = None
) -> None:
    """Run the server until it is told to end. `clock_for` gets the timetable given with --clock, None without."""
    given = _given(arguments)
    clock = clock_for(given.clock)
    with asyncio.Runner(loop_factory=_fast_loop()) as runner:
        runner.run(
            run_server(
                data=given.data,
                clock=clock,
                tape=_price_source(given, clock, symbols_on),
                accounts=dict(map(_account, given.account)) or DEFAULT_ACCOUNTS,
                accounts_file=given.accounts,
                mischief=() if given.mischief is None else read_mischief(given.mischief),
                idempotency=Idempotency(given.idempotency),
                allow_short=not given.long_only,
                port=given.port,
                ready=given.ready,
            )
        )


def _price_source(given: argparse.Namespace, clock: Clock, symbols_on: SymbolsOn) -> PriceSource | None:
    if given.tape is not None:
        return Tape.read(given.tape)
    if given.practice is not None:
        symbols = symbols_on(given.instruments, clock.now().date())
        return PracticeMarket(given.practice, symbols, oddities=given.practice_oddities)
    return None


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not made for this system
        return None
    return uvloop.new_event_loop


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.practice is None and (given.practice_oddities or given.instruments is not None):
        parser.error("--practice-oddities and --instruments are about the practice market: they need --practice SEED")
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="paper broker", description="A broker that trades on paper, on 127.0.0.1.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the ledger")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--ready", type=Path, help="write where it listens to this file instead of printing it")
    parser.add_argument("--clock", type=Path, metavar="TIMETABLE", help="paced time; without: real time")
    prices = parser.add_mutually_exclusive_group()
    prices.add_argument("--tape", type=Path, metavar="CSV", help="ticks to play: at,symbol,price")
    prices.add_argument("--practice", type=int, metavar="SEED", help="a generated market, open now and always")
    parser.add_argument("--practice-oddities", action="store_true", help="with jumps, halts, stale and absurd ticks")
    parser.add_argument(
        "--instruments", type=Path, metavar="DIR", help="your reference folder: the practice market has its instruments"
    )
    parser.add_argument("--account", action="append", default=[], metavar="NAME=TOKEN", help="default paper=paper")
    parser.add_argument(
        "--accounts", type=Path, metavar="JSON", help="file of accounts with token and cash; read again when it grows"
    )
    parser.add_argument("--mischief", type=Path, metavar="TOML", help="scripted misbehaviour")
    parser.add_argument("--idempotency", default=Idempotency.NONE, choices=[str(each) for each in Idempotency])
    parser.add_argument("--long-only", action="store_true", help="refuse a sale of more than is held")
    return parser


def _account(text: str) -> tuple[str, AccountId]:
    name, _, token = text.partition("=")
    if not name or not token:
        raise SystemExit(f"--account needs NAME=TOKEN, not {text!r}")
    return token, AccountId(name)
