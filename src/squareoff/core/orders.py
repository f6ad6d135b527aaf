"""Orders of a run: their ids, their attempts, and what the broker's news of them means.

An *attempt* is one order id. Attempt n+1 exists only when every send of attempt n is over at the broker with its
filled quantity known; a send that certainly never left repeats the same attempt under the same id.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from squareoff.core.types import (
    ZERO,
    BrokerOrderId,
    ClientOrderId,
    Fence,
    Fill,
    OrderReport,
    RunId,
    SlotName,
)
from squareoff.core.values import replace

MAX_TRIES = 4
"""The first try and at most three retries (specification 5.4)."""

RETRY_DELAYS_S = (0.25, 0.5, 1.0)
"""Pause before the second, third and fourth try: all of them fit the default grace of a BUY."""

RESCUE_EVERY_S = 5.0
"""A position that automation failed to sell is tried again this often while the session is open."""

RESCUE_CLOSED_S = 300.0
"""And this often after its close, so that the next session is not missed: meanwhile every venue says no."""

_SLOT_LETTERS = {SlotName.ENTRY: "EFGH", SlotName.EXIT: "XYZW"}
"""The first letter, until its attempts are used up: a rescue every 5 s needs 4,500 of them in one session."""
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def order_key(install: str, run_id: RunId) -> str:
    """The ten letters and digits that all orders of one run share. `install` keeps two installations apart."""
    digest = hashlib.sha256(f"{install}:{run_id}".encode()).digest()
    return base64.b32encode(digest)[:10].decode()


def client_order_id(key: str, slot: SlotName, attempt: int) -> ClientOrderId:
    """Computed, never drawn: after a crash the same attempt has the same id, so the broker's book can be asked.

    15 characters, which fits every venue of BROKERS.md: "SQ", the run's key, E or X, the attempt in base 36.
    """
    letters = _SLOT_LETTERS[slot]
    if not 1 <= attempt < len(letters) * 36 * 36:
        raise ValueError(f"attempt must be from 1 to {len(letters) * 36 * 36 - 1}, not {attempt}")
    letter, rest = letters[attempt // 1296], attempt % 1296
    return ClientOrderId(f"SQ{key}{letter}{_DIGITS[rest // 36]}{_DIGITS[rest % 36]}")


class AttemptPhase(StrEnum):
    LICENSED = "licensed"
    """May be sent. Under our own stamp and without a send mark it is proven unsent."""
    UNKNOWN = "unknown"
    """Sent, or perhaps sent: it may be live."""
    OPEN = "open"
    """The broker acknowledged it; it may fill."""
    DONE = "done"
    """Over at the broker, fills final."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    number: int
    client_order_id: ClientOrderId
    qty: Decimal
    phase: AttemptPhase = AttemptPhase.LICENSED
    broker_order_id: BrokerOrderId | None = None
    fills: tuple[Fill, ...] = ()
    reason: str = ""
    limit_price: Decimal | None = None
    """What it was last sent with; None: at market, or not sent yet."""
    cancel_asked: bool = False
    """We want it gone, to replace it: that it ends with nothing filled is then no failure."""

    @property
    def filled_qty(self) -> Decimal:
        return sum((fill.qty for fill in self.fills), ZERO)


class SlotPhase(StrEnum):
    NONE = "none"
    """No licence was given."""
    INTENT = "intent"
    """Licensed: an order may be live."""
    WATCH = "watch"
    """Given up, outcome never told: watched for late news until the session ends."""
    SETTLED = "settled"
    VOID = "void"
    """The licence was taken so that nobody buys."""


OPEN_LICENCE = (SlotPhase.INTENT, SlotPhase.WATCH)
"""The phases in which it matters who holds the licence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """Who may send under a licence: "no send mark" proves "unsent" only under one's own stamp."""

    fence: Fence
    machine: str
    boot: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """The entry or the exit of a run, with every attempt ever made."""

    phase: SlotPhase = SlotPhase.NONE
    attempts: tuple[Attempt, ...] = ()
    tries: int = 0
    """Sends that never left or ended with nothing filled. 429 and database errors do not count."""
    stamp: Stamp | None = None

    @property
    def filled_qty(self) -> Decimal:
        total = ZERO  # loops, not sums of sums: this is asked some ten times on the way of a stop-loss
        for attempt in self.attempts:
            for fill in attempt.fills:
                total += fill.qty
        return total

    @property
    def avg_fill_price(self) -> Decimal | None:
        """Money paid or received divided by the filled quantity; None while nothing filled."""
        qty = self.filled_qty
        if not qty:
            return None
        value = sum((fill.qty * fill.price for a in self.attempts for fill in a.fills), ZERO)
        return value / qty

    @property
    def last_fill_at(self) -> datetime | None:
        return max((fill.at for a in self.attempts for fill in a.fills), default=None)

    @property
    def first_fill_at(self) -> datetime | None:
        return min((fill.at for a in self.attempts for fill in a.fills), default=None)

    @property
    def current(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def is_live(self) -> bool:
        """An order of this slot may be resting, or on its way, at the broker."""
        return any(a.phase in (AttemptPhase.UNKNOWN, AttemptPhase.OPEN) for a in self.attempts)

    @property
    def is_over(self) -> bool:
        """Every attempt is over at the broker (also when there was none): there is room for another one."""
        return all(a.phase is AttemptPhase.DONE for a in self.attempts)

    def with_unknown_over(self) -> Slot:
        """Attempts of which nothing was ever heard count as over."""
        attempts = tuple(
            replace(a, phase=AttemptPhase.DONE) if a.phase is AttemptPhase.UNKNOWN else a for a in self.attempts
        )
        return replace(self, attempts=attempts)

    def with_current(self, **changes: object) -> Slot:
        last = replace(self.attempts[-1], **changes)
        return replace(self, attempts=(*self.attempts[:-1], last))

    def with_next_attempt(self, key: str, name: SlotName, qty: Decimal) -> Slot:
        """Licence one more attempt. The caller has proven that every earlier one is over."""
        if self.phase is SlotPhase.VOID:
            raise ValueError(f"the {name} licence was taken so that nobody uses it")
        if not self.is_over:
            raise ValueError(f"{name} attempt {len(self.attempts)} is not over: a further one could double it")
        number = len(self.attempts) + 1
        attempt = Attempt(number=number, client_order_id=client_order_id(key, name, number), qty=qty)
        return replace(self, phase=SlotPhase.INTENT, attempts=(*self.attempts, attempt))


def merge_report(attempt: Attempt, report: OrderReport) -> Attempt:
    """The attempt as the broker now tells it. Fills are counted once each; what is over stays over."""
    known = {fill.trade_id for fill in attempt.fills}
    fresh = tuple({fill.trade_id: fill for fill in report.fills if fill.trade_id not in known}.values())
    over = report.status.is_terminal or attempt.phase is AttemptPhase.DONE
    return replace(
        attempt,
        phase=AttemptPhase.DONE if over else AttemptPhase.OPEN,
        broker_order_id=report.broker_order_id,
        fills=attempt.fills + fresh,
        reason=report.reason or attempt.reason,
    )
