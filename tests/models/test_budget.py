"""No call starts that might cost more than is left, and what was paid for stays."""

import asyncio
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.errors import UserError
from lingo_hitl.llm_config import BudgetConfig, LLMSpec
from lingo_hitl.models.budget import Budget
from lingo_hitl.models.completion import Completion
from lingo_hitl.models.journal import Entry, Journal
from lingo_hitl.models.loop import submit
from lingo_hitl.models.prices import load_prices
from lingo_hitl.models.session import Session
from lingo_hitl.models.stop import Stop
from tests.models.virtual_time import run
from tests.providers import running

TABLE = """
as_of: 2026-01-01
currency: USD
models:
  openai/tiny: {input: 100000, output: 100000}
  openai/tiny-free*: {input: 0, output: 0}
"""


@pytest.fixture
def prices(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(TABLE)
    return str(path)


def test_the_shipped_table_knows_versions_and_local_models():
    shipped = load_prices(None)
    assert shipped.of("gemini/gemini-2.5-flash-lite-001").output == 0.40
    assert shipped.of("gemini/gemini-2.5-flash").output == 2.50
    assert shipped.of("openai/gpt-4o-mini-2024-07-18").input == 0.15
    assert shipped.of("transformers/home/model").input == shipped.of("packaged/smollm2-135m").output == 0
    assert shipped.of("openai/somebody-s-own") is None


def test_one_s_own_table_comes_first_and_the_shipped_one_fills_in(tmp_path):
    path = tmp_path / "prices.yaml"
    path.write_text(TABLE + "  gemini/gemini-2*: {input: 9, output: 9}\n")
    table = load_prices(str(path))
    assert table.of("gemini/gemini-2.5-pro-latest").input == 9
    assert table.of("openai/gpt-4o").input == 2.50
    path = tmp_path / "won.yaml"
    path.write_text(TABLE.replace("USD", "KRW"))
    assert load_prices(str(path)).of("openai/gpt-4o") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("models: {a: {input: -1, output: 0}}\ncurrency: USD\nas_of: 2026-01-01", r"models\.a\.input"),
        ("currency: [", "not valid YAML"),
        ("", "the whole file"),
        ("currency: USD\nas_of: 2026-01-01\nmodels: {}\nmodel: {}", "'model'"),
    ],
)
def test_a_faulty_table_is_one_line(tmp_path, text, says):
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UserError, match=says) as raised:
        load_prices(str(tmp_path / "p.yaml"))
    assert "\n" not in str(raised.value)


def test_a_model_without_a_price_is_refused_before_any_call(prices):
    budget = BudgetConfig(max_cost=1, prices=prices)
    session = Session(Journal.in_memory(), budget=budget)
    with pytest.raises(UserError, match=r"openai/unknown: its price is not in .*prices\.yaml"):
        session.llm(LLMSpec(model="openai/unknown", base_url="http://127.0.0.1:9/v1"))
    Session(Journal.in_memory(), budget=BudgetConfig(prices=prices)).budget.check("openai/unknown")


costs = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5), st.floats(0.1, 9)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(costs, st.integers(1, 40))
def test_whatever_calls_turn_out_to_cost_the_limit_holds_and_is_used(calls, tokens):
    """Calls of at most `tokens` tokens at 0.1 each: some use only a share of them, and end at any time."""
    budget = Budget(BudgetConfig(max_cost=10.0), Journal.in_memory(), Stop())
    budget.prices = budget.prices.model_copy(
        update={"models": {"m": budget.prices.of("openai/gpt-4o").model_copy(update={"input": 0, "output": 1e5})}}
    )
    paid, refused = [], []

    async def call(share, after, seconds):
        await asyncio.sleep(after)
        try:
            async with budget.room("m", size=0, max_new_tokens=tokens):
                await asyncio.sleep(seconds)
                paid.append(budget.pay("m", Completion("x", output_tokens=int(share * tokens))).cost)
        except UserError:
            refused.append(sum(paid))

    async def all_of_them():
        await asyncio.gather(*(call(*one) for one in calls))

    run(all_of_them())
    assert len(paid) + len(refused) == len(calls)
    assert sum(paid) <= 10 + 1e-9
    assert all(spent + tokens / 10 > 10 - 1e-9 for spent in refused)


