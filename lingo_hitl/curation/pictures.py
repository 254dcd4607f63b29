"""The pictures of a sample, as plotly figures; every text of a row or a source is escaped before it gets here."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lingo_hitl.curation.coverage import unit_vectors
from lingo_hitl.curation.koquality import Selection
from lingo_hitl.curation.measures import Measures, SourceCount
from lingo_hitl.curation.page import CORPUS, INK, RANDOM, SAMPLE, compact, layout, readable, shortened
from lingo_hitl.curation.pool import NO_VECTOR, Floats, Ints, Pool

_BINS, _RUG, _DOTS, _LIT, _SOURCES = 40, 1_500, 20_000, 4_000, 12
_HOVER_WIDTH, _HOVER_LENGTH = 44, 90
_LABELLED_CELLS = 150
OTHER = "기타 · other"


def length_histogram(corpus: Ints, sample: Ints) -> Any:
    """Shares of rows by length, corpus and sample; the longest half percent is in the last bar."""
    low, high = int(corpus.min()), int(np.quantile(corpus, 0.995))
    width = max(1, -(-(high - low + 1) // _BINS))
    edges = np.arange(low, high + width + 1, width)
    names = [f"{left:,}" if width == 1 else f"{left:,} to {left + width - 1:,}" for left in edges[:-1].tolist()]
    if corpus.max() >= edges[-1]:
        names[-1] = f"{int(edges[-2]):,} to {int(corpus.max()):,}"
    figure = _histogram(edges - 0.5, corpus, sample, [f"{name} characters" for name in names])
    figure.update_layout(layout("characters", "share of rows"))
    return figure.update_xaxes(dtick=1 if len(edges) < 12 and width == 1 else None, tickformat=",d")


def perplexity_histogram(corpus: Floats, sample: Floats) -> Any:
    """Shares of rows by perplexity on a log axis, and a tick below for each sampled row (the finite ones given)."""
    import plotly.graph_objects as go

    # Logarithms on a plain axis: bars of equal width on plotly's log axis would not be.
    logs, picked = np.log10(np.maximum(corpus, 1)), np.log10(np.maximum(sample, 1))
    low, high = np.quantile(logs, [0.002, 0.995])
    if high - low < 0.5:
        low, high = (low + high) / 2 - 0.5, (low + high) / 2 + 0.5
    edges = np.linspace(low, high, _BINS + 1)
    names = [f"perplexity {compact(10**a)} to {compact(10**b)}" for a, b in pairwise(edges)]
    figure = _histogram(edges, logs, picked, names)
    powers = np.arange(np.floor(edges[0]), np.ceil(edges[-1]) + 1)
    powers = powers[:: len(powers) // 8 + 1]
    places = [(power, digit) for power in powers for digit in ((1,) if len(powers) > 4 else (1, 3))]
    figure.update_layout(layout("perplexity (log scale)", "share of rows"))
    figure.update_layout(
        xaxis={
            "tickvals": [power + np.log10(digit) for power, digit in places],
            "ticktext": [compact(digit * 10**power) for power, digit in places],
            "range": [edges[0] - 0.02, edges[-1] + 0.02],
        }
    )
    if not len(picked):
        return figure
    ticks = np.quantile(picked, np.linspace(0, 1, _RUG)) if len(picked) > _RUG else picked
    figure.add_trace(
        go.Scatter(
            x=ticks.clip(edges[0], edges[-1]),
            y=np.zeros(len(ticks)),
            yaxis="y2",
            mode="markers",
            marker={"symbol": "line-ns", "size": 10, "line": {"width": 1, "color": SAMPLE}, "opacity": 0.55},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    below = {"domain": [0, 0.07], "visible": False, "range": [-1, 1]}
    return figure.update_layout(xaxis={"anchor": "y2"}, yaxis={"domain": [0.1, 1]}, yaxis2=below)


def coverage_curve(measures: Measures) -> Any:
    """The share of the corpus within each distance of the sample, beside that of a random sample."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for found, name, colour, dash in (
        (measures.random_coverage, "random sample of the same size", RANDOM, "dot"),
        (measures.coverage, "this sample", SAMPLE, "solid"),
    ):
        if found:
            line = {"color": colour, "width": 2.5, "dash": dash}
            hover = "%{y:.0%} of the corpus within %{x:.3f}"
            y = np.linspace(0, 1, len(found.quantiles))
            figure.add_trace(
                go.Scatter(x=found.quantiles, y=y, name=name, mode="lines", line=line, hovertemplate=hover)
            )
    figure.update_layout(layout("cosine distance to the nearest sampled row", "share of the corpus"))
    return figure.update_layout(yaxis={"tickformat": ".0%", "range": [0, 1.02]}, xaxis={"rangemode": "tozero"})


