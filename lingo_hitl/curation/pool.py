"""The rows that KoQuality picks from, as columns: small enough for a million rows in memory, vectors aside."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

NO_VECTOR = -1
"""`vector_of` of a row that has none."""


@dataclass(frozen=True)
class Pool:
    """Rows by column, all of the same length `n`.

    Attributes:
        ids: string [n], each once; they settle ties, so no choice depends on the order of the rows.
        texts: string [n], what length, perplexity and vector are of.
        lengths: code points of each text without white space at both ends; int64 [n].
        perplexity: float64 [n], NaN where there is none.
        vectors: float32 [distinct, d], perhaps memory-mapped; never normalised here.
        vector_of: row of `vectors` for each row, or `NO_VECTOR`; int64 [n].
        quality: a human rating or a judge's score, higher is better, NaN where none; float64 [n], or None.
        duplicate_group: rows that nearly repeat each other share a number; int64 [n], or None.
    """

    ids: pa.StringArray
    texts: pa.StringArray
    lengths: Ints
    perplexity: Floats
    vectors: NDArray[np.float32]
    vector_of: Ints
    quality: Floats | None = None
    duplicate_group: Ints | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def rank(self) -> Ints:
        """The place of each row's id among all ids in code point order; int64 [n]."""
        rank = np.empty(len(self), dtype=np.int64)
        rank[pc.sort_indices(self.ids).to_numpy()] = np.arange(len(self))
        return rank

    @cached_property
    def ascending(self) -> Ints:
        """Positions of the rows by (perplexity, length, id), those without perplexity last; int64 [n]."""
        return np.lexsort((self.rank, self.lengths, self.perplexity))

    @cached_property
    def text_number(self) -> Ints:
        """The same number for the same text; which one depends on the order of the rows. int64 [n]."""
        return self.texts.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)

    @cached_property
    def rounded(self) -> Pool:
        """The same rows with their perplexity rounded to 2 decimals as Python rounds, which is not as numpy does."""
        return replace(self, perplexity=np.array([round(ppl, 2) for ppl in self.perplexity.tolist()], dtype=np.float64))


@dataclass(frozen=True)
class Cells:
    """Where each row lies: a length group, and a cluster within it.

    Attributes:
        groups: 0 for the shortest, -1 for a row that `exact` loses; int64 [n].
        clusters: from 0 in each group, -1 for a row without a vector or lost; int64 [n].
    """

    groups: Ints
    clusters: Ints

    @cached_property
    def number(self) -> Ints:
        """The same number for the rows of one cell, ascending by (group, cluster); int64 [n]."""
        return self.groups * (self.clusters.max(initial=-1) + 2) + self.clusters + 1

    def runs(self, rows: Ints) -> tuple[Ints, Ints]:
        """Positions sorted by cell, and within one as they came; and for each the place of its cell among those met."""
        order = np.argsort(self.number[rows], kind="stable")
        return rows[order], np.unique(self.number[rows[order]], return_inverse=True)[1]


class Reason(IntEnum):
    """Why a row is in the sample or not."""

    SELECTED = 0
    NOT_SAMPLED = 1
    LOST = 2
    LOW = 3
    HIGH = 4
    REPEATED = 5

    @property
    def text(self) -> str:
        return _REASONS[self]


_REASONS = {
    Reason.SELECTED: "selected",
    Reason.NOT_SAMPLED: "not in the KoQuality sample",
    Reason.LOST: "no perplexity, as for a text of one token: the original drops it",
    Reason.LOW: "perplexity below the quantiles that are kept",
    Reason.HIGH: "perplexity above the quantiles that are kept",
    Reason.REPEATED: "near-duplicate of a row that stands for it",
}


@dataclass(frozen=True)
class Choice:
    """What was chosen: a `Reason` for each row, int8 [n], and figures worth telling."""

    reasons: NDArray[np.int8]
    report: dict[str, Any]
