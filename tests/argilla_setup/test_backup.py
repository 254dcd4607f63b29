"""Snapshots and what can keep one from being made or put back. No server: a small database of the same kind."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from argilla_setup.backup.backup import backup
from argilla_setup.backup.restore import restore
from argilla_setup.backup.snapshot import Manifest, argilla_version
from argilla_setup.home import Home
from argilla_setup.migration.migrate import migrate
from argilla_setup.processes import ProcessRecord
from argilla_setup.table_digest import TableContent
from tests.argilla_setup.refusals import refused

ROOT = Path(__file__).parents[2]
TABLES = ["users", "workspaces", "workspaces_users", "datasets", "records", "responses", "suggestions", "vectors"]


def small_home(path, *, megabytes=0):
    """A home with the tables that a snapshot counts: in write-ahead mode, as a server leaves it."""
    home = Home(path)
    home.prepare()
    with closing(sqlite3.connect(home.database)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table} (id TEXT, user_id TEXT, workspace_id TEXT, name TEXT)")
        connection.execute("ALTER TABLE users ADD username TEXT")
        connection.execute("ALTER TABLE users ADD api_key TEXT")
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('660d6c6b3360')")
        connection.execute("INSERT INTO users (id, username, api_key) VALUES ('1', 'owner', 'the-key-of-the-owner')")
        connection.executemany(
            "INSERT INTO records (id, name) VALUES (?, ?)", [(str(n), "글" * 350_000) for n in range(megabytes)]
        )
        connection.commit()
    with closing(sqlite3.connect(home.index)) as connection:
        connection.execute("CREATE TABLE datasets (dataset_id TEXT)")
    home.credentials.write_text(json.dumps({"url": "", "accounts": {"owner": {"api_key": "the-key-of-the-owner"}}}))
    return home


@pytest.fixture
def home(tmp_path):
    return small_home(tmp_path / "home")


def listing(folder):
    return sorted(item.name for item in folder.iterdir())


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_snapshot_is_whole_and_private_and_restores(home, tmp_path):
    with closing(sqlite3.connect(home.database)) as open_elsewhere:
        open_elsewhere.execute("INSERT INTO records (id, name) VALUES ('a', '기록')")
        open_elsewhere.commit()
        # In the write-ahead log alone, as on a server that runs.
        taken = backup(home.path, tmp_path / "deep" / "snapshots")
        open_elsewhere.execute("INSERT INTO records (id, name) VALUES ('b', 'later')")
        open_elsewhere.commit()
    assert listing(taken.path) == ["argilla.db", "index.db", "manifest.json"]
    assert mode(taken.path) == 0o700
    assert {oct(mode(item)) for item in taken.path.iterdir()} == {"0o600"}
    manifest = Manifest.read(taken.path)
    assert manifest == taken.manifest
    assert (manifest.counts["records"], manifest.counts["users"], manifest.argilla_version) == (1, 1, "2.8.0")
    assert manifest.files["argilla.db"].bytes == (taken.path / "argilla.db").stat().st_size
    assert json.loads((home.path / "last-backup.json").read_text()) == {
        "at": manifest.created_at,
        "path": str(taken.path),
        "verified": False,
    }

    restored = restore(taken.path, tmp_path / "other")
    there = Home(restored.home)
    with closing(sqlite3.connect(there.database)) as connection:
        assert connection.execute("SELECT id, name FROM records").fetchall() == [("a", "기록")]
    known = json.loads(there.credentials.read_text())
    assert known["accounts"]["owner"]["api_key"] == "the-key-of-the-owner"
    assert mode(there.path) == 0o700
    assert {oct(mode(file)) for file in (there.database, there.index, there.credentials)} == {"0o600"}

    # A second one in the same second, with credentials, which a restore brings back as they were.
    second = backup(home.path, taken.path.parent, with_credentials=True)
    assert second.path != taken.path
    assert restore(second.path, tmp_path / "third").kept_credentials
    assert (tmp_path / "third" / "credentials.json").read_bytes() == home.credentials.read_bytes()


def test_a_snapshot_without_an_index_restores(home, tmp_path):
    home.index.write_bytes(b"garbage" * 1000)
    taken = backup(home.path, tmp_path / "snapshots")
    assert "index was left out" in taken.notes[0]
    assert listing(taken.path) == ["argilla.db", "manifest.json"]
    restore(taken.path, tmp_path / "other")
    assert not (tmp_path / "other" / "index.db").exists()


def test_keep_deletes_older_snapshots_of_this_home_and_nothing_else(home, tmp_path):
    folder = tmp_path / "snapshots"
    other = backup(small_home(tmp_path / "home2").path, folder).path
    taken = [backup(home.path, folder).path for _ in range(4)]
    (taken[1] / "notes.txt").write_text("why this one matters")
    (folder / "lingo-hitl-20200101T000000Z").mkdir()
    (folder / "thesis.txt").write_text("mine")
    (folder / "lingo-hitl-20200101T000001Z").symlink_to(other)
    last = backup(home.path, folder, keep=2)
    assert set(last.deleted) == {taken[0], taken[2]}
    expected = {other, taken[1], taken[3], last.path}
    left = {
        "lingo-hitl-20200101T000000Z",
        "lingo-hitl-20200101T000001Z",
        "thesis.txt",
        *(path.name for path in expected),
    }
    assert set(listing(folder)) == left
    assert Manifest.read(other).counts["users"] == 1


def test_keep_spares_what_a_home_held_before_it_lost_its_data(home, tmp_path):
    folder = tmp_path / "snapshots"
    with closing(sqlite3.connect(home.database)) as database, database:
        database.execute("INSERT INTO records (id) VALUES ('1')")
    whole = backup(home.path, folder).path
    with closing(sqlite3.connect(home.database)) as database, database:
        database.execute("DELETE FROM records")
    for _ in range(2):
        taken = backup(home.path, folder, keep=1)
        assert whole.exists() and whole not in taken.deleted
        assert whole.name in taken.notes[-1]
    assert len(listing(folder)) == 2


def test_what_a_killed_backup_left_is_cleared_away_by_the_next(home, tmp_path):
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom argilla_setup.backup.backup import backup\n"
        "backup(Path(sys.argv[1]), Path(sys.argv[2]), tell=lambda *_: os.kill(os.getpid(), 9))"
    )
    killed = subprocess.run([sys.executable, "-c", script, home.path, tmp_path / "snapshots"], cwd=ROOT, check=False)
    assert killed.returncode == -9
    [left] = listing(tmp_path / "snapshots")
    assert left.startswith(".") and left.endswith(".partial")
    taken = backup(home.path, tmp_path / "snapshots")
    assert listing(tmp_path / "snapshots") == [taken.path.name]


def test_each_reason_for_no_snapshot_is_one_line(home, tmp_path):
    folder = tmp_path / "snapshots"
    refused(lambda: backup(tmp_path / "nowhere", folder), "holds no argilla.db", "--home")
    refused(lambda: backup(home.path, home.path / "snapshots"), "lies in the home")
    (tmp_path / "link").symlink_to(home.path)
    refused(lambda: backup(home.path, tmp_path / "link" / "snapshots"), "lies in the home")
    refused(lambda: backup(home.path, home.database), "is a file")
    refused(lambda: backup(home.path, Path("/proc/snapshots")), "/proc")
    refused(lambda: backup(home.path, folder, keep=0), "--keep is 0")
    refused(lambda: backup(home.path, tmp_path / "lingo-hitl-20261121T999999Z", verify=True), "is not there")
    assert not folder.exists()

    taken = backup(home.path, folder)
    refused(lambda: backup(home.path, taken.path), "is a snapshot itself", "--verify")
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    refused(lambda: backup(home.path, folder), "another backup", "at work")
    os.close(descriptor)

    content = bytearray(home.database.read_bytes())
    content[4096:] = b"x" * len(content[4096:])
    home.database.write_bytes(content)
    refused(lambda: backup(home.path, folder), "is damaged", "earlier backup")
    assert listing(folder) == [taken.path.name]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_a_full_disk_leaves_nothing_behind(tmp_path):
    home = small_home(tmp_path / "home", megabytes=5)
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", disk], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        filled = disk / "other"

        def fill(*_):
            # Somebody else takes the space while the copy is made.
            with pytest.raises(OSError, match="No space"), filled.open("wb", buffering=0) as handle:
                while True:
                    handle.write(b"0" * 65536)

        refused(lambda: backup(home.path, disk / "snapshots", tell=fill), "no space is left", "Free some space")
        refused(lambda: backup(home.path, disk / "snapshots"), "MB are free", "this snapshot needs")
        assert listing(disk / "snapshots") == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounting needs root")
def test_a_home_on_a_disk_that_can_only_be_read_is_saved(home, tmp_path):
    place = tmp_path / "mounted"
    place.mkdir()
    writer = sqlite3.connect(home.database)
    writer.execute("INSERT INTO records (id) VALUES ('in the log alone')")
    writer.commit()
    if subprocess.run(["mount", "--bind", home.path, place], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
        taken = backup(place, tmp_path / "snapshots")
    finally:
        subprocess.run(["umount", place], check=True)
        writer.close()
    assert "`status` will not show this backup" in taken.notes[0]
    assert listing(taken.path) == ["argilla.db", "index.db", "manifest.json"]
    assert taken.manifest.counts["records"] == 1


def test_a_restore_never_overwrites_and_never_takes_what_was_changed(home, tmp_path):
    taken = backup(home.path, tmp_path / "snapshots").path
    other = tmp_path / "other"
    refused(lambda: restore(taken, home.path), "holds data", "1 users", "--home")
    refused(lambda: restore(tmp_path, other), "is no snapshot")
    (other / "sub").mkdir(parents=True)
    refused(lambda: restore(taken, other), "holds other files")
    shutil.rmtree(other)

    def changed(edit):
        copy = tmp_path / "changed"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(taken, copy)
        edit(copy)
        return copy

    def edit_manifest(**more):
        def edit(copy):
            data = json.loads((copy / "manifest.json").read_text())
            (copy / "manifest.json").write_text(json.dumps({**data, **more}))

        return edit

    def flip(copy):
        content = bytearray((copy / "argilla.db").read_bytes())
        content[5000] ^= 1
        (copy / "argilla.db").write_bytes(content)

    refused(lambda: restore(changed(flip), other), "argilla.db is not as it was written", "another snapshot")
    refused(lambda: restore(changed(lambda copy: (copy / "index.db").unlink()), other), "index.db cannot be read")
    refused(lambda: restore(changed(edit_manifest(format=2)), other), "snapshot format 2", "Update lingo-hitl")
    refused(lambda: restore(changed(edit_manifest(argilla_version="2.10.0")), other), "2.10.0", argilla_version())
    outside = edit_manifest(files={"argilla.db": {"sha256": "", "bytes": 0}, "../x": {"sha256": "", "bytes": 0}})
    refused(lambda: restore(changed(outside), other), "manifest.json is damaged")
    assert not other.exists(), "nothing is left of a restore that was refused"

    # A lost database, in a home that is still there: its own credentials stay, an index that is ahead goes.
    home.credentials.write_text(
        json.dumps({"accounts": {"owner": {"api_key": "the-key-of-the-owner", "password": "p"}}})
    )
    Path(f"{home.database}-wal").write_bytes(b"answers")
    home.database.unlink()
    refused(lambda: restore(taken, home.path), "argilla.db-wal", "may hold answers")
    Path(f"{home.database}-wal").unlink()
    home.index.write_bytes(b"ahead of the snapshot")
    assert restore(taken, home.path).kept_credentials
    assert json.loads(home.credentials.read_text())["accounts"]["owner"]["password"] == "p"
    assert home.index.read_bytes() == (taken / "index.db").read_bytes()

    # Sign-ins of another database, and jobs that wait for one, do not get into this one; nor are they lost.
    for _ in range(2):
        kept = {"credentials.json": '{"accounts": {"owner": {"api_key": "x"}}}', "unsent-jobs.jsonl": "a job\n"}
        kept |= {"redis/appendonly.aof": "jobs"}
        for name, text in kept.items():
            (home.path / name).write_text(text)
        home.database.unlink()
        restored = restore(taken, home.path)
    assert not restored.kept_credentials
    assert {str(file.relative_to(home.path)): file.read_text() for file in restored.set_aside} == {
        f"{name}.before-restore-2": text for name, text in kept.items()
    }
    assert not home.unsent_jobs.exists()
    assert listing(home.redis_data) == ["appendonly.aof.before-restore", "appendonly.aof.before-restore-2"]
    home.delete()
    assert not home.path.exists()


def test_a_home_whose_supervisor_alone_runs_is_left_alone(home, tmp_path):
    """It is about to start the server anew."""
    taken = backup(home.path, tmp_path / "snapshots").path
    supervisor = ProcessRecord.of(os.getpid())
    supervisor.write(home.record("supervisor"))
    refused(lambda: migrate(str(home.path), f"sqlite:///{tmp_path / 'x.db'}"), "(--from) runs", "lingo-hitl down")
    refused(lambda: migrate(f"sqlite:///{taken / 'argilla.db'}", str(home.path)), "(--to) runs")
    home.database.unlink()
    refused(lambda: restore(taken, home.path), "runs; a home without data was expected")


def test_equal_content_has_equal_digests_in_any_order():
    rows = [("1", None, "글", 0.5), ("2", 1, "글", 1.5)]
    whole = TableContent().plus(rows)
    assert whole == TableContent().plus(rows[1:]).plus(rows[:1])
    for other in (
        [("1", None, "글", 0.5)],
        [*rows, rows[0]],
        [rows[0], ("2", "1", "글", 1.5)],
        [rows[0], ("2", 1, "글", 1)],
    ):
        assert TableContent().plus(other) != whole


def test_the_command_line(home, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "lingo_hitl.cli", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    done = run("backup", tmp_path / "snapshots", "--home", home.path)
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    assert "1 users, 0 datasets, 0 records, 0 answers" in line
    assert not done.stderr
    refused = run("restore", tmp_path / "snapshots" / listing(tmp_path / "snapshots")[0], "--home", home.path)
    assert refused.returncode == 2
    [line] = refused.stderr.splitlines()
    assert "holds data" in line
