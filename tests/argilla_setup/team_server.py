"""A team's server by hand: the application module with PostgreSQL and Redis, as compose.yaml starts it."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from argilla_setup import environment
from argilla_setup.team import team_secrets
from tests.argilla_setup.postgres import Postgres, running_postgres, running_redis
from tests.conftest import free_port

PATIENCE_S = 120.0
PEOPLE = ("--annotator", "annotator1", "--annotator", "annotator2")
COMPOSE_FILE = environment.PACKAGE / "compose.yaml"


def compose() -> dict[str, Any]:
    """compose.yaml, as it would be read by a container engine with no variable set."""
    return yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))


def team_variables(folder: Path, postgres: Postgres, redis_url: str, **more: str) -> dict[str, str]:
    """The server's environment of compose.yaml, its addresses and secrets those of the programs that run here."""
    files = folder / "secrets"
    team_secrets.make(files)
    (files / "database_password").write_text(postgres.password)
    (files / "redis_password").write_text(redis_url.split(":")[2].partition("@")[0])
    here = {
        "/run/secrets": str(files),
        "argilla@database:5432": f"{postgres.user}@127.0.0.1:{postgres.port}",
        "redis:6379": redis_url.rpartition("@")[2].partition("/")[0],
    }
    names = ("ARGILLA_", "LINGO_HITL_OWNER", "PG")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    for name, value in compose()["services"]["server"]["environment"].items():
        if not name.startswith("ARGILLA_ELASTICSEARCH"):
            variables[name] = functools.reduce(lambda text, pair: text.replace(*pair), here.items(), value)
    # The one part that cannot be had here.
    variables["ARGILLA_SEARCH_ENGINE"] = "embedded"
    variables["LINGO_HITL_TRUSTED_PROXIES"] = "127.0.0.1"
    variables["PYTHONPATH"] = str(folder / "code")
    return {**variables, "PYTHONUNBUFFERED": "1", **more}


def team_command(folder: Path, port: int, *more: str) -> list[str]:
    """The server's command of compose.yaml, with a home, a port and the loopback of this machine."""
    environment.ensure(log=folder / "environment.log", say=lambda line: None)
    code = folder / "code"
    code.mkdir(exist_ok=True)
    if not (code / "argilla_setup").exists():
        (code / "argilla_setup").symlink_to(environment.PACKAGE)
    here = {"/var/lib/lingo-hitl": str(folder / "home"), "0.0.0.0": "127.0.0.1", "6900": str(port)}
    command = [here.get(part, part) for part in compose()["services"]["server"]["command"]]
    return [str(environment.python_of(environment.location())), "-m", *command, *more]


class Team:
    """PostgreSQL and Redis that stay, and a server that can be killed and started again at its address."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lh-team-"))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.home = self.folder / "home"
        self.postgres = stack.enter_context(running_postgres())
        self.redis_url = stack.enter_context(running_redis())
        self.postgres.create_database("argilla")
        self.variables = team_variables(self.folder, self.postgres, self.redis_url)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        stack.callback(self.kill)

    def start(self) -> None:
        command = team_command(self.folder, self.port, *PEOPLE)
        log = self.folder / "server.txt"
        with log.open("a") as output:
            self._process = subprocess.Popen(
                command, cwd=self.folder, env=self.variables, stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(self.port):
            assert self._process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/api/v1/version", timeout=5, trust_env=False).is_success
    return False
