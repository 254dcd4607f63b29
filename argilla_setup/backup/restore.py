"""Put a snapshot back as a home: on another machine, or where a disk was lost. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from argilla_setup import running
from argilla_setup.accounts.credentials_file import MADE_BY_UP, OWNER, CredentialsFile
from argilla_setup.backup import snapshot as format_
from argilla_setup.backup.set_aside import set_aside, waiting_jobs
from argilla_setup.backup.snapshot import DATABASE, INDEX, Manifest, Tell, quiet
from argilla_setup.errors import LauncherError
from argilla_setup.home import Home, explain_os_error, read_json
from argilla_setup.sqlite_reading import reading


@dataclass(frozen=True)
class Restored:
    """A home that was filled from a snapshot."""

    home: Path
    manifest: Manifest
    kept_credentials: bool
    """True where credentials.json is the snapshot's or the home's own: it holds the passwords."""
    set_aside: tuple[Path, ...] = ()
    """Sign-ins and waiting jobs of an earlier database of this home, by their new names."""


def restore(snapshot: Path, home: Path, *, tell: Tell = quiet) -> Restored:
    """Fill `home`, which must hold no data, from `snapshot`; each file is checked against the manifest on the way.

    LauncherError where the snapshot is damaged or too new, or the home holds data or runs: then nothing was changed.
    Passwords and API keys are in the database, and work afterwards. Without credentials in the snapshot, a
    credentials.json is made that holds the owner's API key, which the toolkit works with. One of the home's own that
    does not fit is set aside, and so are jobs that wait in the home.
    """
    snapshot = Path(snapshot).expanduser().absolute()
    manifest = Manifest.read(snapshot)
    refuse_newer(snapshot, manifest)
    place = Home(Path(home).expanduser().absolute())
    refuse_data(place)
    is_new = not place.path.exists()
    try:
        place.prepare()
        with place.locked():
            refuse_data(place)
            kept, moved = _fill(snapshot, manifest, place, tell)
    except BaseException as error:
        if is_new:
            shutil.rmtree(place.path, ignore_errors=True)
        if isinstance(error, OSError):
            raise explain_os_error(error, place.path) from None
        raise
    return Restored(place.path, manifest, kept, moved)


def refuse_newer(snapshot: Path, manifest: Manifest) -> None:
    """LauncherError where the snapshot is of a later Argilla than this installation's."""
    ours = format_.argilla_version()
    if format_.is_newer(manifest.argilla_version, ours):
        raise LauncherError(
            f"{snapshot} is of Argilla {manifest.argilla_version}; this is {ours}. Update lingo-hitl, then restore it."
        )


def refuse_data(place: Home) -> None:
    """LauncherError where the home runs or holds a database, or a part of one."""
    if running.anything(place):
        raise LauncherError(
            f"the server of {place.path} runs; a home without data was expected. Give another place with --home, or run"
            " `lingo-hitl down` and move that folder away."
        )
    if place.database.exists():
        raise LauncherError(
            f"{place.path} holds data ({_held(place)}), and nothing is ever overwritten. Give another place with"
            " --home, or move that folder away first."
        )
    for part in [part for part in place.path.glob(f"{DATABASE}-*") if _holds_answers(part)]:
        raise LauncherError(
            f"{part} is a part of a database that was moved away, and may hold answers. Move it to where {DATABASE} is"
            " now, then try again."
        )


def fit_credentials(place: Home, database: Path) -> bool:
    """Have a credentials.json that fits the users of `database`; False where the one that is there does already.

    It holds the owner's API key, for the toolkit, and an empty password: the one that worked before goes on working,
    and is not known here. All others' sign-ins are elsewhere, so that no start makes or changes them.
    """
    if fits(place, database):
        return False
    with reading(database) as connection:
        users = dict(connection.execute("SELECT username, api_key FROM users").fetchall())
        joined = connection.execute(
            "SELECT workspaces.name FROM workspaces_users AS joined"
            " JOIN workspaces ON workspaces.id = joined.workspace_id JOIN users ON users.id = joined.user_id"
            " WHERE users.username = ? ORDER BY workspaces.name",
            (OWNER,),
        )
        workspaces = [row[0] for row in joined]
    made = CredentialsFile(place.credentials, elsewhere={*users, *MADE_BY_UP} - {OWNER})
    if OWNER in users:
        made.accounts[OWNER] = {"role": "owner", "password": "", "api_key": users[OWNER], "workspaces": workspaces}
    made.write()
    return True


def _fill(snapshot: Path, manifest: Manifest, place: Home, tell: Tell) -> tuple[bool, tuple[Path, ...]]:
    """Whether credentials.json is a kept one, and what was set aside."""
    step = format_.counting(tell, "restoring", sum(file.bytes for file in manifest.files.values()))
    with _working_folder(place) as folder:
        for name, expected in manifest.files.items():
            try:
                found = format_.sum_of(snapshot / name, step, copy_to=folder / name)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise LauncherError(
                    f"{snapshot / name} cannot be read ({error.strerror}); the manifest names it. Use another snapshot."
                ) from None
            if found != expected:
                raise LauncherError(
                    f"{snapshot / name} is not as it was written ({found.bytes} bytes, SHA-256 {found.sha256[:12]}...;"
                    f" expected {expected.bytes} bytes, {expected.sha256[:12]}...). Use another snapshot."
                )
        # The index of a database that was here before may be ahead of the snapshot's, and its other files are no use.
        for file in (*place.path.glob(f"{INDEX}*"), *place.path.glob(f"{DATABASE}-*")):
            file.unlink()
        moved = set_aside(waiting_jobs(place), before="restore")
        own = fits(place, folder / DATABASE)
        names = [name for name in manifest.files if name != DATABASE and not (own and name in format_.CREDENTIALS)]
        for name in names:
            if name in format_.CREDENTIALS and not _equal(folder / name, place.path / name):
                moved += set_aside([place.path / name], before="restore")
            (folder / name).replace(place.path / name)
        if not fits(place, folder / DATABASE):
            moved += set_aside([place.credentials], before="restore")
        made = fit_credentials(place, folder / DATABASE)
        # The database last: a home that holds one is whole.
        (folder / DATABASE).replace(place.database)
        format_.flush(place.path)
    return not made, tuple(moved)


def fits(place: Home, database: Path) -> bool:
    """Whether the home has a credentials.json with the API key that the owner has in `database`."""
    with reading(database) as connection:
        row = connection.execute("SELECT api_key FROM users WHERE username = ?", (OWNER,)).fetchone()
    accounts = read_json(place.credentials).get("accounts")
    owner = accounts.get(OWNER) if isinstance(accounts, dict) else None
    return bool(row) and isinstance(owner, dict) and owner.get("api_key") == row[0]


def _equal(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


@contextlib.contextmanager
def _working_folder(place: Home) -> Iterator[Path]:
    """In the home, for files are renamed from it into place; gone afterwards."""
    folder = place.run / f"restore-{os.getpid()}"
    for left in place.run.glob("restore-*"):
        shutil.rmtree(left)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _holds_answers(part: Path) -> bool:
    """Whether it is a log with commits that the database file lacks; an empty one, or its memory, is none."""
    return part.suffix != ".db-shm" and part.stat().st_size > 0


def _held(place: Home) -> str:
    try:
        with reading(place.database) as held:
            counts = {
                name: held.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
                for name, table in format_.COUNTED.items()
            }
    except sqlite3.Error:
        return DATABASE
    return format_.described(counts)
