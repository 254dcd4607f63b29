"""The search language and the tokens, checked against FTS5 itself and against a plain model of the language."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argilla_setup.search.fuzzy_words import distance, nearest
from argilla_setup.search.text_match import columns_of, to_fts5
from argilla_setup.search.text_query import MAX_QUERY_CHARACTERS, QueryError
from argilla_setup.search.text_tokens import index_tokens, joined_tokens, normalize

SYLLABLES = "한국어의별은는을교육사랑나하늘바다"
korean = st.text(alphabet=SYLLABLES, min_size=1, max_size=8)
sentence = st.lists(korean, min_size=1, max_size=6).map(" ".join)


def matches(query, *texts, fields=(0,), similar=None):
    """The positions of those texts, each one or several fields, that FTS5 finds for the query."""
    expression = to_fts5(query, list(fields), similar)
    if expression is None:
        return []
    texts = [(text,) if isinstance(text, str) else text for text in texts]
    columns = [column for field in range(len(texts[0]) if texts else 1) for column in columns_of(field)]
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE VIRTUAL TABLE t USING fts5(every, {', '.join(columns)}, content='', tokenize='ascii')")
    for position, text in enumerate(texts):
        tokens = [form(field) for field in text for form in (index_tokens, joined_tokens)]
        row = ", ".join("?" * (len(tokens) + 1))
        database.execute(
            f"INSERT INTO t (rowid, every, {', '.join(columns)}) VALUES ({position}, {row})", ("x", *tokens)
        )
    found = [row[0] for row in database.execute("SELECT rowid FROM t WHERE t MATCH ? ORDER BY rowid", (expression,))]
    database.close()
    return found


# --- a model of the language ----------------------------------------------------------------------------------------
# A node is (kind, operand, ...): a word, a prefix or a phrase holds words, the others hold nodes.

ENGLISH = ["red", "reed", "green", "greenish"]
english_word = st.sampled_from(ENGLISH)
korean_word = st.text(alphabet="가나다", min_size=1, max_size=4)
model_text = st.lists(st.one_of(english_word, korean_word), max_size=6).map(" ".join)
leaf = st.one_of(
    st.tuples(st.just("word"), st.one_of(english_word, korean_word)),
    st.tuples(st.just("prefix"), st.sampled_from(["re", "gre", "green", "가", "가나"])),
    st.tuples(st.just("phrase"), st.lists(english_word, min_size=1, max_size=3).map(tuple)),
    st.tuples(st.just("phrase"), st.lists(korean_word, min_size=1, max_size=3).map(tuple)),
)
tree = st.recursive(
    leaf,
    lambda node: st.one_of(
        st.tuples(st.just("not"), node), st.tuples(st.just("and"), node, node), st.tuples(st.just("or"), node, node)
    ),
    max_leaves=6,
)


def written(node, draw):
    """The node as a person would type it, with any of the spellings that mean the same."""
    kind, *operands = node
    if kind == "word":
        return operands[0]
    if kind == "prefix":
        return operands[0] + "*"
    if kind == "phrase":
        return '"' + " ".join(operands[0]) + '"'
    texts = []
    for operand in operands:
        text = written(operand, draw)
        texts.append(f"({text})" if operand[0] in ("and", "or", "not") else text)
    if kind == "not":
        return "-" + texts[0]
    joins = [" ", " + ", "+"] if kind == "and" else [" | ", "|"]
    return draw(st.sampled_from(joins)).join(texts)


def holds(node, fields):
    """Whether a record with these texts is what the node asks for."""
    kind, *operands = node
    if kind == "not":
        return not holds(operands[0], fields)
    if kind == "and":
        return all(holds(operand, fields) for operand in operands)
    if kind == "or":
        return any(holds(operand, fields) for operand in operands)
    words = operands[0] if kind == "phrase" else (operands[0],)
    return any(text_holds(kind, words, field.split()) for field in fields)


def text_holds(kind, words, text):
    if words[0].isascii():
        if kind == "prefix":
            return any(word.startswith(words[0]) for word in text)
        return any(text[start : start + len(words)] == list(words) for start in range(len(text)))
    unspaced = re.sub("(?<=[가-힣]) (?=[가-힣])", "", " ".join(text)).split()
    if sum(map(len, words)) >= 3:
        return any("".join(words) in word for word in unspaced)
    if any("".join(words) in word for word in text):
        return True
    pairs = pairwise(text)
    return len(words) == 2 and any(one.endswith(words[0]) and two.startswith(words[1]) for one, two in pairs)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(model_text, model_text), min_size=1, max_size=5), tree, st.data())
def test_the_language_means_what_its_model_means(records, node, data):
    query = written(node, data.draw)
    fields = data.draw(st.sampled_from([(0, 1), (0,), (1,)]))
    expected = [n for n, texts in enumerate(records) if holds(node, [texts[field] for field in fields])]
    assert matches(query, *records, fields=fields) == expected, query


@settings(max_examples=150, deadline=None)
@given(
    st.lists(model_text, min_size=1, max_size=5),
    leaf,
    st.lists(st.tuples(st.sampled_from(["and", "or"]), leaf), max_size=5),
    st.data(),
)
def test_operators_bind_from_left_to_right(texts, first, rest, data):
    query, node = written(first, data.draw), first
    for operator, right in rest:
        query += data.draw(st.sampled_from([" ", " + "] if operator == "and" else [" | ", "|"]))
        query += written(right, data.draw)
        node = (operator, node, right)
    assert matches(query, *texts) == [n for n, text in enumerate(texts) if holds(node, [text])], query


# --- Korean ---------------------------------------------------------------------------------------------------------


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
@given(st.lists(korean, min_size=2, max_size=6).filter(lambda words: sum(map(len, words)) >= 3))
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
    composed, apart = unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)
    assert index_tokens(apart) == index_tokens(composed)
    assert joined_tokens(apart) == joined_tokens(composed)


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
        ("民國", ["大韓民國 만세", "大韓 民國"]),
        ("한국어교육정책연구원", ["한국어 교육 정책 연구원", "한국어교육 정책연구원의"]),
        ("a | () b c", ["a b c"]),
        ('a | "" b', ["a b"]),
        ("-|a", ["a"]),
        ('(a "b) c"', ["a b c"]),
        ("3.14", ["pi is 3.14", "3.14159 or 3 14"]),
        ("don't", ["I don't"]),
        ("snake_case", ["a snake_case name"]),
        ("a~ b", ["a b"]),
        ('"a b"~2', ["a x b"]),
        ("pre-fix*", ["the pre-fixes"]),
        ("a\\", ["a"]),
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
        ("3.14", ["14 of 3"]),
        ("a | () b", ["a"]),
        ('"별 밝다"', ["별은 밝다"]),
    ],
)
def test_not_found(query, texts):
    assert matches(query, *texts) == []


def test_what_stands_between_two_spaces_is_found_in_one_field():
    records = [("e mail", ""), ("e", "mail")]
    assert matches("e-mail", *records, fields=(0, 1)) == [0]
    assert matches("e mail", *records, fields=(0, 1)) == [0, 1]


def test_fuzzy_words():
    words = ["paymant", "pavement", "payment", "pay", "한국"]

    def similar(word, edits):
        return nearest(word, words, edits=edits)

    assert matches("payment~1", *words, similar=similar) == [0, 2]
    assert matches("payment~", *words, similar=similar) == [0, 1, 2]
    assert matches("payment~0", *words, similar=similar) == [2]
    assert matches("payment~x", *words, similar=similar) == [2]
    assert matches("-payment~1", *words, similar=similar) == [1, 3, 4]
    assert matches("한국~1", *words, similar=similar) == [4]


@settings(max_examples=200, deadline=None)
@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_distance(one, other):
    def plainly(one, other):
        if not one or not other:
            return len(one) + len(other)
        away = [plainly(one[1:], other) + 1, plainly(one, other[1:]) + 1]
        return min(*away, plainly(one[1:], other[1:]) + (one[0] != other[0]))

    for most in (1, 2):
        assert distance(one, other, most=most) == min(plainly(one, other), most + 1)


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
