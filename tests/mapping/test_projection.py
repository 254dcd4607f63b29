from __future__ import annotations

import numpy as np
import pytest

from lingo_hitl.mapping.projection import project


def unit_vectors(count: int, *, seed: int = 0, dim: int = 32) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.mark.parametrize("count", [1, 2, 3, 14, 15, 16, 40])
def test_any_number_of_rows_has_places(count):
    found = project(unit_vectors(count), neighbours=15, seed=1)
    assert found.plane.shape == (count, 2)
    assert found.space.shape[0] == count
    assert np.isfinite(found.plane).all()
    assert np.isfinite(found.space).all()
    assert found.plane.dtype == np.float32


def test_the_same_vectors_give_the_same_bytes():
    vectors = unit_vectors(60)
    first, second = (project(vectors, neighbours=15, seed=7) for _ in range(2))
    assert first.plane.tobytes() == second.plane.tobytes()
    assert first.space.tobytes() == second.space.tobytes()


def test_identical_vectors_share_their_place():
    vectors = np.repeat(unit_vectors(20), 3, axis=0)
    found = project(vectors, neighbours=15, seed=1)
    for start in range(0, 60, 3):
        assert (found.plane[start : start + 3] == found.plane[start]).all()


def test_all_rows_alike():
    found = project(np.repeat(unit_vectors(1), 30, axis=0), neighbours=15, seed=1)
    assert (found.plane == found.plane[0]).all()
