"""What the command line can find out about a strategy's chances: the facts that `core.preflight` judges.

Nothing here raises for what it finds: what cannot be asked is unknown, and says why.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.definition import DEFAULT_ACCOUNT, next_session_for
from squareoff.core.instruments import Instrument, UnknownSymbol
from squareoff.core.preflight import Answer, CheckName, Facts
from squareoff.core.session import Session
from squareoff.core.strategy import Strategy, Timing
from squareoff.core.types import Tick

if TYPE_CHECKING:
    from squareoff.wiring import ReferenceData

NOT_RUNNING = "squareoff is not running"
BROKER_TIMEOUT_S = 1.0
_REACH_NOBODY_AWAY = frozenset({"terminal", "log", "heartbeat"})
"""Tables of alerts.toml that bring an alarm to nobody who is not at this machine."""
_UNREADABLE = (OSError, UnicodeDecodeError)
_NO_ANSWER = (OSError, http.client.HTTPException)


@dataclass(frozen=True, kw_only=True, slots=True)
class Broker:
    """What the paper broker said. `now`: its trading time, which no step of the wall clock since its start moved."""

    token: Answer
    """Of the account that every installation has."""
    now: datetime | None = None
    by_account: Mapping[str, Purse] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Purse:
    """What the broker said to one account. `free` None: it does not count money, or did not say."""

    token: Answer
    free: Decimal | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The facts that are the same for every strategy: gathered once, used for all."""

    sql: Answer
    redis: Answer
    redis_url: str | None
    """None: the Redis that comes with squareoff, and it is not running."""
    broker: Broker
    free_disk_bytes: int | None
    alert_channels: int | None
    reference: ReferenceData | None
    why: Mapping[str, str] = field(default_factory=dict)
    """Why `alert_channels` or `reference` is None."""


def gather(config: Config, strategy: Strategy | None, *, now: datetime, machine: Machine | None = None) -> Facts:
    """Everything known about `strategy` at `now` (UTC, trading time); None: about the machine alone.

    `machine` as `look_around` gave it, to ask only once for many strategies."""
    here = machine or look_around(config)
    session, instrument = (None, None) if strategy is None else _market(here, strategy, now)
    tick = None if strategy is None else _last_tick(here, strategy)
    account = DEFAULT_ACCOUNT if strategy is None else strategy.account
    purse = here.broker.by_account.get(account) or Purse(token=_never_asked(here, account))
    token = purse.token
    return Facts(
        now=now,
        session=session,
        instrument=instrument,
        token=token,
        funds=purse.free,
        last_price=tick,
        clock_difference_s=None if here.broker.now is None else (now - here.broker.now).total_seconds() / _speed(here),
        feed_silent_s=None if tick is None else max(0.0, (now - tick.at).total_seconds()),
        alert_channels=here.alert_channels,
        free_disk_bytes=here.free_disk_bytes,
        redis=here.redis,
        sql=here.sql,
        timing=_timing(here),
        why_unknown=_why_unknown(here, tick),
    )


def _never_asked(here: Machine, account: str) -> Answer:
    if account == DEFAULT_ACCOUNT or here.broker.token.ok is None:
        return here.broker.token
    return Answer(ok=False, text=f"the paper broker has no account {account}")


def _speed(here: Machine) -> float:
    """Trading seconds in a real one: two processes that ask a moment apart differ by that much trading time."""
    market = None if here.reference is None else here.reference.market
    return 1.0 if market is None else market.speed


def look_around(config: Config) -> Machine:
    """Ask everything that does not depend on a strategy."""
    from squareoff import wiring

    running = read_up(config.run_folder)
    redis_url = _text(running, "redis_url") or config.redis_url
    why: dict[str, str] = {}
    reference: ReferenceData | None = None
    try:
        reference = wiring.reference_data(config)
    except (BadInput, ValueError) as error:
        why["reference"] = str(error)
    channels, wrong = count_alert_channels(config.alerts_file)
    if wrong:
        why["alert_channels"] = wrong
    return Machine(
        sql=_sql(config),
        redis=_redis(redis_url),
        redis_url=redis_url,
        broker=_ask_broker(running, _tokens(config)),
        free_disk_bytes=free_bytes(config.data),
        alert_channels=channels,
        reference=reference,
        why=why,
    )


def _timing(here: Machine) -> Timing:
    """On a paper market whose time runs faster, or which has a price a minute, silence lasts longer."""
    market = None if here.reference is None else here.reference.market
    return Timing() if market is None else market.timing


def _why_unknown(here: Machine, tick: Tick | None) -> dict[CheckName, str]:
    is_running = here.broker.token.ok is not None
    why = {CheckName.FUNDS: "the paper broker did not say what is free" if is_running else NOT_RUNNING}
    if here.broker.now is None:
        why[CheckName.CLOCK] = "the paper broker does not tell its time" if is_running else NOT_RUNNING
    if here.alert_channels is None:
        why[CheckName.ALERT_CHANNEL] = here.why.get("alert_channels", "")
    if here.reference is None:
        why[CheckName.CALENDAR] = "not judged while the list of instruments cannot be read"
    if tick is None and here.redis_url is None:
        why[CheckName.FEED] = NOT_RUNNING
    return why


# ------------------------------------------------------------------ each thing that is asked


def _market(here: Machine, strategy: Strategy, now: datetime) -> tuple[Session | str | None, Instrument | str]:
    if here.reference is None:
        return None, here.why["reference"]
    instrument: Instrument | str
    try:
        instrument = here.reference.instruments.find(strategy.symbol)
    except UnknownSymbol as error:
        instrument = str(error)
    try:
        return next_session_for(strategy, here.reference.calendar(strategy.symbol.partition(":")[0]), now), instrument
    except (BadInput, LookupError, ValueError) as error:  # no such exchange or year; a file that is wrong
        return str(error), instrument


