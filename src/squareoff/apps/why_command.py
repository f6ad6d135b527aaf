"""`squareoff why`: one screen that explains a run, each line with its cause.

`explain` is pure: a run and its journal in, lines out. What is noise on one screen (locks, saves, acknowledgements
that the next line proves) is left out of it; `--all` shows the journal as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from squareoff.apps.completion_command import strategy_names
from squareoff.apps.formats import clock, exact, local, money, plain, quantity, state_words, with_separators
from squareoff.core.bad_input import BadInput
from squareoff.core.events import MEANING, Cause, Event
from squareoff.core.machine import CAUSE_LABEL, EXPOSURE_LABEL, FINAL, STATE_LABEL, State
from squareoff.core.orders import Attempt, AttemptPhase
from squareoff.core.run import Run
from squareoff.core.strategy import StopLoss, StopLossKind
from squareoff.core.types import Exposure, RunId, SlotName
from squareoff.ports import JournalEntry, JournalKind

if TYPE_CHECKING:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.strategy import Strategy

HELP = """Explain one run of a strategy on one screen: what happened, what did not, and why.

\b
Examples:
  squareoff why morning              the latest run
  squareoff why morning --run 12     an earlier one
  squareoff why morning --all        the whole journal, with the states of the engine
"""

LINES_AT_MOST = 28
"""Of the story; with the orders and the result below it, it stays on one screen."""
_LONGEST_BLOCK = 5
_FILLS_WRITTEN_OUT = 4


class Section(StrEnum):
    STORY = "story"
    ORDERS = "orders"
    RESULT = "result"


class Weight(IntEnum):
    """What stays when the screen is too small for all."""

    DETAIL = 0
    NORMAL = 1
    ESSENTIAL = 2


class Tone(StrEnum):
    PLAIN = ""
    QUIET = "dim"
    GOOD = "green"
    WARNING = "yellow"
    ALARM = "bold red"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """`what` happened at `at` (None: no single instant), and `why`."""

    section: Section = Section.STORY
    at: datetime | None = None
    what: str
    why: str = ""
    tone: Tone = Tone.PLAIN
    weight: Weight = Weight.NORMAL
    same: str = ""
    """Lines with the same text here tell the same thing again; empty: never."""


def explain(run: Run, entries: Iterable[JournalEntry], *, zone: ZoneInfo) -> list[Line]:
    """The lines of one screen. `entries` are those of the run and of its account, oldest first."""
    story = _fitting(_folded(_Story(run, zone).told(entries), zone))
    nothing = [] if story else [Line(what="the journal holds nothing of this run", tone=Tone.WARNING)]
    return [*story, *nothing, *_orders(run), *_result(run, zone)]


def whole_story(entries: Iterable[JournalEntry]) -> list[Line]:
    """Every entry of the journal, with the engine's state."""
    return [
        Line(at=entry.at, what=plain(entry.text), why=f"{entry.kind}, engine {entry.engine}", tone=_tone_of(entry))
        for entry in entries
    ]


# ------------------------------------------------------------------ the story

_NOISE = frozenset({JournalKind.SAVED, JournalKind.RELEASE})
_TOLD_BY_OTHERS = frozenset(
    {Event.ACCEPTED, Event.PART_FILLED, Event.FILLED, Event.REFUSED, Event.UNCONFIRMED, Event.RETRY, Event.NOT_FOUND}
)
"""Signals that come with an answer, a fill or a request: that line tells them."""

_REQUEST_CAUSE: dict[str, str] = {
    Event.BUY: "BUY time came",
    Event.SELL: "SELL time came",
    Event.STOPLOSS: "the stop-loss was hit",
    Event.STOP: "you asked to stop",
    Event.KILL: "the kill switch was pressed",
    Event.RETRY: "the try before is proven not placed, or filled too little",
    Event.NOT_FOUND: "never seen at the broker, and the position is still there",
    Event.LATE_FILL: "the BUY filled late: it is sold at once",
}
_ACCOUNT_WHY = {JournalKind.REDIS: "Redis, the whole account"}
_PLAIN_WHY = {
    JournalKind.REDIS: "Redis",
    JournalKind.CLAIM: "exits never wait for Redis",
    JournalKind.RETRY: "only what is proven not placed is tried again",
}
_RESTART = "squareoff was started again"
_EXIT_CAUSE = {State.SELL_PENDING: "SELL time came", State.SL_PENDING: "the stop-loss was hit"}
_OF_A_STRATEGY = re.compile(r"strategy (\d+) ")


