"""The real command line on a folder of its own, on a morning that is fixed: Monday 2026-11-23, 08:00 in Mumbai."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from squareoff import wiring
from squareoff.apps.cli import app

MONDAY_MORNING = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)

MARKET = """# as of 2026-11-23
symbol,name,kind,lot,tick_size,freeze_qty,lower_band,upper_band,expiry,tradable,closing_auction
NSE:SHARE,A share,share,1,0.05,1800,1400.00,1700.00,,yes,no
NSE:LOTS,A contract,future,75,0.05,,,,2026-12-31,yes,no
NSE:OLD,An old contract,future,75,0.05,,,,2026-10-27,yes,no
NSE:A&B,A company with a sign,share,1,0.05,,,,,yes,no
"""


@dataclass
class Squareoff:
    """`squareoff --data FOLDER ...`, in this process."""

    data: Path

    def __call__(self, *arguments: str, input: str | None = None) -> Answer:
        result = CliRunner().invoke(app, ["--data", str(self.data), *arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answer(result.exit_code, result.stdout, result.stderr)

    def json(self, *arguments: str) -> Any:
        answer = self(*arguments, "--json")
        assert (answer.status, answer.errors) == (0, ""), answer
        return json.loads(answer.output)

    @property
    def saved(self) -> list[str]:
        return [strategy["name"] for strategy in self.json("list")]


@dataclass(frozen=True)
class Answer:
    status: int
    output: str
    errors: str


@pytest.fixture
def squareoff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Squareoff:
    monkeypatch.setattr(wiring, "now", lambda _: MONDAY_MORNING)
    data = tmp_path / "data"
    reference = data / "reference"
    reference.mkdir(parents=True)
    (reference / "instruments.csv").write_text(MARKET)
    return Squareoff(data)


@pytest.fixture
def refused(squareoff: Squareoff) -> Callable[..., str]:
    """`add` with one thing wrong. Returns the sentence, after proof that nothing was saved."""

    def add(**wrong: str | None) -> str:
        good: dict[str, str | None] = {
            "name": "morning",
            "symbol": "NSE:SHARE",
            "qty": "50",
            "buy": "09:20",
            "sell": "15:10",
            "stop_loss": "1540",
        }
        fields = {**good, **wrong}
        place = [fields.pop(key) or "" for key in ("name", "symbol", "qty")]
        options = [f"--{key.replace('_', '-')}={value}" for key, value in fields.items() if value is not None]
        before = squareoff.saved
        answer = squareoff("add", *place, *options)
        assert (answer.status, answer.output) == (2, "")
        assert squareoff.saved == before
        assert answer.errors.startswith("squareoff: ")
        assert answer.errors.count("\n") == 1
        return answer.errors.removeprefix("squareoff: ").rstrip("\n")

    return add
