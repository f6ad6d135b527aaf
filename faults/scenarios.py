"""What must be survived, as data. A new scenario is a few lines: `docs/faults.md` shows how.

Numbers are those of the list that the project was given; a letter after one is a variant, `x` scenarios are our own.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from faults.oracle import Expected
from faults.proxy import Does, Rule
from faults.stage import BUY_AFTER_S, FALL, OPENS, OTHER, PRICE, QTY, QUARANTINE_S, Setting, Stage, StageError
from squareoff import wiring
from squareoff.core.events import Event
from squareoff.core.types import Side
from squareoff.faults import all_points

Step = Callable[[Stage], None]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    id: str
    title: str
    steps: Sequence[Step]
    expected: Expected
    setting: Setting = field(default_factory=Setting)
    names: tuple[str, ...] = ("s",)
    within_s: float = 20.0
    """From the last step until the run is over."""
    quick: bool = False
    """Runs in `make test`."""
    must_reach: bool = True
    """Whether a day that never comes to its fault's point counts as failed."""


# ---------------------------------------------------------------------- steps


def then(*steps: Step) -> Step:
    def all_of(stage: Stage) -> None:
        for step in steps:
            step(stage)

    return all_of


def jitter(least_s: float, most_s: float) -> Step:
    return lambda stage: time.sleep(stage.dice.uniform(least_s, most_s))


def bought(within_s: float = 15.0, qty: Decimal = QTY) -> Step:
    return lambda stage: stage.wait("bought", lambda: stage.held() >= qty, within_s)


def sent(side: Side, count: int = 1, within_s: float = 15.0) -> Step:
    return lambda stage: stage.wait(f"{side} at the broker", lambda: stage.orders(side) >= count, within_s)


def flat(within_s: float = 15.0) -> Step:
    return lambda stage: stage.wait(
        "flat", lambda: stage.orders(Side.BUY) > 0 and stage.held(ours=False) <= 0, within_s
    )


def price(value: Decimal | str) -> Step:
    def change(stage: Stage) -> None:
        stage.price = Decimal(value)
        stage.tick(stage.price)

    return change


fall = price(FALL)
rise = price(PRICE)


def died(count: int = 1, within_s: float = 15.0) -> Step:
    return lambda stage: stage.wait(
        "the worker's death", lambda: sum(not worker.is_alive for worker in stage.workers) >= count, within_s
    )


def back(within_s: float = 30.0) -> Step:
    """A worker that was started after a death is ready."""
    return lambda stage: stage.wait("a worker ready again", lambda: len(stage.takeovers_s) > 0, within_s)


def kill(stage: Stage) -> None:
    stage.send(stage.owner(), signal.SIGKILL)


def start(name: str = "one") -> Step:
    def begin(stage: Stage) -> None:
        worker = stage.start_worker(name)
        stage.wait("a worker ready again", lambda: worker.ready_s is not None, 30)

    return begin


def resume_after(seconds: float, *meanwhile: Step) -> Step:
    """Wait until the first worker stands still, then some time, then let it go on."""

    def work(stage: Stage) -> None:
        stage.wait("the worker standing still", lambda: stage.workers[0].stands_still, 20)
        then(*meanwhile)(stage)
        time.sleep(seconds)
        stage.send(stage.workers[0], signal.SIGCONT)

    return work


def wake(stage: Stage) -> None:
    """The first worker goes on if it stands still."""
    stage.send(stage.workers[0], signal.SIGCONT)


def freeze(seconds: float, *meanwhile: Step) -> Step:
    """The whole process stands still for some time."""

    def work(stage: Stage) -> None:
        worker = stage.owner()
        stage.send(worker, signal.SIGSTOP)
        then(*meanwhile)(stage)
        time.sleep(seconds)
        stage.send(worker, signal.SIGCONT)

    return work


def outside_alarm(stage: Stage) -> None:
    """Whoever watches from outside is told that nobody trades."""
    assert stage.monitor is not None
    monitor = stage.monitor
    stage.wait("a first sign of life", lambda: monitor.calls > 0, 10)
    stage.wait("the outside monitor's alarm", lambda: monitor.rings, 30)


def outside_calm(stage: Stage) -> None:
    assert stage.monitor is not None
    monitor = stage.monitor
    stage.wait("a sign of life", lambda: not monitor.rings, 15)


def waits_on(stage: Stage) -> None:
    """The second worker has taken nothing over."""
    if stage.workers[1].ready_s is not None:
        raise StageError("the standby took the account over")


def terminate(stage: Stage) -> None:
    stage.send(stage.owner(), signal.SIGTERM)


def restart_broker(down_s: float, *meanwhile: Step) -> Step:
    def work(stage: Stage) -> None:
        stage.kill_broker()
        for step in meanwhile:
            with suppress(OSError):
                step(stage)
        time.sleep(down_s)
        stage.start_broker()

    return work


def redis_sleeps(seconds: float) -> Step:
    return lambda stage: stage.sleep_redis(seconds)


def sql_locked(seconds: float) -> Step:
    return lambda stage: stage.lock_database(seconds)


def database(what: str) -> Step:
    """`stop`, `start`, `kill`, `freeze` or `thaw` the PostgreSQL server."""

    def work(stage: Stage) -> None:
        assert stage.database is not None
        getattr(stage.database, what)()

    return work


def add(name: str, buy_after_s: int) -> Step:
    """One more strategy on the same symbol."""
    return lambda stage: stage.add(name, sell_after_s=stage.setting.sell_after_s, buy_after_s=buy_after_s)


def beside(step: Step) -> Step:
    """Do it in the background while the next steps go on."""
    return lambda stage: stage.background(lambda: step(stage))


def wish(event: Event) -> Step:
    return lambda stage: stage.wish(event)


def seconds(value: float) -> Step:
    return lambda _: time.sleep(value)


def mischief(**what: Any) -> dict[str, Any]:
    return {"symbol": "SIM:ALPHA", **what}


def flush(stage: Stage) -> None:
    stage.flush_redis()


def by_hand(side: Side, qty: Decimal) -> Step:
    return lambda stage: stage.place(side, qty)