@dataclass
class _Story:
    """Joins a signal with what it led to, and keeps count of the fills."""

    run: Run
    zone: ZoneInfo
    bought: list[tuple[Decimal, Decimal]] = field(default_factory=list)
    sold: Decimal = Decimal(0)
    stop_price: Decimal | None = None
    state: State = State.CREATED
    signal: JournalEntry | None = None
    start: JournalEntry | None = None

    def told(self, entries: Iterable[JournalEntry]) -> Iterator[Line]:
        self.stop_price = self.run.plan.stop_loss.price_if_known
        for entry in entries:
            yield from self._entry(entry)
        yield from self._signal_alone()

    def _entry(self, entry: JournalEntry) -> Iterator[Line]:
        if entry.run_id is None:
            yield from self._of_account(entry)
        elif _is_signal(entry):
            yield from self._signal_alone()
            self.signal = entry
        elif entry.kind is JournalKind.TRANSITION:
            yield from self._transition(entry)
        elif entry.kind is JournalKind.NOTHING:
            yield from self._nothing(entry)
        elif entry.kind in _NOISE or _is_routine(entry):
            return  # the signal waits for what comes after the lock and the licence
        else:
            yield from self._signal_alone()
            yield from self._plain(entry)

    def _of_account(self, entry: JournalEntry) -> Iterator[Line]:
        of_another = _OF_A_STRATEGY.match(entry.text)
        if of_another is None or of_another[1] == str(self.run.plan.strategy_id):
            text = plain(entry.text)
            if entry.kind is JournalKind.RECOVERY:
                yield from self._recovery(entry, text)
                return
            why = _ACCOUNT_WHY.get(entry.kind, "the whole account")
            yield Line(at=entry.at, what=text, why=why, tone=_tone_of(entry), same=_without_numbers(text))

    def _recovery(self, entry: JournalEntry, text: str) -> Iterator[Line]:
        """A restart in two lines: what was found of this run, and when all was known again."""
        if text.startswith("start: "):
            self.start = entry
        elif text.startswith("found as they were saved"):
            yield from self._started_again(entry, "")  # this run was one of them, or has had its own line
        elif text.startswith("done "):
            yield from self._started_again(entry, "")
            why = "all that may be live was asked for"
            yield Line(at=entry.at, what=f"recovery {text}", why=why, tone=Tone.WARNING)
        elif not text.startswith("broker: "):
            yield Line(at=entry.at, what=text, why=_RESTART, tone=Tone.WARNING, same=_without_numbers(text))

    def _started_again(self, entry: JournalEntry, found: str) -> Iterator[Line]:
        start, self.start = self.start, None
        why = "" if start is None else plain(start.text.partition(": ")[2])
        if found or start is not None:
            at = entry.at if start is None else start.at
            yield Line(at=at, what=f"{_RESTART}{found and ': '}{found}", why=why or _RESTART, tone=Tone.WARNING)

    def _signal_alone(self) -> Iterator[Line]:
        """A signal that moved nothing and was refused nothing: it was an order's news, or asked for a cancel."""
        entry, why = self.signal, self._because()
        self.signal = None
        if entry is not None and _event(entry) not in _TOLD_BY_OTHERS:
            yield Line(at=entry.at, what=str(_event(entry)), why=why)

    def _transition(self, entry: JournalEntry) -> Iterator[Line]:
        before, to = State(entry.data["from"]), State(entry.data["to"])
        why = self._because(entry)
        self.signal, self.state = None, to
        label = "archived" if before in FINAL else STATE_LABEL[to]
        what = f"{before} -> {to}" + ("" if to is State.FAILED or label == to else f": {label}")
        yield Line(at=entry.at, what=what, why=why, tone=_tone_of_state(to), weight=Weight.ESSENTIAL)
        if (stop_price := entry.data.get("stop_price")) is not None:
            self.stop_price = Decimal(stop_price)
            yield self._stop_loss(entry)

    def _stop_loss(self, entry: JournalEntry) -> Line:
        level, average = Decimal(entry.data["stop_price"]), Decimal(entry.data["avg_fill_price"])
        plan = self.run.plan
        sum_of_it = stop_loss_sum(plan.stop_loss, average, plan.tick_size)
        if entry.data.get("stop_loss", str(plan.stop_loss)) != str(plan.stop_loss):
            sum_of_it = f"as {entry.data['stop_loss']} of {money(average)} average fill; it was edited later"
        return Line(what=f"stop-loss at {money(level)}", why=sum_of_it, weight=Weight.ESSENTIAL)

    def _because(self, transition: JournalEntry | None = None) -> str:
        """Why it came to a transition, from the signal before it and what is known by then."""
        signal = self.signal
        event = _event(signal)
        if transition is not None and State(transition.data["from"]) in FINAL:
            return MEANING[event] if event else "the run is over"
        if seen := self._stop_seen_before(transition, event):
            return seen
        price = None if signal is None or signal.data.get("price") is None else Decimal(signal.data["price"])
        if event is Event.FILLED:
            return self._filled(State(transition.data["to"]) if transition else None)
        if event is Event.STOPLOSS and price is not None:
            level = "" if self.stop_price is None else f" {money(self.stop_price)}"
            return f"the price {money(price)} is at or below the stop-loss{level}"
        if event is Event.START:
            return "it was started for this day"
        if event is Event.BUY and price is not None:
            return f"BUY time came, the last price is {money(price)}"
        cause = None if transition is None else transition.data.get("cause")
        if cause == Cause.STOP_LOSS_NOT_BELOW_PRICE and price is not None and self.stop_price is not None:
            return f"{CAUSE_LABEL[Cause(cause)]}: {money(price)} is not above {money(self.stop_price)}"
        label = CAUSE_LABEL[Cause(cause)] if cause else (MEANING[event] if event else "")
        detail = _detail(signal)
        return f"{label}: {detail}" if label and detail else label or detail

    def _stop_seen_before(self, transition: JournalEntry | None, event: Event | None) -> str:
        """A stop-loss that was latched takes over whatever event comes next."""
        seen = self.run.stop_seen
        if transition is None or transition.data["to"] != State.SL_PENDING or event is Event.STOPLOSS or seen is None:
            return ""
        level = "" if self.stop_price is None else f" {money(self.stop_price)}"
        over = f"; it overrides {event}" if event in (Event.SELL, Event.STOP, Event.KILL) else ""
        return f"the price {money(seen.price)} was at or below the stop-loss{level}{over}"

    def _filled(self, to: State | None) -> str:
        bought = sum((qty for qty, _ in self.bought), Decimal(0))
        if to is State.BOUGHT:
            return f"{quantity(bought)} of {quantity(self.run.plan.quantity)} filled{average_sum(self.bought)}"
        return f"the fills prove it: {quantity(self.sold)} of {quantity(bought)} sold"

    def _nothing(self, entry: JournalEntry) -> Iterator[Line]:
        event = _event(entry) or _event(self.signal)
        blocked = entry.data.get("blocked")
        self.signal = None
        if event in (Event.ACCEPTED, Event.PART_FILLED):
            return
        text = plain(entry.text)
        if blocked is not None or event is None:
            what, why = (f"{event} waits", text.partition(": ")[2] or text) if blocked is not None else (text, "")
            yield Line(at=entry.at, what=what, why=why, tone=Tone.WARNING, same=f"{what}{why}")
            return
        weight = Weight.DETAIL if event in _TOLD_BY_OTHERS else Weight.NORMAL
        tone = Tone.QUIET
        yield Line(
            at=entry.at, what=f"{event}: nothing done", why=text, tone=tone, weight=weight, same=f"{event}{text}"
        )

    def _plain(self, entry: JournalEntry) -> Iterator[Line]:
        text = plain(entry.text)
        tone, same = _tone_of(entry), _without_numbers(text)
        if entry.kind is JournalKind.REQUEST:
            yield self._request(entry)
        elif entry.kind is JournalKind.FILL:
            yield self._fill(entry)
        elif entry.kind is JournalKind.ANSWER:
            weight = Weight.DETAIL if entry.data.get("outcome") == "Answered" else Weight.NORMAL
            yield Line(at=entry.at, what=text, why="the broker's answer", tone=tone, weight=weight, same=same)
        elif entry.kind is JournalKind.LOOK_UP:
            why = "look-up: an order whose outcome is unknown is never sent again blindly"
            yield Line(at=entry.at, what=text, why=why, tone=tone, same=same)
        elif entry.kind is JournalKind.ALERT:
            if entry.data.get("severity") != "warning":  # a warning repeats what the line before has told
                yield Line(at=entry.at, what=f"ALARM {text}", why="you were told", tone=tone, weight=Weight.ESSENTIAL)
        elif entry.kind is JournalKind.RECOVERY:
            yield from self._started_again(entry, text)
        else:
            yield Line(at=entry.at, what=text, why=_PLAIN_WHY.get(entry.kind, ""), tone=tone, same=same)

    def _request(self, entry: JournalEntry) -> Line:
        text = plain(entry.text)
        if entry.data.get("cancel"):
            return Line(at=entry.at, what=text, why="what is not filled is called back", same=_without_numbers(text))
        cause, attempt = str(entry.data.get("cause", "")), int(entry.data.get("attempt", 1))
        why = _REQUEST_CAUSE.get(cause, cause)
        if cause in (Event.SELL, Event.STOPLOSS, Event.STOP):
            why = _EXIT_CAUSE.get(self.state, why)
        if attempt > 1:
            why += f"; order {attempt} of this side"
        what = f"sent {text}"
        if "qty" in entry.data:
            qty = quantity(Decimal(entry.data["qty"]))
            what = f"sent {entry.data['side']} {qty} {self.run.plan.symbol} at market, order {entry.data['order']}"
        return Line(at=entry.at, what=what, why=why, same=_without_numbers(f"{what}{cause}"))

    def _fill(self, entry: JournalEntry) -> Line:
        data = entry.data
        qty, price = Decimal(data["qty"]), Decimal(data["price"])
        if data["side"] == "BUY":
            self.bought.append((qty, price))
        else:
            self.sold += qty
        why = f"trade {plain(str(data.get('trade_id', '')))} of order {data.get('order', '')}"
        filled_at = datetime.fromisoformat(data["filled_at"]) if "filled_at" in data else entry.at
        if abs(entry.at - filled_at) >= timedelta(seconds=1):
            why += f", at {clock(filled_at, self.zone)} by the broker's clock"
        what = f"{data['side']} filled: {quantity(qty)} at {money(price)}"
        return Line(at=entry.at, what=what, why=why, tone=Tone.GOOD, weight=Weight.ESSENTIAL)


