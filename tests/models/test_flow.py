"""Flows: rows that go through steps by themselves, many at once, against a loopback provider."""

from __future__ import annotations

import asyncio
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.flow import Plain, Step, load, run_flow
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.session import Session
from lingo_hitl.models.stop import Stopped
from tests.providers import Latency, gemini_text

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Do(Step):
    """An asynchronous function as a step."""

    work: Callable = field(hash=False)

    def start(self, session):
        return self.work


@dataclass(frozen=True)
class Ask(Step):
    """Asks one model the row's question; adds `said`."""

    spec: LLMSpec

    def start(self, session):
        model = session.llm(self.spec)
        model.backoff_s = 0.01

        async def ask(row):
            return {"said": (await model.acomplete(row["q"])).text}

        return ask


def doubled(row):
    return {"doubled": 2 * row["n"]}


def squared(row):
    return {"squared": row["n"] ** 2}


def both(row):
    return {"both": row["doubled"] + row["squared"]}


def run(flow, rows, session=None, **options):
    rows = list(rows)
    return list(run_flow(flow, rows, session or Session.in_memory(), what="test", total=len(rows), **options))


@pytest.fixture
def spec(monkeypatch, provider):
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaFlow")
    monkeypatch.setenv("GEMINI_API_ENDPOINT", provider.url)
    return LLMSpec(model="gemini/g")


@given(st.lists(st.integers(), max_size=30), st.integers(1, 8))
@settings(max_examples=20, deadline=None)
def test_each_row_gets_every_step_s_columns_in_the_order_of_the_rows(numbers, window):
    rows = run(load >> [Plain(doubled), Plain(squared)] >> Plain(both), [{"n": n} for n in numbers], window=window)
    assert [row["n"] for row in rows] == numbers
    assert all(row["both"] == 2 * row["n"] + row["n"] ** 2 for row in rows)


def test_a_list_may_come_first():
    assert run([Plain(doubled), Plain(squared)] >> Plain(both), [{"n": 3}])[0]["both"] == 15


def test_a_straggler_holds_no_other_row_back():
    """The first row ends only once all others have been through both steps."""
    through = set()
    all_others = asyncio.Event()

    async def first(row):
        if row["n"] == 0:
            await asyncio.wait_for(all_others.wait(), 20)
        return {}

    async def second(row):
        through.add(row["n"])
        if through >= set(range(1, 50)):
            all_others.set()
        return {}

    rows = run(load >> Do(first) >> Do(second), ({"n": n} for n in range(50)), window=4)
    assert [row["n"] for row in rows] == list(range(50))


def test_rows_are_taken_only_as_others_finish():
    taken, done = [], []

    def source():
        for n in range(40):
            taken.append(n)
            yield {"n": n}

    async def work(row):
        assert len(taken) - len(done) <= 6  # five under way, and one at the door
        await asyncio.sleep(0)
        done.append(row["n"])
        return {}

    assert len(list(run_flow(Do(work), source(), Session.in_memory(), what="t", total=40, window=5))) == 40


def test_after_an_error_nothing_more_is_asked_and_what_was_under_way_is_kept(provider, spec, tmp_path):
    def script(prompt):
        return (404, {"error": {"code": 404, "status": "NOT_FOUND", "message": "no"}}) if prompt == "q3" else None

    provider.reply_to = script
    with Journal(tmp_path / "j") as journal:
        with pytest.raises(UserError, match="gemini/g: not found"):
            run(load >> Ask(spec), [{"q": f"q{n}"} for n in range(200)], Session(journal))
        asked = len(provider.prompts)
        assert asked < 40
        assert len(journal) == asked - 1  # all but the one that failed came home


