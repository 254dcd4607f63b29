"""Kiwi, the Korean morphological analyser: one instance a process, its fluency score, its meanings.

Kiwi's wheel carries a contextual n-gram model (CoNg) of some 70,000 morphemes. Two things in it are
worth more than any other model that comes without a hub:

- **How likely a text is.** The score of an analysis, over the number of morphemes, is about -3 for
  natural Korean and -5 to -9 for scrambled words.
- **What a morpheme means.** The model gives the cosine of any two morphemes. The matrix of such
  cosines has rank 256, so those to 384 landmarks tell everything that the model knows; taking the
  inverse square root of the landmarks' own matrix turns them into coordinates whose cosines are the
  model's (Nystroem features; Williams & Seeger, 2001). Then the mean and the two strongest common
  directions are taken out, which say only "a Korean word" (Mu & Viswanath, 2018).

A sentence is the weighted sum of its content morphemes, rare ones counting more (Arora et al., 2017).
How rare a morpheme is, is read from the model itself: its vocabulary is sorted by frequency. Thus a
vector depends on its text alone, and one computed next year lies in the same space.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.models.batches import compute_here, encodable
from lingo_hitl.models.frame_words import FRAME_WORDS, english_stopwords
from lingo_hitl.progress import progress

DIM = 384
BUDGET = 65_536  # characters analysed between two steps of a progress bar or of a resumable run
WORST_LOG_PROBABILITY = -20.0  # a morpheme; where the analyser gives up on "가가가가..." it says -2800
_COMMON_DIRECTIONS = 2
_VOCABULARY = 70_000  # of the model; only how steeply rarity counts depends on it
_GENERIC = 100  # ids below are classes such as "any number", not morphemes
_LANDMARKS_FROM = range(200, 20_000)  # ranks: frequent enough to be well trained
_FRAME_WEIGHT = 0.1
_PIECE = 4_000  # characters
_CHUNK = 256

# How much a part of speech says about what a text is about; the rest says nothing.
_WEIGHTS = {
    "NNG": 1.0,
    "NNP": 1.0,
    "SL": 1.0,
    "SH": 0.8,
    "XR": 0.8,
    "VV": 0.6,
    "VA": 0.6,
    "MAG": 0.1,
    "NR": 0.1,
    "NP": 0.1,
}

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Morpheme:
    """A morpheme as Kiwi found it. `id` is its rank by frequency in Kiwi's vocabulary."""

    id: int
    form: str
    lemma: str  # 먹다 for 먹-
    tag: str  # Sejong tag without the inflection class, e.g. "NNG", "VV"
    joined: bool = False  # written without a space after the morpheme before it


@dataclass(frozen=True)
class Analysis:
    """A text in morphemes, and the log-probability (natural) of the whole."""

    morphemes: list[Morpheme]
    score: float


@lru_cache(maxsize=1)
def kiwi() -> Any:
    """The one Kiwi of this process (about 2 s and 300 MB at first call)."""
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def analyse(texts: Sequence[str], *, what: str = "morphemes") -> list[Analysis]:
    """The best analysis of each text, in order; `what` names the progress bar."""
    with progress(what, len(texts)) as advance:
        return list(_analyses(texts, advance))


def _analyses(texts: Sequence[str], advance: Callable[[], object] = lambda: None) -> Iterator[Analysis]:
    for start in range(0, len(texts), _CHUNK):
        split = [pieces(text) for text in texts[start : start + _CHUNK]]
        found = iter(kiwi().analyze([piece for parts in split for piece in parts]))
        for parts in split:
            best = [next(found)[0] for _ in parts]
            yield Analysis(
                [m for tokens, _ in best for m in _morphemes(tokens)], float(sum(score for _, score in best))
            )
            advance()


