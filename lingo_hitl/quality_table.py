"""What `lingo-hitl quality` prints: how many dialogues stay, and each figure before and after."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from lingo_hitl.curation.quality import Sifted, mean
from lingo_hitl.curation.quality_report import number, quantile
from lingo_hitl.judging.dialogue_quality.figures import FIGURES


def print_quality(sifted: Sifted, console: Console | None = None) -> None:
    """Print it as a table; the arrows go from all dialogues to the kept ones."""
    console = console or Console()
    table = Table("", "limit", "beyond", "mean", "95th percentile", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, (english, korean) in FIGURES.items():
        values, limit = sifted.figures[name], getattr(sifted.limits, name)
        kept = values[sifted.kept]
        table.add_row(
            f"{english} · {korean}",
            "none" if limit is None else f"{limit:g}",
            f"{sifted.beyond(name):,}",
            f"{number(mean(values))} → {number(mean(kept))}",
            f"{number(quantile(values, 0.95))} → {number(quantile(kept, 0.95))}",
        )
    console.print(table, highlight=False)
