"""What can be traded and in which steps. Pure: lists come in as text.

Every instrument says of which day its facts are (`as_of`): tick sizes, freeze quantities and price bands change.
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import NoReturn, TypeVar

from squareoff.core.types import ZERO, Symbol

HEADER = (
    "symbol",
    "name",
    "kind",
    "lot",
    "tick_size",
    "freeze_qty",
    "lower_band",
    "upper_band",
    "expiry",
    "tradable",
    "closing_auction",
)
"""Columns of our own list. A column `as_of` may follow; without it the first line is `# as of YYYY-MM-DD`."""

_T = TypeVar("_T")
_AS_OF_LINE = re.compile(r"#\s*as of (\d{4}-\d{2}-\d{2})\s*", re.ASCII)
# after the exchange anything one can see: the broker wants its own spelling back, letter for letter
_SYMBOL = re.compile(r"[A-Z]+:[!-9;-~]([ -9;-~]*[!-9;-~])?", re.ASCII)
# no exponent, no sign, no NaN: a list that holds one of those is damaged
_NUMBER = re.compile(r"\d+(\.\d+)?", re.ASCII)


class InstrumentFileError(ValueError):
    """A list of instruments is not usable. `line` counts from 1; None = the file as a whole."""

    def __init__(self, source: str, line: int | None, field_name: str, problem: str) -> None:
        where = source if line is None else f"{source}, line {line}"
        super().__init__(f"{where}: {field_name}: {problem}")
        self.source, self.line, self.field, self.problem = source, line, field_name, problem


class UnknownSymbol(LookupError):
    """No such instrument in our list. The message proposes what was probably meant."""

    def __init__(self, symbol: str, hint: str) -> None:
        super().__init__(f"{symbol!r} is not in the list of instruments. {hint}")
        self.symbol, self.hint = symbol, hint


class InstrumentKind(StrEnum):
    SHARE = "share"
    INDEX = "index"
    FUTURE = "future"
    OPTION = "option"
    CURRENCY = "currency"
    GENERATED = "generated"


@dataclass(frozen=True, kw_only=True, slots=True)
class Instrument:
    """One thing with a price. Prices in its own currency, quantities in units (not lots).

    `freeze_qty`: the largest quantity of one order, None = no limit known. `lower_band`, `upper_band`: the
    exchange takes no price outside, None = not known. `expiry`: last trading day, None = does not expire.
    `tradable` False: for replay only, no order is ever sent. `closing_auction`: continuous trading ends when the
    exchange's closing auction starts, None = not known. `as_of`: the day on which these facts held.
    """

    symbol: Symbol
    name: str
    kind: InstrumentKind
    lot: Decimal
    tick_size: Decimal
    freeze_qty: Decimal | None = None
    lower_band: Decimal | None = None
    upper_band: Decimal | None = None
    expiry: date | None = None
    tradable: bool = True
    closing_auction: bool | None = None
    as_of: date

    def __post_init__(self) -> None:
        for name, problem in _what_is_wrong(self):
            raise ValueError(f"{name}: {problem}")

    @property
    def exchange(self) -> str:
        return self.symbol.partition(":")[0]


def _what_is_wrong(it: Instrument) -> Iterator[tuple[str, str]]:
    if not _SYMBOL.fullmatch(it.symbol):
        yield "symbol", f"{it.symbol!r} is not a symbol; write exchange and name, like NSE:INFY"
    for name, value in (("lot", it.lot), ("tick_size", it.tick_size), ("freeze_qty", it.freeze_qty)):
        if value is not None and not value > ZERO:
            yield name, f"{value} is not right; it must be more than 0"
    if it.lower_band is not None and it.upper_band is not None and not it.lower_band < it.upper_band:
        yield "upper_band", f"{it.upper_band} is not above lower_band {it.lower_band}"


class Instruments:
    """The list of what we know, by symbol."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        self._by_symbol: dict[str, Instrument] = {}
        for instrument in instruments:
            if instrument.symbol in self._by_symbol:
                raise ValueError(f"{instrument.symbol} is in the list twice; keep one")
            self._by_symbol[instrument.symbol] = instrument

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._by_symbol.values())

    def __len__(self) -> int:
        return len(self._by_symbol)

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._by_symbol

    def all_tradable(self) -> Instruments:
        """The same list for a market of recorded prices, where everything can be bought on paper."""
        return Instruments(replace(each, tradable=True) for each in self._by_symbol.values())

    def find(self, symbol: str) -> Instrument:
        """The instrument of this exact symbol. Raises UnknownSymbol, which proposes what was probably meant."""
        try:
            return self._by_symbol[symbol]
        except KeyError:
            raise UnknownSymbol(symbol, self._hint(symbol)) from None

    def overridden_by(self, other: Instruments) -> Instruments:
        """Both lists as one; where both know a symbol, `other` is right."""
        return Instruments({**self._by_symbol, **other._by_symbol}.values())

    def _hint(self, symbol: str) -> str:
        wanted = symbol.strip().upper()
        if ":" not in wanted:
            same_name = sorted(known for known in self._by_symbol if known.partition(":")[2] == wanted)
            if same_name:
                return f"A symbol carries its exchange: write {' or '.join(same_name)}."
            close = difflib.get_close_matches(wanted, [s.partition(":")[2] for s in self._by_symbol], n=1)
            meant = [known for known in self._by_symbol if close and known.endswith(f":{close[0]}")]
            return f"Did you mean {meant[0]}?" if meant else "A symbol carries its exchange, like NSE:INFY."
        close = difflib.get_close_matches(wanted, self._by_symbol, n=1)
        if close:
            return f"Did you mean {close[0]}?"
        return "Import your broker's list of instruments to trade more symbols."


