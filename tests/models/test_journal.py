import pickle
import sqlite3
import threading
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.models.completion import Completion, completion_key
from lingo_hitl.models.journal import Entry, Journal

HELLO = [{"role": "user", "content": "안녕"}]


def test_a_completion_comes_back_whole_after_reopening(tmp_path):
    said = Completion("별은 뜨겁다", "length", "cut", 12, 5, 0.25)
    with Journal(tmp_path / "new" / "journal.sqlite") as journal:
        journal.put([Entry(b"k", "gemini/x", said)])
    with Journal(tmp_path / "new" / "journal.sqlite") as journal:
        assert journal.get(b"k") == said
        assert journal.get(b"other") is None


def test_a_reason_is_kept_and_a_passing_failure_is_not(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([Entry(b"a", "m", Completion(None, "prompt blocked: SAFETY", input_tokens=3))])
        journal.put([Entry(b"b", "m", Completion.failed("503 twice"))])
        assert journal.get(b"a").finish == "prompt blocked: SAFETY"
        assert journal.get(b"b") is None


def test_the_first_completion_of_a_key_stays(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([Entry(b"a", "m", Completion("first"))])
        journal.put([Entry(b"a", "m", Completion("second"))])
        assert journal.get(b"a").text == "first"


conversations = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(max_size=20)}),
    min_size=1,
    max_size=4,
)


@given(conversations, conversations, st.integers(0, 2), st.integers(0, 2))
def test_keys_are_equal_exactly_where_the_questions_are(one, other, sample, other_sample):
    same = (one, sample) == (other, other_sample)
    key = completion_key("m", one, {"temperature": 0.7}, sample)
    assert (key == completion_key("m", other, {"temperature": 0.7}, other_sample)) == same
    assert key != completion_key("m2", one, {"temperature": 0.7}, sample)
    assert key != completion_key("m", one, {"temperature": 0.8}, sample)


def test_lone_surrogates_have_a_key():
    assert len(completion_key("m", [{"role": "user", "content": "\ud800"}], {}, 0)) == 32


def test_many_threads_write_at_once(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:

        def write(worker):
            for i in range(20):
                journal.put([Entry(f"{worker}-{i}".encode(), "m", Completion(str(i)))])
                assert journal.get(f"{worker}-{i}".encode()).text == str(i)

        threads = [threading.Thread(target=write, args=(w,)) for w in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(journal) == 80


def test_two_open_journals_share_one_file(tmp_path):
    with Journal(tmp_path / "j.sqlite") as one, pickle.loads(pickle.dumps(one)) as other:
        one.put([Entry(b"a", "m", Completion("x"))])
        assert other.get(b"a").text == "x"


def test_a_file_that_is_no_journal_is_named_with_the_way_out(tmp_path):
    path = tmp_path / "j.sqlite"
    path.write_bytes(b"not a database, but long enough to be taken for one" * 30)
    with pytest.raises(UserError, match=r"j\.sqlite: is not a whole journal .*Move it away") as raised:
        Journal(path)
    assert "\n" not in str(raised.value)


def test_a_truncated_journal_is_noticed_on_opening(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path) as journal:
        for i in range(200):
            journal.put([Entry(str(i).encode(), "m", Completion("긴 글 " * 200))])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="is not a whole journal"):
        Journal(path)


def test_a_journal_of_another_version_is_left_alone(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path) as journal:
        journal._db.execute("PRAGMA user_version=99")
    with pytest.raises(UserError, match="another lingo-hitl"):
        Journal(path)


def test_a_folder_in_the_way_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        Journal(tmp_path)


@pytest.mark.parametrize("version", [0, 3])
def test_the_database_of_another_program_is_left_as_it_is(tmp_path, version):
    path = tmp_path / "argilla.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.executescript(f"CREATE TABLE records (id); PRAGMA user_version={version}")
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"argilla\.db: is no journal of lingo-hitl"):
        Journal(path)
    assert path.read_bytes() == before and [file.name for file in tmp_path.iterdir()] == ["argilla.db"]


def test_an_empty_file_becomes_a_journal(tmp_path):
    (tmp_path / "j.sqlite").touch()
    with pytest.raises(UserError, match="is no journal"):
        Journal(tmp_path / "j.sqlite", read_only=True)
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([Entry(b"a", "m", Completion("x"))])
    with Journal(tmp_path / "j.sqlite", read_only=True) as journal:
        assert journal.get(b"a").text == "x" and len(journal) == 1


def test_who_counts_and_marks_does_not_wait_for_the_disk(tmp_path):
    """The loop of the models does both, and a write that is under way may take as long as it likes."""
    with Journal(tmp_path / "j.sqlite") as journal, closing(sqlite3.connect(tmp_path / "j.sqlite")) as other:
        journal.begin("generate")
        other.execute("BEGIN IMMEDIATE")
        writing = threading.Thread(target=journal.put, args=([Entry(b"k", "m", Completion("x"))],))
        writing.start()

        def count_and_mark():
            journal.count_request("KEY", "m", 1)
            for place in range(2500):
                journal.mark_used(str(place).encode())

        counting = threading.Thread(target=count_and_mark)
        counting.start()
        counting.join(20)
        waits = counting.is_alive()
        other.rollback()
        writing.join()
        counting.join()
        assert not waits
        journal.finish()
        assert journal.requests_since("KEY", "m", since=0) == {1: 1}
        assert journal.read("SELECT count(*) FROM uses") == [(2501,)]


def test_a_write_that_failed_forgets_no_count_and_no_mark(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.begin("generate")
        journal.count_request("KEY", "m", 1)
        journal.mark_used(b"k")
        journal._db.execute("PRAGMA query_only=1")
        with pytest.raises(UserError, match="cannot be written"):
            journal.put([])
        journal._db.execute("PRAGMA query_only=0")
        journal.finish()
        assert journal.requests_since("KEY", "m", since=0) == {1: 1}
        assert journal.read("SELECT key FROM uses") == [(b"k",)]


def test_a_fault_while_reading_is_one_line(tmp_path):
    journal = Journal(tmp_path / "j.sqlite")
    journal.close()
    for read in (journal.means, journal.spent, journal.__len__, lambda: journal.requests_since("KEY", "m", since=0)):
        with pytest.raises(UserError, match=r"j\.sqlite"):
            read()
