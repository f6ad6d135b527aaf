"""Plays one schedule: the engine and its keepers as they ship, ports in memory, and the troubles where they were drawn.

What is returned tells whether every promise was kept, and has a hash of all that happened: the same schedule played
again has the same one, in any process on any machine.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

from squareoff.adapters.brokers.paper.mischief import Kind, Mischief
from squareoff.core.events import Event
from squareoff.core.limits import Level
from squareoff.core.types import Order, Tick
from squareoff.simulation.loop import SeededLoop
from squareoff.simulation.process import Machine, Process
from squareoff.simulation.promises import Promises
from squareoff.simulation.schedule import BEGIN, CALM_S, TTL_S, Schedule, Setting, instant
from squareoff.simulation.trouble import OF_A_PROCESS, Suffering, Trouble, What, Where
from squareoff.simulation.world import World

QUARANTINE_S, REQUEST_S = 2.0, 0.5
REPLACE_EXIT_S = 1.0
SECOND_S = 0.2
"""The second worker is started so much later, and stands by."""
QUIET_S = 1.0
ENOUGH_S = 2.5
"""So long after the last trouble whatever can be over is over, if the exchange need not close first."""


@dataclass(slots=True)
class Played:
    schedule: Schedule
    digest: str
    """Of the journal, the broker's ledger and the alarms, with their times."""
    broken: str | None
    """The promise that was not kept, and how; None: all were."""
    struck: list[str]
    """The troubles that met somebody, in order."""
    points: Counter[str] = field(default_factory=Counter)
    """How often each fault point was reached."""
    story: list[str] = field(default_factory=list)
    """Everything that happened, if it was asked for."""
    steps: int = 0


class _KeptInMemory:
    """`KeptText` of a machine."""

    def __init__(self) -> None:
        self._text: str | None = None

    def read(self) -> str | None:
        return self._text

    def write(self, text: str) -> None:
        self._text = text


