"""After a start: SQL + spool + broker + Redis -> a known state, before anything new is bought.

The caller holds the account's file lock. The order matters:

1. raise the fence: whatever an earlier worker still has in hand is refused from here on;
2. read the runs, and take the spool's marks and latches into them;
3. arm what is proven: a position whose exit is unsent is protected first, whatever else is missing;
4. ask the broker for every order that may be live, and take its word;
5. make Redis say the same;
6. only then allow entries.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence, Sized
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from squareoff.core.board import Board
from squareoff.core.machine import EXIT_OPEN, FINAL, State
from squareoff.core.orders import OPEN_LICENCE, Attempt, AttemptPhase, Slot, SlotPhase, Stamp, client_order_id
from squareoff.core.run import Run, StopSeen
from squareoff.core.types import ZERO, AccountId, ClientOrderId, OrderReport, Product, RunId, SlotName, Symbol
from squareoff.core.values import replace
from squareoff.errors import BrokerUnavailable, RecordsUnavailable, StoreUnavailable
from squareoff.ports import (
    Broker,
    Clock,
    Journal,
    JournalKind,
    Records,
    RuntimeStore,
    Spool,
    SpoolContents,
    SpoolMark,
    Storyteller,
)


class Recovering(Storyteller, Protocol):
    """What recovery needs of the engine."""

    board: Board
    stamp: Stamp
    entries_blocked: str | None
    redis_damaged: asyncio.Event

    @property
    def all_saved(self) -> bool: ...
    def add(self, run: Run, *, saved: bool) -> None: ...
    def wake(self, run_id: RunId) -> None: ...
    def warn(self, what: str, headline: str, text: str, run: Run | None = None) -> None: ...
    def on_report(self, report: OrderReport) -> None: ...
    def on_positions(
        self, positions: Mapping[tuple[Symbol, Product], Decimal], *, asked_at_s: float | None = None
    ) -> None: ...
    async def settled(self, run_id: RunId) -> None: ...
    async def save_all(self) -> None: ...
    async def show_what_moved(self, rebuilt: Sequence[Run]) -> None: ...


RESTAMP_WAIT_S = 1.0
"""A proven position is guarded within two seconds, whatever SQL does."""
POSITIONS_WAIT_S = 0.5
"""A proven position is guarded within two seconds, whatever the broker does."""
ASK_AGAIN_S = 1.0
"""Pause after the broker did not answer during recovery."""


def taken_over(run: Run, contents: SpoolContents, stamp: Stamp, now: datetime) -> Run:
    """`run` as this worker must see it: what the spool knows is taken in, and every attempt that is not *proven*
    unsent counts as perhaps live, also one whose order was seen open: nobody listened since. The licences are
    re-stamped, so that a later "no mark" is about our own sends.
    """
    run = _with_latches(run, contents)
    marked = {mark.client_order_id for mark in contents.marks}
    entry = _slot_taken_over(run.entry, marked, contents, stamp)
    exit_slot = _slot_taken_over(_with_marked_exits(run, contents), marked, contents, stamp)
    if _may_have_forgotten_an_exit(run, exit_slot, stamp):
        lost = client_order_id(run.key, SlotName.EXIT, 1)
        first = Attempt(number=1, client_order_id=lost, qty=run.plan.quantity, phase=AttemptPhase.UNKNOWN)
        exit_slot = replace(exit_slot, phase=SlotPhase.INTENT, attempts=(first,), stamp=stamp)
    changed = replace(run, entry=entry, exit=exit_slot)
    if _may_go_on_at_once(changed):
        changed = replace(changed, retry_at=now)
    if changed == run:
        return run
    return replace(changed, version=run.version + 1)


def _may_have_forgotten_an_exit(run: Run, exit_slot: Slot, stamp: Stamp) -> bool:
    """With SQL down an exit leaves by its send mark alone, and a machine that loses its power may lose that. So after a
    reboot the first exit of an entry that SQL knows as open counts as perhaps sent: it is looked up before it is."""
    was_here = run.entry.stamp is not None and run.entry.stamp.machine == stamp.machine
    rebooted = was_here and run.entry.stamp is not None and run.entry.stamp.boot != stamp.boot
    return rebooted and run.state is State.RUNNING and bool(run.entry.attempts) and not exit_slot.attempts


def _with_marked_exits(run: Run, contents: SpoolContents) -> Slot:
    """The exit with the attempts that only the spool knows: while SQL was down, the send mark was the licence.
    An attempt is made only when the one before it is over, so all but the last are."""
    known = len(run.exit.attempts)
    sent = {mark.client_order_id: mark for mark in contents.marks}
    numbers = [n for mark in sent.values() if (n := _exit_number(run, mark)) is not None]
    last = max(numbers, default=0)
    if last <= known:
        return run.exit
    attempts = [replace(attempt, phase=AttemptPhase.DONE) for attempt in run.exit.attempts]
    for number in range(known + 1, last + 1):
        order = client_order_id(run.key, SlotName.EXIT, number)
        phase = AttemptPhase.UNKNOWN if number == last else AttemptPhase.DONE
        qty = sent[order].qty if order in sent else ZERO
        attempts.append(Attempt(number=number, client_order_id=order, qty=qty, phase=phase))
    return replace(run.exit, phase=SlotPhase.INTENT, attempts=tuple(attempts))


def _exit_number(run: Run, mark: SpoolMark) -> int | None:
    is_ours = mark.client_order_id == client_order_id(run.key, SlotName.EXIT, mark.attempt)
    return mark.attempt if is_ours else None


def _with_latches(run: Run, contents: SpoolContents) -> Run:
    seen, lowest = run.stop_seen, run.lowest_price
    for latch in contents.latches:
        if latch.run_id != run.plan.run_id:
            continue
        if latch.tripped:
            seen = seen or StopSeen(price=latch.price, at=latch.at)
        elif run.state is State.RUNNING and (lowest is None or latch.price < lowest):  # settled: it was compared
            lowest = latch.price
    if seen == run.stop_seen and lowest == run.lowest_price:
        return run
    return replace(run, stop_seen=seen, lowest_price=lowest, version=run.version + 1)


def _slot_taken_over(slot: Slot, marked: set[ClientOrderId], contents: SpoolContents, stamp: Stamp) -> Slot:
    if not slot.attempts or slot.phase not in OPEN_LICENCE:
        return slot
    attempts = tuple(_attempt_taken_over(a, slot.stamp, marked, contents, stamp) for a in slot.attempts)
    return replace(slot, attempts=attempts, stamp=stamp)


def _attempt_taken_over(
    attempt: Attempt, licensed_by: Stamp | None, marked: set[ClientOrderId], contents: SpoolContents, stamp: Stamp
) -> Attempt:
    if attempt.phase is AttemptPhase.OPEN:
        return replace(attempt, phase=AttemptPhase.UNKNOWN)
    if attempt.phase is not AttemptPhase.LICENSED:
        return attempt
    same_spool = (
        licensed_by is not None
        and (licensed_by.machine, licensed_by.boot) == (stamp.machine, stamp.boot)
        and contents.same_boot
    )
    if same_spool and attempt.client_order_id not in marked:
        return attempt
    return replace(attempt, phase=AttemptPhase.UNKNOWN)


def _may_go_on_at_once(run: Run) -> bool:
    """An order was due and is proven unsent: it is due now. A BUY past its grace is stopped at the gate."""
    if run.state is State.RUNNING:
        slot = run.entry
    elif run.state in EXIT_OPEN or (run.state in FINAL and run.remaining_qty > 0):
        slot = run.exit
    else:
        return False
    current = slot.current
    waiting = current is not None and current.phase in (AttemptPhase.LICENSED, AttemptPhase.DONE)
    return waiting and not slot.is_live and run.retry_at is None


async def recover(
    *,
    account: AccountId,
    engine: Recovering,
    records: Records,
    journal: Journal,
    runtime: RuntimeStore,
    broker: Broker,
    spool: Spool,
    clock: Clock,
    licences_first: bool = False,
) -> None:
    """Bring the engine to a known state. Returns when entries are allowed again.

    `licences_first`: a successor may be on another machine, which does not see our send marks: that the licences are
    ours is in SQL before anything is sent under them."""
    engine.entries_blocked = "recovery is not finished"
    began_s = clock.monotonic_s()
    contents = spool.read()
    runs = list(await records.open_runs(account))
    engine.say(
        JournalKind.RECOVERY,
        f"start: {_counted(runs, 'run')} in SQL, {_counted(contents.marks, 'send mark')} and "
        f"{_counted(contents.latches, 'latched price')} in the spool"
        + ("" if contents.same_boot or not runs else "; the spool is not of this boot, so its silence proves nothing"),
        fence=engine.stamp.fence,
    )
    taken = [taken_over(run, contents, engine.stamp, clock.now()) for run in runs]
    taken = await _restamped(account, engine, records, runs, taken, wait_s=None if licences_first else RESTAMP_WAIT_S)
    as_saved: Counter[State] = Counter()
    for before, run in zip(runs, taken, strict=True):
        engine.add(run, saved=run.version == before.version)
        if run.version == before.version and run.stop_seen is None and not (run.entry.is_live or run.exit.is_live):
            as_saved[run.state] += 1
        else:
            engine.say(JournalKind.RECOVERY, _found(run), run, state=run.state, exposure=run.exposure)
    if not licences_first:
        await _read_positions(engine, broker, clock, taken)
        for run in taken:
            if run.state in (State.BOUGHT, *EXIT_OPEN):
                engine.wake(run.plan.run_id)  # protected now; the rest of recovery goes on beside it
    _tell_who_must_wait(engine, taken, broker.facts.quarantine_s)
    if as_saved:  # ten thousand lines that say nothing new would keep everybody waiting
        found = ", ".join(f"{count} {state}" for state, count in sorted(as_saved.items()))
        engine.say(JournalKind.RECOVERY, f"found as they were saved, no order of them open: {found}")
    while licences_first and not await _all_saved(engine, journal):
        await clock.sleep(ASK_AGAIN_S)
    if licences_first:
        await _read_positions(engine, broker, clock, taken)
    await _ask_broker(engine, broker, clock, taken)
    await _restore_redis(account, engine, runtime)
    for run in taken:
        if run.state not in (State.BOUGHT, *EXIT_OPEN) or licences_first:  # those were woken before
            engine.wake(run.plan.run_id)
    for run in taken:
        await engine.settled(run.plan.run_id)
    while not await _all_saved(engine, journal):
        await clock.sleep(ASK_AGAIN_S)
    spool.drained()  # no await since it was found that SQL knows everything: a mark made meanwhile would be lost
    engine.entries_blocked = None
    took_s = clock.monotonic_s() - began_s
    engine.say(JournalKind.RECOVERY, f"done in {took_s:.2f} s: entries are allowed", seconds=round(took_s, 3))
    for run_id, run in list(engine.board.runs.items()):
        if run.state not in (State.BOUGHT, *EXIT_OPEN):  # no entry was allowed until now
            engine.wake(run_id)


async def _restamped(
    account: AccountId,
    engine: Recovering,
    records: Records,
    before: Sequence[Run],
    taken: Sequence[Run],
    *,
    wait_s: float | None,
) -> list[Run]:
    """Save at once for all runs of which nothing but the name on their licences is new: one transaction, and no version
    more. `wait_s`: for how long; None: until it is done. A run that is not saved so is saved by itself."""
    plain = {
        run.plan.run_id: replace(run, version=old.version)
        for old, run in zip(before, taken, strict=True)
        if run is not old and _is_only_restamped(old, run)
    }
    try:
        async with asyncio.timeout(wait_s):
            await records.restamp(list(plain), account, engine.stamp)
    except (RecordsUnavailable, TimeoutError) as error:
        text = f"SQL did not take the licences over in one go, each is saved by itself: {error or 'no answer'}"
        engine.say(JournalKind.RECOVERY, text)
        return list(taken)
    return [plain.get(run.plan.run_id, run) for run in taken]


def _is_only_restamped(before: Run, after: Run) -> bool:
    """Not one with a new doubt: that it may have been sent must be saved together with whose licence it is now. After
    a reboot the spool's silence proves nothing, but of a licence of this boot it would."""
    unstamped = replace(
        after,
        entry=replace(after.entry, stamp=before.entry.stamp),
        exit=replace(after.exit, stamp=before.exit.stamp),
        version=before.version,
    )
    return unstamped == before