def _sql(config: Config) -> Answer:
    from squareoff import wiring

    try:
        if not config.has_database:
            return Answer(text="no database yet: the first strategy makes it")
        found = wiring.database_look(config.database)
    except BadInput as error:
        return Answer(ok=False, text=str(error))
    if found.wrong is not None:
        return Answer(ok=False, text=f"the database {found.name} {found.wrong}")
    return Answer(ok=True, text=f"{found.right}, version {found.version}")


def _redis(redis_url: str | None) -> Answer:
    from squareoff import wiring

    if redis_url is None:
        return Answer(text="comes with squareoff, starts with `up`")
    problem = wiring.redis_problem(redis_url)
    return Answer(ok=True, text="answers") if problem is None else Answer(ok=False, text=problem)


def _last_tick(here: Machine, strategy: Strategy) -> Tick | None:
    from squareoff import wiring

    if here.redis_url is None or here.redis.ok is False:
        return None
    return wiring.last_tick(here.redis_url, strategy.account, strategy.symbol)


def _tokens(config: Config) -> Mapping[str, str]:
    """By account; as `up` hands them to its workers."""
    from squareoff import wiring

    try:
        known = wiring.paper_accounts(config)
    except BadInput:
        known = {}
    return {DEFAULT_ACCOUNT: DEFAULT_ACCOUNT, **{account: each.token for account, each in known.items()}}


def _ask_broker(running: Mapping[str, Any], tokens: Mapping[str, str]) -> Broker:
    url = _text(running, "broker_url")
    if url is None or not url.startswith("http://"):
        return Broker(token=Answer(text=NOT_RUNNING))
    try:
        health = json.loads(_get(f"{url}/health"))
        told = datetime.fromisoformat(health["now"])
    except (*_NO_ANSWER, ValueError, KeyError, TypeError):
        return Broker(token=Answer(text="the paper broker does not answer"))
    if told_token := _text(running, "token"):
        tokens = {**tokens, DEFAULT_ACCOUNT: told_token}
    purses = {account: _purse(url, token) for account, token in tokens.items()}
    return Broker(token=purses[DEFAULT_ACCOUNT].token, now=None if told.tzinfo is None else told, by_account=purses)


def _purse(url: str, token: str) -> Purse:
    """The broker's word on the access token and on the account's money: it tells that only to one it knows."""
    try:
        free = json.loads(_get(f"{url}/funds", token=token)).get("free")
        return Purse(
            token=Answer(ok=True, text="the broker takes the access token"),
            free=None if free is None else Decimal(free),
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            return Purse(token=Answer(ok=False, text="the broker refuses the access token"))
        return Purse(token=Answer(text=f"the broker answered {error.code}"))
    except (*_NO_ANSWER, ValueError, ArithmeticError, AttributeError, TypeError):
        return Purse(token=Answer(text="the paper broker does not answer"))


def _get(url: str, *, token: str | None = None) -> bytes:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know our 127.0.0.1
    with direct.open(urllib.request.Request(url, headers=headers), timeout=BROKER_TIMEOUT_S) as response:
        content: bytes = response.read()
    return content


def free_bytes(folder: Path) -> int | None:
    """On the disk of `folder`, which need not exist yet; None: not known."""
    for place in (folder, *folder.parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def count_alert_channels(file: Path) -> tuple[int | None, str]:
    """How many channels the file sets up; no file is none. None with the reason: it cannot be read."""
    try:
        top = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return 0, ""
    except OSError as error:
        return None, f"{file} cannot be read: {error.strerror or 'unknown'}"
    except (ValueError, RecursionError):  # its own words may repeat a secret that stands there
        return None, f"{file} is not valid TOML"
    return sum(_tables(value) for name, value in top.items() if name not in _REACH_NOBODY_AWAY), ""


def _tables(value: object) -> int:
    if isinstance(value, dict):
        return 1
    return sum(isinstance(item, dict) for item in value) if isinstance(value, list) else 0


# ------------------------------------------------------------------ who runs


def read_up(folder: Path) -> Mapping[str, Any]:
    """What `squareoff up` says of itself (`broker_url`, `redis_url`); empty while it does not run."""
    if (folder / "up.lock").exists() and holder(folder / "up.lock") is None:
        return {}  # left behind by one that was killed
    try:
        told = json.loads((folder / "up.json").read_text(encoding="utf-8"))
    except (*_UNREADABLE, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _text(told: Mapping[str, Any], key: str) -> str | None:
    value = told.get(key)
    return value if isinstance(value, str) and value else None


def lock_files(data: Path) -> list[Path]:
    """Every file that a running squareoff holds locked in its data folder, of those that are there: `up`, the
    engines of the accounts, the paper broker, Redis."""
    found = [data / "run" / "up.lock", data / "broker" / "ledger.jsonl", data / "redis" / "owner.lock"]
    return [path for path in (*found, *sorted((data / "accounts").glob("*.lock"))) if path.is_file()]


def holder(path: Path) -> str | None:
    """Who holds the lock file `path`, such as "process 4711"; None: nobody, or there is no such file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        pid = written_pid(fd)
        if pid is not None and not _is_alive(pid):
            return None  # without trying the lock: one that starts just now must not find it taken by us
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return "another process" if pid is None else f"process {pid}"
    finally:
        os.close(fd)
    return None


def written_pid(fd: int) -> int | None:
    """The process id that a lock's holder writes into its file."""
    text = os.pread(fd, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
