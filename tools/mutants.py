"""Break the code on purpose, one small change at a time: does a test notice?

    python tools/mutants.py [--only core/run.py] [--sample 100 --seed 1] [--fresh] [--match TEXT]

What no test notices is a survivor. Each is either killed by a new test or listed with its reason in
`tools/mutants_reviewed.toml`; one that is not listed makes the exit status 1. See docs/mutation.md.

How it is fast: the tests are collected once, and every mutant is a fork in which one function's code is swapped; only
tests that ran the changed line are run, the ones that killed its neighbours first. What is made by importing a module
(the state table) needs a fork from before the import, and the tests of a short list of files.
"""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import pytest
from mutations import Mutant, members, mutants_of

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "squareoff"
STATE = ROOT / ".mutants"
REVIEWED = ROOT / "tools" / "mutants_reviewed.toml"
MODULES = (
    *("core/machine.py", "core/run.py", "core/orders.py", "core/outcomes.py", "core/triggers.py", "core/exits.py"),
    *("core/ownership.py", "core/board.py", "adapters/licence.py", "core/timekeeping.py", "core/limits.py"),
    *("core/plausible.py", "core/edit.py", "core/session.py", "core/strategy.py", "core/types.py", "core/events.py"),
    *("core/values.py", "core/repeat.py", "core/instruments.py", "core/preflight.py", "core/definition.py"),
    "core/runtime_view.py",
)
QUICK = ("tests/core", "tests/adapters/test_licence.py")
TESTS = (*QUICK, "tests/engine", "tests/contracts/test_records.py")
AT_IMPORT = ("test_machine.py", "test_triggers.py", "test_run.py", "test_orders.py", "test_runtime_view.py", "")
"""What of `tests/core` is tried on a mutant of a table or a default, in this order, after the tests of its module."""
NO_SERVERS = "not postgresql and not redis"
KILLED, SURVIVED, TIMEOUT = "killed", "survived", "timeout"
Job = tuple[Mutant, ast.Module]
Result = tuple[str, str]
"""What became of a mutant, and the test that killed it."""


@dataclass(frozen=True, kw_only=True)
class How:
    budget_s: float
    quick: bool


# ------------------------------------------------------------------ what is known from the last time


def digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(files):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:16]


class Memory:
    """Results by mutant. One that was killed stays killed while its module is the same; a survivor is tried again as
    soon as any test or source differs, or more tests are asked."""

    def __init__(self, *, fresh: bool, quick: bool) -> None:
        STATE.mkdir(exist_ok=True)
        self._file = STATE / "results.jsonl"
        self._all = digest([*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]) + quick * " quick"
        self._texts = {module: digest([SOURCE / module]) for module in MODULES}
        self._known: dict[tuple[str, ...], tuple[str, str, Result]] = {}
        if fresh:
            self._file.unlink(missing_ok=True)
        self.read()

    def read(self) -> None:
        if self._file.exists():
            for line in self._file.read_text().splitlines():
                row = json.loads(line)
                self._known[tuple(row["key"])] = (row["text"], row["all"], (row["result"], row["by"]))

    def get(self, mutant: Mutant) -> Result | None:
        text, everything, result = self._known.get(mutant.key, ("", "", (SURVIVED, "")))
        same = (
            everything in (self._all, self._all.removesuffix(" quick"))
            if result[0] == SURVIVED
            else text == self._texts[mutant.module]
        )
        return result if same else None

    def put(self, mutant: Mutant, result: Result) -> None:
        text = self._texts[mutant.module]
        row = {"key": mutant.key, "text": text, "all": self._all, "result": result[0], "by": result[1]}
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")


def reviewed() -> dict[tuple[str, str, str, str], str]:
    """The survivors that were looked at, each with its reason."""
    if not REVIEWED.exists():
        return {}
    found = {}
    for entry in tomllib.loads(REVIEWED.read_text())["survivor"]:
        for mutation in entry["mutations"]:
            found[entry["module"], entry["function"], entry["line"], mutation] = entry["reason"]
    return found


# ------------------------------------------------------------------ one mutant, in a process of its own


