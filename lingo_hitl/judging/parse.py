"""Ratings out of a judge's reply: the right rating on the right text, or none with the reason.

A reply is read in this order, and the first form that it has settles it:

1. JSON: `{"ratings": [4, 2]}`, a list of objects, objects with labels (see `parse_json`);
2. sections under labels, in any order: `#### Output for Text 1`, `글 2의 평가`, `2번 답변:`, `Text 1: 4`;
3. numbered lines `1. 4` from 1 to the number of texts;
4. without labels: exactly as many rating lines as there are texts, in their order.

Whatever could put a rating on another text gives none: labels that the texts do not have, two different
ratings under one label, more or fewer unlabelled ratings than texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lingo_hitl.judging.parse_json import read_json
from lingo_hitl.judging.values import FULL_WIDTH, NotGiven, read_value
from lingo_hitl.judging.verdict import Verdict

_MARKS = r"[ \t#>*_\-•·\[<(【「《|`]*"
_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "첫": 1, "두": 2, "세": 3, "네": 4}
_NOUN_EN = r"(?:text|response|answer|completion|generation|output|candidate)"
_NOUN_KO = r"(?:글|텍스트|답변|응답|출력|문장|후보|생성문)"
_ASIDE = (
    r"(?:의|에\s*대한|은|는)?\s*(?:평가|평점|점수|별점|결과|출력|근거|ratings?|scores?|evaluation|assessment|output)?"
)
_LABEL = re.compile(
    rf"^{_MARKS}(?:(?:output|ratings?|scores?|evaluation|assessment|annotation)\s+(?:for|of)\s+(?:the\s+)?)?(?:"
    rf"{_NOUN_EN}\s*[#<]?\s*(?P<en>\d{{1,2}})(?![\d.,/])"
    rf"|(?-i:(?:Text|Response|Answer|TEXT))\s+(?P<letter>(?-i:[A-D]))\b"
    rf"|{_NOUN_KO}\s*[#<]?\s*(?P<ko>\d{{1,2}})(?![\d.,/점])"
    rf"|(?P<beon>\d{{1,2}})\s*번(?:째)?(?:\s*{_NOUN_KO})?"
    rf"|(?P<nth>first|second|third|fourth)\s+{_NOUN_EN}"
    rf"|(?P<ko_nth>첫|두|세|네)\s*번째\s*{_NOUN_KO}"
    rf"|(?:rating|score|평점|점수)\s*(?P<rated>\d{{1,2}})(?=[ \t*_]*[:=])"
    rf")(?=[ \t\])>】」》*_`]*{_ASIDE}[ \t\])>】」》*_`]*(?:[:(=|→–—-]|$))",
    re.I | re.M,
)
_NUMBERED = re.compile(rf"^{_MARKS}(?P<n>\d{{1,2}})\s*[.):]\s+", re.M)
_KEY = r"(?:(?:overall|final|total)\s+)?(?:ratings?|scores?|grade|평점|점수|별점|총점|평가\s*점수|평가)"
_SEPARATOR = r"[ \t*_`]*(?:\([^)\n]{0,20}\))?[ \t*_`]*(?:[:=→|]|[–—-](?=\s)|\bis\b|은|는)"
_RATING_LINE = re.compile(rf"^{_MARKS}{_KEY}(?:{_SEPARATOR}|[ \t]+(?=[\d★⭐]))", re.I | re.M)
_RATING_INLINE = re.compile(rf"(?<![\w가-힣]){_KEY}[ \t*_`]*(?:\([^)\n]{{0,20}}\))?[ \t*_`]*[:=]", re.I)
_RATIONALE = re.compile(
    rf"(?:^{_MARKS}|[.;,|)점]\s*)(?:rationale|reason(?:ing)?|explanation|justification|근거|이유|설명)"
    r"(?:\s+for\s+rating)?[ \t*_`]*[:=–—-][ \t*_`]*",
    re.I | re.M,
)
_AFTER_LABEL = re.compile(r"[ \t\])>】」》*_`:=|→–—(-]*")
_BARE_END = re.compile(r"[\])*_`\"'”]*(?:\s*(?:입니다|이다|점)?[.。]?\s*$|\s*[|.,;:(–—-]|\s*\n)", re.M)


def parse_ratings(reply: str, count: int) -> list[Verdict]:
    """One verdict for each of `count` texts; those without a rating say why.

    Never raises, whatever the reply is.
    """
    if from_json := read_json(reply, count):
        return from_json
    text = reply.translate(FULL_WIDTH)  # as long as the reply: positions in one hold in the other
    labels = [(_number(match), match) for match in _LABEL.finditer(text)]
    if labels:
        ends = [match.start() for _, match in labels[1:]] + [len(text)]
        found = [(n, _section(text, reply, match.end(), end)) for (n, match), end in zip(labels, ends, strict=True)]
        return by_label([(n, v) for n, v in found if v is not None], count, seen=[n for n, _ in labels])
    return _numbered(text, reply, count) or _in_order(text, reply, count)


def parse_score(reply: str) -> Verdict:
    """The score of one text, 1 to 5 in halves."""
    verdict = parse_ratings(reply, 1)[0]
    if verdict.rating is not None and not (2 * verdict.rating).is_integer():
        return Verdict(rationale=verdict.rationale, fault=f"{verdict.rating:g} is not a whole or half step")
    return verdict


def by_label(labelled: Sequence[tuple[int, Verdict]], count: int, *, seen: Sequence[int] = ()) -> list[Verdict]:
    """Verdicts put in the order of the texts by their labels, which begin at 1.

    Args:
        seen: every label in the reply, also those under which no rating stands.
    """
    labels = {n for n, _ in labelled}
    wanted = set(range(1, count + 1))
    stray = (labels | set(seen)) - wanted
    # Labels 0 and 1 for two texts, say: nobody can know which text is meant. A surplus one after all others can.
    if stray and (not wanted <= labels or min(stray) < 1):
        strays = ", ".join(map(str, sorted(stray)))
        return [Verdict(fault=f"it rates a text {strays}, but the texts are 1 to {count}")] * count
    verdicts = []
    for n in range(1, count + 1):
        mine = [verdict for label, verdict in labelled if label == n]
        if not mine:
            verdicts.append(Verdict(fault=f"no rating for text {n}"))
        elif len({verdict.rating for verdict in mine}) > 1:
            verdicts.append(Verdict(fault=f"two different ratings for text {n}"))
        else:
            verdicts.append(next((v for v in mine if v.rationale), mine[0]))
    return verdicts


def _number(match: re.Match[str]) -> int:
    if letter := match["letter"]:
        return "ABCD".index(letter) + 1
    if nth := match["nth"] or match["ko_nth"]:
        return _ORDINALS[nth.lower()]
    return int(match["en"] or match["ko"] or match["beon"] or match["rated"])


def _section(text: str, reply: str, start: int, end: int) -> Verdict | None:
    """The verdict in `text[start:end]`, which begins right after a label; None where nothing there is a rating."""
    part = text[start:end]
    lines = list(_RATING_LINE.finditer(part))
    # A line that begins with `Rating:` is one; in the middle of a line only where no line begins so.
    starts = [match.end() for match in lines or _RATING_INLINE.finditer(part)]
    verdicts = [found for at in starts if (found := _verdict(part, at)) is not None]
    if not verdicts:
        bare = _AFTER_LABEL.match(part)
        at = bare.end() if bare else 0
        found = _verdict(part, at, bare=True)
        verdicts = [found] if found else []
    if not verdicts:
        return None
    if len({verdict.rating for verdict in verdicts}) > 1:
        return Verdict(fault="two different ratings for one text")
    rationale = _rationale(part, reply[start:end])
    return Verdict(verdicts[0].rating, rationale=rationale, fault=verdicts[0].fault)


def _verdict(part: str, at: int, *, bare: bool = False) -> Verdict | None:
    """What is rated at `part[at:]`; `bare`: nothing but its place says that it is a rating."""
    rest = part[at:]
    # A value may stand on the line below its key, but not further away.
    if not rest.partition("\n")[0].strip(" \t*_`"):
        rest = rest.partition("\n")[2]
    rest = rest.partition("\n")[0] if not bare else rest
    try:
        value = read_value(rest)
    except NotGiven as fault:
        return Verdict(fault=str(fault))
    if value is None or (bare and not _BARE_END.match(rest, value[1])):
        return None
    return Verdict.of(value[0])


def _rationale(part: str, original: str) -> str | None:
    """What stands behind the last `Rationale:`, up to the next rating; the models' own characters."""
    found = list(_RATIONALE.finditer(part))
    if not found:
        return None
    start = found[-1].end()
    after = _RATING_LINE.search(part, start)
    text = original[start : after.start() if after else len(original)]
    return re.sub(r"(?:\n\s*-{3,}|\n\s*#+)\s*$", "", text.rstrip(" \n\t*#`<|")).strip(" \n\t*`") or None


