"""`squareoff edit`: change a strategy, and see first what changes when."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squareoff.apps.strategies_command import find_strategy
from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.edit import ANY_TIME

if TYPE_CHECKING:
    from squareoff.core.run import Run
    from squareoff.core.strategy import Strategy

TAKEN_WITHIN_S = 3.0

HELP = """Change a strategy. What is not named stays as it is.

Before the entry everything but symbol and account takes effect at once; while something is held, the stop-loss and the
sell time do, and the rest from the next run on. It is shown first, and asked.

\b
  squareoff edit morning --stop-loss 1.2%
  squareoff edit morning --sell 14:55 --yes
"""


def register(app: typer.Typer) -> None:
    app.command("edit", help=HELP, short_help="Change a strategy; shows first what changes when.")(_edit)


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text, show_default=False)


def _edit(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id.")],
    new_name: Annotated[str | None, _option("--name", "NAME", "A new name.")] = None,
    qty: Annotated[str | None, _option("--qty", "N", "How many shares.")] = None,
    buy: Annotated[str | None, _option("--buy", "HH:MM", "When to buy.")] = None,
    sell: Annotated[str | None, _option("--sell", "HH:MM", "When to sell.")] = None,
    stop_loss: Annotated[str | None, _option("--stop-loss", "LEVEL", "1540, 1.5% or 20pts.")] = None,
    repeat: Annotated[str | None, _option("--repeat", "once|daily", "")] = None,
    until: Annotated[str | None, _option("--until", "YYYY-MM-DD", "Last trading day of one that repeats.")] = None,
    product: Annotated[str | None, _option("--product", "MIS|CNC|NRML", "")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import print_json

    config: Config = context.obj
    given = {
        "name": new_name,
        "quantity": qty,
        "buy_time": buy,
        "sell_time": sell,
        "stop_loss": stop_loss,
        "repeat": repeat,
        "until": until,
        "product": product,
    }
    changes = {field: text for field, text in given.items() if text is not None}
    if not changes:
        raise BadInput("edit", "says nothing that would change", "see `squareoff edit --help`")
    store = wiring.open_strategy_store(config)
    try:
        old = find_strategy(store, name)
        new = changed(config, old, changes)
        run = next((run for run in store.open_runs() if run.plan.strategy_id == old.id and not run.is_closed), None)
        rows = consequences(old, new, run)
        if not rows:
            typer.echo(f"{old.name} is so already; nothing was changed")
            return
        if not as_json:
            for row in rows:
                typer.echo(f"  {row['field']}: {row['old']} -> {row['new']}   {row['when']}")
        if not yes and sys.stdin.isatty() and not as_json and not typer.confirm("Change it?", default=True):
            raise typer.Abort
        store.edit(new, at=wiring.now(config))
        taken = _wait_taken(config, store, run, rows)
    finally:
        store.close()
    if as_json:
        print_json({"strategy": new.name, "changes": rows, "run_changed": taken})
    else:
        typer.echo(_result(new, run, taken, rows))


def changed(config: Config, old: Strategy, changes: dict[str, str]) -> Strategy:
    """The definition as it would be, checked like a new one. Raises BadInput."""
    from squareoff import wiring
    from squareoff.apps.strategies_command import Market
    from squareoff.core.definition import read

    fields = fields_of(old)
    if changes.get("repeat") == "once":
        fields.pop("until", None)
    draft = read({**fields, **changes})
    Market(reference=wiring.reference_data(config), now=wiring.now(config)).check("", draft, None)
    return replace(draft.as_strategy(old.id, old.user), revision=old.revision)


def fields_of(strategy: Strategy) -> dict[str, object]:
    """As `core.definition.read` takes them."""
    fields: dict[str, object] = {
        "name": strategy.name,
        "symbol": strategy.symbol,
        "quantity": strategy.quantity,
        "buy_time": strategy.buy_time,
        "sell_time": strategy.sell_time,
        "stop_loss": str(strategy.stop_loss),
        "repeat": str(strategy.repeat),
        "product": str(strategy.product),
        "account": strategy.account,
    }
    return fields if strategy.until is None else {**fields, "until": strategy.until}


def consequences(old: Strategy, new: Strategy, run: Run | None) -> list[dict[str, str]]:
    rows = []
    for field in ("name", "quantity", "buy_time", "sell_time", "stop_loss", "repeat", "until", "product"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            rows.append({"field": field, "old": str(before), "new": str(after), "when": _when(field, run)})
    return rows


def _when(field: str, run: Run | None) -> str:
    from squareoff.core.machine import FINAL, State

    if field in ("repeat", "until"):
        return "from the next run on"
    if run is None or run.state in FINAL:
        return "at once: no run is under way"
    if run.state in (State.CREATED, State.READY):
        return f"at once, for the run of {run.plan.trading_day} too"
    if run.state is State.BOUGHT and field in ANY_TIME:
        return "at once, for what is held too"
    if run.state is State.RUNNING and field in ANY_TIME:
        return "as soon as the entry that is open has settled"
    return f"from the next run on: the run of {run.plan.trading_day} is {run.state}"


def _wait_taken(config: Config, store: Any, run: Run | None, rows: list[dict[str, str]]) -> bool | None:
    """Whether the worker has put it into the run; None: there was nothing for it to do."""
    from squareoff.apps.up.supervisor import worker_pid

    if run is None or not any(row["when"].startswith("at once, for") for row in rows):
        return None
    until_s = time.monotonic() + TAKEN_WITHIN_S
    while worker_pid(config, run.plan.account) is not None and time.monotonic() < until_s:
        now = store.run(run.plan.run_id)
        if now.plan != run.plan:
            return True
        time.sleep(0.05)
    return False


def _result(new: Strategy, run: Run | None, taken: bool | None, rows: list[dict[str, str]]) -> str:
    if taken is None:
        return f"{new.name} is changed"
    if taken:
        return f"{new.name} is changed, and so is its run of {run.plan.trading_day if run else ''}"
    return (
        f"{new.name} is changed. Its run is not yet: no worker has taken it. "
        "It does when `squareoff up` runs; until then the old values hold"
    )
