"""The document of the page *Today*: everything a trader must see at once, in one piece, so that no part of it is older
than another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

from squareoff.apps.api import shapes
from squareoff.apps.formats import exact, local, plain, quantity
from squareoff.apps.status.next_action import held_words
from squareoff.apps.status.picture import OLD_FEED_S, Need, Picture, Row
from squareoff.core.definition import DEFAULT_EXCHANGE
from squareoff.core.limits import AccountRules, Level
from squareoff.core.machine import CAUSE_LABEL, EXIT_OPEN, EXPOSURE_LABEL, FINAL, STATE_LABEL, State
from squareoff.core.orders import AttemptPhase
from squareoff.core.run import Run
from squareoff.core.types import ZERO, AccountId, Exposure, Symbol

if TYPE_CHECKING:
    from squareoff.core.types import Position
    from squareoff.wiring import ReferenceData

NEEDS_SOON = timedelta(minutes=15)
"""A waiting strategy with a red check needs a person from here on before its BUY."""
SPECIAL_WITHIN_DAYS = 45
NAMED_AT_MOST = 5
Group = Literal["moving", "holding", "waiting", "done", "not_started"]


def today(
    picture: Picture,
    *,
    reference: ReferenceData,
    broker: Mapping[AccountId, shapes.BrokerSays],
    since: Mapping[int, datetime],
    brokers: Mapping[AccountId, str],
    shapes_of: RowShapes,
) -> shapes.Today:
    """`broker`: what each account's broker was last heard to hold. `since`: of runs, when they came to where they are;
    one that is left out is not known. `brokers`: the accounts with their broker."""
    zone = picture.zone
    return shapes.Today(
        now=picture.now.astimezone(zone).isoformat(timespec="milliseconds"),
        zone=zone.key,
        mode="PAPER",
        market=_market(picture, reference),
        trust=_trust(picture),
        kill=_kill(picture),
        needs=_needs(picture, broker, since),
        day=day_money(picture.rows, picture.rules.values()),
        guards=_guards(picture),
        broker=[broker.get(account, _not_heard(account)) for account in picture.accounts],
        accounts=[account_head(account, rules, picture, brokers) for account, rules in picture.rules.items()],
        groups=_groups(picture.rows),
        rows=shapes_of.all(picture, since),
    )


# ------------------------------------------------------------------ rows


_Shaped = tuple[Row, tuple[object, ...], shapes.TodayRow]
"""A row, what else its words depend on, and the words."""


class RowShapes:
    """Puts rows into words. Of a row of which only the price is new, only what follows from the price."""

    def __init__(self) -> None:
        self._before: dict[int, _Shaped] = {}

    def all(self, picture: Picture, since: Mapping[int, datetime]) -> dict[str, shapes.TodayRow]:
        """By id. What is not in the picture any more is forgotten."""
        self._before = {row.strategy.id: self._shaped(row, picture, since) for row in picture.rows}
        return {str(id_): shape for id_, (_, _, shape) in self._before.items()}

    def _shaped(self, row: Row, picture: Picture, since: Mapping[int, datetime]) -> _Shaped:
        run_id = None if row.run is None else int(row.run.plan.run_id)
        around = (row.account in picture.workers, None if run_id is None else since.get(run_id))
        before = self._before.get(row.strategy.id)
        if before is None or before[1] != around or not _is_same_but_for_price(before[0], row):
            return row, around, _row(row, picture, since)
        new = {"price": exact(row.last_price), "stop_distance": _distance(row), "gain": exact(row.gain)}
        return row, around, before[2].model_copy(update=new)


def _is_same_but_for_price(one: Row, other: Row) -> bool:
    return (
        one.run is other.run
        and one.strategy is other.strategy
        and one.words is other.words
        and one.next is other.next
        and one.wish is other.wish
        and one.red is other.red
        and one.armed is other.armed
    )


def _distance(row: Row) -> str | None:
    distance = row.stop_distance
    return None if distance is None else f"{distance:.2f}"


def group_of(row: Row) -> Group:
    if row.run is not None and row.is_held and (row.run.state in EXIT_OPEN or row.run.state is State.RUNNING):
        return "moving"
    if row.run is not None and row.run.state is State.RUNNING and not row.run.is_closed:
        return "moving"
    match row.need:
        case Need.FAILED | Need.HOLDING:
            return "holding"
        case Need.WAITING:
            return "waiting"
        case Need.DONE:
            return "done"
        case Need.NOT_STARTED:
            return "not_started"


def _groups(rows: Iterable[Row]) -> shapes.Groups:
    groups = shapes.Groups()
    for row in rows:  # in the order of need already
        getattr(groups, group_of(row)).append(row.strategy.id)
    return groups


def _row(row: Row, picture: Picture, since: Mapping[int, datetime]) -> shapes.TodayRow:
    run, strategy, zone = row.run, row.strategy, row.zone
    state = State.CREATED if run is None or row.need is Need.NOT_STARTED else run.outcome or run.state
    exposure = Exposure.FLAT if run is None else run.exposure
    held = ZERO if run is None or run.handed_over else max(run.remaining_qty, ZERO)
    guard: Literal["squareoff", "nobody", ""] = ""
    if row.is_held:
        guard = "squareoff" if row.account in picture.workers else "nobody"
    return shapes.TodayRow(
        id=strategy.id,
        name=strategy.name,
        symbol=strategy.symbol,
        account=row.account,
        group=group_of(row),
        state=state,
        label=STATE_LABEL[state],
        exposure=exposure,
        exposure_label=EXPOSURE_LABEL[exposure],
        words=plain(row.words),
        next=plain(row.next),
        run_id=None if run is None or row.need is Need.NOT_STARTED else run.plan.run_id,
        quantity=quantity_text(strategy.quantity if run is None else run.plan.quantity),
        filled=quantity_text(ZERO if run is None else run.entry.filled_qty),
        held=quantity_text(held),
        price=exact(row.last_price),
        entry_price=None if run is None else exact(run.entry.avg_fill_price),
        stop_price=None if run is None else exact(run.stop_price),
        stop_distance=_distance(row),
        gain=exact(row.gain),
        pnl=None if run is None else exact(run.pnl_gross),
        buy_at=None if run is None else local(run.plan.buy_at, zone),
        sell_at=None if run is None else local(run.plan.sell_at, zone),
        guard=guard,
        armed=row.armed,
        red=None
        if row.red is None
        else shapes.Red(name=str(row.red.name), text=plain(row.red.text), mend=plain(row.red.mend)),
        skipped=row.need is Need.DONE and run is not None and run.outcome is State.FAILED and not run.entry.filled_qty,
        moving=_moving(row, since),
        pending=None if row.wish is None else str(row.wish.event),
        revision=strategy.revision,
        stop_loss=str(strategy.stop_loss if run is None else run.plan.stop_loss),
    )


def quantity_text(value: Decimal) -> str:
    return exact(value) or "0"


def _moving(row: Row, since: Mapping[int, datetime]) -> shapes.Moving | None:
    run = row.run
    if run is None or run.is_closed or (run.state is not State.RUNNING and run.state not in EXIT_OPEN):
        return None
    is_buy = run.state is State.RUNNING
    slot = run.entry if is_buy else run.exit
    attempt = slot.current
    began = run.entry_opened_at if is_buy else since.get(run.plan.run_id)
    is_sent = attempt is not None and attempt.phase is not AttemptPhase.LICENSED
    return shapes.Moving(
        side="BUY" if is_buy else "SELL",
        since=local(began, row.zone),
        filled=quantity_text(slot.filled_qty),
        wanted=quantity_text(run.plan.quantity if is_buy else run.entry.filled_qty),
        attempt=attempt.number if attempt is not None else 1,
        client_order_id=attempt.client_order_id if attempt is not None and is_sent else "",
        broker_order_id=attempt.broker_order_id if attempt is not None else None,
    )


# ------------------------------------------------------------------ the top of the page


def _trust(picture: Picture) -> shapes.Trust:
    age_s, is_up = picture.feed_age_s, picture.up is not None
    ok = None if age_s is None else age_s <= OLD_FEED_S
    if not is_up and not picture.workers:
        text = "squareoff is not running: nothing trades and nothing is guarded"
    elif age_s is None:
        text = "no price is needed now"
    else:
        text = f"prices {age_s:.1f} s old" if ok else f"NO PRICE for {age_s:.0f} s"
    age = None if age_s is None else round(age_s, 1)
    return shapes.Trust(up=is_up, feed_age_s=age, feed_ok=ok, text=text)


def _market(picture: Picture, reference: ReferenceData) -> shapes.MarketShape:
    exchange = picture.rows[0].strategy.symbol.partition(":")[0] if picture.rows else DEFAULT_EXCHANGE
    try:
        calendar = reference.calendar(exchange)
        day = picture.now.astimezone(picture.zone).date()
        session = calendar.session_on(day)
    except (LookupError, ValueError, OSError) as error:
        return _market_shape(exchange, False, str(error), None, picture)
    if session is None:
        following = calendar.next_session(day)
        text = f"closed today ({calendar.why_closed(day)}); opens {following.day:%a %d %b} {_wall(following.opens_at)}"
        return _market_shape(exchange, False, text, _special(calendar, day, picture), picture)
    if getattr(calendar.hours, "always_open", False):
        return _market_shape(exchange, True, "open at every hour", None, picture)
    is_open = session.opens_at <= picture.now < session.closes_at
    opens, closes = session.opens_at.astimezone(session.zone), session.closes_at.astimezone(session.zone)
    if is_open:
        text = f"open until {closes:%H:%M}"
    else:
        text = f"opens at {opens:%H:%M}" if picture.now < session.opens_at else f"closed since {closes:%H:%M}"
    return _market_shape(exchange, is_open, text, _special(calendar, day, picture), picture)


def _market_shape(
    exchange: str, is_open: bool, text: str, special: shapes.Special | None, picture: Picture
) -> shapes.MarketShape:
    return shapes.MarketShape(
        exchange=exchange,
        open=is_open,
        text=text,
        next_special=special,
        practice={"": "", "practice": "practice"}.get((picture.market or "").partition(":")[0], "recorded prices"),
        speed=picture.speed,
    )


def _wall(instant: datetime) -> str:
    return f"{instant:%H:%M}"


def _special(calendar: Any, today: date, picture: Picture) -> shapes.Special | None:
    """The next day on which the market keeps other hours, or is closed on a weekday. Recorded days have none."""
    if picture.market is not None:
        return None
    for ahead in range(SPECIAL_WITHIN_DAYS):
        day = today + timedelta(days=ahead)
        try:
            session = calendar.session_on(day)
            if calendar.is_special(day) and session is not None:
                opens, closes = (i.astimezone(session.zone) for i in (session.opens_at, session.closes_at))
                return shapes.Special(date=day.isoformat(), text=f"{session.name}, {opens:%H:%M} to {closes:%H:%M}")
            if session is None and day.weekday() < 5 and ahead:
                return shapes.Special(date=day.isoformat(), text=f"closed: {calendar.why_closed(day)}")
        except LookupError:
            return None  # a year nobody signed off: `doctor` and the preflight tell of it
    return None


def _kill(picture: Picture) -> shapes.KillShape:
    held = [row for row in picture.rows if row.is_held and row.run is not None]
    pressed = any(rules.level is not Level.NORMAL for rules in picture.rules.values())
    what = _some(len(held), (_held(row.run) for row in held if row.run is not None), ", ")
    many = "1 position" if len(held) == 1 else f"{len(held)} positions"
    text = f"would sell {many}: {what}" if held else "nothing is held; it would stop every new BUY"
    return shapes.KillShape(pressed=pressed, text=text, accounts=list(picture.accounts), holds=len(held))


def _some(count: int, words: Iterable[str], between: str) -> str:
    """A sentence that can be read, however many there are; nearest to their stop-loss first, as the rows are."""
    more = count - NAMED_AT_MOST
    return between.join([*islice(words, NAMED_AT_MOST), *([f"and {more} more"] if more > 0 else [])])


def _held(run: Run) -> str:
    may_be = "perhaps " if run.exposure is Exposure.UNKNOWN else ""
    return f"{may_be}{quantity(run.remaining_qty if run.remaining_qty > 0 else run.plan.quantity)} {run.plan.symbol}"


def _guards(picture: Picture) -> list[shapes.Guard]:
    told = []
    for account in picture.accounts:
        count = sum(1 for row in picture.rows if row.is_held and row.account == account)
        many = "1 position" if count == 1 else f"{count} positions"
        worker = picture.workers.get(account)
        of = f" of {account}" if len(picture.accounts) > 1 else ""
        if worker is None:
            text = f"NOBODY guards {many}{of}" if count else f"nobody trades{of or ' here'}: squareoff is not running"
            told.append(shapes.Guard(account=account, who="nobody", text=text))
        else:
            text = f"squareoff guards {many}{of}; while this machine is off, nobody does"
            told.append(shapes.Guard(account=account, who="squareoff", text=text))
    return told


def account_head(
    account: AccountId, rules: AccountRules, picture: Picture, brokers: Mapping[AccountId, str]
) -> shapes.AccountHead:
    return shapes.AccountHead(
        id=account,
        broker=brokers.get(account, "paper"),
        level=rules.level.value,
        level_reason=plain(rules.reason),
        level_by=plain(rules.by),
        level_at=local(rules.at, picture.zone),
        worker=account in picture.workers,
    )


# ------------------------------------------------------------------ money


def day_money(rows: Iterable[Row], rules: Iterable[AccountRules]) -> shapes.DayMoney:
    """Of the day's runs: those that are shown."""
    closed = still_open = if_stopped = ZERO
    is_known = True
    for row in rows:
        run = row.run
        if run is None or row.need is Need.NOT_STARTED:
            continue
        made = run.pnl_gross or ZERO
        closed += made
        average, stop = run.entry.avg_fill_price, run.stop_price
        if not row.is_held or average is None or run.remaining_qty <= 0:
            continue
        still_open += ZERO if row.last_price is None else (row.last_price - average) * run.remaining_qty
        if stop is None:
            is_known = False
        else:
            if_stopped += (stop - average) * run.remaining_qty
    limits = [each.limits.max_loss_per_day for each in rules]
    known = [limit for limit in limits if limit is not None]
    limit = sum(known, ZERO) if known and len(known) == len(limits) else None
    pnl = closed + still_open
    return shapes.DayMoney(
        pnl=exact(pnl) or "0",
        pnl_closed=exact(closed) or "0",
        pnl_open=exact(still_open) or "0",
        loss_if_stopped=exact(closed + if_stopped) if is_known else None,
        left_of_limit=None if limit is None else exact(limit + pnl),
        limit=exact(limit),
    )


