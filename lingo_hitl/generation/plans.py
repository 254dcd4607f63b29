"""What stage `generate` would take through which flows, for an estimate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from lingo_hitl.config import GenerateConfig
from lingo_hitl.generation.completions import preference
from lingo_hitl.generation.dialogue import cast_personas, dialogue
from lingo_hitl.generation.generate import TAKEN_AT_ONCE, pick
from lingo_hitl.models.estimate import Plan
from lingo_hitl.records import Row


def generating(rows: pa.Table, config: GenerateConfig) -> list[Plan]:
    """A plan for each task of the config that asks models.

    Raises:
        UserError: an unknown source or persona.
    """
    plans = []
    if talk := config.dialogue:
        chosen = pick(rows, talk)
        plans.append(Plan("dialogues", dialogue(talk), lambda: cast_personas(_taken(rows, chosen), talk), len(chosen)))
    if pooled := config.preference:
        seeds = pick(rows, pooled)
        plans.append(Plan("completions", preference(pooled), lambda: _taken(rows, seeds), len(seeds)))
    return plans


def _taken(rows: pa.Table, places: Sequence[int]) -> Iterator[Row]:
    for start in range(0, len(places), TAKEN_AT_ONCE):
        yield from rows.take(pa.array(places[start : start + TAKEN_AT_ONCE], pa.int64())).to_pylist()
