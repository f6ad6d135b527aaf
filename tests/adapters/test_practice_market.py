"""The practice market: prices at any hour, the same for the same seed; and the day's book of the broker beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from squareoff.adapters.brokers.paper.book import PaperBook
from squareoff.adapters.brokers.paper.client import PaperBroker
from squareoff.adapters.brokers.paper.command import main
from squareoff.adapters.brokers.paper.practice import (
    FEED_ONLY,
    SILENT,
    Oddity,
    PracticeMarket,
    PracticeSymbol,
    Show,
)
from squareoff.adapters.brokers.paper.server import PaperServer
from squareoff.adapters.clock import SystemClock, VirtualLoop
from squareoff.adapters.feeds.paper import PaperFeed
from squareoff.core.instruments import is_on_tick
from squareoff.core.orders import client_order_id, order_key
from squareoff.core.types import (
    AccountId,
    ClientOrderId,
    Order,
    OrderStatus,
    OrderType,
    Product,
    RunId,
    Side,
    SlotName,
    Symbol,
    Tick,
)
from squareoff.ports import Clock

SUNDAY_NIGHT = datetime(2026, 11, 1, 21, 17, tzinfo=UTC)
INFY, TCS, ITC = (Symbol(f"NSE:{name}") for name in ("INFY", "TCS", "ITC"))
STEPS = {INFY: Decimal("0.10"), TCS: Decimal("0.05"), ITC: Decimal(5)}
SYMBOLS = [PracticeSymbol(symbol=symbol, tick_size=step) for symbol, step in STEPS.items()]
ACCOUNT = AccountId("paper")


class Shown:
    """What a market showed: `trades` may fill orders, `odd` ones only the feed told."""

    def __init__(self) -> None:
        self.trades: list[Tick] = []
        self.odd: list[Tick] = []

    def __call__(self, tick: Tick, *, fills: bool = True) -> None:
        (self.trades if fills else self.odd).append(tick)


def play(market: PracticeMarket, *, hours: float, start: datetime = SUNDAY_NIGHT, show: Show | None = None) -> Shown:
    """On virtual time: nobody waits."""
    shown = Shown()
    loop = VirtualLoop(start)
    playing = loop.create_task(market.play(loop, shown if show is None else show))
    loop.advance_to(start + timedelta(hours=hours))
    playing.cancel()
    loop.drain()
    loop.close()
    return shown


def market(seed: int = 7, *, oddities: bool = False, tick_every_s: float = 5.0) -> PracticeMarket:
    return PracticeMarket(seed, SYMBOLS, oddities=oddities, tick_every_s=tick_every_s)


def of(symbol: Symbol, ticks: Sequence[Tick]) -> list[Tick]:
    return [tick for tick in ticks if tick.symbol == symbol]


# -- the prices


@pytest.mark.parametrize("oddities", [False, True])
def test_the_same_seed_gives_the_same_prices_and_the_same_bad_day(oddities: bool) -> None:
    first, second = (play(market(oddities=oddities), hours=6) for _ in range(2))
    assert first.trades == second.trades
    assert str(first.odd) == str(second.odd)  # as text: a NaN equals nothing
    assert first.trades != play(market(8, oddities=oddities), hours=6).trades


def test_a_price_depends_on_nothing_but_seed_symbol_and_instant_on_every_machine() -> None:
    # written down once: should they change, whoever notes a seed to repeat a run no longer can
    assert [str(market().price_at(symbol, SUNDAY_NIGHT)) for symbol in STEPS] == ["1066.20", "153.45", "2110"]
    alone = PracticeMarket(7, SYMBOLS[:1], tick_every_s=0.1)
    assert alone.price_at(INFY, SUNDAY_NIGHT) == market().price_at(INFY, SUNDAY_NIGHT)
    in_india = SUNDAY_NIGHT.astimezone(timezone(timedelta(hours=5.5)))
    assert alone.price_at(INFY, in_india) == alone.price_at(INFY, SUNDAY_NIGHT)


def test_a_broker_killed_and_started_again_goes_on_without_a_jump() -> None:
    middle = SUNDAY_NIGHT + timedelta(hours=1.5)
    before = play(market(tick_every_s=0.5), hours=1.5).trades
    after = play(market(tick_every_s=0.5), hours=0.1, start=middle + timedelta(seconds=0.3)).trades
    for symbol in (INFY, TCS):
        last, first = of(symbol, before)[-1], of(symbol, after)[0]
        assert abs(first.price - last.price) <= last.price / 2000
    unbroken = market()
    assert all(tick.price == unbroken.price_at(tick.symbol, tick.at) for tick in before + after)


def test_the_market_is_open_at_any_hour_of_any_day_and_every_symbol_ticks_on_time() -> None:
    shown = play(market(tick_every_s=0.5), hours=1 / 60).trades
    for symbol in STEPS:
        at = [tick.at for tick in of(symbol, shown)]
        assert {later - earlier for earlier, later in pairwise(at)} <= {
            timedelta(seconds=0.5, microseconds=us) for us in (-1, 0, 1)
        }
        assert len(at) in (120, 121)
    assert len({tick.at for tick in shown}) == len(shown)  # the symbols in turn, not all at once
    assert all(tick.at.tzinfo is UTC for tick in shown)


def test_trading_time_may_run_fast_while_ticks_come_as_often_as_ever() -> None:
    class TenTimesAsFast(VirtualLoop):
        def now(self) -> datetime:
            return SUNDAY_NIGHT + (super().now() - SUNDAY_NIGHT) * 10

    loop = TenTimesAsFast(SUNDAY_NIGHT)
    shown = Shown()
    playing = loop.create_task(market(tick_every_s=0.5).play(loop, shown))
    loop.advance_to(SUNDAY_NIGHT + timedelta(seconds=59.9))
    playing.cancel()
    loop.drain()
    loop.close()
    ticks = of(INFY, shown.trades)
    assert len(ticks) == 120
    assert ticks[-1].at - SUNDAY_NIGHT == timedelta(seconds=595)


@pytest.mark.parametrize("oddities", [False, True])
def test_every_price_an_order_can_fill_at_is_positive_and_on_the_tick_grid(oddities: bool) -> None:
    shown = play(market(oddities=oddities, tick_every_s=10), hours=12)
    assert all(tick.price > 0 and is_on_tick(tick.price, STEPS[tick.symbol]) for tick in shown.trades)
    assert {tick.price.as_tuple().exponent for tick in of(TCS, shown.trades)} == {-2}


def test_prices_start_between_100_and_3000_and_differ_from_symbol_to_symbol() -> None:
    many = [PracticeSymbol(symbol=Symbol(f"SIM:S{n}"), tick_size=Decimal("0.05")) for n in range(200)]
    prices = [PracticeMarket(7, many).price_at(each.symbol, SUNDAY_NIGHT) for each in many]
    assert 90 < min(prices) < 300
    assert 2500 < max(prices) < 3300
    assert len(set(prices)) > 190


def test_a_symbol_moves_one_to_three_percent_in_a_day_and_a_little_in_a_minute() -> None:
    one = market()
    ranges, moves = [], []
    for symbol in (INFY, TCS):
        for day in range(15):
            opening = SUNDAY_NIGHT + timedelta(days=day)
            prices = [one.price_at(symbol, opening + timedelta(minutes=minute)) for minute in range(0, 24 * 60, 2)]
            ranges.append((max(prices) - min(prices)) / prices[0] * 100)
            moves += [abs(b - a) / a * 100 for a, b in pairwise(prices)]
    assert 1 < median(ranges) < 3
    assert Decimal("0.7") < min(ranges)
    assert max(ranges) < 4
    assert Decimal("0.01") < median(moves) < Decimal("0.2")
    assert max(moves) < 1


def test_with_a_brokers_whole_list_ticks_come_less_often_instead_of_all_too_late() -> None:
    many = [PracticeSymbol(symbol=Symbol(f"SIM:S{n}"), tick_size=Decimal("0.05")) for n in range(10_000)]
    shown = play(PracticeMarket(7, many, tick_every_s=0.5), hours=1 / 3600)
    assert 1990 <= len(shown.trades) <= 2001


@pytest.mark.parametrize(
    ("symbols", "every_s"), [([], 0.5), ([*SYMBOLS, SYMBOLS[0]], 0.5), (SYMBOLS, 0.0)], ids=["none", "twice", "speed"]
)
def test_a_market_that_cannot_be_played_is_refused(symbols: list[PracticeSymbol], every_s: float) -> None:
    with pytest.raises(ValueError):
        PracticeMarket(7, symbols, tick_every_s=every_s)
    with pytest.raises(ValueError):
        PracticeSymbol(symbol=INFY, tick_size=Decimal(0))


# -- the oddities


@pytest.fixture(scope="module")
def bad_day() -> tuple[PracticeMarket, Shown]:
    one = market(oddities=True)
    return one, play(one, hours=12)


@pytest.mark.parametrize("kind", Oddity)
def test_each_oddity_happens_within_twelve_hours_and_is_counted(
    bad_day: tuple[PracticeMarket, Shown], kind: Oddity
) -> None:
    one, _ = bad_day
    assert 3 <= one.met[kind] <= 150


def test_without_oddities_the_market_behaves() -> None:
    one = market()
    shown = play(one, hours=12)
    assert (shown.odd, one.met) == ([], Counter())
    at = [tick.at for tick in of(INFY, shown.trades)]
    assert max(b - a for a, b in pairwise(at)) < timedelta(seconds=5.1)


def test_a_jump_is_a_step_of_several_percent(bad_day: tuple[PracticeMarket, Shown]) -> None:
    one, shown = bad_day
    steps = [abs(b.price - a.price) / a.price for symbol in (INFY, TCS) for a, b in pairwise(of(symbol, shown.trades))]
    large = [step for step in steps if step > Decimal("0.015")]
    assert 1 <= len(large) <= one.met[Oddity.JUMP]
    assert max(large) < Decimal("0.08")


def test_a_symbol_falls_silent_alone_and_for_as_long_as_it_says(bad_day: tuple[PracticeMarket, Shown]) -> None:
    one, shown = bad_day
    silences = []
    for symbol in STEPS:
        at = [tick.at for tick in of(symbol, shown.trades)]
        pauses = [(a, b) for a, b in pairwise(at) if b - a > timedelta(seconds=6)]
        for a, b in pauses:
            silences.append(b - a)
            assert not [tick for tick in of(symbol, shown.odd) if a < tick.at < b and tick.price > 0]
            assert [tick for tick in shown.trades if a < tick.at < b]  # the others go on
    assert timedelta(seconds=60) <= max(silences) <= timedelta(seconds=110)
    assert len(silences) <= sum(one.met[kind] for kind in SILENT)


def test_odd_ticks_are_what_they_say(bad_day: tuple[PracticeMarket, Shown]) -> None:
    one, _ = bad_day
    seen: Counter[Oddity] = Counter()
    newest: dict[Symbol, Tick] = {}

    def judge(tick: Tick, *, fills: bool = True) -> None:
        if fills:
            newest[tick.symbol] = tick
        else:
            seen[kind_of(tick, newest[tick.symbol])] += 1

    play(market(oddities=True), hours=12, show=judge)
    assert seen == Counter({kind: one.met[kind] for kind in FEED_ONLY})


def kind_of(tick: Tick, true: Tick) -> Oddity:
    if tick == true:
        return Oddity.DUPLICATE
    if tick.at > true.at:
        assert tick.price == true.price
        return Oddity.FUTURE
    if tick.at == true.at:
        assert not tick.price.is_finite() or tick.price in (0, -true.price, true.price * 100, true.price / 100)
        return Oddity.ABSURD
    assert tick.price == market(oddities=True).price_at(tick.symbol, tick.at)
    return Oddity.OUT_OF_ORDER if true.at - tick.at <= timedelta(seconds=10) else Oddity.STALE


def test_every_kind_of_nonsense_price_comes() -> None:
    one = market(oddities=True, tick_every_s=30)
    odd = [tick for tick in play(one, hours=72).odd if tick.symbol == INFY]
    times = {str(tick.price / one.price_at(INFY, tick.at)) for tick in odd if tick.price != 0}
    assert {"NaN", "-1", "100", "0.01"} <= times
    assert any(tick.price == 0 for tick in odd)


# -- orders


def order(run: int, side: Side = Side.BUY) -> Order:
    return Order(
        client_order_id=client_order_id(order_key("tests", RunId(run)), SlotName.ENTRY, 1),
        account=ACCOUNT,
        symbol=INFY,
        side=side,
        product=Product.MIS,
        qty=Decimal(10),
    )


def open_gate() -> None:
    """Nothing speaks against sending."""


def test_an_absurd_tick_never_fills_an_order() -> None:
    book, true, placed = PaperBook(), market(oddities=True), 0

    def show(tick: Tick, *, fills: bool = True) -> None:
        nonlocal placed
        if fills:
            book.on_tick(tick)
        if tick.symbol == INFY:  # at every tick one that waits for the next
            placed += 1
            book.submit(order(placed, Side.BUY if placed % 2 else Side.SELL), tick.at)

    play(true, hours=4, show=show)
    fills = [fill for report in book.orders() for fill in report.fills]
    assert len(fills) >= placed - 1 > 2000
    assert all(fill.price == true.price_at(INFY, fill.at) for fill in fills)


async def eventually(check: Callable[[], bool]) -> None:
    """Asks again and again, for ten seconds at most."""
    for _ in range(2000):
        if check():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never happened")


@contextlib.asynccontextmanager
async def serving(folder: Path, clock: Clock, *, tape: PracticeMarket | None = None) -> AsyncIterator[PaperServer]:
    server = PaperServer(data=folder, clock=clock, tape=tape)
    await server.start()
    yield server
    await server.stop()


async def test_the_broker_tells_the_feed_of_an_odd_tick_and_fills_at_the_next_true_one(tmp_path: Path) -> None:
    async with serving(tmp_path, SystemClock()) as server:
        heard: list[Tick] = []
        standing = asyncio.Event()
        listening = asyncio.ensure_future(PaperFeed(server.url).run([INFY], heard.append, on_frame=standing.set))
        broker = PaperBroker(server.url)
        async with asyncio.timeout(10):
            await standing.wait()
            await broker.submit(order(1), open_gate)
            for nonsense in ("0.00", "-1540.00", "154000.00", "NaN"):
                server.show(Tick(INFY, Decimal(nonsense), SUNDAY_NIGHT), fills=False)
            assert [report.status for report in await broker.orders()] == [OrderStatus.OPEN]
            server.show(Tick(INFY, Decimal("1540.10"), SUNDAY_NIGHT))
            await eventually(lambda: len(heard) == 5)
        assert [str(tick.price) for tick in heard] == ["0.00", "-1540.00", "154000.00", "NaN", "1540.10"]
        (report,) = await broker.orders()
        assert [fill.price for fill in report.fills] == [Decimal("1540.10")]
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await broker.close()


async def test_a_market_order_fills_on_a_sunday_night(tmp_path: Path) -> None:
    one = market(tick_every_s=0.02)
    async with serving(tmp_path, SystemClock(), tape=one) as server:
        broker = PaperBroker(server.url)
        async with asyncio.timeout(10):
            await broker.submit(order(1), open_gate)
            async with contextlib.aclosing(broker.updates()) as updates:
                report = await anext(each async for each in updates if each.fills)
        assert report.fills[0].price == one.price_at(INFY, report.fills[0].at)
        await broker.close()


# -- the day's book


class SetClock(SystemClock):
    """Trading time stands where it is put."""

    def __init__(self) -> None:
        super().__init__()
        self.at = SUNDAY_NIGHT

    def now(self) -> datetime:
        return self.at


async def told_on_the_stream(broker: PaperBroker, until: ClientOrderId) -> list[ClientOrderId]:
    told = []
    async with asyncio.timeout(10), contextlib.aclosing(broker.updates()) as updates:
        async for report in updates:
            told.append(report.client_order_id)
            if report.client_order_id == until:
                break
    return told


async def test_the_order_list_is_the_days_book_and_any_order_is_still_found_by_its_id(tmp_path: Path) -> None:
    clock = SetClock()
    filled, cancelled, waiting, new = (order(run) for run in range(4))
    still_open = replace(waiting, order_type=OrderType.LIMIT, limit_price=Decimal(1000))
    async with serving(tmp_path, clock) as server:
        broker = PaperBroker(server.url)
        await broker.submit(filled, open_gate)
        server.show(Tick(INFY, Decimal(1540), clock.at))
        await broker.submit(cancelled, open_gate)
        await broker.submit(still_open, open_gate)
        clock.at += timedelta(hours=23)
        await broker.cancel(cancelled.client_order_id)
        await broker.close()
    clock.at += timedelta(hours=1, seconds=1)
    async with serving(tmp_path, clock) as server:  # the ledger knows all that, too
        broker = PaperBroker(server.url)
        await broker.submit(new, open_gate)
        seen = [each.client_order_id for each in (cancelled, still_open, new)]
        assert [report.client_order_id for report in await broker.orders()] == seen
        assert await told_on_the_stream(broker, new.client_order_id) == seen
        old = await broker.find(filled.client_order_id)
        assert old is not None
        assert old.status is OrderStatus.FILLED
        assert [position.net_qty for position in await broker.positions()] == [10]
        clock.at += timedelta(hours=23)
        seen = [each.client_order_id for each in (still_open, new)]
        assert [report.client_order_id for report in await broker.orders()] == seen
        await broker.close()


async def test_a_fill_at_a_tick_with_an_old_date_is_news_of_today(tmp_path: Path) -> None:
    clock = SetClock()
    async with serving(tmp_path, clock) as server:
        broker = PaperBroker(server.url)
        await broker.submit(order(1), open_gate)
        server.show(Tick(INFY, Decimal(1540), clock.at - timedelta(days=2)))
        assert [report.status for report in await broker.orders()] == [OrderStatus.FILLED]
        await broker.close()


# -- the command line


def _no_clock(timetable: Path | None) -> Clock:
    raise AssertionError("it got too far")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--practice", "7", "--tape", "ticks.csv"), "--tape: not allowed with argument --practice"),
        (("--practice-oddities",), "need --practice SEED"),
        (("--instruments", "reference"), "need --practice SEED"),
        (("--practice", "today"), "invalid int value: 'today'"),
    ],
)
def test_options_that_do_not_go_together_are_refused_with_the_reason(
    capsys: pytest.CaptureFixture[str], arguments: Sequence[str], told: str
) -> None:
    with pytest.raises(SystemExit):
        main(_no_clock, lambda folder, day: SYMBOLS, ["--data", "nowhere", *arguments])
    assert told in capsys.readouterr().err


OWN_INSTRUMENTS = """# as of 2026-11-01
symbol,name,kind,lot,tick_size,freeze_qty,lower_band,upper_band,expiry,tradable,closing_auction
NSE:MINE,My own share,share,1,0.25,,,,,yes,
NSE:OVER,A future that is over,future,1,0.25,,,,2020-01-30,yes,
NSE:ITC,ITC as its index,index,1,0.25,,,,,no,
"""


@pytest.fixture
def practice_broker(tmp_path: Path) -> Iterator[str]:
    """Its url: a process of its own on real time, started from the command line."""
    reference = tmp_path / "reference"
    reference.mkdir()
    (reference / "instruments.csv").write_text(OWN_INSTRUMENTS)
    options = ("--practice", "7", "--practice-oddities", "--instruments", str(reference))
    command = [sys.executable, "-m", "squareoff.adapters.brokers.paper", "--data", str(tmp_path / "broker"), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        yield json.loads(child.stdout.readline())["url"]
        child.terminate()


@pytest.mark.processes
async def test_started_from_the_command_line_it_trades_what_is_shipped_and_what_is_mine(practice_broker: str) -> None:
    expected = {INFY, TCS, Symbol("SIM:ALPHA"), Symbol("NSE:MINE")}
    absent = {Symbol("NSE:OVER"), ITC, Symbol("NSE:NIFTY")}
    prices: dict[Symbol, Decimal] = {}
    told = PaperFeed(practice_broker).ticks([*expected, *absent])
    async with asyncio.timeout(50), contextlib.aclosing(told) as ticks:
        async for tick in ticks:
            prices[tick.symbol] = tick.price
            if expected <= prices.keys():
                break
    assert prices.keys() == expected
    assert is_on_tick(prices[Symbol("NSE:MINE")], Decimal("0.25"))
