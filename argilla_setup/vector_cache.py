"""The vectors of a dataset as one matrix in memory, for exact search."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

MOST_MATRICES = 4


@dataclass(frozen=True)
class VectorMatrix:
    """Unit vectors float32 [records, dimensions] and whose they are."""

    generation: int
    record_ids: tuple[str, ...]
    matrix: np.ndarray

    def nearest(
        self, value: np.ndarray, *, k: int, among: Collection[str] | None, without: str | None
    ) -> list[tuple[str, float]]:
        """The k record ids most similar to a unit vector with their scores (1 + cosine) / 2, best first."""
        if not len(self.record_ids) or k <= 0:
            return []
        scores = (1.0 + self.matrix @ np.asarray(value, dtype=np.float32)) / 2.0
        allowed = np.ones(len(scores), dtype=bool)
        if among is not None:
            allowed = np.fromiter((record_id in among for record_id in self.record_ids), dtype=bool, count=len(scores))
        if without is not None and without in self.record_ids:
            allowed[self.record_ids.index(without)] = False
        rows = np.flatnonzero(allowed)
        if len(rows) > k:
            rows = rows[np.argpartition(-scores[rows], k - 1)[:k]]
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        return [(self.record_ids[row], float(np.clip(scores[row], 0.0, 1.0))) for row in rows]


class VectorCache:
    """The matrices that were used last, reread when the side index says that they changed."""

    def __init__(self) -> None:
        self._matrices: OrderedDict[str, VectorMatrix] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, connection: Connection, settings_id: str, dimensions: int) -> VectorMatrix:
        row = connection.execute(
            text("SELECT generation FROM side.generations WHERE settings_id = :id"), {"id": settings_id}
        ).first()
        generation = row[0] if row else 0
        with self._lock:
            known = self._matrices.get(settings_id)
            if known is None or known.generation != generation or known.matrix.shape[1] != dimensions:
                known = _load(connection, settings_id, dimensions, generation)
            self._matrices[settings_id] = known
            self._matrices.move_to_end(settings_id)
            while len(self._matrices) > MOST_MATRICES:
                self._matrices.popitem(last=False)
        return known


def _load(connection: Connection, settings_id: str, dimensions: int, generation: int) -> VectorMatrix:
    rows = connection.execute(
        text("SELECT record_id, value FROM side.vectors WHERE settings_id = :id AND length(value) = :size"),
        {"id": settings_id, "size": dimensions * 4},
    ).all()
    matrix = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32).reshape(len(rows), dimensions)
    return VectorMatrix(generation, tuple(row[0] for row in rows), matrix)
