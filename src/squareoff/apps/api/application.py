"""The application: every route behind the shield, and the console's files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from squareoff import __version__
from squareoff.apps.api import problems
from squareoff.apps.api.callers import Office
from squareoff.apps.api.desk import Desk
from squareoff.apps.api.hub import Hubs
from squareoff.apps.api.recorder import Recorder
from squareoff.apps.api.replays import Replays
from squareoff.apps.api.routes import access, accounts, market, runs, strategies, system
from squareoff.apps.api.shield import Shield
from squareoff.core.throttle import Throttle

PREFIX = "/api/v1"
NO_CONSOLE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>squareoff</title>
<h1>squareoff: the API is here, the console is not</h1>
<p>This squareoff was installed without its console (SQUAREOFF_SKIP_CONSOLE=1). The API is described at
<a href="/api/v1/openapi.json">/api/v1/openapi.json</a>.</p></html>"""


def make_office(desk: Desk, *, epoch: str, loopback: bool) -> Office:
    """`epoch`: of this process, for ids of events. `loopback`: whether only this machine can reach it."""
    return Office(
        desk=desk,
        hubs=Hubs(desk=desk, epoch=epoch),
        recorder=Recorder(desk=desk),
        replays=Replays(config=desk.config),
        by_name=Throttle(),
        by_address=Throttle(tries=20),
        loopback=loopback,
    )


def make_app(office: Office, *, hosts: Collection[str], new_ids: Iterator[str]) -> ASGIApp:
    """`hosts`: the values of the header Host that are ours."""
    app = make_api(_lifespan(office))
    app.state.office = office
    _serve_console(app)
    return Shield(app, hosts=hosts, new_id=new_ids)


def make_api(lifespan: Any = None) -> FastAPI:
    """The routes alone: enough to describe them."""
    app = FastAPI(
        title="squareoff",
        version=__version__,
        description="Rules that trade: bought once, sold once, out at the stop-loss. Money and quantities are text.",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # they load scripts from elsewhere, which our policy forbids; docs/api.md is made from the same
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=_name_of,
    )
    problems.install(app)
    for router in (
        access.unremembered,
        access.router,
        strategies.router,
        runs.router,
        market.router,
        accounts.router,
        system.router,
    ):
        app.include_router(router, prefix=PREFIX)
    app.include_router(system.open_router, prefix=PREFIX)
    return app


def _name_of(route: APIRoute) -> str:
    return route.name.strip("_")


def _lifespan(office: Office) -> Any:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        recording = asyncio.get_running_loop().create_task(office.recorder.run())
        try:
            yield
        finally:
            recording.cancel()
            await asyncio.gather(recording, return_exceptions=True)
            await office.hubs.close()
            await office.replays.close()
            office.recorder.close()

    return lifespan


def console_folder() -> Path | None:
    """None: installed without it."""
    folder = Path(str(files("squareoff.apps"))) / "console" / "static"
    return folder if (folder / "index.html").is_file() else None


def _serve_console(app: FastAPI) -> None:
    folder = console_folder()
    page = NO_CONSOLE if folder is None else (folder / "index.html").read_text(encoding="utf-8")
    router = APIRouter(include_in_schema=False)

    @router.get("/", response_class=HTMLResponse)
    async def index() -> HTMLResponse:
        return HTMLResponse(page)

    app.include_router(router)
    if folder is not None:
        app.mount("/static", StaticFiles(directory=folder), name="static")
