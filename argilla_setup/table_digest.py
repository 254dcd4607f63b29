"""What a table holds, in two numbers: how many rows, and a digest of all of them. Equal for equal content.

The digest is a sum over the rows, so it does not depend on their order, and rows need not be sorted to compare two
databases of different makers. It tells accidents, not forgeries: files have SHA-256 for that.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

BATCH = 1000
_MODULUS = 1 << 128


@dataclass(frozen=True)
class TableContent:
    """The number of rows of a table and the digest of what is in them (32 hex digits)."""

    rows: int = 0
    digest: str = "0" * 32

    def plus(self, rows: Iterable[Sequence[Any]]) -> TableContent:
        """The content with more rows, whose values are texts, numbers, bytes and None in a fixed order of columns."""
        count, total = self.rows, int(self.digest, 16)
        for row in rows:
            text = json.dumps(row, separators=(",", ":"), default=bytes.hex)
            count += 1
            total += int.from_bytes(hashlib.blake2b(text.encode("ascii"), digest_size=16).digest(), "big")
        return TableContent(count, f"{total % _MODULUS:032x}")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def tables_of(connection: sqlite3.Connection) -> list[str]:
    """The names of a SQLite database's tables, sorted."""
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite!_%' ESCAPE '!'"
    )
    return sorted(row[0] for row in rows)


def contents(
    connection: sqlite3.Connection, step: Callable[[int], None] = lambda rows: None
) -> dict[str, TableContent]:
    """The content of each table of a SQLite database; `step` gets the number of rows read since its last call."""
    return {table: _content(connection, table, step) for table in tables_of(connection)}


def count_rows(connection: sqlite3.Connection) -> int:
    """Rows of all tables together."""
    return sum(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables_of(connection))


def _content(connection: sqlite3.Connection, table: str, step: Callable[[int], None]) -> TableContent:
    # By name: a migration may have left the same columns in another order.
    columns = sorted(row[1] for row in connection.execute(f'PRAGMA table_info("{table}")'))
    names = ", ".join(f'"{name}"' for name in columns)
    cursor = connection.execute(f'SELECT {names} FROM "{table}"')
    content = TableContent()
    while rows := cursor.fetchmany(BATCH):
        content = content.plus(rows)
        step(len(rows))
    return content
