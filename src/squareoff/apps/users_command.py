"""`squareoff users`, `tokens` and `secrets`: who may use this installation from outside, and what it keeps to itself.

Whoever can run this command on the data folder may do everything anyway; what was done is in the audit log.
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from squareoff.core.access import Role, Scope, User, check_password, user_name
from squareoff.core.bad_input import BadInput

if TYPE_CHECKING:
    from squareoff.adapters.sql.access import AccessStore
    from squareoff.adapters.sql.secrets import SecretStore
    from squareoff.config import Config
    from squareoff.core.access import Token
    from squareoff.core.types import UserId

USERS_HELP = """Who may sign in. There is one user from the start, called local: an admin.

Each user has accounts and strategies of their own and sees nobody else's. An admin also manages users.

\b
Examples:
  squareoff users
  squareoff users add asha
  squareoff users password local
  squareoff users disable asha
"""

TOKENS_HELP = """Keys for programs. Each is shown once, when it is made, and can be revoked at any time.

\b
  --scope read    looks
  --scope trade   also starts, stops and edits strategies, and presses the kill switch
  --scope admin   whatever its user may

\b
Examples:
  squareoff tokens add "the spreadsheet" --scope read --days 90
  squareoff tokens
  squareoff tokens revoke 3
"""

SECRETS_HELP = """Secrets that squareoff keeps for you, encrypted.

The key is in the file secrets.key of the data folder. Keep a copy of it: a backup does not hold it, and nothing else
opens the secrets.

\b
Examples:
  squareoff secrets
  squareoff secrets set channel:ops:url
  squareoff secrets rotate
