"""Which text a part of a reply is about: `#### Output for Text 1`, `글 2의 평가`, `2번 답변:`, `Text A (4/5)`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MARKS = r"[ \t#>*_\-•·\[<(【「《|`]*"
"""What may stand before the first word of a line: headings, lists, brackets, tables."""

_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "one": 1, "two": 2, "three": 3, "four": 4}
_ORDINALS |= {"첫": 1, "두": 2, "세": 3, "네": 4, "둘": 2, "셋": 3, "넷": 4}
_NOUN_EN = r"(?:text|response|answer|completion|generation|output|candidate|turn|reply)"
_NOUN_KO = r"(?:글|텍스트|답변|응답|출력|문장|후보|생성문|턴|차례|대답)"
_RATED = r"(?:평가|평점|점수|별점|결과|출력|근거|ratings?|scores?|evaluation|assessment|output)"
_ASIDE = rf"(?:의|에\s*대한|은|는|['’]s)?\s*{_RATED}?(?:은|는)?"
_LABEL = re.compile(
    rf"^{MARKS}(?:(?:output|ratings?|scores?|evaluation|assessment|annotation|feedback)\s+(?:for|of)\s+(?:the\s+)?)?(?:"
    rf"{_NOUN_EN}[\s_-]*(?:no\.?|number)?\s*[#<(]?\s*(?P<en>\d{{1,2}})(?![\d.,/])"
    rf"|(?-i:(?:Text|Response|Answer|TEXT|글|텍스트|답변|응답))\s+(?P<letter>(?-i:[A-D]))(?![a-zA-Z가-힣])"
    rf"|(?-i:(?:Text|Response|Answer))\s+(?P<word>one|two|three|four)\b"
    rf"|{_NOUN_KO}[\s_-]*[#<(]?\s*(?P<ko>\d{{1,2}})(?![\d.,/점])(?:번(?![가-힣]))?"
    rf"|(?P<beon>\d{{1,2}})\s*번(?:째)?(?:\s*{_NOUN_KO})?"
    rf"|(?P<nth>first|second|third|fourth)\s+{_NOUN_EN}"
    rf"|(?P<ko_nth>첫|두|세|네)\s*번째\s*{_NOUN_KO}"
    rf"|(?P<ko_jjae>첫|둘|셋|넷)째(?:\s*{_NOUN_KO})?"
    rf"|(?:rating|score|평점|점수|평가|별점)[ _]*(?P<rated>\d{{1,2}})(?=[ \t*_]*[:=→])"
    rf")(?=[ \t\])>】」》*_`]*{_ASIDE}[ \t\])>】」》*_`]*(?:[:(=|→–—-]|$|(?<=[은는])[ \t]*\d))",
    re.I | re.M,
)
_HINTS = re.compile(
    rf"(?:{_NOUN_EN}|{_NOUN_KO})[\s_-]*(?:no\.?|number)?\s*[#<(]?\s*(?P<noun>\d{{1,2}})(?!\d)"
    r"|(?<!\d)(?P<beon>\d{1,2})\s*번|(?P<ko_nth>첫|두|세|네)\s*번째|(?P<ko_jjae>첫|둘|셋|넷)째"
    r"|\b(?P<nth>first|second|third|fourth)\b"
    r"|^\W*(?P<roman>I{1,3}|IV)(?=[.):]|\W*$)|^\W*(?P<letter>[A-Da-d]|[가나다라])(?=[.):]|\W*$)"
    r"|^\W*(?P<bare>\d{1,2})(?=[.):]\s|\W*$)|^\W*T(?P<t>\d)\b"
    r"|(?-i:(?<![A-Za-z])(?P<end>[A-D])(?=\W*$))|(?<![\d./])(?P<tail>\d{1,2})\W*$",
    re.I,
)
_HINT_VALUES = {"i": 1, "ii": 2, "iii": 3, "iv": 4, "가": 1, "나": 2, "다": 3, "라": 4}
_HINT_VALUES |= {letter: n for n, letter in enumerate("abcd", start=1)}
_HEADING = re.compile(rf"[ \t\])>】」》*_`]*{_ASIDE}[ \t\])>】」》*_`:–—-]*$", re.I | re.M)


@dataclass(frozen=True)
class Label:
    """A label at the beginning of a line.

    Attributes:
        number: of the text, from 1, as the label says.
        style: how it is written, without the number; labels of one list are alike.
        heading: nothing else stands on its line.
    """

    number: int
    start: int
    end: int
    style: str
    heading: bool


def labels_in(text: str) -> list[Label]:
    """All labels of a reply, in their order."""
    return [_label(text, match) for match in _LABEL.finditer(text)]


def complete_lists(labels: Sequence[Label], count: int) -> list[list[Label]]:
    """Labels of one style that name each of `count` texts exactly once: lists of their own."""
    styles = dict.fromkeys(label.style for label in labels)
    lists = [[label for label in labels if label.style == style] for style in styles]
    return [one for one in lists if sorted(label.number for label in one) == list(range(1, count + 1))]


def sections(labels: Sequence[Label], others: Sequence[Label], length: int) -> list[tuple[Label, int]]:
    """Each of `labels` with the position where its part of a reply of `length` characters ends.

    A part ends at the next of `labels`, or at a heading among `others`: a label in the middle of a
    sentence, such as a rationale's `Text 1: better than this`, ends nothing.
    """
    own = {label.start for label in labels}
    cuts = sorted({*own, *(label.start for label in others if label.heading), length})
    ends = dict(pairwise(cuts))
    return [(label, ends[label.start]) for label in labels]


def hints_in(line: str) -> set[int]:
    """The numbers of the texts that a line may speak of, in whatever way: more than `labels_in` knows for sure."""
    hints = set()
    for match in _HINTS.finditer(line):
        found = str(match[str(match.lastgroup)]).lower()
        hints.add(int(found) if found.isdecimal() else _ORDINALS.get(found) or _HINT_VALUES[found])
    return hints


def _label(text: str, match: re.Match[str]) -> Label:
    group = str(match.lastgroup)
    found = match[group]
    number = (
        "ABCD".index(found) + 1
        if group == "letter"
        else _ORDINALS[found.lower()]
        if not found.isdecimal()
        else int(found)
    )
    heading = _HEADING.match(text, match.end())
    before = text[match.start() : match.start(group)]
    after = re.match(r"[^\w\n]*", text[match.end() :])
    style = " ".join(f"{before}\0{group}{after[0] if after and not heading else '.'}".split())
    return Label(number, match.start(), match.end(), style, heading is not None)
