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

pytestmark = pytest.mark.server


def send(address, command):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(address))
        connection.sendall(f"{command}\r\n".encode())
        return connection.recv(100).decode().strip()


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
        data.write_bytes(b"not a Redis file\n" * 10)
        third = redis_process.start(home, place, address)
        assert redis_process.jobs(address).queued == 0
        assert data.with_suffix(".refused").read_bytes().startswith(b"not a Redis file")
        third.stop(patience_s=5)

        home.redis_data.rename(home.redis_data.with_name("elsewhere"))
        with pytest.raises(LauncherError, match="Redis did not start") as caught:
            redis_process.start(home, place, address)
        assert "\n" not in str(caught.value)
