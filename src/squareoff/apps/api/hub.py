"""What changes, pushed: one look for all viewers of a user, and to each only what is new.

A viewer costs the trading nothing: the records are read by their readers' way, Redis by one question for all, and
nothing here is on the path of an order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from squareoff.apps.api import shapes
from squareoff.apps.api.desk import Desk
from squareoff.apps.api.today import RowShapes, compared, is_moving, today
from squareoff.apps.api.words import journal_shapes
from squareoff.apps.status.picture import Picture, Viewer
from squareoff.core.bad_input import BadInput
from squareoff.core.machine import State
from squareoff.core.types import AccountId, UserId
from squareoff.errors import BrokerUnavailable, SquareoffError
from squareoff.ports import JournalKind

if TYPE_CHECKING:
    from squareoff.core.run import Run
    from squareoff.wiring import ReferenceData

log = logging.getLogger("squareoff.api")

LOOK_EVERY_S = 0.1
BEAT_EVERY_S = 1.0
BROKER_EVERY_S = 3.0
BROKER_OLD_S = 30.0
"""What the broker said longer ago proves nothing any more."""
KEPT, KEPT_LETTERS = 2000, 8_000_000
"""Events that somebody who was away for a moment gets one by one, and their length; older: the whole document."""
WAITING_AT_MOST = 100
"""Events for one viewer. A slower one is given the whole document instead."""
LINGER_S = 30.0
"""How long a hub goes on looking when its last viewer has gone: a page that is loaded again is at once up to date."""
_JOURNAL_AT_MOST = 200
_QUIET = frozenset({"now", "trust", "broker"})
"""Parts whose ages change all the time: the beat tells those."""


@dataclass(frozen=True, slots=True)
class Pushed:
    id: str
    event: str
    data: str

    def wire(self) -> str:
        return f"id: {self.id}\nevent: {self.event}\ndata: {self.data}\n\n"


@dataclass(kw_only=True)
class Hub:
    """Of one user. `epoch` tells this process's ids from those of an earlier one."""

    desk: Desk
    user: UserId
    epoch: str
    _viewer: Viewer | None = None
    _picture_now: Picture = field(init=False)
    """The last look; set by the first one."""
    _document: dict[str, Any] = field(default_factory=dict)
    _number: int = 0
    _kept: deque[Pushed] = field(default_factory=deque)
    _kept_letters: int = 0
    _viewers: set[asyncio.Queue[Pushed | None]] = field(default_factory=set)
    _task: asyncio.Task[None] | None = None
    _empty_since_s: float | None = None
    _since: dict[int, datetime] = field(default_factory=dict)
    _states: dict[int, State] = field(default_factory=dict)
    _broker: dict[AccountId, shapes.BrokerSays] = field(default_factory=dict)
    _broker_at_s: dict[AccountId, float] = field(default_factory=dict)
    _brokers: Mapping[AccountId, str] = field(default_factory=dict)
    _last_seq: int | None = None
    _trouble: str = ""
    _differed: dict[AccountId, str] = field(default_factory=dict)
    _rows: RowShapes = field(default_factory=RowShapes)
    _closed: bool = False
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One thread at a time: a viewer keeps what it read."""
    _known: asyncio.Event = field(default_factory=asyncio.Event)
    """There is a document, or there will be none any more."""

    @property
    def viewers(self) -> int:
        return len(self._viewers)

    # ------------------------------------------------------------------ for the routes

    async def document(self) -> shapes.Today:
        """As it is now. Raises RecordsUnavailable, BadInput."""
        return self._document_of(await self._look())

    async def picture(self) -> Picture:
        """The same, before it is put into words."""
        return (await self._look())[0]

    async def events(self, last_id: str | None) -> AsyncIterator[str]:
        """Everything from `last_id` on if that is still known, else the whole document first."""
        queue: asyncio.Queue[Pushed | None] = asyncio.Queue(WAITING_AT_MOST)
        self._empty_since_s = None
        if self._task is None or self._task.done():
            self._known.clear()  # what was known when the last viewer left is not shown as if it were now
            self._task = asyncio.get_running_loop().create_task(self._watch())
        yield "retry: 1000\n\n"
        await self._known.wait()  # a database that is away: the page says so by itself
        try:
            missed = self._missed(last_id)  # from here to the queue without a pause: nothing is lost between them
            whole = Pushed(self._id(), "today", _json(self._document))
            self._viewers.add(queue)
            for each in [whole] if missed is None else missed:
                yield each.wire()
            while (event := await queue.get()) is not None:
                yield event.wire()
            if not self._closed:
                yield Pushed(self._id(), "today", _json(self._document)).wire()  # too slow: begin anew
        finally:
            self._viewers.discard(queue)
            if not self._viewers:
                self._empty_since_s = time.monotonic()

    def _missed(self, last_id: str | None) -> list[Pushed] | None:
        """None: not known any more."""
        epoch, _, number = (last_id or "").partition("-")
        if epoch != self.epoch or not number.isdigit() or int(number) > self._number:
            return None
        after = int(number)
        if after < self._number - len(self._kept):
            return None
        return [each for each in self._kept if int(each.id.partition("-")[2]) > after]

    async def close(self) -> None:
        self._closed = True
        self._known.set()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for queue in list(self._viewers):
            _put(queue, None)
        if self._viewer is not None:
            self._viewer.close()

    # ------------------------------------------------------------------ looking

    async def _watch(self) -> None:
        beat_s = broker_s = 0.0
        asking: asyncio.Task[None] | None = None
        try:
            while True:
                began_s = time.monotonic()
                try:
                    await self._step()
                    self._trouble = ""
                except Exception as error:  # whatever it is: viewers hear no beat and see why, and it is tried again
                    self._note(error)
                if began_s - beat_s >= BEAT_EVERY_S:
                    beat_s = began_s
                    self._beat()
                if began_s - broker_s >= BROKER_EVERY_S and (asking is None or asking.done()):
                    broker_s = began_s
                    asking = asyncio.get_running_loop().create_task(self._ask_brokers())
                idle_s = None if self._empty_since_s is None else began_s - self._empty_since_s
                if idle_s is not None and idle_s > LINGER_S and not self._viewers:
                    return
                took_s = time.monotonic() - began_s
                await asyncio.sleep(max(LOOK_EVERY_S - took_s, LOOK_EVERY_S / 5, took_s))  # half the time at most
        finally:
            if asking is not None:
                asking.cancel()

    async def _step(self) -> None:
        document = self._document_of(await self._look()).model_dump(mode="json")
        before, self._document = self._document, document
        self._known.set()
        patch = _patch(before, document) if before else {}
        if patch:
            self._push("patch", _json(patch))
        await self._push_journal()

    def _note(self, error: Exception) -> None:
        if str(error) != self._trouble:
            self._trouble = str(error)
            expected = isinstance(error, SquareoffError | BadInput)
            log.warning("user %s: cannot look: %s", self.user, error, exc_info=None if expected else error)

    async def _look(self) -> tuple[Picture, ReferenceData]:
        async with self._looking:
            picture, reference = await asyncio.to_thread(self._picture)
        self._picture_now = picture
        return picture, reference

    def _document_of(self, look: tuple[Picture, ReferenceData]) -> shapes.Today:
        return today(
            look[0],
            reference=look[1],
            broker=self._with_ages(),
            since=self._since,
            brokers=self._brokers,
            shapes_of=self._rows,
        )

    def _picture(self) -> tuple[Picture, ReferenceData]:
        reference = self.desk.reference()
        if self._viewer is None:
            store = self.desk.store(self.user)
            self._viewer = Viewer(config=self.desk.config, store=store, reference=reference)
        picture = self._viewer.look()
        if set(picture.accounts) != set(self._brokers):
            self._brokers = self._viewer.store.accounts()
        self._note_since(picture)
        return picture, reference

    def _note_since(self, picture: Picture) -> None:
        """When each open run came to its state: seen by us, or, for one that was there before us, by its journal."""
        runs = [row.run for row in picture.rows if row.run is not None and not row.run.is_closed]
        since: dict[int, datetime] = {}
        for run in runs:
            run_id = int(run.plan.run_id)
            known = self._states.get(run_id)
            at = self._since.get(run_id) if known is run.state else picture.now if known else self._told_since(run)
            if at is not None:
                since[run_id] = at
        self._states, self._since = {int(run.plan.run_id): run.state for run in runs}, since

    def _told_since(self, run: Run) -> datetime | None:
        store = self.desk.store(self.user)
        lines = store.journal_back(run_id=run.plan.run_id, kinds=[JournalKind.TRANSITION], limit=20)
        return next((entry.at for _, entry in lines if entry.data.get("to") == run.state), None)

    async def _push_journal(self) -> None:
        last = self._picture_now.mark.last_seq
        if self._last_seq is None or last < self._last_seq:
            self._last_seq = last
        if last == self._last_seq or not self._viewers:
            self._last_seq = last
            return
        store, after = self.desk.store(self.user), self._last_seq
        lines = await asyncio.to_thread(lambda: store.journal(after_seq=after, limit=_JOURNAL_AT_MOST))
        self._last_seq = lines[-1][0] if lines else last  # what did not fit comes with the next look
        if lines:
            entries = [line.model_dump(mode="json") for line in journal_shapes(lines, self._picture_now.zone)]
            self._push("journal", _json({"entries": entries}))

    # ------------------------------------------------------------------ the broker

    async def _ask_brokers(self) -> None:
        """What each account's broker says it holds: a second witness beside the worker."""
        picture = self._picture_now
        for account in picture.accounts:
            runs = [row.run for row in picture.rows if row.run is not None and row.account == account]
            if any(is_moving(run) for run in runs):
                continue
            try:
                said = await self.desk.held_at_broker(account)
            except BrokerUnavailable as error:
                log.debug("positions of %s: %s", account, error)
                continue
            if self._picture_now.mark != picture.mark:
                continue  # something moved meanwhile: the two would be of different moments
            answer = compared(account, runs, said, at=picture.now, zone=picture.zone)
            if answer.state == "differs" and self._differed.get(account) != answer.text:
                self._differed[account] = answer.text  # once may be a moment: it is told when it stays so
                continue
            if answer.state == "same":
                self._differed.pop(account, None)
            self._broker[account], self._broker_at_s[account] = answer, time.monotonic()

    def _with_ages(self) -> Mapping[AccountId, shapes.BrokerSays]:
        now_s = time.monotonic()
        told = {}
        for account, said in self._broker.items():
            age_s = round(now_s - self._broker_at_s[account], 1)
            old = {"state": "unknown", "text": "the broker has said nothing since"} if age_s > BROKER_OLD_S else {}
            told[account] = said.model_copy(update={"age_s": age_s, **old})
        return told

    # ------------------------------------------------------------------ telling

    def _beat(self) -> None:
        if not self._document:
            return
        if self._trouble:
            return  # silence: the page says NOT LIVE by itself
        trust, broker = self._document["trust"], self._document["broker"]
        beat = {
            "now": self._document["now"],
            "feed_age_s": trust["feed_age_s"],
            "trust": trust,
            "broker": {each["account"]: each["age_s"] for each in broker},
        }
        self._push("beat", _json(beat))

    def _push(self, event: str, data: str) -> None:
        self._number += 1
        pushed = Pushed(self._id(), event, data)
        self._kept.append(pushed)
        self._kept_letters += len(data)
        while len(self._kept) > KEPT or self._kept_letters > KEPT_LETTERS:
            self._kept_letters -= len(self._kept.popleft().data)
        for queue in list(self._viewers):
            _put(queue, pushed)

    def _id(self) -> str:
        return f"{self.epoch}-{self._number}"


