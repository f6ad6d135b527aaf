"""The spool and the lease on disk: kills, torn records, full disks and second processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

import pytest

from squareoff.adapters.lease import FileLease
from squareoff.adapters.spool import SLOT, FileSpool
from squareoff.core.types import AccountId, ClientOrderId
from squareoff.errors import AlreadyRunning
from squareoff.ports import SpoolContents, SpoolMark


def mark(number: int, cause: str = "sell_time") -> SpoolMark:
    return SpoolMark(client_order_id=ClientOrderId(f"SQ{number}"), attempt=1, qty=Decimal(number), cause=cause)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "A1.spool"


@pytest.fixture
def spool(path: Path) -> FileSpool:
    spool = FileSpool(path, "m1", "b1", block=4)
    spool.drained()
    return spool


def overwrite(path: Path, slot: int, start: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(slot * SLOT + start)
        file.write(data)


WRITER = """
import sys
from decimal import Decimal
from pathlib import Path
from squareoff.adapters.spool import FileSpool
from squareoff.ports import SpoolMark
spool = FileSpool(Path(sys.argv[1]), "m1", "b1")
spool.drained()
number = 0
while True:
    number += 1
    spool.mark(SpoolMark(client_order_id=f"SQ{number}", attempt=1, qty=Decimal(number), cause="sell_time"))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.processes
