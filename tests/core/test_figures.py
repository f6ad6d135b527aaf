"""What a worker counts."""

from __future__ import annotations

import json

import pytest

from squareoff.core import figures
from squareoff.core.board import Board
from squareoff.core.events import Event
from squareoff.core.figures import BOUNDS_S, METRICS, Figures, Histogram, Kind, of_runs
from squareoff.core.outcomes import GateSaidNo, Limited, Unknown
from squareoff.core.types import ClientOrderId, RunId, Side

ORDER = ClientOrderId("SQABCDEFGHIJX01")
RUN = RunId(7)


def test_a_value_falls_into_the_bucket_whose_bound_it_does_not_exceed() -> None:
    histogram = Histogram()
    for value in (0.0, 0.0001, 0.00011, 30.0, 31.0):
        histogram.add(value)
    assert histogram.counts == [2, 1, *[0] * (len(BOUNDS_S) - 3), 1, 1]
    assert histogram.sum == pytest.approx(61.00021)


def test_a_stop_loss_is_timed_from_its_tick_to_the_write_of_its_order() -> None:
    told = Figures()
    told.stop_trips(RUN, 10.0)
    told.order_asked(ORDER)
    told.order_leaves(ORDER, 10.003)
    told.order_answered(RUN, Side.SELL, ORDER, Unknown("no answer"), 13.003)
    assert told.histogram(figures.TICK_TO_ORDER).sum == pytest.approx(0.003)
    assert told.histogram(figures.ORDER_TO_ANSWER).sum == pytest.approx(3.0)
    assert told.value(figures.ORDERS, "SELL", "unknown") == 1


def test_an_order_that_never_left_is_no_sample_and_the_next_try_is() -> None:
    told = Figures()
    told.stop_trips(RUN, 10.0)
    told.order_asked(ORDER)
    told.order_answered(RUN, Side.SELL, ORDER, GateSaidNo("not ours"), 10.1)
    assert told.histogram(figures.TICK_TO_ORDER).count == 0
    told.order_asked(ORDER)
    told.order_leaves(ORDER, 11.0)
    told.order_answered(RUN, Side.SELL, ORDER, Limited(1.0), 11.1)
    assert told.histogram(figures.TICK_TO_ORDER).sum == pytest.approx(1.0)
    assert told.value(figures.ORDERS, "SELL", "gate_closed") == told.value(figures.ORDERS, "SELL", "limited") == 1


def test_one_stop_loss_is_one_sample_whatever_is_sent_after_it() -> None:
    told = Figures()
    told.stop_trips(RUN, 10.0)
    for left_s in (10.1, 20.0):
        told.order_leaves(ORDER, left_s)
        told.order_answered(RUN, Side.SELL, ORDER, Unknown("no answer"), left_s + 1)
    assert told.histogram(figures.TICK_TO_ORDER).count == 1


def test_a_timer_that_is_early_by_the_clock_counts_as_punctual() -> None:
    told = Figures()
    told.timer_handled(Event.SELL, -0.001)
    assert told.histogram(figures.TIMER_LATENESS, "SELL").sum == 0


def test_orders_of_the_last_second_are_those_written_in_it_answered_or_not() -> None:
    told = Figures()
    for number, left_s in enumerate((1.0, 1.9, 2.1)):
        order = ClientOrderId(f"SQABCDEFGHIJX0{number}")
        told.order_leaves(order, left_s)
        if number < 2:
            told.order_answered(RUN, Side.BUY, order, Unknown("no answer"), left_s + 0.1)
    told.look_at(Board(), 2.5)
    assert told.value(figures.ORDERS_LAST_SECOND) == 2


def test_a_stop_loss_of_a_run_that_is_gone_is_forgotten() -> None:
    told = Figures()
    told.stop_trips(RUN, 10.0)
    told.look_at(Board(), 11.0)
    told.order_leaves(ORDER, 500.0)
    told.order_answered(RUN, Side.SELL, ORDER, Unknown("no answer"), 501.0)
    assert told.histogram(figures.TICK_TO_ORDER).count == 0


def test_every_metric_has_a_name_with_its_unit_last_and_tells_it() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("squareoff_")
        assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
        if metric.kind is Kind.HISTOGRAM:
            assert metric.name.endswith("_seconds")


def test_a_snapshot_is_plain_json_that_starts_at_zero() -> None:
    told = json.loads(json.dumps({**Figures().snapshot(), **of_runs([], ())}))
    assert told[figures.ORDERS.name][0] == [["BUY", "answered"], 0.0]
    assert told[figures.UNKNOWN.name] == [[[], 0]]
    assert sum(value for _, value in told[figures.RUNS.name]) == 0
