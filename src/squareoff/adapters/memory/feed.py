"""A feed in memory: whoever holds it pushes the ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from squareoff.core.types import Symbol, Tick


class MemoryFeed:
    """`ports.MarketFeed`: `push` shows a tick to every reader of its symbol, `end` ends their connections."""

    def __init__(self) -> None:
        self._readers: list[tuple[frozenset[Symbol], Callable[[Tick], None], asyncio.Event]] = []

    @property
    def symbols(self) -> frozenset[Symbol]:
        """What is subscribed to now."""
        return frozenset(symbol for symbols, _, _ in self._readers for symbol in symbols)

    async def run(self, symbols: Sequence[Symbol], on_tick: Callable[[Tick], None]) -> None:
        reader = (frozenset(symbols), on_tick, asyncio.Event())
        self._readers.append(reader)
        try:
            await reader[2].wait()
        finally:
            self._readers.remove(reader)

    def push(self, tick: Tick) -> None:
        for symbols, on_tick, _ in list(self._readers):
            if tick.symbol in symbols:
                on_tick(tick)

    def end(self) -> None:
        for _, _, ended in self._readers:
            ended.set()
