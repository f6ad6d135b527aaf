"""Nobody else gets in: sign-in, tokens, other pages, other users."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from squareoff.apps.api.shield import HEADERS, MOST_BYTES
from squareoff.core.access import Role
from squareoff.core.types import UserId
from tests.api.client import Browser
from tests.api.conftest import INFY, PASSWORD, Served, serving


def test_without_signing_in_nothing_is_told(served: Served) -> None:
    for path in ("today", "strategies", "events", "settings", "audit", "metrics"):
        answer = served.browser()("GET", path)
        assert (answer.status, answer.error["code"], answer.error["login"]) == (401, "unauthenticated", "link")


def test_monitors_may_ask_for_health_and_version_without_signing_in(served: Served) -> None:
    stranger = served.browser()
    assert stranger.get("health") == {"status": "ok"}
    assert set(stranger.get("version")) == {"version", "api"}
    answer = stranger("GET", "readiness")
    assert (answer.status, answer.json["ready"]) == (503, False)  # `squareoff up` does not run here


def test_a_link_opens_once(served: Served) -> None:
    key = served.desk.access.make_link(UserId(1))
    first, second = served.browser(), served.browser()
    assert first.sign_in(key=key).status == 201
    assert second.sign_in(key=key).status == 401
    assert first.get("session")["user"]["name"] == "local"


def test_a_key_for_a_request_does_no_harm_where_nobody_is_known_yet(served: Served) -> None:
    browser = served.browser()
    key = served.desk.access.make_link(UserId(1))
    assert browser("POST", "session", {"key": key}, Idempotency_Key="press-1").status == 201


def test_the_session_is_a_cookie_no_script_can_read_and_no_other_site_can_send(served: Served) -> None:
    answer = served.browser().sign_in(key=served.desk.access.make_link(UserId(1)))
    told = answer.headers["Set-Cookie"]
    assert "HttpOnly" in told
    assert "SameSite=strict" in told
    assert answer.headers["Cache-Control"] == "no-store"


def test_links_open_nothing_where_others_can_reach_us(data: Path) -> None:
    with serving(data, loopback=False) as served:
        assert served.browser().sign_in(key=served.desk.access.make_link(UserId(1))).status == 401


def test_a_second_user_ends_one_time_links(served: Served) -> None:
    key = served.desk.access.make_link(UserId(1))
    served.desk.access.add_user("anna", PASSWORD, Role.TRADER)
    answer = served.browser().sign_in(key=key)
    assert (answer.status, answer.error["login"]) == (401, "password")
    assert served.browser().sign_in(name="anna", password=PASSWORD).status == 201


def test_a_wrong_password_is_refused_like_an_unknown_name(served: Served) -> None:
    served.desk.access.add_user("anna", PASSWORD, Role.TRADER)
    wrong = served.browser().sign_in(name="anna", password="not my sentence")
    unknown = served.browser().sign_in(name="berta", password="not my sentence")
    assert (wrong.status, wrong.error["message"]) == (unknown.status, unknown.error["message"])
    assert wrong.status == 401


def test_who_guesses_has_to_wait(served: Served) -> None:
    served.desk.access.add_user("anna", PASSWORD, Role.TRADER)
    answers = [served.browser().sign_in(name="anna", password=f"guess number {n}") for n in range(8)]
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 3
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert served.browser().sign_in(name="anna", password=PASSWORD).status == 429  # the right one has to wait too


def test_a_change_needs_the_csrf_token(browser: Browser) -> None:
    answer = browser("POST", "strategies", INFY, X_CSRF_Token="wrong")
    assert (answer.status, answer.error["code"]) == (403, "forbidden")
    assert "X-CSRF-Token" in answer.error["message"]
    assert browser.get("strategies") == {"strategies": []}


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_a_page_of_somebody_else_changes_nothing(browser: Browser, header: dict[str, str]) -> None:
    answer = browser("POST", "strategies", INFY, **header)
    assert (answer.status, answer.error["code"]) == (403, "forbidden")
    assert browser.get("strategies") == {"strategies": []}


@pytest.mark.parametrize("host", ["elsewhere.example", "elsewhere.example:80", "127.0.0.1", ""])
def test_a_name_that_was_pointed_at_us_is_not_served(browser: Browser, host: str) -> None:
    """DNS rebinding: the browser believes that it talks to somebody else's site."""
    assert browser("GET", "today", Host=host).status == 403


def test_every_answer_forbids_scripts_and_frames_of_others(browser: Browser) -> None:
    for path in ("/", "today", "nowhere", "health"):
        headers = browser("GET", path).headers
        assert {name: headers[name] for name in HEADERS} == HEADERS
    assert "'unsafe" not in HEADERS["Content-Security-Policy"]


def test_what_is_too_large_is_refused(browser: Browser) -> None:
    answer = browser("POST", "strategies/import", b"{", Content_Length=str(MOST_BYTES + 1))
    assert (answer.status, answer.error["code"]) == (413, "too_large")


def test_signing_out_ends_the_session(browser: Browser) -> None:
    assert browser("DELETE", "session").status == 204
    assert browser("GET", "today").status == 401


