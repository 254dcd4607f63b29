"""Start, stop, and what is left after a crash: each test has a server of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from argilla_setup import launcher
from argilla_setup.launcher import LauncherError
from tests.argilla_setup.awaiting import await_, kill
from tests.argilla_setup.rest import TEXT, Rest, rating

pytestmark = pytest.mark.server


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_up_status_down_and_up_again(home, start):
    server = start()
    assert server.started_now
    now = launcher.status(home)
    assert (now.running, now.url, now.pid, now.version) == (True, server.url, server.pid, "2.8.0")
    assert (now.users, now.datasets, now.records) == (3, 0, 0)
    assert now.database_bytes > 0
    assert now.index_bytes > 0
    assert now.problem is None

    known = launcher.credentials(home)
    assert {name: account.role for name, account in known.accounts.items()} == {
        "owner": "owner",
        "annotator1": "annotator",
        "annotator2": "annotator",
    }
    assert "password" not in repr(known.accounts["owner"])
    assert mode(home) == 0o700
    secret = [home / "credentials.json", home / "secrets.json", home / "argilla.db", home / "index.db"]
    assert {path.name: oct(mode(path)) for path in secret} == {path.name: "0o600" for path in secret}
    for path in home.rglob("*"):
        # run/tmp holds a copy of the public web UI, below folders that are closed.
        if not path.is_symlink() and home / "run" / "tmp" not in path.parents:
            assert not mode(path) & 0o077, f"{path} is open to others"

    again = start()
    assert (again.pid, again.started_now) == (server.pid, False)
    assert launcher.down(home)
    assert not launcher.status(home).running
    assert launcher.status(home).pid is None
    assert not launcher.down(home)

    start(accounts=("annotator1", "annotator2", "annotator3"))
    later = launcher.credentials(home)
    assert later.accounts["annotator3"].role == "annotator"
    assert {name: later.accounts[name] for name in known.accounts} == known.accounts

    launcher.remove(home)
    assert not home.exists()


def test_both_ways_to_sign_in(home, start):
    start()
    client = Rest(home).client
    account = launcher.credentials(home).accounts["annotator1"]
    token = client.post("/api/v1/token", data={"username": "annotator1", "password": account.password}).json()
    me = client.get(
        "/api/v1/me", headers={"Authorization": f"Bearer {token['access_token']}", "X-Argilla-Api-Key": ""}
    ).json()
    assert me["username"] == "annotator1"
    assert [item["name"] for item in Rest(home, "annotator1")("GET", "/me/workspaces")["items"]] == ["lingo"]
    launcher.down(home)
    start()
    kept = client.get(
        "/api/v1/me", headers={"Authorization": f"Bearer {token['access_token']}", "X-Argilla-Api-Key": ""}
    )
    assert kept.status_code == 200, "a session outlives a restart"
    assert client.get("/api/v1/me", headers={"X-Argilla-Api-Key": "argilla.apikey"}).status_code == 401


def test_all_of_it_killed_is_repaired(home, start):
    """As after a power cut; a server that is killed alone is in test_supervision.py."""
    start()
    # The worker follows the server that `up` waits for.
    await_(lambda: all(part.pid for part in launcher.status(home).parts), "all parts to run")
    parts = {part.name: part.pid for part in launcher.status(home).parts}
    for name in ("supervisor", "server", "worker", "redis"):
        kill(parts[name])
    assert not launcher.status(home).running
    assert "Run `lingo-hitl up`" in launcher.status(home).problem
    assert start().started_now
    assert launcher.down(home)
    assert launcher.status(home).problems == ()


def test_a_stale_record_never_kills_a_stranger(home, start):
    start()
    launcher.down(home)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for name in ("supervisor", "server", "worker", "redis"):
            record = {"pid": stranger.pid, "started": "1", "boot": "before the reboot", "url": "http://127.0.0.1:1"}
            (home / "run" / f"{name}.json").write_text(json.dumps(record))
        (home / "run" / "redis.sock").write_text("left over")
        assert not launcher.status(home).running
        assert not launcher.down(home)
        assert start().started_now
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_taken_port_is_named(home, start):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(LauncherError, match=str(taken)):
            start(port=taken)
        assert not launcher.status(home).running
    first = start()
    with pytest.raises(LauncherError, match="already runs at"):
        start(port=taken)
    launcher.down(home)
    assert launcher.up(home, say=lambda line: None).url == first.url, "the port it had before"


def test_a_home_in_use_by_another_start(home):
    messages = []
    entered = threading.Event()

    def first():
        launcher.up(home, say=lambda line: entered.set())

    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(60)
    with pytest.raises(LauncherError, match="in use") as caught:
        launcher.up(home, say=messages.append)
    assert str(os.getpid()) in str(caught.value)
    thread.join()
    assert launcher.status(home).running


def test_a_deep_home_gets_its_socket_elsewhere(home):
    deep = home / ("d" * 60) / ("e" * 60)
    launcher.up(deep, say=lambda line: None)
    sockets = json.loads((deep / "run" / "redis.json").read_text())["socket"]
    assert len(sockets) < 100
    assert launcher.down(deep)
    assert not Path(sockets).parent.exists()
    launcher.remove(deep)
    assert not deep.exists()


def test_a_database_of_a_newer_version_is_left_alone(home, start):
    start()
    launcher.down(home)
    with closing(sqlite3.connect(home / "argilla.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'fffffffffff0'")
    with pytest.raises(LauncherError, match="newer Argilla") as caught:
        start()
    assert "\n" not in str(caught.value)
    assert not launcher.status(home).running
    with pytest.raises(LauncherError, match="damaged"):
        (home / "argilla.db").write_bytes(b"not a database" * 100)
        start()


def test_credentials_that_were_deleted_are_made_anew(home, start):
    start()
    before = launcher.credentials(home).accounts["owner"]
    launcher.down(home)
    (home / "credentials.json").unlink()
    with pytest.raises(LauncherError, match="lingo-hitl up"):
        launcher.credentials(home)
    start()
    after = launcher.credentials(home).accounts["owner"]
    assert after.api_key == before.api_key
    assert after.password != before.password
    reply = Rest(home).client.post("/api/v1/token", data={"username": "owner", "password": after.password})
    assert reply.status_code == 201


def fill(rest, records):
    dataset = rest.create_dataset("crash", fields={"t": TEXT}, questions={"rating": rating()}, vectors={"v": 8})
    items = [
        {
            "external_id": f"r{n}",
            "fields": {"t": f"공통 낱말 번호{n}끝 item{n}"},
            "vectors": {"v": [1.0, n / records, (n * 7 % records) / records, 0.5, 0, 0, 0, 1.0]},
        }
        for n in range(records)
    ]
    return dataset, items


def test_killed_in_the_middle_of_pushes(home, start):
    """Argilla commits before it indexes: what was committed is found exactly once after the next start.

    Once, through the supervisor; test_reconcile.py kills at fifty points.
    """
    server = start()
    rest = Rest(home)
    dataset, items = fill(rest, 1500)
    answered = rest.upsert(dataset, items[:1])[0]["id"]
    Rest(home, "annotator1").answer(answered, {"rating": 4})

    pushed = []

    def push():
        with contextlib.suppress(httpx.HTTPError):
            while True:
                position = sum(pushed) % 1500
                pushed.append(len(rest.upsert(dataset, items[position : position + 50])))

    thread = threading.Thread(target=push)
    thread.start()
    await_(lambda: sum(pushed) >= 200, "some records to be there")
    kill(server.pid)
    thread.join()
    start()

    listed = {
        item["external_id"] for item in rest("GET", f"/datasets/{dataset}/records", params={"limit": 1000})["items"]
    }
    assert len(listed) > 50
    total = rest("GET", f"/datasets/{dataset}/progress")["total"]
    assert rest.search(dataset, "공통", limit=1)["total"] == total
    found = set()
    for offset in range(0, total, 1000):
        found |= set(rest.found(dataset, "공통", offset=offset, limit=1000))
    assert len(found) == total
    assert listed <= found
    for name in sorted(listed)[:20]:
        assert rest.found(dataset, f"item{name[1:]}") == [name]
    assert len(rest.found(dataset, vector={"name": "v", "value": [1.0] * 8})) == min(total, 1000)
    mine = Rest(home, "annotator1")("GET", f"/me/datasets/{dataset}/metrics")["responses"]
    assert mine["submitted"] == 1
    # Pushing all of it again completes the dataset and doubles nothing.
    for position in range(0, 1500, 500):
        rest.upsert(dataset, items[position : position + 500])
    assert rest.search(dataset, "공통", limit=1)["total"] == 1500


def test_the_index_is_compared_with_the_tables_at_each_start(home, start):
    """Every way in which the two can differ: what is missing, stale, or left over."""
    start()
    rest = Rest(home)
    dataset, items = fill(rest, 40)
    records = rest.upsert(dataset, items)
    vector = {"name": "v", "record_id": records[3]["id"]}
    similar = rest.found(dataset, vector=vector)
    scores = [item["query_score"] for item in rest.search(dataset, vector=vector)["items"]]
    launcher.down(home)

    start()
    assert rest.found(dataset, vector=vector) == similar, "a restart changes nothing"
    assert [item["query_score"] for item in rest.search(dataset, vector=vector)["items"]] == scores
    launcher.down(home)

    with closing(sqlite3.connect(home / "argilla.db")) as database, database:
        database.execute("DELETE FROM records WHERE external_id = 'r0'")
        database.execute(
            "UPDATE records SET fields = ?, updated_at = '2099-01-01 00:00:00.000000' WHERE external_id = 'r1'",
            (json.dumps({"t": "고쳐진 공통"}),),
        )
        database.execute(
            "UPDATE vectors SET value = ?, updated_at = '2099-01-01 00:00:00.000000' WHERE record_id ="
            " (SELECT id FROM records WHERE external_id = 'r2')",
            (json.dumps([-1.0] * 8),),
        )
    with closing(sqlite3.connect(home / "index.db")) as index, index:
        third = records[3]["id"].replace("-", "")
        index.execute("DELETE FROM documents WHERE record_id = ?", (third,))
        index.execute("DELETE FROM vectors WHERE record_id = ?", (third,))
    start()
    assert rest.found(dataset, "번호0끝") == []
    assert rest.found(dataset, "고쳐진") == ["r1"]
    assert rest.found(dataset, "번호3끝") == ["r3"]
    assert len(rest.found(dataset, "공통")) == 39
    assert rest.found(dataset, vector={"name": "v", "value": [1.0] * 8})[-1] == "r2"
    assert set(rest.found(dataset, vector=vector)) == {f"r{n}" for n in range(40)} - {"r0", "r3"}


def test_a_lost_or_damaged_index_is_built_anew(home, start):
    start()
    rest = Rest(home)
    dataset, items = fill(rest, 40)
    records = rest.upsert(dataset, items)
    vector = {"name": "v", "record_id": records[3]["id"]}
    similar = rest.found(dataset, vector=vector)
    index = home / "index.db"
    for damage in ("missing", "garbage", "holes"):
        launcher.down(home)
        if damage == "missing":
            index.unlink()
        elif damage == "garbage":
            index.write_bytes(b"garbage" * 1000)
            assert launcher.status(home).index.state == "damaged"
        else:
            content = bytearray(index.read_bytes())
            content[8192:40960] = bytes(len(content[8192:40960]))
            index.write_bytes(content)
        start()
        assert len(rest.found(dataset, "공통")) == 40
        assert rest.found(dataset, "번호7끝") == ["r7"]
        assert rest.found(dataset, vector=vector) == similar
        assert launcher.status(home).index.state == "whole"
