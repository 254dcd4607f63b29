"""Argilla's tables in SQLite: the side file is attached to them, so that one statement reads both."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from argilla_server.database import database_url_sync
from argilla_server.models import Response
from argilla_server.search_engine import TermsFilter
from sqlalchemy.sql import quoted_name

from argilla_setup.patches import fast_json
from argilla_setup.search.dialect import Dialect, OutOfStep, Reader, Tables, known_number
from argilla_setup.search.user_order import number_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from argilla_server.search_engine import RangeFilter
    from sqlalchemy.sql.elements import ColumnElement

    from argilla_setup.search.dialect import JsonPath

CACHE_KB = 16 * 1024
"""Of each reading connection and file; SQLite's own 2 MB make it read the same pages over and over."""
SHORT = 40


def _short_value(table: str = "") -> str:
    """A suggestion's value where it is short, as labels and ratings are: an index of whole texts would double them."""
    return f"CASE WHEN length({table}value) <= {SHORT} THEN {table}value END"


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


class SqliteDialect(Dialect):
    """The indexes hold what pages, queues and comparisons read, without the wide rows of texts and vectors."""

    indexes: ClassVar = {
        "lingo_status": "records (dataset_id, status, inserted_at, updated_at, id)",
        "lingo_metadata": "records (dataset_id, inserted_at, id, status, updated_at, metadata)",
        "lingo_order": f"records (dataset_id, {number_sql('id')}, id)",
        "lingo_responses": "responses (user_id, record_id, status)",
        "lingo_values": f"suggestions (question_id, record_id, {_short_value()}, score, agent, type)",
        "lingo_vectors": "vectors (record_id, vector_settings_id, updated_at)",
    }
    number = sa.literal_column(number_sql("records.id"), sa.Integer())
    # Without statistics SQLite takes an index that leads it to each wide row.
    suggestions = sa.table(quoted_name("suggestions AS suggested INDEXED BY lingo_values", quote=False))
    repeats_sort_values = False

    def reader(self, index: Path, *, connections: int) -> Reader:
        return _AttachedReader(index, connections)

    def suggested(self, name: str) -> Any:
        if name == "value":
            return sa.literal_column(f"coalesce({_short_value('suggested.')}, suggested.value)")
        return sa.literal_column(f"suggested.{name}", sa.Uuid() if name.endswith("_id") else None)

    def any_json_value(self, column: Any, path: JsonPath, filter: TermsFilter | RangeFilter) -> ColumnElement[bool]:
        values = _values(column, path)
        if isinstance(filter, TermsFilter):
            wanted = _equals_one(values, filter.values)
        else:
            wanted = sa.and_(*_bounds(values, filter))
        some = sa.select(sa.literal(1)).select_from(values).where(wanted)
        return some.correlate(*_owner(column)).exists()

    def json_sort_value(self, column: Any, path: JsonPath, *, smallest: bool) -> Any:
        values = _values(column, path)
        pick = sa.func.min if smallest else sa.func.max
        picked = sa.select(pick(values.c.atom)).select_from(values).correlate(*_owner(column)).scalar_subquery()
        # One value needs no table to be made of it, which is the dearer part of reading it.
        one = sa.func.json_extract(column, _written(path))
        return sa.case((sa.func.json_type(column, _written(path)) == "array", picked), else_=one)

    def response_sort_value(self, path: JsonPath, own: Iterable[Any], *, smallest: bool) -> Any:
        values = _values(Response.values, path)
        pick = sa.func.min if smallest else sa.func.max
        numeric = sa.func.max(values.c.type).in_(("integer", "real"))
        value = sa.case((numeric, sa.func.avg(values.c.atom)), else_=pick(values.c.atom))
        return sa.select(value).select_from(Response).join(values, sa.true()).where(*own)

    def json_sort_terms(self, value: Any) -> list[Any]:
        return [value]

    def json_atoms(self, column: Any, path: JsonPath) -> Any:
        return _values(column, path)

    def as_number(self, atom: Any) -> ColumnElement[float]:
        return sa.cast(atom, sa.Float)

    def by_code_point(self, column: Any) -> Any:
        return sa.type_coerce(column, sa.String)

    def hex_id(self, column: Any) -> Any:
        return sa.type_coerce(column, sa.String)

    def matched(self, side: sa.Connection, rows: Any) -> Any:
        return rows

    def out_of_step(self, tables: Tables) -> OutOfStep:
        def pairs(statement: str) -> list[tuple[str, str]]:
            return [(row[0], row[1]) for row in tables.argilla.execute(sa.text(statement))]

        return OutOfStep(
            gone_records=list(tables.argilla.execute(sa.text(_GONE_RECORDS)).scalars()),
            gone_vectors=pairs(_GONE_VECTORS),
            stale=pairs(_STALE_RECORDS),
        )


