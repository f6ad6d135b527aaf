"""Who guesses has to wait; who only mistypes has not."""

from __future__ import annotations

from squareoff.core.throttle import Throttle

ASHA = "asha from 10.0.0.1"


def failing(throttle: Throttle, times: int, *, key: str = ASHA, at_s: float = 0.0) -> None:
    for _ in range(times):
        throttle.failed(key, at_s)


def test_a_few_wrong_passwords_cost_no_wait() -> None:
    throttle = Throttle(tries=5, per_s=60)
    failing(throttle, 4)
    assert throttle.wait_s(ASHA, 0) == 0


def test_each_further_one_costs_twice_the_pause_up_to_the_longest() -> None:
    throttle = Throttle(tries=5, per_s=60, first_pause_s=2, longest_pause_s=20)
    failing(throttle, 5)
    waits = [throttle.wait_s(ASHA, 0)]
    for _ in range(5):
        failing(throttle, 1)
        waits.append(throttle.wait_s(ASHA, 0))
    assert waits == [2, 4, 8, 16, 20, 20]


def test_a_pause_that_is_over_is_over_but_the_next_one_is_longer_still() -> None:
    throttle = Throttle(tries=5, per_s=60, first_pause_s=2)
    failing(throttle, 6)
    assert (throttle.wait_s(ASHA, 1), throttle.wait_s(ASHA, 4)) == (3, 0)
    failing(throttle, 1, at_s=100)  # beyond `per_s`: who has guessed so often is not forgotten so soon
    assert throttle.wait_s(ASHA, 100) == 8


def test_wrong_ones_long_apart_are_no_guessing() -> None:
    throttle = Throttle(tries=5, per_s=60)
    for minute in range(20):
        throttle.failed(ASHA, minute * 61.0)
    assert throttle.wait_s(ASHA, 20 * 61.0) == 0


def test_the_right_password_makes_all_forgotten() -> None:
    throttle = Throttle(tries=5)
    failing(throttle, 9)
    throttle.passed(ASHA)
    assert (throttle.wait_s(ASHA, 0), len(throttle)) == (0, 0)


def test_guessing_is_forgotten_after_a_long_quiet_time() -> None:
    throttle = Throttle(tries=5, forget_after_s=3600)
    failing(throttle, 9)
    assert throttle.wait_s(ASHA, 3600) == 0
    failing(throttle, 4, at_s=3600)
    assert throttle.wait_s(ASHA, 3600) == 0


def test_one_who_guesses_does_not_lock_out_another() -> None:
    throttle = Throttle()
    failing(throttle, 50)
    assert throttle.wait_s("asha from 10.0.0.2", 0) == 0


def test_a_thousand_failures_do_not_overflow_the_pause() -> None:
    throttle = Throttle(longest_pause_s=300)
    failing(throttle, 5000)
    assert throttle.wait_s(ASHA, 0) == 300


def test_its_memory_is_bounded_and_the_quietest_is_forgotten_first() -> None:
    throttle = Throttle(tries=1, keys_max=3)
    for number, key in enumerate(("a", "b", "c", "a", "d")):
        throttle.failed(key, float(number))
    assert len(throttle) == 3
    assert [throttle.wait_s(key, 4.0) > 0 for key in "abcd"] == [True, False, False, True]
    throttle.failed("x" * 1_000_000, 5.0)
    assert max(map(len, throttle._known)) <= 256
