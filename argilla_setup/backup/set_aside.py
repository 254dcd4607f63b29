"""Files of a home that do not belong to the database it gets: kept under another name, never deleted."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from argilla_setup.home import Home


def set_aside(files: Iterable[Path], *, before: str) -> list[Path]:
    """Rename those that are there to NAME.before-`before`, with a number where that is taken; the new names."""
    renamed = []
    for file in files:
        if not file.is_file():
            continue
        target, number = file.with_name(f"{file.name}.before-{before}"), 1
        while target.exists():
            number += 1
            target = file.with_name(f"{file.name}.before-{before}-{number}")
        file.rename(target)
        renamed.append(target)
    return renamed


def waiting_jobs(place: Home) -> list[Path]:
    """Where the jobs of a stopped home wait: the next start would do them, on whatever database it then finds."""
    return [*sorted(place.redis_data.glob("*.aof")), place.unsent_jobs]
