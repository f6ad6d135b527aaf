"""The calendars, hours and instruments that squareoff ships, and how a trader's own files win over them."""

from __future__ import annotations

import csv
import os
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from squareoff.adapters.reference_data import (
    UnknownExchange,
    load_calendar,
    load_exchange_hours,
    load_instruments,
)
from squareoff.core.instruments import InstrumentKind, is_on_tick, parse_kite_instruments
from squareoff.core.session import CalendarFileError, UnknownYear

SHARED_DATA = Path(os.environ.get("SQUAREOFF_SHARED_DATA", "shared-data-not-given"))
needs_shared_data = pytest.mark.skipif(
    not SHARED_DATA.is_dir(), reason="real recorded data: set SQUAREOFF_SHARED_DATA to its folder"
)

OWN_2027 = """
exchange = "NSE"
year = 2027
[signed_off]
by = "Asha"
on = 2026-12-15
source = "the exchange's circular"
[holidays]
2027-01-26 = "Republic Day"
"""


def own_folder(tmp_path: Path, name: str, text: str) -> Path:
    (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


# ---- what is shipped


@pytest.mark.parametrize(
    ("day", "reason"),
    [
        (date(2026, 11, 24), "holiday: Prakash Gurpurb Sri Guru Nanak Dev"),
        (date(2026, 11, 10), "holiday: Diwali Balipratipada"),
        (date(2026, 1, 15), "holiday: Municipal Corporation Election in Maharashtra"),
        (date(2026, 11, 8), "holiday: Diwali Laxmi Pujan (muhurat hours not confirmed)"),
        (date(2026, 11, 22), "Sunday"),
        (date(2025, 12, 25), "holiday: Christmas"),
    ],
)
def test_nse_is_closed_on_its_holidays(day: date, reason: str) -> None:
    nse = load_calendar("NSE")
    assert (nse.session_on(day), nse.why_closed(day)) == (None, reason)


def test_nse_trades_on_the_budget_sunday_of_2026() -> None:
    session = load_calendar("NSE").session_on(date(2026, 2, 1))
    assert session is not None
    assert (session.name, session.opens_at, session.closes_at) == (
        "budget",
        datetime(2026, 2, 1, 3, 45, tzinfo=UTC),
        datetime(2026, 2, 1, 10, 0, tzinfo=UTC),
    )


def test_nse_traded_one_afternoon_hour_on_diwali_2025() -> None:
    session = load_calendar("NSE").session_on(date(2025, 10, 21))
    assert session is not None
    assert (session.name, session.opens_at, session.closes_at) == (
        "muhurat",
        datetime(2025, 10, 21, 8, 15, tzinfo=UTC),
        datetime(2025, 10, 21, 9, 15, tzinfo=UTC),
    )


@pytest.mark.parametrize(("year", "sessions"), [(2025, 249), (2026, 246)])
def test_nse_has_as_many_sessions_as_its_circulars_leave(year: int, sessions: int) -> None:
    nse = load_calendar("NSE")
    days = [date(year, 1, 1) + timedelta(days=n) for n in range(365)]
    assert sum(nse.session_on(day) is not None for day in days) == sessions


def test_nse_2027_is_unknown_until_somebody_signs_it_off() -> None:
    nse = load_calendar("NSE")
    assert nse.missing_next_year(date(2026, 12, 1)) is not None
    with pytest.raises(UnknownYear):
        nse.session_on(date(2027, 1, 4))


def test_mis_is_squared_off_at_1520_and_big_shares_go_to_auction_at_1515() -> None:
    nse = load_exchange_hours()["NSE"]
    assert nse.closing_auction is not None
    assert (dict(nse.square_off), nse.closing_auction.starts_at) == ({"MIS": time(15, 20)}, time(15, 15))


def test_the_generated_exchange_trades_on_a_sunday() -> None:
    assert load_calendar("SIM").session_on(date(2026, 11, 22)) is not None


def test_currencies_have_no_calendar_because_they_are_for_replay_only() -> None:
    with pytest.raises(UnknownYear):
        load_calendar("FX").session_on(date(2026, 11, 23))


def test_an_exchange_we_do_not_know_is_refused() -> None:
    with pytest.raises(UnknownExchange, match="'LSE' is not an exchange squareoff knows; it knows FX, NSE, SIM"):
        load_calendar("LSE")


def test_every_shipped_instrument_is_on_an_exchange_whose_hours_we_know() -> None:
    assert {it.exchange for it in load_instruments()} == set(load_exchange_hours())


def test_indices_and_currencies_can_be_replayed_but_never_traded() -> None:
    replay_only = {it.symbol for it in load_instruments() if not it.tradable}
    kinds = {InstrumentKind.INDEX, InstrumentKind.CURRENCY}
    assert replay_only == {it.symbol for it in load_instruments() if it.kind in kinds}
    assert replay_only == {"NSE:NIFTY", "NSE:BANKNIFTY", "FX:EURUSD", "FX:USDJPY"}


def test_every_shipped_share_is_known_to_have_a_closing_auction() -> None:
    shares = [it for it in load_instruments() if it.kind is InstrumentKind.SHARE]
    assert ([it.closing_auction for it in shares], len(shares)) == ([True] * 12, 12)


# ---- the trader's own files


def test_a_trader_adds_next_year(tmp_path: Path) -> None:
    nse = load_calendar("NSE", own_folder(tmp_path, "calendars/NSE-2027.toml", OWN_2027))
    assert (sorted(nse.years), nse.why_closed(date(2027, 1, 26))) == (
        [2025, 2026, 2027],
        "holiday: Republic Day",
    )


def test_a_traders_own_year_replaces_the_shipped_one(tmp_path: Path) -> None:
    text = OWN_2027.replace("2027", "2026")
    nse = load_calendar("NSE", own_folder(tmp_path, "calendars/NSE-2026.toml", text))
    assert nse.session_on(date(2026, 11, 24)) is not None


def test_a_copied_file_with_the_old_year_inside_is_refused(tmp_path: Path) -> None:
    folder = own_folder(tmp_path, "calendars/NSE-2028.toml", OWN_2027)
    with pytest.raises(CalendarFileError, match=r"NSE-2028\.toml: year: the file says NSE 2027"):
        load_calendar("NSE", folder)


def test_files_of_other_exchanges_and_backups_are_left_alone(tmp_path: Path) -> None:
    for name in ("BSE-2026.toml", "NSE-2027.toml.bak", "notes.txt"):
        own_folder(tmp_path, f"calendars/{name}", "not a calendar")
    assert sorted(load_calendar("NSE", tmp_path).years) == [2025, 2026]


def test_a_folder_that_is_not_there_changes_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "nothing"
    assert sorted(load_calendar("NSE", missing).years) == [2025, 2026]
    assert list(load_instruments(missing)) == list(load_instruments())


def test_a_traders_own_instruments_win_line_by_line_even_from_a_spreadsheet(tmp_path: Path) -> None:
    text = (
        "\ufeff# as of 2026-12-01\n"
        "symbol,name,kind,lot,tick_size,freeze_qty,lower_band,upper_band,expiry,tradable,closing_auction\n"
        "NSE:ITC,ITC,share,1,0.01,,,,,yes,yes\n"
        "NSE:WIPRO,Wipro,share,1,0.05,,,,,yes,yes\n"
    )
    instruments = load_instruments(own_folder(tmp_path, "instruments.csv", text))
    assert (instruments.find("NSE:ITC").tick_size, instruments.find("NSE:WIPRO").as_of, len(instruments)) == (
        Decimal("0.01"),
        date(2026, 12, 1),
        len(load_instruments()) + 1,
    )


# ---- real data


@needs_shared_data
@pytest.mark.parametrize(
    ("file", "symbol", "columns"),
    [
        ("ticks/eurusd-2020-quotes.csv", "FX:EURUSD", slice(1, 3)),
        ("ticks/usdjpy-2013-truefx.csv", "FX:USDJPY", slice(1, 3)),
        ("nse/NIFTY-2022-05-1min.csv", "NSE:NIFTY", slice(3, 7)),
        ("nse/BANKNIFTY-2022-06-1min.csv", "NSE:BANKNIFTY", slice(3, 7)),
    ],
)
def test_recorded_prices_are_on_the_tick_of_their_instrument(file: str, symbol: str, columns: slice) -> None:
    tick_size = load_instruments().find(symbol).tick_size
    with (SHARED_DATA / file).open(encoding="utf-8") as lines:
        texts = [text for row in csv.reader(lines) for text in row[columns]]
    recorded = [Decimal(text) for text in texts if text[0].isdigit()]
    assert len(recorded) > 1_000
    assert [price for price in recorded if not is_on_tick(price, tick_size)] == []


@needs_shared_data
@pytest.mark.parametrize("name", ["instruments_nse.csv", "instruments_all.csv"])
def test_zerodhas_own_mock_dump_can_be_imported(name: str) -> None:
    text = (SHARED_DATA / "kite" / name).read_text(encoding="utf-8")
    imported = parse_kite_instruments(text, as_of=date(2026, 11, 23), source=name)
    assert (len(imported), all(it.tradable for it in imported)) == (99, True)
