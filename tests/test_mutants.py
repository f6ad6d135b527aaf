"""The list of reviewed mutants is about the code as it is, and the mutator makes what it says."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest
from tools.mutations import members, mutants_of

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "squareoff"
ENUMS = members(SOURCE / "core")


def made_of(text: str, module: str = "core/some.py") -> set[str]:
    return {mutant.mutation for mutant in mutants_of(module, ast.parse(text), text, ENUMS)}


@pytest.mark.parametrize(
    ("text", "mutations"),
    [
        ("def f(a, b): return a <= b", {"return None for a <= b", "a <= b -> a < b", "a <= b -> a > b"}),
        ("x = a and b", {"or for and at a", "without a", "without b"}),
        ("x = 0.5", {"0.5 -> 1.5"}),
        ("x = max(a, -b)", {"max -> min", "-b -> b"}),
        ("x = Go(S.BOUGHT, (X.ALERT,))", {"S.BOUGHT -> S.SELL_PENDING", "X.ALERT -> X.ARCHIVE", "without X.ALERT"}),
        ("x = When(F.CLOSED, a, b)", {"F.CLOSED: the other way round", "F.CLOSED -> F.STOP_SEEN"}),
        ("x = replace(run, version=run.version + 1)", {"version that does not grow"}),
        ("def f(a):\n    if a: b.c = None", {"a -> not a", "without b.c = None"}),
        ("'a text'\nx: int | None\nraise_ = f'{a} of it'", set()),
    ],
)
def test_a_mutant_is_a_small_wrong_change(text: str, mutations: set[str]) -> None:
    assert made_of(text) == mutations


def test_a_mutant_keeps_its_name_when_its_line_moves() -> None:
    text = "def f(a):\n    return a == 1 or a == 1\n"
    assert made_of(text) == made_of(f"# a line more\n\n{text}")
    assert {"a == 1 -> a != 1", "a == 1 -> a != 1 (2)"} <= made_of(text)


def test_every_reviewed_survivor_is_a_mutant_of_the_code_as_it_is_and_has_its_reason() -> None:
    listed = tomllib.loads((ROOT / "tools" / "mutants_reviewed.toml").read_text())["survivor"]
    gone = []
    for module in {entry["module"] for entry in listed}:
        text = (SOURCE / module).read_text()
        keys = {mutant.key for mutant in mutants_of(module, ast.parse(text), text, ENUMS)}
        for entry in listed:
            if entry["module"] == module:
                assert len(entry["reason"]) > 20, entry
                place = (module, entry["function"], entry["line"])
                gone += [(*place, one) for one in entry["mutations"] if (*place, one) not in keys]
    assert gone == []
