"""The only place that picks adapters: which clock, which broker, which stores a process works with.

`worker` puts the engine of an account together, `replay` the engine on virtual time, `alerts` the channels. Here is
what commands and supervisors ask for. Imports are inside the functions, so that `squareoff --help` does not wait for
libraries it does not need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zoneinfo import ZoneInfo

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.core.types import AccountId, Position, Symbol, Tick, UserId
from squareoff.market import ALL_DAY, CLOCK_NAME, Market, load_market
from squareoff.ports import Brake, Clock

if TYPE_CHECKING:
    from redis import Redis
    from sqlalchemy.engine import Connection

    from squareoff.adapters.brokers.paper.accounts import PaperAccount
    from squareoff.adapters.brokers.paper.ledger import LedgerAudit
    from squareoff.adapters.clock import PacedClock
    from squareoff.adapters.redis.server import RedisServer
    from squareoff.adapters.sql.access import AccessStore
    from squareoff.adapters.sql.backup import DatabaseLook
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.secrets import SecretStore
    from squareoff.adapters.sql.strategies import StrategyStore
    from squareoff.core.instruments import Instruments
    from squareoff.core.session import Calendar, ExchangeHours
    from squareoff.core.strategy import Strategy

# ------------------------------------------------------------------ processes


def embedded_redis(folder: Path, *, binary: Path | None = None) -> RedisServer:
    """The Redis server that comes with squareoff, or another program that speaks its language; not started yet."""
    from squareoff.adapters.redis.server import RedisServer

    return RedisServer(folder, binary=binary)


def paced_clock(points: Sequence[tuple[float, datetime]], file: Path) -> PacedClock:
    """A clock on a timetable that other processes read from `file`, not started yet."""
    from squareoff.adapters.clock import PacedClock

    return PacedClock.prepare(points, file)


def paper_audit(folder: Path) -> LedgerAudit:
    """What the paper broker's own book in `folder` proves, and nothing else."""
    from squareoff.adapters.brokers.paper.ledger import audit, read_ledger

    return audit(read_ledger(folder / "ledger.jsonl").lines)


def last_prices(redis_url: str, account: AccountId) -> dict[Symbol, Decimal]:
    """As Redis has them; empty while it is not there or being rebuilt."""
    with redis_client(redis_url) as client:
        return {symbol: tick.price for symbol, tick in last_ticks(client, account).items()}


def last_ticks(client: Redis, account: AccountId) -> dict[Symbol, Tick]:
    """The last price of every symbol of the account with its instant, as Redis has them; empty while it is not there
    or being rebuilt."""
    from redis.exceptions import RedisError

    from squareoff.adapters.redis.keys import prices_key

    try:
        raw: Any = client.hgetall(prices_key(account))
    except (RedisError, OSError, ValueError):
        return {}
    return dict(_tick(Symbol(symbol.decode()), text) for symbol, text in raw.items())


def _tick(symbol: Symbol, text: bytes) -> tuple[Symbol, Tick]:
    price, at = text.decode().split()
    return symbol, Tick(symbol, Decimal(price), datetime.fromisoformat(at))


async def paper_positions(url: str, token: str, *, timeout_s: float = 1.0) -> Sequence[Position]:
    """What the paper broker says an account holds; symbols that are flat are left out. Raises BrokerUnavailable."""
    from squareoff.adapters.brokers.paper.client import FACTS, PaperBroker

    broker = PaperBroker(url, token=token, facts=replace(FACTS, request_timeout_s=timeout_s))
    try:
        return [each for each in await broker.positions() if each.net_qty]
    finally:
        await broker.close()


def redis_client(redis_url: str) -> Redis:
    """For those who look, or break things on purpose. It never sends a command twice."""
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0), socket_timeout=1.0)


# ------------------------------------------------------------------ the command line


