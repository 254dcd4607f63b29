"""Good dialogues with one failure put into each: what the figures of dialogue quality must tell apart."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Any

from lingo_hitl.models.kiwi import kiwi

Dialogue = dict[str, Any]
Failure = Callable[[Dialogue, random.Random], Dialogue]

_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_OPENINGS = {
    "ko": [
        "와, 정말 멋진 질문이네요!",
        "오호라, 눈이 번쩍 뜨이는 이야기예요.",
        "하하, 역시 예리하시네요!",
        "에헴, 제가 나설 차례군요.",
    ],
    "en": ["Wow, what a brilliant question!", "Ha, you really keep me on my toes.", "Ahoy there, curious mind!"],
}
_CLOSINGS = {
    "ko": [
        "그럼 오늘도 반짝이는 하루 보내세요!",
        "이것이 바로 삶의 묘미 아니겠어요?",
        "언제나 당신의 호기심을 응원할게요.",
    ],
    "en": [
        "Keep shining, my curious friend!",
        "And that, dear reader, is the beauty of life.",
        "Stay hungry, stay starry-eyed!",
    ],
}
_NAMES = {"ko": ["친구야,", "꼬마 탐험가님,", "벗이여,"], "en": ["my friend,", "young explorer,", "dear traveller,"]}
_SHORT = {
    "ko": ["네, 그래요.", "맞아요.", "그건 그때그때 달라요."],
    "en": ["Yes, it is.", "That depends.", "Not really."],
}
_OTHER_LEVEL = {
    "해요체": ("다", "어"),
    "합쇼체": ("어", "다"),
    "반말": ("어요", "습니다"),
    "해라체": ("어요", "습니다"),
}


def catchphrases(dialogue: Dialogue, draw: random.Random) -> Dialogue:
    """One phrase opens, closes or breaks into most answers, always in the same place."""
    language = dialogue["language"]
    kind = draw.choice(["opening", "closing", "name"])
    phrase = draw.choice({"opening": _OPENINGS, "closing": _CLOSINGS, "name": _NAMES}[kind][language])
    places = _answers(dialogue)
    spared = {draw.choice(places)} if len(places) > 3 else set()

    def say(text: str) -> str:
        if kind == "opening":
            return f"{phrase} {text}"
        if kind == "closing":
            return f"{text} {phrase}"
        first, *rest = _SENTENCE.split(text, maxsplit=1)
        return f"{first} {phrase} {rest[0]}" if rest else f"{phrase} {first}"

    return _changed(dialogue, {place: say for place in places if place not in spared})


def shrinking(dialogue: Dialogue, draw: random.Random) -> Dialogue:
    """Later answers are a few words, each shorter than the one before."""
    _, *later = _answers(dialogue)

    def cut(share: float) -> Callable[[str], str]:
        def shorter(text: str) -> str:
            words = text.split()
            kept = words[: max(1, int(len(words) * share))]
            return " ".join(kept) if len(kept) > 2 else draw.choice(_SHORT[dialogue["language"]])

        return shorter

    return _changed(dialogue, {place: cut(0.16 / n) for n, place in enumerate(later, start=1)})


def copying(dialogue: Dialogue, draw: random.Random) -> Dialogue:
    """One later answer is an earlier one with its sentences in another order, or the first half of each repeated."""
    *earlier, last = _answers(dialogue)
    text = dialogue["messages"][draw.choice(earlier)]["content"]
    sentences = _SENTENCE.split(text)
    draw.shuffle(sentences)
    own = _SENTENCE.split(dialogue["messages"][last]["content"])[-1]
    copied = " ".join([*sentences, own] if draw.random() < 0.5 else sentences)
    return _changed(dialogue, {last: lambda _: copied})


def speech_levels(dialogue: Dialogue, draw: random.Random) -> Dialogue:
    """About half of the sentences of the answers end at another level (Korean)."""
    from lingo_hitl.judging.dialogue_quality.measure import measure

    (figures,) = measure([dialogue], {})
    ending = draw.choice(_OTHER_LEVEL[figures["speech_level"] or "해요체"])

    def mix(text: str) -> str:
        return " ".join(_ended(s, ending) if draw.random() < 0.6 else s for s in _SENTENCE.split(text))

    return _changed(dialogue, dict.fromkeys(_answers(dialogue), mix))


FAILURES: dict[str, Failure] = {
    "catchphrase_overuse": catchphrases,
    "shrinking": shrinking,
    "copying": copying,
    "speech_level_shift": speech_levels,
}
"""By the figure that is to find them."""


def _answers(dialogue: Dialogue) -> list[int]:
    return [i for i, message in enumerate(dialogue["messages"]) if message["role"] == "assistant"]


def _changed(dialogue: Dialogue, changes: dict[int, Callable[[str], str]]) -> Dialogue:
    messages = [
        {**message, "content": changes[i](message["content"])} if i in changes else message
        for i, message in enumerate(dialogue["messages"])
    ]
    return {**dialogue, "messages": messages}


def _ended(sentence: str, ending: str) -> str:
    """A Korean sentence with another final ending, as Kiwi conjugates it."""
    tokens = [(token.form, token.tag) for token in kiwi().tokenize(sentence)]
    place = next((i for i in reversed(range(len(tokens))) if tokens[i][1] == "EF"), None)
    if not place:
        return sentence
    copula = tokens[place - 1][1] == "VCP"
    tokens[place] = ({"어요": "에요", "어": "야"}.get(ending, ending) if copula else ending, "EF")
    return str(kiwi().join(tokens))
