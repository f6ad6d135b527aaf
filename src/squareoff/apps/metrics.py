"""What the workers of a data folder tell of themselves, in the text format of Prometheus.

Each worker writes `metrics-ACCOUNT.json` into the run folder once a second; whoever serves `GET /metrics` calls
`render`. Nothing of a file is believed but figures of the metrics that are known (`squareoff.core.figures`).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from squareoff.core.figures import METRICS, Kind, Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BYTES_MAX = 262_144
"""A snapshot has some 6,000."""
FILES_MAX = 200
ROWS_MAX = 200
LETTERS_MAX = 100
"""Of one label value."""
VERSION = 1

AGE = "squareoff_worker_snapshot_age_seconds"
AGE_MEANING = "Since the worker last told its figures: it does so each second, so one that is older hangs or is dead"
IGNORED = "squareoff_worker_snapshots_ignored"
IGNORED_MEANING = "Files of figures in the run folder that cannot be read, files"

Row = tuple[tuple[str, ...], Any]
_Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


class BadSnapshot(Exception):
    """A file that no worker of this version writes."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one worker told. `metrics`: rows of label values and a value, by the metric's name."""

    account: str
    age_s: float
    document: dict[str, Any]
    metrics: dict[str, list[Row]]


def render(folder: Path) -> bytes:
    """The figures of every worker that told some in `folder`, the run folder of a data folder."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WorkerMetrics(folder))
    return generate_latest(registry)


def read_snapshots(folder: Path) -> tuple[list[Snapshot], int]:
    """What the workers told last, by account, and how many files could not be read."""
    found: list[Snapshot] = []
    bad = 0
    paths = sorted(folder.glob("metrics-*.json"))
    for path in paths[:FILES_MAX]:
        try:
            found.append(_read(path))
        except FileNotFoundError:
            continue  # its worker has just ended in order
        except (OSError, ValueError, OverflowError, RecursionError, BadSnapshot):
            bad += 1
    return found, bad + len(paths[FILES_MAX:])


class WorkerMetrics(Collector):
    """For a registry: reads the files whenever it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def describe(self) -> list[_Family]:
        """Nothing is read to be registered."""
        return []

    def collect(self) -> Iterator[_Family]:
        snapshots, bad = read_snapshots(self._folder)
        age = GaugeMetricFamily(AGE, AGE_MEANING, labels=("account",))
        for each in snapshots:
            age.add_metric((each.account,), each.age_s)
        yield age
        yield GaugeMetricFamily(IGNORED, IGNORED_MEANING, value=bad)
        for metric in METRICS:
            yield _family(metric, snapshots)


def _family(metric: Metric, snapshots: Sequence[Snapshot]) -> _Family:
    names = ("account", *metric.labels)
    family: _Family
    if metric.kind is Kind.HISTOGRAM:
        family = HistogramMetricFamily(metric.name, metric.meaning, labels=names)
    elif metric.kind is Kind.COUNTER:
        family = CounterMetricFamily(metric.name, metric.meaning, labels=names)
    else:
        family = GaugeMetricFamily(metric.name, metric.meaning, labels=names)
    for snapshot in snapshots:
        for labels, value in snapshot.metrics.get(metric.name, ()):
            if isinstance(family, HistogramMetricFamily):
                buckets, total = value
                family.add_metric((snapshot.account, *labels), buckets, total)
            else:
                family.add_metric((snapshot.account, *labels), value)
    return family


# ------------------------------------------------------------------ one file


def _read(path: Path) -> Snapshot:
    with path.open("rb") as file:
        content = file.read(BYTES_MAX + 1)
        written_s = path.stat().st_mtime
    if len(content) > BYTES_MAX:
        raise BadSnapshot("too long")
    document = json.loads(content)
    if not isinstance(document, dict) or document.get("version") != VERSION:
        raise BadSnapshot("not a snapshot of this version")
    account, metrics = document.get("account"), document.get("metrics")
    if not isinstance(account, str) or path.name != f"metrics-{account}.json" or not isinstance(metrics, dict):
        raise BadSnapshot("not the account's")
    rows = {metric.name: list(_rows(metric, metrics.get(metric.name, []))) for metric in METRICS}
    return Snapshot(account, max(time.time() - written_s, 0.0), document, rows)


def _rows(metric: Metric, told: Any) -> Iterator[Row]:
    if not isinstance(told, list) or len(told) > ROWS_MAX:
        raise BadSnapshot(metric.name)
    seen: set[tuple[str, ...]] = set()
    for row in told:
        if not (isinstance(row, list) and len(row) == 2 and isinstance(row[0], list)):
            raise BadSnapshot(metric.name)
        labels = tuple(row[0])
        if len(labels) != len(metric.labels) or not all(map(_is_label, labels)) or labels in seen:
            raise BadSnapshot(metric.name)
        seen.add(labels)
        yield labels, _histogram(row[1]) if metric.kind is Kind.HISTOGRAM else _number(row[1])


def _is_label(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LETTERS_MAX and value.isprintable()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadSnapshot("not a number")
    return float(value)


def _histogram(value: Any) -> tuple[list[tuple[str, float]], float]:
    """Buckets as Prometheus wants them, each with all below it, and the sum."""
    if not isinstance(value, dict) or not isinstance(value.get("bounds"), list) or len(value["bounds"]) > ROWS_MAX:
        raise BadSnapshot("not a histogram")
    bounds, counts = list(map(_number, value["bounds"])), value.get("counts")
    if not isinstance(counts, list) or len(counts) != len(bounds) + 1 or bounds != sorted(set(bounds)):
        raise BadSnapshot("not a histogram")
    sums = list(accumulate(map(_number, counts)))
    if sums != sorted(sums):
        raise BadSnapshot("not a histogram")
    return list(zip([*(f"{bound:g}" for bound in bounds), "+Inf"], sums, strict=True)), _number(value.get("sum"))
