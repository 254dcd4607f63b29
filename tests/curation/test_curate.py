"""From what people said to the rows that go on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.config import CurateConfig, KoQualityConfig
from lingo_hitl.curation.curate import curate
from lingo_hitl.errors import UserError
from tests.release.rows import conversation, instruction, pair, table


def outcome(rows, **config):
    return curate(table(rows), CurateConfig(**{"koquality": None, **config}))


def reasons(rows, **config):
    found = outcome(rows, **config)
    return found.rows.num_rows, [row["reason"] for row in found.dropped]


@pytest.mark.parametrize(
    ("row", "config", "reason"),
    [
        (instruction("q", "a", answers=0, rating=None), {}, "nobody answered"),
        (instruction("q", "a"), {"min_answers": 3}, "fewer than 3 answers"),
        (instruction("q", "a", rating=None), {}, "nobody rated it"),
        (instruction("q", "a", rating=2.5), {"min_rating": 3}, "mean human rating below 3"),
        (conversation("q", "a", rating=1), {"min_rating": 1.5}, "mean human rating below 1.5"),
        (instruction("q", "a", spread=3.0), {"max_spread": 2}, "people differ by more than 2 points"),
        (instruction("q", " "), {}, "empty output, and nobody wrote one"),
        (instruction(" \n", "a"), {}, "empty prompt"),
        (conversation("q", ""), {}, "empty message in the dialogue"),
        (pair("q", {"a": 5, " ": 1}), {}, "fewer than 2 completions with text"),
    ],
)
def test_a_row_is_refused_with_its_reason(row, config, reason):
    assert reasons([row], **config) == (0, [reason])


@pytest.mark.parametrize(
    ("row", "config"),
    [
        (instruction("q", "a", rating=2, correction="b"), {"min_rating": 4}),  # the better text is what counts
        (instruction("q", "", rating=None, correction="b"), {"min_rating": 4}),
        (pair("q", {"a": 2, "b": 1}), {"min_rating": 4}),  # compared, not passed or failed
        (instruction("q", "a", spread=2.0), {"max_spread": 2}),
        (instruction("q", "a", spread=None), {"max_spread": 2}),
    ],
)
def test_a_row_goes_on(row, config):
    assert reasons([row], **config) == (1, [])


def test_each_task_is_sampled_by_itself_and_keeps_its_order():
    rows = [instruction(f"질문 {n}", "답", perplexity=float(n), vector=[1.0, float(n % 2)]) for n in range(20)]
    rows += [pair(f"비교 {n}", {"가": 5, "나": 1}) for n in range(10)]
    found = outcome(rows, koquality=KoQualityConfig(length_groups=2, clusters=2, ratio=0.5))
    kept = found.rows.to_pylist()
    assert found.report["kept"] == {"preference": 5, "instruction": 10}
    assert {row["reason"] for row in found.dropped} == {"not in the KoQuality sample"}
    order = [row["id"] for row in rows]
    assert [row["id"] for row in kept] == sorted((row["id"] for row in kept), key=order.index)
    assert {(row["length"], row["sample_cluster"]) for row in kept if row["task"] == "preference"} == {(4, -1)}


def test_the_better_rated_of_near_duplicates_is_sampled():
    prompts = ["밤하늘의 별은 왜 반짝이는지 쉽게 설명해 주세요", "김치를 오래 두고 먹으려면 어떻게 해야 하나요?"]
    rows = [
        instruction(prompt + ending, "답", rating=rating, perplexity=5.0, vector=[1.0, 0.0])
        for prompt in prompts
        for ending, rating in [("", 3), ("!", 5), (".", 4)]
    ]
    found = outcome(rows, koquality=KoQualityConfig(length_groups=1, clusters=2, ratio=1 / 3))
    assert found.rows["instruction"].to_pylist() == [prompt + "!" for prompt in prompts]
    assert found.report["drops_by_task"]["instruction"] == {"near-duplicate of a row that stands for it": 4}
    apart = KoQualityConfig(length_groups=1, clusters=2, ratio=0.5, near_duplicates=None)
    assert outcome(rows, koquality=apart).report["samples"]["instruction"]["selected"] == 3


def test_the_original_sampling_loses_rows_with_a_reason_and_stops_where_it_stops():
    rows = [instruction(f"질문 {n}", "답", perplexity=float(n), vector=[1.0, float(n)]) for n in range(6)]
    rows.append(instruction("별", "답", perplexity=None, vector=[1.0, 0.0]))
    exact = KoQualityConfig(method="exact", length_groups=1, clusters=1, ratio=0.5)
    found = outcome(rows, koquality=exact)
    assert found.rows["instruction"].to_pylist() == ["질문 0", "질문 2", "질문 4"]
    assert found.dropped[-1]["reason"] == "no perplexity, as for a text of one token: the original drops it"
    with pytest.raises(UserError, match=r"has 6 rows .*, fewer than the 7 clusters"):
        outcome(rows, koquality=exact.model_copy(update={"clusters": 7}))


def test_vectors_of_another_length_count_as_none():
    vectors = [[1.0, 0.0], [0.0, 1.0], [1.0], None, [1.0, float("nan")], [1.0, None]]
    rows = [instruction(f"질문 {n}", "답", perplexity=1.0, vector=vector) for n, vector in enumerate(vectors)]
    found = outcome(rows, koquality=KoQualityConfig(length_groups=1, clusters=2))
    assert [cluster == -1 for cluster in found.rows["sample_cluster"].to_pylist()] == [False] * 2 + [True] * 4
    assert len(set(found.rows["sample_cluster"].to_pylist()[:2])) == 2


def test_an_empty_table_and_a_single_row():
    assert reasons([]) == (0, [])
    assert reasons([instruction("q", "a")], koquality=KoQualityConfig()) == (1, [])


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.builds(
            instruction,
            st.text(max_size=5),
            st.text(max_size=5),
            answers=st.integers(0, 2),
            rating=st.none() | st.integers(1, 5),
            perplexity=st.none() | st.floats(1, 9),
            vector=st.none() | st.just([1.0, 0.0]),
        ),
        max_size=15,
        unique_by=lambda row: row["id"],
    ),
    st.sampled_from([0.2, 1.0]),
    st.randoms(),
)
def test_no_row_is_lost_and_order_decides_nothing(rows, ratio, random):
    config = {"koquality": KoQualityConfig(length_groups=2, clusters=2, ratio=ratio), "min_rating": 2}
    first = outcome(rows, **config)
    assert first.rows.num_rows == round(ratio * first.report["passed_filters"])
    seen = first.rows["id"].to_pylist() + [row["id"] for row in first.dropped]
    assert sorted(seen) == sorted(row["id"] for row in rows)
    random.shuffle(rows)
    assert set(outcome(rows, **config).rows["id"].to_pylist()) == set(first.rows["id"].to_pylist())
