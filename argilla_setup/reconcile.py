"""Make the side index equal to Argilla's tables, whatever was killed in between.

Argilla commits first and calls the search engine after: a crash between the two leaves records that no search finds,
or texts and vectors of records that are gone. At each start, and after a failed write, the two are compared by their
`updated_at`.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from argilla_setup.fast_json import loads
from argilla_setup.side_index import IndexedRecord

if TYPE_CHECKING:
    import threading

    from argilla_setup.side_index import SideIndex

BATCH = 500
START_BUDGET_S = 4.0
"""A start waits this long for a search index that is whole; what takes longer goes on while the server answers."""

_log = logging.getLogger(__name__)

_GONE_DATASETS = "SELECT dataset_id FROM side.datasets WHERE dataset_id NOT IN (SELECT id FROM datasets)"
_READY_FIELDS = """
    SELECT datasets.id, fields.name, json_extract(fields.settings, '$.type') FROM datasets
    JOIN fields ON fields.dataset_id = datasets.id WHERE datasets.status = 'ready' ORDER BY fields.inserted_at
"""
# The index keeps the newer of two states. Where the tables hold the older one, as after an older database was put back
# or a clock was set back, what is indexed has to go first.
_GONE_RECORDS = """
    SELECT record_id FROM side.documents WHERE record_id NOT IN (SELECT id FROM records)
    UNION SELECT record_id FROM side.vectors WHERE record_id NOT IN (SELECT id FROM records)
    UNION SELECT record_id FROM side.documents JOIN records ON records.id = record_id
        WHERE documents.updated_at > records.updated_at
"""
_GONE_VECTORS = """
    SELECT indexed.record_id, indexed.settings_id FROM side.vectors AS indexed WHERE NOT EXISTS (
        SELECT 1 FROM vectors
        WHERE vectors.record_id = indexed.record_id AND vectors.vector_settings_id = indexed.settings_id
            AND vectors.updated_at >= indexed.updated_at
    )
"""
_STALE_RECORDS = """
    SELECT records.dataset_id, records.id FROM records
    JOIN side.datasets ON side.datasets.dataset_id = records.dataset_id
    LEFT JOIN side.documents ON documents.record_id = records.id
    WHERE documents.updated_at IS NOT records.updated_at
    UNION
    SELECT records.dataset_id, records.id FROM vectors
    JOIN records ON records.id = vectors.record_id
    JOIN side.datasets ON side.datasets.dataset_id = records.dataset_id
    LEFT JOIN side.vectors AS indexed
        ON indexed.record_id = vectors.record_id AND indexed.settings_id = vectors.vector_settings_id
    WHERE indexed.updated_at IS NOT vectors.updated_at
"""


def start(reader: sa.Engine, side: SideIndex) -> list[tuple[str, str]]:
    """Compare, and mend what a few seconds allow. Returns the (dataset id, record id) that are left to index."""
    with reader.connect() as connection:
        for dataset_id in [*side.worn_datasets(), *_column(connection, _GONE_DATASETS)]:
            side.delete_dataset(dataset_id)
        columns: dict[str, list[str]] = {}
        for dataset_id, name, kind in connection.execute(sa.text(_READY_FIELDS)):
            columns.setdefault(dataset_id, [])
            if kind != "image":
                columns[dataset_id].append(name)
        for dataset_id, names in columns.items():
            side.create_dataset(dataset_id, names)
    with reader.connect() as connection:
        gone = _column(connection, _GONE_RECORDS)
        side.delete(gone)
        side.delete_vectors([(row[0], row[1]) for row in connection.execute(sa.text(_GONE_VECTORS))])
        stale = [(row[0], row[1]) for row in connection.execute(sa.text(_STALE_RECORDS))]
    if gone or stale:
        _log.info("search index: %d records to index, %d to forget", len(stale), len(gone))
    side.set_remaining(len(stale))
    return _index(reader, side, stale, deadline=time.monotonic() + START_BUDGET_S)


def finish(reader: sa.Engine, side: SideIndex, left: list[tuple[str, str]], stopping: threading.Event) -> None:
    """Index what `start` left, batch by batch, until done or told to stop (the next start goes on)."""
    whole = len(left)
    while left and not stopping.is_set():
        done = whole - len(left)
        _log.info("search index: %d of %d records indexed (%.0f %%)", done, whole, 100 * done / whole)
        left = _index(reader, side, left, deadline=time.monotonic() + START_BUDGET_S, stopping=stopping)
    if whole and not left:
        _log.info("search index: complete")


def _index(
    reader: sa.Engine,
    side: SideIndex,
    stale: list[tuple[str, str]],
    *,
    deadline: float,
    stopping: threading.Event | None = None,
) -> list[tuple[str, str]]:
    position = 0
    while position < len(stale) and time.monotonic() < deadline and not (stopping and stopping.is_set()):
        batch = stale[position : position + BATCH]
        by_dataset: dict[str, list[str]] = {}
        for dataset_id, record_id in batch:
            by_dataset.setdefault(dataset_id, []).append(record_id)
        for dataset_id, record_ids in by_dataset.items():
            with reader.connect() as connection:
                records = _read(connection, record_ids)
            if side.columns(dataset_id) is not None:
                side.write(dataset_id, records)
        position += len(batch)
        side.set_remaining(len(stale) - position)
    return stale[position:]


def _read(connection: sa.Connection, record_ids: list[str]) -> list[IndexedRecord]:
    def rows(statement: str) -> Any:
        query = sa.text(statement).bindparams(sa.bindparam("ids", expanding=True))
        return connection.execute(query, {"ids": record_ids})

    vectors: dict[str, list[tuple[str, str, list[float]]]] = {}
    for record_id, settings_id, updated_at, value in rows(
        "SELECT record_id, vector_settings_id, updated_at, value FROM vectors WHERE record_id IN :ids"
    ):
        vectors.setdefault(record_id, []).append((settings_id, updated_at, loads(value)))
    return [
        IndexedRecord(record_id, updated_at, loads(fields) or {}, tuple(vectors.get(record_id, ())))
        for record_id, updated_at, fields in rows("SELECT id, updated_at, fields FROM records WHERE id IN :ids")
    ]


def _column(connection: sa.Connection, statement: str) -> list[str]:
    return [row[0] for row in connection.execute(sa.text(statement))]
