"""What the model behind the loopback says: the same to the same messages, and something else to others.

It plays the parts that the toolkit's prompts give out: the user who asks on, the persona who answers, the
judge who rates, the editor who rewrites. It knows them by the words with which the shipped prompts begin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from random import Random
from typing import Any

from tests.providers.wire import Call, Messages

_PACKAGE = Path(__file__).resolve().parents[2] / "lingo_hitl"
_HANGUL = re.compile("[가-힣]")
_TEXT = re.compile(r"<(?:text|글) (\d+)> (.*?)(?=\n<(?:text|글) \d+> |\n### |\Z)", re.S)
_RESPONSE = re.compile(r"#(?:Given Response|주어진 답변)#:\s*(.*?)\n#(?:Rewritten|Created|고친)", re.S)

# Gemini's REST clients write the types of a schema as numbers or in capitals.
_TYPES = ("string", "number", "integer", "boolean", "array", "object")
_KINDS = {code: name for n, name in enumerate(_TYPES, start=1) for code in (n, name, name.upper())}

_THINGS = {
    "ko": (
        "밀물 썰물 달빛 태양풍 흑점 오로라 화산재 빙하 계절풍 발효 효모 광합성 엽록소 혈압 면역 백신 한글 훈민정음 "
        "거북선 측우기 자격루 온돌 김치 된장 대동여지도 실학 판소리 가야금 인쇄술 나침반 망원경 현미경"
    ),
    "en": (
        "tides moonlight sunspots auroras volcanoes glaciers monsoons fermentation yeast photosynthesis chlorophyll "
        "vaccines immunity alphabets printing compasses telescopes microscopes clocks bridges maps looms sails"
    ),
}
_QUESTIONS = {
    "ko": (
        "{a} 이야기 중에 {b} 쪽은 {n}년 전에도 지금과 같았나요?",
        "그러면 {a} 말고 {b} 때문에 달라진 것도 {n}가지나 되나요?",
        "{a} 관찰할 때 {b} 기록은 왜 {n}번이나 필요한가요?",
        "{n}년 기록을 보면 {a} 다음에 {b} 순서가 맞나요?",
        "혹시 {a} 연구에서 {b} 자료 {n}건은 어떻게 모았을까요?",
    ),
    "en": (
        "Were {a} and {b} any different {n} years ago?",
        "Why does anyone who studies {a} need {n} records of {b}?",
        "So did {b} change because of {a} within {n} years?",
        "How were {n} measurements of {a} and {b} taken?",
    ),
}
_LEADS = {
    "ko": ("궁금한 게 있는데요,", "하나 여쭤볼게요.", "예전부터 알고 싶었어요.", "갑자기 생각났는데요,"),
    "en": ("I have been wondering:", "Tell me something.", "Here is what I would like to know:"),
}
_SENTENCES = {
    "ko": (
        "{a} 쪽에서 시작해 {b} 쪽으로 이어진다고 보시면 돼요.",
        "기록으로 남은 것만 {n}건이라 믿을 만해요.",
        "{b} 상태에 따라 조금씩 다르지만 큰 흐름은 같아요.",
        "옛사람들은 {a} 변화를 눈으로 재서 {n}년 동안 적었어요.",
        "그래서 {a} 하나만 보면 절반밖에 모르는 셈이에요.",
        "{n}번쯤 되풀이해 재어 보면 {b} 차이가 드러나요.",
    ),
    "en": (
        "It begins with {a} and leads on to {b}.",
        "There are {n} records of it, so it can be trusted.",
        "It depends a little on {b}, but the course is the same.",
        "People wrote down how {a} changed for {n} years.",
        "Whoever looks at {a} alone sees half of it.",
    ),
}


def speak(call: Call) -> str:
    """What the model says, as JSON where the call asks for that."""
    messages = call.messages
    system = "\n".join(message["content"] for message in messages if message["role"] == "system")
    spoken = [message for message in messages if message["role"] != "system"]
    prompt = spoken[-1]["content"] if spoken else system
    chance = Random(_digest(messages))
    language = "ko" if _HANGUL.search(system + prompt) else "en"
    asked = "\n".join(message["content"] for message in spoken)
    if schema := call.schema:
        return json.dumps(_fitting(schema, Random(_digest(messages)), _texts(asked)), ensure_ascii=False)
    if texts := _texts(asked):
        return _ratings(texts, language)
    if _begins("judging", language, "correctness") in asked:
        return _score(asked, language)
    if rewritten := _RESPONSE.search(prompt):
        return f"{rewritten[1].strip()} {_made(_SENTENCES[language], language, chance)}"
    if _begins("generation", language, "user_agent") in system:
        if len(spoken) > 1:
            return _made(_QUESTIONS[language], language, chance)
        question = prompt.rpartition("\n\n")[2].strip().rstrip("?？ ")
        return f"{chance.choice(_LEADS[language])} {question}, {_detail(language, chance)}?"
    return " ".join(_made(_SENTENCES[language], language, chance) for _ in range(chance.randint(3, 4)))


def _begins(package: str, language: str, name: str) -> str:
    """The words of a shipped prompt before the first that is filled in."""
    key = f"{package}/{language}/{name}"
    if key not in _BEGINNINGS:
        text = (_PACKAGE / package / "prompts" / language / f"{name}.md").read_text(encoding="utf-8")
        _BEGINNINGS[key] = re.split(r"\{[{%]", text)[0].strip()
    return _BEGINNINGS[key]


_BEGINNINGS: dict[str, str] = {}


def _made(templates: Sequence[str], language: str, chance: Random) -> str:
    a, b = chance.sample(_THINGS[language].split(), 2)
    return chance.choice(templates).format(a=a, b=b, n=chance.randint(11, 99_999))


def _detail(language: str, chance: Random) -> str:
    thing, number = chance.choice(_THINGS[language].split()), chance.randint(11, 99_999)
    return f"{thing} {number}번 기록까지 함께 알려 주실래요" if language == "ko" else f"and what of {number} {thing}"


def _texts(asked: str) -> list[str]:
    """The texts that a judge is shown, in their order."""
    return [text.strip() for _, text in _TEXT.findall(asked)]


def _rating(text: str) -> int:
    """1 to 5, of the text alone: the same wherever in the order it stands."""
    return Random(_digest([{"role": "text", "content": text}])).randint(1, 5)


def _ratings(texts: Sequence[str], language: str) -> str:
    label, rating, rationale, why = (
        ("글 {}의 평가", "평점", "근거", "지시한 내용을 {}점만큼 따랐습니다.")
        if language == "ko"
        else ("Output for Text {}", "Rating", "Rationale", "It follows the instruction to a degree of {}.")
    )
    return "\n\n".join(
        f"#### {label.format(n)}\n{rating}: {_rating(text)}\n{rationale}: {why.format(_rating(text))}"
        for n, text in enumerate(texts, start=1)
    )


def _score(asked: str, language: str) -> str:
    score = Random(_digest([{"role": "score", "content": asked}])).randint(2, 10) / 2
    if language == "ko":
        return f"점수: {score}\n근거: 확인된 사실과 대체로 맞습니다."
    return f"Score: {score}\nRationale: It agrees with what is known."


def _fitting(schema: Mapping[str, Any], chance: Random, texts: Sequence[str], rating: int | None = None) -> Any:
    """A JSON value that a schema allows; text_1, text_2, ... are rated as they are in words."""
    kind = _KINDS.get(schema.get("type"), schema.get("type"))
    if "enum" in schema:
        return chance.choice(list(schema["enum"]))
    if kind == "object":
        own = {f"text_{n}": _rating(text) for n, text in enumerate(texts, start=1)}
        parts = schema.get("properties", {}).items()
        return {name: _fitting(part, chance, texts, own.get(name, rating)) for name, part in parts}
    if kind == "array":
        count = max(int(schema.get("minItems", 1)), len(texts))
        return [_fitting(schema.get("items", {}), chance, texts) for _ in range(count)]
    if kind in ("integer", "number"):
        return rating or chance.randint(int(schema.get("minimum", 1)), int(schema.get("maximum", 5)))
    return kind == "boolean" or "한 문장으로 쓴 근거입니다."


def _digest(messages: Messages) -> bytes:
    text = json.dumps(messages, sort_keys=True)
    return blake2b(text.encode(), digest_size=16).digest()
