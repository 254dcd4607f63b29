"""Argilla's tables in a form that SQLite and PostgreSQL share: every value goes from one to the other as it is.

JSON is moved as text and never parsed: PostgreSQL's `json` keeps each character, and so does SQLite, but for bare
numbers, which its column keeps as numbers (1.0 becomes 1). Everything else goes through SQLAlchemy's types: UUIDs are
32 hex digits or native, enums names or native, booleans 0/1 or native, times naive UTC with microseconds.

Runs in the server environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from argilla_server.models.base import DatabaseModel
from argilla_server.models.database import Dataset  # noqa: F401 - importing the models fills the metadata

Row = dict[str, Any]
_LARGEST = 2**63
"""SQLite's integers end below it; what is larger it keeps as a float."""


@dataclass(frozen=True)
class PortableTable:
    """One table; `columns` are sorted by name, and rows come and go in that order."""

    name: str
    columns: tuple[str, ...]
    json: frozenset[str]
    key: tuple[str, ...]
    core: sa.Table

    def select(self, dialect: str) -> sa.Select[Any]:
        """All rows, JSON as text."""
        columns = [self.core.c[name] for name in self.columns]
        if dialect == "postgresql":
            columns = [
                sa.cast(column, sa.Text).label(column.name) if column.name in self.json else column
                for column in columns
            ]
        return sa.select(*columns)

    def rows_of(self, found: Iterable[Sequence[Any]]) -> list[Row]:
        """What `select` gave, ready to be inserted elsewhere."""
        return [
            {
                name: _as_json(value) if name in self.json else value
                for name, value in zip(self.columns, row, strict=True)
            }
            for row in found
        ]

    def comparable(self, rows: Iterable[Row]) -> Iterator[list[Any]]:
        """The rows as table_digest.py takes them: the same for both databases, and as SQLite stores them."""
        kinds = [(name, _comparable_json if name in self.json else _comparable) for name in self.columns]
        for row in rows:
            yield [kind(row[name]) for name, kind in kinds]

    def named(self, row: Row) -> str:
        """Which row it is, for a line to a person."""
        return " ".join(f"{name} {row[name]}" for name in self.key)


def portable_tables() -> list[PortableTable]:
    """Argilla's tables, each after those that it refers to."""
    return [_portable(table) for table in DatabaseModel.metadata.sorted_tables]


def _portable(table: sa.Table) -> PortableTable:
    texts = frozenset(column.name for column in table.columns if isinstance(column.type, sa.JSON))
    # Of the same name, with JSON left as the text that it is.
    columns = [sa.Column(c.name, sa.types.NullType() if c.name in texts else c.type) for c in table.columns]
    return PortableTable(
        name=table.name,
        columns=tuple(sorted(column.name for column in table.columns)),
        json=texts,
        key=tuple(column.name for column in table.primary_key.columns),
        core=sa.Table(table.name, sa.MetaData(), *columns),
    )


def _as_json(value: Any) -> str | None:
    """SQLite gives a bare number as such."""
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _comparable_json(text: str | None) -> Any:
    """Texts and null as they are, bare numbers as SQLite would keep them."""
    if text is None or text[:1] not in "-0123456789":
        return text
    number = json.loads(text)
    if isinstance(number, int) and abs(number) >= _LARGEST:
        return float(number)
    return int(number) if isinstance(number, float) and number.is_integer() and abs(number) < _LARGEST else number


_COMPARABLE: dict[type, Callable[[Any], Any]] = {
    UUID: lambda value: value.hex,
    datetime: lambda value: value.isoformat(" ", "microseconds"),
    bool: int,
}


def _comparable(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    kind = _COMPARABLE.get(type(value))
    return kind(value) if kind else value
