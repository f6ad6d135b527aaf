"""What a worker counts: how long a stop-loss took, how late a timer was, what became of orders.

A plain data structure: it reads no clock and does no I/O. `METRICS` says what each figure means; a snapshot is a plain
dict, which is all that leaves the process. On the way of an order a dict gets one entry, and nothing else is done.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from squareoff.core.board import Board
from squareoff.core.events import Event
from squareoff.core.machine import FINAL, State
from squareoff.core.orders import AttemptPhase
from squareoff.core.outcomes import Answered, GateSaidNo, Limited, NotSent, Refused, Sent, Unknown
from squareoff.core.run import Run
from squareoff.core.types import ClientOrderId, Exposure, RunId, Side

BOUNDS_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the buckets of every histogram, seconds; a last bucket takes what is above."""

OUTCOMES: Mapping[type[Sent], str] = {
    Answered: "answered",
    Refused: "refused",
    Unknown: "unknown",
    NotSent: "never_sent",
    Limited: "limited",
    GateSaidNo: "gate_closed",
}
LOOKS: Mapping[bool | None, str] = {True: "found", False: "not_seen", None: "no_answer"}
"""What a look-up of an order came to."""


class Kind(StrEnum):
    COUNTER = "counter"
    """Only grows, from 0 at the start of the process."""
    GAUGE = "gauge"
    """As it is at this moment."""
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels`: their names. `known`: label values that are told from the start, with 0."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()
    known: tuple[tuple[str, ...], ...] = ()


_SIDES = tuple((str(side),) for side in Side)
_ORDERS = tuple((str(side), outcome) for side in Side for outcome in OUTCOMES.values())

TICK_TO_ORDER = Metric(
    "squareoff_tick_to_order_seconds",
    Kind.HISTOGRAM,
    "From a tick that trips the stop-loss of a position to the moment its SELL is written, seconds",
)
TIMER_LATENESS = Metric(
    "squareoff_timer_lateness_seconds",
    Kind.HISTOGRAM,
    "From BUY or SELL time to the moment it is handled, real seconds",
    ("event",),
    _SIDES,
)
ORDER_TO_ANSWER = Metric(
    "squareoff_order_to_answer_seconds",
    Kind.HISTOGRAM,
    "From the write of an order to the broker's answer or the time-out, seconds",
)
RUNS = Metric(
    "squareoff_runs", Kind.GAUGE, "Runs that are not archived, by state, runs", ("state",), tuple((s,) for s in State)
)
EXPOSURE = Metric(
    "squareoff_runs_by_exposure",
    Kind.GAUGE,
    "Runs that are not archived, by what they may hold, runs",
    ("exposure",),
    tuple((e,) for e in Exposure),
)
ORDERS = Metric(
    "squareoff_orders_total", Kind.COUNTER, "Sends by what became of them, orders", ("side", "outcome"), _ORDERS
)
UNKNOWN = Metric("squareoff_orders_unknown", Kind.GAUGE, "Orders of which nobody knows whether they are live, orders")
LOOK_UPS = Metric(
    "squareoff_look_ups_total",
    Kind.COUNTER,
    "Questions to the broker about such an order, look-ups",
    ("outcome",),
    tuple((look,) for look in LOOKS.values()),
)
ORDERS_LAST_SECOND = Metric("squareoff_orders_last_second", Kind.GAUGE, "Orders written in the last second, orders")
ORDERS_LIMIT = Metric(
    "squareoff_orders_per_second_limit",
    Kind.GAUGE,
    "The venue's limit for the account, orders per second; absent where there is none",
)
BUDGET_WAITED = Metric(
    "squareoff_rate_budget_waited_seconds_total", Kind.COUNTER, "Orders waited for the venue's limit, seconds"
)
QUEUE = Metric(
    "squareoff_queue_entries",
    Kind.GAUGE,
    "What waits: journal lines not durable, events of runs, shows in Redis and SQL after orders, log lines, entries",
    ("queue",),
    (("journal",), ("events",), ("shows",), ("log",)),
)
TICKS = Metric("squareoff_ticks_total", Kind.COUNTER, "Ticks that came, ticks")
IGNORED = Metric(
    "squareoff_ticks_ignored_total", Kind.COUNTER, "Ticks that decided nothing, by reason, ticks", ("reason",)
)
FEED_AGE = Metric(
    "squareoff_feed_age_seconds",
    Kind.GAUGE,
    "Since the last sign of life of the price feed, or since none was needed, seconds",
)
ALERTS = Metric(
    "squareoff_alerts_total",
    Kind.COUNTER,
    "What a person was told, by severity, alerts",
    ("severity",),
    (("info",), ("warning",), ("urgent",)),
)
LOG_LOST = Metric("squareoff_log_lines_dropped_total", Kind.COUNTER, "Lines that the log did not take, lines")
ENTRIES_ALLOWED = Metric(
    "squareoff_entries_allowed", Kind.GAUGE, "1 while squareoff lets new BUYs through, 0 while something is in the way"
)
RECOVERED = Metric("squareoff_recovered", Kind.GAUGE, "1 once recovery after the start is done, 0 before")

METRICS: tuple[Metric, ...] = (
    TICK_TO_ORDER, TIMER_LATENESS, ORDER_TO_ANSWER, RUNS, EXPOSURE, ORDERS, UNKNOWN, LOOK_UPS, ORDERS_LAST_SECOND,
    ORDERS_LIMIT, BUDGET_WAITED, QUEUE, TICKS, IGNORED, FEED_AGE, ALERTS, LOG_LOST, ENTRIES_ALLOWED, RECOVERED,
)  # fmt: skip


class Histogram:
    """How often a value fell into each bucket, and the sum of all."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(BOUNDS_S, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class Figures:
    """Everything one worker counts. It is told what happens (`ports.Meter`) and, before a snapshot, how things are."""

    def __init__(self) -> None:
        self._values: dict[str, dict[tuple[str, ...], float]] = {
            metric.name: dict.fromkeys(metric.known or ((),) * (not metric.labels), 0.0)
            for metric in METRICS
            if metric.kind is Kind.COUNTER
        }
        self._histograms: dict[str, dict[tuple[str, ...], Histogram]] = {
            metric.name: {labels: Histogram() for labels in metric.known or ((),)}
            for metric in METRICS
            if metric.kind is Kind.HISTOGRAM
        }
        self._tripped_s: dict[RunId, float] = {}
        """When the tick came that tripped the stop-loss of a position, until its SELL is over."""
        self._asked: set[ClientOrderId] = set()
        """Orders whose answer is waited for."""
        self._left_s: dict[ClientOrderId, float] = {}
        """When each of them was written."""
        self._written_s: list[float] = []

    # ------------------------------------------------------------------ what happens: ports.Meter

    def stop_trips(self, run_id: RunId, at_s: float) -> None:
        self._tripped_s[run_id] = at_s

    def order_asked(self, order: ClientOrderId) -> None:
        self._asked.add(order)

    def order_leaves(self, order: ClientOrderId, at_s: float) -> None:
        self._left_s[order] = at_s

    def order_over(self, order: ClientOrderId) -> None:
        self._asked.discard(order)

    def order_answered(self, run_id: RunId, side: Side, order: ClientOrderId, sent: Sent, at_s: float) -> None:
        self.count(ORDERS, side, OUTCOMES[type(sent)])
        left_s = self._left_s.pop(order, None)
        if left_s is None:
            return
        self._written_s.append(left_s)
        self._add(ORDER_TO_ANSWER, at_s - left_s)
        if side is Side.SELL and (tripped_s := self._tripped_s.pop(run_id, None)) is not None:
            self._add(TICK_TO_ORDER, left_s - tripped_s)

    def timer_handled(self, event: Event, late_s: float) -> None:
        self._add(TIMER_LATENESS, max(late_s, 0.0), event)

    def budget_waits(self, seconds: float) -> None:
        self.count(BUDGET_WAITED, by=seconds)

    def looked_up(self, found: bool | None) -> None:
        self.count(LOOK_UPS, LOOKS[found])

    # ------------------------------------------------------------------ how things are

    def count(self, metric: Metric, *labels: str, by: float = 1.0) -> None:
        values = self._values[metric.name]
        values[labels] = values.get(labels, 0.0) + by

    def put(self, metric: Metric, values: Mapping[tuple[str, ...], float]) -> None:
        """The figure as somebody else keeps it."""
        self._values[metric.name] = {**dict.fromkeys(metric.known, 0.0), **values}

    def put_one(self, metric: Metric, value: float | None) -> None:
        """None: there is no such figure."""
        self._values[metric.name] = {} if value is None else {(): value}

    def look_at(self, board: Board, now_s: float) -> None:
        """What can be told of orders at this moment. `now_s`: monotonic seconds."""
        self._written_s = [left_s for left_s in self._written_s if now_s - left_s < 1]
        on_their_way = sum(1 for left_s in self._left_s.values() if now_s - left_s < 1)
        self.put_one(ORDERS_LAST_SECOND, len(self._written_s) + on_their_way)
        for run_id in tuple(self._tripped_s):
            run = board.runs.get(run_id)
            if run is None or run.state in FINAL:
                del self._tripped_s[run_id]  # it was tripped and needed no SELL

    @property
    def asked(self) -> frozenset[ClientOrderId]:
        """Orders that are on their way: their answer may still come."""
        return frozenset(self._asked)

    def snapshot(self) -> dict[str, Any]:
        """Values of JSON, by the metric's name: `[[label values, value], ...]`. A histogram's value has the counts of
        its buckets, not added up, and their bounds in seconds."""
        told: dict[str, Any] = {
            name: [[list(labels), value] for labels, value in values.items()] for name, values in self._values.items()
        }
        for name, histograms in self._histograms.items():
            told[name] = [
                [list(labels), {"bounds": list(BOUNDS_S), "counts": list(each.counts), "sum": each.sum}]
                for labels, each in histograms.items()
            ]
        return told

    def histogram(self, metric: Metric, *labels: str) -> Histogram:
        return self._histograms[metric.name][labels]

    def value(self, metric: Metric, *labels: str) -> float:
        return self._values[metric.name][labels]

    def _add(self, metric: Metric, value: float, *labels: str) -> None:
        self._histograms[metric.name][labels].add(value)


def of_runs(runs: Iterable[Run], asked: Container[ClientOrderId]) -> dict[str, Any]:
    """Runs by state and exposure, and the orders whose outcome nobody knows; in the shape of a snapshot. `asked`: the
    orders that are on their way, which are no unknown outcomes.

    It looks at every run: with ten thousand of them for a thread, not for the loop."""
    states, exposures, unknown = Counter[str](), Counter[str](), 0
    for run in runs:
        states[run.state] += 1
        exposures[run.exposure] += 1
        for slot in (run.entry, run.exit):
            for attempt in slot.attempts:
                if attempt.phase is AttemptPhase.UNKNOWN and attempt.client_order_id not in asked:
                    unknown += 1
    return {
        RUNS.name: [[[state], states[state]] for state in State],
        EXPOSURE.name: [[[exposure], exposures[exposure]] for exposure in Exposure],
        UNKNOWN.name: [[[], unknown]],
    }


class Unmetered:
    """`ports.Meter` for those who count nothing: tests, replay, simulation."""

    def stop_trips(self, run_id: RunId, at_s: float) -> None:
        pass

    def order_asked(self, order: ClientOrderId) -> None:
        pass

    def order_leaves(self, order: ClientOrderId, at_s: float) -> None:
        pass

    def order_over(self, order: ClientOrderId) -> None:
        pass

    def order_answered(self, run_id: RunId, side: Side, order: ClientOrderId, sent: Sent, at_s: float) -> None:
        pass

    def timer_handled(self, event: Event, late_s: float) -> None:
        pass

    def budget_waits(self, seconds: float) -> None:
        pass

    def looked_up(self, found: bool | None) -> None:
        pass


UNMETERED = Unmetered()
