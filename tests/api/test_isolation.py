"""S9: every address of the API, asked as the wrong user. A new address that is not walked here fails the test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.core.access import Role
from squareoff.core.types import AccountId, RunId, StrategyId, UserId
from tests.api.client import Browser
from tests.api.conftest import INFY, Served
from tests.apps.runs import put_into
from tests.apps.test_daily_command import held

SECRET_WORD = "berta-only"
"""In everything that is Berta's: no answer to Anna may hold it."""

PATHS = {"strategy_id": "{strategy}", "run_id": "{run}", "account": SECRET_WORD, "token_id": "{token}",
         "user_id": "{user}", "replay_id": "{replay}"}  # fmt: skip
BODIES: dict[str, Any] = {
    "PUT strategies/{strategy_id}": {"quantity": "7", "revision": 0},
    "POST strategies/{strategy_id}/edit-preview": {"quantity": "7"},
    "POST strategies/{strategy_id}/duplicate": {"name": "mine-now"},
    "POST strategies/{strategy_id}/stop": {"how": "square_off"},
    "POST strategies/check": {**INFY, "id": "{strategy}"},
    "PUT accounts/{account}/limits": {"max_order_qty": "1"},
    "POST accounts/{account}/release": {"reason": "mine"},
    "POST kill": {"level": "square_off", "accounts": [SECRET_WORD]},
    "PATCH users/{user_id}": {"disabled": True},
}
OF_NOBODY = {"health", "version", "readiness", "session", "password", "tokens", "users", "sessions", "alerts/test",
             "strategies/import", "accounts", "strategies", "replays"}  # fmt: skip
"""Addresses that name nobody's things: they are asked too, but only for what they tell."""


@pytest.fixture
def berta(served: Served) -> dict[str, Any]:
    """Everything that one user can have."""
    browser = served.user("berta")
    browser.post("accounts", {"name": SECRET_WORD})
    strategy = browser.post("strategies", {**INFY, "name": SECRET_WORD, "account": SECRET_WORD})
    user = next(user.id for user in served.desk.access.users() if user.name == "berta")
    run = held()
    plan = replace(
        run.plan,
        run_id=RunId(77),
        strategy_id=StrategyId(strategy["id"]),
        user=UserId(user),
        account=AccountId(SECRET_WORD),
        name=SECRET_WORD,
    )
    put_into(served.data / "squareoff.db", replace(run, plan=plan, key="BERTA"), [], AccountId(SECRET_WORD))
    replay = browser.post("replays", {"toml": f'[[strategy]]\nname = "{SECRET_WORD}"'})
    token = browser.post("tokens", {"name": SECRET_WORD})
    return {
        "browser": browser,
        "strategy": strategy["id"],
        "run": 77,
        "user": user,
        "replay": replay["id"],
        "token": token["id"],
    }


def addresses(browser: Browser) -> Iterator[tuple[str, str]]:
    for path, methods in browser.get("openapi.json")["paths"].items():
        for method in methods:
            yield method.upper(), path.removeprefix("/api/v1/")


def test_every_address_asked_as_the_wrong_user_tells_and_changes_nothing(served: Served, berta: dict[str, Any]) -> None:
    anna = served.user("anna")
    before = state_of(served, berta)
    walked, told = [], []
    for method, path in sorted(addresses(anna)):
        if path == "events" or (method, path) in {("DELETE", "session"), ("DELETE", "sessions"), ("PUT", "password")}:
            continue  # her own session; the stream is asked below
        names = {name: value.format(**berta) for name, value in PATHS.items()}
        body = BODIES.get(f"{method} {path}")
        if isinstance(body, dict):
            body = {k: v.format(**berta) if isinstance(v, str) else v for k, v in body.items()}
            body = {k: int(v) if k == "id" else v for k, v in body.items()}
        answer = anna(method, path.format(**names), body if body is not None or method == "GET" else {})
        walked.append(path)
        told.append((method, path, answer.status, answer.text))
        if "{" in path:
            assert answer.status in (403, 404), (method, path, answer.status, answer.text)
    assert [(m, p, s) for m, p, s, text in told if SECRET_WORD in _without_our_words(text)] == []
    for query in ("journal?run_id={run}", "journal?strategy_id={strategy}", "journal?q=berta", "runs?limit=500"):
        assert SECRET_WORD not in anna("GET", query.format(**berta)).text
    assert anna("GET", "runs?strategy_id={strategy}".format(**berta)).status == 404
    assert state_of(served, berta) == before
    assert {path for path in walked if "{" not in path} >= OF_NOBODY - {"session", "password"}


def _without_our_words(text: str) -> str:
    """What she wrote herself comes back in an error: "there is no account 'berta-only'"."""
    return "" if '"error"' in text else text


def state_of(served: Served, berta: dict[str, Any]) -> tuple[Any, ...]:
    store: StrategyStore = served.desk.store(UserId(berta["user"]))
    tokens = [(t.id, t.revoked_at) for t in served.desk.access.tokens(UserId(berta["user"]))]
    user = served.desk.access.user(UserId(berta["user"]))
    return (store.list(), store.runs(), store.all_rules(), store.pending_wishes(), tokens, user)


def test_the_stream_and_the_pages_tell_only_what_is_ones_own(served: Served, berta: dict[str, Any]) -> None:
    anna = served.user("anna")
    events = anna.events()
    document = events.until(lambda _: True)
    assert document["rows"] == {}
    assert document["accounts"] == []
    mine = berta["browser"].events()
    assert [row["name"] for row in mine.until(lambda _: True)["rows"].values()] == [SECRET_WORD]
    events.close()
    mine.close()


def test_an_admin_administers_users_and_trades_nobody_elses_strategies(served: Served, berta: dict[str, Any]) -> None:
    boss = served.user("boss", Role.ADMIN)
    assert boss("GET", f"strategies/{berta['strategy']}").status == 404
    assert boss("POST", f"strategies/{berta['strategy']}/stop", {"how": "square_off"}).status == 404
    assert boss("POST", "kill", {"level": "square_off", "accounts": [SECRET_WORD]}).status == 422


def test_the_same_key_of_two_users_is_two_keys(served: Served) -> None:
    anna, boss = served.user("anna"), served.user("boss")
    first = anna("POST", "accounts", {"name": "annas"}, Idempotency_Key="k")
    second = boss("POST", "accounts", {"name": "bosses"}, Idempotency_Key="k")
    assert (first.json["id"], second.json["id"]) == ("annas", "bosses")
