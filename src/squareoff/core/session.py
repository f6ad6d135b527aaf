"""When an exchange trades. Pure: files come in as text, "today" as an argument.

Instants are aware UTC. Wall times are naive and belong to the exchange's zone. A day without facts is never
guessed: a year without a signed-off file raises `UnknownYear`, so nothing is armed on it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar
from zoneinfo import ZoneInfo

REGULAR = "regular"
MIDNIGHT = time(0)

ZoneNamed = Callable[[str], ZoneInfo]

_T = TypeVar("_T")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SATURDAY = 5
_WALL_TIME = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


class CalendarFileError(ValueError):
    """A calendar or exchange file is not usable. The message names the file, the field and what would be right."""

    def __init__(self, source: str, field_name: str, problem: str) -> None:
        super().__init__(f"{source}: {field_name}: {problem}")
        self.source, self.field, self.problem = source, field_name, problem


class UnknownYear(LookupError):
    """No signed-off calendar for this year. Arm nothing on it; a person adds the file."""

    def __init__(self, exchange: str, year: int) -> None:
        name = f"{exchange}-{year}.toml"
        super().__init__(
            f"No signed-off calendar for {exchange} {year}, so squareoff does not know which days trade and arms "
            f"nothing on them. Put {name} into the calendars folder of your settings: start from the shipped "
            f"file of another year, enter the exchange's holiday circular, and fill in [signed_off]."
        )
        self.exchange, self.year = exchange, year


class NoMoreSessions(LookupError):
    """The recorded days end here. Only a replay calendar raises this."""


class LocalTimeError(ValueError):
    """This wall time names no instant, or two of them, on this day in this zone. Ask for another time."""

    def __init__(self, day: date, wall_time: time, zone: ZoneInfo, problem: str) -> None:
        super().__init__(f"time: {wall_time:%H:%M:%S} on {day} in {zone.key} {problem}")
        self.day, self.wall_time, self.zone = day, wall_time, zone


def local_instant(day: date, wall_time: time, zone: ZoneInfo, *, fold: Literal[0, 1] | None = None) -> datetime:
    """The UTC instant at which clocks in `zone` show `wall_time` on `day`.

    `fold` is only needed where clocks were put back and the time comes twice: 0 the first, 1 the second.

    Raises:
        LocalTimeError: the time is skipped that day (clocks go forward), or comes twice and no `fold` says which.
    """
    if wall_time.tzinfo is not None:
        raise LocalTimeError(day, wall_time, zone, "carries a zone of its own; give the plain wall time")
    local = datetime.combine(day, wall_time, zone)
    first, second = local.replace(fold=0), local.replace(fold=1)
    instant = (second if fold == 1 else first).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) != local.replace(tzinfo=None, fold=0):
        raise LocalTimeError(day, wall_time, zone, "does not exist: clocks go forward over it; choose another time")
    if fold is None and first.utcoffset() != second.utcoffset():
        raise LocalTimeError(
            day, wall_time, zone, "comes twice: clocks go back over it; say fold=0 (first) or fold=1 (second)"
        )
    return instant


@dataclass(frozen=True, kw_only=True, slots=True)
class DayHours:
    """From `opens` to `closes` by the wall clock, within one local day. `closes` 00:00 is midnight at its end."""

    opens: time
    closes: time

    def __post_init__(self) -> None:
        if self.closes != MIDNIGHT and self.closes <= self.opens:
            raise ValueError(f"the session must close after it opens, not {self}")

    def __str__(self) -> str:
        return f"{self.opens:%H:%M}-{'24:00' if self.closes == MIDNIGHT else f'{self.closes:%H:%M}'}"

    def on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Opening and closing instant of `day`, UTC."""
        closing_day = day + timedelta(days=1) if self.closes == MIDNIGHT else day
        return local_instant(day, self.opens, zone), local_instant(closing_day, self.closes, zone)


def parse_wall_time(text: str) -> time:
    """`"15:20"` as a time. Raises ValueError for anything but HH:MM."""
    if not (match := _WALL_TIME.fullmatch(text)):
        raise ValueError(f'{text!r} is not a time; write it like "15:20"')
    return time(int(match[1]), int(match[2]))


