"""Percentiles, medians over rounds, and what the machine did meanwhile."""

from __future__ import annotations

import os
import platform
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def quantile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def over_rounds(rounds: Sequence[float]) -> dict[str, float]:
    """Median of the rounds, and the least and the greatest of them."""
    return {"median": statistics.median(rounds), "least": min(rounds), "most": max(rounds)}


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Each round by the floor of the same round."""
    return over_rounds([a / b for a, b in zip(above, below, strict=True)])


def end_in_order_when_told() -> None:
    """SIGTERM (as `timeout` sends it) ends the bench as Ctrl-C does: with everything it started."""
    signal.signal(signal.SIGTERM, lambda number, stack: sys.exit(128 + number))


def load() -> float:
    """Processes wanting a core, over the last minute."""
    return os.getloadavg()[0]


def revision() -> str:
    """The commit that was measured, with "-dirty" if files were changed since; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return told.stdout.strip()


def machine() -> dict[str, Any]:
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    return {
        "cpu": name,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(load(), 2),
    }
