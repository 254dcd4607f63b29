"""A sample as an HTML page: to look at, and to show to others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lingo_hitl.config import KoQualityConfig
from lingo_hitl.curation import pictures
from lingo_hitl.curation.koquality import Selection
from lingo_hitl.curation.measures import LEVELS, Measures, Spread
from lingo_hitl.curation.page import Fact, Picture, compact, nearer, shortened, write_page
from lingo_hitl.curation.pool import NO_VECTOR, Ints, Pool, Reason
from lingo_hitl.curation.sweep_report import write_sweep

__all__ = ["write_report", "write_sweep"]

_GROUPS, _EXAMPLES, _LONGEST = 10, 4, 300  # length groups and rows of each that are shown, and characters of a text


def write_report(
    path: Path,
    *,
    title: str,
    pool: Pool,
    selection: Selection,
    measures: Measures,
    sources: pa.Array | None = None,
    outputs: pa.Array | None = None,
    dropped: Mapping[str, int] | None = None,
    seconds: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write what a selection of `pool` is like to `path`, as one HTML page that needs no network.

    Every text is shown to the letter: nothing in a row can become markup or script.

    Args:
        sources, outputs: of each row, shown beside examples; string [n].
        dropped: reason -> rows that did not come as far as the pool.
        seconds: what was done -> how long it took.
        settings: what the page says it was made with; the selection's config where absent.
    """
    told = dict(settings) if settings is not None else selection.config.model_dump()
    write_page(
        path,
        "report.html",
        title=title,
        lead=_lead(measures, told),
        facts=_facts(selection.config, measures, dropped or {}),
        pictures=_pictures(pool, selection, measures, sources),
        reasons=_reasons(measures, dropped or {}),
        examples=_examples(pool, selection, sources, outputs),
        with_outputs=outputs is not None,
        settings=[(name.replace("_", " "), _plain(value)) for name, value in told.items()]
        + [(f"{name}, seconds", f"{value:,.1f}") for name, value in (seconds or {}).items()],
    )


def _lead(measures: Measures, settings: Mapping[str, Any]) -> str:
    chosen = f"{measures.selected:,} of {measures.rows:,} rows ({_percent(measures.selected, measures.rows)})"
    names = {
        "method": "{}",
        "sampling": "sampling {}",
        "length_groups": "{} length groups",
        "clusters": "{} clusters each",
    }
    return " · ".join([chosen, *(text.format(settings[name]) for name, text in names.items() if name in settings)])


def _facts(config: KoQualityConfig, measures: Measures, dropped: Mapping[str, int]) -> list[Fact]:
    lost = {**dropped, Reason.LOST.text: measures.reasons.get(Reason.LOST.text, 0)}
    asked, share = round(config.ratio * measures.rows), f"{_percent(measures.selected, measures.rows)} of the rows"
    if asked != measures.selected:
        share += f", {asked:,} asked for"
    before, commonest = sum(dropped.values()), max(lost, key=lambda reason: lost[reason])
    facts = [
        Fact("Rows in", f"{measures.rows + before:,}", f"{before:,} dropped before sampling" if before else ""),
        Fact("Selected", f"{measures.selected:,}", share, chosen=True),
        Fact(
            "Lost",
            f"{sum(lost.values()):,}",
            f"most often: {shortened(commonest, 70)}" if lost[commonest] else "no row",
        ),
    ]
    here, random = measures.coverage, measures.random_coverage
    if here and random:
        note = f"mean distance {here.mean:.3f}; a random sample {random.mean:.3f}"
        facts.append(Fact("Coverage", nearer(here.mean, random.mean), note))
    reached = f"{measures.cells_reached:,} of {measures.cells:,}"
    facts.append(Fact("Clusters reached", _percent(measures.cells_reached, measures.cells), reached))
    repeats = [sample.alike or sample.identical for sample in (measures.repeats, measures.random_repeats)]
    note = f"of the sampled rows say what another says; at random {repeats[1]:.1%}"
    facts.append(Fact("Repeats", f"{repeats[0]:.1%}", note))
    return facts


