"""A statement that is asked many times a second: compiled once, its values still pass the types of their columns.

SQLAlchemy works out anew at each execution what here is known from the start; for the journal that was nine tenths
of the time, in a thread that shares the interpreter with a stop-loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Insert
from sqlalchemy.engine import Connection, Dialect


class PreparedInsert:
    """`statement` for rows that all have exactly `columns`."""

    def __init__(self, statement: Insert, columns: Sequence[str], dialect: Dialect) -> None:
        compiled = statement.inline().compile(dialect=dialect, column_keys=list(columns))
        self._sql = str(compiled)
        self._is_positional = compiled.positional
        order = compiled.positiontup if compiled.positiontup is not None else columns
        types = {name: compiled.binds[name].type.dialect_impl(dialect) for name in order}
        self._columns = [(name, types[name].bind_processor(dialect)) for name in order]

    def execute(self, connection: Connection, rows: Iterable[Mapping[str, Any]]) -> None:
        """Insert `rows`, at least one. Raises what the type of a column raises for a value it does not take."""
        made = [[row[name] if make is None else make(row[name]) for name, make in self._columns] for row in rows]
        if self._is_positional:
            connection.exec_driver_sql(self._sql, [tuple(values) for values in made])
            return
        names = [name for name, _ in self._columns]
        connection.exec_driver_sql(self._sql, [dict(zip(names, values, strict=True)) for values in made])
