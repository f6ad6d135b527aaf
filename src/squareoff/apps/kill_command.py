"""`squareoff kill`, `release` and `limits`: what an account may still do."""

from __future__ import annotations

import getpass
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.definition import decimal_of
from squareoff.core.limits import AccountRules, Level, Limits
from squareoff.core.types import AccountId
from squareoff.errors import RecordsUnavailable

if TYPE_CHECKING:
    from squareoff.core.run import Run

FLAT_WITHIN_S = 60.0
"""How long `kill` waits for the fills that prove it. What is sold goes on being sold afterwards."""

UNKNOWN_WITHIN_S = 5.0
"""How long a database that does not answer is asked again."""

KILL_HELP = """Stop an account at once, and keep it stopped.

\b
  --entries      no new entry; what is held runs on to its exit
  --square-off   no new entry, and every position is sold at once

It is latched in the database and in a file beside it: it works while the database is down, holds over restarts, and
ends only with `squareoff release`. If no squareoff runs, it works the account itself until everything is flat.

\b
Examples:
  squareoff kill --square-off --reason "news"
  squareoff kill --entries --account paper --reason "broker is slow"
  squareoff release paper --reason "checked, all is well"
"""

LIMITS_HELP = """Show or set what an account may do at most. "none" takes a limit away.

New entries beyond a limit are skipped, with the reason; nothing ever holds back an exit.

\b
  squareoff limits --max-order-value 100000 --max-open-positions 5 --max-loss-per-day 5000
  squareoff limits --max-order-qty none
"""

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def register(app: typer.Typer) -> None:
    app.command("kill", help=KILL_HELP, short_help="Stop an account at once, and keep it stopped.")(_kill)
    app.command("release", help="Let an account trade again after `squareoff kill`.")(_release)
    app.command("limits", help=LIMITS_HELP, short_help="What an account may do at most.")(_limits)


