"""The quick ones of `make faults`, each once: real processes, judged from the broker's ledger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from faults.bugs import BUGS
from faults.scenarios import Scenario, all_scenarios

ROOT = Path(__file__).parents[2]
GIVE_UP_S = 150


def verdict(scenario: str, folder: Path, *more: str) -> list[str]:
    command = [sys.executable, "-m", "faults.one", scenario, "--folder", str(folder), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=GIVE_UP_S, cwd=ROOT)
    assert done.stdout, done.stderr
    problems: list[str] = json.loads(done.stdout.splitlines()[-1])["problems"]
    return problems


@pytest.mark.processes
@pytest.mark.parametrize("scenario", [each for each in all_scenarios() if each.quick], ids=lambda each: each.id)
def test_a_bad_day_ends_as_it_should(
    scenario: Scenario, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if scenario.setting.database == "postgres":
        request.getfixturevalue("postgres")  # skips, with the reason, where there is none
    assert verdict(scenario.id, tmp_path_factory.mktemp("f")) == []


@pytest.mark.processes
@pytest.mark.parametrize("bug", ["blind-retry", "no-send-mark"])
def test_the_judge_catches_a_mistake_put_in_on_purpose(bug: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of three days one must show it: on a slow machine the broker's position may be read first, and save the day."""
    for seed in ("1", "2", "3"):
        folder = tmp_path_factory.mktemp("f")
        problems = verdict(BUGS[bug].caught_by[0], folder, "--seed", seed, "--bug", bug)
        if any("double" in problem for problem in problems):
            return
    pytest.fail(f"{bug} was not caught on any of three days")


def test_every_seeded_bug_names_scenarios_that_exist() -> None:
    known = {each.id for each in all_scenarios()}
    assert {id_ for bug in BUGS.values() for id_ in bug.caught_by} <= known
