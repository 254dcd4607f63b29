"""A pool of models, a rewrite and the reference, against a scripted server."""

import pytest

from lingo_hitl.config import GenerateConfig
from lingo_hitl.errors import UserError
from tests.generation.seeds import grown, seed, table
from tests.providers import serving

SEED = seed("별이란?", "빛나는 천체입니다.")


def complete(server, seeds=(SEED,), pool=("a", "b"), **options):
    config = {"pool": [server.spec(name, name=name) for name in pool], **options}
    return grown(table(*seeds), GenerateConfig(preference=config))


def by_model(row):
    return dict(zip(row["models"], row["completions"], strict=True))


def echo(model, messages):
    return f"{model} on {messages[-1]['content']}"


def test_the_pool_the_rewrite_and_the_reference_stand_side_by_side():
    def script(model, messages):
        return "더 나은 글" if model == "e" else echo(model, messages)

    with serving(script) as server:
        evolve = {"llm": server.spec("e", name="e")}
        outcome = complete(server, evolve=evolve, include_reference=True)
        (prompt,) = [messages[-1]["content"] for messages in server.asked_of("e")]
    (row,) = outcome.rows.to_pylist()
    assert by_model(row) == {
        "a": "a on 별이란?",
        "b": "b on 별이란?",
        "e+evolquality": "더 나은 글",
        "reference": "빛나는 천체입니다.",
    }
    assert "#주어진 질문#:\n별이란?\n#주어진 답변#:\na on 별이란?" in prompt
    assert (row["reference"], row["seed"], row["task"]) == ("빛나는 천체입니다.", SEED["id"], "preference")
    assert outcome.report["rows"] == {"preference": 1}
    assert outcome.report["models"]["openai/a"]["output_tokens"] == 5


def test_english_rows_are_rewritten_with_distilabel_s_own_prompt():
    with serving(lambda m, messages: "Better." if m == "e" else echo(m, messages)) as server:
        complete(server, [seed("What is <RESPONSE>?", language="en")], evolve={"llm": server.spec("e"), "times": 2})
        first, second = [messages[-1]["content"] for messages in server.asked_of("e")][:2]
    assert "I want you to act as a Response Rewriter." in first
    assert "#Given Prompt#:\nWhat is <RESPONSE>?\n#Given Response#:\na on What is <RESPONSE>?" in first
    assert "#Given Response#:\nBetter." in second


def test_place_says_nothing_about_the_model():
    seeds = [seed(f"질문 {n}", f"답 {n}") for n in range(14)]
    with serving(echo) as server:
        rows = complete(server, seeds, include_reference=True).rows.to_pylist()
        again = complete(server, seeds, include_reference=True).rows.to_pylist()
    firsts = {row["models"][0] for row in rows}
    assert firsts == {"a", "b", "reference"}
    assert [row["models"] for row in rows] == [row["models"] for row in again]
    assert all(by_model(row)["a"].startswith("a on") for row in rows)


def test_identical_completions_are_asked_for_again_and_then_left_out():
    calls = {"a": 0, "b": 0}

    def script(model, messages):
        calls[model] += 1
        return "같은 글" if model == "a" or calls["b"] < 3 else "다른 글"

    with serving(script) as server:
        (row,) = complete(server).rows.to_pylist()
    assert by_model(row) == {"a": "같은 글", "b": "다른 글"} and calls == {"a": 1, "b": 3}
    with serving(lambda model, messages: "같은  글.") as server:
        outcome = complete(server)
        assert len(server.asked) == 4
    assert outcome.rows.num_rows == 0
    reason = outcome.dropped[0]["reason"]
    assert reason == "fewer than 2 different completions (b: a near-copy of another completion)"


def test_a_copy_s_further_samples_come_after_the_one_that_stands_there():
    calls = []

    def script(model, messages):
        calls.append(model)
        return "같은 글" if model == "a" else [SEED["instruction"], "같은 글", "다른 글"][calls.count("b") - 1]

    with serving(script) as server:
        (row,) = complete(server, resamples=1).rows.to_pylist()
    assert by_model(row) == {"a": "같은 글", "b": "다른 글"} and calls.count("b") == 3


def test_a_greedy_model_is_not_asked_the_same_again():
    with serving(lambda model, messages: "같은 글") as server:
        config = {"pool": [server.spec("a", name=n, temperature=0) for n in ("a1", "a2")]}
        outcome = grown(table(SEED), GenerateConfig(preference=config))
        assert len(server.asked) == 1  # the second is the first, replayed
    assert outcome.rows.num_rows == 0


def test_a_failing_model_costs_its_completion_alone():
    with serving(lambda model, messages: None if model == "b" else echo(model, messages)) as server:
        outcome = complete(server, include_reference=True)
    assert set(by_model(outcome.rows.to_pylist()[0])) == {"a", "reference"}
    assert outcome.report["completions left out"] == 1


def test_the_first_rewrite_stays_where_the_second_cannot_be_used():
    def script(model, messages):
        if model != "e":
            return echo(model, messages)
        return "#고친 답변#: 글" if "더 나은 글" in messages[-1]["content"] else "더 나은 글"

    with serving(script) as server:
        outcome = complete(server, evolve={"llm": server.spec("e", name="e"), "times": 2})
        assert len(server.asked_of("e")) == 4
    (row,) = outcome.rows.to_pylist()
    rewrite = row["models"].index("e+evolquality")
    assert row["completions"][rewrite] == "더 나은 글"
    assert row["completions"][row["parents"][rewrite]] == "a on 별이란?"
    assert outcome.report["completions left out"] == 0


@pytest.mark.parametrize("said", ["#고친 답변#: 좋은 글", "Sure. #Rewritten Response#: good"])
def test_a_rewrite_that_shows_its_prompt_is_left_out(said):
    with serving(lambda m, messages: said if m == "e" else echo(m, messages)) as server:
        outcome = complete(server, evolve={"llm": server.spec("e")})
    assert set(by_model(outcome.rows.to_pylist()[0])) == {"a", "b"}


def test_a_pool_that_cannot_give_two_to_four_completions_is_refused_at_once():
    with serving(echo) as server:
        for options, size in [({"pool": ("a",)}, 1), ({"pool": ("a", "b", "c", "d"), "include_reference": True}, 5)]:
            with pytest.raises(UserError, match=f"make {size} completions of a prompt; expected 2 to 4"):
                complete(server, **options)
        assert server.asked == []
