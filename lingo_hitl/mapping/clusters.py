"""Which rows belong together: HDBSCAN, and k-means where HDBSCAN finds no structure.

HDBSCAN (Campello, Moulavi & Sander, 2013) finds dense regions of any number and leaves the rest out.
Labelers filter by cluster, so a map without clusters is of no use to them: where HDBSCAN finds fewer
than two, or leaves out more than 60 % of the rows, k-means cuts the map into even pieces instead.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

NOISE = -1
MOST_SAMPLES = 5  # neighbours that make a row dense; more of them leave more rows without a cluster
MOST_NOISE = 0.6  # share of rows in no cluster above which HDBSCAN has failed
MOST_PIECES = 12  # of the k-means fallback

Labels = NDArray[np.int32]


def find_clusters(places: NDArray[np.float32], *, min_size: int, seed: int) -> tuple[Labels, str]:
    """The cluster of each of `places` [n, d], and the method that found them: hdbscan, kmeans or one.

    Labels are int32 [n]: 0 for the largest cluster, 1 for the next, -1 for rows in none. Rows at the
    same place are in the same cluster. Fewer than twice `min_size` rows, or rows that all share one
    place, are one cluster. The smallest cluster grows with the root of the number of rows, from
    `min_size` at 300 rows to 35 at 5,000, so that a labeler's list of clusters stays readable.
    """
    distinct = len(np.unique(places, axis=0))
    min_size = max(min_size, round(len(places) ** 0.5 / 2))
    if len(places) < 2 * min_size or distinct < 2:
        return np.zeros(len(places), dtype=np.int32), "one"
    labels = _hdbscan(places, min_size)
    if labels.max() >= 1 and (labels == NOISE).mean() <= MOST_NOISE:
        return _by_size(labels), "hdbscan"
    return _by_size(_kmeans(places, min_size, distinct, seed)), "kmeans"


def _hdbscan(places: NDArray[np.float32], min_size: int) -> Labels:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import hdbscan

        model = hdbscan.HDBSCAN(
            min_cluster_size=min_size,
            min_samples=min(MOST_SAMPLES, max(1, min_size // 3)),
            core_dist_n_jobs=1,
            approx_min_span_tree=False,  # the approximate one is not the same every time
        )
        return np.asarray(model.fit_predict(places.astype(np.float64)), dtype=np.int32)


def _kmeans(places: NDArray[np.float32], min_size: int, distinct: int, seed: int) -> Labels:
    from sklearn.cluster import KMeans

    pieces = min(MOST_PIECES, max(2, round((len(places) / 2) ** 0.5)), len(places) // min_size, distinct)
    labels = KMeans(n_clusters=pieces, n_init=10, random_state=seed).fit_predict(places.astype(np.float64))
    return np.asarray(labels, dtype=np.int32)


def _by_size(labels: Labels) -> Labels:
    """The same clusters numbered from the largest; equal ones by their first row."""
    found = [c for c in dict.fromkeys(labels.tolist()) if c != NOISE]
    order = sorted(found, key=lambda c: -int((labels == c).sum()))
    number = {c: i for i, c in enumerate(order)} | {NOISE: NOISE}
    return np.array([number[c] for c in labels.tolist()], dtype=np.int32)
