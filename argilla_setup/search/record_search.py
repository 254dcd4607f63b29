"""One page of records: by text, filters, sorts and an annotator's own order, as SQL over Argilla's tables.

A text search without filters and sorts is answered by the index alone. With them, the records that pass are collected
once, and both the page and the total are read from that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Record
from argilla_server.search_engine import SearchResponseItem, SearchResponses, SuggestionFilterScope, TextQuery

from argilla_setup.search import dialect
from argilla_setup.search.fuzzy_words import nearest
from argilla_setup.search.record_conditions import condition, is_json, sort_key, sort_terms, suggested_values
from argilla_setup.search.side_index import table_of, words_of
from argilla_setup.search.text_match import to_fts5
from argilla_setup.search.text_query import QueryError
from argilla_setup.search.user_order import PRIME, shuffled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from argilla_server.search_engine import Filter, Order

    from argilla_setup.search.dialect import Tables

MOST_RANKED = 20_000
"""What more records match than this is so common that a ranking says nothing; it would cost most of the time."""

MOST_FUZZY = 5
"""Fuzzy words of one query; each is compared with all words of the dataset. Further ones count as written."""


@dataclass(frozen=True)
class Page:
    """What is asked for."""

    dataset_id: UUID
    query: TextQuery | None = None
    filter: Filter | None = None
    sort: Sequence[Order] = ()
    offset: int = 0
    limit: int = 100
    user_id: UUID | str | None = None
    """Whose random order the records come in, where nothing else orders them."""


@dataclass(frozen=True)
class TextMatch:
    """The records of a dataset that hold a text."""

    dataset_id: UUID
    expression: str
    ranked: bool

    def rows(self) -> Any:
        """record_id, score, docid and number of each, from FTS5 and the table that says whose each entry is."""
        table = table_of(self.dataset_id.hex)
        score = f"-bm25({table})" if self.ranked else "1.0"
        # CROSS JOIN keeps SQLite from walking all records and asking FTS5 about each: a hundred times slower.
        statement = sa.text(
            f"SELECT documents.record_id AS record_id, {score} AS score, documents.docid AS docid,"
            f" documents.number AS number FROM side.{table}"
            f" CROSS JOIN side.documents ON documents.docid = {table}.rowid WHERE {table} MATCH :expression"
        )
        kinds = {"record_id": sa.Uuid(), "score": sa.Float(), "docid": sa.Integer(), "number": sa.Integer()}
        columns = [sa.column(name, kind) for name, kind in kinds.items()]
        return statement.bindparams(expression=self.expression).columns(*columns)

    def count(self) -> Any:
        table = table_of(self.dataset_id.hex)
        statement = sa.text(
            f"SELECT count(*) FROM side.{table} CROSS JOIN side.documents ON documents.docid = {table}.rowid"
            f" WHERE {table} MATCH :expression"
        )
        return statement.bindparams(expression=self.expression)


def read_page(tables: Tables, page: Page) -> SearchResponses:
    """The page; by `sort`, else best text match first, else in the user's order, else oldest first."""
    match = None
    if page.query is not None:
        match = text_match(tables.side, page.dataset_id, page.query)
        if match is None:
            return SearchResponses(items=[], total=0)
    if match is not None and page.filter is None and not page.sort:
        return _by_text(tables, page, match)
    return _by_suggestions(tables, page) or _by_records(tables, page, match)


