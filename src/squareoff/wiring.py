"""The only place that picks adapters: which clock, which broker, which stores a process works with.

Imports are inside the functions, so that `squareoff --help` does not wait for libraries it does not need.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from squareoff.core.types import AccountId

if TYPE_CHECKING:
    from squareoff.core.strategy import Plan
    from squareoff.simulation.replay import World

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
    from squareoff.core.board import Board
    from squareoff.core.orders import Stamp, order_key
    from squareoff.core.run import Run
    from squareoff.engine import Engine
    from squareoff.gateway import Gateway
    from squareoff.listener import Listener
    from squareoff.scheduler import Scheduler
    from squareoff.simulation.replay import World

    loop = VirtualLoop(start)
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
        spawn=loop.create_task,
    )
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
        close=close,
    )
