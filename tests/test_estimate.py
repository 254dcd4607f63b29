"""What a dry run says is what the run then takes, and it calls nobody."""

import pytest

from lingo_hitl import generate_cli, pipeline
from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import BudgetConfig, Quota
from lingo_hitl.models.estimate import Plan, estimate
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.upkeep import stats
from lingo_hitl.project_file import load_project
from lingo_hitl.stages import locked
from lingo_hitl.usage_table import print_estimate
from tests.generation.conftest import PERSONAS
from tests.providers import Provider, running, speak

PROJECT = """
project: p
corpus: [{path: sample:ko}]
generate:
  dialogue:
    count: 16
    personas: personas.yaml
    persona: [orbit, clio]
    user: {model: openai/asker, base_url: URL/v1, api_key_env: ESTIMATE_KEY, max_new_tokens: 200}
    assistant: {model: openai/teller, base_url: URL/v1, api_key_env: ESTIMATE_KEY, max_new_tokens: 1000}
    target_turns: 3
judge:
  judges: [{model: openai/judge, base_url: URL/v1, api_key_env: ESTIMATE_KEY, max_new_tokens: 300}]
  by_turn: true
  quality: {catchphrase_overuse: 1, shrinking: 1, copying: 1, speech_level_shift: 1}
quotas:
  ESTIMATE_KEY: {requests_per_minute: 6000}
budget: {max_cost: 100, prices: prices.yaml}
"""
PRICES = """
as_of: 2026-01-01
currency: USD
models:
  openai/*: {input: 10, output: 100}
  openai/teller: {input: 20, output: 200}
"""


@pytest.fixture
def provider():
    with running(Provider(speak=speak)) as served:
        yield served


@pytest.fixture
def project(tmp_path, provider, monkeypatch):
    monkeypatch.delenv("ESTIMATE_KEY", raising=False)
    (tmp_path / "personas.yaml").write_text(PERSONAS, encoding="utf-8")
    (tmp_path / "prices.yaml").write_text(PRICES)
    (tmp_path / "p.yaml").write_text(PROJECT.replace("URL", provider.url), encoding="utf-8")
    return load_project(tmp_path / "p.yaml")


def by_model(found):
    return {one.model: one for one in found.models}


def test_a_dry_run_counts_the_calls_of_the_flow_and_makes_none(project, provider, capsys):
    found = pipeline.estimate(project, "generate")
    assert provider.calls == []
    models = by_model(found)
    # A rewritten question, then three answers with two questions between them.
    assert (models["openai/asker"].calls, models["openai/teller"].calls) == (16 * 3, 16 * 3)
    assert models["openai/asker"].output_tokens == 16 * 3 * 100
    teller = models["openai/teller"]
    assert teller.cost == pytest.approx((teller.input_tokens * 20 + teller.output_tokens * 200) / 1e6)
    assert (found.rows_left, found.measured, found.currency) == (16, 0, "USD")
    with pytest.raises(UserError, match="stage 'generate' has not run"):
        pipeline.estimate(project, "judge")
    print_estimate("generate", found)
    said = capsys.readouterr().out
    assert "half of max_new_tokens for openai/asker, openai/teller" in said
    assert "of budget.max_cost 100: enough" in said


def test_after_a_sample_the_estimate_is_what_the_run_takes_and_the_sample_is_not_asked_again(
    project, provider, monkeypatch, capsys
):
    monkeypatch.setenv("ESTIMATE_KEY", "sk-estimate")
    found = pipeline.estimate(project, "generate", sample=4)
    sampled = len(provider.calls)
    assert (found.rows_left, found.measured) == (12, 4)
    told = pipeline.generate(project).report["models"]
    for name, one in by_model(found).items():
        assert told[name]["calls"] == pytest.approx(one.calls, rel=0.1)
        assert told[name]["input_tokens"] == pytest.approx(one.input_tokens, rel=0.15)
        assert told[name]["output_tokens"] == pytest.approx(one.output_tokens, rel=0.25)
        assert told[name]["cost"] == pytest.approx(one.cost, rel=0.25)
    assert len(provider.calls) - sampled == sum(told[name]["calls"] for name in by_model(found))
    left = pipeline.estimate(project, "generate")
    assert left.rows_left == 0 and left.cost == 0 and left.spent > 0
    print_estimate("generate", left)
    assert "nothing is left to ask" in capsys.readouterr().out


