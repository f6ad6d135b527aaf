"""Secrets at rest: each in a box that only a key opens, which is not in this database (`adapters.secrets`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import RowMapping, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from squareoff.adapters.secrets import Box, Key, KeyFile
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.schema import secret_boxes
from squareoff.core.types import UserId
from squareoff.errors import BadInput, SecretsUnreadable

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,99}", re.ASCII)
_LETTERS_MAX: Final = 10_000
_LOOKS: Final = 3
"""The key may be exchanged between the look at the box and the look at the keys: the next look finds both."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretAbout:
    """Of a secret, all but what it says. `at`: when it was set, or its key exchanged."""

    id: str
    user_id: UserId
    key_id: str
    at: datetime


class SecretStore:
    """All raise RecordsUnavailable if SQL is not there, BadInput if the key's file cannot be used, and
    SecretsUnreadable for a box that no key here opens. No error text holds a secret."""

    def __init__(self, database: Database, keys: KeyFile, now: Callable[[], datetime]) -> None:
        self._database, self._keys, self._now = database, keys, now

    def close(self) -> None:
        """Close the database as well: for those who opened it only for this."""
        self._database.close()

    def put(self, record: str, text: str, user: UserId) -> None:
        """Set it, or set it anew. `record`: like "account:paper:token". Raises BadInput: it is another user's, too."""
        if not _ID.fullmatch(record):
            right = "use 1 to 100 letters, digits and . : _ @ -, starting with a letter or digit"
            raise BadInput("secret", f"{record[:60]!r} is not a name for a secret", right)
        if not text or len(text) > _LETTERS_MAX:
            raise BadInput("secret", "is empty or too long", f"1 to {_LETTERS_MAX} letters")
        with self._database.write() as connection:
            of = connection.execute(select(secret_boxes.c.user_id).where(secret_boxes.c.id == record)).scalar()
            if of not in (None, user):
                raise BadInput("secret", f"the name {record!r} is taken", "choose another")
            # The key is read while nobody else can write: an exchange has either not begun to look at the boxes, and
            # finds this one, or is over, and then the key is the new one.
            others = connection.execute(select(func.count()).select_from(secret_boxes)).scalar_one()
            box = self._keys.current(may_make=not others).close(record, text)
            values = {**asdict(box), "user_id": user, "at": self._now()}
            if of is None:
                connection.execute(insert(secret_boxes).values(id=record, **values))
            else:
                connection.execute(update(secret_boxes).where(secret_boxes.c.id == record).values(values))

    def get(self, record: str) -> str | None:
        """None: there is none."""
        for look in range(1, _LOOKS + 1):
            with self._database.read() as connection:
                row = (
                    connection.execute(select(secret_boxes).where(secret_boxes.c.id == record)).mappings().one_or_none()
                )
            if row is None:
                return None
            known = {key.id: key for key in self._keys.all()}
            if row["key_id"] in known or look == _LOOKS:
                return _opened(row, known)
        raise AssertionError("unreachable")

    def list(self) -> tuple[SecretAbout, ...]:
        """By name."""
        with self._database.read() as connection:
            rows = connection.execute(select(secret_boxes).order_by(secret_boxes.c.id)).mappings()
            names = tuple(SecretAbout.__dataclass_fields__)
            return tuple(SecretAbout(**{name: row[name] for name in names}) for row in rows)

    def remove(self, record: str) -> None:
        """Raises BadInput: there is none."""
        with self._database.write() as connection:
            if not connection.execute(delete(secret_boxes).where(secret_boxes.c.id == record)).rowcount:
                raise BadInput("secret", f"there is no secret {record[:60]!r}", "see `squareoff secrets`")

    def rotate(self) -> int:
        """Exchange the key: every box is made anew with it, in one transaction. How many they were.

        Wherever this dies every secret can be read, and the next `rotate` first ends what was begun. A box that no key
        opens stops it before anything is changed."""
        with self._keys.locked():
            self._close_anew()  # ends what an earlier one began, and proves that every box can be opened
            self._keys.drop_old()
            if not self._keys.all():
                return 0
            self._keys.exchange()
            count = self._close_anew()
            self._keys.drop_old()
            return count

    def _close_anew(self) -> int:
        """Every box with the current key."""
        with self._database.write() as connection:
            rows = connection.execute(select(secret_boxes).order_by(secret_boxes.c.id)).mappings().all()
            keys = self._keys.all()
            known = {key.id: key for key in keys}
            texts = {row["id"]: _opened(row, known) for row in rows}
            for row in rows:
                if row["key_id"] != keys[0].id:
                    self._replace(connection, row, keys[0].close(row["id"], texts[row["id"]]))
            return len(rows)

    def _replace(self, connection: Connection, row: RowMapping, box: Box) -> None:
        values = {**asdict(box), "at": self._now()}
        connection.execute(update(secret_boxes).where(secret_boxes.c.id == row["id"]).values(values))


def _opened(row: RowMapping, known: dict[str, Key]) -> str:
    key = known.get(row["key_id"])
    if key is None:
        raise SecretsUnreadable(
            f"the secret {row['id']!r} was written with a key that is not here (key {row['key_id']}): put its key file "
            f"back, or set it again with `squareoff secrets rm {row['id']}` and `secrets set {row['id']}`"
        )
    return key.open(row["id"], Box(nonce=row["nonce"], box=row["box"], key_id=row["key_id"]))
