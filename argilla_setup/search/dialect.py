"""What differs between the databases that Argilla's tables may lie in: SQLite, or a team's PostgreSQL.

Each has a file of its own, and the rest of the search engine knows neither. The side file is SQLite always; a dialect
says how its matches meet Argilla's tables.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from argilla_server.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    import sqlalchemy as sa
    from argilla_server.search_engine import RangeFilter, TermsFilter
    from sqlalchemy.sql.elements import ColumnElement

    JsonPath = tuple[str, ...]
    """The keys that lead to a value within a JSON column; none is the column itself."""


class Tables(NamedTuple):
    """A connection for each place that is read; on SQLite one and the same."""

    argilla: sa.Connection
    side: sa.Connection
    """Where the tables of the side file are called side.documents and so on."""


class Reader(ABC):
    """Connections beside Argilla's own pool, that read and never write."""

    @abstractmethod
    def connect(self, *, snapshot: bool = False) -> AbstractContextManager[Tables]:
        """Connections for a while; with `snapshot` each sees one state of the tables, whatever is written meanwhile."""

    @abstractmethod
    def dispose(self) -> None:
        """Close the connections that are not in use; later ones see the files that are there then."""


@dataclass(frozen=True)
class OutOfStep:
    """Where the side file differs from Argilla's tables. Ids are 32 hex digits."""

    gone_records: list[str]
    gone_vectors: list[tuple[str, str]]
    """(record id, vector settings id)"""
    stale: list[tuple[str, str]]
    """(dataset id, record id)"""


class Dialect(ABC):
    """SQL over Argilla's tables, as one database speaks it."""

    indexes: ClassVar[Mapping[str, str]]
    """What searching wants of Argilla's tables, by name; the database keeps them in step itself."""
    number: ColumnElement[int]
    """A record's place in the annotators' orders; as user_order.number_of."""
    suggestions: Any
    """Argilla's suggestions, under the name `suggested`."""
    repeats_sort_values: bool
    """Whether a value from JSON is worked out anew for each mention in ORDER BY, unless all are collected first."""

    @abstractmethod
    def reader(self, index: Path, *, connections: int) -> Reader:
        """A reader of Argilla's database and the side file."""

    @abstractmethod
    def suggested(self, name: str) -> Any:
        """A column of `suggestions`."""

    @abstractmethod
    def any_json_value(self, column: Any, path: JsonPath, filter: TermsFilter | RangeFilter) -> ColumnElement[bool]:
        """Whether the value at a JSON path passes the filter; of a list, whether one of its elements does.

        Terms arrive as texts, also for numbers and truth values. Numbers compare as numbers, other bounds as text.
        """

    @abstractmethod
    def json_sort_value(self, column: Any, path: JsonPath, *, smallest: bool) -> Any:
        """What to sort by for the value at a JSON path; of a list its smallest or largest element."""

    @abstractmethod
    def response_sort_value(self, path: JsonPath, own: Iterable[Any], *, smallest: bool) -> Any:
        """A select of the same for a record's responses, those that satisfy `own`.

        The mean of several people's numbers; of their labels, the first or last in the alphabet.
        """

    @abstractmethod
    def json_sort_terms(self, value: Any) -> list[Any]:
        """What to order by, one after the other, where `value` is one of the two above."""

    @abstractmethod
    def json_atoms(self, column: Any, path: JsonPath) -> Any:
        """The values at a JSON path, one row each, in the column `atom`: the elements of a list, or the one value."""

    @abstractmethod
    def as_number(self, atom: Any) -> ColumnElement[float]:
        """An atom of `json_atoms` as a number; what is too large for one is as large as can be."""

    @abstractmethod
    def by_code_point(self, column: Any) -> Any:
        """A text or an enumeration, to be compared as text, character by character, whatever the locale."""

    @abstractmethod
    def hex_id(self, column: Any) -> Any:
        """An id as 32 hex digits."""

    @abstractmethod
    def matched(self, side: sa.Connection, rows: Any) -> Any:
        """A select of record_id, score and number for what `rows` finds in the side file."""

    @abstractmethod
    def out_of_step(self, tables: Tables) -> OutOfStep:
        """Compare by `updated_at`, all datasets that the side file knows."""


def known_number(value: Any) -> float | None:
    """What a text says as a number; None where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def current() -> Dialect:
    """The dialect of the database that Argilla was given."""
    global _current  # noqa: PLW0603 - the database of a process is Argilla's one setting
    if _current is None:
        if settings.database_is_postgresql:
            from argilla_setup.search.postgresql_dialect import PostgresqlDialect

            _current = PostgresqlDialect()
        else:
            from argilla_setup.search.sqlite_dialect import SqliteDialect

            _current = SqliteDialect()
    return _current


_current: Dialect | None = None
