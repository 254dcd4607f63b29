"""Whatever is killed, deleted or damaged: after the next start the search index equals Argilla's tables."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from uuid import UUID

import httpx
import numpy as np
import pytest

from argilla_setup import environment, launcher, redis_process
from argilla_setup.home import Home
from argilla_setup.search.side_index import searchable_text, table_of, unit_vector
from argilla_setup.search.text_tokens import index_tokens, joined_tokens
from tests.argilla_setup.rest import CHAT, TEXT, Rest, rating
from tests.conftest import free_port

pytestmark = pytest.mark.server

KILLS = 50
ROWS = 120
DIMENSIONS = 16


class Killable:
    """A server of the real application that starts in a fraction of a second, again and again; see fork_server."""

    def __init__(self, home, port, redis):
        self.home = home
        self.log = home / "logs" / "fork.log"
        command = [environment.python_of(environment.location()), Path(__file__).with_name("fork_server.py")]
        variables = {name: value for name, value in os.environ.items() if not name.startswith("ARGILLA_")}
        variables["PYTHONPATH"] = str(home / "run" / "code")
        with self.log.open("a") as log:
            self.parent = subprocess.Popen(
                [str(part) for part in (*command, home, port, redis)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=variables,
                text=True,
            )
        assert self.parent.stdout.readline() == "ready\n", self.log.read_text()
        self.pid = None

    def start(self):
        """Start a server and return a client of its owner once it answers."""
        self.pid = self.fork("serve")
        owner = Rest(self.home)
        for _ in range(600):
            with contextlib.suppress(httpx.HTTPError, AssertionError):
                owner("GET", "/me")
                return owner
            assert is_running(self.pid), self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(f"no answer within a minute: {self.log.read_text()}")

    def fork(self, line):
        self.parent.stdin.write(line + "\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def kill(self, pid=None):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or self.pid, signal.SIGKILL)
        until(lambda: not is_running(pid or self.pid))

    def close(self):
        if self.pid:
            self.kill()
        self.parent.stdin.close()
        self.parent.wait(timeout=30)
        self.parent.stdout.close()


def is_running(pid):
    return Path(f"/proc/{pid}/exe").exists()


def until(done, seconds=60):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "this did not come about"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def killable():
    """One Argilla for the module, whose server each test kills and starts as it likes."""
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    home = folder / "home"
    server = launcher.up(home, port=free_port(), say=lambda line: None)
    launcher.down(home)
    place = Home(home)
    address = redis_process.choose_socket(place)
    redis = redis_process.start(place, environment.location(), address)
    killable = Killable(home, int(server.url.rpartition(":")[2]), f"unix://{address}?db=0")
    yield killable
    killable.close()
    redis.stop(patience_s=5)
    launcher.remove(home)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(killable):
    return killable.home


@pytest.fixture
def owner(killable):
    """Of a server that was just started and holds no datasets."""
    owner = killable.start()
    for dataset in owner("GET", "/me/datasets")["items"]:
        owner("DELETE", f"/datasets/{dataset['id']}")
    yield owner
    killable.kill()


def new_dataset(owner):
    return owner.create_dataset(
        "kept", fields={"t": TEXT, "talk": CHAT}, questions={"rating": rating()}, vectors={"v": DIMENSIONS}
    )


def item(number, chance):
    words = [chance.choice(["하늘", "바다", "별은 밝다", "sky", "sea"]) for _ in range(4)]
    half = "첫째" if number < ROWS // 2 else "둘째"
    return {
        "external_id": str(number),
        "fields": {"t": f"공통 {half} {' '.join(words)} {number}", "talk": [{"role": "user", "content": words[0]}]},
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
    """The same within a minute, for what is mended beside serving; searches are answered meanwhile."""
    bare = dataset.replace("-", "")
    for _ in range(300):
        owner.search(dataset, "공통", limit=1)
        with contextlib.suppress(sqlite3.Error):
            if held(home, bare) == wanted(home, bare):
                break
        time.sleep(0.2)
    assert_in_step(home, owner, dataset)


class Disturbance:
    """Three clients at once that push, delete and answer until the server is gone, and note what it acknowledged.

    One changes the first half of the records; one deletes and adds in the second; one answers in the first.
    """

    def __init__(self, home, dataset):
        self.home = home
        self.dataset = dataset
        self.texts = {}
        """By external id: the text that was acknowledged, None where the deletion was."""
        self.answers = {}
        """By record id: the rating that was acknowledged."""
        self.under_way = {}
        """What a request without a reply may have made of them."""
        self.counts = Counter()

    def run(self, seed):
        self.under_way = {}
        works = (self._push, self._delete_and_add, self._answer)
        self._threads = [
            threading.Thread(target=self._until_gone, args=(work, f"{seed}-{work.__name__}")) for work in works
        ]
        for thread in self._threads:
            thread.start()

    def wait_for_replies(self, total):
        until(lambda: self.counts.total() >= total)

    def join(self):
        for thread in self._threads:
            thread.join()

    def fill(self, owner, chance):
        self._upsert(owner, range(ROWS), chance)

    def _until_gone(self, work, seed):
        with contextlib.suppress(httpx.TransportError):
            work(random.Random(seed))

    def _push(self, chance):
        owner = Rest(self.home)
        while True:
            self._upsert(owner, chance.sample(range(ROWS // 2), 30), chance)

    def _delete_and_add(self, chance):
        owner = Rest(self.home)
        while True:
            numbers = chance.sample(range(ROWS // 2, ROWS), 10)
            found = self._records(owner, numbers)
            if len(found) < 5:
                self._upsert(owner, numbers, chance)
                continue
            self.under_way |= dict.fromkeys(found)
            owner("DELETE", f"/datasets/{self.dataset}/records", params={"ids": ",".join(found.values())})
            self._acknowledged(self.texts, dict.fromkeys(found), "deletions")

    def _answer(self, chance):
        annotator = Rest(self.home, "annotator1")
        known = {}
        for page in (0, 20):
            listed = annotator.search(self.dataset, "첫째", me=True, include="responses", limit=20, offset=page)
            for item in listed["items"]:
                known[item["record"]["id"]] = [answer["id"] for answer in item["record"]["responses"]]
        for record_id, answers in chance.sample(sorted(known.items()), len(known)):
            rating = chance.randint(1, 5)
            body = {"values": {"rating": {"value": rating}}, "status": "submitted"}
            self.under_way[record_id] = rating
            if answers:
                annotator("PUT", f"/responses/{answers[0]}", json=body)
            else:
                annotator("POST", f"/records/{record_id}/responses", json=body)
            self._acknowledged(self.answers, {record_id: rating}, "answers")

    def _upsert(self, owner, numbers, chance):
        items = [item(number, chance) for number in numbers]
        sent = {one["external_id"]: one["fields"]["t"] for one in items}
        self.under_way |= sent
        owner.upsert(self.dataset, items)
        self._acknowledged(self.texts, sent, "upserts")

    def _records(self, owner, numbers):
        wanted = {"entity": "record", "property": "external_id"}
        filters = [{"type": "terms", "scope": wanted, "values": [str(number) for number in numbers]}]
        listed = owner.search(self.dataset, filters=filters)["items"]
        return {found["record"]["external_id"]: found["record"]["id"] for found in listed}

    def _acknowledged(self, kept, new, what):
        kept |= new
        for key in new:
            self.under_way.pop(key, None)
        self.counts[what] += 1

    def assert_kept(self):
        """Whatever the server acknowledged is there; what it did not reply to is either there or not."""
        bare = self.dataset.replace("-", "")
        database = self.home / "argilla.db"
        rows = read(database, "SELECT external_id, fields FROM records WHERE dataset_id = ?", bare)
        self._assert_same(self.texts, {name: json.loads(fields)["t"] for name, fields in rows})
        rows = read(database, 'SELECT record_id, responses."values" FROM responses')
        found = {str(UUID(record)): json.loads(values)["rating"]["value"] for record, values in rows}
        self._assert_same(self.answers, found)

    def _assert_same(self, kept, found):
        for key in kept.keys() | found.keys():
            value = found.get(key)
            possible = [kept.get(key), *([self.under_way[key]] if key in self.under_way else [])]
            assert value in possible, f"{key} is {value!r}, expected {possible}"
            kept[key] = value


def test_fifty_kills_leave_the_index_in_step_and_lose_nothing(home, killable, owner):
    seed = int(os.environ.get("LINGO_HITL_SEED", "20"))
    print(f"LINGO_HITL_SEED={seed}")
    chance = random.Random(seed)
    dataset = new_dataset(owner)
    disturbance = Disturbance(home, dataset)
    disturbance.fill(owner, chance)
    for kill in range(KILLS):
        wanted = disturbance.counts.total() + chance.randint(0, 9)
        disturbance.run(f"{seed}-{kill}")
        # After so many replies, however fast the machine is, and then anywhere in the next request.
        disturbance.wait_for_replies(wanted)
        time.sleep(chance.uniform(0, 0.06))
        killable.kill()
        disturbance.join()
        disturbance.assert_kept()
        owner = killable.start()
        assert_in_step(home, owner, dataset)
    print(dict(disturbance.counts))
    assert min(disturbance.counts[what] for what in ("upserts", "deletions", "answers")) > KILLS / 10
    log = "".join(file.read_text() for file in (home / "logs").glob("server.log*"))
    assert "records to index" in log, "at least one kill must have hit between Argilla's commit and ours"


def test_a_killed_worker_leaves_the_index_in_step(home, killable, owner):
    dataset = new_dataset(owner)
    chance = random.Random(6)
    annotator = Rest(home, "annotator1")
    for record in owner.upsert(dataset, [item(number, chance) for number in range(40)]):
        annotator.answer(record["id"], {"rating": 3})

    def completed():
        count = "SELECT count(*) FROM records WHERE status = 'completed' AND dataset_id = ?"
        return read(home / "argilla.db", count, dataset.replace("-", ""))[0][0]

    assert completed() == 40
    # As after the number of answers that a record needs was lowered: Argilla leaves that to its worker.
    with contextlib.closing(sqlite3.connect(home / "argilla.db", timeout=30)) as connection, connection:
        connection.execute("UPDATE records SET status = 'pending'")
    worker = killable.fork(f"statuses {dataset}")
    until(lambda: completed() or not is_running(worker))
    killable.kill(worker)
    assert completed(), "it was killed after it began"
    pending = {"entity": "record", "property": "status"}
    filters = [{"type": "terms", "scope": pending, "values": ["completed"]}]
    assert owner.search(dataset, "공통", filters=filters, limit=1)["total"] == completed()
    until_in_step(home, owner, dataset)
    worker = killable.fork(f"statuses {dataset}")
    until(lambda: not is_running(worker))
    assert owner.search(dataset, filters=filters, limit=1)["total"] == completed() == 40
    assert_in_step(home, owner, dataset)


@pytest.mark.parametrize("fault", ["missing", "garbage", "torn", "older format"])
def test_a_side_file_that_cannot_be_used_is_built_anew(home, killable, owner, fault):
    dataset = new_dataset(owner)
    chance = random.Random(1)
    for start in (0, 500):
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


def test_a_failed_write_is_mended_while_serving_and_costs_the_user_nothing(home, killable, owner):
    dataset = new_dataset(owner)
    chance = random.Random(2)
    owner.upsert(dataset, [item(number, chance) for number in range(20)])
    with contextlib.closing(sqlite3.connect(home / "index.db", timeout=30)) as connection:
        connection.execute("DROP TABLE documents")
    owner.upsert(dataset, [item(number, chance) for number in range(15, 40)])
    until_in_step(home, owner, dataset)
    assert len(owner.found(dataset, "공통")) == 40


def test_a_deleted_side_file_is_replaced_at_the_next_failure_or_start(home, killable, owner):
    dataset = new_dataset(owner)
    chance = random.Random(3)
    owner.upsert(dataset, [item(number, chance) for number in range(20)])
    for file in home.glob("index.db*"):
        file.unlink()
    owner.upsert(dataset, [item(number, chance) for number in range(20, 30)])
    killable.kill()
    assert_in_step(home, killable.start(), dataset)


def test_an_older_database_put_back_beside_a_newer_index(home, killable, owner):
    dataset = new_dataset(owner)
    chance = random.Random(7)
    owner.upsert(dataset, [item(number, chance) for number in range(20)])
    killable.kill()
    kept = home / "kept.db"
    with contextlib.closing(sqlite3.connect(home / "argilla.db")) as source:
        source.execute("VACUUM INTO ?", (str(kept),))
    killable.start()
    Rest(home).upsert(dataset, [item(number, chance) for number in range(10, 30)])
    killable.kill()
    for file in home.glob("argilla.db-*"):
        file.unlink()
    kept.replace(home / "argilla.db")
    owner = killable.start()
    assert_in_step(home, owner, dataset)
    assert len(owner.found(dataset, "공통")) == 20


def test_the_random_order_survives_vacuum_and_a_new_index(home, killable, owner):
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


def test_the_progress_of_indexing_can_be_read(home, killable, owner):
    dataset = new_dataset(owner)
    owner.upsert(dataset, [item(number, random.Random(5)) for number in range(20)])
    assert read(home / "index.db", "SELECT remaining FROM progress") == [(0,)]
    assert launcher.status(home).index_bytes > 0