def test_signing_out_everywhere_ends_every_session(served: Served) -> None:
    one, other = served.signed_in(), served.signed_in()
    assert one("DELETE", "sessions").status == 204
    assert (one("GET", "today").status, other("GET", "today").status) == (401, 401)


def test_a_new_password_ends_links_and_sessions(browser: Browser, served: Served) -> None:
    assert browser("PUT", "password", {"new": "short"}).error["fields"][0]["field"] == "new"
    assert browser("PUT", "password", {"new": PASSWORD}).status == 204
    assert browser("GET", "today").status == 401
    again = served.browser()
    assert again.sign_in(name="local", password=PASSWORD).status == 201
    answer = again("PUT", "password", {"old": "wrong sentence", "new": "another long sentence"})
    assert answer.error["fields"][0]["field"] == "old"


# ------------------------------------------------------------------ tokens


def test_a_token_does_what_its_scope_says(browser: Browser, served: Served) -> None:
    def program(scope: str) -> Browser:
        return Browser(port=served.port, token=browser.post("tokens", {"name": scope, "scope": scope})["token"])

    reads, trades, administers = program("read"), program("trade"), program("admin")
    assert [each("GET", "today").status for each in (reads, trades, administers)] == [200, 200, 200]
    assert reads("POST", "strategies", INFY).status == 403
    assert trades("POST", "strategies", INFY).status == 201
    assert (trades("GET", "users").status, administers("GET", "users").status) == (403, 200)
    assert trades("POST", "tokens", {"name": "more", "scope": "admin"}).status == 403  # it makes no stronger one


def test_a_revoked_token_opens_nothing(browser: Browser, served: Served) -> None:
    made = browser.post("tokens", {"name": "script"})
    program = Browser(port=served.port, token=made["token"])
    assert program("GET", "today").status == 200
    assert browser("DELETE", f"tokens/{made['id']}").status == 204
    assert program("GET", "today").status == 401
    assert browser.get("tokens") == {"tokens": []}
    assert browser("DELETE", "tokens/99").status == 404


# ------------------------------------------------------------------ users


def test_only_an_admin_sees_and_changes_users(served: Served) -> None:
    anna, boss = served.user("anna"), served.user("boss", Role.ADMIN)
    assert anna("GET", "users").status == 403
    assert anna("POST", "users", {"name": "x", "password": PASSWORD}).status == 403
    made = boss.post("users", {"name": "berta", "password": PASSWORD})
    assert boss("PATCH", f"users/{made['id']}", {"disabled": True}).json["disabled"] is True
    assert served.browser().sign_in(name="berta", password=PASSWORD).status == 401
    assert boss("PATCH", "users/99", {"disabled": True}).status == 404


def test_a_second_user_is_added_only_when_the_first_can_still_sign_in(browser: Browser) -> None:
    answer = browser("POST", "users", {"name": "anna", "password": PASSWORD})
    assert (answer.status, answer.error["fields"][0]["field"]) == (422, "password")


def test_what_was_done_is_written_down(browser: Browser, added: Callable[..., int]) -> None:
    id_ = added()
    browser.post(f"strategies/{id_}/start")
    done = [(entry["action"], entry["target"]) for entry in browser.get("audit")["entries"]]
    assert done[:3] == [("start", "morning"), ("add strategy", "morning"), ("sign in", "local")]
    assert {entry["address"] for entry in browser.get("audit")["entries"]} == {"127.0.0.1"}


def test_others_see_only_their_own_lines_of_the_audit(served: Served) -> None:
    anna, boss = served.user("anna"), served.user("boss", Role.ADMIN)
    assert {entry["user"] for entry in anna.get("audit")["entries"]} == {"anna"}
    assert {entry["user"] for entry in boss.get("audit")["entries"]} == {"anna", "boss"}


# ------------------------------------------------------------------ secrets


def test_no_secret_is_in_the_records_the_logs_or_an_error(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = served.desk.access.make_link(UserId(1))
    browser = served.browser()
    browser.sign_in(key=key)
    token = browser.post("tokens", {"name": "script"}, Idempotency_Key="press-1")["token"]
    browser("PUT", "password", {"new": PASSWORD})
    told = [served.browser().sign_in(name="local", password=f"{PASSWORD} wrong").text]
    told.append(served.browser().sign_in(name="local", password=PASSWORD).text)
    told.append(Browser(port=served.port, token=f"{token}x")("GET", "today").text)
    told.append(served.browser()("POST", "session", {"password": PASSWORD, "nme": "local"}).text)
    told.append(served.browser().sign_in(name=PASSWORD, password="local").text)  # typed into the wrong field
    secrets = (key, token, PASSWORD, browser.cookie.partition("=")[2])
    files = [path.read_bytes() for path in served.data.rglob("*") if path.is_file()]
    for secret in secrets:
        assert secret not in caplog.text
        assert not any(secret in text for text in told)
        assert not any(secret.encode() in content for content in files)
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in (PASSWORD, f'{{"new": "{PASSWORD}"}}')]
    assert not any(digest.encode() in content for digest in digests for content in files)
    assert json.loads(told[0])["error"]["code"] == "unauthenticated"
