"""The faults of the memory server: what a simulation does to the runtime store."""

from __future__ import annotations

import pytest

from samples import PLAN, bought, sl_pending
from squareoff.adapters.clock import SystemClock
from squareoff.adapters.memory.runtime import MemoryRedis, MemoryRuntimeStore
from squareoff.core.events import Event
from squareoff.core.types import Fence
from squareoff.errors import StoreUnavailable
from squareoff.ports import Claim, RuntimeStore

A1 = PLAN.account


def is_a_store(store: RuntimeStore) -> RuntimeStore:
    return store


async def stop_loss(store: MemoryRuntimeStore) -> Claim:
    return await store.claim(sl_pending(), fence=Fence(1), ttl_ms=5000, event=Event.STOPLOSS, request_id="same")


async def test_a_server_that_is_down_does_nothing() -> None:
    server = MemoryRedis()
    store = MemoryRuntimeStore(SystemClock(), server)
    assert is_a_store(store) is store
    await store.rebuild(A1, [bought()])
    before = await store.look(A1)
    server.is_up = False
    with pytest.raises(StoreUnavailable):
        await stop_loss(store)
    server.is_up = True
    assert await store.look(A1) == before


async def test_a_claim_whose_answer_was_lost_is_made_once_when_asked_again() -> None:
    server = MemoryRedis()
    store = MemoryRuntimeStore(SystemClock(), server)
    await store.rebuild(A1, [bought()])
    server.loses_replies = True
    with pytest.raises(StoreUnavailable):
        await stop_loss(store)
    server.loses_replies = False
    assert await stop_loss(store) is Claim.OK
    kinds = [event["kind"] for event in (await store.look(A1)).events]
    assert kinds == ["rebuild", "claim"]


async def test_a_server_that_restarted_is_not_believed() -> None:
    server = MemoryRedis()
    store = MemoryRuntimeStore(SystemClock(), server)
    await store.rebuild(A1, [bought()])
    server.restart()
    assert not await store.is_intact(A1)
    assert await stop_loss(store) is Claim.DAMAGED
    await store.rebuild(A1, [bought()])
    assert await stop_loss(store) is Claim.OK
