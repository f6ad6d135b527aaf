"""The day of the made-up world, its account and symbols, and what an order's name tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

from squareoff.core.types import AccountId, ClientOrderId, Order, RunId, Symbol
from squareoff.ports import Severity

IST = ZoneInfo("Asia/Kolkata")
DAY = date(2026, 7, 13)
A1 = AccountId("A1")
INFY = Symbol("NSE:INFY")
TCS = Symbol("NSE:TCS")


def at(text: str) -> datetime:
    """`09:20:00` or `09:20:00.5` at the exchange on the day of the test."""
    return datetime.combine(DAY, time.fromisoformat(text), IST)


@dataclass(frozen=True, slots=True)
class Alert:
    at: datetime
    severity: Severity
    headline: str
    text: str
    run_id: RunId | None


def is_ours(order: Order, slot: str | None = None) -> bool:
    name = order.client_order_id
    return name.startswith("SQ") and (slot is None or name[12:13] == slot)


def short(order: ClientOrderId) -> str:
    """`X01` of a client order id."""
    return order[12:]
