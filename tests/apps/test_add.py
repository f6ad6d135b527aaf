"""What `squareoff add` refuses, in which words, and that nothing is saved then."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from squareoff import wiring
from squareoff.core.definition import FIELDS
from tests.apps.conftest import Squareoff

Refused = Callable[..., str]

WHOLE = "a whole number of shares above zero, for example 50"
STOP_LOSS = 'a price like "1540", a percentage like "1.5%" or points like "20pts"'
SESSION = "NSE's session is 09:15-15:30"


# ------------------------------------------------------------------ the stop-loss


def test_a_strategy_without_a_stop_loss_is_refused(refused: Refused) -> None:
    assert refused(stop_loss=None) == (
        'stop_loss: is missing; every strategy needs one, for example "1540", "1.5%" or "20pts"'
    )


@pytest.mark.parametrize("text", ["0", "0%", "-5", "-1.5%", "-20pts"])
def test_a_stop_loss_that_is_not_positive_is_refused(refused: Refused, text: str) -> None:
    assert refused(stop_loss=text) == f"stop_loss: {text} is not positive; {STOP_LOSS}"


@pytest.mark.parametrize("text", ["soon", "1.5 percent", "1,540", "nan", "1e3"])
def test_a_stop_loss_that_cannot_be_read_is_refused(refused: Refused, text: str) -> None:
    assert refused(stop_loss=text) == f"stop_loss: {text!r} is not a stop-loss; {STOP_LOSS}"


@pytest.mark.parametrize("price", ["1540", "1539.95", "1500"])
def test_a_stop_loss_at_or_above_the_price_is_refused(refused: Refused, price: str) -> None:
    says = f"stop_loss: 1540 is at or above the price {price}; it must be below, or it would sell at once"
    assert refused(stop_loss="1540", price=price) == says


def test_a_stop_loss_below_the_price_is_taken(squareoff: Squareoff) -> None:
    options = ("--buy=09:20", "--sell=15:10", "--stop-loss=1540", "--price=1,540.05")
    assert squareoff("add", "morning", "NSE:SHARE", "50", *options).status == 0


def test_as_many_points_as_the_price_are_refused(refused: Refused) -> None:
    says = "stop_loss: 1600pts is the whole price of 1562.40 or more; fewer points than the price"
    assert refused(stop_loss="1600pts", price="1562.40") == says


def test_points_below_one_tick_are_refused(refused: Refused) -> None:
    says = "stop_loss: 0.01pts is less than one tick of 0.05; it would square off at the price paid"
    assert refused(stop_loss="0.01pts") == says


def test_a_stop_loss_of_the_whole_price_is_refused(refused: Refused) -> None:
    says = 'stop_loss: 100% is the whole price or more; a percentage below 100, for example "1.5%"'
    assert refused(stop_loss="100%") == says


def test_a_stop_loss_off_the_tick_is_refused_with_the_next_one_on_it(refused: Refused) -> None:
    says = "stop_loss: 1540.03 is off the tick: prices of NSE:SHARE move in steps of 0.05; for example 1540.05"
    assert refused(stop_loss="1540.03") == says


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("1399.95", "below the lower price band 1400.00"), ("1700", "at or above the upper price band 1700.00")],
)
def test_a_stop_loss_outside_the_price_band_is_refused(refused: Refused, text: str, wrong: str) -> None:
    says = f"stop_loss: {text} is {wrong} of 2026-11-23; choose a price inside the band: it must be able to trigger"
    assert refused(stop_loss=text) == says


def test_a_price_that_is_none_is_refused(refused: Refused) -> None:
    assert refused(price="cheap") == "price: 'cheap' is not a price; a number above zero, for example 1562.40"
    assert refused(price="0") == "price: '0' is not a price; a number above zero, for example 1562.40"


# ------------------------------------------------------------------ the times


def test_a_sell_time_before_the_buy_time_is_refused(refused: Refused) -> None:
    says = "sell_time: 09:30 is not after buy_time 10:00; a strategy buys first and sells later the same day"
    assert refused(buy="10:00", sell="09:30") == says


def test_a_sell_time_equal_to_the_buy_time_is_refused(refused: Refused) -> None:
    says = "sell_time: 10:00 is not after buy_time 10:00; a strategy buys first and sells later the same day"
    assert refused(buy="10:00", sell="10:00") == says


def test_a_sell_time_outside_the_session_is_refused(refused: Refused) -> None:
    assert refused(sell="15:30") == f"sell_time: 15:30 is outside the session; {SESSION}"
    assert refused(sell="18:00") == f"sell_time: 18:00 is outside the session; {SESSION}"


def test_a_buy_time_outside_the_session_is_refused(refused: Refused) -> None:
    assert refused(buy="09:14:59") == f"buy_time: 09:14:59 is outside the session; {SESSION}"
    assert refused(buy="15:30") == f"buy_time: 15:30 is outside the session; {SESSION}"


@pytest.mark.parametrize("product", ["CNC", "NRML"])
def test_a_sell_time_less_than_15_minutes_before_the_end_is_refused(refused: Refused, product: str) -> None:
    says = f"sell_time: 15:15:01 is less than 15 minutes before the session's end; 15:15 at the latest ({SESSION})"
    assert refused(sell="15:15:01", product=product) == says


@pytest.mark.parametrize("sell", ["15:20", "15:25"])
def test_a_sell_time_at_or_after_the_products_own_square_off_is_refused(refused: Refused, sell: str) -> None:
    says = f"sell_time: {sell} is not before the broker's own square-off of MIS at 15:20; 15:15 at the latest"
    assert refused(sell=sell, product="MIS") == says


@pytest.mark.parametrize("text", ["25:00", "9", "09.20", "09:60", "soon", "09:20:61"])
def test_a_time_that_is_none_is_refused(refused: Refused, text: str) -> None:
    right = 'write the exchange\'s wall-clock time, like "09:20"'
    assert refused(buy=text) == f"buy_time: {text!r} is not a time; {right}"
    assert refused(sell=text) == f"sell_time: {text!r} is not a time; {right}"


def test_a_strategy_without_its_times_is_refused(refused: Refused) -> None:
    assert refused(buy=None) == 'buy_time: is missing; every strategy needs one, for example "09:20"'
    assert refused(sell=None) == 'sell_time: is missing; every strategy needs one, for example "15:15"'


# ------------------------------------------------------------------ the quantity


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("0", "is zero"),
        ("-5", "-5 is negative"),
        ("2.5", "2.5 is a fraction"),
        ("ten", "'ten' is not a number"),
        ("nan", "'nan' is not a number"),
        ("inf", "'inf' is not a number"),
        ("1e999999", "1e999999 is more than any order can have"),
    ],
)
def test_a_quantity_must_be_a_whole_number_above_zero(refused: Refused, text: str, wrong: str) -> None:
    assert refused(qty=text) == f"quantity: {wrong}; {WHOLE}"


def test_a_strategy_without_a_quantity_is_refused(refused: Refused) -> None:
    assert refused(qty="") == "quantity: is missing; every strategy needs one, for example 50"


def test_a_quantity_that_is_not_a_multiple_of_the_lot_is_refused(refused: Refused) -> None:
    says = "quantity: 100 is not a multiple of the lot of 75; for example 75 or 150"
    assert refused(symbol="NSE:LOTS", qty="100") == says
    says = "quantity: 50 is not a multiple of the lot of 75; for example 75"
    assert refused(symbol="NSE:LOTS", qty="50") == says


def test_a_quantity_above_the_freeze_quantity_is_refused(refused: Refused) -> None:
    wrong = "1801 is above the exchange's freeze quantity of 1800 for one order"
    assert refused(qty="1801") == f"quantity: {wrong}; use several strategies"


# ------------------------------------------------------------------ symbol, account, words


def test_an_unknown_symbol_is_refused_with_what_was_probably_meant(refused: Refused) -> None:
    says = "symbol: 'NSE:SHAER' is not in the list of instruments; did you mean NSE:SHARE?"
    assert refused(symbol="NSE:SHAER") == says


def test_an_unknown_exchange_is_refused_with_those_there_are(refused: Refused) -> None:
    says = "symbol: 'LSE' is not an exchange squareoff knows; one of FX, NSE, SIM"
    assert refused(symbol="LSE:VOD") == says


def test_a_strategy_without_a_symbol_is_refused(refused: Refused) -> None:
    assert refused(symbol="") == 'symbol: is missing; every strategy needs one, for example "NSE:INFY"'


def test_an_index_cannot_be_bought(refused: Refused) -> None:
    right = "it can be used in `squareoff replay`; to trade choose a share, for example NSE:INFY"
    assert refused(symbol="NSE:NIFTY") == f"symbol: NSE:NIFTY is an index and cannot be bought; {right}"
    assert refused(symbol="FX:EURUSD") == f"symbol: FX:EURUSD is a currency and cannot be bought; {right}"


def test_an_expired_contract_is_refused(refused: Refused) -> None:
    says = "symbol: NSE:OLD expired on 2026-10-27; choose a contract that still trades"
    assert refused(symbol="NSE:OLD", qty="75") == says


def test_a_contract_that_expires_before_the_next_session_is_refused(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The BUY of its last day has gone: the next one comes when it no longer trades."""
    monkeypatch.setattr(wiring, "now", lambda _: datetime(2026, 10, 27, 4, tzinfo=UTC))
    assert refused(symbol="NSE:OLD", qty="75").startswith("symbol: NSE:OLD expired on 2026-10-27; ")


