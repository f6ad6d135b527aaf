"""The state machine: one total table. Every state x every event has a cell; "nothing happens" is a cell too.

The specification's states and transitions are here and nowhere else. The state page, its diagrams and the
test-case list are generated from this table. Importing this module fails when a cell is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from squareoff.core.events import MEANING, Cause, Event
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
    NEW_RUN = "new_run"


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
class NewRun(Go):
    """This run is archived to `stopped`; the strategy goes on as a *new* run, which begins in `to`."""


class Fact(StrEnum):
    """What a cell may ask of the run. `run.holds` answers."""

    CLOSED = "closed"
    STOP_SEEN = "stop_seen"
    MAY_BUY_AGAIN = "may_buy_again"
    BOUGHT_SOME = "bought_some"
    SOLD_SOME = "sold_some"
    NOTHING_LEFT = "nothing_left"
    NO_ORDER_OUT = "no_order_out"
    NO_SELL_OUT = "no_sell_out"
    NO_SELL_EXPECTED = "no_sell_expected"


@dataclass(frozen=True, slots=True)
class When:
    """The rule depends on one fact. Both answers stand here, so that no transition hides in an `if` elsewhere."""

    fact: Fact
    then: Rule
    otherwise: Rule


Rule = Go | Stay | When
Cell = Go | Stay | Never | When
S, E, X, F = State, Event, Effect, Fact

_NO_ORDER = Never("no order of this run exists yet")
_OVER = Stay("the run is over")
_OLD_NEWS = Stay("old news of an order that is already settled")
_ENTRY_ONLY = Stay("that is news of an entry; the entry is settled")
_ONE_OPEN = Stay("an order is open: a position is handed over only from bought")
_NOT_PROVEN = Stay("the fills do not prove it yet: only fills count")
_ORDER_OUT = Stay("an order is open or unknown: a further one could double it")
_OURS_MAY_EXPLAIN = Stay("a SELL of ours is open or unknown and may explain it")

_NEWS = (
    E.ACCEPTED,
    E.PART_FILLED,
    E.FILLED,
    E.UNFILLED,
    E.CALLED_OFF,
    E.REFUSED,
    E.UNCONFIRMED,
    E.NOT_FOUND,
    E.LATE_ORDER,
    E.LATE_FILL,
    E.CLOSED_OUTSIDE,
)

_BY_STOP_LOSS = Go(S.SL_PENDING, (X.DROP_SELL_TIMER, X.SEND_EXIT))


def _entry_ended(go: Go) -> When:
    """However an entry ends: what it bought is a position."""
    return When(F.BOUGHT_SOME, Go(S.BOUGHT), go)


def _gone(seen: Rule, unseen: Rule) -> When:
    """The position is gone and no order of ours explains it. A stop-loss once seen never ends as `stopped`."""
    return When(F.NO_SELL_EXPECTED, When(F.STOP_SEEN, seen, unseen), _OURS_MAY_EXPLAIN)


_GONE_AT_STOP = When(F.SOLD_SOME, Go(S.EXITED_BY_SL, (X.ALERT,)), Go(S.FAILED, (X.ALERT,)))


def _exit_open(me: State, done: Go) -> dict[Event, Cell]:
    """The three open exits differ in what ends them, and in what may still overtake them."""
    return {
        E.START: Stay("already started"),
        E.BUY: Stay("one entry per run"),
        E.SELL: Stay("the exit is already open"),
        E.STOPLOSS: Go(S.SL_PENDING, (X.DROP_SELL_TIMER, X.UPGRADE_EXIT)),
        E.STOP: Go(S.STOP_PENDING, (X.DROP_SELL_TIMER, X.UPGRADE_EXIT)),
        E.RETRY: When(F.NO_SELL_OUT, Go(me, (X.SEND_EXIT,)), _ORDER_OUT),
        E.SAFETY_ABORT: Go(S.FAILED, (X.ALERT, X.RESCUE)),
        E.HAND_OVER: _ONE_OPEN,
        E.KILL: Go(S.STOP_PENDING, (X.DROP_SELL_TIMER, X.UPGRADE_EXIT)),
        E.SKIP: Stay("already bought"),
        E.ENTRY_EXPIRED: Stay("the entry is settled"),
        E.SESSION_CLOSED: Stay("the exit is not proven: it stays open into the next session", (X.ALERT,)),
        E.ACCEPTED: Stay("accepted is not filled"),
        E.PART_FILLED: Stay("part of the exit filled; the rest is still open"),
        E.FILLED: When(F.NOTHING_LEFT, When(F.STOP_SEEN, Go(S.EXITED_BY_SL), done), _NOT_PROVEN),
        E.UNFILLED: _ENTRY_ONLY,
        E.CALLED_OFF: _ENTRY_ONLY,
        E.REFUSED: Go(S.FAILED, (X.ALERT, X.RESCUE)),
        E.UNCONFIRMED: Go(me, (X.LOOK_UP,)),
        E.NOT_FOUND: Go(me, (X.SEND_EXIT,)),
        E.LATE_ORDER: Go(me, (X.ALERT, X.CANCEL_ENTRY)),
        E.LATE_FILL: Go(me, (X.ALERT, X.CANCEL_ENTRY)),  # the exit goes on for what remains
        E.CLOSED_OUTSIDE: _gone(seen=_GONE_AT_STOP, unseen=Go(S.STOPPED, (X.ALERT, X.ARCHIVE))),
    }


def _final(me: State, *, session_closed: Cell, stop: Cell) -> dict[Event, Cell]:
    """No trading event leaves a final state. Late news may still correct what is held, and is acted upon."""
    flat_again = Go(me, (X.ALERT, X.ARCHIVE) if me is S.STOPPED else (X.ALERT,))
    return {
        E.START: When(
            F.CLOSED,
            NewRun(S.READY, (X.ARCHIVE, X.NEW_RUN)),
            Stay("an earlier run is not closed: it may still buy or hold"),
        ),
        E.BUY: _OVER,
        E.SELL: _OVER,
        E.STOPLOSS: _OVER,
        E.STOP: stop,
        E.RETRY: When(F.NO_SELL_OUT, Go(me, (X.SEND_EXIT,)), _ORDER_OUT),
        E.SAFETY_ABORT: _OVER,
        E.HAND_OVER: _OVER,
        E.KILL: stop,
        E.SKIP: _OVER,
        E.ENTRY_EXPIRED: _OVER,
        E.SESSION_CLOSED: session_closed,
        E.ACCEPTED: Stay("accepted is not filled"),
        E.PART_FILLED: Stay("part of the exit filled; the rest is still open"),
        E.FILLED: When(F.NOTHING_LEFT, flat_again, _NOT_PROVEN),
        E.UNFILLED: _OLD_NEWS,
        E.CALLED_OFF: _OLD_NEWS,
        E.REFUSED: Go(me, (X.RESCUE,)),
        E.UNCONFIRMED: Go(me, (X.LOOK_UP,)),
        E.NOT_FOUND: Go(me, (X.SEND_EXIT,)),
        E.LATE_ORDER: Go(me, (X.ALERT, X.CANCEL_ENTRY)),
        E.LATE_FILL: Go(me, (X.ALERT, X.CANCEL_ENTRY, X.SEND_EXIT)),
        E.CLOSED_OUTSIDE: When(F.NO_SELL_EXPECTED, flat_again, _OURS_MAY_EXPLAIN),
    }


def _over(me: State) -> dict[Event, Cell]:
    archived = Go(S.STOPPED, (X.ARCHIVE,))
    return _final(
        me,
        session_closed=When(F.CLOSED, archived, Go(me, (X.ALERT,))),
        stop=When(F.CLOSED, archived, Go(me, (X.ALERT, X.RESCUE))),  # the wish is kept until the run is closed
    )


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
        E.RETRY: When(
            F.MAY_BUY_AGAIN,
            Go(S.RUNNING, (X.SEND_ENTRY,)),
            Stay("the BUY is not tried again: it may be live, has filled, or is no longer wanted"),
        ),
        E.SAFETY_ABORT: Go(S.FAILED, (X.ALERT, X.CANCEL_ENTRY, X.WATCH_LATE, X.RESCUE)),
        E.HAND_OVER: _ONE_OPEN,
        E.KILL: Go(S.RUNNING, (X.CANCEL_ENTRY,)),
        E.SKIP: Stay("the entry is already open"),
        E.ENTRY_EXPIRED: Go(S.RUNNING, (X.CANCEL_ENTRY,)),
        E.SESSION_CLOSED: Go(S.RUNNING, (X.CANCEL_ENTRY,)),
        E.ACCEPTED: Stay("accepted is not filled"),
        E.PART_FILLED: Stay("part of the entry filled; the rest is still open"),
        E.FILLED: When(F.BOUGHT_SOME, Go(S.BOUGHT), _NOT_PROVEN),
        E.UNFILLED: _entry_ended(Go(S.FAILED, (X.ALERT,))),
        E.CALLED_OFF: _entry_ended(Go(S.STOPPED, (X.ARCHIVE,))),
        E.REFUSED: _entry_ended(Go(S.FAILED, (X.ALERT,))),
        E.UNCONFIRMED: Go(S.RUNNING, (X.LOOK_UP,)),
        E.NOT_FOUND: Go(S.FAILED, (X.ALERT, X.WATCH_LATE, X.RESCUE)),
        E.LATE_ORDER: Stay("the entry is still open: its news counts as it comes"),
        E.LATE_FILL: Stay("the entry is still open: its fills count as they come"),
        E.CLOSED_OUTSIDE: Stay("the entry is not settled yet"),
    },
    S.BOUGHT: {  # the entry is settled with a filled quantity above zero
        E.START: Stay("already started"),
        E.BUY: Stay("one entry per run"),
        E.SELL: When(F.STOP_SEEN, _BY_STOP_LOSS, Go(S.SELL_PENDING, (X.SEND_EXIT,))),
        E.STOPLOSS: _BY_STOP_LOSS,
        E.STOP: When(F.STOP_SEEN, _BY_STOP_LOSS, Go(S.STOP_PENDING, (X.DROP_SELL_TIMER, X.SEND_EXIT))),
        E.RETRY: Stay("there is no order to retry"),
        E.SAFETY_ABORT: Go(S.FAILED, (X.ALERT, X.RESCUE)),
        E.HAND_OVER: When(
            F.STOP_SEEN,
            Stay("the stop-loss was hit: it is sold first"),
            When(F.NO_ORDER_OUT, Go(S.STOPPED, (X.ARCHIVE,)), _ONE_OPEN),
        ),
        E.KILL: When(F.STOP_SEEN, _BY_STOP_LOSS, Go(S.STOP_PENDING, (X.DROP_SELL_TIMER, X.SEND_EXIT))),
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
        E.NOT_FOUND: Go(S.BOUGHT),  # an exit that might have left before a reboot did not: it is licensed again
        E.LATE_ORDER: Go(S.BOUGHT, (X.ALERT, X.CANCEL_ENTRY)),
        E.LATE_FILL: Go(S.BOUGHT, (X.ALERT, X.CANCEL_ENTRY)),  # guarded and sold with the rest
        E.CLOSED_OUTSIDE: _gone(seen=Go(S.FAILED, (X.ALERT,)), unseen=Go(S.STOPPED, (X.ALERT, X.ARCHIVE))),
    },
    S.SELL_PENDING: _exit_open(S.SELL_PENDING, done=Go(S.SOLD)),
    S.SL_PENDING: {  # latched: a recovery of the price does not bring it back
        **_exit_open(S.SL_PENDING, done=Go(S.EXITED_BY_SL)),
        E.STOPLOSS: Stay("the stop-loss is already being executed"),
        E.STOP: Stay("the stop-loss overrides: its exit is already open"),
        E.KILL: Stay("the stop-loss overrides: its exit is already open"),
        E.FILLED: When(F.NOTHING_LEFT, Go(S.EXITED_BY_SL), _NOT_PROVEN),
        E.CLOSED_OUTSIDE: When(F.NO_SELL_EXPECTED, _GONE_AT_STOP, _OURS_MAY_EXPLAIN),
    },
    S.STOP_PENDING: {
        **_exit_open(S.STOP_PENDING, done=Go(S.STOPPED, (X.ARCHIVE,))),
        E.STOP: Stay("already squaring off"),
    },
    S.SOLD: _over(S.SOLD),
    S.EXITED_BY_SL: _over(S.EXITED_BY_SL),
    S.FAILED: _over(S.FAILED),  # automation gave up; getting out goes on while anything may be held
    S.STOPPED: _final(
        S.STOPPED,
        session_closed=When(F.CLOSED, Go(S.STOPPED, (X.ARCHIVE,)), Go(S.STOPPED, (X.ALERT,))),
        stop=When(F.CLOSED, Stay("already stopped"), Go(S.STOPPED, (X.ALERT, X.RESCUE))),
    ),
}

_missing = [(state, event) for state in S for event in E if event not in TABLE.get(state, {})]
if _missing:
    raise RuntimeError(f"the state table has no cell for {_missing}")


def decide(state: State, event: Event, holds: Callable[[Fact], bool]) -> Go | Stay | Never:
    """What `event` does in `state`. `holds` is asked only for the facts that matter to the cell."""
    cell = TABLE[state][event]
    while isinstance(cell, When):
        cell = cell.then if holds(cell.fact) else cell.otherwise
    return cell


FACT_LABEL: dict[Fact, str] = {
    F.CLOSED: "the run is closed: flat or handed over, every order over, no late order watched for",
    F.STOP_SEEN: "the stop-loss was seen",
    F.MAY_BUY_AGAIN: "no BUY is out, none filled, and nobody wants out",
    F.BOUGHT_SOME: "the entry filled something",
    F.SOLD_SOME: "a SELL of ours filled something",
    F.NOTHING_LEFT: "the fills say that nothing is left",
    F.NO_ORDER_OUT: "no order is open or unknown",
    F.NO_SELL_OUT: "no SELL is open or unknown",
    F.NO_SELL_EXPECTED: "no SELL is open or being looked up",
}

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
    Cause.BUY_MISSED: "skipped, you hold nothing: the BUY could not be made in its time",
    Cause.STALE_PRICE: "skipped, you hold nothing: no fresh price at BUY time",
    Cause.STOP_LOSS_NOT_BELOW_PRICE: "skipped, you hold nothing: the price was already at or below the stop-loss",
    Cause.ENTRIES_BLOCKED: "skipped, you hold nothing: new entries were blocked",
    Cause.ENTRY_UNFILLED: "the BUY did not fill in its time and was cancelled; you hold nothing",
    Cause.ENTRY_REFUSED: "skipped, you hold nothing: the broker refused the BUY",
    Cause.EXIT_REFUSED: "the broker refused every SELL",
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
    *(set(Fact) - set(FACT_LABEL)),
    *(set(Event) - set(MEANING)),
]
if _unlabelled:
    raise RuntimeError(f"no display label for {_unlabelled}")
