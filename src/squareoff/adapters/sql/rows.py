"""A run as rows, and rows as a run. Written and read here only, so that what goes in comes out equal."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, RowMapping, bindparam, func, insert, select, update
from sqlalchemy.engine import Connection

from squareoff.adapters.licence import is_archived
from squareoff.adapters.sql.schema import accounts, fills, orders, runs, slots
from squareoff.core.bad_input import BadInput
from squareoff.core.limits import AccountRules, Level, Limits
from squareoff.core.orders import Attempt, Slot, Stamp
from squareoff.core.run import Run, StopSeen
from squareoff.core.strategy import Plan, StopLoss, Strategy, Timing
from squareoff.core.types import AccountId, Fill, SlotName
from squareoff.ports import JournalEntry

Values = dict[str, Any]


def insert_run(connection: Connection, run: Run) -> None:
    connection.execute(insert(runs), {**_run_values(run), "holds_strategy": not run.is_closed})
    connection.execute(insert(slots), [_slot_values(run, name) for name in SlotName])
    _save_orders(connection, run, known={})


_UPDATE_RUN = update(runs).where(runs.c.id == bindparam("of_run"), runs.c.version <= bindparam("newest"))
_UPDATE_SLOT = update(slots).where(slots.c.run_id == bindparam("of_run"), slots.c.slot == bindparam("of_slot"))
_UPDATE_ORDER = update(orders).where(
    orders.c.run_id == bindparam("of_run"),
    orders.c.slot == bindparam("of_slot"),
    orders.c.number == bindparam("of_number"),
)


def update_run(connection: Connection, run: Run) -> None:
    """Write the whole snapshot over the stored one, unless that is newer. What filled is only ever added to."""
    values = _run_values(run)
    of_run = values.pop("id")
    if run.is_closed:
        values["holds_strategy"] = False
    done = connection.execute(_UPDATE_RUN, {"of_run": of_run, "newest": run.version, **values})
    if not done.rowcount:
        return
    connection.execute(_UPDATE_SLOT, [_keyed(_slot_values(run, name), "run_id", "slot") for name in SlotName])
    _save_orders(connection, run, known=_known_orders(connection, of_run))


def _keyed(values: Values, *keys: str) -> Values:
    """The same values with their keys under the names that the statements above look for."""
    return {(f"of_{key.removesuffix('_id')}" if key in keys else key): value for key, value in values.items()}


def _save_orders(connection: Connection, run: Run, known: Mapping[tuple[SlotName, int], RowMapping]) -> None:
    fresh_orders: list[Values] = []
    changed_orders: list[Values] = []
    fresh_fills: list[Values] = []
    for name in SlotName:
        for attempt in run.slot(name).attempts:
            values = _order_values(run, name, attempt)
            stored = known.get((name, attempt.number))
            if stored is None:
                fresh_orders.append(values)
            elif any(stored[column] != value for column, value in values.items()):
                changed_orders.append(_keyed(values, "run_id", "slot", "number"))
            known_fills = 0 if stored is None else stored["known_fills"]
            for position, fill in enumerate(attempt.fills[known_fills:], start=known_fills):
                fresh_fills.append(_fill_values(run, name, attempt, position, fill))
    if fresh_orders:
        connection.execute(insert(orders), fresh_orders)
    if changed_orders:
        connection.execute(_UPDATE_ORDER, changed_orders)
    if fresh_fills:
        connection.execute(insert(fills), fresh_fills)


_KNOWN_ORDERS = (
    select(orders, func.count(fills.c.position).label("known_fills"))
    .outerjoin(
        fills,
        (fills.c.run_id == orders.c.run_id) & (fills.c.slot == orders.c.slot) & (fills.c.number == orders.c.number),
    )
    .where(orders.c.run_id == bindparam("of_run"))
    .group_by(orders.c.run_id, orders.c.slot, orders.c.number)
)


def _known_orders(connection: Connection, of_run: int) -> dict[tuple[SlotName, int], RowMapping]:
    rows = connection.execute(_KNOWN_ORDERS, {"of_run": of_run}).mappings()
    return {(row["slot"], row["number"]): row for row in rows}


def load_runs(connection: Connection, where: ColumnElement[bool], *, latest: int | None = None) -> tuple[Run, ...]:
    """The runs that `where` chooses, by id; the newest `latest` of them if that is given, newest first."""
    query = select(runs).where(where)
    if latest is None:
        query = query.order_by(runs.c.id)
    else:
        query = query.order_by(runs.c.id.desc()).limit(latest)
    rows = connection.execute(query).mappings().all()
    slots_of = _load_slots(connection, [row["id"] for row in rows])
    return tuple(_run_from(row, slots_of[row["id"]]) for row in rows)


def _load_slots(connection: Connection, run_ids: Sequence[int]) -> dict[int, dict[SlotName, Slot]]:
    fills_of: dict[tuple[int, SlotName, int], list[Fill]] = defaultdict(list)
    for row in _rows_of(connection, run_ids, fills.select().order_by(fills.c.position), fills.c.run_id):
        fills_of[row["run_id"], row["slot"], row["number"]].append(_fill_from(row))
    attempts_of: dict[tuple[int, SlotName], list[Attempt]] = defaultdict(list)
    for row in _rows_of(connection, run_ids, orders.select().order_by(orders.c.number), orders.c.run_id):
        attempt = _attempt_from(row, fills_of[row["run_id"], row["slot"], row["number"]])
        attempts_of[row["run_id"], row["slot"]].append(attempt)
    slots_of: dict[int, dict[SlotName, Slot]] = defaultdict(dict)
    for row in _rows_of(connection, run_ids, slots.select(), slots.c.run_id):
        slots_of[row["run_id"]][row["slot"]] = _slot_from(row, attempts_of[row["run_id"], row["slot"]])
    return slots_of


_IDS_AT_ONCE = 500  # a database takes only so many values in one question


def _rows_of(connection: Connection, run_ids: Sequence[int], query: Any, column: Any) -> Iterable[RowMapping]:
    for start in range(0, len(run_ids), _IDS_AT_ONCE):
        some = run_ids[start : start + _IDS_AT_ONCE]
        yield from connection.execute(query.where(column.in_(some))).mappings().all()  # in one go: a fifth faster


def _run_values(run: Run) -> Values:
    plan, timing, seen = run.plan, run.plan.timing, run.stop_seen
    return {
        "id": plan.run_id,
        "strategy_id": plan.strategy_id,
        "user_id": plan.user,
        "account": plan.account,
        "name": plan.name,
        "symbol": plan.symbol,
        "product": plan.product,
        "quantity": plan.quantity,
        "trading_day": plan.trading_day,
        "buy_at": plan.buy_at,
        "sell_at": plan.sell_at,
        "closes_at": plan.closes_at,
        "stop_loss_kind": plan.stop_loss.kind,
        "stop_loss_value": plan.stop_loss.value,
        "tick_size": plan.tick_size,
        "grace_s": timing.grace_s,
        "fresh_for_s": timing.fresh_for_s,
        "entry_open_s": timing.entry_open_s,
        "key": run.key,
        "state": run.state,
        "outcome": run.outcome,
        "cause": run.cause,
        "detail": run.detail,
        "stop_price": run.stop_price,
        "stop_seen_price": seen and seen.price,
        "stop_seen_at": seen and seen.at,
        "lowest_price": run.lowest_price,
        "wish": run.wish,
        "waited_for_price": run.waited_for_price,
        "entry_opened_at": run.entry_opened_at,
        "entry_cancel_asked": run.entry_cancel_asked,
        "retry_at": run.retry_at,
        "outside_qty": run.outside_qty,
        "handed_over": run.handed_over,
        "version": run.version,
        "exposure": run.exposure,
        "closed": run.is_closed,
        "archived": is_archived(run),
    }


def _run_from(row: RowMapping, slots_of_run: Mapping[SlotName, Slot]) -> Run:
    plan = Plan(
        run_id=row["id"],
        strategy_id=row["strategy_id"],
        user=row["user_id"],
        account=row["account"],
        name=row["name"],
        symbol=row["symbol"],
        product=row["product"],
        quantity=row["quantity"],
        trading_day=row["trading_day"],
        buy_at=row["buy_at"],
        sell_at=row["sell_at"],
        closes_at=row["closes_at"],
        stop_loss=StopLoss(kind=row["stop_loss_kind"], value=row["stop_loss_value"]),
        tick_size=row["tick_size"],
        timing=Timing(grace_s=row["grace_s"], fresh_for_s=row["fresh_for_s"], entry_open_s=row["entry_open_s"]),
    )
    seen_at = row["stop_seen_at"]
    return Run(
        plan=plan,
        key=row["key"],
        state=row["state"],
        outcome=row["outcome"],
        cause=row["cause"],
        detail=row["detail"],
        entry=slots_of_run[SlotName.ENTRY],
        exit=slots_of_run[SlotName.EXIT],
        stop_price=row["stop_price"],
        stop_seen=None if seen_at is None else StopSeen(price=row["stop_seen_price"], at=seen_at),
        lowest_price=row["lowest_price"],
        wish=row["wish"],
        waited_for_price=row["waited_for_price"],
        entry_opened_at=row["entry_opened_at"],
        entry_cancel_asked=row["entry_cancel_asked"],
        retry_at=row["retry_at"],
        outside_qty=row["outside_qty"],
        handed_over=row["handed_over"],
        version=row["version"],
    )


def _slot_values(run: Run, name: SlotName) -> Values:
    slot = run.slot(name)
    stamp = slot.stamp
    return {
        "run_id": run.plan.run_id,
        "slot": name,
        "phase": slot.phase,
        "tries": slot.tries,
        "fence": None if stamp is None else stamp.fence,
        "machine": None if stamp is None else stamp.machine,
        "boot": None if stamp is None else stamp.boot,
    }


def _slot_from(row: RowMapping, attempts: Iterable[Attempt]) -> Slot:
    stamp = None
    if row["fence"] is not None:
        stamp = Stamp(fence=row["fence"], machine=row["machine"], boot=row["boot"])
    return Slot(phase=row["phase"], attempts=tuple(attempts), tries=row["tries"], stamp=stamp)


def _order_values(run: Run, name: SlotName, attempt: Attempt) -> Values:
    return {
        "run_id": run.plan.run_id,
        "slot": name,
        "number": attempt.number,
        "account": run.plan.account,
        "client_order_id": attempt.client_order_id,
        "qty": attempt.qty,
        "phase": attempt.phase,
        "broker_order_id": attempt.broker_order_id,
        "reason": attempt.reason,
        "limit_price": attempt.limit_price,
        "cancel_asked": attempt.cancel_asked,
    }


def _attempt_from(row: RowMapping, fills_of_attempt: Iterable[Fill]) -> Attempt:
    return Attempt(
        number=row["number"],
        client_order_id=row["client_order_id"],
        qty=row["qty"],
        phase=row["phase"],
        broker_order_id=row["broker_order_id"],
        fills=tuple(fills_of_attempt),
        reason=row["reason"],
        limit_price=row["limit_price"],
        cancel_asked=row["cancel_asked"],
    )


def _fill_values(run: Run, name: SlotName, attempt: Attempt, position: int, fill: Fill) -> Values:
    return {
        "run_id": run.plan.run_id,
        "slot": name,
        "number": attempt.number,
        "position": position,
        "account": run.plan.account,
        "trade_id": fill.trade_id,
        "qty": fill.qty,
        "price": fill.price,
        "at": fill.at,
    }


def _fill_from(row: RowMapping) -> Fill:
    return Fill(trade_id=row["trade_id"], qty=row["qty"], price=row["price"], at=row["at"])


def strategy_values(strategy: Strategy) -> Values:
    """Everything but the id, which the database gives."""
    return {
        "user_id": strategy.user,
        "account": strategy.account,
        "name": strategy.name,
        "symbol": strategy.symbol,
        "quantity": strategy.quantity,
        "buy_time": strategy.buy_time,
        "sell_time": strategy.sell_time,
        "stop_loss_kind": strategy.stop_loss.kind,
        "stop_loss_value": strategy.stop_loss.value,
        "product": strategy.product,
        "repeat": strategy.repeat,
        "until": strategy.until,
        "revision": strategy.revision,
        "removed": False,
    }


def strategy_from(row: RowMapping) -> Strategy:
    return Strategy(
        id=row["id"],
        user=row["user_id"],
        account=row["account"],
        name=row["name"],
        symbol=row["symbol"],
        quantity=row["quantity"],
        buy_time=row["buy_time"],
        sell_time=row["sell_time"],
        stop_loss=StopLoss(kind=row["stop_loss_kind"], value=row["stop_loss_value"]),
        product=row["product"],
        repeat=row["repeat"],
        until=row["until"],
        revision=row["revision"],
    )


def write_level(
    connection: Connection, account: AccountId, level: Level, *, reason: str, by: str, at: datetime
) -> None:
    """Raises BadInput: there is no such account."""
    values = {"level": level, "level_reason": reason, "level_by": by, "level_at": at}
    if not connection.execute(update(accounts).where(accounts.c.id == account).values(values)).rowcount:
        raise BadInput("account", f"there is no account {account!r}", "see `squareoff kill --help`")


def rules_from(row: RowMapping) -> AccountRules:
    limits = Limits(**{name: row[name] for name in Limits.__dataclass_fields__})
    return AccountRules(
        level=row["level"], reason=row["level_reason"], by=row["level_by"], at=row["level_at"], limits=limits
    )


JOURNAL_COLUMNS = ("at", "account", "strategy_id", "run_id", "kind", "engine", "text", "data")


def journal_values(entry: JournalEntry) -> Values:
    return {
        "at": entry.at,
        "account": entry.account,
        "strategy_id": entry.strategy_id,
        "run_id": entry.run_id,
        "kind": entry.kind,
        "engine": entry.engine,
        "text": entry.text,
        "data": _json(entry.data),
    }


def _json(data: Mapping[str, Any]) -> str:
    """Money becomes text. What JSON cannot say is written as Python shows it: a line of the story is not lost."""
    try:
        return msgspec.json.encode(dict(data), enc_hook=repr).decode()
    except (TypeError, ValueError):
        return json.dumps({"unreadable": repr(data)})


def journal_from(row: RowMapping) -> JournalEntry:
    return JournalEntry(
        at=row["at"],
        account=row["account"],
        kind=row["kind"],
        text=row["text"],
        run_id=row["run_id"],
        strategy_id=row["strategy_id"],
        engine=row["engine"],
        data=msgspec.json.decode(row["data"]),
    )
