"""Everything that `squareoff status` shows, read once: strategies in order of need, and who guards what is held."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from squareoff.apps.status.next_action import (
    EXPOSED,
    buy_words,
    day_words,
    gain,
    held_words,
    next_action,
    planned,
    result_words,
)
from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.definition import DEFAULT_EXCHANGE
from squareoff.core.events import Event
from squareoff.core.limits import AccountRules, Level
from squareoff.core.machine import CAUSE_LABEL, FINAL, STATE_LABEL, State
from squareoff.core.preflight import Check, first_red, preflight
from squareoff.core.run import Run
from squareoff.core.strategy import Strategy
from squareoff.core.types import AccountId, StrategyId, Symbol, Tick
from squareoff.core.values import replace as changed

if TYPE_CHECKING:
    from redis import Redis

    from squareoff.adapters.sql.strategies import Mark, StrategyStore
    from squareoff.ports import WishRecord
    from squareoff.wiring import ReferenceData

OLD_FEED_S = 5.0
"""As the worker judges it: silent for longer while something is held is an alarm."""
_RUNS_OF_A_DAY = 100
PREFLIGHT_EVERY_S = 10.0


class Need(IntEnum):
    """Who needs a person first stands first."""

    FAILED = 0
    HOLDING = 1
    WAITING = 2
    DONE = 3
    NOT_STARTED = 4

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One strategy. `stop_distance`: how far the last price is above the stop-loss, in percent of that price."""

    strategy: Strategy
    need: Need
    words: str
    next: str = ""
    run: Run | None = None
    zone: ZoneInfo
    last_price: Decimal | None = None
    gain: Decimal | None = None
    armed: bool | None = None
    """Of one that is ready: whether every check of its preflight is green or not known; None: it was not asked."""
    red: Check | None = None
    wish: WishRecord | None = None
    """One that is saved, and that no worker took up yet."""

    @property
    def account(self) -> AccountId:
        """Of what is held: a strategy may have been moved to another account since."""
        return self.strategy.account if self.run is None else self.run.plan.account

    @property
    def is_held(self) -> bool:
        return self.need in (Need.FAILED, Need.HOLDING)

    @property
    def stop_distance(self) -> Decimal | None:
        stop = None if self.run is None else self.run.stop_price
        if stop is None or not self.last_price or not self.is_held:
            return None
        return (self.last_price - stop) / self.last_price * 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """All of it at `now` (trading time, UTC). `feed_age_s`: real seconds since the oldest price that guards
    something held, or None where there is none to ask for."""

    now: datetime
    zone: ZoneInfo
    market: str | None
    speed: float
    up: Mapping[str, Any] | None
    workers: Mapping[AccountId, int]
    """Those that live, by account."""
    accounts: Sequence[AccountId]
    feed_age_s: float | None
    rows: Sequence[Row]
    alarms: Sequence[str] = ()
    switch: str = ""
    """Of the accounts' kill switches; empty while none is pressed."""
    rules: Mapping[AccountId, AccountRules] = field(default_factory=dict)
    mark: Mark
    """Of the records it was drawn from."""

    def guard(self, row: Row) -> str:
        """Who watches its stop-loss."""
        return "squareoff" if row.account in self.workers else "nobody"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Read:
    """What the records held at `mark`."""

    mark: Mark
    rules: Mapping[AccountId, AccountRules]
    open_runs: Sequence[Run]
    pending: Mapping[StrategyId, WishRecord]
    strategies: Sequence[Strategy]

    @classmethod
    def of(cls, store: StrategyStore, mark: Mark) -> _Read:
        """`mark` was asked for before: what changes meanwhile is read again next time."""
        return cls(
            mark=mark,
            rules=store.all_rules(),
            open_runs=store.open_runs(),
            pending={wish.strategy_id: wish for wish in store.pending_wishes()},
            strategies=store.list(),
        )