def round_up_to_tick(price: Decimal, tick_size: Decimal) -> Decimal:
    """`price`, or the next higher multiple of `tick_size`. For a stop-loss: it fires no later than was asked.

    Both more than 0.
    """
    if not (price > ZERO and tick_size > ZERO):
        raise ValueError(f"price and tick size must be more than 0, not {price} and {tick_size}")
    steps = price // tick_size
    return (steps if steps * tick_size == price else steps + 1) * tick_size


def is_on_tick(price: Decimal, tick_size: Decimal) -> bool:
    """Whether `price` can be sent as an order price.

    Not a test for prices that come in: our tick size may be a month old (NSE reviews it monthly), and a true
    price between two steps still counts for a stop-loss.
    """
    return price % tick_size == ZERO


def parse_instruments(text: str, *, source: str) -> Instruments:
    """Our own list: CSV with the columns of `HEADER`. Empty lines and lines that start with # are skipped.

    The day of the facts is a column `as_of`, else the first line `# as of YYYY-MM-DD`.

    Raises:
        InstrumentFileError: with line and field; also for a symbol that is there twice.
    """
    lines = text.splitlines()
    stamp = _AS_OF_LINE.fullmatch(lines[0]) if lines else None
    file_as_of = _day(_Cell(source, 1, "as of", stamp[1])) if stamp else None
    rows = _rows(lines, source)
    return _unique([_instrument(row, file_as_of) for row in rows], rows, source)