def test_an_unknown_account_is_refused_with_what_was_probably_meant(refused: Refused) -> None:
    assert refused(account="papr") == "account: there is no account 'papr'; did you mean paper?"
    assert refused(account="zerodha") == "account: there is no account 'zerodha'; yours is paper"


def test_unknown_words_are_refused_with_those_there_are(refused: Refused) -> None:
    assert refused(repeat="weekly") == "repeat: 'weekly' is not known; one of once, daily"
    assert refused(product="BO") == "product: 'BO' is not known; one of MIS, CNC, NRML"


def test_a_name_that_is_none_is_refused(refused: Refused) -> None:
    right = "use 1 to 40 letters, digits, dots, dashes and underscores, starting with a letter or digit"
    assert refused(name="my strategy") == f"name: 'my strategy' is not a name; {right}"


def test_a_name_that_is_taken_is_refused(squareoff: Squareoff, refused: Refused) -> None:
    assert add(squareoff, "morning").status == 0
    says = "name: there is a strategy 'morning' already; choose another name, or remove that one first"
    assert refused(name="morning") == says


def test_an_option_nobody_knows_is_refused_with_what_was_probably_meant(squareoff: Squareoff) -> None:
    answer = squareoff("add", "x", "NSE:SHARE", "50", "--buy", "09:20", "--sell", "15:10", "--stop-los", "1540")
    assert (answer.status, answer.errors) == (
        2,
        "squareoff: --stop-los: is not an option of add; did you mean --stop-loss?\n",
    )
    assert squareoff("add", "x", "NSE:SHARE", "50", "60").errors == (
        "squareoff: 60: is one word too many; write add NAME SYMBOL QTY, then the options\n"
    )


