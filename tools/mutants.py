"""Mutation testing of the core: each small mistake in it must make a test fail.

    make mutants                                 every module of the list below, about an hour a thousand mutants
    make mutants MUTANTS="--only triggers"       some
    make mutants MUTANTS="--sample 20 --seed 3"  so many of each, drawn

A mutant is one changed comparison, `and` or `or`, `not`, sum, number, truth value, `max` or `min`, a dropped element of
a tuple, or a `return` of nothing. It is killed when a test of its module fails or does not end; else it survives, and
must be listed in `tests/core/survivors.txt` with the reason why nothing differs. Words are not mutated.

Each mutant runs in a fork of a process that has pytest but nothing of ours loaded. Exit status 0 only if every survivor
is listed. What is known already is kept in `.mutants.json` and not run again until a module or its tests change.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import importlib.abc
import importlib.util
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "squareoff" / "core"
KNOWN = ROOT / ".mutants.json"
LISTED = ROOT / "tests" / "core" / "survivors.txt"
TIMEOUT_S = 90
TESTS = {
    "triggers": ["tests/core/test_triggers.py", "tests/core/test_run.py", "tests/core/test_runtime_view.py"],
    "exits": ["tests/core/test_exits.py"],
    "ownership": ["tests/core", "tests/engine/test_one_symbol.py"],
    "machine": ["tests/core/test_machine.py", "tests/core/test_run.py", "tests/recorded"],
    "run": ["tests/core/test_run.py", "tests/core/test_triggers.py", "tests/recorded"],
    "orders": ["tests/core/test_orders.py", "tests/core/test_run.py"],
    "outcomes": ["tests/core/test_outcomes.py", "tests/core/test_run.py", "tests/recorded"],
}
"""Modules of the core, and what is run against each, the quickest first."""

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    module: str
    where: str
    """The function it is in."""
    line: int
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        return f"{self.module}.{self.where}: {self.before} -> {self.after}"


def mutants_of(module: str) -> Iterator[Mutant]:
    tree = ast.parse((CORE / f"{module}.py").read_text())
    seen: Counter[str] = Counter()
    for number, (node, where) in enumerate(_nodes(tree)):
        for which in range(8):
            changed = copy.deepcopy(tree)
            target = list(_nodes(changed))[number][0]
            before = ast.unparse(node)
            if not _change(target, which):
                break
            after = ast.unparse(target)
            if after == before:
                continue
            short_before, short_after = " ".join(before.split())[:80], " ".join(after.split())[:80]
            seen[f"{where}{short_before}{short_after}"] += 1
            count = seen[f"{where}{short_before}{short_after}"]
            label = short_after if count == 1 else f"{short_after} ({count})"
            yield Mutant(module, where, getattr(node, "lineno", 0), short_before, label, ast.unparse(changed))


def _nodes(tree: ast.AST, where: str = "module") -> Iterator[tuple[ast.AST, str]]:
    """All nodes in which something can be changed, with the function each is in."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            continue
        inside = child.name if isinstance(child, (ast.FunctionDef, ast.ClassDef)) else where
        if not _is_type_hint(tree, child):
            yield child, inside
            yield from _nodes(child, inside)


def _is_type_hint(parent: ast.AST, child: ast.AST) -> bool:
    hints = (getattr(parent, "annotation", None), getattr(parent, "returns", None))
    return any(child is hint for hint in hints if hint is not None)


def _change(node: ast.AST, which: int) -> bool:
    """Make the `which`-th mistake in `node`. False: there is no such."""
    if isinstance(node, ast.Compare) and which < len(node.ops):
        node.ops[which] = _COMPARE[type(node.ops[which])]()
    elif isinstance(node, ast.BoolOp) and which < 1 + len(node.values):
        if which:
            del node.values[which - 1]
            if len(node.values) == 1:
                node.values *= 2
        else:
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and not which:
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)) and not which:
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
    elif isinstance(node, ast.Constant) and not which and isinstance(node.value, (bool, int, float)):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.IfExp) and not which:
        node.body, node.orelse = node.orelse, node.body
    elif isinstance(node, ast.Tuple) and len(node.elts) > 1 and which < len(node.elts):
        del node.elts[which]
    elif isinstance(node, ast.Return) and node.value is not None and not which:
        node.value = ast.Constant(None)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("max", "min") and not which:
        node.func = ast.Name("min" if ast.unparse(node.func) == "max" else "max", ast.Load())
    else:
        return False
    return True


