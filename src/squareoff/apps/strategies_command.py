"""`squareoff add`, `list`, `show` and `rm`: the strategies themselves."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from squareoff.apps.completion_command import strategy_names
from squareoff.apps.strategy_file import EXAMPLE, load_strategy_file
from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.definition import (
    DEFAULT_ACCOUNT,
    DEFAULT_EXCHANGE,
    DEFAULT_PRODUCT,
    DEFAULT_REPEAT,
    Draft,
    check,
    closing_auction_warning,
    decimal_of,
    next_session_for,
    read,
)
from squareoff.core.instruments import Instrument, UnknownSymbol
from squareoff.core.session import UnknownYear
from squareoff.core.strategy import Strategy
from squareoff.core.types import StrategyId, UserId

if TYPE_CHECKING:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.run import Run
    from squareoff.wiring import ReferenceData

_FIELDS_HELP = f"""--buy and --sell are wall-clock times at the exchange. --stop-loss is a price (1540), a percentage
below the average fill (1.5%) or points below it (20pts). Written out, the defaults are: exchange {DEFAULT_EXCHANGE},
--product {DEFAULT_PRODUCT}, --repeat {DEFAULT_REPEAT}, --account {DEFAULT_ACCOUNT}."""

ADD_HELP = f"""Add a strategy, or all strategies of a TOML file.

It is checked and saved. `squareoff start NAME` arms it for its next session, and `squareoff up` trades;
`squareoff replay` plays it on recorded days first.

{_FIELDS_HELP}

\b
Examples:
  squareoff add morning INFY 50 --buy 09:20 --sell 15:10 --stop-loss 1.5%
  squareoff add itc NSE:ITC 100 --buy 09:30 --sell 14:00 --stop-loss 410 --price 418.50
  squareoff add --file strategies.toml

\b
A file has one table for each strategy; if one is wrong, none is saved:
  {EXAMPLE.replace(chr(10), chr(10) + "  ").rstrip()}

