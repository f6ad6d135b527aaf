"""What several test files share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from squareoff.adapters.redis.server import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One real server for all tests that leave it running. Take an account of your own on it."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server
