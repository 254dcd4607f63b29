"""What a journal is told of, shares and loses."""

import sqlite3
from datetime import timedelta

import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.journal import Entry, Journal
from lingo_hitl.models.session import Session
from lingo_hitl.models.upkeep import Unwanted, export, merge, prune, stats
from tests.providers import running

SAID = Completion("별은 뜨겁다", input_tokens=10, output_tokens=5, seconds=2.0, cost=0.25)
BLOCKED = Completion(None, "prompt blocked: SAFETY", input_tokens=10, seconds=1.0, cost=0.05)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as opened:
        opened.put([Entry(b"a", "gemini/x", SAID, "USD"), Entry(b"b", "gemini/x", BLOCKED, "USD")])
        opened.put([Entry(b"c", "openai/y", Completion("no price", output_tokens=7), "USD")])
        yield opened


def test_stats_tell_completions_tokens_cost_and_reasons_by_model(journal):
    found = stats(journal)
    gemini, openai = found.models
    assert (gemini.model, gemini.completions, gemini.without_text) == ("gemini/x", 2, 1)
    assert (gemini.input_tokens, gemini.output_tokens) == (20, 5)
    assert gemini.cost == pytest.approx(0.30) and gemini.mean_seconds == 1.5
    assert gemini.reasons == {"prompt blocked: SAFETY": 1}
    assert openai.cost is None
    assert found.spent == {"USD": pytest.approx(0.30)}
    assert found.unused is None


def test_what_is_exported_and_merged_is_replayed_and_not_paid_for_again(journal, tmp_path):
    file = tmp_path / "for-others.sqlite"
    assert export(journal, file, models="gemini/*") == 2
    with Journal(tmp_path / "theirs" / "journal.sqlite") as theirs:
        theirs.put([Entry(b"a", "gemini/x", Completion("their own"), "USD")])
        assert merge(theirs, file) == (1, 2)
        assert merge(theirs, file) == (0, 2)
        assert theirs.get(b"a").text == "their own"
        assert theirs.get(b"b") == BLOCKED
        assert theirs.spent() == {}
    assert sorted(path.name for path in tmp_path.glob("for-others*")) == ["for-others.sqlite"]