class _AttachedReader(Reader):
    def __init__(self, index: Path, connections: int) -> None:
        self._engine = sa.create_engine(
            database_url_sync(), json_deserializer=fast_json.loads, pool_size=connections, max_overflow=1
        )
        sa.event.listen(self._engine, "connect", attach(index))

    @contextmanager
    def connect(self, *, snapshot: bool = False) -> Iterator[Tables]:
        with self._engine.connect() as connection:
            if snapshot:
                connection.exec_driver_sql("BEGIN")
            yield Tables(connection, connection)

    def dispose(self) -> None:
        self._engine.dispose()


def attach(index: Path) -> Callable[[Any, Any], None]:
    """What makes a new connection see the side file's tables as side.documents and so on, to read them only."""

    def attach_to(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("ATTACH DATABASE ? AS side", (str(index),))
        cursor.execute("PRAGMA query_only = ON")
        for name in ("main", "side"):
            cursor.execute(f"PRAGMA {name}.cache_size = {-CACHE_KB}")
        cursor.close()

    return attach_to


def _values(column: Any, path: JsonPath) -> Any:
    """The values at a JSON path, one row each: the elements of a list, or the one value."""
    return sa.func.json_each(column, _written(path)).table_valued("value", "type", "atom")


def _equals_one(values: Any, terms: Iterable[str]) -> ColumnElement[bool]:
    terms = list(terms)
    wanted = sa.and_(values.c.type == "text", values.c.atom.in_(terms))
    numbers = [number for term in terms if (number := known_number(term)) is not None]
    if numbers:
        wanted = sa.or_(wanted, sa.and_(_is_number(values), values.c.atom.in_(numbers)))
    truths = [term for term in terms if term in ("true", "false")]
    return sa.or_(wanted, values.c.type.in_(truths)) if truths else wanted


def _bounds(values: Any, filter: RangeFilter) -> list[ColumnElement[bool]]:
    """Numbers compare as numbers, also where a record holds one as text; other bounds compare as text."""
    given = [bound for bound in (filter.ge, filter.le) if bound is not None]
    low: Any
    high: Any
    if all(known_number(bound) is not None for bound in given):
        written_out = sa.and_(values.c.type == "text", sa.cast(values.c.atom, sa.String).op("GLOB")("[-0-9.]*"))
        value: Any = sa.cast(values.c.atom, sa.Float)
        parts: list[ColumnElement[bool]] = [sa.or_(_is_number(values), written_out)]
        low, high = (None if bound is None else known_number(bound) for bound in (filter.ge, filter.le))
    else:
        value = sa.cast(values.c.atom, sa.String)
        parts = [values.c.type == "text"]
        low, high = (None if bound is None else str(bound) for bound in (filter.ge, filter.le))
    if low is not None:
        parts.append(value >= low)
    if high is not None:
        parts.append(value <= high)
    return parts


def _owner(column: Any) -> list[Any]:
    """The mapped class of a column; a literal column has none."""
    return [column.class_] if hasattr(column, "class_") else []


def _is_number(values: Any) -> ColumnElement[bool]:
    return values.c.type.in_(("integer", "real"))


def _written(path: JsonPath) -> str:
    return "$" + "".join('."' + name.replace('"', "") + '"' for name in path)
