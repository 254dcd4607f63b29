from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.mapping.naming import LONGEST, NOISE_NAME, name_clusters
from tests.mapping.topics import SPACE, TRAVEL, TROUBLE


def names(*groups: list[str], noise: list[str] | None = None) -> dict[int, str]:
    labelled = [(text, label) for label, group in enumerate(groups) for text in group]
    labelled += [(text, -1) for text in noise or []]
    return name_clusters([text for text, _ in labelled], np.array([label for _, label in labelled], dtype=np.int32))


def test_names_are_made_of_the_words_that_tell_clusters_apart():
    found = names(SPACE, TRAVEL, noise=["아무 말"])
    assert "행성" in found[0]
    assert "여행" in found[1]
    assert found[-1] == NOISE_NAME
    assert not any(word in name for name in found.values() for word in ("알리", "설명", "방법", "어떻"))


def test_two_nouns_written_as_one_word_stay_one():
    asked = ["남자친구가 화났어", "남자친구 선물 추천", "남자친구랑 싸웠어", "남자친구가 보고 싶어"]
    assert "남자친구" in names(asked, SPACE)[0]


def test_english_names_leave_stopwords_out():
    cooking = ["How do I cook the pasta?", "What pasta sauce is the best?", "Explain how to boil pasta."]
    assert names(cooking, SPACE)[0].startswith("pasta")


def test_clusters_of_the_same_words_have_different_names():
    found = names(SPACE, SPACE, SPACE, [""], [""], ["!?"])
    assert len(set(found.values())) == 6


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.one_of(st.text(max_size=60), st.sampled_from([*TROUBLE, *SPACE])), st.integers(-1, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_any_name_is_short_unique_and_without_comma(rows):
    labels = np.array([label for _, label in rows], dtype=np.int32)
    found = name_clusters([text for text, _ in rows], labels)
    assert set(found) == set(labels.tolist())
    assert len(set(found.values())) == len(found)
    for name in found.values():
        assert 0 < len(name) <= LONGEST
        assert "," not in name
        name.encode("utf-8")