# ------------------------------------------------------------------ what is taken


def add(squareoff: Squareoff, name: str, symbol: str = "NSE:SHARE"):  # type: ignore[no-untyped-def]
    return squareoff("add", name, symbol, "50", "--buy", "09:20", "--sell", "15:10", "--stop-loss", "1540")


def test_a_good_strategy_is_saved_with_the_defaults_written_out(squareoff: Squareoff) -> None:
    answer = squareoff("add", "morning", "share", "50", "--buy", "9:20", "--sell", "15:10", "--stop-loss", "1540.05")
    assert (answer.status, answer.errors) == (0, "")
    assert answer.output == (
        "added morning: buy 50 NSE:SHARE at 09:20:00, sell at 15:10:00, stop-loss 1540.05, once, MIS, account paper\n"
    )
    assert squareoff.json("list") == [
        {
            "id": 1,
            "name": "morning",
            "symbol": "NSE:SHARE",
            "quantity": "50",
            "buy_time": "09:20:00",
            "sell_time": "15:10:00",
            "stop_loss": "1540.05",
            "repeat": "once",
            "until": None,
            "product": "MIS",
            "account": "paper",
            "latest_run": None,
        }
    ]


def test_a_sell_in_the_closing_auction_is_warned_of_and_taken(squareoff: Squareoff) -> None:
    answer = squareoff("add", "late", "NSE:INFY", "50", "--buy", "09:20", "--sell", "15:15", "--stop-loss", "1.5%")
    assert answer.status == 0
    assert answer.errors == (
        "squareoff: note: sell_time: continuous trading of NSE:INFY may end at 15:15 (closing auction), so a SELL at "
        "15:15 may fill only in the auction; before 15:15 it fills at once\n"
    )


