"""The stage against a scripted judge, a tiny local model, and the packaged one."""

import json
import pickle
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.config import JudgeConfig
from lingo_hitl.errors import UserError
from lingo_hitl.judging.judge import Measured, judging
from lingo_hitl.judging.plans import rating
from lingo_hitl.llm_config import BudgetConfig
from lingo_hitl.models.flow import run_flow
from lingo_hitl.models.journal import Journal
from lingo_hitl.models.session import Session
from lingo_hitl.records import GENERATED, JUDGED, identified, to_table
from tests.judging.rows import (
    BASE,
    DIALOGUE,
    INSTRUCTION,
    PREFERENCE,
    UNANSWERED,
    WORTH,
    by_label,
    fair,
    fair_in_json,
    run,
    shown,
)
from tests.providers import openai_error, running, serving


@pytest.fixture
def judged(tmp_path):
    def judged(server, *rows, judges=("judge",), **options):
        outcome, table = run(rows, [server.spec(name, name=name) for name in judges], tmp_path, **options)
        return table.to_pylist(), outcome

    return judged


@pytest.mark.parametrize("script", [fair, fair_in_json], ids=["in its own words", "in JSON"])
def test_ratings_stand_in_the_order_of_the_texts_whatever_order_was_shown(judged, script):
    many = [identified({**PREFERENCE, "instruction": f"{n}번째 별이란?"}) for n in range(12)]
    with serving(script) as server:
        rows, outcome = judged(server, *many)
        asked = server.asked_of("judge")
    for row in rows:
        assert (row["ratings"], row["rationales"], row["judge"]) == (
            [4.0, 2.0, 3.0],
            ["까닭 4", "까닭 2", "까닭 3"],
            "judge",
        )
        assert row["confidence"] == row["rating_spread"] == row["disagreement"] == [None] * 3  # one judge, one number
        ((order,),) = [judgement["orders"] for judgement in row["judgements"]]
        question = next(m for m in asked if f"지시문: {row['instruction']}\n" in m[1]["content"])
        assert shown(question) == [row["completions"][n] for n in order]
    assert len({tuple(shown(messages)) for messages in asked}) > 3
    assert "글 3개" in asked[0][0]["content"]
    assert "빛나는 천체" not in asked[0][1]["content"]  # the reference may be one of the texts
    assert outcome.report["texts rated"] == 36 and outcome.report["models"]["openai/judge"]["calls"] == 12


def test_the_order_depends_on_the_row_the_judge_and_the_seed_and_not_on_the_place_of_the_row(judged):
    rows = [identified({**PREFERENCE, "instruction": str(n)}) for n in range(8)]

    def orders(server, *some, **options):
        return {row["id"]: row["judgements"][0]["orders"] for row in judged(server, *some, **options)[0]}

    with serving(fair) as server:
        first = orders(server, *rows)
        assert orders(server, *rows[::-1]) == first
        assert orders(server, *rows, seed=1) != first
        assert orders(server, *rows, judges=("other",)) != first


def test_another_name_for_a_judge_costs_nothing(tmp_path):
    with serving(fair) as server:
        for name in ("one", "other"):
            _, table = run([PREFERENCE], [server.spec("judge", name=name)], tmp_path, journal=Journal(tmp_path / "j"))
            assert table["judge"].to_pylist() == [name]
        assert len(server.asked) == 1


def test_a_judge_that_leans_to_the_first_text_is_evened_out_by_the_swapped_order(judged):
    def leaning(model, messages):
        return by_label([WORTH[text] + (n == 0) - (n == 2) for n, text in enumerate(shown(messages))])

    with serving(leaning) as server:
        ((row,), outcome) = judged(server, PREFERENCE, swap=True)
        first, second = (shown(messages) for messages in server.asked_of("judge"))
    assert first == second[::-1]
    middle = row["completions"].index(first[1])
    assert row["ratings"] == [4.0, 2.0, 3.0]
    assert row["disagreement"] == [0.0 if n == middle else 2.0 for n in range(3)]
    assert row["rating_spread"] == [0.0 if n == middle else 1.0 for n in range(3)]
    assert row["confidence"] == [1.0 if n == middle else 0.5 for n in range(3)]
    ((one, two),) = [judgement["orders"] for judgement in row["judgements"]]
    assert one == two[::-1] and row["judgements"][0]["calls"] == 2
    assert outcome.report["judges"]["judge"]["mean disagreement"] == 1.333


