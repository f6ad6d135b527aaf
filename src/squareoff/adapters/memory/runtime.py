"""The runtime store in memory: the same rules as the scripts of `adapters/redis`, for replay, simulation and tests.

`MemoryRedis` is the server and outlives a simulated worker; hand it to the next `MemoryRuntimeStore`. Its faults are
methods: `flush`, `restart`, `is_up`, `loses_replies`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from squareoff.core.events import Event
from squareoff.core.run import Run
from squareoff.core.runtime_view import (
    AccountView,
    milliseconds,
    named_timers,
    price_text,
    runtime_view,
    strategy_view,
)
from squareoff.core.types import AccountId, Fence, RunId, StrategyId, Symbol, Tick
from squareoff.errors import StoreUnavailable
from squareoff.ports import Claim, Clock

EVENTS_KEPT: Final = 20_000
REQUESTS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Lock:
    fence: int
    token: str
    until_s: float


@dataclass(slots=True)
class _Runtime:
    run: Run
    fence: int
    settled_version: int
    updated_at_ms: int


@dataclass(slots=True)
class _Account:
    epoch: str = ""
    server_run: int = 0
    runtimes: dict[StrategyId, _Runtime] = field(default_factory=dict)
    armed: dict[StrategyId, Run] = field(default_factory=dict)
    locks: dict[StrategyId, _Lock] = field(default_factory=dict)
    done: dict[str, None] = field(default_factory=dict)
    events: deque[dict[str, str]] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    prices: dict[Symbol, Tick] = field(default_factory=dict)


@dataclass(slots=True)
class _Bell:
    rings: int = 0
    rung: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryRedis:
    """What a Redis server would hold. Set `is_up` False: nothing is done. Set `loses_replies`: all is done, nothing is
    answered."""

    def __init__(self) -> None:
        self.is_up = True
        self.loses_replies = False
        self.run = 1
        """Counts the server's starts, as its run id would change."""
        self.epochs_given = 0
        self.accounts: dict[AccountId, _Account] = {}
        self.bells: dict[AccountId, _Bell] = {}

    def flush(self) -> None:
        """FLUSHALL."""
        self.accounts.clear()

    def restart(self) -> None:
        """Another server process with the same data."""
        self.run += 1

    def snapshot(self) -> dict[AccountId, _Account]:
        """What a replica has that lags behind from here on; for `fail_over`."""
        return {name: _copy(account) for name, account in self.accounts.items()}

    def fail_over(self, replica: dict[AccountId, _Account]) -> None:
        """The replica takes over: another server process, with older data."""
        self.accounts = {name: _copy(account) for name, account in replica.items()}
        self.restart()

    def account(self, account: AccountId) -> _Account:
        return self.accounts.setdefault(account, _Account())

    def bell(self, account: AccountId) -> _Bell:
        return self.bells.setdefault(account, _Bell())


@dataclass(slots=True)
class _Written:
    strategy: StrategyId
    account: AccountId
    acknowledged: int = 0
    sent: int = 0


