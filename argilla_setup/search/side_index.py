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

from argilla_setup.search.side_file import create_file, identity, open_file
from argilla_setup.search.text_match import EVERY, EVERY_TOKEN, columns_of
from argilla_setup.search.text_tokens import BREAK, index_tokens, joined_tokens
from argilla_setup.search.user_order import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

FEWEST_DEAD = 1000

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


def words_of(dataset_id: str) -> str:
    """The name of the table that lists the words in it."""
    return f"words_{dataset_id}"


class SideIndex:
    """The file and the one connection that writes to it; safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection = open_file(path)
        self._file = identity(path)

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
            names = _names(columns)
            table = table_of(dataset_id)
            connection.execute(f"CREATE VIRTUAL TABLE {table} USING fts5({names}, content='', tokenize='ascii')")
            connection.execute(f"CREATE VIRTUAL TABLE {words_of(dataset_id)} USING fts5vocab({table}, 'row')")
            connection.execute(
                "INSERT INTO datasets (dataset_id, columns) VALUES (?, ?)", (dataset_id, json.dumps(list(columns)))
            )

    def delete_dataset(self, dataset_id: str) -> None:
        with self._write() as connection:
            self._drop(dataset_id)
            rows = connection.execute("SELECT DISTINCT settings_id FROM vectors WHERE dataset_id = ?", (dataset_id,))
            self._removed(connection, {row[0] for row in rows.fetchall()})
            connection.execute("DELETE FROM vectors WHERE dataset_id = ?", (dataset_id,))

    def columns(self, dataset_id: str) -> list[str] | None:
        """The names of the fields whose text is indexed, in the order of the table's columns c0, c1, ..."""
        with self._lock:
            row = self._connection.execute(
                "SELECT columns FROM datasets WHERE dataset_id = ?", (dataset_id,)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def write(self, dataset_id: str, records: Iterable[IndexedRecord]) -> None:
        """Index records anew; a state that is older than the indexed one is passed over.

        LookupError where the dataset has no text table.
        """
        with self._write() as connection:
            columns = self.columns(dataset_id)
            if columns is None:
                raise LookupError(f"dataset {dataset_id} has no text table")
            replaced: set[str] = set()
            for record in records:
                self._write_text(connection, dataset_id, columns, record)
                replaced |= self._write_vectors(connection, dataset_id, record)
            self._removed(connection, replaced)

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
            self._removed(connection, changed)

    def delete_vectors(self, keys: Sequence[tuple[str, str]]) -> None:
        """Delete by (record id, vector settings id)."""
        with self._write() as connection:
            connection.executemany("DELETE FROM vectors WHERE record_id = ? AND settings_id = ?", keys)
            self._removed(connection, {settings_id for _, settings_id in keys})

    def set_remaining(self, records: int) -> None:
        """Note how many records are still to be indexed, for whoever asks how far it is."""
        with self._write() as connection:
            connection.execute("UPDATE progress SET remaining = ?", (records,))

    def is_in_place(self) -> bool:
        """Whether the path still leads to the file that is open here."""
        try:
            there = self.path.stat()
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == self._file

    def reset(self, fault: str) -> None:
        """Begin anew with an empty file."""
        with self._lock:
            _log.warning("the search index %s is set aside (%s) and built anew", self.path, fault)
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = create_file(self.path)
            self._file = identity(self.path)

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
            "INSERT INTO documents (record_id, dataset_id, number, text_hash, updated_at) VALUES (?, ?, ?, ?, ?)",
            (record.record_id, dataset_id, number_of(record.record_id), digest, record.updated_at),
        ).lastrowid
        texts = [searchable_text(record.fields.get(column)) for column in columns]
        tokens = [form(text) for text in texts for form in (index_tokens, joined_tokens)]
        connection.execute(
            f"INSERT INTO {table_of(dataset_id)} (rowid, {_names(columns)})"
            f" VALUES ({', '.join('?' * (len(tokens) + 2))})",
            (docid, EVERY_TOKEN, *tokens),
        )

    def _write_vectors(self, connection: sqlite3.Connection, dataset_id: str, record: IndexedRecord) -> set[str]:
        """Returns the settings of which a vector was replaced."""
        replaced = set()
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
                replaced.add(settings_id)
            connection.execute(
                "INSERT INTO vectors (record_id, settings_id, dataset_id, updated_at, value) VALUES (?, ?, ?, ?, ?)",
                (record.record_id, settings_id, dataset_id, updated_at, unit_vector(value).tobytes()),
            )
        return replaced

    def _removed(self, connection: sqlite3.Connection, settings_ids: set[str]) -> None:
        """Tell whoever holds these vectors in memory, in any process, that some of them are gone."""
        connection.executemany(
            "INSERT INTO removals VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1",
            [(settings_id,) for settings_id in settings_ids],
        )

    def _drop(self, dataset_id: str) -> None:
        self._connection.execute(f"DROP TABLE IF EXISTS {words_of(dataset_id)}")
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


def written_time(moment: datetime) -> str:
    """As Argilla's SQLite stores a time, and this index."""
    return moment.isoformat(" ", "microseconds")


def text_hash(fields: dict[str, Any]) -> bytes:
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).digest()


def searchable_text(value: Any) -> str:
    """The words of a field: a text, the roles and contents of a chat, or the keys and values of a custom field."""
    if value is None:
        return ""
    if isinstance(value, dict):
        if {"role", "content"} <= value.keys():
            return f"{value['role']} {BREAK} {searchable_text(value['content'])}"
        return ", ".join(f"{key}: {searchable_text(leaf)}" for key, leaf in value.items())
    if isinstance(value, list):
        return f" {BREAK} ".join(searchable_text(item) for item in value)
    return str(value)


def _names(columns: Sequence[str]) -> str:
    """The columns of a dataset's FTS5 table."""
    return ", ".join([EVERY, *(name for field in range(len(columns)) for name in columns_of(field))])


def unit_vector(value: Sequence[float]) -> np.ndarray:
    """float32 of length 1 (zeros stay zeros), so that a dot product is the cosine."""
    vector = np.asarray(value, dtype=np.float64)
    length = float(np.linalg.norm(vector))
    return (vector / length if length > 0 else vector).astype(np.float32)
