"""The only place where dice are thrown."""

from __future__ import annotations

import random
import secrets


def throw() -> float:
    """At least 0 and less than 1, each time another: so that many who wait do not all come back at once."""
    return random.random()


def name() -> str:
    """Eight letters and digits that no other process has."""
    return secrets.token_hex(4)


def secret(length: int) -> str:
    """So many random bytes as letters that fit into an address; 32 bytes make 43 letters."""
    return secrets.token_urlsafe(length)
