"""Copy one Argilla's database to another: `python -m argilla_setup.migration_copy`, run in the server environment.

The task is one JSON object on standard input, for its addresses may hold passwords (see migration.py, which starts
this). Standard output gets JSON lines: steps while it works, and a last one with the outcome or the error.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from argilla_setup.credentials_file import MADE_BY_UP, OWNER
from argilla_setup.table_digest import TableContent

if TYPE_CHECKING:
    from argilla_setup.migration_tables import PortableTable, Row

BATCH = 500
PATIENCE_S = 10
WORKSPACE = "lingo"
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
                f"{self.shown} cannot be used ({_reason(error)}). Check the address and the server."
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


def main() -> int:
    """Do the task on standard input; 0 where it was done."""
    os.umask(0o077)
    task = json.load(sys.stdin)
    try:
        with tempfile.TemporaryDirectory(prefix="lh-migrate-") as folder:
            _configure_argilla(folder)
            outcome = run(End(**task["source"]), End(**task["target"]), live=task["live"], dry_run=task["dry_run"])
    except CopyError as error:
        _say(error=str(error))
        return 3
    _say(**outcome)
    return 0


def run(source: End, target: End, *, live: bool, dry_run: bool) -> dict[str, Any]:
    """Copy all tables in one transaction of the target, and compare what is there afterwards with what was read."""
    from argilla_setup.migration_tables import portable_tables

    tables = portable_tables()
    with source.connected() as reading:
        _refuse_other_schema(reading, source)
        rows = {table.name: _count(reading, table.core) for table in tables}
        if dry_run:
            with target.replaced() as there:
                _refuse_data(there, target, tables)
            if target.url:
                with target.connected() as there:
                    _refuse_data(there, target, tables)
            return {"tables": [{"name": name, "rows": count} for name, count in rows.items()], "changed": []}
        with target.replaced() as there:
            _refuse_data(there, target, tables)
        state = _state(reading, tables)
        with target.connected(writes=True) as writing:
            _prepare(writing, target, tables)
            read = _copy(reading, writing, source, target, tables, sum(rows.values()))
            written = _read_back(writing, tables, sum(rows.values()))
            _refuse_difference(read, written, target)
            with source.connected() as again:
                now = _state(again, tables)
            changed = [name for name, known in state.items() if now[name] != known]
            if changed and not live:
                raise CopyError(
                    f"{source.shown} was written to meanwhile ({', '.join(changed)}); nothing was copied. Stop its"
                    " server, or add --live to leave what comes in during the copy behind."
                )
            if writing.dialect.name == "sqlite":
                orphans = writing.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
                if orphans:
                    raise CopyError(f"{source.shown} holds rows of {orphans[0][0]} whose {orphans[0][2]} are gone.")
            writing.commit()
            if writing.dialect.name == "postgresql":
                # Its planner knows nothing of rows that came in one transaction.
                writing.exec_driver_sql("ANALYZE")
                writing.commit()
    shown = [{"name": name, **content.as_json()} for name, content in written.items()]
    return {"tables": shown, "changed": changed}


def _configure_argilla(folder: str) -> None:
    """Argilla is imported for its tables and migrations alone: it must not find the user's own settings."""
    for name in [name for name in os.environ if name.startswith("ARGILLA_")]:
        del os.environ[name]
    os.environ["ARGILLA_HOME_PATH"] = folder
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})
    from argilla_server import database

    # It would send SQLite's PRAGMA to PostgreSQL, for it looks at Argilla's settings and not at the connection.
    sa.event.remove(sa.Engine, "connect", database.set_sqlite_pragma)


def _refuse_other_schema(connection: sa.Connection, end: End) -> None:
    from argilla_server._version import __version__

    if not sa.inspect(connection).has_table("alembic_version"):
        raise CopyError(f"{end.shown} holds no Argilla; a database of Argilla {__version__} was expected.")
    found = set(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars())
    scripts = _scripts()
    if found == set(scripts.get_heads()):
        return
    if found <= {revision.revision for revision in scripts.walk_revisions()}:
        raise CopyError(
            f"{end.shown} is of an earlier Argilla (schema {', '.join(sorted(found))}); {__version__} was expected."
            f" Start Argilla {__version__} on it once (a home: `lingo-hitl up`), stop it, then run this again."
        )
    raise CopyError(
        f"{end.shown} is of a newer Argilla (schema {', '.join(sorted(found))}); this is {__version__}."
        " Update lingo-hitl."
    )


