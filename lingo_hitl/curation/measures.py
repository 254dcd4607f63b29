"""What a sample is like beside the corpus that it was taken from: in figures that two samples can be compared by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lingo_hitl.curation.coverage import Distances, Repeats, Yardstick, rounded
from lingo_hitl.curation.koquality import Selection
from lingo_hitl.curation.pool import NO_VECTOR, Floats, Ints, Pool

LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
"""The quantiles that lengths and perplexities are told by."""
NO_SOURCE = "(no source)"


@dataclass(frozen=True)
class Spread:
    """One number of each row: its `LEVELS` quantiles, and how far apart corpus and sample are.

    Attributes:
        corpus, sample: empty where no row has the number.
        ks: Kolmogorov-Smirnov distance, 0 (the same shape) to 1; None where either is empty.
    """

    corpus: tuple[float, ...]
    sample: tuple[float, ...]
    ks: float | None


@dataclass(frozen=True)
class SourceCount:
    source: str
    corpus: int
    sample: int


@dataclass(frozen=True)
class Measures:
    """All that is measured of one sample.

    Attributes:
        rows, selected: of corpus and sample.
        no_vector, no_perplexity: rows of the corpus that have none.
        looked_at: corpus rows that coverage was measured on.
        coverage: None where no sampled row, or no row at all, has a vector.
        random_coverage, random_repeats: the same for a random sample of the same size.
        cells, cells_reached: clusters of all length groups, and those of which the sample has a row.
        sources: the largest first; empty where no sources were given.
        reasons: why rows are in the sample or not -> rows.
    """

    rows: int
    selected: int
    no_vector: int
    no_perplexity: int
    looked_at: int
    coverage: Distances | None
    random_coverage: Distances | None
    repeats: Repeats
    random_repeats: Repeats
    length: Spread
    perplexity: Spread
    cells: int
    cells_reached: int
    sources: tuple[SourceCount, ...]
    reasons: dict[str, int]
    seed: int

    @property
    def source_distance(self) -> float | None:
        """Total variation distance of the source shares, 0 (the same) to 1; None without sources or sample."""
        if not self.sources or not self.selected:
            return None
        return sum(abs(s.corpus / self.rows - s.sample / self.selected) for s in self.sources) / 2

    def as_json(self) -> dict[str, Any]:
        """The same as a dict for a manifest, with quantiles named by their level and without the curve's 101 points."""
        content = {**asdict(self), "source_distance": self.source_distance}
        for name in ("coverage", "random_coverage"):
            if content[name]:
                del content[name]["quantiles"]
        for name in ("length", "perplexity"):
            for side in ("corpus", "sample"):
                named = zip(LEVELS, content[name][side], strict=False)
                content[name][side] = {f"{level:.0%}": value for level, value in named}
        return content


def measure(
    pool: Pool, selection: Selection, sources: pa.Array | None, *, seed: int, yardstick: Yardstick | None = None
) -> Measures:
    """Measure a selection of `pool`.

    Time and memory stay bounded as the corpus grows: vectors are gathered in blocks, and coverage is
    measured on at most 20,000 corpus rows, which `seed` draws.

    Args:
        sources: the name of each row's source; string [n].
        yardstick: of the same pool and seed, where several selections are measured.
    """
    yardstick = yardstick or Yardstick(pool, seed)
    rows = np.flatnonzero(selection.selected)
    random_coverage, random_repeats = yardstick.of_random(len(rows))
    cells, reached = _cells(selection)
    return Measures(
        rows=len(pool),
        selected=len(rows),
        no_vector=int((pool.vector_of == NO_VECTOR).sum()),
        no_perplexity=int((~np.isfinite(pool.perplexity)).sum()),
        looked_at=yardstick.looked_at(len(rows)),
        coverage=yardstick.coverage(rows),
        random_coverage=random_coverage,
        repeats=yardstick.repeats(rows),
        random_repeats=random_repeats,
        length=_spread(pool.lengths.astype(np.float64), rows),
        perplexity=_spread(pool.perplexity, rows),
        cells=cells,
        cells_reached=reached,
        sources=_sources(sources, rows),
        reasons=counted(selection.reasons),
        seed=seed,
    )


def _spread(values: Floats, rows: Ints) -> Spread:
    from scipy.stats import ks_2samp

    corpus = values[np.isfinite(values)]
    sample = values[rows][np.isfinite(values[rows])]
    sides = [tuple(np.quantile(side, LEVELS).tolist()) if len(side) else () for side in (corpus, sample)]
    with np.errstate(all="ignore"):  # of its p-value, which is not looked at
        ks = rounded(ks_2samp(corpus, sample, method="asymp").statistic) if len(sample) else None
    return Spread(sides[0], sides[1], ks)


def _cells(selection: Selection) -> tuple[int, int]:
    """Clusters over all length groups, and how many of them have a sampled row."""
    placed = selection.groups >= 0
    cell = selection.cells.number
    return len(np.unique(cell[placed])), len(np.unique(cell[placed & selection.selected]))


def _sources(sources: pa.Array | None, rows: Ints) -> tuple[SourceCount, ...]:
    if sources is None:
        return ()
    named = pc.fill_null(sources.cast(pa.string()), NO_SOURCE)
    sampled = counted(named.take(pa.array(rows)))
    return tuple(SourceCount(name, count, sampled.get(name, 0)) for name, count in counted(named).items())


def counted(names: Sequence[str] | pa.Array) -> dict[str, int]:
    """How often each occurs, the commonest first, equally common ones by name."""
    counted = pc.value_counts(names if isinstance(names, pa.Array | pa.ChunkedArray) else pa.array(names, pa.string()))
    pairs = zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True)
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