class _Day(World):
    """The world of one schedule."""

    loop: SeededLoop

    def __init__(self, schedule: Schedule) -> None:
        dice = Random(f"{schedule.seed} as it happens")
        loop = SeededLoop(BEGIN, dice, late_s=schedule.late_s)
        super().__init__(
            loop=loop,
            latency_s=0.01,
            quarantine_s=QUARANTINE_S,
            request_timeout_s=REQUEST_S,
            position_lag_s=schedule.position_lag_s,
            replace_exit_after_s=REPLACE_EXIT_S,
            idempotency=schedule.idempotency,
            shares_database=schedule.two_machines,
        )
        self.random = dice
        self.dice = dice.random
        self.schedule = schedule
        self.clock_memory = _KeptInMemory()
        self.lease_ttl_s = TTL_S if schedule.two_machines else None
        self.venue.positions_lag_s = schedule.position_lag_s * 0.8
        self.venue.wire_s = self._wire_s
        first = Machine("m1")
        second = Machine("m2") if schedule.two_machines else first
        self.machines = [first] if schedule.setting is Setting.ONE else [first, second]
        self.workers: list[Process | None] = [None] * len(self.machines)
        self.back_s = [0.0, SECOND_S][: len(self.machines)]
        """When each worker, dead now, is started."""
        self.of_workers = [
            [one for one in schedule.troubles if one.what in OF_A_PROCESS and one.number == place]
            for place in range(len(self.machines))
        ]
        self.struck: list[str] = []
        self.told: list[tuple[float, str]] = []
        self.reached: Counter[str] = Counter()
        self.wires: list[Trouble] = []
        self.lost_spool = False
        """A machine lost its power with something in its spool that SQL did not know yet."""
        self.started_s: list[float] = []
        """When workers were started."""
        self.sold_outside_s: float | None = None
        """When the user sold by hand."""
        self.late_ticks_s = 0.0

    @property
    def now_s(self) -> float:
        return self.loop.time()

    def note(self, text: str) -> None:
        self.struck.append(text)
        self.told.append((self.now_s, text))

    # ------------------------------------------------------------------ workers

    def start_workers(self) -> None:
        """Whoever is dead and due is started, as a supervisor does."""
        for place, machine in enumerate(self.machines):
            worker = self.workers[place]
            if worker is not None and worker.alive:
                continue
            if worker is not None and self.back_s[place] <= 0:  # it ended by itself
                self.back_s[place] = self.now_s + 0.5
            if self.now_s >= self.back_s[place]:
                self._start(place, machine)

    def _start(self, place: int, machine: Machine) -> None:
        name = f"worker {place + 1} ({len(self.processes) + 1})"
        points = Suffering(
            self.of_workers[place],
            dice=self.random,
            now_s=self.loop.time,
            strike=self._strike,
            reached=self._reach,
        )
        process = Process(self, machine, points=points, name=name)
        points.process = process
        assert process.lane is not None
        if any(one.where is Where.STEP for one in self.of_workers[place]):
            process.lane.before_step = points.before_step
        self.processes.append(process)
        self.workers[place] = self.process = process
        self.back_s[place] = 0.0
        self.told.append((self.now_s, f"{name} starts"))
        self.started_s.append(self.now_s)
        process.begin()

    def _reach(self, point: str) -> None:
        self.reached[point] += 1

    def _strike(self, process: Process, trouble: Trouble, where: str) -> None:
        self.note(f"{process.name}: {trouble.what} at {where}")
        place = self.workers.index(process)
        if trouble.what is What.PAUSE:
            assert process.lane is not None
            self.loop.stand(process.lane, trouble.seconds)
        elif trouble.what in (What.KILL, What.REBOOT):
            machine = self.machines[place]
            ends = [process] if trouble.what is What.KILL else [p for p in self.living if p.machine is machine]
            for one in ends:
                one.die()
                self.back_s[self.workers.index(one)] = self.now_s + trouble.seconds
            if trouble.what is What.REBOOT:
                self._lose_power(machine)

    def _lose_power(self, machine: Machine) -> None:
        machine.boot = f"b{int(machine.boot[1:]) + 1}"
        if machine.spool.records:
            self.lost_spool = True
            del machine.spool.records[self.random.randrange(len(machine.spool.records) + 1) :]

    def end_all(self) -> None:
        for process in self.living:
            process.die()

    # ------------------------------------------------------------------ troubles of the world

    def _wire_s(self, order: Order) -> float:
        for trouble in self.wires:
            if trouble.detail == order.client_order_id[12:13]:
                self.wires.remove(trouble)
                self.note(f"{order.client_order_id} is {trouble.seconds:g} s under way")
                return trouble.seconds
        return 0.0

    def trouble(self, one: Trouble) -> None:
        """It begins, and ends by itself."""
        match one.what:
            case What.REDIS_FLUSH:
                self.redis.flush()
            case What.REDIS_RESTART:
                self.redis.restart()
            case What.REDIS_OLDER:
                replica = self.redis.snapshot()
                self.later(one.seconds, self.redis.fail_over, replica)
            case What.REDIS_DOWN:
                self._for_a_while(self.redis, "is_up", False, True, one.seconds)
            case What.REDIS_SILENT:
                self._for_a_while(self.redis, "loses_replies", True, False, one.seconds)
            case What.SQL_DOWN:
                self._for_a_while(self, "sql_down", True, False, one.seconds)
            case What.FEED_DEAD:
                self._for_a_while(self, "feed_dead", True, False, one.seconds)
            case What.FEED_LATE:
                self._for_a_while(self, "late_ticks_s", min(one.seconds, 0.5), 0.0, one.seconds)
            case What.FEED_DROP:
                for process in self.living:
                    process.feed.drop()
            case What.NEWS:
                self._for_a_while(self.venue, "push", one.detail, "once", one.seconds)
            case What.UNANSWERED:
                self._for_a_while(self.venue, f"{one.detail}_down", True, False, one.seconds)
            case What.CANCELS_LOST:
                self.venue.cancels_lost = one.number
            case What.FILL_ON_CANCEL:
                self._for_a_while(self.venue, "fill_on_cancel", True, False, 3.0)
            case What.NEVER_SENT:
                self.venue.never_sent = one.number
            case What.ORDER:
                self.venue.add(_mischief(one))
            case What.ORDER_LATE:
                self.wires.append(one)
            case What.CLOCK:
                self.wall_ahead_s += one.seconds
            case What.WISH:
                self.wish(Event(one.detail), one.number)
            case What.KILL_SWITCH:
                self._press()
            case What.SALE_OUTSIDE:
                self._sell_outside()
        self.note(str(one))

    def _for_a_while(self, thing: Any, name: str, now: object, then: object, seconds: float) -> None:
        setattr(thing, name, now)
        self.later(seconds, setattr, thing, name, then)

    def _press(self) -> None:
        self.brake.press(Level.SQUARE_OFF, reason="the test", by="ann", at=self.now)

    def _sell_outside(self) -> None:
        held = self.net
        if held > 0:
            self.sold_outside_s = self.now_s
            self.user_sells(int(held))

    def calm(self) -> None:
        """Nothing goes wrong any more, and whoever was down comes back."""
        self.note("calm from here")
        self.redis.is_up, self.redis.loses_replies = True, False
        self.sql_down = self.feed_dead = False
        self.late_ticks_s = 0.0
        venue = self.venue
        venue.script.clear()
        venue.never_sent = venue.cancels_lost = 0
        venue.push = "once"
        venue.fill_on_cancel = venue.find_down = venue.orders_down = venue.positions_down = False
        self.wires.clear()
        for troubles in self.of_workers:
            troubles.clear()
        self.back_s = [min(back_s, self.now_s) for back_s in self.back_s]

    # ------------------------------------------------------------------ prices

    def show(self, tick: Tick) -> None:
        """One trade at the exchange: it fills what rests, and the feed tells it."""
        self.prices[tick.symbol] = tick.price
        self.last_trades[tick.symbol] = tick
        if self.late_ticks_s:
            self.later(self.random.random() * self.late_ticks_s, self.odd_tick, tick)
        else:
            self.odd_tick(tick)
        for report in self.book.on_tick(tick):
            self.venue.tell(report)


