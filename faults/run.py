"""Every fault scenario with real processes, and a table of what came of it.

    make faults                                   each once
    make faults FAULTS="--repeat 20"              twenty times each, every time with other jitter
    make faults FAULTS="--only 3,34,x-"           some: ids, or the beginnings of ids that end with -
    make faults FAULTS="--database postgres"      with the records in PostgreSQL
    make faults FAULTS="--sweep --second machine"     a kill at every fault point, and another machine takes over
    make faults FAULTS="--redis /usr/bin/redis-server"    on another Redis
    make faults FAULTS="--bugs"                   with each mistake put in on purpose: which scenario catches it?

Exit status 0 only if every run kept every promise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from faults.bugs import BUGS
from faults.scenarios import Scenario, all_scenarios, pauses, sweep

GIVE_UP_S = 400.0
"""The harness' own, far beyond any bound of a scenario: fifty strategies take their time to be asked for."""
BUG_TRIES = 3


@dataclass(frozen=True, slots=True)
class Job:
    scenario: Scenario
    seed: int
    bug: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="make faults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="times each")
    parser.add_argument("--only", default="", metavar="IDS", help="ids with commas between; a- means all that begin so")
    parser.add_argument("--quick", action="store_true", help="those that make test runs")
    parser.add_argument("--sweep", action="store_true", help="a kill at every fault point, instead of the scenarios")
    parser.add_argument(
        "--pauses", action="store_true", help="two machines, and the first one stands still at every fault point"
    )
    parser.add_argument(
        "--bugs", action="store_true", help="each seeded bug against the scenarios that should catch it"
    )
    parser.add_argument("--list", action="store_true", help="show the scenarios and end")
    parser.add_argument("--redis", metavar="PROGRAM", help="start this redis-server or valkey-server instead of ours")
    parser.add_argument(
        "--second",
        choices=("standby", "machine"),
        help="another worker takes over, of the same folder or of another machine (which then is not started again)",
    )
    parser.add_argument("--database", choices=("sqlite", "postgres"), help="instead of each scenario's own")
    parser.add_argument("--jobs", type=int, default=max(1, os.cpu_count() or 1), help="at the same time")
    parser.add_argument("--seed", type=int, default=1, help="the first one; each further time takes the next")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the folders of failures here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here too")
    given = parser.parse_args(arguments)
    chosen = _chosen(given, sweep() if given.sweep else pauses() if given.pauses else all_scenarios())
    if not chosen:
        parser.error(f"no scenario is called {given.only!r}; --list shows them")
    if given.list:
        for each in chosen:
            print(f"{each.id:8} {each.title}")
        return 0
    if given.bugs:
        return _bugs(given)
    jobs = [Job(each, given.seed + turn) for turn in range(given.repeat) for each in chosen]
    results = _run_all(jobs, given)
    _table(chosen, results)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))
    failed = [each for each in results if each["problems"]]
    print(f"\n{len(results)} runs of {len(chosen)} scenarios, {len(failed)} failed")
    return 1 if failed else 0


def _chosen(given: argparse.Namespace, known: Sequence[Scenario]) -> list[Scenario]:
    wanted = [part.strip() for part in given.only.split(",") if part.strip()]
    return [
        each
        for each in known
        if (not given.quick or each.quick)
        and (not wanted or any(each.id == w or (w.endswith("-") and each.id.startswith(w[:-1])) for w in wanted))
    ]


def _run_all(jobs: Sequence[Job], given: argparse.Namespace) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    began_s = time.monotonic()
    root = Path(tempfile.mkdtemp(prefix="sq-"))
    try:
        with ThreadPoolExecutor(given.jobs) as pool:
            doing = {pool.submit(_run, job, root / f"{n}", given): job for n, job in enumerate(jobs)}
            for done in as_completed(doing):
                result = done.result()
                results.append(result)
                _progress(results, len(jobs), began_s, result)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return results


