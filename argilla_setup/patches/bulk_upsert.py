"""Argilla's bulk upsert with the same result and a fifth of the work; for argilla-server 2.8.0, applied by `speedups`.

What it does otherwise than Argilla's own: suggestions and vectors are written by one prepared statement instead of one
of thousands of parameters, and what was written is not read back, for new records hold exactly what was sent. What
takes long is done before the transaction begins and in turns with other requests: while a script pushes, a person
who submits waits for neither the database nor the event loop.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from argilla_server.api.schemas.v1.records import Record as RecordSchema
from argilla_server.api.schemas.v1.records_bulk import RecordsBulkWithUpdatedItemIds
from argilla_server.bulk import records_bulk
from argilla_server.contexts import distribution
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Record, Suggestion, Vector
from argilla_server.models.mixins import _INSERT_FUNC
from argilla_server.validators.records import RecordUpsertValidator
from fastapi.encoders import jsonable_encoder
from sqlalchemy.orm.attributes import set_committed_value

if TYPE_CHECKING:
    from argilla_server.api.schemas.v1.records import RecordUpsert
    from argilla_server.api.schemas.v1.records_bulk import RecordsBulkUpsert
    from argilla_server.models import Dataset
    from sqlalchemy.ext.asyncio import AsyncSession

TURN = 25
"""Records between two moments in which other requests get on: about ten milliseconds."""


async def upsert_records_bulk(
    self: records_bulk.UpsertRecordsBulk, dataset: Dataset, bulk_upsert: RecordsBulkUpsert, raise_on_error: bool = True
) -> RecordsBulkWithUpdatedItemIds:
    """In place of the method of that name."""
    db = self._db
    known = await self._fetch_existing_dataset_records(dataset, bulk_upsert.items)
    pairs = await _validated(dataset, bulk_upsert.items, known, raise_on_error=raise_on_error)
    for record, item in pairs:
        _fill(db, record, item)
    records = [record for record, _ in pairs]
    rows = {Suggestion: _suggestion_rows(pairs), Vector: _vector_rows(dataset, pairs)}
    await _give_way()

    db.add_all(records)
    await db.flush(records)
    for model, constraint in ((Suggestion, "question_id"), (Vector, "vector_settings_id")):
        await _write(db, model, rows[model], ["record_id", constraint])
    await self._upsert_records_responses([(record, item.responses) for record, item in pairs])
    # A new record without answers is pending, as it was made; what else it holds is what was sent.
    there = set(known.values())
    old = [record for record, item in pairs if record in there or item.responses]
    if old:
        await distribution.unsafe_update_records_status(db, old)
    await db.commit()

    if old:
        await records_bulk._preload_records_relationships_before_index(db, old)
    _set_what_was_written(dataset, set(records) - set(old), rows)
    await self._search_engine.index_records(dataset, records)
    await self._notify_upsert_record_events(records)
    return RecordsBulkWithUpdatedItemIds.model_construct(
        items=await _schemas(records), updated_item_ids=[record.id for record in known.values()]
    )


async def _validated(
    dataset: Dataset, items: list[RecordUpsert], known: dict[Any, Record], *, raise_on_error: bool
) -> list[tuple[Record, RecordUpsert]]:
    """The items that are valid, each with its record, a new one where there is none."""
    pairs = []
    for position, item in enumerate(items):
        record = known.get(item.id) or known.get(item.external_id)
        try:
            await RecordUpsertValidator.validate(item, dataset, record)
        except Exception as error:
            if raise_on_error:
                message = f"Record at position {position} is not valid because {error}"
                raise UnprocessableEntityError(message) from error
            continue
        if record is None:
            record = Record(id=uuid4(), external_id=item.external_id, dataset_id=dataset.id)
        pairs.append((record, item))
        if position % TURN == 0:
            await _give_way()
    return pairs


def _fill(db: AsyncSession, record: Record, item: RecordUpsert) -> None:
    new = record not in db
    if new or item.is_set("metadata"):
        record.metadata_ = item.metadata
    if new or item.is_set("fields"):
        record.fields = jsonable_encoder(item.fields)
    if not new and db.is_modified(record):
        record.updated_at = datetime.utcnow()


def _suggestion_rows(pairs: list[tuple[Record, RecordUpsert]]) -> list[dict[str, Any]]:
    return _stamped(
        {**suggestion.model_dump(), "record_id": record.id}
        for record, item in pairs
        for suggestion in item.suggestions or ()
    )


def _vector_rows(dataset: Dataset, pairs: list[tuple[Record, RecordUpsert]]) -> list[dict[str, Any]]:
    settings = {setting.name: setting.id for setting in dataset.vectors_settings}
    return _stamped(
        {"value": value, "record_id": record.id, "vector_settings_id": settings[name]}
        for record, item in pairs
        for name, value in (item.vectors or {}).items()
    )


def _stamped(rows: Any) -> list[dict[str, Any]]:
    """With ids and times, each a microsecond after the one before: Argilla lists them in that order."""
    now = datetime.utcnow()
    stamped = []
    for position, row in enumerate(rows):
        moment = now + timedelta(microseconds=position)
        stamped.append({**row, "id": uuid4(), "inserted_at": moment, "updated_at": moment})
    return stamped


async def _write(db: AsyncSession, model: Any, rows: list[dict[str, Any]], constraint: list[str]) -> None:
    """Insert rows, or update those that are there, as `Model.upsert_many` does."""
    if not rows:
        return
    insert = _INSERT_FUNC[db.bind.dialect.name](model.__table__)
    changed = {name: insert.excluded[name] for name in (*model.__upsertable_columns__, "updated_at")}
    connection = await db.connection()
    await connection.execute(insert.on_conflict_do_update(index_elements=constraint, set_=changed), rows)


def _set_what_was_written(dataset: Dataset, new: set[Record], rows: dict[Any, list[dict[str, Any]]]) -> None:
    """Give new records their suggestions and vectors as if they had been read back."""
    settings = {setting.id: setting for setting in dataset.vectors_settings}
    questions = {question.id: question for question in dataset.questions}
    by_record = {record.id: record for record in new}
    made: dict[Any, dict[Any, list[Any]]] = {Suggestion: {}, Vector: {}}
    for model, written in rows.items():
        for row in written:
            if row["record_id"] in by_record:
                made[model].setdefault(row["record_id"], []).append(model(**row))
    for record_id, vectors in made[Vector].items():
        for vector in vectors:
            set_committed_value(vector, "vector_settings", settings[vector.vector_settings_id])
            set_committed_value(vector, "record", by_record[record_id])
    for record_id, suggestions in made[Suggestion].items():
        for suggestion in suggestions:
            # Elasticsearch's engine files a suggestion under its question's name.
            set_committed_value(suggestion, "question", questions[suggestion.question_id])
            set_committed_value(suggestion, "record", by_record[record_id])
    for record in new:
        set_committed_value(record, "dataset", dataset)
        set_committed_value(record, "responses", [])
        set_committed_value(record, "responses_submitted", [])
        set_committed_value(record, "suggestions", made[Suggestion].get(record.id, []))
        set_committed_value(record, "vectors", made[Vector].get(record.id, []))


async def _schemas(records: list[Record]) -> list[RecordSchema]:
    schemas = []
    for position, record in enumerate(records):
        schemas.append(RecordSchema.model_validate(record))
        if position % TURN == 0:
            await _give_way()
    return schemas


async def _give_way() -> None:
    await asyncio.sleep(0)
