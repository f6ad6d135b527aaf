"""What `--market` names, made ready in the run folder: its clock, its tape, its facts."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.market import CLOCK_NAME, Market, MarketKind, load_market, save_market

if TYPE_CHECKING:
    from squareoff.adapters.feeds.recorded import RecordedData
    from squareoff.core.session import ExchangeHours
    from squareoff.core.types import Symbol

CHOICES = "practice (generated prices, open now) or file:PATH (recorded prices)"
LONGEST_RUN = timedelta(days=3650)
"""How far the timetable of a clock reaches, in real time; and in trading time, before calendars end."""
LONGEST_TRADED = timedelta(days=365 * 1000)
BEFORE_OPEN, AFTER_CLOSE = timedelta(minutes=45), timedelta(minutes=5)
"""Of a recorded day: so that what is made at 08:30 and what ends with the session happens."""
NIGHT_S = 0.5
"""Real seconds from one recorded day to the next."""
FASTEST = 3600.0
TAPE_NAME, MISCHIEF_NAME = "tape.csv", "mischief.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """`--market`, read."""

    kind: MarketKind
    source: Path | None
    speed: float
    seed: int


def read_market(text: str | None, *, speed: float, seed: int) -> Wanted:
    if text is None:
        raise BadInput("--market", "is missing: squareoff has to know where prices come from", f"one of {CHOICES}")
    if not 0 < speed <= FASTEST:
        raise BadInput("--speed", f"{speed:g} cannot be kept", f"trading seconds in a real second, up to {FASTEST:g}")
    kind, colon, path = text.partition(":")
    if text == MarketKind.PRACTICE:
        return Wanted(kind=MarketKind.PRACTICE, source=None, speed=speed, seed=seed)
    if kind == MarketKind.FILE and colon and path:
        return Wanted(kind=MarketKind.FILE, source=Path(path).expanduser().absolute(), speed=speed, seed=seed)
    raise BadInput("--market", f"{text!r} is not a market squareoff knows", f"one of {CHOICES}")


def make_ready(config: Config, wanted: Wanted, *, mischief: bool) -> Market:
    """Write clock, tape and facts of the market; the clock is not started yet unless it goes on from before.

    Trading time never goes back in one data folder. Raises BadInput for recorded data that cannot be read."""
    from squareoff import wiring

    config.run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = load_market(config.run_folder)
    _refuse_change(before, wanted, config)
    market = Market(
        kind=wanted.kind, speed=wanted.speed, seed=wanted.seed, source=wanted.source, boot=wiring.this_boot()
    )
    (config.run_folder / MISCHIEF_NAME).write_text(json.dumps({"mischief": _mischief() if mischief else []}))
    if before is not None and before.ended_at is None and before.boot == market.boot and _is_same(before, market):
        return before  # killed, not ended: its time has gone on, and so has the market
    if wanted.kind is MarketKind.PRACTICE:
        begin = max(filter(None, (wiring.now_real(), _last_known(config, before))))
        real = min(LONGEST_RUN, LONGEST_TRADED / wanted.speed)
        points = [(0.0, begin), (real.total_seconds(), begin + real * wanted.speed)]
    else:
        data = _recorded(config, wanted)
        market = replace(market, days=tuple(data.days), is_bars=data.is_bars)
        points = _days_only(config, data, wanted.speed, _last_known(config, before))
        _write_tape(config.run_folder / TAPE_NAME, data)
    clock = wiring.paced_clock(points, config.run_folder / CLOCK_NAME)
    clock.start()
    save_market(config.run_folder, market)
    return market


def _refuse_change(before: Market | None, wanted: Wanted, config: Config) -> None:
    """Another market has other prices and another time: what is held would be lost sight of."""
    from squareoff import wiring

    if before is None or (before.kind, before.source) == (wanted.kind, wanted.source):
        return
    held = [run for run in wiring.open_strategy_store(config).every_open_run() if not run.is_closed]
    if held:
        names = ", ".join(sorted({run.plan.name for run in held}))
        raise BadInput(
            "--market",
            f"this data folder trades on {before}, and {names} may still buy or hold there",
            f"go on with --market {before} and stop them first, or use another folder with --data",
        )


def _is_same(before: Market, market: Market) -> bool:
    return (before.kind, before.source, before.speed, before.seed) == (
        market.kind,
        market.source,
        market.speed,
        market.seed,
    )


def _last_known(config: Config, before: Market | None) -> datetime | None:
    """Trading time that has been reached in this folder."""
    from squareoff import wiring

    if before is None:
        return None
    if before.ended_at is not None:
        return before.ended_at
    if before.boot == wiring.this_boot():
        return wiring.trading_clock(config).now()
    return wiring.last_journal_instant(config)


def _recorded(config: Config, wanted: Wanted) -> RecordedData:
    from squareoff import wiring
    from squareoff.wiring.replay import recorded_data

    assert wanted.source is not None
    hours = wiring.exchange_hours()

    def hours_of(symbol: Symbol) -> ExchangeHours:
        return hours.get(symbol.partition(":")[0], hours["NSE"])

    return recorded_data(
        [wanted.source], bars_labelled="start", quote="bid", exchange="NSE", symbol=None, hours_of=hours_of
    )


def _days_only(
    config: Config, data: RecordedData, speed: float, reached: datetime | None
) -> list[tuple[float, datetime]]:
    """A timetable over the recorded days: each at `speed`, the nights between them skipped."""
    points: list[tuple[float, datetime]] = []
    real_s = 0.0
    for day in data.days:
        first, last = _span(data, day)
        begin, end = first - BEFORE_OPEN, last + AFTER_CLOSE
        if reached is not None and end <= reached:
            continue
        begin = max(begin, reached) if reached is not None else begin
        if points:
            real_s += NIGHT_S
        points.append((real_s, begin))
        real_s += (end - begin).total_seconds() / speed
        points.append((real_s, end))
    if not points:
        raise BadInput("--market", "every recorded day has been played in this data folder", "use another --data DIR")
    return points


def _span(data: RecordedData, day: date) -> tuple[datetime, datetime]:
    ticks = data.ticks(day)
    return ticks[0].at, ticks[-1].at


def _write_tape(path: Path, data: RecordedData) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("at", "symbol", "price"))
        for day in data.days:
            writer.writerows((tick.at.isoformat(), tick.symbol, f"{tick.price:f}") for tick in data.ticks(day))


def _mischief() -> Sequence[dict[str, object]]:
    """What `--mischief` does to orders: every kind now and then, for as long as the broker lives."""
    kinds: Sequence[dict[str, object]] = (
        {"kind": "placed_but_no_answer", "slot": "E"},
        {"kind": "busy", "slot": "E"},
        {"kind": "placed_but_error", "slot": "X"},
        {"kind": "news_lost", "slot": "E"},
        {"kind": "rate_limit", "slot": "X", "seconds": 0.5},
        {"kind": "not_placed_no_answer", "slot": "X"},
        {"kind": "delay_answer", "slot": "E", "seconds": 1.0},
        {"kind": "visible_late", "slot": "X", "seconds": 1.5},
        {"kind": "placed_but_torn_answer", "slot": "X"},
        {"kind": "refuse", "slot": "X", "permanent": False},
    )
    every = 7
    return [
        {**kind, "after": number + round_ * every * len(kinds) // 2, "times": 1}
        for round_ in range(20)
        for number, kind in enumerate(kinds, start=1)
    ]
