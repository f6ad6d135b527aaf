"""Accounts, limits, the kill switch, alerts."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query

from squareoff.apps.accounts_command import starting_cash
from squareoff.apps.api import shapes
from squareoff.apps.api.callers import Acting, Caller, Reader, Trader
from squareoff.apps.api.problems import not_found, responses
from squareoff.apps.facts import look_around
from squareoff.apps.formats import exact, local, plain
from squareoff.apps.kill_command import limit, press
from squareoff.apps.up.supervisor import worker_pids
from squareoff.apps.up_command import describe
from squareoff.core.bad_input import BadInput
from squareoff.core.definition import account_name
from squareoff.core.limits import AccountRules, Level, Limits
from squareoff.core.types import AccountId, Exposure

router = APIRouter(tags=["accounts"], route_class=Acting, responses=responses(401, 403, 413, 422, 503))


def _shape(
    caller: Caller, account: AccountId, rules: AccountRules, broker: str, *, worker: bool, funds: Decimal | None
) -> shapes.AccountShape:
    limits = rules.limits
    return shapes.AccountShape(
        id=account,
        broker=broker,
        level=rules.level.value,
        level_reason=plain(rules.reason),
        level_by=plain(rules.by),
        level_at=local(rules.at, caller.desk.zone()),
        worker=worker,
        limits=shapes.LimitsShape(
            max_order_qty=exact(limits.max_order_qty),
            max_order_value=exact(limits.max_order_value),
            max_open_positions=limits.max_open_positions,
            max_orders_per_day=limits.max_orders_per_day,
            max_loss_per_day=exact(limits.max_loss_per_day),
            square_off_at_loss=limits.square_off_at_loss,
        ),
        funds=exact(funds),
    )


def _shapes(caller: Caller) -> list[shapes.AccountShape]:
    store = caller.store
    workers, brokers = worker_pids(caller.desk.config), store.accounts()
    purses = look_around(caller.desk.config).broker.by_account
    return [
        _shape(
            caller,
            account,
            rules,
            brokers.get(account, "paper"),
            worker=account in workers,
            funds=purses[account].free if account in purses else None,
        )
        for account, rules in store.all_rules().items()
    ]


def _mine(caller: Caller, account: str) -> AccountId:
    """Raises ApiError 404: also for an account of somebody else."""
    if account not in caller.store.accounts():
        raise not_found(f"there is no account {account[:60]!r}")
    return AccountId(account)


def _one(caller: Caller, account: AccountId) -> shapes.AccountShape:
    return next(each for each in _shapes(caller) if each.id == account)


@router.get("/accounts", summary="My accounts")
def accounts(caller: Reader) -> shapes.Accounts:
    return shapes.Accounts(accounts=_shapes(caller))


@router.post("/accounts", status_code=201, summary="Add a paper account")
def add_account(asked: shapes.NewAccount, caller: Trader) -> shapes.AccountShape:
    """Its worker starts within a second or two while `squareoff up` runs."""
    from squareoff import wiring

    name, store = account_name(asked.name), caller.store
    cash = starting_cash(None if asked.cash is None else str(asked.cash))
    if name in store.accounts():
        raise BadInput("name", f"there is an account {name!r} already", "choose another name")
    store.add_account(name, broker="paper")  # first: it may be somebody else's
    wiring.ensure_paper_account(caller.desk.config, name, cash=cash)
    caller.note("add account", name)
    return _one(caller, name)


@router.put("/accounts/{account}/limits", summary="What it may do at most", responses=responses(404))
def set_limits(account: str, asked: shapes.NewLimits, caller: Trader) -> shapes.AccountShape:
    """New entries beyond a limit are skipped, with the reason; nothing ever holds back an exit."""
    name = _mine(caller, account)
    values: dict[str, Any] = {
        field: None if value in (None, "") else limit(field, str(value))
        for field, value in asked.model_dump(exclude={"square_off_at_loss"}).items()
    }
    limits = Limits(**values, square_off_at_loss=asked.square_off_at_loss)
    if limits.square_off_at_loss and limits.max_loss_per_day is None:
        raise BadInput("square_off_at_loss", "needs max_loss_per_day", "say at which loss")
    caller.store.set_limits(name, limits, by=caller.user.name, at=caller.desk.now())
    caller.note("set limits", name)
    return _one(caller, name)


# ------------------------------------------------------------------ the kill switch


@router.post("/kill", summary="Stop accounts at once, and keep them stopped")
def kill(asked: shapes.Kill, caller: Trader) -> shapes.Killed:
    """Latched in a file and in the records until it is released by name. What is sold is proven by /events: `holds` of
    the kill bar comes to 0."""
    known = caller.store.accounts()
    for account in asked.accounts:
        if account not in known:
            raise BadInput("accounts", f"there is no account {account[:60]!r}", f"yours: {', '.join(known)}")
    level = Level(asked.level)
    held = [
        run
        for run in caller.store.open_runs()
        if run.plan.account in asked.accounts and run.exposure in (Exposure.LONG, Exposure.UNKNOWN)
    ]
    pressed = [
        press(caller.desk.config, AccountId(account), level, asked.reason, by=caller.user.name)
        for account in dict.fromkeys(asked.accounts)
    ]
    caller.note("kill switch", ", ".join(asked.accounts), f"{level}: {asked.reason}")
    return shapes.Killed(
        accounts=[
            shapes.Pressed(account=p["account"], file=p["file"], database=p["database"], why_not=p["why_not"])
            for p in pressed
        ],
        would_sell=[describe(run) for run in held] if level is Level.SQUARE_OFF else [],
    )


@router.post("/accounts/{account}/release", summary="Let it trade again", responses=responses(404))
def release(account: str, asked: shapes.Reason, caller: Trader) -> shapes.AccountShape:
    from squareoff import wiring

    name = _mine(caller, account)
    if not asked.reason.strip():
        raise BadInput("reason", "is missing", "say why it may trade again")
    at, by = caller.desk.now(), caller.user.name
    # the records first: a file gone while they still say no would be half a release
    caller.store.set_level(name, Level.NORMAL, reason=asked.reason, by=by, at=at)
    wiring.brake(caller.desk.config, name).press(Level.NORMAL, reason=asked.reason, by=by, at=at)
    caller.note("release", name, asked.reason)
    return _one(caller, name)


# ------------------------------------------------------------------ alerts


@router.get("/alerts", summary="What was told, and where it goes")
def alerts(caller: Reader, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> shapes.Alerts:
    """Alerts about runs of others are not shown."""
    from squareoff.wiring import alerts as alerts_wiring

    data, problem, channels = caller.desk.config.data, "", []
    try:
        settings = alerts_wiring.alert_settings(data)
        channels = [
            shapes.ChannelShape(channel=each.name, minimum=str(each.minimum))
            for each in alerts_wiring.alert_channels(settings, data)
        ]
    except BadInput as error:
        problem = str(error)
    told = alerts_wiring.last_alerts(data, limit)
    return shapes.Alerts(alerts=_own(caller, told), channels=channels, problem=problem)


def _own(caller: Caller, told: list[dict[str, Any]]) -> list[shapes.AlertShape]:
    """The log is of the whole installation: with several users only what names a run is shown, to whoever's it is."""
    store, runs = caller.store, {}
    everybodys = len(caller.desk.access.users()) == 1
    shown = []
    for alert in reversed(told):
        run_id = alert.get("run_id")
        if not everybodys:
            if run_id is None:
                continue
            if run_id not in runs:
                runs[run_id] = _has_run(store, run_id)
            if not runs[run_id]:
                continue
        shown.append(
            shapes.AlertShape(
                at=str(alert.get("at", "")),
                severity=str(alert.get("severity", "")),
                headline=plain(str(alert.get("headline", ""))),
                text=plain(str(alert.get("text", ""))),
                run_id=run_id if isinstance(run_id, int) else None,
            )
        )
    return shown


def _has_run(store: Any, run_id: Any) -> bool:
    try:
        store.run(run_id)
    except BadInput:
        return False
    return True


@router.post("/alerts/test", summary="Send a test through every channel")
def test_alerts(caller: Trader) -> shapes.TestAlerts:
    from squareoff.wiring import alerts as alerts_wiring

    settings = alerts_wiring.alert_settings(caller.desk.config.data)
    sent = alerts_wiring.send_test_alerts(settings, caller.desk.config.data)
    told = [shapes.TestAlert(channel=s.channel, delivered=s.reason is None, reason=s.reason) for s in sent]
    caller.note("test alerts", "")
    return shapes.TestAlerts(sent=told)
