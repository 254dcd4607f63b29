"""Whatever is killed, deleted or damaged: after the next start the search index equals Argilla's tables."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from argilla_setup import environment, launcher
from argilla_setup.side_index import searchable_text, table_of, unit_vector
from argilla_setup.text_tokens import index_tokens, joined_tokens
from tests.argilla_setup.rest import CHAT, TEXT, Rest, rating

pytestmark = pytest.mark.server

KILLS = 50
ROWS = 120
DIMENSIONS = 16


class Killable:
    """A server of the real application that starts in half a second, again and again; see fork_server."""

    def __init__(self, home, port):
        self.home = home
        redis = f"unix://{home}/run/redis.sock?db=0"
        command = [environment.python_of(environment.location()), Path(__file__).with_name("fork_server.py")]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("ARGILLA_")}
        variables["PYTHONPATH"] = str(home / "run" / "code")
        self.parent = subprocess.Popen(
            [str(part) for part in (*command, home, port, redis)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(home / "logs" / "fork.log").open("a"),
            env=variables,
            text=True,
        )
        assert self.parent.stdout.readline() == "ready\n"
        self.pid = None

    def start(self):
        """Start a server and return a client of its owner once it answers."""
        self.parent.stdin.write("start\n")
        self.parent.stdin.flush()
        self.pid = int(self.parent.stdout.readline())
        owner = Rest(self.home)
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError, AssertionError):
                owner("GET", "/me")
                return owner
            time.sleep(0.05)
        raise AssertionError((self.home / "logs" / "start.log").read_text())

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        while Path(f"/proc/{self.pid}").exists():
            time.sleep(0.01)

    def close(self):
        if self.pid:
            self.kill()
        self.parent.stdin.close()
        self.parent.wait(timeout=30)


@pytest.fixture
def killable(home, start):
    server = start()
    os.kill(server.pid, signal.SIGKILL)
    while Path(f"/proc/{server.pid}/exe").exists():
        time.sleep(0.01)
    killable = Killable(home, int(server.url.rpartition(":")[2]))
    yield killable
    killable.close()


def new_dataset(owner):
    return owner.create_dataset(
        "kept", fields={"t": TEXT, "talk": CHAT}, questions={"rating": rating()}, vectors={"v": DIMENSIONS}
    )


def item(number, chance):
    words = [chance.choice(["하늘", "바다", "별은 밝다", "sky", "sea"]) for _ in range(4)]
    return {
        "external_id": str(number),
        "fields": {"t": f"공통 {' '.join(words)} {number}", "talk": [{"role": "user", "content": words[0]}]},
        "vectors": {"v": [chance.uniform(-1, 1) for _ in range(DIMENSIONS)]},
    }


def read(path, statement, *parameters):
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(statement, parameters).fetchall()


def wanted(home, dataset):
    """What the index has to hold, worked out from Argilla's tables: tokens of each record, and unit vectors."""
    database = home / "argilla.db"
    texts = {}
    for record, fields in read(database, "SELECT id, fields FROM records WHERE dataset_id = ?", dataset):
        values = [searchable_text(json.loads(fields).get(name)) for name in ("t", "talk")]
        texts[record] = [form(value).split() for value in values for form in (index_tokens, joined_tokens)]
    rows = read(database, "SELECT record_id, value FROM vectors JOIN records ON records.id = record_id")
    return texts, {record: unit_vector(json.loads(value)).tolist() for record, value in rows}


def held(home, dataset):
    """What the index holds, read from its tables and not through our code."""
    index = home / "index.db"
    table = table_of(dataset)
    records = dict(read(index, "SELECT docid, record_id FROM documents WHERE dataset_id = ?", dataset))
    columns = ["c0", "j0", "c1", "j1"]
    tokens = {record: [[] for _ in columns] for record in records.values()}
    with contextlib.closing(sqlite3.connect(index, timeout=30)) as connection:
        connection.execute(f"CREATE VIRTUAL TABLE temp.placed USING fts5vocab(main, {table}, instance)")
        for term, docid, column, position in connection.execute('SELECT term, doc, col, "offset" FROM placed'):
            # Entries of former states lie there still, under numbers that nothing points to.
            if docid in records and column != "every":
                tokens[records[docid]][columns.index(column)].append((position, term))
    texts = {name: [[term for _, term in sorted(column)] for column in found] for name, found in tokens.items()}
    rows = read(index, "SELECT record_id, value FROM vectors WHERE dataset_id = ?", dataset)
    return texts, {record: np.frombuffer(value, dtype=np.float32).tolist() for record, value in rows}


def assert_in_step(home, owner, dataset):
    bare = dataset.replace("-", "")
    assert held(home, bare) == wanted(home, bare)
    (count,) = read(home / "argilla.db", "SELECT count(*) FROM records")[0]
    assert owner.search(dataset, "공통", limit=1)["total"] == count if count else True


def until_in_step(home, owner, dataset):
    """The same within a minute, for what is mended beside serving."""
    bare = dataset.replace("-", "")
    for _ in range(300):
        with contextlib.suppress(sqlite3.Error):
            if held(home, bare) == wanted(home, bare):
                break
        time.sleep(0.2)
    assert_in_step(home, owner, dataset)


