"""`python -m squareoff.adapters.brokers.paper`: an entry point, so it is wiring: it may pick the clock."""

from __future__ import annotations

from pathlib import Path

from squareoff.adapters.brokers.paper.command import main
from squareoff.adapters.clock import PacedClock, SystemClock
from squareoff.ports import Clock


def _clock(timetable: Path | None) -> Clock:
    return SystemClock() if timetable is None else PacedClock(timetable)


if __name__ == "__main__":
    main(_clock)
