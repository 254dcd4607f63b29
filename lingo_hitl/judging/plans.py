"""What stage `judge` would take through its flow, for an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from lingo_hitl.config import JudgeConfig
from lingo_hitl.judging.judge import Measured, judging
from lingo_hitl.models.estimate import Plan
from lingo_hitl.models.prices import LOCAL
from lingo_hitl.records import rows_of

if TYPE_CHECKING:
    from lingo_hitl.generation.personas import Persona


def rating(rows: pa.Table, config: JudgeConfig, personas: Mapping[str, Persona] | None = None) -> list[Plan]:
    """One plan, or none where no judge writes: models on this machine whose probabilities are read cost nothing.

    Dialogues that the limits of the config drop are measured as in the stage, and asked about by nobody.

    Args:
        personas: as in stage `judge`.
    """
    writing = [spec for spec in config.judges if config.method == "text" or not spec.model.startswith(LOCAL)]
    if not writing:
        return []
    flow = judging(config.model_copy(update={"judges": writing}), Measured(config.quality, personas or {}))
    return [Plan("judging", flow, lambda: rows_of(rows), rows.num_rows)]
