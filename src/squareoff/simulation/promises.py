"""The promises S1 to S8 and S10 as checks of a day: what the broker's ledger proves against what squareoff says.

S9, that users are kept apart, is a promise of those who show and ask: an engine has one account and sees no other.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from squareoff.adapters.brokers.paper.book import Placed, Traded
from squareoff.core.machine import EXIT_OPEN, State
from squareoff.core.run import Run
from squareoff.core.types import ClientOrderId, Exposure, Order, RunId, Side, Symbol
from squareoff.keepers import POSITIONS_S
from squareoff.ports import Severity
from squareoff.simulation.day import A1, is_ours
from squareoff.simulation.trouble import What

if TYPE_CHECKING:
    from squareoff.simulation.play import _Day
    from squareoff.simulation.process import Process


READ_WITHIN_S = 2 * POSITIONS_S + 1.0
"""The broker's position is read at least this often while somebody watches; with its lag, and on its way."""
LEAVES_WITHIN_S = 0.1
"""From the last look at the clock to the bytes, with timers that are late."""


class Promises:
    """Asked after each tick, and at the end. Each failure is an AssertionError that begins with the promise's name."""

    def __init__(self, day: _Day) -> None:
        self._day = day
        self._read = self._left = 0
        self._orders: dict[str, Order] = {}
        """By the broker's id."""
        self._bought: Counter[str] = Counter()
        self._sold: Counter[str] = Counter()
        self._entries: dict[str, set[str]] = {}
        """Executed entries of a run, by its key."""
        self._net: Counter[Symbol] = Counter()
        self._latched: set[RunId] = set()
        """Runs whose stop-loss was seen and is known to SQL."""
        self._latched_here: set[RunId] = set()
        """Those whose spool knows it, which is enough as long as its machine keeps its power and the account."""

    # ------------------------------------------------------------------ after each tick

    def watch(self) -> None:
        self._read_ledger()
        self._buys_in_time()
        for process in self._day.living:
            if hasattr(process, "engine") and process.has_account:
                self._says_what_is_held(process)
        self._keeps_stops()
        assert not self._day.errors, f"S4: something broke inside: {self._day.errors!r}"

    def _read_ledger(self) -> None:
        """S1 and S2, trade by trade."""
        day = self._day
        for record in day.ledger[self._read :]:
            if isinstance(record, Placed):
                self._orders[record.broker_order_id] = record.order
            if not isinstance(record, Traded):
                continue
            order, qty = self._orders[record.broker_order_id], record.fill.qty
            self._net[order.symbol] += qty if order.side is Side.BUY else -qty  # type: ignore[assignment]
            if not is_ours(order):
                continue
            key = order.client_order_id[2:12]
            if order.side is Side.BUY:
                self._bought[key] += qty  # type: ignore[assignment]
                self._entries.setdefault(key, set()).add(record.broker_order_id)
                executed = sorted(self._entries[key])
                assert len(executed) == 1, f"S1: double BUY: run {key} executed {executed}"
                wanted = self._run_of(key).plan.quantity
                assert self._bought[key] <= wanted, f"S1: {self._bought[key]} bought of {wanted} wanted"
            else:
                self._sold[key] += qty  # type: ignore[assignment]
                sold, bought = self._sold[key], self._bought[key]
                assert sold <= bought or self._was_forgotten(order), (
                    f"S2: double SELL: run {key} sold {sold} of {bought}"
                )
                is_short = self._net[order.symbol] < 0 and not (self._may_not_know_yet() or self._was_forgotten(order))
                assert not is_short, f"S2: {order.client_order_id} made the account short"
        self._read = len(day.ledger)

    def _buys_in_time(self) -> None:
        """S1: no BUY is caught up. Where the machine's clock was set, it goes by what was confirmed."""
        day = self._day
        if any(one.what is What.CLOCK for one in day.schedule.troubles):
            return
        for order, left_at in day.left[self._left :]:
            if order.side is Side.BUY:
                until = self._run_of(order.client_order_id[2:12]).plan.buy_until + timedelta(seconds=LEAVES_WITHIN_S)
                assert left_at <= until, f"S1: BUY {order.client_order_id} left after its grace"
        self._left = len(day.left)

    def _was_forgotten(self, order: Order) -> bool:
        """Hole R4: a further exit left by its mark alone while SQL was away, and the machine lost the mark with its
        power. Of the first one that is assumed."""
        if order.client_order_id.endswith("X01"):
            return False
        troubles = self._day.schedule.troubles
        sql_was_away = any(one.what in (What.SQL_DOWN, What.RAISE, What.DELAY) for one in troubles)
        return self._day.lost_spool and sql_was_away and not self._day.schedule.two_machines

    def _may_not_know_yet(self) -> bool:
        """Of a sale by hand: hole R1, as long as the position was not read since."""
        day = self._day
        if day.sold_outside_s is None:
            return False
        if any(day.now_s - started_s < READ_WITHIN_S for started_s in day.started_s):
            return True  # fills of the last seconds may be younger than the position that was read at the start
        deaf = any(
            one.what is What.PAUSE or (one.what is What.UNANSWERED and one.detail == "positions")
            for one in day.schedule.troubles
        )
        return deaf or day.now_s - day.sold_outside_s < READ_WITHIN_S

    def _run_of(self, key: str) -> Run:
        for run in self._known_runs():
            if run.key == key:
                return run
        raise AssertionError(f"S10: order of a run {key} that nobody knows")

    def _known_runs(self) -> list[Run]:
        """As the worker that has the account knows them; as SQL does where none has."""
        runs = dict(self._day.records.runs)
        for process in self._day.living:
            if process.has_account:
                runs |= process.board.runs
        return list(runs.values())

    def _says_what_is_held(self, process: Process) -> None:
        """S8 at any moment: who says flat is flat. News that are under way count: until they come the entry is open,
        and an open entry is not flat."""
        for run in process.board.runs.values():
            held = Decimal(self._bought[run.key] - self._sold[run.key])
            if run.exposure is Exposure.FLAT and held > run.outside_qty:
                text = f"run {run.plan.run_id} ({run.state}) says that nothing is held, the broker's book has {held}"
                raise AssertionError(f"S8: {text}")

    def _keeps_stops(self) -> None:
        """S3: what was shown twice to a worker that watches is latched; and what was latched is not forgotten."""
        day = self._day
        for process in day.living:
            lane = process.lane
            assert lane is not None
            if not (process.recovered and process.has_account) or lane.stands_until_us / 1e6 > day.now_s:
                continue
            for run in process.board.runs.values():
                if run.stop_seen is not None and not day.schedule.two_machines:
                    self._latched_here.add(run.plan.run_id)
        for run in day.records.runs.values():
            if run.stop_seen is not None and run.outcome is None:  # else it was found too late, in another spool
                self._latched.add(run.plan.run_id)

    # ------------------------------------------------------------------ at the end

    def is_over(self) -> bool:
        """Every run is closed and in SQL, and somebody works the account."""
        day = self._day
        if not any(process.recovered and process.has_account for process in day.living):
            return False
        return len(day.records.runs) > 0 and all(run.is_closed for run in day.records.runs.values())

    def at_the_end(self) -> None:
        self.watch()
        day = self._day
        holders = [process for process in day.living if process.has_account]
        assert len(holders) == 1, f"S7: {len(holders)} workers have the account at the end"
        assert holders[0].recovered, "S7: the worker has not recovered after all that went wrong was over"
        for run in day.records.runs.values():
            self._ended_well(run)
        self._explained()
        self._redis_agrees()

    def _ended_well(self, run: Run) -> None:
        what = f"run {run.plan.run_id} {run.state} {run.exposure}"
        held = Decimal(self._bought[run.key] - self._sold[run.key])
        if not run.is_closed:
            rings = any(a.run_id == run.plan.run_id and a.severity is Severity.URGENT for a in self._day.alerts)
            is_told = run.exposure is Exposure.UNKNOWN and rings
            assert is_told, f"S4: {what} is not closed long after the session"
        assert run.state not in (State.RUNNING, *EXIT_OPEN), f"S4: {what} hangs"
        if run.exposure is Exposure.FLAT:
            assert held <= run.outside_qty, f"S5: {what}, the broker's book says {held} are held"
        if run.outcome in (State.SOLD, State.EXITED_BY_SL):
            assert run.exit.filled_qty > 0, f"S5: {what}: {run.outcome} without a fill"
            assert run.exit.filled_qty + run.outside_qty >= run.entry.filled_qty, f"S5: {what} is not flat"
        latched = self._latched if self._day.lost_spool else self._latched | self._latched_here
        is_seen = run.plan.run_id in latched and run.entry.filled_qty > run.outside_qty
        ends = (State.EXITED_BY_SL, State.FAILED)
        assert not is_seen or run.outcome in ends, f"S3: {what}: a stop-loss that was seen ended as {run.outcome}"

    def _explained(self) -> None:
        """S10: every order of ours is in the journal, with what it was sent for."""
        told = {str(entry.data.get("order")) for entry in self._day.records.entries}
        text = "\n".join(entry.text for entry in self._day.records.entries if "orders not over" in entry.text)
        for order in self._orders.values():
            name: ClientOrderId = order.client_order_id
            assert not is_ours(order) or name in told or name in text, f"S10: nobody told of {name}"

    def _redis_agrees(self) -> None:
        """S6: whatever happened to it, Redis says what the worker says."""
        holder = next(process for process in self._day.living if process.has_account)
        held = self._day.redis.accounts.get(A1)
        for run in holder.board.runs.values():
            if held is None or (saved := held.runtimes.get(run.plan.strategy_id)) is None:
                raise AssertionError(f"S6: Redis has nothing of run {run.plan.run_id}")
            same = saved.run.plan.run_id == run.plan.run_id and saved.run.state is run.state
            assert same, f"S6: Redis has run {saved.run.plan.run_id} {saved.run.state}, the worker {run.state}"
