"""Recorded market data for a replay: files in, ticks by trading day out.

A result must be checkable by hand, so the rules are few:

- Rows that start outside the session [open, close) are not ticks. They are counted and told.
- A minute bar becomes four ticks at +0, +15, +30, +45 s: open, low, high, close when close >= open, else
  open, high, low, close.
- The trading day is the local date of the row's start in the exchange's zone.
- Ticks of all symbols come in order of time; at the same instant in order of the files, then of the symbols as they
  first appear in the file, then of the rows.

Data that is odd is told and played as it stands (`oddities`). Data of which nobody can say what it means is refused
with BadInput: empty, torn, not a number, not in order, the same minute twice. Two ticks at one instant are normal
(the TrueFX file of 2013 has seven such pairs): they are played in the order of the file and counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

from squareoff.adapters.feeds.recorded_formats import (
    BarsLabelled,
    Format,
    HoursOf,
    Quote,
    ReadOptions,
    WrongField,
    detect,
    known_formats,
)
from squareoff.adapters.feeds.recorded_oddities import (
    MINUTE,
    Oddities,
    Oddity,
    PlayedRow,
    RecordedDay,
    check_bar,
    check_days,
)
from squareoff.core.session import ExchangeHours, LocalTimeError, Session
from squareoff.core.types import Symbol, Tick
from squareoff.errors import BadInput

__all__ = ["BarsLabelled", "HoursOf", "Oddity", "Quote", "ReadOptions", "RecordedData", "load"]

_LOOKED_AT = 5  # lines, to tell the format
_QUARTERS = tuple(timedelta(seconds=seconds) for seconds in (15, 30, 45))


def load(paths: Sequence[Path], *, options: ReadOptions | None = None, hours_of: HoursOf) -> RecordedData:
    """Read files, and the `*.csv` of folders, into memory (about 300 bytes a row).

    Raises:
        BadInput: naming the file, the line, the field, what is wrong and what would be right.
    """
    options, found = options or ReadOptions(), Oddities()
    series: list[_Series] = []
    for file in _files(paths):
        series += _read(file, options, hours_of, found)
    by_symbol: dict[Symbol, list[_Series]] = {}
    for one in series:
        by_symbol.setdefault(one.symbol, []).append(one)
    for symbol, parts in by_symbol.items():
        parts.sort(key=attrgetter("first_at"))
        _check_overlap(symbol, parts, found)
        check_days(symbol, parts[0].hours, [day for part in parts for day in part.days.values()], found)
    if not any(one.days for one in series):
        raise BadInput(", ".join(map(str, paths)), "no row is inside the session", str(found.all()[0]))
    return RecordedData(series, found.all())


class RecordedData:
    """All of it, ready to be played day by day."""

    def __init__(self, series: Sequence[_Series], oddities: tuple[Oddity, ...]) -> None:
        self._series = series
        self.oddities = oddities
        self.symbols: tuple[Symbol, ...] = tuple(dict.fromkeys(one.symbol for one in series if one.days))
        """Those with ticks, in order of their first appearance."""
        self.days: list[date] = sorted({day for one in series for day in one.days})
        """Trading days with at least one tick, in order."""
        self.is_bars: bool = any(one.is_bars for one in series)
        """Whether some ticks are made from bars, so that their order within a minute is a convention."""

    def tick_count(self, day: date) -> int:
        """Ticks of one day, without making them. 0 for a day that is not in `days`."""
        return sum(len(one.days[day].rows) * (4 if one.is_bars else 1) for one in self._series if day in one.days)

    def ticks(self, day: date) -> list[Tick]:
        """The ticks of one day in order. Made anew at each call, so that not all days are in memory as ticks."""
        parts = [one for one in self._series if day in one.days]
        ticks = [tick for one in parts for tick in one.ticks(day)]
        if len(parts) > 1:
            ticks.sort(key=itemgetter(2))  # stable: at one instant the order of files and symbols stays
        return ticks


@dataclass(kw_only=True, slots=True)
class _Series:
    """The rows of one symbol in one file."""

    file: str
    symbol: Symbol
    hours: ExchangeHours
    is_bars: bool
    sessions: _Sessions
    first_at: datetime
    last_at: datetime | None = None
    last_prices: tuple[Decimal, ...] = ()
    days: dict[date, RecordedDay] = field(default_factory=dict)
    minutes_outside: set[timedelta] = field(default_factory=set)
    """How far the rows outside were from the opening, to tell a wrong `bars_labelled`."""

    def ticks(self, day: date) -> Iterator[Tick]:
        symbol, rows = self.symbol, self.days[day].rows
        if not self.is_bars:
            for at, (price,), _ in rows:
                yield Tick(symbol, price, at)
            return
        after_15, after_30, after_45 = _QUARTERS
        for at, (opened, high, low, closed), _ in rows:
            second, third = (low, high) if closed >= opened else (high, low)
            yield Tick(symbol, opened, at)
            yield Tick(symbol, second, at + after_15)
            yield Tick(symbol, third, at + after_30)
            yield Tick(symbol, closed, at + after_45)


class _Sessions:
    """The session of the local day an instant falls on. Rows come in order, so the last answer mostly holds."""

    def __init__(self, hours: ExchangeHours) -> None:
        self._hours = hours
        self._from = self._to = datetime.min.replace(tzinfo=UTC)
        self._session: Session | None = None

    def of(self, at: datetime) -> Session:
        if self._session is None or not self._from <= at < self._to:
            day, zone = at.astimezone(self._hours.zone).date(), self._hours.zone
            self._from, self._to = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
            self._session = self._hours.session(day, self._hours.regular)
        return self._session


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(0), zone).astimezone(UTC)


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files meant, each once: folders stand for their `*.csv` in order of name."""
    found: dict[Path, Path] = {}
    for path in paths:
        inside = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not inside:
            raise BadInput(str(path), "this folder has no *.csv file", "give files, or a folder that holds them")
        for file in inside:
            found.setdefault(file.resolve(), file)
    if not found:
        raise BadInput("data", "no file was given", "give files, or a folder that holds them")
    return list(found.values())


