"""`squareoff up`: trade, until told to stop."""

from __future__ import annotations

import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from squareoff.apps.link_command import check_console, opening
from squareoff.config import Config

if TYPE_CHECKING:
    from squareoff.apps.up.supervisor import ConsoleSettings, Supervisor
    from squareoff.core.run import Run

DEFAULT_SEED = 1

HELP = """Run what trades, until it is stopped (Ctrl-C, or SIGTERM).

It starts a trading worker for each account, the paper broker and a Redis server of its own, starts again what dies,
and says so. A second one on the same data folder is refused.

\b
Markets:
  practice     generated prices, open now, at any hour of any day
  file:PATH    recorded prices (a CSV file or a folder of them), on the days they were recorded

\b
Examples:
  squareoff up --market practice
  squareoff up --market practice --speed 60 --mischief
  squareoff up --market file:nifty.csv --speed 300

\b
SIGTERM ends it in order and sells nothing. Ctrl-C with a position asks first.
"""


def register(app: typer.Typer) -> None:
    @app.command("up", help=HELP, short_help="Run what trades, until it is stopped.")
    def up_command(
        context: typer.Context,
        market: Annotated[
            str | None, typer.Option(metavar="MARKET", help="practice, or file:PATH.", show_default=False)
        ] = None,
        speed: Annotated[float, typer.Option(metavar="N", help="Trading seconds in a real second.")] = 1.0,
        seed: Annotated[int, typer.Option(metavar="N", help="Of the practice market: same seed, same prices.")] = (
            DEFAULT_SEED
        ),
        mischief: Annotated[
            bool, typer.Option("--mischief", help="A bad day: odd ticks, and a broker that misbehaves.")
        ] = False,
        no_console: Annotated[bool, typer.Option("--no-console", help="Without the web console and its API.")] = False,
        host: Annotated[
            str, typer.Option(metavar="ADDRESS", help="Serve the console to others too; then a password is needed.")
        ] = "127.0.0.1",
        console_port: Annotated[
            int | None, typer.Option(metavar="N", min=1, max=65535, help="[8737]", show_default=False)
        ] = None,
        allow_host: Annotated[
            list[str] | None,
            typer.Option(metavar="NAME[:PORT]", help="A name the console is reached by; may be repeated."),
        ] = None,
        tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Serve the console by https.")] = None,
        tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="The certificate's key.")] = None,
    ) -> None:
        from squareoff.apps.up.supervisor import ConsoleSettings

        console = ConsoleSettings(
            host=host, port=console_port, allow_hosts=tuple(allow_host or ()), tls_cert=tls_cert, tls_key=tls_key
        )
        raise typer.Exit(
            run_up(
                context.obj,
                market,
                speed=speed,
                seed=seed,
                mischief=mischief,
                console=None if no_console else console,
            )
        )


def run_up(
    config: Config,
    market: str | None,
    *,
    speed: float,
    seed: int,
    mischief: bool,
    console: ConsoleSettings | None = None,
) -> int:
    """Returns the exit status. Raises BadInput and AlreadyRunning before anything was started."""
    from squareoff.apps.up.market_place import make_ready, read_market
    from squareoff.apps.up.supervisor import FolderLock, Settings, Supervisor
    from squareoff.core.bad_input import BadInput
    from squareoff.errors import AlreadyRunning

    wanted = read_market(market, speed=speed, seed=seed)
    config.make_data_folder()
    if console is not None:
        check_console(config, console)
    try:
        lock = FolderLock(config)
    except AlreadyRunning as error:
        raise BadInput("data", str(error)) from error
    log = _Log(config)
    supervisor: Supervisor | None = None
    try:
        from squareoff import wiring

        wiring.open_strategy_store(config).close()
        with _Signals() as signals:
            supervisor = Supervisor(
                Settings(
                    config=config,
                    market=make_ready(config, wanted, mischief=mischief),
                    oddities=mischief,
                    console=console,
                ),
                log.say,
            )
            supervisor.start()
            _tell_where(supervisor, log)
            _watch(supervisor, signals, log)
    finally:
        if supervisor is not None:
            _tell_unwatched(config, log)
            supervisor.stop()
            _remember_the_time(config)
        lock.release()
        log.say("squareoff has ended")
        log.close()
    return 0


class _Log:
    """What the supervisor says goes to the terminal and into its log, with the real time."""

    def __init__(self, config: Config) -> None:
        config.logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = (config.logs / "up.log").open("a", encoding="utf-8")

    def say(self, text: str) -> None:
        self._file.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")
        self._file.flush()
        self.show(text)

    def show(self, text: str) -> None:
        """At the terminal alone: what opens a door is not for a log."""
        try:
            sys.stdout.write(f"{datetime.now().astimezone():%H:%M:%S} {text}\n")
            sys.stdout.flush()
        except OSError:
            pass  # a terminal that is gone ends nothing

    def close(self) -> None:
        self._file.close()


