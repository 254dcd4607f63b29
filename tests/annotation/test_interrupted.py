"""Argilla is killed in the middle of a push: after `up` and another push all is there, once, and can be found."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from argilla_setup import launcher
from lingo_hitl.annotation.argilla_api import connect
from lingo_hitl.annotation.pull import pull
from lingo_hitl.annotation.push import push
from lingo_hitl.errors import UserError
from lingo_hitl.ledger import Ledger
from tests.annotation.conftest import People, mapped_rows, mapped_table
from tests.conftest import running_home

pytestmark = pytest.mark.server

ROWS = 3000


@pytest.fixture
def home():
    with running_home() as home:
        yield home


def up(home: Path) -> None:
    launcher.up(home, say=lambda line: None)


def test_kill_9_during_a_push_and_a_restart_in_the_middle_of_labelling_lose_nothing(home, project, tmp_path):
    rows = mapped_rows(ROWS, text="한국의 역사를 설명해 주세요")
    path = tmp_path / "ledger.sqlite"

    with Ledger(path) as ledger:
        # After the third batch of twelve, wherever the server is then.
        killer = threading.Thread(target=_kill_when, args=(path, 750, launcher.status(home).pid))
        killer.start()
        with pytest.raises(UserError, match="no Argilla answers there"):
            push(mapped_table(rows), project, connection=connect(project.argilla, home), ledger=ledger)
        killer.join()
        sent = ledger.position()
        assert 750 <= sent < ROWS
    with Ledger(path) as ledger, pytest.raises(UserError, match="lingo-hitl up"):
        push(mapped_table(rows), project, connection=connect(project.argilla, home), ledger=ledger)

    up(home)
    with Ledger(path) as ledger:
        outcome = push(mapped_table(rows), project, connection=connect(project.argilla, home), ledger=ledger)
        states = outcome.rows["state"].to_pylist()
        assert states.count("unchanged") == sent
        assert states.count("created") == ROWS - sent
    people = People(home, project)
    records = people.records()
    assert set(records) == {row["id"] for row in rows}
    assert found(people, records, "한국") == ROWS
    assert found(people, records, f"설명해 {ROWS - 1}") == 1

    people.answer("annotator1", rows[5]["id"], rating=4)
    os.kill(launcher.status(home).pid, signal.SIGKILL)
    up(home)
    people = People(home, project)
    people.answer("annotator2", rows[5]["id"], rating=2)
    with Ledger(path) as ledger:
        [report] = pull(project, connection=people.connection, ledger=ledger).datasets.values()
        assert report.new == 2
        assert {a.person: a.body["values"]["rating"] for a in ledger.answers()} == {"annotator1": 4, "annotator2": 2}


def _kill_when(ledger: Path, pushed: int, pid: int) -> None:
    with Ledger(ledger) as watched:
        while watched.position() < pushed:
            threading.Event().wait(0.005)
    os.kill(pid, signal.SIGKILL)


def found(people: People, records: dict, text: str) -> int:
    dataset = next(iter(records.values()))["dataset_id"]
    query = {"query": {"text": {"q": text}}}
    return people.request("owner", "POST", f"datasets/{dataset}/records/search?limit=1", query)["total"]
