"""The two databases of a migration: how they are opened, and what keeps them from being copied from or to.

Runs in the server environment.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from alembic.script import ScriptDirectory

from argilla_setup.accounts.credentials_file import MADE_BY_UP, OWNER, WORKSPACE

PATIENCE_S = 10
HOLDING_NOTHING = ("datasets", "records", "webhooks")
"""Tables that a server which was only ever started has no rows in."""


class CopyError(Exception):
    """One line for the user."""


@dataclass(frozen=True)
class End:
    """A database, as the task names it: `path` of a SQLite file or `url` of a PostgreSQL; `shown` holds no secret."""

    shown: str
    path: str | None = None
    url: str | None = None
    replaces: str | None = None
    """Of a target: the SQLite file whose place the new one takes."""

    @contextlib.contextmanager
    def connected(self, *, writes: bool = False) -> Iterator[sa.Connection]:
        """A connection in a transaction of its own: reads see one moment, writes are rolled back unless committed."""
        engine = self._engine(self.path, writes) if self.path else sa.create_engine(sa.make_url(self.url or ""))
        try:
            with engine.connect() as connection:
                if self.path:
                    connection.exec_driver_sql("BEGIN")
                elif not writes:
                    connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                yield connection
        except sa.exc.OperationalError as error:
            raise CopyError(
                f"{self.shown} cannot be used ({reason_of(error)}). Check the address and the server."
            ) from None
        finally:
            engine.dispose()

    @contextlib.contextmanager
    def replaced(self) -> Iterator[sa.Connection | None]:
        """The database that a new file takes the place of."""
        if self.replaces is None:
            yield None
            return
        with End(self.shown, path=self.replaces).connected() as connection:
            yield connection

    @staticmethod
    def _engine(path: str, writes: bool) -> sa.Engine:
        uri = f"{Path(path).as_uri()}?mode={'rwc' if writes else 'ro'}"

        def connect() -> sqlite3.Connection:
            connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE_S, isolation_level=None)
            if writes:
                # A new file: worthless until it is whole, and flushed as a whole then.
                connection.execute("PRAGMA journal_mode = OFF")
                connection.execute("PRAGMA synchronous = OFF")
            return connection

        return sa.create_engine("sqlite://", creator=connect, poolclass=sa.pool.NullPool)


def refuse_other_schema(connection: sa.Connection, end: End) -> None:
    """CopyError unless the database is of this Argilla, neither an earlier nor a later one."""
    ours = importlib.metadata.version("argilla-server")
    if not sa.inspect(connection).has_table("alembic_version"):
        raise CopyError(f"{end.shown} holds no Argilla; a database of Argilla {ours} was expected.")
    found = set(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars())
    known = scripts()
    if found == set(known.get_heads()):
        return
    if found <= {revision.revision for revision in known.walk_revisions()}:
        raise CopyError(
            f"{end.shown} is of an earlier Argilla (schema {', '.join(sorted(found))}); {ours} was expected."
            f" Start Argilla {ours} on it once (a home: `lingo-hitl up`), stop it, then run this again."
        )
    raise CopyError(
        f"{end.shown} is of a newer Argilla (schema {', '.join(sorted(found))}); this is {ours}. Update lingo-hitl."
    )


def refuse_data(connection: sa.Connection | None, end: End) -> None:
    """CopyError unless the target is empty, or holds what a first start makes and nothing more."""
    if connection is None:
        return
    inspector = sa.inspect(connection)
    if not any(inspector.has_table(table) for table in ("alembic_version", "users", "workspaces", *HOLDING_NOTHING)):
        return
    refuse_other_schema(connection, end)
    held = {name: _count(connection, name) for name in HOLDING_NOTHING}
    users = set(connection.execute(sa.text("SELECT username FROM users")).scalars()) - {OWNER, *MADE_BY_UP}
    workspaces = set(connection.execute(sa.text("SELECT name FROM workspaces")).scalars()) - {WORKSPACE}
    if users or workspaces or any(held.values()):
        counts = ", ".join(f"{count} {name}" for name, count in held.items())
        others = f"; users beside those of a first start: {', '.join(sorted(users))}" if users else ""
        raise CopyError(
            f"{end.shown} holds data ({counts}{others}), and nothing is ever overwritten. Give an empty database or"
            " a home that is new."
        )


def scripts() -> ScriptDirectory:
    """Argilla's migrations."""
    package = importlib.util.find_spec("argilla_server")
    assert package and package.origin
    return ScriptDirectory(str(Path(package.origin).parent / "alembic"))


def reason_of(error: Exception) -> str:
    """The first line of what a database said: the rest may hold what people wrote."""
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0]


def _count(connection: sa.Connection, table: str) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(sa.table(table))).scalar_one())
