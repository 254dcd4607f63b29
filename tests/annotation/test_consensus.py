"""Several people's answers as one view."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.annotation.consensus import consensus, preferred_shares
from lingo_hitl.ledger import Event
from lingo_hitl.records import GENERATED, identified, to_table

PAIR = identified({"task": "preference", "instruction": "q", "completions": ["a", "b"], "models": ["m", "n"]})
ALONE = identified({"task": "instruction", "instruction": "q", "output": "a"})


def answer(row, person, at="2026-01-01", *, text=None, status="submitted", **values):
    body = {"status": status, "values": values, "at": at, "text": text or row["id"]}
    return Event("answered", "d", row["id"], person, body)


def view(rows, answers):
    return consensus(to_table(rows, GENERATED), answers).rows.to_pylist()


def test_means_preference_and_spread():
    [row] = view([PAIR], [answer(PAIR, "kim", rating_1=5, rating_2=2), answer(PAIR, "lee", rating_1=3, rating_2=4)])
    assert (row["answers"], row["human_ratings"], row["preferred"]) == (2, [4.0, 3.0], [0.5, 0.5])
    assert row["spread"] == 2.0
    assert row["labelers"] == ["kim", "lee"]


def test_only_submitted_answers_about_this_very_text_count():
    answers = [
        answer(ALONE, "kim", rating=5),
        answer(ALONE, "lee", status="draft", rating=1),
        answer(ALONE, "choi", status="discarded"),
        answer(ALONE, "park", text="0" * 16, rating=1),
    ]
    outcome = consensus(to_table([ALONE], GENERATED), answers)
    assert outcome.rows["human_ratings"].to_pylist() == [[5.0]]
    assert outcome.report["answers_about_a_text_changed_in_argilla"] == 1


def test_discards_are_counted_beside_answers():
    [row] = view([ALONE], [answer(ALONE, "kim", rating=5), answer(ALONE, "lee", status="discarded")])
    assert (row["answers"], row["discards"]) == (1, 1)


def test_answers_to_rows_that_are_gone_are_told():
    other = identified({"task": "instruction", "instruction": "q", "output": "an older text"})
    outcome = consensus(to_table([ALONE], GENERATED), [answer(other, "kim", rating=5)])
    assert outcome.report["answers_to_rows_that_are_no_longer_here"] == 1


def test_the_latest_correction_is_taken():
    answers = [
        answer(ALONE, "kim", "2026-01-02", rating=2, correction="새 글"),
        answer(ALONE, "lee", "2026-01-01", rating=2, correction="옛 글"),
    ]
    assert view([ALONE], answers)[0]["correction"] == "새 글"


def test_a_row_that_nobody_answered_goes_on_without_a_view():
    [row] = view([PAIR], [])
    assert (row["answers"], row["human_ratings"], row["spread"]) == (0, [None, None], None)


@given(
    st.integers(2, 4).flatmap(
        lambda k: st.lists(st.lists(st.none() | st.integers(1, 5), min_size=k, max_size=k), max_size=6)
    )
)
def test_preferred_shares_are_shares(given_ratings):
    texts = len(given_ratings[0]) if given_ratings else 2
    shares = preferred_shares(given_ratings, texts)
    voted = any(rating is not None for ratings in given_ratings for rating in ratings)
    assert sum(shares) == pytest.approx(1.0 if voted else 0.0)
    assert all(0 <= share <= 1 + 1e-9 for share in shares)
