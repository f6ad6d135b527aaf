"""Recorded market data: what becomes a tick, what is told, what is refused."""

from __future__ import annotations

import runpy
import time as wall
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from squareoff.adapters.feeds.recorded import BarsLabelled, Quote, ReadOptions, RecordedData, load
from squareoff.adapters.feeds.recorded_formats import FORMATS, symbol_from_name
from squareoff.core.session import DayHours, ExchangeHours
from squareoff.core.types import Symbol, Tick
from squareoff.errors import BadInput

REPO = Path(__file__).parents[2]
SHARED = REPO.parent / "shared" / "data"
SAMPLE = REPO / "src/squareoff/data/sample/sim-2026-11-20.csv"
with_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared/data is not here")

INFY = Symbol("NSE:INFY")
DAY = date(2026, 11, 20)
BARS = "time,symbol,open,high,low,close\n"
TICKS = "time,symbol,price\n"
END = ReadOptions(bars_labelled=BarsLabelled.END)


def _hours(exchange: str, zone: str, opens: time, closes: time, *, always_open: bool = False) -> ExchangeHours:
    regular = DayHours(opens=opens, closes=closes)
    return ExchangeHours(
        exchange=exchange, name=exchange, zone=ZoneInfo(zone), regular=regular, always_open=always_open
    )


EXCHANGES = {
    "NSE": _hours("NSE", "Asia/Kolkata", time(9, 15), time(15, 30)),
    "TINY": _hours("TINY", "Asia/Kolkata", time(9, 15), time(9, 18)),
    "SIM": _hours("SIM", "Asia/Kolkata", time(0), time(0), always_open=True),
    "FX": _hours("FX", "UTC", time(0), time(0)),
    "XNYS": _hours("XNYS", "America/New_York", time(9, 30), time(16)),
}


def hours_of(symbol: Symbol) -> ExchangeHours:
    return EXCHANGES[symbol.split(":")[0]]


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "data.csv") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def read(*paths: Path, options: ReadOptions | None = None) -> RecordedData:
    return load(paths, options=options, hours_of=hours_of)


def ist(clock: str, day: date = DAY) -> datetime:
    """A wall time in India as UTC: 5 h 30 min earlier."""
    return datetime.combine(day, time.fromisoformat(clock), UTC) - timedelta(hours=5, minutes=30)


def told(data: RecordedData) -> list[str]:
    """The oddities without the name of the file."""
    return [f"{oddity.line}: {oddity.what}" for oddity in data.oddities]


def played(data: RecordedData, day: date = DAY) -> list[tuple[str, str]]:
    return [(f"{tick.at + timedelta(hours=5, minutes=30):%H:%M:%S}", str(tick.price)) for tick in data.ticks(day)]


# --- what becomes a tick


def test_a_minute_that_rose_is_played_open_low_high_close(write: Write) -> None:
    data = read(write(f"{BARS}2026-11-20T09:15:00+05:30,NSE:INFY,100.00,103.00,99.00,102.50\n"))
    assert data.ticks(DAY) == [
        Tick(INFY, Decimal("100.00"), ist("09:15:00")),
        Tick(INFY, Decimal("99.00"), ist("09:15:15")),
        Tick(INFY, Decimal("103.00"), ist("09:15:30")),
        Tick(INFY, Decimal("102.50"), ist("09:15:45")),
    ]


def test_a_minute_that_fell_is_played_open_high_low_close(write: Write) -> None:
    data = read(write(f"{BARS}2026-11-20T09:15:00+05:30,NSE:INFY,100,103,99,99.5\n"))
    assert [price for _, price in played(data)] == ["100", "103", "99", "99.5"]


def test_a_minute_that_ended_where_it_began_counts_as_risen(write: Write) -> None:
    data = read(write(f"{BARS}2026-11-20T09:15:00+05:30,NSE:INFY,100,103,99,100\n"))
    assert [price for _, price in played(data)] == ["100", "99", "103", "100"]


def test_bars_labelled_by_their_end_start_a_minute_earlier(write: Write) -> None:
    path = write("INFY,20261120,09:16,100,100,100,100,0,0\n")
    assert played(read(path))[0] == ("09:16:00", "100")
    assert played(read(path, options=END))[0] == ("09:15:00", "100")


