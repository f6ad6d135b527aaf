"""docs/test-cases.md: every test of the pure core as a numbered case, linked to the line that runs it.

The tests are collected by pytest. A cell of the state table without a test, or a line of the specification without
one, is an error.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from state_pages import GENERATED, cell_text, table

from squareoff.core.events import Event
from squareoff.core.machine import TABLE, State

FILES = ("test_machine.py", "test_run.py", "test_triggers.py", "test_orders.py")

# Numbers of states and events: only ever append, so that a case keeps its number.
STATE_NUMBERS = (
    *("created", "ready", "running", "bought", "sell_pending", "sl_pending", "stop_pending"),
    *("sold", "exited_by_sl", "failed", "stopped"),
)
EVENT_NUMBERS = (
    *("START", "BUY", "SELL", "STOPLOSS", "STOP", "RETRY", "SAFETY_ABORT"),
    *("HAND_OVER", "KILL", "SKIP", "ENTRY_EXPIRED", "SESSION_CLOSED"),
    *("ACCEPTED", "PART_FILLED", "FILLED", "UNFILLED", "CALLED_OFF", "REFUSED", "UNCONFIRMED", "NOT_FOUND"),
    *("LATE_FILL", "CLOSED_OUTSIDE", "LATE_ORDER"),
)

SPECIFICATION: dict[str, str] = {
    "3": "states and their timers",
    "4.1": "created + start → ready",
    "4.2": "ready + BUY time → bought",
    "4.3": "bought + STOPLOSS → exited_by_sl",
    "4.4": "bought + SELL time → sold",
    "4.5": "running + failure → failed",
    "4.6": "running + stop request → stopped",
    "4.7": "bought + stop request → stopped",
    "4.8": "sold + stop request → stopped",
    "4.9": "exited_by_sl + stop → stopped",
    "4.10": "failed + stop → stopped",
    "5.1a": "BUY: ready → bought, running → bought",
    "5.1b": "BUY needs position none",
    "5.1c": "BUY needs a valid broker token",
    "5.2a": "SELL: bought → sold",
    "5.2b": "SELL needs position bought",
    "5.3a": "STOPLOSS: price ≤ stop_loss, bought → exited_by_sl",
    "5.3b": "STOPLOSS needs position bought",
    "5.3c": "STOPLOSS cancels the SELL timer and logs the exit",
    "5.4a": "RETRY does not change the state; for BUY, SELL and SL failure",
    "5.4b": "retry #3 fails → failed",
    "5.5": "SAFETY_ABORT: running → failed on token, corruption, repeated failures, stuck lock, invalid transition",
    "5.6a": "STOP: any non-terminal state → stopped",
    "5.6b": "STOP deletes runtime, symbol grouping and timers",
    "7a": "STOPLOSS → sl_pending → exited_by_sl, before everything else",
    "7b": "the SELL timer is cancelled as soon as sl_pending is entered",
    "8": "ready → bought → exit → stopped",
    "9a": "terminal states have no outgoing transitions",
    "9b": "stopped → start → ready",
    "10.1": "no double BUY",
    "10.2": "no double SELL",
    "10.3": "STOPLOSS always overrides SELL",
    "10.4": "never stuck in an inconsistent state",
    "10.6": "after a restart the state is reconstructed",
}
"""The lines of STATE-MACHINE.md that the pure core keeps. Sections 6 and 10.5 (locks, Redis) are the engine's."""

_SPEC = re.compile(r"^Spec ([0-9a-z., ]+)")


@dataclass(frozen=True)
class Test:
    """One test function with the ids of its parametrised cases."""

    file: str
    name: str
    line: int
    lines_of_specification: tuple[str, ...]
    ids: tuple[str, ...]

    @property
    def sentence(self) -> str:
        words = self.name.removeprefix("test_").replace("_", " ")
        return words[0].upper() + words[1:]

    @property
    def link(self) -> str:
        return f"[{self.file}:{self.line}](../tests/core/{self.file}#L{self.line})"


