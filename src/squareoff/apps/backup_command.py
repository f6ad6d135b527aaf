"""`squareoff backup` and `squareoff restore`: the data folder in one file, and back."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from squareoff.config import Config
from squareoff.core.bad_input import BadInput
from squareoff.errors import AlreadyRunning, SquareoffError

if TYPE_CHECKING:
    import tarfile

BACKUP_HELP = """Copy the data folder into one file, also while squareoff runs.

It holds the database, your reference folder, alerts.toml, the engines' send marks and the paper broker's book. Only you
may read it: it tells what you trade, and alerts.toml may hold passwords. The key of `squareoff secrets` is not in it:
keep a copy of secrets.key elsewhere. Without FILE it is written to the current folder as
squareoff-backup-YYYYMMDD-HHMMSS.tar.gz. A file that is there is never overwritten.

\b
Examples:
  squareoff backup
  squareoff backup monday.tar.gz
"""
RESTORE_HELP = """Put the data folder back as it was when FILE was made by `squareoff backup`.

Refused while squareoff runs on that folder, and for a file that is damaged. What is in the folder now is moved aside,
never deleted. What was bought or sold after the backup is not in it: your broker's book is what counts. Who was signed
in has to sign in again, and tokens have to be made anew.

\b
Examples:
  squareoff restore monday.tar.gz
  squareoff --data other-folder restore monday.tar.gz
"""

FORMAT = 1
"""Of the archive: raised when an older squareoff could not put it back."""
MANIFEST, DATABASE = "manifest.json", "squareoff.db"
_MANIFEST_BYTES_MAX = 1_000_000
_CHUNK = 1 << 20
_PART = r"[^/\\\x00.][^/\\\x00]*"
_MAY_HOLD = re.compile(
    rf"squareoff\.db|alerts\.toml|accounts/{_PART}\.spool|broker/(ledger\.jsonl|accounts\.json)|reference(/{_PART})+",
    re.ASCII,
)
"""No other path is ever written by a restore: none outside, none hidden, no lock file, no machine's identity."""


class BackupFailed(SquareoffError):
    """The backup or the restore could not be done; what was there is untouched, or the message says where it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One file of the archive, by its path in the data folder."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What the archive says of itself. `at`: when it was made, UTC."""

    at: datetime
    squareoff: str
    database_version: str
    parts: tuple[Part, ...]


def register(app: typer.Typer) -> None:
    app.command("backup", help=BACKUP_HELP, short_help="Copy the data folder into one file.")(_backup)
    app.command("restore", help=RESTORE_HELP, short_help="Put a backup back.")(_restore)


# ------------------------------------------------------------------ backup


def _backup(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Where to. [squareoff-backup-...]", show_default=False)] = None,
) -> None:
    config: Config = context.obj
    if not config.has_database:
        raise BadInput("data", f"there is no database in {config.data}", "there is nothing to back up yet")
    _refuse_server(config, _PG_DUMP)
    at = datetime.now(UTC)
    target = _target(file, at)
    with _disk_told(target):
        manifest = make_backup(config, target, at=at)
    size = f"{target.stat().st_size:,} bytes"
    typer.echo(f"backed up {config.data} to {target}: {_count(manifest.parts, 'file', 'files')}, {size}")
    typer.echo("Only you may read it. Keep it on another disk.")


_PG_DUMP = (
    "cp -a {data} squareoff-backup && pg_dump --format=custom --file=squareoff-backup/squareoff.dump --dbname={name}"
)
"""The folder first: a stop-loss seen is in the spool until it is in the database."""
_PG_RESTORE = (
    "stop squareoff, pg_restore --clean --if-exists --single-transaction --dbname={name} "
    "squareoff-backup/squareoff.dump, and before "
    'it is started again psql --dbname={name} --command="UPDATE install SET install_id = '
    'left(md5(random()::text), 16)", or new orders get the ids of orders that were made after the dump'
)


def _refuse_server(config: Config, instead: str) -> None:
    """PostgreSQL has its own programs for this, which know it better."""
    from squareoff import wiring

    if isinstance(config.database, str):
        name = wiring.database_name(config)
        raise BadInput(
            "database",
            f"{config.data} keeps its records in {name}",
            instead.format(name=name, data=shlex.quote(f"{config.data}")),
        )


