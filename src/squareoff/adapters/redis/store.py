"""The runtime store in Redis: each change is one script, sent once, recognised when it is sent again.

Redis is never the truth. This store remembers which epoch it wrote or adopted, under which server process, and the
last version of every run; when Redis disagrees, the answer is DAMAGED and nothing is written. After StoreUnavailable
a change may or may not have been made: the same request id may be sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from squareoff.adapters.redis import keys as k
from squareoff.adapters.redis.line import SCRIPT_VERSION, Line, NotOurRedis
from squareoff.core.events import Event
from squareoff.core.run import Run
from squareoff.core.runtime_view import AccountView, named_timers, price_text, runtime_view, strategy_view
from squareoff.core.types import AccountId, Fence, RunId, StrategyId, Symbol, Tick
from squareoff.errors import StoreUnavailable
from squareoff.ports import Claim

RUNS_PER_REBUILD_SCRIPT: Final = 100
"""So that a rebuild of a thousand runs holds Redis up for a few milliseconds at a time, never for all at once."""
KEYS_PER_DELETE: Final = 1000
EVENTS_SHOWN: Final = 1000

T = TypeVar("T")


@dataclass(slots=True)
class _Written:
    """What we wrote of one run. `acknowledged` is certainly there, `sent` may be."""

    strategy: StrategyId
    account: AccountId
    acknowledged: int = 0
    sent: int = 0


@dataclass(frozen=True, slots=True)
class _Epoch:
    """The epoch we wrote or adopted, and the server process it belongs to."""

    name: str
    server_run_id: str


class RedisRuntimeStore:
    """The RuntimeStore port on Redis or Valkey 7.0 and newer.

    `owner` tells the lock who we are (machine and process): two stores of one fence with different owners are BUSY
    for each other. `timeout_s` bounds every call, its wait for its turn and a new connection included.
    """

    def __init__(self, url: str, *, owner: str, timeout_s: float = 1.0) -> None:
        self._owner = owner
        self._timeout_s = timeout_s
        self._line = Line(url, timeout_s=timeout_s)
        # Prices, bells and looking have their own connections: none of them may hold up a claim.
        self._aside: Any = Redis.from_url(  # Any: redis-py's hints are of its synchronous twin too
            url,
            decode_responses=True,
            protocol=2,
            driver_info=None,
            client_name="squareoff-aside",
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            socket_connect_timeout=timeout_s,
            socket_timeout=None,  # `_ask` has the deadline: a blocking read may wait longer than any answer
        )
        self._epochs: dict[AccountId, _Epoch] = {}
        self._written: dict[RunId, _Written] = {}
        self._heard: dict[AccountId, str] = {}

    async def arm(self, run: Run) -> Claim:
        """Create the keys of a started run, or write them anew after an edit."""
        written = self._written_of(run)
        names = _names(run, "epoch runtime timers events done strategy symbol")
        request = f"arm:{run.plan.run_id}:{run.version}"
        args = (*self._change(run, written, request), *_counted(strategy_view(run)), *_counted(runtime_view(run)))
        return await self._write(run, written, "arm", names, (*args, *_timers(run)))

    async def claim(self, run: Run, *, fence: Fence, ttl_ms: int, event: Event, request_id: str) -> Claim:
        written = self._written_of(run)
        names = _names(run, "epoch runtime timers events done lock")
        request = f"claim:{run.plan.run_id}:{self._token(fence)}:{request_id}"
        args = (*self._change(run, written, request), fence, self._token(fence), ttl_ms, event.value)
        return await self._write(run, written, "claim", names, (*args, *_counted(runtime_view(run)), *_timers(run)))

    async def settle(self, run: Run, *, fence: Fence, request_id: str) -> Claim:
        """An older version than this store has already written changes nothing but the lock."""
        written = self._written_of(run)
        names = _names(run, "epoch runtime timers events done lock")
        request = f"settle:{run.plan.run_id}:{self._token(fence)}:{request_id}"
        args = (*self._change(run, written, request), fence, self._token(fence))
        return await self._write(run, written, "settle", names, (*args, *_counted(runtime_view(run)), *_timers(run)))

    async def release(self, run_id: RunId, account: AccountId, *, fence: Fence) -> None:
        """A run that this store never claimed has no lock of ours to give back."""
        written = self._written.get(run_id)
        if written is not None:
            names = (k.epoch_key(account), k.lock_key(account, written.strategy))
            await self._run("release", account, names, (self._token(fence),))

    async def archive(self, run: Run) -> None:
        """Delete the keys of this run. On a damaged Redis nothing is done: the rebuild leaves the run out."""
        names = _names(run, "epoch runtime timers events strategy symbol lock")
        args = (run.plan.strategy_id, run.plan.run_id, run.state.value, run.version)
        await self._run("archive", run.plan.account, names, args)
        self._written.pop(run.plan.run_id, None)

    async def rebuild(self, account: AccountId, runs: Iterable[Run]) -> None:
        """Replace everything of the account. Until the last step no epoch is there, so nobody believes the half.

        Raises StoreUnavailable also when another rebuild of the account overtook this one."""
        epoch_key, server = k.epoch_key(account), await self._line.connected()
        wanted = [run for run in runs if run.plan.account == account]
        name = await self._rebuild_script("rebuild_begin", (epoch_key,), (server,), server)
        self._epochs[account] = epoch = _Epoch(name, server)  # known even if the last answer is lost
        for some in _chunks(await self._keys(account), KEYS_PER_DELETE):
            await self._rebuild_step("rebuild_delete", (epoch_key, *some), (), epoch)
        for run in wanted:
            self._written[run.plan.run_id] = _Written(run.plan.strategy_id, account, sent=run.version)
        under_way: asyncio.Task[None] | None = None
        try:
            for batch in _chunks(wanted, RUNS_PER_REBUILD_SCRIPT):
                names = [key for run in batch for key in _names(run, "strategy runtime symbol")]
                args = [arg for run in batch for arg in _rebuilt(run)]  # while the server writes those before
                if under_way is not None:
                    await under_way
                step = self._rebuild_step("rebuild_write", (epoch_key, k.timers_key(account), *names), args, epoch)
                under_way = asyncio.ensure_future(step)
                await asyncio.wait({under_way}, timeout=0)  # it is sent now
            if under_way is not None:
                await under_way
        finally:
            if under_way is not None and not under_way.done():
                under_way.cancel()
        await self._rebuild_step("rebuild_end", (epoch_key, k.events_key(account)), (server,), epoch)
        kept = {run.plan.run_id for run in wanted}
        for run_id in [r for r, w in self._written.items() if w.account == account and r not in kept]:
            del self._written[run_id]
        for run in wanted:
            self._written[run.plan.run_id].acknowledged = run.version

    async def is_intact(self, account: AccountId) -> bool:
        """Adopts the epoch that is there if this store has none yet and the server process is still the same."""
        try:
            info = await self._line.info("server", "replication")
            fields = (k.epoch_key(account), "epoch", "server_run_id")
            found = await self._line.call("HMGET", *fields, server=info["run_id"])
        except (ResponseError, NotOurRedis):
            return False
        epoch = _Epoch(found[0] or "", found[1] or "")
        if info["role"] != "master" or epoch.server_run_id != info["run_id"] or not _is_readable(epoch):
            return False
        return self._epochs.setdefault(account, epoch) == epoch

    async def put_prices(self, account: AccountId, prices: Mapping[Symbol, Tick]) -> None:
        if prices:
            texts: dict[Any, Any] = {symbol: price_text(tick) for symbol, tick in prices.items()}
            await self._ask(self._aside.hset(k.prices_key(account), mapping=texts))

    async def ring(self, account: AccountId) -> None:
        command = ("XADD", k.bell_key(account), "MAXLEN", "1", "*", "ring", "1")
        await self._ask(self._aside.execute_command(*command))

    async def wait_for_bell(self, account: AccountId, timeout_s: float) -> bool:
        """A ring is read, never taken, so that a wait that is cancelled or cut off loses none."""
        key, heard = k.bell_key(account), self._heard.get(account, "0-0")
        block = ("BLOCK", str(max(1, round(timeout_s * 1000)))) if timeout_s > 0 else ()
        read = self._aside.execute_command("XREAD", *block, "STREAMS", key, heard)
        reply = await self._ask(read, timeout_s=self._timeout_s + max(0.0, timeout_s))
        if not reply:
            return False
        self._heard[account] = reply[0][1][-1][0] if isinstance(reply, list) else reply[key][-1][0]
        return True

    async def look(self, account: AccountId) -> AccountView:
        """Everything held of the account, for people and tests. Not one instant: a change may fall in between."""
        ids, groups = set(), {}
        names = [*await self._keys(account), k.epoch_key(account)]
        head = k.symbol_key(account, Symbol("|")).partition("|")
        for name in names:
            kind, _, rest = name.partition(k.tag(account))
            if kind in ("strategy:", "runtime:", "lock:"):
                ids.add(StrategyId(int(rest)))
            elif name.startswith(head[0]):
                symbol = Symbol(name.removeprefix(head[0]).removesuffix(head[2]))
                members = await self._ask(self._aside.smembers(name))
                groups[symbol] = frozenset(StrategyId(int(member)) for member in members)
        hashes = {
            kind: {i: h for i in sorted(ids) if (h := await self._hash(kind(account, i)))}
            for kind in (k.strategy_key, k.runtime_key)
        }
        tokens = {i: await self._ask(self._aside.get(k.lock_key(account, i))) for i in sorted(ids)}
        timers = await self._ask(self._aside.zrange(k.timers_key(account), 0, -1, withscores=True))
        events = await self._ask(self._aside.xrevrange(k.events_key(account), count=EVENTS_SHOWN))
        prices = await self._hash(k.prices_key(account))
        return AccountView(
            strategies=hashes[k.strategy_key],
            runtimes=hashes[k.runtime_key],
            groups=groups,
            timers={member: int(score) for member, score in timers},
            locks={i: token for i, token in tokens.items() if token},
            prices={Symbol(symbol): price for symbol, price in prices.items()},
            events=tuple(fields for _, fields in reversed(events)),
        )

    async def close(self) -> None:
        await self._line.close()
        await self._aside.aclose()

    def _written_of(self, run: Run) -> _Written:
        plan = run.plan
        return self._written.setdefault(plan.run_id, _Written(plan.strategy_id, plan.account))

    def _token(self, fence: Fence) -> str:
        return f"{fence}:{self._owner}"

    def _change(self, run: Run, written: _Written, request: str) -> tuple[str | int, ...]:
        """What every change says first, after the epoch."""
        plan = run.plan
        known = (written.acknowledged, written.sent)
        return (request, plan.strategy_id, plan.run_id, run.version, *known, run.state.value)

    async def _write(
        self, run: Run, written: _Written, script: str, names: Sequence[str], args: Sequence[str | int]
    ) -> Claim:
        written.sent = max(written.sent, run.version)
        written.acknowledged = min(written.acknowledged, run.version)  # a claim may be taken back
        claim = await self._run(script, run.plan.account, names, args)
        if claim is Claim.OK:
            written.acknowledged = run.version
        return claim

    async def _run(self, script: str, account: AccountId, names: Sequence[str], args: Sequence[str | int]) -> Claim:
        epoch = self._epochs.get(account)
        if epoch is None and await self.is_intact(account):
            epoch = self._epochs[account]
        if epoch is None:
            return Claim.DAMAGED
        try:
            return Claim(await self._line.script(script, names, (epoch.name, *args), server=epoch.server_run_id))
        except NotOurRedis:
            return Claim.DAMAGED

    async def _rebuild_script(self, script: str, names: Sequence[str], args: Sequence[str | int], server: str) -> str:
        try:
            return await self._line.script(script, names, args, server=server)
        except NotOurRedis as error:
            raise StoreUnavailable(f"Redis could not be rebuilt: {error}") from error

    async def _rebuild_step(self, script: str, names: Sequence[str], args: Sequence[str | int], epoch: _Epoch) -> None:
        if await self._rebuild_script(script, names, (epoch.name, *args), epoch.server_run_id) != "ok":
            raise StoreUnavailable("another rebuild of this account has begun, or Redis was emptied meanwhile")

    async def _keys(self, account: AccountId) -> list[str]:
        async def scan() -> list[str]:
            found = self._aside.scan_iter(match=k.pattern(account), count=1000)
            return sorted({key async for key in found if k.is_rebuilt(key, account)})

        return await self._ask(scan(), timeout_s=30 * self._timeout_s)

    async def _hash(self, key: str) -> dict[str, str]:
        return await self._ask(self._aside.hgetall(key))

    async def _ask(self, question: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                return await question
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable(f"Redis did not answer clearly: {error!r}") from error


_ACCOUNT_KEYS = {
    "epoch": k.epoch_key,
    "timers": k.timers_key,
    "events": k.events_key,
    "done": k.done_key,
}
_STRATEGY_KEYS = {"strategy": k.strategy_key, "runtime": k.runtime_key, "lock": k.lock_key}


def _names(run: Run, kinds: str) -> tuple[str, ...]:
    account, plan = run.plan.account, run.plan
    names = []
    for kind in kinds.split():
        if kind in _ACCOUNT_KEYS:
            names.append(_ACCOUNT_KEYS[kind](account))
        elif kind in _STRATEGY_KEYS:
            names.append(_STRATEGY_KEYS[kind](account, plan.strategy_id))
        else:
            names.append(k.symbol_key(account, plan.symbol))
    return tuple(names)


def _counted(view: Mapping[str, str]) -> tuple[str | int, ...]:
    flat = [part for item in view.items() for part in item]
    return (len(flat), *flat)


def _timers(run: Run) -> list[str | int]:
    strategy = run.plan.strategy_id
    return [part for name, at in named_timers(run).items() for part in (at, f"{strategy}:{name}")]


def _rebuilt(run: Run) -> list[str | int]:
    timers = _timers(run)
    views = (*_counted(strategy_view(run)), *_counted(runtime_view(run)))
    return [run.plan.strategy_id, run.version, *views, len(timers), *timers]


def _is_readable(epoch: _Epoch) -> bool:
    return epoch.name.startswith(f"{SCRIPT_VERSION}-")


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