@dataclass(kw_only=True)
class Viewer:
    """Draws the picture again and again from one store, and reads again only what can have changed."""

    config: Config
    store: StrategyStore
    reference: ReferenceData
    only: StrategyId | None = None
    _up_before: int | None = None
    _open_before: frozenset[int] | None = None
    _done: tuple[Run, ...] = ()
    _red: dict[StrategyId, Check | None] = field(default_factory=dict)
    """The first red check of each that is ready, None if none is; asked seldom, it looks at disks and sockets."""
    _red_at_s: float = float("-inf")
    _rows_before: Mapping[StrategyId, Row] = field(default_factory=dict)
    _repeating: frozenset[StrategyId] = frozenset()
    """Those that are started anew on every trading day."""
    _zones: dict[str, ZoneInfo] = field(default_factory=dict)
    _read: _Read | None = None
    """What was read last, which holds as long as the records' mark is the same."""
    _redis: tuple[str, Redis] | None = None

    @classmethod
    def open(cls, config: Config, name: str | None) -> Viewer:
        """Raises BadInput: no such strategy, or files of the market that cannot be read."""
        from squareoff import wiring
        from squareoff.apps.strategies_command import find_strategy

        store = wiring.open_strategy_store(config)
        only = None if name is None else find_strategy(store, name).id
        return cls(config=config, store=store, reference=wiring.reference_data(config), only=only)

    def look(self) -> Picture:
        from squareoff import wiring
        from squareoff.apps.up.supervisor import running, worker_pids

        config, now = self.config, wiring.now(self.config)
        up, workers = running(config), worker_pids(config)
        if (up or {}).get("pid") != self._up_before:  # another market may be played from now on
            self.reference, self._up_before = wiring.reference_data(config), (up or {}).get("pid")
        redis_url = (up or {}).get("redis_url") or (config.redis_url if workers else None)
        mark = self.store.mark()
        if self._read is None or self._read.mark != mark:
            self._read = _Read.of(self.store, mark)
        rules = self._read.rules
        accounts = list(rules)
        ticks = self._ticks(redis_url, accounts)
        if workers and up is not None:
            self._preflight(now)
        rows = self._rows(self._read, now, ticks)
        shown = [row for row in rows if self.only is None or row.strategy.id == self.only]
        return Picture(
            now=now,
            zone=self._zone(rows[0].strategy.symbol if rows else f"{DEFAULT_EXCHANGE}:"),
            market=None if self.reference.market is None else str(self.reference.market),
            speed=self._speed,
            up=up,
            workers=workers,
            accounts=accounts,
            feed_age_s=self._feed_age_s(ticks, rows, now),
            rows=shown,
            rules=rules,
            mark=mark,
            alarms=alarms(rows, is_up=up is not None, workers=workers),
            switch="\n".join(filter(None, (_switch(a, rules[a], of_one=len(rules) == 1) for a in accounts))),
        )

    def close(self) -> None:
        """The store too."""
        if self._redis is not None:
            self._redis[1].close()
        self.store.close()

    def _ticks(self, redis_url: str | None, accounts: Sequence[AccountId]) -> Mapping[AccountId, Mapping[Symbol, Tick]]:
        from squareoff import wiring

        if not redis_url:
            return {}
        if self._redis is None or self._redis[0] != redis_url:
            if self._redis is not None:
                self._redis[1].close()
            self._redis = redis_url, wiring.redis_client(redis_url)
        client = self._redis[1]
        return {account: wiring.last_ticks(client, account) for account in accounts}

    def _preflight(self, now: datetime) -> None:
        from squareoff.apps.facts import gather, look_around

        if time.monotonic() - self._red_at_s < PREFLIGHT_EVERY_S:
            return
        self._red_at_s = time.monotonic()
        waiting = {run.plan.strategy_id for run in self.store.open_runs() if run.state is State.READY}
        here = look_around(self.config) if waiting else None
        asked = [strategy for strategy in self.store.list() if strategy.id in waiting]
        self._red = {
            each.id: first_red(preflight(each, gather(self.config, each, now=now, machine=here), when=now))
            for each in asked
        }

    @property
    def _speed(self) -> float:
        market = self.reference.market
        return 1.0 if market is None else market.speed

    def _rows(self, read: _Read, now: datetime, ticks: Mapping[AccountId, Mapping[Symbol, Tick]]) -> list[Row]:
        open_runs, pending = read.open_runs, read.pending
        done = self._runs_of_today(open_runs)
        newest = {run.plan.run_id: run for run in (*done, *open_runs)}  # one that has just ended is older in `done`
        latest = {run.plan.strategy_id: run for run in sorted(newest.values(), key=_is_open_then_newest)}
        strategies = {strategy.id: strategy for strategy in read.strategies}
        for run in open_runs:
            if not run.is_closed and run.plan.strategy_id not in strategies:
                strategies[run.plan.strategy_id] = _removed(run, self._zone(run.plan.symbol))
        rows = [
            self._row(strategy, latest.get(id_), pending.get(id_), now, ticks) for id_, strategy in strategies.items()
        ]
        self._rows_before = {row.strategy.id: row for row in rows}
        return sorted(rows, key=_order)

    def _only_its_price_moved(
        self, strategy: Strategy, run: Run, wish: WishRecord | None, red: Check | None, price: Decimal | None
    ) -> Row | None:
        """The row of the last look with its new price; None: something else is new too. A thousand rows five times a
        second are mostly that."""
        row = self._rows_before.get(strategy.id)
        if row is None or row.run is not run or row.strategy is not strategy or row.wish is not wish:
            return None
        if row.red is not red or row.armed is not self._armed(run):
            return None
        return row if row.last_price == price else changed(row, last_price=price, gain=gain(run, price))

    def _armed(self, run: Run) -> bool | None:
        is_asked = run.state is State.READY and run.plan.strategy_id in self._red
        return self._red[run.plan.strategy_id] is None if is_asked else None

    def _runs_of_today(self, open_runs: Sequence[Run]) -> tuple[Run, ...]:
        """The newest runs, read again only when a run came or went."""
        ids = frozenset(int(run.plan.run_id) for run in open_runs)
        if ids != self._open_before:
            self._done, self._open_before = self.store.runs(limit=_RUNS_OF_A_DAY), ids
            self._repeating = frozenset(strategy.id for strategy, _ in self.store.repeating())
        return self._done

    def _row(
        self,
        strategy: Strategy,
        run: Run | None,
        wish: WishRecord | None,
        now: datetime,
        ticks: Mapping[AccountId, Mapping[Symbol, Tick]],
    ) -> Row:
        tick = ticks.get(strategy.account, {}).get(strategy.symbol)
        zone, price = self._zone(strategy.symbol), None if tick is None else tick.price
        if run is not None and not run.is_closed:
            armed = self._armed(run)
            red = None if armed is None else self._red[strategy.id]
            if (row := self._only_its_price_moved(strategy, run, wish, red, price)) is not None:
                return row
            need = Need.WAITING if run.exposure not in EXPOSED else Need.FAILED if run.state in FINAL else Need.HOLDING
            waits = "" if wish is None or wish.event is Event.START else f"; {wish.event} waits for the worker"
            mend = "" if red is None else f", but {red.name} is RED: {red.text}; {red.mend}"
            return Row(
                strategy=strategy,
                need=need,
                words=_state_words(run) + mend + waits,
                armed=armed,
                red=red,
                wish=wish,
                next=next_action(run, zone),
                run=run,
                zone=zone,
                last_price=price,
                gain=gain(run, price),
            )
        if wish is not None and wish.event is Event.START:
            words = "start saved, waits for `squareoff up`"
            next_ = self._planned(strategy, now)
            return Row(strategy=strategy, need=Need.WAITING, words=words, next=next_, zone=zone, wish=wish)
        if run is not None and run.plan.trading_day == now.astimezone(zone).date():
            again = self._planned(strategy, now) if strategy.id in self._repeating else ""
            return Row(
                strategy=strategy,
                need=Need.DONE,
                words=result_words(run),
                next=again,
                run=run,
                zone=zone,
                last_price=price,
                gain=run.pnl_gross,
            )
        if strategy.id in self._repeating:
            words = "daily, not made ready for its next day yet"
            return Row(strategy=strategy, need=Need.WAITING, words=words, next=self._planned(strategy, now), zone=zone)
        return Row(strategy=strategy, need=Need.NOT_STARTED, words="not started", run=run, zone=zone)

    def _planned(self, strategy: Strategy, now: datetime) -> str:
        try:
            plan = planned(strategy, self.reference, now)
        except BadInput as error:
            return str(error)
        return f"{buy_words(plan, self._zone(plan.symbol))} on {day_words(plan.trading_day)}"

    def _feed_age_s(
        self, ticks: Mapping[AccountId, Mapping[Symbol, Tick]], rows: Iterable[Row], now: datetime
    ) -> float | None:
        def ages(chosen: Iterable[Row]) -> list[float]:
            found = (ticks.get(row.account, {}).get(row.strategy.symbol) for row in chosen)
            return [_age_s(tick, now) / self._speed for tick in found if tick is not None]

        held = [row for row in rows if row.is_held]
        if held and (of_held := ages(held)):
            return max(of_held)
        armed = [row for row in rows if row.need is Need.WAITING and row.run is not None]
        return min(ages(held or armed), default=None)

    def _zone(self, symbol: str) -> ZoneInfo:
        from squareoff import wiring

        exchange = symbol.partition(":")[0]
        if exchange not in self._zones:
            self._zones[exchange] = wiring.zone_of(symbol)
        return self._zones[exchange]


