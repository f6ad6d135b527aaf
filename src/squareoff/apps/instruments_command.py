"""`squareoff instruments`: the trader's own list of what can be traded."""

from __future__ import annotations

import csv
import os
import tempfile
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.errors import SquareoffError

if TYPE_CHECKING:
    from squareoff.core.instruments import Instruments

_KITE_COLUMN = "tradingsymbol"

IMPORT_HELP = """Take over a list of instruments; it replaces the one imported before and wins over the shipped list.

FILE is Zerodha's daily dump (https://api.kite.trade/instruments) or a CSV with squareoff's own columns, as
`squareoff instruments list --csv` writes it.

\b
Examples:
  squareoff instruments import instruments.csv
  squareoff instruments import kite-dump.csv --as-of 2026-11-23
"""


class DiskRefused(SquareoffError):
    """The list could not be written; the one before is untouched."""


def register(app: typer.Typer) -> None:
    instruments = typer.Typer(help="What can be traded: lots, ticks, expiries.", no_args_is_help=False)
    instruments.command("import", help=IMPORT_HELP)(_import)
    instruments.command("list", help="All known instruments: the shipped ones under your own.")(_list)
    app.add_typer(instruments, name="instruments")


def _import(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A CSV file.")],
    as_of: Annotated[
        str | None,
        typer.Option(metavar="YYYY-MM-DD", help="The day a Kite dump was fetched. [today]", show_default=False),
    ] = None,
) -> None:
    from squareoff import wiring

    config: Config = context.obj
    text = _text(file)
    is_kite = _is_kite(text)
    if as_of is not None and not is_kite:
        raise BadInput("as_of", "is for a Kite dump", "a list of squareoff's own columns says its day itself")
    today = wiring.now_real().astimezone().date()
    imported = _parsed(text, file.name, as_of=_day(as_of, today), is_kite=is_kite)
    kept = imported
    if is_kite:
        kept = _of_exchanges(imported, set(wiring.reference_data(Config(data=config.data)).hours))
    if not len(kept):
        raise BadInput("file", f"{file} has no instruments of an exchange squareoff knows", "nothing was changed")
    _write(config, kept)
    left_out = (
        f"; left out {len(imported) - len(kept):,} of exchanges it has no hours of" if kept is not imported else ""
    )
    typer.echo(f"imported {len(kept):,} instruments, as of {max(i.as_of for i in kept)}{left_out}")


def _text(file: Path) -> str:
    right = "name a CSV file"
    try:
        return file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput("file", f"{file} does not exist", right) from None
    except UnicodeDecodeError:
        raise BadInput("file", f"{file} is not UTF-8 text", right) from None
    except (OSError, ValueError) as error:
        raise BadInput("file", f"{file} cannot be read: {getattr(error, 'strerror', None) or error}", right) from error


def _is_kite(text: str) -> bool:
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return _KITE_COLUMN in first.split(",")


def _day(text: str | None, today: date) -> date:
    if text is None:
        return today
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise BadInput("as_of", f"{text[:60]!r} is not a day", f"write it like {today}") from None
    if day > today:
        raise BadInput("as_of", f"{day} is in the future", f"{today} at the latest")
    return day


def _parsed(text: str, source: str, *, as_of: date, is_kite: bool) -> Instruments:
    from squareoff.core.instruments import parse_instruments, parse_kite_instruments

    try:
        if is_kite:
            return parse_kite_instruments(text, as_of=as_of, source=source)
        return parse_instruments(text, source=source)
    except csv.Error as error:
        raise BadInput("file", f"{source} is not a CSV file: {error}") from error


def _of_exchanges(instruments: Instruments, known: set[str]) -> Instruments:
    """A dump lists a hundred thousand contracts that nobody here can trade: each command would read them all."""
    from squareoff.core.instruments import Instruments

    return Instruments(instrument for instrument in instruments if instrument.exchange in known)


def _write(config: Config, instruments: Instruments) -> None:
    """All of the new list or all of the old one, also if the disk is full half-way."""
    from squareoff.core.instruments import format_instruments

    config.make_data_folder()
    target = config.reference / "instruments.csv"
    try:
        config.reference.mkdir(mode=0o700, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=config.reference, prefix=".instruments-", suffix=".csv")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as out:
                out.write(format_instruments(instruments))
                out.flush()
                os.fsync(out.fileno())
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise DiskRefused(f"{target} cannot be written: {error.strerror or error}; nothing was changed") from error


def _list(
    context: typer.Context,
    find: Annotated[str, typer.Argument(help="Only those with this in symbol or name.", show_default=False)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV that `import` reads.")] = False,
) -> None:
    from squareoff import wiring
    from squareoff.core.instruments import Instruments, format_instruments

    known = wiring.reference_data(context.obj).instruments
    wanted = find.casefold()
    chosen = Instruments(i for i in known if wanted in i.symbol.casefold() or wanted in i.name.casefold())
    if as_csv:
        typer.echo(format_instruments(chosen), nl=False)
    elif as_json:
        _print_json(chosen)
    elif not len(chosen):
        typer.echo(f"None of {len(known):,} instruments matches {find!r}.")
    else:
        _print_table(chosen)


def _print_json(instruments: Instruments) -> None:
    from squareoff.apps.formats import exact, print_json

    rows = [
        {
            "symbol": i.symbol,
            "name": i.name,
            "kind": str(i.kind),
            "lot": exact(i.lot),
            "tick_size": exact(i.tick_size),
            "freeze_qty": exact(i.freeze_qty),
            "lower_band": exact(i.lower_band),
            "upper_band": exact(i.upper_band),
            "expiry": None if i.expiry is None else i.expiry.isoformat(),
            "tradable": i.tradable,
            "closing_auction": i.closing_auction,
            "as_of": i.as_of.isoformat(),
        }
        for i in instruments
    ]
    print_json(rows)


def _print_table(instruments: Instruments) -> None:
    from rich.table import Table

    from squareoff.apps.formats import console, quantity

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("symbol", "name", "kind", "lot", "tick", "expiry", "as of", ""):
        table.add_column(heading, justify="right" if heading in ("lot", "tick") else "left")
    for i in instruments:
        note = "" if i.tradable else "replay only"
        expiry = "" if i.expiry is None else str(i.expiry)
        table.add_row(i.symbol, i.name, i.kind, quantity(i.lot), f"{i.tick_size:f}", expiry, str(i.as_of), note)
    console().print(table)
