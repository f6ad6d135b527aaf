"""The state table, cell by cell, against what the specification and the design say.

Every expectation below is written by hand; nothing is read from the table. Each cell is one test case
(`ready-BUY`), and the list of test cases in docs/test-cases.md is made from the ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import pytest

from squareoff.core import machine
from squareoff.core.events import MEANING, Cause, Event
from squareoff.core.machine import Effect, Fact, Go, Never, NewRun, State, Stay, decide
from squareoff.core.types import Exposure

S, E, X, F = State, Event, Effect, Fact


@dataclass(frozen=True)
class Nothing:
    """The state stays and nothing is done, except perhaps an alarm."""

    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True)
class Impossible:
    pass


@dataclass(frozen=True)
class If:
    fact: Fact
    yes: Outcome
    no: Outcome


Outcome = Nothing | Impossible | Go | If
NOTHING, IMPOSSIBLE = Nothing(), Impossible()


def go(to: State, *effects: Effect) -> Go:
    return Go(to, effects)


ARCHIVED = go(S.STOPPED, X.ARCHIVE)
BY_STOP_LOSS = go(S.SL_PENDING, X.DROP_SELL_TIMER, X.SEND_EXIT)
UPGRADED_TO_STOP_LOSS = go(S.SL_PENDING, X.DROP_SELL_TIMER, X.UPGRADE_EXIT)
UPGRADED_TO_STOP = go(S.STOP_PENDING, X.DROP_SELL_TIMER, X.UPGRADE_EXIT)
RESCUED = go(S.FAILED, X.ALERT, X.RESCUE)
FELL = go(S.FAILED, X.ALERT)

CREATED = {
    E.START: go(S.READY, X.ARM),
    E.BUY: NOTHING,
    E.SELL: NOTHING,
    E.STOPLOSS: NOTHING,
    E.STOP: go(S.STOPPED),
    E.RETRY: NOTHING,
    E.SAFETY_ABORT: NOTHING,
    E.HAND_OVER: NOTHING,
    E.KILL: NOTHING,
    E.SKIP: NOTHING,
    E.ENTRY_EXPIRED: NOTHING,
    E.SESSION_CLOSED: NOTHING,
    E.ACCEPTED: IMPOSSIBLE,
    E.PART_FILLED: IMPOSSIBLE,
    E.FILLED: IMPOSSIBLE,
    E.UNFILLED: IMPOSSIBLE,
    E.CALLED_OFF: IMPOSSIBLE,
    E.REFUSED: IMPOSSIBLE,
    E.UNCONFIRMED: IMPOSSIBLE,
    E.NOT_FOUND: IMPOSSIBLE,
    E.LATE_ORDER: IMPOSSIBLE,
    E.LATE_FILL: IMPOSSIBLE,
    E.CLOSED_OUTSIDE: IMPOSSIBLE,
}
READY = {
    E.START: NOTHING,
    E.BUY: go(S.RUNNING, X.SEND_ENTRY),
    E.SELL: NOTHING,
    E.STOPLOSS: NOTHING,
    E.STOP: go(S.STOPPED, X.VOID_ENTRY, X.ARCHIVE),
    E.RETRY: NOTHING,
    E.SAFETY_ABORT: go(S.FAILED, X.VOID_ENTRY, X.ALERT),
    E.HAND_OVER: NOTHING,
    E.KILL: go(S.STOPPED, X.VOID_ENTRY, X.ARCHIVE),
    E.SKIP: go(S.FAILED, X.VOID_ENTRY, X.ALERT),
    E.ENTRY_EXPIRED: NOTHING,
    E.SESSION_CLOSED: go(S.FAILED, X.VOID_ENTRY, X.ALERT),
    E.ACCEPTED: IMPOSSIBLE,
    E.PART_FILLED: IMPOSSIBLE,
    E.FILLED: IMPOSSIBLE,
    E.UNFILLED: IMPOSSIBLE,
    E.CALLED_OFF: IMPOSSIBLE,
    E.REFUSED: IMPOSSIBLE,
    E.UNCONFIRMED: IMPOSSIBLE,
    E.NOT_FOUND: IMPOSSIBLE,
    E.LATE_ORDER: IMPOSSIBLE,
    E.LATE_FILL: IMPOSSIBLE,
    E.CLOSED_OUTSIDE: IMPOSSIBLE,
}
RUNNING = {
    E.START: NOTHING,
    E.BUY: NOTHING,
    E.SELL: go(S.RUNNING, X.CANCEL_ENTRY),
    E.STOPLOSS: go(S.RUNNING, X.CANCEL_ENTRY),
    E.STOP: go(S.RUNNING, X.CANCEL_ENTRY),
    E.RETRY: If(F.MAY_BUY_AGAIN, go(S.RUNNING, X.SEND_ENTRY), NOTHING),
    E.SAFETY_ABORT: go(S.FAILED, X.ALERT, X.CANCEL_ENTRY, X.WATCH_LATE, X.RESCUE),
    E.HAND_OVER: NOTHING,
    E.KILL: go(S.RUNNING, X.CANCEL_ENTRY),
    E.SKIP: NOTHING,
    E.ENTRY_EXPIRED: go(S.RUNNING, X.CANCEL_ENTRY),
    E.SESSION_CLOSED: go(S.RUNNING, X.CANCEL_ENTRY),
    E.ACCEPTED: NOTHING,
    E.PART_FILLED: NOTHING,
    E.FILLED: If(F.BOUGHT_SOME, go(S.BOUGHT), NOTHING),
    E.UNFILLED: If(F.BOUGHT_SOME, go(S.BOUGHT), FELL),
    E.CALLED_OFF: If(F.BOUGHT_SOME, go(S.BOUGHT), ARCHIVED),
    E.REFUSED: If(F.BOUGHT_SOME, go(S.BOUGHT), FELL),
    E.UNCONFIRMED: go(S.RUNNING, X.LOOK_UP),
    E.NOT_FOUND: go(S.FAILED, X.ALERT, X.WATCH_LATE, X.RESCUE),
    E.LATE_ORDER: NOTHING,
    E.LATE_FILL: NOTHING,
    E.CLOSED_OUTSIDE: NOTHING,
}
BOUGHT = {
    E.START: NOTHING,
    E.BUY: NOTHING,
    E.SELL: If(F.STOP_SEEN, BY_STOP_LOSS, go(S.SELL_PENDING, X.SEND_EXIT)),
    E.STOPLOSS: BY_STOP_LOSS,
    E.STOP: If(F.STOP_SEEN, BY_STOP_LOSS, go(S.STOP_PENDING, X.DROP_SELL_TIMER, X.SEND_EXIT)),
    E.RETRY: NOTHING,
    E.SAFETY_ABORT: RESCUED,
    E.HAND_OVER: If(F.STOP_SEEN, NOTHING, If(F.NO_ORDER_OUT, ARCHIVED, NOTHING)),
    E.KILL: If(F.STOP_SEEN, BY_STOP_LOSS, go(S.STOP_PENDING, X.DROP_SELL_TIMER, X.SEND_EXIT)),
    E.SKIP: NOTHING,
    E.ENTRY_EXPIRED: NOTHING,
    E.SESSION_CLOSED: Nothing((X.ALERT,)),
    E.ACCEPTED: NOTHING,
    E.PART_FILLED: NOTHING,
    E.FILLED: NOTHING,
    E.UNFILLED: NOTHING,
    E.CALLED_OFF: NOTHING,
    E.REFUSED: NOTHING,
    E.UNCONFIRMED: NOTHING,
    E.NOT_FOUND: go(S.BOUGHT),
    E.LATE_ORDER: go(S.BOUGHT, X.ALERT, X.CANCEL_ENTRY),
    E.LATE_FILL: go(S.BOUGHT, X.ALERT, X.CANCEL_ENTRY),
    E.CLOSED_OUTSIDE: If(F.NO_SELL_EXPECTED, If(F.STOP_SEEN, FELL, go(S.STOPPED, X.ALERT, X.ARCHIVE)), NOTHING),
}
GONE_AT_STOP = If(F.SOLD_SOME, go(S.EXITED_BY_SL, X.ALERT), FELL)
SELL_PENDING = {
    E.START: NOTHING,
    E.BUY: NOTHING,
    E.SELL: NOTHING,
    E.STOPLOSS: UPGRADED_TO_STOP_LOSS,
    E.STOP: UPGRADED_TO_STOP,
    E.RETRY: If(F.NO_SELL_OUT, go(S.SELL_PENDING, X.SEND_EXIT), NOTHING),
    E.SAFETY_ABORT: RESCUED,
    E.HAND_OVER: NOTHING,
    E.KILL: UPGRADED_TO_STOP,
    E.SKIP: NOTHING,
    E.ENTRY_EXPIRED: NOTHING,
    E.SESSION_CLOSED: Nothing((X.ALERT,)),
    E.ACCEPTED: NOTHING,
    E.PART_FILLED: NOTHING,
    E.FILLED: If(F.NOTHING_LEFT, If(F.STOP_SEEN, go(S.EXITED_BY_SL), go(S.SOLD)), NOTHING),
    E.UNFILLED: NOTHING,
    E.CALLED_OFF: NOTHING,
    E.REFUSED: RESCUED,
    E.UNCONFIRMED: go(S.SELL_PENDING, X.LOOK_UP),
    E.NOT_FOUND: go(S.SELL_PENDING, X.SEND_EXIT),
    E.LATE_ORDER: go(S.SELL_PENDING, X.ALERT, X.CANCEL_ENTRY),
    E.LATE_FILL: go(S.SELL_PENDING, X.ALERT, X.CANCEL_ENTRY),
    E.CLOSED_OUTSIDE: If(F.NO_SELL_EXPECTED, If(F.STOP_SEEN, GONE_AT_STOP, go(S.STOPPED, X.ALERT, X.ARCHIVE)), NOTHING),
}
SL_PENDING = {
    E.START: NOTHING,
    E.BUY: NOTHING,
    E.SELL: NOTHING,
    E.STOPLOSS: NOTHING,
    E.STOP: NOTHING,
    E.RETRY: If(F.NO_SELL_OUT, go(S.SL_PENDING, X.SEND_EXIT), NOTHING),
    E.SAFETY_ABORT: RESCUED,
    E.HAND_OVER: NOTHING,
    E.KILL: NOTHING,
    E.SKIP: NOTHING,
    E.ENTRY_EXPIRED: NOTHING,
    E.SESSION_CLOSED: Nothing((X.ALERT,)),
    E.ACCEPTED: NOTHING,
    E.PART_FILLED: NOTHING,
    E.FILLED: If(F.NOTHING_LEFT, go(S.EXITED_BY_SL), NOTHING),
    E.UNFILLED: NOTHING,
    E.CALLED_OFF: NOTHING,
    E.REFUSED: RESCUED,
    E.UNCONFIRMED: go(S.SL_PENDING, X.LOOK_UP),
    E.NOT_FOUND: go(S.SL_PENDING, X.SEND_EXIT),
    E.LATE_ORDER: go(S.SL_PENDING, X.ALERT, X.CANCEL_ENTRY),
    E.LATE_FILL: go(S.SL_PENDING, X.ALERT, X.CANCEL_ENTRY),
    E.CLOSED_OUTSIDE: If(F.NO_SELL_EXPECTED, GONE_AT_STOP, NOTHING),
}
STOP_PENDING = {
    E.START: NOTHING,
    E.BUY: NOTHING,
    E.SELL: NOTHING,
    E.STOPLOSS: UPGRADED_TO_STOP_LOSS,
    E.STOP: NOTHING,
    E.RETRY: If(F.NO_SELL_OUT, go(S.STOP_PENDING, X.SEND_EXIT), NOTHING),
    E.SAFETY_ABORT: RESCUED,
    E.HAND_OVER: NOTHING,
    E.KILL: UPGRADED_TO_STOP,
    E.SKIP: NOTHING,
    E.ENTRY_EXPIRED: NOTHING,
    E.SESSION_CLOSED: Nothing((X.ALERT,)),
    E.ACCEPTED: NOTHING,
    E.PART_FILLED: NOTHING,
    E.FILLED: If(F.NOTHING_LEFT, If(F.STOP_SEEN, go(S.EXITED_BY_SL), ARCHIVED), NOTHING),
    E.UNFILLED: NOTHING,
    E.CALLED_OFF: NOTHING,
    E.REFUSED: RESCUED,
    E.UNCONFIRMED: go(S.STOP_PENDING, X.LOOK_UP),
    E.NOT_FOUND: go(S.STOP_PENDING, X.SEND_EXIT),
    E.LATE_ORDER: go(S.STOP_PENDING, X.ALERT, X.CANCEL_ENTRY),
    E.LATE_FILL: go(S.STOP_PENDING, X.ALERT, X.CANCEL_ENTRY),
    E.CLOSED_OUTSIDE: If(F.NO_SELL_EXPECTED, If(F.STOP_SEEN, GONE_AT_STOP, go(S.STOPPED, X.ALERT, X.ARCHIVE)), NOTHING),
}


def over(me: State) -> dict[Event, Outcome]:
    """The specification says it once for `sold`, `exited_by_sl` and `failed` (section 9), and so do we."""
    return {
        E.START: If(F.CLOSED, NewRun(S.READY, (X.ARCHIVE, X.NEW_RUN)), NOTHING),
        E.BUY: NOTHING,
        E.SELL: NOTHING,
        E.STOPLOSS: NOTHING,
        E.STOP: If(F.CLOSED, ARCHIVED, go(me, X.ALERT, X.RESCUE)),
        E.RETRY: If(F.NO_SELL_OUT, go(me, X.SEND_EXIT), NOTHING),
        E.SAFETY_ABORT: NOTHING,
        E.HAND_OVER: NOTHING,
        E.KILL: If(F.CLOSED, ARCHIVED, go(me, X.ALERT, X.RESCUE)),
        E.SKIP: NOTHING,
        E.ENTRY_EXPIRED: NOTHING,
        E.SESSION_CLOSED: If(F.CLOSED, ARCHIVED, go(me, X.ALERT)),
        E.ACCEPTED: NOTHING,
        E.PART_FILLED: NOTHING,
        E.FILLED: If(F.NOTHING_LEFT, go(me, X.ALERT), NOTHING),
        E.UNFILLED: NOTHING,
        E.CALLED_OFF: NOTHING,
        E.REFUSED: go(me, X.RESCUE),
        E.UNCONFIRMED: go(me, X.LOOK_UP),
        E.NOT_FOUND: go(me, X.SEND_EXIT),
        E.LATE_ORDER: go(me, X.ALERT, X.CANCEL_ENTRY),
        E.LATE_FILL: go(me, X.ALERT, X.CANCEL_ENTRY, X.SEND_EXIT),
        E.CLOSED_OUTSIDE: If(F.NO_SELL_EXPECTED, go(me, X.ALERT), NOTHING),
    }


SOLD, EXITED_BY_SL, FAILED = over(S.SOLD), over(S.EXITED_BY_SL), over(S.FAILED)
STOPPED = {
    **over(S.STOPPED),
    E.STOP: If(F.CLOSED, NOTHING, go(S.STOPPED, X.ALERT, X.RESCUE)),
    E.KILL: If(F.CLOSED, NOTHING, go(S.STOPPED, X.ALERT, X.RESCUE)),
    E.FILLED: If(F.NOTHING_LEFT, go(S.STOPPED, X.ALERT, X.ARCHIVE), NOTHING),
    E.CLOSED_OUTSIDE: If(F.NO_SELL_EXPECTED, go(S.STOPPED, X.ALERT, X.ARCHIVE), NOTHING),
}

ALL_FACTS = [frozenset(some) for size in range(len(Fact) + 1) for some in combinations(Fact, size)]


def expected_of(outcome: Outcome, facts: frozenset[Fact]) -> Nothing | Impossible | Go:
    while isinstance(outcome, If):
        outcome = outcome.yes if outcome.fact in facts else outcome.no
    return outcome


def as_outcome(cell: Go | Stay | Never) -> Nothing | Impossible | Go:
    if isinstance(cell, Stay):
        return Nothing(cell.effects)
    return Impossible() if isinstance(cell, Never) else cell


def check(state: State, event: Event, expected: dict[Event, Outcome]) -> None:
    """Whatever is true of the run, the cell says what we wrote down; and "nothing" has a reason to read."""
    for facts in ALL_FACTS:
        cell = decide(state, event, facts.__contains__)
        assert as_outcome(cell) == expected_of(expected[event], facts), f"when {sorted(facts)}"
        if not isinstance(cell, Go):
            assert len(cell.reason) > 5
            assert cell.reason[0].islower()


def every_event_while(state: State) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("event", [pytest.param(event, id=f"{state}-{event}") for event in Event])


@every_event_while(S.CREATED)
def test_a_saved_strategy_does_nothing_until_it_is_started(event: Event) -> None:
    check(S.CREATED, event, CREATED)


@every_event_while(S.READY)
def test_a_started_strategy_waits_for_its_buy_time(event: Event) -> None:
    check(S.READY, event, READY)


@every_event_while(S.RUNNING)
def test_while_the_buy_is_not_proven_it_is_neither_repeated_nor_forgotten(event: Event) -> None:
    check(S.RUNNING, event, RUNNING)


@every_event_while(S.BOUGHT)
def test_a_position_is_left_by_stop_loss_sell_time_stop_or_hand_over(event: Event) -> None:
    check(S.BOUGHT, event, BOUGHT)


@every_event_while(S.SELL_PENDING)
def test_a_timed_sell_is_over_when_the_fills_say_so(event: Event) -> None:
    check(S.SELL_PENDING, event, SELL_PENDING)


@every_event_while(S.SL_PENDING)
def test_a_stop_loss_that_was_hit_is_overtaken_by_nothing(event: Event) -> None:
    check(S.SL_PENDING, event, SL_PENDING)


@every_event_while(S.STOP_PENDING)
def test_squaring_off_as_asked_is_overtaken_only_by_the_stop_loss(event: Event) -> None:
    check(S.STOP_PENDING, event, STOP_PENDING)


@every_event_while(S.SOLD)
def test_sold_is_left_only_by_archiving(event: Event) -> None:
    check(S.SOLD, event, SOLD)


@every_event_while(S.EXITED_BY_SL)
def test_exited_by_stop_loss_is_left_only_by_archiving(event: Event) -> None:
    check(S.EXITED_BY_SL, event, EXITED_BY_SL)


@every_event_while(S.FAILED)
def test_failed_is_left_only_by_archiving_and_getting_out_goes_on(event: Event) -> None:
    check(S.FAILED, event, FAILED)


@every_event_while(S.STOPPED)
def test_stopped_is_left_only_by_a_new_run(event: Event) -> None:
    check(S.STOPPED, event, STOPPED)


def test_every_cell_of_the_table_has_an_expectation_written_by_hand() -> None:
    written = {state: globals()[state.name] for state in State}
    assert {state: set(cells) for state, cells in written.items()} == {state: set(Event) for state in State}


def test_there_is_a_word_for_every_state_event_cause_fact_and_exposure() -> None:
    assert set(machine.STATE_LABEL) == set(State)
    assert set(machine.CAUSE_LABEL) == set(Cause)
    assert set(machine.FACT_LABEL) == set(Fact)
    assert set(machine.EXPOSURE_LABEL) == set(Exposure)
    assert set(MEANING) == set(Event)


def test_no_cause_claims_a_position_which_only_exposure_can_know() -> None:
    claims = {cause: label for cause, label in machine.CAUSE_LABEL.items() if "YOU STILL HOLD" in label.upper()}
    assert claims == {}


def test_a_label_is_shown_on_one_line() -> None:
    labels = [*machine.STATE_LABEL.values(), *machine.CAUSE_LABEL.values(), *machine.EXPOSURE_LABEL.values()]
    assert [label for label in labels if len(label) > 80 or "\n" in label] == []


def test_no_answer_from_the_broker_leads_to_a_look_up_and_never_to_a_resend() -> None:
    """Spec 10.1, 10.2"""
    for state in (S.RUNNING, S.SELL_PENDING, S.SL_PENDING, S.STOP_PENDING, S.FAILED):
        for facts in ALL_FACTS:
            assert decide(state, E.UNCONFIRMED, facts.__contains__) == Go(state, (X.LOOK_UP,))


def test_a_buy_is_sent_only_from_ready_and_again_only_while_it_may_be() -> None:
    """Spec 10.1"""
    senders = {
        (state, event)
        for state in State
        for event in Event
        for facts in ALL_FACTS
        if isinstance(cell := decide(state, event, facts.__contains__), Go) and X.SEND_ENTRY in cell.effects
    }
    assert senders == {(S.READY, E.BUY), (S.RUNNING, E.RETRY)}


def test_a_retry_never_changes_the_state() -> None:
    """Spec 5.4a"""
    for state in State:
        for facts in ALL_FACTS:
            cell = decide(state, E.RETRY, facts.__contains__)
            assert isinstance(cell, Stay) or cell.to is state


def test_whatever_gives_up_with_a_position_keeps_trying_to_get_out() -> None:
    """Spec 10.4"""
    for state in (S.BOUGHT, S.SELL_PENDING, S.SL_PENDING, S.STOP_PENDING):
        for facts in ALL_FACTS:
            cell = decide(state, E.SAFETY_ABORT, facts.__contains__)
            assert cell == Go(S.FAILED, (X.ALERT, X.RESCUE))


def test_whatever_ends_in_failed_says_so_at_once() -> None:
    silent = {
        (state, event)
        for state in set(State) - machine.FINAL
        for event in Event
        for facts in ALL_FACTS
        if isinstance(cell := decide(state, event, facts.__contains__), Go)
        and cell.to is S.FAILED
        and X.ALERT not in cell.effects
    }
    assert silent == set()


def test_from_every_state_there_is_a_way_to_a_final_one() -> None:
    """Spec 10.4"""
    reaches = set(machine.FINAL)
    while True:
        more = {
            state
            for state in set(State) - reaches
            for event in Event
            for facts in ALL_FACTS
            if isinstance(cell := decide(state, event, facts.__contains__), Go) and cell.to in reaches
        }
        if not more:
            break
        reaches |= more
    assert reaches == set(State)
