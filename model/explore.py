"""Every state once, nearest first, so that the way to a broken promise is a shortest one."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass

from model.protocol import Protocol, S


@dataclass(slots=True)
class Explored:
    states: int
    steps: int
    seconds: float
    is_whole: bool
    """Every reachable state was seen."""
    broken: str | None
    story: list[str]
    """What happened, up to the broken promise; with `broken` only."""
    faults: int
    stuck: int | None
    """States from which no way without a further fault leads to a closed run; None: not looked at."""


def explore(
    protocol: Protocol,
    *,
    only: str = "",
    at_most: int | None = None,
    with_liveness: bool = True,
    progress: Callable[[int, int, float], None] | None = None,
) -> Explored:
    """`only`: break off at this promise alone (`S2`). `at_most`: so many states."""
    began_s = time.monotonic()
    first = protocol.initial()
    ids: dict[S, int] = {first: 0}
    states = [first]
    parents, begins, ends = array("i", [-1]), array("i"), array("i")
    steps, place, told_s = 0, 0, began_s
    while place < len(states):
        state = states[place]
        for after, _, fault in protocol.steps(state):
            steps += 1
            known = ids.get(after)
            if known is None:
                known = ids[after] = len(states)
                states.append(after)
                parents.append(place)
                broken = protocol.broken(after)
                if broken is not None and broken.startswith(only):
                    story = _story(protocol, states, parents, known)
                    took_s = time.monotonic() - began_s
                    return Explored(len(states), steps, took_s, False, broken, story, after.faults, None)
            if with_liveness and not fault:
                begins.append(place)
                ends.append(known)
        place += 1
        if at_most is not None and len(states) > at_most:
            return Explored(len(states), steps, time.monotonic() - began_s, False, None, [], 0, None)
        if progress is not None and place % 1000 == 0 and (now_s := time.monotonic()) - told_s > 2:
            told_s = now_s
            progress(len(states), len(states) - place, now_s - began_s)
    if not with_liveness:
        return Explored(len(states), steps, time.monotonic() - began_s, True, None, [], 0, None)
    alive = _alive(protocol, states, begins, ends)
    stuck = len(states) - sum(alive)
    broken, story, faults = None, list[str](), 0
    if stuck and "S4".startswith(only):
        worst = alive.index(0)
        broken = f"S4: from {stuck} states no way without a further fault leads to a closed run"
        story, faults = _story(protocol, states, parents, worst), states[worst].faults
    return Explored(len(states), steps, time.monotonic() - began_s, True, broken, story, faults, stuck)


def _alive(protocol: Protocol, states: list[S], begins: array[int], ends: array[int]) -> bytearray:
    """From which states a way without a fault leads to one where everything is over: backwards from those."""
    head, following = array("i", [-1]) * len(states), array("i", [0]) * len(begins)
    for edge, end in enumerate(ends):
        following[edge] = head[end]
        head[end] = edge
    alive = bytearray(len(states))
    waiting = [place for place, state in enumerate(states) if protocol.is_over(state)]
    for place in waiting:
        alive[place] = 1
    while waiting:
        edge = head[waiting.pop()]
        while edge >= 0:
            if not alive[begins[edge]]:
                alive[begins[edge]] = 1
                waiting.append(begins[edge])
            edge = following[edge]
    return alive


def _story(protocol: Protocol, states: list[S], parents: array[int], place: int) -> list[str]:
    way = []
    while place > 0:
        way.append(place)
        place = parents[place]
    told, state = [], states[0]
    for number, step in enumerate(reversed(way), 1):
        after = states[step]
        text = next(text for reached, text, _ in protocol.steps(state) if reached == after)
        state = after
        run = protocol.runs[state.sql]
        bought = sum(order.filled for order in state.book if order.slot == "E")
        sold = sum(order.filled for order in state.book if order.slot == "X")
        told.append(f"{number:3} {text:<96} | SQL {run.state}, bought {bought}, sold {sold}")
    return told
