"""The rows that KoQuality picks from, as columns: small enough for a million rows in memory, vectors aside."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
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
