"""The stage `map`: what each row is about, how natural it reads, and which rows lie near it."""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from lingo_hitl.config import MapConfig
from lingo_hitl.mapping.clusters import NOISE, find_clusters
from lingo_hitl.mapping.naming import name_clusters
from lingo_hitl.mapping.projection import project
from lingo_hitl.models.causal_lm import load_causal_lm
from lingo_hitl.models.encoder import load_encoder
from lingo_hitl.records import MAPPED, main_text
from lingo_hitl.stages import Outcome, stage


@stage("map", needs="judge")
def map_rows(rows: pa.Table, config: MapConfig) -> Outcome:
    """Give each row a vector, a perplexity, a place on the map and a named cluster.

    Adds the columns of `records.MAPPED`, computed from `records.main_text`. Perplexity is null for a text
    that has none (blank, or a single token) and for all rows where `config.perplexity` is null.
    No row is dropped. The same rows in the same order give the same bytes.

    Raises:
        UserError: the encoder or the perplexity model cannot be loaded.
    """
    seconds = _Stopwatch()
    texts = [main_text(row) for row in rows.to_pylist()]
    encoder = load_encoder(config.encoder, pooling=config.pooling, dtype=config.dtype, device=config.device)
    fluency = load_causal_lm(config.perplexity, dtype=config.dtype, device=config.device) if config.perplexity else None
    seconds.lap("models")
    vectors = encoder.encode(texts)
    seconds.lap("vectors")
    perplexities = fluency.perplexity(texts) if fluency else np.full(len(texts), np.nan)
    seconds.lap("perplexity")
    if not texts:
        return Outcome(_with_columns(rows, vectors, perplexities, np.zeros((0, 2), np.float32), [], {}))
    projection = project(vectors, neighbours=config.neighbours, seed=config.seed)
    seconds.lap("projection")
    labels, method = find_clusters(projection.space, min_size=config.min_cluster_size, seed=config.seed)
    seconds.lap("clusters")
    names = name_clusters(texts, labels)
    seconds.lap("names")
    mapped = _with_columns(rows, vectors, perplexities, projection.plane, labels.tolist(), names)
    sizes = Counter(labels.tolist())
    report = {
        "clusters": {names[label]: sizes[label] for label in sorted(sizes) if label != NOISE},
        "in_no_cluster": sizes[NOISE],
        "method": method,
        "seconds": seconds.laps,
    }
    return Outcome(mapped, [], report)


def _with_columns(
    rows: pa.Table,
    vectors: np.ndarray,
    perplexities: np.ndarray,
    plane: np.ndarray,
    labels: list[int],
    names: dict[int, str],
) -> pa.Table:
    """`rows` with the columns of MAPPED; a perplexity that is not a number becomes null."""
    offsets = np.arange(0, vectors.size + 1, vectors.shape[1], dtype=np.int32)
    columns: dict[str, pa.Array] = {
        "vector": pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1), pa.float32())),
        "perplexity": pa.array([p if math.isfinite(p) else None for p in perplexities.tolist()], pa.float64()),
        "x": pa.array(plane[:, 0], pa.float32()),
        "y": pa.array(plane[:, 1], pa.float32()),
        "cluster_id": pa.array(labels, pa.int32()),
        "cluster": pa.array([names[label] for label in labels], pa.string()),
    }
    for field in MAPPED:
        rows = rows.append_column(field, columns[field.name].cast(field.type))
    return rows


class _Stopwatch:
    def __init__(self) -> None:
        self.laps: dict[str, Any] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 2)
        self._last = now
