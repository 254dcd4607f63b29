"""Stage `curate`: judged rows in, the rows worth releasing out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lingo_hitl.config import CurateConfig, KoQualityConfig
from lingo_hitl.curation.filters import filters_of, refusal
from lingo_hitl.curation.koquality import select, text_length
from lingo_hitl.curation.pool import NO_VECTOR, Ints, Pool
from lingo_hitl.records import CURATED, TASKS, Row, add_columns, dropped
from lingo_hitl.stages import Outcome, stage


@stage("curate", needs="sync")
def curate(rows: pa.Table, config: CurateConfig) -> Outcome:
    """Keep what people answered and approved, then sample each task by KoQuality.

    Takes rows with `records.CONSENSUS`, adds `records.CURATED`. Without `config.koquality` all that pass
    the filters stay, and their length group and cluster are null. Row order is kept.
    """
    texts: list[Row] = rows.drop_columns(["vector"]).to_pylist()
    filters = filters_of(config)
    reasons = {n: reason for n, row in enumerate(texts) if (reason := refusal(row, filters))}
    passed = [n for n in range(len(texts)) if n not in reasons]
    places: dict[int, Row] = {n: {"length": text_length(texts[n]["instruction"])} for n in passed}
    samples: dict[str, Any] = {}
    if config.koquality:
        for task in TASKS:
            members = [n for n in passed if texts[n]["task"] == task]
            selection = select(_pool(rows, texts, members, config.koquality), config.koquality)
            samples |= {task: selection.report} if members else {}
            why = selection.reasons.to_pylist()
            for position, n in enumerate(members):
                places[n]["len_group"] = int(selection.groups[position])
                places[n]["sample_cluster"] = int(selection.clusters[position])
                if not selection.selected[position]:
                    reasons[n] = why[position]
    kept = [n for n in passed if n not in reasons]
    report: dict[str, Any] = {
        "passed_filters": len(passed),
        "kept": {task: count for task in TASKS if (count := sum(texts[n]["task"] == task for n in kept))},
        "samples": samples,
        "drops_by_task": {
            task: dict(found.most_common())
            for task in TASKS
            if (found := Counter(reason for n, reason in reasons.items() if texts[n]["task"] == task))
        },
    }
    return Outcome(
        add_columns(rows.take(pa.array(kept, pa.int64())), [places[n] for n in kept], CURATED),
        [dropped({**texts[n], **places.get(n, {})}, reasons[n]) for n in sorted(reasons)],
        report,
    )


def _pool(rows: pa.Table, texts: Sequence[Row], members: Sequence[int], config: KoQualityConfig) -> Pool:
    """The rows at `members` of a table and of its list of rows; a row's quality is the mean of its human ratings."""
    instructions = pa.array([texts[n]["instruction"] for n in members], pa.string())
    perplexity = [texts[n]["perplexity"] for n in members]
    ratings = [[rating for rating in texts[n]["human_ratings"] or [] if rating is not None] for n in members]
    vectors, vector_of = _vectors(rows["vector"].take(pa.array(members, pa.int64())))
    return Pool(
        ids=pa.array([texts[n]["id"] for n in members], pa.string()),
        texts=instructions,
        lengths=np.array([text_length(texts[n]["instruction"]) for n in members], dtype=np.int64),
        perplexity=np.array([np.nan if ppl is None else ppl for ppl in perplexity], dtype=np.float64),
        vectors=vectors,
        vector_of=vector_of,
        quality=np.array([fmean(given) if given else np.nan for given in ratings], dtype=np.float64),
        duplicate_group=_duplicates(instructions, config),
    )


def _vectors(column: pa.ChunkedArray) -> tuple[NDArray[np.float32], Ints]:
    """Vectors as float32 [distinct, d], and where each row's is; one that is not of the commonest length is none."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    width = int(np.bincount(lengths[lengths > 0]).argmax()) if (lengths > 0).any() else 1
    usable = lengths == width
    values = pc.list_flatten(column.filter(pa.array(usable))).to_numpy().astype(np.float32)
    vector_of = np.where(usable, np.cumsum(usable) - 1, NO_VECTOR)
    return values.reshape(-1, width), vector_of


def _duplicates(texts: pa.StringArray, config: KoQualityConfig) -> Ints | None:
    """Near-duplicates, where they are asked for and not all rows are taken anyway."""
    if config.method == "exact" or config.near_duplicates is None or config.ratio == 1:
        return None
    from lingo_hitl.corpus.duplicates import near_duplicate_groups

    return near_duplicate_groups(texts, config.near_duplicates)
