"""A rating and its rationale in one part of a judge's reply: `평점: 4점`, `**Rating**: 4/5`, `Rationale: ...`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from lingo_hitl.judging.labels import MARKS
from lingo_hitl.judging.values import NotGiven, OtherScale, read_value
from lingo_hitl.judging.verdict import Verdict

TOTAL = r"(?:overall|final|total|총|최종|종합|전체)"
_KEY = rf"(?:{TOTAL}\s*)?(?:ratings?|scores?|grade|평점|점수|별점|총점|평가\s*점수|평가)"
_SEPARATOR = r"[ \t*_`]*(?P<aside>\([^)\n]{0,20}\))?[ \t*_`]*(?:[:=→|]|[–—-](?=\s)|\bis\b|은|는)"
RATING_LINE = re.compile(
    rf"^{MARKS}(?P<key>{_KEY})(?:{_SEPARATOR}|[ \t]+(?=[★⭐]|\d+(?:\.\d+)?(?!\s*[:=→\d])))", re.I | re.M
)
RATING_INLINE = re.compile(
    rf"(?<![\w가-힣])(?P<key>{_KEY})[ \t*_`]*(?P<aside>\([^)\n]{{0,20}}\))?[ \t*_`]*"
    r"(?:[:=]|(?:[은는]|[–—-]|is)\s*(?=\d))",
    re.I,
)
RATIONALE = re.compile(
    rf"(?:^{MARKS}|[.;,|)점]\s*)(?:rationale|reason(?:ing)?|explanation|justification|근거|이유|설명)"
    r"(?:\s+for\s+rating)?[ \t*_`]*[:=–—-][ \t*_`]*",
    re.I | re.M,
)
_AFTER_LABEL = re.compile(r"(?:의|은|는)?[ \t\])>】」》*_`:=|→–—(-]*")
_BARE_END = re.compile(
    r"[\])*_`\"'”]*(?:\s*(?:입니다|이다|점)?[.。]?\s*$|\s*(?:입니다|이다)(?=[\s.,。])|\s*[|.,;:(–—-]|\s*\n)", re.M
)


def section(text: str, reply: str, start: int, end: int) -> Verdict | None:
    """The verdict in `text[start:end]`, which begins right after a label; None where nothing there is a rating."""
    part = text[start:end]
    lines = list(RATING_LINE.finditer(part))
    # A line that begins with `Rating:` is one; in the middle of a line only where no line begins so.
    keys = lines or list(RATING_INLINE.finditer(part))
    verdicts = [found for key in keys if (found := after_key(part, key)) is not None]
    if not verdicts:
        bare = _AFTER_LABEL.match(part)
        found = verdict_at(part, bare.end() if bare else 0, bare=True)
        verdicts = [found] if found else []
    if not verdicts:
        return None
    if len({verdict.rating for verdict in verdicts}) > 1:
        return conflict(verdicts)
    return replace(verdicts[0], rationale=rationale_in(part, reply[start:end]))


def conflict(verdicts: Sequence[Verdict]) -> Verdict:
    return Verdict(fault="two different ratings", other_scale=any(v.other_scale for v in verdicts))


def after_key(part: str, key: re.Match[str]) -> Verdict | None:
    """What is rated behind `Rating:` and the like."""
    scale = max(map(float, re.findall(r"\d+", key["aside"] or "")), default=5.0)
    if scale > 5:  # `Rating (1-10):`
        return Verdict(fault=str(OtherScale(scale)), other_scale=True)
    return verdict_at(part, key.end())


def verdict_at(part: str, at: int, *, bare: bool = False) -> Verdict | None:
    """What is rated at `part[at:]`; `bare`: nothing but its place says that it is a rating."""
    rest = part[at:]
    # A value may stand on the line below its key, but not further away.
    if not rest.partition("\n")[0].strip(" \t*_`"):
        rest = rest.partition("\n")[2]
    rest = rest.partition("\n")[0] if not bare else rest
    try:
        value = read_value(rest)
    except NotGiven as fault:
        return Verdict(fault=str(fault), other_scale=isinstance(fault, OtherScale))
    if value is None or (bare and not _BARE_END.match(rest, value[1])):
        return None
    return Verdict.of(value[0])


def rationale_in(part: str, original: str) -> str | None:
    """What stands behind the last `Rationale:`, up to the next rating; the models' own characters."""
    found = list(RATIONALE.finditer(part))
    if not found:
        return None
    start = found[-1].end()
    after = RATING_LINE.search(part, start)
    text = re.sub(r"</?\w+>\s*$", "", original[start : after.start() if after else len(original)].rstrip())
    return re.sub(r"(?:\n\s*-{3,}|\n\s*#+)\s*$", "", text.rstrip(" \n\t*#`<|")).strip(" \n\t*`") or None
