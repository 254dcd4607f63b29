"""What stage `generate` would take through which flows, for an estimate."""

from __future__ import annotations

import pyarrow as pa

from lingo_hitl.config import GenerateConfig
from lingo_hitl.generation.completions import preference
from lingo_hitl.generation.dialogue import cast_personas, dialogue
from lingo_hitl.generation.generate import pick, taken
from lingo_hitl.models.estimate import Plan


def generating(rows: pa.Table, config: GenerateConfig) -> list[Plan]:
    """A plan for each task of the config that asks models.

    Raises:
        UserError: an unknown source or persona.
    """
    plans = []
    if talk := config.dialogue:
        chosen = pick(rows, talk)
        plans.append(Plan("dialogues", dialogue(talk), lambda: cast_personas(taken(rows, chosen), talk), len(chosen)))
    if pooled := config.preference:
        seeds = pick(rows, pooled)
        plans.append(Plan("completions", preference(pooled), lambda: taken(rows, seeds), len(seeds)))
    return plans
