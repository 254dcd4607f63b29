"""Stage `curate`: judged rows in, the rows worth releasing out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lingo_hitl.config import CurateConfig, KoQualityConfig
from lingo_hitl.curation.filters import filters_of, refusal
from lingo_hitl.curation.koquality import NOT_SAMPLED, Selection, koquality, text_length
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
    if config.koquality:
        for task in TASKS:
            members = [n for n in passed if texts[n]["task"] == task]
            selection = _sample(rows, texts, members, config.koquality)
            for position, n in enumerate(members):
                places[n]["len_group"] = int(selection.groups[position])
                places[n]["sample_cluster"] = int(selection.clusters[position])
                if not selection.selected[position]:
                    reasons[n] = NOT_SAMPLED
    kept = [n for n in passed if n not in reasons]
    report: dict[str, Any] = {
        "passed_filters": len(passed),
        "kept": {task: count for task in TASKS if (count := sum(texts[n]["task"] == task for n in kept))},
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


def _sample(rows: pa.Table, texts: Sequence[Row], members: Sequence[int], config: KoQualityConfig) -> Selection:
    vectors = rows["vector"].take(pa.array(members, pa.int64()))
    return koquality(
        [texts[n]["instruction"] for n in members],
        [vector.values.to_numpy(zero_copy_only=False) if vector.is_valid else None for vector in vectors],
        [texts[n]["perplexity"] for n in members],
        [texts[n]["id"] for n in members],
        config,
    )
