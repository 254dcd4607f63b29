"""KoQuality: a small, good, varied part of a corpus (nayohan/KoQuality, 2023).

Rows are put into groups of similar length, each group into k-means clusters of their vectors, and every
cluster gives rows along its perplexity order. `exact` does as the original; `balanced` mends what is uneven:

- groups by rank, so that many rows of one length cannot make them uneven or empty;
- vectors of unit length, so that clusters are of meaning alone;
- a group with fewer rows than clusters gets fewer clusters;
- quotas by largest remainder, so that a sample has exactly round(ratio x rows) rows, with at least one
  from each cluster while that allows;
- rows of one text, or that nearly repeat each other, are sampled twice only where there are too few others;
- rows without perplexity are kept and come last, rows without a vector are a cluster of their own;
- perplexities at both ends can be cut, and rows of higher quality go first;
- ties are broken by (perplexity, length, id), so neither the order of the rows nor chance decides.

Along ascending perplexity a cluster is cut into as many strata of even size as it gives rows, and each gives
the middle one of its rows of highest quality (`ppl`); the original begins at the lowest, so that a cluster that
gives one row gives its lowest perplexity. `ppl_h` takes the highest quality, then the highest
perplexity. `rand` draws evenly. In the last, quality only decides which of near-duplicates stands for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation import balanced, exact
from lingo_hitl.curation.pool import Cells, Floats, Ints, Pool, Reason

Sampling = Literal["ppl", "ppl_h", "rand"]


@dataclass(frozen=True)
class Selection:
    """What KoQuality chose of a pool of n rows, row by row; `at` chooses again without new clusters.

    Attributes:
        verdicts: a `Reason` for each row; int8 [n].
        report: figures for people: rows asked for, selected, lost or left out.
    """

    pool: Pool = field(repr=False)
    cells: Cells = field(repr=False)
    config: KoQualityConfig
    verdicts: NDArray[np.int8] = field(repr=False)
    report: dict[str, Any]

    @cached_property
    def selected(self) -> NDArray[np.bool_]:
        """Which rows are in the sample; bool [n]."""
        return self.verdicts == Reason.SELECTED

    @property
    def groups(self) -> Ints:
        """The length group of each row; see `Cells`."""
        return self.cells.groups

    @property
    def clusters(self) -> Ints:
        """The cluster of each row in its length group; see `Cells`."""
        return self.cells.clusters

    @property
    def perplexity(self) -> Floats:
        """What the choice looked at: `exact` rounds it to 2 decimals; float64 [n]."""
        return self._pool.perplexity

    @property
    def reasons(self) -> pa.StringArray:
        """Of each row, in words, why it is in the sample or not; string [n]."""
        texts = pa.array([reason.text for reason in Reason])
        return pa.DictionaryArray.from_arrays(pa.array(self.verdicts), texts).cast(pa.string())

    @property
    def order(self) -> Ints:
        """Positions of all rows by (length, perplexity, id), as the original's files have them; the lost last."""
        pool = self._pool
        return np.lexsort((pool.rank, pool.perplexity, pool.lengths, self.groups < 0))

    @property
    def sample_order(self) -> Ints:
        """Positions of the selected rows by (group, cluster, perplexity, length, id), as the original's sample has."""
        rows = self._pool.ascending[self.selected[self._pool.ascending]]
        return self.cells.runs(rows)[0]

    def at(self, ratio: float, *, sampling: Sampling | None = None) -> Selection:
        """The selection with another ratio or way of sampling, from the same clusters.

        Raises:
            ValueError: a ratio that is not above 0 and at most 1.
        """
        changed = {"ratio": ratio, "sampling": sampling or self.config.sampling}
        return choose(self.pool, self.cells, KoQualityConfig.model_validate({**self.config.model_dump(), **changed}))

    @property
    def _pool(self) -> Pool:
        return self.pool.rounded if self.config.method == "exact" else self.pool


def cells_of(pool: Pool, config: KoQualityConfig) -> Cells:
    """The length group and cluster of each row: the costly part, which neither ratio nor sampling change.

    Raises:
        UserError: method exact cannot be done, for want of rows in a length group.
    """
    return exact.cells(pool, config) if config.method == "exact" else balanced.cells(pool, config)


def choose(pool: Pool, cells: Cells, config: KoQualityConfig) -> Selection:
    """Sample a pool from its cells, made with the same method."""
    choice = (exact if config.method == "exact" else balanced).choose(pool, cells, config)
    return Selection(pool, cells, config, choice.reasons, choice.report)


def select(pool: Pool, config: KoQualityConfig) -> Selection:
    """Group, cluster and sample a pool.

    Raises:
        UserError: as `cells_of`.
    """
    return choose(pool, cells_of(pool, config), config)


def text_length(text: str) -> int:
    """Code points of a text without white space at both ends, which is what KoQuality groups by."""
    return len(text.strip())
