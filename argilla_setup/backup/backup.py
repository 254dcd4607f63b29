"""Take a snapshot of a home, whether its server runs or not. Standard library only.

The databases are copied by SQLite's online backup, each as it is at one moment, while people go on labelling. A
snapshot is whole or absent: it is made under another name and renamed when all of it is on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import socket
import sqlite3
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from argilla_setup.backup import proof as snapshot_proof
from argilla_setup.backup import snapshot as format_
from argilla_setup.backup.proof import Proof
from argilla_setup.backup.snapshot import DATABASE, INDEX, FileSum, Manifest, Tell, quiet
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home
from argilla_setup.sqlite_reading import reading
from argilla_setup.table_digest import contents, count_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = 1000
"""Copied between two reports of progress: 4 MB."""
SPARE_BYTES = 20 * 1024**2
_PARTIAL = re.compile(rf"\.{format_.NAME.pattern}\.partial")


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was taken."""

    path: Path
    manifest: Manifest
    bytes: int
    seconds: float
    proof: Proof | None = None
    """What was seen, where it was verified."""
    deleted: tuple[Path, ...] = ()
    """Older snapshots that `keep` let go."""
    notes: tuple[str, ...] = ()
    """What a person should know, though the snapshot is whole."""


def backup(
    home: Path,
    folder: Path,
    *,
    with_credentials: bool = False,
    verify: bool = False,
    keep: int | None = None,
    tell: Tell = quiet,
) -> Snapshot:
    """Write a new snapshot of `home` into `folder`, which is made where it is missing.

    `verify` proves that the new one restores. `keep` then deletes this home's older snapshots in `folder` but for the
    newest `keep`, the new one among them; nothing else there is ever touched. LauncherError where it cannot be done;
    then nothing half-written stays behind.
    """
    place = Home(Path(home).expanduser().absolute())
    folder = Path(folder).expanduser().absolute()
    _refuse(place, folder, keep)
    if verify and not folder.exists() and format_.NAME.fullmatch(folder.name):
        raise LauncherError(f"{folder} is not there; a snapshot to verify, or a folder for snapshots, was expected.")
    begun = time.monotonic()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone_in(folder):
            _refuse_small_disk(place, folder)
            path = _new_name(folder)
            with _partial(path) as partial:
                manifest, notes = _fill(place, partial, with_credentials=with_credentials, tell=tell)
            seconds = time.monotonic() - begun
            try:
                format_.remember(place, path, manifest)
            except OSError as error:
                notes += (f"{place.path} cannot be written ({error.strerror}): `status` will not show this backup",)
            # Before older ones go, so that a snapshot which does not restore leaves those that do.
            proof = snapshot_proof.verify(path, place.path, tell=tell) if verify else None
            deleted, spared = format_.delete_older(folder, manifest, keep) if keep else ((), ())
            if spared:
                notes += (
                    f"{len(spared)} snapshots stay beside the newest {keep}: each has more than twice the records or"
                    f" answers of those, the last of them {spared[-1].name}. Where that is meant, delete them.",
                )
    except OSError as error:
        raise _explain(error, place, folder) from None
    return Snapshot(
        path=path,
        manifest=proof.manifest if proof else manifest,
        bytes=sum(file.bytes for file in manifest.files.values()),
        seconds=seconds,
        proof=proof,
        deleted=deleted,
        notes=notes,
    )


def _refuse(place: Home, folder: Path, keep: int | None) -> None:
    if keep is not None and keep < 1:
        raise LauncherError(f"--keep is {keep}; at least 1 was expected. Leave it out to keep all snapshots.")
    if not place.is_ours() or not place.database.is_file():
        raise LauncherError(
            f"{place.path} holds no {DATABASE}; a home made by `lingo-hitl up` was expected. Give it with --home."
        )
    if folder.exists() and not folder.is_dir():
        raise LauncherError(f"{folder} is a file; a folder for snapshots was expected. Give another place.")
    if (folder / format_.MANIFEST).exists():
        raise LauncherError(f"{folder} is a snapshot itself; give the folder above it, or add --verify to check it.")
    if folder.resolve().is_relative_to(place.path.resolve()):
        raise LauncherError(
            f"{folder} lies in the home {place.path} itself; a folder elsewhere, best on another disk, was expected."
            " Give another place."
        )


def _refuse_small_disk(place: Home, folder: Path) -> None:
    needed = SPARE_BYTES + sum(file.stat().st_size for file in (place.database, place.index) if file.exists())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise LauncherError(
            f"only {free // 1024**2} MB are free on the disk of {folder}; this snapshot needs {needed // 1024**2} MB."
            " Free some space, or give another place."
        )


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder for one backup, and clear away what a killed one left half-written."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LauncherError(
                f"another backup into {folder} is at work. Wait until it has ended, then try again."
            ) from None
        except OSError:
            # A file system without locks, as some network ones: then nobody can be told.
            pass
        for item in folder.iterdir():
            if _PARTIAL.fullmatch(item.name):
                shutil.rmtree(item)
        yield
    finally:
        os.close(descriptor)