def _mischief(one: Trouble) -> Mischief:
    slot, kind, *rests = one.detail.split()
    assert slot in ("E", "X")
    named = Kind(kind)
    return Mischief(
        kind=named,
        slot="E" if slot == "E" else "X",
        times=one.number,
        seconds=None if named is Kind.PLACED_BUT_NO_ANSWER else min(one.seconds, QUARANTINE_S * 0.9),
        permanent=False,
        qty=Decimal(1),
        cancel_rest=not rests,
    )


# ---------------------------------------------------------------------- playing


def play(schedule: Schedule, *, with_story: bool = False) -> Played:
    day = _Day(schedule)
    promises = Promises(day)
    broken: str | None = None
    gc_was_on = gc.isenabled()
    gc.disable()  # a cycle that is freed in the middle of a day would run the clean-up of the dead
    try:
        _run(day, promises)
    except AssertionError as error:
        broken = str(error)
    digest = _digest(day)
    story = _story(day) if with_story or broken is not None else []
    _bury(day)
    if gc_was_on:
        gc.enable()
    return Played(
        schedule=schedule,
        digest=digest,
        broken=broken,
        struck=day.struck,
        points=day.reached,
        story=story,
        steps=day.loop.steps,
    )


def _run(day: _Day, promises: Promises) -> None:
    schedule, loop = day.schedule, day.loop
    events: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
    for at_s, symbol, price in schedule.prices:
        events.append((at_s, 2, day.show, (Tick(symbol, price, instant(at_s)),)))
    for plan, at_s in zip(schedule.plans, schedule.starts_s, strict=True):
        events.append((at_s, 0, _start, (day, plan)))
    for one in schedule.troubles:
        if one.what not in OF_A_PROCESS:
            events.append((one.at_s, 1, day.trouble, (one,)))
    events.append((CALM_S, 1, day.calm, ()))
    events.sort(key=lambda event: event[:2])
    over_at_s = CALM_S + ENOUGH_S
    for at_s, _, what, given in events:
        loop.advance_to(instant(at_s))
        day.start_workers()
        what(*given)
        loop.drain()
        promises.watch()
        if at_s >= over_at_s and what == day.show:
            if promises.is_over():
                break
            over_at_s += 1.0
    loop.advance_to(loop.now() + timedelta(seconds=QUIET_S))  # what began with the last tick is written down
    promises.at_the_end()


def _start(day: _Day, plan: Any) -> None:
    day.plans[plan.strategy_id] = plan
    day.wish(Event.START, plan.strategy_id)


def _digest(day: _Day) -> str:
    told = hashlib.blake2b(digest_size=16)
    for entry in day.records.entries:
        data = sorted((key, str(value)) for key, value in entry.data.items())
        told.update(f"{entry.at} {entry.kind} {entry.run_id} {entry.engine} {entry.text} {data}\n".encode())
    for record in day.ledger:
        told.update(f"{record}\n".encode())
    for alert in day.alerts:
        told.update(f"{alert}\n".encode())
    return told.hexdigest()


def _story(day: _Day) -> list[str]:
    begin = day.schedule.plans[0].buy_at - timedelta(days=1)
    lines: list[tuple[float, int, str]] = []
    for entry in day.records.entries:
        at_s = (entry.at - BEGIN).total_seconds()
        run = "" if entry.run_id is None else f"run {entry.run_id}: "
        lines.append((at_s, 2, f"{entry.kind:<10} {run}{entry.text}"))
    for record in day.ledger:
        at_s = (getattr(record, "at", begin) - BEGIN).total_seconds()
        lines.append((at_s, 1, f"BROKER     {_of_record(record)}"))
    for at_s, text in day.told:
        lines.append((at_s, 0, f"TROUBLE    {text}"))
    return [f"{at_s:8.3f}  {text}" for at_s, _, text in sorted(lines, key=lambda line: line[:2])]


def _of_record(record: Any) -> str:
    order = getattr(record, "order", None)
    if order is not None:
        return f"{type(record).__name__} {order.side} {order.qty:f} {order.symbol} ({order.client_order_id})"
    return str(record)


def _bury(day: _Day) -> None:
    """What is left of dead processes is taken apart here, where it can do nothing any more."""
    day.end_all()
    for task in asyncio.all_tasks(day.loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        with suppress(BaseException):
            task.get_coro().close()
    day.loop.set_exception_handler(lambda loop, context: None)
    day.loop.close()
