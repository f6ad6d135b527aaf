"""Each way to a person: what goes over the wire or into the file, and what is said when it does not."""

from __future__ import annotations

import concurrent.futures.thread as pools
import errno
import json
import logging
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.web import Web, serving, until

from squareoff.adapters.alerts.alert import Alert, NotDelivered
from squareoff.adapters.alerts.apprise_channel import AppriseChannel, ChannelUnusable
from squareoff.adapters.alerts.heartbeat import Heartbeat
from squareoff.adapters.alerts.log import AlertLog, read_log
from squareoff.adapters.alerts.secret import SecretUrl
from squareoff.adapters.alerts.webhook import Webhook
from squareoff.adapters.memory.alerts import MemoryAlerts
from squareoff.core.types import RunId
from squareoff.ports import Severity

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
SECRET = "T0PSECRET"
OF_APPRISE = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
"""It looks whether Python still has that module."""


def alert(headline: str = "sold", text: str = "50 at 1540 < 1550") -> Alert:
    return Alert(at=NOW, severity=Severity.URGENT, headline=headline, text=text, run_id=RunId(7))


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as web:
        yield web


# ------------------------------------------------------------------ the log


def test_the_log_has_one_line_for_each_alert_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    log = AlertLog(tmp_path / "log")
    log.send(alert("one"))
    log.send(alert("two", "half \ud83d\nnext"))
    lines = (tmp_path / "log").read_text(encoding="ascii").splitlines()
    assert [json.loads(line)["headline"] for line in lines] == ["one", "two"]
    assert json.loads(lines[0]) == {
        "at": "2026-11-23T04:00:00.000+00:00",
        "severity": "urgent",
        "headline": "one",
        "text": "50 at 1540 < 1550",
        "run_id": 7,
    }
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    assert read_log(tmp_path / "log", 1)[0]["text"] == "half \ud83d\nnext"


def test_the_log_never_grows_beyond_two_files_of_its_size(tmp_path: Path) -> None:
    log = AlertLog(tmp_path / "log", bytes_at_most=1000)
    for number in range(100):
        log.send(alert(f"alert {number}"))
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in ("log", "log.1"))
    assert [told["headline"] for told in read_log(tmp_path / "log", 8)] == [f"alert {n}" for n in range(92, 100)]


