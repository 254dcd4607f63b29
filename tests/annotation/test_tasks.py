"""A row as Argilla's bulk endpoint takes it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.annotation.tasks import (
    agent_name,
    fields_of,
    record_of,
    suggestions_of,
    texts_in,
    unfit,
)
from lingo_hitl.judging.dialogue_quality.figures import FIGURES
from lingo_hitl.records import seen_texts

AGENT = re.compile(r"^[a-zA-Z0-9-_:\.\/\s]*[a-zA-Z0-9][a-zA-Z0-9-_:\.\/\s]*$")
"""What Argilla 2.8 accepts (`AGENT_REGEX`)."""

ROW = {
    "id": "f38f1ed531b48364",
    "task": "preference",
    "source": "s",
    "language": "ko",
    "instruction": "질문",
    "completions": ["하나", "둘"],
    "models": ["a", "b"],
    "ratings": [2.5, None],
    "confidence": [0.75, None],
    "judge": "gemini-pro + smollm2",
    "cluster": "별 · 우주",
    "perplexity": float("inf"),
    "vector": [0.6, 0.8],
}


def test_a_row_becomes_one_record():
    item = record_of(ROW, {"rating_1": "q1", "rating_2": "q2"})
    assert item["external_id"] == ROW["id"]
    assert item["fields"] == {"instruction": "질문", "completion_1": "하나", "completion_2": "둘"}
    assert item["vectors"] == {"meaning": [0.6, 0.8]}
    assert item["metadata"] == {
        "cluster": "별 · 우주", "language": "ko", "source": "s", "model": ["a", "b"], "judge_rating": 2.5, "length": 3,
    }  # fmt: skip


def test_a_dialogue_can_be_filtered_by_its_quality():
    figures = {"catchphrase_overuse": 0.5, "shrinking": None, "copying": 0.0, "speech_level_shift": 1 / 3}
    row = {**ROW, "task": "dialogue", "persona": "orbit", "messages": [{"role": "user", "content": "왜?"}], **figures}
    metadata = record_of({**row, "ratings": None, "confidence": None, "speech_level": "해요체"}, {})["metadata"]
    assert metadata["speech_level"] == "해요체" and metadata["persona"] == "orbit"
    assert {name: metadata.get(name) for name in FIGURES} == {**figures, "speech_level_shift": 0.333}


def test_only_texts_that_a_judge_rated_get_a_suggestion():
    suggestions = suggestions_of(ROW)
    assert list(suggestions) == ["rating_1"]
    assert suggestions["rating_1"]["value"] == 3
    assert suggestions["rating_1"]["score"] == 0.75


@pytest.mark.parametrize(("rating", "shown"), [(1.0, 1), (1.49, 1), (1.5, 2), (2.5, 3), (3.5, 4), (4.5, 5), (5.0, 5)])
def test_a_suggestion_is_the_nearest_whole_rating_and_half_goes_up(rating, shown):
    assert suggestions_of({**ROW, "ratings": [rating, None]})["rating_1"]["value"] == shown


@given(st.text(max_size=300))
def test_any_judge_has_a_name_that_argilla_takes(name):
    agent = agent_name(name)
    assert AGENT.match(agent)
    assert 1 <= len(agent) <= 200


def test_a_chat_that_argilla_cannot_hold_is_told_beforehand():
    message = {"role": "user", "content": "가"}
    assert unfit({"task": "dialogue", "messages": [message] * 500}) is None
    assert "500 messages" in unfit({"task": "dialogue", "messages": [message] * 501})
    assert "20000 characters" in unfit({"task": "dialogue", "messages": [{**message, "content": "가" * 20_001}]})
    assert "empty" in unfit({"task": "dialogue", "messages": [{**message, "content": ""}]})


TEXT = st.text(max_size=20)


@given(TEXT, st.lists(TEXT, min_size=2, max_size=4))
def test_what_is_shown_can_be_told_from_the_fields_again(instruction, texts):
    for row in (
        {"task": "instruction", "instruction": instruction, "output": texts[0]},
        {"task": "preference", "instruction": instruction, "completions": texts},
        {"task": "dialogue", "messages": [{"role": "user", "content": text} for text in texts]},
    ):
        assert texts_in(row["task"], fields_of(row)) == seen_texts(row)
