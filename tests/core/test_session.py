"""When an exchange trades: the promises of `squareoff.core.session`."""

from __future__ import annotations

import time as system_time
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squareoff.core.session import (
    Calendar,
    CalendarFileError,
    CalendarYear,
    ClosingAuction,
    DayHours,
    ExchangeHours,
    LocalTimeError,
    NoMoreSessions,
    Session,
    SignedOff,
    SpecialSession,
    UnknownYear,
    local_instant,
    missing_next_year,
    parse_calendar,
    parse_exchanges,
    parse_session_text,
)

KOLKATA, NEW_YORK = ZoneInfo("Asia/Kolkata"), ZoneInfo("America/New_York")

NSE = ExchangeHours(
    exchange="NSE",
    name="National Stock Exchange",
    zone=KOLKATA,
    regular=DayHours(opens=time(9, 15), closes=time(15, 30)),
    square_off={"MIS": time(15, 20)},
    closing_auction=ClosingAuction(starts_at=time(15, 15), since=date(2026, 8, 3)),
)
NYSE = ExchangeHours(
    exchange="NYSE", name="New York", zone=NEW_YORK, regular=DayHours(opens=time(9, 30), closes=time(16))
)
SIM = ExchangeHours(
    exchange="SIM",
    name="generated",
    zone=KOLKATA,
    regular=parse_session_text("00:00-24:00"),
    always_open=True,
)

SIGNED_OFF = """
[signed_off]
by = "Asha"
on = 2026-11-23
source = "NSE/CMTR/71775"
"""

YEAR_2026 = f"""
exchange = "NSE"
year = 2026
{SIGNED_OFF}
[holidays]
2026-11-10 = "Diwali Balipratipada"
2026-11-24 = "Guru Nanak Jayanti"

[[special]]
day = 2026-02-01
name = "budget"
hours = "09:15-15:30"
source = "NSE circular of 2026-01-16"

[[special]]
day = 2026-11-10
name = "muhurat"
hours = "18:00-19:00"
source = "made up for this test"
"""


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type,misc]


def nse() -> Calendar:
    return Calendar(NSE, [parse_calendar(YEAR_2026, source="NSE-2026.toml")])


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/New_York"])
def host_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    system_time.tzset()
    yield request.param
    monkeypatch.undo()
    system_time.tzset()


# ---- an ordinary day


def test_the_market_opens_at_0915_in_india_wherever_the_computer_stands(host_zone: str) -> None:
    assert nse().session_on(date(2026, 11, 23)) == Session(
        exchange="NSE",
        day=date(2026, 11, 23),
        opens_at=utc(2026, 11, 23, 3, 45),
        closes_at=utc(2026, 11, 23, 10, 0),
        zone=KOLKATA,
        name="regular",
        auction_at=utc(2026, 11, 23, 9, 45),
    )


def test_0920_means_0920_in_india_on_that_day(host_zone: str) -> None:
    session = nse().next_session(date(2026, 11, 22))
    assert session.at(time(9, 20)) == utc(2026, 11, 23, 3, 50)


def test_the_opening_instant_is_in_the_session_and_the_closing_instant_is_not() -> None:
    session = nse().next_session(date(2026, 11, 22))
    one = timedelta(microseconds=1)
    inside = [
        at in session for at in (session.opens_at - one, session.opens_at, session.closes_at - one, session.closes_at)
    ]
    assert inside == [False, True, True, False]


def test_a_session_in_another_zone_than_utc_is_refused() -> None:
    local = datetime(2026, 11, 23, 9, 15, tzinfo=KOLKATA)
    with pytest.raises(ValueError, match="instants are UTC"):
        Session(
            exchange="NSE",
            day=local.date(),
            opens_at=local,
            closes_at=local + timedelta(hours=6),
            zone=KOLKATA,
        )


# ---- closed days


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (date(2026, 11, 21), "Saturday"),
        (date(2026, 11, 22), "Sunday"),
        (date(2026, 11, 24), "holiday: Guru Nanak Jayanti"),
    ],
)
def test_a_closed_day_says_why_it_is_closed(day: date, reason: str) -> None:
    calendar = nse()
    assert (calendar.session_on(day), calendar.why_closed(day), calendar.is_special(day)) == (
        None,
        reason,
        False,
    )