def test_a_year_without_a_calendar_is_warned_of_and_the_strategy_is_saved(
    squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "now", lambda _: datetime(2031, 1, 6, 2, tzinfo=UTC))
    answer = add(squareoff, "morning")
    assert answer.status == 0
    assert answer.errors.startswith("squareoff: note: No signed-off calendar for NSE 2031, so squareoff does not know")
    assert squareoff.saved == ["morning"]


# ------------------------------------------------------------------ a file of strategies

GOOD = """[[strategy]]
name = "one"
symbol = "NSE:SHARE"
quantity = 50
buy_time = "09:20"
sell_time = "15:10"
stop_loss = 1540.05
"""


def file_refused(squareoff: Squareoff, tmp_path: Path, text: str | bytes) -> str:
    file = tmp_path / "mine.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    before = squareoff.saved
    answer = squareoff("add", "--file", str(file))
    assert (answer.status, answer.output) == (2, "")
    assert squareoff.saved == before
    return answer.errors.removeprefix("squareoff: ").rstrip("\n")


def test_one_bad_strategy_in_a_file_and_none_is_saved(squareoff: Squareoff, tmp_path: Path) -> None:
    text = GOOD + GOOD.replace('"one"', '"two"').replace("1540.05", "1540.03")
    assert file_refused(squareoff, tmp_path, text) == (
        "mine.toml, strategy 2 (line 8): stop_loss: 1540.03 is off the tick: prices of NSE:SHARE move in steps of "
        "0.05; for example 1540.05"
    )


def test_one_name_in_a_file_that_is_taken_and_none_is_saved(squareoff: Squareoff, tmp_path: Path) -> None:
    add(squareoff, "two")
    assert file_refused(squareoff, tmp_path, GOOD + GOOD.replace('"one"', '"two"')) == (
        "mine.toml, strategy 2 (line 8): name: there is a strategy 'two' already; choose another name, or remove "
        "that one first"
    )


def test_a_name_that_comes_twice_in_a_file_is_refused(squareoff: Squareoff, tmp_path: Path) -> None:
    assert file_refused(squareoff, tmp_path, GOOD + GOOD) == (
        "mine.toml, strategy 2 (line 8): name: 'one' is already the name of strategy 1 (line 1); give each its own"
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("1540.05", "true"), f"stop_loss: True is not a stop-loss; {STOP_LOSS}"),
        (("1540.05", "nan"), f"stop_loss: NaN is not a stop-loss; {STOP_LOSS}"),
        (("= 50", "= 2.5"), f"quantity: 2.5 is a fraction; {WHOLE}"),
        (("= 50", "= nan"), f"quantity: NaN is not a number; {WHOLE}"),
        (("= 50", "= [50]"), f"quantity: [50] is not a number; {WHOLE}"),
        (("quantity", "qty"), f"qty: is not a field of a strategy; the fields are {', '.join(FIELDS)}"),
        (("stop_loss = 1540.05", ""), None),
    ],
)
def test_a_wrong_field_in_a_file_is_told_with_its_place(
    squareoff: Squareoff, tmp_path: Path, change: tuple[str, str], says: str | None
) -> None:
    said = file_refused(squareoff, tmp_path, "# mine\n" + GOOD.replace(*change))
    assert said.startswith("mine.toml, strategy 1 (line 2): ")
    assert says is None or said == f"mine.toml, strategy 1 (line 2): {says}"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "mine.toml: has no strategies; begin each with [[strategy]]"),
        ("strategy = []", "mine.toml: has no strategies; begin each with [[strategy]]"),
        ("[strategy]\nname = 'x'", "mine.toml: 'strategy' is not a list; write [[strategy]] with double brackets"),
        (
            "[[strategies]]\nname = 'x'",
            "mine.toml: 'strategies' is not known at the top of the file; each strategy begins with [[strategy]] and "
            "its fields follow below",
        ),
        ("[[strategy]]\nname = ", "mine.toml: is not valid TOML: Invalid value (at end of document)"),
        (
            "[[strategy]]\nx 1",
            "mine.toml: is not valid TOML: Expected '=' after a key in a key/value pair (at line 2, column 3)",
        ),
    ],
)
def test_a_file_that_is_no_list_of_strategies_is_refused(
    squareoff: Squareoff, tmp_path: Path, text: str, says: str
) -> None:
    assert file_refused(squareoff, tmp_path, text) == says


