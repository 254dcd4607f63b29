"""Prove that a snapshot restores: restore it, start a real server on it, and compare. Standard library only."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argilla_setup import json_client, launcher
from argilla_setup.accounts.credentials_file import OWNER
from argilla_setup.addresses import any_free_port
from argilla_setup.backup import snapshot as format_
from argilla_setup.backup.restore import refuse_newer, restore
from argilla_setup.backup.snapshot import Manifest, Tell, quiet
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, explain_os_error, read_json
from argilla_setup.sqlite_reading import reading
from argilla_setup.table_digest import TableContent, contents

HOST = "127.0.0.1"
INDEX_PATIENCE_S = 3600.0
"""How long a search index that the snapshot lacks may take to be built."""
_WORD = re.compile(r"(?<![^\W_])[^\W_]{2,30}(?![^\W_])")
"""A whole word, as the search knows words: without the underscores of a blank, and not the beginning of a long one."""


@dataclass(frozen=True)
class Proof:
    """What was seen of a snapshot that restores."""

    path: Path
    manifest: Manifest
    checked: tuple[str, ...]
    """What was found as it should be, in words."""
    seconds: float
    notes: tuple[str, ...] = ()


def verify(snapshot: Path, home: Path, *, tell: Tell = quiet) -> Proof:
    """Restore the snapshot into a temporary home, start the server there, compare all, and delete it again.

    LauncherError where anything differs. The result is noted in the manifest, and in `home` where the snapshot is its
    newest.
    """
    snapshot = Path(snapshot).expanduser().absolute()
    begun = time.monotonic()
    manifest = Manifest.read(snapshot)
    refuse_newer(snapshot, manifest)
    try:
        with _temporary_home(snapshot, manifest) as place:
            checked = _prove(snapshot, manifest, place, tell)
    except OSError as error:
        raise explain_os_error(error, snapshot) from None
    except LauncherError:
        _note(snapshot, manifest.with_verified(None), home)
        raise
    manifest = manifest.with_verified(format_.now())
    notes = _note(snapshot, manifest, home)
    return Proof(snapshot, manifest, checked, time.monotonic() - begun, notes)


def _prove(snapshot: Path, manifest: Manifest, place: Path, tell: Tell) -> tuple[str, ...]:
    restore(snapshot, place, tell=tell)
    _compare(snapshot, manifest.tables, _read(place, manifest, tell), "as restored")
    tell("a server on the restored home", 0, 1)
    try:
        url = launcher.up(place, port=any_free_port(HOST), accounts=(), say=lambda line: None).url
        try:
            checked = [f"{len(manifest.files)} files", _signed_in(url, place, manifest), _searched(url, place)]
        finally:
            launcher.down(place)
    except LauncherError as error:
        raise LauncherError(f"{snapshot} does not restore: {error}") from None
    with reading(Home(place).database) as connection:
        revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    after = _read(place, manifest, tell)
    if revision == manifest.schema_revision:
        _compare(snapshot, manifest.tables, after, "after the server ran on it")
        checked.append(f"{len(manifest.tables)} tables")
    else:
        # An earlier Argilla's: its columns were changed by the migration.
        rows = {name: TableContent(content.rows) for name, content in manifest.tables.items()}
        _compare(snapshot, rows, {name: TableContent(after[name].rows) for name in rows if name in after}, "migrated")
        checked.append(f"the rows of {len(rows)} tables, migrated to this Argilla")
    tell("a server on the restored home", 1, 1)
    return tuple(checked)


def _compare(snapshot: Path, expected: dict[str, TableContent], found: dict[str, TableContent], when: str) -> None:
    for table, content in expected.items():
        there = found.get(table)
        if there != content:
            seen = "is missing" if there is None else f"has {there.rows} rows, digest {there.digest[:8]}"
            raise LauncherError(
                f"{snapshot} does not restore: {when}, table {table} {seen}; expected {content.rows} rows, digest"
                f" {content.digest[:8]}. Use another snapshot."
            )


def _read(place: Path, manifest: Manifest, tell: Tell) -> dict[str, TableContent]:
    step = format_.counting(tell, "comparing", sum(content.rows for content in manifest.tables.values()))
    try:
        with reading(Home(place).database) as connection:
            return contents(connection, step)
    except sqlite3.Error as error:
        raise LauncherError(f"the database of the snapshot is damaged ({error}). Use another snapshot.") from None


def _signed_in(url: str, place: Path, manifest: Manifest) -> str:
    """Sign in as a person would, where the snapshot holds passwords, else by the owner's API key."""
    for name, account in launcher.credentials(place).accounts.items():
        if manifest.has_credentials and account.password:
            answer = _ask(url, "/api/v1/token", form={"username": name, "password": account.password})
            if not answer.get("access_token"):
                raise LauncherError(f"the server gave {name} no session")
            return f"sign-in as {name}"
    if _ask(url, "/api/v1/me", key=_owner_key(place)).get("username") != OWNER:
        raise LauncherError("the server does not know the owner's API key")
    return "the owner's API key"


