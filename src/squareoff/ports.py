"""NEEDS. What the engine needs from the world: one Protocol each, with the promise it must keep.

An adapter is finished when it passes `tests/contracts/` unchanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol

from squareoff.core.events import Event
from squareoff.core.limits import AccountRules, DayTotals, Level
from squareoff.core.orders import Stamp
from squareoff.core.outcomes import Sent
from squareoff.core.run import Run
from squareoff.core.strategy import Plan
from squareoff.core.types import (
    AccountId,
    ClientOrderId,
    Fence,
    Order,
    OrderReport,
    Position,
    RunId,
    Side,
    StrategyId,
    Symbol,
    Tick,
)


class Clock(Protocol):
    """The only place where time is read. Trading time is an aware UTC datetime."""

    def now(self) -> datetime:
        """Trading time."""

    def seconds_until(self, instant: datetime) -> float:
        """Real seconds from now until trading time reaches `instant`; at most 0 if it has."""

    def monotonic_s(self) -> float:
        """Real seconds that never step: for timeouts and deadlines of requests."""

    async def sleep(self, seconds: float) -> None:
        """Wait real seconds."""


class WatchedClock(Clock, Protocol):
    """A clock of this machine that somebody may set anew. Trading time does not follow by itself."""

    def step(self) -> timedelta:
        """The machine's wall clock minus trading time."""

    def follow(self, step: timedelta) -> None:
        """Move trading time by `step`, at once."""

    def confirm(self) -> None:
        """Trading time is right, somebody outside says so: the next process of this boot goes on from it, whatever
        the wall clock says then. Raises OSError if that cannot be kept."""


class MarketFeed(Protocol):
    """Ticks of one source."""

    async def run(
        self, symbols: Sequence[Symbol], on_tick: Callable[[Tick], None], *, on_frame: Callable[[], None] | None = None
    ) -> None:
        """Call `on_tick` for every tick of `symbols` from now on, in the order the source tells them.

        `on_frame` is called before, for everything that comes: ticks, and signs of life where the source gives them.
        So one that does not is taken for dead when nothing is traded.

        Returns when the source ends or the connection is lost; the caller starts it again. Raises BrokerUnavailable
        if no connection can be made."""


class Quotes(Protocol):
    """Last traded prices by request: the second source, for when the stream of ticks is silent."""

    async def quotes(self, symbols: Sequence[Symbol]) -> Sequence[Tick]:
        """The last trade of each of `symbols`, dated when it happened; one never traded or not known is left out.

        One request, with a time-out. Raises BrokerUnavailable."""


Gate = Callable[[], None]
"""The last check: called with the connection in hand, no await between it and the write. Raises GateClosed."""


class Idempotency(StrEnum):
    """What the venue does with a client order id it has seen before."""

    NONE = "none"
    ENFORCED = "enforced"
    ENFORCED_AMONG_OPEN = "enforced_among_open"


@dataclass(frozen=True, kw_only=True, slots=True)
class VenueFacts:
    """How long a venue may take, in real seconds."""

    idempotency: Idempotency
    request_timeout_s: float
    """Longest wait for the answer to one request."""
    quarantine_s: float
    """An order not seen for this long in orders and trades was not placed, as far as anyone can know."""
    position_lag_s: float
    """A position reading younger than this after our last fill proves nothing."""
    orders_per_s: int | None = None
    """The venue's limit for one account; None: no limit."""
    replace_exit_after_s: float | None = 3.0
    """An exit that rests for longer is cancelled and sent again at a lower price; None: never (a replay, where it
    fills with the next bar)."""


class Broker(Protocol):
    """One account at one broker. Adapters never retry an order; the engine decides that."""

    @property
    def facts(self) -> VenueFacts: ...

    async def submit(self, order: Order, gate: Gate) -> OrderReport:
        """Send `order` once. Returning means "received", not "filled". `gate` is called last before the bytes.

        Raises:
            GateClosed: from the gate; nothing was sent.
            NeverSent: no byte left this machine.
            OrderRefused: the broker said no, so nothing is live.
            RateLimited: not taken; may be sent again later.
            OutcomeUnknown: no clear answer, so it may be live. `find` it before anything else.
        """

    async def cancel(self, order: ClientOrderId) -> None:
        """Ask to cancel what is open of an order. Returning proves nothing: read the report.

        Raises BrokerUnavailable if the question was not answered."""

    async def find(self, order: ClientOrderId) -> OrderReport | None:
        """What the broker knows of this order, from orders and trades. None: not seen *yet*, never "not placed".

        Raises BrokerUnavailable if the question was not answered."""

    async def orders(self) -> Sequence[OrderReport]:
        """The day's orders of this account. Raises BrokerUnavailable."""

    async def positions(self) -> Sequence[Position]:
        """Net positions; a symbol that is absent is flat. Raises BrokerUnavailable, never an empty guess."""

    async def server_time(self) -> datetime | None:
        """The broker's own clock, UTC, to the second or better; None: it does not tell. Raises BrokerUnavailable."""

    def updates(self) -> AsyncIterator[OrderReport]:
        """News of orders as the broker pushes it. May lose or repeat some: `find` is the truth. Ends with the
        connection."""

    async def close(self) -> None: ...


