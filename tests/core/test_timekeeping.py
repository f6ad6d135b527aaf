"""Which clock is believed: by what those outside say."""

from __future__ import annotations

from datetime import timedelta

import pytest

from squareoff.core.timekeeping import Belief, believe

WALL, OURS, NEITHER, UNKNOWN = Belief


@pytest.mark.parametrize(
    ("step_s", "broker_s", "trades_s", "belief"),
    [
        (0, None, None, UNKNOWN),
        (0, 0.4, None, OURS),
        (0, 45, None, NEITHER),  # wrong since the start
        (3600, None, None, UNKNOWN),
        (3600, 0.4, None, OURS),
        (3600, 3599.2, None, WALL),
        (3600, 1800, None, NEITHER),
        (-600, -600.9, None, WALL),
        (-600, 0, None, OURS),
        (3600, None, -0.3, OURS),
        (3600, None, 3598.5, WALL),
        (-600, None, -601, WALL),
        (3600, None, 1800, UNKNOWN),  # old trades prove nothing
        (3600, 3600, -0.3, NEITHER),  # they contradict one another
        (3600, 3600, 1800, WALL),
        (3600, 2.0, None, OURS),
        (3600, 2.1, None, NEITHER),
        (3600, 3602.0, None, WALL),
        (0.6, 0.1, None, OURS),
        (0.6, 0.5, None, WALL),
    ],
)
def test_the_clock_with_which_somebody_outside_agrees_is_right(
    step_s: float, broker_s: float | None, trades_s: float | None, belief: Belief
) -> None:
    def span(seconds: float | None) -> timedelta | None:
        return None if seconds is None else timedelta(seconds=seconds)

    told = believe(timedelta(seconds=step_s), broker=span(broker_s), trades=span(trades_s))
    assert told is belief
