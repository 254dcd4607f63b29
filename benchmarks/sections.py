"""A benchmark in sections, each of which tells its lines as they come; in the end they are one table."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table

P = TypeVar("P", bound=Any)  # a dataclass


class Line(NamedTuple):
    """One line of the table; `target` is what the ratio has to keep to."""

    what: str
    ours: str
    beside: str = ""
    ratio: str = ""
    target: str = ""


def plan_of(parser: argparse.ArgumentParser, options: Sequence[str], whole: P, quick: P) -> tuple[P, Path | None]:
    """The plan that `options` ask for, `quick` with --quick, else `whole`, and the folder to keep; the other options
    stand in the place of the plan's fields of their names."""
    given = {name: value for name, value in vars(parser.parse_args(options)).items() if value is not None}
    folder, plan = given.pop("folder", None), quick if given.pop("quick") else whole
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    return replace(plan, **values), folder


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
