"""docs/state-machine.md: the table in `core/machine.py`, for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from squareoff.core.events import MEANING, Event
from squareoff.core.machine import (
    CAUSE_LABEL,
    EXPOSURE_LABEL,
    FACT_LABEL,
    FINAL,
    STATE_LABEL,
    TABLE,
    Cell,
    Effect,
    Fact,
    Go,
    Never,
    NewRun,
    State,
    Stay,
    When,
)

GENERATED = "<!-- Made by tools/generate_docs.py from {source}. Change that, then run it again. -->"

STATE_MEANING: dict[State, str] = {
    State.CREATED: "Saved in SQL. No Redis keys, no timers.",
    State.READY: "Started: keys and timers exist. Waiting for BUY time.",
    State.RUNNING: "The entry is open: a BUY may be live, its outcome is not proven.",
    State.BOUGHT: "The entry is settled with a filled quantity above zero. Stop-loss and SELL time are watched.",
    State.SELL_PENDING: "The exit is open because SELL time came.",
    State.SL_PENDING: "The exit is open because the stop-loss was hit. The SELL timer went in the same step.",
    State.STOP_PENDING: "The exit is open because the user or the kill switch asked.",
    State.SOLD: "Proven flat by the timed SELL.",
    State.EXITED_BY_SL: "Proven flat, out at the stop-loss.",
    State.FAILED: "Automation gave up. Cause and exposure say what that means; while anything may be held, "
    "getting out goes on.",
    State.STOPPED: "Archived: Redis keys, symbol grouping and timers are deleted.",
}

EFFECT_MEANING: dict[Effect, str] = {
    Effect.ARM: "create its Redis keys, grouping and timers",
    Effect.SEND_ENTRY: "send the BUY that is licensed",
    Effect.VOID_ENTRY: "take the licence to buy, so that nobody buys",
    Effect.CANCEL_ENTRY: "cancel what is open of the BUY and wait for the proof",
    Effect.SEND_EXIT: "send a SELL for what is left, never more than is there",
    Effect.UPGRADE_EXIT: "the exit that is open goes on for a more urgent reason, without a pause",
    Effect.DROP_SELL_TIMER: "delete the SELL timer",
    Effect.LOOK_UP: "look the order up at the broker; send nothing",
    Effect.WATCH_LATE: "watch for a late order (cancel it) and a late fill (sell it)",
    Effect.RESCUE: "try to get out again, at once and then every 5 s",
    Effect.ALERT: "tell a person",
    Effect.ARCHIVE: "delete its Redis keys, grouping and timers once it is closed",
    Effect.NEW_RUN: "make a new run of the strategy, which begins in `ready`",
}

# the specification's section 4, and the steps in which each of its lines happens
SPECIFIED: tuple[tuple[str, str, str, tuple[tuple[State, Event, State], ...]], ...] = (
    ("created", "start", "ready", ((State.CREATED, Event.START, State.READY),)),
    (
        "ready",
        "BUY time",
        "bought",
        ((State.READY, Event.BUY, State.RUNNING), (State.RUNNING, Event.FILLED, State.BOUGHT)),
    ),
    (
        "bought",
        "STOPLOSS",
        "exited_by_sl",
        (
            (State.BOUGHT, Event.STOPLOSS, State.SL_PENDING),
            (State.SL_PENDING, Event.FILLED, State.EXITED_BY_SL),
        ),
    ),
    (
        "bought",
        "SELL time",
        "sold",
        ((State.BOUGHT, Event.SELL, State.SELL_PENDING), (State.SELL_PENDING, Event.FILLED, State.SOLD)),
    ),
    ("running", "failure", "failed", ((State.RUNNING, Event.SAFETY_ABORT, State.FAILED),)),
    (
        "running",
        "stop request",
        "stopped",
        ((State.RUNNING, Event.STOP, State.RUNNING), (State.RUNNING, Event.CALLED_OFF, State.STOPPED)),
    ),
    (
        "bought",
        "stop request",
        "stopped",
        ((State.BOUGHT, Event.STOP, State.STOP_PENDING), (State.STOP_PENDING, Event.FILLED, State.STOPPED)),
    ),
    ("sold", "stop request", "stopped", ((State.SOLD, Event.STOP, State.STOPPED),)),
    ("exited_by_sl", "stop", "stopped", ((State.EXITED_BY_SL, Event.STOP, State.STOPPED),)),
    ("failed", "stop", "stopped", ((State.FAILED, Event.STOP, State.STOPPED),)),
)


@dataclass(frozen=True)
class Leaf:
    """One answer of a cell and the facts under which it is given."""

    asked: tuple[tuple[Fact, bool], ...]
    answer: Go | Stay | Never

    @property
    def condition(self) -> str:
        """In words; empty where the cell always answers the same."""
        parts = [f"{'if' if true else 'unless'} {FACT_LABEL[fact]}" for fact, true in self.asked]
        return ", and ".join(parts)

    def asks(self, fact: Fact, true: bool) -> bool:
        return (fact, true) in self.asked


def leaves(cell: Cell, asked: tuple[tuple[Fact, bool], ...] = ()) -> Iterator[Leaf]:
    """Every answer a cell can give."""
    if isinstance(cell, When):
        yield from leaves(cell.then, (*asked, (cell.fact, True)))
        yield from leaves(cell.otherwise, (*asked, (cell.fact, False)))
    else:
        yield Leaf(asked, cell)


def moves() -> Iterator[tuple[State, Event, Leaf, State]]:
    """Every answer that changes the state, with the state it leads to. A new run counts as one from `stopped`."""
    for state, cells in TABLE.items():
        for event, cell in cells.items():
            for leaf in leaves(cell):
                if isinstance(leaf.answer, Go) and leaf.answer.to is not state:
                    yield state, event, leaf, leaf.answer.to


def answer_text(answer: Go | Stay | Never) -> str:
    """One answer in words, for a table's cell."""
    if isinstance(answer, Never):
        return f"cannot happen: {answer.reason}"
    if isinstance(answer, Stay):
        return f"nothing: {answer.reason}{_then(answer.effects)}"
    to = f"**`{answer.to}`**" + (" as a new run" if isinstance(answer, NewRun) else "")
    return f"→ {to}{_then(answer.effects)}"


