"""One run of two lots, two workers, SQL, spools, the lease, the wire and the broker's book: all states, all steps.

What a run becomes is asked of the product: `core.run.advance`, `core.outcomes.hear`, `judge` and `sending`,
`core.triggers.due`, `recovery.taken_over`, and `adapters.licence` for what SQL grants. What is written here is only
what lies between: who may run when, what is lost with whom, and what the venue does. Each place names the code that
it stands for.

Idealised: pauses pass at once (`retry_at`); a reply may be lost for free, so what became of an order is learnt from the
book; "the quarantine is over" means that nothing of that attempt is on the wire or hidden, unless a fault says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from model.designs import Design
from squareoff import recovery
from squareoff.adapters.licence import check_entry_move, check_licence
from squareoff.core.events import Cause, Event, Signal, Source
from squareoff.core.machine import FINAL, Effect, State
from squareoff.core.orders import AttemptPhase, Slot, SlotPhase, Stamp, client_order_id
from squareoff.core.outcomes import GateSaidNo, NotSent, Unknown, hear, judge, sending
from squareoff.core.run import Run, StopSeen, advance, nothing_bought
from squareoff.core.strategy import Plan, StopLoss, StopLossKind, Timing
from squareoff.core.triggers import WATCH_ENDS_AFTER, due, stop_hit
from squareoff.core.types import (
    AccountId,
    BrokerOrderId,
    ClientOrderId,
    Exposure,
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
from squareoff.ports import SpoolContents, SpoolLatch, SpoolMark

ATTEMPTS = 2
"""So many tries a side, and one more for each fault: what needs more is not followed."""
_DAY = datetime(2026, 7, 13, tzinfo=ZoneInfo("Asia/Kolkata"))
NOW = tuple(_DAY.replace(hour=hour) for hour in (9, 12, 16))
"""BUY time; SELL time, the grace of the BUY long over; after the close, and after the end of the watch."""
BUY_TIME, SELL_TIME, CLOSE = range(3)
PAST = _DAY
USUAL, LOW = Decimal(100), Decimal(89)
SYMBOL = Symbol("NSE:INFY")
KEY = "MODELMODEL"
PLAN = Plan(
    run_id=RunId(1),
    strategy_id=StrategyId(1),
    user=UserId(1),
    account=AccountId("A1"),
    name="model",
    symbol=SYMBOL,
    product=Product.MIS,
    quantity=Decimal(1),
    trading_day=_DAY.date(),
    buy_at=NOW[BUY_TIME],
    sell_at=NOW[SELL_TIME],
    closes_at=NOW[CLOSE] - WATCH_ENDS_AFTER,
    stop_loss=StopLoss(kind=StopLossKind.PERCENT, value=Decimal(10)),
    tick_size=Decimal("0.05"),
    timing=Timing(grace_s=60, entry_open_s=10**6),
)
E, X = SlotName.ENTRY, SlotName.EXIT


class Order(NamedTuple):
    """One send, at the venue or on its way there."""

    slot: str
    number: int
    """Of its attempt."""
    qty: int
    phase: int
    filled: int = 0
    hidden: bool = False
    """Beyond the quarantine: still on the wire, or not shown."""


WIRE, RESTS, OVER, NO = range(4)


class Worker(NamedTuple):
    pc: str
    run: int = -1
    """As it knows it; -1: it does not work the account."""
    fence: int = 0
    recovered: bool = False


DOWN, STANDBY, WORKS, LICENCE, GATE_E, MARKED_E, GATE_X, MARKED_X = (
    "down", "standby", "works", "licence", "gate E", "marked E", "gate X", "marked X",
)  # fmt: skip


class Spool(NamedTuple):
    marks: tuple[tuple[str, int, int], ...] = ()
    low: bool = False
    tripped: bool = False
    same_boot: bool = True


class S(NamedTuple):
    """One state of everything."""

    time: int
    sql: int
    """The run in SQL."""
    fence: int
    owner: int
    """Who has the lease, 0: nobody."""
    boots: tuple[int, int]
    workers: tuple[Worker, Worker]
    spools: tuple[Spool, Spool]
    book: tuple[Order, ...]
    wish: int
    """0: none, 1: STOP is asked for, 2: it was taken off the list."""
    claimed: bool
    """Redis knows of an exit."""
    seen: bool
    """A price at the stop-loss was shown to a worker, and its successor can know of it."""
    faults: int


Step = tuple[S, str, bool]
"""What comes next, told in words, and whether it is a fault."""


class Protocol:
    """All steps of a design. Runs are kept once and known by their number."""

    def __init__(self, design: Design) -> None:
        self.design, self._tries = design, ATTEMPTS + design.faults
        self.runs: list[Run] = []
        self._known: dict[Run, int] = {}
        self._memo: dict[Any, Any] = {}

    # ------------------------------------------------------------------ runs by number

    def number(self, run: Run) -> int:
        """Of a run without what no rule asks for: versions, words, and how long ago something was."""
        seen = run.stop_seen
        run = replace(
            run,
            version=0,
            detail="",
            retry_at=None if run.retry_at is None else PAST,
            entry_opened_at=None if run.entry_opened_at is None else NOW[BUY_TIME],
            stop_seen=None if seen is None else StopSeen(price=LOW, at=PAST),
            entry=_plain(run.entry),
            exit=_plain(run.exit),
        )
        known = self._known.get(run)
        if known is None:
            known = self._known[run] = len(self.runs)
            self.runs.append(run)
        return known

    def _once(self, key: Any, work: Callable[[], Any]) -> Any:
        """The product is asked the same question once."""
        known = self._memo.get(key)
        if known is None:
            known = self._memo[key] = work()
        return known

    def initial(self) -> S:
        run = self.number(Run(plan=replace(PLAN, quantity=Decimal(self.design.lots)), key=KEY, state=State.READY))
        return S(
            time=BUY_TIME,
            sql=run,
            fence=1,
            owner=1,
            boots=(1, 1),
            workers=(Worker(WORKS, run, 1, True), Worker(STANDBY)),
            spools=(Spool(), Spool()),
            book=(),
            wish=0,
            claimed=False,
            seen=False,
            faults=0,
        )

    def _machine(self, w: int) -> int:
        return 0 if self.design.machines == 1 else w

    def _stamp(self, s: S, w: int) -> Stamp:
        machine = self._machine(w)
        return Stamp(fence=Fence(s.workers[w].fence), machine=f"m{machine}", boot=f"b{s.boots[machine]}")

    def _report(self, order: Order, *, number: int | None = None) -> OrderReport:
        status = {RESTS: OrderStatus.OPEN, NO: OrderStatus.REFUSED}.get(order.phase, OrderStatus.CANCELLED)
        if order.filled == order.qty:
            status = OrderStatus.FILLED
        name = order_id(order.slot, number or order.number)
        price = USUAL if order.slot == "E" else LOW
        fills = tuple(
            Fill(trade_id=TradeId(f"{name}.{lot}"), qty=Decimal(1), price=price, at=PAST) for lot in range(order.filled)
        )
        return OrderReport(
            client_order_id=name,
            broker_order_id=BrokerOrderId(f"B{name}"),
            symbol=SYMBOL,
            side=Side.BUY if order.slot == "E" else Side.SELL,
            product=Product.MIS,
            qty=Decimal(order.qty),
            status=status,
            fills=fills,
        )

    # ------------------------------------------------------------------ all that may come next

    def steps(self, s: S) -> Iterator[Step]:
        if self.is_over(s):
            return
        yield from self._environment(s)
        for w in (0, 1):
            yield from self._worker(s, w)

    def _environment(self, s: S) -> Iterator[Step]:
        if s.time == BUY_TIME:
            yield s._replace(time=SELL_TIME), "clock: SELL time; the BUY's grace is over", False
        elif s.time == SELL_TIME and not any(order.hidden or order.phase == WIRE for order in s.book):
            over = tuple(o._replace(phase=OVER) if (o.slot, o.phase) == ("E", RESTS) else o for o in s.book)
            yield s._replace(time=CLOSE, book=over), "clock: the session closes, and with it a BUY that rests", False
        sql = self.runs[s.sql]
        if self.design.with_user and not s.wish and sql.state not in FINAL:
            if not self.design.stop_takes_licence and sql.state is State.READY:
                stopped = self.number(replace(sql, state=State.STOPPED, outcome=State.STOPPED))
                yield s._replace(sql=stopped, wish=2), "user: STOP, written as stopped", False
            else:
                where = "in SQL" if self.design.wish_in_sql else "only in Redis"
                yield s._replace(wish=1), f"user: STOP, {where}", False
        for place, order in enumerate(s.book):
            yield from self._venue(s, place, order)
        if s.faults < self.design.faults and (s.claimed or (s.wish == 1 and not self.design.wish_in_sql)):
            wish = s.wish if self.design.wish_in_sql else 2 if s.wish else 0
            yield self._fault(s._replace(claimed=False, wish=wish)), "FAULT Redis is lost", True

    def _venue(self, s: S, place: int, order: Order) -> Iterator[Step]:
        """The broker's book, as it may go on with one order."""
        name = f"{'BUY' if order.slot == 'E' else 'SELL'} {order.number}"

        def put(*new: Order) -> S:
            return s._replace(book=tuple(sorted((*s.book[:place], *new, *s.book[place + 1 :]))))

        may_fail = s.faults < self.design.faults and self.design.venue_fails
        if order.phase == WIRE:
            is_known = any(
                other.slot == order.slot and other.phase not in (WIRE, NO) and self._id(other) == self._id(order)
                for i, other in enumerate(s.book)
                if i != place
            )
            if self.design.enforced and is_known:
                yield put(), f"broker: refuses {name}, its id must be unique", False
            else:
                yield put(order._replace(phase=RESTS)), f"broker: accepts {name} ({order.qty} lots)", False
            if may_fail:
                yield self._fault(put()), f"FAULT {name} is lost on the way", True
                yield self._fault(put(order._replace(phase=NO))), f"FAULT the broker refuses {name}", True
                if not order.hidden and order.slot == "E":
                    yield (
                        self._fault(put(order._replace(hidden=True))),
                        f"FAULT {name} is late beyond the quarantine",
                        True,
                    )
        elif order.phase == RESTS:
            filled = order._replace(filled=order.filled + 1)
            if filled.filled == order.qty:
                filled = filled._replace(phase=OVER)
            yield put(filled), f"broker: fills one lot of {name}", False
            if may_fail and not order.hidden and order.slot == "E":
                yield (
                    self._fault(put(order._replace(hidden=True))),
                    f"FAULT {name} is not shown beyond the quarantine",
                    True,
                )
            if may_fail and order.slot == "X":
                all_of_it = order._replace(phase=OVER, filled=order.qty, hidden=True)
                yield self._fault(put(all_of_it)), f"FAULT {name} fills, and is not shown beyond the quarantine", True
        if order.hidden and order.phase != WIRE:
            yield put(order._replace(hidden=False)), f"broker: {name} shows itself", False

    def _id(self, order: Order) -> tuple[str, int]:
        return (order.slot, order.number if self.design.id_per_attempt else 1)

    def _fault(self, s: S) -> S:
        return s._replace(faults=s.faults + 1)

    # ------------------------------------------------------------------ a worker

    def _worker(self, s: S, w: int) -> Iterator[Step]:
        me, name, machine = s.workers[w], "AB"[w], self._machine(w)
        if me.pc == DOWN:
            yield self._with(s, w, Worker(STANDBY)), f"{name}: is started again", False
            return
        if me.pc == STANDBY:
            if s.owner == 0:
                yield self._take(s, w), f"{name}: takes the account, and reads SQL and its spool", False
            return
        if s.faults < self.design.faults:
            yield from self._worker_fails(s, w, name, machine)
        if s.owner != w + 1:
            yield from self._without_lease(s, w, name)
            return
        if me.pc == WORKS:
            yield from self._works(s, w, name)
        elif me.pc == LICENCE:
            yield from self._licence(s, w, name)
        elif me.pc in (GATE_E, GATE_X):
            yield from self._gate(s, w, name)
        else:
            yield from self._bytes(s, w, name)

    def _with(self, s: S, w: int, worker: Worker) -> S:
        workers = (worker, s.workers[1]) if w == 0 else (s.workers[0], worker)
        return s._replace(workers=workers)

    def _with_run(self, s: S, w: int, run: Run | int, pc: str = WORKS) -> S:
        number = run if isinstance(run, int) else self.number(run)
        return self._with(s, w, s.workers[w]._replace(run=number, pc=pc))

    def _with_spool(self, s: S, machine: int, spool: Spool) -> S:
        return s._replace(spools=(spool, s.spools[1]) if machine == 0 else (s.spools[0], spool))

    def _worker_fails(self, s: S, w: int, name: str, machine: int) -> Iterator[Step]:
        owner = 0 if s.owner == w + 1 else s.owner
        killed = self._with(s, w, Worker(DOWN))._replace(owner=owner)
        yield self._fault(self._forgetting(killed)), f"FAULT {name} is killed", True
        off = killed
        if self.design.machines == 1:
            off = off._replace(workers=(Worker(DOWN), Worker(DOWN)), owner=0)
        boots = (s.boots[0] + 1, s.boots[1]) if machine == 0 else (s.boots[0], s.boots[1] + 1)
        off = self._with_spool(off._replace(boots=boots), machine, Spool(same_boot=False))
        yield self._fault(self._forgetting(off)), f"FAULT {name}'s machine loses its power, and its spool", True
        if self.design.machines == 2 and s.owner == w + 1:
            yield self._fault(s._replace(owner=0)), f"FAULT {name} stands still past its lease", True

    def _forgetting(self, s: S) -> S:
        """A stop-loss counts as seen as long as the next owner can read of it (hole R4: power, or another machine)."""
        if not s.seen:
            return s
        known = self.runs[s.sql].stop_seen is not None or any(
            worker.run >= 0 and self.runs[worker.run].stop_seen is not None for worker in s.workers
        )
        if self.design.machines == 1 and not known:
            known = s.spools[0].tripped or s.spools[0].low or not self.design.latches
            if not self.design.latches and not s.spools[0].same_boot:
                known = False
        return s if known else s._replace(seen=False)

    def _without_lease(self, s: S, w: int, name: str) -> Iterator[Step]:
        """It stood still past its lease and wakes: what it had begun, and what stops it."""
        me = s.workers[w]
        if me.pc == LICENCE and not self.design.licence_once:
            yield from self._licence(s, w, name)
        elif me.pc in (GATE_E, GATE_X) and not self.design.lease_at_the_gate:
            yield from self._gate(s, w, name)
        elif me.pc in (MARKED_E, MARKED_X) and not self.design.lease_at_the_gate:
            yield from self._bytes(s, w, name)
        else:
            yield self._with(s, w, Worker(STANDBY)), f"{name}: has lost the account, and ends", False

    # ------------------------------------------------------------------ recovery (`recovery.recover`)

    def _take(self, s: S, w: int) -> S:
        machine, fence = self._machine(w), s.fence + 1
        spool = s.spools[machine]
        s = self._with(s._replace(owner=w + 1, fence=fence), w, Worker(WORKS, s.sql, fence))
        stamp = self._stamp(s, w)
        key = ("take", s.sql, spool, stamp, s.time, s.claimed)
        run = self._once(
            key, lambda: self.number(self._taken_over(self.runs[s.sql], spool, stamp, NOW[s.time], s.claimed))
        )
        if self.design.machines == 2:  # `licences_first`: that they are ours is in SQL before anything is sent
            s = s._replace(sql=run)
            taken = self.runs[run]
            if taken.stop_seen is None and taken.lowest_price is None:
                s = s._replace(seen=False)  # the spool of the other machine has it: docs/safety.md, S3
        return self._with_run(s, w, run)

    def _taken_over(self, run: Run, spool: Spool, stamp: Stamp, now: datetime, claimed: bool) -> Run:
        marks = tuple(
            SpoolMark(client_order_id=order_id(slot, number), attempt=number, qty=Decimal(qty), cause="")
            for slot, number, qty in spool.marks
        )
        latches = tuple(
            SpoolLatch(run_id=PLAN.run_id, price=LOW, at=PAST, tripped=tripped)
            for tripped, is_there in ((True, spool.tripped), (False, spool.low))
            if is_there
        )
        taken = recovery.taken_over(
            run, SpoolContents(marks=marks, latches=latches, same_boot=spool.same_boot), stamp, now
        )
        if not self.design.stamps:
            taken = replace(
                taken, entry=replace(taken.entry, stamp=run.entry.stamp), exit=replace(taken.exit, stamp=run.exit.stamp)
            )
        if not self.design.reboot_doubts and not run.exit.attempts and not spool.marks:
            taken = replace(taken, exit=run.exit)
        believes_unsent = not self.design.granted_may_be_sent or (not self.design.redis_proves_nothing and not claimed)
        before, after = run.exit.current, taken.exit.current
        if believes_unsent and before is not None and after is not None and before.phase is AttemptPhase.LICENSED:
            taken = replace(taken, exit=taken.exit.with_current(phase=AttemptPhase.LICENSED))
        return taken

    # ------------------------------------------------------------------ the engine at work

    def _works(self, s: S, w: int, name: str) -> Iterator[Step]:
        me = s.workers[w]
        run = self.runs[me.run]
        if me.run != s.sql or not me.recovered:
            yield self._saved(s, w), f"{name}: saves the run as {run.state}", False
        yield from self._news(s, w, name)
        yield from self._chases(s, w, name)
        yield from self._prices(s, w, name)
        if s.wish == 1:
            yield from self._wish(s, w, name)
        tick = Tick(SYMBOL, USUAL, NOW[s.time])
        signal = self._once(("due", me.run, s.time), lambda: (due(run, NOW[s.time], tick, Source.TIMER),))[0]
        has_news = any(
            order.phase != WIRE and not order.hidden and self._is_news(me.run, order, s.time) for order in s.book
        )
        if signal is not None and not (signal.event is Event.SESSION_CLOSED and has_news):  # `Keepers._keep_orders`
            yield from self._handle(s, w, name, signal, f"{name}: {signal.event} is due")

    def _saved(self, s: S, w: int) -> S:
        """`Records.save`, fenced: whoever has the lease has the newest fence."""
        run, stored = self.runs[s.workers[w].run], self.runs[s.sql]
        check_entry_move(run, stored.entry.phase)
        me = s.workers[w]
        s = s._replace(sql=me.run)
        if s.wish == 1 and self._obeyed(run):  # `Keepers._obey`: taken off the list when what it changed is saved
            s = s._replace(wish=2)
        if me.recovered:
            return s
        done = self._with(s, w, me._replace(recovered=True))
        return self._with_spool(done, self._machine(w), Spool())  # `spool.drained`: SQL knows all of it

    def _news(self, s: S, w: int, name: str) -> Iterator[Step]:
        """What the broker's book shows of our orders: pushed, polled or looked up."""
        me = s.workers[w]
        for order in s.book:
            if order.phase == WIRE or order.hidden:
                continue
            key = ("hear", me.run, order, s.time)
            run, signal = self._once(key, lambda order=order: self._heard(me.run, order, s.time))
            if run == me.run:
                continue
            heard = self._with_run(s, w, run)
            text = f"{name}: hears of {'BUY' if order.slot == 'E' else 'SELL'} {order.number}: {order.filled} filled"
            if signal is None:
                yield heard, text, False
            else:
                yield from self._handle(heard, w, name, signal, text)

    def _is_news(self, number: int, order: Order, time: int) -> bool:
        key = ("hear", number, order, time)
        run, _ = self._once(key, lambda: self._heard(number, order, time))
        return bool(run != number)

    def _heard(self, number: int, order: Order, time: int) -> tuple[int, Signal | None]:
        run, signal = hear(self.runs[number], self._report(order), NOW[time])
        if not self.design.id_per_attempt and run == self.runs[number]:
            slot = self.runs[number].exit if order.slot == "X" else self.runs[number].entry
            if slot.current is not None:  # all attempts look alike at the broker
                run, signal = hear(self.runs[number], self._report(order, number=slot.current.number), NOW[time])
        return self.number(run), signal

    def _prices(self, s: S, w: int, name: str) -> Iterator[Step]:
        """The price at the stop-loss, once: `Listener`, and `Engine._latch` or `on_low` before anything else."""
        me = s.workers[w]
        run, machine = self.runs[me.run], self._machine(w)
        spool = s.spools[machine]
        if s.seen:
            return
        if run.state is State.RUNNING and run.lowest_price is None and any(order.slot == "E" for order in s.book):
            low = self._with_run(s, w, replace(run, lowest_price=LOW))._replace(seen=True)
            if self.design.latches:
                low = self._with_spool(low, machine, spool._replace(low=True))
            yield low, f"{name}: a price at the stop-loss while the entry is open", False
        signal = due(run, NOW[s.time], Tick(SYMBOL, LOW, NOW[s.time]), Source.TICK)
        if signal is None or signal.event is not Event.STOPLOSS or run.state is State.RUNNING:
            return
        latched = replace(run, stop_seen=run.stop_seen or StopSeen(price=LOW, at=PAST))
        shown = self._with_run(s, w, latched)._replace(seen=True)
        if self.design.latches:
            shown = self._with_spool(shown, machine, spool._replace(tripped=True))
        yield from self._handle(shown, w, name, signal, f"{name}: a price at the stop-loss")

    def _wish(self, s: S, w: int, name: str) -> Iterator[Step]:
        """The wish is handed to its run."""
        me = s.workers[w]
        if not self._obeyed(self.runs[me.run]):
            signal = Signal(event=Event.STOP, at=NOW[s.time], source=Source.WISH)
            yield from self._handle(s, w, name, signal, f"{name}: obeys STOP")
        elif me.run == s.sql:
            yield s._replace(wish=2), f"{name}: takes STOP off the list", False

    @staticmethod
    def _obeyed(run: Run) -> bool:
        return run.wish is not None or run.state in FINAL or run.state is State.STOP_PENDING

    # ------------------------------------------------------------------ one signal (`Engine._handle`, `_carry_out`)

    def _handle(self, s: S, w: int, name: str, signal: Signal, text: str) -> Iterator[Step]:
        me = s.workers[w]
        key = ("advance", me.run, signal.event, signal.cause, signal.price, signal.order, s.time)
        decision = self._once(key, lambda: advance(self.runs[me.run], signal))
        if decision.impossible:
            raise AssertionError(
                f"an impossible transition: {signal.event} in {self.runs[me.run].state}: {decision.reason}"
            )
        if not decision.moved:
            yield s, f"{text}: nothing, {decision.reason}", False
            return
        text = f"{text} -> {decision.run.state}"
        effects = decision.effects
        if Effect.SEND_ENTRY in effects:
            if signal.event is Event.BUY:
                if me.recovered:
                    yield self._with(s, w, me._replace(pc=LICENCE)), f"{name}: BUY is due and allowed", False
            elif len(decision.run.entry.attempts) <= self._tries:
                yield from self._send(self._with_run(s, w, decision.run), w, E, text)
            return
        if Effect.VOID_ENTRY in effects:
            yield from self._void(s, w, decision.run, text)
            return
        s = self._with_run(s, w, decision.run)
        if Effect.SEND_EXIT in effects or Effect.UPGRADE_EXIT in effects:
            if Effect.UPGRADE_EXIT in effects and decision.run.retry_at is not None:
                yield s, text, False
            else:
                claimed = s._replace(claimed=not self.design.redis_proves_nothing)
                yield from self._send(claimed, w, X, text)
        elif Effect.CANCEL_ENTRY in effects:
            yield from self._cancel_entry(s, w, name, text)
        else:
            yield s, text, False

    def _cancel_entry(self, s: S, w: int, name: str, text: str) -> Iterator[Step]:
        """`Engine._cancel_entry`: what never left is over at once; the rest is the chaser's."""
        run = self.runs[s.workers[w].run]
        current = run.entry.current
        if current is None or current.phase is not AttemptPhase.LICENSED:
            yield s, text, False
            return
        done = replace(run, entry=run.entry.with_current(phase=AttemptPhase.DONE))
        event = Event.FILLED if done.entry.filled_qty > 0 else nothing_bought(done)
        yield from self._handle(self._with_run(s, w, done), w, name, self._signal(event, s), text)

    def _void(self, s: S, w: int, run: Run, text: str) -> Iterator[Step]:
        """`Records.void_entry`: one transaction, for who has the fence."""
        check_licence(run, SlotPhase.VOID)
        if self.runs[s.sql].entry.phase is SlotPhase.NONE:
            number = self.number(run)
            yield self._with_run(s._replace(sql=number), w, number), text, False

    def _licence(self, s: S, w: int, name: str) -> Iterator[Step]:
        """`Records.license_entry`: the condition, and the run as it will be, in one transaction."""
        me = s.workers[w]
        run, stored = self.runs[me.run], self.runs[s.sql]
        if run.state is not State.READY or (s.time != BUY_TIME and s.owner == w + 1):
            yield self._with_run(s, w, run), f"{name}: the BUY is not wanted any more", False
            return
        signal = Signal(event=Event.BUY, at=NOW[BUY_TIME], source=Source.TIMER, price=USUAL)
        bought = advance(run, signal).run
        bought = replace(bought, entry=replace(bought.entry, stamp=self._stamp(s, w)))
        check_licence(bought, SlotPhase.INTENT)
        if stored.entry.phase is not SlotPhase.NONE and self.design.licence_once:
            yield self._with_run(s, w, s.sql), f"{name}: the entry is decided already", False
            return
        number = self.number(bought)
        sql = number if s.owner == w + 1 else s.sql
        licensed = self._with_run(s._replace(sql=sql), w, number)
        yield from self._send(licensed, w, E, f"{name}: gets the licence to buy")

    def _send(self, s: S, w: int, slot: SlotName, text: str) -> Iterator[Step]:
        """`Engine._send_entry` and `_send_exit` up to the gate."""
        run, stored = self.runs[s.workers[w].run], self.runs[s.sql]
        attempt = run.slot(slot).current
        if attempt is None or attempt.phase is not AttemptPhase.LICENSED or attempt.number > self._tries:
            yield s, text, False
            return
        if slot is E and s.workers[w].run != s.sql and s.owner == w + 1:
            s = s._replace(sql=s.workers[w].run)  # a further BUY waits until SQL has it
        if slot is X and self.design.machines == 1 and self.design.exit_licence_first and s.owner == w + 1:
            s = s._replace(sql=s.workers[w].run)  # `Engine._licence_soon_in_sql`
        if slot is X and self.design.machines == 2:
            current = stored.exit.current
            has_it = current is not None and current.number >= attempt.number and stored.exit.stamp == self._stamp(s, w)
            if not has_it and self.design.stamps:
                stamped = replace(run, exit=replace(run.exit, stamp=self._stamp(s, w)), retry_at=PAST)
                yield self._with_run(s, w, stamped), f"{text}; waits until SQL has its licence", False
                return
        pc = GATE_E if slot is E else GATE_X
        yield self._with_run(s, w, sending(run, slot), pc), text, False

    # ------------------------------------------------------------------ the gateway (`Gateway.send`)

    def _gate(self, s: S, w: int, name: str) -> Iterator[Step]:
        me = s.workers[w]
        run, slot = self.runs[me.run], E if me.pc == GATE_E else X
        what = "BUY" if slot is E else "SELL"
        attempt = run.slot(slot).current
        assert attempt is not None
        if slot is E and (why := self._objection(s, run)) is not None:
            yield from self._judged(
                s, w, name, slot, GateSaidNo("no", s.time != BUY_TIME), f"{name}: the gate says no: {why}"
            )
            return
        machine = self._machine(w)
        spool = s.spools[machine]
        if self.design.send_mark:
            mark = ("E" if slot is E else "X", attempt.number, int(attempt.qty))
            spool = spool._replace(marks=tuple(sorted({*spool.marks, mark})))
        marked = self._with_spool(self._with(s, w, me._replace(pc=MARKED_E if slot is E else MARKED_X)), machine, spool)
        yield marked, f"{name}: marks {what} {attempt.number}", False
        if s.faults < self.design.faults and self.design.venue_fails:
            refused = self._judged(
                s, w, name, slot, NotSent("refused"), f"FAULT {name}: no connection, {what} never left"
            )
            for after, text, _ in refused:
                yield self._fault(after), text, True

    def _objection(self, s: S, run: Run) -> str | None:
        """`Engine._objection`, and the deadline of `Gateway.send`."""
        if s.time != BUY_TIME:
            return "the grace is over"
        if run.wish is not None:
            return "stopping was asked for"
        if stop_hit(run, None) is not None:
            return "the stop-loss was seen"
        return None

    def _judged(self, s: S, w: int, name: str, slot: SlotName, sent: Any, text: str) -> Iterator[Step]:
        key = ("judge", s.workers[w].run, slot, sent, s.time)
        run, signal = self._once(key, lambda: self._judge(s.workers[w].run, slot, sent, s.time))
        s = self._with_run(s, w, run)
        if signal is None:
            yield s, text, False
        else:
            yield from self._handle(s, w, name, signal, text)

    def _judge(self, number: int, slot: SlotName, sent: Any, time: int) -> tuple[int, Signal | None]:
        run, signal = judge(self.runs[number], slot, sent, NOW[time])
        return self.number(run), signal

    def _bytes(self, s: S, w: int, name: str) -> Iterator[Step]:
        me = s.workers[w]
        run, slot = self.runs[me.run], E if me.pc == MARKED_E else X
        attempt = run.slot(slot).current
        assert attempt is not None
        if slot is E and s.time != BUY_TIME and s.owner == w + 1:
            yield from self._judged(
                s, w, name, slot, GateSaidNo("late", True), f"{name}: the mark took too long: no BUY"
            )
            return
        letter, what = ("E", "BUY") if slot is E else ("X", "SELL")
        if sum(order.slot == letter for order in s.book) >= 2 * ATTEMPTS:
            return
        order = Order(letter, attempt.number, int(attempt.qty), WIRE)
        sent = s._replace(book=tuple(sorted((*s.book, order))))
        text = f"{name}: WRITES {what} {attempt.number}, {order.qty} lots"
        if self.design.resolves:
            yield from self._judged(sent, w, name, slot, Unknown("no answer"), text)
        else:
            for after, told, fault in self._judged(sent, w, name, slot, NotSent("no answer"), text):
                yield after, f"{told}; no answer, taken for not placed", fault

    # ------------------------------------------------------------------ orders that may be live (`Chaser`)

    def _chases(self, s: S, w: int, name: str) -> Iterator[Step]:
        me = s.workers[w]
        run = self.runs[me.run]
        wanted = run.state is State.RUNNING and not run.entry_cancel_asked
        for slot in (E, X):
            for attempt in run.slot(slot).attempts:
                letter = "E" if slot is E else "X"
                mine = [(i, o) for i, o in enumerate(s.book) if o.slot == letter and o.number == attempt.number]
                if attempt.phase is AttemptPhase.UNKNOWN:
                    if slot is X or run.state is State.RUNNING:
                        yield from self._not_found(s, w, name, slot, attempt, [o for _, o in mine])
                elif attempt.phase is AttemptPhase.OPEN:
                    gone = (slot is E and not wanted) or (slot is X and attempt.cancel_asked)
                    for place, order in mine if gone else ():
                        if order.phase == RESTS and not order.hidden:
                            book = tuple(sorted((*s.book[:place], order._replace(phase=OVER), *s.book[place + 1 :])))
                            what = f"{name}: cancels the rest of {letter}{attempt.number}, confirmed"
                            yield s._replace(book=book), what, False
                    rests = slot is X and any(order.filled for _, order in mine)
                    if rests and not attempt.cancel_asked and attempt.number < ATTEMPTS and s.time < CLOSE:
                        asked = replace(run, exit=run.exit.with_current(cancel_asked=True))
                        yield self._with_run(s, w, asked), f"{name}: the SELL rests, it is to be replaced", False

    def _not_found(self, s: S, w: int, name: str, slot: SlotName, attempt: Any, sends: list[Order]) -> Iterator[Step]:
        """`Chaser._resolve`: the quarantine is over and the book does not show it."""
        if any(order.phase != WIRE and not order.hidden for order in sends):
            return  # it is seen: that is news
        if any(order.phase == WIRE and not order.hidden for order in sends):
            return  # the quarantine is not over
        run = self.runs[s.workers[w].run]
        what = f"{name}: {'BUY' if slot is E else 'SELL'} {attempt.number} not found over the quarantine"
        signal = replace(self._signal(Event.NOT_FOUND, s), order=attempt.client_order_id)
        if slot is E:
            yield from self._handle(s, w, name, signal, what)
        elif run.state is State.RUNNING:
            return
        elif held(s) >= run.remaining_qty:
            yield from self._handle(s, w, name, signal, f"{what}, the position covers it")
        elif run.exit.phase is not SlotPhase.WATCH:
            watched = self._with_run(s, w, replace(run, exit=replace(run.exit, phase=SlotPhase.WATCH)))
            abort = replace(self._signal(Event.SAFETY_ABORT, s), cause=Cause.OUTCOME_UNKNOWN)
            yield from self._handle(watched, w, name, abort, f"{what}, the position does not cover it: alarm")

    def _signal(self, event: Event, s: S) -> Signal:
        return Signal(event=event, at=NOW[s.time], source=Source.BROKER)

    # ------------------------------------------------------------------ promises

    def is_over(self, s: S) -> bool:
        """Closed in SQL and at the broker, and nobody in the middle of something."""
        run = self.runs[s.sql]
        idle = all(worker.pc in (DOWN, STANDBY, WORKS) for worker in s.workers)
        quiet = all(order.phase in (OVER, NO) for order in s.book)
        return run.is_closed and quiet and idle and held(s) == 0 and s.wish != 1

    def broken(self, s: S) -> str | None:
        """The promise that this state breaks, and how; None: none."""
        entries = [order for order in s.book if order.slot == "E" and order.filled]
        bought = sum(order.filled for order in entries)
        if len(entries) > 1 or bought > self.design.lots:
            return f"S1: double BUY, {bought} lots of {self.design.lots} wanted"
        if held(s) < 0:
            return f"S2: double SELL, {bought - held(s)} lots sold of {bought}"
        known = [("SQL", s.sql)]
        known += [("AB"[w], me.run) for w, me in enumerate(s.workers) if me.run >= 0 and s.owner == w + 1]
        for who, number in known:
            run = self.runs[number]
            if run.exposure is Exposure.FLAT and held(s) > 0 and run.state in FINAL:
                word = "S5" if run.outcome in (State.SOLD, State.EXITED_BY_SL, State.STOPPED) else "S8"
                return f"{word}: {who} says {run.state} and flat, the broker holds {held(s)} lots"
            if s.seen and run.outcome in (State.SOLD, State.STOPPED) and run.entry.filled_qty > 0:
                return f"S3: the stop-loss was seen, and {who} says {run.outcome}"
        if s.wish == 2:
            run = self.runs[s.sql]
            memory = any(me.run >= 0 and self.runs[me.run].wish is not None for me in s.workers)
            if run.state not in FINAL and run.wish is None and not memory:
                return "S4: an accepted STOP is forgotten"
        return None


def _plain(slot: Slot) -> Slot:
    return replace(slot, attempts=tuple(replace(a, reason="", limit_price=None) for a in slot.attempts))


def order_id(slot: str, number: int) -> ClientOrderId:
    return client_order_id(KEY, E if slot == "E" else X, number)


def held(s: S) -> int:
    """What the broker truly holds for us."""
    return sum(order.filled if order.slot == "E" else -order.filled for order in s.book)