def test_asking_why_an_open_day_is_closed_is_an_error() -> None:
    with pytest.raises(ValueError, match="NSE trades on 2026-11-23: regular, 09:15-15:30"):
        nse().why_closed(date(2026, 11, 23))


def test_after_the_monday_before_a_holiday_the_next_session_is_wednesday() -> None:
    assert nse().next_session(date(2026, 11, 23)).day == date(2026, 11, 25)


@given(st.dates(date(2026, 1, 1), date(2026, 12, 30)))
def test_the_next_session_is_the_first_open_day_after(after: date) -> None:
    calendar = nse()
    found = calendar.next_session(after).day
    between = [after + timedelta(days=n) for n in range(1, (found - after).days)]
    assert found > after
    assert calendar.session_on(found) is not None
    assert [calendar.session_on(day) for day in between] == [None] * len(between)


# ---- special sessions


def test_a_budget_sunday_trades_in_its_own_hours() -> None:
    calendar, sunday = nse(), date(2026, 2, 1)
    session = calendar.session_on(sunday)
    assert session is not None
    assert (session.name, session.opens_at, session.closes_at, calendar.is_special(sunday)) == (
        "budget",
        utc(2026, 2, 1, 3, 45),
        utc(2026, 2, 1, 10, 0),
        True,
    )
    assert calendar.next_session(date(2026, 1, 30)).day == sunday


def test_a_muhurat_evening_wins_over_the_holiday_it_falls_on() -> None:
    assert nse().session_on(date(2026, 11, 10)) == Session(
        exchange="NSE",
        day=date(2026, 11, 10),
        opens_at=utc(2026, 11, 10, 12, 30),
        closes_at=utc(2026, 11, 10, 13, 30),
        zone=KOLKATA,
        name="muhurat",
        auction_at=None,
    )


def test_the_broker_squares_off_at_1520_on_a_regular_day() -> None:
    session = nse().next_session(date(2026, 11, 22))
    assert NSE.square_off_at("MIS", session) == utc(2026, 11, 23, 9, 50)


def test_the_square_off_time_of_a_muhurat_evening_is_not_guessed() -> None:
    session = nse().session_on(date(2026, 11, 10))
    assert session is not None
    assert NSE.square_off_at("MIS", session) is None


def test_delivery_shares_have_no_square_off_time() -> None:
    assert NSE.square_off_at("CNC", nse().next_session(date(2026, 11, 22))) is None


# ---- the closing auction


def test_a_share_with_a_closing_auction_stops_trading_continuously_at_1515() -> None:
    session = nse().next_session(date(2026, 11, 22))
    assert session.trades_until(closing_auction=True) == utc(2026, 11, 23, 9, 45)


def test_a_share_without_closing_auction_trades_on_to_1530() -> None:
    session = nse().next_session(date(2026, 11, 22))
    assert session.trades_until(closing_auction=False) == utc(2026, 11, 23, 10, 0)


def test_a_share_we_do_not_know_better_counts_as_having_a_closing_auction() -> None:
    session = nse().next_session(date(2026, 11, 22))
    assert session.trades_until(closing_auction=None) == session.trades_until(closing_auction=True)


def test_the_closing_auction_began_on_3_august_2026() -> None:
    calendar = nse()
    until = [
        calendar.next_session(day).trades_until(closing_auction=True) for day in (date(2026, 7, 30), date(2026, 8, 2))
    ]
    assert until == [utc(2026, 7, 31, 10, 0), utc(2026, 8, 3, 9, 45)]


def test_a_special_session_that_ends_before_1515_has_no_closing_auction() -> None:
    afternoon = NSE.session(date(2026, 11, 10), parse_session_text("13:45-14:45"), "muhurat")
    assert (afternoon.auction_at, afternoon.trades_until(closing_auction=True)) == (None, afternoon.closes_at)


# ---- years nobody signed off


