"""`squareoff replay`: recorded days through the same engine, as fast as it goes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squareoff.core.bad_input import BadInput
from squareoff.core.definition import Draft, check, plan_for
from squareoff.core.machine import State
from squareoff.core.session import Calendar, DayHours, ExchangeHours, parse_session_text
from squareoff.core.strategy import Plan, Strategy, Timing
from squareoff.core.types import RunId, StrategyId, Symbol, UserId

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from squareoff.adapters.feeds.recorded import RecordedData
    from squareoff.config import Config
    from squareoff.core.instruments import Instruments
    from squareoff.ports import JournalEntry

BAR_TIMING = Timing(grace_s=5, fresh_for_s=90, entry_open_s=90)
"""A bar's prices are 15 s apart and a missing minute is common, so a price counts as fresh for 90 s."""
TICK_TIMING = Timing()
WIDTH_IN_A_FILE = 160

HELP = """Recorded days through the engine.

One run per strategy and trading day, on virtual time, as fast as it goes.

DATA are CSV files or folders of them: minute bars (symbol, date, time, open, high, low, close, ...), quote ticks, or
the plain format of docs/replay.md. The strategies come from a TOML file (docs/strategies.md).

Try it without any data: squareoff replay --sample
"""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a replay needs, checked."""

    data: RecordedData
    drafts: Sequence[Draft]
    instruments: Instruments
    hours: dict[str, ExchangeHours]
    days: Sequence[date]

    def plans(self, day: date) -> list[Plan]:
        timing = BAR_TIMING if self.data.is_bars else TICK_TIMING
        plans = []
        for number, draft in enumerate(self.drafts, start=1):
            hours = self.hours[_exchange(draft.symbol)]
            plan = plan_for(
                _strategy(draft, number),
                run_id=RunId(number),
                session=hours.session(day, hours.regular),
                instrument=self.instruments.find(draft.symbol),
                timing=timing,
            )
            plans.append(plan)
        return plans


def _strategy(draft: Draft, number: int) -> Strategy:
    from squareoff.wiring.replay import REPLAY_ACCOUNT

    return replace(draft.as_strategy(StrategyId(number), UserId(1)), account=REPLAY_ACCOUNT)


def register(app: typer.Typer) -> None:
    @app.command("replay", help=HELP)
    def replay_command(
        context: typer.Context,
        data: Annotated[list[Path] | None, typer.Argument(help="CSV files or folders", show_default=False)] = None,
        strategies: Annotated[Path | None, typer.Option(help="TOML file with the strategies")] = None,
        sample: Annotated[bool, typer.Option("--sample", help="a generated day that ships with squareoff")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="the results as JSON on standard output")] = False,
        bars_labelled: Annotated[
            str, typer.Option(help="a bar's time is the `start` or the `end` of its minute")
        ] = "start",
        session: Annotated[str | None, typer.Option(help="HH:MM-HH:MM, instead of the exchange's")] = None,
        exchange: Annotated[str, typer.Option(help="of symbols that come without one")] = "NSE",
        symbol: Annotated[str | None, typer.Option(help="of quote files, such as FX:EURUSD")] = None,
        quote: Annotated[str, typer.Option(help="which price of a quote counts: bid, ask or mid")] = "bid",
        calendar: Annotated[
            bool, typer.Option("--calendar", help="trade the days of the exchange's calendar, not those of the data")
        ] = False,
        journal: Annotated[Path | None, typer.Option(help="write every decision to this file, one JSON a line")] = None,
    ) -> None:
        began_s = time.perf_counter()
        with _inputs(data or [], strategies, sample) as (paths, strategy_file):
            job = _job(
                paths,
                strategy_file,
                bars_labelled=bars_labelled,
                session=session,
                exchange=exchange,
                symbol=symbol,
                quote=quote,
                use_calendar=calendar,
                config=context.obj,
            )
        _run(job, as_json=as_json, journal=journal, began_s=began_s)


@contextmanager
def _inputs(data: list[Path], strategies: Path | None, sample: bool) -> Iterator[tuple[list[Path], Path]]:
    if not sample:
        if not data:
            raise BadInput("DATA", "is missing", "name CSV files or folders, or use --sample for a generated day")
        if strategies is None:
            raise BadInput(
                "--strategies",
                "is missing",
                "name a TOML file; docs/strategies.md shows one, and `squareoff add --help` its fields",
            )
        yield data, strategies
        return
    if data:
        raise BadInput("--sample", "brings its own data", "leave out DATA or --sample")
    with as_file(files("squareoff") / "data" / "sample") as folder:
        yield sorted(folder.glob("*.csv")), strategies or folder / "strategies.toml"


def _job(
    paths: Sequence[Path],
    strategy_file: Path,
    *,
    bars_labelled: str,
    session: str | None,
    exchange: str,
    symbol: str | None,
    quote: str,
    use_calendar: bool,
    config: Config,
) -> Job:
    from squareoff.apps.strategy_file import load_strategy_file
    from squareoff.wiring import reference_data
    from squareoff.wiring.replay import recorded_data

    reference = reference_data(config)
    hours, instruments = _with_session(reference.hours, session), reference.instruments
    drafts = load_strategy_file(strategy_file)
    for where, draft in drafts:
        _check(draft, where, instruments, hours)
    data = recorded_data(
        paths,
        bars_labelled=bars_labelled,
        quote=quote,
        exchange=exchange,
        symbol=symbol,
        hours_of=lambda s: _hours_of(s, hours),
    )
    for where, draft in drafts:
        if draft.symbol not in data.symbols:
            known = ", ".join(data.symbols)
            raise BadInput(f"{where}: symbol", f"{draft.symbol} is not in the data", f"the data has {known}")
    exchanges = sorted({_exchange(draft.symbol) for _, draft in drafts})
    days = _calendar_days(data, [reference.calendar(one) for one in exchanges]) if use_calendar else data.days
    return Job(data=data, drafts=[draft for _, draft in drafts], instruments=instruments, hours=hours, days=days)


def _check(draft: Draft, where: str, instruments: Instruments, hours: dict[str, ExchangeHours]) -> None:
    exchange = _exchange(draft.symbol)
    if exchange not in hours:
        raise BadInput(f"{where}: symbol", f"{exchange} is not a known exchange", f"one of {', '.join(sorted(hours))}")
    try:
        instrument = instruments.find(draft.symbol)
    except LookupError as error:
        raise BadInput(f"{where}: symbol", str(error)) from error
    check(draft, instrument=instrument, hours=hours[exchange], replay=True, where=where)


def _with_session(hours: Mapping[str, ExchangeHours], session: str | None) -> dict[str, ExchangeHours]:
    if session is None:
        return dict(hours)
    try:
        regular: DayHours = parse_session_text(session)
    except ValueError as error:
        raise BadInput("--session", str(error)) from error
    return {code: replace(one, regular=regular) for code, one in hours.items()}


def _hours_of(symbol: Symbol, hours: dict[str, ExchangeHours]) -> ExchangeHours:
    exchange = _exchange(symbol)
    if exchange not in hours:
        raise BadInput("symbol", f"{symbol}: {exchange} is not a known exchange", f"one of {', '.join(sorted(hours))}")
    return hours[exchange]


def _exchange(symbol: str) -> str:
    return symbol.partition(":")[0]


def _calendar_days(data: RecordedData, calendars: Sequence[Calendar]) -> list[date]:
    """The calendar's trading days from the first to the last day of the data, whether the data has them or not."""
    first, last = data.days[0], data.days[-1]
    span = [date.fromordinal(n) for n in range(first.toordinal(), last.toordinal() + 1)]
    return [day for day in span if any(calendar.session_on(day) is not None for calendar in calendars)]