def _searched(url: str, place: Path) -> str:
    """Search each published dataset for all its records, and for a word of one of them."""
    key, words = _owner_key(place), 0
    with reading(Home(place).database) as connection:
        ready = connection.execute("SELECT id, name FROM datasets WHERE status = 'ready'").fetchall()
        for dataset, name in ready:
            path = f"/api/v1/datasets/{dataset}/records/search?limit=1"
            records = connection.execute("SELECT count(*) FROM records WHERE dataset_id = ?", (dataset,)).fetchone()[0]
            total = _ask(url, path, key=key, body={}).get("total")
            if total != records:
                raise LauncherError(f"a search in dataset {name} finds {total} records; it holds {records}")
            word = _word_of(connection, dataset)
            if word:
                _await_found(url, path, key, word, place, name)
                words += 1
    return f"search in {len(ready)} datasets (for a word in {words})"


def _await_found(url: str, path: str, key: str, word: str, place: Path, name: str) -> None:
    deadline = time.monotonic() + INDEX_PATIENCE_S
    while time.monotonic() < deadline:
        left = _left_to_index(place)
        if _ask(url, path, key=key, body={"query": {"text": {"q": word}}}).get("total"):
            return
        if not left:
            break
        time.sleep(1)
    raise LauncherError(f"a search for {word!r} in dataset {name} does not find the record that holds it")


def _left_to_index(place: Path) -> int:
    try:
        with reading(Home(place).index) as index:
            return int(index.execute("SELECT remaining FROM progress").fetchone()[0])
    except sqlite3.Error:
        return 1


def _word_of(connection: sqlite3.Connection, dataset: str) -> str | None:
    """A word of a plain text field of one of the first records; None where there is none."""
    rows = connection.execute("SELECT fields FROM records WHERE dataset_id = ? LIMIT 20", (dataset,))
    images = "SELECT name FROM fields WHERE dataset_id = ? AND json_extract(settings, '$.type') != 'text'"
    passed_over = {row[0] for row in connection.execute(images, (dataset,))}
    for (fields,) in rows:
        for name, text in (json.loads(fields) or {}).items():
            found = _WORD.search(text) if isinstance(text, str) and name not in passed_over else None
            if found:
                return found.group()
    return None


def _ask(
    url: str, path: str, *, key: str | None = None, body: Any = None, form: dict[str, str] | None = None
) -> dict[str, Any]:
    try:
        value = json_client.ask(url + path, key=key, body=body, form=form, patience_s=120)
    except json_client.RefusedError as error:
        raise LauncherError(f"the restored server answers {error.code} to {path.partition('?')[0]}") from None
    except json_client.NoAnswerError as error:
        raise LauncherError(f"the restored server gives no answer to {path.partition('?')[0]} ({error})") from None
    return value if isinstance(value, dict) else {}


def _owner_key(place: Path) -> str:
    return launcher.credentials(place).accounts[OWNER].api_key


@contextlib.contextmanager
def _temporary_home(snapshot: Path, manifest: Manifest) -> Iterator[Path]:
    """In the temporary folder, or beside the snapshot where only that disk has the space."""
    needed = 2 * sum(file.bytes for file in manifest.files.values()) + 300 * 1024**2
    places = [Path(tempfile.gettempdir()), snapshot.parent]
    roomy = [place for place in places if shutil.disk_usage(place).free >= needed]
    if not roomy:
        raise LauncherError(
            f"a proof of {snapshot} takes {needed // 1024**2} MB of disk, and neither {places[0]} nor {places[1]} has"
            " them. Free some space, or set TMPDIR to a larger disk."
        )
    folder = Path(tempfile.mkdtemp(prefix="lh-verify-", dir=roomy[0]))
    try:
        yield folder / "home"
    finally:
        with contextlib.suppress(LauncherError):
            launcher.remove(folder / "home")
        shutil.rmtree(folder, ignore_errors=True)


def _note(snapshot: Path, manifest: Manifest, home: Path) -> tuple[str, ...]:
    """Write the outcome into the manifest, and into the home whose newest backup this is."""
    place = Home(Path(home).expanduser().absolute())
    notes: tuple[str, ...] = ()
    try:
        manifest.write(snapshot)
    except OSError as error:
        notes = (f"{snapshot} cannot be written ({error.strerror}): its manifest does not show this proof",)
    if read_json(place.last_backup).get("path") == str(snapshot):
        with contextlib.suppress(OSError):
            format_.remember(place, snapshot, manifest)
    return notes
