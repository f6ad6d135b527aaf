"""Who may use this installation: passwords, sessions, tokens, what they did, and secrets in boxes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("users", sa.Column("password", sa.Text))
    op.add_column("users", sa.Column("role", sa.Text, nullable=False, server_default="trader"))
    op.add_column("users", sa.Column("disabled", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("UPDATE users SET role = 'admin' WHERE id = 1")
    if op.get_bind().dialect.name == "postgresql":  # 0001 gave the first user its number by hand
        op.execute("SELECT setval(pg_get_serial_sequence('users', 'id'), (SELECT max(id) FROM users))")
    _create_keys()
    _create_audit()
    op.create_table(
        "secrets",
        sa.Column("id", sa.Text, primary_key=True),
        _user(),
        sa.Column("nonce", sa.Text, nullable=False),
        sa.Column("box", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("at", sa.Text, nullable=False),
    )


def _user() -> sa.Column[Any]:
    return sa.Column("user_id", _ID, sa.ForeignKey("users.id"), nullable=False)


def _create_keys() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", _ID, primary_key=True),
        _user(),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("last_seen_at", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("via", sa.Text, nullable=False),
        sa.UniqueConstraint("secret_hash", name="uq_sessions_secret_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_table(
        "tokens",
        sa.Column("id", _ID, primary_key=True),
        _user(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.Text, nullable=False),
        sa.Column("created_at", sa.Text, nullable=False),
        sa.Column("last_used_at", sa.Text),
        sa.Column("expires_at", sa.Text),
        sa.Column("revoked_at", sa.Text),
        sa.UniqueConstraint("secret_hash", name="uq_tokens_secret_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tokens_user_id", "tokens", ["user_id"])
    op.create_table(
        "links",
        sa.Column("secret_hash", sa.Text, primary_key=True),
        _user(),
        sa.Column("expires_at", sa.Text, nullable=False),
        sa.Column("used_at", sa.Text),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("at", sa.Text, nullable=False),
        sa.Column("user_id", sa.BigInteger),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("via", "action", "target", "detail", "address")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_user_id_id", "audit", ["user_id", "id"])
    op.create_table(
        "answers",
        _user(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("request_hash", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("body", sa.Text),
        sa.Column("at", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("user_id", "key"),
    )
    op.create_index("ix_answers_at", "answers", ["at"])
