"""Runs in every state, made the way the product makes them: by signals and reports, never by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count

from squareoff.core.board import Board
from squareoff.core.events import Event, Signal, Source
from squareoff.core.orders import Attempt, AttemptPhase, Stamp, order_key
from squareoff.core.run import Decision, Run, absorb, advance
from squareoff.core.strategy import Plan, StopLoss, StopLossKind
from squareoff.core.types import (
    AccountId,
    BrokerOrderId,
    ClientOrderId,
    Fence,
    Fill,
    OrderReport,
    OrderStatus,
    Product,
    RunId,
    Side,
    SlotName,
    StrategyId,
    Symbol,
    Tick,
    TradeId,
    UserId,
)

BUY_AT = datetime(2026, 7, 13, 3, 50, tzinfo=UTC)
SELL_AT = datetime(2026, 7, 13, 9, 45, tzinfo=UTC)
CLOSES_AT = datetime(2026, 7, 13, 10, 0, tzinfo=UTC)
INFY = Symbol("NSE:INFY")
STAMP = Stamp(fence=Fence(1), machine="m1", boot="b1")
PLAN = Plan(
    run_id=RunId(42),
    strategy_id=StrategyId(7),
    user=UserId(1),
    account=AccountId("A1"),
    name="morning INFY",
    symbol=INFY,
    product=Product.MIS,
    quantity=Decimal(50),
    trading_day=date(2026, 7, 13),
    buy_at=BUY_AT,
    sell_at=SELL_AT,
    closes_at=CLOSES_AT,
    stop_loss=StopLoss(kind=StopLossKind.PRICE, value=Decimal("1540.00")),
    tick_size=Decimal("0.05"),
)
CREATED = Run(plan=PLAN, key=order_key("test", PLAN.run_id))
BOUGHT_AT, LOW = Decimal("1560.00"), Decimal("1539.95")

_trade = count(1)


def percent(value: str) -> StopLoss:
    return StopLoss(kind=StopLossKind.PERCENT, value=Decimal(value))


def points(value: str) -> StopLoss:
    return StopLoss(kind=StopLossKind.POINTS, value=Decimal(value))


def seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def tick(price: str | Decimal, at: datetime = BUY_AT) -> Tick:
    return Tick(INFY, Decimal(price), at)


def signal(event: Event, at: datetime = BUY_AT, **more: object) -> Signal:
    if event is Event.STOPLOSS:
        more.setdefault("price", LOW)
    return Signal(event=event, at=at, source=Source.ENGINE, **more)  # type: ignore[arg-type]


def tell(run: Run, event: Event, at: datetime = BUY_AT, **more: object) -> Decision:
    """What `event` does to `run`."""
    return advance(run, signal(event, at, **more))


def after(run: Run, *events: Event) -> Run:
    """`run` after these events."""
    for event in events:
        run = tell(run, event).run
    return run


def fill(qty: str | Decimal, price: str | Decimal = BOUGHT_AT, trade: str | None = None) -> Fill:
    return Fill(trade_id=TradeId(trade or f"T{next(_trade)}"), qty=Decimal(qty), price=Decimal(price), at=BUY_AT)


def report(
    run: Run, slot: SlotName, status: OrderStatus, *fills: Fill, attempt: int = -1, reason: str = ""
) -> OrderReport:
    """The broker's word on an attempt of `run`: what it filled before, and `fills`."""
    order = run.slot(slot).attempts[attempt]
    return OrderReport(
        client_order_id=order.client_order_id,
        broker_order_id=BrokerOrderId(f"B-{order.client_order_id}"),
        symbol=INFY,
        side=Side.BUY if slot is SlotName.ENTRY else Side.SELL,
        product=Product.MIS,
        qty=order.qty,
        status=status,
        fills=order.fills + fills,
        reason=reason,
    )


def hear(run: Run, told: OrderReport) -> Run:
    """`run` after the broker's word and what it amounts to, as the engine does it."""
    run, event = absorb(run, told)
    return run if event is None else tell(run, event).run


def entry_told(run: Run, status: OrderStatus, *fills: Fill) -> Run:
    return hear(run, report(run, SlotName.ENTRY, status, *fills))


def exit_told(run: Run, status: OrderStatus, *fills: Fill, reason: str = "") -> Run:
    return hear(run, report(run, SlotName.EXIT, status, *fills, reason=reason))


def current(run: Run, slot: SlotName) -> Attempt:
    attempt = run.slot(slot).current
    assert attempt is not None
    return attempt


def sent(run: Run, slot: SlotName) -> Run:
    """Its open attempt is on its way, nothing heard yet."""
    return run.with_slot(slot, run.slot(slot).with_current(phase=AttemptPhase.UNKNOWN))


def ready(plan: Plan = PLAN) -> Run:
    return after(replace(CREATED, plan=plan), Event.START)


def running(plan: Plan = PLAN) -> Run:
    """The BUY is on its way."""
    run = after(ready(plan), Event.BUY)
    return sent(replace(run, entry=replace(run.entry, stamp=STAMP)), SlotName.ENTRY)


def bought(qty: str = "50", price: str = "1560.00", plan: Plan = PLAN) -> Run:
    run = running(plan)
    status = OrderStatus.FILLED if Decimal(qty) == plan.quantity else OrderStatus.CANCELLED
    return entry_told(run, status, fill(qty, price))


def sell_pending() -> Run:
    return after(bought(), Event.SELL)


def sl_pending() -> Run:
    return after(bought(), Event.STOPLOSS)


def stop_pending() -> Run:
    return after(bought(), Event.STOP)


def sold() -> Run:
    return exit_told(sell_pending(), OrderStatus.FILLED, fill("50", "1570"))


def exited_by_sl() -> Run:
    return exit_told(sl_pending(), OrderStatus.FILLED, fill("50", "1539"))


def failed() -> Run:
    """The broker refused the BUY."""
    return entry_told(running(), OrderStatus.REFUSED)


def failed_holding() -> Run:
    """Automation gave up; 50 are held and nothing is on its way."""
    return after(bought(), Event.SAFETY_ABORT)


def failed_unknown() -> Run:
    """A BUY was never heard of again."""
    return after(running(), Event.NOT_FOUND)


def stopped() -> Run:
    return after(sold(), Event.STOP)


def numbered(run: Run, number: int, *, symbol: Symbol = INFY, product: Product = Product.MIS) -> Run:
    """Another run in the same situation, with orders of its own."""

    def own(name: SlotName) -> Run:
        attempts = tuple(
            replace(a, client_order_id=ClientOrderId(f"{a.client_order_id}-{number}")) for a in run.slot(name).attempts
        )
        return run.with_slot(name, replace(run.slot(name), attempts=attempts))

    run = own(SlotName.ENTRY)
    run = own(SlotName.EXIT)
    return replace(run, plan=replace(run.plan, run_id=RunId(number), symbol=symbol, product=product))


def board_of(*runs: Run) -> Board:
    board = Board()
    for run in runs:
        board.put(run)
    return board
