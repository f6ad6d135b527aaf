"""What the demo shows: the day's clock, every run, what just happened, and at the end the broker's own ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from squareoff.apps.demo.script import DAY_BEGINS, DAY_ENDS, ZONE, Act, at
from squareoff.apps.replay_command import money
from squareoff.core.machine import FINAL, State
from squareoff.core.run import Run
from squareoff.core.types import Exposure, Symbol
from squareoff.ports import JournalEntry, JournalKind

if TYPE_CHECKING:
    from squareoff.adapters.brokers.paper.ledger import LedgerAudit

STYLE: dict[State, str] = {
    State.CREATED: "dim",
    State.READY: "white",
    State.RUNNING: "bold bright_blue",
    State.BOUGHT: "bold cyan",
    State.SELL_PENDING: "bold bright_blue",
    State.SL_PENDING: "bold bright_red",
    State.STOP_PENDING: "bold bright_blue",
    State.SOLD: "green",
    State.EXITED_BY_SL: "yellow",
    State.FAILED: "bright_black",
    State.STOPPED: "magenta",
}

TOLD = frozenset(
    {
        JournalKind.WISH,
        JournalKind.TRANSITION,
        JournalKind.LOOK_UP,
        JournalKind.RETRY,
        JournalKind.ALERT,
        JournalKind.REDIS,
        JournalKind.RECOVERY,
        JournalKind.FILL,
    }
)
"""The kinds of journal entries that are worth a line on the screen."""
LINES = 9


def is_told(entry: JournalEntry) -> bool:
    if entry.kind is JournalKind.ANSWER:
        return entry.data.get("outcome") not in (None, "Answered")
    if entry.kind is JournalKind.WISH:
        return entry.run_id is not None and not entry.text.startswith("START")
    if entry.kind is JournalKind.TRANSITION:
        was_final = State(entry.data["from"]) in FINAL  # archived at the close of the session
        return entry.data.get("to") not in ("ready", "running") and not was_final
    if entry.kind is JournalKind.REDIS:
        return entry.run_id is None
    if entry.kind is JournalKind.RECOVERY:
        return entry.run_id is None or "unknown" in entry.text
    return entry.kind in TOLD


def line(entry: JournalEntry, names: Mapping[int, str]) -> Text:
    """One journal entry as a line: time, who, what."""
    who = names.get(entry.run_id or 0, "engine")
    style = {
        JournalKind.ALERT: "yellow",
        JournalKind.LOOK_UP: "bright_blue",
        JournalKind.RECOVERY: "bright_blue",
        JournalKind.REDIS: "bright_blue",
        JournalKind.FILL: "green",
    }.get(entry.kind, "white")
    return Text.assemble(
        (f"{entry.at.astimezone(ZONE):%H:%M:%S}  ", "dim"),
        (f"{who:<14}", "bold"),
        (entry.text, style),
        overflow="ellipsis",
    )


def day_view(
    *,
    now: datetime,
    acts: Sequence[Act],
    runs: Mapping[str, Run],
    prices: Mapping[Symbol, Decimal],
    lines: Sequence[Text],
    note: str,
) -> Group:
    begins, ends = at(DAY_BEGINS), at(DAY_ENDS)
    done = (now - begins) / (ends - begins)
    head = Table.grid(expand=True, padding=(0, 1))
    head.add_column(no_wrap=True)
    head.add_column(no_wrap=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    head.add_row(
        Text(" PAPER ", "bold black on bright_yellow"),
        Text(f"{now.astimezone(ZONE):%a %d %b %Y  %H:%M:%S} IST", "bold"),
        ProgressBar(total=100, completed=max(0, min(100, done * 100))),
        Text(f"P&L gross {money(f'{_total_pnl(runs, prices):f}')}", "bold"),
    )
    body = Panel(_runs_table(acts, runs, prices), title="one generated day, real processes", title_align="left")
    padded = [*lines[-LINES:], *[Text("")] * max(0, LINES - len(lines))]
    story = Panel(Group(*padded), title=note or "what happens", title_align="left")
    return Group(head, body, story)


def _runs_table(acts: Sequence[Act], runs: Mapping[str, Run], prices: Mapping[Symbol, Decimal]) -> Table:
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 1))
    for heading, justify in (("run", "left"), ("symbol", "left"), ("state", "left"), ("held", "right")):
        table.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for heading in ("last", "stop-loss", "P&L"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what goes wrong", style="dim", no_wrap=True, overflow="ellipsis", ratio=1)
    for act in acts:
        run = runs.get(act.name)
        if run is None:
            table.add_row(act.name, act.symbol, "", "", "", "", "", act.caption)
            continue
        state = run.outcome or run.state
        price = prices.get(act.symbol)
        gain = pnl(run, price)
        table.add_row(
            act.name,
            act.symbol,
            Text(f"{state}", STYLE[state]),
            f"{run.remaining_qty:f}" if run.remaining_qty else "",
            "" if price is None else money(f"{price:f}"),
            "" if run.stop_price is None else money(f"{run.stop_price:f}"),
            "" if gain is None else Text(money(f"{gain:f}"), "green" if gain >= 0 else "red"),
            act.caption,
        )
    return table


def pnl(run: Run, last_price: Decimal | None) -> Decimal | None:
    """Gross: what was made, or while the position is held, what it would make at the last price. None: nothing."""
    if run.pnl_gross is not None and run.remaining_qty <= 0:
        return run.pnl_gross
    average = run.entry.avg_fill_price
    if run.remaining_qty <= 0 or average is None or last_price is None:
        return None
    return (last_price - average) * run.remaining_qty


def _total_pnl(runs: Mapping[str, Run], prices: Mapping[Symbol, Decimal]) -> Decimal:
    gains = (pnl(run, prices.get(run.plan.symbol)) for run in runs.values())
    return sum((gain for gain in gains if gain is not None), Decimal(0))


def ledger_table(audit: LedgerAudit, runs: Mapping[str, Run]) -> Table:
    """The broker's own book. Names come from us; every number comes from the broker."""
    names = {run.key: name for name, run in runs.items()}
    table = Table(title="The broker's own ledger", title_justify="left", box=None, header_style="bold", padding=(0, 1))
    table.add_column("run")
    for heading in ("entries", "exits", "bought", "sold", "left", "P&L gross"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in audit.runs:
        table.add_row(
            names.get(one.key[2:], one.key),
            str(one.executed_entries),
            str(one.executed_exits),
            f"{one.entry_qty:f}",
            f"{one.exit_qty:f}",
            f"{one.net_qty:f}",
            "" if one.pnl_gross is None else money(f"{one.pnl_gross:f}"),
        )
    seen = {one.key for one in audit.runs}
    for name, run in runs.items():
        if f"SQ{run.key}" not in seen:  # not one order of it was taken
            table.add_row(name, "0", "0", "0", "0", "0", "", style="dim")
    return table


def verdict(audit: LedgerAudit, runs: Mapping[str, Run], acts: Sequence[Act], kills: int) -> tuple[bool, list[str]]:
    """Whether the day kept every promise, and the lines that say so."""
    entries = sum(one.executed_entries for one in audit.runs)
    exits = sum(one.executed_exits for one in audit.runs)
    orphans = len(audit.orphans) + len(audit.unbalanced_runs)
    lines = [f"entries {entries}, exits {exits}, doubles {len(audit.doubles)}, orphans {orphans}"]
    if kills:
        lines.append(f"the engine was killed {kills} time{'s' if kills > 1 else ''}")
    wrong = [*audit.doubles, *(f"{o.symbol}: {o.net_qty:f} left at the broker" for o in audit.orphans)]
    for act in acts:
        run = runs.get(act.name)
        state = None if run is None else run.outcome or run.state
        if run is None or state is not act.must_end:
            wrong.append(f"{act.name} must end {act.must_end}, but is {state}")
        elif run.exposure is not Exposure.FLAT:
            wrong.append(f"{act.name} ended {state} but is {run.exposure}")
    return not wrong and audit.is_clean, lines + [f"WRONG: {text}" for text in wrong]
