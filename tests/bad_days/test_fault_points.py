"""Fault points: none is forgotten, none costs anything when nothing is asked for, and each does what it says."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
from faults.scenarios import all_scenarios, pauses, sweep

from squareoff import ports
from squareoff.core.bad_input import BadInput
from squareoff.errors import StoreUnavailable
from squareoff.faults import VARIABLE, FaultPoints, all_points, read_faults


class Store:
    """A runtime store that only releases."""

    def __init__(self) -> None:
        self.released = 0

    async def release(self) -> None:
        self.released += 1


def test_every_method_of_a_port_that_reaches_out_is_a_fault_point_before_and_after() -> None:
    methods = [name for name, value in vars(ports.Records).items() if inspect.isfunction(value) and name[0] != "_"]
    assert {f"records.{name}.{when}" for name in methods for when in ("before", "after")} <= set(all_points())


def test_every_fault_point_has_a_run_that_kills_there() -> None:
    """`make faults FAULTS=--sweep` runs them; a new boundary has its runs without anybody's doing."""
    killed_at = {each.setting.fault.split(":")[0] for each in sweep()}
    assert killed_at == set(all_points())


def test_every_fault_that_a_scenario_names_exists() -> None:
    for each in (*all_scenarios(), *sweep(), *pauses()):
        read_faults(each.setting.fault)
        read_faults(each.setting.fault_again)


def test_without_faults_nothing_is_wrapped() -> None:
    store = Store()
    assert FaultPoints().around("runtime", store) is store


async def test_a_failure_before_does_nothing_and_one_after_has_done_it() -> None:
    store = Store()
    points = FaultPoints(read_faults("runtime.release.before:1:raise;runtime.release.after:1:raise"))
    wrapped = points.around("runtime", store)
    with pytest.raises(StoreUnavailable):
        await wrapped.release()
    assert store.released == 0
    with pytest.raises(StoreUnavailable):
        await wrapped.release()
    assert store.released == 1
    await wrapped.release()
    assert store.released == 2


def test_kill_is_a_kill(tmp_path: object) -> None:
    code = (
        "from squareoff.faults import FaultPoints\n"
        "points = FaultPoints.from_environment()\n"
        "points.reach('gateway.marked'); print('once', flush=True)\n"
        "points.reach('gateway.marked'); print('never')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={VARIABLE: "gateway.marked:2:kill"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (-9, "once\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("records.save.after", "point:occurrence:action"),
        ("records.sav.after:1:kill", "`squareoff fault-points` lists them"),
        ("records.save.after:0:kill", "a number from 1, or every"),
        ("records.save.after:1:explode", "kill, pause, raise or delay=SECONDS"),
        ("records.save.after:1:delay", "kill, pause, raise or delay=SECONDS"),
    ],
)
def test_a_fault_that_cannot_be_read_says_how_to_write_it(text: str, says: str) -> None:
    with pytest.raises(BadInput, match="SQUAREOFF_FAULT") as told:
        read_faults(text)
    assert says in str(told.value)
