"""The logs that a program only ever appends to: what it prints, and what pip and Redis print."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LOG_BYTES = 5 * 1024**2
LOG_FILES = 4
"""Older ones kept beside a log."""


def rotate(log: Path, *, limit: int = LOG_BYTES, keep: int = LOG_FILES) -> bool:
    """Where `log` is above `limit` bytes, move what it holds to `log.1`, and older ones one number up.

    Copied and emptied rather than renamed: the process that writes to it has it open, and appends.
    """
    try:
        if log.stat().st_size <= limit:
            return False
        for number in range(keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                _numbered(log, number).replace(_numbered(log, number + 1))
        first = _numbered(log, 1)
        first.touch(mode=0o600)
        shutil.copyfile(log, first)
        with log.open("r+b") as handle:
            handle.truncate(0)
    except OSError:
        # A full disk must not end who watches over the server.
        return False
    return True


def rotating_handler(log: Path) -> logging.Handler:
    """For a process that writes its own log through `logging`."""
    handler = logging.handlers.RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")