def stop_loss_sum(stop_loss: StopLoss, average: Decimal, tick_size: Decimal) -> str:
    """How the level comes out of the average fill, so that it can be checked by hand."""
    if stop_loss.kind is StopLossKind.PRICE:
        return "the price you gave"
    level = stop_loss.price_for(average, tick_size)
    if stop_loss.kind is StopLossKind.PERCENT:
        raw, how = average * (1 - stop_loss.value / 100), f"x (1 - {stop_loss.value:f} %)"
    else:
        raw, how = average - stop_loss.value, f"- {money(stop_loss.value)} points"
    rounded = f", rounded up to the tick of {money(tick_size)} = {money(level)}" if raw != level else ""
    return f"{money(average)} average fill {how} = {money(raw)}{rounded}"


def average_sum(fills: Sequence[tuple[Decimal, Decimal]]) -> str:
    """How the average comes out of several fills; empty for one, which is its own average."""
    if len({price for _, price in fills}) < 2:
        return ""
    total = sum((qty for qty, _ in fills), Decimal(0))
    average = sum((qty * price for qty, price in fills), Decimal(0)) / total
    if len(fills) > _FILLS_WRITTEN_OUT:
        return f" in {len(fills)} parts, {money(average)} on average"
    parts = " + ".join(f"{quantity(qty)} x {money(price)}" for qty, price in fills)
    return f": ({parts}) / {quantity(total)} = {money(average)}"


