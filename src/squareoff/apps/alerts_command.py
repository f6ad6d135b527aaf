"""`squareoff alerts`: where alerts go, whether they arrive, and which there were."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squareoff.apps.formats import plain

if TYPE_CHECKING:
    from squareoff.adapters.alerts.settings import AlertSettings
    from squareoff.config import Config

EXAMPLE = """[terminal]
minimum = "info"

[[apprise]]                     # Telegram, e-mail and many more
url = "tgram://BOT_TOKEN/CHAT_ID"
minimum = "urgent"

[[webhook]]                     # each alert as JSON, by POST
url = "https://example.org/alerts"
minimum = "warning"
headers = { Authorization = "Bearer TOKEN" }

[heartbeat]                     # somebody outside notices when it stops
url = "https://hc-ping.com/YOUR-ID"
every_s = 60
"""

_INDENTED = EXAMPLE.replace("\n\n", "\n").replace("\n", "\n  ").rstrip()
HELP = f"""Where alerts go: the terminal, a log, and what alerts.toml in the data folder names.

\b
An example of alerts.toml; [[apprise]] needs pip install 'squareoff[alerts]':
  {_INDENTED}

\b
minimum is info, warning or urgent. More: docs/alerts.md. Then try it:
  squareoff alerts test
"""

TEST_HELP = """Send one test alert through every channel, and say of each whether it was delivered.

Exit status 1 if any was not. The heartbeat is not tried: its watcher would expect it to go on.
"""

LOG_HELP = """The last alerts of this data folder, the newest below.

\b
Examples:
  squareoff alerts log
  squareoff alerts log -n 100 --json
"""

ACK_HELP = """Say that you have seen the alarm about a strategy's position: it is not repeated each minute any more.

It rings again when something about the position changes. Getting out goes on all the same.
"""

Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]


def register(app: typer.Typer) -> None:
    alerts = typer.Typer(no_args_is_help=False)
    alerts.callback(invoke_without_command=True, help=HELP)(_channels)
    alerts.command("test", help=TEST_HELP)(_test)
    alerts.command("log", help=LOG_HELP)(_log)
    alerts.command("ack", help=ACK_HELP)(_ack)
    app.add_typer(alerts, name="alerts")


def _channels(context: typer.Context, as_json: Json = False) -> None:
    if context.invoked_subcommand is not None:
        return
    from squareoff.apps.formats import print_json
    from squareoff.wiring import alerts as alerts_wiring

    config: Config = context.obj
    settings = _settings(config)
    rows = [
        {"channel": channel.name, "minimum": str(channel.minimum)}
        for channel in alerts_wiring.alert_channels(settings, config.data)
    ]
    beat = settings.heartbeat
    heartbeat = {"url": None if beat.url is None else str(beat.url), "every_s": beat.every_s}
    if as_json:
        print_json({"channels": rows, "heartbeat": heartbeat})
        return
    _print_table(("channel", "from"), [(row["channel"], row["minimum"]) for row in rows])
    to_url = "no url" if beat.url is None else f"{beat.url} every {beat.every_s:g} s"
    typer.echo(f"heartbeat: heartbeat.json, {to_url}")


def _test(context: typer.Context, as_json: Json = False) -> None:
    from squareoff.apps.formats import print_json
    from squareoff.wiring import alerts as alerts_wiring

    config: Config = context.obj
    settings = _settings(config)
    config.make_data_folder()  # the log is in it
    results = []
    for sent in alerts_wiring.send_test_alerts(settings, config.data):
        results.append(sent)
        if not as_json:  # at once: the next one may take its time
            typer.echo(f"{sent.channel}: {'delivered' if sent.reason is None else f'NOT delivered: {sent.reason}'}")
    if as_json:
        print_json([{"channel": s.channel, "delivered": s.reason is None, "reason": s.reason} for s in results])
    if any(sent.reason is not None for sent in results):
        raise typer.Exit(1)


def _log(
    context: typer.Context,
    newest: Annotated[int, typer.Option("-n", min=1, max=100_000, metavar="N", help="How many.")] = 20,
    as_json: Json = False,
) -> None:
    from squareoff.apps.formats import print_json
    from squareoff.wiring import alerts as alerts_wiring

    config: Config = context.obj
    told = alerts_wiring.last_alerts(config.data, newest)
    if as_json:
        print_json(told)
    elif not told:
        typer.echo("No alerts yet.")
    else:
        _print_table(("at", "", "alert", "run"), [_row(alert) for alert in told])


def _row(alert: dict[str, Any]) -> tuple[str, ...]:
    run_id = alert.get("run_id")
    told = f"{alert['headline']}. {alert['text']}"
    return _here(str(alert["at"])), str(alert["severity"]).upper(), told, "" if run_id is None else str(run_id)


def _here(at: str) -> str:
    """On this machine's wall clock, to the second."""
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return at


def _settings(config: Config) -> AlertSettings:
    """Raises BadInput. What works and yet should be mended goes to standard error."""
    from squareoff.wiring import alerts as alerts_wiring

    settings = alerts_wiring.alert_settings(config.data)
    for warning in settings.warnings:
        typer.echo(f"squareoff: {plain(warning)}", err=True)
    return settings


def _print_table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.table import Table

    from squareoff.apps.formats import console

    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    console().print(table)


def _ack(context: typer.Context, name: Annotated[str, typer.Argument(help="Name or id of the strategy.")]) -> None:
    from squareoff import wiring
    from squareoff.apps.strategies_command import find_strategy
    from squareoff.core.board import is_exposed
    from squareoff.core.story import exposure_key

    config: Config = context.obj
    store = wiring.open_strategy_store(config)
    try:
        strategy = find_strategy(store, name)
        exposed = [r for r in store.open_runs() if r.plan.strategy_id == strategy.id and is_exposed(r)]
    finally:
        store.close()
    if not exposed:
        typer.echo(f"{strategy.name}: there is no alarm about a position")
        return
    wiring.acknowledge(config, strategy.account, [exposure_key(run) for run in exposed])
    typer.echo(f"{strategy.name}: seen. It rings again when something about the position changes")