def test_one_text_has_no_second_order(judged):
    with serving(fair) as server:
        judged(server, INSTRUCTION, swap=True)
        assert len(server.asked) == 1


def test_each_task_is_asked_about_in_its_own_way_and_language(judged):
    with serving(fair) as server:
        rows, _ = judged(server, INSTRUCTION, UNANSWERED, DIALOGUE, aspects=["truthfulness"])
        asked = sorted("\n".join(m["content"] for m in messages) for messages in server.asked_of("judge"))
    assert [row["ratings"] for row in rows] == [[5.0], [None], [3.5]]
    assert [row["judge"] for row in rows] == ["judge", None, "judge"]
    assert [row["turn_ratings"] for row in rows] == [None, None, None]
    assert len(asked) == 2
    assert "Truthfulness and Hallucination" in asked[0] and "A sun." in asked[0]
    assert "확인된 사실:\n대기 때문" in asked[1] and "assistant: 공기 때문이에요." in asked[1]


def test_a_dialogue_is_rated_answer_by_answer_beside_the_whole(judged):
    with serving(fair) as server:
        ((row,), _) = judged(server, DIALOGUE, by_turn=True)
        by_turn = next(m for (m,) in server.asked_of("judge") if "답변을 하나씩" in m["content"])["content"]
    assert row["ratings"] == [3.5] and row["turn_ratings"] == [4.5, 2.0]
    assert [(one["aspect"], one["ratings"]) for one in row["judgements"]] == [
        ("correctness", [3.5]),
        ("correctness-by-turn", [4.5, 2.0]),
    ]
    assert "<질문 2> 정말?\n<답변 2> 네, 그래요." in by_turn and "확인된 사실:\n대기 때문" in by_turn


def test_what_is_wrong_is_told_in_the_names_that_the_question_has(judged):
    english = identified({**DIALOGUE, "language": "en"})

    def script(model, messages):
        question = messages[0]["content"]
        return "#### Answer 1\nScore: 4" if "one by one" in question or "하나씩" in question else "Score: 4"

    with serving(script) as server:
        judged(server, DIALOGUE, english, by_turn=True)
        told = [m[2]["content"] for m in server.asked_of("judge") if len(m) == 3]
    assert sorted("답변 2: no rating." in text for text in told) == [False, True]
    assert sorted("Answer 2: no rating." in text for text in told) == [False, True]


def test_a_dialogue_is_dropped_with_the_reason_that_the_whole_has_no_rating(judged):
    def script(model, messages):
        return fair(model, messages) if "하나씩" in messages[0]["content"] else "글쎄요."

    with serving(script) as server:
        rows, outcome = judged(server, DIALOGUE, by_turn=True)
    assert rows == [] and outcome.dropped[0]["reason"] == "no judge could rate it: no rating found"


def test_a_failure_that_passes_is_not_made_up_for_by_a_reply_that_the_next_run_would_not_ask_for(tmp_path):
    left = [openai_error(500, "broken")] * 5
    with serving(fair) as server:
        server.reply_to = lambda prompt: left.pop() if left else None
        outcomes = [run([DIALOGUE], [server.spec("judge")], tmp_path, journal=Journal(tmp_path / "j")) for _ in "12"]
        assert len(server.asked) == 5 + 1
    (failed, nothing), (whole, rated) = outcomes
    assert failed.unfinished and nothing.num_rows == 0 and "500" in failed.dropped[0]["reason"]
    assert not whole.unfinished and rated["ratings"].to_pylist() == [[3.5]]


def test_a_judge_s_own_system_prompt_stands_before_the_task_s(tmp_path):
    with serving(fair) as server:
        run([PREFERENCE], [server.spec("judge", system_prompt="Be strict.")], tmp_path)
        ((system, _),) = server.asked_of("judge")
    assert system["content"].startswith("Be strict.\n\n당신은") and "글 3개" in system["content"]


