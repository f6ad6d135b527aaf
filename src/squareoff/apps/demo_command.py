"""`squareoff demo`: one generated day in about 20 seconds, with real processes and real trouble."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squareoff.core.bad_input import BadInput

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

    from squareoff.apps.demo.script import Act
    from squareoff.apps.demo.stage import Stage
    from squareoff.apps.demo.web import DemoConsole
    from squareoff.core.run import Run

FRAME_S = 0.1
WIDTH_IN_A_FILE = 160
SLOWER_ALONE = 2.0
"""How much slower `--only` shows its run."""
SLOWER_IN_A_BROWSER = 3.0

HELP = """One day with real trouble, in about 20 seconds.

One generated trading day of several strategies, drawn live.

Real processes: the engine, a real Redis server, SQLite, and a paper broker with its own durable ledger. Things go wrong
on purpose: a time-out, refusals, the engine killed with -9, Redis flushed. At the end the broker's own ledger is
counted: the exit status is 0 only if nothing was bought or sold twice and nothing was left behind.

\b
    squareoff demo                     the whole day
    squareoff demo --only killed       one run, slowly, with the explanation
    squareoff demo --web               in the browser, where it stays until Ctrl-C
    squareoff --demo why killed        afterwards: the story of a run
"""


def register(app: typer.Typer) -> None:
    @app.command("demo", help=HELP)
    def demo_command(
        context: typer.Context,
        only: Annotated[str | None, typer.Option(metavar="NAME", help="show one run, slowly, and explain it")] = None,
        web: Annotated[
            bool, typer.Option("--web", help="watch it in the browser, three times slower, until Ctrl-C")
        ] = False,
    ) -> None:
        from squareoff.config import Config

        config = context.obj
        if not isinstance(config, Config):
            raise RuntimeError("the command line sets the configuration")
        folder = config.data if config.data.name == "demo" else config.data / "demo"
        raise typer.Exit(run_demo(folder, only=only, web=web))


def run_demo(folder: Path, *, only: str | None = None, web: bool = False) -> int:
    """Play the day in `folder`, which is emptied first if a demo made it. Returns the exit status."""
    from rich.console import Console

    from squareoff.apps.demo.script import ACTS, BY_NAME
    from squareoff.apps.demo.stage import Stage

    if only is not None and only not in BY_NAME:
        raise BadInput("--only", f"{only!r} is not a run of the demo", f"one of {', '.join(BY_NAME)}")
    acts = ACTS if only is None else (BY_NAME[only],)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_A_FILE)
    if only is not None:
        console.print(f"[bold]{only}[/bold]: {acts[0].caption}\n{acts[0].explanation}\n")
    with console.status("starting Redis, the paper broker and the engine"):
        slower = SLOWER_IN_A_BROWSER if web else 1.0 if only is None else SLOWER_ALONE
        stage = Stage.set_up(folder, acts, slower=slower)
    page = None
    try:
        play = _Play(stage, console)
        if web:
            page = play.page = _open_console(stage, console)
        play.run()
        if page is not None:
            _stay(console)
    finally:
        if page is not None:
            page.close()
        stage.tear_down()
    return _finish(stage, console, play.runs, only)


def _open_console(stage: Stage, console: Console) -> DemoConsole:
    from squareoff.apps.demo.web import OPENED_WITHIN_S, DemoConsole

    page = DemoConsole(stage)
    try:
        console.print(f"Open it; the day begins then, or in {OPENED_WITHIN_S:g} s:\n{page.link()}", soft_wrap=True)
        page.wait_until_opened()
    except BaseException:
        page.close()
        raise
    return page


def _stay(console: Console) -> None:
    """Until somebody has seen enough."""
    ended: list[int] = []
    before = {number: signal.signal(number, lambda n, _: ended.append(n)) for number in (signal.SIGINT, signal.SIGTERM)}
    console.print("The day is over; the page stays until you press Ctrl-C.")
    while not ended:
        time.sleep(FRAME_S)
    for number, handler in before.items():
        signal.signal(number, handler)


class _Play:
    """Watches the day, does the mischief that has to be done by hand, and draws."""

    def __init__(self, stage: Stage, console: Console) -> None:
        self.stage, self.console = stage, console
        self.runs: dict[str, Run] = {}
        self.lines: list[Text] = []
        self.note = ""
        self.page: DemoConsole | None = None
        self._seen_seq = 0
        self._to_do: list[Callable[[], bool]] = [step for act in stage.acts for step in self._steps(act)]

    def run(self) -> None:
        from rich.live import Live

        clock = self.stage.clock
        clock.start()
        if self.page is not None:
            self.page.tell_clock()
        if not self.console.is_terminal:
            while clock.real_s() < clock.length_s:
                self._look()
                time.sleep(FRAME_S)
            self._look()
            return
        with Live(console=self.console, refresh_per_second=1 / FRAME_S, transient=False) as live:
            while clock.real_s() < clock.length_s:
                began_s = time.monotonic()
                self._look()
                live.update(self._view())
                time.sleep(max(0.0, FRAME_S - (time.monotonic() - began_s)))
            self._look()
            live.update(self._view())

    def _view(self) -> Group:
        from squareoff.apps.demo.screen import day_view

        return day_view(
            now=self.stage.clock.now(),
            acts=self.stage.acts,
            runs=self.runs,
            prices=self.stage.last_prices(),
            lines=self.lines,
            note=self.note,
        )

    def _look(self) -> None:
        from squareoff.apps.demo.screen import is_told, line

        self._to_do = [step for step in self._to_do if not step()]
        self.stage.is_worker_ready()
        self.runs = {run.plan.name: run for run in self.stage.store.runs()}
        names = {int(run.plan.run_id): name for name, run in self.runs.items()}
        for seq, entry in self.stage.store.journal(after_seq=self._seen_seq):
            self._seen_seq = seq
            if is_told(entry):
                self._tell(line(entry, names))

    def _tell(self, text: Text) -> None:
        self.lines.append(text)
        if not self.console.is_terminal:
            self.console.print(text)

    # ------------------------------------------------------------------ by hand

    def _steps(self, act: Act) -> list[Callable[[], bool]]:
        """What must be done for an act at its time. Each is asked every frame until it says True."""
        from squareoff.apps.demo.script import at

        stage, steps = self.stage, list[Callable[[], bool]]()

        def flush() -> bool:
            if act.flush_redis_at is None or stage.clock.now() < at(act.flush_redis_at):
                return False
            stage.flush_redis()
            self._say(act, "FLUSHALL: everything in Redis is gone")
            return True

        def stop() -> bool:
            if act.stop_at is None or stage.clock.now() < at(act.stop_at):
                return False
            stage.stop_strategy(act.name)
            self._say(act, "you press stop")
            return True

        seen: list[bool] = []

        def kill() -> bool:
            if stage.clock.now() < at(act.buy) or not stage.has_order(act.symbol):
                return False
            if not seen:  # one frame later: then the journal of what led here is on the disk
                seen.append(True)
                return False
            stage.kill_worker()
            self._say(act, "kill -9: the engine is dead, its BUY is at the broker, the answer never came")
            stage.start_worker()
            if self.page is not None:
                self.page.tell()
            self._say(act, "the engine is started again")
            return True

        if act.flush_redis_at is not None:
            steps.append(flush)
        if act.stop_at is not None:
            steps.append(stop)
        if act.kill_engine_at_buy:
            steps.append(kill)
        return steps

    def _say(self, act: Act, what: str) -> None:
        from rich.text import Text

        from squareoff.apps.demo.script import ZONE

        when = f"{self.stage.clock.now().astimezone(ZONE):%H:%M:%S}  "
        self._tell(Text.assemble((when, "dim"), (f"{act.name:<14}", "bold"), (f">>> {what}", "bold red")))


def _finish(stage: Stage, console: Console, runs: dict[str, Run], only: str | None) -> int:
    from squareoff.apps.demo.screen import ledger_table, verdict

    audit = stage.audit()
    kept, lines = verdict(audit, runs, stage.acts, stage.kills)
    console.print()
    console.print(ledger_table(audit, runs))
    style = "bold green" if kept else "bold red"
    for text in lines:
        console.print(text, style=style, highlight=False)
    shown = only or "killed"
    us = our_name()
    console.print(f"\nLook at it: {us} --demo list | {us} --demo why {shown}", style="dim", highlight=False)
    return 0 if kept else 1


def our_name() -> str:
    """How a person at this terminal calls squareoff: by its name if that finds us, else by its place."""
    here = Path(sys.executable).with_name("squareoff")
    found = shutil.which("squareoff")
    if found is not None and here.exists() and Path(found).samefile(here):
        return "squareoff"
    return os.path.relpath(here) if here.exists() else f"{sys.executable} -m squareoff"