def parse_session_text(text: str) -> DayHours:
    """`"09:15-15:30"` or, to midnight, `"00:00-24:00"`. Raises ValueError with what would be right."""
    opens, dash, closes = text.partition("-")
    if not dash:
        raise ValueError(f'{text!r} is not a session; write it like "09:15-15:30"')
    closing = MIDNIGHT if closes == "24:00" else parse_wall_time(closes)
    if closes == "00:00":
        raise ValueError(f'{text!r} closes before it opens; for the end of the day write "24:00"')
    return DayHours(opens=parse_wall_time(opens), closes=closing)


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One trading session of one day. `opens_at` to `closes_at`, UTC, the closing instant not included.

    `auction_at`: from this instant, shares with a closing auction no longer trade continuously: no order fills at
    once and exchanges take no stop-loss order. None = no closing auction in this session.
    """

    exchange: str
    day: date
    opens_at: datetime
    closes_at: datetime
    zone: ZoneInfo
    name: str = REGULAR
    auction_at: datetime | None = None

    def __post_init__(self) -> None:
        for instant in (self.opens_at, self.closes_at):
            if instant.tzinfo is not UTC:
                raise ValueError(f"a session's instants are UTC, not {instant!r}")
        if self.closes_at <= self.opens_at:
            raise ValueError(f"the session must close after it opens, not {self.opens_at} to {self.closes_at}")

    def __contains__(self, instant: datetime) -> bool:
        return self.opens_at <= instant < self.closes_at

    def at(self, wall_time: time) -> datetime:
        """This session's day at `wall_time` of the exchange, UTC. It may lie outside the session."""
        return local_instant(self.day, wall_time, self.zone)

    def trades_until(self, *, closing_auction: bool | None) -> datetime:
        """When continuous trading ends, UTC, for an instrument with or without a closing auction.

        None = not known which; then the earlier, because an exit that waits for the later one may not fill.
        """
        return self.closes_at if closing_auction is False else self.auction_at or self.closes_at


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosingAuction:
    """Continuous trading of some shares ends at `starts_at` on every day from `since` on."""

    starts_at: time
    since: date


@dataclass(frozen=True, kw_only=True, slots=True)
class ExchangeHours:
    """What holds on an ordinary day of this exchange, by its own wall clock."""

    exchange: str
    name: str
    zone: ZoneInfo
    regular: DayHours
    square_off: Mapping[str, time] = field(default_factory=dict)
    closing_auction: ClosingAuction | None = None
    always_open: bool = False

    def session(self, day: date, hours: DayHours, name: str = REGULAR) -> Session:
        opens_at, closes_at = hours.on(day, self.zone)
        return Session(
            exchange=self.exchange,
            day=day,
            opens_at=opens_at,
            closes_at=closes_at,
            zone=self.zone,
            name=name,
            auction_at=self._auction_at(day, opens_at, closes_at),
        )

    def square_off_at(self, product: str, session: Session) -> datetime | None:
        """When the broker squares off this product in this session, UTC.

        None = not known: the product has no such time, or the session does not span it. On a day of special hours
        the broker announces another time; we do not guess it.
        """
        if product not in self.square_off:
            return None
        instant = session.at(self.square_off[product])
        return instant if instant in session else None

    def _auction_at(self, day: date, opens_at: datetime, closes_at: datetime) -> datetime | None:
        if self.closing_auction is None or day < self.closing_auction.since:
            return None
        instant = local_instant(day, self.closing_auction.starts_at, self.zone)
        return instant if opens_at < instant < closes_at else None


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedOff:
    """Who says that a calendar is right, since when, and from what."""

    by: str
    on: date
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SpecialSession:
    """A session on a closed day, or other hours on an open one."""

    name: str
    hours: DayHours
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class CalendarYear:
    """One signed-off year of one exchange. A special session wins over weekend and holiday."""

    exchange: str
    year: int
    holidays: Mapping[date, str]
    special: Mapping[date, SpecialSession]
    signed_off: SignedOff


class _Open(NamedTuple):
    name: str
    hours: DayHours