def test_a_killed_writer_loses_no_mark_that_mark_returned_for(path: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    told = [writer.stdout.readline() for _ in range(3000)]  # more than the file was made for
    writer.send_signal(signal.SIGKILL)
    told += writer.stdout.readlines()
    writer.wait()
    writer.stdout.close()
    returned = sum(line.endswith(b"\n") for line in told)
    contents = FileSpool(path, "m1", "b1").read()
    assert contents.same_boot
    assert contents.marks[:returned] == tuple(mark(number) for number in range(1, returned + 1))
    assert len(contents.marks) - returned in (0, 1)


def test_a_torn_record_is_told_and_the_marks_around_it_are_read(spool: FileSpool, path: Path) -> None:
    for number in (1, 2, 3):
        spool.mark(mark(number))
    overwrite(path, 2, 40, b"\0" * 100)
    after = FileSpool(path, "m1", "b1")
    assert after.read() == SpoolContents(marks=(mark(1), mark(3)), same_boot=False)
    assert after.damage == ("A1.spool: record 2 is unreadable",)


def test_marks_after_a_torn_last_record_do_not_overwrite_it(spool: FileSpool, path: Path) -> None:
    spool.mark(mark(1))
    overwrite(path, 2, 0, b"garbage")
    after = FileSpool(path, "m1", "b1", block=4)
    after.mark(mark(2))
    assert after.read() == SpoolContents(marks=(mark(1), mark(2)), same_boot=False)
    after.drained()
    assert (after.read(), after.damage) == (SpoolContents(), ())


def test_a_torn_header_keeps_the_marks_and_proves_nothing_by_their_absence(spool: FileSpool, path: Path) -> None:
    spool.mark(mark(1))
    spool.drained()
    spool.mark(mark(2))
    overwrite(path, 0, 0, b"\0" * SLOT)
    after = FileSpool(path, "m1", "b1")
    assert after.read() == SpoolContents(marks=(mark(2),), same_boot=False)
    assert after.damage == ("A1.spool: the header is unreadable",)
    after.drained()
    assert FileSpool(path, "m1", "b1").read() == SpoolContents()


def test_a_death_in_the_middle_of_draining_brings_no_old_mark_back(
    spool: FileSpool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool.mark(mark(1))
    spool.mark(mark(2))

    def die(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(os, "ftruncate", die)
    with pytest.raises(SystemExit):
        spool.drained()
    after = FileSpool(path, "m1", "b1")
    assert after.read() == SpoolContents()
    after.mark(mark(3))
    assert after.read() == SpoolContents(marks=(mark(3),))


def test_a_file_cut_short_is_read_as_far_as_it_goes(spool: FileSpool, path: Path) -> None:
    spool.mark(mark(1))
    spool.mark(mark(2))
    os.truncate(path, 2 * SLOT + 100)
    after = FileSpool(path, "m1", "b1")
    assert after.read() == SpoolContents(marks=(mark(1),), same_boot=False)
    after.mark(mark(3))
    assert after.read().marks == (mark(1), mark(3))


def test_a_full_disk_is_told_while_a_whole_block_of_marks_still_fits(
    spool: FileSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(slots: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(spool, "_preallocate", full)
        written = 0
        while spool.out_of_disk is None:
            written += 1
            spool.mark(mark(written))
        assert spool.room == 3  # blocks of 4: growth was due with the mark that left less than one free
        spool.mark(mark(written + 1))
    spool.mark(mark(written + 2))
    assert str(spool.out_of_disk) == "None"
    assert spool.room >= 4
    assert spool.read().marks == tuple(mark(number) for number in range(1, written + 3))


def test_a_disk_that_is_full_at_the_start_refuses_to_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileSpool, "_preallocate", full)
    with pytest.raises(OSError, match="No space left"):
        FileSpool(path, "m1", "b1")


def test_a_mark_never_fails_for_the_length_of_its_cause(spool: FileSpool) -> None:
    spool.mark(mark(1, cause="₹" * 1000))
    (read,) = spool.read().marks
    assert (read.client_order_id, read.attempt, read.qty) == ("SQ1", 1, Decimal(1))
    assert set(read.cause[:-1]) == {"₹"}
    assert read.cause[-1] == "…"


def test_a_person_can_read_the_file(spool: FileSpool, path: Path) -> None:
    spool.mark(mark(7))
    line = path.read_bytes().splitlines()[1].decode()
    assert '{"client_order_id":"SQ7","attempt":1,"qty":"7","cause":"sell_time"}' in line


def test_a_mark_takes_less_than_20_microseconds(path: Path) -> None:
    spool = FileSpool(path, "m1", "b1")
    one = mark(1)
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1000):
            spool.mark(one)
        rounds.append((time.perf_counter() - started) / 1000)
    assert min(rounds) < 20e-6


HOLDER = """
import sys, time
from pathlib import Path
from squareoff.adapters.lease import FileLease
lease = FileLease(Path(sys.argv[1]), "A1")
lease.acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.processes
def test_a_second_process_is_told_who_holds_the_account_until_that_one_dies(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    mine = FileLease(tmp_path, AccountId("A1"))
    with pytest.raises(AlreadyRunning, match=f"process {holder.pid};"):
        mine.acquire()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    mine.acquire()
    assert mine.is_held


@pytest.mark.processes
def test_a_program_we_started_does_not_keep_the_lease_alive_after_us(tmp_path: Path) -> None:
    lease = FileLease(tmp_path, AccountId("A1"))
    lease.acquire()
    script = [sys.executable, "-c", "print('up', flush=True); input()"]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=False) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        lease._close()  # as if we had died
        following = FileLease(tmp_path, AccountId("A1"))
        following.acquire()
        child.communicate(b"\n")
    assert following.is_held


@pytest.mark.processes
def test_a_released_lease_is_free_at_once_even_while_a_program_is_being_started(tmp_path: Path) -> None:
    lease = FileLease(tmp_path, AccountId("A1"))
    lease.acquire()
    assert lease._fd is not None
    copy = os.dup(lease._fd)  # what a child holds between fork and exec
    lease.release()
    FileLease(tmp_path, AccountId("A1")).acquire()
    os.close(copy)


def _sleep_in_child(ready: object, done: object) -> None:
    ready.set()  # type: ignore[attr-defined]
    done.wait()  # type: ignore[attr-defined]


@pytest.mark.processes
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_neither_holds_the_lease_nor_keeps_it_alive(tmp_path: Path) -> None:
    lease = FileLease(tmp_path, AccountId("A1"))
    lease.acquire()
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    child = context.Process(target=_sleep_in_child, args=(ready, done))
    child.start()
    try:
        ready.wait()
        assert lease.is_held  # the child closing its copy does not unlock ours
        with pytest.raises(AlreadyRunning):
            FileLease(tmp_path, AccountId("A1")).acquire()
        lease._close()  # as if we had died
        FileLease(tmp_path, AccountId("A1")).acquire()
    finally:
        done.set()
        child.join()


def test_a_deleted_lock_file_is_taken_again_before_anybody_else_can(tmp_path: Path) -> None:
    lease = FileLease(tmp_path, AccountId("A1"))
    lease.acquire()
    lease.path.unlink()
    assert lease.is_held
    with pytest.raises(AlreadyRunning):
        FileLease(tmp_path, AccountId("A1")).acquire()


def test_a_lease_taken_by_another_after_its_file_was_deleted_is_lost(tmp_path: Path) -> None:
    lease, thief = FileLease(tmp_path, AccountId("A1")), FileLease(tmp_path, AccountId("A1"))
    lease.acquire()
    lease.path.unlink()
    thief.acquire()
    assert (lease.is_held, thief.is_held) == (False, True)


def test_the_machine_is_named_once_per_data_folder_and_anew_when_its_file_is_damaged(tmp_path: Path) -> None:
    first = FileLease(tmp_path, AccountId("A1")).machine
    assert FileLease(tmp_path, AccountId("A2")).machine == first
    assert FileLease(tmp_path / "other", AccountId("A1")).machine != first
    (tmp_path / "machine").write_text("torn")
    second = FileLease(tmp_path, AccountId("A1")).machine
    assert second not in (first, "torn")
    assert FileLease(tmp_path, AccountId("A1")).machine == second
