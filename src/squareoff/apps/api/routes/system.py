"""What is pushed, replays, and the installation itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from squareoff import __version__
from squareoff.apps.api import shapes
from squareoff.apps.api.callers import Acting, Caller, OfficeOf, Reader
from squareoff.apps.api.problems import responses
from squareoff.apps.facts import count_alert_channels
from squareoff.apps.metrics import CONTENT_TYPE, render
from squareoff.core.access import Action
from squareoff.core.bad_input import BadInput
from squareoff.errors import RecordsUnavailable

router = APIRouter(tags=["system"], route_class=Acting, responses=responses(401, 403, 413, 422, 503))
STILL_SIGNED_IN_EVERY_S = 30.0
API = "v1"


@router.get("/today", summary="Everything a trader must see at once")
async def today(caller: Reader, office: OfficeOf) -> shapes.Today:
    return await office.hubs.of(caller.id).document()


@router.get(
    "/events",
    summary="What changes, pushed",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "a stream"}},
)
async def events(request: Request, caller: Reader, office: OfficeOf) -> Response:
    """Server-sent events: `today` (the whole document), `patch` (what changed of it), `beat` (each second), `journal`
    (new lines), `bye` (signed out). `Last-Event-ID` goes on where a connection was lost."""
    stream = office.hubs.of(caller.id).events(request.headers.get("last-event-id"))
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_while_signed_in(stream, caller), media_type="text/event-stream", headers=headers)


async def _while_signed_in(stream: AsyncIterator[str], caller: Caller) -> AsyncIterator[str]:
    """A stream lives for hours: who was signed out meanwhile sees nothing more."""
    loop = asyncio.get_running_loop()
    asked_s = loop.time()
    async for text in stream:
        if loop.time() - asked_s > STILL_SIGNED_IN_EVERY_S:
            asked_s = loop.time()
            with suppress(RecordsUnavailable):
                if not await run_in_threadpool(_is_signed_in, caller):
                    yield "event: bye\ndata: {}\n\n"
                    return
        yield text


def _is_signed_in(caller: Caller) -> bool:
    access = caller.desk.access
    if caller.scope is None:
        return access.session(caller.secret) is not None
    return access.token(caller.secret) is not None


# ------------------------------------------------------------------ replay


@router.post("/replays", status_code=202, summary="Play strategies on a recorded day", responses=responses(409, 413))
async def start_replay(asked: shapes.NewReplay, caller: Reader, office: OfficeOf) -> shapes.ReplayShape:
    """Without `csv`: on the generated day that ships with squareoff. Nothing is traded and nothing is saved."""
    return office.replays.start(caller.id, asked)


@router.get("/replays/{replay_id:int}", summary="What came of it", responses=responses(404))
async def replay(replay_id: shapes.Id, caller: Reader, office: OfficeOf) -> shapes.ReplayShape:
    return office.replays.get(caller.id, replay_id)


# ------------------------------------------------------------------ the installation


@router.get("/settings", summary="Where everything is")
def settings(caller: Reader) -> shapes.Settings:
    from squareoff import wiring

    config = caller.desk.config
    redis = caller.desk.redis_url()
    return shapes.Settings(
        data_folder=str(config.data),
        database=wiring.database_name(config),
        redis="comes with squareoff" if config.redis_url is None else "another one" if redis else "not running",
        version=__version__,
        channels=count_alert_channels(config.alerts_file)[0] or 0,
        users=len(caller.desk.access.users()),
        zone=caller.desk.zone().key,
    )


@router.get(
    "/metrics",
    summary="Figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "docs/metrics.md"}},
)
def metrics(caller: Reader, office: OfficeOf) -> Response:
    """Of every worker of the installation, and of this process. For an admin, or the only user there is."""
    if len(caller.desk.access.users()) > 1:
        caller.need(Action.ADMIN)
    own = {
        "squareoff_console_viewers": ("Pages that are open and told what changes, pages", office.hubs.viewers),
    }
    told = "".join(
        f"# HELP {name} {help_}\n# TYPE {name} gauge\n{name} {value}\n" for name, (help_, value) in own.items()
    )
    return Response(render(caller.desk.config.run_folder) + told.encode(), media_type=CONTENT_TYPE)


open_router = APIRouter(tags=["system"])
"""For monitors: no access is needed, and nothing is told that is anybody's."""


@open_router.get("/health", summary="Whether this process lives")
async def health() -> shapes.Health:
    return shapes.Health(status="ok")


@open_router.get("/version", summary="Which squareoff this is")
async def version() -> shapes.Version:
    return shapes.Version(version=__version__, api=API)


@open_router.get(
    "/readiness",
    summary="Whether it can be used",
    responses={503: {"model": shapes.Readiness, "description": "not now; the checks say why"}},
)
def readiness(office: OfficeOf, response: Response) -> shapes.Readiness:
    desk = office.desk
    checks = []
    try:
        desk.access.needs_password()
        checks.append(shapes.CheckShape(name="records", ok=True, text="can be read", mend=""))
    except (RecordsUnavailable, BadInput):
        mend = "see `squareoff doctor`"
        checks.append(shapes.CheckShape(name="records", ok=False, text="cannot be read", mend=mend))
    is_up = desk.running() is not None
    mend = "" if is_up else "run `squareoff up`"
    text = "runs" if is_up else "does not run: nothing trades"
    checks.append(shapes.CheckShape(name="up", ok=is_up, text=text, mend=mend))
    ready = all(check.ok for check in checks)
    response.status_code = 200 if ready else 503
    return shapes.Readiness(ready=ready, checks=checks)
