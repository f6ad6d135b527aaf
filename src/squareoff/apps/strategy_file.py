"""Strategies from a TOML file; the format is told in docs/strategies.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from squareoff.core.bad_input import BadInput
from squareoff.core.definition import Draft, read
from squareoff.core.strategy import Strategy

EXAMPLE = """[[strategy]]
symbol = "NSE:INFY"
quantity = 50
buy_time = "09:20"
sell_time = "15:10"
stop_loss = "1.5%"
"""

_TABLE = "strategy"
_TABLE_LINE = re.compile(rf"\s*\[\[\s*{_TABLE}\s*\]\]", re.ASCII)


def load_strategy_file(path: Path) -> list[tuple[str, Draft]]:
    """Every strategy of the file with its place, such as "morning.toml, strategy 2 (line 9)", for messages.

    Raises BadInput: the file, or the first of its strategies that is wrong, with its place.
    """
    return read_strategies(_text(path), path.name)


def read_strategies(text: str, name: str) -> list[tuple[str, Draft]]:
    """As `load_strategy_file`, of the text of a file called `name`."""
    tables = read_tables(text, name)
    places = [f"{name}, {place}" for place in _places(text, len(tables))]
    drafts = [(where, read(table, where=where)) for where, table in zip(places, tables, strict=True)]
    _refuse_same_names(drafts)
    return drafts


def read_tables(text: str, name: str) -> Sequence[Mapping[str, object]]:
    """The tables as they are written, not judged yet. Raises BadInput: it is no such file."""
    return _tables(_parsed(text, name), name)


def written(strategies: Iterable[Strategy]) -> str:
    """The file that makes these strategies."""
    return "\n".join(_table_of(strategy) for strategy in strategies)


def _table_of(strategy: Strategy) -> str:
    lines = [
        f"[[{_TABLE}]]",
        f'name = "{strategy.name}"',
        f'symbol = "{strategy.symbol}"',
        f"quantity = {strategy.quantity:f}",
        f'buy_time = "{strategy.buy_time.isoformat()}"',
        f'sell_time = "{strategy.sell_time.isoformat()}"',
        f'stop_loss = "{strategy.stop_loss}"',
        f'repeat = "{strategy.repeat}"',
        *([] if strategy.until is None else [f'until = "{strategy.until.isoformat()}"']),
        f'product = "{strategy.product}"',
        f'account = "{strategy.account}"',
    ]
    return "\n".join(lines) + "\n"


def _text(path: Path) -> str:
    right = "name a TOML file with strategies"
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput("file", f"{path} does not exist", right) from None
    except UnicodeDecodeError:
        raise BadInput("file", f"{path} is not UTF-8 text", right) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput("file", f"{path} cannot be read: {why}", right) from error


def _parsed(text: str, name: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text, parse_float=_exact)
    except ValueError as error:  # tells line and column
        raise BadInput(name, f"is not valid TOML: {error}") from error
    except RecursionError as error:
        raise BadInput(name, "is not valid TOML: too many brackets inside each other") from error


def _exact(digits: str) -> Decimal:
    """As a binary float, 1540.05 would be another number."""
    try:
        return Decimal(digits)
    except InvalidOperation:
        raise ValueError(f"{digits[:60]} is not a number") from None


def _tables(top: Mapping[str, Any], name: str) -> Sequence[Mapping[str, object]]:
    for key in top:
        if key != _TABLE:
            wrong = f"{key[:60]!r} is not known at the top of the file"
            raise BadInput(name, wrong, f"each strategy begins with [[{_TABLE}]] and its fields follow below")
    tables = top.get(_TABLE, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise BadInput(name, f"{_TABLE!r} is not a list", f"write [[{_TABLE}]] with double brackets")
    if not tables:
        raise BadInput(name, "has no strategies", f"begin each with [[{_TABLE}]]")
    return tables


def _places(text: str, count: int) -> list[str]:
    """The TOML reader tells no lines; where the headers are as many as the tables, they are the tables'."""
    lines = [n for n, line in enumerate(text.splitlines(), start=1) if _TABLE_LINE.match(line)]
    if len(lines) != count:
        return [f"strategy {n}" for n in range(1, count + 1)]
    return [f"strategy {n} (line {line})" for n, line in enumerate(lines, start=1)]


def _refuse_same_names(drafts: Sequence[tuple[str, Draft]]) -> None:
    first: dict[str, str] = {}
    for where, draft in drafts:
        if draft.name in first:
            before = first[draft.name].rpartition(", ")[2]
            raise BadInput(f"{where}: name", f"{draft.name!r} is already the name of {before}", "give each its own")
        first[draft.name] = where