def kill_redis(stage: Stage) -> None:
    pid = stage.redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def restart_redis(*, cut_tail: bool = False) -> Step:
    """Killed with -9 and started on the same folder, perhaps with the end of its append-only file lost."""

    def work(stage: Stage) -> None:
        kill_redis(stage)
        stage.wait("Redis' death", lambda: not stage.redis.is_alive(), 5)
        if cut_tail:
            for file in (stage.folder / "redis").rglob("*.incr.aof"):
                os.truncate(file, max(file.stat().st_size // 2, 0))
        stage.redis.start()

    return work


def hold_lock(stage: Stage) -> None:
    """Somebody else holds the strategy's lock in Redis, for longer than anybody should."""
    with wiring.redis_client(stage.redis.url) as client:
        for key in client.keys("runtime:*"):
            client.set(b"lock:" + key.partition(b":")[2], "9999999:stranger", px=30_000)


def in_redis(within_s: float) -> Step:
    """The run's runtime is there (again)."""

    def look(stage: Stage) -> bool:
        with wiring.redis_client(stage.redis.url) as client:
            return bool(client.keys("runtime:*"))

    return lambda stage: stage.wait("the runtime in Redis", lambda: look(stage), within_s)


def at(after_s: float) -> Step:
    """Until so long after the clock's start."""
    return lambda stage: time.sleep(max(0.0, stage.began_s + after_s - time.monotonic()))


def quiet(stage: Stage) -> None:
    """From now on nobody trades: what is placed waits."""
    stage.is_quiet = True


def loud(stage: Stage) -> None:
    stage.is_quiet = False


def clock_set(ahead_s: float) -> Step:
    """The clock of the worker's machine, against everybody else's."""
    return lambda stage: stage.set_clock(ahead_s)


def reboot_with_clock(ahead_s: float) -> Step:
    """The worker dies, and what it knew of the time is gone with the machine's boot."""

    def work(stage: Stage) -> None:
        stage.set_clock(ahead_s)
        (stage.config.data / "accounts" / "paper.clock").unlink(missing_ok=True)
        kill(stage)

    return work


def still_held(qty: Decimal = QTY) -> Step:
    def look(stage: Stage) -> None:
        if stage.held() != qty:
            raise StageError(f"holds {stage.held()}, expected {qty} still")

    return look


def odd_ticks(stage: Stage) -> None:
    """Nothing of this is a price of the symbol now."""
    stage.tick("0")
    stage.tick("-5")
    stage.tick("98", at=OPENS)
    stage.tick("50", symbol=OTHER)
    stage.fell_s = None


def ask(*arguments: str) -> Step:
    """A command as the user gives it."""

    def work(stage: Stage) -> None:
        stage.command(*arguments)

    return work


def bought_or_missed(stage: Stage) -> None:
    with suppress(StageError):
        stage.wait("bought", lambda: stage.held() >= QTY, BUY_AFTER_S + 12)


def flat_again(stage: Stage) -> None:
    with suppress(StageError):
        stage.wait("flat", lambda: stage.held(ours=False) <= 0, 15)


# ---------------------------------------------------------------------- what all have in common

BY_STOP = Expected(ends=("exited_by_sl",))
AT_ONCE = Expected(ends=("exited_by_sl",), out_within_s=1.0)
"""Nothing stands between the price and the order; a second is for two shared cores."""
AFTER_RESTART = Expected(ends=("exited_by_sl",), out_within_s=6.0)
AFTER_LOOKING = Expected(ends=("exited_by_sl",), out_within_s=QUARANTINE_S + 10)
SKIPPED = Expected(ends=("failed(buy_missed)",), bought=(0, 0))
NEVER_HEARD = Expected(ends=("failed(outcome_unknown)",), bought=(0, 0), stays_open=True)
STOPPED = Expected(ends=("stopped",))
AND_FALL = (jitter(0.2, 0.6), fall, flat())
HOLD_AND_FALL = (bought(), *AND_FALL)
"""The plain day of most scenarios: bought, the price falls, out at the stop-loss."""

ENTRY_DEATHS = (
    ("1", "after the lock, before the licence", "runtime.claim.after"),
    ("2", "after the licence's commit, before any byte", "records.license_entry.after"),
    ("2b", "between the send mark and the bytes", "gateway.marked"),
    ("3", "after the bytes, before the answer", "gateway.written"),
    ("4", "after the answer, before it is settled", "broker.submit.after"),
    ("5", "after the settling, before the lock is given back", "runtime.settle.before"),
)
EXIT_DEATHS = (
    ("e1", "after the stop-loss is latched, before anything is sent", "spool.latch.after:1"),
    ("e2", "between the send mark and the bytes", "gateway.marked:2"),
    ("e3", "after the bytes, before the answer", "gateway.written:2"),
    ("e4", "after the answer, before it is settled", "broker.submit.after:2"),
)


def deaths() -> Iterator[Scenario]:
    for number, when, point in ENTRY_DEATHS:
        slow = (mischief(kind="delay_answer", slot="E", seconds=0.3),) if number == "3" else ()
        unsent = number == "2b"
        yield Scenario(
            id=number,
            title=f"engine killed {when} of the BUY",
            setting=Setting(fault=f"{point}:1:kill", mischief=slow),
            steps=(died(), back()) if unsent else (died(), bought(), back(), *AND_FALL),
            expected=NEVER_HEARD if unsent else BY_STOP,
            quick=number == "3",
        )
    for number, when, point in EXIT_DEATHS:
        slow = (mischief(kind="delay_answer", slot="X", seconds=0.3),) if number == "e3" else ()
        yield Scenario(
            id=number,
            title=f"engine killed {when} of the exit",
            setting=Setting(fault=f"{point}:kill", mischief=slow),
            steps=(bought(), jitter(0.2, 0.6), fall, died(), flat(25)),
            expected=AFTER_LOOKING if number == "e2" else AFTER_RESTART,
            quick=number == "e3",
        )
    yield Scenario(
        id="7",
        title="engine killed a second before the BUY and started again",
        steps=(at(BUY_AFTER_S - 1), kill, *HOLD_AND_FALL),
        expected=BY_STOP,
    )
    yield Scenario(
        id="8",
        title="engine down past the BUY and its grace",
        setting=Setting(restarts=False),
        steps=(at(BUY_AFTER_S - 1), kill, at(BUY_AFTER_S + 6), start()),
        expected=SKIPPED,
    )
    yield Scenario(
        id="9",
        title="engine down over SELL time",
        setting=Setting(restarts=False, sell_after_s=6),
        steps=(bought(), kill, at(7.5), start(), flat()),
        expected=Expected(ends=("sold",)),
    )
    yield Scenario(
        id="10",
        title="the stop-loss passes and recovers while the engine is down: not seen, and STOP still sells",
        setting=Setting(restarts=False),
        steps=(bought(), kill, fall, seconds(0.5), rise, start(), seconds(1), still_held(), wish(Event.STOP), flat()),
        expected=Expected(ends=("stopped",), may_miss_stop=True),
    )
    yield Scenario(
        id="13",
        title="engine frozen before the last check for longer than the BUY may be late: it sends nothing",
        setting=Setting(fault="gateway.gate:1:pause"),
        steps=(resume_after(6),),
        expected=SKIPPED,
        quick=True,
    )
    yield Scenario(
        id="13b",
        title="engine frozen while the price falls: it sells when it wakes",
        steps=(bought(), freeze(3.0, fall), flat()),
        expected=Expected(ends=("exited_by_sl",), out_within_s=4.5),
    )


def broker() -> Iterator[Scenario]:
    yield Scenario(
        id="16",
        title="BUY placed, the connection dies before the answer",
        setting=Setting(mischief=(mischief(kind="placed_but_no_answer", slot="E"),)),
        steps=HOLD_AND_FALL,
        expected=AT_ONCE,
        quick=True,
    )
    yield Scenario(
        id="17",
        title="BUY not placed and no answer: never sent again",
        setting=Setting(mischief=(mischief(kind="not_placed_no_answer", slot="E"),)),
        steps=(at(BUY_AFTER_S + 1),),
        expected=NEVER_HEARD,
    )
    yield Scenario(
        id="18",
        title="BUY placed without an answer, in the order list only after most of the quarantine",
        setting=Setting(
            mischief=(
                mischief(kind="placed_but_no_answer", slot="E"),
                mischief(kind="visible_late", slot="E", seconds=QUARANTINE_S * 0.75),
            )
        ),
        steps=(bought(), seconds(QUARANTINE_S), *AND_FALL),
        expected=AT_ONCE,
    )
    yield Scenario(
        id="18b",
        title="BUY placed, seen only after the quarantine: the late fill is sold at once",
        setting=Setting(
            mischief=(
                mischief(kind="placed_but_no_answer", slot="E"),
                mischief(kind="visible_late", slot="E", seconds=QUARANTINE_S + 4),
            )
        ),
        steps=(bought(), flat(25)),
        expected=Expected(ends=("failed(outcome_unknown)", "failed(late_fill)")),
    )
    yield Scenario(
        id="21",
        title="BUY refused for good (margin): not tried again",
        setting=Setting(mischief=(mischief(kind="refuse", slot="E", reason="margin", times=None),)),
        steps=(at(BUY_AFTER_S + 1),),
        expected=Expected(ends=("failed(entry_refused)",), bought=(0, 0)),
    )
    yield Scenario(
        id="20b",
        title="BUY refused for now twice (503 with proof), then taken",
        setting=Setting(mischief=(mischief(kind="busy", slot="E", times=2),)),
        steps=HOLD_AND_FALL,
        expected=AT_ONCE,
    )
    for id_, slot, kind, what in (
        ("22", "X", "placed_but_error", "exit placed, answered with 502"),
        ("22b", "E", "placed_but_error", "BUY placed, answered with 502"),
        ("28", "E", "placed_but_torn_answer", "BUY placed, answered with half of a JSON"),
        ("28b", "X", "placed_but_torn_answer", "exit placed, answered with half of a JSON"),
        ("16b", "X", "placed_but_no_answer", "exit placed, the connection dies before the answer"),
        ("x-newslost", "X", "news_lost", "the stream never tells of the exit"),
    ):
        yield Scenario(
            id=id_,
            title=what,
            setting=Setting(mischief=(mischief(kind=kind, slot=slot),)),
            steps=HOLD_AND_FALL,
            expected=BY_STOP,
            quick=id_ == "22",
        )
    yield Scenario(
        id="17b",
        title="exit not placed and no answer: sent again after the quarantine, since the position still covers it",
        setting=Setting(mischief=(mischief(kind="not_placed_no_answer", slot="X"),)),
        steps=(bought(), jitter(0.2, 0.6), fall, flat(25)),
        expected=AFTER_LOOKING,
    )
    yield Scenario(
        id="18c",
        title="exit executed but not shown for longer than the quarantine: not sent again, the alarm rings",
        setting=Setting(
            mischief=(
                mischief(kind="placed_but_no_answer", slot="X"),
                mischief(kind="visible_late", slot="X", seconds=QUARANTINE_S + 5),
            )
        ),
        steps=(bought(), jitter(0.2, 0.6), fall, flat(), seconds(QUARANTINE_S + 6)),
        expected=Expected(ends=("failed(outcome_unknown)", "exited_by_sl"), alarm="SELL"),
    )
    yield Scenario(
        id="24",
        title="40 % of the BUY fills, the venue cancels the rest: sold is exactly that",
        setting=Setting(mischief=(mischief(kind="partial", slot="E", qty="4", cancel_rest=True),)),
        steps=(bought(qty=Decimal(4)), *AND_FALL),
        expected=AT_ONCE,
        quick=True,
    )
    yield Scenario(
        id="24b",
        title="40 % of the BUY fills, the rest stays open, the price falls: the rest is cancelled, what filled is sold",
        setting=Setting(mischief=(mischief(kind="partial", slot="E", qty="4"),)),
        steps=(bought(qty=Decimal(4)), *AND_FALL),
        expected=Expected(ends=("exited_by_sl",), out_within_s=2.0),
    )
    yield Scenario(
        id="26",
        title="a client that sends again by itself, at a venue whose ids are unique: adopted, not taken for refused",
        setting=Setting(
            bug="hidden-retries",
            idempotency="enforced",
            mischief=(mischief(kind="placed_but_no_answer", slot="E"),),
        ),
        steps=HOLD_AND_FALL,
        expected=BY_STOP,
    )
    yield Scenario(
        id="30",
        title="the login has expired when the exit is due: alarm, and sold once it is valid again",
        setting=Setting(mischief=(mischief(kind="token_invalid", slot="X", times=1),)),
        steps=(bought(), *AND_FALL),
        expected=Expected(ends=("failed(token_invalid)",), out_within_s=12, alarm="login"),
    )
    yield Scenario(
        id="32",
        title="429 for some seconds when the stop-loss is due",
        setting=Setting(mischief=(mischief(kind="rate_limit", slot="X", seconds=0.5, times=6),)),
        steps=HOLD_AND_FALL,
        expected=Expected(ends=("exited_by_sl",), out_within_s=6),
    )
    for id_, idempotency in (("x-reject", "none"), ("x-reject-unique", "enforced")):
        yield Scenario(
            id=id_,
            title=f"two exits rejected after they were accepted (ids: {idempotency}), the third sells",
            setting=Setting(
                idempotency=idempotency,
                mischief=(mischief(kind="reject_after_accept", slot="X", seconds=0.2, times=2),),
            ),
            steps=HOLD_AND_FALL,
            expected=Expected(ends=("exited_by_sl",), out_within_s=8),
        )
    yield Scenario(
        id="x-broker-dies",
        title="the broker's process dies while holding and is back after the price has fallen",
        steps=(bought(), restart_broker(1.0, fall), fall, flat(25)),
        expected=Expected(ends=("exited_by_sl", "failed(retries_exhausted)"), out_within_s=15),
    )


def redis_and_sql() -> Iterator[Scenario]:
    yield Scenario(
        id="33",
        title="Redis killed with -9 and back with its file, while holding",
        steps=(bought(), restart_redis(), in_redis(5), *AND_FALL),
        expected=AT_ONCE,
    )
    yield Scenario(
        id="34",
        title="FLUSHALL while holding: noticed, rebuilt, and the stop-loss still sells",
        steps=(bought(), flush, in_redis(2), *AND_FALL),
        expected=AT_ONCE,
        quick=True,
    )
    yield Scenario(
        id="35",
        title="FLUSHALL between the lock and the send of the BUY",
        setting=Setting(fault="runtime.claim.after:1:pause"),
        steps=(resume_after(0.3, flush), *HOLD_AND_FALL),
        expected=BY_STOP,
    )
    yield Scenario(
        id="37",
        title="killed when the stop-loss was latched, Redis back with half of its file, the price recovered",
        setting=Setting(fault="spool.latch.after:1:kill"),
        steps=(bought(), jitter(0.2, 0.6), fall, died(), rise, restart_redis(cut_tail=True), flat(25)),
        expected=BY_STOP,
        quick=True,
    )
    yield Scenario(
        id="38",
        title="Redis stands still while the price falls",
        steps=(bought(), beside(redis_sleeps(5)), seconds(0.5), fall, flat()),
        expected=AT_ONCE,
    )
    yield Scenario(
        id="38b",
        title="Redis stands still over BUY time, for less than the grace",
        steps=(at(BUY_AFTER_S - 0.5), beside(redis_sleeps(2.5)), *HOLD_AND_FALL),
        expected=BY_STOP,
    )
    yield Scenario(
        id="40",
        title="Redis is gone for good and the price falls",
        steps=(bought(), kill_redis, jitter(0.3, 1.5), fall, flat()),
        expected=AT_ONCE,
    )
    yield Scenario(
        id="43",
        title="STOP told five times, while a slow exit is on its way: one order",
        setting=Setting(mischief=(mischief(kind="delay_answer", slot="X", seconds=0.6),)),
        steps=(bought(), *(wish(Event.STOP),) * 5, flat(), seconds(1)),
        expected=STOPPED,
    )
    yield Scenario(
        id="x-lock",
        title="somebody else holds the strategy's lock in Redis while the price falls",
        steps=(bought(), seconds(0.5), hold_lock, fall, flat()),
        expected=AT_ONCE,
        quick=True,
    )
    yield Scenario(
        id="44",
        title="SQL is cut off before the licence to buy",
        setting=Setting(fault="records.license_entry.before:1:raise"),
        steps=HOLD_AND_FALL,
        expected=BY_STOP,
    )
    yield Scenario(
        id="45",
        title="the COMMIT of the licence is done, its answer lost",
        setting=Setting(fault="records.license_entry.after:1:raise"),
        steps=HOLD_AND_FALL,
        expected=BY_STOP,
        quick=True,
    )
    yield Scenario(
        id="45b",
        title="the COMMIT of the licence is done, its answer lost, and then the engine dies",
        setting=Setting(fault="records.license_entry.after:1:raise;records.open_runs.before:2:kill"),
        steps=(died(), bought_or_missed, fall, flat_again),
        expected=Expected(ends=("exited_by_sl", "failed(buy_missed)"), bought=(0, 1)),
    )
    yield Scenario(
        id="46",
        title="SQL cannot be written after the BUY's answer, and the price falls meanwhile",
        steps=(sent(Side.BUY), beside(sql_locked(6)), bought(), seconds(1), fall, flat(4)),
        expected=Expected(ends=("exited_by_sl",), out_within_s=1.5),
        within_s=30,
    )
    yield Scenario(
        id="50",
        title="another process holds SQL's write lock over BUY time",
        steps=(at(BUY_AFTER_S - 0.3), beside(sql_locked(2)), *HOLD_AND_FALL),
        expected=BY_STOP,
    )


def spell(kind: str, for_s: float, **what: Any) -> Step:
    """Something is wrong with the whole venue from now on, for so long."""

    def cast(stage: Stage) -> None:
        stage.control(spells=[{"kind": kind, "seconds": for_s, **what}])

    return cast


def bad_venues() -> Iterator[Scenario]:
    lost_and_missing = {
        slot: (mischief(kind="placed_but_no_answer", slot=slot), mischief(kind="missing_in_orders", slot=slot))
        for slot in "EX"
    }
    yield Scenario(
        id="v-trades",
        title="the BUY's answer is lost, and the order book never shows it: found by its trade",
        setting=Setting(mischief=lost_and_missing["E"]),
        steps=HOLD_AND_FALL,
        expected=Expected(ends=("exited_by_sl",), out_within_s=2.0),
        quick=True,
    )
    yield Scenario(
        id="v-trades-x",
        title="the SELL's answer is lost, and the order book never shows it: found by its trade, not sent again",
        setting=Setting(mischief=lost_and_missing["X"]),
        steps=HOLD_AND_FALL,
        expected=BY_STOP,
    )
    yield Scenario(
        id="v-trades-killed",
        title="the order book never shows the BUY, and the engine dies right after its bytes",
        setting=Setting(fault="gateway.written:1:kill", mischief=(mischief(kind="missing_in_orders", slot="E"),)),
        steps=(died(), bought(), back(), *AND_FALL),
        expected=AFTER_RESTART,
    )
    yield Scenario(
        id="v-cancel",
        title="a resting SELL fills the moment its cancel arrives: nothing is sent again",
        setting=Setting(
            mischief=(mischief(kind="partial", slot="X", qty="4"), mischief(kind="fill_on_cancel", slot="X"))
        ),
        steps=(bought(), fall, flat(12)),
        expected=Expected(ends=("exited_by_sl",), out_within_s=6.0),
        quick=True,
    )
    yield Scenario(
        id="v-cancel-quiet",
        title="a resting SELL fills the moment its cancel arrives, and no news tells it",
        setting=Setting(
            mischief=(
                mischief(kind="partial", slot="X", qty="4"),
                mischief(kind="fill_on_cancel", slot="X"),
                mischief(kind="news_lost", slot="X"),
            )
        ),
        steps=(bought(), fall, flat(12)),
        expected=Expected(ends=("exited_by_sl",), out_within_s=6.0),
    )
    yield Scenario(
        id="v-cancel-buy",
        title="a resting BUY fills the moment its cancel arrives: what it bought is sold",
        setting=Setting(
            mischief=(mischief(kind="partial", slot="E", qty="4"), mischief(kind="fill_on_cancel", slot="E"))
        ),
        steps=(bought(qty=Decimal(4)), wish(Event.STOP), flat(12)),
        expected=STOPPED,
    )
    yield Scenario(
        id="v-twice",
        title="the stream tells everything twice, and then how it was before",
        setting=Setting(mischief=(mischief(kind="news_twice", times=None),)),
        steps=HOLD_AND_FALL,
        expected=AT_ONCE,
        quick=True,
    )
    yield Scenario(
        id="v-lag",
        title="the broker's positions are those of almost a second ago, over BUY and SELL",
        steps=(spell("positions_lag", 60, lag_s=0.9), *HOLD_AND_FALL),
        expected=BY_STOP,
    )
    yield Scenario(
        id="v-500",
        title="the BUY is answered 500 and was not placed: looked up, given up, never sent again",
        setting=Setting(mischief=(mischief(kind="error_without_effect", slot="E"),)),
        steps=(at(BUY_AFTER_S + QUARANTINE_S + 2),),
        expected=NEVER_HEARD,
    )
    yield Scenario(
        id="v-500-x",
        title="the SELL is answered 500 and was not placed: looked up, and sent again once",
        setting=Setting(mischief=(mischief(kind="error_without_effect", slot="X"),)),
        steps=(bought(), jitter(0.2, 0.6), fall, flat(20)),
        expected=AFTER_LOOKING,
    )
    yield Scenario(
        id="v-page",
        title="BUY and SELL are answered with a page for people: both are found, none is sent again",
        setting=Setting(mischief=(mischief(kind="not_json", slot="E"), mischief(kind="not_json", slot="X"))),
        steps=HOLD_AND_FALL,
        expected=BY_STOP,
    )
    yield Scenario(
        id="v-429",
        title="everything is answered 429 for three seconds while the price falls",
        steps=(bought(), spell("rate_limited", 3), *AND_FALL),
        expected=Expected(ends=("exited_by_sl",), out_within_s=5.0),
    )
    yield Scenario(
        id="v-403",
        title="the login is refused for three seconds while the price falls",
        steps=(bought(), spell("forbidden", 3), fall, flat(20)),
        expected=Expected(ends=("exited_by_sl", "failed(token_invalid)"), out_within_s=10.0, alarm="login"),
    )
    yield Scenario(
        id="v-deaf",
        title="nothing is answered for three seconds while the price falls",
        steps=(bought(), spell("deaf", 3), fall, flat(25)),
        expected=AFTER_LOOKING,
    )
    yield Scenario(
        id="v-halt",
        title="trading is halted for eight seconds just after the stop-loss was hit: chased, out when it opens",
        steps=(bought(), fall, spell("halt", 8), flat(25)),
        expected=Expected(ends=("exited_by_sl",), out_within_s=12.0),
    )


def through(*rules: Rule) -> Setting:
    return Setting(proxy=rules)


def refuse(for_s: float) -> Step:
    """Every connection to the broker is reset, and for so long none can be made."""

    def work(stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.refuse(for_s)

    return work


def streams_silent(is_so: bool) -> Step:
    """The streams of prices and news stay open, and nothing comes on them."""

    def work(stage: Stage) -> None:
        assert stage.proxy is not None
        stage.proxy.be_silent(is_so)

    return work


def networks() -> Iterator[Scenario]:
    for slot, word in (("E", "BUY"), ("X", "SELL")):
        yield Scenario(
            id=f"p-swallow-{slot.lower()}",
            title=f"the answer to the {word} never comes, and the connection stays open",
            setting=through(Rule(Does.SWALLOW, slot=slot)),
            steps=HOLD_AND_FALL,
            expected=Expected(ends=("exited_by_sl",), out_within_s=3.0),
            quick=slot == "X",
        )
        yield Scenario(
            id=f"p-cut-{slot.lower()}",
            title=f"the connection is reset after the {word} was passed on",
            setting=through(Rule(Does.CUT_AFTER, slot=slot)),
            steps=HOLD_AND_FALL,
            expected=Expected(ends=("exited_by_sl",), out_within_s=3.0),
        )
        yield Scenario(
            id=f"p-torn-{slot.lower()}",
            title=f"half of the answer to the {word} comes",
            setting=through(Rule(Does.TORN, slot=slot)),
            steps=HOLD_AND_FALL,
            expected=Expected(ends=("exited_by_sl",), out_within_s=3.0),
        )
        yield Scenario(
            id=f"p-late-{slot.lower()}",
            title=f"the broker gets the {word} two seconds after we have given it up",
            setting=through(Rule(Does.DELAY_REQUEST, slot=slot, seconds=3.0)),
            steps=HOLD_AND_FALL if slot == "E" else (bought(), jitter(0.2, 0.6), fall, flat(20)),
            expected=Expected(ends=("exited_by_sl",), out_within_s=8.0),
        )
    yield Scenario(
        id="p-cut-before",
        title="the connection is reset before the SELL reaches the broker: looked up, then sent again once",
        setting=through(Rule(Does.CUT_BEFORE, slot="X")),
        steps=(bought(), jitter(0.2, 0.6), fall, flat(20)),
        expected=AFTER_LOOKING,
    )
    yield Scenario(
        id="p-half",
        title="the broker's side is closed after the SELL, and no answer comes",
        setting=through(Rule(Does.HALF_CLOSE, slot="X")),
        steps=HOLD_AND_FALL,
        expected=Expected(ends=("exited_by_sl",), out_within_s=3.0),
    )
    yield Scenario(
        id="p-drip",
        title="the answer to the SELL comes byte by byte, slower than the time-out",
        setting=through(Rule(Does.DRIP, slot="X", seconds=2.0)),
        steps=HOLD_AND_FALL,
        expected=Expected(ends=("exited_by_sl",), out_within_s=3.0),
    )
    yield Scenario(
        id="20",
        title="connections are refused at BUY time, and then they are not: one BUY",
        setting=through(),
        steps=(at(BUY_AFTER_S - 0.2), refuse(1.0), *HOLD_AND_FALL),
        expected=BY_STOP,
        quick=True,
    )
    yield Scenario(
        id="20x",
        title="connections are refused while the price falls, for three seconds",
        setting=through(),
        steps=(bought(), jitter(0.3, 0.6), refuse(3.0), fall, flat(25)),
        expected=Expected(ends=("exited_by_sl",), out_within_s=10.0),
    )
    yield Scenario(
        id="p-silent",
        title="the streams stay open and nothing comes on them, and the price falls: seen by a quote",
        setting=through(),
        steps=(bought(), streams_silent(True), jitter(0.2, 1.0), fall, flat(20), streams_silent(False)),
        expected=Expected(ends=("exited_by_sl",), out_within_s=9.0, alarm="silent"),
    )


def resting_exits() -> Iterator[Scenario]:
    yield Scenario(
        id="x-rests",
        title="the SELL is accepted and never fills: cancelled, proven, sent again at a limit",
        setting=Setting(mischief=(mischief(kind="partial", slot="X", qty="0.001"),)),
        steps=(bought(), fall, flat(12)),
        expected=Expected(ends=("exited_by_sl",), exits_most=2, out_within_s=6.0),
        quick=True,
    )
    yield Scenario(
        id="x-rests-part",
        title="four of ten fill, the rest of the SELL rests: only the rest is sent again",
        setting=Setting(mischief=(mischief(kind="partial", slot="X", qty="4"),)),
        steps=(bought(), fall, flat(12)),
        expected=Expected(ends=("exited_by_sl",), exits_most=2, out_within_s=6.0),
    )
    yield Scenario(
        id="x-rests-killed",
        title="the engine dies when it has asked to cancel a resting SELL",
        setting=Setting(fault="broker.cancel.after:1:kill", mischief=(mischief(kind="partial", slot="X", qty="4"),)),
        steps=(bought(), fall, died(), flat(20)),
        expected=Expected(ends=("exited_by_sl",), exits_most=2, out_within_s=12.0),
    )
    yield Scenario(
        id="x-rests-stop",
        title="SELL time, its order rests at a limit, and the price falls to the stop-loss",
        setting=Setting(
            sell_after_s=5,
            mischief=(mischief(kind="partial", slot="X", qty="4"), mischief(kind="partial", slot="X", qty="1")),
        ),
        steps=(bought(), sent(Side.SELL, 2), fall, flat(12)),
        expected=Expected(ends=("exited_by_sl",), exits_most=3, out_within_s=6.0),
    )


def clocks() -> Iterator[Scenario]:
    yield Scenario(
        id="52",
        title="the machine's clock steps an hour forward before BUY time, by mistake",
        steps=(at(0.7), clock_set(3600), *HOLD_AND_FALL),
        expected=Expected(ends=("exited_by_sl",), out_within_s=1.0, alarm="clock is wrong"),
        quick=True,
    )
    yield Scenario(
        id="52b",
        title="the machine starts anew with its clock an hour ahead: nothing is bought, and it says so",
        steps=(at(0.3), reboot_with_clock(3600), back(), seconds(2)),
        expected=Expected(ends=("failed(buy_missed)",), bought=(0, 0), alarm="what time it is"),
    )
    yield Scenario(
        id="52c",
        title="the machine starts anew with its clock ten minutes behind, and it is set right within the grace",
        steps=(at(0.3), reboot_with_clock(-600), back(), seconds(1), clock_set(0), *HOLD_AND_FALL),
        expected=Expected(ends=("exited_by_sl",), out_within_s=1.0, alarm="what time it is"),
    )
    yield Scenario(
        id="53",
        title="the machine's clock steps ten minutes back just after the BUY",
        steps=(sent(Side.BUY), clock_set(-600), *HOLD_AND_FALL),
        expected=Expected(ends=("exited_by_sl",), out_within_s=1.0, alarm="clock is wrong"),
    )
    yield Scenario(
        id="53b",
        title="the clock steps back, the engine dies, and its successor goes by the time that was confirmed",
        setting=Setting(sell_after_s=14),
        steps=(bought(), clock_set(-600), jitter(1.2, 1.6), kill, back(), flat(20)),
        expected=Expected(ends=("sold",), alarm="clock is wrong"),
        within_s=30,
    )


ON_POSTGRES = Setting(database="postgres")


def postgres() -> Iterator[Scenario]:
    yield Scenario(
        id="pg-stop",
        title="PostgreSQL is stopped while holding, and the price falls: out at once, told when it is back",
        setting=ON_POSTGRES,
        steps=(bought(), jitter(0.0, 0.5), database("stop"), *AND_FALL, seconds(1), database("start")),
        expected=AT_ONCE,
        quick=True,
    )
    yield Scenario(
        id="pg-kill",
        title="PostgreSQL is killed with -9 at a random moment of the BUY, and is back a second later",
        setting=ON_POSTGRES,
        steps=(
            at(BUY_AFTER_S - 0.1),
            jitter(0.0, 0.3),
            database("kill"),
            seconds(1),
            database("start"),
            *HOLD_AND_FALL,
        ),
        expected=BY_STOP,
        quick=True,
    )
    yield Scenario(
        id="pg-freeze",
        title="PostgreSQL stands still while the price falls",
        setting=ON_POSTGRES,
        steps=(bought(), jitter(0.0, 0.5), database("freeze"), *AND_FALL, seconds(1), database("thaw")),
        expected=AT_ONCE,
        within_s=30,
    )
    yield Scenario(
        id="pg-freeze-buy",
        title="PostgreSQL stands still over BUY time and its grace: skipped",
        setting=ON_POSTGRES,
        steps=(at(BUY_AFTER_S - 0.5), database("freeze"), seconds(8), database("thaw")),
        expected=SKIPPED,
        within_s=30,
    )
    yield Scenario(
        id="pg-both",
        title="PostgreSQL is stopped while holding and the engine killed: the first one that starts sells",
        setting=ON_POSTGRES,
        steps=(
            bought(),
            seconds(0.5),
            database("stop"),
            kill,
            died(),
            fall,
            seconds(1.5),
            database("start"),
            flat(25),
        ),
        expected=Expected(ends=("exited_by_sl",), out_within_s=15),
    )
    yield Scenario(
        id="pg-restarts",
        title="PostgreSQL restarts five times over the day",
        setting=ON_POSTGRES,
        steps=(
            at(BUY_AFTER_S - 0.5),
            *(database("stop"), database("start"), jitter(0.1, 0.4)) * 5,
            *HOLD_AND_FALL,
        ),
        expected=BY_STOP,
    )


FIFTY = tuple(f"n{number}" for number in range(1, 50))


def fifty() -> Iterator[Scenario]:
    yield Scenario(
        id="48",
        title="PostgreSQL is killed with -9 while fifty strategies hold, and the price falls as it comes back",
        setting=ON_POSTGRES,
        steps=(
            *(add(name, 8) for name in FIFTY),
            bought(30, QTY * 50),
            seconds(0.5),
            database("kill"),
            seconds(0.5),
            database("start"),
            fall,
            flat(30),
        ),
        names=("s", *FIFTY),
        expected=Expected(ends=("exited_by_sl",), bought=(50, 50), out_within_s=5.0),
        within_s=40,
    )


STANDBY = Setting(second="standby")
MACHINE = Setting(second="machine", database="postgres")
MACHINE_DIES = replace(MACHINE, restarts=False)
"""Nothing starts the first one again, which would have its account at once."""
TAKEN_OVER = Expected(ends=("exited_by_sl",), out_within_s=2.0, takeover_within_s=3.0)
ACROSS_MACHINES = Expected(ends=("exited_by_sl",), out_within_s=QUARANTINE_S + 10, takeover_within_s=5.0)
"""A licence granted on the other machine may have been used: it is looked up for the whole quarantine first."""


def two_workers() -> Iterator[Scenario]:
    yield Scenario(
        id="sb-hold",
        title="the engine is killed while holding, and the price falls when its standby is ready",
        setting=STANDBY,
        steps=(bought(), jitter(0.0, 0.5), kill, died(), back(), fall, flat()),
        expected=TAKEN_OVER,
        quick=True,
    )
    yield Scenario(
        id="sb-fall",
        title="the engine is killed while holding, and the price falls at once",
        setting=STANDBY,
        steps=(bought(), jitter(0.0, 0.5), kill, fall, flat()),
        expected=replace(TAKEN_OVER, out_within_s=4.0),
    )
    yield Scenario(
        id="sb-mark",
        title="the engine dies between the SELL's mark and its bytes: its standby looks, and sells once",
        setting=replace(STANDBY, fault="gateway.marked:2:kill"),
        steps=(bought(), fall, died(), flat(20)),
        expected=replace(AFTER_LOOKING, takeover_within_s=3.0),
    )
    yield Scenario(
        id="sb-pause",
        title="the engine stands still while the price falls: it keeps its lock, the monitor rings, it sells on waking",
        setting=replace(STANDBY, is_watched=True),
        steps=(
            bought(),
            jitter(0.0, 0.5),
            freeze(0.0, fall, outside_alarm, waits_on, still_held()),
            flat(),
            outside_calm,
        ),
        expected=Expected(ends=("exited_by_sl",), out_within_s=35),
    )
    yield Scenario(
        id="57-two",
        title="START told five times with two workers: one run, one BUY",
        setting=STANDBY,
        steps=(*(wish(Event.START),) * 5, at(BUY_AFTER_S - 0.2), jitter(0.0, 0.4), kill, bought(), *AND_FALL),
        expected=Expected(ends=("exited_by_sl", "failed(buy_missed)"), out_within_s=16),
    )
    yield Scenario(
        id="tm-hold",
        title="two machines: the engine is killed while holding, and the price falls",
        setting=MACHINE_DIES,
        steps=(bought(), seconds(0.5), kill, died(), fall, flat(25)),
        expected=replace(ACROSS_MACHINES, alarm="cannot be sold yet"),
        within_s=40,
    )
    yield Scenario(
        id="tm-again",
        title="two machines: the engine is killed while holding and started again: it has its account at once",
        setting=replace(MACHINE, lease_ttl_s=8),  # so that a start on a busy machine is always within it
        steps=(bought(), seconds(0.5), kill, fall, flat()),
        expected=Expected(ends=("exited_by_sl",), out_within_s=QUARANTINE_S),
    )
    yield Scenario(
        id="tm-pause",
        title="two machines: the engine stands still past its lease, the other sells, and it wakes and sends nothing",
        setting=MACHINE,
        steps=(bought(), seconds(0.5), freeze(14, fall), flat(25), seconds(2)),
        expected=replace(ACROSS_MACHINES, takeover_within_s=None),
        within_s=40,
    )
    yield Scenario(
        id="tm-pause-sending",
        title="two machines: the engine stands still between the SELL's mark and its bytes, past its lease",
        setting=replace(MACHINE, fault="gateway.marked:2:pause"),
        steps=(bought(), seconds(0.5), beside(resume_after(3)), fall, flat(30), seconds(2)),
        expected=replace(ACROSS_MACHINES, takeover_within_s=None, out_within_s=QUARANTINE_S + 14),
        within_s=40,
    )
    yield Scenario(
        id="tm-gate",
        title="two machines: the engine stands still when its SELL is about to leave, until the other one has sold",
        setting=replace(MACHINE, fault="broker.submit.before:2:pause"),
        steps=(bought(), seconds(0.5), beside(resume_after(14)), fall, flat(30), seconds(5)),
        expected=replace(ACROSS_MACHINES, takeover_within_s=None),
        within_s=40,
    )
    yield Scenario(
        id="tm-sent",
        title="two machines: the engine dies right after the SELL's bytes, its answer unread",
        setting=replace(MACHINE_DIES, fault="gateway.written:2:kill"),
        steps=(bought(), seconds(0.5), fall, died(), flat(25)),
        expected=replace(ACROSS_MACHINES, exits_most=1),
        within_s=40,
    )
    yield Scenario(
        id="tm-sent-redis",
        title="two machines: nobody claimed the SELL in Redis, it shows late, and the engine dies after its bytes",
        setting=replace(
            MACHINE_DIES,
            fault="gateway.written:2:kill",
            mischief=(mischief(kind="visible_late", slot="X", seconds=5.0),),
        ),
        steps=(bought(), seconds(0.5), beside(redis_sleeps(2.0)), seconds(0.3), fall, died(), flat(30)),
        expected=replace(ACROSS_MACHINES, takeover_within_s=8.0),
        within_s=40,
    )
    yield Scenario(
        id="tm-sent-rise",
        title="two machines: the engine dies right after the SELL's bytes, the price recovers: it was the stop-loss",
        setting=replace(MACHINE_DIES, fault="gateway.written:2:kill"),
        steps=(bought(), seconds(0.5), fall, died(), rise, flat(25), back()),
        expected=ACROSS_MACHINES,
        within_s=40,
    )
    yield Scenario(
        id="tm-unsaved",
        title="two machines: the engine dies when the BUY has filled, before SQL knows of the position",
        setting=replace(MACHINE_DIES, fault="records.save.before:3:kill"),
        steps=(bought_or_missed, fall, flat_again),
        expected=Expected(ends=("exited_by_sl", "failed(buy_missed)"), bought=(0, 1)),
        within_s=40,
    )
    yield Scenario(
        id="tm-start",
        title="two machines: the engine stands still before it makes the run of a START, until the other has sold",
        setting=replace(MACHINE, fault="records.add_run.before:1:pause"),
        steps=(bought(), *AND_FALL, seconds(1.5), resume_after(0.0), seconds(3)),
        expected=BY_STOP,
    )
    yield Scenario(
        id="tm-buy",
        title="two machines: the engine is killed about the moment of the BUY",
        setting=MACHINE_DIES,
        steps=(at(BUY_AFTER_S - 0.1), jitter(0.0, 0.3), kill, bought_or_missed, fall, flat_again),
        expected=Expected(ends=("exited_by_sl", "failed(buy_missed)", "failed(outcome_unknown)"), bought=(0, 1)),
        within_s=40,
    )
    yield Scenario(
        id="tm-licence",
        title="two machines: the BUY fills while SQL stands still, the price falls, the engine is killed",
        setting=MACHINE_DIES,
        steps=(
            at(1),
            quiet,
            sent(Side.BUY),
            database("freeze"),
            loud,
            bought(),
            fall,
            seconds(0.7),
            kill,
            died(),
            database("thaw"),
            flat(30),
        ),
        expected=Expected(ends=("exited_by_sl",), out_within_s=QUARANTINE_S + 14),
        within_s=40,
    )
    yield Scenario(
        id="tm-back",
        title="two machines: the second one's SELL is answered 429, sent again, and it dies; the first one goes on",
        setting=replace(
            MACHINE_DIES,
            mischief=(mischief(kind="rate_limit", slot="X", seconds=0.5),),
            fault_second="gateway.written:2:kill",
        ),
        steps=(bought(), seconds(0.5), kill, died(), back(), fall, died(2, 30), start("one"), flat(30)),
        expected=Expected(ends=("exited_by_sl",), out_within_s=QUARANTINE_S + 16),
        within_s=40,
    )
    yield Scenario(
        id="tm-nosql",
        title="two machines: nobody can renew the lease while the price falls: nothing is sent, it is told, then sold",
        setting=MACHINE,
        steps=(bought(), seconds(1), database("stop"), seconds(2.5), fall, seconds(1), database("start"), flat(40)),
        expected=Expected(ends=("exited_by_sl",), out_within_s=30),
        within_s=60,
    )


def the_rest() -> Iterator[Scenario]:
    yield Scenario(
        id="56",
        title="SELL time and a price at the stop-loss in the same instant: one exit",
        setting=Setting(sell_after_s=5),
        steps=(bought(), at(5), fall, flat()),
        expected=Expected(ends=("exited_by_sl", "sold")),
    )
    yield Scenario(
        id="57",
        title="START told five times: one run, one BUY",
        steps=(*(wish(Event.START),) * 5, *HOLD_AND_FALL),
        expected=AT_ONCE,
    )
    yield Scenario(
        id="58",
        title="ticks that are zero, negative, old or of another symbol sell nothing",
        steps=(bought(), odd_ticks, seconds(1.5), still_held(), wish(Event.STOP), flat()),
        expected=STOPPED,
        quick=True,
    )
    yield Scenario(
        id="59",
        title="STOP while nobody knows what became of the BUY: resolved first, then sold",
        setting=Setting(
            mischief=(
                mischief(kind="placed_but_no_answer", slot="E"),
                mischief(kind="visible_late", slot="E", seconds=2.0),
            )
        ),
        steps=(sent(Side.BUY), jitter(0.1, 0.5), wish(Event.STOP), bought(), flat()),
        expected=STOPPED,
    )
    yield Scenario(
        id="60",
        title="the engine is ended in order and started again while holding, as in an upgrade",
        steps=(bought(), terminate, back(), *AND_FALL),
        expected=AT_ONCE,
    )
    yield Scenario(
        id="x-wish",
        title="killed right when the STOP was taken off the list",
        setting=Setting(fault="records.wish_taken.after:2:kill"),
        steps=(bought(), wish(Event.STOP), flat(25)),
        expected=STOPPED,
    )
    yield Scenario(
        id="x-wish-first",
        title="killed right after STOP was asked for",
        steps=(bought(), wish(Event.STOP), kill, flat(25)),
        expected=STOPPED,
    )
    yield Scenario(
        id="x-kill-switch",
        title="the kill switch squares off, and nothing is bought after it",
        steps=(bought(), ask("kill", "--square-off", "--yes"), flat()),
        expected=STOPPED,
    )
    yield Scenario(
        id="x-hand",
        title="everything is sold by hand at the broker: nothing is sold again",
        steps=(bought(), seconds(1.2), by_hand(Side.SELL, QTY), seconds(5), fall, seconds(2)),
        expected=Expected(ends=("stopped",), may_miss_stop=True),
    )
    yield Scenario(
        id="x-hand-part",
        title="4 of 10 are sold by hand: the stop-loss sells the other 6",
        steps=(bought(), seconds(1.2), by_hand(Side.SELL, Decimal(4)), seconds(5), fall, flat(), seconds(3)),
        expected=Expected(ends=("exited_by_sl", "stopped"), stays_open=True),
    )
    yield Scenario(
        id="x-hand-stop",
        title="the stop-loss was hit, the broker is too busy to sell, all is sold by hand: never `stopped`",
        setting=Setting(mischief=(mischief(kind="busy", slot="X", times=None),)),
        steps=(bought(), seconds(1.2), fall, seconds(0.3), by_hand(Side.SELL, QTY), seconds(6)),
        expected=Expected(ends=("failed",)),
    )
    two = (add("t", 4),)
    yield Scenario(
        id="x-two",
        title="two strategies on one symbol: each sells its own",
        steps=(*two, bought(qty=QTY * 2), *AND_FALL),
        expected=Expected(ends=("exited_by_sl",), bought=(2, 2), out_within_s=1.5),
        names=("s", "t"),
    )
    yield Scenario(
        id="x-two-hand",
        title="two strategies on one symbol and half is sold by hand: together they sell no more than is there",
        steps=(*two, bought(qty=QTY * 2), seconds(1.2), by_hand(Side.SELL, QTY), seconds(5), fall, seconds(6)),
        expected=Expected(ends=("exited_by_sl", "stopped", "failed"), bought=(2, 2), stays_open=True),
        names=("s", "t"),
    )
    yield Scenario(
        id="x-two-unseen",
        title="two on one symbol; the exit of one executed unseen past the quarantine: the other's shares stay its own",
        setting=Setting(
            mischief=(
                mischief(kind="placed_but_no_answer", slot="X"),
                mischief(kind="visible_late", slot="X", seconds=QUARANTINE_S + 8),
            )
        ),
        steps=(*two, bought(qty=QTY * 2), seconds(1.2), wish(Event.STOP), seconds(QUARANTINE_S + 4), fall, seconds(6)),
        expected=Expected(
            ends=("exited_by_sl", "failed", "stopped"), bought=(2, 2), stays_open=True, may_miss_stop=True
        ),
        names=("s", "t"),
    )


def all_scenarios() -> tuple[Scenario, ...]:
    found = (
        *deaths(),
        *broker(),
        *redis_and_sql(),
        *postgres(),
        *fifty(),
        *two_workers(),
        *bad_venues(),
        *networks(),
        *resting_exits(),
        *clocks(),
        *the_rest(),
    )
    ids = [each.id for each in found]
    if len(set(ids)) != len(ids):
        raise ValueError(f"a scenario's id is used twice: {sorted(i for i in ids if ids.count(i) > 1)}")
    return found


def sweep() -> tuple[Scenario, ...]:
    """A kill at every fault point of the product, whatever it comes to: the promises hold."""
    ends = ("exited_by_sl", "failed(buy_missed)", "failed(outcome_unknown)", "stopped")
    return tuple(
        Scenario(
            id=f"s-{point}-{occurrence}",
            title=f"killed when it comes to {point} for the {occurrence}. time",
            setting=Setting(fault=f"{point}:{occurrence}:kill"),
            steps=(bought_or_missed, jitter(0.2, 0.6), fall, seconds(0.5), flat_again),
            expected=Expected(ends=ends, bought=(0, 1), stays_open=True),
            within_s=12,
            must_reach=False,
        )
        for occurrence in (1, 2)
        for point in all_points()
    )


_NOTHING_HELPS = ("gateway.marked",)
"""After the last check and before the bytes, past the lease: R3 of docs/safety.md."""


def pauses() -> tuple[Scenario, ...]:
    """The first worker stands still at a fault point, past its lease, and another machine takes over; then it wakes."""
    ends = ("exited_by_sl", "failed(buy_missed)", "failed(outcome_unknown)", "stopped")
    return tuple(
        Scenario(
            id=f"p-{point}-{occurrence}",
            title=f"two machines: stands still at {point} for the {occurrence}. time, and wakes when all is over",
            setting=replace(MACHINE, fault=f"{point}:{occurrence}:pause"),
            steps=(bought_or_missed, jitter(0.2, 0.6), fall, seconds(0.5), flat_again, wake, seconds(3)),
            expected=Expected(ends=ends, bought=(0, 1), stays_open=True),
            within_s=12,
            must_reach=False,
        )
        for occurrence in (1, 2)
        for point in all_points()
        if point not in _NOTHING_HELPS
    )
