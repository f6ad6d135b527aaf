"""`squareoff metrics`: what the workers count, as Prometheus reads it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from squareoff.config import Config

HELP = """Show the figures of the workers of this data folder, in the text format of Prometheus.

A worker tells them once a second. docs/metrics.md says what each of them means and when to worry.
"""


def register(app: typer.Typer) -> None:
    app.command("metrics", help=HELP, short_help="The figures of the workers, for Prometheus.")(_show)


def _show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="What each worker told last, as JSON.")] = False,
) -> None:
    from squareoff.apps.formats import print_json
    from squareoff.apps.metrics import read_snapshots, render

    config: Config = context.obj
    if as_json:
        snapshots, ignored = read_snapshots(config.run_folder)
        told = [{**each.document, "age_s": round(each.age_s, 3)} for each in snapshots]
        print_json({"workers": told, "ignored": ignored})
    else:
        sys.stdout.write(render(config.run_folder).decode())
