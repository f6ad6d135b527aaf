"""What every Clock promises: the real one, the paced one, and virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from squareoff.adapters.clock import ConfirmedClock, PacedClock, SystemClock, TextFile, VirtualLoop
from squareoff.ports import Clock

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def paced(folder: Path, *points: tuple[float, datetime]) -> PacedClock:
    return PacedClock.prepare(points or [(0.0, NOON), (60.0, NOON + MINUTE)], folder / "clock.json")


def system_clock(folder: Path) -> Clock:
    return SystemClock()


def started_paced_clock(folder: Path) -> Clock:
    clock = paced(folder)
    clock.start()
    return clock


def virtual_clock(folder: Path) -> Clock:
    return VirtualLoop(NOON)


def confirmed_clock(folder: Path) -> Clock:
    return ConfirmedClock.of_machine(memory=folder / "memory", boot="b1")


@pytest.fixture(params=[system_clock, confirmed_clock, started_paced_clock, virtual_clock])
def clock(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clock]:
    made: Clock = request.param(tmp_path)
    yield made
    if isinstance(made, VirtualLoop):
        made.close()


def test_trading_time_is_aware_utc_and_never_goes_back(clock: Clock) -> None:
    first, second = clock.now(), clock.now()
    assert first.utcoffset() == timedelta(0)
    assert first <= second
    assert clock.monotonic_s() <= clock.monotonic_s()


def test_what_is_past_is_not_waited_for(clock: Clock) -> None:
    assert clock.seconds_until(clock.now() - timedelta(seconds=1)) <= 0
    assert 0 < clock.seconds_until(clock.now() + MINUTE) <= 61


def test_a_paced_clock_stands_until_somebody_starts_it_and_then_all_who_read_it_agree(tmp_path: Path) -> None:
    ours = paced(tmp_path)
    theirs = PacedClock(tmp_path / "clock.json")
    assert (ours.now(), theirs.now()) == (NOON, NOON)
    assert theirs.seconds_until(NOON + MINUTE) <= 0.02  # ask again soon: it may be started any time
    ours.start()
    late = PacedClock(tmp_path / "clock.json")
    assert abs(ours.now() - late.now()) < timedelta(seconds=1)
    assert ours.now() > NOON


def test_a_paced_clock_runs_evenly_between_its_points_and_normally_after_the_last(tmp_path: Path) -> None:
    clock = paced(tmp_path, (0.0, NOON), (1.0, NOON + timedelta(hours=1)), (2.0, NOON + timedelta(hours=1, seconds=1)))
    clock.start()
    hour = NOON + timedelta(hours=1)
    passed_s = clock.real_s()
    assert clock.seconds_until(NOON + timedelta(minutes=30)) == pytest.approx(0.5 - passed_s, abs=0.05)
    assert clock.seconds_until(hour + timedelta(seconds=0.5)) == pytest.approx(1.5 - passed_s, abs=0.05)
    assert clock.seconds_until(hour + timedelta(seconds=11)) == pytest.approx(12 - passed_s, abs=0.05)


def test_a_timetable_that_goes_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="never goes back"):
        paced(tmp_path, (0.0, NOON), (1.0, NOON - MINUTE))


def test_virtual_time_fires_timers_in_order_each_at_its_own_instant() -> None:
    loop = VirtualLoop(NOON)
    seen: list[tuple[str, datetime]] = []
    loop.call_later(30, lambda: seen.append(("second", loop.now())))
    loop.call_later(10, lambda: seen.append(("first", loop.now())))
    loop.call_later(61, lambda: seen.append(("too late", loop.now())))
    loop.advance_to(NOON + MINUTE)
    assert seen == [("first", NOON + timedelta(seconds=10)), ("second", NOON + timedelta(seconds=30))]
    assert loop.now() == NOON + MINUTE
    loop.close()


def test_virtual_time_runs_what_follows_before_the_next_timer() -> None:
    loop = VirtualLoop(NOON)
    seen: list[str] = []

    async def slow() -> None:
        seen.append("begins")
        await loop.sleep(5)
        seen.append("ends")

    loop.call_later(10, lambda: loop.create_task(slow()))
    loop.call_later(12, lambda: seen.append("between"))
    loop.advance_to(NOON + MINUTE)
    assert seen == ["begins", "between", "ends"]
    loop.close()


def test_a_cancelled_timer_does_not_hold_up_virtual_time() -> None:
    loop = VirtualLoop(NOON)
    loop.call_later(10, lambda: None).cancel()
    assert loop.next_timer() is None
    loop.close()


async def test_sleeping_on_the_real_clock_takes_real_time() -> None:
    clock = SystemClock()
    before_s = clock.monotonic_s()
    await asyncio.wait_for(clock.sleep(0.01), timeout=5)
    assert clock.monotonic_s() - before_s >= 0.009


# ---------------------------------------------------------------------- a clock that somebody may set


class Machine:
    """A machine whose clock can be set, and what is kept on its disk."""

    def __init__(self, folder: Path) -> None:
        self.loop, self.memory, self.set_forward = VirtualLoop(NOON), folder / "clock", timedelta(0)

    def clock(self, boot: str = "b1") -> ConfirmedClock:
        return ConfirmedClock(
            self.loop, lambda: self.loop.now() + self.set_forward, memory=TextFile(self.memory), boot=boot
        )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    made.loop.close()


def test_a_step_of_the_machines_clock_moves_no_trade_until_it_is_followed(machine: Machine) -> None:
    clock = machine.clock()
    machine.set_forward = MINUTE
    assert (clock.now(), clock.step(), clock.seconds_until(NOON + MINUTE)) == (NOON, MINUTE, 60)
    clock.follow(clock.step())
    assert (clock.now(), clock.step(), clock.seconds_until(NOON + MINUTE)) == (NOON + MINUTE, timedelta(0), 0)


def test_what_was_confirmed_holds_for_the_next_process_but_not_after_a_reboot(machine: Machine) -> None:
    machine.clock().confirm()
    machine.set_forward = MINUTE
    assert machine.clock().now() == NOON
    assert machine.clock("b2").now() == NOON + MINUTE


def test_what_was_not_confirmed_is_not_kept(machine: Machine) -> None:
    machine.clock().follow(MINUTE)
    assert machine.clock().now() == NOON


def test_a_memory_that_cannot_be_read_is_none(machine: Machine) -> None:
    machine.memory.write_text("{")
    machine.set_forward = MINUTE
    assert machine.clock().now() == NOON + MINUTE
