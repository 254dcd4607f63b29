"""Copying and shrinking: how much of an answer was said before, and how much shorter the later answers are."""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Sequence
from itertools import pairwise

N_HANGUL, N_LATIN = 10, 24
"""Letters that must agree in a row: about three words in Korean and five in English. Shorter runs are names and
turns of phrase that any two texts on one subject share."""
_MOSTLY_HANGUL = 0.3


def copying(messages: Sequence[tuple[str, str]]) -> float:
    """The share of the most copied answer's letters that lie in runs said before, 0 to 1.

    Before are all earlier messages: the question that is answered, earlier questions and earlier answers. The
    places of the runs do not matter (containment, Broder, 1997), nor case, spacing and punctuation. An answer too
    short to hold a run counts only where it says the same as an earlier message.

    Args:
        messages: role ("user" or "assistant") and text of each, in order.
    """
    worst = 0.0
    said: set[str] = set()
    runs: dict[int, set[str]] = {N_HANGUL: set(), N_LATIN: set()}
    for role, text in messages:
        letters = _letters(text)
        n = _run_length(letters)
        if role == "assistant":
            worst = max(worst, float(letters in said) if len(letters) < n else _covered(letters, runs[n], n))
        if letters:
            said.add(letters)
        for length, held in runs.items():
            held.update(letters[i : i + length] for i in range(len(letters) - length + 1))
    return worst


def shrinking(answers: Sequence[str]) -> float | None:
    """How much shorter the median later answer is than the first, 0 to 1: 0.75 where it has a quarter of its letters.

    0 where it is as long or longer; None for fewer than two answers, or where the first has no letter.
    """
    lengths = [len(_letters(answer)) for answer in answers]
    if len(lengths) < 2 or not lengths[0]:
        return None
    return max(0.0, 1 - statistics.median(lengths[1:]) / lengths[0])


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def _run_length(letters: str) -> int:
    hangul = sum("가" <= letter <= "힣" for letter in letters)
    return N_HANGUL if hangul > _MOSTLY_HANGUL * len(letters) else N_LATIN


def _covered(letters: str, runs: set[str], n: int) -> float:
    """The share of letters that lie in a run of `runs`."""
    if not runs:
        return 0.0
    starts = [i for i in range(len(letters) - n + 1) if letters[i : i + n] in runs]
    if not starts:
        return 0.0
    covered = n + sum(min(n, later - earlier) for earlier, later in pairwise(starts))
    return covered / len(letters)
