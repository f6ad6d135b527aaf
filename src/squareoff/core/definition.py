"""From what a trader writes (TOML, command line) to a checked strategy; and from a strategy to a day's plan.

Every error names the field, what is wrong and what would be right. `read` looks at each field by itself, `check`
at the fields together with the instrument and the exchange's hours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from squareoff.core.bad_input import BadInput
from squareoff.core.instruments import Instrument
from squareoff.core.session import Calendar, DayHours, ExchangeHours, Session
from squareoff.core.strategy import Plan, Repeat, StopLoss, StopLossKind, Strategy, Timing
from squareoff.core.types import AccountId, Product, RunId, StrategyId, Symbol, UserId

DEFAULT_EXCHANGE = "NSE"
DEFAULT_PRODUCT = Product.MIS
DEFAULT_REPEAT = Repeat.ONCE
DEFAULT_ACCOUNT = AccountId("paper")
CLOSE_MARGIN = timedelta(minutes=15)
"""A SELL must be due at least this long before the session ends, so that an unfilled exit can still be chased."""

FIELDS = ("name", "symbol", "quantity", "buy_time", "sell_time", "stop_loss", "repeat", "until", "product", "account")
_REQUIRED = ("symbol", "quantity", "buy_time", "sell_time", "stop_loss")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
_STOP_LOSS = re.compile(r"(?P<value>[+-]?\d+(\.\d+)?)\s*(?P<unit>%|pts|points|pt)?", re.ASCII)
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_LONGEST_SHOWN = 60
_MOST_DIGITS = 12
"""Before the decimal point: more than any price or order has, and few enough for exact division by a tick."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Draft:
    """A strategy as written, each field readable, not yet checked against the market."""

    name: str
    symbol: Symbol
    quantity: Decimal
    buy_time: time
    sell_time: time
    stop_loss: StopLoss
    repeat: Repeat = DEFAULT_REPEAT
    product: Product = DEFAULT_PRODUCT
    account: AccountId = DEFAULT_ACCOUNT
    until: date | None = None
    """Of one that repeats: its last trading day."""

    def as_strategy(self, strategy_id: StrategyId, user: UserId) -> Strategy:
        return Strategy(
            id=strategy_id,
            user=user,
            account=self.account,
            name=self.name,
            symbol=self.symbol,
            quantity=self.quantity,
            buy_time=self.buy_time,
            sell_time=self.sell_time,
            stop_loss=self.stop_loss,
            product=self.product,
            repeat=self.repeat,
            until=self.until,
        )


def read(fields: Mapping[str, object], *, where: str = "") -> Draft:
    """Read one strategy. `where` (a file and place) is put before the field's name in every error."""
    prefix = f"{where}: " if where else ""
    for key in fields:
        if key not in FIELDS:
            unknown = f"{prefix}{_bare(key)}"
            raise BadInput(unknown, "is not a field of a strategy", f"the fields are {', '.join(FIELDS)}")
    for key in _REQUIRED:
        if fields.get(key) in (None, ""):
            raise BadInput(f"{prefix}{key}", "is missing", f"every strategy needs one, for example {_EXAMPLE[key]}")
    symbol = _symbol(fields["symbol"], prefix)
    repeat = _one_of(Repeat, fields.get("repeat", DEFAULT_REPEAT), f"{prefix}repeat")
    return Draft(
        name=_name(fields.get("name") or _name_from(symbol), prefix),
        symbol=symbol,
        quantity=_quantity(fields["quantity"], prefix),
        buy_time=_time(fields["buy_time"], f"{prefix}buy_time"),
        sell_time=_time(fields["sell_time"], f"{prefix}sell_time"),
        stop_loss=_stop_loss(fields["stop_loss"], prefix),
        repeat=repeat,
        until=_until(fields.get("until"), repeat, f"{prefix}until"),
        product=_one_of(Product, _upper(fields.get("product", DEFAULT_PRODUCT)), f"{prefix}product"),
        account=AccountId(_name(fields.get("account", DEFAULT_ACCOUNT), prefix, field="account")),
    )


_EXAMPLE = {
    "symbol": '"NSE:INFY"',
    "quantity": "50",
    "buy_time": '"09:20"',
    "sell_time": '"15:15"',
    "stop_loss": '"1540", "1.5%" or "20pts"',
}


