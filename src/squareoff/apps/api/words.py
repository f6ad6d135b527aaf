"""Runs, strategies and the journal as the API writes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from squareoff.apps.api import shapes
from squareoff.apps.formats import exact, local, plain, run_row, strategy_row
from squareoff.core.machine import STATE_LABEL, State
from squareoff.core.preflight import Check
from squareoff.core.run import Run
from squareoff.core.strategy import Strategy
from squareoff.ports import JournalEntry


def strategy_shape(strategy: Strategy, run: Run | None) -> shapes.StrategyShape:
    """`run`: the one that is not closed, or the last one."""
    state = State.CREATED if run is None else run.state
    open_run_id = None if run is None or run.is_closed else run.plan.run_id
    return shapes.StrategyShape(
        **strategy_row(strategy),
        revision=strategy.revision,
        state=state,
        label=STATE_LABEL[state],
        open_run_id=open_run_id,
    )


def run_shape(run: Run, zone: ZoneInfo) -> shapes.RunShape:
    plan = run.plan
    return shapes.RunShape(
        **run_row(run, zone),
        strategy_id=plan.strategy_id,
        account=plan.account,
        product=str(plan.product),
        buy_at=plan.buy_at.astimezone(zone).isoformat(),
        sell_at=plan.sell_at.astimezone(zone).isoformat(),
        stop_loss=str(plan.stop_loss),
        zone=zone.key,
    )


def check_shapes(checks: Iterable[Check]) -> list[shapes.CheckShape]:
    return [shapes.CheckShape(name=str(c.name), ok=c.ok, text=plain(c.text), mend=plain(c.mend)) for c in checks]


def journal_shapes(lines: Sequence[tuple[int, JournalEntry]], zone: ZoneInfo) -> list[shapes.JournalLine]:
    return [
        shapes.JournalLine(
            seq=seq,
            at=local(entry.at, zone) or "",
            account=entry.account,
            kind=str(entry.kind),
            engine=str(entry.engine),
            run_id=entry.run_id,
            strategy_id=entry.strategy_id,
            text=plain(entry.text),
            data={key: _plain_value(value) for key, value in entry.data.items()},
        )
        for seq, entry in lines
    ]


def _plain_value(value: Any) -> Any:
    return exact(value) if isinstance(value, Decimal) else value
