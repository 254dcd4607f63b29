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
from sqlalchemy.sql import quoted_name

from argilla_setup.argilla_indexes import short_value_sql

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


def condition(filter: Filter, dataset_id: UUID) -> ColumnElement[bool]:
    """What a record of the dataset must satisfy to pass the filter."""
    if isinstance(filter, AndFilter):
        return sa.and_(sa.true(), *(condition(part, dataset_id) for part in filter.filters))
    scope = filter.scope
    if isinstance(scope, RecordFilterScope):
        return _record_condition(filter, str(scope.property))
    if isinstance(scope, MetadataFilterScope):
        return _any_json_value(Record.metadata_, _path(scope.metadata_property), filter)
    if isinstance(scope, SuggestionFilterScope):
        return _suggestion_condition(filter, scope, dataset_id)
    if isinstance(scope, ResponseFilterScope):
        return _response_condition(filter, scope)
    raise ValueError(f"Cannot process request for search scope {scope}")


def sort_key(order: Order, dataset_id: UUID) -> ColumnElement[Any]:
    """The value of a record to sort it by."""
    return _sort_value(order.scope, dataset_id, smallest=order.order == SortOrder.asc)


def sort_term(value: Any, order: Order) -> ColumnElement[Any]:
    """The ORDER BY term for what `sort_key` gave."""
    term = value.asc() if order.order == SortOrder.asc else value.desc()
    if isinstance(order.scope, RecordFilterScope) and order.scope.property != "external_id":
        # Each record has these: said so, SQLite can read them in the order of an index.
        return term
    return term.nulls_last()


def suggested_values(order: Order, dataset_id: UUID) -> Any:
    """Select record_id and the value to sort by of each suggestion for the order's question."""
    scope = order.scope
    assert isinstance(scope, SuggestionFilterScope)
    value = _suggested_value(scope, sa.func.min if order.order == SortOrder.asc else sa.func.max)
    of_question = _suggested("question_id") == _question_id(scope.question, dataset_id)
    columns = _suggested("record_id").label("record_id"), value.label("value")
    return sa.select(*columns).select_from(_SUGGESTIONS).where(of_question)


def json_values(column: Any, path: str) -> Any:
    """The values at a JSON path, one row each: the elements of a list, or the one value."""
    return sa.func.json_each(column, path).table_valued("value", "type", "atom")


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
        parse = str
    if isinstance(filter, TermsFilter):
        return column.in_(_known(parse(value) for value in filter.values))
    if name == "id":
        raise UnprocessableEntityError("records cannot be filtered by a range of `id`; use `external_id` or a time")
    if name == "status":
        column, parse = sa.cast(column, sa.String), str
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
    column = _suggested(name)
    if name in ("value", "score"):
        wanted = _any_json_value(column, "$", filter)
    elif isinstance(filter, TermsFilter) and name in ("agent", "type"):
        wanted = column.in_(filter.values)
    else:
        raise UnprocessableEntityError(f"suggestions cannot be filtered by a range of `{name}`; use `score` or `value`")
    # Read once and kept as a set, which costs a fifth of asking for each record.
    question = _suggested("question_id") == _question_id(scope.question, dataset_id)
    return Record.id.in_(sa.select(_suggested("record_id")).select_from(_SUGGESTIONS).where(question, wanted))


# Without statistics SQLite takes an index that leads it to each wide row.
_SUGGESTIONS = sa.table(quoted_name("suggestions AS suggested INDEXED BY lingo_values", quote=False))


def _suggestion_property(scope: SuggestionFilterScope) -> str:
    return "value" if scope.property in (None, "None") else str(scope.property)


def _suggested(column: str) -> Any:
    if column == "value":
        return sa.literal_column(f"coalesce({short_value_sql('suggested.')}, suggested.value)")
    return sa.literal_column(f"suggested.{column}", sa.Uuid() if column.endswith("_id") else None)


def _response_condition(filter: TermsFilter | RangeFilter, scope: ResponseFilterScope) -> ColumnElement[bool]:
    if scope.question:
        wanted = _any_json_value(Response.values, _path(scope.question) + ".value", filter)
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


def _any_json_value(column: Any, path: str, filter: TermsFilter | RangeFilter) -> ColumnElement[bool]:
    """Whether the value at a JSON path passes the filter; of a list, whether one of its elements does."""
    values = json_values(column, path)
    if isinstance(filter, TermsFilter):
        wanted = _equals_one(values, filter.values)
    else:
        wanted = sa.and_(*_bounds(values, filter))
    some = sa.select(sa.literal(1)).select_from(values).where(wanted)
    return some.correlate(*_owner(column)).exists()