def _is_signal(entry: JournalEntry) -> bool:
    return "event" in entry.data and "source" in entry.data


def _is_routine(entry: JournalEntry) -> bool:
    """A lock that was had and a licence that was given."""
    if entry.kind is JournalKind.CLAIM:
        return "without Redis" not in entry.text
    return entry.kind is JournalKind.LICENCE and "fence" in entry.data


def _event(entry: JournalEntry | None) -> Event | None:
    word = None if entry is None else entry.data.get("event")
    return None if word is None else Event(word)


def _detail(signal: JournalEntry | None) -> str:
    """What the engine wrote after the event and its circumstances."""
    detail = "" if signal is None else plain(signal.text.partition(" : ")[2])
    return "" if detail == "by you" else with_separators(detail)


def _without_numbers(text: str) -> str:
    """What stays the same when the same happens again under another order id or after another pause."""
    return re.sub(r"SQ[A-Z0-9]{13}|\d+(\.\d+)?", "#", text)


_TONES = {
    JournalKind.ALERT: Tone.ALARM,
    JournalKind.RETRY: Tone.WARNING,
    JournalKind.LOOK_UP: Tone.WARNING,
    JournalKind.REDIS: Tone.WARNING,
    JournalKind.RECOVERY: Tone.WARNING,
    JournalKind.NOTHING: Tone.QUIET,
}


