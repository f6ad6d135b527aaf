"""Who may use this installation: users, what signs them in, tokens for programs, and what was done.

Of passwords the argon2id text is kept, of everything else that lets somebody in its SHA-256: those are drawn with 256
bits, so nobody finds them by trying. No error text holds any of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from threading import BoundedSemaphore, Lock
from typing import Final

from argon2 import PasswordHasher, profiles
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError
from sqlalchemy import ColumnElement, RowMapping, and_, delete, func, insert, or_, select, true, update
from sqlalchemy.engine import Connection

from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.schema import answers, audit, links, sessions, tokens, users
from squareoff.core.access import (
    PASSWORD_LETTERS_MAX,
    Answer,
    AuditLine,
    Different,
    Fresh,
    InProgress,
    Role,
    Scope,
    Session,
    Stored,
    Token,
    User,
    check_password,
    is_sayable,
    is_user_name,
    may_make_token,
    spelled,
    user_name,
)
from squareoff.core.types import UserId
from squareoff.errors import BadInput, RecordsUnavailable

TOKEN_PREFIX: Final = "sqt_"
"""So that a token that was published by mistake can be searched for."""
SECRET_BYTES: Final = 32
SESSION_IDLE: Final = timedelta(hours=12)
SESSION_AT_MOST: Final = timedelta(days=30)
TOKEN_DAYS_MAX: Final = 3650
NOTED_EVERY: Final = timedelta(minutes=1)
"""How exactly it is known when a session or a token was used last: each look would be a write."""
ANSWERS_KEPT: Final = timedelta(hours=48)
SWEPT_EVERY: Final = timedelta(hours=1)
_ABOUT_MAX, _DETAIL_MAX, _NAME_MAX, _KEY_MAX = 300, 2000, 80, 200
_ID_MAX: Final = 2**63
_AT_ONCE: Final = 2
"""Passwords looked at at the same time: each takes 64 MiB, and whoever floods us must not take the memory of the
engine."""


class AccessStore:
    """All raise RecordsUnavailable if SQL is not there. Safe to use from several threads.

    `now`: the real wall clock, UTC, not trading time. `draw`: so many random bytes as URL-safe text (32: 43 letters).
    `hasher`: for tests; the usual one is RFC 9106's for little memory.
    """

    def __init__(
        self,
        database: Database,
        now: Callable[[], datetime],
        draw: Callable[[int], str],
        *,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self._database, self._now, self._draw = database, now, draw
        self._hasher = hasher or PasswordHasher.from_parameters(profiles.RFC_9106_LOW_MEMORY)
        self._hashing = BoundedSemaphore(_AT_ONCE)
        self._nobodys: str | None = None
        self._nobodys_lock = Lock()
        self._swept_at: datetime | None = None

    def close(self) -> None:
        """Close the database as well: for those who opened it only for this."""
        self._database.close()

    # --- users ---

    def users(self) -> tuple[User, ...]:
        """All, by id; also disabled ones."""
        with self._database.read() as connection:
            return tuple(_user_from(row) for row in connection.execute(select(users).order_by(users.c.id)).mappings())

    def user(self, user_id: UserId) -> User:
        """Raises BadInput: there is none."""
        with self._database.read() as connection:
            return _user_from(_row_of(connection, user_id))

    def user_named(self, name: str) -> User:
        """Raises BadInput: there is none."""
        with self._database.read() as connection:
            row = _row_named(connection, name)
        if row is None:
            raise BadInput("user", f"there is no user {name[:60]!r}", "see `squareoff users`")
        return _user_from(row)

    def add_user(self, name: str, password: str | None, role: Role) -> User:
        """`password` None: they cannot sign in until they have one. Raises BadInput."""
        user_name(name)
        kept = None if password is None else self._hash(password, name)
        with self._database.write() as connection:
            alike = select(users.c.name).where(func.lower(users.c.name) == name.lower())
            if (other := connection.execute(alike).scalar()) is not None:
                raise BadInput("name", f"there is a user {other!r} already", "choose another name")
            query = insert(users).values(name=name, password=kept, role=role, disabled=False).returning(users.c.id)
            user_id = UserId(connection.execute(query).scalar_one())
        return User(id=user_id, name=name, role=role, disabled=False, has_password=kept is not None)

    def change_user(
        self, user_id: UserId, *, password: str | None = None, role: Role | None = None, disabled: bool | None = None
    ) -> User:
        """None: as it is. A new password ends every session of the user; disabling also revokes every token.

        Raises BadInput: there is no such user, the password cannot be one, or no admin would be left."""
        kept = None if password is None else self._hash(password, self.user(user_id).name)
        with self._database.write() as connection:
            old = _user_from(_row_of(connection, user_id))
            new = replace(
                old,
                role=old.role if role is None else role,
                disabled=old.disabled if disabled is None else disabled,
                has_password=old.has_password or kept is not None,
            )
            _check_admin_left(connection, old, new)
            values = {"role": new.role, "disabled": new.disabled} | ({} if kept is None else {"password": kept})
            connection.execute(update(users).where(users.c.id == user_id).values(values))
            if kept is not None or new.disabled:
                _end(connection, user_id)
            if new.disabled:
                _revoke(connection, tokens.c.user_id == user_id, self._now())
            return new

    def needs_password(self) -> bool:
        """Whether only a password signs in: there are several users, or one who has chosen one."""
        with self._database.read() as connection:
            return _needs_password(connection)

    # --- signing in ---

    def make_link(self, user: UserId, minutes: int = 10) -> str:
        """The key of a link that signs in once. Raises BadInput: there is no such user, they are disabled, or a
        password is needed here."""
        key, now = self._draw(SECRET_BYTES), self._now()
        with self._database.write() as connection:
            of = _user_from(_row_of(connection, user))
            if of.disabled:
                raise BadInput("user", f"{of.name} is disabled", "enable them first")
            if _needs_password(connection):
                wrong = "links sign nobody in any more: there are several users, or one with a password"
                raise BadInput("link", wrong, "sign in with name and password")
            connection.execute(delete(links).where(links.c.expires_at <= now))
            values = {"secret_hash": _digest(key), "user_id": user, "expires_at": now + timedelta(minutes=minutes)}
            connection.execute(insert(links).values(values))
        return key

    def use_link(self, key: str, about: str) -> tuple[User, str] | None:
        """The user and the secret of a new session. None: there is no such link, it was used, is too old, its user is
        disabled, or a password is needed here. Of two who use it at once one gets in."""
        now = self._now()
        unused = and_(links.c.secret_hash == _digest(key), links.c.used_at.is_(None), links.c.expires_at > now)
        with self._database.write() as connection:
            if _needs_password(connection):
                return None
            used = update(links).where(unused).values(used_at=now).returning(links.c.user_id)
            user_id = connection.execute(used).scalar()
            if user_id is None:
                return None
            user = _user_from(_row_of(connection, user_id))
            return None if user.disabled else (user, self._begin(connection, user, about, via="link"))

    def sign_in(self, name: str, password: str, about: str) -> tuple[User, str] | None:
        """The user and the secret of a new session. None: wrong, and nothing tells what was wrong: an unknown name
        takes as long as a wrong password."""
        nobodys = self._hash_of_nobody()  # also for a name that is known: the first try would take twice as long
        with self._database.read() as connection:
            row = _row_named(connection, name)
        kept: str | None = None if row is None or row["disabled"] else row["password"]
        is_right = self._verify(kept or nobodys, password)  # in no transaction: it takes long
        if row is None or kept is None or not is_right:
            return None
        newer = self._hashed(password) if self._hasher.check_needs_rehash(kept) else kept
        unchanged = and_(users.c.id == row["id"], users.c.password == kept, ~users.c.disabled)
        with self._database.write() as connection:
            if not connection.execute(update(users).where(unchanged).values(password=newer)).rowcount:
                return None  # disabled, or given another password, while we looked
            user = _user_from(_row_of(connection, row["id"]))
            return user, self._begin(connection, user, about, via="password")

    def session(self, secret: str) -> Session | None:
        """None: there is none, it was not used for 12 hours, is older than 30 days, or its user is disabled."""
        now = self._now()
        mine = and_(sessions.c.secret_hash == _digest(secret), sessions.c.expires_at > now, ~users.c.disabled)
        with self._database.read() as connection:
            row = connection.execute(_SESSIONS.where(mine)).mappings().one_or_none()
        if row is None:
            return None
        found = _session_from(row)
        if now - found.last_seen_at < NOTED_EVERY:
            return found
        seen = replace(found, last_seen_at=now, expires_at=min(now + SESSION_IDLE, found.created_at + SESSION_AT_MOST))
        values = {"last_seen_at": seen.last_seen_at, "expires_at": seen.expires_at}
        with suppress(RecordsUnavailable), self._database.write() as connection:  # it is a session all the same
            connection.execute(update(sessions).where(sessions.c.id == found.id).values(values))
        return seen

    def sessions(self, user_id: UserId) -> tuple[Session, ...]:
        """Those that are valid, the one used last first."""
        mine = and_(sessions.c.user_id == user_id, sessions.c.expires_at > self._now(), ~users.c.disabled)
        query = _SESSIONS.where(mine).order_by(sessions.c.last_seen_at.desc(), sessions.c.id.desc())
        with self._database.read() as connection:
            return tuple(_session_from(row) for row in connection.execute(query).mappings())

    def sign_out(self, secret: str) -> None:
        with self._database.write() as connection:
            connection.execute(delete(sessions).where(sessions.c.secret_hash == _digest(secret)))

    def sign_out_session(self, user_id: UserId, session_id: int) -> None:
        """Another browser of theirs. Raises BadInput: they have no such session."""
        mine = and_(sessions.c.id == _id(session_id), sessions.c.user_id == user_id)
        with self._database.write() as connection:
            if not connection.execute(delete(sessions).where(mine)).rowcount:
                raise BadInput("session", f"there is no session {session_id}", "see the list of your sessions")

    def sign_out_everywhere(self, user_id: UserId) -> None:
        """Every session, and every link that was not used yet."""
        with self._database.write() as connection:
            _end(connection, user_id)

    # --- tokens ---

    def make_token(self, user_id: UserId, name: str, scope: Scope, days: int | None) -> tuple[Token, str]:
        """The token and its text, which is not kept and so never shown again. `days` None: it does not expire.

        Raises BadInput."""
        if not name.strip() or len(name) > _NAME_MAX or not is_sayable(name):
            raise BadInput("name", "is not a name for a token", f"1 to {_NAME_MAX} letters that say what it is for")
        if days is not None and not 1 <= days <= TOKEN_DAYS_MAX:
            raise BadInput("days", f"{days} is not a number of days", f"1 to {TOKEN_DAYS_MAX}, or none")
        secret, now = TOKEN_PREFIX + self._draw(SECRET_BYTES), self._now()
        values = {
            "user_id": user_id,
            "name": name,
            "scope": scope,
            "created_at": now,
            "expires_at": None if days is None else now + timedelta(days=days),
        }
        with self._database.write() as connection:
            of = _user_from(_row_of(connection, user_id))
            if not may_make_token(of, scope):
                raise BadInput("scope", f"{of.name} may not have a token for {scope}", "choose trade or read")
            query = insert(tokens).values(secret_hash=_digest(secret), **values).returning(tokens)
            return _token_from(connection.execute(query).mappings().one()), secret

    def token(self, secret: str) -> tuple[User, Token] | None:
        """None: there is none, it was revoked or has expired, or its user is disabled."""
        if not secret.startswith(TOKEN_PREFIX):
            return None
        now = self._now()
        valid = and_(
            tokens.c.secret_hash == _digest(secret),
            tokens.c.revoked_at.is_(None),
            or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now),
        )
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(valid)).mappings().one_or_none()
            if row is None:
                return None
            found, user = _token_from(row), _user_from(_row_of(connection, row["user_id"]))
        if user.disabled:
            return None
        if found.last_used_at is None or now - found.last_used_at >= NOTED_EVERY:
            found = replace(found, last_used_at=now)
            with suppress(RecordsUnavailable), self._database.write() as connection:
                connection.execute(update(tokens).where(tokens.c.id == found.id).values(last_used_at=now))
        return user, found

    def tokens(self, user_id: UserId) -> tuple[Token, ...]:
        """By id; also those that were revoked or have expired."""
        query = select(tokens).where(tokens.c.user_id == user_id).order_by(tokens.c.id)
        with self._database.read() as connection:
            return tuple(_token_from(row) for row in connection.execute(query).mappings())

    def revoke(self, user_id: UserId, token_id: int) -> None:
        """From now on it opens nothing. Raises BadInput: they have no such token."""
        mine = and_(tokens.c.id == _id(token_id), tokens.c.user_id == user_id)
        with self._database.write() as connection:
            if not connection.execute(select(func.count()).where(mine)).scalar_one():
                raise BadInput("token", f"there is no token {token_id}", "see the list of your tokens")
            _revoke(connection, mine, self._now())

    # --- what was done ---

    def audit(self, user_id: UserId | None, via: str, action: str, target: str, detail: str, address: str) -> None:
        """Write down who did what. Never a password or a key: `target` and `detail` are shown to admins."""
        told = {"via": via, "action": action, "target": target, "detail": detail, "address": address}
        values = {name: text[:_DETAIL_MAX] for name, text in told.items()}
        with self._database.write() as connection:
            connection.execute(insert(audit).values(at=self._now(), user_id=user_id, **values))

    def audit_log(
        self, user_id: UserId | None = None, before: int | None = None, limit: int = 100
    ) -> tuple[AuditLine, ...]:
        """Newest first; `user_id` None: of all. `before`: the `id` of the last line, to go on."""
        of = true() if user_id is None else audit.c.user_id == user_id
        earlier = true() if before is None else audit.c.id < _id(before)
        query = select(audit).where(of, earlier).order_by(audit.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return tuple(AuditLine(**row) for row in connection.execute(query).mappings())

    # --- a request sent twice ---

    def begin_answer(self, user_id: UserId, key: str, request_hash: str) -> Answer:
        """Whether the request with the caller's own `key` was seen in the last 48 hours. It is now.

        Raises BadInput: the key cannot be one."""
        if not key or len(key) > _KEY_MAX or not is_sayable(key):
            raise BadInput("key", "is not a key for a request", f"1 to {_KEY_MAX} letters")
        now = self._now()
        mine, old = _answer(user_id, key), answers.c.at <= now - ANSWERS_KEPT
        with self._database.write() as connection:
            if self._swept_at is None or now - self._swept_at >= SWEPT_EVERY:
                connection.execute(delete(answers).where(old))
                self._swept_at = now
            connection.execute(delete(answers).where(mine, old))
            row = connection.execute(select(answers).where(mine)).mappings().one_or_none()
            if row is None:
                values = {"user_id": user_id, "key": key, "request_hash": request_hash, "at": now}
                connection.execute(insert(answers).values(values))
                return Fresh()
        if row["request_hash"] != request_hash:
            return Different()
        if row["status"] is None:
            return InProgress(since=row["at"])
        return Stored(status=row["status"], body=row["body"])

    def finish_answer(self, user_id: UserId, key: str, status: int, body: str) -> None:
        """The first answer stays; a second one is not written over it."""
        with self._database.write() as connection:
            open_one = and_(_answer(user_id, key), answers.c.status.is_(None))
            connection.execute(update(answers).where(open_one).values(status=status, body=body))

    def forget_answer(self, user_id: UserId, key: str) -> None:
        """The request failed before anything was done: it may be sent again. What has an answer stays."""
        with self._database.write() as connection:
            connection.execute(delete(answers).where(_answer(user_id, key), answers.c.status.is_(None)))

    # --- parts ---

    def _begin(self, connection: Connection, user: User, about: str, *, via: str) -> str:
        secret, now = self._draw(SECRET_BYTES), self._now()
        connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
        values = {"user_id": user.id, "created_at": now, "last_seen_at": now, "expires_at": now + SESSION_IDLE}
        connection.execute(
            insert(sessions).values(secret_hash=_digest(secret), about=about[:_ABOUT_MAX], via=via, **values)
        )
        return secret

    def _hash(self, password: str, name: str) -> str:
        check_password(password, name)
        return self._hashed(password)

    def _hashed(self, password: str) -> str:
        with self._hashing:
            return self._hasher.hash(spelled(password))

    def _hash_of_nobody(self) -> str:
        with self._nobodys_lock:
            if self._nobodys is None:
                self._nobodys = self._hashed(self._draw(SECRET_BYTES))
            return self._nobodys

    def _verify(self, kept: str, password: str) -> bool:
        is_possible = len(password) <= PASSWORD_LETTERS_MAX and is_sayable(password)
        with self._hashing:
            try:
                return self._hasher.verify(kept, spelled(password) if is_possible else "") and is_possible
            except (VerifyMismatchError, VerificationError, InvalidHashError):
                return False


_SESSIONS = select(
    sessions, users.c.name, users.c.role, users.c.disabled, users.c.password.is_not(None).label("has_password")
).join(users)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def _id(number: int) -> int:
    """A number that no row has, for one that no database can look up."""
    return number if 0 <= number < _ID_MAX else -1


def _answer(user_id: UserId, key: str) -> ColumnElement[bool]:
    return and_(answers.c.user_id == user_id, answers.c.key == key)


def _row_of(connection: Connection, user_id: UserId) -> RowMapping:
    row = connection.execute(select(users).where(users.c.id == _id(user_id))).mappings().one_or_none()
    if row is None:
        raise BadInput("user", f"there is no user {user_id}", "see `squareoff users`")
    return row


def _row_named(connection: Connection, name: str) -> RowMapping | None:
    if not is_user_name(name):
        return None  # it may hold what no database takes
    return connection.execute(select(users).where(func.lower(users.c.name) == name.lower())).mappings().one_or_none()


def _needs_password(connection: Connection) -> bool:
    if connection.execute(select(func.count()).where(users.c.password.is_not(None))).scalar_one():
        return True
    enabled: int = connection.execute(select(func.count()).where(~users.c.disabled)).scalar_one()
    return enabled > 1


def _check_admin_left(connection: Connection, old: User, new: User) -> None:
    if not _is_admin(old) or _is_admin(new):
        return
    others = and_(users.c.role == Role.ADMIN, ~users.c.disabled, users.c.id != old.id)
    if not connection.execute(select(func.count()).where(others)).scalar_one():
        raise BadInput("user", f"{old.name} is the only admin", "make somebody else an admin first")


def _is_admin(user: User) -> bool:
    return user.role is Role.ADMIN and not user.disabled


def _end(connection: Connection, user_id: UserId) -> None:
    connection.execute(delete(sessions).where(sessions.c.user_id == user_id))
    connection.execute(delete(links).where(links.c.user_id == user_id))


def _revoke(connection: Connection, which: ColumnElement[bool], at: datetime) -> None:
    connection.execute(update(tokens).where(which, tokens.c.revoked_at.is_(None)).values(revoked_at=at))


def _user_from(row: RowMapping) -> User:
    return User(
        id=UserId(row["id"]),
        name=row["name"],
        role=row["role"],
        disabled=row["disabled"],
        has_password=row["password"] is not None,
    )


def _session_from(row: RowMapping) -> Session:
    user = User(
        id=UserId(row["user_id"]),
        name=row["name"],
        role=row["role"],
        disabled=row["disabled"],
        has_password=row["has_password"],
    )
    names = ("id", "created_at", "last_seen_at", "expires_at", "about", "via")
    return Session(user=user, **{name: row[name] for name in names})


def _token_from(row: RowMapping) -> Token:
    return Token(**{name: row[name] for name in Token.__dataclass_fields__})
