"""What every spool and every lease promises, on disk and in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from squareoff.adapters.lease import FileLease
from squareoff.adapters.memory.spool import MemoryLease, MemorySpool, SpoolStore
from squareoff.adapters.spool import FileSpool
from squareoff.core.types import AccountId, ClientOrderId, RunId
from squareoff.errors import AlreadyRunning
from squareoff.ports import Lease, Spool, SpoolContents, SpoolLatch, SpoolMark

MARK = SpoolMark(client_order_id=ClientOrderId("SQ00042260711X1"), attempt=1, qty=Decimal("50"), cause="stop_loss")
LATCH = SpoolLatch(
    run_id=RunId(42), price=Decimal("1540.00"), at=datetime(2026, 7, 11, 4, 5, 6, 789012, tzinfo=UTC), tripped=True
)

Open = Callable[[str, str], Spool]
Ask = Callable[[str], MemoryLease | FileLease]


@pytest.fixture(params=["file", "memory"])
def open_spool(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the spool of one and the same account, as a new process with this machine and boot would."""
    store = SpoolStore()
    opens: dict[str, Open] = {
        "file": lambda machine, boot: FileSpool(tmp_path / "A1.spool", machine, boot),
        "memory": lambda machine, boot: MemorySpool(machine, boot, store=store),
    }
    return opens[request.param]


@pytest.fixture
def spool(open_spool: Open) -> Spool:
    spool = open_spool("m1", "b1")
    spool.drained()
    return spool


@pytest.fixture(params=["file", "memory"])
def lease_of(request: pytest.FixtureRequest, tmp_path: Path) -> Ask:
    holders: dict[AccountId, MemoryLease] = {}
    asks: dict[str, Ask] = {
        "file": lambda account: FileLease(tmp_path, AccountId(account)),
        "memory": lambda account: MemoryLease(AccountId(account), holders),
    }
    return asks[request.param]


def test_a_new_spool_proves_nothing_until_it_was_drained_once(open_spool: Open) -> None:
    assert open_spool("m1", "b1").read() == SpoolContents(same_boot=False)


def test_a_drained_spool_is_empty_and_of_this_boot(spool: Spool) -> None:
    assert spool.read() == SpoolContents(same_boot=True)


def test_what_was_written_is_read_back_oldest_first_and_digit_for_digit(spool: Spool) -> None:
    second = SpoolMark(client_order_id=ClientOrderId("B"), attempt=2, qty=Decimal("0.10"), cause="kill ₹\n\0")
    spool.mark(MARK)
    spool.latch(LATCH)
    spool.mark(second)
    contents = spool.read()
    assert contents == SpoolContents(marks=(MARK, second), latches=(LATCH,))
    assert (str(contents.marks[1].qty), str(contents.latches[0].price)) == ("0.10", "1540.00")


def test_the_next_process_of_this_boot_reads_every_mark(spool: Spool, open_spool: Open) -> None:
    spool.mark(MARK)
    assert open_spool("m1", "b1").read() == SpoolContents(marks=(MARK,))


def test_the_next_process_writes_behind_the_marks_it_found(spool: Spool, open_spool: Open) -> None:
    spool.mark(MARK)
    following = open_spool("m1", "b1")
    following.latch(LATCH)
    assert following.read() == SpoolContents(marks=(MARK,), latches=(LATCH,))


@pytest.mark.parametrize(("machine", "boot"), [("m1", "b2"), ("m2", "b1")])
def test_after_a_reboot_or_on_another_machine_a_missing_mark_proves_nothing(
    spool: Spool, open_spool: Open, machine: str, boot: str
) -> None:
    spool.mark(MARK)
    elsewhere = open_spool(machine, boot)
    assert elsewhere.read() == SpoolContents(marks=(MARK,), same_boot=False)
    elsewhere.mark(MARK)
    assert elsewhere.read() == SpoolContents(marks=(MARK, MARK), same_boot=False)
    elsewhere.drained()
    assert open_spool(machine, boot).read() == SpoolContents(same_boot=True)


def test_a_spool_takes_more_marks_than_it_was_made_for(spool: Spool) -> None:
    for _ in range(5000):
        spool.mark(MARK)
    assert spool.read().marks == (MARK,) * 5000
    spool.drained()
    spool.mark(MARK)
    assert spool.read() == SpoolContents(marks=(MARK,))


def test_a_lease_is_held_from_acquire_to_release(lease_of: Ask) -> None:
    lease = lease_of("A1")
    held = [lease.is_held]
    lease.acquire()
    lease.acquire()
    held.append(lease.is_held)
    lease.release()
    lease.release()
    assert [*held, lease.is_held] == [False, True, False]


def test_only_one_holds_the_lease_of_an_account(lease_of: Ask) -> None:
    first, second, other = lease_of("A1"), lease_of("A1"), lease_of("A/2")
    first.acquire()
    other.acquire()
    with pytest.raises(AlreadyRunning, match="account A1 is already run by"):
        second.acquire()
    assert (first.is_held, second.is_held, other.is_held) == (True, False, True)
    first.release()
    second.acquire()
    assert second.is_held


def test_leases_of_one_machine_name_the_same_machine_and_boot(lease_of: Ask) -> None:
    first, second = lease_of("A1"), lease_of("A2")
    as_ports: list[Lease] = [first, second]
    assert len({(lease.machine, lease.boot) for lease in as_ports}) == 1