def _equals_one(values: Any, terms: Iterable[str]) -> ColumnElement[bool]:
    """Terms arrive as texts, also for numbers and truth values."""
    terms = list(terms)
    wanted = sa.and_(values.c.type == "text", values.c.atom.in_(terms))
    numbers = _known(_number(term) for term in terms)
    if numbers:
        wanted = sa.or_(wanted, sa.and_(_is_number(values), values.c.atom.in_(numbers)))
    truths = [term for term in terms if term in ("true", "false")]
    return sa.or_(wanted, values.c.type.in_(truths)) if truths else wanted


def _bounds(values: Any, filter: RangeFilter) -> list[ColumnElement[bool]]:
    """Numbers compare as numbers, also where a record holds one as text; other bounds compare as text."""
    given = [bound for bound in (filter.ge, filter.le) if bound is not None]
    low: Any
    high: Any
    if all(_number(bound) is not None for bound in given):
        written_out = sa.and_(values.c.type == "text", sa.cast(values.c.atom, sa.String).op("GLOB")("[-0-9.]*"))
        value: Any = sa.cast(values.c.atom, sa.Float)
        parts: list[ColumnElement[bool]] = [sa.or_(_is_number(values), written_out)]
        low, high = (None if bound is None else _number(bound) for bound in (filter.ge, filter.le))
    else:
        value = sa.cast(values.c.atom, sa.String)
        parts = [values.c.type == "text"]
        low, high = (None if bound is None else str(bound) for bound in (filter.ge, filter.le))
    if low is not None:
        parts.append(value >= low)
    if high is not None:
        parts.append(value <= high)
    return parts


# --- sorting --------------------------------------------------------------------------------------------------------


def _sort_value(scope: FilterScope, dataset_id: UUID, *, smallest: bool) -> Any:
    """Of several values the smallest stands for the record when ascending, else the largest."""
    pick = sa.func.min if smallest else sa.func.max
    if isinstance(scope, RecordFilterScope):
        return _RECORD_COLUMNS[str(scope.property)]
    if isinstance(scope, MetadataFilterScope):
        return _one_json_value(Record.metadata_, _path(scope.metadata_property), pick)
    if isinstance(scope, SuggestionFilterScope):
        value = _suggested_value(scope, pick)
        own = (
            _suggested("record_id") == Record.id,
            _suggested("question_id") == _question_id(scope.question, dataset_id),
        )
        return sa.select(value).select_from(_SUGGESTIONS).where(*own).correlate(Record).scalar_subquery()
    if isinstance(scope, ResponseFilterScope):
        own = (Response.record_id == Record.id, *([Response.user_id == scope.user.id] if scope.user else []))
        if not scope.question:
            query = sa.select(pick(Response.status)).select_from(Response)
        else:
            values = json_values(Response.values, _path(scope.question) + ".value")
            # The mean of several people's numbers; of their labels, the first or last in the alphabet.
            numeric = sa.func.max(values.c.type).in_(("integer", "real"))
            value = sa.case((numeric, sa.func.avg(values.c.atom)), else_=pick(values.c.atom))
            query = sa.select(value).select_from(Response).join(values, sa.true())
        return query.where(*own).correlate(Record).scalar_subquery()
    raise ValueError(f"Cannot process request for search scope {scope}")


def _suggested_value(scope: SuggestionFilterScope, pick: Any) -> Any:
    name = _suggestion_property(scope)
    column = _suggested(name)
    return _one_json_value(column, "$", pick) if name in ("value", "score") else column


# --- values ---------------------------------------------------------------------------------------------------------


def _one_json_value(column: Any, path: str, pick: Any) -> Any:
    """The value at a JSON path; of a list the picked one."""
    values = json_values(column, path)
    picked = sa.select(pick(values.c.atom)).select_from(values).correlate(*_owner(column)).scalar_subquery()
    # One value needs no table to be made of it, which is the dearer part of reading it.
    one = sa.func.json_extract(column, path)
    return sa.case((sa.func.json_type(column, path) == "array", picked), else_=one)


def _owner(column: Any) -> list[Any]:
    """The mapped class of a column; a literal column has none."""
    return [column.class_] if hasattr(column, "class_") else []


def _question_id(name: str, dataset_id: UUID) -> Any:
    return sa.select(Question.id).where(Question.dataset_id == dataset_id, Question.name == name).scalar_subquery()


def _path(name: str) -> str:
    return '$."' + name.replace('"', "") + '"'


def _is_number(values: Any) -> ColumnElement[bool]:
    return values.c.type.in_(("integer", "real"))


def _known(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _uuid(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _member(kind: Any) -> Any:
    return lambda value: kind(value) if value in set(kind) else None


def _time(value: Any) -> datetime:
    """ISO 8601, or milliseconds since 1970; naive UTC, as Argilla stores it."""
    number = _number(value)
    try:
        moment = (
            datetime.fromtimestamp(number / 1000, UTC) if number is not None else datetime.fromisoformat(str(value))
        )
    except (ValueError, OverflowError, OSError):
        raise UnprocessableEntityError(f"`{value}` is not a time; expected one such as 2026-11-21T09:00:00") from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
