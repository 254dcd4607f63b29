"""The format of a snapshot: a folder with the files of a home and a manifest that says what they are.

    lingo-hitl-20261121T173912Z/        0700, named by when it was begun (UTC)
        manifest.json                   written last; see `Manifest`
        argilla.db                      Argilla's database, one file, readable by any SQLite
        index.db                        the search index; may be absent, for it is derived
        credentials.json, secrets.json, .oauth.yaml     only where they were asked for

A snapshot holds secrets even without credentials.json: password hashes and API keys are in the database.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from argilla_setup.environment import REQUIREMENTS
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, read_json, write_private
from argilla_setup.table_digest import TableContent

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "argilla.db"
INDEX = "index.db"
CREDENTIALS = ("credentials.json", "secrets.json", ".oauth.yaml")
KIND = "lingo-hitl snapshot"
NAME = re.compile(r"lingo-hitl-\d{8}T\d{6}Z(-\d+)?")
COUNTED = {
    "users": "users",
    "workspaces": "workspaces",
    "datasets": "datasets",
    "records": "records",
    "answers": "responses",
    "suggestions": "suggestions",
    "vectors": "vectors",
}
"""What a manifest counts, and the table it is in."""
_CHUNK = 1 << 20

Tell = Callable[[str, int, int], None]
"""Told how far a long step is: what is done, how much of it so far, how much there is."""


def quiet(_what: str, _done: int, _whole: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class FileSum:
    """A file of a snapshot."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """What a snapshot is of. `digests` are those of table_digest.py, by table; times are ISO-8601, UTC."""

    created_at: str
    host: str
    home: str
    argilla_version: str
    schema_revision: str
    counts: dict[str, int]
    tables: dict[str, TableContent]
    files: dict[str, FileSum]
    verified_at: str | None = None
    format: int = FORMAT
    kind: str = field(default=KIND, init=False)

    @classmethod
    def read(cls, snapshot: Path) -> Manifest:
        """The manifest of a snapshot; LauncherError where the folder is none, or one that this version cannot read."""
        path = snapshot / MANIFEST
        if not path.is_file():
            raise LauncherError(
                f"{snapshot} is no snapshot (no {MANIFEST}); a folder lingo-hitl-<time> that `lingo-hitl backup` made"
                " was expected. Give the path of one."
            )
        data = read_json(path)
        try:
            version = int(data["format"])
            if data["kind"] == KIND and version > FORMAT:
                raise LauncherError(
                    f"{snapshot} has the snapshot format {version}; this lingo-hitl reads up to {FORMAT}."
                    " Update lingo-hitl."
                )
            if data.pop("kind") != KIND:
                raise ValueError
            data["tables"] = {name: TableContent(**content) for name, content in data["tables"].items()}
            data["files"] = {name: FileSum(**content) for name, content in data["files"].items()}
            if not {*data["files"]} <= {DATABASE, INDEX, *CREDENTIALS} or DATABASE not in data["files"]:
                raise ValueError
            return cls(**data)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LauncherError(f"{path} is damaged. Use another snapshot.") from None

    def write(self, snapshot: Path) -> None:
        write_private(snapshot / MANIFEST, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    def with_verified(self, at: str | None) -> Manifest:
        return replace(self, verified_at=at)

    @property
    def has_credentials(self) -> bool:
        return CREDENTIALS[0] in self.files


def is_snapshot(folder: Path) -> bool:
    """Whether the folder is a whole snapshot of ours, by its name and its manifest."""
    if not NAME.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
        return False
    return read_json(folder / MANIFEST).get("kind") == KIND


def argilla_version() -> str:
    """The Argilla that this installation runs."""
    found = re.search(r"^argilla-server==([\d.]+)$", REQUIREMENTS.read_text(encoding="utf-8"), re.M)
    assert found
    return found.group(1)


def is_newer(version: str, than: str) -> bool:
    """Whether one version of Argilla comes after another."""
    first, second = (tuple(int(part) for part in re.findall(r"\d+", text)[:3]) for text in (version, than))
    return first > second


def now() -> str:
    """The time as it stands in a manifest: UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sum_of(path: Path, tell: Callable[[int], None] = lambda read: None, copy_to: Path | None = None) -> FileSum:
    """SHA-256 and size of a file, copied on the way (0600) where `copy_to` is given; flushed to the disk."""
    digest, size = hashlib.sha256(), 0
    target = os.open(copy_to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) if copy_to else None
    try:
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                if target is not None:
                    _write_all(target, chunk)
                tell(len(chunk))
        if target is not None:
            os.fsync(target)
    finally:
        if target is not None:
            os.close(target)
    return FileSum(digest.hexdigest(), size)


def remember(home: Home, path: Path, manifest: Manifest) -> None:
    """Note the newest snapshot in the home, for `status`."""
    last = {"at": manifest.created_at, "path": str(path), "verified": manifest.verified_at is not None}
    write_private(home.last_backup, json.dumps(last) + "\n")


def flush(path: Path) -> None:
    """Have a file or folder on the disk before going on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete_older(folder: Path, newest: Manifest, keep: int) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Delete this home's snapshots but for the newest `keep`; one with files that are not ours is left alone.

    Returns those deleted, and those spared although they are older: they hold more than twice the records or answers
    of any that stays. Where a home lost its data, the good snapshots would otherwise go one night after the other.
    """
    of_this_home = []
    for item in folder.iterdir():
        if not is_snapshot(item):
            continue
        try:
            manifest = Manifest.read(item)
        except LauncherError:
            continue
        ours = {MANIFEST, *manifest.files}
        if (manifest.host, manifest.home) == (newest.host, newest.home) and {f.name for f in item.iterdir()} <= ours:
            of_this_home.append((manifest.created_at, *_order(item), item, manifest.counts))
    of_this_home.sort(key=lambda entry: entry[:-1])
    staying = [counts for *_, counts in of_this_home[-keep:]]
    older = [(item, counts) for *_, item, counts in of_this_home[:-keep]]
    old = [item for item, counts in older if any(_holds_half(kept, counts) for kept in staying)]
    for item in old:
        # Renamed first: what is half-deleted must not look whole.
        partial = item.with_name(f".{item.name}.partial")
        item.rename(partial)
        shutil.rmtree(partial)
    return tuple(old), tuple(item for item, _ in older if item not in old)


def _holds_half(counts: Mapping[str, int], of: Mapping[str, int]) -> bool:
    return all(2 * counts.get(name, 0) >= of.get(name, 0) for name in ("records", "answers"))


def counting(tell: Tell, what: str, whole: int) -> Callable[[int], None]:
    """What takes how much was done since it was called last, and tells how much of `whole` that is by now."""
    done = 0

    def step(more: int) -> None:
        nonlocal done
        done += more
        tell(what, done, whole)

    return step


def described(counts: Mapping[str, int]) -> str:
    """What a snapshot holds, for a line to a person."""
    return ", ".join(f"{counts.get(name, 0):,} {name}" for name in ("users", "datasets", "records", "answers"))


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _order(item: Path) -> tuple[int]:
    """Of snapshots of the same second."""
    return (int(item.name.partition("Z-")[2] or 1),)
