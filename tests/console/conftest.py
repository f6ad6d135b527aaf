"""The console in a real Chromium, in front of a real `squareoff up`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from squareoff.apps.api.application import console_folder
from tests.console.desk import CHROMIUM_ARGUMENTS, CHROMIUM_VARIABLE, LiveDesk, chromium, live_desk


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = _missing()
    for item in items:
        if "tests/console/" in item.path.as_posix() and missing and "needs_chromium" in item.keywords:
            item.add_marker(pytest.mark.skip(reason=missing))


def _missing() -> str:
    if chromium() is None:
        return f"no Chromium: `tools/chromium.py --install`, or name one in ${CHROMIUM_VARIABLE}"
    if console_folder() is None:
        return "squareoff was installed without its console (SQUAREOFF_SKIP_CONSOLE=1)"
    return ""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveDesk]:
    with live_desk(tmp_path_factory.mktemp("console") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(desk: LiveDesk, chrome: Any) -> Iterator[Any]:
    """Signed in, on *Today*; anything the browser complains about fails the test."""
    context = chrome.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    page.set_default_timeout(30_000)
    page.goto(desk.link())
    page.get_by_test_id("mode-bar").wait_for()
    page.complaints = complaints
    yield page
    context.close()
    assert [text for text in complaints if "ERR_CONNECTION" not in text and "ERR_INCOMPLETE" not in text] == []