def open_strategy_store(config: Config, *, user: UserId | None = None) -> StrategyStore:
    """What `user` asks of the records; None: the local one, to whom the command line belongs. The data folder, the
    database in it and the local user's paper account are made if they are not there.

    Raises:
        BadInput: the folder cannot be used, or the database is not ours or of a newer squareoff.
        RecordsUnavailable: the database cannot be read or written now.
    """
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import LOCAL, StrategyStore
    from squareoff.core.definition import DEFAULT_ACCOUNT

    config.make_data_folder()
    store = StrategyStore(Database.open(config.database), LOCAL if user is None else user)
    if store.user == LOCAL and DEFAULT_ACCOUNT not in store.accounts():
        store.add_account(DEFAULT_ACCOUNT, broker="paper")
    return store


def open_database(config: Config) -> Database:
    """For a process that serves several users for a long time; each has a `user_store` of it. Raises as
    `open_strategy_store`, which makes what is not there yet."""
    from squareoff.adapters.sql.database import Database

    open_strategy_store(config).close()
    return Database.open(config.database)


def user_store(database: Database, user: UserId) -> StrategyStore:
    """Everything of `user`, and nothing of another."""
    from squareoff.adapters.sql.strategies import StrategyStore

    return StrategyStore(database, user)


def paper_accounts(config: Config) -> Mapping[AccountId, PaperAccount]:
    """As the paper broker has them: token and starting cash. Raises BadInput: its file cannot be read."""
    from squareoff.adapters.brokers.paper.accounts import FILE_NAME, read_accounts

    return read_accounts(config.broker / FILE_NAME)


def ensure_paper_account(config: Config, account: AccountId, *, cash: Decimal | None = None) -> PaperAccount:
    """Known to the paper broker from now on, also to one that runs. `cash` None: what is usual. Raises BadInput."""
    from squareoff.adapters.brokers.paper.accounts import DEFAULT_CASH, FILE_NAME, ensure_account

    return ensure_account(config.broker / FILE_NAME, account, cash=DEFAULT_CASH if cash is None else cash)


def usual_paper_cash() -> Decimal:
    """What a paper account begins with where nobody said otherwise."""
    from squareoff.adapters.brokers.paper.accounts import DEFAULT_CASH

    return DEFAULT_CASH


def paper_accounts_file(config: Config) -> Path:
    from squareoff.adapters.brokers.paper.accounts import FILE_NAME

    return config.broker / FILE_NAME


def access_store(config: Config) -> AccessStore:
    """Who may use this installation. The data folder and the database in it are made if they are not there. Raises as
    `open_strategy_store`."""
    from squareoff.adapters.dice import secret
    from squareoff.adapters.sql.access import AccessStore
    from squareoff.adapters.sql.database import Database

    config.make_data_folder()
    return AccessStore(Database.open(config.database), now_real, secret)


def secret_store(config: Config) -> SecretStore:
    """Secrets at rest, with the key in the data folder, or in the file that $SQUAREOFF_SECRETS_KEY_FILE names. Raises
    as `open_strategy_store`."""
    from squareoff.adapters.secrets import KeyFile
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.secrets import SecretStore

    config.make_data_folder()
    named = config.secrets_key_file
    keys = KeyFile(config.data / "secrets.key") if named is None else KeyFile(named, is_ours=False)
    return SecretStore(Database.open(config.database), keys, now_real)


def save_strategies(
    config: Config, strategies: Sequence[Strategy], *, user: UserId | None = None
) -> tuple[Strategy, ...]:
    """Save new strategies in one transaction: all of them, or none. Raises as `open_strategy_store`, and BadInput
    for a name that is taken or an account there is not. `user` None: the one of an installation that has only one."""
    from squareoff.adapters.sql.database import Database
    from squareoff.adapters.sql.strategies import LOCAL, StrategyStore

    with Database.open(config.database).write() as connection:
        store = StrategyStore(cast("Database", _OneTransaction(connection)), user or LOCAL)
        return tuple(store.add(strategy) for strategy in strategies)


