"""What others may read of a run in Redis: every field with its type and its meaning, and the run as that text.

The lists below are data: the JSON Schema and the page on the runtime store are generated from them. A field whose
value is not known is absent, never empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from squareoff.core.events import Cause, Event
from squareoff.core.machine import EXIT_OPEN, State
from squareoff.core.orders import SlotPhase
from squareoff.core.run import Run
from squareoff.core.strategy import StopLossKind
from squareoff.core.triggers import MICROSECOND, entry_open_until, timers, watched_until
from squareoff.core.types import Exposure, Product, StrategyId, Symbol, Tick


class FieldType(StrEnum):
    TEXT = "text"
    WORD = "word"
    """One of the field's `values`."""
    INTEGER = "integer"
    DECIMAL = "decimal"
    INSTANT = "instant"
    """ISO 8601 with its offset, UTC."""
    DAY = "day"
    """ISO 8601 date of the exchange's trading day."""
    FLAG = "flag"
    """`true` or `false`."""


class PositionWord(StrEnum):
    """The specification's `runtime.position`."""

    NONE = "none"
    BOUGHT = "bought"
    SOLD = "sold"
    EXITED_BY_SL = "exited_by_sl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of a hash. `read` takes it from the run; None: the store itself writes it."""

    name: str
    type: FieldType
    meaning: str
    read: Callable[[Run], object] | None = None
    optional: bool = False
    values: tuple[str, ...] = ()


def position_word(run: Run) -> PositionWord:
    """What our fills say is held. While the entry is open it is `none`, with the filled quantity beside it."""
    if run.state in EXIT_OPEN:
        return PositionWord.BOUGHT
    if run.remaining_qty > 0 and run.state is not State.RUNNING:
        return PositionWord.BOUGHT
    if run.state is State.EXITED_BY_SL:
        return PositionWord.EXITED_BY_SL
    if run.state is State.SOLD or run.exit.filled_qty > 0:
        return PositionWord.SOLD
    return PositionWord.NONE


def _words(words: type[StrEnum]) -> tuple[str, ...]:
    return tuple(word.value for word in words)


T = FieldType

STRATEGY_FIELDS: tuple[Field, ...] = (
    Field(name="strategy_id", type=T.INTEGER, meaning="the strategy", read=lambda r: r.plan.strategy_id),
    Field(name="run_id", type=T.INTEGER, meaning="its run that is armed", read=lambda r: r.plan.run_id),
    Field(name="user_id", type=T.INTEGER, meaning="whose it is", read=lambda r: r.plan.user),
    Field(name="account", type=T.TEXT, meaning="the broker account it trades on", read=lambda r: r.plan.account),
    Field(name="name", type=T.TEXT, meaning="what the trader calls it", read=lambda r: r.plan.name),
    Field(name="symbol", type=T.TEXT, meaning="exchange and symbol, NSE:INFY", read=lambda r: r.plan.symbol),
    Field(
        name="product",
        type=T.WORD,
        values=_words(Product),
        meaning="how the broker books the position",
        read=lambda r: r.plan.product,
    ),
    Field(name="quantity", type=T.DECIMAL, meaning="units to buy", read=lambda r: r.plan.quantity),
    Field(name="trading_day", type=T.DAY, meaning="the exchange's day", read=lambda r: r.plan.trading_day),
    Field(name="buy_at", type=T.INSTANT, meaning="BUY time", read=lambda r: r.plan.buy_at),
    Field(name="buy_until", type=T.INSTANT, meaning="last instant for the BUY", read=lambda r: r.plan.buy_until),
    Field(name="sell_at", type=T.INSTANT, meaning="SELL time", read=lambda r: r.plan.sell_at),
    Field(name="closes_at", type=T.INSTANT, meaning="end of the session", read=lambda r: r.plan.closes_at),
    Field(
        name="stop_loss",
        type=T.DECIMAL,
        meaning="as the trader gave it; its unit is in stop_loss_kind",
        read=lambda r: r.plan.stop_loss.value,
    ),
    Field(
        name="stop_loss_kind",
        type=T.WORD,
        values=_words(StopLossKind),
        meaning="a price, or percent or points below the average fill",
        read=lambda r: r.plan.stop_loss.kind,
    ),
    Field(name="tick_size", type=T.DECIMAL, meaning="smallest step of the price", read=lambda r: r.plan.tick_size),
)
"""Hash `strategy:{account}id`: what the trader asked for, resolved for one trading day."""