def test_an_estimate_asks_nothing_about_dialogues_that_the_limits_drop(tmp_path):
    said = "별은 중심에서 수소가 헬륨으로 바뀌는 핵융합 때문에 스스로 빛난답니다. 그 빛은 여러 해를 달려와요."
    messages = [{"role": role, "content": said} for _ in range(3) for role in ("user", "assistant")]
    copied = identified({**DIALOGUE, "messages": messages})
    with serving(fair) as server:
        config = JudgeConfig(judges=[server.spec("judge")], quality={"copying": 0.4})
        (plan,) = rating(to_table([copied, DIALOGUE], GENERATED), config)
        rows = list(run_flow(plan.flow, plan.taken([0, 1]), Session(Journal.in_memory()), what=plan.what, total=2))
        assert len(server.asked) == 1
    assert [row["ratings"] for row in rows] == [[None], [3.5]]


def test_no_judge_is_paid_for_a_dialogue_that_fails_beyond_its_limit(judged):
    answer = "별은 중심에서 수소가 헬륨으로 바뀌는 핵융합 때문에 스스로 빛난답니다. 그 빛은 여러 해를 달려와요."
    messages = [
        {"role": role, "content": text}
        for question in ("별은 왜 빛나나요?", "그럼 태양도 같은가요?", "다른 별은요?")
        for role, text in (("user", question), ("assistant", answer))
    ]
    copied = identified({**DIALOGUE, "messages": messages})
    with serving(fair) as server:
        rows, outcome = judged(server, copied, DIALOGUE, quality={"catchphrase_overuse": None, "copying": 0.4})
        assert len(server.asked) == 1
        allowed, _ = judged(server, copied, quality=dict.fromkeys(("catchphrase_overuse", "copying")))
    assert [row["id"] for row in rows] == [DIALOGUE["id"]] and rows[0]["copying"] is not None
    assert outcome.dropped[0]["reason"].startswith("copying above 0.4 (")
    assert allowed[0]["copying"] > 0.4 and allowed[0]["ratings"] == [3.5]


@pytest.mark.parametrize(
    ("reply", "rating"), [("점수: 4.5", 4.5), ("점수: 10", None), ("점수: 3.7", None), ('{"score": 4.5}', 4.5)]
)
def test_scores_are_read_whole_and_checked(judged, reply, rating):
    with serving(lambda model, messages: reply) as server:
        rows, _ = judged(server, DIALOGUE)
    assert [row["ratings"] for row in rows] == ([[rating]] if rating else [])


def test_a_reply_that_cannot_be_read_is_shown_to_the_judge_once_more(judged):
    def script(model, messages):
        ratings = [WORTH[text] for text in shown(messages)]
        if len(messages) > 2:
            return by_label([1] * len(ratings) if model == "judge" else ratings)
        return f"#### 글 1의 평가\n평점: {ratings[0]}\n\n둘째는 글쎄요."

    with serving(script) as server:
        ((row,), outcome) = judged(server, PREFERENCE)
        first, second = server.asked_of("judge")
    kept = row["completions"].index(shown(first)[0])
    # The first reply's own rating stays.
    assert row["ratings"] == [float(WORTH[text]) if n == kept else 1.0 for n, text in enumerate(row["completions"])]
    assert outcome.report["asked again"] == 1 and row["judgements"][0]["calls"] == 2
    assert second[:2] == first and second[2]["role"] == "assistant"
    assert "글 2: no rating; 글 3: no rating." in second[3]["content"]


def test_each_judge_s_ratings_reasons_and_cost_are_kept(judged, tmp_path):
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: USD\nas_of: 2026-01-01\nmodels: {openai/one: {input: 1000, output: 2000}}")
    budget = BudgetConfig(prices=str(prices))
    with serving(fair) as server:
        options = {"judges": ("one", "two"), "aspects": ["depth", "honesty"], "swap": True, "budget": budget}
        ((row,), outcome) = judged(server, PREFERENCE, **options)
    said = row["judgements"]
    assert [(one["judge"], one["aspect"]) for one in said] == [
        ("one", "depth"), ("one", "honesty"), ("two", "depth"), ("two", "honesty")
    ]  # fmt: skip
    assert all(one["ratings"] == [4.0, 2.0, 3.0] and one["rationales"][1] == "까닭 2" for one in said)
    assert all(one["input_tokens"] > 0 and one["output_tokens"] > 0 for one in said)
    assert [one["cost"] for one in said[:2]] == [
        pytest.approx(one["input_tokens"] / 1e3 + one["output_tokens"] / 5e2) for one in said[:2]
    ]
    assert [one["cost"] for one in said[2:]] == [None, None]  # no price is known
    spent = outcome.report["judges"]
    assert spent["one"]["cost"] == pytest.approx(sum(one["cost"] for one in said[:2])) and spent["two"]["cost"] is None
    models = outcome.report["models"]
    assert {name: counts["input tokens"] for name, counts in spent.items()} == {
        name: models[f"openai/{name}"]["input_tokens"] for name in ("one", "two")
    }