def check(
    draft: Draft,
    *,
    instrument: Instrument,
    hours: ExchangeHours,
    session: DayHours | None = None,
    trading_day: date | None = None,
    price: Decimal | None = None,
    replay: bool = False,
    where: str = "",
) -> None:
    """Refuse what cannot be traded as written. `session` None: the exchange's regular hours. `trading_day`: for an
    instrument's expiry, None = not asked. `price`: what it costs now, as far as known; the stop-loss must be below.
    `replay` allows what can only be replayed, such as an index."""
    prefix = f"{where}: " if where else ""
    if not replay and not instrument.tradable:
        raise BadInput(
            f"{prefix}symbol",
            f"{draft.symbol} is {_with_article(instrument.kind)} and cannot be bought",
            "it can be used in `squareoff replay`; to trade choose a share, for example NSE:INFY",
        )
    if not replay and trading_day is not None and instrument.expiry is not None and instrument.expiry < trading_day:
        raise BadInput(
            f"{prefix}symbol",
            f"{draft.symbol} expired on {instrument.expiry}",
            "choose a contract that still trades",
        )
    _check_quantity(draft, instrument, prefix)
    _check_stop_loss(draft, instrument, prefix)
    if price is not None:
        _check_below(draft.stop_loss, price, f"{prefix}stop_loss")
    _check_times(draft, hours, session or hours.regular, prefix)


def _check_quantity(draft: Draft, instrument: Instrument, prefix: str) -> None:
    lot = instrument.lot
    if draft.quantity % lot:
        below = draft.quantity // lot * lot
        near = f"{below:f} or {below + lot:f}" if below else f"{lot:f}"
        raise BadInput(
            f"{prefix}quantity", f"{draft.quantity:f} is not a multiple of the lot of {lot:f}", f"for example {near}"
        )
    if instrument.freeze_qty is not None and draft.quantity > instrument.freeze_qty:
        raise BadInput(
            f"{prefix}quantity",
            f"{draft.quantity:f} is above the exchange's freeze quantity of {instrument.freeze_qty:f} for one order",
            "use several strategies",
        )


def _check_stop_loss(draft: Draft, instrument: Instrument, prefix: str) -> None:
    field, tick = f"{prefix}stop_loss", instrument.tick_size
    stop = draft.stop_loss
    if stop.kind is StopLossKind.PERCENT and stop.value >= 100:
        raise BadInput(field, f"{stop} is the whole price or more", 'a percentage below 100, for example "1.5%"')
    if stop.kind is StopLossKind.POINTS and stop.value < tick:
        raise BadInput(field, f"{stop} is less than one tick of {tick:f}", "it would square off at the price paid")
    if stop.kind is StopLossKind.PRICE and stop.value % tick:
        below = stop.value // tick * tick
        raise BadInput(
            field,
            f"{stop} is off the tick: prices of {draft.symbol} move in steps of {tick:f}",
            f"for example {below + tick:f}",
        )
    if stop.kind is StopLossKind.PRICE and instrument.lower_band is not None and stop.value < instrument.lower_band:
        raise _outside_band(field, stop, "below the lower", instrument.lower_band, instrument.as_of)
    if stop.kind is StopLossKind.PRICE and instrument.upper_band is not None and stop.value >= instrument.upper_band:
        raise _outside_band(field, stop, "at or above the upper", instrument.upper_band, instrument.as_of)


def _check_below(stop: StopLoss, price: Decimal, field: str) -> None:
    """A price at or above what the share costs would sell at once; as many points would never sell."""
    if stop.kind is StopLossKind.PERCENT or stop.value < price:
        return
    if stop.kind is StopLossKind.POINTS:
        raise BadInput(field, f"{stop} is the whole price of {price:f} or more", "fewer points than the price")
    raise BadInput(field, f"{stop} is at or above the price {price:f}", "it must be below, or it would sell at once")


def _outside_band(field: str, stop: StopLoss, where: str, band: Decimal, as_of: date) -> BadInput:
    return BadInput(
        field,
        f"{stop} is {where} price band {band:f} of {as_of}",
        "choose a price inside the band: it must be able to trigger",
    )


