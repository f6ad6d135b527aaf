"""`squareoff alerts`: where they go, whether they arrive, and which there were; never a token on the screen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from squareoff.core.types import RunId
from squareoff.ports import Severity
from squareoff.wiring import alerts as alerts_wiring
from tests.apps.conftest import Squareoff
from tests.web import Web, serving, until

SECRET = "T0PSECRET"
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # apprise looks for it
NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


def settings(squareoff: Squareoff, text: str) -> Path:
    file = squareoff.data / "alerts.toml"
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_without_a_file_alerts_go_to_the_terminal_and_the_log(squareoff: Squareoff) -> None:
    assert squareoff.json("alerts") == {
        "channels": [{"channel": "terminal", "minimum": "info"}, {"channel": "log", "minimum": "info"}],
        "heartbeat": {"url": None, "every_s": 60.0},
    }
    assert "heartbeat: heartbeat.json, no url" in squareoff("alerts").output


def test_the_channels_are_listed_without_their_secrets(squareoff: Squareoff) -> None:
    settings(
        squareoff,
        f"""
        [terminal]
        minimum = "warning"
        [[webhook]]
        url = "https://hooks.example.org/{SECRET}"
        headers = {{ Authorization = "{SECRET}" }}
        [[apprise]]
        url = "tgram://{SECRET}/1"
        minimum = "urgent"
        [heartbeat]
        url = "https://hc-ping.com/{SECRET}"
        every_s = 30
        """,
    )
    assert squareoff.json("alerts") == {
        "channels": [
            {"channel": "terminal", "minimum": "warning"},
            {"channel": "log", "minimum": "info"},
            {"channel": "webhook https://hooks.example.org/…", "minimum": "info"},
            {"channel": "apprise tgram://…", "minimum": "urgent"},
        ],
        "heartbeat": {"url": "https://hc-ping.com/…", "every_s": 30.0},
    }
    answer = squareoff("alerts")
    assert SECRET not in answer.output + answer.errors
    assert "heartbeat: heartbeat.json, https://hc-ping.com/… every 30 s" in answer.output


def test_a_wrong_file_is_one_sentence_and_nothing_is_sent(squareoff: Squareoff) -> None:
    settings(squareoff, f"[[webhook]]\nurl = 'gopher://{SECRET}'")
    for words in (("alerts",), ("alerts", "test")):
        answer = squareoff(*words)
        says = "alerts.toml, webhook 1: url: does not begin with https:// or http://; write it like "
        assert (answer.status, answer.output) == (2, "")
        assert answer.errors == f'squareoff: {says}"https://example.org/alerts"\n'
    assert not (squareoff.data / "alerts.jsonl").exists()


def test_a_file_that_others_can_read_is_warned_of(squareoff: Squareoff) -> None:
    file = settings(squareoff, "")
    file.chmod(0o644)
    answer = squareoff("alerts")
    assert answer.status == 0
    assert (
        answer.errors
        == f"squareoff: others on this machine can read {file}, and the tokens in it; run: chmod 600 {file}\n"
    )


def test_a_test_alert_goes_through_every_channel_whatever_its_minimum(squareoff: Squareoff, web: Web) -> None:
    pytest.importorskip("apprise")
    settings(
        squareoff,
        f"[[webhook]]\nurl='{web.url('/ok')}'\nminimum='urgent'\n[[apprise]]\nurl='json://127.0.0.1:{web.port}/app'",
    )
    answer = squareoff("alerts", "test")
    assert answer.status == 0
    assert answer.output.splitlines() == [
        "terminal: delivered",
        "log: delivered",
        f"webhook http://127.0.0.1:{web.port}/…: delivered",
        "apprise json://…: delivered",
    ]
    assert answer.errors.startswith("INFO: this is a test of squareoff's alerts. If you read this")
    assert [request.path for request in web.got] == ["/ok", "/app"]
    assert [alert["headline"] for alert in squareoff.json("alerts", "log")] == ["this is a test of squareoff's alerts"]


def test_a_channel_that_does_not_work_says_why_and_the_others_are_tried(squareoff: Squareoff, web: Web) -> None:
    settings(
        squareoff,
        f"[[webhook]]\nurl='{web.url('/404/' + SECRET)}'\n[[webhook]]\nurl='{web.url('/ok/' + SECRET)}'\n"
        f"[[apprise]]\nurl='nosuch://{SECRET}'",
    )
    answer = squareoff("alerts", "test", "--json")
    assert answer.status == 1
    where = f"webhook http://127.0.0.1:{web.port}/…"
    look = "it does not know this address; look at the url in alerts.toml, then run `squareoff alerts test`"
    assert json.loads(answer.output)[2:4] == [
        {"channel": where, "delivered": False, "reason": f"the other side answered HTTP 404; {look}"},
        {"channel": where, "delivered": True, "reason": None},
    ]
    assert [row["delivered"] for row in json.loads(answer.output)] == [True, True, False, True, False]
    text = squareoff("alerts", "test")
    assert text.status == 1
    assert f"{where}: NOT delivered: the other side answered HTTP 404" in text.output
    assert SECRET not in answer.output + answer.errors + text.output + text.errors


def test_without_the_extra_it_says_what_to_install(squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    settings(squareoff, f"[[apprise]]\nurl='tgram://{SECRET}/1'")
    assert squareoff("alerts").status == 0
    answer = squareoff("alerts", "test")
    assert answer.status == 1
    says = "apprise tgram://…: NOT delivered: the package apprise is not installed; pip install 'squareoff[alerts]'"
    assert says in answer.output.splitlines()


def test_a_channel_that_hangs_is_not_waited_for_long(squareoff: Squareoff, web: Web) -> None:
    settings(squareoff, f"[[webhook]]\nurl='{web.url('/hang')}'")
    read = alerts_wiring.alert_settings(squareoff.data)
    *_, last = alerts_wiring.send_test_alerts(read, squareoff.data, timeout_s=0.2)
    assert last.reason == "no answer within 0.2 s"


def test_the_log_shows_the_last_alerts_and_takes_no_commands_from_them(squareoff: Squareoff) -> None:
    assert squareoff("alerts", "log").output == "No alerts yet.\n"
    assert squareoff.json("alerts", "log") == []
    relay = alerts_wiring.open_alerts(squareoff.data, now=lambda: NOW)
    for number in range(30):
        relay.tell(Severity.URGENT, f"alert {number}", "\x1b[2J text", run_id=RunId(number))
    assert relay.close(10)
    assert [row["headline"] for row in squareoff.json("alerts", "log")] == [f"alert {n}" for n in range(10, 30)]
    assert squareoff.json("alerts", "log", "-n", "1") == [
        {
            "at": "2026-11-23T04:00:00.000+00:00",
            "severity": "urgent",
            "headline": "alert 29",
            "text": "\x1b[2J text",
            "run_id": 29,
        }
    ]
    output = squareoff("alerts", "log", "-n", "2").output
    assert "\x1b" not in output
    assert ["alert 28." in line for line in output.splitlines()] == [False, True, False]
    assert squareoff("alerts", "log", "-n", "0").status == 2


# ------------------------------------------------------------------ what a worker opens


def test_a_worker_opens_what_the_file_names(squareoff: Squareoff, web: Web) -> None:
    settings(squareoff, f"[[webhook]]\nurl='{web.url('/ok')}'\nminimum='warning'")
    relay = alerts_wiring.open_alerts(squareoff.data, now=lambda: NOW)
    heartbeat = alerts_wiring.open_heartbeat(squareoff.data, relay)
    heartbeat.beat("trading")
    relay.tell(Severity.WARNING, "stale prices", "none for 5 s")
    until(lambda: (squareoff.data / "heartbeat.json").exists())
    heartbeat.close()
    assert relay.close(10)
    assert web.headlines == ["stale prices"]


def test_a_worker_starts_with_a_wrong_file_and_says_so_as_urgent(
    squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    for text, says in (
        (f"[[webhook]]\nurl = '{SECRET}'", "alerts.toml, webhook 1: url: is not a URL"),
        (f"[[apprise]]\nurl = 'tgram://{SECRET}/1'", "the package apprise is not installed"),
    ):
        settings(squareoff, text)
        relay = alerts_wiring.open_alerts(squareoff.data)
        alerts_wiring.open_heartbeat(squareoff.data, relay).close()
        assert relay.close(10)
        (told,) = squareoff.json("alerts", "log", "-n", "1") if "apprise" not in text else read_last(squareoff)
        assert (told["severity"], told["headline"]) == ("urgent", "some alerts will not reach you")
        assert told["text"].startswith(says)
        assert SECRET not in str(told)


def read_last(squareoff: Squareoff) -> list[dict[str, object]]:
    return alerts_wiring.last_alerts(squareoff.data, 1)
