"""What the paper exchange fills, when and at what price."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squareoff.adapters.brokers.paper.book import BookRecord, DuplicateOrder, PaperBook, Refused
from squareoff.adapters.brokers.paper.in_process import InProcessPaperBroker
from squareoff.adapters.clock import SystemClock
from squareoff.core.types import (
    ZERO,
    AccountId,
    ClientOrderId,
    Order,
    OrderReport,
    OrderStatus,
    OrderType,
    Product,
    Side,
    Symbol,
    Tick,
)
from squareoff.errors import OrderRefused
from squareoff.ports import Idempotency

INFY, TCS = Symbol("NSE:INFY"), Symbol("NSE:TCS")
NOW = datetime(2026, 11, 2, 3, 50, tzinfo=UTC)


def order(
    client_order_id: str = "A", side: Side = Side.BUY, qty: str = "10", limit: str | None = None, symbol: Symbol = INFY
) -> Order:
    return Order(
        client_order_id=ClientOrderId(client_order_id),
        account=AccountId("A1"),
        symbol=symbol,
        side=side,
        product=Product.MIS,
        qty=Decimal(qty),
        order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        limit_price=None if limit is None else Decimal(limit),
    )


def tick(price: str, symbol: Symbol = INFY, at: datetime = NOW) -> Tick:
    return Tick(symbol, Decimal(price), at)


def traded(report: OrderReport | None) -> list[tuple[str, str]]:
    assert report is not None
    return [(str(fill.qty), str(fill.price)) for fill in report.fills]


def test_the_tick_that_caused_an_order_never_fills_it_and_the_next_of_the_same_instant_does() -> None:
    book = PaperBook()
    assert book.on_tick(tick("1540")) == []
    book.submit(order(), NOW)
    assert book.submit(order("B"), NOW).status is OrderStatus.OPEN
    filled = book.on_tick(tick("1541"))
    assert [traded(report) for report in filled] == [[("10", "1541")], [("10", "1541")]]
    assert book.on_tick(tick("1542")) == []


def test_a_tick_that_is_older_than_the_order_still_fills_it_since_it_came_later() -> None:
    book = PaperBook()
    book.submit(order(), NOW)
    assert traded(book.on_tick(tick("1541", at=NOW - timedelta(seconds=9)))[0]) == [("10", "1541")]


def test_an_order_placed_while_a_tick_is_being_told_waits_for_the_next_one() -> None:
    broker = InProcessPaperBroker(PaperBook(), SystemClock())

    def sell_at_once(report: OrderReport) -> None:
        if report.side is Side.BUY and report.status is OrderStatus.FILLED:
            broker.book.submit(order("X", Side.SELL), NOW)

    broker.on_report = sell_at_once
    broker.book.submit(order(), NOW)
    broker.on_tick(tick("1540"))
    assert traded(broker.book.find(ClientOrderId("X"))) == []
    broker.on_tick(tick("1550"))
    assert traded(broker.book.find(ClientOrderId("X"))) == [("10", "1550")]


@pytest.mark.parametrize(
    ("side", "limit", "prices", "fills"),
    [
        (Side.BUY, "1540", ["1541", "1540.05"], []),
        (Side.BUY, "1540", ["1541", "1540"], [("10", "1540")]),
        (Side.BUY, "1540", ["1541", "1530"], [("10", "1540")]),
        (Side.BUY, "1540", ["1530"], [("10", "1530")]),
        (Side.SELL, "1540", ["1539.95"], []),
        (Side.SELL, "1540", ["1539", "1550"], [("10", "1540")]),
        (Side.SELL, "1540", ["1550"], [("10", "1550")]),
    ],
)
def test_a_limit_order_trades_at_its_limit_or_better(
    side: Side, limit: str, prices: list[str], fills: list[tuple[str, str]]
) -> None:
    book = PaperBook()
    book.submit(order(side=side, limit=limit), NOW)
    for price in prices:
        book.on_tick(tick(price))
    assert traded(book.find(ClientOrderId("A"))) == fills


def test_a_partial_fill_leaves_the_rest_open_until_it_is_cancelled() -> None:
    book = PaperBook()
    book.submit(order(), NOW, fill_plan=[Decimal(3), ZERO, Decimal(4)])
    statuses = [[str(report.filled_qty) for report in book.on_tick(tick(price))] for price in ("1", "2", "3", "4")]
    assert statuses == [["3"], [], ["7"], []]
    (report,) = book.cancel(ClientOrderId("A"), NOW)
    assert (report.status, traded(report)) == (OrderStatus.CANCELLED, [("3", "1"), ("4", "3")])
    assert book.positions()[0].net_qty == 7


def test_an_order_rejected_after_it_was_accepted_says_why() -> None:
    book = PaperBook()
    book.submit(order(), NOW)
    (report,) = book.reject(ClientOrderId("A"), NOW, "margin")
    assert (report.status, report.reason) == (OrderStatus.REFUSED, "margin")
    assert book.on_tick(tick("1540")) == []


def test_a_long_only_account_cannot_sell_what_it_does_not_hold_or_has_on_sale_already() -> None:
    book = PaperBook(allow_short=False)
    with pytest.raises(OrderRefused, match="only 0 are held"):
        book.submit(order("X", Side.SELL), NOW)
    book.submit(order(), NOW)
    book.on_tick(tick("1540"))
    book.submit(order("X", Side.SELL, "6"), NOW)
    with pytest.raises(OrderRefused, match="only 4 are held and not yet on sale"):
        book.submit(order("Y", Side.SELL, "5"), NOW)
    book.submit(order("Z", Side.SELL, "4"), NOW)


def test_a_second_order_of_an_enforced_id_is_not_taken_for_a_refusal() -> None:
    records: list[BookRecord] = []
    book = PaperBook(idempotency=Idempotency.ENFORCED, on_record=records.append)
    earlier = book.submit(order(), NOW)
    with pytest.raises(DuplicateOrder) as duplicate:
        book.submit(order(), NOW)
    assert duplicate.value.earlier == earlier
    assert isinstance(records[-1], Refused)


def test_while_one_of_two_orders_under_one_id_is_open_the_id_is_open() -> None:
    book = PaperBook()
    book.submit(order(), NOW)
    book.on_tick(tick("1540"))
    told = book.submit(order(), NOW)
    assert (told.status, told.qty, told.filled_qty) == (OrderStatus.OPEN, Decimal(20), Decimal(10))


def test_what_cannot_be_recorded_does_not_happen() -> None:
    def disk_full(record: BookRecord) -> None:
        raise OSError("no space left")

    book = PaperBook(on_record=disk_full)
    with pytest.raises(OSError, match="no space"):
        book.submit(order(), NOW)
    assert book.orders() == []


@pytest.mark.parametrize("bad", [order(qty="-1"), order(limit="0"), order(limit="-5")])
def test_an_impossible_order_is_refused(bad: Order) -> None:
    with pytest.raises(OrderRefused):
        PaperBook().submit(bad, NOW)


IDS = st.sampled_from(["A", "B", "C", "D"])
SYMBOLS = st.sampled_from([INFY, TCS])
PRICES = st.integers(90, 110).map(str)
QTYS = st.integers(1, 20).map(str)
ORDERS = st.builds(order, IDS, st.sampled_from(Side), QTYS, st.none() | PRICES, SYMBOLS)
PLANS = st.none() | st.lists(st.integers(0, 8).map(Decimal), max_size=4)
STEPS = st.one_of(
    st.tuples(st.just("submit"), ORDERS, PLANS),
    st.tuples(st.just("tick"), PRICES, SYMBOLS),
    st.tuples(st.just("cancel"), IDS, st.none()),
    st.tuples(st.just("reject"), IDS, st.none()),
)


def play(book: PaperBook, steps: list[tuple[str, object, object]]) -> None:
    for number, (what, first, second) in enumerate(steps):
        at = NOW + timedelta(seconds=number)
        match what:
            case "submit":
                assert isinstance(first, Order)
                with contextlib.suppress(OrderRefused, DuplicateOrder):
                    book.submit(first, at, fill_plan=second)  # type: ignore[arg-type]
            case "tick":
                before = {one.broker_order_id: one for one in book.orders()}
                price = Decimal(str(first))
                told = book.on_tick(Tick(Symbol(str(second)), price, at))
                changed = {one.client_order_id for one in book.orders() if before[one.broker_order_id] != one}
                assert {report.client_order_id for report in told} == changed
            case "cancel":
                book.cancel(ClientOrderId(str(first)), at)
            case "reject":
                book.reject(ClientOrderId(str(first)), at, "scripted")


@given(st.lists(STEPS, max_size=40), st.sampled_from(Idempotency))
def test_positions_are_the_sum_of_the_fills_and_no_order_fills_beyond_its_quantity(
    steps: list[tuple[str, object, object]], idempotency: Idempotency
) -> None:
    book = PaperBook(idempotency=idempotency)
    play(book, steps)
    net = dict.fromkeys([INFY, TCS], ZERO)
    trade_ids = [fill.trade_id for one in book.orders() for fill in one.fills]
    assert len(trade_ids) == len(set(trade_ids))
    for one in book.orders():
        assert one.filled_qty <= one.qty
        assert (one.status is OrderStatus.FILLED) == (one.filled_qty == one.qty)
        net[one.symbol] += one.filled_qty if one.side is Side.BUY else -one.filled_qty
    assert {each.symbol: each.net_qty for each in book.positions()} == {s: qty for s, qty in net.items() if qty}


@given(st.lists(STEPS, max_size=40), st.sampled_from(Idempotency), st.data())
def test_its_records_alone_rebuild_the_book_at_any_moment(
    steps: list[tuple[str, object, object]], idempotency: Idempotency, data: st.DataObject
) -> None:
    records: list[BookRecord] = []
    book = PaperBook(idempotency=idempotency, on_record=records.append)
    play(book, steps[: data.draw(st.integers(0, len(steps)))])
    again = PaperBook(idempotency=idempotency)
    for record in records:
        again.apply(record)
    assert again.orders() == book.orders()
    assert sorted(again.positions(), key=repr) == sorted(book.positions(), key=repr)
    assert [again.find(ClientOrderId(each)) for each in "ABCD"] == [book.find(ClientOrderId(each)) for each in "ABCD"]


@given(st.lists(STEPS, max_size=40))
def test_a_long_only_account_is_never_short(steps: list[tuple[str, object, object]]) -> None:
    book = PaperBook(allow_short=False)
    play(book, steps)
    assert all(each.net_qty > 0 for each in book.positions())