class _OneTransaction:
    """A database whose every read and write goes into the transaction that is open already."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        yield self._connection

    read = write


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceData:
    """What can be traded, and when: the shipped facts under the trader's own in `folder`."""

    folder: Path
    instruments: Instruments
    hours: Mapping[str, ExchangeHours]
    """By exchange."""
    market: Market | None = None
    """None: the real one, with its calendars."""

    def calendar(self, exchange: str) -> Calendar:
        """Raises BadInput or CalendarFileError."""
        from squareoff.adapters.reference_data import UnknownExchange, load_calendar
        from squareoff.core.session import Calendar

        if self.market is not None and (hours := self.hours.get(exchange)) is not None:
            days = self.market.days
            return Calendar.from_days(hours, days) if days else Calendar.always_open(hours)
        with _readable(self.folder / "calendars"):
            try:
                return load_calendar(exchange, self.folder)
            except UnknownExchange as error:
                raise BadInput("exchange", str(error)) from error


def reference_data(config: Config) -> ReferenceData:
    """Raises InstrumentFileError, or BadInput if a file of the trader cannot be read."""
    from squareoff.adapters.reference_data import load_exchange_hours, load_instruments

    with _readable(config.reference / "instruments.csv"):
        instruments = load_instruments(config.reference)
    hours, market = load_exchange_hours(), load_market(config.run_folder)
    if market is not None and not market.days:  # practice trades at every hour, and no broker squares off in it
        hours = {
            name: replace(each, regular=ALL_DAY, square_off={}, closing_auction=None, always_open=True)
            for name, each in hours.items()
        }
    if market is not None and market.days:  # recorded prices: on paper also an index can be bought
        instruments = instruments.all_tradable()
    return ReferenceData(folder=config.reference, instruments=instruments, hours=hours, market=market)


def trading_clock(config: Config) -> Clock:
    """The clock that the processes of `squareoff up` go by in this folder; the real one if it never ran there."""
    from squareoff.adapters.clock import PacedClock, SystemClock

    market = load_market(config.run_folder)
    if market is None or market.boot != this_boot():
        return SystemClock()
    return PacedClock(config.run_folder / CLOCK_NAME)


def this_boot() -> str:
    from squareoff.adapters.lease import boot_id

    return boot_id()


