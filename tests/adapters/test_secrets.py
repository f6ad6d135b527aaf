"""Secrets at rest: read with the key, by nothing else, and at every moment of its exchange."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import select, update

from squareoff.adapters.secrets import KeyFile
from squareoff.adapters.sql import schema
from squareoff.adapters.sql.database import Database
from squareoff.adapters.sql.secrets import SecretStore
from squareoff.core.types import UserId
from squareoff.errors import BadInput, SecretsUnreadable

LOCAL = UserId(1)
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRETS = {"account:kite:token": "tok-én-of-kite", "channel:ops:url": "tgram://12:ab/34", "x": "y" * 10_000}


@pytest.fixture
def database(where: Path | str) -> Iterator[Database]:
    with closing(Database.open(where)) as opened:
        yield opened


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    folder = tmp_path / "folder"
    folder.mkdir()
    return KeyFile(folder / "secrets.key")


def opened(database: Database, keys: KeyFile) -> SecretStore:
    return SecretStore(database, KeyFile(keys.file, is_ours=keys.is_ours), lambda: NOON)


@pytest.fixture
def store(database: Database, keys: KeyFile) -> SecretStore:
    return opened(database, keys)


def fill(store: SecretStore) -> None:
    for name, text in SECRETS.items():
        store.put(name, text, LOCAL)


def read_all(store: SecretStore) -> dict[str, str | None]:
    return {name: store.get(name) for name in SECRETS}


def boxes(database: Database) -> list[tuple[Any, ...]]:
    with database.read() as connection:
        return [
            tuple(row) for row in connection.execute(select(schema.secret_boxes).order_by(schema.secret_boxes.c.id))
        ]


# --- kept and read ---


def test_a_secret_is_read_as_it_was_set(database: Database, keys: KeyFile, store: SecretStore) -> None:
    fill(store)
    assert read_all(opened(database, keys)) == SECRETS
    assert store.get("nothing") is None
    assert [about.id for about in store.list()] == sorted(SECRETS)
    store.put("x", "anew", LOCAL)
    assert store.get("x") == "anew"
    store.remove("x")
    assert store.get("x") is None
    with pytest.raises(BadInput, match="there is no secret 'x'"):
        store.remove("x")


def test_nothing_of_it_can_be_read_without_the_key(
    database: Database, store: SecretStore, where: Path | str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    caplog.set_level("DEBUG", "sqlalchemy.engine")
    fill(store)
    store.rotate()
    places = [repr(boxes(database)), caplog.text, repr(store.list())]
    database.close()
    if isinstance(where, Path):
        places += [file.read_bytes().decode("latin-1") for file in where.parent.iterdir() if file.is_file()]
    for text in SECRETS.values():
        for hidden in (text, base64.b64encode(text.encode()).decode()):
            assert not any(hidden in place for place in places)


def test_the_same_secret_is_never_the_same_box(database: Database, store: SecretStore) -> None:
    store.put("one", "same", LOCAL)
    store.put("two", "same", LOCAL)
    (first, second) = boxes(database)
    assert (first[2] != second[2], first[3] != second[3], first[4]) == (True, True, second[4])


def test_a_box_put_under_another_name_or_changed_does_not_open(database: Database, store: SecretStore) -> None:
    fill(store)
    kite, ops = SECRETS.keys() - {"x"}
    with database.write() as connection:
        rows = {row.id: row for row in connection.execute(select(schema.secret_boxes))}
        for name, of in ((kite, rows[ops]), (ops, rows[kite])):
            values = {"nonce": of.nonce, "box": of.box}
            connection.execute(update(schema.secret_boxes).where(schema.secret_boxes.c.id == name).values(values))
        values = {"box": base64.b64encode(b"z" * 40).decode()}
        connection.execute(update(schema.secret_boxes).where(schema.secret_boxes.c.id == "x").values(values))
    for name in SECRETS:
        with pytest.raises(SecretsUnreadable, match="was changed by somebody") as refused:
            store.get(name)
        assert not any(text in str(refused.value) for text in SECRETS.values())


def test_a_name_that_is_anothers_is_taken(database: Database, store: SecretStore) -> None:
    with database.write() as connection:
        connection.execute(schema.users.insert().values(id=2, name="asha"))
    store.put("channel", "hers", UserId(2))
    with pytest.raises(BadInput, match="the name 'channel' is taken"):
        store.put("channel", "mine", LOCAL)
    assert store.get("channel") == "hers"


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 101, "a\0", "é"])
def test_what_is_no_name_is_refused(store: SecretStore, keys: KeyFile, name: str) -> None:
    with pytest.raises(BadInput, match="is not a name for a secret"):
        store.put(name, "text", LOCAL)
    assert not keys.file.exists()


@pytest.mark.parametrize("text", ["", "x" * 10_001])
def test_nothing_and_too_much_are_refused(store: SecretStore, text: str) -> None:
    with pytest.raises(BadInput, match="is empty or too long"):
        store.put("name", text, LOCAL)


# --- the key's file ---


def test_the_key_is_made_once_and_for_its_owner_alone(store: SecretStore, keys: KeyFile) -> None:
    assert keys.all() == ()
    store.put("one", "text", LOCAL)
    made = keys.file.read_bytes()
    store.put("two", "text", LOCAL)
    assert keys.file.read_bytes() == made
    assert keys.file.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(made)) == 32
    assert repr(keys.all()) == "(Key(),)"


def test_several_who_need_the_first_key_at_once_agree_on_it(database: Database, keys: KeyFile) -> None:
    threads = [Thread(target=opened(database, keys).put, args=(f"s{n}", f"text {n}", LOCAL)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [opened(database, keys).get(f"s{n}") for n in range(6)] == [f"text {n}" for n in range(6)]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_that_others_may_read_is_refused(store: SecretStore, keys: KeyFile, mode: int) -> None:
    fill(store)
    keys.file.chmod(mode)
    for attempt in (lambda: store.get("x"), lambda: store.put("x", "y", LOCAL), store.rotate):
        with pytest.raises(BadInput, match="others may read the key in"):
            attempt()


@pytest.mark.parametrize("content", [b"", b"short", b"!" * 44, base64.b64encode(b"x" * 31), b"\xff" * 2000])
def test_a_file_that_holds_no_key_is_refused_and_stays(store: SecretStore, keys: KeyFile, content: bytes) -> None:
    keys.file.touch(mode=0o600)
    keys.file.write_bytes(content)
    with pytest.raises(BadInput, match="holds no key"):
        store.put("x", "y", LOCAL)
    assert keys.file.read_bytes() == content


def test_a_key_that_is_lost_is_not_replaced_by_another_as_if_nothing_were(store: SecretStore, keys: KeyFile) -> None:
    fill(store)
    kept = keys.file.read_bytes()
    keys.file.unlink()
    with pytest.raises(BadInput, match="is not there any more; put it back"):
        store.put("new", "text", LOCAL)
    with pytest.raises(SecretsUnreadable, match="was written with a key that is not here"):
        store.get("x")
    with pytest.raises(SecretsUnreadable):
        store.rotate()
    keys.file.touch(mode=0o600)
    keys.file.write_bytes(kept)
    assert read_all(store) == SECRETS


def test_a_key_file_that_somebody_named_must_be_there(database: Database, tmp_path: Path) -> None:
    named = KeyFile(tmp_path / "folder-key", is_ours=False)
    store = opened(database, named)
    with pytest.raises(BadInput, match=r"there is no key in .*; put it there, or make one"):
        store.put("x", "y", LOCAL)
    assert not named.file.exists()
    fd = os.open(named.file, os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(fd, base64.b64encode(b"k" * 32))
    os.close(fd)
    store.put("x", "y", LOCAL)
    assert store.get("x") == "y"


# --- the exchange ---


def test_after_an_exchange_every_box_is_new_and_the_old_key_opens_none(
    database: Database, keys: KeyFile, store: SecretStore
) -> None:
    fill(store)
    before, (old,) = boxes(database), keys.all()
    assert store.rotate() == 3
    (new,) = keys.all()
    assert new != old
    assert not keys.old.exists()
    assert {row[4] for row in boxes(database)} == {new.id}
    assert not {row[3] for row in boxes(database)} & {row[3] for row in before}
    assert read_all(store) == SECRETS


def test_an_exchange_with_nothing_to_open_is_fine(store: SecretStore, keys: KeyFile) -> None:
    assert store.rotate() == 0
    assert not keys.file.exists()


class Died(BaseException):
    """The process is killed here."""


STEPS = 22
"""Before and after each write of a key file, each box and each removal of the old key."""


def dying_at(patch: pytest.MonkeyPatch, step: int) -> list[int]:
    """Dies before its `step`th step, counted from 0; returns the steps that were reached."""
    reached: list[int] = []

    def take() -> None:
        reached.append(len(reached))
        if reached[-1] == step:
            raise Died

    def around(work: Any) -> Any:
        def stepped(*arguments: Any, **options: Any) -> Any:
            take()
            done = work(*arguments, **options)
            take()
            return done

        return stepped

    patch.setattr(os, "replace", around(os.replace))
    patch.setattr(os, "fsync", around(os.fsync))
    patch.setattr(Path, "unlink", around(Path.unlink))
    patch.setattr(SecretStore, "_replace", around(SecretStore._replace))
    return reached


def test_the_steps_of_an_exchange_are_all_known(store: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store)
    with monkeypatch.context() as patch:
        reached = dying_at(patch, 999)
        store.rotate()
    assert len(reached) == STEPS


@pytest.mark.parametrize("step", range(STEPS))
def test_wherever_an_exchange_dies_every_secret_is_read_and_the_next_one_ends_it(
    database: Database, keys: KeyFile, store: SecretStore, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    fill(store)
    with monkeypatch.context() as patch:
        dying_at(patch, step)
        with pytest.raises(Died):
            store.rotate()
    assert read_all(opened(database, keys)) == SECRETS
    opened(database, keys).put("x", SECRETS["x"], LOCAL)
    assert opened(database, keys).rotate() == 3
    assert read_all(opened(database, keys)) == SECRETS
    assert len(keys.all()) == 1


def test_who_reads_and_writes_during_an_exchange_loses_nothing(database: Database, keys: KeyFile) -> None:
    fill(opened(database, keys))
    wrong: list[Any] = []
    stop: list[bool] = []

    def use(number: int) -> None:
        mine = opened(database, keys)
        turn = 0
        while not stop:
            turn += 1
            try:
                mine.put(f"s{number}", f"{number} {turn}", LOCAL)
                if (told := mine.get(f"s{number}")) != f"{number} {turn}" or read_all(mine) != SECRETS:
                    wrong.append(told)
            except Exception as error:
                wrong.append(error)
                return

    threads = [Thread(target=use, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        opened(database, keys).rotate()
    stop.append(True)
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_box_that_does_not_open_stops_the_exchange_before_anything_is_changed(
    database: Database, keys: KeyFile, store: SecretStore
) -> None:
    fill(store)
    with database.write() as connection:
        values = {"box": base64.b64encode(b"z" * 40).decode()}
        connection.execute(update(schema.secret_boxes).where(schema.secret_boxes.c.id == "x").values(values))
    before, key = boxes(database), keys.file.read_bytes()
    with pytest.raises(SecretsUnreadable, match="'x'"):
        store.rotate()
    assert (boxes(database), keys.file.read_bytes(), keys.old.exists()) == (before, key, False)
    store.remove("x")
    assert store.rotate() == 2
