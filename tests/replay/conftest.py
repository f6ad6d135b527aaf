"""Recorded data of the workshop, where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data() -> Path | None:
    """The folder of real market data beside this checkout, or where SQUAREOFF_SHARED_DATA says; None if absent."""
    named = os.environ.get("SQUAREOFF_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    return folder if folder.is_dir() else None


@pytest.fixture
def recorded_nse() -> Path:
    folder = shared_data()
    if folder is None:
        pytest.skip("the recorded NSE minutes are not beside this checkout (../shared/data)")
    return folder / "nse"
