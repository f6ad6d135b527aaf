"""`squareoff completion`: what a shell needs to complete our commands, their options and the names of strategies."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from squareoff.core.bad_input import BadInput

COMPLETE_VARIABLE = "_SQUAREOFF_COMPLETE"
"""Set by the script while the shell asks for words."""
SHELLS = ("bash", "zsh", "fish")

HELP = """Print a script that teaches your shell to complete squareoff's commands and the names of your strategies.

\b
bash, in ~/.bashrc:                      eval "$(squareoff completion bash)"
zsh, in ~/.zshrc:                        eval "$(squareoff completion zsh)"
fish, in ~/.config/fish/config.fish:     squareoff completion fish | source
"""

_ZSH_READY = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"
"""A zsh whose completion nobody has switched on has no `compdef`."""


def register(app: typer.Typer) -> None:
    app.command("completion", help=HELP, short_help="Print a script for your shell.")(_completion)


def _shells(incomplete: str) -> list[str]:
    return [shell for shell in SHELLS if shell.startswith(incomplete)]


def _completion(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="Your shell.", autocompletion=_shells)],
) -> None:
    from typer._completion_shared import get_completion_script

    if shell not in SHELLS:
        raise BadInput("completion", f"{shell[:30]!r} is not a shell squareoff knows", f"one of {', '.join(SHELLS)}")
    script = get_completion_script(prog_name="squareoff", complete_var=COMPLETE_VARIABLE, shell=shell)
    if shell == "zsh":
        first, _, rest = script.partition("\n")
        script = f"{first}\n{_ZSH_READY}\n{rest}"
    typer.echo(script)


def answer_the_shell() -> None:
    """Call it before the command line is read: `add_completion=False` leaves the shells' dialects out."""
    if COMPLETE_VARIABLE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()


def strategy_names(context: typer.Context, incomplete: str) -> list[str]:
    """Those of the data folder that the line names, without what stands there already. Never fails, makes nothing."""
    try:
        known = _names(context)
    except Exception:  # somebody is typing: no name is better than a traceback in the middle of the line
        return []
    given = context.params.get("names") or ()
    return [name for name in known if name.startswith(incomplete) and name not in given]


def _names(context: typer.Context) -> list[str]:
    from squareoff import wiring
    from squareoff.config import load_config

    options = context.find_root().params
    config = load_config(os.environ, data=options.get("data"), demo=bool(options.get("demo")))
    if not config.has_database:
        return []
    store = wiring.open_strategy_store(config)
    try:
        return [strategy.name for strategy in store.list()]
    finally:
        store.close()