async def _all_saved(engine: Recovering, journal: Journal) -> bool:
    """Whether SQL knows all that the spool knows, at this very moment."""
    try:
        await engine.save_all()
        await journal.flush()
    except RecordsUnavailable as error:
        engine.say(JournalKind.RECOVERY, f"SQL does not answer, the spool is kept: {error}")
        return False
    return engine.all_saved


def _found(run: Run) -> str:
    open_orders = [
        f"{a.client_order_id} {a.phase}"
        for name in SlotName
        for a in run.slot(name).attempts
        if a.phase is not AttemptPhase.DONE
    ]
    text = f"found {run.state}, exposure {run.exposure}"
    if open_orders:
        text += f"; orders not over: {', '.join(open_orders)}"
    if run.stop_seen is not None:
        text += f"; stop-loss latched at {run.stop_seen.price:f}"
    return text


def _tell_who_must_wait(engine: Recovering, runs: Sequence[Run], quarantine_s: float) -> None:
    """Nothing is due yet, but a stop-loss that is hit now would have to wait: a person should not learn it then."""
    waiting = [run for run in runs if run.state is State.BOUGHT and _may_have_sold(run)]
    if not waiting:
        return
    symbols = sorted({run.plan.symbol for run in waiting})
    names = ", ".join(symbols[:5]) + (f" and {len(symbols) - 5} more" if len(symbols) > 5 else "")
    text = (
        f"of {_counted(waiting, 'position')} a SELL may have left already, from another machine or before a restart. "
        f"It is looked up for {quarantine_s:g} s first; until then nothing is sold here, only by you at your broker"
    )
    run = waiting[0] if len(waiting) == 1 else None
    engine.warn("must wait", f"{names}: a stop-loss cannot be sold yet", text, run)