# ------------------------------------------------------------------ who needs a person


def _needs(
    picture: Picture, broker: Mapping[AccountId, shapes.BrokerSays], since: Mapping[int, datetime]
) -> list[shapes.Need]:
    return [
        *_unguarded(picture),
        *(need for row in picture.rows if (need := _of_failed(row, since)) is not None),
        *_broker_differs(broker.values()),
        *_silent_feed(picture),
        *_switches(picture),
        *(need for row in picture.rows if (need := _of_waiting(row, picture)) is not None),
    ]


def _unguarded(picture: Picture) -> Iterable[shapes.Need]:
    for account in dict.fromkeys(row.account for row in picture.rows if row.is_held):
        if account in picture.workers:
            continue
        held = [row for row in picture.rows if row.is_held and row.account == account and row.run is not None]
        told = (f"{row.strategy.name} holds {held_words(row.run)}" for row in held if row.run)
        what = _some(len(held), told, "; ")
        is_up = picture.up is not None
        yield shapes.Need(
            key=f"unguarded:{account}",
            severity="alarm",
            text=f"NOBODY GUARDS {what}",
            since=None,
            doing="the trading worker died; squareoff starts it again" if is_up else "squareoff is not running",
            todo="wait a few seconds" if is_up else "run `squareoff up` now, or close it at your broker",
        )


