"""The words of a dataset's texts that differ from a word by few characters, for `fuzzy~1`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from argilla_setup.search.text_match import MAX_SIMILAR
from argilla_setup.search.text_tokens import has_cjk

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(word: str, words: Iterable[str], *, edits: int) -> list[str]:
    """At most ten of the words within that distance of a word, nearest first.

    Korean words are left out: they are indexed as pairs of syllables, which are no words.
    """
    found = []
    for known in words:
        away = distance(word, known, most=edits)
        if away <= edits and not has_cjk(known):
            found.append((away, known))
    return [known for _, known in sorted(found)[:MAX_SIMILAR]]


def distance(one: str, other: str, *, most: int) -> int:
    """How many characters must be put in, taken out or replaced (Levenshtein); `most` + 1 where it is more."""
    if abs(len(one) - len(other)) > most:
        return most + 1
    row = list(range(len(other) + 1))
    for position, character in enumerate(one, start=1):
        diagonal, row[0] = row[0], position
        for column, against in enumerate(other, start=1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (character != against)),
            )
        if min(row) > most:
            return most + 1
    return min(row[-1], most + 1)
