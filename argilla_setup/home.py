"""The home folder: everything one Argilla server keeps, and nothing of anybody else's."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from argilla_setup.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKER = ".lingo-hitl-home"
MIN_FREE_BYTES = 200 * 1024**2
"""Below this a start is refused: a disk that fills up in mid-answer is worse than no start."""


@dataclass(frozen=True)
class Home:
    """Where the files of one server lie."""

    path: Path

    @property
    def marker(self) -> Path:
        return self.path / MARKER

    @property
    def database(self) -> Path:
        return self.path / "argilla.db"

    @property
    def index(self) -> Path:
        return self.path / "index.db"

    @property
    def credentials(self) -> Path:
        return self.path / "credentials.json"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets.json"

    @property
    def last_backup(self) -> Path:
        """{"at", "path", "verified"} of the newest snapshot."""
        return self.path / "last-backup.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def log(self) -> Path:
        return self.logs / "server.log"

    @property
    def start_log(self) -> Path:
        """What the server process itself printed since its last start: tracebacks end here."""
        return self.logs / "start.log"

    @property
    def redis_log(self) -> Path:
        return self.logs / "redis.log"

    @property
    def supervisor_log(self) -> Path:
        return self.logs / "supervisor.log"

    @property
    def worker_log(self) -> Path:
        return self.logs / "worker.log"

    @property
    def worker_output(self) -> Path:
        """What the worker process itself printed: tracebacks end here."""
        return self.logs / "worker-output.log"

    @property
    def environment_log(self) -> Path:
        """What building the server's environment printed."""
        return self.logs / "environment.log"

    @property
    def redis_data(self) -> Path:
        return self.path / "redis"

    @property
    def run(self) -> Path:
        """Process records, the lock, the socket and temporary files: nothing in it is worth a backup."""
        return self.path / "run"

    @property
    def temporary(self) -> Path:
        return self.run / "tmp"

    @property
    def unsent_jobs(self) -> Path:
        """Jobs that could not be queued while Redis was gone: they are queued when it is back."""
        return self.path / "unsent-jobs.jsonl"

    def record(self, part: str) -> Path:
        """The record of a process: `supervisor`, `redis`, `server` or `worker`."""
        return self.run / f"{part}.json"

    def is_ours(self) -> bool:
        return self.marker.is_file()

    def prepare(self) -> None:
        """Make the folders (0700), or raise LauncherError where the place is a file, foreign, read-only or full."""
        path = self.path
        try:
            if path.exists() and not path.is_dir():
                raise LauncherError(f"{path} is a file; a folder was expected. Give another place with --home.")
            if path.is_dir() and not self.is_ours() and any(path.iterdir()):
                raise LauncherError(
                    f"{path} holds other files and no {MARKER}; expected an empty folder or a home made by"
                    " `lingo-hitl up`. Give another place with --home."
                )
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (path, self.logs, self.redis_data, self.run, self.temporary):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
            if not self.is_ours():
                write_private(self.marker, json.dumps({"format": 1}) + "\n")
            probe = self.run / "probe"
            probe.write_bytes(b"0")
            probe.unlink()
        except OSError as error:
            raise explain_os_error(error, path) from None
        free = shutil.disk_usage(path).free
        if free < MIN_FREE_BYTES:
            raise LauncherError(
                f"only {free // 1024**2} MB are free on the disk of {path}; at least {MIN_FREE_BYTES // 1024**2} MB"
                " are needed. Free some space or give another place with --home."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home for one start or stop; a second one at the same time is told so, not queued."""
        try:
            handle = open_private(self.run / "lock", "a+")
        except OSError as error:
            raise explain_os_error(error, self.path) from None
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                handle.seek(0)
                holder = handle.read().strip() or "unknown"
                raise LauncherError(
                    f"{self.path} is in use: another start or stop (process {holder}) is at work on it."
                    " Wait until it has ended, then try again."
                ) from None
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            try:
                yield
            finally:
                handle.truncate(0)

    def delete(self) -> None:
        """Delete what a start makes, and the folder itself where nothing else lies in it."""
        made = [self.run, self.logs, self.redis_data, self.credentials, self.secrets, self.last_backup]
        made += [self.path / "server_id.dat", *self.path.glob("argilla.db*"), *self.path.glob("index.db*"), self.marker]
        made.append(self.unsent_jobs)
        for file in (self.credentials, self.secrets, self.unsent_jobs):
            made += self.path.glob(f"{file.name}.before-*")
        try:
            for item in made:
                if item.is_dir() and not item.is_symlink():
                    shutil.rmtree(item)
                else:
                    item.unlink(missing_ok=True)
            if not any(self.path.iterdir()):
                self.path.rmdir()
        except OSError as error:
            raise explain_os_error(error, self.path) from None


def explain_os_error(error: OSError, path: Path) -> LauncherError:
    """The line for a fault of the file system."""
    where = error.filename or path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LauncherError(f"no space is left on the disk of {path}. Free some space, then run the command again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LauncherError(
            f"{where} cannot be written ({os.strerror(error.errno)}); a folder that you own was expected."
            " Give another place with --home or LINGO_HITL_HOME."
        )
    if error.errno == errno.ENOTDIR:
        return LauncherError(f"a part of {path} is a file; a folder was expected. Give another place with --home.")
    return LauncherError(f"{where}: {error.strerror or error}. Check the disk, then run the command again.")


def write_private(path: Path, text: str) -> None:
    """Replace a file (0600) in one step: a reader sees the old text or the new one, also after a crash."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def open_private(path: Path, mode: str) -> IO[Any]:
    """Open a file that only this user can read, made so (0600) where it is new."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; empty where the file is absent or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