def text_match(side: sa.Connection, dataset_id: UUID, query: TextQuery) -> TextMatch | None:
    """The match for a query; None where it holds nothing to look for.

    UnprocessableEntityError where it is too long or too complex.
    """
    known = sa.text("SELECT columns FROM side.datasets WHERE dataset_id = :dataset_id")
    names = json.loads(side.execute(known, {"dataset_id": dataset_id.hex}).scalar() or "[]")
    fields = [position for position, name in enumerate(names) if query.field in (None, name)]

    looked_up: list[str] = []

    def similar(word: str, edits: int) -> list[str]:
        looked_up.append(word)
        if len(looked_up) > MOST_FUZZY:
            return []
        # Words of the scripts before Korean, Chinese and Japanese: those are indexed as pairs, which are no words.
        words = sa.text(
            f"SELECT term FROM side.{words_of(dataset_id.hex)}"
            " WHERE term < char(0x1100) AND length(term) BETWEEN :shortest AND :longest"
        )
        limits = {"shortest": len(word) - edits, "longest": len(word) + edits}
        return nearest(word, side.execute(words, limits).scalars(), edits=edits)

    try:
        expression = to_fts5(query.q, fields, similar)
    except QueryError as error:
        raise UnprocessableEntityError(str(error)) from None
    if expression is None:
        return None
    table = table_of(dataset_id.hex)
    many = sa.text(
        f"SELECT count(*) FROM (SELECT 1 FROM side.{table} WHERE {table} MATCH :expression LIMIT {MOST_RANKED + 1})"
    )
    try:
        count = side.execute(many, {"expression": expression}).scalar_one()
    except sa.exc.OperationalError as error:
        if "fts5" not in str(error.orig):
            raise
        raise UnprocessableEntityError("the search text is too complex; use fewer words and parentheses") from None
    return TextMatch(dataset_id, expression, ranked=count <= MOST_RANKED)


def passing_ids(tables: Tables, page: Page, match: TextMatch | None) -> Any:
    """Select the ids, as hex, of the records that pass the page's filter and hold its text."""
    return _passing(sa.select(dialect.current().hex_id(Record.id)), page, _found(tables, match))


def passing_among(page: Page, record_ids: Sequence[UUID]) -> Any:
    """The same of those given ones, which are of the page's dataset: each is looked up, and no other is."""
    statement = sa.select(dialect.current().hex_id(Record.id)).where(Record.id.in_(record_ids))
    return statement if page.filter is None else statement.where(condition(page.filter, page.dataset_id))


def _by_text(tables: Tables, page: Page, match: TextMatch) -> SearchResponses:
    rows = match.rows().subquery()
    score, order = _scored(rows, page.user_id, ranked=match.ranked)
    statement = sa.select(rows.c.record_id, score.label("score")).order_by(*order, rows.c.docid)
    found = tables.side.execute(statement.limit(page.limit).offset(page.offset)).all()
    total = tables.side.execute(match.count()).scalar_one()
    # A record deleted this moment may still be in the index; Argilla cannot show what is not there.
    there = sa.select(Record.id).where(Record.id.in_([row[0] for row in found]))
    alive = set(tables.argilla.execute(there).scalars())
    items = [SearchResponseItem(record_id=row[0], score=row[1]) for row in found if row[0] in alive]
    return SearchResponses(items=items, total=total)


def _by_records(tables: Tables, page: Page, match: TextMatch | None) -> SearchResponses:
    found = _found(tables, match)
    keys = _keys(page, found, ranked=match is not None and match.ranked)
    chosen = sa.select(Record.id, *(key.value.label(f"key{n}") for n, key in enumerate(keys)))
    everything = _passing(sa.select(sa.func.count(Record.id)), page, found)
    source: Any
    if found is None and page.filter is None and not _repeats(page):
        # Nothing to collect: an index may even hold the order.
        source, total = _passing(chosen, page, found).subquery("chosen"), everything.scalar_subquery()
    else:
        source = _passing(chosen, page, found).cte("chosen").prefix_with("MATERIALIZED")
        total = sa.select(sa.func.count()).select_from(source).scalar_subquery()
    score = next((key.score(source.c[f"key{n}"]) for n, key in enumerate(keys) if key.score), sa.literal(1.0))
    statement = sa.select(source.c.id, score.label("score"), total.label("total")).order_by(
        *(term for n, key in enumerate(keys) for term in key.terms(source.c[f"key{n}"]))
    )
    rows = tables.argilla.execute(statement.limit(page.limit).offset(page.offset)).all()
    counted = rows[0].total if rows else tables.argilla.execute(everything).scalar_one()
    return SearchResponses(items=[SearchResponseItem(record_id=row[0], score=row[1]) for row in rows], total=counted)


