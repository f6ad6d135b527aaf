"""The Chromium for the tests of the console: is there one, and if not, can it be installed here?

    python tools/chromium.py              says where it is
    python tools/chromium.py --install    installs Debian's where there is none, as root with apt

Without one those tests are skipped, with the reason. The exit status is 0 in every case: it must not keep the other
tests from running.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.console.desk import CHROMIUM_NAMES, CHROMIUM_VARIABLE, chromium

LONGEST_S = 600


def main() -> None:
    if (found := chromium()) is not None:
        print(f"Chromium: {found}")
        return
    if "--install" not in sys.argv[1:] or shutil.which("apt-get") is None or os.geteuid() != 0:
        print(f"no Chromium ({', '.join(CHROMIUM_NAMES)}): install one, or name one in ${CHROMIUM_VARIABLE}.")
        print("The tests of the console are skipped until then.")
        return
    print("no Chromium: installing Debian's", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium"]
    for command in (["apt-get", "update", "-q"], install):
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S)
        except subprocess.TimeoutExpired:
            print(f"`{' '.join(command)}` took longer than {LONGEST_S} s; the tests of the console are skipped")
            return
        if done.returncode and "install" in command:
            print(f"it could not be installed; the tests of the console are skipped:\n{done.stderr[-1000:]}")
    print(f"Chromium: {chromium() or 'none'}")


if __name__ == "__main__":
    main()
