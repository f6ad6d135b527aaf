"""A failing day made shorter: what the same promise is broken without is left out, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from squareoff.simulation.play import Played, play
from squareoff.simulation.schedule import Schedule
from squareoff.simulation.trouble import What


def shortened(failed: Played, *, at_most: int = 200) -> Played:
    """The shortest found in so many plays."""
    best, plays = failed, 0
    promise = (failed.broken or "")[:3]
    while True:
        for schedule in _shorter(best.schedule):
            if plays >= at_most:
                return play(best.schedule, with_story=True)
            plays += 1
            found = play(schedule)
            if (found.broken or "").startswith(promise):
                best = found
                break
        else:
            return play(best.schedule, with_story=True)


def _shorter(schedule: Schedule) -> Iterator[Schedule]:
    troubles, plans = schedule.troubles, schedule.plans
    for i in range(len(troubles)):
        yield replace(schedule, troubles=(*troubles[:i], *troubles[i + 1 :]))
    for i in range(len(plans)):
        if len(plans) > 1 and not any(t.what is What.WISH and t.number == plans[i].strategy_id for t in troubles):
            starts = schedule.starts_s
            yield replace(schedule, plans=(*plans[:i], *plans[i + 1 :]), starts_s=(*starts[:i], *starts[i + 1 :]))
