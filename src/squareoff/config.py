"""Settings: where the data is, and which Redis. From options, then the environment, then what is usual here.

Which database stands in the data folder itself: whoever names the folder means its database, in every shell.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from squareoff.core.bad_input import BadInput

DATA_VARIABLE = "SQUAREOFF_DATA"
REDIS_VARIABLE = "SQUAREOFF_REDIS_URL"
TOKEN_VARIABLE = "SQUAREOFF_BROKER_TOKEN"
"""Of a worker's account: how `up` hands it over."""
SECRETS_KEY_VARIABLE = "SQUAREOFF_SECRETS_KEY_FILE"
ADDRESS_NAME = "database.url"
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """`data` is an absolute folder; it may not exist yet. `redis_url` None: the Redis that comes with squareoff."""

    data: Path
    redis_url: str | None = None
    usual_logs: Path | None = None
    """Where this system keeps logs; None: in the data folder, which somebody chose."""
    secrets_key_file: Path | None = None
    """The key of secrets at rest, where somebody named a file for it; None: in the data folder."""

    @property
    def database(self) -> Path | str:
        """SQLite's file in the data folder, or the PostgreSQL address that stands in the file `database.url` there.
        The address may hold a password: it is for `Database.open` alone.

        Raises BadInput: the file cannot be used, or there are two databases."""
        address = _read_address(self.data / ADDRESS_NAME)
        if address is None:
            return self.sqlite_file
        if self.sqlite_file.exists():  # one of them would be silent about what it holds
            what = f"{self.data} has both {self.sqlite_file.name} and {ADDRESS_NAME}: which one counts?"
            raise BadInput("database", what, "see what the first one holds, then move one of them away")
        return address

    @property
    def sqlite_file(self) -> Path:
        return self.data / "squareoff.db"

    @property
    def has_database(self) -> bool:
        """Whether there is something to look at. Raises BadInput."""
        return isinstance(self.database, str) or self.sqlite_file.exists()

    @property
    def reference(self) -> Path:
        """The trader's own calendars and instruments; they win over the shipped ones."""
        return self.data / "reference"

    @property
    def run_folder(self) -> Path:
        """What belongs to the processes of `squareoff up`: addresses, clock, paper market."""
        return self.data / "run"

    @property
    def broker(self) -> Path:
        """The paper broker's: its ledger, and its accounts."""
        return self.data / "broker"

    @property
    def logs(self) -> Path:
        return self.usual_logs or self.data / "logs"

    @property
    def alerts_file(self) -> Path:
        return self.data / "alerts.toml"

    def make_data_folder(self) -> None:
        """What somebody trades is nobody else's business: 0700. A folder that is there stays as it is.

        Raises BadInput if it cannot be made."""
        try:
            self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            raise _not_usable(self.data, error) from error


def load_config(
    environ: Mapping[str, str], *, data: Path | None = None, demo: bool = False, redis_url: str | None = None
) -> Config:
    """`data`, `redis_url`: as given on the command line, None = not given. `demo`: the data of the last demo.

    Raises BadInput: a folder or an address that cannot be one. Nothing is made or opened here."""
    folder = data or Path(environ.get(DATA_VARIABLE) or _usual_folder())
    try:
        folder = folder.expanduser().absolute()
    except (OSError, RuntimeError) as error:
        raise _not_usable(folder, error) from error
    is_usual = data is None and not environ.get(DATA_VARIABLE)
    return Config(
        data=folder / "demo" if demo else folder,
        redis_url=_redis_url(redis_url, environ),
        usual_logs=_usual_logs() if is_usual and not demo else None,
        secrets_key_file=_key_file(environ),
    )


def _usual_folder() -> str:
    from platformdirs import user_data_dir

    return user_data_dir("squareoff", appauthor=False)


def _usual_logs() -> Path:
    from platformdirs import user_log_dir

    return Path(user_log_dir("squareoff", appauthor=False))


def _redis_url(given: str | None, environ: Mapping[str, str]) -> str | None:
    url = given or environ.get(REDIS_VARIABLE) or None
    if url is not None and not url.startswith(_REDIS_SCHEMES):
        # the address may carry a password: it is not repeated here
        raise BadInput("redis_url", "is not the address of a Redis", "write it like redis://localhost:6379/0")
    return url


def _key_file(environ: Mapping[str, str]) -> Path | None:
    named = environ.get(SECRETS_KEY_VARIABLE)
    if not named:
        return None
    try:
        return Path(named).expanduser().absolute()
    except (OSError, RuntimeError) as error:
        raise BadInput("secrets", f"${SECRETS_KEY_VARIABLE} names no file: {error}") from error


def _read_address(file: Path) -> str | None:
    """The first line. None: there is no such file. Only its owner may read it: it may hold a password."""
    try:
        with file.open(encoding="utf-8") as opened:
            address = opened.readline().strip()
            mode = os.fstat(opened.fileno()).st_mode
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput("database", f"{file} cannot be read: {why}", "correct it, or remove it to use SQLite") from None
    if not address:
        raise BadInput("database", f"{file} is empty", "write the address into it, or remove it to use SQLite")
    if mode & 0o077:
        raise BadInput("database", f"{file} may hold a password, and others may read it", f"chmod 600 {file}")
    return address


def _not_usable(folder: Path, error: Exception) -> BadInput:
    why = getattr(error, "strerror", None) or str(error)
    return BadInput("data", f"the folder {folder} cannot be used: {why}", "name another one with --data DIR")
