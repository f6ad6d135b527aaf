"""The practice market: generated prices at any hour of any day, the same ones for the same seed.

The price of a symbol depends on nothing but the seed, the symbol and the trading instant. Nothing is remembered, so a
broker that was killed goes on as if it had never been away. All of it is reckoned in whole numbers: floats could
differ between machines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache, partial
from hashlib import blake2b
from typing import Protocol

from squareoff.core.types import ZERO, Symbol, Tick
from squareoff.ports import Clock

MOST_TICKS_PER_S = 2000
"""Of all symbols together, in real seconds: with a broker's whole list each comes less often, and orders are still
answered."""
_DRAWS_KEPT = 100_000
"""Only for speed: a symbol needs some 50 numbers, and most of them again at its next tick."""


class Show(Protocol):
    """Where ticks go. Unless `fills`, a tick is told to the feed but is no trade: no order may fill at it."""

    def __call__(self, tick: Tick, *, fills: bool = True) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class PracticeSymbol:
    """`tick_size`: every price is a multiple of it, above 0."""

    symbol: Symbol
    tick_size: Decimal

    def __post_init__(self) -> None:
        if not self.tick_size > ZERO:
            raise ValueError(f"{self.symbol}: the tick size must be more than 0, not {self.tick_size}")


class Oddity(StrEnum):
    """What real feeds do on bad days."""

    # the market itself: orders fill at these prices, or wait
    JUMP = "jump"
    """The price steps by 2 to 6 % from one tick to the next and finds its way back by the end of the hour."""
    GAP = "gap"
    """One symbol is silent for 5 to 40 s."""
    HALT = "halt"
    """One symbol is silent for 60 s."""
    # the feed only: no order fills at these
    STALE = "stale"
    """The price of 2 to 30 minutes ago comes once more, with that date."""
    DUPLICATE = "duplicate"
    """The same tick comes twice."""
    OUT_OF_ORDER = "out_of_order"
    """A tick of 2 to 10 s ago comes after a newer one."""
    FUTURE = "future"
    """A true price is dated 10 to 60 minutes ahead."""
    ABSURD = "absurd"
    """A price of 0, below 0, not a number, or wrong by a factor of 100."""


SILENT = (Oddity.GAP, Oddity.HALT)
FEED_ONLY = (Oddity.STALE, Oddity.DUPLICATE, Oddity.OUT_OF_ORDER, Oddity.FUTURE, Oddity.ABSURD)


@dataclass(frozen=True, slots=True)
class _Habit:
    """In one of `one_in` buckets of trading time it happens once to a symbol. `size` (lowest, highest): how long or
    how far."""

    bucket_s: int
    one_in: int
    size: tuple[int, int] = (0, 0)


_HABITS: dict[Oddity, _Habit] = {
    Oddity.JUMP: _Habit(3600, 3, (20_000_000, 60_000_000)),  # parts per billion of the base price
    Oddity.GAP: _Habit(900, 2, (5, 40)),  # this one and the rest: seconds
    Oddity.HALT: _Habit(3600, 3, (60, 60)),
    Oddity.STALE: _Habit(1800, 2, (120, 1800)),
    Oddity.DUPLICATE: _Habit(600, 2),
    Oddity.OUT_OF_ORDER: _Habit(1200, 2, (2, 10)),
    Oddity.FUTURE: _Habit(3600, 2, (600, 3600)),
    Oddity.ABSURD: _Habit(3600, 2),
}

_ABSURD_TIMES = (Decimal(0), Decimal(-1), Decimal("NaN"), Decimal(100), Decimal("0.01"))
"""What a true price is multiplied with."""


@dataclass(frozen=True, slots=True)
class _Episode:
    kind: Oddity
    begins_us: int
    bucket_ends_us: int
    size: int
    luck: int
    """A number of this episode's own, for every further choice."""


_S = 1_000_000
"""Microseconds."""
_WHOLE = 1_000_000_000
"""Prices move in parts of this."""
_OCTAVES: tuple[tuple[int, int], ...] = (
    (20 * 86_400 * _S, 60_000_000),
    (2 * 86_400 * _S, 12_000_000),
    (5 * 3600 * _S, 8_000_000),
    (3600 * _S, 5_000_000),
    (15 * 60 * _S, 2_200_000),
    (4 * 60 * _S, 1_100_000),
    (60 * _S, 600_000),
    (15 * _S, 250_000),
    (2 * _S, 100_000),
)
"""(time from one turning point to the next, how far it goes at most to either side). Their sum, and a jump on top,
stay far below the whole, so no price gets near 0."""


