"""`squareoff accounts`: made, listed, and refused by name."""

from __future__ import annotations

from decimal import Decimal

import pytest

from squareoff import wiring
from squareoff.config import Config
from squareoff.core.types import AccountId
from tests.apps.conftest import Squareoff


def test_there_is_one_account_from_the_start(squareoff: Squareoff) -> None:
    (row,) = squareoff.json("accounts")
    assert (row["name"], row["broker"], row["kill_switch"], row["worker"]) == ("paper", "paper", "normal", None)
    assert (row["starting_cash"], row["free"]) == ("1000000", None)


def test_an_account_is_made_with_its_money_and_a_strategy_can_trade_on_it(squareoff: Squareoff) -> None:
    answer = squareoff("accounts", "add", "second", "--cash", "2,50,000")
    assert answer.output == "added second: a paper account with 250,000.00; it trades when `squareoff up` runs\n"
    assert [row["name"] for row in squareoff.json("accounts")] == ["paper", "second"]
    assert wiring.paper_accounts(Config(data=squareoff.data))[AccountId("second")].cash == Decimal(250000)
    terms = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1%", "--account", "second")
    assert squareoff("add", "noon", "NSE:SHARE", "1", *terms).status == 0
    assert squareoff("limits", "--account", "second", "--max-open-positions", "2").status == 0
    refused = squareoff("limits", "--max-open-positions", "2")
    assert refused.errors == "squareoff: account: there are several; --account with one of paper, second\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("paper",), "there is an account 'paper' already"),
        (("PAPER",), "'PAPER' differs from your account 'paper' by capitals only"),
        (("a/b",), "'a/b' is not a name"),
        (("x", "--cash", "-5"), "'-5' is not an amount"),
        (("x", "--cash", "lots"), "'lots' is not an amount"),
    ],
)
def test_what_cannot_be_an_account_is_refused_and_nothing_is_made(
    squareoff: Squareoff, words: tuple[str, ...], says: str
) -> None:
    answer = squareoff("accounts", "add", *words)
    assert answer.status == 2
    assert says in answer.errors
    assert [row["name"] for row in squareoff.json("accounts")] == ["paper"]


def test_kill_with_several_accounts_must_say_which(squareoff: Squareoff) -> None:
    squareoff("accounts", "add", "second")
    refused = squareoff("kill", "--entries", "--yes")
    assert (refused.status, "--all, or --account with one of paper, second" in refused.errors) == (2, True)
    assert squareoff("kill", "--entries", "--all", "--yes", "--reason", "x").status == 0
    assert [row["kill_switch"] for row in squareoff.json("accounts")] == ["no_entries", "no_entries"]
    status = squareoff("status").output
    assert "THE KILL SWITCH OF paper IS ON" in status
    assert "THE KILL SWITCH OF second IS ON" in status
    assert squareoff("release", "second", "--reason", "checked").status == 0
    assert [row["kill_switch"] for row in squareoff.json("accounts")] == ["no_entries", "normal"]
