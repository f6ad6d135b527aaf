"""Everything that can happen to a run, as one closed set.

The first group are the specification's own words. The rest are wishes, and news of an order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from squareoff.core.types import ClientOrderId


class Event(StrEnum):
    # the specification's events
    START = "START"
    BUY = "BUY"
    SELL = "SELL"
    STOPLOSS = "STOPLOSS"
    STOP = "STOP"
    RETRY = "RETRY"
    SAFETY_ABORT = "SAFETY_ABORT"
    # wishes and times the specification leaves open
    HAND_OVER = "HAND_OVER"
    KILL = "KILL"
    SKIP = "SKIP"
    ENTRY_EXPIRED = "ENTRY_EXPIRED"
    SESSION_CLOSED = "SESSION_CLOSED"
    # news of the open order
    ACCEPTED = "ACCEPTED"
    PART_FILLED = "PART_FILLED"
    FILLED = "FILLED"
    UNFILLED = "UNFILLED"
    CALLED_OFF = "CALLED_OFF"
    REFUSED = "REFUSED"
    UNCONFIRMED = "UNCONFIRMED"
    NOT_FOUND = "NOT_FOUND"
    LATE_ORDER = "LATE_ORDER"
    LATE_FILL = "LATE_FILL"
    CLOSED_OUTSIDE = "CLOSED_OUTSIDE"


MEANING: dict[Event, str] = {
    Event.START: "the user starts the strategy for a trading day",
    Event.BUY: "BUY time has come and a fresh price allows it",
    Event.SELL: "SELL time has come",
    Event.STOPLOSS: "the last traded price is at or below the stop-loss",
    Event.STOP: "the user asks to stop: square off first if anything is held",
    Event.RETRY: "an attempt ended without doing its work and another one may follow",
    Event.SAFETY_ABORT: "automation must give up: token, corruption, repeated failure, stuck lock",
    Event.HAND_OVER: "the user takes the position over by name",
    Event.KILL: "the kill switch: square off now",
    Event.SKIP: "the entry will not be made today; the cause says why",
    Event.ENTRY_EXPIRED: "the entry order's life is over",
    Event.SESSION_CLOSED: "the exchange's session has ended",
    Event.ACCEPTED: "the broker acknowledged the order: it may fill",
    Event.PART_FILLED: "some of the open order filled, the rest still may",
    Event.FILLED: "the open slot is settled by fills: all of the exit, or what the entry got",
    Event.UNFILLED: "the entry ended and nothing was bought",
    Event.CALLED_OFF: "the entry ended with nothing bought because stopping was asked for",
    Event.REFUSED: "the broker refused for good: nothing is live and repeating cannot help",
    Event.UNCONFIRMED: "no clear answer: the order may be live",
    Event.NOT_FOUND: "not seen at the broker for the whole quarantine",
    Event.LATE_ORDER: "an entry that was given up is live at the broker after all",
    Event.LATE_FILL: "an entry that was given up filled after all",
    Event.CLOSED_OUTSIDE: "the position is gone and no order of ours explains it",
}


class Source(StrEnum):
    """Who noticed. Journalled, so that every decision can be traced to a timer, a tick, a wish or an answer."""

    TIMER = "timer"
    TICK = "tick"
    WISH = "wish"
    BROKER = "broker"
    RECOVERY = "recovery"
    ENGINE = "engine"


class Cause(StrEnum):
    """Why a run is where it is. One word each; the label in `machine` is what a trader reads."""

    SELL_TIME = "sell_time"
    STOP_LOSS = "stop_loss"
    STOPPED_BY_USER = "stopped_by_user"
    KILLED = "killed"
    HANDED_OVER = "handed_over"
    BUY_MISSED = "buy_missed"
    STALE_PRICE = "stale_price"
    STOP_LOSS_NOT_BELOW_PRICE = "stop_loss_not_below_price"
    ENTRIES_BLOCKED = "entries_blocked"
    ENTRY_UNFILLED = "entry_unfilled"
    ENTRY_REFUSED = "entry_refused"
    EXIT_REFUSED = "exit_refused"
    RETRIES_EXHAUSTED = "retries_exhausted"
    OUTCOME_UNKNOWN = "outcome_unknown"
    LATE_FILL = "late_fill"
    CLOSED_OUTSIDE = "closed_outside"
    TOKEN_INVALID = "token_invalid"
    CORRUPTED = "corrupted"
    LOCK_STUCK = "lock_stuck"
    IMPOSSIBLE_TRANSITION = "impossible_transition"
    SESSION_CLOSED = "session_closed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One event with its circumstances. `price` is the price that raised it, None where none did; `order` the order
    whose news it is, None where the news is of a whole slot."""

    event: Event
    at: datetime
    source: Source
    cause: Cause | None = None
    price: Decimal | None = None
    detail: str = ""
    order: ClientOrderId | None = None

    def __post_init__(self) -> None:
        if self.event is Event.STOPLOSS and self.price is None:
            raise ValueError("a STOPLOSS names the price that tripped it: without it nothing could be latched")