def in_a_fork(work: Callable[[Callable[[str], None]], None], timeout_s: float) -> Result:
    """Run `work` in a fork without output. It calls what it is given with the name of a test that failed."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)

        def failed(test: str) -> None:
            os.write(writing, test.encode()[:4000])
            os._exit(1)

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(timeout_s) + 1)
        try:
            work(failed)
        except BaseException as error:
            failed(f"{type(error).__name__} outside the tests")
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        by = pipe.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGALRM:
        return TIMEOUT, by
    return (SURVIVED, "") if status == 0 else (KILLED, by)


def changed_code(mutant: Mutant, tree: ast.Module) -> CodeType:
    before = getattr(mutant.parent, mutant.field)
    setattr(mutant.parent, mutant.field, mutant.value)
    try:
        return compile(tree, str(SOURCE / mutant.module), "exec")
    finally:
        setattr(mutant.parent, mutant.field, before)


def codes(code: CodeType) -> Iterator[CodeType]:
    """The code objects of functions, whatever class they are in; not of what is inside a function."""
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            if inner.co_flags & 0x2:  # CO_NEWLOCALS: a function, not the body of a class
                yield inner
            else:
                yield from codes(inner)


class OneFails:
    """A plugin: the first failure ends it."""

    def __init__(self, failed: Callable[[str], None], seconds: float) -> None:
        self._failed, self._until = failed, time.monotonic() + seconds

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self._failed(report.nodeid)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._failed(f"{report.nodeid} (import)")

    def pytest_runtest_logfinish(self) -> None:
        if time.monotonic() > self._until:
            os._exit(0)


class FromSource(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from code that is at hand."""

    def __init__(self, module: str, code: CodeType) -> None:
        self._name = "squareoff." + module.removesuffix(".py").replace("/", ".")
        self._code = code

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: Any) -> None:
        exec(self._code, module.__dict__)


