"""Who is let in by the page, what a wrong password says, and that it says so when nothing trades."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from squareoff.core.types import UserId
from tests.api.conftest import INFY, PASSWORD, Served, data, serving  # noqa: F401 - a fixture

pytestmark = [pytest.mark.processes, pytest.mark.needs_chromium]


@pytest.fixture
def served(data: Path) -> Iterator[Served]:  # noqa: F811
    with serving(data) as running:
        yield running


@pytest.fixture
def visitor(served: Served, chrome: Any) -> Iterator[Any]:
    context = chrome.new_context(timezone_id="America/New_York")
    page = context.new_page()
    page.set_default_timeout(20_000)
    yield page
    context.close()


def test_with_a_password_the_page_asks_for_name_and_password(served: Served, visitor: Any) -> None:
    served.desk.access.change_user(UserId(1), password=PASSWORD)
    visitor.goto(f"http://127.0.0.1:{served.port}/")
    visitor.get_by_test_id("field-name").fill("local")
    visitor.get_by_test_id("field-password").fill("not my sentence")
    visitor.get_by_test_id("sign-in-button").click()
    visitor.get_by_text("no user has this name and password").wait_for()
    visitor.get_by_test_id("field-password").fill(PASSWORD)
    visitor.get_by_test_id("sign-in-button").click()
    visitor.get_by_test_id("mode-bar").wait_for()
    visitor.get_by_test_id("nav-settings").click()
    visitor.get_by_test_id("sign-out").click()
    visitor.get_by_test_id("sign-in-button").wait_for()
    visitor.reload()
    visitor.get_by_test_id("sign-in-button").wait_for()


def test_a_link_that_was_used_says_what_to_do(served: Served, visitor: Any) -> None:
    key = served.desk.access.make_link(UserId(1))
    assert served.browser().sign_in(key=key).status == 201
    visitor.goto(f"http://127.0.0.1:{served.port}/#key={key}")
    visitor.get_by_test_id("sign-in").get_by_text("this link was used already").wait_for()
    assert "key" not in visitor.url  # it is out of the address bar, and of the history


def test_when_nothing_trades_the_page_says_so_and_a_start_is_for_later(served: Served, visitor: Any) -> None:
    browser = served.signed_in()
    browser.post("strategies", INFY)
    visitor.goto(f"http://127.0.0.1:{served.port}/#key={served.desk.access.make_link(UserId(1))}")
    visitor.get_by_test_id("start-morning").get_by_text("START later").wait_for()
    assert "not running" in visitor.get_by_test_id("trust").inner_text().lower()


def test_times_are_the_exchanges_and_ones_own_is_shown_when_one_points_at_them(served: Served, visitor: Any) -> None:
    browser = served.signed_in()
    made = browser.post("strategies", INFY)
    browser("PUT", f"strategies/{made['id']}", {"quantity": "7", "revision": 0})
    visitor.goto(f"http://127.0.0.1:{served.port}/#key={served.desk.access.make_link(UserId(1))}")
    visitor.get_by_test_id("nav-activity").click()
    line = visitor.get_by_test_id("journal").get_by_text("08:00:00").first
    line.wait_for()
    assert re.search(r"9:30:00\s*PM", line.get_attribute("title") or "")  # the evening before, in New York
