"""Which run a strategy gets next, and what its definition says now: `ports.Planner` over SQL and the reference data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.types import AccountId, RunId, StrategyId, Symbol
from squareoff.ports import Clock, Planned, Records
from squareoff.wiring import ReferenceData, exchange_hours, reference_data

if TYPE_CHECKING:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.plausible import PriceLimits
    from squareoff.core.preflight import Check
    from squareoff.core.repeat import Turn
    from squareoff.core.run import Run
    from squareoff.core.strategy import Plan, Strategy
    from squareoff.mornings import Mornings, Told

Preflight = Callable[[Config, "Sequence[Strategy]", datetime], "Sequence[Sequence[Check]]"]
"""The checks of some strategies, in their order. Called in a thread."""


def _strategy_of(run: Run) -> StrategyId:
    return run.plan.strategy_id


class RunPlanner:
    """Makes the run of a strategy of `account` for its next session, and notes in `limits` which prices its symbol can
    have."""

    def __init__(
        self,
        account: AccountId,
        strategies: StrategyStore,
        records: Records,
        config: Config,
        limits: dict[Symbol, PriceLimits],
    ) -> None:
        self._account = account
        self._strategies, self._records, self._config, self._limits = strategies, records, config, limits
        self._revision, self._is_edit_open = -1, False

    async def new_run(self, strategy_id: StrategyId, now: datetime) -> Run:
        """Raises BadInput if there is no such strategy, or no session it fits in."""
        from squareoff.core.orders import order_key
        from squareoff.core.run import Run

        strategy = self._strategies.get(strategy_id)
        plan_of = self._planned(strategy, now)
        run_id = await self._records.next_run_id()
        return Run(plan=plan_of(run_id), key=order_key(self._records.install_id, run_id))

    def _planned(self, strategy: Strategy, now: datetime) -> Callable[[RunId], Plan]:
        from squareoff.core.definition import next_session_for, plan_for
        from squareoff.core.plausible import limits_of
        from squareoff.core.strategy import Timing

        try:
            reference = reference_data(self._config)
            instrument = reference.instruments.find(strategy.symbol)
            session = next_session_for(strategy, reference.calendar(instrument.exchange), now)
        except (LookupError, ValueError, OSError) as error:  # unknown symbol, exchange or year; a file that is wrong
            raise BadInput(f"{strategy.name}: symbol", f"{strategy.symbol} cannot be planned: {error}") from error
        self._limits[instrument.symbol] = limits_of(instrument, session.day)
        timing = Timing() if reference.market is None else reference.market.timing
        return lambda run_id: plan_for(strategy, run_id=run_id, session=session, instrument=instrument, timing=timing)

    def mornings(self, engine: Told, clock: Clock, check: Preflight) -> Mornings:
        from squareoff.core.definition import DEFAULT_EXCHANGE
        from squareoff.mornings import Mornings

        def look(runs: Sequence[Run], now: datetime) -> Sequence[Sequence[Check]]:
            known = {strategy.id: strategy for strategy in self._strategies.list()}
            found = iter(check(self._config, [known[id_] for id_ in map(_strategy_of, runs) if id_ in known], now))
            return [next(found) if _strategy_of(run) in known else () for run in runs]

        async def checked(runs: Sequence[Run]) -> Sequence[Sequence[Check]]:
            return await asyncio.to_thread(look, runs, clock.now())

        def opens_at(run: Run) -> datetime:
            calendar = reference_data(self._config).calendar(run.plan.symbol.partition(":")[0])
            session = calendar.session_on(run.plan.trading_day)
            return run.plan.buy_at if session is None else session.opens_at

        async def exchanges() -> Collection[str]:
            """Without any strategy a person is told all the same: that nothing is armed."""
            mine = [each for each in await asyncio.to_thread(self._strategies.list) if each.account == self._account]
            return {each.symbol.partition(":")[0] for each in mine} or {DEFAULT_EXCHANGE}

        zones = {name: hours.zone for name, hours in exchange_hours().items()}
        return Mornings(engine=engine, clock=clock, zones=zones, exchanges=exchanges, opens_at=opens_at, check=checked)

    async def look(self, now: datetime, runs: Sequence[Run]) -> Planned:
        """`ports.Planner`; SQL and files are read in a thread: a stop-loss does not wait for them."""
        return await asyncio.to_thread(self._look, now, runs)

    def _look(self, now: datetime, runs: Sequence[Run]) -> Planned:
        # those of another account are its own worker's
        repeating = [each for each in self._strategies.repeating() if each[0].account == self._account]
        revision = self._strategies.total_revision()
        look_at_edits = revision != self._revision or self._is_edit_open
        if not repeating and not look_at_edits:
            return Planned()
        reference = reference_data(self._config)
        plans = self._edits(reference, runs) if look_at_edits else {}
        self._revision, self._is_edit_open = revision, bool(plans)
        turns = {strategy.id: self._turn(reference, strategy, earlier, now) for strategy, earlier in repeating}
        return Planned(
            due=tuple(strategy_id for strategy_id, turn in turns.items() if turn.make),
            waiting={strategy_id: turn.reason for strategy_id, turn in turns.items() if turn.is_trouble},
            edited=plans,
        )

    def _turn(self, reference: ReferenceData, strategy: Strategy, earlier: Run | None, now: datetime) -> Turn:
        from squareoff.core.repeat import Turn, turn_of

        try:
            calendar = reference.calendar(strategy.symbol.partition(":")[0])
        except (BadInput, ValueError) as error:
            return Turn(make=False, reason=str(error), is_trouble=True)
        try:
            instrument = reference.instruments.find(strategy.symbol)
        except LookupError:
            instrument = None
        return turn_of(strategy, calendar, instrument, now, earlier)

    def _edits(self, reference: ReferenceData, runs: Sequence[Run]) -> dict[RunId, Plan]:
        """The plans of runs that do not say what their definition says now."""
        from squareoff.core.edit import edited, replanned

        by_id = {strategy.id: strategy for strategy in self._strategies.list()}
        plans: dict[RunId, Plan] = {}
        for run in runs:
            if (strategy := by_id.get(run.plan.strategy_id)) is None:
                continue
            session = reference.calendar(run.plan.symbol.partition(":")[0]).session_on(run.plan.trading_day)
            if session is None:
                continue
            plan = replanned(run.plan, strategy, session)
            if edited(run, plan) is not run:
                plans[run.plan.run_id] = plan
        return plans