def _tone_of(entry: JournalEntry) -> Tone:
    if entry.kind is JournalKind.ANSWER and entry.data.get("outcome", "Answered") != "Answered":
        return Tone.WARNING
    return _TONES.get(entry.kind, Tone.PLAIN)


def _tone_of_state(state: State) -> Tone:
    return {State.SOLD: Tone.GOOD, State.SL_PENDING: Tone.WARNING, State.EXITED_BY_SL: Tone.WARNING}.get(
        state, Tone.WARNING if state is State.FAILED else Tone.PLAIN
    )


# ------------------------------------------------------------------ one screen


def _folded(lines: Iterable[Line], zone: ZoneInfo) -> list[Line]:
    """What happens again and again (look-ups, refused tries of the rescue) is told once, with how often and until
    when."""
    told, rest = [], list(lines)
    while rest:
        size, times = _repetition(rest)
        block, last = rest[:size], rest[size * times - 1]
        if times > 1 and size == 1:
            until = "" if last.at is None else f" until {clock(last.at, zone)}"
            told.append(replace(block[0], what=f"{block[0].what} ({times} times{until})"))
        else:
            told += block
            if times > 1:
                again = "the same once more" if times == 2 else f"the same again {times - 1} times"
                told.append(Line(at=last.at, what=again, why="the last of them at this time", tone=Tone.QUIET))
        rest = rest[size * times :]
    return told


