"""Ratings from a judge that answers in JSON, alone, in a code fence, or after a sentence or two.

JSON that a rationale quotes is no answer: it begins in the middle of a line, or ratings and labels stand
beside it. Nothing is taken out of JSON that is broken, because the name of a text may be in the part that is.
"""

from __future__ import annotations

import json
import re
from typing import Any

from lingo_hitl.judging.labels import hints_in, labels_in
from lingo_hitl.judging.rating_lines import RATING_LINE, after_key
from lingo_hitl.judging.values import PLAIN, NotGiven, OtherScale, read_value
from lingo_hitl.judging.verdict import Verdict, by_label

SHORT = 40  # characters: a longer value is no name of a text
MOST = 9  # a number up to this may be a text's, a larger one counts something else
_OPENING = re.compile(r"[{\[]")
_LIKE_JSON = re.compile(r"[{\[]\s*[\"'{\[]")
_PROSE = re.compile(r"[{\[][^{}\[\]\"\n]*[}\]]")
_FENCE = re.compile(r"^\s*```\w*|```\s*$")
_BEFORE = re.compile(r"[\s,;*`]*(?:```\s*\w*\s*)?")  # what a line with JSON may begin with
_RATINGS = ("ratings", "scores", "평점", "점수")
_RATING = ("rating", "score", "평점", "점수", "overall_rating", "overall-rating")
_TOTALS: tuple[str, ...] = (
    "overall",
    "overall_rating",
    "overall-rating",
    "overall_score",
    "final_rating",
    "final_score",
    "total",
)
_TOTALS += ("total_score", "총점", "총 점수", "종합", "종합 점수", "종합 평점", "최종 점수", "전체 점수")
_RATIONALES = ("rationales", "reasons", "근거")
_RATIONALE = ("rationale", "reason", "explanation", "근거", "이유")
_LABEL = (
    "text",
    "id",
    "index",
    "number",
    "label",
    "text_id",
    "text_number",
    "response",
    "answer",
    "turn",
    "글",
    "번호",
)
_NOUN = "text|response|answer|output|turn|글|텍스트|답변|응답|턴"
_KEY = "rating|score|평점|점수"
_LABEL_TEXT = re.compile(
    rf"(?:(?:{_NOUN})[\s_#-]*)?(\d{{1,2}})(?:번)?(?:[\s_-]*(?:{_KEY}))?|(?:{_KEY})[\s_-]*(\d{{1,2}})", re.I
)
_NAMED = re.compile(rf"(?:{_NOUN})[\s_#-]*(\d{{1,2}})(?:번)?", re.I)
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")


def read_json(reply: str, count: int) -> list[Verdict] | None:
    """One verdict for each of `count` texts; None where no JSON that speaks of ratings is the reply."""
    try:
        return _from_values(_answers_in(_TRAILING_COMMA.sub("", reply)), count)
    except _Broken as fault:
        return [Verdict(fault=str(fault))] * count


def _from_values(values: list[Any], count: int) -> list[Verdict] | None:
    content: Any = values[0] if len(values) == 1 else [value for value in values if isinstance(value, dict)]
    while isinstance(content, dict) and len(content) == 1:
        ((key, within),) = content.items()
        if not isinstance(within, dict) or _label(key) is not None:
            break
        content = within  # {"evaluation": {...}}
    if isinstance(content, dict):
        if count == 1 and (total := _total(content)):
            return [total]
        ratings = _pick(content, _RATINGS)
        inner = next((v for v in content.values() if isinstance(v, list) and v and isinstance(v[0], dict)), None)
        if isinstance(ratings, dict):  # {"ratings": {"text1": 4, "text2": 2}}
            content = ratings
        elif inner is not None and (not ratings or ratings is inner):
            content = inner
    if isinstance(content, list):
        return _from_list(content, count)
    ratings = _pick(content, _RATINGS)
    if isinstance(ratings, list):
        reasons = _pick(content, _RATIONALES)
        return _aligned(ratings, reasons if isinstance(reasons, list) else [], count)
    labelled = [(n, _one(value)) for key, value in content.items() if (n := _label(key)) is not None]
    if labelled and all(verdict is not None for _, verdict in labelled):
        return by_label([(n, verdict) for n, verdict in labelled if verdict is not None], count)
    if _pick(content, _RATING) is not None or any(key in content for key in _RATING):
        return _from_list([content], count)
    return None


class _Broken(Exception):
    """JSON that cannot be read, and that nothing else in the reply replaces; the text says why."""


class _Twice(ValueError):
    """A key stands twice in one object."""


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key.lower().strip() for key, _ in pairs}) < len(pairs):
        raise _Twice
    return dict(pairs)