def test_only_rows_that_start_from_the_opening_to_before_the_close_are_ticks(write: Write) -> None:
    rows = [f"INFY,20261120,{clock},{price}" for clock, price in zip(
        ("09:14", "09:15", "15:29", "15:30"), ("1,1,1,1", "2,2,2,2", "3,3,3,3", "4,4,4,4"), strict=True
    )]  # fmt: skip
    data = read(write("\n".join(rows) + "\n"))
    assert [played(data)[i] for i in (0, 3, 4, 7)] == [
        ("09:15:00", "2"),
        ("09:15:45", "2"),
        ("15:29:00", "3"),
        ("15:29:45", "3"),
    ]
    assert len(played(data)) == data.tick_count(DAY) == 8
    assert "1: 2 rows outside the session 09:15-15:30, not played; the first starts 2026-11-20 09:14:00" in told(data)


def test_with_labels_at_the_end_the_row_at_the_opening_is_outside_and_the_row_at_the_close_is_in(write: Write) -> None:
    data = read(write("INFY,20261120,09:15,1,1,1,1\nINFY,20261120,15:30,2,2,2,2\n"), options=END)
    assert played(data) == [(f"15:29:{second:02}", "2") for second in (0, 15, 30, 45)]


def test_ticks_are_played_as_they_stand(write: Write) -> None:
    data = read(write(f"{TICKS}2026-11-20T09:15:00.250+05:30,NSE:INFY,100.05\n2026-11-20T03:45:01Z,NSE:INFY,100.10\n"))
    assert data.ticks(DAY) == [
        Tick(INFY, Decimal("100.05"), datetime(2026, 11, 20, 3, 45, 0, 250_000, UTC)),
        Tick(INFY, Decimal("100.10"), datetime(2026, 11, 20, 3, 45, 1, tzinfo=UTC)),
    ]
    assert (data.days, data.symbols, data.is_bars, data.tick_count(DAY)) == ([DAY], (INFY,), False, 2)


def test_ticks_of_several_files_are_merged_by_instant_and_ties_follow_the_order_of_the_files(write: Write) -> None:
    tcs = write("TCS,20261120,09:15,10,10,10,10\nTCS,20261120,09:16,11,11,11,11\n", "b.csv")
    infy = write("INFY,20261120,09:16,20,20,20,20\n", "a.csv")
    data = read(tcs, infy)
    assert data.symbols == ("NSE:TCS", "NSE:INFY")
    assert [str(tick.price) for tick in data.ticks(DAY)] == ["10"] * 4 + ["11", "20"] * 4
    assert [str(tick.price) for tick in read(infy, tcs).ticks(DAY)] == ["10"] * 4 + ["20", "11"] * 4


def test_ties_within_a_file_follow_the_order_in_which_the_symbols_first_appear(write: Write) -> None:
    at = "2026-11-20T09:15:00+05:30"
    data = read(write(f"{TICKS}{at},NSE:TCS,1\n{at},NSE:INFY,2\n{at},NSE:TCS,3\n"))
    assert [str(tick.price) for tick in data.ticks(DAY)] == ["1", "3", "2"]


def test_a_folder_stands_for_its_csv_files_by_name_and_no_file_is_read_twice(write: Write, tmp_path: Path) -> None:
    write("not data", "notes.txt")
    write("TCS,20261120,09:15,1,1,1,1\n", "b.csv")
    first = write("INFY,20261120,09:15,1,1,1,1\n", "a.csv")
    assert read(tmp_path, first, tmp_path / "." / "a.csv").symbols == ("NSE:INFY", "NSE:TCS")


def test_the_trading_day_is_the_local_date_at_the_exchange(write: Write) -> None:
    rows = "2026-11-19T20:00:00Z,SIM:ALPHA,1\n2026-11-20T18:29:59Z,SIM:ALPHA,2\n2026-11-20T18:30:00Z,SIM:ALPHA,3\n"
    data = read(write(TICKS + rows))
    assert {day: [str(tick.price) for tick in data.ticks(day)] for day in data.days} == {
        date(2026, 11, 20): ["1", "2"],
        date(2026, 11, 21): ["3"],
    }
    assert data.ticks(date(2026, 11, 22)) == []
    assert data.tick_count(date(2026, 11, 22)) == 0


def test_wall_times_are_right_on_both_sides_of_a_change_of_the_clocks(write: Write) -> None:
    days = ("20261030", "20261101", "20261102")  # clocks go back in New York at 02:00 on 1 November
    text = "".join(f"IBM,{day},10:00,1,1,1,1\n" for day in days)
    data = read(write(text), options=ReadOptions(exchange="XNYS"))
    assert [data.ticks(day)[0].at.hour for day in data.days] == [14, 15, 15]


