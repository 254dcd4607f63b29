"""The secrets of a team's server, each generated into a file of its own, for compose.yaml. Standard library only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from argilla_setup.errors import LauncherError
from argilla_setup.home import explain_os_error

BYTES = {
    "auth_secret_key": 48,
    "database_password": 32,
    "redis_password": 32,
    "elasticsearch_password": 32,
    "owner_password": 15,
    "owner_api_key": 32,
}
"""How much chance is in each; as URL-safe text a third longer."""


def make(folder: Path) -> list[Path]:
    """Generate the secrets that `folder` lacks, and return their files; none of those that are there is changed.

    The folder is 0700, which keeps everybody else on the machine out. The files in it are 0644: a container sees each
    alone, and reads it as a user of its own that this machine does not know.

    Raises:
        LauncherError: the folder cannot be written, or is open to others and holds something else.
    """
    made = []
    try:
        if folder.is_dir() and any(item.name not in BYTES for item in folder.iterdir()):
            raise LauncherError(f"{folder} holds other files; expected an empty folder. Give one of its own.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name, length in BYTES.items():
            path = folder / name
            if not path.exists():
                _write(path, secrets.token_urlsafe(length) + "\n")
                made.append(path)
    except OSError as error:
        raise explain_os_error(error, folder) from None
    return made


def _write(path: Path, text: str) -> None:
    """Whole or not at all: an empty file would be taken for a secret next time."""
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    partial.chmod(0o644)
    partial.replace(path)