def zone_of(symbol: str) -> ZoneInfo:
    """The zone of a symbol's exchange; UTC for an exchange we no longer know."""
    from squareoff.adapters.reference_data import load_exchange_hours

    hours = load_exchange_hours().get(symbol.partition(":")[0])
    return ZoneInfo("UTC") if hours is None else hours.zone


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput("reference", f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise BadInput("reference", f"{path} is not UTF-8 text", "save it as UTF-8") from error


def now(config: Config) -> datetime:
    """Trading time of this folder, for those who only look."""
    return trading_clock(config).now()


# ------------------------------------------------------------------ looking at the set-up; backups


def database_look(where: Path | str) -> DatabaseLook:
    """Whether the database in the file, or at the address, `where` is ours, whole and can be written; it is not
    changed. Raises BadInput: an address that is none."""
    from squareoff.adapters.sql.backup import look, look_at_server

    return look(where) if isinstance(where, Path) else look_at_server(where)


def database_name(config: Config) -> str:
    """For people: without the password. Raises BadInput."""
    from squareoff.adapters.sql.database import kind_of

    return kind_of(config.database).name


def newest_database_version() -> str:
    """Four digits; of two, the greater text is the newer."""
    from squareoff.adapters.sql.backup import NEWEST_VERSION

    return NEWEST_VERSION


def copy_database(source: Path, target: Path) -> str:
    """Copy the database into the new file `target`, also while others write; returns its version. Raises
    RecordsUnavailable."""
    from squareoff.adapters.sql.backup import copy_database

    return copy_database(source, target).version


def put_copy_to_use(path: Path, *, install_id: str, at: datetime, text: str) -> None:
    """Check a copy and make it the database of an installation of its own. Raises BadInput, RecordsUnavailable."""
    from squareoff.adapters.sql.backup import put_to_use, verify

    verify(path)
    put_to_use(path, install_id=install_id, at=at, text=text)


def redis_problem(redis_url: str) -> str | None:
    """Why squareoff cannot use this Redis; None: it answers and fits. The address, which may hold a password, is not
    in the text."""
    from redis.exceptions import RedisError

    from squareoff.adapters.redis.server import UnsuitableServer, check_server

    try:
        with redis_client(redis_url) as client:
            check_server(client.info())
    except UnsuitableServer as error:
        return str(error)
    except (RedisError, OSError, ValueError) as error:
        return f"Redis does not answer ({type(error).__name__})"
    return None


def embedded_redis_problem(folder: Path) -> str | None:
    """Start the Redis that comes with squareoff in the empty `folder` and stop it again; why that failed."""
    from squareoff.adapters.redis.server import RedisServerError

    try:
        with embedded_redis(folder) as server:
            return redis_problem(server.url)
    except (RedisServerError, OSError) as error:
        return str(error)


def last_tick(redis_url: str, account: AccountId, symbol: Symbol) -> Tick | None:
    """The last price of one symbol with its instant, as Redis has it; None while it is not there."""
    from redis.exceptions import RedisError

    from squareoff.adapters.redis.keys import prices_key

    try:
        with redis_client(redis_url) as client:
            raw: bytes | None = client.hget(prices_key(account), symbol)
    except (RedisError, OSError, ValueError):
        return None
    return None if raw is None else _tick(symbol, raw)[1]


def now_real() -> datetime:
    """The wall clock of this machine, UTC."""
    from squareoff.adapters.clock import SystemClock

    return SystemClock().now()


def exchange_hours() -> Mapping[str, ExchangeHours]:
    """The regular hours of every exchange squareoff knows."""
    from squareoff.adapters.reference_data import load_exchange_hours

    return load_exchange_hours()


def last_journal_instant(config: Config) -> datetime | None:
    """Trading time of the newest line of the journal; None without any."""
    store = open_strategy_store(config)
    try:
        return store.every_journal_instant()
    finally:
        store.close()


def lease_holder(folder: Path, account: AccountId) -> int | None:
    """The process that works `account` now; None if none does."""
    from squareoff.adapters.lease import holder

    return holder(folder, account)


def lease_holders(folder: Path) -> dict[AccountId, int]:
    """Every process that works an account now, by account; SQL is not asked."""
    from urllib.parse import unquote

    from squareoff.adapters.lease import holder

    known = [AccountId(unquote(path.name.removesuffix(".lock"))) for path in sorted(folder.glob("*.lock"))]
    held = {account: holder(folder, account) for account in known}
    return {account: pid for account, pid in held.items() if pid is not None}


def ring_bell(redis_url: str, account: AccountId | None = None) -> None:
    """Tell the worker that a wish waits in SQL. Without a Redis it finds it by itself, a second later."""
    from redis.exceptions import RedisError

    from squareoff.adapters.redis.keys import bell_key
    from squareoff.core.definition import DEFAULT_ACCOUNT

    if not redis_url:
        return
    try:
        with redis_client(redis_url) as client:
            client.execute_command("XADD", bell_key(account or DEFAULT_ACCOUNT), "MAXLEN", "1", "*", "ring", "1")
    except (RedisError, OSError, ValueError):
        return


def brake(config: Config, account: AccountId) -> Brake:
    """The kill switch's file of an account."""
    from squareoff.adapters.brake import FileBrake

    return FileBrake(config.data / "accounts", account)


def acknowledge(config: Config, account: AccountId, keys: Sequence[str]) -> None:
    """A person has seen these alarms: they are not repeated until something about them changes."""
    from squareoff.adapters.acknowledged import AcknowledgedFile

    AcknowledgedFile(config.data / "accounts", account).add(keys)
