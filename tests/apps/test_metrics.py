"""The figures of the workers, as Prometheus reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from squareoff.apps import metrics
from squareoff.apps.metrics import BYTES_MAX, read_snapshots, render
from squareoff.core import figures
from squareoff.core.figures import METRICS, Figures, of_runs
from squareoff.core.outcomes import Unknown
from squareoff.core.types import ClientOrderId, RunId, Side


def document(account: str = "paper", told: Figures | None = None) -> dict[str, Any]:
    values = {**(told or Figures()).snapshot(), **of_runs([], ())}
    return {
        "version": metrics.VERSION,
        "account": account,
        "pid": 1,
        "at": "2026-07-13T04:10:00+00:00",
        "metrics": values,
    }


def write(folder: Path, told: Any, account: str = "paper") -> Path:
    file = folder / f"metrics-{account}.json"
    file.write_text(told if isinstance(told, str) else json.dumps(told))
    return file


def samples(folder: Path) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(render(folder).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def ignored(folder: Path) -> float:
    return samples(folder)[metrics.IGNORED, ()]


def test_every_figure_of_every_worker_can_be_read_by_prometheus(tmp_path: Path) -> None:
    told = Figures()
    told.stop_trips(RunId(7), 10.0)
    told.order_leaves(ClientOrderId("SQABCDEFGHIJX01"), 10.003)
    told.order_answered(RunId(7), Side.SELL, ClientOrderId("SQABCDEFGHIJX01"), Unknown("no answer"), 13.0)
    told.put_one(figures.ORDERS_LIMIT, 10)
    write(tmp_path, document("paper", told))
    write(tmp_path, document("second"), "second")
    found = samples(tmp_path)
    mine = ("account", "paper")
    assert found["squareoff_tick_to_order_seconds_bucket", (mine, ("le", "0.0025"))] == 0
    assert found["squareoff_tick_to_order_seconds_bucket", (mine, ("le", "0.005"))] == 1
    assert found["squareoff_tick_to_order_seconds_bucket", (mine, ("le", "+Inf"))] == 1
    assert found["squareoff_tick_to_order_seconds_count", (mine,)] == 1
    assert found["squareoff_orders_total", (mine, ("outcome", "unknown"), ("side", "SELL"))] == 1
    assert found["squareoff_orders_total", (("account", "second"), ("outcome", "unknown"), ("side", "SELL"))] == 0
    assert found["squareoff_orders_per_second_limit", (mine,)] == 10
    assert ("squareoff_orders_per_second_limit", (("account", "second"),)) not in found
    assert found[metrics.AGE, (mine,)] < 60
    assert ignored(tmp_path) == 0


def test_every_figure_has_its_help_and_its_type(tmp_path: Path) -> None:
    write(tmp_path, document())
    text = render(tmp_path).decode()
    for metric in METRICS:
        assert f"# HELP {metric.name} {metric.meaning}\n" in text
        assert f"# TYPE {metric.name} {metric.kind}\n" in text


def test_a_worker_that_is_dead_is_seen_by_the_age_of_its_figures(tmp_path: Path) -> None:
    file = write(tmp_path, document())
    os.utime(file, (time.time() - 3600, time.time() - 3600))
    assert samples(tmp_path)[metrics.AGE, (("account", "paper"),)] == pytest.approx(3600, abs=60)


def test_without_workers_there_is_nothing_to_tell_but_that(tmp_path: Path) -> None:
    assert list(samples(tmp_path / "nowhere")) == [(metrics.IGNORED, ())]


def changed(name: str, rows: Any) -> dict[str, Any]:
    told = document()
    told["metrics"][name] = rows
    return told


@pytest.mark.parametrize(
    "told",
    [
        "",
        "{",
        "[]",
        "[" * 100_000,
        " " * (BYTES_MAX + 1),
        json.dumps(document()).replace('"version": 1', '"version": 2'),
        document("another"),
        {**document(), "metrics": []},
        changed("squareoff_runs", {"bought": 1}),
        changed("squareoff_runs", [[["bought"], "1"]]),
        changed("squareoff_runs", [[["bought"], True]]),
        changed("squareoff_runs", [[["bought", "x"], 1]]),
        changed("squareoff_runs", [[[["bought"]], 1]]),
        changed("squareoff_runs", [[["bought"], 1], [["bought"], 2]]),
        changed("squareoff_runs", [[["x" * 101], 1]]),
        changed("squareoff_runs", [[["a\nb"], 1]]),
        changed("squareoff_runs", [[[str(number)], 1] for number in range(201)]),
        changed("squareoff_runs", [[["bought"], 10**400]]),
        changed("squareoff_runs", [[["bought"], float("nan")]]),
        changed("squareoff_tick_to_order_seconds", [[[], 1]]),
        changed("squareoff_tick_to_order_seconds", [[[], {"bounds": [1, 2], "counts": [0, 0], "sum": 0}]]),
        changed("squareoff_tick_to_order_seconds", [[[], {"bounds": [2, 1], "counts": [0, 0, 0], "sum": 0}]]),
        changed("squareoff_tick_to_order_seconds", [[[], {"bounds": [1, 2], "counts": [0, -1, 0], "sum": 0}]]),
        changed("squareoff_tick_to_order_seconds", [[[], {"bounds": [1, 2], "counts": [0, 0, 0]}]]),
    ],
)
def test_a_file_that_no_worker_writes_is_counted_and_the_others_are_told(tmp_path: Path, told: Any) -> None:
    write(tmp_path, told)
    write(tmp_path, document("second"), "second")
    assert ignored(tmp_path) == 1
    assert [each.account for each in read_snapshots(tmp_path)[0]] == ["second"]


def test_metrics_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, changed("python_info", [[[], 1]]))
    assert "python_info" not in render(tmp_path).decode()
    assert ignored(tmp_path) == 0


def test_the_command_prints_the_same_and_json_for_who_wants_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    write(run, document())
    write(run, "{", "broken")

    def said(*more: str) -> str:
        command = [sys.executable, "-m", "squareoff", "--data", str(tmp_path), "metrics", *more]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert 'squareoff_runs{account="paper",state="bought"} 0.0' in said()
    shown = json.loads(said("--json"))
    assert [each["account"] for each in shown["workers"]] == ["paper"]
    assert shown["ignored"] == 1
