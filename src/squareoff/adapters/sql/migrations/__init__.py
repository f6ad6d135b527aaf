"""How an older database becomes a newer one. Forward only: what a newer squareoff wrote, an older one cannot judge.

One file a version under `versions/`, its number four digits; raise HEAD with it.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import Connection

HEAD: Final = "0005"


def upgrade(connection: Connection) -> None:
    """Bring the database to HEAD inside the caller's transaction: all of it or nothing."""
    # imported only when needed: every command line would pay 0.2 s for it
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "squareoff.adapters.sql:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
