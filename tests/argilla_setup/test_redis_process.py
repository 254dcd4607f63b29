"""The real Redis of a home: its queue outlives a kill -9, and a broken data file does not keep it from starting."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest

from argilla_setup import environment, redis_process
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home
from tests.argilla_setup.awaiting import kill


@pytest.mark.parametrize(
    ("line", "refused"),
    [
        ("# Bad file format reading the append only file: make a backup of your AOF file, then use", True),
        ("# Unexpected end of file reading the append only file. You can: 1) Make a backup", True),
        ("# Unknown command 'RPUSHX' reading the append only file", True),
        ("# Error reading the RDB preamble of the AOF file, AOF loading aborted", True),
        ("# Unrecoverable error reading the append only file: Input/output error", False),
        ("# Can't open the append-only file: No space left on device", False),
        ("# AOF loaded anyway because aof-load-truncated is enabled", False),
        ("# Asynchronous AOF fsync is taking too long (disk is busy?)", False),
    ],
)
def test_only_what_is_in_the_file_counts_as_refused(line, refused):
    assert redis_process.refuses_its_file(line) == refused


def send(address, command):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(100).decode().strip()


@pytest.mark.server
def test_redis_keeps_its_queue_and_sets_aside_what_it_refuses(argilla_home):
    del argilla_home  # it has the server environment built
    with tempfile.TemporaryDirectory(prefix="lh-") as folder:
        home = Home(Path(folder) / "home")
        home.prepare()
        place, address = environment.location(), redis_process.choose_socket(home)
        first = redis_process.start(home, place, address)
        assert redis_process.jobs(address) == redis_process.Jobs()
        send(address, "RPUSH rq:queue:high job")
        kill(first.pid)
        assert redis_process.jobs(address) is None

        again = redis_process.start(home, place, address)
        assert redis_process.jobs(address).queued == 1
        again.stop(patience_s=5)
        [data] = home.redis_data.glob("*.aof")
        for name in ("appendonly.refused", "appendonly.refused.2"):
            data.write_bytes(f"not a Redis file {name}\n".encode() * 10)
            later = redis_process.start(home, place, address)
            assert redis_process.jobs(address).queued == 0
            later.stop(patience_s=5)
        for name in ("appendonly.refused", "appendonly.refused.2"):
            assert data.with_name(name).read_text().startswith(f"not a Redis file {name}\n")

        home.redis_data.rename(home.redis_data.with_name("elsewhere"))
        with pytest.raises(LauncherError, match="Redis did not start") as caught:
            redis_process.start(home, place, address)
        assert "\n" not in str(caught.value)
