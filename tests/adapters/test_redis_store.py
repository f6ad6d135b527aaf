"""The runtime store when Redis misbehaves: sent once, never half, never believed without proof."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import hiredis
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from samples import INFY, PLAN, bought, ready, running, sl_pending, tick
from squareoff.adapters.redis import keys
from squareoff.adapters.redis.line import SCRIPT_VERSION, SCRIPTS, Line, script_text
from squareoff.adapters.redis.server import RedisServer
from squareoff.adapters.redis.store import RedisRuntimeStore
from squareoff.core.events import Event
from squareoff.core.run import Run
from squareoff.core.runtime_view import RUNTIME_FIELDS, STRATEGY_FIELDS, runtime_view
from squareoff.core.types import AccountId, Fence, RunId, StrategyId, Symbol
from squareoff.errors import StoreUnavailable
from squareoff.ports import Claim

pytestmark = pytest.mark.processes

A1, SEVEN = PLAN.account, PLAN.strategy_id
QUICK_S = 0.2
_account_number = count(1)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may hurt."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


def admin(server: RedisServer, *command: str) -> object:
    with redis.Redis.from_url(server.url, decode_responses=True, retry=Retry(NoBackoff(), 0)) as client:
        return client.execute_command(*command)


def gone(server: RedisServer) -> None:
    while server.is_alive():
        time.sleep(0.01)


@asynccontextmanager
async def opened(url: str, *, owner: str = "worker-1", timeout_s: float = 1.0) -> AsyncIterator[RedisRuntimeStore]:
    store = RedisRuntimeStore(url, owner=owner, timeout_s=timeout_s)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def holding(server: RedisServer, *, timeout_s: float = 1.0) -> AsyncIterator[RedisRuntimeStore]:
    """A worker whose strategy 7 has bought."""
    async with opened(server.url, timeout_s=timeout_s) as store:
        await store.rebuild(A1, [bought()])
        yield store


async def stop_loss(store: RedisRuntimeStore, request: str = "r1") -> Claim:
    run = sl_pending()
    return await store.claim(run, fence=Fence(1), ttl_ms=5000, event=Event.STOPLOSS, request_id=request)


async def times_claimed(store: RedisRuntimeStore) -> int:
    return [event["kind"] for event in (await store.look(A1)).events].count("claim")


# ---------------------------------------------------------------------- sent once


class FakeRedis:
    """Speaks just enough to be connected to, counts what arrives, and at `broken` commands hangs up or says nothing."""

    EPOCH = f"{SCRIPT_VERSION}-run1-1"
    INFO = b"role:master\r\nmaxmemory_policy:noeviction\r\nredis_version:7.0.15\r\nrun_id:run1\r\n"

    def __init__(self, broken: str, *, hangs_up: bool) -> None:
        self.broken, self.hangs_up = broken, hangs_up
        self.arrived: Counter[str] = Counter()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser, is_silent = hiredis.Reader(), False
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while isinstance(command := parser.gets(), list):
                    word = command[0].decode().upper()
                    self.arrived[word] += 1
                    if word == self.broken:
                        if self.hangs_up:
                            return
                        is_silent = True  # a Redis answers in order: what it owes holds up all that follows
                    if not is_silent:
                        writer.write(self._answer(word))
        finally:
            writer.close()

    def _answer(self, word: str) -> bytes:
        if word == "INFO":
            return b"$%d\r\n%b\r\n" % (len(self.INFO), self.INFO)
        if word == "HMGET":
            return b"*2\r\n$%d\r\n%b\r\n$4\r\nrun1\r\n" % (len(self.EPOCH), self.EPOCH.encode())
        return b"+OK\r\n"


@pytest.fixture(params=[True, False], ids=["hangs up", "says nothing"])
async def fake(request: pytest.FixtureRequest) -> AsyncIterator[FakeRedis]:
    fake = FakeRedis("EVALSHA", hangs_up=request.param)
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    yield fake
    server.close()
    await server.wait_closed()


async def test_a_claim_without_an_answer_was_sent_exactly_once(fake: FakeRedis) -> None:
    async with opened(fake.url, timeout_s=QUICK_S) as store:
        with pytest.raises(StoreUnavailable):
            await stop_loss(store)
        await asyncio.sleep(QUICK_S)
        assert fake.arrived["EVALSHA"] == 1
        with pytest.raises(StoreUnavailable):
            await stop_loss(store)
        assert fake.arrived["EVALSHA"] == 2


@pytest.mark.parametrize("word", ["HSET", "XADD"])
async def test_prices_and_bells_without_an_answer_were_sent_exactly_once(fake: FakeRedis, word: str) -> None:
    fake.broken = word
    async with opened(fake.url, timeout_s=QUICK_S) as store:
        with pytest.raises(StoreUnavailable):
            await (store.put_prices(A1, {INFY: tick("1560")}) if word == "HSET" else store.ring(A1))
        await asyncio.sleep(QUICK_S)
        assert fake.arrived[word] == 1


async def test_claims_that_wait_together_fail_together_and_not_one_after_the_other(fake: FakeRedis) -> None:
    async with opened(fake.url, timeout_s=QUICK_S) as store:
        started = time.monotonic()
        answers = await asyncio.gather(*(stop_loss(store, f"r{i}") for i in range(20)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {StoreUnavailable}
        assert time.monotonic() - started < 4 * QUICK_S
        assert fake.arrived["EVALSHA"] <= 20


async def test_an_answer_nobody_waits_for_any_more_is_never_taken_for_another_one(redis_server: RedisServer) -> None:
    account = AccountId(f"cancelled-{next(_account_number)}")
    runs = [
        replace(bought(), plan=replace(PLAN, account=account, strategy_id=StrategyId(i), run_id=RunId(i)))
        for i in range(1, 21)
    ]
    async with opened(redis_server.url) as store:
        await store.rebuild(account, runs[:10])
        for turn in range(20):
            tasks = [
                asyncio.create_task(store.settle(run, fence=Fence(1), request_id=f"{turn}-{run.plan.run_id}"))
                for run in runs  # the first ten are there, the others are not
            ]
            await asyncio.sleep(0.0002 * turn)
            tasks[turn].cancel()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
            for i, answer in enumerate(answers):
                expected = Claim.OK if i < 10 else Claim.DAMAGED
                assert answer is expected or isinstance(answer, StoreUnavailable | asyncio.CancelledError)
            assert await store.is_intact(account)


# ---------------------------------------------------------------------- Redis fails


async def test_a_flushed_redis_is_noticed_and_no_claim_is_made_in_it(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        admin(own_server, "FLUSHALL")
        assert not await store.is_intact(A1)
        assert await stop_loss(store) is Claim.DAMAGED
        assert admin(own_server, "DBSIZE") == 0


async def test_a_redis_that_was_killed_and_came_back_with_its_data_is_not_believed(own_server: RedisServer) -> None:
    admin(own_server, "CONFIG", "SET", "appendfsync", "always")  # so that all of it does come back
    async with holding(own_server) as store:
        pid = own_server.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(gone, own_server)
        with pytest.raises(StoreUnavailable):
            await stop_loss(store)
        own_server.start()
        assert await stop_loss(store) is Claim.DAMAGED
        assert (await store.look(A1)).runtimes[SEVEN]["state"] == "bought"  # it is all there, and yet
        assert not await store.is_intact(A1)
        async with opened(own_server.url, owner="worker-2") as other:
            assert not await other.is_intact(A1)
            assert await stop_loss(other) is Claim.DAMAGED
        await store.rebuild(A1, [bought()])
        assert await stop_loss(store) is Claim.OK


async def test_scripts_that_were_flushed_are_loaded_again_and_run_once(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        admin(own_server, "SCRIPT", "FLUSH")
        assert await stop_loss(store) is Claim.OK
        assert await times_claimed(store) == 1


async def test_a_redis_that_hangs_costs_no_more_than_the_timeout_and_no_claim_is_made_twice(
    own_server: RedisServer,
) -> None:
    async with holding(own_server, timeout_s=QUICK_S) as store:
        admin(own_server, "CLIENT", "PAUSE", "700", "ALL")
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"did not answer within 0\.2 s"):
            await stop_loss(store, "the same")
        assert QUICK_S <= time.monotonic() - started < QUICK_S + 0.3
        await asyncio.sleep(1)
        assert await stop_loss(store, "the same") is Claim.OK
        assert await times_claimed(store) == 1


async def test_a_full_redis_refuses_a_claim_whole_and_takes_it_when_there_is_room(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        before = await store.look(A1)
        admin(own_server, "CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailable, match="memory"):
            await stop_loss(store)
        assert await store.look(A1) == before
        admin(own_server, "CONFIG", "SET", "maxmemory", "0")
        assert await stop_loss(store) is Claim.OK


async def test_a_redis_that_became_a_replica_is_not_believed(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        admin(own_server, "REPLICAOF", "127.0.0.1", "1")
        assert not await store.is_intact(A1)
        assert await stop_loss(store) is Claim.DAMAGED
        with pytest.raises(StoreUnavailable):
            await store.rebuild(A1, [bought()])


async def test_a_replica_is_refused_when_connecting(own_server: RedisServer) -> None:
    admin(own_server, "REPLICAOF", "127.0.0.1", "1")
    async with opened(own_server.url) as store:
        with pytest.raises(StoreUnavailable, match="not the master"):
            await store.is_intact(A1)


async def test_a_redis_that_may_delete_an_armed_stop_loss_is_refused_when_connecting(own_server: RedisServer) -> None:
    admin(own_server, "CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with opened(own_server.url) as store:
        with pytest.raises(StoreUnavailable, match="noeviction"):
            await stop_loss(store)


async def test_a_key_that_somebody_overwrote_is_damage_and_a_rebuild_mends_it(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        for key in (keys.runtime_key(A1, SEVEN), keys.timers_key(A1), keys.events_key(A1), keys.done_key(A1)):
            admin(own_server, "SET", key, "mine now")
            assert await stop_loss(store) is Claim.DAMAGED
            await store.rebuild(A1, [bought()])
        assert await stop_loss(store) is Claim.OK


async def test_an_older_copy_of_a_run_is_damage(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        assert await store.settle(bought(), fence=Fence(1), request_id="s1") is Claim.OK
        admin(own_server, "HSET", keys.runtime_key(A1, SEVEN), "version", "1", "settled_version", "1")
        assert await stop_loss(store) is Claim.DAMAGED


async def test_a_run_that_is_missing_alone_is_damage(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        admin(own_server, "DEL", keys.runtime_key(A1, SEVEN))
        assert await stop_loss(store) is Claim.DAMAGED
        assert await store.settle(bought(), fence=Fence(1), request_id="s1") is Claim.DAMAGED
        again = bought()
        assert await store.arm(replace(again, version=again.version + 1)) is Claim.DAMAGED
        assert admin(own_server, "EXISTS", keys.runtime_key(A1, SEVEN)) == 0


async def test_what_scripts_of_another_version_wrote_is_not_believed(own_server: RedisServer) -> None:
    async with holding(own_server), opened(own_server.url, owner="worker-2") as other:
        epoch = str(admin(own_server, "HGET", keys.epoch_key(A1), "epoch"))
        admin(own_server, "HSET", keys.epoch_key(A1), "epoch", "0" + epoch)
        assert not await other.is_intact(A1)


async def test_no_answer_from_a_server_that_is_not_there_and_all_well_when_it_is(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    server.start()
    url = server.url
    server.stop()
    async with opened(url) as store:
        with pytest.raises(StoreUnavailable):
            await store.is_intact(A1)
        with pytest.raises(StoreUnavailable):
            await store.wait_for_bell(A1, 0.1)
        with RedisServer(tmp_path / "redis"):
            await store.rebuild(A1, [bought()])
            assert await stop_loss(store) is Claim.OK


# ---------------------------------------------------------------------- rebuilding


def many(account: AccountId, number: int) -> list[Run]:
    plans = [replace(PLAN, account=account, strategy_id=StrategyId(i), run_id=RunId(i)) for i in range(1, number + 1)]
    return [ready(plan) for plan in plans]


async def test_a_rebuild_that_was_cut_short_leaves_nothing_that_could_be_believed(redis_server: RedisServer) -> None:
    account = AccountId(f"cut-{next(_account_number)}")
    runs = many(account, 500)
    async with opened(redis_server.url) as store:
        for wait_s in (0.004, 0.01, 0.02):
            await store.rebuild(account, [])
            rebuilding = asyncio.create_task(store.rebuild(account, runs))
            await asyncio.sleep(wait_s)
            rebuilding.cancel()
            await asyncio.gather(rebuilding, return_exceptions=True)
            whole = len((await store.look(account)).runtimes) == 500
            assert whole or not await store.is_intact(account)
        await store.rebuild(account, runs)
        assert await store.is_intact(account)
        assert len((await store.look(account)).runtimes) == 500


async def test_nobody_believes_an_old_epoch_while_a_rebuild_is_under_way(redis_server: RedisServer) -> None:
    account = AccountId(f"under-way-{next(_account_number)}")
    async with opened(redis_server.url) as one, opened(redis_server.url, owner="worker-2") as two:
        await one.rebuild(account, many(account, 1))
        assert await two.is_intact(account)
        line = Line(redis_server.url, timeout_s=1)
        server = await line.connected()
        await line.script("rebuild_begin", (keys.epoch_key(account),), (server,), server=server)
        await line.close()
        assert [await one.is_intact(account), await two.is_intact(account)] == [False, False]
        assert await one.settle(many(account, 1)[0], fence=Fence(1), request_id="s") is Claim.DAMAGED


@pytest.mark.parametrize("step", ["rebuild_delete", "rebuild_write", "rebuild_end"])
async def test_a_rebuild_that_was_overtaken_takes_no_further_step(redis_server: RedisServer, step: str) -> None:
    epoch_key = keys.epoch_key(AccountId(f"overtaken-{next(_account_number)}"))
    line = Line(redis_server.url, timeout_s=1)
    server = await line.connected()
    first, second = [await line.script("rebuild_begin", (epoch_key,), (server,), server=server) for _ in range(2)]
    others = (epoch_key.replace("epoch", "events"),)
    assert await line.script(step, (epoch_key, *others), (first, server), server=server) == "busy"
    assert await line.script(step, (epoch_key, *others), (second, server), server=server) == "ok"
    await line.close()


async def test_two_rebuilds_at_once_never_mix(redis_server: RedisServer) -> None:
    account = AccountId(f"both-{next(_account_number)}")
    async with opened(redis_server.url) as one, opened(redis_server.url, owner="worker-2") as two:
        answers = await asyncio.gather(
            one.rebuild(account, many(account, 450)), two.rebuild(account, many(account, 300)), return_exceptions=True
        )
        done = [answer is None for answer in answers]
        assert any(done)
        held = len((await one.look(account)).runtimes)
        assert [await one.is_intact(account), await two.is_intact(account)] == [held == 450, held == 300]


async def test_a_rebuild_touches_no_key_of_another_program(own_server: RedisServer) -> None:
    admin(own_server, "SET", "runtime:{A1x}7", "theirs")
    admin(own_server, "SET", "cache:{A1}7", "theirs")
    async with holding(own_server) as store:
        await store.rebuild(A1, [])
    assert admin(own_server, "MGET", "runtime:{A1x}7", "cache:{A1}7") == ["theirs", "theirs"]


# ---------------------------------------------------------------------- the keys


def test_every_key_of_an_account_carries_its_hash_tag() -> None:
    infy = Symbol("NSE:INFY")
    assert keys.strategy_key(A1, SEVEN) == "strategy:{A1}7"
    assert keys.runtime_key(A1, SEVEN) == "runtime:{A1}7"
    assert keys.lock_key(A1, SEVEN) == "lock:{A1}7"
    assert keys.symbol_key(A1, infy) == "symbol:{A1}NSE:INFY:strategies"
    assert [key(A1) for key in (keys.timers_key, keys.events_key, keys.prices_key)] == [
        "timers:{A1}",
        "events:{A1}",
        "prices:{A1}",
    ]


@pytest.mark.parametrize("name", ["a}b", "*", "[ab]", "two words", "ünï"])
async def test_no_account_name_reaches_the_keys_of_another(redis_server: RedisServer, name: str) -> None:
    account, neighbour = AccountId(name), AccountId("a")
    async with opened(redis_server.url) as store:
        await store.rebuild(neighbour, many(neighbour, 1))
        await store.rebuild(account, many(account, 2))
        await store.rebuild(account, [])
        assert len((await store.look(neighbour)).runtimes) == 1
        assert (await store.look(account)).runtimes == {}


async def test_redis_holds_exactly_the_fields_that_are_described(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        await stop_loss(store)
        view = await store.look(A1)
    strategy, runtime = view.strategies[SEVEN], view.runtimes[SEVEN]
    assert set(strategy) == {field.name for field in STRATEGY_FIELDS}
    described = {field.name: field for field in RUNTIME_FIELDS}
    assert set(runtime) <= set(described)
    assert {name for name, field in described.items() if not field.optional} <= set(runtime)
    assert runtime.items() >= runtime_view(sl_pending()).items()
    assert abs(int(runtime["updated_at_ms"]) / 1000 - time.time()) < 60


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_can_be_applied_by_half(name: str) -> None:
    """With this first line Redis refuses a script before its first write when it is full or a replica."""
    assert script_text(name).startswith("#!lua\n")


async def test_a_claim_is_one_round_trip(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        await stop_loss(store, "warm")
        admin(own_server, "CONFIG", "RESETSTAT")
        await stop_loss(store, "counted")
        stats = admin(own_server, "INFO", "commandstats")
    assert isinstance(stats, dict)
    by_client = {name: stat["calls"] for name, stat in stats.items() if name in ("cmdstat_evalsha", "cmdstat_info")}
    assert by_client.get("cmdstat_evalsha") == 1


async def test_a_worker_may_arm_while_another_run_is_bought(own_server: RedisServer) -> None:
    async with holding(own_server) as store:
        tcs = replace(PLAN, strategy_id=StrategyId(8), run_id=RunId(43), symbol=Symbol("NSE:TCS"))
        assert await store.arm(ready(tcs)) is Claim.OK
        buying = replace(running(), plan=tcs)
        claim = await store.claim(buying, fence=Fence(1), ttl_ms=5000, event=Event.BUY, request_id="b")
        assert claim is Claim.OK
        assert set((await store.look(A1)).groups) == {INFY, Symbol("NSE:TCS")}
