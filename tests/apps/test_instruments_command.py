"""Taking over a list of instruments."""

from __future__ import annotations

import errno
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.apps.conftest import MARKET, Squareoff

KITE = """instrument_token,exchange_token,tradingsymbol,name,last_price,expiry,strike,tick_size,lot_size,instrument_type,segment,exchange
1,1,SHARE,A SHARE,0,,0,0.1,1,EQ,NSE,NSE
2,2,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE
3,3,GOLD26DECFUT,GOLD,0,2026-12-04,0,1,100,FUT,MCX-FUT,MCX
"""  # noqa: E501


def own_list(squareoff: Squareoff) -> str:
    return (squareoff.data / "reference" / "instruments.csv").read_text()


def test_a_list_of_our_own_columns_is_taken_over_and_wins(squareoff: Squareoff, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(MARKET.replace("NSE:SHARE", "NSE:INFY"))
    answer = squareoff("instruments", "import", str(file))
    assert (answer.status, answer.output) == (0, "imported 4 instruments, as of 2026-11-23\n")
    (infosys,) = squareoff.json("instruments", "list", "infy")
    assert (infosys["name"], infosys["tick_size"], infosys["freeze_qty"]) == ("A share", "0.05", "1800")


def test_a_kite_dump_is_taken_over_without_the_exchanges_nobody_here_can_trade(
    squareoff: Squareoff, tmp_path: Path
) -> None:
    file = tmp_path / "dump.csv"
    file.write_text(KITE)
    answer = squareoff("instruments", "import", str(file), "--as-of", "2026-11-20")
    says = "imported 2 instruments, as of 2026-11-20; left out 1 of exchanges it has no hours of\n"
    assert (answer.status, answer.output) == (0, says)
    assert [i["symbol"] for i in squareoff.json("instruments", "list", "NSE:SHARE")] == ["NSE:SHARE"]
    assert squareoff.json("instruments", "list", "GOLD") == []


def test_what_the_list_writes_as_csv_can_be_imported(squareoff: Squareoff, tmp_path: Path) -> None:
    file = tmp_path / "all.csv"
    file.write_text(squareoff("instruments", "list", "--csv").output)
    assert squareoff("instruments", "import", str(file)).status == 0
    assert squareoff("instruments", "list", "--csv").output == file.read_text()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "mine.csv: header: missing; the columns are "),
        (
            MARKET.replace("0.05,1800", "half,1800"),
            "mine.csv, line 3: tick_size: 'half' is not right; write a number like",
        ),
        (MARKET.replace("future", "bet"), "mine.csv, line 4: kind: 'bet' is not right; write share or index or "),
        (MARKET[MARKET.index("symbol") :], "mine.csv: as of: missing; "),
        (
            MARKET[: MARKET.index("NSE:SHARE")],
            "has no instruments of an exchange squareoff knows; nothing was changed",
        ),
        (
            KITE.replace(",EQ,NSE,", ",SWAP,NSE,"),
            "mine.csv, line 2: instrument_type: 'SWAP' is not right; write EQ or ",
        ),
        ("\0" * 200_000, "mine.csv"),
    ],
)
def test_a_damaged_list_is_refused_and_the_one_before_stays(
    squareoff: Squareoff, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text)
    before = own_list(squareoff)
    answer = squareoff("instruments", "import", str(file))
    assert (answer.status, answer.output) == (2, "")
    assert says.removeprefix("mine.csv: as of").removeprefix("mine.csv: ") in answer.errors
    assert answer.errors.count("\n") == 1
    assert own_list(squareoff) == before


def test_a_day_that_cannot_be_is_refused(squareoff: Squareoff, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(KITE)
    today = datetime.now().astimezone().date()
    tomorrow = today + timedelta(days=1)
    for day, says in (
        ("yesterday", f"as_of: 'yesterday' is not a day; write it like {today}"),
        (f"{tomorrow}", f"as_of: {tomorrow} is in the future; {today} at the latest"),
    ):
        answer = squareoff("instruments", "import", str(file), "--as-of", day)
        assert (answer.status, answer.errors) == (2, f"squareoff: {says}\n")
    file.write_text(MARKET)
    answer = squareoff("instruments", "import", str(file), "--as-of", "2026-11-20")
    says = "as_of: is for a Kite dump; a list of squareoff's own columns says its day itself"
    assert answer.errors == f"squareoff: {says}\n"


def test_on_a_full_disk_the_list_before_stays(
    squareoff: Squareoff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(KITE)
    before = own_list(squareoff)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    answer = squareoff("instruments", "import", str(file))
    target = squareoff.data / "reference" / "instruments.csv"
    says = f"squareoff: {target} cannot be written: No space left on device; nothing was changed\n"
    assert (answer.status, answer.errors) == (1, says)
    assert own_list(squareoff) == before
    assert os.listdir(target.parent) == ["instruments.csv"]


def test_a_damaged_list_in_the_data_folder_is_told_with_its_line(squareoff: Squareoff) -> None:
    (squareoff.data / "reference" / "instruments.csv").write_text(MARKET.replace("yes,no", "maybe,no", 1))
    answer = squareoff("add", "x", "SHARE", "5", "--buy", "09:20", "--sell", "15:10", "--stop-loss", "1%")
    says = "squareoff: instruments.csv, line 3: tradable: 'maybe' is not right; write yes or no\n"
    assert (answer.status, answer.errors) == (2, says)
    assert squareoff.saved == []


def test_a_list_that_nothing_matches_says_so(squareoff: Squareoff) -> None:
    assert squareoff("instruments", "list", "zzz").output.endswith("instruments matches 'zzz'.\n")
