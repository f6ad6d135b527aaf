"""What a trader does with the page, and what the page never does: look live when it is not, or say "done" too early."""

from __future__ import annotations

import os
import re
import signal
from typing import Any

import pytest

from tests.console.desk import LiveDesk

pytestmark = [pytest.mark.processes, pytest.mark.needs_chromium]
PHONE = {"width": 390, "height": 844}


def go(page: Any, desk: LiveDesk, place: str) -> None:
    page.goto(f"http://127.0.0.1:{desk.port}/#/{place}")


def fill(page: Any, **fields: str) -> None:
    for name, text in fields.items():
        page.get_by_test_id(f"field-{name}").fill(text)


def test_from_a_new_strategy_to_its_stop_loss_and_the_reason(page: Any, desk: LiveDesk) -> None:
    from datetime import timedelta

    page.get_by_test_id("nav-new").click()
    now = desk.now()
    fill(page, name="first", symbol="SIM:ALPHA", quantity="10", stop_loss="nothing")
    fill(page, buy_time=f"{now + timedelta(seconds=12):%H:%M:%S}", sell_time=f"{now + timedelta(seconds=900):%H:%M:%S}")
    page.get_by_test_id("error-stop_loss").wait_for()  # in the server's words, while it is typed
    assert "is not a stop-loss" in page.get_by_test_id("error-stop_loss").inner_text()
    page.get_by_test_id("field-stop_loss").fill("0.05pts")
    page.get_by_test_id("error-stop_loss").wait_for(state="detached")
    page.get_by_test_id("save").click()
    page.wait_for_url(re.compile(r"#/strategy/\d+"))
    page.get_by_test_id("nav-today").click()
    page.get_by_test_id("start-first").click()
    row = page.get_by_test_id("row-first")
    page.get_by_test_id("group-waiting").locator("[data-testid=row-first]").wait_for()
    page.get_by_test_id("group-holding").locator("[data-testid=row-first]").wait_for(timeout=40_000)
    assert "10" in row.inner_text()
    desk.until(lambda: desk.row("first")["state"] == "exited_by_sl", 120)
    go(page, desk, f"strategy/{desk.row('first')['id']}")
    page.get_by_test_id("why").get_by_text("is at or below the stop-loss").first.wait_for()
    assert page.get_by_test_id("state-machine").locator("svg").count() == 1
    page.get_by_test_id("chart").locator("canvas").first.wait_for()


def test_the_kill_switch_says_what_it_would_sell_and_done_only_when_it_is_sold(page: Any, desk: LiveDesk) -> None:
    desk.start("to-kill", symbol="SIM:BETA", quantity=7, stop_loss="5%")
    page.get_by_test_id("kill-bar").get_by_text("would sell 1 position: 7 SIM:BETA", exact=False).wait_for()
    page.get_by_test_id("kill-button").click()
    page.get_by_test_id("kill-square-off").click()
    page.get_by_test_id("press-kill").wait_for()
    page.get_by_test_id("kill-bar").get_by_text("KILL SWITCH IS PRESSED").wait_for()
    desk.until(lambda: desk.row("to-kill")["exposure"] == "flat")
    page.get_by_test_id("need-kill:paper").wait_for()
    desk.api.post("accounts/paper/release", {"reason": "tested"})
    page.get_by_test_id("need-kill:paper").wait_for(state="detached")


def test_of_two_tabs_the_slower_one_is_told_and_saves_nothing(page: Any, desk: LiveDesk) -> None:
    made = desk.strategy("two-tabs", buy_in_s=3000, sell_in_s=4000)
    other = page.context.new_page()
    for tab in (page, other):
        go(tab, desk, f"strategy/{made['id']}")
        tab.get_by_test_id("edit").get_by_test_id("field-quantity").wait_for()
    other.get_by_test_id("field-quantity").fill("99")
    other.get_by_test_id("edit-preview").wait_for()
    page.get_by_test_id("field-quantity").fill("20")
    page.get_by_test_id("edit-preview").wait_for()
    page.get_by_test_id("save").click()
    desk.until(lambda: desk.api.get(f"strategies/{made['id']}")["quantity"] == "20")
    other.get_by_test_id("save").click()
    other.get_by_text("It was changed elsewhere meanwhile").wait_for()
    assert other.get_by_test_id("field-quantity").input_value() == "99"  # what was typed is not lost
    assert desk.api.get(f"strategies/{made['id']}")["quantity"] == "20"
    other.close()
    page.complaints.clear()  # the browser notes the 409 that this is about


def test_on_a_phone_what_matters_and_two_holdings_fit_without_scrolling(page: Any, desk: LiveDesk) -> None:
    for name in ("phone-a", "phone-b"):
        desk.start(name, stop_loss="5%")
    desk.until(lambda: all(desk.row(name).get("state") == "bought" for name in ("phone-a", "phone-b")))
    page.set_viewport_size(PHONE)
    page.reload()
    for part in ("mode-bar", "trust", "kill-bar", "needs", "day", "row-phone-a", "row-phone-b"):
        box = page.get_by_test_id(part).bounding_box()
        assert box is not None, part
        assert box["y"] >= 0, part
        assert box["y"] + box["height"] <= PHONE["height"], part
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_when_the_server_is_lost_nothing_looks_live_and_it_comes_back_by_itself(page: Any, desk: LiveDesk) -> None:
    desk.until(lambda: page.get_by_test_id("trust").inner_text().startswith("live"))
    console = desk.pids()["console"]
    os.kill(console, signal.SIGSTOP)
    try:
        page.get_by_test_id("trust").get_by_text("NOT LIVE since").first.wait_for(timeout=10_000)
        assert page.get_by_test_id("kill-button").is_disabled()
    finally:
        os.kill(console, signal.SIGKILL)  # `up` starts it again
    page.get_by_test_id("trust").get_by_text("live,").first.wait_for(timeout=40_000)
    assert page.get_by_test_id("kill-button").is_enabled()
    page.complaints.clear()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_can_be_read_by_everybody(page: Any, desk: LiveDesk, theme: str) -> None:
    """axe, WCAG 2.1 A and AA."""
    from axe_playwright_python.sync_playwright import Axe

    made = desk.api.get("strategies")["strategies"]
    page.emulate_media(color_scheme=theme)
    options = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    wrong = []
    for place in ("", f"strategy/{made[0]['id']}", "new", "activity", "replay", "settings"):
        go(page, desk, place)
        page.wait_for_timeout(800)
        for each in Axe().run(page, options=options).response["violations"]:
            nodes = [node["target"] for node in each["nodes"]][:3]
            wrong.append((place, each["id"], each["help"], nodes))
    assert wrong == []


def test_everything_is_reached_by_keyboard(page: Any, desk: LiveDesk) -> None:
    page.keyboard.press("?")
    page.locator("dialog").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement?.getAttribute('data-testid') ?? ''"))
    assert {"nav-new", "nav-settings", "kill-button"} <= seen


def test_the_console_asks_nobody_but_us_and_is_small(page: Any, desk: LiveDesk) -> None:
    import gzip

    from squareoff.apps.api.application import console_folder

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for place in ("", "new", "activity", "replay", "settings"):
        go(page, desk, place)
        page.wait_for_timeout(300)
    assert [url for url in asked if not url.startswith(f"http://127.0.0.1:{desk.port}/")] == []
    folder = console_folder()
    assert folder is not None
    sent = [file for file in folder.iterdir() if file.suffix in (".js", ".css", ".html", ".svg")]
    assert sum(len(gzip.compress(file.read_bytes())) for file in sent) <= 120_000