def test_a_wall_time_that_comes_twice_is_refused(write: Write) -> None:
    refused(write, "IBM,20261101,01:30,1,1,1,1\n", "line 1, time", "comes twice", ReadOptions(exchange="XNYS"))


def test_prices_keep_every_digit(write: Write) -> None:
    data = read(write(f"{TICKS}2026-11-20T09:15:00+05:30,NSE:INFY,1543.200000000000000000000000000000001\n"))
    assert str(data.ticks(DAY)[0].price) == "1543.200000000000000000000000000000001"


@pytest.mark.parametrize("text", ["\ufeffINFY,20261120,09:15,1,1,1,1\n", "INFY,20261120,09:15,1,1,1,1\r\n\r\n"])
def test_files_written_on_windows_are_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "windows.csv").write_bytes(text.encode())
    assert len(read(tmp_path / "windows.csv").ticks(DAY)) == 4


# --- quotes


def test_histdata_times_are_five_hours_behind_utc_also_in_summer(write: Write) -> None:
    rows = "20200101 170000065,1.121200,1.121720,0\n20200701 170000065,1.121200,1.121720,0\n"
    data = read(write(rows, "eurusd-2020-quotes.csv"))
    assert [tick for day in data.days for tick in data.ticks(day)] == [
        Tick(Symbol("FX:EURUSD"), Decimal("1.121200"), datetime(2020, 1, 1, 22, 0, 0, 65_000, UTC)),
        Tick(Symbol("FX:EURUSD"), Decimal("1.121200"), datetime(2020, 7, 1, 22, 0, 0, 65_000, UTC)),
    ]


@pytest.mark.parametrize(("quote", "price"), [(Quote.BID, "86.655"), (Quote.ASK, "86.728"), (Quote.MID, "86.6915")])
def test_the_price_of_a_quote_is_its_bid_unless_told_otherwise(write: Write, quote: Quote, price: str) -> None:
    path = write("timestamp,bid,ask\n2013-01-01 22:00:00.295000+00:00,86.655,86.728\n", "usdjpy.csv")
    (tick,) = read(path, options=ReadOptions(quote=quote)).ticks(date(2013, 1, 1))
    assert tick == Tick(Symbol("FX:USDJPY"), Decimal(price), datetime(2013, 1, 1, 22, 0, 0, 295_000, UTC))
    assert ReadOptions().quote is Quote.BID


def test_the_symbol_of_quotes_comes_from_the_option_before_the_file_name(write: Write) -> None:
    path = write("timestamp,bid,ask\n2013-01-01 22:00:00+00:00,1,2\n", "usdjpy.csv")
    assert read(path, options=ReadOptions(symbol=Symbol("FX:GBPUSD"))).symbols == ("FX:GBPUSD",)


def test_the_symbol_is_found_in_the_names_vendors_give_their_files() -> None:
    names = ("eurusd-2020-quotes.csv", "DAT_ASCII_EURUSD_T_202001.csv", "EURUSD.csv")
    assert {symbol_from_name(Path(name)) for name in names} == {"FX:EURUSD"}


def test_quotes_that_do_not_say_their_symbol_are_refused(write: Write) -> None:
    text = "timestamp,bid,ask\n2013-01-01 22:00:00+00:00,1,2\n"
    refused(write, text, "data.csv, symbol", "neither the file nor its name says one")


# --- odd, told and played


def test_clean_data_has_no_oddities(write: Write) -> None:
    rows = "".join(f"2026-11-20T09:{minute}:00+05:30,TINY:A,100,101,99,100\n" for minute in (15, 16, 17))
    assert told(read(write(BARS + rows))) == []


