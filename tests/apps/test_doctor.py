"""`squareoff doctor`, as a user runs it: what is wrong, and what to do about it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from squareoff import wiring
from squareoff.adapters.lease import FileLease
from squareoff.adapters.redis.server import RedisServer
from squareoff.adapters.redis.store import RedisRuntimeStore
from squareoff.apps import doctor_command
from squareoff.core.preflight import CheckName
from squareoff.core.types import AccountId, Symbol, Tick
from tests.apps.conftest import MONDAY_MORNING, Squareoff
from tests.apps.runs import PAPER, at_0920_it_costs, play, put_into

SHARE = Symbol("NSE:SHARE")
OPTIONS = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1.5%")


class Doctor:
    """`squareoff doctor --json`, its findings by name."""

    def __init__(self, squareoff: Squareoff, *, redis_url: str) -> None:
        self._squareoff, self._redis_url = squareoff, redis_url
        self.status = 0

    def __call__(self, *arguments: str) -> dict[str, Any]:
        given = () if "--redis-url" in arguments else ("--redis-url", self._redis_url)
        answer = self._squareoff(*given, *arguments, "doctor", "--json")
        assert answer.errors == ""
        self.status = answer.status
        found = json.loads(answer.output)
        everything = [*found["setup"], *(row for rows in found["strategies"].values() for row in rows)]
        assert self.status == any(row["verdict"] == "wrong" for row in everything)
        assert all(row["mend"] for row in everything if row["verdict"] in ("wrong", "warning"))
        result: dict[str, Any] = found
        return result

    def setup(self, name: str, *arguments: str) -> dict[str, Any]:
        (row,) = (row for row in self(*arguments)["setup"] if row["name"] == name)
        return dict(row)

    def check(self, name: str) -> dict[str, Any]:
        (row,) = (row for row in self()["strategies"]["morning"] if row["name"] == name)
        return dict(row)


@pytest.fixture(autouse=True)
def monday(squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Sets the time; it is Monday morning until then."""

    def it_is(instant: datetime) -> None:
        monkeypatch.setattr(wiring, "now", lambda *_: instant)

    it_is(MONDAY_MORNING)
    squareoff.data.chmod(0o700)
    monkeypatch.setattr(doctor_command, "ntp_synchronized", lambda: True)
    return it_is


@pytest.fixture
def doctor(squareoff: Squareoff, redis_server: RedisServer) -> Doctor:
    return Doctor(squareoff, redis_url=redis_server.url)


@pytest.fixture
def morning(squareoff: Squareoff) -> Squareoff:
    assert squareoff("add", "morning", SHARE, "50", *OPTIONS).status == 0
    return squareoff


# ------------------------------------------------------------------ as a whole


@pytest.mark.processes
def test_a_new_set_up_is_ok_and_looking_at_it_makes_nothing(squareoff: Squareoff) -> None:
    before = sorted(squareoff.data.rglob("*"))
    answer = squareoff("doctor")
    assert (answer.status, answer.errors) == (0, "")
    lines = [" ".join(line.split()) for line in answer.output.splitlines()]
    assert lines[0] == "Set-up"
    assert f"ok data {squareoff.data}, yours alone" in lines
    assert "ok redis the one that comes with squareoff starts and answers" in lines
    assert "warning alerts no alert channel: an alarm reaches nobody who is not looking at the screen" in lines
    assert "-> set one up in alerts.toml in the data folder" in lines
    assert lines[-1] == "Nothing is wrong, 1 warning."
    assert sorted(squareoff.data.rglob("*")) == before


def test_every_strategy_gets_the_whole_list_and_what_cannot_be_known_now_says_why(
    morning: Squareoff, doctor: Doctor
) -> None:
    rows = doctor()["strategies"]["morning"]
    assert [row["name"] for row in rows] == [str(name) for name in CheckName]
    verdicts = {row["name"]: row["verdict"] for row in rows}
    known = dict.fromkeys(("calendar", "session", "instrument", "disk", "redis", "sql"), "ok")
    unknown = dict.fromkeys(("token", "funds", "stop_loss_in_band", "clock", "feed"), "unknown")
    assert verdicts == {**known, **unknown, "alert_channel": "warning"}
    assert {row["text"] for row in rows if row["name"] in ("token", "funds", "clock")} == {"squareoff is not running"}
    assert doctor.status == 0


