"""`alerts.toml`: what is wrong is named, what is secret is not."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squareoff.adapters.alerts.secret import SecretUrl
from squareoff.adapters.alerts.settings import (
    AlertSettings,
    AppriseSettings,
    HeartbeatSettings,
    WebhookSettings,
    load_settings,
    parse_settings,
)
from squareoff.apps.alerts_command import EXAMPLE
from squareoff.core.bad_input import BadInput
from squareoff.ports import Severity

SECRET = "T0PSECRET"


def test_the_example_says_what_it_seems_to_say() -> None:
    assert parse_settings(EXAMPLE) == AlertSettings(
        webhooks=(
            WebhookSettings(
                url=SecretUrl("https://example.org/alerts"),
                minimum=Severity.WARNING,
                headers={"Authorization": "Bearer TOKEN"},
            ),
        ),
        apprise=(AppriseSettings(url=SecretUrl("tgram://BOT_TOKEN/CHAT_ID"), minimum=Severity.URGENT),),
        heartbeat=HeartbeatSettings(url=SecretUrl("https://hc-ping.com/YOUR-ID"), every_s=60.0),
    )


def test_without_a_file_everything_goes_to_the_terminal_and_the_log(tmp_path: Path) -> None:
    assert load_settings(tmp_path) == AlertSettings()
    assert parse_settings("") == AlertSettings()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[log]\nminimum = info", "alerts.toml: is not valid TOML (line 2, column 14); see `squareoff alerts --help`"),
        ("[terminal", "alerts.toml: is not valid TOML (end of document); see `squareoff alerts --help`"),
        ("[telegram]", "'telegram' is not known; there are terminal, log, webhook, apprise and heartbeat"),
        ("terminal = 1", "alerts.toml, terminal: is not a table; write [terminal]"),
        ("[webhook]\nurl='https://a.org'", "alerts.toml, webhook: is not a list; write [[webhook]] with double"),
        ("[log]\nlevel='info'", "alerts.toml, log: 'level' is not known; it has minimum"),
        ("[log]\nminimum='loud'", 'log: minimum: \'loud\' is not a severity; write one of "info", "warning", "urgent"'),
        ("[log]\nminimum=3", "alerts.toml, log: minimum: what stands there is not a severity"),
        ("[[webhook]]", 'alerts.toml, webhook 1: url: is missing; write it like "https://example.org/alerts"'),
        ("[[apprise]]\nurl='a://b/c'\n[[apprise]]", 'alerts.toml, apprise 2: url: is missing; write it like "tgram:'),
        ("[[webhook]]\nurl='ftp://a.org'", "webhook 1: url: does not begin with https:// or http://"),
        ("[[webhook]]\nurl='https://'", "webhook 1: url: has no host"),
        ("[[webhook]]\nurl='https://u:p@a.org'", "has a user or password before the host; for a webhook write headers"),
        ("[[webhook]]\nurl='https://a.org'\nheaders='x'", "webhook 1: headers: is not a table; write headers = {"),
        ("[[webhook]]\nurl='https://a.org'\nheaders={A=1}", "headers: a header is not one line of plain letters"),
        ('[[webhook]]\nurl="https://a.org"\nheaders={A="x\\ny"}', "headers: a header is not one line of plain letters"),
        ("[heartbeat]\nevery_s=1", "heartbeat: every_s: is not a time it can keep; write seconds from 5 to 3600"),
        ("[heartbeat]\nevery_s=true", "heartbeat: every_s: is not a time it can keep"),
        ("[heartbeat]\nevery_s=nan", "heartbeat: every_s: is not a time it can keep"),
        ("[heartbeat]\nurl=3", "heartbeat: url: is not a URL"),
    ],
)
def test_a_wrong_file_names_the_field_and_what_is_right(text: str, says: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_settings(text)
    assert says in str(caught.value)
    assert str(caught.value).startswith("alerts.toml")


@pytest.mark.parametrize(
    "text",
    [
        f"[[webhook]]\nurl = 'ftp://{SECRET}'",
        f"[[webhook]]\nurl = https://a.org/{SECRET}",
        f"[[webhook]]\nurl = 'https://u:{SECRET}@a.org/'",
        f"[[webhook]]\nurl = 'https://a.org:{SECRET}/'",
        f"[[webhook]]\nurl = 'https://[{SECRET}'",
        f"[[webhook]]\nurl = 'https://a.org/ {SECRET}'",
        f"[[webhook]]\nurl = '{SECRET}'",
        f"[[webhook]]\nurl = 'https://a.org/{SECRET}'\nminimum = '{SECRET}'",
        f"[[webhook]]\nurl = 'https://a.org/'\nheaders = {{ 'X {SECRET}' = 'y' }}",
        f"[[webhook]]\nurl = 'https://a.org/'\nheaders = {{ X = '{SECRET}', X = '{SECRET}' }}",
        f"[[webhook]]\nurl = 'https://a.org/'\nheaders = {{ X = '{SECRET}₹' }}",
        f"[[webhook]]\n'https://a.org/{SECRET}' = 'urgent'",
        f"'tgram://{SECRET}/1' = 'urgent'",
        f"{SECRET} = 1\n{SECRET} = 2",
        f"[[apprise]]\nurl = ['tgram://{SECRET}/1']",
        f"[heartbeat]\nurl = 'https://a.org/{SECRET}'\nevery_s = '{SECRET}'",
    ],
)
def test_no_message_repeats_a_secret(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse_settings(text)
    assert SECRET not in f"{caught.value} {caught.value!r}"
    assert caught.value.__cause__ is None


def test_settings_that_are_printed_show_no_secret() -> None:
    read = parse_settings(
        f"[[webhook]]\nurl='https://a.org/{SECRET}'\nheaders={{A='{SECRET}'}}\n"
        f"[[apprise]]\nurl='tgram://{SECRET}/1'\n[heartbeat]\nurl='https://hc.org/{SECRET}'"
    )
    assert SECRET not in repr(read)
    assert "https://a.org/…" in repr(read)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_file_that_others_can_read_is_warned_of(tmp_path: Path, mode: int, warned: bool) -> None:
    file = tmp_path / "alerts.toml"
    file.write_text("")
    file.chmod(mode)
    warnings = load_settings(tmp_path).warnings
    assert bool(warnings) is warned
    assert all(f"chmod 600 {file}" in warning for warning in warnings)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "alerts.toml").write_bytes(b"\xff")
    with pytest.raises(BadInput, match=r"alerts.toml: is not UTF-8 text; save it as UTF-8"):
        load_settings(tmp_path)
    (tmp_path / "alerts.toml").unlink()
    (tmp_path / "alerts.toml").mkdir()
    with pytest.raises(BadInput, match=r"alerts.toml: cannot be read: Is a directory"):
        load_settings(tmp_path)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=60), st.sampled_from(["url", "minimum", "every_s", "headers", ""]))
def test_whatever_stands_there_is_settings_or_one_sentence(text: str, field: str) -> None:
    quoted = text.replace("\\", "").replace('"', "")
    for table in ("[[webhook]]\nurl='https://a.org'\n", "[[apprise]]\n", "[heartbeat]\n", ""):
        for file in (f"{table}{text}", f'{table}{field} = "{quoted}"'):
            with suppress(BadInput):
                parse_settings(file)
