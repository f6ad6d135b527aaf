"""The stage does not let a fault that never happened pass for one that was survived."""

from __future__ import annotations

import random
from pathlib import Path

from faults.stage import Setting, Stage


def test_a_fault_that_could_not_be_made_in_the_background_is_told(tmp_path: Path) -> None:
    stage = Stage(folder=tmp_path, setting=Setting(), dice=random.Random(1))

    def cannot() -> None:
        raise OSError("no lock to be had")

    stage.background(cannot)
    for thread in stage._threads:
        thread.join()
    assert stage.failures == ["in the background: OSError: no lock to be had"]


def test_the_points_that_a_worker_came_to_are_known(tmp_path: Path) -> None:
    stage = Stage(folder=tmp_path, setting=Setting(), dice=random.Random(1))
    assert stage.seen_points() == set()
    (tmp_path / "seen").write_text("records.save.before\nrecords.save.after\n")
    assert stage.seen_points() == {"records.save.before", "records.save.after"}
