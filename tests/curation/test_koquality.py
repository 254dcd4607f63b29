"""The sample is of the asked size, reaches every cluster, and depends on nothing but the rows and the seed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation.grouping import NO_CLUSTER, clusters, length_groups
from lingo_hitl.curation.koquality import koquality, sample
from lingo_hitl.curation.quotas import cell_quotas, quotas

TEXTS = ["별", "별은 왜 빛날까?", "긴 글 " * 20, "  빈칸  ", "hello"]
VECTORS = [None, [0.0, 1.0], [1.0, 0.0], [1.0, 0.01], [float("nan"), 0.0]]

row = st.tuples(
    st.sampled_from(TEXTS), st.sampled_from(VECTORS), st.none() | st.sampled_from([1.0, 2.5, 2.5, 90.0, float("nan")])
)
config = st.builds(
    KoQualityConfig,
    length_groups=st.integers(1, 6),
    clusters=st.integers(1, 5),
    ratio=st.sampled_from([0.01, 0.1, 0.25, 0.5, 0.9, 1.0]),
    sampling=st.sampled_from(["ppl", "ppl_h", "rand"]),
    seed=st.integers(0, 3),
)


def chosen(rows, config):
    texts, vectors, perplexities, ids = zip(*rows, strict=True) if rows else ((), (), (), ())
    return koquality(texts, vectors, perplexities, ids, config)


@settings(deadline=None, max_examples=60)
@given(st.lists(row, max_size=25), config, st.randoms())
def test_the_sample_has_the_asked_size_and_no_order(rows, config, random):
    rows = [(*row, f"id{n}") for n, row in enumerate(rows)]
    first = chosen(rows, config)
    assert first.selected.sum() == round(config.ratio * len(rows))
    assert [reason == "selected" for reason in first.reasons] == first.selected.tolist()

    shuffled = list(rows)
    random.shuffle(shuffled)
    second = chosen(shuffled, config)
    assert {r[3] for r, kept in zip(rows, first.selected, strict=True) if kept} == {
        r[3] for r, kept in zip(shuffled, second.selected, strict=True) if kept
    }

    cells = set(zip(first.groups.tolist(), first.clusters.tolist(), strict=True))
    reached = set(zip(first.groups[first.selected].tolist(), first.clusters[first.selected].tolist(), strict=True))
    assert len(reached) == min(len(cells), first.selected.sum())
    without = [not (vector and np.isfinite(vector).all()) for _, vector, _, _ in rows]
    assert (first.clusters == NO_CLUSTER).tolist() == without


def test_another_ratio_uses_the_same_clusters():
    rows = [("글" * n, [float(n % 3), 1.0], float(n), f"id{n:02}") for n in range(1, 41)]
    config = KoQualityConfig(length_groups=2, clusters=3, ratio=0.5)
    again = chosen(rows, config).at(0.25, sampling="ppl_h")
    direct = chosen(rows, config.model_copy(update={"ratio": 0.25, "sampling": "ppl_h"}))
    assert again.selected.tolist() == direct.selected.tolist()
    assert again.selected.sum() == 10


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


def test_along_the_perplexity_order():
    keys = [(1.0, 3, "a"), (2.0, 3, "b"), (3.0, 3, "c"), (4.0, 3, "d"), (5.0, 3, "e"), (float("inf"), 3, "f")]
    texts = ["1", "2", "3", "4", "4", "6"]

    def ids(sampling, quota):
        return [keys[i][2] for i in sample(keys, texts, quota, sampling, np.random.default_rng(0))]

    assert ids("ppl", 2) == ["a", "d"]
    assert ids("ppl_h", 2) == ["e", "c"], "d is the same text as e"
    assert ids("ppl_h", 6) == ["e", "c", "b", "a", "f", "d"], "a repeated text comes after all others"
