"""The prices of the day as bars, for the charts: what this process saw since it runs. Nothing is decided by them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from squareoff.apps.api.desk import Desk
from squareoff.core.types import AccountId, Symbol, Tick

if TYPE_CHECKING:
    from redis import Redis

log = logging.getLogger("squareoff.api")

LOOK_EVERY_S = 0.5
BAR_S = 5
BARS_KEPT = 8 * 3600 // BAR_S
SYMBOLS_AT_MOST = 300

Bars = deque[list[float]]
"""Each: start (seconds since 1970), open, high, low, close."""


@dataclass(kw_only=True)
class Recorder:
    desk: Desk
    _bars: dict[tuple[AccountId, Symbol], Bars] = field(default_factory=dict)
    _client: tuple[str, Redis] | None = None

    async def run(self) -> None:
        told = ""
        while True:
            try:
                await asyncio.to_thread(self._look)
                told = ""
            except Exception as error:  # whatever it is: a chart less, and it is tried again
                if str(error) != told:
                    told = str(error)
                    log.warning("prices cannot be looked at: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    def bars(self, account: AccountId, symbol: Symbol) -> Sequence[Sequence[float]]:
        return list(self._bars.get((account, symbol), ()))

    def _look(self) -> None:
        from squareoff import wiring

        told: dict[str, Any] | Any = self.desk.running() or {}
        if not (url := told.get("redis_url")):
            return
        if self._client is None or self._client[0] != url:
            if self._client is not None:
                self._client[1].close()
            self._client = url, wiring.redis_client(url)
        for account in told.get("accounts", {}):
            for symbol, tick in wiring.last_ticks(self._client[1], AccountId(account)).items():
                self._add(AccountId(account), symbol, tick)

    def _add(self, account: AccountId, symbol: Symbol, tick: Tick) -> None:
        bars = self._bars.get((account, symbol))
        if bars is None:
            if len(self._bars) >= SYMBOLS_AT_MOST:
                return
            bars = self._bars[account, symbol] = deque(maxlen=BARS_KEPT)
        start, price = tick.at.timestamp() // BAR_S * BAR_S, float(tick.price)
        if not bars or start > bars[-1][0]:
            bars.append([start, price, price, price, price])
        elif start == bars[-1][0]:
            bar = bars[-1]
            bar[2], bar[3], bar[4] = max(bar[2], price), min(bar[3], price), price

    def close(self) -> None:
        if self._client is not None:
            self._client[1].close()
