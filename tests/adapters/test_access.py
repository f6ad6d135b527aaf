"""Who may use an installation: signing in, links, sessions, tokens, the audit log and requests sent twice."""

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from squareoff.adapters.sql import schema
from squareoff.adapters.sql.access import AccessStore
from squareoff.adapters.sql.database import Database
from squareoff.core.access import Different, Fresh, InProgress, Role, Scope, Stored, Token, User
from squareoff.core.types import UserId
from squareoff.errors import BadInput, RecordsUnavailable

LOCAL, NOBODY = UserId(1), UserId(999)
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD, OTHER = "a short sentence", "another sentence"
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


class World:
    """The wall clock, and dice that are written down."""

    def __init__(self) -> None:
        self.time, self.drawn = NOON, list[str]()

    def now(self) -> datetime:
        return self.time

    def draw(self, length: int) -> str:
        text = hashlib.sha256(str(len(self.drawn)).encode()).hexdigest()[:43]
        assert length == 32
        self.drawn.append(text)
        return text


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def database(where: Path | str) -> Iterator[Database]:
    with closing(Database.open(where)) as opened:
        yield opened


@pytest.fixture
def store(database: Database, world: World) -> AccessStore:
    return AccessStore(database, world.now, world.draw, hasher=CHEAP)


@pytest.fixture
def asha(store: AccessStore) -> User:
    return store.add_user("asha", PASSWORD, Role.TRADER)


def signed_in(store: AccessStore, name: str = "asha", password: str = PASSWORD) -> str:
    found = store.sign_in(name, password, "a browser")
    assert found is not None
    return found[1]


def everything(database: Database) -> str:
    """Every value of every table."""
    with database.read() as connection:
        rows = [connection.execute(select(table)).all() for table in schema.metadata.sorted_tables]
    return repr(rows)


# --- users ---


def test_the_one_user_of_a_new_installation_is_an_admin_without_a_password(store: AccessStore) -> None:
    local = User(id=LOCAL, name="local", role=Role.ADMIN, disabled=False, has_password=False)
    assert store.users() == (local,)
    assert (store.user(LOCAL), store.user_named("LOCAL")) == (local, local)


def test_a_user_who_is_added_gets_the_next_number(store: AccessStore) -> None:
    asha = store.add_user("asha", PASSWORD, Role.TRADER)
    assert asha == User(id=UserId(2), name="asha", role=Role.TRADER, disabled=False, has_password=True)
    without = store.add_user("ravi", None, Role.ADMIN)
    assert store.users()[1:] == (asha, without)


@pytest.mark.parametrize("name", ["asha", "ASHA"])
def test_two_users_do_not_share_a_name_not_even_by_capitals(store: AccessStore, asha: User, name: str) -> None:
    with pytest.raises(BadInput, match="there is a user 'asha' already"):
        store.add_user(name, PASSWORD, Role.TRADER)


def test_a_user_who_is_not_there_is_said_plainly(store: AccessStore) -> None:
    for number in (NOBODY, UserId(2**70), UserId(-1)):
        with pytest.raises(BadInput, match="there is no user"):
            store.user(number)
    with pytest.raises(BadInput, match="there is no user 'x"):
        store.user_named("x\0y")
    with pytest.raises(BadInput, match="there is no user"):
        store.change_user(NOBODY, disabled=True)


def test_a_password_that_cannot_be_one_changes_nothing(store: AccessStore, asha: User) -> None:
    secret = signed_in(store)
    with pytest.raises(BadInput, match="password: is too short"):
        store.change_user(asha.id, password="short")
    assert store.session(secret) is not None
    with pytest.raises(BadInput, match="is the name of the user"):
        store.add_user("some-long-name", "some-long-name", Role.TRADER)