def _then(effects: tuple[Effect, ...]) -> str:
    return "; " + ", ".join(f"`{effect}`" for effect in effects) if effects else ""


def cell_text(cell: Cell) -> str:
    """A whole cell in words; its answers are separated by a line break."""
    parts = []
    for leaf in leaves(cell):
        text = answer_text(leaf.answer)
        parts.append(f"{leaf.condition}: {text}" if leaf.condition else text)
    return "<br>".join(parts)


def page() -> str:
    _check_words()
    parts = [
        GENERATED.format(source="src/squareoff/core/machine.py"),
        "# The state machine",
        "One table decides everything: every state × every event has a cell, and *nothing happens* is a cell with a "
        "reason too. This page is that table. The test of each cell is in [test-cases.md](test-cases.md).",
        "![The states of a run and what moves it](state-machine.svg)",
        "## The states",
        _states(),
        "The end of a run is its *outcome*: the first final state it reached. It stays in the record when the run is "
        "archived to `stopped`. Beside its state every run carries its **exposure**, so that no state hides a "
        "position:",
        table(("exposure", "what it tells the trader"), [(f"`{e}`", text) for e, text in EXPOSURE_LABEL.items()]),
        "## The transitions of the specification",
        "The specification's own table (section 4), and the steps in which each line happens. "
        "Accepted is not filled: only fills lead to `bought`, `sold` and `exited_by_sl`.",
        _specified(),
        "## The events",
        table(("event", "when"), [(f"`{event}`", text) for event, text in MEANING.items()]),
        "## Every transition",
        "What changes the state, in the order of the states. *Asked first* is a fact of the run that decides.",
        _transitions(),
        "What the engine does for a transition:",
        table(("effect", "what is done"), [(f"`{effect}`", EFFECT_MEANING[effect]) for effect in Effect]),
        "## The whole matrix",
        "`→` the state it leads to · `↺` stays and something is done · `·` nothing happens, for a reason · "
        "`✕` cannot happen (the engine answers with `SAFETY_ABORT`) · `?` a fact decides, see below.",
        _matrix(),
        "## Every cell with its reason",
        *_cells(),
        "## Why a run is where it is",
        table(("cause", "what a trader reads"), [(f"`{cause}`", text) for cause, text in CAUSE_LABEL.items()]),
        "## As Mermaid",
        _mermaid(),
    ]
    return "\n\n".join(parts) + "\n"


