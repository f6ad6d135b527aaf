"""What must be right before a strategy may trade: one list of named checks from one function.

`start`, `doctor`, `status`, the worker and the console all show this list, so that none of them calls a strategy
ready that another calls broken. Pure: others gather the facts; a fact nobody could gather is None, and then its check
says "not known" instead of guessing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from squareoff.core.bad_input import BadInput
from squareoff.core.definition import CLOSE_MARGIN, plan_for
from squareoff.core.instruments import Instrument
from squareoff.core.machine import State
from squareoff.core.session import Session
from squareoff.core.strategy import Strategy, Timing
from squareoff.core.types import ZERO, RunId, Tick

FEED_KNOWN_BEFORE_OPEN = timedelta(minutes=5)
"""From here on a feed that was never heard of is wrong; before, the market is closed and silence proves nothing."""
FEED_QUIET_BEFORE_OPEN_S = 900.0
"""Before the open: a price of this morning's pre-open is enough; between 09:08 and 09:15 exchanges tell none."""
CLOCK_OFF_S = 2.0
DISK_LOW_BYTES = 200_000_000
DISK_NEARLY_FULL_BYTES = 50_000_000


class CheckName(StrEnum):
    """In the order in which they are shown: what nobody can mend today stands first."""

    CALENDAR = "calendar"
    SESSION = "session"
    INSTRUMENT = "instrument"
    TOKEN = "token"
    FUNDS = "funds"
    STOP_LOSS_IN_BAND = "stop_loss_in_band"
    CLOCK = "clock"
    FEED = "feed"
    ALERT_CHANNEL = "alert_channel"
    DISK = "disk"
    REDIS = "redis"
    SQL = "sql"


REQUIRED = frozenset(CheckName) - {CheckName.ALERT_CHANNEL}
"""Those that can be red. A missing alert channel is a warning: squareoff trades as well, but tells nobody."""


@dataclass(frozen=True, slots=True)
class Check:
    """`ok` None: not known, or not asked. `text` says what was found, with units; `mend` what to do, empty if ok."""

    name: CheckName
    ok: bool | None
    text: str
    mend: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a thing that was asked said. `ok` None: it was not asked, or did not answer; `text` says which."""

    ok: bool | None = None
    text: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known, gathered by others. None everywhere means unknown, never "nothing" or "zero"."""

    now: datetime | None = None
    """When these were gathered, UTC."""
    session: Session | str | None = None
    """The next session in which the BUY can be made; text: why there is none."""
    instrument: Instrument | str | None = None
    """Text: why there is none."""
    token: Answer = Answer()
    funds: Decimal | None = None
    """Free to buy with, in the instrument's currency."""
    last_price: Tick | None = None
    lower_band: Decimal | None = None
    """The day's price band where somebody knows it better than the instrument's list."""
    upper_band: Decimal | None = None
    clock_difference_s: float | None = None
    """This machine's wall clock minus the clock we trust, seconds."""
    feed_silent_s: float | None = None
    """Seconds from the feed's last tick or heartbeat of this symbol to `now`, of trading time."""
    alert_channels: int | None = None
    alert_test_failed: bool | None = None
    """Whether the last test message did not arrive; None: never tested."""
    free_disk_bytes: int | None = None
    redis: Answer = Answer()
    sql: Answer = Answer()
    timing: Timing = Timing()  # noqa: RUF009 - frozen
    """In the session a feed silent for longer than `fresh_for_s` is red; the BUY is due until `grace_s` is over."""
    why_unknown: Mapping[CheckName, str] = field(default_factory=dict)
    """For a person: why the fact of a check is not known, such as "squareoff is not running"."""

    def unknown(self, name: CheckName, otherwise: str, mend: str = "") -> Check:
        return Check(name, None, self.why_unknown.get(name) or otherwise, mend)


