"""Who may use this installation, and what they may do: the rules, without any storage."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from squareoff.core.bad_input import BadInput
from squareoff.core.types import UserId

PASSWORD_LETTERS_MIN: Final = 10
PASSWORD_LETTERS_MAX: Final = 200
"""Longer ones only cost time: whoever sends them makes the server hash them."""
_DIFFERENT_LETTERS_MIN: Final = 3
_TRIED_FIRST: Final = """
    0123456789 1234567890 12345678910 123456789a 0987654321 9876543210 1q2w3e4r5t 1qaz2wsx3edc qwertyuiop qwerty12345
    qwerty123456 asdfghjkl1 asdfghjkl; zxcvbnm123 password12 password123 password1234 passw0rd123 p@ssw0rd123
    letmein123 letmein1234 welcome123 welcome1234 iloveyou12 iloveyou123 administrator admin12345 admin123456
    changeme123 changemenow squareoff1 squareoff12 squareoff123 squareoffsquareoff trading123 trader1234 zerodha123
    india12345 abcdefghij abcd123456 abc1234567 a123456789 football123 superman123 dragon12345 monkey12345
"""
_COMMON: Final = frozenset(_TRIED_FIRST.split())
"""A few that are tried first everywhere. The throttle does the rest."""
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}", re.ASCII | re.IGNORECASE)


class Role(StrEnum):
    TRADER = "trader"
    ADMIN = "admin"


class Scope(StrEnum):
    """How far a token reaches; never further than its user."""

    READ = "read"
    TRADE = "trade"
    ADMIN = "admin"


class Action(StrEnum):
    """What is asked for; whatever is looked at or changed belongs to the user who asks, but for ADMIN."""

    READ = "read"
    TRADE = "trade"
    """Strategies, wishes, limits, the kill switch."""
    KEYS = "keys"
    """One's own password, sessions and tokens: who has a token for trading must not be able to make a stronger one."""
    ADMIN = "admin"
    """Other users, everybody's audit log, secrets."""


_REACH: Final[dict[Scope, frozenset[Action]]] = {
    Scope.READ: frozenset({Action.READ}),
    Scope.TRADE: frozenset({Action.READ, Action.TRADE}),
    Scope.ADMIN: frozenset(Action),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    id: UserId
    name: str
    role: Role
    disabled: bool
    has_password: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A browser that is signed in. `expires_at` moves on while it is used. `via`: "password" or "link"."""

    id: int
    user: User
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    about: str
    via: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A key for programs. `expires_at`, `last_used_at`, `revoked_at` None: never."""

    id: int
    user_id: UserId
    name: str
    scope: Scope
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditLine:
    """Who did what. `user_id` None: nobody who was signed in, or the command line of this machine."""

    id: int
    at: datetime
    user_id: UserId | None
    via: str
    action: str
    target: str
    detail: str
    address: str


# ------------------------------------------------------------------ a request sent twice


@dataclass(frozen=True, kw_only=True, slots=True)
class Fresh:
    """Not seen before: do it, then `finish_answer`, or `forget_answer` if certainly nothing was done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """Done before, with this answer."""

    status: int
    body: str


@dataclass(frozen=True, kw_only=True, slots=True)
class InProgress:
    """Begun and never finished: it is being worked on, or whoever did died with it. What became of it must be looked
    up before it is asked again under another key."""

    since: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Different:
    """The same key came with another request: a mistake of the caller."""


Answer = Fresh | Stored | InProgress | Different

# ------------------------------------------------------------------ rules


def may(user: User, action: Action, scope: Scope | None = None) -> bool:
    """`scope`: of the token that asks; None for a session, which may do all that its user may."""
    if user.disabled or (scope is not None and action not in _REACH[scope]):
        return False
    return action is not Action.ADMIN or user.role is Role.ADMIN


def may_make_token(user: User, scope: Scope) -> bool:
    """Nobody hands on what they do not have."""
    return not user.disabled and (scope is not Scope.ADMIN or user.role is Role.ADMIN)


def user_name(text: str) -> str:
    """Raises BadInput: a name that cannot be one."""
    if not _NAME.fullmatch(text):
        raise BadInput(
            "name",
            f"{text[:60]!r} is not a name",
            "use 1 to 40 letters, digits, dots, dashes and underscores, starting with a letter or digit",
        )
    return text


def is_user_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None


def check_password(text: str, name: str) -> None:
    """Raises BadInput; the password is never in its text."""
    if len(text) > PASSWORD_LETTERS_MAX:
        raise BadInput("password", "is too long", f"at most {PASSWORD_LETTERS_MAX} letters")
    if not is_sayable(text):
        raise BadInput("password", "holds letters that cannot be typed", "use ordinary letters, digits and signs")
    plain = spelled(text)
    if len(plain) < PASSWORD_LETTERS_MIN:
        raise BadInput("password", "is too short", f"at least {PASSWORD_LETTERS_MIN} letters; a short sentence is fine")
    folded = plain.casefold()
    if folded == name.casefold():
        raise BadInput("password", "is the name of the user", "choose another")
    if folded in _COMMON or len(set(folded)) < _DIFFERENT_LETTERS_MIN:
        raise BadInput("password", "is one of those that are tried first", "choose another; a short sentence is fine")


def spelled(password: str) -> str:
    """One spelling for what looks the same: keyboards differ in how they send an é."""
    return unicodedata.normalize("NFKC", password)


def is_sayable(text: str) -> bool:
    """Whether it can be written down as UTF-8 and holds no control letters."""
    return not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)
