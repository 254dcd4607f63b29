"""Argilla's SearchEngine without a search server.

Filters, sorts, progress and metrics are SQL over Argilla's own tables; texts and vectors come from the side file.
Argilla makes and closes an engine at every request: this one is a handle on what `searcher.opened` holds.
"""

from __future__ import annotations

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

from argilla_setup.search import dialect, searcher
from argilla_setup.search.record_search import Page, passing_among, passing_ids, read_page, text_match
from argilla_setup.search.side_index import IndexedRecord, unit_vector, written_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from argilla_server.models import Dataset, MetadataProperty, Suggestion, User, VectorSettings
    from argilla_server.search_engine import Filter, MetadataMetrics, Order

    from argilla_setup.search.dialect import Tables
    from argilla_setup.search.searcher import Searcher

ENGINE_NAME = "embedded"
LARGEST = 1e300
FIRST_ASKED = 500
"""Of how many records most like a vector it is asked whether they pass a filter, before all that pass are collected."""


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
        return await self._searcher.read(lambda tables: tables.argilla.execute(sa.text("SELECT 1")).scalar() == 1)

    async def info(self) -> dict:
        return {"name": ENGINE_NAME}

    # --- index ------------------------------------------------------------------------------------------------------

    async def create_index(self, dataset: Dataset) -> None:
        await self._searcher.write(lambda: self._searcher.side.create_dataset(dataset.id.hex, _columns(dataset)))

    async def delete_index(self, dataset: Dataset) -> None:
        await self._searcher.write(lambda: self._searcher.side.delete_dataset(dataset.id.hex))

    async def index_records(self, dataset: Dataset, records: Iterable[Record]) -> None:
        taken = [_indexed(record) for record in records]
        side, dataset_id = self._searcher.side, dataset.id.hex
        columns = _columns(dataset) if dataset.is_relationship_loaded("fields") else None

        def work() -> None:
            if columns is not None and side.columns(dataset_id) is None:
                side.create_dataset(dataset_id, columns)
            side.write(dataset_id, taken)

        await self._searcher.write(work)

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
        page = Page(
            dataset.id,
            query=TextQuery(q=query) if isinstance(query, str) else query,
            filter=filter,
            sort=tuple(sort or ()),
            offset=offset,
            limit=limit,
            user_id=user_id,
        )
        return await self._searcher.read(lambda tables: read_page(tables, page))

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
        settings_id, dimensions = vector_settings.id.hex, vector_settings.dimensions
        if len(vector) != dimensions:
            raise UnprocessableEntityError(
                f"the vector has {len(vector)} dimensions; `{vector_settings.name}` has {dimensions}"
            )
        wanted = unit_vector(vector) * (-1.0 if order == SimilarityOrder.least_similar else 1.0)
        page = Page(dataset.id, query=TextQuery(q=query) if isinstance(query, str) else query, filter=filter)

        def work(tables: Tables) -> SearchResponses:
            match = text_match(tables.side, page.dataset_id, page.query) if page.query is not None else None
            if match is None and page.query is not None:
                return SearchResponses(items=[], total=0)
            matrix = self._searcher.vectors.get(tables.side, settings_id, dimensions)
            found: list[tuple[str, float]] | None = None
            if match is None:
                # Most filters, such as "not answered yet", let most records pass: the best are asked about first.
                count = max_results if filter is None else max(max_results, FIRST_ASKED)
                best = matrix.nearest(wanted, k=count, among=None, without=own_id)
                asked = passing_among(page, [UUID(record_id) for record_id, _ in best])
                there = set(tables.argilla.execute(asked).scalars())
                # A record deleted this moment may still have its vector here; Argilla cannot show what is not there.
                passing = [item for item in best if item[0] in there][:max_results]
                if filter is None or len(passing) == max_results or len(best) < count:
                    found = passing
            if found is None:
                among = tables.argilla.execute(passing_ids(tables, page, match)).scalars()
                found = matrix.nearest(wanted, k=max_results, among=among, without=own_id)
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
        return _with_total(await self._searcher.read(lambda tables: tables.argilla.execute(statement).all()))

    async def get_dataset_user_progress(self, dataset: Dataset, user: User) -> dict:
        if dataset.is_draft:
            return {}
        statement = (
            sa.select(Response.status, sa.func.count(Response.id))
            .join(Record, Record.id == Response.record_id)
            .where(Record.dataset_id == dataset.id, Response.user_id == user.id)
            .group_by(Response.status)
        )
        return _with_total(await self._searcher.read(lambda tables: tables.argilla.execute(statement).all()))

    async def compute_metrics_for(self, metadata_property: MetadataProperty) -> MetadataMetrics:
        database = dialect.current()
        values = database.json_atoms(Record.metadata_, (metadata_property.name,))
        source = (
            sa.select(values.c.atom.label("atom"))
            .select_from(Record)
            .join(values, sa.true())
            .where(Record.dataset_id == metadata_property.dataset_id, values.c.atom.is_not(None))
            .subquery()
        )
        if metadata_property.type == MetadataPropertyType.terms:
            count = sa.func.count()
            terms = sa.select(source.c.atom, count).group_by(source.c.atom)
            terms = terms.order_by(count.desc(), database.by_code_point(source.c.atom))
            rows = await self._searcher.read(lambda tables: tables.argilla.execute(terms).all())
            return TermsMetrics(
                total=sum(row[1] for row in rows),
                values=[TermsMetrics.TermCount(term=str(row[0]), count=row[1]) for row in rows],
            )
        number = database.as_number(source.c.atom)
        # A number that no double holds is accepted by Argilla, and no limit that can be shown.
        limits = sa.select(sa.func.min(number), sa.func.max(number)).where(sa.func.abs(number) < LARGEST)
        low, high = await self._searcher.read(lambda tables: tables.argilla.execute(limits).one())
        if metadata_property.type == MetadataPropertyType.integer:
            return IntegerMetadataMetrics(
                min=None if low is None else int(low), max=None if high is None else int(high)
            )
        return FloatMetadataMetrics(min=low, max=high)


def _columns(dataset: Dataset) -> list[str]:
    return [field.name for field in dataset.fields if not field.is_image]


def _indexed(record: Record) -> IndexedRecord:
    vectors = record.vectors if record.is_relationship_loaded("vectors") else []
    return IndexedRecord(
        record_id=record.id.hex,
        updated_at=written_time(record.updated_at),
        fields=dict(record.fields or {}),
        vectors=tuple(
            (vector.vector_settings_id.hex, written_time(vector.updated_at), vector.value) for vector in vectors
        ),
    )


def _with_total(rows: Sequence[Any]) -> dict[str, int]:
    return {"total": sum(row[1] for row in rows), **{row[0].value: row[1] for row in rows}}
