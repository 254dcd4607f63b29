"""Catchphrase overuse: how many of the later answers fall back on a phrase that was said before.

Two things count as a phrase: the persona's own ones, beyond what is welcome of them, and set phrases, which are
found by where and how they recur. What a dialogue is about recurs too, and so do grammar and connectives ("할 수
있어요", "for example"); neither is a set phrase. Thus a run of tokens is one only where most of its content words
name nothing that the user asked about, and the freer it stands in a text, the less else it must show:

    opening, closing    the same first or last segment (what stands between punctuation marks) of two answers
    segment             the same one elsewhere, of four tokens or more with two content words
    sentence            the same one elsewhere, of five tokens or more with a content word
    run                 the same tokens in the middle of sentences: eight morphemes or six words, three of content
    tic                 any segment with a content word that is in three answers, or, of two words, in both of two:
                        a name called, a laugh
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from lingo_hitl.config import Language
from lingo_hitl.generation.phrases import spoken
from lingo_hitl.judging.dialogue_quality.tokens import Said, Sentence, Token

TIC_ANSWERS = 3
_VARIED_FROM = 8  # letters of a phrase
_RUN = {"ko": 8, "en": 6}
_OPENING_RUN = {"ko": 6, "en": 4}
_SAID_ANYWAY = """
네 예 응 아니 아니요 아뇨 그럼 그래 맞 맞아 맞아요 물론 물론이죠 특히 또한 다만 즉 반면 먼저 우선 다음 다음으로
마지막으로 첫째 둘째 셋째 첫번째 두번째 예를들어 예를들면 사실 결국 참고로 따라서 일반적으로 다시말해 한마디로 반대로
무엇보다 그밖에 이외에도 뿐만아니라 간단히말하면 정확히말하면
yes no yeah yep nope sure right okay well first firstly second secondly third finally next then also again
inaddition asaresult ingeneral inshort infact ofcourse insteadof instead overall similarly likewise especially
generally specifically usually typically basically actually additionally furthermore moreover meanwhile
ontheotherhand inotherwords inthiscase inthatcase atthesametime unfortunately fortunately
"""
"""Yes, no and connectives, without spaces, as the forms of their tokens are joined."""
_CONNECTIVES = frozenset(_SAID_ANYWAY.split())

Forms = tuple[str, ...]


@dataclass(frozen=True)
class _Segment:
    tokens: Sentence

    @property
    def forms(self) -> Forms:
        return _forms(self.tokens)


def overuse(
    texts: Sequence[str],
    answers: Sequence[Said],
    questions: Sequence[Said],
    welcome: Mapping[str, int],
    language: Language,
) -> float:
    """The share of later answers that fall back on a phrase, 0 to 1.

    Args:
        texts: the answers.
        answers: the same without the persona's phrases (see `without`), as tokens.
        questions: what the user said, as tokens.
        welcome: how often each phrase of the persona may come up.
    """
    at_fault = _unwelcome(texts, welcome) | _set_phrases(answers, _topic(questions), language)
    return min(1.0, len(at_fault) / max(1, len(texts) - 1))


def without(text: str, welcome: Mapping[str, int]) -> str:
    """`text` with a line break for each of the persona's phrases: what is welcome is no set phrase either."""
    for phrase in welcome:
        text = nearly_spoken(phrase).sub("\n", text)
    return text


