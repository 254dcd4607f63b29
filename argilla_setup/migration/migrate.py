"""`migrate-server`: move all that one Argilla holds to another, SQLite or PostgreSQL. Standard library only.

The copying itself runs in the server environment, for it needs Argilla's tables (copying.py). Here: what the
two ends are, that nobody works on them, and that a home is whole or as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argilla_setup import environment, running
from argilla_setup.backup import snapshot as format_
from argilla_setup.backup.restore import fit_credentials, fits
from argilla_setup.backup.set_aside import set_aside, waiting_jobs
from argilla_setup.backup.snapshot import DATABASE, INDEX, Tell, quiet
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, explain_os_error
from argilla_setup.migration.ends import HomeEnd, PostgresEnd, SqliteEnd, end_of


@dataclass(frozen=True)
class MovedTable:
    """A table of the target; `digest` is None after a dry run."""

    name: str
    rows: int
    digest: str | None = None


@dataclass(frozen=True)
class Migration:
    """What was copied, or would be."""

    source: str
    target: str
    tables: tuple[MovedTable, ...]
    changed: tuple[str, ...]
    """Tables that were written to at the source meanwhile; what came in after the start is not in the target."""
    next_step: str
    set_aside: tuple[str, ...] = ()
    """Sign-ins and waiting jobs of the home that the target is, by their new names."""


def migrate(source: str, target: str, *, live: bool = False, dry_run: bool = False, tell: Tell = quiet) -> Migration:
    """Copy users, workspaces, datasets, records, answers, suggestions and vectors, with ids, settings and times.

    `source` and `target` are each a home folder, `sqlite:///PATH`, a PostgreSQL URL without a password, or `env:NAME`
    or `file:PATH` that hold a URL. The target must be empty or new; the source must not be written to unless `live`:
    then what comes in after the start stays behind. Whole or nothing: LauncherError leaves both as they were.
    """
    from_, to = end_of(source), end_of(target)
    if from_.shown == to.shown:
        raise LauncherError(f"--from and --to are both {from_.shown}. Give two databases.")
    if not isinstance(from_, PostgresEnd) and not from_.database.is_file():
        raise LauncherError(f"{from_.database} is not there; Argilla's database was expected. Check --from.")
    if isinstance(from_, HomeEnd) and not from_.home.is_ours():
        raise LauncherError(
            f"{from_.shown} was not made by `lingo-hitl up`. Stop its Argilla, and give sqlite:///{from_.database} as"
            " --from."
        )
    with contextlib.ExitStack() as held:
        if isinstance(from_, HomeEnd) and not live:
            held.enter_context(
                _stopped(from_.home, "--from", "or add --live for a rehearsal that leaves new answers behind")
            )
        if isinstance(to, PostgresEnd):
            outcome = _run(from_.task(), to.task(), live=live, dry_run=dry_run, tell=tell)
        else:
            outcome = _run_into_file(from_, to, held, live=live, dry_run=dry_run, tell=tell)
    return Migration(
        source=from_.shown,
        target=to.shown,
        tables=tuple(MovedTable(**table) for table in outcome["tables"]),
        changed=tuple(outcome["changed"]),
        next_step=to.next_step.format(shown=to.shown),
        set_aside=tuple(outcome.get("set_aside", ())),
    )


def _run_into_file(
    from_: HomeEnd | SqliteEnd | PostgresEnd,
    to: HomeEnd | SqliteEnd,
    held: contextlib.ExitStack,
    *,
    live: bool,
    dry_run: bool,
    tell: Tell,
) -> dict[str, Any]:
    """The new database is made beside its place, and takes it when it is whole."""
    replaces = to.database if to.database.exists() else None
    if isinstance(to, HomeEnd):
        if replaces or not dry_run:
            held.enter_context(_stopped(to.home, "--to", "then run this again"))
    elif not to.database.parent.is_dir():
        raise LauncherError(f"{to.database.parent} is not there; a folder was expected. Check --to.")
    known = {"replaces": str(replaces)} if replaces else {}
    if dry_run:
        return _run(
            from_.task(), {"shown": to.shown, "path": str(to.database), **known}, live=live, dry_run=True, tell=tell
        )
    try:
        # On the same disk; in a home, where its other temporary files are.
        beside = to.home.run if isinstance(to, HomeEnd) else to.database.parent
        for left in to.home.run.glob(".migrating-*") if isinstance(to, HomeEnd) else ():
            shutil.rmtree(left)
        folder = Path(tempfile.mkdtemp(prefix=".migrating-", dir=beside))
        held.callback(shutil.rmtree, folder, ignore_errors=True)
        made = folder / DATABASE
        outcome = _run(
            from_.task(), {"shown": to.shown, "path": str(made), **known}, live=live, dry_run=False, tell=tell
        )
        made.chmod(0o600)
        format_.flush(made)
        if replaces:
            _settle(replaces)
        if isinstance(to, HomeEnd):
            # Derived of what was there before.
            for file in to.home.path.glob(f"{INDEX}*"):
                file.unlink()
            moved = set_aside(waiting_jobs(to.home), before="migration")
            goes_along = isinstance(from_, HomeEnd) and from_.home.credentials.is_file()
            if goes_along or not fits(to.home, made):
                moved += set_aside([to.home.credentials], before="migration")
            outcome["set_aside"] = [str(file) for file in moved]
            if isinstance(from_, HomeEnd) and goes_along:
                format_.sum_of(from_.home.credentials, copy_to=to.home.credentials)
            fit_credentials(to.home, made)
        made.replace(to.database)
        format_.flush(to.database.parent)
    except OSError as error:
        raise explain_os_error(error, to.database.parent) from None
    return outcome


@contextlib.contextmanager
def _stopped(place: Home, option: str, otherwise: str) -> Iterator[None]:
    """Hold a home that does not run, so that no start comes in between."""
    _refuse_running(place, option, otherwise)
    try:
        place.prepare()
    except OSError as error:
        raise explain_os_error(error, place.path) from None
    with place.locked():
        # Again: it may have been started until it was held.
        _refuse_running(place, option, otherwise)
        yield


def _refuse_running(place: Home, option: str, otherwise: str) -> None:
    if running.anything(place):
        raise LauncherError(
            f"the server of {place.path} ({option}) runs; a stopped one was expected. Run `lingo-hitl down --home"
            f" {place.path}`, {otherwise}."
        )


def _settle(database: Path) -> None:
    """Leave no write-ahead log of a file that is replaced: it would be taken for the new one's."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")