def test_one_strategy_can_be_asked_for_by_name(morning: Squareoff, redis_server: RedisServer) -> None:
    assert morning("add", "noon", SHARE, "50", *OPTIONS).status == 0
    answer = morning("--redis-url", redis_server.url, "doctor", "noon", "--json")
    assert list(json.loads(answer.output)["strategies"]) == ["noon"]
    answer = morning("--redis-url", redis_server.url, "doctor", "noo")
    assert (answer.status, answer.output) == (2, "")
    assert answer.errors == "squareoff: strategy: there is no strategy 'noo'; did you mean noon?\n"


# ------------------------------------------------------------------ the set-up


def test_a_folder_that_others_may_look_into_is_a_warning(squareoff: Squareoff, doctor: Doctor) -> None:
    squareoff.data.chmod(0o755)
    row = doctor.setup("data")
    assert (row["verdict"], row["mend"]) == ("warning", f"chmod 700 {squareoff.data}")


def test_a_folder_that_is_not_there_yet_is_no_fault(tmp_path: Path, redis_server: RedisServer) -> None:
    new = Squareoff(tmp_path / "new" / "data")
    assert Doctor(new, redis_url=redis_server.url).setup("data")["verdict"] == "ok"
    assert not new.data.parent.exists()
    (tmp_path / "file").write_text("")
    assert Doctor(Squareoff(tmp_path / "file"), redis_url=redis_server.url).setup("data")["verdict"] == "wrong"


def test_a_damaged_database_is_wrong_and_the_way_back_is_named(morning: Squareoff, doctor: Doctor) -> None:
    database = morning.data / "squareoff.db"
    content = database.read_bytes()
    database.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    row = doctor.setup("database")
    assert row["verdict"] == "wrong"
    assert "is damaged" in row["text"]
    assert "squareoff restore" in row["mend"]
    database.write_text("hello, this is no database at all")
    assert "is damaged, or is no database" in doctor.setup("database")["text"]
    answer = morning("doctor", "morning")
    assert answer.status == 2
    assert answer.errors.startswith("squareoff: strategy: no strategy can be read: ")


