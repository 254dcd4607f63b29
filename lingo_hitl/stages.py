"""A stage is a function from a table to a table plus dropped rows; this module gives it a folder.

    WORKDIR/<stage>/rows.parquet      what the next stage reads
                    dropped.parquet   every row that did not go on, with its reason
                    manifest.json     config, SHA-256 of input and output, counts, versions, seconds

A folder is whole or absent: it is written under a temporary name and renamed. The same inputs and
config are not computed twice. Stages that call language models resume through their journal.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from lingo_hitl.errors import UserError
from lingo_hitl.records import DROPPED, Row, to_table

VERSIONED = (
    "lingo-hitl",
    "distilabel",
    "argilla",
    "transformers",
    "torch",
    "pyarrow",
    "umap-learn",
    "hdbscan",
    "kiwipiepy",
)

ROWS_IN_GROUP = 500
"""Rows that `RowFile` holds in memory."""


@dataclass(frozen=True)
class Outcome:
    """What a stage made: the rows that go on, those that do not, and figures worth telling."""

    rows: pa.Table | Path  # or a Parquet file, for rows that need not be in memory at once
    dropped: list[Row] | pa.Table = field(default_factory=list)  # made by `records.dropped`
    report: dict[str, Any] = field(default_factory=dict)  # plain JSON values, shown after the run
    rows_in: int | None = None  # where it is not the rows and the dropped rows together
    unfinished: bool = False  # something failed that may not fail again: the next run does the stage anew
    files: Mapping[str, Path] = field(default_factory=dict)  # by the name that each gets in the folder; linked there


class RowFile:
    """Rows on their way into a Parquet file, some at a time, so that they need not be in memory at once."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self.rows = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        # A run that was killed may have left a file that has a stage's rows under a second name: those are not ours.
        path.unlink(missing_ok=True)
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._waiting: list[Row] = []

    def add(self, row: Row) -> None:
        """Write a row, sooner or later."""
        self._waiting.append(row)
        self.rows += 1
        if len(self._waiting) >= ROWS_IN_GROUP:
            self._flush()

    def close(self) -> Path:
        """Write the rest; the file is whole then."""
        self._flush()
        self._writer.close()
        return self.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(to_table(self._waiting, self.schema))
            self._waiting = []


@dataclass(frozen=True)
class Stage:
    """A stage's name, the stage whose rows it takes, and the function that does the work."""

    name: str
    needs: str
    function: Callable[..., Outcome]

    def __call__(self, *args: Any, **kwargs: Any) -> Outcome:
        return self.function(*args, **kwargs)


