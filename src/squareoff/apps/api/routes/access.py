"""Signing in and out, tokens, users, the audit."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from squareoff import __version__
from squareoff.apps.api import shapes
from squareoff.apps.api.callers import (
    COOKIE,
    Acting,
    Admin,
    Office,
    OfficeOf,
    OwnKeys,
    Reader,
    address_of,
    csrf_of,
    login_kind,
    now_s,
    unauthenticated,
)
from squareoff.apps.api.desk import Desk
from squareoff.apps.api.problems import ApiError, FieldProblem, not_found, responses
from squareoff.core.access import Action, Role, Scope, Token, User, may
from squareoff.core.bad_input import BadInput
from squareoff.core.types import UserId

router = APIRouter(tags=["access"], route_class=Acting, responses=responses(401, 403, 413, 422, 503))
unremembered = APIRouter(tags=["access"], responses=responses(401, 403, 413, 422, 429, 503))
"""Without `Idempotency-Key`: nobody is known yet whose it could be, or the request or its answer holds a secret, of
which not even a digest may be kept to be given again."""
COOKIE_AGE_S = 30 * 86_400


def user_shape(user: User) -> shapes.UserShape:
    return shapes.UserShape(
        id=user.id, name=user.name, role=user.role.value, disabled=user.disabled, has_password=user.has_password
    )


def _utc(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat(timespec="seconds")


def _session(desk: Desk, user: User, secret: str) -> shapes.SessionShape:
    login = "password" if login_kind(desk) == "password" else "link"
    return shapes.SessionShape(
        user=user_shape(user), csrf=csrf_of(secret), login="password" if login == "password" else "link",
        version=__version__,
    )  # fmt: skip


@router.get("/session", summary="Who I am")
def session(caller: Reader) -> shapes.SessionShape:
    return _session(caller.desk, caller.user, caller.secret)


@unremembered.post("/session", status_code=201, summary="Sign in")
def sign_in(asked: shapes.SignIn, request: Request, response: Response, office: OfficeOf) -> shapes.SessionShape:
    """With a one-time key, or with a name and a password. Sets the cookie of the session."""
    desk, address = office.desk, address_of(request)
    about = request.headers.get("user-agent", "")[:200]
    if asked.key is not None:
        found = _by_key(office, asked.key, about, address)
    elif asked.name is not None and asked.password is not None:
        found = _by_password(office, asked.name, asked.password, about, address)
    else:
        fields = [FieldProblem(field="name", wrong="is missing", right="a name and a password, or a key")]
        raise ApiError(
            status=422, code="bad_input", message="say who you are: name and password, or key", fields=fields
        )
    user, secret = found
    desk.access.audit(user.id, "session", "sign in", user.name, "", address)
    response.set_cookie(
        COOKIE, secret, max_age=COOKIE_AGE_S, httponly=True, samesite="strict", secure=desk.secure, path="/"
    )
    return _session(desk, user, secret)


def _by_key(office: Office, key: str, about: str, address: str) -> tuple[User, str]:
    _wait(office, f"link {address}", address)
    found = office.desk.access.use_link(key, about) if office.loopback else None
    if found is None:
        message = "this link was used already, is too old, or is not ours: `squareoff link` prints a new one"
        raise unauthenticated(office.desk, message)
    _passed(office, f"link {address}", address)
    return found


def _by_password(office: Office, name: str, password: str, about: str, address: str) -> tuple[User, str]:
    place = f"{name.casefold()} {address}"
    _wait(office, place, address)
    found = office.desk.access.sign_in(name, password, about)
    if found is None:
        office.desk.access.audit(None, "session", "sign in refused", _known_name(office.desk, name), "", address)
        raise unauthenticated(office.desk, "no user has this name and password")
    _passed(office, place, address)
    return found


def _known_name(desk: Desk, name: str) -> str:
    """People type their password where their name belongs: what is no user's name is not written down."""
    names = {user.name.casefold(): user.name for user in desk.access.users()}
    return names.get(name.casefold(), "(no user's name)")


def _wait(office: Office, place: str, address: str) -> None:
    """Counted before it is looked at: several at once would all find that nothing failed yet."""
    at_s = now_s()
    wait_s = max(office.by_name.wait_s(place, at_s), office.by_address.wait_s(address, at_s))
    if wait_s > 0:
        seconds = int(wait_s) + 1
        raise ApiError(
            status=429,
            code="too_many_requests",
            message=f"too many tries: again in {seconds} s",
            headers={"Retry-After": str(seconds)},
        )
    office.by_name.failed(place, at_s)
    office.by_address.failed(address, at_s)


def _passed(office: Office, place: str, address: str) -> None:
    office.by_name.passed(place)
    office.by_address.passed(address)


@router.delete("/session", status_code=204, summary="Sign out here")
def sign_out(caller: Reader, response: Response) -> None:
    if caller.scope is None:
        caller.desk.access.sign_out(caller.secret)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict", secure=caller.desk.secure)