class Calendar:
    """Which days of an exchange trade, and when. Knows only the years it was given."""

    def __init__(self, hours: ExchangeHours, years: Iterable[CalendarYear] = ()) -> None:
        self.hours = hours
        by_year: dict[int, CalendarYear] = {}
        for year in years:
            if year.exchange != hours.exchange:
                raise ValueError(f"a calendar of {year.exchange} cannot serve {hours.exchange}")
            if year.year in by_year:
                raise ValueError(f"{year.exchange} {year.year} was given twice; keep one file of it")
            by_year[year.year] = year
        self.years: Mapping[int, CalendarYear] = MappingProxyType(by_year)

    @staticmethod
    def always_open(hours: ExchangeHours) -> Calendar:
        """Every day trades, in the regular hours (the generated exchange)."""
        return _AlwaysOpen(hours)

    @staticmethod
    def from_days(hours: ExchangeHours, days: Iterable[date]) -> Calendar:
        """Exactly these days trade, in the regular hours: a replay, whose days are those in its data."""
        return _Recorded(hours, days)

    @property
    def exchange(self) -> str:
        return self.hours.exchange

    def session_on(self, day: date) -> Session | None:
        """The session of `day`, a local day of the exchange. None = closed; `why_closed` tells the reason.

        Raises:
            UnknownYear: no signed-off file covers the day.
        """
        found = self._look_up(day)
        return None if isinstance(found, str) else self.hours.session(day, found.hours, found.name)

    def why_closed(self, day: date) -> str:
        """Why `day` does not trade, for a person: "Sunday", "holiday: Christmas". Raises ValueError if it does."""
        found = self._look_up(day)
        if isinstance(found, str):
            return found
        raise ValueError(f"{self.exchange} trades on {day}: {found.name}, {found.hours}")

    def is_special(self, day: date) -> bool:
        """Whether `day` trades outside the ordinary: a muhurat evening, a budget Sunday, other hours."""
        found = self._look_up(day)
        return not isinstance(found, str) and found.name != REGULAR

    def next_session(self, after: date) -> Session:
        """The first session on a day later than `after`. Raises UnknownYear when that needs an unknown year."""
        day = after
        while True:
            day += timedelta(days=1)
            if session := self.session_on(day):
                return session

    def missing_next_year(self, today: date) -> str | None:
        """From 1 December on, a warning if next year has no file. None = nothing to warn of."""
        return missing_next_year(today, self.years, exchange=self.exchange)

    def _look_up(self, day: date) -> _Open | str:
        """What trades on `day`, or why nothing does."""
        if day.year not in self.years:
            raise UnknownYear(self.exchange, day.year)
        year = self.years[day.year]
        if day in year.special:
            return _Open(year.special[day].name, year.special[day].hours)
        if day in year.holidays:
            return f"holiday: {year.holidays[day]}"
        if day.weekday() >= _SATURDAY:
            return _WEEKDAYS[day.weekday()]
        return self._regular()

    def _regular(self) -> _Open:
        return _Open(REGULAR, self.hours.regular)


class _AlwaysOpen(Calendar):
    def _look_up(self, day: date) -> _Open | str:
        return self._regular()

    def missing_next_year(self, today: date) -> str | None:
        return None


class _Recorded(Calendar):
    def __init__(self, hours: ExchangeHours, days: Iterable[date]) -> None:
        super().__init__(hours)
        self._days = frozenset(days)

    def next_session(self, after: date) -> Session:
        later = [day for day in self._days if day > after]
        if not later:
            raise NoMoreSessions(f"the recorded days of {self.exchange} end on or before {after}")
        return self.hours.session(min(later), self.hours.regular)

    def _look_up(self, day: date) -> _Open | str:
        return self._regular() if day in self._days else "no data recorded for this day"

    def missing_next_year(self, today: date) -> str | None:
        return None


def missing_next_year(today: date, years: Collection[int], *, exchange: str) -> str | None:
    """From 1 December on, a warning for the trader if next year is not among `years`. None = nothing to warn of."""
    if today.month != 12 or today.year + 1 in years:
        return None
    return (
        f"{exchange} has no calendar for {today.year + 1} yet. From 1 January no strategy on {exchange} can be "
        f"armed until {exchange}-{today.year + 1}.toml is in the calendars folder of your settings."
    )


def parse_calendar(text: str, *, source: str) -> CalendarYear:
    """One year of one exchange from TOML. `source` is the file's name, for messages.

    Unknown keys are refused: with a misspelt table the exchange's holidays would silently trade.

    Raises:
        CalendarFileError: naming the field, what is wrong with it and what would be right.
    """
    top = _Fields(_parse_toml(text, source), source)
    exchange, year = top.take("exchange", str), top.take("year", int)
    if "signed_off" not in top.table:
        top.refuse("signed_off", "missing; nobody vouches for this file. Add [signed_off] with by, on and source")
    signed_off = _signed_off(top.fields("signed_off"))
    holidays = _holidays(top.fields("holidays"), year)
    special = _special(top, year)
    top.refuse_the_rest()
    return CalendarYear(
        exchange=exchange,
        year=year,
        holidays=MappingProxyType(holidays),
        special=MappingProxyType(special),
        signed_off=signed_off,
    )


def parse_exchanges(text: str, *, source: str, zone_named: ZoneNamed) -> dict[str, ExchangeHours]:
    """Exchange facts by exchange code from TOML. Raises CalendarFileError as `parse_calendar` does.

    `zone_named` is `ZoneInfo`; it is passed in because it reads the zone files of the machine.
    """
    top = _Fields(_parse_toml(text, source), source)
    return {code: _exchange_hours(code, top.fields(code), zone_named) for code in list(top.table)}


def _exchange_hours(code: str, fields: _Fields, zone_named: ZoneNamed) -> ExchangeHours:
    square_off = fields.fields("square_off", optional=True)
    auction = fields.fields("closing_auction") if "closing_auction" in fields.table else None
    hours = ExchangeHours(
        exchange=code,
        name=fields.take("name", str),
        zone=fields.zone("zone", zone_named),
        regular=fields.hours("hours"),
        square_off=MappingProxyType({product: square_off.wall_time(product) for product in list(square_off.table)}),
        closing_auction=_closing_auction(auction) if auction else None,
        always_open=fields.take("always_open", bool, default=False),
    )
    fields.refuse_the_rest()
    return hours


