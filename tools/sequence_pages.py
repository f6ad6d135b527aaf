"""docs/sequences.md: what happens, in order, drawn from journals that a real demo wrote.

The journals are kept in docs/journals (tools/record_demo.py writes them). `tests/apps/test_demo.py` plays the demo
again and compares the steps, so that the diagrams cannot lie.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from state_pages import GENERATED

from squareoff.core.machine import FINAL
from squareoff.ports import JournalKind

Entry = dict[str, Any]
"""One journal entry as JSON: at, run_id, engine, kind, text, data."""

K = JournalKind
ARROWS: dict[JournalKind, tuple[str, str]] = {
    K.WISH: ("You", "Engine"),
    K.TIMER: ("Scheduler", "Engine"),
    K.TICK: ("Listener", "Engine"),
    K.CLAIM: ("Engine", "Redis"),
    K.LICENCE: ("Engine", "SQL"),
    K.REQUEST: ("Engine", "Broker"),
    K.ANSWER: ("Broker", "Engine"),
    K.FILL: ("Broker", "Engine"),
    K.LOOK_UP: ("Engine", "Broker"),
    K.SAVED: ("Engine", "SQL"),
    K.RELEASE: ("Engine", "Redis"),
    K.REDIS: ("Engine", "Redis"),
    K.ALERT: ("Engine", "You"),
}
NOTES = frozenset({K.TRANSITION, K.RETRY, K.NOTHING, K.RECOVERY})
PARTICIPANTS = ("You", "Scheduler", "Listener", "Engine", "SQL", "Redis", "Broker")


@dataclass(frozen=True)
class Diagram:
    title: str
    act: str
    begins: str
    """The event that the first step carries."""
    says: str


DIAGRAMS = (
    Diagram("BUY", "plain", "BUY", "The licence is in SQL before the order leaves; `bought` comes from the fills."),
    Diagram("SELL", "plain", "SELL", "The exit was licensed when the position opened, so nothing waits for a disk."),
    Diagram(
        "STOPLOSS",
        "redis-flushed",
        "STOPLOSS",
        "The stop-loss is latched and claimed, and the order leaves; SQL is written beside it, never before it.",
    ),
    Diagram("STOP", "stopped", "STOP", "Squared off first; `stopped` is said when the fills prove it."),
    Diagram("RETRY", "retries", "BUY", "Only what is proven not placed is sent again, under the next attempt's id."),
    Diagram("SAFETY_ABORT", "logged-out", "BUY", "An expired login is not tried again: failed, and you hold nothing."),
    Diagram(
        "Recovery",
        "killed",
        "BUY",
        "Killed between send and answer. The send mark says that the BUY may be live, so it is looked for, not sent.",
    ),
)


def read(file: Path) -> list[Entry]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def export(demo: Path) -> dict[str, list[Entry]]:
    """The journal of every run in the folder of a demo that is over, with what the account's own entries tell."""
    from squareoff.config import Config
    from squareoff.wiring import open_strategy_store

    store = open_strategy_store(Config(data=demo))
    try:
        named = {run.plan.run_id: run.plan.name for run in store.runs()}
        journals: dict[str, list[Entry]] = {name: [] for name in named.values()}
        for _, one in store.journal(limit=100_000):
            entry = {
                "at": one.at.isoformat(timespec="milliseconds"),
                "run_id": one.run_id,
                "engine": str(one.engine),
                "kind": str(one.kind),
                "text": one.text,
                "data": dict(one.data),
            }
            for run_id, name in named.items():
                if one.run_id in (None, run_id):
                    journals[name].append(entry)
    finally:
        store.close()
    return journals


def keep(journals: dict[str, list[Entry]], folder: Path) -> None:
    """Write the journals that the diagrams are drawn from, one entry a line."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in {diagram.act for diagram in DIAGRAMS}:
        lines = [json.dumps(entry, default=str) for entry in journals[name]]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def steps(entries: Sequence[Entry], diagram: Diagram) -> list[Entry]:
    """The entries of one diagram: from the event that begins it to the end of the work on what came of it."""
    start = next(i for i, e in enumerate(entries) if e["data"].get("event") == diagram.begins)
    reached = False
    chosen: list[Entry] = []
    for entry in entries[start:]:
        chosen.append(entry)
        if entry["kind"] == K.TRANSITION and (entry["data"]["to"] == "bought" or entry["data"]["to"] in FINAL):
            reached = True
        if reached and entry["engine"] == "unlocking":
            return chosen
    raise ValueError(f"{diagram.title}: the journal of {diagram.act} does not tell the end of it")


def shape(chosen: Iterable[Entry]) -> list[str]:
    """The steps without what differs from day to day: ids, prices, times, and how often a question was repeated."""
    lines = []
    for entry in chosen:
        kind = JournalKind(entry["kind"])
        if kind not in ARROWS and kind not in NOTES:
            continue
        what = entry["data"].get("event") or entry["data"].get("to") or entry["data"].get("outcome") or ""
        line = f"{entry['engine']} {kind} {what}".strip()
        if not lines or lines[-1] != line:
            lines.append(line)
    return lines


def mermaid(chosen: Iterable[Entry]) -> str:
    rows = list(chosen)
    used = {name for e in rows for name in ARROWS.get(JournalKind(e["kind"]), ("Engine",))}
    lines = ["sequenceDiagram", *(f"    participant {name}" for name in PARTICIPANTS if name in used)]
    for entry in rows:
        kind, text = JournalKind(entry["kind"]), _safe(entry["text"])
        where = "" if entry["engine"] == "idle" else f"[{entry['engine']}] "
        if kind in NOTES:
            lines.append(f"    Note over Engine: {where}{text}")
        elif kind in ARROWS:
            source, target = ARROWS[kind]
            arrow = "-->>" if source == "Broker" else "->>"
            lines.append(f"    {source}{arrow}{target}: {where}{text}")
    return "\n".join(lines)


def _safe(text: str) -> str:
    """Without what Mermaid would read as its own."""
    return text.replace(";", ",").replace("#", "no. ").replace("\n", " ")


def page(journals: Path) -> str:
    parts = [
        GENERATED.format(source="docs/journals"),
        "# What happens, in order",
        "Each diagram is drawn from the journal that one run of a real `squareoff demo` wrote: real processes, a real "
        "Redis server, SQLite, and a paper broker of its own. In brackets stands the engine's internal state "
        "(specification, section 6). The journals are in [journals/](journals/); a test plays the demo again and "
        "compares the steps.",
    ]
    for diagram in DIAGRAMS:
        chosen = steps(read(journals / f"{diagram.act}.jsonl"), diagram)
        parts += [f"## {diagram.title}", f"{diagram.says} Run `squareoff demo --only {diagram.act}` to see it."]
        parts.append(f"```mermaid\n{mermaid(chosen)}\n```")
    return "\n\n".join(parts) + "\n"
