"""One message instead of many that say the same: a phone that rings all the time is put away."""

from __future__ import annotations

from dataclasses import dataclass

from squareoff.adapters.alerts.alert import Alert
from squareoff.ports import Severity

_Likeness = tuple[Severity, str]


@dataclass(slots=True)
class _Window:
    ends_s: float
    held: int = 0
    newest: Alert | None = None


class Folding:
    """The first alert of its kind (severity and headline) goes at once. Those alike within `seconds` are held, and when
    that time is over the newest of them goes for all, with "(and k more)". Pure: times are handed in, in seconds.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._windows: dict[_Likeness, _Window] = {}
        self.holds = False
        """Whether an alert is held back."""

    def take(self, alert: Alert, now_s: float) -> Alert | None:
        """The alert if it is to go now, None if it is held."""
        window = self._windows.get((alert.severity, alert.headline))
        if window is None or (now_s >= window.ends_s and not window.held):
            self._windows[alert.severity, alert.headline] = _Window(now_s + self._seconds)
            return alert
        window.held, window.newest, self.holds = window.held + 1, alert, True
        return None

    def due(self, now_s: float, *, all_of_them: bool = False) -> list[Alert]:
        """What was held long enough. After a folded message the next one is held as long again."""
        going = []
        for likeness, window in list(self._windows.items()):
            if now_s < window.ends_s and not (all_of_them and window.held):
                continue
            if window.newest is None:
                del self._windows[likeness]
                continue
            going.append(window.newest.standing_for(window.held - 1))
            self._windows[likeness] = _Window(now_s + self._seconds)
        self.holds = any(window.held for window in self._windows.values())
        return going

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until `due` has something to do; None if nothing is open."""
        return max(0.0, min(window.ends_s for window in self._windows.values()) - now_s) if self._windows else None