class MemoryRuntimeStore:
    """The RuntimeStore port on a `MemoryRedis`. Two stores on one server need different owners, as on Redis."""

    def __init__(self, clock: Clock, server: MemoryRedis | None = None, *, owner: str = "memory") -> None:
        self._clock = clock
        self._server = server if server is not None else MemoryRedis()
        self._owner = owner
        self._epochs: dict[AccountId, tuple[str, int]] = {}
        self._written: dict[RunId, _Written] = {}
        self._heard: dict[AccountId, int] = {}

    async def arm(self, run: Run) -> Claim:
        account, written = self._begin(run)
        if account is None:
            return Claim.DAMAGED
        request = f"arm:{run.plan.run_id}:{run.version}"
        if request in account.done:
            return self._acknowledged(written, run)
        saved, fence = account.runtimes.get(run.plan.strategy_id), 0
        if saved is None:
            if written.acknowledged > 0:
                return Claim.DAMAGED
        elif saved.run.plan.run_id == run.plan.run_id:
            fence = saved.fence
            no = _objection(saved, run, fence, written)
            if no is not None:
                return self._acknowledged(written, run) if no == "stale" else Claim(no)
        elif saved.run.plan.run_id > run.plan.run_id:
            return Claim.BUSY
        account.armed[run.plan.strategy_id] = run
        account.runtimes[run.plan.strategy_id] = self._runtime(run, fence, run.version)
        _tell(account, "arm", run)
        return self._done(account, request, written, run)

    async def claim(self, run: Run, *, fence: Fence, ttl_ms: int, event: Event, request_id: str) -> Claim:
        account, written = self._begin(run)
        if account is None:
            return Claim.DAMAGED
        request = f"claim:{run.plan.run_id}:{self._token(fence)}:{request_id}"
        if request in account.done:
            return self._acknowledged(written, run)
        strategy = run.plan.strategy_id
        saved = account.runtimes.get(strategy)
        no = _objection(saved, run, fence, written)
        if no is not None or saved is None:
            return Claim.BUSY if no == "stale" else Claim(no or "damaged")
        now_s, token = self._clock.monotonic_s(), self._token(fence)
        lock = account.locks.get(strategy)
        if lock is not None and lock.until_s > now_s and lock.token != token and lock.fence >= fence:
            return Claim.BUSY
        account.locks[strategy] = _Lock(fence, token, now_s + ttl_ms / 1000)
        account.runtimes[strategy] = self._runtime(run, fence, saved.settled_version)
        _tell(account, "claim", run, fence=str(fence), event=event.value)
        return self._done(account, request, written, run)

    async def settle(self, run: Run, *, fence: Fence, request_id: str) -> Claim:
        """An older version than this store has already settled changes nothing but the lock."""
        account, written = self._begin(run)
        if account is None:
            return Claim.DAMAGED
        request = f"settle:{run.plan.run_id}:{self._token(fence)}:{request_id}"
        if request in account.done:
            return self._acknowledged(written, run)
        no = _objection(account.runtimes.get(run.plan.strategy_id), run, fence, written)
        if no is not None and no != "stale":
            return Claim(no)
        _unlock(account, run.plan.strategy_id, self._token(fence))
        if no == "stale":
            return self._acknowledged(written, run)
        account.runtimes[run.plan.strategy_id] = self._runtime(run, fence, run.version)
        _tell(account, "settle", run, fence=str(fence))
        return self._done(account, request, written, run)

    async def release(self, run_id: RunId, account: AccountId, *, fence: Fence) -> None:
        """A run that this store never claimed has no lock of ours to give back."""
        written = self._written.get(run_id)
        if written is None:
            return
        held = self._reach(account)
        if held is not None:
            _unlock(held, written.strategy, self._token(fence))
        self._answer()

    async def archive(self, run: Run) -> None:
        """Delete what is held of this run. On a damaged server nothing is done: the rebuild leaves the run out."""
        account, strategy = self._reach(run.plan.account), run.plan.strategy_id
        saved = account.runtimes.get(strategy) if account is not None else None
        if account is not None and saved is not None and saved.run.plan.run_id == run.plan.run_id:
            del account.runtimes[strategy]
            account.armed.pop(strategy, None)
            account.locks.pop(strategy, None)
            _tell(account, "archive", run)
        self._answer()
        self._written.pop(run.plan.run_id, None)

    async def rebuild(self, account: AccountId, runs: Iterable[Run]) -> None:
        self._ensure_up()
        wanted = [run for run in runs if run.plan.account == account]
        server = self._server
        server.epochs_given += 1
        epoch = f"epoch-{server.epochs_given}"
        held = server.accounts[account] = _Account(epoch=epoch, server_run=server.run)
        for run in wanted:
            held.armed[run.plan.strategy_id] = run
            held.runtimes[run.plan.strategy_id] = self._runtime(run, 0, run.version)
        held.events.append({"kind": "rebuild"})
        self._epochs[account] = (epoch, server.run)
        kept = {run_id: written for run_id, written in self._written.items() if written.account != account}
        for run in wanted:
            kept[run.plan.run_id] = _Written(run.plan.strategy_id, account, run.version, run.version)
        self._written = kept
        self._answer()

    async def is_intact(self, account: AccountId) -> bool:
        """Adopts the epoch that is there if this store has none yet and the server process is still the same."""
        self._ensure_up()
        held, server = self._server.account(account), self._server
        if not held.epoch or held.server_run != server.run:
            return False
        found = (held.epoch, held.server_run)
        self._answer()
        return self._epochs.setdefault(account, found) == found

    async def put_prices(self, account: AccountId, prices: Mapping[Symbol, Tick]) -> None:
        self._ensure_up()
        self._server.account(account).prices.update(prices)
        self._answer()

    async def ring(self, account: AccountId) -> None:
        self._ensure_up()
        bell = self._server.bell(account)
        bell.rings += 1
        bell.rung.set()
        bell.rung = asyncio.Event()
        self._answer()

    async def wait_for_bell(self, account: AccountId, timeout_s: float) -> bool:
        self._ensure_up()
        bell = self._server.bell(account)
        if self._heard.get(account, 0) == bell.rings:
            try:
                async with asyncio.timeout(max(0.0, timeout_s)):
                    await bell.rung.wait()
            except TimeoutError:
                return False
        self._heard[account] = bell.rings
        return True

    async def look(self, account: AccountId) -> AccountView:
        """Everything held of the account, for people and tests."""
        self._ensure_up()
        held, now_s = self._server.account(account), self._clock.monotonic_s()
        groups: dict[Symbol, frozenset[StrategyId]] = {}
        for strategy, run in held.armed.items():
            groups[run.plan.symbol] = groups.get(run.plan.symbol, frozenset()) | {strategy}
        return AccountView(
            strategies={strategy: strategy_view(run) for strategy, run in held.armed.items()},
            runtimes={strategy: _as_text(runtime) for strategy, runtime in held.runtimes.items()},
            groups=groups,
            timers={
                f"{strategy}:{name}": at
                for strategy, runtime in held.runtimes.items()
                for name, at in named_timers(runtime.run).items()
            },
            locks={strategy: lock.token for strategy, lock in held.locks.items() if lock.until_s > now_s},
            prices={symbol: price_text(tick) for symbol, tick in held.prices.items()},
            events=tuple(held.events),
        )

    async def close(self) -> None:
        """Nothing is open."""

    def _begin(self, run: Run) -> tuple[_Account | None, _Written]:
        plan = run.plan
        written = self._written.setdefault(plan.run_id, _Written(plan.strategy_id, plan.account))
        account = self._reach(plan.account)
        written.sent = max(written.sent, run.version)
        written.acknowledged = min(written.acknowledged, run.version)  # a claim may be taken back
        return account, written

    def _reach(self, account: AccountId) -> _Account | None:
        """The account's data if it is under the epoch and server process we wrote or adopt now."""
        self._ensure_up()
        held, server = self._server.account(account), self._server
        found = (held.epoch, held.server_run)
        if not held.epoch or held.server_run != server.run:
            return None
        return held if self._epochs.setdefault(account, found) == found else None

    def _done(self, account: _Account, request: str, written: _Written, run: Run) -> Claim:
        account.done[request] = None
        if len(account.done) > REQUESTS_KEPT:
            del account.done[next(iter(account.done))]
        return self._acknowledged(written, run)

    def _acknowledged(self, written: _Written, run: Run) -> Claim:
        self._answer()
        written.acknowledged = run.version
        return Claim.OK

    def _runtime(self, run: Run, fence: int, settled_version: int) -> _Runtime:
        return _Runtime(run, fence, settled_version, milliseconds(self._clock.now()))

    def _token(self, fence: Fence) -> str:
        return f"{fence}:{self._owner}"

    def _ensure_up(self) -> None:
        if not self._server.is_up:
            raise StoreUnavailable("the memory server is down")

    def _answer(self) -> None:
        if self._server.loses_replies:
            raise StoreUnavailable("the memory server lost its reply")


