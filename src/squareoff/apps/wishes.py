"""What asking to start or to stop a strategy comes to: the same for the command line and the API.

A wish is committed to SQL before it is answered; what is said of it is what SQL shows, never what should happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from squareoff.core.bad_input import BadInput

if TYPE_CHECKING:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.preflight import Check
    from squareoff.core.run import Run
    from squareoff.core.strategy import Plan, Strategy
    from squareoff.core.types import StrategyId
    from squareoff.ports import WishRecord
    from squareoff.wiring import ReferenceData


@dataclass(kw_only=True)
class Answer:
    """What became of one strategy. `word` is for programs, `text` for people."""

    strategy: Strategy
    word: str
    text: str
    status: int = 0
    run: Run | None = None
    plan: Plan | None = None
    red: Sequence[Check] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        from squareoff import wiring
        from squareoff.apps.formats import local, run_row

        zone, plan = wiring.zone_of(self.strategy.symbol), self.plan
        return {
            "id": self.strategy.id,
            "name": self.strategy.name,
            "result": self.word,
            "text": self.text,
            "date": None if plan is None else plan.trading_day.isoformat(),
            "buy_at": None if plan is None else local(plan.buy_at, zone),
            "zone": zone.key,
            "red": [{"name": str(check.name), "text": check.text, "mend": check.mend} for check in self.red],
            "run": None if self.run is None else run_row(self.run, zone),
            **self.more,
        }


def open_run(runs: Iterable[Run], strategy_id: StrategyId) -> Run | None:
    """The run that is not closed: there is one at most."""
    return next((run for run in runs if run.plan.strategy_id == strategy_id and not run.is_closed), None)


def last_wishes(store: StrategyStore) -> dict[StrategyId, WishRecord]:
    """The latest wish of each strategy that no worker has taken up."""
    return {wish.strategy_id: wish for wish in store.pending_wishes()}


def in_the_way(
    strategy: Strategy,
    run: Run | None,
    pending: Mapping[StrategyId, WishRecord],
    reference: ReferenceData,
    now: datetime,
) -> Answer | None:
    """Why there is nothing to start: it is started already, or an earlier run may still buy or hold."""
    from squareoff import wiring
    from squareoff.apps.status.next_action import buy_words, day_words, next_action, planned
    from squareoff.core.events import Event
    from squareoff.core.machine import FINAL, STATE_LABEL

    wish, zone = pending.get(strategy.id), wiring.zone_of(strategy.symbol)
    if run is not None and run.state in FINAL:
        return Answer(strategy=strategy, word="refused", text=not_closed(run), status=2, run=run)
    if run is not None and wish is not None and wish.event is not Event.START:
        text = f"{not_closed(run)}; a {wish.event} of it waits for the worker"
        return Answer(strategy=strategy, word="refused", text=text, status=2, run=run)
    if run is not None:
        text = f"started already, nothing changed: {STATE_LABEL[run.state]}; {next_action(run, zone)}"
        return Answer(strategy=strategy, word="already", text=text, run=run, plan=run.plan)
    if wish is not None and wish.event is Event.START:
        plan = planned(strategy, reference, now)
        text = (
            f"started already, nothing changed: the worker has not taken it up yet; then "
            f"{buy_words(plan, zone)} on {day_words(plan.trading_day)}"
        )
        return Answer(strategy=strategy, word="already", text=text, plan=plan)
    return None


def not_closed(run: Run) -> str:
    """In the words of the store, which refuses an edit for the same reason."""
    from squareoff.core.machine import EXPOSURE_LABEL, STATE_LABEL

    held = f" ({run.remaining_qty:f} of {run.plan.symbol})" if run.remaining_qty > 0 else ""
    return (
        f"run {run.plan.run_id} of {run.plan.name} on {run.plan.trading_day} is not closed: {STATE_LABEL[run.state]}; "
        f"{EXPOSURE_LABEL[run.exposure]}{held}; it may still buy or hold; stop it, or wait until it is closed"
    )


def to_start(strategy: Strategy, reference: ReferenceData, now: datetime) -> Answer:
    from squareoff.apps.status.next_action import planned

    try:
        plan = planned(strategy, reference, now)
    except BadInput as error:
        return Answer(strategy=strategy, word="refused", text=f"{error.wrong}; {error.right}".rstrip("; "), status=2)
    text = for_when(strategy, plan, reference, now)
    return Answer(strategy=strategy, word="saved", text=f"saved for {text}", plan=plan, more={"when": text})


def for_when(strategy: Strategy, plan: Plan, reference: ReferenceData, now: datetime) -> str:
    """`Wed 25 Nov 2026, BUY 50 NSE:INFY at 09:20 (today's 09:20 has passed)`"""
    from squareoff import wiring
    from squareoff.apps.status.next_action import buy_words, day_words, why_not_today

    why = why_not_today(strategy, reference, now, plan.trading_day)
    text = f"{day_words(plan.trading_day)}, {buy_words(plan, wiring.zone_of(strategy.symbol))}"
    return f"{text} ({why})" if why else text


def ask_to_stop(
    store: StrategyStore, strategy_id: StrategyId, *, is_starting: bool, hand_over: bool, at: datetime, by: str
) -> WishRecord | None:
    """Commit it. `is_starting`: a START waits and there is no run yet. None: that was taken back, so there is nothing
    to stop; a worker that was faster is told like any other."""
    from squareoff.core.events import Event

    if is_starting and store.take_back_start(strategy_id, at=at, by=by):
        return None
    return store.wish(strategy_id, Event.HAND_OVER if hand_over else Event.STOP, at=at, by=by)
