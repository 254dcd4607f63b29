"""A server's data moves: into a snapshot while people label, to another machine, to PostgreSQL and back. All of it."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from argilla_setup import launcher
from argilla_setup.accounts import client as accounts_client
from argilla_setup.backup import proof as snapshot_proof
from argilla_setup.backup.backup import backup
from argilla_setup.backup.restore import restore
from argilla_setup.migration.migrate import migrate
from tests.argilla_setup.postgres import running_postgres
from tests.argilla_setup.refusals import refused
from tests.argilla_setup.rest import CHAT, CUSTOM, TEXT, Rest, labels, rating
from tests.conftest import free_port

pytestmark = pytest.mark.server

ROOT = Path(__file__).parents[2]
RECORDS = 350
"""With 768 numbers each, more than one step of the copy."""
TEAM = "users: {annotator1: {}, annotator2: {}, minji: {display: 김민지}, jiwoo: {display: 이지우, role: admin}}"


@pytest.fixture(scope="module")
def place():
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    yield folder
    for home in folder.glob("home*"):
        launcher.remove(home)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def team(place):
    """The home of a running server with something in every table, and the passwords of its people."""
    home = place / "home"
    launcher.up(home, port=free_port(), say=lambda line: None)
    # As a first start leaves it: somebody's target of a move may be one.
    (place / "fresh").symlink_to(backup(home, place / "fresh-snapshots").path)
    (place / "accounts.yaml").write_text(TEAM, encoding="utf-8")
    passwords = {change.name: change.password for change in accounts_client.apply(home, place / "accounts.yaml")}
    rest = Rest(home)
    span = {"type": "span", "field": "t", "options": [{"value": "곳", "text": "곳"}], "visible_options": None}
    ranking = {"type": "ranking", "options": [{"value": "a", "text": "a"}, {"value": "b", "text": "b"}]}
    dataset = rest.create_dataset(
        "모든 것",
        fields={"t": TEXT, "chat": CHAT, "card": CUSTOM},
        questions={
            "rating": rating(),
            "label": labels("예", "아니오"),
            "labels": labels("가", "나", kind="multi_label_selection"),
            "ranking": ranking,
            "words": {"type": "text", "use_markdown": False},
            "span": span,
        },
        metadata={"source": "terms", "length": "integer", "weight": "float"},
        vectors={"v": 768},
        min_submitted=2,
    )
    rest.create_draft("not published", guidelines="한국어\n<b>지침</b> \\ 'quoted'")
    body = {"url": "http://127.0.0.1:9/hook", "events": ["response.created"], "description": None}
    hook = rest("POST", "/webhooks", json=body)["id"]
    rest("PATCH", f"/webhooks/{hook}", json={"enabled": False})
    questions = rest.questions(dataset)
    records = rest.upsert(dataset, [item(number, questions) for number in range(RECORDS)])
    people = [Rest(home), Rest(home, "annotator1")]
    for number, status in enumerate(("submitted", "draft", "discarded", "submitted")):
        for person in people:
            values = (
                {"rating": number + 1, "label": "예", "words": "말 \u0000 \ud7ff 🙂"[number:]} if number != 2 else {}
            )
            person.answer(records[number]["id"], values, status) if values else person(
                "POST", f"/records/{records[number]['id']}/responses", json={"status": "discarded"}
            )
    return home, dataset, records, passwords


def item(number, questions):
    """A record; the first have what is stored in unusual ways: bare numbers, null, escapes."""
    record = {
        "external_id": f"r{number}",
        "fields": {
            # A blank to fill in, and a word without end: no search is for the one or for a part of the other.
            "t": f"____ {'ab' * 20} 문장 번호{number}끝 “따옴표” \\ \t",
            "chat": [{"role": "user", "content": "안녕?"}] if number % 2 else None,
            "card": {"title": "제목", "n": [1, 1.0, 1e300, None, True]} if number % 3 == 0 else None,
        },
        "metadata": {"source": "web", "length": number, "weight": 1.0} if number % 5 else None,
        "vectors": {"v": [((number * 31 + i * 17) % 1000) / 1000 - 0.5 for i in range(768)]} if number % 10 else {},
    }
    if number < 6:
        record["suggestions"] = [
            {
                "question_id": questions["rating"],
                "value": 5,
                "score": [1.0, 0, 0.1 + 0.2, None][number % 4],
                "agent": "m1",
            },
            {"question_id": questions["label"], "value": "예", "type": "model", "score": 1e-7},
            {"question_id": questions["labels"], "value": ["가", "나"], "score": [1.0, 0.25], "type": "human"},
            {"question_id": questions["words"], "value": "5"},
            {"question_id": questions["ranking"], "value": [{"value": "a", "rank": 1}, {"value": "b", "rank": 1}]},
            {"question_id": questions["span"], "value": [{"label": "곳", "start": 0, "end": 2, "score": 0.5}]},
        ]
    return {key: value for key, value in record.items() if value is not None}


def rows(database):
    """Every row of every table, with the kind that SQLite keeps each value in."""
    with closing(sqlite3.connect(database)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {}
        for name in names:
            columns = sorted(row[1] for row in connection.execute(f"PRAGMA table_info({name})"))
            wanted = ", ".join(f'"{column}", typeof("{column}")' for column in columns)
            found[name] = (columns, sorted(connection.execute(f"SELECT {wanted} FROM {name}").fetchall(), key=repr))
        return found


def test_a_backup_while_people_label_is_of_one_moment_and_is_shown_to_restore(team, place):
    home, dataset, records, _ = team
    annotator, owner = Rest(home, "annotator2"), Rest(home)
    given = []

    def meanwhile(what, done, whole):
        """An answer and a push in the middle of the copy: neither waits for it, neither is in it."""
        if what == "copying the database" and done < whole:
            given.append(annotator.answer(records[10]["id"], {"rating": 5})["id"])
            owner.upsert(dataset, [{"external_id": "late", "fields": {"t": "늦은 글"}}])

    before = rows(home / "argilla.db")
    taken = backup(home, place / "snapshots", tell=meanwhile, verify=True)
    assert given
    counts = {"users": 5, "workspaces": 1, "datasets": 2, "records": RECORDS, "answers": 8, "suggestions": 36}
    assert taken.manifest.counts == {**counts, "vectors": RECORDS - RECORDS // 10}
    assert rows(taken.path / "argilla.db") == before
    assert taken.proof.checked == (
        "2 files",
        "the owner's API key",
        "search in 1 datasets (for a word in 1)",
        f"{len(before)} tables",
    )
    assert json.loads((home / "last-backup.json").read_text())["verified"] is True
    assert launcher.status(home).running

    # A copy that would leave an answer behind is refused, and makes nothing.
    def answered(what, done, whole):
        if what == "copying users":
            annotator.answer(records[11]["id"], {"rating": 5})

    copy = place / "copy.db"
    of_running = f"sqlite:///{home / 'argilla.db'}"
    shown = refused(lambda: migrate(of_running, f"sqlite:///{copy}", tell=answered), "written to meanwhile")
    assert "responses" in shown
    assert not copy.exists()

    with (taken.path / "index.db").open("r+b") as handle:
        handle.seek(9000)
        handle.write(b"x")
    refused(lambda: snapshot_proof.verify(taken.path, home), "index.db is not as it was written")
    assert json.loads((home / "last-backup.json").read_text())["verified"] is False


def test_from_sqlite_to_postgresql_and_back_to_a_server_that_works(team, place):
    home, dataset, records, passwords = team
    old = launcher.credentials(home).accounts
    refused(lambda: migrate(str(home), "sqlite:////tmp/x.db"), "runs", "lingo-hitl down", "--live")
    launcher.down(home)
    taken = backup(home, place / "snapshots")
    here = rows(home / "argilla.db")
    second = restore(taken.path, place / "home2")
    assert rows(second.home / "argilla.db") == here

    with running_postgres() as postgres:
        url = postgres.create_database("argilla")
        (place / "url").write_text(url + "?ssl=prefer\n")
        password = postgres.password
        shown = refused(lambda: migrate(str(second.home), url), "given with its password", "file:PATH")
        assert password not in shown
        wrong = url.replace(password, "wrong-password")
        (place / "wrong").write_text(wrong)
        shown = refused(lambda: migrate(str(second.home), f"file:{place / 'wrong'}"), "password authentication failed")
        assert "wrong-password" not in shown

        # What the target cannot hold stops the copy, names the row, and leaves nothing.
        shutil.copy(second.home / "argilla.db", place / "nul.db")
        with closing(sqlite3.connect(place / "nul.db")) as connection, connection:
            connection.execute("UPDATE suggestions SET agent = 'm' || char(0) WHERE agent IS NOT NULL")
        refused(
            lambda: migrate(f"sqlite:///{place / 'nul.db'}", f"file:{place / 'url'}"), "a row of suggestions, id", "NUL"
        )
        assert postgres.query("SELECT count(*) FROM records", database="argilla") == [["0"]]

        command = [sys.executable, "-m", "lingo_hitl.cli", "migrate-server", "--from", second.home, "--to", "env:TO"]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "TO": url}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert password not in done.stdout + done.stderr
        count = taken.manifest.counts["records"]
        assert re.search(rf"^records +{count} +[0-9a-f]{{16}}", done.stdout, re.M)
        kinds = postgres.query(
            "SELECT column_name, udt_name FROM information_schema.columns WHERE table_name = 'suggestions'",
            database="argilla",
        )
        assert {
            "id": "uuid",
            "value": "json",
            "type": "suggestion_type_enum",
            "updated_at": "timestamp",
        }.items() <= dict(kinds).items()
        refused(lambda: migrate(str(second.home), f"file:{place / 'url'}"), "holds data", f"{count} records")

        third = restore(place / "fresh", place / "home3").home
        tried = migrate(f"file:{place / 'url'}", str(third), dry_run=True)
        assert {table.name: table.rows for table in tried.tables}["records"] == count
        assert launcher.credentials(third).accounts["owner"].password == ""
        (third / "unsent-jobs.jsonl").write_text("of the database that gives way\n")
        back = migrate(f"file:{place / 'url'}", str(third))
        assert back.set_aside == (f"{third / 'unsent-jobs.jsonl'}.before-migration",)
        assert password not in repr(back)
    there = rows(third / "argilla.db")
    assert there.keys() == here.keys()
    for name in here:
        assert there[name] == here[name], name

    # The server there: everybody signs in as before, and finds what they had.
    launcher.up(third, port=free_port(), say=lambda line: None)
    known = launcher.credentials(third)
    assert known.accounts["owner"].password == "", "not known, and left as it is"
    assert known.accounts["owner"].api_key == old["owner"].api_key
    rest = Rest(third)
    for name, secret in {"minji": passwords["minji"], "owner": old["owner"].password}.items():
        form = {"username": name, "password": secret}
        assert httpx.post(f"{known.url}/api/v1/token", data=form, trust_env=False, timeout=60).status_code == 201, name
    assert rest.found(dataset, "번호7끝") == ["r7"]
    assert rest.found(dataset, vector={"name": "v", "record_id": records[3]["id"]}, limit=1)
    launcher.down(third)
    now = rows(third / "argilla.db")
    assert {name: now[name] for name in here} == here, "a start changes nothing"
