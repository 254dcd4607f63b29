# ruff: noqa: E501 (the replies stand as they came)
"""Replies as judges write them: the right rating on the right text, or none, never a shifted one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.judging.parse import parse_ratings, parse_score

N = None
GOOD = "#### Output for Text {}\nRating: {}\nRationale: {}\n"

REPLIES = [
    # the format that was asked for
    (
        "#### Output for Text 1\nRating: 4\nRationale: Good.\n\n#### Output for Text 2\nRating: 2\nRationale: Thin.",
        [4, 2],
    ),
    ("#### 글 1의 평가\n평점: 5\n근거: 정확합니다.\n\n#### 글 2의 평가\n평점: 1\n근거: 틀렸습니다.", [5, 1]),
    (
        "#### Output for Text 1\nType: 1, 2\nRationale: x\nRating: 3\nRationale: y\n\n#### Output for Text 2\nType: None\nRationale: x\nRating: 5\nRationale: y",
        [3, 5],
    ),
    # a preamble, paragraphs, a summary
    (
        "Sure! Here is my assessment of the two texts.\n\n#### Output for Text 1\nRating: 4\nRationale: A.\n\nSecond paragraph.\n\n#### Output for Text 2\nRating: 3\nRationale: B.",
        [4, 3],
    ),
    (
        "네, 두 글을 평가하겠습니다.\n\n글 1\n평점: 2점\n근거: 첫 문단.\n\n둘째 문단입니다.\n\n글 2\n평점: 4점\n근거: 좋습니다.",
        [2, 4],
    ),
    ("Ratings go from 1 to 5.\nRating scale: 1-5\n\nText 1\nRating: 4\n\nText 2\nRating: 5", [4, 5]),
    ("Text 1\nRating: 4\nText 2\nRating: 5\n\nIn summary, Text 1 is weaker. The average rating is 4.5.", [4, 5]),
    ("Text 1 is better than Text 2.\n\nText 1: 4\nText 2: 2", [4, 2]),
    ("Thinking: Text 2 looks wrong.\n\n**Text 1** — Rating: 5\n**Text 2** — Rating: 2", [5, 2]),
    # how a label looks
    ("**Text 1:**\nRating: 4\n**Text 2:**\nRating: 3", [4, 3]),
    ("<text 1>\nRating: 4\n<text 2>\nRating: 3", [4, 3]),
    ("[Text 1] Rating: 4\n[Text 2] Rating: 3", [4, 3]),
    ("Text #1: 4\nText #2: 3", [4, 3]),
    ("Response 1 - 4/5\nResponse 2 - 3/5", [4, 3]),
    ("Answer 1 (4/5): fine\nAnswer 2 (2/5): poor", [4, 2]),
    ("Rating for Text 1: 4\nRating for Text 2: 5", [4, 5]),
    ("Rating 1: 4\nRating 2: 5", [4, 5]),
    ("First text: 4\nSecond text: 1", [4, 1]),
    ("Text A: 4\nText B: 2", [4, 2]),
    ("1번 답변: 4점\n2번 답변: 2점", [4, 2]),
    ("1번: 4점\n2번: 5점", [4, 5]),
    ("첫 번째 글: 4점\n두 번째 글: 5점", [4, 5]),
    ("답변 1에 대한 평점: 3\n답변 2에 대한 평점: 4", [3, 4]),
    ("텍스트 1 평점: 3\n텍스트 2 평점: 4", [3, 4]),
    ("[글 1] 점수: 3점, 근거: 짧다\n[글 2] 점수: 5점, 근거: 좋다", [3, 5]),
    ("| Text 1 | 4 | good |\n| Text 2 | 3 | meh |", [4, 3]),
    ("Text 2: 3\nText 1: 5", [5, 3]),
    # how a value looks
    ("글 1: 4점\n글 2: 2.5점", [4, 2.5]),
    ("글 1: ４점\n글 2： ３／５", [4, 3]),
    ("글 ①: 4\n글 ②: 5", [4, 5]),
    ("글 1: 5점 만점에 4점\n글 2: 5점 중 2점", [4, 2]),
    ("글 1 평점: ★★★★☆\n글 2 평점: ★★☆☆☆", [4, 2]),
    ("Text 1\nRating: 4 out of 5\nText 2\nRating: 3 stars", [4, 3]),
    ("Text 1\nRating: **4**\nText 2\n**Rating:** 5", [4, 5]),
    ("Text 1\nRating (1-5): 4\nText 2\nRating (1-5): 3", [4, 3]),
    ('Text 1\nRating: [4]\nText 2\nRating: "5"', [4, 5]),
    ("Text 1\nRating: 4 - Very Good\nText 2\nRating: 5. Excellent", [4, 5]),
    ("Text 1\nRating:\n4\nText 2\nRating:\n5", [4, 5]),
    ("Text 1\nRating: four\nText 2\nRating: Three", [4, 3]),
    ("Text 1\nrating = 4\nText 2\nRATING - 3", [4, 3]),
    # missing, refused, out of range
    ("Text 1\nRating: 4\nText 2\nRationale: nothing to say", [4, N]),
    ("Text 2\nRating: 4", [N, 4]),
    ("Text 1\nRating: N/A\nText 2\nRating: 3", [N, 3]),
    ("글 1\n평점: 해당 없음\n글 2\n평점: 3", [N, 3]),
    ("Text 1\nRating: 9\nText 2\nRating: 3", [N, 3]),
    ("Text 1\nRating: 0\nText 2\nRating: 5", [N, 5]),
    ("Text 1\nRating: 45\nText 2\nRating: -3", [N, N]),
    ("Text 1\nRating: 8/10\nText 2\nRating: 3", [N, 3]),
    ("글 1: 100점 만점에 80점\n글 2: 3점", [N, 3]),
    ("Text 1\nRating: 3-4\nText 2\nRating: 3 to 4", [N, N]),
    ("Text 1\nRating: 80%\nText 2\nRating: 4", [N, 4]),
    ("Text 1\nRating: 4\nRating: 2\nText 2\nRating: 5", [N, 5]),
    ("Text 1\nRating: 4\nText 2\nRating: 5\nText 1\nRating: 3", [N, 5]),
    ("Text 1: 4 errors\nText 2: 3", [N, 3]),
    # labels that the texts do not have
    ("Text 1\nRating: 4\nText 2\nRating: 3\nText 3\nRating: 5", [4, 3]),
    ("Text 0\nRating: 4\nText 1\nRating: 3", [N, N]),
    ("Text 0\nRating: good\nText 1\nRating: 3\nText 2\nRating: 2", [N, N]),
    ("Text 2\nRating: 4\nText 3\nRating: 3", [N, N]),
    # without labels
    ("Rating: 4\nRationale: A.\n\nRating: 3\nRationale: B.", [4, 3]),
    ("1. 4\n2. 3", [4, 3]),
    ("1. Rating: 4\n   Rationale: A\n2. Rating: 3\n   Rationale: B", [4, 3]),
    ("4\n3", [4, 3]),
    ("Rating: 4", [N, N]),
    ("Rating: 4\nRating: 3\nRating: 5", [N, N]),
    ("Rating: good\nRating: 4", [N, 4]),
    ("Rating: 4\nRationale:\n1. true\n2. short", [N, N]),
    ("두 글 모두 훌륭합니다. 첫째가 조금 더 낫습니다.", [N, N]),
    ("I cannot rate these texts.", [N, N]),
    ("", [N, N]),
    # JSON
    ('{"ratings": [4, 2], "rationales": ["a", "b"]}', [4, 2]),
    ('```json\n{"ratings": ["4", "2점"]}\n```', [4, 2]),
    ('Here you are:\n{"ratings": [4]}', [N, N]),
    ('{"ratings": [4, 3, 5]}', [N, N]),
    ('{"ratings": [4, null]}', [4, N]),
    ('[{"rating": 4, "rationale": "a"}, {"rating": 2}]', [4, 2]),
    ('[{"text": 2, "rating": 4}, {"text": 1, "rating": 2}]', [2, 4]),
    ('{"Text 1": {"rating": 4, "rationale": "a"}, "Text 2": {"rating": 9}}', [4, N]),
    ('{"1": 4, "2": 5}', [4, 5]),
    ('{"글 1": {"평점": 4, "근거": "좋다"}, "글 2": {"평점": 3}}', [4, 3]),
    ('{"text": 1, "rating": 4}\n{"text": 2, "rating": 3}', [4, 3]),
    ('{"annotations": [{"id": 1, "score": 4}, {"id": 2, "score": 1}]}', [4, 1]),
    ("[4, 2]", [4, 2]),
    ('[{"rating": 4}]', [N, N]),
]

SINGLE = [
    ("4", 4), ("4점", 4), ("4점입니다.", 4), ("4/5", 4), ("３점", 3), ("★★★☆☆", 3), ("5점 만점에 3점", 3), ("Rating: 4\nRationale: ok", 4),
    ("평점: 3.5\n근거: 좋다", 3.5), ("점수 : 4", 4), ("The answer is right. Rating: 4", 4), ("Rating: 4\n\nOverall rating: 4", 4),
    ("Rating: 4\nRating: 3", N), ("Text 1: 4", 4), ("4\nBecause it is right.", 4), ("4 reasons", N), ('{"rating": 4, "rationale": "a"}', 4),
    ("I would give 4", N), ("1~5점 중 선택", N), ("Rating: 4.5/5", 4.5), ("평점: 4, 3", N), ("Score: **3** (good)", 3),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "ratings"), REPLIES)
def test_ratings_of_two_texts(reply, ratings):
    verdicts = parse_ratings(reply, 2)
    assert [v.rating for v in verdicts] == ratings
    assert all(v.fault for v in verdicts if v.rating is None)


@pytest.mark.parametrize(("reply", "rating"), SINGLE)
def test_the_rating_of_one_text(reply, rating):
    assert [v.rating for v in parse_ratings(reply, 1)] == [rating]


def test_rationales_stay_with_their_ratings_and_keep_their_characters():
    reply = "알겠습니다.\n\n**글 1**\n평점：４점\n근거：첫 문단（괄호）.\n\n둘째 문단.\n\n---\n**글 2**\n근거: 앞선 근거\n평점: 2\n근거: 뒤의 근거"
    assert [v.rationale for v in parse_ratings(reply, 2)] == ["첫 문단（괄호）.\n\n둘째 문단.", "뒤의 근거"]
    assert [v.rationale for v in parse_ratings('{"ratings": [4, 2], "rationales": ["가", "나"]}', 2)] == ["가", "나"]


def test_scores_come_in_halves():
    assert parse_score("점수: 3.5\n근거: 대체로 맞다").rating == 3.5
    assert parse_score("Score: 3.7").fault == "3.7 is not a whole or half step"
    assert parse_score("10").fault == "its rating is outside 1 to 5"


prose = st.lists(
    st.sampled_from(
        [
            "It is good.",
            "두 글 중에 낫다.",
            "In 2024, 3 of 5 people agreed.",
            "",
            "- a point",
            "1. first\n2. second",
            "“quoted”",
        ]
    ),
    max_size=4,
).map("\n".join)
values = st.integers(1, 5)
looks = st.sampled_from(["{}", "{}점", "{}/5", "**{}**", "{} out of 5"])
heads = st.sampled_from(
    [("#### Output for Text {}", "Rating: ", "Rationale: "), ("**글 {}**", "평점: ", "근거: "), ("Text {}:", "Rating: ", "Reason: "),
     ("{}번 답변", "점수: ", "이유: ")]
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.data(), st.lists(values, min_size=2, max_size=4), heads, looks, prose)
def test_labelled_replies_are_read_whole_in_any_order_and_around_any_prose(data, ratings, head, look, before):
    order = data.draw(st.permutations(range(len(ratings))))
    label, key, reason = head
    parts = [f"{label.format(i + 1)}\n{key}{look.format(ratings[i])}\n{reason}{data.draw(prose)}\n" for i in order]
    verdicts = parse_ratings("\n".join([before, *parts]), len(ratings))
    assert [v.rating for v in verdicts] == ratings


@settings(max_examples=80, deadline=None)
@given(st.lists(values, min_size=2, max_size=4), heads, st.data())
def test_a_lost_part_never_moves_a_rating(ratings, head, data):
    """Whatever lines go missing, a text has its own rating or none."""
    label, key, reason = head
    lines = [
        line for i, r in enumerate(ratings, start=1) for line in (label.format(i), f"{key}{r}", f"{reason}because")
    ]
    gone = data.draw(st.sets(st.sampled_from([n for n in range(len(lines)) if n % 3])))
    left = [line for n, line in enumerate(lines) if n not in gone]
    got = [v.rating for v in parse_ratings("\n".join(left), len(ratings))]
    assert all(rating in (None, ratings[i]) for i, rating in enumerate(got))


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.text(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["ratings", "rating", "1", "Text 2", "text"]), inner, max_size=3)
            ),
            max_leaves=8,
        ).map(json.dumps),
    ),
    st.integers(1, 4),
)
def test_no_reply_whatever_crashes_the_parser(reply, count):
    verdicts = parse_ratings(reply, count)
    assert len(verdicts) == count
    assert all((v.rating is None) == bool(v.fault) for v in verdicts)
    assert all(v.rating is None or 1 <= v.rating <= 5 for v in verdicts)


def test_a_reply_of_brackets_or_of_digits_is_read_in_no_time():
    assert parse_ratings("[" * 20_000, 2)[0].rating is None
    assert parse_ratings('{"ratings": [' + "9" * 5_000 + ", 1]}", 2)[0].rating is None
    assert parse_ratings("Rating: " * 5_000, 2)[0].rating is None