def _closing_auction(fields: _Fields) -> ClosingAuction:
    auction = ClosingAuction(starts_at=fields.wall_time("starts_at"), since=fields.day("since"))
    fields.refuse_the_rest()
    return auction


def _signed_off(fields: _Fields) -> SignedOff:
    signed_off = SignedOff(by=fields.take("by", str), on=fields.day("on"), source=fields.take("source", str))
    fields.refuse_the_rest()
    return signed_off


def _holidays(fields: _Fields, year: int) -> dict[date, str]:
    if not fields.table:
        fields.refuse("", 'empty; every exchange has holidays. Write lines like 2026-12-25 = "Christmas"')
    return {fields.key_as_day(key, year): fields.take(key, str) for key in list(fields.table)}


def _special(top: _Fields, year: int) -> dict[date, SpecialSession]:
    special: dict[date, SpecialSession] = {}
    for fields in top.list_of_fields("special"):
        day = fields.day("day", year=year)
        if day in special:
            fields.refuse("day", f"{day} is there twice; keep one session a day")
        name = fields.take("name", str)
        if name == REGULAR:
            fields.refuse("name", f'{REGULAR!r} is the ordinary session; name it like "muhurat" or "budget"')
        special[day] = SpecialSession(name=name, hours=fields.hours("hours"), source=fields.take("source", str))
        fields.refuse_the_rest()
    return special


def _parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CalendarFileError(source, "syntax", f"not valid TOML: {error}") from error


class _Fields:
    """One TOML table, taken field by field, so that what nobody took can be refused."""

    _EXAMPLES: Mapping[type, str] = {str: 'text like "NSE"', int: "a number like 2026", bool: "true or false"}

    def __init__(self, table: dict[str, Any], source: str, path: str = "") -> None:
        self.table, self._source, self._path = dict(table), source, path

    def take(self, key: str, kind: type[_T], *, default: _T | None = None) -> _T:
        if key not in self.table:
            if default is not None:
                return default
            self.refuse(key, f"missing; it should be {self._EXAMPLES[kind]}")
        value = self.table.pop(key)
        # bool is an int to Python; `year = true` is still a mistake
        if type(value) is not kind or value == "":
            self.refuse(key, f"{value!r} is not right; it should be {self._EXAMPLES[kind]}")
        return value

    def day(self, key: str, *, year: int | None = None) -> date:
        value = self.table.pop(key, None)
        if type(value) is not date:
            self.refuse(key, f"{value!r} is not a day; write it without quotes, like 2026-11-23")
        return self._in_year(key, value, year)

    def key_as_day(self, key: str, year: int) -> date:
        try:
            return self._in_year(key, date.fromisoformat(key), year)
        except ValueError as error:
            self.refuse(key, f"{error}; write the day like {year}-12-25", error)

    def wall_time(self, key: str) -> time:
        text = self.take(key, str)
        try:
            return parse_wall_time(text)
        except ValueError as error:
            self.refuse(key, str(error), error)

    def hours(self, key: str) -> DayHours:
        text = self.take(key, str)
        try:
            return parse_session_text(text)
        except ValueError as error:
            self.refuse(key, str(error), error)

    def zone(self, key: str, zone_named: ZoneNamed) -> ZoneInfo:
        name = self.take(key, str)
        try:
            return zone_named(name)
        except (LookupError, ValueError) as error:
            self.refuse(key, f'{name!r} is not a zone; write it like "Asia/Kolkata"', error)

    def fields(self, key: str, *, optional: bool = False) -> _Fields:
        value = self.table.pop(key, {} if optional else None)
        if not isinstance(value, dict):
            self.refuse(key, f"missing or not a table; write [{self._path}{key}] and its fields below")
        return _Fields(value, self._source, f"{self._path}{key}.")

    def list_of_fields(self, key: str) -> list[_Fields]:
        value = self.table.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.refuse(key, f"not a list; write [[{self._path}{key}]] with double brackets")
        return [_Fields(item, self._source, f"{self._path}{key}[{n}].") for n, item in enumerate(value, start=1)]

    def refuse_the_rest(self) -> None:
        for key in self.table:
            self.refuse(key, "not a field squareoff knows; check its spelling or remove it")

    def refuse(self, key: str, problem: str, cause: Exception | None = None) -> NoReturn:
        raise CalendarFileError(self._source, f"{self._path}{key}".rstrip("."), problem) from cause

    def _in_year(self, key: str, day: date, year: int | None) -> date:
        if year is not None and day.year != year:
            self.refuse(key, f"{day} is not in {year}, the year of this file")
        return day
