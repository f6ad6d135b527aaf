"""Scripted days for tests: strategies of the 13th of July 2026, and the audit that each of them ends with. Times are
wall-clock times at the exchange: BUY at 09:20, SELL at 09:40, close at 09:45."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from squareoff.adapters.brokers.paper.book import Placed, Refused, Traded
from squareoff.adapters.brokers.paper.mischief import Kind, Mischief
from squareoff.core.run import Run
from squareoff.core.strategy import Plan, StopLoss, StopLossKind, Timing
from squareoff.core.types import (
    Product,
    RunId,
    Side,
    StrategyId,
    Symbol,
    UserId,
)
from squareoff.simulation.day import A1, DAY, INFY, TCS, at, is_ours, short
from squareoff.simulation.world import World


def price_stop(text: str) -> StopLoss:
    return StopLoss(kind=StopLossKind.PRICE, value=Decimal(text))


def percent_stop(text: str) -> StopLoss:
    return StopLoss(kind=StopLossKind.PERCENT, value=Decimal(text))


def plan(
    strategy: int = 7,
    *,
    quantity: int = 50,
    stop_loss: StopLoss | None = None,
    buy: str = "09:20:00",
    sell: str = "09:40:00",
    closes: str = "09:45:00",
    symbol: Symbol = INFY,
    timing: Timing | None = None,
) -> Plan:
    """What strategy `strategy` does today; its run id is given at START."""
    return Plan(
        run_id=RunId(0),
        strategy_id=StrategyId(strategy),
        user=UserId(1),
        account=A1,
        name=f"strategy {strategy}",
        symbol=symbol,
        product=Product.MIS,
        quantity=Decimal(quantity),
        trading_day=DAY,
        buy_at=at(buy),
        sell_at=at(sell),
        closes_at=at(closes),
        stop_loss=stop_loss or price_stop("1540.00"),
        tick_size=Decimal("0.05"),
        timing=timing or Timing(),
    )


def audit(world: World, *, errors: bool = True) -> None:
    """What must be true of the broker's book whatever happened (S1, S2), and of every run against it (S5, S8)."""
    owner = {r.broker_order_id: r.order for r in world.ledger if isinstance(r, Placed)}
    bought: Counter[str] = Counter()
    sold: Counter[str] = Counter()
    executed_entries: dict[str, set[str]] = {}
    net: Counter[Symbol] = Counter()
    for record in world.ledger:
        if not isinstance(record, Traded):
            continue
        order, qty = owner[record.broker_order_id], record.fill.qty
        net[order.symbol] += qty if order.side is Side.BUY else -qty  # type: ignore[assignment]
        if not is_ours(order):
            continue
        key = order.client_order_id[2:12]
        if order.side is Side.BUY:
            bought[key] += qty  # type: ignore[assignment]
            executed_entries.setdefault(key, set()).add(record.broker_order_id)
        else:
            sold[key] += qty  # type: ignore[assignment]
            assert sold[key] <= bought[key], f"double SELL: run {key} sold {sold[key]} of {bought[key]}"
            assert net[order.symbol] >= 0, f"our SELL {order.client_order_id} made the account short"
    for key, orders in executed_entries.items():
        assert len(orders) == 1, f"double BUY: run {key} executed {sorted(orders)}"
    for run in _all_runs(world):
        assert bought[run.key] <= run.plan.quantity, "bought more than wanted"
        _agrees(run, Decimal(bought[run.key]), Decimal(sold[run.key]))
    if errors:
        assert not world.errors, world.errors


def _all_runs(world: World) -> list[Run]:
    runs = dict(world.records.runs)
    if world.is_alive and hasattr(world.process, "engine"):
        runs |= world.engine.board.runs
    return list(runs.values())


def _agrees(run: Run, bought: Decimal, sold: Decimal) -> None:
    held = bought - sold
    if run.exposure == "flat":
        assert held <= run.outside_qty, f"{run.state} says flat, the book says {held} are held"
    if run.state in ("sold", "exited_by_sl") and run.exposure == "flat":
        assert run.exit.filled_qty + run.outside_qty == run.entry.filled_qty
    if run.outcome in ("sold", "exited_by_sl"):
        assert run.exit.filled_qty > 0, f"{run.outcome} without a fill"


def refusals(world: World) -> int:
    return sum(isinstance(r, Refused) for r in world.ledger)


__all__ = [
    "A1",
    "INFY",
    "TCS",
    "Kind",
    "Mischief",
    "Plan",
    "World",
    "at",
    "audit",
    "percent_stop",
    "plan",
    "price_stop",
    "refusals",
    "short",
]
