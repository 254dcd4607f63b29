"""Several judges and aspects become one rating, one confidence and one rationale for each text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lingo_hitl.judging.verdict import Verdict


@dataclass(frozen=True)
class Opinion:
    """What one judge says about one text under one aspect."""

    judge: str
    aspect: str
    verdict: Verdict


@dataclass(frozen=True)
class Judgement:
    """What all judges say about one text together; all None where none of them rated it."""

    rating: float | None = None
    confidence: float | None = None
    spread: float | None = None
    disagreement: float | None = None
    rationale: str | None = None


def combine(opinions: Sequence[Opinion]) -> Judgement:
    """The mean over judges of each judge's mean over aspects.

    The spread s is the standard deviation of the mixture of the judges' own distributions: s^2 = mean of
    their variances + variance of their means (law of total variance). Confidence is 1 - s / 2, from 1 (no
    doubt) to 0; 2 is the largest that a rating of 1 to 5 can have. A single judge that gives a number
    without any spread says nothing of its confidence, so that there is none. Disagreement is the mean of
    the judges' own between two orders.
    """
    rated = [opinion for opinion in opinions if opinion.verdict.rating is not None]
    if not rated:
        return Judgement()
    means, spreads = [], []
    for judge in dict.fromkeys(opinion.judge for opinion in rated):
        mine = [opinion.verdict for opinion in rated if opinion.judge == judge]
        means.append(_mean([v.rating for v in mine if v.rating is not None]))
        known = [v.spread for v in mine if v.spread is not None]
        spreads.append(math.sqrt(_mean([s * s for s in known])) if known else None)
    rating = _mean(means)
    confidence = spread = None
    if len(means) > 1 or spreads[0] is not None:
        variance = _mean([(s or 0.0) ** 2 for s in spreads]) + _mean([(m - rating) ** 2 for m in means])
        spread = math.sqrt(variance)
        confidence = min(1.0, max(0.0, 1 - spread / 2))
    apart = [opinion.verdict.disagreement for opinion in rated if opinion.verdict.disagreement is not None]
    return Judgement(rating, confidence, spread, _mean(apart) if apart else None, _rationales(rated))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rationales(rated: Sequence[Opinion]) -> str | None:
    """The rationales; with who gave them and on what, where there is more than one."""
    given = [opinion for opinion in rated if opinion.verdict.rationale]
    if len(given) == 1 and len(rated) == 1:
        return given[0].verdict.rationale
    return "\n".join(f"[{o.judge} · {o.aspect}] {o.verdict.rationale}" for o in given) or None
