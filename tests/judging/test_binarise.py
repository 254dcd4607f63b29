"""Which of a row's rated texts become chosen and rejected, and what becomes of the rest."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.config import BinariseConfig, Pairing
from lingo_hitl.judging.binarise import NO_RATING, OTHER_TASK, as_lines, binarise
from lingo_hitl.judging.pairs import SAME_TEXT, TIE, chosen_and_rejected, outliers, plain
from lingo_hitl.records import GENERATED, JUDGED, PAIRS, identified, to_table

COLUMNS = [*GENERATED.names, *JUDGED.names]


def judged(prompt, ratings, judgements=(), **more):
    row = {
        "task": "preference",
        "instruction": prompt,
        "completions": [f"{prompt} {n}" for n in range(len(ratings))],
        "models": [f"m{n}" for n in range(len(ratings))],
        "ratings": ratings,
        "judgements": [{"judge": "j", "aspect": aspect, "ratings": given} for aspect, given in judgements],
        **more,
    }
    return identified({**dict.fromkeys(COLUMNS), "source": "s", "source_id": "1", "language": "ko", **row})


def pairs_of(*rows, **options):
    outcome = binarise(to_table(rows, pa.schema([*GENERATED, *JUDGED])), BinariseConfig(**options))
    assert outcome.rows.schema == PAIRS
    return outcome.rows.to_pylist(), [drop["reason"] for drop in outcome.dropped], outcome.report


def texts(pair):
    return pair["chosen"][0]["content"], pair["rejected"][0]["content"]


@pytest.mark.parametrize(("rejected", "text"), [("worst", "q 2"), ("second", "q 3")])
def test_chosen_is_the_best_and_rejected_by_the_rule(rejected, text):
    ((pair,), dropped, report) = pairs_of(judged("q", [3.0, 5.0, 1.0, 4.0]), rejected=rejected)
    assert texts(pair) == ("q 1", text) and dropped == []
    assert pair["prompt"] == [{"role": "user", "content": "q"}]
    assert (pair["chosen_rating"], pair["chosen_model"]) == (5.0, "m1")
    assert report["chosen by model"] == {"m1": 1}


def test_a_random_lower_text_is_the_same_whatever_the_order_of_rows_and_another_with_another_seed():
    rows = [judged(f"q{n}", [3.0, 5.0, 1.0, 4.0]) for n in range(40)]
    drawn = {texts(pair) for pair in pairs_of(*rows, rejected="random")[0]}
    assert drawn == {texts(pair) for pair in pairs_of(*reversed(rows), rejected="random")[0]}
    assert {rejected[-1] for _, rejected in drawn} == {"0", "2", "3"}
    assert drawn != {texts(pair) for pair in pairs_of(*rows, rejected="random", seed=1)[0]}


def test_rows_without_a_pair_say_why():
    rows = [
        judged("tie", [3.0, 3.0]),
        judged("close", [3.0, 2.75]),
        judged("one", [3.0, None]),
        judged("same", [5.0, 1.0], completions=["카페", " 카페\n"]),
        judged("talk", [3.0], task="dialogue", messages=[], completions=None),
        judged("second", [4.0, 4.0, 1.0]),
    ]
    found, dropped, _ = pairs_of(*rows, rejected="second")
    assert found == []
    assert dropped == [
        TIE,
        "ratings of chosen and rejected differ by less than 0.5",
        NO_RATING,
        SAME_TEXT,
        OTHER_TASK,
        TIE,
    ]


def test_one_aspect_may_decide_instead_of_their_mean():
    row = judged("q", [3.0, 3.5], [("depth", [5.0, 2.0]), ("honesty", [1.0, 5.0])])
    assert texts(pairs_of(row)[0][0]) == ("q 1", "q 0")
    assert texts(pairs_of(row, by="depth")[0][0]) == ("q 0", "q 1")
    assert pairs_of(row, by="creativity")[1] == [NO_RATING]


def test_gaps_far_from_the_mean_gap_are_left_out():
    rows = [judged(f"q{n}", [4.0, 3.0]) for n in range(20)] + [judged("broken", [5.0, 1.0])]
    assert len(pairs_of(*rows)[0]) == 21
    found, dropped, report = pairs_of(*rows, max_gap_deviation=3)
    assert len(found) == 20 and report["mean gap"] == 1.0
    assert dropped == ["the gap between chosen and rejected is more than 3 standard deviations from the mean gap"]
    assert outliers([1.0, None, 1.0], 0.5) == [False] * 3  # gaps that do not differ have no outlier


def test_lines_are_what_trl_takes():
    (row,) = pairs_of(judged("질문", [1.0, 2.0]))[0]
    (line,) = as_lines(pa.Table.from_pylist([row], schema=PAIRS)).splitlines()
    assert "질문" in line and json.loads(line)["rejected"] == [{"role": "assistant", "content": "질문 0"}]


@given(
    st.lists(st.tuples(st.sampled_from(["a", "a ", "b"]), st.sampled_from([1.0, 2.0, 2.4])), min_size=2, max_size=4),
    st.sampled_from([0.1, 0.5, 2.0]),
    st.sampled_from(["worst", "random", "second"]),
    st.integers(0, 3),
)  # fmt: skip
def test_a_pair_keeps_the_margin_and_takes_the_best(rated, margin, rejected, seed):
    ratings = [rating for _, rating in rated]
    found = chosen_and_rejected(
        {n: text for n, (text, _) in enumerate(rated)},
        lambda n: (ratings[n],),
        ratings,
        Pairing(margin=margin, rejected=rejected, seed=seed),
        row_id="x",
        too_close="close",
    )
    if isinstance(found, str):
        # Only the random rule looks further than one candidate.
        fits = [
            r
            for t, r in rated
            if max(ratings) - r >= margin and plain(t) != plain(rated[ratings.index(max(ratings))][0])
        ]
        assert found in (TIE, SAME_TEXT, "close") and not (rejected == "random" and fits)
        return
    best, worst = found
    assert ratings[best] == max(ratings) and ratings[best] - ratings[worst] >= margin
    assert plain(rated[best][0]) != plain(rated[worst][0])
    if rejected == "worst":
        assert ratings[worst] == min(ratings)
    if rejected == "second":
        assert sorted(ratings)[-2] == ratings[worst]
