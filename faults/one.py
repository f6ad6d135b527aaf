"""One scenario, once: `python -m faults.one ID --seed N --folder DIR`. Prints its verdict as one line of JSON."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from faults.oracle import judge
from faults.scenarios import all_scenarios, pauses, sweep
from faults.stage import Stage, StageError
from squareoff.faults import read_faults


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="faults.one", description=__doc__)
    parser.add_argument("id")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bug", default="")
    parser.add_argument("--redis", default="", help="the program to start as Redis")
    parser.add_argument("--second", default="", help="standby or machine: with a second worker, though it has none")
    parser.add_argument("--database", default="", help="postgres: instead of the scenario's own")
    given = parser.parse_args(arguments)
    scenario = {each.id: each for each in (*all_scenarios(), *sweep(), *pauses())}[given.id]
    setting = scenario.setting
    if given.bug:
        setting = replace(setting, bug=given.bug)
    setting = replace(setting, redis_binary=given.redis)
    if given.second and not setting.second:
        alone = given.second == "machine"  # a machine that dies stays dead, and the other takes over
        setting = replace(setting, second=given.second, restarts=setting.restarts and not alone)
        setting = replace(setting, database="postgres" if alone else setting.database)
    if given.database:
        setting = replace(setting, database=given.database)
    began_s = time.monotonic()
    problems: list[str] = []
    outcome, out_s, takeover_s = "-", None, None
    with Stage(folder=given.folder, setting=setting, dice=random.Random(given.seed)) as stage:
        try:
            stage.asks_here = len(scenario.names) > 10
            for step in scenario.steps:
                step(stage)
        except StageError as error:
            problems.append(f"O3: {error}")
        _over(stage, scenario.names, scenario.within_s if not problems else 3.0, scenario.expected.stays_open)
        if stage.proxy is not None:
            problems += [f"the proxy never did {rule.does}" for rule in stage.proxy.unused() if scenario.must_reach]
        with suppress(OSError):  # a broker that is down at the end was killed after it all
            unused = stage.control()["unused"]
            problems += [f"the mischief {kind} never happened" for kind in unused if scenario.must_reach]
        verdict = judge(stage, scenario.expected, scenario.names)
        problems += verdict.problems + stage.failures
        planned = (*read_faults(setting.fault), *read_faults(setting.fault_second))
        wanted = {fault.point for fault in planned} if scenario.must_reach else set()
        problems += [f"the fault at {point} was never reached" for point in wanted - stage.seen_points()]
        outcome, out_s, takeover_s = verdict.outcome, verdict.out_s, verdict.takeover_s
        notes = stage.notes
    print(
        json.dumps(
            {
                "id": given.id,
                "seed": given.seed,
                "problems": problems,
                "outcome": outcome,
                "out_s": out_s,
                "takeover_s": takeover_s,
                "notes": notes,
                "seconds": round(time.monotonic() - began_s, 2),
            }
        )
    )
    return 1 if problems else 0


def _over(stage: Stage, names: Sequence[str], within_s: float, stays_open: bool) -> None:
    """Until the commands show every run over, or its outcome told where it stays open."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        runs = [run for name in names for run in stage.ask("show", name)["runs"]]
        if runs and all(run["closed"] or (stays_open and run["outcome"]) for run in runs):
            return
        time.sleep(0.3)


if __name__ == "__main__":
    sys.exit(main())
