"""Pools of a few rows, for the tests of KoQuality."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from lingo_hitl.curation.koquality import text_length
from lingo_hitl.curation.pool import NO_VECTOR, Pool


def pool_of(rows):
    """A pool of mappings: text, id, and where given perplexity, vector, quality and duplicate (group)."""
    with_vector = [row["vector"] for row in rows if row.get("vector") is not None]
    vector_of, seen = [], 0
    for row in rows:
        vector_of.append(NO_VECTOR if row.get("vector") is None else seen)
        seen += row.get("vector") is not None

    def floats(name):
        return np.array([np.nan if row.get(name) is None else row[name] for row in rows], dtype=np.float64)

    return Pool(
        ids=pa.array([row["id"] for row in rows], pa.string()),
        texts=pa.array([row["text"] for row in rows], pa.string()),
        lengths=np.array([text_length(row["text"]) for row in rows], dtype=np.int64),
        perplexity=floats("perplexity"),
        vectors=np.array(with_vector, dtype=np.float32).reshape(len(with_vector), -1 if with_vector else 0),
        vector_of=np.array(vector_of, dtype=np.int64),
        quality=floats("quality") if any("quality" in row for row in rows) else None,
        duplicate_group=np.array([row["duplicate"] for row in rows], dtype=np.int64)
        if any("duplicate" in row for row in rows)
        else None,
    )


def ids(pool, positions):
    """The ids of the rows at some positions, or of those that a mask marks."""
    positions = np.asarray(positions)
    positions = np.flatnonzero(positions) if positions.dtype == bool else positions
    return pool.ids.take(pa.array(positions, pa.int64())).to_pylist()