def unused(project):
    with Journal(pipeline.journal_path(project), read_only=True) as journal:
        return stats(journal).unused


def test_a_sample_and_one_task_alone_leave_nothing_that_is_paid_for_to_be_pruned(project, provider, monkeypatch):
    monkeypatch.setenv("ESTIMATE_KEY", "sk-estimate")
    config = project.workdir.parents[1] / "p.yaml"
    generate_cli.generate(config)
    assert unused(project) == 0
    config.write_text(config.read_text().replace("generate:\n", "generate:\n  instruction: {}\n"))
    other = config.read_text().replace("max_new_tokens: 200", "max_new_tokens: 199")
    config.write_text(other)
    changed = load_project(config)
    pipeline.estimate(changed, "generate", sample=2)
    assert unused(changed) == 0
    generate_cli.generate(config, task="instruction")  # asks nothing, and is not all that the config asks for
    assert unused(changed) == 0
    generate_cli.generate(config)
    assert unused(changed) > 0
    generate_cli.generate(config, task="dialogue")
    assert unused(changed) > 0


def test_no_sample_is_paid_for_while_another_run_works_there(project, provider, monkeypatch):
    monkeypatch.setenv("ESTIMATE_KEY", "sk-estimate")
    pipeline.generate(project)
    provider.calls.clear()
    with locked(project.workdir), pytest.raises(UserError, match="another lingo-hitl"):
        pipeline.estimate(project, "judge", sample=2)
    assert provider.calls == []


def test_judging_is_estimated_with_every_aspect_and_turn(project, provider, monkeypatch):
    monkeypatch.setenv("ESTIMATE_KEY", "sk-estimate")
    pipeline.generate(project)
    [unknown] = pipeline.estimate(project, "judge").models
    assert unknown.calls == 16 * 2  # a dialogue as a whole, and turn by turn
    provider.calls.clear()
    [found] = pipeline.estimate(project, "judge", sample=4).models
    assert found.calls == pytest.approx(12 * 2, rel=0.1)
    provider.calls.clear()
    pipeline.estimate(project, "judge", sample=16)  # all that is left
    assert len(provider.calls) == pytest.approx(found.calls, rel=0.1)


def test_a_dry_run_says_where_the_budget_will_not_do_and_which_price_is_missing(project, tmp_path, capsys):
    (tmp_path / "few.yaml").write_text(PRICES.replace("openai/*", "openai/asker"))
    few = BudgetConfig(max_cost=0.05, prices=str(tmp_path / "few.yaml"))
    print_estimate("generate", pipeline.estimate(project.model_copy(update={"budget": few}), "generate"))
    assert "NOT enough" in capsys.readouterr().out
    (tmp_path / "none.yaml").write_text(PRICES.replace("openai/", "openai/x"))
    none = BudgetConfig(max_cost=1, prices=str(tmp_path / "none.yaml"))
    print_estimate("generate", pipeline.estimate(project.model_copy(update={"budget": none}), "generate"))
    assert "No price is known of openai/asker, openai/teller" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("quota", "minutes", "bound_by"),
    [
        (Quota(requests_per_minute=30), 300 / 30, "requests a minute"),
        (Quota(requests_per_minute=600, tokens_per_minute=300), None, "tokens a minute"),
        (Quota(), 300 * 2 / 60 / 4, "how long a call takes"),
        (Quota(requests_per_minute=6000, requests_per_day=100), 2 * 24 * 60, "requests a day"),
    ],
)
def test_the_quota_that_binds_gives_the_time(project, quota, minutes, bound_by):
    from lingo_hitl.generation.dialogue import cast_personas, dialogue

    config = project.generate.dialogue.model_copy(
        update={"target_turns": 1, "user": project.generate.dialogue.assistant}
    )
    seed = {"id": "s", "source": "s", "source_id": "1", "language": "ko", "output": "핵융합 때문이에요."}
    seeds = [{**seed, "instruction": f"{n}번째 별은 왜 빛나나요?"} for n in range(150)]
    plan = Plan("dialogues", dialogue(config), lambda: cast_personas(iter(seeds), config), len(seeds))
    [one] = estimate([plan], Journal.in_memory(), quotas={"ESTIMATE_KEY": quota}, budget=BudgetConfig()).models
    assert (one.calls, one.bound_by) == (300, bound_by)
    assert one.minutes == pytest.approx(one.input_tokens / 300 if minutes is None else minutes, rel=0.02)
