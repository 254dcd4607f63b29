"""Stage `generate`: corpus rows in, rows that people can judge out."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from lingo_hitl.config import GenerateConfig, Seeds
from lingo_hitl.errors import UserError, nearest
from lingo_hitl.models.flow import Flow, run_flow
from lingo_hitl.models.session import Session
from lingo_hitl.records import ROWS_AT_ONCE, Row, dropped, identified
from lingo_hitl.stages import Outcome, RowFile, stage

Grown = tuple[Any, Row | None, str | None, int]
"""A row or None, a dropped row or None, and something to be told of it with how often."""


@stage("generate", needs="corpus")
def generate(rows: pa.Table, config: GenerateConfig, *, session: Session, out: RowFile) -> Outcome:
    """Grow rows of every task in the config from the corpus, and write them to `out` as they come.

    Takes `records.CORPUS`, gives `records.GENERATED`. Dropped with a reason: dialogues without one whole
    turn, prompts with fewer than two different completions, rows that came out the same as another.

    Raises:
        UserError: an unknown source, persona or model; a model that cannot be reached at all.
    """
    started = time.monotonic()
    growing = [grow(rows, config, session) for grow in (_instructions, _preferences, _dialogues)]  # checks come first
    counts: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    bad: list[Row] = []
    ids: set[str] = set()
    for row, lost, note, count in chain.from_iterable(growing):
        if note:
            notes[note] += count
        if lost is not None:
            bad.append(lost)
        elif row["id"] in ids:
            bad.append(dropped(row, "the same row came before"))
        else:
            ids.add(row["id"])
            counts[row["task"]] += 1
            out.add(row)
    report: dict[str, Any] = {
        "rows": dict(counts),
        **notes,
        **session.report(),
        "seconds": round(time.monotonic() - started, 1),
    }
    return Outcome(out.close(), bad, report, unfinished=session.tally.failed > 0)


def _instructions(rows: pa.Table, config: GenerateConfig, session: Session) -> Iterator[Grown]:
    chosen = pick(rows, config.instruction) if config.instruction else []
    return ((_as_it_is(seed), None, None, 0) for seed in taken(rows, chosen))


def _preferences(rows: pa.Table, config: GenerateConfig, session: Session) -> Iterator[Grown]:
    if not config.preference:
        return iter(())
    from lingo_hitl.generation.completions import finished, preference

    chosen, flow = pick(rows, config.preference), preference(config.preference)
    done = _run(flow, taken(rows, chosen), config, session, what="completions", total=len(chosen))
    return ((row, lost, "completions left out", n) for row, lost, n in map(finished, done))


def _dialogues(rows: pa.Table, config: GenerateConfig, session: Session) -> Iterator[Grown]:
    if not config.dialogue:
        return iter(())
    from lingo_hitl.generation.dialogue import cast_personas, dialogue, finished

    wanted = config.dialogue
    chosen = pick(rows, wanted)
    seeds = cast_personas(taken(rows, chosen), wanted)
    done = _run(dialogue(wanted), seeds, config, session, what="dialogues", total=len(chosen))
    return (
        (row, lost, "dialogues that ended at a failed turn", n)
        for row, lost, n in (finished(talk, wanted) for talk in done)
    )


def _run(
    flow: Flow, rows: Iterator[Row], config: GenerateConfig, session: Session, *, what: str, total: int
) -> Iterator[Row]:
    return run_flow(flow, rows, session, what=what, total=total, engine=config.engine, workers=config.workers)


def taken(rows: pa.Table, places: Sequence[int]) -> Iterator[Row]:
    """The rows at these places, a few at a time out of the table."""
    for start in range(0, len(places), ROWS_AT_ONCE):
        yield from rows.take(pa.array(places[start : start + ROWS_AT_ONCE], pa.int64())).to_pylist()


def pick(rows: pa.Table, wanted: Seeds) -> list[int]:
    """The places of the seeds that a task starts from: those of `sources`, thinned out to `count`.

    Each source gives an equal share of `count`, so that a large corpus does not drown a small one; what a
    small one cannot give the others do. Within a source every k-th row is taken, so that the share is
    spread over the whole of it rather than its beginning.

    Raises:
        UserError: a source that the corpus does not have.
    """
    by_source: dict[str, list[int]] = {}
    for place, source in enumerate(rows["source"].to_pylist()):
        by_source.setdefault(source, []).append(place)
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


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """`count` dealt out as evenly as `sizes` allow."""
    shares = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=lambda i: sizes[i])
    for dealt, i in enumerate(smallest_first):
        shares[i] = min(sizes[i], count // (len(sizes) - dealt))
        count -= shares[i]
    return shares


def _spread(rows: Sequence[int], count: int) -> list[int]:
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
