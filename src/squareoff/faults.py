"""Fault points: places with a name where a test may let this process die, stop, fail or be slow.

Every method of every port that reaches out of the process is one, before and after, and so are the two moments around
the send mark and the bytes. Without `SQUAREOFF_FAULT` in the environment nothing is wrapped and nothing is asked.

    SQUAREOFF_FAULT=records.license_entry.after:1:kill
    SQUAREOFF_FAULT="runtime.claim.before:2:delay=1.5;broker.find.before:every:raise"

`point:occurrence:action`, several of them with `;` between. The occurrence counts how often this process came to the
point, from 1; `every` means each time. `squareoff fault-points` lists the points.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, cast

from squareoff import ports
from squareoff.core.bad_input import BadInput
from squareoff.core.types import ClientOrderId
from squareoff.errors import BrokerUnavailable, NeverSent, OutcomeUnknown, RecordsUnavailable, StoreUnavailable

VARIABLE = "SQUAREOFF_FAULT"
SEEN_VARIABLE = "SQUAREOFF_FAULT_SEEN"
"""A file that gets the name of every point when this process first comes to it."""

GATE, MARKED, WRITTEN = "gateway.gate", "gateway.marked", "gateway.written"
"""The last check is about to be made; the send mark is written and no byte is; the bytes are written."""

_PORTS: Mapping[str, type] = {
    "broker": ports.Broker,
    "records": ports.Records,
    "journal": ports.Journal,
    "runtime": ports.RuntimeStore,
    "spool": ports.Spool,
    "lease": ports.Lease,
    "brake": ports.Brake,
    "feed": ports.MarketFeed,
    "quotes": ports.Quotes,
    "planner": ports.Planner,
    "alerts": ports.Alerts,
}
"""All ports but the clock, which is read and never fails, and those between our own movers."""

_T = TypeVar("_T")


class Action(StrEnum):
    KILL = "kill"
    """SIGKILL: no clean-up, no last word."""
    PAUSE = "pause"
    """SIGSTOP: the whole process stands until somebody sends SIGCONT."""
    RAISE = "raise"
    """The port's own error for "no clear answer"; before an order leaves, that it never left."""
    DELAY = "delay"
    """`delay=SECONDS`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    point: str
    occurrence: int | None
    """None: every time."""
    action: Action
    seconds: float = 0.0


def all_points() -> tuple[str, ...]:
    """Every fault point, by the name it is addressed with."""
    around = [f"{port}.{name}" for port, kind in _PORTS.items() for name in _methods(kind)]
    return (*(f"{name}.{when}" for name in around for when in ("before", "after")), GATE, MARKED, WRITTEN)


def read_faults(text: str) -> tuple[Fault, ...]:
    """Raises BadInput, which says how to write it."""
    return tuple(_fault(part.strip()) for part in text.split(";") if part.strip())


def _fault(text: str) -> Fault:
    parts = text.split(":")
    if len(parts) != 3:
        raise BadInput(VARIABLE, f"{text!r} is no fault", "point:occurrence:action, like records.save.after:1:kill")
    point, occurrence, action = parts
    if point not in all_points():
        raise BadInput(VARIABLE, f"{point!r} is no fault point", "`squareoff fault-points` lists them")
    if occurrence != "every" and not (occurrence.isdecimal() and int(occurrence) > 0):
        raise BadInput(VARIABLE, f"{occurrence!r} is no occurrence", "a number from 1, or every")
    word, _, argument = action.partition("=")
    try:
        known, seconds = Action(word), float(argument or 0)
    except ValueError:
        raise BadInput(VARIABLE, f"{action!r} is no action", "kill, pause, raise or delay=SECONDS") from None
    if (known is Action.DELAY) is not bool(argument) or seconds < 0:
        raise BadInput(VARIABLE, f"{action!r} is no action", "kill, pause, raise or delay=SECONDS")
    times = None if occurrence == "every" else int(occurrence)
    return Fault(point=point, occurrence=times, action=known, seconds=seconds)


class FaultPoints:
    """What this process was told to suffer. Without any, `around` hands back what it was given."""

    def __init__(self, faults: Sequence[Fault] = (), *, seen_file: str = "") -> None:
        self._faults, self._seen_file = faults, seen_file
        self._counts: Counter[str] = Counter()

    @classmethod
    def from_environment(cls) -> FaultPoints:
        """Raises BadInput."""
        return cls(read_faults(os.environ.get(VARIABLE, "")), seen_file=os.environ.get(SEEN_VARIABLE, ""))

    @property
    def is_on(self) -> bool:
        return bool(self._faults or self._seen_file)

    def around(self, port: str, thing: _T) -> _T:
        """`thing`, with its fault points if any are wanted. `port`: its name, as in `records.save.before`."""
        return cast("_T", _with_points(self, port, thing)) if self.is_on else thing

    def when_written(self) -> Callable[[], None] | None:
        """What the broker's client calls when an order's bytes are written; None: nobody wants to know."""
        return (lambda: self.reach(WRITTEN)) if self.is_on else None

    def reach(self, point: str, problem: Callable[[], Exception] | None = None) -> None:
        """This process comes to `point`, in code that does not await. `problem` makes the error of RAISE."""
        for fault in self._now(point):
            if fault.action is Action.DELAY:
                time.sleep(fault.seconds)
            else:
                self._suffer(fault, problem)

    async def reach_async(self, point: str, problem: Callable[[], Exception] | None = None) -> None:
        for fault in self._now(point):
            if fault.action is Action.DELAY:
                await asyncio.sleep(fault.seconds)
            else:
                self._suffer(fault, problem)

    def _now(self, point: str) -> Iterator[Fault]:
        self._counts[point] += 1
        if self._seen_file and self._counts[point] == 1:
            with open(self._seen_file, "a", encoding="ascii") as file:
                file.write(f"{point}\n")
        for fault in self._faults:
            if fault.point == point and fault.occurrence in (None, self._counts[point]):
                yield fault

    def _suffer(self, fault: Fault, problem: Callable[[], Exception] | None) -> None:
        if fault.action is Action.RAISE:
            raise (problem or (lambda: OSError(f"fault at {fault.point}")))()
        os.kill(os.getpid(), signal.SIGKILL if fault.action is Action.KILL else signal.SIGSTOP)


# ---------------------------------------------------------------------- wrapping a port


def _methods(kind: type) -> list[str]:
    """The methods a port promises, and the lease's question, which is asked like one."""
    named = [name for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")]
    return [*named, "is_held"] if kind is ports.Lease else named


def _with_points(points: FaultPoints, port: str, thing: Any) -> Any:
    """An object that does what `thing` does, and comes to its points."""
    kind: Any = type(thing)
    made = _kind_with_points(port, kind)()
    made.thing, made.points = thing, points
    return made


@cache
def _kind_with_points(port: str, kind: Any) -> type:
    promised: dict[str, Any] = {}
    for name in _methods(_PORTS[port]):
        if name == "is_held":
            promised[name] = property(_question(f"{port}.{name}", name))
        elif inspect.iscoroutinefunction(getattr(kind, name, None)):
            promised[name] = _waiting(port, name)
        elif name == "updates":
            promised[name] = _stream(f"{port}.{name}", name)
        else:
            promised[name] = _plain(port, name)

    def rest(self: Any, name: str) -> Any:
        return getattr(self.thing, name)

    names = {**promised, "__getattr__": rest, "__slots__": ("points", "thing")}
    return type(f"FaultPointsOf{kind.__name__}", (), names)


def _waiting(port: str, name: str) -> Callable[..., Any]:
    point, before, after = f"{port}.{name}", f"{port}.{name}.before", f"{port}.{name}.after"

    async def method(self: Any, *given: Any, **named: Any) -> Any:
        await self.points.reach_async(before, _problem(port, name, given, sent=False))
        if point == "broker.submit":
            given = (given[0], _gate(self.points, given[1]), *given[2:])
        answer = await getattr(self.thing, name)(*given, **named)
        await self.points.reach_async(after, _problem(port, name, given, sent=True))
        return answer

    return method


def _plain(port: str, name: str) -> Callable[..., Any]:
    before, after = f"{port}.{name}.before", f"{port}.{name}.after"

    def method(self: Any, *given: Any, **named: Any) -> Any:
        self.points.reach(before)
        answer = getattr(self.thing, name)(*given, **named)
        self.points.reach(after)
        return answer

    return method


def _stream(point: str, name: str) -> Callable[..., Any]:
    async def method(self: Any) -> AsyncIterator[Any]:
        points = self.points
        await points.reach_async(f"{point}.before", lambda: BrokerUnavailable(f"fault at {point}"))
        async for each in getattr(self.thing, name)():
            yield each
            await points.reach_async(f"{point}.after", lambda: BrokerUnavailable(f"fault at {point}"))

    return method


def _question(point: str, name: str) -> Callable[[Any], Any]:
    def ask(self: Any) -> Any:
        self.points.reach(f"{point}.before")
        answer = getattr(self.thing, name)
        self.points.reach(f"{point}.after")
        return answer

    return ask


def _gate(points: FaultPoints, gate: ports.Gate) -> ports.Gate:
    def with_points() -> None:
        points.reach(GATE)
        gate()
        points.reach(MARKED)

    return with_points


def _problem(port: str, name: str, given: Sequence[Any], *, sent: bool) -> Callable[[], Exception]:
    """What the port may raise when something goes wrong there and nobody knows more."""
    text = f"fault at {port}.{name}"
    if port == "broker" and name == "submit":
        order: ClientOrderId = given[0].client_order_id
        return lambda: OutcomeUnknown(order, text) if sent else NeverSent(order, text)
    kind: dict[str, type[Exception]] = {"records": RecordsUnavailable, "runtime": StoreUnavailable}
    if port in ("broker", "feed", "quotes"):
        return lambda: BrokerUnavailable(text)
    if port in ("journal", "planner"):
        return lambda: RecordsUnavailable(text)
    return lambda: kind.get(port, OSError)(text)
