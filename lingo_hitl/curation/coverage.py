"""How well a sample covers a corpus, and how often it repeats itself, by the cosine distance of vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.curation.grouping import gather
from lingo_hitl.curation.pool import NO_VECTOR, Floats, Ints, Pool

ALIKE = 0.99
"""Cosine similarity above which two texts count as saying the same."""
_FEWEST = 2_000  # corpus rows that are looked at, however large the sample


@dataclass(frozen=True)
class Distances:
    """Cosine distances, 0 to 2, of corpus rows to their nearest sampled row; the smaller, the better covered.

    Attributes:
        quantiles: at 0 %, 1 % ... 100 % of the corpus: within quantiles[80] of the sample lie 80 % of the rows.
    """

    mean: float
    p50: float
    p95: float
    quantiles: tuple[float, ...]


@dataclass(frozen=True)
class Repeats:
    """Shares of a sample's rows that say what another of its rows says too.

    Attributes:
        identical: the very same text.
        alike: cosine similarity above `ALIKE`; a row without a vector is like no other. None without vectors.
        near: the same `Pool.duplicate_group`; None where none were looked for.
    """

    identical: float
    alike: float | None
    near: float | None


class Yardstick:
    """What every sample of one pool is held against: some corpus rows, and random samples of any size.

    Both are drawn by `seed` from the rows in the order of their ids, so the order of the rows does not
    matter. Samples of one pool that share a yardstick share the measuring of random samples too.

    Args:
        rows: at most so many rows of the corpus are looked at,
        pairs: or fewer, where that would be more pairs of a corpus row and a sampled one than this.
        block: sampled rows whose vectors are in memory at a time.
    """

    def __init__(
        self, pool: Pool, seed: int, *, rows: int = 20_000, pairs: int = 200_000_000, block: int = 2_048
    ) -> None:
        self.pool, self._rows, self._pairs, self._block = pool, rows, pairs, block
        by_id = np.argsort(pool.rank)
        corpus, chance = (np.random.default_rng([seed, stream]) for stream in range(2))
        self._shuffled = chance.permutation(by_id)
        self._place = np.argsort(self._shuffled)
        known = by_id[pool.vector_of[by_id] != NO_VECTOR]
        self._vectors = pool.vector_of[corpus.permutation(known)[:rows]]
        self._of_random: dict[int, tuple[Distances | None, Repeats]] = {}

    def looked_at(self, sampled: int) -> int:
        """How many corpus rows the coverage of a sample of this size is measured on."""
        return min(len(self._vectors), self._most(sampled))

    def coverage(self, rows: Ints) -> Distances | None:
        """How near the corpus is to the sample `rows`; None where there are no vectors to tell by."""
        sampled = _distinct(self.pool, rows)
        if not len(sampled) or not len(self._vectors):
            return None
        nearest = self._nearest(self._unit[: self.looked_at(len(rows))], sampled)
        return _distances(np.maximum(1 - nearest.astype(np.float64), 0))

    def repeats(self, rows: Ints) -> Repeats:
        """How often the sample `rows` repeats itself; of a large one, likeness is looked at on a part."""
        pool = self.pool
        near = None if pool.duplicate_group is None else _shared(pool.duplicate_group[rows])
        return Repeats(identical=_shared(pool.text_number[rows]), alike=self._alike(rows), near=near)

    def of_random(self, size: int) -> tuple[Distances | None, Repeats]:
        """Coverage and repeats of a random sample; a larger one contains the smaller."""
        if size not in self._of_random:
            rows = np.sort(self._shuffled[:size])
            self._of_random[size] = self.coverage(rows), self.repeats(rows)
        return self._of_random[size]

    def _most(self, sampled: int) -> int:
        return min(self._rows, max(_FEWEST, self._pairs // max(sampled, 1)))

    def _alike(self, rows: Ints) -> float | None:
        """Share of rows with another of them nearer than `ALIKE`."""
        pool, vectors = self.pool, _distinct(self.pool, rows)
        if not len(vectors):
            return None
        own = pool.vector_of[rows[np.argsort(self._place[rows])][: self._most(len(rows))]]
        same = np.bincount(pool.vector_of[rows] + 1)[own + 1] > 1
        near = self._nearest(unit_vectors(pool, np.maximum(own, 0)), vectors, own) > ALIKE
        return rounded(((same | near) & (own != NO_VECTOR)).mean())

    def _nearest(self, unit: NDArray[np.float32], vectors: Ints, own: Ints | None = None) -> NDArray[np.float32]:
        """Cosine similarity of each of `unit` [m, d] to its nearest among `vectors` of the pool: float32 [m].

        Args:
            vectors: rows of `pool.vectors`, ascending, each once.
            own: of each of `unit`, the row of `pool.vectors` that it is and that does not count; [m].
        """
        best = np.full(len(unit), -1.0, dtype=np.float32)
        for start in range(0, len(vectors), self._block):
            block = vectors[start : start + self._block]
            similarity = unit @ unit_vectors(self.pool, block).T
            if own is not None:
                place = np.searchsorted(block, own).clip(max=len(block) - 1)
                here = np.flatnonzero(block[place] == own)
                similarity[here, place[here]] = -1
            np.maximum(best, similarity.max(axis=1), out=best)
        return best

    @cached_property
    def _unit(self) -> NDArray[np.float32]:
        return unit_vectors(self.pool, self._vectors)


def unit_vectors(pool: Pool, vectors: Ints) -> NDArray[np.float32]:
    """Rows of `pool.vectors` at length 1, or zero where not finite, and so at right angles to all others."""
    with np.errstate(invalid="ignore"):
        found = gather(pool.vectors, vectors, unit=True)
    found[~np.isfinite(found).all(axis=1)] = 0
    return found


def _distinct(pool: Pool, rows: Ints) -> Ints:
    vectors = np.unique(pool.vector_of[rows])
    return vectors[vectors != NO_VECTOR]


def _shared(names: Ints) -> float:
    """Share of values that occur more than once; negative ones stand for no name at all."""
    if not len(names):
        return 0.0
    _, place, counts = np.unique(names, return_inverse=True, return_counts=True)
    return rounded(((counts[place] > 1) & (names >= 0)).mean())


def _distances(values: Floats) -> Distances:
    quantiles = tuple(rounded(value) for value in np.quantile(values, np.linspace(0, 1, 101)))
    return Distances(rounded(values.mean()), quantiles[50], quantiles[95], quantiles)


def rounded(value: Any) -> float:
    """To six digits: the last bits of a float32 product depend on the number of threads."""
    return round(float(value), 6)
