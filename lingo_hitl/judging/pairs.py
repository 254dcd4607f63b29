"""From several rated texts to chosen and rejected: one rule for people's ratings and for models'."""

from __future__ import annotations

import random
import statistics
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from lingo_hitl.config import Pairing, Rejected
from lingo_hitl.records import Row

TIE = "a tie: chosen and rejected were found equally good"
SAME_TEXT = "chosen and rejected are the same text"

Merit = tuple[float, ...]
"""How good a text was found; compared from the first number on."""


def chosen_and_rejected(
    texts: Mapping[int, str],
    merit: Callable[[int], Merit],
    ratings: Sequence[float | None],
    config: Pairing,
    *,
    row_id: str,
    too_close: str,
) -> tuple[int, int] | str:
    """Which of `texts` is chosen and which rejected, or the reason why neither is.

    Chosen is the text of the highest merit, the first of several. Rejected is, by `config.rejected`:

    - worst: the text of the lowest merit;
    - second: the best of those after the chosen one;
    - random: any text of lower merit, drawn by a hash of `config.seed` and `row_id`, so that the order of
      the rows changes nothing; one that is too close to the chosen or the same text is drawn only where
      nothing else is left, and then makes no pair.

    Where both have a rating, the chosen one's must be higher by `config.margin` or more.

    Args:
        texts: position -> text of those that were judged, two or more.
        ratings: of all positions.
        too_close: the reason for a pair below the margin.
    """
    best = max(texts, key=merit)

    def fault(other: int) -> str | None:
        if merit(best) == merit(other):
            return TIE
        if plain(texts[best]) == plain(texts[other]):
            return SAME_TEXT
        one, two = ratings[best], ratings[other]
        # Means of whole ratings are rarely exact in binary: 13/3 and 23/6 are half a point apart.
        close = one is not None and two is not None and one - two < config.margin - 1e-9
        return too_close if close else None

    others = [n for n in texts if n != best]
    worst = _PICK[config.rejected](others, merit, fault, f"{config.seed} {row_id}")
    return fault(worst) or (best, worst)


def pair_row(row: Mapping[str, Any], ratings: Sequence[float | None], best: int, worst: int) -> Row:
    """The pair of a preference row in the form that TRL's trainers take: messages, without the prompt repeated."""
    models = list(row["models"] or []) + [None] * len(row["completions"])
    return {
        "id": row["id"],
        "language": row["language"],
        "source": row["source"],
        "source_id": row["source_id"],
        "prompt": [{"role": "user", "content": row["instruction"]}],
        "chosen": [{"role": "assistant", "content": row["completions"][best]}],
        "rejected": [{"role": "assistant", "content": row["completions"][worst]}],
        "chosen_rating": ratings[best],
        "rejected_rating": ratings[worst],
        "chosen_model": models[best],
        "rejected_model": models[worst],
    }


def outliers(gaps: Sequence[float | None], limit: float | None) -> list[bool]:
    """Which gaps between chosen and rejected lie further than `limit` standard deviations from their mean.

    A gap far above the others comes from a broken text rather than a worse one, and teaches a model
    little. None, where one side has no rating, and all gaps without a limit are no outliers.
    """
    known = [gap for gap in gaps if gap is not None]
    if limit is None or len(known) < 2:
        return [False] * len(gaps)
    mean, deviation = statistics.fmean(known), statistics.pstdev(known)
    return [gap is not None and abs(gap - mean) > limit * deviation + 1e-9 for gap in gaps]


def outlier_reason(limit: float | None) -> str:
    """Why an outlier makes no pair."""
    return f"the gap between chosen and rejected is more than {limit or 0:g} standard deviations from the mean gap"


def gap_of(pair: Mapping[str, Any]) -> float | None:
    """How much higher the chosen text is rated; None where one of the two has no rating."""
    one, two = pair["chosen_rating"], pair["rejected_rating"]
    return None if one is None or two is None else float(one - two)


def plain(text: str) -> str:
    """A text as it is compared with others: Unicode NFC, without white space at both ends."""
    return unicodedata.normalize("NFC", text).strip()


def _random_lower(
    others: Sequence[int], merit: Callable[[int], Merit], fault: Callable[[int], str | None], key: str
) -> int:
    fitting = [n for n in others if fault(n) is None]
    return random.Random(key).choice(fitting) if fitting else min(others, key=merit)


_Pick = Callable[[Sequence[int], Callable[[int], Merit], Callable[[int], str | None], str], int]
_PICK: Mapping[Rejected, _Pick] = {
    "worst": lambda others, merit, *_: min(others, key=merit),
    "second": lambda others, merit, *_: max(others, key=merit),
    "random": cast("_Pick", _random_lower),
}
