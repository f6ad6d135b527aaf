"""One shape for every error, whatever went wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from squareoff.core.bad_input import BadInput
from squareoff.errors import Conflict, RecordsUnavailable

log = logging.getLogger("squareoff.api")


class FieldProblem(BaseModel):
    """A field, what is wrong with it, and what would be right (may be empty)."""

    field: str
    wrong: str
    right: str = ""


class ProblemBody(BaseModel):
    code: str
    message: str
    fields: list[FieldProblem] = []
    request_id: str = ""
    login: str | None = None
    """Of a 401: what to sign in with, "link" or "password"."""
    current: dict[str, Any] | None = None
    """Of a 409: what is there now."""


class Problem(BaseModel):
    error: ProblemBody


@dataclass(kw_only=True)
class ApiError(Exception):
    status: int
    code: str
    message: str
    fields: Sequence[FieldProblem] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    login: str | None = None
    current: dict[str, Any] | None = None


_CODES = {400: "bad_input", 401: "unauthenticated", 403: "forbidden", 404: "not_found", 405: "method_not_allowed",
          409: "conflict", 413: "too_large", 415: "unsupported_media_type", 422: "bad_input",
          429: "too_many_requests", 503: "unavailable"}  # fmt: skip


def not_found(what: str) -> ApiError:
    return ApiError(status=404, code="not_found", message=what)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: that these may come, in our shape."""
    return {status: {"model": Problem, "description": _CODES.get(status, "error")} for status in statuses}


def problem(request: Request, error: ApiError) -> Response:
    body = ProblemBody(
        code=error.code,
        message=error.message,
        fields=list(error.fields),
        request_id=request.scope.get("request_id", ""),
        login=error.login,
        current=error.current,
    )
    document = Problem(error=body).model_dump(exclude_none=True)
    return JSONResponse(document, status_code=error.status, headers=dict(error.headers))


def from_bad_input(error: BadInput) -> ApiError:
    fields = [FieldProblem(field=error.field, wrong=error.wrong, right=error.right)]
    return ApiError(status=422, code="bad_input", message=str(error), fields=fields)


def install(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    def known(request: Request, error: ApiError) -> Response:
        return problem(request, error)

    @app.exception_handler(BadInput)
    def bad_input(request: Request, error: BadInput) -> Response:
        return problem(request, from_bad_input(error))

    @app.exception_handler(Conflict)
    def conflict(request: Request, error: Conflict) -> Response:
        return problem(request, ApiError(status=409, code="conflict", message=str(error)))

    @app.exception_handler(RecordsUnavailable)
    def unavailable(request: Request, error: RecordsUnavailable) -> Response:
        message = f"the records cannot be read or written now; nothing is known to be done: {error}"
        return problem(request, ApiError(status=503, code="unavailable", message=message, headers={"Retry-After": "1"}))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        fields = [FieldProblem(field=_place(each["loc"]), wrong=_sentence(str(each["msg"]))) for each in error.errors()]
        told = "; ".join(f"{each.field}: {each.wrong}" for each in fields[:5])
        return problem(request, ApiError(status=422, code="bad_input", message=told, fields=fields))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # of FastAPI: a body that cannot be read at all
            fields = [FieldProblem(field="body", wrong="cannot be read", right="JSON in UTF-8")]
            message = "the body cannot be read: send JSON in UTF-8"
            return problem(request, ApiError(status=422, code="bad_input", message=message, fields=fields))
        code = _CODES.get(error.status_code, "error")
        message = {404: "there is nothing at this address", 405: "this address does not take that method"}.get(
            error.status_code, str(error.detail)
        )
        headers = dict(error.headers or {})
        return problem(request, ApiError(status=error.status_code, code=code, message=message, headers=headers))

    @app.exception_handler(Exception)
    def fault(request: Request, error: Exception) -> Response:
        log.error("a fault of squareoff at %s %s", request.method, request.url.path, exc_info=error)
        message = "a fault of squareoff; its log has more under this request id. Look at the state before asking again"
        return problem(request, ApiError(status=500, code="internal", message=message))


def _place(loc: Sequence[Any]) -> str:
    """`("body", "stop_loss")` is `stop_loss`."""
    parts = [str(part) for part in loc if part not in ("body", "query", "path", "header", "cookie")]
    return ".".join(parts) or str(loc[0] if loc else "body")


def _sentence(text: str) -> str:
    return text[:1].lower() + text[1:]
