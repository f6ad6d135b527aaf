"""Strategies to begin with: the files in `examples/`, which ship with squareoff."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from squareoff.apps.api import shapes
from squareoff.apps.strategy_file import read_tables


def example_files() -> list[Traversable]:
    """By name. In a checkout they stand beside `src`, in an installed squareoff inside of it."""
    shipped = files("squareoff") / "examples"
    folder: Traversable = shipped if shipped.is_dir() else Path(__file__).parents[4] / "examples"
    return sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)


@cache
def templates() -> list[shapes.Template]:
    return list(_read())


def _read() -> Iterator[shapes.Template]:
    for file in example_files():
        text = file.read_text(encoding="utf-8")
        comment = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
        for table in read_tables(text, file.name):
            yield shapes.Template(
                name=file.name.removesuffix(".toml"),
                title=comment[0] if comment else file.name,
                about=" ".join(comment[1:]),
                fields={key: str(value) for key, value in table.items()},
            )
