"""How recorded market data is written down: one reader per layout, each turns the fields of a row into prices.

Ours, with a header line; times are ISO 8601 with their offset from UTC:

    time,symbol,price
    2026-11-20T09:15:00.250+05:30,NSE:INFY,1543.20

    time,symbol,open,high,low,close
    2026-11-20T09:15:00+05:30,NSE:INFY,1543.20,1544.00,1541.50,1542.10

Others' are read as they come: see `FORMATS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from squareoff.core.session import ExchangeHours, local_instant
from squareoff.core.types import Symbol

HoursOf = Callable[[Symbol], ExchangeHours]
Note = Callable[[str, str], None]
"""Called with a kind and a text: something odd in the row at hand, which is played all the same."""


class BarsLabelled(StrEnum):
    """What the time of a minute bar names. With END, 09:16 covers 09:15:00 to 09:16:00."""

    START = "start"
    END = "end"


class Quote(StrEnum):
    """Which price of a quote is played. BID is what a long could have sold at, so it is what a stop-loss meets."""

    BID = "bid"
    ASK = "ask"
    MID = "mid"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadOptions:
    """What the files do not say themselves. Each applies to every file that leaves it open."""

    exchange: str = "NSE"
    """Of a bar whose symbol comes without one."""
    bars_labelled: BarsLabelled = BarsLabelled.START
    quote: Quote = Quote.BID
    symbol: Symbol | None = None
    """Of quote files, which name none inside. None: from the file name, `eurusd-2020.csv` is FX:EURUSD."""


class WrongField(Exception):
    """A row cannot be read. The caller knows the file and the line and adds them."""

    def __init__(self, field: str, wrong: str, right: str) -> None:
        self.field, self.wrong, self.right = field, wrong, right
        super().__init__(field, wrong, right)


class Row(NamedTuple):
    """`prices` is open, high, low, close of a bar, or the one price of a tick. `at` is the label, UTC."""

    symbol: Symbol
    at: datetime
    prices: tuple[Decimal, ...]


class Reader(Protocol):
    def read(self, fields: Sequence[str]) -> Row:
        """One row. Raises WrongField."""


class _Prices(dict[str, Decimal]):
    """A price by its text. The same texts come again and again, so most rows cost a look-up and nothing else."""

    _NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)  # Decimal itself would also take NaN, 1_0 and 1e5

    def __missing__(self, text: str) -> Decimal:
        if not self._NUMBER.fullmatch(text):
            raise ValueError(text)
        return self.setdefault(text, Decimal(text))

    def of(self, fields: Sequence[str], names: Sequence[str], first: int) -> tuple[Decimal, ...]:
        try:
            return tuple([self[text] for text in fields[first : first + len(names)]])
        except ValueError as error:
            text = str(error)
            name = names[fields[first:].index(text)]
            raise WrongField(name, f"{text!r} is not a number", "digits with a point, like 1543.20") from None


class _Symbols(dict[str, Symbol]):
    _TEXT = re.compile(r"[A-Z0-9]+:[!-+\--~]([ -+\--~]*[!-+\--~])?", re.ASCII)

    def __init__(self, exchange: str | None = None) -> None:
        super().__init__()
        self._exchange = exchange

    def __missing__(self, text: str) -> Symbol:
        full = f"{self._exchange}:{text}" if self._exchange and ":" not in text else text
        if not self._TEXT.fullmatch(full):
            raise WrongField("symbol", f"{text!r} is not a symbol", "exchange and name, like NSE:INFY")
        return self.setdefault(text, Symbol(full))


class _WallClock:
    """Instants of wall times in one zone. On a day without a change of the clocks: midnight plus the minutes."""

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._midnights: dict[str, datetime | None] = {}  # None: the clocks change on that day
        self._minutes: dict[str, timedelta] = {}

    def instant(self, day: str, minute: str) -> datetime:
        if day not in self._midnights:
            self._midnights[day] = self._midnight(_day(day))
        if minute not in self._minutes:
            wall = _minute(minute)
            self._minutes[minute] = timedelta(hours=wall.hour, minutes=wall.minute)
        midnight = self._midnights[day]
        return midnight + self._minutes[minute] if midnight else self._slowly(_day(day), _minute(minute))

    def _midnight(self, day: date) -> datetime | None:
        first, last = (datetime.combine(d, time(0), self._zone) for d in (day, day + timedelta(days=1)))
        return first.astimezone(UTC) if first.utcoffset() == last.utcoffset() else None

    def _slowly(self, day: date, minute: time) -> datetime:
        try:
            return local_instant(day, minute, self._zone)
        except ValueError as error:
            raise WrongField("time", str(error), "a time that exists once on that day") from None


_YEARS = r"(19|20|21)\d\d"


def _day(text: str) -> date:
    if re.fullmatch(_YEARS + r"\d{4}", text, re.ASCII):
        try:
            return date(int(text[:4]), int(text[4:6]), int(text[6:]))
        except ValueError:
            pass
    raise WrongField("date", f"{text!r} is not a day", "year, month and day in 8 digits, like 20220502")


def _minute(text: str) -> time:
    if re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text, re.ASCII):
        return time(int(text[:2]), int(text[3:]))
    raise WrongField("time", f"{text!r} is not a time", "hours and minutes, like 09:16")


def _instant(text: str, field: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise WrongField(field, f"{text!r} is not a time", "like 2026-11-20T09:15:00+05:30") from None
    if not re.match(_YEARS, text):
        raise WrongField(field, f"{text!r} is not in this age", "a year from 1900 to 2199")
    if instant.tzinfo is None:
        raise WrongField(field, f"{text!r} does not say its offset from UTC", f"with the offset, like {text}+05:30")
    return instant.astimezone(UTC)


class WallBars:
    """Minute bars in the exchange's own wall time, the symbol without its exchange (d3v-S/OHLCData on GitHub)."""

    name = "minute bars in exchange time"
    example = "NIFTY,20220502,09:16,16949.25,16958.30,16917.25,16957.55,0,0 (volume and open interest may be absent)"
    header: ClassVar[str | None] = None
    first_row = re.compile(r"[^,]+,\d{8},\d\d:\d\d,")
    columns = range(7, 10)
    is_bars = True

    def __init__(self, options: ReadOptions, hours_of: HoursOf, file: Path, note: Note) -> None:
        self._symbols, self._prices, self._hours_of = _Symbols(options.exchange), _Prices(), hours_of
        self._clocks: dict[Symbol, _WallClock] = {}

    def read(self, fields: Sequence[str]) -> Row:
        symbol = self._symbols[fields[0]]
        if symbol not in self._clocks:
            self._clocks[symbol] = _WallClock(self._hours_of(symbol).zone)
        at = self._clocks[symbol].instant(fields[1], fields[2])
        return Row(symbol, at, self._prices.of(fields, ("open", "high", "low", "close"), 3))