def test_many_who_write_one_log_spoil_no_line_and_lose_none(tmp_path: Path) -> None:
    logs = [AlertLog(tmp_path / "log", bytes_at_most=50_000) for _ in range(4)]  # one new file on the way
    threads = [
        threading.Thread(target=lambda n=n: [logs[n].send(alert(f"{n} {i}")) for i in range(150)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [one["headline"] for one in read_log(tmp_path / "log", 1000)]
    assert sorted(told) == sorted(f"{n} {i}" for n in range(4) for i in range(150))


def test_a_line_that_was_cut_off_spoils_only_itself(tmp_path: Path) -> None:
    log = AlertLog(tmp_path / "log")
    log.send(alert("one"))
    with (tmp_path / "log").open("a") as out:
        out.write('{"at": "2026')
    log.send(alert("two"))
    assert [told["headline"] for told in read_log(tmp_path / "log", 9)] == ["one", "two"]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, real = AlertLog(tmp_path / "log"), os.write
    log.send(alert("one"))
    before = (tmp_path / "log").read_bytes()
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(NotDelivered, match="log cannot be written"):
        log.send(alert("two"))

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(NotDelivered, match="No space left on device; make room on the disk"):
        log.send(alert("two"))
    assert (tmp_path / "log").read_bytes() == before


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read_log(tmp_path / "log", 5) == []
    with pytest.raises(NotDelivered, match="No such file"):
        AlertLog(tmp_path / "nowhere" / "log").send(alert())


# ------------------------------------------------------------------ the webhook


@pytest.mark.parametrize(
    ("path", "says", "may_pass"),
    [
        ("/500", "the other side answered HTTP 500; it may pass by itself", True),
        ("/429", "the other side answered HTTP 429; it may pass by itself", True),
        ("/401", "the other side answered HTTP 401; its token or password is not valid any more", False),
        ("/404", "the other side answered HTTP 404; it does not know this address; look at the url", False),
        ("/400", "the other side answered HTTP 400; it wants another address or other JSON", False),
        ("/moved", "the address has moved (HTTP 302); put the new one into alerts.toml", False),
        ("/hang", "no answer within 0.2 s; it may pass by itself", True),
    ],
)
def test_a_webhook_says_what_went_wrong_and_nothing_secret(web: Web, path: str, says: str, may_pass: bool) -> None:
    hook = Webhook(
        SecretUrl(web.url(f"{path}/{SECRET}")),
        headers={"Authorization": SECRET},
        timeout_s=0.2 if path == "/hang" else 30,
    )
    with pytest.raises(NotDelivered) as caught:
        hook.send(alert())
    assert str(caught.value).startswith(says)
    assert caught.value.may_pass is may_pass
    assert len(web.got) == 1  # tried once, followed nowhere
    assert (caught.value.__cause__, caught.value.__suppress_context__) == (None, True)
    assert SECRET not in f"{caught.value!r} {hook.name} {hook._url!r}"


def test_a_webhook_that_cannot_be_reached_says_so(web: Web) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cases = {
        f"http://127.0.0.1:{port}/{SECRET}": "the host refuses connections",
        f"https://127.0.0.1:{web.port}/{SECRET}": "the connection broke",
        f"http://127.0.0.1:{web.port}/{SECRET}\x01": "the url",
        f"ftp://127.0.0.1/{SECRET}": "the",
    }
    for url, says in cases.items():
        with pytest.raises(NotDelivered) as caught:
            Webhook(SecretUrl(url), timeout_s=5).send(alert())
        assert str(caught.value).startswith(says)
        assert SECRET not in repr(caught.value)
        assert caught.value.__cause__ is None


def test_a_host_that_does_not_speak_http_is_told(web: Web) -> None:
    def speak() -> None:
        with server.accept()[0] as connection:
            connection.recv(1 << 16)
            connection.sendall(b"220 mail.example.org\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=speak)
        thread.start()
        with pytest.raises(NotDelivered, match=r"the other side does not speak HTTP|the connection broke"):
            Webhook(SecretUrl(f"http://127.0.0.1:{server.getsockname()[1]}/"), timeout_s=5).send(alert())
        thread.join()


def test_a_header_that_cannot_be_sent_is_not_repeated(web: Web) -> None:
    with pytest.raises(NotDelivered) as caught:
        Webhook(SecretUrl(web.url("/ok")), headers={"Authorization": f"{SECRET}\r\nX: y"}).send(alert())
    assert SECRET not in repr(caught.value)
    assert web.got == []


@pytest.mark.parametrize(
    ("url", "has_host", "shown"),
    [
        (f"https://user:{SECRET}@example.org:8443/{SECRET}?t={SECRET}#{SECRET}", True, "https://example.org:8443/…"),
        (f"tgram://{SECRET}/123", False, "tgram://…"),
        (f"https://[{SECRET}", True, "https://…"),
        (f"https://example.org:{SECRET}/", True, "https://…"),
        (SECRET, True, "?://…"),
    ],
)
def test_an_address_shows_its_host_at_most(url: str, has_host: bool, shown: str) -> None:
    secret = SecretUrl(url, has_host=has_host)
    assert (f"{secret}", repr(secret)) == (shown, f"SecretUrl('{shown}')")
    assert secret.reveal() == url
    assert secret == SecretUrl(url)


# ------------------------------------------------------------------ apprise


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """What a program that keeps every log line would have; pytest's own would also hear what goes nowhere."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.name}: {record.getMessage()}")

    root, keep = logging.getLogger(), Keep()
    level = root.level
    root.addHandler(keep)
    root.setLevel(logging.DEBUG)
    yield lines
    root.setLevel(level)
    root.removeHandler(keep)


@OF_APPRISE
def test_apprise_carries_an_alert(web: Web) -> None:
    pytest.importorskip("apprise")
    waited_for_at_the_end = set(pools._threads_queues)
    channel = AppriseChannel(SecretUrl(f"json://127.0.0.1:{web.port}/{SECRET}", has_host=False))
    channel.send(alert(text="half \ud83d < 1550"))
    (request,) = web.got
    assert (request.method, request.path) == ("POST", f"/{SECRET}")
    assert request.json["title"] == "URGENT: sold"
    assert request.json["message"] == "half ? < 1550 (run 7)"
    assert request.json["type"] == "failure"
    assert channel.name == "apprise json://…"
    assert set(pools._threads_queues) == waited_for_at_the_end  # a chat that hangs holds up no stop


@OF_APPRISE
def test_a_service_of_apprise_that_fails_says_so_and_nothing_secret(
    web: Web, capfd: pytest.CaptureFixture[str], logged: list[str]
) -> None:
    pytest.importorskip("apprise")
    for path, says, may_pass in (
        ("/401", "the service answered 401; look at the url", False),
        ("/503", "the service answered 503", True),
    ):
        with pytest.raises(NotDelivered) as caught:
            AppriseChannel(SecretUrl(f"json://u:{SECRET}@127.0.0.1:{web.port}{path}/{SECRET}", has_host=False)).send(
                alert()
            )
        assert str(caught.value).startswith(says)
        assert caught.value.may_pass is may_pass
        assert SECRET not in repr(caught.value)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(NotDelivered, match="could not be reached, or refused"):
        AppriseChannel(SecretUrl(f"json://127.0.0.1:{port}/{SECRET}", has_host=False)).send(alert())
    assert capfd.readouterr() == ("", "")
    assert SECRET not in str(logged)
    assert [line for line in logged if line.startswith("apprise") and "Failed" in line] == []


@OF_APPRISE
@pytest.mark.parametrize("url", [f"nosuch://{SECRET}/x", f"tgram://{SECRET}", f"slack://{SECRET}"])
def test_a_url_that_apprise_does_not_take_is_told_without_it(url: str, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("apprise")
    with pytest.raises(ChannelUnusable) as caught:
        AppriseChannel(SecretUrl(url, has_host=False))
    scheme = url.partition(":")[0]
    assert str(caught.value) == f"apprise does not take the url {scheme}://…; see https://appriseit.com/services/"
    assert capfd.readouterr() == ("", "")


def test_without_apprise_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ChannelUnusable, match=r"not installed; pip install 'squareoff\[alerts\]'"):
        AppriseChannel(SecretUrl(f"tgram://{SECRET}/1", has_host=False))


# ------------------------------------------------------------------ the heartbeat


def test_the_heartbeat_goes_on_while_the_loop_beats_and_stops_with_it(tmp_path: Path, web: Web) -> None:
    file = tmp_path / "heartbeat.json"
    heart = Heartbeat(file, url=SecretUrl(web.url("/ok")), every_s=0.02, file_every_s=0.02, silent_after_s=0.3)
    time.sleep(0.06)
    assert not file.exists()  # nobody has said that he lives
    assert web.got == []
    heart.beat("trading, 3 runs")
    until(lambda: len(web.got) >= 3 and file.exists())
    sign = json.loads(file.read_text())
    assert (sign["state"], sign["pid"], set(sign)) == ("trading, 3 runs", os.getpid(), {"at", "state", "pid"})
    assert abs((datetime.now(UTC) - datetime.fromisoformat(sign["at"])).total_seconds()) < 10
    assert web.got[0].method == "GET"
    time.sleep(0.5)  # no beat any more
    file.unlink()
    count = len(web.got)
    time.sleep(0.2)
    assert (file.exists(), len(web.got)) == (False, count)
    heart.beat("back")
    until(lambda: len(web.got) > count and file.exists())
    heart.close()
    assert json.loads(file.read_text())["state"] == "stopped"
    assert os.listdir(tmp_path) == ["heartbeat.json"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_watcher_that_hangs_holds_up_neither_the_beat_nor_the_file(tmp_path: Path, web: Web) -> None:
    file = tmp_path / "heartbeat.json"
    heart = Heartbeat(file, url=SecretUrl(web.url("/hang")), every_s=0.02, file_every_s=0.02)
    heart.beat("one")
    until(lambda: web.got)
    start_s = time.perf_counter()
    for _ in range(1000):
        heart.beat("two")
    assert time.perf_counter() - start_s < 1
    until(lambda: json.loads(file.read_text())["state"] == "two")
    heart.close()


def test_a_heartbeat_that_does_not_get_out_is_told_once_until_it_does(tmp_path: Path, web: Web) -> None:
    alerts = MemoryAlerts()
    file = tmp_path / "nowhere" / "heartbeat.json"
    url = SecretUrl(web.url(f"/404/{SECRET}"))
    heart = Heartbeat(file, url=url, every_s=0.01, file_every_s=0.01, alerts=alerts)
    heart.beat("one")
    until(lambda: len(web.got) >= 4 and len(alerts.told) >= 2)
    assert [(a.severity, a.headline) for a in alerts.told] == [(Severity.WARNING, "the heartbeat does not get out")] * 2
    assert SECRET not in str(alerts.told)
    heart.close()
