from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.mapping.clusters import NOISE, find_clusters


def blobs(sizes: list[int], *, apart: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    places = [draw.normal(size=(size, 5)) + apart * np.eye(5)[i % 5] * (1 + i // 5) for i, size in enumerate(sizes)]
    return np.concatenate(places).astype(np.float32), np.repeat(np.arange(len(sizes)), sizes)


def test_groups_that_lie_apart_are_the_clusters_largest_first():
    places, truth = blobs([20, 60, 40])
    labels, method = find_clusters(places, min_size=8, seed=1)
    assert method == "hdbscan"
    assert [set(labels[truth == group]) - {NOISE} for group in (1, 2, 0)] == [{0}, {1}, {2}]


def test_one_blob_is_cut_into_pieces_so_that_labelers_can_filter():
    places, _ = blobs([200])
    labels, method = find_clusters(places, min_size=8, seed=1)
    assert method == "kmeans"
    assert labels.min() == 0
    assert 2 <= len(set(labels)) <= 12


@pytest.mark.parametrize("count", [1, 3, 15])
def test_few_rows_are_one_cluster(count):
    labels, method = find_clusters(blobs([count])[0], min_size=8, seed=1)
    assert method == "one"
    assert labels.tolist() == [0] * count


def test_rows_at_one_place_are_one_cluster():
    labels, _ = find_clusters(np.ones((50, 5), dtype=np.float32), min_size=8, seed=1)
    assert labels.tolist() == [0] * 50


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=6), apart=st.sampled_from([0.0, 3.0, 30.0]))
def test_there_is_always_a_cluster_and_numbers_follow_sizes(sizes, apart):
    places, _ = blobs(sizes, apart=apart)
    labels, _ = find_clusters(places, min_size=4, seed=1)
    assert labels.dtype == np.int32
    assert len(labels) == sum(sizes)
    counts = [int((labels == label).sum()) for label in range(labels.max() + 1)]
    assert counts
    assert counts == sorted(counts, reverse=True)
    assert min(counts) > 0
    again, _ = find_clusters(places, min_size=4, seed=1)
    assert again.tobytes() == labels.tobytes()
