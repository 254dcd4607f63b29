"""Words that say how something is asked, not what it is about; they count little and name nothing.

Korean ones are forms of Kiwi's morphemes, as they stand in questions and instructions.
"""

from __future__ import annotations

from functools import cache

_KOREAN = """
알리 알려주 알 모르 주 드리 받 설명 방법 무엇 뭐 뭣 어떻 어떻게 어떠하 어떤 어느 어디 언제 누구 얼마 얼마나 무슨 왜
이유 까닭 있 없 하 되 것 거 수 같 좋 괜찮 말 말하 쓰 때 나 너 저 내 제 네 우리 이 그 더 가장 제일 보 보이 추천 소개
정리 작성 비교 차이 제공 생성 제시 다음 만들 꼭 쉽 자세히 간단히 간단 경우 대하 위하 통하 따르 관하 의하 사람 법
비결 도움 영향 설명해주 답 답변 대답 질문 문장 내용 예 예시 목록 나열 요약 필요 가능 이것 그것 저것 여기 거기 저기 지금
많 너무 정말 진짜 좀 잘 안 못 다 또 계속 자꾸 아직 이미 다시 싶 가지 중 등 번 점 생각 생기 나오 가 오 들 나 지 늘
궁금 주요 특징 아니 그렇 이렇 저렇 그런 이런 저런 그냥 대한 위한 뜻 의미 의 시 년 월 일 명 개 씨 님 정도 먼저 바로
"""

_ENGLISH = """
does did doing don doesn didn isn aren ain let lets just like want wants tell explain describe write list
give example examples way ways make makes best good better use using used difference mean means following
help create provide suggest think know really things thing words sentence sentences short explains please
"""

FRAME_WORDS = frozenset(_KOREAN.split())


@cache
def english_stopwords() -> frozenset[str]:
    """English words that say nothing of what a text is about."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # a second to import, and Korean does without

    return ENGLISH_STOP_WORDS | frozenset(_ENGLISH.split())
