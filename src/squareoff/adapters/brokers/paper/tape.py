"""A recorded or made-up series of ticks, played against a clock."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from squareoff.core.types import Symbol, Tick
from squareoff.ports import Clock

LONGEST_SLEEP_S = 1.0
"""Then the clock is asked again: a paced one may have been started anew meanwhile."""


class Tape:
    """Ticks in the order of their instants; equal instants keep the order they were given in."""

    def __init__(self, ticks: Iterable[tuple[datetime, str, Decimal]]) -> None:
        """Each tick as (aware instant, symbol, price)."""
        given = (Tick(symbol=Symbol(symbol), price=price, at=at.astimezone(UTC)) for at, symbol, price in ticks)
        self.ticks = tuple(sorted(given, key=lambda tick: tick.at))

    @classmethod
    def read(cls, path: Path) -> Tape:
        """A CSV file with the columns at (ISO 8601 with an offset), symbol, price."""
        with path.open(newline="") as file:
            return cls([_row(row, path.name, number) for number, row in enumerate(csv.DictReader(file), start=2)])

    async def play(self, clock: Clock, show: Callable[[Tick], None]) -> None:
        """Call `show` with each tick when its instant has come. What is past already when play begins is left out:
        a server that starts again must not show old prices as new ones."""
        begin = clock.now()
        for tick in self.ticks:
            if tick.at < begin:
                continue
            while (wait_s := clock.seconds_until(tick.at)) > 0:  # a paced clock may start later than it seemed
                await clock.sleep(min(wait_s, LONGEST_SLEEP_S))
            show(tick)


def _row(row: dict[str, str], file: str, number: int) -> tuple[datetime, str, Decimal]:
    try:
        at = datetime.fromisoformat(row["at"])
        if at.tzinfo is None:
            raise ValueError("the instant has no offset")
        return at, row["symbol"], Decimal(row["price"])
    except (KeyError, ValueError, ArithmeticError) as error:
        raise ValueError(f"{file}, line {number}: expected at,symbol,price ({error})") from error
