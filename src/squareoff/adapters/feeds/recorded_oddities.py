"""What is odd in recorded data. It is told and played as it stands: nothing here changes a price or drops a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from squareoff.core.session import ExchangeHours, Session
from squareoff.core.types import Symbol

MINUTE = timedelta(minutes=1)
_TOLD_EACH = 10
_SATURDAY = 5
_WEEKEND = {5: "Saturday", 6: "Sunday"}


class Oddity(NamedTuple):
    """`line` counts from 1; None: the whole file."""

    file: str
    line: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}{'' if self.line is None else f', line {self.line}'}: {self.what}"


class Oddities:
    """Collects them: of one kind in one file the first ten each, then how many more."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str], list[Oddity]] = {}
        self._more: dict[tuple[str, str], int] = {}

    def note(self, kind: str, file: str, line: int | None, what: str) -> None:
        told = self._kinds.setdefault((file, kind), [])
        if len(told) < _TOLD_EACH:
            told.append(Oddity(file, line, what))
        else:
            self._more[file, kind] = self._more.get((file, kind), 0) + 1

    def all(self) -> tuple[Oddity, ...]:
        """File by file in the order they were first odd, by line within a file."""
        found: dict[str, list[Oddity]] = {}
        for (file, kind), told in self._kinds.items():
            found.setdefault(file, []).extend(told)
            if more := self._more.get((file, kind)):
                found[file].append(Oddity(file, None, f"and {more} more like line {told[-1].line}: {told[-1].what}"))
        return tuple(o for told in found.values() for o in sorted(told, key=lambda o: (o.line is None, o.line or 0)))


class PlayedRow(NamedTuple):
    """A row inside the session: `at` is its start, UTC; `prices` open, high, low, close, or one."""

    at: datetime
    prices: tuple[Decimal, ...]
    line: int


class RecordedDay(NamedTuple):
    """The rows of one symbol on one trading day in one file."""

    file: str
    session: Session
    rows: list[PlayedRow]


def check_bar(prices: tuple[Decimal, ...]) -> str | None:
    """What is impossible about open, high, low, close. None: nothing."""
    opened, high, low, closed = prices
    if low <= opened <= high and low <= closed <= high:
        return None
    if high < low:
        return f"high {high} is below low {low}"
    what = " and ".join(
        f"{name} {price}" for name, price in (("open", opened), ("close", closed)) if not low <= price <= high
    )
    return f"{what} outside low {low} to high {high}"


def check_days(symbol: Symbol, hours: ExchangeHours, days: Iterable[RecordedDay], found: Oddities) -> None:
    """Look over all days of one symbol, in order of time. Two files may share a day."""
    last_price: Decimal | None = None
    by_day: dict[date, list[RecordedDay]] = {}
    for part in days:
        by_day.setdefault(part.session.day, []).append(part)
    for parts in by_day.values():
        _check_calendar(symbol, parts[0], found)
        if not hours.always_open:
            _check_ends(symbol, parts, found)
        for part in parts:
            last_price = _check_jumps(symbol, part, last_price, found)
        _check_gaps(symbol, parts, found)


def _check_calendar(symbol: Symbol, part: RecordedDay, found: Oddities) -> None:
    day = part.session.day
    if day.weekday() >= _SATURDAY:
        found.note("weekend", part.file, part.rows[0].line, f"{symbol}: {day} is a {_WEEKEND[day.weekday()]}")


def _check_ends(symbol: Symbol, parts: Sequence[RecordedDay], found: Oddities) -> None:
    session, first, last = parts[0].session, parts[0].rows[0], parts[-1].rows[-1]
    day, grace = session.day, timedelta(0) if len(first.prices) > 1 else MINUTE
    if first.at > session.opens_at + grace:
        what = f"{symbol}: {day} starts late, at {_clock(first.at, session)}"
        found.note("late", parts[0].file, first.line, what)
    if last.at + MINUTE < session.closes_at:
        what = f"{symbol}: {day} ends early, the last row starts at {_clock(last.at, session)}"
        found.note("early", parts[-1].file, last.line, what)
    rows, minutes = sum(len(part.rows) for part in parts), (session.closes_at - session.opens_at) // MINUTE
    if 2 * rows < minutes:
        what = f"{symbol}: {day} has only {rows} rows for a session of {minutes} minutes"
        found.note("few", parts[0].file, first.line, what)


def _check_gaps(symbol: Symbol, parts: Sequence[RecordedDay], found: Oddities) -> None:
    before: datetime | None = None
    for part in parts:
        for at, _, line in part.rows:
            if before is not None and at - before > MINUTE:
                clocks = f"{_clock(before, part.session)} and {_clock(at, part.session)}"
                found.note("gap", part.file, line, f"{symbol}: nothing between {clocks} on {part.session.day}")
            before = at


def _check_jumps(symbol: Symbol, part: RecordedDay, before: Decimal | None, found: Oddities) -> Decimal:
    """A price more than 20 % from the last price of the row before. Returns the last price of the part."""
    last = before if before is not None else part.rows[0].prices[0]
    for _, prices, line in part.rows:
        for price in prices:
            if abs(price - last) * 5 > last > 0:
                percent = (price / last - 1) * 100
                found.note(
                    "jump", part.file, line, f"{symbol}: {last} to {price} is {percent:+.1f} % from the row before"
                )
                break
        last = prices[-1]
    return last


def _clock(instant: datetime, session: Session) -> str:
    local = instant.astimezone(session.zone)
    return f"{local:%H:%M:%S}" if local.second or local.microsecond else f"{local:%H:%M}"