# ------------------------------------------------------------------ running and showing


def _run(job: Job, *, as_json: bool, journal: Path | None, began_s: float) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from squareoff.simulation.replay import play_day, result_row
    from squareoff.wiring.replay import replay_world

    rows: list[dict[str, Any]] = []
    ignored: dict[str, int] = {}
    ticks = sum(job.data.tick_count(day) for day in job.days)
    errors = Console(stderr=True)
    played_s = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress,
        _journal_file(journal) as write,
    ):
        bar = progress.add_task("replaying, ticks", total=ticks)
        for day in job.days:
            plans = job.plans(day)
            start = min(
                (job.hours[_exchange(p.symbol)].session(day, job.hours[_exchange(p.symbol)].regular).opens_at)
                for p in plans
            )
            result = play_day(
                replay_world(start),
                plans,
                job.data.ticks(day),
                progress=lambda n: progress.advance(bar, n),
            )
            zones = {p.run_id: job.hours[_exchange(p.symbol)].zone for p in plans}
            rows += [result_row(run, zones[run.plan.run_id]) for run in result.runs]
            write(day, result.journal)
            for reason, count in result.ignored.items():
                ignored[reason] = ignored.get(reason, 0) + count
    ended_s = time.perf_counter()
    totals = totals_of(rows)
    oddities = [str(oddity) for oddity in job.data.oddities]
    if as_json:
        document = {
            "results": rows,
            "totals": totals,
            "days": len(job.days),
            "ticks": ticks,
            "ignored_ticks": ignored,
            "oddities": oddities,
            "journal": None if journal is None else str(journal),
        }
        sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_A_FILE)
    _show(console, rows, totals, oddities, ignored)
    days = "one trading day" if len(job.days) == 1 else f"{len(job.days)} trading days"
    speed = ticks / max(ended_s - played_s, 1e-9)
    console.print(
        f"[dim]{ticks:,} ticks of {days} in {ended_s - played_s:.2f} s ({speed:,.0f} ticks/s), "
        f"read in {played_s - began_s:.2f} s. P&L is gross, before charges.[/dim]"
        + (f"\n[dim]Journal: {journal}[/dim]" if journal else "")
    )


