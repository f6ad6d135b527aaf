"""What the journal says of an event, a transition and an answer: a sentence for a person, and the same as values."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from squareoff.core.events import Signal
from squareoff.core.machine import CAUSE_LABEL, FINAL, STATE_LABEL, State
from squareoff.core.outcomes import Answered, GateSaidNo, Limited, NotSent, Refused, Sent, Unknown
from squareoff.core.run import Run
from squareoff.core.strategy import Plan
from squareoff.core.types import ClientOrderId

Told = tuple[str, dict[str, Any]]
"""The sentence, and its values."""


def of_signal(signal: Signal) -> Told:
    what = [str(signal.event)]
    if signal.price is not None:
        what.append(f"at price {signal.price:f}")
    if signal.cause is not None:
        what.append(f"({CAUSE_LABEL[signal.cause]})")
    if signal.detail:
        what.append(f": {signal.detail}")
    price = None if signal.price is None else f"{signal.price:f}"
    return " ".join(what), {"event": signal.event, "source": signal.source, "price": price}


def of_transition(before: Run, run: Run) -> Told:
    data: dict[str, Any] = {"from": before.state, "to": run.state, "cause": run.cause, "exposure": run.exposure}
    text = f"{before.state} -> {run.state}: {STATE_LABEL[run.state]}"
    if run.cause is not None and run.state in FINAL:
        text = f"{before.state} -> {run.state}: {CAUSE_LABEL[run.cause]}"
    if run.state is State.BOUGHT and run.stop_price is not None:
        data["stop_price"] = f"{run.stop_price:f}"
        data["avg_fill_price"] = f"{run.entry.avg_fill_price:f}"
        data["stop_loss"] = str(run.plan.stop_loss)
    return text, data


def of_answer(order: ClientOrderId, sent: Sent) -> Told:
    match sent:
        case Answered(report):
            text = f"{order} acknowledged as {report.broker_order_id}: {report.status}"
        case Refused(reason=reason, permanent=permanent):
            text = f"{order} refused: {reason}" + ("" if permanent else " (may be tried again)")
        case NotSent(reason):
            text = f"{order} never left: {reason}"
        case GateSaidNo(reason=reason):
            text = f"{order} not sent: {reason}"
        case Limited(retry_after_s):
            text = f"{order} not taken: too many requests, again in {retry_after_s:g} s"
        case Unknown(reason):
            text = f"no clear answer for {order}: {reason}; it may be live"
    return text, {"order": order, "outcome": type(sent).__name__}


def of_edit(before: Plan, run: Run) -> Told:
    names = [name for name in before.__slots__ if getattr(before, name) != getattr(run.plan, name)]
    changes = {name: {"old": _shown(getattr(before, name)), "new": _shown(getattr(run.plan, name))} for name in names}
    told = ", ".join(f"{name} {change['old']} -> {change['new']}" for name, change in changes.items())
    level = "" if run.stop_price is None else f"; the stop-loss is at {run.stop_price:f} now"
    return f"edited: {told}{level}", {"changes": changes}


def _shown(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def news(before: Run, run: Run) -> tuple[str, str] | None:
    """Headline and text for a person when something was bought or sold; None: nothing was."""
    if run.state is State.BOUGHT and (bought := run.entry.avg_fill_price) is not None:
        level = "" if run.stop_price is None else f"stop-loss {run.stop_price:f}"
        return f"{run.plan.name}: bought {run.entry.filled_qty:f} {run.plan.symbol} at {bought:f}", level
    if run.state not in FINAL or before.state in FINAL:
        return None
    sold, pnl = run.exit.avg_fill_price, run.pnl_gross
    if sold is None or pnl is None:
        return None
    why = CAUSE_LABEL[run.cause] if run.cause is not None else STATE_LABEL[run.state]
    headline = f"{run.plan.name}: sold {run.exit.filled_qty:f} {run.plan.symbol} at {sold:f}"
    return headline, f"{why}; P&L {pnl:f}, gross, before charges"


def exposure_key(run: Run) -> str:
    """What a person acknowledges: this position for this reason. Anything new about it rings again."""
    return f"{run.plan.run_id} {run.state} {run.cause} {run.remaining_qty:f}"