def _check_times(draft: Draft, hours: ExchangeHours, session: DayHours, prefix: str) -> None:
    opens, closes = session.opens, session.closes
    buy, sell = _seconds(draft.buy_time), _seconds(draft.sell_time)
    start, end = _seconds(opens), _seconds(closes) or 24 * 3600
    right = f"{hours.exchange}'s session is {session}"
    if not start <= buy < end:
        raise BadInput(f"{prefix}buy_time", f"{_clock(draft.buy_time)} is outside the session", right)
    if sell <= buy:
        raise BadInput(
            f"{prefix}sell_time",
            f"{_clock(draft.sell_time)} is not after buy_time {_clock(draft.buy_time)}",
            "a strategy buys first and sells later the same day",
        )
    if not start <= sell < end:
        raise BadInput(f"{prefix}sell_time", f"{_clock(draft.sell_time)} is outside the session", right)
    latest = end - int(CLOSE_MARGIN.total_seconds())
    square_off = hours.square_off.get(str(draft.product))
    if square_off is not None and start < _seconds(square_off) < end and sell >= _seconds(square_off):
        raise BadInput(
            f"{prefix}sell_time",
            f"{_clock(draft.sell_time)} is not before the broker's own square-off of {draft.product} at "
            f"{_clock(square_off)}",
            f"{_of_seconds(latest)} at the latest" if sell > latest else "sell earlier, or choose another product",
        )
    if sell > latest:
        raise BadInput(
            f"{prefix}sell_time",
            f"{_clock(draft.sell_time)} is less than 15 minutes before the session's end",
            f"{_of_seconds(latest)} at the latest ({right})",
        )


def closing_auction_warning(draft: Draft, *, instrument: Instrument, session: Session) -> str | None:
    """What a trader should know of a sell time at which the share no longer trades continuously; None: nothing."""
    ends_at = session.trades_until(closing_auction=instrument.closing_auction)
    if ends_at == session.closes_at or session.at(draft.sell_time) < ends_at:
        return None
    ends = f"{ends_at.astimezone(session.zone):%H:%M}"
    return (
        f"sell_time: continuous trading of {draft.symbol} may end at {ends} (closing auction), "
        f"so a SELL at {_clock(draft.sell_time)} may fill only in the auction; before {ends} it fills at once"
    )


def plan_for(
    strategy: Strategy,
    *,
    run_id: RunId,
    session: Session,
    instrument: Instrument,
    timing: Timing = Timing(),  # noqa: B008 - frozen
) -> Plan:
    """`strategy` on the day of `session`, all instants in UTC. Raises BadInput if the session is too short for it."""
    buy_at, sell_at = session.at(strategy.buy_time), session.at(strategy.sell_time)
    for field, instant in (("buy_time", buy_at), ("sell_time", sell_at)):
        if instant not in session:
            raise BadInput(
                field,
                f"{instant.astimezone(session.zone):%H:%M} is outside the session of {session.day} ({session.name})",
                f"that session is {_span(session)}",
            )
    return Plan(
        run_id=run_id,
        strategy_id=strategy.id,
        user=strategy.user,
        account=strategy.account,
        name=strategy.name,
        symbol=strategy.symbol,
        product=strategy.product,
        quantity=strategy.quantity,
        trading_day=session.day,
        buy_at=buy_at,
        sell_at=sell_at,
        closes_at=session.closes_at,
        stop_loss=strategy.stop_loss,
        tick_size=instrument.tick_size,
        timing=timing,
    )


def next_session_for(strategy: Strategy, calendar: Calendar, now: datetime) -> Session:
    """Today's session while its BUY can still be made, else the next one. Raises UnknownYear, NoMoreSessions."""
    zone = calendar.hours.zone
    today = now.astimezone(zone).date()
    session = calendar.session_on(today)
    if session is not None and now <= session.at(strategy.buy_time):
        return session
    return calendar.next_session(today)


def _span(session: Session) -> str:
    local: list[datetime] = [i.astimezone(session.zone) for i in (session.opens_at, session.closes_at)]
    return f"{local[0]:%H:%M}-{local[1]:%H:%M}"


# ------------------------------------------------------------------ single fields


def _symbol(value: object, prefix: str) -> Symbol:
    text = str(value).strip().upper()
    exchange, colon, name = text.rpartition(":")
    if not colon:
        exchange, name = DEFAULT_EXCHANGE, text
    if not exchange or not name:
        wrong = f"{_shown(value)} is not a symbol"
        raise BadInput(f"{prefix}symbol", wrong, "write exchange and name, like NSE:INFY")
    return Symbol(f"{exchange}:{name}")