class PlainBars:
    """Our own minute bars."""

    name = "plain minute bars"
    example = "2026-11-20T09:15:00+05:30,NSE:INFY,1543.20,1544.00,1541.50,1542.10"
    header: ClassVar[str | None] = "time,symbol,open,high,low,close"
    first_row = None
    columns = range(6, 7)
    is_bars = True

    def __init__(self, options: ReadOptions, hours_of: HoursOf, file: Path, note: Note) -> None:
        self._symbols, self._prices = _Symbols(), _Prices()

    def read(self, fields: Sequence[str]) -> Row:
        prices = self._prices.of(fields, ("open", "high", "low", "close"), 2)
        return Row(self._symbols[fields[1]], _instant(fields[0], "time"), prices)


class PlainTicks:
    """Our own ticks."""

    name = "plain ticks"
    example = "2026-11-20T09:15:00.250+05:30,NSE:INFY,1543.20"
    header: ClassVar[str | None] = "time,symbol,price"
    first_row = None
    columns = range(3, 4)
    is_bars = False

    def __init__(self, options: ReadOptions, hours_of: HoursOf, file: Path, note: Note) -> None:
        self._symbols, self._prices = _Symbols(), _Prices()

    def read(self, fields: Sequence[str]) -> Row:
        return Row(self._symbols[fields[1]], _instant(fields[0], "time"), self._prices.of(fields, ("price",), 2))


class _Quotes:
    """Bid and ask become the one price that was asked for."""

    def __init__(self, options: ReadOptions, hours_of: HoursOf, file: Path, note: Note) -> None:
        self._symbol, self._quote, self._note = options.symbol or symbol_from_name(file), options.quote, note
        self._prices = _Prices()

    def _price(self, fields: Sequence[str]) -> tuple[Decimal, ...]:
        bid, ask = self._prices.of(fields, ("bid", "ask"), 1)
        if bid > ask:
            self._note("crossed", f"the bid {bid} is above the ask {ask}")
        if self._quote is Quote.MID:
            return ((bid + ask) / 2,)
        return (bid if self._quote is Quote.BID else ask,)