def format_instruments(instruments: Instruments) -> str:
    """The list as `parse_instruments` reads it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*HEADER, "as_of"])
    for instrument in instruments:
        writer.writerow([_as_text(getattr(instrument, name)) for name in [*HEADER, "as_of"]])
    return out.getvalue()


def parse_kite_instruments(text: str, *, as_of: date, source: str) -> Instruments:
    """Zerodha's daily dump (`GET /instruments`, CSV), as fetched on `as_of`.

    https://kite.trade/docs/connect/v3/market-quotes/#instruments (layout seen in Zerodha's own mocks, 2026-11-23).
    The dump has no freeze quantities, price bands or closing auction: those stay None.

    Raises:
        InstrumentFileError: with line and field. An unknown `instrument_type` is one too: better no list than a
            future traded as a share.
    """
    rows = _rows(text.splitlines(), source, required=_KITE_COLUMNS)
    return _unique([_kite_instrument(row, as_of) for row in rows], rows, source)


_KITE_COLUMNS = (
    "tradingsymbol",
    "name",
    "expiry",
    "tick_size",
    "lot_size",
    "instrument_type",
    "segment",
    "exchange",
)

_KITE_KINDS: Mapping[str, InstrumentKind] = {
    "EQ": InstrumentKind.SHARE,
    "FUT": InstrumentKind.FUTURE,
    "CE": InstrumentKind.OPTION,
    "PE": InstrumentKind.OPTION,
}


def _kite_instrument(row: _Row, as_of: date) -> Instrument:
    is_index = row["segment"].text == "INDICES"  # Kite types an index EQ and may give it lot and tick 0
    kind = InstrumentKind.INDEX if is_index else _one_of(row["instrument_type"], _KITE_KINDS)
    trading_symbol = row["tradingsymbol"].text
    return row.build(
        symbol=Symbol(f"{row['exchange'].text}:{trading_symbol}"),
        name=row["name"].text or trading_symbol,
        kind=kind,
        lot=Decimal(1) if is_index else _number(row["lot_size"]),
        tick_size=_INDEX_STEP if is_index else _number(row["tick_size"]),
        expiry=_day(row["expiry"]) if row["expiry"].text else None,
        tradable=not is_index,
        as_of=as_of,
    )


_INDEX_STEP = Decimal("0.05")
"""NSE publishes index values in steps of 0.05 (seen in minute bars of 2022)."""


def _instrument(row: _Row, file_as_of: date | None) -> Instrument:
    return row.build(
        symbol=Symbol(row["symbol"].text),
        name=row["name"].text or row["symbol"].text,
        kind=_one_of(row["kind"], {kind.value: kind for kind in InstrumentKind}),
        lot=_number(row["lot"]),
        tick_size=_number(row["tick_size"]),
        freeze_qty=_number_or_none(row["freeze_qty"]),
        lower_band=_number_or_none(row["lower_band"]),
        upper_band=_number_or_none(row["upper_band"]),
        expiry=_day(row["expiry"]) if row["expiry"].text else None,
        tradable=_one_of(row["tradable"], _YES_NO),
        closing_auction=_one_of(row["closing_auction"], _YES_NO) if row["closing_auction"].text else None,
        as_of=_as_of(row, file_as_of),
    )


def _as_of(row: _Row, file_as_of: date | None) -> date:
    if "as_of" in row.cells:
        return _day(row["as_of"])
    if file_as_of is None:
        raise InstrumentFileError(
            row.source, 1, "as of", "missing; make the first line `# as of 2026-11-23` or add a column as_of"
        )
    return file_as_of


_YES_NO: Mapping[str, bool] = {"yes": True, "no": False}


def _unique(instruments: list[Instrument], rows: list[_Row], source: str) -> Instruments:
    first_line: dict[str, int] = {}
    for instrument, row in zip(instruments, rows, strict=True):
        if (before := first_line.setdefault(instrument.symbol, row.line)) != row.line:
            raise InstrumentFileError(
                source, row.line, "symbol", f"{instrument.symbol} is already on line {before}; keep one"
            )
    return Instruments(instruments)


@dataclass(frozen=True, slots=True)
class _Cell:
    source: str
    line: int
    column: str
    text: str

    def refuse(self, would_be_right: str) -> NoReturn:
        raise InstrumentFileError(
            self.source, self.line, self.column, f"{self.text!r} is not right; write {would_be_right}"
        )


@dataclass(frozen=True, slots=True)
class _Row:
    source: str
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> _Cell:
        return _Cell(self.source, self.line, column, self.cells[column].strip())

    def build(self, **values: object) -> Instrument:
        try:
            return Instrument(**values)  # type: ignore[arg-type]
        except ValueError as error:
            field_name, _, problem = str(error).partition(": ")
            raise InstrumentFileError(self.source, self.line, field_name, problem) from error


def _rows(lines: list[str], source: str, *, required: tuple[str, ...] = HEADER) -> list[_Row]:
    numbered = [(n, line) for n, line in enumerate(lines, start=1) if line.strip() and not line.startswith("#")]
    if not numbered:
        raise InstrumentFileError(source, None, "header", f"missing; the columns are {','.join(required)}")
    (header_line, header), *data = [(n, next(csv.reader([line]))) for n, line in numbered]
    if absent := [column for column in required if column not in header]:
        raise InstrumentFileError(source, header_line, "header", f"no column {', '.join(absent)}")
    for n, cells in data:
        if len(cells) != len(header):
            raise InstrumentFileError(source, n, "row", f"{len(cells)} values for {len(header)} columns")
    return [_Row(source, n, dict(zip(header, cells, strict=True))) for n, cells in data]


def _number(cell: _Cell) -> Decimal:
    if not _NUMBER.fullmatch(cell.text):
        cell.refuse("a number like 0.05")
    return Decimal(cell.text)


def _number_or_none(cell: _Cell) -> Decimal | None:
    return _number(cell) if cell.text else None


def _day(cell: _Cell) -> date:
    try:
        return date.fromisoformat(cell.text)
    except ValueError:
        cell.refuse("a day like 2026-11-23")


def _one_of(cell: _Cell, words: Mapping[str, _T]) -> _T:
    if cell.text not in words:
        cell.refuse(" or ".join(words))
    return words[cell.text]


def _as_text(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)
