"""Copy one Argilla's database to another: `python -m argilla_setup.migration.copying`, run in the server environment.

The task is one JSON object on standard input, for its addresses may hold passwords (see migrate.py, which starts
this). Standard output gets JSON lines: steps while it works, and a last one with the outcome or the error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from argilla_setup.migration.databases import (
    PATIENCE_S,
    CopyError,
    End,
    reason_of,
    refuse_data,
    refuse_other_schema,
    scripts,
)
from argilla_setup.table_digest import TableContent

if TYPE_CHECKING:
    from argilla_setup.migration.tables import PortableTable, Row

BATCH = 500


def main() -> int:
    """Do the task on standard input; 0 where it was done."""
    os.umask(0o077)
    task = json.load(sys.stdin)
    try:
        outcome = run(End(**task["source"]), End(**task["target"]), live=task["live"], dry_run=task["dry_run"])
    except ModuleNotFoundError as error:
        _say(error=f"{sys.prefix} lacks {error.name}. Delete that folder, then run this again: it is built anew.")
        return 3
    except CopyError as error:
        _say(error=str(error))
        return 3
    _say(**outcome)
    return 0


def run(source: End, target: End, *, live: bool, dry_run: bool) -> dict[str, Any]:
    """Copy all tables in one transaction of the target, and compare what is there afterwards with what was read."""
    with source.connected() as reading, target.replaced() as replaced:
        refuse_other_schema(reading, source)
        refuse_data(replaced, target)
    if target.url:
        with target.connected() as there:
            refuse_data(there, target)
    _import_tables_alone()
    from argilla_setup.migration.tables import portable_tables

    tables = portable_tables()
    with source.connected() as reading:
        rows = {table.name: _count(reading, table.core) for table in tables}
        if dry_run:
            return {"tables": [{"name": name, "rows": count} for name, count in rows.items()], "changed": []}
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
                # Its planner knows nothing of rows that came in one transaction. Nothing is lost without.
                with contextlib.suppress(sa.exc.DBAPIError):
                    writing.exec_driver_sql("ANALYZE")
                    writing.commit()
    shown = [{"name": name, **content.as_json()} for name, content in written.items()]
    return {"tables": shown, "changed": changed}


def _import_tables_alone() -> None:
    """Argilla without its web application, which its `__init__` imports: half a second instead of four."""
    for name in [name for name in os.environ if name.startswith("ARGILLA_")]:
        del os.environ[name]
    # The folder that migrate.py made for this process; Argilla makes its home as soon as it is imported.
    os.environ["ARGILLA_HOME_PATH"] = str(Path.cwd() / "argilla")
    os.environ.update({"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"})
    package = importlib.util.find_spec("argilla_server")
    assert package
    sys.modules["argilla_server"] = importlib.util.module_from_spec(package)


def _prepare(connection: sa.Connection, target: End, tables: list[PortableTable]) -> None:
    """Have the tables there, empty, and nobody else writing to them."""
    if not sa.inspect(connection).has_table("alembic_version"):
        _create_schema(connection)
        if connection.dialect.name == "sqlite":
            return
        # Migrations add values to enums, which PostgreSQL lets nobody use before they are committed.
        connection.commit()
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE_S}s'")
    names = ", ".join(f'"{table.name}"' for table in tables)
    connection.exec_driver_sql(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE")
    # Again: a server may have been at work until the lock was given.
    refuse_data(connection, target)
    for table in reversed(tables):
        connection.execute(sa.delete(table.core))


def _create_schema(connection: sa.Connection) -> None:
    """Argilla's own migrations."""
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from argilla_server.models.base import DatabaseModel

    known = scripts()
    environment = EnvironmentContext(
        Config(), known, fn=lambda revision, _: known._upgrade_revs("head", revision), destination_rev="head"
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
                f"{target.shown} refuses a row of {table.name}, {table.named(row)} ({reason_of(error)}); nothing was"
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


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    sys.exit(main())
