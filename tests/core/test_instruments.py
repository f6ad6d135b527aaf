"""What can be traded and in which steps: the promises of `squareoff.core.instruments`."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squareoff.core.instruments import (
    Instrument,
    InstrumentFileError,
    InstrumentKind,
    Instruments,
    UnknownSymbol,
    format_instruments,
    is_on_tick,
    parse_instruments,
    parse_kite_instruments,
    round_up_to_tick,
)
from squareoff.core.types import Symbol

LIST = """\
# as of 2026-11-23
# a remark
symbol,name,kind,lot,tick_size,freeze_qty,lower_band,upper_band,expiry,tradable,closing_auction
NSE:INFY,Infosys,share,1,0.10,,1386.00,1694.00,,yes,yes
NSE:NIFTY,Nifty 50,index,1,0.05,,,,,no,

NFO:NIFTY26DECFUT,"Nifty, December",future,75,0.10,1800,,,2026-12-29,yes,no
"""

INFY = Instrument(
    symbol=Symbol("NSE:INFY"),
    name="Infosys",
    kind=InstrumentKind.SHARE,
    lot=Decimal(1),
    tick_size=Decimal("0.10"),
    lower_band=Decimal("1386.00"),
    upper_band=Decimal("1694.00"),
    closing_auction=True,
    as_of=date(2026, 11, 23),
)
NIFTY = Instrument(
    symbol=Symbol("NSE:NIFTY"),
    name="Nifty 50",
    kind=InstrumentKind.INDEX,
    lot=Decimal(1),
    tick_size=Decimal("0.05"),
    tradable=False,
    as_of=date(2026, 11, 23),
)
FUTURE = Instrument(
    symbol=Symbol("NFO:NIFTY26DECFUT"),
    name="Nifty, December",
    kind=InstrumentKind.FUTURE,
    lot=Decimal(75),
    tick_size=Decimal("0.10"),
    freeze_qty=Decimal(1800),
    expiry=date(2026, 12, 29),
    closing_auction=False,
    as_of=date(2026, 11, 23),
)

KITE_HEADER = (
    "instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,"
    "instrument_type,segment,exchange\n"
)

prices = st.decimals("0.00000001", "999999", places=8)
ticks = st.sampled_from([Decimal(text) for text in ("0.00000001", "0.001", "0.01", "0.05", "0.10", "0.50", "1", "5")])


def known() -> Instruments:
    return parse_instruments(LIST, source="instruments.csv")


# ---- the list


def test_a_list_is_read_whole() -> None:
    assert list(known()) == [INFY, NIFTY, FUTURE]


def test_each_line_may_carry_its_own_day() -> None:
    dated = LIST.replace("closing_auction", "closing_auction,as_of").splitlines()
    text = "\n".join([*dated[:3], dated[3] + ",2026-11-20"])
    assert [(it.symbol, it.as_of) for it in parse_instruments(text, source="x")] == [("NSE:INFY", date(2026, 11, 20))]


def test_a_list_without_its_day_is_refused() -> None:
    with pytest.raises(InstrumentFileError, match=r"instruments\.csv, line 1: as of: missing; make the first line"):
        parse_instruments(LIST.replace("# as of", "# written on"), source="instruments.csv")


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            "NSE:INFY,Infosys",
            "INFY,Infosys",
            "line 4: symbol: 'INFY' is not a symbol; write exchange and name",
        ),
        ("share,1,0.10", "stock,1,0.10", "line 4: kind: 'stock' is not right; write share or index or"),
        ("share,1,0.10", "share,0,0.10", "line 4: lot: 0 is not right; it must be more than 0"),
        ("share,1,0.10", "share,1,", "line 4: tick_size: '' is not right; write a number like 0.05"),
        ("share,1,0.10", "share,1,NaN", "line 4: tick_size: 'NaN' is not right"),
        ("share,1,0.10", "share,1,-0.10", "line 4: tick_size: '-0.10' is not right"),
        ("share,1,0.10", "share,1,1e-1", "line 4: tick_size: '1e-1' is not right"),
        ("1386.00,1694.00", "1694.00,1386.00", "line 4: upper_band: 1386.00 is not above lower_band 1694.00"),
        ("2026-12-29,yes", "29-12-2026,yes", "line 7: expiry: '29-12-2026' is not right; write a day like"),
        (",,no,\n", ",,maybe,\n", "line 5: tradable: 'maybe' is not right; write yes or no"),
        (",,no,\n", ",,no\n", "line 5: row: 10 values for 11 columns"),
        ("NSE:NIFTY,", "NSE:INFY,", "line 5: symbol: NSE:INFY is already on line 4; keep one"),
        (",tick_size,", ",tick,", "line 3: header: no column tick_size"),
        ("# as of 2026-11-23", "# as of 2026-13-23", "line 1: as of: '2026-13-23' is not right"),
    ],
)
def test_a_wrong_list_is_refused_with_line_and_field(right: str, wrong: str, message: str) -> None:
    assert right in LIST
    with pytest.raises(InstrumentFileError, match=f"^instruments.csv, {message}"):
        parse_instruments(LIST.replace(right, wrong, 1), source="instruments.csv")


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(InstrumentFileError, match=r"^instruments\.csv: header: missing; the columns are symbol,name"):
        parse_instruments("", source="instruments.csv")


@given(
    st.lists(
        st.builds(
            Instrument,
            symbol=st.from_regex(r"[A-Z]{2,4}:[A-Z0-9&-]{1,12}", fullmatch=True).map(Symbol),
            name=st.text("abc ,\"'&", min_size=1).map(str.strip).filter(bool),
            kind=st.sampled_from(InstrumentKind),
            lot=st.integers(1, 10**7).map(Decimal),
            tick_size=ticks,
            freeze_qty=st.none() | st.integers(1, 10**7).map(Decimal),
            lower_band=st.none() | prices,
            upper_band=st.none() | prices.map(lambda price: price + 10**6),
            expiry=st.none() | st.dates(),
            tradable=st.booleans(),
            closing_auction=st.none() | st.booleans(),
            as_of=st.dates(),
        ),
        unique_by=lambda it: it.symbol,
        min_size=1,
    )
)
def test_a_list_that_we_write_is_read_back_unchanged(instruments: list[Instrument]) -> None:
    written = format_instruments(Instruments(instruments))
    assert list(parse_instruments(written, source="x")) == instruments


# ---- finding


def test_a_symbol_is_found_by_its_full_name() -> None:
    assert (known().find("NSE:INFY"), "NSE:INFY" in known(), INFY.exchange) == (INFY, True, "NSE")


@pytest.mark.parametrize(
    ("symbol", "hint"),
    [
        ("INFY", "A symbol carries its exchange: write NSE:INFY."),
        ("infy ", "A symbol carries its exchange: write NSE:INFY."),
        ("NFY", "Did you mean NSE:INFY?"),
        ("NSE:INFI", "Did you mean NSE:INFY?"),
        ("nse:infy", "Did you mean NSE:INFY?"),
        ("QQQQQQ", "A symbol carries its exchange, like NSE:INFY."),
        ("LSE:QQQQQQ", "Import your broker's list of instruments to trade more symbols."),
    ],
)
def test_an_unknown_symbol_is_refused_with_what_was_probably_meant(symbol: str, hint: str) -> None:
    with pytest.raises(UnknownSymbol) as refused:
        known().find(symbol)
    assert str(refused.value) == f"{symbol!r} is not in the list of instruments. {hint}"


def test_a_traders_own_line_replaces_the_shipped_one_and_adds_new_ones() -> None:
    own = parse_instruments(LIST.replace("share,1,0.10", "share,1,0.05"), source="own")
    shipped = Instruments([INFY])
    assert shipped.overridden_by(own).find("NSE:INFY").tick_size == Decimal("0.05")
    assert len(shipped.overridden_by(own)) == 3


# ---- ticks


def test_a_stop_loss_between_two_ticks_is_rounded_up() -> None:
    rounded = [round_up_to_tick(Decimal(p), Decimal("0.05")) for p in ("1540.01", "1540.05", "1540.051", "0.01")]
    assert rounded == [Decimal(p) for p in ("1540.05", "1540.05", "1540.10", "0.05")]


@given(prices, ticks)
def test_rounding_up_gives_the_nearest_tick_at_or_above(price: Decimal, tick: Decimal) -> None:
    rounded = round_up_to_tick(price, tick)
    assert is_on_tick(rounded, tick)
    assert price <= rounded < price + tick
    assert round_up_to_tick(rounded, tick) == rounded


def test_a_percentage_that_does_not_end_is_still_rounded_up_exactly() -> None:
    assert round_up_to_tick(Decimal(4622) / 3, Decimal("0.05")) == Decimal("1540.70")
    assert round_up_to_tick(Decimal("1540.05") + Decimal("1e-20"), Decimal("0.05")) == Decimal("1540.10")


@pytest.mark.parametrize(("price", "tick"), [("0", "0.05"), ("-1", "0.05"), ("1", "0"), ("1", "-0.05")])
def test_a_price_or_tick_of_nothing_is_refused(price: str, tick: str) -> None:
    with pytest.raises(ValueError, match="must be more than 0"):
        round_up_to_tick(Decimal(price), Decimal(tick))


# ---- Zerodha's dump


def test_zerodhas_dump_is_read_with_its_own_symbols() -> None:
    text = KITE_HEADER + (
        "408065,1594,INFY,INFOSYS,0.0,,0.0,0.1,1,EQ,NSE,NSE\n"
        "1,2,COX&KINGS,COX & KINGS,0.0,,0.0,0.05,1,EQ,NSE,NSE\n"
        "12073986,47164,BANKNIFTY18JAN23500CE,,2528.4,2018-01-25,23500.0,0.05,40,CE,NFO-OPT,NFO\n"
        "256265,1001,NIFTY 50,NIFTY 50,0.0,,0.0,0,0,EQ,INDICES,NSE\n"
    )
    assert list(parse_kite_instruments(text, as_of=date(2026, 11, 23), source="kite")) == [
        Instrument(
            symbol=Symbol("NSE:INFY"),
            name="INFOSYS",
            kind=InstrumentKind.SHARE,
            lot=Decimal(1),
            tick_size=Decimal("0.1"),
            as_of=date(2026, 11, 23),
        ),
        Instrument(
            symbol=Symbol("NSE:COX&KINGS"),
            name="COX & KINGS",
            kind=InstrumentKind.SHARE,
            lot=Decimal(1),
            tick_size=Decimal("0.05"),
            as_of=date(2026, 11, 23),
        ),
        Instrument(
            symbol=Symbol("NFO:BANKNIFTY18JAN23500CE"),
            name="BANKNIFTY18JAN23500CE",
            kind=InstrumentKind.OPTION,
            lot=Decimal(40),
            tick_size=Decimal("0.05"),
            expiry=date(2018, 1, 25),
            as_of=date(2026, 11, 23),
        ),
        Instrument(
            symbol=Symbol("NSE:NIFTY 50"),
            name="NIFTY 50",
            kind=InstrumentKind.INDEX,
            lot=Decimal(1),
            tick_size=Decimal("0.05"),
            tradable=False,
            as_of=date(2026, 11, 23),
        ),
    ]


def test_a_new_word_of_zerodhas_is_an_error_and_never_a_share() -> None:
    text = KITE_HEADER + "1,2,INFY,INFOSYS,0.0,,0.0,0.1,1,SWAP,NSE,NSE\n"
    with pytest.raises(InstrumentFileError, match="kite, line 2: instrument_type: 'SWAP' is not right"):
        parse_kite_instruments(text, as_of=date(2026, 11, 23), source="kite")
