"""A benchmark in sections, each of which tells its lines as they come; in the end they are one table."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class Line(NamedTuple):
    """One line of the table; `target` is what the ratio has to keep to."""

    what: str
    ours: str
    beside: str = ""
    ratio: str = ""
    target: str = ""


def run_sections(
    title: str, sections: Sequence[str], measure: Callable[[str, Path], Iterator[Line]], folder: Path | None
) -> None:
    """Measure section by section in `folder`, or where it is None in one that is gone afterwards; print the table."""
    kept, folder = folder is not None, (folder or Path(tempfile.mkdtemp(prefix="lh-bench-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    table = Table(title=title)
    for column in Line._fields:
        table.add_column(column, justify="left" if column == "what" else "right")
    try:
        for section in sections:
            for line in measure(section, folder):
                print(*filter(None, line), sep=" · ", file=sys.stderr, flush=True)
                table.add_row(*line)
            table.add_section()
        Console(width=max(Console().width, 120)).print(table)
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)
