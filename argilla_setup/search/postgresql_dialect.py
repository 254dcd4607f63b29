"""Argilla's tables in PostgreSQL. The side file stays SQLite: what it finds is handed over as a list of ids.

JSON is compared as jsonb, and only the one value that is asked for: of a whole column each row would be parsed, and one
NUL in a text, which jsonb cannot hold, would fail the search.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy as sa
from argilla_server.database import database_url_sync
from argilla_server.models import Record, Response, Suggestion, Vector
from argilla_server.search_engine import TermsFilter
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.orm import aliased

from argilla_setup.patches import fast_json
from argilla_setup.search.dialect import Dialect, OutOfStep, Reader, Tables, known_number
from argilla_setup.search.sqlite_dialect import attach
from argilla_setup.search.user_order import DIGITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from argilla_server.search_engine import RangeFilter
    from sqlalchemy.sql.elements import ColumnElement

    from argilla_setup.search.dialect import JsonPath

LARGEST = Decimal("1e308")
SMALLEST = Decimal("1e-300")
AT_ONCE = 5000
"""Rows that are read at a time where all are compared."""


def _number(column: str) -> str:
    """The first 28 bits of an id; an index holds the values."""
    bytes_ = [f"(get_byte(uuid_send({column}), {place})::bigint << {20 - 8 * place})" for place in range(3)]
    return f"({' + '.join(bytes_)} + (get_byte(uuid_send({column}), 3) >> 4))"


assert DIGITS == 7, "user_order takes another part of the id than is computed here"


class PostgresqlDialect(Dialect):
    """No index holds metadata, agents or values: an entry that is longer than 2,700 bytes would fail the write."""

    indexes: ClassVar = {
        "lingo_status": "records (dataset_id, status, inserted_at, updated_at, id)",
        "lingo_page": "records (dataset_id, inserted_at, id)",
        "lingo_order": f"records (dataset_id, {_number('id')}, id)",
        "lingo_responses": "responses (user_id, record_id, status)",
        "lingo_values": "suggestions (question_id, record_id)",
        "lingo_vectors": "vectors (record_id, vector_settings_id, updated_at)",
    }
    number = sa.literal_column(_number("records.id"), sa.BigInteger())
    suggestions = aliased(Suggestion, name="suggested")
    repeats_sort_values = True

    def reader(self, index: Path, *, connections: int) -> Reader:
        return _PairedReader(index, connections)

    def suggested(self, name: str) -> Any:
        column = getattr(self.suggestions, name)
        # Of its own type PostgreSQL refuses a name that is none of its values.
        return sa.cast(column, sa.String) if name == "type" else column

    def any_json_value(self, column: Any, path: JsonPath, filter: TermsFilter | RangeFilter) -> ColumnElement[bool]:
        value = _value(column, path)
        if isinstance(filter, TermsFilter):
            return sa.or_(sa.false(), *(value.op("@>")(_jsonb(term)) for term in _meant(filter.values)))
        return _exists(value, *_range(filter))

    def json_sort_value(self, column: Any, path: JsonPath, *, smallest: bool) -> Any:
        value = _value(column, path)
        elements = _elements(value)
        element = elements.c.value
        order = element.asc() if smallest else element.desc()
        picked = sa.select(element).select_from(elements).correlate_except(elements).order_by(order).limit(1)
        kind = sa.func.jsonb_typeof(value)
        return sa.case((kind == "array", picked.scalar_subquery()), (kind != "null", value))

    def response_sort_value(self, path: JsonPath, own: Iterable[Any], *, smallest: bool) -> Any:
        pick = sa.func.min if smallest else sa.func.max
        element = _elements(_value(Response.values, path))
        number, text = sa.func.avg(_as_number(element.c.value)), pick(_as_text(element.c.value))
        value = sa.func.coalesce(sa.func.to_jsonb(number), sa.func.to_jsonb(text))
        return sa.select(value).select_from(sa.join(Response, element, sa.true())).where(*own)

    def json_sort_terms(self, value: Any) -> list[Any]:
        # Numbers as numbers; texts as by_code_point has them, whatever the database's locale.
        return [_as_number(value), _as_text(value)]

    def json_atoms(self, column: Any, path: JsonPath) -> Any:
        element = _elements(_value(column, path))
        return sa.select(_unquoted(element.c.value).label("atom")).select_from(element).lateral("atoms")

    def as_number(self, atom: Any) -> ColumnElement[float]:
        return _double(atom)

    def by_code_point(self, column: Any) -> Any:
        return sa.cast(column, sa.String).collate("C")

    def hex_id(self, column: Any) -> Any:
        return _hex(column)

    def matched(self, side: sa.Connection, rows: Any) -> Any:
        found = rows.subquery()
        columns = [sa.type_coerce(found.c.record_id, sa.String), found.c.score, found.c.number]
        ids, scores, numbers = [], [], []
        for record_id, score, number in side.execute(sa.select(*columns)):
            ids.append(record_id)
            scores.append(repr(score))
            numbers.append(str(number))
        kinds: dict[str, Any] = {"record_id": sa.Uuid(), "score": sa.Double(), "number": sa.BigInteger()}
        # One text for each column: a hundred thousand parameters would take longer to parse than to search.
        arrays = [
            sa.cast(sa.literal("{" + ",".join(values) + "}", sa.Text), pg.ARRAY(kind))
            for values, kind in zip((ids, scores, numbers), kinds.values(), strict=True)
        ]
        unnested = sa.func.unnest(*arrays).table_valued(*(sa.column(name, kind) for name, kind in kinds.items()))
        return sa.select(*unnested.render_derived(name="matched").c)

    def out_of_step(self, tables: Tables) -> OutOfStep:
        difference = OutOfStep([], [], [])
        stale: set[tuple[str, str]] = set()
        for dataset_id in tables.side.execute(sa.text("SELECT dataset_id FROM side.datasets")).scalars().all():
            # The side file is read first: what it holds was committed to Argilla's tables before, and is seen in them.
            texts = {(row[0],): row[1] for row in _indexed(tables, "record_id, updated_at", "documents", dataset_id)}
            columns = "record_id, settings_id, updated_at"
            vectors = {(row[0], row[1]): row[2] for row in _indexed(tables, columns, "vectors", dataset_id)}
            there = sa.select(_hex(Record.id), _time(Record.updated_at)).where(Record.dataset_id == _uuid(dataset_id))
            with_vectors = (
                sa.select(_hex(Vector.record_id), _hex(Vector.vector_settings_id), _time(Vector.updated_at))
                .join(Record, Record.id == Vector.record_id)
                .where(Record.dataset_id == _uuid(dataset_id))
            )
            for held, wanted in ((texts, there), (vectors, with_vectors)):
                for row in tables.argilla.execute(wanted.execution_options(stream_results=True, yield_per=AT_ONCE)):
                    *key, updated_at = row
                    indexed = held.get(tuple(key))
                    if indexed != updated_at:
                        stale.add((dataset_id, key[0]))
                    # The index keeps the newer of two states: where the tables hold the older, it goes first.
                    if indexed is not None and indexed <= updated_at:
                        del held[tuple(key)]
            difference.gone_records.extend(key[0] for key in texts)
            difference.gone_vectors.extend(vectors)
        difference.stale.extend(stale)
        return difference


class _PairedReader(Reader):
    def __init__(self, index: Path, connections: int) -> None:
        # Connections that a restarted PostgreSQL has cut are noticed and made anew.
        sizes: dict[str, Any] = {"pool_size": connections, "max_overflow": 1}
        self._argilla = sa.create_engine(
            database_url_sync(), pool_pre_ping=True, json_deserializer=fast_json.loads, **sizes
        )
        across_threads = {"check_same_thread": False}
        self._side = sa.create_engine("sqlite://", poolclass=sa.QueuePool, connect_args=across_threads, **sizes)
        sa.event.listen(self._side, "connect", attach(index))

    @contextmanager
    def connect(self, *, snapshot: bool = False) -> Iterator[Tables]:
        with self._side.connect() as side, self._argilla.connect() as argilla:
            if snapshot:
                side.exec_driver_sql("BEGIN")
            level: Any = "REPEATABLE READ" if snapshot else "READ COMMITTED"
            yield Tables(argilla.execution_options(isolation_level=level, postgresql_readonly=True), side)

    def dispose(self) -> None:
        self._argilla.dispose()
        self._side.dispose()


# --- values ---------------------------------------------------------------------------------------------------------


def _value(column: Any, path: JsonPath) -> Any:
    """The value at a path as jsonb; NULL where it holds a NUL, which is nothing that anybody searches for."""
    value: Any = column
    for name in path:
        value = value.op("->")(sa.cast(sa.literal(name, sa.String), sa.Text))
    text = sa.cast(value, sa.Text)
    return sa.case((sa.func.strpos(text, r"\u0000") == 0, sa.cast(text, pg.JSONB)))


def _elements(value: Any) -> Any:
    """The elements of a list, or the one value, in the column `value`."""
    whole = sa.case((sa.func.jsonb_typeof(value) == "array", value), else_=sa.func.jsonb_build_array(value))
    return sa.func.jsonb_array_elements(whole).table_valued(sa.column("value", pg.JSONB)).render_derived(name="element")


def _unquoted(value: Any) -> Any:
    return value.op("#>>")(sa.cast(sa.literal("{}", sa.Text), pg.ARRAY(sa.Text)))


def _as_number(value: Any) -> Any:
    return sa.case((sa.func.jsonb_typeof(value) == "number", _double(_unquoted(value))))


def _double(text: Any) -> Any:
    """A number that is written out; one that no double holds, which Argilla accepts, would fail the whole search."""
    number = sa.cast(text, sa.Numeric)
    bounded = sa.func.least(sa.func.greatest(number, sa.literal(-LARGEST)), sa.literal(LARGEST))
    return sa.cast(sa.case((sa.func.abs(number) < SMALLEST, 0), else_=bounded), sa.Double)


def _as_text(value: Any) -> Any:
    return sa.case((sa.func.jsonb_typeof(value) == "string", _unquoted(value))).collate("C")


def _meant(terms: Iterable[str]) -> list[Any]:
    """The JSON values that terms may stand for: texts, and the numbers and truth values that they spell."""
    meant: list[Any] = []
    for term in terms:
        number = known_number(term)
        meant.append(term)
        if number is not None and math.isfinite(number):
            meant.append(number)
        if term in ("true", "false"):
            meant.append(term == "true")
    return [value for value in meant if not (isinstance(value, str) and "\0" in value)]


def _range(filter: RangeFilter) -> tuple[str, dict[str, Any]]:
    """The JSON path of a value between the bounds, and its variables."""
    given: dict[str, Any] = {name: getattr(filter, name) for name in ("ge", "le")}
    given = {name: bound for name, bound in given.items() if bound is not None}
    numbers = {name: known_number(bound) for name, bound in given.items()}
    values: tuple[str, ...] = ("@",)
    if all(number is not None and not math.isnan(number) for number in numbers.values()):
        # A record may hold a number as text, and one that no double holds as a number.
        values = ("@", "@.double()")
        given = {name: max(min(number or 0.0, 1e300), -1e300) for name, number in numbers.items()}
    else:
        given = {name: str(bound).replace("\0", "") for name, bound in given.items()}
    signs = {"ge": ">=", "le": "<="}
    ways = (" && ".join(f"{value} {signs[name]} ${name}" for name in given) for value in values)
    return " || ".join(f"({way})" for way in ways) if given else "exists(@)", given


def _exists(value: Any, wanted: str, variables: dict[str, Any]) -> Any:
    # Silent: what cannot be read as a number does not pass, and is no error.
    path = sa.cast(f"$[*] ? ({wanted})", pg.JSONPATH)
    return sa.func.coalesce(sa.func.jsonb_path_exists(value, path, _jsonb(variables), sa.true()), sa.false())


def _jsonb(value: Any) -> Any:
    return sa.cast(sa.literal(json.dumps(value), sa.Text), pg.JSONB)


def _indexed(tables: Tables, columns: str, table: str, dataset_id: str) -> Any:
    statement = sa.text(f"SELECT {columns} FROM side.{table} WHERE dataset_id = :dataset_id")
    return tables.side.execute(statement, {"dataset_id": dataset_id})


def _hex(column: Any) -> Any:
    """As the side file keeps an id."""
    return sa.func.replace(sa.cast(column, sa.String), "-", "")


def _time(column: Any) -> Any:
    """As the side file keeps it."""
    return sa.func.to_char(column, "YYYY-MM-DD HH24:MI:SS.US")


def _uuid(dataset_id: str) -> Any:
    return sa.cast(sa.literal(dataset_id, sa.String), sa.Uuid)
