"""The money of a paper account: what it can buy, what it cannot, and that no exit ever asks for it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from tests.adapters.test_paper_book import NOW, TCS, order, tick

from squareoff.adapters.brokers.paper.accounts import DEFAULT_CASH, FILE_NAME, ensure_account, read_accounts
from squareoff.adapters.brokers.paper.book import BookRecord, PaperBook
from squareoff.adapters.brokers.paper.client import PaperBroker
from squareoff.adapters.brokers.paper.server import PaperServer
from squareoff.adapters.clock import SystemClock
from squareoff.core.types import AccountId, Side, Symbol, Tick
from squareoff.core.values import replace
from squareoff.errors import BadInput, OrderRefused

SECOND = AccountId("second")


def book(cash: str, records: list[BookRecord] | None = None) -> PaperBook:
    return PaperBook(cash=Decimal(cash), on_record=None if records is None else records.append)


def test_free_is_cash_less_the_cost_of_what_is_held_plus_what_was_realised() -> None:
    one = book("20000")
    one.on_tick(tick("1500"))
    one.submit(order("A"), NOW)
    assert one.free() == Decimal(5000), "an order that is open needs its money too"
    one.on_tick(tick("1510"))
    assert one.free() == Decimal(4900), "it cost what it was filled at"
    one.on_tick(tick("1600"))
    assert one.free() == Decimal(4900), "a gain on paper buys nothing"
    one.submit(order("B", Side.SELL, "4"), NOW)
    one.on_tick(tick("1600"))
    assert one.free() == Decimal(4900) + 4 * 1600
    one.submit(order("C", Side.SELL, "6"), NOW)
    one.on_tick(tick("1400"))
    assert one.free() == Decimal(20000) + 4 * (1600 - 1510) + 6 * (1400 - 1510)
    assert one.purse is not None
    assert one.purse.in_positions == 0


def test_a_buy_beyond_what_is_free_is_refused_for_good_with_both_figures() -> None:
    one = book("12000")
    one.on_tick(tick("1500"))
    with pytest.raises(OrderRefused, match=r"insufficient funds: needs about 15,000\.00, has 12,000\.00") as refused:
        one.submit(order("A"), NOW)
    assert refused.value.permanent
    one.submit(order("B", qty="8"), NOW)
    one.on_tick(tick("1500"))
    with pytest.raises(OrderRefused, match=r"has 0\.00"):
        one.submit(order("C", qty="1", limit="1"), NOW)


def test_a_sale_is_never_refused_for_money_and_a_short_sale_brings_none_to_spend() -> None:
    one = book("100")
    one.on_tick(tick("1500"))
    one.submit(order("A", Side.SELL), NOW)
    one.on_tick(tick("1500"))
    assert one.free() == Decimal(100) - 15000
    one.submit(order("B"), NOW)  # covers it
    one.on_tick(tick("1490"))
    assert one.free() == Decimal(200)


def test_without_any_price_nobody_can_say_that_an_order_is_too_dear() -> None:
    one = book("100")
    one.submit(order("A", symbol=TCS), NOW)
    assert one.free() == Decimal(100)


def test_where_money_is_not_counted_nothing_is_refused_for_it() -> None:
    one = PaperBook()
    one.on_tick(tick("1500"))
    one.submit(order("A", qty="1000000"), NOW)
    assert one.free() is None


def test_the_records_alone_tell_what_is_free() -> None:
    records: list[BookRecord] = []
    one = book("50000", records)
    one.submit(order("A", qty="7"), NOW)
    one.on_tick(tick("1510.05"))
    one.submit(order("B", Side.SELL, "3"), NOW)
    one.on_tick(tick("1499.95"))
    again = book("50000")
    for record in records:
        again.apply(record)
    assert again.free() == one.free()


# --- accounts, and two of them that hold the same symbol ---


def test_an_account_has_a_token_of_its_own_that_stays(tmp_path: Path) -> None:
    file = tmp_path / "broker" / FILE_NAME
    first = ensure_account(file, SECOND, cash=Decimal("250000"))
    assert ensure_account(file, SECOND, cash=Decimal(1)) == first
    other = ensure_account(file, AccountId("third"))
    assert (first.cash, other.cash) == (Decimal("250000"), DEFAULT_CASH)
    assert first.token != other.token
    assert file.stat().st_mode & 0o077 == 0
    file.write_text("{")
    with pytest.raises(BadInput, match="cannot be read"):
        read_accounts(file)


async def test_two_accounts_that_hold_one_symbol_see_neither_orders_nor_positions_nor_money_of_each_other(
    tmp_path: Path,
) -> None:
    file, infy = tmp_path / FILE_NAME, Symbol("NSE:INFY")
    first = ensure_account(file, AccountId("paper"), cash=Decimal(100000))
    server = PaperServer(data=tmp_path, clock=SystemClock(), accounts_file=file)
    await server.start()
    second = ensure_account(file, SECOND, cash=Decimal(20000))  # while it runs
    a, b = PaperBroker(server.url, token=first.token), PaperBroker(server.url, token=second.token)
    server.show(Tick(infy, Decimal(1500), NOW))
    await a.submit(replace(order("A", qty="20"), account=AccountId("paper")), lambda: None)
    await b.submit(replace(order("B", qty="10"), account=SECOND), lambda: None)
    server.show(Tick(infy, Decimal(1500), NOW))
    assert [p.net_qty for p in await a.positions()] == [20]
    assert [p.net_qty for p in await b.positions()] == [10]
    assert [[r.client_order_id for r in await x.orders()] for x in (a, b)] == [["A"], ["B"]]
    assert (await a.funds(), await b.funds()) == (Decimal(70000), Decimal(5000))
    with pytest.raises(OrderRefused, match=r"has 5,000\.00"):
        await b.submit(replace(order("B2", qty="10"), account=SECOND), lambda: None)
    await a.submit(replace(order("A2", Side.SELL, qty="20"), account=AccountId("paper")), lambda: None)
    server.show(Tick(infy, Decimal(1500), NOW))
    assert (await a.positions(), [p.net_qty for p in await b.positions()]) == ([], [10])
    for broker in (a, b):
        await broker.close()
    await server.stop()

    again = PaperServer(data=tmp_path, clock=SystemClock(), accounts_file=file)
    await again.start()
    b = PaperBroker(again.url, token=second.token)
    assert (await b.funds(), [p.net_qty for p in await b.positions()]) == (Decimal(5000), [10])
    await b.close()
    await again.stop()