def test_a_year_without_a_file_is_refused_and_the_message_tells_how_to_mend_it() -> None:
    with pytest.raises(UnknownYear) as refused:
        nse().session_on(date(2027, 1, 4))
    assert (refused.value.exchange, refused.value.year) == ("NSE", 2027)
    assert str(refused.value) == (
        "No signed-off calendar for NSE 2027, so squareoff does not know which days trade and arms nothing on them. "
        "Put NSE-2027.toml into the calendars folder of your settings: start from the shipped file of another year, "
        "enter the exchange's holiday circular, and fill in [signed_off]."
    )


@pytest.mark.parametrize("day", [date(2027, 1, 2), date(2025, 12, 31)])
def test_even_a_weekend_of_an_unknown_year_is_unknown(day: date) -> None:
    for ask in (nse().session_on, nse().why_closed, nse().is_special):
        with pytest.raises(UnknownYear):
            ask(day)


def test_the_next_session_after_the_last_known_day_is_unknown_rather_than_guessed() -> None:
    with pytest.raises(UnknownYear):
        nse().next_session(date(2026, 12, 31))


def test_from_the_first_of_december_a_missing_next_year_is_said() -> None:
    assert nse().missing_next_year(date(2026, 12, 1)) == (
        "NSE has no calendar for 2027 yet. From 1 January no strategy on NSE can be armed until NSE-2027.toml is in "
        "the calendars folder of your settings."
    )


def test_nothing_is_said_before_december_or_when_next_year_is_there() -> None:
    said = [
        missing_next_year(date(2026, 11, 30), {2026}, exchange="NSE"),
        missing_next_year(date(2026, 12, 31), {2026, 2027}, exchange="NSE"),
        Calendar.always_open(SIM).missing_next_year(date(2026, 12, 31)),
        Calendar.from_days(NSE, []).missing_next_year(date(2026, 12, 31)),
    ]
    assert said == [None] * 4


# ---- the generated exchange and replay


@given(st.dates(date(1970, 1, 2), date(2200, 1, 1)))
def test_the_generated_exchange_trades_every_day_from_midnight_to_midnight_in_india(day: date) -> None:
    session = Calendar.always_open(SIM).session_on(day)
    midnight = datetime(day.year, day.month, day.day, tzinfo=KOLKATA).astimezone(UTC)
    assert session == Session(
        exchange="SIM", day=day, opens_at=midnight, closes_at=midnight + timedelta(days=1), zone=KOLKATA
    )


def test_the_generated_exchange_never_sleeps_between_two_days() -> None:
    calendar = Calendar.always_open(SIM)
    sunday = calendar.session_on(date(2026, 11, 22))
    assert sunday is not None
    assert sunday.closes_at == calendar.next_session(sunday.day).opens_at


def test_a_replay_trades_exactly_on_the_days_in_its_data() -> None:
    days = [date(2022, 5, 4), date(2022, 5, 2)]
    calendar = Calendar.from_days(NSE, days)
    assert [calendar.session_on(date(2022, 5, n)) is not None for n in (1, 2, 3, 4)] == [
        False,
        True,
        False,
        True,
    ]
    assert calendar.why_closed(date(2022, 5, 3)) == "no data recorded for this day"
    assert calendar.next_session(date(2022, 5, 2)).day == date(2022, 5, 4)
    with pytest.raises(NoMoreSessions):
        calendar.next_session(date(2022, 5, 4))


# ---- clocks that go forward and back


def test_the_new_york_session_follows_summer_time() -> None:
    calendar = Calendar.from_days(NYSE, [date(2026, 3, 6), date(2026, 3, 9)])
    opens = [calendar.next_session(day).opens_at for day in (date(2026, 3, 5), date(2026, 3, 6))]
    assert opens == [utc(2026, 3, 6, 14, 30), utc(2026, 3, 9, 13, 30)]


def test_a_time_that_the_clocks_skip_is_refused() -> None:
    with pytest.raises(LocalTimeError) as refused:
        local_instant(date(2026, 3, 8), time(2, 30), NEW_YORK)
    assert str(refused.value) == (
        "time: 02:30:00 on 2026-03-08 in America/New_York does not exist: clocks go forward over it; "
        "choose another time"
    )


