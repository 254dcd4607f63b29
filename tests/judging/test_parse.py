# ruff: noqa: E501 (the replies stand as they came)
"""Replies as judges write them: the right rating on the right text, or none, never a shifted one."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingo_hitl.judging.parse import parse_ratings

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
    ("Text 1\nRating: 9\nText 2\nRating: 3", [N, N]),
    ("Text 1\nRating: 0\nText 2\nRating: 5", [N, 5]),
    ("Text 1\nRating: 45\nText 2\nRating: -3", [N, N]),
    ("Text 1\nRating: 0.5\nText 2\nRating: 3", [N, 3]),
    ("Text 1\nRating: 8/10\nText 2\nRating: 3", [N, N]),
    ("글 1: 100점 만점에 80점\n글 2: 3점", [N, N]),
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
    ('{"Text 1": {"rating": 4, "rationale": "a"}, "Text 2": {"rating": 9}}', [N, N]),
    ('{"1": 4, "2": 5}', [4, 5]),
    ('{"글 1": {"평점": 4, "근거": "좋다"}, "글 2": {"평점": 3}}', [4, 3]),
    ('{"text": 1, "rating": 4}\n{"text": 2, "rating": 3}', [4, 3]),
    ('{"annotations": [{"id": 1, "score": 4}, {"id": 2, "score": 1}]}', [4, 1]),
    ("[4, 2]", [4, 2]),
    ('[{"rating": 4}]', [N, N]),
    ('{"ratings": [{"text": 1, "rationale": "a", "rating": 4}, {"text": 2, "rationale": "b", "rating": 2}]}', [4, 2]),
    ('{"ratings": [{"text": 1, "rating": 4, "rationale": "a"}, {"text": 2, "rat', [N, N]),
    ('{"ratings": [{"rating": 4}, {"rating": 2}, {"rat', [N, N]),
    ('{"ratings": {"text1": 4, "text2": 2}}', [4, 2]),
    ('{"evaluation": {"Text 1": {"score": 4}, "Text 2": {"score": "2/5"}}}', [4, 2]),
    ('{"rating_1": 4, "rationale_1": "a", "rating_2": 3, "rationale_2": "b"}', [4, 3]),
    ('{"text_1_rating": 4, "text_2_rating": 3}', [4, 3]),
    ('{"평점1": "네 점", "평점2": "2점"}', [4, 2]),
    ('{"ratings": [4, 2,],}', [4, 2]),
    ('[{"index": 0, "rating": 4}, {"index": 1, "rating": 2}]', [N, N]),
    ('{"ratings": [8, 4]}', [N, N]),
    ('{"text": "Text 1", "rating": 5, "rationale": "better than {Text 2}"}\n{"text": "Text 2", "rating": 3}', [5, 3]),
    # JSON that a rationale quotes
    (
        '#### Output for Text 1\nRating: 1\nRationale: It gives {"id": 2, "score": 5}.\n\n#### Output for Text 2\nRating: 2\nRationale: It gives {"id": 1, "score": 4}.',
        [1, 2],
    ),
    (
        'Text 1\nRating: 4\nRationale: it prints\n{"ratings": [1, 1]}\nText 2\nRating: 2',
        [4, 2],
    ),
    ('It printed {"text": 1, "rating": 4} and {"text": 2, "rating": 2}', [N, N]),
    ('2. {"rating": 2}\n1. {"rating": 4}', [N, N]),
    ('평가:\n```json\n{"text_1": {"rating": 4}, "text_2": {"rating": 2}}\n```\n감사합니다.', [4, 2]),
    # JSON that was cut off, or that is none
    ('{"text_2": {"rating": 2}, "text_1": {"rating": 4}', [N, N]),
    ('{\n  "text_2": {\n    "rating": 2\n  },\n  "text_1": {\n    "rating": 4\n  }\n', [N, N]),
    ('{text_2:\n{"rating": 2},\ntext_1:\n{"rating": 4}}', [N, N]),
    ('It says {"x": [\n{"rating": 2},\n{"rating": 4}', [N, N]),
    ('{"text_1": {"rating": 4, "rationale": "a\nRating: 1"}, "text_2": {"rating": 2}}', [4, 2]),
    ('{"text_1": {"rating": 4, "rationale": "a "b" c\nText 1: 1"}, "text_2": {"rating": 2}}', [N, N]),
    # a key twice
    ('{"text_1": {"rating": 4}, "text_1": {"rating": 1}, "text_2": {"rating": 2}}', [N, N]),
    ('{"text_1": {"rating": 4, "Rating": 1}, "text_2": {"rating": 2}}', [N, N]),
    # what was thought before
    ("<think>Text 1: 1\nText 2: 5? No, the other way round.</think>\nText 1: 5\nText 2: 1", [5, 1]),
    ("<think>\nText 1: 4\nText 2: 3\nLet me think about that ag", [N, N]),
    ('<thinking>{"ratings": [1, 1]}</thinking>{"ratings": [4, 2]}', [4, 2]),
    # tables
    ("| Text | Rating | Rationale |\n|---|---|---|\n| 1 | 4 | right |\n| 2 | 2 | wrong, 5 errors |", [4, 2]),
    (
        "평가 결과입니다.\n\n| 글 | 평점 | 근거 |\n|:--:|:--:|---|\n| 글 2 | 2점 | 짧다 |\n| 글 1 | **4점** | 좋다 |",
        [4, 2],
    ),
    ("| | Text 1 | Text 2 |\n|---|---|---|\n| Rating | 4 | 3 |\n| Rationale | good | fair |", [4, 3]),
    ("| 번호 | 점수 (10점 만점) |\n|---|---|\n| 1 | 4 |\n| 2 | 5 |", [N, N]),
    ("| Text | Depth | Rating |\n|---|---|---|\n| 1 | 5 | 4 |\n| 2 | 1 | 2 |", [4, 2]),
    ("| Text | Rating | Score |\n|---|---|---|\n| 1 | 5 | 4 |\n| 2 | 1 | 2 |", [N, N]),
    ("| Text | Rating |\n|---|---|\n| 1 | 4 |\n| 1 | 3 |\n| 2 | 2 |", [N, 2]),
    # numbers in words, in circles, as keys of a telephone, as stars
    ("글 1: 네 점\n글 2: 두 점입니다.", [4, 2]),
    ("글 1\n평점: 다섯\n근거: 좋다\n글 2\n평점: 삼점\n근거: 보통", [5, 3]),
    ("글 1\n평점: 네, 좋은 글입니다.\n글 2\n평점: 이점이 많은 글입니다.", [N, N]),
    ("① 4점\n② 2점", [4, 2]),
    ("글 ①의 평가\n평점: ④\n글 ②의 평가\n평점: ②", [4, 2]),
    ("Text 1: 4️⃣\nText 2: 2️⃣", [4, 2]),
    ("Text 1: ⭐️⭐️⭐️⭐️\nText 2: ⭐️⭐️", [4, 2]),
    ("글 1\n평점: ★★★½\n글 2\n평점: 🌟🌟", [3.5, 2]),
    ("Text 1\nRating: four out of five\nText 2\nRating: three", [4, 3]),
    # another scale
    ("Text 1\nRating: four out of ten\nText 2\nRating: 3", [N, N]),
    ("10점 만점으로 평가하겠습니다.\n\n글 1: 4점\n글 2: 5점", [N, N]),
    ("On a scale of 1 to 10:\nText 1: 4\nText 2: 5", [N, N]),
    ("Text 1\nRating (1-10): 4\nText 2\nRating (1-10): 3", [N, N]),
    ("글 1: 4점 (10점 만점)\n글 2: 5점 (10점 만점)", [N, N]),
    ("글 1: 4점(5점 만점)\n글 2: 3점(5점 만점)", [4, 3]),
    ("글 1: 7점\n글 2: 4점", [N, N]),
    ("글 1: 4점\n근거: 열 명 중 9 out of 10이 동의한다\n글 2: 3점", [4, 3]),
    # a text named in another's rationale, also where a line begins
    (
        "#### Output for Text 1\nRating: 4\nRationale: right.\n\n#### Output for Text 2\nRationale: worse than\nText 1: which is right.\nRating: 2",
        [4, 2],
    ),
    (
        "#### Output for Text 1\nRationale: right.\n\n#### Output for Text 2\nRationale: worse than\nText 1: which is right.\nRating: 2",
        [N, N],
    ),
    (
        "### 글 1의 평가\n평점: 4\n근거: 글 2: 별은 별이다, 보다 낫다.\n\n### 글 2의 평가\n평점: 2\n근거: 글 1 참고",
        [4, 2],
    ),
    (
        "**Text 1** - good\n**Text 2** - poor\n\n#### Output for Text 1\nRating: 4\n#### Output for Text 2\nRating: 2",
        [4, 2],
    ),
    ("**Text 1** - 4\n**Text 2** - poor\n\n#### Output for Text 1\nRating: 4", [4, N]),
    ("Text 1: 4\nText 2: 2\n\nAfter another look:\n**Text 1**: 3\n**Text 2**: 2", [N, 2]),
    # the form that was asked for, only repeated
    (
        "#### 글 1의 평가\n평점: [1부터 5까지의 정수]\n근거: [짧은 문장]\n\n#### 글 2의 평가\n평점: [1부터 5까지의 정수]\n근거: [짧은 문장]",
        [N, N],
    ),
    (
        "#### Output for Text 1\nRating: [Rating for text 1]\n\n#### Output for Text 2\nRating: [Rating for text 2]",
        [N, N],
    ),
    # other clothes
    ("Text 1\r\nRating: 4\r\n\r\nText 2\r\nRating: 2\r\n", [4, 2]),
    (
        "<text_1>\n<rating>4</rating>\n<rationale>a</rationale>\n</text_1>\n<text_2>\n<rating>2</rating>\n</text_2>",
        [4, 2],
    ),
    ("Text\u00a01:\u00a04\nText\u200b2: 2", [4, 2]),
    ("Text One: 4\nText Two: 2", [4, 2]),
    ("응답 A: 4점\n응답 B: 2점", [4, 2]),
    ("첫째 글: 4점\n둘째 글: 2점", [4, 2]),
    ("글 1의 점수는 4점입니다.\n글 2의 점수는 2점입니다.", [4, 2]),
    ("Rating: 4\nOverall rating: 3", [N, N]),
    ("Text 1\nRating: 4+\nText 2\nRating: 3 or 4", [N, N]),
    ("1위: 글 2\n2위: 글 1", [N, N]),
    ("죄송하지만 이 글들은 평가할 수 없습니다.", [N, N]),
    ("글 1과 글 2는 모두 4점입니다.", [N, N]),
    # the second text first, under names that are no labels
    ("Rating (Text 1): 4\nRating (Text 2): 2", [4, 2]),
    ("Rating (Text 2): 2\nRating (Text 1): 4", [N, N]),
    ("Rating: 2 (Text 2)\nRating: 4 (Text 1)", [N, N]),
    ("## Second\nRating: 2\n## First\nRating: 4", [N, N]),
    ("A)\nRating: 4\nB)\nRating: 2", [4, 2]),
    ("B)\nRating: 2\nA)\nRating: 4", [N, N]),
    ("나.\n평점: 2\n가.\n평점: 4", [N, N]),
    ("II.\nRating: 2\nI.\nRating: 4", [N, N]),
    ("2. Rating: 2\n1. Rating: 4", [4, 2]),
    ("(2)\nRating: 2\n(1)\nRating: 4", [4, 2]),
    ("② 2점\n① 4점", [4, 2]),
    ("Worst to best:\nRating: 2 - text 2\nRating: 4 - text 1", [N, N]),
    ("#### 글 2번\n평점: 2\n#### 글 1번\n평점: 4", [4, 2]),
    ("Text no. 2: 2\nText (1): 4", [4, 2]),
    ('[{"rating": 2, "which": "Text 2"}, {"rating": 4, "which": "Text 1"}]', [4, 2]),
    ('[{"name": "글 2", "rating": 2}, {"name": "글 1", "rating": 4}]', [4, 2]),
    ("| Rank | Text | Rating |\n|---|---|---|\n| 1 | 2 | 4 |\n| 2 | 1 | 2 |", [2, 4]),
    ("| Rank | Rating |\n|---|---|\n| 1 | 4 |\n| 2 | 2 |", [N, N]),
    # in sentences
    ("글 1은 4점, 글 2는 2점입니다.", [4, 2]),
    ("Text 1: 4, Text 2: 3", [4, 3]),
    ("Text 2 gets a 3 while Text 1 deserves 5/5.", [N, N]),
    ("Rating for Text 1 is 4.\nRating for Text 2 is 2.", [4, 2]),
    ("I compared Text 1: 4 strong points, Text 2: 1 strong point.", [N, N]),
    ("글 1은 4점이고 글 2는 3점에서 4점 사이입니다.", [N, N]),
    ("4, 2", [N, N]),
]

SINGLE = [
    ("4", 4), ("4점", 4), ("4점입니다.", 4), ("4/5", 4), ("３점", 3), ("★★★☆☆", 3), ("5점 만점에 3점", 3), ("Rating: 4\nRationale: ok", 4),
    ("평점: 3.5\n근거: 좋다", 3.5), ("점수 : 4", 4), ("The answer is right. Rating: 4", 4), ("Rating: 4\n\nOverall rating: 4", 4),
    ("Rating: 4\nRating: 3", N), ("Text 1: 4", 4), ("4\nBecause it is right.", 4), ("4 reasons", N), ('{"rating": 4, "rationale": "a"}', 4),
    ("1번 답변: 맞다\n2번 답변: 틀리다\n점수: 3.5\n근거: 대체로", 3.5), ("사실성: 5\n평점: 4\n총점: 4.5", 4.5), ("Rating: 3\nFinal score: 4", 4),
    ("점수: 4.5/5점", 4.5), ("점수: 네 점", 4), ("점수: 10", N), ("1-10점 기준\n점수: 4", N), ('{"score": 4.5}', 4.5), ('{"score": 10}', N),
    ("<think>점수: 1</think>\n점수: 4", 4), ("| Score | 4 |\n|---|---|\n| Reason | ok |", 4), ("죄송합니다, 점수를 매길 수 없습니다.", N),
    ("I would give 4", N), ("1~5점 중 선택", N), ("Rating: 4.5/5", 4.5), ("평점: 4, 3", N), ("Score: **3** (good)", 3),
    # its parts are rated as well, or only they
    ("답변 1: 5점\n답변 2: 3점", N), ("Answer 1: 5\nAnswer 2: 3\n\nScore: 4", 4), ("답변 1은 5점, 답변 2는 3점", N), ("5\n3", N),
    ("#### 답변 1\n점수: 5\n#### 답변 2\n점수: 2\n\n종합 점수: 3", 3), ("#### 답변 1\n점수: 5\n#### 답변 2\n설명만 있다.", N),
    ("점수: 3\n\n#### 답변 1\n점수: 5\n#### 답변 2\n점수: 2", 3), ("답변 1 점수: 5, 답변 2 점수: 3", N), ("#### Output for Text 2\nScore: 4", N),
    ("| 답변 | 점수 |\n|---|---|\n| 1 | 5 |\n| 2 | 2 |", N), ("점수: 4\n근거: 답변 2는 3가지 오류가 있다", 4), ("Answer 1 - Score: 5\nAnswer 2 - Score: 2", N),
    ('{"turns":[{"turn":1,"score":5},{"turn":2,"score":2}],"score":3}', 3), ('{"turn_1":5,"turn_2":2,"overall":3}', 3),
    ('{"turn_1":5,"turn_2":2}', N), ('[{"turn":1,"score":5},{"turn":2,"score":2}]', N),
    # JSON that a rationale quotes, JSON that is broken, a key twice
    ('Score: 2\nRationale: the assistant only printed {"score": 5}', 2), ('The assistant only printed {"score": 5}', N),
    ('```json\n{"score": 5}\n```\nis what it printed.\nScore: 2', 2), ('[{"score": 3,, "x": 1}, {"score": 2}]', N), ('{"score": 3', N),
    ('{"score": 3, }', 3), ('{"score": 5 "x"}\n{"score": 2}', N), ('{"score": 5, "score": 2}', N), ('다음과 같습니다.\n\n{"score": 4.5, "rationale": "a"}', 4.5),
    # halves in words, bounds, sums
    ("점수: 3½", 3.5), ("점수: 3점반", 3.5), ("점수: 3점 반입니다.", 3.5), ("Score: three and a half", 3.5), ("Score: 3 and a half stars", 3.5),
    ("점수: 4점 미만", N), ("점수: 4점 이상", N), ("점수: 3점 이하", N), ("점수: 2점 초과", N), ("Score: 5 points minus 1 = 4", N), ("Score: 4 or more", N),
    ("점수: 3점대", N), ("점수: 5점 중 1점 감점", N), ("점수: 4 → 3", N), ("점수: 3 반", N), ("점수: 4점. 반영됨", 4), ("점수: 3½/10", N), ("점수: 3.5½", N),
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
    def score(reply):
        return parse_ratings(reply, 1, halves=True)[0]

    assert score("점수: 3.5\n근거: 대체로 맞다").rating == 3.5
    assert score("Score: 3.7").fault == "3.7 is not a whole or half step"
    assert score("10").fault == "its rating is outside 1 to 5"


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


def _table(ratings, reasons):
    return [
        "| Text | Rating | Rationale |",
        "|---|---|---|",
        *(f"| {i} | {r} | {w} |" for i, r, w in _numbered(ratings, reasons)),
    ]


def _columns(ratings, reasons):
    names = " | ".join(f"글 {i}" for i, *_ in _numbered(ratings, reasons))
    return [
        f"| | {names} |",
        "|---" * (len(ratings) + 1) + "|",
        f"| 평점 | {' | '.join(map(str, ratings))} |",
        f"| 근거 | {' | '.join(reasons)} |",
    ]


def _numbered(ratings, reasons):
    return [(i, r, w) for i, (r, w) in enumerate(zip(ratings, reasons, strict=True), start=1)]


def _lines(form):
    return lambda ratings, reasons: [
        line for i, r, w in _numbered(ratings, reasons) for line in form.format(i=i, r=r, w=w).split("\n")
    ]


FORMS = [
    _lines("#### Output for Text {i}\nRating: {r}\nRationale: {w}\n"),
    _lines("#### 글 {i}의 평가\n평점: {r}\n근거: {w}\n"),
    _lines("**글 {i}**\n- 근거: {w}\n- 평점: {r}점"),
    _lines("{i}번 답변: {r}점\n{w}"),
    _lines("[Text {i}] Rating: {r}/5 - {w}"),
    _lines("글 {i}은 {r}점입니다. {w}"),
    _lines("{i}. {r} - {w}"),
    _lines("Rating: {r}\nRationale: {w}\n"),
    _lines("<text_{i}>\n<rationale>{w}</rationale>\n<rating>{r}</rating>\n</text_{i}>"),
    _lines('{{"text": {i}, "rationale": "{w}", "rating": {r}}}'),
    _table,
    _columns,
    lambda ratings, reasons: [", ".join(f"Text {i}: {r}" for i, r, _ in _numbered(ratings, reasons))],
    lambda ratings, reasons: json.dumps({"ratings": ratings, "rationales": reasons}, indent=1).split("\n"),
    lambda ratings, reasons: json.dumps(
        [{"text": i, "rating": r, "rationale": w} for i, r, w in _numbered(ratings, reasons)], indent=1
    ).split("\n"),
]
forms = st.sampled_from(FORMS)
reasons = st.sampled_from(
    ["because", "정확합니다.", "Text 2 is better.", "글 1보다 낫다: 사실과 맞다", "4 errors of 10 sentences", "Text 1: fine", "rating: see above", "5점은 과하다"]
)  # fmt: skip
rated = st.lists(st.tuples(values, reasons), min_size=2, max_size=4)


@settings(max_examples=150, deadline=None)
@given(rated, forms, prose)
def test_whatever_the_form_a_rating_is_read_right_or_not_at_all(given_ratings, form, before):
    ratings, why = [r for r, _ in given_ratings], [w for _, w in given_ratings]
    got = [v.rating for v in parse_ratings("\n".join([before, *form(ratings, why)]), len(ratings))]
    assert all(rating in (None, ratings[i]) for i, rating in enumerate(got))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read_whole(form):
    assert [v.rating for v in parse_ratings("\n".join(form([4, 2, 5], ["because"] * 3)), 3)] == [4, 2, 5]


@settings(max_examples=300, deadline=None)
@given(rated, forms, st.data())
def test_a_lost_part_never_moves_a_rating(given_ratings, form, data):
    """A reply that lost its beginning, its end or a line in the middle: a text has its own rating or none."""
    ratings, why = [r for r, _ in given_ratings], ["because"] * len(given_ratings)
    lines = form(ratings, why)
    first, gone, last = (data.draw(st.integers(0, len(lines))) for _ in range(3))
    left = [line for n, line in enumerate(lines) if n != gone]
    left = left[data.draw(st.sampled_from([0, first])) : data.draw(st.sampled_from([len(left), last]))]
    got = [v.rating for v in parse_ratings("\n".join(left), len(ratings))]
    assert all(rating in (None, ratings[i]) for i, rating in enumerate(got)), got


NAMES = ["Text {i}", "글 {i}번", "({i})", "{i}.", "#{i}", "T{i}", "{letter})", "Response {letter}", "{nth}", "{nth} text", "{ko}째", "{roman}.", "<{i}>",
         "[답변 {i}]", "{i}번", "Candidate {i} of 4", "{ga}.", "Option {letter}", "Text no. {i}", "평가 {i}"]  # fmt: skip
SHAPES = ["## {name}\nRating: {r}\nRationale: {w}", "{name}\n평점: {r}점\n근거: {w}", "Rating ({name}): {r}", "Rating: {r} - {name}", "{name}: {r}",
          "- {name} → {r}/5", "{name}\n{r}", "| {name} | {r} |", "{name} Rating: {r}", "Rating for {name}: {r}\n{w}", "Rationale: {w}\n{name} - Rating: {r}",
          "근거: {w}\n\n**{name}**\n평점: {r}", '{{"rating": {r}, "of": "{name}"}}']  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(rated, st.sampled_from(NAMES), st.sampled_from(SHAPES), st.data())
def test_whatever_texts_are_called_another_order_moves_no_rating(given_ratings, name, shape, data):
    def part(i):
        rating, why = given_ratings[i]
        words = {
            "letter": "ABCD"[i],
            "nth": ["First", "Second", "Third", "Fourth"][i],
            "ko": "첫둘셋넷"[i],
            "ga": "가나다라"[i],
        }
        called = name.format(i=i + 1, roman=["I", "II", "III", "IV"][i], **words)
        return shape.format(name=called, r=rating, w="because" if data.draw(st.booleans()) else why)

    order = data.draw(st.permutations(range(len(given_ratings))))
    reply = "\n".join(part(i) for i in order)
    got = [v.rating for v in parse_ratings(reply, len(given_ratings))]
    assert all(rating in (None, given_ratings[i][0]) for i, rating in enumerate(got)), (reply, got)


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
    assert parse_ratings("{a}" * 5_000, 2)[0].rating is None
