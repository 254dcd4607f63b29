from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.models.kiwi import DIM, analyse, hashed_word, perplexity, sentence_vectors

NATURAL = "나는 오늘 아침에 학교에 갔다."
SCRAMBLED = "학교에 아침 갔다에 나는 오늘을."


def test_scrambled_words_are_less_likely_than_a_sentence():
    natural, scrambled = perplexity([NATURAL, SCRAMBLED])
    assert natural < 60 < scrambled


def test_a_blank_text_has_no_perplexity():
    found = perplexity(["", "  \n", NATURAL])
    assert math.isnan(found[0])
    assert math.isnan(found[1])
    assert math.isfinite(found[2])


def test_nonsense_has_a_large_but_finite_perplexity():
    found = perplexity(["가" * 3000, "\ud800\ud800", "\0", "a" * 20_000])
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("text", "paraphrase", "other"),
    [
        ("블랙홀은 어떻게 생기나요?", "별이 무너져 블랙홀이 되는 과정을 알려 줘.", "김치찌개를 맛있게 끓이는 법은?"),
        (
            "두통이 심하면 무슨 약을 먹어야 하나요?",
            "머리가 아플 때 먹는 진통제를 추천해 줘.",
            "환율이 오르면 왜 수입이 줄까?",
        ),
        ("비행기 표를 싸게 사는 법", "항공권을 저렴하게 예약하려면?", "세종대왕은 왜 한글을 만들었나요?"),
        (
            "How do planets orbit the sun?",
            "The planet is orbiting around its sun.",
            "Explain how vaccines protect bodies.",
        ),
    ],
)
def test_texts_about_the_same_are_near(text, paraphrase, other):
    first, second, third = sentence_vectors([text, paraphrase, other])
    assert first @ second > first @ third + 0.15


def test_words_of_a_question_do_not_decide_what_it_is_about():
    asked, told, other = sentence_vectors(
        ["행성의 궤도를 설명해 주세요.", "행성은 궤도를 따라 돈다.", "볶음밥 만드는 방법을 설명해 주세요."]
    )
    assert asked @ told > asked @ other + 0.3


def test_a_word_is_near_words_of_the_same_letters():
    planet, planets, cooking = hashed_word("planet"), hashed_word("planets"), hashed_word("cooking")
    assert planet @ planets > 0.3 > abs(planet @ cooking)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_a_vector_depends_on_its_text_alone(texts):
    together = sentence_vectors(texts)
    assert together.shape == (len(texts), DIM)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    for text, vector in zip(texts, together, strict=True):
        assert sentence_vectors([text])[0].tobytes() == vector.tobytes()


def test_a_very_long_text_is_read_in_pieces_and_loses_nothing():
    sentence = "긴 글은 나누어 읽습니다. "
    found = analyse([sentence * 1000, "띄" * 10_000])
    assert (
        "".join(m.form for m in found[0].morphemes) == "".join(m.form for m in analyse([sentence])[0].morphemes) * 1000
    )
    assert sum(len(m.form) for m in found[1].morphemes) == 10_000
    assert perplexity([sentence * 1000])[0] == pytest.approx(perplexity([sentence * 100])[0], rel=0.05)
