"""Which clock is believed when this machine's own was set anew, or when it differs from everybody else's.

Trading time goes on evenly and follows the wall clock only where somebody outside says the same: a BUY must not come an
hour early because a clock was wrong for a moment, nor a SELL ten minutes late.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

NOTICED = timedelta(milliseconds=250)
"""A smaller step is the daily work of network time."""
LARGE = timedelta(seconds=2)
"""From here on nothing is bought until somebody has said which clock is right."""
AGREES = timedelta(seconds=2)
"""Two clocks agree when they are no further apart: a date in an answer has whole seconds, a trade is told late."""


class Belief(StrEnum):
    WALL = "wall"
    """The machine's clock is right: trading time follows it."""
    OURS = "ours"
    """Trading time is right: it goes on as it was."""
    NEITHER = "neither"
    """Those outside contradict both, or one another."""
    UNKNOWN = "unknown"
    """Nobody outside has said anything yet."""


def believe(step: timedelta, *, broker: timedelta | None, trades: timedelta | None) -> Belief:
    """`step`: the machine's wall clock minus trading time. `broker`: the broker's clock minus trading time; `trades`:
    the same of the newest trades, which are told late but never early. None: it has not said anything.

    Trades that agree with neither clock are old ones, and prove nothing."""
    said = set[Belief]() if broker is None else {_nearest(step, broker)}
    if trades is not None and (told := _nearest(step, trades)) is not Belief.NEITHER:
        said.add(told)
    if not said:
        return Belief.UNKNOWN
    return said.pop() if len(said) == 1 else Belief.NEITHER


def _nearest(step: timedelta, ahead: timedelta) -> Belief:
    from_wall, from_ours = abs(ahead - step), abs(ahead)
    if min(from_wall, from_ours) > AGREES:
        return Belief.NEITHER
    return Belief.WALL if from_wall < from_ours else Belief.OURS
