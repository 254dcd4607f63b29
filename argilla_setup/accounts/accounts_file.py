"""accounts.yaml: who may work on a server, in what role, in which workspaces.

    workspaces: [lingo, review]
    users:
      minji:
        display: 김민지
        role: annotator
        workspaces: [lingo, review]

`workspaces` is [lingo] where it is left out, of the file and of a user; `role` is annotator; `display` is the name.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

import yaml

from argilla_setup.accounts.credentials_file import OWNER, WORKSPACE

ROLES = ("owner", "admin", "annotator")
_DEFAULT_ROLE = {OWNER: "owner"}
_USER_KEYS = ("display", "role", "workspaces")
_NAME = re.compile(r"[^\W_][\w.@+-]{0,79}")
_LONGEST_FILE = 1_000_000
_UNSEEN = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp")
"""Kinds of characters that turn a line around, break it, or show nothing: two names must not look the same."""


class AccountsFileError(Exception):
    """One line: where the file says what, what was expected, and what to do."""


@dataclass(frozen=True)
class WantedUser:
    """A user as the file lists them."""

    name: str
    display: str
    role: str
    workspaces: tuple[str, ...]


@dataclass(frozen=True)
class WantedAccounts:
    """What an accounts.yaml asks for."""

    workspaces: tuple[str, ...]
    users: tuple[WantedUser, ...]


def parse(text: str, place: str) -> WantedAccounts:
    """The accounts in `text`, which came from the file `place`; AccountsFileError with the line of the first fault.

    Names are brought to NFC, so that Hangul typed on any machine is the same name.
    """
    return _Reader(place).read(text)


class _Reader:
    def __init__(self, place: str) -> None:
        self.place = place

    def read(self, text: str) -> WantedAccounts:
        if len(text) > _LONGEST_FILE:
            raise AccountsFileError(f"{self.place} has {len(text)} characters; at most {_LONGEST_FILE} were expected.")
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f" line {mark.line + 1}" if mark else ""
            problem = " ".join(str(error.problem or error.context).split())
            raise AccountsFileError(f"{self.place}{line} is not YAML: {problem}. Correct the file.") from None
        except (yaml.YAMLError, RecursionError) as error:
            problem = " ".join(str(error).split())[:200]
            raise AccountsFileError(f"{self.place} is not YAML: {problem}. Correct the file.") from None
        if root is None:
            raise AccountsFileError(f"{self.place} is empty; `users:` was expected. Example: configs/accounts.yaml.")
        top = self._mapping(root, ("workspaces", "users"), "the file")
        workspaces = self._names(top["workspaces"], "workspaces") if "workspaces" in top else (WORKSPACE,)
        if "users" not in top:
            self._fail(root, "there is no `users:`", "expected at least one user")
        users = self._mapping(top["users"], None, "users")
        if not users:
            self._fail(top["users"], "no user is listed", "applying it would deactivate everybody; list one at least")
        wanted = [self._user(name, node, workspaces) for name, node in users.items()]
        for user in wanted:
            if user.name == OWNER and user.role != "owner":
                self._fail(users[OWNER], f"`owner` has the role {user.role}", "the toolkit needs it to be an owner")
        return WantedAccounts(workspaces, tuple(wanted))

    def _user(self, name: str, node: yaml.Node, declared: tuple[str, ...]) -> WantedUser:
        if not _NAME.fullmatch(name):
            self._fail(node, f"user name {name!r}", "expected at most 80 letters, digits and .@+-_; `display` is free")
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null":
            settings: dict[str, yaml.Node] = {}
        else:
            settings = self._mapping(node, _USER_KEYS, f"user {name}")
        role = self._text(settings["role"], "role") if "role" in settings else _DEFAULT_ROLE.get(name, "annotator")
        if role not in ROLES:
            self._fail(settings["role"], f"role {role!r}", f"expected one of {', '.join(ROLES)}{_hint(role, ROLES)}")
        default = tuple(item for item in (WORKSPACE,) if item in declared)
        workspaces = self._names(settings["workspaces"], "workspaces") if "workspaces" in settings else default
        for workspace in workspaces:
            if workspace not in declared:
                known = ", ".join(declared)
                self._fail(
                    settings["workspaces"],
                    f"workspace {workspace!r} of user {name}",
                    f"the file's workspaces are: {known}{_hint(workspace, declared)}",
                )
        display = self._text(settings["display"], "display") if "display" in settings else name
        return WantedUser(name, display, role, workspaces)

    def _mapping(self, node: yaml.Node, known: tuple[str, ...] | None, what: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, f"{what} is no mapping", "expected lines of the form `key: value`")
        found: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = self._text(key_node, "a key")
            if key in found:
                self._fail(key_node, f"{key!r} is there twice", "leave one of them out")
            if known is not None and key not in known:
                self._fail(key_node, f"{key!r} in {what}", f"expected {', '.join(known)}{_hint(key, known)}")
            found[key] = value
        return found

    def _names(self, node: yaml.Node, what: str) -> tuple[str, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self._fail(node, f"{what} is no list", "expected a list, such as [lingo, review]")
        return tuple(dict.fromkeys(self._text(item, f"a name in {what}") for item in node.value))

    def _text(self, node: yaml.Node, what: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            self._fail(node, f"{what} is no text", "expected one text; put quotes around it if need be")
        text = unicodedata.normalize("NFC", str(node.value)).strip()
        if not text or len(text) > 200 or any(unicodedata.category(letter) in _UNSEEN for letter in text):
            self._fail(node, f"{what} is {text[:40]!r}", "expected one line of 1 to 200 characters")
        return text

    def _fail(self, node: yaml.Node, seen: str, expected: str) -> NoReturn:
        raise AccountsFileError(f"{self.place} line {node.start_mark.line + 1}: {seen}; {expected}.")


def _hint(word: str, known: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {matches[0]!r}?)" if matches else ""
