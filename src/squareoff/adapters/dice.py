"""The only place where dice are thrown."""

from __future__ import annotations

import random


def throw() -> float:
    """At least 0 and less than 1, each time another: so that many who wait do not all come back at once."""
    return random.random()