class _Signals:
    """What was asked for by a signal, as a level; the handlers of before come back at the end."""

    def __init__(self) -> None:
        self.terminate = self.interrupts = 0

    def __enter__(self) -> _Signals:
        def term(_: int, __: FrameType | None) -> None:
            self.terminate += 1

        def interrupt(_: int, __: FrameType | None) -> None:
            self.interrupts += 1

        self._before = {
            number: signal.signal(number, handler)
            for number, handler in ((signal.SIGTERM, term), (signal.SIGHUP, term), (signal.SIGINT, interrupt))
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _watch(supervisor: Supervisor, signals: _Signals, log: _Log) -> None:
    """Until it is told to stop, and, at a terminal, until it is clear what becomes of a position."""
    from squareoff.apps.up.supervisor import LOOK_EVERY_S

    answered = 0
    question: _Question | None = None
    console = supervisor.console
    while not signals.terminate:
        supervisor.look()
        if console is not None and console.is_ready:
            _tell_link(supervisor, log)
            console = None
        if signals.interrupts > answered:
            answered = signals.interrupts
            held = _holding(supervisor.settings.config, log)
            if not sys.stdin.isatty() or not held:
                return
            question = _Question(held, log.say)
        if question is not None and (answer := question.answer()) is not None:
            question = None
            if answer == "quit":
                return
            if answer == "square off":
                _square_off(supervisor, signals, log.say)
                return
            log.say("it goes on")
        time.sleep(LOOK_EVERY_S)


class _Question:
    """What to do with a position when somebody presses Ctrl-C. Watching goes on while nobody answers."""

    def __init__(self, held: Sequence[Run], say: Callable[[str], None]) -> None:
        self._say = say
        for run in held:
            say(describe(run))
        say("their stop-losses are watched only while squareoff runs. What shall it do?")
        self._ask()

    def _ask(self) -> None:
        sys.stdout.write("  [s] square off and quit   [q] quit and leave it   [k] keep running > ")
        sys.stdout.flush()

    def answer(self) -> str | None:
        """None: nobody answered yet."""
        if not select.select([sys.stdin], [], [], 0)[0]:
            return None
        text = sys.stdin.readline()
        word = text.strip().lower()
        if not text or word in ("k", "keep"):  # nobody is there any more: keep guarding
            return "keep"
        if word in ("s", "square", "square off"):
            return "square off"
        if word in ("q", "quit"):
            return "quit"
        self._ask()
        return None


def _square_off(supervisor: Supervisor, signals: _Signals, say: Callable[[str], None]) -> None:
    """Ask every run to stop, which squares off first, and wait until the fills prove it."""
    from squareoff import wiring
    from squareoff.apps.up.supervisor import LOOK_EVERY_S
    from squareoff.core.events import Event

    config = supervisor.settings.config
    store = wiring.open_strategy_store(config)
    try:
        for run in store.every_open_run():
            if not run.is_closed:
                store.of(run.plan.user).wish(run.plan.strategy_id, Event.STOP, at=wiring.now(config), by="Ctrl-C")
    finally:
        store.close()
    for account in supervisor.workers:
        wiring.ring_bell(supervisor.redis_url, account)
    say("squaring off; press Ctrl-C again to quit without waiting")
    asked = signals.interrupts
    while (held := holding(config)) and not signals.terminate and signals.interrupts == asked:
        supervisor.look()
        time.sleep(LOOK_EVERY_S)
    say("flat: the fills prove it" if not held else "still held: " + "; ".join(describe(run) for run in held))


def holding(config: Config) -> list[Run]:
    """Runs of every user that hold something, or may."""
    from squareoff import wiring
    from squareoff.core.types import Exposure

    store = wiring.open_strategy_store(config)
    try:
        return [run for run in store.every_open_run() if run.exposure in (Exposure.LONG, Exposure.UNKNOWN)]
    finally:
        store.close()


def _holding(config: Config, log: _Log) -> list[Run]:
    """As `holding`; a database that does not answer must not keep `up` from ending its processes."""
    from squareoff.errors import RecordsUnavailable

    try:
        return holding(config)
    except RecordsUnavailable as error:
        log.say(f"what is held is not known here ({error}): look at your broker")
        return []


def describe(run: Run) -> str:
    from squareoff.apps.formats import money, quantity
    from squareoff.core.definition import DEFAULT_ACCOUNT
    from squareoff.core.machine import EXPOSURE_LABEL

    stop = f", stop-loss {money(run.stop_price)}" if run.stop_price is not None else ""
    of = "" if run.plan.account == DEFAULT_ACCOUNT else f" (account {run.plan.account})"
    held = f"{EXPOSURE_LABEL[run.exposure]} {quantity(run.remaining_qty)} {run.plan.symbol}"
    return f"{run.plan.name}{of}: {held}{stop}"


def _tell_where(supervisor: Supervisor, log: _Log) -> None:
    settings = supervisor.settings
    log.say(f"squareoff is up: market {settings.market}, speed {settings.market.speed:g}, PAPER money")
    for what, where in (
        ("data folder", settings.config.data),
        ("logs", settings.config.logs),
        ("paper broker", supervisor.broker_url),
        ("accounts", ", ".join(supervisor.workers)),
        ("Redis", supervisor.redis_url.partition("@")[2] or supervisor.redis_url),
    ):
        log.say(f"  {what:<13}{where}")
    log.say("  see `squareoff status`; Ctrl-C ends it")


def _tell_link(supervisor: Supervisor, log: _Log) -> None:
    """As soon as it can be opened."""
    from squareoff.errors import RecordsUnavailable

    try:
        log.show(f"  {'console':<13}{opening(supervisor.settings.config, supervisor.console_url)}")
    except RecordsUnavailable as error:
        log.say(f"  {'console':<13}{supervisor.console_url}, `squareoff link` prints a link: {error}")


def _tell_unwatched(config: Config, log: _Log) -> None:
    """Nothing is sold by ending; what is held now has no one who watches it."""
    for run in _holding(config, log):
        log.say(f"NOT WATCHED ANY MORE: {describe(run)}. Start again with `squareoff up`, or close it at your broker")


def _remember_the_time(config: Config) -> None:
    from dataclasses import replace

    from squareoff import wiring
    from squareoff.market import load_market, save_market

    market = load_market(config.run_folder)
    if market is not None:
        save_market(config.run_folder, replace(market, ended_at=wiring.now(config)))
