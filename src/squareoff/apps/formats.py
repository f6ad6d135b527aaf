"""How the command line writes money, times and strategies, for people and as JSON."""

from __future__ import annotations

import json
import re
import sys
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from squareoff.core.machine import CAUSE_LABEL, EXPOSURE_LABEL, STATE_LABEL, State
from squareoff.core.run import Run
from squareoff.core.strategy import Strategy
from squareoff.core.types import SlotName

if TYPE_CHECKING:
    from rich.console import Console

_MOST_DECIMALS = 6
_WIDTH_OF_A_FILE = 180


def console(*, errors: bool = False) -> Console:
    """For a terminal as wide as it is; what goes into a file or a pipe is not wrapped to 80 letters."""
    from rich.console import Console

    out = Console(stderr=errors, highlight=False, markup=False)
    if not out.is_terminal:
        out = Console(stderr=errors, highlight=False, markup=False, width=_WIDTH_OF_A_FILE)
    return out


def print_json(document: Any) -> None:
    sys.stdout.write(json.dumps(document, indent=1, default=str) + "\n")


def plain(text: str) -> str:
    """One line that no terminal takes for a command: words from outside may hold anything."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def money(value: Decimal | None) -> str:
    """With thousands separators, as many decimals as it has but at least two; "~" where six are not all of them."""
    if value is None:
        return ""
    exponent = value.normalize().as_tuple().exponent
    decimals = -exponent if isinstance(exponent, int) else 0
    if decimals > _MOST_DECIMALS:
        step = Decimal(1).scaleb(-_MOST_DECIMALS)
        return f"~{value.quantize(step, ROUND_HALF_EVEN):,f}"
    return f"{value:,.{max(decimals, 2)}f}"


_PLAIN_NUMBER = re.compile(r"(?<![\w.,:/-])\d{4,12}(\.\d+)?(?![\w:/-])", re.ASCII)


def with_separators(text: str) -> str:
    """Prices inside a sentence as `money` writes them; ids, times and days stay as they are."""
    return _PLAIN_NUMBER.sub(lambda number: money(Decimal(number[0])), text)


def quantity(value: Decimal) -> str:
    exponent = value.normalize().as_tuple().exponent
    return f"{value:,.{max(-exponent, 0) if isinstance(exponent, int) else 0}f}"


def clock(instant: datetime, zone: ZoneInfo) -> str:
    """The exchange's wall clock to the millisecond."""
    return instant.astimezone(zone).isoformat(sep=" ", timespec="milliseconds")[11:23]


def local(instant: datetime | None, zone: ZoneInfo) -> str | None:
    return None if instant is None else instant.astimezone(zone).isoformat(timespec="milliseconds")


def exact(value: Decimal | None) -> str | None:
    """Money as text, so that no JSON reader makes a float of it; one text for one value."""
    if value is None:
        return None
    digits = f"{value:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def state_words(state: State) -> str:
    """The specification's word with what it means to a trader."""
    label = STATE_LABEL[state]
    return str(state) if label == state else f"{state}: {label}"


def strategy_row(strategy: Strategy) -> dict[str, Any]:
    return {
        "id": strategy.id,
        "name": strategy.name,
        "symbol": strategy.symbol,
        "quantity": exact(strategy.quantity),
        "buy_time": strategy.buy_time.isoformat(),
        "sell_time": strategy.sell_time.isoformat(),
        "stop_loss": str(strategy.stop_loss),
        "repeat": str(strategy.repeat),
        "until": None if strategy.until is None else strategy.until.isoformat(),
        "product": str(strategy.product),
        "account": strategy.account,
    }


def run_row(run: Run, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "run_id": run.plan.run_id,
        "date": run.plan.trading_day.isoformat(),
        "strategy": run.plan.name,
        "symbol": run.plan.symbol,
        "state": str(run.state),
        "label": STATE_LABEL[run.state],
        "outcome": None if run.outcome is None else str(run.outcome),
        "cause": None if run.cause is None else str(run.cause),
        "cause_label": None if run.cause is None else CAUSE_LABEL[run.cause],
        "detail": run.detail,
        "exposure": str(run.exposure),
        "exposure_label": EXPOSURE_LABEL[run.exposure],
        "closed": run.is_closed,
        "quantity": exact(run.plan.quantity),
        "held": exact(run.remaining_qty),
        "stop_price": exact(run.stop_price),
        "entry_price": exact(run.entry.avg_fill_price),
        "exit_price": exact(run.exit.avg_fill_price),
        "pnl": exact(run.pnl_gross),
        "orders": [_order_row(run, name, index, zone) for name in SlotName for index in _indices(run, name)],
    }


def _indices(run: Run, name: SlotName) -> range:
    return range(len(run.slot(name).attempts))


def _order_row(run: Run, name: SlotName, index: int, zone: ZoneInfo) -> dict[str, Any]:
    attempt = run.slot(name).attempts[index]
    return {
        "slot": str(name),
        "attempt": attempt.number,
        "client_order_id": attempt.client_order_id,
        "broker_order_id": attempt.broker_order_id,
        "quantity": exact(attempt.qty),
        "filled_quantity": exact(attempt.filled_qty),
        "limit_price": exact(attempt.limit_price),
        "phase": str(attempt.phase),
        "reason": attempt.reason,
        "fills": [
            {
                "trade_id": fill.trade_id,
                "quantity": exact(fill.qty),
                "price": exact(fill.price),
                "at": local(fill.at, zone),
            }
            for fill in attempt.fills
        ],
    }
