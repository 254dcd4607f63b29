"""From what a person types in the search box to an FTS5 query, and from a record's text to the tokens it is found by.

The language is Elasticsearch's simple_query_string, as Argilla sends it: words are joined by AND, `|` is OR, `-` is
NOT, quotes make a phrase, parentheses group, `prefix*`, and a backslash escapes. Operators bind from left to right,
and what is unbalanced is read as plain text: no input is an error but one of excessive length.

Korean, Chinese and Japanese are matched by substring: a run of such characters is indexed as overlapping pairs plus
its last character, so that 한국 is found in 한국의 and 별 in 별은. Other scripts are matched by whole words.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

MAX_QUERY_CHARACTERS = 2000
MAX_NESTING = 20
MAX_SPACINGS = 32
"""How many ways of putting spaces into one Korean word are looked for."""

_CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3041-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_EMOJI = "\u2600-\u27bf\U0001f000-\U0001faff"
_CHUNKS = re.compile(rf"(?:[^\W_]|[{_CJK}])+|[{_EMOJI}]")
"""What lies between spaces and punctuation."""
_RUNS = re.compile(rf"[{_CJK}]+|[^{_CJK}]+")
"""A chunk such as GPT모델은 is a run of one script after another."""
_IS_CJK = re.compile(f"[{_CJK}]")

EVERY = "every"
"""The FTS5 column that holds the same token in each record, so that NOT has something to subtract from."""
EVERY_TOKEN = "x"


class QueryError(ValueError):
    """A query that is refused; its text says why."""


def normalize(text: str) -> str:
    """One form for what reads the same: composed Hangul, half width, lower case."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def index_tokens(text: str) -> str:
    """The tokens of a text in their order, space-separated, as the FTS5 `ascii` tokenizer takes them apart again."""
    tokens: list[str] = []
    for chunk in _CHUNKS.findall(normalize(text)):
        if chunk.isascii():
            tokens.append(chunk)
            continue
        for run in _RUNS.findall(chunk):
            if _is_cjk(run):
                tokens.extend(_pairs(run))
                tokens.append(run[-1])
            else:
                tokens.append(run)
    return " ".join(tokens)


def to_fts5(query: str, columns: list[str]) -> str | None:
    """The FTS5 MATCH expression for `query` within `columns`; None where the query holds nothing to look for."""
    if len(query) > MAX_QUERY_CHARACTERS:
        raise QueryError(
            f"the search text has {len(query)} characters; at most {MAX_QUERY_CHARACTERS} are taken. Shorten it."
        )
    tree = _Parser(query).parse()
    if tree is None or not columns:
        return None
    return _render(tree, "{" + " ".join(columns) + "}")


# --- the tree -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """Words, all of which must occur; for a quoted `phrase`, one after the other, up to `slop` words apart."""

    words: str
    phrase: bool = False
    prefix: bool = False
    slop: int = 0


@dataclass(frozen=True)
class Not:
    operand: Node


@dataclass(frozen=True)
class Joined:
    """Operands joined by AND or OR."""

    operator: str
    operands: tuple[Node, ...]


Node = Text | Not | Joined


