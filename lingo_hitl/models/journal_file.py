"""The journal's file: its tables, how it is told from any other file, and what its faults mean."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from lingo_hitl.errors import UserError

_APPLICATION = int.from_bytes(b"LHJ1")  # SQLite's field for whose a file is
_VERSION = 3
_SCHEMA = """
CREATE TABLE IF NOT EXISTS completions (
    key BLOB PRIMARY KEY,
    model TEXT NOT NULL,
    text TEXT,
    finish TEXT NOT NULL,
    note TEXT,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    seconds REAL NOT NULL,
    cost REAL,
    at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (
    variable TEXT, model TEXT, period INTEGER, count INTEGER NOT NULL, PRIMARY KEY (variable, model, period)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    day TEXT, model TEXT, currency TEXT,
    calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost REAL NOT NULL,
    PRIMARY KEY (day, model, currency)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS runs (
    number INTEGER PRIMARY KEY, stage TEXT NOT NULL, started TEXT NOT NULL, finished TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS uses (
    key BLOB, stage TEXT, run INTEGER, PRIMARY KEY (key, stage, run)
) STRICT, WITHOUT ROWID;
"""


def opened(path: Path | None, *, read_only: bool) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Two connections to the journal at `path`, to write and to read; the file is made where it is absent.

    A file that is not a journal, and one that is only read, stays as it is. None: a journal in memory.

    Raises:
        UserError: the file is not a journal, or one of another version.
        sqlite3.Error: it is not whole, or cannot be opened.
        OSError: its folder cannot be made.
    """
    if path is None:
        db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        _set_up(db)
        return db, db
    if read_only:
        db = _connected(f"{path.absolute().as_uri()}?mode=ro{'' if _in_use(path) else '&immutable=1'}")
        _check(db, path, may_be_new=False)
        return db, db
    path.parent.mkdir(parents=True, exist_ok=True)
    address = path.absolute().as_uri()
    db = _connected(address)
    _check(db, path, may_be_new=True)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    _set_up(db)
    # Reading must not wait for a write that waits for the disk.
    return db, _connected(address)


def unusable(path: Path | None, error: Exception) -> UserError:
    """A fault of the disk or of SQLite, in the user's words."""
    if isinstance(error, OSError) or "unable to open" in str(error) or "readonly" in str(error):
        return UserError(f"{path}: the journal cannot be written ({error}). Check the folder's permissions.")
    # SQLite knows a full disk (ENOSPC); a quota or a limit on file sizes is an I/O error like any other to it.
    if "full" in str(error) or "locked" in str(error) or "I/O error" in str(error):
        return UserError(
            f"{path}: the journal cannot be written ({error}). Is the disk full? Mend that and run again: "
            "the run resumes where it stopped."
        )
    return UserError(
        f"{path}: is not a whole journal ({error}). Move it away, and what it held is asked for again; "
        f"or rescue it with `sqlite3 {path} .recover`."
    )


def _connected(address: str) -> sqlite3.Connection:
    return sqlite3.connect(address, uri=True, timeout=60, check_same_thread=False, isolation_level=None)


def _check(db: sqlite3.Connection, path: Path, *, may_be_new: bool) -> None:
    # In one statement, for another process may be making the same file.
    application, version, tables = db.execute(
        "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_master) "
        "FROM pragma_application_id, pragma_user_version"
    ).fetchone()
    if may_be_new and (application, version, tables) == (0, 0, 0):
        return
    if application != _APPLICATION:
        raise UserError(f"{path}: is no journal of lingo-hitl. Give one, such as WORKDIR/journal.sqlite.")
    if version != _VERSION:
        raise UserError(
            f"{path}: written by another lingo-hitl (journal version {version}, known here: {_VERSION}). "
            "Use that one, or move the file away."
        )
    damage = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise sqlite3.DatabaseError(damage.replace("\n", " "))


def _set_up(db: sqlite3.Connection) -> None:
    db.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id={_APPLICATION}; PRAGMA user_version={_VERSION}; COMMIT"
    )


def _in_use(path: Path) -> bool:
    """Whether SQLite must look for changes beside the file; else it would leave files of its own there."""
    return path.with_name(f"{path.name}-wal").exists()