def vector_map(pool: Pool, selection: Selection, sources: pa.Array | None, seed: int) -> tuple[Any, float]:
    """Vectors on their two principal axes: corpus rows as quiet dots, the sample lit; and their share of variance.

    At most 20,000 dots, of which at most 4,000 are lit, drawn by `seed`.
    """
    import plotly.graph_objects as go
    from sklearn.decomposition import PCA

    known = pool.vector_of != NO_VECTOR
    lit = _drawn(np.flatnonzero(known & selection.selected), _LIT, seed)
    quiet = _drawn(np.flatnonzero(known & ~selection.selected), _DOTS - len(lit), seed)
    rows = np.concatenate([quiet, lit])
    vectors = unit_vectors(pool, pool.vector_of[rows])
    axes = PCA(n_components=min(2, *vectors.shape), random_state=seed)
    spot = np.zeros((len(rows), 2), dtype=np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):  # one row, or equal ones, have no variance to share
        spot[:, : axes.n_components] = axes.fit_transform(vectors)
        told = float(np.nan_to_num(axes.explained_variance_ratio_).sum())
    figure = go.Figure()
    size = float(np.clip(12 - 2 * np.log10(len(rows)), 3.5, 10))
    for members, place, name, marker in (
        (quiet, spot[: len(quiet)], "corpus", {"color": CORPUS, "size": size, "opacity": 0.55}),
        (lit, spot[len(quiet) :], "sampled", {"color": SAMPLE, "size": size + 2.5, "opacity": 0.9}),
    ):
        hover = _hovers(pool, selection, sources, members)
        dots = {"mode": "markers", "marker": marker, "name": name, "text": hover}
        figure.add_trace(go.Scattergl(x=place[:, 0], y=place[:, 1], hovertemplate="%{text}<extra></extra>", **dots))
    hidden = {"visible": False, "rangemode": "normal"}
    figure.update_layout(layout(), xaxis=hidden, yaxis=hidden, dragmode="pan", height=560)
    return figure.update_layout(legend={"itemsizing": "constant"}, margin={"l": 0, "r": 0, "b": 0}), told