class Funds(Protocol):
    """The money of one account, for those who ask before they buy. A port of its own: no exit ever asks it."""

    async def funds(self) -> Decimal | None:
        """Free to buy with. None: this broker does not count it. Raises BrokerUnavailable, never a guess."""


class Sender(Protocol):
    """The account's gateway: one sender."""

    @property
    def may_send(self) -> bool:
        """Whether the account is ours at this moment."""

    async def send(
        self,
        order: Order,
        *,
        attempt: int,
        cause: str,
        not_after: datetime | None,
        objection: Callable[[], str | None],
    ) -> Sent:
        """Send `order` once and say what became of it. Never retries, never raises for what a broker does."""


class Precedence(Protocol):
    """Orders before bookkeeping."""

    def order_leaves(self) -> None:
        """An order is about to be sent, now."""

    async def calm(self) -> None:
        """Return when bookkeeping may go on: when no order has left for a moment, or after a bounded wait."""


class Meter(Protocol):
    """Counts what passes, for those who look on. Called on the way of orders: it adds to what is in memory, never waits
    and never raises. All instants are monotonic seconds."""

    def stop_trips(self, run_id: RunId, at_s: float) -> None:
        """A tick that came at `at_s` trips the stop-loss of a position that only waited."""

    def order_asked(self, order: ClientOrderId) -> None:
        """An order is on its way to the gate."""

    def order_leaves(self, order: ClientOrderId, at_s: float) -> None:
        """Every check is passed: its bytes are written now."""

    def order_over(self, order: ClientOrderId) -> None:
        """Nobody waits for its answer any more, also where something failed that never should."""

    def order_answered(self, run_id: RunId, side: Side, order: ClientOrderId, sent: Sent, at_s: float) -> None:
        """What became of a send is known, or that nobody knows."""

    def timer_handled(self, event: Event, late_s: float) -> None:
        """BUY or SELL, so many real seconds after its time."""

    def budget_waits(self, seconds: float) -> None:
        """An order waits so long for the venue's limit."""

    def looked_up(self, found: bool | None) -> None:
        """The broker was asked for an order of which nobody knows whether it is live. None: no answer."""


class JournalKind(StrEnum):
    """What a journal entry tells. Sequence diagrams are drawn from these."""

    WISH = "wish"
    TIMER = "timer"
    TICK = "tick"
    NOTHING = "nothing"
    CLAIM = "claim"
    LICENCE = "licence"
    REQUEST = "request"
    ANSWER = "answer"
    FILL = "fill"
    LOOK_UP = "look_up"
    TRANSITION = "transition"
    SAVED = "saved"
    RELEASE = "release"
    RETRY = "retry"
    ALERT = "alert"
    REDIS = "redis"
    RECOVERY = "recovery"
    NOTE = "note"


class EngineState(StrEnum):
    """The specification's internal states of the execution engine (section 6)."""

    IDLE = "idle"
    VALIDATING = "validating"
    LOCKED = "locked"
    EXECUTING = "executing"
    UPDATING = "updating"
    UNLOCKING = "unlocking"


@dataclass(frozen=True, kw_only=True, slots=True)
class JournalEntry:
    """One line of the story: append-only, in the order things were decided.

    `text` is for a person. `data` holds the same as values of JSON (money as text). `run_id` None: the account's.
    """

    at: datetime
    account: AccountId
    kind: JournalKind
    text: str
    run_id: RunId | None = None
    strategy_id: StrategyId | None = None
    engine: EngineState = EngineState.IDLE
    data: Mapping[str, Any] = field(default_factory=dict)


class Journal(Protocol):
    """Append-only. Written by one group-committing writer, never waited for on the way of an exit."""

    def write(self, entry: JournalEntry) -> None:
        """Queue one entry; it is durable within 50 ms or at the next `flush`, whichever is first."""

    async def flush(self) -> None:
        """Returns when everything written so far is durable. Raises RecordsUnavailable."""

    @property
    def backlog(self) -> int:
        """Entries not yet durable."""


