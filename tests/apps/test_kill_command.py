"""The kill switch and the limits at the keyboard."""

from __future__ import annotations

import pytest

from squareoff import wiring
from squareoff.apps import kill_command
from squareoff.core.definition import DEFAULT_ACCOUNT
from squareoff.core.limits import Level
from squareoff.errors import RecordsUnavailable
from tests.apps.conftest import Squareoff
from tests.apps.test_daily_command import held, ready
from tests.apps.test_status_command import add, put


def level_of(squareoff: Squareoff) -> tuple[Level, Level]:
    """In SQL, and in the file."""
    config = wiring.Config(data=squareoff.data)
    store = wiring.open_strategy_store(config)
    in_sql = store.rules(DEFAULT_ACCOUNT).level
    store.close()
    return in_sql, wiring.brake(config, DEFAULT_ACCOUNT).level()


def test_how_far_has_to_be_said(squareoff: Squareoff) -> None:
    answer = squareoff("kill")
    assert answer.status == 2
    assert "--entries" in answer.errors
    assert "--square-off" in answer.errors
    assert squareoff("kill", "--entries", "--square-off").status == 2
    assert level_of(squareoff) == (Level.NORMAL, Level.NORMAL)


def test_no_entries_shows_what_runs_on_and_is_latched_in_both_places(squareoff: Squareoff) -> None:
    add(squareoff, "held")
    put(squareoff, held(), 1)
    answer = squareoff("kill", "--entries", "--reason", "news")
    assert answer.status == 0
    assert "What is held runs on to its exit:\n  morning: " in answer.output
    assert level_of(squareoff) == (Level.NO_ENTRIES, Level.NO_ENTRIES)


def test_with_nothing_alive_and_something_held_it_says_that_nothing_can_be_sold_from_here(squareoff: Squareoff) -> None:
    add(squareoff, "held")
    put(squareoff, held(), 1)
    answer = squareoff("kill", "--square-off", "--reason", "news")
    assert answer.status == 1
    assert "nothing can be sold from here" in answer.output
    assert "STILL morning: " in answer.output
    assert level_of(squareoff) == (Level.SQUARE_OFF, Level.SQUARE_OFF)


def test_with_nothing_held_it_is_done_at_once(squareoff: Squareoff) -> None:
    add(squareoff, "waits")
    put(squareoff, ready(), 1)
    answer = squareoff("kill", "--square-off", "--reason", "news")
    assert answer.status == 0
    assert "nothing is held" in answer.output


def test_with_the_database_down_it_is_pressed_all_the_same_and_claims_nothing(
    squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(_: object) -> object:
        raise RecordsUnavailable("the disk is on fire")

    monkeypatch.setattr(wiring, "open_strategy_store", down)
    monkeypatch.setattr(kill_command, "UNKNOWN_WITHIN_S", 0.1)
    answer = squareoff("kill", "--square-off", "--reason", "news")
    assert answer.status == 1
    assert "nothing proves here that it is flat. Look at your broker." in answer.output
    assert wiring.brake(wiring.Config(data=squareoff.data), DEFAULT_ACCOUNT).level() is Level.SQUARE_OFF


def test_release_needs_a_name_and_a_reason(squareoff: Squareoff) -> None:
    squareoff("kill", "--entries", "--reason", "news")
    assert squareoff("release", "paper").status == 2
    assert squareoff("release", "papr", "--reason", "ok").status == 2
    assert level_of(squareoff)[0] is Level.NO_ENTRIES
    answer = squareoff("release", "paper", "--reason", "checked")
    assert answer.output == "paper may enter again (it was no_entries: news).\n"
    assert level_of(squareoff) == (Level.NORMAL, Level.NORMAL)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--max-order-qty", "many"), "max_order_qty"),
        (("--max-order-value", "-5"), "max_order_value"),
        (("--max-open-positions", "1.5"), "max_open_positions"),
        (("--square-off-at-loss",), "square_off_at_loss"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_its_name(
    squareoff: Squareoff, words: tuple[str, ...], field: str
) -> None:
    answer = squareoff("limits", *words)
    assert answer.status == 2
    assert answer.errors.startswith(f"squareoff: {field}: ")


def test_limits_are_kept_shown_and_taken_away_by_name(squareoff: Squareoff) -> None:
    told = squareoff.json("limits", "--max-order-value", "100000", "--max-open-positions", "5")
    assert (told["max_order_value"], told["max_open_positions"], told["max_order_qty"]) == ("100000", 5, None)
    assert "value of one order            100,000.00" in squareoff("limits").output
    assert squareoff.json("limits", "--max-open-positions", "none")["max_open_positions"] is None