def _read(file: Path, options: ReadOptions, hours_of: HoursOf, found: Oddities) -> list[_Series]:
    lines = _lines(file, found)
    kind = detect(lines[:_LOOKED_AT])
    if kind is None:
        seen = lines[0] if len(lines[0]) <= 80 else lines[0][:80] + "…"
        raise BadInput(f"{file}, line 1", f"{seen!r} is no format squareoff knows", f"it knows {known_formats()}")
    skipped = 1 if kind.header else 0
    if len(lines) == skipped:
        raise BadInput(str(file), "nothing but a header", f"rows like {kind.example}")
    return _FileReading(file, kind, options, hours_of, found).read(lines, skipped)


def _lines(file: Path, found: Oddities) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(str(file), "there is no such file or folder", "check the path") from None
    except UnicodeDecodeError:
        raise BadInput(str(file), "this is not a text file", f"it may be {known_formats()}") from None
    except OSError as error:
        raise BadInput(str(file), f"it cannot be read: {error.strerror}", "check its permissions") from None
    if not text.strip():
        raise BadInput(str(file), "the file is empty", f"it may be {known_formats()}")
    lines = text.split("\n")  # read_text has made every kind of line end a "\n"
    if lines[-1]:
        found.note("cut", str(file), len(lines), "the last line has no line end, so it may be cut short")
    while not lines[-1]:
        lines.pop()
    return lines