def tiny(*rows: str) -> str:
    """Bars of an exchange that trades from 09:15 to 09:18, three minutes."""
    return BARS + "".join(f"2026-11-20T{row[:5]}:00+05:30,TINY:A,{row[6:]}\n" for row in rows)


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        (("09:15 1,1,1,1", "09:17 1,1,1,1"), ["3: TINY:A: nothing between 09:15 and 09:17 on 2026-11-20"]),
        (("09:16 1,1,1,1", "09:17 1,1,1,1"), ["2: TINY:A: 2026-11-20 starts late, at 09:16"]),
        (
            ("09:15 1,1,1,1", "09:16 1,1,1,1"),
            ["3: TINY:A: 2026-11-20 ends early, the last row starts at 09:16"],
        ),
        (
            ("09:15 1,1,1,1",),
            [
                "2: TINY:A: 2026-11-20 ends early, the last row starts at 09:15",
                "2: TINY:A: 2026-11-20 has only 1 rows for a session of 3 minutes",
            ],
        ),
    ],
)
def test_a_day_with_holes_is_told_and_played(write: Write, rows: tuple[str, ...], what: list[str]) -> None:
    data = read(write(tiny(*rows)))
    assert told(data) == what
    assert len(data.ticks(DAY)) == 4 * len(rows)


@pytest.mark.parametrize(
    ("bar", "what"),
    [
        ("100,99,101,100", "high 99 is below low 101"),
        ("98,102,99,100", "open 98 outside low 99 to high 102"),
        ("98,102,99,103", "open 98 and close 103 outside low 99 to high 102"),
        ("0,102,0,100", "a price of 0"),
        ("100,102,-1,100", "a price of -1"),
    ],
)
def test_impossible_bars_are_told_and_played_as_they_stand(write: Write, bar: str, what: str) -> None:
    data = read(write(tiny(f"09:15 {bar}", "09:16 100,100,100,100", "09:17 100,100,100,100")))
    assert f"2: TINY:A: {what}" in told(data)
    assert sorted(price for _, price in played(data)[:4]) == sorted(bar.split(","))


def test_a_jump_of_more_than_20_percent_is_told_and_one_of_20_is_not(write: Write) -> None:
    data = read(write(tiny("09:15 100,100,100,100", "09:16 100,120,80,100", "09:17 100,100,79.95,100")))
    assert told(data) == ["4: TINY:A: 100 to 79.95 is -20.0 % from the row before"]


def test_a_jump_over_night_is_told(write: Write) -> None:
    data = read(write(f"{TICKS}2026-11-19T10:00:00+05:30,SIM:A,100\n2026-11-20T10:00:00+05:30,SIM:A,121\n"))
    assert told(data) == ["3: SIM:A: 100 to 121 is +21.0 % from the row before"]


def test_trading_on_a_weekend_is_told(write: Write) -> None:
    data = read(write(f"{TICKS}2026-11-21T10:00:00+05:30,SIM:A,100\n"))
    assert told(data) == ["2: SIM:A: 2026-11-21 is a Saturday"]


def test_ticks_at_one_instant_are_told_and_all_played_in_the_order_of_the_file(write: Write) -> None:
    at = "2026-11-20T09:15:00+05:30"
    data = read(write(f"{TICKS}{at},SIM:A,11\n{at},SIM:A,10\n{at},SIM:A,10\n"))
    assert [price for _, price in played(data)] == ["11", "10", "10"]
    assert told(data) == [
        "3: 2 ticks at the very instant of the one before, played in the order of the file",
        "4: SIM:A: the same price and instant as the row before, 2026-11-20 09:15:00",
    ]


def test_a_bid_above_the_ask_is_told(write: Write) -> None:
    data = read(write("timestamp,bid,ask\n2013-01-01 22:00:00+00:00,1.2,1.1\n", "usdjpy.csv"))
    assert "2: the bid 1.2 is above the ask 1.1" in told(data)


def test_a_last_line_without_an_end_is_told(write: Write) -> None:
    data = read(write(tiny("09:15 1,1,1,1", "09:16 1,1,1,1", "09:17 1,1,1,1")[:-1]))
    assert told(data) == ["4: the last line has no line end, so it may be cut short"]


def test_of_one_kind_the_first_ten_are_told_each_and_the_rest_counted(write: Write) -> None:
    rows = "".join(f"2026-11-20T09:{minute}:00+05:30,SIM:A,1\n" for minute in range(10, 60, 2))
    data = read(write(TICKS + rows))
    assert len(data.oddities) == 11
    assert told(data)[-1] == "None: and 14 more like line 12: SIM:A: nothing between 09:28 and 09:30 on 2026-11-20"


