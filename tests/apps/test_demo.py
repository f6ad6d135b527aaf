"""The demo, played for real: every process, every mischief, and the broker's own ledger at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import sequence_pages  # noqa: E402

pytestmark = [pytest.mark.processes, pytest.mark.xdist_group("demo")]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    data = tmp_path_factory.mktemp("demo")
    demo = subprocess.run(
        [sys.executable, "-m", "squareoff", "demo"],
        env={**os.environ, "SQUAREOFF_DATA": str(data)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
    )
    return demo, data / "demo"


def test_the_demo_ends_with_nothing_doubled_and_nothing_left_behind(
    played: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    demo, _ = played
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "entries 7, exits 7, doubles 0, orphans 0" in demo.stdout
    assert "the engine was killed 1 time" in demo.stdout


def test_what_the_demo_leaves_can_be_looked_at(played: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, folder = played
    for command in (["list"], ["show", "killed"], ["why", "same-instant"], ["why", "refused"]):
        looked = subprocess.run(
            [sys.executable, "-m", "squareoff", "--data", str(folder), *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert looked.returncode == 0, looked.stderr
    assert "insufficient margin" in looked.stdout


@pytest.mark.parametrize("diagram", sequence_pages.DIAGRAMS, ids=lambda d: d.title)
def test_a_sequence_diagram_shows_the_steps_that_the_demo_really_took(
    played: tuple[subprocess.CompletedProcess[str], Path], diagram: sequence_pages.Diagram
) -> None:
    _, folder = played
    kept = sequence_pages.read(ROOT / "docs" / "journals" / f"{diagram.act}.jsonl")
    today = sequence_pages.export(folder)[diagram.act]
    drawn = sequence_pages.shape(sequence_pages.steps(kept, diagram))
    taken = sequence_pages.shape(sequence_pages.steps(today, diagram))
    if diagram.title == "Recovery":  # how much of the journal the killed engine had written is up to the moment
        assert {"idle recovery", "executing fill", "updating transition bought"} <= set(taken) & set(drawn)
    else:
        assert decisions(taken) == decisions(drawn)


def decisions(steps: list[str]) -> list[str]:
    """Without the records of what was decided: on a busy disk they come a little later."""
    return [step for step in steps if not step.endswith("saved") and not step.startswith("unlocking")]
