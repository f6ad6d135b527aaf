"""Which accounts the paper broker has, in a file beside its ledger: each with its access token and its starting cash.

The command line adds to it, and the broker reads it again when it meets a token it does not know. So an account can be
made while everything runs.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec

from squareoff.core.types import AccountId
from squareoff.errors import BadInput

FILE_NAME: Final = "accounts.json"
DEFAULT_CASH: Final = Decimal("1000000.00")
"""INR: 10,00,000.00."""
_KNOWN_TOKENS: Final = {AccountId("paper"): "paper"}
"""The account that every installation has, for which processes started by hand need no token."""


class PaperAccount(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    cash: Decimal
    """What it began with."""


_decode = msgspec.json.Decoder(dict[AccountId, PaperAccount]).decode


def read_accounts(file: Path) -> Mapping[AccountId, PaperAccount]:
    """Empty without a file. Raises BadInput if it cannot be read as one."""
    try:
        return _decode(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput("accounts", f"{file} cannot be read: {error}", "put it back from a backup") from error


def ensure_account(file: Path, account: AccountId, *, cash: Decimal = DEFAULT_CASH) -> PaperAccount:
    """The account as it is in the file; made with a token of its own and `cash` if it is not there yet."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(file.with_name(f"{file.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        known = dict(read_accounts(file))
        if account not in known:
            token = _KNOWN_TOKENS.get(account) or secrets.token_urlsafe(24)
            known[account] = PaperAccount(token=token, cash=cash)
            _replace(file, msgspec.json.format(msgspec.json.encode(known)))
        return known[account]
    finally:
        os.close(fd)


def _replace(file: Path, content: bytes) -> None:
    """A reader sees all of it or what was there before."""
    draft = file.with_name(f"{file.name}.new")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(draft, file)
