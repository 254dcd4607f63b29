"""accounts.yaml: what it may say, and the one line for what it may not."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from argilla_setup.accounts.accounts_file import AccountsFileError, WantedUser, parse

EXAMPLE = Path(__file__).parents[2] / "configs" / "accounts.yaml"


def test_the_example_in_the_docs():
    wanted = parse(EXAMPLE.read_text(encoding="utf-8"), "accounts.yaml")
    assert wanted.workspaces == ("lingo", "review")
    assert wanted.users == (
        WantedUser("minji", "김민지", "annotator", ("lingo", "review")),
        WantedUser("seojun", "박서준", "annotator", ("lingo",)),
        WantedUser("jiwoo", "이지우", "admin", ("lingo", "review")),
    )


def test_what_may_be_left_out():
    wanted = parse("users:\n  minji:\n  owner:\n  민지: {}\n", "f")
    assert wanted.workspaces == ("lingo",)
    assert [(user.name, user.display, user.role) for user in wanted.users] == [
        ("minji", "minji", "annotator"),
        ("owner", "owner", "owner"),
        ("민지", "민지", "annotator"),
    ]


def test_hangul_is_the_same_name_however_it_was_typed():
    decomposed = unicodedata.normalize("NFD", "users:\n  민지: {display: 김민지}\n")
    [user] = parse(decomposed, "f").users
    assert (user.name, user.display) == ("민지", "김민지")


def test_a_name_of_digits_is_a_text():
    assert [user.name for user in parse("users: {1234: {display: 2024-01-01}, on: {}}", "f").users] == ["1234", "on"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "is empty"),
        ("users: [", 1, "not YAML"),
        ("users:\n\tminji:\n", 2, "not YAML"),
        ("users:\n  minji: {role: annotator\n  seojun: {}\n", 3, "not YAML"),
        ("users: {}\n", 1, "no user is listed"),
        ("workspaces: [lingo]\n", 1, "no `users:`"),
        ("users: [minji]\n", 1, "no mapping"),
        ("user:\n  minji:\n", 1, "did you mean 'users'"),
        ("users:\n  minji:\n    rol: admin\n", 3, "did you mean 'role'"),
        ("users:\n  minji:\n    role: anotator\n", 3, "did you mean 'annotator'"),
        ("users:\n  minji:\n  minji:\n", 3, "there twice"),
        ("users:\n  minji: {workspaces: lingo}\n", 2, "no list"),
        ("users:\n  minji: {workspaces: [ling]}\n", 2, "did you mean 'lingo'"),
        ("users:\n  minji: {display: [a]}\n", 2, "no text"),
        ("users:\n  minji: {display: ''}\n", 2, "1 to 200 characters"),
        ('users:\n  minji: {display: "a\\nb"}\n', 2, "1 to 200 characters"),
        ("users:\n  kim minji: {}\n", 2, "kim minji"),
        ('users:\n  "<b>": {}\n', 2, "<b>"),
        ("users:\n  owner: {role: annotator}\n", 2, "needs it to be an owner"),
        ("users: !!python/object:os.system {}\n", 1, "no user"),
        ("a: &a [*a]\nusers: {minji: {}}\n", 1, "'a'"),
        ("\x00", None, "not YAML"),
    ],
)
def test_a_fault_is_one_line_with_its_place(text, line, words):
    with pytest.raises(AccountsFileError) as caught:
        parse(text, "team/accounts.yaml")
    message = str(caught.value)
    assert "\n" not in message
    assert words in message
    assert message.startswith("team/accounts.yaml")
    if line:
        assert f"line {line}" in message
