"""What every route needs: the records of the user who asks, the market's facts, and what runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.definition import DEFAULT_EXCHANGE
from squareoff.core.types import AccountId, Position, StrategyId, UserId
from squareoff.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squareoff.adapters.sql.access import AccessStore
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.strategy import Strategy
    from squareoff.wiring import ReferenceData

REFERENCE_S = 20.0
"""How old the list of instruments and the calendars may be, real seconds."""


@dataclass(kw_only=True)
class Desk:
    """One for the process. Its methods block: they are for the threads of the routes."""

    config: Config
    database: Database
    access: AccessStore
    secure: bool = False
    """Whether we are reached by https, so that cookies can insist on it."""
    _reference: tuple[float, ReferenceData] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(cls, config: Config, *, secure: bool = False) -> Desk:
        """Raises BadInput, RecordsUnavailable."""
        from squareoff import wiring

        database = wiring.open_database(config)
        return cls(config=config, database=database, access=wiring.access_store(config), secure=secure)

    def store(self, user: UserId) -> StrategyStore:
        from squareoff import wiring

        return wiring.user_store(self.database, user)

    def reference(self) -> ReferenceData:
        """Read again now and then: `up` may have been started on another market. Raises BadInput."""
        from squareoff import wiring

        with self._lock:
            now_s = time.monotonic()
            if self._reference is None or now_s - self._reference[0] > REFERENCE_S:
                self._reference = now_s, wiring.reference_data(self.config)
            return self._reference[1]

    def now(self) -> datetime:
        """Trading time, UTC."""
        from squareoff import wiring

        return wiring.now(self.config)

    def running(self) -> Mapping[str, Any] | None:
        """What `squareoff up` says of itself; None: it does not run."""
        from squareoff.apps.up.supervisor import running

        return running(self.config)

    def redis_url(self) -> str | None:
        return (self.running() or {}).get("redis_url") or self.config.redis_url

    def ring(self, accounts: Iterable[AccountId]) -> None:
        """A wish is in SQL: wake who obeys it."""
        from squareoff import wiring

        if redis_url := self.redis_url():
            for account in accounts:
                wiring.ring_bell(redis_url, account)

    def zone(self, symbol: str = f"{DEFAULT_EXCHANGE}:") -> ZoneInfo:
        from squareoff import wiring

        return wiring.zone_of(symbol)

    async def held_at_broker(self, account: AccountId) -> Sequence[Position]:
        """What the broker says the account holds, asked now. Raises BrokerUnavailable: it is away, or nothing runs."""
        from squareoff import wiring

        url = (await asyncio.to_thread(self.running) or {}).get("broker_url")
        if not url:
            raise BrokerUnavailable("squareoff is not running")
        try:
            tokens = await asyncio.to_thread(wiring.paper_accounts, self.config)
            return await wiring.paper_positions(url, tokens[account].token if account in tokens else str(account))
        except (BadInput, ValueError, OSError) as error:
            raise BrokerUnavailable(str(error)) from error

    def strategy(self, user: UserId, strategy_id: int) -> Strategy:
        """Raises ApiError 404: also for a strategy of somebody else, which is not there for this user."""
        from squareoff.apps.api.problems import not_found

        try:
            return self.store(user).get(StrategyId(strategy_id))
        except BadInput as error:
            raise not_found(f"there is no strategy {strategy_id}") from error

    def close(self) -> None:
        self.access.close()
        self.database.close()
