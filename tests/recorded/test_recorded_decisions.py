"""What was decided on recorded days is decided today: by the demo, and by a practice week."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools.decisions import QUESTIONS, ask_again
from tools.record_decisions import KEPT, digest

FILES = sorted(KEPT.glob("*.jsonl.gz"))
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"


def decisions(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate((json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()), 1)


def differences(then: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in then.keys() | now.keys():
            yield from differences(then.get(key), now.get(key), f"{where}.{key}" if where else key)
    elif isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        for place, (one, other) in enumerate(zip(then, now, strict=True)):
            yield from differences(one, other, f"{where}[{place}]")
    elif then != now:
        yield f"{where or 'the answer'}: then {then!r}, now {now!r}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.split(".")[0])
def test_todays_code_decides_what_was_decided_then(file: Path) -> None:
    for number, line in decisions(file):
        answer = json.loads(json.dumps(ask_again(line["ask"], line["given"])))
        if answer != line["answer"]:
            run = line["given"][0]
            what = "\n  ".join(sorted(differences(line["answer"], answer)))
            which = f"{line['ask']} of run {run['plan']['run_id']} ({run['state']})"
            mend = (
                "If that is meant: tools/record_decisions.py demo, and week; say in CHANGELOG.md what changed and why"
            )
            pytest.fail(f"{file.name}, decision {number}: {which}\n  {what}\n{mend}")


def test_the_demo_and_a_week_of_practice_are_kept_and_ask_every_question() -> None:
    assert [file.name for file in FILES] == ["demo.jsonl.gz", "week.jsonl.gz"]
    counts = Counter(line["ask"] for file in FILES for _, line in decisions(file))
    assert counts.keys() == QUESTIONS.keys()
    assert min(counts.values()) >= 30


def test_what_is_recorded_anew_is_explained_in_the_changelog() -> None:
    told = ", ".join(f"{file.name.split('.')[0]} {digest(file)}" for file in FILES)
    assert f"Recorded decisions: {told}" in CHANGELOG.read_text()