def source_bars(sources: Sequence[SourceCount], measures: Measures) -> Any:
    """Shares of the largest sources in corpus and sample."""
    import plotly.graph_objects as go

    rest = sources[_SOURCES:]
    shown = [*sources[:_SOURCES]]
    if rest:
        shown.append(SourceCount(OTHER, sum(s.corpus for s in rest), sum(s.sample for s in rest)))
    names = [html.escape(shortened(readable(s.source), 28)) for s in shown]
    figure = go.Figure()
    for name, colour, counts, total in (
        ("sample", SAMPLE, [s.sample for s in shown], measures.selected),
        ("corpus", CORPUS, [s.corpus for s in shown], measures.rows),
    ):
        shares = [count / max(total, 1) for count in counts]
        figure.add_trace(
            go.Bar(
                # Numbers and not names as places: two long names may begin alike.
                y=list(range(len(shown))),
                x=shares,
                orientation="h",
                name=name,
                marker={"color": colour},
                text=[f"{share:.1%}" for share in shares],
                textposition="outside",
                cliponaxis=False,
                customdata=[f"{names[i]}: {count:,} rows of the {name}" for i, count in enumerate(counts)],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    figure.update_layout(layout("share of rows", ""), barmode="group", bargap=0.3)
    labels = {"tickvals": list(range(len(shown))), "ticktext": names, "automargin": True, "showgrid": False}
    most = max((share for trace in figure.data for share in trace.x), default=1)
    return figure.update_layout(
        yaxis={**labels, "range": [len(shown) - 0.4, -0.6]},
        xaxis={"tickformat": ".0%", "range": [0, most * 1.12]},
        legend={"traceorder": "reversed"},
        height=max(330, 100 + 44 * len(shown)),
    )


def quota_map(pool: Pool, selection: Selection) -> Any:
    """Rows and sampled rows of each cluster, a line for each length group, the largest cluster first."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    groups = np.unique(selection.groups[selection.groups >= 0]).tolist()
    sizes, taken = [], []
    for group in groups:
        inside = selection.groups == group
        _, place, counts = np.unique(selection.clusters[inside], return_inverse=True, return_counts=True)
        chosen = np.bincount(place, weights=selection.selected[inside], minlength=len(counts)).astype(np.int64)
        order = np.argsort(-counts, kind="stable")
        sizes.append(counts[order].tolist())
        taken.append(chosen[order].tolist())
    names = [group_name(pool, selection, group) for group in groups]
    width = max(map(len, sizes), default=0)
    gap = 1 if width <= 120 else 0
    figure = make_subplots(1, 2, shared_yaxes=True, subplot_titles=["rows", "sampled rows"], horizontal_spacing=0.03)
    # A cluster that gave one row must be told from one that gave none: a step in the scale between 0 and 1.
    step = 0.5 / max((max(line) for line in taken), default=1) if any(map(any, taken)) else 1
    blues = [[0, "#f4f4f1"], [step, "#f4f4f1"], [step, "#b9d0ea"], [1, "#174a86"]]
    hover = [
        [f"{size:,} rows, {chosen:,} sampled" for size, chosen in zip(*pair, strict=True)]
        for pair in zip(sizes, taken, strict=True)
    ]
    for column, (values, scale) in enumerate(((sizes, [[0, "#e8ebee"], [1, "#52606d"]]), (taken, blues)), 1):
        figure.add_trace(
            go.Heatmap(
                z=[line + [None] * (width - len(line)) for line in values],
                y=list(range(len(names))),
                colorscale=scale,
                zmin=0,
                zmax=max((max(line) for line in values), default=0) or 1,
                showscale=False,
                xgap=gap,
                ygap=2,
                hoverongaps=False,
                customdata=[line + [""] * (width - len(line)) for line in hover],
                texttemplate="%{z:,}" if width * len(names) <= _LABELLED_CELLS and width <= 20 else None,
                hovertemplate="%{customdata}<extra></extra>",
            ),
            1,
            column,
        )
    figure.update_layout(layout(), height=min(110 + 34 * max(len(names), 2), 800), margin={"t": 30, "b": 34})
    title = {"text": "clusters, the largest first", "font": {"size": 12.5}, "standoff": 10}
    bare = {"showgrid": False, "zeroline": False, "showline": False, "ticks": ""}
    figure.update_xaxes(showticklabels=False, title=title, **bare)
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], automargin=True, **bare)
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=names, col=1)
    return figure.update_annotations(font={"size": 13, "color": INK})


def group_name(pool: Pool, selection: Selection, group: int) -> str:
    """Such as `12 to 18 characters`."""
    lengths = pool.lengths[selection.groups == group]
    low, high = int(lengths.min()), int(lengths.max())
    return f"{low:,} characters" if low == high else f"{low:,} to {high:,} characters"


def _histogram(edges: NDArray[Any], corpus: NDArray[Any], sample: NDArray[Any], names: list[str]) -> Any:
    """Bars for the corpus and an outline for the sample, both as shares; what lies outside is in the end bins."""
    import plotly.graph_objects as go

    shares = []
    for values in (corpus, sample):
        inside = values.clip(edges[0], np.nextafter(edges[-1], edges[0]))
        shares.append(np.histogram(inside, edges)[0] / max(len(values), 1))
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    told = [f"{name}<br>corpus {a:.1%}, sample {b:.1%}" for name, a, b in zip(names, *shares, strict=True)]
    hover = {"customdata": told, "hovertemplate": "%{customdata}<extra></extra>"}
    bars = go.Bar(x=middle, y=shares[0], width=width * 0.94, name="corpus", marker={"color": CORPUS}, **hover)
    x, y = np.repeat(edges, 2), np.concatenate([[0], np.repeat(shares[1], 2), [0]])
    line = {"color": SAMPLE, "width": 2.2}
    outline = go.Scatter(x=x, y=y, mode="lines", name="sample", line=line, hoverinfo="skip")
    return go.Figure([bars, outline]).update_layout(yaxis={"tickformat": ".1~%"}, hovermode="closest")


def _hovers(pool: Pool, selection: Selection, sources: pa.Array | None, rows: Ints) -> list[str]:
    texts = pool.texts.take(pa.array(rows)).to_pylist()
    tags = sources.take(pa.array(rows)).to_pylist() if sources is not None else [None] * len(rows)
    hovers = []
    for text, tag, row in zip(texts, tags, rows.tolist(), strict=True):
        short = shortened(" ".join(readable(text).split()), _HOVER_LENGTH)
        facts = [html.escape(shortened(readable(tag), 28))] if tag else []
        if np.isfinite(pool.perplexity[row]):
            facts.append(f"perplexity {compact(pool.perplexity[row])}")
        if selection.groups[row] >= 0:
            facts.append(f"cluster {selection.groups[row]}.{selection.clusters[row]}")
        lines = [html.escape(line) for line in textwrap.wrap(short, _HOVER_WIDTH)]
        hovers.append("<br>".join([*lines, f"<i>{' · '.join(facts)}</i>"]))
    return hovers


def _drawn(rows: Ints, most: int, seed: int) -> Ints:
    return rows if len(rows) <= most else np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
