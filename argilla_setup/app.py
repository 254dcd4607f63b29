"""The Argilla server process: `python -m argilla_setup.app`, started by the launcher in the server environment.

Migration, accounts, the search index and serving happen in this one process, for importing Argilla costs seconds.
A cause that a user can act on ends the process with one line `lingo-hitl: ...` on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argilla_setup.addresses import url_of
from argilla_setup.home import Home
from argilla_setup.settings import configure, configure_logging

if TYPE_CHECKING:
    from collections.abc import Sequence


class StartError(Exception):
    """A fault that the user can mend; its text is the line they see."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; 0 after a clean stop."""
    parser = argparse.ArgumentParser(prog="argilla_setup.app")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--redis", required=True, help="URL of the Redis server, a unix socket")
    parser.add_argument("--annotator", action="append", default=[])
    options = parser.parse_args(arguments)
    os.umask(0o077)
    try:
        configure(Home(options.home), redis_url=options.redis)
        _serve(Home(options.home), host=options.host, port=options.port, annotators=options.annotator)
    except StartError as error:
        print(f"lingo-hitl: {error}", file=sys.stderr)
        return 3
    return 0


def _serve(home: Home, *, host: str, port: int, annotators: Sequence[str]) -> None:
    import argilla_server
    import uvicorn
    from argilla_server._version import __version__
    from argilla_server.database import SyncSessionLocal, async_engine, sync_engine
    from argilla_server.settings import settings

    from argilla_setup import search_engine, searcher, speedups  # noqa: F401 - importing the engine registers it
    from argilla_setup.accounts import ensure_accounts
    from argilla_setup.hardening import HardeningError, hardened, refuse_if_exposed, trusted_proxies

    configure_logging(home.log)
    if settings.database_is_sqlite:
        _configure_sqlite(async_engine.sync_engine, sync_engine)
        _refuse_newer_database(home)
    speedups.apply(__version__)
    try:
        application = hardened(argilla_server.app, __version__, home)
        proxies = trusted_proxies()
    except HardeningError as error:
        raise StartError(str(error)) from None
    _migrate(sync_engine)
    with SyncSessionLocal() as session:
        ensure_accounts(session, home.credentials, annotators=annotators, url=url_of(host, port))
        try:
            refuse_if_exposed(session, home, host)
        except HardeningError as error:
            raise StartError(str(error)) from None
    for file in home.path.glob("argilla.db*"):
        file.chmod(0o600)
    with searcher.opened(home.index):
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
        server.run()
    if settings.database_is_sqlite:
        _checkpoint(home)
    if not server.started:
        raise StartError(f"port {port} on {host} was taken while the server started. Run `lingo-hitl up` again.")


def _configure_sqlite(*engines: Any) -> None:
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


def _refuse_newer_database(home: Home) -> None:
    from argilla_server._version import __version__

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
    unknown = found - {revision.revision for revision in _scripts().walk_revisions()}
    if unknown:
        raise StartError(
            f"{home.database} was written by a newer Argilla (schema {', '.join(sorted(unknown))}); this is"
            f" {__version__}. Update lingo-hitl, or give another place with --home."
        )


def _migrate(engine: Any) -> None:
    """Bring the database to the schema of this Argilla; nothing to do, and quick, where it is there."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    scripts = _scripts()
    with engine.connect() as connection:
        if set(MigrationContext.configure(connection).get_current_heads()) == set(scripts.get_heads()):
            return
    config = Config()
    config.set_main_option("script_location", scripts.dir)
    command.upgrade(config, "head")


def _scripts() -> Any:
    import argilla_server
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(argilla_server.__file__).parent / "alembic"))


if __name__ == "__main__":
    sys.exit(main())
