"""From a query's tree to an FTS5 MATCH expression over the columns c0, j0, c1, j1, ... of a dataset's text table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from argilla_setup.search.text_query import Joined, Node, Not, Text, parse
from argilla_setup.search.text_tokens import chunks, has_cjk, is_cjk, query_tokens, without_spaces, word_groups

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Similar = Callable[[str, int], Sequence[str]]
    """The indexed words within an edit distance of a word, nearest first."""

MAX_SIMILAR = 10
"""How many of a text's words a fuzzy word stands for, as in Argilla's own queries."""
FEWEST_JOINED = 3
"""Two characters are never parted by a space, else 의사 would be found in 나의 사랑."""
EVERY = "every"
"""The column that holds the same token in each record, so that NOT has something to subtract from."""
EVERY_TOKEN = "x"
AS_SPACED, UNSPACED = 0, 1


def columns_of(field: int) -> tuple[str, str]:
    """The columns of a field: its text as it is spaced, and with the spaces between Korean words taken out."""
    return f"c{field}", f"j{field}"


def to_fts5(query: str, fields: Sequence[int], similar: Similar | None = None) -> str | None:
    """The expression for `query` within `fields`, given by position; None where there is nothing to look for.

    Without `similar` a fuzzy word is looked for as it is written.
    """
    tree = parse(query)
    if tree is None or not fields:
        return None
    return _render(tree, tuple(fields), similar)


def _render(node: Node, fields: tuple[int, ...], similar: Similar | None) -> str:
    if isinstance(node, Not):
        return f'({EVERY} : "{EVERY_TOKEN}" NOT {_render(node.operand, fields, similar)})'
    if isinstance(node, Joined):
        return "(" + f" {node.operator} ".join(_render(operand, fields, similar) for operand in node.operands) + ")"
    if node.phrase:
        return _render_phrase(node, fields)
    groups = word_groups(node.words)
    if len(groups) == 1:
        return _render_group(groups[0], node, fields, similar, last=True)
    # What stands between two spaces is to be found in one field, as Elasticsearch wants it.
    by_field = [
        " AND ".join(
            _render_group(group, node, (field,), similar, last=position == len(groups) - 1)
            for position, group in enumerate(groups)
        )
        for field in fields
    ]
    return "(" + " OR ".join(f"({part})" for part in by_field) + ")"


def _render_group(group: list[str], text: Text, fields: tuple[int, ...], similar: Similar | None, *, last: bool) -> str:
    if len(group) > 1:
        return _any_of([(fields, AS_SPACED, _phrase_of(group, prefix=text.prefix and last))])
    chunk = group[0]
    if text.edits and similar is not None and not has_cjk(chunk):
        return _any_of(
            [(fields, AS_SPACED, _quoted([word])) for word in [chunk, *similar(chunk, text.edits)][:MAX_SIMILAR]]
        )
    phrase = _phrase_of(group, prefix=text.prefix and last)
    terms = [(fields, AS_SPACED, phrase)]
    if len(chunk) >= FEWEST_JOINED and is_cjk(chunk):
        terms.append((fields, UNSPACED, phrase))
    return _any_of(terms)


def _render_phrase(text: Text, fields: tuple[int, ...]) -> str:
    words = chunks(text.words)
    if text.slop and len(words) > 1:
        near = " ".join(_quoted(query_tokens(word, last=True)[0]) for word in words)
        columns = " ".join(columns_of(field)[0] for field in fields)
        return f"({{{columns}}} : NEAR({near}, {text.slop}))"
    terms = [(fields, AS_SPACED, _phrase_of(words))]
    joined = chunks(without_spaces(text.words))
    if has_cjk(text.words) and sum(map(len, words)) >= FEWEST_JOINED:
        terms.append((fields, UNSPACED, _phrase_of(joined)))
    if joined != words:
        terms.append((fields, AS_SPACED, _phrase_of(joined)))
    return _any_of(terms)


def _any_of(terms: list[tuple[tuple[int, ...], int, str]]) -> str:
    """Terms of (fields, which of their columns, phrase) joined by OR."""
    parts = [
        "{" + " ".join(columns_of(field)[column] for field in fields) + "} : " + phrase
        for fields, column, phrase in dict.fromkeys(terms)
    ]
    return "(" + " OR ".join(parts) + ")"


def _phrase_of(chunks: Sequence[str], *, prefix: bool = False) -> str:
    """The phrase for chunks that stand one after the other in the text; the last may go on (한국 in 한국의)."""
    tokens: list[str] = []
    open_ended = prefix
    for position, chunk in enumerate(chunks):
        last = position == len(chunks) - 1
        new, goes_on = query_tokens(chunk, last=last)
        tokens.extend(new)
        open_ended = open_ended or goes_on
    return _quoted(tokens) + (" *" if open_ended else "")


def _quoted(tokens: Sequence[str]) -> str:
    return '"' + " ".join(tokens) + '"'
