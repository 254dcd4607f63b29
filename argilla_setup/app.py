"""The Argilla server process: `python -m argilla_setup.app`, started by the launcher in the server environment.

Migration, accounts, the search index and serving happen in this one process, for importing Argilla costs seconds.
A cause that a user can act on ends the process with one line `lingo-hitl: ...` on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argilla_setup.accounts.owner_sign_in import OwnerSignIn
from argilla_setup.addresses import url_of, why_not_free
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, read_json
from argilla_setup.settings import configure, configure_logging
from argilla_setup.sqlite_reading import reading
from argilla_setup.supervisor import CANNOT_START, NO_ANSWER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class StartError(LauncherError):
    """A fault that the user can mend; its text is the line they see."""


class NoAnswerError(StartError):
    """What the server needs did not answer in time; it may be back later without anybody's doing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; 0 after a clean stop, else CANNOT_START or NO_ANSWER of the supervisor."""
    parser = argparse.ArgumentParser(prog="argilla_setup.app")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", help="URL of the Redis server; a team's is in ARGILLA_REDIS_URL")
    parser.add_argument("--annotator", action="append", default=[])
    options = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        Home(options.home).prepare()
        configure(Home(options.home), redis_url=options.redis)
        _serve(Home(options.home), host=options.host, port=options.port, annotators=options.annotator)
    except LauncherError as error:
        print(f"lingo-hitl: {error}", file=sys.stderr)
        return NO_ANSWER if isinstance(error, NoAnswerError) else CANNOT_START
    return 0


def _serve(home: Home, *, host: str, port: int, annotators: Sequence[str]) -> None:
    import argilla_server
    import uvicorn
    from argilla_server._version import __version__
    from argilla_server.database import SyncSessionLocal, async_engine, sync_engine
    from argilla_server.settings import settings

    from argilla_setup.accounts.first_accounts import ensure_accounts
    from argilla_setup.patches import kept_jobs, speedups
    from argilla_setup.search import search_engine, searcher
    from argilla_setup.security.hardening import hardened, refuse_if_exposed, trusted_proxies

    configure_logging(home.log)
    if settings.database_is_sqlite:
        configure_sqlite(async_engine.sync_engine, sync_engine)
        _refuse_lost_database(home)
        _refuse_newer_database(home)
    speedups.apply(__version__)
    kept_jobs.apply(__version__, home.unsent_jobs)
    application = hardened(argilla_server.app, __version__, home)
    proxies = trusted_proxies()
    with _damage_told(home):
        _migrate(sync_engine)
    given = OwnerSignIn.take(os.environ)
    with _damage_told(home), SyncSessionLocal() as session:
        ensure_accounts(session, home.credentials, annotators=annotators, url=url_of(host, port), given=given)
        refuse_if_exposed(session, home, host)
    for file in home.path.glob("argilla.db*"):
        file.chmod(0o600)
    # Elasticsearch keeps its index elsewhere, and Argilla keeps that one.
    embedded = settings.search_engine == search_engine.ENGINE_NAME
    with searcher.opened(home.index) if embedded else contextlib.nullcontext():
        config = uvicorn.Config(
            application,
            host=host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=proxies is not None,
            forwarded_allow_ips=proxies,
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        _stop_at_sigterm(server)
        # uvicorn ends the process itself where it cannot listen.
        with contextlib.suppress(SystemExit):
            server.run()
    if settings.database_is_sqlite:
        _checkpoint(home)
    if not server.started:
        reason = why_not_free(host, port)
        if reason:
            raise StartError(
                f"port {port} on {host} cannot be used ({reason}). Stop the other program that has it, or give another"
                " one with `lingo-hitl up --port`."
            )
        raise NoAnswerError(f"Argilla could not start: Redis or the search engine did not answer; see {home.log}.")


def _stop_at_sigterm(server: Any) -> None:
    """Let a stop run to its end: uvicorn raises the signal once more after serving, and its default ends the process.

    The index would then be left open, and the write-ahead logs beside their databases.
    """

    def stop(_signal: int, _frame: Any) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)


def configure_sqlite(*engines: Any) -> None:
    """Write-ahead log, so that readers and a writer do not wait for each other, and a commit that returned is on disk.

    synchronous=FULL costs a disk flush per commit; with NORMAL a power cut could take the last answers.
    """
    from sqlalchemy import event

    def configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA journal_size_limit = 67108864")
        cursor.close()

    for engine in engines:
        event.listen(engine, "connect", configure)


def _checkpoint(home: Home) -> None:
    """Move what the write-ahead log holds into the database file, so that the file alone is the whole of it."""
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _refuse_lost_database(home: Home) -> None:
    """A home of which only the database is gone would start as an empty one, and the next backups would be of that."""
    if home.database.exists() or not home.index.exists():
        return
    records = 0
    with contextlib.suppress(sqlite3.Error), reading(home.index) as index:
        records = index.execute("SELECT count(*) FROM documents").fetchone()[0]
    if records:
        last = read_json(home.last_backup).get("path", "none is known here")
        raise StartError(
            f"{home.database} is gone, and {home.index.name} knows of {records} records in it. Restore the last backup"
            f" ({last}) with `lingo-hitl restore`, or move {home.index.name} away to begin anew."
        )


@contextlib.contextmanager
def _damage_told(home: Home) -> Iterator[None]:
    """A SQLite file that cannot be read is a line."""
    from sqlalchemy.exc import DatabaseError

    try:
        yield
    except DatabaseError as error:
        if not isinstance(error.orig, sqlite3.DatabaseError):
            raise
        raise StartError(f"{home.database} cannot be used ({error.orig}). Restore it from a backup.") from None


def _refuse_newer_database(home: Home) -> None:
    if not home.database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(home.database)) as connection:
            found = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return
        raise StartError(f"{home.database} cannot be opened ({error}). Restore it from a backup.") from None
    except sqlite3.DatabaseError as error:
        raise StartError(f"{home.database} is damaged ({error}). Restore it from a backup.") from None
    _refuse_newer(found, str(home.database))


def _refuse_newer(found: set[str], what: str) -> None:
    from argilla_server._version import __version__

    unknown = found - {revision.revision for revision in _scripts().walk_revisions()}
    if unknown:
        raise StartError(
            f"{what} was written by a newer Argilla (schema {', '.join(sorted(unknown))}); this is"
            f" {__version__}. Update lingo-hitl, or give another place with --home."
        )


def _migrate(engine: Any) -> None:
    """Bring the database to the schema of this Argilla; nothing to do, and quick, where it is there."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from sqlalchemy.exc import OperationalError

    scripts = _scripts()
    try:
        with engine.connect() as connection:
            found = set(MigrationContext.configure(connection).get_current_heads())
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0]
        raise StartError(
            f"the database at {engine.url.host or engine.url.database} cannot be used ({reason})."
            " Check ARGILLA_DATABASE_URL, its password, and that PostgreSQL runs."
        ) from None
    if found == set(scripts.get_heads()):
        return
    _refuse_newer(found, "the database")
    config = Config()
    config.set_main_option("script_location", scripts.dir)
    command.upgrade(config, "head")


def _scripts() -> Any:
    import argilla_server
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(argilla_server.__file__).parent / "alembic"))


if __name__ == "__main__":
    sys.exit(main())
