"""Strategies: what is wished, and the checks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse

from squareoff.apps.api import shapes
from squareoff.apps.api.callers import Acting, Reader, Trader
from squareoff.apps.api.desk import Desk
from squareoff.apps.api.problems import ApiError, responses
from squareoff.apps.api.templates import templates
from squareoff.apps.api.words import check_shapes, run_shape, strategy_shape
from squareoff.apps.edit_command import changed, consequences, fields_of
from squareoff.apps.facts import gather, look_around
from squareoff.apps.formats import exact, money, quantity
from squareoff.apps.strategies_command import Market, sentence
from squareoff.apps.strategy_file import read_strategies, written
from squareoff.apps.wishes import ask_to_stop, in_the_way, last_wishes, open_run, to_start
from squareoff.core.bad_input import BadInput
from squareoff.core.board import is_exposed
from squareoff.core.definition import Draft, next_session_for, read
from squareoff.core.events import Event
from squareoff.core.machine import STATE_LABEL, State
from squareoff.core.preflight import Check, preflight
from squareoff.core.story import exposure_key
from squareoff.core.strategy import StopLossKind, Strategy
from squareoff.core.types import StrategyId, UserId
from squareoff.errors import Conflict

if TYPE_CHECKING:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.run import Run

router = APIRouter(tags=["strategies"], route_class=Acting, responses=responses(401, 403, 413, 422, 503))
NOT_THERE = responses(404)
RUNS_SHOWN = 50


def _latest(store: StrategyStore, strategy_id: StrategyId) -> Run | None:
    return next(iter(store.runs(strategy_id, limit=1)), None)


def _shape(store: StrategyStore, strategy: Strategy) -> shapes.StrategyShape:
    return strategy_shape(strategy, _latest(store, strategy.id))


@router.get("/strategies", summary="All of my strategies")
def strategies(caller: Reader) -> shapes.Strategies:
    store = caller.store
    runs = {run.plan.strategy_id: run for run in store.open_runs()}
    return shapes.Strategies(
        strategies=[strategy_shape(each, runs.get(each.id) or _latest(store, each.id)) for each in store.list()]
    )


@router.post("/strategies", status_code=201, summary="Add a strategy")
def add(asked: shapes.Fields, caller: Trader) -> shapes.Saved:
    """It is checked and saved; nothing is traded until it is started."""
    draft = read(asked.given())
    store, market = caller.store, _market(caller.desk)
    warnings = market.check("", draft, None)
    saved = store.add(draft.as_strategy(StrategyId(0), caller.id))
    caller.note("add strategy", saved.name, sentence(saved))
    return shapes.Saved(**_shape(store, saved).model_dump(), warnings=warnings)


@router.get(
    "/strategies.toml",
    summary="All of them as a file",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "TOML"}},
)
def export(caller: Reader) -> Response:
    """As `squareoff add --file FILE` and /strategies/import take it."""
    return PlainTextResponse(written(caller.store.list()))


@router.post("/strategies/import", status_code=201, summary="Add all strategies of a file")
def import_(asked: shapes.Toml, caller: Trader) -> shapes.Imported:
    """All of them, or none."""
    from squareoff import wiring

    drafts, market, store = read_strategies(asked.toml, "file"), _market(caller.desk), caller.store
    warnings = [text for where, draft in drafts for text in market.check(where, draft, None)]
    names = {strategy.name for strategy in store.list()}
    for where, draft in drafts:
        if draft.name in names:
            raise BadInput(f"{where}: name", f"there is a strategy {draft.name!r} already", "choose another name")
    new = [draft.as_strategy(StrategyId(0), caller.id) for _, draft in drafts]
    saved = wiring.save_strategies(caller.desk.config, new, user=caller.id)
    caller.note("import strategies", ", ".join(each.name for each in saved))
    return shapes.Imported(strategies=[_shape(store, each) for each in saved], warnings=warnings)


@router.get("/templates", summary="Strategies to begin with")
def all_templates(caller: Reader) -> shapes.Templates:
    return shapes.Templates(templates=templates())


# ------------------------------------------------------------------ checks as somebody types


@router.post("/strategies/check", summary="Check without saving", responses=NOT_THERE)
def check_fields(asked: shapes.Checked, caller: Reader) -> shapes.CheckAnswer:
    """The same rules as for saving: every field that is wrong, and what the strategy would risk."""
    desk, store = caller.desk, caller.store
    fields = asked.given()
    old = None if asked.id is None else desk.strategy(caller.id, asked.id)
    if old is not None:
        fields = {**fields_of(old), **fields}
    market = _market(desk)
    issues, draft = _issues(fields, market)
    warnings: list[str] = []
    if draft is not None:
        issues += _issues_of_name(store, draft, old)
        if not issues:
            warnings = market.check("", draft, None)
    return _answer(desk, caller.id, draft, issues, warnings, fields)


def _issues(fields: Mapping[str, object], market: Market) -> tuple[list[shapes.FieldIssue], Draft | None]:
    """Every field that is wrong: what is found wrong is replaced by something right, and it is asked again."""
    right = {"symbol": "NSE:INFY", "quantity": "1", "buy_time": "10:00", "sell_time": "14:00", "stop_loss": "1%"}
    tried, issues = dict(fields), list[shapes.FieldIssue]()
    for _ in range(12):
        try:
            draft = read(tried)
            market.check("", draft, None)
        except BadInput as error:
            if any(each.field == error.field for each in issues):
                break
            issues.append(shapes.FieldIssue(field=error.field, wrong=error.wrong, right=error.right))
            if error.field in right:
                tried[error.field] = right[error.field]
            else:
                tried.pop(error.field, None)
        else:
            return issues, draft if not issues else None
    return issues, None


def _issues_of_name(store: StrategyStore, draft: Draft, old: Strategy | None) -> list[shapes.FieldIssue]:
    issues = []
    if any(each.name == draft.name and (old is None or each.id != old.id) for each in store.list()):
        wrong = f"there is a strategy {draft.name!r} already"
        issues.append(shapes.FieldIssue(field="name", wrong=wrong, right="choose another name"))
    if draft.account not in store.accounts():
        known = ", ".join(store.accounts())
        wrong = f"there is no account {draft.account!r}"
        issues.append(shapes.FieldIssue(field="account", wrong=wrong, right=f"yours: {known}"))
    return issues


def _answer(
    desk: Desk,
    user: UserId,
    draft: Draft | None,
    issues: list[shapes.FieldIssue],
    warnings: list[str],
    fields: Mapping[str, object],
) -> shapes.CheckAnswer:
    reference, now = desk.reference(), desk.now()
    symbol = _symbol_of(fields)
    instrument = None
    if symbol is not None:
        try:
            instrument = reference.instruments.find(symbol)
        except LookupError:
            instrument = None
    answer = shapes.CheckAnswer(
        fields=issues,
        warnings=warnings,
        sentence=None,
        risk=shapes.Risk(value=None, loss_at_stop=None, price=None, text="not known yet"),
        when=None,
        lot=None if instrument is None else exact(instrument.lot),
        tick=None if instrument is None else exact(instrument.tick_size),
        checks=[],
    )
    if draft is None or issues:
        return answer
    strategy = draft.as_strategy(StrategyId(0), user)
    answer.sentence = sentence(strategy)
    answer.risk = _risk(desk, strategy, instrument.tick_size if instrument else Decimal("0.05"))
    answer.checks = check_shapes(_checks(desk, strategy))
    try:
        session = next_session_for(strategy, reference.calendar(symbol.partition(":")[0] if symbol else "NSE"), now)
    except (LookupError, ValueError):
        return answer
    zone = session.zone
    answer.when = shapes.When(
        day=session.day.isoformat(),
        opens_at=session.opens_at.astimezone(zone).isoformat(),
        buy_at=session.at(strategy.buy_time).astimezone(zone).isoformat(),
        sell_at=session.at(strategy.sell_time).astimezone(zone).isoformat(),
        closes_at=session.closes_at.astimezone(zone).isoformat(),
        now=now.astimezone(zone).isoformat(timespec="seconds"),
        text=f"{session.day:%a %d %b %Y}",
    )
    return answer


def _symbol_of(fields: Mapping[str, object]) -> str | None:
    try:
        return read({**fields, "quantity": "1", "buy_time": "10:00", "sell_time": "14:00", "stop_loss": "1%"}).symbol
    except BadInput:
        return None


def _risk(desk: Desk, strategy: Strategy, tick_size: Decimal) -> shapes.Risk:
    """The money it uses, and what it loses if it gets out exactly at its stop-loss."""
    from squareoff import wiring

    url = desk.redis_url()
    tick = None if not url else wiring.last_tick(url, strategy.account, strategy.symbol)
    price = None if tick is None else tick.price
    stop, qty = strategy.stop_loss, strategy.quantity
    if price is None and stop.kind is StopLossKind.POINTS:
        loss = stop.value * qty
        text = f"about {money(loss)} gross if it gets out at its stop-loss; the price is not known now"
        return shapes.Risk(value=None, loss_at_stop=exact(loss), price=None, text=text)
    if price is None:
        told = f"{stop} of the price" if stop.kind is StopLossKind.PERCENT else "the price paid less the stop-loss"
        text = f"{told}, times {quantity(qty)}; the price is not known now"
        return shapes.Risk(value=None, loss_at_stop=None, price=None, text=text)
    loss = (price - stop.price_for(price, tick_size)) * qty
    text = (
        f"uses about {money(price * qty)}; loses about {money(max(loss, Decimal(0)))} gross if it gets out at its "
        "stop-loss; a fall through it in one step loses more"
    )
    return shapes.Risk(value=exact(price * qty), loss_at_stop=exact(loss), price=exact(price), text=text)


def _checks(desk: Desk, strategy: Strategy) -> Sequence[Check]:
    now = desk.now()
    return preflight(strategy, gather(desk.config, strategy, now=now, machine=look_around(desk.config)), when=now)


def _market(desk: Desk) -> Market:
    return Market(reference=desk.reference(), now=desk.now())


# ------------------------------------------------------------------ one of them


@router.get("/strategies/{strategy_id:int}", summary="One strategy with its runs", responses=NOT_THERE)
def strategy(strategy_id: shapes.Id, caller: Reader) -> shapes.StrategyWithRuns:
    found, store = caller.desk.strategy(caller.id, strategy_id), caller.store
    runs, zone = store.runs(found.id, limit=RUNS_SHOWN), caller.desk.zone(found.symbol)
    shape = strategy_shape(found, next(iter(runs), None))
    return shapes.StrategyWithRuns(**shape.model_dump(), runs=[run_shape(run, zone) for run in runs])


@router.put("/strategies/{strategy_id:int}", summary="Change a strategy", responses=responses(404, 409))
def edit(strategy_id: shapes.Id, asked: shapes.Edit, caller: Trader) -> shapes.StrategyShape:
    """What is left out stays. `revision` as it was when you looked: if somebody was faster, nothing is saved (409)."""
    desk, store = caller.desk, caller.store
    old = desk.strategy(caller.id, strategy_id)
    new = _edited(desk, old, asked)
    try:
        saved = store.edit(new, at=desk.now(), revision=asked.revision)
    except Conflict as error:
        current = _shape(store, desk.strategy(caller.id, strategy_id)).model_dump()
        raise ApiError(status=409, code="conflict", message=str(error), current=current) from error
    told = "; ".join(f"{row['field']} {row['old']} -> {row['new']}" for row in consequences(old, saved, None))
    caller.note("edit strategy", saved.name, told)
    desk.ring([saved.account])
    return _shape(store, saved)


@router.post("/strategies/{strategy_id:int}/edit-preview", summary="What a change would change", responses=NOT_THERE)
def edit_preview(strategy_id: shapes.Id, asked: shapes.Fields, caller: Reader) -> shapes.Changes:
    """And when each of it takes effect. Nothing is saved."""
    old = caller.desk.strategy(caller.id, strategy_id)
    rows = consequences(old, _edited(caller.desk, old, asked), open_run(caller.store.open_runs(), old.id))
    return shapes.Changes(changes=[shapes.Change(**row) for row in rows])


def _edited(desk: Desk, old: Strategy, asked: shapes.Fields) -> Strategy:
    changes = asked.given()
    no_end = "until" in changes and not changes["until"]
    if no_end:
        del changes["until"]
    new = changed(desk.config, old, {name: str(value) for name, value in changes.items()})
    return replace(new, until=None) if no_end else new


@router.delete("/strategies/{strategy_id:int}", status_code=204, summary="Archive a strategy", responses=NOT_THERE)
def remove(strategy_id: shapes.Id, caller: Trader) -> None:
    """Its runs and their story stay. Refused while a run of it is not closed."""
    found = caller.desk.strategy(caller.id, strategy_id)
    caller.store.remove(found.id)
    caller.note("archive strategy", found.name)


@router.post(
    "/strategies/{strategy_id:int}/duplicate", status_code=201, summary="The same once more", responses=NOT_THERE
)
def duplicate(strategy_id: shapes.Id, asked: shapes.NewName, caller: Trader) -> shapes.StrategyShape:
    old, store = caller.desk.strategy(caller.id, strategy_id), caller.store
    draft = read({**fields_of(old), "name": asked.name})
    saved = store.add(draft.as_strategy(StrategyId(0), caller.id))
    caller.note("duplicate strategy", saved.name, f"of {old.name}")
    return _shape(store, saved)


@router.get("/strategies/{strategy_id:int}/preflight", summary="Everything that must be right", responses=NOT_THERE)
def checks(strategy_id: shapes.Id, caller: Reader) -> shapes.Checks:
    return shapes.Checks(checks=check_shapes(_checks(caller.desk, caller.desk.strategy(caller.id, strategy_id))))


# ------------------------------------------------------------------ wishes


@router.post("/strategies/{strategy_id:int}/start", summary="Start it for its next session", responses=NOT_THERE)
def start(strategy_id: shapes.Id, caller: Trader) -> shapes.Wished:
    """The wish is in the records when this answers; what comes of it is told by /events."""
    desk, store = caller.desk, caller.store
    found, now, reference = desk.strategy(caller.id, strategy_id), desk.now(), desk.reference()
    answer = in_the_way(found, open_run(store.open_runs(), found.id), last_wishes(store), reference, now)
    if answer is None:
        answer = to_start(found, reference, now)
    if answer.word == "saved":
        store.wish(found.id, Event.START, at=now, by=caller.user.name)
        caller.note("start", found.name)
        desk.ring([found.account])
    result = {"saved": "saved", "already": "already"}.get(answer.word, "refused")
    run_id = None if answer.run is None else answer.run.plan.run_id
    return shapes.Wished.model_validate({"result": result, "text": answer.text, "run_id": run_id})


@router.post("/strategies/{strategy_id:int}/stop", summary="Stop it", responses=NOT_THERE)
def stop(strategy_id: shapes.Id, asked: shapes.HowToStop, caller: Trader) -> shapes.Wished:
    """`square_off` sells what is held; `hand_over` leaves it to you, and squareoff forgets it and its stop-loss. The
    wish is in the records when this answers; what comes of it is told by /events."""
    desk, store, now = caller.desk, caller.store, caller.desk.now()
    found = desk.strategy(caller.id, strategy_id)
    run, waiting = open_run(store.open_runs(), found.id), last_wishes(store).get(found.id)
    hand_over = asked.how == "hand_over"
    if hand_over and (run is None or run.state is not State.BOUGHT):
        label = "nothing is held" if run is None else STATE_LABEL[run.state]
        raise BadInput("how", f"it cannot be handed over while it is not simply held ({label})", "square_off")
    is_repeating = any(each.id == found.id for each, _ in store.repeating())
    if run is None and waiting is None and not is_repeating:
        return shapes.Wished(result="not_started", text="not started: there is nothing to stop")
    is_starting = run is None and waiting is not None and waiting.event is Event.START
    by = caller.user.name
    if ask_to_stop(store, found.id, is_starting=is_starting, hand_over=hand_over, at=now, by=by) is None:
        caller.note("take back start", found.name)
        return shapes.Wished(result="taken_back", text="the start was taken back: no worker had taken it up")
    caller.note("hand over" if hand_over else "stop", found.name)
    desk.ring([found.account if run is None else run.plan.account])
    text = "saved: it is handed over to you" if hand_over else "saved: what is held is sold, and then it stops"
    run_id = None if run is None else run.plan.run_id
    return shapes.Wished(result="saved", text=f"{text}, as soon as its worker has taken it up", run_id=run_id)


@router.post("/strategies/{strategy_id:int}/acknowledge", summary="I have seen its alarm", responses=NOT_THERE)
def acknowledge(strategy_id: shapes.Id, caller: Trader) -> shapes.Told:
    """It rings again when something about the position changes. Getting out goes on all the same."""
    from squareoff import wiring

    found = caller.desk.strategy(caller.id, strategy_id)
    exposed = [run for run in caller.store.open_runs() if run.plan.strategy_id == found.id and is_exposed(run)]
    if not exposed:
        return shapes.Told(text="there is no alarm about a position")
    wiring.acknowledge(caller.desk.config, exposed[0].plan.account, [exposure_key(run) for run in exposed])
    caller.note("acknowledge", found.name)
    return shapes.Told(text="seen. It rings again when something about the position changes")
