"""What became of it: runs, orders, fills, the reasons, the journal, positions and money."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from squareoff.apps.api import shapes
from squareoff.apps.api.callers import Acting, Caller, OfficeOf, Reader
from squareoff.apps.api.problems import not_found, responses
from squareoff.apps.api.recorder import BAR_S
from squareoff.apps.api.today import day_money, per_symbol
from squareoff.apps.api.words import journal_shapes, run_shape
from squareoff.apps.formats import exact, local, plain
from squareoff.apps.why_command import explain, journal_of
from squareoff.core.bad_input import BadInput
from squareoff.core.machine import State
from squareoff.core.run import Run
from squareoff.core.types import ZERO, RunId, SlotName, StrategyId, Symbol
from squareoff.errors import BrokerUnavailable
from squareoff.ports import JournalKind

router = APIRouter(tags=["runs"], route_class=Acting, responses=responses(401, 403, 413, 422, 503))
NOT_THERE = responses(404)
Before = Annotated[int | None, Query(ge=1, le=2**53 - 1, description="the `next` of the page before")]
Limit = Annotated[int, Query(ge=1, le=500)]
OfStrategy = Annotated[int | None, Query(ge=1, le=2**53 - 1)]


def _run(caller: Caller, run_id: int) -> Run:
    try:
        return caller.store.run(RunId(run_id))
    except BadInput as error:
        raise not_found(f"there is no run {run_id}") from error


@router.get("/runs", summary="Runs, newest first")
def runs(caller: Reader, strategy_id: OfStrategy = None, before: Before = None, limit: Limit = 50) -> shapes.Runs:
    of = None if strategy_id is None else caller.desk.strategy(caller.id, strategy_id).id
    found = caller.store.runs(of, limit=limit, before=None if before is None else RunId(before))
    return shapes.Runs(
        runs=[run_shape(run, caller.desk.zone(run.plan.symbol)) for run in found],
        next=int(found[-1].plan.run_id) if len(found) == limit else None,
    )


@router.get("/runs/{run_id:int}", summary="One run with every order and fill", responses=NOT_THERE)
def run(run_id: shapes.Id, caller: Reader) -> shapes.RunShape:
    found = _run(caller, run_id)
    return run_shape(found, caller.desk.zone(found.plan.symbol))


@router.get("/runs/{run_id:int}/why", summary="What happened, what did not, and why", responses=NOT_THERE)
def why(run_id: shapes.Id, caller: Reader) -> shapes.Why:
    found = _run(caller, run_id)
    zone = caller.desk.zone(found.plan.symbol)
    lines = explain(found, journal_of(caller.store, found), zone=zone)
    return shapes.Why(
        run=run_shape(found, zone),
        lines=[
            shapes.WhyLine(
                section=str(line.section),
                at=local(line.at, zone),
                what=plain(line.what),
                why=plain(line.why),
                tone=str(line.tone),
            )
            for line in lines
        ],
    )


@router.get("/runs/{run_id:int}/states", summary="The states it went through", responses=NOT_THERE)
def states(run_id: shapes.Id, caller: Reader) -> shapes.Path:
    found = _run(caller, run_id)
    zone = caller.desk.zone(found.plan.symbol)
    lines = caller.store.journal_back(run_id=found.plan.run_id, kinds=[JournalKind.TRANSITION], limit=500)
    in_time = [entry for _, entry in sorted(lines, key=lambda line: (line[1].at, line[0]))]
    made_at = in_time[0].at if in_time else None  # a run is made when it is started
    path = [shapes.Step(state=State.CREATED, at=local(made_at, zone), event="")]
    for entry in in_time:
        to, event = str(entry.data.get("to", "")), str(entry.data.get("event") or "")
        if to and to != path[-1].state:
            path.append(shapes.Step(state=to, at=local(entry.at, zone), event=event))
    return shapes.Path(path=path)


@router.get("/runs/{run_id:int}/prices", summary="Its prices, with what was bought and sold", responses=NOT_THERE)
def prices(run_id: shapes.Id, caller: Reader, office: OfficeOf) -> shapes.Prices:
    """As far as this process has seen them since it runs: for the eye."""
    found = _run(caller, run_id)
    bars = office.recorder.bars(found.plan.account, found.plan.symbol)
    until = found.plan.closes_at.timestamp()
    shown = [bar for bar in bars if bar[0] <= until]
    marks = [
        shapes.Mark(
            t=int(fill.at.timestamp()),
            side="BUY" if name is SlotName.ENTRY else "SELL",
            price=exact(fill.price) or "0",
            qty=exact(fill.qty) or "0",
        )
        for name in SlotName
        for attempt in found.slot(name).attempts
        for fill in attempt.fills
    ]
    if (seen := found.stop_seen) is not None:
        at, price = int(seen.at.timestamp()), exact(seen.price) or "0"
        marks.append(shapes.Mark(t=at, side="STOP-LOSS", price=price, qty="0"))
    return shapes.Prices(
        interval_s=BAR_S,
        bars=[shapes.Bar(t=int(bar[0]), o=bar[1], h=bar[2], l=bar[3], c=bar[4]) for bar in shown],
        marks=sorted(marks, key=lambda mark: mark.t),
        stop_price=exact(found.stop_price),
        note="" if shown else "no price of it was seen since the console was started",
    )


@router.get("/orders", summary="Orders of the newest runs")
def orders(caller: Reader, limit: Limit = 100) -> shapes.Orders:
    told = []
    for found in caller.store.runs(limit=limit):
        shape = run_shape(found, caller.desk.zone(found.plan.symbol))
        for order in reversed(shape.orders):
            told.append(
                shapes.OrderOfRun(
                    **order.model_dump(),
                    run_id=shape.run_id,
                    strategy=shape.strategy,
                    symbol=shape.symbol,
                    account=shape.account,
                    side="BUY" if order.slot == "entry" else "SELL",
                )
            )
    return shapes.Orders(orders=told[:limit])


@router.get("/fills", summary="Fills of the newest runs, newest first")
def fills(caller: Reader, limit: Limit = 100) -> shapes.Fills:
    told = [
        shapes.FillOfRun(
            **fill.model_dump(),
            run_id=order.run_id,
            strategy=order.strategy,
            symbol=order.symbol,
            account=order.account,
            side=order.side,
            client_order_id=order.client_order_id,
        )
        for order in orders(caller, limit=limit).orders
        for fill in order.fills
    ]
    return shapes.Fills(fills=sorted(told, key=lambda fill: fill.at, reverse=True)[:limit])


@router.get("/journal", summary="Every decision, newest first")
def journal(
    caller: Reader,
    q: Annotated[str, Query(max_length=200, description="words that all stand in the text")] = "",
    kind: Annotated[list[JournalKind] | None, Query()] = None,
    run_id: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None,
    strategy_id: OfStrategy = None,
    before: Before = None,
    limit: Limit = 100,
) -> shapes.JournalPage:
    lines = caller.store.journal_back(
        before_seq=before,
        words=q.replace("\0", " "),
        kinds=kind or (),
        run_id=None if run_id is None else RunId(run_id),
        strategy_id=None if strategy_id is None else StrategyId(strategy_id),
        limit=limit,
    )
    return shapes.JournalPage(
        entries=journal_shapes(lines, caller.desk.zone()), next=lines[-1][0] if len(lines) == limit else None
    )


# ------------------------------------------------------------------ what is held, and the money


@router.get("/positions", summary="What our fills say, and what the broker says")
async def positions(caller: Reader) -> shapes.Positions:
    store, rows = caller.store, list[shapes.PositionShape]()
    open_runs = await run_in_threadpool(store.open_runs)
    for account in await run_in_threadpool(store.accounts):
        held = per_symbol(run for run in open_runs if run.plan.account == account)
        try:
            said = await caller.desk.held_at_broker(account)
            theirs = {(each.symbol, str(each.product)): each.net_qty for each in said}
        except BrokerUnavailable:
            theirs = None
        for place in sorted({*held, *(theirs or {})}):
            ours, net = held.get(place, ZERO), None if theirs is None else theirs.get(place, ZERO)
            rows.append(_position(account, place, ours, net))
    return shapes.Positions(positions=rows)


def _position(account: str, place: tuple[Symbol, str], ours: Decimal, net: Decimal | None) -> shapes.PositionShape:
    return shapes.PositionShape(
        account=account,
        symbol=place[0],
        product=place[1],
        ours=exact(ours) or "0",
        broker=exact(net),
        state="unknown" if net is None else "same" if net >= ours else "differs",
    )


@router.get("/pnl", summary="The day's result, gross")
async def pnl(caller: Reader, office: OfficeOf) -> shapes.Pnl:
    picture = await office.hubs.of(caller.id).picture()
    return shapes.Pnl(
        day=day_money(picture.rows, picture.rules.values()),
        accounts=[
            shapes.AccountMoney(
                account=account,
                **day_money([row for row in picture.rows if row.account == account], [rules]).model_dump(),
            )
            for account, rules in picture.rules.items()
        ],
    )
