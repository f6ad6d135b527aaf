"""Run by Alembic, never imported: hands it the connection and the transaction of our caller."""

from __future__ import annotations

from alembic import context

from squareoff.adapters.sql.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can undo a CREATE TABLE; Alembic assumes that it cannot
)
with context.begin_transaction():
    context.run_migrations()