def test_a_database_of_a_newer_squareoff_is_wrong(morning: Squareoff, doctor: Doctor) -> None:
    with sqlite3.connect(morning.data / "squareoff.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    assert "was written by a newer squareoff" in doctor.setup("database")["text"]


def test_a_database_that_somebody_holds_locked_is_wrong(
    morning: Squareoff, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squareoff.adapters.sql.backup.BUSY_TIMEOUT_S", 0.05)
    connection = sqlite3.connect(morning.data / "squareoff.db", isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        assert "locked" in doctor.setup("database")["text"]
    finally:
        connection.close()


def test_a_redis_that_does_not_answer_is_wrong_and_its_password_is_not_shown(
    morning: Squareoff, doctor: Doctor
) -> None:
    answer = morning("--redis-url", "redis://:secret@127.0.0.1:1/0", "doctor", "--json")
    assert answer.status == 1
    assert "secret" not in answer.output
    (row,) = (row for row in json.loads(answer.output)["setup"] if row["name"] == "redis")
    assert (row["verdict"], row["text"]) == ("wrong", "Redis does not answer (ConnectionError)")


def test_a_machine_without_network_time_is_wrong(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_command, "ntp_synchronized", lambda: False)
    assert doctor.setup("clock")["mend"] == "switch it on: timedatectl set-ntp true"
    monkeypatch.setattr(doctor_command, "ntp_synchronized", lambda: None)
    assert doctor.setup("clock")["verdict"] == "unknown"


@pytest.mark.parametrize(
    ("instant", "verdict", "says"),
    [
        (MONDAY_MORNING, "ok", "2027 is not there yet, due in December"),
        (datetime(2026, 12, 5, tzinfo=UTC), "warning", "NSE has no calendar for 2027 yet"),
        (datetime(2028, 1, 5, tzinfo=UTC), "wrong", "no signed-off calendar of 2028: nothing is armed"),
    ],
)
def test_the_calendar_of_this_year_must_be_there_and_that_of_the_next_in_december(
    doctor: Doctor, monday: Callable[[datetime], None], instant: datetime, verdict: str, says: str
) -> None:
    monday(instant)
    row = doctor.setup("calendar NSE")
    assert row["verdict"] == verdict
    assert says in row["text"]


def test_a_calendar_that_cannot_be_read_is_wrong_for_the_set_up_and_the_strategy(
    morning: Squareoff, doctor: Doctor
) -> None:
    (morning.data / "reference" / "calendars").mkdir()
    (morning.data / "reference" / "calendars" / "NSE-2026.toml").write_text("year = true")
    assert doctor.setup("calendar NSE")["verdict"] == "wrong"
    assert doctor.check("calendar")["verdict"] == "wrong"
    assert "NSE-2026.toml" in doctor.check("calendar")["text"]


def test_an_old_list_of_instruments_is_a_warning(doctor: Doctor, monday: Callable[[datetime], None]) -> None:
    assert doctor.setup("instruments")["verdict"] == "ok"
    monday(MONDAY_MORNING + timedelta(days=31))
    assert doctor.setup("instruments")["verdict"] == "ok"
    monday(MONDAY_MORNING + timedelta(days=32))
    assert doctor.setup("instruments")["verdict"] == "warning"


def test_a_list_of_instruments_that_cannot_be_read_is_wrong(morning: Squareoff, doctor: Doctor) -> None:
    (morning.data / "reference" / "instruments.csv").write_text("symbol\nNSE:SHARE\n")
    assert doctor.setup("instruments")["verdict"] == "wrong"
    assert doctor.check("instrument")["verdict"] == "wrong"
    assert doctor.check("session")["verdict"] == "unknown"


def test_alert_channels_are_counted(morning: Squareoff, doctor: Doctor) -> None:
    file = morning.data / "alerts.toml"
    file.write_text('[[apprise]]\nurl = "c"\n[[webhook]]\nurl = "a"\n[[webhook]]\nurl = "b"\n')
    assert doctor.setup("alerts")["text"] == "3 set up"
    assert doctor.check("alert_channel")["text"] == "3 alert channels"
    file.write_text('[terminal]\nminimum = "urgent"\n')  # reaches nobody who is away
    assert doctor.setup("alerts")["verdict"] == "warning"
    file.write_text('[[webhook]\nurl = "https://secret.invalid')
    assert "secret" not in doctor.setup("alerts")["text"]
    assert doctor.setup("alerts")["verdict"] == "wrong"
    assert doctor.check("alert_channel")["ok"] is None


def test_a_nearly_full_disk_is_wrong_and_says_what_may_go(
    morning: Squareoff, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**9, 10**9, 40 * 10**6))
    row = doctor.setup("disk")
    assert (row["verdict"], row["text"]) == ("wrong", "40 MB free: nearly full")
    assert "delete old backups" in row["mend"]
    assert doctor.check("disk")["verdict"] == "wrong"


# ------------------------------------------------------------------ what runs


def test_a_position_that_nobody_watches_is_wrong(morning: Squareoff, doctor: Doctor) -> None:
    put_into(morning.data / "squareoff.db", play(at_0920_it_costs("1562.40")).runs[0], [])
    row = doctor.setup("running")
    assert (row["verdict"], row["mend"]) == ("wrong", "start it: squareoff up")
    assert "nobody watches morning: you hold shares (50 NSE:INFY)" in row["text"]
    lease = FileLease(morning.data / "accounts", AccountId("paper"))
    lease.acquire()
    try:
        assert doctor.setup("running")["verdict"] == "ok"
    finally:
        lease.release()
    assert doctor.setup("running")["verdict"] == "wrong"


def test_a_strategy_whose_symbol_left_the_list_is_wrong(morning: Squareoff, doctor: Doctor) -> None:
    file = morning.data / "reference" / "instruments.csv"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "NSE:SHARE" not in line))
    assert doctor.check("instrument")["verdict"] == "wrong"
    assert doctor.status == 1