def _switch(account: AccountId, rules: AccountRules, *, of_one: bool) -> str:
    if rules.level is Level.NORMAL:
        return ""
    what = "no new entry is made" if rules.level is Level.NO_ENTRIES else "everything is squared off"
    of = "" if of_one else f" OF {account}"
    return f"THE KILL SWITCH{of} IS ON ({rules.level}): {what}; {rules.reason or 'no reason given'}"


def alarms(rows: Iterable[Row], *, is_up: bool, workers: Mapping[AccountId, int]) -> list[str]:
    """What a person must know first: something is held, and whoever should guard it does not live."""
    held = [row for row in rows if row.is_held and row.run is not None]
    told: list[str] = []
    for account in dict.fromkeys(row.account for row in held):
        if is_up and account in workers:
            continue
        what = "; ".join(
            f"{row.strategy.name} holds {held_words(row.run)}" for row in held if row.run and row.account == account
        )
        told += _alarm(what, is_up=is_up, worker=workers.get(account))
    return told


def _alarm(what: str, *, is_up: bool, worker: int | None) -> list[str]:
    if worker is None and is_up:
        return [f"NOBODY GUARDS IT NOW: the trading worker is dead, `squareoff up` starts it again. {what}"]
    if worker is None:
        return [f"NOBODY GUARDS IT: `squareoff up` does not run. Start it, or close it at your broker. {what}"]
    if not is_up:
        text = f"`squareoff up` was killed; its worker (process {worker}) still guards, but nobody would start it again"
        return [f"{text}. Run `squareoff up` now. {what}"]
    return []