def _may_have_sold(run: Run) -> bool:
    return run.exit.current is not None and run.exit.current.phase is AttemptPhase.UNKNOWN


async def _read_positions(engine: Recovering, broker: Broker, clock: Clock, runs: Sequence[Run]) -> None:
    """What an earlier worker knew of sales by hand died with it: what is due at the start waits until the broker's
    position was asked for, unless it takes too long to answer. A stop-loss that a tick trips meanwhile does not."""
    if not any(run.remaining_qty > 0 for run in runs):
        return
    asked_s = clock.monotonic_s()
    try:
        async with asyncio.timeout(POSITIONS_WAIT_S):
            positions = await broker.positions()
    except (BrokerUnavailable, TimeoutError) as error:
        text = f"the broker did not tell its positions, exits go on without them: {error or 'no answer'}"
        engine.say(JournalKind.RECOVERY, text)
        return
    engine.on_positions({(p.symbol, p.product): p.net_qty for p in positions}, asked_at_s=asked_s)


async def _ask_broker(engine: Recovering, broker: Broker, clock: Clock, runs: list[Run]) -> None:
    """The broker's word on every order that may be live. A question unanswered is asked again, never read as "no"."""
    wanted = {
        a.client_order_id
        for run in runs
        for name in SlotName
        for a in run.slot(name).attempts
        if a.phase in (AttemptPhase.UNKNOWN, AttemptPhase.OPEN)
    }
    while True:
        try:
            reports = await broker.orders()
            break
        except BrokerUnavailable as error:
            engine.say(JournalKind.RECOVERY, f"the broker does not answer yet: {error}")
            await clock.sleep(ASK_AGAIN_S)
    found = 0
    for report in reports:
        if report.client_order_id in wanted:
            found += 1
        engine.on_report(report)
    engine.say(
        JournalKind.RECOVERY,
        f"broker: {_counted(reports, 'order')} in its book; {found} of {len(wanted)} that may be live found",
    )


async def _restore_redis(account: AccountId, engine: Recovering, runtime: RuntimeStore) -> None:
    runs = list(engine.board.runs.values())
    try:
        await runtime.rebuild(account, runs)
        await engine.show_what_moved(runs)
    except StoreUnavailable as error:
        engine.redis_damaged.set()
        engine.say(JournalKind.REDIS, f"Redis is not there, exits go on without it: {error}")
        return
    engine.redis_damaged.clear()
    engine.say(JournalKind.REDIS, f"rebuilt from SQL: {_counted(engine.board.runs, 'run')}")


def _counted(what: Sized, word: str) -> str:
    return f"{len(what)} {word}" + ("" if len(what) == 1 else "s")
