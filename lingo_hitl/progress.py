"""Progress for long work: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LOG_EVERY_S = 10.0
ENOUGH = 0.1
"""Share of the units from which their pace is told."""


class Advance(Protocol):
    def __call__(self, steps: int = 1) -> None: ...


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Yields a function that is called with the number of units done since the last call."""
    if sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda steps=1: bar.advance(task, steps)
        return
    done, started = 0, time.monotonic()
    last = started

    def advance(steps: int = 1) -> None:
        nonlocal done, last
        done += steps
        if time.monotonic() - last >= LOG_EVERY_S:
            last = time.monotonic()
            left = (last - started) / done * (total - done) if done else 0
            # Where all go forward side by side the first ends late: then nothing can be told yet.
            told = f", about {left:.0f} s left" if done >= ENOUGH * total else ""
            print(f"{what}: {done} of {total}{told}", file=sys.stderr, flush=True)

    yield advance
