"""`python -m squareoff.adapters.brokers.paper`: an entry point, so it is wiring: it may pick clock and instruments."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from squareoff.adapters.brokers.paper.command import main
from squareoff.adapters.brokers.paper.practice import PracticeSymbol
from squareoff.adapters.clock import PacedClock, SystemClock
from squareoff.adapters.reference_data import load_instruments
from squareoff.ports import Clock


def _clock(timetable: Path | None) -> Clock:
    return SystemClock() if timetable is None else PacedClock(timetable)


def _symbols(folder: Path | None, day: date) -> list[PracticeSymbol]:
    """All that can be traded on this day (UTC): the shipped instruments and the trader's own."""
    return [
        PracticeSymbol(symbol=each.symbol, tick_size=each.tick_size)
        for each in load_instruments(folder)
        if each.tradable and (each.expiry is None or each.expiry >= day)
    ]


if __name__ == "__main__":
    main(_clock, _symbols)
