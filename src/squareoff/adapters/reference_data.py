"""Calendars, exchange hours and instruments: those shipped with squareoff, and the trader's own on top.

A trader's folder is laid out like the shipped one and wins file by file (calendars) or line by line (instruments):

    <folder>/calendars/NSE-2027.toml
    <folder>/instruments.csv
"""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from zoneinfo import ZoneInfo

from squareoff.core.instruments import Instruments, parse_instruments
from squareoff.core.session import (
    Calendar,
    CalendarFileError,
    CalendarYear,
    ExchangeHours,
    parse_calendar,
    parse_exchanges,
)

_SHIPPED = files("squareoff") / "data"


class UnknownExchange(LookupError):
    """squareoff has no hours of this exchange, so it trades nothing there."""

    def __init__(self, exchange: str, known: list[str]) -> None:
        super().__init__(f"{exchange!r} is not an exchange squareoff knows; it knows {', '.join(known)}")
        self.exchange, self.known = exchange, known


def load_exchange_hours() -> dict[str, ExchangeHours]:
    """Hours of every exchange we know, by its code."""
    source = _SHIPPED / "exchanges.toml"
    return parse_exchanges(_read(source), source=source.name, zone_named=ZoneInfo)


def load_calendar(exchange: str, extra_dir: Path | None = None) -> Calendar:
    """When `exchange` trades, by all signed-off years. A year in the trader's folder replaces the shipped one.

    `extra_dir` None or without files: only what is shipped. An exchange without any year (FX) still loads; its
    days are unknown until asked, then `UnknownYear`.

    Raises:
        UnknownExchange: no hours known.
        CalendarFileError: a file is wrong; none of the years is used, because a person must look.
    """
    known = load_exchange_hours()
    if exchange not in known:
        raise UnknownExchange(exchange, sorted(known))
    if known[exchange].always_open:
        return Calendar.always_open(known[exchange])
    shipped = _calendar_years(exchange, _SHIPPED / "calendars")
    own = _calendar_years(exchange, extra_dir / "calendars") if extra_dir else {}
    return Calendar(known[exchange], {**shipped, **own}.values())


def load_instruments(extra_dir: Path | None = None) -> Instruments:
    """What can be traded. A symbol in the trader's `instruments.csv` replaces the shipped one.

    Raises:
        InstrumentFileError: a file is wrong; it names line and field.
    """
    shipped = _instruments(_SHIPPED / "instruments.csv")
    own = extra_dir / "instruments.csv" if extra_dir else None
    return shipped.overridden_by(_instruments(own)) if own and own.is_file() else shipped


def _calendar_years(exchange: str, folder: Traversable) -> dict[int, CalendarYear]:
    if not folder.is_dir():
        return {}
    name = re.compile(rf"{re.escape(exchange)}-\d{{4}}\.toml", re.ASCII)
    found = [_calendar_year(file) for file in folder.iterdir() if name.fullmatch(file.name)]
    return {year.year: year for year in found}


def _calendar_year(file: Traversable) -> CalendarYear:
    year = parse_calendar(_read(file), source=file.name)
    # a copied file with a forgotten year inside would silently replace another year
    if file.name != f"{year.exchange}-{year.year}.toml":
        raise CalendarFileError(
            file.name, "year", f"the file says {year.exchange} {year.year}; its name must be that too"
        )
    return year


def _instruments(file: Traversable) -> Instruments:
    return parse_instruments(_read(file), source=file.name)


def _read(file: Traversable) -> str:
    return file.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
