"""Many samples beside each other as an HTML page: which settings to take."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from lingo_hitl.curation.page import RANDOM, Fact, Picture, layout, nearer, write_page
from lingo_hitl.records import Row

_COLUMNS = {
    "length_groups": ("Length groups", "d"),
    "clusters": ("Clusters", "d"),
    "sampling": ("Sampling", "s"),
    "ratio": ("Ratio", "g"),
    "selected": ("Rows", ",d"),
    "coverage_mean": ("Distance, mean", ".4f"),
    "random_coverage_mean": ("at random", ".4f"),
    "gain": ("Nearer by", ".1%"),
    "coverage_p95": ("Distance, 95 %", ".4f"),
    "cells_reached": ("Clusters reached", ",d"),
    "identical": ("Same text", ".1%"),
    "alike": ("Alike", ".1%"),
    "near": ("Near duplicate", ".1%"),
    "length_ks": ("Length, KS", ".3f"),
    "perplexity_ks": ("Perplexity, KS", ".3f"),
    "source_distance": ("Sources, TV", ".3f"),
}
_SETTINGS = ("length_groups", "clusters", "ratio", "sampling")
_LABELS = {"ratio": "sampled rows", "clusters": "clusters in each length group", "length_groups": "length groups"}
_COLOURS = ("#2f6db5", "#59a14f", "#b07aa1", "#e15759", "#76b7b2", "#9c755f", "#d37295", "#b6992d", "#79706e")
_DASHES = {"ppl": "solid", "ppl_h": "dash", "rand": "dot"}
_MARKS = {"ppl": "circle", "ppl_h": "diamond", "rand": "x-thin-open"}


def write_sweep(path: Path, table: pa.Table, *, title: str) -> None:
    """Write the samples of `sweep.sweep` beside each other to `path`, in pictures and a table that can be sorted."""
    rows = [row | {"gain": _gain(row)} for row in table.to_pylist()]
    done = [row for row in rows if row["reason"] is None]
    failed = len(rows) - len(done)
    # Samples may differ in size at the same ratio, so each is held against a random one of its own size.
    best: dict[float, Row] = {}
    for row in sorted((row for row in done if row["gain"] is not None), key=lambda row: -row["gain"]):
        best.setdefault(row["ratio"], row)
    facts = [Fact("Combinations", f"{len(rows):,}", f"{failed:,} could not be done" if failed else "all done")]
    for ratio, row in sorted(best.items())[:4]:
        settings = ", ".join([*(_named(name, row[name]) for name in ("length_groups", "clusters")), row["sampling"]])
        change = nearer(row["coverage_mean"], row["random_coverage_mean"])
        facts.append(Fact(f"Best at ratio {ratio:.4g}", change, f"than a random sample: {settings}", chosen=True))
    columns = {name: _COLUMNS[name] for name in _COLUMNS if any(row[name] is not None for row in rows)}
    write_page(
        path,
        "sweep.html",
        title=title,
        lead="Samples of one corpus with different settings, each beside a random sample of the same size",
        facts=facts,
        pictures=_pictures(done),
        headings=[heading for heading, _ in columns.values()],
        rows=[_cells(row, best, list(columns)) for row in rows],
    )


def _gain(row: Row) -> float | None:
    """How much nearer the corpus is to a sample than to a random one of the same size, as a share."""
    near, at_random = row["coverage_mean"], row["random_coverage_mean"]
    return 1 - near / at_random if near is not None and at_random else None


def _pictures(done: list[Row]) -> list[Picture]:
    """A figure for each measure that any sample has."""
    note = "Mean cosine distance of the corpus to the sample; lower is better. A click on a name hides it."
    gain = "How much shorter that distance is than a random sample's."
    alike = "Sampled rows that say what another of them says: cosine similarity above 0.99."
    asked = [
        ("coverage_mean", "random_coverage_mean", "Coverage", "대표성", note, "mean distance"),
        ("gain", None, "Gain over a random sample", "무작위 대비", gain, "nearer by"),
        ("alike", "random_alike", "Repeats", "중복", alike, "share of sampled rows"),
        (
            "identical",
            "random_identical",
            "Identical texts",
            "동일 문장",
            "Sampled rows whose text occurs again.",
            "share",
        ),
        ("length_ks", None, "Length", "길이", "How far the sample's lengths are from the corpus's.", "KS distance"),
        ("perplexity_ks", None, "Perplexity", "혼잡도", "How far its perplexities are.", "KS distance"),
        ("source_distance", None, "Sources", "출처", "How far its source shares are.", "total variation distance"),
    ]
    return [
        Picture(column, name, korean, note, _lines(done, column, at_random, y, first=not n), wide=not n)
        for n, (column, at_random, name, korean, note, y) in enumerate(asked)
        if any(row[column] or (row[column] == 0 and column != "identical") for row in done)
    ]


def _lines(done: list[Row], column: str, at_random: str | None, y: str, *, first: bool) -> Any:
    """A line for each setting along the one that is asked for at most values; colours for groups and clusters."""
    import plotly.graph_objects as go

    along = next((name for name in _LABELS if len({row[name] for row in done}) > 1), "ratio")
    at = "selected" if along == "ratio" else along
    others = [name for name in _SETTINGS if name not in (along, "sampling")]
    settings = sorted({tuple(row[name] for name in others) for row in done})
    figure = go.Figure()
    for setting, sampling in ((setting, sampling) for setting in settings for sampling in _DASHES):
        rows = [r for r in done if tuple(r[name] for name in others) == setting and r["sampling"] == sampling]
        if not rows:
            continue
        colour = _COLOURS[settings.index(setting) % len(_COLOURS)]
        name = ", ".join([*(_named(*pair) for pair in zip(others, setting, strict=True)), sampling])
        line = {"color": colour, "width": 2, "dash": _DASHES[sampling]}
        marker = {
            "symbol": _MARKS[sampling],
            "size": 7,
            "line": {"width": 2 if sampling == "rand" else 0, "color": colour},
        }
        style = {"mode": "lines+markers", "name": name, "line": line, "marker": marker, "showlegend": first}
        figure.add_trace(_trace(rows, at, column, style))
    rows = list({row[at]: row for row in done}.values())
    if at_random and len(rows) == len({(row[at], row[at_random]) for row in done}):
        line = {"color": RANDOM, "width": 2.5, "dash": "dot"}
        style = {"mode": "lines", "name": "random sample", "line": line, "showlegend": first}
        figure.add_trace(_trace(rows, at, at_random, style))
    figure.update_layout(layout(_LABELS[along], y))
    figure.update_layout(xaxis=_ticks(row[at] for row in done))
    if column in ("alike", "identical", "gain"):
        figure.update_layout(yaxis={"tickformat": ".2~%"})
    if column in ("coverage_mean", "gain"):
        figure.update_layout(yaxis={"rangemode": "normal"})
    if first:
        upright = {"orientation": "v", "x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top"}
        figure.update_layout(height=max(430, min(90 + 20 * len(figure.data), 760)), legend=upright)
    return figure


def _ticks(values: Iterable[int]) -> dict[str, Any]:
    """A log axis where the values are far apart, with ticks at 1, 2, 5, 10, ..."""
    known = [value for value in values if value]
    if not known or max(known) <= 4 * min(known):
        return {"nticks": 6}
    round_ones = [digit * 10**power for power in range(10) for digit in (1, 2, 5)]
    ticks = [tick for tick in round_ones if min(known) / 2 <= tick <= max(known) * 2]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{tick:,}" for tick in ticks]}


def _trace(rows: Iterable[Row], at: str, column: str, style: dict[str, Any]) -> Any:
    import plotly.graph_objects as go

    ordered = sorted((row for row in rows if row[column] is not None), key=lambda row: row[at])
    hover = "%{fullData.name}<br>%{x:,}: %{y:.4~g}<extra></extra>"
    return go.Scatter(x=[row[at] for row in ordered], y=[row[column] for row in ordered], hovertemplate=hover, **style)


def _named(name: str, value: Any) -> str:
    if name == "ratio":
        return f"ratio {value:.4g}"
    return f"{value:,} {'group' if name == 'length_groups' else 'cluster'}{'s' * (value != 1)}"


def _cells(row: Row, best: dict[float, Row], columns: list[str]) -> list[dict[str, Any]]:
    """The cells of a combination: its settings, and its measures or the reason why there are none."""
    settings = [name for name in columns if name in _SETTINGS]
    cells = [_cell(row, name, best) for name in (settings if row["reason"] else columns)]
    if row["reason"]:
        cells.append({"text": row["reason"], "value": "", "kind": "failed", "span": len(columns) - len(settings)})
    return cells


def _cell(row: Row, name: str, best: dict[float, Row]) -> dict[str, Any]:
    value = row[name]
    kind = "" if isinstance(value, str) else "n"
    if name == "gain" and value is not None and best[row["ratio"]]["gain"] == value:
        kind = "n best"
    text = "–" if value is None else format(value, _COLUMNS[name][1])
    return {"text": text, "value": "" if value is None else value, "kind": kind, "span": 0}
