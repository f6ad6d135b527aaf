"""`squareoff link`: how to open the console."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.types import UserId

if TYPE_CHECKING:
    from squareoff.apps.up.supervisor import ConsoleSettings

ONLY_USER = UserId(1)
LINK_MINUTES = 10

HELP = f"""Print a link that opens the console of the running `squareoff up`.

It opens once, within {LINK_MINUTES} minutes, and only on this machine: whoever has it is you. The browser stays signed
in. With several users, or a password, you sign in by name and password, and there is no such link.
"""


def register(app: typer.Typer) -> None:
    app.command("link", help=HELP, short_help="Print a link that opens the console.")(_link)


def _link(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False
) -> None:
    from squareoff.apps.formats import print_json
    from squareoff.apps.up.supervisor import running

    config: Config = context.obj
    told = running(config)
    if told is None:
        raise BadInput("link", "`squareoff up` does not run here", "start it: it prints a link itself")
    if not (url := told.get("console_url")):
        raise BadInput("link", "`squareoff up` runs without its console", "start it without --no-console")
    link = opening(config, url)
    if as_json:
        print_json({"url": link})
    else:
        typer.echo(link)


def opening(config: Config, url: str) -> str:
    """The console's address, with a key that opens it once, or a word on how to sign in."""
    from squareoff import wiring

    with closing(wiring.access_store(config)) as access:
        if access.needs_password():
            return f"{url}   (sign in with name and password)"
        return f"{url}/#key={access.make_link(ONLY_USER, LINK_MINUTES)}"


def check_console(config: Config, console: ConsoleSettings) -> None:
    """Raises BadInput: others could reach it, and nothing would keep them out."""
    from squareoff import wiring
    from squareoff.apps.api.listening import is_loopback

    if (console.tls_cert is None) != (console.tls_key is None):
        raise BadInput("--tls-cert", "needs --tls-key, and that one needs it", "give both, or none")
    if is_loopback(console.host):
        return
    with closing(wiring.access_store(config)) as access:
        if not access.needs_password():
            wrong = f"{console.host} can be reached by others, and no user has a password"
            raise BadInput("--host", wrong, "choose one first: squareoff users password local")
