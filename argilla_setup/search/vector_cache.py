"""The vectors of a dataset in memory, for exact search."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Connection

MOST_MATRICES = 4
MOST_BLOCKS = 8
ROWS_AT_ONCE = 1000

_LAST = "SELECT position FROM side.vectors WHERE settings_id = :id ORDER BY position DESC LIMIT 1"
_REMOVALS = "SELECT coalesce(max(count), 0) FROM side.removals WHERE settings_id = :id"
_COUNT = "SELECT count(*) FROM side.vectors WHERE settings_id = :id AND position > :after AND length(value) = :size"
_NEW = """
    SELECT position, record_id, value FROM side.vectors
    WHERE settings_id = :id AND position > :after AND length(value) = :size ORDER BY position
"""


@dataclass(frozen=True)
class VectorMatrix:
    """Unit vectors, blocks of float32 [records, dimensions], and the row of each record."""

    blocks: tuple[np.ndarray, ...]
    record_ids: tuple[str, ...]
    rows: dict[str, int]
    dimensions: int
    last: int
    removals: int
    """What the side file said when these were read."""

    def nearest(
        self, value: np.ndarray, *, k: int, among: Iterable[str] | None, without: str | None
    ) -> list[tuple[str, float]]:
        """The k record ids most similar to a unit vector with their scores (1 + cosine) / 2, best first."""
        if not self.record_ids or k <= 0:
            return []
        if among is None:
            rows = np.arange(len(self.record_ids))
        else:
            known = (self.rows.get(record_id, -1) for record_id in among)
            rows = np.fromiter((row for row in known if row >= 0), dtype=np.int64)
            rows.sort()
        if without in self.rows:
            rows = rows[rows != self.rows[without]]
        # A vector with NaN, which Argilla accepts, is like nothing.
        scores = np.nan_to_num(self._scores(rows, np.asarray(value, dtype=np.float32)), nan=0.0)
        best = np.arange(len(rows))
        if len(rows) > k:
            best = np.sort(np.argpartition(-scores, k - 1)[:k])
        best = best[np.argsort(-scores[best], kind="stable")]
        return [(self.record_ids[rows[place]], float(np.clip(scores[place], 0.0, 1.0))) for place in best]

    def _scores(self, rows: np.ndarray, value: np.ndarray) -> np.ndarray:
        """Of the rows, which ascend: all vectors at once where most are asked for, else only those."""
        if 3 * len(rows) > len(self.record_ids):
            products = np.concatenate([block @ value for block in self.blocks])[rows]
        else:
            starts = np.cumsum([0, *(len(block) for block in self.blocks)])
            parts = np.split(rows, np.searchsorted(rows, starts[1:-1]))
            chosen = zip(self.blocks, starts, parts, strict=False)
            products = np.concatenate([block[part - start] @ value for block, start, part in chosen])
        return (1.0 + products) / 2.0


class VectorCache:
    """The matrices that were used last. What the side index gained is read at the next use; after a removal, all."""

    def __init__(self) -> None:
        self._matrices: OrderedDict[str, VectorMatrix] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, connection: Connection, settings_id: str, dimensions: int) -> VectorMatrix:
        with self._lock:
            known = self._matrices.pop(settings_id, None)
            removals = connection.execute(text(_REMOVALS), {"id": settings_id}).scalar_one()
            if known is None or (known.removals, known.dimensions) != (removals, dimensions):
                known = VectorMatrix((), (), {}, dimensions, last=0, removals=removals)
            if (connection.execute(text(_LAST), {"id": settings_id}).scalar() or 0) != known.last:
                known = _extended(connection, known, settings_id)
            self._matrices[settings_id] = known
            while len(self._matrices) > MOST_MATRICES:
                self._matrices.popitem(last=False)
        return known

    def clear(self) -> None:
        with self._lock:
            self._matrices.clear()


def _extended(connection: Connection, known: VectorMatrix, settings_id: str) -> VectorMatrix:
    asked = {"id": settings_id, "after": known.last, "size": known.dimensions * 4}
    count = connection.execute(text(_COUNT), asked).scalar_one()
    block = np.empty((count, known.dimensions), dtype=np.float32)
    record_ids: list[str] = []
    last = known.last
    # Read a thousand at a time into their place: memory for the vectors once, not twice.
    for rows in connection.execute(text(_NEW), asked).partitions(ROWS_AT_ONCE):
        start = len(record_ids)
        values = np.frombuffer(b"".join(row.value for row in rows), dtype=np.float32)
        block[start : start + len(rows)] = values.reshape(len(rows), known.dimensions)
        record_ids += [row.record_id for row in rows]
        last = rows[-1].position
    blocks = [*known.blocks, block[: len(record_ids)]]
    if len(blocks) > MOST_BLOCKS:
        rest = np.concatenate(blocks[1:])
        blocks = [np.concatenate([blocks[0], rest])] if len(rest) > len(blocks[0]) // 2 else [blocks[0], rest]
    rows_of = {record_id: len(known.record_ids) + offset for offset, record_id in enumerate(record_ids)}
    return VectorMatrix(
        tuple(blocks),
        (*known.record_ids, *record_ids),
        {**known.rows, **rows_of},
        known.dimensions,
        last,
        known.removals,
    )