class Storyteller(Protocol):
    """Who writes the journal's lines for the movers: the engine."""

    def say(
        self,
        kind: JournalKind,
        text: str,
        run: Run | None = None,
        engine: EngineState = EngineState.IDLE,
        *,
        strategy_id: StrategyId | None = None,
        **data: Any,
    ) -> None:
        """One line, at the present trading time. `strategy_id` where there is no run of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WishRecord:
    """A user's wish as committed to SQL before it was answered: START, STOP, HAND_OVER or KILL."""

    id: int
    strategy_id: StrategyId
    event: Event
    at: datetime
    by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What a look at the definitions came to."""

    due: tuple[StrategyId, ...] = ()
    """Repeating strategies whose run of today is to be made now."""
    waiting: Mapping[StrategyId, str] = field(default_factory=dict)
    """Repeating strategies that something is in the way of, and what."""
    edited: Mapping[RunId, Plan] = field(default_factory=dict)
    """Runs under way whose definition was edited, with the plan that follows from it."""


class Planner(Protocol):
    """Makes runs of definitions."""

    async def new_run(self, strategy_id: StrategyId, now: datetime) -> Run:
        """A run for the strategy's next session. Raises BadInput."""

    async def look(self, now: datetime, runs: Sequence[Run]) -> Planned:
        """What is to be done for the definitions now; `runs` are those under way. Raises RecordsUnavailable."""


class Records(Protocol):
    """What we meant, in SQL: strategies, runs with entry and exit, orders, fills. Every write names the fence;
    one with an old fence raises FenceLost and changes nothing. All raise RecordsUnavailable if SQL is not there."""

    @property
    def install_id(self) -> str:
        """Made once with the database: keeps the order ids of two installations apart."""

    async def take_lease(
        self, account: AccountId, *, owner: str, machine: str, boot: str, holder: str | None = None
    ) -> Fence:
        """Raise the account's fence by one and become its owner. The caller holds the account's lease: `holder` is the
        name it is held by across machines, asked for in the same transaction; None: it is this machine's file lock.

        Raises FenceLost if the account is held by another name: who slept after it took the lease must not raise
        the fence of its successor."""

    async def open_runs(self, account: AccountId) -> Sequence[Run]:
        """Every run of the account that is not archived, in order of their ids."""

    async def next_run_id(self) -> RunId:
        """Reserve the id of a run to come. Never given twice, also if no run follows."""

    async def add_run(self, run: Run, fence: Fence, *, wish_id: int | None = None) -> None:
        """A new run (START) under a reserved id; the same run added twice is one run. `wish_id`: the START it
        is made for, which must still be there in the same transaction.

        Raises BadInput while an earlier run of the strategy is not closed, WishTakenBack if the user was faster."""

    async def license_entry(self, run: Run, fence: Fence) -> bool:
        """Move the entry from none to intent and save `run` in the same transaction. True is the only licence
        to buy; False: somebody has decided otherwise, nothing was changed. After a lost COMMIT reply, re-reads.

        Raises EntriesBlocked while the account's level is not normal: asked in the same transaction."""

    async def void_entry(self, run: Run, fence: Fence) -> bool:
        """Move the entry from none to void and save `run`. False: a BUY has the licence; nothing was changed."""

    async def save(self, run: Run, fence: Fence) -> None:
        """Write the snapshot: run, slots, orders, fills. Older than what is there: nothing is changed."""

    async def restamp(self, run_ids: Sequence[RunId], account: AccountId, stamp: Stamp) -> None:
        """Put `stamp` to every licence of these runs that is still open, all at once; nothing else changes.

        Raises FenceLost if the stamp's fence is not the account's."""

    async def rules(self, account: AccountId) -> AccountRules:
        """The account's kill switch and limits as they are now."""

    async def set_level(self, account: AccountId, level: Level, *, reason: str, by: str, at: datetime) -> None:
        """Press or release the kill switch. Needs no fence: also a person without a worker may press it."""

    async def totals(self, account: AccountId, day: date) -> DayTotals:
        """Of the account's archived runs of that trading day."""

    async def wishes(self, account: AccountId) -> Sequence[WishRecord]:
        """Wishes not yet taken, oldest first."""

    async def wish_taken(self, wish_id: int, fence: Fence) -> None: ...


class Claim(StrEnum):
    """How a claim of a run in Redis ended."""

    OK = "ok"
    BUSY = "busy"
    """A living owner of the same account holds the lock."""
    DAMAGED = "damaged"
    """Epoch or version says that this Redis is not the one we wrote: rebuild, believe nothing of it."""


