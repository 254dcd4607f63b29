"""What goes out of an answer, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingo_hitl.lingo_chat.post_processing import cleaned

QUESTION = "별은 왜 빛나나요?"


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ("별은 왜 빛나나요? 핵융합 때문이에요.", "핵융합 때문이에요."),
        ("별은 왜 빛나나요?\n\n핵융합 때문이에요.", "핵융합 때문이에요."),
        ("주제: 별\n\n핵융합 때문이에요.", "핵융합 때문이에요."),
        ("<주제: 별>\n핵융합 때문이에요.", "핵융합 때문이에요."),
        ("주제: 핵융합 때문이에요.", "핵융합 때문이에요."),
        ("# 주제: 별\n핵융합 때문이에요.", "핵융합 때문이에요."),
        ("## <주제: 별>\n\n핵융합 때문이에요.", "핵융합 때문이에요."),
        ("### 주제: 핵융합 때문이에요.", "핵융합 때문이에요."),
        ("## 답\n\n\n\n### 하나\n핵융합", "답\n\n하나\n핵융합"),
        ('"핵융합 때문이에요.', "핵융합 때문이에요."),
        ('핵융합 때문이에요."', "핵융합 때문이에요."),
    ],
)
def test_what_a_model_leaves_at_the_edges_goes(answer, left):
    assert cleaned(answer, QUESTION) == left


@pytest.mark.parametrize(
    "answer",
    [
        "C#과 F#은 언어예요. #별 #우주",
        "a < b이고 b > c예요. <태양계>라는 책도 있어요.",
        '칼 세이건의 "코스모스"를 읽어 보세요.',
        '화면은 27"예요.',
        "그 질문, 별은 왜 빛나나요? 하고 묻는 사람이 많아요.",
        "하나\n둘\n셋",
        "별은 왜 빛나나요?라는 질문은 오래되었어요.",
        "별은 왜 빛나나요? 라고 물으셨지요. 핵융합 때문이에요.",
        '가장 큰 화면은 27"',
        "```python\n# 별\n\n\n\nprint(1)\n```",
        "이 글의 주제: 별",
        "별은 왜 빛나나요?",
        "#",
    ],
)
def test_what_belongs_to_an_answer_stays_to_the_letter(answer):
    assert cleaned(answer, QUESTION) == answer


def test_a_question_of_one_word_is_no_echo_where_a_sentence_begins_with_it():
    assert cleaned("별은 빛나요.", "별") == "별은 빛나요."
    assert cleaned("별\n빛나는 천체예요.", "별") == "빛나는 천체예요."


@given(st.text(), st.text())
def test_something_is_always_left(answer, question):
    assert cleaned(answer, question) or not answer