@contextmanager
def _journal_file(path: Path | None) -> Iterator[Any]:
    if path is None:
        yield lambda day, entries: None
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise BadInput(
            "--journal", f"{path} cannot be written: {error.strerror}", "name a file in a folder you own"
        ) from error

    def write(day: date, entries: Sequence[JournalEntry]) -> None:
        for entry in entries:
            line = {
                "day": day.isoformat(),
                "at": entry.at.isoformat(),
                "run_id": entry.run_id,
                "engine": entry.engine,
                "kind": entry.kind,
                "text": entry.text,
                "data": entry.data,
            }
            file.write(json.dumps(line, default=str) + "\n")

    with file:
        yield write


def totals_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Over all runs, and for each strategy."""
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    return {
        **_total(rows),
        "strategies": {name: _total([row for row in rows if row["strategy"] == name]) for name in names},
    }


def _total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    pnl = [Decimal(row["pnl"]) for row in rows if row["pnl"] is not None]
    states: dict[str, int] = {}
    for row in rows:
        states[row["state"]] = states.get(row["state"], 0) + 1
    return {
        "runs": len(rows),
        "states": states,
        "open": sum(row["exposure"] != "flat" for row in rows),
        "won": sum(p > 0 for p in pnl),
        "lost": sum(p < 0 for p in pnl),
        "pnl": f"{sum(pnl, Decimal(0)):f}",
    }


_STYLE = {
    State.SOLD: "green",
    State.EXITED_BY_SL: "yellow",
    State.FAILED: "bright_black",
    State.STOPPED: "cyan",
}


def _show(
    console: Console,
    rows: Sequence[dict[str, Any]],
    totals: dict[str, Any],
    oddities: Sequence[str],
    ignored: dict[str, int],
) -> None:
    console.print(_result_table(rows))
    for row in rows:
        if row["note"]:
            console.print(f"[dim]{row['date']} {row['strategy']}: {row['note']}[/dim]", highlight=False)
    console.print(_totals_table(totals))
    for oddity in oddities:
        console.print(f"[yellow]odd:[/yellow] {oddity}", highlight=False)
    for reason, count in ignored.items():
        console.print(f"[yellow]ignored:[/yellow] {count} ticks, {reason}", highlight=False)


def _result_table(rows: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table

    several = len({row["symbol"] for row in rows}) > 1
    table = Table(title="Runs", title_justify="left", box=None, header_style="bold", padding=(0, 1, 0, 0))
    headings = [
        "date",
        "strategy",
        *(["symbol"] if several else []),
        "state",
        "qty",
        "bought",
        "sold",
        "stop-loss",
        "P&L",
    ]
    for heading in headings:
        right = heading in ("qty", "bought", "sold", "stop-loss", "P&L")
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    for row in rows:
        state = State(row["state"])
        style = _STYLE.get(state, "red")
        table.add_row(
            row["date"],
            row["strategy"],
            *([row["symbol"]] if several else []),
            f"[{style}]{state}[/{style}]",
            row["quantity"],
            _trade(row["entry_time"], row["entry_price"]),
            _trade(row["exit_time"], row["exit_price"]),
            money(row["stop_price"]),
            money(row["pnl"]),
        )
    return table


def _trade(iso: str | None, price: str | None) -> str:
    """Time and price of a fill, such as "09:20:00 1,562.40"; empty for none."""
    return "" if iso is None else f"{datetime.fromisoformat(iso):%H:%M:%S} {money(price)}"


def _totals_table(totals: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title="\nTotals", title_justify="left", box=None, header_style="bold")
    for heading in (
        "strategy",
        "runs",
        "sold",
        "by stop-loss",
        "skipped or failed",
        "still open",
        "won",
        "lost",
        "P&L",
    ):
        table.add_column(heading, justify="left" if heading == "strategy" else "right")
    named = dict(totals["strategies"])
    if len(named) > 1:
        named["all"] = totals
    for name, one in named.items():
        states = one["states"]
        counts = (
            one["runs"],
            states.get("sold", 0),
            states.get("exited_by_sl", 0),
            states.get("failed", 0),
            one["open"],
            one["won"],
            one["lost"],
        )
        table.add_row(name, *map(str, counts), money(one["pnl"]))
    return table


def money(text: str | None) -> str:
    """A price or an amount with thousands separators, as many decimals as it has but at least two."""
    if text is None:
        return ""
    value = Decimal(text)
    exponent = value.normalize().as_tuple().exponent
    decimals = max(2, -exponent) if isinstance(exponent, int) else 2
    return f"{value:,.{min(decimals, 6)}f}"