def preflight(strategy: Strategy, facts: Facts, *, when: datetime) -> tuple[Check, ...]:
    """Every check, always in the order of `CheckName`. `when`: the instant they are asked for, UTC."""
    return tuple(check(strategy, facts, when) for check in _CHECKS.values())


def armed(state: State, checks: Iterable[Check]) -> bool:
    """Whether the BUY will be made when its time comes, as far as anybody can know now."""
    return state is State.READY and first_red(checks) is None


def first_red(checks: Iterable[Check]) -> Check | None:
    """The one to tell when there is room for one only."""
    return next((check for check in checks if check.ok is False), None)


# ------------------------------------------------------------------ the day


def _calendar(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    name = CheckName.CALENDAR
    match facts.session:
        case None:
            return facts.unknown(name, "the exchange's calendar was not read")
        case str() as why:
            return Check(name, False, why, "put the exchange's calendar of that year into your reference folder")
        case session:
            return Check(name, True, f"{session.exchange} trades next on {session.day}")


def _session(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    """As the engine will plan it: a short day, such as a muhurat evening, may have no room for the strategy."""
    name, session = CheckName.SESSION, facts.session
    if not isinstance(session, Session):
        return facts.unknown(name, "no session is known")
    if not isinstance(facts.instrument, Instrument):
        return facts.unknown(name, "not judged without the instrument")
    try:
        plan = plan_for(strategy, run_id=RunId(0), session=session, instrument=facts.instrument, timing=facts.timing)
    except BadInput as error:
        return Check(name, False, f"{error.field}: {error.wrong}", "change the times, or let this day pass")
    except ValueError as error:  # a wall time that the clocks skip or repeat on that day
        return Check(name, False, str(error), "change the times, or let this day pass")
    if when > plan.buy_until:
        return Check(
            name, False, f"the BUY of {session.day} was due at {_wall(plan.buy_at, session)}", "start it again"
        )
    if plan.sell_at <= plan.buy_at:
        return Check(name, False, "the SELL is not after the BUY", "change the times")
    if plan.sell_at > session.closes_at - CLOSE_MARGIN:
        text = f"the SELL at {_wall(plan.sell_at, session)} is less than 15 minutes before the session's end"
        return Check(name, False, f"{text} at {_wall(session.closes_at, session)}", "sell earlier")
    times = f"BUY {_wall(plan.buy_at, session)}, SELL {_wall(plan.sell_at, session)}"
    return Check(name, True, f"{session.day} ({session.name}): {times} {session.zone.key}")


def _instrument(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    name, instrument = CheckName.INSTRUMENT, facts.instrument
    if instrument is None:
        return facts.unknown(name, "the list of instruments was not read")
    if isinstance(instrument, str):
        return Check(name, False, instrument, "import your broker's list: squareoff instruments import FILE")
    if wrong := _not_tradable(strategy, instrument, facts.session):
        return Check(name, False, *wrong)
    lot, tick = f"{instrument.lot:f}", f"{instrument.tick_size:f}"
    return Check(name, True, f"{instrument.symbol}: lot {lot}, tick {tick}, as of {instrument.as_of}")


def _not_tradable(strategy: Strategy, instrument: Instrument, session: object) -> tuple[str, str] | None:
    """The list may have changed since the strategy was saved, so it is asked again."""
    symbol, quantity = instrument.symbol, strategy.quantity
    if not instrument.tradable:
        return f"{symbol} cannot be bought", "choose another symbol"
    if isinstance(session, Session) and instrument.expiry is not None and instrument.expiry < session.day:
        return f"{symbol} expired on {instrument.expiry}", "choose a contract that still trades"
    if quantity % instrument.lot:
        return f"{quantity:f} is not a multiple of the lot of {instrument.lot:f}", "change the quantity"
    if instrument.freeze_qty is not None and quantity > instrument.freeze_qty:
        most = f"{instrument.freeze_qty:f}"
        return f"{quantity:f} is more than one order may have ({most})", "use several strategies"
    return None


# ------------------------------------------------------------------ the broker and the price


def _token(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    mend = "" if facts.token.ok else f"log in again for account {strategy.account}" if facts.token.ok is False else ""
    return Check(CheckName.TOKEN, facts.token.ok, facts.token.text or "the broker was not asked", mend)


def _funds(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    name = CheckName.FUNDS
    if facts.funds is None:
        return facts.unknown(name, "what is free to buy with is not known")
    if facts.last_price is None:
        return facts.unknown(name, f"has {_money(facts.funds)}; without a last price the need is not known")
    need = facts.last_price.price * strategy.quantity
    text = f"needs about {_money(need)} at the last price {_money(facts.last_price.price)}, has {_money(facts.funds)}"
    if need <= facts.funds:
        return Check(name, True, text)
    return Check(name, False, text, "add funds, or make the quantity smaller")


def _stop_loss_in_band(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    """Outside the band no trade can happen, so the stop-loss could never fire; at the last price it fires at once."""
    name = CheckName.STOP_LOSS_IN_BAND
    if not isinstance(facts.instrument, Instrument):
        return facts.unknown(name, "not judged without the instrument")
    level = _level(strategy, facts.instrument, facts.last_price)
    if level is None:
        return facts.unknown(name, f"{strategy.stop_loss} below the fill: without a last price its level is not known")
    lower, upper = _band(facts, facts.instrument)
    text = f"stop-loss {_money(level)}"
    if wrong := _outside(level, lower, upper, facts.last_price):
        return Check(
            name, False, f"{text} {wrong}", "change the stop-loss: it must be able to trigger, and not at once"
        )
    if lower is None or upper is None:
        return facts.unknown(name, f"{text}; the day's price band is not known")
    band = f"inside the price band {_money(lower)} to {_money(upper)}"
    if facts.last_price is None:
        return facts.unknown(name, f"{text}, {band}; the last price is not known")
    return Check(name, True, f"{text}, {band}, below the last price {_money(facts.last_price.price)}")


def _level(strategy: Strategy, instrument: Instrument, last: Tick | None) -> Decimal | None:
    """Where the stop-loss would be if the BUY filled at the last price."""
    known = strategy.stop_loss.price_if_known
    if known is not None or last is None:
        return known
    return strategy.stop_loss.price_for(last.price, instrument.tick_size)


def _band(facts: Facts, instrument: Instrument) -> tuple[Decimal | None, Decimal | None]:
    return (
        instrument.lower_band if facts.lower_band is None else facts.lower_band,
        instrument.upper_band if facts.upper_band is None else facts.upper_band,
    )


def _outside(level: Decimal, lower: Decimal | None, upper: Decimal | None, last: Tick | None) -> str | None:
    if level <= ZERO:
        return "is no price: it takes away the whole price or more"
    if lower is not None and level <= lower:
        return f"is not above the lower price band {_money(lower)}"
    if upper is not None and level >= upper:
        return f"is not below the upper price band {_money(upper)}"
    if last is not None and level >= last.price:
        return f"is not below the last price {_money(last.price)}: it would sell at once"
    return None


# ------------------------------------------------------------------ the machine


def _clock(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    name, off = CheckName.CLOCK, facts.clock_difference_s
    if off is None:
        return facts.unknown(name, "no clock to compare with was asked")
    text = f"this machine's clock is {abs(off):.1f} s {'ahead' if off > 0 else 'behind'}"
    if abs(off) <= CLOCK_OFF_S:
        return Check(name, True, text)
    return Check(name, False, text, "switch on network time (NTP) and restart squareoff")


def _feed(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    name, silent_s, session = CheckName.FEED, facts.feed_silent_s, facts.session
    mend = "see whether the market data connection is up, and whether the symbol trades today"
    if silent_s is not None and facts.now is not None:
        silent_s += max(0.0, (when - facts.now).total_seconds())  # nothing was heard since the facts were gathered
    if not isinstance(session, Session) or not session.opens_at - FEED_KNOWN_BEFORE_OPEN <= when < session.closes_at:
        heard = "" if silent_s is None else f"; the last price came {_ago(silent_s)}"
        return facts.unknown(name, f"the market is closed{heard}")
    if silent_s is None:
        return Check(name, False, facts.why_unknown.get(name) or f"no price of {strategy.symbol} has come", mend)
    most_s = facts.timing.fresh_for_s if when in session else FEED_QUIET_BEFORE_OPEN_S
    text = f"the last price of {strategy.symbol} came {_ago(silent_s)}"
    return Check(name, True, text) if silent_s <= most_s else Check(name, False, text, mend)


def _alert_channel(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    """Never red."""
    name, count = CheckName.ALERT_CHANNEL, facts.alert_channels
    if count is None:
        mend = "correct the file of the alert channels" if name in facts.why_unknown else ""
        return facts.unknown(name, "the alert channels were not read", mend)
    if count == 0:
        return Check(name, None, "no alert channel: an alarm reaches nobody who is not looking", "set one up")
    text = f"{count} alert channel{'' if count == 1 else 's'}"
    if facts.alert_test_failed:
        return Check(name, None, f"{text}; the last test message did not arrive", "test them again")
    return Check(name, True, text)


def check_disk(free_bytes: int | None) -> Check:
    """A full disk stops entries, and exits have only what was allocated before."""
    name = CheckName.DISK
    if free_bytes is None:
        return Check(name, None, "free disk space is not known")
    text = f"{free_bytes / 1e6:,.0f} MB free"
    if free_bytes >= DISK_LOW_BYTES:
        return Check(name, True, text)
    if free_bytes >= DISK_NEARLY_FULL_BYTES:
        return Check(name, False, text, f"free some space: {DISK_LOW_BYTES / 1e6:.0f} MB are needed")
    what = "delete old backups (squareoff-backup-*.tar.gz), folders *.before-restore-*, the demo folder and *.log files"
    return Check(name, False, f"{text}: nearly full", f"{what}; leave squareoff.db and accounts alone")


def _disk(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    return check_disk(facts.free_disk_bytes)


def _redis(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    mend = (
        "start Redis, or correct its address; open positions are guarded without it" if facts.redis.ok is False else ""
    )
    return Check(CheckName.REDIS, facts.redis.ok, facts.redis.text or "Redis was not asked", mend)


def _sql(strategy: Strategy, facts: Facts, when: datetime) -> Check:
    mend = "mend what the text names, or put back a backup: squareoff restore FILE" if facts.sql.ok is False else ""
    return Check(CheckName.SQL, facts.sql.ok, facts.sql.text or "the database was not asked", mend)


_CHECKS: Mapping[CheckName, Callable[[Strategy, Facts, datetime], Check]] = {
    CheckName.CALENDAR: _calendar,
    CheckName.SESSION: _session,
    CheckName.INSTRUMENT: _instrument,
    CheckName.TOKEN: _token,
    CheckName.FUNDS: _funds,
    CheckName.STOP_LOSS_IN_BAND: _stop_loss_in_band,
    CheckName.CLOCK: _clock,
    CheckName.FEED: _feed,
    CheckName.ALERT_CHANNEL: _alert_channel,
    CheckName.DISK: _disk,
    CheckName.REDIS: _redis,
    CheckName.SQL: _sql,
}


def _wall(instant: datetime, session: Session) -> str:
    return f"{instant.astimezone(session.zone):%H:%M:%S}"


def _money(value: Decimal) -> str:
    """At least two decimals, and all it has: a rounded price may be another one."""
    exponent = value.normalize().as_tuple().exponent
    return f"{value:,.{max(2, -exponent if isinstance(exponent, int) else 0)}f}"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s ago"
    return f"{seconds / 60:,.0f} minutes ago" if seconds < 7200 else f"{seconds / 3600:,.0f} hours ago"
