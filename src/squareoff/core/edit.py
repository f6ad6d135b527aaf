"""What an edit of the definition does to a run that is under way."""

from __future__ import annotations

from squareoff.core.machine import FINAL, State
from squareoff.core.run import Run
from squareoff.core.session import Session
from squareoff.core.strategy import Plan, Strategy
from squareoff.core.values import replace

ANY_TIME = ("sell_time", "stop_loss")
"""Fields that may change after the entry; the others hold from the next run on."""


def changed_plan(plan: Plan, new: Plan, *, bought: bool) -> Plan:
    """`plan` with what may be changed of it. Before the entry everything but symbol and account, which `new` has
    anyway; after it the stop-loss and the sell time."""
    if not bought:
        return new
    return replace(plan, sell_at=new.sell_at, stop_loss=new.stop_loss)


def replanned(plan: Plan, strategy: Strategy, session: Session) -> Plan:
    """`plan` as the definition says now, on the same trading day. What no edit changes stays: symbol, account, the
    timing of the market, the tick size it was made with."""
    return replace(
        plan,
        name=strategy.name,
        product=strategy.product,
        quantity=strategy.quantity,
        buy_at=session.at(strategy.buy_time),
        sell_at=session.at(strategy.sell_time),
        stop_loss=strategy.stop_loss,
    )


def edited(run: Run, new: Plan) -> Run | None:
    """The run under its edited plan; `run` itself if nothing of it changes. None: not now, ask again; its entry is
    open, or its exit is on its way."""
    if run.state in FINAL:
        return run
    if run.state in (State.CREATED, State.READY):
        plan = changed_plan(run.plan, new, bought=False)
    elif run.state is State.BOUGHT and not run.exit.is_live and run.stop_seen is None:
        plan = changed_plan(run.plan, new, bought=True)
    else:
        return None
    if plan == run.plan:
        return run
    average = run.entry.avg_fill_price
    stop_price = run.stop_price
    if average is not None and plan.stop_loss != run.plan.stop_loss:
        stop_price = plan.stop_loss.price_for(average, plan.tick_size)
    return replace(run, plan=plan, stop_price=stop_price, version=run.version + 1)
