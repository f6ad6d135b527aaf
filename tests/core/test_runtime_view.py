"""What others read of a run: every field as it is described, and never a position that is hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

import samples
from samples import CREATED, PLAN, bought, entry_told, fill, ready, running, sold
from squareoff.core.events import Event
from squareoff.core.machine import State
from squareoff.core.run import Run
from squareoff.core.runtime_view import (
    EVENT_FIELDS,
    RUNTIME_FIELDS,
    STRATEGY_FIELDS,
    TIMER_MEANING,
    Field,
    FieldType,
    milliseconds,
    named_timers,
    position_word,
    price_text,
    runtime_view,
    strategy_view,
    text,
)
from squareoff.core.triggers import timers
from squareoff.core.types import OrderStatus, SlotName

RUNS: dict[str, Callable[[], Run]] = {
    "created": lambda: CREATED,
    "ready": ready,
    "running": running,
    "partly filled": lambda: entry_told(running(), OrderStatus.OPEN, fill("20")),
    "waiting for a retry": lambda: replace(running(), retry_at=samples.BUY_AT),
    "bought": bought,
    "sell_pending": samples.sell_pending,
    "sl_pending": samples.sl_pending,
    "stop_pending": samples.stop_pending,
    "sold": sold,
    "exited_by_sl": samples.exited_by_sl,
    "failed": samples.failed,
    "failed holding": samples.failed_holding,
    "failed unknown": samples.failed_unknown,
    "stopped": samples.stopped,
}
every_run = pytest.mark.parametrize("made", RUNS.values(), ids=RUNS)

READERS: dict[FieldType, Callable[[str], object]] = {
    FieldType.TEXT: str,
    FieldType.WORD: str,
    FieldType.INTEGER: int,
    FieldType.DECIMAL: Decimal,
    FieldType.INSTANT: datetime.fromisoformat,
    FieldType.DAY: date.fromisoformat,
    FieldType.FLAG: {"true": True, "false": False}.__getitem__,
}


def is_as_described(fields: tuple[Field, ...], view: dict[str, str]) -> bool:
    described = {field.name: field for field in fields if field.read is not None}
    assert set(view) <= set(described)
    assert {name for name, field in described.items() if not field.optional} <= set(view)
    for name, value in view.items():
        field = described[name]
        assert value
        read = READERS[field.type](value)
        assert not isinstance(read, datetime) or read.utcoffset() == timedelta(0)
        assert field.type is not FieldType.WORD or value in field.values
    return True


@every_run
def test_every_field_is_of_the_type_and_the_words_it_is_described_by(made: Callable[[], Run]) -> None:
    run = made()
    assert is_as_described(RUNTIME_FIELDS, runtime_view(run))
    assert is_as_described(STRATEGY_FIELDS, strategy_view(run))


@pytest.mark.parametrize("fields", [RUNTIME_FIELDS, STRATEGY_FIELDS, EVENT_FIELDS])
def test_no_field_is_described_twice_or_without_a_meaning(fields: tuple[Field, ...]) -> None:
    names = [field.name for field in fields]
    assert len(names) == len(set(names))
    assert all(field.meaning for field in fields)
    assert all(bool(field.values) == (field.type is FieldType.WORD) for field in fields)


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("ready", "none"),
        ("running", "none"),
        ("partly filled", "none"),
        ("bought", "bought"),
        ("sell_pending", "bought"),
        ("sl_pending", "bought"),
        ("stop_pending", "bought"),
        ("sold", "sold"),
        ("exited_by_sl", "exited_by_sl"),
        ("failed", "none"),
        ("failed holding", "bought"),
        ("failed unknown", "none"),
    ],
)
def test_the_position_is_the_specifications_word_for_what_our_fills_prove(name: str, position: str) -> None:
    assert position_word(RUNS[name]()) == position


def test_a_late_fill_after_the_sale_is_shown_as_a_position_again() -> None:
    run = sold()
    bought_more = run.with_slot(SlotName.ENTRY, run.entry.with_current(fills=(fill("50"), fill("10"))))
    assert bought_more.state is State.SOLD
    assert position_word(bought_more) == "bought"


@every_run
def test_the_timers_shown_are_those_that_will_be_asked(made: Callable[[], Run]) -> None:
    """The SELL timer is shown from the start, as the specification says; the engine needs it once bought."""
    run = made()
    shown = named_timers(run)
    asked = {milliseconds(instant) for instant in timers(run)}
    assert set(shown) <= set(TIMER_MEANING)
    if run.state is State.READY:
        assert shown.pop("sell") == milliseconds(PLAN.sell_at)
    assert set(shown.values()) == asked


def test_the_sell_timer_is_canceled_as_soon_as_the_stop_loss_is_pending() -> None:
    assert "sell" in named_timers(bought())
    assert "sell" not in named_timers(samples.after(bought(), Event.STOPLOSS))


def test_a_timer_is_never_shown_early() -> None:
    at = datetime(2026, 7, 13, 3, 50, 5, 1, tzinfo=UTC)
    assert milliseconds(at) == int(datetime(2026, 7, 13, 3, 50, 5, tzinfo=UTC).timestamp() * 1000) + 1


def test_numbers_keep_every_digit_and_never_an_exponent() -> None:
    assert text(Decimal("1E+3")) == "1000"
    assert text(Decimal("0.00000001")) == "0.00000001"
    assert price_text(samples.tick("1540.50")) == "1540.50 2026-07-13T03:50:00+00:00"
    with pytest.raises(TypeError, match="no text form"):
        text(1540.5)
