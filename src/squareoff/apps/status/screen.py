"""The picture as one screen, and as JSON."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from squareoff.apps.formats import clock, exact, local, money, plain, quantity, run_row
from squareoff.apps.status.next_action import day_words, held_words
from squareoff.apps.status.picture import OLD_FEED_S, Need, Picture, Row

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

NO_STRATEGIES = """No strategies yet. Next:
  squareoff add morning SIM:ALPHA 10 --buy 10:00 --sell 15:00 --stop-loss 1%
  squareoff start morning
  squareoff up --market practice"""

_STYLE = {Need.FAILED: "bold red", Need.HOLDING: "cyan", Need.DONE: "green", Need.NOT_STARTED: "dim"}


WIDE = 130
"""Columns of a terminal from which on everything has a column of its own."""


def view(picture: Picture, *, width: int) -> Group:
    from rich.console import Group
    from rich.text import Text

    alarms = [Text(f"{plain(alarm)}\n", "bold red") for alarm in picture.alarms]
    table = _table if width >= WIDE else _narrow_table
    body = table(picture) if picture.rows else Text(NO_STRATEGIES)
    if picture.switch:
        alarms.append(Text(f"{plain(picture.switch)}\n", "bold yellow"))
    return Group(*alarms, _head(picture), Text(""), body)


def _head(picture: Picture) -> Text:
    from rich.text import Text

    local_now = picture.now.astimezone(picture.zone)
    market = "no market yet" if picture.market is None else f"market {picture.market}, speed {picture.speed:g}"
    return Text.assemble(
        ("PAPER money", "bold black on bright_yellow"),
        f"  {plain(market)}  {day_words(local_now.date())} {clock(picture.now, picture.zone)[:8]} {local_now:%Z}\n",
        _who_runs(picture),
        _feed(picture),
    )


def _who_runs(picture: Picture) -> str:
    worker = _workers(picture)
    if picture.up is None:
        return f"squareoff up does not run, {worker}"
    return f"squareoff up runs (process {picture.up.get('pid', 'unknown')}), {worker}"


def _workers(picture: Picture) -> str:
    if not picture.workers:
        return "no trading worker"
    if len(picture.accounts) == 1:
        return ", ".join(f"trading worker {pid}" for pid in picture.workers.values())
    without = [account for account in picture.accounts if account not in picture.workers]
    told = "trading workers " + ", ".join(f"{account} {pid}" for account, pid in picture.workers.items())
    return told + (f"; NONE FOR {', '.join(without)}" if without else "")


def _feed(picture: Picture) -> tuple[str, str]:
    if picture.feed_age_s is None:
        return "", ""
    is_old = picture.feed_age_s > OLD_FEED_S
    return f", last price {picture.feed_age_s:.1f} s ago", "bold yellow" if is_old else ""


def _table(picture: Picture) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    account = ["account"] if len(picture.accounts) > 1 else []
    for heading in ("name", "symbol", *account, "held", "last", "stop-loss", "distance", "P&L gross", "what", "next"):
        is_number = heading in ("held", "last", "stop-loss", "distance", "P&L gross")
        wraps = heading in ("what", "next")
        table.add_column(
            heading, justify="right" if is_number else "left", no_wrap=not wraps, overflow="fold" if wraps else "crop"
        )
    for row in picture.rows:
        table.add_row(*_cells(row, picture), style=_STYLE.get(row.need, ""))
    return table


def _narrow_table(picture: Picture) -> Table:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in picture.rows:
        name = row.strategy.name if len(picture.accounts) == 1 else f"{row.strategy.name} ({row.account})"
        table.add_row(name, sentence(row, picture), style=_STYLE.get(row.need, ""))
    return table


def sentence(row: Row, picture: Picture) -> str:
    """All columns of a row as one text that wraps well."""
    parts = [row.words if not row.is_held or row.run is None else f"{row.words}: {held_words(row.run)}"]
    if row.is_held:
        parts[0] += f" ({row.stop_distance:.2f}% away)" if row.stop_distance is not None else ""
        parts += [f"last {money(row.last_price)}"] if row.last_price is not None else []
        parts += [f"P&L gross {money(row.gain)}"] if row.gain is not None else []
        parts += [f"guarded by {picture.guard(row)}"]
    parts += [row.next] if row.next else []
    return plain("; ".join(parts))


def _cells(row: Row, picture: Picture) -> tuple[str | Text, ...]:
    run = row.run
    held = "" if run is None or not row.is_held else quantity(run.remaining_qty)
    stop = "" if run is None or run.stop_price is None or not row.is_held else money(run.stop_price)
    last = money(row.last_price) if row.is_held else ""
    words = f"{row.words}; guarded by {picture.guard(row)}" if row.is_held else row.words
    return (
        row.strategy.name,
        row.strategy.symbol,
        *([row.account] if len(picture.accounts) > 1 else []),
        held,
        last,
        stop,
        percent(row.stop_distance),
        _gain(row.gain),
        plain(words),
        row.next,
    )


def percent(value: Decimal | None) -> str:
    return "" if value is None else f"{value:.2f}%"


def _gain(value: Decimal | None) -> str | Text:
    from rich.text import Text

    return "" if value is None else Text(money(value), "green" if value >= 0 else "red")


def document(picture: Picture) -> dict[str, Any]:
    """Money is text, so it stays exact; ages in real seconds, instants in the exchange's zone."""
    up = picture.up
    return {
        "money": "paper",
        "market": picture.market,
        "speed": picture.speed,
        "now": local(picture.now, picture.zone),
        "zone": picture.zone.key,
        "up": {"running": up is not None, "pid": None if up is None else up.get("pid")},
        "workers": {account: picture.workers.get(account) for account in picture.accounts},
        "feed_age_s": None if picture.feed_age_s is None else round(picture.feed_age_s, 3),
        "alarms": list(picture.alarms),
        "kill_switch": picture.switch or None,
        "strategies": [_row(row, picture) for row in picture.rows],
    }


def _row(row: Row, picture: Picture) -> dict[str, Any]:
    run = row.run
    return {
        "id": row.strategy.id,
        "name": row.strategy.name,
        "symbol": row.strategy.symbol,
        "account": row.account,
        "need": row.need.word,
        "armed": row.armed,
        "what": row.words,
        "next": row.next or None,
        "buy_at": None if run is None else local(run.plan.buy_at, row.zone),
        "sell_at": None if run is None else local(run.plan.sell_at, row.zone),
        "zone": row.zone.key,
        "guarded_by": picture.guard(row) if row.is_held else None,
        "last_price": exact(row.last_price),
        "stop_price": None if run is None else exact(run.stop_price),
        "stop_distance_percent": None if row.stop_distance is None else f"{row.stop_distance:.2f}",
        "pnl_gross": exact(row.gain),
        "run": None if run is None else run_row(run, row.zone),
    }
