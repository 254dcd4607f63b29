import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.config import GenerateConfig, Seeds
from lingo_hitl.errors import UserError
from lingo_hitl.generation.generate import pick
from lingo_hitl.generation.replies import whole_sentences
from lingo_hitl.models.journal import Journal
from lingo_hitl.records import GENERATED, content_id, seen_texts
from tests.generation.seeds import grown, seed, table


def test_instructions_go_through_as_they_are():
    seeds = [seed("질문", "답"), seed("답 없는 질문")]
    outcome = grown(table(*seeds), GenerateConfig(instruction={}))
    rows = outcome.rows.to_pylist()
    assert outcome.rows.schema == GENERATED
    assert [(r["instruction"], r["output"], r["models"]) for r in rows] == [
        ("질문", "답", ["reference"]),
        ("답 없는 질문", "", ["reference"]),
    ]
    assert [row["id"] for row in rows] == [content_id("instruction", seen_texts(row)) for row in rows]
    assert [row["seed"] for row in rows] == [s["id"] for s in seeds]
    assert outcome.report["rows"] == {"instruction": 2}


def test_rows_that_read_the_same_are_kept_once():
    seeds = [seed("질문", "답"), seed("질문", "답", source="other")]
    outcome = grown(table(*seeds), GenerateConfig(instruction={}))
    assert outcome.rows.num_rows == 1
    assert [row["reason"] for row in outcome.dropped] == ["the same row came before"]


def test_seeds_are_every_kth_row_in_equal_shares_of_the_sources():
    seeds = [seed(f"a{n}", source="a") for n in range(100)] + [seed(f"b{n}", source="b") for n in range(5)]
    corpus = table(*seeds)
    names = [seeds[place]["instruction"] for place in pick(corpus, Seeds(count=20))]
    assert names == [f"a{n * 100 // 15}" for n in range(15)] + [f"b{n}" for n in range(5)]
    assert [seeds[place]["instruction"] for place in pick(corpus, Seeds(sources=["b"], count=2))] == ["b0", "b2"]
    assert pick(corpus, Seeds()) == list(range(105))
    assert pick(corpus, Seeds(count=0)) == []
    with pytest.raises(UserError, match=r"sources there: a, b\. Check"):
        pick(corpus, Seeds(sources=["song"]))


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(0, 60))
def test_picking_gives_as_many_as_wanted_each_once_in_order(sources, count):
    seeds = [seed(f"q{n}", source=f"s{s}") for n, s in enumerate(sources)]
    chosen = [seeds[place] for place in pick(table(*seeds), Seeds(count=count))]
    assert len(chosen) == min(count, len(seeds)) == len({row["id"] for row in chosen})
    for source in {row["source"] for row in chosen}:
        places = [int(row["instruction"][1:]) for row in chosen if row["source"] == source]
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("cut", "whole"),
    [
        ("One is here. Two is here. Thr", "One is here. Two is here."),
        (
            "짧다. 이 문장은 훨씬 더 길어서 절반을 넘지만 끝나지 않았",
            "짧다. 이 문장은 훨씬 더 길어서 절반을 넘지만 끝나지 않았",
        ),
        ("1. Pi is 3.14 and 2. e is", "1. Pi is 3.14 and 2. e is"),
        ('He said "yes." Then he le', 'He said "yes."'),
    ],
)
def test_a_text_that_was_cut_ends_at_its_last_sentence(cut, whole):
    assert whole_sentences(cut) == whole


@pytest.mark.model
def test_the_packaged_model_writes_all_three_tasks(tmp_path):
    from tests.generation.conftest import PERSONAS

    (tmp_path / "p.yaml").write_text(PERSONAS, encoding="utf-8")
    model = {"model": "packaged/smollm2-135m", "max_new_tokens": 24}
    config = {
        "preference": {"pool": [{**model, "name": "cool"}, {**model, "name": "warm", "temperature": 1.2}]},
        "dialogue": {"user": model, "assistant": model, "target_turns": 1, "personas": str(tmp_path / "p.yaml")},
        "instruction": {},
    }
    seeds = [seed("What is the moon?", "A rock.", language="en"), seed("Why is the sky blue?", "Air.", language="en")]
    with Journal(tmp_path / "journal") as journal:
        outcome = grown(table(*seeds), GenerateConfig(**config), journal=journal)
    with Journal(tmp_path / "journal") as journal:
        again = grown(table(*seeds), GenerateConfig(**config), journal=journal)
    assert "calls" not in again.report["models"]["packaged/smollm2-135m"]
    assert again.rows.equals(outcome.rows)
    assert outcome.report["rows"]["instruction"] == 2 and outcome.rows.num_rows + len(outcome.dropped) == 6