def test_an_export_tells_of_no_key_run_or_payment(journal, tmp_path):
    journal.begin("generate")
    journal.count_request("MY_SECRET_NAME", "gemini/x", 1)
    journal.finish()
    export(journal, tmp_path / "e.sqlite")
    db = sqlite3.connect(tmp_path / "e.sqlite")
    for table in ("requests", "runs", "uses", "spending"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    db.close()
    assert b"MY_SECRET_NAME" not in (tmp_path / "e.sqlite").read_bytes()


def test_what_cannot_be_merged_is_one_line_and_changes_nothing(journal, tmp_path):
    with pytest.raises(UserError, match="is not there"):
        merge(journal, tmp_path / "none.sqlite")
    with pytest.raises(UserError, match="is this journal itself"):
        merge(journal, journal.path)
    with Journal(tmp_path / "new.sqlite") as newer:
        newer._db.execute("PRAGMA user_version=99")
    with pytest.raises(UserError, match="another lingo-hitl"):
        merge(journal, tmp_path / "new.sqlite")
    sqlite3.connect(tmp_path / "other.sqlite").executescript("CREATE TABLE labels (id); PRAGMA user_version=3")
    with pytest.raises(UserError, match=r"other\.sqlite: is no journal of lingo-hitl"):
        merge(journal, tmp_path / "other.sqlite")
    with pytest.raises(UserError, match="is there already"):
        export(journal, journal.path)
    assert len(journal) == 3


@pytest.mark.parametrize(
    ("unwanted", "stay"),
    [
        (Unwanted(failures=True), [b"a", b"c"]),
        (Unwanted(models="gemini/*"), [b"c"]),
        (Unwanted(models="gemini/*", failures=True), [b"a", b"c"]),
        (Unwanted(older_than=timedelta(days=1)), [b"a", b"b", b"c"]),
        (Unwanted(older_than=timedelta(0)), []),
    ],
)
def test_pruning_removes_what_meets_every_condition_and_forgets_no_cost(journal, unwanted, stay):
    removed, _ = prune(journal, unwanted)
    assert [key for key in (b"a", b"b", b"c") if journal.get(key)] == stay
    assert removed == 3 - len(stay)
    assert journal.spent() == {"USD": pytest.approx(0.30)}


def test_pruning_needs_a_condition_and_unused_a_finished_run(journal):
    with pytest.raises(UserError, match="nothing says which"):
        prune(journal, Unwanted())
    journal.begin("generate")
    with pytest.raises(UserError, match="no run has finished"):
        prune(journal, Unwanted(unused=True))
    assert len(journal) == 3


def test_a_pruned_file_is_smaller(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([Entry(str(i).encode(), "m", Completion("긴 글 " * 200)) for i in range(500)])
        removed, freed = prune(journal, Unwanted(models="m"))
    assert removed == 500 and freed > 500_000


def run_stage(path, stage, url, prompts, *, finishes=True, offline=False):
    with Journal(path) as journal:
        journal.begin(stage)
        llm = Session(journal, offline=offline).llm(LLMSpec(model="openai/m", base_url=f"{url}/v1"))
        texts = [c.text for [c] in llm.complete([[{"role": "user", "content": p}] for p in prompts])]
        if finishes:
            journal.finish()
        return texts


def test_unused_is_what_no_stage_s_last_finished_run_used_and_none_since(tmp_path):
    path = tmp_path / "j.sqlite"
    with running() as provider:
        provider.reply_to = lambda prompt: None
        run_stage(path, "generate", provider.url, ["old", "both"])
        run_stage(path, "judge", provider.url, ["rate"])
        run_stage(path, "generate", provider.url, ["both", "new"])
        run_stage(path, "generate", provider.url, ["interrupted"], finishes=False)
        with Journal(path) as journal:
            assert stats(journal).unused == 1
            assert prune(journal, Unwanted(unused=True))[0] == 1
        asked = len(provider.prompts)
        run_stage(path, "generate", provider.url, ["both", "new", "interrupted"], offline=True)
        run_stage(path, "judge", provider.url, ["rate"], offline=True)
        assert len(provider.prompts) == asked
        with pytest.raises(UserError, match=r"lacks a completion that this run needs.*--offline"):
            run_stage(path, "generate", provider.url, ["old"], offline=True)


def test_a_run_that_was_interrupted_takes_nothing_from_the_one_that_finished(tmp_path):
    path = tmp_path / "j.sqlite"
    with running() as provider:
        provider.reply_to = lambda prompt: None
        run_stage(path, "generate", provider.url, ["old"])
        run_stage(path, "generate", provider.url, ["a", "b"])
        run_stage(path, "generate", provider.url, ["a", "c"], finishes=False)
        run_stage(path, "judge", provider.url, ["rated"], finishes=False)
        with Journal(path) as journal:
            assert prune(journal, Unwanted(unused=True))[0] == 1
        asked = len(provider.prompts)
        run_stage(path, "generate", provider.url, ["a", "b", "c", "rated"], offline=True)
        assert len(provider.prompts) == asked


def as_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_that_is_only_looked_at_stays_as_it_is(tmp_path):
    theirs = tmp_path / "theirs"
    with Journal(theirs / "journal.sqlite") as journal:
        journal.put([Entry(b"a", "gemini/x", SAID, "USD")])
    before = as_bytes(theirs)
    with Journal(theirs / "journal.sqlite", read_only=True) as journal:
        assert stats(journal).models[0].completions == 1
    with Journal(tmp_path / "mine.sqlite") as mine:
        assert merge(mine, theirs / "journal.sqlite") == (1, 1)
    assert as_bytes(theirs) == before


def test_a_journal_is_merged_while_its_owner_works_with_it(journal, tmp_path):
    with Journal(tmp_path / "mine.sqlite") as mine:
        assert merge(mine, journal.path) == (3, 3)
