"""The judge: what the broker's ledger, the tape and the public commands say of a scenario's day. Never internals.

O1  one START makes one run; the broker executed at most one BUY of it, and sold at most what that bought
O2  a stop-loss on the wire 50 ms before the exit ended as `exited_by_sl`, or as the scenario says
O3  every run came to its end within the bound, or says that it needs a person
O4  what the commands show = what the journal tells = what the ledger holds
O5  no run that ended in `failed`, or any other way, hides shares that the broker holds for it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from faults.stage import OPENS, Stage
from squareoff import wiring
from squareoff.adapters.brokers.paper.book import Placed, Traded
from squareoff.core.types import Side

ON_THE_WIRE_S = 0.05
"""A price counts as seen when it was on the wire this long before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """How a scenario's runs may end. Every one of them is judged by O1 to O5 besides."""

    ends: tuple[str, ...]
    """Allowed outcomes; `failed(cause)` names the cause. A state such as `bought` is allowed if named."""
    bought: tuple[int, int] = (1, 1)
    """Fewest and most BUY orders that executed."""
    exits_most: int = 1
    """Exit orders that executed; more where the venue fills in parts."""
    out_within_s: float | None = None
    """From the fall of the price until an exit's fill; None: the scenario's own bound says it."""
    takeover_within_s: float | None = None
    """From the death of a worker until another one is ready; None: not judged."""
    alarm: str = ""
    """A word that an alarm must have."""
    may_miss_stop: bool = False
    """Nobody could see the stop-loss, or nothing of ours was left to sell."""
    stays_open: bool = False
    """The run may still be watched at the end: `failed` with exposure unknown and an alarm."""


@dataclass(kw_only=True, slots=True)
class Verdict:
    problems: list[str] = field(default_factory=list)
    outcome: str = "-"
    out_s: float | None = None
    takeover_s: float | None = None


def judge(stage: Stage, expected: Expected, names: Sequence[str] = ("s",)) -> Verdict:
    verdict = Verdict()
    verdict.takeover_s = max(stage.takeovers_s, default=None)
    bound_s = expected.takeover_within_s
    if bound_s is not None and (verdict.takeover_s is None or verdict.takeover_s > bound_s):
        took = "never" if verdict.takeover_s is None else f"after {verdict.takeover_s:.2f} s"
        verdict.problems.append(f"O3: taken over {took}, bound {bound_s:g} s")
    audit = wiring.paper_audit(stage.folder / "broker")
    verdict.problems += [f"O1: {why}" for why in audit.doubles]
    verdict.problems += [f"O1: the account is short {-o.net_qty} {o.symbol}" for o in audit.orphans if o.net_qty < 0]
    executed = sum(run.executed_entries for run in audit.runs)
    if not expected.bought[0] <= executed <= expected.bought[1]:
        verdict.problems.append(f"{executed} BUYs executed, expected {expected.bought[0]} to {expected.bought[1]}")
    exits = max((run.executed_exits for run in audit.runs), default=0)
    if exits > expected.exits_most:
        verdict.problems.append(f"{exits} exit orders executed, expected {expected.exits_most} at most")
    _judge_exit(stage, expected, verdict)
    told = [stage.ask("why", name, "--all") for name in names]
    verdict.outcome = ", ".join(_ending(each["run"]) if each["run"] else "no run" for each in told)
    for each in told:
        if each["run"] is None:
            verdict.problems.append("O3: no run was made")
        else:
            _judge_run(stage, each["run"], each["journal"], expected, verdict)
    made = {name: len(stage.ask("show", name)["runs"]) for name in names}
    verdict.problems += [f"O1: {count} runs of {name!r} by one START" for name, count in made.items() if count > 1]
    shown = {order["client_order_id"] for each in told if each["run"] for order in each["run"]["orders"]}
    lost = _ledger_fills(stage, _ours(stage) - shown)
    if lost:
        verdict.problems.append(f"O4: the ledger has fills of ours that no command shows: {lost}")
    alarms = [line["text"] for each in told for line in each.get("journal", ()) if line["kind"] == "alert"]
    if expected.alarm and not any(expected.alarm in text for text in alarms):
        verdict.problems.append(f"no alarm says {expected.alarm!r}")
    return verdict


def _ending(run: dict[str, Any]) -> str:
    word = run["outcome"] or run["state"]
    return f"{word}({run['cause']})" if word == "failed" else str(word)


