"""Who asks, whether they may, and a request that is sent twice."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

from fastapi import Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from squareoff.apps.api.desk import Desk
from squareoff.apps.api.problems import ApiError, FieldProblem
from squareoff.apps.api.shield import SAFE
from squareoff.core.access import Action, Different, Fresh, InProgress, Scope, Stored, User, may
from squareoff.core.bad_input import BadInput
from squareoff.core.throttle import Throttle
from squareoff.core.types import UserId
from squareoff.errors import Conflict

if TYPE_CHECKING:
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.apps.api.hub import Hubs
    from squareoff.apps.api.recorder import Recorder
    from squareoff.apps.api.replays import Replays

COOKIE = "squareoff_session"
CSRF_HEADER = "x-csrf-token"
KEY_HEADER = "idempotency-key"


@dataclass(kw_only=True)
class Office:
    """What the application keeps beside its desk."""

    desk: Desk
    hubs: Hubs
    recorder: Recorder
    replays: Replays
    by_name: Throttle
    by_address: Throttle
    loopback: bool
    """Whether only this machine can reach us, so that a one-time link is enough for a single user."""


def office_of(request: Request) -> Office:
    return cast("Office", request.app.state.office)


OfficeOf = Annotated[Office, Depends(office_of)]


@dataclass(frozen=True, kw_only=True)
class Caller:
    user: User
    scope: Scope | None
    """Of the token; None: a session."""
    secret: str
    address: str
    desk: Desk

    @property
    def id(self) -> UserId:
        return self.user.id

    @property
    def store(self) -> StrategyStore:
        return self.desk.store(self.user.id)

    def need(self, action: Action) -> None:
        if not may(self.user, action, self.scope):
            what = f"this token is for {self.scope}" if self.scope is not None else f"{self.user.name} is no admin"
            raise ApiError(status=403, code="forbidden", message=f"{what}: that needs more")

    def note(self, action: str, target: str, detail: str = "") -> None:
        """For the audit."""
        via = "session" if self.scope is None else f"token ({self.scope})"
        self.desk.access.audit(self.user.id, via, action, target, detail, self.address)

    @property
    def csrf(self) -> str:
        return csrf_of(self.secret)


def csrf_of(secret: str) -> str:
    return hmac.new(secret.encode(), b"squareoff csrf", hashlib.sha256).hexdigest()


def address_of(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


def login_kind(desk: Desk) -> str:
    return "password" if desk.access.needs_password() else "link"


def unauthenticated(desk: Desk, message: str) -> ApiError:
    return ApiError(
        status=401,
        code="unauthenticated",
        message=message,
        login=login_kind(desk),
        headers={"WWW-Authenticate": "Bearer"},
    )


def authenticate(request: Request) -> Caller:
    """Raises ApiError 401, or 403 for a change without its CSRF token."""
    known = getattr(request.state, "caller", None)
    if known is not None:
        return cast("Caller", known)
    office = office_of(request)
    desk, address = office.desk, address_of(request)
    told = request.headers.get("authorization")
    if told is not None:
        kind, _, secret = told.partition(" ")
        found = desk.access.token(secret.strip()) if kind.lower() == "bearer" else None
        if found is None:
            raise unauthenticated(desk, "this token is not valid: it may have been revoked, or has expired")
        caller = Caller(user=found[0], scope=found[1].scope, secret=secret, address=address, desk=desk)
    else:
        secret = request.cookies.get(COOKIE, "")
        session = desk.access.session(secret) if secret else None
        if session is None:
            raise unauthenticated(desk, "sign in first")
        caller = Caller(user=session.user, scope=None, secret=secret, address=address, desk=desk)
        told_csrf = request.headers.get(CSRF_HEADER, "")
        if request.method not in SAFE and not hmac.compare_digest(told_csrf.encode(), caller.csrf.encode()):
            message = "the X-CSRF-Token header is missing or wrong: take it from GET /api/v1/session"
            raise ApiError(status=403, code="forbidden", message=message)
    request.state.caller = caller
    return caller


def _who_may(action: Action) -> Any:
    def caller(request: Request) -> Caller:
        found = authenticate(request)
        found.need(action)
        return found

    return Depends(caller)


Reader = Annotated[Caller, _who_may(Action.READ)]
Trader = Annotated[Caller, _who_may(Action.TRADE)]
OwnKeys = Annotated[Caller, _who_may(Action.KEYS)]
Admin = Annotated[Caller, _who_may(Action.ADMIN)]


def now_s() -> float:
    return time.monotonic()


# ------------------------------------------------------------------ a request that is sent twice

_NOTHING_DONE = (ApiError, BadInput, Conflict, RequestValidationError, HTTPException)
"""Refused before anything was written: the same key may be tried again with what is right."""


class Acting(APIRoute):
    """A POST with an `Idempotency-Key` acts once: the same key again gives the first answer again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def once(request: Request) -> Response:
            key = request.headers.get(KEY_HEADER)
            if key is None or request.method != "POST":
                return await handle(request)
            caller = await run_in_threadpool(authenticate, request)
            return await _once(caller, key, request, handle)

        return once


async def _once(
    caller: Caller, key: str, request: Request, handle: Callable[[Request], Awaitable[Response]]
) -> Response:
    access = caller.desk.access
    body = await request.body()
    digest = hashlib.sha256(b"\n".join((request.method.encode(), request.url.path.encode(), body))).hexdigest()
    match await run_in_threadpool(access.begin_answer, caller.id, key, digest):
        case Stored(status=status, body=text):
            headers = {"Idempotent-Replayed": "true"}
            return Response(text, status_code=status, media_type="application/json", headers=headers)
        case Different():
            wrong = "was used for another request"
            field = FieldProblem(field=KEY_HEADER, wrong=wrong, right="draw a new key for each new request")
            raise ApiError(status=422, code="bad_input", message=f"Idempotency-Key: {wrong}", fields=[field])
        case InProgress():
            message = (
                "a request with this key was begun and its outcome is not known: look at the state, do not repeat it"
            )
            raise ApiError(status=409, code="conflict", message=message)
        case Fresh():
            pass
    try:
        response = await handle(request)
    except _NOTHING_DONE:
        await run_in_threadpool(access.forget_answer, caller.id, key)
        raise
    content = bytes(response.body).decode()
    await run_in_threadpool(access.finish_answer, caller.id, key, response.status_code, content)
    return response