def ask(session, url, prompts, model="openai/tiny"):
    llm = session.llm(LLMSpec(model=model, base_url=f"{url}/v1", max_new_tokens=4))
    llm.backoff_s = 0.01
    return llm.complete([[{"role": "user", "content": p}] for p in prompts])


def test_a_run_stops_at_the_limit_and_goes_on_with_a_higher_one(tmp_path, prices):
    """A call costs 0.7 here: 5 and 2 tokens; at most 0.1 x (1 + 4) by what is known before it."""
    questions = [str(i) for i in range(10)]
    with running() as provider, Journal(tmp_path / "j.sqlite") as journal:
        provider.reply_to = lambda prompt: None
        with pytest.raises(UserError, match=r"of budget\.max_cost 3 are spent.*raise budget\.max_cost"):
            ask(Session(journal, budget=BudgetConfig(max_cost=3, prices=prices)), provider.url, questions)
        first = len(provider.prompts)
        assert 0 < first < 10
        assert len(journal) == first
        session = Session(journal, budget=BudgetConfig(max_cost=100, prices=prices))
        ask(session, provider.url, questions)
        assert sorted(provider.prompts) == questions  # none was paid for twice
        counted = session.tally.models()["openai/tiny"]
        assert counted["calls"] == 10 - first and counted["replayed"] == first
        assert counted["cost"] == pytest.approx(sum_of_costs(journal) * (10 - first) / 10)
        assert session.budget._journal.spent_here("USD") == pytest.approx(sum_of_costs(journal))


def sum_of_costs(journal):
    with journal.transaction() as db:
        return db.execute("SELECT total(cost) FROM completions").fetchone()[0]


@pytest.mark.parametrize(("max_cost", "calls"), [(5.0, 0), (5.2, 1)])
def test_what_a_call_may_cost_is_a_token_for_each_byte_of_prompt_and_schema(prices, max_cost, calls):
    """0.1 for each of 30 bytes, 18 of the schema and 4 new tokens; with fewer, no bound would be one."""
    with running() as provider:
        session = Session(Journal.in_memory(), budget=BudgetConfig(max_cost=max_cost, prices=prices))
        llm = session.llm(LLMSpec(model="openai/tiny", base_url=f"{provider.url}/v1", max_new_tokens=4))
        asked = llm.acomplete([{"role": "user", "content": "가" * 10}], schema={"type": "object"})
        try:
            submit(asked).result()
        except UserError as error:
            assert "may cost 5.2" in str(error)
        assert len(provider.prompts) == calls


def test_what_another_process_pays_counts(tmp_path, prices):
    with Journal(tmp_path / "j.sqlite") as mine, pickle.loads(pickle.dumps(mine)) as theirs:

        async def scene():
            budget = Budget(BudgetConfig(max_cost=1.0, prices=prices), mine, Stop())
            async with budget.room("openai/tiny", size=0, max_new_tokens=5):
                pass
            theirs.put([Entry(b"k", "openai/tiny", Completion("x", cost=0.8), "USD")])
            with pytest.raises(UserError, match=r"USD 0\.8000 of budget\.max_cost 1 are spent"):
                async with budget.room("openai/tiny", size=0, max_new_tokens=5):
                    pass

        run(scene())


def test_a_journal_in_another_currency_is_not_added_up(prices):
    journal = Journal.in_memory()
    journal.put([Entry(b"k", "m", Completion("x", cost=500.0), "KRW")])
    with pytest.raises(UserError, match="has costs in KRW, and the price table is in USD"):
        Session(journal, budget=BudgetConfig(max_cost=1, prices=prices)).budget.check("openai/tiny")


def test_free_models_and_no_limit_wait_for_nothing(prices):
    async def scene(config):
        budget = Budget(config, Journal.in_memory(), Stop())
        async with (
            budget.room("openai/tiny-free-2", size=9, max_new_tokens=10**9),
            budget.room("packaged/smollm2-135m", size=9, max_new_tokens=10**9),
        ):
            return True

    assert run(scene(BudgetConfig(max_cost=0.001, prices=prices)))