def _of_failed(row: Row, since: Mapping[int, datetime]) -> shapes.Need | None:
    run = row.run
    if run is None or row.need is not Need.FAILED:
        return None
    why = CAUSE_LABEL[run.cause] if run.cause is not None else STATE_LABEL[run.state]
    is_unknown = run.exposure is Exposure.UNKNOWN
    doing = (
        "the broker is asked again and again what became of the order"
        if is_unknown
        else "it goes on being sold, every 5 s while the market is open"
    )
    return shapes.Need(
        key=f"run:{run.plan.run_id}",
        severity="alarm",
        text=f"{row.strategy.name} {'may hold' if is_unknown else 'holds'} {held_words(run)}: {plain(why)}",
        since=local(since.get(run.plan.run_id), row.zone),
        doing=doing,
        todo="look at your broker's order book; if it is not there, close it by hand, and squareoff sees that",
        strategy_id=row.strategy.id,
        run_id=run.plan.run_id,
        can_acknowledge=True,
    )


def _broker_differs(said: Iterable[shapes.BrokerSays]) -> Iterable[shapes.Need]:
    for each in said:
        if each.state == "differs":
            yield shapes.Need(
                key=f"broker:{each.account}",
                severity="alarm",
                text=each.text,
                since=each.at,
                doing="squareoff never sells more than the broker says is there, and asks again every few seconds",
                todo="look at your broker: was something sold by hand?",
            )


