"""The worker as it ships; with `--bug NAME`, with a mistake put into it on purpose (`faults.bugs`)."""

from __future__ import annotations

import sys

from squareoff.apps import worker


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--bug"]:
        from faults.bugs import BUGS

        BUGS[arguments[1]].plant()
        arguments = arguments[2:]
    return worker.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
