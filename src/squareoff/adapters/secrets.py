"""Boxes that only a key opens, and the file the key is in: it is never in the database, nor in a backup of it.

AES-256-GCM, with the record's id bound in: a box put under another id does not open. While a key is being exchanged
the old one lies beside the new one as `FILE.old`, so that whatever is read at any moment finds the key it needs.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from squareoff.errors import BadInput, SecretsUnreadable

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_FILE_BYTES_MAX: Final = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """Texts of base64. `key_id`: of the key that opens it."""

    nonce: str
    box: str
    key_id: str


@dataclass(frozen=True, slots=True)
class Key:
    """`id` tells which key it is, and nothing about it."""

    raw: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return hashlib.sha256(b"squareoff key id\n" + self.raw).hexdigest()[:16]

    def close(self, record: str, text: str) -> Box:
        nonce = os.urandom(NONCE_BYTES)
        closed = AESGCM(self.raw).encrypt(nonce, text.encode(), record.encode())
        return Box(nonce=_text(nonce), box=_text(closed), key_id=self.id)

    def open(self, record: str, box: Box) -> str:
        """Raises SecretsUnreadable: it was changed, or is of another record."""
        try:
            opened = AESGCM(self.raw).decrypt(base64.b64decode(box.nonce), base64.b64decode(box.box), record.encode())
            return opened.decode()
        except (InvalidTag, ValueError):
            raise SecretsUnreadable(
                f"the secret {record!r} in the database was changed by somebody: set it again with "
                f"`squareoff secrets set {record}`"
            ) from None


class KeyFile:
    """The key in `file`; `FILE.old` beside it while it is being exchanged.

    `is_ours`: it is made when it is first needed. Else somebody has named it, and it must be there."""

    def __init__(self, file: Path, *, is_ours: bool = True) -> None:
        self.file, self.is_ours = file, is_ours

    @property
    def old(self) -> Path:
        return self.file.with_name(f"{self.file.name}.old")

    def all(self) -> tuple[Key, ...]:
        """The current one first; empty without a file. Raises BadInput: a file that cannot be used."""
        found = (self._read(self.file), self._read(self.old))
        return tuple(key for key in found if key is not None)

    def current(self, *, may_make: bool) -> Key:
        """Raises BadInput: there is none, and none may be made, or its file cannot be used."""
        if (key := self._read(self.file)) is not None:
            return key
        if not may_make or not self.is_ours:
            raise self._gone()
        with self.locked():
            if (key := self._read(self.file)) is not None:  # another process was faster
                return key
            return self._write(self.file)

    def exchange(self) -> Key:
        """A new key becomes the current one, and the one before is kept as the old one. Call it with `locked`, and
        only when no box needs the old one that may be there."""
        now = self._read(self.file)
        if now is None:
            raise self._gone()
        self._write(self.old, now)  # first: from the next line on it is nowhere else
        return self._write(self.file)

    def drop_old(self) -> None:
        self.old.unlink(missing_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process makes or exchanges the key."""
        with _told(self.file):
            fd = os.open(self.file.with_name(f"{self.file.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _read(self, file: Path) -> Key | None:
        with _told(file):
            try:
                with file.open("rb") as opened:
                    mode, content = os.fstat(opened.fileno()).st_mode, opened.read(_FILE_BYTES_MAX)
            except FileNotFoundError:
                return None
        if mode & 0o077:
            raise BadInput("secrets", f"others may read the key in {file}", f"chmod 600 {file}")
        with suppress(ValueError):
            if len(raw := base64.b64decode(content.strip(), validate=True)) == KEY_BYTES:
                return Key(raw)
        raise BadInput("secrets", f"{file} holds no key", f"{KEY_BYTES} bytes as base64 are one; put it back")

    def _write(self, file: Path, key: Key | None = None) -> Key:
        """Under its name at once, whole and on the disk. None: a new key."""
        key = key or Key(os.urandom(KEY_BYTES))
        draft = file.with_name(f"{file.name}.new")
        with _told(file):
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.fchmod(fd, 0o600)
                os.write(fd, _text(key.raw).encode() + b"\n")
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(draft, file)
            _sync(file.parent)
        return key

    def _gone(self) -> BadInput:
        if self.is_ours:
            return BadInput("secrets", f"the key {self.file} is not there any more", "put it back")
        right = f"put it there, or make one: (umask 077; head -c {KEY_BYTES} /dev/urandom | base64 > {self.file})"
        return BadInput("secrets", f"there is no key in {self.file}", right)


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput("secrets", f"{file} cannot be used: {error.strerror or error}") from error


def _sync(folder: Path) -> None:
    """So that a rename in it outlives a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
