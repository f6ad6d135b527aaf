"""How long somebody who guesses has to wait: a few tries are free, then each one costs a longer pause.

In memory and pure: the caller says what time it is. Safe to use from several threads.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Final

_KEY_LETTERS_MAX: Final = 256
_DOUBLINGS_MAX: Final = 30
"""More would only make the number long: the longest pause is reached far earlier."""


@dataclass(slots=True)
class _Tries:
    count: int
    last_s: float
    until_s: float


class Throttle:
    """`tries` in `per_s` are free. From then on each failure doubles the pause, from `first_pause_s` to
    `longest_pause_s`, until nothing failed for `forget_after_s`.

    A key is whatever must not try on: name and address together, so that nobody can lock the trader out from elsewhere;
    and, in a wider throttle of its own, the address alone. Of more than `keys_max` keys the one that was quiet longest
    is forgotten.

    Several requests at once would all find that nothing failed yet. So call `failed` before the password is looked at,
    and `passed` when it was right.
    """

    def __init__(
        self,
        *,
        tries: int = 5,
        per_s: float = 60.0,
        first_pause_s: float = 2.0,
        longest_pause_s: float = 300.0,
        forget_after_s: float = 3600.0,
        keys_max: int = 10_000,
    ) -> None:
        self._tries, self._per_s = tries, per_s
        self._first_pause_s, self._longest_pause_s = first_pause_s, longest_pause_s
        self._forget_after_s, self._keys_max = max(forget_after_s, longest_pause_s), keys_max
        self._known: OrderedDict[str, _Tries] = OrderedDict()  # the one that failed last is the last
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._known)

    def wait_s(self, key: str, now_s: float) -> float:
        """0: go ahead."""
        with self._lock:
            known = self._find(_short(key), now_s)
            return 0.0 if known is None else max(0.0, known.until_s - now_s)

    def failed(self, key: str, now_s: float) -> None:
        with self._lock:
            short = _short(key)
            known = self._find(short, now_s) or _Tries(0, now_s, now_s)
            known.count, known.last_s = known.count + 1, now_s
            if known.count >= self._tries:
                doublings = min(known.count - self._tries, _DOUBLINGS_MAX)
                known.until_s = now_s + min(self._first_pause_s * 2**doublings, self._longest_pause_s)
            self._known[short] = known
            self._known.move_to_end(short)
            while len(self._known) > self._keys_max:
                self._known.popitem(last=False)

    def passed(self, key: str) -> None:
        with self._lock:
            self._known.pop(_short(key), None)

    def _find(self, key: str, now_s: float) -> _Tries | None:
        known = self._known.get(key)
        if known is None:
            return None
        quiet_for_s = self._per_s if known.count < self._tries else self._forget_after_s
        if now_s - known.last_s < quiet_for_s:
            return known
        del self._known[key]
        return None


def _short(key: str) -> str:
    return key[:_KEY_LETTERS_MAX]
