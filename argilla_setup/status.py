"""What a home holds and what runs of it: read from outside, so that it can be told while the server is down.

Changes nothing. Argilla's tables and the index are read beside whoever writes to them.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
import sqlite3
from typing import TYPE_CHECKING

from argilla_setup import environment, redis_process, running
from argilla_setup.home import MIN_FREE_BYTES, Home, read_json
from argilla_setup.search import side_file
from argilla_setup.server_state import Backup, Counts, Index, Part, Status
from argilla_setup.sqlite_reading import reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from argilla_setup.redis_process import Jobs

OLD_BACKUP_S = 7 * 86400.0
MANY_RESTARTS = 3
RECENT_S = 86400.0
STARTING_S = 60.0


def status_of(place: Home) -> Status:
    """The status of a home that is ours."""
    recorded = {name: running.Recorded.read(place, name) for name in running.PARTS}
    parts = tuple(_part(name, found) for name, found in recorded.items())
    pids = {part.name: part.pid for part in parts}
    server = recorded["server"] if pids["server"] else None
    answer = running.ask(server.url, "/api/v1/version") if server else None
    socket = redis_process.recorded_socket(place)
    jobs = redis_process.jobs(socket) if socket and pids["redis"] else None
    counts, fault = _counts(place.database)
    index = _index(place.index, place.database)
    unsent = _lines(place.unsent_jobs)
    free = shutil.disk_usage(place.path).free
    backup = _last_backup(place.last_backup)
    problems = [
        *_missing_parts(place, parts, recorded, answers=answer is not None),
        *([f"{place.database} cannot be read: {fault}. Restore it from a backup."] if fault else []),
        *_index_problems(index, running=answer is not None),
        *_job_problems(place, jobs, unsent),
        *_restarts(place, parts),
        *_disk_problems(place, free),
        *_backup_problems(backup, counts),
    ]
    return Status(
        running=answer is not None,
        home=place.path,
        url=server.url if server else None,
        pid=pids["server"],
        redis_pid=pids["redis"],
        version=str(answer["version"]) if answer else _installed_version(),
        uptime_s=server.uptime_s if server else None,
        users=counts.users if counts else None,
        datasets=counts.datasets if counts else None,
        records=counts.records if counts else None,
        answers=counts.answers if counts else None,
        answers_today=counts.answers_today if counts else None,
        index=index,
        parts=parts,
        jobs=jobs,
        unsent_jobs=unsent,
        last_backup=backup,
        database_bytes=_size(place.database),
        index_bytes=_size(place.index),
        logs_bytes=sum(item.stat().st_size for item in place.logs.glob("*")) if place.logs.is_dir() else 0,
        free_bytes=free,
        credentials_path=place.credentials if place.credentials.exists() else None,
        log_path=place.log,
        problems=tuple(problems),
    )


def _part(name: str, found: running.Recorded | None) -> Part:
    if found is None:
        return Part(name, None)
    alive = found.is_running()
    return Part(
        name,
        pid=found.pid if alive else None,
        uptime_s=found.uptime_s if alive else None,
        restarts=found.restarts,
        last_end=found.facts.get("last_end"),
        ended_at=found.facts.get("ended_at"),
    )


def _missing_parts(
    place: Home, parts: tuple[Part, ...], recorded: dict[str, running.Recorded | None], *, answers: bool
) -> Iterator[str]:
    supervisor, *others = parts
    if not any(part.pid for part in parts):
        # A clean stop leaves no records.
        if any(recorded.values()):
            reason = environment.told_error(place.start_log)
            cause = f": {reason.rstrip('.')}" if reason else ", or the machine was restarted"
            yield f"the server was not stopped by `lingo-hitl down`: it has ended{cause}. Run `lingo-hitl up`."
        return
    if not supervisor.pid:
        yield "the supervisor, which restarts what has ended, does not run itself; `lingo-hitl up` restarts all of it"
    cure = f"it is started again now (log: {place.supervisor_log})" if supervisor.pid else "run `lingo-hitl up`"
    names = {"server": "the server", "worker": "the worker, which does background jobs,", "redis": "Redis"}
    for part in others:
        # At a start the worker follows the server, and has no record before.
        if not part.pid and (part.name != "worker" or (answers and recorded["worker"])):
            record = recorded[part.name]
            how = f" ({record.facts['ended']})" if record and record.facts.get("ended") else ""
            yield f"{names[part.name]} has ended{how}; {cure}"
    server = recorded["server"]
    if server is None or answers or not parts[1].pid:
        return
    if server.uptime_s is not None and server.uptime_s < STARTING_S:
        after = f" anew, after {server.facts['last_end']}" if server.facts.get("last_end") else ""
        yield f"the server is being started{after}"
    else:
        yield f"the server process {server.pid} does not answer at {server.url}; see {place.log}"


def _index_problems(index: Index, *, running: bool) -> Iterator[str]:
    when = "now" if running else "after `lingo-hitl up`"
    if index.state == "damaged":
        yield f"the search index is damaged ({index.fault}); the server rebuilds it by itself {when}"
    elif index.state == "behind":
        yield f"searches may miss {index.to_go:,} new or changed records; the server indexes them by itself {when}"


def _job_problems(place: Home, jobs: Jobs | None, unsent: int) -> Iterator[str]:
    if jobs and jobs.failed_today:
        yield f"{jobs.failed_today:,} background jobs were given up in the last 24 hours; see {place.worker_log}"
    if unsent:
        yield f"{unsent:,} background jobs wait for Redis to come back; they are kept in {place.unsent_jobs}"


def _restarts(place: Home, parts: tuple[Part, ...]) -> Iterator[str]:
    for part in parts:
        if part.restarts >= MANY_RESTARTS and part.ended_at and _age_s(part.ended_at) < RECENT_S:
            name = "Redis" if part.name == "redis" else f"the {part.name}"
            yield f"{name} has ended {part.restarts} times, last by {part.last_end}; see {place.supervisor_log}"


def _disk_problems(place: Home, free: int) -> Iterator[str]:
    if free < 5 * MIN_FREE_BYTES:
        yield f"only {free // 1024**2:,} MB are free on the disk of {place.path}; free some space"


def _backup_problems(backup: Backup | None, counts: Counts | None) -> Iterator[str]:
    if counts is None or not counts.answers:
        return
    if backup is None:
        yield f"{counts.answers:,} answers and no backup yet; run `lingo-hitl backup DIR`"
    elif backup.age_s > OLD_BACKUP_S:
        yield f"the last backup is {backup.age_s / 86400:.0f} days old; run `lingo-hitl backup DIR`"


def _counts(database: Path) -> tuple[Counts | None, str | None]:
    """The counts, or why there are none."""
    midnight = datetime.datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
    try:
        with _reading(database) as connection:
            if connection is None:
                return None, None
            row = connection.execute(
                "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM datasets), (SELECT count(*) FROM records),"
                " count(*), coalesce(sum(updated_at >= ?), 0) FROM responses WHERE status = 'submitted'",
                (since,),
            ).fetchone()
    except sqlite3.OperationalError as error:
        # Between its first start and the end of the migration a database has no tables.
        return None, None if "no such table" in str(error) else str(error)
    except sqlite3.DatabaseError as error:
        return None, str(error)
    return Counts(*row), None


def _index(index: Path, database: Path) -> Index:
    try:
        with _reading(index) as connection:
            if connection is None:
                return Index("absent")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != side_file.FORMAT:
                return Index("damaged", fault=f"format {version}, expected {side_file.FORMAT}")
            documents = connection.execute("SELECT count(*) FROM documents").fetchone()[0]
            to_go = connection.execute("SELECT coalesce(max(remaining), 0) FROM progress").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return Index("damaged", fault=str(error))
    with contextlib.suppress(sqlite3.DatabaseError), _reading(database) as connection:
        if connection:
            row = connection.execute(
                "SELECT count(*) FROM records JOIN datasets ON datasets.id = records.dataset_id"
                " WHERE datasets.status = 'ready'"
            ).fetchone()
            to_go = max(to_go, row[0] - documents)
    return Index("behind" if to_go else "whole", documents=documents, to_go=to_go)


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[sqlite3.Connection | None]:
    """A connection that only reads; None where there is no file."""
    if not file.exists():
        yield None
        return
    with reading(file) as connection:
        yield connection


def _last_backup(file: Path) -> Backup | None:
    data = read_json(file)
    try:
        at = str(data["at"])
        return Backup(at=at, path=str(data["path"]), verified=data.get("verified") is True, age_s=_age_s(at))
    except (KeyError, ValueError):
        return None


def _age_s(at: str) -> float:
    """Seconds since an ISO 8601 time; ValueError for another text. A time without a zone is taken for UTC."""
    time = datetime.datetime.fromisoformat(at)
    return (
        datetime.datetime.now(datetime.UTC) - (time if time.tzinfo else time.replace(tzinfo=datetime.UTC))
    ).total_seconds()


def _installed_version() -> str | None:
    for folder in environment.location().glob("lib/python3*/site-packages/argilla_server-*.dist-info"):
        return folder.name.removeprefix("argilla_server-").removesuffix(".dist-info")
    return None


def _lines(file: Path) -> int:
    try:
        return file.read_bytes().count(b"\n")
    except OSError:
        return 0


def _size(database: Path) -> int:
    """Bytes of a SQLite database with its log."""
    return sum(item.stat().st_size for item in database.parent.glob(f"{database.name}*"))
