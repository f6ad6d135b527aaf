"""Mistakes put into the worker on purpose, for tests only: each must make a scenario fail.

If one is not caught, it is the harness that is wrong. They are the broken designs of the order protocol's model and
the habits of home-made systems. Nothing of this is in the shipped package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Bug:
    name: str
    what: str
    caught_by: tuple[str, ...]
    plant: Callable[[], None]


def _blind_retry() -> None:
    from squareoff.core.outcomes import NotSent, Unknown
    from squareoff.gateway import Gateway

    send = Gateway.send

    async def blind(self: Any, *given: Any, **named: Any) -> Any:
        sent = await send(self, *given, **named)
        return NotSent(sent.reason) if isinstance(sent, Unknown) else sent

    Gateway.send = blind  # type: ignore[method-assign]


def _no_deadline() -> None:
    from squareoff.gateway import Gateway

    send = Gateway.send

    async def late(self: Any, *given: Any, **named: Any) -> Any:
        return await send(self, *given, **{**named, "not_after": None})

    Gateway.send = late  # type: ignore[method-assign]


def _stop_not_latched() -> None:
    from squareoff.adapters.spool import FileSpool

    FileSpool.latch = lambda self, latch: None  # type: ignore[method-assign]


def _epoch_ignored() -> None:
    from squareoff.adapters.redis.store import RedisRuntimeStore
    from squareoff.keepers import Keepers

    async def fine(self: Any, *_: Any) -> bool:
        return True

    async def nothing(self: Any) -> None:
        self.engine.redis_damaged.clear()

    RedisRuntimeStore.is_intact = fine  # type: ignore[method-assign]
    Keepers._rebuild_redis = nothing  # type: ignore[method-assign]


def _hidden_retries() -> None:
    from squareoff.adapters.brokers.wire import HttpClient, NoAnswer

    request = HttpClient.request

    async def again(self: Any, *given: Any, **named: Any) -> Any:
        try:
            return await request(self, *given, **named)
        except NoAnswer:
            return await request(self, *given, **named)

    HttpClient.request = again  # type: ignore[method-assign]


def _discarded_when_locked() -> None:
    from squareoff.engine import Engine
    from squareoff.ports import EngineState, JournalKind

    async def claimed(self: Any, decision: Any) -> bool:
        why = await self._claim(decision.run, decision.signal.event)
        if why is not None:
            run = self.board.runs[decision.run.plan.run_id]
            self.say(JournalKind.CLAIM, f"discarded: {why}", run, EngineState.LOCKED)
        return why is None

    Engine._claimed = claimed  # type: ignore[method-assign]
    from squareoff.adapters.redis.store import RedisRuntimeStore
    from squareoff.ports import Claim

    claim = RedisRuntimeStore.claim

    async def by_key(self: Any, run: Any, **named: Any) -> Any:
        # SETNX as home-made systems use it: any key that is there means no
        return Claim.BUSY if named["event"] == "STOPLOSS" else await claim(self, run, **named)

    RedisRuntimeStore.claim = by_key  # type: ignore[method-assign]


def _position_on_acceptance() -> None:
    from dataclasses import replace

    from squareoff.core import run as runs
    from squareoff.core.types import Fill, TradeId

    merge = runs.merge_report

    def accepted_is_filled(attempt: Any, report: Any) -> Any:
        after = merge(attempt, report)
        missing = after.qty - after.filled_qty
        if missing > 0 and report.client_order_id[12] == "E":
            from datetime import UTC, datetime
            from decimal import Decimal

            fill = Fill(
                trade_id=TradeId(f"a{report.broker_order_id}"),
                qty=missing,
                price=Decimal(100),
                at=datetime(2026, 11, 20, 5, tzinfo=UTC),
            )
            after = replace(after, fills=(*after.fills, fill), phase=runs.AttemptPhase.DONE)
        return after

    runs.merge_report = accepted_is_filled


def _granted_is_unsent() -> None:
    from squareoff import recovery

    def as_it_was(attempt: Any, *_: Any) -> Any:
        return attempt

    recovery._attempt_taken_over = as_it_was


def _exit_uncapped() -> None:
    from squareoff import engine

    engine.exit_qty = lambda run, board, *, missing_qty: run.remaining_qty
    from squareoff.engine import Engine

    Engine.on_positions = lambda self, positions, *, asked_at_s=None: None  # type: ignore[method-assign]


def _no_send_mark() -> None:
    from squareoff.adapters.spool import FileSpool

    FileSpool.mark = lambda self, mark: None  # type: ignore[method-assign]


def _wish_taken_first() -> None:
    from squareoff.keepers import Keepers

    obey = Keepers._obey

    async def forget(self: Any, wish: Any) -> None:
        if wish.event != "START" and wish.id not in self._told:
            await self.records.wish_taken(wish.id, self.engine.stamp.fence)
            await self.clock.sleep(0.3)
        await obey(self, wish)

    Keepers._obey = forget  # type: ignore[method-assign]


def _id_per_slot() -> None:
    from squareoff.core import orders

    real = orders.client_order_id
    orders.client_order_id = lambda key, slot, attempt: real(key, slot, 1)


def _gone_is_stopped() -> None:
    from squareoff.core import machine as m

    m.TABLE[m.State.SL_PENDING][m.Event.CLOSED_OUTSIDE] = m.Go(m.State.STOPPED, (m.Effect.ALERT, m.Effect.ARCHIVE))
    m.TABLE[m.State.FAILED][m.Event.CLOSED_OUTSIDE] = m.Go(m.State.STOPPED, (m.Effect.ALERT, m.Effect.ARCHIVE))


def _nothing_reserved() -> None:
    from decimal import Decimal

    from squareoff import engine

    def greedy(run: Any, board: Any, *, missing_qty: Decimal) -> Decimal:
        held = sum((each.remaining_qty for each in board.sharing(run.plan.symbol, run.plan.product)), Decimal(0))
        return Decimal(max(min(run.remaining_qty, held - missing_qty), Decimal(0)))

    engine.exit_qty = greedy


def _exit_waits_for_sql() -> None:
    from squareoff.core.types import SlotName
    from squareoff.engine import Engine

    send = Engine._send

    async def saved_first(self: Any, run_id: Any, name: Any, *given: Any, **named: Any) -> None:
        while name is SlotName.EXIT and not await self._saved(run_id):
            await self._clock.sleep(0.25)
        await send(self, run_id, name, *given, **named)

    Engine._send = saved_first  # type: ignore[method-assign]


def _lock_only() -> None:
    from squareoff.leasing import SharedLease

    SharedLease.is_held = property(lambda self: True)  # type: ignore[assignment,method-assign]


def _no_restamp() -> None:
    from dataclasses import replace

    from squareoff import recovery

    real = recovery._slot_taken_over

    def as_granted(slot: Any, *given: Any) -> Any:
        return replace(real(slot, *given), stamp=slot.stamp)

    recovery._slot_taken_over = as_granted
    from squareoff.engine import Engine

    async def any_stamp(self: Any, run_id: Any, attempt: Any) -> bool:
        return True

    Engine._has_licence_in_sql = any_stamp  # type: ignore[method-assign]


def _exit_before_licence() -> None:
    from squareoff.engine import Engine

    async def sure(self: Any, run_id: Any, attempt: Any) -> bool:
        return True

    Engine._has_licence_in_sql = sure  # type: ignore[method-assign]


def _cancel_not_confirmed() -> None:
    from squareoff.chasing import Chaser
    from squareoff.core.run import slot_of
    from squareoff.core.types import BrokerOrderId, OrderReport, OrderStatus, Side, SlotName

    async def asked_is_done(self: Any, run_id: Any, order: Any) -> None:
        run = self._run(run_id)
        name, index = slot_of(run, order)
        attempt = run.slot(name).attempts[index]
        await self._broker.cancel(order)
        self._engine.on_report(
            OrderReport(
                client_order_id=order,
                broker_order_id=attempt.broker_order_id or BrokerOrderId(""),
                symbol=run.plan.symbol,
                side=Side.BUY if name is SlotName.ENTRY else Side.SELL,
                product=run.plan.product,
                qty=attempt.qty,
                status=OrderStatus.CANCELLED,
                fills=attempt.fills,
            )
        )

    Chaser._cancel_once = asked_is_done  # type: ignore[method-assign]


def _no_fence() -> None:
    from squareoff.adapters.sql import records

    def stored(connection: Any, run: Any, fence: Any) -> Any:
        asked = {"of_run": run.plan.run_id, "of_account": run.plan.account}
        row = connection.execute(records._STORED, asked).one_or_none()
        return None if row is None or row.version is None else records._Stored(row.version, row.phase)

    records._stored = stored
    records._check_fence = lambda connection, account, fence: None


def _redis_proof() -> None:
    import sys

    from squareoff import recovery, wiring
    from squareoff.core.orders import AttemptPhase

    real = recovery._attempt_taken_over

    def by_claim(attempt: Any, *given: Any) -> Any:
        with wiring.redis_client(sys.argv[sys.argv.index("--redis") + 1]) as client:
            never_claimed = all(client.hget(key, "state") == b"bought" for key in client.keys("runtime:*"))
        return attempt if never_claimed and attempt.phase is AttemptPhase.LICENSED else real(attempt, *given)

    recovery._attempt_taken_over = by_claim


BUGS: dict[str, Bug] = {
    bug.name: bug
    for bug in (
        Bug("blind-retry", "no answer counts as never sent: sent again", ("18",), _blind_retry),
        Bug("hidden-retries", "the HTTP client sends again by itself", ("16",), _hidden_retries),
        Bug("no-deadline", "no last check of the time before the bytes", ("13",), _no_deadline),
        Bug("stop-not-latched", "a stop-loss seen is kept in memory only", ("37",), _stop_not_latched),
        Bug("epoch-ignored", "a flushed Redis is believed", ("34",), _epoch_ignored),
        Bug(
            "discarded-when-locked",
            "a stop-loss that finds the lock taken is lost",
            ("x-lock",),
            _discarded_when_locked,
        ),
        Bug("position-on-acceptance", "accepted counts as filled", ("24",), _position_on_acceptance),
        Bug("granted-is-unsent", "a licensed exit is taken for unsent after a crash", ("e3",), _granted_is_unsent),
        Bug("no-send-mark", "nothing is written before the bytes", ("e3",), _no_send_mark),
        Bug("exit-uncapped", "an exit never asks what the broker holds", ("x-hand-part", "x-hand"), _exit_uncapped),
        Bug("wish-taken-first", "a wish is crossed off before it is obeyed", ("x-wish",), _wish_taken_first),
        Bug("id-per-slot", "all attempts of a slot share one order id", ("x-reject-unique",), _id_per_slot),
        Bug("gone-is-stopped", "sold by hand after the stop-loss ends as stopped", ("x-hand-stop",), _gone_is_stopped),
        Bug("nothing-reserved", "two exits pass the cap of one position", ("x-two-hand",), _nothing_reserved),
        Bug("lock-only", "whoever once had the account goes on sending", ("tm-gate",), _lock_only),
        Bug("no-fence", "the records take the word of whoever had the account once", ("tm-start",), _no_fence),
        Bug("redis-proof", "no claim in Redis counts as proof that nothing was sent", ("tm-sent-redis",), _redis_proof),
        Bug("no-restamp", "a licence keeps the name of the machine that granted it", ("tm-back",), _no_restamp),
        Bug(
            "exit-before-licence",
            "across machines, an exit leaves before its licence is in SQL",
            ("tm-licence",),
            _exit_before_licence,
        ),
        Bug("cancel-not-confirmed", "a cancel asked for counts as done", ("v-cancel-quiet",), _cancel_not_confirmed),
        Bug("exit-waits-for-sql", "an exit waits until SQL has the run", ("46",), _exit_waits_for_sql),
    )
}