RUNTIME_FIELDS: tuple[Field, ...] = (
    Field(
        name="position",
        type=T.WORD,
        values=_words(PositionWord),
        meaning="what our fills say is held",
        read=position_word,
    ),
    Field(name="state", type=T.WORD, values=_words(State), meaning="the run's state", read=lambda r: r.state),
    Field(
        name="exposure",
        type=T.WORD,
        values=_words(Exposure),
        meaning="what may still be held; long or unknown keeps the alarm ringing",
        read=lambda r: r.exposure,
    ),
    Field(
        name="version",
        type=T.INTEGER,
        meaning="grows with every change; behind what the worker wrote: this Redis is damaged",
        read=lambda r: r.version,
    ),
    Field(name="run_id", type=T.INTEGER, meaning="the run", read=lambda r: r.plan.run_id),
    Field(name="strategy_id", type=T.INTEGER, meaning="its strategy", read=lambda r: r.plan.strategy_id),
    Field(name="symbol", type=T.TEXT, meaning="exchange and symbol", read=lambda r: r.plan.symbol),
    Field(
        name="cause",
        type=T.WORD,
        values=_words(Cause),
        optional=True,
        meaning="why the run is where it is",
        read=lambda r: r.cause,
    ),
    Field(
        name="detail",
        type=T.TEXT,
        optional=True,
        meaning="the cause in the words of who noticed",
        read=lambda r: r.detail or None,
    ),
    Field(
        name="outcome",
        type=T.WORD,
        values=_words(State),
        optional=True,
        meaning="the first final state",
        read=lambda r: r.outcome,
    ),
    Field(
        name="wish",
        type=T.WORD,
        values=(Event.STOP.value, Event.KILL.value, Event.HAND_OVER.value),
        optional=True,
        meaning="the user's wish that is not fulfilled yet",
        read=lambda r: r.wish,
    ),
    Field(
        name="entry_phase",
        type=T.WORD,
        values=_words(SlotPhase),
        meaning="the entry: no licence, licensed, watched, settled, void",
        read=lambda r: r.entry.phase,
    ),
    Field(name="entry_filled_qty", type=T.DECIMAL, meaning="units bought, proven", read=lambda r: r.entry.filled_qty),
    Field(
        name="entry_avg_fill_price",
        type=T.DECIMAL,
        optional=True,
        meaning="average price of the units bought",
        read=lambda r: r.entry.avg_fill_price,
    ),
    Field(
        name="entry_client_order_id",
        type=T.TEXT,
        optional=True,
        meaning="our id of the latest BUY order",
        read=lambda r: r.entry.current and r.entry.current.client_order_id,
    ),
    Field(
        name="exit_phase",
        type=T.WORD,
        values=_words(SlotPhase),
        meaning="the exit, in the same words",
        read=lambda r: r.exit.phase,
    ),
    Field(name="exit_filled_qty", type=T.DECIMAL, meaning="units sold, proven", read=lambda r: r.exit.filled_qty),
    Field(
        name="exit_avg_fill_price",
        type=T.DECIMAL,
        optional=True,
        meaning="average price of the units sold",
        read=lambda r: r.exit.avg_fill_price,
    ),
    Field(
        name="exit_client_order_id",
        type=T.TEXT,
        optional=True,
        meaning="our id of the latest SELL order",
        read=lambda r: r.exit.current and r.exit.current.client_order_id,
    ),
    Field(
        name="remaining_qty",
        type=T.DECIMAL,
        meaning="units that our fills say are still held",
        read=lambda r: r.remaining_qty,
    ),
    Field(
        name="outside_qty",
        type=T.DECIMAL,
        meaning="units bought by us, sold or taken over by other hands",
        read=lambda r: r.outside_qty,
    ),
    Field(
        name="stop_price",
        type=T.DECIMAL,
        optional=True,
        meaning="the price that squares off; absent until the average fill is known",
        read=lambda r: r.stop_price,
    ),
    Field(
        name="stop_seen_price",
        type=T.DECIMAL,
        optional=True,
        meaning="the price that hit the stop-loss; it is latched",
        read=lambda r: r.stop_seen and r.stop_seen.price,
    ),
    Field(
        name="stop_seen_at",
        type=T.INSTANT,
        optional=True,
        meaning="when it was seen",
        read=lambda r: r.stop_seen and r.stop_seen.at,
    ),
    Field(
        name="retry_at",
        type=T.INSTANT,
        optional=True,
        meaning="when the open slot is tried again",
        read=lambda r: r.retry_at,
    ),
    Field(
        name="fence",
        type=T.INTEGER,
        meaning="the lease under which this was written; 0: armed or rebuilt, not claimed since",
    ),
    Field(
        name="settled_version",
        type=T.INTEGER,
        meaning="the version last settled; a higher `version` is claimed: announced, it may still be taken back",
    ),
    Field(
        name="updated_at_ms",
        type=T.INTEGER,
        meaning="when this was written: milliseconds since 1970 UTC by the clock of Redis",
    ),
)
"""Hash `runtime:{account}id`: where the run is."""