def _numbered(text: str, reply: str, count: int) -> list[Verdict] | None:
    """Lines numbered exactly 1 to `count`, each with its own rating; None where the numbers count something else."""
    items = list(_NUMBERED.finditer(text))
    if count < 2 or [int(item["n"]) for item in items] != list(range(1, count + 1)):
        return None
    ends = [item.start() for item in items[1:]] + [len(text)]
    verdicts = [_section(text, reply, item.end(), end) for item, end in zip(items, ends, strict=True)]
    if any(verdict is None for verdict in verdicts) or _RATING_LINE.search(text, 0, items[0].start()):
        return None
    return [verdict for verdict in verdicts if verdict is not None]


def _in_order(text: str, reply: str, count: int) -> list[Verdict]:
    """Ratings without labels: as many as texts, or for a single text several that agree."""
    lines = list(_RATING_LINE.finditer(text)) or list(_RATING_INLINE.finditer(text))
    if not lines:
        return _values_alone(text, reply, count)
    if count > 1 and len(lines) != count:
        fault = f"{len(lines)} ratings without labels for {count} texts"
        return [Verdict(fault=fault)] * count
    if count == 1:
        given = [found for line in lines if (found := _verdict(text, line.end())) is not None]
        if len({verdict.rating for verdict in given}) > 1:
            return [Verdict(fault="two different ratings for one text")]
        only = given[0] if given else Verdict(fault="no number where the rating should be")
        return [Verdict(only.rating, rationale=_rationale(text, reply), fault=only.fault)]
    verdicts = []
    ends = [line.start() for line in lines[1:]] + [len(text)]
    for line, end in zip(lines, ends, strict=True):
        found = _verdict(text[:end], line.end()) or Verdict(fault="no number where the rating should be")
        part = slice(line.start(), end)
        verdicts.append(Verdict(found.rating, rationale=_rationale(text[part], reply[part]), fault=found.fault))
    return verdicts


def _values_alone(text: str, reply: str, count: int) -> list[Verdict]:
    """A reply of nothing but values, one a line; for a single text its first line, the rest being the reason."""
    lines = [line for line in text.splitlines() if line.strip()]
    first = lines[:count] if count == 1 else lines
    verdicts = [_whole_line(line) for line in first]
    if len(first) != count or any(verdict is None for verdict in verdicts):
        return [Verdict(fault="no rating found")] * count
    rest = None
    if count == 1:
        written = [line for line in reply.splitlines() if line.strip()]
        rest = (_rationale(text, reply) or "\n".join(written[1:]).strip()) or None
    return [Verdict(v.rating, rationale=rest, fault=v.fault) for v in verdicts if v is not None]


def _whole_line(line: str) -> Verdict | None:
    try:
        value = read_value(line.strip("- \t"))
    except NotGiven as fault:
        return Verdict(fault=str(fault))
    end = line.strip("- \t")[value[1] :] if value else "?"
    return Verdict.of(value[0]) if value and re.fullmatch(r"[\s\])*_`\"'”.。!]*(?:입니다|이다)?[.。\s]*", end) else None
