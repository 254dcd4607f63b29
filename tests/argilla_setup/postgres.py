"""A real PostgreSQL of a test's own: Debian's, in a temporary folder, on a free port of the loopback."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import free_port

PATIENCE_S = 60.0
UNPRIVILEGED = ("postgres", "nobody")
"""PostgreSQL refuses to run as root: then it runs as the first of these users that the machine has."""


@dataclass(frozen=True)
class Postgres:
    """A server that answers; `user` may do everything in it."""

    port: int
    programs: Path
    """The folder of psql, pg_dump and the others."""
    password: str = field(repr=False)
    user: str = "lingo"

    def url(self, database: str) -> str:
        """For ARGILLA_DATABASE_URL, with the password in it."""
        return f"postgresql+asyncpg://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, database: str) -> str:
        """Make an empty database and return its `url`."""
        self.query(f'CREATE DATABASE "{database}"', database="postgres")
        return self.url(database)

    def query(self, statement: str, *, database: str) -> list[list[str]]:
        """The rows that a statement gives, as psql prints them: each value a text, NULL an empty one."""
        answer = self.run("psql", "-qAt", "-v", "ON_ERROR_STOP=1", "-F", "\t", "-d", database, "-c", statement)
        return [line.split("\t") for line in answer.splitlines()]

    def run(self, program: str, *arguments: str) -> str:
        """What one of PostgreSQL's programs prints, run against this server."""
        command = [str(self.programs / program), "-h", "127.0.0.1", "-p", str(self.port), "-U", self.user, *arguments]
        variables = {**os.environ, "PGPASSWORD": self.password}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return done.stdout


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A PostgreSQL without databases; gone afterwards. Skips the test where none is installed, fails it on CI."""
    programs = _programs()
    if programs is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no PostgreSQL here: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="lh-pg-"))
    user = _user()
    password = secrets.token_urlsafe(16)
    try:
        given = folder / "password"
        given.write_text(password)
        if user:
            for path in (folder, given):
                shutil.chown(path, user)
        _initialise(programs, folder, user)
        with _serving(programs, folder, user) as port:
            yield Postgres(port=port, programs=programs, password=password)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The folder with PostgreSQL's own programs, the newest where there are several; Debian keeps them off the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    if versions:
        return versions[-1].parent
    found = shutil.which("postgres")
    return Path(found).resolve().parent if found else None


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in UNPRIVILEGED if name in known), None)


def _as(user: str | None) -> list[str]:
    return ["setpriv", "--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--clear-groups"] if user else []


def _initialise(programs: Path, folder: Path, user: str | None) -> None:
    command = [*_as(user), str(programs / "initdb"), "-D", str(folder / "data"), "-U", Postgres.user, "--no-sync"]
    command += ["-A", "scram-sha-256", "--pwfile", str(folder / "password"), "-E", "UTF8", "--locale", "C.UTF-8"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def _serving(programs: Path, folder: Path, user: str | None) -> Iterator[int]:
    port = free_port()
    command = [*_as(user), str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
    # Without fsync: a machine that loses its power loses the test too.
    for setting in ("listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off"):
        command += ["-c", setting]
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE_S
        ready = [str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready, check=False).returncode:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield port
    finally:
        # SIGINT is PostgreSQL's fast stop: it waits for nobody who is still connected.
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=PATIENCE_S)
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running_redis() -> Iterator[str]:
    """The URL of a Redis with a password, as a team would run it: Debian's redis-server, in a temporary folder."""
    program = shutil.which("redis-server")
    if program is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("no Redis here: apt-get install redis-server")
    folder = Path(tempfile.mkdtemp(prefix="lh-redis-"))
    port, password = free_port(), secrets.token_urlsafe(16)
    configuration = folder / "redis.conf"
    configuration.write_text(
        f'port {port}\nbind 127.0.0.1\nrequirepass {password}\ndir {folder}\nappendonly yes\nsave ""\n'
    )
    with (folder / "log").open("w") as output:
        process = subprocess.Popen([str(program), str(configuration)], stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while "Ready to accept connections" not in (folder / "log").read_text():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.02)
        yield f"redis://:{password}@127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