def page(root: Path) -> str:
    tests = collect(root)
    parts = [
        GENERATED.format(source="tests/core/"),
        "# Test cases",
        "Every case below is run by the test it links to. "
        "`python -m pytest tests/core` runs all of them; one cell: "
        "`python -m pytest tests/core -k ready-BUY`.",
        "## The lines of the specification",
        "Each line of STATE-MACHINE.md that the pure core keeps, and the tests that hold it.",
        _specification(tests),
        "## The cells of the state table",
        "A case is numbered by its state and its event and keeps its number. What is expected is written by hand in "
        "[test_machine.py](../tests/core/test_machine.py) and checked under every combination of facts; the text "
        "beside it is what the [table](state-machine.md) says.",
        *_cells(tests),
        "## What is promised, sentence by sentence",
        "The names of all other tests. A number is how many variants of it are run.",
        *_sentences(tests),
    ]
    return "\n\n".join(parts) + "\n"


def collect(root: Path) -> list[Test]:
    """The tests of the core as pytest sees them, in the order of their files and lines."""

    class Collector:
        def __init__(self) -> None:
            self.items: list[pytest.Item] = []

        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            self.items = list(items)

    collector, said = Collector(), io.StringIO()
    # whoever imported a plugin's module before, for another page, does no harm to what is only collected
    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    arguments = ["--collect-only", "-q", *quiet, "-p", "no:cacheprovider", "--rootdir", str(root), "-c"]
    arguments += [str(root / "pyproject.toml"), *(str(root / "tests" / "core" / name) for name in FILES)]
    with contextlib.redirect_stdout(said):
        code = pytest.main(arguments, plugins=[collector])
    if code:
        raise SystemExit(f"the tests cannot be collected:\n{said.getvalue()}")
    cases: dict[Any, list[str]] = defaultdict(list)
    for item in collector.items:
        function = item.function  # type: ignore[attr-defined]
        bracket = item.name.partition("[")[2].removesuffix("]")
        cases[inspect.unwrap(function)].append(bracket)
    return sorted(
        (_test(function, ids) for function, ids in cases.items()), key=lambda test: (FILES.index(test.file), test.line)
    )


def _test(function: Any, ids: list[str]) -> Test:
    function = getattr(getattr(function, "hypothesis", None), "inner_test", function)
    lines, first = inspect.getsourcelines(function)
    line = first + next(number for number, text in enumerate(lines) if text.lstrip().startswith("def "))
    found = _SPEC.match(inspect.getdoc(function) or "")
    named = tuple(part.strip() for part in found.group(1).split(",")) if found else ()
    file = Path(inspect.getsourcefile(function) or "").name
    unknown = set(named) - set(SPECIFICATION)
    if unknown:
        raise SystemExit(f"{file}:{line}: no such line of the specification: {', '.join(sorted(unknown))}")
    return Test(file, function.__name__, line, named, tuple(ids))


def _specification(tests: list[Test]) -> str:
    rows, missing = [], []
    for number, text in SPECIFICATION.items():
        held = [f"{test.sentence} ({test.link})" for test in tests if number in test.lines_of_specification]
        if not held:
            missing.append(number)
        rows.append((f"SP-{number}", text, "<br>".join(held)))
    if missing:
        raise SystemExit(f"lines of the specification without a test: {', '.join(missing)}")
    return table(("case", "line", "held by"), rows)


def case_number(state: State, event: Event) -> str:
    """`TC-0203`: state 02, event 03."""
    return f"TC-{STATE_NUMBERS.index(state) + 1:02d}{EVENT_NUMBERS.index(event) + 1:02d}"


def _cells(tests: list[Test]) -> Iterator[str]:
    by_id = {case: test for test in tests for case in test.ids if test.file == "test_machine.py"}
    missing = [f"{state}-{event}" for state in State for event in Event if f"{state}-{event}" not in by_id]
    if missing:
        raise SystemExit(f"cells without a test: {', '.join(missing)}")
    for state in State:
        rows = [
            (
                case_number(state, event),
                f"`{state}-{event}`",
                cell_text(TABLE[state][event]),
                by_id[f"{state}-{event}"].link,
            )
            for event in Event
        ]
        yield f"### {state}"
        yield f"{by_id[f'{state}-{next(iter(Event))}'].sentence}."
        yield table(("case", "state-event", "what happens", "test"), rows)


def _sentences(tests: list[Test]) -> Iterator[str]:
    cell_ids = {f"{state}-{event}" for state in State for event in Event}
    for file in FILES:
        rows = [
            (test.sentence, str(len(test.ids)) if len(test.ids) > 1 else "", test.link)
            for test in tests
            if test.file == file and not cell_ids.intersection(test.ids)
        ]
        yield f"### {file}"
        yield table(("it is so that", "variants", "test"), rows)
