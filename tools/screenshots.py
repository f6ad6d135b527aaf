"""Every screen of the console, desk and phone, dark and light, from a real `squareoff up` on the practice market.

make screenshots                        into docs/screens
make screenshots SCREENS="--only today" some: the beginnings of their names
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.console.desk import CHROMIUM_ARGUMENTS, LiveDesk, chromium, live_desk  # noqa: E402

DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PLACES = ("today", "strategy", "new", "activity", "replay", "settings")
SETTLES_MS = 1800


def main() -> int:
    parser = argparse.ArgumentParser(prog="make screenshots", description=__doc__)
    parser.add_argument("--only", default="", metavar="NAME", help="those whose name begins so")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screens")
    given = parser.parse_args()
    if chromium() is None:
        print("no Chromium: see tools/chromium.py")
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, live_desk(Path(folder) / "data") as desk:
        print("a day with something of everything", flush=True)
        _fill(desk)
        _take(desk, given.out, given.only)
    return 0


def _fill(desk: LiveDesk) -> None:
    """Held, waiting, done, skipped and not started; a limit, and an order that is on its way."""
    desk.api("PUT", "accounts/paper/limits", {"max_loss_per_day": "5000", "max_open_positions": 8})
    desk.start("morning", symbol="NSE:INFY", quantity=40, buy_in_s=5, stop_loss="0.6%")
    desk.start("trend", symbol="NSE:RELIANCE", quantity=25, buy_in_s=5, stop_loss="1.2%")
    desk.start("tcs-range", symbol="NSE:TCS", quantity=30, buy_in_s=5, stop_loss="12pts")
    desk.start("scalp", symbol="NSE:ITC", quantity=10, buy_in_s=5, sell_in_s=12, stop_loss="1%")
    desk.start("tight", symbol="NSE:INFY", quantity=10, buy_in_s=6, stop_loss="0.1pts")
    desk.start("above-market", symbol="NSE:INFY", quantity=10, buy_in_s=6, stop_loss="9000")
    desk.start("noon", symbol="NSE:HDFCBANK", quantity=20, buy_in_s=1500, sell_in_s=5000, stop_loss="1%")
    desk.start("every-day", symbol="NSE:RELIANCE", quantity=5, buy_in_s=2400, sell_in_s=6000, repeat="daily")
    desk.strategy("idea", symbol="NSE:LT", quantity=15, buy_in_s=3000, sell_in_s=6000, stop_loss="2%")
    desk.until(lambda: desk.row("morning").get("state") == "bought")
    desk.until(lambda: desk.row("scalp").get("group") == "done", 60)
    desk.until(lambda: desk.row("tight").get("group") == "done", 180)


def _take(desk: LiveDesk, out: Path, only: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(CHROMIUM_ARGUMENTS))
        context = browser.new_context(viewport=DESK, device_scale_factor=1)
        page = context.new_page()
        page.goto(desk.link())
        page.get_by_test_id("mode-bar").wait_for()
        for theme in ("dark", "light"):
            page.emulate_media(color_scheme=theme)
            for place in PLACES:
                for size_name, size in (("desk", DESK), ("phone", PHONE)):
                    name = f"{place}-{size_name}-{theme}"
                    if name.startswith(only):
                        _one(page, desk, place, size)
                        page.screenshot(path=out / f"{name}.png")
                        print(f"  {name}", flush=True)
        browser.close()


def _one(page: Any, desk: LiveDesk, place: str, size: dict[str, int]) -> None:
    page.set_viewport_size(size)
    id_ = desk.row("tight")["id"]
    where = {"today": "", "strategy": f"strategy/{id_}"}.get(place, place)
    page.goto(f"http://127.0.0.1:{desk.port}/#/{where}")
    page.wait_for_timeout(400)
    if place == "new":
        filled = {"name": "second", "symbol": "NSE:INFY", "quantity": "10", "stop_loss": "1.5%"}
        filled |= {"buy_time": "23:20", "sell_time": "23:40"}
        for name, text in filled.items():
            page.get_by_test_id(f"field-{name}").fill(text)
    if place == "replay":
        page.get_by_test_id("replay-run").click()
        page.get_by_test_id("replay-results").wait_for()
    page.wait_for_timeout(SETTLES_MS)


if __name__ == "__main__":
    sys.exit(main())
