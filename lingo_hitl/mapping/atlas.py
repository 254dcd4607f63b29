"""The map as a picture: one HTML file that opens in any browser, with nothing to load from elsewhere."""

from __future__ import annotations

import html
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lingo_hitl.mapping.clusters import NOISE
from lingo_hitl.records import main_text

_FONT = "'Noto Sans KR', 'Apple SD Gothic Neo', 'Malgun Gothic', 'Noto Sans CJK KR', 'Nanum Gothic', sans-serif"
_INK, _FAINT, _PAPER = "#1f2933", "#c4ccd4", "#fbfbf9"
# Tableau's twenty, the strong ones first: neighbours in size are far apart in hue.
_TABLEAU = """
#4e79a7 #f28e2b #59a14f #e15759 #b07aa1 #edc948 #76b7b2 #9c755f #ff9da7 #86bcb6
#d37295 #8cd17d #b6992d #499894 #fabfd2 #79706e #d4a6c8 #a0cbe8 #ffbe7d #bab0ac
"""
_COLOURS = tuple(_TABLEAU.split())
_CANVAS = (1100, 760)  # pixels for which names are laid out; on a larger screen they have more room
_LINE, _WIDE, _NARROW = 20, 12.5, 6.8  # pixels: height of a name, width of a Hangul and of a Latin letter
_HOVER_WIDTH, _HOVER_LENGTH = 44, 220

_PAGE = """<!doctype html>
<html lang="ko">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
html, body {{ height: 100%; margin: 0; background: {paper}; color: {ink}; font-family: {font}; }}
body {{ display: flex; flex-direction: column; }}
header {{ padding: 14px 22px 4px; }}
h1 {{ font-size: 19px; margin: 0; }}
p {{ font-size: 13px; margin: 3px 0 0; color: #616e7c; }}
main {{ flex: 1; min-height: 0; }}
main > div {{ height: 100%; }}
</style>
</head>
<body>
<header><h1>{title}</h1><p>{summary}</p></header>
<main>{figure}</main>
</body>
</html>
"""


def write_atlas(rows: pa.Table, path: Path, *, title: str) -> None:
    """Draw mapped `rows` as one self-contained HTML page at `path`: a point for each row, coloured by cluster.

    Hovering shows the text; a click on a name in the legend hides that cluster, a double click shows it
    alone. Texts are escaped: nothing in a row can become markup or script.
    """
    import plotly.graph_objects as go

    columns = ("task", "instruction", "messages", "x", "y", "cluster_id", "cluster", "perplexity")
    points = rows.select([name for name in columns if name in rows.column_names]).to_pylist()
    clusters = _by_cluster(points)
    figure = go.Figure([_trace(label, members, len(points)) for label, members in clusters.items()])
    figure.update_layout(
        annotations=_names(clusters, points),
        font={"family": _FONT, "size": 12, "color": _INK},
        paper_bgcolor=_PAPER,
        plot_bgcolor=_PAPER,
        margin={"l": 16, "r": 16, "t": 8, "b": 16},
        legend={"itemsizing": "constant", "font": {"size": 12}, "tracegroupgap": 0, "bgcolor": "rgba(0,0,0,0)"},
        hoverlabel={"align": "left", "bgcolor": "white", "font": {"family": _FONT, "size": 13, "color": _INK}},
        dragmode="pan",
        xaxis=_axis(),
        yaxis=_axis(),
    )
    found = len(clusters) - (NOISE in clusters)
    page = _PAGE.format(
        title=html.escape(_readable(title)),
        summary=f"{len(points):,} rows · {found} clusters · hover a point to read it, click a name to hide a cluster",
        figure=figure.to_html(
            full_html=False,
            include_plotlyjs=True,
            default_height="100%",
            div_id="atlas",
            config={"scrollZoom": True, "displaylogo": False, "responsive": True},
        ),
        paper=_PAPER,
        ink=_INK,
        font=_FONT,
    )
    path.write_text(page, encoding="utf-8")


