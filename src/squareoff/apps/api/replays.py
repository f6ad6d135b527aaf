"""Replays that somebody asked for: each in a process of its own, one at a time for each user."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import tempfile
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from squareoff.apps.api import shapes
from squareoff.apps.api.problems import ApiError, not_found
from squareoff.config import Config
from squareoff.core.types import UserId

log = logging.getLogger("squareoff.api")

LONGEST_S = 300.0
KEPT = 20
"""Results of one user; the oldest go first."""


@dataclass(kw_only=True)
class _Job:
    shape: shapes.ReplayShape
    task: asyncio.Task[None] | None = None


@dataclass(kw_only=True)
class Replays:
    config: Config
    _jobs: dict[UserId, OrderedDict[int, _Job]] = field(default_factory=dict)
    _last: int = 0

    def start(self, user: UserId, asked: shapes.NewReplay) -> shapes.ReplayShape:
        """Raises ApiError 409 while another one of this user runs."""
        jobs = self._jobs.setdefault(user, OrderedDict())
        if any(job.shape.state == "running" for job in jobs.values()):
            raise ApiError(status=409, code="conflict", message="a replay of yours is running: wait until it is done")
        self._last += 1
        shape = shapes.ReplayShape(
            id=self._last, state="running", error="", results=[], totals={}, oddities=[], days=0, ticks=0
        )
        job = jobs[shape.id] = _Job(shape=shape)
        while len(jobs) > KEPT:
            jobs.popitem(last=False)
        job.task = asyncio.get_running_loop().create_task(self._follow(job, asked))
        return shape

    def get(self, user: UserId, replay_id: int) -> shapes.ReplayShape:
        """Raises ApiError 404."""
        job = self._jobs.get(user, OrderedDict()).get(replay_id)
        if job is None:
            raise not_found(f"there is no replay {replay_id}")
        return job.shape

    async def _follow(self, job: _Job, asked: shapes.NewReplay) -> None:
        """Whatever becomes of it: one that never ended would keep its user from the next."""
        try:
            await self._run(job, asked)
        except Exception as error:
            log.error("a fault of squareoff in a replay", exc_info=error)
            job.shape.state, job.shape.error = "failed", "a fault of squareoff; its log has more"

    async def _run(self, job: _Job, asked: shapes.NewReplay) -> None:
        with tempfile.TemporaryDirectory(prefix="squareoff-replay-") as folder:
            command = [sys.executable, "-m", "squareoff", "--data", str(self.config.data), "replay", "--json"]
            command += self._inputs(Path(folder), asked)
            try:
                output, errors, status = await _output(command)
            except TimeoutError:
                job.shape.state, job.shape.error = "failed", f"it took longer than {LONGEST_S:g} s and was ended"
                return
        if status != 0:
            told = errors.decode(errors="replace").strip().removeprefix("squareoff: ")
            job.shape.state, job.shape.error = "failed", told.replace(f"{folder}/", "")[-2000:] or "it failed"
            return
        document: dict[str, Any] = json.loads(output)
        for name in ("results", "totals", "oddities", "days", "ticks"):
            setattr(job.shape, name, document[name])
        job.shape.state = "done"

    def _inputs(self, folder: Path, asked: shapes.NewReplay) -> list[str]:
        arguments: list[str] = []
        if asked.csv is None:
            arguments.append("--sample")
        else:
            name = re.sub(r"[^A-Za-z0-9_. -]", "_", asked.csv_name).lstrip(".") or "prices"
            file = folder / (name if name.lower().endswith(".csv") else f"{name}.csv")
            file.write_text(asked.csv, encoding="utf-8")
            arguments += [str(file), "--bars-labelled", asked.bars_labelled]
        if asked.toml is not None:
            (folder / "strategies.toml").write_text(asked.toml, encoding="utf-8")
            arguments += ["--strategies", str(folder / "strategies.toml")]
        return arguments

    async def close(self) -> None:
        tasks = [job.task for jobs in self._jobs.values() for job in jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _output(command: list[str]) -> tuple[bytes, bytes, int]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), LONGEST_S)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return output, errors, process.returncode or 0
