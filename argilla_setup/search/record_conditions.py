"""Argilla's filters and sorts as SQL over Argilla's own tables, so that they can never be out of step with them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from argilla_server.enums import RecordStatus, ResponseStatus, ResponseStatusFilter, SortOrder
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.models import Question, Record, Response
from argilla_server.search_engine import (
    AndFilter,
    Filter,
    FilterScope,
    MetadataFilterScope,
    Order,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
)

from argilla_setup.search import dialect
from argilla_setup.search.dialect import known_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.sql.elements import ColumnElement

_RECORD_COLUMNS = {
    "id": Record.id,
    "external_id": Record.external_id,
    "status": Record.status,
    "inserted_at": Record.inserted_at,
    "updated_at": Record.updated_at,
}
_TEXTS = ("external_id", "status")


def condition(filter: Filter, dataset_id: UUID) -> ColumnElement[bool]:
    """What a record of the dataset must satisfy to pass the filter."""
    if isinstance(filter, AndFilter):
        return sa.and_(sa.true(), *(condition(part, dataset_id) for part in filter.filters))
    scope = filter.scope
    if isinstance(scope, RecordFilterScope):
        return _record_condition(filter, str(scope.property))
    if isinstance(scope, MetadataFilterScope):
        return dialect.current().any_json_value(Record.metadata_, (scope.metadata_property,), filter)
    if isinstance(scope, SuggestionFilterScope):
        return _suggestion_condition(filter, scope, dataset_id)
    if isinstance(scope, ResponseFilterScope):
        return _response_condition(filter, scope)
    raise ValueError(f"Cannot process request for search scope {scope}")


def sort_key(order: Order, dataset_id: UUID) -> Any:
    """The value of a record to sort it by."""
    return _sort_value(order.scope, dataset_id, smallest=order.order == SortOrder.asc)


def sort_terms(value: Any, order: Order) -> list[ColumnElement[Any]]:
    """The ORDER BY terms for what `sort_key` gave."""
    values = dialect.current().json_sort_terms(value) if is_json(order.scope) else [value]
    terms = [value.asc() if order.order == SortOrder.asc else value.desc() for value in values]
    if isinstance(order.scope, RecordFilterScope) and order.scope.property != "external_id":
        # Each record has these: said so, SQLite can read them in the order of an index.
        return terms
    return [term.nulls_last() for term in terms]


def suggested_values(order: Order, dataset_id: UUID) -> Any:
    """Select record_id and the value to sort by of each suggestion for the order's question."""
    scope = order.scope
    assert isinstance(scope, SuggestionFilterScope)
    database = dialect.current()
    value = _suggested_value(scope, smallest=order.order == SortOrder.asc)
    of_question = database.suggested("question_id") == _question_id(scope.question, dataset_id)
    columns = database.suggested("record_id").label("record_id"), value.label("value")
    return sa.select(*columns).select_from(database.suggestions).where(of_question)


# --- conditions -----------------------------------------------------------------------------------------------------


def _record_condition(filter: TermsFilter | RangeFilter, name: str) -> ColumnElement[bool]:
    column: Any = _RECORD_COLUMNS[name]
    if name in ("inserted_at", "updated_at"):
        parse: Any = _time
    elif name == "id":
        parse = _uuid
    elif name == "status":
        parse = _member(RecordStatus)
    else:
        parse = _storable
    if isinstance(filter, TermsFilter):
        return column.in_(_known(parse(value) for value in filter.values))
    if name == "id":
        raise UnprocessableEntityError("records cannot be filtered by a range of `id`; use `external_id` or a time")
    if name in _TEXTS:
        column, parse = dialect.current().by_code_point(column), _storable
    parts = []
    if filter.ge is not None:
        parts.append(column >= parse(filter.ge))
    if filter.le is not None:
        parts.append(column <= parse(filter.le))
    return sa.and_(sa.true(), *parts)


def _suggestion_condition(
    filter: TermsFilter | RangeFilter, scope: SuggestionFilterScope, dataset_id: UUID
) -> ColumnElement[bool]:
    name = _suggestion_property(scope)
    database = dialect.current()
    column = database.suggested(name)
    if is_json(scope):
        wanted = database.any_json_value(column, (), filter)
    elif isinstance(filter, TermsFilter) and name in ("agent", "type"):
        wanted = column.in_([_storable(value) for value in filter.values])
    else:
        raise UnprocessableEntityError(f"suggestions cannot be filtered by a range of `{name}`; use `score` or `value`")
    # Read once and kept as a set, which costs a fifth of asking for each record.
    question = database.suggested("question_id") == _question_id(scope.question, dataset_id)
    source = database.suggestions
    return Record.id.in_(sa.select(database.suggested("record_id")).select_from(source).where(question, wanted))


