"""Start, stop and inspect the Argilla server of a home folder. Standard library only.

One home is one server: a Redis and an Argilla process, a SQLite database, a search index, accounts, logs. Starting is
idempotent and repairs what a crash, a reboot or a kill -9 left behind. Every fault is a LauncherError of one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from argilla_setup import environment, redis_process
from argilla_setup.addresses import choose_port, url_of
from argilla_setup.credentials_file import CredentialsFile
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, explain_os_error, read_json
from argilla_setup.processes import ProcessRecord, spawn
from argilla_setup.server_state import Account, Credentials, Server, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "Account",
    "Credentials",
    "LauncherError",
    "Server",
    "Status",
    "credentials",
    "default_home",
    "down",
    "remove",
    "status",
    "up",
]

START_PATIENCE_S = 180.0
"""A first start migrates and makes accounts: seconds on any machine, but a laptop may be busy with other things."""
STOP_PATIENCE_S = 20.0


def default_home() -> Path:
    """`$LINGO_HITL_HOME`, else `~/.lingo-hitl`."""
    return Path(os.environ.get("LINGO_HITL_HOME") or "~/.lingo-hitl").expanduser().absolute()


def up(
    home: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    accounts: Sequence[str] = ("annotator1", "annotator2"),
    say: Callable[[str], None] = print,
) -> Server:
    """Have the server of `home` answer, starting what does not run; return when it does.

    `port` None is the port that this home used last, else 6900 where it is free, else any free one. `accounts` are
    the annotators that must exist beside `owner`; those made earlier stay. `say` gets a line before each long step.
    """
    place = Home(Path(home).expanduser().absolute())
    with _plain_errors(place):
        place.prepare()
        with place.locked():
            running = _running_server(place)
            made = CredentialsFile.read(place.credentials).names()
            if running and running.redis.is_running() and set(accounts) <= made:
                return _already_running(place, running, host=host, port=port)
            if running or _record(place, "redis"):
                # Half of a server, or one without the accounts that are asked for: both start anew.
                _stop(place)
            return _start(place, host=host, port=port, accounts=accounts, say=say)


def down(home: Path) -> bool:
    """Stop the server of `home` and its Redis; False where neither ran."""
    place = Home(Path(home).expanduser().absolute())
    with _plain_errors(place):
        if not place.is_ours() or not place.run.is_dir():
            return False
        with place.locked():
            return _stop(place)


def status(home: Path) -> Status:
    """What runs of `home`, where, and how big. Never changes anything, and never fails for a home that is not there."""
    place = Home(Path(home).expanduser().absolute())
    with _plain_errors(place):
        if not place.is_ours():
            return Status(running=False, home=place.path)
        server = _running_server(place)
        redis = _record(place, "redis")
        redis_pid = redis.pid if redis and redis.is_running() else None
        answer = _ask(server.url, "/api/v1/version") if server else None
        problem = None
        if server and answer is None:
            problem = f"the server process {server.process.pid} does not answer at {server.url}; see {place.log}"
        elif server and redis_pid is None:
            problem = "Redis has ended; `lingo-hitl up` starts it anew"
        return Status(
            running=answer is not None,
            home=place.path,
            url=server.url if server else None,
            pid=server.process.pid if server else None,
            redis_pid=redis_pid,
            version=answer.get("version") if answer else None,
            uptime_s=time.time() - server.since if server else None,
            database_bytes=_size(place.database),
            index_bytes=_size(place.index),
            **(_counts(place.database) if answer else {}),
            credentials_path=place.credentials if place.credentials.exists() else None,
            log_path=place.log,
            problem=problem,
        )


def credentials(home: Path) -> Credentials:
    """The accounts that `up` made in `home`; LauncherError where it has made none yet."""
    place = Home(Path(home).expanduser().absolute())
    with _plain_errors(place):
        if not place.credentials.exists():
            raise LauncherError(f"{place.path} has no credentials.json. Run `lingo-hitl up` first.")
        data = read_json(place.credentials)
    try:
        return Credentials(
            url=str(data["url"]),
            accounts={
                name: Account(
                    username=name,
                    role=account["role"],
                    password=account["password"],
                    api_key=account["api_key"],
                    workspaces=tuple(account["workspaces"]),
                )
                for name, account in data["accounts"].items()
            },
        )
    except (KeyError, TypeError, AttributeError):
        raise LauncherError(
            f"{place.credentials} is damaged. Delete it and run `lingo-hitl up`: it makes new passwords."
        ) from None


def remove(home: Path) -> None:
    """Stop the server and delete all that `up` made in `home`, answers included. Refuses a folder that is not ours."""
    place = Home(Path(home).expanduser().absolute())
    with _plain_errors(place):
        if not place.path.exists():
            return
        if not place.is_ours():
            raise LauncherError(
                f"{place.path} was not made by `lingo-hitl up` (no {place.marker.name}); left as it is."
            )
        down(place.path)
        place.delete()


@dataclass(frozen=True)
class _Running:
    """The recorded server process of a home, seen alive."""

    process: ProcessRecord
    redis: ProcessRecord
    url: str
    since: float


def _start(place: Home, *, host: str, port: int | None, accounts: Sequence[str], say: Callable[[str], None]) -> Server:
    chosen = choose_port(host, port, _last_port(place))
    server_environment = environment.ensure(log=place.logs / "environment.log", say=say)
    redis, redis_socket = redis_process.start(place, server_environment)
    say("Starting Argilla ...")
    with contextlib.suppress(FileNotFoundError):
        place.start_log.unlink()
    command = [str(environment.python_of(server_environment)), "-m", "argilla_setup.app", "--home", str(place.path)]
    command += ["--host", host, "--port", str(chosen), "--redis", f"unix://{redis_socket}?db=0"]
    for name in accounts:
        command += ["--annotator", name]
    try:
        process = spawn(command, environment=_variables(place), folder=place.run, log=place.start_log)
        url = url_of(host, chosen)
        process.write(place.run / "server.json", url=url, host=host, port=chosen, since=time.time())
        _await_ready(place, process, url, say)
    except BaseException:
        _stop(place)
        raise
    return Server(
        url=url,
        home=place.path,
        pid=process.pid,
        redis_pid=redis.pid,
        credentials_path=place.credentials,
        log_path=place.log,
        started_now=True,
    )


def _already_running(place: Home, running: _Running, *, host: str, port: int | None) -> Server:
    """The server that runs, unless another address was asked for."""
    record = read_json(place.run / "server.json")
    if (port is not None and record.get("port") != port) or record.get("host") != host:
        asked = url_of(host, port or int(record.get("port", 0)))
        raise LauncherError(
            f"the server of {place.path} already runs at {running.url}; {asked} was asked for."
            " Run `lingo-hitl down` first."
        )
    return Server(
        url=running.url,
        home=place.path,
        pid=running.process.pid,
        redis_pid=running.redis.pid,
        credentials_path=place.credentials,
        log_path=place.log,
        started_now=False,
    )


def _variables(place: Home) -> dict[str, str]:
    """The server's environment variables: the user's, without those that would change what it is."""
    dropped = ("ARGILLA_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "SPACE_ID")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    # The server environment sees this package alone, through a link: not the toolkit, nor what lies beside it.
    code = place.run / "code"
    code.mkdir(mode=0o700, exist_ok=True)
    link = code / environment.PACKAGE.name
    if not link.is_symlink() or link.resolve() != environment.PACKAGE:
        link.unlink(missing_ok=True)
        link.symlink_to(environment.PACKAGE)
    variables["PYTHONPATH"] = str(code)
    variables["PYTHONUNBUFFERED"] = "1"
    variables["TMPDIR"] = str(place.temporary)
    return variables


def _last_port(place: Home) -> int | None:
    try:
        return urlsplit(str(read_json(place.credentials).get("url"))).port
    except ValueError:
        return None


def _await_ready(place: Home, process: ProcessRecord, url: str, say: Callable[[str], None]) -> None:
    """Wait until the server of this home, and no other, answers at `url`."""
    begun = time.monotonic()
    told = begun
    while time.monotonic() - begun < START_PATIENCE_S:
        if not process.is_running():
            raise LauncherError(_why_it_died(place))
        owner = read_json(place.credentials).get("accounts", {}).get("owner", {})
        key = owner.get("api_key") if isinstance(owner, dict) else None
        answer = _ask(url, "/api/v1/me", key=key) if key else None
        if answer and answer.get("username") == "owner":
            return
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"Argilla is still starting ({told - begun:.0f} s) ...")
        time.sleep(0.1)
    raise LauncherError(
        f"the server did not answer at {url} within {START_PATIENCE_S:.0f} s:"
        f" {environment.last_error_line(place.start_log)} (log: {place.start_log}). Run `lingo-hitl up` again."
    )


def _why_it_died(place: Home) -> str:
    line = environment.last_error_line(place.start_log)
    if line.startswith("lingo-hitl: "):
        # The server knew the cause, and said what to do.
        return line.removeprefix("lingo-hitl: ")
    return (
        f"the server ended while starting: {line} (log: {place.start_log})."
        " Correct the cause, then run `lingo-hitl up` again."
    )


def _ask(url: str, path: str, *, key: str | None = None) -> dict[str, Any] | None:
    """A JSON answer of the server; None where it gives none. Never through a proxy: the server is this machine's."""
    request = urllib.request.Request(url + path, headers={"X-Argilla-Api-Key": key} if key else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as reply:
            value = json.loads(reply.read())
    except (OSError, ValueError, urllib.error.URLError):
        return None
    return value if isinstance(value, dict) else None


def _record(place: Home, name: str) -> ProcessRecord | None:
    return ProcessRecord.read(place.run / f"{name}.json")


def _running_server(place: Home) -> _Running | None:
    process, redis, data = _record(place, "server"), _record(place, "redis"), read_json(place.run / "server.json")
    if process is None or redis is None or not process.is_running():
        return None
    return _Running(process, redis, url=str(data.get("url")), since=float(data.get("since", time.time())))


def _stop(place: Home) -> bool:
    """Stop what is recorded and runs, server first: it may still write to Redis. False where nothing ran."""
    ran = False
    for name in ("server", "redis"):
        record = _record(place, name)
        if record and record.is_running():
            ran = True
            record.stop(patience_s=STOP_PATIENCE_S)
        if name == "redis":
            redis_process.forget_socket(place)
        (place.run / f"{name}.json").unlink(missing_ok=True)
    return ran


def _size(database: Path) -> int:
    """Bytes of a SQLite database with its log."""
    return sum(item.stat().st_size for item in database.parent.glob(f"{database.name}*"))


def _counts(database: Path) -> dict[str, int]:
    try:
        with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return {
                table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for table in ("users", "datasets", "records")
            }
    except sqlite3.Error:
        return {}


@contextlib.contextmanager
def _plain_errors(place: Home) -> Iterator[None]:
    """Faults of the file system become one line."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, place.path) from None
