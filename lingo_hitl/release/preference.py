"""From compared completions to pairs: which text is better, by what people said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lingo_hitl.config import Pairing
from lingo_hitl.judging.pairs import chosen_and_rejected, pair_row
from lingo_hitl.records import Row

NO_VERDICT = "no human verdict on two completions"
SAME_PAIR = "the same pair comes from another row"


def pair_of(row: Mapping[str, Any], config: Pairing) -> Row | str:
    """The pair that a row makes, in the form that TRL's trainers take, or the reason why it makes none.

    A human ranking goes before ratings: chosen is the best by (share of people who ranked it best, mean
    human rating); rejected is found by the same measure (see `judging.pairs`). Where both have ratings,
    chosen must be rated higher by the margin or more, so that a majority against the mean makes no pair.
    Models' ratings never count.

    Args:
        row: a preference row with `records.CONSENSUS`.
    """
    texts: Sequence[str] = [text or "" for text in row["completions"] or []]
    ratings = _filled(row["human_ratings"], len(texts))
    shares = [share or 0.0 for share in _filled(row["preferred"], len(texts))]
    rated = any(rating is not None for rating in ratings)
    ranked = any(shares)
    judged = {
        n: text
        for n, text in enumerate(texts)
        # Beside rated texts, one without a rating was left out by the people, not found the worst.
        if text.strip() and (ratings[n] is not None or shares[n] > 0 or (ranked and not rated))
    }
    if len(judged) < 2:
        return NO_VERDICT

    def merit(n: int) -> tuple[float, ...]:
        return shares[n], ratings[n] or 0.0

    too_close = f"mean human ratings of chosen and rejected differ by less than {config.margin:g}"
    found = chosen_and_rejected(judged, merit, ratings, config, row_id=row["id"], too_close=too_close)
    return found if isinstance(found, str) else pair_row(row, ratings, *found)


def _filled(values: Sequence[Any] | None, length: int) -> list[Any]:
    """`values` with nulls up to `length`: a column may be null where nobody answered."""
    return (list(values or []) + [None] * length)[:length]