def pytest_arguments(folder: str) -> list[str]:
    quiet = ["-q", "-s", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header", "--no-summary"]
    quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return [*quiet, f"--basetemp={folder}", "--rootdir", str(ROOT), "-k", NO_SERVERS]


def without_dice() -> None:
    """The same examples each time: a mutant does not survive by luck."""
    from hypothesis import settings

    settings.register_profile("mutants", derandomize=True, database=None)
    settings.load_profile("mutants")


def try_at_import(mutant: Mutant, code: CodeType, how: How) -> Result:
    own = f"test_{Path(mutant.module).name}"
    parts = dict.fromkeys(f"tests/core/{part}" for part in (own, *AT_IMPORT))

    def work(failed: Callable[[str], None]) -> None:
        sys.meta_path.insert(0, FromSource(mutant.module, code))
        without_dice()
        plugin = OneFails(failed, 5 * how.budget_s)  # importing and collecting take their time too
        with tempfile.TemporaryDirectory() as folder:
            for number, part in enumerate([*parts] if how.quick else [*parts, "tests/engine"]):
                if (ROOT / part).exists():
                    pytest.main([*pytest_arguments(f"{folder}/{number}"), str(ROOT / part)], plugins=[plugin])

    return in_a_fork(work, timeout_s=60 + 10 * how.budget_s)


class Collected:
    """A plugin: once the tests are collected, asks them about one mutant after the other."""

    def __init__(self, report: Report, jobs: list[Job], how: How) -> None:
        self._report, self._jobs, self._how = report, jobs, how
        self._kills: Counter[tuple[str, str]] = Counter()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self._items = {item.nodeid: item for item in session.items}
        self._lines = self._known_lines()
        self._functions: dict[tuple[str, str, int], list[FunctionType]] = {}
        for thing in gc.get_objects():
            if isinstance(thing, FunctionType) and thing.__code__.co_filename.startswith(str(SOURCE)):
                code = thing.__code__
                place = (code.co_filename, code.co_qualname, code.co_firstlineno)
                self._functions.setdefault(place, []).append(thing)
        gc.freeze()
        for mutant, tree in self._jobs:
            self._report.add(mutant, self._try(mutant, tree))
        return True

    def _try(self, mutant: Mutant, tree: ast.Module) -> Result:
        code = changed_code(mutant, tree)
        first, last = mutant.lines
        file = mutant.module

        def rank(test: str) -> tuple[int, bool, float]:
            return -self._kills[mutant.function, test], not test.startswith("tests/core"), self._lines[test][1]

        concerned = [
            test for test in self._items if any(first <= line <= last for line in self._lines[test][0].get(file, ()))
        ]
        concerned.sort(key=rank)

        def work(failed: Callable[[str], None]) -> None:
            self._swap(code, mutant)
            plugin = OneFails(failed, self._how.budget_s)
            items = [self._items[test] for test in concerned]
            items[0].session.config.pluginmanager.register(plugin)
            for item, following in zip(items, [*items[1:], None], strict=True):
                signal.alarm(int(20 * self._lines[item.nodeid][1]) + 10)
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)

        if not concerned:
            return SURVIVED, ""
        result = in_a_fork(work, timeout_s=self._how.budget_s)
        if result[0] == KILLED:
            self._kills[mutant.function, result[1]] += 1
        return result

    def _swap(self, code: CodeType, mutant: Mutant) -> None:
        swapped = 0
        for new in codes(code):
            for function in self._functions.get((new.co_filename, new.co_qualname, new.co_firstlineno), ()):
                if function.__code__ != new:
                    function.__code__ = new
                    swapped += 1
        if not swapped:
            raise LookupError(mutant.key)

    # -------------------------------------------------------------- which test runs which line

    def _known_lines(self) -> dict[str, tuple[dict[str, list[int]], float]]:
        """Of each test: the lines it runs, by module, and its seconds. Measured once for the same code."""
        file = STATE / "lines.json"
        common = digest([*SOURCE.rglob("*.py"), *(f for f in (ROOT / "tests").rglob("*.py") if "test_" not in f.name)])
        known = json.loads(file.read_text()) if file.exists() else {}
        by_file: dict[str, list[Any]] = {}
        for item in self._items.values():
            by_file.setdefault(str(item.path.relative_to(ROOT)), []).append(item)
        for name, items in by_file.items():
            mark = common + digest([ROOT / name])
            if known.get(name, {}).get("mark") != mark:
                print(f"  which lines does {name} run?", file=sys.stderr, flush=True)
                known[name] = {"mark": mark, "tests": self._measured(items)}
                file.write_text(json.dumps(known))
        return {test: tuple(told) for part in known.values() for test, told in part["tests"].items()}  # type: ignore[misc]

    def _measured(self, items: list[Any]) -> dict[str, Any]:
        answer = STATE / "measured.json"

        def work(failed: Callable[[str], None]) -> None:
            items[0].session.config.pluginmanager.register(OneFails(failed, seconds=1e9))
            told: dict[str, Any] = {}
            for item, following in zip(items, [*items[1:], None], strict=True):
                signal.alarm(300)
                ran: dict[str, set[int]] = {}
                began = time.monotonic()
                sys.settrace(tracer(ran))
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
                sys.settrace(None)
                told[item.nodeid] = ({name: sorted(lines) for name, lines in ran.items()}, time.monotonic() - began)
            answer.write_text(json.dumps(told))

        result, by = in_a_fork(work, timeout_s=300)
        if result != SURVIVED:
            raise SystemExit(f"the tests have to pass before anything is broken on purpose: {result} {by}")
        measured: dict[str, Any] = json.loads(answer.read_text())
        return measured


def tracer(ran: dict[str, set[int]]) -> Any:
    of_file: dict[str, set[int] | None] = {}
    names = {str(SOURCE / module): module for module in MODULES}

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if file not in of_file:
            of_file[file] = ran.setdefault(names[file], set()) if file in names else None
        lines = of_file[file]
        if lines is None:
            return None

        def on_line(frame: FrameType, event: str, argument: Any) -> Any:
            lines.add(frame.f_lineno)
            return on_line

        lines.add(frame.f_lineno)
        return on_line

    return on_call


# ------------------------------------------------------------------ all of them


class Report:
    def __init__(self, memory: Memory, total: int) -> None:
        self._memory, self._total, self._began = memory, total, time.monotonic()
        self.results: dict[tuple[str, str, str, str], Result] = {}
        self._fresh = 0

    def reload(self) -> None:
        """What a child has found."""
        self._memory.read()

    def known(self, mutant: Mutant) -> bool:
        if (result := self._memory.get(mutant)) is not None:
            self.results[mutant.key] = result
        return result is not None

    def add(self, mutant: Mutant, result: Result) -> None:
        self.results[mutant.key] = result
        self._memory.put(mutant, result)
        self._fresh += 1
        if result[0] == SURVIVED:
            print(
                f"  survived: {mutant.module} {mutant.function}: {mutant.line}\n            {mutant.mutation}",
                flush=True,
            )
        if self._fresh % 25 == 0 or len(self.results) == self._total:
            left = self._total - len(self.results)
            eta_s = (time.monotonic() - self._began) / self._fresh * left
            print(f"{len(self.results)}/{self._total}, about {eta_s / 60:.0f} min left", file=sys.stderr, flush=True)