def test_a_file_that_cannot_be_read_is_refused(squareoff: Squareoff, tmp_path: Path) -> None:
    missing = tmp_path / "no.toml"
    says = f"squareoff: file: {missing} does not exist; name a TOML file with strategies\n"
    assert squareoff("add", "--file", str(missing)).errors == says
    says = "mine.toml is not UTF-8 text; name a TOML file with strategies"
    assert file_refused(squareoff, tmp_path, b"\xff\xfe").endswith(says)
    says = f"squareoff: file: {tmp_path} cannot be read: Is a directory; name a TOML file with strategies\n"
    assert squareoff("add", "--file", str(tmp_path)).errors == says


@pytest.mark.parametrize("text", ["stop_loss = " + "[" * 3000, "a = 1e99999999999999999999", "a = " + "9" * 5000])
def test_a_file_that_chokes_the_toml_reader_is_refused(squareoff: Squareoff, tmp_path: Path, text: str) -> None:
    assert file_refused(squareoff, tmp_path, text).startswith("mine.toml: is not valid TOML: ")


def test_a_file_and_a_strategy_beside_it_are_refused(squareoff: Squareoff, tmp_path: Path) -> None:
    answer = squareoff("add", "--file", str(tmp_path / "x.toml"), "--price", "5")
    assert (answer.status, answer.errors) == (
        2,
        "squareoff: price: cannot be given together with --file; write it into the file, or leave out --file\n",
    )


def test_numbers_in_a_file_are_taken_digit_by_digit(squareoff: Squareoff, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD + GOOD.replace('"one"', '"two"').replace("1540.05", "1499.9000000000000000"))
    assert squareoff("add", "--file", str(file)).status == 0
    assert [strategy["stop_loss"] for strategy in squareoff.json("list")] == ["1540.05", "1499.9"]


def test_a_strategy_without_a_name_gets_the_symbols(squareoff: Squareoff, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace('name = "one"\n', "").replace("SHARE", "A&B"))
    assert squareoff("add", "--file", str(file)).status == 0
    assert squareoff.saved == ["a-b"]


