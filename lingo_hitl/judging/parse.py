"""Ratings out of a judge's reply: the right rating on the right text, or none with the reason.

What a model thought before it answered (`<think>`) is no part of its reply. The rest is read in this
order, and the first form that it has settles it:

1. JSON, where it is the reply and no part of a sentence: `{"ratings": [4, 2]}`, a list of objects, objects
   with labels (see `parse_json`);
2. a table with a row or a column for each text (see `parse_table`);
3. sections under labels, in any order: `#### Output for Text 1`, `글 2의 평가`, `2번 답변:`, `Text 1: 4`;
4. numbered lines `1. 4` from 1 to the number of texts;
5. sentences that give each text one rating: `글 1은 4점, 글 2는 2점`;
6. without labels: exactly as many rating lines as there are texts, in their order.

For a single text whose parts are labelled, such as the answers of a dialogue, only a total counts, or a rating
outside the parts.

Whatever could put a rating on another text gives none: labels that the texts do not have, two different
ratings under one label, JSON that is broken or has a key twice, two lists of labels that disagree, more or
fewer unlabelled ratings than texts. A rating above 5 or on a scale of ten makes the reply's other ratings
doubtful too, so that none of them counts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from lingo_hitl.judging.labels import Label, complete_lists, labels_in, sections
from lingo_hitl.judging.parse_json import read_json
from lingo_hitl.judging.parse_table import read_table
from lingo_hitl.judging.parse_unlabelled import beside_labels, complete, in_order, in_sentences, numbered
from lingo_hitl.judging.rating_lines import RATING_LINE, section
from lingo_hitl.judging.values import PLAIN, OtherScale
from lingo_hitl.judging.verdict import Verdict, by_label

_THOUGHT = re.compile(r"<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.I | re.S)
_TAG = re.compile(r"<(rating|score|rationale|reason|평점|점수|근거)>(?!\s*$)", re.I | re.M)
_OTHER_SCALE = re.compile(
    r"(?<!\d)(?P<ko>10|100|7)\s*점\s*(?:만점|척도)|scale\s+(?:of|from)\s+(?:[01]\s*(?:to|[-–—~])\s*)?(?P<en>10|100|7)(?!\d)"
    r"|(?<!\d)[01]\s*점?\s*(?:[-–—~∼]|to|부터|에서)\s*(?P<to>10|100|7)(?!\d)|out\s+of\s+(?P<of>10|100|7)(?!\d)",
    re.I,
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
    begins = min([label.start for label in labels] + [match.start() for match in RATING_LINE.finditer(text)][:1] or [0])
    if scale := _OTHER_SCALE.search(text, 0, begins):
        highest = float(scale[str(scale.lastgroup)])
        return [Verdict(fault=str(OtherScale(highest)), other_scale=True)] * count
    if count == 1 and (whole := beside_labels(text, reply, labels)):
        return [whole]
    if labels:
        found = _labelled(text, reply, labels, count)
        if count == 1 and found[0].rating is None:  # a rationale that counts up points has labels of its own
            return in_order(text, reply, 1)
        # Labels of several lines have been read; a single one may only begin the sentence that names them all.
        return (in_sentences(text, count, found) if len(labels) == 1 else None) or found
    return numbered(text, reply, count) or in_sentences(text, count) or in_order(text, reply, count)


def _labelled(text: str, reply: str, labels: Sequence[Label], count: int) -> list[Verdict]:
    readings = [_read(text, reply, one, labels, count) for one in complete_lists(labels, count)]
    whole = [verdicts for verdicts in readings if complete(verdicts)]
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
    parts = [(label.number, section(text, reply, label.end, end)) for label, end in sections(labels, others, len(text))]
    return by_label([(n, v) for n, v in parts if v is not None], count, seen=[label.number for label in labels])


def _same(one: Sequence[Verdict], other: Sequence[Verdict]) -> bool:
    return [verdict.rating for verdict in one] == [verdict.rating for verdict in other]