def _target(file: Path | None, at: datetime) -> Path:
    name = f"squareoff-backup-{at.astimezone():%Y%m%d-%H%M%S}.tar.gz"
    target = Path(name) if file is None else file / name if file.is_dir() else file
    _refuse_existing(target)
    if not target.absolute().parent.is_dir():
        raise BadInput("file", f"the folder {target.absolute().parent} does not exist", "make it first")
    return target


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise BadInput("file", f"{target} is there already", "name another file; nothing is overwritten")


def make_backup(config: Config, target: Path, *, at: datetime) -> Manifest:
    """Everything is copied first, beside `target`, so that what is hashed is what is packed while others write."""
    folder = target.absolute().parent
    with tempfile.TemporaryDirectory(prefix=".squareoff-backup-", dir=folder) as name:
        draft = Path(name)
        version = _copy_all(config.data, draft / "data")
        parts = tuple(_part(draft / "data", path) for path in _files(draft / "data") if _MAY_HOLD.fullmatch(path))
        manifest = Manifest(at=at, squareoff=_our_version(), database_version=version, parts=parts)
        _pack(draft / "data", manifest, draft / "archive")
        _publish(draft / "archive", target)
    _sync(folder)
    return manifest


def _copy_all(data: Path, draft: Path) -> str:
    """Returns the database's version.

    The order makes it one story: a stop-loss seen is in the spool until it is in the database, so the spools come
    first; and the broker must know every order that the database knows, so its book comes last."""
    from squareoff import wiring

    draft.mkdir(mode=0o700)
    for spool in sorted((data / "accounts").glob("*.spool")):
        _copy(spool, draft / "accounts" / spool.name)
    version = wiring.copy_database(data / DATABASE, draft / DATABASE)
    for path in ("alerts.toml", "broker/accounts.json", "broker/ledger.jsonl"):
        if (data / path).is_file():
            _copy(data / path, draft / path)
    for path in _files(data / "reference"):
        _copy(data / "reference" / path, draft / "reference" / path)
    return version


