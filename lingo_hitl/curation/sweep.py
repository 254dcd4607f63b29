"""Many samples of one pool beside each other: which settings cover the corpus best."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pyarrow as pa
from pydantic import ValidationError

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.coverage import Yardstick
from lingo_hitl.curation.koquality import Cells, cells_of, choose
from lingo_hitl.curation.measures import Measures, measure
from lingo_hitl.curation.pool import Pool
from lingo_hitl.errors import UserError
from lingo_hitl.progress import progress
from lingo_hitl.records import Row

SWEEP = pa.schema(
    [
        ("length_groups", pa.int32()),
        ("clusters", pa.int32()),  # asked for in each length group
        ("ratio", pa.float64()),
        ("sampling", pa.string()),
        ("reason", pa.string()),  # why there is no such sample; null where there is one, and then the rest is not
        ("selected", pa.int64()),
        ("coverage_mean", pa.float64()),  # this and the next two: cosine distance to the nearest sampled row
        ("coverage_p50", pa.float64()),
        ("coverage_p95", pa.float64()),
        ("random_coverage_mean", pa.float64()),  # of a random sample of the same size
        ("random_coverage_p50", pa.float64()),
        ("random_coverage_p95", pa.float64()),
        ("identical", pa.float64()),  # shares of the sampled rows, see `coverage.Repeats`
        ("alike", pa.float64()),
        ("near", pa.float64()),
        ("random_identical", pa.float64()),
        ("random_alike", pa.float64()),
        ("length_ks", pa.float64()),
        ("perplexity_ks", pa.float64()),
        ("cells", pa.int64()),
        ("cells_reached", pa.int64()),
        ("source_distance", pa.float64()),
        ("source_shares", pa.map_(pa.string(), pa.float64())),  # of the sample; the corpus is the same for all
    ]
)
"""One row for each combination. Measures that the pool has nothing for (no vectors, no sources) are null."""


def sweep(
    pool: Pool,
    config: KoQualityConfig,
    *,
    length_groups: Sequence[int],
    clusters: Sequence[int],
    ratios: Sequence[float],
    samplings: Sequence[str],
    sources: pa.Array | None = None,
) -> pa.Table:
    """Choose and measure a sample for every combination of settings; gives `SWEEP`.

    k-means runs once for each (length groups, clusters), and random samples are measured once for each
    size. A combination that cannot be done is a row with its reason.

    Args:
        config: what the combinations do not say: method, seed, and the rest.
        sources: the name of each row's source; string [n].

    Raises:
        UserError: a setting that no sample can have, such as a ratio above 1.
    """
    places = list(product(dict.fromkeys(length_groups), dict.fromkeys(clusters)))
    picks = list(product(dict.fromkeys(ratios), dict.fromkeys(samplings)))
    if not places or not picks:
        raise UserError("sweep: expected at least one value each of length groups, clusters, ratio and sampling.")
    configs = [[_config(config, *place, *pick) for pick in picks] for place in places]
    yardstick = Yardstick(pool, config.seed)
    rows: list[Row] = []
    with progress("sweep", len(places) * len(picks)) as advance:
        for of_one_place in configs:
            cells = _cells(pool, of_one_place[0])
            for one in of_one_place:
                row = one.model_dump(include={"length_groups", "clusters", "ratio", "sampling"})
                if isinstance(cells, str):
                    rows.append(row | {"reason": cells})
                else:
                    selection = choose(pool, cells, one)
                    found = measure(pool, selection, sources, seed=config.seed, yardstick=yardstick)
                    rows.append(row | _figures(found))
                advance()
    return pa.Table.from_pylist(rows, schema=SWEEP)


def _config(config: KoQualityConfig, groups: int, clusters: int, ratio: float, sampling: str) -> KoQualityConfig:
    changed = {"length_groups": groups, "clusters": clusters, "ratio": ratio, "sampling": sampling}
    try:
        return KoQualityConfig.model_validate({**config.model_dump(), **changed})
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise UserError(f"sweep: {name} {fault['input']!r} cannot be: {fault['msg']}.") from None


def _cells(pool: Pool, config: KoQualityConfig) -> Cells | str:
    """The clusters, or why there are none."""
    try:
        return cells_of(pool, config)
    except UserError as error:
        return str(error)


def _figures(measures: Measures) -> Row:
    row: Row = {
        "selected": measures.selected,
        "identical": measures.repeats.identical,
        "alike": measures.repeats.alike,
        "near": measures.repeats.near,
        "random_identical": measures.random_repeats.identical,
        "random_alike": measures.random_repeats.alike,
        "length_ks": measures.length.ks,
        "perplexity_ks": measures.perplexity.ks,
        "cells": measures.cells,
        "cells_reached": measures.cells_reached,
        "source_distance": measures.source_distance,
        "source_shares": [(s.source, s.sample / max(measures.selected, 1)) for s in measures.sources],
    }
    for name, found in (("coverage", measures.coverage), ("random_coverage", measures.random_coverage)):
        if found:
            row |= {f"{name}_mean": found.mean, f"{name}_p50": found.p50, f"{name}_p95": found.p95}
    return row
