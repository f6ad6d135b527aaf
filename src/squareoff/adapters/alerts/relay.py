"""From the order path to people: `tell` puts an alert aside and returns, threads carry it.

One thread hands every alert on to the channels, and each channel has a thread of its own: one that hangs holds up
only itself. What is still queued when the process dies is lost to the channels; the journal has it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from squareoff.adapters.alerts.alert import (
    LONGEST_HEADLINE,
    LONGEST_TEXT,
    RANK,
    Alert,
    Channel,
    NotDelivered,
    clipped,
)
from squareoff.adapters.alerts.backlog import Backlog
from squareoff.adapters.alerts.folding import Folding
from squareoff.adapters.alerts.terminal import TerminalAlerts
from squareoff.core.types import RunId
from squareoff.ports import Severity

LIMIT = 1000
FOLD_S = 60.0
REPORT_EVERY_S = 60.0
RETRY_AFTER_S = (2.0, 10.0)
"""Our only policy of trying again: an URGENT alert that a remote channel did not take is sent twice more, after these
pauses, if the failure may pass by itself. Anything else is tried once. A person may get an alert twice, that does no
harm."""
HANGS_AFTER_S = 30.0
GRACE_S = 0.01
"""An alert often comes with a stop-loss: the threads begin when the order has left."""

_LOOK_AGAIN_S = 0.005


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A channel, and the least severity that goes there."""

    channel: Channel
    minimum: Severity = Severity.INFO


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class AlertRelay:
    """`ports.Alerts` for a worker. `tell` costs the caller microseconds whatever the channels do.

    `routes`: where alerts go besides `terminal`, which also hears that a channel does not work. `now` gives the time
    that alerts bear; None: this machine's. `limit`: urgent alerts, and others, that may wait for each channel.
    `fold_s`: alerts alike within so many seconds are one message, where a channel is remote. `report_every_s`: a
    channel that fails is told of no more often.
    """

    def __init__(
        self,
        routes: Sequence[Route],
        *,
        terminal: Route | None = None,
        now: Callable[[], datetime] | None = None,
        prefix: str = "",
        limit: int = LIMIT,
        fold_s: float = FOLD_S,
        report_every_s: float = REPORT_EVERY_S,
        retry_after_s: Sequence[float] = RETRY_AFTER_S,
        hangs_after_s: float = HANGS_AFTER_S,
    ) -> None:
        """`prefix` stands before every headline."""
        self._now, self._prefix, self._hangs_after_s = now or _wall_clock, prefix, hangs_after_s
        self._inbox = Backlog(limit)
        self._hurry, self._stop = threading.Event(), threading.Event()
        self._dropped = 0
        self._lanes = [
            _Lane(
                route,
                limit=limit,
                folding=Folding(fold_s if route.channel.is_remote else 0.0),
                report_every_s=report_every_s,
                retry_after_s=retry_after_s if route.channel.is_remote else (),
                hurry=self._hurry,
                stop=self._stop,
                now=self._time,
                report=self._report,
            )
            for route in (*routes, terminal or Route(channel=TerminalAlerts()))  # the terminal hears of the others
        ]
        self._thread = threading.Thread(target=self._hand_on, name="alerts", daemon=True)
        for thread in (*self._lanes, self._thread):
            thread.start()

    def tell(self, severity: Severity, headline: str, text: str, *, run_id: RunId | None = None) -> None:
        alert = Alert(
            at=self._time(),
            severity=severity,
            headline=clipped(f"{self._prefix}{headline}", LONGEST_HEADLINE),
            text=clipped(str(text), LONGEST_TEXT),
            run_id=run_id,
        )
        if self._stop.is_set():  # the threads are gone, and so is the order path
            TerminalAlerts().tell(severity, alert.headline, alert.text, run_id=run_id)
        else:
            self._inbox.put(alert)

    def flush(self, timeout_s: float) -> bool:
        """Blocks until every channel was tried for everything told before, held repetitions too. False: `timeout_s`
        was not enough."""
        self._hurry.set()
        try:
            return self._wait_until_done(timeout_s)
        finally:
            self._hurry.clear()

    def close(self, timeout_s: float) -> bool:
        """`flush`, then end the threads. One that hangs is left behind, it does not hold up the end of the process.
        What did not leave is told on the terminal. Blocks up to `timeout_s`."""
        if self._stop.is_set():
            return True
        all_left = self.flush(timeout_s)
        self._stop.set()
        self._hurry.set()
        self._inbox.ring()
        for lane in self._lanes:
            lane.backlog.ring()
        if not all_left:
            self._tell_what_stays()
        return all_left

    def _time(self) -> datetime:
        try:
            return self._now()
        except Exception:  # a paced clock reads a file: whatever happens to that, the alert is told
            return _wall_clock()

    def _wait_until_done(self, timeout_s: float) -> bool:
        until_s = time.monotonic() + timeout_s
        for lane in self._lanes:
            lane.backlog.ring()  # for held repetitions
        while not self._is_done():
            if time.monotonic() >= until_s:
                return False
            time.sleep(_LOOK_AGAIN_S)
        return True

    def _is_done(self) -> bool:
        # in the direction in which alerts and reports of failures go, so that nothing slips through behind us
        return self._inbox.is_done and all(lane.is_done for lane in self._lanes)

    def _tell_what_stays(self) -> None:
        *others, terminal = self._lanes
        if not terminal.is_done:  # it hangs: writing to it would hang us
            return
        for lane in others:
            if not lane.is_done:
                headline = f"{max(1, lane.waiting)} alerts were not delivered to {lane.channel.name}"
                TerminalAlerts().tell(Severity.WARNING, headline, "squareoff ended before it took them")

    # ------------------------------------------------------------------ the thread that hands on

    def _hand_on(self) -> None:
        while not self._stop.is_set():
            idle = self._inbox.is_done and all(lane.is_done for lane in self._lanes)
            self._inbox.wait(None if idle else self._hangs_after_s / 3)
            time.sleep(GRACE_S)
            while (taken := self._inbox.take()) is not None:
                self._hand_over(*taken)
            for lane in self._lanes:
                lane.report_if_it_hangs(self._hangs_after_s)

    def _hand_over(self, alert: Alert, dropped: int) -> None:
        self._dropped += dropped
        for lane in self._lanes:
            if RANK[alert.severity] >= RANK[lane.minimum]:
                lane.backlog.put(alert)
        if self._dropped and self._inbox.has_room:
            notice = _notice(self._time(), self._dropped)
            self._dropped = 0
            for lane in self._lanes:
                lane.backlog.put(notice)

    def _report(self, about: _Lane, alert: Alert) -> None:
        """To those on this machine: a remote channel need not hear of another."""
        for lane in self._lanes:
            if lane is not about and not lane.channel.is_remote:
                lane.backlog.put(alert)


