"""What an account may do (kill switch, limits), and strategies that repeat until a day."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    of_accounts: tuple[sa.Column[Any], ...] = (
        sa.Column("level", sa.Text, nullable=False, server_default="normal"),
        sa.Column("level_reason", sa.Text, nullable=False, server_default=""),
        sa.Column("level_by", sa.Text, nullable=False, server_default=""),
        sa.Column("level_at", sa.Text),
        sa.Column("max_order_qty", sa.Text),
        sa.Column("max_order_value", sa.Text),
        sa.Column("max_open_positions", sa.Integer),
        sa.Column("max_orders_per_day", sa.Integer),
        sa.Column("max_loss_per_day", sa.Text),
        sa.Column("square_off_at_loss", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    of_strategies: tuple[sa.Column[Any], ...] = (
        sa.Column("until", sa.Date),
        sa.Column("repeating", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
    )
    for column in of_accounts:
        op.add_column("accounts", column)
    for column in of_strategies:
        op.add_column("strategies", column)
