"""Which of the compared texts is chosen, and when a row makes no pair."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.config import Pairing
from lingo_hitl.judging.pairs import SAME_TEXT, TIE, plain
from lingo_hitl.records import identified
from lingo_hitl.release.preference import NO_VERDICT, pair_of
from tests.release.rows import pair

CAFE = unicodedata.normalize("NFD", "카페")


def made(row, margin=0.5, rejected="worst"):
    return pair_of(row, Pairing(margin=margin, rejected=rejected))


def test_best_and_worst_by_people():
    found = made(pair("왜?", {"가": 3, "나": 5, "다": 1}, models=["m", "n", "o"]))
    assert found["prompt"] == [{"role": "user", "content": "왜?"}]
    assert found["chosen"] == [{"role": "assistant", "content": "나"}]
    assert found["rejected"] == [{"role": "assistant", "content": "다"}]
    assert (found["chosen_rating"], found["rejected_rating"]) == (5.0, 1.0)
    assert (found["chosen_model"], found["rejected_model"]) == ("n", "o")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (pair("q", {"a": 3, "b": 3}), TIE),
        (pair("q", {"a": None, "b": None}), NO_VERDICT),
        (pair("q", {"a": 5, "b": None}), NO_VERDICT),
        (pair("q", {"a": 5, " ": 1}), NO_VERDICT),  # an empty text is no answer to compare with
        (pair("q", [("카페", 5), (f" {CAFE}\n", 1)]), SAME_TEXT),
        (pair("q", {"a": 5, "b": 1}, human_ratings=None, preferred=None), NO_VERDICT),
        (
            pair("q", {"a": 5, "b": 1}, human_ratings=[3.25, 3.0]),
            "mean human ratings of chosen and rejected differ by less than 0.5",
        ),
        (  # two of three ranked "a" best, and the third found it so bad that the mean says the opposite
            pair("q", {"a": 5, "b": 1}, preferred=[2 / 3, 1 / 3], human_ratings=[3.0, 3.7]),
            "mean human ratings of chosen and rejected differ by less than 0.5",
        ),
    ],
)
def test_no_pair(row, reason):
    assert made(row) == reason


def test_a_ranking_alone_is_a_verdict():
    found = made(pair("q", {"a": 5, "b": 1}, preferred=[0.25, 0.75], human_ratings=[None, None]))
    assert (found["chosen"][0]["content"], found["chosen_rating"]) == ("b", None)


def test_a_text_that_people_left_out_is_not_the_worst():
    found = made(pair("q", {"a": 5, "b": 3, "c": None}))
    assert found["rejected"][0]["content"] == "b"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", " ", "a", "a ", "카페", CAFE, "b", "\u2028"]),
            st.none() | st.sampled_from([1.0, 2.0, 2.4, 3.0, 5.0]),
            st.sampled_from([0.0, 0.5, 1.0]),
        ),
        min_size=2,
        max_size=4,
    ),
    st.sampled_from([0.1, 0.5, 2.0]),
    st.booleans(),
    st.sampled_from(["worst", "second", "random"]),
)
def test_whatever_people_said_a_pair_is_a_pair(answers, margin, ranked, rejected):
    row = identified(
        {
            **pair("q", [(text, rating) for text, rating, _ in answers]),
            "preferred": [share for *_, share in answers] if ranked else None,
        }
    )
    found = made(row, margin, rejected)
    if isinstance(found, str):
        return
    chosen, rejected = found["chosen"][0]["content"], found["rejected"][0]["content"]
    assert plain(chosen) and plain(rejected) and plain(chosen) != plain(rejected)
    if found["chosen_rating"] is not None and found["rejected_rating"] is not None:
        assert found["chosen_rating"] - found["rejected_rating"] >= margin