Also known in it: name, repeat, until, product, account. All of it is told in docs/strategies.md.
"""


def register(app: typer.Typer) -> None:
    # "-5" must be read as a quantity that is refused, not as an option nobody knows
    app.command(
        "add",
        help=ADD_HELP,
        short_help="Add one strategy, or all of a file.",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )(_add)
    app.command("list", help="All strategies, each with the state of its latest run.")(_list)
    app.command("show", help="One strategy with its runs, their orders and fills.")(_show)
    app.command("rm", help="Remove a strategy. Its runs and their story are kept.")(_rm)


Json = Annotated[bool, typer.Option("--json", help="JSON on standard output; money is text, so it stays exact.")]


def _option(name: str, metavar: str, help_text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=help_text, show_default=False)


def _add(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Yours to choose.", show_default=False)] = None,
    symbol: Annotated[str | None, typer.Argument(help="Such as NSE:INFY or INFY.", show_default=False)] = None,
    qty: Annotated[str | None, typer.Argument(help="How many shares.", show_default=False)] = None,
    buy: Annotated[str | None, _option("--buy", "HH:MM", "When to buy.")] = None,
    sell: Annotated[str | None, _option("--sell", "HH:MM", "When to sell, later the same day.")] = None,
    stop_loss: Annotated[str | None, _option("--stop-loss", "LEVEL", "1540, 1.5% or 20pts.")] = None,
    repeat: Annotated[str | None, _option("--repeat", "once|daily", f"[{DEFAULT_REPEAT}]")] = None,
    until: Annotated[str | None, _option("--until", "YYYY-MM-DD", "Last trading day of one that repeats.")] = None,
    product: Annotated[str | None, _option("--product", "MIS|CNC|NRML", f"[{DEFAULT_PRODUCT}]")] = None,
    account: Annotated[str | None, _option("--account", "NAME", f"Which account trades. [{DEFAULT_ACCOUNT}]")] = None,
    price: Annotated[
        str | None, _option("--price", "P", "What it costs now: a stop-loss at or above it is refused.")
    ] = None,
    file: Annotated[Path | None, _option("--file", "FILE", "Add every strategy of a TOML file.")] = None,
    as_json: Json = False,
) -> None:
    _refuse_stray(context.args, (name, symbol, qty))
    fields = {
        "name": name,
        "symbol": symbol,
        "quantity": qty,
        "buy_time": buy,
        "sell_time": sell,
        "stop_loss": stop_loss,
        "repeat": repeat,
        "until": until,
        "product": product,
        "account": account,
    }
    given = {key: value for key, value in fields.items() if value is not None}
    if file is None:
        drafts = [("", read(given))]
    else:
        _refuse_beside_file(given, price)
        drafts = load_strategy_file(file)
    _add_all(context.obj, drafts, price=_price(price), as_json=as_json)


def _refuse_stray(extra: Sequence[str], positional: Iterable[str | None]) -> None:
    for text in (*positional, *extra):
        if text is not None and text.startswith("--"):
            close = difflib.get_close_matches(text.partition("=")[0], _ADD_OPTIONS, n=1)
            raise BadInput(text, "is not an option of add", f"did you mean {close[0]}?" if close else "see add --help")
    if extra:
        raise BadInput(extra[0], "is one word too many", "write add NAME SYMBOL QTY, then the options")


_TERMS = ("--buy", "--sell", "--stop-loss", "--repeat", "--until", "--product", "--account")
_ADD_OPTIONS = (*_TERMS, "--price", "--file", "--json")


def _refuse_beside_file(given: dict[str, str], price: str | None) -> None:
    for field in (*given, *(["price"] if price is not None else [])):
        raise BadInput(field, "cannot be given together with --file", "write it into the file, or leave out --file")


def _price(text: str | None) -> Decimal | None:
    if text is None:
        return None
    number = decimal_of(text)
    if number is None or number <= 0:
        raise BadInput("price", f"{text[:60]!r} is not a price", "a number above zero, for example 1562.40")
    return number


@dataclass(frozen=True, kw_only=True)
class Market:
    """What the strategies are checked against."""

    reference: ReferenceData
    now: datetime

    def instrument(self, draft: Draft, prefix: str) -> Instrument:
        exchange = draft.symbol.partition(":")[0]
        if exchange not in self.reference.hours:
            known = ", ".join(sorted(self.reference.hours))
            raise BadInput(
                f"{prefix}symbol", f"{exchange[:60]!r} is not an exchange squareoff knows", f"one of {known}"
            )
        try:
            return self.reference.instruments.find(draft.symbol)
        except UnknownSymbol as error:
            wrong = f"{draft.symbol[:60]!r} is not in the list of instruments"
            raise BadInput(f"{prefix}symbol", wrong, error.hint[:1].lower() + error.hint[1:]) from error

    def check(self, where: str, draft: Draft, price: Decimal | None) -> list[str]:
        """Refuse what cannot be traded. Returns what is worth a warning."""
        prefix = f"{where}: " if where else ""
        instrument = self.instrument(draft, prefix)
        hours, warnings = self.reference.hours[instrument.exchange], []
        day, session = self.now.astimezone(hours.zone).date(), None
        try:
            calendar = self.reference.calendar(instrument.exchange)
            session = next_session_for(draft.as_strategy(StrategyId(0), UserId(0)), calendar, self.now)
            day = session.day
        except UnknownYear as error:  # it can be saved; it will not be armed
            warnings.append(f"{prefix}{error}")
        check(draft, instrument=instrument, hours=hours, trading_day=day, price=price, where=where)
        if session and (warning := closing_auction_warning(draft, instrument=instrument, session=session)):
            warnings.append(f"{prefix}{warning}")
        return warnings


def _add_all(config: Config, drafts: Sequence[tuple[str, Draft]], *, price: Decimal | None, as_json: bool) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import print_json, strategy_row

    market = Market(reference=wiring.reference_data(config), now=wiring.now(config))
    warnings = [text for where, draft in drafts for text in market.check(where, draft, price)]
    store = wiring.open_strategy_store(config)
    _check_known(store, drafts)
    strategies = [draft.as_strategy(StrategyId(0), store.user) for _, draft in drafts]
    saved = wiring.save_strategies(config, strategies)
    if as_json:
        print_json([strategy_row(strategy) for strategy in saved])
    for strategy in () if as_json else saved:
        typer.echo(f"added {strategy.name}: {sentence(strategy)}")
    for text in warnings:
        typer.echo(f"squareoff: note: {text}", err=True)


def _check_known(store: StrategyStore, drafts: Sequence[tuple[str, Draft]]) -> None:
    """The store refuses these too; here the message has the place in the file."""
    accounts, names = store.accounts(), {strategy.name for strategy in store.list()}
    for where, draft in drafts:
        prefix = f"{where}: " if where else ""
        if draft.account not in accounts:
            known = (
                f"your accounts are {', '.join(accounts)}" if len(accounts) > 1 else f"yours is {', '.join(accounts)}"
            )
            raise BadInput(
                f"{prefix}account", f"there is no account {draft.account!r}", _meant(draft.account, accounts, known)
            )
        if draft.name in names:
            wrong = f"there is a strategy {draft.name!r} already"
            raise BadInput(f"{prefix}name", wrong, "choose another name, or remove that one first")


def _meant(text: str, known: Iterable[str], otherwise: str) -> str:
    close = difflib.get_close_matches(text, list(known), n=1)
    return f"did you mean {close[0]}?" if close else otherwise


def find_strategy(store: StrategyStore, which: str) -> Strategy:
    """By name, or by id. Raises BadInput, which proposes what was probably meant."""
    try:
        return store.get(which)
    except BadInput as error:
        names = [strategy.name for strategy in store.list()]
        otherwise = "see `squareoff list`" if names else "add one: `squareoff add --help` shows how"
        raise BadInput("strategy", f"there is no strategy {which[:60]!r}", _meant(which, names, otherwise)) from error


def sentence(strategy: Strategy) -> str:
    """What it does, in one line."""
    return (
        f"buy {strategy.quantity:f} {strategy.symbol} at {strategy.buy_time:%H:%M:%S}, sell at "
        f"{strategy.sell_time:%H:%M:%S}, stop-loss {strategy.stop_loss}, {strategy.repeat}, {strategy.product}, "
        f"account {strategy.account}"
    )


# ------------------------------------------------------------------ looking


def _list(context: typer.Context, as_json: Json = False) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import print_json, run_row, strategy_row

    store = wiring.open_strategy_store(context.obj)
    strategies = store.list()
    latest = {strategy.id: next(iter(store.runs(strategy.id, limit=1)), None) for strategy in strategies}
    if as_json:
        rows = [(strategy_row(s), s, latest[s.id]) for s in strategies]
        print_json(
            [
                {**row, "latest_run": None if run is None else run_row(run, wiring.zone_of(s.symbol))}
                for row, s, run in rows
            ]
        )
        return
    if not strategies:
        typer.echo("No strategies yet. Add one: `squareoff add --help` shows how.")
        return
    _print_list(strategies, latest)


def _print_list(strategies: Sequence[Strategy], latest: dict[StrategyId, Run | None]) -> None:
    from rich.table import Table

    from squareoff.apps.formats import console, quantity

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in (
        "name",
        "symbol",
        "qty",
        "buy",
        "sell",
        "stop-loss",
        "repeat",
        "product",
        "account",
        "latest run",
    ):
        table.add_column(heading, justify="right" if heading in ("qty", "stop-loss") else "left", overflow="fold")
    for s in strategies:
        times = (f"{s.buy_time:%H:%M:%S}", f"{s.sell_time:%H:%M:%S}")
        row = (s.name, s.symbol, quantity(s.quantity), *times, str(s.stop_loss), s.repeat, s.product, s.account)
        table.add_row(*row, standing(latest[s.id]))
    console().print(table)


def standing(run: Run | None) -> str:
    """The state of a run with its label, and how it ended if it was archived since."""
    from squareoff.apps.formats import state_words
    from squareoff.core.machine import CAUSE_LABEL, State

    if run is None:
        return state_words(State.CREATED)
    state = run.outcome or run.state
    is_told_by_cause = run.cause is not None and state in (State.FAILED, State.STOPPED)
    words = f"{state}: {CAUSE_LABEL[run.cause]}" if run.cause and is_told_by_cause else state_words(state)
    return f"{run.plan.trading_day} {words}"


def _show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id.", autocompletion=strategy_names)],
    as_json: Json = False,
) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import print_json, run_row, strategy_row

    store = wiring.open_strategy_store(context.obj)
    strategy = find_strategy(store, name)
    runs, zone = store.runs(strategy.id), wiring.zone_of(strategy.symbol)
    if as_json:
        print_json({**strategy_row(strategy), "runs": [run_row(run, zone) for run in runs]})
        return
    _print_strategy(strategy, runs, zone)


def _print_strategy(strategy: Strategy, runs: Sequence[Run], zone: ZoneInfo) -> None:
    from squareoff.apps.formats import console, money
    from squareoff.core.machine import EXPOSURE_LABEL

    out = console()
    out.print(f"{strategy.name} (id {strategy.id}): {sentence(strategy)}", style="bold")
    if not runs:
        out.print(standing(None))
    for run in runs:
        out.print(f"\nrun {run.plan.run_id}, {standing(run)}; {EXPOSURE_LABEL[run.exposure]}")
        if run.stop_price is not None:
            out.print(f"  stop-loss at {money(run.stop_price)}")
        _print_orders(run, zone)
        if run.pnl_gross is not None:
            out.print(f"  P&L {money(run.pnl_gross)}, gross, before charges")
    if runs:
        out.print(f"\nThe story of the latest run: squareoff why {strategy.name}", style="dim")


def _print_orders(run: Run, zone: ZoneInfo) -> None:
    from squareoff.apps.formats import clock, console, money, plain, quantity
    from squareoff.core.types import SlotName

    out = console()
    for slot in SlotName:
        side = "BUY" if slot is SlotName.ENTRY else "SELL"
        for order in run.slot(slot).attempts:
            theirs = f", broker's id {plain(order.broker_order_id)}" if order.broker_order_id else ""
            reason = f": {plain(order.reason)}" if order.reason else ""
            out.print(f"  {side} {quantity(order.qty)}, order {order.client_order_id}{theirs}, {order.phase}{reason}")
            for fill in order.fills:
                at = clock(fill.at, zone)
                out.print(f"    {at}  {quantity(fill.qty)} at {money(fill.price)}, trade {plain(fill.trade_id)}")


# ------------------------------------------------------------------ removing


def _rm(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name or id.", autocompletion=strategy_names)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import print_json, strategy_row

    store = wiring.open_strategy_store(context.obj)
    strategy = find_strategy(store, name)
    is_open = any(not run.is_closed for run in store.runs(strategy.id))
    if not yes and not is_open:  # else it is refused, with the reason: there is nothing to ask
        typer.confirm(f"Remove {strategy.name} ({sentence(strategy)})?", abort=True, err=True)
    store.remove(strategy.id)
    if as_json:
        print_json({"removed": strategy_row(strategy)})
        return
    typer.echo(f"removed {strategy.name}; its runs and their story are kept")