"""

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
FromStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input, its first line.")
]
OfUser = Annotated[str, typer.Option("--user", metavar="NAME", help="Whose.")]
Name = Annotated[str, typer.Argument(help="Name of the user.")]


def register(app: typer.Typer) -> None:
    users = typer.Typer(no_args_is_help=False)
    users.callback(invoke_without_command=True, help=USERS_HELP)(_users)
    users.command("add", help="Add a user. The password is asked for twice.")(_add)
    users.command("password", help="Give a user a new password. It ends all their sessions.")(_password)
    users.command("role", help="Make a user an admin, or a trader.")(_role)
    users.command("disable", help="End all sessions and tokens of a user, and let them in no more.")(_disable)
    users.command("enable", help="Let a user in again, with the password they had.")(_enable)
    app.add_typer(users, name="users")
    tokens = typer.Typer(no_args_is_help=False)
    tokens.callback(invoke_without_command=True, help=TOKENS_HELP)(_tokens)
    tokens.command("add", help="Make a token. It is shown this once.")(_add_token)
    tokens.command("revoke", help="From now on it opens nothing.")(_revoke)
    app.add_typer(tokens, name="tokens")
    secrets = typer.Typer(no_args_is_help=False)
    secrets.callback(invoke_without_command=True, help=SECRETS_HELP)(_secrets)
    secrets.command("list", help="Their names, never what they say.")(_list_secrets)
    secrets.command("set", help="Set a secret, or set it anew. It is asked for without echo.")(_set_secret)
    secrets.command("rm", help="Forget a secret.")(_remove_secret)
    secrets.command("rotate", help="Make a new key, and encrypt every secret anew with it.")(_rotate)
    app.add_typer(secrets, name="secrets")


# ------------------------------------------------------------------ users


def _users(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from squareoff.apps.formats import print_json

    with _access(context.obj) as store:
        known = store.users()
    if as_json:
        print_json([_user_row(user) for user in known])
        return
    _print(
        ("user", "role", "password", "state"),
        [(u.name, u.role, "yes" if u.has_password else "none", "disabled" if u.disabled else "enabled") for u in known],
    )


def _user_row(user: User) -> dict[str, object]:
    return {
        "id": user.id,
        "name": user.name,
        "role": user.role,
        "has_password": user.has_password,
        "disabled": user.disabled,
    }


def _add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Yours to choose.")],
    role: Annotated[Role, typer.Option(help="An admin also manages users.")] = Role.TRADER,
    password_stdin: FromStdin = False,
) -> None:
    user_name(name)  # before a password is typed for nothing
    with _access(context.obj) as store:
        if name.lower() in (known.name.lower() for known in store.users()):
            raise BadInput("name", f"there is a user {name!r} already", "see `squareoff users`")
        made = store.add_user(name, _new_password(name, from_stdin=password_stdin), role)
        _note(store, "user added", made.name, f"role {role}")
    typer.echo(f"added {made.name} ({role})")


def _password(context: typer.Context, name: Name, password_stdin: FromStdin = False) -> None:
    with _access(context.obj) as store:
        user = store.user_named(name)
        store.change_user(user.id, password=_new_password(user.name, from_stdin=password_stdin))
        _note(store, "password changed", user.name)
    typer.echo(f"{user.name} has a new password; every session of theirs has ended")


def _role(context: typer.Context, name: Name, role: Annotated[Role, typer.Argument()]) -> None:
    with _access(context.obj) as store:
        user = store.change_user(store.user_named(name).id, role=role)
        _note(store, "role changed", user.name, f"role {role}")
    typer.echo(f"{user.name} is now {'an admin' if role is Role.ADMIN else 'a trader'}")


def _disable(context: typer.Context, name: Name) -> None:
    with _access(context.obj) as store:
        user = store.change_user(store.user_named(name).id, disabled=True)
        _note(store, "user disabled", user.name)
    typer.echo(f"{user.name} is disabled: their sessions and tokens have ended")
    typer.echo("What they have started goes on trading: `squareoff kill` stops an account.")


def _enable(context: typer.Context, name: Name) -> None:
    with _access(context.obj) as store:
        user = store.change_user(store.user_named(name).id, disabled=False)
        _note(store, "user enabled", user.name)
    typer.echo(f"{user.name} may sign in again; tokens they had stay revoked")


# ------------------------------------------------------------------ tokens


def _tokens(context: typer.Context, user: OfUser = "local", as_json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from squareoff import wiring
    from squareoff.apps.formats import print_json

    with _access(context.obj) as store:
        known = store.tokens(store.user_named(user).id)
    if as_json:
        fields = ("id", "name", "scope", "created_at", "last_used_at", "expires_at", "revoked_at")
        print_json([{field: _in_json(getattr(token, field)) for field in fields} for token in known])
        return
    now = wiring.now_real()
    headings = ("id", "name", "scope", "made", "last used", "state")
    _print(headings, [_token_row(token, now) for token in known])


def _in_json(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _token_row(token: Token, now: datetime) -> tuple[str, ...]:
    if token.revoked_at is not None:
        state = "revoked"
    elif token.expires_at is None:
        state = "valid until revoked"
    else:
        state = f"{'expired' if token.expires_at <= now else 'valid until'} {_when(token.expires_at)}"
    used = "never" if token.last_used_at is None else _when(token.last_used_at)
    return str(token.id), token.name, token.scope, _when(token.created_at), used, state


def _add_token(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: Annotated[Scope, typer.Option(help="How far it reaches.")],
    days: Annotated[int | None, typer.Option(metavar="N", help="How long it is valid. [until revoked]")] = None,
    user: OfUser = "local",
    as_json: Json = False,
) -> None:
    from squareoff.apps.formats import print_json

    with _access(context.obj) as store:
        token, secret = store.make_token(store.user_named(user).id, name, scope, days)
        _note(store, "token made", f"{user}: {token.id}", f"{name}, scope {scope}")
    if as_json:
        print_json({"id": token.id, "name": name, "scope": scope, "token": secret})
        return
    typer.echo(secret)
    typer.echo(f"This is token {token.id} of {user}. It is not shown again: copy it now.", err=True)


def _revoke(
    context: typer.Context, token: Annotated[int, typer.Argument(metavar="ID")], user: OfUser = "local"
) -> None:
    with _access(context.obj) as store:
        store.revoke(store.user_named(user).id, token)
        _note(store, "token revoked", f"{user}: {token}")
    typer.echo(f"token {token} of {user} is revoked")


# ------------------------------------------------------------------ secrets


def _secrets(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        _list_secrets(context)


def _list_secrets(context: typer.Context, as_json: Json = False) -> None:
    from squareoff.apps.formats import print_json

    with _secret_store(context.obj) as store:
        known = store.list()
    if as_json:
        print_json([{"id": each.id, "key": each.key_id, "at": each.at.isoformat()} for each in known])
        return
    _print(("secret", "set", "key"), [(each.id, _when(each.at), each.key_id) for each in known])


def _set_secret(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Such as channel:ops:url.")],
    stdin: Annotated[bool, typer.Option("--stdin", help="Read it from standard input, its first line.")] = False,
) -> None:
    text = _first_line() if stdin else typer.prompt("Secret", hide_input=True)
    with _access(context.obj) as access, _secret_store(context.obj) as store:
        store.put(name, text, _local(access))
        _note(access, "secret set", name)
    typer.echo(f"{name} is set")


def _remove_secret(context: typer.Context, name: Annotated[str, typer.Argument()]) -> None:
    with _access(context.obj) as access, _secret_store(context.obj) as store:
        store.remove(name)
        _note(access, "secret removed", name)
    typer.echo(f"{name} is forgotten")


def _rotate(context: typer.Context) -> None:
    with _access(context.obj) as access, _secret_store(context.obj) as store:
        count = store.rotate()
        _note(access, "secrets key exchanged", "", f"{count} secrets")
    typer.echo(f"a new key; {count} {'secret is' if count == 1 else 'secrets are'} encrypted with it")


# ------------------------------------------------------------------ parts


@contextmanager
def _access(config: Config) -> Iterator[AccessStore]:
    from squareoff import wiring

    with closing(wiring.access_store(config)) as store:
        yield store


@contextmanager
def _secret_store(config: Config) -> Iterator[SecretStore]:
    from squareoff import wiring

    with closing(wiring.secret_store(config)) as store:
        yield store


def _local(store: AccessStore) -> UserId:
    return store.users()[0].id


def _note(store: AccessStore, action: str, target: str, detail: str = "") -> None:
    who = f"by {getpass.getuser()} of this machine"
    store.audit(None, "cli", action, target, f"{detail}; {who}" if detail else who, "")


def _new_password(name: str, *, from_stdin: bool) -> str:
    if from_stdin:
        return _first_line()
    password: str = typer.prompt(f"New password of {name}", hide_input=True)
    check_password(password, name)  # before it is typed a second time
    if typer.prompt("The same again", hide_input=True) != password:
        raise BadInput("password", "the two are not the same", "try again; nothing was changed")
    return password


def _first_line() -> str:
    return sys.stdin.readline().rstrip("\r\n")


def _when(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M}"


def _print(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    from squareoff.apps.formats import console, plain

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    console().print(table)