def test_the_last_admin_who_can_sign_in_is_neither_disabled_nor_demoted(store: AccessStore, asha: User) -> None:
    for change in ({"disabled": True}, {"role": Role.TRADER}):
        with pytest.raises(BadInput, match="local is the only admin"):
            store.change_user(LOCAL, **change)  # type: ignore[arg-type]
    store.change_user(asha.id, role=Role.ADMIN, disabled=True)
    with pytest.raises(BadInput, match="local is the only admin"):
        store.change_user(LOCAL, disabled=True)
    store.change_user(asha.id, disabled=False)
    assert store.change_user(LOCAL, role=Role.TRADER).role is Role.TRADER


def test_of_two_admins_who_disable_each_other_at_once_one_stays(store: AccessStore) -> None:
    other = store.add_user("ravi", None, Role.ADMIN)
    told: list[bool] = []

    def disable(user: UserId) -> None:
        try:
            store.change_user(user, disabled=True)
            told.append(True)
        except BadInput:
            told.append(False)

    at_once(lambda: disable(LOCAL), lambda: disable(other.id))
    assert sorted(told) == [False, True]


def at_once(*works: Callable[[], Any]) -> None:
    barrier = Barrier(len(works))

    def begin(work: Callable[[], Any]) -> None:
        barrier.wait(30)
        work()

    threads = [Thread(target=begin, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


# --- passwords ---


def test_the_right_password_signs_in(store: AccessStore, asha: User) -> None:
    found = store.sign_in("Asha", PASSWORD, "a browser")
    assert found is not None
    assert found[0] == asha
    session = store.session(found[1])
    assert session is not None
    assert (session.user, session.about, session.via) == (asha, "a browser", "password")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("asha", OTHER),
        ("asha", PASSWORD.upper()),
        ("asha", ""),
        ("asha", "x" * 1_000_000),
        ("asha", "\ud800"),
        ("nobody", PASSWORD),
        ("local", ""),
        ("local", PASSWORD),
        ("a\0b", PASSWORD),
        ("' OR 1=1 --", PASSWORD),
        ("", ""),
    ],
)
def test_a_wrong_name_or_password_tells_nothing(store: AccessStore, asha: User, name: str, password: str) -> None:
    assert store.sign_in(name, password, "") is None
    assert store.sessions(asha.id) == ()