def _run(source: dict[str, str], target: dict[str, str], *, live: bool, dry_run: bool, tell: Tell) -> dict[str, Any]:
    """Do the task in the server environment; its last line of output."""
    folder = Path(tempfile.mkdtemp(prefix="lh-migrate-"))
    log = folder / "log"
    try:
        python = environment.python_of(environment.ensure(log=log, say=lambda line: None))
        (folder / environment.PACKAGE.name).symlink_to(environment.PACKAGE)
        dropped = ("ARGILLA_", "PYTHON", "VIRTUAL_ENV")
        variables = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        variables["PYTHONPATH"] = str(folder)
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [str(python), "-m", "argilla_setup.migration.copying"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables, cwd=folder,
            )  # fmt: skip
        try:
            return _converse(process, {"source": source, "target": target, "live": live, "dry_run": dry_run}, log, tell)
        finally:
            # Ended early, it rolls back; a database server sees the connection go.
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _converse(process: subprocess.Popen[str], task: dict[str, Any], log: Path, tell: Tell) -> dict[str, Any]:
    assert process.stdin and process.stdout
    last: dict[str, Any] = {}
    with contextlib.suppress(BrokenPipeError), process.stdin as given:
        given.write(json.dumps(task))
    for line in process.stdout:
        if not line.startswith("{"):
            continue
        last = json.loads(line)
        if "step" in last:
            tell(last["step"], last["done"], last["whole"])
    if "error" in last:
        raise LauncherError(last["error"])
    if process.wait() or "tables" not in last:
        raise LauncherError(
            f"the copy ended early: {environment.last_error_line(log)}. Nothing was copied; correct the cause, then run"
            " this again."
        )
    return last
