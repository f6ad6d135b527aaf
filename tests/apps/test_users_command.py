"""`squareoff users`, `tokens` and `secrets`, typed by whoever has the data folder."""

from __future__ import annotations

from contextlib import closing

import pytest
from argon2 import Parameters, profiles

from squareoff import wiring
from squareoff.config import Config
from squareoff.core.access import AuditLine, Scope, User
from tests.apps.conftest import Squareoff

PASSWORD = "a short sentence"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = profiles.RFC_9106_LOW_MEMORY
    parameters = Parameters(
        type=shipped.type,
        version=shipped.version,
        salt_len=shipped.salt_len,
        hash_len=shipped.hash_len,
        time_cost=1,
        memory_cost=8,
        parallelism=1,
    )
    monkeypatch.setattr(profiles, "RFC_9106_LOW_MEMORY", parameters)


def users(squareoff: Squareoff) -> dict[str, User]:
    with closing(wiring.access_store(Config(data=squareoff.data))) as store:
        return {user.name: user for user in store.users()}


def signs_in(squareoff: Squareoff, name: str, password: str) -> bool:
    with closing(wiring.access_store(Config(data=squareoff.data))) as store:
        return store.sign_in(name, password, "a test") is not None


def audit(squareoff: Squareoff) -> tuple[AuditLine, ...]:
    with closing(wiring.access_store(Config(data=squareoff.data))) as store:
        return store.audit_log(None, None, 100)


def add(squareoff: Squareoff, name: str = "asha", *options: str) -> None:
    assert squareoff("users", "add", name, "--password-stdin", *options, input=f"{PASSWORD}\n").status == 0


def test_there_is_one_user_from_the_start(squareoff: Squareoff) -> None:
    (row,) = squareoff.json("users")
    assert row == {"id": 1, "name": "local", "role": "admin", "has_password": False, "disabled": False}
    assert "local  admin  none      enabled" in squareoff("users").output


