"""Ratings out of a judge's reply: the right rating on the right text, or none with the reason.

What a model thought before it answered (`<think>`) is no part of its reply. The rest is read in this
order, and the first form that it has settles it:

1. JSON: `{"ratings": [4, 2]}`, a list of objects, objects with labels (see `parse_json`);
2. a table with a row or a column for each text (see `parse_table`);
3. sections under labels, in any order: `#### Output for Text 1`, `글 2의 평가`, `2번 답변:`, `Text 1: 4`;
4. numbered lines `1. 4` from 1 to the number of texts;
5. sentences that give each text one rating: `글 1은 4점, 글 2는 2점`;
6. without labels: exactly as many rating lines as there are texts, in their order.

Whatever could put a rating on another text gives none: labels that the texts do not have, two different
ratings under one label, two lists of labels that disagree, more or fewer unlabelled ratings than texts. A
rating above 5 or on a scale of ten makes the reply's other ratings doubtful too, so that none of them counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from lingo_hitl.judging.labels import MARKS, Label, complete_lists, labels_in, sections
from lingo_hitl.judging.parse_json import read_json
from lingo_hitl.judging.parse_table import read_table
from lingo_hitl.judging.values import CIRCLED, FULL_WIDTH, PLAIN, NotGiven, OtherScale, read_value
from lingo_hitl.judging.verdict import Verdict, by_label

_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.I | re.S)
_TAG = re.compile(r"<(rating|score|rationale|reason|평점|점수|근거)>(?!\s*$)", re.I | re.M)
_NUMBERED = re.compile(rf"^{MARKS}(?:(?P<n>\d{{1,2}})\s*[.):]\s+|(?P<circled>[①-⑨])\s*[:.)]?\s*)", re.M)
_TOTAL = r"(?:overall|final|total|총|최종|종합|전체)"
_KEY = rf"(?:{_TOTAL}\s*)?(?:ratings?|scores?|grade|평점|점수|별점|총점|평가\s*점수|평가)"
_SEPARATOR = r"[ \t*_`]*(?P<aside>\([^)\n]{0,20}\))?[ \t*_`]*(?:[:=→|]|[–—-](?=\s)|\bis\b|은|는)"
_RATING_LINE = re.compile(rf"^{MARKS}(?P<key>{_KEY})(?:{_SEPARATOR}|[ \t]+(?=[\d★⭐]))", re.I | re.M)
_RATING_INLINE = re.compile(
    rf"(?<![\w가-힣])(?P<key>{_KEY})[ \t*_`]*(?P<aside>\([^)\n]{{0,20}}\))?[ \t*_`]*"
    r"(?:[:=]|(?:[은는]|[–—-]|is)\s*(?=\d))",
    re.I,
)
_RATIONALE = re.compile(
    rf"(?:^{MARKS}|[.;,|)점]\s*)(?:rationale|reason(?:ing)?|explanation|justification|근거|이유|설명)"
    r"(?:\s+for\s+rating)?[ \t*_`]*[:=–—-][ \t*_`]*",
    re.I | re.M,
)
_OTHER_SCALE = re.compile(
    r"(?<!\d)(?P<ko>10|100|7)\s*점\s*(?:만점|척도)|scale\s+(?:of|from)\s+(?:[01]\s*(?:to|[-–—~])\s*)?(?P<en>10|100|7)(?!\d)"
    r"|(?<!\d)[01]\s*점?\s*(?:[-–—~∼]|to|부터|에서)\s*(?P<to>10|100|7)(?!\d)|out\s+of\s+(?P<of>10|100|7)(?!\d)",
    re.I,
)
_SENTENCE = re.compile(
    r"(?<![\w가-힣])(?:text|response|answer|글|텍스트|답변|응답)[ \t]*(?P<n>\d{1,2})(?!\d)(?:[ \t]*의)?[ \t]*"
    r"(?:평점|점수|ratings?|scores?)?[ \t]*(?:[:=(]|은|는|에는|is|gets|receives|deserves|a)[ \t*(]*(?=\d)",
    re.I,
)
_AFTER_LABEL = re.compile(r"(?:의|은|는)?[ \t\])>】」》*_`:=|→–—(-]*")
_BARE_END = re.compile(
    r"[\])*_`\"'”]*(?:\s*(?:입니다|이다|점)?[.。]?\s*$|\s*(?:입니다|이다)(?=[\s.,。])|\s*[|.,;:(–—-]|\s*\n)", re.M
)


def parse_ratings(reply: str, count: int, *, halves: bool = False) -> list[Verdict]:
    """One verdict for each of `count` texts; those without a rating say why.

    Never raises, whatever the reply is.

    Args:
        halves: a rating that is no whole or half step, such as 3.7, is none.
    """
    reply = _THOUGHT.sub("", unicodedata.normalize("NFC", reply))
    verdicts = _believed(read_json(reply, count) or _from_text(reply, count))
    return [_in_halves(verdict) for verdict in verdicts] if halves else verdicts


def parse_score(reply: str) -> Verdict:
    """The score of one text, 1 to 5 in halves."""
    return parse_ratings(reply, 1, halves=True)[0]


def _in_halves(verdict: Verdict) -> Verdict:
    if verdict.rating is None or (2 * verdict.rating).is_integer():
        return verdict
    return Verdict(rationale=verdict.rationale, fault=f"{verdict.rating:g} is not a whole or half step")


def _believed(verdicts: list[Verdict]) -> list[Verdict]:
    if not any(verdict.other_scale for verdict in verdicts):
        return verdicts
    doubt = "another rating of the same reply is not on a scale of 1 to 5"
    return [v if v.rating is None else Verdict(rationale=v.rationale, fault=doubt) for v in verdicts]


def _from_text(reply: str, count: int) -> list[Verdict]:
    reply = _TAG.sub(lambda tag: f" {tag[1]}:", reply)
    text = reply.translate(PLAIN)  # as long as the reply: positions in one hold in the other
    if table := read_table(text, reply, count):
        return table
    labels = labels_in(text)
    begins = min(
        [label.start for label in labels] + [match.start() for match in _RATING_LINE.finditer(text)][:1] or [0]
    )
    if scale := _OTHER_SCALE.search(text, 0, begins):
        highest = float(scale[str(scale.lastgroup)])
        return [Verdict(fault=str(OtherScale(highest)), other_scale=True)] * count
    if labels:
        found = _labelled(text, reply, labels, count)
        if count == 1 and found[0].rating is None:  # a rationale that counts up points has labels of its own
            return _in_order(text, reply, 1)
        # Labels of several lines have been read; a single one may only begin the sentence that names them all.
        return (_in_sentences(text, count, found) if len(labels) == 1 else None) or found
    return _numbered(text, reply, count) or _in_sentences(text, count) or _in_order(text, reply, count)


def _labelled(text: str, reply: str, labels: Sequence[Label], count: int) -> list[Verdict]:
    readings = [_read(text, reply, one, labels, count) for one in complete_lists(labels, count)]
    whole = [verdicts for verdicts in readings if _complete(verdicts)]
    if whole and all(_same(whole[0], other) for other in whole):
        return whole[0]
    everything = _read(text, reply, labels, labels, count)
    if whole:
        return everything
    doubtful = [
        any(reading[n].rating != everything[n].rating for reading in readings if any(v.rating for v in reading))
        for n in range(count)
    ]
    fault = "it is not clear which text a rating belongs to"
    return [Verdict(fault=fault) if doubt else v for doubt, v in zip(doubtful, everything, strict=True)]


def _read(text: str, reply: str, labels: Sequence[Label], others: Sequence[Label], count: int) -> list[Verdict]:
    parts = [
        (label.number, _section(text, reply, label.end, end)) for label, end in sections(labels, others, len(text))
    ]
    return by_label([(n, v) for n, v in parts if v is not None], count, seen=[label.number for label in labels])


def _same(one: Sequence[Verdict], other: Sequence[Verdict]) -> bool:
    return [verdict.rating for verdict in one] == [verdict.rating for verdict in other]


def _section(text: str, reply: str, start: int, end: int) -> Verdict | None:
    """The verdict in `text[start:end]`, which begins right after a label; None where nothing there is a rating."""
    part = text[start:end]
    lines = list(_RATING_LINE.finditer(part))
    # A line that begins with `Rating:` is one; in the middle of a line only where no line begins so.
    keys = lines or list(_RATING_INLINE.finditer(part))
    verdicts = [found for key in keys if (found := _after_key(part, key)) is not None]
    if not verdicts:
        bare = _AFTER_LABEL.match(part)
        found = _verdict(part, bare.end() if bare else 0, bare=True)
        verdicts = [found] if found else []
    if not verdicts:
        return None
    if len({verdict.rating for verdict in verdicts}) > 1:
        return _conflict(verdicts)
    return replace(verdicts[0], rationale=_rationale(part, reply[start:end]))


def _conflict(verdicts: Sequence[Verdict]) -> Verdict:
    return Verdict(fault="two different ratings for one text", other_scale=any(v.other_scale for v in verdicts))


def _after_key(part: str, key: re.Match[str]) -> Verdict | None:
    """What is rated behind `Rating:` and the like."""
    scale = max(map(float, re.findall(r"\d+", key["aside"] or "")), default=5.0)
    if scale > 5:  # `Rating (1-10):`
        return Verdict(fault=str(OtherScale(scale)), other_scale=True)
    return _verdict(part, key.end())


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
        return Verdict(fault=str(fault), other_scale=isinstance(fault, OtherScale))
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
    text = re.sub(r"</?\w+>\s*$", "", original[start : after.start() if after else len(original)].rstrip())
    return re.sub(r"(?:\n\s*-{3,}|\n\s*#+)\s*$", "", text.rstrip(" \n\t*#`<|")).strip(" \n\t*`") or None


def _numbered(text: str, reply: str, count: int) -> list[Verdict] | None:
    """Lines numbered exactly 1 to `count`, each with its own rating; None where the numbers count something else."""
    items = list(_NUMBERED.finditer(reply.translate(FULL_WIDTH)))
    numbers = [int(item["n"] or item["circled"].translate(CIRCLED)) for item in items]
    if count < 2 or numbers != list(range(1, count + 1)):
        return None
    ends = [item.start() for item in items[1:]] + [len(text)]
    verdicts = [_section(text, reply, item.end(), end) for item, end in zip(items, ends, strict=True)]
    if any(verdict is None for verdict in verdicts) or _RATING_LINE.search(text, 0, items[0].start()):
        return None
    return [verdict for verdict in verdicts if verdict is not None]


def _in_sentences(text: str, count: int, read: Sequence[Verdict] = ()) -> list[Verdict] | None:
    """Ratings within sentences, where every text has exactly one; None where not.

    Args:
        read: what was read so far: nothing is told where that is whole, or says otherwise.
    """
    given = list(_SENTENCE.finditer(text))
    if count < 2 or (read and _complete(read)) or sorted(int(m["n"]) for m in given) != list(range(1, count + 1)):
        return None
    verdicts = by_label([(int(m["n"]), v) for m in given if (v := _verdict(text, m.end(), bare=True))], count)
    agree = all(old.rating in (None, new.rating) for old, new in zip(read or verdicts, verdicts, strict=True))
    return verdicts if agree and _complete(verdicts) else None


def _complete(verdicts: Sequence[Verdict]) -> bool:
    return all(verdict.rating is not None for verdict in verdicts)


def _in_order(text: str, reply: str, count: int) -> list[Verdict]:
    """Ratings without labels: as many as texts, or for a single text several that agree."""
    lines = list(_RATING_LINE.finditer(text)) or list(_RATING_INLINE.finditer(text))
    if not lines:
        return _values_alone(text, reply, count)
    if count == 1:
        return [_the_one(text, reply, lines)]
    if len(lines) != count:
        fault = f"{len(lines)} ratings without labels for {count} texts"
        return [Verdict(fault=fault)] * count
    if len({"".join(line["key"].lower().split()) for line in lines}) > 1:
        return [Verdict(fault="ratings of different kinds, without labels")] * count
    verdicts = []
    ends = [line.start() for line in lines[1:]] + [len(text)]
    for line, end in zip(lines, ends, strict=True):
        found = _after_key(text[:end], line) or Verdict(fault="no number where the rating should be")
        part = slice(line.start(), end)
        verdicts.append(replace(found, rationale=_rationale(text[part], reply[part])))
    return verdicts


def _the_one(text: str, reply: str, lines: Sequence[re.Match[str]]) -> Verdict:
    """The rating of a single text: its total where it has one, else what all lines agree on."""
    totals = [line for line in lines if re.match(rf"{_TOTAL}|총점", line["key"], re.I)]
    given = [found for line in totals or lines if (found := _after_key(text, line)) is not None]
    if not given:
        return Verdict(fault="no number where the rating should be")
    if len({verdict.rating for verdict in given}) > 1:
        return _conflict(given)
    return replace(given[0], rationale=_rationale(text, reply))


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
    return [replace(verdict, rationale=rest) for verdict in verdicts if verdict is not None]


def _whole_line(line: str) -> Verdict | None:
    line = line.strip("- \t")
    try:
        value = read_value(line)
    except NotGiven as fault:
        return Verdict(fault=str(fault), other_scale=isinstance(fault, OtherScale))
    end = line[value[1] :] if value else "?"
    return Verdict.of(value[0]) if value and re.fullmatch(r"[\s\])*_`\"'”.。!]*(?:입니다|이다)?[.。\s]*", end) else None
