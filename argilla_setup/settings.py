"""What Argilla is told before it is imported, and where its log goes: the same for the server and the worker."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING

from argilla_setup.home import read_json, write_private
from argilla_setup.log_files import rotating_handler
from argilla_setup.log_redaction import WithoutInput
from argilla_setup.secret_files import read_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from argilla_setup.home import Home

SQLITE_PATIENCE_S = 30
"""How long a write waits for another one; Argilla's own 5 s are short beside a bulk upsert on a slow disk."""

LOCAL_REDIS = "redis://localhost:6379/0"


def configure(home: Home, *, redis_url: str | None, temporary: Path | None = None) -> None:
    """Set what Argilla reads from the environment when it is imported. Variables that are set already win.

    `temporary` is this process's folder for temporary files, emptied now; None is the server's. A team's server is
    told its database, Redis and search engine by these variables; SecretError as `read_secrets`.
    """
    read_secrets(os.environ)
    temporary = temporary or home.temporary
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700, parents=True)
    # Argilla copies its web UI to a temporary folder at each start and leaves it there.
    tempfile.tempdir = str(temporary)
    known = read_json(home.secrets)
    if len(str(known.get("auth_secret_key", ""))) < 32:
        known["auth_secret_key"] = secrets.token_urlsafe(48)
        write_private(home.secrets, json.dumps(known) + "\n")
    defaults = {
        "ARGILLA_HOME_PATH": str(home.path),
        "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{home.database}?check_same_thread=False",
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": str(SQLITE_PATIENCE_S),
        "ARGILLA_SEARCH_ENGINE": "embedded",
        "ARGILLA_REDIS_URL": redis_url or LOCAL_REDIS,
        "ARGILLA_AUTH_SECRET_KEY": known["auth_secret_key"],
        "ARGILLA_AUTH_OAUTH_CFG": str(home.path / ".oauth.yaml"),
        "ARGILLA_CORS_ORIGINS": "[]",
        "ARGILLA_SHOW_HUGGINGFACE_SPACE_PERSISTENT_STORAGE_WARNING": "false",
        # Nothing leaves this machine: neither usage reports nor look-ups.
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # No usage reports, whatever somebody's environment says about their other programs.
    os.environ.update({"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"})


def configure_logging(log: Path) -> None:
    """One rotating log for Argilla, uvicorn and us; errors also go to stderr.

    Request lines are left out, for they carry search texts, and so is what a refused request sent.
    """
    handler = rotating_handler(log)
    errors = logging.StreamHandler(sys.stderr)
    errors.setLevel(logging.ERROR)
    for each in (handler, errors):
        each.addFilter(WithoutInput())
    logging.basicConfig(handlers=[handler, errors], level=logging.WARNING, force=True)
    for name in ("argilla_setup", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.INFO)
