"""The first tables: who trades, what was asked for, what was meant, what became of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "install",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("install_id", sa.Text, nullable=False),
        sa.Column("last_run_id", sa.BigInteger, nullable=False),
    )
    users = op.create_table(
        "users",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.UniqueConstraint("name", name="uq_users_name"),
    )
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("user_id", _ID, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("broker", sa.Text, nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("account", sa.Text, sa.ForeignKey("accounts.id"), primary_key=True),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("machine", sa.Text, nullable=False),
        sa.Column("boot", sa.Text, nullable=False),
    )
    _create_strategies()
    _create_runs()
    _create_orders()
    _create_journal()
    op.bulk_insert(users, [{"id": 1, "name": "local"}])


def _create_strategies() -> None:
    op.create_table(
        "strategies",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("user_id", _ID, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("account", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("quantity", sa.Text, nullable=False),
        sa.Column("buy_time", sa.Time, nullable=False),
        sa.Column("sell_time", sa.Time, nullable=False),
        sa.Column("stop_loss_kind", sa.Text, nullable=False),
        sa.Column("stop_loss_value", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("repeat", sa.Text, nullable=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    _index_where("uq_strategies_name", "strategies", ["user_id", "name"], "NOT removed", unique=True)
    op.create_table(
        "wishes",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("strategy_id", _ID, sa.ForeignKey("strategies.id"), nullable=False),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("asked_by", sa.Text, nullable=False),
        sa.Column("taken_by_fence", sa.BigInteger),
        sqlite_autoincrement=True,
    )
    _index_where("ix_wishes_not_taken", "wishes", ["strategy_id"], "taken_by_fence IS NULL")


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("strategy_id", _ID, sa.ForeignKey("strategies.id"), nullable=False),
        sa.Column("user_id", _ID, sa.ForeignKey("users.id"), nullable=False),
        sa.Column("account", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("symbol", sa.Text, nullable=False),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("quantity", sa.Text, nullable=False),
        sa.Column("trading_day", sa.Date, nullable=False),
        sa.Column("buy_at", sa.Text, nullable=False),
        sa.Column("sell_at", sa.Text, nullable=False),
        sa.Column("closes_at", sa.Text, nullable=False),
        sa.Column("stop_loss_kind", sa.Text, nullable=False),
        sa.Column("stop_loss_value", sa.Text, nullable=False),
        sa.Column("tick_size", sa.Text, nullable=False),
        sa.Column("grace_s", sa.Double, nullable=False),
        sa.Column("fresh_for_s", sa.Double, nullable=False),
        sa.Column("entry_open_s", sa.Double, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("outcome", sa.Text),
        sa.Column("cause", sa.Text),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("stop_price", sa.Text),
        sa.Column("stop_seen_price", sa.Text),
        sa.Column("stop_seen_at", sa.Text),
        sa.Column("lowest_price", sa.Text),
        sa.Column("wish", sa.Text),
        sa.Column("waited_for_price", sa.Boolean, nullable=False),
        sa.Column("entry_opened_at", sa.Text),
        sa.Column("entry_cancel_asked", sa.Boolean, nullable=False),
        sa.Column("retry_at", sa.Text),
        sa.Column("outside_qty", sa.Text, nullable=False),
        sa.Column("handed_over", sa.Boolean, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("exposure", sa.Text, nullable=False),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.Column("archived", sa.Boolean, nullable=False),
        sa.Column("holds_strategy", sa.Boolean, nullable=False),
    )
    _index_where("uq_runs_one_open_per_strategy", "runs", ["strategy_id"], "holds_strategy", unique=True)
    op.create_index("ix_runs_strategy_id", "runs", ["strategy_id"])
    _index_where("ix_runs_account_not_archived", "runs", ["account"], "NOT archived")


def _create_orders() -> None:
    op.create_table(
        "slots",
        sa.Column("run_id", sa.BigInteger, sa.ForeignKey("runs.id"), nullable=False),
        sa.Column("slot", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("fence", sa.BigInteger),
        sa.Column("machine", sa.Text),
        sa.Column("boot", sa.Text),
        sa.PrimaryKeyConstraint("run_id", "slot"),
    )
    op.create_table(
        "orders",
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("slot", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("account", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("client_order_id", sa.Text, nullable=False),
        sa.Column("qty", sa.Text, nullable=False),
        sa.Column("phase", sa.Text, nullable=False),
        sa.Column("broker_order_id", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "slot", "number"),
        sa.ForeignKeyConstraint(["run_id", "slot"], ["slots.run_id", "slots.slot"]),
        sa.UniqueConstraint("account", "client_order_id", name="uq_orders_account_client_order_id"),
    )
    op.create_table(
        "fills",
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("slot", sa.Text, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("account", sa.Text, sa.ForeignKey("accounts.id"), nullable=False),
        sa.Column("trade_id", sa.Text, nullable=False),
        sa.Column("qty", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("run_id", "slot", "number", "position"),
        sa.ForeignKeyConstraint(["run_id", "slot", "number"], ["orders.run_id", "orders.slot", "orders.number"]),
        sa.UniqueConstraint("run_id", "slot", "number", "trade_id", name="uq_fills_run_id_slot_number_trade_id"),
    )
    op.create_index("ix_fills_account_trade_id", "fills", ["account", "trade_id"])


def _create_journal() -> None:
    op.create_table(
        "journal",
        sa.Column("seq", _ID, primary_key=True),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("strategy_id", sa.BigInteger),
        sa.Column("run_id", sa.BigInteger),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("engine", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_journal_run_id_seq", "journal", ["run_id", "seq"])
    op.create_index("ix_journal_account_seq", "journal", ["account", "seq"])


def _index_where(name: str, table: str, columns: list[str], where: str, *, unique: bool = False) -> None:
    op.create_index(name, table, columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
