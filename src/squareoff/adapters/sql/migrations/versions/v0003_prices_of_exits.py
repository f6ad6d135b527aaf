"""At what limit an order was sent, and whether it was called back to be replaced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("orders", sa.Column("limit_price", sa.Text))
    op.add_column("orders", sa.Column("cancel_asked", sa.Boolean, nullable=False, server_default=sa.false()))
