"""The names of our keys. All keys of an account carry its hash tag, so one script may change all of them at once,
also in a Redis Cluster. The `id` is the strategy's: it has one open run at a time, whose id is a field."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from squareoff.core.types import AccountId, StrategyId, Symbol


@lru_cache(maxsize=4096)
def tag(account: AccountId) -> str:
    """`{A1}`: what Redis Cluster hashes. Other than letters, digits and `_.~-` is percent-encoded, so that no
    account can end its tag early or be a pattern."""
    return "{" + quote(account, safe="") + "}"


def strategy_key(account: AccountId, strategy: StrategyId) -> str:
    """Hash: what the trader asked for (`STRATEGY_FIELDS`)."""
    return f"strategy:{tag(account)}{strategy}"


def runtime_key(account: AccountId, strategy: StrategyId) -> str:
    """Hash: where its run is (`RUNTIME_FIELDS`)."""
    return f"runtime:{tag(account)}{strategy}"


def lock_key(account: AccountId, strategy: StrategyId) -> str:
    """String with an expiry: the token of who works on it, `fence:owner`."""
    return f"lock:{tag(account)}{strategy}"


def symbol_key(account: AccountId, symbol: Symbol) -> str:
    """Set: ids of the started strategies on this symbol."""
    return f"symbol:{tag(account)}{symbol}:strategies"


def timers_key(account: AccountId) -> str:
    """Sorted set: member `id:name`, score in milliseconds since 1970 UTC (`TIMER_MEANING`)."""
    return f"timers:{tag(account)}"


def events_key(account: AccountId) -> str:
    """Stream: one entry a change (`EVENT_FIELDS`)."""
    return f"events:{tag(account)}"


def prices_key(account: AccountId) -> str:
    """Hash: symbol -> last price and its instant."""
    return f"prices:{tag(account)}"


def epoch_key(account: AccountId) -> str:
    """Hash: `epoch` and `server_run_id` of the last rebuild; `building` instead of both while one goes on."""
    return f"epoch:{tag(account)}"


def done_key(account: AccountId) -> str:
    """Sorted set: requests carried out in the last minutes, score in milliseconds since 1970 UTC."""
    return f"done:{tag(account)}"


def bell_key(account: AccountId) -> str:
    """Stream of one entry: its id is the last ring."""
    return f"bell:{tag(account)}"


REBUILT = ("strategy", "runtime", "lock", "symbol", "timers", "events", "prices", "epoch", "done")
"""The kinds a rebuild replaces. Not the bell: a ring during the rebuild must be heard."""


def pattern(account: AccountId) -> str:
    """For SCAN: every key of the account."""
    return f"*:{tag(account)}*"


def is_rebuilt(key: str, account: AccountId) -> bool:
    """Whether a rebuild deletes this key; never one of another account or another program."""
    kind, _, rest = key.partition(":")
    return kind in REBUILT and kind != "epoch" and rest.startswith(tag(account))