@cache
def nearly_spoken(phrase: str) -> re.Pattern[str]:
    """As `spoken`, and with another ending where the phrase has one to change: "질문이에요", "질문이네요"."""
    letters = [*filter(str.isalnum, phrase)]
    if len(letters) < _VARIED_FROM:
        return spoken(phrase)
    beginning = r"\W*".join(map(re.escape, letters[: -(-len(letters) * 7 // 10)]))
    # The whole phrase first: one with a comma near its end would leave its last words behind.
    return re.compile(rf"{spoken(phrase).pattern}|(?<!\w){beginning}[^.,!?…\n]*", re.I)


def _unwelcome(texts: Sequence[str], welcome: Mapping[str, int]) -> set[int]:
    """The answers in which a phrase of the persona's comes up once too often."""
    at_fault = set()
    for phrase, most in welcome.items():
        said = 0
        for i, text in enumerate(texts):
            here = len(nearly_spoken(phrase).findall(text))
            said += here
            if here and said > most:
                at_fault.add(i)
    return at_fault


def _topic(questions: Sequence[Said]) -> frozenset[str]:
    tokens = (token for said in questions for line in said for sentence in line.sentences for token in sentence)
    return frozenset(token.form for token in tokens if token.names)


def _set_phrases(answers: Sequence[Said], topic: frozenset[str], language: Language) -> set[int]:
    """The answers with a set phrase that an earlier answer had."""
    segments = [list(_segments(said)) for said in answers]
    spread = Counter(forms for held in segments for forms in {segment.forms for segment in held})
    openings: set[Forms] = set()
    closings: set[Forms] = set()
    others: set[Forms] = set()
    runs: set[Forms] = set()
    at_fault = set()
    for i, (said, held) in enumerate(zip(answers, segments, strict=True)):
        new_openings = {first.forms for first in held[:1] if _stands_alone(first, topic)}
        start = _start(said, _OPENING_RUN[language], topic)
        new_openings |= {start} if start else set()
        new_closings = {last.forms for last in held[-1:] if _stands_alone(last, topic)}
        new_others = {s.forms for s in held if len(s.tokens) >= 4 and _formulaic(s.tokens, topic, 2)}
        new_others |= {_forms(s) for s in _prose(said) if len(_forms(s)) >= 5 and _formulaic(s, topic, 1)}
        new_runs = dict(_runs(said, _RUN[language]))
        tics = {s.forms for s in held if _is_tic(s, topic) and _comes_often(s, spread, len(answers))}
        seen = (new_openings & openings, new_closings & closings, (new_others | tics) & others)
        # Hardly any run recurs: only of those that do it is asked what they are made of.
        if any(seen) or any(_formulaic(new_runs[forms], topic, 3) for forms in new_runs.keys() & runs):
            at_fault.add(i)
        openings |= new_openings
        closings |= new_closings
        others |= new_others | tics
        runs |= new_runs.keys()
    return at_fault


def _segments(said: Said) -> Iterator[_Segment]:
    for sentence in _prose(said):
        held: list[Token] = []
        for token in (*sentence, Token("", "PAUSE")):
            if token.tag != "PAUSE":
                held.append(token)
            elif held:
                yield _Segment(tuple(held))
                held = []


def _prose(said: Said) -> Iterator[Sentence]:
    return (sentence for line in said if not line.block for sentence in line.sentences)


def _formulaic(tokens: Sentence, topic: frozenset[str], least: int) -> bool:
    content = [token for token in tokens if token.content]
    topical = sum(token.names and token.form in topic for token in content)
    return len(content) >= least and 2 * topical < len(content)


def _stands_alone(segment: _Segment, topic: frozenset[str]) -> bool:
    return len(segment.tokens) > 1 and _is_tic(segment, topic)


def _is_tic(segment: _Segment, topic: frozenset[str]) -> bool:
    return "".join(segment.forms) not in _CONNECTIVES and _formulaic(segment.tokens, topic, 1)


def _comes_often(segment: _Segment, spread: Counter[Forms], answers: int) -> bool:
    return spread[segment.forms] >= (2 if answers == 2 and len(segment.tokens) > 1 else TIC_ANSWERS)


def _forms(tokens: Sentence) -> Forms:
    return tuple(token.form for token in tokens if token.tag != "PAUSE")


def _start(said: Said, length: int, topic: frozenset[str]) -> Forms | None:
    first = next((tuple(t for t in sentence if t.tag != "PAUSE") for sentence in _prose(said)), ())[:length]
    return _forms(first) if len(first) == length and _formulaic(first, topic, 2) else None


def _runs(said: Said, length: int) -> Iterator[tuple[Forms, Sentence]]:
    for sentence in _prose(said):
        tokens = tuple(token for token in sentence if token.tag != "PAUSE")
        forms = _forms(tokens)
        for i in range(len(tokens) - length + 1):
            yield forms[i : i + length], tokens[i : i + length]
