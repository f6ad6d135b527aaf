"""The strategies that a new user begins with: each can be added as it is, and does what its text says on a day."""

from __future__ import annotations

import csv
import json
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from squareoff.apps.api.templates import example_files, templates
from squareoff.apps.strategy_file import load_strategy_file
from tests.apps.conftest import Squareoff

EXAMPLES = [Path(str(file)) for file in example_files()]
DAY = date(2026, 11, 23)


def test_there_are_some() -> None:
    assert len(EXAMPLES) >= 3
    assert {template.name for template in templates()} == {path.stem for path in EXAMPLES}
    for template in templates():
        assert template.title, template.name
        assert template.about, template.name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_added_as_it_is(squareoff: Squareoff, path: Path) -> None:
    (squareoff.data / "reference" / "instruments.csv").unlink()
    answer = squareoff("add", "--file", str(path))
    assert (answer.status, answer.errors) == (0, "")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_buys_and_sells_once_on_a_quiet_day_and_gets_out_on_a_falling_one(
    squareoff: Squareoff, path: Path, tmp_path: Path
) -> None:
    (squareoff.data / "reference" / "instruments.csv").unlink()
    for falls, ending in ((False, "sold"), (True, "exited_by_sl")):
        data = _day(tmp_path / f"{path.stem}-{falls}.csv", load_strategy_file(path)[0][1].symbol, falls=falls)
        told = squareoff("replay", str(data), "--strategies", str(path), "--json")
        assert told.status == 0, told.errors
        results = json.loads(told.output)["results"]
        assert [(row["state"], row["exposure"]) for row in results] == [(ending, "flat")]


def _day(file: Path, symbol: str, *, falls: bool) -> Path:
    """Minute bars at 1,500; on a falling day they lose 3 % while it holds."""
    falls_at = (10, 15) if symbol.startswith("SIM:") else (12, 0)
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("time", "symbol", "open", "high", "low", "close"))
        at = datetime.combine(DAY, datetime.min.time()) + timedelta(hours=9, minutes=15)
        while at.hour * 60 + at.minute < 15 * 60 + 30:
            price = "1455.00" if falls and (at.hour, at.minute) >= falls_at else "1500.00"
            writer.writerow((f"{at.isoformat()}+05:30", symbol, price, price, price, price))
            at += timedelta(minutes=1)
    return file