def _put(queue: asyncio.Queue[Pushed | None], pushed: Pushed | None) -> None:
    try:
        queue.put_nowait(pushed)
    except asyncio.QueueFull:  # empty it, and say that it must begin anew
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)


def _patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What is different; of rows only those that are, None for one that is gone."""
    patch: dict[str, Any] = {}
    for key, value in after.items():
        old = before.get(key)
        if key == "rows":
            rows = _rows(old or {}, value)
            if rows:
                patch[key] = rows
        elif key in _QUIET and _without_ages(old) == _without_ages(value):
            continue
        elif old != value:
            patch[key] = value
    if patch:
        patch["now"] = after["now"]
    return patch


def _rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Of a row that was there before only the fields that changed: mostly its price."""
    changed: dict[str, Any] = {}
    for id_, row in after.items():
        old = before.get(id_)
        if old is None:
            changed[id_] = row
        elif old != row:
            changed[id_] = {name: value for name, value in row.items() if old[name] != value}
    return changed | {id_: None for id_ in before if id_ not in after}


def _without_ages(value: Any) -> Any:
    match value:
        case str():
            return None  # `now`
        case {"feed_ok": ok, "up": is_up}:
            return ok, is_up
        case list():
            return [{k: v for k, v in each.items() if k != "age_s"} for each in value]
    return value


def _json(document: Any) -> str:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


@dataclass(kw_only=True)
class Hubs:
    """One for each user who looks."""

    desk: Desk
    epoch: str
    _by_user: dict[UserId, Hub] = field(default_factory=dict)

    def of(self, user: UserId) -> Hub:
        if user not in self._by_user:
            self._by_user[user] = Hub(desk=self.desk, user=user, epoch=self.epoch)
        return self._by_user[user]

    @property
    def viewers(self) -> int:
        return sum(hub.viewers for hub in self._by_user.values())

    def all(self) -> Sequence[Hub]:
        return list(self._by_user.values())

    async def close(self) -> None:
        for hub in self._by_user.values():
            await hub.close()
