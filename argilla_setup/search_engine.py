"""Argilla's SearchEngine without a search server.

Filters, sorts, progress and metrics are SQL over Argilla's own tables; texts and vectors come from the side file.
Argilla makes and closes an engine at every request: this one is a handle on what `searcher.opened` holds.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Record, Response
from argilla_server.search_engine import (
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsMetrics,
    TextQuery,
)

from argilla_setup import searcher, text_query
from argilla_setup.record_conditions import condition, json_values, sort_key
from argilla_setup.side_index import IndexedRecord, table_of, unit_vector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from argilla_server.models import Dataset, MetadataProperty, Suggestion, User, VectorSettings
    from argilla_server.search_engine import Filter, MetadataMetrics, Order

    from argilla_setup.searcher import Searcher

ENGINE_NAME = "embedded"
_PRIME = 2**31 - 1


@SearchEngine.register(ENGINE_NAME)
class EmbeddedSearchEngine(SearchEngine):
    """A handle, cheap to make and to close."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher

    @classmethod
    async def new_instance(cls) -> EmbeddedSearchEngine:
        return cls(searcher.current())

    async def close(self) -> None:
        """Nothing: the process keeps the index open."""

    async def ping(self) -> bool:
        return await self._searcher.read(lambda connection: connection.execute(sa.text("SELECT 1")).scalar() == 1)

    async def info(self) -> dict:
        return {"name": ENGINE_NAME}

    # --- index ------------------------------------------------------------------------------------------------------

    async def create_index(self, dataset: Dataset) -> None:
        columns = [field.name for field in dataset.fields if not field.is_image]
        await self._searcher.write(lambda: self._searcher.side.create_dataset(dataset.id.hex, columns))

    async def delete_index(self, dataset: Dataset) -> None:
        await self._searcher.write(lambda: self._searcher.side.delete_dataset(dataset.id.hex))

    async def index_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        taken = [_indexed(record) for record in records]
        if self._searcher.side.columns(dataset.id.hex) is None:
            await self.create_index(dataset)
        await self._searcher.write(lambda: self._searcher.side.write(dataset.id.hex, taken))

    async def delete_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        ids = [record.id.hex for record in records]
        await self._searcher.write(lambda: self._searcher.side.delete(ids))

    async def configure_metadata_property(self, dataset: Dataset, metadata_property: MetadataProperty) -> None:
        """Nothing: metadata are read from Argilla's tables, as are status, responses and suggestions below."""

    async def configure_index_vectors(self, vector_settings: VectorSettings) -> None:
        """Nothing: vectors of any settings are indexed with their record."""

    async def partial_record_update(self, record: Record, **update: Any) -> None:
        """Nothing."""

    async def update_record_response(self, response: Response) -> None:
        """Nothing."""

    async def delete_record_response(self, response: Response) -> None:
        """Nothing."""

    async def update_record_suggestion(self, suggestion: Suggestion) -> None:
        """Nothing."""

    async def delete_record_suggestion(self, suggestion: Suggestion) -> None:
        """Nothing."""

    # --- search -----------------------------------------------------------------------------------------------------

    async def search(
        self,
        dataset: Dataset,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        sort: list[Order] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: UUID | str | None = None,
    ) -> SearchResponses:
        """A page of records: by `sort`, else best text match first, else in the `user_id`'s own fixed random order."""
        dataset_id = dataset.id
        match = self._match(dataset_id, query)
        if match is None and query is not None:
            return SearchResponses(items=[], total=0)
        shuffled = _shuffled(user_id) if user_id is not None else None
        score: Any = sa.literal(1.0)
        if match is not None:
            score = match.c.score
        elif shuffled is not None:
            score = 1.0 - shuffled / float(_PRIME)
        statement = sa.select(Record.id, score.label("score"), sa.func.count().over().label("total"))
        statement = self._where(statement, dataset_id, match, filter)
        keys = [sort_key(order, dataset_id) for order in sort or ()]
        if not sort and match is not None:
            keys.append(match.c.score.desc())
        if not sort and shuffled is not None:
            keys.append(shuffled)
        keys.append(Record.inserted_at if user_id is None else _ROWID)
        statement = statement.order_by(*keys, Record.id)

        def work(connection: sa.Connection) -> SearchResponses:
            rows = connection.execute(statement.limit(limit).offset(offset)).all()
            if rows:
                total = rows[0].total
            else:
                counted = self._where(sa.select(sa.func.count(Record.id)), dataset_id, match, filter)
                total = connection.execute(counted).scalar_one() if offset or not limit else 0
            items = [SearchResponseItem(record_id=row.id, score=row.score) for row in rows]
            return SearchResponses(items=items, total=total)

        return await self._searcher.read(work)

    async def similarity_search(
        self,
        dataset: Dataset,
        vector_settings: VectorSettings,
        value: list[float] | None = None,
        record: Record | None = None,
        query: TextQuery | str | None = None,
        filter: Filter | None = None,
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """The records most (or least) like a vector or a record, itself left out; scores are (1 + cosine) / 2.

        Exact, not approximate: each vector of the dataset is compared.
        """
        if bool(value) == bool(record):
            raise ValueError("Must provide either vector value or record to compute the similarity search")
        own_id = record.id.hex if record else None
        vector = value or (record.vector_value_by_vector_settings(vector_settings) if record else None)
        if not vector:
            raise ValueError("Cannot find a vector value to apply with provided info")
        dataset_id, settings_id, dimensions = dataset.id, vector_settings.id.hex, vector_settings.dimensions
        if len(vector) != dimensions:
            raise UnprocessableEntityError(
                f"the vector has {len(vector)} dimensions; `{vector_settings.name}` has {dimensions}"
            )
        wanted = unit_vector(vector) * (-1.0 if order == SimilarityOrder.least_similar else 1.0)
        match = self._match(dataset_id, query)
        if match is None and query is not None:
            return SearchResponses(items=[], total=0)
        ids = self._where(sa.select(sa.type_coerce(Record.id, sa.String)), dataset_id, match, filter)

        def work(connection: sa.Connection) -> SearchResponses:
            narrowed = match is not None or filter is not None
            among = set(connection.execute(ids).scalars()) if narrowed else None
            matrix = self._searcher.vectors.get(connection, settings_id, dimensions)
            found = matrix.nearest(wanted, k=max_results, among=among, without=own_id)
            if not narrowed:
                # A record deleted this moment may still have its vector here; Argilla cannot show what is not there.
                alive = ids.where(Record.id.in_([UUID(record_id) for record_id, _ in found]))
                there = set(connection.execute(alive).scalars())
                found = [item for item in found if item[0] in there]
            items = [
                SearchResponseItem(record_id=UUID(record_id), score=score)
                for record_id, score in found
                if threshold is None or score >= threshold
            ]
            return SearchResponses(items=items, total=len(items))

        return await self._searcher.read(work)

    # --- counts -----------------------------------------------------------------------------------------------------

    async def get_dataset_progress(self, dataset: Dataset) -> dict:
        if dataset.is_draft:
            return {}
        statement = (
            sa.select(Record.status, sa.func.count(Record.id))
            .where(Record.dataset_id == dataset.id)
            .group_by(Record.status)
        )
        return _with_total(await self._searcher.read(lambda connection: connection.execute(statement).all()))

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict:
        if dataset.is_draft:
            return {}
        statement = (
            sa.select(Response.status, sa.func.count(Response.id))
            .join(Record, Record.id == Response.record_id)
            .where(Record.dataset_id == dataset.id, Response.user_id == user.id)
            .group_by(Response.status)
        )
        return _with_total(await self._searcher.read(lambda connection: connection.execute(statement).all()))

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        values = json_values(Record.metadata_, f'$."{metadata_property.name}"')
        source = (
            sa.select(values.c.atom.label("atom"))
            .select_from(Record)
            .join(values, sa.true())
            .where(Record.dataset_id == metadata_property.dataset_id, values.c.atom.is_not(None))
            .subquery()
        )
        if metadata_property.type == MetadataPropertyType.terms:
            count = sa.func.count()
            terms = sa.select(source.c.atom, count).group_by(source.c.atom).order_by(count.desc(), source.c.atom)
            rows = await self._searcher.read(lambda connection: connection.execute(terms).all())
            return TermsMetrics(
                total=sum(row[1] for row in rows),
                values=[TermsMetrics.TermCount(term=str(row[0]), count=row[1]) for row in rows],
            )
        number = sa.cast(source.c.atom, sa.Float)
        limits = sa.select(sa.func.min(number), sa.func.max(number))
        low, high = await self._searcher.read(lambda connection: connection.execute(limits).one())
        if metadata_property.type == MetadataPropertyType.integer:
            return IntegerMetadataMetrics(
                min=None if low is None else int(low), max=None if high is None else int(high)
            )
        return FloatMetadataMetrics(min=low, max=high)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _match(self, dataset_id: UUID, query: TextQuery | str | None) -> Any:
        """The records of a dataset that hold the text, with scores; None where there is nothing to look for."""
        if query is None:
            return None
        asked: TextQuery = TextQuery(q=query) if isinstance(query, str) else query
        fields = self._searcher.side.columns(dataset_id.hex) or []
        columns = [f"c{position}" for position, name in enumerate(fields) if asked.field in (None, name)]
        try:
            expression = text_query.to_fts5(asked.q, columns)
        except text_query.QueryError as error:
            raise UnprocessableEntityError(str(error)) from None
        if expression is None:
            return None
        table = table_of(dataset_id.hex)
        # CROSS JOIN and MATERIALIZED keep SQLite from walking all records and asking FTS5 about each: 100 times slower.
        statement = sa.text(
            f"SELECT documents.record_id AS record_id, -bm25({table}) AS score FROM side.{table}"
            f" CROSS JOIN side.documents ON documents.docid = {table}.rowid WHERE {table} MATCH :expression"
        )
        bound = statement.bindparams(expression=expression)
        found = bound.columns(sa.column("record_id", sa.Uuid()), sa.column("score", sa.Float())).cte("found")
        return found.prefix_with("MATERIALIZED")

    def _where(self, statement: Any, dataset_id: UUID, match: Any, filter: Filter | None) -> Any:
        statement = statement.where(Record.dataset_id == dataset_id)
        if match is not None:
            statement = statement.join(match, match.c.record_id == Record.id)
        if filter is not None:
            statement = statement.where(condition(filter, dataset_id))
        return statement


_ROWID: Any = sa.literal_column("records.rowid", sa.Integer())


def _shuffled(user_id: UUID | str) -> Any:
    """A number below _PRIME for each record, different for each user and always the same for one.

    SQLite computes it from the row number, which each of its indexes holds: sorting 10,000 records takes milliseconds.
    Squaring scatters neighbours, twice because after one square one user in 300 still met them at regular strides.
    """
    seed = hashlib.blake2b(str(user_id).encode(), digest_size=8).digest()
    factor = int.from_bytes(seed[:4], "big") % (_PRIME - 1) + 1
    shift = int.from_bytes(seed[4:], "big") % _PRIME
    scattered = (_ROWID * sa.literal(factor) + sa.literal(shift)) % sa.literal(_PRIME)
    squared = (scattered * scattered + sa.literal(shift)) % sa.literal(_PRIME)
    return (squared * squared) % sa.literal(_PRIME)


def _indexed(record: Record) -> IndexedRecord:
    vectors = record.vectors if record.is_relationship_loaded("vectors") else []
    return IndexedRecord(
        record_id=record.id.hex,
        updated_at=record.updated_at.isoformat(" ", "microseconds"),
        fields=dict(record.fields or {}),
        vectors=tuple(
            (vector.vector_settings_id.hex, vector.updated_at.isoformat(" ", "microseconds"), vector.value)
            for vector in vectors
        ),
    )


def _with_total(rows: Sequence[Any]) -> dict[str, int]:
    return {"total": sum(row[1] for row in rows), **{row[0].value: row[1] for row in rows}}