def stage(name: str, *, needs: str) -> Callable[[Callable[..., Outcome]], Stage]:
    """Turn a function into the stage `name`, fed with the rows of the stage `needs`."""
    return lambda function: Stage(name, needs, function)


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` holds; `skipped` tells that a run found the work already done."""

    stage: str
    fingerprint: str
    config: Any
    inputs: dict[str, str]
    rows_in: int
    rows_out: int
    rows_dropped: int
    drops: dict[str, int]
    output_sha256: str
    versions: dict[str, str]
    seconds: float
    report: dict[str, Any] = field(default_factory=dict)
    unfinished: bool = False
    files: dict[str, str] = field(default_factory=dict)  # SHA-256 of whatever else lies in the folder
    skipped: bool = False


def read_rows(workdir: Path, name: str) -> pa.Table:
    """The rows that stage `name` left in `workdir`.

    Raises:
        UserError: the stage has not run there.
    """
    path = workdir / name / "rows.parquet"
    return _read(path, name)


def read_dropped(workdir: Path, name: str) -> list[Row]:
    """The rows that stage `name` dropped in `workdir`, each with its reason.

    Raises:
        UserError: the stage has not run there, or its file is damaged.
    """
    rows: list[Row] = _read(workdir / name / "dropped.parquet", name).to_pylist()
    return rows


def _read(path: Path, name: str) -> pa.Table:
    if not path.is_file():
        raise UserError(f"{path} is not there: stage '{name}' has not run. Run `lingo-hitl {name} CONFIG` first.")
    try:
        return pq.read_table(path)
    except pa.ArrowException as error:
        raise UserError(f"{path} is damaged ({error}). Delete {path.parent} and run the stage again.") from error


def read_manifest(workdir: Path, name: str) -> Manifest | None:
    """The manifest of stage `name`, or None where the stage has not run or left something unreadable."""
    try:
        return Manifest(**json.loads((workdir / name / "manifest.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def run_stage(
    name: str,
    work: Callable[[], Outcome],
    *,
    workdir: Path,
    config: Any,
    inputs: Mapping[str, str],
    always: bool = False,
    patience_s: float = 0,
) -> Manifest:
    """Do `work` and keep what it made in `workdir/name`, unless the same was done before.

    Args:
        config: what the work depends on; pydantic models and plain JSON values.
        inputs: SHA-256 of everything the work reads, by name.
        always: do the work even so, because it looks at something outside the folder, such as Argilla.
        patience_s: how long to wait for another run in the same `workdir`.

    Raises:
        UserError: another run holds `workdir`.
    """
    plain = _plain(config)
    versions = {package: found for package in VERSIONED if (found := _version(package))}
    fingerprint = _sha256_of([name, plain, dict(inputs), versions["lingo-hitl"]])
    with locked(workdir, patience_s=patience_s):
        _sweep(workdir, name)
        folder = workdir / name
        if folder.exists() and not (folder / "manifest.json").exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is there, and no earlier run made it. Choose another folder, or move it away.")
        before = read_manifest(workdir, name)
        redo = always or before is None or before.unfinished or before.fingerprint != fingerprint
        if before and not redo and _is_whole(workdir / name, before):
            return Manifest(**{**asdict(before), "skipped": True})
        started = time.monotonic()
        outcome = work()
        folder = workdir / f".{name}.new"
        folder.mkdir(parents=True)
        dropped = outcome.dropped if isinstance(outcome.dropped, pa.Table) else to_table(outcome.dropped, DROPPED)
        if isinstance(outcome.rows, Path):
            link_or_copy(outcome.rows, folder / "rows.parquet")
        else:
            pq.write_table(outcome.rows, folder / "rows.parquet", compression="zstd")
        rows_out = pq.read_metadata(folder / "rows.parquet").num_rows
        pq.write_table(dropped, folder / "dropped.parquet", compression="zstd")
        files = {file: file_sha256(path) for file, path in outcome.files.items()}
        manifest = Manifest(
            stage=name,
            fingerprint=fingerprint,
            config=plain,
            inputs=dict(inputs),
            rows_in=rows_out + dropped.num_rows if outcome.rows_in is None else outcome.rows_in,
            rows_out=rows_out,
            rows_dropped=dropped.num_rows,
            drops=dict(Counter(_kind(reason) for reason in dropped["reason"].to_pylist()).most_common()),
            output_sha256=file_sha256(folder / "rows.parquet"),
            versions=versions,
            seconds=round(time.monotonic() - started, 2),
            report=outcome.report,
            unfinished=outcome.unfinished,
            files=files,
        )
        text = json.dumps(asdict(manifest), ensure_ascii=False, indent=2)
        (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")
        for file, path in outcome.files.items():
            link_or_copy(path, folder / file)
        _replace(workdir / name, folder)
        return manifest


def _kind(reason: str) -> str:
    """A reason without what is of one row alone, which stands in brackets at its end."""
    return reason.partition(" (")[0]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _version(package: str) -> str | None:
    """Its installed version; None where it is not installed, as torch without the `local` extra."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _plain(config: Any) -> Any:
    if isinstance(config, BaseModel):
        return config.model_dump(mode="json")
    if isinstance(config, Mapping):
        return {key: _plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [_plain(value) for value in config]
    return config


def _sha256_of(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _is_whole(folder: Path, manifest: Manifest) -> bool:
    there = all((folder / name).is_file() for name in ("rows.parquet", "dropped.parquet", *manifest.files))
    made = {"rows.parquet": manifest.output_sha256, **manifest.files}
    return there and all(file_sha256(folder / name) == sha256 for name, sha256 in made.items())


def _replace(folder: Path, fresh: Path) -> None:
    """Put `fresh` in the place of `folder`; after a crash in between, `_sweep` puts the old one back."""
    old = folder.with_name(f".{folder.name}.old")
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def link_or_copy(path: Path, place: Path) -> None:
    """The file at `path` under a second name: whatever is killed next, the work finds it where it left it."""
    try:
        place.hardlink_to(path)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, place)


def _sweep(workdir: Path, name: str) -> None:
    folder, old = workdir / name, workdir / f".{name}.old"
    shutil.rmtree(workdir / f".{name}.new", ignore_errors=True)
    if old.exists() and not folder.exists():
        old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def locked(workdir: Path, *, patience_s: float = 0) -> Iterator[None]:
    """Nobody else changes what is in `workdir` meanwhile.

    Raises:
        UserError: another run holds it, `patience_s` seconds long.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    with (workdir / ".lock").open("a+") as lock:
        while not _taken(lock):
            if time.monotonic() >= deadline:
                lock.seek(0)
                holder = lock.read().strip()
                raise UserError(
                    f"{workdir}: another lingo-hitl (pid {holder}) works here. Wait for it, or use another --workdir."
                )
            time.sleep(0.2)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
