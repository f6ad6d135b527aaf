"""Scripted misbehaviour of the paper broker: what real venues do on bad days, as data.

[[mischief]]
kind = "placed_but_no_answer"
symbol = "NSE:INFY"
slot = "X"          # E: entries, X: exits
seconds = 5.0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Literal

import msgspec

from squareoff.core.types import ZERO, Order, Side, Symbol


class Kind(StrEnum):
    # nothing is placed
    REFUSE = "refuse"
    """Refused with `reason`, for good if `permanent`."""
    BUSY = "busy"
    """503 with proof that nothing was placed."""
    RATE_LIMIT = "rate_limit"
    """429, again in `seconds`."""
    TOKEN_INVALID = "token_invalid"
    """403: the login has expired."""
    NOT_PLACED_NO_ANSWER = "not_placed_no_answer"
    """Nothing is placed, and no answer comes: the connection closes after `seconds`."""
    ERROR_WITHOUT_EFFECT = "error_without_effect"
    """500, nothing is placed, and nothing says so."""
    # the order is placed
    PLACED_BUT_NO_ANSWER = "placed_but_no_answer"
    """The answer comes after `seconds`; without `seconds` the connection is closed instead."""
    PLACED_BUT_ERROR = "placed_but_error"
    """502, and no word of what became of the order."""
    PLACED_BUT_TORN_ANSWER = "placed_but_torn_answer"
    """200, but the answer's JSON ends in the middle."""
    NOT_JSON = "not_json"
    """200, and a page for people."""
    DELAY_ANSWER = "delay_answer"
    """The answer comes after `seconds`."""
    PARTIAL = "partial"
    """Only `qty` fills; the rest stays open, or is cancelled by the venue if `cancel_rest`."""
    VISIBLE_LATE = "visible_late"
    """Neither the order list nor the stream shows it for `seconds`; positions do."""
    NEWS_LOST = "news_lost"
    """The stream never tells of it; the order list does."""
    MISSING_IN_ORDERS = "missing_in_orders"
    """Neither the order list, nor a look-up, nor the stream ever shows it; trades and positions do."""
    NEWS_TWICE = "news_twice"
    """The stream tells each change twice, and then once more how the order was before."""
    FILL_ON_CANCEL = "fill_on_cancel"
    """What is left of it fills the moment its cancel arrives."""
    REJECT_AFTER_ACCEPT = "reject_after_accept"
    """Acknowledged, never filled, rejected with `reason` after `seconds`."""


_NOT_PLACED = (
    Kind.REFUSE,
    Kind.BUSY,
    Kind.RATE_LIMIT,
    Kind.TOKEN_INVALID,
    Kind.NOT_PLACED_NO_ANSWER,
    Kind.ERROR_WITHOUT_EFFECT,
)
_NEEDS_SECONDS = (Kind.DELAY_ANSWER, Kind.VISIBLE_LATE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mischief:
    """One kind of misbehaviour and the orders it happens to. Seconds are real ones."""

    kind: Kind
    symbol: Symbol | None = None
    side: Side | None = None
    slot: Literal["E", "X"] | None = None
    """The letter in the client order id: entry or exit."""
    after: int = 0
    """Let this many matching orders pass first."""
    times: int | None = 1
    """Then happen to this many; None: to all."""
    seconds: float | None = None
    reason: str = "scripted"
    permanent: bool = True
    qty: Decimal = ZERO
    cancel_rest: bool = False

    def __post_init__(self) -> None:
        if self.kind in _NEEDS_SECONDS and self.seconds is None:
            raise ValueError(f"{self.kind} needs seconds")
        if self.kind is Kind.PARTIAL and self.qty <= ZERO:
            raise ValueError("partial needs qty above 0")

    @property
    def places(self) -> bool:
        """Whether the order it happens to is placed."""
        return self.kind not in _NOT_PLACED

    def matches(self, order: Order) -> bool:
        return (
            (self.symbol is None or self.symbol == order.symbol)
            and (self.side is None or self.side is order.side)
            and (self.slot is None or self.slot == order.client_order_id[12:13])
        )


class SpellKind(StrEnum):
    DEAF = "deaf"
    """Every request is read, nothing is done, and the connection ends without an answer."""
    RATE_LIMITED = "rate_limited"
    """Every request is answered 429."""
    FORBIDDEN = "forbidden"
    """Every request is answered 403: the login has expired."""
    HALT = "halt"
    """Nothing is traded in `symbol`, None: in none: no tick, no fill. Orders are taken."""
    POSITIONS_LAG = "positions_lag"
    """Positions are those of `lag_s` ago."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spell:
    """Something that is wrong with the whole venue from now on, for so many real seconds. /control is never touched."""

    kind: SpellKind
    seconds: float
    symbol: Symbol | None = None
    lag_s: float = 0.0


class Script:
    """The list in force, with how often each was met. It ends with the process."""

    def __init__(self, items: Iterable[Mischief] = ()) -> None:
        self._items = list(items)
        self._met = [0] * len(self._items)
        self.unused: Counter[str] = Counter(item.kind for item in self._items)
        """What has not happened to any order yet, by kind; also of what was cleared."""

    def add(self, items: Iterable[Mischief]) -> None:
        for item in items:
            self._items.append(item)
            self._met.append(0)
            self.unused[item.kind] += 1

    def clear(self) -> None:
        self._items.clear()
        self._met.clear()

    def for_order(self, order: Order) -> Sequence[Mischief]:
        """What happens to this order, which has now come in: either one thing that keeps it from being placed, or
        everything else that applies."""
        refusals = [i for i, item in enumerate(self._items) if not item.places and item.matches(order)]
        for i in refusals:
            if self._meet(i):
                return (self._items[i],)
        placing = [i for i, item in enumerate(self._items) if item.places and item.matches(order)]
        return [self._items[i] for i in placing if self._meet(i)]

    def _meet(self, i: int) -> bool:
        item = self._items[i]
        self._met[i] += 1
        turn = self._met[i] - item.after
        happens = turn > 0 and (item.times is None or turn <= item.times)
        if happens and turn == 1:
            self.unused[item.kind] -= 1
        return happens


class _File(msgspec.Struct, forbid_unknown_fields=True):
    mischief: list[Mischief]


def read_mischief(path: Path) -> list[Mischief]:
    """From a TOML or JSON file with a list `mischief`. Raises ValueError if it cannot be read."""
    text = path.read_bytes()
    read = msgspec.json.decode if path.suffix == ".json" else msgspec.toml.decode
    return read(text, type=_File).mischief
