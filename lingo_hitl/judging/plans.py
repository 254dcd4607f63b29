"""What stage `judge` would take through its flow, for an estimate."""

from __future__ import annotations

import pyarrow as pa

from lingo_hitl.config import JudgeConfig
from lingo_hitl.judging.judge import TAKEN_AT_ONCE, judging
from lingo_hitl.models.estimate import Plan
from lingo_hitl.models.prices import LOCAL


def rating(rows: pa.Table, config: JudgeConfig) -> list[Plan]:
    """One plan, or none where no judge writes: models on this machine whose probabilities are read cost nothing.

    Rows that would be dropped for their quality before a judge sees them count as well.
    """
    writing = [spec for spec in config.judges if config.method == "text" or not spec.model.startswith(LOCAL)]
    if not writing:
        return []
    flow = judging(config.model_copy(update={"judges": writing}))
    return [
        Plan(
            "judging",
            flow,
            lambda: (row for batch in rows.to_batches(max_chunksize=TAKEN_AT_ONCE) for row in batch.to_pylist()),
            rows.num_rows,
        )
    ]