class RuntimeStore(Protocol):
    """Where the running system meets (Redis). Never the truth: everything in it can be rebuilt. Each change is one
    atomic script with a request id; a repeated request changes nothing. All raise StoreUnavailable."""

    async def arm(self, run: Run) -> Claim:
        """Create `strategy:{id}`, `runtime:{id}`, the symbol grouping and the timers of a started run."""

    async def claim(self, run: Run, *, fence: Fence, ttl_ms: int, event: Event, request_id: str) -> Claim:
        """Lock the run and write the state it is moving to, its timers and the event: one round trip.

        A lock held under an older fence is taken over: its holder can send nothing any more."""

    async def settle(self, run: Run, *, fence: Fence, request_id: str) -> Claim:
        """Write the run as it is now, set its timers, and release the lock if this fence holds it."""

    async def release(self, run_id: RunId, account: AccountId, *, fence: Fence) -> None:
        """Give the lock back if this fence holds it."""

    async def archive(self, run: Run) -> None:
        """Delete its keys, grouping and timers."""

    async def rebuild(self, account: AccountId, runs: Iterable[Run]) -> None:
        """Replace everything of the account in Redis, with a new epoch written last."""

    async def is_intact(self, account: AccountId) -> bool:
        """Whether this is still the Redis we wrote: epoch, server run id and role."""

    async def put_prices(self, account: AccountId, prices: Mapping[Symbol, Tick]) -> None:
        """Last prices, for those who look; the engine never reads them."""

    async def ring(self, account: AccountId) -> None:
        """The bell: a wish waits in SQL."""

    async def wait_for_bell(self, account: AccountId, timeout_s: float) -> bool:
        """True when the bell rang since the last call, False after `timeout_s` of silence."""

    async def close(self) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolMark:
    """A send mark: this attempt may have left."""

    client_order_id: ClientOrderId
    attempt: int
    qty: Decimal
    cause: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolLatch:
    """A stop-loss seen (`price` is what tripped it), or the lowest price while the level was not known."""

    run_id: RunId
    price: Decimal
    at: datetime
    tripped: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SpoolContents:
    marks: tuple[SpoolMark, ...] = ()
    latches: tuple[SpoolLatch, ...] = ()
    same_boot: bool = True
    """False after a reboot: then the absence of a mark proves nothing."""


class Spool(Protocol):
    """A preallocated file of this machine, per account: one `write` a record, no fsync. It survives the process,
    not the machine."""

    def mark(self, mark: SpoolMark) -> None: ...

    def latch(self, latch: SpoolLatch) -> None: ...

    def read(self) -> SpoolContents:
        """Everything written since the last `drained`, oldest first."""

    def drained(self) -> None:
        """All of it is in the journal: start over."""


class Brake(Protocol):
    """The kill switch of an account beside SQL: a file of this machine, so that it works with SQL down."""

    def level(self) -> Level:
        """As it is pressed now. One that cannot be read counts as NO_ENTRIES."""

    def told(self) -> str:
        """Why and by whom, for a person."""

    def press(self, level: Level, *, reason: str, by: str, at: datetime) -> None:
        """Returns when it is on the disk. NORMAL releases it."""


class Lease(Protocol):
    """The right to send for an account: an OS file lock on one machine."""

    @property
    def is_held(self) -> bool:
        """Checked right before every send."""

    machine: str
    boot: str


class LocalLease(Protocol):
    """What this machine's own lock tells: two processes of one folder share a spool."""

    machine: str
    boot: str

    @property
    def is_held(self) -> bool: ...

    @property
    def place(self) -> str:
        """This lock on this start of this machine: whoever held the account from here is gone, since it is ours."""


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds an account across machines, as its row tells."""

    holder: str | None = None
    beat: int = 0
    """Raised by every renewal. 0: nobody ever had a lease of this account."""
    ttl_s: float = 0.0
    is_kept: bool = False
    """By a worker with a lease of another kind."""


class HoldRow(Protocol):
    """The row of one account that says who holds it across machines. All raise RecordsUnavailable."""

    async def look(self) -> Held: ...

    async def take(self, seen: Held, holder: str, ttl_s: float) -> bool:
        """Write `holder` in if the row is still as it was `seen`. False: another was faster."""

    async def beat(self, holder: str, ttl_s: float) -> bool:
        """A renewal. False: it is no longer `holder`'s."""

    async def forget(self, holder: str) -> None:
        """Given back by `holder`; anybody else's stays."""

    async def clear(self) -> None:
        """Nobody holds it any more."""

    async def close(self) -> None: ...


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    URGENT = "urgent"


class Alerts(Protocol):
    """Tells a person. Never blocks, never raises."""

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None: ...
