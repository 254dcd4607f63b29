"""The indexes that searching wants of Argilla's tables. The database keeps them in step itself."""

from __future__ import annotations

import sqlalchemy as sa

from argilla_setup.search import dialect

_FORMER = ("lingo_records", "lingo_suggestions")


def create_indexes(url: str) -> None:
    """Make those that are missing: seconds at 100,000 records, once."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for name in _FORMER:
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
        for name, columns in dialect.current().indexes.items():
            connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")
    engine.dispose()
