"""Stage `generate`: corpus rows in, rows that people can judge out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lingo_hitl.config import GenerateConfig, Seeds
from lingo_hitl.errors import UserError, nearest
from lingo_hitl.models.journal import Journal, Usage
from lingo_hitl.records import GENERATED, Row, dropped, identified, to_table
from lingo_hitl.stages import Outcome, stage


@stage("generate", needs="corpus")
def generate(rows: pa.Table, config: GenerateConfig, *, journal: Journal) -> Outcome:
    """Grow rows of every task in the config from the corpus.

    Takes `records.CORPUS`, gives `records.GENERATED`. Dropped with a reason: dialogues without one whole
    turn, prompts with fewer than two different completions, rows that came out the same as another.

    Raises:
        UserError: an unknown source, persona or model; a model that cannot be reached at all.
    """
    started, before = time.monotonic(), journal.summary()
    seeds: list[Row] = rows.to_pylist()
    grown: list[Row] = []
    bad: list[Row] = []
    notes: dict[str, int] = {}
    # What can be checked is checked before the first paid call.
    for_instruction = pick(seeds, config.instruction) if config.instruction else []
    for_preference = pick(seeds, config.preference) if config.preference else []
    for_dialogue = pick(seeds, config.dialogue) if config.dialogue else []
    if config.preference:
        from lingo_hitl.generation.completions import check_size

        check_size(config.preference)
    if config.dialogue:
        from lingo_hitl.generation.personas import choose, load_personas

        choose(load_personas(config.dialogue.personas), config.dialogue.persona, path=config.dialogue.personas)

    grown += [_as_it_is(seed) for seed in for_instruction]
    if config.preference and for_preference:
        from lingo_hitl.generation.completions import complete

        made, lost, told = complete(for_preference, config.preference, journal=journal)
        grown, bad, notes = grown + made, bad + lost, {**notes, **told}
    if config.dialogue and for_dialogue:
        from lingo_hitl.generation.dialogue import converse

        made, lost, told = converse(for_dialogue, config.dialogue, journal=journal)
        grown, bad, notes = grown + made, bad + lost, {**notes, **told}
    kept, twice = _once_each(grown)
    report: dict[str, Any] = {
        "rows": dict(Counter(row["task"] for row in kept)),
        **notes,
        "models": usage_since(before, journal),
        "seconds": round(time.monotonic() - started, 1),
    }
    return Outcome(to_table(kept, GENERATED), bad + twice, report)


def pick(seeds: Sequence[Row], wanted: Seeds) -> list[Row]:
    """The seeds that a task starts from: those of `sources`, thinned out to `count`.

    Each source gives an equal share of `count`, so that a large corpus does not drown a small one; what a
    small one cannot give the others do. Within a source every k-th row is taken, so that the share is
    spread over the whole of it rather than its beginning.

    Raises:
        UserError: a source that the corpus does not have.
    """
    by_source: dict[str, list[Row]] = {}
    for seed in seeds:
        by_source.setdefault(seed["source"], []).append(seed)
    for source in wanted.sources or ():
        if source not in by_source:
            raise UserError(
                f"source '{source}' is not in the corpus; sources there: {', '.join(by_source)}."
                f"{nearest(source, by_source)} Check `sources` in the config."
            )
    chosen = [by_source[name] for name in dict.fromkeys(wanted.sources or by_source)]
    total = sum(map(len, chosen))
    count = total if wanted.count is None else min(wanted.count, total)
    return [
        row
        for group, share in zip(chosen, _shares([len(g) for g in chosen], count), strict=True)
        for row in _spread(group, share)
    ]


def usage_since(before: dict[str, Usage], journal: Journal) -> dict[str, dict[str, int]]:
    """What each model was asked since `before`: calls made, completions replayed, tokens of the calls."""
    used = {}
    for model, now in journal.summary().items():
        earlier = before.get(model, Usage())
        change = {key: value - getattr(earlier, key) for key, value in vars(now).items()}
        if any(change.values()):
            used[model] = change
    return used


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count` dealt out as evenly as `sizes` allow."""
    shares = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for dealt, i in enumerate(smallest_first):
        shares[i] = min(sizes[i], count // (len(sizes) - dealt))
        count -= shares[i]
    return shares


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    return [rows[i * len(rows) // count] for i in range(count)]


def _as_it_is(seed: Row) -> Row:
    return identified(
        {
            "task": "instruction",
            "seed": seed["id"],
            **{key: seed[key] for key in ("source", "source_id", "language", "instruction", "output")},
            "models": ["reference"],
        }
    )


def _once_each(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    kept: dict[str, Row] = {}
    twice = []
    for row in rows:
        if row["id"] in kept:
            twice.append(dropped(row, "the same row came before"))
        else:
            kept[row["id"]] = row
    return list(kept.values()), twice
