"""The data folder in one file, and back: whole, private, never over what is there, never while squareoff runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import sqlite3
import stat
import tarfile
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from squareoff import wiring
from squareoff.adapters.lease import FileLease, machine_id
from squareoff.adapters.spool import FileSpool
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.migrations import HEAD
from squareoff.adapters.sql.strategies import StrategyStore
from squareoff.config import Config
from squareoff.core.access import Scope
from squareoff.core.run import Run
from squareoff.core.types import AccountId, UserId
from tests.apps.conftest import MONDAY_MORNING, Squareoff
from tests.apps.runs import PAPER, at_0920_it_costs, play, put_into

OPTIONS = ("--buy", "09:20", "--sell", "15:10", "--stop-loss", "1.5%")


@pytest.fixture(autouse=True)
def monday(squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "now", lambda *_: MONDAY_MORNING)


def still_selling() -> Run:
    """50 NSE:INFY are held, the SELL is out and not filled."""
    return play(at_0920_it_costs("1562.40")).runs[0]


@pytest.fixture
def holding(squareoff: Squareoff) -> Squareoff:
    """A folder as a running squareoff leaves it: an open run, a spool, the paper broker's book, settings."""
    data = squareoff.data
    assert squareoff("add", "morning", "NSE:INFY", "50", *OPTIONS).status == 0
    put_into(data / "squareoff.db", still_selling(), [])
    accounts = data / "accounts"
    accounts.mkdir()
    FileSpool(accounts / "paper.spool", machine_id(accounts), "boot").close()
    (data / "broker").mkdir()
    (data / "broker" / "ledger.jsonl").write_text('{"account":"paper"}\n')
    (data / "alerts.toml").write_text('[webhook]\nurl = "https://example.invalid/secret"\n')
    (data / "reference" / "calendars").mkdir()
    (data / "reference" / "calendars" / "note.txt").write_text("mine")
    (data / "reference" / ".draft").write_text("half")
    (data / "run").mkdir()
    (data / "run" / "up.json").write_text("{}")
    return squareoff


@pytest.fixture
def archive(holding: Squareoff, tmp_path: Path) -> Path:
    file = tmp_path / "monday.tar.gz"
    assert holding("backup", str(file)).status == 0
    return file


@pytest.fixture
def elsewhere(tmp_path: Path) -> Squareoff:
    return Squareoff(tmp_path / "elsewhere" / "data")


def contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def repacked(archive: Path, change: Callable[[dict[str, bytes], dict[str, Any]], None]) -> Path:
    """The archive with its files and its manifest changed, otherwise as squareoff would pack it."""
    files = contents(archive)
    manifest = json.loads(files.pop("manifest.json"))
    change(files, manifest)
    target = archive.with_name("changed.tar.gz")
    with tarfile.open(target, "w:gz") as tar:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target


def listed(content: bytes) -> dict[str, object]:
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def install_id(data: Path) -> str:
    database = Database.open(data / "squareoff.db")
    database.close()
    return database.install_id


# ------------------------------------------------------------------ the backup


def test_a_backup_restored_elsewhere_shows_the_same_strategies_runs_and_fills(
    holding: Squareoff, archive: Path, elsewhere: Squareoff
) -> None:
    answer = elsewhere("restore", str(archive), "--yes")
    assert (answer.status, answer.errors) == (0, "")
    assert elsewhere.json("show", "morning") == holding.json("show", "morning")
    assert elsewhere.json("list") == holding.json("list")
    for path in ("accounts/paper.spool", "broker/ledger.jsonl", "alerts.toml", "reference/instruments.csv"):
        assert (elsewhere.data / path).read_bytes() == (holding.data / path).read_bytes()


def test_a_backup_holds_what_counts_and_nothing_of_this_machine(archive: Path) -> None:
    files = contents(archive)
    manifest = json.loads(files.pop("manifest.json"))
    assert sorted(files) == [
        "accounts/paper.spool",
        "alerts.toml",
        "broker/ledger.jsonl",
        "reference/calendars/note.txt",
        "reference/instruments.csv",
        "squareoff.db",
    ]
    assert manifest["files"] == {name: listed(content) for name, content in files.items()}
    assert (manifest["format"], manifest["database_version"]) == (1, HEAD)
    with tarfile.open(archive) as tar:
        assert {(member.uid, member.uname, member.mode) for member in tar} == {(0, "", 0o600)}


def test_a_backup_is_for_its_owner_alone_and_leaves_nothing_beside_it(archive: Path) -> None:
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert sorted(path.name for path in archive.parent.iterdir()) == ["data", "monday.tar.gz"]


