"""The ledger keeps everything, in order, and shows when somebody changed it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.ledger import Event, Ledger


def answer(row: str, person: str, rating: int, *, status: str = "submitted") -> Event:
    return Event("answered", "d1", row, person, {"status": status, "values": {"rating": rating}, "response": "r"})


def test_an_edit_appends_and_the_latest_counts(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.append([answer("a", "kim", 3), answer("a", "lee", 4)])
        ledger.append([answer("a", "kim", 5)])
        now = {(e.row, e.person): e.body["values"]["rating"] for e in ledger.answers("d1")}
        assert now == {("a", "kim"): 5, ("a", "lee"): 4}
        assert [event.body["values"]["rating"] for _, event in ledger.history("a")] == [3, 4, 5]


def test_the_latest_word_counts_in_whichever_dataset_it_was_said(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.append([answer("a", "kim", 5)])
        ledger.append([Event("answered", "d2", "a", "kim", {"status": "submitted", "values": {"rating": 1}})])
        assert [e.body["values"]["rating"] for e in ledger.answers()] == [1]
        ledger.append([Event("retracted", "d2", "a", "kim", {"response": "r"})])
        assert ledger.answers() == []


def test_damage_that_shows_later_is_one_line_too(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.append(answer(f"row{n}", "kim", 3) for n in range(2000))
    content = bytearray(path.read_bytes())
    content[8192:] = b"x" * (len(content) - 8192)
    path.write_bytes(content)
    with pytest.raises(UserError, match="do not delete it"), Ledger(path) as ledger:
        ledger.verify()
        ledger.answers()


def test_a_retraction_hides_the_answer_and_keeps_what_was_said(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.append([answer("a", "kim", 3)])
        ledger.append([Event("retracted", "d1", "a", "kim", {"response": "r"})])
        assert ledger.answers() == []
        assert len(ledger.history("a")) == 2
        ledger.append([answer("a", "kim", 4)])
        assert [e.body["values"]["rating"] for e in ledger.answers()] == [4]


def test_nothing_can_be_changed_or_removed(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.append([answer("a", "kim", 3), answer("b", "kim", 4), answer("c", "kim", 5)])
        assert ledger.verify() is None
    db = sqlite3.connect(path)
    for statement in ("UPDATE events SET body = '{}'", "DELETE FROM events"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            db.execute(statement)
    db.executescript("DROP TRIGGER events_are_kept_as_they_are; UPDATE events SET body = '{}' WHERE seq = 2;")
    db.close()
    with Ledger(path) as ledger:
        assert ledger.verify() == 2


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["kim", "lee"]), st.integers(1, 5) | st.none()), max_size=30
    )
)
def test_the_state_is_that_of_a_dictionary(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("ledger") / "l.sqlite"
    expected = {}
    with Ledger(path) as ledger:
        for row, person, rating in steps:
            if rating is None:
                ledger.append([Event("retracted", "d1", row, person, {"response": "r"})])
                expected.pop((row, person), None)
            else:
                ledger.append([answer(row, person, rating)])
                expected[row, person] = rating
        assert {(e.row, e.person): e.body["values"]["rating"] for e in ledger.answers()} == expected
        assert ledger.position() == len(steps)
        assert ledger.verify() is None


KILLED = """
import os, signal, sys
from pathlib import Path
from lingo_hitl.ledger import Event, Ledger
ledger = Ledger(Path(sys.argv[1]))
def events():
    for n in range(1000):
        if n == 500:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Event("answered", "d1", f"row{n}", "kim", {"status": "submitted"})
ledger.append([Event("answered", "d1", "first", "kim", {"status": "submitted"})])
ledger.append(events())
"""


def test_killed_in_the_middle_a_transaction_is_there_or_not(tmp_path):
    path = tmp_path / "l.sqlite"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    with Ledger(path) as ledger:
        assert [event.row for event in ledger.answers()] == ["first"]
        assert ledger.verify() is None


def test_a_file_that_is_no_ledger_is_told_and_left_alone(tmp_path):
    path = tmp_path / "l.sqlite"
    path.write_text("people's answers")
    with pytest.raises(UserError, match="do not delete it"):
        Ledger(path)
    assert path.read_text() == "people's answers"


def test_a_ledger_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    Ledger(path).__exit__()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UserError, match="newer"):
        Ledger(path)
