"""Whose shares are whose: what our fills say of a position, against what the broker says of it.

The broker nets everything on one symbol and product: several runs, manual trades. Nothing here reads a clock; times
are monotonic seconds given by the caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from squareoff.core.board import Board, out_qty
from squareoff.core.machine import State
from squareoff.core.orders import AttemptPhase, SlotPhase
from squareoff.core.run import Run
from squareoff.core.types import ZERO, ClientOrderId, Position, Product, Side, Symbol

Key = tuple[Symbol, Product]
"""What the broker nets into one position."""


def key_of(run: Run) -> Key:
    return run.plan.symbol, run.plan.product


def net_of(positions: Iterable[Position]) -> dict[Key, Decimal]:
    net: dict[Key, Decimal] = {}
    for position in positions:
        key = (position.symbol, position.product)
        net[key] = net.get(key, ZERO) + position.net_qty
    return net


class Ownership:
    """What is not there of that which our fills say, by position."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self.lost: set[ClientOrderId] = set()
        """Orders not seen over the whole quarantine."""
        self._missing: dict[Key, Decimal] = {}
        self._gone: dict[Key, Decimal] = {}
        self._last_fill_s: dict[Key, float] = {}

    def filled(self, run: Run, side: Side, qty: Decimal, at_s: float) -> None:
        """A fill became known at `at_s`. Readings of the position from before that prove nothing."""
        key = key_of(run)
        self._last_fill_s[key] = at_s
        if side is Side.SELL:
            self._gone[key] = max(self._gone.get(key, ZERO) - qty, ZERO)

    def taken_on(self, run: Run, at_s: float) -> None:
        """A run with fills came onto the board; the last of them was at `at_s` at the latest."""
        key = key_of(run)
        self._last_fill_s[key] = max(at_s, self._last_fill_s.get(key, at_s))

    def explained(self, run: Run, qty: Decimal) -> None:
        """`qty` of what was not there is known now to have been sold by other hands."""
        key = key_of(run)
        for known in (self._missing, self._gone):
            known[key] = max(known.get(key, ZERO) - qty, ZERO)

    def reckon(self, key: Key, net: Decimal) -> list[Run]:
        """Compare the broker's net position with what our fills say. Returns the runs that hold nothing any more,
        with no order of ours to explain it."""
        sharing = list(self._board.sharing(*key))
        known = self.missing(key)
        gone = max(sum((run.remaining_qty for run in sharing), ZERO) - net, ZERO)
        self._missing[key], self._gone[key] = min(known, gone), gone
        self._missing[key] = self.missing(key)
        if net > 0 or self.is_moving(key):
            return []
        return [run for run in sharing if run.remaining_qty > 0 and run.state is not State.RUNNING]

    def missing(self, key: Key) -> Decimal:
        """What the broker does not hold of our shares, with nothing of ours to explain it. What is gone may have
        been sold by our open exits, the news being on its way: it is missing once they are over and did not."""
        missing, gone = self._missing.get(key, ZERO), self._gone.get(key, ZERO)
        if gone <= missing:
            return missing
        perhaps_sold = sum((out_qty(run) for run in self._board.sharing(*key)), ZERO)
        return max(missing, gone - perhaps_sold)

    def lags(self, key: Key, asked_at_s: float, lag_s: float) -> bool:
        """Whether a position asked for at `asked_at_s` may not know our last fill yet, at a venue whose positions
        are up to `lag_s` late."""
        last_s = self._last_fill_s.get(key)
        return last_s is not None and asked_at_s - last_s <= lag_s

    def is_moving(self, key: Key) -> bool:
        """Whether an order of ours may be changing this position now. One given up for lost does not count."""
        return any(
            attempt.phase in (AttemptPhase.UNKNOWN, AttemptPhase.OPEN) and attempt.client_order_id not in self.lost
            for run in self._board.sharing(*key)
            for slot in (run.entry, run.exit)
            if slot.phase is not SlotPhase.WATCH
            for attempt in slot.attempts
        )

    def proven(self, key: Key) -> Decimal:
        """What all our runs on this position hold, with what their open BUYs may have bought meanwhile."""
        return sum((run.remaining_qty + _coming_qty(run) for run in self._board.sharing(*key)), ZERO)


def _coming_qty(run: Run) -> Decimal:
    """What an open BUY may have bought without our knowing yet. One given up for lost does not count."""
    if run.entry.phase is SlotPhase.WATCH:
        return ZERO
    live = (a for a in run.entry.attempts if a.phase in (AttemptPhase.UNKNOWN, AttemptPhase.OPEN))
    return sum((attempt.qty - attempt.filled_qty for attempt in live), ZERO)