def _pictures(pool: Pool, selection: Selection, measures: Measures, sources: pa.Array | None) -> list[Picture]:
    shown = []
    sampled = selection.selected
    if len(pool):
        figure = pictures.length_histogram(pool.lengths, pool.lengths[sampled])
        shown.append(Picture("length", "Length", "길이", _shift(measures.length, " characters"), figure))
    known = np.isfinite(pool.perplexity)
    if known.any():
        figure = pictures.perplexity_histogram(pool.perplexity[known], pool.perplexity[known & sampled])
        shown.append(Picture("perplexity", "Perplexity", "혼잡도", _shift(measures.perplexity), figure))
    else:
        shown.append(Picture("perplexity", "Perplexity", "혼잡도", "No row has a perplexity."))
    if measures.coverage:
        note = f"How far the corpus is from the sample, by {measures.looked_at:,} of its rows. Further left is better."
        shown.append(Picture("coverage", "Coverage", "대표성", note, pictures.coverage_curve(measures)))
    else:
        note = "No sampled row has a vector to measure distances by." if measures.selected else "No row was selected."
        shown.append(Picture("coverage", "Coverage", "대표성", note))
    if measures.sources:
        plural = "" if len(measures.sources) == 1 else "s"
        note = f"{len(measures.sources):,} source{plural}; total variation distance {_number(measures.source_distance)}"
        shown.append(Picture("sources", "Sources", "출처", note, pictures.source_bars(measures.sources, measures)))
    if (selection.groups >= 0).any():
        note = "Each cell is a cluster; a line is a length group."
        figure = pictures.quota_map(pool, selection)
        shown.append(Picture("quotas", "Clusters and their quotas", "군집별 할당", note, figure, wide=True))
    if (pool.vector_of != NO_VECTOR).any():
        figure, variance = pictures.vector_map(pool, selection, sources, measures.seed)
        note = f"Vectors on their two principal axes ({variance:.0%} of the variance). Hover to read, scroll to zoom."
        shown.append(Picture("map", "Map", "지도", note, figure, wide=True))
    return shown


def _shift(spread: Spread, unit: str = "") -> str:
    """How a number moved from corpus to sample, in a line."""
    if not spread.sample:
        return "No row was selected." if spread.corpus else ""
    middle = LEVELS.index(0.5)
    before, after = (compact(side[middle]) for side in (spread.corpus, spread.sample))
    return f"Median {before}{unit} in the corpus, {after} in the sample; KS distance {_number(spread.ks)}"


def _reasons(measures: Measures, dropped: Mapping[str, int]) -> list[dict[str, Any]]:
    """Each reason with its rows, the selected ones first, and then those that never came as far as the pool last."""
    found = [(reason, rows) for reason, rows in measures.reasons.items() if reason != Reason.SELECTED.text]
    found = [
        (Reason.SELECTED.text, measures.selected),
        *found,
        *((f"{reason} (before sampling)", n) for reason, n in dropped.items()),
    ]
    total = measures.rows + sum(dropped.values())
    return [
        {
            "text": shortened(reason, _LONGEST),
            "rows": rows,
            "share": _percent(rows, total),
            "width": round(100 * rows / max(total, 1), 2),
            "chosen": reason == Reason.SELECTED.text,
        }
        for reason, rows in found
    ]


def _examples(
    pool: Pool, selection: Selection, sources: pa.Array | None, outputs: pa.Array | None
) -> list[dict[str, Any]]:
    """A few sampled rows of each length group, evenly along their perplexity."""
    groups = np.unique(selection.groups[selection.selected])
    shown = []
    for group in groups[np.unique(np.linspace(0, len(groups) - 1, _GROUPS).round().astype(int))] if len(groups) else ():
        inside = selection.groups == group
        members = np.flatnonzero(inside & selection.selected)
        members = members[np.argsort(pool.perplexity[members], kind="stable")]
        few = members[np.unique(np.linspace(0, len(members) - 1, _EXAMPLES).round().astype(int))]
        texts, answers, names = (_texts(column, few) for column in (pool.texts, outputs, sources))
        rows = [
            {
                "text": text,
                "output": answer,
                "source": shortened(name, 28),
                "perplexity": f"perplexity {compact(ppl)}" if np.isfinite(ppl) else "no perplexity",
            }
            for text, answer, name, ppl in zip(texts, answers, names, pool.perplexity[few].tolist(), strict=True)
        ]
        counts = f"{len(members):,} of {int(inside.sum()):,} rows sampled"
        shown.append({"name": f"{pictures.group_name(pool, selection, int(group))} · {counts}", "rows": rows})
    return shown


def _texts(column: pa.Array | None, rows: Ints) -> list[str]:
    found = column.take(pa.array(rows)).to_pylist() if column is not None else [""] * len(rows)
    return [shortened(text or "", _LONGEST) for text in found]


def _percent(part: int, whole: int) -> str:
    share = part / max(whole, 1)
    return f"{share:.0%}" if share in (0, 1) else f"{share:.1%}" if share >= 0.0005 else "under 0.1%"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