class _Lane(threading.Thread):
    """One channel with its backlog and its thread."""

    def __init__(
        self,
        route: Route,
        *,
        limit: int,
        folding: Folding,
        report_every_s: float,
        retry_after_s: Sequence[float],
        hurry: threading.Event,
        stop: threading.Event,
        now: Callable[[], datetime],
        report: Callable[[_Lane, Alert], None],
    ) -> None:
        super().__init__(name=f"alerts: {route.channel.name}", daemon=True)
        self.channel, self.minimum, self.backlog = route.channel, route.minimum, Backlog(limit)
        self._folding, self._retry_after_s = folding, retry_after_s
        self._hurry, self._stop_all, self._now, self._report = hurry, stop, now, report
        self._report_every_s, self._reported_s = report_every_s, -report_every_s
        self._reporting = threading.Lock()
        self._missed = 0
        self._sending_since_s: float | None = None
        self._idle = False

    @property
    def is_done(self) -> bool:
        # This order: each says of what the one before let through whether it is over.
        return self.backlog.is_done and not self._folding.holds and self._idle

    @property
    def waiting(self) -> int:
        return self.backlog.waiting

    def run(self) -> None:
        while not self._stop_all.is_set():
            self._idle = False
            self._carry_what_waits()
            self._idle = True
            self.backlog.wait(self._folding.wait_s(time.monotonic()))

    def _carry_what_waits(self) -> None:
        while (taken := self.backlog.take()) is not None and not self._stop_all.is_set():
            alert, dropped = taken
            self._missed += dropped
            self._carry_held()
            self._fold_or_carry(alert)
        self._carry_held()

    def _fold_or_carry(self, alert: Alert) -> None:
        going = self._folding.take(alert, time.monotonic()) if self.channel.is_remote else alert
        if going is not None:
            self._carry(going)

    def _carry_held(self) -> None:
        for alert in self._folding.due(time.monotonic(), all_of_them=self._hurry.is_set()):
            self._carry(alert)

    def _carry(self, alert: Alert) -> None:
        failure = self._try(alert)
        for pause_s in self._retry_after_s if alert.severity is Severity.URGENT else ():
            if failure is None or not failure.may_pass or self._stop_all.is_set():
                break
            self._hurry.wait(pause_s)
            failure = self._try(alert)
        if failure is not None:
            self._missed += alert.stands_for
            self._tell_of(str(failure))
        elif self._missed and self.backlog.has_room:
            self._own_up()

    def _own_up(self) -> None:
        """Tell the person what is missing here, now that something gets through."""
        if self._try(_notice(self._now(), self._missed)) is None:
            self._missed = 0

    def _try(self, alert: Alert) -> NotDelivered | None:
        self._sending_since_s = time.monotonic()
        try:
            self.channel.send(alert)
        except NotDelivered as failure:
            return failure
        except Exception as fault:  # its words may hold an address
            return NotDelivered(f"a fault of squareoff in this channel ({type(fault).__name__})")
        finally:
            self._sending_since_s = None
        return None

    def report_if_it_hangs(self, hangs_after_s: float) -> None:
        """Called by another thread: this one cannot say so itself."""
        since_s = self._sending_since_s
        if since_s is not None and time.monotonic() - since_s >= hangs_after_s:
            self._tell_of(f"it has not come back for {time.monotonic() - since_s:.0f} s")

    def _tell_of(self, reason: str) -> None:
        with self._reporting:
            now_s = time.monotonic()
            if now_s - self._reported_s < self._report_every_s:
                return
            self._reported_s = now_s
        lost = f"; {self._missed} did not get through since the last that did" if self._missed else ""
        headline = f"alerts do not get through to {self.channel.name}"
        self._report(self, Alert(at=self._now(), severity=Severity.WARNING, headline=headline, text=f"{reason}{lost}"))


def _notice(at: datetime, missed: int) -> Alert:
    some = "1 alert is" if missed == 1 else f"{missed} alerts are"
    return Alert(
        at=at,
        severity=Severity.WARNING,
        headline=f"{some} missing here",
        text="More came than could be carried, or the way was blocked; the journal has them all",
    )