def _removed(run: Run, zone: ZoneInfo) -> Strategy:
    """A strategy that was taken out of the list, and an order of it filled late after all: it is not hidden."""
    plan = run.plan
    return Strategy(
        id=plan.strategy_id,
        user=plan.user,
        account=plan.account,
        name=plan.name,
        symbol=plan.symbol,
        quantity=plan.quantity,
        buy_time=plan.buy_at.astimezone(zone).time(),
        sell_time=plan.sell_at.astimezone(zone).time(),
        stop_loss=plan.stop_loss,
        product=plan.product,
    )


def _state_words(run: Run) -> str:
    label = STATE_LABEL[run.state]
    return f"{label}: {CAUSE_LABEL[run.cause]}" if run.state is State.FAILED and run.cause else label


def _is_open_then_newest(run: Run) -> tuple[bool, int]:
    """The last of a strategy in this order is the one to show."""
    return not run.is_closed, run.plan.run_id


def _order(row: Row) -> tuple[int, Decimal | float, int]:
    """In a group: nearest to the stop-loss first, not known before all; by BUY time; by id."""
    within: Decimal | float = 0.0
    if row.is_held:
        within = float("-inf") if row.stop_distance is None else row.stop_distance
    elif row.need is Need.WAITING:
        within = float("inf") if row.run is None else row.run.plan.buy_at.timestamp()
    return row.need, within, row.strategy.id


def _age_s(tick: Tick, now: datetime) -> float:
    return max(0.0, (now - tick.at).total_seconds())