EVENT_FIELDS: tuple[Field, ...] = (
    Field(
        name="kind",
        type=T.WORD,
        values=("arm", "claim", "settle", "archive", "rebuild"),
        meaning="which change of Redis this was",
    ),
    Field(name="strategy_id", type=T.INTEGER, meaning="the strategy", optional=True),
    Field(name="run_id", type=T.INTEGER, meaning="the run", optional=True),
    Field(name="state", type=T.WORD, values=_words(State), meaning="the state written", optional=True),
    Field(name="version", type=T.INTEGER, meaning="the version written", optional=True),
    Field(name="fence", type=T.INTEGER, meaning="the lease it was written under", optional=True),
    Field(name="event", type=T.WORD, values=_words(Event), meaning="what raised a claim", optional=True),
)
"""Stream `events:{account}`: one entry for each change, in its order. A record, never the carrier of a wish."""

TIMER_MEANING: Mapping[str, str] = {
    "buy": "BUY time",
    "buy_until": "the BUY is skipped if it was not made by now",
    "entry_until": "the entry order's life is over",
    "sell": "SELL time",
    "close": "the exchange's session ends",
    "watch_until": "a BUY that was never heard of is no longer looked for",
    "retry": "the open slot is tried again",
    "check": "the run is looked at again",
}
"""Sorted set `timers:{account}`: member `id:name`, score in milliseconds since 1970 UTC."""


_Readers = tuple[tuple[str, Callable[[Run], object]], ...]


def _readers(fields: tuple[Field, ...]) -> _Readers:
    return tuple((each.name, each.read) for each in fields if each.read is not None)


_STRATEGY_READERS, _RUNTIME_READERS = _readers(STRATEGY_FIELDS), _readers(RUNTIME_FIELDS)


def strategy_view(run: Run) -> dict[str, str]:
    return _view(_STRATEGY_READERS, run)


def runtime_view(run: Run) -> dict[str, str]:
    """The run as text, without what the store adds (`fence`, `settled_version`, `updated_at_ms`)."""
    return _view(_RUNTIME_READERS, run)


def _view(readers: _Readers, run: Run) -> dict[str, str]:
    writers = _WRITERS  # by hand here what `text` does: after a restart it is asked three hundred thousand times
    view = {}
    for name, read in readers:
        if (value := read(run)) is not None:
            write = writers.get(type(value))
            view[name] = text(value) if write is None else write(value)
    return view


def text(value: object) -> str:
    """A value as every field writes it: decimals without exponent, instants in UTC."""
    write = _WRITERS.get(type(value))
    if write is None:
        if not isinstance(value, str):
            raise TypeError(f"{value!r} has no text form in Redis")
        write = _WRITERS[type(value)] = str.__str__  # an enum's word, without its class
    return write(value)


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: str.__str__,
    bool: lambda value: "true" if value else "false",
    int: str,
    Decimal: lambda value: f"{value:f}",
    datetime: lambda value: (value if value.tzinfo is UTC else value.astimezone(UTC)).isoformat(),
    date: lambda value: value.isoformat(),
}
"""By the very type."""


def price_text(tick: Tick) -> str:
    """A last price as hash `prices:{account}` holds it for its symbol: the price, a space, the instant."""
    return f"{tick.price:f} {text(tick.at)}"


def named_timers(run: Run) -> dict[str, int]:
    """The instants of `triggers.timers` by name, in whole milliseconds, rounded up so that none is early.

    While `ready` it also shows the SELL timer, as the specification asks; it is gone from `sl_pending` on.
    """
    plan = run.plan
    name_of = {
        plan.buy_at: "buy",
        plan.buy_until + MICROSECOND: "buy_until",
        entry_open_until(run): "entry_until",
        plan.closes_at: "close",
        watched_until(run): "watch_until",
        run.retry_at: "retry",
        plan.sell_at: "sell",
    }
    named = {name_of.get(instant, "check"): milliseconds(instant) for instant in timers(run)}
    if run.state is State.READY:
        named["sell"] = milliseconds(plan.sell_at)
    return named


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(instant: datetime) -> int:
    """Since 1970 UTC, rounded up."""
    return -((_EPOCH - instant) // timedelta(milliseconds=1))


@dataclass(frozen=True, kw_only=True, slots=True)
class AccountView:
    """Everything a runtime store holds of one account, as text: for those who look, never for the engine."""

    strategies: Mapping[StrategyId, Mapping[str, str]] = field(default_factory=dict)
    runtimes: Mapping[StrategyId, Mapping[str, str]] = field(default_factory=dict)
    groups: Mapping[Symbol, frozenset[StrategyId]] = field(default_factory=dict)
    timers: Mapping[str, int] = field(default_factory=dict)
    locks: Mapping[StrategyId, str] = field(default_factory=dict)
    """The token of who holds it: `fence:owner`."""
    prices: Mapping[Symbol, str] = field(default_factory=dict)
    events: tuple[Mapping[str, str], ...] = ()