def test_a_user_is_added_with_a_password_typed_twice_and_never_shown(squareoff: Squareoff) -> None:
    answer = squareoff("users", "add", "asha", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert answer.status == 0
    assert PASSWORD not in answer.output + answer.errors
    assert (users(squareoff)["asha"].role, signs_in(squareoff, "asha", PASSWORD)) == ("trader", True)


def test_two_passwords_that_differ_add_nobody(squareoff: Squareoff) -> None:
    answer = squareoff("users", "add", "asha", input=f"{PASSWORD}\nanother sentence\n")
    assert (answer.status, answer.errors.splitlines()[-1]) == (
        2,
        "squareoff: password: the two are not the same; try again; nothing was changed",
    )
    assert list(users(squareoff)) == ["local"]


@pytest.mark.parametrize(
    ("name", "typed", "says"),
    [
        ("asha", "short\n", "password: is too short"),
        ("asha", "", "password: is too short"),
        ("a b", f"{PASSWORD}\n", "name: 'a b' is not a name"),
        ("Local", f"{PASSWORD}\n", "name: there is a user 'Local' already"),
    ],
)
def test_who_cannot_be_a_user_is_refused_in_one_sentence(
    squareoff: Squareoff, name: str, typed: str, says: str
) -> None:
    answer = squareoff("users", "add", name, "--password-stdin", input=typed)
    assert (answer.status, answer.output) == (2, "")
    assert says in answer.errors
    assert list(users(squareoff)) == ["local"]


def test_a_new_password_replaces_the_old_one(squareoff: Squareoff) -> None:
    add(squareoff)
    answer = squareoff("users", "password", "asha", "--password-stdin", input="another sentence\n")
    assert answer.output == "asha has a new password; every session of theirs has ended\n"
    assert (signs_in(squareoff, "asha", PASSWORD), signs_in(squareoff, "asha", "another sentence")) == (False, True)
    assert squareoff("users", "password", "nobody", "--password-stdin", input=f"{PASSWORD}\n").status == 2


def test_a_user_is_disabled_and_let_in_again_but_never_the_last_admin(squareoff: Squareoff) -> None:
    add(squareoff)
    assert squareoff("users", "disable", "asha").status == 0
    assert not signs_in(squareoff, "asha", PASSWORD)
    assert "asha   trader  yes       disabled" in squareoff("users").output
    assert squareoff("users", "enable", "asha").status == 0
    assert signs_in(squareoff, "asha", PASSWORD)
    refused = squareoff("users", "disable", "local")
    assert refused.errors == "squareoff: user: local is the only admin; make somebody else an admin first\n"
    assert squareoff("users", "role", "asha", "admin").output == "asha is now an admin\n"
    assert squareoff("users", "disable", "local").status == 0


def test_a_token_is_shown_once_and_works_until_it_is_revoked(squareoff: Squareoff) -> None:
    answer = squareoff("tokens", "add", "the sheet", "--scope", "read", "--days", "90")
    secret = answer.output.strip()
    assert (answer.status, secret[:4], len(secret)) == (0, "sqt_", 47)
    assert answer.errors == "This is token 1 of local. It is not shown again: copy it now.\n"
    listed = squareoff("tokens").output + squareoff("tokens", "--json").output
    assert "the sheet" in listed
    assert secret[4:] not in listed

    def opens() -> Scope | None:
        with closing(wiring.access_store(Config(data=squareoff.data))) as store:
            found = store.token(secret)
            return None if found is None else found[1].scope

    assert opens() is Scope.READ
    assert squareoff("tokens", "revoke", "1").output == "token 1 of local is revoked\n"
    assert opens() is None
    assert "revoked" in squareoff("tokens").output


def test_a_token_is_of_the_user_who_is_named(squareoff: Squareoff) -> None:
    add(squareoff)
    made = squareoff.json("tokens", "add", "a sheet", "--scope", "trade", "--user", "asha")
    assert (made["id"], made["scope"]) == (1, "trade")
    assert squareoff.json("tokens") == []
    assert [row["name"] for row in squareoff.json("tokens", "--user", "asha")] == ["a sheet"]
    assert squareoff("tokens", "revoke", "1").errors.startswith("squareoff: token: there is no token 1")
    refused = squareoff("tokens", "add", "root", "--scope", "admin", "--user", "asha")
    assert (refused.status, "asha may not have a token for admin" in refused.errors) == (2, True)
    assert squareoff("tokens", "add", "root", "--scope", "everything").status == 2


def test_secrets_are_set_listed_exchanged_and_forgotten_but_never_shown(squareoff: Squareoff) -> None:
    assert squareoff("secrets", "set", "channel:ops", "--stdin", input="tgram://hidden\n").status == 0
    assert squareoff("secrets", "set", "other", input="also hidden\n").status == 0
    listed = (
        squareoff("secrets").output
        + squareoff("secrets", "list").output
        + squareoff("secrets", "list", "--json").output
    )
    assert "channel:ops" in listed
    assert "hidden" not in listed
    assert squareoff("secrets", "rotate").output == "a new key; 2 secrets are encrypted with it\n"
    with closing(wiring.secret_store(Config(data=squareoff.data))) as store:
        assert (store.get("channel:ops"), store.get("other")) == ("tgram://hidden", "also hidden")
    assert squareoff("secrets", "rm", "other").status == 0
    assert squareoff("secrets", "rm", "other").errors.startswith("squareoff: secret: there is no secret 'other'")
    assert (squareoff.data / "secrets.key").stat().st_mode & 0o777 == 0o600


def test_a_key_file_that_is_named_is_used_and_must_be_there(
    squareoff: Squareoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUAREOFF_SECRETS_KEY_FILE", str(squareoff.data / "elsewhere.key"))
    refused = squareoff("secrets", "set", "x", "--stdin", input="hidden\n")
    assert (refused.status, "there is no key in" in refused.errors) == (2, True)
    (squareoff.data / "elsewhere.key").touch(mode=0o600)
    (squareoff.data / "elsewhere.key").write_text("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=\n")
    assert squareoff("secrets", "set", "x", "--stdin", input="hidden\n").status == 0
    assert not (squareoff.data / "secrets.key").exists()
    (squareoff.data / "elsewhere.key").chmod(0o644)
    refused = squareoff("secrets", "rotate")
    assert (refused.status, "others may read the key in" in refused.errors) == (2, True)


def test_what_was_done_here_is_in_the_audit_log_and_no_password_or_secret_is(squareoff: Squareoff) -> None:
    add(squareoff)
    squareoff("users", "password", "asha", "--password-stdin", input="another sentence\n")
    secret = squareoff("tokens", "add", "a sheet", "--scope", "read").output.strip()
    squareoff("tokens", "revoke", "1")
    squareoff("secrets", "set", "channel:ops", "--stdin", input="tgram://hidden\n")
    squareoff("secrets", "rotate")
    squareoff("users", "disable", "asha")
    lines = audit(squareoff)
    assert [(line.action, line.target) for line in reversed(lines)] == [
        ("user added", "asha"),
        ("password changed", "asha"),
        ("token made", "local: 1"),
        ("token revoked", "local: 1"),
        ("secret set", "channel:ops"),
        ("secrets key exchanged", ""),
        ("user disabled", "asha"),
    ]
    assert {(line.user_id, line.via) for line in lines} == {(None, "cli")}
    for hidden in (PASSWORD, "another sentence", secret, "tgram://hidden"):
        assert hidden not in repr(lines)