def _silent_feed(picture: Picture) -> Iterable[shapes.Need]:
    holds = any(row.is_held for row in picture.rows)
    if holds and picture.feed_age_s is not None and picture.feed_age_s > OLD_FEED_S:
        yield shapes.Need(
            key="feed",
            severity="alarm",
            text=f"no price for {picture.feed_age_s:.0f} s while something is held: its stop-loss cannot be seen",
            since=None,
            doing="squareoff connects again and asks for quotes",
            todo="look at the price at your broker",
        )


def _switches(picture: Picture) -> Iterable[shapes.Need]:
    for account, rules in picture.rules.items():
        if rules.level is Level.NORMAL:
            continue
        what = "no new entry is made" if rules.level is Level.NO_ENTRIES else "everything is squared off, no new entry"
        who = f" by {plain(rules.by)}" if rules.by else ""
        yield shapes.Need(
            key=f"kill:{account}",
            severity="warning",
            text=f"the kill switch of {account} is on{who}: {what} ({plain(rules.reason) or 'no reason given'})",
            since=local(rules.at, picture.zone),
            doing="it stays pressed, also over restarts",
            todo="release it in Settings, with a reason, when you have looked",
        )


def _of_waiting(row: Row, picture: Picture) -> shapes.Need | None:
    run, red = row.run, row.red
    if run is None or red is None or row.need is not Need.WAITING or run.plan.buy_at - picture.now > NEEDS_SOON:
        return None
    return shapes.Need(
        key=f"red:{run.plan.run_id}",
        severity="warning",
        text=f"{row.strategy.name} will not buy at {run.plan.buy_at.astimezone(row.zone):%H:%M}: {plain(red.text)}",
        since=None,
        doing="every check is asked again before the BUY",
        todo=plain(red.mend) or "see its checks",
        strategy_id=row.strategy.id,
        run_id=run.plan.run_id,
    )