def _judge_run(
    stage: Stage, run: dict[str, Any], journal: Sequence[dict[str, Any]], expected: Expected, verdict: Verdict
) -> None:
    ending = _ending(run)
    if ending not in expected.ends and ending.partition("(")[0] not in expected.ends:
        verdict.problems.append(f"ended {ending}, expected {' or '.join(expected.ends)}")
    if run["exposure"] in ("long", "unknown"):
        is_told = any(line["kind"] == "alert" and line["run_id"] == run["run_id"] for line in journal)
        if not (expected.stays_open and is_told):
            verdict.problems.append(f"O3: still {run['exposure']} at the end" + ("" if is_told else ", and no alarm"))
    ours = {fill["trade_id"]: fill["quantity"] for order in run["orders"] for fill in order["fills"]}
    theirs = _ledger_fills(stage, {order["client_order_id"] for order in run["orders"]})
    if ours != theirs:
        verdict.problems.append(f"O4: the command shows fills {ours}, the ledger {theirs}")
    held = sum((_signed(stage, trade) for trade in theirs), Decimal(0))
    if held > 0 and run["exposure"] == "flat" and Decimal(run["held"] or 0) <= 0:
        explained = _sold_by_hand(stage)
        if held > explained:
            verdict.problems.append(f"O5: the broker holds {held} for it, and it says flat")
    if run["outcome"] in ("sold", "stopped") and saw_stop_before_exit(stage) and not expected.may_miss_stop:
        verdict.problems.append(f"O2: the stop-loss was on the wire, and it ended {run['outcome']}")
    moves = [line["data"]["to"] for line in journal if line["kind"] == "transition" and line["run_id"] == run["run_id"]]
    told = moves[-1] if moves else None
    if told is not None and told not in (run["state"], run["outcome"]):
        verdict.problems.append(f"O4: the journal's last transition is to {told}, the command shows {run['state']}")


def _judge_exit(stage: Stage, expected: Expected, verdict: Verdict) -> None:
    """How long after the fall the position was sold."""
    if stage.fell_s is None:
        return
    sold = [at for side, at in _fills(stage) if side is Side.SELL]
    if not sold:
        return
    fell = OPENS + timedelta(seconds=stage.fell_s - stage.began_s)
    verdict.out_s = (max(sold) - fell).total_seconds()
    if expected.out_within_s is not None and verdict.out_s > expected.out_within_s:
        verdict.problems.append(f"O2: out {verdict.out_s:.2f} s after the stop-loss, bound {expected.out_within_s:g} s")


def saw_stop_before_exit(stage: Stage) -> bool:
    """Whether the stop-loss was on the wire well before the last exit."""
    sold = [at for side, at in _fills(stage) if side is Side.SELL]
    if stage.fell_s is None or not sold:
        return False
    return max(sold) > OPENS + timedelta(seconds=stage.fell_s - stage.began_s + ON_THE_WIRE_S)


def _fills(stage: Stage) -> list[tuple[Side, datetime]]:
    orders = {
        line.record.broker_order_id: line.record.order for line in stage.ledger() if isinstance(line.record, Placed)
    }
    return [
        (orders[line.record.broker_order_id].side, line.record.fill.at)
        for line in stage.ledger()
        if isinstance(line.record, Traded) and orders[line.record.broker_order_id].client_order_id.startswith("SQ")
    ]


def _ledger_fills(stage: Stage, ids: set[str]) -> dict[str, str]:
    orders = {
        line.record.broker_order_id: line.record.order.client_order_id
        for line in stage.ledger()
        if isinstance(line.record, Placed)
    }
    return {
        str(line.record.fill.trade_id): f"{line.record.fill.qty.normalize():f}"
        for line in stage.ledger()
        if isinstance(line.record, Traded) and orders[line.record.broker_order_id] in ids
    }


def _ours(stage: Stage) -> set[str]:
    """Every order id of ours that the broker has placed."""
    placed = (line.record.order.client_order_id for line in stage.ledger() if isinstance(line.record, Placed))
    return {order for order in placed if order.startswith("SQ")}


def _signed(stage: Stage, trade: str) -> Decimal:
    orders = {
        line.record.broker_order_id: line.record.order for line in stage.ledger() if isinstance(line.record, Placed)
    }
    for line in stage.ledger():
        if isinstance(line.record, Traded) and line.record.fill.trade_id == trade:
            qty = line.record.fill.qty
            return qty if orders[line.record.broker_order_id].side is Side.BUY else -qty
    return Decimal(0)


def _sold_by_hand(stage: Stage) -> Decimal:
    return max(stage.held(ours=True) - stage.held(ours=False), Decimal(0))
