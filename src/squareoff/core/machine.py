"""The state machine: one total table. Every state x every event has a cell; "nothing happens" is a cell too.

The specification's states and transitions are here and nowhere else. The state page, its diagrams and the
test-case list are generated from this table. Importing this module fails when a cell is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from squareoff.core.events import Cause, Event
from squareoff.core.types import Exposure


class State(StrEnum):
    CREATED = "created"
    READY = "ready"
    RUNNING = "running"
    BOUGHT = "bought"
    SELL_PENDING = "sell_pending"
    SL_PENDING = "sl_pending"
    STOP_PENDING = "stop_pending"
    SOLD = "sold"
    EXITED_BY_SL = "exited_by_sl"
    FAILED = "failed"
    STOPPED = "stopped"


FINAL = frozenset({State.SOLD, State.EXITED_BY_SL, State.FAILED, State.STOPPED})
EXIT_OPEN = frozenset({State.SELL_PENDING, State.SL_PENDING, State.STOP_PENDING})
WATCHES_STOP = frozenset({State.RUNNING, State.BOUGHT, State.SELL_PENDING, State.STOP_PENDING})
"""The states in which a price at the stop-loss changes something. From `sl_pending` on it is latched."""


class Effect(StrEnum):
    """What the engine must do for a transition, in the order the cell lists it."""

    ARM = "arm"
    SEND_ENTRY = "send_entry"
    VOID_ENTRY = "void_entry"
    CANCEL_ENTRY = "cancel_entry"
    SEND_EXIT = "send_exit"
    UPGRADE_EXIT = "upgrade_exit"
    DROP_SELL_TIMER = "drop_sell_timer"
    LOOK_UP = "look_up"
    WATCH_LATE = "watch_late"
    RESCUE = "rescue"
    ALERT = "alert"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True)
class Go:
    """The run is in `to` afterwards (it may be the same state) and the effects are carried out."""

    to: State
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Stay:
    """Nothing happens. `reason` is what the journal and the console show, so it is written for a trader."""

    reason: str
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Never:
    """Cannot happen unless something is broken: the engine answers with SAFETY_ABORT."""

    reason: str


@dataclass(frozen=True, slots=True)
class WhenClosed:
    """Archiving waits until the run is closed: no state may hide a position."""

    go: Go
    otherwise: Stay


Cell = Go | Stay | Never | WhenClosed
S, E, X = State, Event, Effect

_NO_ORDER = Never("no order of this run exists yet")
_OVER = Stay("the run is over")
_OLD_NEWS = Stay("old news of an order that is already settled")
_NOT_FLAT = Stay("a position may still be open: it is squared off first", (X.ALERT,))
_ENTRY_ONLY = Stay("that is news of an entry; the entry is settled")
_ONE_OPEN = Stay("an order is open: a position is handed over only from bought")

_NEWS = (
    E.ACCEPTED,
    E.PART_FILLED,
    E.FILLED,
    E.UNFILLED,
    E.CALLED_OFF,
    E.REFUSED,
    E.UNCONFIRMED,
    E.NOT_FOUND,
    E.LATE_FILL,
    E.CLOSED_OUTSIDE,
)


def _exit_open(me: State, done: State, outside: State) -> dict[Event, Cell]:
    """The three open exits differ in what ends them, and in what may still overtake them."""
    return {
        E.START: Stay("already started"),
        E.BUY: Stay("one entry per run"),
        E.SELL: Stay("the exit is already open"),
        E.STOPLOSS: Go(S.SL_PENDING, (X.DROP_SELL_TIMER, X.UPGRADE_EXIT)),
        E.STOP: Go(S.STOP_PENDING, (X.DROP_SELL_TIMER, X.UPGRADE_EXIT)),
        E.RETRY: Go(me, (X.SEND_EXIT,)),
        E.SAFETY_ABORT: Go(S.FAILED, (X.ALERT, X.RESCUE)),
        E.HAND_OVER: _ONE_OPEN,
        E.KILL: Go(S.STOP_PENDING, (X.DROP_SELL_TIMER, X.UPGRADE_EXIT)),
        E.SKIP: Stay("already bought"),
        E.ENTRY_EXPIRED: Stay("the entry is settled"),
        E.SESSION_CLOSED: Stay("the exit is not proven: it stays open into the next session", (X.ALERT,)),
        E.ACCEPTED: Stay("accepted is not filled"),
        E.PART_FILLED: Stay("part of the exit filled; the rest is still open"),
        E.FILLED: Go(done),
        E.UNFILLED: _ENTRY_ONLY,
        E.CALLED_OFF: _ENTRY_ONLY,
        E.REFUSED: Go(S.FAILED, (X.ALERT, X.RESCUE)),
        E.UNCONFIRMED: Go(me, (X.LOOK_UP,)),
        E.NOT_FOUND: Go(me, (X.SEND_EXIT,)),
        E.LATE_FILL: Go(me, (X.ALERT,)),
        E.CLOSED_OUTSIDE: Go(outside, (X.ALERT,)),
    }


def _final(*, restart: Cell, archive: Cell) -> dict[Event, Cell]:
    """No trading event leaves a final state. Late news may still correct what is held, and is acted upon."""
    return {
        E.START: restart,
        E.BUY: _OVER,
        E.SELL: _OVER,
        E.STOPLOSS: _OVER,
        E.STOP: archive,
        E.RETRY: _OVER,
        E.SAFETY_ABORT: _OVER,
        E.HAND_OVER: _OVER,
        E.KILL: archive,
        E.SKIP: _OVER,
        E.ENTRY_EXPIRED: _OVER,
        E.SESSION_CLOSED: archive,
        E.ACCEPTED: _OLD_NEWS,
        E.PART_FILLED: _OLD_NEWS,
        E.FILLED: _OLD_NEWS,
        E.UNFILLED: _OLD_NEWS,
        E.CALLED_OFF: _OLD_NEWS,
        E.REFUSED: _OLD_NEWS,
        E.UNCONFIRMED: _OLD_NEWS,
        E.NOT_FOUND: _OLD_NEWS,
        E.CLOSED_OUTSIDE: _OLD_NEWS,
    }


def _late_fill(me: State) -> Go:
    return Go(me, (X.ALERT, X.SEND_EXIT))


_ARCHIVE = WhenClosed(Go(S.STOPPED, (X.ARCHIVE,)), _NOT_FLAT)
_RESTART = WhenClosed(Go(S.READY, (X.ARCHIVE, X.ARM)), Stay("an earlier run is not closed: it may still buy or hold"))

TABLE: dict[State, dict[Event, Cell]] = {
    S.CREATED: {  # saved in SQL; no Redis keys, no timers
        E.START: Go(S.READY, (X.ARM,)),
        E.BUY: Stay("not started"),
        E.SELL: Stay("not started"),
        E.STOPLOSS: Stay("not started"),
        E.STOP: Go(S.STOPPED),
        E.RETRY: Stay("not started"),
        E.SAFETY_ABORT: Stay("not started: nothing is at risk"),
        E.HAND_OVER: Stay("not started: there is nothing to hand over"),
        E.KILL: Stay("not started: nothing is at risk"),
        E.SKIP: Stay("not started"),
        E.ENTRY_EXPIRED: Stay("not started"),
        E.SESSION_CLOSED: Stay("not started"),
        **dict.fromkeys(_NEWS, _NO_ORDER),
    },
    S.READY: {  # keys and timers exist; waiting for BUY time
        E.START: Stay("already started"),
        E.BUY: Go(S.RUNNING, (X.SEND_ENTRY,)),
        E.SELL: Stay("nothing is held"),
        E.STOPLOSS: Stay("nothing is held yet"),
        E.STOP: Go(S.STOPPED, (X.VOID_ENTRY, X.ARCHIVE)),
        E.RETRY: Stay("there is no order to retry"),
        E.SAFETY_ABORT: Go(S.FAILED, (X.VOID_ENTRY, X.ALERT)),
        E.HAND_OVER: Stay("nothing is held: there is nothing to hand over"),
        E.KILL: Go(S.STOPPED, (X.VOID_ENTRY, X.ARCHIVE)),
        E.SKIP: Go(S.FAILED, (X.VOID_ENTRY, X.ALERT)),
        E.ENTRY_EXPIRED: Stay("no entry is open"),
        E.SESSION_CLOSED: Go(S.FAILED, (X.VOID_ENTRY, X.ALERT)),
        **dict.fromkeys(_NEWS, _NO_ORDER),
    },
    S.RUNNING: {  # the entry is open: a buy may be live, its outcome is not proven
        E.START: Stay("already started"),
        E.BUY: Stay("one entry per run"),
        E.SELL: Go(S.RUNNING, (X.CANCEL_ENTRY,)),
        E.STOPLOSS: Go(S.RUNNING, (X.CANCEL_ENTRY,)),  # latched: what filled is exited once the entry settles
        E.STOP: Go(S.RUNNING, (X.CANCEL_ENTRY,)),
        E.RETRY: Go(S.RUNNING, (X.SEND_ENTRY,)),
        E.SAFETY_ABORT: Go(S.FAILED, (X.ALERT, X.CANCEL_ENTRY, X.WATCH_LATE)),
        E.HAND_OVER: _ONE_OPEN,
        E.KILL: Go(S.RUNNING, (X.CANCEL_ENTRY,)),
        E.SKIP: Stay("the entry is already open"),
        E.ENTRY_EXPIRED: Go(S.RUNNING, (X.CANCEL_ENTRY,)),
        E.SESSION_CLOSED: Go(S.RUNNING, (X.CANCEL_ENTRY,)),
        E.ACCEPTED: Stay("accepted is not filled"),
        E.PART_FILLED: Stay("part of the entry filled; the rest is still open"),
        E.FILLED: Go(S.BOUGHT),
        E.UNFILLED: Go(S.FAILED, (X.ALERT,)),
        E.CALLED_OFF: Go(S.STOPPED, (X.ARCHIVE,)),
        E.REFUSED: Go(S.FAILED, (X.ALERT,)),
        E.UNCONFIRMED: Go(S.RUNNING, (X.LOOK_UP,)),
        E.NOT_FOUND: Go(S.FAILED, (X.ALERT, X.WATCH_LATE)),
        E.LATE_FILL: Stay("the entry is still open: its fills count as they come"),
        E.CLOSED_OUTSIDE: Stay("the entry is not settled yet"),
    },
    S.BOUGHT: {  # the entry is settled with a filled quantity above zero
        E.START: Stay("already started"),
        E.BUY: Stay("one entry per run"),
        E.SELL: Go(S.SELL_PENDING, (X.SEND_EXIT,)),
        E.STOPLOSS: Go(S.SL_PENDING, (X.DROP_SELL_TIMER, X.SEND_EXIT)),
        E.STOP: Go(S.STOP_PENDING, (X.DROP_SELL_TIMER, X.SEND_EXIT)),
        E.RETRY: Stay("there is no order to retry"),
        E.SAFETY_ABORT: Go(S.FAILED, (X.ALERT, X.RESCUE)),
        E.HAND_OVER: Go(S.STOPPED, (X.ARCHIVE,)),
        E.KILL: Go(S.STOP_PENDING, (X.DROP_SELL_TIMER, X.SEND_EXIT)),
        E.SKIP: Stay("already bought"),
        E.ENTRY_EXPIRED: Stay("the entry is settled"),
        E.SESSION_CLOSED: Stay("the position stays open into the next session", (X.ALERT,)),
        E.ACCEPTED: _OLD_NEWS,
        E.PART_FILLED: _OLD_NEWS,
        E.FILLED: _OLD_NEWS,
        E.UNFILLED: _OLD_NEWS,
        E.CALLED_OFF: _OLD_NEWS,
        E.REFUSED: _OLD_NEWS,
        E.UNCONFIRMED: _OLD_NEWS,
        E.NOT_FOUND: _OLD_NEWS,
        E.LATE_FILL: Go(S.BOUGHT, (X.ALERT,)),
        E.CLOSED_OUTSIDE: Go(S.STOPPED, (X.ALERT, X.ARCHIVE)),
    },
    S.SELL_PENDING: _exit_open(S.SELL_PENDING, done=S.SOLD, outside=S.STOPPED),
    S.SL_PENDING: {  # latched: a recovery of the price does not bring it back
        **_exit_open(S.SL_PENDING, done=S.EXITED_BY_SL, outside=S.FAILED),
        E.STOPLOSS: Stay("the stop-loss is already being executed"),
        E.STOP: Stay("the stop-loss overrides: its exit is already open"),
        E.KILL: Stay("the stop-loss overrides: its exit is already open"),
    },
    S.STOP_PENDING: {
        **_exit_open(S.STOP_PENDING, done=S.STOPPED, outside=S.STOPPED),
        E.STOP: Stay("already squaring off"),
    },
    S.SOLD: {
        **_final(restart=_RESTART, archive=_ARCHIVE),
        E.LATE_FILL: _late_fill(S.SOLD),
    },
    S.EXITED_BY_SL: {
        **_final(restart=_RESTART, archive=_ARCHIVE),
        E.LATE_FILL: _late_fill(S.EXITED_BY_SL),
    },
    S.FAILED: {  # automation gave up; getting out goes on while anything may be held
        **_final(restart=_RESTART, archive=_ARCHIVE),
        E.RETRY: Go(S.FAILED, (X.SEND_EXIT,)),
        E.FILLED: Go(S.FAILED, (X.ALERT,)),
        E.REFUSED: Go(S.FAILED, (X.RESCUE,)),
        E.UNCONFIRMED: Go(S.FAILED, (X.LOOK_UP,)),
        E.NOT_FOUND: Go(S.FAILED, (X.SEND_EXIT,)),
        E.LATE_FILL: _late_fill(S.FAILED),
        E.CLOSED_OUTSIDE: Go(S.FAILED, (X.ALERT,)),
    },
    S.STOPPED: {
        **_final(restart=_RESTART, archive=Stay("already stopped")),
        E.RETRY: Go(S.STOPPED, (X.SEND_EXIT,)),
        E.FILLED: Go(S.STOPPED, (X.ALERT,)),
        E.REFUSED: Go(S.STOPPED, (X.RESCUE,)),
        E.UNCONFIRMED: Go(S.STOPPED, (X.LOOK_UP,)),
        E.LATE_FILL: _late_fill(S.STOPPED),
    },
}

_missing = [(state, event) for state in S for event in E if event not in TABLE.get(state, {})]
if _missing:
    raise RuntimeError(f"the state table has no cell for {_missing}")


def decide(state: State, event: Event, *, closed: bool = True) -> Go | Stay | Never:
    """What `event` does in `state`. `closed`: nothing is live, nothing held (only archiving asks)."""
    cell = TABLE[state][event]
    if isinstance(cell, WhenClosed):
        return cell.go if closed else cell.otherwise
    return cell


STATE_LABEL: dict[State, str] = {
    S.CREATED: "saved, not started",
    S.READY: "waiting for BUY time",
    S.RUNNING: "buying, not proven yet",
    S.BOUGHT: "holding, stop-loss watched",
    S.SELL_PENDING: "selling: SELL time",
    S.SL_PENDING: "selling: stop-loss hit",
    S.STOP_PENDING: "squaring off as asked",
    S.SOLD: "sold on time, flat",
    S.EXITED_BY_SL: "out at the stop-loss, flat",
    S.FAILED: "automation gave up",
    S.STOPPED: "stopped",
}

CAUSE_LABEL: dict[Cause, str] = {
    Cause.SELL_TIME: "SELL time came",
    Cause.STOP_LOSS: "the stop-loss was hit",
    Cause.STOPPED_BY_USER: "you asked to stop",
    Cause.KILLED: "the kill switch was pressed",
    Cause.HANDED_OVER: "the position was handed over to you",
    Cause.BUY_MISSED: "skipped, you hold nothing: squareoff was not running at BUY time",
    Cause.STALE_PRICE: "skipped, you hold nothing: no fresh price at BUY time",
    Cause.STOP_LOSS_NOT_BELOW_PRICE: "skipped, you hold nothing: the price was already at or below the stop-loss",
    Cause.ENTRIES_BLOCKED: "skipped, you hold nothing: new entries were blocked",
    Cause.ENTRY_UNFILLED: "the BUY did not fill in its time and was cancelled; you hold nothing",
    Cause.ENTRY_REFUSED: "skipped, you hold nothing: the broker refused the BUY",
    Cause.EXIT_REFUSED: "the broker refused every SELL: YOU STILL HOLD THE POSITION",
    Cause.RETRIES_EXHAUSTED: "every try failed",
    Cause.OUTCOME_UNKNOWN: "the broker never told what became of an order",
    Cause.LATE_FILL: "an order given up for lost filled after all",
    Cause.CLOSED_OUTSIDE: "the position was closed outside squareoff",
    Cause.TOKEN_INVALID: "the broker's login is not valid",
    Cause.CORRUPTED: "squareoff's own record of the run is damaged",
    Cause.LOCK_STUCK: "the strategy's lock could not be had",
    Cause.IMPOSSIBLE_TRANSITION: "something happened that cannot happen",
    Cause.SESSION_CLOSED: "the session closed",
}

EXPOSURE_LABEL: dict[Exposure, str] = {
    Exposure.FLAT: "you hold nothing",
    Exposure.LONG: "you hold shares",
    Exposure.UNKNOWN: "you may hold shares",
    Exposure.HANDED_OVER: "the position is yours to manage",
}

_unlabelled = [
    *(set(State) - set(STATE_LABEL)),
    *(set(Cause) - set(CAUSE_LABEL)),
    *(set(Exposure) - set(EXPOSURE_LABEL)),
]
if _unlabelled:
    raise RuntimeError(f"no display label for {_unlabelled}")