# ------------------------------------------------------------------ what the broker says


def _not_heard(account: AccountId) -> shapes.BrokerSays:
    return shapes.BrokerSays(account=account, state="unknown", at=None, age_s=None, text="the broker was not asked yet")


def compared(
    account: AccountId, ours: Sequence[Run], said: Sequence[Position], *, at: datetime, zone: ZoneInfo
) -> shapes.BrokerSays:
    """What our fills say against what the broker says. More at the broker than of ours is the trader's own."""
    told, missing, more = per_symbol(ours), [], []
    theirs = {(each.symbol, str(each.product)): each.net_qty for each in said}
    for place in {**told, **theirs}:
        mine, net = told.get(place, ZERO), theirs.get(place, ZERO)
        if net < mine:
            missing.append(f"{quantity(net)} of the {quantity(mine)} {place[0]} that squareoff bought")
        elif net > mine:
            more.append(f"{quantity(net - mine)} {place[0]}")
    if missing:
        text, state = f"the broker holds only {_some(len(missing), missing, ', ')}", "differs"
    else:
        text, state = "the broker says the same", "same"
        if more:
            text += f", and {_some(len(more), more, ', ')} of your own"
    return shapes.BrokerSays(
        account=account,
        state="differs" if state == "differs" else "same",
        at=at.astimezone(zone).isoformat(timespec="milliseconds"),
        age_s=0.0,
        text=text,
    )


def per_symbol(runs: Iterable[Run]) -> dict[tuple[Symbol, str], Decimal]:
    """What our fills say is held, by symbol and product."""
    told: dict[tuple[Symbol, str], Decimal] = {}
    for run in runs:
        if not run.handed_over and run.remaining_qty > 0:
            place = run.plan.symbol, str(run.plan.product)
            told[place] = told.get(place, ZERO) + run.remaining_qty
    return told


def is_moving(run: Run) -> bool:
    """While an order is out, broker and fills may differ for a moment without anything being wrong."""
    return (
        run.entry.is_live or run.exit.is_live or (run.state in EXIT_OPEN) or (run.state in FINAL and not run.is_closed)
    )
