"""Dialogue quality of a corpus before and after filtering, as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lingo_hitl.curation.page import CORPUS, RANDOM, SAMPLE, Fact, Picture, layout, shortened, write_page
from lingo_hitl.curation.quality import Sifted, by_persona, mean
from lingo_hitl.judging.dialogue_quality.figures import FIGURES
from lingo_hitl.records import Row

_BINS, _LONGEST, _PERSONAS = 20, 700, 12
_MEANINGS = {
    "catchphrase_overuse": "Share of the later answers that fall back on a phrase said before.",
    "shrinking": "How much shorter the median later answer is than the first.",
    "copying": "Share of the most copied answer that was said before.",
    "speech_level_shift": "Share of a speaker's sentences that leave the speech level.",
}


def write_quality_report(path: Path, sifted: Sifted, *, title: str) -> None:
    """Write figures and pictures of `sifted` to `path`: one page that needs no network; its texts are escaped."""
    total, kept = len(sifted.kept), int(sifted.kept.sum())
    write_page(
        path,
        "quality.html",
        title=title,
        lead=f"{kept:,} of {total:,} dialogues are within the limits",
        facts=_facts(sifted, total, kept),
        pictures=_pictures(sifted),
        rows=[_row(sifted, name) for name in FIGURES],
        headings=[english for english, _ in FIGURES.values()],
        personas=_personas(sifted),
        examples=_examples(sifted),
    )


def _facts(sifted: Sifted, total: int, kept: int) -> list[Fact]:
    unread = f"and {sifted.unread:,} rows without a dialogue" if sifted.unread else ""
    share = f"{kept / total:.1%} of the dialogues"
    facts = [Fact("Dialogues", f"{total:,}", unread), Fact("Kept", f"{kept:,}", share, chosen=True)]
    for name, (english, _) in FIGURES.items():
        limit, count = getattr(sifted.limits, name), sifted.beyond(name)
        note = "no limit" if limit is None else f"above {limit:g}: {count / total:.1%} of the dialogues"
        facts.append(Fact(english, "–" if limit is None else f"{count:,}", note))
    return facts


def _pictures(sifted: Sifted) -> list[Picture]:
    shown = []
    for name, (english, korean) in FIGURES.items():
        values = sifted.figures[name]
        known = ~np.isnan(values)
        if not known.any():
            shown.append(Picture(name, english, korean, "No dialogue has this figure."))
            continue
        figure = _histogram(values[known], values[known & sifted.kept], getattr(sifted.limits, name))
        shown.append(Picture(name, english, korean, _MEANINGS[name], figure))
    return shown


def _histogram(before: NDArray[np.float64], after: NDArray[np.float64], limit: float | None) -> Any:
    """Dialogues by a figure, before and after, on a log axis: most are at 0, and the few at the other end matter."""
    import plotly.graph_objects as go

    edges = np.linspace(0, 1, _BINS + 1)
    # What is just at the limit is kept: it belongs to the bar on its left.
    counts = [np.histogram((values - 1e-9).clip(0), edges)[0] for values in (before, after)]
    middle = (edges[1:] + edges[:-1]) / 2
    told = [
        f"{low:.2f} to {high:.2f}<br>{a:,} before, {b:,} after"
        for low, high, a, b in zip(edges[:-1], edges[1:], *counts, strict=True)
    ]
    figure = go.Figure()
    for count, name, colour in zip(counts, ("before", "after"), (CORPUS, SAMPLE), strict=True):
        hover = {"customdata": told, "hovertemplate": "%{customdata}<extra></extra>"}
        width = 0.94 / _BINS if name == "before" else 0.55 / _BINS
        figure.add_trace(go.Bar(x=middle, y=count, width=width, name=name, marker={"color": colour}, **hover))
    figure.update_layout(layout("", "dialogues (log scale)"), barmode="overlay")
    most = max(int(counts[0].max()), 10)
    figure.update_layout(
        xaxis={"range": [-0.01, 1.01], "tickformat": ".1f", "dtick": 0.1},
        legend={"x": 0, "xanchor": "left"},  # plotly's buttons are on the right
        yaxis={"type": "log", "range": [np.log10(0.7), np.log10(most * 1.6)], "dtick": 1, "tickformat": ",d"},
    )
    if limit is not None:
        line = {"color": RANDOM, "width": 2, "dash": "dot"}
        figure.add_vline(x=limit, line=line, annotation_text=f"limit {limit:g}", annotation_position="top right")
    return figure


def _row(sifted: Sifted, name: str) -> dict[str, str]:
    values, limit = sifted.figures[name], getattr(sifted.limits, name)
    kept = values[sifted.kept]
    return {
        "name": " · ".join(FIGURES[name]),
        "limit": "none" if limit is None else f"{limit:g}",
        "beyond": f"{sifted.beyond(name):,}",
        "mean": f"{number(mean(values))} → {number(mean(kept))}",
        "median": f"{number(quantile(values, 0.5))} → {number(quantile(kept, 0.5))}",
        "worst": f"{number(quantile(values, 0.95))} → {number(quantile(kept, 0.95))}",
    }


def _personas(sifted: Sifted) -> list[dict[str, Any]]:
    return [
        {
            "name": shortened(name, 40) or "–",
            "level": level or "–",
            "dialogues": f"{int(theirs.sum()):,}",
            "kept": f"{sifted.kept[theirs].mean():.0%}",
            "means": [number(mean(sifted.figures[figure][theirs])) for figure in FIGURES],
        }
        for name, theirs, level in list(by_persona(sifted))[:_PERSONAS]
    ]


def _examples(sifted: Sifted) -> list[dict[str, Any]]:
    return [
        {"name": f"{english} · {korean}", "dialogues": [_example(row, name) for row in sifted.examples[name]]}
        for name, (english, korean) in FIGURES.items()
        if sifted.examples.get(name)
    ]


def _example(row: Row, name: str) -> dict[str, Any]:
    messages = [
        {"role": message["role"], "text": shortened(message["content"], _LONGEST)} for message in row["messages"]
    ]
    return {"figure": f"{row[name]:.2f}", "persona": shortened(row["persona"] or "", 40), "messages": messages}


def quantile(values: NDArray[np.float64], level: float) -> float | None:
    """Of those that are there."""
    known = values[~np.isnan(values)]
    return float(np.quantile(known, level)) if len(known) else None


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