def _files(folder: Path) -> list[str]:
    """Paths of the files below `folder`, sorted; without hidden ones, which are drafts of somebody else."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with source.open("rb") as old, _new_file(target) as new:
        shutil.copyfileobj(old, new, _CHUNK)


def _part(folder: Path, path: str) -> Part:
    with (folder / path).open("rb") as file:
        return Part(path=path, size=os.fstat(file.fileno()).st_size, sha256=_digest(file))


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _pack(folder: Path, manifest: Manifest, archive: Path) -> None:
    import io
    import tarfile

    with _new_file(archive) as out:
        with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT, compresslevel=6) as tar:
            text = _manifest_text(manifest).encode()
            _add(tar, MANIFEST, len(text), manifest.at, io.BytesIO(text))
            for part in manifest.parts:
                with (folder / part.path).open("rb") as file:
                    _add(tar, part.path, part.size, manifest.at, file)
        out.flush()
        os.fsync(out.fileno())


def _add(tar: tarfile.TarFile, path: str, size: int, at: datetime, content: IO[bytes]) -> None:
    """Names and times only: an archive does not tell who made it on which machine."""
    import tarfile

    member = tarfile.TarInfo(path)
    member.size, member.mode, member.mtime = size, 0o600, int(at.timestamp())
    tar.addfile(member, content)


def _manifest_text(manifest: Manifest) -> str:
    files = {part.path: {"size": part.size, "sha256": part.sha256} for part in manifest.parts}
    about = {
        "format": FORMAT,
        "at": manifest.at.isoformat(),
        "squareoff": manifest.squareoff,
        "database_version": manifest.database_version,
        "files": files,
    }
    return json.dumps(about, indent=1) + "\n"


def _publish(draft: Path, target: Path) -> None:
    """Under its name at once, whole; one that came to be there meanwhile stays."""
    try:
        os.link(draft, target)
    except FileExistsError:
        _refuse_existing(target)
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        _refuse_existing(target)  # a disk without hard links, such as a USB stick
        os.rename(draft, target)


def _our_version() -> str:
    from squareoff import __version__

    return __version__


# ------------------------------------------------------------------ restore


def _restore(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Made by `squareoff backup`.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    config: Config = context.obj
    _refuse_server(config, _PG_RESTORE)
    data, at = config.data.resolve(), datetime.now(UTC)  # where a link leads is exchanged, not the link
    with _disk_told(data), ExitStack() as held:
        _hold(data, held)
        draft = held.enter_context(_draft_beside(data))
        manifest = unpack(file, draft)
        _check_database(draft / DATABASE, manifest, at)
        aside = _aside(data, at)
        if not yes:
            moved = f"; what is in {data} now is kept in {aside}" if aside else ""
            typer.confirm(f"Restore {_age(manifest)} to {data}{moved}?", abort=True, err=True)
        _keep_key(data, draft)
        _exchange(draft, data, aside)
    typer.echo(f"restored {_age(manifest)} to {data}")
    if aside:
        typer.echo(f"what was there before is in {aside}")
    _tell_positions(config, manifest)


def _age(manifest: Manifest) -> str:
    return f"the backup of {manifest.at.astimezone():%Y-%m-%d %H:%M:%S %Z} (squareoff {manifest.squareoff})"


def _hold(data: Path, held: ExitStack) -> None:
    """Every lock of a running squareoff, until the exchange is done. Raises AlreadyRunning, which says who."""
    from squareoff.apps.facts import lock_files, written_pid

    for path in lock_files(data):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        held.callback(os.close, fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = written_pid(fd)
            who = "another process" if pid is None else f"process {pid}"
            raise AlreadyRunning(
                f"squareoff runs on {data} ({who} holds {path.relative_to(data)}), so nothing was changed; "
                "stop it first, or restore into another folder with --data DIR"
            ) from None


@contextmanager
def _draft_beside(data: Path) -> Iterator[Path]:
    """A new folder on the same disk as `data`, so that exchanging them is one rename each."""
    data.parent.mkdir(parents=True, exist_ok=True)
    draft = data.with_name(f"{data.name}.restoring-{secrets.token_hex(4)}")
    draft.mkdir(mode=0o700)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)  # after the exchange it has another name


def unpack(file: Path, folder: Path) -> Manifest:
    """Write what the archive holds into the empty `folder`, every byte of it checked. Raises BadInput."""
    import tarfile
    import zlib

    damaged = (tarfile.TarError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError, RecursionError)
    try:
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:gz") as tar:
            manifest = _read_manifest(tar)
            wanted = {part.path: part for part in manifest.parts}
            while (member := tar.next()) is not None:
                part = wanted.pop(member.name, None)
                if part is None or not member.isreg():
                    raise BadInput("file", f"{file} holds {member.name[:60]!r}, which is no part of a backup", _OTHER)
                _unpack_one(tar, member, part, folder)
    except FileNotFoundError:
        raise BadInput("file", f"{file} does not exist", "name a file that `squareoff backup` made") from None
    except IsADirectoryError:
        raise BadInput("file", f"{file} is a folder", "name a file that `squareoff backup` made") from None
    except PermissionError as error:
        raise BadInput("file", f"{file} cannot be read: {error.strerror}") from error
    except damaged as error:
        raise BadInput("file", f"{file} is damaged, or is no backup: {error}", _OTHER) from error
    except OSError as error:
        if error.errno is not None:  # the disk; without a number it is the gzip reader that complains
            raise
        raise BadInput("file", f"{file} is damaged, or is no backup: {error}", _OTHER) from error
    if wanted:
        raise BadInput("file", f"{file} is damaged: {min(wanted)} is missing", _OTHER)
    return manifest


_OTHER = "take another backup; nothing was changed"


def _read_manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    if first is None or first.name != MANIFEST or not first.isreg() or first.size > _MANIFEST_BYTES_MAX:
        raise ValueError(f"it does not begin with {MANIFEST}")
    content = tar.extractfile(first)
    assert content is not None
    return _manifest(json.loads(content.read()))


def _manifest(about: Mapping[str, Any]) -> Manifest:
    """Raises BadInput for a newer one, and ValueError, KeyError, TypeError or AttributeError for a damaged one."""
    from squareoff import wiring

    newest = wiring.newest_database_version()
    version = str(about["database_version"])
    if int(about["format"]) > FORMAT or version > newest:
        raise BadInput(
            "file",
            f"it was made by a newer squareoff ({about['squareoff']}, database version {version}; this one knows up "
            f"to {newest})",
            "install the newer squareoff; nothing was changed",
        )
    parts = tuple(
        Part(path=path, size=int(facts["size"]), sha256=str(facts["sha256"])) for path, facts in about["files"].items()
    )
    for part in parts:
        if not _MAY_HOLD.fullmatch(part.path):
            raise BadInput("file", f"it holds {part.path[:60]!r}, which is no part of a backup", _OTHER)
    if DATABASE not in {part.path for part in parts}:
        raise ValueError("there is no database in it")
    at = datetime.fromisoformat(about["at"])
    if at.tzinfo is None:
        raise ValueError("its time has no zone")
    return Manifest(at=at, squareoff=str(about["squareoff"]), database_version=version, parts=parts)


def _unpack_one(tar: tarfile.TarFile, member: tarfile.TarInfo, part: Part, folder: Path) -> None:
    if member.size != part.size:
        raise ValueError(f"{part.path} has {member.size} bytes instead of {part.size}")
    content = tar.extractfile(member)
    assert content is not None
    target = folder / part.path
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with _new_file(target) as out:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if digest.hexdigest() != part.sha256:
        raise ValueError(f"{part.path} is not what was backed up")


def _check_database(database: Path, manifest: Manifest, at: datetime) -> None:
    """Whole, and from now on an installation of its own: see `put_to_use`."""
    from squareoff import wiring

    text = f"this database was restored from a backup of {manifest.at.isoformat(timespec='seconds')}"
    wiring.put_copy_to_use(database, install_id=secrets.token_hex(8), at=at, text=text)


def _aside(data: Path, at: datetime) -> Path | None:
    """Where the present content goes; None: there is none."""
    if not data.exists() or not any(data.iterdir()):
        return None
    return data.with_name(f"{data.name}.before-restore-{at.astimezone():%Y%m%d-%H%M%S}")


def _keep_key(data: Path, draft: Path) -> None:
    """The key of the secrets is in no backup: it stays in the folder."""
    for name in ("secrets.key", "secrets.key.old"):
        if (data / name).is_file():
            _copy(data / name, draft / name)


def _exchange(draft: Path, data: Path, aside: Path | None) -> None:
    if aside is not None:
        if aside.exists():
            raise BackupFailed(f"{aside} is there already; try again in a second; nothing was changed")
        os.rename(data, aside)
    try:
        os.rename(draft, data)
    except OSError:
        if aside is not None:
            os.rename(aside, data)
        raise
    _sync(data.parent)


def _tell_positions(config: Config, manifest: Manifest) -> None:
    from squareoff import wiring
    from squareoff.apps.doctor_command import exposed
    from squareoff.core.types import Exposure

    store = wiring.open_strategy_store(config)
    try:
        runs = [run for run in store.every_open_run() if run.exposure in (Exposure.LONG, Exposure.UNKNOWN)]
        strategies = store.list()
    finally:
        store.close()
    held = f"{_count(runs, 'run', 'runs')} with a position:" if runs else "no run with a position"
    typer.echo(f"{_count(strategies, 'strategy', 'strategies')}; {held}")
    for run in runs:
        typer.echo(f"  {run.plan.name}, {run.plan.trading_day}: {run.state}, {exposed(run)}")
    since = f"{manifest.at.astimezone():%Y-%m-%d %H:%M:%S}"
    typer.echo(
        f"At the next start the broker's own positions decide. What was bought or sold after {since} is not in this "
        "backup: compare with your broker's order book before you start anything."
    )


def _count(things: Sequence[object], one: str, many: str) -> str:
    return f"{len(things)} {one if len(things) == 1 else many}"


# ------------------------------------------------------------------ files


def _new_file(path: Path) -> IO[bytes]:
    """For its owner alone; one that is there is an error."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def _sync(folder: Path) -> None:
    """So that a rename in it outlives a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def _disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise BackupFailed(f"{where} cannot be used: {error.strerror or error}") from error
