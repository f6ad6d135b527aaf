"""A feed in memory: whoever holds it pushes the ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from squareoff.core.types import Symbol, Tick
from squareoff.errors import BrokerUnavailable


class MemoryFeed:
    """`ports.MarketFeed` and `ports.Quotes`: `push` shows a tick to every reader of its symbol, `end` ends their
    connections."""

    def __init__(self) -> None:
        self._readers: list[tuple[frozenset[Symbol], Callable[[Tick], None], Callable[[], None], asyncio.Event]] = []
        self._last: dict[Symbol, Tick] = {}
        self.is_up = True
        """Whether quotes are answered."""

    @property
    def symbols(self) -> frozenset[Symbol]:
        """What is subscribed to now."""
        return frozenset(symbol for symbols, *_ in self._readers for symbol in symbols)

    async def run(
        self, symbols: Sequence[Symbol], on_tick: Callable[[Tick], None], *, on_frame: Callable[[], None] | None = None
    ) -> None:
        reader = (frozenset(symbols), on_tick, on_frame or _nothing, asyncio.Event())
        self._readers.append(reader)
        try:
            await reader[3].wait()
        finally:
            self._readers.remove(reader)

    async def quotes(self, symbols: Sequence[Symbol]) -> Sequence[Tick]:
        if not self.is_up:
            raise BrokerUnavailable("no quotes")
        return [self._last[symbol] for symbol in symbols if symbol in self._last]

    def push(self, tick: Tick) -> None:
        self._last[tick.symbol] = tick
        for symbols, on_tick, on_frame, _ in list(self._readers):
            if tick.symbol in symbols:
                on_frame()
                on_tick(tick)

    def end(self) -> None:
        for *_, ended in self._readers:
            ended.set()


def _nothing() -> None:
    pass
