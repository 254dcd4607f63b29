"""Make the side index equal to Argilla's tables, whatever was killed in between.

Argilla commits first and calls the search engine after: a crash between the two leaves records that no search finds,
or texts and vectors of records that are gone. At each start, and after a failed write, the two are compared by their
`updated_at`.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa
from argilla_server.enums import DatasetStatus
from argilla_server.models import Dataset, Field, Record, Vector

from argilla_setup.search import dialect
from argilla_setup.search.side_index import IndexedRecord, written_time

if TYPE_CHECKING:
    import threading

    from argilla_setup.search.dialect import Reader
    from argilla_setup.search.side_index import SideIndex

BATCH = 500
START_BUDGET_S = 4.0
"""A start waits this long for a search index that is whole; what takes longer goes on while the server answers."""

_log = logging.getLogger(__name__)


def start(reader: Reader, side: SideIndex) -> list[tuple[str, str]]:
    """Compare, and mend what a few seconds allow. Returns the (dataset id, record id) that are left to index."""
    with reader.connect() as tables:
        indexed = tables.side.execute(sa.text("SELECT dataset_id FROM side.datasets")).scalars().all()
        there = {dataset_id.hex for dataset_id in tables.argilla.execute(sa.select(Dataset.id)).scalars()}
        for dataset_id in {*side.worn_datasets(), *(set(indexed) - there)}:
            side.delete_dataset(dataset_id)
        for dataset_id, names in _fields(tables.argilla).items():
            side.create_dataset(dataset_id, names)
    with reader.connect() as tables:
        difference = dialect.current().out_of_step(tables)
    gone, stale = difference.gone_records, difference.stale
    side.delete(gone)
    side.delete_vectors(difference.gone_vectors)
    if gone or stale:
        _log.info("search index: %d records to index, %d to forget", len(stale), len(gone))
    side.set_remaining(len(stale))
    return _index(reader, side, stale, deadline=time.monotonic() + START_BUDGET_S)


def finish(reader: Reader, side: SideIndex, left: list[tuple[str, str]], stopping: threading.Event) -> None:
    """Index what `start` left, batch by batch, until done or told to stop (the next start goes on)."""
    whole = len(left)
    while left and not stopping.is_set():
        done = whole - len(left)
        _log.info("search index: %d of %d records indexed (%.0f %%)", done, whole, 100 * done / whole)
        left = _index(reader, side, left, deadline=time.monotonic() + START_BUDGET_S, stopping=stopping)
    if whole and not left:
        _log.info("search index: complete")


def _index(
    reader: Reader,
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
            with reader.connect() as tables:
                records = _read(tables.argilla, record_ids)
            if side.columns(dataset_id) is not None:
                side.write(dataset_id, records)
        position += len(batch)
        side.set_remaining(len(stale) - position)
    return stale[position:]


def _fields(connection: sa.Connection) -> dict[str, list[str]]:
    """The fields that have a text, in order, of each dataset that is published."""
    ready = sa.select(Dataset.id, Field.name, Field.settings).join(Field, Field.dataset_id == Dataset.id)
    names: dict[str, list[str]] = {}
    for dataset_id, name, settings in connection.execute(
        ready.where(Dataset.status == DatasetStatus.ready).order_by(Field.inserted_at)
    ):
        names.setdefault(dataset_id.hex, [])
        if settings.get("type") != "image":
            names[dataset_id.hex].append(name)
    return names


def _read(connection: sa.Connection, record_ids: list[str]) -> list[IndexedRecord]:
    ids = [UUID(record_id) for record_id in record_ids]
    vectors: dict[UUID, list[tuple[str, str, list[float]]]] = {}
    columns = (Vector.record_id, Vector.vector_settings_id, Vector.updated_at, Vector.value)
    for record_id, settings_id, updated_at, value in connection.execute(
        sa.select(*columns).where(Vector.record_id.in_(ids))
    ):
        vectors.setdefault(record_id, []).append((settings_id.hex, written_time(updated_at), value))
    records = sa.select(Record.id, Record.updated_at, Record.fields).where(Record.id.in_(ids))
    return [
        IndexedRecord(record_id.hex, written_time(updated_at), fields or {}, tuple(vectors.get(record_id, ())))
        for record_id, updated_at, fields in connection.execute(records)
    ]
