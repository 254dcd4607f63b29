"""The language of the search box: Elasticsearch's simple_query_string, as Argilla sends it.

Words are joined by AND, `|` is OR, `-` is NOT, quotes make a phrase, parentheses group, `prefix*`, `fuzzy~1`, and a
backslash escapes. Operators bind from left to right, and what is unbalanced is read as plain text: no input is an
error but one of excessive length. The rules are those of Lucene's SimpleQueryParser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from argilla_setup.search.text_tokens import chunks

MAX_QUERY_CHARACTERS = 2000
MAX_NESTING = 20
MAX_EDITS = 2


class QueryError(ValueError):
    """A query that is refused; its text says why."""


@dataclass(frozen=True)
class Text:
    """Words, all of which must occur; for a quoted `phrase`, one after the other, up to `slop` words apart.

    A `prefix` is the beginning of a word; a word with `edits` may differ by so many characters.
    """

    words: str
    phrase: bool = False
    prefix: bool = False
    slop: int = 0
    edits: int = 0


@dataclass(frozen=True)
class Not:
    operand: Node


@dataclass(frozen=True)
class Joined:
    """Operands joined by AND or OR."""

    operator: str
    operands: tuple[Node, ...]


Node = Text | Not | Joined


def parse(query: str) -> Node | None:
    """The tree of a query; None where it holds nothing to look for."""
    if len(query) > MAX_QUERY_CHARACTERS:
        raise QueryError(
            f"the search text has {len(query)} characters; at most {MAX_QUERY_CHARACTERS} are taken. Shorten it."
        )
    return _Parser(query).parse()


class _Parser:
    """Reads from left to right, in one pass; what stands in parentheses is read by a parser of its own."""

    def __init__(self, text: str, nesting: int = 0) -> None:
        self._text = text
        self._nesting = nesting
        self._at = 0
        self._operator: str | None = None

    def parse(self) -> Node | None:
        tree: Node | None = None
        negations = 0
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == "-":
                negations += 1
                self._at += 1
                continue
            if character in "+|":
                if tree is not None:
                    self._operator = self._operator or ("AND" if character == "+" else "OR")
                self._at += 1
            elif character.isspace() or character == ")":
                self._at += 1
            else:
                branch = self._group() if character == "(" else self._phrase() if character == '"' else self._word()
                if branch is not None:
                    branch = Not(branch) if negations % 2 else branch
                    tree = branch if tree is None else _join(self._operator or "AND", tree, branch)
                    self._operator = None
            negations = 0
        return tree

    def _group(self) -> Node | None:
        start, closing = self._at + 1, self._closing_parenthesis()
        if closing is None or self._nesting >= MAX_NESTING:
            # The parenthesis is dropped and what follows is read as if it were not there.
            self._at = start
            return None
        self._at = closing + 1
        if closing == start:
            # An empty pair takes the operator before it along.
            self._operator = None
            return None
        return _Parser(self._text[start:closing], self._nesting + 1).parse()

    def _closing_parenthesis(self) -> int | None:
        depth = 0
        position = self._at
        while position < len(self._text):
            character = self._text[position]
            if character == "\\":
                position += 1
            elif character == "(":
                depth += 1
            elif character == ")":
                depth -= 1
                if not depth:
                    return position
            position += 1
        return None

    def _phrase(self) -> Node | None:
        words, position = "", self._at + 1
        while position < len(self._text) and self._text[position] != '"':
            if self._text[position] == "\\" and position + 1 < len(self._text):
                position += 1
            words += self._text[position]
            position += 1
        if position >= len(self._text):
            # No closing quote: the quote is dropped and what follows is read as words.
            self._at += 1
            return None
        if not words:
            self._operator = None
        self._at = position + 1
        return _text(words, phrase=True, slop=self._number_after_tilde())

    def _word(self) -> Node | None:
        word, prefix = "", False
        while self._at < len(self._text):
            character = self._text[self._at]
            if self._ends_word(character):
                break
            if character == "~" and word:
                return _text(word, edits=min(self._number_after_tilde(default=MAX_EDITS), MAX_EDITS))
            prefix = character == "*" and bool(word)
            if character == "\\":
                self._at += 1
                if self._at == len(self._text):
                    break
                character = self._text[self._at]
                prefix = False
            word += character
            self._at += 1
        return _text(word, prefix=prefix)

    def _number_after_tilde(self, default: int = 0) -> int:
        """What follows a `~` up to the end of the word, which is read even where it is no number; then it counts 0."""
        if not self._text.startswith("~", self._at):
            return 0
        start = self._at + 1
        self._at = start
        while self._at < len(self._text) and not self._ends_word(self._text[self._at]):
            self._at += 1
        number = self._text[start : self._at]
        if not number:
            return default
        return int(number) if re.fullmatch("[0-9]{1,3}", number) else 0

    @staticmethod
    def _ends_word(character: str) -> bool:
        return character.isspace() or character in '"|+()'


def _text(words: str, *, phrase: bool = False, prefix: bool = False, slop: int = 0, edits: int = 0) -> Text | None:
    return Text(words, phrase, prefix, slop, edits) if chunks(words) else None


def _join(operator: str, left: Node, right: Node) -> Joined:
    if isinstance(left, Joined) and left.operator == operator:
        return Joined(operator, (*left.operands, right))
    return Joined(operator, (left, right))
