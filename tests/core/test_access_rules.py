"""Who may do what, and which passwords and names can be."""

from __future__ import annotations

import pytest

from squareoff.core.access import Action, Role, Scope, User, check_password, may, may_make_token, spelled, user_name
from squareoff.core.bad_input import BadInput
from squareoff.core.types import UserId


def a_user(role: Role, *, disabled: bool = False) -> User:
    return User(id=UserId(7), name="asha", role=role, disabled=disabled, has_password=True)


@pytest.mark.parametrize(
    ("role", "scope", "allowed"),
    [
        (Role.TRADER, None, {Action.READ, Action.TRADE, Action.KEYS}),
        (Role.TRADER, Scope.READ, {Action.READ}),
        (Role.TRADER, Scope.TRADE, {Action.READ, Action.TRADE}),
        (Role.TRADER, Scope.ADMIN, {Action.READ, Action.TRADE, Action.KEYS}),
        (Role.ADMIN, None, set(Action)),
        (Role.ADMIN, Scope.READ, {Action.READ}),
        (Role.ADMIN, Scope.TRADE, {Action.READ, Action.TRADE}),
        (Role.ADMIN, Scope.ADMIN, set(Action)),
    ],
)
def test_a_token_reaches_as_far_as_its_scope_and_never_further_than_its_user(
    role: Role, scope: Scope | None, allowed: set[Action]
) -> None:
    assert {action for action in Action if may(a_user(role), action, scope)} == allowed


@pytest.mark.parametrize("scope", [None, *Scope])
@pytest.mark.parametrize("role", Role)
def test_a_disabled_user_may_nothing(role: Role, scope: Scope | None) -> None:
    assert not any(may(a_user(role, disabled=True), action, scope) for action in Action)
    assert not any(may_make_token(a_user(role, disabled=True), each) for each in Scope)


def test_nobody_hands_on_what_they_do_not_have() -> None:
    assert [may_make_token(a_user(Role.TRADER), scope) for scope in Scope] == [True, True, False]
    assert [may_make_token(a_user(Role.ADMIN), scope) for scope in Scope] == [True, True, True]


@pytest.mark.parametrize("password", ["a short sentence", "ten-lettrs", "पासवर्ड मेरा है", "x1" + "y" * 198])
def test_a_long_enough_password_of_any_letters_is_fine(password: str) -> None:
    check_password(password, "asha")


@pytest.mark.parametrize(
    ("password", "why"),
    [
        ("", "is too short"),
        ("nine-ltrs", "is too short"),
        ("a" + "b" * 200, "is too long"),
        ("Asha.Sharma", "is the name of the user"),
        ("PASSWORD123", "is one of those that are tried first"),
        ("1234567890", "is one of those that are tried first"),
        ("xyxyxyxyxyxy", "is one of those that are tried first"),
        ("has a \n in it", "holds letters that cannot be typed"),
        ("has a \ud800 in it", "holds letters that cannot be typed"),
    ],
)
def test_a_password_that_is_guessed_soon_is_refused_and_never_repeated_in_the_text(password: str, why: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_password(password, "asha.sharma")
    assert str(refused.value).startswith(f"password: {why}")
    assert not password or password not in str(refused.value)


def test_a_password_is_the_same_from_every_keyboard() -> None:
    assert spelled("cafe\N{COMBINING ACUTE ACCENT}") == spelled("caf\N{LATIN SMALL LETTER E WITH ACUTE}")


@pytest.mark.parametrize("name", ["asha", "A.b-c_9", "7", "x" * 40])
def test_a_name_is_letters_digits_and_a_few_signs(name: str) -> None:
    assert user_name(name) == name


@pytest.mark.parametrize("name", ["", " asha", "a b", ".hidden", "x" * 41, "a\0b", "ashā", "a\n", "a/b", "\ud800"])
def test_a_name_that_could_be_mistaken_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="is not a name"):
        user_name(name)
