"""Flows on Ray: a real distilabel Pipeline with two workers for each model gives what this process gives."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import BudgetConfig, LLMSpec, Quota
from lingo_hitl.models.flow import Plain, load, run_flow
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.ray_desk import Desk, DistantJournal
from lingo_hitl.models.ray_pipeline import jobs_of
from lingo_hitl.models.session import Session, SessionPlan
from tests.command_line import lingo_here
from tests.models.ray_steps import Ask, Die, longer
from tests.providers import openai_error, running

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra [ray] is not installed")


@pytest.fixture(scope="module")
def served():
    """A provider, and a cluster whose workers have a key for it; its start is most of what a run costs."""
    import ray

    with running() as provider, pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_KEY", "sk-ray")
        ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield provider
        ray.shutdown()


def spec(provider, name: str) -> LLMSpec:
    return LLMSpec(**provider.spec(name, api_key_env=["RAY_KEY"]))


def nobody_is_left() -> bool:
    from ray.util import list_named_actors

    return not list_named_actors()


@needs_ray
@pytest.mark.model
def test_two_workers_give_what_one_process_gives(served, tmp_path):
    flow = load >> [Ask(spec(served, "a")), Ask(spec(served, "b"))] >> Plain(longer)
    rows = [{"n": n, "q": f"질문 {n}?", "from": Path("x")} for n in range(30)]
    with Journal(tmp_path / "journal.sqlite") as journal:
        session = Session(journal)
        found = list(run_flow(flow, iter(rows), session, what="t", total=len(rows), engine="ray", workers=2))
        workers = {model: {pid for row in found for pid in row.pop(f"{model} asked by")} for model in "ab"}
        assert all(len(pids) == 2 for pids in workers.values()) and not workers["a"] & workers["b"]
        assert len(journal) == len(served.prompts) == 60
        assert session.tally.models()["openai/a"]["calls"] == 30
        here = list(run_flow(flow, iter(rows), session, what="t", total=len(rows)))
        assert len(served.prompts) == 60
    for row in here:
        del row["a asked by"], row["b asked by"]
    assert found == here


@needs_ray
@pytest.mark.model
def test_a_worker_s_error_is_one_line_and_exit_code_2(served, tmp_path):
    (tmp_path / "seeds.jsonl").write_text('{"instruction": "별은 어떻게 태어나?", "output": "성운에서 태어난다."}\n')
    llm = served.spec("writer", api_key_env="RAY_KEY")
    config = {
        "project": "far",
        "corpus": [{"path": "seeds.jsonl"}],
        "generate": {"dialogue": {"user": llm, "assistant": llm}, "engine": "ray", "workers": 1},
    }
    (tmp_path / "far.yaml").write_text(json.dumps(config))
    served.bad_keys["sk-ray"] = openai_error(401, "sk-ray is not good", "invalid_request_error")
    try:
        done = lingo_here("generate", "far.yaml", folder=tmp_path)
    finally:
        served.bad_keys.clear()
    assert done.returncode == 2
    assert "no API key is left" in done.stderr
    assert "Traceback" not in done.stderr and "sk-ray" not in done.stderr


@needs_ray
@pytest.mark.model
def test_a_worker_that_dies_ends_the_run_and_nobody_is_left(served, tmp_path):
    rows = ({"n": n} for n in range(20))
    with Journal(tmp_path / "journal.sqlite") as journal:
        run = run_flow(Die(spec(served, "a"), n=12), rows, Session(journal), what="t", total=20, engine="ray")
        with pytest.raises(UserError, match="a worker process died"):
            list(run)
    assert_soon(nobody_is_left)


@needs_ray
@pytest.mark.model
def test_a_worker_counts_its_share_of_all_requests_and_its_own_that_the_desk_does_not_know_yet(served, tmp_path):
    import ray

    plan = SessionPlan(tmp_path / "j.sqlite", {}, BudgetConfig(), False, None)
    desk = ray.remote(Desk).remote(plan)
    one, other = (DistantJournal(desk, plan.journal, share=2) for _ in range(2))
    for _ in range(6):
        other.count_request("KEY", "m", 7)
    other.put([])
    one.count_request("KEY", "m", 7)
    one.count_request("KEY", "m", 8)
    assert one.requests_since("KEY", "m", since=7) == {7: 3 + 1, 8: 1}
    ray.kill(desk)


def test_the_workers_that_use_a_key_share_its_quota(tmp_path):
    quota = Quota(requests_per_minute=60, tokens_per_minute=1000, requests_per_day=100)
    session = Session(Journal(tmp_path / "j"), quotas={"KEY": quota})
    a, b = LLMSpec(model="gemini/a"), LLMSpec(model="gemini/b")
    [[one, two], [three], [plain]] = jobs_of([(Ask(a), Ask(b)), (Ask(a),), (Plain(longer),)], session, workers=3)
    assert [job.plan.quotas["KEY"].requests_per_minute for job in (one, two, three)] == [10, 20, 10]
    assert one.plan.quotas["KEY"].tokens_per_minute * 6 <= 1000
    assert one.plan.quotas["KEY"].requests_per_day == 16
    assert plain.plan.quotas["KEY"] == quota
    session.journal.close()


def test_no_workers_and_a_distant_command_are_refused(monkeypatch):
    session = Session.in_memory()
    with pytest.raises(UserError, match="workers is 0"):
        run_flow(Plain(longer), [], session, what="t", total=0, engine="ray", workers=0)
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    with pytest.raises(UserError, match="the journal must lie on a machine of the cluster"):
        run_flow(Plain(longer), [], session, what="t", total=0, engine="ray")


def assert_soon(reached) -> None:
    import time

    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)