@pytest.mark.parametrize("fold", [0, 1])
def test_a_skipped_time_stays_refused_whatever_fold_is_said(fold: int) -> None:
    with pytest.raises(LocalTimeError, match="does not exist"):
        local_instant(date(2026, 3, 8), time(2, 30), NEW_YORK, fold=fold)  # type: ignore[arg-type]


def test_a_time_that_comes_twice_must_be_told_apart() -> None:
    with pytest.raises(LocalTimeError, match="comes twice"):
        local_instant(date(2026, 11, 1), time(1, 30), NEW_YORK)
    first = local_instant(date(2026, 11, 1), time(1, 30), NEW_YORK, fold=0)
    second = local_instant(date(2026, 11, 1), time(1, 30), NEW_YORK, fold=1)
    assert (first, second) == (utc(2026, 11, 1, 5, 30), utc(2026, 11, 1, 6, 30))


def test_a_wall_time_with_a_zone_of_its_own_is_refused() -> None:
    with pytest.raises(LocalTimeError, match="carries a zone of its own"):
        local_instant(date(2026, 11, 23), time(9, 15, tzinfo=UTC), KOLKATA)


@given(
    st.dates(date(1971, 1, 1), date(2037, 1, 1)),
    st.times(),
    st.sampled_from(["Asia/Kolkata", "America/New_York", "Europe/London", "Australia/Lord_Howe", "UTC"]),
)
def test_an_accepted_wall_time_is_shown_by_the_clocks_at_its_instant(day: date, wall: time, name: str) -> None:
    zone = ZoneInfo(name)
    try:
        instant = local_instant(day, wall, zone)
    except LocalTimeError:
        return
    shown = instant.astimezone(zone)
    assert (shown.date(), shown.time(), instant.tzinfo) == (day, wall, UTC)


# ---- hours as text


def test_hours_read_as_the_trader_writes_them() -> None:
    hours = [parse_session_text(text) for text in ("09:15-15:30", "00:00-24:00", "18:00-24:00")]
    assert hours == [
        DayHours(opens=time(9, 15), closes=time(15, 30)),
        DayHours(opens=time(0), closes=time(0)),
        DayHours(opens=time(18), closes=time(0)),
    ]
    assert [str(each) for each in hours] == ["09:15-15:30", "00:00-24:00", "18:00-24:00"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "09:15",
        "9:15-15:30",
        "09:15-15:60",
        "15:30-09:15",
        "09:15-09:15",
        "22:00-00:00",
        "24:00-24:00",
        "٠٩:15-15:30",
    ],
)
def test_hours_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_session_text(text)


# ---- calendar files


