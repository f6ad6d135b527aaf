"""When is traded, and what; the state machine itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Query

from squareoff.apps.api import shapes
from squareoff.apps.api.callers import Reader
from squareoff.apps.api.problems import not_found, responses
from squareoff.apps.formats import exact
from squareoff.core.bad_input import BadInput
from squareoff.core.events import MEANING, Event
from squareoff.core.machine import (
    CAUSE_LABEL,
    EXPOSURE_LABEL,
    FACT_LABEL,
    FINAL,
    STATE_LABEL,
    TABLE,
    Cell,
    Go,
    NewRun,
    State,
    When,
)

router = APIRouter(tags=["market"], responses=responses(401, 403, 413, 422, 503))


@router.get("/calendar", summary="Trading days to come", responses=responses(404))
def calendar(
    caller: Reader,
    exchange: Annotated[str, Query(max_length=20)] = "NSE",
    days: Annotated[int, Query(ge=1, le=366)] = 30,
) -> shapes.CalendarShape:
    """From today on. `problem`: why there are no more, such as a year that nobody signed off."""
    reference = caller.desk.reference()
    if exchange not in reference.hours:
        raise not_found(f"{exchange!r} is not an exchange squareoff knows: {', '.join(sorted(reference.hours))}")
    told = reference.calendar(exchange)
    zone, problem, shown = told.hours.zone, "", []
    today = caller.desk.now().astimezone(zone).date()
    for ahead in range(days):
        day = today + timedelta(days=ahead)
        try:
            session = told.session_on(day)
            name = told.why_closed(day) if session is None else session.name
        except (LookupError, BadInput) as error:
            problem = str(error)
            break
        opens = None if session is None else session.opens_at.astimezone(zone).isoformat()
        closes = None if session is None else session.closes_at.astimezone(zone).isoformat()
        shown.append(
            shapes.CalendarDay(date=day.isoformat(), open=session is not None, opens=opens, closes=closes, name=name)
        )
    return shapes.CalendarShape(exchange=exchange, zone=zone.key, days=shown, problem=problem)


@router.get("/instruments", summary="What can be traded")
def instruments(
    caller: Reader,
    q: Annotated[str, Query(max_length=60, description="part of a symbol or a name")] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 30,
) -> shapes.Instruments:
    """Those whose symbol begins so stand first."""
    words = q.strip().upper()
    known = [each for each in caller.desk.reference().instruments if each.tradable]
    found = [each for each in known if words in each.symbol.upper() or words in each.name.upper()]
    found.sort(key=lambda each: (not each.symbol.partition(":")[2].startswith(words), each.symbol))
    return shapes.Instruments(
        instruments=[
            shapes.InstrumentShape(
                symbol=each.symbol,
                name=each.name,
                kind=str(each.kind),
                lot=exact(each.lot) or "1",
                tick_size=exact(each.tick_size) or "",
            )
            for each in found[:limit]
        ]
    )


@router.get("/machine", summary="The state machine, from the table that trades")
def machine(caller: Reader) -> shapes.Machine:
    return shapes.Machine(
        states=[shapes.MachineState(state=s, label=STATE_LABEL[s], final=s in FINAL) for s in State],
        transitions=[
            shapes.MachineStep(from_=state, event=event, to=to, label=label)
            for state in State
            for event, cell in TABLE[state].items()
            for to, label in _goes(cell, event)
            if to is not state
        ],
        exposures={str(exposure): label for exposure, label in EXPOSURE_LABEL.items()},
        causes={str(cause): label for cause, label in CAUSE_LABEL.items()},
    )


def _goes(cell: Cell, event: Event, when: str = "") -> Iterator[tuple[State, str]]:
    match cell:
        case When(fact=fact, then=then, otherwise=otherwise):
            yield from _goes(then, event, FACT_LABEL[fact])
            yield from _goes(otherwise, event, f"not: {FACT_LABEL[fact]}")
        case NewRun():
            yield State.STOPPED, "archived; the strategy goes on as a new run"
        case Go(to=to):
            yield to, f"{MEANING[event]}{f' ({when})' if when else ''}"