def _by_cluster(points: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    """Points by cluster, the largest cluster first and those in none last."""
    clusters: dict[int, list[dict[str, Any]]] = {}
    for point in sorted(points, key=lambda p: p["cluster_id"] if p["cluster_id"] != NOISE else 2**31):
        clusters.setdefault(point["cluster_id"], []).append(point)
    return clusters


def _trace(label: int, members: list[dict[str, Any]], rows: int) -> Any:
    import plotly.graph_objects as go

    size = float(np.clip(14 - 2 * np.log10(max(rows, 1)), 3.5, 10))
    noise = label == NOISE
    return go.Scattergl(
        x=[point["x"] for point in members],
        y=[point["y"] for point in members],
        mode="markers",
        name=html.escape(f"{members[0]['cluster']} ({len(members):,})"),
        marker={
            "size": size * (0.7 if noise else 1),
            "color": _FAINT if noise else _COLOURS[label % len(_COLOURS)],
            "opacity": 0.5 if noise else 0.8,
        },
        text=[_hover(point) for point in members],
        hovertemplate="%{text}<extra></extra>",
    )


def _names(clusters: dict[int, list[dict[str, Any]]], points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The clusters' names at their places, the largest first; one that would cover another is left to the legend."""
    scale = _scale(points)
    boxes: list[tuple[float, float, float]] = []
    shown = []
    for label, members in clusters.items():
        if label == NOISE:
            continue
        x, y = _middle(members)
        left, top = (x - scale[0]) * scale[2], (y - scale[1]) * scale[3]
        width = sum(_WIDE if ord(letter) > 0x1100 else _NARROW for letter in members[0]["cluster"])
        if any(abs(top - t) < _LINE and abs(left - m) < (width + w) / 2 + 6 for m, t, w in boxes):
            continue
        boxes.append((left, top, width))
        shown.append(_name(members[0]["cluster"], x, y))
    return shown


def _scale(points: list[dict[str, Any]]) -> tuple[float, float, float, float]:
    """Least x and y on the map, and pixels for a unit of each."""
    places = np.array([[point["x"], point["y"]] for point in points], dtype=float).reshape(-1, 2)
    if not len(places):
        return 0.0, 0.0, 1.0, 1.0
    least, span = places.min(axis=0), np.maximum(np.ptp(places, axis=0), 1e-9)
    return float(least[0]), float(least[1]), _CANVAS[0] / float(span[0]), _CANVAS[1] / float(span[1])


def _middle(members: list[dict[str, Any]]) -> tuple[float, float]:
    """The point of a cluster that is nearest to its median: never in the gap between two of its parts."""
    places = np.array([[point["x"], point["y"]] for point in members], dtype=float)
    nearest = np.abs(places - np.median(places, axis=0)).sum(axis=1).argmin()
    return float(places[nearest, 0]), float(places[nearest, 1])


def _name(text: str, x: float, y: float) -> dict[str, Any]:
    return {
        "x": x,
        "y": y,
        "text": f"<b>{html.escape(text)}</b>",
        "showarrow": False,
        "font": {"size": 12, "color": _INK},
        "bgcolor": "rgba(251,251,249,0.78)",
        "borderpad": 2,
    }


def _hover(point: dict[str, Any]) -> str:
    text = " ".join(_readable(main_text(point)).split())
    short = text if len(text) <= _HOVER_LENGTH else text[:_HOVER_LENGTH] + "…"
    lines = [html.escape(line) for line in textwrap.wrap(short, _HOVER_WIDTH)]
    facts = f"{point['task']} · {html.escape(point['cluster'])}"
    if point["perplexity"] is not None:
        facts += f" · perplexity {point['perplexity']:,.0f}"
    return "<br>".join([*lines, f"<span style='color:#616e7c'>{facts}</span>"])


def _readable(text: str) -> str:
    """Without what a UTF-8 page cannot hold."""
    return text.encode("utf-8", "replace").decode().replace("\0", "")


def _axis() -> dict[str, Any]:
    return {"visible": False, "showgrid": False, "zeroline": False}