class _Parser:
    """Reads the language from left to right, in one pass, as Lucene's SimpleQueryParser does."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.nesting = 0

    def parse(self) -> Node | None:
        """The tree of the text up to the parenthesis that closes the current group, or the end."""
        tree: Node | None = None
        operator: str | None = None
        negations = 0
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == ")" and self.nesting:
                break
            if character in "+|":
                operator = operator or ("AND" if character == "+" else "OR")
                self.at += 1
            elif character == "-":
                negations += 1
                self.at += 1
            elif character.isspace() or character == ")":
                negations = 0
                self.at += 1
            else:
                branch = self._group() if character == "(" else self._phrase() if character == '"' else self._word()
                if branch is not None:
                    branch = Not(branch) if negations % 2 else branch
                    tree = branch if tree is None else _join(operator or "AND", tree, branch)
                    operator = None
                negations = 0
        return tree

    def _group(self) -> Node | None:
        closing = self._closing_parenthesis()
        self.at += 1
        if closing is None or self.nesting >= MAX_NESTING:
            return None
        self.nesting += 1
        tree = self.parse()
        self.nesting -= 1
        self.at += 1
        return tree

    def _closing_parenthesis(self) -> int | None:
        depth = 0
        position = self.at
        while position < len(self.text):
            character = self.text[position]
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
        words, position = "", self.at + 1
        while position < len(self.text) and self.text[position] != '"':
            if self.text[position] == "\\" and position + 1 < len(self.text):
                position += 1
            words += self.text[position]
            position += 1
        if position >= len(self.text):
            # No closing quote: the quote is dropped and what follows is read as words.
            self.at += 1
            return None
        self.at = position + 1
        slop = re.compile(r"~(\d{1,3})").match(self.text, self.at)
        if slop:
            self.at = slop.end()
        return _text(words, phrase=True, slop=int(slop[1]) if slop else 0)

    def _word(self) -> Node | None:
        word, prefix = "", False
        while self.at < len(self.text):
            character = self.text[self.at]
            if character.isspace() or character in '"|+()':
                break
            prefix = character == "*"
            if character == "\\" and self.at + 1 < len(self.text):
                self.at += 1
                character = self.text[self.at]
                prefix = False
            word += character
            self.at += 1
        # Lucene's fuzzy mark; the word itself is looked for.
        return _text(re.sub(r"~\d*$", "", word), prefix=prefix)


def _text(words: str, *, phrase: bool = False, prefix: bool = False, slop: int = 0) -> Text | None:
    return Text(words, phrase, prefix, slop) if _CHUNKS.search(normalize(words)) else None


def _join(operator: str, left: Node, right: Node) -> Joined:
    if isinstance(left, Joined) and left.operator == operator:
        return Joined(operator, (*left.operands, right))
    return Joined(operator, (left, right))


# --- FTS5 -----------------------------------------------------------------------------------------------------------


def _render(node: Node, columns: str) -> str:
    if isinstance(node, Text):
        return _render_text(node, columns)
    if isinstance(node, Not):
        return f'({EVERY} : "{EVERY_TOKEN}" NOT {_render(node.operand, columns)})'
    return "(" + f" {node.operator} ".join(_render(operand, columns) for operand in node.operands) + ")"


def _render_text(text: Text, columns: str) -> str:
    chunks = _CHUNKS.findall(normalize(text.words))
    if text.phrase and text.slop and len(chunks) > 1:
        near = " ".join(_quoted(_chunk_tokens(chunk, last=True)[0]) for chunk in chunks)
        return f"({columns} : NEAR({near}, {text.slop}))"
    if text.phrase:
        return _any_of([_phrase_of(choice) for choice in _spacings_of_phrase(chunks)], columns)
    parts = []
    for position, chunk in enumerate(chunks):
        choices = [_phrase_of(choice) for choice in _spacings(chunk)]
        if text.prefix and position == len(chunks) - 1:
            choices = [choice if choice.endswith("*") else choice + " *" for choice in choices]
        parts.append(_any_of(choices, columns))
    return parts[0] if len(parts) == 1 else "(" + " AND ".join(parts) + ")"


def _any_of(phrases: list[str], columns: str) -> str:
    terms = [f"{columns} : {phrase}" for phrase in dict.fromkeys(phrases)]
    return "(" + " OR ".join(terms) + ")"


def _phrase_of(chunks: tuple[str, ...]) -> str:
    """The phrase for chunks that stand one after the other in the text; the last may go on (한국 in 한국의)."""
    tokens: list[str] = []
    open_ended = False
    for position, chunk in enumerate(chunks):
        new, open_ended = _chunk_tokens(chunk, last=position == len(chunks) - 1)
        tokens.extend(new)
    return _quoted(tokens) + (" *" if open_ended else "")


def _chunk_tokens(chunk: str, *, last: bool) -> tuple[list[str], bool]:
    """A chunk's tokens, and whether the last of them is only the beginning of an indexed one."""
    tokens: list[str] = []
    runs = _RUNS.findall(chunk)
    for position, run in enumerate(runs):
        ends = last and position == len(runs) - 1
        if not _is_cjk(run):
            tokens.append(run)
        elif not ends:
            tokens += [*_pairs(run), run[-1]]
        elif len(run) == 1:
            return [*tokens, run], True
        else:
            tokens += _pairs(run)
    return tokens, False


def _spacings(chunk: str) -> list[tuple[str, ...]]:
    """The chunk as it is, and with spaces put into it: 한국어교육 is also looked for as 한국어 교육.

    Two characters are never parted, else 의사 would be found in 나의 사랑.
    """
    if not _is_cjk(chunk) or not all(_IS_CJK.match(character) for character in chunk) or len(chunk) < 3:
        return [(chunk,)]
    choices: list[tuple[str, ...]] = []
    for spaces in range(len(chunk)):
        for cuts in combinations(range(1, len(chunk)), spaces):
            choices.append(tuple(chunk[start:end] for start, end in pairwise((0, *cuts, len(chunk)))))
            if len(choices) == MAX_SPACINGS:
                return choices
    return choices


def _spacings_of_phrase(chunks: list[str]) -> list[tuple[str, ...]]:
    """A phrase as it is, and without its spaces where Korean stands on both sides of one."""
    choices: list[tuple[str, ...]] = [(chunks[0],)]
    for chunk in chunks[1:]:
        apart = [(*choice, chunk) for choice in choices]
        together = [
            (*choice[:-1], choice[-1] + chunk) for choice in choices if _is_cjk(choice[-1][-1]) and _is_cjk(chunk)
        ]
        choices = (apart + together)[:MAX_SPACINGS]
    return choices


def _quoted(tokens: list[str]) -> str:
    return '"' + " ".join(tokens) + '"'


def _is_cjk(text: str) -> bool:
    return _IS_CJK.match(text) is not None


@lru_cache(maxsize=4096)
def _pairs(run: str) -> tuple[str, ...]:
    return tuple(first + second for first, second in pairwise(run))