@router.get("/sessions", summary="Where I am signed in")
def sessions(caller: OwnKeys) -> shapes.OpenSessions:
    mine = None if caller.scope is not None else caller.desk.access.session(caller.secret)
    return shapes.OpenSessions(
        sessions=[
            shapes.OpenSession(
                id=each.id,
                created_at=_utc(each.created_at) or "",
                last_seen_at=_utc(each.last_seen_at) or "",
                about=each.about,
                current=mine is not None and mine.id == each.id,
            )
            for each in caller.desk.access.sessions(caller.id)
        ]
    )


@router.delete("/sessions", status_code=204, summary="Sign out everywhere")
def sign_out_everywhere(caller: OwnKeys) -> None:
    caller.desk.access.sign_out_everywhere(caller.id)
    caller.note("sign out everywhere", caller.user.name)


@router.put("/password", status_code=204, summary="Choose a password", responses=responses(429))
def new_password(asked: shapes.NewPassword, caller: OwnKeys, office: OfficeOf) -> None:
    """From then on only a password signs in. Every session ends, this one too."""
    if caller.user.has_password:
        place = f"{caller.user.name.casefold()} {caller.address}"
        _wait(office, place, caller.address)
        if caller.desk.access.sign_in(caller.user.name, asked.old, "change of password") is None:
            raise BadInput("old", "is not your password", "")
        _passed(office, place, caller.address)
    try:
        caller.desk.access.change_user(caller.id, password=asked.new)
    except BadInput as error:
        raise BadInput("new" if error.field == "password" else error.field, error.wrong, error.right) from error
    caller.note("change password", caller.user.name)


# ------------------------------------------------------------------ tokens


def _token_shape(token: Token) -> shapes.TokenShape:
    return shapes.TokenShape(
        id=token.id,
        name=token.name,
        scope=token.scope.value,
        created_at=_utc(token.created_at) or "",
        last_used_at=_utc(token.last_used_at),
        expires_at=_utc(token.expires_at),
    )


@router.get("/tokens", summary="My tokens")
def tokens(caller: OwnKeys) -> shapes.Tokens:
    """Those that still open something; the text of a token is never shown again."""
    known = (each for each in caller.desk.access.tokens(caller.id) if each.revoked_at is None)
    return shapes.Tokens(tokens=[_token_shape(each) for each in known])


@unremembered.post("/tokens", status_code=201, summary="Make a token")
def make_token(asked: shapes.NewToken, caller: OwnKeys) -> shapes.MadeToken:
    token, text = caller.desk.access.make_token(caller.id, asked.name, Scope(asked.scope), asked.days)
    caller.note("make token", token.name, f"scope {token.scope}")
    return shapes.MadeToken(**_token_shape(token).model_dump(), token=text)


@router.delete("/tokens/{token_id:int}", status_code=204, summary="Revoke a token", responses=responses(404))
def revoke(token_id: shapes.Id, caller: OwnKeys) -> None:
    try:
        caller.desk.access.revoke(caller.id, token_id)
    except BadInput as error:
        raise not_found(f"there is no token {token_id}") from error
    caller.note("revoke token", str(token_id))


# ------------------------------------------------------------------ users


@router.get("/users", summary="All users (admin)")
def users(caller: Admin) -> shapes.Users:
    return shapes.Users(users=[user_shape(each) for each in caller.desk.access.users()])


@unremembered.post("/users", status_code=201, summary="Add a user (admin)")
def add_user(asked: shapes.NewUser, caller: Admin) -> shapes.UserShape:
    """From then on everybody signs in with a password, so the admin needs one first."""
    if not caller.user.has_password:
        raise BadInput(
            "password", "you have no password yourself", "choose one first: a second user ends one-time links"
        )
    user = caller.desk.access.add_user(asked.name, asked.password, Role(asked.role))
    caller.note("add user", user.name, f"role {user.role}")
    return user_shape(user)


@router.patch("/users/{user_id:int}", summary="Change a user (admin)", responses=responses(404))
def change_user(user_id: shapes.Id, asked: shapes.ChangedUser, caller: Admin) -> shapes.UserShape:
    try:
        caller.desk.access.user(UserId(user_id))
    except BadInput as error:
        raise not_found(f"there is no user {user_id}") from error
    role = None if asked.role is None else Role(asked.role)
    user = caller.desk.access.change_user(UserId(user_id), password=asked.password, role=role, disabled=asked.disabled)
    changed = [name for name, value in asked.model_dump(exclude_none=True).items() if value is not None]
    caller.note("change user", user.name, ", ".join(changed))
    return user_shape(user)


@router.get("/audit", summary="Who did what")
def audit(
    caller: OwnKeys,
    before: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> shapes.Audit:
    """An admin sees everybody's, others their own. Newest first; `next` goes on."""
    everybody = may(caller.user, Action.ADMIN, caller.scope)
    lines = caller.desk.access.audit_log(None if everybody else caller.id, before, limit)
    names = {user.id: user.name for user in caller.desk.access.users()}
    entries = [
        shapes.AuditEntry(
            id=line.id,
            at=_utc(line.at) or "",
            user="" if line.user_id is None else names.get(line.user_id, str(line.user_id)),
            via=line.via,
            action=line.action,
            target=line.target,
            detail=line.detail,
            address=line.address,
        )
        for line in lines
    ]
    return shapes.Audit(entries=entries, next=lines[-1].id if len(lines) == limit else None)