def _repetition(lines: Sequence[Line]) -> tuple[int, int]:
    """How many lines the block at the beginning has, and how often it comes."""
    best = (1, 1)
    for size in range(1, min(_LONGEST_BLOCK, len(lines) // 2) + 1):
        block = [line.same for line in lines[:size]]
        if not all(block):
            break
        times = 1
        while [line.same for line in lines[size * times : size * (times + 1)]] == block:
            times += 1
        saves = (times - 1) * size - (size > 1)  # a block needs a line that says so
        if saves > (size > 1) and size * times > best[0] * best[1]:
            best = (size, times)
    return best


def _fitting(lines: list[Line]) -> list[Line]:
    """Details go first; then the middle, since a story is understood by how it began and how it ended."""
    if len(lines) > LINES_AT_MOST:
        lines = [line for line in lines if line.weight > Weight.DETAIL]
    if len(lines) <= LINES_AT_MOST:
        return lines
    essential = [i for i, line in enumerate(lines) if line.weight is Weight.ESSENTIAL]
    others = [i for i, line in enumerate(lines) if line.weight is not Weight.ESSENTIAL]
    room = max(LINES_AT_MOST - len(essential), 0)
    ends = {*others[: room // 2], *others[len(others) - (room - room // 2) :]} if room else set()
    shown = sorted({*essential, *ends})
    return _with_gaps(lines, shown if len(shown) <= LINES_AT_MOST else [*shown[:8], *shown[8 - LINES_AT_MOST :]])


def _with_gaps(lines: Sequence[Line], shown: Sequence[int]) -> list[Line]:
    told = []
    for before, this in pairwise([-1, *shown, len(lines)]):
        if this - before > 1:
            left_out = Line(what=f"({this - before - 1} more lines: --all shows them)", tone=Tone.QUIET)
            told.append(left_out)
        if this < len(lines):
            told.append(lines[this])
    return told


# ------------------------------------------------------------------ orders and result

_PHASE_LABEL = {
    AttemptPhase.LICENSED: "not sent",
    AttemptPhase.UNKNOWN: "outcome unknown, it may be live",
    AttemptPhase.OPEN: "open at the broker",
    AttemptPhase.DONE: "over",
}


def _orders(run: Run) -> Iterator[Line]:
    for name in SlotName:
        side = "BUY" if name is SlotName.ENTRY else "SELL"
        for order in run.slot(name).attempts:
            if order.phase is AttemptPhase.LICENSED and run.state in FINAL and not order.filled_qty:
                continue  # allowed, never needed
            yield _order(order, side)


def _order(order: Attempt, side: str) -> Line:
    filled = "nothing filled"
    if order.fills:
        parts = [(fill.qty, fill.price) for fill in order.fills]
        average = sum((qty * price for qty, price in parts), Decimal(0)) / order.filled_qty
        filled = f"{quantity(order.filled_qty)} filled at {money(average)}"
    told = [f"broker's id {order.broker_order_id}" if order.broker_order_id else "", filled, order.reason]
    what = f"{side} {quantity(order.qty)}, order {order.client_order_id}: {_PHASE_LABEL[order.phase]}"
    tone = Tone.ALARM if order.phase is AttemptPhase.UNKNOWN else Tone.PLAIN
    return Line(section=Section.ORDERS, what=what, why=plain("; ".join(filter(None, told))), tone=tone)


def _result(run: Run, zone: ZoneInfo) -> Iterator[Line]:
    yield _final_state(run)
    yield _exposure(run)
    if run.pnl_gross is not None:
        yield _pnl(run)
    yield from (replace(line, section=Section.RESULT, tone=Tone.QUIET) for line in _triggers(run, zone))


def _final_state(run: Run) -> Line:
    state = run.outcome or run.state
    is_skipped = state is State.FAILED and not run.entry.filled_qty and run.exposure is Exposure.FLAT
    what = f"{state}: nothing was bought" if is_skipped else state_words(state)
    if state is not run.state:
        what += f" ({run.state} since)"
    why = "" if run.cause is None else CAUSE_LABEL[run.cause]
    if run.detail and run.detail != "by you":
        why += f": {with_separators(plain(run.detail))}"
    return Line(section=Section.RESULT, what=what, why=why, tone=Tone.QUIET if is_skipped else _tone_of_state(state))


def _exposure(run: Run) -> Line:
    held = run.remaining_qty
    what = EXPOSURE_LABEL[run.exposure]
    if held > 0 and run.exposure in (Exposure.LONG, Exposure.UNKNOWN):
        what += f": {quantity(held)} {run.plan.symbol}"
    bought, sold = run.entry.filled_qty, run.exit.filled_qty
    why = f"bought {quantity(bought)}, sold {quantity(sold)}" if bought else "nothing was bought"
    if run.outside_qty:
        why += f", {quantity(run.outside_qty)} outside squareoff"
    is_safe = run.exposure in (Exposure.FLAT, Exposure.HANDED_OVER) or run.state is State.BOUGHT
    return Line(section=Section.RESULT, what=what, why=why, tone=Tone.PLAIN if is_safe else Tone.ALARM)


def _pnl(run: Run) -> Line:
    assert run.pnl_gross is not None
    sides = f"({money(run.exit.avg_fill_price)} - {money(run.entry.avg_fill_price)}) x {quantity(run.exit.filled_qty)}"
    tone = Tone.GOOD if run.pnl_gross > 0 else Tone.PLAIN
    what = f"P&L {money(run.pnl_gross)}"
    return Line(section=Section.RESULT, what=what, why=f"{sides}; gross, before charges", tone=tone)


def _triggers(run: Run, zone: ZoneInfo) -> Iterator[Line]:
    """What did not happen, and why; or, while it can still happen, when it will."""
    plan, bought = run.plan, run.entry.filled_qty > 0
    is_over = run.state in FINAL
    if run.state in (State.CREATED, State.READY):
        yield Line(what=f"BUY comes at {clock(plan.buy_at, zone)}")
    elif run.state is State.BOUGHT:
        yield Line(what=f"SELL comes at {clock(plan.sell_at, zone)}", why=_guard(run))
    elif is_over and not bought:
        yield Line(what="no BUY, so no SELL and no stop-loss", why="there was nothing to sell")
    elif is_over and run.outcome is not State.SOLD and run.cause is not Cause.SELL_TIME:
        why = "the position had gone before" if run.cause is None else CAUSE_LABEL[run.cause]
        if run.stop_seen is not None:
            why = f"the stop-loss {'came first' if run.stop_seen.at < plan.sell_at else 'overrides it'}"
        if run.exposure is not Exposure.LONG:
            yield Line(what=f"no SELL at {clock(plan.sell_at, zone)}", why=why)
    if is_over and bought and run.stop_seen is None and run.stop_price is not None:
        why = "no price at or below it was seen while the position was held"
        yield Line(what=f"no stop-loss at {money(run.stop_price)}", why=why)


def _guard(run: Run) -> str:
    return "" if run.stop_price is None else f"or the stop-loss before, at {money(run.stop_price)}"


# ------------------------------------------------------------------ the command


def register(app: typer.Typer) -> None:
    app.command("why", help=HELP, short_help="Explain one run on one screen.")(_why)


def _why(
    context: typer.Context,
    strategy: Annotated[str, typer.Argument(help="Name or id.", autocompletion=strategy_names)],
    run: Annotated[int | None, typer.Option("--run", metavar="N", help="Which run. [the latest]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
    show_all: Annotated[bool, typer.Option("--all", help="The whole journal, with engine states.")] = False,
) -> None:
    from squareoff import wiring
    from squareoff.apps.strategies_command import find_strategy

    store = wiring.open_strategy_store(context.obj)
    found = find_strategy(store, strategy)
    chosen = _chosen(store, found, run)
    if chosen is None:
        _never_ran(store, found, as_json=as_json)
        return
    zone = wiring.zone_of(chosen.plan.symbol)
    entries = journal_of(store, chosen)
    lines = explain(chosen, entries, zone=zone)
    if show_all:
        lines = [*whole_story(entries), *(line for line in lines if line.section is not Section.STORY)]
    if as_json:
        _print_json(chosen, lines, entries if show_all else None, zone)
    else:
        _print(chosen, lines, zone)


def _chosen(store: StrategyStore, strategy: Strategy, run: int | None) -> Run | None:
    if run is None:
        return next(iter(store.runs(strategy.id, limit=1)), None)
    if not -(2**63) <= run < 2**63:  # more than a database takes
        raise BadInput("run", f"there is no run {str(run)[:30]}")
    chosen = store.run(RunId(run))
    if chosen.plan.strategy_id != strategy.id:
        raise BadInput("run", f"run {run} is one of {chosen.plan.name}, not of {strategy.name}")
    return chosen


def _never_ran(store: StrategyStore, strategy: Strategy, *, as_json: bool) -> None:
    from squareoff import wiring
    from squareoff.apps.formats import clock, plain, print_json

    if as_json:
        print_json({"strategy": strategy.name, "run": None, "lines": []})
    else:
        typer.echo(f"{strategy.name} has not run yet: {STATE_LABEL[State.CREATED]}.")
        zone = wiring.zone_of(strategy.symbol)
        for _, entry in store.journal(strategy_id=strategy.id):  # a START that came to nothing is told nowhere else
            typer.echo(f"  {entry.at.astimezone(zone):%Y-%m-%d} {clock(entry.at, zone)[:8]} {plain(entry.text)}")


_PAGE = 5_000


def journal_of(store: StrategyStore, run: Run) -> list[JournalEntry]:
    """The story of a run, with what happened to its whole account meanwhile (restarts, the loss of Redis).

    In the order of time: a worker that stood still writes its last lines after its successor's first ones."""
    own = [pair for page in _pages(store, run_id=run.plan.run_id) for pair in page]
    if not own:
        return []
    first, last = own[0][0], own[-1][0] if run.is_closed else None
    story = list(own)
    for page in _pages(store, after_seq=first):
        story += [(seq, e) for seq, e in page if e.run_id is None and e.account == run.plan.account]
        if last is not None and page[-1][0] > last:
            break
    in_time = [(seq, entry) for seq, entry in story if last is None or seq <= last]
    return [entry for _, entry in sorted(in_time, key=lambda pair: (pair[1].at, pair[0]))]


def _pages(
    store: StrategyStore, *, run_id: RunId | None = None, after_seq: int = 0
) -> Iterator[Sequence[tuple[int, JournalEntry]]]:
    while page := store.journal(run_id, after_seq=after_seq, limit=_PAGE):
        yield page
        after_seq = page[-1][0]


def _print(run: Run, lines: Sequence[Line], zone: ZoneInfo) -> None:
    from rich.table import Table
    from rich.text import Text

    from squareoff.apps.formats import console

    out, plan = console(), run.plan
    out.print(f"{plan.name}, run {plan.run_id} on {plan.trading_day}: {_plan_sentence(run, zone)}", style="bold")
    for section in Section:
        rows = [line for line in lines if line.section is section]
        if not rows:
            continue
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(ratio=5)
        table.add_column(ratio=4)
        for line in rows:
            at = "" if line.at is None else clock(line.at, zone)
            table.add_row(Text(at, style="dim"), Text(line.what, style=line.tone), Text(line.why, style="dim"))
        out.print(f"\n{section.value}", style="bold")
        out.print(table)


def _plan_sentence(run: Run, zone: ZoneInfo) -> str:
    plan = run.plan
    buy, sell = (instant.astimezone(zone) for instant in (plan.buy_at, plan.sell_at))
    return (
        f"buy {quantity(plan.quantity)} {plan.symbol} at {buy:%H:%M:%S}, sell at {sell:%H:%M:%S} ({sell:%Z}), "
        f"stop-loss {plan.stop_loss}, {plan.product}, account {plan.account}"
    )


def _print_json(run: Run, lines: Sequence[Line], entries: Sequence[JournalEntry] | None, zone: ZoneInfo) -> None:
    from squareoff.apps.formats import print_json, run_row

    document: dict[str, Any] = {"strategy": run.plan.name, "run": run_row(run, zone), "zone": zone.key}
    document["lines"] = [
        {"section": str(line.section), "at": local(line.at, zone), "what": line.what, "why": line.why} for line in lines
    ]
    if entries is not None:
        document["journal"] = [_entry_row(entry, zone) for entry in entries]
    print_json(document)


def _entry_row(entry: JournalEntry, zone: ZoneInfo) -> dict[str, Any]:
    data = {key: exact(value) if isinstance(value, Decimal) else value for key, value in entry.data.items()}
    return {
        "at": local(entry.at, zone),
        "kind": str(entry.kind),
        "engine": str(entry.engine),
        "run_id": entry.run_id,
        "text": entry.text,
        "data": data,
    }
