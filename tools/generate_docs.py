"""Write the pages that are made from the code, or check that they are up to date.

    python tools/generate_docs.py            write them
    python tools/generate_docs.py --check    list those that are stale and exit with 1

To add a page: write a function that returns its text and enter it in PAGES.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import api_page
import runtime_pages
import sequence_pages
import state_pages
import state_picture
import test_case_page

ROOT = Path(__file__).resolve().parent.parent

PAGES: dict[str, Callable[[], str]] = {
    "docs/state-machine.md": state_pages.page,
    "docs/state-machine.svg": state_picture.picture,
    "docs/test-cases.md": lambda: test_case_page.page(ROOT),
    "docs/sequences.md": lambda: sequence_pages.page(ROOT / "docs" / "journals"),
    "docs/api.md": api_page.page,
    "docs/runtime-schema.md": runtime_pages.page,
    "docs/runtime-schema.json": runtime_pages.schema,
}


def stale() -> list[str]:
    """The pages whose file does not say what the code says now."""
    return [name for name, make in PAGES.items() if _text(ROOT / name) != make()]


def write() -> list[str]:
    """Write every stale page. Returns their names."""
    names = stale()
    for name in names:
        path = ROOT / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(PAGES[name](), encoding="utf-8", newline="\n")
    return names


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is stale")
    if not parser.parse_args().check:
        for name in write():
            print(f"wrote {name}")
        return 0
    names = stale()
    for name in names:
        print(f"stale: {name} (run: python tools/generate_docs.py)")
    return 1 if names else 0


if __name__ == "__main__":
    raise SystemExit(main())
