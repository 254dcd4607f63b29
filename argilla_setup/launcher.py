"""Start, stop and inspect the Argilla server of a home folder. Standard library only.

One home is one server: a supervisor and what it keeps alive (Redis, Argilla, a worker), a SQLite database, a search
index, accounts, logs. Starting is idempotent and repairs what a crash, a reboot or a kill -9 left behind. Every fault
is a LauncherError of one line.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from argilla_setup import environment, log_files, running
from argilla_setup.accounts.credentials_file import CredentialsFile
from argilla_setup.addresses import choose_port, url_of
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, explain_os_error, read_json
from argilla_setup.processes import spawn
from argilla_setup.running import PARTS, Recorded
from argilla_setup.server_state import Account, Credentials, Server, Status
from argilla_setup.status import status_of
from argilla_setup.supervisor import PATIENCE_S, REDIS_PATIENCE_S, SERVER_PATIENCE_S

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
            supervisor = running.running(place, "supervisor")
            if supervisor and set(accounts) <= CredentialsFile.read(place.credentials).names():
                _refuse_another_address(place, supervisor, host=host, port=port)
                server = Recorded.read(place, "server")
                # It may have ended this moment, and is started anew; one that then ends again will go on so.
                _await_ready(place, supervisor, say, allowed=server.restarts + 1 if server else 0)
                return _server(place, supervisor, started_now=False)
            # What a crash left, or a server without the accounts that are asked for: all of it starts anew.
            _stop(place)
            try:
                supervisor = _start(place, host=host, port=port, accounts=accounts, say=say)
                _await_ready(place, supervisor, say, allowed=0)
            except BaseException:
                _stop(place)
                raise
            return _server(place, supervisor, started_now=True)


def down(home: Path) -> bool:
    """Stop the server of `home` and all that runs with it; False where nothing ran."""
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
        return status_of(place)


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


def _start(
    place: Home, *, host: str, port: int | None, accounts: Sequence[str], say: Callable[[str], None]
) -> Recorded:
    chosen = choose_port(host, port, _last_port(place))
    log_files.rotate(place.environment_log)
    server_environment = environment.ensure(log=place.environment_log, say=say)
    say("Starting Argilla ...")
    with contextlib.suppress(FileNotFoundError):
        place.start_log.unlink()
    command = [sys.executable, "-m", "argilla_setup.supervisor", "--home", str(place.path)]
    command += ["--environment", str(server_environment), "--host", host, "--port", str(chosen)]
    for name in accounts:
        command += ["--annotator", name]
    process = spawn(command, environment=_variables(place), folder=place.run, log=place.start_log)
    facts = {"url": url_of(host, chosen), "host": host, "port": chosen, "since": time.time()}
    process.write(place.record("supervisor"), **facts)
    return Recorded("supervisor", process, facts)


def _refuse_another_address(place: Home, supervisor: Recorded, *, host: str, port: int | None) -> None:
    """LauncherError where the server that runs is not at the address that is asked for."""
    facts = supervisor.facts
    if (port is not None and facts.get("port") != port) or facts.get("host") != host:
        asked = url_of(host, port or int(facts.get("port", 0)))
        raise LauncherError(
            f"the server of {place.path} already runs at {supervisor.url}; {asked} was asked for."
            " Run `lingo-hitl down` first."
        )


def _server(place: Home, supervisor: Recorded, *, started_now: bool) -> Server:
    pids = {name: recorded.pid for name in PARTS if (recorded := Recorded.read(place, name))}
    return Server(
        url=supervisor.url,
        home=place.path,
        pid=pids["server"],
        redis_pid=pids["redis"],
        credentials_path=place.credentials,
        log_path=place.log,
        started_now=started_now,
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


def _await_ready(place: Home, supervisor: Recorded, say: Callable[[str], None], *, allowed: int) -> None:
    """Wait until the server of this home, and no other, answers and its Redis runs.

    LauncherError where the supervisor gives up, or has had to start the server more than `allowed` times anew.
    """
    begun = time.monotonic()
    told = begun
    while time.monotonic() - begun < START_PATIENCE_S:
        server = Recorded.read(place, "server")
        if not supervisor.is_running() or (server and server.restarts > allowed):
            raise LauncherError(_why_it_died(place))
        if server and _answers_as_ours(place, supervisor.url) and running.running(place, "redis"):
            return
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"Argilla is still starting ({told - begun:.0f} s) ...")
        time.sleep(0.1)
    raise LauncherError(
        f"the server did not answer at {supervisor.url} within {START_PATIENCE_S:.0f} s:"
        f" {environment.last_error_line(place.start_log)} (log: {place.start_log}). Run `lingo-hitl up` again."
    )


def _answers_as_ours(place: Home, url: str) -> bool:
    owner = read_json(place.credentials).get("accounts", {}).get("owner", {})
    key = owner.get("api_key") if isinstance(owner, dict) else None
    answer = running.ask(url, "/api/v1/me", key=key) if key else None
    return answer is not None and answer.get("username") == "owner"


def _why_it_died(place: Home) -> str:
    told = environment.told_error(place.start_log)
    if told:
        # The server knew the cause, and said what to do.
        return told
    return (
        f"the server ended while starting: {environment.last_error_line(place.start_log)} (log: {place.start_log})."
        " Correct the cause, then run `lingo-hitl up` again."
    )


def _stop(place: Home) -> bool:
    """Stop all that is recorded and runs; False where nothing ran."""
    patience = {"supervisor": PATIENCE_S, "server": SERVER_PATIENCE_S, "worker": 2.0, "redis": REDIS_PATIENCE_S}
    return running.stop(place, patience_s=patience)


@contextlib.contextmanager
def _plain_errors(place: Home) -> Iterator[None]:
    """Faults of the file system become one line."""
    try:
        yield
    except OSError as error:
        raise explain_os_error(error, place.path) from None
