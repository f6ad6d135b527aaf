"""The last check before the bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from squareoff.core.outcomes import Answered, GateSaidNo
from squareoff.core.types import (
    AccountId,
    BrokerOrderId,
    ClientOrderId,
    Order,
    OrderReport,
    OrderStatus,
    Product,
    Side,
    Symbol,
)
from squareoff.gateway import Gateway
from squareoff.ports import Idempotency, SpoolMark, VenueFacts

NOON = datetime(2026, 7, 13, 12, tzinfo=UTC)
ORDER = Order(
    client_order_id=ClientOrderId("SQABCDEFGHIJX01"),
    account=AccountId("A1"),
    symbol=Symbol("NSE:INFY"),
    side=Side.SELL,
    product=Product.MIS,
    qty=Decimal(50),
)


@dataclass
class Place:
    """Broker, lease, spool and clock in one. The mark takes `mark_takes_s`; the lease holds until `held_until`."""

    mark_takes_s: float = 0.0
    held_until: datetime = NOON + timedelta(seconds=10)
    time: datetime = NOON
    marks: int = 0
    sent: int = 0
    machine: str = "m1"
    boot: str = "b1"
    facts: VenueFacts = field(
        default_factory=lambda: VenueFacts(
            idempotency=Idempotency.NONE, request_timeout_s=3, quarantine_s=120, position_lag_s=0
        )
    )

    def now(self) -> datetime:
        return self.time

    def monotonic_s(self) -> float:
        return (self.time - NOON).total_seconds()

    @property
    def is_held(self) -> bool:
        return self.time < self.held_until

    def mark(self, mark: SpoolMark) -> None:
        self.marks += 1
        self.time += timedelta(seconds=self.mark_takes_s)

    async def submit(self, order: Order, gate: Any) -> OrderReport:
        gate()
        self.sent += 1
        return OrderReport(
            client_order_id=order.client_order_id,
            broker_order_id=BrokerOrderId("1"),
            symbol=order.symbol,
            side=order.side,
            product=order.product,
            qty=order.qty,
            status=OrderStatus.OPEN,
        )


async def send(place: Place, *, not_after: datetime | None = None) -> Any:
    anything: Any = place
    gateway = Gateway(broker=anything, lease=anything, spool=anything, clock=anything)
    return await gateway.send(ORDER, attempt=1, cause="STOPLOSS", not_after=not_after, objection=lambda: None)


async def test_an_order_leaves_while_the_account_is_ours() -> None:
    place = Place()
    assert isinstance(await send(place), Answered)
    assert (place.marks, place.sent) == (1, 1)


async def test_a_disk_that_holds_up_the_mark_past_the_lease_lets_nothing_out() -> None:
    place = Place(mark_takes_s=11)
    assert await send(place) == GateSaidNo("this worker no longer holds the account", False)
    assert (place.marks, place.sent) == (1, 0)


@pytest.mark.parametrize(("takes_s", "sent"), [(4, 1), (6, 0)])
async def test_a_disk_that_holds_up_the_mark_past_the_grace_lets_no_buy_out(takes_s: float, sent: int) -> None:
    place = Place(mark_takes_s=takes_s)
    said = await send(place, not_after=NOON + timedelta(seconds=5))
    assert (place.marks, place.sent) == (1, sent)
    assert isinstance(said, GateSaidNo) is not bool(sent)
