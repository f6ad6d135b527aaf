"""Days drawn from seeds, with trouble at every await: every promise is kept on each of them, the same seed is the same
day to the byte, and the simulator finds what it is there to find."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from squareoff.faults import all_points
from squareoff.simulation.many import kept_seeds
from squareoff.simulation.play import play
from squareoff.simulation.points import NO_ONE_COMES_THERE, by_point, points
from squareoff.simulation.schedule import Setting, draw
from squareoff.simulation.shrink import shortened
from tests.simulation.bugs import CAUGHT, NOT_DRAWN, PLANTS, first_broken

BLOCKS, DAYS = 80, 300
SECONDS = float(os.environ.get("SIM_SECONDS", "180"))
"""All blocks together, on as many workers as there are."""
KEPT = kept_seeds(Path(__file__).with_name("kept.txt"))


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_drawn_day_breaks_a_promise(block: int, record_property: Callable[[str, object], None]) -> None:
    """As many as fit the time. What fails is told as a story with its seed."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    until_s = time.monotonic() + SECONDS * workers / BLOCKS
    digests = []
    for seed in range(block * DAYS, (block + 1) * DAYS):
        played = play(draw(seed))
        digests.append(played.digest)
        if played.broken is not None:
            story = "\n".join(shortened(played).story)
            pytest.fail(f'seed {seed}: {played.broken}\n{story}\n\nmake sim SIM="--seed {seed} --shorten"')
        if time.monotonic() > until_s:
            break
    record_property("days", digests)


def test_days_that_once_broke_a_promise_keep_it_now() -> None:
    assert [seed for seed in KEPT if play(draw(seed)).broken is not None] == []


def test_the_same_seed_is_the_same_day_to_the_byte_in_any_process() -> None:
    code = "from squareoff.simulation.play import play\nfrom squareoff.simulation.schedule import draw\n"
    code += "print(*(play(draw(seed)).digest for seed in range(900, 912)))"
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }
    assert len(told) == 1
    assert told == {" ".join(play(draw(seed)).digest for seed in range(900, 912)) + "\n"}


def test_two_seeds_are_two_days() -> None:
    assert len({play(draw(seed)).digest for seed in range(50)}) == 50


@pytest.mark.parametrize("setting", Setting)
@pytest.mark.parametrize("point", points())
def test_a_worker_that_dies_at_any_fault_point_leaves_nothing_that_its_successor_cannot_mend(
    point: str, setting: Setting
) -> None:
    told = by_point(point, setting, is_quick=True)
    assert told.reached, f"no worker comes to {point} with {setting.value}: the days of simulation/points.py must"
    assert told.broken is None


def test_every_fault_point_that_ships_has_a_kill_or_a_reason() -> None:
    known = {point.rpartition(".")[0] for point in all_points()} | set(all_points())
    assert set(NO_ONE_COMES_THERE) <= known, "a reason for a point that is no more"
    assert len(points()) + 2 * len(NO_ONE_COMES_THERE) == len(all_points())


@pytest.mark.parametrize("bug", CAUGHT)
def test_the_simulator_finds_each_mistake_that_is_put_in_on_purpose(bug: str) -> None:
    """From the seed before the one that is known to find it, so that a change of the days is not a failure at once."""
    promise, seed = CAUGHT[bug]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        _, found, broken = pool.submit(first_broken, bug, 400, max(seed - 2, 0)).result()
    assert found >= 0, f"{bug} is not found in 400 days: python -m tests.simulation.bugs {bug}"
    assert broken.startswith(promise), f"{bug} was found by another promise: {broken}"


def test_each_mistake_is_found_or_says_why_no_drawn_day_reaches_it() -> None:
    assert {*CAUGHT, *NOT_DRAWN} == {*PLANTS}