@pytest.mark.parametrize(("minutes", "right", "wrong"), [((16, 19), "end", "start"), ((15, 18), "start", "end")])
def test_bars_read_with_the_wrong_labels_are_told(
    write: Write, minutes: tuple[int, int], right: str, wrong: str
) -> None:
    path = write("".join(f"A,20261120,09:{minute},1,1,1,1\n" for minute in range(*minutes)))
    hint = f"TINY:A: every day is a minute off; these bars look labelled by their {right}, not by their {wrong}"
    for labels in (right, wrong):
        data = read(path, options=ReadOptions(exchange="TINY", bars_labelled=BarsLabelled(labels)))
        assert any(hint in what for what in told(data)) == (labels == wrong)


def test_the_rest_of_a_day_may_be_in_another_file(write: Write) -> None:
    morning = write(tiny("09:15 1,1,1,1"), "z.csv")
    noon = write(tiny("09:16 1,1,1,1", "09:17 1,1,1,1"), "a.csv")
    data = read(noon, morning)
    assert told(data) == []
    assert [clock for clock, _ in played(data)][::4] == ["09:15:00", "09:16:00", "09:17:00"]


# --- refused


def refused(write: Write, text: str, where: str, wrong: str, options: ReadOptions | None = None) -> BadInput:
    with pytest.raises(BadInput) as caught:
        read(write(text), options=options)
    assert where in caught.value.field
    assert wrong in caught.value.wrong
    assert caught.value.right
    return caught.value


GOOD = "2026-11-20T09:15:00+05:30,NSE:INFY,100,101,99,100\n"


@pytest.mark.parametrize(
    ("text", "where", "wrong"),
    [
        ("", "data.csv", "the file is empty"),
        (" \n\n", "data.csv", "the file is empty"),
        (BARS, "data.csv", "nothing but a header"),
        (f"{BARS}{GOOD}2026-11-20T09:16:00+05:30,NSE:INFY,100,10", "line 3, columns", "4 instead of 6"),
        (f"{BARS}{GOOD}\n{GOOD}", "line 3, columns", "1 instead of 6"),
        (f"{BARS}{GOOD[:-1]},0\n", "line 2, columns", "7 instead of 6"),
        ("INFY,2026\nINFY,20261120,09:16,1,1,1,1\n", "line 1, columns", "2 instead of 7"),
        (f"{BARS}{GOOD}{GOOD}", "line 3, time", "NSE:INFY has 2026-11-20 09:15:00 twice"),
        (f"{BARS}{GOOD}{GOOD.replace('09:15:00', '09:15:30')}", "line 3, time", "less than a minute after"),
        (f"{BARS}{GOOD}{GOOD.replace('09:15', '09:14')}", "line 3, time", "2026-11-20 09:14:00 comes after"),
        (f"{BARS}{GOOD.replace('101', 'x')}", "line 2, high", "'x' is not a number"),
        (f"{BARS}{GOOD.replace('99', 'nan')}", "line 2, low", "'nan' is not a number"),
        (f"{BARS}{GOOD.replace('99', '')}", "line 2, low", "'' is not a number"),
        (f"{BARS}{GOOD.replace('99', '9_9')}", "line 2, low", "'9_9' is not a number"),
        (f"{BARS}{GOOD.replace('99', '1e2')}", "line 2, low", "'1e2' is not a number"),
        (f"{BARS}{GOOD.replace('NSE:', '')}", "line 2, symbol", "'INFY' is not a symbol"),
        (f"{BARS}{GOOD.replace('NSE', 'MOON')}", "line 2, symbol", "MOON"),
        (f"{BARS}{GOOD.replace('+05:30', '')}", "line 2, time", "does not say its offset from UTC"),
        (f"{BARS}{GOOD.replace('11-20', '11-31')}", "line 2, time", "is not a time"),
        (f"{BARS}{GOOD.replace('2026', '0001')}", "line 2, time", "is not in this age"),
        (f"{BARS}{GOOD.replace('T09', 'T08')}", "data.csv", "no row is inside the session"),
        ("INFY,20261131,09:16,1,1,1,1\n", "line 1, date", "'20261131' is not a day"),
        ("INFY,20261120,24:16,1,1,1,1\n", "line 1, time", "'24:16' is not a time"),
    ],
)
def test_data_of_which_nobody_can_say_what_it_means_is_refused(write: Write, text: str, where: str, wrong: str) -> None:
    refused(write, text, where, wrong)


@pytest.mark.parametrize("text", ["20200101 246000065,1,2,0\n", "20200101 175960065,1,2,0\n"])
def test_a_histdata_time_that_does_not_exist_is_refused(write: Write, text: str) -> None:
    refused(write, text, "line 1, time", "is not a time", ReadOptions(symbol=Symbol("FX:EURUSD")))


