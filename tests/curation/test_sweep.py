"""Sweeps: every combination is a row, with the measures that it would have alone."""

from __future__ import annotations

import cProfile
import pstats

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.koquality import select
from lingo_hitl.curation.measures import measure
from lingo_hitl.curation.sweep import SWEEP, sweep
from lingo_hitl.errors import UserError
from tests.curation.pools import pool_of


@pytest.fixture(scope="module")
def pool():
    chance = np.random.default_rng(4)
    return pool_of(
        [
            {
                "id": f"{n:04}",
                "text": "글" * int(chance.integers(1, 40)),
                "vector": chance.normal(size=6),
                "perplexity": float(chance.lognormal(4, 1)),
            }
            for n in range(120)
        ]
    )


SOURCES = pa.array(["가", "나", "다"] * 40)


@pytest.mark.parametrize("method", ["balanced", "exact"])
def test_every_combination_is_measured_as_it_would_be_alone(pool, method):
    config = KoQualityConfig(method=method)
    samplings = ["ppl_h", "rand"]
    table = sweep(
        pool, config, length_groups=[1, 2], clusters=[2, 5], ratios=[0.1, 0.5], samplings=samplings, sources=SOURCES
    )
    assert table.schema == SWEEP and table.num_rows == 2 * 2 * 2 * 2
    for row in table.to_pylist():
        changed = {name: row[name] for name in ("length_groups", "clusters", "ratio", "sampling")}
        alone = measure(pool, select(pool, config.model_copy(update=changed)), SOURCES, seed=config.seed)
        assert row["reason"] is None
        assert row["selected"] == alone.selected
        assert (row["coverage_mean"], row["coverage_p95"]) == (alone.coverage.mean, alone.coverage.p95)
        assert row["random_coverage_mean"] == alone.random_coverage.mean
        assert (row["identical"], row["alike"]) == (alone.repeats.identical, alone.repeats.alike)
        assert (row["length_ks"], row["perplexity_ks"]) == (alone.length.ks, alone.perplexity.ks)
        assert (row["cells"], row["cells_reached"]) == (alone.cells, alone.cells_reached)
        assert dict(row["source_shares"]) == {s.source: s.sample / alone.selected for s in alone.sources}


def test_k_means_runs_once_for_each_length_groups_and_clusters(pool):
    profile = cProfile.Profile()
    profile.runcall(
        sweep,
        pool,
        KoQualityConfig(),
        length_groups=[1, 3],
        clusters=[2, 4],
        ratios=[0.1, 0.2, 0.4],
        samplings=["ppl", "rand"],
    )
    calls = {name: count for (_, _, name), (_, count, *_) in pstats.Stats(profile).stats.items()}
    # Two numbers of clusters, in 1 + 3 length groups.
    assert calls["fit_predict"] == 2 * (1 + 3)


def test_a_combination_that_cannot_be_done_is_a_row_with_its_reason(pool):
    config = KoQualityConfig(method="exact")
    table = sweep(pool, config, length_groups=[1, 6], clusters=[5, 100], ratios=[0.1], samplings=["ppl", "rand"])
    rows = table.to_pylist()
    failed = [row for row in rows if row["reason"]]
    assert [(row["length_groups"], row["clusters"], row["sampling"]) for row in failed] == [
        (6, 100, "ppl"),
        (6, 100, "rand"),
    ]
    assert all("fewer than the 100 clusters asked for" in row["reason"] for row in failed)
    assert all(row["selected"] is None and row["coverage_mean"] is None for row in failed)
    assert all(row["selected"] > 0 for row in rows if not row["reason"])


def test_repeated_values_are_one_combination_and_the_table_can_be_stored(pool, tmp_path):
    table = sweep(pool, KoQualityConfig(), length_groups=[2, 2], clusters=[3], ratios=[0.1, 0.1], samplings=["ppl"])
    assert table.num_rows == 1
    pq.write_table(table, tmp_path / "sweep.parquet")
    assert pq.read_table(tmp_path / "sweep.parquet").to_pylist() == table.to_pylist()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"ratios": [0.1, 1.5]}, "ratio 1.5"),
        ({"clusters": [0]}, "clusters 0"),
        ({"samplings": ["best"]}, "sampling 'best'"),
        ({"length_groups": []}, "at least one value"),
    ],
)
def test_values_that_no_sample_can_have_are_told_before_any_work(pool, changed, told):
    asked = {"length_groups": [1], "clusters": [2], "ratios": [0.1], "samplings": ["ppl"], **changed}
    with pytest.raises(UserError, match=told):
        sweep(pool, KoQualityConfig(), **asked)


def test_a_pool_without_vectors_perplexities_or_sources_can_be_swept():
    pool = pool_of([{"id": str(n), "text": "글" * n} for n in range(6)])
    (row,) = sweep(
        pool, KoQualityConfig(), length_groups=[2], clusters=[2], ratios=[0.5], samplings=["ppl"]
    ).to_pylist()
    assert row["selected"] == 3 and row["reason"] is None
    assert row["coverage_mean"] is None and row["perplexity_ks"] is None and row["source_distance"] is None
