"""The tables. Money is text, an instant is UTC text: both exact, and readable with any SQLite tool.

A change here needs a migration; a test compares the two. What a row means stands in `core` and `ports`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Time,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.engine import Dialect

from squareoff.core.access import Role, Scope
from squareoff.core.events import Cause, Event
from squareoff.core.limits import Level
from squareoff.core.machine import State
from squareoff.core.orders import AttemptPhase, SlotPhase
from squareoff.core.strategy import Repeat, StopLossKind
from squareoff.core.types import Exposure, Product, SlotName
from squareoff.ports import EngineState, JournalKind


def decimal_text(value: Decimal) -> str:
    """One text for one value: no exponent, no trailing zeros, no minus zero. `normalize` would round to 28 digits."""
    if not value.is_finite():
        raise ValueError(f"{value} is not an amount")
    digits = f"{value:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits in ("-0", "") else digits


class Exact(TypeDecorator[Decimal]):
    """A Decimal as canonical text. SQL's own numbers would round it (SQLite) or hide who rounded it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if not isinstance(value, Decimal):
            raise TypeError(f"money and quantities are Decimal, not {type(value).__name__} {value!r}")
        return decimal_text(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else Decimal(value)


class Instant(TypeDecorator[datetime]):
    """An aware datetime as UTC text of fixed width, so that the order of the texts is the order of time."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if value.tzinfo is not UTC and value.utcoffset() is None:
            raise ValueError(f"{value} has no time zone: an instant must say which one it means")
        return value.astimezone(UTC).isoformat(timespec="microseconds")[: -len("+00:00")] + "Z"

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


class Word(TypeDecorator[StrEnum]):
    """A member of a closed set; a word that is not in it is an error, never a default."""

    impl = Text
    cache_ok = True

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        return None if value is None else self.words(value).value

    def process_result_value(self, value: Any, dialect: Dialect) -> StrEnum | None:
        return None if value is None else self.words(value)


class Prose(TypeDecorator[str]):
    """Text for people, some of it from outside. Letters no database takes are replaced: a strange reason of a
    broker must not keep the story from being written."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None or (value.isascii() and "\0" not in value):
            return value
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


Id = BigInteger().with_variant(Integer, "sqlite")
"""Counts up by itself as a primary key; SQLite does so only for a column called INTEGER."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

install = Table(
    "install",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("install_id", Text, nullable=False),
    Column("last_run_id", BigInteger, nullable=False),  # raised to reserve an id: a gap is fine, a repeat is not
)

users = Table(
    "users",
    metadata,
    Column("id", Id, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("password", Text),  # argon2's own text; NULL: none
    Column("role", Word(Role), nullable=False, server_default=Role.TRADER.value),
    Column("disabled", Boolean, nullable=False, server_default=false()),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("broker", Text, nullable=False),
    # the kill switch: latched here until it is released by name
    Column("level", Word(Level), nullable=False, server_default=Level.NORMAL.value),
    Column("level_reason", Prose, nullable=False, server_default=""),
    Column("level_by", Prose, nullable=False, server_default=""),
    Column("level_at", Instant),
    # limits; NULL: none
    Column("max_order_qty", Exact),
    Column("max_order_value", Exact),
    Column("max_open_positions", Integer),
    Column("max_orders_per_day", Integer),
    Column("max_loss_per_day", Exact),
    Column("square_off_at_loss", Boolean, nullable=False, server_default=false()),
)

leases = Table(
    "leases",
    metadata,
    Column("account", Text, ForeignKey("accounts.id"), primary_key=True),
    Column("fence", BigInteger, nullable=False),
    Column("owner", Prose, nullable=False),
    Column("machine", Text, nullable=False),
    Column("boot", Text, nullable=False),
)

holds = Table(
    "holds",
    metadata,
    # who may send, across machines; a table of its own: `leases` is locked by every save until its COMMIT
    Column("account", Text, primary_key=True),
    Column("holder", Text),  # NULL: given back in order
    Column("beat", BigInteger, nullable=False),  # raised by every renewal
    Column("ttl_s", Double, nullable=False),
)

strategies = Table(
    "strategies",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("account", Text, ForeignKey("accounts.id"), nullable=False),
    Column("name", Prose, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("quantity", Exact, nullable=False),
    Column("buy_time", Time, nullable=False),
    Column("sell_time", Time, nullable=False),
    Column("stop_loss_kind", Word(StopLossKind), nullable=False),
    Column("stop_loss_value", Exact, nullable=False),
    Column("product", Word(Product), nullable=False),
    Column("repeat", Word(Repeat), nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("until", Date),  # of a repeating one: its last trading day; NULL: no end
    Column("repeating", Boolean, nullable=False, server_default=false()),  # started, and not stopped since
    Column("revision", BigInteger, nullable=False, server_default="0"),  # raised by every edit
    sqlite_autoincrement=True,
)
Index("uq_strategies_name", strategies.c.user_id, strategies.c.name, unique=True,
      sqlite_where=text("NOT removed"), postgresql_where=text("NOT removed"))  # fmt: skip

runs = Table(
    "runs",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("strategy_id", Id, ForeignKey("strategies.id"), nullable=False),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("account", Text, ForeignKey("accounts.id"), nullable=False),
    # the plan
    Column("name", Prose, nullable=False),
    Column("symbol", Text, nullable=False),
    Column("product", Word(Product), nullable=False),
    Column("quantity", Exact, nullable=False),
    Column("trading_day", Date, nullable=False),
    Column("buy_at", Instant, nullable=False),
    Column("sell_at", Instant, nullable=False),
    Column("closes_at", Instant, nullable=False),
    Column("stop_loss_kind", Word(StopLossKind), nullable=False),
    Column("stop_loss_value", Exact, nullable=False),
    Column("tick_size", Exact, nullable=False),
    Column("grace_s", Double, nullable=False),
    Column("fresh_for_s", Double, nullable=False),
    Column("entry_open_s", Double, nullable=False),
    # where it stands
    Column("key", Text, nullable=False),
    Column("state", Word(State), nullable=False),
    Column("outcome", Word(State)),
    Column("cause", Word(Cause)),
    Column("detail", Prose, nullable=False),
    Column("stop_price", Exact),
    Column("stop_seen_price", Exact),
    Column("stop_seen_at", Instant),
    Column("lowest_price", Exact),
    Column("wish", Word(Event)),
    Column("waited_for_price", Boolean, nullable=False),
    Column("entry_opened_at", Instant),
    Column("entry_cancel_asked", Boolean, nullable=False),
    Column("retry_at", Instant),
    Column("outside_qty", Exact, nullable=False),
    Column("handed_over", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    # what follows from the above, kept for those who ask by it
    Column("exposure", Word(Exposure), nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("archived", Boolean, nullable=False),
    # true from START until first closed; late news may open a run again, but it must be saved whatever else runs
    Column("holds_strategy", Boolean, nullable=False),
)
Index("uq_runs_one_open_per_strategy", runs.c.strategy_id, unique=True,
      sqlite_where=text("holds_strategy"), postgresql_where=text("holds_strategy"))  # fmt: skip
Index("ix_runs_strategy_id", runs.c.strategy_id)
Index("ix_runs_account_not_archived", runs.c.account,
      sqlite_where=text("NOT archived"), postgresql_where=text("NOT archived"))  # fmt: skip

slots = Table(
    "slots",
    metadata,
    Column("run_id", BigInteger, ForeignKey("runs.id"), nullable=False),
    Column("slot", Word(SlotName), nullable=False),
    Column("phase", Word(SlotPhase), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("fence", BigInteger),
    Column("machine", Text),
    Column("boot", Text),
    PrimaryKeyConstraint("run_id", "slot"),
)

orders = Table(
    "orders",
    metadata,
    Column("run_id", BigInteger, nullable=False),
    Column("slot", Word(SlotName), nullable=False),
    Column("number", Integer, nullable=False),
    Column("account", Text, ForeignKey("accounts.id"), nullable=False),
    Column("client_order_id", Text, nullable=False),
    Column("qty", Exact, nullable=False),
    Column("phase", Word(AttemptPhase), nullable=False),
    Column("broker_order_id", Text),
    Column("reason", Prose, nullable=False),
    Column("limit_price", Exact),  # NULL: at market
    Column("cancel_asked", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("run_id", "slot", "number"),
    ForeignKeyConstraint(["run_id", "slot"], ["slots.run_id", "slots.slot"]),
    UniqueConstraint("account", "client_order_id"),
)

fills = Table(
    "fills",
    metadata,
    Column("run_id", BigInteger, nullable=False),
    Column("slot", Word(SlotName), nullable=False),
    Column("number", Integer, nullable=False),
    Column("position", Integer, nullable=False),
    Column("account", Text, ForeignKey("accounts.id"), nullable=False),
    Column("trade_id", Text, nullable=False),
    Column("qty", Exact, nullable=False),
    Column("price", Exact, nullable=False),
    Column("at", Instant, nullable=False),
    PrimaryKeyConstraint("run_id", "slot", "number", "position"),
    ForeignKeyConstraint(["run_id", "slot", "number"], ["orders.run_id", "orders.slot", "orders.number"]),
    # Of one order, not of one account: exchanges number their trades anew each day and per segment, and a fill
    # that is refused for its number would be shares nobody guards.
    UniqueConstraint("run_id", "slot", "number", "trade_id"),
)
Index("ix_fills_account_trade_id", fills.c.account, fills.c.trade_id)

journal = Table(
    "journal",
    metadata,
    Column("seq", Id, primary_key=True),
    Column("at", Instant, nullable=False),
    # no foreign keys: the story is written even of what is not there
    Column("account", Prose, nullable=False),
    Column("strategy_id", BigInteger),
    Column("run_id", BigInteger),
    Column("kind", Word(JournalKind), nullable=False),
    Column("engine", Word(EngineState), nullable=False),
    Column("text", Prose, nullable=False),
    Column("data", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_journal_run_id_seq", journal.c.run_id, journal.c.seq)
Index("ix_journal_account_seq", journal.c.account, journal.c.seq)

wishes = Table(
    "wishes",
    metadata,
    Column("id", Id, primary_key=True),
    Column("strategy_id", Id, ForeignKey("strategies.id"), nullable=False),
    Column("event", Word(Event), nullable=False),
    Column("at", Instant, nullable=False),
    Column("asked_by", Prose, nullable=False),
    Column("taken_by_fence", BigInteger),
    sqlite_autoincrement=True,
)
Index("ix_wishes_not_taken", wishes.c.strategy_id,
      sqlite_where=text("taken_by_fence IS NULL"), postgresql_where=text("taken_by_fence IS NULL"))  # fmt: skip

# ------------------------------------------------------------------ who may use it
# Of whatever lets somebody in only the SHA-256 is kept: who reads this database, or a copy of it, cannot sign in.

sessions = Table(
    "sessions",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("secret_hash", Text, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("last_seen_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("about", Prose, nullable=False),
    Column("via", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_sessions_user_id", sessions.c.user_id)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Id, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("name", Prose, nullable=False),
    Column("scope", Word(Scope), nullable=False),
    Column("secret_hash", Text, nullable=False, unique=True),
    Column("created_at", Instant, nullable=False),
    Column("last_used_at", Instant),
    Column("expires_at", Instant),  # NULL: never
    Column("revoked_at", Instant),
    sqlite_autoincrement=True,
)
Index("ix_tokens_user_id", tokens.c.user_id)

links = Table(
    "links",
    metadata,
    Column("secret_hash", Text, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("used_at", Instant),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Id, primary_key=True),
    Column("at", Instant, nullable=False),
    # no foreign key: it is written even of nobody. NULL: nobody signed in, or this machine's command line
    Column("user_id", BigInteger),
    Column("via", Prose, nullable=False),
    Column("action", Prose, nullable=False),
    Column("target", Prose, nullable=False),
    Column("detail", Prose, nullable=False),
    Column("address", Prose, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_audit_user_id_id", audit.c.user_id, audit.c.id)

answers = Table(
    "answers",
    metadata,
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("key", Text, nullable=False),
    Column("request_hash", Text, nullable=False),
    Column("status", Integer),  # NULL: being worked on, or whoever did died with it
    Column("body", Text),
    Column("at", Instant, nullable=False),
    PrimaryKeyConstraint("user_id", "key"),
)
Index("ix_answers_at", answers.c.at)

secret_boxes = Table(
    "secrets",
    metadata,
    Column("id", Text, primary_key=True),
    Column("user_id", Id, ForeignKey("users.id"), nullable=False),
    Column("nonce", Text, nullable=False),
    Column("box", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("at", Instant, nullable=False),
)
