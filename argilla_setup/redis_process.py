"""The Redis that Argilla queues its jobs in: a real one, on a private unix socket."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
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
LOG_BYTES = 5 * 1024**2
_TEMPORARY = "lingo-redis-"


def start(home: Home, server_environment: Path) -> tuple[ProcessRecord, Path]:
    """Start Redis and return its process and socket once it answers.

    A data file that Redis refuses is set aside: it holds queued jobs only, and must not keep Argilla from starting.
    """
    address = _socket_path(home)
    address.unlink(missing_ok=True)
    if home.redis_log.exists() and home.redis_log.stat().st_size > LOG_BYTES:
        home.redis_log.replace(home.redis_log.with_suffix(".1.log"))
    command = [str(environment.redis_server_of(server_environment)), "--port", "0"]
    # Anyone who can write to the queue can run code in a worker: the socket is the user's alone.
    command += ["--unixsocket", str(address), "--unixsocketperm", "700", "--daemonize", "no"]
    command += ["--dir", str(home.redis_data), "--appendonly", "yes", "--save", "", "--loglevel", "warning"]
    for set_data_aside in (True, False):
        process = spawn(command, environment=dict(os.environ), folder=home.run, log=home.redis_log)
        process.write(home.run / "redis.json", socket=str(address))
        deadline = time.monotonic() + START_PATIENCE_S
        while process.is_running() and time.monotonic() < deadline:
            if _answers(address):
                return process, address
            time.sleep(0.02)
        process.stop(patience_s=2)
        if set_data_aside:
            for data in home.redis_data.glob("*.aof"):
                data.replace(data.with_suffix(".refused"))
    raise LauncherError(
        f"Redis did not start: {environment.last_error_line(home.redis_log)} (log: {home.redis_log})."
        " Correct the cause, then run `lingo-hitl up` again."
    )


def forget_socket(home: Home) -> None:
    """Delete the socket of a Redis that has ended, and the temporary folder made for it."""
    recorded = read_json(home.run / "redis.json").get("socket")
    if not recorded:
        return
    Path(recorded).unlink(missing_ok=True)
    folder = Path(recorded).parent
    if folder.name.startswith(_TEMPORARY):
        with contextlib.suppress(OSError):
            folder.rmdir()


def _socket_path(home: Home) -> Path:
    """In the home; in a new temporary folder (0700) where the home's path is too long for a socket."""
    path = home.run / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    return Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir="/tmp")) / "redis.sock"


def _answers(address: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(address))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
