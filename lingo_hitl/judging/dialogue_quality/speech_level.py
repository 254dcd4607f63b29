"""Speech levels of Korean: at which one a speaker talks, and how often another one slips in.

The ending of a sentence's last predicate tells its level: 합쇼체 -습니다, 해요체 -어요, 반말 -어, 해라체 -ㄴ다. Not
counted are sentences that have no such ending (nouns, 응, 아니요), what stands in lists, quotation marks and
brackets, thanks and greetings, whose form is fixed ("감사합니다" is said at every polite level), and questions to
oneself (-ㄹ까, -ㄴ가).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lingo_hitl.judging.dialogue_quality.tokens import Said, Sentence, Token

HAPSYO, HAEYO, HAE, HAERA = "합쇼체", "해요체", "반말", "해라체"
LEVELS = (HAEYO, HAPSYO, HAE, HAERA)  # where two fit a speaker as well, the first
OTHER_NAMES = {"하십시오체": HAPSYO, "하십쇼체": HAPSYO, "해체": HAE, "평어": HAE, "문어체": HAERA, "한다체": HAERA}
POLITE = (HAEYO, HAPSYO)

_GREETINGS = """
감사 감사하 고맙 죄송 죄송하 미안 미안하 반갑 안녕 안녕하 안녕히 축하 축하하 수고 수고하 천만
"""
_FIXED = frozenset(_GREETINGS.split())
_NEUTRAL = re.compile(
    r"(?:[ᆯ을]까|[ᆫ은는던]가|[ᆯ을]지|나)$"  # questions to oneself
    r"|^[ᆷ음기]$"  # nouns made of verbs
    r"|[답랍]니다$"  # a storyteller's, among 해요체 as well as 합쇼체
)
_HAERA = re.compile(r"(?:다|라|단다|란다)$")
_HAPSYO = re.compile(r"(?:니다|[ᆸ습]니까|ᆸ시다|읍시다|시오|십쇼|나이다)$")


@dataclass(frozen=True)
class Levels:
    """How a speaker talks: the level that fits best, and the share of sentences that leave it.

    Attributes:
        main: None where no sentence tells.
        shift: 0 to 1, None where no sentence tells.
        sentences: how many told.
    """

    main: str | None
    shift: float | None
    sentences: int


def levels_of(texts: Sequence[Said], wanted: str | None = None) -> Levels:
    """How a speaker talks in `texts`; `shift` is counted from `wanted` where that is a level known here.

    A sentence at another level of the same politeness (해요체 and 합쇼체, 반말 and 해라체) counts half, as speakers of
    Korean mix these more freely; 해라체 among 반말 counts nothing, as 반말 itself has -다, -자 and -냐.
    """
    counts = Counter(level for said in texts for level in _levels(said))
    total = sum(counts.values())
    if not total:
        return Levels(None, None, 0)
    main = min(LEVELS, key=lambda level: (_cost(level, counts), -counts[level]))
    target = OTHER_NAMES.get(wanted or "", wanted)
    return Levels(main, _cost(target if target in LEVELS else main, counts) / total, total)


def _cost(main: str, counts: Counter[str]) -> float:
    return sum(_distance(main, level) * n for level, n in counts.items())


def _distance(main: str, level: str) -> float:
    if main == level or (main == HAE and level == HAERA):
        return 0.0
    return 0.5 if (main in POLITE) == (level in POLITE) else 1.0


def _levels(said: Said) -> Iterator[str]:
    for line in said:
        if not line.block:
            for sentence in line.sentences:
                if level := level_of(sentence):
                    yield level


def level_of(sentence: Sentence) -> str | None:
    """The level of a sentence by its ending, None where it has none that tells."""
    tokens = [token for token in sentence if token.tag != "PAUSE" and not token.quoted]
    if not tokens:
        return None
    last = tokens[-1]
    if last.tag == "JX" and last.form in ("요", "이요"):
        return HAEYO
    if last.tag != "EF" or _is_fixed(tokens[:-1]) or _NEUTRAL.search(last.form):
        return None
    if last.form.endswith(("요", "죠", "뇨", "여")):
        return HAEYO
    if _HAPSYO.search(last.form):
        return HAPSYO
    return HAERA if _HAERA.search(last.form) else HAE


def _is_fixed(before: Sequence[Token]) -> bool:
    return any(token.form in _FIXED for token in before[-4:])
