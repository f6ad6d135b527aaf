"""Strategies over HTTP: saved whole or not at all, wished once, and never changed under somebody's hands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.rows import update_run
from squareoff.core.events import Event
from squareoff.core.types import UserId
from tests.api.client import Browser
from tests.api.conftest import INFY, Served
from tests.apps.runs import put_into
from tests.apps.test_daily_command import held, ready, sold
from tests.apps.test_status_command import of_strategy

Added = Callable[..., int]


def fields_of(error: dict[str, object]) -> list[str]:
    return [each["field"] for each in error["fields"]]  # type: ignore[index, attr-defined]


def test_a_strategy_is_added_changed_and_archived(browser: Browser) -> None:
    made = browser.post("strategies", INFY)
    assert (made["name"], made["quantity"], made["stop_loss"], made["state"]) == ("morning", "50", "1540", "created")
    changed = browser("PUT", f"strategies/{made['id']}", {"stop_loss": "1.5%", "revision": made["revision"]})
    assert (changed.status, changed.json["stop_loss"], changed.json["quantity"]) == (200, "1.5%", "50")
    assert browser("DELETE", f"strategies/{made['id']}").status == 204
    assert browser.get("strategies") == {"strategies": []}


@pytest.mark.parametrize(
    ("wrong", "field", "says"),
    [
        ({"quantity": "-5"}, "quantity", "is negative"),
        ({"quantity": 0}, "quantity", "is zero"),
        ({"quantity": 1.5}, "quantity", "is a fraction"),
        ({"stop_loss": "1539.99"}, "stop_loss", "off the tick"),
        ({"sell_time": "15:30"}, "sell_time", "is outside the session"),
        ({"sell_time": "09:00"}, "sell_time", "is not after buy_time"),
        ({"symbol": "NSE:NOPE"}, "symbol", "is not in the list of instruments"),
        ({"account": "nobody"}, "account", "there is no account"),
        ({"buy_time": None}, "buy_time", "is missing"),
        ({"quantitty": "5"}, "quantitty", "extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_saved(
    browser: Browser, wrong: dict[str, object], field: str, says: str
) -> None:
    answer = browser("POST", "strategies", {**INFY, **wrong})
    assert answer.status == 422
    assert fields_of(answer.error) == [field]
    assert says in answer.error["fields"][0]["wrong"]
    assert browser.get("strategies") == {"strategies": []}


def test_a_check_says_everything_that_is_wrong_at_once(browser: Browser) -> None:
    wrong = {**INFY, "quantity": "x", "stop_loss": "0", "sell_time": "25:00", "account": "nobody"}
    told = browser.post("strategies/check", wrong)
    assert [each["field"] for each in told["fields"]] == ["quantity", "sell_time", "stop_loss"]
    told = browser.post("strategies/check", {**INFY, "account": "nobody"})
    assert [each["field"] for each in told["fields"]] == ["account"]
    assert browser.get("strategies") == {"strategies": []}


def test_a_check_of_what_is_right_says_what_it_would_do_and_when(browser: Browser) -> None:
    told = browser.post("strategies/check", {**INFY, "stop_loss": "20pts"})
    assert told["fields"] == []
    assert told["sentence"].startswith("buy 50 NSE:SHARE at 09:20:00, sell at 15:10:00, stop-loss 20pts")
    assert told["risk"]["loss_at_stop"] == "1000"  # 20 points, 50 shares
    assert told["when"]["day"] == "2026-11-23"
    assert told["when"]["buy_at"] == "2026-11-23T09:20:00+05:30"
    assert (told["lot"], told["tick"]) == ("1", "0.05")
    assert {check["name"] for check in told["checks"]} >= {"calendar", "session", "instrument", "token", "funds"}


def test_a_check_while_editing_does_not_take_the_name_for_another_ones(browser: Browser, added: Added) -> None:
    id_ = added()
    assert browser.post("strategies/check", {**INFY, "id": id_})["fields"] == []
    assert fields_of(browser.post("strategies/check", INFY)) == ["name"]


def test_of_two_tabs_the_slower_one_is_told_and_saves_nothing(browser: Browser, added: Added) -> None:
    id_ = added()
    first = browser("PUT", f"strategies/{id_}", {"quantity": "10", "revision": 0})
    second = browser("PUT", f"strategies/{id_}", {"quantity": "99", "revision": 0})
    assert (first.status, second.status, second.error["code"]) == (200, 409, "conflict")
    assert second.error["current"]["quantity"] == "10"
    assert browser.get(f"strategies/{id_}")["quantity"] == "10"


def test_what_an_edit_would_change_is_shown_before(browser: Browser, added: Added, served: Served) -> None:
    id_ = added()
    put_into(served.data / "squareoff.db", of_strategy(held(), id_), [])
    told = browser.post(f"strategies/{id_}/edit-preview", {"stop_loss": "1530", "quantity": "60"})
    assert {each["field"]: each["when"].partition(":")[0] for each in told["changes"]} == {
        "stop_loss": "at once, for what is held too",
        "quantity": "from the next run on",
    }
    assert browser.get(f"strategies/{id_}")["stop_loss"] == "1540"


def test_strategies_go_out_as_a_file_and_come_in_again(browser: Browser, added: Added) -> None:
    added("one")
    added("two", repeat="daily", until="2026-12-31", stop_loss="20pts")
    text = browser("GET", "strategies.toml").text
    for id_ in (1, 2):
        assert browser("DELETE", f"strategies/{id_}").status == 204
    back = browser.post("strategies/import", {"toml": text})["strategies"]
    assert [(s["name"], s["repeat"], s["until"], s["stop_loss"]) for s in back] == [
        ("one", "once", None, "1540"),
        ("two", "daily", "2026-12-31", "20pts"),
    ]


def test_a_file_with_one_mistake_saves_nothing_and_names_its_place(browser: Browser) -> None:
    toml = '[[strategy]]\nname = "a"\nsymbol = "NSE:SHARE"\nquantity = 1\nbuy_time = "09:20"\nsell_time = "15:10"\n'
    toml += 'stop_loss = "1%"\n' + toml.replace('"a"', '"b"') + 'stop_loss = "nothing"\n'
    answer = browser("POST", "strategies/import", {"toml": toml})
    assert answer.status == 422
    assert answer.error["fields"][0]["field"] == "file, strategy 2 (line 8): stop_loss"
    assert browser.get("strategies") == {"strategies": []}


def test_a_duplicate_is_a_strategy_of_its_own(browser: Browser, added: Added) -> None:
    copy = browser.post(f"strategies/{added()}/duplicate", {"name": "again"})
    assert (copy["name"], copy["stop_loss"], copy["state"]) == ("again", "1540", "created")
    assert browser("POST", f"strategies/{copy['id']}/duplicate", {"name": "again"}).status == 422


# ------------------------------------------------------------------ wishes


def wishes(served: Served) -> list[Event]:
    return [wish.event for wish in served.desk.store(UserId(1)).pending_wishes()]


def test_start_is_saved_once_however_often_it_is_pressed(browser: Browser, added: Added, served: Served) -> None:
    id_ = added()
    told = [browser.post(f"strategies/{id_}/start")["result"] for _ in range(3)]
    assert told == ["saved", "already", "already"]
    assert wishes(served) == [Event.START]
    assert browser.get("today")["rows"][str(id_)]["pending"] == "START"


def test_a_request_that_is_sent_twice_acts_once(browser: Browser, added: Added, served: Served) -> None:
    id_ = added()
    put_into(served.data / "squareoff.db", of_strategy(held(), id_), [])
    answers = [browser("POST", f"strategies/{id_}/stop", {}, Idempotency_Key="press-1") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert len({answer.text for answer in answers}) == 1
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true", "true"]
    assert wishes(served) == [Event.STOP]


def test_a_key_that_was_used_for_something_else_is_refused(browser: Browser, added: Added) -> None:
    one, other = added("one"), added("two")
    assert browser("POST", f"strategies/{one}/start", {}, Idempotency_Key="k").status == 200
    answer = browser("POST", f"strategies/{other}/start", {}, Idempotency_Key="k")
    assert (answer.status, answer.error["fields"][0]["field"]) == (422, "idempotency-key")


def test_what_was_refused_may_be_sent_again_with_the_same_key(browser: Browser) -> None:
    assert browser("POST", "strategies", {**INFY, "quantity": "0"}, Idempotency_Key="k").status == 422
    assert browser("POST", "strategies", INFY, Idempotency_Key="k").status == 201


def test_of_a_request_that_died_underway_nothing_is_guessed(browser: Browser, added: Added, served: Served) -> None:
    """Begun, and no answer was ever written: it may have acted."""
    import hashlib

    id_ = added()
    path = f"/api/v1/strategies/{id_}/start"
    digest = hashlib.sha256(b"\n".join((b"POST", path.encode(), b"{}"))).hexdigest()
    served.desk.access.begin_answer(UserId(1), "k", digest)
    answer = browser("POST", path, {}, Idempotency_Key="k")
    assert (answer.status, answer.error["code"]) == (409, "conflict")
    assert "outcome is not known" in answer.error["message"]
    assert wishes(served) == []


def test_a_start_that_no_worker_took_up_is_taken_back(browser: Browser, added: Added, served: Served) -> None:
    id_ = added()
    browser.post(f"strategies/{id_}/start")
    assert browser.post(f"strategies/{id_}/stop")["result"] == "taken_back"
    assert wishes(served) == []
    assert browser.post(f"strategies/{id_}/stop")["result"] == "not_started"


def test_only_what_is_simply_held_can_be_handed_over(browser: Browser, added: Added, served: Served) -> None:
    id_ = added()
    put_into(served.data / "squareoff.db", of_strategy(ready(), id_), [])
    answer = browser("POST", f"strategies/{id_}/stop", {"how": "hand_over"})
    assert (answer.status, fields_of(answer.error)) == (422, ["how"])
    with Database.open(served.data / "squareoff.db").write() as connection:
        update_run(connection, replace(of_strategy(held(), id_), version=99))
    assert browser.post(f"strategies/{id_}/stop", {"how": "hand_over"})["result"] == "saved"
    assert wishes(served) == [Event.HAND_OVER]


def test_a_strategy_that_holds_is_not_archived(browser: Browser, added: Added, served: Served) -> None:
    id_ = added()
    put_into(served.data / "squareoff.db", of_strategy(held(), id_), [])
    answer = browser("DELETE", f"strategies/{id_}")
    assert answer.status == 422
    assert "is not closed" in answer.error["message"]
    assert [each["id"] for each in browser.get("strategies")["strategies"]] == [id_]


# ------------------------------------------------------------------ accounts and the switch


def test_the_kill_switch_is_latched_until_it_is_released_with_a_reason(
    browser: Browser, added: Added, served: Served
) -> None:
    put_into(served.data / "squareoff.db", of_strategy(held(), added()), [])
    told = browser.post("kill", {"level": "square_off", "accounts": ["paper"], "reason": "news"})
    assert told["accounts"] == [{"account": "paper", "file": True, "database": True, "why_not": ""}]
    assert told["would_sell"] == ["morning: you hold shares 50 NSE:INFY, stop-loss 1,539.00"]
    assert browser.get("accounts")["accounts"][0]["level"] == "square_off"
    document = browser.get("today")
    assert document["kill"]["pressed"] is True
    assert "kill:paper" in [need["key"] for need in document["needs"]]
    assert browser("POST", "accounts/paper/release", {"reason": " "}).status == 422
    assert browser.post("accounts/paper/release", {"reason": "looked"})["level"] == "normal"


def test_limits_are_exact_and_a_wrong_one_changes_nothing(browser: Browser) -> None:
    limits = {"max_loss_per_day": "5000.50", "max_open_positions": 3, "square_off_at_loss": True}
    told = browser("PUT", "accounts/paper/limits", limits).json["limits"]
    assert (told["max_loss_per_day"], told["max_open_positions"]) == ("5000.5", 3)
    for wrong in ({"max_loss_per_day": "-1"}, {"max_open_positions": "1.5"}, {"square_off_at_loss": True}):
        assert browser("PUT", "accounts/paper/limits", wrong).status == 422
    assert browser.get("accounts")["accounts"][0]["limits"] == told


def test_the_days_money_is_what_the_fills_say(browser: Browser, added: Added, served: Served) -> None:
    put_into(served.data / "squareoff.db", of_strategy(sold(), added("one")), [])
    put_into(served.data / "squareoff.db", of_strategy(held(), added("two")), [])
    browser("PUT", "accounts/paper/limits", {"max_loss_per_day": "5000"})
    day = browser.get("pnl")["day"]
    assert (day["pnl_closed"], day["limit"], day["left_of_limit"]) == ("380", "5000", "5380")
    at_stop = (Decimal("1539") - Decimal("1562.40")) * 50 + 380
    assert Decimal(day["loss_if_stopped"]) == at_stop


def test_a_sentence_about_many_positions_stays_a_sentence(browser: Browser, added: Added, served: Served) -> None:
    for number in range(1, 9):
        put_into(served.data / "squareoff.db", of_strategy(held(), added(f"s{number}")), [])
    document = browser.get("today")
    assert document["kill"]["text"].startswith("would sell 8 positions: 50 NSE:INFY, ")
    assert document["kill"]["text"].endswith("and 3 more")
    (need,) = [need for need in document["needs"] if need["key"] == "unguarded:paper"]
    assert need["text"].count(" holds ") == 5
    assert need["text"].endswith("and 3 more")
