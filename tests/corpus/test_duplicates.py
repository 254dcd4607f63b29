import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.config import Corpus
from lingo_hitl.corpus.duplicates import BATCH_TEXTS, bands_of, near_duplicate_groups, normalised
from lingo_hitl.corpus.seeds import read_corpus

SENTENCE = "서울에서 부산까지 기차를 타고 가면 시간이 얼마나 걸리는지 자세히 알려 주세요."


def pieces(text):
    text = normalised(text)
    return {text[n : n + 3] for n in range(len(text) - 2)} if len(text) > 3 else {("whole", text)}


def jaccard(one, other):
    return len(one & other) / len(one | other)


def by_brute_force(texts, similarity):
    """The partition that comparing every pair gives, as the smallest position of each one's component."""
    sets = [pieces(text) for text in texts]
    label = list(range(len(texts)))
    for right in range(len(texts)):
        for left in range(right):
            if jaccard(sets[left], sets[right]) >= similarity:
                new, old = sorted((label[left], label[right]))
                label = [new if name == old else name for name in label]
    return label


def edited(text, changes, rng):
    letters = list(text)
    for place in rng.sample(range(len(letters)), changes):
        letters[place] = chr(rng.randrange(0xAC00, 0xD7A3))
    return "".join(letters)


def test_spacing_case_width_and_composition_do_not_count():
    assert near_duplicate_groups(["ABC 가나", "ａｂｃ가나", "abc\u3000\u1100\u1161나", "abd가나"]).tolist() == [
        0,
        0,
        0,
        3,
    ]


def test_texts_of_up_to_three_characters_repeat_only_their_equals():
    texts = ["ㅋㅋㅋ", "ㅋㅋㅋㅋ", "ㅋㅋㅋㅋㅋㅋ", "네", "네 ", "네네", "", " ", "가나다", "가나라"]
    assert near_duplicate_groups(texts, 0.1).tolist() == [0, 1, 1, 3, 3, 5, 6, 6, 8, 9]


def test_similarity_decides_and_is_the_true_one():
    near = SENTENCE.replace("자세히", "정확히")
    likeness = jaccard(pieces(SENTENCE), pieces(near))
    assert near_duplicate_groups([SENTENCE, near], likeness).tolist() == [0, 0]
    assert near_duplicate_groups([SENTENCE, near], likeness + 0.001).tolist() == [0, 1]


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9, 1.0])
def test_all_pairs_are_found_and_no_others(similarity):
    """Against the comparison of all pairs, where a pair at the threshold may be missed once in 200."""
    rng = random.Random(7)
    texts = ["".join(chr(rng.randrange(0xAC00, 0xD7A3)) for _ in range(rng.randrange(4, 80))) for _ in range(60)]
    texts += [edited(text, rng.randrange(1, 4), rng) for text in texts for _ in range(3)]
    rng.shuffle(texts)
    expected = by_brute_force(texts, similarity)
    found = near_duplicate_groups(texts, similarity).tolist()
    assert all(expected[n] == expected[label] for n, label in enumerate(found)), "a pair below the threshold is joined"
    assert len(set(found)) - len(set(expected)) <= 1


def test_real_questions_are_grouped_as_by_comparing_all_pairs(shared):
    texts = read_corpus([Corpus(path=str(shared / "data" / "ko_chatbot_songys.csv"), limit=400)]).rows["instruction"]
    assert near_duplicate_groups(texts, 0.5).tolist() == by_brute_force(texts.to_pylist(), 0.5)


syllables = st.text(st.sampled_from("가나다라 A\ud800\0"), max_size=12)


@settings(max_examples=100, deadline=None)
@given(st.lists(syllables, max_size=14), st.sampled_from([0.3, 0.8, 1.0]), st.randoms(use_true_random=False))
def test_the_order_of_texts_does_not_change_who_is_together(texts, similarity, rng):
    order = rng.sample(range(len(texts)), len(texts))
    groups = near_duplicate_groups(texts, similarity)
    shuffled = near_duplicate_groups([texts[n] for n in order], similarity)
    together = groups[order][:, None] == groups[order][None, :]
    assert (together == (shuffled[:, None] == shuffled[None, :])).all()
    for n, label in enumerate(groups.tolist()):
        assert label <= n and groups[label] == label


def test_a_bucket_with_very_many_texts_is_no_matter_of_pairs():
    """All pairs would be 50 million."""
    groups = near_duplicate_groups([f"{SENTENCE} {n}" for n in range(10_000)])
    assert set(groups.tolist()) == {0}


def test_pairs_are_found_in_buckets_whose_first_text_is_like_neither():
    """Forms of one text, most of them a little too far from each other."""
    rng = random.Random(2)
    text = "".join(chr(rng.randrange(0xAC00, 0xD7A3)) for _ in range(60))
    texts = [edited(text, rng.randrange(1, 3), rng) for _ in range(150)]
    expected = by_brute_force(texts, 0.9)
    assert 100 < len(set(expected)) < 140
    assert near_duplicate_groups(texts, 0.9).tolist() == expected


def test_arrow_columns_of_several_chunks_and_of_none():
    texts = [f"질문 {n} 번" for n in range(BATCH_TEXTS + 5)] + ["질문 3 번"]
    column = pa.chunked_array([texts[:7], texts[7:]])
    assert near_duplicate_groups(column, 1.0)[-1] == 3
    assert near_duplicate_groups(column, 1.0).tolist() == near_duplicate_groups(texts, 1.0).tolist()
    assert near_duplicate_groups(pa.array(texts[:3])).tolist() == near_duplicate_groups(texts[:3]).tolist()
    for nothing in ([], pa.array([], pa.string()), pa.chunked_array([], pa.string())):
        assert near_duplicate_groups(nothing).dtype == np.int64 and len(near_duplicate_groups(nothing)) == 0


def test_long_texts_are_compared_in_full():
    rng = random.Random(1)
    text = "".join(chr(rng.randrange(0xAC00, 0xD7A3)) for _ in range(200_000))
    other = text[:100_000] + text[:99_000:-1]
    assert near_duplicate_groups([text, edited(text, 2_000, rng), other]).tolist() == [0, 0, 2]


@pytest.mark.parametrize("similarity", [0.2, 0.5, 0.8, 0.95, 1.0])
def test_bands_miss_a_pair_at_the_threshold_once_in_200_at_most(similarity):
    bands, rows = bands_of(similarity)
    assert bands * rows <= 128 and (1 - similarity**rows) ** bands <= 0.005


@pytest.mark.parametrize("similarity", [0, -1, 1.5, float("nan")])
def test_a_similarity_out_of_range_is_refused(similarity):
    with pytest.raises(ValueError, match="expected above 0 and at most 1"):
        near_duplicate_groups(["가"], similarity)
