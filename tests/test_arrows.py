"""List the folder, see the flow: who may import whom, and that the clock and the dice are read in one place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "squareoff"
MOVERS = {
    "engine",
    "chasing",
    "feeding",
    "gateway",
    "listener",
    "mornings",
    "precedence",
    "scheduler",
    "timekeeping",
    "recovery",
    "keepers",
    "leasing",
}
NEEDS = {"ports", "errors"}

CLOCK_AND_DICE = {
    "time": {"time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "sleep", "clock_gettime"},
    "datetime": {"now", "utcnow", "today"},
    "random": {"*"},
    "secrets": {"*"},
    "uuid": {"*"},
    "asyncio": {"sleep"},
}
READS_TIME = {
    "adapters/clock.py": "this is the place",
    "adapters/dice.py": "this is the other one",
    "adapters/redis/server.py": "deadlines of a server process: no trading time is involved",
    "adapters/redis/launcher.py": "a process of its own that only watches its parent",
    "adapters/lease.py": "draws the machine's id once",
    "adapters/brokers/paper/accounts.py": "draws an account's access token once",
    "adapters/sql/database.py": "draws the installation's id once",
    "adapters/sql/postgres.py": "asks again whether another process has ended: no trading time is involved",
    "adapters/sql/impatient.py": "how long a server says nothing: no trading time is involved",
    "adapters/alerts/": "threads that pause, and signs of life for people outside: no trading time is involved",
    "wiring/alerts.py": "a test alert bears the time of the person who asks for it",
    "faults.py": "waits where a test asks for a delay: nothing is decided by it",
    "simulation/": "a made-up world: its dice are seeded, and its loop's time moves when it is told to",
    "apps/": "people look at a real clock",
}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(SRC.rglob("*.py")):
        yield str(file.relative_to(SRC)), ast.parse(file.read_text(), str(file))


MODULES = list(modules())


def ours(tree: ast.Module) -> Iterator[str]:
    """The squareoff modules a file imports, wherever in it, as `core.run`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "squareoff":
            yield node.module.removeprefix("squareoff").lstrip(".")
        elif isinstance(node, ast.Import):
            for name in node.names:
                if name.name.split(".")[0] == "squareoff":
                    yield name.name.removeprefix("squareoff").lstrip(".")


def without_type_checking(tree: ast.Module) -> ast.Module:
    body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return ast.Module(body=body, type_ignores=[])


def test_core_imports_nothing_of_ours() -> None:
    wrong = [(file, m) for file, tree in MODULES if file.startswith("core/") for m in ours(tree)]
    assert [(file, m) for file, m in wrong if not m.startswith("core")] == []


def test_ports_and_errors_import_only_core() -> None:
    wrong = [(f, m) for f, tree in MODULES if Path(f).stem in NEEDS and "/" not in f for m in ours(tree)]
    assert [(f, m) for f, m in wrong if not m.startswith("core")] == []


def test_movers_import_core_ports_and_errors_never_each_other_or_an_adapter() -> None:
    wrong = [
        (file, module)
        for file, tree in MODULES
        if "/" not in file and Path(file).stem in MOVERS
        for module in ours(tree)
        if module.split(".")[0] not in {"core", *NEEDS}
    ]
    assert wrong == []


def vendor(module: str) -> str:
    """`adapters.brokers.paper.book` belongs to `brokers.paper`; `adapters.clock` to `clock`."""
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts and parts[0] == "brokers" else (parts[0] if parts else "")


SHARED_BY_ADAPTERS = {"paper_wire", "brokers.wire", "licence", "secrets"}
"""Message shapes and small parts that several adapters speak; they import no adapter themselves."""


def test_an_adapter_never_imports_another() -> None:
    wrong = []
    for file, tree in MODULES:
        if not file.startswith("adapters/") or file.endswith("__main__.py"):
            continue
        me = vendor(file.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
        for module in ours(tree):
            if module.startswith("adapters") and vendor(module) not in {me, *SHARED_BY_ADAPTERS}:
                if me == "feeds" and vendor(module) == "feeds":
                    continue
                wrong.append((file, module))
            elif not module.startswith(("adapters", "core")) and module not in NEEDS and module != "":
                wrong.append((file, module))
    assert wrong == []


@pytest.mark.parametrize("layer", ["core", "simulation", "apps"])
def test_only_wiring_picks_adapters(layer: str) -> None:
    """A name that only a type checker sees is no import."""
    above = ("adapters",) if layer == "apps" else ("adapters", "apps", "wiring")
    made_up = ("adapters.memory", "adapters.clock", "adapters.brokers.paper.book", "adapters.brokers.paper.mischief")
    wrong = [
        (file, module)
        for file, tree in MODULES
        if file.startswith(f"{layer}/")
        for module in ours(without_type_checking(tree))
        if module.startswith(above) and not (layer == "simulation" and module.startswith(made_up))
    ]
    assert wrong == []


def test_the_clock_and_the_dice_are_read_in_one_place() -> None:
    wrong = []
    for file, tree in MODULES:
        if any(file == place or (place.endswith("/") and file.startswith(place)) for place in READS_TIME):
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
                continue
            banned = CLOCK_AND_DICE.get(node.value.id, set())
            if node.attr in banned or "*" in banned:
                wrong.append(f"{file}:{node.lineno} {node.value.id}.{node.attr}")
        for module in ("random", "secrets", "uuid"):
            if any(isinstance(n, ast.Import) and any(a.name == module for a in n.names) for n in ast.walk(tree)):
                wrong.append(f"{file} imports {module}")
    assert wrong == []
