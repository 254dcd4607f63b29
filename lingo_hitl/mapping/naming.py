"""Names that a labeler can read: each cluster's most telling words.

A term tells much about a cluster when many of its rows have it and few rows elsewhere do: class-based
TF-IDF (Grootendorst, 2022), counted in rows, so that one long text cannot name a cluster alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.mapping.clusters import NOISE
from lingo_hitl.models.frame_words import FRAME_WORDS, english_stopwords
from lingo_hitl.models.kiwi import Morpheme, analyse

NOISE_NAME = "기타 · other"
SEPARATOR = " · "
TERMS = 3
LONGEST = 40  # characters of a name
_LONGEST_TERM = 16
_NOUNS = ("NNG", "NNP", "XR")
_PREDICATES = ("VV", "VA")
_PREDICATE_WEIGHT = 0.5  # a verb tells less than a noun that is as frequent
_COMPOUND_WEIGHT = 1.3  # 남자친구 says more than 남자 and 친구
_FRAME_WEIGHT = 0.02  # enough to name a cluster of small talk that has no other word
_LEAST_SHARE = 0.06  # of a cluster's rows that must have a term; below it is chance
_LEAST_SCORE = 0.12  # over the best term's; after a strong first word a weak second one only confuses


def name_clusters(texts: Sequence[str], labels: NDArray[np.int32]) -> dict[int, str]:
    """A name for each label: up to three terms, unique, at most 40 characters, without a comma.

    `labels` [n] are those of `find_clusters`; -1 is always named "기타 · other". A cluster without a
    telling word is named by its number.
    """
    rows = _rows_with_terms(texts)
    names: dict[int, str] = {}
    taken = {NOISE_NAME}
    everywhere = Counter(term for row in rows for term in row)
    for label in sorted(set(labels.tolist())):
        if label == NOISE:
            names[label] = NOISE_NAME
            continue
        members = [row for row, own in zip(rows, labels.tolist(), strict=True) if own == label]
        names[label] = _unique(_telling(members, everywhere, len(rows)), label, taken)
        taken.add(names[label])
    return names


def terms_of(morphemes: Sequence[Morpheme]) -> dict[str, float]:
    """The words of a text that could name it, with the weight of their part of speech.

    Nouns and roots as they are, two nouns written as one word also together (남자친구), predicates in
    their dictionary form (먹다), Latin words in lower case.
    """
    terms: dict[str, float] = {}
    before: str | None = None
    for morpheme in morphemes:
        word = _word(morpheme)
        if word is None or len(word) > _LONGEST_TERM:
            before = None
            continue
        is_noun = morpheme.tag in _NOUNS
        if is_noun and before and morpheme.joined and len(before + word) <= _LONGEST_TERM:
            terms[before + word] = _COMPOUND_WEIGHT
        is_frame = morpheme.form in FRAME_WORDS or word in english_stopwords()
        weight = _PREDICATE_WEIGHT if morpheme.tag in _PREDICATES else 1.0
        terms[word] = weight * (_FRAME_WEIGHT if is_frame else 1.0)
        before = word if is_noun and not is_frame else None
    return terms


def _word(morpheme: Morpheme) -> str | None:
    if morpheme.tag in _NOUNS and morpheme.form.isalnum():
        return morpheme.form
    if morpheme.tag in _PREDICATES and morpheme.lemma.isalnum():
        return morpheme.lemma
    word = morpheme.form.lower()
    return word if morpheme.tag == "SL" and word.isalpha() and len(word) > 2 else None


def _rows_with_terms(texts: Sequence[str]) -> list[dict[str, float]]:
    distinct = list(dict.fromkeys(texts))
    found = {t: terms_of(a.morphemes) for t, a in zip(distinct, analyse(distinct, what="names"), strict=True)}
    return [found[text] for text in texts]


def _telling(members: list[dict[str, float]], everywhere: Counter[str], rows: int) -> list[str]:
    """The terms of a cluster, most telling first."""
    here = Counter(term for row in members for term in row)
    weight = {term: value for row in members for term, value in row.items()}
    least = max(2.0, _LEAST_SHARE * len(members)) if len(members) >= 4 else 1.0
    score = {
        term: weight[term] * (count / len(members)) * math.log(1 + rows / everywhere[term])
        for term, count in here.items()
        if count >= least
    }
    ordered = sorted(score, key=lambda term: (-score[term], -len(term), term))
    return [term for term in ordered if score[term] >= _LEAST_SCORE * score[ordered[0]]]


def _unique(ordered: list[str], label: int, taken: set[str]) -> str:
    chosen: list[str] = []
    for term in ordered:
        if any(term in other or other in term for other in chosen):
            continue
        if len(SEPARATOR.join([*chosen, term])) > LONGEST:
            continue
        chosen.append(term)
        if len(chosen) >= TERMS and SEPARATOR.join(chosen) not in taken:
            break
    name = SEPARATOR.join(chosen)
    if not name or name in taken:
        name = SEPARATOR.join([*chosen[:2], str(label + 1)]) if chosen else f"묶음 {label + 1}"
    return name
