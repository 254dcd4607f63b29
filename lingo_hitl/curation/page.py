"""One HTML page of numbers and pictures, with nothing to load from elsewhere and no text that can become markup."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FONT = "'Noto Sans KR', 'Apple SD Gothic Neo', 'Malgun Gothic', 'Noto Sans CJK KR', 'Nanum Gothic', sans-serif"
INK, PAPER, CORPUS, SAMPLE, RANDOM = "#1f2933", "#fbfbf9", "#c4ccd4", "#2f6db5", "#e8890c"
_GRID, _LINE = "#eceff2", "#cbd2d9"


@dataclass(frozen=True)
class Fact:
    """A number that matters, and what it says."""

    name: str
    number: str
    note: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure under a name in English and Korean; without a figure only the note is shown.

    Attributes:
        key: the id of the figure's element.
        figure: a plotly figure whose texts are escaped.
        wide: over the whole page and not half of it.
    """

    key: str
    name: str
    korean: str
    note: str
    figure: Any = None
    wide: bool = False

    @property
    def html(self) -> str:
        """The element, and the script that draws into it with the plotly that is on the page."""
        if self.figure is None:
            return ""
        return str(
            self.figure.to_html(
                full_html=False,
                include_plotlyjs=False,
                div_id=self.key,
                default_height=f"{self.figure.layout.height or 330}px",
                config={"displaylogo": False, "responsive": True, "scrollZoom": self.figure.layout.dragmode == "pan"},
            )
        )


def write_page(
    path: Path, template: str, *, title: str, facts: list[Fact], pictures: list[Picture], **rest: Any
) -> None:
    """Fill `template`, one of those beside this file, and write it to `path`; all texts but plotly's are escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    halves = [picture for picture in pictures if not picture.wide]
    if len(halves) % 2:  # the last one would stand beside nothing
        pictures = [replace(picture, wide=True) if picture is halves[-1] else picture for picture in pictures]
    environment = Environment(
        loader=PackageLoader("lingo_hitl.curation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        finalize=lambda value: readable(value) if isinstance(value, str) else value,
    )
    page = environment.get_template(template).render(
        {"title": title, "facts": facts, "pictures": pictures, "plotly": get_plotlyjs(), **rest}
        | {"font": FONT, "ink": INK, "paper": PAPER, "corpus": CORPUS, "sample": SAMPLE}
    )
    path.write_text(page, encoding="utf-8")


def layout(x: str = "", y: str = "") -> dict[str, Any]:
    """What all figures share: font, colours, margins, and axes with these titles."""
    axis = {"zeroline": False, "linecolor": _LINE, "gridcolor": _GRID, "tickangle": 0, "automargin": True}
    titles = [{"text": text, "standoff": 10, "font": {"size": 12.5}} for text in (x, y)]
    return {
        "template": "none",
        "font": {"family": FONT, "size": 12.5, "color": INK},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "margin": {"l": 56, "r": 14, "t": 8, "b": 46},
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.0, "yanchor": "bottom"},
        "hoverlabel": {"align": "left", "bgcolor": "white", "font": {"family": FONT, "size": 13, "color": INK}},
        "xaxis": {**axis, "title": titles[0], "showgrid": False},
        "yaxis": {**axis, "title": titles[1], "rangemode": "tozero"},
    }


def readable(text: str) -> str:
    """Without what an HTML page cannot hold: NUL, and halves of surrogate pairs."""
    # Of its own type: what jinja2 knows as safe markup must stay that.
    return type(text)(text.replace("\0", "").encode("utf-8", "replace").decode())


def shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"


def nearer(distance: float, at_random: float) -> str:
    """Such as `12% nearer` than a random sample."""
    change = 1 - distance / at_random if at_random else 0.0
    return f"{abs(change):.0%} {'nearer' if change >= 0 else 'farther'}" if round(abs(change), 2) else "as random"


def compact(number: float) -> str:
    """A positive number in few letters: 3.14, 1,234, 56.7M."""
    if number >= 1e15:
        return f"{number:.0e}"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:,.3g}{letter}"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
