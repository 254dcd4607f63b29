"""The side file of the search engine: texts as FTS5 tokens, vectors as float32. All else is read from Argilla's tables.

It can be deleted at any time: what it holds is derived, and `reconcile` fills it again. It names, for each record and
vector, the `updated_at` that was indexed, so that what a crash left out is found by comparing.

FTS5 tables are contentless (the texts are in Argilla's database already), which SQLite can append to but not edit: a
changed or deleted record leaves its old entry behind under a number that nothing points to, until `dead` entries
outnumber the living and the table is rebuilt.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from argilla_setup.text_query import EVERY, EVERY_TOKEN, index_tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

FORMAT = 1
"""Raised when tokens or tables change: a file of another format is built anew."""
FEWEST_DEAD = 1000

_SCHEMA = """
CREATE TABLE datasets (dataset_id TEXT PRIMARY KEY, columns TEXT NOT NULL, dead INTEGER NOT NULL DEFAULT 0);
CREATE TABLE documents (
    docid INTEGER PRIMARY KEY AUTOINCREMENT,
    record_id TEXT NOT NULL UNIQUE,
    dataset_id TEXT NOT NULL,
    text_hash BLOB NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE INDEX documents_dataset ON documents (dataset_id);
CREATE TABLE vectors (
    record_id TEXT NOT NULL,
    settings_id TEXT NOT NULL,
    dataset_id TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    value BLOB NOT NULL
);
CREATE UNIQUE INDEX vectors_key ON vectors (settings_id, record_id, updated_at);
CREATE INDEX vectors_record ON vectors (record_id);
CREATE INDEX vectors_dataset ON vectors (dataset_id);
CREATE TABLE generations (settings_id TEXT PRIMARY KEY, generation INTEGER NOT NULL);
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexedRecord:
    """What the index takes of a record. Ids are 32 hex digits, times as Argilla's SQLite stores them."""

    record_id: str
    updated_at: str
    fields: dict[str, Any]
    vectors: tuple[tuple[str, str, Sequence[float]], ...] = ()
    """(vector settings id, updated_at, value)"""


def table_of(dataset_id: str) -> str:
    """The name of a dataset's FTS5 table."""
    return f"text_{dataset_id}"


class SideIndex:
    """The file and the one connection that writes to it; safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = self._open()

    def close(self) -> None:
        with self._lock:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()

    def create_dataset(self, dataset_id: str, columns: Sequence[str]) -> None:
        """Make the text table for a dataset's fields; nothing to do where it is there with the same fields."""
        with self._write() as connection:
            if self.columns(dataset_id) == list(columns):
                return
            self._drop(dataset_id)
            names = ", ".join([EVERY, *(f"c{position}" for position in range(len(columns)))])
            connection.execute(
                f"CREATE VIRTUAL TABLE {table_of(dataset_id)} USING fts5({names}, content='', tokenize='ascii')"
            )
            connection.execute(
                "INSERT INTO datasets (dataset_id, columns) VALUES (?, ?)", (dataset_id, json.dumps(list(columns)))
            )

    def delete_dataset(self, dataset_id: str) -> None:
        with self._write() as connection:
            self._drop(dataset_id)
            connection.execute("DELETE FROM vectors WHERE dataset_id = ?", (dataset_id,))

    def columns(self, dataset_id: str) -> list[str] | None:
        """The names of the fields whose text is indexed, in the order of the table's columns c0, c1, ..."""
        with self._lock:
            row = self._connection.execute(
                "SELECT columns FROM datasets WHERE dataset_id = ?", (dataset_id,)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def write(self, dataset_id: str, records: Iterable[IndexedRecord]) -> None:
        """Index records anew; a state that is older than the indexed one is passed over."""
        with self._write() as connection:
            columns = self.columns(dataset_id)
            if columns is None:
                raise LookupError(f"dataset {dataset_id} has no text table")
            changed: set[str] = set()
            for record in records:
                self._write_text(connection, dataset_id, columns, record)
                changed |= self._write_vectors(connection, dataset_id, record)
            self._touch(connection, changed)

    def delete(self, record_ids: Sequence[str]) -> None:
        with self._write() as connection:
            changed: set[str] = set()
            for record_id in record_ids:
                connection.execute(
                    "UPDATE datasets SET dead = dead + 1"
                    " WHERE dataset_id = (SELECT dataset_id FROM documents WHERE record_id = ?)",
                    (record_id,),
                )
                connection.execute("DELETE FROM documents WHERE record_id = ?", (record_id,))
                rows = connection.execute(
                    "DELETE FROM vectors WHERE record_id = ? RETURNING settings_id", (record_id,)
                ).fetchall()
                changed |= {row[0] for row in rows}
            self._touch(connection, changed)

    def delete_vectors(self, keys: Sequence[tuple[str, str]]) -> None:
        """Delete by (record id, vector settings id)."""
        with self._write() as connection:
            connection.executemany("DELETE FROM vectors WHERE record_id = ? AND settings_id = ?", keys)
            self._touch(connection, {settings_id for _, settings_id in keys})

    def worn_datasets(self) -> list[str]:
        """Datasets whose text table holds more dead entries than living ones."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT dataset_id FROM datasets AS worn WHERE dead > ? AND dead >"
                " (SELECT count(*) FROM documents WHERE documents.dataset_id = worn.dataset_id)",
                (FEWEST_DEAD,),
            ).fetchall()
        return [row[0] for row in rows]

    def _write_text(
        self, connection: sqlite3.Connection, dataset_id: str, columns: list[str], record: IndexedRecord
    ) -> None:
        digest = text_hash(record.fields)
        known = connection.execute(
            "SELECT text_hash, updated_at FROM documents WHERE record_id = ?", (record.record_id,)
        ).fetchone()
        if known and known[1] > record.updated_at:
            return
        if known and known[0] == digest:
            if known[1] != record.updated_at:
                connection.execute(
                    "UPDATE documents SET updated_at = ? WHERE record_id = ?", (record.updated_at, record.record_id)
                )
            return
        if known:
            connection.execute("DELETE FROM documents WHERE record_id = ?", (record.record_id,))
            connection.execute("UPDATE datasets SET dead = dead + 1 WHERE dataset_id = ?", (dataset_id,))
        docid = connection.execute(
            "INSERT INTO documents (record_id, dataset_id, text_hash, updated_at) VALUES (?, ?, ?, ?)",
            (record.record_id, dataset_id, digest, record.updated_at),
        ).lastrowid
        names = ", ".join(["rowid", EVERY, *(f"c{position}" for position in range(len(columns)))])
        texts = [index_tokens(searchable_text(record.fields.get(column))) for column in columns]
        connection.execute(
            f"INSERT INTO {table_of(dataset_id)} ({names}) VALUES ({', '.join('?' * (len(columns) + 2))})",
            (docid, EVERY_TOKEN, *texts),
        )

    def _write_vectors(self, connection: sqlite3.Connection, dataset_id: str, record: IndexedRecord) -> set[str]:
        changed = set()
        for settings_id, updated_at, value in record.vectors:
            known = connection.execute(
                "SELECT updated_at FROM vectors WHERE settings_id = ? AND record_id = ?",
                (settings_id, record.record_id),
            ).fetchone()
            if known and known[0] >= updated_at:
                continue
            if known:
                connection.execute(
                    "DELETE FROM vectors WHERE settings_id = ? AND record_id = ?", (settings_id, record.record_id)
                )
            connection.execute(
                "INSERT INTO vectors (record_id, settings_id, dataset_id, updated_at, value) VALUES (?, ?, ?, ?, ?)",
                (record.record_id, settings_id, dataset_id, updated_at, unit_vector(value).tobytes()),
            )
            changed.add(settings_id)
        return changed

    def _touch(self, connection: sqlite3.Connection, settings_ids: set[str]) -> None:
        """Tell whoever holds a matrix of these vectors, in any process, that it is out of date."""
        connection.executemany(
            "INSERT INTO generations VALUES (?, 1) ON CONFLICT DO UPDATE SET generation = generation + 1",
            [(settings_id,) for settings_id in settings_ids],
        )

    def _drop(self, dataset_id: str) -> None:
        self._connection.execute(f"DROP TABLE IF EXISTS {table_of(dataset_id)}")
        self._connection.execute("DELETE FROM documents WHERE dataset_id = ?", (dataset_id,))
        self._connection.execute("DELETE FROM datasets WHERE dataset_id = ?", (dataset_id,))

    @contextlib.contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        try:
            connection = _connect(self.path)
            fault = _fault(connection)
        except sqlite3.DatabaseError as error:
            connection, fault = None, str(error)
        if connection is not None and fault is None:
            return connection
        if connection is not None:
            connection.close()
        if self.path.exists() and fault != "empty":
            _log.warning("the search index %s is set aside (%s) and built anew", self.path, fault)
        for file in self.path.parent.glob(f"{self.path.name}*"):
            file.unlink()
        connection = _connect(self.path)
        connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {FORMAT}; COMMIT;")
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    # Derived data: a power cut may take its last commits, never its soundness.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def _fault(connection: sqlite3.Connection) -> str | None:
    """Why the file cannot be used; None where it can."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version != FORMAT:
        return "empty" if version == 0 else f"format {version}, expected {FORMAT}"
    answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    return None if answer == "ok" else f"damaged: {answer}"


def text_hash(fields: dict[str, Any]) -> bytes:
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).digest()


def searchable_text(value: Any) -> str:
    """The words of a field: a text, the messages of a chat, or the leaves of a custom field."""
    if value is None:
        return ""
    if isinstance(value, dict):
        # A chat message's role is left out: a search for "user" would find every conversation.
        leaves = [value["content"]] if {"role", "content"} <= value.keys() else list(value.values())
        return "\n".join(searchable_text(leaf) for leaf in leaves)
    if isinstance(value, list):
        return "\n".join(searchable_text(item) for item in value)
    return str(value)


def unit_vector(value: Sequence[float]) -> np.ndarray:
    """float32 of length 1 (zeros stay zeros), so that a dot product is the cosine."""
    vector = np.asarray(value, dtype=np.float64)
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0 else vector).astype(np.float32)
