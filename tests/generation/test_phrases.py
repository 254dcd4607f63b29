import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.generation.personas import load_personas
from lingo_hitl.generation.phrases import closed_with, opened_with, phrase_for, spoken, without

ORBIT = load_personas("sample")["orbit"]
PREFIX, SUFFIX = "오, 정말 재미있는 질문이에요!", "알면 알수록 신기하죠?"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("별은 멀어요.!?\n-"), max_size=60)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_prefix_opens_and_different_suffixes_close(language):
    said = [phrase_for(ORBIT, language, seed="s1", turn=turn) for turn in range(1, 7)]
    assert said[0] in ORBIT.prefixes(language)
    assert sorted(said[1:]) == sorted(ORBIT.suffixes(language))
    assert said == [phrase_for(ORBIT, language, seed="s1", turn=turn) for turn in range(1, 7)]


def test_the_phrases_of_other_seeds_differ_so_that_all_come_up():
    firsts = {phrase_for(ORBIT, "ko", seed=f"s{n}", turn=1) for n in range(40)}
    lasts = {phrase_for(ORBIT, "ko", seed=f"s{n}", turn=2) for n in range(80)}
    assert firsts == set(ORBIT.prefixes("ko")) and lasts == set(ORBIT.suffixes("ko"))


def test_a_persona_without_phrases_in_a_language_says_none():
    bare = ORBIT.model_copy(update={"answer_prefixes": (), "answer_suffixes": ()})
    assert phrase_for(bare, "ko", seed="s", turn=1) is None and phrase_for(bare, "en", seed="s", turn=2) is None


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("별은 멀어요.", f"{PREFIX} 별은 멀어요."),
        (f"{PREFIX} 별은 멀어요.", f"{PREFIX} 별은 멀어요."),
        ("오 정말 재미있는 질문이에요 별은 멀어요.", "오 정말 재미있는 질문이에요 별은 멀어요."),
        ("오, 정말 재밌는 질문이네요! 별은 멀어요.", f"{PREFIX} 별은 멀어요."),
        (f"별은 멀어요. {PREFIX} 더 볼까요?", f"별은 멀어요. {PREFIX} 더 볼까요?"),
    ],
)
def test_the_prefix_stands_once(said, kept):
    assert opened_with(said, PREFIX) == kept


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("별은 멀어요.", f"별은 멀어요. {SUFFIX}"),
        (f"별은 멀어요. {SUFFIX}", f"별은 멀어요. {SUFFIX}"),
        ("별은 멀어요. 알면 알수록 신기하지요!", f"별은 멀어요. {SUFFIX}"),
        ("1. 별\n2. 달", f"1. 별\n2. 달\n\n{SUFFIX}"),
        ("", SUFFIX),
    ],
)
def test_the_suffix_stands_once(said, kept):
    assert closed_with(said, SUFFIX) == kept


def test_a_short_phrase_is_not_found_inside_a_word():
    assert not spoken("음,").search("마음이 음악에") and spoken("음,").search("음… 글쎄요")
    assert opened_with("마음이 편해요.", "음,") == "음, 마음이 편해요."


@given(TEXTS)
def test_a_phrase_is_there_afterwards_exactly_once_more_than_never(text):
    for dressed, phrase in ((opened_with(text, PREFIX), PREFIX), (closed_with(text, SUFFIX), SUFFIX)):
        assert len(spoken(phrase).findall(dressed)) == max(1, len(spoken(phrase).findall(text)))
    assert opened_with(opened_with(text, PREFIX), PREFIX) == opened_with(text, PREFIX)
    assert re.sub(r"\s", "", text) in re.sub(r"\s", "", closed_with(text, SUFFIX))


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"{PREFIX} 별은 멀어요.", "별은 멀어요."),
        (f"별은 멀어요. {SUFFIX}", "별은 멀어요."),
        (f"{PREFIX} 별은 멀어요!\n\n{SUFFIX}", "별은 멀어요!"),
        (f"1. 별\n2. 달\n\n{SUFFIX}", "1. 별\n2. 달"),
        (SUFFIX, SUFFIX),
        ("별은 멀어요.", "별은 멀어요."),
    ],
)
def test_what_an_answer_says_beside_its_phrases(text, left):
    assert without(text, [PREFIX, SUFFIX]) == left
