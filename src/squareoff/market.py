"""Which market a data folder lives in: where its prices come from, how fast its time runs, on which days it trades.

Written by `squareoff up`, read by every other process of the folder. Without such a file it is the real calendar and
the real clock.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from pathlib import Path

from squareoff.core.bad_input import BadInput
from squareoff.core.session import DayHours
from squareoff.core.strategy import Timing

FILE_NAME = "market.json"
CLOCK_NAME = "clock.json"
ALL_DAY = DayHours(opens=time(0), closes=time(0))
BARS_FRESH_S = 90.0
"""A minute bar gives a price every 15 s, and a quiet minute none: as in replay."""


class MarketKind(StrEnum):
    PRACTICE = "practice"
    """Generated prices, open at every hour of every day."""
    FILE = "file"
    """Recorded prices, on the days they were recorded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Market:
    kind: MarketKind
    speed: float
    """Trading seconds in a real second."""
    seed: int = 0
    source: Path | None = None
    days: tuple[date, ...] = ()
    """The recorded trading days; empty for practice."""
    is_bars: bool = False
    boot: str = ""
    """The start of the machine whose boot time the clock's timetable counts from."""
    ended_at: datetime | None = None
    """Trading time when `up` was last ended in order; None while it runs, or after it was killed."""

    def __str__(self) -> str:
        return "practice" if self.kind is MarketKind.PRACTICE else f"file:{self.source}"

    @property
    def timing(self) -> Timing:
        """Grace, age of a price and life of an entry: seconds of the real world, however fast trading time runs."""
        fresh_s = max(BARS_FRESH_S, 5.0 * self.speed) if self.is_bars else 5.0 * self.speed
        entry_s = max(BARS_FRESH_S, 10.0 * self.speed) if self.is_bars else 10.0 * self.speed
        return Timing(grace_s=5.0 * self.speed, fresh_for_s=fresh_s, entry_open_s=entry_s)


def load_market(run_folder: Path) -> Market | None:
    """None: `up` never ran in this folder. Raises BadInput for a file that cannot be read."""
    path = run_folder / FILE_NAME
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return Market(
            kind=MarketKind(known["kind"]),
            speed=float(known["speed"]),
            seed=int(known["seed"]),
            source=None if known["source"] is None else Path(known["source"]),
            days=tuple(map(date.fromisoformat, known["days"])),
            is_bars=bool(known["is_bars"]),
            boot=str(known["boot"]),
            ended_at=None if known["ended_at"] is None else datetime.fromisoformat(known["ended_at"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput("market", f"{path} cannot be read: {error}", "delete it; `squareoff up` writes it") from error


def save_market(run_folder: Path, market: Market) -> None:
    """Whole or not at all."""
    known = {
        "kind": market.kind,
        "speed": market.speed,
        "seed": market.seed,
        "source": None if market.source is None else str(market.source),
        "days": [day.isoformat() for day in market.days],
        "is_bars": market.is_bars,
        "boot": market.boot,
        "ended_at": None if market.ended_at is None else market.ended_at.isoformat(),
    }
    write_whole(run_folder / FILE_NAME, json.dumps(known, indent=1))


def write_whole(path: Path, text: str) -> None:
    """A reader sees the old text or the new one, never half of it."""
    draft = path.with_name(f"{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