def _refuse_data(connection: sa.Connection | None, end: End, tables: list[PortableTable]) -> None:
    """CopyError unless the target is empty, or holds what a first start makes and nothing more."""
    if connection is None:
        return
    inspector = sa.inspect(connection)
    there = [table.name for table in tables if inspector.has_table(table.name)]
    if not there:
        return
    _refuse_other_schema(connection, end)
    core = {table.name: table.core for table in tables}
    held = {name: _count(connection, core[name]) for name in HOLDING_NOTHING}
    users = set(connection.execute(sa.select(core["users"].c.username)).scalars()) - {OWNER, *MADE_BY_UP}
    workspaces = set(connection.execute(sa.select(core["workspaces"].c.name)).scalars()) - {WORKSPACE}
    if users or workspaces or any(held.values()):
        counts = ", ".join(f"{count} {name}" for name, count in held.items())
        others = f"; users beside those of a first start: {', '.join(sorted(users))}" if users else ""
        raise CopyError(
            f"{end.shown} holds data ({counts}{others}), and nothing is ever overwritten. Give an empty database or"
            " a home that is new."
        )


def _prepare(connection: sa.Connection, target: End, tables: list[PortableTable]) -> None:
    """Have the tables there, empty, and nobody else writing to them."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE_S}s'")
        _refuse_data(connection, target, tables)
    if not sa.inspect(connection).has_table("alembic_version"):
        _create_schema(connection)
        return
    names = ", ".join(f'"{table.name}"' for table in tables)
    connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
    # Again: a server may have been at work until the lock was given.
    _refuse_data(connection, target, tables)
    for table in reversed(tables):
        connection.execute(sa.delete(table.core))


def _create_schema(connection: sa.Connection) -> None:
    """Argilla's own migrations, in the transaction that is open."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from argilla_server.models.base import DatabaseModel

    scripts = _scripts()
    environment = EnvironmentContext(
        Config(), scripts, fn=lambda revision, _: scripts._upgrade_revs("head", revision), destination_rev="head"
    )
    with environment:
        environment.configure(connection=connection, target_metadata=DatabaseModel.metadata)
        environment.run_migrations()


def _copy(
    reading: sa.Connection, writing: sa.Connection, source: End, target: End, tables: list[PortableTable], whole: int
) -> dict[str, TableContent]:
    """Returns what was read, by table."""
    contents, done = {}, 0
    for table in tables:
        content = TableContent()
        for rows in _batches(reading, table):
            try:
                with writing.begin_nested() if writing.dialect.name == "postgresql" else contextlib.nullcontext():
                    writing.execute(sa.insert(table.core), rows)
            except (sa.exc.SQLAlchemyError, ValueError):
                raise _culprit(writing, table, rows, source, target) from None
            content = content.plus(table.comparable(rows))
            done += len(rows)
            _say(step=f"copying {table.name}", done=done, whole=whole)
        contents[table.name] = content
    return contents


def _culprit(writing: sa.Connection, table: PortableTable, rows: list[Row], source: End, target: End) -> CopyError:
    """Which row of a batch is refused, and why."""
    for row in rows:
        try:
            with writing.begin_nested() if writing.dialect.name == "postgresql" else contextlib.nullcontext():
                writing.execute(sa.insert(table.core), [row])
        except (sa.exc.SQLAlchemyError, ValueError) as error:
            return CopyError(
                f"{target.shown} refuses a row of {table.name}, {table.named(row)} ({_reason(error)}); nothing was"
                f" copied. Correct it in {source.shown}, then run this again."
            )
    return CopyError(f"{target.shown} refuses rows of {table.name}; nothing was copied.")


def _read_back(connection: sa.Connection, tables: list[PortableTable], whole: int) -> dict[str, TableContent]:
    contents, done = {}, 0
    for table in tables:
        content = TableContent()
        for rows in _batches(connection, table):
            content = content.plus(table.comparable(rows))
            done += len(rows)
            _say(step="comparing", done=done, whole=whole)
        contents[table.name] = content
    return contents


def _batches(connection: sa.Connection, table: PortableTable) -> Iterator[list[Row]]:
    statement = table.select(connection.dialect.name).execution_options(yield_per=BATCH)
    for found in connection.execute(statement).partitions():
        yield table.rows_of(found)


def _refuse_difference(read: dict[str, TableContent], written: dict[str, TableContent], target: End) -> None:
    for name, content in read.items():
        if written[name] != content:
            raise CopyError(
                f"{target.shown} does not hold {name} as they were read ({written[name].rows} rows of {content.rows},"
                " or other values); nothing was copied. Report this."
            )


def _state(connection: sa.Connection, tables: list[PortableTable]) -> dict[str, tuple[int, Any]]:
    """What tells whether a table was written to: how many rows there are, and when the last one changed."""
    latest = {table.name: sa.select(sa.func.count(), sa.func.max(table.core.c.updated_at)) for table in tables}
    return {name: tuple(connection.execute(statement).one()) for name, statement in latest.items()}


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def _scripts() -> Any:
    import argilla_server
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(argilla_server.__file__).parent / "alembic"))


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0]


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