def test_what_no_judge_can_rate_is_dropped_with_the_reason(judged):
    with serving(lambda model, messages: "둘 다 좋은 글입니다.") as server:
        rows, outcome = judged(server, PREFERENCE, DIALOGUE, UNANSWERED)
    assert [row["id"] for row in rows] == [UNANSWERED["id"]]
    assert {row["reason"] for row in outcome.dropped} == {"no judge could rate it: no rating found"}
    kept = json.loads(outcome.dropped[0]["row"])
    assert kept["completions"] == PREFERENCE["completions"] and set(kept) == set(GENERATED.names)


def test_a_judge_that_fails_on_a_row_fails_there_alone(judged):
    strange = identified({**PREFERENCE, "instruction": "이상한 질문"})

    def script(model, messages):
        said = messages[1]["content"]
        return {"down": None, "prose": "모두 훌륭합니다."}.get(
            model, None if "이상한" in said else fair(model, messages)
        )

    with serving(script) as server:
        both, _ = judged(server, PREFERENCE, judges=("judge", "down", "prose"))
        some, outcome = judged(server, PREFERENCE, strange)
    assert both[0]["judge"] == "judge" and both[0]["ratings"] == [4.0, 2.0, 3.0]
    faults = {one["judge"]: one["faults"][0] for one in both[0]["judgements"]}
    assert faults["judge"] is None and faults["prose"] == "no rating found" and faults["down"]
    assert [row["id"] for row in some] == [PREFERENCE["id"]]
    (lost,) = outcome.dropped
    assert lost["id"] == strange["id"] and lost["reason"].startswith("no judge could rate it: ")


def test_several_judges_and_aspects_give_one_rating_with_its_spread_and_confidence(judged):
    def script(model, messages):
        deep = "깊이 평가" in messages[1]["content"]
        worth = {"천체": 5 if model == "kind" else 3 if deep else 4, "돌": 1, "불": 1}
        return by_label([worth[text] for text in shown(messages)])

    with serving(script) as server:
        ((row,), _) = judged(server, PREFERENCE, judges=("kind", "strict"), aspects=["depth", "honesty"])
    assert row["ratings"] == [4.25, 1.0, 1.0] and row["judge"] == "kind + strict"
    assert row["rating_spread"] == [0.75, 0.0, 0.0]
    assert row["confidence"] == [pytest.approx(1 - 0.75 / 2), 1.0, 1.0]
    assert row["rationales"][0].splitlines()[0] == "[kind · depth] 까닭 5"
    assert len(row["rationales"][0].splitlines()) == 4


@pytest.mark.parametrize("aspect", ["overall-rating", "helpfulness", "relevance", "depth", "creativity", "honesty",
                                    "truthfulness", "instruction-following"])  # fmt: skip
def test_every_aspect_has_its_wording_in_both_languages(judged, aspect):
    with serving(fair) as server:
        korean = {**INSTRUCTION, "language": "ko", "id": "x"}
        _, outcome = judged(server, INSTRUCTION, korean, aspects=[aspect])
        said = [messages[1]["content"].splitlines()[0] for messages in server.asked_of("judge")]
    assert outcome.report["texts rated"] == 2 and len(set(said)) == 2


@pytest.mark.parametrize("provider", ["gemini", "openai"])
def test_a_model_that_can_be_is_held_to_a_schema_with_a_place_for_each_text(tmp_path, provider, monkeypatch):
    monkeypatch.setenv("A_KEY", "k")
    with running() as server:
        server.speak = lambda call: fair_in_json(call.model, call.messages)
        monkeypatch.setenv("GEMINI_API_ENDPOINT", server.url)
        spec = {"model": "gemini/judge", "api_key_env": ["A_KEY"]} if provider == "gemini" else server.spec("judge")
        _, table = run([PREFERENCE], [spec], tmp_path)
        (schema,) = [call.schema for call in server.calls]
    assert table["ratings"].to_pylist() == [[4.0, 2.0, 3.0]]
    assert list(schema["required"]) == ["text_1", "text_2", "text_3"]
    assert set(schema["properties"]["text_2"]["properties"]) == {"rationale", "rating"}


