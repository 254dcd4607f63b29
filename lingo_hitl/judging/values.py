"""One rating as models write it: `4`, `4점`, `4/5`, `5점 만점에 4점`, `★★★★☆`, `four`, `네 점`, `3½`, `4️⃣`, `N/A`."""

from __future__ import annotations

import re

FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}
FULL_WIDTH |= dict.fromkeys([0x3000, 0xA0, 0xFE0F, 0x20E3, 0x200B, 0x200C, 0x2060, 0xFEFF, 0x0D], 0x20)
"""Full-width forms to plain ones and unseen characters to spaces, one for one, so that positions stay."""

CIRCLED = {ord(circled): ord(digit) for circled, digit in zip("①②③④⑤⑥⑦⑧⑨", "123456789", strict=True)}
PLAIN = FULL_WIDTH | CIRCLED

_NUMBER = r"\d+(?:\.\d+)?"
_UNIT = r"(?:\s*(?:점|stars?\b|points?\b|⭐|★))?"
_NOT_GIVEN = re.compile(r"(?:n/?a\b|none\b|null\b|not applicable|해당\s*없음|없음|평가\s*불가|unknown\b)", re.I)
_OUT_OF_KO = re.compile(rf"({_NUMBER})\s*점?\s*(?:만점\s*(?:에서?|중에?|기준)?|중(?:에서?)?)\s*({_NUMBER}){_UNIT}")
_OUT_OF = re.compile(rf"({_NUMBER}){_UNIT}\s*(?:/|out\s+of|of)\s*({_NUMBER}){_UNIT}", re.I)
_PLAIN = re.compile(rf"({_NUMBER}){_UNIT}", re.I)
_STARS = re.compile(r"((?:[★⭐🌟][ ]?)+)(½?)[ ]?((?:[☆✩✰][ ]?)*)")
_WORD = re.compile(r"(one|two|three|four|five|six|seven|eight|nine|ten)\b(?!\s*(?:to|or|-)\b)", re.I)
_WORDS = {"one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0}
_WORDS |= {"six": 6.0, "seven": 7.0, "eight": 8.0, "nine": 9.0, "ten": 10.0}
_WORD_SCALE = re.compile(rf"\s*(?:stars?|points?)?\s*(?:/|out\s+of|of)\s*(?:({_NUMBER})|([a-z]+))", re.I)
# `네` alone is a yes, `이점` an advantage and `오점` a stain: short forms count only before 점 and where that ends.
_HANGUL = re.compile(
    r"(?:(한|두|세|네)\s*점|(삼|사)점|(하나|둘|셋|넷|다섯)(?:\s*점)?)"
    r"(?=입니다|이다|이에요|만\s|을\s|[ \t*_`]*(?:$|[.,;:()|\]\n–—-]))"
)
_HANGUL_VALUES = {
    **dict.fromkeys(["한", "하나"], 1.0),
    **dict.fromkeys(["두", "둘"], 2.0),
    **dict.fromkeys(["세", "셋", "삼"], 3.0),
    **dict.fromkeys(["네", "넷", "사"], 4.0),
    "다섯": 5.0,
}
_HALF = re.compile(rf"(?:\s*½|(?<=점)\s*반(?=이|입|[^가-힣]|$)|\s+and\s+a\s+half\b){_UNIT}", re.I)
# What makes a number part of something else: a range, a list, a percentage, a bound, a sum, a longer number.
_GOES_ON = re.compile(
    r"\s*(?:[-–—~∼:+]\s*\d|to\s+\d|or\s+\d|and\s+\d|또는\s*\d|이나\s*\d|에서\s*\d|부터|[,/]\s*\d|%|퍼센트|percent|\d|\.\d)"
    r"|\s*(?:미만|이상|이하|초과|이내|감점|차감|대(?![가-힣])|반(?![가-힣])|½|(?:→|[-=]>)\s*\d|(?:minus|plus|less|deducted)\b)"
    r"|\s*or\s+(?:more|less|higher|lower|above|below|better|worse)\b|\s+and\s+a\s+half\b"
    r"|\+|(?:st|nd|rd|th|위|등|번|개)(?![a-z])",
    re.I,
)
_SCALE_AFTER = re.compile(
    rf"\s*[(\[]\s*(?:out\s+of|of|on\s+a\s+scale\s+of|/|max(?:imum)?\.?:?)?\s*(?:1\s*(?:[-–—~∼]|to)\s*)?({_NUMBER})"
    r"\s*(?:점\s*만점(?:\s*(?:기준|중))?|점|points?|max)?\s*[)\]]",
    re.I,
)
_LEAD = re.compile(r"[\s*_`\[(<\"'“|]*")


class NotGiven(Exception):
    """The judge says that there is no rating, or what it says is not one; the text says which."""


class OtherScale(NotGiven):
    """The judge rates on another scale than 1 to 5, so that its other ratings cannot be believed either."""

    def __init__(self, highest: float) -> None:
        super().__init__(f"its scale ends at {highest:g}, not at 5")


def read_value(text: str) -> tuple[float, int] | None:
    """The rating with which `text` begins and where it ends; None where it begins with no number at all.

    The value may lie outside 1 to 5: that is for the caller to say.

    Raises:
        NotGiven: N/A and the like, a range, a list of numbers, another scale than one of five.
    """
    start = _match(_LEAD, text, 0).end()
    if _NOT_GIVEN.match(text, start):
        raise NotGiven("it gives no rating (N/A)")
    return _in_digits(text, start) or _in_stars(text, start) or _in_words(text, start)


def _in_digits(text: str, start: int) -> tuple[float, int] | None:
    if out_of := _OUT_OF_KO.match(text, start):
        return _on_five(float(out_of[2]), float(out_of[1]), text, out_of.end())
    if out_of := _OUT_OF.match(text, start):
        return _on_five(float(out_of[1]), float(out_of[2]), text, out_of.end())
    if plain := _PLAIN.match(text, start):
        return _on_five(float(plain[1]), _scale_after(text, plain.end()), text, plain.end())
    return None


def _in_stars(text: str, start: int) -> tuple[float, int] | None:
    stars = _STARS.match(text, start)
    if stars is None:
        return None
    full, empty = (len(re.sub(r"\s", "", stars[part])) for part in (1, 3))
    if empty and full + empty + bool(stars[2]) != 5:
        raise NotGiven("its stars are not out of five")
    return full + 0.5 * bool(stars[2]), stars.end()


def _in_words(text: str, start: int) -> tuple[float, int] | None:
    if word := _WORD.match(text, start):
        return _on_five(_WORDS[word[1].lower()], _scale_in_words(text, word.end()), text, word.end())
    if hangul := _HANGUL.match(text, start):
        value = _HANGUL_VALUES[hangul[1] or hangul[2] or hangul[3]]
        return _on_five(value, _scale_after(text, hangul.end()), text, hangul.end())
    return None


def _on_five(value: float, scale: float, text: str, end: int) -> tuple[float, int]:
    if scale != 5:
        raise OtherScale(scale)
    if value.is_integer() and (half := _HALF.match(text, end)):
        value, end = value + 0.5, half.end()
    if _GOES_ON.match(text, end):
        raise NotGiven(f"'{text[: end + 6].strip()}' is not one rating")
    return value, end


def _scale_after(text: str, end: int) -> float:
    """The scale that stands in brackets behind a value: 10 for `4 (10점 만점)`, else 5."""
    scale = _SCALE_AFTER.match(text, end)
    return float(scale[1]) if scale and float(scale[1]) >= 5 else 5.0


def _scale_in_words(text: str, end: int) -> float:
    scale = _WORD_SCALE.match(text, end)
    if scale is None:
        return _scale_after(text, end)
    return float(scale[1]) if scale[1] else _WORDS.get(scale[2].lower(), 5.0)


def _match(pattern: re.Pattern[str], text: str, start: int) -> re.Match[str]:
    found = pattern.match(text, start)
    assert found is not None  # the pattern matches the empty text
    return found
