"""The search language and the tokens, checked against FTS5 itself."""

from __future__ import annotations

import sqlite3
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argilla_setup.text_query import MAX_QUERY_CHARACTERS, QueryError, index_tokens, normalize, to_fts5

SYLLABLES = "한국어의별은는을교육사랑나하늘바다"
korean = st.text(alphabet=SYLLABLES, min_size=1, max_size=8)
sentence = st.lists(korean, min_size=1, max_size=6).map(" ".join)


def matches(query, *texts):
    """The positions of those texts that FTS5 finds for the query."""
    expression = to_fts5(query, ["c0"])
    if expression is None:
        return []
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE t USING fts5(every, c0, content='', tokenize='ascii')")
    for position, text in enumerate(texts):
        database.execute("INSERT INTO t (rowid, every, c0) VALUES (?, 'x', ?)", (position, index_tokens(text)))
    found = [row[0] for row in database.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rowid", (expression,))]
    database.close()
    return found


@settings(max_examples=150, deadline=None)
@given(sentence, st.data())
def test_every_substring_of_a_korean_word_finds_it(text, data):
    word = data.draw(st.sampled_from(text.split()))
    start = data.draw(st.integers(0, len(word) - 1))
    end = data.draw(st.integers(start + 1, len(word)))
    assert matches(word[start:end], text) == [0]


@settings(max_examples=150, deadline=None)
@given(sentence, korean)
def test_a_word_that_is_not_there_is_not_found(text, word):
    unspaced = text.replace(" ", "")
    if word not in unspaced:
        assert matches(word, text) == []
    if len(word) <= 2:
        assert (matches(word, text) == [0]) == any(word in part for part in text.split())


@settings(max_examples=100, deadline=None)
@given(st.lists(korean, min_size=2, max_size=3).filter(lambda words: 3 <= sum(map(len, words)) <= 6))
def test_spacing_does_not_matter(words):
    apart, together = " ".join(words), "".join(words)
    assert matches(together, apart) == [0]
    assert matches(apart, together) == [0]
    assert matches(f'"{apart}"', together) == [0]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.one_of(st.sampled_from('"()|+-*~\\ 가나ab1'), st.characters()), max_size=60))
def test_no_input_is_an_error(query):
    matches(query, "가나 ab 1", "")
    index_tokens(query)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_tokens_do_not_depend_on_how_the_text_is_composed(text):
    assert index_tokens(unicodedata.normalize("NFD", text)) == index_tokens(unicodedata.normalize("NFC", text))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["red", "green", "빨강", "파랑"]), max_size=4, unique=True), st.data())
def test_not_is_the_complement(words, data):
    query = data.draw(st.sampled_from(["red", "빨강", "red | 파랑", "green 빨강", '"red green"']))
    texts = [" ".join(words), "red 파랑", "green", ""]
    found = matches(query, *texts)
    assert matches(f"-({query})", *texts) == sorted(set(range(4)) - set(found))


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("한국", ["한국의 별", "대한국민", "한 국"]),
        ("별", ["별은 밝다", "샛별", "별"]),
        ("e-mail", ["e-mail", "mail e"]),
        ("b*", ["a bc", "b"]),
        ('"a b"', ["x a b y"]),
        ("a b | c", ["a b", "c", "a b c"]),
        ("a | b c", ["a c", "b c"]),
        ("a + b", ["b a"]),
        ("--a", ["a"]),
        (r"\(a", ["a"]),
        ("(a", ["a"]),
        ("ＡＢＣ１２", ["abc12"]),
        ("한국", ["한국"]),
        ("Straße", ["STRASSE"]),
    ],
)
def test_found(query, texts):
    expected = [position for position, text in enumerate(texts) if text != "한 국"]
    assert matches(query, *texts) == expected


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("의사", ["나의 사랑"]),
        ("a b", ["a", "b", ""]),
        ("-a", ["a"]),
        ('"a b"', ["b a", "a x b"]),
        ("a | b c", ["a", "b"]),
        ("ab", ["abc"]),
        ("", ["a"]),
        ("!?", ["a", ""]),
        ("x every", ["a"]),
    ],
)
def test_not_found(query, texts):
    assert matches(query, *texts) == []


def test_an_overlong_query_says_so():
    with pytest.raises(QueryError, match=str(MAX_QUERY_CHARACTERS)):
        to_fts5("a" * (MAX_QUERY_CHARACTERS + 1), ["c0"])


def test_a_query_of_many_words_and_parentheses():
    assert matches(" ".join(["a"] * 900), "a") == [0]
    assert matches("(" * 900 + "a" + ")" * 900, "a") == [0]
    assert matches(" ".join("가나다라마바사아자차카타파하"[n % 7 : n % 7 + 7] for n in range(200)), "없음") == []


def test_normalize_is_idempotent():
    for text in ("ﬁ", "İ", "한국", "ＡＢＣ", "Straße", "㎏"):
        assert normalize(normalize(text)) == normalize(text)