def _by_suggestions(tables: Tables, page: Page) -> SearchResponses | None:
    """A page of all records by their suggestions, read from those alone: half the work of asking for each record.

    None where something else is asked for too, or where the page holds records without a value.
    """
    if page.query is not None or page.filter is not None or page.user_id is not None or len(page.sort) != 1:
        return None
    (order,) = page.sort
    if not isinstance(order.scope, SuggestionFilterScope):
        return None
    values: Any = suggested_values(order, page.dataset_id)
    values = values.cte("valued").prefix_with("MATERIALIZED") if _repeats(page) else values.subquery()
    statement = sa.select(values).order_by(*sort_terms(values.c.value, order), values.c.record_id)
    rows = tables.argilla.execute(statement.limit(page.limit).offset(page.offset)).all()
    if len(rows) < page.limit or (rows and rows[-1].value is None):
        return None
    count = sa.select(sa.func.count(Record.id)).where(Record.dataset_id == page.dataset_id)
    total = tables.argilla.execute(count).scalar_one()
    return SearchResponses(items=[SearchResponseItem(record_id=row.record_id, score=1.0) for row in rows], total=total)


def _repeats(page: Page) -> bool:
    """Whether what is sorted by has to be collected, for else the database works it out several times."""
    return dialect.current().repeats_sort_values and any(is_json(order.scope) for order in page.sort)


def _found(tables: Tables, match: TextMatch | None) -> Any:
    """What the text matches, collected once: else SQLite asks FTS5 anew for each record, minutes for a common word."""
    if match is None:
        return None
    return dialect.current().matched(tables.side, match.rows()).cte("found").prefix_with("MATERIALIZED")


@dataclass(frozen=True)
class _Key:
    """Something to order by: its value for a record, and the ORDER BY terms and the score that follow from it."""

    value: Any
    terms: Callable[[Any], list[Any]] = lambda value: [value]
    score: Callable[[Any], Any] | None = None


def _keys(page: Page, found: Any, *, ranked: bool) -> list[_Key]:
    keys = [_Key(sort_key(order, page.dataset_id), partial(sort_terms, order=order)) for order in page.sort]
    if found is not None:
        score, _ = _scored(found, page.user_id, ranked=ranked)
        keys.append(_Key(score, lambda value: [value.desc()], lambda value: value))
    elif page.user_id is not None:
        random = shuffled(dialect.current().number, page.user_id)
        keys.append(_Key(random, score=lambda value: 1.0 - sa.cast(value, sa.Double) / float(PRIME)))
    # Oldest first, and by id where two are of one moment: pages must fit each other. By id alone where suggestions are
    # sorted by: records and suggestions are then read side by side, in half the time.
    by_id = page.user_id is not None or any(isinstance(order.scope, SuggestionFilterScope) for order in page.sort)
    return [*keys, *([] if by_id else [_Key(Record.inserted_at)]), _Key(Record.id)]


def _scored(rows: Any, user_id: UUID | str | None, *, ranked: bool) -> tuple[Any, list[Any]]:
    """The score of text matches and the order: for an annotator, relevance times a random number, as Argilla has it."""
    if user_id is None:
        return rows.c.score, [rows.c.score.desc()] if ranked else []
    score = rows.c.score * (1.0 - sa.cast(shuffled(rows.c.number, user_id), sa.Double) / float(PRIME))
    return score, [score.desc()]


def _passing(statement: Any, page: Page, found: Any) -> Any:
    if found is None:
        statement = statement.where(Record.dataset_id == page.dataset_id)
    else:
        statement = statement.join(found, found.c.record_id == Record.id)
    return statement if page.filter is None else statement.where(condition(page.filter, page.dataset_id))