class IsoQuotes(_Quotes):
    """Quotes as TrueFX ticks are often kept: ISO times with their offset."""

    name = "quotes with ISO times"
    example = "2013-01-01 22:00:00.295000+00:00,86.655,86.728"
    header: ClassVar[str | None] = "timestamp,bid,ask"
    first_row = None
    columns = range(3, 4)
    is_bars = False

    def read(self, fields: Sequence[str]) -> Row:
        return Row(self._symbol, _instant(fields[0], "timestamp"), self._price(fields))


class HistDataQuotes(_Quotes):
    """HistData.com "Generic ASCII in Ticks": `YYYYMMDD HHMMSSNNN,bid,ask,volume`.

    Its times are "Eastern Standard Time (EST) time-zone WITHOUT Day Light Savings adjustments", so UTC-5 all the
    year: http://histdata.com/?p=21 (data files specification), read 2026-11-23.
    """

    name = "HistData quotes"
    example = "20200101 170000065,1.121200,1.121720,0 (times in UTC-5)"
    header: ClassVar[str | None] = None
    first_row = re.compile(r"\d{8} \d{9},")
    columns = range(3, 5)
    is_bars = False

    _EST = timezone(timedelta(hours=-5), "EST")
    _WITHIN = re.compile(r"[0-5]\d{4}", re.ASCII)

    def __init__(self, options: ReadOptions, hours_of: HoursOf, file: Path, note: Note) -> None:
        super().__init__(options, hours_of, file, note)
        self._minutes: dict[str, datetime] = {}

    def read(self, fields: Sequence[str]) -> Row:
        text = fields[0]
        minute = self._minutes.get(text[:13]) or self._new_minute(text[:13])
        if not self._WITHIN.fullmatch(text[13:]):
            raise WrongField("time", f"{text!r} is not a time", "like 20200101 170000065, 17:00:00.065 on 1 January")
        at = minute + timedelta(milliseconds=int(text[13:]))
        return Row(self._symbol, at, self._price(fields))

    def _new_minute(self, text: str) -> datetime:
        day, minute = _day(text[:8]), _minute(f"{text[9:11]}:{text[11:13]}")
        return self._minutes.setdefault(text, datetime.combine(day, minute, self._EST).astimezone(UTC))


Format = type[WallBars] | type[PlainBars] | type[PlainTicks] | type[IsoQuotes] | type[HistDataQuotes]
FORMATS: tuple[Format, ...] = (PlainTicks, PlainBars, WallBars, IsoQuotes, HistDataQuotes)


def detect(first_lines: Sequence[str]) -> Format | None:
    """The layout, by the header or by any of the first rows: one torn row must not hide what the file is."""
    header = first_lines[0].replace(" ", "").lower()
    for kind in FORMATS:
        if kind.header == header:
            return kind
    for kind in FORMATS:
        if kind.first_row and any(kind.first_row.match(line) for line in first_lines):
            return kind
    return None


def known_formats() -> str:
    """For the person whose file is none of them."""
    return "; ".join(
        f"{kind.name}: "
        + (f"header {kind.header}, rows like " if kind.header else "no header, rows like ")
        + kind.example
        for kind in FORMATS
    )


_CURRENCIES = frozenset(
    re.findall(
        "[A-Z]{3}",
        "AUD BRL CAD CHF CNH CNY CZK DKK EUR GBP HKD HUF IDR ILS INR JPY "
        "KRW MXN NOK NZD PLN SEK SGD THB TRY USD XAG XAU ZAR",
    )
)


def symbol_from_name(file: Path) -> Symbol:
    """`eurusd-2020-quotes.csv` and `DAT_ASCII_EURUSD_T_202001.csv` are FX:EURUSD.

    Raises:
        WrongField: no pair of currencies in the name, or more than one.
    """
    words = re.split(r"[^A-Z]+", file.stem.upper())
    pairs = {word for word in words if len(word) == 6 and {word[:3], word[3:]} <= _CURRENCIES}
    if len(pairs) != 1:
        raise WrongField("symbol", "neither the file nor its name says one", "give it, like FX:EURUSD")
    return Symbol(f"FX:{pairs.pop()}")
