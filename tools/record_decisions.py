"""Keep the decisions of a demo and of a practice week in tests/recorded, for today's code to be asked again.

    python tools/record_decisions.py demo
    python tools/record_decisions.py week
    python tools/record_decisions.py digests      what CHANGELOG.md must name

Record again only when a decision was changed on purpose, and say in CHANGELOG.md which and why: a test asks for the
line "Recorded decisions: ..." with the new digests.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "tests" / "recorded"
PLAYS = {
    "demo": [sys.executable, "-m", "squareoff", "demo"],
    "week": [
        sys.executable,
        str(ROOT / "tools" / "soak.py"),
        "days",
        "--days",
        "5",
        "--speed",
        "3600",
        "--strategies",
        "6",
    ],
}


def digest(file: Path) -> str:
    """Of what is in it, however it was packed."""
    return hashlib.sha256(gzip.decompress(file.read_bytes())).hexdigest()[:12]


def record(name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "decisions"
        path = os.pathsep.join((str(ROOT / "tools" / "recording"), str(ROOT), str(ROOT / "src")))
        environment = {**os.environ, "SQUAREOFF_RECORD": str(lines), "PYTHONPATH": path}
        subprocess.run(PLAYS[name], env=environment, check=True, stdout=sys.stderr)
        kept = list(dict.fromkeys(lines.read_text().splitlines()))  # asked twice, answered alike: once is enough
    file = KEPT / f"{name}.jsonl.gz"
    file.write_bytes(gzip.compress(("\n".join(kept) + "\n").encode(), mtime=0))
    print(f"{file.name}: {len(kept)} decisions, {file.stat().st_size / 1000:.0f} kB, {digest(file)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=(*PLAYS, "digests"))
    what = parser.parse_args().what
    if what != "digests":
        record(what)
    print("Recorded decisions: " + ", ".join(f"{f.name.split('.')[0]} {digest(f)}" for f in sorted(KEPT.glob("*.gz"))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
