"""The groups that KoQuality samples from: rows of similar length, and within those, rows of similar meaning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NO_CLUSTER = -1
"""The cluster of the rows that have no vector."""


def length_groups(lengths: Sequence[int], n: int) -> Ints:
    """Groups of (nearly) equal size by the rank of the length: int [rows], 0 for the shortest.

    Ties cannot make the groups uneven: rows of one length may fall into two groups, in the order given.
    Fewer rows than `n` make as many groups as there are rows.
    """
    rows = len(lengths)
    rank = np.empty(rows, dtype=np.int64)
    rank[np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")] = np.arange(rows)
    return rank * min(n, rows) // max(rows, 1)


def quantile_length_groups(lengths: Sequence[int], n: int) -> Ints:
    """The original KoQuality's groups, between the i/n quantiles of the length: int [rows].

    Rows of one length always share a group, so groups are uneven and some may be empty
    (nayohan/KoQuality, generate_sentence_embedding_clustering.py; quantiles interpolate linearly).
    """
    values = np.asarray(lengths, dtype=np.float64)
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    edges = np.quantile(values, np.arange(n) / n)
    return np.searchsorted(edges, values, side="right").astype(np.int64) - 1


def clusters(vectors: NDArray[np.float32], k: int, seed: int) -> Ints:
    """k-means clusters of vectors [rows, d], as int [rows] from 0 without gaps; fewer than `k` where rows are few.

    Parameters are those of the original: k-means++ with ten starts, 300 iterations, tolerance 1e-4,
    Euclidean. Equal input in equal order gives equal clusters.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if not len(vectors):
        return np.zeros(0, dtype=np.int64)
    distinct = len(np.unique(vectors, axis=0))
    if min(k, distinct) == 1:
        return np.zeros(len(vectors), dtype=np.int64)
    model = KMeans(n_clusters=min(k, distinct), init="k-means++", n_init=10, max_iter=300, tol=1e-4, random_state=seed)
    # Threads add up their parts of a centre in any order, and the last bit of a sum can move a row.
    with threadpool_limits(limits=1):
        labels = model.fit_predict(vectors)
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def clusters_in_groups(
    groups: Ints, vectors: NDArray[np.float32], has_vector: NDArray[np.bool_], k: int, seed: int
) -> Ints:
    """Clusters of each group by itself, numbered from 0 in each; rows without a vector are in `NO_CLUSTER`.

    Args:
        vectors: [rows, d]; rows of which `has_vector` is False are not looked at.
    """
    found = np.full(len(groups), NO_CLUSTER, dtype=np.int64)
    for group in np.unique(groups):
        members = np.flatnonzero((groups == group) & has_vector)
        found[members] = clusters(vectors[members], k, seed)
    return found


def as_matrix(vectors: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Vectors, some of which may be None, as float32 [rows, d] and a mask of the rows that have one.

    A vector that is not of the commonest length, or is not finite, counts as none.
    """
    lengths = np.array([0 if vector is None else len(vector) for vector in vectors], dtype=np.int64)
    width = int(np.bincount(lengths[lengths > 0]).argmax()) if (lengths > 0).any() else 1
    matrix = np.zeros((len(vectors), width), dtype=np.float32)
    usable = lengths == width
    for row in np.flatnonzero(usable).tolist():
        matrix[row] = vectors[row]
    usable &= np.isfinite(matrix).all(axis=1)
    return matrix, usable
