"""The file of the side index: its tables, how it is opened, and when it is made anew."""

from __future__ import annotations

import contextlib
import logging
import re
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2
"""Raised when tokens or tables change: a file of another format is built anew."""
_SCHEMA = """
CREATE TABLE datasets (dataset_id TEXT PRIMARY KEY, columns TEXT NOT NULL, dead INTEGER NOT NULL DEFAULT 0);
CREATE TABLE documents (
    docid INTEGER PRIMARY KEY AUTOINCREMENT,
    record_id TEXT NOT NULL UNIQUE,
    dataset_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    text_hash BLOB NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX documents_dataset ON documents (dataset_id);
CREATE TABLE vectors (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    record_id TEXT NOT NULL,
    settings_id TEXT NOT NULL,
    dataset_id TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    value BLOB NOT NULL
);
CREATE UNIQUE INDEX vectors_key ON vectors (settings_id, record_id, updated_at);
CREATE INDEX vectors_settings ON vectors (settings_id);
CREATE INDEX vectors_record ON vectors (record_id);
CREATE INDEX vectors_dataset ON vectors (dataset_id);
CREATE TABLE removals (settings_id TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE progress (remaining INTEGER NOT NULL);
INSERT INTO progress VALUES (0);
"""

_log = logging.getLogger(__name__)


def open_file(path: Path) -> sqlite3.Connection:
    """The file, made anew where it is missing, of another format, or no database."""
    fault: str | None
    try:
        connection = _connect(path)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == FORMAT:
            missing = _missing_tables(connection)
            fault = f"no table {', '.join(missing)}" if missing else None
        else:
            fault = f"format {version}, expected {FORMAT}" if version else "empty"
        if fault is None:
            return connection
        connection.close()
    except sqlite3.DatabaseError as error:
        fault = str(error)
    if fault != "empty":
        _log.warning("the search index %s is set aside (%s) and built anew", path, fault)
    return create_file(path)


def create_file(path: Path) -> sqlite3.Connection:
    """An empty file in place of what is there."""
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    connection = _connect(path)
    connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
    return connection


def damage(path: Path) -> str | None:
    """What is damaged in the file, None where it is whole; reads all of it."""
    try:
        with contextlib.closing(_connect(path)) as connection:
            missing = _missing_tables(connection)
            if missing:
                return f"no table {', '.join(missing)}"
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if answer == "ok" else str(answer)


def _missing_tables(connection: sqlite3.Connection) -> list[str]:
    wanted = re.findall(r"CREATE TABLE (\w+)", _SCHEMA)
    there = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "datasets" in there:
        wanted += [f"text_{row[0]}" for row in connection.execute("SELECT dataset_id FROM datasets")]
    return [name for name in wanted if name not in there]


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    # Derived data: a power cut may take its last commits, never its soundness.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def identity(path: Path) -> tuple[int, int]:
    """Which file lies at the path: another one after it was deleted and made anew."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino
