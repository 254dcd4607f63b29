"""From vectors to places: UMAP to few dimensions, the same every time.

UMAP (McInnes, Healy & Melville, 2018) keeps near rows near. It runs twice, to 2 dimensions for the
picture and to 5 for the clusters, because what must be torn apart to fit on a page may well be one
cluster. Both runs share one exact table of nearest neighbours, which is most of the work.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEW = 15  # rows below which UMAP has too few neighbours to say anything

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Projection:
    """The same n rows in two spaces."""

    plane: Floats  # [n, 2] for the picture
    space: Floats  # [n, up to 5] for the clusters


def project(vectors: Floats, *, neighbours: int, seed: int) -> Projection:
    """Place unit-length `vectors` [n, d] in 2 and in 5 dimensions.

    Identical vectors are placed once and share their place. Fewer than 15 distinct ones are laid out
    by principal components instead. The same vectors in the same order give the same bytes.
    """
    distinct, where = np.unique(np.round(vectors, 5), axis=0, return_inverse=True)
    where = where.reshape(-1)
    if len(distinct) < FEW:
        components = _principal_components(distinct, 2)
        return Projection(components[where], _principal_components(distinct, 5)[where])
    near = _nearest(distinct, min(neighbours, len(distinct) - 1))
    plane = _umap(distinct, near, dimensions=2, min_dist=0.1, seed=seed)
    space = _umap(distinct, near, dimensions=min(5, len(distinct) - 2), min_dist=0.0, seed=seed)
    return Projection(plane[where], space[where])


def _nearest(vectors: Floats, neighbours: int) -> tuple[NDArray[np.int64], Floats]:
    """Each row's nearest rows, itself first, by cosine: indices and distances [n, neighbours]."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=neighbours, metric="cosine", algorithm="brute").fit(vectors)
    distances, indices = index.kneighbors(vectors)
    return indices, distances.astype(np.float32)


def _umap(
    vectors: Floats, near: tuple[NDArray[np.int64], Floats], *, dimensions: int, min_dist: float, seed: int
) -> Floats:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import umap

        model = umap.UMAP(
            n_components=dimensions,
            n_neighbors=near[0].shape[1],
            min_dist=min_dist,
            metric="cosine",
            init="spectral" if len(vectors) > 50 else "random",
            precomputed_knn=(*near, None),
            force_approximation_algorithm=True,  # below 4,096 rows UMAP would ignore the table
            random_state=seed,
            n_jobs=1,  # what a fixed seed means to UMAP
        )
        placed = np.asarray(model.fit_transform(vectors), dtype=np.float32)
    # UMAP leaves a row that is near to nothing without a place.
    return np.where(np.isfinite(placed), placed, np.nanmean(placed, axis=0)).astype(np.float32)


def _principal_components(vectors: Floats, dimensions: int) -> Floats:
    """Coordinates [n, dimensions] along the directions of most variance; zeros where there are fewer."""
    centred = (vectors - vectors.mean(axis=0)).astype(np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    # A direction's sign is free: its largest entry is made positive.
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    places = np.zeros((len(vectors), dimensions), dtype=np.float32)
    found = (centred @ directions.T)[:, :dimensions]
    places[:, : found.shape[1]] = found
    return places
