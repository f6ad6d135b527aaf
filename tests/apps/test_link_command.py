"""How the console is opened, and when it must not be."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from squareoff import wiring
from squareoff.apps.api.listening import is_loopback, own_hosts
from squareoff.apps.link_command import opening
from squareoff.apps.up import supervisor
from squareoff.config import Config
from squareoff.core.types import UserId
from tests.api.client import Browser
from tests.apps.conftest import Squareoff

PASSWORD = "a long sentence of mine"


def test_without_up_there_is_nothing_to_open(squareoff: Squareoff) -> None:
    answer = squareoff("link")
    assert (answer.status, answer.output) == (2, "")
    assert answer.errors == "squareoff: link: `squareoff up` does not run here; start it: it prints a link itself\n"


def test_up_without_its_console_says_so(squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "running", lambda _: {"console_url": ""})
    assert "runs without its console" in squareoff("link").errors


def test_every_link_is_another_one_and_the_key_is_behind_the_hash(
    squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands behind `#` is sent to no server, so it is in no log."""
    monkeypatch.setattr(supervisor, "running", lambda _: {"console_url": "http://127.0.0.1:8737"})
    one, other = squareoff("link").output, squareoff.json("link")["url"]
    assert re.fullmatch(r"http://127\.0\.0\.1:8737/#key=[\w-]{43}\n", one)
    assert one.strip() != other


def test_with_a_password_there_are_no_links(squareoff: Squareoff) -> None:
    config = Config(data=squareoff.data)
    access = wiring.access_store(config)
    access.change_user(UserId(1), password=PASSWORD)
    access.close()
    assert opening(config, "http://127.0.0.1:8737") == "http://127.0.0.1:8737   (sign in with name and password)"


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "desk.example"])
def test_nobody_can_be_let_in_from_elsewhere_before_somebody_has_a_password(squareoff: Squareoff, host: str) -> None:
    answer = squareoff("up", "--market", "practice", "--host", host)
    assert answer.status == 2
    assert answer.errors.startswith(f"squareoff: --host: {host} can be reached by others, and no user has a password")


def test_a_certificate_needs_its_key(squareoff: Squareoff) -> None:
    answer = squareoff("up", "--market", "practice", "--tls-cert", "cert.pem")
    assert (answer.status, "--tls-key" in answer.errors) == (2, True)


def test_which_names_are_ours() -> None:
    assert [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9")] == [True] * 4
    assert [is_loopback(host) for host in ("0.0.0.0", "192.0.2.7", "elsewhere.example")] == [False] * 3
    assert own_hosts("127.0.0.1", 8737, []) == {"127.0.0.1:8737", "localhost:8737", "[::1]:8737"}
    assert own_hosts("192.0.2.7", 80, ["desk.example"]) == {"192.0.2.7:80", "desk.example", "desk.example:80"}


@pytest.mark.processes
def test_the_demo_can_be_watched_and_ends_with_everything_it_started(tmp_path: Path) -> None:
    data, log = tmp_path / "data", tmp_path / "log"
    command = [sys.executable, "-m", "squareoff", "--data", str(data), "demo", "--web", "--only", "plain"]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def until(words: str) -> re.Match[str]:
        end_s = time.monotonic() + 90
        while (found := re.search(words, log.read_text())) is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end_s, log.read_text()
            time.sleep(0.1)
        return found

    try:
        link = until(r"http://127\.0\.0\.1:(\d+)/#key=(\S+)")
        browser = Browser(port=int(link[1]))
        assert browser.sign_in(key=link[2]).status == 201
        events = browser.events()
        events.until(lambda _: events.row("plain").get("state") == "bought", 60)
        events.until(lambda _: events.row("plain").get("state") == "sold", 60)
        until("The day is over")
        events.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert "doubles 0" in log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    left = [pid for pid in os.listdir("/proc") if pid.isdigit() and str(data) in _command(pid)]
    assert left == []


def _command(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_console_whose_up_was_killed_is_found_also_behind_a_certificate_of_its_own(
    tmp_path: Path, scheme: str
) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/api/v1/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Healthy)
    if scheme == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate(tmp_path))
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    told = {"pid": 4711, "url": f"{scheme}://127.0.0.1:{server.server_port}"}
    (tmp_path / supervisor.CONSOLE_NAME).write_text(json.dumps(told))
    try:
        assert supervisor.orphaned_console(tmp_path) == 4711
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()
    assert supervisor.orphaned_console(tmp_path) is None


def certificate(folder: Path) -> Path:
    """Made here, signed by itself, for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "desk.example")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "cert.pem"
    file.write_bytes(made.public_bytes(pem) + private)
    return file
