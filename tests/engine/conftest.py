"""Every test of the engine ends with the same audit of the broker's book."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.engine.world import Plan, World, audit, plan


@pytest.fixture
def begin() -> Iterator[Callable[..., World]]:
    """A running worker, its strategies started, at 09:15; whatever happens is audited at the end."""
    worlds: list[World] = []

    def make(*plans: Plan, bought: bool = False, **options: Any) -> World:
        world = World(**options)
        worlds.append(world)
        world.boot_up()
        world.go(0.5)
        if plans or bought:
            world.start(*(plans or (plan(),)))
        if bought:
            world.go("09:20:03")
            assert world.run().state == "bought"
        return world

    yield make
    try:
        for world in worlds:
            audit(world, errors=not world.errors_expected)
    finally:
        for world in worlds:
            world.close()
