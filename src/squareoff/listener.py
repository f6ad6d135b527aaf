"""tick -> due() -> event. The way of a stop-loss: one comparison per tick, whatever the number of strategies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

from squareoff.core.board import Board, SymbolCell
from squareoff.core.events import Signal, Source
from squareoff.core.machine import State
from squareoff.core.triggers import due
from squareoff.core.types import RunId, Tick
from squareoff.ports import Clock

_ZERO = Decimal(0)
_AHEAD = timedelta(seconds=2)


class Listener:
    """Shows every tick to the board and hands on what it makes due."""

    def __init__(
        self,
        *,
        board: Board,
        clock: Clock,
        notify: Callable[[RunId, Signal], None],
        on_low: Callable[[RunId, Tick], None],
    ) -> None:
        self._cells, self._board, self._clock = board.cells, board, clock
        self._notify, self._on_low = notify, on_low
        self.ignored: Counter[str] = Counter()
        """Ticks that decided nothing, by reason."""

    def on_tick(self, tick: Tick) -> None:
        """Absurd and backward ticks are counted and decide nothing."""
        cell = self._cells.get(tick.symbol)
        if cell is None:
            self.ignored["not subscribed"] += 1
            return
        price = tick.price
        if not price.is_finite() or price <= _ZERO:  # in this order: a NaN cannot be compared
            self.ignored["absurd price"] += 1
            return
        last = cell.last
        if last is not None and tick.at < last.at and not self._is_ahead(last):
            self.ignored["backwards in time"] += 1
            return
        cell.last = tick
        if price <= cell.top:
            self._tripped(tick)
        if cell.eager:
            self._eager(cell, tick)

    def _is_ahead(self, tick: Tick) -> bool:
        """Dated in the future by mistake: it must not make all that come after it look old."""
        return tick.at - self._clock.now() > _AHEAD

    def _tripped(self, tick: Tick) -> None:
        now = self._clock.now()
        for run_id in self._board.tripped(tick.symbol, tick.price):
            signal = due(self._board.runs[run_id], now, tick, Source.TICK)
            if signal is not None:
                self._notify(run_id, signal)

    def _eager(self, cell: SymbolCell, tick: Tick) -> None:
        now = self._clock.now()
        for run_id in tuple(cell.eager):
            run = self._board.runs[run_id]
            if run.state is State.RUNNING:
                self._on_low(run_id, tick)
            elif (signal := due(run, now, tick, Source.TICK)) is not None:
                self._notify(run_id, signal)
