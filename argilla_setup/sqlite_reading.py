"""Read a SQLite file of ours without changing it, or making one where there is none."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE_S = 5.0
"""How long to wait for somebody who writes."""


@contextlib.contextmanager
def reading(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads, closed afterwards; sqlite3.Error where the file is missing or no database."""
    uri = f"{file.as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=PATIENCE_S)) as connection:
        yield connection