def _run(job: Job, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "faults.one", job.scenario.id, "--seed", str(job.seed), "--folder", str(folder)]
    command += ["--bug", job.bug] if job.bug else []
    command += ["--second", given.second] if given.second else []
    command += ["--database", given.database] if given.database else []
    command += ["--redis", str(Path(given.redis).resolve())] if given.redis else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIVE_UP_S, stdin=subprocess.DEVNULL)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        told = error if isinstance(error, subprocess.TimeoutExpired) else done.stderr[-2000:]
        problems = [f"the harness itself failed: {told}"]
        result = {"id": job.scenario.id, "seed": job.seed, "problems": problems, "outcome": "-"}
    result["bug"] = job.bug
    if result["problems"] and given.keep:
        given.keep.mkdir(parents=True, exist_ok=True)
        shutil.copytree(
            folder,
            given.keep / f"{job.scenario.id}-{job.seed}{job.bug}",
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("*.sock", "redis"),
        )
    shutil.rmtree(folder, ignore_errors=True)
    return result


def _progress(results: Sequence[dict[str, Any]], total: int, began_s: float, last: dict[str, Any]) -> None:
    took_s = time.monotonic() - began_s
    left_s = took_s / len(results) * (total - len(results))
    failed = sum(1 for each in results if each["problems"])
    line = f"{len(results)}/{total}  failed {failed}  about {left_s / 60:.0f} min left  last: {last['id']}"
    if last["problems"]:
        sys.stderr.write(f"\r\x1b[K{last['id']} (seed {last['seed']}{' ' + last['bug'] if last['bug'] else ''}):\n")
        for problem in last["problems"]:
            sys.stderr.write(f"    {problem}\n")
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{line}")
    elif len(results) % max(1, total // 10) == 0:  # into a log: now and then
        sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _table(chosen: Sequence[Scenario], results: Sequence[dict[str, Any]]) -> None:
    sys.stderr.write("\n")
    print(
        f"{'id':6} {'runs':>4} {'failed':>6} {'out, s':>13} {'bound':>6} {'ready again, s':>15}  ended; what was done"
    )
    for each in chosen:
        mine = [result for result in results if result["id"] == each.id]
        outs = sorted(r["out_s"] for r in mine if r.get("out_s") is not None)
        backs = sorted(r["takeover_s"] for r in mine if r.get("takeover_s") is not None)
        ends = ", ".join(sorted({r["outcome"] for r in mine}))
        failed = sum(1 for r in mine if r["problems"])
        bound = "" if each.expected.out_within_s is None else f"{each.expected.out_within_s:g}"
        figures = f"{len(mine):4} {failed:6} {_span(outs):>13} {bound:>6} {_span(backs):>15}"
        print(f"{each.id:17} {figures}  {ends}; {each.title}")


def _span(values: Sequence[float]) -> str:
    """The median and the longest."""
    return f"{median(values):.2f} / {values[-1]:.2f}" if values else "-"


def _bugs(given: argparse.Namespace) -> int:
    """Each mistake must be caught by one of its scenarios at least: else it is the harness that is wrong. Some show
    only if the moment is right: those not seen yet are tried with further seeds."""
    known = {each.id: each for each in all_scenarios()}
    results: list[dict[str, Any]] = []
    for turn in range(max(given.repeat, BUG_TRIES)):
        left = [bug for bug in BUGS.values() if not _caught(bug.name, results)]
        jobs = [Job(known[id_], given.seed + turn, bug.name) for bug in left for id_ in bug.caught_by]
        results += _run_all(jobs, given)
    sys.stderr.write("\n")
    print(f"{'seeded bug':24} {'caught by':28} {'tries':5} what it does")
    for bug in BUGS.values():
        tries = len({r["seed"] for r in results if r["bug"] == bug.name})
        print(f"{bug.name:24} {', '.join(_caught(bug.name, results)) or 'NOT CAUGHT':28} {tries:5} {bug.what}")
    missed = [bug for bug in BUGS.values() if not _caught(bug.name, results)]
    print(f"\n{len(BUGS)} seeded bugs, {len(missed)} not caught")
    return 1 if missed else 0


def _caught(name: str, results: Sequence[dict[str, Any]]) -> list[str]:
    """The scenarios that failed with this bug in the worker."""
    return sorted({r["id"] for r in results if r["bug"] == name and r["problems"]})


if __name__ == "__main__":
    sys.exit(main())