def test_rows_that_cannot_be_made_any_more_lose_no_call(provider, spec, tmp_path):
    provider.latency = Latency(0.1, 0.3)

    def source():
        yield from ({"q": f"q{n}"} for n in range(4))
        raise UserError("the file ends here")

    with Journal(tmp_path / "j") as journal:
        with pytest.raises(UserError, match="the file ends here"):
            list(run_flow(Ask(spec), source(), Session(journal), what="t", total=9))
        assert len(journal) == len(provider.prompts) == 4


RUN = """
import sys
from pathlib import Path
from lingo_hitl.llm_config import LLMSpec
from lingo_hitl.models.flow import run_flow
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.session import Session
from tests.models.test_flow import Ask
with Journal(Path(sys.argv[1])) as journal:
    rows = ({"q": f"q{n}"} for n in range(50))
    list(run_flow(Ask(LLMSpec(model="gemini/g")), rows, Session(journal), what="t", total=50))
"""


def test_who_is_impatient_with_ctrl_c_loses_no_reply_either(provider, spec, tmp_path):
    provider.latency = Latency(1.5, 1.5)
    run = subprocess.Popen([sys.executable, "-c", RUN, tmp_path / "j"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert provider.wait_until(lambda it: it.count == 4)
    for _ in range(3):
        run.send_signal(signal.SIGINT)
        time.sleep(0.1)  # each a signal of its own
    _, said = run.communicate(timeout=60)
    assert "replies that are paid for are on their way" in said and "KeyboardInterrupt" in said
    with Journal(tmp_path / "j") as journal:
        assert len(journal) == len(provider.prompts) == 4


def test_an_iterator_that_is_closed_early_asks_no_more(provider, spec, tmp_path):
    with Journal(tmp_path / "j") as journal:
        rows = run_flow(Ask(spec), ({"q": f"q{n}"} for n in range(500)), Session(journal), what="t", total=500)
        assert next(rows)["said"] == "answer to q0"
        rows.close()
        assert len(journal) == len(provider.prompts) < 500


def test_a_session_is_closed_only_when_what_is_under_way_is_on_disk(provider, spec, tmp_path):
    """As where the disk is full: whoever took the rows has failed, and their iterator still stands somewhere."""
    with Journal(tmp_path / "j") as journal:
        with closing(Session(journal)) as session:
            rows = run_flow(Ask(spec), ({"q": f"q{n}"} for n in range(500)), session, what="t", total=500)
            next(rows)
        asked = len(provider.prompts)
        assert len(journal) == asked < 500
        with pytest.raises(Stopped):
            list(rows)
        assert len(provider.prompts) == asked


def test_equal_questions_at_the_same_time_are_one_call(provider, spec):
    provider.reply_to = lambda prompt: gemini_text("eins")
    session = Session.in_memory()
    rows = run(load >> [Ask(spec), Ask(spec.model_copy(update={"name": "other"}))], [{"q": "a"}] * 5, session)
    assert {row["said"] for row in rows} == {"eins"} and len(provider.prompts) == 1
    assert session.tally.models()["gemini/g"]["calls"] == 1


def test_it_runs_inside_a_running_event_loop(provider, spec):
    async def main():
        return run(Ask(spec), [{"q": "a"}])

    assert asyncio.run(main())[0]["said"] == "answer to a"


def test_offline_replays_and_names_what_is_missing(provider, spec, tmp_path):
    with Journal(tmp_path / "j") as journal:
        run(Ask(spec), [{"q": "a"}], Session(journal))
        assert run(Ask(spec), [{"q": "a"}], Session(journal, offline=True))[0]["said"] == "answer to a"
        with pytest.raises(UserError, match="lacks a completion"):
            run(Ask(spec), [{"q": "b"}], Session(journal, offline=True))
    assert provider.prompts == ["a"]


def test_a_session_is_one_again_in_another_place(tmp_path):
    with Journal(tmp_path / "j") as journal:
        session = Session(journal)
        one, two = pickle.loads(pickle.dumps(session)), pickle.loads(pickle.dumps(session))
    assert one is two and one.journal.path == journal.path
    one.journal.close()
