"""What holds for every provider: samples, replay, distilabel's Tasks."""

import subprocess
import sys
from pathlib import Path

import pytest

from lingo_hitl.config import LLMSpec
from lingo_hitl.errors import UserError
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.loop import submit
from lingo_hitl.models.session import Session

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "AIzaNotForDisk"


@pytest.fixture
def spec(provider, monkeypatch):
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    monkeypatch.setenv("GEMINI_API_ENDPOINT", provider.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return LLMSpec(model="gemini/g", name="writer")


def user(text):
    return [{"role": "user", "content": text}]


def test_further_samples_are_asked_for_once_each(spec, provider):
    session = Session.in_memory()
    model = session.llm(spec)
    model.complete([user("a")], num_generations=2)
    model.complete([user("a")], num_generations=3)
    model.further(3).complete([user("a")])
    model.complete([user("a")], first_sample=3)
    assert len(provider.prompts) == 4
    assert session.tally.models()["gemini/g"]["replayed"] == 3


def test_another_name_replays_and_other_parameters_do_not(spec, provider):
    journal = Journal.in_memory()
    Session(journal).llm(spec).complete([user("a")])
    Session(journal).llm(spec.model_copy(update={"name": "other"})).complete([user("a")])
    assert len(provider.prompts) == 1
    Session(journal).llm(spec.model_copy(update={"temperature": 0.1})).complete([user("a")])
    assert len(provider.prompts) == 2


def test_the_spec_s_system_prompt_gives_way_to_the_conversation_s(spec, provider):
    model = Session.in_memory().llm(spec.model_copy(update={"system_prompt": "짧게"}))
    model.complete([user("a")])
    model.complete([[{"role": "system", "content": "길게"}, *user("a")]])
    said = [body["systemInstruction"]["parts"][0]["text"] for body in provider.bodies]
    assert said == ["짧게", "길게"]


def test_lone_surrogates_in_question_and_answer_do_no_harm(spec, provider, tmp_path):
    provider.reply_to = lambda prompt: (200, {"candidates": [{"content": {"parts": [{"text": "x\ud800y"}]}}]})
    with Journal(tmp_path / "j.sqlite") as journal:
        model = Session(journal).llm(spec)
        model.backoff_s = 0.01
        [[said]] = model.complete([user("\ud800 별")])
        assert provider.prompts[0] == "? 별"
        assert said.text is None or "\ud800" not in said.text
        assert len(journal) <= 1


def test_distilabel_s_tasks_run_as_they_are(spec, provider):
    from distilabel.steps.tasks import EvolQuality, TextGeneration, UltraFeedback

    verdict = "#### Output for Text 1\nRating: 4\nRationale: ok\n\n#### Output for Text 2\nRating: 2\nRationale: poor"
    candidate = {"content": {"parts": [{"text": verdict}]}, "finishReason": "STOP"}
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}}
    provider.reply_to = lambda prompt: (
        (200, blocked) if prompt == "bad" else (200, {"candidates": [candidate]}) if "<text 1>" in prompt else None
    )
    model = Session.in_memory().llm(spec)
    write = TextGeneration(name="write", llm=model, num_generations=2)
    write.load()
    rows = next(write.process([{"instruction": "good"}, {"instruction": "bad"}]))
    assert [row["generation"] for row in rows] == ["answer to good"] * 2 + [None] * 2
    assert {row["model_name"] for row in rows} == {"writer"}
    reasons = [row["distilabel_metadata"]["statistics_write"]["finish_reason"] for row in rows]
    assert reasons == ["stop", "stop", "prompt blocked: SAFETY", "prompt blocked: SAFETY"]
    evolve = EvolQuality(name="evolve", llm=model, num_evolutions=1)
    evolve.load()
    [row] = next(evolve.process([{"instruction": "q", "response": "r"}]))
    assert row["evolved_response"].startswith("answer to")
    judge = UltraFeedback(name="judge", llm=model, aspect="overall-rating")
    judge.load()
    [row] = next(judge.process([{"instruction": "q", "generations": ["r", "s"]}]))
    assert row["ratings"] == [4, 2]


def test_a_distilabel_pipeline_takes_it_and_its_completions_reach_the_journal(spec, provider, tmp_path):
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    with Journal(tmp_path / "j.sqlite") as journal:
        with Pipeline(cache_dir=tmp_path / "cache") as pipeline:
            load = LoadDataFromDicts(data=[{"instruction": "별"}, {"instruction": "달"}])
            load >> TextGeneration(llm=Session(journal).llm(spec))
        made = pipeline.run(use_cache=False)["default"]["train"]
        assert sorted(made["generation"]) == ["answer to 달", "answer to 별"]
        assert len(journal) == 2
    left = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY.encode() not in left


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("gemni/x", r"model 'gemni/x' is not known. Did you mean 'gemini'\?"),
        ("gemini", r"model 'gemini' is not known"),
        ("packaged/smol", r"Packaged models: smollm2-135m"),
        ("transformers/./nowhere", r"no such folder"),
    ],
)
def test_a_model_that_is_not_there_is_one_line(model, line):
    with pytest.raises(UserError, match=line) as raised:
        Session.in_memory().llm(LLMSpec(model=model))
    assert "\n" not in str(raised.value)


def test_only_a_model_of_this_machine_gives_probabilities(spec):
    model = Session.in_memory().llm(spec)
    assert not model.gives_probabilities
    with pytest.raises(UserError, match=r"judge\.method: text"):
        submit(model.achoice_probabilities([user("a")], ["1", "2"])).result()


def test_naming_a_model_imports_nothing_heavy():
    code = (
        "import sys, lingo_hitl.models.llm, lingo_hitl.models.journal; "
        "print([m for m in ('torch', 'distilabel', 'transformers', 'google.generativeai') if m in sys.modules])"
    )
    seen = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert seen.stdout.strip() == "[]"
