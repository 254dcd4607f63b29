"""What becomes a supervised example, and what does not."""

from __future__ import annotations

import pytest

from lingo_hitl.config import Pairing
from lingo_hitl.release.examples import examples_of
from lingo_hitl.release.trainers import LOW, NO_ANSWER, NO_TEXT, UNRATED, example_of
from tests.release.rows import conversation, instruction, pair


def texts(example):
    return [message["content"] for message in example["messages"]]


def test_a_correction_takes_the_place_of_what_was_rated():
    example = example_of(instruction("q", "poor", rating=1, correction=" better "))
    assert texts(example) == ["q", "better"]
    assert (example["corrected"], example["rating"]) == (True, None)
    assert texts(example_of(conversation("q", "a", "q2", "a2", rating=2, correction="b"))) == ["q", "a", "q2", "b"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (instruction("q", "a", rating=None), UNRATED),
        (instruction("q", "a", human_ratings=None), UNRATED),
        (instruction("q", "a", rating=2.9), LOW),
        (instruction("q", "", rating=5), NO_TEXT),
        (conversation("q", "a", "q2"), NO_ANSWER),
        (conversation("q", " ", "q2", "a"), NO_TEXT),
    ],
)
def test_no_example(row, reason):
    assert example_of(row) == reason


def test_the_chosen_side_of_a_pair_is_an_example_only_where_it_is_good():
    made = examples_of([pair("q", {"good": 4, "bad": 1}), pair("r", {"poor": 2, "worse": 1})], Pairing())
    assert len(made.pairs) == 2
    assert [texts(example) for example in made.conversations] == [["q", "good"]]


def test_the_same_conversation_is_released_once_and_under_the_row_that_was_validated_for_it():
    own = instruction("q", "good")
    for rows in ([own, pair("q", {"good": 5, "bad": 1})], [pair("q", {"good": 5, "bad": 1}), own]):
        made = examples_of(rows, Pairing())
        assert [example["id"] for example in made.conversations] == [own["id"]]
        assert not made.dropped
