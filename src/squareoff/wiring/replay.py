"""The engine on memory adapters and virtual time, and the recorded prices it is fed with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from squareoff.core.bad_input import BadInput
from squareoff.core.types import AccountId, Symbol

if TYPE_CHECKING:
    from squareoff.adapters.feeds.recorded import RecordedData
    from squareoff.core.session import ExchangeHours
    from squareoff.core.strategy import Plan
    from squareoff.simulation.replay import World

_Word = TypeVar("_Word", bound=StrEnum)

REPLAY_ACCOUNT = AccountId("replay")


class _NoAlerts:
    """Replay tells nobody: the journal has it."""

    def tell(self, severity: object, headline: str, text: str, *, run_id: object = None) -> None:
        pass


def replay_world(start: datetime) -> World:
    """The engine on memory adapters and virtual time, the paper broker in the same process."""
    from squareoff.adapters.brokers.paper.book import PaperBook
    from squareoff.adapters.brokers.paper.in_process import InProcessPaperBroker
    from squareoff.adapters.clock import VirtualLoop
    from squareoff.adapters.memory.records import MemoryRecords
    from squareoff.adapters.memory.runtime import MemoryRuntimeStore
    from squareoff.adapters.memory.spool import MemoryLease, MemorySpool
    from squareoff.chasing import Chaser
    from squareoff.core.board import Board
    from squareoff.core.orders import Stamp, order_key
    from squareoff.core.run import Run
    from squareoff.engine import Engine
    from squareoff.gateway import Gateway
    from squareoff.listener import Listener
    from squareoff.precedence import OrdersFirst
    from squareoff.scheduler import Scheduler
    from squareoff.simulation.replay import World

    loop = VirtualLoop(start)
    failures: list[BaseException] = []

    def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = loop.create_task(work)
        task.add_done_callback(keep_failure)
        return task

    def keep_failure(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            failures.append(error)

    board, records, spool = Board(), MemoryRecords(install_id="replay"), MemorySpool()
    lease = MemoryLease(REPLAY_ACCOUNT)
    lease.acquire()
    broker = InProcessPaperBroker(PaperBook(), loop)
    fence = loop.complete(records.take_lease(REPLAY_ACCOUNT, owner="replay", machine=lease.machine, boot=lease.boot))
    runtime = MemoryRuntimeStore(loop)
    loop.complete(runtime.rebuild(REPLAY_ACCOUNT, []))
    engine: Engine
    scheduler = Scheduler(
        board=board,
        clock=loop,
        loop=loop,
        notify=lambda run_id, signal: engine.notify(run_id, signal),
        wake=lambda run_id: engine.wake(run_id),
        longest_sleep_s=None,
    )
    engine = Engine(
        account=REPLAY_ACCOUNT,
        board=board,
        clock=loop,
        records=records,
        journal=records,
        runtime=runtime,
        broker=broker,
        gateway=Gateway(broker=broker, lease=lease, spool=spool, clock=loop),
        spool=spool,
        alerts=_NoAlerts(),
        stamp=Stamp(fence=fence, machine=lease.machine, boot=lease.boot),
        set_timers=scheduler.set_timers,
        spawn=spawn,
        precedence=OrdersFirst(loop, loop.monotonic_s),
        chase=lambda run: chaser.chase(run),
    )
    chaser = Chaser(engine=engine, clock=loop, broker=broker, spawn=spawn)
    broker.on_report = engine.on_report
    listener = Listener(board=board, clock=loop, notify=engine.notify, on_low=engine.on_low)

    def start_run(plan: Plan) -> None:
        loop.complete(engine.start(Run(plan=plan, key=order_key(records.install_id, plan.run_id))))

    def close() -> None:
        scheduler.close()
        loop.drain()
        loop.close()

    return World(
        loop=loop,
        board=board,
        start=start_run,
        on_tick=listener.on_tick,
        fill=broker.on_tick,
        journal=lambda: records.entries,
        ignored=lambda: dict(listener.ignored),
        failures=lambda: failures,
        close=close,
    )


def recorded_data(
    paths: Sequence[Path],
    *,
    bars_labelled: str,
    quote: str,
    exchange: str,
    symbol: str | None,
    hours_of: Callable[[Symbol], ExchangeHours],
) -> RecordedData:
    """Recorded ticks and bars, read and checked. Raises BadInput, which names the file and the line."""
    from squareoff.adapters.feeds.recorded import BarsLabelled, Quote, ReadOptions, load

    options = ReadOptions(
        exchange=exchange.upper(),
        bars_labelled=_choice(BarsLabelled, bars_labelled, "--bars-labelled"),
        quote=_choice(Quote, quote, "--quote"),
        symbol=None if symbol is None else Symbol(symbol.upper()),
    )
    return load(paths, options=options, hours_of=hours_of)


def _choice(kind: type[_Word], text: str, option: str) -> _Word:
    try:
        return kind(text)
    except ValueError:
        raise BadInput(option, f"{text!r} is not known", f"one of {', '.join(kind)}") from None
