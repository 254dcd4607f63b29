"""Ratings in a reply that labels no text: numbered lines, sentences, or as many ratings as there are texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from lingo_hitl.judging.labels import MARKS, Label, hints_in
from lingo_hitl.judging.rating_lines import (
    RATING_INLINE,
    RATING_LINE,
    RATIONALE,
    TOTAL,
    after_key,
    conflict,
    rationale_in,
    section,
    verdict_at,
)
from lingo_hitl.judging.values import CIRCLED, FULL_WIDTH, NotGiven, OtherScale, read_value
from lingo_hitl.judging.verdict import Verdict, by_label, strange

_TOTAL = re.compile(rf"{TOTAL}|총점", re.I)
_NUMBERED = re.compile(rf"^{MARKS}(?:(?P<n>\d{{1,2}})\s*[.):]\s+|(?P<circled>[①-⑨])\s*[:.)]?\s*)", re.M)
_SENTENCE = re.compile(
    r"(?<![\w가-힣])(?:text|response|answer|글|텍스트|답변|응답)[ \t]*(?P<n>\d{1,2})(?!\d)(?:[ \t]*의)?[ \t]*"
    r"(?:평점|점수|ratings?|scores?)?[ \t]*(?:[:=(]|은|는|에는|is|gets|receives|deserves|a)[ \t*(]*(?=\d)",
    re.I,
)


def numbered(text: str, reply: str, count: int) -> list[Verdict] | None:
    """Lines numbered 1 to `count`, each with its own rating; None where the numbers count something else."""
    items = list(_NUMBERED.finditer(reply.translate(FULL_WIDTH)))
    numbers = [int(item["n"] or item["circled"].translate(CIRCLED)) for item in items]
    if count < 2 or sorted(numbers) != list(range(1, count + 1)):
        return None
    ends = [item.start() for item in items[1:]] + [len(text)]
    verdicts = [section(text, reply, item.end(), end) for item, end in zip(items, ends, strict=True)]
    if any(verdict is None for verdict in verdicts) or RATING_LINE.search(text, 0, items[0].start()):
        return None
    return by_label([(n, v) for n, v in zip(numbers, verdicts, strict=True) if v is not None], count)


def in_sentences(text: str, count: int, read: Sequence[Verdict] = ()) -> list[Verdict] | None:
    """Ratings within sentences, where every text has exactly one; None where not.

    Args:
        read: what was read so far: nothing is told where that is whole, or says otherwise.
    """
    given = list(_SENTENCE.finditer(text))
    if count < 2 or (read and complete(read)) or sorted(int(m["n"]) for m in given) != list(range(1, count + 1)):
        return None
    verdicts = by_label([(int(m["n"]), v) for m in given if (v := verdict_at(text, m.end(), bare=True))], count)
    agree = all(old.rating in (None, new.rating) for old, new in zip(read or verdicts, verdicts, strict=True))
    return verdicts if agree and complete(verdicts) else None


def beside_labels(text: str, reply: str, labels: Sequence[Label]) -> Verdict | None:
    """The rating of a single text whose parts the judge labelled; None where it labelled no more than the whole.

    That is the total, or what stands outside the labelled parts: before them all, or on a line of its own
    where the labels are no headings.
    """
    numbers = {label.number for label in labels} | {int(match["n"]) for match in _SENTENCE.finditer(text)}
    if numbers <= {1}:
        return None
    heading = min((label.start for label in labels if label.heading), default=len(text))
    lines = [line for line in RATING_LINE.finditer(text) if line.start() < heading or _TOTAL.match(line["key"])]
    return _the_one(text, reply, lines) if lines else strange(numbers - {1}, 1)


def complete(verdicts: Sequence[Verdict]) -> bool:
    return all(verdict.rating is not None for verdict in verdicts)


def in_order(text: str, reply: str, count: int) -> list[Verdict]:
    """Ratings without labels: as many as texts, or for a single text several that agree."""
    lines = list(RATING_LINE.finditer(text)) or list(RATING_INLINE.finditer(text))
    if not lines:
        return _values_alone(text, reply, count)
    if count == 1:
        return [_the_one(text, reply, lines)]
    if len(lines) != count:
        fault = f"{len(lines)} ratings without labels for {count} texts"
        return [Verdict(fault=fault)] * count
    if any(_hints(text, line) - {place} for place, line in enumerate(lines, start=1)):
        return [Verdict(fault="it is not clear which text a rating belongs to")] * count
    if len({"".join(line["key"].lower().split()) for line in lines}) > 1:
        return [Verdict(fault="ratings of different kinds, without labels")] * count
    verdicts = []
    ends = [line.start() for line in lines[1:]] + [len(text)]
    for line, end in zip(lines, ends, strict=True):
        found = after_key(text[:end], line) or Verdict(fault="no number where the rating should be")
        part = slice(line.start(), end)
        verdicts.append(replace(found, rationale=rationale_in(text[part], reply[part])))
    return verdicts


def _hints(text: str, key: re.Match[str]) -> set[int]:
    """The texts that are named on a rating's own line or, as a heading, on the one before."""
    start = text.rfind("\n", 0, key.start()) + 1
    before = text[:start].rstrip().rpartition("\n")[2]
    heading = "" if RATIONALE.match(before) or RATING_LINE.match(before) else before
    value = RATIONALE.split(text[key.end() :].partition("\n")[0])[0]
    try:
        end = (read_value(value) or (0.0, 0))[1]
    except NotGiven:
        end = 0
    parts = (heading, text[start : key.start()], key["aside"] or "", value[end:])
    return set().union(*map(hints_in, parts))


def _the_one(text: str, reply: str, lines: Sequence[re.Match[str]]) -> Verdict:
    """The rating of a single text: its total where it has one, else what all lines agree on."""
    totals = [line for line in lines if _TOTAL.match(line["key"])]
    given = [found for line in totals or lines if (found := after_key(text, line)) is not None]
    if not given:
        return Verdict(fault="no number where the rating should be")
    if len({verdict.rating for verdict in given}) > 1:
        return conflict(given)
    return replace(given[0], rationale=rationale_in(text, reply))


def _values_alone(text: str, reply: str, count: int) -> list[Verdict]:
    """A reply of nothing but values, one a line; for a single text its first line, the rest being the reason."""
    lines = [line for line in text.splitlines() if line.strip()]
    first = lines[:count] if count == 1 else lines
    verdicts = [_whole_line(line) for line in first]
    if len(first) != count or any(verdict is None for verdict in verdicts):
        return [Verdict(fault="no rating found")] * count
    rest = None
    if count == 1:
        if len(lines) > 1 and _whole_line(lines[1]):
            return [Verdict(fault="several ratings without labels for 1 text")]
        written = [line for line in reply.splitlines() if line.strip()]
        rest = (rationale_in(text, reply) or "\n".join(written[1:]).strip()) or None
    return [replace(verdict, rationale=rest) for verdict in verdicts if verdict is not None]


def _whole_line(line: str) -> Verdict | None:
    line = line.strip("- \t")
    try:
        value = read_value(line)
    except NotGiven as fault:
        return Verdict(fault=str(fault), other_scale=isinstance(fault, OtherScale))
    end = line[value[1] :] if value else "?"
    return Verdict.of(value[0]) if value and re.fullmatch(r"[\s\])*_`\"'”.。!]*(?:입니다|이다)?[.。\s]*", end) else None