def test_an_unknown_name_costs_as_much_as_a_wrong_password(
    store: AccessStore, asha: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []
    verify = store._verify

    def counted(kept: str, password: str) -> bool:
        looked_at.append(kept.split("$")[3])
        return verify(kept, password)

    monkeypatch.setattr(store, "_verify", counted)
    for name in ("asha", "nobody", "local", "a\0b", "x" * 1000):
        assert store.sign_in(name, OTHER, "") is None
    assert looked_at == ["m=8,t=1,p=1"] * 5


def test_the_shipped_hash_is_argon2id_with_the_parameters_of_rfc_9106_for_little_memory(
    database: Database, world: World
) -> None:
    shipped = AccessStore(database, world.now, world.draw)
    shipped.add_user("asha", PASSWORD, Role.TRADER)
    with database.read() as connection:
        kept = connection.execute(select(schema.users.c.password).where(schema.users.c.name == "asha")).scalar_one()
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert shipped.sign_in("asha", PASSWORD, "") is not None


def test_a_hash_with_older_parameters_is_renewed_when_its_password_is_seen(
    database: Database, store: AccessStore, world: World, asha: User
) -> None:
    newer = AccessStore(
        database, world.now, world.draw, hasher=PasswordHasher(time_cost=2, memory_cost=16, parallelism=1)
    )

    def parameters() -> str:
        with database.read() as connection:
            query = select(schema.users.c.password).where(schema.users.c.id == asha.id)
            return str(connection.execute(query).scalar_one()).split("$")[3]

    assert newer.sign_in("asha", OTHER, "") is None
    assert parameters() == "m=8,t=1,p=1"
    assert newer.sign_in("asha", PASSWORD, "") is not None
    assert parameters() == "m=16,t=2,p=1"
    assert newer.sign_in("asha", PASSWORD, "") is not None


def test_a_new_password_ends_every_session_and_the_old_one_opens_nothing(store: AccessStore, asha: User) -> None:
    first, second = signed_in(store), signed_in(store)
    _, token = store.make_token(asha.id, "a sheet", Scope.READ, None)
    store.change_user(asha.id, password=OTHER)
    assert (store.session(first), store.session(second), store.sessions(asha.id)) == (None, None, ())
    assert store.sign_in("asha", PASSWORD, "") is None
    assert store.session(signed_in(store, password=OTHER)) is not None
    assert store.token(token) is not None, "programs go on"


def test_who_is_disabled_is_out_at_once_and_for_good(store: AccessStore, asha: User) -> None:
    secret = signed_in(store)
    _, token = store.make_token(asha.id, "a sheet", Scope.READ, None)
    store.change_user(asha.id, disabled=True)
    assert (store.session(secret), store.token(token), store.sign_in("asha", PASSWORD, "")) == (None, None, None)
    store.change_user(asha.id, disabled=False)
    assert (store.session(secret), store.token(token)) == (None, None), "what was ended stays ended"
    assert store.session(signed_in(store)) is not None


def test_who_is_disabled_while_the_password_is_looked_at_does_not_get_in(
    store: AccessStore, asha: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = store._verify

    def slow(kept: str, password: str) -> bool:
        store.change_user(asha.id, disabled=True)
        return verify(kept, password)

    monkeypatch.setattr(store, "_verify", slow)
    assert store.sign_in("asha", PASSWORD, "") is None


# --- links ---


def test_a_link_signs_in_once(store: AccessStore) -> None:
    key = store.make_link(LOCAL)
    found = store.use_link(key, "a browser")
    assert found is not None
    session = store.session(found[1])
    assert session is not None
    assert (session.user.id, session.via, session.about) == (LOCAL, "link", "a browser")
    assert store.use_link(key, "a thief") is None


def test_a_link_used_by_several_at_once_lets_one_in(store: AccessStore) -> None:
    key, told = store.make_link(LOCAL), list[Any]()
    at_once(*(lambda: told.append(store.use_link(key, "")) for _ in range(6)))
    assert [each is None for each in told].count(False) == 1
    assert len(told) == 6


def test_a_link_is_good_for_its_minutes_and_no_longer(store: AccessStore, world: World) -> None:
    early, late = store.make_link(LOCAL, minutes=10), store.make_link(LOCAL, minutes=10)
    world.time += 10 * MINUTE - timedelta(seconds=1)
    assert store.use_link(early, "") is not None
    world.time += timedelta(seconds=1)
    assert store.use_link(late, "") is None
    assert store.use_link("no such key", "") is None


def test_links_sign_nobody_in_once_a_password_is_needed(store: AccessStore) -> None:
    assert not store.needs_password()
    key = store.make_link(LOCAL)
    asha = store.add_user("asha", None, Role.TRADER)
    assert store.needs_password()
    assert store.use_link(key, "") is None
    with pytest.raises(BadInput, match="links sign nobody in any more"):
        store.make_link(LOCAL)
    store.change_user(asha.id, disabled=True)
    assert not store.needs_password(), "one who may sign in, without a password"
    assert store.use_link(key, "") is not None
    store.change_user(LOCAL, password=PASSWORD)
    assert store.needs_password()


def test_nobody_gets_a_link_who_is_disabled_or_not_there(store: AccessStore) -> None:
    asha = store.add_user("asha", None, Role.TRADER)
    store.change_user(asha.id, disabled=True)
    with pytest.raises(BadInput, match="asha is disabled"):
        store.make_link(asha.id)
    with pytest.raises(BadInput, match="there is no user 999"):
        store.make_link(NOBODY)


# --- sessions ---


def test_a_session_ends_twelve_hours_after_it_was_used_last(store: AccessStore, world: World, asha: User) -> None:
    secret = signed_in(store)
    for _ in range(3):
        world.time += 11 * HOUR
        session = store.session(secret)
        assert session is not None
        assert (session.last_seen_at, session.expires_at) == (world.time, world.time + 12 * HOUR)
    world.time += 12 * HOUR
    assert (store.session(secret), store.sessions(asha.id)) == (None, ())


def test_a_session_ends_after_thirty_days_however_much_it_is_used(store: AccessStore, world: World, asha: User) -> None:
    secret, began = signed_in(store), world.time
    while (session := store.session(secret)) is not None:
        assert session.expires_at <= began + timedelta(days=30)
        world.time = min(world.time + 6 * HOUR, session.expires_at)
    assert world.time == began + timedelta(days=30)


def test_its_use_is_written_at_most_once_a_minute(
    store: AccessStore, database: Database, world: World, asha: User
) -> None:
    secret = signed_in(store)
    before = everything(database)
    world.time += timedelta(seconds=59)
    assert store.session(secret) is not None
    assert everything(database) == before
    world.time += timedelta(seconds=1)
    assert store.session(secret) is not None
    assert everything(database) != before


def test_a_session_is_known_while_nothing_can_be_written(
    store: AccessStore, world: World, asha: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = signed_in(store)
    _, token = store.make_token(asha.id, "a sheet", Scope.READ, None)
    world.time += HOUR

    def full(self: Database) -> Any:
        raise RecordsUnavailable("the disk is full")

    monkeypatch.setattr(Database, "write", full)
    assert store.session(secret) is not None
    assert store.token(token) is not None


def test_who_signs_out_is_out_here_and_goes_on_elsewhere(store: AccessStore, asha: User) -> None:
    here, there = signed_in(store), signed_in(store)
    assert len(store.sessions(asha.id)) == 2
    store.sign_out(here)
    store.sign_out("no such secret")
    assert store.session(here) is None
    assert store.session(there) is not None
    store.sign_out_everywhere(asha.id)
    assert store.session(there) is None


def test_another_browser_of_ours_can_be_signed_out_but_nobody_elses(store: AccessStore, asha: User) -> None:
    store.add_user("ravi", OTHER, Role.TRADER)
    ours, theirs = signed_in(store), signed_in(store, "ravi", OTHER)
    of = {session.user.name: session.id for session in map(store.session, (ours, theirs)) if session is not None}
    for number in (of["ravi"], 999, 2**70):
        with pytest.raises(BadInput, match=f"there is no session {number}"):
            store.sign_out_session(asha.id, number)
    assert store.session(theirs) is not None
    store.sign_out_session(asha.id, of["asha"])
    assert store.session(ours) is None


@pytest.mark.parametrize("secret", ["", "x", "\ud800", "\0", "' OR 1=1 --", "sqt_", "sqt_x"])
def test_a_made_up_secret_opens_nothing(store: AccessStore, asha: User, secret: str) -> None:
    signed_in(store)
    assert (store.session(secret), store.token(secret), store.use_link(secret, "")) == (None, None, None)


def test_a_secret_opens_only_what_it_was_made_for(store: AccessStore) -> None:
    link = store.make_link(LOCAL)
    _, token = store.make_token(LOCAL, "a sheet", Scope.READ, None)
    found = store.use_link(link, "")
    assert found is not None
    assert (store.session(token), store.session(link), store.token(found[1]), store.token(link)) == (None,) * 4
    assert store.use_link(found[1], "") is None


# --- tokens ---


def test_a_token_is_shown_once_and_found_by_its_text(store: AccessStore, world: World, asha: User) -> None:
    made, secret = store.make_token(asha.id, "a sheet", Scope.TRADE, 30)
    assert made == Token(
        id=1,
        user_id=asha.id,
        name="a sheet",
        scope=Scope.TRADE,
        created_at=NOON,
        last_used_at=None,
        expires_at=NOON + timedelta(days=30),
        revoked_at=None,
    )
    assert secret == f"sqt_{world.drawn[-1]}"
    assert len(secret) == 47
    found = store.token(secret)
    assert found is not None
    assert (found[0], found[1].id, found[1].last_used_at) == (asha, made.id, NOON)
    assert store.tokens(asha.id) == (found[1],)


def test_a_token_ends_with_its_days_or_when_it_is_revoked(store: AccessStore, world: World, asha: User) -> None:
    _, short = store.make_token(asha.id, "short", Scope.READ, 1)
    long, long_secret = store.make_token(asha.id, "long", Scope.READ, None)
    world.time += timedelta(days=1)
    assert store.token(short) is None
    assert store.token(long_secret) is not None
    store.revoke(asha.id, long.id)
    revoked_at = world.time
    world.time += HOUR
    store.revoke(asha.id, long.id)
    assert store.token(long_secret) is None
    assert [token.revoked_at for token in store.tokens(asha.id)] == [None, revoked_at]


def test_the_token_of_another_is_as_if_it_were_not_there(store: AccessStore, asha: User) -> None:
    token, secret = store.make_token(LOCAL, "a sheet", Scope.READ, None)
    told = []
    for number in (token.id, 998, 2**70):
        with pytest.raises(BadInput) as refused:
            store.revoke(asha.id, number)
        told.append(str(refused.value).replace(str(number), "N"))
    assert len(set(told)) == 1
    assert store.token(secret) is not None
    assert store.tokens(asha.id) == ()


@pytest.mark.parametrize(
    ("name", "days"), [("", 1), ("  ", 1), ("x" * 81, 1), ("a\0b", 1), ("ok", 0), ("ok", -1), ("ok", 10**9)]
)
def test_a_token_without_a_name_or_for_no_time_is_refused(store: AccessStore, asha: User, name: str, days: int) -> None:
    with pytest.raises(BadInput):
        store.make_token(asha.id, name, Scope.READ, days)
    assert store.tokens(asha.id) == ()


def test_a_trader_gets_no_token_of_an_admin(store: AccessStore, asha: User) -> None:
    with pytest.raises(BadInput, match="scope: asha may not have a token for admin"):
        store.make_token(asha.id, "root", Scope.ADMIN, None)
    store.make_token(LOCAL, "root", Scope.ADMIN, None)


# --- the audit log ---


def test_the_audit_log_is_read_backwards_and_each_sees_their_own(store: AccessStore, world: World, asha: User) -> None:
    for number in range(5):
        store.audit(asha.id, "session", "strategy edited", f"s{number}", "quantity 1 -> 2", "10.0.0.1")
    store.audit(LOCAL, "session", "user disabled", "asha", "", "10.0.0.2")
    store.audit(None, "cli", "user added", "ravi\0", "x" * 10_000, "")
    log = store.audit_log(None, None, 100)
    assert [line.id for line in log] == [7, 6, 5, 4, 3, 2, 1]
    assert (log[1].user_id, log[1].at, log[1].action, log[1].target) == (LOCAL, NOON, "user disabled", "asha")
    assert len(log[0].detail) == 2000
    first = store.audit_log(asha.id, None, 2)
    assert [line.target for line in first] == ["s4", "s3"]
    assert [line.target for line in store.audit_log(asha.id, first[-1].id, 100)] == ["s2", "s1", "s0"]


# --- a request sent twice ---


def test_a_request_sent_twice_gets_the_first_answer(store: AccessStore, asha: User) -> None:
    assert store.begin_answer(asha.id, "k", "hash") == Fresh()
    assert store.begin_answer(asha.id, "k", "hash") == InProgress(since=NOON)
    store.finish_answer(asha.id, "k", 201, '{"id": 7}')
    store.finish_answer(asha.id, "k", 500, "later")
    store.forget_answer(asha.id, "k")
    assert store.begin_answer(asha.id, "k", "hash") == Stored(status=201, body='{"id": 7}')
    assert store.begin_answer(asha.id, "k", "another") == Different()


def test_the_key_of_another_user_is_another_key(store: AccessStore, asha: User) -> None:
    assert store.begin_answer(asha.id, "k", "hash") == Fresh()
    store.finish_answer(asha.id, "k", 200, "hers")
    assert store.begin_answer(LOCAL, "k", "hash") == Fresh()
    store.forget_answer(LOCAL, "k")
    assert store.begin_answer(asha.id, "k", "hash") == Stored(status=200, body="hers")


def test_a_request_that_did_nothing_may_be_sent_again(store: AccessStore, asha: User) -> None:
    store.begin_answer(asha.id, "k", "hash")
    store.forget_answer(asha.id, "k")
    assert store.begin_answer(asha.id, "k", "another") == Fresh()


def test_of_several_at_once_one_is_worked_on(store: AccessStore, asha: User) -> None:
    told = list[Any]()
    at_once(*(lambda: told.append(store.begin_answer(asha.id, "k", "hash")) for _ in range(6)))
    assert (told.count(Fresh()), told.count(InProgress(since=NOON))) == (1, 5)


def test_an_answer_is_kept_for_two_days(store: AccessStore, database: Database, world: World, asha: User) -> None:
    for key in ("old", "other"):
        store.begin_answer(asha.id, key, "hash")
        store.finish_answer(asha.id, key, 200, "done")
    world.time += 48 * HOUR - timedelta(seconds=1)
    assert store.begin_answer(asha.id, "old", "hash") == Stored(status=200, body="done")
    world.time += HOUR
    assert store.begin_answer(asha.id, "old", "another") == Fresh()
    with database.read() as connection:
        assert connection.execute(select(schema.answers.c.key)).scalars().all() == ["old"], "all that were too old went"


@pytest.mark.parametrize("key", ["", "x" * 201, "a\0b", "\ud800"])
def test_a_key_that_cannot_be_kept_is_refused(store: AccessStore, asha: User, key: str) -> None:
    with pytest.raises(BadInput, match="is not a key for a request"):
        store.begin_answer(asha.id, key, "hash")


# --- nothing that lets somebody in is written anywhere ---


def test_no_password_and_no_key_is_in_the_database_in_a_log_or_in_the_text_of_an_error(
    where: Path | str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "sqlalchemy.engine")  # which also tells every parameter
    hidden, errors = [PASSWORD, OTHER, "nobodys password"], list[str]()
    with closing(Database.open(where)) as database:
        store = AccessStore(database, world.now, world.draw, hasher=CHEAP)

        def failing(work: Callable[[], Any]) -> None:
            with pytest.raises((BadInput, RecordsUnavailable)) as failed:
                work()
            errors.append("".join(traceback.format_exception(failed.value)))

        key = store.make_link(LOCAL)
        found = store.use_link(key, "a browser")
        assert found is not None
        asha = store.add_user("asha", PASSWORD, Role.TRADER)
        signed = signed_in(store)
        _, token = store.make_token(asha.id, "a sheet", Scope.READ, None)
        store.session(signed)
        store.token(token)
        store.sign_in("nobody", "nobodys password", "")
        store.change_user(asha.id, password=OTHER)
        hidden += [key, found[1], signed, token, *world.drawn]
        failing(lambda: store.change_user(NOBODY, password=PASSWORD))
        failing(lambda: store.add_user("asha", OTHER, Role.TRADER))
        told = everything(database)
        with database.write() as connection:
            for table in ("sessions", "tokens", "links"):
                connection.exec_driver_sql(f"DROP TABLE {table}")
        for work in (
            lambda: store.sign_in("asha", OTHER, ""),
            lambda: store.session(signed),
            lambda: store.token(token),
            lambda: store.make_link(LOCAL),
            lambda: store.make_token(asha.id, "a sheet", Scope.READ, None),
        ):
            with pytest.raises((BadInput, RecordsUnavailable)) as failed:
                work()  # type: ignore[no-untyped-call]
            errors.append("".join(traceback.format_exception(failed.value)))
        hidden += world.drawn
    assert "$argon2id$" in told
    assert "sqlalchemy.engine" in {record.name.rpartition(".Engine")[0] or record.name for record in caplog.records}
    places = [told, caplog.text, *errors]
    if isinstance(where, Path):
        places += [file.read_bytes().decode("latin-1") for file in where.parent.iterdir()]
    assert [(text, place[:80]) for text in set(hidden) for place in places if text in place] == []
