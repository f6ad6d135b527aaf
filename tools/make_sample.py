"""Write the day that ships for `squareoff replay --sample`: made up, always the same.

    python tools/make_sample.py

Bought at 09:20, SIM:ALPHA falls through a stop-loss of 1, 2 or 4 % before noon and recovers too late; SIM:BETA rises
and never comes near one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from random import Random

SEED = 20261120
TARGET = Path(__file__).parents[1] / "src/squareoff/data/sample/sim-2026-11-20.csv"
OPENS = datetime(2026, 11, 20, 9, 15, tzinfo=timezone(timedelta(hours=5, minutes=30)))
MINUTES = 375
TICKS_PER_UNIT = 20  # tick 0.05

Trend = Callable[[float], float]
Bar = tuple[int, int, int, int]


def alpha(day: float) -> float:
    """The trend, as a share of the first price; `day` runs from 0 to 1."""
    return 0.004 * math.sin(12 * day) - 0.045 * math.exp(-(((day - 0.5) / 0.16) ** 2)) - 0.012 * day


def beta(day: float) -> float:
    return 0.018 * day + 0.0015 * math.sin(20 * day)


def bars(start: int, trend: Trend, noise: float, dice: Random) -> list[Bar]:
    """Open, high, low, close in ticks. Each opens where the one before closed. Only `random()` is used: it alone is
    promised to give the same numbers in every Python."""
    made, last = [], start
    for minute in range(1, MINUTES + 1):
        close = round(start * (1 + trend(minute / MINUTES) + noise * (dice.random() - 0.5)))
        reach = [round(start * noise * 0.4 * dice.random()) for _ in range(2)]
        made.append((last, max(last, close) + reach[0], min(last, close) - reach[1], close))
        last = close
    return made


def text(ticks: int) -> str:
    return f"{ticks // TICKS_PER_UNIT}.{ticks % TICKS_PER_UNIT * 5:02d}"


def sample() -> str:
    dice = Random(SEED)
    days = {
        "SIM:ALPHA": bars(100 * TICKS_PER_UNIT, alpha, 0.0025, dice),
        "SIM:BETA": bars(250 * TICKS_PER_UNIT, beta, 0.0020, dice),
    }
    lines = ["time,symbol,open,high,low,close"]
    for minute in range(MINUTES):
        at = (OPENS + timedelta(minutes=minute)).isoformat()
        lines += [f"{at},{symbol},{','.join(map(text, made[minute]))}" for symbol, made in days.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(sample(), encoding="utf-8", newline="\n")