def disturb(home, dataset, seed):
    """Threads that push, delete and answer until the server is gone."""
    chance = random.Random(seed)
    owner, annotator = Rest(home), Rest(home, "annotator1")

    def push():
        while True:
            owner.upsert(dataset, [item(number, chance) for number in chance.sample(range(ROWS), 30)])

    def delete():
        while True:
            page = owner("GET", f"/datasets/{dataset}/records", params={"limit": 200})["items"]
            chosen = chance.sample(page, min(6, len(page)))
            if chosen:
                ids = ",".join(record["id"] for record in chosen)
                owner("DELETE", f"/datasets/{dataset}/records", params={"ids": ids})

    def answer():
        while True:
            for found in annotator.search(dataset, me=True, limit=5)["items"]:
                url = f"/api/v1/records/{found['record']['id']}/responses"
                body = {"values": {"rating": {"value": 3}}, "status": "submitted"}
                # Answered already, or deleted a moment ago: both are as they should be.
                annotator.client.post(url, json=body)

    def until_gone(work):
        with contextlib.suppress(httpx.HTTPError):
            work()

    threads = [threading.Thread(target=until_gone, args=(work,)) for work in (push, delete, answer)]
    for thread in threads:
        thread.start()
    return threads


def test_fifty_kills_leave_the_index_in_step(home, killable):
    chance = random.Random(20)
    owner = killable.start()
    dataset = new_dataset(owner)
    owner.upsert(dataset, [item(number, chance) for number in range(ROWS)])
    for kill in range(KILLS):
        threads = disturb(home, dataset, seed=kill)
        time.sleep(chance.uniform(0.05, 0.6))
        killable.kill()
        for thread in threads:
            thread.join()
        owner = killable.start()
        assert_in_step(home, owner, dataset)
    log = "".join(file.read_text() for file in (home / "logs").glob("server.log*"))
    assert "records to index" in log, "at least one kill must have hit between Argilla's commit and ours"


@pytest.mark.parametrize("fault", ["missing", "garbage", "torn", "older format"])
def test_a_side_file_that_cannot_be_used_is_built_anew(home, killable, fault):
    owner = killable.start()
    dataset = new_dataset(owner)
    chance = random.Random(1)
    for start in range(0, 2000, 500):
        owner.upsert(dataset, [item(number, chance) for number in range(start, start + 500)])
    killable.kill()
    index = home / "index.db"
    for file in home.glob("index.db-*"):
        file.unlink()
    if fault == "missing":
        index.unlink()
    elif fault == "garbage":
        index.write_bytes(b"garbage" * 5000)
    elif fault == "torn":
        with index.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(size // 4 // 4096 * 4096)
            file.write(os.urandom(size // 2))
    else:
        with contextlib.closing(sqlite3.connect(index)) as connection:
            connection.execute("PRAGMA user_version = 1")
    owner = killable.start()
    until_in_step(home, owner, dataset)
    log = (home / "logs" / "server.log").read_text()
    assert "records to index" in log
    assert fault == "missing" or "built anew" in log


def test_a_failed_write_is_mended_while_serving_and_costs_the_user_nothing(home, killable):
    owner = killable.start()
    dataset = new_dataset(owner)
    chance = random.Random(2)
    owner.upsert(dataset, [item(number, chance) for number in range(20)])
    with contextlib.closing(sqlite3.connect(home / "index.db", timeout=30)) as connection:
        connection.execute("DROP TABLE documents")
    owner.upsert(dataset, [item(number, chance) for number in range(15, 40)])
    until_in_step(home, owner, dataset)
    assert len(owner.found(dataset, "공통")) == 40


def test_a_deleted_side_file_is_replaced_at_the_next_failure_or_start(home, killable):
    owner = killable.start()
    dataset = new_dataset(owner)
    chance = random.Random(3)
    owner.upsert(dataset, [item(number, chance) for number in range(20)])
    for file in home.glob("index.db*"):
        file.unlink()
    owner.upsert(dataset, [item(number, chance) for number in range(20, 30)])
    killable.kill()
    assert_in_step(home, killable.start(), dataset)


def test_the_random_order_survives_vacuum_and_a_new_index(home, killable):
    owner = killable.start()
    dataset = new_dataset(owner)
    chance = random.Random(4)
    records = owner.upsert(dataset, [item(number, chance) for number in range(60)])
    ids = ",".join(record["id"] for record in records[:20])
    owner("DELETE", f"/datasets/{dataset}/records", params={"ids": ids})
    annotator = Rest(home, "annotator1")
    order = annotator.found(dataset, me=True)
    assert order != sorted(order, key=int)
    killable.kill()
    for file in home.glob("index.db*"):
        file.unlink()
    with contextlib.closing(sqlite3.connect(home / "argilla.db")) as connection:
        connection.execute("VACUUM")
    killable.start()
    assert Rest(home, "annotator1").found(dataset, me=True) == order


def test_the_progress_of_indexing_can_be_read(home, killable):
    owner = killable.start()
    dataset = new_dataset(owner)
    owner.upsert(dataset, [item(number, random.Random(5)) for number in range(20)])
    assert read(home / "index.db", "SELECT remaining FROM progress") == [(0,)]
    assert launcher.status(home).index_bytes > 0