def _kill(
    context: typer.Context,
    entries: Annotated[bool, typer.Option("--entries", help="No new entries.")] = False,
    square_off: Annotated[bool, typer.Option("--square-off", help="No new entries, and sell everything.")] = False,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="Which account.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every account.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why; it is kept.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    config: Config = context.obj
    level = _level(entries, square_off)
    before = _held(config)
    accounts = _accounts(config, account, every)
    shown = [run for run in before or () if run.plan.account in accounts]
    if not as_json:
        _show_before(level, accounts, shown, is_known=before is not None)
    if not yes and sys.stdin.isatty() and not as_json and not typer.confirm("Do it?", default=True):
        raise typer.Abort
    told = [press(config, each, level, reason) for each in accounts]
    after = _wait_flat(config, accounts, quiet=as_json) if level is Level.SQUARE_OFF else shown
    is_proven = level is Level.NO_ENTRIES or (after is not None and not after)
    after = after or []
    if as_json:
        from squareoff.apps.formats import print_json

        print_json(
            {
                "level": level,
                "accounts": told,
                "held_before": [_row(run) for run in shown],
                "held_after": [_row(run) for run in after],
                "proven": is_proven,
            }
        )
    else:
        if not is_proven and not after:
            typer.echo("The database does not answer: nothing proves here that it is flat. Look at your broker.")
        _show_after(level, accounts, shown if is_proven or after else (), after, config)
    if not is_proven:
        raise typer.Exit(1)


def _level(entries: bool, square_off: bool) -> Level:
    if entries and square_off:
        raise BadInput("kill", "--entries and --square-off were both given", "choose one; --square-off does both")
    if entries:
        return Level.NO_ENTRIES
    if square_off:
        return Level.SQUARE_OFF
    raise BadInput("kill", "does not say how far", "--entries (no new ones) or --square-off (and sell everything)")


def _accounts(config: Config, account: str | None, every: bool, *, may_be_all: bool = True) -> list[AccountId]:
    try:
        with _store(config) as store:
            known = list(store.every_account())  # whoever has the machine stops all that trades on it
    except RecordsUnavailable:  # the switch must work without the database; then the name has to be right
        known = [AccountId(account)] if account else _known_without_sql(config)
    if account is not None:
        if account not in known:
            raise BadInput("account", f"there is no account {account!r}", f"one of {', '.join(known)}")
        return [AccountId(account)]
    if len(known) > 1 and not every:
        all_ = "--all, or " if may_be_all else ""
        raise BadInput("account", "there are several", f"{all_}--account with one of {', '.join(known)}")
    return known


def _known_without_sql(config: Config) -> list[AccountId]:
    """From the paper broker's accounts, and from the workers that live."""
    from squareoff import wiring
    from squareoff.apps.up.supervisor import worker_pids
    from squareoff.core.definition import DEFAULT_ACCOUNT

    with suppress(BadInput):
        return sorted({DEFAULT_ACCOUNT, *wiring.paper_accounts(config), *worker_pids(config)})
    return sorted({DEFAULT_ACCOUNT, *worker_pids(config)})


def _held(config: Config) -> list[Run] | None:
    """Runs that hold something, or may; None: the database does not say."""
    from squareoff.apps.up_command import holding

    try:
        return holding(config)
    except (RecordsUnavailable, BadInput):  # `database.url` may be wrong, or the database a newer squareoff's
        return None


def press(config: Config, account: AccountId, level: Level, reason: str, *, by: str | None = None) -> dict[str, Any]:
    """File first: it is there whatever becomes of the rest. `by` None: whoever sits at this machine."""
    from squareoff import wiring
    from squareoff.apps.up.supervisor import running

    who, at = by or getpass.getuser(), wiring.now_real()
    wiring.brake(config, account).press(level, reason=reason, by=who, at=at)
    in_sql, why = True, ""
    try:
        with _store_of(config, account) as store:
            store.set_level(account, level, reason=reason, by=who, at=wiring.now(config))
    except RecordsUnavailable as error:
        in_sql, why = False, str(error)
    wiring.ring_bell((running(config) or {}).get("redis_url", ""), account)
    return {"account": account, "level": level, "file": True, "database": in_sql, "why_not": why}


def _wait_flat(config: Config, accounts: Sequence[AccountId], *, quiet: bool) -> list[Run] | None:
    """Until the fills prove it, or the time is over: what is still held, None if the database does not say. Works
    each account itself that nobody works."""
    from squareoff.apps.up.supervisor import orphaned_broker

    helpers: dict[AccountId, subprocess.Popen[bytes]] = {}
    until_s = time.monotonic() + FLAT_WITHIN_S
    try:
        while True:
            known = _held(config)
            held = [run for run in known or () if run.plan.account in accounts]
            if known is None and time.monotonic() <= until_s - FLAT_WITHIN_S + UNKNOWN_WITHIN_S:
                time.sleep(0.1)
                continue
            if known is None:
                return None
            if not held or time.monotonic() > until_s:
                return held
            alone = [each for each in accounts if _is_alone(config, each, held, helpers)]
            if alone and orphaned_broker(config.run_folder) is None:
                if not quiet:
                    typer.echo("No squareoff runs, and the broker does not answer: nothing can be sold from here.")
                return held
            for account in alone:
                if not quiet:
                    what = f"account {account}" if len(accounts) > 1 else "the account"
                    typer.echo(f"No squareoff runs: this command takes {what} and squares off itself.")
                helpers[account] = _own_worker(config, account)
            time.sleep(0.1)
    finally:
        for helper in helpers.values():
            helper.terminate()
        for helper in helpers.values():
            helper.wait(30)


def _is_alone(config: Config, account: AccountId, held: Sequence[Run], helpers: Collection[AccountId]) -> bool:
    """It holds something, and neither a worker nor this command works it."""
    from squareoff.apps.up.supervisor import worker_pid

    is_held = any(run.plan.account == account for run in held)
    return is_held and account not in helpers and worker_pid(config, account) is None


def _own_worker(config: Config, account: AccountId) -> subprocess.Popen[bytes]:
    """A worker of our own: it recovers, finds the switch pressed, and sells. Redis is not needed for that."""
    import json
    import os

    from squareoff import wiring
    from squareoff.apps.up.supervisor import BROKER_NAME
    from squareoff.config import TOKEN_VARIABLE
    from squareoff.market import CLOCK_NAME

    broker = json.loads((config.run_folder / BROKER_NAME).read_text())["url"]
    command = [sys.executable, "-m", "squareoff.apps.worker", "--data", str(config.data), "--broker", broker]
    command += ["--account", account, "--redis", config.redis_url or "redis://127.0.0.1:1/0"]
    if (config.run_folder / CLOCK_NAME).exists():
        command += ["--clock", str(config.run_folder / CLOCK_NAME)]
    config.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (config.logs / "kill.log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, TOKEN_VARIABLE: wiring.ensure_paper_account(config, account).token},
        )  # fmt: skip


def _show_before(level: Level, accounts: Sequence[str], held: Sequence[Run], *, is_known: bool) -> None:
    from squareoff.apps.up_command import describe

    names = ", ".join(accounts)
    if not is_known:
        typer.echo(f"Account {names}: the database does not say what is held. It is stopped all the same.")
    elif level is Level.NO_ENTRIES:
        typer.echo(f"Account {names}: no new entries. What is held runs on to its exit:")
    else:
        typer.echo(f"Account {names}: no new entries, and this is sold at market:" if held else f"Account {names}:")
    for run in held:
        typer.echo(f"  {describe(run)}")
    if is_known and not held:
        typer.echo("  nothing is held")


def _show_after(
    level: Level, accounts: Sequence[str], before: Sequence[Run], after: Sequence[Run], config: Config
) -> None:
    from squareoff.apps.formats import money
    from squareoff.apps.up_command import describe

    if level is Level.SQUARE_OFF and before:
        still = {run.plan.run_id for run in after}
        with _store(config) as store:
            for run in (
                store.of(each.plan.user).run(each.plan.run_id) for each in before if each.plan.run_id not in still
            ):
                price = run.exit.avg_fill_price
                text = f"sold at {money(price)}" if price is not None else "closed"
                typer.echo(f"  {run.plan.name}: flat, the fills prove it; {text}; P&L {money(run.pnl_gross)} gross")
    for run in after if level is Level.SQUARE_OFF else ():
        typer.echo(f"  STILL {describe(run)}. It goes on being sold while squareoff runs; look at your broker")
    for account in accounts:
        typer.echo(f"Latched. Only `squareoff release {account} --reason ...` lets {account} enter again.")


def _release(
    context: typer.Context,
    account: Annotated[str, typer.Argument(help="Name of the account.")],
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why it may trade again; it is kept.")] = "",
    as_json: Json = False,
) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import print_json

    if not reason.strip():
        raise BadInput("reason", "is missing", 'say why it may trade again: --reason "checked, all is well"')
    config: Config = context.obj
    by, at = getpass.getuser(), wiring.now(config)
    name = AccountId(account)
    with _store_of(
        config, name
    ) as store:  # first: a file gone while the database still says no would be half a release
        before = store.rules(name)
        store.set_level(name, Level.NORMAL, reason=reason, by=by, at=at)
    wiring.brake(config, name).press(Level.NORMAL, reason=reason, by=by, at=at)
    if as_json:
        print_json({"account": account, "level": Level.NORMAL, "was": before.level, "reason": reason, "by": by})
    else:
        typer.echo(f"{account} may enter again (it was {before.level}: {before.reason or 'no reason given'}).")


def _limits(
    context: typer.Context,
    account: Annotated[str | None, typer.Option(metavar="NAME", help="Which account.", show_default=False)] = None,
    max_order_qty: Annotated[str | None, typer.Option(metavar="N", help="Shares in one order.")] = None,
    max_order_value: Annotated[str | None, typer.Option(metavar="MONEY", help="Value of one order.")] = None,
    max_open_positions: Annotated[str | None, typer.Option(metavar="N", help="Positions at a time.")] = None,
    max_orders_per_day: Annotated[str | None, typer.Option(metavar="N", help="Orders in a trading day.")] = None,
    max_loss_per_day: Annotated[
        str | None, typer.Option(metavar="MONEY", help="Gross loss of a trading day; then no new entries.")
    ] = None,
    square_off_at_loss: Annotated[
        bool | None, typer.Option(help="At that loss also sell everything.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import print_json

    config: Config = context.obj
    (name,) = _accounts(config, account, False, may_be_all=False)
    given = {
        "max_order_qty": max_order_qty,
        "max_order_value": max_order_value,
        "max_open_positions": max_open_positions,
        "max_orders_per_day": max_orders_per_day,
        "max_loss_per_day": max_loss_per_day,
    }
    with _store_of(config, name) as store:
        rules = store.rules(name)
        values: dict[str, Any] = {field: getattr(rules.limits, field) for field in Limits.__dataclass_fields__}
        values |= {field: limit(field, text) for field, text in given.items() if text is not None}
        if square_off_at_loss is not None:
            values["square_off_at_loss"] = square_off_at_loss
        limits = Limits(**values)
        if limits.square_off_at_loss and limits.max_loss_per_day is None:
            raise BadInput("square_off_at_loss", "needs --max-loss-per-day", "say at which loss")
        if limits != rules.limits:
            store.set_limits(name, limits, by=getpass.getuser(), at=wiring.now(config))
    if as_json:
        shown = {field: None if v is None else v if isinstance(v, int) else f"{v:f}" for field, v in values.items()}
        print_json({"account": name, "level": rules.level, "reason": rules.reason, **shown})
        return
    _show_limits(name, rules, limits)


def _show_limits(account: str, rules: AccountRules, limits: Limits) -> None:
    from squareoff.apps.formats import money, quantity

    level = "may trade" if rules.level is Level.NORMAL else f"KILL SWITCH {rules.level}: {rules.reason} ({rules.by})"
    typer.echo(f"account {account}: {level}")
    rows = (
        ("shares in one order", limits.max_order_qty and quantity(limits.max_order_qty)),
        ("value of one order", limits.max_order_value and money(limits.max_order_value)),
        ("positions at a time", limits.max_open_positions),
        ("orders in a trading day", limits.max_orders_per_day),
        ("loss of a trading day, gross", limits.max_loss_per_day and money(limits.max_loss_per_day)),
    )
    for what, value in rows:
        typer.echo(f"  {what:<30}{'no limit' if value is None else value}")
    if limits.max_loss_per_day is not None:
        typer.echo(f"  {'at that loss':<30}{'sell everything' if limits.square_off_at_loss else 'no new entries'}")


def limit(field: str, text: str) -> Decimal | int | None:
    """What an account may do at most, as written; None: no limit. Raises BadInput."""
    if text.strip().lower() == "none":
        return None
    number = decimal_of(text)
    if number is None or number < 0:
        raise BadInput(field, f"{text[:40]!r} is not a limit", 'a number from zero up, or "none"')
    if field not in ("max_open_positions", "max_orders_per_day"):
        return number
    if number != number.to_integral_value() or number > 1_000_000:
        raise BadInput(field, f"{text[:40]!r} is not a whole number", 'for example 5, or "none"')
    return int(number)


def _row(run: Run) -> dict[str, Any]:
    from squareoff import wiring
    from squareoff.apps.formats import run_row

    return run_row(run, wiring.zone_of(run.plan.symbol))


@contextmanager
def _store(config: Config) -> Iterator[Any]:
    from squareoff import wiring

    try:
        store = wiring.open_strategy_store(config)
    except BadInput as error:
        if error.field != "database":
            raise
        raise RecordsUnavailable(str(error)) from error  # a wrong address must not keep the switch from working
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _store_of(config: Config, account: AccountId) -> Iterator[Any]:
    """Of the user whose account it is; of the local one for an account there is not."""
    with _store(config) as store:
        yield store.of(store.every_account().get(account, store.user))