def _copy(account: _Account) -> _Account:
    """What is in it never changes, it is only replaced."""
    return replace(
        account,
        runtimes=dict(account.runtimes),
        armed=dict(account.armed),
        locks=dict(account.locks),
        done=dict(account.done),
        events=account.events.copy(),
        prices=dict(account.prices),
    )


def _objection(saved: _Runtime | None, run: Run, fence: int, written: _Written) -> str | None:
    """The twin of `objection` in scripts/_common.lua."""
    if saved is None or saved.run.plan.run_id != run.plan.run_id:
        return "damaged"
    if saved.fence > fence:
        return "busy"
    if saved.run.version < written.acknowledged:
        return "damaged"
    if saved.run.version > run.version and saved.run.version > written.sent:
        return "damaged"
    if saved.settled_version > run.version:
        return "stale"
    return None


def _unlock(account: _Account, strategy: StrategyId, token: str) -> None:
    lock = account.locks.get(strategy)
    if lock is not None and lock.token == token:
        del account.locks[strategy]


def _tell(account: _Account, kind: str, run: Run, **more: str) -> None:
    plan = run.plan
    account.events.append(
        {
            "kind": kind,
            "strategy_id": str(plan.strategy_id),
            "run_id": str(plan.run_id),
            "state": run.state.value,
            "version": str(run.version),
            **more,
        }
    )


def _as_text(runtime: _Runtime) -> dict[str, str]:
    return runtime_view(runtime.run) | {
        "fence": str(runtime.fence),
        "settled_version": str(runtime.settled_version),
        "updated_at_ms": str(runtime.updated_at_ms),
    }
