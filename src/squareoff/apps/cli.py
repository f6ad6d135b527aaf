"""The console script `squareoff`: what every command shares, and how errors are told.

Exit status: 0 done; 1 squareoff could not do it now; 2 the input is wrong, nothing was done.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from squareoff.apps import (
    accounts_command,
    alerts_command,
    backup_command,
    completion_command,
    daily_command,
    doctor_command,
    instruments_command,
    metrics_command,
    status_command,
    strategies_command,
    users_command,
    why_command,
)
from squareoff.config import DATA_VARIABLE, REDIS_VARIABLE, Config, load_config
from squareoff.core.bad_input import BadInput

HELP = """Rule trading that keeps its word: bought once, sold once, out at the stop-loss.

\b
Add a strategy, start it, let it trade, and see what became of it:
  squareoff add morning NSE:INFY 50 --buy 09:20 --sell 15:10 --stop-loss 1.5%
  squareoff start morning
  squareoff up --market practice
  squareoff status
  squareoff why morning

\b
Try rules on recorded days first:
  squareoff replay --sample
"""

_NOT_DONE, _WRONG_INPUT = 1, 2


class _Commands(TyperGroup):
    """Every error a person can mend is one sentence on stderr; a traceback is always a bug of ours."""

    def main(self, *args: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False
        extra["prog_name"] = "squareoff"
        completion_command.answer_the_shell()
        sys.exit(_told(lambda: super(_Commands, self).main(*args, **extra)))


def _told(work: Callable[[], Any]) -> int:
    from squareoff.errors import SquareoffError

    try:
        status = work()
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except BrokenPipeError:  # `squareoff list | head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _NOT_DONE
    except typer.Abort:
        if not sys.stdin.isatty():
            sys.stderr.write("\n")  # after a question that nobody could answer
        return _say("nothing was changed", _NOT_DONE)
    except Exception as error:
        if isinstance(error, _wrong_input()):
            return _say(str(error), _WRONG_INPUT)
        if isinstance(error, SquareoffError):
            return _say(str(error), _NOT_DONE)
        if (format_message := getattr(error, "format_message", None)) is not None:  # the option parser's own
            return _say(f"{format_message()} See `squareoff --help`.", getattr(error, "exit_code", _WRONG_INPUT))
        raise


def _wrong_input() -> tuple[type[Exception], ...]:
    from squareoff.core.instruments import InstrumentFileError, UnknownSymbol
    from squareoff.core.session import CalendarFileError, LocalTimeError, NoMoreSessions, UnknownYear
    from squareoff.errors import RecordsUnavailable

    # a full disk and a locked database are mended by the person, and nothing was half done
    mendable = (RecordsUnavailable,)
    unknown = (UnknownSymbol, UnknownYear, NoMoreSessions)
    return (BadInput, CalendarFileError, InstrumentFileError, LocalTimeError, *unknown, *mendable)


def _say(sentence: str, status: int) -> int:
    from squareoff.apps.formats import plain

    sys.stderr.write(f"squareoff: {' '.join(plain(sentence).split())}\n")
    return status


app = typer.Typer(
    name="squareoff",
    cls=_Commands,
    help=HELP,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from squareoff import __version__

        typer.echo(f"squareoff {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _settings(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help=f"Data folder. Else ${DATA_VARIABLE}, else the usual place of your system.",
            show_default=False,
        ),
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Look at the data of the last demo.")] = False,
    redis_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Redis to use. Else ${REDIS_VARIABLE}, else the one that comes with squareoff.",
            show_default=False,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit
    context.obj = config = load_config(os.environ, data=data, demo=demo, redis_url=redis_url)
    if demo and context.invoked_subcommand != "demo":
        _check_demo_ran(config)


def _check_demo_ran(config: Config) -> None:
    if not config.sqlite_file.exists():
        raise BadInput("demo", f"there is no demo in {config.data}", "run `squareoff demo` first")


strategies_command.register(app)
daily_command.register(app)
status_command.register(app)
why_command.register(app)
instruments_command.register(app)
accounts_command.register(app)
users_command.register(app)
alerts_command.register(app)
doctor_command.register(app)
metrics_command.register(app)
backup_command.register(app)
completion_command.register(app)
for _module in (
    "squareoff.apps.replay_command",
    "squareoff.apps.demo_command",
    "squareoff.apps.up_command",
    "squareoff.apps.link_command",
    "squareoff.apps.kill_command",
    "squareoff.apps.edit_command",
    "squareoff.apps.fault_points_command",
):
    try:
        importlib.import_module(_module).register(app)
    except ModuleNotFoundError as error:
        if error.name != _module:
            raise


def main() -> None:
    app()