# ---------------------------------------------------------------------- running one


class _Loader(importlib.abc.Loader):
    def __init__(self, source: str) -> None:
        self._source = source

    def exec_module(self, module: Any) -> None:
        exec(compile(self._source, module.__name__, "exec"), module.__dict__)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._name, self._source = f"squareoff.core.{mutant.module}", mutant.source

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return importlib.util.spec_from_loader(fullname, _Loader(self._source)) if fullname == self._name else None


def is_killed(mutant: Mutant) -> bool:
    child = os.fork()
    if child == 0:
        import pytest

        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        sys.meta_path.insert(0, _Finder(mutant))
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
        try:
            code = int(pytest.main([*options, *TESTS[mutant.module]]))
        except BaseException:
            code = 1
        os._exit(code)
    until_s = time.monotonic() + TIMEOUT_S
    while time.monotonic() < until_s:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status != 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


# ---------------------------------------------------------------------- all of them


def listed() -> dict[str, str]:
    """Survivors that were looked at: `key | reason`."""
    lines = LISTED.read_text().splitlines() if LISTED.exists() else []
    pairs = (line.split(" | ", 1) for line in lines if " | " in line and not line.startswith("#"))
    return {key.strip(): reason.strip() for key, reason in pairs}


def _stamp(module: str) -> str:
    """Of the module and of what is run against it."""
    told = hashlib.sha256((CORE / f"{module}.py").read_bytes())
    for name in TESTS[module]:
        place = ROOT / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            told.update(file.read_bytes())
    return told.hexdigest()[:16]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="modules, with commas between")
    parser.add_argument("--sample", type=int, help="so many of each module, drawn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import pytest  # noqa: F401  (once, for all forks)

    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    known: dict[str, bool] = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    reasons, unlisted = listed(), list[Mutant]()
    for module in options.only.split(",") if options.only else TESTS:
        stamp, all_of_it = _stamp(module), list(mutants_of(module))
        if options.sample is not None:
            all_of_it = random.Random(options.seed).sample(all_of_it, min(options.sample, len(all_of_it)))
        unchanged = Mutant(module, "", 0, "", "", ast.unparse(ast.parse((CORE / f"{module}.py").read_text())))
        if is_killed(unchanged):
            parser.error(f"the tests of {module} fail without any mistake: {' '.join(TESTS[module])}")
        killed, survived, began_s = 0, list[Mutant](), time.monotonic()
        for number, mutant in enumerate(all_of_it, 1):
            name = f"{stamp} {mutant.key}"
            if name not in known:
                known[name] = is_killed(mutant)
                KNOWN.write_text(json.dumps(known))
            killed += known[name]
            if not known[name]:
                survived.append(mutant)
            left_s = (time.monotonic() - began_s) / number * (len(all_of_it) - number)
            text = f"{module}: {number}/{len(all_of_it)}, {len(survived)} survived, {left_s:.0f} s left"
            print(f"\r{text:<70}", end="", flush=True)
        new = [mutant for mutant in survived if mutant.key not in reasons]
        counts = f"{len(all_of_it):>4} mutants, {killed:>4} killed, {len(survived):>3} survived, {len(new)} not listed"
        print(f"\r{module:<12} {counts:<60}")
        for mutant in new:
            print(f"    line {mutant.line}: {mutant.key}")
        unlisted += new
    return bool(unlisted)


if __name__ == "__main__":
    sys.exit(main())