def _new_name(folder: Path) -> Path:
    name = f"lingo-hitl-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    path, number = folder / name, 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}"
    return path


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A folder (0700) that takes its name when the block has ended well, and is gone otherwise."""
    partial = path.with_name(f".{path.name}.partial")
    partial.mkdir(mode=0o700)
    try:
        yield partial
        format_.flush(partial)
        partial.rename(path)
        format_.flush(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _fill(place: Home, partial: Path, *, with_credentials: bool, tell: Tell) -> tuple[Manifest, tuple[str, ...]]:
    created_at = format_.now()
    notes: tuple[str, ...] = ()
    # The index first: at the next start it may lack what the database holds, and gets it; were it ahead of the
    # database, it would be taken for newer, and keep texts that are no longer there.
    try:
        if place.index.exists():
            _copy(place.index, partial / INDEX, "search index", tell)
    except sqlite3.Error as error:
        if _is_full(error):
            raise _sqlite_explained(error, place) from None
        # Derived data: the next start builds it anew.
        notes += (f"the search index was left out ({error}); a restored server builds it anew",)
        for file in partial.glob(f"{INDEX}*"):
            file.unlink()
    try:
        _copy(place.database, partial / DATABASE, "database", tell)
        with reading(partial / DATABASE) as copy:
            tables = contents(copy, format_.counting(tell, "checking the copy", count_rows(copy)))
            fault = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if fault != "ok":
                raise sqlite3.DatabaseError(fault)
            revision = copy.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    except sqlite3.Error as error:
        raise _sqlite_explained(error, place) from None
    # After the database: a password that is rotated in between is set from this file at the next start.
    for name in format_.CREDENTIALS if with_credentials else ():
        if (place.path / name).is_file():
            format_.sum_of(place.path / name, copy_to=partial / name)
    manifest = Manifest(
        created_at=created_at,
        host=socket.gethostname(),
        home=str(place.path),
        argilla_version=format_.argilla_version(),
        schema_revision=str(revision),
        counts={name: tables[table].rows for name, table in format_.COUNTED.items()},
        tables=tables,
        files={file.name: _sealed(file) for file in sorted(partial.iterdir())},
    )
    manifest.write(partial)
    return manifest, notes


def _copy(source: Path, target: Path, what: str, tell: Tell) -> None:
    """Copy a SQLite database as it is at one moment, whoever writes to it meanwhile."""
    if not os.access(source.parent, os.W_OK):
        # A disk that can only be read any more: SQLite wants to write beside a database, and nobody else can.
        with tempfile.TemporaryDirectory(prefix="readable-", dir=target.parent) as folder:
            for part in (source, source.with_name(f"{source.name}-wal")):
                if part.exists():
                    format_.sum_of(part, copy_to=Path(folder) / part.name)
            _copy(Path(folder) / source.name, target, what, tell)
        return
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    uri = f"{source.as_uri()}?mode=ro"
    with (
        contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None)) as reading,
        contextlib.closing(sqlite3.connect(target, isolation_level=None)) as writing,
    ):
        # Flushed as a whole afterwards, and worthless until then.
        writing.execute("PRAGMA journal_mode = OFF")
        writing.execute("PRAGMA synchronous = OFF")
        # One read transaction around it all: without it, the copy would begin anew whenever somebody writes.
        reading.execute("BEGIN")
        reading.execute("SELECT count(*) FROM sqlite_master").fetchone()
        reading.backup(
            writing, pages=PAGES, progress=lambda _, left, whole: tell(f"copying the {what}", whole - left, whole)
        )
        # The file alone is then the whole of it, and can be read where nothing can be written.
        writing.execute("PRAGMA journal_mode = DELETE")


def _sealed(file: Path) -> FileSum:
    format_.flush(file)
    return format_.sum_of(file)


def _is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _sqlite_explained(error: sqlite3.Error, place: Home) -> OSError | LauncherError:
    if _is_full(error):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LauncherError(
            f"{place.database} is damaged ({error}); no snapshot was made of it. Restore it from an earlier backup."
        )
    return LauncherError(f"{place.database} cannot be read ({error}). Check the file and its disk, then try again.")


def _explain(error: OSError, place: Home, folder: Path) -> LauncherError:
    where = error.filename or folder
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return LauncherError(
            f"no space is left on the disk of {folder}; the half-written snapshot was deleted. Free some space, or"
            " give another place."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and str(place.path) not in str(where):
        return LauncherError(
            f"{where} cannot be written ({error.strerror}); a folder of yours was expected. Give another place."
        )
    return LauncherError(f"{where}: {error.strerror or error}. Correct that, then run the backup again.")
