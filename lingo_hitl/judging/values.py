"""One rating as models write it: `4`, `4점`, `4/5`, `5점 만점에 4점`, `★★★★☆`, `four`, `N/A`."""

from __future__ import annotations

import re

FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
FULL_WIDTH |= {ord(circled): ord(digit) for circled, digit in zip("①②③④⑤⑥⑦⑧⑨", "123456789", strict=True)}
"""Full-width and circled forms to plain ones, one character for one, so that positions stay."""

_NUMBER = r"\d+(?:\.\d+)?"
_UNIT = r"(?:\s*(?:점|stars?\b|points?\b|⭐|★))?"
_NOT_GIVEN = re.compile(r"(?:n/?a\b|none\b|null\b|not applicable|해당\s*없음|없음|평가\s*불가)", re.I)
_OUT_OF_KO = re.compile(rf"({_NUMBER})\s*점?\s*(?:만점\s*(?:에서?|중)?|중(?:에서?)?)\s*({_NUMBER}){_UNIT}")
_OUT_OF = re.compile(rf"({_NUMBER}){_UNIT}\s*(?:/|out\s+of|of)\s*({_NUMBER}){_UNIT}", re.I)
_PLAIN = re.compile(rf"({_NUMBER}){_UNIT}", re.I)
_STARS = re.compile(r"([★⭐]+)️?([☆✩]*)")
_WORD = re.compile(r"(one|two|three|four|five)\b(?!\s*(?:to|or|-)\b)", re.I)
_WORDS = {"one": 1.0, "two": 2.0, "three": 3.0, "four": 4.0, "five": 5.0}
# What makes a number part of something else: a range, a list, a percentage, a longer number.
_GOES_ON = re.compile(r"\s*(?:[-–—~∼]\s*\d|to\s+\d|or\s+\d|또는\s*\d|에서\s*\d|[,/]\s*\d|%|\d|\.\d)", re.I)
_LEAD = re.compile(r"[\s*_`\[(<\"'“|]*")


class NotGiven(Exception):
    """The judge says that there is no rating, or what it says is not one; the text says which."""


def read_value(text: str) -> tuple[float, int] | None:
    """The rating with which `text` begins and where it ends; None where it begins with no number at all.

    The value may lie outside 1 to 5: that is for the caller to say.

    Raises:
        NotGiven: N/A and the like, a range, a list of numbers, another scale than one of five.
    """
    start = _match(_LEAD, text, 0).end()
    if _NOT_GIVEN.match(text, start):
        raise NotGiven("it gives no rating (N/A)")
    if out_of := _OUT_OF_KO.match(text, start):
        return _on_five(float(out_of[2]), float(out_of[1]), text, out_of.end())
    if out_of := _OUT_OF.match(text, start):
        return _on_five(float(out_of[1]), float(out_of[2]), text, out_of.end())
    if plain := _PLAIN.match(text, start):
        if _GOES_ON.match(text, plain.end()):
            raise NotGiven(f"'{text[start : plain.end() + 6].strip()}' is not one rating")
        return float(plain[1]), plain.end()
    if stars := _STARS.match(text, start):
        if stars[2] and len(stars[1]) + len(stars[2]) != 5:
            raise NotGiven("its stars are not out of five")
        return float(len(stars[1])), stars.end()
    if word := _WORD.match(text, start):
        return _WORDS[word[1].lower()], word.end()
    return None


def _on_five(value: float, scale: float, text: str, end: int) -> tuple[float, int]:
    if scale != 5:
        raise NotGiven(f"its scale ends at {scale:g}, not at 5")
    if _GOES_ON.match(text, end):
        raise NotGiven(f"'{text[: end + 6].strip()}' is not one rating")
    return value, end


def _match(pattern: re.Pattern[str], text: str, start: int) -> re.Match[str]:
    found = pattern.match(text, start)
    assert found is not None  # the pattern matches the empty text
    return found
