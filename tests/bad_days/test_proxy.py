"""The network in which scenarios fail does what it says: to the request it names, so often, and to no other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from faults.proxy import Does, Proxy, Rule

from squareoff.adapters.brokers.paper.client import FACTS, PaperBroker
from squareoff.adapters.brokers.paper.server import PaperServer
from squareoff.adapters.clock import SystemClock
from squareoff.errors import NeverSent, OutcomeUnknown
from tests.adapters.test_paper_broker import ENTRY, EXIT, eventually, open_gate, order


class Wire:
    """A worker's client, the proxy, the broker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def open(self, *rules: Rule) -> PaperBroker:
        self.server = PaperServer(data=self.folder, clock=SystemClock())
        await self.server.start()
        self.proxy = await asyncio.to_thread(Proxy, self.server.port, rules)
        self.broker = PaperBroker(self.proxy.url, facts=replace(FACTS, request_timeout_s=0.5))
        return self.broker

    async def close(self) -> None:
        await self.broker.close()
        await asyncio.to_thread(self.proxy.close)
        await self.server.stop()

    def placed(self) -> int:
        return sum(len(account.book.orders()) for account in self.server._accounts.values())


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    return Wire(tmp_path)


@pytest.mark.parametrize(
    "does", [Does.SWALLOW, Does.CUT_AFTER, Does.HALF_CLOSE, Does.TORN, Does.DRIP, Does.DELAY_ANSWER]
)
async def test_the_broker_has_the_order_and_its_sender_no_answer(wire: Wire, does: Does) -> None:
    broker = await wire.open(Rule(does, slot="E", seconds=2.0))
    with pytest.raises(OutcomeUnknown):
        await broker.submit(order(), open_gate)
    assert wire.placed() == 1
    assert await broker.find(ENTRY) is not None  # the next request is not touched
    assert wire.proxy.unused() == []
    await wire.close()


async def test_cut_before_the_broker_nothing_is_placed_and_nobody_can_know(wire: Wire) -> None:
    broker = await wire.open(Rule(Does.CUT_BEFORE))
    with pytest.raises(OutcomeUnknown):
        await broker.submit(order(), open_gate)
    assert wire.placed() == 0
    await wire.close()


async def test_a_request_that_is_delayed_arrives_after_its_sender_has_given_it_up(wire: Wire) -> None:
    broker = await wire.open(Rule(Does.DELAY_REQUEST, seconds=0.8))
    with pytest.raises(OutcomeUnknown):
        await broker.submit(order(), open_gate)
    assert wire.placed() == 0
    await eventually(lambda: wire.placed() == 1)
    await wire.close()


async def test_a_rule_for_exits_leaves_entries_alone(wire: Wire) -> None:
    broker = await wire.open(Rule(Does.CUT_AFTER, slot="X"))
    await broker.submit(order(), open_gate)
    assert len(wire.proxy.unused()) == 1
    with pytest.raises(OutcomeUnknown):
        await broker.submit(order(EXIT), open_gate)
    await wire.close()


async def test_refused_connections_prove_that_nothing_was_sent(wire: Wire) -> None:
    broker = await wire.open()
    await broker.orders()
    await asyncio.to_thread(wire.proxy.refuse, 0.5)
    await asyncio.sleep(0.1)
    with pytest.raises(NeverSent):
        await broker.submit(order(), open_gate)
    await asyncio.sleep(0.6)
    await broker.submit(order(), open_gate)
    assert wire.placed() == 1
    await wire.close()
