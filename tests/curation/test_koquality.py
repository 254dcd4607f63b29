"""`method: balanced`: the sample is of the asked size, reaches every cluster, does not repeat itself, takes the best,
and depends on nothing but the rows and the seed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.grouping import NO_CLUSTER, clusters, length_groups
from lingo_hitl.curation.koquality import cells_of, select
from lingo_hitl.curation.quotas import cell_quotas, quotas
from tests.curation.pools import ids, pool_of

TEXTS = ["별", "별은 왜 빛날까?", "긴 글 " * 20, "  빈칸  ", "hello", "글", "나", "다라", "마바사", "아" * 9, "자" * 30]
VECTORS = [None, [0.0, 1.0], [1.0, 0.0], [1.0, 0.01], [0.0, 0.0], [float("nan"), 0.0]]

rows_of_any_kind = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.sampled_from(TEXTS),
            "vector": st.sampled_from(VECTORS),
            "perplexity": st.none() | st.sampled_from([1.0, 2.5, 2.5, 7.0, 90.0, math.inf]),
            "quality": st.none() | st.sampled_from([1.0, 3.5, 5.0]),
            "duplicate": st.integers(0, 12),
        }
    ),
    max_size=30,
).map(lambda rows: [{**row, "id": f"id{n:02}"} for n, row in enumerate(rows)])
configs = st.builds(
    KoQualityConfig,
    length_groups=st.integers(1, 6),
    clusters=st.integers(1, 5),
    ratio=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9, 1.0]),
    sampling=st.sampled_from(["ppl", "ppl_h", "rand"]),
    seed=st.integers(0, 3),
    keep_perplexity=st.sampled_from([(0.0, 1.0), (0.1, 0.9), (0.5, 1.0)]),
    mini_batch_above=st.sampled_from([1, 50_000]),
)


@settings(deadline=None, max_examples=50)
@given(rows_of_any_kind, configs, st.randoms())
def test_a_sample_is_what_was_asked_for(rows, config, random):
    pool = pool_of(rows)
    found = select(pool, config)
    reasons = np.array(found.reasons.to_pylist(), dtype=object)
    assert (reasons == "selected").tolist() == found.selected.tolist()

    # Perplexities outside the kept quantiles are never taken, all others may be: the size is exact.
    cut = outside(rows, config.keep_perplexity)
    assert not (found.selected & cut).any()
    assert found.selected.sum() == min(round(config.ratio * len(rows)), (~cut).sum())
    if found.selected.sum() < round(config.ratio * len(rows)):
        assert found.report["note"].startswith(f"only {found.selected.sum()} rows lie inside keep_perplexity")

    # No two rows that repeat each other, as long as one of others is left.
    classes = repeats(rows)
    taken = [classes[n] for n in np.flatnonzero(found.selected)]
    left = {classes[n] for n in np.flatnonzero(~cut)}
    assert len(set(taken)) == min(len(left), len(taken))

    # Each of the clusters that have a row of their own gives one, as long as the number allows.
    best = {}
    for n in sorted(np.flatnonzero(~cut), key=lambda n: order_of(rows, n)):
        best.setdefault(classes[n], n)
    cells = list(zip(found.groups.tolist(), found.clusters.tolist(), strict=True))
    own = {cells[n] for n in best.values()}
    reached = {cells[n] for n in np.flatnonzero(found.selected)}
    assert len(own & reached) == min(len(own), len(taken))
    if len(taken) <= len(best):
        assert set(np.flatnonzero(found.selected)) <= set(best.values()), "only those that stand for the others"

    without = [not (row["vector"] and np.isfinite(row["vector"]).all()) for row in rows]
    assert (found.clusters == NO_CLUSTER).tolist() == without

    shuffled = list(rows)
    random.shuffle(shuffled)
    other = pool_of(shuffled)
    again = select(other, config)
    assert set(ids(other, again.selected)) == set(ids(pool, found.selected))
    assert ids(other, again.sample_order) == ids(pool, found.sample_order)
    assert ids(other, again.order) == ids(pool, found.order)


def outside(rows, quantiles):
    perplexity = np.array([math.nan if row["perplexity"] is None else row["perplexity"] for row in rows], dtype=float)
    perplexity = np.minimum(perplexity, np.finfo(float).max)
    known = perplexity[~np.isnan(perplexity)]
    if not len(known):
        return np.zeros(len(rows), dtype=bool)
    low, high = np.quantile(known, quantiles)
    return (perplexity < low) | (perplexity > high)


def repeats(rows):
    """Which rows share a text or a duplicate group, at first hand or through others: a number for each."""
    numbers = list(range(len(rows)))
    for name in ("text", "duplicate") * len(rows):
        lowest = {}
        for n, row in enumerate(rows):
            lowest[row[name]] = min(numbers[n], lowest.get(row[name], numbers[n]))
        merged = [lowest[row[name]] for row in rows]
        if merged == numbers:
            continue
        numbers = merged
    return numbers


def order_of(rows, n):
    """What decides between two rows: quality, perplexity, length, id."""
    known = [row["quality"] for row in rows if row["quality"] is not None]
    quality = rows[n]["quality"] if rows[n]["quality"] is not None else math.fsum(known) / max(len(known), 1)
    ppl = rows[n]["perplexity"]
    return -quality, ppl is None, ppl or 0, len(rows[n]["text"].strip()), rows[n]["id"]


@settings(deadline=None, max_examples=40)
@given(rows_of_any_kind, configs, st.booleans())
def test_a_cluster_gives_the_best_of_each_stratum(rows, config, rated):
    # Nothing repeats and nothing is cut, so the rows of a cluster are known.
    rows = [{**row, "text": row["text"] + f" {n}", "duplicate": n} for n, row in enumerate(rows)]
    rows = rows if rated else [{**row, "quality": None} for row in rows]
    config = config.model_copy(update={"keep_perplexity": (0.0, 1.0)})
    found = select(pool_of(rows), config)
    for cell in set(zip(found.groups.tolist(), found.clusters.tolist(), strict=True)):
        inside = np.flatnonzero((found.groups == cell[0]) & (found.clusters == cell[1])).tolist()
        taken = {n for n in inside if found.selected[n]}
        if config.sampling == "ppl":
            line = sorted(inside, key=lambda n: order_of(rows, n)[1:])
            edges = [n * len(line) // max(len(taken), 1) for n in range(len(taken) + 1)]
            strata = [line[a:b] for a, b in pairwise(edges)]
            best = [[n for n in s if order_of(rows, n)[0] == min(order_of(rows, m)[0] for m in s)] for s in strata]
            assert taken == {stratum[(len(stratum) - 1) // 2] for stratum in best if stratum}
        elif config.sampling == "ppl_h":

            def falling(n):
                quality, _, ppl, *rest = order_of(rows, n)
                known = rows[n]["perplexity"] is not None and math.isfinite(ppl)
                return (quality, not known, -ppl if known else rows[n]["perplexity"] is None, *rest)

            assert taken == set(sorted(inside, key=falling)[: len(taken)])


def simple(n, text, perplexity=None, **more):
    return {"id": f"id{n:02}", "text": text, "perplexity": perplexity, "vector": [1.0, 0.0], **more}


ONE_CELL = {"length_groups": 1, "clusters": 1}


def sampled(rows, ratio, **config):
    pool = pool_of(rows)
    found = select(pool, KoQualityConfig(**{**ONE_CELL, "ratio": ratio, **config}))
    return [int(name[2:]) for name in ids(pool, found.sample_order)], found


def test_along_the_perplexity_order():
    rows = [simple(n, f"글 {n}", ppl) for n, ppl in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, None])]
    rows[4]["text"] = rows[3]["text"]
    assert sampled(rows[:4] + rows[5:], 0.4)[0] == [0, 3], "the middle ones of 0, 1 and of 2, 3, 5"
    assert sampled(rows, 1 / 3, sampling="ppl_h")[0] == [2, 3], "4 repeats the text of 3, which stands for both"
    taken, found = sampled(rows, 5 / 6, sampling="ppl_h")
    assert taken == [0, 1, 2, 3, 5], "a repeated text comes after all others"
    assert found.reasons[4].as_py() == "near-duplicate of a row that stands for it"
    assert found.report == {
        "rows": 6,
        "asked for": 5,
        "selected": 5,
        "near-duplicates": 1,
        "near-duplicates taken for want of others": 0,
    }
    assert sampled(rows, 1)[1].report["near-duplicates taken for want of others"] == 1


@pytest.mark.parametrize("rows", range(1, 13))
def test_steps_along_a_cluster_are_as_even_as_can_be(rows):
    corpus = [simple(n, f"글 {n}", float(n)) for n in range(rows)]
    for quota in range(1, rows + 1):
        edges = [step * rows // quota for step in range(quota + 1)]
        assert sampled(corpus, quota / rows)[0] == [(a + b - 1) // 2 for a, b in pairwise(edges)]


def test_the_best_of_near_duplicates_stands_for_them():
    rows = [simple(n, f"글 {n}", float(n), duplicate=n // 3, quality=[2, 5, None][n % 3]) for n in range(6)]
    assert sampled(rows, 1 / 3)[0] == [1, 4]
    assert sampled(rows, 0.5)[0] == [1, 2, 4], "a row without quality is an average one, better than 0 and 3"


def test_a_cluster_of_near_duplicates_is_reached_before_others_repeat_themselves():
    rows = [simple(n, f"글 {n}", float(n), vector=[1.0, 0.0], duplicate=n // 2) for n in range(4)]
    rows += [simple(4, "글 4", 9.0, vector=[0.0, 1.0], duplicate=0)]
    assert sampled(rows, 0.6, clusters=2)[0] in ([0, 2, 4], [4, 0, 2])


def test_perplexities_outside_are_cut_and_said():
    rows = [simple(n, f"글 {n}", float(n)) for n in range(21)]
    taken, found = sampled(rows, 1, keep_perplexity=(0.1, 0.95))
    assert taken == list(range(2, 20))
    assert [found.reasons[n].as_py() for n in (0, 20)] == [
        "perplexity below the quantiles that are kept",
        "perplexity above the quantiles that are kept",
    ]
    assert found.report["outside the perplexities that are kept"] == 3
    assert found.report["note"] == "only 18 rows lie inside keep_perplexity: all of them are taken"


def test_another_ratio_uses_the_same_clusters():
    rows = [simple(n, "글" * n, float(n), vector=[float(n % 3), 1.0]) for n in range(1, 41)]
    config = KoQualityConfig(length_groups=2, clusters=3, ratio=0.5)
    again = select(pool_of(rows), config).at(0.25, sampling="ppl_h")
    direct = select(pool_of(rows), config.model_copy(update={"ratio": 0.25, "sampling": "ppl_h"}))
    assert again.selected.tolist() == direct.selected.tolist()
    assert again.selected.sum() == 10
    for ratio in (0, 1.5):
        with pytest.raises(ValidationError, match="ratio"):
            again.at(ratio)


@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.6, 1])
@pytest.mark.parametrize(
    "rows",
    [
        [],
        [simple(0, "하나", 3.0)],
        [simple(n, "같음", 3.0) for n in range(9)],
        [simple(n, f"글 {n}") for n in range(9)],
        [simple(n, f"글 {n}", 3.0, vector=None) for n in range(9)],
    ],
    ids=["none", "one row", "equal rows", "no perplexity", "no vectors"],
)
def test_odd_corpora(rows, ratio):
    taken, found = sampled(rows, ratio, length_groups=5, clusters=100)
    assert len(taken) == round(ratio * len(rows))
    nothing = f"{ratio:g} x {len(rows)} rows rounds to 0: none is taken"
    assert found.report.get("note") == (nothing if rows and not taken else None)


def test_only_the_direction_of_a_vector_counts():
    chance = np.random.default_rng(0)
    rows = [
        simple(
            n, f"글 {n:02}", 1.0, vector=chance.uniform(0.01, 100) * np.eye(3)[n % 3] + 0.001 * chance.normal(size=3)
        )
        for n in range(30)
    ]
    cells = cells_of(pool_of(rows), KoQualityConfig(length_groups=1, clusters=3))
    assert len(set(zip(cells.clusters.tolist(), [n % 3 for n in range(30)], strict=True))) == 3


def test_a_large_group_is_clustered_in_batches_from_disk(tmp_path):
    chance = np.random.default_rng(0)
    topic = chance.integers(0, 5, 10_000)
    vectors = (np.eye(8)[topic] + 0.05 * chance.normal(size=(10_000, 8))).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    pool = pool_of([simple(n, f"{n:05}", 1.0) for n in range(10_000)])
    pool = replace(pool, vectors=np.load(tmp_path / "vectors.npy", mmap_mode="r"), vector_of=np.arange(10_000))
    config = KoQualityConfig(length_groups=1, clusters=5, mini_batch_above=9_999)
    found = cells_of(pool, config)
    assert len(set(zip(found.clusters.tolist(), topic.tolist(), strict=True))) == 5
    again = cells_of(replace(pool, vectors=vectors.copy()), config)
    assert again.clusters.tolist() == found.clusters.tolist()
    exact = cells_of(pool, config.model_copy(update={"mini_batch_above": 10_000}))
    assert len(set(zip(exact.clusters.tolist(), topic.tolist(), strict=True))) == 5
    assert (np.load(tmp_path / "vectors.npy") == vectors).all()


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12).flatmap(
        lambda s: st.tuples(st.just(s), st.integers(0, sum(s)))
    )
)
def test_quotas_are_exact_fair_and_within_reach(case):
    sizes, total = case
    dealt = quotas(sizes, total)
    assert dealt.sum() == total
    assert all(quota <= size for quota, size in zip(dealt, sizes, strict=True))
    assert (dealt > 0).sum() == min(len(sizes), total)
    for one, size_one in zip(dealt, sizes, strict=True):
        for other, size_other in zip(dealt, sizes, strict=True):
            assert one >= other or size_one <= size_other, "a larger cluster never gives fewer rows"


def test_a_quota_too_small_for_every_cluster_reaches_every_length_group():
    # Group 0 holds the four largest clusters; still each group gives its half.
    dealt = cell_quotas([0, 0, 0, 0, 1, 1, 1, 1, 1, 1], [25, 25, 25, 25, 17, 17, 17, 17, 16, 16], 4)
    assert dealt.tolist() == [1, 1, 0, 0, 1, 1, 0, 0, 0, 0]


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 8))
def test_length_groups_are_even_and_in_order(lengths, n):
    groups = length_groups(lengths, n)
    counts = np.bincount(groups, minlength=1)
    assert len(lengths) == 0 or counts.max() - counts.min() <= 1
    assert len(set(groups.tolist())) == min(n, len(lengths))
    ordered = sorted(zip(groups.tolist(), lengths, strict=True))
    assert [length for _, length in ordered] == sorted(lengths)


def test_fewer_distinct_vectors_than_clusters():
    vectors = np.array([[0, 0], [0, 0], [5, 5]], dtype=np.float32)
    first, second, third = clusters(vectors, 10, 42)
    assert first == second != third
