"""docs/benchmarks.md, from the figures of one run."""

from __future__ import annotations

from typing import Any


def page(results: dict[str, Any]) -> str:
    return "\n".join(
        [
            *_head(results),
            *_tick_to_order(*(results[f"tick_to_order{kind}"] for kind in ("", "_silent", "_crowded"))),
            *_timers(results["timers"]),
            *_replay(results["replay"]),
            *_recovery(results["recovery"]),
            *_memory(results["memory"]),
            *_console(results["console"]),
            *_noise(results),
        ]
    )


def _head(results: dict[str, Any]) -> list[str]:
    machine = results["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in results["packages"].items())
    return [
        "# Benchmarks",
        "",
        "*Written by `make bench`; do not edit. Every figure that counts is a ratio to a floor measured in the same",
        "run: absolute times of a shared machine prove nothing. Nothing here is asserted in a test.*",
        "",
        f"{results['at'][:10]} · revision {results['revision'] or 'not known'} · {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['system']} · Python {machine['python']} · {packages}",
        "",
        "Again: `make bench`. One alone: `python -m bench.tick_to_order` (`timers`, `replay`, `recovery`, `memory`,",
        "`console`); `--help` says how. Figures are medians over the rounds, in brackets the least and the greatest",
        "round.",
        "",
    ]


def _tick_to_order(live: dict[str, Any], silent: dict[str, Any], crowded: dict[str, Any]) -> list[str]:
    lines = [
        "## From the tick to the order on the wire",
        "",
        "The whole engine: the real worker process, a real Redis (append-only file, fsync `everysec`), SQLite with",
        "`synchronous=FULL`, a hand-written feed and broker on loopback. Each sample is the stop-loss of another run",
        f"that was really bought ({live['runs']} runs on {live['symbols']} symbols, {live['rounds']} rounds of "
        f"{live['samples']} samples). Measured from just before the",
        "feed writes the tick until the broker has the whole request. The floor has the same feed, broker and Redis:",
        "raw blocking sockets, one small script on Redis, a canned order; it checks and keeps nothing.",
        "",
        "| feed | | engine, µs | floor, µs | x floor | goal |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in (
        (f"a tick every {live['gap_ms']:g} ms, every {live['between'] + 1}th trips a stop-loss", live),
        (f"silent, a stop-loss {silent['gap_ms']:g} ms after the order of the last", silent),
        (f"crowded, a stop-loss {crowded['gap_ms']:g} ms after the order of the last", crowded),
    ):
        for part, goal, most in (("p50", "≤ 3", 3), ("p99", "≤ 5", 5)):
            figures = result[part]
            lines.append(
                f"| {name} | {part} | {_spread(figures['engine_us'])} | {_spread(figures['floor_us'])} | "
                f"**{_spread(figures['x'], 2)}** | {goal}: {_met(figures['x']['median'] <= most)} |"
            )
    return [
        *lines,
        "",
        "Crowded, each stop-loss meets the answers and fills of those before it; SQL and Redis catch up when no order",
        "leaves any more (docs/architecture.md, orders before bookkeeping).",
        "",
        "No disk is waited for between a tick and its order. Checked by hand on 2026-11-23, with `strace -f -e",
        "trace=fsync,fdatasync` on the worker over 170 stop-losses: all 746 syncs were in the SQL thread, none in the",
        "thread that sends orders. In 168 of the 170 times from tick to order no sync was going on at all; in the",
        "other two the SQL thread had one under way (what it wrote was not looked at).",
        "",
    ]


def _timers(result: dict[str, Any]) -> list[str]:
    lines = [
        "## Ten thousand timers at one instant",
        "",
        f"{result['due']:,} SELL times at the same instant beside {result['backlog']:,} later ones: how late they are "
        "handed over, by",
        "the real scheduler, each after `due` was asked. The floor is `call_at`, which decides nothing. Both on",
        "asyncio's own loop.",
        "",
        "| | scheduler, ms | `call_at`, ms | x floor | goal |",
        "|---|---|---|---|---|",
    ]
    for name in ("p50", "last"):
        figures = result[name]
        goal = f"≤ 0.5: {_met(figures['x']['median'] <= 0.5)}" if name == "last" else ""
        lines.append(
            f"| {name} | {_spread(figures['engine_ms'], 1)} | {_spread(figures['floor_ms'], 1)} | "
            f"**{_spread(figures['x'], 2)}** | {goal} |"
        )
    return [*lines, ""]


def _replay(result: dict[str, Any]) -> list[str]:
    lines = [
        "## Replay",
        "",
        f"{result['ticks']:,} ticks of one symbol through the full engine on the memory adapters, the journal kept "
        f"({result['journal_lines']:,} lines).",
        "",
        "The rate is of the ticks while nothing triggers.",
        "",
        "| armed on the symbol | ticks/s | x a bare loop over the ticks | goal |",
        "|---|---|---|---|",
    ]
    for name, armed in (("with_none", 0), ("with_armed", result["armed"])):
        figures = result[name]
        lines.append(
            f"| {armed:,} | **{_spread(figures['ticks_per_s'])}** | {_spread(figures['x_bare_loop'])} | ≥ 100,000/s |"
        )
    return [
        *lines,
        "",
        f"The last tick trips all {result['armed']:,}: {_spread(result['all_out_ms_each'], 2)} ms for each, from the "
        "tick to proven flat,",
        f"with order, fill, states and journal. The whole day, START, BUY and exit of all {result['armed']:,} in it: "
        f"{_spread(result['whole_day_ticks_per_s'])} ticks/s.",
        "",
    ]


def _recovery(result: dict[str, Any]) -> list[str]:
    return [
        f"## A start with {result['runs']:,} strategies that hold something",
        "",
        "From the first question to SQL until entries are allowed again: runs read, licences taken over in one",
        "transaction, every stop-loss armed, the broker asked (it answers from memory), Redis written anew, the story",
        "in the journal. No order is in quarantine. The floor reads the same rows with the same library and makes",
        "nothing of them. Each round is a process of its own, with the collector off, as a worker begins.",
        "",
        "| | s | x |",
        "|---|---|---|",
        f"| recovery | {_spread(result['engine_s'], 2)} | **{_spread(result['x'], 1)}**, "
        f"goal ≤ 6: {_met(result['x']['median'] <= 6)} |",
        f"| the rows alone, with their types | {_spread(result['floor_s'], 2)} | 1 |",
        f"| the same as runs, as the engine reads them | {_spread(result['as_runs_s'], 2)} | |",
        f"| the same by the driver alone, as text | {_spread(result['driver_s'], 2)} | "
        f"recovery: {_spread(result['x_driver'], 0)} |",
        "",
    ]


def _memory(result: dict[str, Any]) -> list[str]:
    ours, kept, least = result["engine_bytes"], result["with_journal_bytes"], result["floor_bytes"]
    return [
        "## Memory of one armed strategy",
        "",
        f"Bought, stop-loss in the index, timers set, order and fill known; {result['armed']:,} of them.",
        "",
        "| | Python's objects, kB | process (RSS), kB |",
        "|---|---|---|",
        f"| engine, memory adapters | {_kb(ours['python'])} | {_kb(ours['rss'])} |",
        f"| with the journal kept in memory, as replay does | {_kb(kept['python'])} | {_kb(kept['rss'])} |",
        f"| floor: a small object with ten fields and an index entry | {_kb(least['python'])} | {_kb(least['rss'])} |",
        "",
        "RSS includes what Python's allocator holds back after the buying.",
        "",
    ]


def _console(result: dict[str, Any]) -> list[str]:
    rows, floor = result["rows"], result["rows"]["floor_ms"]
    ways = [("floor: one field of Redis, looked at as often", floor), ("a client has the event", rows["event_ms"])]
    if rows["painted"]:
        ways.append(("the row is painted (Chromium)", rows["painted"]["ms"]))
    without, seen = result["viewers"]["without"], result["viewers"]["with"]
    lines = [
        "## The console",
        "",
        f"{rows['rows']:,} positions, every price changing {rows['hz']} times a second, one viewer; from the price in",
        "Redis to where it is seen. The API looks ten times a second: half of that is waiting.",
        "",
        "| | p50, ms | p95, ms | p50, x floor |",
        "|---|---|---|---|",
        *(
            f"| {name} | {way['p50']:.0f} | {way['p95']:.0f} | {way['p50'] / floor['p50']:.1f} |"
            for name, way in ways
            if way
        ),
        "",
        f"The API's process takes {rows['server_cpu_share']:.0%} of a core for that"
        + (f"; the page draws {rows['painted']['frames_per_s']:.0f} frames a second." if rows["painted"] else "."),
        "",
        f"Tick → order with nobody looking, and with {result['viewers']['viewers']} open streams on the same machine:",
        "",
        "| | nobody, x floor | viewers, x floor |",
        "|---|---|---|",
    ]
    for part in ("p50", "p99"):
        lines.append(f"| {part} | {_spread(without[part]['x'], 2)} | {_spread(seen[part]['x'], 2)} |")
    return [*lines, ""]


def _noise(results: dict[str, Any]) -> list[str]:
    rows = [
        ("tick → order, p50", results["tick_to_order"]["p50"]["floor_us"], results["tick_to_order"]["load"]),
        ("tick → order, p99", results["tick_to_order"]["p99"]["floor_us"], results["tick_to_order"]["load"]),
        ("timers, last", results["timers"]["last"]["floor_ms"], results["timers"]["load"]),
        ("replay, bare loop", results["replay"]["bare_loop_ticks_per_s"], results["replay"]["load"]),
    ]
    return [
        "## How noisy it was",
        "",
        "The floors do the same work in every round, so their spread is the machine's, not ours. Load is the number of",
        "processes wanting a core over the last minute, ours among them.",
        "",
        "| floor | greatest / least round | load |",
        "|---|---|---|",
        *(f"| {name} | {spread['most'] / spread['least']:.2f} | {load:.1f} |" for name, spread, load in rows),
        "",
    ]


def _met(is_so: bool) -> str:
    return "met" if is_so else "not met"


def _spread(figures: dict[str, float], digits: int = 0) -> str:
    return f"{figures['median']:,.{digits}f} ({figures['least']:,.{digits}f}-{figures['most']:,.{digits}f})"


def _kb(size: float) -> str:
    return f"{size / 1000:.1f}"