def test_the_file_in_the_documentation_can_be_added_and_names_every_field(squareoff: Squareoff, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(page.partition("```toml\n")[2].partition("```")[0])
    answer = squareoff("add", "--file", str(file))
    assert (answer.status, answer.errors) == (0, "")
    assert squareoff.saved == ["infy", "itc-every-day"]
    for field in FIELDS:
        assert f"| `{field}` |" in page


# ------------------------------------------------------------------ the disk and the database


@contextmanager
def no_free_disk(database: Path) -> Iterator[None]:
    """The database may not grow by one page."""
    with sqlite3.connect(database) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.close()

    def limit(driver: sqlite3.Connection, record: object) -> None:
        driver.execute(f"PRAGMA max_page_count = {pages}")

    event.listen(Engine, "connect", limit)
    try:
        yield
    finally:
        event.remove(Engine, "connect", limit)


def test_on_a_full_disk_nothing_is_saved_and_that_is_said(squareoff: Squareoff, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("".join(GOOD.replace('"one"', f'"number-{n:030}"') for n in range(500)))
    assert squareoff.saved == []
    database = squareoff.data / "squareoff.db"
    with no_free_disk(database):
        answer = squareoff("add", "--file", str(file))
    says = f"squareoff: the database {database} cannot grow: the disk is full; free some space\n"
    assert (answer.status, answer.output, answer.errors) == (2, "", says)
    assert squareoff.saved == []
    assert squareoff("add", "--file", str(file)).status == 0
    assert len(squareoff.saved) == 500


def test_a_database_of_a_newer_version_is_refused_and_left_alone(squareoff: Squareoff) -> None:
    add(squareoff, "morning")
    database = squareoff.data / "squareoff.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    before = database.read_bytes()
    for answer in (add(squareoff, "evening"), squareoff("list"), squareoff("rm", "morning", "--yes")):
        assert (answer.status, answer.output) == (2, "")
        says = f"squareoff: database: {database} was written by a newer squareoff (database version 9999, this one "
        assert answer.errors.startswith(says)
        assert answer.errors.endswith("install the newer squareoff, or name another one; nothing was changed\n")
    assert database.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(squareoff: Squareoff) -> None:
    database = squareoff.data / "squareoff.db"
    database.write_text("my diary " * 200)
    answer = add(squareoff, "morning")
    says = f"squareoff: the database {database} is not a SQLite database: name another file\n"
    assert (answer.status, answer.errors) == (2, says)
    assert database.read_text() == "my diary " * 200


def test_the_data_folder_is_made_for_its_owner_only(squareoff: Squareoff, tmp_path: Path) -> None:
    fresh = Squareoff(tmp_path / "fresh")
    assert fresh.saved == []
    assert stat.S_IMODE(fresh.data.stat().st_mode) == 0o700


def test_a_data_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    answer = Squareoff(file)("list")
    assert (answer.status, answer.errors) == (
        2,
        f"squareoff: data: the folder {file} cannot be used: File exists; name another one with --data DIR\n",
    )


def test_looking_at_a_demo_that_never_ran_is_refused_and_makes_nothing(squareoff: Squareoff) -> None:
    answer = squareoff("--demo", "list")
    folder = squareoff.data / "demo"
    says = f"squareoff: demo: there is no demo in {folder}; run `squareoff demo` first\n"
    assert (answer.status, answer.errors) == (2, says)
    assert not folder.exists()


def test_an_address_that_is_no_redis_is_refused_without_repeating_its_password(squareoff: Squareoff) -> None:
    answer = squareoff("--redis-url", "http://:secret@host", "list")
    says = "squareoff: redis_url: is not the address of a Redis; write it like redis://localhost:6379/0\n"
    assert (answer.status, answer.errors) == (2, says)


# ------------------------------------------------------------------ the program


def test_help_and_version_do_not_wait_for_libraries_they_do_not_need(tmp_path: Path) -> None:
    look = """
import sys
from squareoff.apps.cli import main
sys.argv = ["squareoff", "--help"]
try:
    main()
except SystemExit as done:
    slow = {"aiohttp", "sqlalchemy", "redis", "alembic", "uvloop", "msgspec"}
    sys.exit(done.code or sorted(slow & set(sys.modules)) or 0)
"""
    environ = {**os.environ, "SQUAREOFF_DATA": str(tmp_path / "unused")}
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, env=environ, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("add", "list", "show", "rm", "why", "instruments"):
        assert f"\n  {command} " in done.stdout
    assert not (tmp_path / "unused").exists()


def test_an_unknown_command_is_one_sentence(squareoff: Squareoff) -> None:
    answer = squareoff("lsit")
    assert answer.status == 2
    said = "No such command 'lsit'. Did you mean 'list', 'limits'?"
    assert answer.errors == f"squareoff: {said} See `squareoff --help`.\n"
