"""The account lease of one machine: an OS file lock, which ends with the process whatever ends the process."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import subprocess
import sys
import weakref
from pathlib import Path
from urllib.parse import quote

from squareoff.core.types import AccountId
from squareoff.errors import AlreadyRunning

_LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class FileLease:
    """The `Lease` of `account`, held by locking a file in the data folder `folder`.

    `machine` is random, made once per data folder, so that a rename of the host changes nothing. `boot` is the
    kernel's id of this start of the machine.
    """

    def __init__(self, folder: Path, account: AccountId) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.account = account
        self.path = folder / f"{quote(account, safe='')}.lock"
        self.machine = machine_id(folder)
        self.boot = boot_id()
        self._fd: int | None = None
        _leases.add(self)

    def acquire(self) -> None:
        """Take the lease, or raise AlreadyRunning with the process id of its holder."""
        if not self.is_held:
            self._take()

    @property
    def is_held(self) -> bool:
        """Whether nobody else can hold it. A lock file deleted by hand is made and locked again at once."""
        if self._fd is None:
            return False
        if self._is_the_file(self._fd):
            return True
        try:
            self._take()
        except (AlreadyRunning, OSError):
            return False
        return True

    @property
    def place(self) -> str:
        """16 hex digits: this very lock file on this start of this machine. A copy of the folder has another."""
        stat = os.stat(self.path)
        names = f"{self.machine}:{self.boot}:{stat.st_dev}:{stat.st_ino}"
        return hashlib.sha256(names.encode()).hexdigest()[:16]

    def release(self) -> None:
        """Give it back. The file stays: deleting it could let two processes lock two files of one name."""
        if self._fd is not None:
            os.ftruncate(self._fd, 0)
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # closing is not enough: a program just being started has a copy
            self._close()

    def _take(self) -> None:
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)  # not inherited by programs we start
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
                os.close(fd)
                holder = f"process {pid}" if pid else "another process"
                raise AlreadyRunning(
                    f"account {self.account} is already run by {holder}; "
                    "stop that one first, or use another data folder"
                ) from None
            except OSError:
                os.close(fd)
                raise
            if self._is_the_file(fd):  # not one that was deleted between open and lock
                break
            os.close(fd)
        self._close()
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._fd = fd

    def _is_the_file(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def holder(folder: Path, account: AccountId) -> int | None:
    """The process id of whoever holds the lease of `account` now; None if nobody does."""
    try:
        fd = os.open(folder / f"{quote(account, safe='')}.lock", os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.pread(fd, 32, 0).decode(errors="replace").strip()
        return int(text) if text.isdecimal() else None
    finally:
        os.close(fd)
    return None


_leases: weakref.WeakSet[FileLease] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child must neither send nor keep the lock alive when we are gone."""
    for lease in list(_leases):
        lease._close()


os.register_at_fork(after_in_child=_forget_in_child)


def machine_id(folder: Path) -> str:
    """32 hex digits, the same for every process that uses this data folder."""
    path = folder / "machine"
    for _ in range(2):
        try:
            text = path.read_text(encoding="ascii", errors="replace").strip()
            if re.fullmatch(r"[0-9a-f]{32}", text):
                return text
            path.unlink()  # damaged: a new identity only makes recovery more careful
        except FileNotFoundError:
            pass
        _write_once(path, secrets.token_hex(16))
    return path.read_text(encoding="ascii").strip()


def _write_once(path: Path, text: str) -> None:
    """Make the file whole or not at all; the first of two processes wins."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    draft.write_text(text + "\n", encoding="ascii")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def boot_id() -> str:
    """This start of the machine. Where the system has no name for it, every process counts as a new start."""
    if _LINUX_BOOT_ID.exists():
        return _LINUX_BOOT_ID.read_text(encoding="ascii").strip()
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    return _UNKNOWN_BOOT


_UNKNOWN_BOOT = secrets.token_hex(16)
