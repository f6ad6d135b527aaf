"""tick -> due() -> event. The way of a stop-loss: one comparison per tick, whatever the number of strategies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from decimal import InvalidOperation

from squareoff.core.board import NOTHING_BETWEEN, Board, SymbolCell
from squareoff.core.events import Signal, Source
from squareoff.core.figures import UNMETERED
from squareoff.core.machine import State
from squareoff.core.plausible import ANY_PRICE, PriceLimits, confirms, doubt, is_absurd, usual_range
from squareoff.core.triggers import due
from squareoff.core.types import RunId, Symbol, Tick
from squareoff.ports import Clock, Meter

_AHEAD = timedelta(seconds=2)
_BOUGHT = State.BOUGHT


def _any_price(symbol: Symbol) -> PriceLimits:
    return ANY_PRICE


class Listener:
    """Shows every tick to the board and hands on what it makes due."""

    def __init__(
        self,
        *,
        board: Board,
        clock: Clock,
        notify: Callable[[RunId, Signal], None],
        on_low: Callable[[RunId, Tick], None],
        limits: Callable[[Symbol], PriceLimits] = _any_price,
        meter: Meter = UNMETERED,
    ) -> None:
        """`limits` is asked while a stop-loss may be waiting: it must answer from memory."""
        self._cells, self._board, self._clock = board.cells, board, clock
        self._notify, self._on_low, self._limits, self._meter = notify, on_low, limits, meter
        self.seen = 0
        """Ticks that came, those that were asked for included."""
        self.ignored: Counter[str] = Counter()
        """Ticks that decided nothing, by reason."""
        self.doubted: set[Symbol] = set()
        """Symbols of which a price is held back: whoever can tell a true one should."""

    def on_tick(self, tick: Tick, *, is_quote: bool = False) -> None:
        """Absurd and backward ticks are counted and decide nothing; an implausible one waits for the next.

        `is_quote`: it was asked for, just now, so it also counts where it only repeats what the feed told."""
        self.seen += 1
        cell = self._cells.get(tick.symbol)
        if cell is None:
            self.ignored["not subscribed"] += 1
            return
        try:
            is_usual = cell.low < tick.price < cell.high  # also: above every stop-loss
        except InvalidOperation:  # a NaN cannot be compared
            is_usual = False
        if not is_usual:
            self._unusual(cell, tick, is_quote)
            return
        last = cell.last
        if last is not None and tick.at < last.at and not self._is_ahead(last):
            self.ignored["backwards in time"] += 1
            return
        cell.last = tick
        cell.heard_at = self._board.alive_at if not is_quote else self._clock.now()
        if cell.eager:
            self._eager(cell, tick)

    # ------------------------------------------------------------------ prices that need a second look

    def _unusual(self, cell: SymbolCell, tick: Tick, is_quote: bool) -> None:
        came_s = self._clock.monotonic_s()
        if is_absurd(tick.price):
            self.ignored["absurd price"] += 1
            return
        if cell.last is not None and tick.at < cell.last.at and not self._is_ahead(cell.last):
            self.ignored["backwards in time"] += 1
            return
        limits = self._limits(tick.symbol)
        for each in self._believed(cell, tick, limits, is_quote):
            low, high = usual_range(each.price, limits)
            cell.low, cell.high = max(low, cell.top), high
            cell.last = each
            cell.heard_at = self._board.alive_at if not is_quote else self._clock.now()
            if each.price <= cell.top:
                self._tripped(each, came_s)
            if cell.eager:
                self._eager(cell, each)

    def _believed(self, cell: SymbolCell, tick: Tick, limits: PriceLimits, is_quote: bool) -> Sequence[Tick]:
        """What counts now that `tick` came: itself, with it the one before that was doubted, or nothing yet."""
        if cell.doubted is not None:
            doubted, why = cell.doubted
            if tick == doubted and not is_quote:
                return ()  # the same tick told twice proves nothing
            cell.doubted = None
            self.doubted.discard(tick.symbol)
            if confirms(tick, doubted, limits):
                return sorted((doubted, tick), key=lambda each: each.at)  # both: either may trip a stop-loss
            self.ignored[why] += 1
        why_not = doubt(tick, cell.last, limits, self._clock.now())
        if why_not is None:
            return (tick,)
        cell.doubted = tick, why_not
        cell.low, cell.high = NOTHING_BETWEEN  # the next tick decides, whatever its price
        self.doubted.add(tick.symbol)
        return ()

    def _is_ahead(self, tick: Tick) -> bool:
        """Dated in the future by mistake: it must not make all that come after it look old."""
        return tick.at - self._clock.now() > _AHEAD

    # ------------------------------------------------------------------ what a price makes due

    def _tripped(self, tick: Tick, came_s: float) -> None:
        now = self._clock.now()
        for run_id in self._board.tripped(tick.symbol, tick.price):
            run = self._board.runs[run_id]
            signal = due(run, now, tick, Source.TICK)
            if signal is not None:
                if run.state is _BOUGHT:  # in any other state something else comes before the SELL, or it is sent
                    self._meter.stop_trips(run_id, came_s)
                self._notify(run_id, signal)

    def _eager(self, cell: SymbolCell, tick: Tick) -> None:
        now = self._clock.now()
        for run_id in tuple(cell.eager):
            run = self._board.runs[run_id]
            if run.state is State.RUNNING:
                self._on_low(run_id, tick)
            elif (signal := due(run, now, tick, Source.TICK, as_of=self._board.as_of(tick.symbol))) is not None:
                self._notify(run_id, signal)
