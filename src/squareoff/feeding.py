"""Where prices come from: the stream, connected again when it ends or falls silent, and quotes while it does.

A stop-loss is only as good as the price it sees. So silence is told, and while it lasts prices are asked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from squareoff.core.board import Board
from squareoff.core.machine import WATCHES_STOP, State
from squareoff.core.types import Symbol, Tick
from squareoff.errors import BrokerUnavailable
from squareoff.ports import Clock, JournalKind, MarketFeed, Quotes

FEED_SILENT_S = 5.0
"""A stream that gives no sign of life for this long while a stop-loss is armed is told, and connected again."""
BEFORE_BUY = timedelta(seconds=30)
"""A feed that is silent so shortly before a BUY is told too: the BUY needs its price."""
SUBSCRIBE_S = 0.1
"""Symbols of new runs are subscribed to within this time, and those of archived ones no more."""
QUOTES_S = 1.0
"""While the stream is silent, or a price of it is doubted, prices are asked for this often."""
COMPARE_S = 15.0
"""A stream may be alive and yet not tell the prices of a symbol: it is compared with the quotes this often."""
COUNTS_S = 60.0
RECONNECT_FIRST_S, RECONNECT_LONGEST_S = 0.1, 5.0


class Feeding(Protocol):
    """What is needed of the engine."""

    board: Board

    def warn(self, what: str, headline: str, text: str) -> None: ...
    def say(self, kind: JournalKind, text: str) -> None: ...


class Listening(Protocol):
    """What is needed of the listener."""

    ignored: Counter[str]
    doubted: set[Symbol]

    def on_tick(self, tick: Tick, *, is_quote: bool = False) -> None: ...


def pause_s(failures: int, luck: float) -> float:
    """How long to wait after so many failures in a row, 1 or more: it doubles, and luck (0 to 1) has half a say, so
    that all who lost the same connection do not come back at the same moment."""
    longest_s = min(RECONNECT_FIRST_S * 2.0 ** min(failures - 1, 10), RECONNECT_LONGEST_S)
    return longest_s * (1 + luck) / 2


@dataclass(kw_only=True)
class FeedKeeper:
    """Loops of their own that never end; `quotes` None: there is no second source."""

    engine: Feeding
    clock: Clock
    feed: MarketFeed
    quotes: Quotes | None
    listener: Listening
    dice: Callable[[], float]
    _heard_s: float = 0.0
    """When the stream last gave a sign of life, or was not needed (monotonic seconds)."""
    _news: list[Tick] = field(default_factory=list)
    """Trades that the stream had not told when a quote did."""
    _is_mute: bool = False
    """The stream is alive, but does not tell what is traded."""

    def loops(self) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        self._heard_s = self.clock.monotonic_s()
        return (self.keep_feed, self.keep_quotes, self.keep_counts)

    # ------------------------------------------------------------------ the stream

    async def keep_feed(self) -> None:
        failures = 0
        while True:
            symbols = self._symbols()
            if not symbols:
                self._heard_s = self.clock.monotonic_s()
                await self.clock.sleep(SUBSCRIBE_S)
                continue
            began_s = self.clock.monotonic_s()
            ended = await self._read(symbols)
            if ended is None:
                continue
            stood = self.clock.monotonic_s() - began_s >= FEED_SILENT_S  # also one that was mute: that was pause enough
            failures = 1 if stood else failures + 1
            self.engine.say(JournalKind.NOTE, f"the price feed ended: {ended}; connecting again")
            await self.clock.sleep(pause_s(failures, self.dice()))

    async def _read(self, symbols: Sequence[Symbol]) -> str | None:
        """Read until the stream ends or falls silent (why is returned), or other symbols are wanted (None)."""
        began_s, self._is_mute = self.clock.monotonic_s(), False
        reading = asyncio.ensure_future(self.feed.run(symbols, self.listener.on_tick, on_frame=self._on_frame))
        try:
            while not reading.done() and self._symbols() == symbols:
                await asyncio.wait({reading}, timeout=SUBSCRIBE_S)
                if self._is_armed() and self._silent_s(began_s) >= FEED_SILENT_S:
                    return f"no sign of life for {FEED_SILENT_S:g} s"
                if self._is_mute:
                    return "it does not tell what is traded"
        finally:
            was_done = reading.done()
            self.engine.board.feed_ends()
            reading.cancel()
            (result,) = await asyncio.gather(reading, return_exceptions=True)
        return (str(result) if result is not None else "connection closed") if was_done else None

    def _on_frame(self) -> None:
        self._heard_s = self.clock.monotonic_s()
        self.engine.board.feed_lives(self.clock.now())

    def _silent_s(self, since_s: float = 0.0) -> float:
        return self.clock.monotonic_s() - max(self._heard_s, since_s)

    @property
    def age_s(self) -> float:
        """Real seconds since the stream last gave a sign of life, or was not needed."""
        return self._silent_s()

    def _is_armed(self) -> bool:
        """Whether a stop-loss is watched, or a BUY is about to be made."""
        now = self.clock.now()
        return any(
            run.state in WATCHES_STOP
            or (run.state is State.READY and run.plan.buy_at - BEFORE_BUY <= now <= run.plan.buy_until)
            for run in self.engine.board.runs.values()
        )

    def _symbols(self) -> list[Symbol]:
        return sorted(symbol for symbol, cell in self.engine.board.cells.items() if cell.run_ids)

    # ------------------------------------------------------------------ the second source

    async def keep_quotes(self) -> None:
        was_silent, compared_s = False, self.clock.monotonic_s()
        while True:
            await self.clock.sleep(QUOTES_S)
            self._look_for_what_was_not_told()
            is_silent = self._is_armed() and self._silent_s() >= FEED_SILENT_S
            if is_silent:
                self._tell_silence(is_new=not was_silent)
                await self._ask(self._symbols())
            elif was_silent:
                self.engine.say(JournalKind.NOTE, "the price feed speaks again, or is not needed: no quotes any more")
            elif doubted := sorted(self.listener.doubted.intersection(self._symbols())):
                await self._ask(doubted)
            elif self._is_armed() and self.clock.monotonic_s() - compared_s >= COMPARE_S:
                compared_s = self.clock.monotonic_s()
                self._news = await self._ask(self._symbols())
            was_silent = is_silent

    def _tell_silence(self, *, is_new: bool) -> None:
        if self.quotes is None:
            text = f"no price for {FEED_SILENT_S:g} s: a stop-loss cannot be seen; connecting again"
        else:
            text = f"nothing for {FEED_SILENT_S:g} s; the broker is asked for prices every {QUOTES_S:g} s meanwhile"
            if is_new:
                self.engine.say(JournalKind.NOTE, "the price feed is silent: quotes are asked for until it speaks")
        self.engine.warn("feed", "the price feed is silent", text)

    async def _ask(self, symbols: Sequence[Symbol]) -> list[Tick]:
        """Show the last trades to the listener; those that the stream should have told before are returned."""
        if self.quotes is None:
            return []
        try:
            quotes = await self.quotes.quotes(symbols)
        except BrokerUnavailable as error:
            if self._is_armed() and self._silent_s() >= FEED_SILENT_S:
                text = f"{error}; a stop-loss cannot be seen. Both are tried again all the time"
                self.engine.warn("quotes", "the price feed is silent, and no quotes come either", text)
            return []
        news = [quote for quote in quotes if self._is_news(quote)]
        for quote in quotes:
            self.listener.on_tick(quote, is_quote=True)
        return news

    def _is_news(self, quote: Tick) -> bool:
        """A trade of the time since this connection speaks that it has not told, or not yet."""
        last = self.engine.board.last(quote.symbol)
        return self._is_of_this_connection(quote) and (last is None or quote.at > last.at)

    def _is_of_this_connection(self, quote: Tick) -> bool:
        since = self.engine.board.speaks_since
        return since is not None and quote.at > since

    def _look_for_what_was_not_told(self) -> None:
        """Whether a second was not enough for the stream to tell what a quote told: then it leaves prices out."""
        news, self._news = self._news, []
        untold = [quote.symbol for quote in news if self.engine.board.last(quote.symbol) is quote]
        if not untold or not any(map(self._is_of_this_connection, news)):
            return
        self._is_mute = True
        text = f"{', '.join(untold)}: traded, but the stream does not tell it; connecting again"
        self.engine.warn("mute feed", "the price feed leaves prices out", text)

    # ------------------------------------------------------------------ what was not believed

    async def keep_counts(self) -> None:
        """Once a minute what the listener ignored goes into the journal."""
        told: Counter[str] = Counter()
        while True:
            await self.clock.sleep(COUNTS_S)
            new = self.listener.ignored - told
            told += new
            if new:
                parts = ", ".join(f"{count} {reason}" for reason, count in sorted(new.items()))
                self.engine.say(JournalKind.NOTE, f"ticks ignored in the last minute: {parts}")