def _name_from(symbol: Symbol) -> str:
    """The name of a strategy that was given none: `NSE:M&M` is `m-m`."""
    return re.sub(r"[^a-z0-9_.-]", "-", symbol.partition(":")[2].lower()).lstrip("_.-")[:40]


def account_name(text: str) -> AccountId:
    """Raises BadInput: a name that cannot be one."""
    return AccountId(_name(text, "", field="account"))


def _name(value: object, prefix: str, field: str = "name") -> str:
    text = str(value)
    if not _NAME.fullmatch(text):
        raise BadInput(
            f"{prefix}{field}",
            f"{_shown(text)} is not a name",
            "use 1 to 40 letters, digits, dots, dashes and underscores, starting with a letter or digit",
        )
    return text


def _shown(value: object) -> str:
    """What was written, as a message can show it: text in quotes, a number as a number, nothing endless."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _bare(value: object) -> str:
    """A number as it was written, without quotes."""
    return _shown(value).strip("'")


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def decimal_of(value: object) -> Decimal | None:
    """The exact number a person wrote; None if it is none. A float is taken by its shortest text."""
    if isinstance(value, bool):
        return None
    try:
        number = Decimal(str(value).strip().replace(",", "").replace("_", ""))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _quantity(value: object, prefix: str) -> Decimal:
    field, right = f"{prefix}quantity", "a whole number of shares above zero, for example 50"
    number = decimal_of(value)
    if number is None:
        raise BadInput(field, f"{_shown(value)} is not a number", right)
    if number == 0:
        raise BadInput(field, "is zero", right)
    if number < 0:
        raise BadInput(field, f"{_bare(value)} is negative", right)
    if number.adjusted() >= _MOST_DIGITS:
        raise BadInput(field, f"{_bare(value)} is more than any order can have", right)
    if number != number.to_integral_value():
        raise BadInput(field, f"{_bare(value)} is a fraction", right)
    return number.to_integral_value()


def _time(value: object, field: str) -> time:
    if isinstance(value, time):
        if value.tzinfo is not None or value.microsecond:
            raise BadInput(field, f"{value} is not a plain time", 'write it like "09:20"')
        return value
    match = _TIME.fullmatch(str(value).strip())
    if match:
        hour, minute, second = int(match[1]), int(match[2]), int(match[3] or 0)
        if hour < 24 and minute < 60 and second < 60:
            return time(hour, minute, second)
    raise BadInput(field, f"{_shown(value)} is not a time", 'write the exchange\'s wall-clock time, like "09:20"')


def _until(value: object, repeat: Repeat, field: str) -> date | None:
    if value in (None, ""):
        return None
    if repeat is not Repeat.DAILY:
        raise BadInput(field, "is only for a strategy that repeats", 'add repeat = "daily", or leave it out')
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return date.fromisoformat(str(value).strip())
    except ValueError:
        raise BadInput(field, f"{_shown(value)} is not a day", 'write it like "2026-12-31"') from None


def _stop_loss(value: object, prefix: str) -> StopLoss:
    field = f"{prefix}stop_loss"
    right = 'a price like "1540", a percentage like "1.5%" or points like "20pts"'
    match = None if isinstance(value, bool) else _STOP_LOSS.fullmatch(str(value).strip())
    if match is None:
        raise BadInput(field, f"{_shown(value)} is not a stop-loss", right)
    number = Decimal(match["value"])
    if number <= 0:
        raise BadInput(field, f"{_bare(value)} is not positive", right)
    if number.adjusted() >= _MOST_DIGITS:
        raise BadInput(field, f"{_bare(value)} is more than any price", right)
    unit = match["unit"]
    if unit is None:
        return StopLoss(kind=StopLossKind.PRICE, value=number)
    return StopLoss(kind=StopLossKind.PERCENT if unit == "%" else StopLossKind.POINTS, value=number)


def _upper(value: object) -> str:
    return str(value).upper()


_Choice = TypeVar("_Choice", Repeat, Product)


def _one_of(kind: type[_Choice], value: object, field: str) -> _Choice:
    try:
        return kind(str(value))
    except ValueError:
        raise BadInput(field, f"{_shown(str(value))} is not known", f"one of {', '.join(kind)}") from None


def _seconds(wall: time) -> int:
    return wall.hour * 3600 + wall.minute * 60 + wall.second


def _of_seconds(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}"


def _clock(wall: time) -> str:
    return f"{wall:%H:%M:%S}" if wall.second else f"{wall:%H:%M}"