def test_an_unknown_format_is_told_with_what_was_seen_and_all_that_is_known(write: Write) -> None:
    error = refused(write, "Date;Open;High;Low;Close\n", "line 1", "'Date;Open;High;Low;Close'")
    assert all(kind.name in error.right and kind.example in error.right for kind in FORMATS)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_bytes(b"\x1f\x8b\x08\xff")
    with pytest.raises(BadInput, match="not a text file"):
        read(tmp_path / "data.csv")


def test_paths_without_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read(tmp_path / "absent.csv")
    with pytest.raises(BadInput, match=r"no \*\.csv file"):
        read(tmp_path)
    with pytest.raises(BadInput, match="no file was given"):
        read()


def test_the_same_minutes_in_two_files_are_refused(write: Write) -> None:
    first, second = write(BARS + GOOD, "a.csv"), write(BARS + GOOD, "b.csv")
    with pytest.raises(BadInput, match=r"b\.csv: NSE:INFY from 2026-11-20 03:45 UTC on is also in .*a\.csv"):
        read(first, second)


# --- what ships, and real data


def test_the_sample_is_what_its_script_writes() -> None:
    assert runpy.run_path(str(REPO / "tools" / "make_sample.py"))["sample"]() == SAMPLE.read_text(encoding="utf-8")


def test_in_the_sample_alpha_falls_through_a_stop_loss_and_beta_never_comes_near_one() -> None:
    data = read(SAMPLE)
    bought = {tick.symbol: tick for tick in reversed(data.ticks(DAY)) if tick.at >= ist("09:20")}
    lowest = {
        symbol: min(t.price for t in data.ticks(DAY) if t.symbol == symbol and t.at >= tick.at) / tick.price
        for symbol, tick in bought.items()
    }
    assert [str(tick.price) for tick in data.ticks(DAY)[:2]] == ["100.00", "250.00"]
    assert lowest[Symbol("SIM:ALPHA")] < Decimal("0.96")
    assert lowest[Symbol("SIM:BETA")] > Decimal("0.995")
    assert data.oddities == ()
    assert data.tick_count(DAY) == 2 * 375 * 4
    assert all(tick.price % Decimal("0.05") == 0 for tick in data.ticks(DAY))


@with_shared_data
def test_the_recorded_nse_bars_load_whole_and_only_the_auction_rows_are_odd() -> None:
    data = read(SHARED / "nse", options=END)
    assert data.symbols == ("NSE:BANKNIFTY", "NSE:NIFTY")
    assert len(data.days) == 21 + 22
    assert {data.tick_count(day) for day in data.days} == {2 * 375 * 4}
    assert [what.partition(" rows outside")[0] for what in told(data)] == ["1: 63", "1: 66", "1: 61", "1: 65"]
    first = date(2022, 5, 2)
    assert [str(tick.price) for tick in data.ticks(first) if tick.symbol == "NSE:NIFTY"][:5] == [
        "16949.25",  # 09:16,16949.25,16958.30,16917.25,16957.55: risen
        "16917.25",
        "16958.30",
        "16957.55",
        "16956.90",
    ]
    assert data.ticks(first)[0].at == ist("09:15", first)
    assert data.ticks(first)[-1].at == ist("15:29:45", first)


@with_shared_data
def test_the_recorded_nse_bars_read_by_their_start_say_that_they_are_labelled_by_their_end() -> None:
    data = read(SHARED / "nse")
    hints = [oddity for oddity in data.oddities if "look labelled by their end" in oddity.what]
    assert len(hints) == 4


@with_shared_data
def test_the_recorded_quotes_load_whole() -> None:
    data = read(SHARED / "ticks")
    assert data.symbols == ("FX:EURUSD", "FX:USDJPY")
    assert {day.isoformat(): data.tick_count(day) for day in data.days} == {
        "2013-01-01": 1000,
        "2020-01-01": 2795,  # before 19:00 by the clock of the file, which is five hours behind
        "2020-01-02": 6705,
    }


@with_shared_data
def test_the_ticks_of_bars_are_made_faster_than_300_000_a_second() -> None:
    data = read(SHARED / "nse", options=END)
    rates = []
    for _ in range(3):
        started = wall.perf_counter()
        made = sum(len(data.ticks(day)) for day in data.days)
        rates.append(made / (wall.perf_counter() - started))
    assert max(rates) > 300_000