class PracticeMarket:
    """Every symbol trades all the time, between 100 and 3000 or so, and moves 1 to 3 % in a day.

    With `oddities` it also misbehaves, each time at an instant that seed and symbol alone decide: a run can be
    repeated. `met` counts what happened since the start.
    """

    def __init__(
        self, seed: int, symbols: Sequence[PracticeSymbol], *, oddities: bool = False, tick_every_s: float = 0.5
    ) -> None:
        """`tick_every_s`: real seconds from one tick of a symbol to its next, whatever the pace of trading time."""
        self._tick_sizes = {each.symbol: each.tick_size for each in symbols}
        if not symbols or len(self._tick_sizes) != len(symbols):
            raise ValueError("a practice market needs at least one symbol, and each of them once")
        if not tick_every_s > 0:
            raise ValueError(f"tick_every_s must be more than 0, not {tick_every_s}")
        self._draw = lru_cache(min(64 * len(symbols), _DRAWS_KEPT))(partial(_draw, seed))
        self._oddities = oddities
        self._tick_every_s = max(tick_every_s, len(symbols) / MOST_TICKS_PER_S)
        self.met: Counter[Oddity] = Counter()

    def price_at(self, symbol: Symbol, at: datetime) -> Decimal:
        """The true price at this trading instant (aware): a multiple of the symbol's tick size, above 0."""
        at_us = _microseconds(at)
        base = 10_000 + self._draw(symbol, "base") % 290_001  # hundredths
        parts = _WHOLE + self._drift(symbol, at_us) + self._jump(symbol, at_us)
        tick_size = self._tick_sizes[symbol]
        steps = (Decimal(base * parts) / (100 * _WHOLE * tick_size)).to_integral_value()
        return max(steps, Decimal(1)) * tick_size

    async def play(self, clock: Clock, show: Show) -> None:
        """Call `show` for every tick from now on, for ever, the symbols in turn. Each tick is dated when it is
        shown."""
        step_s = self._tick_every_s / len(self._tick_sizes)
        before = dict.fromkeys(self._tick_sizes, clock.now())
        due_s = clock.monotonic_s()
        while True:
            for symbol in self._tick_sizes:
                now = clock.now().astimezone(UTC)
                self._turn(symbol, before[symbol], now, show)
                before[symbol] = now
                # what a suspended machine missed is not made up for, what a late timer missed is
                due_s = max(due_s + step_s, clock.monotonic_s() - self._tick_every_s)
                # whole microseconds: virtual time has no finer ones and would wait for ever
                await clock.sleep(round(max(due_s - clock.monotonic_s(), 0.0), 6))

    def _turn(self, symbol: Symbol, before: datetime, now: datetime, show: Show) -> None:
        """The tick of `symbol` at `now`, and what goes wrong since `before`, the instant of its last turn."""
        begun = list(self._begun(symbol, _microseconds(before), _microseconds(now)))
        is_silent = self._is_silent(symbol, _microseconds(now))
        tick = Tick(symbol, self.price_at(symbol, now), now)
        if not is_silent:
            show(tick)
        for episode in begun:
            if episode.kind not in FEED_ONLY:
                self.met[episode.kind] += 1
            elif not is_silent:  # silence is silence
                self.met[episode.kind] += 1
                show(self._odd_tick(episode, tick), fills=False)

    def _odd_tick(self, episode: _Episode, true: Tick) -> Tick:
        symbol, price, now = true
        size = timedelta(seconds=episode.size)
        match episode.kind:
            case Oddity.STALE | Oddity.OUT_OF_ORDER:
                return Tick(symbol, self.price_at(symbol, now - size), now - size)
            case Oddity.FUTURE:
                return Tick(symbol, price, now + size)
            case Oddity.ABSURD:
                return Tick(symbol, price * _ABSURD_TIMES[episode.luck % len(_ABSURD_TIMES)], now)
            case _:
                return true

    # -- the price
    def _drift(self, symbol: Symbol, at_us: int) -> int:
        return sum(self._noise(symbol, number, at_us) for number in range(len(_OCTAVES)))

    def _noise(self, symbol: Symbol, octave: int, at_us: int) -> int:
        """One wave: from turning point to turning point, smoothly. In parts of the whole."""
        period_us, reach = _OCTAVES[octave]
        phase_us = self._draw(symbol, octave, "phase") % period_us  # or all symbols would turn together
        cell, into_us = divmod(at_us + phase_us, period_us)
        here, there = (self._between(-reach, reach, symbol, octave, each) for each in (cell, cell + 1))
        x = into_us * 2**20 // period_us
        smooth = x * x * (3 * 2**20 - 2 * x)
        return here + ((there - here) * smooth >> 60)

    def _jump(self, symbol: Symbol, at_us: int) -> int:
        """What is left of this hour's jump, in parts of the whole."""
        episode = self._episode(Oddity.JUMP, symbol, at_us) if self._oddities else None
        if episode is None or at_us < episode.begins_us:
            return 0
        left = episode.size * (episode.bucket_ends_us - at_us) // (episode.bucket_ends_us - episode.begins_us)
        return left if episode.luck % 2 else -left

    # -- the oddities
    def _begun(self, symbol: Symbol, before_us: int, now_us: int) -> Iterator[_Episode]:
        """What began after `before_us`, up to now. Where trading time runs so fast that a bucket is passed over,
        what it held is left out."""
        for kind in Oddity if self._oddities else ():
            episode = self._episode(kind, symbol, now_us)
            if episode is not None and before_us < episode.begins_us <= now_us:
                yield episode

    def _is_silent(self, symbol: Symbol, at_us: int) -> bool:
        episodes = (self._episode(kind, symbol, at_us) for kind in SILENT if self._oddities)
        return any(it is not None and it.begins_us <= at_us < it.begins_us + it.size * _S for it in episodes)

    def _episode(self, kind: Oddity, symbol: Symbol, at_us: int) -> _Episode | None:
        """What happens to `symbol` in the bucket of this instant, if anything. It begins in the first half, so that
        it is over before the next bucket."""
        habit = _HABITS[kind]
        length_us = habit.bucket_s * _S
        bucket = at_us // length_us
        if self._draw(symbol, kind, bucket) % habit.one_in:
            return None
        return _Episode(
            kind=kind,
            begins_us=bucket * length_us + self._draw(symbol, kind, bucket, "begin") % (length_us // 2),
            bucket_ends_us=(bucket + 1) * length_us,
            size=self._between(*habit.size, symbol, kind, bucket),
            luck=self._draw(symbol, kind, bucket, "luck"),
        )

    def _between(self, low: int, high: int, *which: object) -> int:
        return low + self._draw(*which, "size") % (high - low + 1)


def _draw(seed: int, *which: object) -> int:
    """Always the same number of 64 bits for the same words."""
    words = "\n".join(map(str, (seed, *which)))
    return int.from_bytes(blake2b(words.encode(), digest_size=8).digest(), "big")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