@contextmanager
def up(squareoff: Squareoff, redis_url: str, *, token: str) -> Iterator[Path]:
    """As `squareoff up` leaves its addresses: a real paper broker, whose time stands still on Monday morning."""
    folder = squareoff.data / "run"
    folder.mkdir()
    clock, ready = folder / "clock.json", folder / "broker.json"
    wiring.paced_clock([(0.0, MONDAY_MORNING), (1.0, MONDAY_MORNING + timedelta(seconds=1))], clock)
    command = [sys.executable, "-m", "squareoff.adapters.brokers.paper", "--data", str(squareoff.data / "broker")]
    command += ["--ready", str(ready), "--clock", str(clock), "--account", f"paper={token}"]
    with subprocess.Popen(command) as broker:
        try:
            deadline = time.monotonic() + 30
            while not ready.exists():
                assert broker.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            url = json.loads(ready.read_text())["url"]
            (folder / "up.json").write_text(json.dumps({"broker_url": url, "redis_url": redis_url}))
            yield folder
        finally:
            broker.terminate()


@pytest.fixture
def price_in_redis(redis_server: RedisServer) -> Iterator[Callable[[str, datetime], None]]:
    def put(price: str, at: datetime) -> None:
        async def do() -> None:
            store = RedisRuntimeStore(redis_server.url, owner="test")
            await store.put_prices(PAPER, {SHARE: Tick(SHARE, Decimal(price), at)})
            await store.close()

        asyncio.run(do())

    yield put
    with wiring.redis_client(redis_server.url) as client:
        client.delete("prices:{paper}")


@pytest.mark.processes
def test_while_squareoff_runs_its_broker_and_prices_are_asked(
    morning: Squareoff,
    doctor: Doctor,
    redis_server: RedisServer,
    price_in_redis: Callable[[str, datetime], None],
    monday: Callable[[datetime], None],
) -> None:
    price_in_redis("1560", MONDAY_MORNING - timedelta(seconds=2))
    with up(morning, redis_server.url, token="paper"):
        rows = {row["name"]: row for row in doctor()["strategies"]["morning"]}
        assert rows["token"]["text"] == "the broker takes the access token"
        assert (rows["clock"]["ok"], rows["clock"]["text"]) == (True, "this machine's clock is 0.0 s behind")
        assert rows["stop_loss_in_band"]["text"].startswith("stop-loss 1,536.60, inside the price band 1,400.00")
        assert rows["feed"]["text"] == "the market is closed; the last price came 2.0 s ago"
        assert rows["funds"]["text"] == "the paper broker did not say what is free"

        monday(MONDAY_MORNING + timedelta(hours=1, minutes=17))  # the broker's time still stands at 08:00
        rows = {row["name"]: row for row in doctor()["strategies"]["morning"]}
        assert [rows[name]["verdict"] for name in ("clock", "feed")] == ["wrong", "wrong"]
        assert rows["feed"]["text"] == "the last price of NSE:SHARE came 77 minutes ago"

        price_in_redis("1410", MONDAY_MORNING)
        assert "is not above the lower price band 1,400.00" in doctor.check("stop_loss_in_band")["text"]


@pytest.mark.processes
def test_a_refused_token_is_wrong_and_a_broker_that_is_gone_is_unknown(
    morning: Squareoff, doctor: Doctor, redis_server: RedisServer
) -> None:
    with up(morning, redis_server.url, token="another") as folder:
        assert doctor.check("token")["text"] == "the broker refuses the access token"
        assert doctor.status == 1
    assert doctor.check("token")["text"] == "the paper broker does not answer"
    (folder / "up.lock").write_text("")  # nobody holds it: what is written there is of a killed one
    assert doctor.check("token")["text"] == "squareoff is not running"
    (folder / "up.json").write_text("not JSON")
    (folder / "up.lock").unlink()
    assert doctor.check("token")["text"] == "squareoff is not running"