def _answers_in(reply: str) -> list[Any]:
    """The JSON objects and lists that are the reply; none where something else is. A list of numbers only alone.

    Raises:
        _Broken: see there.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_without_doubles, strict=False)
    bare = _FENCE.sub("", reply.strip()).strip()
    values: list[Any] = []
    outside, at = "", 0
    while match := _OPENING.search(reply, at):
        outside += reply[at : match.start()]
        begins = _BEFORE.fullmatch(outside, outside.rfind("\n") + 1) is not None
        try:
            value, at = decoder.raw_decode(reply, match.start())
        except (ValueError, RecursionError) as fault:
            if not isinstance(fault, _Twice) and (prose := _PROSE.match(reply, match.start())):
                outside, at = outside + prose[0], prose.end()
                continue
            # What it holds may belong to a name in the part that is broken.
            if begins and _LIKE_JSON.match(reply, match.start()) and not _rates(outside):
                twice = "a key stands twice in its JSON"
                raise _Broken(twice if isinstance(fault, _Twice) else "its JSON is broken") from None
            return []
        written = reply[match.start() : at]
        objects = isinstance(value, dict) or (value and all(isinstance(item, dict) for item in value))
        if begins and (objects or bare == written):
            values.append(value)
        else:
            outside += written
    return [] if _rates(outside + reply[at:]) else values


def _rates(text: str) -> bool:
    """Whether a text names texts or rates them, without JSON."""
    text = text.translate(PLAIN)
    return bool(labels_in(text)) or any(after_key(text, line) for line in RATING_LINE.finditer(text))


def _total(content: dict[Any, Any]) -> Verdict | None:
    """The rating of a single text, whatever its parts are given beside it."""
    if _label_of(content) not in (None, 1):
        return None
    value = next((v for names in (_TOTALS, _RATING) if isinstance(v := _pick(content, names), int | float | str)), None)
    reason = _pick(content, _RATIONALE)
    return None if value is None else _value(value, str(reason) if reason else None)


def _from_list(items: list[Any], count: int) -> list[Verdict] | None:
    if items and all(isinstance(item, int | float) for item in items):
        return _aligned(items, [], count)
    verdicts = [_one(item) if isinstance(item, dict) else None for item in items]
    if not items or any(verdict is None for verdict in verdicts):
        return None
    known = [verdict for verdict in verdicts if verdict is not None]
    labels = [_label_of(item) for item in items]
    if all(label is not None for label in labels):
        return by_label([(n, v) for n, v in zip(labels, known, strict=True) if n is not None], count)
    if any(label is not None for label in labels) or len(known) != count:
        return [Verdict(fault=f"{len(known)} ratings without labels for {count} texts")] * count
    if any(_hints(item) - {place} for place, item in enumerate(items, start=1)):
        return [Verdict(fault="it is not clear which text a rating belongs to")] * count
    return known


def _aligned(ratings: list[Any], reasons: list[Any], count: int) -> list[Verdict]:
    if len(ratings) != count:
        return [Verdict(fault=f"{len(ratings)} ratings without labels for {count} texts")] * count
    texts = [str(r) if r else None for r in reasons] if len(reasons) == count else [None] * count
    return [_value(rating, text) for rating, text in zip(ratings, texts, strict=True)]


def _one(value: Any) -> Verdict | None:
    """The verdict in an object with a rating, or in a rating itself; None where it is neither."""
    if isinstance(value, dict):
        key = next((key for key in _lower(value) if key in _RATING), None)
        reason = _pick(value, _RATIONALE)
        return None if key is None else _value(_lower(value)[key], str(reason) if reason else None)
    return None if isinstance(value, list) else _value(value, None)


def _value(value: Any, rationale: str | None) -> Verdict:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return Verdict(rationale=rationale, fault="it gives no rating")
    if not isinstance(value, str):
        return Verdict.of(value, rationale)
    try:
        read = read_value(value.translate(PLAIN))
    except NotGiven as fault:
        return Verdict(rationale=rationale, fault=str(fault), other_scale=isinstance(fault, OtherScale))
    return Verdict.of(read[0], rationale) if read else Verdict(rationale=rationale, fault="its rating is no number")


def _label(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    match = _LABEL_TEXT.fullmatch(value.strip()) if isinstance(value, str) else None
    return int(match[1] or match[2]) if match else None


def _label_of(item: dict[Any, Any]) -> int | None:
    """Which text an object is about: by a key that says so, or any other value that reads `Text 2`."""
    known = _label(_pick(item, _LABEL))
    if known is not None:
        return known
    values = [value for key, value in _lower(item).items() if key not in _RATIONALE and isinstance(value, str)]
    named = {int(match[1]) for value in values if (match := _NAMED.fullmatch(value.strip()))}
    return named.pop() if len(named) == 1 else None


def _hints(item: dict[Any, Any]) -> set[int]:
    """The texts that an object without a label may be about all the same: `"which": "second"`, `"rank": 2`."""
    others = [value for key, value in _lower(item).items() if key not in (*_RATING, *_RATIONALE)]
    words = [value for value in others if isinstance(value, str) and len(value) < SHORT]
    numbers = {value for value in others if isinstance(value, int) and not isinstance(value, bool)}
    return {number for number in numbers if 0 <= number <= MOST}.union(*map(hints_in, words))


def _lower(value: dict[Any, Any]) -> dict[str, Any]:
    return {str(key).lower().strip(): item for key, item in value.items()}


def _pick(value: Any, names: tuple[str, ...]) -> Any:
    known = _lower(value) if isinstance(value, dict) else {}
    return next((known[name] for name in names if name in known), None)
