"""`squareoff status`: one screen of what is held, what comes next, and who guards it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from squareoff.apps.completion_command import strategy_names
from squareoff.apps.strategies_command import Json
from squareoff.core.bad_input import BadInput

if TYPE_CHECKING:
    from squareoff.apps.status.picture import Picture, Viewer

HELP = """One screen: what is held and who guards it, what comes next, what became of today.

Those who need you first stand first: failed with something held, then holding, nearest to the stop-loss first, then
waiting by BUY time, then what is done today.

\b
Examples:
  squareoff status
  squareoff status morning
  squareoff status --watch
"""

FRAME_S = 1.0


def register(app: typer.Typer) -> None:
    app.command("status", help=HELP, short_help="What is held, what comes next, who guards it.")(_status)


def _status(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="Only this strategy; name or id.", show_default=False, autocompletion=strategy_names),
    ] = None,
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Draw it again each second, until Ctrl-C.")] = False,
) -> None:
    from squareoff.apps.formats import console, print_json
    from squareoff.apps.status.picture import Viewer
    from squareoff.apps.status.screen import document, view

    if watch and as_json:
        raise BadInput("--watch", "cannot be given together with --json", "leave out one of them")
    if watch and not sys.stdout.isatty():
        raise BadInput("--watch", "needs a terminal to draw on", "leave it out, or use --json again and again")
    viewer = Viewer.open(context.obj, name)
    try:
        if watch:
            _watch(viewer)
        elif as_json:
            print_json(document(viewer.look()))
        else:
            out = console()
            out.print(view(viewer.look(), width=out.width))
    finally:
        viewer.close()


def _watch(viewer: Viewer) -> None:
    from rich.live import Live

    from squareoff.apps.formats import console
    from squareoff.apps.status.screen import view

    out = console()
    try:
        with Live(console=out, auto_refresh=False, screen=True) as live:
            while True:
                picture, trouble = _look(viewer)
                live.update(trouble if picture is None else view(picture, width=out.width), refresh=True)
                time.sleep(FRAME_S)
    except KeyboardInterrupt:
        return


def _look(viewer: Viewer) -> tuple[Picture | None, str]:
    """Without a picture: why. An old one is never shown as if it were new."""
    from squareoff.errors import RecordsUnavailable

    try:
        return viewer.look(), ""
    except RecordsUnavailable as error:  # a database that is locked for a moment ends no watch
        return None, f"the records cannot be read now, it is tried again: {error}"