def test_without_judges_rows_go_on_with_nulls(tmp_path):
    outcome, table = run([PREFERENCE, DIALOGUE], [], tmp_path)
    rows = table.to_pylist()
    assert [row["ratings"] for row in rows] == [[None] * 3, [None]]
    assert [row["judge"] for row in rows] == [None, None] and outcome.dropped == []


def test_a_rerun_asks_nothing(tmp_path, judged):
    with serving(fair) as server:
        first, _ = judged(server, PREFERENCE, DIALOGUE, journal=Journal(tmp_path / "j"), swap=True)
        asked = len(server.asked)
        again, _ = judged(server, PREFERENCE, DIALOGUE, journal=Journal(tmp_path / "j"), swap=True)
        assert asked == len(server.asked) == 3
    assert again == first


def test_no_rows_are_no_rows(tmp_path):
    _, table = run([], ["packaged/smollm2-135m"], tmp_path)
    assert table.num_rows == 0 and table.schema.names == [*GENERATED.names, *JUDGED.names]


def test_probabilities_of_a_model_that_has_none_are_refused(judged):
    with serving(lambda model, messages: "4") as server:
        with pytest.raises(UserError, match="gives texts, no probabilities"):
            judged(server, PREFERENCE, method="probabilities")
        assert server.asked == []


@pytest.fixture(scope="module")
def careless():
    """A judge that rates the texts of `worth` in any order, leaves some out, and now and then answers in prose."""
    worth = {}

    def script(model, messages):
        chance = random.Random(str(messages))
        if chance.random() < 0.2:
            return "글쎄요."
        parts = [f"글 {n}\n평점: {worth[text]}점" for n, text in enumerate(shown(messages[:2]), start=1)]
        chance.shuffle(parts)
        return "\n\n".join(parts[: chance.randint(1, len(parts))])

    with serving(script) as server:
        yield server, worth


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.booleans(), st.integers(0, 10**6))
def test_no_rating_lands_on_another_text(careless, tmp_path_factory, ratings, swap, seed):
    server, worth = careless
    texts = {f"글월 {n} {rating}": rating for n, rating in enumerate(ratings)}
    worth |= texts
    row = {**BASE, "task": "preference", "instruction": "q", "completions": list(texts), "models": ["m"] * len(texts)}
    folder = tmp_path_factory.mktemp("judge")
    _, table = run([identified(row)], [server.spec("judge")], folder, swap=swap, seed=seed)
    for got in table["ratings"].to_pylist():
        assert all(rating in (None, float(ratings[n])) for n, rating in enumerate(got))


@pytest.mark.model
def test_the_packaged_model_rates_by_its_probabilities(tmp_path):
    english = {
        **PREFERENCE,
        "language": "en",
        "instruction": "What is a star?",
        "completions": ["A sun.", "x " * 5_000],
    }
    rows = [PREFERENCE, english, INSTRUCTION, UNANSWERED, DIALOGUE]
    _, table = run(rows, ["packaged/smollm2-135m"], tmp_path, by_turn=True)
    content = table.to_pylist()
    ratings = [rating for row in content for rating in row["ratings"]]
    assert len(ratings) == 8 and ratings[6] is None
    assert all(1 <= rating <= 5 for rating in ratings if rating is not None)
    assert all(0 <= confidence <= 1 for confidence in content[0]["confidence"])
    assert "다음 토큰 확률" in content[0]["rationales"][0] and content[0]["judge"] == "smollm2-135m"
    assert [1 <= rating <= 5 for rating in content[4]["turn_ratings"]] == [True, True]


def test_the_steps_go_to_other_processes_as_they_are():
    from lingo_hitl.generation.personas import load_personas

    config = JudgeConfig(judges=["openai/a", "gemini/b"], by_turn=True, swap=True)
    flow = judging(config, Measured(config.quality, load_personas("sample")))
    assert pickle.loads(pickle.dumps(flow)) == flow
