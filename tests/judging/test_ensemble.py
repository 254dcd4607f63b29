import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.judging.ensemble import Judgement, Opinion, combine
from lingo_hitl.judging.probabilities import expectation
from lingo_hitl.judging.verdict import Verdict

ratings = st.floats(1, 5)
opinions = st.builds(
    Opinion,
    st.sampled_from(["a", "b", "c"]),
    st.sampled_from(["depth", "honesty"]),
    st.builds(Verdict, st.none() | ratings, st.none() | st.floats(0, 2)),
)


def test_aspects_are_averaged_within_a_judge_and_then_the_judges():
    verdicts = [("a", "depth", 1.0), ("a", "honesty", 2.0), ("b", "depth", 4.5), ("b", "honesty", None)]
    judged = combine([Opinion(j, a, Verdict(r, rationale=f"{j}{a}")) for j, a, r in verdicts])
    assert judged.rating == 3.0
    assert judged.confidence == pytest.approx(1 - 1.5 / 2)  # the judges' means, 1.5 and 4.5, lie 1.5 from theirs
    assert judged.rationale == "[a · depth] adepth\n[a · honesty] ahonesty\n[b · depth] bdepth"


def test_confidence_counts_doubt_within_and_between_judges():
    judged = combine([Opinion("a", "depth", Verdict(2.0, 1.0)), Opinion("b", "depth", Verdict(3.0, 0.0))])
    assert judged.confidence == pytest.approx(1 - math.sqrt(0.5 + 0.25) / 2)
    assert combine([Opinion("a", "depth", Verdict(4.0, 0.5, "why"))]) == Judgement(4.0, 0.75, 0.5, rationale="why")


def test_a_single_written_rating_has_no_confidence_and_no_rating_is_no_judgement():
    assert combine([Opinion("a", "depth", Verdict(4.0))]).confidence is None
    assert combine([Opinion("a", "depth", Verdict(fault="prose"))]) == combine([]) == Judgement()


@given(st.lists(opinions, max_size=8))
def test_ratings_and_confidence_stay_on_their_scales(given_opinions):
    judged = combine(given_opinions)
    rated = [o.verdict.rating for o in given_opinions if o.verdict.rating is not None]
    assert (judged.rating is None) == (not rated)
    if rated:
        assert min(rated) - 1e-9 <= judged.rating <= max(rated) + 1e-9
        assert judged.confidence is None or 0 <= judged.confidence <= 1


def test_expectation_and_its_spread():
    assert expectation(np.array([0, 0, 0, 1.0, 0])) == (4.0, 0.0)
    assert expectation(np.array([0.5, 0, 0, 0, 0.5])) == (3.0, 2.0)
    mean, spread = expectation(np.full(5, 0.2))
    assert mean == pytest.approx(3) and spread == pytest.approx(math.sqrt(2))