def run(jobs: list[Job], report: Report, how: How) -> None:
    left = [(mutant, tree) for mutant, tree in jobs if not report.known(mutant)]
    for mutant, tree in left:
        if mutant.at_import:
            report.add(mutant, try_at_import(mutant, changed_code(mutant, tree), how))
    if in_functions := [(mutant, tree) for mutant, tree in left if not mutant.at_import]:
        without_parent_imports(in_functions, report, how)


def without_parent_imports(jobs: list[Job], report: Report, how: How) -> None:
    """In a child, so that this process stays one that has imported nothing of ours."""
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        without_dice()
        with tempfile.TemporaryDirectory() as folder:
            tests = [str(ROOT / test) for test in (QUICK if how.quick else TESTS)]
            status = pytest.main([*pytest_arguments(folder), *tests], plugins=[Collected(report, jobs, how)])
        sys.stdout.flush()
        os._exit(int(status))
    if status := os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]):
        raise SystemExit(f"the tests could not be asked: pytest ended with {status}")
    report.reload()
    for mutant, _ in jobs:
        report.known(mutant)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--only", nargs="*", choices=MODULES, default=MODULES, metavar="MODULE", help="such as core/run.py"
    )
    parser.add_argument("--match", default="", help="only mutants whose function, line or mutation has this text")
    parser.add_argument("--sample", type=int, help="so many of them, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--budget", type=float, default=10.0, help="a mutant that lived through so many seconds of tests has survived"
    )
    parser.add_argument("--quick", action="store_true", help="ask only the tests of core, not those of the engine")
    parser.add_argument("--fresh", action="store_true", help="believe no result of an earlier time")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT / "src"), str(ROOT)]
    sys.dont_write_bytecode = True
    for heavy in ("aiohttp", "hypothesis", "msgspec", "redis", "rich", "sqlalchemy", "typer"):
        importlib.import_module(heavy)  # once here, not in every fork

    enums = members(SOURCE / "core")
    jobs = []
    for module in chosen.only:
        text = (SOURCE / module).read_text()
        tree = ast.parse(text)
        jobs += [(mutant, tree) for mutant in mutants_of(module, tree, text, enums)]
    jobs = [job for job in jobs if chosen.match in "\n".join(job[0].key)]
    if chosen.sample is not None:
        jobs = random.Random(chosen.seed).sample(jobs, min(chosen.sample, len(jobs)))
    how = How(budget_s=chosen.budget, quick=chosen.quick)
    report = Report(Memory(fresh=chosen.fresh, quick=chosen.quick), len(jobs))
    run(jobs, report, how)
    return summary([mutant for mutant, _ in jobs], report.results, whole=chosen.sample is None and not chosen.match)


def summary(mutants: list[Mutant], results: dict[tuple[str, str, str, str], Result], *, whole: bool) -> int:
    listed = reviewed()
    print(f"\n{'module':24}{'mutants':>9}{'killed':>9}{'timeout':>9}{'reviewed':>10}{'survived':>10}")
    totals: Counter[str] = Counter()
    new = []
    for module in dict.fromkeys(mutant.module for mutant in mutants):
        count: Counter[str] = Counter()
        for mutant in mutants:
            if mutant.module == module:
                result = results[mutant.key][0]
                if result == SURVIVED and mutant.key in listed:
                    result = "reviewed"
                elif result == SURVIVED:
                    new.append(mutant)
                count[result] += 1
        row(module, count)
        totals += count
    row("together", totals)
    for mutant in new:
        print(f"\n{mutant.module} {mutant.function}, line {mutant.lines[0]}\n    {mutant.line}\n    {mutant.mutation}")
    modules = {mutant.module for mutant in mutants}
    stale = (
        [key for key in listed if key[0] in modules and results.get(key, (KILLED, ""))[0] != SURVIVED] if whole else []
    )
    for key in stale:
        print("\nlisted as a survivor, but killed or gone:", *key, sep="\n    ")
    return 1 if new or stale else 0


def row(name: str, count: Counter[str]) -> None:
    print(f"{name:24}{count.total():9}{count[KILLED]:9}{count[TIMEOUT]:9}{count['reviewed']:10}{count[SURVIVED]:10}")


if __name__ == "__main__":
    sys.exit(main())