class _FileReading:
    """One file while it is read."""

    def __init__(self, file: Path, kind: Format, options: ReadOptions, hours_of: HoursOf, found: Oddities) -> None:
        self._name, self._kind, self._hours_of, self._found = str(file), kind, hours_of, found
        self._line = 0
        self._shift = MINUTE if kind.is_bars and options.bars_labelled is BarsLabelled.END else timedelta(0)
        self._labelled = options.bars_labelled
        self._series: dict[Symbol, _Series] = {}
        self._outside = ("", "")
        self._outside_count = self._outside_line = self._same_instant = self._same_line = 0
        try:
            self._reader = kind(options, self._hours, file, self._note)
        except WrongField as error:
            raise BadInput(f"{self._name}, {error.field}", error.wrong, error.right) from None

    def read(self, lines: Sequence[str], skipped: int) -> list[_Series]:
        columns = self._columns(lines[skipped:][:_LOOKED_AT])
        try:
            for self._line, text in enumerate(lines[skipped:], start=skipped + 1):
                fields = text.split(",")
                if len(fields) != columns:
                    self._refuse_torn(text, columns)
                symbol, at, prices = self._reader.read(fields)
                series = self._series.get(symbol) or self._begin(symbol, at - self._shift)
                self._add(series, at - self._shift, prices)
        except WrongField as error:
            self._refuse(error.field, error.wrong, error.right)
        except LocalTimeError as error:
            self._refuse("time", f"the session of that day has no clear hours: {error}", "another day")
        self._summarise()
        return list(self._series.values())

    def _columns(self, first_rows: Sequence[str]) -> int:
        """How many every row must have. By the widest of the first rows, so that a torn one is the one refused."""
        seen = [text.count(",") + 1 for text in first_rows]
        return max((count for count in seen if count in self._kind.columns), default=self._kind.columns[-1])

    def _add(self, series: _Series, at: datetime, prices: tuple[Decimal, ...]) -> None:
        if series.last_at is not None and at - series.last_at < (MINUTE if series.is_bars else timedelta.resolution):
            self._check_order(series, at, prices)
        series.last_at, series.last_prices = at, prices
        session = series.sessions.of(at)
        if not session.opens_at <= at < session.closes_at:
            self._leave_out(series, at, session)
            return
        if series.is_bars and (wrong := check_bar(prices)):
            self._note("bar", f"{series.symbol}: {wrong}")
        if min(prices) <= 0:
            self._note("price", f"{series.symbol}: a price of {min(prices)}")
        day = series.days.get(session.day)
        if day is None:
            day = series.days[session.day] = RecordedDay(self._name, session, [])
        day.rows.append(PlayedRow(at, prices, self._line))

    def _check_order(self, series: _Series, at: datetime, prices: tuple[Decimal, ...]) -> None:
        """This row is not clearly later than the one before of its symbol."""
        assert series.last_at is not None
        before, now = (self._local(series, instant + self._shift) for instant in (series.last_at, at))
        if at < series.last_at:
            self._refuse(
                "time", f"{now} comes after {before}, so {series.symbol} is not in order", "sort the rows by time"
            )
        if series.is_bars and at == series.last_at:
            self._refuse("time", f"{series.symbol} has {now} twice", "keep one bar for each minute")
        if series.is_bars:
            self._refuse("time", f"{now} is less than a minute after {before}", "bars of one minute each")
        if prices == series.last_prices:
            self._note("repeated", f"{series.symbol}: the same price and instant as the row before, {now}")
        self._same_instant += 1
        self._same_line = self._same_line or self._line

    def _leave_out(self, series: _Series, at: datetime, session: Session) -> None:
        self._outside_count += 1
        if self._outside_count == 1:
            self._outside_line = self._line
            self._outside = (f"outside the session {series.hours.regular}", self._local(series, at))
        if series.is_bars:
            series.minutes_outside.add(at - session.opens_at)

    def _summarise(self) -> None:
        if self._outside_count:
            where, first = self._outside
            rows = "1 row" if self._outside_count == 1 else f"{self._outside_count} rows"
            self._found.note(
                "outside", self._name, self._outside_line, f"{rows} {where}, not played; the first starts {first}"
            )
        if self._same_instant:
            what = f"{self._same_instant} ticks at the very instant of the one before, played in the order of the file"
            self._found.note("same instant", self._name, self._same_line, what)
        for series in self._series.values():
            if series.is_bars and series.days and not series.hours.always_open:
                self._check_labels(series)

    def _check_labels(self, series: _Series) -> None:
        """Labels of the other kind shift every day by the same minute: then it is not the data that is odd."""
        days = series.days.values()
        length = next(iter(days)).session.closes_at - next(iter(days)).session.opens_at
        if self._labelled is BarsLabelled.START:
            other, is_shifted = BarsLabelled.END, all(d.rows[0].at == d.session.opens_at + MINUTE for d in days)
            beyond = length
        else:
            other, is_shifted = (
                BarsLabelled.START,
                all(d.rows[-1].at == d.session.closes_at - 2 * MINUTE for d in days),
            )
            beyond = -MINUTE
        if is_shifted and beyond in series.minutes_outside:
            looks = f"these bars look labelled by their {other}, not by their {self._labelled}"
            self._found.note(
                "labels", self._name, self._outside_line, f"{series.symbol}: every day is a minute off; {looks}"
            )

    def _begin(self, symbol: Symbol, at: datetime) -> _Series:
        hours = self._hours(symbol)
        series = self._series[symbol] = _Series(
            file=self._name,
            symbol=symbol,
            hours=hours,
            is_bars=self._kind.is_bars,
            sessions=_Sessions(hours),
            first_at=at,
        )
        return series

    def _hours(self, symbol: Symbol) -> ExchangeHours:
        try:
            return self._hours_of(symbol)
        except LookupError as error:
            raise WrongField("symbol", f"{symbol}: {error}", "a symbol of an exchange with known hours") from error

    def _note(self, kind: str, what: str) -> None:
        self._found.note(kind, self._name, self._line, what)

    def _local(self, series: _Series, instant: datetime) -> str:
        local = instant.astimezone(series.hours.zone).replace(tzinfo=None)
        return local.isoformat(" ", timespec="milliseconds" if local.microsecond else "seconds")

    def _refuse_torn(self, text: str, columns: int) -> None:
        self._refuse("columns", f"{text.count(',') + 1} instead of {columns}: {text!r}", f"like {self._kind.example}")

    def _refuse(self, field_name: str, wrong: str, right: str) -> NoReturn:
        raise BadInput(f"{self._name}, line {self._line}, {field_name}", wrong, right) from None


def _check_overlap(symbol: Symbol, parts: Sequence[_Series], found: Oddities) -> None:
    """Two files may tell one after the other of a symbol. Two tellings of the same minutes: which one is true?"""
    for before, after in pairwise(parts):
        if before.last_at is None or after.first_at > before.last_at:
            continue
        if before.is_bars or after.is_bars:
            wrong = f"{symbol} from {after.first_at:%Y-%m-%d %H:%M} UTC on is also in {before.file}"
            raise BadInput(after.file, wrong, "give each minute of a symbol in one file only")
        found.note(
            "overlap", after.file, None, f"{symbol}: overlaps in time with {before.file}; ticks of both are played"
        )