def test_a_backup_is_never_written_over_a_file_that_is_there(holding: Squareoff, tmp_path: Path) -> None:
    file = tmp_path / "precious.tar.gz"
    file.write_text("precious")
    answer = holding("backup", str(file))
    assert (answer.status, answer.output) == (2, "")
    assert answer.errors == f"squareoff: file: {file} is there already; name another file; nothing is overwritten\n"
    assert file.read_text() == "precious"


def test_without_a_name_the_backup_is_named_after_its_time(
    holding: Squareoff, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    assert holding("backup").status == 0
    (file,) = place.iterdir()
    assert tarfile.is_tarfile(file)
    assert len(file.name) == len("squareoff-backup-20261123-080000.tar.gz")
    assert holding("backup", str(tmp_path)).status == 0  # a folder: under that name in it
    assert len(list(tmp_path.glob("squareoff-backup-*.tar.gz"))) == 1


def test_of_an_empty_folder_there_is_nothing_to_back_up(elsewhere: Squareoff, tmp_path: Path) -> None:
    answer = elsewhere("backup", str(tmp_path / "b.tar.gz"))
    assert answer.status == 2
    assert answer.errors.endswith("there is nothing to back up yet\n")
    assert not elsewhere.data.exists()


def test_a_damaged_database_is_not_backed_up_as_if_it_were_whole(holding: Squareoff, tmp_path: Path) -> None:
    database = holding.data / "squareoff.db"
    content = bytearray(database.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    database.write_bytes(content)
    answer = holding("backup", str(tmp_path / "b.tar.gz"))
    assert (answer.status, answer.output) == (2, "")
    assert "is damaged" in answer.errors
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_backup_made_while_others_write_is_whole_and_of_one_instant(
    holding: Squareoff, tmp_path: Path, elsewhere: Squareoff
) -> None:
    """Two rows are always written together: one without the other would mean that the copy is of two instants."""
    database = Database.open(holding.data / "squareoff.db")
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            with database.write() as connection:
                connection.exec_driver_sql(
                    "INSERT INTO accounts (id, user_id, broker) VALUES (?, 1, 'paper')", (f"a{number}",)
                )
                connection.exec_driver_sql("INSERT INTO users (name) VALUES (?)", (f"a{number}",))
            number += 1
            if number > 20:
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(30)
        answers = [holding("backup", str(tmp_path / f"{number}.tar.gz")) for number in range(3)]
    finally:
        stop.set()
        writer.join()
        database.close()
    assert [answer.status for answer in answers] == [0, 0, 0]
    assert elsewhere("restore", str(tmp_path / "2.tar.gz"), "--yes").status == 0
    with sqlite3.connect(elsewhere.data / "squareoff.db") as connection:
        accounts, users = (
            {name for (name,) in connection.execute(f"SELECT {column} FROM {table} WHERE {column} GLOB 'a[0-9]*'")}
            for table, column in (("accounts", "id"), ("users", "name"))
        )
    connection.close()
    assert len(accounts) > 20
    assert accounts == users


def test_what_was_committed_a_moment_ago_is_in_the_backup_while_an_engine_keeps_the_database_open(
    holding: Squareoff, tmp_path: Path, elsewhere: Squareoff
) -> None:
    """It is in a file beside the database then: a plain copy of the database would be whole and without it."""
    with closing(sqlite3.connect(holding.data / "squareoff.db")) as engine:
        engine.execute("SELECT 1 FROM install").fetchall()
        assert holding("add", "later", "NSE:INFY", "50", *OPTIONS).status == 0
        assert holding("backup", str(tmp_path / "b.tar.gz")).status == 0
    assert elsewhere("restore", str(tmp_path / "b.tar.gz"), "--yes").status == 0
    assert elsewhere.saved == ["morning", "later"]


# ------------------------------------------------------------------ the restore


def test_a_restore_tells_the_positions_and_that_the_broker_decides(archive: Path, elsewhere: Squareoff) -> None:
    lines = elsewhere("restore", str(archive), "--yes").output.splitlines()
    assert lines[1:3] == [
        "1 strategy; 1 run with a position:",
        "  morning, 2026-11-23: sell_pending, you hold shares (50 NSE:INFY)",
    ]
    assert lines[3].startswith("At the next start the broker's own positions decide.")


def test_what_was_there_is_moved_aside_and_never_deleted(holding: Squareoff, archive: Path) -> None:
    assert holding("add", "later", "NSE:INFY", "50", *OPTIONS).status == 0
    (holding.data / "run" / "notes").write_text("keep me")
    before = tree(holding.data)
    answer = holding("restore", str(archive), "--yes")
    (aside,) = holding.data.parent.glob("data.before-restore-*")
    assert f"what was there before is in {aside}" in answer.output.splitlines()
    assert tree(aside) == before
    assert holding.saved == ["morning"]
    assert stat.S_IMODE(holding.data.stat().st_mode) == 0o700
    assert sorted(path.name for path in holding.data.parent.iterdir()) == ["data", aside.name, "monday.tar.gz"]


def test_a_restored_folder_is_an_installation_of_its_own(
    holding: Squareoff, archive: Path, elsewhere: Squareoff
) -> None:
    """Else a new run would get the order ids of one that was made after the backup, and a missing send mark would
    prove that nothing was sent."""
    assert elsewhere("restore", str(archive), "--yes").status == 0
    assert install_id(elsewhere.data) != install_id(holding.data)
    assert not (elsewhere.data / "accounts" / "machine").exists()
    database = Database.open(elsewhere.data / "squareoff.db")
    store = StrategyStore(database)
    assert [run.key for run in store.open_runs()] == [still_selling().key]  # its orders are still found
    (_, note) = store.journal()[-1]
    database.close()
    assert note.text.startswith("this database was restored from a backup of ")
    assert note.account == PAPER


def test_a_restore_lets_nobody_in_who_may_have_been_shut_out_since_and_keeps_the_key_of_the_secrets(
    holding: Squareoff, tmp_path: Path
) -> None:
    assert holding("secrets", "set", "x", "--stdin", input="hidden\n").status == 0
    with closing(wiring.access_store(Config(data=holding.data))) as store:
        found = store.use_link(store.make_link(UserId(1)), "a browser")
        link, token = store.make_link(UserId(1)), store.make_token(UserId(1), "a sheet", Scope.READ, None)[1]
    assert found is not None
    assert holding("backup", str(tmp_path / "b.tar.gz")).status == 0
    assert holding("restore", str(tmp_path / "b.tar.gz"), "--yes").status == 0
    with closing(wiring.access_store(Config(data=holding.data))) as store:
        assert (store.session(found[1]), store.use_link(link, ""), store.token(token)) == (None, None, None)
        assert store.use_link(store.make_link(UserId(1)), "") is not None
    with closing(wiring.secret_store(Config(data=holding.data))) as secrets:
        assert secrets.get("x") == "hidden"
    with tarfile.open(tmp_path / "b.tar.gz") as tar:
        assert not [name for name in tar.getnames() if "secrets" in name]


def test_a_spool_restored_with_its_folder_proves_nothing_by_a_missing_mark(archive: Path, elsewhere: Squareoff) -> None:
    assert elsewhere("restore", str(archive), "--yes").status == 0
    accounts = elsewhere.data / "accounts"
    spool = FileSpool(accounts / "paper.spool", machine_id(accounts), "boot")
    assert spool.read().same_boot is False
    spool.close()


def test_restoring_asks_first(holding: Squareoff, archive: Path) -> None:
    before = tree(holding.data)
    for reply in ("n\n", ""):
        answer = holding("restore", str(archive), input=reply)
        assert answer.status == 1
        assert answer.errors.endswith("squareoff: nothing was changed\n")
        assert "is kept in" in answer.errors
    assert tree(holding.data) == before
    assert sorted(path.name for path in holding.data.parent.iterdir()) == ["data", "monday.tar.gz"]
    assert holding("restore", str(archive), input="y\n").status == 0


def refused(squareoff: Squareoff, archive: Path, status: int = 2) -> str:
    """The sentence, after proof that nothing was changed and nothing was left behind."""
    before = tree(squareoff.data)
    beside = sorted(path.name for path in squareoff.data.parent.iterdir())
    answer = squareoff("restore", str(archive), "--yes")
    assert (answer.status, answer.output) == (status, "")
    assert tree(squareoff.data) == before
    assert sorted(path.name for path in squareoff.data.parent.iterdir()) == beside
    assert answer.errors.count("\n") == 1
    return answer.errors


def test_nothing_is_restored_while_an_engine_works_on_the_folder(holding: Squareoff, archive: Path) -> None:
    lease = FileLease(holding.data / "accounts", AccountId("paper"))
    lease.acquire()
    try:
        assert "squareoff runs on" in refused(holding, archive, status=1)
    finally:
        lease.release()
    assert holding("restore", str(archive), "--yes").status == 0


@pytest.mark.parametrize("path", ["run/up.lock", "broker/ledger.jsonl", "redis/owner.lock", "accounts/other.lock"])
def test_nothing_is_restored_while_any_part_of_squareoff_runs(holding: Squareoff, archive: Path, path: str) -> None:
    import fcntl

    lock = holding.data / path
    lock.parent.mkdir(exist_ok=True)
    with lock.open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert f"holds {path})" in refused(holding, archive, status=1)


def test_an_archive_cut_off_anywhere_is_refused(holding: Squareoff, archive: Path) -> None:
    whole = archive.read_bytes()
    cut = archive.with_name("cut.tar.gz")
    for size in [0, 1, 5, 20, *range(100, len(whole) * 9 // 10, len(whole) // 12)]:
        cut.write_bytes(whole[:size])
        assert "is damaged" in refused(holding, cut)


def test_a_changed_byte_anywhere_is_found(holding: Squareoff, archive: Path) -> None:
    """Inside the compressed stream as it would be after a bad disk, and in the files as after a careful hand."""
    whole = archive.read_bytes()
    changed = archive.with_name("changed.tar.gz")
    for place in range(20, len(whole) - 20, len(whole) // 15):
        changed.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        answer = holding("restore", str(changed))  # nobody is there to answer: at most it asks
        if not answer.errors.startswith("Restore "):
            assert (answer.status, answer.output) == (2, "")
    plain = bytearray(gzip.decompress(whole))
    place = plain.index(b"NSE:SHARE,A share")
    plain[place] ^= 1
    changed.write_bytes(gzip.compress(bytes(plain)))
    assert "reference/instruments.csv is not what was backed up" in refused(holding, changed)


@pytest.mark.parametrize("name", ["squareoff.db", "alerts.toml", "accounts/paper.spool"])
def test_an_archive_that_lost_a_file_is_refused(holding: Squareoff, archive: Path, name: str) -> None:
    assert f"{name} is missing" in refused(holding, repacked(archive, lambda files, _: files.pop(name) and None))


@pytest.mark.parametrize(
    "path",
    [
        "../evil",
        "/tmp/evil",
        "reference/../../evil",
        "reference/./evil",
        "reference//evil",
        "reference/.hidden",
        "accounts/paper.lock",
        "accounts/machine",
        "accounts/../evil.spool",
        "run/up.json",
        "squareoff.db-wal",
        "anything",
    ],
)
def test_an_archive_with_a_path_that_no_backup_has_is_refused(holding: Squareoff, archive: Path, path: str) -> None:
    def smuggle(files: dict[str, bytes], manifest: dict[str, Any]) -> None:
        files[path] = b"x"
        manifest["files"][path] = listed(b"x")

    assert "which is no part of a backup" in refused(holding, repacked(archive, smuggle))

    def smuggle_unlisted(files: dict[str, bytes], manifest: dict[str, Any]) -> None:
        files[path] = b"x"

    assert "which is no part of a backup" in refused(holding, repacked(archive, smuggle_unlisted))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_an_archive_with_a_link_in_place_of_a_file_is_refused(holding: Squareoff, archive: Path, kind: bytes) -> None:
    files = contents(archive)
    target = archive.with_name("links.tar.gz")
    with tarfile.open(target, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if name == "alerts.toml":
                member.type, member.linkname = kind, "/etc/passwd"
            else:
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert "'alerts.toml', which is no part of a backup" in refused(holding, target)


@pytest.mark.parametrize("changes", [{"format": 2}, {"database_version": "9999"}])
def test_an_archive_of_a_newer_squareoff_is_refused(
    holding: Squareoff, archive: Path, changes: Mapping[str, object]
) -> None:
    changed = repacked(archive, lambda _, manifest: manifest.update(changes))
    assert "it was made by a newer squareoff" in refused(holding, changed)


@pytest.mark.parametrize("manifest", [[], {}, {"format": 1}, "text", None, {"format": 1, "files": []}])
def test_an_archive_whose_manifest_says_nothing_is_refused(holding: Squareoff, archive: Path, manifest: object) -> None:
    target = archive.with_name("odd.tar.gz")
    with tarfile.open(target, "w:gz") as tar:
        member = tarfile.TarInfo("manifest.json")
        content = json.dumps(manifest).encode()
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    assert "is damaged, or is no backup" in refused(holding, target)


def test_an_archive_with_another_program_s_database_is_refused(
    holding: Squareoff, archive: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    content = other.read_bytes()

    def swap(files: dict[str, bytes], manifest: dict[str, Any]) -> None:
        files["squareoff.db"] = content
        manifest["files"]["squareoff.db"] = listed(content)

    assert "holds no tables of squareoff" in refused(holding, repacked(archive, swap))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("hello"), "is damaged, or is no backup"),
    ],
)
def test_what_is_no_archive_is_refused(
    holding: Squareoff, tmp_path: Path, make: Callable[[Path], None], says: str
) -> None:
    make(tmp_path / "it")
    assert says in refused(holding, tmp_path / "it")


def test_a_folder_reached_by_a_link_is_exchanged_where_it_is(holding: Squareoff, archive: Path, tmp_path: Path) -> None:
    real = tmp_path / "disk" / "squareoff"
    real.parent.mkdir()
    shutil.move(holding.data, real)
    holding.data.symlink_to(real)
    assert holding("restore", str(archive), "--yes").status == 0
    assert holding.data.is_symlink()
    assert [path.name.partition("-2")[0] for path in sorted(real.parent.iterdir())] == [
        "squareoff",
        "squareoff.before-restore",
    ]
    assert holding.saved == ["morning"]
