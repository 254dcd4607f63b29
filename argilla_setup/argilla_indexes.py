"""The indexes that searching wants of Argilla's SQLite database. SQLite keeps them in step itself.

They hold what pages, queues and comparisons read, without the wide rows of texts and vectors.
"""

from __future__ import annotations

import sqlalchemy as sa

from argilla_setup.user_order import number_sql

SHORT = 40


def short_value_sql(table: str = "") -> str:
    """A suggestion's value where it is short, as labels and ratings are: an index of whole texts would double them."""
    return f"CASE WHEN length({table}value) <= {SHORT} THEN {table}value END"


_INDEXES = {
    "lingo_status": "records (dataset_id, status, inserted_at, updated_at, id)",
    "lingo_metadata": "records (dataset_id, inserted_at, id, status, updated_at, metadata)",
    "lingo_order": f"records (dataset_id, {number_sql('id')}, id)",
    "lingo_responses": "responses (user_id, record_id, status)",
    "lingo_values": f"suggestions (question_id, record_id, {short_value_sql()}, score, agent, type)",
    "lingo_vectors": "vectors (record_id, vector_settings_id, updated_at)",
}
_FORMER = ("lingo_records", "lingo_suggestions")


def create_indexes(url: sa.URL) -> None:
    """Make those that are missing: seconds at 100,000 records, once."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for name in _FORMER:
            connection.exec_driver_sql(f"DROP INDEX IF EXISTS {name}")
        for name, columns in _INDEXES.items():
            connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {columns}")
    engine.dispose()
