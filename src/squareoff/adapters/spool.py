"""Send marks and seen stop-losses in one preallocated file of this machine: what survives a killed process.

The file is made of slots of 256 bytes: slot 0 is the header, every other one a record, and each is one line of text
(`crc json padding newline`), so a person can read it with `less`. A record is one `pwrite` inside one page and is
never synced: the kernel keeps it when the process dies, and a dead machine shows as another boot id.

The header carries a generation and so does every record: `drained` starts over by writing the header alone, so that
no crash in the middle of it can bring back half of the old records.
"""

from __future__ import annotations

import errno
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from squareoff.ports import SpoolContents, SpoolLatch, SpoolMark

SLOT = 256
"""Divides every page size, so that no record lies across two pages."""
_TEXT = SLOT - len("12345678 ") - len("\n")
_BLANK = bytes(SLOT)
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Header:
    """`boot` None: nothing was drained into this file yet, so it may stand for one that was lost."""

    generation: int
    machine: str
    boot: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Record:
    generation: int
    mark: SpoolMark | None = None
    latch: SpoolLatch | None = None


class FileSpool:
    """The `Spool` of one account in the file `path`. Only the holder of the account's lease may open it.

    A new file says `same_boot=False` until its first `drained()`: it may replace one that was deleted, and then no
    missing mark proves anything. So recovery calls `drained()` at every start, also when nothing was read.

    One slot that cannot be read may have been a mark, so it too makes `same_boot` False; `damage` says where.

    Raises OSError when the file cannot be made or preallocated.
    """

    damage: tuple[str, ...] = ()
    """What the last `read` could not make sense of, for the journal and the alarm."""
    out_of_disk: OSError | None = None
    """Set while the file cannot grow. `room` marks still fit: stop entries and tell a person now."""
    _header: _Header

    def __init__(self, path: Path, machine: str, boot: str, *, block: int = 1024) -> None:
        self.path, self.machine, self.boot = path, machine, boot
        self._block = block  # slots added at a time
        self._encode = msgspec.json.Encoder().encode
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._slots = os.fstat(self._fd).st_size // SLOT
            if self._slots == 0:
                self._preallocate(2 * block)
                self._write(0, self._line(_Header(generation=1, machine=machine)))
            self._next = self._scan().end
            if self._slots - self._next < block:
                self._preallocate(self._next + 2 * block)
        except BaseException:
            os.close(self._fd)
            raise

    @property
    def room(self) -> int:
        """Records that fit into what is already preallocated."""
        return self._slots - self._next

    def mark(self, mark: SpoolMark) -> None:
        """Returns when the kernel has it. An OSError means it may not be there: do not send."""
        self._append(self._line(_Record(generation=self._header.generation, mark=mark)) or self._shortened(mark))

    def latch(self, latch: SpoolLatch) -> None:
        self._append(self._line(_Record(generation=self._header.generation, latch=latch)))

    def read(self) -> SpoolContents:
        found = self._scan()
        self.damage = found.damage
        return SpoolContents(
            marks=tuple(record.mark for record in found.records if record.mark is not None),
            latches=tuple(record.latch for record in found.records if record.latch is not None),
            same_boot=(self._header.machine, self._header.boot) == (self.machine, self.boot) and not found.damage,
        )

    def drained(self) -> None:
        used = self._next
        header = _Header(generation=self._header.generation + 1, machine=self.machine, boot=self.boot)
        self._write(0, self._line(header))  # from here on the old records do not count, wherever we die
        self._header, self._next, self.damage = header, 1, ()
        kept = min(self._slots, 2 * self._block)
        os.ftruncate(self._fd, kept * SLOT)
        self._slots = kept
        os.pwrite(self._fd, _BLANK * (min(used, kept) - 1), SLOT)

    def close(self) -> None:
        os.close(self._fd)

    def _append(self, line: bytes) -> None:
        if not line:
            raise ValueError(f"a record longer than {_TEXT} bytes")
        self._write(self._next, line)
        self._next += 1
        if self._slots - self._next < self._block:
            self._grow()

    def _grow(self) -> None:
        """Keep a free block ahead. A full disk is told a whole block of marks before one could fail for it."""
        try:
            self._preallocate(self._slots + self._block)
            self.out_of_disk = None
        except OSError as error:  # the record itself is safe, so the exit it announces goes out
            self.out_of_disk = error

    def _preallocate(self, slots: int) -> None:
        start, length = self._slots * SLOT, (slots - self._slots) * SLOT
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._fd, start, length)
        elif os.pwrite(self._fd, bytes(length), start) != length:  # macOS has no posix_fallocate
            raise OSError(errno.ENOSPC, "the spool cannot grow", str(self.path))
        self._slots = slots

    def _write(self, slot: int, line: bytes) -> None:
        if os.pwrite(self._fd, line, slot * SLOT) != SLOT:
            raise OSError(errno.EIO, "a spool record was written in part", str(self.path))

    def _line(self, what: _Header | _Record) -> bytes:
        """The slot of this record, or b"" when it does not fit."""
        text = self._encode(what)
        return b"%08x %b\n" % (zlib.crc32(text), text.ljust(_TEXT)) if len(text) <= _TEXT else b""

    def _shortened(self, mark: SpoolMark) -> bytes:
        """A mark never fails for the length of its cause: the cause is for people, the rest proves."""
        for length in (64, 32, 16, 0):
            short = replace(mark, cause=mark.cause[:length] + "…")
            if line := self._line(_Record(generation=self._header.generation, mark=short)):
                return line
        return b""

    def _scan(self) -> _Found:
        """Read the whole file, header first. A torn header is damage: then the newest generation counts."""
        slots = [line.ljust(SLOT, b"\0") for line in self._lines()]
        records = [(number, _decode(line, _Record)) for number, line in enumerate(slots) if number and any(line)]
        damage = tuple(f"{self.path.name}: record {number} is unreadable" for number, record in records if not record)
        header = _decode(slots[0], _Header)
        if header is None:
            newest = max((record.generation for _, record in records if record), default=1)
            header = _Header(generation=newest, machine=self.machine)
            damage = (f"{self.path.name}: the header is unreadable", *damage)
        self._header = header
        ours = [(n, record) for n, record in records if record is None or record.generation == header.generation]
        return _Found(
            records=tuple(record for _, record in ours if record is not None),
            end=1 + max((number for number, _ in ours), default=0),
            damage=damage,
        )

    def _lines(self) -> list[bytes]:
        os.lseek(self._fd, 0, os.SEEK_SET)
        with open(self._fd, "rb", closefd=False) as file:
            return list(iter(lambda: file.read(SLOT), b""))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    records: tuple[_Record, ...]
    end: int
    """The first slot free to write."""
    damage: tuple[str, ...]


def _decode(line: bytes, kind: type[_T]) -> _T | None:
    """The record in this slot; None when the slot is torn or garbage."""
    checksum, _, text = line.rstrip(b"\n").partition(b" ")
    text = text.rstrip(b" ")
    try:
        return msgspec.json.decode(text, type=kind) if int(checksum, 16) == zlib.crc32(text) else None
    except (ValueError, msgspec.MsgspecError):
        return None
