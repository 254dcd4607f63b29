"""Measures of a sample, against what is worked out by hand or the slow way."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.coverage import Yardstick
from lingo_hitl.curation.koquality import cells_of, choose, select
from lingo_hitl.curation.measures import measure
from tests.curation.pools import pool_of

COMPASS = {"east": [1, 0], "north": [0, 1], "west": [-1, 0], "far east": [9, 0], "north east": [1, 1]}


def rows_at(*places, **more):
    return [
        {"id": f"id{n:03}", "text": f"글 {n}", "vector": COMPASS.get(place), **more} for n, place in enumerate(places)
    ]


def test_the_distance_to_the_nearest_sampled_row_is_that_of_the_angle():
    pool = pool_of(rows_at("east", "far east", "north", "north east", "west", None))
    found = Yardstick(pool, seed=1).coverage(np.array([0, 5]))
    # cosine distances of 0, 0, 90, 45 and 180 degrees; the row without a vector is not counted
    angles = [0, 0, 1, 1 - np.sqrt(0.5), 2]
    assert found.mean == pytest.approx(np.mean(angles), abs=1e-5)
    assert found.p50 == pytest.approx(1 - np.sqrt(0.5), abs=1e-5)
    assert found.p95 == pytest.approx(np.quantile(angles, 0.95), abs=1e-5)
    assert found.quantiles[0] == 0 and found.quantiles[100] == 2 and len(found.quantiles) == 101


vectors = st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any)
pools = st.lists(
    st.fixed_dictionaries(
        {
            "vector": st.none() | vectors,
            "text": st.sampled_from("가나다라마바사"),
            "perplexity": st.none() | st.floats(1, 1e6),
            "duplicate": st.integers(-1, 4),
        }
    ),
    min_size=1,
    max_size=20,
).map(lambda rows: [{**row, "id": f"{n:03}"} for n, row in enumerate(rows)])


def similarity(a, b):
    a, b = np.array(a, dtype=float), np.array(b, dtype=float)
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


@settings(deadline=None, max_examples=30)
@given(pools, st.sampled_from([0.1, 0.3, 1.0]), st.integers(1, 5))
def test_measures_are_those_of_the_slow_way(rows, ratio, block):
    pool = pool_of(rows)
    selection = select(pool, KoQualityConfig(length_groups=2, clusters=2, ratio=ratio))
    found = measure(pool, selection, None, seed=3, yardstick=Yardstick(pool, 3, block=block))
    chosen = [row for row, taken in zip(rows, selection.selected, strict=True) if taken]
    placed = [row for row in chosen if row["vector"]]

    nearest = [
        max(similarity(row["vector"], other["vector"]) for other in placed) for row in rows if row["vector"] and placed
    ]
    assert (found.coverage is None) == (not placed)
    if placed:
        assert found.coverage.mean == pytest.approx(np.mean([1 - one for one in nearest]), abs=1e-5)

    def share(same):
        return np.mean([any(same(a, b) for b in chosen if b is not a) for a in chosen]) if chosen else 0

    assert found.repeats.identical == pytest.approx(share(lambda a, b: a["text"] == b["text"]), abs=1e-6)
    near = share(lambda a, b: a["duplicate"] == b["duplicate"] >= 0)
    assert found.repeats.near == pytest.approx(near, abs=1e-6)
    if placed:
        alike = share(lambda a, b: bool(a["vector"] and b["vector"]) and similarity(a["vector"], b["vector"]) > 0.99)
        assert found.repeats.alike == pytest.approx(alike, abs=1e-6)

    assert found.selected == len(chosen) and found.rows == len(rows)
    assert sum(found.reasons.values()) == len(rows) and found.reasons.get("selected", 0) == len(chosen)
    assert found.no_perplexity == sum(row["perplexity"] is None for row in rows)
    assert found.no_vector == sum(row["vector"] is None for row in rows)
    json.dumps(found.as_json(), allow_nan=False)


@settings(deadline=None, max_examples=15)
@given(pools, st.randoms())
def test_the_order_of_the_rows_does_not_matter(rows, random):
    shuffled = random.sample(rows, len(rows))
    config = KoQualityConfig(length_groups=2, clusters=2, ratio=0.3)
    first, second = (
        measure(
            pool,
            select(pool, config),
            pa.array([row["text"] for row in order]),
            seed=5,
            yardstick=Yardstick(pool, 5, rows=8),
        )
        for pool, order in ((pool_of(rows), rows), (pool_of(shuffled), shuffled))
    )
    assert first == second


def test_a_random_sample_has_the_size_of_the_sample_and_its_own_draw():
    chance = np.random.default_rng(0)
    pool = pool_of([{"id": f"{n:04}", "text": str(n), "vector": chance.normal(size=8)} for n in range(400)])
    config = KoQualityConfig(length_groups=2, clusters=10, ratio=0.1)
    found = measure(pool, select(pool, config), None, seed=7)
    again = measure(pool, select(pool, config), None, seed=7)
    assert found.random_coverage == again.random_coverage
    assert found.random_coverage != measure(pool, select(pool, config), None, seed=8).random_coverage
    # 40 of 400 rows are their own nearest sampled row, whichever were drawn.
    for distances in (found.coverage, found.random_coverage):
        assert distances.quantiles[9] == pytest.approx(0, abs=1e-5) and distances.quantiles[11] > 0.01
    # A sample of everything leaves nothing uncovered, and is what chance would take, too.
    whole = measure(pool, select(pool, config.model_copy(update={"ratio": 1.0})), None, seed=7)
    assert whole.coverage.quantiles[100] == pytest.approx(0, abs=1e-5)
    assert whole.random_coverage == whole.coverage


def test_a_large_corpus_is_looked_at_in_part():
    chance = np.random.default_rng(0)
    pool = pool_of([{"id": f"{n:05}", "text": "글", "vector": chance.normal(size=4)} for n in range(21_000)])
    yardstick = Yardstick(pool, seed=1)
    assert yardstick.looked_at(10) == 20_000
    assert yardstick.looked_at(20_000) == 10_000
    assert yardstick.looked_at(10**7) == 2_000
    rows = np.arange(0, 21_000, 2_100)
    part, every = yardstick.coverage(rows), [1 - similarity_to(pool, rows)]
    assert part.mean == pytest.approx(np.mean(every), rel=0.02)


def similarity_to(pool, rows):
    unit = pool.vectors / np.linalg.norm(pool.vectors, axis=1, keepdims=True)
    return (unit @ unit[rows].T).max(axis=1)


def test_lengths_perplexities_sources_and_clusters_of_corpus_and_sample():
    rows = [
        {"id": f"{n:02}", "text": "글" * (n + 1), "perplexity": float(n) if n else None, "vector": [1, n % 2]}
        for n in range(20)
    ]
    pool = pool_of(rows)
    config = KoQualityConfig(length_groups=2, clusters=2, ratio=0.2, sampling="ppl_h")
    selection = choose(pool, cells_of(pool, config), config)
    sources = pa.array(["가"] * 15 + ["나"] * 4 + [None])
    found = measure(pool, selection, sources, seed=1)
    assert selection.selected.sum() == 4
    # The highest perplexity of each of the four clusters: texts of 10, 9, 20, 19 characters.
    assert (found.cells, found.cells_reached) == (4, 4)
    assert (found.length.corpus[0], found.length.corpus[-1]) == (1, 20)
    assert (found.length.sample[0], found.length.sample[4], found.length.sample[-1]) == (9, 14.5, 20)
    assert found.length.ks == pytest.approx(0.4)  # below 9 characters lie 8 of 20 rows, and none of the sample
    assert (found.perplexity.corpus[0], found.perplexity.sample[-1]) == (1, 19)
    counts = {source.source: (source.corpus, source.sample) for source in found.sources}
    assert counts == {"가": (15, 2), "나": (4, 1), "(no source)": (1, 1)}
    assert found.source_distance == pytest.approx((0.25 + 0.05 + 0.2) / 2)
    assert found.as_json()["length"]["sample"]["50%"] == 14.5


def test_the_rows_that_exact_loses_are_counted_with_their_reason():
    rows = [{"id": f"{n}", "text": "글" * n, "perplexity": n or None, "vector": [1, n]} for n in range(8)]
    pool = pool_of(rows)
    found = measure(pool, select(pool, KoQualityConfig(method="exact", length_groups=1, clusters=2)), None, seed=1)
    assert (found.selected, found.cells, found.cells_reached) == (7, 2, 2)
    assert [rows for reason, rows in found.reasons.items() if "original drops it" in reason] == [1]


def test_rows_that_share_a_vector_say_the_same():
    pool = replace(pool_of(rows_at("east", "north", None, None)), vector_of=np.array([0, 1, 1, -1]))
    yardstick = Yardstick(pool, seed=1)
    assert yardstick.repeats(np.array([0, 1, 2, 3])).alike == 0.5
    assert yardstick.repeats(np.array([0, 1, 3])).alike == 0
    assert yardstick.coverage(np.array([2])).p50 == 0


@pytest.mark.parametrize("count", [0, 1, 5])
def test_nothing_to_measure_is_told_as_such(count):
    pool = pool_of([{"id": str(n), "text": "글"} for n in range(count)])
    found = measure(pool, select(pool, KoQualityConfig(ratio=0.2)), None, seed=1)
    assert found.coverage is None and found.random_coverage is None and found.repeats.alike is None
    assert found.perplexity.ks is None and found.perplexity.corpus == ()
    assert found.sources == () and found.source_distance is None
    json.dumps(found.as_json(), allow_nan=False)


def test_vectors_on_disk_are_measured_as_those_in_memory(tmp_path):
    chance = np.random.default_rng(0)
    pool = pool_of([{"id": f"{n:04}", "text": str(n % 90), "vector": chance.normal(size=8)} for n in range(300)])
    np.save(tmp_path / "vectors.npy", pool.vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    config = KoQualityConfig(length_groups=2, clusters=5, ratio=0.2)
    on_disk = type(pool)(pool.ids, pool.texts, pool.lengths, pool.perplexity, mapped, pool.vector_of)
    found = [measure(one, select(one, config), None, seed=1) for one in (pool, on_disk)]
    assert found[0] == found[1]
