"""Alerts on their way to people: nothing waits for them, and what is lost is told."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from tests.web import Web, serving, until

from squareoff.adapters.alerts.alert import Alert, NotDelivered
from squareoff.adapters.alerts.backlog import Backlog
from squareoff.adapters.alerts.folding import Folding
from squareoff.adapters.alerts.relay import AlertRelay, Route
from squareoff.adapters.alerts.secret import SecretUrl
from squareoff.adapters.alerts.webhook import Webhook
from squareoff.core.types import RunId
from squareoff.ports import Severity

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
INFO, WARNING, URGENT = Severity.INFO, Severity.WARNING, Severity.URGENT
BY_HAND = 3600.0
"""A time that no test waits for."""


def alert(headline: str, severity: Severity = INFO, text: str = "") -> Alert:
    return Alert(at=NOW, severity=severity, headline=headline, text=text)


@dataclass
class Kept:
    """A channel that keeps what it is sent; it hangs until `go` is set, and fails while `failure` is there."""

    name: str = "kept"
    is_remote: bool = False
    go: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None
    hangs: bool = False
    tried: int = 0
    sent: list[Alert] = field(default_factory=list)

    def send(self, alert: Alert) -> None:
        self.tried += 1
        if self.hangs:
            self.go.wait(30)
        if self.failure is not None:
            raise self.failure
        self.sent.append(alert)

    @property
    def headlines(self) -> list[str]:
        return [alert.headline for alert in self.sent]


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


@dataclass
class Relays:
    terminal: Kept
    made: list[AlertRelay] = field(default_factory=list)

    def __call__(self, *routes: Route, limit: int = 1000, fold_s: float = BY_HAND, **more: float) -> AlertRelay:
        relay = AlertRelay(
            routes,
            terminal=Route(channel=self.terminal),
            now=lambda: NOW,
            limit=limit,
            fold_s=fold_s,
            retry_after_s=(0.01, 0.01),
            **more,  # type: ignore[arg-type]
        )
        self.made.append(relay)
        return relay


@pytest.fixture
def relays() -> Iterator[Relays]:
    relays = Relays(Kept(name="terminal"))
    yield relays
    for relay in relays.made:
        relay.close(0.1)


# ------------------------------------------------------------------ arriving


def test_every_channel_gets_what_is_severe_enough_for_it(relays: Relays, web: Web) -> None:
    url = SecretUrl(web.url("/ok/TOKEN"))
    relay = relays(Route(channel=Webhook(url, headers={"Authorization": "Bearer X"}), minimum=WARNING))
    relay.tell(INFO, "bought", "50 at 1540")
    relay.tell(URGENT, "the exit is not confirmed", "you may hold 50", run_id=RunId(7))
    assert relay.flush(10)
    assert relays.terminal.headlines == ["bought", "the exit is not confirmed"]
    (request,) = web.got
    assert request.json == {
        "at": "2026-11-23T04:00:00.000+00:00",
        "severity": "urgent",
        "headline": "the exit is not confirmed",
        "text": "you may hold 50",
        "run_id": 7,
    }
    assert (request.method, request.path) == ("POST", "/ok/TOKEN")
    assert (request.headers["Authorization"], request.headers["Content-Type"]) == ("Bearer X", "application/json")


def test_an_alert_of_any_text_arrives(relays: Relays, web: Web) -> None:
    relay = relays(Route(channel=Webhook(SecretUrl(web.url("/ok")))))
    relay.tell(URGENT, "half a letter \ud83d", "₹ \x1b[2J \n" + "x" * 100_000)
    assert relay.flush(10)
    assert web.got[0].json["headline"] == "half a letter \ud83d"
    assert len(web.got[0].json["text"]) == 4000


# ------------------------------------------------------------------ hanging


def test_a_webhook_that_hangs_holds_up_nothing(relays: Relays, web: Web) -> None:
    hanging, well = Webhook(SecretUrl(web.url("/hang"))), Webhook(SecretUrl(web.url("/ok")))
    relay = relays(Route(channel=hanging), Route(channel=well))
    for number in range(20):
        relay.tell(URGENT, f"alert {number}", "")
    until(lambda: [r.path for r in web.got].count("/ok") == 20 and len(relays.terminal.sent) == 20)
    assert [r.path for r in web.got].count("/hang") == 1
    assert not relay.flush(0.05)


def test_telling_returns_at_once_when_every_channel_hangs(relays: Relays) -> None:
    relays.terminal.hangs = True
    stuck = [Kept(name=f"channel {n}", is_remote=True, hangs=True) for n in range(4)]
    relay = relays(*(Route(channel=channel) for channel in stuck))
    relay.tell(URGENT, "first", "")
    until(lambda: all(channel.tried for channel in (*stuck, relays.terminal)))
    took_s = []
    for number in range(5000):
        start_s = time.perf_counter()
        relay.tell(URGENT if number % 2 else INFO, f"alert {number}", "text", run_id=RunId(number))
        took_s.append(time.perf_counter() - start_s)
    assert sorted(took_s)[len(took_s) // 2] < 0.000_1
    assert sum(took_s) < 2
    for channel in (*stuck, relays.terminal):
        channel.go.set()


def test_a_channel_that_does_not_come_back_is_told_of_on_the_terminal(relays: Relays) -> None:
    stuck = Kept(name="phone", is_remote=True, hangs=True)
    relay = relays(Route(channel=stuck), hangs_after_s=0.05)
    relay.tell(INFO, "bought", "")
    until(lambda: len(relays.terminal.sent) == 2)
    assert relays.terminal.headlines == ["bought", "alerts do not get through to phone"]
    stuck.go.set()


# ------------------------------------------------------------------ too much


def test_a_full_queue_drops_information_before_urgent_alerts_and_says_so(relays: Relays) -> None:
    phone = Kept(name="phone", is_remote=True, hangs=True)
    relay = relays(Route(channel=phone), limit=10)
    relay.tell(INFO, "in hand", "")
    until(lambda: phone.tried)
    for number in range(10):
        relay.tell(URGENT, f"urgent {number}", "")
    until(lambda: len(relays.terminal.sent) == 11)
    for number in range(500):
        relay.tell(INFO if number % 2 else WARNING, f"other {number}", "")
        if number % 5 == 0:  # so that the terminal keeps up
            until(lambda: relays.made[0]._inbox.is_done and relays.terminal.headlines[-1].startswith("other"))
    until(lambda: relays.terminal.headlines[-1] == "other 499")
    phone.go.set()
    assert relay.flush(10)
    wanted = ["in hand", *(f"urgent {n}" for n in range(10)), *(f"other {n}" for n in range(490, 500))]
    assert [h for h in phone.headlines if "missing" not in h] == wanted
    missing = [a for a in phone.sent if "missing" in a.headline]
    assert [(a.severity, a.headline) for a in missing] == [(WARNING, "490 alerts are missing here")]
    assert len(relays.terminal.sent) == 511


def test_a_burst_that_is_told_faster_than_it_is_handed_on_is_counted(relays: Relays) -> None:
    relay = relays(limit=10)
    for number in range(3000):
        relay.tell(INFO, f"alert {number}", "")
    for number in range(10):
        relay.tell(URGENT, f"urgent {number}", "")
    assert relay.flush(10)
    heard = relays.terminal.headlines
    missing = sum(int(h.split()[0]) for h in heard if "missing" in h)
    assert missing + sum("missing" not in h for h in heard) == 3010
    assert missing > 0
    assert [h for h in heard if h.startswith("urgent")] == [f"urgent {n}" for n in range(10)]


@pytest.mark.parametrize("seed", range(30))
def test_a_backlog_counts_every_alert_whatever_comes_and_goes(seed: int) -> None:
    dice, backlog, limit = random.Random(seed), Backlog(5), 5
    came: list[Alert] = []
    went: list[Alert] = []
    dropped = 0
    for number in range(400):
        if dice.random() < 0.6:
            came.append(alert(str(number), dice.choice([INFO, URGENT])))
            backlog.put(came[-1])
        elif (taken := backlog.take()) is not None:
            went.append(taken[0])
            dropped += taken[1]
        assert backlog.waiting <= 2 * limit + 1
    while (taken := backlog.take()) is not None:
        went.append(taken[0])
        dropped += taken[1]
    assert len(came) == len(went) + dropped
    assert went == [one for one in came if one in went]  # in the order in which they came
    assert backlog.is_done


def test_alerts_put_by_many_threads_are_all_there() -> None:
    backlog = Backlog(100_000)
    threads = [
        threading.Thread(target=lambda n=n: [backlog.put(alert(f"{n} {i}")) for i in range(2000)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    heard = []
    while len(heard) < 8000:
        backlog.wait(1.0)
        while (taken := backlog.take()) is not None:
            assert taken[1] == 0
            heard.append(taken[0].headline)
    for n in range(4):
        assert [h for h in heard if h.startswith(f"{n} ")] == [f"{n} {i}" for i in range(2000)]


# ------------------------------------------------------------------ failing


def test_a_channel_that_fails_is_told_of_once_a_minute_and_owns_up_when_it_works_again(relays: Relays) -> None:
    phone = Kept(name="phone", is_remote=True, failure=NotDelivered("the host is not found"))
    relay = relays(Route(channel=phone))
    for number in range(5):
        relay.tell(INFO, f"alert {number}", "")
    assert relay.flush(10)
    reports = [a for a in relays.terminal.sent if a.headline.startswith("alerts do not")]
    assert [(a.severity, a.headline) for a in reports] == [(WARNING, "alerts do not get through to phone")]
    assert reports[0].text == "the host is not found; 1 did not get through since the last that did"
    phone.failure = None
    relay.tell(INFO, "sold", "")
    assert relay.flush(10)
    assert phone.headlines == ["sold", "5 alerts are missing here"]


def test_only_urgent_alerts_are_tried_again_and_only_if_the_failure_may_pass(relays: Relays, web: Web) -> None:
    relay = relays(Route(channel=Webhook(SecretUrl(web.url("/ok")))))
    for severity, answers, tries in (
        (URGENT, [500, 429], 3),
        (URGENT, [503, 503, 503], 3),
        (URGENT, [404], 1),
        (WARNING, [500], 1),
    ):
        web.got.clear()
        web.answers[:] = answers
        relay.tell(severity, f"{severity} {answers}", "")
        until(lambda: not web.answers)
        assert relay.flush(10)
        assert len([h for h in web.headlines if "missing" not in h]) == tries


def test_a_fault_in_one_channel_stops_neither_it_nor_others(relays: Relays) -> None:
    odd, well = Kept(name="odd", failure=RuntimeError("https://example.org/SECRET")), Kept(name="well")
    relay = relays(Route(channel=odd), Route(channel=well))
    relay.tell(URGENT, "one", "")
    relay.tell(URGENT, "two", "")
    assert relay.flush(10)
    assert (odd.tried, well.headlines[:1], "two" in well.headlines) == (2, ["one"], True)
    assert "SECRET" not in str(relays.terminal.sent)


def test_a_clock_that_fails_loses_no_alert() -> None:
    def broken() -> datetime:
        raise OSError("no clock file")

    kept = Kept()
    relay = AlertRelay([], terminal=Route(channel=kept), now=broken)
    relay.tell(URGENT, "one", "")
    assert relay.close(10)
    assert kept.headlines == ["one"]


# ------------------------------------------------------------------ the same again


def test_alerts_alike_are_one_message_for_remote_channels_and_all_are_told_here(relays: Relays, web: Web) -> None:
    relay = relays(Route(channel=Webhook(SecretUrl(web.url("/ok")))))
    for number in range(5):
        relay.tell(URGENT, "still open", f"you hold {number}")
    relay.tell(WARNING, "still open", "another severity")
    until(lambda: len(web.got) == 2)
    assert relay.flush(10)
    assert sorted(web.headlines) == ["still open", "still open", "still open (and 3 more)"]
    assert web.got[-1].json["text"] == "you hold 4"
    assert relays.terminal.headlines == ["still open"] * 6


def test_what_was_held_goes_when_its_time_is_over(relays: Relays, web: Web) -> None:
    relay = relays(Route(channel=Webhook(SecretUrl(web.url("/ok")))), fold_s=0.1)
    for _ in range(3):
        relay.tell(INFO, "again", "")
    until(lambda: len(web.got) == 2)
    assert web.headlines == ["again", "again (and 1 more)"]


def test_folding_second_by_second() -> None:
    folding = Folding(60)
    assert folding.take(alert("a"), 0) == alert("a")
    assert folding.take(alert("b"), 1) == alert("b")
    assert folding.wait_s(1) == 59
    assert folding.take(alert("a", text="2"), 30) is None
    assert folding.take(alert("a", text="3"), 31) is None
    assert (folding.holds, folding.due(59)) == (True, [])
    assert [a.headline for a in folding.due(60)] == ["a (and 1 more)"]
    assert folding.holds is False
    assert folding.take(alert("a", text="4"), 100) is None  # its window began at 60
    assert folding.take(alert("b"), 100) == alert("b")
    assert [(a.headline, a.text) for a in folding.due(120)] == [("a", "4")]
    assert folding.due(1000) == []
    assert folding.wait_s(1000) is None


# ------------------------------------------------------------------ ending


def test_closing_delivers_what_is_queued_and_held(relays: Relays, web: Web) -> None:
    relay = relays(Route(channel=Webhook(SecretUrl(web.url("/ok")))))
    for number in range(50):
        relay.tell(INFO, f"alert {number}", "")
    relay.tell(INFO, "alert 49", "")
    assert relay.close(10)
    assert web.headlines == [*(f"alert {n}" for n in range(50)), "alert 49"]
    until(lambda: not any(thread.is_alive() for thread in (*relay._lanes, relay._thread)))


def test_closing_waits_no_longer_than_it_may_and_says_what_stays(
    relays: Relays, web: Web, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = relays(Route(channel=Webhook(SecretUrl(web.url("/hang/TOKEN")))))
    for number in range(3):
        relay.tell(URGENT, f"alert {number}", "")
    until(lambda: web.got)
    start_s = time.monotonic()
    assert not relay.close(0.2)
    assert time.monotonic() - start_s < 1
    assert len(relays.terminal.sent) == 3
    told = capsys.readouterr().err
    where = f"webhook http://127.0.0.1:{web.port}/…"
    assert told == f"WARNING: 3 alerts were not delivered to {where}. squareoff ended before it took them\n"


def test_what_is_told_after_the_end_is_still_seen(relays: Relays, capsys: pytest.CaptureFixture[str]) -> None:
    relay = relays()
    assert relay.close(10)
    assert relay.close(10)
    relay.tell(URGENT, "late", "text")
    assert capsys.readouterr().err == "URGENT: late. text\n"
