"""`make model`: every state of the order protocol, over the rules that ship.

    make model                              the design as it is, at the bounds named in docs/model.md
    make model DESIGN=lock-only             a broken one: the shortest story of how it breaks a promise
    make model MODEL="--all"                every broken design: each must be caught
    make model MODEL="--faults 3 --machines 1 --safety"

Exit status 0 only if the design keeps every promise; with --all, only if each broken design was caught too.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.designs import DESIGNS, RULES, Design
from model.explore import Explored, explore
from model.protocol import ATTEMPTS, Protocol

BOUNDS = tuple(
    replace(RULES, machines=machines, faults=faults, lots=lots, with_user=with_user)
    for machines in (1, 2)
    for faults, lots, with_user in ((1, 2, True), (2, 1, False))
)
"""At which the design as it is is looked at whole."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    if options.all:
        return _all(options)
    design = DESIGNS[options.design]
    is_plain = design is RULES and options.faults is None and options.machines is None
    worst = 0
    rows = []
    for chosen in BOUNDS if is_plain else (_bounded(design, options),):
        found = _look(chosen, options, only=design.breaks)
        rows.append(_row(chosen, found))
        _tell(chosen, found, with_story=True)
        worst |= found.broken is not None or not found.is_whole
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return worst


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--design", choices=DESIGNS, default="rules", metavar="NAME", help=", ".join(DESIGNS))
    parser.add_argument("--all", action="store_true", help="every design; the broken ones must be caught")
    parser.add_argument("--faults", type=int, help="how many faults may happen; default: the design's own")
    parser.add_argument("--machines", type=int, choices=(1, 2), help="1: a file lock and one spool; 2: a lease in SQL")
    parser.add_argument("--lots", type=int, choices=(1, 2), help="1: nothing fills in part")
    parser.add_argument("--no-user", action="store_true", help="nobody asks for STOP")
    parser.add_argument("--only", default="", metavar="S2", help="look for this promise alone")
    parser.add_argument("--safety", action="store_true", help="do not ask for a way out of every state: less memory")
    parser.add_argument("--at-most", type=int, help="give up after so many states")
    parser.add_argument("--json", type=Path, help="write the counts here too")
    return parser.parse_args(argv)


def _bounded(design: Design, options: argparse.Namespace) -> Design:
    faults = design.faults if options.faults is None else options.faults
    lots = options.lots or design.lots
    with_user = design.with_user and not options.no_user
    return replace(design, faults=faults, machines=options.machines or design.machines, lots=lots, with_user=with_user)


def _look(design: Design, options: argparse.Namespace, only: str = "") -> Explored:
    def progress(states: int, waiting: int, seconds: float) -> None:
        text = f"{states} states, {waiting} of them to be looked at, {states / seconds:.0f} a second"
        print(
            f"\r{text:<90}" if sys.stderr.isatty() else text, end="" if sys.stderr.isatty() else "\n", file=sys.stderr
        )

    found = explore(
        Protocol(design),
        only=options.only or only,
        at_most=options.at_most,
        with_liveness=not options.safety,
        progress=progress,
    )
    if sys.stderr.isatty():
        print("\r" + " " * 90 + "\r", end="", file=sys.stderr)
    return found


def _row(design: Design, found: Explored) -> dict[str, Any]:
    return {
        "design": design.name,
        "faults": design.faults,
        "machines": design.machines,
        "states": found.states,
        "seconds": round(found.seconds, 1),
        "whole": found.is_whole,
        "broken": found.broken,
        "steps": len(found.story),
    }


def _tell(design: Design, found: Explored, *, with_story: bool) -> None:
    bounds = ((design.machines, "machine"), (design.faults, "fault"), (design.lots, "lot"))
    where = f"{design.name}: " + ", ".join(_many(count, word) for count, word in bounds)
    where += "" if design.with_user else ", no STOP"
    if found.broken is not None:
        what = f"{found.broken}; {len(found.story)} steps, {found.faults} faults"
    elif found.is_whole:
        what = "every promise kept" + ("" if found.stuck is None else ", and from every state a way to a closed run")
    else:
        what = "no promise broken so far, NOT WHOLE"
    print(f"{where:<58} {found.states:>9} states {found.seconds:7.1f} s  {what}", flush=True)
    if with_story and found.broken is not None:
        print(f"({design.what}; {design.lots} lots, up to {ATTEMPTS + design.faults} tries a side)")
        print("\n".join(found.story))
        print(f"    BROKEN: {found.broken}")


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _all(options: argparse.Namespace) -> int:
    wrong = []
    for design in DESIGNS.values():
        found = _look(design, options, only=design.breaks)
        _tell(design, found, with_story=False)
        is_caught = found.broken is not None and found.broken.startswith(design.breaks)
        if is_caught is not bool(design.breaks):
            wrong.append(design.name)
    if wrong:
        print(f"not as it must be: {', '.join(wrong)}")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