def _check_words() -> None:
    missing = [*(set(State) - set(STATE_MEANING)), *(set(Effect) - set(EFFECT_MEANING))]
    if missing:
        raise SystemExit(f"tools/state_pages.py has no words for {missing}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _states() -> str:
    rows = [
        (f"`{state}`", STATE_LABEL[state], STATE_MEANING[state], "final" if state in FINAL else "") for state in State
    ]
    return table(("state", "shown as", "meaning", ""), rows)


def _specified() -> str:
    rows = []
    for before, event, after, steps in SPECIFIED:
        for state, step, to in steps:
            reached = {leaf.answer.to for leaf in leaves(TABLE[state][step]) if isinstance(leaf.answer, Go)}
            if to not in reached:
                raise SystemExit(f"the table does not lead from {state} by {step} to {to}, as the specification says")
        path = f"`{steps[0][0]}`" + "".join(f" –{step}→ `{to}`" for _, step, to in steps)
        rows.append((before, event, after, path))
    return table(("Current State", "Event", "Next State", "in steps"), rows)


def _transitions() -> str:
    rows = []
    for state, event, leaf, to in moves():
        answer = leaf.answer
        assert isinstance(answer, Go)
        to_text = f"`{to}`" + (" (new run)" if isinstance(answer, NewRun) else "")
        effects = ", ".join(f"`{effect}`" for effect in answer.effects)
        rows.append((f"`{state}`", f"`{event}`", leaf.condition, to_text, effects))
    return table(("current state", "event", "asked first", "next state", "effects"), rows)


def _matrix() -> str:
    rows = [(f"`{event}`", *(_mark(state, TABLE[state][event]) for state in State)) for event in Event]
    return table(("", *(f"`{state}`" for state in State)), rows)


def _mark(state: State, cell: Cell) -> str:
    marks: list[str] = []
    for leaf in leaves(cell):
        if isinstance(leaf.answer, Never):
            mark = "✕"
        elif isinstance(leaf.answer, Stay):
            mark = "·"
        elif leaf.answer.to is state:
            mark = "↺"
        else:
            mark = f"→ {leaf.answer.to}"
        if mark not in marks:
            marks.append(mark)
    return "<br>".join(marks) + ("<br>?" if len(marks) > 1 else "")


def _cells() -> Iterator[str]:
    for state in State:
        yield f"### {state}"
        yield f"*{STATE_LABEL[state]}.* {STATE_MEANING[state]}"
        yield table(("event", "what happens"), [(f"`{event}`", cell_text(TABLE[state][event])) for event in Event])


def _mermaid() -> str:
    events: dict[tuple[State, State], list[str]] = {}
    for state, event, leaf, to in moves():
        origin = State.STOPPED if isinstance(leaf.answer, NewRun) else state
        if event not in (names := events.setdefault((origin, to), [])):
            names.append(event)
    lines = ["```mermaid", "stateDiagram-v2", "    direction LR", "    [*] --> created"]
    lines += [f"    {state} --> {to}: {', '.join(names)}" for (state, to), names in events.items()]
    lines += ["    stopped --> [*]", "```"]
    return "\n".join(lines)
