"""A team's server by hand: our application module with PostgreSQL and Redis, as compose.yaml starts it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from argilla_setup import environment
from tests.argilla_setup.postgres import Postgres
from tests.conftest import free_port

PATIENCE_S = 120.0


def server_python(folder: Path) -> list[str]:
    """The server environment's Python, its path to our code laid in `folder`."""
    environment.ensure(log=folder / "environment.log", say=lambda line: None)
    code = folder / "code"
    code.mkdir(exist_ok=True)
    if not (code / "argilla_setup").exists():
        (code / "argilla_setup").symlink_to(environment.PACKAGE)
    return [str(environment.python_of(environment.location()))]


def team_variables(folder: Path, postgres: Postgres, redis_url: str, **more: str) -> dict[str, str]:
    """The environment of a team's server: addresses in variables, secrets in files, as compose.yaml has it."""
    files = folder / "secrets"
    files.mkdir(mode=0o700, exist_ok=True)
    given = {
        "ARGILLA_AUTH_SECRET_KEY": secrets.token_urlsafe(48),
        "ARGILLA_DATABASE_PASSWORD": postgres.password,
        "ARGILLA_REDIS_URL": redis_url,
        "LINGO_HITL_OWNER_PASSWORD": secrets.token_urlsafe(16),
        "LINGO_HITL_OWNER_API_KEY": secrets.token_urlsafe(32),
    }
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("ARGILLA_", "LINGO_HITL_OWNER", "PG"))
    }
    for name, secret in given.items():
        file = files / name.lower()
        if not file.exists():
            file.write_text(secret + "\n")
            file.chmod(0o600)
        variables[f"{name}_FILE"] = str(file)
    variables["ARGILLA_DATABASE_URL"] = postgres.url("argilla").replace(f":{postgres.password}@", "@")
    variables["PYTHONPATH"] = str(folder / "code")
    return {**variables, "PYTHONUNBUFFERED": "1", **more}


@contextlib.contextmanager
def running_team_server(folder: Path, variables: Mapping[str, str], *arguments: str) -> Iterator[Path]:
    """The home of a server that answers; `arguments` as the application module takes them."""
    home = folder / "home"
    port = free_port()
    command = [*server_python(folder), "-m", "argilla_setup.app", "--home", str(home), "--port", str(port), *arguments]
    log = folder / "server.txt"
    with log.open("a") as output:
        process = subprocess.Popen(command, cwd=folder, env=dict(variables), stdout=output, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield home
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="lh-team-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/api/v1/version", timeout=5, trust_env=False).is_success
    return False
