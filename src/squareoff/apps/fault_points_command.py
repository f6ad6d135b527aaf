"""`squareoff fault-points`: the places where a test may let a worker die, stop, fail or be slow."""

from __future__ import annotations

from typing import Annotated

import typer

HELP = """List the fault points of the trading worker: for tests, not for trading.

\b
With one of them in the environment a worker suffers there what you say:
  SQUAREOFF_FAULT=records.save.after:1:kill          dies the first time it comes there
  SQUAREOFF_FAULT=runtime.claim.before:every:raise   Redis never answers a claim
Actions: kill, pause (until SIGCONT), raise, delay=SECONDS. docs/faults.md tells more.
"""


def register(app: typer.Typer) -> None:
    app.command("fault-points", help=HELP, short_help="For tests: where a worker can be broken.")(_list)


def _list(as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False) -> None:
    from squareoff.apps.formats import print_json
    from squareoff.faults import all_points

    if as_json:
        print_json(list(all_points()))
    else:
        typer.echo("\n".join(all_points()))