def _suggestion_property(scope: SuggestionFilterScope) -> str:
    return "value" if scope.property in (None, "None") else str(scope.property)


def _response_condition(filter: TermsFilter | RangeFilter, scope: ResponseFilterScope) -> ColumnElement[bool]:
    if scope.question:
        wanted = dialect.current().any_json_value(Response.values, (scope.question, "value"), filter)
        return _some_response(scope, wanted)
    if scope.property != "status" or not isinstance(filter, TermsFilter):
        raise UnprocessableEntityError(f"cannot filter responses by {scope.property}; expected a question or `status`")
    if not filter.values:
        return _some_response(scope) if scope.user else sa.true()
    statuses = _known(_member(ResponseStatus)(value) for value in filter.values)
    choices: list[ColumnElement[bool]] = []
    if statuses:
        choices.append(_some_response(scope, Response.status.in_(statuses)))
    if ResponseStatusFilter.pending in filter.values:
        choices.append(~_some_response(scope))
    return sa.or_(sa.false(), *choices)


def _some_response(scope: ResponseFilterScope, *wanted: ColumnElement[bool]) -> ColumnElement[bool]:
    if scope.user:
        return Record.id.in_(sa.select(Response.record_id).where(Response.user_id == scope.user.id, *wanted))
    some = sa.select(sa.literal(1)).select_from(Response).where(Response.record_id == Record.id, *wanted)
    return some.correlate(Record).exists()


# --- sorting --------------------------------------------------------------------------------------------------------


def _sort_value(scope: FilterScope, dataset_id: UUID, *, smallest: bool) -> Any:
    """Of several values the smallest stands for the record when ascending, else the largest."""
    database = dialect.current()
    if isinstance(scope, RecordFilterScope):
        name = str(scope.property)
        return database.by_code_point(_RECORD_COLUMNS[name]) if name in _TEXTS else _RECORD_COLUMNS[name]
    if isinstance(scope, MetadataFilterScope):
        return database.json_sort_value(Record.metadata_, (scope.metadata_property,), smallest=smallest)
    if isinstance(scope, SuggestionFilterScope):
        value = _suggested_value(scope, smallest=smallest)
        own = (
            database.suggested("record_id") == Record.id,
            database.suggested("question_id") == _question_id(scope.question, dataset_id),
        )
        return _of_record(sa.select(value).select_from(database.suggestions).where(*own))
    if isinstance(scope, ResponseFilterScope):
        own = (Response.record_id == Record.id, *([Response.user_id == scope.user.id] if scope.user else []))
        if scope.question:
            return _of_record(database.response_sort_value((scope.question, "value"), own, smallest=smallest))
        status = database.by_code_point(Response.status)
        picked = sa.func.min(status) if smallest else sa.func.max(status)
        return _of_record(sa.select(picked).select_from(Response).where(*own))
    raise ValueError(f"Cannot process request for search scope {scope}")


def _suggested_value(scope: SuggestionFilterScope, *, smallest: bool) -> Any:
    database = dialect.current()
    column = database.suggested(_suggestion_property(scope))
    if is_json(scope):
        return database.json_sort_value(column, (), smallest=smallest)
    return database.by_code_point(column)


def is_json(scope: FilterScope) -> bool:
    """Whether the values of a scope lie in a JSON column."""
    if isinstance(scope, SuggestionFilterScope):
        return _suggestion_property(scope) in ("value", "score")
    return isinstance(scope, MetadataFilterScope) or (isinstance(scope, ResponseFilterScope) and bool(scope.question))


def _of_record(query: Any) -> Any:
    return query.correlate(Record).scalar_subquery()


# --- values ---------------------------------------------------------------------------------------------------------


def _question_id(name: str, dataset_id: UUID) -> Any:
    return sa.select(Question.id).where(Question.dataset_id == dataset_id, Question.name == name).scalar_subquery()


def _known(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _member(kind: Any) -> Any:
    return lambda value: kind(value) if value in set(kind) else None


def _time(value: Any) -> datetime:
    """ISO 8601, or milliseconds since 1970; naive UTC, as Argilla stores it."""
    number = known_number(value)
    try:
        moment = (
            datetime.fromtimestamp(number / 1000, UTC) if number is not None else datetime.fromisoformat(str(value))
        )
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError, OSError):
        raise UnprocessableEntityError(f"`{value}` is not a time; expected one such as 2026-11-21T09:00:00") from None


def _storable(value: Any) -> str:
    """A text that every database can be asked for: PostgreSQL holds no NUL, and refuses to look for one."""
    return str(value).replace("\0", "\N{REPLACEMENT CHARACTER}")
