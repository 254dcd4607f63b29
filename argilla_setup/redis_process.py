"""The Redis that Argilla queues its jobs in: a real one, on a private unix socket."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from argilla_setup import environment
from argilla_setup.errors import LauncherError
from argilla_setup.home import read_json
from argilla_setup.processes import ProcessRecord, spawn

if TYPE_CHECKING:
    from argilla_setup.home import Home

SOCKET_PATH_BYTES = 100
"""Unix socket paths end at 104 bytes on macOS and at 108 on Linux."""
START_PATIENCE_S = 30.0
QUEUES = ("default", "high")
"""Argilla's queues of jobs."""
FAILED_FOR_S = 365 * 86400
"""How long a failed job is listed; its place in the list is the time when that ends."""
_TEMPORARY = "lingo-redis-"
_REFUSED = re.compile(
    r"(bad file format|unexpected end of file|unknown command '[^\n]*') reading the append only file"
    r"|error reading the rdb preamble of the aof file|wrong signature trying to load db from file|wrong rdb checksum"
    r"|can't handle rdb format version|terminating server after rdb file reading failure",
    re.IGNORECASE,
)
"""What Redis 6 ends with over what is in its file; over a disk that cannot be read it ends with other lines."""


@dataclass(frozen=True)
class Jobs:
    """How many jobs there are, over all queues."""

    queued: int = 0
    running: int = 0
    to_retry: int = 0
    """Failed, and tried again after a pause: an address that a webhook goes to may be back by then."""
    failed_today: int = 0
    """Given up within the last 24 hours."""


def start(home: Home, server_environment: Path, address: Path) -> ProcessRecord:
    """Start Redis on the unix socket `address` and return its process once it answers.

    A data file that Redis refuses is set aside: it holds queued jobs only, and must not keep Argilla from starting.
    """
    address.unlink(missing_ok=True)
    command = [str(environment.redis_server_of(server_environment)), "--port", "0"]
    # Anyone who can write to the queue can run code in a worker: the socket is the user's alone.
    command += ["--unixsocket", str(address), "--unixsocketperm", "700", "--daemonize", "no"]
    command += ["--dir", str(home.redis_data), "--appendonly", "yes", "--save", "", "--loglevel", "warning"]
    while True:
        printed = home.redis_log.stat().st_size if home.redis_log.exists() else 0
        process = spawn(command, environment=dict(os.environ), folder=home.run, log=home.redis_log)
        with contextlib.suppress(OSError):
            # The supervisor records it once more: this one is for a start that is killed before that.
            process.write(home.record("redis"), socket=str(address))
        deadline = time.monotonic() + START_PATIENCE_S
        while process.is_running() and time.monotonic() < deadline:
            if answers(address):
                return process
            time.sleep(0.02)
        ended = not process.is_running()
        process.stop(patience_s=2)
        if not (ended and _set_aside_refused(home, printed)):
            raise LauncherError(
                f"Redis did not start: {environment.last_error_line(home.redis_log)} (log: {home.redis_log})."
                " Correct the cause, then run `lingo-hitl up` again."
            )


def choose_socket(home: Home) -> Path:
    """In the home; in a new temporary folder (0700) where the home's path is too long for a socket."""
    path = home.run / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    return Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir="/tmp")) / "redis.sock"


def recorded_socket(home: Home) -> Path | None:
    """Where the Redis of a home was started last."""
    recorded = read_json(home.record("redis")).get("socket")
    return Path(recorded) if recorded else None


def forget_socket(home: Home) -> None:
    """Delete the socket of a Redis that has ended, and the temporary folder made for it."""
    recorded = recorded_socket(home)
    if not recorded:
        return
    recorded.unlink(missing_ok=True)
    if recorded.parent.name.startswith(_TEMPORARY):
        with contextlib.suppress(OSError):
            recorded.parent.rmdir()


def answers(address: Path) -> bool:
    try:
        return _ask(address, ["PING"]) == ["+PONG"]
    except OSError:
        return False


def jobs(address: Path) -> Jobs | None:
    """How many jobs wait, run and failed; None where Redis does not answer."""
    yesterday = time.time() - 86400 + FAILED_FOR_S
    questions = (
        ["LLEN rq:queue:{0}", "LLEN rq:queue:{0}:intermediate"],
        ["ZCARD rq:wip:{0}"],
        ["ZCARD rq:scheduled:{0}"],
        [f"ZCOUNT rq:failed:{{0}} {yesterday:.0f} +inf"],
    )
    commands = [[form.format(queue) for form in forms for queue in QUEUES] for forms in questions]
    try:
        replies = iter(_ask(address, [command for group in commands for command in group]))
        return Jobs(*(sum(int(next(replies)[1:]) for _ in group) for group in commands))
    except (OSError, ValueError, StopIteration):
        return None


def _ask(address: Path, commands: list[str]) -> list[str]:
    """The one-line reply to each command; OSError where there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2)
        connection.connect(str(address))
        connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
        with connection.makefile("r", encoding="utf-8", newline="\r\n") as replies:
            lines = [replies.readline().strip() for _ in commands]
    if not all(lines):
        raise ConnectionError("Redis closed the connection")
    return lines


def _set_aside_refused(home: Home, printed: int) -> bool:
    """Whether Redis ended over its data file, by what it printed after the first `printed` bytes; renames the file."""
    data = list(home.redis_data.glob("*.aof"))
    with home.redis_log.open("rb") as log:
        log.seek(printed)
        said = log.read().decode(errors="replace")
    if not data or not refuses_its_file(said):
        return False
    for file in data:
        file.replace(_free_name(file))
    return True


def refuses_its_file(said: str) -> bool:
    """Whether this is what Redis prints when it cannot make sense of its data file, and not of a fault around it."""
    return _REFUSED.search(said) is not None


def _free_name(file: Path) -> Path:
    """`appendonly.refused`, the next one `appendonly.refused.2`: each may hold jobs that somebody wants back."""
    first = file.with_suffix(".refused")
    names = itertools.chain([first], (first.with_name(f"{first.name}.{number}") for number in itertools.count(2)))
    return next(name for name in names if not name.exists())
