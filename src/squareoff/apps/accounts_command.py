"""`squareoff accounts`: whose money is traded. All of them are paper accounts today."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squareoff.core.bad_input import BadInput

if TYPE_CHECKING:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.config import Config

HELP = """The accounts: each trades by itself, with a worker, a book and money of its own.

`squareoff up` runs a worker for each. All are paper accounts today; there is one called paper from the start.

\b
Examples:
  squareoff accounts
  squareoff accounts add second --cash 250000
  squareoff add noon NSE:ITC 100 --buy 12:00 --sell 14:00 --stop-loss 2% --account second
"""

ADD_HELP = """Add a paper account. If `squareoff up` runs, it has a worker within a second or two.

--cash is what it begins with; it cannot be changed later. A BUY beyond what is free is refused by the paper broker.
There is no leverage: also MIS costs the whole price.
"""

MOST_CASH = Decimal(10) ** 12

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output; money is text, so it stays exact.")]


def register(app: typer.Typer) -> None:
    accounts = typer.Typer(no_args_is_help=False)
    accounts.callback(invoke_without_command=True, help=HELP)(_list)
    accounts.command("add", help=ADD_HELP)(_add)
    app.add_typer(accounts, name="accounts")


def _list(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from squareoff import wiring
    from squareoff.apps.formats import print_json

    with closing(wiring.open_strategy_store(context.obj)) as store:
        rows = _rows(context.obj, store)
    if as_json:
        print_json(rows)
        return
    _print(rows)


def _rows(config: Config, store: StrategyStore) -> list[dict[str, Any]]:
    from squareoff import wiring
    from squareoff.apps.facts import look_around
    from squareoff.apps.formats import exact
    from squareoff.apps.up.supervisor import worker_pids

    paper, workers, purses = wiring.paper_accounts(config), worker_pids(config), look_around(config).broker.by_account
    strategies = store.list()
    rows: list[dict[str, Any]] = []
    for account, broker in store.accounts().items():
        known, purse = paper.get(account), purses.get(account)
        rows.append(
            {
                "name": account,
                "broker": broker,
                "starting_cash": exact(wiring.usual_paper_cash() if known is None else known.cash),
                "free": None if purse is None else exact(purse.free),
                "strategies": sum(1 for strategy in strategies if strategy.account == account),
                "kill_switch": str(store.rules(account).level),
                "worker": workers.get(account),
            }
        )
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from squareoff.apps.formats import console, money

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("account", "broker", "began with", "free", "strategies", "kill switch", "worker"):
        is_number = heading in ("began with", "free", "strategies")
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        free = row["free"]
        table.add_row(
            row["name"],
            row["broker"],
            money(Decimal(row["starting_cash"])),
            "not known" if free is None else money(Decimal(free)),
            str(row["strategies"]),
            row["kill_switch"],
            "none runs" if row["worker"] is None else f"process {row['worker']}",
        )
    console().print(table)


def _add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Yours to choose.")],
    cash: Annotated[
        str | None,
        typer.Option("--cash", metavar="MONEY", help="What it begins with. [1000000.00]", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import exact, money, print_json
    from squareoff.apps.up.supervisor import running
    from squareoff.core.definition import account_name

    config: Config = context.obj
    account, amount = account_name(name), starting_cash(cash)
    with closing(wiring.open_strategy_store(config)) as store:
        for known in store.accounts():
            if known == account:
                raise BadInput("account", f"there is an account {account!r} already", "see `squareoff accounts`")
            if known.lower() == account.lower():
                wrong = f"{account!r} differs from your account {known!r} by capitals only"
                raise BadInput("account", wrong, "choose another name")
        made = wiring.ensure_paper_account(config, account, cash=amount)  # first: its worker needs it
        store.add_account(account, broker="paper")
    if as_json:
        print_json({"name": account, "broker": "paper", "starting_cash": exact(made.cash)})
        return
    when = "its trading worker starts now" if running(config) is not None else "it trades when `squareoff up` runs"
    typer.echo(f"added {account}: a paper account with {money(made.cash)}; {when}")


def starting_cash(text: str | None) -> Decimal | None:
    """What a paper account begins with, as written; None: what is usual. Raises BadInput."""
    from squareoff.core.definition import decimal_of

    if text is None:
        return None
    number = decimal_of(text)
    if number is None or not 0 < number <= MOST_CASH:
        raise BadInput("cash", f"{text[:40]!r} is not an amount", "a number above zero, for example 250000")
    return number