def test_a_calendar_file_is_read_whole() -> None:
    source = "NSE circular of 2026-01-16"
    assert parse_calendar(YEAR_2026, source="NSE-2026.toml") == CalendarYear(
        exchange="NSE",
        year=2026,
        holidays={date(2026, 11, 10): "Diwali Balipratipada", date(2026, 11, 24): "Guru Nanak Jayanti"},
        special={
            date(2026, 2, 1): SpecialSession(name="budget", hours=parse_session_text("09:15-15:30"), source=source),
            date(2026, 11, 10): SpecialSession(
                name="muhurat", hours=parse_session_text("18:00-19:00"), source="made up for this test"
            ),
        },
        signed_off=SignedOff(by="Asha", on=date(2026, 11, 23), source="NSE/CMTR/71775"),
    )


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (SIGNED_OFF, "", "signed_off: missing; nobody vouches for this file"),
        ('by = "Asha"', "", "signed_off.by: missing; it should be text"),
        ('by = "Asha"', 'by = ""', "signed_off.by: '' is not right"),
        ("on = 2026-11-23", 'on = "yesterday"', "signed_off.on: 'yesterday' is not a day; write it without quotes"),
        ("on = 2026-11-23", "on = 2026-11-23T00:00:00", "signed_off.on: datetime"),
        ("year = 2026", "year = true", "year: True is not right; it should be a number like 2026"),
        ("year = 2026", "", "year: missing"),
        ("2026-11-24 =", "2027-11-24 =", "holidays.2027-11-24: 2027-11-24 is not in 2026"),
        ("2026-11-24 =", "2026-11-31 =", "holidays.2026-11-31: .*; write the day like 2026-12-25"),
        ('2026-11-24 = "Guru Nanak Jayanti"', "2026-11-24 = 1", "holidays.2026-11-24: 1 is not right"),
        ("[holidays]", "[holiday]", "holidays: missing or not a table; write \\[holidays\\]"),
        ("[[special]]", "[[specials]]", "specials: not a field squareoff knows"),
        ('hours = "18:00-19:00"', 'hours = "6 pm"', "special\\[2\\].hours: '6 pm' is not a session"),
        ('hours = "18:00-19:00"', "", "special\\[2\\].hours: missing"),
        ("day = 2026-11-10", "day = 2026-02-01", "special\\[2\\].day: 2026-02-01 is there twice"),
        ("day = 2026-11-10", "day = 2025-11-10", "special\\[2\\].day: 2025-11-10 is not in 2026"),
        ('name = "muhurat"', 'name = "regular"', "special\\[2\\].name: 'regular' is the ordinary session"),
        ('source = "made up for this test"', "", "special\\[2\\].source: missing"),
        ('exchange = "NSE"', "exchange = ", "syntax: not valid TOML"),
    ],
)  # fmt: skip
def test_a_wrong_calendar_file_is_refused_and_says_what_would_be_right(right: str, wrong: str, message: str) -> None:
    assert right in YEAR_2026
    with pytest.raises(CalendarFileError, match=f"NSE-2026.toml: {message}"):
        parse_calendar(YEAR_2026.replace(right, wrong), source="NSE-2026.toml")


def test_a_year_without_any_holiday_is_refused_because_it_would_trade_on_all_of_them() -> None:
    text = "\n".join(line for line in YEAR_2026.splitlines() if not line.startswith("2026-"))
    with pytest.raises(CalendarFileError, match="holidays: empty; every exchange has holidays"):
        parse_calendar(text, source="NSE-2026.toml")


def test_a_calendar_of_another_exchange_is_refused() -> None:
    year = parse_calendar(YEAR_2026, source="NSE-2026.toml")
    with pytest.raises(ValueError, match="a calendar of NSE cannot serve NYSE"):
        Calendar(NYSE, [year])
    with pytest.raises(ValueError, match="NSE 2026 was given twice"):
        Calendar(NSE, [year, year])


# ---- exchange files


EXCHANGES = """
[NSE]
name = "National Stock Exchange"
zone = "Asia/Kolkata"
hours = "09:15-15:30"
[NSE.square_off]
MIS = "15:20"
[NSE.closing_auction]
starts_at = "15:15"
since = 2026-08-03

[SIM]
name = "generated"
zone = "Asia/Kolkata"
hours = "00:00-24:00"
always_open = true
"""


def test_exchange_facts_are_read_whole() -> None:
    assert parse_exchanges(EXCHANGES, source="exchanges.toml", zone_named=ZoneInfo) == {
        "NSE": NSE,
        "SIM": SIM,
    }


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            'zone = "Asia/Kolkata"\nhours = "09:15',
            'zone = "IST?"\nhours = "09:15',
            "NSE.zone: 'IST\\?' is not a zone",
        ),
        (
            'MIS = "15:20"',
            'MIS = "3:20 pm"',
            "NSE.square_off.MIS: '3:20 pm' is not a time; write it like \"15:20\"",
        ),
        (
            'hours = "09:15-15:30"',
            'hours = "15:30-09:15"',
            "NSE.hours: the session must close after it opens",
        ),
        ("always_open = true", "allways_open = true", "SIM.allways_open: not a field squareoff knows"),
        ("since = 2026-08-03", "", "NSE.closing_auction.since: None is not a day"),
    ],
)
def test_wrong_exchange_facts_are_refused_and_say_what_would_be_right(right: str, wrong: str, message: str) -> None:
    assert right in EXCHANGES
    with pytest.raises(CalendarFileError, match=f"exchanges.toml: {message}"):
        parse_exchanges(EXCHANGES.replace(right, wrong), source="exchanges.toml", zone_named=ZoneInfo)
