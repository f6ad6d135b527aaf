"""The machine's clock, watched: a step of it is told, and followed when somebody outside says the same.

Until it is known which clock is right, nothing is bought; what is held goes on by trading time, and its stop-loss goes
by prices, not by time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from squareoff.core.board import Board
from squareoff.core.timekeeping import LARGE, NOTICED, Belief, believe
from squareoff.core.types import Symbol, Tick
from squareoff.errors import BrokerUnavailable
from squareoff.ports import Broker, JournalKind, Storyteller, WatchedClock

LOOK_EVERY_S = 0.25
ASK_EVERY_S = 1.0
"""While nobody has said which clock is right."""
ASK_AGAIN_S = 60.0
"""Clocks drift apart without a step, too."""
TRADES_FOR_S, TRADES_LEAST = 1.0, 3
"""Trades are believed after so long, and so many looks at which there was a new one: a single one may be old."""
_HALF_A_SECOND = timedelta(seconds=0.5)
"""The date of an answer has whole seconds, and is on average half a one late."""


class Timed(Storyteller, Protocol):
    """What is needed of the engine."""

    board: Board
    time_doubt: str | None

    def warn(self, what: str, headline: str, text: str) -> None: ...
    def time_moved(self, by: timedelta) -> None: ...


@dataclass(kw_only=True)
class Timekeeper:
    engine: Timed
    clock: WatchedClock
    broker: Broker
    moved: Callable[[], None]
    """Called when trading time was set anew: for those who sleep until an instant."""
    _judged: timedelta | None = None
    """The step about which somebody outside has spoken; None: nobody has yet, or it contradicts."""
    _judged_s: float = 0.0
    _asked_s: float = float("-inf")
    _noticed: timedelta = timedelta(0)
    """The step that is being asked about."""
    _told: Belief | None = None
    _seen: dict[Symbol, Tick] = field(default_factory=dict)
    _trades: list[tuple[float, timedelta]] = field(default_factory=list)
    """When new trades were seen (monotonic seconds), and how far the newest of them was ahead of trading time."""

    async def keep_time(self) -> None:
        while True:
            if self._is_in_question(self.clock.step()):
                self._look_at_trades()
                if self.clock.monotonic_s() - self._asked_s >= ASK_EVERY_S:
                    self._asked_s = self.clock.monotonic_s()
                    self._judge(await self._ask_broker())
            await self.clock.sleep(LOOK_EVERY_S)

    def _is_in_question(self, step: timedelta) -> bool:
        if abs(step - self._noticed) > NOTICED:
            self._notice(step)
        is_old = self.clock.monotonic_s() - self._judged_s >= ASK_AGAIN_S
        return self._judged is None or is_old

    def _notice(self, step: timedelta) -> None:
        self._noticed, self._judged, self._told = step, None, None
        self._seen, self._trades, self._asked_s = {}, [], float("-inf")
        text = f"this machine's clock was set {_words(step)}; trading time does not follow until the broker or the feed"
        self.engine.say(JournalKind.NOTE, f"{text} says the same", step_s=step.total_seconds())
        if abs(step) > LARGE:
            self._doubt(f"{text} says the same; nothing is bought until then")

    def _doubt(self, text: str) -> None:
        self.engine.time_doubt = text
        self.engine.warn("clock", "nobody can say what time it is", text)

    # ------------------------------------------------------------------ those outside

    async def _ask_broker(self) -> timedelta | None:
        asked = self.clock.now()
        try:
            told = await self.broker.server_time()
        except BrokerUnavailable:
            return None
        if told is None or self.clock.now() - asked > LARGE:  # an answer under way for so long tells no time
            return None
        return told + _HALF_A_SECOND - (asked + (self.clock.now() - asked) / 2)

    def _look_at_trades(self) -> None:
        now, ahead = self.clock.now(), list[timedelta]()
        for symbol, cell in self.engine.board.cells.items():
            last = cell.last
            if last is not None and self._seen.get(symbol) is not last:
                if symbol in self._seen:  # the first one seen may have been there for hours
                    ahead.append(last.at - now)
                self._seen[symbol] = last
        if ahead:
            self._trades.append((self.clock.monotonic_s(), max(ahead)))

    def _of_trades(self) -> timedelta | None:
        if len(self._trades) < TRADES_LEAST or self._trades[-1][0] - self._trades[0][0] < TRADES_FOR_S:
            return None
        return max(ahead for _, ahead in self._trades)

    # ------------------------------------------------------------------ which one is right

    def _judge(self, broker: timedelta | None) -> None:
        step = self.clock.step()
        if abs(step - self._noticed) > NOTICED:
            return  # set once more while somebody was asked
        belief = believe(step, broker=broker, trades=self._of_trades())
        is_new, self._told = belief is not self._told, belief
        if belief is Belief.UNKNOWN:
            if abs(step) > LARGE and self._judged is None:
                self._doubt(f"this machine's clock was set {_words(step)}, and nobody outside says what time it is")
            return
        if belief is Belief.NEITHER:
            said = "" if broker is None else f"; the broker's is {_words(broker)} of it"
            text = f"this machine's clock is {_words(step)} of trading time{said}: set it right. Nothing is bought"
            self._doubt(f"{text} until two of them agree")
            return
        if belief is Belief.WALL and abs(step) > NOTICED:
            self._follow(step)
        elif abs(step) > LARGE:
            text = f"this machine's clock is {_words(step)} of what broker or feed say: set it right"
            self.engine.warn("wrong clock", "this machine's clock is wrong", f"{text}; squareoff goes by its own")
        elif is_new and abs(step) > NOTICED:
            text = f"this machine's clock is {_words(step)} of trading time, which agrees with the broker or the feed"
            self.engine.say(JournalKind.NOTE, text)
        self.engine.time_doubt = None
        self._judged, self._judged_s = self._noticed, self.clock.monotonic_s()
        self._seen, self._trades = {}, []
        self._confirm()

    def _follow(self, step: timedelta) -> None:
        self.clock.follow(step)
        self._noticed = timedelta(0)
        text = f"trading time follows this machine's clock, {_words(step)}: the broker or the feed says the same"
        self.engine.say(JournalKind.NOTE, text, step_s=step.total_seconds())
        self.engine.time_moved(step)
        self.moved()

    def _confirm(self) -> None:
        try:
            self.clock.confirm()
        except OSError as error:
            self.engine.warn("clock file", "the confirmed time cannot be kept on the disk", str(error))


def _words(step: timedelta) -> str:
    seconds = abs(step.total_seconds())
    amount = f"{seconds:.2f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"
    return f"{amount} {'ahead' if step > timedelta(0) else 'behind'}"