def pieces(text: str) -> list[str]:
    """The text as Kiwi can take it, in pieces of at most `_PIECE` characters, cut behind white space if there is any.

    Kiwi's time grows with the square of a text's length: 200,000 characters at once take it half a minute. It
    thinks in UTF-16, in which a lone surrogate cannot be given back.
    """
    text = encodable(text)
    cut_off = []
    while len(text) > _PIECE:
        space = max(text.rfind(mark, 0, _PIECE) for mark in (" ", "\n"))
        cut = space + 1 or _PIECE
        cut_off.append(text[:cut])
        text = text[cut:]
    return [*cut_off, text]


def perplexity(texts: Sequence[str]) -> NDArray[np.float64]:
    """How unlikely each text is as Korean: exp(-score / morphemes), float64 [n]; NaN for a blank text.

    Around 20 for natural sentences, hundreds or thousands for scrambled ones. It is a perplexity over
    Kiwi's morphemes and cannot be compared with one over a causal language model's tokens.
    """
    return KiwiFluency().perplexity(texts)


@dataclass(frozen=True)
class KiwiFluency:
    """Kiwi as a model of perplexity: for each text its mean NLL in nats and its morphemes; see `perplexity`."""

    name: str = "packaged/kiwi"
    width: int = 2
    budget: int = BUDGET

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    def encode(self, texts: list[str]) -> list[str]:
        return texts

    def size(self, item: str) -> int:
        return len(item)

    def compute(self, items: list[str]) -> NDArray[np.float64]:
        """float64 [n, 2]; NaN for a blank text."""
        return np.array([[_nll(found), len(found.morphemes)] for found in _analyses(items)]).reshape(-1, 2)

    def perplexity(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.exp(compute_here(self, texts, "perplexity")[:, 0])


@dataclass(frozen=True)
class KiwiVectors:
    """Kiwi as an encoder; see `sentence_vectors`."""

    width: int = DIM
    budget: int = BUDGET

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def encode(self, texts: list[str]) -> list[str]:
        return texts

    def size(self, item: str) -> int:
        return len(item)

    def compute(self, items: list[str]) -> NDArray[np.float32]:
        return sentence_vectors(items)


def sentence_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """What each text is about: float32 [n, 384], of unit length; zeros where a text has no content word."""
    from threadpoolctl import threadpool_limits

    vectors = np.zeros((len(texts), DIM), dtype=np.float32)
    # Thousands of products of 384 x 384: threads would spend more time waiting for each other.
    with threadpool_limits(1, "blas"):
        space = meanings()
        for row, found in enumerate(_analyses(texts)):
            total = np.zeros(DIM)
            for morpheme in found.morphemes:
                if weight := space.weight(morpheme):
                    total += weight * space.vector(morpheme)
            norm = float(np.linalg.norm(total))
            if norm > 0:
                vectors[row] = total / norm
    return vectors


def hashed_word(word: str) -> Vector:
    """A unit vector [384] for a word that Kiwi has no meaning for: near those that share its letters.

    The sum of signs drawn by BLAKE2b for the word and for its pieces of 3 letters (fastText's idea,
    Bojanowski et al., 2017), so `planet` and `planets` are near, and it is the same on every machine.
    """
    size = 3 if word.isascii() else 2
    padded = f"<{word}>"
    pieces = [padded[i : i + size] for i in range(len(padded) - size + 1)]
    total = _signs(padded) * math.sqrt(max(len(pieces), 1))
    for piece in pieces:
        total = total + _signs(piece)
    return total / float(np.linalg.norm(total))


@lru_cache(maxsize=1)
def meanings() -> Meanings:
    """The space of morphemes, built once a process (about 0.2 s)."""
    return Meanings(kiwi())


class Meanings:
    """Kiwi's morphemes as vectors [384] of unit length; each is computed once and kept."""

    def __init__(self, analyser: Any) -> None:
        self._similarity = analyser.morpheme_similarity
        self._landmarks = _landmarks(analyser)
        self._known: dict[int, Vector | None] = {}
        self._hashed: dict[str, Vector] = {}

    def weight(self, morpheme: Morpheme) -> float:
        """How much a morpheme counts in its sentence: its part of speech times its rarity, 0 to 1."""
        part = _WEIGHTS.get(morpheme.tag, 0.0)
        if not part:
            return 0.0
        if morpheme.tag == "SL":
            return part * (_FRAME_WEIGHT if morpheme.form.lower() in english_stopwords() else 0.8)
        if morpheme.id < _GENERIC:
            return part * 0.8 if morpheme.form else 0.0
        rarity = min(1.0, math.log(1 + morpheme.id) / math.log(_VOCABULARY))
        return part * rarity * (_FRAME_WEIGHT if morpheme.form in FRAME_WORDS else 1.0)

    def vector(self, morpheme: Morpheme) -> Vector:
        """Where a morpheme lies: by the model where it knows it, else by its letters."""
        if morpheme.id >= _GENERIC:
            if morpheme.id not in self._known:
                self._known[morpheme.id] = self._place(morpheme.id)
            known = self._known[morpheme.id]
            if known is not None:
                return known
        word = morpheme.form.lower()
        if word not in self._hashed:
            self._hashed[word] = hashed_word(word)
        return self._hashed[word]

    def _place(self, identity: int) -> Vector | None:
        cosines = self._cosines(identity)
        if np.isnan(cosines).any():  # in Kiwi's dictionary, but not in its model
            return None
        place = cosines @ self._to_coordinates - self._mean
        place = place - (place @ self._common.T) @ self._common
        norm = float(np.linalg.norm(place))
        return place / norm if norm > 1e-6 else None

    def _cosines(self, identity: int) -> Vector:
        return np.array([self._similarity(identity, landmark) for landmark in self._landmarks])

    @cached_property
    def _gram(self) -> Vector:
        return np.stack([self._cosines(landmark) for landmark in self._landmarks])

    @cached_property
    def _to_coordinates(self) -> Vector:
        """Inverse square root of the landmarks' cosines; unlike a basis of eigenvectors it has no free signs."""
        values, vectors = np.linalg.eigh((self._gram + self._gram.T) / 2)
        real = values > 1e-3  # 256 of them; the others are rounding
        return np.asarray((vectors[:, real] / np.sqrt(values[real])) @ vectors[:, real].T)

    @cached_property
    def _mean(self) -> Vector:
        return np.asarray((self._gram @ self._to_coordinates).mean(axis=0))

    @cached_property
    def _common(self) -> Vector:
        return np.asarray(
            np.linalg.svd(self._gram @ self._to_coordinates - self._mean, full_matrices=False)[2][:_COMMON_DIRECTIONS]
        )


def _landmarks(analyser: Any) -> list[int]:
    content = [i for i in _LANDMARKS_FROM if _is_content(analyser.morpheme(i))]
    return [content[i] for i in np.linspace(0, len(content) - 1, DIM).astype(int)]


def _is_content(token: Any) -> bool:
    return bool(token.form) and _part_of_speech(token.tag) in ("NNG", "NNP", "VV", "VA", "MAG")


def _morphemes(tokens: Sequence[Any]) -> list[Morpheme]:
    ends = [-1, *(token.end for token in tokens)]
    return [
        Morpheme(int(token.id), token.form, token.lemma, _part_of_speech(token.tag), joined=token.start == end)
        for token, end in zip(tokens, ends, strict=False)
    ]


def _part_of_speech(tag: str) -> str:
    return tag.split("-", 1)[0]


def _nll(found: Analysis) -> float:
    if not found.morphemes:
        return math.nan
    return -max(found.score / len(found.morphemes), WORST_LOG_PROBABILITY)


def _signs(piece: str) -> Vector:
    digest = hashlib.blake2b(piece.encode("utf-8", "surrogatepass"), digest_size=DIM // 8).digest()
    return np.unpackbits(np.frombuffer(digest, dtype=np.uint8)).astype(np.float64) * 2 - 1
